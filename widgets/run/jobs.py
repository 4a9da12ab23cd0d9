"""A piece of long work: how far it is, what it says, how it is stopped, and its end."""

from __future__ import annotations

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
    """How far a job is, as `timo.compute.StepReport` says it."""

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
