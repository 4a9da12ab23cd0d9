"""What a chip store is on disk: the attributes of its group and its arrays, which any Zarr library reads."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr

from timo.errors import TimoError
from timo.training.chips.shard import CODECS, DamagedError, checksum

FORMAT, VERSION = "timo-chips", 1
METADATA = "zarr.json"
# Stands where a place has fewer dates than the store has room for, and where a pixel was not observed.
NO_DATE, NODATA = int(np.iinfo("int32").min), int(np.iinfo("int16").min)
# Rows of the table that share a file: few files, and a commit rewrites the last of them only.
ROWS = 4096
# Size of a shard before compression. Positions are read without the rest of the index, so that a shard may hold many
# places; more would save no file to speak of.
SHARD_BYTES, _MOST_IN_SHARD = 2**28, 4096
_DIMS = ("place", "date", "band", "row", "column")
# Arrays in shards, and their dims.
SHARDED = {"x": _DIMS, "valid": (*_DIMS[:2], *_DIMS[3:])}
# Arrays with one row for each place: type, whether there is a value for each date, attributes.
TABLE: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "dates": ("int32", True, {"units": "days since 1970-01-01", "_FillValue": NO_DATE}),
    "clear": ("float32", True, {"long_name": "share of valid pixels"}),
    "left": ("float64", False, {"long_name": "x of the left edge, in the unit of the CRS"}),
    "top": ("float64", False, {"long_name": "y of the upper edge, in the unit of the CRS"}),
    "cell": ("float64", False, {"long_name": "side of a pixel, in the unit of the CRS"}),
    "crs": ("int16", False, {"long_name": "position in the group's list of CRSs"}),
    "key": ("uint64", False, {"long_name": "digest of the place, its grid and its cube's dates"}),
    "crc": ("uint32", False, {"long_name": "CRC-32C of the stored bytes of x, then of valid"}),
}


@dataclass(frozen=True)
class Layout:
    """What all places of a store have in common: pixels a side, most dates of a place, places in a shard.

    Physical value = (stored value + shift) x scale + offset, in `units`; the shift is what is taken from digital
    numbers of 16 bits without a sign, to store them with one.
    """

    bands: tuple[str, ...]
    size: int
    dates: int
    sensor: str | None = None
    dtype: str = "int16"
    scale: float = 1.0
    offset: float = 0.0
    shift: int = 0
    shard: int = 1
    units: str = ""

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Return the shape of one date of one place: bands, rows, columns."""
        return len(self.bands), self.size, self.size

    @property
    def nodata(self) -> float:
        """Return the stored value where there was no valid observation."""
        return NODATA if self.dtype == "int16" else float("nan")

    def with_shards_of(self, size: int) -> "Layout":
        """Return the layout with as many places in a shard as this number of bytes holds."""
        each = self.dates * int(np.prod(self.chunk)) * np.dtype(self.dtype).itemsize
        return replace(self, shard=int(np.clip(size // each, 1, _MOST_IN_SHARD)))

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Convert stored to physical values (float32). Product and type are those of the sources, bit by bit."""
        if self.dtype == "float32":
            return stored
        values = stored.astype("float32")
        if self.shift:
            values += np.float32(self.shift)
        values *= np.float32(self.scale)
        return values + np.float32(self.offset) if self.offset else values

    def is_valid(self, stored: np.ndarray) -> np.ndarray:
        """Find where one date after another (t c h w) was observed (t h w)."""
        # A pixel is valid in all bands or in none: the first stands for all.
        first = stored[:, 0]
        return first != NODATA if self.dtype == "int16" else ~np.isnan(first)


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
    table: tuple[int, ...] = (0,) * len(TABLE)


def shard_name(name: str, number: int) -> str:
    """Return the file name of a shard of x or valid, by its number along the places."""
    return ".".join(["c", str(number), *["0"] * (len(SHARDED[name]) - 1)])


def place_key(identity: list[Any]) -> int:
    """Return the number that identifies a place: a digest of what tells it from others."""
    digest = hashlib.blake2b(json.dumps(identity).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def create_arrays(group: zarr.Group, layout: Layout, places: int = 0) -> None:
    """Create the arrays of a store."""
    x: dict[str, Any] = {"units": layout.units, "bands": list(layout.bands)}
    if layout.dtype == "int16":
        zero = layout.offset + layout.shift * layout.scale
        x |= {"scale_factor": layout.scale, "add_offset": zero, "_FillValue": NODATA}
    # Flat names: a folder for each index of each shard would be five times the files.
    usual: Any = {
        "compressors": CODECS,
        "chunk_key_encoding": {"name": "default", "separator": "."},
    }
    for name, dtype, rest, fill, attributes in (
        ("x", layout.dtype, layout.chunk, layout.nodata, x),
        ("valid", "bool", layout.chunk[1:], False, {}),
    ):
        group.create_array(
            name,
            shape=(places, layout.dates, *rest),
            # One chunk for each place and date: what a loader draws.
            chunks=(1, 1, *rest),
            shards=(layout.shard, layout.dates, *rest),
            dtype=dtype,
            fill_value=fill,
            dimension_names=SHARDED[name],
            attributes=attributes,
            **usual,
        )
    for name, (dtype, dated, attributes) in TABLE.items():
        wide = (layout.dates,) if dated else ()
        group.create_array(
            name,
            shape=(places, *wide),
            chunks=(ROWS, *wide),
            dtype=dtype,
            fill_value=attributes.get("_FillValue", 0),
            dimension_names=_DIMS[: 1 + dated],
            attributes=attributes,
            **usual,
        )


def root_attributes(layout: Layout, state: State) -> dict[str, Any]:
    """Return the attributes of a store's group, with their checksum."""
    attributes = {"format": FORMAT, "version": VERSION, "layout": asdict(layout)}
    attributes["state"] = asdict(state)
    return attributes | {"checksum": _digest(attributes)}


def read_root(path: Path) -> tuple[Layout, State]:
    """Read and check the attributes of a store's group."""
    if not (path / METADATA).is_file():
        what = "it is not a Zarr store" if path.exists() else "it does not exist"
        raise TimoError(
            f"'{path}' is no chip store: {what}. Write one with timo.training.chips.pack"
        )
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
            f"'{path}' is a Zarr store, but no chip store. Write one with timo.training.chips.pack"
        )
    digest = attributes.pop("checksum", None)
    if digest != _digest(attributes):
        raise DamagedError(damaged)
    if (form, version) != (FORMAT, VERSION):
        raise TimoError(
            f"'{path}' is of the format {form!r}, version {version}; this timo reads {FORMAT!r}, version {VERSION}: "
            "install a newer timo"
        )
    # JSON gives lists back; tuples keep a dataclass comparable to one that was never written.
    given: dict[str, dict[str, Any]] = {
        part: {name: tuple(v) if isinstance(v, list) else v for name, v in attributes[part].items()}
        for part in ("layout", "state")
    }
    return Layout(**given["layout"]), State(**given["state"])


def _digest(attributes: dict[str, Any]) -> int:
    return checksum(json.dumps(attributes, sort_keys=True).encode())


def read_table(path: Path, state: State) -> dict[str, np.ndarray]:
    """Read the table of a store's places, and compare it with its checksums."""
    table = {}
    for name, wanted in zip(TABLE, state.table, strict=True):
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
