"""Jobs one at a time in a thread, and what they tell delivered where they were asked for.

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
from typing import Any

from .jobs import Job, Listener, Task


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
