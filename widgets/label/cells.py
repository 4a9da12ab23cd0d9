"""Cells of a grid (row x width + column): those in a shape, those under a brush, and the outline of a set of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pyproj
import rioxarray  # noqa: F401  registers .rio
import shapely
import xarray as xr
from shapely.geometry.base import BaseGeometry

from timo.crs import LONLAT, metres_per_unit, project, read_crs
from timo.errors import TimoError
from timo.places.burning import Grid, burn
from timo.sources import Area
from timo.sources.place.area import on_globe

# Share of a cell by which the edge of a shape may be off where it bends between two systems.
_SLACK = 0.05


def brush(row: int, column: int, size: int, shape: tuple[int, int]) -> np.ndarray:
    """Return (n,) cells of a square around a cell of the grid, without what lies outside of it."""
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        raise TimoError(
            f"Row {row}, column {column} is outside of the cube, which has {shape[0]} rows and "
            f"{shape[1]} columns. Click on the image"
        )
    return along([(row, column)], size, shape)


def along(path: Sequence[tuple[int, int]], size: int, shape: tuple[int, int]) -> np.ndarray:
    """Return (n,) cells, ascending, that a square covers on its way, without what lies outside of the grid.

    Its middle goes in a straight line from each (row, column) of the path to the next; they may lie outside.
    """
    if size < 1 or size % 2 == 0:
        raise TimoError(f"The side of the brush must be odd, as 1, 3 or 5 cells; got {size}")
    offsets = np.arange(size) - size // 2
    middles = np.array(cells_between(path), int).reshape(-1, 2)
    rows = middles[:, 0, None, None] + offsets[:, None]
    columns = middles[:, 1, None, None] + offsets
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    if not inside.any():
        raise TimoError("The stroke covers no pixel of the cube. Paint over the image")
    return np.unique((rows * shape[1] + columns)[inside])


def cells_between(path: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return all cells on straight lines from each cell of a path to the next; strokes.js goes the same way."""
    cells = [(int(row), int(column)) for row, column in path[:1]]
    for (row, column), (to_row, to_column) in itertools.pairwise(path):
        down, across = to_row - row, to_column - column
        steps = max(abs(down), abs(across))
        cells += [
            # Whole numbers, rounded half up: the browser must come to the same.
            (
                row + (2 * i * down + steps) // (2 * steps),
                column + (2 * i * across + steps) // (2 * steps),
            )
            for i in range(1, steps + 1)
        ]
    return cells


def shortened(path: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same way with as few corners as are needed."""
    corners: list[tuple[int, int]] = list(path[:1])
    straight: list[tuple[int, int]] = []
    for cell in path[1:]:
        straight.append(cell)
        if cells_between([corners[-1], cell]) != cells_between([corners[-1], *straight]):
            corners.append(straight[-2])
            straight = [cell]
    return [*corners, *straight[-1:]]


def cells_in(area: Area, like: xr.DataArray) -> tuple[BaseGeometry, np.ndarray]:
    """Return the outline of an area, in degrees, and the (n,) cells, ascending, whose centre lies in it."""
    outlines, (cells,) = cells_in_each([area], like)
    if not cells.size:
        raise TimoError(
            "The shape holds no pixel's centre: it lies outside of the cube, or is smaller than a pixel. "
            "Draw it over the image, or paint single pixels"
        )
    return outlines[0], cells


def cells_in_each(
    areas: Sequence[Area], like: xr.DataArray
) -> tuple[list[BaseGeometry], list[np.ndarray]]:
    """Return the outline of each area, in degrees, and its (n,) cells, ascending; there may be none."""
    # Always written in the same way: the same outline has the same cells after it was saved and read.
    outlines = np.array([shapely.normalize(area.geometry) for area in areas], dtype=object)
    cells = burn(outlines, read_crs(LONLAT), Grid.of(like))
    return list(outlines), cells.of_each(len(outlines))


def outline(cells: np.ndarray, like: xr.DataArray) -> BaseGeometry:
    """Return the outline of cells, in degrees: polygons along their edges, which hold these centres and no others."""
    mask = np.zeros((like.sizes["y"], like.sizes["x"]), bool)
    mask.flat[cells] = True
    # Runs of cells, and not a tracing of edges: where corners touch, tracing makes rings that cross themselves.
    edges = np.diff(mask.astype("int8"), axis=1, prepend=0, append=0)
    rows, first = np.nonzero(edges == 1)
    last = np.nonzero(edges == -1)[1]
    flat = shapely.union_all(shapely.box(first, rows, last, rows + 1))
    to = like.rio.transform(recalc=True)
    there = shapely.transform(flat, lambda points: points * [to.a, to.e] + [to.c, to.f])
    crs = read_crs(like.rio.crs.to_wkt())
    tolerance = _SLACK * abs(like.rio.resolution()[0]) * metres_per_unit(crs) / 111_320
    return on_globe(list(shapely.get_parts(project(there, crs, pyproj.CRS(LONLAT), tolerance))))
