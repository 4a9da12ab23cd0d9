"""Neighbourhoods: kernels, and the greatest or least of what lies around a pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import EngineError
from ..grid import Grid
from ..image import Band, Image, Pixels, Workspace
from ..pixeltype import PixelType
from ..registry import register

# "Neighborhood is too large": the service has a limit of its own, in pixels from the centre.
_MOST_RADIUS = 512
_UNITS = ("pixels", "meters")


@dataclass(frozen=True)
class Kernel:
    """A neighbourhood: its half sizes and shape, in pixels or metres.

    Parameters
    ----------
    shape : {"circle", "square", "fixed"}
        What it looks like.
    radius : float
        Half its size.
    units : {"pixels", "meters"}
        Of the radius.
    rows : tuple of (int, int)
        Of a fixed one: rows from the middle, and how many columns it goes to either side there.
    """

    shape: str
    radius: float
    units: str = "pixels"
    rows: tuple[tuple[int, int], ...] = ()


def _kernel(name: str) -> Callable[..., Kernel]:
    def make(radius: float, units: str = "pixels") -> Kernel:
        if units not in _UNITS:
            raise EngineError(f"Kernel.{name}: Unknown unit '{units}'. Known: pixels, meters.")
        return Kernel(name, radius, units)

    return make


register("Kernel.circle")(_kernel("circle"))
register("Kernel.square")(_kernel("square"))


@register("Kernel.fixed")
def fixed(
    weights: list[list[float]],
    *,
    width: int = -1,
    height: int = -1,
    x: int = -1,
    y: int = -1,
) -> Kernel:
    """A kernel by its weights. Which are 0 counts; all others count the same."""
    inside = np.array(weights, dtype=float) != 0
    rows, columns = inside.shape
    if {width, columns} - {-1, columns} or {height, rows} - {-1, rows}:
        raise EngineError(
            f"Kernel.fixed: the weights are {rows} x {columns}, not {height} x {width}."
        )
    halves = {}
    for row in range(rows):
        count = int(inside[row].sum())
        if count:
            halves[row - rows // 2] = count // 2
        middle = slice((columns - count) // 2, (columns + count) // 2)
        # Rows that are runs about the focus: what a running maximum can do, and every ellipse is.
        if count and (count % 2 == 0 or not inside[row, middle].all()):
            raise EngineError(
                "Kernel.fixed: the emulator knows kernels whose rows are runs about the middle."
            )
    centred = {x, columns // 2} - {-1, columns // 2} or {y, rows // 2} - {-1, rows // 2}
    if not rows % 2 or not columns % 2 or centred or not halves:
        raise EngineError(
            "Kernel.fixed: the emulator knows kernels with the focus in their middle."
        )
    return Kernel("fixed", max(rows, columns) / 2, "pixels", tuple(halves.items()))


def half_widths(kernel: Kernel, grid: Grid) -> dict[int, int]:
    """Rows of a kernel from its middle -> how many columns it goes to either side there."""
    if kernel.rows:
        return dict(kernel.rows)
    radius = kernel.radius
    if kernel.units == "meters":
        radius /= grid.projection.nominal_scale
    if radius > _MOST_RADIUS:
        raise EngineError(f"Kernel: the radius is {radius:g} pixels; the most is {_MOST_RADIUS}.")
    # What is off by rounding alone is in: 50 m in pixels of 10 m are five.
    reach = math.floor(radius + 1e-9)
    if kernel.shape == "square":
        return dict.fromkeys(range(-reach, reach + 1), reach)
    rows = range(-reach, reach + 1)
    return {row: math.floor(math.sqrt(max(radius**2 - row**2, 0)) + 1e-9) for row in rows}


def _running(values: np.ndarray, half: int, pick: np.ufunc) -> np.ndarray:
    """The greatest (or least) of 2 half + 1 values in a row; the result is 2 half columns shorter."""
    width = 2 * half + 1
    found, covered = values, 1
    while covered < width:
        step = min(covered, width - covered)
        found = pick(found[:, :-step], found[:, step:])
        covered += step
    return found


def _extreme(values: np.ndarray, halves: dict[int, int], pick: np.ufunc) -> np.ndarray:
    """The greatest (or least) value in a kernel around each pixel of a padded array.

    Row by row of the kernel: rows of one width share their running maximum.
    """
    reach, widest = max(halves), max(halves.values())
    height, width = values.shape[0] - 2 * reach, values.shape[1] - 2 * widest
    running = {half: _running(values, half, pick) for half in set(halves.values())}
    found: np.ndarray | None = None
    for row, half in halves.items():
        left = widest - half
        part = running[half][reach + row : reach + row + height, left : left + width]
        found = part if found is None else pick(found, part)
    assert found is not None
    return found


def _ends(kind: PixelType) -> tuple[Any, Any]:
    """The least and greatest number of a type."""
    if not kind.is_int:
        return -np.inf, np.inf
    info = np.iinfo(kind.dtype)
    return info.min, info.max


def _extreme_band(band: Band, kernel: Kernel, pick: np.ufunc) -> Band:
    low, high = _ends(band.type)
    neutral = low if pick is np.maximum else high

    def source(grid: Grid, work: Workspace) -> Pixels:
        halves = half_widths(kernel, grid)
        pixels = band.at(grid.pad(max(halves.values()), max(halves)), work)
        values = _extreme(pixels.filled(neutral).astype(band.type.dtype), halves, pick)
        if pixels.valid is None:
            return Pixels(values, None)
        valid = _extreme(pixels.valid, halves, np.maximum)
        return Pixels(np.where(valid, values, 0).astype(band.type.dtype), valid)

    return replace(band, source=source)


def _focal(pick: np.ufunc) -> Callable[..., Image]:
    def apply(
        image: Image,
        *,
        radius: float = 1.5,
        kernel_type: str = "circle",
        units: str = "pixels",
        iterations: int = 1,
        kernel: Kernel | None = None,
    ) -> Image:
        shape = kernel or _kernel_of(kernel_type, radius, units)
        bands = list(image.bands)
        for _ in range(int(iterations)):
            bands = [_extreme_band(band, shape, pick) for band in bands]
        return image.with_bands(bands)

    return apply


def _kernel_of(kernel_type: str, radius: float, units: str) -> Kernel:
    if kernel_type not in {"circle", "square"} or units not in _UNITS:
        raise EngineError(
            f"Image.focal: the emulator knows the kernels circle and square, in pixels or meters; "
            f"got '{kernel_type}' in '{units}'."
        )
    return Kernel(kernel_type, radius, units)


register("Image.focalMax", "Image.focal_max")(_focal(np.maximum))
register("Image.focalMin", "Image.focal_min")(_focal(np.minimum))
