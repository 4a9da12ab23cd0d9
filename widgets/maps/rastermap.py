"""A map of rasters on one grid: pictures that travel with the notebook's own connection, clicks that find pixels."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import ipywidgets
import numpy as np
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from timo.checks import Count, Range, Share, checked
from timo.errors import TimoError

from ..base.style import close_tree, picture_uri, png, rgb, style_sheet, text_colour
from .warp import Warp, to_web

# Above this pane's pictures a divider can cut (see split.py): the panes of overlays and markers are 400 and 600.
FRONT = "timo-front"


class RasterMap:
    """Pictures on a plain background, with clicks in rows and columns.

    Parameters
    ----------
    like : xarray.DataArray or xarray.Dataset
        Anything on the grid of the pictures: dims y and x, with a CRS.
    height : str
        Height of the map, in CSS.

    Attributes
    ----------
    widget : ipywidgets.VBox
        What is put into a notebook or a box.
    map : ipyleaflet.Map
        The map itself; a base map can be added to it, as to any: `map.add(basemap_to_tiles(...))` of ipyleaflet.
    """

    @checked
    def __init__(self, like: xr.DataArray | xr.Dataset, height: str = "420px") -> None:
        from ipyleaflet import LayerGroup

        self._warp = Warp(like)
        self.shape = (like.sizes["y"], like.sizes["x"])
        self._shown: dict[str, np.ndarray] = {}
        self._layers: dict[str, Any] = {}
        self._marks: list[tuple[int, int, str, str]] = []
        self._on_click: list[Callable[[int, int], Any]] = []
        self._on_draw: Callable[[dict[str, Any]], Any] | None = None
        self._draw: Any = None
        self.map = _plain_map(self._warp.bounds, height)
        self.map.on_interaction(self._interacted)
        self._pins = LayerGroup(name="pixels")
        self.map.add(self._pins)
        self.widget = ipywidgets.VBox([style_sheet(), self.map])
        self.widget.add_class("timo")

    # Pictures

    @checked
    def show(
        self, name: str, rgba: np.ndarray, opacity: Share | None = None, front: bool = False
    ) -> None:
        """Show a picture, in the place of the one that had the same name.

        Parameters
        ----------
        name : str
            Pictures that were shown first lie lowest.
        rgba : numpy.ndarray
            (y, x, 4) uint8 on the grid: red, green, blue, opacity.
        opacity : float, optional
            0..1, of the whole picture. By default as it was; 1 for a new one.
        front : bool
            Put a new picture into the pane `FRONT`, above the others.
        """
        from ipyleaflet import ImageOverlay

        if rgba.shape != (*self.shape, 4) or rgba.dtype != np.uint8:
            raise TimoError(
                f"The picture {name!r} is {rgba.dtype} {rgba.shape}; "
                f"this map takes uint8 {(*self.shape, 4)}."
            )
        address = picture_uri(self._warp(rgba))
        self._shown[name] = rgba
        if name in self._layers:
            self._layers[name].url = address
            self._layers[name].visible = True
        else:
            pane, bounds = FRONT if front else "", self._warp.bounds
            self._layers[name] = ImageOverlay(url=address, bounds=bounds, name=name, pane=pane)
            self.map.add(self._layers[name])
        if opacity is not None:
            self._layers[name].opacity = opacity

    @checked
    def hide(self, name: str) -> None:
        """Take a picture off the map; nothing happens if it is not there."""
        layer = self._layers.pop(name, None)
        self._shown.pop(name, None)
        if layer is not None:
            self.map.remove(layer)
            close_tree(layer)

    @checked
    def set_opacity(self, name: str, value: Share) -> None:
        """Set the opacity, 0..1, of a picture; nothing happens if it is not there."""
        if name in self._layers:
            self._layers[name].opacity = float(value)

    # Places

    @checked
    def pixel_of(self, latitude: float, longitude: float) -> tuple[int, int] | None:
        """Return row and column of the pixel at a place in degrees; None outside the grid."""
        return self._warp.pixel_of(latitude, longitude)

    @checked
    def latlon_of(self, row: float, column: float) -> tuple[float, float]:
        """Return latitude and longitude of a pixel's centre, in the turn of the globe of the pictures."""
        longitude, latitude = self._warp.lonlat_of(row + 0.5, column + 0.5)
        return float(latitude), float(self._warp.turned(longitude))

    @checked
    def turned(self, geometry: BaseGeometry) -> BaseGeometry:
        """Move a geometry in degrees by whole turns of the globe, to where the pictures are."""
        west, _, east, _ = geometry.bounds
        middle = (west + east) / 2
        return translate(geometry, self._warp.turned(middle) - middle)

    @checked
    def lattice(self, nodes: Annotated[int, Range(2, 2000)] = 33) -> tuple[np.ndarray, np.ndarray]:
        """Return the way from the pictures to the grid and back, for the browser; linear between nodes.

        Returns
        -------
        to_grid : numpy.ndarray
            (nodes, nodes, 2) float32, column and row at even places down and across the pictures.
        to_picture : numpy.ndarray
            (nodes, nodes, 2) float32, shares 0..1 across and down the pictures at even places down and across the grid.
        """
        left, bottom, right, top = self._warp.box
        across, down = np.meshgrid(np.linspace(0, 1, nodes), np.linspace(0, 1, nodes))
        to_grid = self._warp.on_grid(left + across * (right - left), top - down * (top - bottom))
        longitude, latitude = self._warp.lonlat_of(down * self.shape[0], across * self.shape[1])
        x, y = to_web(self._warp.turned(longitude), latitude)
        to_picture = (x - left) / (right - left), (top - y) / (top - bottom)
        return np.stack(to_grid, -1).astype("float32"), np.stack(to_picture, -1).astype("float32")

    @checked
    def on_click(self, callback: Callable[[int, int], Any], remove: bool = False) -> None:
        """Call back with row and column when a pixel is clicked; clicks beside the grid are left out."""
        if not remove:
            self._on_click.append(callback)
        elif callback in self._on_click:
            self._on_click.remove(callback)

    def _interacted(self, **event: Any) -> None:
        if event.get("type") != "click":
            return
        pixel = self.pixel_of(*event["coordinates"])
        if pixel is not None:
            for callback in list(self._on_click):
                callback(*pixel)

    @checked
    def mark(self, marks: Sequence[tuple[int, int, str, str]]) -> None:
        """Mark pixels, in the place of those marked before.

        Parameters
        ----------
        marks : sequence of (row, column, colour, label)
            The colour as ``#RRGGBB``; the label is one or two characters.
        """
        self._marks = list(marks)
        old = self._pins.layers
        self._pins.layers = tuple(_pin(self.latlon_of(r, c), *rest) for r, c, *rest in self._marks)
        for pin in old:
            close_tree(pin)

    # Drawing

    @property
    def draw(self) -> Any:
        """The `ipyleaflet.DrawControl`, made on first use."""
        if self._draw is None:
            from ipyleaflet import DrawControl

            off: dict[str, Any] = {}
            self._draw = DrawControl(
                polygon=off, polyline=off, circlemarker=off, position="topleft"
            )
            self._draw.on_draw(self._drawn)
        return self._draw

    @checked
    def enable_drawing(
        self,
        kinds: Sequence[Literal["rectangle", "polygon", "polyline", "circlemarker", "marker"]],
        callback: Callable[[dict[str, Any]], Any] | None = None,
        colour: str = "#E69F00",
    ) -> None:
        """Let the user draw.

        Parameters
        ----------
        kinds : sequence of str
            Of "rectangle", "polygon", "polyline", "circlemarker", "marker".
        callback : callable, optional
            Called with the GeoJSON geometry, in degrees, of each shape that was drawn.
        colour : str
            Of the shapes.
        """
        self._on_draw = callback
        for kind in ("rectangle", "polygon", "polyline", "circlemarker", "marker"):
            options = {"shapeOptions": {"color": colour}} if kind in kinds else {}
            setattr(self.draw, kind, options)
        if self.draw not in self.map.controls:
            self.map.add(self.draw)

    def disable_drawing(self) -> None:
        """Take the drawing tools off the map."""
        if self._draw is not None and self._draw in self.map.controls:
            self.map.remove(self._draw)
        self._on_draw = None

    def _drawn(self, _: Any, action: str, geo_json: dict[str, Any]) -> None:
        if action == "created" and self._on_draw is not None:
            self._on_draw(geo_json["geometry"])

    # The end

    @checked
    def picture(self, least: Count = 480, cut: Share | None = None) -> bytes:
        """Return a PNG of what is shown, on the grid itself.

        Parameters
        ----------
        least : int
            Small grids are enlarged to as many pixels.
        cut : float, optional
            Pictures of the front pane are shown only left of this share of the width.
        """
        from PIL import Image, ImageDraw

        image = Image.new("RGBA", (self.shape[1], self.shape[0]), (238, 238, 238, 255))
        for name, rgba in self._shown.items():
            layer = rgba.copy()
            layer[..., 3] = np.round(layer[..., 3] * self._layers[name].opacity)
            if cut is not None and self._layers[name].pane == FRONT:
                layer[:, round(cut * self.shape[1]) :, 3] = 0
            image.alpha_composite(Image.fromarray(layer))
        scale = max(1, math.ceil(least / max(self.shape)))
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
        pen = ImageDraw.Draw(image)
        for row, column, colour, label in self._marks:
            x, y = (column + 0.5) * scale, (row + 0.5) * scale
            pen.ellipse((x - 8, y - 8, x + 8, y + 8), fill=rgb(colour), outline="white", width=2)
            pen.text((x, y), label, fill=text_colour(colour), anchor="mm")
        return png(np.asarray(image))

    def close(self) -> None:
        """Close all widgets of the map and forget the callbacks."""
        self.map.on_interaction(self._interacted, remove=True)
        self._on_click.clear()
        self._on_draw = None
        if self._draw is not None:
            self._draw.on_draw(self._drawn, remove=True)
            close_tree(self._draw)
        self._shown, self._layers = {}, {}
        close_tree(self.widget)


def _plain_map(bounds: tuple[tuple[float, float], tuple[float, float]], height: str) -> Any:
    from ipyleaflet import FullScreenControl, Map, ScaleControl

    (south, west), (north, east) = bounds
    made = Map(
        center=((south + north) / 2, (west + east) / 2),
        zoom=_fitting_zoom(bounds, height),
        zoom_snap=0.25,
        max_zoom=24,
        scroll_wheel_zoom=True,
        panes={FRONT: {"zIndex": 410}},
        # The tiles of a base map would need the network.
        layers=(),
        attribution_control=False,
        layout={"height": height},
    )
    made.add(FullScreenControl())
    made.add(ScaleControl(position="bottomleft", imperial=False))
    return made


def _fitting_zoom(bounds: tuple[tuple[float, float], tuple[float, float]], height: str) -> float:
    # The notebook's width is not known here: the map is taken to be as wide as one and a half times its height.
    number = height.removesuffix("px")
    pixels = float(number) if number.isdecimal() and number != height else 400.0
    (south, west), (north, east) = bounds
    across = max(east - west, 1e-9) / 1.5
    down = max(north - south, 1e-9) / math.cos(math.radians((south + north) / 2))
    zoom = math.log2(360 / 256 * 0.95 * pixels / max(across, down))
    return min(max(math.floor(zoom * 4) / 4, 1.0), 22.0)


def _pin(place: tuple[float, float], colour: str, label: str) -> Any:
    from ipyleaflet import DivIcon, Marker

    text, style = html.escape(label), f"background:{colour};color:{text_colour(colour)}"
    body = f'<span class="timo-pin" style="{style}">{text}</span>'
    icon = DivIcon(html=body, icon_size=[22, 22], icon_anchor=[11, 11], bg_pos=[0, 0])
    return Marker(location=place, icon=icon, draggable=False, title=f"pixel {text}")
