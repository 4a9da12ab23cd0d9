"""Cubes that were fetched to a Zarr store, read with their checksums: a lost chunk is an error and never a cloud."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from timo.errors import TimoError
from timo.sources.cache.checked import CODECS, MANIFEST, CheckedStore


def manifest_of(path: str | os.PathLike[str]) -> Path | None:
    """Find the manifest of a Zarr store that `timo.fetch` wrote; None of another store."""
    return next(Path(path).glob(f"*/{MANIFEST}"), None)


def checked_store(path: str | os.PathLike[str]) -> CheckedStore | None:
    """Return a Zarr store of `timo.fetch` as what xarray and zarr open in place of its path, with checks.

    ``xr.open_zarr(checked_store(path) or path, consolidated=False, decode_coords="all")`` reads stores with and without
    a manifest.

    Parameters
    ----------
    path : path
        A folder.

    Returns
    -------
    CheckedStore or None
        Read-only; None if `path` is no store with a manifest.

    Raises
    ------
    TimoError
        If a file of it is lost or has another size, or its metadata or coordinates are not what was written: which, and
        how to repair it. When a chunk is read that is not what was written, the same with its dates and its place.
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
        texts = [
            f"{np.datetime_as_string(v, 'D')}" if part.dtype.kind == "M" else str(v) for v in part
        ]
        if part.dtype.kind not in "Mifu":
            return f"{dim} {', '.join(texts)}"
        return f"{dim} {texts[0]}" if len(texts) == 1 else f"{dim} {texts[0]} to {texts[-1]}"


def template_of(cube: xr.DataArray, name: str) -> dict[str, Any]:
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
