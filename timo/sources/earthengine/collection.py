"""Make a cube of an ee.ImageCollection that the user has filtered, masked or computed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

import ee
import pandas as pd
import xarray as xr

from timo.checks import Count, PathLike, Positive, checked
from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.dates import make_open_span, make_span
from timo.sources.earthengine.images import (
    dates_there,
    ends_of,
    listing_of,
    millis,
    physical,
    read_listing,
    undated,
    valid_in_all,
    within,
)
from timo.sources.earthengine.opening import Options, cube_of
from timo.sources.earthengine.requests import Dated, ask, series_of
from timo.sources.request import CubeRequest, make_bands, make_composite, make_place, make_sensor
from timo.sources.retry import Retry
from timo.sources.scenes import no_image

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
# Arguments of Earth Engine's functions on collections that hold the images themselves.
_PASSED_ON = re.compile(r"collection[12]?|imageCollection|images|primary|input")


@checked(chunk_size="chunks")
def from_ee_image_collection(
    images: Annotated[
        ee.ImageCollection, "ee.ImageCollection([image, ...]) makes a collection of images."
    ],
    *,
    aoi: Any = None,
    resolution: Positive | None = None,
    crs: Any = None,
    like: Any = None,
    start: Any = None,
    end: Any = None,
    bands: str | Sequence[str] | None = None,
    sensor: str | Sensor | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    composite: Any = None,
    clip: bool = False,
    max_megapixels: Positive = 1000,
    project: str | None = None,
    service_account: PathLike | None = None,
    url: str | None = None,
    cache: bool | PathLike | None = True,
    chunks: Count = 256,
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
        By default all dates, and the resolution of the first image's first band; mosaics and composites have none.
    bands : sequence of str, optional
        Which bands, in which order; by default those of the first image. With `sensor` common names ("red") do, too.
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
        If an option makes no sense or the images are of another product than `sensor`, before any request; if there is
        no image of this place and time, or Earth Engine refuses.
    """
    instrument = Sensor("", "", (), 1.0, kind="other") if sensor is None else make_sensor(sensor)
    _check_product(images, instrument)
    if bands is not None:
        bands = _names(bands) if sensor is None else make_bands(instrument, bands)
    if scale == 0:
        raise TimoError(
            "scale=0 would make all values the same. Give another, as scale=1e-4, or leave it out."
        )
    composite = make_composite(composite)
    options = Options(None, False, project, service_account, url, cache, chunks, retry)
    make_span("1950" if start is None else start, "2200" if end is None else end)
    options.connect()
    found = ask(_facts(images), options.patience)
    if not found["first"]:
        raise TimoError("the collection holds no image: widen its dates, its area or its filters")
    names, finest = tuple(bands or found["first"][0]["bands"]), found["first"][0]["scale"]
    # Earth Engine gives one degree, 111 km, for images that are made of several
    # (developers.google.com/earth-engine/guides/projections).
    if finest > 111e3 and resolution is None and like is None:
        raise TimoError(
            "the images have no resolution of their own, as they are made of others (mosaics, composites): give "
            "resolution="
        )
    drawn = ask(aoi, options.patience) if isinstance(aoi, ee.ComputedObject) else aoi
    area, grid = make_place(
        drawn, resolution, crs, like, finest_m=finest, max_megapixels=max_megapixels
    )
    first, after = _when(start, end, found["times"])
    if sensor is not None:
        instrument.select(names)
    request = CubeRequest(
        area, grid, first, after, instrument, names, composite=composite, clip=clip
    )
    selected = within(images, request)
    listing = read_listing(ask(listing_of({"": selected}), options.patience), [""])
    if not listing.ids:
        raise no_image(request, f"in the whole collection {dates_there(*found['times'])}")
    days = listing.days(request)
    ends = zip(days, days + pd.Timedelta(1, "D"), strict=True)
    spans = [[millis(request.utc(begin)), millis(request.utc(end))] for begin, end in ends]

    def plain(image: Any) -> ee.Image:
        data = ee.Image(image).select(list(names))
        return physical(data, valid_in_all(data), scale, offset)

    def mosaic(span: Any) -> ee.Image:
        day = selected.filterDate(ee.List(span).get(0), ee.List(span).get(1))
        return day.sort("system:time_start").map(plain).mosaic()

    series = series_of(request, Dated(tuple(spans), mosaic, names), days, listing, chunks)
    remedy = f"The images were opened with scale={scale:g}, offset={offset:g}: give other ones"
    cube = cube_of(series, "Google Earth Engine, an ee.ImageCollection", options, remedy)
    if sensor is None:
        cube.attrs.pop("units", None)
        return cube.rename("value")
    return cube


def _check_product(images: ee.ImageCollection, sensor: Sensor) -> None:
    """Refuse images of a collection that is known to hold another product than the sensor's."""
    if sensor.name not in dict(_PRODUCTS).values():
        return
    plain = "If you have made them the same yourself, leave sensor= out: the cube is then of no known sensor"
    for name in sorted(source_ids(images)):
        if name in {"COPERNICUS/S2_SR", "COPERNICUS/S2"}:
            raise TimoError(
                f"The images are of {name}, whose digital numbers are 1,000 higher from 25 January 2022 on: take "
                f"{name}_HARMONIZED, which has the same images. {plain}"
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

    def resolve(node: dict[str, Any]) -> dict[str, Any]:
        while "valueReference" in node:
            node = graph["values"][node["valueReference"]]
        return node

    found, waiting = set(), [{"valueReference": graph["result"]}]
    while waiting:
        node = resolve(waiting.pop())
        waiting += node.get("arrayValue", {}).get("values", [])
        call = node.get("functionInvocationValue", {})
        arguments = call.get("arguments", {})
        waiting += [part for name, part in arguments.items() if _PASSED_ON.fullmatch(name)]
        if call.get("functionName") in {"ImageCollection.load", "Image.load"}:
            name = str(resolve(arguments["id"]).get("constantValue", ""))
            found.add(name.rpartition("/")[0] if call["functionName"] == "Image.load" else name)
    return found


def _facts(images: ee.ImageCollection) -> ee.Dictionary:
    """Return the question for the first image's bands and scale, in a list that may be empty, and the span of dates."""

    def describe(image: Any) -> ee.Dictionary:
        scale = ee.Image(image).select(0).projection().nominalScale()
        return ee.Dictionary({"bands": ee.Image(image).bandNames(), "scale": scale})

    # Earth Engine refuses questions about an image that is not there.
    return ee.Dictionary({"first": images.toList(1).map(describe), "times": ends_of(images)})


def _names(bands: str | Sequence[str]) -> tuple[str, ...]:
    """Return names of bands, which may be any."""
    names = (bands,) if isinstance(bands, str) else tuple(bands)
    if not names or not all(names) or len(set(names)) < len(names):
        raise TimoError(f"bands must name at least one band and each once; got {list(names)}")
    return names


def _when(start: Any, end: Any, found: list[int]) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the dates asked for, or those of the collection and a day around: solar days differ from those of UTC."""
    if found[0] is None:
        raise undated("the")
    # Seconds would all be of January 1970, microseconds beyond the year 30,000; 4.1e12 is in 2099.
    if 0 <= found[0] < 5e9 or found[1] > 4.1e12:
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
