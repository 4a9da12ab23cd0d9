"""From numbers in files to physical values: factors, offsets, no data; and a look at a few cells of each scene."""

from __future__ import annotations

import math
import re
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rasterio.warp import transform_bounds

from timo.cube.values import check_values
from timo.errors import TimoError, warn
from timo.sensors import Sensor
from timo.sources.files.inventory import Inventory
from timo.sources.files.scenes import FileScene, grid_of_layer
from timo.sources.place.grid import PixelGrid
from timo.sources.reading import Layer, Plan, RasterLayer, Reader, cell_of
from timo.sources.reading.onto import apply
from timo.sources.request import CubeRequest

# ESA's own products carry an offset from processing baseline 04.00 on, in use since 25 January 2022 (Sentinel-2
# Products Specification Document, BOA_ADD_OFFSET). The baseline stands in the name of the product's folder.
_BASELINE = re.compile(r"S2[A-D]_MSIL\d\w_\d{8}T\d{6}_N(\d{4})_", re.IGNORECASE)
_ESA_IMAGE = re.compile(r"^(L\d\w_)?T\d\d[C-X][A-Z]{2}_\d{8}T\d{6}_", re.IGNORECASE)
_BASELINE_4 = pd.Timestamp("2022-01-25")
# What producers write where there are no data; two are -9999 and -999 of files made unsigned.
_FILLS = (-9999.0, -999.0, -32768.0, -32767.0, -3.4028234663852886e38, 65535.0, 55537.0, 64537.0)
# Cells a side that are looked at in each scene when it is opened, and for how long; and in how many of them at the
# quality layer.
_LOOK = 32
_PATIENCE_S = 2.0
_QUALITY_LOOKS = 8


@dataclass(frozen=True)
class Meaning:
    """What the user says of the numbers in the files (see `open_files`); None: the files say it, or the sensor."""

    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    linear: bool = False

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise TimoError(
                "scale=0 would make all values the same. Give another, or leave it out."
            )


def complete_meaning(held: Inventory, sensor: Sensor, meaning: Meaning) -> Meaning:
    """Return the meaning with what products say of radar, and refuse numbers whose factors only the user knows."""
    if {one.linear for one in held.identities.values()} == {True}:
        meaning = replace(meaning, linear=True)
    whole = [f.layer.numbers for f in held.found if f.layer.numbers.whole]
    if math.isnan(sensor.scale) and meaning.scale is None and any(n.scale is None for n in whole):
        raise TimoError(
            f"The factors of {sensor.product} differ from scene to scene, and stand in its metadata, which is not "
            "read. Give scale= and offset=."
        )
    return meaning


# --- plans


def plan_of(scene: FileScene, band: str, sensor: Sensor, meaning: Meaning) -> Plan:
    """Return how a band is read: as the user says, else as the file does, else (integers) as the sensor's product."""
    layer = scene.layers[band]
    numbers = layer.numbers
    shift = _shift(scene, layer, sensor)
    product = (sensor.scale, sensor.offset)
    if numbers.scale is not None:
        # A file that states the product's scale alone states nothing of its offset.
        bare = not numbers.offset and math.isclose(numbers.scale, sensor.scale, rel_tol=1e-6)
        own = product if bare else (numbers.scale, numbers.offset or 0.0)
        shift = shift if bare else 0.0
    elif numbers.whole or meaning.scale is not None:
        if meaning.scale is None:
            _refuse_bytes(layer, sensor, band)
        own = product
    else:
        own, shift = (1.0, 0.0), 0.0
    scale, offset = own
    if meaning.scale is not None and not math.isclose(meaning.scale, scale, rel_tol=1e-6):
        scale = meaning.scale
        if scale == 1:
            offset, shift = 0.0, 0.0
        elif offset and meaning.offset is None:
            warn(
                f"scale={scale:g} is not that of {Path(layer.path).name} ({own[0]:g}), so its offset of {offset:g} is "
                f"not applied either: give offset={offset:g} if it is to be."
            )
            offset = 0.0
    if meaning.offset is not None:
        offset, shift = meaning.offset, 0.0
    nodata = numbers.nodata
    if not nodata and numbers.whole and numbers.scale is None:
        fill = sensor.nodata_of(band)
        nodata = () if fill is None else (float(fill),)
    if meaning.nodata is not None:
        nodata = (*nodata, meaning.nodata)
    return Plan(replace(layer, numbers=replace(numbers, nodata=nodata)), scale, offset, shift)


def _refuse_bytes(layer: Layer, sensor: Sensor, band: str) -> None:
    """Refuse numbers of 8 bits where the product has 16; sensors of users may have them, and whole decibels."""
    numbers, dtype = layer.numbers, np.dtype(layer.numbers.dtype)
    signed = dtype.kind == "i" and not numbers.unsigned
    decibels = sensor.kind_of(band) == "backscatter" and signed
    if sensor.satellites and dtype.itemsize == 1 and not decibels:
        raise TimoError(
            f"{layer.path} holds numbers of 8 bits ({dtype}), and {sensor.product} has 16: a picture for the screen, "
            "or scaled again. Open the bands of the product itself; or give the factors that their producer "
            "states, as scale=0.004, or a sensor of your own (timo.sensors.register_sensor)."
        )


def plan_of_quality(scene: FileScene, sensor: Sensor) -> Plan:
    """Return how the quality layer is read: a number that the file calls "no data" may be one of its classes."""
    layer = scene.layers[sensor.mask_name]
    classes = {c.value for c in sensor.quality if c.bits is None}
    nodata = tuple(n for n in layer.numbers.nodata if n not in classes)
    stated = nodata == layer.numbers.nodata
    layer = replace(layer, numbers=replace(layer.numbers, nodata=nodata))
    return Plan(replace(layer, own_nodata=stated) if isinstance(layer, RasterLayer) else layer)


def _shift(scene: FileScene, layer: Layer, sensor: Sensor) -> float:
    """Return what makes the numbers of a Sentinel-2 image in ESA's own format those of the baselines before 04.00."""
    path = Path(layer.path)
    if match := _BASELINE.search(path.as_posix()):
        new = int(match[1]) >= 400
    else:
        new = bool(_ESA_IMAGE.match(path.name)) and scene.moment.time >= _BASELINE_4
    return -float(sensor.baseline_offset) if new else 0.0


# --- a look


def look_at(
    reader: Reader,
    quality: Reader | None,
    request: CubeRequest,
    scenes: Sequence[FileScene],
    meaning: Meaning,
) -> None:
    """Read a few cells of each scene, as far as time allows, and refuse values that cannot be.

    Everything is checked again when it is computed: this is to find early what is wrong.
    """
    until = clock.monotonic() + _PATIENCE_S
    count = len(scenes)
    # The first, the last, the middle, and so on: with little time the whole series is looked at all the same.
    order = sorted(range(count), key=lambda i: (f"{i:b}"[::-1].zfill(count.bit_length() + 1), i))
    darkest: dict[int, float] = {}
    for n, i in enumerate(order):
        # What clouds hide is not judged: of the first scenes at once, of others where something is wrong.
        passes = [False] if quality is None else [True] if n < _QUALITY_LOOKS else [False, True]
        for window in _windows(request.grid):
            for clear in passes:
                values = reader.read(i, window)
                if clear and quality is not None:
                    unclear = request.sensor.flagged(quality.read(i, window), request.masked)
                    values = np.where(unclear, np.float32(np.nan), values)
                error = _refusal(values, request, meaning, scenes[i])
                if error is None:
                    break
            if error is not None:
                raise _with_remedy(
                    error, values, reader.plans[i], request, window=window, meaning=meaning
                )
            if np.isfinite(values).any():
                if _may_be_shifted(reader.plans[i][0], request.sensor, meaning):
                    darkest[i] = float(np.nanpercentile(values, 1))
                break
        if clock.monotonic() > until:
            break
    _warn_of_shift(darkest, request, scenes)


def _windows(grid: PixelGrid) -> list[PixelGrid]:
    """Return windows of a few cells: in the middle, then in the middles of the quarters."""
    windows = []
    for share in ((2, 2), (1, 1), (1, 3), (3, 1), (3, 3)):
        sides = []
        for size, quarter in zip(grid.shape, share, strict=True):
            first = min(max(0, size * quarter // 4 - _LOOK // 2), max(0, size - _LOOK))
            sides.append(slice(first, min(size, first + _LOOK)))
        windows.append(grid.window(*sides))
    return list(dict.fromkeys(windows))


def _refusal(
    values: np.ndarray, request: CubeRequest, meaning: Meaning, scene: FileScene | None = None
) -> TimoError | None:
    """Return the error to raise for values that the sensor cannot measure; None if it can, or there are none."""
    if not np.isfinite(values).any():
        return None
    if meaning.linear:
        values = 10 * np.log10(np.where(values > 0, values, np.nan))
    what = "" if scene is None else f"scene {scene.name} ({scene.moment})"
    try:
        check_values(values, request.sensor, request.bands, what=what, call=False)
    except TimoError as error:
        return error
    return None


def _with_remedy(
    error: TimoError,
    values: np.ndarray,
    plans: Sequence[Plan],
    request: CubeRequest,
    *,
    window: PixelGrid,
    meaning: Meaning,
) -> TimoError:
    """Return the error with the options that mend values."""
    sensor, first = request.sensor, ""
    seen = _in_the_file(plans, window)
    if _refusal(seen, request, meaning) is None:
        seen = values
    for number in _fills(seen, plans, sensor):
        wrong = np.stack([plan.values(np.full((1, 1), number)) for plan in plans])
        there = np.isclose(seen, wrong, rtol=1e-6, atol=1e-9)
        if not there.any():
            continue
        said = str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
        if _refusal(np.where(there, np.nan, seen), request, meaning) is None:
            return TimoError(f"{error} Give nodata={said}.")
        first = first or (f"Give nodata={said}. " if number in _FILLS else "")
    own = f"scale={sensor.scale:g}" + (f", offset={sensor.offset:g}" if sensor.offset else "")
    known = f" ({sensor.name}'s own: {own})" if sensor.name and math.isfinite(sensor.scale) else ""
    radar = "linear=True if they are linear power; " if sensor.kind == "backscatter" else ""
    return TimoError(
        f"{error} {first}Give {radar}the factors that their producer states{known}; or the sensor= that they are of."
    )


def _in_the_file(plans: Sequence[Plan], window: PixelGrid) -> np.ndarray:
    """Return values on a file's own cells under a window: in averages, numbers of no data are mixed with others."""
    box = min((grid_of_layer(plan.layer) for plan in plans), key=cell_of)
    bounds = transform_bounds(window.crs, str(box.crs), *window.bounds)
    x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    middle = apply(~box.affine, x, y)
    if not np.isfinite(middle).all():
        return np.full((len(plans), 1, 1), np.nan, "float32")
    columns, rows = (slice(int(v) - _LOOK, int(v) + _LOOK) for v in middle)
    own = PixelGrid(str(box.crs), box.affine.c, box.affine.f, cell_of(box), *box.shape)
    return Reader([plans], own).read(0, own.window(rows, columns))


def _fills(values: np.ndarray, plans: Sequence[Plan], sensor: Sensor) -> Iterator[float]:
    """Yield numbers that may mean no data: the usual ones, 0, and the least and the greatest if they cannot be."""
    yield from _FILLS
    yield 0.0
    for seen, plan in zip(values, plans, strict=True):
        finite = seen[np.isfinite(seen)]
        low, high = sensor.bounds or (-1.0, 2.0)
        for value in (finite.min(), finite.max()) if finite.size else ():
            if not low <= value <= high:
                number = (float(value) - plan.offset) / plan.scale - plan.shift
                yield float(round(number)) if plan.layer.numbers.whole else number


# --- the offset that no name states


def _may_be_shifted(plan: Plan, sensor: Sensor, meaning: Meaning) -> bool:
    """Return whether numbers may hold the offset of ESA's new baselines, and nothing states whether they do."""
    numbers = plan.layer.numbers
    stated = plan.shift or plan.offset or numbers.offset or meaning.offset is not None
    digital = numbers.whole or meaning.scale is not None
    return bool(
        sensor.baseline_offset and digital and not stated and not _BASELINE.search(plan.layer.path)
    )


def _warn_of_shift(
    darkest: Mapping[int, float], request: CubeRequest, scenes: Sequence[FileScene]
) -> None:
    """Warn where nothing is as dark as the ground is somewhere in visible light."""
    sensor = request.sensor
    added = sensor.baseline_offset * sensor.scale
    # From above, the air is as bright as that in blue and green.
    visible = 0.6 if sensor.level == "L1C" else 0.4
    if not any(visible < sensor.band(band).wavelength_um < 0.7 for band in request.bands):
        return
    new = {i: v for i, v in darkest.items() if scenes[i].moment.time >= _BASELINE_4}
    old = {i: v for i, v in darkest.items() if i not in new}
    for part in (darkest, new):
        if part and min(part.values()) > 1.001 * added:
            apart = f', in a call of its own with start="{_BASELINE_4:%Y-%m-%d}"'
            warn(
                f"Nothing in {scenes[min(part)].name}{' ...' if len(part) > 1 else ''} is darker than "
                f"{min(part.values()):.2f}, in any band: the numbers may hold the offset of {added:g} that ESA adds "
                "from processing baseline 04.00 on (25 January 2022), which their names do not state. If so, give "
                f"offset=-{added:g}{apart if part is new and old else ''}; if not, offset=0."
            )
            return
