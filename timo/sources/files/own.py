"""Cubes that timo wrote into NetCDF or Zarr: they come back as they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from timo.cube.check import DIMS, check
from timo.errors import TimoError
from timo.sensors import POLARISATIONS, SENSORS, get_sensor
from timo.sources.files.arrays import open_dataset
from timo.sources.files.bands import read_bands
from timo.sources.files.find import Kind
from timo.sources.place.grid import grid_of
from timo.sources.request import make_sensor
from timo.sources.span import make_open_span


def own_cubes(paths: Sequence[Path], kind: Kind, chunk: int) -> list[xr.DataArray] | None:
    """The cubes in the files, lazy, if each holds one that timo wrote; else None.

    Chunks are those of the files; of files that have none, one date of so many cells a side.
    """
    cubes = []
    for path in paths:
        raw = open_dataset(path, kind)
        names = [str(name) for name, v in raw.data_vars.items() if _is_cube(v)]
        if len(names) != 1:
            return None
        dataset = open_dataset(path, kind, raw=False)
        cut = dataset[names[0]].encoding.get("preferred_chunks")
        chunks = {} if cut else {"time": 1, "band": -1, "y": chunk, "x": chunk}
        cubes.append(open_dataset(path, kind, raw=False, chunks=chunks)[names[0]])
    return cubes


def _is_cube(variable: xr.DataArray) -> bool:
    named = variable.attrs.get("sensor") in SENSORS
    return (
        named
        and variable.dims == DIMS
        and variable.dtype == np.float32
        and "band" in variable.coords
    )


def join_cubes(
    cubes: Sequence[xr.DataArray],
    paths: Sequence[Path],
    *,
    start: Any,
    end: Any,
    sensor: str | None,
    bands: Sequence[str] | None,
) -> xr.DataArray:
    """One cube of several that follow one another in time, or a part of it.

    Raises
    ------
    TimoError
        If they are of different sensors, on different grids, have a date twice, or lack what is asked for.
    """
    first, instrument = cubes[0], get_sensor(cubes[0].attrs["sensor"])
    if sensor is not None and make_sensor(sensor) is not instrument:
        raise TimoError(f"{paths[0]} is a cube of {instrument.name}, and not of sensor={sensor!r}.")
    for cube, path in zip(cubes[1:], paths[1:], strict=True):
        _check_follows(cube, path, first, paths[0])
    if len(cubes) > 1:
        first = _concat(cubes)
    if bands is not None:
        first = _pick_bands(first, read_bands(bands, instrument))
    name = "backscatter" if set(first.band.values.tolist()) & set(POLARISATIONS) else "reflectance"
    return check(_pick_dates(first, start, end).rename(name))


def _concat(cubes: Sequence[xr.DataArray]) -> xr.DataArray:
    same = [cube.assign_coords(y=cubes[0].y, x=cubes[0].x) for cube in cubes]
    joined = xr.concat(
        same,
        "time",
        join="exact",
        coords="minimal",
        compat="override",
        combine_attrs="drop_conflicts",
    )
    return joined.sortby("time")


def _check_follows(cube: xr.DataArray, path: Path, first: xr.DataArray, other: Path) -> None:
    """Refuse a cube that cannot be joined to another in time."""
    if cube.attrs["sensor"] != first.attrs["sensor"]:
        raise TimoError(
            f"{path} is a cube of {cube.attrs['sensor']}, {other} of {first.attrs['sensor']}: open them one by one."
        )
    if list(cube.band.values) != list(first.band.values):
        raise TimoError(
            f"{path} has the bands {cube.band.values.tolist()}, {other} has {first.band.values.tolist()}. Open "
            "those that both have, one by one with bands=[...], and join them with xarray.concat."
        )
    if grid_of(cube) != grid_of(first):
        raise TimoError(
            f"{path} is on another grid ({grid_of(cube)}) than {other} ({grid_of(first)}). Give resolution= or aoi= to "
            "bring them onto one."
        )
    if twice := cube.indexes["time"].intersection(first.indexes["time"]).tolist():
        raise TimoError(
            f"{twice[0]:%Y-%m-%d} is in {other} and in {path}. Leave one out, or select dates first."
        )


def _pick_bands(cube: xr.DataArray, bands: Sequence[str]) -> xr.DataArray:
    have = cube.band.values.tolist()
    if missing := [band for band in bands if band not in have]:
        raise TimoError(f"The cube has no band {missing[0]!r}. It has: {', '.join(have)}.")
    return cube.sel(band=list(bands))


def _pick_dates(cube: xr.DataArray, start: Any, end: Any) -> xr.DataArray:
    if start is None and end is None:
        return cube
    index = cube.indexes["time"]
    first, after = make_open_span(start, end, index[0], index[-1])
    kept = np.flatnonzero((index >= first) & (index < after))
    if not kept.size:
        raise TimoError(
            f"No date between start={start!r} and end={end!r}: the cube goes from {index[0]:%Y-%m-%d} to "
            f"{index[-1]:%Y-%m-%d}."
        )
    return cube.isel(time=kept)
