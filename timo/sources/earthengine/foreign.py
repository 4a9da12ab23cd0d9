"""A cube of images that somebody has made on Earth Engine already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pandas as pd
import xarray as xr

from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.earthengine.checking import (
    Cache,
    dates_there,
    make_cache,
    make_chunk_size,
    make_factor,
    make_retry,
)
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
from timo.sources.request import (
    CubeRequest,
    make_bands,
    make_clip,
    make_composite,
    make_place,
    make_sensor,
)
from timo.sources.retry import Retry
from timo.sources.scenes import no_image
from timo.sources.span import make_open_span, make_span

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
    cache: Cache = True,
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
        Which bands, in which order; by default those of the first image. One may be given as it is, "B4". With `sensor`
        common names ("red") do, too.
    sensor : str, optional
        What `attrs["sensor"]` is to say; its band names are then those of the cube.
    scale, offset : float
        Value of the cube = value of the image x scale + offset, e.g. scale=1e-4 for digital numbers of Sentinel-2.
    project, service_account, url, cache, chunk_size, retry
        See `timo.sources.earthengine.open_earthengine`.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`, lazy.

    Raises
    ------
    TimoError
        If it is no image collection, or another option makes no sense: before anything is asked. If it holds no image
        there and then, or Earth Engine refuses.
    """
    if not isinstance(images, ee.ImageCollection):
        raise TimoError(
            f"images must be an ee.ImageCollection; got {type(images).__name__}. Use ee.ImageCollection([image, ...])"
        )
    instrument = Sensor("", "", (), 1.0, "") if sensor is None else make_sensor(sensor)
    chosen = None if bands is None else _chosen(bands, None if sensor is None else instrument)
    scale, offset = make_factor(scale, "scale"), make_factor(offset, "offset")
    clip, composite = make_clip(clip), make_composite(composite)
    retry, chunk_size = make_retry(retry), make_chunk_size(chunk_size)
    cache = make_cache(cache)
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
        area,
        grid,
        first,
        after,
        instrument,
        names,
        composite=composite,
        clip=clip,
    )
    begin, finish = (millis(request.utc(t)) for t in (request.start, request.end))
    selected = images.filterDate(begin, finish).filterBounds(ee.Geometry(area.geojson, None, False))
    listing = read_listing(ask(listing_of({"": selected}), retry), [""])
    if not listing.ids:
        raise no_image(request, f"in the whole collection {dates_there(*found['times'])}")
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


def _chosen(bands: Any, sensor: Sensor | None) -> tuple[str, ...]:
    """Names of bands that are asked for; without a sensor they may be any."""
    if sensor is not None:
        return make_bands(sensor, bands)
    names = (bands,) if isinstance(bands, str) else bands
    listed = isinstance(names, Sequence | np.ndarray) and not isinstance(names, bytes)
    if not listed or not all(isinstance(name, str) and name for name in names):
        raise TimoError(f'bands must be a list of names, as ["B4", "B8"]; got {bands!r}')
    if not len(names) or len(set(names)) < len(names):
        raise TimoError(f"bands must name at least one band and each once; got {list(names)}")
    return tuple(map(str, names))


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
    low, high = (pd.Timestamp(ms, unit="ms").floor("D") for ms in found)
    day = pd.Timedelta(days=1)
    first, after = make_open_span(start, end, low - day, high + day)
    if first > high + day or after < low:
        raise TimoError(
            f"no image between start={start!r} and end={end!r}: those of the collection are of {low:%Y-%m-%d} to "
            f"{high:%Y-%m-%d}. Widen the dates, or those of the collection"
        )
    return first, after
