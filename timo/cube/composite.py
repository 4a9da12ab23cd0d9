"""One valid observation a month, season or year: median and medoid composites."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from timo.checks import checked, described
from timo.cube.check import DIMS, check
from timo.cube.join import sensor_slices
from timo.errors import TimoError

Date = str | dt.date | np.datetime64

# Seasons: December-February, March-May, June-August, September-November.
_PERIODS = {"month": "MS", "season": "QS-DEC", "year": "YS"}
_STARTS = (
    pd.offsets.Day,
    pd.offsets.Week,
    pd.offsets.MonthBegin,
    pd.offsets.QuarterBegin,
    pd.offsets.YearBegin,
)


@checked
def valid_mask(cube: xr.DataArray) -> xr.DataArray:
    """Return where a cube holds an observation.

    Returns
    -------
    xarray.DataArray
        (time, y, x) bool, True where all bands are finite; of a joint cube (`timo.cube.join`) where all bands of any of
        its sensors are. Lazy if the cube is.

    Raises
    ------
    TimoError
        If it has no bands, or holds no numbers.
    """
    if "band" not in cube.dims or cube.dtype.kind not in "iuf":
        raise TimoError(
            f"A cube has the dims {DIMS} and is float32; got {tuple(cube.dims)}, {cube.dtype}. "
            "timo.open_cube opens one."
        )
    finite: xr.DataArray = xr.apply_ufunc(np.isfinite, cube, dask="allowed", keep_attrs=False)
    each = [finite.isel(band=own).all("band") for own in sensor_slices(cube)]
    return reduce(operator.or_, each).rename("valid")


@checked
def composite(
    cube: xr.DataArray,
    freq: str = "month",
    method: Literal["median", "medoid"] = "median",
    *,
    origin: Date | None = None,
) -> xr.DataArray:
    """Composite a cube over months, seasons, years or other periods, from valid observations only.

    Parameters
    ----------
    cube : xarray.DataArray
        A cube. Lazy in, lazy out; the dates of one period are brought into one chunk.
    freq : str
        "month", "season" (from December, March, June and September), "year", or pandas' name of a period by its start:
        "2MS" (two months), "QS-DEC", "YS", "W-MON" (weeks from Monday), "16D".
    method : {"median", "medoid"}
        "median": each band's own median; steady, but no spectrum that was ever observed. "medoid": the observation
        whose Euclidean distances to the period's others have the smallest sum, the earliest of equals; a spectrum that
        was observed, hence band ratios that are real (Flood 2013, Remote Sensing 5(12), 6481-6500).
    origin : date, optional
        The day from which periods of several days, months or years are counted: the first period is the one that it
        lies in. By default the cube's first date.

    Returns
    -------
    xarray.DataArray
        A cube whose `time` is the first day of each period (`period_starts`), and whose coordinate `n_valid` (time, y,
        x) counts the observations behind each pixel. A period is there if the cube has a date in it; a pixel without a
        valid observation in it is NaN. Coordinates that go with single dates (`scl`) are dropped. Of a joint cube the
        observations of each sensor are reduced by themselves, and `n_valid` counts those of all.

    Raises
    ------
    TimoError
        If the cube is no cube, or `freq` or `method` is none of those above.
    """
    parts = sensor_slices(check(cube))
    times = cube.indexes["time"]
    starts = period_starts(times, freq, times[0] if origin is None else origin)
    # What goes with single dates, such as the SCL, has no meaning for a period.
    dated = [name for name, c in cube.coords.items() if "time" in c.dims and name != "time"]
    plain = cube.drop_vars(dated)
    periods = starts.unique()
    pairs = [
        _reduce_parts(plain.isel(time=np.flatnonzero(starts == p)), parts, _METHODS[method])
        for p in periods
    ]
    index = pd.Index(periods.astype(times.dtype), name="time")
    values, count = (_stack([pair[k] for pair in pairs], index) for k in (0, 1))
    result = values.transpose(*DIMS).assign_coords(
        n_valid=count.transpose("time", "y", "x").variable
    )
    result.attrs = cube.attrs | {"composite": f"{freq} {method}"}
    return check(result.rename(cube.name), what="composite")


@checked
def period_starts(times: pd.DatetimeIndex, freq: str, origin: Date) -> pd.DatetimeIndex:
    """Return the first day of the period that each date lies in.

    Parameters
    ----------
    times : DatetimeIndex
        Dates, without a time zone.
    freq : str
        As in `composite`.
    origin : date
        The day from which periods are counted. "16D": every sixteen days from it. "2MS": every two months from its
        month. Single months, quarters of a named month, weeks and years do not depend on it.

    Returns
    -------
    DatetimeIndex
        As long as `times`.

    Raises
    ------
    TimoError
        If `freq` is none, or dates its periods otherwise than by their first day, or a date is none.
    """
    offset = period_offset(freq)
    if times.empty or times.hasnans or times.tz is not None:
        raise TimoError("times must be dates, none of them missing, without a time zone.")
    try:
        first = offset.rollback(pd.Timestamp(origin).tz_localize(None).normalize())
        while first > times.min():
            first -= offset
        edges = pd.date_range(first, times.max(), freq=offset)
    except (
        AttributeError,
        OverflowError,
        ValueError,
    ) as error:  # no date, NaT, out of pandas' range
        raise TimoError(
            f'origin must be a date, such as "2019-01-01"; got {described(origin)}.'
        ) from error
    return edges[edges.searchsorted(times, side="right") - 1]


@checked
def period_offset(freq: str) -> pd.tseries.offsets.BaseOffset:
    """Return pandas' offset from one period to the next.

    Raises
    ------
    TimoError
        If `freq` is none, or dates its periods otherwise than by their first day.
    """
    known = f"{', '.join(_PERIODS)}, or pandas' name of a period by its start: 2MS, QS-DEC, YS, W-MON, 16D"
    try:
        offset = pd.tseries.frequencies.to_offset(_PERIODS.get(freq, freq))
    except (ValueError, TypeError) as error:
        raise TimoError(f"Unknown freq {freq!r}. Known: {known}.") from error
    if not isinstance(offset, _STARTS) or offset.n < 1:
        raise TimoError(
            f"freq={freq!r} does not date periods of whole days by the first of them. Known: {known}."
        )
    return offset


def _stack(parts: list[xr.DataArray], index: pd.Index) -> xr.DataArray:
    return xr.concat(parts, dim=index, coords="minimal", compat="override", join="override")


def _reduce_parts(
    period: xr.DataArray,
    parts: Sequence[slice],
    method: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> tuple[xr.DataArray, xr.DataArray]:
    """Reduce the bands of each sensor to a spectrum by its own observations, and add up their numbers."""
    each = [_reduce(period.isel(band=own), method) for own in parts]
    if len(each) == 1:
        return each[0]
    count = reduce(operator.add, [number for _, number in each])
    return xr.concat([spectrum for spectrum, _ in each], "band", join="outer"), count


def _reduce(
    part: xr.DataArray, method: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> tuple[xr.DataArray, xr.DataArray]:
    """Reduce one period to a spectrum (y, x, band) and its number of observations (y, x)."""
    if part.chunks is not None:
        part = part.chunk({"time": -1, "band": -1})
    return xr.apply_ufunc(
        method,
        part,
        input_core_dims=[["time", "band"]],
        output_core_dims=[["band"], []],
        dask="parallelized",
        output_dtypes=["float32", "int16"],
    )


def _median(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the median per band of (..., time, band) over the valid dates; sorting puts the others last."""
    valid = np.isfinite(values).all(axis=-1)
    count = valid.sum(axis=-1)
    ordered = np.sort(np.where(valid[..., None], values, np.float32(np.inf)), axis=-2)
    low = _pick(ordered, np.maximum(count - 1, 0) // 2)
    high = _pick(ordered, np.minimum(count // 2, values.shape[-2] - 1))
    # low + half the step: exact where the two are equal, and no overflow.
    with np.errstate(invalid="ignore"):
        middle = low + (high - low) / 2
    return _blank(middle, count), count.astype("int16")


def _medoid(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the medoid of (..., time, band) over the valid dates."""
    valid = np.isfinite(values).all(axis=-1)
    count = valid.sum(axis=-1)
    filled = np.where(valid[..., None], values, np.float32(0))
    total = np.zeros(valid.shape, dtype="float64")
    # One date at a time: all pairs at once would take as many copies of the cube as the period has dates.
    for date in range(values.shape[-2]):
        apart = np.sqrt(np.square(filled - filled[..., date : date + 1, :]).sum(axis=-1))
        total += np.where(valid[..., date : date + 1], apart, 0)
    nearest = np.where(valid, total, np.inf).argmin(axis=-1)
    return _blank(_pick(filled, nearest), count), count.astype("int16")


def _pick(values: np.ndarray, date: np.ndarray) -> np.ndarray:
    """Take one date, (...), out of (..., time, band)."""
    return np.take_along_axis(values, date[..., None, None], axis=-2).squeeze(-2)


def _blank(spectrum: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Write NaN where there was no observation."""
    return np.where(count[..., None] > 0, spectrum, np.float32(np.nan)).astype(
        "float32", copy=False
    )


_METHODS = {"median": _median, "medoid": _medoid}


def season_years(times: pd.DatetimeIndex, months: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the year that each date counts to, and whether it lies in the season from a first month to a last one.

    Of a season over the turn of the year, (12, 2), the year is that of its end, and years go from its first month on.
    """
    first, last = months
    year, month = times.year.to_numpy(), times.month.to_numpy()
    if first <= last:
        return year, (month >= first) & (month <= last)
    return year + (month >= first), (month >= first) | (month <= last)


@checked
def days_since_epoch(time: xr.DataArray) -> np.ndarray:
    """Return the days since 1970-01-01 as float32: what the models take for dates.

    Parameters
    ----------
    time : xarray.DataArray
        datetime64 dates of any resolution.

    Raises
    ------
    TimoError
        If they are of another type.
    """
    if time.dtype.kind != "M":
        raise TimoError(f"time must be datetime64; got {time.dtype}. Use pandas.to_datetime(time).")
    return (time.values.astype("datetime64[s]").astype("int64") / 86400).astype("float32")
