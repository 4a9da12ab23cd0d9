"""Dates and ranges of them, in UTC."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from dateutil.relativedelta import relativedelta

from ..errors import EngineError
from ..registry import register, register_all
from ..values import Date, DateRange, millis_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLIS = {
    "second": 1000.0,
    "minute": 60_000.0,
    "hour": 3_600_000.0,
    "day": 86_400_000.0,
    "week": 7 * 86_400_000.0,
    # The mean lengths of the Gregorian calendar.
    "month": 30.4375 * 86_400_000,
    "year": 365.25 * 86_400_000,
}
# Letters of a Joda pattern -> how they are written.
_PATTERN = re.compile(r"'([^']*)'|Y+|y+|M+|d+|D+|H+|m+|s+|S+")

register_all(
    {
        "Date.millis": lambda date: date.millis,
        "Date.difference": lambda date, start, unit: (
            (date.millis - start.millis) / _MILLIS[_unit(unit)]
        ),
        "DateRange.start": lambda date_range: Date(date_range.start),
        "DateRange.end": lambda date_range: Date(date_range.end),
    }
)


def when(millis: int) -> datetime:
    """Return the date and time of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=millis)


def millis(moment: datetime) -> int:
    """Return milliseconds since 1970 of a date and time."""
    return round((moment - _EPOCH) / timedelta(milliseconds=1))


def parse(text: str) -> Date:
    """Read a date of ISO 8601; a year or a month alone is its first day."""
    padded = text + "-01-01" if re.fullmatch(r"\d{4}", text) else text
    padded = padded + "-01" if re.fullmatch(r"\d{4}-\d{2}", padded) else padded
    try:
        moment = datetime.fromisoformat(padded)
    except ValueError as error:
        raise EngineError(f"Date: Bad date/time '{text}'.") from error
    return Date(millis(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))


def _unit(unit: str) -> str:
    """Return the name of a unit without the s of its plural."""
    name = unit.lower().removesuffix("s")
    if name not in _MILLIS:
        raise EngineError(
            f"Date: Invalid unit '{unit}'. Must be one of: year, month, week, day, hour, minute, second."
        )
    return name


@register("Date")
def date(value: Any) -> Date:
    """Make a date of milliseconds, of text, or of a date."""
    return parse(value) if isinstance(value, str) else Date(millis_of(value))


@register("Date.fromYMD")
def from_ymd(year: int, month: int, day: int) -> Date:
    """Return the first instant of a day."""
    return Date(millis(datetime(int(year), int(month), int(day), tzinfo=UTC)))


@register("Date.advance")
def advance(date: Date, delta: float, unit: str) -> Date:
    """Return a date a number of units later; months and years are those of the calendar."""
    name = _unit(unit)
    whole = int(delta) if name in {"month", "year"} else 0
    # Of a month that is too short, the last day.
    moved = when(date.millis) + relativedelta(months=whole * (12 if name == "year" else 1))
    return Date(millis(moved) + round((delta - whole) * _MILLIS[name]))


@register("Date.get")
def get(date: Date, unit: str) -> int:
    """Return a part of a date: its year, month (from 1), week (ISO), day of the month, hour, minute, second."""
    moment, name = when(date.millis), _unit(unit)
    return moment.isocalendar().week if name == "week" else int(getattr(moment, name))


@register("Date.getRelative")
def get_relative(date: Date, unit: str, in_unit: str) -> int:
    """Return which unit of a larger one a date is in, from 0: the day of a year, the month of a year."""
    moment, pair = when(date.millis), (_unit(unit), _unit(in_unit))
    if pair == ("month", "year"):
        return moment.month - 1
    return int((moment - _floor(moment, pair[1])) / timedelta(milliseconds=_MILLIS[pair[0]]))


def _floor(moment: datetime, unit: str) -> datetime:
    """Return the beginning of the unit that holds an instant."""
    if unit == "week":
        return _floor(moment, "day") - timedelta(days=moment.weekday())
    units = ("year", "month", "day", "hour", "minute", "second", "microsecond")
    smaller = units[units.index(unit) + 1 :]
    return moment.replace(**{part: int(part in {"month", "day"}) for part in smaller})  # type: ignore[arg-type]


@register("Date.getRange")
def get_range(date: Date, unit: str) -> DateRange:
    """Return the unit that holds a date."""
    start = Date(millis(_floor(when(date.millis), _unit(unit))))
    return DateRange(start.millis, advance(start, 1, unit).millis)


@register("Date.format")
def formatted(date: Date, format_: str | None = None) -> str:
    """Write a date in a Joda pattern: "YYYY-MM-dd'T'HH:mm:ss" if none is given."""
    moment = when(date.millis)

    def part(match: re.Match[str]) -> str:
        if match[0].startswith("'"):
            return match[1] or "'"
        letter, size = match[0][0], len(match[0])
        if letter == "M" and size >= 3:
            return (
                calendar.month_name[moment.month] if size > 3 else calendar.month_abbr[moment.month]
            )
        numbers = {
            "Y": moment.year,
            "y": moment.year,
            "M": moment.month,
            "d": moment.day,
            "D": moment.timetuple().tm_yday,
            "H": moment.hour,
            "m": moment.minute,
            "s": moment.second,
            "S": moment.microsecond // 1000,
        }
        number = numbers[letter] % 100 if letter in "Yy" and size == 2 else numbers[letter]
        return str(number).zfill(size)

    return _PATTERN.sub(part, format_ or "YYYY-MM-dd'T'HH:mm:ss")


@register("DateRange")
def date_range(start: Any, end: Any = None) -> DateRange:
    """Return the range from a date to another one; to a millisecond later if none is given."""
    first = date(start).millis
    last = first + 1 if end is None else date(end).millis
    if last <= first:
        raise EngineError("DateRange: Empty date ranges not supported for the current operation.")
    return DateRange(first, last)
