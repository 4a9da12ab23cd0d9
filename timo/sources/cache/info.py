"""What the cache of fetched chunks holds, for people to read and for the cache to keep its limit."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ArrayInfo:
    """What the cache holds of one request."""

    key: str
    path: Path
    bytes: int
    chunks: int
    last_use: datetime
    request: dict[str, Any]


@dataclass(frozen=True)
class CacheInfo:
    """What the cache holds, the most recently used request first."""

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


def describe(path: Path) -> ArrayInfo:
    """What lies in the folder of one cached request."""
    try:
        data = (path / "zarr.json").read_bytes()
        last_use = (path / "zarr.json").stat().st_mtime
    except OSError:  # begun or removed by another process just now
        data, last_use = b"{}", _mtime(path)
    try:
        request = json.loads(data).get("attributes", {}).get("request", {})
    except ValueError:
        request = {}
    sizes = {name: _size(name) for name in _files(path)}
    return ArrayInfo(
        key=path.name.partition("-")[0],
        path=path,
        bytes=sum(sizes.values()),
        chunks=sum(name.name != "zarr.json" for name in sizes),
        last_use=datetime.fromtimestamp(last_use, tz=UTC),
        request=request,
    )


def _files(path: Path) -> Iterator[Path]:
    walked = ([Path(folder) / name for name in names] for folder, _, names in os.walk(path))
    return itertools.chain.from_iterable(walked)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # removed meanwhile
        return 0


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0
