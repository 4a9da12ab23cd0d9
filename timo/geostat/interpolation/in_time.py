"""Gaps of a series filled from the series itself: straight lines between observations, or the mean of the month."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from timo.checks import checked
from timo.errors import TimoError
from timo.geostat.values import Floats, days_of

BLOCK = 4096  # series at a time


@checked
def linear_in_time(values: xr.DataArray) -> xr.DataArray:
    """Fill gaps by a straight line in time between the observations before and after.

    Before the first and after the last observation of a series its value is held. Observations stay as they are; a
    series without any stays NaN.

    Parameters
    ----------
    values : xarray.DataArray
        Dim "time" with ascending datetime64 dates and any other dims; NaN = no observation.

    Raises
    ------
    TimoError
        If there is no such dim, its dates do not ascend, or values are no real numbers.
    """
    days = ascending_days(values)
    return _along_time(values, lambda series: fill_linear(series, days))


@checked
def monthly_climatology(values: xr.DataArray) -> xr.DataArray:
    """Fill gaps by the mean of the same month of all years, each series for itself.

    Where a series was never observed in that month, by a straight line in time. Parameter and errors as of
    `linear_in_time`.
    """
    days, months = ascending_days(values), values.time.dt.month.values
    return _along_time(values, lambda series: fill_linear(fill_months(series, months), days))


def ascending_days(values: xr.DataArray) -> Floats:
    """Return the days since the first date, float64 of shape (time,); refuse dates that do not ascend."""
    if "time" not in values.dims or not values.sizes["time"]:
        raise TimoError(
            f'Gaps are filled in series along the dim "time"; got {dict(values.sizes)}. Use '
            'values.rename({...: "time"}).'
        )
    if values["time"].dtype.kind != "M":
        raise TimoError(
            f"time must be datetime64; got {values['time'].dtype}. Use "
            "values.assign_coords(time=pandas.to_datetime(...))."
        )
    days = days_of(values)
    if not (np.diff(days) > 0).all():
        raise TimoError(
            'Dates must ascend, each once. Use values.sortby("time").drop_duplicates("time").'
        )
    return days


def _along_time(values: xr.DataArray, fill: Callable[[Floats], Floats]) -> xr.DataArray:
    """Return the values with their (time, series) matrix filled; dims, coords and attrs are kept."""
    if values.dtype.kind not in "fiu":
        raise TimoError(
            f"Values must be real numbers; got {values.dtype}. Use values.astype(float)."
        )
    first = values.transpose("time", ...)
    matrix = first.values.reshape(first.sizes["time"], -1)
    done = fill(matrix).astype(matrix.dtype, copy=False)
    return first.copy(data=done.reshape(first.shape)).transpose(*values.dims)


def fill_linear(series: Floats, days: Floats) -> Floats:
    """Fill the gaps (NaN) of (time, series) by straight lines over the ascending days; the ends are held."""
    done = np.empty_like(series)
    # In blocks: positions take eight bytes each, twice and more.
    for start in range(0, series.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        done[:, part] = _lines(series[:, part], days)
    return done


def _lines(series: Floats, days: Floats) -> Floats:
    before, after = neighbours(np.isfinite(series))
    low, high = (np.take_along_axis(series, side, axis=0) for side in (before, after))
    apart = days[after] - days[before]
    share = (days[:, None] - days[before]) / np.where(apart > 0, apart, 1)
    line = low + (high - low) * np.where(apart > 0, share, 0).astype(series.dtype)
    return np.where(np.isfinite(series), series, line)


def neighbours(seen: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the last observation up to each date and the first from it on; where one is missing, the other."""
    dates = np.arange(len(seen))[:, None]
    before = np.maximum.accumulate(np.where(seen, dates, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, dates, len(seen))[::-1], axis=0)[::-1]
    # A series without any observation points to its own NaN on the first date.
    return (
        np.where(before >= 0, before, after % len(seen)),
        np.where(after < len(seen), after, before.clip(min=0)),
    )


def fill_months(series: Floats, months: NDArray[np.integer]) -> Floats:
    """Fill the gaps of (time, series) by the mean of their month; NaN where the month was never observed."""
    done = series.copy()
    for month in np.unique(months):
        rows = months == month
        seen = np.isfinite(series[rows])
        count = seen.sum(axis=0)
        total = np.where(seen, series[rows], 0).sum(axis=0, dtype="float64")
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        done[rows] = np.where(seen, series[rows], mean)
    return done
