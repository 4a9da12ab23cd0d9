"""On which dates of a cube labels hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from timo.checks import plain
from timo.errors import TimoError
from timo.places.tables import find_column
from timo.sources.dates import make_span

_DAY = "datetime64[D]"
# Left open: before and after any image.
_EVER, _NEVER = np.datetime64("1800-01-01", "D"), np.datetime64("2250-01-01", "D")


@dataclass(frozen=True)
class Held:
    """Which features have a date, and (n, time) whether each holds on each date; `notes` are for the report."""

    dated: np.ndarray
    holds: np.ndarray
    notes: tuple[str, ...]


def hold(
    table: pd.DataFrame, dates: str | tuple[str, str], times: pd.DatetimeIndex, within_days: float
) -> Held:
    """Find the dates of a cube on which the features of a table hold.

    Of one column: a day means the nearest date of the cube, at most `within_days` away; a month or a year means all of
    it. Of two columns: from the first to the second, both included; one of them may be missing, which leaves that end
    open.
    """
    columns = (dates,) if isinstance(dates, str) else dates
    spans = [_spans(table, find_column(table, name, "dates")) for name in columns]
    first, last = spans[0][0], spans[-1][1]
    days = times.values.astype(_DAY)
    notes: tuple[str, ...] = ()
    if len(columns) == 2:
        dated = ~(np.isnat(first) & np.isnat(last))
        open_ended = int((np.isnat(first) ^ np.isnat(last)).sum())
        first = np.where(np.isnat(first), _EVER, first)
        last = np.where(np.isnat(last), _NEVER, last)
        if open_ended:
            notes = (f"{open_ended:,} features state one end of their span: the other is open.",)
        _check_order(first, last, columns)
    else:
        dated = ~np.isnat(first)
    holds = (days >= first[:, None]) & (days <= last[:, None])
    if len(columns) == 1:
        single = np.flatnonzero(dated & (first == last))
        near, apart = _nearest(first[single], days, within_days)
        holds[single] = near
        if apart.size:
            notes = (
                f"Days were laid on the nearest date of the cube, up to {apart.max():g} days away.",
            )
    return Held(dated, holds & dated[:, None], notes)


def _nearest(
    wanted: np.ndarray, days: np.ndarray, within_days: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, time) the nearest date of each day, and how far those are that are near enough."""
    distance = np.abs((days - wanted[:, None]).astype("float64"))
    nearest = distance.argmin(axis=1) if len(wanted) else np.zeros(0, int)
    apart = distance[np.arange(len(wanted)), nearest]
    near = np.zeros(distance.shape, bool)
    near[np.arange(len(wanted)), nearest] = apart <= within_days
    return near, apart[apart <= within_days]


def _spans(table: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last day (n,) that each value of a column means, NaT where it is missing."""
    column = table[name]
    if column.dtype.kind == "M" or isinstance(column.dtype, pd.DatetimeTZDtype):
        # The day in the zone that it is given in.
        days = pd.DatetimeIndex(column).tz_localize(None).values.astype(_DAY)
        return days, days
    codes, values = pd.factorize(column, use_na_sentinel=True)
    found = np.full((len(values) + 1, 2), np.datetime64("NaT"), _DAY)
    for position, value in enumerate(values):
        found[position] = _span(value, name)
    first, last = found[codes].T  # the code of what is missing is -1
    return first, last


def _span(value: object, name: str) -> tuple[np.datetime64, np.datetime64]:
    value = plain(value)
    if isinstance(value, str) and not value.strip():
        return np.datetime64("NaT", "D"), np.datetime64("NaT", "D")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # years beside missing ones
    try:
        first, after = make_span(value, value)
    except TimoError as error:
        said = str(error).removeprefix("start=")
        raise TimoError(f"Column {name!r} holds a date that cannot be read: {said}.") from error
    return first.to_datetime64().astype(_DAY), (
        after - pd.Timedelta(days=1)
    ).to_datetime64().astype(_DAY)


def _check_order(first: np.ndarray, last: np.ndarray, columns: tuple[str, ...]) -> None:
    wrong = np.flatnonzero(last < first)
    if wrong.size:
        row = int(wrong[0])
        raise TimoError(
            f"Feature {row} ends on {last[row]} before it begins on {first[row]}, and {wrong.size - 1:,} others do. "
            f"Swap dates={tuple(columns)[::-1]!r}, or correct the file."
        )
