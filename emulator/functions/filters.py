"""Filters of elements by their properties, dates and places."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import shapely

from ..errors import EngineError
from ..registry import register
from ..values import (
    Date,
    DateRange,
    Filter,
    millis_of,
    properties_of,
)
from .dates import when
from .promotion import to_geometry

_PLACES = (".all", ".geo")


def _side(element: Any, field: str | None, value: Any) -> Any:
    """Return what stands on one side: a property of an element, or a constant."""
    if field is None:
        return value
    if field in _PLACES:
        return to_geometry(element, "Filter")
    return properties_of(element).get(field)


def comparing(compare: Callable[[Any, Any], bool]) -> Callable[..., Filter]:
    """Return a filter that compares a left and a right side; null on a side does not pass."""

    def make(
        left_field: str | None = None,
        right_value: Any = None,
        right_field: str | None = None,
        left_value: Any = None,
    ) -> Filter:
        def test(element: Any) -> bool:
            a = _side(element, left_field, left_value)
            b = _side(element, right_field, right_value)
            return a is not None and b is not None and bool(compare(_plain(a), _plain(b)))

        return Filter(test)

    return make


def _plain(value: Any) -> Any:
    return value.millis if isinstance(value, Date) else value


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Compare numbers, or strings; of one with the other it is false."""
    return lambda a, b: isinstance(a, str) == isinstance(b, str) and compare(a, b)


def intersecting(left: Any, right: Any) -> bool:
    """Return whether two shapes meet; one without bounds meets all."""
    a, b = (to_geometry(side, "Filter.intersects").shape for side in (left, right))
    if a is None or b is None:
        return True
    return bool(shapely.intersects(a, b))


for _name, _compare in {
    "equals": operator.eq,
    "notEquals": operator.ne,
    "lessThan": _ordered(operator.lt),
    "lessThanOrEquals": _ordered(operator.le),
    "greaterThan": _ordered(operator.gt),
    "greaterThanOrEquals": _ordered(operator.ge),
    "stringContains": lambda a, b: b in a,
    "stringStartsWith": lambda a, b: a.startswith(b),
    "stringEndsWith": lambda a, b: a.endswith(b),
    "inList": lambda a, b: a in b,
    "listContains": lambda a, b: b in a,
    "dateRangeContains": lambda a, b: _range(a).contains(millis_of(b)),
}.items():
    register(f"Filter.{_name}")(comparing(_compare))


def _range(value: Any) -> DateRange:
    if isinstance(value, DateRange):
        return value
    raise EngineError("Filter.dateRangeContains: The left side must be a DateRange.")


@register("Filter.intersects")
def intersects(
    left_field: str | None = None,
    right_value: Any = None,
    right_field: str | None = None,
    left_value: Any = None,
) -> Filter:
    """Let elements pass whose place meets a shape."""
    return comparing(intersecting)(left_field, right_value, right_field, left_value)


@register("Filter.rangeContains")
def range_contains(field: str, min_value: Any, max_value: Any) -> Filter:
    """Let elements pass of which a property is between two values, both included."""

    def test(element: Any) -> bool:
        value = _plain(properties_of(element).get(field))
        return value is not None and _plain(min_value) <= value <= _plain(max_value)

    return Filter(test)


@register("Filter.calendarRange")
def calendar_range(start: int, end: int | None = None, field: str = "day_of_year") -> Filter:
    """Let elements pass that were taken in a part of the year, month, week or day; from late to early, over its end."""
    last = start if end is None else end
    read: dict[str, Callable[[Any], int]] = {
        "year": lambda m: m.year,
        "month": lambda m: m.month,
        "day_of_year": lambda m: m.timetuple().tm_yday,
        "day_of_month": lambda m: m.day,
        "day_of_week": lambda m: m.isoweekday(),
        "hour": lambda m: m.hour,
        "minute": lambda m: m.minute,
    }
    if field not in read:
        raise EngineError(
            f"Filter.calendarRange: Unknown calendar field '{field}'. Known: {', '.join(read)}."
        )

    def test(element: Any) -> bool:
        time = properties_of(element).get("system:time_start")
        if time is None:
            return False
        part = read[field](when(millis_of(time)))
        return start <= part <= last if start <= last else part >= start or part <= last

    return Filter(test)


@register("Filter.dayOfYear")
def day_of_year(start: int, end: int) -> Filter:
    """Let elements pass that were taken from one day of the year to before another."""
    return calendar_range(start, end - 1)


@register("Filter.and")
def all_of(filters: list[Filter]) -> Filter:
    """Let elements pass that pass all."""
    return Filter(lambda element: all(f.test(element) for f in filters))


@register("Filter.or")
def any_of(filters: list[Filter]) -> Filter:
    """Let elements pass that pass any."""
    return Filter(lambda element: any(f.test(element) for f in filters))


@register("Filter.not")
def none_of(filter_: Filter) -> Filter:
    """Let elements pass that do not pass a filter."""
    return Filter(lambda element: not filter_.test(element))


@register("Filter.notNull")
def not_null(properties: list[str]) -> Filter:
    """Let elements pass that have all of these properties."""
    return Filter(lambda e: all(properties_of(e).get(name) is not None for name in properties))
