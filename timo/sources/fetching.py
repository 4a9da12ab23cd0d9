"""Lazy arrays whose chunks are requests, and their fetching: in parallel, with progress, to be stopped and resumed."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import secrets
import shutil
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.base import compute_as_if_collection, tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from timo.atomic import check_name, check_writable, move
from timo.cancel import CancelledError, Stop, is_stopped, set_current_stop
from timo.errors import TimoError
from timo.sources.cache.checked import MANIFEST, CheckedStore, bytes_of
from timo.sources.cache.chunks import CachedArray, check_size, slices_of

if TYPE_CHECKING:
    import xarray as xr
    import zarr

Index = tuple[int, ...]
Fetch = Callable[[Index, tuple[slice, ...]], np.ndarray]
Report = Callable[[int, int], Any]
# By which the layers of a graph that make requests are known.
_PREFIX = "fetched-"
# Chunks of each date of a store whose values are checked, and rows and columns of each.
_LOOKED_AT, _LOOK = 4, 64


def fetched_array(
    fetch: Fetch,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    cached: CachedArray | None,
    name: str,
    *,
    dtype: str = "float32",
) -> da.Array:
    """Make a lazy array, each chunk of which is read from the cache, or else is one request.

    The graph grows with the chunks that are computed, not with the array. It pickles where `fetch` does (cloudpickle,
    for lambdas), so that a cluster of Dask can compute it; each machine then has a cache of its own.

    Parameters
    ----------
    fetch : callable
        Takes the number of a chunk along each dimension and its slices of the array; returns the chunk. It is called
        from many threads. What it raises comes out of the computation.
    shape, chunks : tuple of int
        Cells of the array and of a chunk; chunks at the end may be cut by the array's edge.
    cached : CachedArray, optional
        Of the same shape, chunks and data type.
    name : str
        The array's name in Dask's graph: a hash of all that its values depend on.
    dtype : str
        Of the values.
    """
    block = _Block(fetch, tuple(shape), tuple(chunks), np.dtype(dtype), cached)
    layout = block.shape, block.chunks, block.dtype
    if cached is not None and (cached.shape, cached.chunks, cached.dtype) != layout:
        raise TimoError(
            f"the cache is of {(cached.shape, cached.chunks, cached.dtype)}, the array of {layout}"
        )
    sizes = da.core.normalize_chunks(block.chunks, shape=block.shape)
    empty = np.empty((0,) * len(shape), block.dtype)
    return da.map_blocks(block, chunks=sizes, dtype=dtype, meta=empty, name=f"{_PREFIX}{name}")


@dataclass(frozen=True)
class _Block:
    """Makes one chunk."""

    fetch: Fetch
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    cached: CachedArray | None

    def __call__(self, *, block_id: Index) -> np.ndarray:
        session = _current()
        index = tuple(int(number) for number in block_id)
        values = None if self.cached is None else self.cached.read(index)
        if values is None:
            session.refuse_if_cancelled()
            values = self._fetch(index)
            kept = self.cached is not None and self.cached.write(index, values)
            session.note(kept=kept)
        session.step()
        return values

    def _fetch(self, index: Index) -> np.ndarray:
        slices = slices_of(index, self.chunks, self.shape)
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
    """One call of `fetch`, as its threads see it: whether to stop, and how far it is."""

    def __init__(self, progress: bool | Report = False, cancel: Stop | None = None) -> None:
        if not isinstance(progress, bool | np.bool_) and not callable(progress):
            raise TimoError(
                f"progress is True, False, or a function that takes the chunks done and all of them; got {progress!r}"
            )
        self.cancel, self.stop, self.progress = cancel, threading.Event(), progress
        self.error: Exception | None = None
        # Held while the report runs, so that the numbers it gets only grow.
        self.lock = threading.RLock()
        self.done = self.total = self.requests = self.fetched = self.kept = 0
        self.bar = tqdm(disable=True)
        self.store: Path | None = None

    def cancelled(self) -> bool:
        return self.stop.is_set() or is_stopped(self.cancel)

    def refuse_if_cancelled(self, *_: Any) -> None:
        if self.cancelled():
            raise CancelledError("cancelled by the user")

    def begin(self, total: int) -> None:
        shown = not callable(self.progress) and bool(self.progress)
        self.bar = tqdm(total=total, unit="chunk", desc="fetching", disable=not shown)
        self.total = total
        self.step(0)

    def step(self, count: int = 1) -> None:
        with self.lock:
            self.done += count
            # More than was counted, where Dask computes a chunk twice.
            self.total = max(self.total, self.done)
            self.bar.update(count)
            if callable(self.progress) and self.error is None:
                try:
                    self.progress(self.done, self.total)
                except Exception as error:  # noqa: BLE001 - a warning at the end: what is fetched counts more
                    self.error = error

    def note(self, *, kept: bool) -> None:
        with self.lock:
            self.fetched += 1
            self.kept += kept

    def close(self) -> None:
        """Leave the terminal as it should be, and warn the caller of `fetch` if the report failed."""
        self.bar.close()
        if self.error is not None:
            warnings.warn(
                f"progress= raised {type(self.error).__name__}: {self.error}. The fetch went on without it.",
                stacklevel=3,
            )

    def summary(self) -> str:
        head = f"The fetch was stopped after {self.done} of {self.total} chunks."
        return f"{head} {self.remains()}".rstrip()

    def remains(self) -> str:
        """Say what is kept of an unfinished fetch."""
        if self.store is not None:
            return (
                f"What is complete is kept beside '{self.store}': the same call goes on from there."
            )
        if self.kept == self.fetched:
            return "They are in the cache: the same call goes on from there." if self.kept else ""
        return f"{self.fetched - self.kept} of them are not in the cache and will be fetched again."


_threads = threading.local()


def _join(session: _Session) -> None:
    """Make this thread one of the session's; pauses between its attempts end when the session does."""
    _threads.session = session
    set_current_stop(session.cancelled)


def _current() -> _Session:
    session: _Session | None = getattr(_threads, "session", None)
    return _Session() if session is None else session


def fetch(
    cube: xr.DataArray,
    *,
    workers: int = 8,
    progress: bool | Report = True,
    cancel: Stop | None = None,
    path: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> xr.DataArray:
    """Compute a lazy cube: `workers` requests at a time, with a progress bar.

    Parameters
    ----------
    cube : xarray.DataArray
        A lazy cube of any source.
    workers : int
        Requests at a time. More are faster until the service's limit (Earth Engine: 40 a project).
    progress : bool or callable
        Whether to show a bar of the chunks that are done. Or a function that is called with (done, total): with 0 done
        before the first chunk, then after each one, also of those that were in the cache. It is called from the threads
        that fetch, once at a time, with a number that grows; they wait until it returns. An error in it does not end
        the fetch; a warning at the end names it. It is not called for a cube in memory, which has no chunks.
    cancel : threading.Event or callable, optional
        Asked before each request; when it says so, no other request is made. Those under way are waited for, and kept.
    path : path, optional
        Write the cube to this Zarr store, chunk by chunk, and return it lazily from there: for what does not fit into
        memory, and for what takes long. However it ends (an error, Ctrl-C, a kill, a power cut), the same call resumes
        and fetches only the chunks that are missing.
    overwrite : bool
        Whether another store at `path`, e.g. that of another cube, is replaced once this one is complete.

    Returns
    -------
    xarray.DataArray
        The cube, in memory unless `path` is given.

    Raises
    ------
    CancelledError
        If `cancel` said so: how much was done. With a cache or `path`, the same call resumes.
    KeyboardInterrupt
        If the user interrupted it, with the same message.
    TimoError
        If an option makes no sense, a request failed, the values cannot be what the sensor measures, another process is
        writing to `path`, or another store is there. When values are read from a store: if a chunk was lost, changed or
        swapped with another.

    Notes
    -----
    The chunks of the store are those of the cube; each has a checksum in its file and another one in a manifest. An
    unfinished store is a hidden folder beside `path` until it is complete and its values were checked; then it is
    renamed. If the store of the same cube is there already, its checksums are
    verified, and only damaged chunks are fetched. Cubes are the same if their sources, options and files are: Dask's
    names say so. A cube made with a function that Dask cannot name begins again, with a warning.

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
    target = None if path is None else _check_path(path, cube)
    session = _Session(progress, cancel)
    try:
        if target is not None:
            return _fetch_to(target, cube, workers, session, overwrite)
        requests = _count_requests(cube.__dask_graph__(), cube.__dask_keys__())
        with _computing(requests, workers, session) as options:
            computed = cube.compute(**options)
    finally:
        session.close()
    _check_values(computed)
    return computed


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
    """Return where to write, before anything is fetched."""
    if not isinstance(path, str | os.PathLike):
        raise TimoError(f'path must be that of a Zarr store, as "cube.zarr"; got {path!r}')
    store = check_name(path).absolute()
    if store.suffix != ".zarr":
        raise TimoError(f"'{path}' must end in .zarr: that is what is written chunk by chunk")
    if store.is_file():
        raise TimoError(f"'{path}' is a file, and a Zarr store is a folder: choose another name")
    marks = ("zarr.json", ".zgroup", ".zarray", f"*/{MANIFEST}")
    if store.is_dir() and any(store.iterdir()) and not any(any(store.glob(m)) for m in marks):
        raise TimoError(f"'{path}' is a folder with something else in it: choose another name")
    if not hasattr(cube, "to_dataset"):
        raise TimoError(f"path= writes a cube (xarray.DataArray); got {type(cube).__name__}")
    return store


def _fetch_to(
    path: Path, cube: xr.DataArray, workers: int, session: _Session, overwrite: bool
) -> xr.DataArray:
    from timo.sources.cache.stores import open_store

    data, name = _regular(cube), str(cube.name or "cube")
    token = _token(data)
    home = path
    with _only_writer(path):
        others = list(path.parent.glob(glob.escape(f".{path.name}.unfinished-") + "*"))
        if CheckedStore(path, array=name).request != token:
            if path.exists() and any(path.iterdir()) and not overwrite:
                raise TimoError(
                    f"'{path}' holds another cube, or what timo.fetch did not write. Choose another path; or pass "
                    "overwrite=True to replace it when this cube is complete."
                )
            home = path.with_name(f".{path.name}.unfinished-{token}")
            if others and home not in others:
                warnings.warn(
                    f"The unfinished store of another request for '{path}' does not fit this one, which begins from "
                    "the start: the options, the files or the images differ, or Dask names a function differently in "
                    "each process. It is removed when this fetch is complete.",
                    stacklevel=3,
                )
        session.store = path
        _write(data, CheckedStore(home, array=name), token, workers, session)
        _check_values(open_store(home))
        if home != path:
            # A chunk in whose writing the process was killed leaves one.
            for file in home.rglob("*.partial"):
                file.unlink()
            move(home, path)
        for other in {*others} - {home}:
            shutil.rmtree(other, ignore_errors=True)
    return open_store(path)


def _regular(cube: xr.DataArray) -> xr.DataArray:
    """Give a cube chunks of one size, and strings of no fixed length, for which Zarr has a standard."""
    import rioxarray  # noqa: F401 - registers .rio

    # Chunks and compression of where it came from do not fit what is written.
    sizes = {
        # The first chunk of a part of a cube may be a sliver.
        dim: sizes[0] if 4 * sizes[0] >= max(sizes) else max(sizes)
        for dim, sizes in cube.chunksizes.items()
    }
    data = cube.drop_encoding().chunk(sizes)
    check_size(tuple(sizes[0] for sizes in data.chunks or ()), data.dtype)
    held = {key: c for key, c in cube.coords.items() if not dask.is_dask_collection(c.data)}
    data = data.assign_coords(
        {key: c.astype(object) if c.dtype.kind == "U" else c for key, c in held.items()}
    )
    return data if cube.rio.crs is None else data.rio.write_crs(cube.rio.crs)


def _token(data: xr.DataArray) -> str:
    """Return what identifies a request in all processes."""
    try:
        with dask.config.set({"tokenize.ensure-deterministic": True}):
            return tokenize(data, data.name)[:16]
    except Exception:  # noqa: BLE001 - Dask raises its own error, pickle's, or that of an object in attrs
        return secrets.token_hex(8)


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    lock = check_writable(path.parent) / f".{path.name}.lock"
    held = FileLock(lock)
    with contextlib.suppress(Timeout):
        held.acquire(timeout=0)
    try:
        # It is not there where its last holder removed it just now.
        if not held.is_locked or not lock.exists():
            raise TimoError(
                f"'{path}' is being written by another call: wait for it, or choose another path."
            )
        yield
    finally:
        if held.is_locked:
            with contextlib.suppress(OSError):
                lock.unlink()
            held.release()


def _write(
    data: xr.DataArray, store: CheckedStore, token: str, workers: int, session: _Session
) -> None:
    """Compute and write the chunks of a store that are missing or damaged."""
    from timo.sources.cache.stores import template_of

    files = template_of(data, store.array)
    if store.request != token:
        store.manifest.append({"request": token})
    store.fill(files)
    graphs, keys = [], list[Any]()
    for name, variable in data.to_dataset(name=store.array).variables.items():
        if not dask.is_dask_collection(variable.data):
            continue
        block = _Written(store.array_of(files, str(name)), store, str(name))
        indices = list(itertools.product(*map(range, variable.data.numblocks)))
        with ThreadPoolExecutor(workers) as pool:
            whole = list(pool.map(block.is_whole, indices))
        # Of each chunk only that it was written is left.
        written = da.map_blocks(
            block,
            variable.data,
            chunks=tuple((1,) * count for count in variable.data.numblocks),
            dtype=bool,
            meta=np.empty((0,) * variable.ndim, bool),
            name=f"written-{name}-{token}",
        )
        graphs.append(written.dask)
        keys += [(written.name, *i) for i, there in zip(indices, whole, strict=True) if not there]
    if keys:
        graph = HighLevelGraph.merge(*graphs)
        requests = _count_requests(graph, keys)
        with _computing(requests, workers, session, chunks=len(keys)) as options:
            compute_as_if_collection(da.Array, graph, keys, **options)


@dataclass(frozen=True)
class _Written:
    """Writes chunks of one array of a store."""

    array: zarr.Array
    store: CheckedStore
    name: str

    def __call__(self, block: np.ndarray, *, block_id: Index) -> np.ndarray:
        session = _current()
        try:
            self.array[slices_of(block_id, self.array.chunks, self.array.shape)] = block
        except OSError as error:
            reason = error.strerror or str(error)
            raise TimoError(
                f"Cannot write '{self.store.root.parent}': {reason}. Make room."
            ) from error
        session.note(kept=True)
        if not session.requests:
            session.step()
        return np.ones((1,) * block.ndim, bool)

    def is_whole(self, index: Index) -> bool:
        key = "/".join([self.name, "c", *map(str, index)])
        return not self.store.manifest.fault(key, bytes_of(self.store.root / key))


def _check_values(cube: xr.DataArray) -> None:
    """Refuse values that cannot be what the sensor measures; of a store a sample of each date is read."""
    from timo.cube.check import DIMS
    from timo.cube.values import check_values
    from timo.sensors import SENSORS

    sensor = SENSORS.get(str(cube.attrs.get("sensor")))
    if sensor is None or cube.dims != DIMS or not cube.size:
        return
    values = cube.variable
    if cube.chunks:
        blocks = list(itertools.product(*(_spans(cube, dim) for dim in ("y", "x"))))
        parts = [
            values.isel(y=rows, x=columns).compute(scheduler="threads").to_numpy()
            for rows, columns in blocks[:: -(-len(blocks) // _LOOKED_AT)]
        ]
        sample = np.concatenate([p.reshape(*p.shape[:2], -1, 1) for p in parts], axis=2)
    else:
        sample = values.to_numpy()
    check_values(sample, sensor, cube["band"].to_numpy().tolist(), times=cube["time"].to_numpy())


def _spans(cube: xr.DataArray, dim: str) -> list[slice]:
    """Return slices of the chunks along a dimension, some cells of each."""
    sizes = cube.chunksizes[dim]
    ends = itertools.accumulate(sizes)
    return [
        slice(end - size, end, -(-size // _LOOK)) for size, end in zip(sizes, ends, strict=True)
    ]


@contextmanager
def _computing(
    requests: int, workers: int, session: _Session, chunks: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield what Dask's `compute` is given; afterwards no thread of it is left.

    The `requests` are counted; where there are none, the `chunks` of a store; without them, Dask's tasks.
    """
    pool = ThreadPoolExecutor(workers, "timo-fetch", initializer=_join, initargs=(session,))
    session.requests = requests

    def begin(_: Any, state: dict[str, Any]) -> None:
        session.begin(requests or chunks or len(state["ready"]) + len(state["waiting"]))

    def after(*_: Any) -> None:
        if not requests and not chunks:
            session.step()

    def finish() -> None:
        # Requests that are under way are waited for, and no other one begins.
        session.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)

    try:
        # Given to this computation only: callbacks and pools that are registered would meet those of other threads.
        callbacks = [(None, begin, session.refuse_if_cancelled, after, None)]
        yield {"scheduler": "threads", "pool": pool, "callbacks": callbacks}
    except CancelledError:
        finish()
        raise CancelledError(session.summary()) from None
    except KeyboardInterrupt:
        finish()
        # Not an error of ours: a loop over many areas must end, too.
        raise KeyboardInterrupt(session.summary()) from None
    except Exception as error:
        finish()
        if session.kept and isinstance(error, TimoError):
            error.args = (f"{error} {session.remains()}",)
        elif session.kept:
            error.add_note(session.remains())
        raise
    finally:
        finish()


def _count_requests(graph: Any, keys: Iterable[Any]) -> int:
    """Count the chunks of fetched arrays that some keys are made of."""
    if not isinstance(graph, HighLevelGraph) or not keys:
        return 0
    layers = graph.cull(set(flatten(keys))).layers
    return sum(len(layers[n].get_output_keys()) for n in layers if n.startswith(_PREFIX))
