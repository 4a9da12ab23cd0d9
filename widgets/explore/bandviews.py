"""Ways to look at a cube: which bands make which picture, and how values become brightness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import xarray as xr

from timo.cube.check import sensor_of
from timo.errors import TimoError
from timo.sensors import SENSORS

# As many values say where the percentiles lie.
ENOUGH = 20_000


@dataclass(frozen=True)
class View:
    """A picture, or a series, made of some bands.

    Attributes
    ----------
    name : str
        What it is called.
    bands : tuple of str
        The bands it needs.
    channels : callable
        From (band, ...) values to (channel, ...): three for red, green and blue, one for a scale of colours.
    parts : tuple of str
        What each channel shows.
    code : str
        Python that computes it, with ``{cube}`` where the cube, or a part of it, stands.
    """

    name: str
    bands: tuple[str, ...]
    channels: Callable[[np.ndarray], np.ndarray]
    parts: tuple[str, ...]
    code: str

    @property
    def single(self) -> bool:
        """Whether it is one quantity, and so has a series."""
        return len(self.parts) == 1


def map_views(cube: xr.DataArray) -> dict[str, View]:
    """Return the pictures that the cube's bands allow, by name; single bands where they allow no other."""
    found = [view for view in (*_composites(cube), *_indices(cube)) if view is not None]
    if not found:
        found = [_band(str(name)) for name in cube.band.values]
    if not found:
        raise TimoError("The cube has no bands. Open it with at least one.")
    return {view.name: view for view in found}


def series_views(cube: xr.DataArray) -> dict[str, View]:
    """Return the quantities that have a series, by name: indices first, then each band."""
    found = [view for view in _indices(cube) if view is not None]
    found += [_band(str(name)) for name in cube.band.values]
    return {view.name: view for view in found}


def _find(cube: xr.DataArray, *common_names: str) -> str | None:
    """Return the cube's band that bears the first of these common names that it has."""
    here = {str(name) for name in cube.band.values}
    sensor = sensor_of(cube) or SENSORS["sentinel-2"]
    for common in common_names:
        for band in sensor.bands:
            if band.common_name == common and band.name in here:
                return band.name
    return None


def _composites(cube: xr.DataArray) -> list[View | None]:
    red, green, blue = (_find(cube, name) for name in ("red", "green", "blue"))
    nir, swir = _find(cube, "nir", "nir08"), _find(cube, "swir16", "swir22")
    return [
        _three("True colour", red, green, blue),
        _three("False colour (NIR)", nir, red, green),
        _three("Shortwave (SWIR)", swir, nir, red),
        _radar(cube),
    ]


def _indices(cube: xr.DataArray) -> list[View | None]:
    nir, red = _find(cube, "nir", "nir08"), _find(cube, "red")
    here = [str(name) for name in cube.band.values]
    ready = [_band(name) for name in here if name in {"NDVI", "EVI"}]
    if nir is None or red is None or "NDVI" in here:
        return [*ready]
    code = "timo.cube.ndvi({cube})"
    return [View("NDVI", (nir, red), _normalised_difference, ("NDVI",), code), *ready]


def _three(name: str, *bands: str | None) -> View | None:
    known = tuple(band for band in bands if band is not None)
    if len(known) < 3 or len(set(known)) < 3:
        return None
    return View(name, known, _as_they_are, known, f"{{cube}}.sel(band={list(known)})")


def _radar(cube: xr.DataArray) -> View | None:
    here = {str(name) for name in cube.band.values}
    if not {"VV", "VH"} <= here:
        return None
    code = '{cube}.sel(band=["VV", "VH"])'
    return View("VV, VH, VV − VH", ("VV", "VH"), _with_difference, ("VV", "VH", "VV − VH"), code)


def _band(name: str) -> View:
    return View(name, (name,), _as_they_are, (name,), f'{{cube}}.sel(band=["{name}"])')


def _as_they_are(values: np.ndarray) -> np.ndarray:
    return values


def _normalised_difference(values: np.ndarray) -> np.ndarray:
    """Return the NDVI as `timo.cube.ndvi` defines it, of (near infrared, red)."""
    nir, red = values
    total = nir + red
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.clip((nir - red) / total, -1, 1)
    index[~(total > 0)] = np.nan
    return index[None]


def _with_difference(values: np.ndarray) -> np.ndarray:
    # Decibels are logarithms: their difference is the ratio, which separates volume from surface.
    return np.stack([values[0], values[1], values[0] - values[1]])


def thin(values: np.ndarray) -> np.ndarray:
    """Take every n-th row and column of (..., y, x), so that about `ENOUGH` pixels stay."""
    step = thin_step(*values.shape[-2:])
    return values[..., ::step, ::step]


def thin_step(rows: int, columns: int) -> int:
    """Return that n."""
    return max(1, int((rows * columns / ENOUGH) ** 0.5))


def paint(channels: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Paint (1 or 3, y, x) values between the limits as (y, x, 4) uint8; one channel in viridis.

    Hatched where nothing was seen, so that a date of clouds alone is not taken for a map that failed.
    """
    seen = np.isfinite(channels).all(axis=0)
    levels = [_level(channel, seen, *pair) for channel, pair in zip(channels, limits, strict=True)]
    if len(levels) == 1:
        # Four bytes are one number: a quarter of the work.
        rgba = viridis().view("uint32").ravel().take(levels[0])[..., None].view("uint8")
    else:
        rgba = np.empty((*seen.shape, 4), "uint8")
        for i, level in enumerate(levels):
            rgba[..., i] = level
    rgba[..., 3] = 255
    # Four bytes are one number, again.
    pixels = np.where(seen, rgba.view("uint32")[..., 0], hatch(seen.shape))
    return pixels[..., None].view("uint8")


@lru_cache(maxsize=2)
def hatch(shape: tuple[int, int]) -> np.ndarray:
    """Return grey diagonal stripes on nothing, (y, x) pixels of four bytes each."""
    diagonal = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 6
    stripes = np.zeros((*shape, 4), "uint8")
    stripes[diagonal < 2] = (140, 140, 140, 170)
    return stripes.view("uint32")[..., 0]


def _level(channel: np.ndarray, seen: np.ndarray, low: float, high: float) -> np.ndarray:
    level = (channel - np.float32(low)) * np.float32(255 / (high - low))
    np.clip(level, 0, 255, out=level)
    # NaN has no byte.
    level[~seen] = 0
    return level.astype("uint8")


@cache
def viridis() -> np.ndarray:
    """Return the colours of viridis, (256, 4) uint8."""
    import matplotlib as mpl

    return mpl.colormaps["viridis"](np.arange(256), bytes=True)
