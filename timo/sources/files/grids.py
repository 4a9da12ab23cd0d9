"""The cells that files have, and how those of a cube lie on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform, transform_bounds

from timo.sources.place.grid import PixelGrid
from timo.sources.place.projection import crs_name, read_crs, short_name

# Of a cell: what coordinates may be off by rounding.
_CLOSE = 1e-3
# A cell of the cube that is as wide as so many of the file's is the average of them.
_COARSER = 2 - 1e-6


@dataclass(frozen=True)
class FileGrid:
    """The cells of a file.

    Attributes
    ----------
    crs : str
        "EPSG:..." where it has a code, else WKT.
    transform : Affine
        From (column, row) to (x, y); may be rotated or south-up.
    height, width : int
        Rows and columns.
    """

    crs: str
    transform: Affine
    height: int
    width: int

    @property
    def plain(self) -> bool:
        """Whether its cells are square, rows go from north to south and columns from west to east."""
        t = self.transform
        return t.b == t.d == 0 and t.a > 0 > t.e and abs(t.a + t.e) <= 1e-6 * t.a

    @property
    def cell(self) -> float:
        """Side of a cell, in the unit of the CRS; the root of its area if it is not square."""
        return abs(self.transform.determinant) ** 0.5

    @property
    def corners(self) -> list[tuple[float, float]]:
        """(x, y) of the four corners, in order round the edge."""
        ends = ((0, 0), (self.width, 0), (self.width, self.height), (0, self.height))
        return [_apply(self.transform, *end) for end in ends]

    def same(self, other: FileGrid) -> bool:
        """Whether the cells are the same, to a thousandth of one."""
        close = self.transform.almost_equals(other.transform, precision=1e-3 * self.cell)
        size = (self.height, self.width) == (other.height, other.width)
        # The size of a cell counts once per column.
        edge = all(
            abs(a - b) <= 1e-3 * self.cell
            for mine, theirs in zip(self.corners, other.corners, strict=True)
            for a, b in zip(mine, theirs, strict=True)
        )
        return self.crs == other.crs and size and close and edge

    def __str__(self) -> str:
        left, top = self.transform.c, self.transform.f
        turned = "" if self.plain else ", turned or with cells that are not square"
        corner = f"({left:.10g}, {top:.10g})"
        return f"{self.height} x {self.width} cells of {self.cell:g} from {corner} in {short_name(self.crs)}{turned}"


@cache
def name_of_crs(wkt: str) -> str:
    """Name of a CRS: "EPSG:..." where it has a code, else WKT; as `PixelGrid.crs` is written.

    Raises
    ------
    TimoError
        If it is no system for maps.
    """
    return crs_name(read_crs(wkt, what="the file's crs"))


def _apply(transform: Affine, column: float, row: float) -> tuple[float, float]:
    """Affine itself has changed its operator between releases."""
    t = transform
    return t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f


def part_of(grid: FileGrid, rows: slice, columns: slice) -> FileGrid:
    """The cells of a part of a file."""
    t = grid.transform
    left, top = _apply(t, columns.start, rows.start)
    transform = Affine(t.a, t.b, left, t.d, t.e, top)
    return FileGrid(grid.crs, transform, rows.stop - rows.start, columns.stop - columns.start)


def own_grid(grid: FileGrid) -> PixelGrid:
    """The same cells as those of a cube; `grid.plain` must hold."""
    t = grid.transform
    return PixelGrid(grid.crs, t.c, t.f, t.a, grid.height, grid.width)


def place(grid: FileGrid, target: PixelGrid) -> tuple[int, int] | None:
    """Row and column of the file at which the target begins, if its cells are cells of the file; else None."""
    if grid.crs != target.crs or not grid.plain:
        return None
    longest = max(target.height, target.width)
    if abs(grid.transform.a - target.resolution) * longest > _CLOSE * target.resolution:
        return None
    column = (target.left - grid.transform.c) / target.resolution
    row = (grid.transform.f - target.top) / target.resolution
    near = abs(column - round(column)) <= _CLOSE and abs(row - round(row)) <= _CLOSE
    return (round(row), round(column)) if near else None


def overlap(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Part of `size` cells that lies in start..start+length, and where it lies there; may be empty."""
    first = max(start, 0)
    last = max(min(start + length, size), first)
    return slice(first, last), slice(first - start, last - start)


def window_on(grid: FileGrid, target: PixelGrid) -> tuple[slice, slice] | None:
    """Rows and columns of the file that lie under the target, with two more around them; None if none do."""
    bounds = target.bounds
    if grid.crs != target.crs:
        bounds = transform_bounds(target.crs, grid.crs, *bounds, densify_pts=21)
    if not np.isfinite(bounds).all():
        return None
    left, bottom, right, top = bounds
    inverse = ~grid.transform
    corners = [
        _apply(inverse, *corner)
        for corner in ((left, top), (right, top), (left, bottom), (right, bottom))
    ]
    columns, rows = zip(*corners, strict=True)
    parts = []
    for ends, size in ((rows, grid.height), (columns, grid.width)):
        first, last = math.floor(min(ends)) - 2, math.ceil(max(ends)) + 2
        part, _ = overlap(first, last - first, size)
        if part.start >= part.stop:
            return None
        parts.append(part)
    return parts[0], parts[1]


def resampling(grid: FileGrid, target: PixelGrid, *, quality: bool) -> Resampling:
    """Nearest neighbour; where the target's cells are twice as wide or more, the average, or the commonest class."""
    left, bottom, right, top = target.bounds
    x, y = (left + right) / 2, (top + bottom) / 2
    step = target.resolution
    xs, ys = [x, x + step, x], [y, y, y + step]
    if grid.crs != target.crs:
        xs, ys = transform(target.crs, grid.crs, xs, ys)
    area = abs((xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0]))
    if not math.isfinite(area) or area**0.5 < _COARSER * grid.cell:
        return Resampling.nearest
    return Resampling.mode if quality else Resampling.average


def warp(values: np.ndarray, grid: FileGrid, target: PixelGrid, how: Resampling) -> np.ndarray:
    """Bring (y, x) floats from one grid onto another; NaN where there is nothing.

    The transformation is exact (to a millionth of a cell), not interpolated between a few points.
    """
    result = np.full(target.shape, np.nan, dtype=values.dtype)
    reproject(
        values,
        result,
        src_transform=grid.transform,
        src_crs=grid.crs,
        src_nodata=np.nan,
        dst_transform=target.transform,
        dst_crs=target.crs,
        dst_nodata=np.nan,
        resampling=how,
        tolerance=EXACT,
    )
    return result


# Of a cell: GDAL's own tolerance of an eighth shifts nearest neighbours.
EXACT = 1e-6
