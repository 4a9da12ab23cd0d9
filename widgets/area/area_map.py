"""A map to draw an area on: nothing of it comes through the network unless a base map is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from shapely.geometry.base import BaseGeometry

from timo.errors import TimoError

from ..base.style import close_tree
from ..maps.graticule import land_picture, lines

_SHAPE = {"color": "#0072B2", "fillOpacity": 0.15, "weight": 3}


class AreaMap:
    """Map with tools to draw, edit and delete, lines of longitude and latitude, and land in grey.

    Parameters
    ----------
    changed : callable
        Called with the list of GeoJSON features whenever the user has drawn, edited or deleted one.
    basemap : str, optional
        Name of a base map of xyzservices, as "OpenStreetMap.Mapnik" or "Esri.WorldImagery"; it comes through the
        network.
    height : str
        In CSS.

    Raises
    ------
    TimoError
        If there is no such base map.
    """

    def __init__(
        self,
        changed: Callable[[list[dict[str, Any]]], Any],
        basemap: str | None = None,
        height: str = "420px",
    ) -> None:
        from ipyleaflet import DrawControl, GeoJSON, ImageOverlay, LayerGroup, Map, ScaleControl

        address, bounds = land_picture()
        self._changed = changed
        self._placing = False
        style = {"color": "#808080", "weight": 1, "opacity": 0.6}
        self.lines = GeoJSON(data=lines(-60, -180, 80, 180), style=style, name="graticule")
        self.names = LayerGroup(name="degrees")
        land = ImageOverlay(url=address, bounds=bounds, name="land")
        back = [_tiles(basemap)] if basemap else [land]
        self.map = Map(
            center=(30.0, 10.0),
            zoom=2,
            layers=(*back, self.lines, self.names),
            layout={"height": height, "width": "100%"},
            scroll_wheel_zoom=True,
            attribution_control=basemap is not None,
        )
        off: dict[str, Any] = {}
        self.draw = DrawControl(
            polygon={"shapeOptions": _SHAPE, "allowIntersection": False},
            rectangle={"shapeOptions": _SHAPE},
            polyline=off,
            circlemarker=off,
        )
        self.map.add(self.draw)
        self.map.add(ScaleControl(position="bottomleft", imperial=False))
        self.draw.observe(self._drawn, names="data")
        self.map.observe(self._moved, names="bounds")

    def place(self, geometry: dict[str, Any] | None) -> None:
        """Show a GeoJSON geometry, and no other, where it can be edited."""
        self._placing = True
        try:
            properties = {"style": _SHAPE}
            feature = {"type": "Feature", "properties": properties, "geometry": geometry}
            self.draw.data = [] if geometry is None else [feature]
        finally:
            self._placing = False

    def look_at(self, geometry: BaseGeometry) -> None:
        """Move the map so that a geometry fills about half of it."""
        west, south, east, north = geometry.bounds
        self.map.center = ((south + north) / 2, (west + east) / 2)
        span = max(east - west, (north - south) / max(math.cos(math.radians(south)), 0.1), 1e-5)
        # A world is 256 pixels wide at zoom 0; the map is some 500 wide.
        self.map.zoom = min(max(math.floor(math.log2(360 * 250 / 256 / span)), 1), 18)

    def _drawn(self, change: dict[str, Any]) -> None:
        if not self._placing:
            self._changed(list(change["new"]))

    def _moved(self, change: dict[str, Any]) -> None:
        if not change["new"]:
            return
        (south, west), (north, east) = change["new"]
        if north > south and east > west:
            found = lines(south, west, north, east)
            self.lines.data = found
            self._write([feature["properties"] for feature in found["features"]])

    def _write(self, labels: list[dict[str, Any]]) -> None:
        old = self.names.layers
        self.names.layers = tuple(
            _name(label["at"], label["label"]) for label in labels if label["label"]
        )
        _close_names(old)

    def close(self) -> None:
        """Close all widgets of the map."""
        self.draw.unobserve(self._drawn, names="data")
        self.map.unobserve(self._moved, names="bounds")
        _close_names(self.names.layers)
        close_tree(self.map)


def _name(place: list[float], text: str) -> Any:
    from ipyleaflet import DivIcon, Marker

    body = (
        '<span style="font-size:11px;white-space:nowrap;padding:0 2px;border-radius:2px;'
        "color:var(--jp-ui-font-color1,#212121);background:var(--jp-layout-color1,#ffffff);"
        f'opacity:0.8">{text}</span>'
    )
    icon = DivIcon(html=body, icon_size=[0, 0], icon_anchor=[-2, 8], bg_pos=[0, 0])
    return Marker(location=place, icon=icon, draggable=False, keyboard=False, title=text)


def _close_names(markers: tuple[Any, ...]) -> None:
    for marker in markers:
        close_tree(marker)


def _tiles(name: str) -> Any:
    import xyzservices.providers
    from ipyleaflet import basemap_to_tiles

    try:
        return basemap_to_tiles(xyzservices.providers.query_name(name))
    except ValueError as error:
        raise TimoError(
            f"There is no base map {name!r}. Known are those of xyzservices, as "
            '"OpenStreetMap.Mapnik" or "Esri.WorldImagery"'
        ) from error
