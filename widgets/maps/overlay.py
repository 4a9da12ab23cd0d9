"""Rasters on an interactive map, as pictures that travel with the notebook's own connection."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

from timo.checks import checked
from timo.errors import TimoError

from ..base.style import data_uri, png
from .warp import Warp, check_raster


@checked
def colour(values: xr.DataArray, palette: Mapping[int, Any]) -> xr.DataArray:
    """Colour a raster of classes.

    Parameters
    ----------
    values : xarray.DataArray
        (y, x) integers.
    palette : dict of int to colour
        Any matplotlib colour; values that are not listed are transparent.

    Returns
    -------
    xarray.DataArray
        (band, y, x) uint8: red, green, blue, opacity.
    """
    _check_dims(values, ("y", "x"))
    image = np.zeros((4, *values.shape), dtype="uint8")
    for value, name in palette.items():
        if not mpl.colors.is_color_like(name):
            raise TimoError(
                f"{name!r} is no colour of matplotlib. Write a name or a code: green, #0072B2."
            )
        rgba = (np.array(mpl.colors.to_rgba(name)) * 255).astype("uint8")
        image = np.where(values.values == value, rgba[:, None, None], image)
    return _with_grid(image, values)


@checked
def photograph(rgb: xr.DataArray) -> xr.DataArray:
    """Turn a (y, x, rgb) picture in 0..1 into (band, y, x) uint8 with opacity; NaN is transparent."""
    _check_dims(rgb, ("rgb", "y", "x"))
    values = rgb.transpose("rgb", "y", "x").values
    seen = np.isfinite(values).all(axis=0)
    image = np.concatenate([np.nan_to_num(values), seen[None]]) * 255
    return _with_grid(image.astype("uint8"), rgb)


def _check_dims(raster: xr.DataArray, dims: tuple[str, ...]) -> None:
    if set(raster.dims) != set(dims):
        raise TimoError(f"A picture is made of {dims}, this is {raster.dims}. Select one date.")
    if raster.dtype.kind not in "iufb":
        raise TimoError(f"A picture is made of numbers, this is {raster.dtype}.")
    check_raster(raster)


def _with_grid(image: np.ndarray, like: xr.DataArray) -> xr.DataArray:
    grid = xr.DataArray(image, dims=("band", "y", "x"), coords={"y": like.y, "x": like.x})
    return grid.rio.write_crs(like.rio.crs)


@checked
def image_overlay(image: xr.DataArray, name: str) -> Any:
    """Make a layer for an ipyleaflet or leafmap map.

    The picture is a data URI: it needs no tile server, and works in JupyterLab, Voila, Colab and behind proxies alike.

    Parameters
    ----------
    image : xarray.DataArray
        (band, y, x) uint8, red, green, blue, opacity, with a CRS.
    name : str
        Name in the map's list of layers.
    """
    from ipyleaflet import ImageOverlay

    _check_dims(image, ("band", "y", "x"))
    if image.dtype != np.uint8 or image.sizes["band"] != 4:
        raise TimoError(
            f"An image has 4 bands of uint8, this {image.sizes['band']} of {image.dtype}. Make one with "
            "timo_widgets.colour or timo_widgets.photograph."
        )
    warp = Warp(image)
    address = data_uri(png(warp(image.transpose("y", "x", "band").values)))
    return ImageOverlay(url=address, bounds=warp.bounds, name=name)
