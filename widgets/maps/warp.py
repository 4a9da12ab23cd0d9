"""From a raster's own grid to Web Mercator, which every web map draws in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
from pyproj import Transformer

from timo.errors import TimoError
from timo.sources.place.area import continuous

# Of the sphere of Web Mercator, and of what it shows: the pole is infinitely far.
_RADIUS_M, _NORTHERNMOST = 6378137.0, 89.9
# The longest side of a picture: more than a screen shows, little enough to be packed in a moment.
LARGEST = 2048
# Small rasters are enlarged to this, or the teeth of turned pixels would show.
SMALLEST = 600


class Warp:
    """Nearest neighbour from a grid to Web Mercator; where each pixel comes from is found once.

    Longitudes are those of one turn of the globe: across the antimeridian they go on beyond 180. `bounds`, ((south,
    west), (north, east)), is what the warped picture covers, in degrees, its middle within -180..180; `box`, (left,
    bottom, right, top), is the same in Web Mercator.
    """

    def __init__(self, like: xr.DataArray | xr.Dataset) -> None:
        check_raster(like)
        # From column and row to the grid's coordinates.
        self.transform = like.rio.transform()
        self._rows, self._columns = like.sizes["y"], like.sizes["x"]
        self._to_grid = Transformer.from_crs("EPSG:4326", like.rio.crs, always_xy=True)
        self._geographic = like.rio.crs.is_geographic
        self.bounds = self._bounds()
        (south, west), (north, east) = self.bounds
        left, bottom, right, top = self.box = *to_web(west, south), *to_web(east, north)
        height, width = _size(right - left, top - bottom, max(like.sizes["y"], like.sizes["x"]))
        x = left + (np.arange(width) + 0.5) * (right - left) / width
        y = top - (np.arange(height) + 0.5) * (top - bottom) / height
        self._lookup = self._index(*_transformed(self.on_grid, x, y))

    def _bounds(self) -> tuple[tuple[float, float], tuple[float, float]]:
        edge = np.linspace(0, 1, 65)
        # Once around, so that a longitude is at most a step from the one before.
        columns = np.concatenate([edge, np.ones(65), edge[::-1], np.zeros(65)])
        rows = np.concatenate([np.zeros(65), edge, np.ones(65), edge[::-1]])
        lon, lat = self.lonlat_of(rows * self._rows, columns * self._columns)
        known = np.isfinite(lon) & np.isfinite(lat)
        lon, lat = continuous(lon[known]), np.clip(lat[known], -_NORTHERNMOST, _NORTHERNMOST)
        west, east = float(lon.min()), float(lon.max())
        if abs(lon[-1] - lon[0]) > 180:  # around a pole
            west, east = -180.0, 180.0
            lat = np.append(lat, math.copysign(_NORTHERNMOST, lat.mean()))
        turn = 360 * math.floor(((west + east) / 2 + 180) / 360)
        return (float(lat.min()), west - turn), (float(lat.max()), east - turn)

    def lonlat_of(self, row: Any, column: Any) -> tuple[Any, Any]:
        """Return longitude and latitude of places on the grid; whole numbers are corners of pixels."""
        x, y = moved(self.transform, np.asarray(column), np.asarray(row))
        longitude, latitude = self._to_grid.transform(x, y, direction="INVERSE")
        return (np.asarray(x) if self._geographic else longitude), latitude

    def turned(self, longitude: Any) -> Any:
        """Move longitudes by whole turns of the globe, to where the picture is."""
        (_, west), (_, east) = self.bounds
        return longitude - 360 * np.round((longitude - (west + east) / 2) / 360)

    def on_grid(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return column and row, with fractions, of places in Web Mercator."""
        longitude, latitude = from_web(x, y)
        east, north = self._to_grid.transform(longitude, latitude)
        if self._geographic:
            # In the turn of the globe that the grid counts in.
            middle, _ = moved(self.transform, self._columns / 2, self._rows / 2)
            east = longitude - 360 * np.round((longitude - middle) / 360)
        return moved(~self.transform, east, north)

    def _index(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        # Position in the flat picture; one past its end is transparent.
        inside = (columns >= 0) & (columns < self._columns) & (rows >= 0) & (rows < self._rows)
        flat = np.floor(np.where(inside, rows, 0)) * self._columns
        flat += np.floor(np.where(inside, columns, 0))
        return np.where(inside, flat, self._rows * self._columns).astype("int32")

    def __call__(self, rgba: np.ndarray) -> np.ndarray:
        """Warp a (y, x, 4) uint8 picture to (height, width, 4); what lies outside is transparent."""
        # Four bytes are one number: a quarter of the work.
        pixels = np.ascontiguousarray(rgba).view("uint32").ravel()
        padded = np.append(pixels, np.uint32(0))
        return padded.take(self._lookup).view("uint8").reshape(*self._lookup.shape, 4)

    def pixel_of(self, latitude: float, longitude: float) -> tuple[int, int] | None:
        """Return row and column of the pixel at a place in degrees; None outside the grid."""
        column, row = self.on_grid(*to_web(longitude, latitude))
        if not (math.isfinite(column) and math.isfinite(row)):
            return None
        row, column = math.floor(row), math.floor(column)
        inside = 0 <= row < self._rows and 0 <= column < self._columns
        return (row, column) if inside else None


def check_raster(raster: xr.DataArray | xr.Dataset) -> None:
    """Raise a TimoError unless something has y, x with numbers, and a CRS."""
    if raster.rio.crs is None:
        raise TimoError("The raster has no CRS: set one with .rio.write_crs(...).")
    for dim in ("y", "x"):
        values = raster.indexes.get(dim) if dim in raster.dims else None
        if values is None or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise TimoError(
                f"A map needs the coordinate {dim!r}, in the unit of the CRS; this has the dims "
                f"{tuple(map(str, raster.dims))} and the coordinates {', '.join(map(str, raster.coords)) or 'none'}. "
                "Take a cube, or something on its grid."
            )
        if len(values) == 0:
            raise TimoError(f"The raster is empty along {dim!r}. Choose a larger part of it.")


def to_web(longitude: Any, latitude: Any) -> tuple[Any, Any]:
    """Turn degrees into Web Mercator, on and on beyond the antimeridian."""
    return _RADIUS_M * np.radians(longitude), _RADIUS_M * np.arctanh(np.sin(np.radians(latitude)))


def from_web(x: Any, y: Any) -> tuple[Any, Any]:
    """Turn Web Mercator into degrees, on and on beyond the antimeridian."""
    return np.degrees(np.asarray(x) / _RADIUS_M), np.degrees(np.arcsin(np.tanh(y / _RADIUS_M)))


def moved(transform: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Apply an affine transform; how affine itself writes that differs between its versions."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * x + b * y + c, d * x + e * y + f


def _size(width: float, height: float, pixels: int) -> tuple[int, int]:
    """Return rows and columns of the picture: whole multiples of the grid's own for small ones."""
    scale = max(1, math.ceil(SMALLEST / pixels))
    longest = min(pixels * scale, LARGEST)
    longer = max(width, height)
    return max(1, round(longest * height / longer)), max(1, round(longest * width / longer))


def _transformed(
    to_grid: Callable[[Any, Any], tuple[Any, Any]], x: np.ndarray, y: np.ndarray, nodes: int = 65
) -> tuple[np.ndarray, Any]:
    """Return columns and rows of all (y, x) on the grid: exact at some nodes, and linear between them.

    A projection is smooth: between 65 nodes the error is a thousandth of a pixel, and the work a thousandth.
    """
    columns, rows = (np.linspace(v[0], v[-1], min(nodes, v.size)) for v in (x, y))
    exact = to_grid(*np.meshgrid(columns, rows))
    if not all(np.isfinite(part).all() for part in exact):
        return to_grid(*np.meshgrid(x, y))
    down, across = _weights(y.size, rows.size), _weights(x.size, columns.size)
    east, north = (down @ part @ across.T for part in exact)
    return east, north


def _weights(many: int, few: int) -> np.ndarray:
    """Return the (many, few) weights of linear interpolation from few even nodes to many even places."""
    place = np.linspace(0, few - 1, many)[:, None]
    return np.clip(1 - np.abs(place - np.arange(few)), 0, 1)
