"""Scenes as arrays of Dask: physical values and quality classes, read when they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from timo.checks import Range
from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.place.grid import PixelGrid
from timo.sources.reading.layers import Layer
from timo.sources.reading.onto import is_under, read_on

# Cells a side of a chunk: of smaller ones the graph of a small cube takes minutes.
Side = Annotated[int, Range(least=16)]
# The value of a quality layer where it has no data: not one of its classes.
NO_QUALITY = -1


@dataclass(frozen=True)
class Plan:
    """How a layer becomes a band: physical value = (number + shift) x scale + offset.

    `offset` and `shift` both stand where a product states them, so that the arithmetic is the producer's.
    """

    layer: Layer
    scale: float = 1.0
    offset: float = 0.0
    shift: float = 0.0

    def values(self, numbers: np.ndarray) -> np.ndarray:
        """Return physical values as float32."""
        number = numbers.dtype.type
        if self.shift:
            numbers = numbers + number(self.shift)
        if self.scale != 1:
            numbers = numbers * number(self.scale)
        if self.offset:
            numbers = numbers + number(self.offset)
        return numbers.astype("float32")


class Reader:
    """Read blocks of scenes: `plans` has the bands of each, or its quality layer alone.

    `quality` is the sensor whose quality layer they read: classes or bits, and not values. `footprints` say where
    scenes lie whose files have not been opened: (west, south, east, north) in degrees, the east maybe beyond 180.
    """

    def __init__(
        self,
        plans: Sequence[Sequence[Plan]],
        grid: PixelGrid,
        *,
        quality: Sensor | None = None,
        footprints: Sequence[tuple[float, float, float, float]] | None = None,
    ) -> None:
        self.plans = [tuple(layers) for layers in plans]
        self.grid, self.quality, self.footprints = grid, quality, footprints

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return tokenize(self.plans), self.grid, self.quality and self.quality.name

    def __call__(self, block_info: dict[Any, Any]) -> np.ndarray:
        scenes, *_, rows, columns = (slice(*where) for where in block_info[None]["array-location"])
        window = self.grid.window(rows, columns)
        return np.stack([self.read(scene, window) for scene in range(scenes.start, scenes.stop)])

    def read(self, scene: int, window: PixelGrid) -> np.ndarray:
        """Read a scene on some cells: (band, y, x) float32 values, or (y, x) int32 quality."""
        plans = self.plans[scene]
        if not self._reaches(scene, window):
            if self.quality is not None:
                return np.full(window.shape, NO_QUALITY, "int32")
            # A NaN without memory of its own.
            return np.broadcast_to(np.float32(np.nan), (len(plans), *window.shape))
        if self.quality is not None:
            return _classes(
                read_on([plans[0].layer], window, quality=True)[0], self.quality, plans[0].layer
            )
        numbers = read_on([plan.layer for plan in plans], window)
        return np.stack([plan.values(n) for plan, n in zip(plans, numbers, strict=True)])

    def _reaches(self, scene: int, window: PixelGrid) -> bool:
        boxes = [plan.layer.grid for plan in self.plans[scene] if plan.layer.grid is not None]
        if boxes:
            return any(is_under(box, window) for box in boxes)
        if self.footprints is None:
            return True
        west, south, east, north = self.footprints[scene]
        w, s, e, n = window.lonlat_bounds
        return (
            s <= north
            and n >= south
            and any(w + t <= east and e + t >= west for t in (-360, 0, 360))
        )

    def array(self, chunk: int) -> da.Array:
        """Return (scene, band, y, x) float32 values, or (scene, y, x) int32 quality."""
        bands = () if self.quality is not None else (len(self.plans[0]),)
        dtype = "float32" if self.quality is None else "int32"
        shape = (len(self.plans), *bands, *self.grid.shape)
        sides = (min(chunk, size) for size in self.grid.shape)
        chunks = da.core.normalize_chunks((1, *bands, *sides), shape)
        meta = np.empty((0,) * len(chunks), dtype=dtype)
        # Dask would name it for the address of this object in memory: not the same in the next process.
        name = f"read-{tokenize(self, chunks)}"
        return da.map_blocks(self, chunks=chunks, dtype=dtype, meta=meta, name=name)


def _classes(numbers: np.ndarray, sensor: Sensor, layer: Layer) -> np.ndarray:
    """Return classes as integers, and refuse numbers that lie between them: such a layer was interpolated."""
    seen = numbers[np.isfinite(numbers)]
    wrong = seen[seen != np.round(seen)]
    codes = [c.value for c in sensor.quality if c.bits is None]
    if not wrong.size and codes and len(codes) == len(sensor.quality):
        wrong = seen[~np.isin(seen, codes)]
    if not wrong.size and sensor.coherent is not None:
        wrong = seen[~sensor.coherent(seen.astype("int64"))]
    if wrong.size:
        known = f"0 to {max(codes)}" if codes else "bits of whole numbers"
        raise TimoError(
            f"{layer.label or layer.path} holds {wrong[0]:g}, which the quality layer {sensor.mask_name} of "
            f"{sensor.name} does not know ({known}): it was interpolated, or is another layer. Resample classes by "
            "nearest neighbour; or leave the layer unused with masked_classes=()."
        )
    return np.where(np.isnan(numbers), NO_QUALITY, numbers).astype("int32")
