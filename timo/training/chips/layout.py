"""What a chip store is on disk: the metadata of its group and arrays, read and written as Zarr v3."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from timo.errors import TimoError
from timo.training.chips.shard import DamagedError, checksum, codecs, write_whole

FORMAT, VERSION = "timo-chips", 1
METADATA = "zarr.json"
# Least value of the type, where a place has fewer dates than the store has room for.
NO_DATE = np.iinfo("int32").min
NODATA = int(np.iinfo("int16").min)
# Rows of the table that share a file: few files, and a commit rewrites the last of them only.
ROWS = 4096

# Arrays in shards, and how many dims they have.
SHARDED = {"x": 5, "valid": 4}
_ITEMS = ("place", "date", "band", "row", "column")
_DATES = {"units": "days since 1970-01-01", "_FillValue": int(NO_DATE)}
# Arrays with one row for each place: type, attributes; "date" in the name's dims if there is a value a date.
TABLE: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "dates": ("int32", True, _DATES),
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
    """What all places of a store have in common.

    Parameters
    ----------
    bands : tuple of str
        Names of the bands.
    size : int
        Height and width of a place in pixels.
    dates : int
        Most dates of a place.
    sensor : str, optional
        As in `timo.sensors`.
    dtype : {"int16", "float32"}
        Of what is stored.
    scale, offset : float
        Physical value = (stored value + shift) x scale + offset.
    shift : int
        What the digital numbers of 16 bits without a sign are less, to be stored with one.
    shard : int
        Places in a shard.
    units : str
        Of the physical values.
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
        """Shape of one date of one place: bands, rows, columns."""
        return len(self.bands), self.size, self.size

    @property
    def nodata(self) -> float:
        """Stored value where there was no valid observation."""
        return NODATA if self.dtype == "int16" else float("nan")

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Stored to physical values (float32). Product and type are those of the sources, bit by bit."""
        if self.dtype == "float32":
            return stored
        values = stored.astype("float32")
        if self.shift:
            values += np.float32(self.shift)
        values *= np.float32(self.scale)
        return values + np.float32(self.offset) if self.offset else values

    def is_valid(self, stored: np.ndarray) -> np.ndarray:
        """Where one date after another (t c h w) was observed (t h w)."""
        # A pixel is valid in all bands or in none: the first tells.
        first = stored[:, 0]
        return first != NODATA if self.dtype == "int16" else ~np.isnan(first)


@dataclass(frozen=True)
class State:
    """What changes when places are added. It is replaced in one step, and with it what counts."""

    places: int = 0
    crs: tuple[str, ...] = ()
    attribution: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    largest_error: float = 0.0
    table: tuple[int, ...] = (0,) * len(TABLE)


def shard_name(number: int, dims: int) -> str:
    """File name of a shard or chunk, by its number along the places."""
    return ".".join(["c", str(number), *["0"] * (dims - 1)])


def write_root(path: Path, layout: Layout, state: State) -> None:
    """Write the group's metadata: from here on the state's places count."""
    attributes = {"format": FORMAT, "version": VERSION, "layout": asdict(layout)}
    attributes["state"] = asdict(state)
    attributes["checksum"] = _digest(attributes)
    root = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    write_whole(path / METADATA, _json(root))


def read_root(path: Path) -> tuple[Layout, State]:
    """Read the group's metadata.

    Raises
    ------
    TimoError
        If the folder is no chip store, one of a newer version, or its metadata are damaged.
    """
    if not (path / METADATA).is_file():
        what = "it is not a Zarr store" if path.exists() else "it does not exist"
        raise TimoError(
            f"'{path}' is no chip store: {what}. Write one with timo.training.chips.pack"
        )
    damaged = (
        f"the metadata of the chip store, '{path / METADATA}', are damaged: restore the file from a copy, "
        "or remove the store and pack it anew"
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
    return Layout(**_tuples(attributes["layout"])), State(**_tuples(attributes["state"]))


def write_arrays(path: Path, layout: Layout, places: int) -> None:
    """Write the metadata of the arrays, with so many places."""
    for name, metadata in array_metadata(layout, places).items():
        (path / name).mkdir(exist_ok=True)
        write_whole(path / name / METADATA, _json(metadata))


def array_metadata(layout: Layout, places: int) -> dict[str, dict[str, Any]]:
    """Name -> ``zarr.json`` of every array."""
    x: dict[str, Any] = {"units": layout.units, "bands": list(layout.bands)}
    if layout.dtype == "int16":
        zero = layout.offset + layout.shift * layout.scale
        x |= {"scale_factor": layout.scale, "add_offset": zero, "_FillValue": int(NODATA)}
    fill: Any = int(NODATA) if layout.dtype == "int16" else "NaN"
    shape = (places, layout.dates, *layout.chunk)
    planes: dict[str, Any] = {"dims": (*_ITEMS[:2], *_ITEMS[3:]), "shape": (*shape[:2], *shape[3:])}
    arrays = {
        "x": _sharded(layout, _ITEMS, shape, dtype=layout.dtype, fill=fill, attributes=x),
        "valid": _sharded(layout, **planes, dtype="bool", fill=False, attributes={}),
    }
    for name, (dtype, dated, attributes) in TABLE.items():
        dims = _ITEMS[: 1 + dated]
        wide = (layout.dates,) if dated else ()
        none = int(NO_DATE) if name == "dates" else 0
        arrays[name] = _array(
            dims,
            (places, *wide),
            chunks=(ROWS, *wide),
            dtype=dtype,
            fill=none,
            coding=codecs(np.dtype(dtype).itemsize),
            attributes=attributes,
        )
    return arrays


def row_shape(layout: Layout, name: str) -> tuple[int, ...]:
    """Shape of a place's row in an array of the table."""
    return (layout.dates,) if TABLE[name][1] else ()


def _sharded(
    layout: Layout,
    dims: Sequence[str],
    shape: tuple[int, ...],
    *,
    dtype: str,
    fill: Any,
    attributes: dict[str, Any],
) -> dict[str, Any]:
    """One chunk for each place and date: what a loader draws."""
    rest = shape[2:]
    configuration = {
        "chunk_shape": [1, 1, *rest],
        "codecs": codecs(np.dtype(dtype).itemsize),
        "index_codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
        "index_location": "end",
    }
    coding = [{"name": "sharding_indexed", "configuration": configuration}]
    chunks = (layout.shard, layout.dates, *rest)
    return _array(
        dims, shape, chunks=chunks, dtype=dtype, fill=fill, coding=coding, attributes=attributes
    )


def _array(
    dims: Sequence[str],
    shape: tuple[int, ...],
    *,
    chunks: tuple[int, ...],
    dtype: str,
    fill: Any,
    coding: list[dict[str, Any]],
    attributes: dict[str, Any],
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        # Flat names: a folder for each index of each shard would be five times the files.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": coding,
        "attributes": attributes,
        "dimension_names": list(dims),
        "storage_transformers": [],
    }


def grown(state: State, places: int, **changes: Any) -> State:
    """The state after more places."""
    return replace(state, places=state.places + places, **changes)


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON gives lists back; tuples keep a dataclass comparable to one that was never written."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}


def _digest(attributes: dict[str, Any]) -> int:
    return checksum(json.dumps(attributes, sort_keys=True).encode())


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()
