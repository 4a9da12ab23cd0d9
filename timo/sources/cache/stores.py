"""Cubes in Zarr stores: written chunk by chunk, and read with checksums: a lost chunk is an error and never a cloud."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
import zarr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from filelock import FileLock, Timeout

from timo.atomic import check_name, check_writable, move
from timo.errors import TimoError, warn
from timo.sources.cache.checked import CODECS, MANIFEST, CheckedStore, bytes_of
from timo.sources.cache.chunks import Index, check_size, slices_of


def manifest_of(path: str | os.PathLike[str]) -> Path | None:
    """Find the manifest of a Zarr store that `timo.fetch` wrote; None of another store."""
    return next(Path(path).glob(f"*/{MANIFEST}"), None)


def checked_store(path: str | os.PathLike[str]) -> CheckedStore | None:
    """Return a Zarr store of `timo.fetch`, read-only; None if `path` is no store with a manifest.

    ``xr.open_zarr(checked_store(path) or path, consolidated=False, decode_coords="all")`` reads stores with and without
    one. A file that is lost, of another size, or metadata that are not what was written are refused here; such a chunk,
    with its dates and its place, when it is read.
    """
    if manifest_of(path) is None:
        return None
    store, faults = _inspect(path, read=False)
    if faults:
        raise store.error(faults)
    return store


def damages(path: str | os.PathLike[str]) -> list[str]:
    """Read all of a store with a manifest and list each chunk that is lost, changed or swapped."""
    store, faults = _inspect(path, read=True)
    return [f"{store.describe(key)} {fault}" for key, fault in faults.items()]


def _inspect(path: str | os.PathLike[str], *, read: bool) -> tuple[CheckedStore, dict[str, str]]:
    """Return a store that names its chunks by dates and places, and what is wrong with its files."""
    manifest = manifest_of(path)
    assert manifest is not None
    store = CheckedStore(manifest.parents[1], read_only=True, array=manifest.parent.name)
    faults = dict(store.faults(read=read))
    # What names the chunks must be whole itself.
    if all(key.startswith(f"{store.array}/c") for key in faults):
        with xr.open_zarr(store, consolidated=False, chunks=None) as opened:
            store.describe = _Places(opened)
    return store, faults


def open_store(path: str | os.PathLike[str]) -> xr.DataArray:
    """Open a cube that `timo.fetch(cube, path=...)` wrote, lazily and with checks; raises as `checked_store`."""
    store = checked_store(path)
    if store is None:
        raise TimoError(f"'{path}' is no Zarr store that timo.fetch(cube, path=...) wrote.")
    opened = xr.open_zarr(store, consolidated=False, decode_coords="all")[store.array]
    texts = {key: c for key, c in opened.coords.items() if c.dtype.kind == "T"}
    return opened.assign_coords({key: c.astype(object).astype(str) for key, c in texts.items()})


class _Places:
    """Describe the key of a chunk by its dates and its place."""

    def __init__(self, opened: xr.Dataset) -> None:
        self.labels = {str(name): index.to_numpy() for name, index in opened.indexes.items()}
        self.layouts = {
            str(name): (variable.dims, variable.encoding["chunks"])
            for name, variable in opened.variables.items()
        }

    def __call__(self, key: str) -> str:
        name, _, numbers = key.rpartition("/c")
        if name not in self.layouts:
            return key
        parts = zip(numbers.split("/")[1:], *self.layouts[name], strict=True)
        spans = [self._span(str(dim), int(number), size) for number, dim, size in parts]
        return f"chunk {key} ({', '.join(spans)})"

    def _span(self, dim: str, number: int, size: int) -> str:
        labels = self.labels.get(dim, np.arange((number + 1) * size))
        part = labels[number * size : (number + 1) * size]
        texts = list(map(str, part.astype("M8[D]") if part.dtype.kind == "M" else part))
        if part.dtype.kind not in "Mifu":
            return f"{dim} {', '.join(texts)}"
        return f"{dim} {texts[0]}" if len(texts) == 1 else f"{dim} {texts[0]} to {texts[-1]}"


# --- Writing


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return where a store is to be written, before anything is fetched."""
    store = check_name(path).absolute()
    if store.suffix != ".zarr":
        raise TimoError(f"'{path}' must end in .zarr: that is what is written chunk by chunk")
    if store.is_file():
        raise TimoError(f"'{path}' is a file, and a Zarr store is a folder: choose another name")
    marks = ("zarr.json", ".zgroup", ".zarray", f"*/{MANIFEST}")
    if store.is_dir() and any(store.iterdir()) and not any(any(store.glob(m)) for m in marks):
        raise TimoError(f"'{path}' is a folder with something else in it: choose another name")
    return store


@contextmanager
def writing(path: Path, cube: xr.DataArray, *, overwrite: bool) -> Iterator[Unfinished]:
    """Begin the store of a cube or resume it; it stands at `path` when the block has ended well."""
    data, name = _regular(cube), str(cube.name or "cube")
    token = _token(data)
    home = path
    with _only_writer(path):
        others = set(path.parent.glob(glob.escape(f".{path.name}.unfinished-") + "*"))
        if CheckedStore(path, array=name).request != token:
            if path.exists() and any(path.iterdir()) and not overwrite:
                raise TimoError(
                    f"'{path}' holds another cube, or what timo.fetch did not write. Choose another path; or pass "
                    "overwrite=True to replace it when this cube is complete."
                )
            home = path.with_name(f".{path.name}.unfinished-{token}")
            if others and home not in others:
                warn(
                    f"The unfinished store of another request for '{path}' does not fit this one, which begins from "
                    "the start: the options, the files or the images differ, or Dask names a function differently in "
                    "each process. It is removed when this fetch is complete."
                )
        store, files = CheckedStore(home, array=name), _template_of(data, name)
        if store.request != token:
            store.manifest.append({"request": token})
        store.fill(files)
        yield Unfinished(store, data, files)
        if home != path:
            # A chunk in whose writing the process was killed leaves one.
            for file in home.rglob("*.partial"):
                file.unlink()
            move(home, path)
        for other in others - {home}:
            shutil.rmtree(other, ignore_errors=True)


@dataclass(frozen=True)
class Unfinished:
    """A store that is being written: its metadata and coordinates are there."""

    store: CheckedStore
    data: xr.DataArray
    files: dict[str, Any]

    def missing(
        self, workers: int, wrote: Callable[[], Any]
    ) -> tuple[HighLevelGraph, list[tuple[Any, ...]]]:
        """Return a graph that writes chunks and then calls `wrote`, and its keys of those missing or damaged."""
        graphs, keys = [], list[Any]()
        for name, variable in self.data.to_dataset(name=self.store.array).variables.items():
            if not dask.is_dask_collection(variable.data):
                continue
            array = self.store.array_of(self.files, str(name))
            block = _Block(array, self.store, str(name), wrote)
            indices = list(itertools.product(*map(range, variable.data.numblocks)))
            with ThreadPoolExecutor(workers) as pool:
                whole = list(pool.map(block.is_whole, indices))
            # Of each chunk only that it was written is left.
            written = da.map_blocks(
                block,
                variable.data,
                chunks=tuple((1,) * count for count in variable.data.numblocks),
                dtype=bool,
                meta=np.empty((0,) * variable.ndim, bool),
                name=f"written-{name}-{self.store.request}",
            )
            graphs.append(written.dask)
            keys += [
                (written.name, *i) for i, there in zip(indices, whole, strict=True) if not there
            ]
        return HighLevelGraph.merge(*graphs), keys


@dataclass(frozen=True)
class _Block:
    """Writes chunks of one array of a store."""

    array: zarr.Array
    store: CheckedStore
    name: str
    wrote: Callable[[], Any]

    def __call__(self, block: np.ndarray, *, block_id: Index) -> np.ndarray:
        try:
            self.array[slices_of(block_id, self.array.chunks, self.array.shape)] = block
        except OSError as error:
            reason = error.strerror or str(error)
            raise TimoError(
                f"Cannot write '{self.store.root.parent}': {reason}. Make room."
            ) from error
        self.wrote()
        return np.ones((1,) * block.ndim, bool)

    def is_whole(self, index: Index) -> bool:
        key = "/".join([self.name, "c", *map(str, index)])
        return not self.store.manifest.fault(key, bytes_of(self.store.root / key))


def _regular(cube: xr.DataArray) -> xr.DataArray:
    """Give a cube chunks of one size, and strings of no fixed length, for which Zarr has a standard."""
    # Chunks and compression of where it came from do not fit what is written.
    sizes = {
        # The first chunk of a part of a cube may be a sliver.
        dim: sizes[0] if 4 * sizes[0] >= max(sizes) else max(sizes)
        for dim, sizes in cube.chunksizes.items()
    }
    data = cube.drop_encoding().chunk(sizes)
    check_size(tuple(sizes[0] for sizes in data.chunks or ()), data.dtype)
    held = {key: c for key, c in cube.coords.items() if not dask.is_dask_collection(c.data)}
    data = data.assign_coords(
        {key: c.astype(object) if c.dtype.kind == "U" else c for key, c in held.items()}
    )
    return data if cube.rio.crs is None else data.rio.write_crs(cube.rio.crs)


def _token(data: xr.DataArray) -> str:
    """Return what identifies a request in all processes."""
    try:
        with dask.config.set({"tokenize.ensure-deterministic": True}):
            return tokenize(data, data.name)[:16]
    except Exception:  # noqa: BLE001 - Dask raises its own error, pickle's, or that of an object in attrs
        return secrets.token_hex(8)


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    lock = check_writable(path.parent) / f".{path.name}.lock"
    held = FileLock(lock)
    with contextlib.suppress(Timeout):
        held.acquire(timeout=0)
    try:
        # It is not there where its last holder removed it just now.
        if not held.is_locked or not lock.exists():
            raise TimoError(
                f"'{path}' is being written by another call: wait for it, or choose another path."
            )
        yield
    finally:
        if held.is_locked:
            with contextlib.suppress(OSError):
                lock.unlink()
            held.release()


def _template_of(cube: xr.DataArray, name: str) -> dict[str, Any]:
    """Return the metadata and the coordinates of a cube's store by key; its lazy arrays are left to be written."""
    data = cube.to_dataset(name=name)
    files: dict[str, Any] = {}
    data.to_zarr(
        zarr.storage.MemoryStore(files),
        mode="w",
        zarr_format=3,
        consolidated=False,
        compute=False,
        write_empty_chunks=True,
        encoding={k: {**v.encoding, "compressors": CODECS} for k, v in data.variables.items()},
    )
    return files
