"""What the area picker does beside the notebook: estimating and opening, each in one thread that can be stopped."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import xarray as xr

from timo import fetch, open_cube
from timo.cancel import CancelledError, set_current_stop
from timo.errors import TimoError

from ..base.computing import CancelledError as Dropped
from ..base.computing import Task, Worker

# What is larger stays lazy, and is fetched chunk by chunk where it is used.
LARGEST_BYTES = 4_000_000_000
_PIECE_S = 0.05


class Estimates:
    """The newest estimate that was asked for, after nothing else was asked for a while.

    Parameters
    ----------
    turn : threading.Lock
        Held while a service is asked.
    done, failed : callable
        Called with the text, or with the exception.
    delay : float
        Seconds of quiet before anything is asked of a service.
    """

    def __init__(
        self,
        turn: threading.Lock,
        done: Callable[[str], Any],
        failed: Callable[[Exception], Any],
        delay: float = 0.6,
    ) -> None:
        self._done, self._delay = done, delay
        self._worker = Worker(failed)
        self._turn = turn

    def ask(self, source: str, options: dict[str, Any]) -> None:
        """Ask for the estimate of a source with these options, and forget what was asked before."""

        def work(task: Task) -> str:
            self._pause(task)
            while not self._turn.acquire(timeout=_PIECE_S):
                task.report(0)
            try:
                task.report(0)
                return estimate_text(source, options, lambda: _is_cancelled(task))
            finally:
                self._turn.release()

        self._worker.run(work, self._done)

    def _pause(self, task: Task) -> None:
        until = time.monotonic() + self._delay
        while time.monotonic() < until:
            task.report(0)
            time.sleep(_PIECE_S)

    def drop(self) -> None:
        """Forget what was asked."""
        self._worker.drop()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the answer, if something was asked."""
        self._worker.wait(seconds)


def estimate_text(source: str, options: dict[str, Any], cancelled: Callable[[], bool]) -> str:
    """What fetching takes, in words, as `timo.sources.earthengine.estimate` tells it.

    Raises
    ------
    TimoError
        As `timo.open_cube`.
    """
    set_current_stop(cancelled)
    try:
        from timo.sources.earthengine import estimate
    except ImportError as error:
        raise TimoError(
            'An estimate needs earthengine-api and xee: pip install "timo[earthengine]"'
        ) from error
    if source == "emulator":
        from timo.sources.emulated import emulator

        options = {**options, "url": emulator().url}
    return f"To fetch: {estimate(**{k: v for k, v in options.items() if k != 'cache'})}."


class Opening:
    """A cube that is being opened, and fetched, in a thread.

    Parameters
    ----------
    turn : threading.Lock
        Held while the cube is opened, and not while it is fetched.
    done : callable
        Called with the cube, and with whether its pixels were fetched.
    failed : callable
        Called with the exception; `timo.cancel.CancelledError` after `cancel`.
    begun : callable
        Called with the cube when it is open and its pixels are about to be fetched.
    progress : callable
        Called with the share of them that is there, 0..1, now and then.
    """

    def __init__(
        self,
        turn: threading.Lock,
        done: Callable[[xr.DataArray, bool], Any],
        failed: Callable[[Exception], Any],
        begun: Callable[[xr.DataArray], Any],
        progress: Callable[[float], Any],
    ) -> None:
        self._turn, self._done, self._begun = turn, done, begun
        self._worker = Worker(failed, progress)
        self._stop = threading.Event()

    def run(self, source: str, options: dict[str, Any], *, pixels: bool) -> None:
        """Begin."""
        self._stop = stop = threading.Event()

        def work(task: Task) -> tuple[xr.DataArray, bool]:
            set_current_stop(stop.is_set)
            with self._turn:
                cube = open_cube(source, **options)
            wanted = pixels and is_lazy(cube) and cube.nbytes <= LARGEST_BYTES
            if stop.is_set():
                raise CancelledError("Opening was stopped.")
            if wanted:
                self._begun(cube)
                cube = fetch(cube, progress=_told_to(task), cancel=stop)
            return cube, wanted

        self._worker.run(work, lambda found: self._done(*found))

    def cancel(self) -> None:
        """Make no more requests; the thread ends when those under way have come."""
        self._stop.set()

    def drop(self) -> None:
        """Stop, and hear nothing more of it."""
        self._stop.set()
        self._worker.drop()

    @property
    def busy(self) -> bool:
        """Whether something is being opened."""
        return self._worker.busy

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the end."""
        self._worker.wait(seconds)


def is_lazy(cube: xr.DataArray) -> bool:
    """Whether its pixels are still to be fetched."""
    return cube.chunks is not None


def _told_to(task: Task) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        # Nobody listens to a task that was dropped: the fetch is told to stop by another way.
        with contextlib.suppress(Dropped):
            task.report(done / max(total, 1))

    return tell


def _is_cancelled(task: Task) -> bool:
    try:
        task.report(0)
    except Dropped:
        return True
    return False
