"""Cubes of several sensors as one: radar beside reflectance, each with its own dates and its own gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, Literal

import dask.array as da
import numpy as np
import odc.geo.xr  # noqa: F401  registers .odc
import pandas as pd
import xarray as xr

from timo.checks import checked
from timo.cube.check import DIMS, check, grid_mismatch, sensor_of
from timo.errors import TimoError
from timo.sensors import Sensor, get_sensor
from timo.sensors.joint import AND
from timo.sensors.registry import find_sensor

Resampling = Literal["nearest", "bilinear", "average"]
# Values that are looked at at once.
_AT_ONCE = 1 << 20
# What cubes say of where they come from; where they differ, all of it is kept.
_SAID = ("attribution", "source", "licence", "units", "long_name")


@checked
def join(
    *cubes: xr.DataArray,
    missing: str | Mapping[str, Sequence[str]] | None = None,
    resampling: Resampling | None = None,
) -> xr.DataArray:
    """Join cubes of several sensors to one cube.

    Parameters
    ----------
    *cubes : xarray.DataArray
        Cubes of different sensors, on one grid, each with its own dates. A band without a time, such as a terrain
        model, is a cube of one date, of a sensor of your own (`timo.sensors.register_sensor`).
    missing : str or mapping, optional
        Sensor that there is no cube of, for a model that reads it too: its bands are added, NaN at each date. A mapping
        names the bands, ``{"sentinel-1": ["VV", "VH"]}``; of a name alone they are those that are usually opened.
    resampling : {"nearest", "bilinear", "average"}, optional
        How cubes on another grid are brought onto that of the first. None: all must be on one grid.

    Returns
    -------
    xarray.DataArray
        (time, band, y, x) on the grid of the first cube. `time` is the union of the dates; `band` the bands of each
        cube one after the other, NaN at the dates that its sensor has no observation of. ``attrs["sensor"]`` is
        "sentinel-2+sentinel-1" (`timo.sensors.get_sensor`). A band whose name an earlier sensor has as well is called
        "hls-l30:B4". Coordinates of single dates or pixels (`scl`) are left out. Lazy if one of the cubes is; else in
        memory, where it takes all bands at all dates: of two like cubes without a common date, twice what they take.

    Raises
    ------
    TimoError
        If a cube is no cube, names no sensor or one that another is of, or is on another grid.

    See Also
    --------
    separate : The cube of each sensor again.
    """
    if not cubes:
        raise TimoError("join() takes at least one cube: timo.cube.join(s2, s1).")
    named = [_check_part(cube, i) for i, cube in enumerate(cubes)]
    added = _missing_bands(missing)
    parts = [part.name for _, own in named for part in own.parts]
    sensor = get_sensor(AND.join((*parts, *added)))
    first = cubes[0]
    if len(cubes) == 1 and not added:
        return first
    origins = [own.band_origin(band) for bands, own in named for band in bands]
    origins += [(name, band) for name, bands in added.items() for band in bands]
    aligned = [_on_grid(cube, first, i, resampling) for i, cube in enumerate(cubes)]
    times = reduce(lambda a, b: a.union(b), (cube.indexes["time"] for cube in cubes)).rename("time")
    coords = {
        "time": times,
        "band": [_joint_name(sensor, *origin) for origin in origins],
        **{name: first.coords[name] for name in ("y", "x", "spatial_ref") if name in first.coords},
    }
    data = _stack(aligned, times, len(origins) - sum(cube.sizes["band"] for cube in cubes))
    # Each has been checked by itself.
    return xr.DataArray(data, coords, DIMS, name=first.name, attrs=_attrs(cubes, sensor))


@checked
def band_groups(bands: Sequence[str], sensor: Sensor | str | None) -> tuple[int, ...]:
    """Count the bands of each sensor of a joint cube.

    Parameters
    ----------
    bands : sequence of str
        Bands, those of each sensor beside one another.
    sensor : Sensor or str, optional
        Their sensor. None, and a name that is not registered: one sensor, whichever it is.

    Returns
    -------
    tuple of int
        Sizes of consecutive groups of bands, (10, 2) of ten bands of Sentinel-2 and two of Sentinel-1; (10,) of a
        single sensor. A sensor without any of the bands is left out.

    Raises
    ------
    TimoError
        If the sensor has no such band, or bands of one sensor stand apart.
    """
    if isinstance(sensor, str):
        sensor = get_sensor(sensor) if AND in sensor else find_sensor(sensor)
    if sensor is None or len(sensor.parts) == 1:
        return (len(bands),)
    origins = [sensor.band_origin(band)[0] for band in bands]
    order = list(dict.fromkeys(origins))
    if origins != sorted(origins, key=order.index):
        together = sorted(bands, key=lambda band: order.index(origins[list(bands).index(band)]))
        raise TimoError(
            f"The bands of one sensor must stand beside one another; got {list(bands)} of {sensor.name}. Use "
            f"cube.sel(band={together})."
        )
    return tuple(origins.count(name) for name in order)


def sensor_slices(cube: xr.DataArray) -> list[slice]:
    """Return the bands of each sensor of a joint cube, as slices along `band`; all bands of any other cube."""
    bands = [str(band) for band in cube.band.values] if "band" in cube.coords else []
    sizes = band_groups(bands, sensor_of(cube)) if bands else (cube.sizes["band"],)
    return [slice(int(a), int(b)) for a, b in pairwise(np.cumsum((0, *sizes)))]


@checked
def observed(values: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Return where each group of bands has an observation: all bands of the group are finite.

    Parameters
    ----------
    values : numpy.ndarray
        (time, band, y, x) physical values, NaN = no valid observation.
    groups : sequence of int
        Sizes of the groups (`band_groups`).

    Returns
    -------
    numpy.ndarray
        Booleans: (time, y, x) of one group, (time, group, y, x) of several.

    Raises
    ------
    TimoError
        If the groups are not those of the values.
    """
    if values.ndim != 4 or values.dtype.kind not in "iuf" or sum(groups) != values.shape[1]:
        raise TimoError(
            f"values must be numbers, (time, band, y, x), of the {sum(groups)} bands of the groups {tuple(groups)}; "
            f"got {values.dtype} of shape {values.shape}."
        )
    if min(groups) < 1:
        raise TimoError(f"Each group has at least one band; got {tuple(groups)}.")
    time, _, height, width = values.shape
    edges = np.cumsum((0, *groups))
    result = np.empty((time, len(groups), height, width), bool)
    # Some dates at a time: booleans of all bands at once would be a quarter of the cube.
    step = max(_AT_ONCE // values[0].size, 1) if time else 1
    for first in range(0, time, step):
        dates = slice(first, first + step)
        for group, (start, end) in enumerate(pairwise(edges)):
            np.isfinite(values[dates, start:end]).all(axis=1, out=result[dates, group])
    return result[:, 0] if len(groups) == 1 else result


@checked
def separate(cube: xr.DataArray) -> tuple[xr.DataArray, ...]:
    """Return the cubes that a joint cube consists of, one for each sensor; of a single sensor, the cube itself.

    Each has the bands of its sensor, called as there. In memory it has the dates with an observation of that sensor
    alone, and a sensor without any is left out; a lazy one keeps all dates, as its values are not looked at.

    Raises
    ------
    TimoError
        If the cube is no cube.
    """
    sensor = sensor_of(check(cube))
    if sensor is None or len(sensor.parts) == 1:
        return (cube,)
    bands = [str(band) for band in cube.band.values]
    parts = []
    for part in sensor.parts:
        own = [band for band in bands if band in part.band_names]
        names = [sensor.band_origin(band)[1] for band in own]
        one = cube.sel(band=own).assign_coords(band=names).assign_attrs(sensor=part.name)
        if cube.chunks is None:
            one = one.isel(time=np.flatnonzero(np.isfinite(one.values).any(axis=(1, 2, 3))))
        if all(one.shape):
            parts.append(one)
    return tuple(parts)


def _check_part(cube: xr.DataArray, position: int) -> tuple[list[str], Sensor]:
    """Return the bands and the sensor of a cube that is to be joined."""
    what = f"cubes[{position}]"
    sensor = sensor_of(check(cube, what=what))
    if sensor is None:
        raise TimoError(
            f"{what} does not say which sensor it is of, and join() keeps sensors apart. Use "
            f'{what}.assign_attrs(sensor="sentinel-1") with the name of its sensor.'
        )
    return [str(band) for band in cube.band.values], sensor


def _missing_bands(missing: str | Mapping[str, Sequence[str]] | None) -> dict[str, list[str]]:
    """Return the bands to add of each sensor that there is no cube of."""
    if isinstance(missing, str):
        parts = {part.name: get_sensor(part.name) for part in get_sensor(missing).parts}
        return {name: list(part.default_bands) for name, part in parts.items()}
    added = {name: list(bands) for name, bands in (missing or {}).items()}
    for name, bands in added.items():
        known = get_sensor(name)
        known.select(bands)
        if not bands or len(known.parts) > 1:
            raise TimoError(
                "missing= names one sensor at a time and at least one of its bands, "
                f'{{"sentinel-1": ["VV", "VH"]}}; got {{{name!r}: {bands}}}.'
            )
    return added


def _joint_name(sensor: Sensor, part: str, band: str) -> str:
    """Return what a band of a part is called in a joint cube."""
    names = next(one for one in sensor.parts if one.name == part).band_names
    return band if band in names else f"{part}:{band}"


def _on_grid(
    cube: xr.DataArray, first: xr.DataArray, position: int, resampling: Resampling | None
) -> xr.DataArray:
    """Return a cube on the grid of the first one."""
    why = grid_mismatch(cube, first, "cubes[0]")
    if not why:
        return cube
    if resampling is None:
        raise TimoError(
            f"cubes[{position}] is on another grid than cubes[0]: its {why}. Open it with like=cubes[0], or bring it "
            'onto that grid here: timo.cube.join(..., resampling="bilinear") ("nearest" takes the nearest cell, '
            '"average" is for much finer cells).'
        )
    if min(cube.sizes["y"], cube.sizes["x"], first.sizes["y"], first.sizes["x"]) < 2:
        raise TimoError(
            f"cubes[{position}] is on another grid than cubes[0] (its {why}), and a single row or column of cells "
            "cannot be resampled. Open both on one grid: timo.open_cube(..., like=...)."
        )
    grid = {name: first.coords[name] for name in ("y", "x", "spatial_ref") if name in first.coords}
    coords = {"time": cube.coords["time"], "band": cube.coords["band"], **grid}
    own = {name: cube.coords[name] for name in ("y", "x", "spatial_ref") if name in cube.coords}

    def move(values: np.ndarray) -> np.ndarray:
        part = xr.DataArray(values, own, DIMS).rio.write_crs(cube.rio.crs)
        moved = part.odc.reproject(first.odc.geobox, resampling=resampling, dst_nodata=np.nan)
        return moved.values.astype("float32", copy=False)

    if cube.chunks is None:
        return xr.DataArray(move(cube.values), coords, DIMS)
    # Parts of a date would be resampled apart from each other, and differ at their edges.
    whole = cube.data.rechunk({0: 1, 2: -1, 3: -1})
    sides = tuple((size,) for size in first.shape[2:])
    chunks, meta = (*whole.chunks[:2], *sides), np.empty((0, 0, 0, 0), "float32")
    data = whole.map_blocks(move, chunks=chunks, meta=meta)
    return xr.DataArray(data, coords, DIMS)


def _stack(cubes: Sequence[xr.DataArray], times: pd.DatetimeIndex, extra: int) -> Any:
    """Return the values (time, band, y, x) of all cubes, at all dates; `extra` bands more are NaN throughout."""
    sizes = [*(cube.sizes["band"] for cube in cubes), extra]
    shape = (len(times), sum(sizes), *cubes[0].shape[2:])
    if any(cube.chunks is not None for cube in cubes):
        parts = [cube.reindex(time=times).data for cube in cubes]
        lazy = next(part for part in parts if isinstance(part, da.Array))
        if extra:
            nothing = (shape[0], extra, *shape[2:])
            chunks = (lazy.chunks[0], -1, *lazy.chunks[2:])
            parts.append(da.full(nothing, np.nan, "float32", chunks=chunks))
        return da.concatenate(parts, axis=1)
    values = np.full(shape, np.nan, "float32")
    edges = np.cumsum((0, *sizes))
    for cube, (start, end) in zip(cubes, pairwise(edges), strict=False):
        values[times.get_indexer(cube.indexes["time"]), start:end] = cube.values
    return values


def _attrs(cubes: Sequence[xr.DataArray], sensor: Sensor) -> dict[str, Any]:
    """Return what all cubes say alike, and of where they come from what each says."""
    first, *rest = (cube.attrs for cube in cubes)
    same = {k: v for k, v in first.items() if all(_equal(v, other.get(k)) for other in rest)}
    for key in _SAID:
        texts = [str(attrs[key]) for attrs in (first, *rest) if attrs.get(key)]
        if texts:
            same[key] = "; ".join(dict.fromkeys(texts))
    return same | {"sensor": sensor.name}


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(np.all(a == b))
