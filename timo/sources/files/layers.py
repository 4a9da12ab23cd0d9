"""Layers: one band of one scene in a file, read onto the cells of a cube when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from timo.errors import TimoError
from timo.sources.files.grids import (
    EXACT,
    FileGrid,
    overlap,
    part_of,
    place,
    resampling,
    warp,
    window_on,
)
from timo.sources.place.grid import PixelGrid

# Cells of an array that are read at once: 256 MiB in double precision.
_MOST = 2**25


@dataclass(frozen=True)
class Numbers:
    """What the numbers of a layer mean, as far as the file says.

    Attributes
    ----------
    dtype : str
        As in the file.
    nodata : float, optional
        The number of a cell without data.
    scale, offset : float, optional
        Physical value = number x scale + offset.
    """

    dtype: str
    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None

    @property
    def whole(self) -> bool:
        """Whether they are integers."""
        return np.dtype(self.dtype).kind in "iu"

    @property
    def working(self) -> str:
        """The float type that holds them all exactly."""
        return (
            "float32"
            if np.dtype(self.dtype).itemsize <= 2 or self.dtype == "float32"
            else "float64"
        )


@dataclass(frozen=True)
class RasterLayer:
    """A band of a raster file; `index` counts from 1."""

    path: Path
    grid: FileGrid
    numbers: Numbers
    index: int


@dataclass(frozen=True, eq=False)
class ArrayLayer:
    """A (y, x) slice of a NetCDF or Zarr variable that lies in its file; `at` says which."""

    path: Path
    grid: FileGrid
    numbers: Numbers
    variable: xr.DataArray
    at: tuple[tuple[str, int], ...] = ()


Layer = RasterLayer | ArrayLayer


def read_layers(layers: Sequence[Layer], target: PixelGrid, *, quality: bool = False) -> np.ndarray:
    """Numbers of layers on the cells of a cube.

    Parameters
    ----------
    layers : sequence of Layer
        Those of one file are read with one opening of it.
    target : PixelGrid
        The cells.
    quality : bool
        The numbers are classes or bits, which must not be averaged.

    Returns
    -------
    numpy.ndarray
        (layer, y, x) float32, or float64 where that takes more; NaN where the file has no data or does not reach.

    Raises
    ------
    TimoError
        If a file cannot be read.
    """
    result = np.full((len(layers), *target.shape), np.nan, dtype=_common(layers))
    for path in dict.fromkeys(layer.path for layer in layers):
        mine = [i for i, layer in enumerate(layers) if layer.path == path]
        for i, values in zip(
            mine, _read_file([layers[i] for i in mine], target, quality), strict=True
        ):
            if values is not None:
                result[i] = values
    return result


def _common(layers: Sequence[Layer]) -> np.dtype:
    return np.result_type(*(layer.numbers.working for layer in layers))


def _read_file(
    layers: Sequence[Layer], target: PixelGrid, quality: bool
) -> list[np.ndarray | None]:
    """Layers of one file; None where it does not reach the target."""
    inside = [window_on(layer.grid, target) for layer in layers]
    if all(window is None for window in inside):
        return [None] * len(layers)
    path = layers[0].path
    try:
        if isinstance(layers[0], ArrayLayer):
            return [
                None if window is None else _read_array(layer, target, window, quality)  # type: ignore[arg-type]
                for layer, window in zip(layers, inside, strict=True)
            ]
        with rasterio.open(path) as file:
            return [_read_raster(file, layer, target, quality) for layer in layers]  # type: ignore[arg-type]
    except (RasterioError, OSError, RuntimeError) as error:
        raise TimoError(
            f"{path} cannot be read any more: {error}. It is damaged or was taken away: fetch or write it anew, or "
            "leave it out."
        ) from error


def _read_raster(
    file: rasterio.DatasetReader, layer: RasterLayer, target: PixelGrid, quality: bool
) -> np.ndarray:
    numbers = layer.numbers
    if parts := _parts(layer.grid, target):
        (rows, to_rows), (columns, to_columns) = parts
        values = file.read(layer.index, window=Window.from_slices(rows, columns))
        result = np.full(target.shape, np.nan, dtype=numbers.working)
        result[to_rows, to_columns] = _without_nodata(values, numbers)
        return result
    how = resampling(layer.grid, target, quality=quality)
    with WarpedVRT(
        file,
        crs=target.crs,
        transform=target.transform,
        height=target.height,
        width=target.width,
        src_nodata=np.nan if numbers.nodata is None else numbers.nodata,
        nodata=np.nan,
        dtype=numbers.working,
        resampling=how,
        tolerance=EXACT,
    ) as warped:
        return warped.read(layer.index)


def _read_array(
    layer: ArrayLayer, target: PixelGrid, window: tuple[slice, slice], quality: bool
) -> np.ndarray:
    grid = layer.grid
    if parts := _parts(grid, target):
        (rows, to_rows), (columns, to_columns) = parts
        result = np.full(target.shape, np.nan, dtype=layer.numbers.working)
        result[to_rows, to_columns] = _slice(layer, rows, columns)
        return result
    rows, columns = window
    if (rows.stop - rows.start) * (columns.stop - columns.start) > _MOST and max(target.shape) > 1:
        return _in_halves(layer, target, quality)
    under = part_of(grid, rows, columns)
    how = resampling(grid, target, quality=quality)
    return warp(_slice(layer, rows, columns), under, target, how)


def _in_halves(layer: ArrayLayer, target: PixelGrid, quality: bool) -> np.ndarray:
    """The same in two parts: what lies under coarse cells may be much larger than they are."""
    height, width = target.shape
    axis = 0 if height >= width else 1
    half = max(height, width) // 2
    parts = []
    for part in (slice(0, half), slice(half, max(height, width))):
        sides = (part, slice(0, width)) if axis == 0 else (slice(0, height), part)
        side = target.window(*sides)
        window = window_on(layer.grid, side)
        nothing = np.full(side.shape, np.nan, dtype=layer.numbers.working)
        parts.append(nothing if window is None else _read_array(layer, side, window, quality))
    return np.concatenate(parts, axis=axis)


def _parts(grid: FileGrid, target: PixelGrid) -> list[tuple[slice, slice]]:
    """Rows and columns to read and where they go, if the target's cells are the file's; else nothing."""
    corner = place(grid, target)
    sizes = (grid.height, grid.width)
    return (
        [overlap(*each) for each in zip(corner, target.shape, sizes, strict=True)] if corner else []
    )


def _slice(layer: ArrayLayer, rows: slice, columns: slice) -> np.ndarray:
    *_, y, x = layer.variable.dims
    part: dict[Any, Any] = {**dict(layer.at), y: rows, x: columns}
    return _without_nodata(layer.variable.isel(part).values, layer.numbers)


def _without_nodata(values: np.ndarray, numbers: Numbers) -> np.ndarray:
    """As floats, with NaN for the cells without data."""
    floats = values.astype(numbers.working)
    if numbers.nodata is not None:
        floats[values == numbers.nodata] = np.nan
    return floats
