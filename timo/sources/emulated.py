"""The source "emulator": a cube through Earth Engine's client, without an account or a network."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache as once
from pathlib import Path

import xarray as xr

from timo.errors import TimoError
from timo.sources.earthengine.connecting import connect
from timo.sources.earthengine.images import PROVIDER
from timo.sources.earthengine.opening import Cache, check_fetching, open_earthengine
from timo.sources.request import CubeRequest
from timo.sources.retry import Retry
from timo.testing import sample
from timo.testing.earthengine import Emulator, sample_backing


def open_emulator(
    request: CubeRequest,
    *,
    orbit: str | None = None,
    cloud_score: bool | float = False,
    cache: Cache = True,
    chunks: int = 256,
    retry: Retry | None = None,
) -> xr.DataArray:
    """Open a cube from a small Earth Engine on this machine: ``timo.open_cube("emulator", aoi=..., ...)``.

    It speaks Earth Engine's protocol to Earth Engine's client, evaluates requests, and holds the sample: 140 images of
    Sentinel-2 (22.15 E, 45.21 N; 2015 to 2021; bands B2 B3 B4 B8 B8A B11), with a Cloud Score+ made up from their scene
    classification. Code that works here works with "earthengine".

    Parameters
    ----------
    request, orbit, cloud_score, cache, chunks, retry
        See `timo.sources.earthengine.open_earthengine`. By default fetched chunks are kept as long as this process
        lives, and never among those of Earth Engine itself.

    Raises
    ------
    TimoError
        As there, and if the sample has no such sensor or band.
    """
    lacks = [band for band in request.bands if band not in sample.BANDS]
    if request.sensor.name != "sentinel-2":
        lacks = [request.sensor.name]
    if lacks:
        served = PROVIDER in {collection.provider for collection in request.sensor.collections}
        there = (
            '"earthengine" has it' if served else "Earth Engine has it not, as far as timo knows"
        )
        raise TimoError(
            f"there is no {', '.join(lacks)} here. The emulator holds Sentinel-2, bands={list(sample.BANDS)}: give "
            f"some of these; {there}"
        )
    chunks, retry, cache = check_fetching(chunks, retry, cache)
    return open_earthengine(
        request,
        orbit=orbit,
        cloud_score=cloud_score,
        url=emulator().url,
        cache=_folder() if cache is True else cache,
        chunks=chunks,
        retry=retry,
    )


def connect_emulator() -> None:
    """Connect Earth Engine's client to the emulator of this process, which is started if it does not run."""
    connect(url=emulator().url)


@once
def emulator() -> Emulator:
    """Return the emulator of this process."""
    started = Emulator(sample_backing())
    started.start()
    atexit.register(started.close)
    return started


@once
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="timo-emulator-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
