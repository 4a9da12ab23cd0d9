"""To compute a map while somebody watches: how far it is, and an end before its end."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import dask
import xarray as xr
from torch import nn

from timo.cancel import CancelledError, Stop, interruptible, is_stopped
from timo.compute import OnStep, StepReport

T = TypeVar("T")


class Watch:
    """What the tiles of one computation tell, and are told. One without anything to do is the default.

    Parameters
    ----------
    stop : threading.Event or callable, optional
        Asked before each layer of the model.
    on_step : callable, optional
        Is given a `timo.compute.StepReport` after each window.
    tiles : int
        Tiles of the map.
    """

    def __init__(
        self,
        stop: Stop | None = None,
        on_step: OnStep | None = None,
        tiles: int = 1,
    ) -> None:
        self.stop, self.on_step, self.tiles = stop, on_step, tiles
        self.started, self.begun, self.planned, self.done = time.monotonic(), 0, 0, 0

    def over(self, model: nn.Module) -> AbstractContextManager[None]:
        """A block within which the model ends early when it is asked to."""
        return interruptible(model, self.stop)

    def begin(self, windows: int) -> None:
        """A tile begins; only one does at a time."""
        self.begun, self.planned = self.begun + 1, self.planned + windows

    def each(self, windows: Iterable[T]) -> Iterator[T]:
        """The windows of a tile, counted."""
        for window in windows:
            yield window
            self.done += 1
            if self.on_step is not None:
                self.on_step(self._report())

    def _report(self) -> StepReport:
        steps = round(self.planned / max(self.begun, 1) * max(self.tiles, self.begun))
        seconds = time.monotonic() - self.started
        eta = seconds / self.done * (steps - self.done)
        return StepReport(self.done, steps, -1, math.nan, seconds, eta)


_threads = threading.local()


def current_watch() -> Watch:
    """The watch over the computation that this thread takes part in."""
    watch: Watch | None = getattr(_threads, "watch", None)
    return Watch() if watch is None else watch


def compute(
    result: xr.Dataset,
    *,
    stop: Stop | None = None,
    on_step: OnStep | None = None,
    workers: int = 2,
) -> xr.Dataset:
    """Compute a lazy map of `timo.predict`, with reports, and to be stopped at any time.

    Parameters
    ----------
    result : xarray.Dataset
        What `timo.predict` gave.
    stop : threading.Event or callable, optional
        Asked before each task of Dask, each window of dates and each layer of the model. When it says so, nothing is
        kept.
    on_step : callable, optional
        Is given a `timo.compute.StepReport` after each window of dates of a tile, in a thread of the computation.
    workers : int
        Threads that read. The model works on one tile at a time, with the threads that torch has.

    Returns
    -------
    xarray.Dataset
        The map, in memory.

    Raises
    ------
    CancelledError
        If `stop` said so.
    """
    watch = Watch(stop, on_step, _count_tiles(result))
    pool = ThreadPoolExecutor(workers, "timo-map", initializer=_join, initargs=(watch,))
    callbacks = [(None, None, lambda *_: _obey(stop), None, None)]
    try:
        with _as_cancelled():
            return dask.compute(result, scheduler="threads", pool=pool, callbacks=callbacks)[0]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _join(watch: Watch) -> None:
    _threads.watch = watch


def _obey(stop: Stop | None) -> None:
    if is_stopped(stop):
        raise CancelledError


@contextmanager
def _as_cancelled() -> Iterator[None]:
    try:
        yield
    except CancelledError:
        raise CancelledError("the map was stopped; nothing of it was kept") from None


def _count_tiles(result: Any) -> int:
    keys = [str(key[0] if isinstance(key, tuple) else key) for key in result.__dask_graph__()]
    return max(sum(key.startswith("_predict_tile-") for key in keys), 1)
