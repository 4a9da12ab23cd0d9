"""One cached request: a Zarr v3 array whose chunks are read and written one at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from timo.errors import TimoError

# Of what is stored and how; a higher one makes all older arrays stale.
FORMAT = 1
_METADATA = "zarr.json"
# The largest buffer that blosc takes.
_LARGEST = 2**31 - 17
# How exactly the last use is known. It is noted in the time stamp of the metadata.
_TOUCH_S = 60.0


class Keeper(Protocol):
    """What an array needs of its cache, a `timo.sources.cache.ChunkCache`."""

    folder: Path

    def array(self, *arguments: Any) -> CachedArray: ...
    def store(self, path: Path, data: bytes) -> None: ...
    def remove(self, path: Path) -> None: ...
    def warn(self, error: OSError) -> None: ...


class CachedArray:
    """What is cached of one request; `ChunkCache.array` opens it.

    The folder is named for the request's key and for a digest of the array's metadata, so that chunks of arrays with
    other metadata cannot get into it, whoever writes at the same time.

    Attributes
    ----------
    path : Path
        The Zarr v3 array.
    grid : tuple of int
        Number of chunks along each dimension.
    """

    def __init__(  # noqa: PLR0917 - in the order of `ChunkCache.array`
        self,
        cache: Keeper,
        key: str,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: str,
        metadata: dict[str, Any],
    ) -> None:
        self.cache, self.key, self.shape, self.chunks = cache, key, shape, chunks
        self.dtype, self.metadata = np.dtype(dtype), metadata
        _check_layout(shape, chunks, self.dtype)
        self.grid = tuple(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
        self._document = _document(shape, chunks, self.dtype, metadata)
        digest = hashlib.sha256(self._document).hexdigest()[:16]
        self.path: Path = cache.folder / f"{key}-{digest}"
        self._stale, self._touched = False, 0.0

    def __repr__(self) -> str:
        return f"CachedArray({str(self.path)!r}, shape={self.shape}, chunks={self.chunks})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Opened anew where it arrives: a worker on another machine has a folder of its own.
        return _reopen, (
            self.cache,
            (self.key, self.shape, self.chunks, self.dtype.name, self.metadata),
        )

    def prepare(self) -> None:
        """Remove what is stale and write the metadata; OSError where the folder cannot be written."""
        file = self.path / _METADATA
        found = _bytes_of(file)
        if found == self._document:
            self._touch()
            return
        # Until it is replaced nothing of it is served, and if it cannot be replaced, never.
        self._stale = found is not None
        if self._stale:
            self.cache.remove(self.path)
        self.cache.store(file, self._document)
        self._stale = False

    def read(self, index: tuple[int, ...]) -> np.ndarray | None:
        """A chunk, or None if it is not there.

        A chunk whose bytes are not those that were written is removed, and counts as not there.

        Parameters
        ----------
        index : tuple of int
            Number of the chunk along each dimension.

        Returns
        -------
        ndarray or None
            Of the shape of a chunk, less what the array's edge cuts off.
        """
        from timo.training.chips.shard import DamagedError, decode

        extent = self.extent(index)
        data = None if self._stale else self._load(self._file(index))
        if data is None:
            return None
        whole = np.empty(self.chunks, self.dtype.newbyteorder("<"))
        try:
            _check_size(data, whole.nbytes)
            decode(data, whole)
        except DamagedError:
            with contextlib.suppress(OSError):  # on a read-only disk it stays, and is never served
                self._file(index).unlink()
            return None
        self._touch()
        inside = whole[tuple(slice(size) for size in extent)]
        return np.ascontiguousarray(inside, dtype=self.dtype)

    def write(self, index: tuple[int, ...], values: np.ndarray) -> bool:
        """Keep a chunk; False where the disk does not let us, of which one warning tells.

        Parameters
        ----------
        index : tuple of int
            Number of the chunk along each dimension.
        values : ndarray
            Of the array's data type, and of the shape that `read` returns.

        Raises
        ------
        TimoError
            If `values` is not of that type and shape, or there is no such chunk.
        """
        from timo.training.chips.shard import encode

        extent = self.extent(index)
        if values.shape != extent or values.dtype != self.dtype:
            raise TimoError(
                f"chunk {index} must be {self.dtype} of shape {extent}; got {values.dtype} of shape {values.shape}"
            )
        if self._stale:
            return False
        if extent != self.chunks:
            # Zarr stores the chunks at the edge whole.
            values = np.pad(
                values,
                [(0, chunk - size) for chunk, size in zip(self.chunks, extent, strict=True)],
                constant_values=np.nan if self.dtype.kind == "f" else 0,
            )
        try:
            if not (self.path / _METADATA).exists():  # another process removed the array
                self.cache.store(self.path / _METADATA, self._document)
            self.cache.store(self._file(index), encode(values))
        except OSError as error:
            self.cache.warn(error)
            return False
        self._touch()
        return True

    def present(self) -> set[tuple[int, ...]]:
        """Numbers of the chunks that are there, undamaged or not."""
        root = self.path / "c"
        depth = "/".join("*" * len(self.shape))
        names = (path.relative_to(root).parts for path in root.glob(depth))
        numbers = {tuple(map(int, name)) for name in names if all(part.isdigit() for part in name)}
        return set() if self._stale else numbers

    def extent(self, index: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a chunk, less what the array's edge cuts off.

        Raises
        ------
        TimoError
            If there is no such chunk.
        """
        inside = len(index) == len(self.grid) and all(
            0 <= number < count for number, count in zip(index, self.grid, strict=True)
        )
        if not inside:
            raise TimoError(f"there is no chunk {index}: the array has {self.grid} chunks")
        sizes = zip(index, self.chunks, self.shape, strict=True)
        return tuple(min(chunk, size - number * chunk) for number, chunk, size in sizes)

    def _file(self, index: tuple[int, ...]) -> Path:
        return self.path.joinpath("c", *(str(int(number)) for number in index))

    def _load(self, file: Path) -> bytes | None:
        try:
            return _bytes_of(file)
        except OSError as error:
            self.cache.warn(error)
            return None

    def _touch(self) -> None:
        now = time.monotonic()
        if self._touched and now - self._touched < _TOUCH_S:
            return
        self._touched = now
        with contextlib.suppress(
            OSError
        ):  # read-only, or removed by another process: it has no last use
            os.utime(self.path / _METADATA)


def _reopen(cache: Keeper, arguments: tuple[Any, ...]) -> CachedArray:
    return cache.array(*arguments)


def _bytes_of(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _check_size(data: bytes, expected: int) -> None:
    """Refuse a chunk that would not fill the array: blosc leaves the rest as it finds it."""
    from timo.training.chips.shard import DamagedError

    # A blosc header holds the unpacked size in its bytes 4 to 7.
    if int.from_bytes(data[4:8], "little") != expected:
        raise DamagedError(f"it does not unpack to {expected} bytes")


def _check_layout(shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype) -> None:
    if not shape or len(shape) != len(chunks) or min(*shape, *chunks) < 1:
        raise TimoError(
            f"shape and chunks must have as many dimensions, of at least one cell; got {shape} and {chunks}"
        )
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise TimoError(f"chunks of integers and of floats can be cached, not of {dtype}")
    size = math.prod(chunks) * dtype.itemsize
    if size > _LARGEST:
        raise TimoError(
            f"a chunk of {chunks} {dtype} is {size / 1e9:.1f} GB: ask for chunks below 2 GB"
        )


def _document(
    shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype, request: dict[str, Any]
) -> bytes:
    """The metadata of the Zarr array, always the same bytes for the same array.

    Zarr core specification, version 3, "Array metadata".
    """
    from timo.training.chips.shard import codecs

    fields = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [int(size) for size in shape],
        "data_type": dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [int(size) for size in chunks]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN" if dtype.kind == "f" else 0,
        "codecs": codecs(dtype.itemsize),
        "attributes": {"timo_cache_format": FORMAT, "request": request},
    }
    try:
        return json.dumps(fields, indent=1, sort_keys=True, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise TimoError(f"the description of a request must be JSON: {error}") from error
