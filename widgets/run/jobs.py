"""Long work beside the notebook: one job at a time in a thread, the others wait; each can be watched and cancelled.

What a job tells is delivered where its queue was made: in the event loop of the kernel, between two cells. ipykernel
sends comm messages from any thread (each thread has its own pipe to the one that owns the socket), but the traits of
a widget are changed by the kernel's own thread as well, when the browser speaks, and nothing locks them; whatever
observes them would run in the job's thread. So nothing here touches a widget from a thread. While a cell runs, the
panel stands still, as all widgets do, and the job goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

State = Literal["queued", "running", "done", "cancelled", "failed"]
Task = Callable[["Job"], Any]
Listener = Callable[["Job"], Any]
# Lines and losses that are kept of a job: a browser shows no more.
MOST_LINES, MOST_LOSSES = 500, 4000
# Seconds between two deliveries of a job's progress.
PAUSE_S = 0.3
ENDED = ("done", "cancelled", "failed")


class Report(Protocol):
    """How far a job is, as `timo.interruption.StepReport` says it."""

    @property
    def step(self) -> int:
        """Steps done."""

    @property
    def steps(self) -> int:
        """Steps in all."""

    @property
    def epoch(self) -> int:
        """Epoch, from 0; -1 where there are none."""

    @property
    def loss(self) -> float:
        """Loss of the step; NaN where there is none."""

    @property
    def eta(self) -> float:
        """Seconds to go."""


class Mailbox:
    """Calls from other threads, carried out in the event loop of the thread that made the mailbox.

    Where that thread has no event loop (a script, a test) they are carried out when it asks for them: see `empty`.
    """

    def __init__(self) -> None:
        self._calls: deque[Callable[[], Any]] = deque()
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def post(self, call: Callable[[], Any]) -> None:
        """Have a call carried out."""
        self._calls.append(call)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.empty)

    def empty(self) -> None:
        """Carry out all that waits; for the mailbox's own thread."""
        while self._calls:
            self._calls.popleft()()


class Job:
    """A piece of work: what it is, how far it is, and its end.

    Attributes
    ----------
    title : str
        What it is.
    state : {"queued", "running", "done", "cancelled", "failed"}
        Where it is.
    step, steps : int
        Steps done, and in all; 0 of 0 where nothing is known.
    eta : float
        Seconds to go; NaN where nothing is known.
    seconds : float
        Since it began.
    log : deque of str
        Its last lines.
    losses : list of (int, float)
        Step and loss; of a long history every second one is dropped, again and again.
    result : object
        What the task gave back, also where it was cancelled and gave something.
    error : Exception or None
        Why it failed.
    """

    def __init__(self, title: str, task: Task, changed: Listener) -> None:
        self.title, self._task, self._changed = title, task, changed
        self.state: State = "queued"
        self.step, self.steps, self.eta = 0, 0, math.nan
        self.log: deque[str] = deque(maxlen=MOST_LINES)
        self.losses: list[tuple[int, float]] = []
        self.result: Any = None
        self.error: Exception | None = None
        self._stop, self._over = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._stride, self._started, self._ended, self._told = 1, 0.0, 0.0, 0.0

    def __repr__(self) -> str:
        return f"<Job {self.title!r}: {self.state}, {self.step} of {self.steps} steps>"

    @property
    def seconds(self) -> float:
        """Since it began, until its end."""
        if not self._started:
            return 0.0
        return (self._ended or time.monotonic()) - self._started

    @property
    def share(self) -> float:
        """Part that is done, 0..1."""
        return 1.0 if self.state == "done" else min(self.step / max(self.steps, 1), 1.0)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED

    @property
    def cancelling(self) -> bool:
        """Whether it was asked to end and has not ended yet."""
        return self._stop.is_set() and not self.ended

    def is_set(self) -> bool:
        """Whether the job is to stop: the job itself is what `stop` takes in timo's functions."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Ask it to end: at once where it is queued, at its task's next look where it runs."""
        with self._lock:
            if self.ended:
                return
            self._stop.set()
            if self.state == "queued":
                self._end("cancelled")
        self._changed(self)

    def say(self, line: str) -> None:
        """Add a line to the log; for the task."""
        self.log.append(line)
        self._tell()

    def report(self, report: Report) -> None:
        """Note how far it is, and write it down; for the task."""
        self.step, self.steps, self.eta = report.step, report.steps, report.eta
        if learns := math.isfinite(report.loss):
            self._note_loss(report.step, report.loss)
        epoch = f"epoch {report.epoch + 1}  " if report.epoch >= 0 else ""
        loss = f"  loss {report.loss:.4f}" if learns else ""
        self.say(f"{epoch}step {report.step} of {report.steps}{loss}")

    def begin_part(self, line: str) -> None:
        """A part of the work begins, with steps of its own; for the task."""
        self.step, self.steps, self.eta = 0, 0, math.nan
        self.say(line)

    def run(self) -> None:
        """Do the work; for the queue's thread."""
        with self._lock:
            if self.ended:
                return
            self.state, self._started = "running", time.monotonic()
        self._changed(self)
        try:
            self.result = self._task(self)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in a job is shown in its panel
            # What a cancelled work raises says so by its name; all else that goes wrong is a failure.
            given_up = self._stop.is_set() and type(error).__name__ == "CancelledError"
            self.error = None if given_up else error
            state: State = "cancelled" if given_up else "failed"
        else:
            # A result that knows whether it is whole is believed: the wish to stop may have come too late.
            stopped = getattr(self.result, "stopped", self._stop.is_set())
            state = "cancelled" if stopped else "done"
        with self._lock:
            self._end(state)
        self._changed(self)

    def join(self, seconds: float | None = None) -> bool:
        """Wait for its end; return whether it came."""
        return self._over.wait(seconds)

    def _end(self, state: State) -> None:
        self.state, self._ended, self.eta = state, time.monotonic(), math.nan
        # What it holds on to, cubes and models, is free.
        self._task = _nothing
        self._over.set()

    def _note_loss(self, step: int, loss: float) -> None:
        if step % self._stride:
            return
        if len(self.losses) >= MOST_LOSSES:
            # A new list: the panel may be drawing the old one.
            self.losses, self._stride = self.losses[::2], self._stride * 2
        self.losses.append((step, loss))

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= PAUSE_S:
            self._told = now
            self._changed(self)


def _nothing(_: Job) -> None:
    """What an ended job has to do."""


class Queue:
    """Jobs, one at a time, in the order in which they came.

    The thread is there only while there is something to do.

    Parameters
    ----------
    on_change : callable, optional
        Is given a job whenever it has moved on: at once when its state changes, otherwise a few times a second. It is
        called where the queue was made, see `Mailbox`.
    keep : int
        Jobs that have ended and are still listed.
    """

    def __init__(self, on_change: Listener | None = None, keep: int = 5) -> None:
        self._on_change, self._keep = on_change, keep
        self._mailbox, self._lock = Mailbox(), threading.Lock()
        self._jobs: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._numbers = itertools.count(1)
        # Jobs of which a delivery is on its way: one is enough.
        self._announced: set[int] = set()

    @property
    def jobs(self) -> list[Job]:
        """Jobs that wait, run, or have ended lately, the oldest first."""
        with self._lock:
            return list(self._jobs)

    @property
    def current(self) -> Job | None:
        """The job that runs."""
        return next((job for job in self.jobs if job.state == "running"), None)

    def submit(self, title: str, task: Task, done: Listener | None = None) -> Job:
        """Add a job.

        Parameters
        ----------
        title : str
            What it is.
        task : callable
            Does the work in the thread. It is given its job: to report to, to write lines, and as what says when to
            stop (`Job.is_set`).
        done : callable, optional
            Is given the job when it has ended, in whatever way, before `on_change`, and where that is called.

        Raises
        ------
        RuntimeError
            If the queue is closed.
        """
        finished = threading.Event()

        def changed(job: Job) -> None:
            if not job.ended:
                self._announce(job)
            elif not finished.is_set():
                finished.set()
                self._mailbox.post(lambda: self._deliver_end(job, done))

        job = Job(title, task, changed)
        with self._lock:
            if self._closed:
                raise RuntimeError("the queue is closed: make a new one")
            self._jobs.append(job)
            self._waiting.append(job)
            if self._thread is None:
                name = f"timo-jobs-{next(self._numbers)}"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()
        self._announce(job)
        return job

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is left to do, and deliver what there is; for the thread that made the queue.

        Returns
        -------
        bool
            Whether all jobs have ended.
        """
        until = math.inf if seconds is None else time.monotonic() + seconds
        while time.monotonic() < until:
            thread = self._thread
            if thread is not None:
                thread.join(0.05)
            # What is delivered may have asked for more.
            self._mailbox.empty()
            if thread is None and self._thread is None:
                break
        return all(job.ended for job in self.jobs)

    def close(self, seconds: float = 5) -> None:
        """Cancel all jobs, and wait so long for the thread to end; nothing is delivered any more."""
        with self._lock:
            self._closed = True
        for job in self.jobs:
            job.cancel()
        if (thread := self._thread) is not None:
            thread.join(seconds)
        self._on_change = None

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                job = self._waiting.popleft()
            job.run()

    def _announce(self, job: Job) -> None:
        with self._lock:
            if id(job) in self._announced:
                return
            self._announced.add(id(job))
        self._mailbox.post(lambda: self._deliver(job))

    def _deliver(self, job: Job) -> None:
        with self._lock:
            self._announced.discard(id(job))
        if self._on_change is not None and not self._closed:
            self._on_change(job)

    def _deliver_end(self, job: Job, done: Listener | None) -> None:
        with self._lock:
            ended = [j for j in self._jobs if j.ended]
            for old in ended[: -self._keep]:
                self._jobs.remove(old)
        if self._closed:
            return
        if done is not None:
            done(job)
        if self._on_change is not None:
            self._on_change(job)
