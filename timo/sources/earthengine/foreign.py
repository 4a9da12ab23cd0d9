"""A cube of images that somebody has made on Earth Engine already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ee
import pandas as pd
import xarray as xr

from timo.errors import TimoError
from timo.sensors import Sensor, get_sensor
from timo.sources.earthengine.connecting import connect
from timo.sources.earthengine.dates import (
    days_of,
    listing_of,
    millis,
    read_listing,
    spans_of_days,
    undated,
)
from timo.sources.earthengine.layers import Dated
from timo.sources.earthengine.opening import cube_of, series_of
from timo.sources.earthengine.pixels import ask
from timo.sources.request import CubeRequest, make_composite, make_place, make_span
from timo.sources.retry import Retry
from timo.sources.scenes import no_image

# A little less than a degree.
_DEGREE_M = 111_000


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
    sensor: str | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    composite: str | None = None,
    clip: bool = False,
    max_megapixels: float = 1000,
    project: str | None = None,
    service_account: str | Path | None = None,
    url: str | None = None,
    cache: bool | str | Path = True,
    chunk_size: int = 256,
    retry: Retry | None = None,
) -> xr.DataArray:
    """Make a cube of an ``ee.ImageCollection``, lazily: for people who have filtered, masked and computed their own.

    Its masks are taken as they are: what is masked in one band is NaN in all. The images of a day are mosaicked.

    Parameters
    ----------
    images : ee.ImageCollection
        With `system:time_start`. All images have the bands.
    aoi, resolution, crs, like, start, end, composite, clip, max_megapixels
        As in `timo.open_cube`; `aoi` may be an ``ee.Geometry``, an ``ee.Feature`` or the ``user_roi`` of a geemap map.
        Without start and end all dates are taken; without a resolution, that of the first image's first band, which
        mosaics and composites have none of.
    bands : sequence of str, optional
        Which bands; by default those of the first image.
    sensor : str, optional
        What `attrs["sensor"]` is to say; its band names are then those of the cube.
    scale, offset : float
        Value of the cube = value of the image x scale + offset, e.g. 1e-4 for digital numbers of Sentinel-2.
    project, service_account, url, cache, chunk_size, retry
        See `timo.sources.earthengine.open_earthengine`.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`, lazy.

    Raises
    ------
    TimoError
        If it is no image collection, holds no image there and then, or Earth Engine refuses.
    """
    if not isinstance(images, ee.ImageCollection):
        raise TimoError(
            f"images must be an ee.ImageCollection; got {type(images).__name__}. Use ee.ImageCollection([image, ...])"
        )
    connect(project, service_account=service_account, url=url)
    retry = retry or Retry()
    found = ask(_facts(images), retry)
    if not found["first"]:
        raise TimoError("the collection holds no image: widen its dates, its area or its filters")
    first_image = found["first"][0]
    names = tuple(bands) if bands is not None else tuple(first_image["bands"])
    drawn = ask(aoi, retry) if isinstance(aoi, ee.ComputedObject) else aoi
    finest = _finest(first_image["scale"], given=resolution is not None or like is not None)
    area, grid = make_place(
        drawn, resolution, crs, like, finest_m=finest, max_megapixels=max_megapixels
    )
    first, after = _when(start, end, found["times"])
    instrument = Sensor("", "", (), 1.0, "") if sensor is None else get_sensor(sensor)
    if sensor is not None:
        instrument.select(names)
    request = CubeRequest(
        area,
        grid,
        first,
        after,
        instrument,
        names,
        composite=make_composite(composite),
        clip=clip,
    )
    begin, finish = (millis(request.utc(t)) for t in (request.start, request.end))
    selected = images.filterDate(begin, finish).filterBounds(ee.Geometry(area.geojson, None, False))
    listing = read_listing(ask(listing_of({"": selected}), retry), [""])
    if not listing.ids:
        raise no_image(request, "none at all")
    days = days_of(listing, request)

    def mosaic(span: Any) -> ee.Image:
        within = selected.filterDate(ee.List(span).get(0), ee.List(span).get(1))
        day = within.sort("system:time_start")
        return day.map(lambda image: _plain(ee.Image(image), names, scale, offset)).mosaic()

    daily = Dated(tuple(spans_of_days(days, request)), mosaic, names)
    series = series_of(request, daily, days, listing, chunk_size)
    cube = cube_of(series, "Google Earth Engine, an ee.ImageCollection", cache, retry)
    return cube if sensor is not None else cube.rename("value")


def _facts(images: ee.ImageCollection) -> ee.Dictionary:
    """What must be known of the collection: its bands, its scale and its span of dates; no `first` if it is empty."""

    def describe(image: Any) -> ee.Dictionary:
        band = ee.Image(image).select(0)
        names = ee.Image(image).bandNames()
        return ee.Dictionary({"bands": names, "scale": band.projection().nominalScale()})

    # A list of one or none: what is asked of an image that is not there, Earth Engine refuses.
    return ee.Dictionary(
        {
            "first": images.toList(1).map(describe),
            "times": [
                images.aggregate_min("system:time_start"),
                images.aggregate_max("system:time_start"),
            ],
        }
    )


def _finest(scale: float, *, given: bool) -> float:
    """The pixels of an image in metres.

    Of what is made of several images Earth Engine says that they are of one degree
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
    """The dates asked for, or those of the collection and a day around: solar days differ from those of UTC."""
    if found[0] is None:
        raise undated("the")
    day = pd.Timedelta(days=1)
    low, high = (pd.Timestamp(ms, unit="ms").floor("D") for ms in found)
    if start is None and end is None:
        return low - day, high + 2 * day
    return make_span(low if start is None else start, high if end is None else end)
