"""The source "emulator": a cube through Earth Engine's client, without an account or a network."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import xarray as xr

from timo.errors import TimoError
from timo.sources.earthengine.connecting import connect
from timo.sources.earthengine.images import PROVIDER
from timo.sources.earthengine.opening import Cache, make_cache, open_earthengine
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
    request, orbit, cloud_score, chunks, retry
        See `timo.sources.earthengine.open_earthengine`.
    cache : bool or path, optional
        Whether to keep fetched chunks, or where; by default as long as this process lives, and never among those of
        Earth Engine itself. False and None keep nothing.

    Raises
    ------
    TimoError
        As `timo.sources.earthengine.open_earthengine`; and if the sample has no such sensor or band.
    """
    _check_held(request)
    cache = make_cache(cache)
    connect_emulator()
    options: dict[str, Any] = {
        "orbit": orbit,
        "cloud_score": cloud_score,
        "chunks": chunks,
        "retry": retry,
    }
    kept = _folder() if cache is True else cache
    return open_earthengine(request, url=emulator().url, cache=kept, **options)


def _check_held(request: CubeRequest) -> None:
    """Refuse sensors and bands that the sample lacks; say whether Earth Engine has them."""
    held = f"The emulator holds Sentinel-2, bands={list(sample.BANDS)}"
    served = any(collection.provider == PROVIDER for collection in request.sensor.collections)
    elsewhere = (
        '"earthengine" has it' if served else "Earth Engine has it not, as far as timo knows"
    )
    if request.sensor.name != "sentinel-2":
        raise TimoError(f"there is no {request.sensor.name} here. {held}; {elsewhere}")
    if missing := [band for band in request.bands if band not in sample.BANDS]:
        them = "it" if len(missing) == 1 else "them"
        raise TimoError(
            f'there is no {", ".join(missing)} here. {held}: give some of these; "earthengine" has {them}'
        )


def connect_emulator() -> None:
    """Connect Earth Engine's client to the emulator of this process, which is started if it does not run."""
    connect(url=emulator().url)


@cache
def emulator() -> Emulator:
    """Return the emulator of this process."""
    started = Emulator(sample_backing())
    started.start()
    atexit.register(started.close)
    return started


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="timo-emulator-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
