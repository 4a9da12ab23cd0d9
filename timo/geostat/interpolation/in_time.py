"""Gaps of a series filled from the series itself: straight lines between observations, or what the month is like."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from timo.errors import TimoError

Floats = NDArray[np.floating]
BLOCK = 4096  # series at a time


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
        If there is no such dim, or its dates do not ascend.
    """
    return along_time(values, fill_linear, days_of(values))


def monthly_climatology(values: xr.DataArray) -> xr.DataArray:
    """Fill gaps by the mean of the same month of all years, each series for itself.

    Where a series was never observed in that month, by a straight line in time (`linear_in_time`). Observations stay
    as they are.

    Parameters
    ----------
    values : xarray.DataArray
        Dim "time" with ascending datetime64 dates and any other dims; NaN = no observation.

    Raises
    ------
    TimoError
        If there is no such dim, or its dates do not ascend.
    """
    days = days_of(values)
    months = values.time.dt.month.values

    def fill(series: Floats, _: Floats) -> Floats:
        return fill_linear(fill_months(series, months), days)

    return along_time(values, fill, days)


def days_of(values: xr.DataArray) -> Floats:
    """Days since the first date, float64 of shape (time,).

    Raises
    ------
    TimoError
        If the values have no dates, or these do not ascend.
    """
    if not isinstance(values, xr.DataArray) or "time" not in values.dims:
        found = values.dims if isinstance(values, xr.DataArray) else type(values).__name__
        raise TimoError(f'gaps are filled in a DataArray with the dim "time"; got {found}')
    dates = values.time.values
    if not np.issubdtype(dates.dtype, np.datetime64):
        raise TimoError(
            f"time must be datetime64, got {dates.dtype}: assign_coords(time=pandas.to_datetime(...))"
        )
    days = (dates - dates[0]) / np.timedelta64(1, "D")
    if not (np.diff(days) > 0).all():
        raise TimoError('dates must ascend, each once: sortby("time").drop_duplicates("time")')
    return days.astype("float64")


def along_time(values: xr.DataArray, fill: object, days: Floats) -> xr.DataArray:
    """The values with `fill(series, days)` of their (time, series) matrix; dims, coords and attrs kept."""
    first = values.transpose("time", ...)
    matrix = first.values.reshape(first.sizes["time"], -1)
    done = fill(matrix, days).astype(matrix.dtype, copy=False)  # type: ignore[operator]
    return first.copy(data=done.reshape(first.shape)).transpose(*values.dims)


def fill_linear(series: Floats, days: Floats) -> Floats:
    """Straight lines over the gaps of (time, series); the ends are held.

    Parameters
    ----------
    series : array of shape (time, series)
        NaN = gap.
    days : array of shape (time,)
        When; ascending.
    """
    done = np.empty_like(series)
    for start in range(
        0, series.shape[1], BLOCK
    ):  # positions take eight bytes each, twice and more
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
    """Positions of the last observation up to each date and of the first from it on; where one is missing, the other.

    Parameters
    ----------
    seen : array of shape (time, series)
    """
    dates = np.arange(len(seen))[:, None]
    before = np.maximum.accumulate(np.where(seen, dates, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, dates, len(seen))[::-1], axis=0)[::-1]
    # A series without any observation points to its own NaN.
    end = np.where(before >= 0, before, 0)
    return (
        np.where(before >= 0, before, np.where(after < len(seen), after, 0)),
        np.where(after < len(seen), after, end),
    )


def fill_months(series: Floats, months: NDArray[np.integer]) -> Floats:
    """Gaps of (time, series) filled by the mean of their month; NaN where the month was never observed."""
    done = series.copy()
    for month in np.unique(months):
        rows = months == month
        seen = np.isfinite(series[rows])
        count = seen.sum(axis=0)
        total = np.where(seen, series[rows], 0).sum(axis=0, dtype="float64")
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        done[rows] = np.where(seen, series[rows], mean)
    return done
