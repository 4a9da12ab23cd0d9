"""Reading everything in a chip store, and comparing it with what was written."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import zarr
from zarr.core.buffer import Buffer

from timo.checks import PathLike, checked
from timo.compute import OnStep, Steps
from timo.errors import warn
from timo.places.packed.layout import (
    METADATA,
    NO_DATE,
    NODATA,
    ROWS,
    create_arrays,
    shard_name,
)
from timo.places.packed.shard import DamagedError, checksum, decode
from timo.places.packed.store import ChipStore, open_shard


@checked
@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written: a place's number, or None for what belongs to no single place."""

    place: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.place is None else f"place {self.place}: {self.what}"


@checked
def verify(
    path: PathLike,
    step: Callable[[], Any] | None = None,
    *,
    on_step: OnStep | None = None,
    progress: bool = False,
) -> list[Damage]:
    """Read a whole store, and report what is damaged.

    Parameters
    ----------
    path : path
    step : callable, optional
        Former way to follow the progress, without arguments. Use `on_step`.
    on_step : callable, optional
        Called with a `timo.compute.StepReport` after each place.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Damage
        Empty if every byte, checksum, date and position is as it should be.

    Raises
    ------
    TimoError
        If the folder is no chip store. Damage, that of its metadata included, is not raised.
    """
    if step is not None:
        warn("step= is called on_step= now, and gets a StepReport.", DeprecationWarning)
        on_step = lambda _: step()  # noqa: E731
    try:
        store = ChipStore(path)
        places = len(store.table["key"])
    except DamagedError as error:
        return [Damage(None, str(error))]
    found = [Damage(None, what) for what in [*_arrays(store), *_shards(store)]]
    steps = Steps(on_step, progress=progress, unit="place")
    try:
        steps.begin(places)
        for place in range(places):
            found += [Damage(place, what) for what in _place(store, place)]
            steps.step()
    finally:
        steps.close()
    return found


def _arrays(store: ChipStore) -> Iterator[str]:
    """Find arrays whose metadata, by which other programs read them, are damaged, or that lack a file."""
    expected: dict[str, Buffer] = {}
    create_arrays(zarr.create_group(expected), store.layout)
    for name in (*store.layout.sharded, *store.layout.columns):
        file = f"{name}/{METADATA}"
        try:
            # An interrupted packing leaves arrays that are longer than what counts.
            places, found = _without_places((store.path / file).read_bytes())
            same = places >= len(store) and found == _without_places(expected[file].to_bytes())[1]
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            same = False
        if not same:
            yield f"the file {file} is missing or not that of this store"
        elif name in store.layout.columns:
            array = cast(zarr.Array, zarr.open_array(store.path / name, mode="r"))
            if array.nchunks_initialized < -(-len(store) // ROWS):
                yield f"a file of '{name}' is missing"


def _without_places(metadata: bytes) -> tuple[int, Any]:
    """Return the number of places that the metadata of an array give, and all else in them."""
    given = json.loads(metadata)
    places, given["shape"][0] = given["shape"][0], None
    # Version 0.1 wrote it of booleans as well, which are single bytes.
    endian = '"configuration": {"endian": "little"}, '
    return places, json.loads(json.dumps(given, sort_keys=True).replace(endian, ""))


def _shards(store: ChipStore) -> Iterator[str]:
    for name, array in store.layout.sharded.items():
        for number in range(-(-len(store) // store.layout.shard)):
            try:
                with open_shard(store, name, number) as shard:
                    shard.check_index()
            except DamagedError as error:
                yield f"{name}/{shard_name(array, number)}: {error}"


def _place(store: ChipStore, place: int) -> Iterator[str]:
    """Find what is wrong with a place; the rows of the table are what was written, or could not be read."""
    dates = np.flatnonzero(store.table["dates"][place] != NO_DATE)
    layout = store.layout
    found, crc = {}, 0
    for name, array in layout.sharded.items():
        wanted = dates.tolist() if array.dated else [0]
        found[name] = np.empty((len(wanted), *array.shape), array.dtype)
        try:
            with open_shard(store, name, place // layout.shard) as shard:
                chunks = shard.read(place % layout.shard)
            if [date for date, _ in chunks] != wanted:
                yield f"{name}: it has chunks for {len(chunks)} dates, and {len(wanted)} dates"
                return
            for i, (_, data) in enumerate(chunks):
                decode(data, found[name][i])
                crc = checksum(data, crc)
        except DamagedError as error:
            yield f"{name}: {error}"
            return
    if crc != store.table["crc"][place]:
        yield "its bytes are whole, but not those that were written: the shard is of another store or time"
        return
    valid = found["valid"]
    if not layout.sharded["valid"].dated:
        valid = valid[0, : len(dates)]
    seen = valid[:, None] if valid.ndim == 3 else np.repeat(valid, layout.groups, axis=1)
    observed = found["x"] != NODATA if layout.dtype == "int16" else np.isfinite(found["x"])
    if (observed != seen).any():
        yield "x and valid do not agree on what was observed"
    rows, columns = store.shape(place)
    clear = store.table["clear"][place][: len(valid)]
    if not np.allclose(valid[..., :rows, :columns].mean(axis=(-2, -1)), clear, rtol=0, atol=1e-6):
        yield "the share of valid pixels is not the one that is noted"
