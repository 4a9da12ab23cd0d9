"""Dates and ranges of them. Times are in UTC; other time zones are refused."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.registry import register
from timo.testing.earthengine.values import Date, DateRange, millis_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000
_MILLIS = {
    "second": 1000.0,
    "minute": 60_000.0,
    "hour": 3_600_000.0,
    "day": float(_DAY),
    "week": 7.0 * _DAY,
    # The mean lengths of the Gregorian calendar.
    "month": 30.4375 * _DAY,
    "year": 365.25 * _DAY,
}
# Letters of a Joda pattern -> how they are written.
_PATTERN = re.compile(r"'([^']*)'|Y+|y+|M+|d+|D+|H+|m+|s+|S+")
_UTC = ("UTC", "GMT", "Etc/UTC", "Z")


def when(millis: int) -> datetime:
    """The date and time of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=millis)


def millis(moment: datetime) -> int:
    """Milliseconds since 1970 of a date and time."""
    return round((moment - _EPOCH) / timedelta(milliseconds=1))


def parse(text: str) -> Date:
    """A date of ISO 8601; a year or a month alone is its first day."""
    padded = text + "-01-01" if re.fullmatch(r"\d{4}", text) else text
    padded = padded + "-01" if re.fullmatch(r"\d{4}-\d{2}", padded) else padded
    try:
        moment = datetime.fromisoformat(padded)
    except ValueError as error:
        raise EngineError(f"Date: Bad date/time '{text}'.") from error
    return Date(millis(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))


def _check_zone(time_zone: str | None) -> None:
    if time_zone not in (None, *_UTC):
        raise EngineError(f"Date: the emulator knows no time zone but UTC; got '{time_zone}'.")


def _unit(unit: str) -> str:
    """The name of a unit without the s of its plural."""
    name = unit.lower().removesuffix("s")
    if name not in _MILLIS:
        raise EngineError(
            f"Date: Invalid unit '{unit}'. Must be one of: year, month, week, day, hour, minute, second."
        )
    return name


@register("Date")
def date(value: Any, time_zone: str | None = None) -> Date:
    """A date of milliseconds, of text, or of a date."""
    _check_zone(time_zone)
    return parse(value) if isinstance(value, str) else Date(millis_of(value))


@register("Date.fromYMD")
def from_ymd(year: int, month: int, day: int, time_zone: str | None = None) -> Date:
    """The first instant of a day."""
    _check_zone(time_zone)
    try:
        return Date(millis(datetime(int(year), int(month), int(day), tzinfo=UTC)))
    except ValueError as error:
        raise EngineError(f"Date.fromYMD: {error}.") from error


@register("Date.parse")
def parsed(format_: str, date: str, time_zone: str | None = None) -> Date:
    """A date of text in a Joda pattern."""
    _check_zone(time_zone)
    codes = {"y": "%Y", "Y": "%Y", "M": "%m", "d": "%d", "D": "%j", "H": "%H", "m": "%M", "s": "%S"}

    def code(match: re.Match[str]) -> str:
        return match[1] if match[0].startswith("'") else codes.get(match[0][0], match[0])

    try:
        return Date(
            millis(datetime.strptime(date, _PATTERN.sub(code, format_)).replace(tzinfo=UTC))
        )
    except ValueError as error:
        raise EngineError(f"Date.parse: Bad date/time '{date}'.") from error


@register("Date.millis")
def to_millis(date: Date) -> int:
    """Milliseconds since 1970."""
    return date.millis


@register("Date.advance")
def advance(date: Date, delta: float, unit: str, time_zone: str | None = None) -> Date:
    """A date so many units later; months and years are those of the calendar."""
    _check_zone(time_zone)
    name = _unit(unit)
    if name in {"month", "year"}:
        whole = int(delta)
        moved = _months_later(date.millis, whole * (12 if name == "year" else 1))
        return Date(moved + round((delta - whole) * _MILLIS[name]))
    return Date(date.millis + round(delta * _MILLIS[name]))


def _months_later(start: int, months: int) -> int:
    """The same day so many months later, or the last one of a month that is too short."""
    moment = when(start)
    count = moment.year * 12 + moment.month - 1 + months
    year, month = count // 12, count % 12 + 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return millis(moment.replace(year=year, month=month, day=day))


@register("Date.difference")
def difference(date: Date, start: Date, unit: str) -> float:
    """How many units from one date to another; a month and a year have their mean length."""
    return (date.millis - start.millis) / _MILLIS[_unit(unit)]


@register("Date.unitRatio")
def unit_ratio(numerator: str, denominator: str) -> float:
    """How many of one unit are in another."""
    return _MILLIS[_unit(numerator)] / _MILLIS[_unit(denominator)]


@register("Date.get")
def get(date: Date, unit: str, time_zone: str | None = None) -> int:
    """A part of a date: its year, month (from 1), week (ISO), day of the month, hour, minute, second."""
    _check_zone(time_zone)
    moment, name = when(date.millis), _unit(unit)
    return moment.isocalendar().week if name == "week" else int(getattr(moment, name))


@register("Date.getRelative")
def get_relative(date: Date, unit: str, in_unit: str, time_zone: str | None = None) -> int:
    """Which unit of a larger one a date is in, from 0: the day of a year or of a month, the month of a year."""
    _check_zone(time_zone)
    moment, pair = when(date.millis), (_unit(unit), _unit(in_unit))
    if pair == ("day", "year"):
        return moment.timetuple().tm_yday - 1
    if pair == ("day", "month"):
        return moment.day - 1
    if pair == ("month", "year"):
        return moment.month - 1
    start = floor(date.millis, pair[1])
    return int((date.millis - start) // _MILLIS[pair[0]])


def floor(start: int, unit: str) -> int:
    """The beginning of the unit that holds an instant."""
    moment = when(start)
    if unit == "week":
        return start // _DAY * _DAY - moment.weekday() * _DAY
    parts = ("year", "month", "day", "hour", "minute", "second")
    kept = parts[: parts.index(unit) + 1]
    lowest = {"month": 1, "day": 1}
    fields = {
        part: getattr(moment, part) if part in kept else lowest.get(part, 0) for part in parts
    }
    return millis(datetime(**fields, tzinfo=UTC))


@register("Date.getFraction")
def get_fraction(date: Date, unit: str, time_zone: str | None = None) -> float:
    """Which share of its unit has passed, 0..1."""
    _check_zone(time_zone)
    start = Date(floor(date.millis, _unit(unit)))
    end = advance(start, 1, unit)
    return (date.millis - start.millis) / (end.millis - start.millis)


@register("Date.getRange")
def get_range(date: Date, unit: str, time_zone: str | None = None) -> DateRange:
    """The unit that holds a date."""
    _check_zone(time_zone)
    start = Date(floor(date.millis, _unit(unit)))
    return DateRange(start.millis, advance(start, 1, unit).millis)


@register("Date.update")
def update(
    date: Date,
    *,
    year: int | None = None,
    month: int | None = None,
    day: int | None = None,
    hour: int | None = None,
    minute: int | None = None,
    second: float | None = None,
    time_zone: str | None = None,
) -> Date:
    """A date with some of its parts replaced."""
    _check_zone(time_zone)
    given = {"year": year, "month": month, "day": day, "hour": hour, "minute": minute}
    parts = {key: int(value) for key, value in given.items() if value is not None}
    moment = when(date.millis).replace(**parts)  # type: ignore[arg-type]
    return Date(millis(moment if second is None else moment.replace(second=int(second))))


@register("Date.format")
def formatted(date: Date, format_: str | None = None, time_zone: str | None = None) -> str:
    """A date in a Joda pattern: "YYYY-MM-dd'T'HH:mm:ss" if none is given."""
    _check_zone(time_zone)
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
def date_range(start: Any, end: Any = None, time_zone: str | None = None) -> DateRange:
    """From a date to another one; to a millisecond later if none is given."""
    first = date(start, time_zone).millis
    last = first + 1 if end is None else date(end, time_zone).millis
    if last <= first:
        raise EngineError("DateRange: Empty date ranges not supported for the current operation.")
    return DateRange(first, last)


@register("DateRange.start")
def range_start(date_range: DateRange) -> Date:
    """Its first instant."""
    return Date(date_range.start or 0)


@register("DateRange.end")
def range_end(date_range: DateRange) -> Date:
    """The first instant after it."""
    return Date(date_range.end or 0)


@register("DateRange.contains")
def range_contains(date_range: DateRange, other: Any) -> bool:
    """Whether a date is in it."""
    return date_range.contains(date(other).millis)
