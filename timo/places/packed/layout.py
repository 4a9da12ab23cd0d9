"""What a chip store is on disk: the attributes of its group and its arrays, which any Zarr library reads."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr

from timo.errors import TimoError
from timo.places.packed.shard import DamagedError, checksum, codecs

# Version 2 has labels and names with the places.
FORMAT, VERSIONS = "timo-chips", (1, 2)
METADATA = "zarr.json"
# Stands where a place has fewer dates than the store has room for, and where a pixel was not observed.
NO_DATE, NODATA = int(np.iinfo("int32").min), int(np.iinfo("int16").min)
# Rows of the table that share a file: few files, and a commit rewrites the last of them only.
ROWS = 4096
# Size of a shard before compression. Positions are read without the rest of the index, so that a shard may hold many
# places; more would save no file to speak of.
SHARD_BYTES, _MOST_IN_SHARD = 2**28, 4096


@dataclass(frozen=True)
class Sharded:
    """An array in shards: dims and shape of a chunk, and whether there is one for each date or for each place."""

    dtype: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    fill: float
    dated: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)


# Names of the dims of a row, and its shape.
Axes = tuple[tuple[str, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Column:
    """An array with a row for each place: its type, the dims and shape of a row, attributes."""

    dtype: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What all places of a store have in common: pixels a side, most dates of a place, places in a shard.

    Physical value = (stored value + shift) x scale + offset, in `units`, each one number or one a band; the shift is
    what is taken from digital numbers of 16 bits without a sign, to store them with one. `groups` are the sizes of
    groups of bands that are valid each on their own, none of a single one.

    `labels` are the dims of the labels, None of places without. `target` and `classes` are those of the labels,
    `counted` is the number of classes, named or not, and `numeric` says that they are values. `coordinates` are the
    further numbers of each pixel, "feature" and "group". A store that is not `named` is of version 1: it has no labels,
    and all its places have `size` pixels a side. `text` is the number of bytes for a name, `codec`
    the compressor of what is stored.
    """

    bands: tuple[str, ...]
    size: int
    dates: int
    sensor: str | None = None
    dtype: str = "int16"
    scale: float | tuple[float, ...] = 1.0
    offset: float | tuple[float, ...] = 0.0
    shift: int | tuple[int, ...] = 0
    shard: int = 1
    units: str = ""
    groups: tuple[int, ...] = ()
    named: bool = False
    labels: tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    counted: int = 1
    numeric: bool = False
    target: str = ""
    target_units: str = ""
    coordinates: tuple[str, ...] = ()
    text: int = 0
    codec: str = "zstd"

    @property
    def version(self) -> int:
        """Return the version of the format."""
        return 2 if self.named else 1

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Return the shape of one date of one place: bands, rows, columns."""
        return len(self.bands), self.size, self.size

    @property
    def nodata(self) -> float:
        """Return the stored value where there was no valid observation."""
        return NODATA if self.dtype == "int16" else float("nan")

    @cached_property
    def sharded(self) -> dict[str, Sharded]:
        """Return the arrays in shards, in the order in which their bytes are summed."""
        pixels, sides = ("row", "column"), (self.size, self.size)
        x: dict[str, Any] = {"units": self.units, "bands": list(self.bands)}
        if self.dtype == "int16" and not isinstance(self.scale, tuple):
            zero = self.offset + self.shift * self.scale  # type: ignore[operator]
            x |= {"scale_factor": self.scale, "add_offset": zero, "_FillValue": NODATA}
        several = len(self.groups) > 1
        over, count = (("group",), (len(self.groups),)) if several else ((), ())
        valid = Sharded("bool", (*over, *pixels), (*count, *sides), False)
        if self.named:
            # What is clear of a place is asked for at all its dates.
            shape = (self.dates, *valid.shape)
            valid = Sharded("bool", ("date", *valid.dims), shape, False, dated=False)
        arrays = {
            "x": Sharded(self.dtype, ("band", *pixels), self.chunk, self.nodata, attributes=x),
            "valid": valid,
        }
        if self.labels is not None and "y" in self.labels:
            dtype, fill = ("float32", float("nan")) if self.numeric else ("int16", -1)
            arrays["labels"] = Sharded(dtype, pixels, sides, fill, "time" in self.labels)
        arrays |= {name: Sharded("int32", pixels, sides, -1, False) for name in self.coordinates}
        return arrays

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Return the arrays of the table, in the order of their checksums."""
        dates: Axes = ("date",), (self.dates,)
        several = len(self.groups) > 1
        each: Axes = (("date", "group"), (self.dates, len(self.groups))) if several else dates
        unit = "in the unit of the CRS"
        columns = {
            "dates": Column(
                "int32", *dates, {"units": "days since 1970-01-01", "_FillValue": NO_DATE}
            ),
            "clear": Column("float32", *each, {"long_name": "share of valid pixels"}),
            "left": Column("float64", (), (), {"long_name": f"x of the left edge, {unit}"}),
            "top": Column("float64", (), (), {"long_name": f"y of the upper edge, {unit}"}),
            "cell": Column("float64", (), (), {"long_name": f"side of a pixel, {unit}"}),
            "crs": Column("int16", (), (), {"long_name": "position in the group's list of CRSs"}),
            "key": Column(
                "uint64",
                (),
                (),
                {"long_name": "digest of the place, its grid and its cube's dates"},
            ),
            "crc": Column(
                "uint32", (), (), {"long_name": "CRC-32C of the stored bytes of x, then of valid"}
            ),
        }
        return columns | self._further_columns(dates) if self.named else columns

    def _further_columns(self, dates: Axes) -> dict[str, Column]:
        text: Axes = ("byte",), (self.text,)
        columns = {
            "seconds": Column("int32", *dates, {"long_name": "seconds of the day"}),
            "down": Column("float64", (), (), {"long_name": "step of y from row to row"}),
            "rows": Column("int32", (), ()),
            "columns": Column("int32", (), ()),
            **{name: Column("uint8", *text) for name in ("name", "group_of_place", "fold")},
        }
        if self.labels is None:
            return columns
        meaning = {"long_name": "labelled pixels"}
        columns["counts"] = Column("int32", ("class",), (self.counted,), meaning)
        if "y" not in self.labels:
            dtype = "float32" if self.numeric else "int16"
            once: Axes = (), ()
            columns["label"] = Column(dtype, *(dates if self.labels else once))
        return columns

    def with_shards_of(self, size: int) -> "Layout":
        """Return the layout with as many places in a shard as this number of bytes holds."""
        each = self.dates * int(np.prod(self.chunk)) * np.dtype(self.dtype).itemsize
        return replace(self, shard=int(np.clip(size // each, 1, _MOST_IN_SHARD)))

    def by_band(self, name: str, dtype: str) -> Any:
        """Return scale, offset or shift: a number of the type, or (c 1 1) where each band has its own."""
        value = getattr(self, name)
        return (
            np.array(value, dtype)[:, None, None]
            if isinstance(value, tuple)
            else np.dtype(dtype).type(value)
        )

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Convert stored to physical values (float32). Product and type are those of the sources, bit by bit."""
        if self.dtype == "float32":
            return stored
        values = stored.astype("float32")
        if np.any(self.shift):
            values += self.by_band("shift", "float32")
        values *= self.by_band("scale", "float32")
        return values + self.by_band("offset", "float32") if np.any(self.offset) else values

    def is_valid(self, stored: np.ndarray) -> np.ndarray:
        """Find where one date after another (t c h w) was observed, (t h w), or (t g h w) with several groups."""
        # A pixel is valid in all bands of a group or in none: the first stands for all.
        first = stored[:, 0]
        if len(self.groups) > 1:
            first = stored[:, np.cumsum((0, *self.groups[:-1]))]
        return first != NODATA if self.dtype == "int16" else ~np.isnan(first)


# Fields of a layout of version 1.
_FORMER = (
    "bands",
    "size",
    "dates",
    "sensor",
    "dtype",
    "scale",
    "offset",
    "shift",
    "shard",
    "units",
)


@dataclass(frozen=True)
class State:
    """What changes when places are added. It is replaced in one step, and with it what counts.

    `table` holds a checksum for each column of the table.
    """

    places: int = 0
    crs: tuple[str, ...] = ()
    attribution: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    largest_error: float = 0.0
    table: tuple[int, ...] = ()
    # Names of the groups of labels, by number.
    groups: tuple[str, ...] = ()


def shard_name(array: Sharded, number: int) -> str:
    """Return the file name of a shard, by its number along the places."""
    return ".".join(["c", str(number), *["0"] * (array.dated + len(array.shape))])


def grid_of(layout: Layout, array: Sharded) -> tuple[int, int]:
    """Return for how many places and dates a shard has room."""
    return layout.shard, layout.dates if array.dated else 1


def place_key(identity: list[Any]) -> int:
    """Return the number that identifies a place: a digest of what tells it from others."""
    digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def create_arrays(group: zarr.Group, layout: Layout, places: int = 0) -> None:
    """Create the arrays of a store."""
    # Flat names: a folder for each index of each shard would be five times the files.
    usual: Any = {
        "compressors": codecs(layout.codec),
        "chunk_key_encoding": {"name": "default", "separator": "."},
    }
    for name, array in layout.sharded.items():
        dates = (layout.dates,) if array.dated else ()
        group.create_array(
            name,
            shape=(places, *dates, *array.shape),
            # One chunk for each place and date: what a loader draws.
            chunks=(1, *[1] * array.dated, *array.shape),
            shards=(layout.shard, *dates, *array.shape),
            dtype=array.dtype,
            fill_value=array.fill,
            dimension_names=("place", *["date"] * array.dated, *array.dims),
            attributes=array.attributes,
            **usual,
        )
    for name, column in layout.columns.items():
        group.create_array(
            name,
            shape=(places, *column.shape),
            chunks=(ROWS, *column.shape),
            dtype=column.dtype,
            fill_value=column.attributes.get("_FillValue", 0),
            dimension_names=("place", *column.dims),
            attributes=column.attributes,
            **usual,
        )


def root_attributes(layout: Layout, state: State) -> dict[str, Any]:
    """Return the attributes of a store's group, with their checksum."""
    attributes: dict[str, Any] = {
        "format": FORMAT,
        "version": layout.version,
        "layout": asdict(layout),
    }
    attributes["state"] = asdict(state) | {"table": state.table or (0,) * len(layout.columns)}
    if not layout.named:
        # A former timo reads it, and knows no other names.
        attributes["layout"] = {n: attributes["layout"][n] for n in _FORMER}
        del attributes["state"]["groups"]
    return attributes | {"checksum": _digest(attributes)}


def read_root(path: Path) -> tuple[Layout, State]:
    """Read and check the attributes of a store's group."""
    if not (path / METADATA).is_file():
        what = "it is not a Zarr store" if path.exists() else "it does not exist"
        raise TimoError(f"'{path}' is no chip store: {what}. Write one with timo.places.pack")
    damaged = (
        f"the metadata of the chip store, '{path / METADATA}', are damaged: restore the file from a copy, "
        "or remove the store and pack it again"
    )
    try:
        attributes = json.loads((path / METADATA).read_bytes()).get("attributes", {})
        form, version = attributes.get("format"), attributes.get("version")
    except (ValueError, AttributeError) as error:
        raise DamagedError(damaged) from error
    if form is None and "layout" not in attributes:
        raise TimoError(
            f"'{path}' is a Zarr store, but no chip store. Write one with timo.places.pack"
        )
    digest = attributes.pop("checksum", None)
    if digest != _digest(attributes):
        raise DamagedError(damaged)
    if form != FORMAT or version not in VERSIONS:
        raise TimoError(
            f"'{path}' is of the format {form!r}, version {version}; this timo reads {FORMAT!r}, version "
            f"{VERSIONS[-1]}: install a newer timo"
        )
    # JSON gives lists back; tuples keep a dataclass comparable to one that was never written.
    given: dict[str, dict[str, Any]] = {
        part: {name: tuple(v) if isinstance(v, list) else v for name, v in attributes[part].items()}
        for part in ("layout", "state")
    }
    return Layout(**given["layout"]), State(**given["state"])


def _digest(attributes: dict[str, Any]) -> int:
    return checksum(json.dumps(attributes, sort_keys=True).encode())


def read_table(path: Path, layout: Layout, state: State) -> dict[str, np.ndarray]:
    """Read the table of a store's places, and compare it with its checksums."""
    table = {}
    for name, wanted in zip(layout.columns, state.table, strict=True):
        try:
            array = cast(zarr.Array, zarr.open_array(path / name, mode="r"))
            table[name] = np.asarray(array[: state.places])
            # A file of another time, or of another store, is whole in itself.
            if checksum(table[name].tobytes()) != wanted:
                raise DamagedError("it is not the one that belongs to the store")
        except Exception as error:  # each kind of damage is another error of Zarr's
            raise DamagedError(
                f"the chip store '{path}' is damaged, its array '{name}': {error}. Restore its folder from a copy, or "
                "remove the store and pack it again"
            ) from error
    return table
