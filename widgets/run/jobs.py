"""Jobs: pieces of long work, one at a time, with a log and a curve of the loss."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from timo.compute import StepReport

from ..base.background import Background, Task

# Lines and losses that are kept of a job: a browser shows no more.
MOST_LINES, MOST_LOSSES = 500, 4000
Listener = Callable[["Job"], Any]


class Job(Task):
    """A piece of work with a title, its last lines, and its losses by step.

    Of a long history every second loss is dropped, again and again.
    """

    def __init__(self, title: str, work: Callable[[Job], Any]) -> None:
        super().__init__(work)
        self.title = title
        self.log: deque[str] = deque(maxlen=MOST_LINES)
        self.losses: list[tuple[int, float]] = []
        self._stride = 1

    def __repr__(self) -> str:
        return f"<Job {self.title!r}: {self.state}, {self.step} of {self.steps} steps>"

    @property
    def step(self) -> int:
        """Steps done."""
        return self.latest.step

    @property
    def steps(self) -> int:
        """Steps in all; 0 where nothing is known."""
        return self.latest.steps

    @property
    def eta(self) -> float:
        """Seconds to go; NaN where nothing is known."""
        return math.nan if self.ended else self.latest.eta

    @property
    def share(self) -> float:
        """Part that is done, 0..1."""
        return 1.0 if self.state == "done" else min(self.step / max(self.steps, 1), 1.0)

    @property
    def cancelling(self) -> bool:
        """Whether it was asked to end and has not ended yet."""
        return self.stop.is_set() and not self.ended

    def say(self, line: str) -> None:
        """Add a line to the log; for the work."""
        self.log.append(line)
        self.announce()

    def report(self, report: StepReport) -> None:
        """Note how far it is, and write it down; for the work."""
        self.latest = report
        if learns := math.isfinite(report.loss):
            self._note_loss(report.step, report.loss)
        epoch = f"epoch {report.epoch + 1}  " if report.epoch >= 0 else ""
        loss = f"  loss {report.loss:.4f}" if learns else ""
        self.say(f"{epoch}step {report.step} of {report.steps}{loss}")

    def begin_part(self, line: str) -> None:
        """Begin a part of the work, with steps of its own; for the work."""
        self.latest = StepReport(0, 0)
        self.say(line)

    def _note_loss(self, step: int, loss: float) -> None:
        if step % self._stride:
            return
        if len(self.losses) >= MOST_LOSSES:
            # A new list: the panel may be drawing the old one.
            self.losses, self._stride = self.losses[::2], self._stride * 2
        self.losses.append((step, loss))


class Queue(Background):
    """Jobs in the order in which they came; the last ended ones are still listed.

    `on_change` is called with a job at once when its state changes, otherwise a few times a second.
    """

    def __init__(self, on_change: Listener | None = None, keep: int = 5) -> None:
        super().__init__()
        self._on_change, self._keep = on_change, keep
        self._jobs: list[Job] = []

    @property
    def jobs(self) -> list[Job]:
        """Jobs that wait, run, or have ended lately, the oldest first."""
        return list(self._jobs)

    @property
    def current(self) -> Job | None:
        """The job that runs."""
        return next((job for job in self._jobs if job.state == "running"), None)

    def submit(self, title: str, work: Callable[[Job], Any], done: Listener | None = None) -> Job:
        """Add a job; `work` is called with it in the thread, `done` when it has ended, before `on_change`."""

        def end(job: Job) -> None:
            ended = [j for j in self._jobs if j.ended]
            for old in ended[: -self._keep]:
                self._jobs.remove(old)
            if done is not None:
                done(job)
            self._moved(job)

        job = Job(title, work)
        self.start(job, end, job)
        self._jobs.append(job)
        job.changed()
        return job

    def _moved(self, task: Task) -> None:
        if self._on_change is not None and isinstance(task, Job):
            self._on_change(task)
