"""Open a cube from Earth Engine, lazily, or estimate its cost: dates are listed, and pixels fetched when needed."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import dask.array as da
import ee
import numpy as np
import pandas as pd
import xarray as xr

from timo.checks import Count, PathLike, Share, checked
from timo.cube import check_values
from timo.errors import TimoError
from timo.sensors import Collection
from timo.sizes import size_text
from timo.sources.cache import ChunkCache
from timo.sources.earthengine.connecting import connect
from timo.sources.earthengine.images import (
    PROVIDER,
    dates_there,
    ends_of,
    filtered,
    listing_of,
    prepared,
    read_listing,
)
from timo.sources.earthengine.requests import Dated, Series, ask, open_reader, series_of
from timo.sources.fetching import fetched_array
from timo.sources.opening import unknown_option
from timo.sources.request import CubeRequest, make_request
from timo.sources.retry import Retry
from timo.sources.scenes import attribution, cube_of_days, no_image

# Rough, from reports on computePixels. How long masking and medians take on the servers is not known in advance.
_SECONDS_A_REQUEST = 1.5
_BYTES_A_SECOND = 10e6


@checked
@dataclass(frozen=True)
class Options:
    """The options of `open_earthengine` beside the request."""

    orbit: Literal["ascending", "descending"] | None = None
    cloud_score: bool | Share | None = False
    project: str | None = None
    service_account: PathLike | None = None
    url: str | None = None
    cache: bool | PathLike | None = True
    chunks: Count = 256
    retry: Retry | None = None

    def __post_init__(self) -> None:
        if self.cache == "":
            raise TimoError("cache is an empty text. Give the path of a folder, True or False.")

    @cached_property
    def patience(self) -> Retry:
        """One `Retry` for all requests: they share its pace."""
        return self.retry or Retry()

    def connect(self) -> None:
        """Connect to the Earth Engine that is meant."""
        connect(self.project, service_account=self.service_account, url=self.url)


@checked(chunk_size="chunks")
def open_earthengine(
    request: CubeRequest,
    *,
    orbit: Literal["ascending", "descending"] | None = None,
    cloud_score: bool | Share | None = False,
    project: str | None = None,
    service_account: PathLike | None = None,
    url: str | None = None,
    cache: bool | PathLike | None = True,
    chunks: Count = 256,
    retry: Retry | None = None,
) -> xr.DataArray:
    """Open a cube from Google Earth Engine, lazily: ``timo.open_cube("earthengine", aoi=..., ...)``.

    Images are listed once, and masked, scaled, mosaicked by day and composited on its servers; xee brings the pixels, a
    chunk at a time, of the images that were listed. What was fetched is kept in a cache on this machine, so that an
    interrupted fetch resumes, and a repeated one costs nothing; when an image was reprocessed, or a new one came in, it
    is fetched again. `timo.sources.earthengine.estimate` says what it will cost, `timo.fetch` computes it in parallel.

    Parameters
    ----------
    request : CubeRequest
        The options that all sources share, see `timo.open_cube`.
    orbit : {"ascending", "descending"}, optional
        Only these passes (Sentinel-1).
    cloud_score : bool or float
        Mask by Cloud Score+ (Sentinel-2) in place of the clouds and shadows of the product's own layer: pixels with a
        score of less than this, 0..1; True takes the usual threshold (Pasquarella et al. 2023, CVPR Workshops).
    project, service_account, url : str, optional
        See `timo.sources.earthengine.connect`.
    cache : bool or path, optional
        Whether to keep fetched chunks (in the usual folder, see `timo.sources.cache`), or in which folder; False and
        None keep nothing.
    chunks : int
        Rows and columns of a chunk, about. Fewer help when Earth Engine runs out of memory or time.
    retry : Retry, optional
        How patient to be when Earth Engine is busy or fails.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`, lazy; of composites with the coordinate `n_valid`.

    Raises
    ------
    TimoError
        If an option makes no sense, before any request; if Earth Engine refuses, or no image is there.

    Notes
    -----
    A project may have 40 requests under way at once, and make 6,000 in a minute, unless Google grants it more
    (developers.google.com/earth-engine/guides/usage); a noncommercial project has a monthly limit of computation.

    Sentinel-1 is in decibels, without the noise along the borders of its scenes as far as ESA's toolbox finds it
    (datasets/catalog/COPERNICUS_S1_GRD, "GRD border noise removal"). Reflectances of Landsat below zero, over water and
    in shadow, are kept. Cloud Score+ is computed some time after an image came in.
    """
    options = Options(orbit, cloud_score, project, service_account, url, cache, chunks, retry)
    series = plan_series(request, options)
    served = request.sensor.collection(PROVIDER)
    cube = cube_of(series, f"Google Earth Engine, {', '.join(served.ids)}", options)
    if cloud_score is not False and cloud_score is not None:
        cube.attrs["attribution"] += "; clouds by Cloud Score+, Google, CC BY 4.0"
    return cube


@checked
@dataclass(frozen=True)
class Estimate:
    """The cost of fetching a whole cube; print it.

    Images are those that are read on the servers; each chunk is one request for pixels; bytes come through the network
    and are the cube's size in memory (float32). Seconds are rough, with `workers` requests at a time.
    """

    images: int
    dates: int
    first: pd.Timestamp
    last: pd.Timestamp
    height: int
    width: int
    bands: int
    requests: int
    bytes: int
    seconds: float
    workers: int

    def __str__(self) -> str:
        return (
            f"{self.images:,} images on {self.dates:,} dates, {self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}; "
            f"{self.height:,} x {self.width:,} pixels, {self.bands} bands: {self.requests:,} requests, "
            f"{size_text(self.bytes)}, about {_time(self.seconds)} with {self.workers} at a time"
        )


@checked(chunk_size="chunks")
def estimate(*, workers: Count = 8, **options: Any) -> Estimate:
    """Count what ``open_cube("earthengine", ...)`` with the same options would fetch. No pixel is fetched.

    One small request lists the images. Chunks in the cache are not subtracted.

    Parameters
    ----------
    workers : int
        Requests at a time, as `timo.fetch` takes them.
    **options
        Those of `timo.open_cube` and `timo.sources.earthengine.open_earthengine`.
    """
    shared = inspect.signature(make_request).parameters
    taken = [*shared, *(field.name for field in fields(Options)), "workers"]
    if unknown := [name for name in options if name not in taken]:
        raise unknown_option("earthengine", unknown[0], taken, called="estimate")
    request = make_request(**{name: options.pop(name) for name in shared if name in options})
    series = plan_series(request, Options(**options))
    dates, _, height, width = series.shape
    requests = math.prod(-(-n // k) for n, k in zip(series.shape, series.chunk, strict=True))
    size = 4 * math.prod(series.shape)
    seconds = math.ceil(requests / workers) * _SECONDS_A_REQUEST
    return Estimate(
        images=len(series.listing.ids),
        dates=dates,
        first=series.days[0],
        last=series.days[-1],
        height=height,
        width=width,
        bands=len(request.bands),
        requests=requests,
        bytes=size,
        seconds=max(seconds, size / _BYTES_A_SECOND),
        workers=workers,
    )


def _time(seconds: float) -> str:
    for unit, length in (("s", 60), ("min", 60), ("h", 24)):
        if seconds < 2 * length:
            return f"{seconds:.0f} {unit}"
        seconds /= length
    return f"{seconds:.0f} days"


def plan_series(request: CubeRequest, options: Options) -> Series:
    """List the images of a request, and cut the cube into requests."""
    options.connect()
    served, orbit, retry = request.sensor.collection(PROVIDER), options.orbit, options.patience
    score = _threshold(request, served, options.cloud_score)
    parts = filtered(request, served, orbit)
    listing = read_listing(ask(listing_of(parts), retry), parts)
    if not listing.ids:
        always = replace(request, start=pd.Timestamp("1950"), end=pd.Timestamp("2200"))
        ends = [ends_of(images) for images in filtered(always, served, orbit).values()]
        times = [time for pair in ask(ee.List(ends), retry) for time in pair if time is not None]
        seen = dates_there(min(times, default=None), max(times, default=None))
        raise no_image(request, seen)
    days = listing.days(request)
    # By their ids, so that no request for pixels searches the collection again, and none can find other images than
    # were listed.
    at = days.get_indexer(request.solar_day(listing.times))
    assets = [[ee.Image(listing.ids[i]) for i in np.flatnonzero(at == n)] for n in range(len(days))]

    def mosaic(images: Any) -> ee.Image:
        masked = ee.List(images).map(lambda i: prepared(ee.Image(i), request, cloud_score=score))
        return ee.ImageCollection.fromImages(masked).mosaic()

    return series_of(
        request, Dated(tuple(assets), mosaic, request.bands), days, listing, options.chunks
    )


def _threshold(request: CubeRequest, served: Collection, cloud_score: float | None) -> float | None:
    """Return the least Cloud Score+ of a clear pixel; None if it is not used."""
    if cloud_score is False or cloud_score is None:
        return None
    if served.cloud_score is None:
        raise TimoError(f"There is no Cloud Score+ of {request.sensor.name}. Leave cloud_score out")
    return served.cloud_score.threshold if cloud_score is True else cloud_score


def cube_of(series: Series, source: str, options: Options, remedy: str = "") -> xr.DataArray:
    """Return the cube of a series, lazily; `remedy` is for values that cannot be what the sensor measures."""
    request, grid, name = series.request, series.request.grid, f"earthengine-{series.key[:32]}"
    cached, cache = None, options.cache
    if cache is not None and cache is not False:
        description = {
            "source": source,
            "layers": list(series.images.bands),
            "times": [f"{time:%Y-%m-%d}" for time in series.times],
            "crs": grid.crs,
            "bounds": list(grid.bounds),
        }
        kept = ChunkCache(None if cache is True else cache)
        cached = kept.array(series.key, series.shape, series.chunk, "float32", description)
    values = fetched_array(
        open_reader(series, options.patience),
        shape=series.shape,
        chunks=series.chunk,
        cached=cached,
        name=name,
    )
    bands = values[:, : len(request.bands)].map_blocks(
        _checked,
        request=request,
        times=series.times,
        remedy=remedy,
        dtype="float32",
        meta=values._meta,
        name=f"{name}-checked",
    )
    cube = cube_of_days(replace(request, composite=None), bands, series.times, source)
    if "attribution" in cube.attrs:
        cube.attrs["attribution"] = attribution(request.sensor, series.days)
    if request.composite is None:
        return cube
    cube.attrs["composite"] = f"{request.composite} median"
    counts = da.nan_to_num(values[:, -1]).astype("int16")
    return cube.assign_coords(n_valid=(("time", "y", "x"), counts))


def _checked(
    block: np.ndarray,
    request: CubeRequest,
    times: pd.DatetimeIndex,
    remedy: str,
    block_info: dict[Any, Any] | None = None,
) -> np.ndarray:
    """Refuse values that cannot be what the sensor measures."""
    assert block_info
    dates = times[slice(*block_info[0]["array-location"][0])].to_numpy()
    sensor = request.sensor if request.sensor.name else None
    try:
        check_values(block, sensor, request.bands, times=dates, call=False, part=True)
    except TimoError as error:
        raise TimoError(f"{error} {remedy}".strip()) from None
    return block
