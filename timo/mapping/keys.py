"""Classes and strata as they are meant: 2018, 2018.0 and "2018 " are one class, whatever a spreadsheet made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from timo.checks import described, plain
from timo.errors import TimoError

# What has an index stands first: as a plain sequence, or mapping, it would lose it where arguments are checked.
Areas = pd.Series | Mapping[Any, float]
Classes = pd.Series | xr.DataArray | np.ndarray | Sequence[Hashable]
# A whole number in a cell of a spreadsheet, of any language.
_WHOLE = re.compile(r"[+-]?\d{1,18}([.,]0*)?")


def plain_key(value: Any) -> Any:
    """Return a class as it is meant: whole numbers as int, also where they are text; text without blanks around it."""
    value = plain(value)
    if isinstance(value, str):
        value = value.strip()
        return int(re.split("[.,]", value)[0]) if _WHOLE.fullmatch(value) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_number(key: Any) -> bool:
    """Return whether a class is a number, True and False included."""
    return isinstance(key, int | float)


def is_blank(key: Any) -> bool:
    """Return whether there is no class: an empty cell, None, NaN or NaT."""
    return key is None or key is pd.NA or key is pd.NaT or key == "" or key != key  # noqa: PLR0124


def read_keys(classes: Classes, name: str) -> list[Hashable]:
    """Return the class of each sample unit; raise a `TimoError` where one is missing, or no class at all."""
    held = classes if isinstance(classes, list | tuple) else np.asarray(classes).ravel()
    keys = [
        plain_key(v) for v in pd.Series(held, dtype=None if len(held) else object).astype(object)
    ]
    if odd := [key for key in keys if not isinstance(key, Hashable) or hasattr(key, "__array__")]:
        raise TimoError(f"{name} must hold numbers or names of classes; got {described(odd[0])}.")
    if blank := sum(map(is_blank, keys)):
        raise TimoError(
            f"{name} lacks a value for {blank} sample units: complete it; leaving out the difficult ones would bias "
            "the areas."
        )
    return keys


def read_floats(by_stratum: Areas, name: str) -> pd.Series:
    """Return a number for each stratum, with the strata as they are meant."""
    try:
        numbers = pd.Series(by_stratum, dtype="float64")
        keys = [plain_key(key) for key in numbers.index]
    except (TypeError, ValueError) as error:
        raise TimoError(f"{name} must give a number for each stratum: {error}.") from error
    if len(set(keys)) < len(keys):
        raise TimoError(f"{name} names a stratum twice: {list(numbers.index)}.")
    return pd.Series(numbers.to_numpy(copy=True), index=pd.Index(keys))


def check_reference(keys: Iterable[Any], strata: Iterable[Any], name: str) -> None:
    """Refuse classes that are misspelt strata, no data, or numbers and names at once."""
    strata = list(strata)
    found = [key for key in dict.fromkeys(keys) if key not in strata]
    if wrong := [key for key in found if is_number(key) and not (key >= 0 and key == key // 1)]:
        raise TimoError(
            f"{name} holds {wrong[0]}, and classes are whole numbers from 0 on, or names; a negative one means no "
            "data. Note what is there for each unit: leaving out the difficult ones would bias the areas."
        )
    names = [key for key in found if not is_number(key)]
    if names and any(is_number(key) for key in keys):
        raise TimoError(
            f"{name} holds {names[:3]} among numbers: write the number of the class instead."
        )
    _check_spelling(names, strata, name)


def _check_spelling(names: list[Any], strata: list[Any], name: str) -> None:
    spelt: dict[str, Any] = {}
    for key in (key for key in (*strata, *names) if isinstance(key, str)):
        if (other := spelt.setdefault(key.casefold(), key)) != key:
            raise TimoError(
                f"{name} holds {key!r}, which is {other!r} but for its capitals: spell both alike, as in "
                f".replace({{{key!r}: {other!r}}})."
            )


def paired(first: Classes, second: Classes) -> tuple[Classes, Classes]:
    """Return two columns in the same order of units: those with an index, or coordinates, are matched by it."""
    if isinstance(first, xr.DataArray) and isinstance(second, xr.DataArray):
        try:
            xr.align(first, second, join="exact", copy=False)
            return first, second.transpose(*first.dims)
        except ValueError as error:
            raise TimoError(
                f"map_class and reference_class are not on the same coordinates: {error}."
            ) from error
    if not isinstance(first, pd.Series) or not isinstance(second, pd.Series):
        return first, second
    if first.index.equals(second.index) or len(first) != len(second):
        return first, second
    unique = first.index.is_unique and second.index.is_unique
    if not unique or not second.index.isin(first.index).all():
        raise TimoError(
            "map_class and reference_class have different indexes, so that which units belong together is not known: "
            "take both from one table, see timo.mapping.read_sample, or give .to_numpy() of both where their rows are "
            "in the same order."
        )
    return first, second.reindex(first.index)


def sort_classes(keys: Iterable[Any]) -> list[Any]:
    """Return classes in order: numbers, then names."""
    return sorted(
        keys,
        key=lambda k: (not is_number(k), k if is_number(k) else math.inf, str(type(k)), str(k)),
    )
