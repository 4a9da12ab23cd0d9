"""Neighbourhoods: kernels, and the greatest or least of what lies around a pixel."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import EngineError
from ..grid import Grid
from ..image import Band, Image, Pixels, Workspace
from ..pixeltype import PixelType
from ..registry import register, register_all

# "Neighborhood is too large": the service has a limit of its own, in pixels from the centre.
_MOST_RADIUS = 512


@dataclass(frozen=True)
class Kernel:
    """A neighbourhood.

    Parameters
    ----------
    shape : {"circle", "square", "fixed"}
        What it looks like.
    radius : float
        Half its size.
    units : {"pixels", "meters"}
        Of the radius.
    rows : mapping
        Of a fixed one: rows from the middle -> how many columns it goes to either side there.
    """

    shape: str
    radius: float
    units: str = "pixels"
    rows: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.shape not in {"circle", "square", "fixed"} or self.units not in {
            "pixels",
            "meters",
        }:
            raise EngineError(
                "Kernel: the emulator knows the kernels circle, square and fixed, in pixels or meters; "
                f"got '{self.shape}' in '{self.units}'."
            )


register_all(
    {
        "Kernel.circle": lambda radius, units="pixels": Kernel("circle", radius, units),
        "Kernel.square": lambda radius, units="pixels": Kernel("square", radius, units),
    }
)


@register("Kernel.fixed")
def fixed(
    weights: list[list[float]], *, width: int = -1, height: int = -1, x: int = -1, y: int = -1
) -> Kernel:
    """Make a kernel of its weights. Which are 0 counts; all others count the same."""
    inside = np.array(weights, dtype=float) != 0
    rows, columns = inside.shape
    middle = [(width, columns), (height, rows), (x, columns // 2), (y, rows // 2)]
    even = rows % 2 == 0 or columns % 2 == 0
    halves = {row - rows // 2: int(n) // 2 for row, n in enumerate(inside.sum(axis=1)) if n}
    # Rows that are runs about the focus: what a running maximum can do, and every ellipse is.
    runs = [
        [abs(column - columns // 2) <= halves.get(row - rows // 2, -1) for column in range(columns)]
        for row in range(rows)
    ]
    if any(given not in (-1, own) for given, own in middle) or even or not halves:
        raise EngineError(
            "Kernel.fixed: the emulator knows kernels with the focus in their middle."
        )
    if not np.array_equal(inside, runs):
        raise EngineError(
            "Kernel.fixed: the emulator knows kernels whose rows are runs about the middle."
        )
    return Kernel("fixed", max(rows, columns) / 2, rows=halves)


def half_widths(kernel: Kernel, grid: Grid) -> dict[int, int]:
    """Return rows of a kernel from its middle -> how many columns it goes to either side there."""
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
    """Find the greatest (or least) of 2 half + 1 values in a row; the result is 2 half columns shorter."""
    width = 2 * half + 1
    found, covered = values, 1
    while covered < width:
        step = min(covered, width - covered)
        found = pick(found[:, :-step], found[:, step:])
        covered += step
    return found


def _extreme(values: np.ndarray, halves: dict[int, int], pick: np.ufunc) -> np.ndarray:
    """Find the greatest (or least) value in a kernel around each pixel of a padded array.

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
    """Return the least and greatest number of a type."""
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
        shape = kernel or Kernel(kernel_type, radius, units)
        bands = list(image.bands)
        for _ in range(int(iterations)):
            bands = [_extreme_band(band, shape, pick) for band in bands]
        return image.with_bands(bands)

    return apply


register("Image.focalMax", "Image.focal_max")(_focal(np.maximum))
register("Image.focalMin", "Image.focal_min")(_focal(np.minimum))
