"""Names and order of classes: what text, numbers and booleans of a file mean."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from timo.checks import described, plain
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError

# More than these are no classes but measurements, ids or free text.
_MOST_CLASSES = 1000
_MOST_FRACTIONS = 12
_LISTED = 8


def name_of(value: Any) -> str | None:
    """Return the name that a value of a file gives a class; None where it is missing.

    A number is its own name and never a position: 1, 1.0 and the text "1" are the class "1".
    """
    value = plain(value)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return value.strip() or None
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if np.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else f"{value:.9g}"
    if isinstance(value, dt.date | np.datetime64 | dt.timedelta | np.timedelta64):
        raise TimoError(
            f"The class {value} is a date or a duration. Name the column of the classes with column=, and the one of "
            "the dates with dates=."
        )
    raise TimoError(
        f"The class {described(value)} is no text, number or boolean. Name the column of the classes with column=."
    )


@dataclass(frozen=True)
class Naming:
    """Classes in the order of their numbers, and the number of each name in the file; `order` says why that order."""

    classes: tuple[str, ...]
    numbers: Mapping[str, int]
    ignored: frozenset[str]
    order: str

    def number(self, name: str | None) -> int:
        """Return the number of a name in the file; -1 where it is missing or ignored."""
        return UNLABELLED if name is None or name in self.ignored else self.numbers[name]


def make_naming(
    found: Iterable[Any],
    classes: Sequence[Any] | Mapping[Any, Any] | None,
    ignore: Iterable[Any],
    what: str,
    order: str = "as in classes=",
) -> Naming:
    """Number the classes of a file.

    Parameters
    ----------
    found : iterable
        The different values in the file.
    classes : sequence of names, or mapping of values to names, optional
        What they are called, in the order of the numbers; several values may have one name. By default each value is a
        class: numbers ascending, text in alphabetical order.
    ignore : iterable
        Values of the file to leave unlabelled.
    what : str
        Where they were found, for messages.
    order : str
        Why `classes` has its order, for the report.
    """
    values = [value for value in found if name_of(value) is not None]
    names = list(dict.fromkeys(name_of(value) or "" for value in values))
    ignored = frozenset(name for name in map(name_of, ignore) if name is not None)
    left = [name for name in names if name not in ignored]
    if classes is None:
        _check_number_of(left, values, what)
        ordered = ordered_names(left)
        why = "numbers, ascending" if are_numbers(left) else "alphabetical"
        return Naming(tuple(ordered), {name: i for i, name in enumerate(ordered)}, ignored, why)
    called = _mapped(classes) if isinstance(classes, Mapping) else _listed(classes)
    called = {name: called[name] for name in called if name not in ignored}
    if not called:
        raise TimoError("classes names no class that is not ignored. Name one at least.")
    if unknown := [name for name in left if name not in called]:
        raise TimoError(_complaint(unknown, values, classes, called, what))
    kept = tuple(dict.fromkeys(called.values()))
    numbers = {name: kept.index(called[name]) for name in called}
    return Naming(kept, numbers, ignored, order)


def ordered_names(names: Iterable[str]) -> list[str]:
    """Return names in order: numbers ascending, all else alphabetically."""
    names = list(names)
    return sorted(names, key=(lambda n: (float(n), n)) if are_numbers(names) else None)


def shortlist(names: Sequence[str]) -> str:
    """Return names for a message, of many the first ones."""
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, names[:_LISTED])) + more


def are_numbers(names: Sequence[str]) -> bool:
    """Return whether all names are finite numbers."""
    try:
        return bool(names) and bool(np.isfinite([float(name) for name in names]).all())
    except ValueError:
        return False


def _check_number_of(names: Sequence[str], values: Sequence[Any], what: str) -> None:
    fractions = sum(
        isinstance(v, float | np.floating) and not float(v).is_integer() for v in values
    )
    if fractions > _MOST_FRACTIONS:
        raise TimoError(
            f"The {what} holds {len(names):,} different numbers, fractions among them: that is a measurement. Use "
            "numeric=True for a regression, or name the column of the classes with column=."
        )
    if len(names) > _MOST_CLASSES:
        raise TimoError(
            f"The {what} holds {len(names):,} different values ({shortlist(list(names))}): those are no classes. Name "
            "the column of the classes with column=, or give classes= and ignore=."
        )
    if not names:
        raise TimoError(
            f"The {what} holds no class: all its values are missing or ignored. Name another one with column=."
        )


def _mapped(classes: Mapping[Any, Any]) -> dict[str, str]:
    """Return the class of each name in the file."""
    called: dict[str, str] = {}
    for value, given in classes.items():
        key, name = name_of(value), name_of(given)
        if key is None or name is None:
            raise TimoError(
                f"classes={{{value!r}: {given!r}}} has an empty value or name. Leave it out, and give ignore=[...] for "
                "values to leave unlabelled."
            )
        if called.setdefault(key, name) != name:
            raise TimoError(
                f"classes names the value {key!r} twice: {called[key]!r} and {name!r}. 1, 1.0 and '1' are the same."
            )
    return called


def _listed(classes: Sequence[Any]) -> dict[str, str]:
    names = [name_of(value) for value in classes]
    if None in names or len(set(names)) < len(names):
        raise TimoError(
            f"classes={list(classes)!r} must be different names. Give each class once, or a mapping such as "
            '{1: "wheat", 2: "maize"}.'
        )
    return {name: name for name in names if name is not None}


def _complaint(
    unknown: list[str],
    values: Sequence[Any],
    classes: Sequence[Any] | Mapping[Any, Any],
    called: Mapping[str, str],
    what: str,
) -> str:
    """Say which values have no class, and what to give instead."""
    unknown = ordered_names(unknown)
    known = shortlist(list(called))
    if isinstance(classes, Mapping):
        remedy = f"Add them, as in classes={{..., {unknown[0]!r}: 'name'}}"
    elif all(isinstance(plain(v), bool | int | float) for v in values):
        # The numbers themselves, as they stand in the file.
        listed = [plain(v) for v in values if name_of(v) in unknown][:3]
        pairs = ", ".join(f"{v!r}: 'name'" for v in sorted(listed))
        return (
            f"The {what} holds {shortlist(unknown)}, and classes= has {known}: a number is never a position in a list. "
            f"Say what each means, as in classes={{{pairs}, ...}}, or leave classes out."
        )
    else:
        remedy = f"Add them, as in classes=[..., {unknown[0]!r}]"
    return (
        f"The {what} holds {shortlist(unknown)}, and classes= has {known}. {remedy}, or leave them out with "
        f"ignore=[{unknown[0]!r}, ...]."
    )
