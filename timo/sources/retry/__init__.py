"""Requests and reads that fail for a moment are tried again, by all callers at a pace that the service bears.

Errors are sorted by what they mean (`timo.sources.retry.failures`), and no credential is in a message.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from sys import maxsize
from typing import Annotated, Any, NoReturn, TypeVar

from tenacity import Retrying
from tenacity.retry import retry_if_result
from tenacity.stop import stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from timo.cancel import Stop, current_stop, nap
from timo.checks import Count, NotNegative, Positive, Range, checked
from timo.errors import TimoError
from timo.sources.retry.failures import Sorted, redact, sort_earthengine_error, sort_read_error

T = TypeVar("T")


class GivenUpError(TimoError):
    """Raised when the attempts or the time for a request are used up."""


class Gate:
    """The pace of all callers of a service: most requests a second and at a time, and pauses after a quota error.

    Copies that arrive in another process by pickle share one gate there: gates of one `name` are one gate.
    """

    @checked
    def __init__(
        self,
        name: str | None = None,
        per_second: Positive | None = None,
        concurrent: Count | None = None,
    ) -> None:
        self.name = name or uuid.uuid4().hex
        self.per_second, self.concurrent = per_second, concurrent
        self._lock = threading.Lock()
        self._room = None if concurrent is None else threading.BoundedSemaphore(concurrent)
        self._closed = self._opens = self._next = -inf
        self._spread, self._strikes, self.message = 0.0, 0, ""
        _gates[self.name] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return _gate_of, (self.name, self.per_second, self.concurrent)

    @contextmanager
    def turn(self, stop: Stop | None = None, latest: float = inf) -> Iterator[float]:
        """Wait for a turn, at most until `latest`, and hold it during a request; yield the time at which it began."""
        while self._room and not self._room.acquire(timeout=0.05):
            nap(0, stop)
        try:
            self._wait(stop, latest)
            yield time.monotonic()
        finally:
            if self._room:
                self._room.release()

    def _wait(self, stop: Stop | None, latest: float) -> None:
        seen = -inf
        with self._lock:
            passes = max(time.monotonic(), self._next)
            self._next = passes + (1 / self.per_second if self.per_second else 0)
        while True:
            # Those who wait for it to open pass it spread over time.
            if self._opens > max(seen, time.monotonic()):
                spread = random.uniform(0, self._spread)  # noqa: S311 - jitter, not a secret
                seen, passes = self._opens, max(passes, self._opens + spread)
            now = time.monotonic()
            if passes > max(latest, now):
                said = f"No request could be made in time, as the service asks for fewer: {self.message}"
                raise GivenUpError(_sentence(said, "Try again later."))
            nap(max(0, passes - now), stop)
            if passes <= now:
                return

    def close(self, started: float, longest: Callable[[int], float], message: str) -> None:
        """Close it because a request that began at `started` was refused; longest(n): the pause, the n-th time."""
        with self._lock:
            # Requests that were under way when it closed are of the same crowd: they close it no longer.
            if started >= self._closed:
                pause, self._strikes = longest(self._strikes), self._strikes + 1
                self._closed = time.monotonic()
                self._opens, self._spread = self._closed + pause / 2, pause / 2
            self.message = message

    def passed(self, started: float) -> None:
        """Note that a request that began at `started` was answered."""
        with self._lock:
            if started >= self._opens:
                self._strikes = 0


_gates: weakref.WeakValueDictionary[str, Gate] = weakref.WeakValueDictionary()
_gates_lock = threading.Lock()


def _gate_of(name: str, *limits: Any) -> Gate:
    with _gates_lock:
        return _gates.get(name) or Gate(name, *limits)


@checked
@dataclass(frozen=True)
class Retry:
    """How often, how long and how slowly to try again.

    The n-th pause is drawn uniformly from 0 to ``initial_s * factor**n``, at most `largest_s`: exponential backoff with
    full jitter (M. Brooker, AWS Architecture Blog, 2015).

    Parameters
    ----------
    attempts : int, optional
        At most this many; by default as many as the deadline allows.
    deadline_s : float
        No attempt begins later than this after the call.
    initial_s, factor, largest_s, quota_initial_s : float
        The pauses. `quota_initial_s` takes the place of `initial_s` after a quota error, which closes the gate for half
        of the pause; those who wait at it pass within the other half.
    gate : Gate
        The pace of all requests that share this object, or the gate.
    """

    attempts: Count | None = None
    deadline_s: NotNegative = 300.0
    initial_s: NotNegative = 1.0
    factor: Annotated[float, Range(least=1)] = 2.0
    largest_s: NotNegative = 60.0
    quota_initial_s: NotNegative = 4.0
    gate: Gate = field(default_factory=Gate, repr=False, compare=False)

    @checked(cancel="stop")
    def call(
        self,
        function: Callable[..., T],
        *arguments: Any,
        classify: Callable[[Exception], Sorted | str] = sort_earthengine_error,
        stop: Stop | None = None,
        on_retry: Callable[[int, float, Sorted], None] | None = None,
    ) -> T:
        """Call a function until it succeeds, fails for good, or the time is up; return what it returned.

        `classify` sorts an error, or only gives its kind. `stop`, by default that of the `timo.fetch` that this is part
        of, is asked before each attempt and 20 times a second in a pause. `on_retry` is called before each pause with
        the number of attempts so far, the seconds of the pause, and the failure.

        A permanent error is raised as a `TimoError` without credentials, in the traceback too; one of unknown kind as
        it is; `GivenUpError` when the attempts or the time are used up.
        """
        stop, began = current_stop() if stop is None else stop, time.monotonic()

        def attempt() -> T | Sorted:
            with self.gate.turn(stop, began + self.deadline_s) as started:
                try:
                    result = function(*arguments)
                except Exception as error:
                    kind = classify(error)
                    failure = kind if isinstance(kind, Sorted) else Sorted(kind, redact(str(error)))  # type: ignore[arg-type]
                    if failure.kind == "unknown":
                        raise
                else:
                    self.gate.passed(started)
                    return result
            # Outside the handler: the error may hold a credential, and would be shown as this one's context.
            if failure.kind == "permanent":
                raise TimoError(_sentence(failure.message, failure.remedy))
            if failure.kind == "quota":
                self.gate.close(started, self._longest_quota_pause, failure.message)
            return failure

        def note(state: Any) -> None:
            if on_retry is not None:
                on_retry(state.attempt_number, state.upcoming_sleep, state.outcome.result())

        trying: Any = Retrying(
            retry=retry_if_result(lambda result: isinstance(result, Sorted)),
            stop=stop_before_delay(self.deadline_s) | stop_after_attempt(self.attempts or maxsize),
            wait=wait_random_exponential(self.initial_s, self.largest_s, self.factor),
            sleep=partial(nap, stop=stop),
            before_sleep=note,
            retry_error_callback=self._give_up,
        )
        return trying(attempt)

    def _longest_quota_pause(self, strikes: int) -> float:
        # The exponent is bounded, because a float is.
        return min(self.largest_s, self.quota_initial_s * self.factor ** min(strikes, 60))

    def _give_up(self, state: Any) -> NoReturn:
        times = "once" if state.attempt_number == 1 else f"{state.attempt_number} times"
        lasted, last = state.seconds_since_start, state.outcome.result()
        head = f"tried {times} within {lasted:.0f} s (at most {self.deadline_s:g} s) and failed each time"
        later = "Try again later; what was fetched need not be fetched again."
        raise GivenUpError(
            _sentence(f"{head}; the last message: {last.message}", last.remedy or later)
        )


def _sentence(message: str, remedy: str) -> str:
    end = "" if message.endswith((".", "!", "?")) else "."
    return f"{message}{end} {remedy}".strip()


def read_again(call: Callable[[], T], *, what: str = "The data", attempts: int = 4) -> T:
    """Call a function that reads a file or an address; call it again where the read failed for a moment.

    Pauses grow from half a second, and end when the `timo.fetch` that this is part of is stopped. What another attempt
    would not help (a missing or damaged file, a refusal) is raised as it is. Messages call it `what`, as
    "S2_20180701.tif (B4 of 2018-07-01)".
    """
    try:
        return Retry(attempts, initial_s=0.5, largest_s=15).call(call, classify=sort_read_error)
    except GivenUpError as error:
        message = f"{redact(what)} could not be read: {error}"
    raise GivenUpError(message)
