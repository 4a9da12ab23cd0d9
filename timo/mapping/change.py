"""From a probability per date to one of all dates, and to the year in which a class was lost."""

from collections.abc import Hashable
from typing import Annotated

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr

from timo.checks import Count, Positive, Range, checked, described
from timo.cube.composite import season_years
from timo.errors import TimoError
from timo.mapping.outline import checked_outline, outlined, pooled
from timo.mapping.probabilities import check_kind, check_once, in_range, warn_of_labels

NO_DATA, NO_LOSS = -1, 0
# A single date never counts for more than this: odds of 20 to 1 (log). Undetected cloud shadow is one date, too.
MAX_EVIDENCE = 3.0
# Nor does the past count for more than four such dates, for or against: what was the class long ago need not be it now.
MAX_TRUST = 4 * MAX_EVIDENCE
# A mean of dates limits each to 19 to 1: an undetected cloud is sure, too.
_CEILING = 0.95
_Month = Annotated[int, Range(1, 12)]
_SEVERAL = (
    "Predictions of several models are put beside one another first: "
    'xarray.concat([a, b], "model", join="outer"), with dim="model"; one model reads several sensors in '
    "timo.cube.join(s2, s1)."
)


@checked
def mean_probability(
    probability: Annotated[xr.DataArray, _SEVERAL], dim: Hashable = "time"
) -> xr.DataArray:
    """Combine the probabilities of several dates: the mean of their log-odds.

    A logarithmic opinion pool (Genest & Zidek 1986, Statistical Science 1) with equal weights.

    Parameters
    ----------
    probability : xarray.DataArray
        Probability of one of two classes; NaN = not observed. Limited to 0.05..0.95 first.
    dim : hashable
        The dimension to combine.

    Returns
    -------
    xarray.DataArray
        Probability without `dim`; NaN where nothing was observed.

    Raises
    ------
    TimoError
        If there is no such dimension, a date is there twice, or the values are no probabilities, 0..1: labels, percent;
        of lazy ones when they are computed.
    """
    if dim not in probability.dims or probability.dtype.kind not in "iuf":
        raise TimoError(
            f"probability must be numbers with the dimension {described(dim)}; got {probability.dtype} with "
            f"{list(probability.dims)}. Use result.probability of timo.predict."
        )
    check_kind(probability)
    check_once(probability.indexes.get(dim))
    p = xr.apply_ufunc(
        in_range, probability, dask="parallelized", output_dtypes=[probability.dtype]
    ).clip(1 - _CEILING, _CEILING)
    log_odds = xr.apply_ufunc(np.log, p / (1 - p), dask="parallelized").mean(dim)
    return (1 / (1 + np.exp(-log_odds))).rename(probability.name).assign_attrs(probability.attrs)


@checked
def loss_year(
    probability: xr.DataArray,
    *,
    months: tuple[_Month, _Month] = (6, 8),
    evidence: Positive = 9.0,
    consecutive: Count = 2,
    before: Annotated[float, Range(most=MAX_TRUST)] = 9.0,
    outline: xr.DataArray | None = None,
    reach_m: Positive = 30.0,
) -> xr.Dataset:
    """Detect the year in which each pixel stopped belonging to a class.

    The rule, Page's cumulative sum test (Page 1954, Biometrika 41) on the log-odds of the class. Only clear dates of
    the season count. Each says log((1 - p) / p) against the class, at most +-3. Against a pixel that was the class so
    far (`before`), this evidence is summed from the first date on that speaks against it; the sum never falls under
    zero, where it starts again. The loss is declared when the sum reaches `evidence` and at least `consecutive` clear
    dates in a row have spoken against the class. Its year is that of the date on which the sum left zero: the first
    date that is seen cut. Only the first loss counts.

    A cut after the season's last clear date is of the next year: with the months June to August, a cut in autumn is
    dated to the first summer in which it is seen. A season that runs over the turn of the year is of the year in which
    it ends: with (12, 2), December 2018 is of the southern summer of 2019.

    What sees the surroundings of a pixel draws a clearing too wide. With an `outline`, the probability of the same
    class from single pixels, each date says the mean of both log-odds, and a pixel is kept only if its own log-odds
    fell at least half as far as those of the pixel within `reach_m`, lost in the same year, that fell the furthest: the
    outline runs where half of a pixel was cut. The fall is that from the mean of the season's dates before the loss to
    the mean of those since, in its season and the next.

    Parameters
    ----------
    probability : xarray.DataArray
        (time, y, x) probability of the class that may be lost, 0..1, NaN = not observed; each date once.
    months : (int, int)
        First and last month of the season; outside, low sun and bare branches look like loss. (12, 2) is December to
        February.
    evidence : float
        Sum of log-odds that declares a loss; 9: three dates at odds of 20 to 1. Two dates can lie in a row, as when
        shadow that no mask has found falls on both.
    consecutive : int
        Clear dates in a row that must speak against the class.
    before : float
        Sum of log-odds for the class that must have been seen before, less those against it, 12 at most; 9: three
        dates at odds of 20 to 1.

    outline : xarray.DataArray, optional
        The same as `probability`, of a model of single pixels: ``timo.predict(model.pixel, cube)``.
    reach_m : float
        Metres to the pixels that a pixel's fall is compared with, to each side; on the sample 20 to 40 m gave the same
        agreement within .01.

    Returns
    -------
    xarray.Dataset
        ``loss_year`` (y, x) int16: 0 = no loss, -1 = no clear date, else the year of the season; ``loss_date`` (y, x)
        datetime64, NaT without loss; ``evidence`` (y, x) float32: the largest sum reached.

    Raises
    ------
    TimoError
        If the probability has no time, y and x, no CRS, its dates do not ascend or one is there twice, none is in the
        season, or an option makes no sense; if the values are no probabilities, 0..1: labels, percent. Those of a lazy
        one are looked at when they are computed.

    Warns
    -----
    UserWarning
        If all values in memory are 0 or 1, as those of labels are.
    """
    if set(probability.dims) != {"time", "y", "x"} or probability.dtype.kind not in "iuf":
        raise TimoError(
            f"loss_year takes the probability of one class, (time, y, x); got {probability.dtype}, {probability.dims}. "
            'Use result.probability.sel({"class": "forest"}).'
        )
    check_kind(probability)
    if probability.rio.crs is None:
        raise TimoError(
            "The probability has no coordinate reference system. "
            'Use probability.rio.write_crs("EPSG:...").'
        )
    dates = probability.indexes.get("time")
    if not isinstance(dates, pd.DatetimeIndex):
        raise TimoError(
            "The probability's time must be datetime64. Use probability.assign_coords(time=pandas.to_datetime(...))."
        )
    check_once(dates)
    if not dates.is_monotonic_increasing:
        raise TimoError('The dates must ascend. Use probability.sortby("time").')
    probability = probability.transpose("time", "y", "x")
    years, within = season_years(dates, months)
    _check_season(dates, within, months)
    seasonal, years = probability.isel(time=within), years[within]
    if seasonal.chunks is None:
        warn_of_labels(seasonal.values)
    said = seasonal
    if outline is not None:
        outline = checked_outline(outline, probability).isel(time=within)
        said = pooled(seasonal, outline)
    index, reached, seen = xr.apply_ufunc(
        _first_loss,
        said.chunk(time=-1) if said.chunks else said,
        input_core_dims=[["time"]],
        output_core_dims=[[], [], []],
        kwargs={"evidence": evidence, "consecutive": consecutive, "before": before},
        dask="parallelized",
        output_dtypes=["int32", "float32", "bool"],
    )
    if outline is not None:
        index = outlined(index, outline, years, reach_m)
    return _dated(index, reached, seen, seasonal.assign_coords(year=("time", years)))


def _check_season(dates: pd.DatetimeIndex, within: np.ndarray, months: tuple[int, int]) -> None:
    if not within.any():
        raise TimoError(
            f"No date lies in the season, the months {months[0]} to {months[1]}; there are dates in the months "
            f"{sorted(set(dates.month))} alone. Give other months=(first, last), or open the cube with such dates."
        )


def _dated(
    index: xr.DataArray, reached: xr.DataArray, seen: xr.DataArray, seasonal: xr.DataArray
) -> xr.Dataset:
    """Turn the indices of dates into years and dates."""
    dates = seasonal.time.values.astype("datetime64[ns]")
    years = np.append(seasonal.year.values, NO_LOSS).astype("int16")
    days = np.append(dates, np.datetime64("NaT", "ns"))
    year, date = _of_dates(index, years), _of_dates(index, days)
    year = year.where(seen, NO_DATA).astype("int16")
    year.attrs = {"long_name": "year of loss", "flags": "0 = no loss, -1 = no data"}
    date.attrs = {"long_name": "first date seen without the class"}
    reached.attrs = {"long_name": "largest sum of log-odds against the class", "units": "1"}
    result = xr.Dataset({"loss_year": year, "loss_date": date, "evidence": reached})
    return result.drop_vars("class", errors="ignore").rio.write_crs(seasonal.rio.crs)


def _of_dates(index: xr.DataArray, values: np.ndarray) -> xr.DataArray:
    """Return the value of the date of each pixel; the last one is that of no date."""
    return xr.apply_ufunc(
        lambda i: values[i], index, dask="parallelized", output_dtypes=[values.dtype]
    )


def _first_loss(
    probability: np.ndarray, *, evidence: float, consecutive: int, before: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first date of the first loss (-1: none), the largest sum, and whether any date is clear."""
    observed = np.isfinite(in_range(probability))
    p = np.clip(np.where(observed, probability, 0.5), 1e-6, 1 - 1e-6)
    against = np.clip(np.log((1 - p) / p), -MAX_EVIDENCE, MAX_EVIDENCE)
    shape = probability.shape[:-1]
    total, largest, trust = (np.zeros(shape, "float32") for _ in range(3))
    start, found = np.full(shape, -1, "int32"), np.full(shape, -1, "int32")
    run = np.zeros(shape, "int16")
    confirmed, was_class = np.zeros(shape, bool), np.zeros(shape, bool)
    for i in range(probability.shape[-1]):
        see, step = observed[..., i], against[..., i]
        opens = see & (total == 0) & (step > 0)
        start, was_class = np.where(opens, i, start), np.where(opens, trust >= before, was_class)
        # Against what was not the class nothing is summed: what grows there would have to be outgrown before a loss.
        total = np.where(see & was_class, np.maximum(total + step, 0), total)
        run = np.where(see, np.where(step > 0, run + 1, 0), run)
        confirmed = (confirmed | (run >= consecutive)) & (total > 0)
        lost = (total >= evidence) & confirmed & (found < 0)
        found = np.where(lost, start, found)
        largest = np.maximum(largest, total)
        trust = np.clip(trust - step * see, -MAX_TRUST, MAX_TRUST)
    return found, largest.astype("float32"), observed.any(axis=-1)
