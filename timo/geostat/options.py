"""Options that are numbers, and warnings that are said once."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, TypeGuard

import numpy as np

from timo.errors import TimoError


def is_number(value: Any) -> bool:
    """Whether it is one real number, no boolean and not NaN."""
    return (
        isinstance(value, Real)
        and not isinstance(value, bool | np.bool_)
        and bool(np.isfinite(float(value)))
    )


def is_scalar(value: Any) -> TypeGuard[float]:
    """Whether it is a number, or an array that holds just one, as a reduction of xarray gives."""
    return is_number(value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value)


def whole(value: Any, name: str, least: int = 1, otherwise: str = "") -> int:
    """A whole number; 8.0 is one.

    Raises
    ------
    TimoError
        If it is none, or less than the least.
    """
    if not is_number(value) or float(value) != int(value) or value < least:
        raise TimoError(
            f"{name} must be a whole number of {least} or more{otherwise}; got {value!r}"
        )
    return int(value)


def count(value: Any, name: str) -> int | None:
    """A whole number of 1 or more, or None.

    Raises
    ------
    TimoError
        If it is neither.
    """
    return None if value is None else whole(value, name, otherwise=", or None")


@contextmanager
def said_once(what: str, stacklevel: int = 4) -> Iterator[None]:
    """Warnings that differ only by their numbers are given once, with how many more `what` there were."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    alike: dict[tuple[type[Warning], str], list[str]] = {}
    for warning in caught:
        text = str(warning.message)
        key = warning.category, re.sub(r"\d[\d.,e+-]*", "#", text)
        alike.setdefault(key, []).append(text)
    for (category, _), (text, *more) in alike.items():
        told = f"{text} (and the like in {len(more)} other {what})" if more else text
        warnings.warn(told, category, stacklevel=stacklevel)
