"""Ordinary kriging as it is called: points in, a map and its variance out."""

import warnings
from typing import Any

import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.geostat.kriging.estimate import Search, estimate
from timo.geostat.kriging.observations import Observations, observations_of, other_dim
from timo.geostat.kriging.placing import with_crs
from timo.geostat.kriging.system import Correlations, Model, Noise, correlations_of
from timo.geostat.options import count
from timo.geostat.places import check_same_crs, places_of

# What a map keeps of the grid that it was asked for on.
PLACING = ("x", "y", "spatial_ref")
# A variogram hardly changes with more dates than this, and each costs all pairs of points.
MOST_DATES = 50
# Pairs of points, over all these dates, that a model is fitted to: some seconds.
MOST_PAIRS = 5e8


def krige(
    points: xr.DataArray,
    grid: xr.DataArray | xr.Dataset,
    model: Model | None = None,
    *,
    neighbours: int | None = 32,
    noise: Noise = "microscale",
    block_size: int | None = None,
) -> xr.Dataset:
    """Tell values where nothing was observed: ordinary kriging, from the nearest observations.

    The best linear unbiased prediction under an unknown mean that is constant among the neighbours
    (Matheron 1963; Cressie 1993, Statistics for Spatial Data, section 3.2).

    Parameters
    ----------
    points : DataArray
        Dim "point" with coordinates x and y (`timo.geostat.points` makes one), NaN where nothing was observed. One
        further dim such as "time" is a series: dates with the same gaps share one set of weights, so that a whole
        series costs what one date does; every other pattern of gaps is solved anew. Points at one place are averaged,
        with a warning.
    grid : DataArray or Dataset
        Where to tell values: dims y and x, or dim "point" with coordinates x and y. Only its places count. In the
        coordinate reference system of the points.
    model : VariogramModel, optional
        By default an exponential model is fitted to the variogram of the points; of a series, to that of 50 dates
        spread evenly, pooled (fewer of more than 3,000 points).
    neighbours : int or None
        Told from at most so many of the nearest observations; from all of them where there are fewer. None for all,
        however many: exact, and slow from some thousands on.
    noise : {"microscale", "measurement"}
        What the nugget is. "microscale": it varies in space, over less than the points are apart. The map runs through
        the observations, and the variance, 0 there, is that of a **new observation**: an interval from it covers
        one that was held out. "measurement": it is error of the observations. The map smooths them, at their places
        too, and the variance is that of the **field without the error**. Away from the points both give the same
        mean, and variances that differ by the nugget. With a nugget of 0 they are the same.
    block_size : int, optional
        Places at a time. The default keeps a block under some 100 MB; results do not depend on it.

    Returns
    -------
    Dataset
        `mean` in the unit of the values and `variance` in its square, on the grid, with the model in the attributes.
        Far beyond the range the mean is that of the neighbours (by generalised least squares), and the variance the
        sill and the variance of that mean. NaN on dates with fewer than three observations, with a warning. The
        reference system is in `attrs["crs"]` on points, in the coordinate spatial_ref on a raster. Where all dates have
        the same gaps, a variance of 1 GB or more is a read-only view of one date's: copy() it before writing to it.

    Raises
    ------
    TimoError
        Fewer than three places with a value, a model that is none, a grid without cells, points and grid in
        different reference systems, neighbours under 1, or more than 10,000 points with neighbours=None.

    Notes
    -----
    In degrees the neighbours are found by chords through the unit sphere, which order places as great circles do, and
    distances are great-circle ones. There not every model is a valid covariance: the exponential, the spherical and
    the stable up to power 1 and Matérn up to nu = 1/2 are; the gaussian and smoother ones are not (Gneiting 2013,
    Bernoulli 19, table 1), which matters only for ranges of thousands of kilometres: negative variances are then set
    to 0, with a warning.

    A system too close to singular to be solved gets a nugget of 1e-8 of the sill, with a warning. Where all values
    are the same and no model was given, the map is that value with variance 0, with a warning.
    """
    search = Search(count(neighbours, "neighbours"), count(block_size, "block_size"))
    observed = observations_of(points)
    sought = places_of(grid)
    if len(sought) == 0:
        raise TimoError("the grid has no cells: nothing can be told there")
    check_same_crs(observed.places, sought)
    model, correlations = model_or_fit(points, observed, model, noise)
    both = estimate(observed.places, observed.values, sought, correlations, search)
    told = xr.Dataset(
        {n: _on_grid(v, points, grid) for n, v in zip(("mean", "variance"), both, strict=True)}
    )
    return with_crs(described(told, points, model), sought.crs).assign_attrs(
        noise=noise, neighbours=min(search.neighbours or len(observed.places), len(observed.places))
    )


def model_or_fit(
    points: xr.DataArray, observed: Observations, model: Model | None, noise: Noise
) -> tuple[Model | None, Correlations]:
    """Take the model given, or the one fitted; none where nothing varies."""
    if model is None and observed.constant:
        warnings.warn(
            "all values are the same, and no model can be fitted: the variance is told as 0",
            UserWarning,
            stacklevel=3,
        )
        return None, Correlations(np.zeros_like, sill=0.0, nugget=0.0, exact=True)
    if model is None:
        model = _fitted(points)
    return model, correlations_of(model, noise)


def _fitted(points: xr.DataArray) -> Model:
    """Exponential model of the points' variogram, pooled over the dates."""
    from timo.geostat.fitting import fit_model
    from timo.geostat.variograms import variogram

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = fit_model(variogram(_some_dates(points)))
    except TimoError as error:
        raise TimoError(
            f"no model could be fitted to these points, so pass one, model=VariogramModel(...): {error}"
        ) from error
    for warning in caught:
        warnings.warn(_advised(str(warning.message)), warning.category, stacklevel=4)
    return model


def _advised(text: str) -> str:
    """What a fit warns of, with what helps here: an option of the variogram cannot be given to kriging."""
    found, _, _ = text.partition(" Take a larger max_lag")
    if found == text:
        return text
    return (
        f"{found} Fit a model yourself and pass model=: fit_model(variogram(points, max_lag=...)), or take a trend "
        "out of the values first."
    )


def _some_dates(points: xr.DataArray) -> xr.DataArray:
    """Dates spread evenly; a variogram knows their dim as "time", whatever it is."""
    first = other_dim(points)
    if first is None:
        return points
    most = max(1, min(MOST_DATES, int(MOST_PAIRS // points.sizes["point"] ** 2)))
    dates = np.arange(points.sizes[first])
    if most < MOST_DATES:  # so few must not be those of clouds
        seen = points.notnull().sum("point").values
        dates = np.flatnonzero(seen >= seen.max() / 2)
    chosen = np.unique(np.linspace(0, len(dates) - 1, most).astype(int))
    some = points.isel({first: dates[chosen]})
    return (
        some if first == "time" else some.drop_vars("time", errors="ignore").rename({first: "time"})
    )


def described(told: xr.Dataset, points: xr.DataArray, model: Model | None) -> xr.Dataset:
    """Units of mean and variance, the model, and the reference system: what a file keeps."""
    name, unit = points.attrs.get("long_name", points.name), points.attrs.get("units")
    for variable, what, power in (
        ("mean", "kriged mean", ""),
        ("variance", "kriging variance", "2"),
    ):
        told[variable].attrs["long_name"] = f"{what} of {name}" if name else what
        if unit is not None:
            told[variable].attrs["units"] = f"({unit}){power}" if power else unit
    if "crs" in points.attrs:
        told.attrs["crs"] = points.attrs["crs"]
    for field in ("kind", "sill", "range_m", "nugget", "shape"):
        value = getattr(model, field, None)
        if value is not None:
            told.attrs[f"model_{field}"] = value
    return told


def _on_grid(
    values: np.ndarray, points: xr.DataArray, grid: xr.DataArray | xr.Dataset
) -> xr.DataArray:
    dims = ("point",) if "point" in grid.dims else ("y", "x")
    kept: dict[str, Any] = {n: grid[n] for n in (*PLACING, "point") if n in grid.coords}
    first, shape = other_dim(points), tuple(grid.sizes[dim] for dim in dims)
    if first is None:
        return xr.DataArray(values[0].reshape(shape), kept, dims)
    if first in points.coords:
        kept[first] = points[first]
    return xr.DataArray(values.reshape(len(values), *shape), kept, (first, *dims))
