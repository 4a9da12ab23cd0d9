"""Work beside the notebook: tasks in a thread, one after the other, and what they find delivered in the notebook's own.

ipykernel sends comm messages from any thread, but the traits of a widget are changed by the kernel's own thread as
well, when the browser speaks, and nothing locks them. So nothing here touches a widget from a thread: what a task finds
is delivered in the event loop of the kernel, between two cells. While a cell runs the panels stand still, as all
widgets do, and the task goes on.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Literal

import xarray as xr

from timo.cancel import CancelledError
from timo.compute import StepReport
from timo.errors import TimoError

# Seconds between two reports of progress: more often is work for the browser and nothing for the eye.
PAUSE_S = 0.2


class Mailbox:
    """Calls from other threads, carried out in the event loop of the thread that made the mailbox.

    Where that thread has no event loop (a script, a test) they are carried out when it asks for them: see `empty`.
    """

    def __init__(self) -> None:
        self._calls: dict[Hashable, Callable[[], Any]] = {}
        self._lock = threading.Lock()
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def post(self, sender: Hashable, call: Callable[[], Any]) -> None:
        """Have a call carried out, in place of one of the same sender that waits."""
        with self._lock:
            self._calls[sender] = call
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.empty)

    def empty(self) -> None:
        """Carry out all that waits; for the mailbox's own thread."""
        while True:
            with self._lock:
                if not self._calls:
                    return
                call = self._calls.pop(next(iter(self._calls)))
            call()


class Task:
    """A piece of work, called with the task in the thread; `stop` and `report` are for `stop=` and `on_step=`.

    `result` is what it returned, also where it was cancelled and returned something; `error` what it raised. `changed`
    is called, in any thread, when the state has changed, and a few times a second in between.
    """

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work
        self.changed: Callable[[], Any] = _nothing
        self.stop = threading.Event()
        self.state: Literal["queued", "running", "done", "cancelled", "failed"] = "queued"
        self.latest = StepReport(0, 0)
        self.result: Any = None
        self.error: Exception | None = None
        self._lock, self._over = threading.Lock(), threading.Event()
        self._started = self._ended = self._told = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self._over.is_set()

    @property
    def seconds(self) -> float:
        """Time since it began, until its end."""
        return (self._ended or time.monotonic()) - self._started if self._started else 0.0

    def cancel(self) -> None:
        """Ask it to end: at once where it is queued, at its work's next look where it runs."""
        with self._lock:
            if self.ended:
                return
            self.stop.set()
            if self.state == "queued":
                self._end("cancelled")
        self.changed()

    def report(self, report: StepReport) -> None:
        """Note how far it is; for the work."""
        self.latest = report
        self.announce()

    def announce(self) -> None:
        """Say that something is new, unless that was said a moment ago; for the work."""
        now = time.monotonic()
        if now - self._told >= PAUSE_S:
            self._told = now
            self.changed()

    def run(self) -> None:
        """Do the work; for the thread."""
        with self._lock:
            if self.ended:
                return
            self.state, self._started = "running", time.monotonic()
        self.changed()
        state: Literal["done", "cancelled", "failed"]
        try:
            self.result = self._work(self)
        except Exception as error:  # noqa: BLE001 - any error is shown in the panel
            self.error = error
            given_up = self.stop.is_set() and isinstance(error, CancelledError)
            state = "cancelled" if given_up else "failed"
        else:
            # A result that knows whether it is whole is believed: the wish to stop may have come too late.
            stopped = getattr(self.result, "stopped", self.stop.is_set())
            state = "cancelled" if stopped else "done"
        with self._lock:
            self._end(state)
        self.changed()

    def join(self, seconds: float | None = None) -> bool:
        """Wait for its end; return whether it came."""
        return self._over.wait(seconds)

    def _end(self, state: Literal["done", "cancelled", "failed"]) -> None:
        self.state, self._ended = state, time.monotonic()
        # What it holds on to, cubes and models, is free.
        self._work = _nothing
        self._over.set()


class Background:
    """A thread for tasks, there only while there is something to do.

    `failed` is called with the exception of a task, a `CancelledError` if it was cancelled; `progress` with a
    `StepReport`, a few times a second.
    """

    def __init__(
        self,
        failed: Callable[[Exception], Any] | None = None,
        progress: Callable[[StepReport], Any] | None = None,
    ) -> None:
        self._failed, self._progress = failed, progress
        self._mailbox, self._lock = Mailbox(), threading.Lock()
        self._waiting: deque[Task] = deque()
        # Tasks whose end was not delivered yet; what is dropped is not among them.
        self._wanted: dict[Hashable, Task] = {}
        self._running: Task | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, work: Callable[[Task], Any], done: Callable[[Any], Any], kind: str = "") -> None:
        """Call `done(work(task))`, the work in the thread; an earlier task of this kind is dropped."""

        def end(task: Task) -> None:
            if task.state == "done":
                done(task.result)
            elif self._failed is not None:
                self._failed(task.error or CancelledError("Cancelled."))

        if not self._closed:
            self.start(Task(work), end, kind)

    def start(self, task: Task, end: Callable[[Any], Any], kind: Hashable) -> None:
        """Run a task after those that are there, and call `end(task)`; an earlier one of this kind is dropped."""
        self.drop(kind)
        with self._lock:
            if self._closed:
                raise TimoError("This panel is closed: make a new one.")
            self._wanted[kind] = task
            task.changed = lambda: self._mailbox.post(task, lambda: self._deliver(task, end, kind))
            self._waiting.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="timo-work", daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """Ask all tasks to end; they fail with a `CancelledError`."""
        for task in list(self._wanted.values()):
            task.cancel()

    def drop(self, kind: Hashable = "") -> None:
        """Stop the task of a kind, if there is one, and hear nothing more of it."""
        task = self._wanted.pop(kind, None)
        if task is not None:
            task.cancel()

    @property
    def busy(self) -> bool:
        """Whether the end of a task is still to come."""
        return bool(self._wanted)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is left to do, delivering in the thread that made this; return whether nothing is left."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        while time.monotonic() < until:
            thread = self._thread
            if thread is not None:
                thread.join(0.05)
            # What is delivered may have asked for more.
            self._mailbox.empty()
            if thread is None and self._thread is None:
                break
        return self._thread is None

    def close(self, seconds: float = 0) -> None:
        """Cancel all tasks and deliver nothing any more; wait so long for the thread to end."""
        with self._lock:
            self._closed = True
            tasks = [*self._waiting, self._running]
        for task in tasks:
            if task is not None:
                task.cancel()
        if (thread := self._thread) is not None and seconds:
            thread.join(seconds)
        self._wanted.clear()
        self._failed = self._progress = None

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = self._running = None
                    return
                task = self._running = self._waiting.popleft()
            task.run()

    def _deliver(self, task: Task, end: Callable[[Any], Any], kind: Hashable) -> None:
        if self._closed or self._wanted.get(kind) is not task:
            return
        if not task.ended:
            self._moved(task)
        else:
            del self._wanted[kind]
            end(task)

    def _moved(self, task: Task) -> None:
        if self._progress is not None and task.latest.steps:
            self._progress(task.latest)


def _nothing(*_: Any) -> None:
    """Do nothing: what an ended task has to do."""


def is_lazy(data: xr.DataArray | xr.Dataset) -> bool:
    """Return whether some of the values are still to be computed or read."""
    variables = data.variables.values() if isinstance(data, xr.Dataset) else [data.variable]
    return any(not variable._in_memory for variable in variables)
