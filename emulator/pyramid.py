"""Image pyramids: coarser versions of a band, each pixel from two by two of the level below."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np

from .grid import Grid, Projection, nearest, pyramid_level
from .image import Pixels, Workspace

# "The data are aggregated until the entire image fits within a 256x256 pixel tile."
_SMALLEST = 256
# A small image has coarser levels too: the sample is smaller than a tile.
_FEWEST_LEVELS = 6


class Raster:
    """Numbers of one band of an asset, with the levels of its pyramid, made when they are first needed.

    Parameters
    ----------
    values : numpy.ndarray
        (height, width).
    projection : Projection
        Where the pixels are.
    nodata : number, optional
        Pixels of this value are masked; so are NaN.
    policy : {"mean", "mode", "sample"}
        What a pixel of a coarser level is: the mean of the valid ones, the most frequent one (of equally frequent ones
        the first), or the upper left one with its mask
        (https://developers.google.com/earth-engine/reference/rest/Shared.Types/PyramidingPolicy). A pixel of a mean or
        a mode is valid where any of its four is; in Earth Engine its mask is the share of them.
    periodic : bool
        The numbers go on beyond the edges, mirrored at each, without end.
    """

    def __init__(
        self,
        values: np.ndarray,
        projection: Projection,
        *,
        nodata: float | None = None,
        policy: str = "mean",
        periodic: bool = False,
    ) -> None:
        valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
        if nodata is not None:
            valid &= values != nodata
        self.projection, self.policy, self.periodic = projection, policy, periodic
        self.levels = [Pixels(values, None if valid.all() else valid)]
        self._lock = threading.Lock()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        height, width = self.levels[0].values.shape
        return width, height

    def nearest(self, grid: Grid, _: Workspace | None = None) -> Pixels:
        """Return the pixels of the level for the grid's scale that hold its centres; those outside are masked."""
        pixels, projection = self._for(grid)
        columns, rows = nearest(grid, projection)
        return self._take(pixels, columns, rows)

    def _for(self, grid: Grid) -> tuple[Pixels, Projection]:
        """Return the level for a grid, and where its pixels are."""
        level = min(pyramid_level(grid, self.projection), self._highest())
        with self._lock:
            while len(self.levels) <= level:
                self.levels.append(_halved(self.levels[-1], self.policy))
        a, b, c, d, e, f = self.projection.transform
        n = 2.0**level
        return self.levels[level], replace(
            self.projection, transform=(a * n, b * n, c, d * n, e * n, f)
        )

    def _highest(self) -> int:
        """Return the last level: that fits one tile, or is the last to halve evenly where the numbers repeat."""
        width, height = self.size
        if self.periodic:
            powers = [k for k in range(32) if not (width % 2**k or height % 2**k)]
            return max(powers)
        level = 0
        while max(width, height) > _SMALLEST or level < _FEWEST_LEVELS:
            width, height, level = (width + 1) // 2, (height + 1) // 2, level + 1
        return level

    def _take(self, pixels: Pixels, columns: np.ndarray, rows: np.ndarray) -> Pixels:
        """Take pixels at columns and rows: of the same shape, or (width,) and (height,) for every pair."""
        height, width = pixels.values.shape
        if self.periodic:
            columns, rows = _mirrored(columns, width), _mirrored(rows, height)
            return _pick(pixels, columns, rows, None)
        within_x, within_y = (columns >= 0) & (columns < width), (rows >= 0) & (rows < height)
        inside: np.ndarray | None = None
        if not (within_x.all() and within_y.all()):
            inside = (within_y[:, None] if columns.ndim == 1 else within_y) & within_x
            columns, rows = columns.clip(0, width - 1), rows.clip(0, height - 1)
        return _pick(pixels, columns, rows, inside)


def _pick(
    pixels: Pixels, columns: np.ndarray, rows: np.ndarray, inside: np.ndarray | None
) -> Pixels:
    """Take values and masks at columns and rows."""
    if columns.ndim == 1:
        rows = rows[:, None]
    values = pixels.values[rows, columns]
    valid = None if pixels.valid is None else pixels.valid[rows, columns]
    if inside is not None:
        valid = inside if valid is None else valid & inside
    return Pixels(values, valid)


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Fold positions into `size` pixels, which are mirrored at their edges without end."""
    place = index % (2 * size)
    return np.where(place < size, place, 2 * size - 1 - place)


def _halved(pixels: Pixels, policy: str) -> Pixels:
    """Compute the next coarser level."""
    values, valid = (_even(array) for array in (pixels.values, pixels.mask()))
    outside = np.zeros(valid.shape, dtype=bool)
    outside[: pixels.values.shape[0], : pixels.values.shape[1]] = True
    four = _blocks(values)
    good = _blocks(valid & outside)
    if policy == "sample":
        return Pixels(four[..., 0], good[..., 0])
    if policy == "mean":
        count = good.sum(axis=-1)
        total = np.where(good, four, 0).sum(axis=-1, dtype="float64")
        return Pixels(_like(total / np.maximum(count, 1), values.dtype), count > 0)
    votes = ((four[..., None] == four[..., None, :]) & good[..., None, :]).sum(axis=-1)
    winner = np.where(good, votes, 0).argmax(axis=-1)
    some = np.asarray(good.any(axis=-1))
    return Pixels(np.take_along_axis(four, winner[..., None], -1)[..., 0], some)


def _like(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Give means the type of what they are means of."""
    return (np.round(values) if dtype.kind in "iu" else values).astype(dtype)


def _even(array: np.ndarray) -> np.ndarray:
    """Add a row and a column where their number is odd."""
    rows, columns = array.shape
    return np.pad(array, ((0, rows % 2), (0, columns % 2)), mode="edge")


def _blocks(array: np.ndarray) -> np.ndarray:
    """Group two by two pixels: (height / 2, width / 2, 4), the upper left one first."""
    rows, columns = array.shape
    cells = array.reshape(rows // 2, 2, columns // 2, 2).transpose(0, 2, 1, 3)
    return cells.reshape(rows // 2, columns // 2, 4)
