"""Writing a chip store: places are added a shard at a time, and a shard counts when it is complete."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from timo.atomic import replacing
from timo.errors import TimoError
from timo.training.chips.layout import (
    NO_DATE,
    SHARDED,
    Layout,
    State,
    grown,
    read_root,
    shard_name,
    write_arrays,
    write_root,
)
from timo.training.chips.shard import ShardWriter, checksum, encode
from timo.training.chips.table import Table


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
    """Adds places to a store, which is created if it is not there. Use it as a context.

    What a block that fails has not completed is not counted, and is written over by the next; the places that were
    committed before it stay.

    Parameters
    ----------
    path : path
        The store.
    layout : Layout
        What the places have in common; `shard` and `dates` are those of the store where there is one.

    Raises
    ------
    TimoError
        If the store holds places of another kind, is damaged, cannot be written, or is being written by another
        process.
    """

    def __init__(self, path: str | Path, layout: Layout) -> None:
        self.path = Path(path).expanduser()
        self.layout = layout
        self.state = State()
        self.rows: list[dict[str, np.ndarray]] = []
        self.shards: tuple[ShardWriter, ShardWriter] | None = None

    @contextmanager
    def open(self) -> Iterator["StoreWriter"]:
        """Lock the store, and commit what was added when the block ends well."""
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            create(self.path, self.layout)
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
            self._abandon()
            lock.release()

    @property
    def keys(self) -> set[int]:
        """Keys of the places that are in the store."""
        return set(self.table["key"].tolist())

    def add(self, place: Place) -> None:
        """Write a place; its shard is committed when it is full."""
        slot = (self.state.places + len(self.rows)) % self.layout.shard
        with self._explained():
            crc = self._append(slot, place)
        self.rows.append(self._row(place, crc))
        if slot == self.layout.shard - 1:
            self.commit()

    def note(self, attribution: Sequence[str], source: Sequence[str], error: float) -> None:
        """Remember, with the next commit, where places come from and the largest rounding error."""
        known, sources = self.state.attribution, self.state.source
        self.state = replace(
            self.state,
            attribution=(*known, *(a for a in dict.fromkeys(attribution) if a not in known)),
            source=(*sources, *(s for s in dict.fromkeys(source) if s not in sources)),
            largest_error=max(self.state.largest_error, error),
        )

    def commit(self) -> None:
        """Complete the shard, then the table, and last what says how many places count."""
        if not self.rows or self.shards is None:
            return
        self.table.add(self.rows)
        state = grown(self.state, len(self.rows), table=self.table.checksums(self.state))
        with self._explained():
            for shard in self.shards:
                shard.finish()
            self.table.write(self.state.places)
            write_arrays(self.path, self.layout, state.places)
            write_root(self.path, self.layout, state)
        self.rows, self.shards, self.state = [], None, state

    def _append(self, slot: int, place: Place) -> int:
        """Write the chunks of a place, and return the checksum of their bytes."""
        crc = 0
        for shard, dates in zip(self._open_shards(), (place.stored, place.valid), strict=True):
            for i, date in enumerate(dates):
                data = encode(date)
                crc = checksum(data, crc)
                shard.append(slot, i, data)
        return crc

    def _resume(self) -> None:
        layout, self.state = read_root(self.path)
        _check_same(self.path, layout, self.layout)
        self.layout = layout
        self.table = Table.read(self.path, layout, self.state.places)
        # Left by a process that was killed.
        for partial in self.path.glob("*/.*.partial"):
            partial.unlink()

    def _open_shards(self) -> tuple[ShardWriter, ShardWriter]:
        if self.shards is None:
            number, before = divmod(self.state.places, self.layout.shard)
            grid = (self.layout.shard, self.layout.dates)
            x, valid = (
                ShardWriter(self.path / name / shard_name(number, dims), grid)
                for name, dims in SHARDED.items()
            )
            self.shards = (x, valid)
            for shard in self.shards if before else ():
                shard.take_over(before)
        return self.shards

    def _row(self, place: Place, crc: int) -> dict[str, np.ndarray]:
        if place.crs not in self.state.crs:
            self.state = replace(self.state, crs=(*self.state.crs, place.crs))
        count = len(place.days)
        dates = np.full(self.layout.dates, NO_DATE, "int32")
        clear = np.zeros(self.layout.dates, "float32")
        dates[:count], clear[:count] = place.days, place.valid.mean(axis=(1, 2))
        values = {"left": place.left, "top": place.top, "cell": place.cell, "key": place.key}
        values |= {"crs": self.state.crs.index(place.crs), "crc": crc}
        return {"dates": dates, "clear": clear} | {n: np.asarray(v) for n, v in values.items()}

    def _abandon(self) -> None:
        for shard in self.shards or ():
            shard.abandon()
        self.shards = None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TimoError(
                f"cannot write to the chip store '{self.path}': {error.strerror or error}. Its first "
                f"{read_root(self.path)[1].places} places are complete; make room, then pack the same again to go on"
            ) from error


def create(path: Path, layout: Layout) -> None:
    """Make a store without places.

    Raises
    ------
    TimoError
        If it cannot be written there.
    """
    with replacing(path) as partial:
        partial.mkdir()
        write_arrays(partial, layout, 0)
        write_root(partial, layout, State())


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
