"""Open a cube from Earth Engine, lazily: dates are listed at once, pixels are fetched chunk by chunk when needed."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import ee
import numpy as np
import pandas as pd
import xarray as xr

from timo.cube import check_values
from timo.errors import TimoError
from timo.sensors import Collection
from timo.sources.cache import CachedArray, ChunkCache
from timo.sources.earthengine.connecting import base_url, connect
from timo.sources.earthengine.images import PROVIDER, filtered, prepared
from timo.sources.earthengine.listing import (
    Listing,
    dates_there,
    listing_of,
    periods_of,
    read_listing,
)
from timo.sources.earthengine.requests import (
    Chunks,
    Dated,
    PixelReader,
    ask,
    chunks_of,
    open_series,
)
from timo.sources.fetching import fetched_array
from timo.sources.request import CubeRequest, make_whole
from timo.sources.retry import Retry
from timo.sources.scenes import attribution, cube_of_days, no_image

# Whether to keep fetched chunks, or where.
Cache = bool | str | Path | None
N_VALID = "n_valid"
# Part of the key of the cache: with another number, chunks that were fetched before are not used any more.
_VERSION = 2


@dataclass(frozen=True)
class Series:
    """One image for each date of a cube, and how its pixels are cut into requests.

    `images` has one for each of `times`, with the bands of the request and, of a composite, "n_valid"; `days` are those
    on which there are images, which are in `listing`; each of `chunks` is one request.
    """

    request: CubeRequest
    images: Dated
    times: pd.DatetimeIndex
    days: pd.DatetimeIndex
    listing: Listing
    chunks: Chunks

    @functools.cached_property
    def key(self) -> str:
        """Return a digest of all that pixels depend on: graph, grid, service, images and their versions."""
        grid = self.request.grid
        facts = {
            "version": _VERSION,
            "service": base_url(),
            "graph": self.images.serialize(),
            "grid": [grid.crs, grid.left, grid.top, grid.resolution, *grid.shape],
            "images": [self.listing.ids, self.listing.versions],
            "chunks": self.chunks.sizes,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def open_earthengine(
    request: CubeRequest,
    *,
    orbit: str | None = None,
    cloud_score: bool | float = False,
    project: str | None = None,
    service_account: str | Path | None = None,
    url: str | None = None,
    cache: Cache = True,
    chunks: int = 256,
    retry: Retry | None = None,
) -> xr.DataArray:
    """Open a cube from Google Earth Engine, lazily: ``timo.open_cube("earthengine", aoi=..., ...)``.

    Images are listed once, and masked, scaled, mosaicked by day and composited on its servers; xee brings the pixels, a
    chunk at a time, of the images that were listed. What was fetched is kept in a cache on this machine, so that an
    interrupted fetch resumes, and a repeated one costs nothing; when an image was reprocessed, or a new one came in, it
    is fetched again.

    Parameters
    ----------
    request : CubeRequest
        The options that all sources share, see `timo.open_cube`.
    orbit : {"ascending", "descending"}, optional
        Only these passes (Sentinel-1).
    cloud_score : bool or float
        Mask by Cloud Score+ (Sentinel-2) in place of the clouds and shadows of the product's own layer: pixels with a
        score of less than this, 0..1; True takes the usual threshold (Pasquarella et al. 2023, CVPR Workshops).
    project : str, optional
        The Google Cloud project that is billed.
    service_account : path, optional
        JSON key of a service account; by default the credentials that ``ee.Authenticate()`` left.
    url : str, optional
        An Earth Engine elsewhere: the address of an emulator.
    cache : bool or path, optional
        Whether to keep fetched chunks (in the usual folder, see `timo.sources.cache`), or in which folder; False and
        None keep nothing.
    chunks : int
        Rows and columns of a chunk, about.
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
    (developers.google.com/earth-engine/guides/usage); a noncommercial project has a monthly limit of computation. When
    Earth Engine runs out of memory or time, smaller `chunks` help.

    Sentinel-1 is in decibels, without the noise along the borders of its scenes as far as ESA's toolbox finds it
    (datasets/catalog/COPERNICUS_S1_GRD, "GRD border noise removal"). Reflectances of Landsat below zero, over water and
    in shadow, are kept. Cloud Score+ is computed some time after an image came in.

    See Also
    --------
    timo.sources.earthengine.estimate : what it will cost, before anything is fetched
    timo.fetch : compute it, in parallel, with progress
    """
    make_whole(chunks, "chunks", "a number of pixels")
    retry, cache = make_retry(retry), make_cache(cache)
    connect(project, service_account=service_account, url=url)
    series = plan_series(request, orbit=orbit, cloud_score=cloud_score, chunks=chunks, retry=retry)
    served = request.sensor.collection(PROVIDER)
    cube = cube_of(series, f"Google Earth Engine, {', '.join(served.ids)}", cache, retry)
    if cloud_score is not False:
        cube.attrs["attribution"] += "; clouds by Cloud Score+, Google, CC BY 4.0"
    return cube


def plan_series(
    request: CubeRequest,
    *,
    orbit: str | None,
    cloud_score: bool | float,
    chunks: int,
    retry: Retry,
) -> Series:
    """List the images of a request, and cut the cube into requests."""
    served = request.sensor.collection(PROVIDER)
    score = _threshold(request, served, cloud_score)
    parts = filtered(request, served, orbit)
    listing = read_listing(ask(listing_of(parts), retry), list(parts))
    if not listing.ids:
        raise no_image(request, _seen(request, served, orbit, retry))
    days = listing.days(request)

    def mosaic(images: Any) -> ee.Image:
        masked = ee.List(images).map(lambda i: prepared(ee.Image(i), request, cloud_score=score))
        return ee.ImageCollection.fromImages(masked).mosaic()

    daily = Dated(tuple(listing.assets(days, request)), mosaic, request.bands)
    return series_of(request, daily, days, listing, chunks)


def _seen(request: CubeRequest, served: Collection, orbit: str | None, retry: Retry) -> str:
    """Return a phrase on the dates of the images, where there are none of those asked for."""
    always = replace(request, start=pd.Timestamp("1950"), end=pd.Timestamp("2200"))
    parts = filtered(always, served, orbit).values()
    ends = [
        [p.aggregate_min("system:time_start"), p.aggregate_max("system:time_start")] for p in parts
    ]
    times = [time for pair in ask(ee.List(ends), retry) for time in pair if time is not None]
    return dates_there(min(times, default=None), max(times, default=None))


def _threshold(request: CubeRequest, served: Collection, cloud_score: bool | float) -> float | None:
    """Return the least Cloud Score+ of a clear pixel; None if it is not used."""
    if cloud_score is False or cloud_score is None:
        return None
    if served.cloud_score is None:
        raise TimoError(f"there is no Cloud Score+ of {request.sensor.name}: leave cloud_score out")
    if cloud_score is True:
        return served.cloud_score.threshold
    if not isinstance(cloud_score, int | float) or not 0 <= cloud_score <= 1:
        raise TimoError(
            f"cloud_score is True, or a threshold from 0 to 1 ({served.cloud_score.threshold} is usual); "
            f"got {cloud_score!r}"
        )
    return float(cloud_score)


def series_of(
    request: CubeRequest, daily: Dated, days: pd.DatetimeIndex, listing: Listing, chunks: int
) -> Series:
    """Make one image a date or a period from images of days."""
    dated, times = (daily, days) if request.composite is None else _composited(daily, days, request)
    shape = (len(times), len(dated.bands), *request.grid.shape)
    cut = chunks_of(shape, chunks, _most_images(listing, days, request))
    return Series(request, dated, times, days, listing, cut)


def _most_images(listing: Listing, days: pd.DatetimeIndex, request: CubeRequest) -> int:
    """Return the most images that a date of the cube is made of."""
    date = days.get_indexer(request.solar_day(listing.times))
    if request.composite is not None:
        date = periods_of(days, request)[1][date]
    return int(np.bincount(date).max())


def _composited(
    daily: Dated, days: pd.DatetimeIndex, request: CubeRequest
) -> tuple[Dated, pd.DatetimeIndex]:
    """Make one image for each period that has a date: the median of each band, and the number of its valid days."""
    periods, number = periods_of(days, request)
    parts = tuple(
        [daily.sources[i] for i in np.flatnonzero(number == n)] for n in range(len(periods))
    )

    def median(part: Any) -> ee.Image:
        images = ee.ImageCollection.fromImages(ee.List(part).map(daily.make))
        count = images.select(0).count().unmask(0, False).rename(N_VALID)
        return images.median().rename(list(request.bands)).toFloat().addBands(count.toFloat())

    return Dated(parts, median, (*request.bands, N_VALID)), periods


def cube_of(
    series: Series, source: str, cache: Cache, retry: Retry, remedy: str = ""
) -> xr.DataArray:
    """Return the cube of a series, lazily; `remedy` is for values that cannot be what the sensor measures."""
    request = series.request
    opened = open_series(series.images, request.grid, series.chunks, retry)
    reader = PixelReader(opened, len(series.images.bands), base_url(), retry)
    values = fetched_array(
        reader,
        shape=series.chunks.shape,
        chunks=series.chunks.largest,
        cached=_cached(series, source, cache),
        name=f"earthengine-{series.key[:32]}",
    )
    bands = values[:, : len(request.bands)].map_blocks(
        _checked,
        request=request,
        times=series.times,
        remedy=remedy,
        dtype="float32",
        meta=values._meta,
        name=f"earthengine-checked-{series.key[:32]}",
    )
    cube = cube_of_days(replace(request, composite=None), bands, series.times, source)
    if "attribution" in cube.attrs:
        cube.attrs["attribution"] = attribution(request.sensor, series.days)
    if request.composite is None:
        return cube
    cube.attrs["composite"] = f"{request.composite} median"
    return cube.assign_coords(n_valid=(("time", "y", "x"), _counts(values)))


def _checked(
    block: np.ndarray,
    request: CubeRequest,
    times: pd.DatetimeIndex,
    remedy: str,
    block_info: dict[Any, Any] | None = None,
) -> np.ndarray:
    """Refuse values that cannot be what the sensor measures."""
    if not block_info:
        return block
    dates = times[slice(*block_info[0]["array-location"][0])].to_numpy()
    sensor = request.sensor if request.sensor.name else None
    try:
        check_values(block, sensor, request.bands, times=dates, call=False, part=True)
    except TimoError as error:
        raise TimoError(f"{error} {remedy}".strip()) from None
    return block


def _counts(values: da.Array) -> da.Array:
    return values[:, -1].map_blocks(
        lambda block: np.nan_to_num(block).astype("int16"), dtype="int16"
    )


def _cached(series: Series, source: str, cache: Cache) -> CachedArray | None:
    cache = make_cache(cache)
    if cache is False:
        return None
    kept = ChunkCache(None if cache is True else cache)
    grid = series.request.grid
    description = {
        "source": source,
        "layers": list(series.images.bands),
        "times": [f"{time:%Y-%m-%d}" for time in series.times],
        "crs": grid.crs,
        "bounds": list(grid.bounds),
    }
    return kept.array(
        series.key,
        series.chunks.shape,
        series.chunks.largest,
        "float32",
        description,
    )


def make_retry(retry: Any) -> Retry:
    """Return a Retry; the usual one for None."""
    if retry is None:
        return Retry()
    if not isinstance(retry, Retry):
        how = f"attempts={retry}" if isinstance(retry, int) and retry > 0 else "attempts=5"
        raise TimoError(
            f"retry takes a Retry, and not {retry!r}: from timo.sources.retry import Retry, then retry=Retry({how})"
        )
    return retry


def make_cache(cache: Any) -> bool | str | Path:
    """Return whether to keep fetched chunks, or where; None keeps nothing."""
    if cache is None:
        return False
    if isinstance(cache, bool | np.bool_):
        return bool(cache)
    if not (isinstance(cache, str | Path) and str(cache)):
        raise TimoError(
            f"the cache is a folder: give its path, or True or False (or None); got cache={cache!r}"
        )
    return cache
