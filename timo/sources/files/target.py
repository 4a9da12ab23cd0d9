"""The cells of a cube of files: their own where they are all on one grid, else those that are asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rasterio.warp import transform_bounds

from timo.errors import TimoError
from timo.sources.files.grids import FileGrid, own_grid
from timo.sources.files.layers import Layer
from timo.sources.files.scenes import FileScene
from timo.sources.place.area import Area
from timo.sources.place.grid import PixelGrid, check_resolution
from timo.sources.place.projection import crs_name, read_crs
from timo.sources.request import make_place


@dataclass(frozen=True)
class Where:
    """What the user says of the cells."""

    aoi: Any = None
    resolution: float | None = None
    crs: Any = None
    like: Any = None

    @property
    def said(self) -> bool:
        """Whether anything is."""
        return any(item is not None for item in (self.aoi, self.resolution, self.crs, self.like))


def layers_of(scenes: Iterable[FileScene]) -> list[Layer]:
    """All layers of some scenes."""
    return [layer for scene in scenes for layer in scene.layers.values()]


def make_target(
    scenes: Sequence[FileScene], where: Where, finest_m: float, max_megapixels: float
) -> tuple[Area, PixelGrid]:
    """The area and its cells.

    Parameters
    ----------
    scenes : sequence of FileScene
        What the files hold.
    where : Where
        What is asked for.
    finest_m : float
        Side of a cell, in metres, where there is an aoi and no resolution.
    max_megapixels : float
        A larger grid is refused, unless it is the files' own.

    Raises
    ------
    TimoError
        If the files are not on one grid and nothing says which, or if what is asked for makes no sense.
    """
    if where.aoi is None and where.like is None:
        grid = grid_over(scenes, where, max_megapixels) if where.said else common_grid(scenes)
        return grid.area, grid
    return make_place(
        where.aoi,
        where.resolution,
        where.crs,
        where.like,
        finest_m=finest_m,
        max_megapixels=max_megapixels,
    )


def common_grid(scenes: Sequence[FileScene]) -> PixelGrid:
    """The grid that all files are on.

    Raises
    ------
    TimoError
        If they are on several, or on one that no cube can have; the message has the call that mends it.
    """
    layers = layers_of(scenes)
    first = layers[0]
    mend = f"resolution={_finest(layers):g}"
    for layer in layers:
        if not first.grid.same(layer.grid):
            raise TimoError(
                f"The files are on different grids: {first.path} has {first.grid}, {layer.path} has {layer.grid}. "
                f'Bring them onto one: open_cube("files", path=..., {mend}, crs="{_commonest(layers)}"), with aoi=... '
                "for a part of it."
            )
    if not first.grid.plain:
        raise TimoError(
            f"The grid of {first.path} is turned, south-up, or its cells are not square: {first.grid}. Bring it onto "
            f'another: open_cube("files", path=..., {mend}, crs="{_commonest(layers)}").'
        )
    return own_grid(first.grid)


def grid_over(scenes: Sequence[FileScene], where: Where, max_megapixels: float) -> PixelGrid:
    """Cells over all files, in a CRS and of a size; they are those of the finest file, where that is possible.

    Raises
    ------
    TimoError
        If there is no resolution to be had, or there would be too many cells.
    """
    layers = layers_of(scenes)
    crs = crs_name(read_crs(where.crs)) if where.crs is not None else _commonest(layers)
    finest = min(layers, key=lambda layer: (layer.grid.crs != crs, layer.grid.cell))
    if where.resolution is None and finest.grid.crs != crs:
        raise TimoError(f"resolution is missing: how large are the cells, in the unit of {crs}?")
    resolution = finest.grid.cell
    if where.resolution is not None:
        resolution = check_resolution(where.resolution, read_crs(crs), crs)
    corner = (
        (finest.grid.transform.c, finest.grid.transform.f) if finest.grid.crs == crs else (0, 0)
    )
    left, bottom, right, top = _union(layers, crs)
    west, north = (_floor(left - corner[0], resolution), _ceil(top - corner[1], resolution))
    east, south = (_ceil(right - corner[0], resolution), _floor(bottom - corner[1], resolution))
    grid = PixelGrid(
        crs,
        corner[0] + west * resolution,
        corner[1] + north * resolution,
        resolution,
        north - south,
        east - west,
    )
    if grid.megapixels > max_megapixels:
        raise TimoError(
            f"The files cover {grid.height:,} x {grid.width:,} cells of {resolution:g}, {grid.megapixels:,.0f} "
            f"megapixels; the limit is {max_megapixels:g}. Give an aoi, a larger resolution, or max_megapixels=."
        )
    return grid


def _union(layers: Sequence[Layer], crs: str) -> tuple[float, float, float, float]:
    boxes = [_bounds(grid, crs) for grid in {layer.grid for layer in layers}]
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)


def _bounds(grid: FileGrid, crs: str) -> tuple[float, float, float, float]:
    xs, ys = zip(*grid.corners, strict=True)
    box = (min(xs), min(ys), max(xs), max(ys))
    return box if grid.crs == crs else transform_bounds(grid.crs, crs, *box, densify_pts=21)


def _floor(length: float, resolution: float) -> int:
    """Cells in a length, at most; a thousandth of one is rounding."""
    return math.floor(length / resolution + 1e-3)


def _ceil(length: float, resolution: float) -> int:
    return math.ceil(length / resolution - 1e-3)


def _finest(layers: Sequence[Layer]) -> float:
    return min(layer.grid.cell for layer in layers if layer.grid.crs == _commonest(layers))


def _commonest(layers: Sequence[Layer]) -> str:
    return Counter(layer.grid.crs for layer in layers).most_common(1)[0][0]
