"""The retries of the ``ee`` client itself, turned off where timo makes its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_users = 0
_number = 0


@contextmanager
def without_client_retries() -> Iterator[None]:
    """Within this block the ``ee`` client makes each request once; `Retry` makes the others.

    The client's own retries (5, the same for the whole process) know neither a deadline nor cancelling. Blocks may
    overlap in many threads: the first one to begin turns them off, the last one to end restores what was there.
    """
    global _users, _number  # noqa: PLW0603 - so is what they count
    import ee

    with _lock:
        if _users == 0:
            _number = _read()
            ee.data.setMaxRetries(0)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            # Whoever set another number within the block meant it.
            if _users == 0 and _read() == 0:
                ee.data.setMaxRetries(_number)


def _read() -> int:
    import ee

    # The client has no public way to ask. Before version 1.6 it kept the number in the module.
    state = getattr(ee.data, "_get_state", None)
    return int(state().max_retries if state else vars(ee.data)["_max_retries"])
