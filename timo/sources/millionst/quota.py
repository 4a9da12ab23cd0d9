"""How fast requests may be made, and what they came to."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from timo.errors import TimoError

# Of a project, by default: https://developers.google.com/earth-engine/guides/usage
PER_SECOND, CONCURRENT = 100.0, 40


class Quota:
    """Lets requests begin at even distances, and so many be under way at once; shared by all threads.

    Parameters
    ----------
    per_second : float
        Most requests that begin in a second.
    concurrent : int
        Most requests under way.
    clock, sleep : callable
        Time and waiting: for tests.

    Raises
    ------
    TimoError
        If one of them is not above 0.
    """

    def __init__(
        self,
        per_second: float = PER_SECOND,
        concurrent: int = CONCURRENT,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 0 < per_second < float("inf") or concurrent < 1:
            raise TimoError(
                "requests per second must be above 0 and concurrent requests at least 1; got "
                f"{per_second}, {concurrent}"
            )
        self.per_second, self.concurrent = per_second, concurrent
        self._clock, self._sleep = clock, sleep
        self._room = threading.BoundedSemaphore(concurrent)
        self._lock = threading.Lock()
        self._next = float("-inf")

    @contextmanager
    def request(self) -> Iterator[None]:
        """Wait for the turn, and hold the place for as long as the request is under way."""
        with self._room:
            with self._lock:
                now = self._clock()
                turn = max(now, self._next)
                self._next = turn + 1 / self.per_second
            if turn > now:
                self._sleep(turn - now)
            yield


class Tally:
    """Counts of a run, from all threads: requests and bytes that arrived, and what was tried again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests, self.bytes = 0, 0
        self.again: Counter[str] = Counter()

    def answered(self, size: int) -> None:
        """Count a request that succeeded."""
        with self._lock:
            self.requests += 1
            self.bytes += size

    def retried(self, kind: str) -> None:
        """Count one that did not."""
        with self._lock:
            self.again[kind] += 1
