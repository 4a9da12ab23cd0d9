"""Stopping work: one exception, one kind of `stop=` or `cancel=` argument, for all of timo."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from timo.errors import TimoError

# How often a pause looks whether it was cancelled.
_NAP_S = 0.05
Cancel = threading.Event | Callable[[], bool]


class CancelledError(TimoError):
    """Raised when work is cancelled by the user; says how much is done."""


def is_cancelled(cancel: Cancel | None) -> bool:
    """Return whether work is to stop."""
    if cancel is None:
        return False
    return bool(cancel()) if callable(cancel) else cancel.is_set()


_here = threading.local()


def current_cancel() -> Cancel | None:
    """Return what cancels the work of this thread; None where nobody set it."""
    return getattr(_here, "cancel", None)


def set_current_cancel(cancel: Cancel | None) -> None:
    """Set what cancels the work of this thread, where no other `cancel` is given."""
    _here.cancel = cancel


def nap(seconds: float, cancel: Cancel | None) -> None:
    """Sleep; raise `CancelledError` within a twentieth of a second of being cancelled."""
    until = time.monotonic() + seconds
    while not is_cancelled(cancel):
        if (left := until - time.monotonic()) <= 0:
            return
        time.sleep(left if cancel is None else min(left, _NAP_S))
    raise CancelledError("cancelled by the user")
