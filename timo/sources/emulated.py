"""The source "emulator": Earth Engine's way to a cube, without an account and without a network."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache
from pathlib import Path

import xarray as xr

from timo.sources.earthengine.connecting import connect
from timo.sources.earthengine.opening import open_earthengine
from timo.sources.request import CubeRequest
from timo.sources.retry import Retry
from timo.testing.earthengine import Emulator, sample_backing


def open_emulator(
    request: CubeRequest,
    *,
    orbit: str | None = None,
    cloud_score: bool | float = False,
    cache: bool | str | Path = True,
    chunk_size: int = 256,
    retry: Retry | None = None,
) -> xr.DataArray:
    """Open a cube from a small Earth Engine on this machine: ``timo.open_cube("emulator", aoi=..., ...)``.

    It speaks Earth Engine's protocol to Earth Engine's client, evaluates what it is asked, and holds the sample: 140
    images of Sentinel-2 (22.15 E, 45.21 N; 2015 to 2021; bands B2 B3 B4 B8 B8A B11), with a Cloud Score+ made up from
    their scene classification. What works here works with "earthengine".

    Parameters
    ----------
    request, orbit, cloud_score, chunk_size, retry
        See `timo.sources.earthengine.open_earthengine`.
    cache : bool or path
        Whether to keep what was fetched, or where; by default as long as this process lives.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`, lazy.

    Raises
    ------
    TimoError
        As `timo.sources.earthengine.open_earthengine`.
    """
    connect_emulator()
    kept = _folder() if cache is True else cache
    return open_earthengine(
        request,
        orbit=orbit,
        cloud_score=cloud_score,
        url=emulator().url,
        cache=kept,
        chunk_size=chunk_size,
        retry=retry,
    )


def connect_emulator() -> None:
    """Connect Earth Engine's client to the emulator of this process, which is started if it does not run."""
    connect(url=emulator().url)


@cache
def emulator() -> Emulator:
    """The emulator of this process."""
    started = Emulator(sample_backing())
    started.start()
    atexit.register(started.close)
    return started


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="timo-emulator-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
