"""Requests that fail for a moment are made again; errors are sorted, and no credential is in what is said of them."""

from timo.sources.retry.backoff import (
    Cancel,
    CancelledError,
    Gate,
    Retry,
    current_cancel,
    is_cancelled,
    set_current_cancel,
)
from timo.sources.retry.client import without_client_retries
from timo.sources.retry.failures import Sorted, redact, sort_earthengine_error
from timo.sources.retry.reads import read_again, sort_read_error

__all__ = [
    "Cancel",
    "CancelledError",
    "Gate",
    "Retry",
    "Sorted",
    "current_cancel",
    "is_cancelled",
    "read_again",
    "redact",
    "set_current_cancel",
    "sort_earthengine_error",
    "sort_read_error",
    "without_client_retries",
]
