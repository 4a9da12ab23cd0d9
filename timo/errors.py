"""The one exception that a user of timo meets, and warnings that point at the user's own line."""

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


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


@contextmanager
def said_once(what: str) -> Iterator[None]:
    """Give warnings that differ only by their numbers once, with how many other `what` had the like."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    alike: dict[tuple[type[Warning], str], list[str]] = {}
    for warning in caught:
        text = str(warning.message)
        key = warning.category, re.sub(r"\d[\d.,e+-]*", "#", text)
        alike.setdefault(key, []).append(text)
    for (category, _), (text, *more) in alike.items():
        warn(f"{text} (and the like in {len(more)} other {what})" if more else text, category)


def _is_ours(module: str) -> bool:
    # A `with` block of ours ends in a function of contextlib.
    return module.partition(".")[0] in ("timo", "timo_widgets", "contextlib")
