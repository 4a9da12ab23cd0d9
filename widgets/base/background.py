"""Slow work beside the notebook: one thread, and only the newest wish of each kind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """Run work in one thread; a newer wish replaces an older one of its kind that has not begun.

    Parameters
    ----------
    on_error : callable
        Called with the exception of a piece of work that failed.
    """

    def __init__(self, on_error: Callable[[Exception], Any]) -> None:
        self._on_error = on_error
        self._pool: ThreadPoolExecutor | None = None
        self._newest: dict[str, int] = {}
        self._futures: set[Future[None]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, kind: str, work: Callable[[], Any], done: Callable[[Any], Any]) -> None:
        """Call `done(work())` in the thread, unless a newer wish of this kind comes first."""
        with self._lock:
            if self._closed:
                return
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="timo-explorer")
            turn = self._newest[kind] = self._newest.get(kind, 0) + 1
            future = self._pool.submit(self._run, kind, turn, work, done)
            self._futures.add(future)
        future.add_done_callback(self._futures.discard)

    def _is_newest(self, kind: str, turn: int) -> bool:
        return not self._closed and self._newest[kind] == turn

    def _run(
        self, kind: str, turn: int, work: Callable[[], Any], done: Callable[[Any], Any]
    ) -> None:
        if not self._is_newest(kind, turn):
            return
        try:
            result = work()
            if self._is_newest(kind, turn):
                done(result)
        except Exception as error:  # noqa: BLE001 - whatever a source raises is shown in the panel
            if not self._closed:
                self._on_error(error)

    def forget(self, kind: str) -> None:
        """Drop what waits or runs of a kind: its result is not wanted any more."""
        with self._lock:
            self._newest[kind] = self._newest.get(kind, 0) + 1

    def wait(self, seconds: float = 60) -> None:
        """Wait until nothing is left to do."""
        for future in list(self._futures):
            future.result(seconds)

    def close(self) -> None:
        """Begin nothing more, and let the thread end after what it is at."""
        with self._lock:
            self._closed = True
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None
