"""From images to a cube: masks, mosaics of a day, composites; lazily, and the same for all sources.

Physical values and a quality layer come in, image by image, on the cells of the request. Everything here is a
graph of Dask: nothing is read before the cube is computed, and then one chunk at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import dask.array as da
import numpy as np
import pandas as pd
import pyproj
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from timo.cube import (
    band_groups,
    cell_size_m,
    check,
    check_values,
    composite,
    dilate,
    observed,
)
from timo.errors import TimoError
from timo.sensors import POLARISATIONS, Collection, Sensor
from timo.sources.reading import NO_QUALITY
from timo.sources.request import CubeRequest

_NAN = np.float32(np.nan)
# Flags of a pixel: bits of one byte, so that the quality layer is looked at once.
_UNCLEAR, _FRINGED = 1, 2


def cube_from_scenes(
    request: CubeRequest,
    values: da.Array,
    quality: da.Array | None,
    times: pd.DatetimeIndex,
    ids: Sequence[str],
    *,
    source: str,
    linear: bool = False,
) -> xr.DataArray:
    """Mask, check, mosaic and composite images that lie on the cells of the request, lazily.

    `values` are physical, (scene, band, y, x) on `request.grid`, scenes in any order, NaN where an image has no data;
    their chunks along y and x are those of the cube. Of `linear` power, decibels are made. `times` are in UTC.

    `quality` is the sensor's layer, (scene, y, x), on the same grid or on ``request.grid.pad(fringe_cells(request))``:
    then clouds beyond the edge count too, and a part of a cube is the cube of that part. `NO_QUALITY` is not a valid
    observation, and not a cloud either. Without the layer only pixels without data are masked.

    Of the images of a solar day each pixel is taken from the last in order of (time, id) that is valid there, as Earth
    Engine's `mosaic` does. A pixel is valid in all bands or in none. Values are checked when they are computed.
    """
    _check_shapes(request, values, quality, times, ids)
    kept = select_scenes(request, times, ids)
    if not kept.size:
        days = request.solar_day(times)
        seen = "none at all"
        if len(days):
            seen = f"{len(days)} images, of {days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}"
        raise no_image(request, seen)
    values = _prepare(request, values[kept])
    unclear = None
    if quality is not None and request.masked:
        unclear = unclear_pixels(request, quality[kept], values.chunks)
    names = [f"{ids[i]} ({times[i]:%Y-%m-%d})" for i in kept]
    observed = _observe(request, values, unclear, names, linear=linear)
    days = request.solar_day(times[kept])
    return cube_of_days(request, _mosaic(observed, days), days.unique(), source)


def cube_of_days(
    request: CubeRequest, values: da.Array, days: pd.DatetimeIndex, source: str
) -> xr.DataArray:
    """Clip, name and composite mosaics of ascending solar days: (day, band, y, x) float32, NaN = not valid."""
    if request.clip:
        values = da.map_blocks(_clip, values, request=request, dtype="float32", meta=values._meta)
    facts = {
        "sensor": request.sensor.name,
        "units": request.sensor.units,
        "source": source,
        "attribution": attribution(request.sensor, days),
    }
    cube = xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": days.as_unit("ns").to_numpy(),
            "band": list(request.bands),
            "y": request.grid.y,
            "x": request.grid.x,
        },
        name="backscatter" if set(request.bands) & set(POLARISATIONS) else "reflectance",
        # Of computed images neither an instrument nor a unit is known.
        attrs={name: fact for name, fact in facts.items() if fact},
    ).rio.write_crs(request.grid.crs)
    if request.composite is None:
        return check(cube)
    return composite(cube, freq=request.composite, origin=request.start)


def attribution(sensor: Sensor, days: pd.DatetimeIndex, served: Collection | None = None) -> str:
    """Return the credit that must stand where the data are shown, with the year or the years of its dates."""
    first, last = days[0].year, days[-1].year
    return sensor.credit(str(first) if first == last else f"{first}-{last}", served)


def select_scenes(request: CubeRequest, times: pd.DatetimeIndex, ids: Sequence[str]) -> np.ndarray:
    """Return positions of the scenes whose solar day is within the request, in order of (time, id)."""
    days = request.solar_day(times)
    inside = np.flatnonzero((days >= request.start) & (days < request.end)).tolist()
    return np.array(sorted(inside, key=lambda i: (times[i], ids[i])), dtype=int)


def no_image(request: CubeRequest, seen: str) -> TimoError:
    """Return the error to raise where no image is left; `seen` says what there was."""
    last = request.end - pd.Timedelta(days=1)
    west, south, east, north = request.area.bounds
    remedy = "widen the dates" + ("" if request.max_cloud is None else ", raise max_cloud")
    clouds = "" if request.max_cloud is None else f" with at most {request.max_cloud:g} % cloud"
    return TimoError(
        f"No image of {request.sensor.name} between {request.start:%Y-%m-%d} and {last:%Y-%m-%d} over "
        f"{west:.7g}..{east:.7g} E, {south:.7g}..{north:.7g} N{clouds}: see whether that is the place you mean "
        f"(longitude comes first), {remedy} (seen: {seen})"
    )


def check_selectable(request: CubeRequest, served: Collection, orbit: str | None) -> None:
    """Refuse to select images by what a collection does not state of them: cloud cover, or orbit."""
    name = request.sensor.name
    if request.max_cloud is not None and not served.cloud_cover:
        raise TimoError(
            f"max_cloud cannot be used: the images of {name} do not say how cloudy they are. Leave it out; clouds are "
            "masked pixel by pixel."
        )
    if orbit is not None and not served.orbit:
        raise TimoError(
            f"orbit cannot be chosen: the images of {name} do not say theirs. Leave it out."
        )


def _check_shapes(
    request: CubeRequest,
    values: da.Array,
    quality: da.Array | None,
    times: pd.DatetimeIndex,
    ids: Sequence[str],
) -> None:
    """Refuse arrays that are not on the cells of the request: a source's mistake, not the user's."""
    n = len(times)
    expected = (n, len(request.bands), *request.grid.shape)
    if values.shape != expected or len(ids) != n:
        raise TimoError(
            f"values must be {expected} (scene, band, y, x) with as many ids; got {values.shape} and {len(ids)} ids"
        )
    padded = request.grid.pad(fringe_cells(request)).shape
    if quality is not None and quality.shape not in ((n, *request.grid.shape), (n, *padded)):
        raise TimoError(
            f"quality must be {(n, *request.grid.shape)} or {(n, *padded)} (scene, y, x); got {quality.shape}"
        )


def _check_power(values: np.ndarray) -> None:
    """Refuse decibels in place of linear power; noise removal leaves a few negative numbers."""
    seen = values[np.isfinite(values)]
    if seen.size and (middle := float(np.median(seen))) < 0:
        raise TimoError(
            f"The values have a median of {middle:.4g}: decibels, and not linear power, which is positive. Leave "
            "linear= out."
        )


def _prepare(request: CubeRequest, values: da.Array) -> da.Array:
    """Put one scene and all bands into a chunk, and make no chunk smaller than a cloud's fringe."""
    reach = 2 * fringe_cells(request)
    rows, columns = (
        chunks if len(chunks) == 1 or min(chunks[:-1]) >= reach else reach
        for chunks in values.chunks[2:]
    )
    return values.rechunk({0: 1, 1: -1, 2: rows, 3: columns})


def _observe(
    request: CubeRequest,
    values: da.Array,
    unclear: da.Array | None,
    names: Sequence[str],
    *,
    linear: bool,
) -> da.Array:
    """Return checked values, (scene, band, y, x) float32, NaN where a pixel is not valid in all bands."""
    blocks = [values] if unclear is None else [values, unclear[:, None]]
    return da.map_blocks(
        _observe_block,
        *blocks,
        request=request,
        names=tuple(names),
        linear=linear,
        dtype="float32",
        meta=np.empty((0, 0, 0, 0), dtype="float32"),
        chunks=values.chunks,
    )


def _observe_block(
    values: np.ndarray,
    unclear: np.ndarray | None = None,
    *,
    request: CubeRequest,
    names: Sequence[str],
    linear: bool,
    block_info: dict[Any, Any] | None = None,
) -> np.ndarray:
    absent = _absent(values, request)
    if unclear is not None:
        absent |= unclear
    if absent.all():
        # Most of an image lies in other chunks: a NaN without memory of its own.
        return np.broadcast_to(_NAN, values.shape)
    if linear:
        _check_power(values)
        values = (10 * np.log10(np.where(values > 0, values, _NAN))).astype("float32")
        absent |= _absent(values, request)
    seen = np.where(absent, _NAN, values)
    if block_info:
        name = f"scene {names[block_info[0]['chunk-location'][0]]}"
        check_values(seen, request.sensor, request.bands, what=name, call=False, part=True)
    return seen


def _absent(values: np.ndarray, request: CubeRequest) -> np.ndarray:
    """Return where a pixel lacks a band of its sensor: (scene, 1, y, x), of several sensors (scene, band, y, x)."""
    groups = band_groups(request.bands, request.sensor)
    if len(groups) == 1:
        return ~np.isfinite(values).all(axis=1, keepdims=True)
    return np.repeat(~observed(values, groups), groups, axis=1)


def _mosaic(observed: da.Array, days: pd.DatetimeIndex) -> da.Array:
    """Make one image a day, (day, band, y, x), of scenes in order; the last valid one is on top.

    The blocks of a day are handed over as they are: to join them into one array first would take memory for each of
    its scenes, however little of them lies in the chunk.
    """
    groups = [np.flatnonzero(days == day).tolist() for day in days.unique()]
    name = f"mosaic-{tokenize(observed.name, groups)}"
    graph: dict[Any, Any] = {
        (name, day, 0, row, column): (
            _last_valid,
            [(observed.name, scene, 0, row, column) for scene in scenes],
        )
        for day, scenes in enumerate(groups)
        for row in range(observed.numblocks[2])
        for column in range(observed.numblocks[3])
    }
    return da.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=cast(Any, [observed])),
        name,
        chunks=((1,) * len(groups), *observed.chunks[1:]),
        meta=observed._meta,
    )


def _last_valid(blocks: list[np.ndarray]) -> np.ndarray:
    top = blocks[-1]
    for below in reversed(blocks[:-1]):
        # Valid in all bands of a sensor or in none.
        holes = np.isnan(top)
        if not holes.any():
            break
        top = np.where(holes, below, top)
    return top


def _clip(values: np.ndarray, request: CubeRequest, block_info: dict | None = None) -> np.ndarray:
    assert block_info is not None
    rows, columns = (slice(*where) for where in block_info[0]["array-location"][2:])
    inside = request.grid.window(rows, columns).mask_of(request.area)
    return np.where(inside.values, values, _NAN)


# --- What the quality layer hides: its classes, and what lies near a cloud or its shadow


def fringe_cells(request: CubeRequest) -> int:
    """Return how many cells beyond its edge a cloud can still mask a pixel of the grid."""
    return math.floor(max(half_axes(request))) if request.fringed else 0


def half_axes(request: CubeRequest) -> tuple[float, float]:
    """Return `buffer_m` in cells along y and along x; in a geographic CRS, of the cell in the middle."""
    grid = request.grid
    height = width = grid.metres
    if pyproj.CRS(grid.crs).is_geographic:
        row, column = grid.height // 2, grid.width // 2
        part = grid.window(slice(row - 1, row + 2), slice(column - 1, column + 2))
        height, width = cell_size_m(xr.DataArray(np.zeros((3, 3)), part.coords, ("y", "x")))
    # Beyond rounding: 0.7 / 0.1 is seven cells.
    return request.buffer_m / height + 1e-9, request.buffer_m / width + 1e-9


def unclear_pixels(
    request: CubeRequest,
    quality: da.Array,
    chunks: tuple[tuple[int, ...], ...],
) -> da.Array:
    """Return where the quality layer masks a pixel, or a cloud near it does: (scene, y, x) bool on the grid.

    A pixel with `NO_QUALITY` is masked, and is not a cloud.
    """
    flags = quality.rechunk({0: 1}).map_blocks(
        _flag_block,
        request=request,
        dtype="uint8",
        meta=np.empty((0, 0, 0), "uint8"),
    )
    margin = fringe_cells(request)
    if flags.shape[1:] == request.grid.shape and margin:
        flags = da.pad(flags, ((0, 0), (margin, margin), (margin, margin)))
    # Each block with what is around it, so that the edges of chunks do not show: the block of cells i..j of the grid
    # begins at cell i of the padded flags and needs them up to j + 2 margin.
    rows, columns = ((*sizes[:-1], sizes[-1] + 2 * margin) for sizes in chunks[2:])
    flags = flags.rechunk((chunks[0], rows, columns))
    around = da.overlap.overlap(
        flags, depth={0: 0, 1: (0, 2 * margin), 2: (0, 2 * margin)}, boundary="none"
    )
    return around.map_blocks(
        _widen_block,
        axes=half_axes(request),
        margin=margin,
        dtype=bool,
        meta=np.empty((0, 0, 0), bool),
        chunks=(chunks[0], *chunks[2:]),
    )


def _flag_block(quality: np.ndarray, *, request: CubeRequest) -> np.ndarray:
    # Of a bit mask the number of no quality would be every class at once.
    stated = quality != NO_QUALITY
    unclear = ~stated | request.sensor.flagged(quality, request.masked)
    fringed = stated & request.sensor.flagged(quality, request.fringed)
    return unclear * np.uint8(_UNCLEAR) | fringed * np.uint8(_FRINGED)


def _widen_block(flags: np.ndarray, *, axes: tuple[float, float], margin: int) -> np.ndarray:
    inner = slice(margin, -margin or None)
    unclear = (flags & _UNCLEAR)[:, inner, inner] > 0
    if not margin or not (flags & _FRINGED).any():
        return unclear
    grown: np.ndarray = dilate((flags & _FRINGED) > 0, *axes)
    return unclear | grown[:, inner, inner]
