"""Cut a cube into requests, and ask Earth Engine for them: through xee, patiently, with errors sorted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ee
import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.sources.earthengine.connecting import base_url, without_client_retries
from timo.sources.place.grid import PixelGrid
from timo.sources.request import make_whole
from timo.sources.retry import Retry

# Earth Engine refuses image:computePixels of more than 48 MiB, 32,768 pixels a side or 1,024 bands
# (https://developers.google.com/earth-engine/reference/rest/v1/projects.image/computePixels); by xee, a pixel counts
# with one byte for its mask.
REQUEST_BYTES = 48 * 2**20
# Half of it: a chunk is what is lost when a request fails, and what is held in memory several times over.
_USUAL_BYTES = REQUEST_BYTES // 2
_BYTES, _MASK_BYTES = 4, 1
# A band in 32 bits whose masked pixels get a whole number may come in 64 ("the union of the input types").
_WIDEST_BYTES = 8
# Fewer than the 1,024 bands of a request: NumPy, with which the client reads a reply, refuses headers of more than
# 10,000 characters, some 450 bands; and with the bands grows the depth of the expression that xee makes.
_MOST_LAYERS = 256
# Images that a request is made of, unless one date of a composite takes more: each is named in it (of 10 MiB at most),
# masked, and held in memory while a median is computed.
_MOST_IMAGES = 1000
# A masked pixel's value in a reply. Whole, small and no reflectance, backscatter or index: a float image stays one of
# 32 bits, whereas xee's own default makes it 64 and each request twice as large.
_MASKED = -9999
_BAND = "value"


@dataclass(frozen=True)
class Chunks:
    """Sizes of the chunks of a cube along (time, band, y, x), as dask has them; one request each."""

    sizes: tuple[tuple[int, ...], ...]

    @property
    def requests(self) -> int:
        """Number of chunks."""
        return math.prod(len(sizes) for sizes in self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the cube."""
        return tuple(sum(sizes) for sizes in self.sizes)

    @property
    def largest(self) -> tuple[int, ...]:
        """Shape of the first, which is the largest."""
        return tuple(sizes[0] for sizes in self.sizes)

    @property
    def bytes(self) -> int:
        """Bytes of all of them, as float32."""
        return math.prod(self.shape) * _BYTES


def chunks_of(shape: tuple[int, int, int, int], size: int = 256, images: int = 1) -> Chunks:
    """Cut (time, band, y, x) into chunks of all bands, about `size` rows and columns, and the dates that then fit.

    A chunk has up to half as many rows and columns again, so that no narrow strip is left over; `images` is the most
    that a date is made of.

    Raises
    ------
    TimoError
        If the size is not a whole number, or one date of such a chunk is more than Earth Engine sends at once.
    """
    size = make_whole(size, "chunks", "a number of pixels")
    dates, bands, height, width = shape
    rows, columns = (math.ceil(n / max(1, round(n / size))) for n in (height, width))
    if bands > _MOST_LAYERS:
        raise TimoError(
            f"{bands} bands are more than the {_MOST_LAYERS} of a request: open fewer at a time"
        )
    date = bands * rows * columns * (_BYTES + _MASK_BYTES)
    widest = bands * (_WIDEST_BYTES + _MASK_BYTES)
    if rows * columns * widest > REQUEST_BYTES:
        fits = math.isqrt(REQUEST_BYTES // widest)
        raise TimoError(
            f"one date of {bands} bands and {rows} x {columns} pixels may be {rows * columns * widest / 2**20:.0f} "
            f"MiB; Earth Engine sends at most {REQUEST_BYTES / 2**20:.0f}: give chunks={int(fits / 1.5)} or less"
        )
    limits = (_USUAL_BYTES // date, _MOST_LAYERS // bands, _MOST_IMAGES // max(1, images), dates)
    # Evenly: 14 dates of which 10 fit are 7 and 7.
    step = math.ceil(dates / math.ceil(dates / max(1, min(limits))))
    steps = (step, bands, rows, columns)
    return Chunks(tuple(_cut(n, k) for n, k in zip(shape, steps, strict=True)))


def _cut(length: int, step: int) -> tuple[int, ...]:
    whole, rest = divmod(length, step)
    return (step,) * whole + ((rest,) if rest else ())


@dataclass(frozen=True)
class Dated:
    """One image for each date of a cube.

    On Earth Engine, `make` makes each from one of `sources`: an image, a number, or a list of them; with these `bands`.
    """

    sources: tuple[Any, ...]
    make: Callable[[Any], ee.Image]
    bands: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sources)

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

    def serialize(self) -> str:
        """Return the graph of all of it."""
        return str(self.layers(0, len(self)).serialize())


class Layers(ee.ImageCollection):
    """A collection of the layers of all dates, of which a request holds only those that it is for.

    xee cuts out of a collection with `toList`, for which Earth Engine makes every image up to the last one that is
    wanted (developers.google.com/earth-engine/guides/best_practices, "Avoid converting to list unnecessarily"). Here
    the dates are known, and `toList` is answered with the graph of those that are asked for. As a collection, it is the
    first layer, repeated: xee looks at its size and the type of its bands when it opens it.
    """

    def __init__(self, dated: Dated) -> None:
        first = dated.layers(0, 1).get(0)
        super().__init__(ee.List.repeat(first, len(dated) * len(dated.bands)))
        self.dated = dated

    def toList(self, count: Any, offset: Any = 0) -> ee.List:  # noqa: N802 - Earth Engine's name
        """Return layers from `offset` on, at most `count`."""
        bands = len(self.dated.bands)
        first, after = int(offset) // bands, -(-(int(offset) + int(count)) // bands)
        skipped = int(offset) - first * bands
        return self.dated.layers(first, after).slice(skipped, skipped + int(count))


def ask(question: Any, retry: Retry) -> Any:
    """Return the value of an Earth Engine object, as ``getInfo()`` gives it; a TimoError if it refuses."""
    with without_client_retries():
        return retry.call(question.getInfo)


@dataclass(frozen=True)
class PixelReader:
    """Reads chunks (time, band, y, x) of `Layers`; safe to call from many threads.

    `series` is (layer, y, x), lazy, as xee opened it at `url`, with `bands` layers of a date.
    """

    series: xr.DataArray
    bands: int
    url: str
    retry: Retry = field(default_factory=Retry)

    def __call__(self, _number: tuple[int, ...], slices: tuple[slice, ...]) -> np.ndarray:
        """Return the pixels of a chunk, by its slices of the cube: float32, NaN where masked."""
        if base_url() != self.url:
            raise TimoError(
                f"this cube was opened on the Earth Engine at {self.url}, and another is connected now: open it again"
            )
        time, _, rows, columns = slices
        layers = slice(time.start * self.bands, time.stop * self.bands)
        part = self.series[layers, rows, columns]
        with without_client_retries():
            values = self.retry.call(lambda: np.asarray(part.values))
        return values.reshape(-1, self.bands, *values.shape[1:]).astype("float32", copy=False)


def open_series(images: Dated, grid: PixelGrid, chunks: Chunks, retry: Retry) -> xr.DataArray:
    """Open the bands of all dates with xee: (layer, y, x), lazy."""
    dates, bands, rows, columns = chunks.largest
    options: dict[str, Any] = {
        "engine": "ee",
        "crs": grid.crs,
        "crs_transform": tuple(grid.transform)[:6],
        "shape_2d": (grid.width, grid.height),
        "io_chunks": {"index": dates * bands, "height": rows, "width": columns},
        "ee_mask_value": _MASKED,
        "request_byte_limit": REQUEST_BYTES,
        "mask_and_scale": False,
        "decode_times": False,
        "cache": False,
        "executor_kwargs": {"max_workers": 1},
        # Retried by timo: xee would try what cannot succeed again and again, too.
        "getitem_kwargs": {"max_retries": 0},
    }
    layers: Any = Layers(images)  # its backend takes them
    with without_client_retries():
        return retry.call(lambda: xr.open_dataset(layers, **options))[_BAND]
