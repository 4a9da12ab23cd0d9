"""Computing lazy data: in a pool of threads of its own, with progress, and stopped at any time."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm.auto import tqdm

from timo.cancel import Stop, obey
from timo.errors import TimoError

if TYPE_CHECKING:
    import xarray as xr

    Data = TypeVar("Data", xr.DataArray, xr.Dataset)


@dataclass(frozen=True)
class StepReport:
    """How far some work is: a training after a step, a map after a window of dates of a tile, a fetch after a chunk.

    Attributes
    ----------
    step, steps : int
        Steps done since the beginning of the run, also before it was resumed, and steps of the whole run. Of a map they
        are an estimate until its last tile has begun: it depends on the clouds.
    epoch : int
        The epoch of the step, counted from 0; -1 where there are none.
    loss : float
        Of the step; NaN where nothing is learnt.
    seconds : float
        Since the first step of this call began.
    eta : float
        Seconds to go at the speed so far, validation included. A training that stops early ends sooner.
    """

    step: int
    steps: int
    epoch: int = -1
    loss: float = math.nan
    seconds: float = 0.0
    eta: float = math.nan


OnStep = Callable[[StepReport], Any]


def time_text(seconds: float) -> str:
    """Say seconds as a person does: 42 s, 3 min 5 s, 1 h 2 min."""
    if not math.isfinite(seconds):
        return ""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def report_to(on_step: Callable[[Any], Any], report: StepReport) -> None:
    """Call the user's function with a report; an error of its own says what the function takes."""
    try:
        on_step(report)
    except TimoError:
        raise
    except Exception as error:
        raise TimoError(
            f"on_step= raised {type(error).__name__}: {error}. Give a function that takes one argument, a "
            "timo.compute.StepReport."
        ) from error


class Steps:
    """Counter of the steps of some work, for many threads.

    `on_step` is called with a `StepReport` of each, by one thread at a time, with a number that grows; `progress` shows
    a bar, which counts in `unit` under a `title`.
    """

    def __init__(
        self,
        on_step: OnStep | None = None,
        *,
        progress: bool = False,
        unit: str = "step",
        title: str | None = None,
    ) -> None:
        self.on_step = on_step
        self._bar_options = {"unit": unit, "desc": title, "disable": not progress}
        self._bar = tqdm(disable=True)
        # Held while the callback runs, so that the numbers it gets only grow.
        self.lock = threading.RLock()
        self.done = self.total = self._before = 0
        self._started = time.monotonic()

    def begin(self, total: int, done: int = 0) -> None:
        """Start the clock and the bar, for `total` steps, of which an earlier call did `done`."""
        self.total, self.done, self._before = total, done, done
        self._started = time.monotonic()
        self._bar = tqdm(total=total, initial=done, **self._bar_options)

    def step(self, count: int = 1, *, total: int | None = None, **more: Any) -> None:
        """Count steps and report them; `total` replaces an estimate, `epoch` and `loss` go into the report."""
        with self.lock:
            self.done += count
            # More than was counted, where Dask computes a chunk twice.
            self.total = max(self.total if total is None else total, self.done)
            self._bar.update(count)
            if self.on_step is not None:
                report_to(self.on_step, self.report(**more))

    def report(self, **more: Any) -> StepReport:
        """Return how far the work is."""
        seconds = time.monotonic() - self._started
        counted = self.done - self._before
        eta = seconds / counted * (self.total - self.done) if counted else math.nan
        return StepReport(self.done, self.total, seconds=seconds, eta=eta, **more)

    def close(self) -> None:
        """Leave the terminal as it should be."""
        self._bar.close()


@contextmanager
def computing(
    *,
    stop: Stop | None = None,
    workers: int | None = None,
    name: str = "timo-compute",
    join: Callable[[], Any] | None = None,
    begin: Callable[[int], Any] | None = None,
    after: Callable[[], Any] | None = None,
    end: Callable[[], Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the options of Dask's `compute`; afterwards no thread of the computation is left.

    `stop` is asked before each task, and raises `CancelledError` within the block; there are as many `workers` as
    cores, or those given, whose threads have a `name`. Called are: `join` in each thread before its first task; `begin`
    with the number of tasks before the first one; `after` after each; `end` before the tasks under way are waited for,
    however the block ends.
    """
    # A pool of its own: Dask would keep one for each thread that ever computed.
    pool = ThreadPoolExecutor(workers or os.cpu_count(), name, initializer=join)

    def count(_: Any, state: dict[str, Any]) -> None:
        if begin is not None:
            begin(len(state["ready"]) + len(state["waiting"]))

    # Given to this computation only: callbacks and pools that are registered would meet those of other threads.
    callbacks = [(None, count, lambda *_: obey(stop), after and (lambda *_: after()), None)]
    try:
        yield {"scheduler": "threads", "pool": pool, "callbacks": callbacks}
    finally:
        if end is not None:
            end()
        pool.shutdown(wait=True, cancel_futures=True)


def compute(
    data: Data,
    *,
    stop: Stop | None = None,
    on_step: OnStep | None = None,
    progress: bool = False,
    workers: int | None = None,
) -> Data:
    """Compute lazy data at once, on the threads of this machine.

    `on_step` is called before the first task and after each; for `stop` and `workers` see `computing`.
    """
    steps = Steps(on_step, progress=progress, unit="task")

    def begin(total: int) -> None:
        steps.begin(total)
        steps.step(0)

    try:
        with computing(stop=stop, workers=workers, begin=begin, after=steps.step) as options:
            return data.compute(**options)
    finally:
        steps.close()
