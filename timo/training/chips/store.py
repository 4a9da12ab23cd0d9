"""A chip store: a million images on disk, each a read away."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from timo.errors import TimoError
from timo.training.chips.chip import UNLABELLED, Chip
from timo.training.chips.layout import NO_DATE, SHARDED, read_root, shard_name
from timo.training.chips.shard import DamagedError, ShardReader, decode
from timo.training.chips.summary import summarise
from timo.training.chips.table import Table

if TYPE_CHECKING:
    import xarray as xr


class ChipStore:
    """Places of one size, each with its own dates, in a Zarr v3 store that `pack` wrote; read only.

    It is opened where it is first used, so that it goes to the workers of a data loader as no more than its path; a
    store that is being packed is read as it was when it was opened.

    Parameters
    ----------
    path : path
        The store.

    Raises
    ------
    TimoError
        If it is no chip store, or its metadata are damaged.

    Notes
    -----
    The group holds, besides its attributes, the arrays ``x`` (place, date, band, row, column) and ``valid``, in shards
    of one chunk for each place and date, and one small array for each thing known of a place: ``dates`` (int32 days
    since 1970-01-01, ascending, padded), ``clear``, ``left``, ``top``, ``cell``, ``crs`` and checksums. Any Zarr
    library reads it.

    Two files a shard of 268 MB and eight every 4096 places: a million images of 6 bands and 64 x 64 pixels, ten dates a
    place, are about 600 files; of 10 bands and 264 x 264 pixels, about 11,000, which are half a terabyte to one. In
    memory is the table alone, 10 MB for them.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.layout, self.state = read_root(self.path)
        self._table: Table | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The table is read anew by each worker: sent through a pipe, it would be copied twice.
        return self.__dict__ | {"_table": None}

    def __len__(self) -> int:
        return self.state.places

    def __getitem__(self, place: int) -> Chip:
        return self.read(place)

    def __iter__(self) -> Iterator[Chip]:
        return (self.read(place) for place in range(len(self)))

    @property
    def table(self) -> Table:
        """What is known of the places without reading a pixel."""
        if self._table is None:
            self._table = Table.read(self.path, self.layout, len(self))
        return self._table

    def dates(self, place: int) -> np.ndarray:
        """Dates of a place, (t,) int32 days since 1970-01-01, ascending."""
        row = self.table["dates"][self._check(place)]
        return row[row != NO_DATE]

    def clear(self, place: int) -> np.ndarray:
        """Share of valid pixels at each date of a place, (t,) float32."""
        return self.table["clear"][self._check(place)][: len(self.dates(place))]

    def crs(self, place: int) -> str:
        """CRS of a place: an EPSG code where it has one, else WKT."""
        return self.state.crs[self.table["crs"][self._check(place)]]

    def bounds(self, place: int) -> tuple[float, float, float, float]:
        """Left, lower, right and upper edge of a place, in its CRS."""
        left, top, cell = (
            float(self.table[n][self._check(place)]) for n in ("left", "top", "cell")
        )
        side = cell * self.layout.size
        return left, top - side, left + side, top

    def read(self, place: int, dates: Sequence[int] | np.ndarray | None = None) -> Chip:
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
        place = self._check(place)
        days = self.dates(place)
        which = np.arange(len(days)) if dates is None else np.asarray(dates, dtype="int64")
        if which.ndim != 1 or ((which < 0) | (which >= len(days))).any():
            raise TimoError(
                f"place {place} has {len(days)} dates, numbered from 0; got dates={dates!r}"
            )
        stored = self._stored(place, which)
        valid = self.layout.is_valid(stored)
        x = self.layout.decode(stored)
        np.copyto(x, 0, where=~valid[:, None])
        labels = np.broadcast_to(np.int16(UNLABELLED), valid.shape)
        return Chip(x, days[which].astype("float32"), valid, labels)

    def cube(self, place: int) -> "xr.DataArray":
        """A place as a cube, on its grid: to look at, to map, to check."""
        import rioxarray  # noqa: F401  registers .rio
        import xarray as xr

        chip = self.read(place)
        left, lower, right, upper = self.bounds(place)
        half = float(self.table["cell"][place]) / 2
        attrs = {"units": self.layout.units, "attribution": "; ".join(self.state.attribution)}
        if self.layout.sensor:
            attrs["sensor"] = self.layout.sensor
        cube = xr.DataArray(
            np.where(chip.valid[:, None], chip.x, np.float32(np.nan)),
            dims=("time", "band", "y", "x"),
            coords={
                "time": self.dates(place).astype("datetime64[D]").astype("datetime64[ns]"),
                "band": list(self.layout.bands),
                "y": np.linspace(upper - half, lower + half, self.layout.size),
                "x": np.linspace(left + half, right - half, self.layout.size),
            },
            attrs=attrs,
        )
        return cube.rio.write_crs(self.crs(place))

    def info(self) -> dict[str, Any]:
        """What the store holds: places, images, bytes, bands, span of dates, extent of each CRS."""
        return summarise(self.table, self.state)

    def _stored(self, place: int, which: np.ndarray) -> np.ndarray:
        """Stored values of a place at some of its dates."""
        stored = np.empty((len(which), *self.layout.chunk), self.layout.dtype)
        number, slot = divmod(place, self.layout.shard)
        file = self.path / "x" / shard_name(number, SHARDED["x"])
        try:
            with ShardReader(file, (self.layout.shard, self.layout.dates)) as shard:
                for i, (_, data) in enumerate(shard.read(slot, which)):
                    decode(data, stored[i])
        except DamagedError as error:
            raise DamagedError(
                f"place {place} of the chip store '{self.path}' is damaged: {error}. "
                f"See what else is: python -m timo.training.chips verify '{self.path}'"
            ) from error
        return stored

    def _check(self, place: int) -> int:
        number = place + len(self) if place < 0 else place
        if not 0 <= number < len(self):
            # What an iteration over the numbers ends with.
            raise IndexError(f"the store has {len(self)} places, got place {place}")
        return number
