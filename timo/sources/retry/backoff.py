"""Requests that failed for a moment are made again, by all callers at a pace that the service bears."""

from __future__ import annotations

import random
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from timo.errors import TimoError
from timo.sources.retry.failures import Sorted, redact, sort_earthengine_error

T = TypeVar("T")
# How often a pause looks whether it was cancelled.
_NAP_S = 0.05


class CancelledError(TimoError):
    """Work was stopped because the user asked for it; it says how much is done."""


class GivenUpError(TimoError):
    """Raised when the attempts or the time for a request are used up."""


class Event(Protocol):
    """What can be asked whether to stop, as `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""


Cancel = Event | Callable[[], bool]


def is_cancelled(cancel: Cancel | None) -> bool:
    """Whether work is to stop."""
    if cancel is None:
        return False
    return bool(cancel()) if callable(cancel) else cancel.is_set()


_here = threading.local()


def current_cancel() -> Cancel | None:
    """What says whether the work of this thread is to stop; None where nobody set it."""
    return getattr(_here, "cancel", None)


def set_current_cancel(cancel: Cancel | None) -> None:
    """Say for this thread what `Retry.call` looks at where it is given nothing else."""
    _here.cancel = cancel


def _uniform(low: float, high: float) -> float:
    return random.uniform(low, high)  # noqa: S311 - jitter, not a secret


class Gate:
    """What all callers of a service wait at when it said that they are too many.

    Copies that arrive in another process by pickle share one gate there.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or uuid.uuid4().hex
        self._lock = threading.Lock()
        self._closed, self._opens, self._spread = float("-inf"), float("-inf"), 0.0
        self._strikes = 0
        self.message = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _gate_of, (self.name,)

    def close(
        self, started: float, now: float, pause: Callable[[int], float], message: str
    ) -> None:
        """Close it because a request that began at `started` was refused; pause(n) is for the n-th time in a row."""
        with self._lock:
            # Requests that were under way when it closed are of the same crowd, and tell nothing new.
            if started >= self._closed:
                longest = pause(self._strikes)
                self._strikes += 1
                self._closed, self._opens, self._spread = now, now + longest / 2, longest / 2
            self.message = message

    def passed(self, started: float) -> None:
        """Note that a request that began at `started` was answered."""
        with self._lock:
            if started >= self._opens:
                self._strikes = 0

    def opens(self) -> tuple[float, float]:
        """When it opens, and over how many seconds from then on those who wait are to spread."""
        with self._lock:
            return self._opens, self._spread


_gates: weakref.WeakValueDictionary[str, Gate] = weakref.WeakValueDictionary()
_gates_lock = threading.Lock()


def _gate_of(name: str) -> Gate:
    with _gates_lock:
        gate = _gates.get(name)
        if gate is None:
            gate = _gates[name] = Gate(name)
        return gate


@dataclass(frozen=True)
class Retry:
    """How often, how long and how slowly to try again.

    The n-th pause is drawn uniformly from 0 to ``initial_s * factor**n``, at most `largest_s`: exponential backoff with
    full jitter. A quota error closes a gate for all callers that share this object; they come back spread over time.

    Parameters
    ----------
    attempts : int, optional
        At most so many; by default as many as the deadline allows.
    deadline_s : float
        No attempt begins later than this after the call.
    initial_s, factor, largest_s : float
        The pauses.
    quota_initial_s : float
        Takes the place of `initial_s` after a quota error. The gate stays shut for half of a pause, and those who wait
        at it pass within the other half.
    clock, sleep, uniform : callable
        Time, waiting and chance: for tests.

    References
    ----------
    M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    attempts: int | None = None
    deadline_s: float = 300.0
    initial_s: float = 1.0
    factor: float = 2.0
    largest_s: float = 60.0
    quota_initial_s: float = 4.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    uniform: Callable[[float, float], float] = field(default=_uniform, repr=False)
    gate: Gate = field(default_factory=Gate, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise TimoError(f"attempts must be at least 1; got {self.attempts}")
        pauses = (self.initial_s, self.largest_s, self.quota_initial_s, self.deadline_s)
        if min(pauses) < 0 or self.factor < 1:
            raise TimoError(
                f"pauses and deadline must not be negative, and factor at least 1: {self}"
            )
        with _gates_lock:
            _gates.setdefault(self.gate.name, self.gate)

    def call(
        self,
        function: Callable[..., T],
        *arguments: Any,
        classify: Callable[[Exception], Sorted | str] = sort_earthengine_error,
        cancel: Cancel | None = None,
        on_retry: Callable[[int, float, Sorted], None] | None = None,
    ) -> T:
        """Call a function until it succeeds, fails for good, or the time is up.

        Parameters
        ----------
        function : callable
            Called with `arguments`.
        classify : callable
            Takes an error; returns a `Sorted` or only its kind: "transient", "quota", "permanent" or "unknown".
        cancel : threading.Event or callable, optional
            Looked at before each attempt and 20 times a second during a pause; by default that of the
            `timo.sources.fetching.fetch` that this is part of.
        on_retry : callable, optional
            Called before each pause with the number of attempts so far, the seconds of the pause, and what went wrong.

        Returns
        -------
        Any
            What `function` returned.

        Raises
        ------
        TimoError
            If the error is permanent: with the service's message and the remedy. If the attempts or the time are used
            up: how often and how long it was tried, and the last message. No credential is in it, nor in the traceback
            that it is shown with.
        CancelledError
            If it was cancelled.
        Exception
            What `function` raised, if it is of unknown kind.
        """
        cancel = current_cancel() if cancel is None else cancel
        trial = _Trial(self, classify, cancel, on_retry, self.clock())
        while True:
            trial.wait()
            started = self.clock()
            try:
                result = function(*arguments)
            except Exception as error:
                failure = trial.sort(error)
                if failure.kind == "unknown":
                    raise
            else:
                self.gate.passed(started)
                return result
            # Outside the handler: the error it was may hold a credential, and would be shown as this one's context.
            trial.failed(failure, started)

    def longest(self, initial_s: float, failures: int) -> float:
        """The longest pause after so many failures, in seconds."""
        # The exponent is bounded, because a float is.
        return min(self.largest_s, initial_s * self.factor ** min(failures, 60))


class _Trial:
    """One call's attempts."""

    def __init__(
        self,
        retry: Retry,
        classify: Callable[[Exception], Sorted | str],
        cancel: Cancel | None,
        on_retry: Callable[[int, float, Sorted], None] | None,
        began: float,
    ) -> None:
        self.retry, self.classify, self.cancel, self.on_retry = retry, classify, cancel, on_retry
        self.began, self.resume, self.made = began, began, 0
        self.last: Sorted | None = None

    def sort(self, error: Exception) -> Sorted:
        kind = self.classify(error)
        return kind if isinstance(kind, Sorted) else Sorted(kind, redact(str(error)))  # type: ignore[arg-type]

    def wait(self) -> None:
        """Wait for the pause and for the gate."""
        retry, passes = self.retry, self.resume
        seen = float("-inf")
        while True:
            if is_cancelled(self.cancel):
                raise CancelledError("cancelled by the user")
            opens, spread = retry.gate.opens()
            if opens > max(seen, retry.clock()):
                seen, passes = opens, max(passes, opens + retry.uniform(0.0, spread))
            left = passes - retry.clock()
            if left <= 0:
                return
            if passes > self.began + retry.deadline_s:
                raise self.given_up()
            retry.sleep(left if self.cancel is None else min(left, _NAP_S))

    def failed(self, failure: Sorted, started: float) -> None:
        """Decide when to try again."""
        self.made, self.last = self.made + 1, failure
        retry, now = self.retry, self.retry.clock()
        if failure.kind == "permanent":
            raise TimoError(_sentence(failure.message, failure.remedy))
        if failure.kind == "quota":
            retry.gate.close(
                started, now, lambda n: retry.longest(retry.quota_initial_s, n), failure.message
            )
        longest = retry.longest(retry.initial_s, self.made - 1)
        pause = retry.uniform(0.0, longest)
        self.resume = now + pause
        used_up = retry.attempts is not None and self.made >= retry.attempts
        if used_up or self.resume > self.began + retry.deadline_s:
            raise self.given_up()
        if self.on_retry is not None:
            self.on_retry(self.made, pause, failure)

    def given_up(self) -> GivenUpError:
        """The error that says how often and how long it was tried."""
        allowed = f"{self.retry.deadline_s:g} s"
        if self.last is None:
            said = self.retry.gate.message
            return GivenUpError(
                f"no request could be made within {allowed}, because the service asks for fewer of them: {said}"
            )
        times = "once" if self.made == 1 else f"{self.made} times"
        lasted = self.retry.clock() - self.began
        head = f"the request was tried {times} within {lasted:.0f} s (at most {allowed}) and failed each time"
        later = "Try again later; what was fetched need not be fetched again."
        return GivenUpError(
            _sentence(f"{head}; the last message: {self.last.message}", self.last.remedy or later)
        )


def _sentence(message: str, remedy: str) -> str:
    end = "" if message.endswith((".", "!", "?")) else "."
    return f"{message}{end} {remedy}".strip()
