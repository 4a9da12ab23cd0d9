"""From a map to pictures, (y, x, 4) uint8: classes, years, continuous values, and the photograph below."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

import matplotlib as mpl
import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.errors import TimoError

from ..base.style import rgb


def class_picture(
    values: np.ndarray, colours: Mapping[int, str], hidden: Iterable[Hashable] = ()
) -> np.ndarray:
    """Colour (y, x) integers; what has no colour, or is hidden, is transparent."""
    shown = {value: colour for value, colour in colours.items() if value not in set(hidden)}
    picture = np.zeros((*values.shape, 4), "uint8")
    for value, colour in shown.items():
        picture[values == value] = (*rgb(colour), 255)
    return picture


def ramp_picture(values: np.ndarray, low: float, high: float, ramp: str) -> np.ndarray:
    """Colour (y, x) floats along a colour map of matplotlib; NaN is transparent."""
    share = (values - low) / max(high - low, 1e-12)
    picture = mpl.colormaps[ramp](np.clip(np.nan_to_num(share), 0, 1), bytes=True)
    picture[~np.isfinite(values)] = 0
    return picture


def photograph(one: xr.DataArray) -> np.ndarray:
    """Return the true colour of a cube of one date; grey, of the first band, where the sensor does not see colours."""
    try:
        image = cubes.true_colour(one).values[0]
    except TimoError:
        image = np.repeat(_stretched(one.values[0, 0])[..., None], 3, axis=-1)
    return opaque(image)


def opaque(rgb: np.ndarray) -> np.ndarray:
    """Turn a (y, x, 3) picture in 0..1 into (y, x, 4) uint8; NaN is transparent."""
    seen = np.isfinite(rgb).all(axis=-1)
    return np.dstack([np.nan_to_num(rgb) * 255, seen * 255]).astype("uint8")


def _stretched(values: np.ndarray) -> np.ndarray:
    known = values[np.isfinite(values)]
    if not known.size:
        return values
    low, high = np.percentile(known, [1, 98])
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1)
