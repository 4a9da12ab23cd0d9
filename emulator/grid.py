"""Grids of pixels, projections, and which native pixel lies under each requested one."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from .errors import EngineError

_METRES_PER_DEGREE = math.pi * 6378137 / 180
# MODIS' sinusoidal grid, under the name that Earth Engine gives it.
SINUSOIDAL = "SR-ORG:6974"
_SINUSOIDAL_PROJ = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"

Transform = tuple[float, float, float, float, float, float]


@functools.lru_cache(maxsize=256)
def crs_of(code: str) -> pyproj.CRS:
    """Return the coordinate reference system of a code or a WKT."""
    try:
        return pyproj.CRS.from_user_input(_SINUSOIDAL_PROJ if code == SINUSOIDAL else code)
    except pyproj.exceptions.CRSError as error:
        raise EngineError(
            f"Projection: The CRS of a map projection could not be parsed: {code!r}."
        ) from error


@functools.lru_cache(maxsize=256)
def transformer(source: str, target: str) -> pyproj.Transformer:
    """Return what transforms coordinates of one reference system to those of another, x before y."""
    return pyproj.Transformer.from_crs(crs_of(source), crs_of(target), always_xy=True)


def moved(shape: BaseGeometry, source: str, target: str) -> BaseGeometry:
    """Move a shape into another reference system, corner by corner."""
    project = transformer(source, target).transform
    found: BaseGeometry = shapely.transform(
        shape, lambda points: np.column_stack(project(points[:, 0], points[:, 1]))
    )
    return found


@dataclass(frozen=True)
class Projection:
    """A coordinate reference system and where in it the pixels are.

    Parameters
    ----------
    crs : str
        A code such as "EPSG:4326", or WKT.
    transform : tuple of float
        From (column, row) to (x, y): scale x, shear x, left, shear y, scale y, top.
    """

    crs: str
    transform: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    @property
    def nominal_scale(self) -> float:
        """Side of a pixel in metres, where the projection keeps lengths."""
        a, b, _, d, e, _ = self.transform
        return math.sqrt(abs(a * e - b * d)) * metres_per_unit(self.crs)

    def at_scale(self, metres: float) -> Projection:
        """Return the same with pixels of another size, the origin kept where it is."""
        factor = metres / self.nominal_scale
        a, b, c, d, e, f = self.transform
        return replace(self, transform=(a * factor, b * factor, c, d * factor, e * factor, f))

    def info(self) -> dict[str, Any]:
        """Return what `getInfo` shows."""
        return {"type": "Projection", "crs": self.crs, "transform": list(self.transform)}


WGS84 = Projection("EPSG:4326")


@functools.lru_cache(maxsize=256)
def metres_per_unit(crs: str) -> float:
    """Return the length of the unit of a reference system; a degree is one of the equator."""
    found = crs_of(crs)
    if found.is_geographic:
        return _METRES_PER_DEGREE
    return float(found.axis_info[0].unit_conversion_factor)


@dataclass(frozen=True)
class Grid:
    """The pixels that are asked for.

    Parameters
    ----------
    projection : Projection
        Where they are.
    width, height : int
        How many there are.
    """

    projection: Projection
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def is_straight(self) -> bool:
        """Whether rows and columns run along the axes."""
        return self.projection.transform[1] == 0 == self.projection.transform[3]

    def window(self, left: int, top: int, width: int, height: int) -> Grid:
        """Return a part of it or beyond it: from a column and row on, of a width and height."""
        a, b, c, d, e, f = self.projection.transform
        origin = (a, b, c + a * left + b * top, d, e, f + d * left + e * top)
        return Grid(replace(self.projection, transform=origin), width, height)

    def pad(self, columns: int, rows: int) -> Grid:
        """Add columns and rows on every side."""
        return self.window(-columns, -rows, self.width + 2 * columns, self.height + 2 * rows)

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the coordinates x and y of the centres, each (height, width)."""
        a, b, c, d, e, f = self.projection.transform
        columns, rows = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        return a * columns + b * rows + c, d * columns + e * rows + f

    def straight_centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Return coordinates x (width,) and y (height,) of a straight grid."""
        a, _, c, _, e, f = self.projection.transform
        return a * (np.arange(self.width) + 0.5) + c, e * (np.arange(self.height) + 0.5) + f

    def bounds(self) -> tuple[float, float, float, float]:
        """Return least x, least y, greatest x, greatest y of the corners."""
        a, b, c, d, e, f = self.projection.transform
        corners = [(i, j) for i in (0, self.width) for j in (0, self.height)]
        x = [a * i + b * j + c for i, j in corners]
        y = [d * i + e * j + f for i, j in corners]
        return min(x), min(y), max(x), max(y)


class PixelPositions(NamedTuple):
    """Positions, in native columns and rows, of the centres of a grid.

    `columns` (width,) and `rows` (height,) where both grids are straight and in one reference system, else both are
    (height, width). Whole numbers are the edges of pixels.
    """

    columns: np.ndarray
    rows: np.ndarray


@functools.lru_cache(maxsize=64)
def positions(grid: Grid, native: Projection) -> PixelPositions:
    """Return where in a native grid the centres of the requested pixels lie."""
    if grid.projection.crs == native.crs and grid.is_straight and _is_straight(native):
        x, y = grid.straight_centres()
    else:
        x, y = grid.centres()
        if grid.projection.crs != native.crs:
            x, y = transformer(grid.projection.crs, native.crs).transform(x, y)
    return PixelPositions(*to_pixels(native, x, y))


def lon_lat(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return longitude and latitude of the centres of a grid, each (height, width)."""
    lon, lat = positions(grid, WGS84)
    if lon.ndim == 1:
        lon, lat = np.meshgrid(lon, lat)
    return lon, lat


def _is_straight(projection: Projection) -> bool:
    return projection.transform[1] == 0 == projection.transform[3]


def to_pixels(native: Projection, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Convert coordinates to columns and rows."""
    a, b, c, d, e, f = native.transform
    if _is_straight(native):
        return (np.asarray(x) - c) / a, (np.asarray(y) - f) / e
    determinant = a * e - b * d
    dx, dy = np.asarray(x) - c, np.asarray(y) - f
    return (e * dx - b * dy) / determinant, (a * dy - d * dx) / determinant


@functools.lru_cache(maxsize=64)
def nearest(grid: Grid, native: Projection) -> PixelPositions:
    """Return columns and rows (int64) of the native pixels that hold the centres; -2**62 where there is none."""
    columns, rows = positions(grid, native)
    return PixelPositions(_floor(columns), _floor(rows))


def _floor(position: np.ndarray) -> np.ndarray:
    # Coordinates that come through a projection and back are off by some nanometres: a centre that lies on an edge but
    # for that belongs to the pixel behind the edge.
    whole = np.floor(position + 1e-6)
    return np.where(np.isfinite(whole), whole, -(2.0**62)).astype("int64")


def pyramid_level(grid: Grid, native: Projection) -> int:
    """Return how many times the native pixels are halved for this grid.

    "Earth Engine chooses a level of the pyramid with the closest scale less than or equal to the scale specified by
    your analysis" (https://developers.google.com/earth-engine/guides/scale).
    """
    ratio = grid.projection.nominal_scale / native.nominal_scale
    return max(0, math.floor(math.log2(ratio) + 1e-9))
