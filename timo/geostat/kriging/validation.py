"""Is kriging as good as it says: every observation told from the others, and intervals."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtri

from timo.errors import TimoError
from timo.geostat.kriging.api import described, model_or_fit
from timo.geostat.kriging.dense import correlation_matrix, factorise
from timo.geostat.kriging.estimate import Search, apply, estimate, positive
from timo.geostat.kriging.local import local_blocks
from timo.geostat.kriging.observations import FEWEST, Observations, gaps, observations_of, other_dim
from timo.geostat.kriging.system import Correlations, Model, correlations_of
from timo.geostat.options import count, is_number, said_once, whole
from timo.geostat.places import Places


def interval(told: xr.Dataset, level: float = 0.9) -> xr.Dataset:
    """Bounds between which the value lies with a probability, if errors are Gaussian.

    Parameters
    ----------
    told : Dataset
        From `krige` or `cross_validate`: `mean` and `variance`.
    level : float
        Between 0 and 1.

    Returns
    -------
    Dataset
        `lower` and `upper`, mean ± z √variance. Of what the variance is of: with noise="microscale" a new
        observation, with "measurement" the field without the error.

    Raises
    ------
    TimoError
        The level is not between 0 and 1, or it is no dataset with mean and variance.
    """
    if not is_number(level) or not 0 < level < 1:
        raise TimoError(f"level must lie between 0 and 1, such as 0.9; got {level!r}")
    found = sorted(map(str, told.data_vars)) if isinstance(told, xr.Dataset) else None
    if found is None or not {"mean", "variance"} <= set(found):
        raise TimoError(
            "an interval needs the variables mean and variance, the whole dataset of krige or cross_validate; "
            f"got {type(told).__name__ if found is None else found}"
        )
    reach = float(ndtri((1 + level) / 2)) * np.sqrt(told["variance"])
    bounds = xr.Dataset({"lower": told["mean"] - reach, "upper": told["mean"] + reach})
    for bound in bounds.values():
        bound.attrs = {k: v for k, v in told["mean"].attrs.items() if k in ("units", "crs")}
    return bounds.assign_attrs(told.attrs, level=level)


def cross_validate(
    points: xr.DataArray,
    model: Model | None = None,
    *,
    neighbours: int | None = 32,
    folds: int | Any | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Tell every observation from the others, and compare.

    Parameters
    ----------
    points, model, neighbours
        As of `krige`.
    folds : int or array_like, optional
        By default every place is left out by itself. A number leaves out that many random parts in turn. Labels, one
        for each point, leave out what shares a label: blocks wider than the range give the error far from any
        observation, which leaving out one at a time does not see.
    seed : int
        Of the random parts.

    Returns
    -------
    Dataset
        On the points: `mean`, `variance` (of a new observation: the nugget is in it, whatever it is) and
        `error` (mean - observed), NaN where nothing was observed. Attributes: `rmse`, `mae`, `bias`, `coverage_90`
        (share of observations inside their 90 % interval) and `standardised` (mean squared error over its variance,
        1 if the variances are right). Points at one place are left out together.

    Raises
    ------
    TimoError
        As `krige`; or the folds are fewer than two, more than the places, or not one for each point.

    Notes
    -----
    Without a model, one is fitted to what is not left out, for each fold; leaving out single places it is fitted once,
    to all, since one place hardly changes it. All neighbours at once need no system for each place: errors and
    variances are read off the inverse (Dubrule 1983, Mathematical Geology 15, 687).
    """
    observed = observations_of(points)
    search = Search(count(neighbours, "neighbours"))
    if model is not None:  # before anything is fitted or split
        correlations_of(model, "microscale")
    if folds is None:
        model, correlations = model_or_fit(points, observed, model, "microscale")
        mean, variance = _one_out(observed, correlations, search)
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
            told = _dubrule(places, values, correlations)
        else:
            k = search.neighbours
            blocks = local_blocks(places, places, correlations, k, left_out=True)
            told = apply(blocks, values, len(seen), correlations)
        mean[np.ix_(dates, seen)], variance[np.ix_(dates, seen)] = told
    return mean, variance


def _dubrule(
    places: Places, values: np.ndarray, correlations: Correlations
) -> tuple[np.ndarray, np.ndarray]:
    """Means (dates, n) and variances (n,) of each from all others, by one inverse."""
    factors, pivots, _ = factorise(correlation_matrix(places, correlations))
    inverse = _inverse(factors, pivots)
    ones = inverse.sum(axis=1)
    inverse -= np.outer(ones, ones / ones.sum())  # of the system bordered by the unknown mean
    own = np.diagonal(inverse)
    centre = values.mean(axis=1, keepdims=True)
    mean = values - (values - centre) @ inverse.T / own
    return mean, positive(correlations.sill / own, correlations.sill)


def _inverse(factors: np.ndarray, pivots: np.ndarray) -> np.ndarray:
    from scipy.linalg import lu_solve

    return lu_solve((factors, pivots), np.eye(len(factors)), check_finite=False)


def _parts(folds: Any, observed: Observations, points: xr.DataArray, seed: int) -> np.ndarray:
    """Label of the part that each place belongs to, (n,)."""
    n = len(observed.places)
    labels = _labels(folds)
    if labels.ndim == 0:
        number = labels.item()
        if not is_number(number) or number != int(number) or not 2 <= number <= n:
            raise TimoError(
                f"folds must be 2 to {n}, the number of places, or labels; got {folds!r}"
            )
        return np.random.default_rng(whole(seed, "seed", 0)).permutation(n) % int(number)
    if labels.shape != (points.sizes["point"],):
        raise TimoError(
            f"folds needs one label for each of {points.sizes['point']} points; got shape {labels.shape}"
        )
    if xr.DataArray(labels).isnull().any():
        raise TimoError("some labels of folds are missing (NaN): give each point one")
    try:
        labels = np.unique(labels, return_inverse=True)[1]
    except TypeError as error:
        raise TimoError("labels of folds are all numbers or all text") from error
    parts = np.empty(n, dtype=labels.dtype)
    kept = observed.place_of >= 0
    parts[observed.place_of[kept]] = labels[kept]
    if len(np.unique(parts)) < 2:
        raise TimoError(
            "folds gives one label to all points: nothing would be left to tell them from"
        )
    return parts


def _labels(folds: Any) -> np.ndarray:
    """Folds as an array, of no dims where it is a number."""
    try:
        return np.asarray(folds)
    except ValueError as error:
        raise TimoError(
            "folds is a number, or one label for each point; got lists of several lengths"
        ) from error


def _parts_out(
    points: xr.DataArray,
    observed: Observations,
    parts: np.ndarray,
    model: Model | None,
    search: Search,
) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (np.full(observed.values.shape, np.nan) for _ in range(2))
    for out, rest in _splits(parts):
        if len(rest) < FEWEST:
            raise TimoError(
                f"a fold leaves {len(rest)} places, and {FEWEST} are needed: make smaller folds"
            )
        left = points.isel(point=np.flatnonzero(np.isin(observed.place_of, rest)))
        known = Observations(observed.places[rest], observed.values[:, rest], observed.place_of)
        _, correlations = model_or_fit(left, known, model, "microscale")
        sought = observed.places[out]
        told = estimate(known.places, known.values, sought, correlations, search)
        mean[:, out], variance[:, out] = told
    return mean, variance


def _splits(parts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for part in np.unique(parts):
        yield np.flatnonzero(parts == part), np.flatnonzero(parts != part)


def _compared(
    points: xr.DataArray,
    observed: Observations,
    mean: np.ndarray,
    variance: np.ndarray,
    model: Model | None,
) -> xr.Dataset:
    """On the points as they were given, with how good it was."""
    given = points.transpose(..., "point")
    seen = np.isfinite(given) & (observed.place_of >= 0)

    def on_points(values: np.ndarray) -> xr.DataArray:
        by_point = values[:, observed.place_of]
        return given.copy(data=by_point if other_dim(points) else by_point[0]).where(seen)

    told = xr.Dataset({"mean": on_points(mean), "variance": on_points(variance)})
    told = described(told, points, model)
    told["error"] = (told["mean"] - given).assign_attrs(
        told["mean"].attrs, long_name="error (mean - observed)"
    )
    return told.assign_attrs(_scores(told, given))


def _scores(told: xr.Dataset, given: xr.DataArray) -> dict[str, float]:
    error, variance = told["error"].values, told["variance"].values
    if not np.isfinite(error).any():
        warnings.warn(
            "no date has enough observations to leave one out", RuntimeWarning, stacklevel=4
        )
        return {}
    bounds = interval(told)
    inside = ((given >= bounds["lower"]) & (given <= bounds["upper"])).values
    sure = variance > 0
    return {
        "rmse": float(np.sqrt(np.nanmean(error**2))),
        "mae": float(np.nanmean(np.abs(error))),
        "bias": float(np.nanmean(error)),
        "coverage_90": float(inside[np.isfinite(error)].mean()),
        "standardised": float(np.nanmean(error[sure] ** 2 / variance[sure]))
        if sure.any()
        else float("nan"),
    }
