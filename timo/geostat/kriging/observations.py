"""What is observed, where: points taken apart, with one observation at a place."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from timo.errors import TimoError
from timo.geostat.kriging.system import COINCIDENT
from timo.geostat.places import Places, places_of
from timo.geostat.values import without_nodata

# Fewer say nothing about how values vary.
FEWEST = 3


@dataclass(frozen=True)
class Observations:
    """Values at different places, on one or more dates.

    Parameters
    ----------
    places : (n,)
        No two alike.
    values : (dates, n)
        NaN where nothing was observed.
    place_of : (points,)
        The place of each of the points given; -1 of a point that was never observed.
    """

    places: Places
    values: np.ndarray
    place_of: np.ndarray

    @property
    def constant(self) -> bool:
        """Whether no date varies in space."""
        lowest, highest = _extremes(self.values)
        return bool(np.all(lowest == highest))


def observations_of(points: xr.DataArray) -> Observations:
    """Take points apart; drop those that were never observed, average those at one place.

    Raises
    ------
    TimoError
        There is no dim "point", more than one other dim, values are no real numbers, infinite or still the nodata
        number of a file, or fewer than three places with a value.
    """
    values = _by_date(points)
    seen = np.isfinite(values).any(0)
    if np.isinf(values).any():
        raise TimoError(
            "the points hold infinite values: replace them, by NaN where nothing was observed"
        )
    kept = points.isel(point=np.flatnonzero(seen))
    places, which = _distinct(places_of(kept)) if seen.any() else (None, np.empty(0, int))
    if places is None or len(places) < FEWEST:
        found = 0 if places is None else len(places)
        raise TimoError(
            f"kriging needs values at {FEWEST} places or more, and these points have them at {found}"
        )
    place_of = np.full(len(seen), -1)
    place_of[seen] = which
    return Observations(places, _averaged(values[:, seen], which, len(places)), place_of)


def gaps(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Dates that lack the same observations: which dates, and which of the places have a value."""
    alike, which = np.unique(np.isfinite(values), axis=0, return_inverse=True)
    for number, seen in enumerate(alike):
        yield np.flatnonzero(which.ravel() == number), np.flatnonzero(seen)


def other_dim(points: xr.DataArray) -> str | None:
    """Name of the dim beside "point", if there is one."""
    others = [str(dim) for dim in points.dims if dim != "point"]
    return others[0] if others else None


def _by_date(points: xr.DataArray) -> np.ndarray:
    if not isinstance(points, xr.DataArray) or "point" not in points.dims or points.ndim > 2:
        found = tuple(points.dims) if isinstance(points, xr.DataArray) else type(points).__name__
        raise TimoError(
            'points must be a DataArray with the dim "point", and at most one other such as "time" '
            f"(timo.geostat.points makes one); got {found}"
        )
    if points.dtype.kind not in "fiub":
        raise TimoError(f"points must hold real numbers; got {points.dtype}")
    without_nodata(points)
    first = other_dim(points)
    ordered = points.transpose(first, "point") if first else points.expand_dims("time")
    return np.asarray(ordered.values, dtype="float64")


def _distinct(places: Places) -> tuple[Places, np.ndarray]:
    """Places without repetition, in the order of their first appearance, and the place of each.

    Those less than COINCIDENT apart are one too, whatever their coordinates: longitudes of 180 and -180 degrees.
    """
    at, exactly = np.unique(places.embed(), axis=0, return_inverse=True)
    pairs = cKDTree(at).query_pairs(COINCIDENT, output_type="ndarray")
    links = sparse.coo_array(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(at),) * 2
    )
    together = connected_components(links, directed=False)[1][exactly.ravel()]
    _, first, which = np.unique(together, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return places[first[order]], rank[which]


def _averaged(values: np.ndarray, which: np.ndarray, n: int) -> np.ndarray:
    if n == values.shape[1]:
        return values  # in the order of first appearance: as they came
    warnings.warn(
        f"{values.shape[1] - n} points lie where another one does: those at one place were averaged, "
        "and count as one observation",
        UserWarning,
        stacklevel=4,
    )
    seen = np.isfinite(values)
    totals, counts = np.zeros((n, len(values))), np.zeros((n, len(values)))
    np.add.at(totals, which, np.where(seen, values, 0).T)
    np.add.at(counts, which, seen.T)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan).T


def _extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest of each date; of one without values -inf and -inf, which count as alike."""
    seen = np.isfinite(values)
    lowest = np.where(seen, values, np.inf).min(1)
    highest = np.where(seen, values, -np.inf).max(1)
    return np.minimum(lowest, highest), highest
