"""The dates that are asked for: one meaning for all sources."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from timo.errors import TimoError

# Before there were satellites, and well before nanoseconds since 1970 end.
_YEARS = (1950, 2200)
_WRITE = 'write "2019", "2019-07" or "2019-07-31"'


def make_span(start: Any, end: Any) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First instant, and the first after the last; a part of a date means all of it.

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
    begin, after = (
        pd.Timestamp(first).floor("D"),
        pd.Timestamp(last).floor("D") + pd.Timedelta("1D"),
    )
    if start is not None:
        begin = make_span(start, start)[0]
    if end is not None:
        after = make_span(end, end)[1]
    return begin, max(begin, after)


def _period(date: Any, name: str) -> pd.Period:
    """The day, month or year that a date means."""
    try:
        if isinstance(date, np.datetime64):
            # Its text has the parts that its unit has: a datetime64[M] is a month.
            return _period_of_text(str(date))
        if isinstance(date, str):
            return _period_of_text(date)
        if isinstance(date, int | np.integer) and not isinstance(date, bool) and 1 <= date <= 9999:
            return pd.Period(year=int(date), freq="Y")
        if isinstance(date, pd.Period):
            return date if date.freqstr[0] in "YQMW" else date.asfreq("D")
        if isinstance(date, dt.date) and not pd.isna(date):
            return pd.Period(year=date.year, month=date.month, day=date.day, freq="D")
    except (ValueError, TypeError, OverflowError) as error:
        raise TimoError(_no_date(date, name)) from error
    raise TimoError(_no_date(date, name))


def _period_of_text(text: str) -> pd.Period:
    """Day, month, quarter or year of a text that begins with the year: of 07/08/2019 nobody knows the month."""
    if not re.match(r"\s*\d{4}", text):
        raise ValueError(text)
    period = pd.Period(text.strip())
    return period if period.freqstr[0] in "YQM" else period.asfreq("D")


def _no_date(date: Any, name: str) -> str:
    return f"{name}={date!r} cannot be read as a date: {_remedy(date)}"


def _remedy(date: Any) -> str:
    """How to write what was probably meant."""
    text = str(date).strip() if isinstance(date, str | int | np.integer) else ""
    if found := re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text):
        days = _days([found.groups()])
    elif found := re.fullmatch(r"(\d{1,2})[-./ ](\d{1,2})[-./ ](\d{4})", text):
        one, two, year = found.groups()
        days = _days([(year, two, one), (year, one, two)])
    else:
        days = []
    if not days:
        return _WRITE
    names = " or ".join(f"{day.day} {day:%B %Y}" for day in days)
    return f"{'' if len(days) == 1 else f'it may be {names}; '}write " + " or ".join(
        f'"{day}"' for day in days
    )


def _days(numbers: Iterable[tuple[str, ...]]) -> list[dt.date]:
    """The days that (year, month, day) are, each once; without those that are none."""
    found = []
    for year, month, day in numbers:
        try:
            found.append(dt.date(int(year), int(month), int(day)))
        except ValueError:
            continue  # the other reading, perhaps
    return list(dict.fromkeys(found))
