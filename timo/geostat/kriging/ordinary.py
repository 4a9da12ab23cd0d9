"""Ordinary kriging: from points and a model to a map and its variance."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import xarray as xr

from timo.checks import Count, checked
from timo.errors import TimoError, warn
from timo.geostat.fitting import fit_model
from timo.geostat.kriging.observations import (
    FEWEST,
    Observations,
    gaps,
    observations_of,
    other_dim,
)
from timo.geostat.kriging.weights import (
    Block,
    Correlations,
    Noise,
    dense_blocks,
    local_blocks,
)
from timo.geostat.models import VariogramModel
from timo.geostat.places import Places, check_same_crs, places_of, spatial_dims, with_crs
from timo.geostat.values import Field
from timo.geostat.variograms import variogram

FittedModel = Annotated[
    VariogramModel, 'Fit one: fit_model(variogram(points), "spherical"), or VariogramModel(...).'
]
# Coordinates that a map keeps of the grid that it was asked for on.
PLACING = ("x", "y", "spatial_ref")
# A variogram hardly changes with more dates than this, and each costs all pairs of points.
MOST_DATES = 50
# Pairs of points, over all these dates, that a model is fitted to: some seconds.
MOST_PAIRS = 5e8
# Bytes from which the variance of a series is not repeated for each date.
LARGE = 1_000_000_000
# Negative variances, over the sill, that rounding and the jitter explain.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Search:
    """The number of nearest observations that a place is estimated from (None: all), and of places at a time."""

    neighbours: int | None = 32
    block_size: int | None = None


@checked
def krige(
    points: Field,
    grid: Field | xr.Dataset,
    model: FittedModel | None = None,
    *,
    neighbours: Count | None = 32,
    noise: Noise = "microscale",
    block_size: Count | None = None,
) -> xr.Dataset:
    """Predict values at unobserved locations by ordinary kriging with a local neighbourhood.

    The best linear unbiased prediction under an unknown mean that is constant among the neighbours
    (Matheron 1963; Cressie 1993, Statistics for Spatial Data, section 3.2).

    Parameters
    ----------
    points : xarray.DataArray
        From `timo.geostat.points`, NaN where nothing was observed. One further dim such as "time" is a series: dates
        with the same gaps share one set of weights, so that a series without gaps costs what one date does. Points at
        one place are averaged, with a warning.
    grid : xarray.DataArray or xarray.Dataset
        Where to estimate: a raster or points, in the reference system of `points`. Only its places count.
    model : VariogramModel, optional
        By default an exponential model is fitted to the variogram of the points; of a series, to that of 50 dates
        spread evenly, pooled (fewer of more than 3,000 points).
    neighbours : int or None
        The nearest observations that a place is estimated from; None for all: exact, and slow from some thousands on.
    noise : {"microscale", "measurement"}
        The meaning of the nugget. "microscale": it varies in space, over less than the points are apart. The map runs
        through the observations, and the variance, 0 there, is that of a **new observation**: an interval from it
        covers one that was held out. "measurement": it is error of the observations. The map smooths them, at their
        places too, and the variance is that of the **field without the error**. Away from the points the means are the
        same, and the variances differ by the nugget.
    block_size : int, optional
        Places at a time, by default some 100 MB; results do not depend on it.

    Returns
    -------
    xarray.Dataset
        `mean` in the unit of the values and `variance` in its square, on the grid, with the model in the attributes.
        Far beyond the range the mean is that of the neighbours, and the variance the sill and that of their mean. NaN
        on dates with fewer than three observations, with a warning. The reference system is in `attrs["crs"]` on
        points, in the coordinate spatial_ref on a raster. Where all dates have the same gaps, a variance of 1 GB or
        more is a read-only view of one date's: copy() it before writing to it.

    Raises
    ------
    TimoError
        If fewer than three places have a value, the grid has no cells, points and grid are in different reference
        systems, or there are more than 10,000 points with neighbours=None.

    Notes
    -----
    In degrees distances are great-circle ones. There not every model is a valid covariance: the exponential, the
    spherical, the stable up to power 1 and Matérn up to nu = 1/2 are; the gaussian and smoother ones are not (Gneiting
    2013, Bernoulli 19, table 1), which matters only for ranges of thousands of kilometres: negative variances are then
    set to 0, with a warning.

    A system too close to singular to be solved gets a nugget of 1e-8 of the sill, with a warning. Where all values
    are the same and no model was given, the map is that value with variance 0, with a warning.
    """
    search = Search(neighbours, block_size)
    observed = observations_of(points)
    sought = places_of(grid)
    if len(sought) == 0:
        raise TimoError("The grid has no cells. Give a grid with the places to estimate at.")
    check_same_crs(observed.places, sought)
    model = model_or_fit(points, observed, model)
    both = estimate(observed.places, observed.values, sought, Correlations(model, noise), search)
    kriged = xr.Dataset(
        {n: _on_grid(v, points, grid) for n, v in zip(("mean", "variance"), both, strict=True)}
    )
    return with_crs(described(kriged, points, model), sought.crs).assign_attrs(
        noise=noise, neighbours=min(neighbours or len(observed.places), len(observed.places))
    )


def model_or_fit(
    points: xr.DataArray, observed: Observations, model: VariogramModel | None
) -> VariogramModel | None:
    """Return the model given, or the one fitted; None where nothing varies."""
    if model is None and observed.constant:
        warn("all values are the same, and no model can be fitted: the variance is given as 0")
    elif model is None:
        return _fitted(points)
    return model


def _fitted(points: xr.DataArray) -> VariogramModel:
    """Fit an exponential model to the points' variogram, pooled over the dates."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = fit_model(variogram(_some_dates(points)))
    except TimoError as error:
        raise TimoError(
            f"No model could be fitted to these points, so pass one, model=VariogramModel(...): {error}"
        ) from error
    for warning in caught:
        # An option of the variogram cannot be given to kriging.
        text, advice, _ = str(warning.message).partition(" Take a larger max_lag")
        if advice:
            text += (
                " Fit a model yourself and pass model=: fit_model(variogram(points, max_lag=...)), or take a trend "
                "out of the values first."
            )
        warn(text, warning.category)
    return model


def _some_dates(points: xr.DataArray) -> xr.DataArray:
    """Return dates spread evenly, with their dim renamed to the "time" of a variogram."""
    first = other_dim(points)
    if first is None:
        return points
    most = max(1, min(MOST_DATES, int(MOST_PAIRS // points.sizes["point"] ** 2)))
    dates = np.arange(points.sizes[first])
    if most < MOST_DATES:  # the few must not be those of clouds
        seen = points.notnull().sum("point").values
        dates = np.flatnonzero(seen >= seen.max() / 2)
    chosen = np.unique(np.linspace(0, len(dates) - 1, most).astype(int))
    some = points.isel({first: dates[chosen]})
    return (
        some if first == "time" else some.drop_vars("time", errors="ignore").rename({first: "time"})
    )


def described(kriged: xr.Dataset, points: xr.DataArray, model: VariogramModel | None) -> xr.Dataset:
    """Write units of mean and variance, the model, and the reference system: what a file keeps."""
    name, unit = points.attrs.get("long_name", points.name), points.attrs.get("units")
    for variable, long_name, units in (
        ("mean", "kriged mean", unit),
        ("variance", "kriging variance", f"({unit})2"),
    ):
        kriged[variable].attrs["long_name"] = f"{long_name} of {name}" if name else long_name
        if unit is not None:
            kriged[variable].attrs["units"] = units
    if "crs" in points.attrs:
        kriged.attrs["crs"] = points.attrs["crs"]
    for field in ("kind", "sill", "range_m", "nugget", "shape"):
        value = getattr(model, field, None)
        if value is not None:
            kriged.attrs[f"model_{field}"] = value
    return kriged


def _on_grid(
    values: np.ndarray, points: xr.DataArray, grid: xr.DataArray | xr.Dataset
) -> xr.DataArray:
    dims = spatial_dims(grid)
    kept: dict[str, Any] = {n: grid[n] for n in (*PLACING, "point") if n in grid.coords}
    first, shape = other_dim(points), tuple(grid.sizes[dim] for dim in dims)
    if first is None:
        return xr.DataArray(values[0].reshape(shape), kept, dims)
    if first in points.coords:
        kept[first] = points[first]
    return xr.DataArray(values.reshape(len(values), *shape), kept, (first, *dims))


def estimate(
    observed: Places,
    values: np.ndarray,
    sought: Places,
    correlations: Correlations,
    search: Search,
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance (dates, m) of a series (dates, n): dates with the same gaps have the same weights."""
    groups = list(gaps(values))
    single = len(groups) == 1
    shape = (len(values), len(sought))
    mean, variance = np.full(shape, np.nan), np.full((1, shape[1]) if single else shape, np.nan)
    few = sum(len(dates) for dates, seen in groups if len(seen) < FEWEST)
    if few:
        warn(
            f"{few} dates have fewer than {FEWEST} observations: their mean and variance are NaN",
            RuntimeWarning,
        )
    for dates, seen in groups:
        if len(seen) < FEWEST:
            continue
        blocks = weigh(observed[seen], sought, correlations, search)
        means, variances = apply(blocks, values[np.ix_(dates, seen)], len(sought), correlations)
        mean[dates] = means
        variance[slice(None) if single else dates] = variances
    if variance.shape != shape:
        variance = np.broadcast_to(variance, shape)
        variance = variance.copy() if mean.nbytes < LARGE else variance
    return mean, variance


def weigh(
    observed: Places, sought: Places, correlations: Correlations, search: Search
) -> Iterable[Block]:
    """Yield weights of the nearest; of all where there are no more than the nearest that are wanted."""
    if search.neighbours is None or search.neighbours >= len(observed):
        return dense_blocks(observed, sought, correlations, search.block_size)
    return local_blocks(observed, sought, correlations, search.neighbours, search.block_size)


def apply(
    blocks: Iterable[Block], values: np.ndarray, cells: int, correlations: Correlations
) -> tuple[np.ndarray, np.ndarray]:
    """Return means (dates, m) and variance (m,) from weights and values (dates, n) without NaN."""
    # Around their mean, for weights sum to one only up to rounding and values may be large.
    centre = values.mean(axis=1, keepdims=True)
    around = np.ascontiguousarray((values - centre).T)
    mean, variance, repaired = np.empty((len(values), cells)), np.empty(cells), 0
    for block in blocks:
        mean[:, block.cells] = (block.weights @ around).T
        variance[block.cells] = block.variance
        repaired += block.repaired
    if repaired:
        warn(
            f"{repaired} kriging systems were near-singular and got a nugget of 1e-8 of the sill: points lie much "
            "closer together than the model's range. Give the model a nugget",
            RuntimeWarning,
        )
    return mean + centre, positive(variance, correlations.sill)


def positive(variance: np.ndarray, sill: float) -> np.ndarray:
    """Set negative variances to 0, with a warning where it was not rounding that made them so."""
    if variance.size and variance.min() < -ROUNDING * sill:
        warn(
            f"{np.sum(variance < -ROUNDING * sill)} kriging variances were negative and are set to 0: the model is "
            "no valid covariance at these distances. On the sphere take the exponential or the spherical model, or "
            "project",
            RuntimeWarning,
        )
    return np.maximum(variance, 0)
