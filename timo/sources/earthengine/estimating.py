"""What a cube from Earth Engine will cost, before a pixel is fetched."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from timo.sizes import size_text
from timo.sources.earthengine.checking import Cache, make_cache, make_chunk_size, make_retry
from timo.sources.earthengine.connecting import connect
from timo.sources.earthengine.opening import plan_series
from timo.sources.options import unknown_option
from timo.sources.request import make_request, make_whole
from timo.sources.retry import Retry

# Rough, of what users report of computePixels: an answer takes a second and a half to prepare, and comes with so many
# bytes a second. How long masking and medians take on the servers nobody can tell in advance.
_SECONDS_A_REQUEST = 1.5
_BYTES_A_SECOND = 10e6


@dataclass(frozen=True)
class Estimate:
    """What fetching a whole cube takes.

    Attributes
    ----------
    images : int
        Images that are read on the servers.
    dates : int
        Dates of the cube.
    first, last : pandas.Timestamp
        The first and the last of them.
    height, width : int
        Rows and columns.
    bands : int
        Number of bands.
    requests : int
        Requests for pixels: one each chunk.
    bytes : int
        What comes through the network, and what the cube takes in memory: float32.
    seconds : float
        Roughly, with `workers` requests at a time.
    workers : int
        Requests at a time.
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
    chunk_size: int = 256,
    workers: int = 8,
    retry: Retry | None = None,
    cache: Cache = True,
    **options: Any,
) -> Estimate:
    """Tell what ``open_cube("earthengine", ...)`` with the same options would fetch. No pixel is fetched.

    Parameters
    ----------
    orbit, cloud_score, project, service_account, url, chunk_size, retry
        See `timo.sources.earthengine.open_earthengine`.
    workers : int
        Requests at a time, as `timo.fetch` takes them.
    cache : bool or path, optional
        So that the same options can be given; what is in the cache already is not taken off.
    **options
        See `timo.open_cube`.

    Returns
    -------
    Estimate
        Print it. The seconds are rough; all else is counted.

    Raises
    ------
    TimoError
        As `timo.open_cube`.

    Notes
    -----
    One small request lists the images.
    """
    shared = inspect.signature(make_request).parameters
    if unknown := [name for name in options if name not in shared]:
        own = [name for name in inspect.signature(estimate).parameters if name != "options"]
        raise unknown_option("earthengine", unknown[0], [*shared, *own], called="estimate")
    workers = make_whole(workers, "workers", "a number of requests at a time")
    retry, chunk_size = make_retry(retry), make_chunk_size(chunk_size)
    make_cache(cache)
    request = make_request(**options)
    connect(project, service_account=service_account, url=url)
    series = plan_series(
        request,
        orbit=orbit,
        cloud_score=cloud_score,
        chunk_size=chunk_size,
        retry=retry,
    )
    chunks = series.chunks
    seconds = math.ceil(chunks.requests / workers) * _SECONDS_A_REQUEST
    return Estimate(
        images=len(series.listing.ids),
        dates=len(series.times),
        first=series.days[0],
        last=series.days[-1],
        height=request.grid.height,
        width=request.grid.width,
        bands=len(request.bands),
        requests=chunks.requests,
        bytes=chunks.bytes,
        seconds=max(seconds, chunks.bytes / _BYTES_A_SECOND),
        workers=workers,
    )


def _time(seconds: float) -> str:
    for unit, length in (("s", 60), ("min", 60), ("h", 24)):
        if seconds < 2 * length:
            return f"{seconds:.0f} {unit}"
        seconds /= length
    return f"{seconds:.0f} days"
