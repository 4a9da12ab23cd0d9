"""The sample as scenes: what a catalogue of satellite images says of it, and their digital numbers.

The files of the sample hold a day and no more of each image. What is not in them is set here, once, so that all
emulated services say the same.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import pandas as pd

from timo.errors import TimoError
from timo.sources.place.grid import PixelGrid
from timo.sources.sample import BANDS, BANDS_10M, BANDS_20M, read_series

CRS = "EPSG:3035"
TILE = "34TER"
QUALITY = "SCL"
# The numbers carry no offset, as those of all baselines before 04.00. Which one it was, the files do not say.
BASELINE = "03.01"
# Sentinel-2 crosses the Equator at half past ten of local solar time, and this place a little later.
_TIME_OF_DAY = pd.Timedelta("9h30min")
_CLOUDS = (8, 9, 10)
_series = cache(read_series)


def scene_times() -> pd.DatetimeIndex:
    """When the 140 scenes were taken, in UTC, without a time zone, ascending."""
    return pd.DatetimeIndex(_series(10).time.values + _TIME_OF_DAY, name="time")


def platforms() -> tuple[str, ...]:
    """Which satellite took each scene: "sentinel-2a" every ten days, "sentinel-2b" in between from June 2017 on."""
    times = scene_times()
    days = (times - times[0]).days
    return tuple("sentinel-2a" if day % 10 == 0 else "sentinel-2b" for day in days)


def scene_ids(style: Literal["earthengine", "earth-search"] = "earthengine") -> tuple[str, ...]:
    """What each scene is called.

    Parameters
    ----------
    style : {"earthengine", "earth-search"}
        "earthengine": an image's `system:index`, e.g. "20150801T093000_20150801T093000_T34TER"; "earth-search": a STAC
        item's id, e.g. "S2A_34TER_20150801_0_L2A".
    """
    times = scene_times()
    if style == "earthengine":
        return tuple(f"{t:%Y%m%dT%H%M%S}_{t:%Y%m%dT%H%M%S}_T{TILE}" for t in times)
    return tuple(
        f"S2{platform[-1].upper()}_{TILE}_{t:%Y%m%d}_0_L2A"
        for platform, t in zip(platforms(), times, strict=True)
    )


def cloud_percent() -> np.ndarray:
    """Share of each scene's 10 m pixels that are cloud of medium or high probability or cirrus, (140,), percent."""
    clouds = np.isin(numbers(QUALITY), _CLOUDS)
    return np.round(100 * clouds.mean(axis=(1, 2)), 6)


def resolution_m(band: str) -> int:
    """Size of the cells that a band, or "SCL", has in the files.

    Raises
    ------
    TimoError
        If the sample has no such band.
    """
    if band in (*BANDS_10M, QUALITY):
        return 10
    if band in BANDS_20M:
        return 20
    raise TimoError(f"The sample has no band {band!r}. It has: {', '.join((*BANDS, QUALITY))}.")


def numbers(band: str) -> np.ndarray:
    """Digital numbers of a band, or of "SCL", in all scenes.

    Parameters
    ----------
    band : str
        Its name in the cube.

    Returns
    -------
    numpy.ndarray
        (140, y, x): 100 x 100 cells of 10 m or 50 x 50 of 20 m (`sample_grid(resolution_m(band))`), rows from north to
        south; uint16 reflectance x 10,000, 0 = no data; uint8 for "SCL". Not to be written to.

    Raises
    ------
    TimoError
        If the sample has no such band.
    """
    return _numbers(band)


@cache
def _numbers(band: str) -> np.ndarray:
    values = _series(resolution_m(band))[band].values
    whole = values.astype("uint8" if band == QUALITY else "uint16")
    whole.flags.writeable = False
    return whole


def sample_grid(resolution: int = 10) -> PixelGrid:
    """The cells of the files: 1 km x 1 km in EPSG:3035, not aligned to multiples of the resolution."""
    series = _series(resolution)
    left = float(series.x.values[0]) - resolution / 2
    top = float(series.y.values[0]) + resolution / 2
    return PixelGrid(CRS, left, top, resolution, series.sizes["y"], series.sizes["x"])
