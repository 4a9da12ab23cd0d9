r"""Dates: one strict grammar for what users ask for, and for what names, tags and coordinates of files say.

Read are year-month-day (2018-07-01, 20180701, 2018/07/01), day of the year (2018182, 2018-182), ISO 8601 with a time,
a zone and fractions, and compact times (20180701T092031). A month (2018-07, 201807) or a year is read where an option
says that it is the date, and means its first day, as composites are dated. So does a span (2018-07-01/2018-07-31, CF
bounds, time_coverage_start): its start. Everything else is refused: no library guesses whether 07/08 is in July.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from timo.checks import described, is_number, plain
from timo.errors import TimoError, warn

# Before there were satellites, and well before nanoseconds since 1970 end; in names, from the first Landsat on.
_YEARS = (1950, 2200)
_SENSED = (1972, 2099)
_REACHED = (1900, 2261)  # by nanoseconds

# --- Grammar ---------------------------------------------------------------------------------------------------------

_CLOCK = r"(?P<hour>\d{2})[-:_]?(?P<minute>\d{2})[-:_]?(?P<second>\d{2})"
_COMPACT = r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"
_ALL_OF_DAY = (
    r"(?P<year>\d{4})(?:(?P<sep>[-_./:])(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})|(?P<month_>\d{2})(?P<day_>\d{2})"
    r"|-?(?P<of_year>\d{3}))(?:(?:[T _]\s*)(?P<hour>\d{2})(?:[-:_]?(?P<minute>\d{2})(?:[-:_]?(?P<second>\d{2})"
    r"(?:[.,](?P<fraction>\d{1,9})\d*)?)?)?\s*(?P<zone>Z|UTC|[+-]\d{2}:?(?:\d{2})?)?)?"
)
# Patterns of a whole text, each with the unit of what it says.
_WHOLE = [
    (re.compile(_ALL_OF_DAY, re.IGNORECASE), "D"),
    (re.compile(_COMPACT + _CLOCK), "D"),
    (re.compile(r"(?P<year>\d{4})(?:[-_./](?P<month>\d{1,2})|(?P<month_>\d{2}))"), "M"),
    (re.compile(r"(?P<year>\d{4})-?[Qq](?P<quarter>[1-4])"), "Q"),
    (re.compile(r"(?P<year>\d{4})"), "Y"),
]
# In names a number that is part of a longer one is no date. Separators are all the same, or all missing.
_DAY = r"(?P<year>\d{4})(?P<sep>[-_.]?)(?P<month>\d{2})(?P=sep)(?P<day>\d{2})"
_IN_NAMES = tuple(
    re.compile(rf"(?<!\d){pattern}(?!\d)")
    for pattern in (
        f"{_DAY}[Tt]{_CLOCK}",
        _COMPACT + _CLOCK,
        rf"(?P<year>\d{{4}})(?P<of_year>\d{{3}})[Tt]{_CLOCK}",
        _DAY,
        r"(?P<year>\d{4})-?(?P<of_year>\d{3})",
    )
)
_MONTH_IN_NAMES = re.compile(r"(?<!\d)(?P<year>\d{4})-(?P<month>\d{2})(?![-_.]?\d)")
_SPLIT_CLOCK = re.compile(rf"{_COMPACT}[-_]{_CLOCK}(?!\d)")
# Products whose names hold more than one date: the first after this is when the instrument looked, the others are when
# the file was made or when the pass ended. ESA, Sentinel-2 Products Specification Document and Sentinel-1 Product
# Specification; USGS, Landsat product identifiers; LP DAAC, MODIS and HLS naming conventions; Planet, item ids; FORCE,
# Level-2 format; Theia; Earth Engine, system:index of COPERNICUS/S2.
_PRODUCTS = re.compile(
    r"(?<![A-Za-z0-9])(S2[A-D]_MSIL[12][AC]_|S1[A-D][-_](IW|EW|SM|WV|S\d)|L[COTEM]0\d_L\d\w\w_\d{6}_|"
    r"L[COTEM]\d{7}(?=\d{7}[A-Z]{3}\d\d)|M[OYC]D\w+\.A|HLS\.[LS]30\.|SENTINEL2[A-D]_|"
    r"(?=\d{8}T\d{6}_\d{8}T\d{6}_T\d\d[A-Z]{3})|(?=\d{8}_\d{6}_(\d\d_)?[0-9a-f]{4}_)|(?=\d{8}_LEVEL\d_))",
    re.IGNORECASE,
)
# Tags that say when the instrument looked, in order of trust, some with a time of its own beside. TIFFTAG_DATETIME, and
# tags that say when a file was created or processed, do not belong to them.
_CLOCKS = {
    "ACQUISITIONDATE": "ACQUISITIONTIME",
    "DATEACQUIRED": "SCENECENTERTIME",
    "RANGEBEGINNINGDATE": "RANGEBEGINNINGTIME",
}
_TAGS = (
    "ACQUISITIONDATETIME ACQUISITIONDATE DATEACQUIRED ACQUIRED SENSINGTIME SENSINGSTART DATATAKE1DATATAKESENSINGSTART "
    "PRODUCTSTARTTIME STARTDATETIME TIMECOVERAGESTART RANGEBEGINNINGDATE DATE DATETIME"
)


@dataclass(frozen=True, order=True)
class Moment:
    """When something was observed, in UTC without a time zone: `exact` if the time of day is known, else midnight."""

    time: pd.Timestamp
    exact: bool = False

    def __str__(self) -> str:
        return f"{self.time:%Y-%m-%d %H:%M:%S}" if self.exact else f"{self.time:%Y-%m-%d}"


def as_moment(value: Any) -> Moment:
    """Read a date or a time in the grammar of this module; midnight means the day, a month, a year or a span its start.

    Of a text that may be read as two dates the error has both as they are to be written.
    """
    if isinstance(value, Moment):
        return value
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) or _is_whole(value):
        return _read(_start_of_span(str(plain(value))).strip())
    if isinstance(value, pd.Period):
        value = value.start_time
    if hasattr(value, "calendar") and hasattr(value, "toordinal"):
        return _of_calendar(value)
    if isinstance(value, dt.date | np.datetime64) and not pd.isna(value):
        return _as_utc(pd.Timestamp(value))
    raise TimoError(f"{described(value)} is no date: write it as 2018-07-01")


def _is_whole(value: Any) -> bool:
    # A float may be a number of days, and is no year.
    return is_number(value) and not isinstance(plain(value), float)


def _start_of_span(text: str) -> str:
    """Return the start of an interval of ISO 8601, which has a whole date on both sides; else the text."""
    first, _, last = text.partition("/")
    return first if all(re.match(r"\s*\d{4}-\d\d", part) for part in (first, last)) else text


def _as_utc(time: pd.Timestamp) -> Moment:
    if time.tzinfo is not None:
        time = time.tz_convert("UTC").tz_localize(None)
    try:
        return Moment(time.as_unit("ns"), time != time.normalize())
    except pd.errors.OutOfBoundsDatetime as error:
        raise TimoError(f"{time} is no date of a satellite image") from error


def _read(text: str) -> Moment:
    """Read the moment that a text says as a whole, or the only date in it."""
    if found := _parse(text):
        start, unit = found
        # 201207 is July 2012, and 7 December 2020 to those who write years with two digits.
        if unit == "M" and (other := _short(text)):
            warn(
                f"{text} is read as {start:%B %Y}, and not as {other.day} {other:%B %Y}: a year has four digits. If "
                f"the day is meant, give dates=[...] with {other:%Y-%m-%d}."
            )
        return _as_utc(start)
    # The rest of an impossible time, as 25:00, shows that the text is not understood.
    inside = [] if re.search(r":|\d[Tt ]\d", strip_dates(text)) else find_dates(text)
    if len({moment.time.normalize() for moment in inside}) == 1:
        return max(inside, key=lambda moment: moment.exact)
    if remedy := _meant(text):
        raise TimoError(f"{text!r} cannot be read as a date: {remedy}")
    raise TimoError(
        f"{text!r} is no date: write it as 2018-07-01, the year first and with four digits"
    )


def _parse(text: str) -> tuple[pd.Timestamp, str] | None:
    """Return start and unit ("Y", "Q", "M", "D") of what a whole text says; None if that is no date."""
    for pattern, unit in _WHOLE:
        match = pattern.fullmatch(text.strip())
        if match and (start := _start(match.groupdict(), _YEARS)) is not None:
            return start, unit
    return None


def _start(groups: Mapping[str, str | None], years: tuple[int, int]) -> pd.Timestamp | None:
    """Return the first instant of what groups of a match say; None if there is no such date in these years."""
    said = {key.rstrip("_"): value for key, value in groups.items() if value}
    if not years[0] <= int(said["year"]) <= years[1]:
        return None
    month = 3 * int(said["quarter"]) - 2 if "quarter" in said else int(said.get("month", 1))
    hour, minute, second = (int(said.get(key, 0)) for key in ("hour", "minute", "second"))
    try:
        time = dt.datetime(int(said["year"]), month, int(said.get("day", 1)), hour, minute, second)
        time += dt.timedelta(days=int(said.get("of_year", 1)) - 1)
    except (ValueError, OverflowError):
        return None
    if time.year != int(said["year"]):
        return None
    fraction = int(said.get("fraction", "0").ljust(9, "0"))
    stamp = pd.Timestamp(time).as_unit("ns") + pd.Timedelta(fraction, "ns")
    zone = said.get("zone", "Z").upper()
    if zone in ("Z", "UTC"):
        return stamp
    east = pd.Timedelta(hours=int(zone[1:3]), minutes=int(zone[3:].lstrip(":") or 0))
    return stamp - east if zone[0] == "+" else stamp + east


def _stamp(year: str, month: str, day: str) -> pd.Timestamp | None:
    return _start({"year": year, "month": month, "day": day}, _REACHED)


def _short(text: str) -> pd.Timestamp | None:
    """Return the day that six digits mean with a year of two; None if it does not exist."""
    found = re.fullmatch(r"(\d\d)(\d\d)(\d\d)", text)
    return _stamp(f"20{found[1]}", found[2], found[3]) if found else None


def _days(text: str) -> list[pd.Timestamp]:
    """Return the days that "07/08/2019", "1/2/18" or "180701" may mean, each once."""
    if found := re.fullmatch(r"(\d{1,2})[-./ ](\d{1,2})[-./ ](\d{4}|\d{2})", text):
        one, two, three = found.groups()
        year = three if len(three) == 4 else f"20{three}"
        days = [_stamp(year, two, one), _stamp(year, one, two)]
        if len(one) == len(three) == 2:
            days.append(_stamp(f"20{one}", two, three))
    else:
        whole = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text)
        days = [_stamp(*whole.groups()) if whole else _short(text)]
    return list(dict.fromkeys(day for day in days if day is not None))


def _meant(text: str) -> str:
    """Return how to write the days that a text may mean; empty if there are none."""
    days = _days(text)
    spoken = " or ".join(f"{day.day} {day:%B %Y}" for day in days)
    written = " or ".join(f'"{day.date()}"' for day in days)
    return f"{f'it may be {spoken}; ' * (len(days) > 1)}write {written}" if days else ""


# --- Coordinates of time ---------------------------------------------------------------------------------------------


def cf_moments(values: Any, attrs: Mapping[Any, Any], what: str) -> list[Moment]:
    """Read a coordinate of time and its attributes as the CF conventions write it: numbers with units, or dates."""
    numbers = np.asarray(values).ravel()
    units = str(attrs.get("units", "")).strip()
    calendar = str(attrs.get("calendar", "standard")).lower()
    try:
        times = _decode(numbers, units, calendar)
    except (TimoError, ValueError, OverflowError, ImportError) as error:
        raise TimoError(
            f'{what} must be dates as the CF conventions write them ("days since 1970-01-01"); it has {numbers.dtype} '
            f"with units {units!r} and calendar {calendar!r}: {error}. Write it again with xarray: "
            "dataset.assign_coords(time=pandas.to_datetime(...))."
        ) from error
    try:
        return [as_moment(time) for time in times]
    except TimoError as error:
        raise TimoError(f"{what}: {error}.") from error


def _decode(numbers: np.ndarray, units: str, calendar: str) -> list[Any]:
    """Return dates of numbers: NumPy's where the calendar is ours, else cftime's; dates as numbers are read."""
    import xarray as xr

    unit, since, origin = units.partition(" since ")
    if not since:
        days = numbers.dtype.kind in "iu" and all(10**6 <= n < 10**8 for n in numbers.tolist())
        if days or numbers.dtype.kind in "SUOM":
            return [as_moment(value) for value in numbers]
        raise TimoError("numbers have no units")
    if not np.isfinite(numbers.astype("float64")).all():
        raise TimoError("a date is missing")
    if re.fullmatch(r"(month|year)s?", unit.lower()):
        if (numbers != np.round(numbers)).any():
            raise TimoError(f"a part of a {unit.lower().rstrip('s')} is no date")
        months = 12 if unit.lower().startswith("year") else 1
        return [as_moment(origin).time + pd.DateOffset(months=months * int(n)) for n in numbers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a calendar is not NumPy's
        coords = {"time": ("time", numbers, {"units": units, "calendar": calendar})}
        times = xr.decode_cf(xr.Dataset(coords=coords)).time.values
    # Days as floats are exact to a few microseconds.
    return [pd.Timestamp(t).round("ms") for t in times] if times.dtype.kind == "M" else list(times)


def _of_calendar(date: Any) -> Moment:
    """Return a date of another calendar: the same label, or (Julian) the same instant."""
    if date.calendar == "julian":
        date = date.change_calendar("proleptic_gregorian")
    try:
        return _as_utc(pd.Timestamp(date.isoformat()))
    except ValueError as error:
        raise TimoError(
            f"{date.year}-{date.month:02d}-{date.day:02d} of the calendar {date.calendar!r} is no day of ours: leave "
            "it out, as xarray's dataset.convert_calendar('standard', align_on='date') does"
        ) from error


# --- Names and tags --------------------------------------------------------------------------------------------------


def find_dates(name: str) -> list[Moment]:
    """Find all dates that stand in a name, in their order."""
    return [moment for _, moment in _places(name)]


def _places(name: str) -> list[tuple[re.Match[str], Moment]]:
    """Find where dates stand in a name, in their order; months only where there are no days."""
    found: list[tuple[re.Match[str], Moment]] = []
    for pattern in (*_IN_NAMES, _MONTH_IN_NAMES):
        if pattern is _MONTH_IN_NAMES and found:
            break
        for match in pattern.finditer(name):
            if moment := _sensed(match):
                found.append((match, moment))
                # What is read once is not read again as part of a shorter pattern.
                name = name[: match.start()] + " " * len(match[0]) + name[match.end() :]
    return sorted(found, key=lambda pair: pair[0].start())


def _sensed(match: re.Match[str]) -> Moment | None:
    """Return the date that a part of a name says; None if its digits are no date of a satellite."""
    groups = match.groupdict()
    start = _start(groups, _SENSED)
    return None if start is None else Moment(start, groups.get("hour") is not None)


def strip_dates(name: str) -> str:
    """Replace each date in a name by a space, so that its digits are not taken for anything else."""
    for pattern in (*_IN_NAMES, _MONTH_IN_NAMES):
        name = pattern.sub(lambda m: " " if _sensed(m) else m[0], name)
    return name


def date_of_text(text: str, where: Any) -> Moment | None:
    """Read when an image was taken from its name; None if it does not say."""
    product = _PRODUCTS.search(text)
    if product and (later := find_dates(text[product.end() :])):
        split = _SPLIT_CLOCK.match(text, product.end())
        return (split and _sensed(split)) or later[0]
    found = find_dates(text)
    if len({moment.time.normalize() for moment in found}) > 1:
        listed = " and ".join(str(moment) for moment in found)
        # Finds the first also in names that are written like this one.
        first = _places(text)[0][0]
        before = "_" if text[: first.start()].endswith("_") else ""
        date = re.escape(first[0]).replace(r"\-", "-")
        form = re.sub(r"\d+", lambda m: rf"\d{{{len(m[0])}}}", date)
        raise TimoError(
            f"{where} has more than one date in its name: {listed}. Say which it is: "
            f'pattern=r"{before}(?P<date>{form})" for the first, or dates=[...], or dates=lambda name: ...'
        )
    return max(found, key=lambda moment: moment.exact, default=None)


def date_of_name(path: Path) -> Moment | None:
    """Read when a file was taken from its name, or else from its folder's; see `date_of_text`."""
    return date_of_text(path.name, path) or date_of_text(path.parent.name, path)


def date_of_tags(tags: Mapping[str, Any]) -> Moment | None:
    """Read when a file was taken from its tags or attributes; None if none of them is a date."""
    plain = {re.sub(r"^.*#|[^A-Za-z0-9]", "", k).upper(): str(v).strip() for k, v in tags.items()}
    if "DOMAIN" not in plain:
        plain.pop("DATE", "")  # FORCE's; of others it may be when the file was made
    for key in _TAGS.split():
        text, clock = _start_of_span(plain.get(key, "")), plain.get(_CLOCKS.get(key, ""))
        if clock and re.fullmatch(r"\d{4}\D?\d\d\D?\d\d", text):
            text = f"{text}T{clock}"
        if (found := _parse(text)) and found[1] == "D":
            return _as_utc(found[0])
    if re.fullmatch(r"\d{11,13}", since := plain.get("SYSTEMTIMESTART", "")):
        return _as_utc(pd.Timestamp(int(since), unit="ms"))  # Earth Engine's
    return None


# --- What users ask for ----------------------------------------------------------------------------------------------


def make_span(start: Any, end: Any) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first instant, and the first after the last, of dates that are both included.

    "2019", "2019-07" and their likes (an int, a Period, a datetime64 of that unit) mean all of it. Of a time only the
    day counts, in the zone that it is given in: dates are solar days of the area.
    """
    if start is None or end is None:
        missing = "start" if start is None else "end"
        raise TimoError(f'{missing} is missing: give dates, as start="2019-01-01", end="2021-12"')
    first, last = _period(start, "start"), _period(end, "end")
    if first.year < _YEARS[0] or last.year > _YEARS[1]:
        span = f"{_YEARS[0]} to {_YEARS[1]}"
        raise TimoError(f"start={start!r}, end={end!r} are not within the years {span}")
    begin, after = first.start_time, (last + 1).start_time
    if after <= begin:
        raise TimoError(f"end={end!r} is before start={start!r}")
    return begin, after


def make_open_span(
    start: Any, end: Any, first: Any, last: Any
) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the span of `make_span`; where start or end is not given, from the first or to the last date of the data.

    The span is empty if the data end before `start`, or begin after `end`.
    """
    if start is not None and end is not None:
        return make_span(start, end)
    begin = pd.Timestamp(first).floor("D") if start is None else make_span(start, start)[0]
    after = pd.Timestamp(last).floor("D") + pd.Timedelta("1D")
    return begin, max(begin, after if end is None else make_span(end, end)[1])


def _period(date: Any, name: str) -> pd.Period:
    """Return the day, month, quarter or year that a date means."""
    if isinstance(date, np.datetime64):
        date = str(date)  # which has the parts that its unit has: a datetime64[M] is a month
    if isinstance(date, str):
        # The day in the zone that it is given in, and not UTC's.
        bare = re.sub(r"([T ]\d\d[:\d.,]*)\s*(Z|UTC|[+-]\d\d:?(\d\d)?)$", r"\1", date)
        if found := _parse(bare):
            return pd.Period(found[0], freq=found[1])
        if re.fullmatch(r"\s*\d{4}\s*", date):
            return pd.Period(year=int(date), freq="Y")  # of a year that no satellite saw
    elif _is_whole(date) and 1 <= date <= 9999:
        return pd.Period(year=int(date), freq="Y")
    elif isinstance(date, pd.Period) and date is not pd.NaT:
        return date if date.freqstr[0] in "YQMW" else date.asfreq("D")
    elif isinstance(date, dt.date) and not pd.isna(date):
        return pd.Period(year=date.year, month=date.month, day=date.day, freq="D")
    said = str(plain(date)).strip() if isinstance(date, str) or _is_whole(date) else ""
    remedy = _meant(said) or 'write "2019", "2019-07" or "2019-07-31"'
    raise TimoError(f"{name}={described(date)} cannot be read as a date: {remedy}")
