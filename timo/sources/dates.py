r"""Dates: one strict grammar for what users ask for, and for what names, tags and coordinates of files say.

Read are year-month-day (2018-07-01, 20180701, 2018/07/01), day of the year (2018182, 2018-182), ISO 8601 with a time, a
zone and fractions, and compact times (20180701T092031). A month (2018-07, 201807) or a year is read where somebody says
that it is the date, and means its first day, as composites are dated. So does a span (2018-07-01/2018-07-31, CF bounds,
time_coverage_start): its start. Everything else is refused: no library guesses whether 07/08 is in July.
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

from timo.errors import TimoError

# Before there were satellites, and well before nanoseconds since 1970 end; in names, from the first Landsat on.
_YEARS = (1950, 2200)
_SENSED = (1972, 2099)
_WRITE = 'write "2019", "2019-07" or "2019-07-31"'

# --- what is written

_CLOCK = r"(?P<hour>\d{2})[-:_]?(?P<minute>\d{2})[-:_]?(?P<second>\d{2})"
_WHOLE = (
    re.compile(
        r"(?P<year>\d{4})(?:(?P<sep>[-_./:])(?P<month>\d{1,2})(?P=sep)(?P<day>\d{1,2})|(?P<month_>\d{2})(?P<day_>\d{2})"
        r"|-?(?P<of_year>\d{3}))(?:(?:[T _]\s*)(?P<hour>\d{2})(?:[-:_]?(?P<minute>\d{2})(?:[-:_]?(?P<second>\d{2})"
        r"(?:[.,](?P<fraction>\d{1,9})\d*)?)?)?\s*(?P<zone>Z|UTC|[+-]\d{2}:?(?:\d{2})?)?)?",
        re.IGNORECASE,
    ),
    re.compile(rf"(?P<year>\d{{4}})(?P<month>\d\d)(?P<day>\d\d){_CLOCK}"),
    re.compile(r"(?P<year>\d{4})(?:[-_./](?P<month>\d{1,2})|(?P<month_>\d{2}))"),
    re.compile(r"(?P<year>\d{4})-?Q(?P<quarter>[1-4])", re.IGNORECASE),
    re.compile(r"(?P<year>\d{4})"),
)
# In names a number that is part of a longer one is no date. Separators are all the same, or all missing.
_DAY = r"(?P<year>\d{4})(?P<sep>[-_.]?)(?P<month>\d{2})(?P=sep)(?P<day>\d{2})"
_IN_NAMES = (
    re.compile(rf"(?<!\d){_DAY}[Tt]{_CLOCK}(?!\d)"),
    re.compile(rf"(?<!\d)(?P<year>\d{{4}})(?P<month>\d\d)(?P<day>\d\d){_CLOCK}(?!\d)"),
    re.compile(rf"(?<!\d)(?P<year>\d{{4}})(?P<of_year>\d{{3}})[Tt]{_CLOCK}(?!\d)"),
    re.compile(rf"(?<!\d){_DAY}(?!\d)"),
    re.compile(r"(?<!\d)(?P<year>\d{4})-?(?P<of_year>\d{3})(?!\d)"),
)
_MONTH_IN_NAMES = re.compile(r"(?<!\d)(?P<year>\d{4})-(?P<month>\d{2})(?![-_.]?\d)")
_SPLIT_CLOCK = re.compile(rf"(?P<year>\d{{4}})(?P<month>\d\d)(?P<day>\d\d)[-_]{_CLOCK}(?!\d)")
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
# Tags that say when the instrument looked, in order of trust; a time of its own beside a date. TIFFTAG_DATETIME, and
# whatever says when a file was created or processed, is none of them.
_TAGS = (
    ("ACQUISITIONDATETIME", ""),
    ("ACQUISITIONDATE", "ACQUISITIONTIME"),
    ("DATEACQUIRED", "SCENECENTERTIME"),
    ("ACQUIRED", ""),
    ("SENSINGTIME", ""),
    ("SENSINGSTART", ""),
    ("DATATAKE1DATATAKESENSINGSTART", ""),
    ("PRODUCTSTARTTIME", ""),
    ("STARTDATETIME", ""),
    ("TIMECOVERAGESTART", ""),
    ("RANGEBEGINNINGDATE", "RANGEBEGINNINGTIME"),
    ("DATE", ""),
    ("DATETIME", ""),
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
    """Read a date or a time; midnight means the day, a month, a year or a span its start.

    Parameters
    ----------
    value : str, int, date, datetime, pandas or NumPy or cftime date
        A text or a whole number in the grammar of this module.

    Raises
    ------
    TimoError
        If it is no date, or may be read as two; the message has both as they are to be written.
    """
    if isinstance(value, Moment):
        return value
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) or _is_whole(value):
        return _read(str(value).split("/")[0] if _is_span(str(value)) else str(value).strip())
    if isinstance(value, pd.Period):
        value = value.start_time
    if hasattr(value, "calendar") and hasattr(value, "toordinal"):
        return _of_calendar(value)
    if isinstance(value, dt.date | np.datetime64) and not pd.isna(value):
        time = pd.Timestamp(value)
        return _as_utc(time)
    raise TimoError(f"{value!r} is no date: write it as 2018-07-01")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_span(text: str) -> bool:
    """Whether a text is an interval of ISO 8601, which has a whole date on both sides."""
    first, slash, last = text.partition("/")
    return bool(slash) and all(re.match(r"\s*\d{4}-\d\d", part) for part in (first, last))


def _as_utc(time: pd.Timestamp) -> Moment:
    if time.tzinfo is not None:
        time = time.tz_convert("UTC").tz_localize(None)
    try:
        return Moment(time.as_unit("ns"), time != time.normalize())
    except pd.errors.OutOfBoundsDatetime as error:
        raise TimoError(f"{time} is no date of a satellite image") from error


def _read(text: str) -> Moment:
    """The moment that a text says as a whole, or the only date in it."""
    if found := _parse(text):
        start, unit = found
        _warn_of_short_year(text, start, unit)
        return _as_utc(start)
    # What is left of a time that is none, as 25:00, says that the text is not understood.
    inside = [] if re.search(r":|\d[Tt ]\d", strip_dates(text)) else find_dates(text)
    if len({moment.time.normalize() for moment in inside}) == 1:
        return max(inside, key=lambda moment: moment.exact)
    days = _days(text)
    if not days:
        raise TimoError(
            f"{text!r} is no date: write it as 2018-07-01, the year first and with four digits"
        )
    meant = f": it may be {_spoken(days)}" if len(days) > 1 else ""
    raise TimoError(f"{text!r} cannot be read as a date{meant}; write {_written(days)}")


def _spoken(days: list[pd.Timestamp]) -> str:
    return " or ".join(f"{day.day} {day:%B %Y}" for day in days)


def _written(days: list[pd.Timestamp]) -> str:
    return " or ".join(f'"{day.date()}"' for day in days)


def _warn_of_short_year(text: str, start: pd.Timestamp, unit: str) -> None:
    """Warn of 201207, which is July 2012, and 7 December 2020 to those who write years with two digits."""
    if (
        unit == "M"
        and re.fullmatch(r"\d{6}", text)
        and (other := _stamp(f"20{text[:2]}", text[2:4], text[4:]))
    ):
        warnings.warn(
            f"{text} is read as {start:%B %Y}, and not as {other.day} {other:%B %Y}: a year has four digits. If the day is "
            f"meant, give dates=[...] with {other:%Y-%m-%d}.",
            stacklevel=2,
        )


def _parse(text: str) -> tuple[pd.Timestamp, str] | None:
    """Start and unit ("Y", "Q", "M", "D", "T") of what a whole text says; None if that is no date."""
    for pattern in _WHOLE:
        match = pattern.fullmatch(text.strip())
        if not match:
            continue
        groups = {key.rstrip("_"): value for key, value in match.groupdict().items() if value}
        if not _YEARS[0] <= int(groups["year"]) <= _YEARS[1]:
            continue
        if (start := _start(groups)) is not None:
            named = {
                "hour": "T",
                "day": "D",
                "of_year": "D",
                "month": "M",
                "quarter": "Q",
                "year": "Y",
            }
            return start, next(unit for key, unit in named.items() if key in groups)
    return None


def _start(groups: Mapping[str, str | None]) -> pd.Timestamp | None:
    """First instant of what groups of a match say; None if there is no such date."""
    number = {key: int(groups.get(key) or 0) for key in ("year", "hour", "minute", "second")}
    month = (
        3 * int(groups.get("quarter") or 0) - 2
        if groups.get("quarter")
        else int(groups.get("month") or 1)
    )
    try:
        time = dt.datetime(
            number["year"],
            month,
            int(groups.get("day") or 1),
            number["hour"],
            number["minute"],
            number["second"],
        )
        if of_year := groups.get("of_year"):
            time += dt.timedelta(days=int(of_year) - 1)
            if time.year != number["year"]:
                return None
    except (ValueError, OverflowError):
        return None
    stamp = pd.Timestamp(time).as_unit("ns")
    if fraction := groups.get("fraction"):
        stamp += pd.Timedelta(int(fraction.ljust(9, "0")), "ns")
    zone = (groups.get("zone") or "Z").upper()
    if zone not in ("Z", "UTC"):
        hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
        stamp -= (1 if zone[0] == "+" else -1) * pd.Timedelta(hours=hours, minutes=minutes)
    return stamp


def _stamp(year: str, month: str, day: str) -> pd.Timestamp | None:
    return _start({"year": year, "month": month, "day": day}) if "00" not in (month, day) else None


def _days(text: str) -> list[pd.Timestamp]:
    """The days that "07/08/2019", "1/2/18" or "180701" may mean, each once."""
    if found := re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text):
        numbers = [found.groups()]
    elif found := re.fullmatch(r"(\d{2})(\d{2})(\d{2})", text):
        numbers = [(f"20{found[1]}", found[2], found[3])]
    elif found := re.fullmatch(r"(\d{1,2})[-./ ](\d{1,2})[-./ ](\d{4}|\d{2})", text):
        one, two, year = found.groups()
        year = year if len(year) == 4 else f"20{year}"
        numbers = [(year, two, one), (year, one, two)]
    else:
        return []
    return list(dict.fromkeys(day for each in numbers if (day := _stamp(*each)) is not None))


def _of_calendar(date: Any) -> Moment:
    """A date of another calendar: the same label, or (Julian) the same instant.

    Raises
    ------
    TimoError
        If ours has no such day.
    """
    clock = pd.Timedelta(
        hours=date.hour, minutes=date.minute, seconds=date.second, microseconds=date.microsecond
    )
    if date.calendar == "julian":
        # Julian day numbers count the same days; 1970-01-01 is 2440588.
        return _as_utc(pd.Timestamp(0) + pd.Timedelta(days=date.toordinal() - 2440588) + clock)
    try:
        return _as_utc(pd.Timestamp(dt.datetime(date.year, date.month, date.day)) + clock)
    except ValueError as error:
        raise TimoError(
            f"{date.year}-{date.month:02d}-{date.day:02d} of the calendar {date.calendar!r} is no day of ours: leave it "
            "out, as xarray's dataset.convert_calendar('standard', align_on='date') does"
        ) from error


def cf_moments(values: Any, attrs: Mapping[Any, Any], what: str) -> list[Moment]:
    """Read a coordinate of time as the CF conventions write it: numbers with units and a calendar, or dates.

    Parameters
    ----------
    values : array_like
        As they are in the file.
    attrs : mapping
        Attributes of the variable, `units` and `calendar` among them.
    what : str
        What the messages call it.

    Raises
    ------
    TimoError
        If they are no dates, or dates that our calendar does not have.
    """
    numbers = np.asarray(values).ravel()
    units, calendar = (
        str(attrs.get("units", "")).strip(),
        str(attrs.get("calendar", "standard")).lower(),
    )
    unit, since, origin = units.partition(" since ")
    try:
        if numbers.dtype.kind in "SUOM" or (not since and numbers.dtype.kind in "iu"):
            if numbers.dtype.kind in "iu" and not all(10**6 <= n < 10**8 for n in numbers.tolist()):
                raise TimoError(f"{numbers[0]} is no date")
            return [as_moment(value) for value in numbers]
        if not since:
            raise TimoError("numbers have no units")
        if not np.isfinite(numbers.astype("float64")).all():
            raise TimoError("a date is missing")
        if re.fullmatch(r"(month|year)s?", unit.lower()):
            return _whole_units(numbers, unit.lower().rstrip("s"), origin)
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
    """Dates of numbers: NumPy's where the calendar is ours, else cftime's."""
    import xarray as xr

    attrs = {"units": units, "calendar": calendar}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a calendar is not NumPy's
        times = xr.decode_cf(xr.Dataset(coords={"time": ("time", numbers, attrs)})).time.values
    if times.dtype.kind == "M":
        # Days as floats are exact to a few microseconds.
        return [pd.Timestamp(time).round("ms") for time in times]
    return list(times)


def _whole_units(numbers: np.ndarray, unit: str, origin: str) -> list[Moment]:
    start = as_moment(origin).time
    if (numbers != np.round(numbers)).any():
        raise TimoError(f"a part of a {unit} is no date")
    return [_as_utc(start + pd.DateOffset(**{f"{unit}s": int(n)})) for n in numbers]


# --- what names and tags say


def find_dates(name: str) -> list[Moment]:
    """Find all dates that stand in a name, in their order."""
    found: list[tuple[int, Moment]] = []
    rest = name
    for pattern in _IN_NAMES:
        for match in pattern.finditer(rest):
            if moment := _sensed(match):
                found.append((match.start(), moment))
                # What is read once is not read again as part of a shorter pattern.
                rest = rest[: match.start()] + " " * len(match[0]) + rest[match.end() :]
    if not found:
        months = ((m.start(), _sensed(m)) for m in _MONTH_IN_NAMES.finditer(name))
        found = [(start, moment) for start, moment in months if moment]
    return [moment for _, moment in sorted(found, key=lambda pair: pair[0])]


def _sensed(match: re.Match[str]) -> Moment | None:
    """The date that a part of a name says; None if its digits are no date of a satellite."""
    groups = match.groupdict()
    if not _SENSED[0] <= int(groups["year"]) <= _SENSED[1]:
        return None
    start = _start(groups)
    return None if start is None else Moment(start, groups.get("hour") is not None)


def strip_dates(name: str) -> str:
    """Replace each date in a name by a space, so that its digits are not taken for anything else."""
    for pattern in (*_IN_NAMES, _MONTH_IN_NAMES):
        name = pattern.sub(lambda m: " " if _sensed(m) else m[0], name)
    return name


def date_of_text(text: str, where: Any) -> Moment | None:
    """Read when an image was taken from its name; None if it does not say.

    Raises
    ------
    TimoError
        If the name says two different days, and is not one whose rules are known.
    """
    found = find_dates(text)
    if (product := _PRODUCTS.search(text)) and (later := find_dates(text[product.end() :])):
        split = _SPLIT_CLOCK.match(text, product.end())
        return (split and _sensed(split)) or later[0]
    if len({moment.time.normalize() for moment in found}) > 1:
        listed = " and ".join(str(moment) for moment in found)
        raise TimoError(
            f"{where} has more than one date in its name: {listed}. Say which it is: "
            r'pattern=r"(?P<date>\d{8})_...", or dates=[...], or dates=lambda name: ...'
        )
    return max(found, key=lambda moment: moment.exact, default=None)


def date_of_name(path: Path) -> Moment | None:
    """Read when a file was taken from its name, or else from its folder's; see `date_of_text`."""
    return date_of_text(path.name, path) or date_of_text(path.parent.name, path)


def date_of_tags(tags: Mapping[str, Any]) -> Moment | None:
    """Read when a file was taken from its tags or attributes; None if none of them is a date."""
    plain = {
        re.sub(r"[^A-Z0-9]", "", key.upper().rpartition("#")[2]): str(v) for key, v in tags.items()
    }
    for key, clock in _TAGS:
        text = plain.get(key, "").strip()
        if clock in plain and re.fullmatch(r"\d{4}\D?\d\d\D?\d\d", text):
            text = f"{text}T{plain[clock].strip()}"
        if not (found := _parse(text)) and _is_span(text):
            found = _parse(text.partition("/")[0])
        if found and found[1] in "DT":
            return _as_utc(found[0])
    return None


# --- what users ask for


def make_span(start: Any, end: Any) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first instant, and the first after the last; a part of a date means all of it.

    Parameters
    ----------
    start, end : str, date, datetime, pandas.Timestamp, pandas.Period, numpy.datetime64 or int
        Both included. "2019", "2019-07" and their likes (also an int, a Period, a datetime64 of that unit) mean all of
        it. Of a time of day only the day counts, in the time zone that it is given in: dates are solar days of the
        area.

    Raises
    ------
    TimoError
        If one is missing, is no date, or the end is before the start.
    """
    if start is None or end is None:
        missing = "start" if start is None else "end"
        raise TimoError(f'{missing} is missing: give dates, as start="2019-01-01", end="2021-12"')
    first, last = _period(start, "start"), _period(end, "end")
    if first.year < _YEARS[0] or last.year > _YEARS[1]:
        raise TimoError(
            f"start={start!r}, end={end!r} are not within the years {_YEARS[0]} to {_YEARS[1]}"
        )
    begin, after = first.start_time, (last + 1).start_time
    if after <= begin:
        raise TimoError(f"end={end!r} is before start={start!r}")
    return begin, after


def make_open_span(
    start: Any, end: Any, first: Any, last: Any
) -> tuple[pd.Timestamp, pd.Timestamp]:
    """As `make_span`, where the dates of data take the place of what is not given: of the first and last of them.

    The span is empty if the data end before `start`, or begin after `end`.
    """
    if start is not None and end is not None:
        return make_span(start, end)
    begin = pd.Timestamp(first).floor("D")
    after = pd.Timestamp(last).floor("D") + pd.Timedelta("1D")
    if start is not None:
        begin = make_span(start, start)[0]
    if end is not None:
        after = make_span(end, end)[1]
    return begin, max(begin, after)


def _period(date: Any, name: str) -> pd.Period:
    """The day, month, quarter or year that a date means."""
    if isinstance(date, np.datetime64):
        date = str(date)  # which has the parts that its unit has: a datetime64[M] is a month
    if isinstance(date, str):
        # The day in the zone that it is given in, and not UTC's.
        if found := _parse(re.sub(r"([T ]\d\d[:\d.,]*)\s*(Z|UTC|[+-]\d\d:?(\d\d)?)$", r"\1", date)):
            return pd.Period(found[0], freq="D" if found[1] == "T" else found[1])
        if re.fullmatch(r"\s*\d{4}\s*", date):
            return pd.Period(year=int(date), freq="Y")  # of a year that no satellite saw
    elif _is_whole(date) and 1 <= date <= 9999:
        return pd.Period(year=int(date), freq="Y")
    elif isinstance(date, pd.Period) and date is not pd.NaT:
        return date if date.freqstr[0] in "YQMW" else date.asfreq("D")
    elif isinstance(date, dt.date) and not pd.isna(date):
        return pd.Period(year=date.year, month=date.month, day=date.day, freq="D")
    raise TimoError(f"{name}={date!r} cannot be read as a date: {_remedy(date)}")


def _remedy(date: Any) -> str:
    """How to write what was probably meant."""
    days = _days(str(date).strip()) if isinstance(date, str) or _is_whole(date) else []
    if not days:
        return _WRITE
    return f"{'' if len(days) == 1 else f'it may be {_spoken(days)}; '}write {_written(days)}"
