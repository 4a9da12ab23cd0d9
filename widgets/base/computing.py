"""Work beside the notebook: a thread that can be cancelled, and lazy maps computed in it with progress."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import xarray as xr

# Seconds between two reports of progress: more often is work for the browser and nothing for the eye.
_BETWEEN = 0.2
Data = TypeVar("Data", xr.DataArray, xr.Dataset)


class CancelledError(Exception):
    """The user did not want to wait."""


class Task:
    """A function in a thread; what it returns comes back on the thread of the notebook, where there is an event loop.

    Parameters
    ----------
    work : callable
        Called with the task; calls `report` now and then, which raises `CancelledError` once `cancel` was called.
    done : callable
        Called with what `work` returned.
    failed : callable
        Called with the exception that `work` raised; a `CancelledError` among them.
    progress : callable, optional
        Called with a share, 0..1.
    """

    def __init__(
        self,
        work: Callable[[Task], Any],
        done: Callable[[Any], Any],
        failed: Callable[[Exception], Any],
        progress: Callable[[float], Any] | None = None,
    ) -> None:
        self._work, self._done, self._failed, self._progress = work, done, failed, progress
        self._cancelled, self._last, self._loop = threading.Event(), 0.0, _running_loop()
        self._thread = threading.Thread(target=self._run, name="timo-map", daemon=True)

    def start(self) -> Task:
        """Start the thread."""
        self._thread.start()
        return self

    def report(self, share: float) -> None:
        """Tell how much is done, 0..1.

        Raises
        ------
        CancelledError
            If `cancel` was called.
        """
        if self._cancelled.is_set():
            raise CancelledError("cancelled")
        now = time.monotonic()
        if self._progress is not None and now - self._last > _BETWEEN:
            self._last = now
            self._deliver(self._progress, share)

    def cancel(self) -> None:
        """Make the next `report` raise; what has come too late to be stopped is not delivered as done."""
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the thread's end."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    @property
    def running(self) -> bool:
        """Whether the thread is at work."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            value = self._work(self)
            if self._cancelled.is_set():
                raise CancelledError("cancelled")
        except Exception as error:  # noqa: BLE001 - handed to whoever started it, who shows it
            self._deliver(self._failed, error)
        else:
            self._deliver(self._done, value)

    def _deliver(self, receive: Callable[[Any], Any], value: Any) -> None:
        if self._loop is None or self._loop.is_closed():
            receive(value)
        else:
            self._loop.call_soon_threadsafe(receive, value)


class Worker:
    """One task at a time: a new one takes the place of the old, whose outcome is dropped.

    Parameters
    ----------
    failed : callable
        Called with the exception of the latest task.
    progress : callable, optional
        Called with its progress, 0..1.
    """

    def __init__(
        self, failed: Callable[[Exception], Any], progress: Callable[[float], Any] | None = None
    ) -> None:
        self._failed, self._progress = failed, progress
        self._task: Task | None = None
        # The one that was started last: it may still be handing over what it found.
        self._last: Task | None = None

    def run(self, work: Callable[[Task], Any], done: Callable[[Any], Any]) -> None:
        """Start a task; see `Task`."""
        self.drop()
        task: Task

        def latest(receive: Callable[[Any], Any], *, ends: bool = True) -> Callable[[Any], None]:
            def pass_on(value: Any) -> None:
                if task is self._task:
                    self._task = None if ends else task
                    receive(value)

            return pass_on

        progress = self._progress and latest(self._progress, ends=False)
        task = Task(work, latest(done), latest(self._failed), progress)
        self._task = self._last = task
        task.start()

    def cancel(self) -> None:
        """Stop the task between two of its pieces; it fails with a `CancelledError`."""
        if self._task is not None:
            self._task.cancel()

    def drop(self) -> None:
        """Stop the task, and hear nothing of it any more."""
        self.cancel()
        self._task = None

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end of the task, if there is one."""
        if self._last is not None:
            self._last.wait(timeout)

    @property
    def busy(self) -> bool:
        """Whether a task is at work."""
        return self._task is not None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # a script or a test: there is no other thread to hand it to
        return None


def is_lazy(data: xr.DataArray | xr.Dataset) -> bool:
    """Whether some of the values are still to be computed or read."""
    variables = data.variables.values() if isinstance(data, xr.Dataset) else [data.variable]
    return any(not variable._in_memory for variable in variables)


def compute(data: Data, task: Task) -> Data:
    """Compute lazy data at once, on the threads of this machine, reporting to a task.

    Raises
    ------
    CancelledError
        Between two pieces, once the task was cancelled; pieces that are being computed are waited for.
    """

    def begun(*_: Any) -> None:
        task.report(0)

    def after(_key: Any, _value: Any, _graph: Any, state: dict[str, Any], _worker: Any) -> None:
        left = sum(len(state[name]) for name in ("waiting", "ready", "running"))
        finished = len(state["finished"])
        task.report(finished / max(finished + left, 1))

    # A pool of its own, because dask would keep one for each thread that ever computed.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        watch = (begun, None, begun, after, None)
        return data.compute(scheduler="threads", pool=pool, callbacks=[watch])
