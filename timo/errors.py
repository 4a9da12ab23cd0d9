"""The one exception that a user of timo meets, and warnings that point at the user's own line."""

import sys
import warnings


class TimoError(ValueError):
    """Bad input, met at the door.

    The message says what was wrong, what was expected and what to do about it. It is a `ValueError`, so that code which
    knows nothing of timo still catches it.
    """


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside of timo that led here, however deep the call is."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("timo", "timo_widgets")
