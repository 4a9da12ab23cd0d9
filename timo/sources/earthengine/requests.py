"""Cut a cube into requests, and ask Earth Engine for them: through xee, patiently, with errors sorted."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import ee
import numpy as np
import pandas as pd
import xarray as xr

from timo.cube.composite import period_starts
from timo.errors import TimoError
from timo.sources.earthengine.connecting import base_url, without_client_retries
from timo.sources.earthengine.images import Listing
from timo.sources.request import CubeRequest
from timo.sources.retry import Retry

# Earth Engine refuses image:computePixels of more than 48 MiB, 32,768 pixels a side or 1,024 bands
# (https://developers.google.com/earth-engine/reference/rest/v1/projects.image/computePixels); by xee, a pixel counts
# with one byte for its mask.
REQUEST_BYTES = 48 * 2**20
_MASK_BYTES = 1
# A band in 32 bits whose masked pixels get a whole number may come in 64 ("the union of the input types").
_WIDEST_BYTES = 8
# Fewer than the 1,024 bands of a request: NumPy, with which the client reads a reply, refuses headers of more than
# 10,000 characters, some 450 bands; and with the bands grows the depth of the expression that xee makes.
_MOST_LAYERS = 256
# Images that a request is made of, unless one date of a composite takes more: each is named in it (of 10 MiB at most),
# masked, and held in memory while a median is computed.
_MOST_IMAGES = 1000
_BAND = "value"
N_VALID = "n_valid"
# Part of the key of the cache: with another number, chunks that were fetched before are not used any more.
_VERSION = 2


def chunk_of(shape: tuple[int, ...], size: int = 256, images: int = 1) -> tuple[int, ...]:
    """Return the shape of a chunk of (time, band, y, x): all bands, about `size` rows and columns, the dates that fit.

    It has up to half as many rows and columns again, so that no narrow strip is left over; `images` is the most that a
    date is made of. A TimoError if one date of such a chunk is more than Earth Engine sends at once.
    """
    dates, bands, height, width = shape
    rows, columns = (math.ceil(n / max(1, round(n / size))) for n in (height, width))
    if bands > _MOST_LAYERS:
        raise TimoError(f"{bands} bands are more than the {_MOST_LAYERS} of a request. Open fewer.")
    widest = bands * (_WIDEST_BYTES + _MASK_BYTES)
    if rows * columns * widest > REQUEST_BYTES:
        fits = math.isqrt(REQUEST_BYTES // widest)
        raise TimoError(
            f"One date of {bands} bands and {rows} x {columns} pixels may be {rows * columns * widest / 2**20:.0f} "
            f"MiB; Earth Engine sends at most {REQUEST_BYTES / 2**20:.0f}. Give chunks={int(fits / 1.5)} or less."
        )
    # Half of a request: a chunk is what is lost when it fails, and what is held in memory several times over.
    fit = REQUEST_BYTES // 2 // (bands * rows * columns * (np.float32().nbytes + _MASK_BYTES))
    most = max(1, min(fit, _MOST_LAYERS // bands, _MOST_IMAGES // max(1, images), dates))
    # Evenly: 14 dates of which 10 fit are 7 and 7.
    return math.ceil(dates / math.ceil(dates / most)), bands, rows, columns


@dataclass(frozen=True)
class Dated:
    """One image for each date of a cube.

    On Earth Engine, `make` makes each from one of `sources`: an image, a number, or a list of them; with these `bands`.
    """

    sources: tuple[Any, ...]
    make: Callable[[Any], ee.Image]
    bands: tuple[str, ...]

    def layers(self, first: int, after: int) -> ee.List:
        """Return images of one band, "value", of some dates: date by date, band by band.

        xee asks for one band of many images at a time, and the mask, which all bands share, would be computed for each:
        in this form all bands of a date come with one request.
        """

        def split(source: Any) -> ee.List:
            image = self.make(source)
            return ee.List(list(self.bands)).map(
                lambda band: image.select([band], [_BAND]).set("system:time_start", 0)
            )

        return ee.List(list(self.sources[first:after])).map(split).flatten()


class Layers(ee.ImageCollection):
    """A collection of the layers of all dates, of which a request holds only those that it is for.

    xee cuts out of a collection with `toList`, for which Earth Engine makes every image up to the last one that is
    wanted (developers.google.com/earth-engine/guides/best_practices, "Avoid converting to list unnecessarily"). Here
    the dates are known, and `toList` is answered with the graph of those that are asked for. As a collection, it is the
    first layer, repeated: xee looks at its size and the type of its bands when it opens it.
    """

    def __init__(self, dated: Dated) -> None:
        first = dated.layers(0, 1).get(0)
        super().__init__(ee.List.repeat(first, len(dated.sources) * len(dated.bands)))
        self.dated = dated

    def toList(self, count: Any, offset: Any = 0) -> ee.List:  # noqa: N802 - Earth Engine's name
        """Return layers from `offset` on, at most `count`."""
        bands = len(self.dated.bands)
        first, after = int(offset) // bands, -(-(int(offset) + int(count)) // bands)
        skipped = int(offset) - first * bands
        return self.dated.layers(first, after).slice(skipped, skipped + int(count))


@dataclass(frozen=True)
class Series:
    """One image for each date of a cube, and how its pixels are cut into requests.

    `images` has one for each of `times`, with the bands of the request and, of a composite, "n_valid"; `days` are those
    on which there are images, which are in `listing`; each `chunk` (time, band, y, x) is one request.
    """

    request: CubeRequest
    images: Dated
    times: pd.DatetimeIndex
    days: pd.DatetimeIndex
    listing: Listing
    chunk: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that is fetched: (time, band, y, x)."""
        return len(self.times), len(self.images.bands), *self.request.grid.shape

    @functools.cached_property
    def key(self) -> str:
        """Return a digest of all that pixels depend on: graph, grid, service, images and their versions."""
        grid = self.request.grid
        facts = {
            "version": _VERSION,
            "service": base_url(),
            "graph": str(self.images.layers(0, len(self.times)).serialize()),
            "grid": [grid.crs, grid.left, grid.top, grid.resolution, *grid.shape],
            "images": [self.listing.ids, self.listing.versions],
            "chunks": da.core.normalize_chunks(self.chunk, self.shape),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def series_of(
    request: CubeRequest, daily: Dated, days: pd.DatetimeIndex, listing: Listing, chunks: int
) -> Series:
    """Make one image a date, or a period, from images of days, and cut the cube into requests."""
    images, times = daily, days
    date = days.get_indexer(request.solar_day(listing.times))
    if request.composite is not None:
        starts = period_starts(days, request.composite, request.start)
        times = starts.unique()
        period = times.get_indexer(starts)
        images, date = _medians(daily, period, request.bands), period[date]
    shape = (len(times), len(images.bands), *request.grid.shape)
    chunk = chunk_of(shape, chunks, images=int(np.bincount(date).max()))
    return Series(request, images, times, days, listing, chunk)


def _medians(daily: Dated, period: np.ndarray, bands: Sequence[str]) -> Dated:
    """Make one image for each period, by its number for each day: medians, and the number of valid days."""
    days = [[daily.sources[i] for i in np.flatnonzero(period == n)] for n in np.unique(period)]

    def median(part: Any) -> ee.Image:
        images = ee.ImageCollection.fromImages(ee.List(part).map(daily.make))
        count = images.select(0).count().unmask(0, False).rename(N_VALID)
        return images.median().rename(list(bands)).toFloat().addBands(count.toFloat())

    return Dated(tuple(days), median, (*bands, N_VALID))


def ask(question: Any, retry: Retry) -> Any:
    """Return the value of an Earth Engine object, as ``getInfo()`` gives it; a TimoError if it refuses."""
    with without_client_retries():
        return retry.call(question.getInfo)


@dataclass(frozen=True)
class PixelReader:
    """Reads chunks of `series` (layer, y, x) as xee opened it at `url`, from any thread; a date has `bands` layers."""

    series: xr.DataArray
    bands: int
    url: str
    retry: Retry

    def __call__(self, _number: tuple[int, ...], slices: tuple[slice, ...]) -> np.ndarray:
        """Return a chunk (time, band, y, x) by its slices of the cube: float32, NaN where masked."""
        if base_url() != self.url:
            raise TimoError(
                f"This cube was opened on the Earth Engine at {self.url}, and another is connected now. Open it again."
            )
        time, _, rows, columns = slices
        layers = slice(time.start * self.bands, time.stop * self.bands)
        part = self.series[layers, rows, columns]
        with without_client_retries():
            values = self.retry.call(lambda: np.asarray(part.values))
        return values.reshape(-1, self.bands, *values.shape[1:]).astype("float32", copy=False)


def open_reader(series: Series, retry: Retry) -> PixelReader:
    """Open the bands of all dates with xee, lazily."""
    grid, (dates, bands, rows, columns) = series.request.grid, series.chunk
    options: dict[str, Any] = {
        "engine": "ee",
        "crs": grid.crs,
        "crs_transform": tuple(grid.transform)[:6],
        "shape_2d": (grid.width, grid.height),
        "io_chunks": {"index": dates * bands, "height": rows, "width": columns},
        # Whole, small and no reflectance, backscatter or index: a float image stays one of 32 bits, whereas xee's own
        # default makes it 64 and each request twice as large.
        "ee_mask_value": -9999,
        "request_byte_limit": REQUEST_BYTES,
        "mask_and_scale": False,
        "decode_times": False,
        "cache": False,
        "executor_kwargs": {"max_workers": 1},
        # Retried by timo: xee would try what cannot succeed again and again, too.
        "getitem_kwargs": {"max_retries": 0},
    }
    layers: Any = Layers(series.images)  # its backend takes them
    with without_client_retries():
        opened = retry.call(lambda: xr.open_dataset(layers, **options))[_BAND]
    return PixelReader(opened, bands, base_url(), retry)
