"""From cubes to a chip store: places are cut out, quantised and written, one part of a cube in memory at a time."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.training.chips.layout import NODATA, Layout, read_root
from timo.training.chips.scene import Scene, Tile, exclude_windows
from timo.training.chips.writer import Place, StoreWriter

_SHARD_BYTES = 2**28
# Positions are read without the rest of the index, so that a shard may hold many; more would save no file to speak of.
_MOST_IN_SHARD = 4096


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
        Most dates of a place. Where there are more, the series is cut into so many parts of as many dates each, and
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

    size: int = 64
    stride: int | None = None
    start: Any = None
    end: Any = None
    dates: int | None = None
    min_clear: float = 0.3
    min_dates: int = 1
    dtype: Literal["int16", "float32"] = "int16"
    scale: float | None = None
    offset: float | None = None

    def __post_init__(self) -> None:
        counts = {"size": self.size, "stride": self.stride, "dates": self.dates}
        counts |= {"min_dates": self.min_dates}
        if wrong := {k: v for k, v in counts.items() if v is not None and v < 1}:
            raise TimoError(f"{', '.join(counts)} must be at least 1, got {wrong}")
        if not 0 <= self.min_clear <= 1:
            raise TimoError(f"min_clear is a share from 0 to 1, got {self.min_clear}")
        if self.dtype not in ("int16", "float32"):
            raise TimoError(f"dtype is 'int16' or 'float32', got {self.dtype!r}")
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise TimoError(f"scale must be a number above 0, got {self.scale}")


@dataclass(frozen=True)
class Packed:
    """What `pack` did with the places of the cubes.

    Attributes
    ----------
    written : int
        Places that were added.
    already : int
        Places that were in the store before.
    unclear : int
        Places left out, with too few dates that are clear enough.
    excluded : int
        Places left out, because they touch what was to be excluded.
    """

    written: int = 0
    already: int = 0
    unclear: int = 0
    excluded: int = 0


def pack(
    cubes: xr.DataArray | Iterable[xr.DataArray],
    path: str | Path,
    *,
    exclude: xr.DataArray | None = None,
    shard_bytes: int = _SHARD_BYTES,
    memory_bytes: int = 2**29,
    progress: bool = False,
    **options: Any,
) -> Packed:
    """Cut places out of cubes and add them to a chip store.

    A store that is not there is created. A place that is there already, cut from the same grid and dates, is not
    written again: what was interrupted is taken up by the same call. A lazy cube is read part by part, and never is
    much more than a shard's worth of pixels in memory.

    Parameters
    ----------
    cubes : xarray.DataArray or iterable of them
        Cubes of one sensor with the same bands, on any grids.
    path : path
        The store.
    exclude : xarray.DataArray, optional
        (y, x) booleans with a CRS, True where no pixel may come from: a place that touches one is left out, such as
        the blocks that are kept for testing.
    shard_bytes : int
        Size of a shard before compression, of a store that is created here. Less is kept of an interrupted packing,
        and there are fewer files, the larger it is.
    memory_bytes : int
        Memory to be content with. A place at all its dates must fit; a lazy cube with larger chunks than do is slow,
        because they are read again for each part.
    progress : bool
        Show a progress bar.
    **options
        See `PackOptions`.

    Returns
    -------
    Packed
        Numbers of places.

    Raises
    ------
    TimoError
        If a cube is none, or other than the store's, holds values that the type cannot hold, or has no place to cut;
        if the store is damaged or cannot be written.

    Notes
    -----
    Digital numbers round to half a `scale` at most; reflectances that were digital numbers of Sentinel-2, such as the
    sample's at 10 m, come back bit by bit. A pixel that is invalid in one band is invalid in all. Dates are whole days.
    """
    choices = make_options(**options)
    given = [cubes] if isinstance(cubes, xr.DataArray) else list(cubes)
    if not given:
        raise TimoError("there is no cube to pack: give one, or several")
    scenes = [
        Scene.of(cube, choices.size, choices.stride, choices.start, choices.end) for cube in given
    ]
    layout = _layout(scenes, choices, shard_bytes)
    path, fresh = Path(path).expanduser(), not Path(path).expanduser().exists()
    packer = _Packer(choices, exclude, memory_bytes)
    try:
        with StoreWriter(path, layout).open() as writer, _bar(scenes, progress) as bar:
            packer.run(scenes, writer, bar)
    finally:
        # A store without a place is of no use to anyone, and would only hide that nothing was written.
        if fresh and path.exists() and not read_root(path)[1].places:
            shutil.rmtree(path)
    if not packer.count["written"] + packer.count["already"]:
        raise TimoError(_nothing(packer.count, choices))
    return Packed(**packer.count)


def make_options(**options: Any) -> PackOptions:
    """Options by name.

    Raises
    ------
    TimoError
        If one is unknown or makes no sense.
    """
    known = PackOptions.__dataclass_fields__
    if unknown := sorted(set(options) - set(known)):
        raise TimoError(f"pack takes no option {unknown[0]!r}. It takes: {', '.join(known)}")
    return PackOptions(**options)


class _Packer:
    """Goes through the places of the scenes, and counts what becomes of them."""

    def __init__(
        self, options: PackOptions, exclude: xr.DataArray | None, memory_bytes: int
    ) -> None:
        self.options, self.exclude, self.memory_bytes = options, exclude, memory_bytes
        self.count = dict.fromkeys(Packed.__dataclass_fields__, 0)

    def run(self, scenes: Sequence[Scene], writer: StoreWriter, bar: tqdm) -> None:
        known = writer.keys
        for scene in scenes:
            writer.note(*scene.provenance, 0.0)
            wanted = self._wanted(scene, known)
            bar.update(len(scene.windows) - len(wanted))
            for tile in scene.tiles([scene.windows[i] for i in wanted], self.memory_bytes):
                self._pack_tile(scene, tile, writer, bar)

    def _wanted(self, scene: Scene, known: set[int]) -> list[int]:
        """Windows to be cut; their keys are known from now on."""
        excluded = exclude_windows(scene, self.exclude)
        wanted = []
        for i, window in enumerate(scene.windows):
            key = place_key(scene, window)
            if excluded[i]:
                self.count["excluded"] += 1
            elif key in known:
                self.count["already"] += 1
            else:
                known.add(key)
                wanted.append(i)
        return wanted

    def _pack_tile(self, scene: Scene, tile: Tile, writer: StoreWriter, bar: tqdm) -> None:
        stored, valid, error = tile.load(writer.layout)
        writer.note((), (), error)
        for row, column in tile.windows:
            rows, columns = tile.within(row), tile.within(column, axis=1)
            here = valid[:, rows, columns]
            keep = choose_dates(here.mean(axis=(1, 2)), self.options)
            if len(keep) < self.options.min_dates:
                self.count["unclear"] += 1
            else:
                left, top = scene.corner(row, column)
                writer.add(
                    Place(
                        stored=stored[keep, :, rows, columns],
                        valid=here[keep],
                        days=scene.days[keep],
                        crs=scene.crs,
                        left=left,
                        top=top,
                        cell=scene.cell,
                        key=place_key(scene, (row, column)),
                    )
                )
                self.count["written"] += 1
            bar.update()


def choose_dates(clear: np.ndarray, options: PackOptions) -> np.ndarray:
    """Positions of the dates that are kept, ascending, given the share of valid pixels of each."""
    usable = np.flatnonzero((clear >= options.min_clear) & (clear > 0))
    if options.dates is None or len(usable) <= options.dates:
        return usable
    parts = np.array_split(usable, options.dates)
    return np.array([part[clear[part].argmax()] for part in parts])


def place_key(scene: Scene, window: tuple[int, int]) -> int:
    """Number that tells a place of a cube from every other: a digest of its grid and of the cube's dates."""
    left, top = scene.corner(*window)
    identity = [scene.crs, left, top, scene.cell, scene.size, scene.days.tolist()]
    digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


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
    layout = Layout(
        bands=first.bands,
        size=options.size,
        dates=dates,
        sensor=first.sensor,
        dtype=options.dtype,
        units=first.units,
        **_scaling(first, options),
    )
    each = dates * int(np.prod(layout.chunk)) * np.dtype(layout.dtype).itemsize
    return replace(layout, shard=int(np.clip(shard_bytes // each, 1, _MOST_IN_SHARD)))


def _scaling(scene: Scene, options: PackOptions) -> dict[str, Any]:
    """Scale, offset and shift of the layout."""
    if options.dtype == "float32":
        return {}
    if options.scale is not None:
        return {"scale": float(options.scale), "offset": float(options.offset or 0)}
    if scene.sensor is None:
        raise TimoError(
            "the cube names no sensor whose scale could be taken: give scale=..., the step between two values that are "
            "to be told apart, or dtype='float32', or set cube.attrs['sensor']"
        )
    sensor = get_sensor(scene.sensor)
    offset = sensor.offset if options.offset is None else options.offset
    # Digital numbers with an offset use all of their 16 bits (Landsat), and 0 is without data, as -32768 is here.
    shift = -NODATA if offset else 0
    # A scale of 1 says that the product has physical values. Of backscatter in dB, the noise is a hundred times this.
    scale = 0.01 if sensor.scale == 1 else sensor.scale
    return {"scale": float(scale), "offset": float(offset), "shift": shift}


def _bar(scenes: Sequence[Scene], progress: bool) -> tqdm:
    total = sum(len(scene.windows) for scene in scenes)
    return tqdm(total=total, unit="place", disable=not progress, mininterval=1)


def _nothing(count: dict[str, int], options: PackOptions) -> str:
    return (
        f"no place is left to pack: {count['unclear']} of them have fewer than {options.min_dates} dates with "
        f"{100 * options.min_clear:g} % of valid pixels, {count['excluded']} touch what is excluded. Lower "
        "min_clear or min_dates, widen the dates, or take a smaller size"
    )
