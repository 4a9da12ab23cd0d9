"""Points taken apart into places and values, with one observation at a place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from timo.errors import TimoError, warn
from timo.geostat.kriging.weights import COINCIDENT
from timo.geostat.places import Places, places_of
from timo.geostat.values import floats_of

# From fewer the variation of values cannot be estimated.
FEWEST = 3


@dataclass(frozen=True)
class Observations:
    """Values (dates, n) at different places (n,), NaN where nothing was observed.

    `place_of` (points,) is the place of each point given, -1 of one that was never observed.
    """

    places: Places
    values: np.ndarray
    place_of: np.ndarray

    @property
    def constant(self) -> bool:
        """Whether no date varies in space."""
        return not np.ma.masked_invalid(self.values).ptp(axis=1).any()


def observations_of(points: xr.DataArray) -> Observations:
    """Take points apart; drop those that were never observed, average those at one place."""
    if "point" not in points.dims or points.ndim > 2:
        raise TimoError(
            'points must have the dim "point", and at most one other such as "time"; got '
            f"{tuple(points.dims)}. Use timo.geostat.points(x, y, values, crs=...)."
        )
    values = np.atleast_2d(floats_of(points.transpose(..., "point")))
    seen = np.isfinite(values).any(0)
    kept = points.isel(point=np.flatnonzero(seen))
    places, which = _distinct(places_of(kept))
    if len(places) < FEWEST:
        raise TimoError(
            f"Kriging needs values at {FEWEST} places or more, and these points have them at {len(places)}. "
            "Take more points."
        )
    place_of = np.full(len(seen), -1)
    place_of[seen] = which
    return Observations(places, _averaged(values[:, seen], which, len(places)), place_of)


def gaps(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the dates that lack the same observations, and which of the places have a value then."""
    alike, which = np.unique(np.isfinite(values), axis=0, return_inverse=True)
    for number, seen in enumerate(alike):
        yield np.flatnonzero(which.ravel() == number), np.flatnonzero(seen)


def other_dim(points: xr.DataArray) -> str | None:
    """Return the name of the dim beside "point", if there is one."""
    others = [str(dim) for dim in points.dims if dim != "point"]
    return others[0] if others else None


def _distinct(places: Places) -> tuple[Places, np.ndarray]:
    """Return places without repetition, in the order of their first appearance, and the place of each.

    Those less than COINCIDENT apart are one too, also by other coordinates: longitudes of 180 and -180 degrees.
    """
    at, exactly = np.unique(places.embed(), axis=0, return_inverse=True)
    pairs = cKDTree(at).query_pairs(COINCIDENT, output_type="ndarray")
    links = sparse.coo_array(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(at),) * 2
    )
    together = connected_components(links, directed=False)[1][exactly.ravel()]
    which = pd.factorize(together)[0]
    return places[np.unique(which, return_index=True)[1]], which


def _averaged(values: np.ndarray, which: np.ndarray, n: int) -> np.ndarray:
    if n == values.shape[1]:
        return values  # in the order of first appearance: as they came
    warn(
        f"{values.shape[1] - n} points lie where another one does: those at one place were averaged, "
        "and count as one observation"
    )
    seen = np.isfinite(values)
    totals, counts = np.zeros((n, len(values))), np.zeros((n, len(values)))
    np.add.at(totals, which, np.where(seen, values, 0).T)
    np.add.at(counts, which, seen.T)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan).T
