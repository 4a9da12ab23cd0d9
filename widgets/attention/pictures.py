"""Pictures of attention: weights over a map, the photograph below them, a pixel's series beside them."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.errors import TimoError

RAMP = "viridis"


def heat(weight: np.ndarray, stride: int, part: xr.DataArray, cube: xr.DataArray) -> np.ndarray:
    """Weights of a frame's tokens as a picture on the cube's grid, clear where there is little weight."""
    height, width = part.sizes["y"], part.sizes["x"]
    fine = weight.repeat(stride, 0).repeat(stride, 1)[:height, :width]
    share = fine / max(float(weight.max()), 1e-12)
    picture = mpl.colormaps[RAMP](share, bytes=True)
    # The photograph stays to be seen where the model hardly looks.
    picture[..., 3] = np.round(255 * np.clip(np.sqrt(share), 0, 0.85)).astype("uint8")
    whole = np.zeros((cube.sizes["y"], cube.sizes["x"], 4), "uint8")
    top, left = (int(np.flatnonzero(cube[d].values == part[d].values[0])[0]) for d in ("y", "x"))
    whole[top : top + height, left : left + width] = picture
    return whole


def index_series(pixel: xr.DataArray) -> tuple[str, np.ndarray]:
    """Name and values of the series of one pixel: NDVI where there are the bands, the first band otherwise."""
    try:
        return "NDVI", cubes.ndvi(pixel).values[:, 0, 0]
    except TimoError:
        return str(pixel.band.values[0]), pixel.values[:, 0, 0, 0]


def photograph(cube: xr.DataArray, date: int) -> np.ndarray:
    """A date in true colour, (y, x, 4) uint8; where the sensor does not see colours, its first band in grey."""
    one = cube.isel(time=[date]).compute()
    try:
        image = cubes.true_colour(one).values[0]
    except TimoError:
        grey = one.values[0, 0]
        low, high = np.nanpercentile(grey, [1, 98]) if np.isfinite(grey).any() else (0, 1)
        image = np.dstack([np.clip((grey - low) / max(high - low, 1e-12), 0, 1)] * 3)
    return opaque(image)


def opaque(rgb: np.ndarray) -> np.ndarray:
    """A (y, x, 3) picture in 0..1 as (y, x, 4) uint8; NaN is transparent."""
    seen = np.isfinite(rgb).all(axis=-1)
    return np.dstack([np.nan_to_num(rgb) * 255, seen * 255]).astype("uint8")


def ramp_html() -> str:
    """The ramp of the weights as a bar in a line of text."""
    stops = ", ".join(mpl.colors.to_hex(mpl.colormaps[RAMP](s)) for s in np.linspace(0, 1, 6))
    style = f"background:linear-gradient(90deg, {stops})"
    return (
        f'<span class="timo-ramp" style="{style}" role="img" aria-label="from low to high"></span>'
    )
