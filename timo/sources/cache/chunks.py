"""Fetched chunks on the local disk: a repeated request costs nothing, and an interrupted one resumes.

Each request has a folder that is an ordinary Zarr v3 array, with a manifest of checksums: see
`timo.sources.cache.checked`. ``timo cache info`` lists what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import platformdirs
import zarr
from numcodecs import blosc

from timo.checks import Count, PathLike, Range, checked
from timo.errors import TimoError, warn
from timo.sources.cache.checked import CODECS, LARGEST, METADATA, CheckedStore, bytes_of

LIMIT_BYTES = 20_000_000_000
# Of what is stored and how; a higher one makes all older arrays stale.
FORMAT = 2
# Of the key of a request and of what its array looks like: see `CachedArray`.
_NAME = re.compile(r"[0-9a-f]{16,128}-[0-9a-f]{16}")
_KEY = re.compile(r"[0-9a-f]{16,128}")
_REMOVED, _REMOVED_LIFE_S = ".removed-", 3600.0
_ATTEMPTS = 5
# How exactly the last use is known. It is noted in the time stamp of the metadata.
_TOUCH_S = 60.0
Index = tuple[int, ...]
Sizes = tuple[Count, ...]
_Bytes = Annotated[int, Range(least=0)]


@checked
def default_folder() -> Path:
    """Return ``$TIMO_CACHE``; else the operating system's folder for caches, by platformdirs."""
    if own := os.environ.get("TIMO_CACHE"):
        return Path(own).expanduser()
    return platformdirs.user_cache_path("timo", appauthor=False)


class CachedArray:
    """The cached chunks of one request, the Zarr array at `path` of `grid` chunks; `ChunkCache.array` opens it.

    The folder is named for the request's key and for a digest of its description, so that chunks of arrays with another
    description cannot get into it, even where several processes write at the same time.
    """

    @checked
    def __init__(
        self,
        cache: ChunkCache,
        key: str,
        *,
        shape: Sizes,
        chunks: Sizes,
        dtype: str,
        metadata: dict[str, Any],
    ) -> None:
        self.cache, self.key, self.shape, self.chunks = cache, key, shape, chunks
        self.metadata = metadata
        try:
            self.dtype = np.dtype(dtype)
        except TypeError as error:
            raise TimoError(f"dtype={dtype!r} is no data type of NumPy: {error}") from error
        _check_layout(key, shape, chunks, self.dtype)
        self.grid = tuple(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
        self.description = key, shape, chunks, self.dtype.str, metadata
        try:
            text = json.dumps([FORMAT, *self.description], sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TimoError(f"The description of a request must be JSON: {error}") from error
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.path: Path = cache.folder / f"{key}-{digest}"
        self._store = CheckedStore(self.path)
        self._files: dict[str, Any] = {}
        zarr.create_array(
            zarr.storage.MemoryStore(self._files),
            shape=shape,
            chunks=chunks,
            dtype=self.dtype,
            compressors=CODECS,
            fill_value=np.nan if self.dtype.kind == "f" else 0,
            attributes={"request": metadata},
        )
        self._array = self._store.array_of(self._files)
        self._usable, self._touched = True, 0.0

    def __repr__(self) -> str:
        return f"CachedArray({str(self.path)!r}, shape={self.shape}, chunks={self.chunks})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Opened again where it arrives: a worker on another machine has a folder of its own.
        return ChunkCache.array, (self.cache, *self.description)

    def prepare(self) -> None:
        """Remove damaged files, and write the metadata; OSError where the folder cannot be written."""
        found = bytes_of(self.path / METADATA)
        if found is None or self._store.manifest.fault(METADATA, found):
            # Until it is replaced none of it is served, and if it cannot be replaced, never.
            self._usable = found is None
            if not self._usable:
                self.cache.remove(self.path)
            self._store.fill(self._files)
            self._usable = True
        self._touch()

    @checked
    def read(self, index: Index) -> np.ndarray | None:
        """Read the chunk of these numbers, less what the array's edge cuts off.

        None if it is not there. If it is not what was written it is removed, and counts as not there.
        """
        extent, file = self.extent(index), self._file(index)
        try:
            data = bytes_of(file) if self._usable else None
        except OSError as error:
            self.cache.warn(error)
            return None
        if data is None:
            return None
        if self._store.manifest.fault(file.relative_to(self.path).as_posix(), data):
            with contextlib.suppress(OSError):  # on a read-only disk it stays, and is never served
                file.unlink()
            return None
        self._touch()
        # As Zarr does, which takes several times as long for one chunk. The last 4 bytes are its checksum.
        whole = np.frombuffer(blosc.decompress(data[:-4]), self.dtype.newbyteorder("<"))
        inside = whole.reshape(self.chunks)[tuple(slice(size) for size in extent)]
        return inside.astype(self.dtype)

    @checked
    def write(self, index: Index, values: np.ndarray) -> bool:
        """Keep a chunk of the shape and data type that `read` returns; False where the disk does not let us.

        Of that one warning is given.
        """
        extent = self.extent(index)
        if values.shape != extent or values.dtype != self.dtype:
            raise TimoError(
                f"Chunk {index} must be {self.dtype} of shape {extent}; got {values.dtype} of shape {values.shape}"
            )
        for _ in range(_ATTEMPTS if self._usable else 0):
            try:
                if not (self.path / METADATA).exists():
                    self._store.fill(self._files)
                self._array[self._slices(index)] = values
                self.cache.count(self._file(index).stat().st_size)
            except (FileNotFoundError, FileExistsError):  # another process removes the folder
                continue
            except OSError as error:
                self.cache.warn(error)
                return False
            self._touch()
            return True
        return False

    def present(self) -> set[Index]:
        """Return the numbers of the chunks that are there, damaged ones included."""
        root = self.path / "c"
        files = root.glob("/".join("*" * len(self.shape))) if self._usable else ()
        names = (file.relative_to(root).parts for file in files)
        return {tuple(map(int, name)) for name in names if all(part.isdigit() for part in name)}

    @checked
    def extent(self, index: Index) -> tuple[int, ...]:
        """Return the shape of a chunk, less what the array's edge cuts off."""
        return tuple(part.stop - part.start for part in self._slices(index))

    def _slices(self, index: Index) -> tuple[slice, ...]:
        inside = len(index) == len(self.grid) and all(
            0 <= number < count for number, count in zip(index, self.grid, strict=True)
        )
        if not inside:
            raise TimoError(f"There is no chunk {index}: the array has {self.grid} chunks")
        return slices_of(index, self.chunks, self.shape)

    def _file(self, index: Index) -> Path:
        return self.path.joinpath("c", *(str(int(number)) for number in index))

    def _touch(self) -> None:
        now = time.monotonic()
        if not self._touched or now - self._touched >= _TOUCH_S:
            self._touched = now
            with contextlib.suppress(OSError):  # read-only, or removed: it has no last use
                os.utime(self.path / METADATA)


def slices_of(index: Index, chunks: Index, shape: Index) -> tuple[slice, ...]:
    """Return where a chunk lies in its array."""
    parts = zip(index, chunks, shape, strict=True)
    return tuple(slice(i * chunk, min((i + 1) * chunk, size)) for i, chunk, size in parts)


def _check_layout(key: str, shape: Index, chunks: Index, dtype: np.dtype) -> None:
    if not _KEY.fullmatch(key):
        raise TimoError(f"key must be 16 to 128 digits 0-9a-f; got {key!r}")
    if not shape or len(shape) != len(chunks):
        raise TimoError(
            f"shape and chunks must have as many dimensions, one or more; got {shape} and {chunks}"
        )
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise TimoError(f"Chunks of integers and of floats can be kept, not of {dtype}")
    check_size(chunks, dtype)


def check_size(chunks: Index, dtype: np.dtype) -> None:
    """Refuse chunks that are too large to be compressed."""
    size = math.prod(chunks) * dtype.itemsize
    if size > LARGEST:
        raise TimoError(
            f"A chunk of {chunks} {dtype} is {size / 1e9:.1f} GB: ask for chunks below 2 GB"
        )


@checked
@dataclass(frozen=True)
class ArrayInfo:
    """The files of one cached request."""

    key: str
    path: Path
    bytes: int
    chunks: int
    last_use: datetime
    request: dict[str, Any]


@checked
@dataclass(frozen=True)
class CacheInfo:
    """The cached requests, the most recently used one first."""

    folder: Path
    limit_bytes: int
    arrays: tuple[ArrayInfo, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all of them."""
        return sum(array.bytes for array in self.arrays)

    def __str__(self) -> str:
        head = (
            f"{self.folder}: {self.bytes / 1e6:.1f} MB of at most {self.limit_bytes / 1e6:.0f} MB"
        )
        rows = (
            f"{a.last_use.astimezone():%Y-%m-%d %H:%M}  {a.bytes / 1e6:10.1f} MB  {a.chunks:6d} chunks  {a.key[:12]}"
            for a in self.arrays
        )
        return "\n".join([head, *rows])


class ChunkCache:
    """A folder of cached requests, the least recently used of which are removed beyond a limit.

    Threads and processes may share it. Where the folder cannot be written (a read-only or full disk), what is in it is
    still read, one warning is given, and nothing new is kept. Requests in use in this process are not removed.
    """

    @checked
    def __init__(self, folder: PathLike | None = None, limit_bytes: _Bytes = LIMIT_BYTES) -> None:
        if folder == "":
            raise TimoError("folder is an empty text. Give the path of a folder, or leave it out")
        self.folder = default_folder() if folder is None else Path(folder).expanduser()
        self.folder = self.folder.absolute()
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        # Bytes written since the folder was measured: it is before the first one.
        self._written = math.inf

    def __repr__(self) -> str:
        return f"ChunkCache({str(self.folder)!r}, limit_bytes={self.limit_bytes})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkCache, (self.folder, self.limit_bytes)

    @checked
    def array(
        self,
        key: str,
        shape: Sizes,
        chunks: Sizes,
        dtype: str = "float32",
        metadata: dict[str, Any] | None = None,
    ) -> CachedArray:
        """Open the cached chunks of a request, or begin to cache it.

        Parameters
        ----------
        key : str
            Hash of the request: 16 to 128 hexadecimal digits, in lower case.
        shape, chunks : tuple of int
            Cells of the array and of a chunk; chunks at the end may be cut by the array's edge.
        dtype : str
            Any of NumPy's integers and floats.
        metadata : dict, optional
            The request in words, as JSON, without credentials. An array stored with another description, shape, chunks
            or data type is removed.
        """
        array = CachedArray(
            self, key, shape=shape, chunks=chunks, dtype=dtype, metadata=metadata or {}
        )
        with _using_lock:
            _using.add(array)
        try:
            array.prepare()
            for path in self.folder.glob(f"{key}-*"):
                # Those of the same request with another description are stale.
                if _NAME.fullmatch(path.name) and path not in _paths_in_use():
                    self.remove(path)
            self._sweep()
        except OSError as error:
            self.warn(error)
        return array

    def info(self) -> CacheInfo:
        """List what the cache holds."""
        arrays = sorted(map(_describe, self._arrays()), key=lambda a: a.last_use, reverse=True)
        return CacheInfo(self.folder, self.limit_bytes, tuple(arrays))

    def damages(self) -> Iterator[str]:
        """Read all of the cache and yield a line for each chunk that is lost, changed or swapped."""
        for path in sorted(self._arrays()):
            times = _describe(path).request.get("times", [])
            for key, fault in CheckedStore(path, read_only=True).faults():
                number = key.split("/")[1:2]
                date = times[int(number[0])] if number and int(number[0]) < len(times) else ""
                yield f"{path / key}{date and f' ({date})'} {fault}"

    @checked
    def clear(self, older_than: timedelta | None = None) -> CacheInfo:
        """Remove all requests, or those last used longer ago than this; return what was removed."""
        now, old = datetime.now(UTC), self.info().arrays
        if older_than is not None:
            old = tuple(array for array in old if now - array.last_use > older_than)
        try:
            for array in old:
                self.remove(array.path)
            self._sweep()
        except OSError as error:
            raise TimoError(f"Cannot clear the cache '{self.folder}': {error.strerror}") from error
        return CacheInfo(self.folder, self.limit_bytes, old)

    @checked
    def remove(self, path: Path) -> None:
        """Remove an array in one step: who reads it meanwhile sees a chunk or none, never half of an array."""
        removed = self.folder / f"{_REMOVED}{secrets.token_hex(8)}"
        try:
            path.rename(removed)
        except FileNotFoundError:  # another process was faster
            return
        shutil.rmtree(removed, ignore_errors=True)

    @checked
    def warn(self, error: OSError) -> None:
        """Warn once that the folder cannot be used as it should."""
        with self._lock:
            if self.folder in _warned:
                return
            _warned.add(self.folder)
        warn(
            f"Fetched chunks cannot be kept in '{self.folder}' ({error.strerror or error}): fetching goes on, but a "
            "repeated request fetches again. Set TIMO_CACHE to a folder that can be written, or make room in it."
        )

    @checked
    def count(self, written: int) -> None:
        """Note bytes that were written, and keep the limit, which a twentieth more or less does not matter."""
        with self._lock:
            self._written += written
            if self._written < self.limit_bytes / 20:
                return
            self._written = 0
        info, in_use = self.info(), _paths_in_use()
        left = info.bytes
        for array in reversed(info.arrays):
            if left > self.limit_bytes and array.path not in in_use:
                self.remove(array.path)
                left -= array.bytes

    def _arrays(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _sweep(self) -> None:
        # Left behind by processes that were killed in removing.
        for path in self.folder.glob(f"{_REMOVED}*"):
            with contextlib.suppress(FileNotFoundError):  # swept by another process
                if time.time() - path.stat().st_mtime >= _REMOVED_LIFE_S:
                    shutil.rmtree(path, ignore_errors=True)


# Weak: an array is in use for as long as it is referenced, as by the graph of a lazy cube.
_using: weakref.WeakSet[CachedArray] = weakref.WeakSet()
_using_lock = threading.Lock()
_warned: set[Path] = set()


def _paths_in_use() -> set[Path]:
    with _using_lock:
        return {array.path for array in _using}


def _describe(path: Path) -> ArrayInfo:
    """Describe the folder of one cached request; files may be removed by other processes meanwhile."""
    sizes, uses = dict[Path, int](), [0.0]
    for folder, _, names in os.walk(path):
        for file in (Path(folder) / name for name in names):
            with contextlib.suppress(OSError):
                sizes[file] = file.stat().st_size
    for file in (path, path / METADATA):
        with contextlib.suppress(OSError):
            uses.append(file.stat().st_mtime)
    try:
        request = json.loads(bytes_of(path / METADATA) or b"{}")["attributes"]["request"]
    except (ValueError, KeyError, TypeError, OSError):
        request = {}
    return ArrayInfo(
        key=path.name.partition("-")[0],
        path=path,
        bytes=sum(sizes.values()),
        chunks=sum(file.name.isdigit() for file in sizes),
        last_use=datetime.fromtimestamp(uses[-1], tz=UTC),
        request=request if isinstance(request, dict) else {},
    )
