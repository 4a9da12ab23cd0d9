"""From a map to pictures, (y, x, 4) uint8: classes, years, continuous values, and the photograph below."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

import matplotlib as mpl
import numpy as np
import xarray as xr

from timo.cube.indices import band_by_common_name
from timo.errors import TimoError

from ..base.style import rgb


def class_picture(
    values: np.ndarray, colours: Mapping[int, str], hidden: Iterable[Hashable] = ()
) -> np.ndarray:
    """Colour (y, x) integers; what has no colour, or is hidden, is transparent."""
    picture = np.zeros((*values.shape, 4), "uint8")
    for value in colours.keys() - set(hidden):
        picture[values == value] = (*rgb(colours[value]), 255)
    return picture


def ramp_picture(values: np.ndarray, low: float, high: float, ramp: str) -> np.ndarray:
    """Colour (y, x) floats along a colour map of matplotlib; NaN is transparent."""
    share = (values - low) / max(high - low, 1e-12)
    picture = mpl.colormaps[ramp](np.clip(np.nan_to_num(share), 0, 1), bytes=True)
    picture[~np.isfinite(values)] = 0
    return picture


def photograph(one: xr.DataArray) -> np.ndarray:
    """Paint a cube of one date in true colour; grey, of the first band, where the sensor does not see colours.

    Of a lazy cube only the bands that are shown are computed.
    """
    try:
        bands = [band_by_common_name(one, (name,)) for name in ("red", "green", "blue")]
    except TimoError:
        bands = [one.isel(band=0, drop=True)]
    channels = xr.concat(bands, "channel").isel(time=0).transpose("channel", "y", "x").values
    limits = stretch(channels, darkest=1)
    shown = [
        np.clip((channel - low) / (high - low), 0, 1)
        for channel, (low, high) in zip(channels, limits, strict=True)
    ]
    return opaque(np.dstack(shown * (3 // len(shown))))


def stretch(channels: np.ndarray, darkest: float = 2, brightest: float = 98) -> np.ndarray:
    """Return the (channel, 2) percentiles that become black and full brightness; 0 and 1 where nothing was seen.

    The channels are (channel, ...) values, NaN where nothing was seen.
    """
    limits = np.tile([0.0, 1.0], (len(channels), 1))
    for i, channel in enumerate(channels):
        seen = channel[np.isfinite(channel)]
        if seen.size:
            low, high = np.percentile(seen, [darkest, brightest])
            limits[i] = low, max(high, low + 1e-6)
    return limits


def opaque(rgb: np.ndarray) -> np.ndarray:
    """Turn a (y, x, 3) picture in 0..1 into (y, x, 4) uint8; NaN is transparent."""
    seen = np.isfinite(rgb).all(axis=-1)
    return np.dstack([np.nan_to_num(rgb) * 255, seen * 255]).astype("uint8")
