"""A cube as `pack` sees it: the windows of its places, and the parts of it that are read at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NoReturn

import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.errors import TimoError
from timo.places.packed.layout import NODATA, Layout, place_key

Window = tuple[int, int]


@dataclass(frozen=True)
class Scene:
    """A cube with its rows from north to south and its columns from west to east, and its windows.

    `windows` are the first row and column of each place, `days` (t,) int32 since 1970-01-01.
    """

    cube: xr.DataArray
    size: int
    stride: int
    windows: list[Window]
    days: np.ndarray
    crs: str
    cell: float

    @classmethod
    def of(cls, cube: xr.DataArray, size: int, stride: int | None, start: Any, end: Any) -> "Scene":
        """Check a cube and lay windows over it."""
        cube = _select(_upright(cubes.check(cube)), start, end)
        height, width = cube.sizes["y"], cube.sizes["x"]
        if min(height, width) < max(size, 2):
            raise TimoError(
                f"the cube has {height} x {width} pixels, and a place {size} x {size}: take a smaller size, of a cube "
                "of at least 2 x 2"
            )
        rows, columns = (_starts(length, size, stride or size) for length in (height, width))
        # As rasterio writes it: places are identified by it in stores that exist.
        crs = cube.rio.crs
        return cls(
            cube=cube,
            size=size,
            stride=stride or size,
            windows=[(row, column) for row in rows for column in columns],
            days=np.floor(cubes.days_since_epoch(cube.time)).astype("int32"),
            crs=f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else crs.to_wkt(),
            cell=cubes.spacing(cube, "x", "cube"),
        )

    @property
    def bands(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self.cube.band.values)

    @property
    def sensor(self) -> str | None:
        return self.cube.attrs.get("sensor")

    @property
    def provenance(self) -> tuple[list[str], list[str]]:
        """Return attribution and source, where the cube says them."""
        given = [self.cube.attrs.get(name) for name in ("attribution", "source")]
        attribution, source = ([str(text)] if text else [] for text in given)
        return attribution, source

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Return the coordinates (x, y) of the upper-left corner of a pixel."""
        x, y = self.cube.x.values, self.cube.y.values
        return float(x[column] - self.cell / 2), float(y[row] + self.cell / 2)

    def key(self, row: int, column: int) -> int:
        """Return the key of a place, by its grid and the cube's dates."""
        where = *self.corner(row, column), self.cell, self.size
        return place_key([self.crs, *where, self.days.tolist()])

    def tiles(self, windows: Sequence[Window], memory_bytes: int) -> Iterator["Tile"]:
        """Group windows into parts of the cube that follow the chunks of a lazy one: each is read about once.

        A part that would need more than the memory is cut, and the chunks that it shares with others are read again.
        """
        height, width = self._reach(memory_bytes)
        keyed = sorted(windows, key=lambda w: (w[0] // height, w[1] // width, w))
        for _, group in groupby(keyed, key=lambda w: (w[0] // height, w[1] // width)):
            yield Tile(self, tuple(group))

    def _reach(self, memory_bytes: int) -> tuple[int, int]:
        """Return over how many rows and columns the windows of a tile may start."""
        reach = [max(self.chunk(dim), self.stride) for dim in ("y", "x")]
        # Of a pixel: at all dates as it is stored, and with its mask; in a chunk's dates as it is read, and once more
        # while the chunks are put together.
        dates, bands = self.cube.sizes["time"], self.cube.sizes["band"]
        each = dates * (4 * bands + 1) + 8 * bands * self.chunk("time")
        while each * self._length(reach[0]) * self._length(reach[1]) > memory_bytes:
            if max(reach) <= self.stride:
                break
            larger = int(np.argmax(reach))
            reach[larger] = max(self.stride, reach[larger] // 2)
        return reach[0], reach[1]

    def _length(self, reach: int) -> int:
        """Return how many pixels the windows cover that start within a reach."""
        return (reach - 1) // self.stride * self.stride + self.size

    def chunk(self, dim: str) -> int:
        """Return the longest chunk along a dimension; of what is not chunked, the whole, or one date."""
        chunks = self.cube.chunksizes.get(dim)
        if chunks:
            return max(chunks)
        return 1 if dim == "time" else self.cube.sizes[dim]


@dataclass(frozen=True)
class Tile:
    """A part of a scene that holds some of its windows."""

    scene: Scene
    windows: tuple[Window, ...]

    @property
    def _origin(self) -> Window:
        row, column = np.min(self.windows, axis=0).tolist()
        return row, column

    def within(self, start: int, axis: int = 0) -> slice:
        """Return the rows, or columns, of a window in what `load` returns."""
        first = start - self._origin[axis]
        return slice(first, first + self.scene.size)

    def load(self, layout: Layout) -> tuple[np.ndarray, np.ndarray, float]:
        """Read the part: stored values (t c h w), valid (t h w), largest rounding error."""
        (top, left), (bottom, right) = self._origin, np.max(self.windows, axis=0) + self.scene.size
        part = self.scene.cube.isel(y=slice(top, bottom), x=slice(left, right))
        stored = np.empty(part.shape, layout.dtype)
        valid = np.empty((part.shape[0], *part.shape[2:]), bool)
        error = 0.0
        step = self.scene.chunk("time")
        for start in range(0, len(stored), step):
            some = part.isel(time=slice(start, start + step))
            values = some.values
            if not part.variable._in_memory:
                sensor, bands = cubes.sensor_of(part), self.scene.bands
                cubes.check_values(values, sensor, bands, times=some.time.values, part=True)
            # One date after another: quantising takes several times the memory of what it is given.
            for date, single in enumerate(values, start):
                stored[date], valid[date], worst = quantise(single[None], layout)
                error = max(error, worst)
        return stored, valid, error


def quantise(values: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray, float]:
    """Convert physical values (t c h w, NaN = invalid) to stored ones, valid (t h w) and the largest rounding error.

    With several groups of bands, valid is (t g h w). A value that is infinite or does not fit the type is refused.
    """
    if np.isinf(values).any():
        raise TimoError("the cube holds infinite values: use cube.where(numpy.isfinite(cube))")
    groups = layout.groups or (values.shape[1],)
    valid = cubes.observed(values, groups)
    seen = valid[:, None] if valid.ndim == 3 else np.repeat(valid, groups, axis=1)
    if layout.dtype == "float32":
        return np.where(seen, values, np.float32(np.nan)), valid, 0.0
    scale, offset, shift = (layout.by_band(n, "float64") for n in ("scale", "offset", "shift"))
    physical = np.where(seen, values, (offset + shift * scale).astype("float32"))
    numbers = np.rint((physical.astype("float64") - offset) / scale) - shift
    # The least int16 stands for "no observation".
    low, high = -32767, 32767
    if numbers.min(initial=0) < low or numbers.max(initial=0) > high:
        _refuse_range(numbers, layout)
    stored = numbers.astype("int16")
    error = float(np.abs(layout.decode(stored) - physical).max(initial=0.0))
    return np.where(seen, stored, np.int16(NODATA)), valid, error


def _refuse_range(numbers: np.ndarray, layout: Layout) -> NoReturn:
    worst = int(np.unravel_index(np.abs(numbers).argmax(), numbers.shape)[1])
    scale, offset, shift = (
        float(np.broadcast_to(layout.by_band(n, "float64"), (numbers.shape[1], 1, 1))[worst, 0, 0])
        for n in ("scale", "offset", "shift")
    )
    found, limits = (
        [(float(n) + shift) * scale + offset for n in pair]
        for pair in ((numbers[:, worst].min(), numbers[:, worst].max()), (-32767, 32767))
    )
    raise TimoError(
        f"the cube's values go from {found[0]:.6g} to {found[1]:.6g}, and int16 in steps of {scale:g} "
        f"holds {limits[0]:.6g} to {limits[1]:.6g}: use cube.clip(...), give another "
        "scale=..., or dtype='float32'"
    )


def exclude_windows(scene: Scene, exclude: xr.DataArray | None) -> np.ndarray:
    """Find the windows that touch a True cell of `exclude`."""
    if exclude is None:
        return np.zeros(len(scene.windows), bool)
    if set(exclude.dims) != {"y", "x"} or exclude.dtype != bool:
        raise TimoError(
            f'exclude must be booleans with the dims ("y", "x"); got {exclude.dtype}, {exclude.dims}. '
            "Use for instance split == 2"
        )
    cubes.check_grid(exclude, what="exclude")
    if exclude.rio.crs != scene.cube.rio.crs:
        raise TimoError(
            f"exclude is in {exclude.rio.crs}, a cube in {scene.cube.rio.crs}: use "
            "exclude.rio.reproject(...), with nearest resampling"
        )
    mask = exclude.transpose("y", "x").values
    half = abs(cubes.spacing(exclude, "x" if exclude.sizes["x"] > 1 else "y", "exclude")) / 2
    # A hair less than half: cells that share an edge do not touch.
    reach = half + scene.cell * (scene.size / 2 - 1e-3)
    x, y = exclude.x.values, exclude.y.values
    middle = scene.cell * scene.size / 2
    found = []
    for row, column in scene.windows:
        left, top = scene.corner(row, column)
        columns, rows = np.abs(x - left - middle) < reach, np.abs(y - top + middle) < reach
        found.append(bool(mask[np.ix_(rows, columns)].any()))
    return np.array(found)


def _upright(cube: xr.DataArray) -> xr.DataArray:
    """Turn over a cube whose rows go north or whose columns go west; nothing is read."""
    y, x = (-1 if turned else 1 for turned in (cube.y[0] < cube.y[-1], cube.x[0] > cube.x[-1]))
    return cube.isel(y=slice(None, None, y), x=slice(None, None, x))


def _select(cube: xr.DataArray, start: Any, end: Any) -> xr.DataArray:
    index = cube.indexes["time"]
    span = f"the cube goes from {index[0]:%Y-%m-%d} to {index[-1]:%Y-%m-%d}"
    try:
        part = cube.isel(time=index.slice_indexer(start, end))
    except (ValueError, TypeError) as error:
        raise TimoError(f"start={start!r}, end={end!r} cannot be read as dates; {span}") from error
    if not part.sizes["time"]:
        raise TimoError(f"no date between start={start!r} and end={end!r}: {span}")
    return part


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Return where windows begin; the last one is moved inwards, to end with the cube."""
    return [*range(0, length - size, stride), length - size]
