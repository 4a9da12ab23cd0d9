"""From images to a cube: masks, mosaics of a day, composites; lazily, and the same for all sources.

Physical values and a quality layer come in, image by image, on the cells of the request. Everything here is a
graph of Dask: nothing is read before the cube is computed, and then one chunk at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from timo.cube import check, check_values, composite
from timo.errors import TimoError
from timo.sensors import POLARISATIONS, Collection, Sensor
from timo.sources.cloud_masks import fringe_cells, half_axes, unclear_pixels
from timo.sources.request import CubeRequest

__all__ = [
    "attribution",
    "check_selectable",
    "cube_from_scenes",
    "cube_of_days",
    "fringe_cells",
    "half_axes",
    "no_image",
    "select_scenes",
]
_NAN = np.float32(np.nan)


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
    """Mask, check, mosaic and composite images that lie on the cells of the request.

    Parameters
    ----------
    request : CubeRequest
        The cube to make.
    values : dask array
        (scene, band, y, x) physical values of `request.bands` on `request.grid`, scenes in any order, NaN where an
        image has no data. Its chunks along y and x are those of the cube.
    quality : dask array, optional
        (scene, y, x) integers, the sensor's quality layer on `request.grid`, or on
        ``request.grid.pad(fringe_cells(request))``: then clouds beyond the edge count too, and a part of a cube is the
        cube of that part. `NO_QUALITY` where it has no data: not a valid observation, and not a cloud either. Without
        the layer only pixels without data are masked.
    times : DatetimeIndex
        When each scene was taken, in UTC, without a time zone.
    ids : sequence of str
        Name of each scene; of two at the same instant, the later name lies on top.
    source : str
        Where the images come from, for `attrs["source"]`.
    linear : bool
        The values are linear power, and become decibels.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`, lazy; one date per solar day of the area's centre that has an image, or
        per period of `request.composite`. The values of every scene are checked when they are computed.

    Raises
    ------
    TimoError
        If no scene lies within the dates of the request, or the arrays do not fit. When computed: if the values of a
        scene cannot be what the sensor measures.

    Notes
    -----
    Of the images of a day each pixel is taken from the last in order of (time, id) that is valid there, as Earth
    Engine's `mosaic` does. A pixel is valid in all bands or in none.
    """
    _check_shapes(request, values, quality, times, ids)
    kept = select_scenes(request, times, ids)
    if not kept.size:
        raise no_image(request, _span(request.solar_day(times)))
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
    """Clip, name and composite the mosaics of days.

    Parameters
    ----------
    request : CubeRequest
        What is asked for.
    values : dask array
        (day, band, y, x) float32 physical values on `request.grid`, NaN = no valid observation.
    days : DatetimeIndex
        Solar days, ascending, each once.
    source : str
        Where the images come from.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`.
    """
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
        # Of images that somebody has computed neither an instrument nor a unit is known.
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


def _span(days: pd.DatetimeIndex) -> str:
    if days.empty:
        return "none at all"
    return f"{len(days)} images, of {days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}"


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
    absent = ~np.isfinite(values).all(axis=1, keepdims=True)
    if unclear is not None:
        absent |= unclear
    if absent.all():
        # Most of an image lies in other chunks: a NaN without memory of its own.
        return np.broadcast_to(_NAN, values.shape)
    if linear:
        _check_power(values)
        values = (10 * np.log10(np.where(values > 0, values, _NAN))).astype("float32")
        absent |= ~np.isfinite(values).all(axis=1, keepdims=True)
    observed = np.where(absent, _NAN, values)
    if block_info:
        name = f"scene {names[block_info[0]['chunk-location'][0]]}"
        check_values(observed, request.sensor, request.bands, what=name, call=False, part=True)
    return observed


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
        # Valid in all bands or in none: the first one is enough.
        holes = np.isnan(top[:, :1])
        if not holes.any():
            break
        top = np.where(holes, below, top)
    return top


def _clip(values: np.ndarray, request: CubeRequest, block_info: dict | None = None) -> np.ndarray:
    assert block_info is not None
    rows, columns = (slice(*where) for where in block_info[0]["array-location"][2:])
    inside = request.grid.window(rows, columns).mask_of(request.area)
    return np.where(inside.values, values, _NAN)
