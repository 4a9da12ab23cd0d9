"""Make a cube of an ee.ImageCollection that the user has filtered, masked or computed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pandas as pd
import xarray as xr

from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.dates import make_open_span, make_span
from timo.sources.earthengine.connecting import connect
from timo.sources.earthengine.listing import dates_there, listing_of, millis, read_listing, undated
from timo.sources.earthengine.opening import Cache, cube_of, make_cache, make_retry, series_of
from timo.sources.earthengine.requests import Dated, ask
from timo.sources.request import (
    CubeRequest,
    make_bands,
    make_clip,
    make_composite,
    make_place,
    make_sensor,
    make_whole,
)
from timo.sources.retry import Retry
from timo.sources.scenes import no_image

# A little less than a degree.
_DEGREE_M = 111_000
_YEAR_2100_MS = 4_102_444_800_000


def from_ee_image_collection(
    images: ee.ImageCollection,
    *,
    aoi: Any = None,
    resolution: float | None = None,
    crs: Any = None,
    like: xr.DataArray | None = None,
    start: Any = None,
    end: Any = None,
    bands: Sequence[str] | None = None,
    sensor: str | Sensor | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    composite: str | None = None,
    clip: bool = False,
    max_megapixels: float = 1000,
    project: str | None = None,
    service_account: str | Path | None = None,
    url: str | None = None,
    cache: Cache = True,
    chunks: int = 256,
    retry: Retry | None = None,
) -> xr.DataArray:
    """Make a cube of an ``ee.ImageCollection``, lazily: for people who have filtered, masked and computed their own.

    A pixel that is masked in one band is NaN in all. The images of a day are mosaicked.

    Parameters
    ----------
    images : ee.ImageCollection
        With `system:time_start`. All images have the bands.
    aoi, resolution, crs, like, start, end, composite, clip, max_megapixels
        As in `timo.open_cube`; `aoi` may be an ``ee.Geometry``, an ``ee.Feature`` or the ``user_roi`` of a geemap map.
        Without start and end all dates are taken; without a resolution, that of the first image's first band, which
        mosaics and composites have none of.
    bands : sequence of str, optional
        Which bands, in which order; by default those of the first image. One may be given as it is, "B4". With `sensor`
        common names ("red") do, too.
    sensor : str or Sensor, optional
        For `attrs["sensor"]`; its band names are then those of the cube, and the images must be of that product, with
        values that it can have.
    scale, offset : float
        Value of the cube = value of the image x scale + offset, e.g. scale=1e-4 for digital numbers of Sentinel-2.
    project, service_account, url, cache, chunks, retry
        See `timo.sources.earthengine.open_earthengine`.

    Raises
    ------
    TimoError
        If it is not an image collection, its images are of another product than `sensor`, or another option makes no
        sense: before any request. If it holds no image of this place and time, or Earth Engine refuses.
    """
    if not isinstance(images, ee.ImageCollection):
        raise TimoError(
            f"images must be an ee.ImageCollection; got {type(images).__name__}. Use ee.ImageCollection([image, ...])"
        )
    instrument = Sensor("", "", (), 1.0, kind="other") if sensor is None else make_sensor(sensor)
    if sensor is not None:
        _check_product(images, instrument)
    chosen = None if bands is None else _chosen(bands, None if sensor is None else instrument)
    scale, offset = _factor(scale, "scale"), _factor(offset, "offset")
    clip, composite = make_clip(clip), make_composite(composite)
    make_whole(chunks, "chunks", "a number of pixels")
    retry, cache = make_retry(retry), make_cache(cache)
    make_span("1950" if start is None else start, "2200" if end is None else end)
    connect(project, service_account=service_account, url=url)
    found = ask(_facts(images), retry)
    if not found["first"]:
        raise TimoError("the collection holds no image: widen its dates, its area or its filters")
    first_image = found["first"][0]
    names = chosen or tuple(first_image["bands"])
    drawn = ask(aoi, retry) if isinstance(aoi, ee.ComputedObject) else aoi
    finest = _finest(first_image["scale"], given=resolution is not None or like is not None)
    area, grid = make_place(
        drawn, resolution, crs, like, finest_m=finest, max_megapixels=max_megapixels
    )
    first, after = _when(start, end, found["times"])
    if sensor is not None:
        instrument.select(names)
    request = CubeRequest(
        area, grid, first, after, instrument, names, composite=composite, clip=clip
    )
    begin, finish = (millis(request.utc(t)) for t in (request.start, request.end))
    selected = images.filterDate(begin, finish).filterBounds(ee.Geometry(area.geojson, None, False))
    listing = read_listing(ask(listing_of({"": selected}), retry), [""])
    if not listing.ids:
        raise no_image(request, f"in the whole collection {dates_there(*found['times'])}")
    days = listing.days(request)

    def mosaic(span: Any) -> ee.Image:
        within = selected.filterDate(ee.List(span).get(0), ee.List(span).get(1))
        day = within.sort("system:time_start")
        return day.map(lambda image: _plain(ee.Image(image), names, scale, offset)).mosaic()

    daily = Dated(tuple(_spans(days, request)), mosaic, names)
    series = series_of(request, daily, days, listing, chunks)
    remedy = f"The images were opened with scale={scale:g}, offset={offset:g}: give other ones"
    cube = cube_of(series, "Google Earth Engine, an ee.ImageCollection", cache, retry, remedy)
    if sensor is None:
        cube.attrs.pop("units", None)
        return cube.rename("value")
    return cube


# Ids of collections -> the sensor whose product they hold.
_PRODUCTS: tuple[tuple[str, str], ...] = (
    (r"COPERNICUS/S2_SR_HARMONIZED", "sentinel-2"),
    (r"COPERNICUS/S2_HARMONIZED", "sentinel-2-l1c"),
    (r"COPERNICUS/S1_GRD(_FLOAT)?", "sentinel-1"),
    (r"LANDSAT/LC0[89]/C02/T[12]_L2", "landsat-8-9"),
    (r"LANDSAT/(LT04|LT05|LE07)/C02/T[12]_L2", "landsat-4-7"),
    (r"LANDSAT/LC08/C01/T[12]_SR", "landsat-8-9-c1"),
    (r"LANDSAT/(LT04|LT05|LE07)/C01/T[12]_SR", "landsat-4-7-c1"),
    (r"LANDSAT/L[CO]0[89]/C0[12]/T[12](_RT)?(_TOA)?", "landsat-8-9-l1"),
    (r"LANDSAT/(L[TM]0[1-5]|LE07)/C0[12]/T[12](_RT)?(_TOA)?", "landsat-4-7-l1"),
    (r"NASA/HLS/HLSL30/v\d+", "hls-l30"),
    (r"NASA/HLS/HLSS30/v\d+", "hls-s30"),
    (r"MODIS/\d+/M[OY]D09A1", "modis"),
    (r"MODIS/\d+/M[OY]D13Q1", "modis-vegetation"),
)
# Since 25 January 2022 their digital numbers are 1,000 higher, without a word in the image.
_SHIFTED = {
    "COPERNICUS/S2_SR": "COPERNICUS/S2_SR_HARMONIZED",
    "COPERNICUS/S2": "COPERNICUS/S2_HARMONIZED",
}


def _check_product(images: ee.ImageCollection, sensor: Sensor) -> None:
    """Refuse images of a collection that is known to hold another product than the sensor's."""
    if sensor.name not in dict(_PRODUCTS).values():
        return
    plain = "If you have made them the same yourself, leave sensor= out: the cube is then of no known sensor"
    for name in sorted(source_ids(images)):
        if name in _SHIFTED:
            raise TimoError(
                f"The images are of {name}, whose digital numbers are 1,000 higher from 25 January 2022 on: take "
                f"{_SHIFTED[name]}, which has the same images. {plain}"
            )
        owner = next((owner for ids, owner in _PRODUCTS if re.fullmatch(ids, name)), sensor.name)
        if owner != sensor.name:
            raise TimoError(
                f"The images are of {name}, {make_sensor(owner).product}, and not of {sensor.product}: give "
                f'sensor="{owner}", or take a collection of {sensor.name}. {plain}'
            )


def source_ids(images: ee.ImageCollection) -> set[str]:
    """Return the ids of the collections that the images of a collection are of, read from its graph.

    Collections that are only looked up (a mask, a join's second part) are not among them.
    """
    graph = ee.serializer.encode(images)
    return set(_loaded({"valueReference": graph["result"]}, graph["values"]))


# Arguments of Earth Engine's functions on collections that hold the images themselves.
_PASSED_ON = (
    "collection",
    "collection1",
    "collection2",
    "primary",
    "images",
    "input",
    "imageCollection",
)


def _loaded(node: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    while "valueReference" in node:
        node = values[node["valueReference"]]
    for part in node.get("arrayValue", {}).get("values", ()):
        yield from _loaded(part, values)
    call = node.get("functionInvocationValue", {})
    arguments = call.get("arguments", {})
    if call.get("functionName") in ("ImageCollection.load", "Image.load"):
        named = arguments["id"]
        while "valueReference" in named:
            named = values[named["valueReference"]]
        name = str(named.get("constantValue", ""))
        yield name if call["functionName"] == "ImageCollection.load" else name.rpartition("/")[0]
    for argument in _PASSED_ON:
        if argument in arguments:
            yield from _loaded(arguments[argument], values)


def _spans(days: pd.DatetimeIndex, request: CubeRequest) -> list[list[int]]:
    """Return when each day begins and ends, in milliseconds since 1970-01-01 in UTC."""
    one = pd.Timedelta(1, "D")
    return [[millis(request.utc(day)), millis(request.utc(day + one))] for day in days]


def _facts(images: ee.ImageCollection) -> ee.Dictionary:
    """Ask for the bands, the scale and the span of dates of the collection; no `first` if it is empty."""

    def describe(image: Any) -> ee.Dictionary:
        band = ee.Image(image).select(0)
        names = ee.Image(image).bandNames()
        return ee.Dictionary({"bands": names, "scale": band.projection().nominalScale()})

    # A list of one or none: Earth Engine refuses questions about an image that is not there.
    return ee.Dictionary(
        {
            "first": images.toList(1).map(describe),
            "times": [
                images.aggregate_min("system:time_start"),
                images.aggregate_max("system:time_start"),
            ],
        }
    )


def _chosen(bands: Any, sensor: Sensor | None) -> tuple[str, ...]:
    """Return the names of the bands; without a sensor they may be any."""
    if sensor is not None:
        return make_bands(sensor, bands)
    names = (bands,) if isinstance(bands, str) else bands
    listed = isinstance(names, Sequence | np.ndarray) and not isinstance(names, bytes)
    if not listed or not all(isinstance(name, str) and name for name in names):
        raise TimoError(f'bands must be a list of names, as ["B4", "B8"]; got {bands!r}')
    if not len(names) or len(set(names)) < len(names):
        raise TimoError(f"bands must name at least one band and each once; got {list(names)}")
    return tuple(map(str, names))


def _factor(value: Any, name: str) -> float:
    """Return `scale` or `offset`, a finite number; a scale is not 0."""
    # Earth Engine would make an image of text and None, and complain of that.
    number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if not number or not np.isfinite(float(value)) or (name == "scale" and value == 0):
        usual = "1e-4" if name == "scale" else "0"
        raise TimoError(f"{name} is a number, as {name}={usual}; got {value!r}")
    return float(value)


def _finest(scale: float, *, given: bool) -> float:
    """Return the side of an image's pixels in metres.

    Earth Engine gives one degree for images that are made of several
    (developers.google.com/earth-engine/guides/projections).
    """
    if scale > _DEGREE_M and not given:
        raise TimoError(
            "the images have no resolution of their own, as they are made of others (mosaics, composites): give "
            "resolution="
        )
    return scale


def _plain(image: ee.Image, bands: Sequence[str], scale: float, offset: float) -> ee.Image:
    data = image.select(list(bands))
    valid = data.mask().reduce(ee.Reducer.min()).gt(0)
    if (scale, offset) != (1.0, 0.0):
        data = data.multiply(scale).add(offset)
    return data.toFloat().updateMask(valid)


def _when(start: Any, end: Any, found: list[int]) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the dates asked for, or those of the collection and a day around: solar days differ from those of UTC."""
    if found[0] is None:
        raise undated("the")
    # Seconds would all be of January 1970, microseconds beyond the year 30,000.
    if 0 <= found[0] < 5e9 or found[1] > _YEAR_2100_MS:
        raise TimoError(
            f"system:time_start of the images is {found[0]:.15g} to {found[1]:.15g}, which cannot be milliseconds "
            "since 1970-01-01: set it, with image.set('system:time_start', ee.Date(...).millis())"
        )
    low, high = (pd.Timestamp(ms, unit="ms").floor("D") for ms in found)
    day = pd.Timedelta(days=1)
    first, after = make_open_span(start, end, low - day, high + day)
    if first > high + day or after < low:
        raise TimoError(
            f"no image between start={start!r} and end={end!r}: those of the collection are of {low:%Y-%m-%d} to "
            f"{high:%Y-%m-%d}. Widen the dates, or those of the collection"
        )
    return first, after
