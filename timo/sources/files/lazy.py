"""Scenes of files as dask arrays: a chunk of one scene is read when it is computed, and not before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.files.layers import Layer, Numbers, read_layers
from timo.sources.place.grid import PixelGrid

# What stands where the quality layer says nothing: none of its classes.
NO_QUALITY = -1
# Cells a side that are looked at to see whether values are what they should be.
_LOOK = 64
_SCENES_LOOKED_AT = 5


@dataclass(frozen=True)
class Meaning:
    """What the user says of the numbers in the files; None: the files say it, or the sensor.

    Attributes
    ----------
    scale, offset : float, optional
        Physical value = number x scale + offset.
    nodata : float, optional
        The number of a cell without data.
    linear : bool
        The values are linear power, which becomes decibels.
    """

    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    linear: bool = False


@dataclass(frozen=True)
class Plan:
    """A layer of the cube: where it is, and what makes its numbers values."""

    layer: Layer
    scale: float
    offset: float


def plan_band(layer: Layer, sensor: Sensor, meaning: Meaning, shift: float = 0.0) -> Plan:
    """How a band is read: as the user says, else as the file does, else (integers) as the sensor's product."""
    numbers = layer.numbers
    if numbers.scale is not None:
        scale, offset = numbers.scale, numbers.offset or 0.0
    elif numbers.whole and meaning.scale is None:
        scale, offset = sensor.scale, sensor.offset + shift * sensor.scale
    else:
        scale, offset = 1.0, 0.0
    if meaning.scale is not None:
        scale, offset = meaning.scale, 0.0
    nodata = meaning.nodata
    if nodata is None:
        nodata = numbers.nodata
    if nodata is None and numbers.whole and numbers.scale is None:
        nodata = sensor.nodata
    return Plan(_with(layer, nodata), scale, offset if meaning.offset is None else meaning.offset)


def plan_quality(layer: Layer, sensor: Sensor) -> Plan:
    """How the quality layer is read: a number that the file calls "no data" may be one of its classes."""
    nodata = layer.numbers.nodata
    if nodata is not None and any(c.bits is None and c.value == nodata for c in sensor.quality):
        nodata = None
    return Plan(_with(layer, nodata), 1.0, 0.0)


def _with(layer: Layer, nodata: float | None) -> Layer:
    numbers = layer.numbers
    return replace(layer, numbers=Numbers(numbers.dtype, nodata, numbers.scale, numbers.offset))


class Reader:
    """Reads blocks of scenes; one for the bands, one for the quality layer.

    Parameters
    ----------
    plans : sequence of sequence of Plan
        Per scene, its layers.
    grid : PixelGrid
        The cells.
    quality : bool
        Classes or bits, and not values.
    """

    def __init__(self, plans: Sequence[Sequence[Plan]], grid: PixelGrid, *, quality: bool) -> None:
        self.plans = [tuple(layers) for layers in plans]
        self.grid = grid
        self.quality = quality

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """Files, as they are now: a file that changes makes another array."""
        paths = {plan.layer.path for layers in self.plans for plan in layers}
        states = sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in paths)
        each = [
            (
                str(p.layer.path),
                str(p.layer.grid),
                p.layer.numbers,
                _where(p.layer),
                p.scale,
                p.offset,
            )
            for layers in self.plans
            for p in layers
        ]
        return ("timo.sources.files", states, repr(each), repr(self.grid), self.quality)

    def __call__(self, *, block_info: Any = None) -> np.ndarray:
        scenes, *_, rows, columns = (slice(*ends) for ends in block_info[None]["array-location"])
        window = self.grid.window(rows, columns)
        return np.stack([self.read(scene, window) for scene in range(scenes.start, scenes.stop)])

    def read(self, scene: int, window: PixelGrid) -> np.ndarray:
        """A scene on some cells: (band, y, x) float32 values, or (y, x) int64 quality."""
        plans = self.plans[scene]
        numbers = read_layers([plan.layer for plan in plans], window, quality=self.quality)
        if self.quality:
            return np.where(np.isnan(numbers[0]), NO_QUALITY, numbers[0]).astype("int64")
        return np.stack([_values(n, p) for n, p in zip(numbers, plans, strict=True)])

    def array(self, chunk: int) -> da.Array:
        """(scene, band, y, x) float32 values, or (scene, y, x) int64 quality."""
        bands = () if self.quality else ((len(self.plans[0]),),)
        sides = (_cut(size, chunk) for size in self.grid.shape)
        dtype = "int64" if self.quality else "float32"
        chunks = ((1,) * len(self.plans), *bands, *sides)
        meta = np.empty((0,) * len(chunks), dtype=dtype)
        # By default an object's name has its address in memory in it, and the same files would be another array.
        name = f"files-{tokenize(self, chunks)}"
        return da.map_blocks(self, chunks=chunks, dtype=dtype, meta=meta, name=name)


def _where(layer: Layer) -> Any:
    return layer.index if hasattr(layer, "index") else (str(layer.variable.name), layer.at)


def _values(numbers: np.ndarray, plan: Plan) -> np.ndarray:
    values = numbers
    if plan.scale != 1:
        values = values * values.dtype.type(plan.scale)
    if plan.offset:
        values = values + values.dtype.type(plan.offset)
    return values.astype("float32")


def _cut(size: int, chunk: int) -> tuple[int, ...]:
    whole, rest = divmod(size, chunk)
    return (chunk,) * whole + ((rest,) if rest else ())


def check_plausible(reader: Reader, sensor: Sensor, meaning: Meaning) -> None:
    """Look at a few cells in the middle, and refuse what cannot be in the sensor's unit.

    Raises
    ------
    TimoError
        If reflectances or indices are digital numbers, or decibels are linear power.
    """
    count = len(reader.plans)
    for scene in sorted({i * count // _SCENES_LOOKED_AT for i in range(_SCENES_LOOKED_AT)}):
        window = _middle(reader.grid)
        values = reader.read(scene, window)
        seen = values[np.isfinite(values)]
        if seen.size:
            path = reader.plans[scene][0].layer.path
            _check_seen(seen, path.name, sensor, meaning)
            return


def _check_seen(seen: np.ndarray, name: str, sensor: Sensor, meaning: Meaning) -> None:
    middle = float(np.median(seen))
    if sensor.units.startswith("backscatter"):
        if not meaning.linear and (seen > 0).all():
            raise TimoError(
                f"The values of {name} are all positive (median {middle:.3g}): linear power, it seems, and not "
                "decibels. Give linear=True; or scale=1, if they are decibels."
            )
        return
    if seen.min() < -1000:
        raise TimoError(
            f"{name} holds the value {seen.min():g}, which is no {sensor.units}, but probably stands for cells without "
            f"data, and the file does not say so. Give nodata={seen.min():g}."
        )
    if middle > 2:
        raise TimoError(
            f"The values of {name} have the median {middle:.4g}: digital numbers, it seems, and no {sensor.units}. "
            f"Give the scale: scale={sensor.scale:g}"
            + (f", offset={sensor.offset:g}" if sensor.offset else "")
            + "; or scale=1 to take them as they are."
        )


def _middle(grid: PixelGrid) -> PixelGrid:
    sides = []
    for size in grid.shape:
        first = max(0, (size - _LOOK) // 2)
        sides.append(slice(first, min(size, first + _LOOK)))
    return grid.window(*sides)
