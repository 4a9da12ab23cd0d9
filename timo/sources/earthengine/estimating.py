"""Estimate the cost of a cube from Earth Engine before a pixel is fetched."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from timo.sizes import size_text
from timo.sources.earthengine.connecting import connect
from timo.sources.earthengine.opening import Cache, make_cache, make_retry, plan_series
from timo.sources.options import unknown_option
from timo.sources.request import make_request, make_whole
from timo.sources.retry import Retry

# Rough, from reports on computePixels: the time to prepare an answer, and the rate at which it comes. How long masking
# and medians take on the servers is not known in advance.
_SECONDS_A_REQUEST = 1.5
_BYTES_A_SECOND = 10e6


@dataclass(frozen=True)
class Estimate:
    """The cost of fetching a whole cube.

    Images are those that are read on the servers; each chunk is one request for pixels; bytes come through the network
    and are the cube's size in memory (float32); seconds are rough, with `workers` requests at a time.
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

    @property
    def megapixels(self) -> float:
        """Million cells of a date."""
        return self.height * self.width / 1e6

    def __str__(self) -> str:
        return (
            f"{self.images:,} images on {self.dates:,} dates, {self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}; "
            f"{self.height:,} x {self.width:,} pixels, {self.bands} bands: {self.requests:,} requests, "
            f"{size_text(self.bytes)}, about {_time(self.seconds)} with {self.workers} at a time"
        )


def estimate(
    *,
    orbit: str | None = None,
    cloud_score: bool | float = False,
    project: str | None = None,
    service_account: str | Path | None = None,
    url: str | None = None,
    chunks: int = 256,
    workers: int = 8,
    retry: Retry | None = None,
    cache: Cache = True,
    **options: Any,
) -> Estimate:
    """Count what ``open_cube("earthengine", ...)`` with the same options would fetch. No pixel is fetched.

    The options are those of `timo.sources.earthengine.open_earthengine` and `timo.open_cube`; `workers` are requests at
    a time, as `timo.fetch` takes them. Chunks in the cache are not subtracted. One small request lists the images.

    Returns
    -------
    Estimate
        Print it. The seconds are rough; all else is counted.
    """
    # As it was called before; `open_cube` takes it, too.
    chunks = options.pop("chunk_size", chunks)
    shared = inspect.signature(make_request).parameters
    if unknown := [name for name in options if name not in shared]:
        own = [name for name in inspect.signature(estimate).parameters if name != "options"]
        raise unknown_option("earthengine", unknown[0], [*shared, *own], called="estimate")
    workers = make_whole(workers, "workers", "a number of requests at a time")
    make_whole(chunks, "chunks", "a number of pixels")
    retry, cache = make_retry(retry), make_cache(cache)
    request = make_request(**options)
    connect(project, service_account=service_account, url=url)
    series = plan_series(request, orbit=orbit, cloud_score=cloud_score, chunks=chunks, retry=retry)
    seconds = math.ceil(series.chunks.requests / workers) * _SECONDS_A_REQUEST
    return Estimate(
        images=len(series.listing.ids),
        dates=len(series.times),
        first=series.days[0],
        last=series.days[-1],
        height=request.grid.height,
        width=request.grid.width,
        bands=len(request.bands),
        requests=series.chunks.requests,
        bytes=series.chunks.bytes,
        seconds=max(seconds, series.chunks.bytes / _BYTES_A_SECOND),
        workers=workers,
    )


def _time(seconds: float) -> str:
    for unit, length in (("s", 60), ("min", 60), ("h", 24)):
        if seconds < 2 * length:
            return f"{seconds:.0f} {unit}"
        seconds /= length
    return f"{seconds:.0f} days"
