"""The source "emulator": a cube through Earth Engine's client, without an account or a network."""

from __future__ import annotations

import atexit
import tempfile
from functools import cache as once
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from timo.checks import Count, PathLike, Share, checked
from timo.errors import TimoError
from timo.sources.earthengine.connecting import connect
from timo.sources.earthengine.images import PROVIDER
from timo.sources.earthengine.opening import open_earthengine
from timo.sources.request import CubeRequest
from timo.sources.retry import Retry
from timo.sources.sample import BANDS


@checked(chunk_size="chunks")
def open_emulator(
    request: CubeRequest,
    *,
    orbit: Literal["ascending", "descending"] | None = None,
    cloud_score: bool | Share | None = False,
    cache: bool | PathLike | None = True,
    chunks: Count = 256,
    retry: Retry | None = None,
) -> xr.DataArray:
    """Open a cube from a small Earth Engine on this machine: ``timo.open_cube("emulator", aoi=..., ...)``.

    It speaks Earth Engine's protocol to Earth Engine's client, evaluates requests, and holds the sample: 140 images of
    Sentinel-2 (22.15 E, 45.21 N; 2015 to 2021; bands B2 B3 B4 B8 B8A B11), with a Cloud Score+ made up from their scene
    classification. Code that works here works with "earthengine".

    The options are those of `timo.sources.earthengine.open_earthengine`. By default fetched chunks are kept as long as
    this process lives, and never among those of Earth Engine itself.
    """
    name = request.sensor.name
    lacks = [b for b in request.bands if b not in BANDS] if name == "sentinel-2" else [name]
    if lacks:
        served = PROVIDER in {collection.provider for collection in request.sensor.collections}
        there = (
            '"earthengine" has it' if served else "Earth Engine has it not, as far as timo knows"
        )
        raise TimoError(
            f"there is no {', '.join(lacks)} here. The emulator holds Sentinel-2, bands={list(BANDS)}: give "
            f"some of these; {there}"
        )
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


def start_emulator(*, everywhere: bool = False) -> Any:
    """Start an `ee_emulator.Emulator` with the sample in it, at its `url` until its `close`.

    With `everywhere` the sample is spread over the whole Earth, so that every place has pixels.
    """
    # By name: the emulator is a package of its own, of which timo knows no more than it knows of Earth Engine.
    try:
        package = import_module("ee_emulator")
    except ModuleNotFoundError as error:
        if error.name != "ee_emulator":
            raise
        raise TimoError(
            "This installation of timo lacks its Earth Engine emulator (the package ee_emulator). Install timo again: "
            "pip install --force-reinstall --no-deps timo (in a checkout of its repository: pip install --no-deps -e .)"
        ) from error
    try:
        return package.Emulator(package.sample_backing(everywhere=everywhere)).start()
    except package.EmulatorError as error:
        raise TimoError(str(error)) from error


@once
def emulator() -> Any:
    """Return the emulator of this process (`start_emulator`), which is started when it is first asked for."""
    started = start_emulator()
    atexit.register(started.close)
    return started


@once
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="timo-emulator-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
