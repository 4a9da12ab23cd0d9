"""Metres and hectares of a grid, in any coordinate reference system."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyproj
import xarray as xr

from timo.checks import NotNegative, checked
from timo.crs import metres_per_unit
from timo.cube.check import Gridded, check_grid, spacing
from timo.errors import TimoError

_SQUARE_METRES_PER_HECTARE = 1e4
# Projections for which a planar area is taken as it is: equal-area ones are at 0, UTM stays within 0.2 %.
_AREA_TOLERANCE = 0.01


@checked
def hectares(array: xr.DataArray) -> float | pd.Series:
    """Return the area that a mask or each class of a label map covers.

    This counts pixels: it is the area of the *map*, biased by the map's errors. `timo.estimate_area` estimates the area
    on the ground with its confidence interval.

    Parameters
    ----------
    array : xarray.DataArray
        (y, x). Booleans, or integer classes with -1 = unlabelled and, if there, their names in `attrs["classes"]`.

    Returns
    -------
    float or pandas.Series
        Hectares where a mask is True, or per class, by name. In a geographic CRS each row's cells are measured on the
        ellipsoid.

    Raises
    ------
    TimoError
        If the array is no such map, has no CRS, or is in a projection that distorts areas by more than 1 %.
    """
    if set(array.dims) != {"y", "x"}:
        raise TimoError(
            f'hectares() takes one map with the dims ("y", "x"); got {array.dims}. '
            "Select a date first, with array.sel(time=...)."
        )
    array = array.transpose("y", "x")
    rows = cell_area_m2(array) / _SQUARE_METRES_PER_HECTARE
    if array.dtype == bool:
        return float(rows @ array.values.sum(axis=1))
    if not np.issubdtype(array.dtype, np.integer):
        raise TimoError(
            f"hectares() takes booleans or integer classes; got {array.dtype}. Use array > 0.5."
        )
    return _hectares_by_class(array, rows)


def _hectares_by_class(labels: xr.DataArray, rows: np.ndarray) -> pd.Series:
    """Return the hectares of each class, given the hectares of a cell of each row."""
    values = labels.values
    names = labels.attrs.get("classes")
    codes = np.unique(values[values >= 0]) if names is None else np.arange(len(names))
    area = [float(rows @ (values == code).sum(axis=1)) for code in codes]
    index = pd.Index([int(code) for code in codes] if names is None else list(names), name="class")
    return pd.Series(area, index=index, name="hectares", dtype="float64")


@checked
def cell_size_m(array: Gridded) -> tuple[float, float]:
    """Return height and width of a cell in metres; in a geographic CRS, of the cell in the middle.

    Raises
    ------
    TimoError
        If the grid is not even, has no CRS, or is a single cell.
    """
    crs = _crs(array)
    dy, dx = _steps(array)
    if not crs.is_geographic:
        metres = metres_per_unit(crs)
        return dy * metres, dx * metres
    lat, lon = (float(array[dim].values[array.sizes[dim] // 2]) for dim in ("y", "x"))
    geod = crs.get_geod()
    assert geod is not None
    height = geod.inv(lon, lat - dy / 2, lon, lat + dy / 2)[2]
    width = geod.inv(lon - dx / 2, lat, lon + dx / 2, lat)[2]
    return float(height), float(width)


@checked
def cell_area_m2(array: Gridded) -> np.ndarray:
    """Return the area of the cells of each row, (y,), in square metres.

    Raises
    ------
    TimoError
        If the grid is not even, has no CRS, is a single cell, or is in a projection that distorts areas by more than 1
        %.
    """
    crs = _crs(array)
    dy, dx = _steps(array)
    if crs.is_geographic:
        return _ellipsoidal_area(array["y"].values, dy, dx, crs)
    _check_keeps_areas(array, crs)
    return np.full(array.sizes["y"], dy * dx * metres_per_unit(crs) ** 2)


@checked
def dilate(mask: np.ndarray, height: NotNegative, width: NotNegative) -> np.ndarray:
    """Grow a mask (..., y, x) by an ellipse with these half axes, in cells, between cell centres.

    Row by row of the ellipse, each a running maximum: exact, and in as many passes as the ellipse has rows.

    Raises
    ------
    TimoError
        If the mask is none.
    """
    if mask.dtype != bool or mask.ndim < 2:
        raise TimoError(
            f"mask must be booleans (..., y, x); got {mask.dtype} of shape {mask.shape}. Use mask > 0."
        )
    grown = mask.copy()
    rows, columns = mask.shape[-2:]
    reach = math.floor(min(height, rows - 1))
    for shift in range(-reach, reach + 1):
        chord = math.sqrt(1 - (shift / height) ** 2) if shift else 1.0
        half = math.floor(min(width * chord + 1e-9, columns))
        wide = _widen(mask, half)
        target = slice(max(shift, 0), rows + min(shift, 0))
        origin = slice(max(-shift, 0), rows + min(-shift, 0))
        grown[..., target, :] |= wide[..., origin, :]
    return grown


def _widen(mask: np.ndarray, half: int) -> np.ndarray:
    """Grow a mask (..., x) by `half` cells to either side."""
    columns = mask.shape[-1]
    total = np.zeros((*mask.shape[:-1], columns + 1), dtype="int32")
    np.cumsum(mask, axis=-1, out=total[..., 1:])
    place = np.arange(columns)
    right = np.minimum(place + half + 1, columns)
    return total[..., right] > total[..., np.maximum(place - half, 0)]


def _crs(array: Gridded) -> pyproj.CRS:
    check_grid(array)
    return pyproj.CRS.from_wkt(array.rio.crs.to_wkt())


def _steps(array: Gridded) -> tuple[float, float]:
    """Return height and width of a cell in the unit of the CRS; of a single row, they are the same."""
    steps = {dim: abs(spacing(array, dim)) for dim in ("y", "x") if array.sizes[dim] > 1}
    if not steps:
        raise TimoError(
            "The size of a single cell cannot be read from its coordinates. Use a larger area."
        )
    return steps.get("y", steps.get("x", 0.0)), steps.get("x", steps.get("y", 0.0))


def _check_keeps_areas(array: Gridded, crs: pyproj.CRS) -> None:
    """Refuse a projection such as Web Mercator, which doubles each hectare at 45 degrees."""
    middle = [float(array[dim].values[array.sizes[dim] // 2]) for dim in ("x", "y")]
    projection = pyproj.Proj(crs)
    lon, lat = projection(middle[0], middle[1], inverse=True)
    scale = projection.get_factors(lon, lat).areal_scale
    if not abs(scale - 1) <= _AREA_TOLERANCE:
        raise TimoError(
            f"Areas in {crs.name!r} are {scale:.3g} times the true ones here. "
            "Use array.rio.reproject(array.rio.estimate_utm_crs()), with nearest resampling."
        )


def _ellipsoidal_area(lat: np.ndarray, dy: float, dx: float, crs: pyproj.CRS) -> np.ndarray:
    """Return the area (y,) between two parallels and two meridians.

    Snyder 1987, Map Projections: A Working Manual, USGS Professional Paper 1395, eq. 3-12.
    """
    ellipsoid = crs.ellipsoid
    assert ellipsoid is not None
    a, b = ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre
    e = math.sqrt(1 - (b / a) ** 2)

    def zone(degrees: np.ndarray) -> np.ndarray:
        sin = np.sin(np.radians(degrees))
        tail = np.arctanh(e * sin) / e if e else sin
        return b**2 / 2 * (sin / (1 - (e * sin) ** 2) + tail)

    north = np.clip(lat + dy / 2, -90, 90)
    south = np.clip(lat - dy / 2, -90, 90)
    return math.radians(dx) * (zone(north) - zone(south))
