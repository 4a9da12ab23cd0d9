"""The sample as Earth Engine would serve it: Sentinel-2 over a forest in Romania, and a Cloud Score+ made up for it.

The pixels are those of the package `nrt` (release 0.2.1; European Union, Joint Research Centre; EUPL-1.2), which hold a
day and no more of each image. What a catalogue of satellite images says besides is set here, once.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .backing import BackedBand, BackedImage, Backing
from .errors import EmulatorError
from .grid import Grid, Projection

SENTINEL_2 = "COPERNICUS/S2_SR_HARMONIZED"
CLOUD_SCORE_PLUS = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
BANDS_10M = ("B2", "B3", "B4", "B8")
BANDS_20M = ("B8A", "B11")
BANDS = (*BANDS_10M, *BANDS_20M)
QUALITY = "SCL"
CRS = "EPSG:3035"
TILE = "34TER"
# The numbers carry no offset, as those of all baselines before 04.00. Which one it was, the files do not say.
BASELINE = "03.01"
# Sentinel-2 crosses the Equator at half past ten of local solar time, and this place a little later.
_TIME_OF_DAY = pd.Timedelta("9h30min")
_CLOUDS = (8, 9, 10)
# A cell of the periodic store: as long as 10 m of the equator.
_PERIODIC = Projection(
    "EPSG:4326", (10 / 111_319.49079327358, 0.0, -180.0, 0.0, -10 / 111_319.49079327358, 90.0)
)
# How much of the ground is seen through each class of the scene classification, 0..1, in the order of the codes 0..11:
# made up, as there is no Cloud Score+ in the sample.
_SEEN = (0.0, 0.5, 0.7, 0.35, 0.95, 0.95, 0.9, 0.6, 0.3, 0.05, 0.45, 0.6)


@cache
def _series(resolution: int) -> xr.Dataset:
    """Read the digital numbers at 10 or 20 m, in order of time."""
    spec = find_spec("nrt") if find_spec("netCDF4") else None
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "data" / f"sentinel2_cube_subset_romania_{resolution}m.nc"
        if path.is_file():
            with xr.open_dataset(path, engine="netcdf4", decode_coords="all") as dataset:
                return dataset.load().sortby("time")
    raise EmulatorError(
        'The sample data are not installed. Install them: pip install "nrt==0.2.1" netCDF4; only this release of nrt '
        "ships them."
    )


def scene_times() -> pd.DatetimeIndex:
    """Return when the 140 scenes were taken, in UTC, without a time zone, ascending."""
    return pd.DatetimeIndex(_series(10).time.values + _TIME_OF_DAY, name="time")


def platforms() -> tuple[str, ...]:
    """Return the satellite of each scene: "sentinel-2a" every ten days, "sentinel-2b" in between from June 2017 on."""
    times = scene_times()
    days = (times - times[0]).days
    return tuple("sentinel-2a" if day % 10 == 0 else "sentinel-2b" for day in days)


def scene_ids() -> tuple[str, ...]:
    """Return the `system:index` of each scene, e.g. "20150801T093000_20150801T093000_T34TER"."""
    return tuple(f"{t:%Y%m%dT%H%M%S}_{t:%Y%m%dT%H%M%S}_T{TILE}" for t in scene_times())


def cloud_percent() -> np.ndarray:
    """Return the share of each scene's 10 m pixels that are cloud or cirrus (SCL 8, 9, 10), (140,), percent."""
    clouds = np.isin(numbers(QUALITY), _CLOUDS)
    return np.round(100 * clouds.mean(axis=(1, 2)), 6)


def resolution_m(band: str) -> int:
    """Return the size of the cells that a band, or "SCL", has in the files, 10 or 20 m.

    Raises
    ------
    EmulatorError
        If the sample has no such band.
    """
    if band in (*BANDS_10M, QUALITY):
        return 10
    if band in BANDS_20M:
        return 20
    raise EmulatorError(f"The sample has no band {band!r}. It has: {', '.join((*BANDS, QUALITY))}.")


@cache
def numbers(band: str) -> np.ndarray:
    """Return the digital numbers of a band, or of "SCL", in all scenes.

    Parameters
    ----------
    band : str
        Its name in the collection.

    Returns
    -------
    numpy.ndarray
        (140, y, x): 100 x 100 cells of 10 m or 50 x 50 of 20 m (`sample_grid(resolution_m(band))`), rows from north to
        south; uint16 reflectance x 10,000, 0 = no data; uint8 for "SCL". Not to be written to.

    Raises
    ------
    EmulatorError
        If the sample has no such band.
    """
    values = _series(resolution_m(band))[band].values
    whole = values.astype("uint8" if band == QUALITY else "uint16")
    whole.flags.writeable = False
    return whole


def sample_grid(resolution: int = 10) -> Grid:
    """Return the cells of the files: 1 km x 1 km in EPSG:3035, not aligned to multiples of the resolution."""
    series = _series(resolution)
    left = float(series.x.values[0]) - resolution / 2
    top = float(series.y.values[0]) + resolution / 2
    at = Projection(CRS, (float(resolution), 0.0, left, 0.0, -float(resolution), top))
    return Grid(at, series.sizes["x"], series.sizes["y"])


def sample_backing(*, everywhere: bool = False) -> Backing:
    """Return the sample as collections of Earth Engine.

    "COPERNICUS/S2_SR_HARMONIZED" holds the 140 dates of the sample as images with the bands B2 B3 B4 B8 (10 m), B8A B11
    (20 m) and SCL (10 m), digital numbers as uint16, EPSG:3035, ids and properties in the form of the true ones.
    The time of day (09:30 UTC on each), the satellite, the tile and the processing baseline are set in this module.
    CLOUDY_PIXEL_PERCENTAGE is that of the sample's SCL, and not of a whole tile.
    "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED" has the bands `cs` and `cs_cdf` under the same indices, made up from the
    SCL: one number for each class.

    Parameters
    ----------
    everywhere : bool
        Spread the sample over the whole Earth, mirrored at each of its edges, on a grid of 10 m of the equator in
        longitude and latitude: any place has pixels.

    Returns
    -------
    Backing
        To be given to `Emulator`.

    Raises
    ------
    EmulatorError
        If the sample data are not installed.
    """
    at = _PERIODIC if everywhere else sample_grid(10).projection
    facts = list(zip(scene_ids(), scene_times(), platforms(), cloud_percent(), strict=True))
    images, scores = [], []
    for scene, (index, time, platform, cloud) in enumerate(facts):
        scl = numbers(QUALITY)[scene]
        seen = BackedBand(np.array(_SEEN, dtype="float32")[scl], at.transform[0])
        properties = _properties(time, platform, float(cloud), scl)
        place = (index, _millis(time), _millis(time), at.crs, at.transform)
        bands = {name: _band(name, scene, at) for name in (*BANDS, QUALITY)}
        images.append(BackedImage(*place, bands, properties, periodic=everywhere))
        score = {"cs": seen, "cs_cdf": seen}
        scores.append(BackedImage(*place, score, {"MGRS_TILE": TILE}, periodic=everywhere))
    titles = {
        SENTINEL_2: {"title": "Harmonized Sentinel-2 MSI, Level-2A (the sample)"},
        CLOUD_SCORE_PLUS: {"title": "Cloud Score+ (made up from the sample's SCL)"},
    }
    return Backing({SENTINEL_2: images, CLOUD_SCORE_PLUS: scores}, titles)


def _millis(time: pd.Timestamp) -> int:
    return int(time.value // 10**6)


def _band(name: str, scene: int, at: Projection) -> BackedBand:
    """Return a scene's digital numbers of a band; 0 is no data."""
    side = at.transform[0] * resolution_m(name) / 10
    if name == QUALITY:
        return BackedBand(numbers(name)[scene], side, policy="mode")
    return BackedBand(numbers(name)[scene], side, nodata=0)


def _properties(time: pd.Timestamp, platform: str, cloud: float, scl: np.ndarray) -> dict[str, Any]:
    satellite = platform[-1].upper()
    baseline = BASELINE.replace(".", "")
    return {
        "MGRS_TILE": TILE,
        "CLOUDY_PIXEL_PERCENTAGE": cloud,
        "CLOUD_SHADOW_PERCENTAGE": float(100 * (scl == 3).mean()),
        "SNOW_ICE_PERCENTAGE": float(100 * (scl == 11).mean()),
        "SPACECRAFT_NAME": f"Sentinel-2{satellite}",
        "PROCESSING_BASELINE": BASELINE,
        "GENERATION_TIME": _millis(time) + 3 * 3_600_000,
        "PRODUCT_ID": f"S2{satellite}_MSIL2A_{time:%Y%m%dT%H%M%S}_N{baseline}_R093_T{TILE}",
    }
