"""Areas in words, and words as areas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import shapely

from timo.errors import TimoError
from timo.sources import Area

from ..base.steps import Step


def area_name(area: Area) -> str:
    """Return the place and size, for a list."""
    lon, lat = area.centre
    place = f"{abs(lat):.4f} {'NS'[lat < 0]}, {abs(lon):.4f} {'EW'[lon < 0]}"
    return f"{place} ({hectares_text(area)})"


def hectares_text(area: Area) -> str:
    """Say its size: in hectares, and from 100,000 on in square kilometres too."""
    size = area.hectares
    if size < 100:
        return f"{size:.3g} ha"
    return f"{size:,.0f} ha" if size < 1e5 else f"{size:,.0f} ha, {size / 100:,.0f} km²"


def read_text(text: str) -> Any:
    """Read a written area: four numbers, WKT, GeoJSON, or the path of a file."""
    parts = text.strip("()[]").replace(",", " ").replace(";", " ").split()
    try:
        return [float(part) for part in parts]
    except ValueError:
        return text


def read_upload(file: Mapping[str, Any]) -> str:
    """Return the GeoJSON of a file that was uploaded, as ipywidgets hands it over."""
    text = bytes(file["content"]).decode("utf-8-sig", errors="replace").lstrip()
    if not text.startswith("{"):
        raise TimoError(f"{file['name']!r} is no GeoJSON. Save the area as GeoJSON (EPSG:4326)")
    return text


def code_lines(source: str, options: Mapping[str, Any], *, fetched: bool) -> list[str]:
    """Return the lines of Python that open the same cube."""
    lines = ["import timo", Step("timo.open_cube", source, target="cube", **options)]
    return [*lines, "cube = timo.fetch(cube)"] if fetched else lines


def short_form(area: Area) -> Any:
    """Return the area as (west, south, east, north) if it is a box, else as GeoJSON."""
    box = area.bounds
    if shapely.box(*box).equals(area.geometry) and box[2] <= 180:
        return tuple(round(value, 7) for value in box)
    return area.geojson
