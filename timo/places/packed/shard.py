"""Chunks and shards as Zarr v3 lays them out, written by streaming and read without a detour.

Zarr's own reader parses the whole index of a shard, in Python, each time a chunk is asked for, and its writer takes
four times as long and wants the shard in memory. Here a chunk is two short reads, and a shard is written one chunk at a
time. The bytes are those of the Zarr v3 codecs ``bytes``, ``blosc``, ``crc32c`` and ``sharding_indexed`` (index at the
end), so that any Zarr library reads them. All else in a store is read and written by Zarr.
"""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import google_crc32c
import numpy as np
from numcodecs import blosc
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from timo.errors import TimoError

# Offset and length of a chunk that is not there (Zarr v3, sharding codec, "Binary shard format").
EMPTY = np.iinfo("u8").max
_CRC = 4
# The CRC-32C of any bytes that their own CRC-32C follows.
_WHOLE = 0x48674BC7
# Bytes are read in one go if this many times as many are wanted.
_GAPS = 1.5
# Bit shuffle, because the digital numbers of one scene differ in their low bits, then a compressor at the level from
# which on more takes longer and saves nothing: zstd halves Sentinel-2, lz4 is read twice to thrice as fast.
LEVELS = {"zstd": 1, "lz4": 5}


class DamagedError(TimoError):
    """Raised when stored bytes are not what was written."""


def codecs(name: str) -> tuple[BloscCodec, Crc32cCodec]:
    """Return the codecs of Zarr that do what `encode` does."""
    kind: Any = {"cname": name, "clevel": LEVELS[name], "shuffle": "bitshuffle", "blocksize": 0}
    return BloscCodec(**kind), Crc32cCodec()


def encode(chunk: np.ndarray, codec: str) -> bytes:
    """Compress a chunk, as `codecs` do, and append its checksum."""
    little = np.ascontiguousarray(chunk, dtype=chunk.dtype.newbyteorder("<"))
    packed = bytes(blosc.compress(little, codec.encode(), LEVELS[codec], blosc.BITSHUFFLE, 0))
    return packed + _crc(packed)


def decode(data: bytes, out: np.ndarray) -> None:
    """Check a chunk's checksum and unpack it into `out`, which is contiguous."""
    if checksum(data) != _WHOLE:
        raise DamagedError("its checksum does not match")
    # Of its threads, which other users of the library keep, a chunk needs none: each reader has a process of its own.
    before, blosc.use_threads = blosc.use_threads, False
    try:
        blosc.decompress(data, out)
    except (RuntimeError, ValueError) as error:
        raise DamagedError(f"it does not unpack to {out.nbytes} bytes") from error
    finally:
        blosc.use_threads = before


def checksum(data: bytes, start: int = 0) -> int:
    """Return the CRC-32C of bytes, going on from that of what comes before them."""
    return int(google_crc32c.extend(start, data))


def _crc(data: bytes) -> bytes:
    return checksum(data).to_bytes(_CRC, "little")


class ShardReader:
    """An open shard, with room for the places and dates of `grid`; any number of threads may read."""

    def __init__(self, path: Path, grid: tuple[int, int]) -> None:
        self.grid = grid
        try:
            self.file = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise DamagedError(f"the file {path.parent.name}/{path.name} is missing") from error
        self.lock = threading.Lock()
        size = os.fstat(self.file.fileno()).st_size
        self.start = size - 16 * grid[0] * grid[1] - _CRC
        if self.start < 0:
            self.file.close()
            raise DamagedError(f"the file {path.parent.name}/{path.name} is cut short")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def read(
        self, place: int, dates: Sequence[int] | np.ndarray | None = None
    ) -> list[tuple[int, bytes]]:
        """Read chunks of a place: (date, bytes), all that are there or those asked for."""
        row = 16 * self.grid[1]
        # Python's numbers: there are few of them, and each step with an array takes as long as all of theirs.
        held = np.frombuffer(self._bytes(self.start + place * row, row), "<u8").tolist()
        if dates is None:
            dates = [date for date, at in enumerate(held[::2]) if at != EMPTY]
        chunks = [(int(date), held[2 * date], held[2 * date + 1]) for date in dates]
        first, end = self.start, 0
        for _, at, size in chunks:
            if at == EMPTY:
                raise DamagedError("one of its chunks is missing")
            # A damaged length must not ask for exabytes.
            if at + size > self.start:
                raise DamagedError("one of its chunks lies outside the file")
            first, end = min(first, at), max(end, at + size)
        if end - first > _GAPS * sum(size for *_, size in chunks):
            return [(date, self._bytes(at, size)) for date, at, size in chunks]
        # Chunks of a place mostly lie side by side: one read for all takes less time.
        data = self._bytes(first, max(end - first, 0))
        return [(date, data[at - first : at - first + size]) for date, at, size in chunks]

    def check_index(self) -> None:
        """Check the checksum of the index."""
        data = self._bytes(self.start, 16 * self.grid[0] * self.grid[1] + _CRC)
        if _crc(data[:-_CRC]) != data[-_CRC:]:
            raise DamagedError("the checksum of the shard's index does not match")

    def _bytes(self, offset: int, length: int) -> bytes:
        # A position of its own for each read, where the system knows such a thing.
        if hasattr(os, "pread"):
            data = os.pread(self.file.fileno(), length, offset)
        else:
            with self.lock:
                self.file.seek(offset)
                data = self.file.read(length)
        if len(data) != length:
            raise DamagedError("the file is cut short")
        return data


class ShardWriter:
    """A shard, with room for the places and dates of `grid`, that appears at `path` when it is finished."""

    def __init__(self, path: Path, grid: tuple[int, int]) -> None:
        self.path, self.partial = path, _partial(path)
        self.index = np.full((*grid, 2), EMPTY, dtype="<u8")
        self.end = 0
        self.file: BinaryIO = self.partial.open("wb")

    def append(self, place: int, date: int, data: bytes) -> None:
        """Write one chunk."""
        self.file.write(data)
        self.index[place, date] = self.end, len(data)
        self.end += len(data)

    def take_over(self, places: int) -> None:
        """Copy the chunks of the first places of the shard that is there."""
        with ShardReader(self.path, self.index.shape[:2]) as old:
            for place in range(places):
                for date, data in old.read(place):
                    self.append(place, date, data)

    def finish(self) -> None:
        """Make the shard appear, safe against a loss of power."""
        index = self.index.tobytes()
        self.file.write(index + _crc(index))
        publish(self.file, self.partial, self.path)

    def abandon(self) -> None:
        """Leave no trace."""
        # Closing writes out what is buffered: on a full disk that fails once more, and says nothing new.
        with suppress(OSError):
            self.file.close()
        self.partial.unlink(missing_ok=True)


class DurableStore(LocalStore):
    """The folder of a Zarr store, each of whose files is replaced in one step, safe against a loss of power."""

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial(path)
        try:
            with partial.open("wb") as file:
                file.write(value.to_bytes())
                publish(file, partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """Return the hidden sibling that a file is until it is finished."""
    return path.with_name(f".{path.name}.partial")


def publish(file: BinaryIO, partial: Path, path: Path) -> None:
    """Give a written file its name once its bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    partial.replace(path)
