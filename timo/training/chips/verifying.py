"""Reading everything in a chip store, and comparing it with what was written."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from timo.training.chips.layout import METADATA, NO_DATE, SHARDED, array_metadata, shard_name
from timo.training.chips.shard import DamagedError, ShardReader, checksum, decode
from timo.training.chips.store import ChipStore


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written: a place's number, or None for what belongs to no single place."""

    place: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.place is None else f"place {self.place}: {self.what}"


def verify(path: str | Path, step: Callable[[], object] | None = None) -> list[Damage]:
    """Read a whole store, and report what is damaged.

    Parameters
    ----------
    path : path
        The store.
    step : callable, optional
        Called after each place.

    Returns
    -------
    list of Damage
        Empty if every byte, checksum, date and position is as it should be.

    Raises
    ------
    TimoError
        If the folder is no chip store. Damage, that of its metadata included, is not raised.
    """
    try:
        store = ChipStore(path)
        table = store.table
    except DamagedError as error:
        return [Damage(None, str(error))]
    found = [Damage(None, what) for what in [*_arrays(store), *_table(store)]]
    found += [Damage(None, what) for what in _shards(store)]
    for place in range(len(table)):
        found += [Damage(place, what) for what in _place(store, place)]
        if step is not None:
            step()
    return found


def _arrays(store: ChipStore) -> Iterator[str]:
    """The metadata by which other programs read the arrays."""
    for name, expected in array_metadata(store.layout, len(store)).items():
        try:
            found = json.loads((store.path / name / METADATA).read_bytes())
            # An interrupted packing leaves arrays that are longer than what counts.
            longer = found["shape"][0] >= len(store)
            same = longer and found | {"shape": expected["shape"]} == expected
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            same = False
        if not same:
            yield f"the file {name}/{METADATA} is missing or not that of this store"


def _table(store: ChipStore) -> Iterator[str]:
    try:
        store.table.check(store.state)
    except DamagedError as error:
        yield str(error)


def _shards(store: ChipStore) -> Iterator[str]:
    for name, dims in SHARDED.items():
        for number in range(-(-len(store) // store.layout.shard)):
            file = store.path / name / shard_name(number, dims)
            try:
                with ShardReader(file, (store.layout.shard, store.layout.dates)) as shard:
                    shard.check_index()
            except DamagedError as error:
                yield f"{name}/{file.name}: {error}"


def _place(store: ChipStore, place: int) -> Iterator[str]:
    """What is wrong with a place."""
    yield from _row(store, place)
    dates = np.flatnonzero(store.table["dates"][place] != NO_DATE)
    layout = store.layout
    x = np.empty((len(dates), *layout.chunk), layout.dtype)
    valid = np.empty((len(dates), *layout.chunk[1:]), bool)
    crc = 0
    for name, array in (("x", x), ("valid", valid)):
        try:
            for i, data in enumerate(_chunks(store, name, place, dates)):
                decode(data, array[i])
                crc = checksum(data, crc)
        except DamagedError as error:
            yield f"{name}: {error}"
            return
    if crc != store.table["crc"][place]:
        yield "its bytes are whole, but not those that were written: the shard is of another store or time"
        return
    yield from _values(store, place, x, valid)


def _row(store: ChipStore, place: int) -> Iterator[str]:
    table = store.table
    row = table["dates"][place]
    count = int((row != NO_DATE).sum())
    if not count or (row[:count] == NO_DATE).any() or (np.diff(row[:count]) < 0).any():
        yield "its dates are not ascending, from the first on"
    position = [float(table[name][place]) for name in ("left", "top", "cell")]
    if not (np.isfinite(position).all() and position[2] > 0):
        yield f"its position (left, top, cell) is {position}"
    if not 0 <= table["crs"][place] < len(store.state.crs):
        yield f"it has the CRS number {table['crs'][place]}, of {len(store.state.crs)}"


def _chunks(store: ChipStore, name: str, place: int, dates: np.ndarray) -> list[bytes]:
    """Bytes of all chunks of a place in x or valid."""
    layout = store.layout
    number, slot = divmod(place, layout.shard)
    file = store.path / name / shard_name(number, SHARDED[name])
    with ShardReader(file, (layout.shard, layout.dates)) as shard:
        chunks = shard.read(slot)
    if [date for date, _ in chunks] != dates.tolist():
        raise DamagedError(f"it has chunks for {len(chunks)} dates, and {len(dates)} dates")
    return [data for _, data in chunks]


def _values(store: ChipStore, place: int, x: np.ndarray, valid: np.ndarray) -> Iterator[str]:
    observed = x != store.layout.nodata if store.layout.dtype == "int16" else np.isfinite(x)
    if (observed != valid[:, None]).any():
        yield "x and valid do not agree on what was observed"
    clear = store.table["clear"][place][: len(valid)]
    if not np.allclose(valid.mean(axis=(1, 2)), clear, rtol=0, atol=1e-6):
        yield "the share of valid pixels is not the one that is noted"
