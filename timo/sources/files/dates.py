"""When a file was taken: from its name, its tags, or what the user says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from timo.errors import TimoError

_YEARS = range(1972, 2100)  # from the first Landsat on
# A number that is part of a longer one is no date. Separators are all the same, or all missing.
_DAY = r"(?P<year>\d{4})(?P<sep>[-_.]?)(?P<month>\d{2})(?P=sep)(?P<day>\d{2})"
_CLOCK = r"(?P<hour>\d{2})[-:_]?(?P<minute>\d{2})[-:_]?(?P<second>\d{2})"
_PATTERNS = (
    re.compile(rf"(?<!\d){_DAY}[Tt]{_CLOCK}(?!\d)"),
    re.compile(rf"(?<!\d)(?P<year>\d{{4}})(?P<month>\d\d)(?P<day>\d\d){_CLOCK}(?!\d)"),
    re.compile(rf"(?<!\d){_DAY}(?!\d)"),
    re.compile(r"(?<!\d)(?P<year>\d{4})(?P<of_year>\d{3})(?!\d)"),
)
# Products whose names hold more than one date: the first after this is when the instrument looked, the others are when
# the file was made or when the pass ended. ESA, Sentinel-2 Products Specification Document and Sentinel-1 Product
# Specification; USGS, Landsat Collection 2 product identifiers; LP DAAC, MODIS naming conventions.
_PRODUCTS = re.compile(
    r"(?<![A-Za-z0-9])(S2[A-D]_MSIL[12][AC]_|S1[A-D][-_](IW|EW|SM|WV|S\d)|L[COTEM]0\d_L\d\w\w_\d{6}_|M[OYC]D\w+\.A)",
    re.IGNORECASE,
)
# In order of trust: the last is often when the file was written.
_TAGS = (
    "ACQUISITION_DATETIME",
    "ACQUISITION_DATE",
    "ACQUISITIONDATETIME",
    "DATE_ACQUIRED",
    "SENSING_TIME",
    "DATETIME",
    "TIFFTAG_DATETIME",
)


@dataclass(frozen=True, order=True)
class Moment:
    """When something was observed.

    Attributes
    ----------
    time : pandas.Timestamp
        UTC, without a time zone; midnight where only the day is known.
    exact : bool
        Whether the time of day is known.
    """

    time: pd.Timestamp
    exact: bool = False

    def __str__(self) -> str:
        return f"{self.time:%Y-%m-%d %H:%M:%S}" if self.exact else f"{self.time:%Y-%m-%d}"


def as_moment(value: Any) -> Moment:
    """What a date, a time or their text says; midnight means the day.

    Raises
    ------
    ValueError, TypeError
        If it is none.
    """
    if isinstance(value, Moment):
        return value
    if isinstance(value, float):
        # pandas would count it in nanoseconds from 1970 on.
        raise ValueError(f"{value!r} is no date")
    if isinstance(value, str | int | np.integer):
        text = str(value).strip()
        # Numbers alone are dates only in the ways of names; with colons there is a time of day, in ISO's way or TIFF's.
        if ":" not in text and (found := find_dates(text)):
            return found[0]
        value = re.sub(r"^(\d{4}):(\d{2}):(\d{2})", r"\1-\2-\3", text)
        if not re.match(r"\d{4}", value):
            raise ValueError(f"{text!r} is no date")
    time = pd.Timestamp(value)
    if time is pd.NaT or pd.isna(time):
        raise ValueError(f"{value!r} is no date")
    if time.tzinfo is not None:
        time = time.tz_convert("UTC").tz_localize(None)
    return Moment(time.as_unit("ns"), time != time.normalize())


def find_dates(name: str) -> list[Moment]:
    """All dates that stand in a name, in their order."""
    found: list[tuple[int, Moment]] = []
    rest = name
    for pattern in _PATTERNS:
        for match in pattern.finditer(rest):
            if moment := _moment(match.groupdict()):
                found.append((match.start(), moment))
                # What is read once is not read again as part of a shorter pattern.
                rest = rest[: match.start()] + " " * len(match[0]) + rest[match.end() :]
    return [moment for _, moment in sorted(found, key=lambda pair: pair[0])]


def strip_dates(name: str) -> str:
    """The name with a space for each date in it, so that their digits are not taken for anything else."""
    for pattern in _PATTERNS:
        name = pattern.sub(lambda m: " " if _moment(m.groupdict()) else m[0], name)
    return name


def date_of_name(path: Path) -> Moment | None:
    """When a file was taken, by its name or else by its folder's; None if neither says.

    Raises
    ------
    TimoError
        If the name says two different days, and is not one whose rules are known.
    """
    for name in (path.name, path.parent.name):
        found = find_dates(name)
        if (product := _PRODUCTS.search(name)) and found:
            return find_dates(name[product.start() :])[0]
        if len({moment.time.normalize() for moment in found}) > 1:
            listed = " and ".join(str(moment) for moment in found)
            raise TimoError(
                f"{path} has more than one date in its name: {listed}. Say which it is: "
                r'pattern=r"(?P<date>\d{8})_...", or dates=[...], or dates=lambda name: ...'
            )
        if found:
            return max(found, key=lambda moment: moment.exact)
    return None


def date_of_tags(tags: Mapping[str, str]) -> Moment | None:
    """When a file was taken, by its tags; None if none of them is a date."""
    upper = {key.upper(): value for key, value in tags.items()}
    for key in _TAGS:
        text = upper.get(key, "")
        if key == "ACQUISITION_DATE" and text and "ACQUISITION_TIME" in upper:
            text = f"{text[:10]}T{upper['ACQUISITION_TIME'][:8]}"
        try:
            return as_moment(text)
        except (ValueError, TypeError):
            continue  # a tag in free text: the next may be a date
    return None


def _moment(groups: Mapping[str, str | None]) -> Moment | None:
    """The date that a match means; None if its digits are no date."""
    year = int(groups["year"] or 0)
    if year not in _YEARS:
        return None
    try:
        if of_year := groups.get("of_year"):
            time = pd.Timestamp(year, 1, 1) + pd.Timedelta(days=int(of_year) - 1)
            return Moment(time.as_unit("ns")) if time.year == year else None
        hour, minute, second = (int(groups.get(key) or 0) for key in ("hour", "minute", "second"))
        month, day = int(groups["month"] or 0), int(groups["day"] or 0)
        time = pd.Timestamp(datetime(year, month, day, hour, minute, second))
    except ValueError:
        return None
    return Moment(time.as_unit("ns"), groups.get("hour") is not None)
