"""Rasters on a user's own interactive map, and the map at the end of a notebook with a picture for elsewhere.

The pictures travel with the notebook's own connection.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
from matplotlib.figure import Figure

from timo.checks import checked, did_you_mean
from timo.errors import TimoError

from ..base.style import data_uri, figure_png, png
from .colours import opaque
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
    image = opaque(rgb.transpose("y", "x", "rgb").values)
    return _with_grid(np.moveaxis(image, -1, 0), rgb)


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


class MapWithPicture:
    """A leafmap map that shows a picture wherever a live map cannot be shown.

    JupyterLab, Voila and Colab show the map; GitHub, nbviewer and a saved notebook show the picture, since the output
    carries both.

    Parameters
    ----------
    layers : dict of str to xarray.DataArray
        Pictures by name, the lowest first: (band, y, x) uint8 with opacity, see `timo_widgets.colour`.
    picture : matplotlib.figure.Figure
        What is shown instead.
    legend : dict of str to colour, optional
        Entries of the map's legend.
    basemap : str, optional
        Name of a leafmap base map, e.g. "OpenStreetMap". None: a plain background, which needs no network.
    """

    @checked
    def __init__(
        self,
        layers: Mapping[str, xr.DataArray],
        picture: Figure,
        legend: Mapping[str, str] | None = None,
        basemap: str | None = None,
    ) -> None:
        if not layers:
            raise TimoError("There is no layer to show. Give at least one picture by its name.")
        self.picture = picture
        self.map = _map(layers, legend, basemap)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        live = self.map._repr_mimebundle_()
        # ipywidgets gives the data alone or with metadata, by version.
        bundle = dict(live[0] if isinstance(live, tuple) else live)
        bundle["image/png"] = figure_png(self.picture)
        bundle["text/plain"] = "Interactive map; shown as a picture where there is no browser."
        return bundle, {}


def _map(
    layers: Mapping[str, xr.DataArray], legend: Mapping[str, str] | None, basemap: str | None
) -> Any:
    import leafmap.leafmap as leafmap  # noqa: PLR0402 - four seconds, only where a map is drawn

    known = [*leafmap.basemaps, "ROADMAP", "SATELLITE", "TERRAIN", "HYBRID"]
    if basemap is not None and basemap not in known:
        raise TimoError(
            f"There is no base map {basemap!r} in leafmap; OpenStreetMap is one.{did_you_mean(basemap, known)}"
        )
    (south, west), (north, east) = Warp(next(iter(layers.values()))).bounds
    with warnings.catch_warnings():
        # leafmap passes its own options on to ipyleaflet, which does not know them.
        warnings.filterwarnings("ignore", "Passing unrecognized arguments", DeprecationWarning)
        view = leafmap.Map(
            center=((south + north) / 2, (west + east) / 2),
            zoom=15,
            height="480px",
            draw_control=False,
            measure_control=False,
            search_control=False,
        )
    if basemap is None:
        view.layers = ()
    else:
        view.add_basemap(basemap)
    for name, image in layers.items():
        view.add(image_overlay(image, name))
    if legend:
        view.add_legend(title="Year of loss", legend_dict=dict(legend))
    return view
