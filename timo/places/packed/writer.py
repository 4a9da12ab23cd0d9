"""Writing a chip store: places are added a shard at a time, and a shard counts when it is complete."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from filelock import FileLock, Timeout

from timo.atomic import replacing
from timo.checks import PathLike
from timo.errors import TimoError
from timo.places.packed.layout import (
    Layout,
    State,
    create_arrays,
    grid_of,
    read_root,
    read_table,
    root_attributes,
    shard_name,
)
from timo.places.packed.shard import DurableStore, ShardWriter, checksum, encode


@dataclass(frozen=True)
class Row:
    """A place to be written: stored values (t c h w), valid (t h w), days (t,), and where it is.

    `more` are the further arrays and columns of the layout, by name.
    """

    stored: np.ndarray
    valid: np.ndarray
    days: np.ndarray
    crs: str
    left: float
    top: float
    cell: float
    key: int
    more: dict[str, Any] = field(default_factory=dict)


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
        self.shards: list[ShardWriter] | None = None

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
        self.keys = set(read_table(self.path, layout, self.state)["key"].tolist())
        # Left by a process that was killed.
        for partial in self.path.glob("**/.*.partial"):
            partial.unlink()

    def add(self, place: Row) -> None:
        """Write a place; its shard is committed when it is full."""
        slot = (self.state.places + len(self.rows)) % self.layout.shard
        crc = 0
        with self._explained():
            given = {"x": place.stored, "valid": place.valid, **place.more}
            for shard, (name, array) in zip(
                self._open_shards(), self.layout.sharded.items(), strict=True
            ):
                chunks = given[name] if array.dated else given[name][None]
                for i, date in enumerate(chunks):
                    data = encode(date, self.layout.codec)
                    crc = checksum(data, crc)
                    shard.append(slot, i, data)
        self.rows.append(self._row(place, crc))
        if slot == self.layout.shard - 1:
            self.commit()

    def _open_shards(self) -> list[ShardWriter]:
        if self.shards is None:
            number, before = divmod(self.state.places, self.layout.shard)
            self.shards = [
                ShardWriter(
                    self.path / name / shard_name(array, number), grid_of(self.layout, array)
                )
                for name, array in self.layout.sharded.items()
            ]
            for shard in self.shards if before else ():
                shard.take_over(before)
        return self.shards

    def _row(self, place: Row, crc: int) -> dict[str, Any]:
        if place.crs not in self.state.crs:
            self.state = replace(self.state, crs=(*self.state.crs, place.crs))
        found = {name: getattr(place, name) for name in ("left", "top", "cell", "key")} | place.more
        rows, columns = (place.more.get(name, self.layout.size) for name in ("rows", "columns"))
        seen = place.valid[: len(place.days), ..., :rows, :columns]
        found["clear"] = seen.mean(axis=(-2, -1))
        found |= {"dates": place.days, "crc": crc, "crs": self.state.crs.index(place.crs)}
        row = {}
        for name, column in self.layout.columns.items():
            # Of dates that the place does not have.
            empty = column.attributes.get("_FillValue", 0)
            row[name] = np.full(column.shape, empty, column.dtype)
            row[name][tuple(slice(n) for n in np.shape(found[name]))] = found[name]
        return row

    def note(self, attribution: Sequence[str], source: Sequence[str], error: float) -> None:
        """Remember, with the next commit, where places come from and the largest rounding error."""
        self.state = replace(
            self.state,
            attribution=tuple(dict.fromkeys((*self.state.attribution, *attribution))),
            source=tuple(dict.fromkeys((*self.state.source, *source))),
            largest_error=max(self.state.largest_error, error),
        )

    def name_groups(self, names: tuple[str, ...]) -> None:
        """Remember, with the next commit, the names of the groups of labels by their number."""
        self.state = replace(self.state, groups=names)

    def commit(self) -> None:
        """Complete the shard, then the table, and last what says how many places count."""
        if not self.rows or self.shards is None:
            return
        before, after = self.state.places, self.state.places + len(self.rows)
        names = self.layout.columns
        table = {name: np.array([row[name] for row in self.rows]) for name in names}
        before_sums = self.state.table or (0,) * len(names)
        sums = [
            checksum(column.tobytes(), crc)
            for column, crc in zip(table.values(), before_sums, strict=True)
        ]
        state = replace(self.state, places=after, table=tuple(sums))
        with self._explained():
            for shard in self.shards:
                shard.finish()
            # That a file is missing is to be seen, whatever it holds.
            with zarr.config.set({"array.write_empty_chunks": True}):
                group = zarr.open_group(DurableStore(self.path), mode="r+")
                for name in (*self.layout.sharded, *names):
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
    fields = ("sensor", "bands", "size", "dtype", "scale", "offset", "shift")
    for name in (*fields, "codec", "named", "labels", "classes", "numeric", "coordinates"):
        old, new = getattr(stored, name), getattr(wanted, name)
        if old != new:
            old, new = (", ".join(map(str, v)) if isinstance(v, tuple) else v for v in (old, new))
            raise TimoError(
                f"the chip store '{path}' holds places of {name} {old}, these are of {name} {new}: "
                "pack them into another store"
            )
    if wanted.dates > stored.dates:
        raise TimoError(
            f"the chip store '{path}' has room for {stored.dates} dates a place, and these may have "
            f"{wanted.dates}: give dates={stored.dates} to keep the clearest of each part of the series, or pack "
            "them into another store"
        )
