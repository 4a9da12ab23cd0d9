"""From the cells of a file to those of a cube: exact, nearest or averaged, also across the antimeridian."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject, transform, transform_bounds

from timo.errors import TimoError
from timo.sources.place.grid import PixelGrid
from timo.sources.reading.layers import ArrayLayer, Layer, OpenedRaster, OpenFiles
from timo.sources.retry import read_again, redact

# Share of a cell by which cells of two grids may differ and still be the same.
_CLOSE = 1e-3
# Cells at least this many times as wide as those of a file get the average of them.
_COARSER = 2 - 1e-6
# Cells of a file that are read at once: 256 MiB in double precision.
_MOST = 2**25

_Opened = OpenedRaster | ArrayLayer


def is_plain(box: GeoBox) -> bool:
    """Return whether cells are square, rows go from north to south and columns from west to east."""
    t, (height, width) = box.affine, box.shape
    turned = max(abs(t.b) * height, abs(t.d) * width)
    off = abs(t.a + t.e) * max(height, width)
    return t.a > 0 > t.e and max(turned, off) <= _CLOSE * t.a


def cell_of(box: GeoBox) -> float:
    """Return the side of a cell in the unit of the CRS; the root of its area if it is not square."""
    return float(abs(box.affine.determinant) ** 0.5)


def same_cells(one: GeoBox, other: GeoBox) -> bool:
    """Return whether two grids have the same cells, to a thousandth of one."""
    return one.shape == other.shape and _corner(one, other) == (0, 0)


def is_under(box: GeoBox, grid: PixelGrid) -> bool:
    """Return whether a file may have cells under a grid."""
    return any(_window(copy, grid) for copy in _copies(box))


def read_on(layers: Sequence[Layer], grid: PixelGrid, *, quality: bool = False) -> list[np.ndarray]:
    """Read layers onto the cells of a cube: (y, x) floats for each, NaN where the file has no valid number.

    Nearest neighbour; where the cells are twice as wide as the file's or more, the average of the valid ones (of a
    quality layer the commonest class). A file of several layers is opened once; what cannot be read is tried again.
    """

    def read(renew: bool = False) -> list[np.ndarray]:
        with OpenFiles(renew=renew) as files:
            return [_read_layer(files, layer, grid, quality) for layer in layers]

    try:
        try:
            return read_again(read, what=layers[0].label or layers[0].path)
        except RasterioError:
            # A signature may have expired earlier than expected.
            if all(getattr(layer, "address", None) is None for layer in layers):
                raise
            return read(renew=True)
    except (RasterioError, OSError, RuntimeError) as error:
        what = "; ".join(getattr(error, "__notes__", [])) or layers[0].path
        # GDAL repeats the address, signature and all, and points at an exception that is not shown.
        why = redact(str(error)).replace("See previous exception for details.", "").rstrip(" .")
        raise TimoError(
            f"{what} cannot be read: {why}. It is damaged, was moved, or needs an authorisation: download or write "
            "it again (an address: open the cube again, or give modifier=), or leave its date out with start= and end=."
        ) from error


def _read_layer(files: OpenFiles, layer: Layer, grid: PixelGrid, quality: bool) -> np.ndarray:
    try:
        box = layer.grid or layer.opened(files).grid
        return _read_opened(layer.opened(files, _ratio(box, grid)), grid, quality)
    except (RasterioError, OSError, RuntimeError) as error:
        error.add_note(layer.label or layer.path)
        raise


def _read_opened(opened: _Opened, grid: PixelGrid, quality: bool) -> np.ndarray:
    result: np.ndarray | None = None
    for box in _copies(opened.grid):
        if (window := _window(box, grid)) is not None:
            values = _read_part(opened, box, window, grid, quality)
            result = values if result is None else np.where(np.isnan(result), values, result)
    return np.full(grid.shape, np.nan, "float32") if result is None else result


def _read_part(
    opened: _Opened, box: GeoBox, window: tuple[slice, slice], grid: PixelGrid, quality: bool
) -> np.ndarray:
    if (corner := _corner(box, grid.geobox)) is not None:
        sizes = zip(corner, grid.shape, box.shape, strict=True)
        (rows, to_rows), (columns, to_columns) = (_overlap(*each) for each in sizes)
        values = opened.read(rows, columns)
        result = np.full(grid.shape, np.nan, dtype=values.dtype)
        result[to_rows, to_columns] = values
        return result
    if _ratio(box, grid) < _COARSER:
        return _read_nearest(opened, box, grid)
    rows, columns = window
    if (rows.stop - rows.start) * (columns.stop - columns.start) > _MOST and max(grid.shape) > 1:
        return _in_halves(opened, box, grid, quality)
    values = opened.read(rows, columns)
    result = np.full(grid.shape, np.nan, dtype=values.dtype)
    reproject(
        values,
        result,
        src_transform=box.affine @ Affine.translation(columns.start, rows.start),
        src_crs=str(box.crs),
        src_nodata=np.nan,
        dst_transform=grid.transform,
        dst_crs=grid.crs,
        dst_nodata=np.nan,
        resampling=Resampling.mode if quality else Resampling.average,
    )
    return result


def _read_nearest(opened: _Opened, box: GeoBox, grid: PixelGrid) -> np.ndarray:
    rows, columns = _nearest(box.affine, tuple(box.shape), str(box.crs), grid)
    inside = rows >= 0
    if not inside.any():
        return np.full(grid.shape, np.nan, "float32")
    top, left = rows[inside].min(), columns[inside].min()
    values = opened.read(
        slice(int(top), int(rows.max()) + 1), slice(int(left), int(columns.max()) + 1)
    )
    result = np.full(grid.shape, np.nan, dtype=values.dtype)
    result[inside] = values[rows[inside] - top, columns[inside] - left]
    return result


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


@lru_cache(maxsize=8)
def _nearest(
    affine: Affine, shape: tuple[int, int], crs: str, grid: PixelGrid
) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the cell of a file in which each cell centre of a grid lies, -1 outside.

    GDAL would interpolate the transformation between a few points, to an eighth of a cell. Bands and scenes on one grid
    share the result.
    """
    x, y = np.meshgrid(grid.x, grid.y)
    if crs != grid.crs:
        transformer = _transformer(grid.crs, crs)
        x, y = transformer.transform(x, y)
        if transformer.target_crs is not None and transformer.target_crs.is_geographic:
            west = affine.c if affine.a > 0 else affine.c + affine.a * shape[1]
            x = west + (x - west) % 360
    column, row = apply(~affine, x, y)
    # A centre on the edge of two cells belongs to the one after it, whatever the rounding.
    indexes = [np.floor(np.where(np.isfinite(v), v, -1) + 1e-6) for v in (row, column)]
    outside = np.logical_or.reduce(
        [(i < 0) | (i >= n) for i, n in zip(indexes, shape, strict=True)]
    )
    rows, columns = (np.where(outside, -1, i).astype("int32") for i in indexes)
    return rows, columns


def _in_halves(opened: _Opened, box: GeoBox, grid: PixelGrid, quality: bool) -> np.ndarray:
    """Read in two parts: many cells of a file may lie under a few coarse ones."""
    height, width = grid.shape
    axis, half = (0, height // 2) if height >= width else (1, width // 2)
    parts = []
    for part in (slice(0, half), slice(half, grid.shape[axis])):
        side = grid.window(*((part, slice(0, width)) if axis == 0 else (slice(0, height), part)))
        window = _window(box, side)
        nothing = np.full(side.shape, np.nan, "float32")
        parts.append(nothing if window is None else _read_part(opened, box, window, side, quality))
    return np.concatenate(parts, axis=axis)


def _copies(box: GeoBox) -> list[GeoBox]:
    """Return the grid, and in degrees its copies one turn to the west and to the east."""
    if box.crs is None or not box.crs.geographic:
        return [box]
    return [
        GeoBox(box.shape, Affine.translation(turn, 0) @ box.affine, box.crs)
        for turn in (0, -360, 360)
    ]


@lru_cache(maxsize=1024)
def bounds_in(
    crs: str, own: str, bounds: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """Return bounds of one CRS in another; kept for bands and scenes, since a transformation takes milliseconds."""
    if crs == own:
        return bounds
    left, bottom, right, top = transform_bounds(own, crs, *bounds, densify_pts=21)
    return left, bottom, right + 360 * (left > right), top  # across the antimeridian


def _window(box: GeoBox, grid: PixelGrid) -> tuple[slice, slice] | None:
    """Return rows and columns of a file that lie under a grid, with two more around them; None if none do."""
    left, bottom, right, top = bounds_in(str(box.crs), grid.crs, grid.bounds)
    if not np.isfinite((left, bottom, right, top)).all():
        return None
    inverse = ~box.affine
    corners = ((left, top), (right, top), (left, bottom), (right, bottom))
    columns, rows = zip(*(apply(inverse, *corner) for corner in corners), strict=True)
    parts = []
    for ends, size in ((rows, box.shape[0]), (columns, box.shape[1])):
        first, last = math.floor(min(ends)) - 2, math.ceil(max(ends)) + 2
        part, _ = _overlap(first, last - first, size)
        if part.start >= part.stop:
            return None
        parts.append(part)
    return parts[0], parts[1]


def _corner(box: GeoBox, grid: GeoBox) -> tuple[int, int] | None:
    """Return row and column of a file at which a grid begins, if the grid's cells are cells of the file; else None."""
    if box.crs != grid.crs:
        return None
    between, (height, width) = ~box.affine @ grid.affine, grid.shape
    column, row = apply(between, 0, 0)
    start = (round(row), round(column))
    ends = ((0, 0), (width, 0), (0, height), (width, height))
    same = all(
        math.dist(apply(between, x, y), (x + start[1], y + start[0])) <= _CLOSE for x, y in ends
    )
    return start if same else None


def _overlap(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Return the part of `size` cells within start..start+length, and where it lies there; it may be empty."""
    first = max(start, 0)
    last = max(min(start + length, size), first)
    return slice(first, last), slice(first - start, last - start)


def _ratio(box: GeoBox, grid: PixelGrid) -> float:
    """Return how many times as wide the cells of a grid are as those of a file, in the middle of the grid."""
    left, bottom, right, top = grid.bounds
    x, y, step = (left + right) / 2, (top + bottom) / 2, grid.resolution
    xs, ys = [x, x + step, x], [y, y, y + step]
    if str(box.crs) != grid.crs:
        xs, ys = transform(grid.crs, str(box.crs), xs, ys)
        if box.crs is not None and box.crs.geographic:  # the antimeridian may cross the cell
            xs = [value - 360 * round((value - xs[0]) / 360) for value in xs]
    area = abs((xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0]))
    return area**0.5 / cell_of(box) if math.isfinite(area) else 1.0


def apply(matrix: Affine, column: Any, row: Any) -> tuple[Any, Any]:
    """Return x and y at a column and row, or the other way round with `~matrix`."""
    # Affine itself has changed its operator between releases.
    m = matrix
    return m.a * column + m.b * row + m.c, m.d * column + m.e * row + m.f
