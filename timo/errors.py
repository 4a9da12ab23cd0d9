"""The one exception that a user of timo meets."""


class TimoError(ValueError):
    """Bad input, met at the door.

    The message says what was wrong, what was expected and what to do about it. It is a `ValueError`, so that code which
    knows nothing of timo still catches it.
    """
