"""What can go wrong on purpose: quotas, errors, cut-off answers, slowness, expired tokens."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .errors import EmulatorError

#: Requests whose answers can be made to fail: those that compute.
FAULTY = ("value", "pixels", "maps", "tiles")


@dataclass(frozen=True)
class Faults:
    """Shares of requests that fail, and how slow the others are.

    Which request fails is drawn from the seed and the number of the request among those of the kinds in `kinds`, so
    that the same requests in the same order fail again, and `planned` counts those that will. Requests that run
    at the same time are numbered as they come in.

    Parameters
    ----------
    quota : float
        Share that is answered 429, 0..1.
    internal, unavailable : float
        Shares that are answered 500 and 503.
    truncated : float
        Share whose body ends before the length that its header announces.
    expired : float
        Share that is answered 401, as with a token that is out of date.
    latency : float or callable
        Seconds that an answer waits, or a function from the number of the request to seconds.
    concurrent : int, optional
        How many requests may be in work at once; those above are answered 429.
    kinds : tuple of str
        The kinds of request that all this holds for: "value", "pixels", "maps", "tiles".
    seed : int
        Of the draws.

    Raises
    ------
    EmulatorError
        If the shares are no shares or sum up to more than one.
    """

    quota: float = 0.0
    internal: float = 0.0
    unavailable: float = 0.0
    truncated: float = 0.0
    expired: float = 0.0
    latency: float | Callable[[int], float] = 0.0
    concurrent: int | None = None
    kinds: tuple[str, ...] = FAULTY
    seed: int = 0

    def __post_init__(self) -> None:
        shares = [share for _, share in self._shares()]
        if any(not 0 <= share <= 1 for share in shares) or sum(shares) > 1 + 1e-12:
            raise EmulatorError(
                f"The shares of faults are each 0..1 and sum up to 1 at most; got {shares}."
            )

    def _shares(self) -> list[tuple[str, float]]:
        return [
            ("quota", self.quota),
            ("internal", self.internal),
            ("unavailable", self.unavailable),
            ("truncated", self.truncated),
            ("expired", self.expired),
        ]

    def of(self, number: int) -> str | None:
        """Return what goes wrong with a request, by its number from 0: the name of a share, or None."""
        draw = random.Random(f"{self.seed}/{number}").random()  # noqa: S311
        for name, share in self._shares():
            if draw < share:
                return name
            draw -= share
        return None

    def planned(self, requests: int) -> dict[str, int]:
        """Count the faults that the first `requests` requests meet."""
        drawn = [self.of(number) for number in range(requests)]
        return {name: drawn.count(name) for name, share in self._shares() if share}

    def seconds(self, number: int) -> float:
        """Return how long the answer to a request waits."""
        return float(self.latency(number) if callable(self.latency) else self.latency)


class Gate:
    """Counts the requests in work."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._lock = threading.Lock()
        self.inside = 0
        self.peak = 0

    def enter(self) -> bool:
        """Let one in, unless there are too many already."""
        with self._lock:
            if self._most is not None and self.inside >= self._most:
                return False
            self.inside += 1
            self.peak = max(self.peak, self.inside)
            return True

    def leave(self) -> None:
        """Let one out."""
        with self._lock:
            self.inside -= 1
