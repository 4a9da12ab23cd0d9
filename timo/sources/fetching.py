"""Lazy arrays whose chunks are requests, and their fetching: in parallel, with progress, to be stopped at any time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from timo.atomic import replacing
from timo.errors import TimoError
from timo.sources.cache.array import CachedArray
from timo.sources.progress import Progress, Report
from timo.sources.retry import Cancel, CancelledError, is_cancelled, set_current_cancel

if TYPE_CHECKING:
    import xarray as xr

Index = tuple[int, ...]
Slices = tuple[slice, ...]
Fetch = Callable[[Index, Slices], np.ndarray]
# By which the layers of a graph that make requests are known.
_PREFIX = "fetched-"


def fetched_array(
    fetch: Fetch,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    cached: CachedArray | None,
    name: str,
    *,
    dtype: str = "float32",
) -> da.Array:
    """A lazy array, each chunk of which is one request.

    A chunk that is in the cache is read from there; another one is fetched and put there. The graph grows with the
    chunks that are computed, not with the array. It pickles where `fetch` does (cloudpickle, for lambdas and local
    functions), so that a cluster of Dask can compute it; each machine then has a cache of its own.

    Parameters
    ----------
    fetch : callable
        Takes the number of a chunk along each dimension and its slices of the array; returns the chunk. It is called
        from many threads. What it raises comes out of the computation unchanged.
    shape, chunks : tuple of int
        Cells of the array and of a chunk; chunks at the end may be cut by the array's edge.
    cached : CachedArray, optional
        Of the same shape, chunks and data type.
    name : str
        What the array is in Dask's graph: a hash of all that its values depend on.
    dtype : str
        Of the values.

    Raises
    ------
    TimoError
        If `cached` is of another shape, chunks or data type. When computed, if `fetch` returns an array of another
        shape or data type.
    """
    block = _Block(fetch, tuple(shape), tuple(chunks), np.dtype(dtype), cached)
    if cached is not None and (cached.shape, cached.chunks, cached.dtype) != block.layout:
        raise TimoError(
            f"the cache is of {(cached.shape, cached.chunks, cached.dtype)}, the array of {block.layout}"
        )
    sizes = tuple(
        tuple(min(chunk, size - start) for start in range(0, size, chunk))
        for size, chunk in zip(shape, chunks, strict=True)
    )
    empty = np.empty((0,) * len(shape), block.dtype)
    return da.map_blocks(
        block, chunks=sizes, dtype=block.dtype, meta=empty, name=f"{_PREFIX}{name}"
    )


@dataclass(frozen=True)
class _Block:
    """What makes one chunk."""

    fetch: Fetch
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    cached: CachedArray | None

    @property
    def layout(self) -> tuple[tuple[int, ...], tuple[int, ...], np.dtype]:
        return self.shape, self.chunks, self.dtype

    def __call__(self, *, block_id: Index) -> np.ndarray:
        session = _current()
        index = tuple(int(number) for number in block_id)
        values = None if self.cached is None else self.cached.read(index)
        if values is None:
            session.refuse_if_cancelled()
            values = self._fetch(index)
            kept = self.cached is not None and self.cached.write(index, values)
            session.note_fetched(kept=kept)
        session.progress.step()
        return values

    def _fetch(self, index: Index) -> np.ndarray:
        parts = zip(index, self.chunks, self.shape, strict=True)
        slices = tuple(slice(i * chunk, min((i + 1) * chunk, size)) for i, chunk, size in parts)
        values = self.fetch(index, slices)
        expected = tuple(part.stop - part.start for part in slices)
        # What is wrong must not get into the cache.
        if values.shape != expected or values.dtype != self.dtype:
            raise TimoError(
                f"chunk {index} came as {values.dtype} of shape {values.shape}; expected was {self.dtype} of "
                f"shape {expected}. The service or its settings are not what this source was made for: report it."
            )
        return values


class _Session:
    """One call of `fetch`, as its threads see it."""

    def __init__(self, cancel: Cancel | None = None, progress: Progress | None = None) -> None:
        self.cancel, self.stop = cancel, threading.Event()
        self.progress = progress or Progress(False)
        self.lock = threading.Lock()
        self.fetched, self.kept = 0, 0

    def cancelled(self) -> bool:
        return self.stop.is_set() or is_cancelled(self.cancel)

    def refuse_if_cancelled(self, *_: Any) -> None:
        if self.cancelled():
            raise CancelledError("cancelled by the user")

    def note_fetched(self, *, kept: bool) -> None:
        with self.lock:
            self.fetched += 1
            self.kept += kept

    def summary(self) -> str:
        head = f"The fetch was stopped after {self.progress.done} of {self.progress.total} chunks."
        if self.kept == self.fetched > 0:
            return f"{head} They are in the cache: the same call goes on from there."
        if self.kept == self.fetched:
            return head
        return f"{head} {self.fetched - self.kept} of them are not in the cache and will be fetched again."


_threads = threading.local()


def _join(session: _Session) -> None:
    """Make this thread one of the session's; pauses between its attempts end when the session does."""
    _threads.session = session
    set_current_cancel(session.cancelled)


def _current() -> _Session:
    session: _Session | None = getattr(_threads, "session", None)
    return _Session() if session is None else session


def fetch(
    cube: xr.DataArray,
    *,
    workers: int = 8,
    progress: bool | Report = True,
    cancel: Cancel | None = None,
    path: str | os.PathLike[str] | None = None,
) -> xr.DataArray:
    """Compute a lazy cube: `workers` requests at a time, with a progress bar.

    Parameters
    ----------
    cube : xarray.DataArray
        A lazy cube of any source.
    workers : int
        Requests at a time. More are faster until the service's limit (Earth Engine: 40 a project).
    progress : bool or callable
        Whether to show how many chunks are done, in a bar. Or a function of (done, total), whole numbers, that is told
        so: with 0 done before the first chunk, then after each one, also of those that were in the cache. It is called
        from the threads that fetch, once at a time, with a number that grows; they wait until it returns. An error in
        it ends the telling and not the fetch; a warning at the end says which it was. A cube in memory has no chunks:
        of it nothing is told.
    cancel : threading.Event or callable, optional
        Asked before each request; when it says so, no other request is made. Those under way are waited for, and kept.
    path : path, optional
        Write the cube to this Zarr store, chunk by chunk, and return it lazily from there: for what does not fit into
        memory. The store appears under its name when it is complete; one that is there already is replaced.

    Returns
    -------
    xarray.DataArray
        The cube, in memory unless `path` is given.

    Raises
    ------
    CancelledError
        If `cancel` said so: how much was done. With a cache, the same call goes on from there.
    KeyboardInterrupt
        If the user interrupted it, with the same message.
    TimoError
        If `workers` is less than 1, `progress` or `cancel` is none of these, or a request failed.

    Examples
    --------
    >>> import timo
    >>> shares = []
    >>> cube = timo.open_cube("sample", start="2019-07", end="2019-07").chunk(time=1)
    >>> cube = timo.fetch(cube, progress=lambda done, total: shares.append(done / total))
    >>> shares[0], shares[-1]
    (0.0, 1.0)
    """
    _check_options(cube, workers, cancel)
    store = None if path is None else _check_path(path, cube)
    told = Progress(progress)
    try:
        if store is not None:
            return _fetch_to(store, cube, workers, told, cancel)
        with _computing(cube, workers, told, cancel) as options:
            return cube.compute(**options)
    finally:
        told.close()


def _check_options(cube: Any, workers: Any, cancel: Any) -> None:
    if not hasattr(cube, "__dask_graph__"):
        raise TimoError(
            f"fetch takes a cube (xarray.DataArray), as timo.open_cube opens it; got {type(cube).__name__}"
        )
    # numpy's integers, too.
    if isinstance(workers, bool) or not hasattr(workers, "__index__") or workers < 1:
        raise TimoError(f"workers must be a whole number, at least 1; got {workers!r}")
    if cancel is not None and not callable(cancel) and not hasattr(cancel, "is_set"):
        raise TimoError(
            f"cancel must be a threading.Event, or a function that says whether to stop; got {cancel!r}"
        )


def _check_path(path: Any, cube: Any) -> Path:
    """Where to write, before anything is fetched."""
    if not isinstance(path, str | os.PathLike):
        raise TimoError(f'path must be that of a Zarr store, as "cube.zarr"; got {path!r}')
    store = Path(path).expanduser()
    if store.suffix != ".zarr":
        raise TimoError(f"'{path}' must end in .zarr: that is what is written chunk by chunk")
    if store.is_file():
        raise TimoError(f"'{path}' is a file, and a Zarr store is a folder: choose another name")
    marks = ("zarr.json", ".zgroup", ".zarray")
    if store.is_dir() and any(store.iterdir()) and not any((store / m).exists() for m in marks):
        raise TimoError(f"'{path}' is a folder with something else in it: choose another name")
    if not hasattr(cube, "to_dataset"):
        raise TimoError(f"path= writes a cube (xarray.DataArray); got {type(cube).__name__}")
    return store


def _fetch_to(
    path: Path, cube: xr.DataArray, workers: int, progress: Progress, cancel: Cancel | None
) -> xr.DataArray:
    import rioxarray  # noqa: F401 - registers .rio
    import xarray as xr

    name = str(cube.name or "cube")
    # Chunks and compression of where it came from do not fit what is written. Zarr wants chunks of one size, and has no
    # standard for strings of fixed length.
    data = cube.drop_encoding().chunk({dim: sizes[0] for dim, sizes in cube.chunksizes.items()})
    data = data.assign_coords(
        {key: c.astype(object) for key, c in data.coords.items() if c.dtype.kind == "U"}
    )
    if cube.rio.crs is not None:
        data = data.rio.write_crs(cube.rio.crs)
    with replacing(path) as partial:
        writing = data.to_dataset(name=name).to_zarr(
            partial, mode="w", zarr_format=3, consolidated=False, compute=False
        )
        with _computing(data, workers, progress, cancel) as options:
            writing.compute(**options)
    stored = xr.open_zarr(path, consolidated=False, decode_coords="all")[name]
    names = {key: c for key, c in stored.coords.items() if c.dtype.kind == "T"}
    return stored.assign_coords({key: c.astype(object).astype(str) for key, c in names.items()})


@contextmanager
def _computing(
    cube: xr.DataArray, workers: int, progress: Progress, cancel: Cancel | None
) -> Iterator[dict[str, Any]]:
    """What to give to Dask's `compute`; afterwards no thread of it is left."""
    requests = _count_requests(cube)
    session = _Session(cancel, progress)
    pool = ThreadPoolExecutor(workers, "timo-fetch", initializer=_join, initargs=(session,))

    def begin(_: Any, state: dict[str, Any]) -> None:
        # Of a cube of another kind of source Dask's tasks are all that can be counted.
        progress.begin(requests or len(state["ready"]) + len(state["waiting"]))

    def after(*_: Any) -> None:
        if not requests:
            progress.step()

    try:
        # Given to this computation only: callbacks and pools that are registered would meet those of other threads.
        callbacks = [(None, begin, session.refuse_if_cancelled, after, None)]
        yield {"scheduler": "threads", "pool": pool, "callbacks": callbacks}
    except CancelledError:
        _finish(pool, session)
        raise CancelledError(session.summary()) from None
    except KeyboardInterrupt:
        _finish(pool, session)
        # Not an error of ours: a loop over many areas must end, too.
        raise KeyboardInterrupt(session.summary()) from None
    finally:
        _finish(pool, session)


def _count_requests(cube: xr.DataArray) -> int:
    """How many chunks of fetched arrays a cube is made of."""
    graph, keys = cube.__dask_graph__(), cube.__dask_keys__()
    if not isinstance(graph, HighLevelGraph) or not keys:
        return 0
    layers = graph.cull(set(flatten(keys))).layers
    return sum(len(layers[n].get_output_keys()) for n in layers if n.startswith(_PREFIX))


def _finish(pool: ThreadPoolExecutor, session: _Session) -> None:
    """Wait for requests that are under way, and let no other one begin."""
    session.stop.set()
    pool.shutdown(wait=True, cancel_futures=True)
