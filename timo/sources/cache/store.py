"""Fetched chunks on the local disk: a repeated request costs nothing, an interrupted one goes on where it was.

Each request has a folder that is an ordinary Zarr v3 array, which any Zarr library opens. A chunk appears in it whole
or not at all, and its checksum is looked at whenever it is read. ``python -m timo.sources.cache info`` tells what is
there.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from timo.errors import TimoError
from timo.sources.cache.array import CachedArray
from timo.sources.cache.info import CacheInfo, describe

LIMIT_BYTES = 20_000_000_000
# Of the key of a request and of what its array looks like: see `CachedArray`.
_NAME = re.compile(r"[0-9a-f]{16,128}-[0-9a-f]{16}")
_KEY = re.compile(r"[0-9a-f]{16,128}")
# What is being written, or was when its process was killed. Nobody writes one chunk for an hour.
_PARTIAL, _PARTIAL_LIFE_S = ".partial", 3600.0
_ATTEMPTS = 5
_REMOVED = ".removed-"


def default_folder() -> Path:
    r"""The folder of the cache, where nothing else is asked for.

    ``$TIMO_CACHE``; else the operating system's place for caches: ``$XDG_CACHE_HOME/timo`` or ``~/.cache/timo``
    (Linux), ``~/Library/Caches/timo`` (macOS), ``%LOCALAPPDATA%\timo\Cache`` (Windows).
    """
    if own := os.environ.get("TIMO_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "timo"
    if os.name == "nt":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "timo" / "Cache"
    # The XDG base directory specification: a relative path is to be ignored.
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "timo"


class ChunkCache:
    """A folder of cached requests, the least recently used of which are removed beyond a limit.

    Threads and processes may share it. Where the folder cannot be written (a read-only or full disk), what is in it is
    still read, one warning is given, and nothing new is kept.

    Parameters
    ----------
    folder : path, optional
        By default `default_folder`.
    limit_bytes : int
        Above this, whole requests are removed; never those in use in this process.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, limit_bytes: int = LIMIT_BYTES
    ) -> None:
        if limit_bytes < 0:
            raise TimoError(f"limit_bytes must not be negative; got {limit_bytes}")
        if folder is not None and not (isinstance(folder, str | os.PathLike) and str(folder)):
            raise TimoError(f"the cache is a folder: give its path; got {folder!r}")
        self.folder = default_folder() if folder is None else Path(folder).expanduser()
        self.folder = self.folder.absolute()
        self.limit_bytes = int(limit_bytes)
        self._lock = threading.Lock()
        # Bytes that may still be written before the folder is measured; not measured yet.
        self._room: float | None = None

    def __repr__(self) -> str:
        return f"ChunkCache({str(self.folder)!r}, limit_bytes={self.limit_bytes})"

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkCache, (self.folder, self.limit_bytes)

    def array(
        self,
        key: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: str = "float32",
        metadata: dict[str, Any] | None = None,
    ) -> CachedArray:
        """Open what is cached of a request, or begin to cache it.

        Parameters
        ----------
        key : str
            Hash of the request: 16 to 128 hexadecimal digits, in lower case.
        shape, chunks : tuple of int
            Cells of the array and of a chunk; chunks at the end may be cut by the array's edge.
        dtype : str
            Any of NumPy's integers and floats.
        metadata : dict, optional
            The request in words, as JSON. It is stored with the array, and an array stored with another description,
            shape, chunks or data type is never served: it is removed. It must not hold credentials.

        Raises
        ------
        TimoError
            If one of these is not so.
        """
        if not _KEY.fullmatch(key):
            raise TimoError(f"the key must be 16 to 128 digits 0-9a-f; got {key!r}")
        array = CachedArray(self, key, tuple(shape), tuple(chunks), dtype, metadata or {})
        with _using_lock:
            _using.add(array)
        try:
            array.prepare()
            self._remove_others(array)
            self._sweep(_PARTIAL_LIFE_S)
        except OSError as error:
            self.warn(error)
        return array

    def info(self) -> CacheInfo:
        """What the cache holds."""
        arrays = sorted(map(describe, self._arrays()), key=lambda a: a.last_use, reverse=True)
        return CacheInfo(self.folder, self.limit_bytes, tuple(arrays))

    def clear(self, older_than: timedelta | None = None) -> CacheInfo:
        """Remove what is cached.

        Parameters
        ----------
        older_than : timedelta, optional
            Only what was last used longer ago than this.

        Returns
        -------
        CacheInfo
            What was removed.

        Raises
        ------
        TimoError
            If the folder cannot be written.
        """
        latest = datetime.now(UTC) - (older_than or timedelta(0))
        every = older_than is None
        old = [array for array in self.info().arrays if every or array.last_use < latest]
        try:
            for array in old:
                self.remove(array.path)
            self._sweep(_PARTIAL_LIFE_S)
        except OSError as error:
            raise TimoError(f"cannot clear the cache '{self.folder}': {error.strerror}") from error
        with self._lock:
            self._room = None
        return CacheInfo(self.folder, self.limit_bytes, tuple(old))

    def store(self, path: Path, data: bytes) -> None:
        """Write a file of the cache, so that it is there whole or not at all; OSError where it cannot be."""
        partial = self.folder / _PARTIAL / secrets.token_hex(8)
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _move(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        self._count(len(data))

    def remove(self, path: Path) -> None:
        """Remove an array in one step: who reads it meanwhile sees a chunk or none, never half of an array."""
        removed = self.folder / f"{_REMOVED}{secrets.token_hex(8)}"
        try:
            path.rename(removed)
        except FileNotFoundError:  # another process was faster
            return
        shutil.rmtree(removed, ignore_errors=True)

    def warn(self, error: OSError) -> None:
        """Tell once that the folder cannot be used as it should."""
        with self._lock:
            if self.folder in _warned:
                return
            _warned.add(self.folder)
        warnings.warn(
            f"Fetched chunks cannot be kept in '{self.folder}' ({error.strerror or error}): fetching goes on, but a "
            "repeated request fetches anew. Set TIMO_CACHE to a folder that can be written, or make room in it.",
            stacklevel=3,
        )

    def _arrays(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from (path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _remove_others(self, array: CachedArray) -> None:
        """Remove the same request's arrays of another description: they are stale."""
        for path in self._arrays():
            stale = path.name.startswith(f"{array.key}-") and path != array.path
            if stale and path not in _paths_in_use():
                self.remove(path)

    def _sweep(self, life_s: float) -> None:
        """Remove what killed processes left behind longer ago than this."""
        leftovers = [*self.folder.glob(f"{_PARTIAL}/*"), *self.folder.glob(f"{_REMOVED}*")]
        for path in leftovers:
            with contextlib.suppress(FileNotFoundError):  # finished, or swept by another process
                if time.time() - path.stat().st_mtime >= life_s:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()

    def _count(self, written: int) -> None:
        with self._lock:
            if self._room is not None:
                self._room -= written
            if self._room is not None and self._room >= 0:
                return
            # What is in use may exceed the limit by itself: then it is not measured at each chunk.
            self._room = self.limit_bytes / 20
        left = self._enforce_limit()
        with self._lock:
            self._room = max(self.limit_bytes - left, self.limit_bytes / 20)

    def _enforce_limit(self) -> int:
        """Remove the least recently used arrays beyond the limit; bytes of what is left."""
        info, in_use = self.info(), _paths_in_use()
        left = info.bytes
        for array in reversed(info.arrays):
            if left > self.limit_bytes and array.path not in in_use:
                self.remove(array.path)
                left -= array.bytes
        return left


# Weak: an array is in use for as long as somebody holds it, as the graph of a lazy cube does.
_using: weakref.WeakSet[CachedArray] = weakref.WeakSet()
_using_lock = threading.Lock()
_warned: set[Path] = set()


def _paths_in_use() -> set[Path]:
    with _using_lock:
        return {array.path for array in _using}


def _move(partial: Path, path: Path) -> None:
    # Again, because another process may be removing the folder that is moved to.
    for attempt in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(path)
        # The latter if it is gone while mkdir looks at what exists.
        except (FileNotFoundError, FileExistsError):
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return
