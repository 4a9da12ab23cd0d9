"""Zarr stores on disk with a manifest: a file that was lost, changed or swapped is refused, and never read as a gap.

Zarr reads a chunk that is not there as the fill value, which for a cube means clouds. A `CheckedStore` notes the
checksum and the size of each file in a manifest before the file appears, and compares them when the file is read. The
cache of chunks and the stores of `timo.fetch(..., path=...)` are made of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath

from timo.errors import TimoError

# In the folder of an array, where no reader of Zarr groups takes it for a member.
MANIFEST = "manifest.jsonl"
METADATA = "zarr.json"
CODECS = (BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec())
# The largest buffer that blosc takes.
LARGEST = 2**31 - 17
_CHUNK = re.compile(r"(?:^|/)c(?:/\d+)*$")
Sum = tuple[int, int]
Describe = Callable[[str], str]


class DamagedError(TimoError):
    """A file of a store is lost, or not what was written."""


class Manifest:
    """Checksums and sizes of the files of a store, one line of JSON for each writing; and facts of the whole store.

    A line is appended in one step, before its file appears: a file without a line was not written by timo, and a line
    without a file means that the file was lost, or never finished. Threads and processes may append at once. Any of the
    versions that were written is whole.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.facts = path, dict[str, Any]()
        self._sums: dict[str, set[Sum]] = {}
        self._read, self._lock = 0, threading.Lock()

    def note(self, key: str, data: Any) -> None:
        """Note what a file is about to hold."""
        self.append([key, *_sum(data)])

    def append(self, entry: list[Any] | dict[str, Any]) -> None:
        """Append a key with its checksum and size, or facts of the whole store."""
        line = json.dumps(entry).encode()
        with self._lock:
            self._take(line)
        # Newlines on both sides: what a crash cut off spoils no other line.
        line = b"\n" + line + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            file.write(line)

    def read(self) -> dict[str, set[Sum]]:
        """Read the new lines of the file; return checksums and sizes by key."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    if file.seek(0, os.SEEK_END) < self._read:  # begun again by another process
                        self._read = 0
                    file.seek(self._read)
                    new = file.read()
            except OSError:
                return self._sums
            whole = new.rpartition(b"\n")[0]
            self._read += len(whole)
            for line in filter(None, whole.split(b"\n")):
                self._take(line)
            return self._sums

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if isinstance(entry, dict):
                self.facts.update(entry)
            else:
                key, crc, size = entry
                self._sums.setdefault(key, set()).add((crc, size))
        except (ValueError, TypeError):  # cut off by a crash: its file counts as never written
            return

    def fault(self, key: str, data: Any | None) -> str:
        """Say what is wrong with a file's content; empty where it is what was written."""
        if data is None:
            return "is lost"
        found = _sum(data)
        if found in self._sums.get(key, ()) or found in self.read().get(key, ()):
            return ""
        others = [other for other, sums in self._sums.items() if found in sums]
        return f"holds what belongs to {others[0]}" if others else "is not what was written"


def _sum(data: Any) -> Sum:
    # Not CRC-32C, which Zarr's codec appends to each chunk: over its own checksum it is the same for all.
    return zlib.crc32(data), len(data)


class CheckedStore(LocalStore):
    """A Zarr store in a folder; a `DamagedError` is raised when a chunk is read that is not what was written.

    The manifest lies in the folder of `array`, by default the one at the root; `describe` names a key to the user.
    """

    def __init__(
        self,
        root: Path | str,
        read_only: bool = False,
        array: str = "",
        describe: Describe = str,
    ) -> None:
        super().__init__(root, read_only=read_only)
        self.array, self.describe = array, describe
        self.manifest = Manifest(self.root / array / MANIFEST)

    def __reduce__(self) -> tuple[Any, ...]:
        return CheckedStore, (self.root, self.read_only, self.array, self.describe)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        state = self.manifest.path.stat()
        return "timo", str(self.root.absolute()), state.st_mtime_ns, state.st_size

    @property
    def request(self) -> str | None:
        """Identify the request that wrote the store; None where there is no manifest."""
        self.manifest.read()
        return self.manifest.facts.get("request")

    def with_read_only(self, read_only: bool = False) -> CheckedStore:
        return CheckedStore(self.root, read_only, self.array, self.describe)

    # What the synchronous methods do, newer versions of Zarr use.

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        data = await super().get(key, prototype, byte_range)
        return self._checked(key, data) if byte_range is None else data

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        data = super().get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._checked(key, data) if byte_range is None else data

    async def set(self, key: str, value: Any) -> None:
        await asyncio.to_thread(self.manifest.note, key, value.to_bytes())
        await super().set(key, value)

    def set_sync(self, key: str, value: Any) -> None:
        self.manifest.note(key, value.to_bytes())
        super().set_sync(key, value)

    def _checked(self, key: str, data: Any) -> Any:
        # Other files may be looked for where they need not be.
        if data is not None or _CHUNK.search(key):
            fault = self.manifest.fault(key, None if data is None else data.to_bytes())
            if fault:
                raise self.error({key: fault})
        return data

    def error(self, faults: Mapping[str, str]) -> DamagedError:
        """Make the error that names what is wrong with the store, and the remedy."""
        named = [f"{self.describe(key)} {fault}" for key, fault in list(faults.items())[:3]]
        more = f", and {len(faults) - 3} others" if len(faults) > 3 else ""
        return DamagedError(
            f"The store '{self.root}' is damaged: {'; '.join(named)}{more}. Repair it with the call that wrote it, "
            f"timo.fetch(cube, path='{self.root}') with the same cube: it fetches only what is damaged. "
            f"`timo cache verify {self.root}` lists all of it."
        )

    def faults(self, *, read: bool = True) -> Iterator[tuple[str, str]]:
        """Yield the key of each damaged file and what is wrong with it; without `read` only those of another size."""
        for key, sums in list(self.manifest.read().items()):
            file = self.root / key
            if not read and file.exists() and file.stat().st_size in {size for _, size in sums}:
                continue
            if fault := self.manifest.fault(key, bytes_of(file)):
                yield key, fault

    def fill(self, files: Mapping[str, Any]) -> None:
        """Write metadata and small arrays where they are not there, or others."""
        for key, value in files.items():
            if bytes_of(self.root / key) != value.to_bytes() or key not in self.manifest.read():
                sync(self.set(key, value))

    def array_of(self, files: Mapping[str, Any], name: str = "") -> zarr.Array:
        """Return an array of the store by its metadata, without reading them; also chunks of NaN become files."""
        path = f"{name}/{METADATA}" if name else METADATA
        array = zarr.Array.from_dict(StorePath(self, name), json.loads(files[path].to_bytes()))
        return array.with_config({"write_empty_chunks": True})


def bytes_of(file: Path) -> bytes | None:
    """Read a file; None where it is not there."""
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
