"""How a cube is cut into requests."""

from __future__ import annotations

import math
from dataclasses import dataclass

from timo.errors import TimoError
from timo.sources.earthengine.checking import make_chunk_size

# Earth Engine refuses image:computePixels of more than 48 MiB, 32,768 pixels a side or 1,024 bands
# (https://developers.google.com/earth-engine/reference/rest/v1/projects.image/computePixels); by xee, a pixel counts
# with one byte for its mask.
REQUEST_BYTES = 48 * 2**20
# Half of it: a chunk is what is lost when a request fails, and what is held in memory several times over.
_USUAL_BYTES = REQUEST_BYTES // 2
_BYTES = 4
_MASK_BYTES = 1
# A band in 32 bits whose masked pixels get a whole number may come in 64: of the type of such a union the documentation
# says no more than "the union of the input types". A request must do either way.
_WIDEST_BYTES = 8
# Fewer than the 1,024 bands of a request. The client reads a reply with NumPy, which refuses headers of more than
# 10,000 characters (numpy.load, `max_header_size`): some 450 bands. And xee puts bands together one upon another, so
# that with their number grows the depth of the expression that Earth Engine computes.
_MOST_LAYERS = 256
# Images that a request is made of, unless one date of a composite takes more: each is named in it (of 10 MiB at most),
# masked, and held in memory while a median is computed.
_MOST_IMAGES = 1000


@dataclass(frozen=True)
class Chunks:
    """Sizes of the chunks of a cube, one request each.

    Attributes
    ----------
    sizes : tuple of tuples of int
        Of each chunk along (time, band, y, x), as dask has them.
    """

    sizes: tuple[tuple[int, ...], ...]

    @property
    def requests(self) -> int:
        """How many there are."""
        return math.prod(len(sizes) for sizes in self.sizes)

    @property
    def largest(self) -> tuple[int, ...]:
        """Shape of the first, which is the largest."""
        return tuple(sizes[0] for sizes in self.sizes)

    @property
    def bytes(self) -> int:
        """What all of them hold, as float32."""
        return math.prod(sum(sizes) for sizes in self.sizes) * _BYTES


def chunks_of(shape: tuple[int, int, int, int], size: int = 256, images: int = 1) -> Chunks:
    """Cut (time, band, y, x) into chunks of all bands, about so many rows and columns, and the dates that then fit.

    Parameters
    ----------
    shape : tuple of int
        Of the cube.
    size : int
        Rows and columns of a chunk; up to half as many again, so that no narrow strip is left over.
    images : int
        How many a date is made of, at most.

    Raises
    ------
    TimoError
        If the size is no whole number, or one date of such a chunk is more than Earth Engine sends at once.
    """
    size = make_chunk_size(size)
    dates, bands, height, width = shape
    rows, columns = (math.ceil(n / max(1, round(n / size))) for n in (height, width))
    if bands > _MOST_LAYERS:
        raise TimoError(
            f"{bands} bands are more than the {_MOST_LAYERS} of a request: open some at a time"
        )
    date = bands * rows * columns * (_BYTES + _MASK_BYTES)
    widest = bands * (_WIDEST_BYTES + _MASK_BYTES)
    if rows * columns * widest > REQUEST_BYTES:
        fits = math.isqrt(REQUEST_BYTES // widest)
        raise TimoError(
            f"one date of {bands} bands and {rows} x {columns} pixels may be {rows * columns * widest / 2**20:.0f} "
            f"MiB; Earth Engine sends at most {REQUEST_BYTES / 2**20:.0f}: give chunk_size={int(fits / 1.5)} or less"
        )
    limits = (_USUAL_BYTES // date, _MOST_LAYERS // bands, _MOST_IMAGES // max(1, images), dates)
    fitting = max(1, min(limits))
    # Evenly: 14 dates of which 10 fit are 7 and 7.
    step = math.ceil(dates / math.ceil(dates / fitting))
    return Chunks(
        tuple(
            _cut(n, k) for n, k in ((dates, step), (bands, bands), (height, rows), (width, columns))
        )
    )


def _cut(length: int, step: int) -> tuple[int, ...]:
    whole, rest = divmod(length, step)
    return (step,) * whole + ((rest,) if rest else ())
