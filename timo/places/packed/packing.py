"""From cubes to a chip store: places are cut out, quantised and written, one part of a cube in memory at a time."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from timo.checks import Count, PathLike, Positive, Share, checked
from timo.errors import TimoError
from timo.places.packed.layout import NODATA, SHARD_BYTES, Layout, read_root
from timo.places.packed.scene import Scene, Tile, exclude_windows
from timo.places.packed.writer import Row, StoreWriter
from timo.sensors import Sensor, get_sensor


@checked
@dataclass(frozen=True)
class PackOptions:
    """How places are cut out of cubes.

    Parameters
    ----------
    size : int
        Height and width of a place in pixels.
    stride : int, optional
        Pixels from one place to the next; `size` if not given. The last places of a row and a column are moved inwards,
        so that they end with the cube.
    start, end : str or date, optional
        First and last date, both included.
    dates : int, optional
        Most dates of a place. Where there are more, the series is cut into this many parts of as many dates each, and
        the clearest of each part is kept. All dates if not given.
    min_clear : float
        Least share of valid pixels of a date; a date without any is never kept.
    min_dates : int
        Least number of such dates; a place with fewer is left out.
    dtype : {"int16", "float32"}
        Digital numbers, or the values as they are.
    scale, offset : float, optional
        Physical value = digital number x scale + offset. By default the sensor's (0.01 dB for radar, which has no
        digital numbers), or 0 for the offset where a scale is given.
    """

    size: Count = 64
    stride: Count | None = None
    start: Any = None
    end: Any = None
    dates: Count | None = None
    min_clear: Share = 0.3
    min_dates: Count = 1
    dtype: Literal["int16", "float32"] = "int16"
    scale: Positive | None = None
    offset: float | None = None


@checked
@dataclass(frozen=True)
class Packed:
    """Counts of places: added, in the store before, with too few clear dates, and touching what is excluded."""

    written: int = 0
    already: int = 0
    unclear: int = 0
    excluded: int = 0


@checked
def pack(
    cubes: xr.DataArray | Iterable[xr.DataArray],
    path: PathLike,
    *,
    exclude: xr.DataArray | None = None,
    shard_bytes: Count = SHARD_BYTES,
    memory_bytes: Count = 2**29,
    progress: bool = False,
    **options: Any,
) -> Packed:
    """Cut places out of cubes and add them to a chip store.

    A store that is not there is created. A place that is there already, cut from the same grid and dates, is not
    written again: the same call resumes what was interrupted. A lazy cube is read part by part, and never is much more
    than a shard's worth of pixels in memory.

    Parameters
    ----------
    cubes : xarray.DataArray or iterable of them
        Cubes of one sensor with the same bands, on any grids.
    path : path
    exclude : xarray.DataArray, optional
        (y, x) booleans with a CRS: a place that touches True is left out, such as the blocks kept for testing.
    shard_bytes : int
        Size of a shard before compression, of a store that is created here. The larger it is, the fewer files, and the
        less is kept of an interrupted packing.
    memory_bytes : int
        Memory budget. A place at all its dates must fit; lazy chunks that do not are read again for each part: slow.
    progress : bool
        Show a progress bar.
    **options
        See `PackOptions`.

    Raises
    ------
    TimoError
        If what is given is no cube, or other than the store's, holds values that the type cannot hold, or has no place
        to cut; if the store is damaged or cannot be written.

    Notes
    -----
    Digital numbers round to half a `scale` at most; reflectances that were digital numbers of Sentinel-2, such as the
    sample's at 10 m, come back bit by bit. A pixel that is invalid in one band is invalid in all. Dates are whole days.
    """
    choices = PackOptions(**options)
    given = [cubes] if isinstance(cubes, xr.DataArray) else cubes
    scenes = [
        Scene.of(cube, choices.size, choices.stride, choices.start, choices.end) for cube in given
    ]
    if not scenes:
        raise TimoError("there is no cube to pack: give one, or several")
    layout = _layout(scenes, choices, shard_bytes)
    path, fresh = Path(path).expanduser(), not Path(path).expanduser().exists()
    total = sum(len(scene.windows) for scene in scenes)
    bar = tqdm(total=total, unit="place", disable=not progress, mininterval=1)
    count = {field.name: 0 for field in fields(Packed)}
    try:
        with bar, StoreWriter(path, layout).open() as writer:
            for scene in scenes:
                wanted = _wanted(scene, exclude, writer.keys, count)
                bar.update(len(scene.windows) - len(wanted))
                writer.note(*scene.provenance, 0.0)
                for tile in scene.tiles(wanted, memory_bytes):
                    for place in _cut(scene, tile, writer, choices):
                        if place is not None:
                            writer.add(place)
                        count["unclear" if place is None else "written"] += 1
                        bar.update()
    finally:
        # A store without a place is of no use to anyone, and would only hide that nothing was written.
        if fresh and path.exists() and not read_root(path)[1].places:
            shutil.rmtree(path)
    if not count["written"] + count["already"]:
        raise TimoError(
            f"no place is left to pack: {count['unclear']} of them have fewer than {choices.min_dates} dates with "
            f"{100 * choices.min_clear:g} % of valid pixels, {count['excluded']} touch what is excluded. Lower "
            "min_clear or min_dates, widen the dates, or take a smaller size"
        )
    return Packed(**count)


def _wanted(
    scene: Scene, exclude: xr.DataArray | None, known: set[int], count: dict[str, int]
) -> list[tuple[int, int]]:
    """Choose the windows to be cut; their keys are known from now on."""
    wanted = []
    for window, excluded in zip(scene.windows, exclude_windows(scene, exclude), strict=True):
        key = scene.key(*window)
        if excluded:
            count["excluded"] += 1
        elif key in known:
            count["already"] += 1
        else:
            known.add(key)
            wanted.append(window)
    return wanted


def _cut(
    scene: Scene, tile: Tile, writer: StoreWriter, options: PackOptions
) -> Iterator[Row | None]:
    """Yield the places of a tile, None in place of those with too few dates."""
    stored, valid, error = tile.load(writer.layout)
    writer.note((), (), error)
    for row, column in tile.windows:
        rows, columns = tile.within(row), tile.within(column, axis=1)
        here = valid[:, rows, columns]
        keep = choose_dates(here.mean(axis=(1, 2)), options)
        if len(keep) < options.min_dates:
            yield None
            continue
        left, top = scene.corner(row, column)
        yield Row(
            stored=stored[keep, :, rows, columns],
            valid=here[keep],
            days=scene.days[keep],
            crs=scene.crs,
            left=left,
            top=top,
            cell=scene.cell,
            key=scene.key(row, column),
        )


def choose_dates(clear: np.ndarray, options: PackOptions) -> np.ndarray:
    """Choose the dates that are kept, ascending, given the share of valid pixels of each."""
    usable = np.flatnonzero((clear >= options.min_clear) & (clear > 0))
    if options.dates is None or len(usable) <= options.dates:
        return usable
    parts = np.array_split(usable, options.dates)
    return np.array([part[clear[part].argmax()] for part in parts])


def _layout(scenes: Sequence[Scene], options: PackOptions, shard_bytes: int) -> Layout:
    first = scenes[0]
    for scene in scenes:
        for what in ("sensor", "bands"):
            if getattr(scene, what) != getattr(first, what):
                raise TimoError(
                    f"the cubes differ in their {what}: {getattr(first, what)} and {getattr(scene, what)}: pack them "
                    "into different stores"
                )
    dates = options.dates or max(len(scene.days) for scene in scenes)
    if first.sensor is not None and len(get_sensor(first.sensor).parts) > 1:
        raise TimoError(
            f"pack cuts cubes of one sensor into places, these are of {first.sensor}: pack them as they are, "
            "timo.Places(cubes).pack(path)"
        )
    layout = Layout(
        first.bands,
        options.size,
        dates,
        first.sensor,
        options.dtype,
        units=str(first.cube.attrs.get("units", "")),
    )
    if options.dtype == "int16":
        scale, offset, shift = scaling(first.sensor, first.bands, options.scale, options.offset)
        layout = replace(layout, scale=scale, offset=offset, shift=shift)
    return layout.with_shards_of(shard_bytes)


def scaling(
    name: str | None, bands: Sequence[str], scale: float | None, offset: float | None
) -> tuple[Any, Any, Any]:
    """Return scale, offset and shift of the layout: numbers, or one a band of several sensors."""
    if scale is not None:
        return float(scale), float(offset or 0), 0
    if name is None:
        raise TimoError(
            "the cube names no sensor whose scale could be taken: give scale=..., the step between two values that are "
            "to be told apart, or dtype='float32', or set cube.attrs['sensor']"
        )
    sensor = get_sensor(name)
    if len(sensor.parts) == 1:
        return _scaling(sensor, offset)
    own = [_scaling(get_sensor(sensor.band_origin(band)[0]), offset) for band in bands]
    scales, offsets, shifts = zip(*own, strict=True)
    return scales, offsets, shifts


def _scaling(sensor: Sensor, given: float | None) -> tuple[float, float, int]:
    offset = sensor.offset if given is None else given
    # A scale of 1 says that the product has physical values. Of backscatter in dB, the noise is a hundred times this.
    scale = 0.01 if sensor.scale == 1 else sensor.scale
    # Digital numbers with an offset use all of their 16 bits (Landsat), and 0 is without data, as -32768 is here.
    return float(scale), float(offset), -NODATA if offset else 0
