"""What the quality layer hides: its classes, and what lies near a cloud or its shadow."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np
import pyproj
import xarray as xr

from timo.cube import cell_size_m, dilate
from timo.sources.place.grid import PixelGrid
from timo.sources.reading import NO_QUALITY
from timo.sources.request import CubeRequest

# Flags of a pixel: bits of one byte, so that the quality layer is looked at once.
_UNCLEAR, _FRINGED = 1, 2


def fringe_cells(request: CubeRequest) -> int:
    """Return how many cells beyond its edge a cloud can still mask a pixel of the grid."""
    if not request.fringed:
        return 0
    return math.floor(max(half_axes(request)))


def half_axes(request: CubeRequest) -> tuple[float, float]:
    """Return `buffer_m` in cells along y and along x; in a geographic CRS, of the cell in the middle."""
    grid = request.grid
    crs = pyproj.CRS.from_user_input(grid.crs)
    if crs.is_geographic:
        height, width = cell_size_m(_middle(grid))
    else:
        height = width = grid.resolution * float(crs.axis_info[0].unit_conversion_factor)
    # Beyond rounding: 0.7 / 0.1 is seven cells.
    return request.buffer_m / height + 1e-9, request.buffer_m / width + 1e-9


def _middle(grid: PixelGrid) -> xr.DataArray:
    """Return nine cells around the middle of a grid, for their size."""
    row, column = grid.height // 2, grid.width // 2
    part = grid.window(slice(row - 1, row + 2), slice(column - 1, column + 2))
    cells = xr.DataArray(np.zeros((3, 3)), dims=("y", "x"), coords={"y": part.y, "x": part.x})
    return cells.rio.write_crs(grid.crs)


def unclear_pixels(
    request: CubeRequest,
    quality: da.Array,
    chunks: tuple[tuple[int, ...], ...],
) -> da.Array:
    """Return where the quality layer masks a pixel, or a cloud near it does: (scene, y, x) bool on the grid.

    A pixel with `NO_QUALITY` is masked, and is not a cloud.
    """
    flags = quality.rechunk({0: 1}).map_blocks(
        _flag_block,
        request=request,
        dtype="uint8",
        meta=np.empty((0, 0, 0), "uint8"),
    )
    margin = fringe_cells(request)
    if flags.shape[1:] == request.grid.shape and margin:
        flags = da.pad(flags, ((0, 0), (margin, margin), (margin, margin)))
    # Each block with what is around it, so that the edges of chunks do not show: the block of cells i..j of the grid
    # begins at cell i of the padded flags and needs them up to j + 2 margin.
    rows, columns = ((*sizes[:-1], sizes[-1] + 2 * margin) for sizes in chunks[2:])
    flags = flags.rechunk((chunks[0], rows, columns))
    around = da.overlap.overlap(
        flags, depth={0: 0, 1: (0, 2 * margin), 2: (0, 2 * margin)}, boundary="none"
    )
    return around.map_blocks(
        _widen_block,
        axes=half_axes(request),
        margin=margin,
        dtype=bool,
        meta=np.empty((0, 0, 0), bool),
        chunks=(chunks[0], *chunks[2:]),
    )


def _flag_block(quality: np.ndarray, *, request: CubeRequest) -> np.ndarray:
    # Of a bit mask the number of no quality would be every class at once.
    stated = quality != NO_QUALITY
    unclear = ~stated | request.sensor.flagged(quality, request.masked)
    fringed = stated & request.sensor.flagged(quality, request.fringed)
    return unclear * np.uint8(_UNCLEAR) | fringed * np.uint8(_FRINGED)


def _widen_block(flags: np.ndarray, *, axes: tuple[float, float], margin: int) -> np.ndarray:
    inner = slice(margin, -margin or None)
    unclear = (flags & _UNCLEAR)[:, inner, inner] > 0
    if not margin or not (flags & _FRINGED).any():
        return unclear
    grown: np.ndarray = dilate((flags & _FRINGED) > 0, *axes)
    return unclear | grown[:, inner, inner]
