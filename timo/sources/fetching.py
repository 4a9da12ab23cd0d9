"""Lazy arrays whose chunks are requests, and their fetching: in parallel, with progress, to be stopped and resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import compute_as_if_collection
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from timo.cancel import CancelledError, Stop, is_stopped, obey, set_current_stop
from timo.checks import PathLike, Range, checked
from timo.compute import OnStep, StepReport, Steps, computing
from timo.cube.check import DIMS
from timo.cube.values import check_values
from timo.errors import TimoError, warn
from timo.sensors.registry import find_sensor
from timo.sources.cache.chunks import CachedArray, Index, slices_of
from timo.sources.cache.stores import check_path, open_store, writing

Workers = Annotated[int, Range(least=1, most=1000)]
Fetch = Callable[[Index, tuple[slice, ...]], np.ndarray]
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

    `fetch` takes the number of a chunk along each dimension and its slices of the array, from many threads. `name` is a
    hash of all that the values depend on. The graph grows with the chunks that are computed, not with the array. It
    pickles where `fetch` does (cloudpickle, for lambdas), so that a cluster of Dask can compute it; each machine then
    has a cache of its own.
    """
    block = _Block(fetch, tuple(shape), tuple(chunks), np.dtype(dtype), cached)
    layout = block.shape, block.chunks, block.dtype
    if cached is not None and (cached.shape, cached.chunks, cached.dtype) != layout:
        raise TimoError(
            f"The cache is of {(cached.shape, cached.chunks, cached.dtype)}, the array of {layout}"
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
        session = getattr(_threads, "session", None) or _Session()
        index = tuple(int(number) for number in block_id)
        values = None if self.cached is None else self.cached.read(index)
        if values is None:
            obey(session.is_stopped)
            values = self._fetch(index)
            kept = self.cached is not None and self.cached.write(index, values)
            session.note(kept=kept)
        session.steps.step()
        return values

    def _fetch(self, index: Index) -> np.ndarray:
        slices = slices_of(index, self.chunks, self.shape)
        values = self.fetch(index, slices)
        expected = tuple(part.stop - part.start for part in slices)
        # What is wrong must not get into the cache.
        if values.shape != expected or values.dtype != self.dtype:
            raise TimoError(
                f"Chunk {index} came as {values.dtype} of shape {values.shape}; expected was {self.dtype} of "
                f"shape {expected}. The service or its settings are not what this source was made for: report it."
            )
        return values


class _Session:
    """One call of `fetch`, as its threads see it: whether to stop, how far it is, and what is kept."""

    def __init__(
        self,
        stop: Stop | None = None,
        on_step: OnStep | None = None,
        *,
        progress: bool = False,
        path: Path | None = None,
    ) -> None:
        self.stop, self.on_step, self.path = stop, on_step, path
        self.ended = threading.Event()
        self.error: Exception | None = None
        self.requests = self.fetched = self.kept = 0
        report = None if on_step is None else self._report
        self.steps = Steps(report, progress=progress, unit="chunk", title="fetching")

    def is_stopped(self) -> bool:
        return self.ended.is_set() or is_stopped(self.stop)

    def join(self) -> None:
        """Make this thread one of the session's; pauses between its attempts end when the session does."""
        _threads.session = self
        set_current_stop(self.is_stopped)

    def _report(self, report: StepReport) -> None:
        if self.on_step is not None and self.error is None:
            try:
                self.on_step(report)
            except Exception as error:  # noqa: BLE001 - a warning at the end: what is fetched counts more
                self.error = error

    def note(self, *, kept: bool) -> None:
        with self.steps.lock:
            self.fetched += 1
            self.kept += kept

    def wrote(self) -> None:
        """Count a chunk that was written to a store."""
        self.note(kept=True)
        if not self.requests:
            self.steps.step()

    @contextmanager
    def computing(self, requests: int, workers: int, chunks: int = 0) -> Iterator[dict[str, Any]]:
        """Yield what Dask's `compute` is given; afterwards no thread of it is left.

        The `requests` are counted; where there are none, the `chunks` of a store; without them, Dask's tasks.
        """
        self.requests = requests

        def begin(tasks: int) -> None:
            self.steps.begin(requests or chunks or tasks)
            self.steps.step(0)

        def after() -> None:
            if not requests and not chunks:
                self.steps.step()

        try:
            # Requests that are under way when it ends are waited for, and no other one begins.
            with computing(
                stop=self.is_stopped,
                workers=workers,
                name="timo-fetch",
                join=self.join,
                begin=begin,
                after=after,
                end=self.ended.set,
            ) as options:
                yield options
        except CancelledError:
            raise CancelledError(self.summary()) from None
        except KeyboardInterrupt:
            # Not an error of ours: a loop over many areas must end, too.
            raise KeyboardInterrupt(self.summary()) from None
        except Exception as error:
            if self.kept and isinstance(error, TimoError):
                error.args = (f"{error} {self.remains()}",)
            elif self.kept:
                error.add_note(self.remains())
            raise

    def close(self) -> None:
        """Leave the terminal as it should be, and warn the caller of `fetch` if the report failed."""
        self.steps.close()
        if self.error is not None:
            warn(
                f"on_step= raised {type(self.error).__name__}: {self.error}. The fetch went on without it."
            )

    def summary(self) -> str:
        head = f"The fetch was stopped after {self.steps.done} of {self.steps.total} chunks."
        return f"{head} {self.remains()}".rstrip()

    def remains(self) -> str:
        """Say what is kept of an unfinished fetch."""
        if self.path is not None:
            return f"What is complete is kept beside '{self.path}': the same call resumes."
        if self.kept == self.fetched:
            return "They are in the cache: the same call resumes." if self.kept else ""
        return f"{self.fetched - self.kept} of them are not in the cache and will be fetched again."


_threads = threading.local()


def load(cube: xr.DataArray, stop: Stop | None) -> xr.DataArray:
    """Bring a cube into memory; raise `CancelledError` once `stop` says so."""
    at_once = stop is None or cube.chunks is None
    return cube.compute() if at_once else fetch(cube, progress=False, stop=stop)


@checked(cancel="stop")
def fetch(
    cube: xr.DataArray,
    *,
    workers: Workers = 8,
    progress: bool | Callable[[int, int], Any] = True,
    stop: Stop | None = None,
    on_step: OnStep | None = None,
    path: PathLike | None = None,
    overwrite: bool = False,
) -> xr.DataArray:
    """Compute a lazy cube: `workers` requests at a time, with a progress bar.

    Parameters
    ----------
    cube : xarray.DataArray
        A lazy cube of any source.
    workers : int
        Requests at a time. More are faster until the service's limit (Earth Engine: 40 a project).
    progress : bool
        Whether to show a bar of the chunks that are done.
    stop : threading.Event or callable, optional
        Asked before each request; when it says so, no other request is made. Those under way are waited for, and kept.
    on_step : callable, optional
        Called with a `timo.compute.StepReport` before the first chunk and after each, also of those in the cache, from
        the threads that fetch, one at a time; they wait until it returns. An error in it does not end the fetch; a
        warning at the end names it. A cube in memory has no chunks, and no calls.
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
        If `stop` said so: how much was done. With a cache or `path`, the same call resumes.
    KeyboardInterrupt
        If the user interrupted it, with the same message.
    TimoError
        If a request failed, the values cannot be what the sensor measures, another process is writing to `path`, or
        another store is there. When values are read from a store: if a chunk was lost, changed or swapped.

    Notes
    -----
    The chunks of the store are those of the cube; each has a checksum in its file and another one in a manifest. An
    unfinished store is a hidden folder beside `path` until it is complete and its values were checked; then it is
    renamed. If the store of the same cube is there already, its checksums are verified, and only damaged chunks are
    fetched. Cubes are the same if their sources, options and files are: Dask's names say so. A cube made with a
    function that Dask cannot name begins again, with a warning.

    Examples
    --------
    >>> import timo
    >>> reports = []
    >>> cube = timo.open_cube("sample", start="2019-07", end="2019-07").chunk(time=1)
    >>> cube = timo.fetch(cube, progress=False, on_step=reports.append)
    >>> reports[0].step, reports[-1].step == reports[-1].steps
    (0, True)
    """
    if callable(progress):
        warn(
            "progress= is True or False now; a function is on_step=, and takes a timo.compute.StepReport.",
            DeprecationWarning,
        )
        former, progress = progress, False
        on_step = on_step or (lambda report: former(report.step, report.steps))
    if cube.dtype.kind not in "biuf":
        raise TimoError(
            f"cube must hold numbers; got {cube.dtype}. timo.open_cube opens one; cube.astype('float32') converts."
        )
    target = None if path is None else check_path(path)
    session = _Session(stop, on_step, progress=progress, path=target)
    try:
        if target is not None:
            return _fetch_to(target, cube, workers, session, overwrite=overwrite)
        requests = _count_requests(cube.__dask_graph__(), cube.__dask_keys__())
        with session.computing(requests, workers) as options:
            computed = cube.compute(**options)
    finally:
        session.close()
    _check_values(computed)
    return computed


def _fetch_to(
    path: Path, cube: xr.DataArray, workers: int, session: _Session, *, overwrite: bool
) -> xr.DataArray:
    with writing(path, cube, overwrite=overwrite) as unfinished:
        graph, keys = unfinished.missing(workers, session.wrote)
        if keys:
            requests = _count_requests(graph, keys)
            with session.computing(requests, workers, chunks=len(keys)) as options:
                compute_as_if_collection(da.Array, graph, keys, **options)
        _check_values(open_store(unfinished.store.root))
    return open_store(path)


def _check_values(cube: xr.DataArray) -> None:
    """Refuse values that cannot be what the sensor measures; of a store a sample of each date is read."""
    sensor = find_sensor(cube.attrs.get("sensor"))
    if sensor is None or cube.dims != DIMS or not cube.size:
        return
    sample = cube.data
    if cube.chunks:
        places = list(np.ndindex(*sample.numblocks[2:]))
        blocks = [sample.blocks[:, :, y, x] for y, x in places[:: -(-len(places) // _LOOKED_AT)]]
        parts = [b[..., :: -(-b.shape[2] // _LOOK), :: -(-b.shape[3] // _LOOK)] for b in blocks]
        flat = [part.reshape(*part.shape[:2], -1, 1) for part in parts]
        sample = da.concatenate(flat, axis=2).compute(scheduler="threads")
    if sample.dtype.kind != "f":
        sample = sample.astype("float32")
    check_values(sample, sensor, cube["band"].to_numpy().tolist(), times=cube["time"].to_numpy())


def _count_requests(graph: Any, keys: Iterable[Any]) -> int:
    """Count the chunks of fetched arrays that some keys are made of."""
    if not isinstance(graph, HighLevelGraph) or not keys:
        return 0
    layers = graph.cull(set(flatten(keys))).layers
    return sum(len(layers[n].get_output_keys()) for n in layers if n.startswith(_PREFIX))
