"""The interactive map at the end of a notebook, with a picture for where there is no browser."""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from timo.checks import checked, did_you_mean
from timo.errors import TimoError

from .overlay import image_overlay
from .warp import Warp


class MapWithPicture:
    """A leafmap map that shows a picture wherever a live map cannot be shown.

    JupyterLab, Voila and Colab show the map; GitHub, nbviewer and a saved notebook show the picture, since the output
    carries both.

    Parameters
    ----------
    layers : dict of str to xarray.DataArray
        Pictures by name, the lowest first: (band, y, x) uint8 with opacity, see `timo_widgets.overlay`.
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
        self.map = _map(dict(layers), dict(legend or {}), basemap)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        buffer = io.BytesIO()
        self.picture.savefig(buffer, format="png", dpi=80, bbox_inches="tight")
        bundle = dict(_data(self.map._repr_mimebundle_()))
        bundle["image/png"] = buffer.getvalue()
        bundle["text/plain"] = "Interactive map; shown as a picture where there is no browser."
        return bundle, {}


def _data(bundle: Any) -> dict[str, Any]:
    # ipywidgets gives the data alone or with metadata, by version.
    return bundle[0] if isinstance(bundle, tuple) else bundle


def _map(layers: dict[str, xr.DataArray], legend: dict[str, str], basemap: str | None) -> Any:
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
        view.add_legend(title="Year of loss", legend_dict=legend)
    return view
