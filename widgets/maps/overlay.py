"""Rasters on an interactive map, as pictures that travel with the notebook's own connection."""

import base64
import io
from typing import Any

import matplotlib as mpl
import numpy as np
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
from matplotlib.image import imsave

# Web Mercator: what every web map draws in; an overlay in another projection would be bent.
_WEB = "EPSG:3857"


def colour(values: xr.DataArray, palette: dict[int, Any]) -> xr.DataArray:
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
    image = np.zeros((4, *values.shape), dtype="uint8")
    for value, name in palette.items():
        rgba = (np.array(mpl.colors.to_rgba(name)) * 255).astype("uint8")
        image = np.where(values.values == value, rgba[:, None, None], image)
    return _with_grid(image, values)


def photograph(rgb: xr.DataArray) -> xr.DataArray:
    """Turn a (y, x, rgb) picture in 0..1 into (band, y, x) uint8 with opacity; NaN is transparent."""
    values = rgb.transpose("rgb", "y", "x").values
    seen = np.isfinite(values).all(axis=0)
    image = np.concatenate([np.nan_to_num(values), seen[None]]) * 255
    return _with_grid(image.astype("uint8"), rgb)


def _with_grid(image: np.ndarray, like: xr.DataArray) -> xr.DataArray:
    grid = xr.DataArray(image, dims=("band", "y", "x"), coords={"y": like.y, "x": like.x})
    return grid.rio.write_crs(like.rio.crs)


def image_overlay(image: xr.DataArray, name: str) -> Any:
    """Layer for an ipyleaflet or leafmap map.

    The picture is a data URI: it needs no tile server, and works in JupyterLab, Voila, Colab and behind proxies alike.

    Parameters
    ----------
    image : xarray.DataArray
        (band, y, x) uint8, red, green, blue, opacity, with a CRS.
    name : str
        Name in the map's list of layers.
    """
    from ipyleaflet import ImageOverlay

    # Zero, transparent, is what lies outside the turned picture; by default it would be 255, white.
    web = image.rio.reproject(_WEB, nodata=0)
    west, south, east, north = web.rio.transform_bounds("EPSG:4326")
    buffer = io.BytesIO()
    imsave(buffer, np.moveaxis(web.values, 0, -1), format="png")
    address = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return ImageOverlay(url=address, bounds=((south, west), (north, east)), name=name)
