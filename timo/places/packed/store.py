"""A chip store: a million images on disk, each a read away."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

from timo.checks import PathLike, checked
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError
from timo.places.chip import Chip, NumberError
from timo.places.packed.layout import NO_DATE, grid_of, read_root, read_table, shard_name
from timo.places.packed.shard import DamagedError, ShardReader, decode

# Files that are kept open.
_OPEN = 32


class ChipStore:
    """Places of one size, each with its own dates, in a Zarr v3 store that `pack` wrote; read only.

    It is opened where it is first used, so that it goes to the workers of a data loader as no more than its path; a
    store that is being packed is read as it was when it was opened.

    Parameters
    ----------
    path : path

    Raises
    ------
    TimoError
        If it is no chip store, or its metadata are damaged.

    Notes
    -----
    The group holds, besides its attributes, the arrays ``x`` (place, date, band, row, column) and ``valid``, in shards
    of one chunk for each place and date, and one small array for each property of a place: ``dates`` (int32 days
    since 1970-01-01, ascending, padded), ``clear``, ``left``, ``top``, ``cell``, ``crs`` and checksums. Any Zarr
    library reads it.

    Two files a shard of 268 MB and eight every 4096 places: a million images of 6 bands and 64 x 64 pixels, ten dates a
    place, are about 600 files; of 10 bands and 264 x 264 pixels, about 11,000, which are half a terabyte to one. In
    memory is the table alone, 10 MB for them.
    """

    @checked
    def __init__(self, path: PathLike) -> None:
        self.path = Path(path).expanduser()
        self.layout, self.state = read_root(self.path)
        self._table: dict[str, np.ndarray] | None = None
        self._shards: OrderedDict[tuple[str, int], ShardReader] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # Each worker reads the table itself: sent through a pipe, it would be copied twice.
        return self.__dict__ | {"_table": None, "_shards": OrderedDict()}

    def __len__(self) -> int:
        return self.state.places

    def __getitem__(self, place: int) -> Chip:
        return self.read(place)

    def __iter__(self) -> Iterator[Chip]:
        return (self.read(place) for place in range(len(self)))

    @property
    def table(self) -> dict[str, np.ndarray]:
        """Return what is known of the places without reading a pixel: one row for each place, by name of the array."""
        if self._table is None:
            self._table = read_table(self.path, self.layout, self.state)
        return self._table

    @checked
    def dates(self, place: int) -> np.ndarray:
        """Return the dates of a place, (t,) int32 days since 1970-01-01, ascending."""
        return self._dates(self._number(place))

    @checked
    def clear(self, place: int) -> np.ndarray:
        """Return the share of valid pixels at each date of a place, (t,) float32; of several sensors, the largest."""
        clear = self.clear_dates(self._number(place))
        return clear if clear.ndim == 1 else clear.max(axis=1)

    @checked
    def crs(self, place: int) -> str:
        """Return the CRS of a place: an EPSG code where it has one, else WKT."""
        return self.state.crs[self.table["crs"][self._number(place)]]

    @checked
    def bounds(self, place: int) -> tuple[float, float, float, float]:
        """Return the left, lower, right and upper edge of a place, in its CRS."""
        number = self._number(place)
        return self._extent(np.array([number]))

    def _extent(self, numbers: np.ndarray) -> tuple[float, float, float, float]:
        x, y = (self._edges(numbers)[axis::2] for axis in (0, 1))
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def _edges(self, numbers: np.ndarray) -> np.ndarray:
        """Return x and y of the outer corner of the first pixel, and of the last one, (4, place)."""
        left, top, cell = (self.table[name][numbers] for name in ("left", "top", "cell"))
        down = self.table["down"][numbers] if self.layout.named else -cell
        rows, columns = np.array([self.shape(int(n)) for n in numbers]).reshape(-1, 2).T
        return np.stack([left, top, left + cell * columns, top + down * rows])

    def shape(self, place: int) -> tuple[int, int]:
        """Return height and width of a place in pixels; its number is not checked."""
        if not self.layout.named:
            return self.layout.size, self.layout.size
        return int(self.table["rows"][place]), int(self.table["columns"][place])

    @checked
    def read(self, place: int, dates: Sequence[int] | None = None) -> Chip:
        """Read a place.

        Parameters
        ----------
        place : int
            Its number, from 0; negative ones count from the end.
        dates : sequence of int, optional
            Which of its dates, by position in `dates(place)`. All of them if not given.

        Returns
        -------
        Chip
            x (t, band, y, x) float32 physical values, 0 where invalid; dates (t,); valid (t, y, x); unlabelled.

        Raises
        ------
        TimoError
            If there is no such place or date, or its bytes are not those that were written.
        """
        place = self._number(place)
        count = len(self._dates(place))
        which = range(count) if dates is None else dates
        if any(not 0 <= number < count for number in which):
            raise TimoError(
                f"place {place} has {count} dates, numbered from 0; got dates={dates!r}"
            )
        return self.read_dates(place, np.array(which, "int64"))

    @checked
    def cube(self, place: int) -> xr.DataArray:
        """Return a place as a cube, on its grid: to look at, to map, to check."""
        place = self._number(place)
        chip = self.read(place)
        left, top, right, bottom = (float(n) for n in self._edges(np.array([place]))[:, 0])
        height, width = self.shape(place)
        half = (right - left) / width / 2, (bottom - top) / height / 2
        attrs = {"units": self.layout.units, "attribution": "; ".join(self.state.attribution)}
        if self.layout.sensor:
            attrs["sensor"] = self.layout.sensor
        seen = chip.valid[:, None]
        if chip.valid.ndim == 4:
            seen = np.repeat(chip.valid, self.layout.groups, axis=1)
        seconds = self.seconds(place).astype("datetime64[s]")
        cube = xr.DataArray(
            np.where(seen, chip.x, np.float32(np.nan)),
            dims=("time", "band", "y", "x"),
            coords={
                "time": seconds.astype("datetime64[ns]"),
                "band": list(self.layout.bands),
                "y": np.linspace(top + half[1], bottom - half[1], height),
                "x": np.linspace(left + half[0], right - half[0], width),
            },
            attrs=attrs,
        )
        return cube.rio.write_crs(self.crs(place))

    def info(self) -> dict[str, Any]:
        """Describe what the store holds, of which only the table is read.

        Returns
        -------
        dict
            places, images (dates over all places), dates ((fewest, median, most) a place), first and last date, bands,
            sensor, size (pixels), cell (least and largest), extent (CRS -> left, lower, right, upper edge), clear (mean
            share), dtype, scale, offset, shift, largest_error, bytes and files on disk, attribution, source.
        """
        table, layout, state = self.table, self.layout, self.state
        given = table["dates"] != NO_DATE
        days, counts = table["dates"][given].astype("datetime64[D]"), given.sum(axis=1)
        files = [file.stat().st_size for file in self.path.rglob("*") if file.is_file()]
        some, cell = len(self) > 0, table["cell"]
        return {
            "places": len(self),
            "images": int(counts.sum()),
            "dates": (int(counts.min()), float(np.median(counts)), int(counts.max()))
            if some
            else (),
            "first": str(days.min()) if some else None,
            "last": str(days.max()) if some else None,
            **{name: getattr(layout, name) for name in ("sensor", "bands", "units", "size")},
            "cell": (float(cell.min()), float(cell.max())) if some else (),
            "extent": {
                name: self._extent(np.flatnonzero(table["crs"] == code))
                for code, name in enumerate(state.crs)
            },
            "clear": float(table["clear"][given].mean()) if some else None,
            **{name: getattr(layout, name) for name in ("dtype", "scale", "offset", "shift")},
            "largest_error": state.largest_error,
            "bytes": sum(files),
            "files": len(files),
            "attribution": state.attribution,
            "source": state.source,
        }

    def clear_dates(self, place: int) -> np.ndarray:
        """Return the share of valid pixels at each date (and group of bands) of a place; its number is not checked."""
        return self.table["clear"][place][: len(self._dates(place))]

    def read_dates(self, place: int, which: np.ndarray) -> Chip:
        """Read some dates of a place; the numbers are not checked, which takes a loader's time."""
        height, width = self.shape(place)
        stored = self.read_array("x", place, which)[..., :height, :width]
        return self.decoded(stored, days(self.seconds(place)[which]))

    def decoded(self, stored: np.ndarray, dates: np.ndarray) -> Chip:
        """Return stored values (t c h w) of some dates as an unlabelled chip."""
        valid, x = self.layout.is_valid(stored), self.layout.decode(stored)
        groups = self.layout.groups
        seen = np.repeat(valid, groups, axis=1) if len(groups) > 1 else valid[:, None]
        np.copyto(x, 0, where=~seen)
        labels = np.broadcast_to(np.int16(UNLABELLED), (len(x), *x.shape[2:]))
        return Chip(x, dates, valid, labels)

    def read_array(
        self, name: str, place: int, which: Sequence[int] | np.ndarray = (0,)
    ) -> np.ndarray:
        """Read chunks of an array in shards: of x and valid those of some dates, of others the one of the place."""
        array = self.layout.sharded[name]
        stored = np.empty((len(which), *array.shape), array.dtype)
        try:
            shard = self._shard(name, place // self.layout.shard)
            for i, (_, data) in enumerate(shard.read(place % self.layout.shard, which)):
                decode(data, stored[i])
        except DamagedError as error:
            raise DamagedError(
                f"place {place} of the chip store '{self.path}' is damaged: {error}. "
                f"See what else is: python -m timo.places verify '{self.path}'"
            ) from error
        return stored

    def _shard(self, name: str, number: int) -> ShardReader:
        """Return an open shard: to open a file for each read takes as long as to read it."""
        key = (name, number)
        if key not in self._shards:
            self._shards[key] = open_shard(self, name, number)
            while len(self._shards) > _OPEN:
                self._shards.popitem(last=False)[1].close()
        return self._shards[key]

    def valid(self, place: int) -> np.ndarray:
        """Return what is valid of a place at all its dates, (t h w), or (t g h w); its number is not checked."""
        count, (height, width) = len(self._dates(place)), self.shape(place)
        dated = self.layout.sharded["valid"].dated
        valid = self.read_array("valid", place, np.arange(count) if dated else (0,))
        return (valid if dated else valid[0, :count])[..., :height, :width]

    def seconds(self, place: int) -> np.ndarray:
        """Return the dates of a place, (t,) int64 seconds since 1970-01-01; its number is not checked."""
        whole = self._dates(place).astype("int64") * 86400
        return whole + self.table["seconds"][place][: len(whole)] if self.layout.named else whole

    def _dates(self, place: int) -> np.ndarray:
        row = self.table["dates"][place]
        return row[row != NO_DATE]

    def _number(self, place: int) -> int:
        number = place + len(self) if place < 0 else place
        if not 0 <= number < len(self):
            raise NumberError(f"the store has {len(self)} places, got place {place}")
        return number


def open_shard(store: ChipStore, name: str, number: int) -> ShardReader:
    """Open a shard of an array, by its number along the places."""
    array = store.layout.sharded[name]
    file = store.path / name / shard_name(array, number)
    return ShardReader(file, grid_of(store.layout, array))


def days(seconds: np.ndarray) -> np.ndarray:
    """Return days since 1970-01-01 as float32, as `timo.cube.days_since_epoch` does."""
    return (seconds / 86400).astype("float32")
