"""Is kriging as good as it says: every observation estimated from the others, and intervals."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import xarray as xr
from scipy.linalg import lu_solve
from scipy.special import ndtri

from timo.checks import Count, Range, Seed, checked, plain, whole
from timo.errors import TimoError, said_once, warn
from timo.geostat.kriging.observations import FEWEST, Observations, gaps, observations_of, other_dim
from timo.geostat.kriging.ordinary import (
    FittedModel,
    Search,
    apply,
    described,
    estimate,
    model_or_fit,
    positive,
)
from timo.geostat.kriging.weights import Correlations, correlation_matrix, factorise, local_blocks
from timo.geostat.models import VariogramModel
from timo.geostat.places import Places
from timo.geostat.values import Field


@checked(told="kriged")
def interval(
    kriged: Annotated[xr.Dataset, "Give the whole dataset of krige or cross_validate."],
    level: Annotated[float, Range(above=0, below=1)] = 0.9,
) -> xr.Dataset:
    """Return bounds between which the value lies with a probability, if errors are Gaussian.

    Parameters
    ----------
    kriged : xarray.Dataset
        From `krige` or `cross_validate`.
    level : float
        The probability.

    Returns
    -------
    xarray.Dataset
        `lower` and `upper`, mean ± z √variance; see `noise` of `krige` for what they bound.

    Raises
    ------
    TimoError
        If mean or variance are missing, or no numbers.
    """
    numbers = {name for name, array in kriged.data_vars.items() if array.dtype.kind in "iuf"}
    if not {"mean", "variance"} <= numbers:
        raise TimoError(
            "An interval needs mean and variance, both numbers: the whole dataset of krige or cross_validate; "
            f"got {sorted(map(str, numbers))}."
        )
    mean, variance = kriged["mean"], kriged["variance"]
    reach = float(ndtri((1 + level) / 2)) * np.sqrt(variance)
    bounds = xr.Dataset({"lower": mean - reach, "upper": mean + reach})
    for bound in bounds.values():
        bound.attrs = {k: v for k, v in mean.attrs.items() if k in ("units", "crs")}
    return bounds.assign_attrs(kriged.attrs, level=level)


@checked
def cross_validate(
    points: Field,
    model: FittedModel | None = None,
    *,
    neighbours: Count | None = 32,
    folds: Any = None,
    seed: Seed = 0,
) -> xr.Dataset:
    """Predict every observation from the others by kriging, and compare.

    Parameters
    ----------
    points, model, neighbours
        As of `krige`.
    folds : int or array_like, optional
        By default every place is left out by itself. A number: that many random parts. Labels, one for each point:
        points of one label together; blocks wider than the range give the error far from any observation, which leaving
        out one at a time does not see.
    seed : int
        Of the random parts.

    Returns
    -------
    xarray.Dataset
        On the points: `mean`, `variance` (of a new observation) and `error` (mean - observed), NaN where nothing was
        observed. Attributes: `rmse`, `mae`, `bias`, `coverage_90` (share of observations inside their 90 % interval)
        and `standardised` (mean squared error over its variance, 1 if the variances are right). Points at one place are
        left out together.

    Raises
    ------
    TimoError
        As `krige`; or if the folds are fewer than two, more than the places, or not one for each point.

    Notes
    -----
    Without a model, one is fitted to the rest of the points for each fold; leaving out single places, which hardly
    change it, once to all. With all neighbours, errors and variances are read off one inverse (Dubrule 1983,
    Mathematical Geology 15, 687).
    """
    observed = observations_of(points)
    search = Search(neighbours)
    if folds is None:
        model = model_or_fit(points, observed, model)
        mean, variance = _one_out(observed, Correlations(model, "microscale"), search)
    else:
        parts = _parts(folds, observed, points, seed)
        with said_once("folds"):
            mean, variance = _parts_out(points, observed, parts, model, search)
    return _compared(points, observed, mean, variance, model)


def _one_out(
    observed: Observations, correlations: Correlations, search: Search
) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (np.full(observed.values.shape, np.nan) for _ in range(2))
    for dates, seen in gaps(observed.values):
        if len(seen) < FEWEST:
            continue
        places, values = observed.places[seen], observed.values[np.ix_(dates, seen)]
        if search.neighbours is None or search.neighbours >= len(seen) - 1:
            estimates = _dubrule(places, values, correlations)
        else:
            k = search.neighbours
            blocks = local_blocks(places, places, correlations, k, left_out=True)
            estimates = apply(blocks, values, len(seen), correlations)
        mean[np.ix_(dates, seen)], variance[np.ix_(dates, seen)] = estimates
    return mean, variance


def _dubrule(
    places: Places, values: np.ndarray, correlations: Correlations
) -> tuple[np.ndarray, np.ndarray]:
    """Return means (dates, n) and variances (n,) of each from all others, by one inverse."""
    factors, pivots, _ = factorise(correlation_matrix(places, correlations))
    inverse = lu_solve((factors, pivots), np.eye(len(factors)), check_finite=False)
    ones = inverse.sum(axis=1)
    inverse -= np.outer(ones, ones / ones.sum())  # of the system bordered by the unknown mean
    own = np.diagonal(inverse)
    centre = values.mean(axis=1, keepdims=True)
    mean = values - (values - centre) @ inverse.T / own
    return mean, positive(correlations.sill / own, correlations.sill)


def _parts(folds: Any, observed: Observations, points: xr.DataArray, seed: int) -> np.ndarray:
    """Return the label of the part that each place belongs to, (n,)."""
    n, given = len(observed.places), points.sizes["point"]
    if np.isscalar(plain(folds)):
        number = whole(folds, "folds", least=2, most=n)
        return np.random.default_rng(seed).permutation(n) % number
    try:
        labels = np.asarray(folds)
        if labels.shape != (given,):
            raise ValueError(f"their shape is {labels.shape}")
        if xr.DataArray(labels).isnull().any():
            raise ValueError("some are missing (NaN)")
        labels = np.unique(labels, return_inverse=True)[1]
    except (TypeError, ValueError) as error:
        raise TimoError(
            f"folds must be a whole number, or one label for each of the {given} points, all numbers or all text; "
            f"{error}."
        ) from error
    parts = np.empty(n, dtype=labels.dtype)
    kept = observed.place_of >= 0
    parts[observed.place_of[kept]] = labels[kept]
    if len(np.unique(parts)) < 2:
        raise TimoError(
            "folds gives one label to all points, and nothing is left to estimate them from. Give two or more."
        )
    return parts


def _parts_out(
    points: xr.DataArray,
    observed: Observations,
    parts: np.ndarray,
    model: VariogramModel | None,
    search: Search,
) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (np.full(observed.values.shape, np.nan) for _ in range(2))
    for part in np.unique(parts):
        out, rest = np.flatnonzero(parts == part), np.flatnonzero(parts != part)
        if len(rest) < FEWEST:
            raise TimoError(
                f"A fold leaves {len(rest)} places, and {FEWEST} are needed. Make smaller folds."
            )
        left = points.isel(point=np.flatnonzero(np.isin(observed.place_of, rest)))
        known = Observations(observed.places[rest], observed.values[:, rest], observed.place_of)
        correlations = Correlations(model_or_fit(left, known, model), "microscale")
        mean[:, out], variance[:, out] = estimate(
            known.places, known.values, observed.places[out], correlations, search
        )
    return mean, variance


def _compared(
    points: xr.DataArray,
    observed: Observations,
    mean: np.ndarray,
    variance: np.ndarray,
    model: VariogramModel | None,
) -> xr.Dataset:
    """Return the estimates on the points as they were given, with their errors and scores."""
    given = points.transpose(..., "point")
    seen = np.isfinite(given) & (observed.place_of >= 0)

    def on_points(values: np.ndarray) -> xr.DataArray:
        by_point = values[:, observed.place_of]
        return given.copy(data=by_point if other_dim(points) else by_point[0]).where(seen)

    compared = xr.Dataset({"mean": on_points(mean), "variance": on_points(variance)})
    compared = described(compared, points, model)
    compared["error"] = (compared["mean"] - given).assign_attrs(
        compared["mean"].attrs, long_name="error (mean - observed)"
    )
    return compared.assign_attrs(_scores(compared, given))


def _scores(compared: xr.Dataset, given: xr.DataArray) -> dict[str, float]:
    error, variance = compared["error"].values, compared["variance"].values
    if not np.isfinite(error).any():
        warn("no date has enough observations to leave one out", RuntimeWarning)
        return {}
    bounds = interval(compared)
    inside = ((given >= bounds["lower"]) & (given <= bounds["upper"])).values
    sure = variance > 0
    squares = error[sure] ** 2 / variance[sure]
    return {
        "rmse": float(np.sqrt(np.nanmean(error**2))),
        "mae": float(np.nanmean(np.abs(error))),
        "bias": float(np.nanmean(error)),
        "coverage_90": float(inside[np.isfinite(error)].mean()),
        "standardised": float(np.nanmean(squares)) if sure.any() else np.nan,
    }
