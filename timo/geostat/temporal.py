"""Autocorrelation, variograms in time, and the distance of two distributions."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pandas as pd
import xarray as xr

from timo.checks import Count, Positive, checked
from timo.errors import TimoError, warn
from timo.geostat.lags import BinsOption, make_bins, tabulated
from timo.geostat.places import read_dates
from timo.geostat.values import as_floats, days_of, floats_of

Series = Annotated[
    xr.DataArray | pd.Series, 'Use xr.DataArray(values, dims="time", coords={"time": dates}).'
]
# Months differ by 11 % in length; that still counts as a regular step.
_REGULAR = 1.15


@checked
def acf(da: Series, lags: Count = 30) -> xr.DataArray:
    """Compute the autocorrelation of regular series.

    Parameters
    ----------
    da : xarray.DataArray or pandas.Series
        Dim "time" (an index of dates) in regular steps; each series of the other dims by itself. NaN = missing.
    lags : int
        Longest lag in steps.

    Returns
    -------
    xarray.DataArray
        "lag" (0 .. lags, in steps; coordinate `days` if time is dates) and the other dims.

    Raises
    ------
    TimoError
        If dates are irregular, the series has no more than `lags` steps, or values are infinite or nodata.

    Warns
    -----
    RuntimeWarning
        If a series is constant or empty: it is NaN.

    Notes
    -----
    r_k = Σ (z_t - m)(z_{t+k} - m) / Σ (z_t - m)². With missing values the sums are means over the pairs that are known,
    times (n - k)/n: the amplitude modulated estimator (Parzen 1963, Sankhyā A 25, 383).
    """
    da = _array(da)
    values, step = _regular(da, lags)
    known = np.isfinite(values)
    count = known.sum(axis=0)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1)
    z = np.where(known, values - mean, 0)
    n = values.shape[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (z**2).sum(axis=0) / count
        variance = np.where(
            variance > 1e-20 * np.nanmax(np.abs(values), initial=0) ** 2, variance, np.nan
        )
        rows = []
        for k in range(lags + 1):
            pairs = (known[k:] & known[: n - k]).sum(axis=0)
            product = (z[k:] * z[: n - k]).sum(axis=0)
            rows.append(product / pairs * (n - k) / n / variance)
    if not np.isfinite(variance).all():
        warn(
            "Some series are constant or have no values: their autocorrelation is NaN.",
            RuntimeWarning,
        )
    kept = [dim for dim in da.dims if dim != "time"]
    coords: dict[Any, Any] = {key: c for key, c in da.coords.items() if "time" not in c.dims}
    coords["lag"] = ("lag", np.arange(len(rows)), {"long_name": "lag", "units": "steps"})
    if step is not None:
        coords["days"] = ("lag", step * np.arange(len(rows)), {"units": "days"})
    attrs = {"long_name": "autocorrelation"}
    return xr.DataArray(np.stack(rows), dims=("lag", *kept), coords=coords, attrs=attrs)


@checked
def pacf(da: Series, lags: Count = 30) -> xr.DataArray:
    """Compute the partial autocorrelation of regular series: of each lag what the shorter ones do not explain.

    Parameters, result, errors and warnings as of `acf`, from which it is made by the Durbin-Levinson recursion
    (Brockwell and Davis 1991, Time Series: Theory and Methods, 5.2); of a series with many gaps it may leave -1 .. 1
    and is NaN from there on.
    """
    r = acf(da, lags)
    rho = r.values
    partial = np.full_like(rho, np.nan)
    partial[0] = rho[0]
    phi = np.zeros_like(rho)
    left = np.ones_like(rho[0])
    for k in range(1, lags + 1):
        with np.errstate(invalid="ignore", divide="ignore"):
            last = (rho[k] - (phi[1:k] * rho[k - 1 : 0 : -1]).sum(axis=0)) / left
        last = np.where(np.abs(last) <= 1, last, np.nan)
        phi[1:k] = phi[1:k] - last * phi[k - 1 : 0 : -1]
        phi[k] = partial[k] = last
        left = left * (1 - last**2)
    return r.copy(data=partial).assign_attrs(long_name="partial autocorrelation")


@checked
def lag_curves(
    da: Series, *, bins: BinsOption = "auto", max_lag: Positive | None = None
) -> xr.Dataset:
    """Estimate the variogram in time: half the mean squared difference of values against the days between them.

    Parameters
    ----------
    da : xarray.DataArray or pandas.Series
        Dim "time" (dates in any steps, or numbers of days) and y, x or point; any other dim, such as band, keeps a
        curve of its own. NaN = missing.
    bins, max_lag
        As for `variogram`, in days. Default: up to half the time that is covered.

    Returns
    -------
    xarray.Dataset
        Over "lag" (days) and the dims that are kept: `semivariance`, half the mean squared difference of all pairs of
        dates of the same pixel, pooled over pixels, and `pairs`. `fit_model` takes that of one band; its range is days.

    Raises
    ------
    TimoError
        If there are fewer than three dates, no pixel has two values, or values are infinite or nodata.
    """
    da = _array(da)
    pixel = [dim for dim in ("y", "x", "point") if dim in da.dims]
    if "time" not in da.dims or da.sizes["time"] < 3:
        raise TimoError(
            f'lag_curves needs the dim "time" with three dates or more; got {dict(da.sizes)}.'
        )
    if "time" not in da.coords:
        raise TimoError('The dim "time" has no coordinate. Give dates, or numbers of days.')
    kept = [dim for dim in da.dims if dim not in ("time", *pixel)]
    days = days_of(da)
    gap = np.abs(days[:, None] - days)
    if not gap.any():
        raise TimoError("All dates are the same one: there is no time between them.")
    table = floats_of(da.transpose(*kept, "time", *pixel))
    shape = table.shape[: len(kept)]
    table = table.reshape(-1, da.sizes["time"], int(np.prod(table.shape[len(kept) + 1 :])))
    upper = np.triu_indices(days.size, 1)
    lags = make_bins(bins, float(gap.max()) / 2 if max_lag is None else max_lag)
    index = lags.fine_index(gap[upper])
    sums = np.zeros((3, len(table), len(lags)))
    for number, rows in enumerate(table):
        pairs, squares = (matrix[upper] for matrix in _date_pairs(rows))
        for row, weights in enumerate((pairs, pairs * gap[upper], squares)):
            sums[row, number] = lags.coarse(np.bincount(index, weights, minlength=lags.fine))
    if not sums[0].any():
        raise TimoError("No pixel has values on two dates within max_lag. Take a larger one.")
    coords, count, mean = tabulated(sums, lags, units="days", long_name="time between")
    dims = ("lag", *kept)
    gamma, count = (rows.T.reshape(-1, *shape) for rows in (mean / 2, count.astype("int64")))
    return xr.Dataset(
        {
            "semivariance": (dims, gamma, {"long_name": "semivariance"}),
            "pairs": (dims, count, {"long_name": "pairs of values"}),
        },
        coords={**{key: da.coords[key] for key in kept if key in da.coords}, **coords},
        attrs={"long_name": "variogram in time"},
    )


@checked
def wasserstein1(a: Any, b: Any) -> float:
    """Compute the earth mover's distance between the values of two arrays; what is not finite or masked is left out.

    The least mean distance, in the unit of the values, by which values of `a` have to be moved to become distributed as
    those of `b` (scipy.stats.wasserstein_distance).

    Raises
    ------
    TimoError
        If one of them has no finite value.
    """
    from scipy.stats import wasserstein_distance

    first, second = (as_floats(array).ravel() for array in (a, b))
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    if not first.size or not second.size:
        raise TimoError("One of the two arrays has no finite value. Give two arrays with values.")
    return float(wasserstein_distance(first, second))


def _array(da: xr.DataArray | pd.Series) -> xr.DataArray:
    if isinstance(da, pd.Series):
        if not isinstance(da.index, pd.DatetimeIndex):
            raise TimoError(
                "A pandas.Series must be indexed by dates. Use pd.to_datetime(da.index)."
            )
        da = xr.DataArray(as_floats(da), dims="time", coords={"time": read_dates(da.index)})
    if not da.size:
        raise TimoError(f"da holds no values; got the sizes {dict(da.sizes)}. Select less away.")
    return da


def _regular(da: xr.DataArray, lags: int) -> tuple[np.ndarray, float | None]:
    """Return values with time first, and the mean step in days (None if time is not dates)."""
    if "time" not in da.dims:
        raise TimoError(
            f'A series needs the dim "time"; got {da.dims}. Use da.rename({{...: "time"}}).'
        )
    if lags >= da.sizes["time"]:
        raise TimoError(
            f"lags must be less than the series' {da.sizes['time']} steps; got {lags}. Give fewer."
        )
    step = None
    if "time" in da.coords:
        days = days_of(da)
        steps = np.diff(days)
        if not steps.min() > 0 or steps.max() > _REGULAR * steps.min():
            raise TimoError(
                f"Autocorrelation needs regular steps; these are {steps.min():g} to {steps.max():g} days. "
                'Resample first, such as da.resample(time="16D").mean() (gaps stay NaN), or use '
                "lag_curves, which takes any dates."
            )
        step = float(steps.mean()) if da["time"].dtype.kind in "mM" else None
    return floats_of(da.transpose("time", ...)), step


def _date_pairs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels known on both dates, and their sum of squared differences, (time, time) each.

    Σ m m' (z - z')² = (m z²)·m' + m·(m' z'²) - 2 z·z', each a matrix product.
    """
    known = np.isfinite(rows)
    mean = rows[known].mean() if known.any() else 0.0
    z = np.where(known, rows - mean, 0)
    mask = known.astype("float64")
    one_sided = z**2 @ mask.T
    return mask @ mask.T, np.maximum(one_sided + one_sided.T - 2 * z @ z.T, 0)
