"""Writing a chip store: places are added a shard at a time, and a shard counts when it is complete."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from filelock import FileLock, Timeout

from timo.atomic import replacing
from timo.checks import PathLike
from timo.errors import TimoError
from timo.training.chips.layout import (
    NO_DATE,
    SHARDED,
    TABLE,
    Layout,
    State,
    create_arrays,
    read_root,
    read_table,
    root_attributes,
    shard_name,
)
from timo.training.chips.shard import DurableStore, ShardWriter, checksum, encode


@dataclass(frozen=True)
class Place:
    """A place to be written: stored values (t c h w), valid (t h w), days (t,), and where it is."""

    stored: np.ndarray
    valid: np.ndarray
    days: np.ndarray
    crs: str
    left: float
    top: float
    cell: float
    key: int


class StoreWriter:
    """Adds places to a store, within `open`; it is created if it is not there, else its `shard` and `dates` hold.

    What a block that fails has not completed is not counted, and is written over by the next; the places that were
    committed before it stay.
    """

    def __init__(self, path: PathLike, layout: Layout) -> None:
        self.path = Path(path).expanduser()
        self.layout = layout
        self.state = State()
        self.keys: set[int] = set()
        self.rows: list[dict[str, Any]] = []
        self.shards: tuple[ShardWriter, ShardWriter] | None = None

    @contextmanager
    def open(self) -> Iterator["StoreWriter"]:
        """Lock the store, and commit what was added when the block ends well."""
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            with replacing(self.path) as partial:
                attributes = root_attributes(self.layout, State())
                group = zarr.create_group(DurableStore(partial), attributes=attributes)
                create_arrays(group, self.layout)
        read_root(self.path)
        # In a folder whose files a Zarr library does not list.
        lock = FileLock(self.path / "x" / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise TimoError(
                f"the chip store '{self.path}' is being written by another process: wait until it ends"
            ) from error
        try:
            self._resume()
            yield self
            self.commit()
        finally:
            for shard in self.shards or ():
                shard.abandon()
            self.shards = None
            lock.release()

    def _resume(self) -> None:
        layout, self.state = read_root(self.path)
        _check_same(self.path, layout, self.layout)
        self.layout = layout
        self.keys = set(read_table(self.path, self.state)["key"].tolist())
        # Left by a process that was killed.
        for partial in self.path.glob("**/.*.partial"):
            partial.unlink()

    def add(self, place: Place) -> None:
        """Write a place; its shard is committed when it is full."""
        slot = (self.state.places + len(self.rows)) % self.layout.shard
        crc = 0
        with self._explained():
            for shard, dates in zip(self._open_shards(), (place.stored, place.valid), strict=True):
                for i, date in enumerate(dates):
                    data = encode(date)
                    crc = checksum(data, crc)
                    shard.append(slot, i, data)
        self.rows.append(self._row(place, crc))
        if slot == self.layout.shard - 1:
            self.commit()

    def _open_shards(self) -> tuple[ShardWriter, ShardWriter]:
        if self.shards is None:
            number, before = divmod(self.state.places, self.layout.shard)
            grid = (self.layout.shard, self.layout.dates)
            x, valid = (
                ShardWriter(self.path / name / shard_name(name, number), grid) for name in SHARDED
            )
            self.shards = (x, valid)
            for shard in self.shards if before else ():
                shard.take_over(before)
        return self.shards

    def _row(self, place: Place, crc: int) -> dict[str, Any]:
        if place.crs not in self.state.crs:
            self.state = replace(self.state, crs=(*self.state.crs, place.crs))
        count = len(place.days)
        dates = np.full(self.layout.dates, NO_DATE, "int32")
        clear = np.zeros(self.layout.dates, "float32")
        dates[:count], clear[:count] = place.days, place.valid.mean(axis=(1, 2))
        where = {name: getattr(place, name) for name in ("left", "top", "cell", "key")}
        code = self.state.crs.index(place.crs)
        return {"dates": dates, "clear": clear, "crs": code, "crc": crc, **where}

    def note(self, attribution: Sequence[str], source: Sequence[str], error: float) -> None:
        """Remember, with the next commit, where places come from and the largest rounding error."""
        self.state = replace(
            self.state,
            attribution=tuple(dict.fromkeys((*self.state.attribution, *attribution))),
            source=tuple(dict.fromkeys((*self.state.source, *source))),
            largest_error=max(self.state.largest_error, error),
        )

    def commit(self) -> None:
        """Complete the shard, then the table, and last what says how many places count."""
        if not self.rows or self.shards is None:
            return
        before, after = self.state.places, self.state.places + len(self.rows)
        table = {name: np.array([row[name] for row in self.rows], TABLE[name][0]) for name in TABLE}
        sums = [
            checksum(column.tobytes(), crc)
            for column, crc in zip(table.values(), self.state.table, strict=True)
        ]
        state = replace(self.state, places=after, table=tuple(sums))
        with self._explained():
            for shard in self.shards:
                shard.finish()
            # That a file is missing is to be seen, whatever it holds.
            with zarr.config.set({"array.write_empty_chunks": True}):
                group = zarr.open_group(DurableStore(self.path), mode="r+")
                for name in (*SHARDED, *TABLE):
                    array = cast(zarr.Array, group[name])
                    array.resize((after, *array.shape[1:]))
                    if name in table:
                        array[before:after] = table[name]
            group.attrs.put(root_attributes(self.layout, state))
        self.rows, self.shards, self.state = [], None, state

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TimoError(
                f"cannot write to the chip store '{self.path}': {error.strerror or error}. Its first "
                f"{read_root(self.path)[1].places} places are complete; make room, then pack the same again to go on"
            ) from error


def _check_same(path: Path, stored: Layout, wanted: Layout) -> None:
    """Refuse places that differ from those of the store."""
    for field in ("sensor", "bands", "size", "dtype", "scale", "offset", "shift"):
        old, new = getattr(stored, field), getattr(wanted, field)
        if old != new:
            old, new = (", ".join(v) if isinstance(v, tuple) else v for v in (old, new))
            raise TimoError(
                f"the chip store '{path}' holds places of {field} {old}, these are of {field} {new}: "
                "pack them into another store"
            )
    if wanted.dates > stored.dates:
        raise TimoError(
            f"the chip store '{path}' has room for {stored.dates} dates a place, and these may have "
            f"{wanted.dates}: give dates={stored.dates} to keep the clearest of each part of the series, or pack "
            "them into another store"
        )
