"""Maps, points and series as rows of features with a place or a time, and labels back on the same grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr
from scipy.spatial.distance import pdist, squareform

from timo.errors import TimoError
from timo.geostat.places import Places, distances, places_of
from timo.geostat.values import as_floats, days_of, without_nodata

Metric = Literal["space", "time"]

PLACES = ("y", "x")
# What the features may be called, where the caller does not say.
FEATURES = ("feature", "band", "component", "variable", "time")


@dataclass(frozen=True)
class Rows:
    """Features (n, d) of the n points that have a value for all of them, and their places or times in days.

    `kept` is which cells of the grid they are, and `grid` one feature of the input: where labels go back to.
    """

    values: np.ndarray
    at: Places | np.ndarray
    kept: np.ndarray
    grid: xr.DataArray
    feature: str

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Coordinates for a KD-tree, (n, 1 to 3): metres, or days."""
        return self.at.embed() if isinstance(self.at, Places) else self.at[:, None]

    def distances(self) -> np.ndarray:
        """Return the distances of all pairs, (n, n) metres, or days."""
        at = self.at
        return distances(at) if isinstance(at, Places) else squareform(pdist(at[:, None]))

    def on_grid(self, values: np.ndarray, missing: Any) -> xr.DataArray:
        """Put (n,) values back on the input's grid."""
        flat = np.full(self.kept.size, missing, np.asarray(values).dtype)
        flat[self.kept] = values
        result = self.grid.copy(data=flat.reshape(self.grid.shape))
        # How the features were packed in a file, scaled or with a fill value, is not how labels are.
        result.encoding = {
            k: v for k, v in self.grid.encoding.items() if k in ("grid_mapping", "coordinates")
        }
        return result


def rows_of(
    features: xr.DataArray, feature: str | None = None, metric: Metric | None = None
) -> Rows:
    """Read a map, points or a series; see `find_regions` for what it may be."""
    along = _along(features, metric)
    without_nodata(features)
    name = _feature_dim(features, feature, along)
    values = as_floats(features.transpose(*along, name).values, "features")
    values = values.reshape(-1 if values.size else 0, features.sizes[name])
    kept = np.isfinite(values).all(axis=1)
    if not kept.any():
        raise TimoError(
            f"No point has a value for all {values.shape[1]} features. Fill the gaps first, or choose "
            f"features (along {name!r}) that were seen everywhere."
        )
    grid = features.isel({name: 0}, drop=True).transpose(*along)
    at = days_of(grid) if along == ("time",) else places_of(grid)
    return Rows(values[kept], at[kept], kept, grid, name)


def standardised(values: np.ndarray) -> np.ndarray:
    """Scale (n, d) features to mean 0 and standard deviation 1; a constant feature becomes 0."""
    spread, mean = values.std(axis=0), values.mean(axis=0)
    # What rounding leaves of a constant is no spread.
    varies = spread > 1e-12 * abs(mean)
    return np.where(varies, values - mean, 0) / np.where(varies, spread, 1)


def _along(features: xr.DataArray, metric: Metric | None) -> tuple[str, ...]:
    """Return the dims over which regions extend."""
    dims = set(features.dims)
    spatial = PLACES if set(PLACES) <= dims else ("point",) if "point" in dims else ()
    if metric != "time" and spatial:
        return spatial
    if metric != "space" and not spatial and "time" in dims:
        return ("time",)
    raise TimoError(
        "Features are a map (feature, y, x), points (point, feature) with coordinates x and y, or one series "
        f"(time, feature) with metric='time'; got dims {tuple(features.dims)} and metric {metric!r}."
    )


def _feature_dim(features: xr.DataArray, feature: str | None, along: tuple[str, ...]) -> str:
    rest = [str(dim) for dim in features.dims if dim not in along]
    names = [feature] if feature else [name for name in FEATURES if name in rest][:1] or rest[:1]
    if rest != names:
        raise TimoError(
            f"One dim holds the features ({', '.join(FEATURES)}, or the one named by `feature`); beside "
            f"{along} there are {rest}. Stack them first: features.stack(feature={rest})."
            if len(rest) > 1
            else f"No dim {feature or 'feature'!r} beside {along}; got {tuple(features.dims)}."
        )
    return names[0]
