"""NetCDF files and Zarr stores as xarray opens them, and the cubes that timo wrote into them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from timo.cube.check import DIMS, check, grid_mismatch
from timo.cube.netcdf import netcdf_engine
from timo.errors import TimoError
from timo.sensors import POLARISATIONS, get_sensor
from timo.sensors.registry import find_sensor
from timo.sources.cache.checked import DamagedError
from timo.sources.cache.stores import checked_store
from timo.sources.dates import make_open_span
from timo.sources.files.find import Kind
from timo.sources.files.naming import read_bands
from timo.sources.request import make_sensor


def open_dataset(path: Path, kind: Kind, *, raw: bool = True, chunks: Any = None) -> xr.Dataset:
    """Open a NetCDF file or a Zarr store lazily; raw: with numbers and dates as they are in the file."""
    # Without consolidated metadata: not every store has them, and to look for them in vain warns.
    store: Any = {"engine": "zarr", "consolidated": False}
    try:
        what = checked_store(path) or path if kind == "zarr" else _shared_handle(path)
        if kind != "zarr":
            store = {"engine": netcdf_engine() if what is path else "store"}
        # Attributes that CF has a use for may hold something else: then they are left alone.
        decode = {"decode_times": False, "decode_coords": True} if raw else {"decode_coords": "all"}
        return xr.open_dataset(what, mask_and_scale=not raw, chunks=chunks, **decode, **store)  # type: ignore[arg-type]
    except DamagedError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise TimoError(
            f"{path} cannot be read as {kind}: {error}. It is damaged or something else: write or download it again, "
            "or leave it out."
        ) from error


class _Handle(xr.backends.NetCDF4DataStore):
    """An open file that is closed once it is not used any more."""

    __slots__ = ("__weakref__",)


# Weak: a file is open for as long as a cube of it is there.
_handles: weakref.WeakValueDictionary[tuple[str, int, int], _Handle] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def _shared_handle(path: Path) -> Any:
    """Return one handle for each NetCDF file; its path where netCDF4 does not read it.

    HDF5 crashes the whole process where a file with text in it (names of bands) is opened while it is open already,
    and one of the two is then closed (HDFGroup/hdf5 issue 5359, Unidata/netcdf4-python issue 1444).
    """
    if find_spec("netCDF4") is None:
        return path
    state = path.stat()
    key = str(path.resolve()), state.st_mtime_ns, state.st_size
    with _opening:
        handle = _handles.get(key)
        if handle is None:
            handle = _handles[key] = _Handle.open(str(path))
    return handle


# --- cubes of timo's own


def own_cubes(paths: Sequence[Path], kind: Kind, chunk: int) -> list[xr.DataArray] | None:
    """Return the cubes in the files, lazy, if each holds one that timo wrote; else None.

    Chunks are those of the files; of files that have none, one date of `chunk` cells a side.
    """
    cubes = []
    for path in paths:
        ours = [v for v in open_dataset(path, kind).data_vars.values() if _is_cube(v)]
        if len(ours) != 1:
            return None
        cut = ours[0].encoding.get("preferred_chunks")
        chunks = {} if cut else {"time": 1, "band": -1, "y": chunk, "x": chunk}
        cubes.append(open_dataset(path, kind, raw=False, chunks=chunks)[ours[0].name])
    return cubes


def _is_cube(variable: xr.DataArray) -> bool:
    floats = variable.dims == DIMS and variable.dtype == np.float32
    known = find_sensor(variable.attrs.get("sensor")) is not None
    return floats and known and "band" in variable.coords


def join_cubes(
    cubes: Sequence[xr.DataArray],
    paths: Sequence[Path],
    *,
    start: Any,
    end: Any,
    sensor: Any,
    bands: Sequence[str] | None,
) -> xr.DataArray:
    """Return one cube of several that follow one another in time, or a part of it."""
    cube, instrument = cubes[0], get_sensor(cubes[0].attrs["sensor"])
    if sensor is not None and make_sensor(sensor) is not instrument:
        raise TimoError(
            f"{paths[0]} is a cube of {instrument.name}, and not of sensor={make_sensor(sensor).name!r}."
        )
    for other, path in zip(cubes[1:], paths[1:], strict=True):
        _check_follows(other, path, cube, paths[0])
    if len(cubes) > 1:
        same = [other.assign_coords(y=cube.y, x=cube.x) for other in cubes]
        how: Any = {"join": "exact", "coords": "minimal", "compat": "override"}
        cube = xr.concat(same, "time", combine_attrs="drop_conflicts", **how).sortby("time")
    have = cube.band.values.tolist()
    if bands is not None:
        names = read_bands(bands, instrument)
        if missing := [name for name in names if name not in have]:
            raise TimoError(f"The cube has no band {missing[0]!r}. It has: {', '.join(have)}.")
        cube = cube.sel(band=list(names))
    index = cube.indexes["time"]
    first, after = make_open_span(start, end, index[0], index[-1])
    kept = np.flatnonzero((index >= first) & (index < after))
    if not kept.size:
        raise TimoError(
            f"No date between start={start!r} and end={end!r}: the cube goes from {index[0]:%Y-%m-%d} to "
            f"{index[-1]:%Y-%m-%d}."
        )
    name = "backscatter" if set(cube.band.values.tolist()) <= set(POLARISATIONS) else "reflectance"
    whole = kept.size == index.size
    return check((cube if whole else cube.isel(time=kept)).rename(name))


def _check_follows(cube: xr.DataArray, path: Path, first: xr.DataArray, other: Path) -> None:
    """Refuse a cube that cannot be joined to another in time."""
    mine, theirs = ((c.attrs["sensor"], c.band.values.tolist()) for c in (cube, first))
    if mine[0] != theirs[0]:
        why = f"is a cube of {mine[0]}, {other} of {theirs[0]}: open them one by one"
    elif mine[1] != theirs[1]:
        why = (
            f"has the bands {mine[1]}, {other} has {theirs[1]}. Open those that both have, one by one with "
            "bands=[...], and join them with xarray.concat"
        )
    elif differs := grid_mismatch(cube, first, other.name):
        why = f"is on another grid: its {differs}. Give resolution= or aoi= to bring them onto one"
    elif (twice := cube.indexes["time"].intersection(first.indexes["time"])).size:
        why = f"has {twice[0]:%Y-%m-%d}, which is in {other} too. Leave one out, or select dates first"
    else:
        return
    raise TimoError(f"{path} {why}.")
