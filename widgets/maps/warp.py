"""From a raster's own grid to Web Mercator, which every web map draws in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
from pyproj import Transformer

WEB = "EPSG:3857"
# The longest side of a picture: more than a screen shows, little enough to be packed in a moment.
LARGEST = 2048
# Small rasters are enlarged to this, or the teeth of turned pixels would show.
SMALLEST = 600


class Warp:
    """Nearest neighbour from a grid to Web Mercator; where each pixel comes from is found once.

    Parameters
    ----------
    like : xarray.DataArray or xarray.Dataset
        Anything on the grid: dims y and x, with a CRS.

    Attributes
    ----------
    bounds : ((south, west), (north, east))
        What the warped picture covers, in degrees.
    transform : affine.Affine
        From column and row to the grid's coordinates.
    """

    def __init__(self, like: xr.DataArray | xr.Dataset) -> None:
        self.transform = like.rio.transform()
        self._rows, self._columns = like.sizes["y"], like.sizes["x"]
        self._to_grid = Transformer.from_crs("EPSG:4326", like.rio.crs, always_xy=True)
        left, bottom, right, top = like.rio.transform_bounds(WEB)
        height, width = _size(right - left, top - bottom, max(like.sizes["y"], like.sizes["x"]))
        degrees = Transformer.from_crs(WEB, "EPSG:4326", always_xy=True)
        (west, east), (south, north) = degrees.transform([left, right], [bottom, top])
        self.bounds = ((south, west), (north, east))
        to_grid = Transformer.from_crs(WEB, like.rio.crs, always_xy=True)
        x = left + (np.arange(width) + 0.5) * (right - left) / width
        y = top - (np.arange(height) + 0.5) * (top - bottom) / height
        self._lookup = self._index(*_transformed(to_grid, x, y))

    def _index(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # Position in the flat picture; one past its end is transparent.
        columns, rows = moved(~self.transform, x, y)
        inside = (columns >= 0) & (columns < self._columns) & (rows >= 0) & (rows < self._rows)
        flat = np.floor(rows) * self._columns + np.floor(columns)
        return np.where(inside, flat, self._rows * self._columns).astype("int32")

    def __call__(self, rgba: np.ndarray) -> np.ndarray:
        """Warp a (y, x, 4) uint8 picture to (height, width, 4); what lies outside is transparent."""
        # Four bytes are one number: a quarter of the work.
        pixels = np.ascontiguousarray(rgba).view("uint32").ravel()
        padded = np.append(pixels, np.uint32(0))
        return padded.take(self._lookup).view("uint8").reshape(*self._lookup.shape, 4)

    def pixel_of(self, latitude: float, longitude: float) -> tuple[int, int] | None:
        """Row and column of the pixel at a place in degrees; None outside the grid."""
        x, y = self._to_grid.transform(longitude, latitude)
        if not (math.isfinite(x) and math.isfinite(y)):
            return None
        column, row = (math.floor(part) for part in moved(~self.transform, x, y))
        inside = 0 <= row < self._rows and 0 <= column < self._columns
        return (row, column) if inside else None


def moved(transform: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Apply an affine transform; how affine itself writes that differs between its versions."""
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * x + b * y + c, d * x + e * y + f


def _size(width: float, height: float, pixels: int) -> tuple[int, int]:
    """Rows and columns of the picture: whole multiples of the grid's own for small ones."""
    scale = max(1, math.ceil(SMALLEST / pixels))
    longest = min(pixels * scale, LARGEST)
    longer = max(width, height)
    return max(1, round(longest * height / longer)), max(1, round(longest * width / longer))


def _transformed(
    to_grid: Transformer, x: np.ndarray, y: np.ndarray, nodes: int = 65
) -> tuple[np.ndarray, Any]:
    """Coordinates of all (y, x) on the grid: exact at some nodes, and linear between them.

    A projection is smooth: between 65 nodes the error is a thousandth of a pixel, and the work a thousandth.
    """
    columns, rows = (np.linspace(v[0], v[-1], min(nodes, v.size)) for v in (x, y))
    exact = to_grid.transform(*np.meshgrid(columns, rows))
    if not all(np.isfinite(part).all() for part in exact):
        return to_grid.transform(*np.meshgrid(x, y))
    down, across = _weights(y.size, rows.size), _weights(x.size, columns.size)
    east, north = (down @ part @ across.T for part in exact)
    return east, north


def _weights(many: int, few: int) -> np.ndarray:
    """(many, few) weights of linear interpolation from few even nodes to many even places."""
    place = np.linspace(0, few - 1, many)[:, None]
    return np.clip(1 - np.abs(place - np.arange(few)), 0, 1)
