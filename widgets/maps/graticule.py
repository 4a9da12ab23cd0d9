"""Where one is on a map without a network: lines of longitude and latitude, their degrees, and land in grey."""

from __future__ import annotations

import io
import math
from functools import cache
from typing import Any

import numpy as np

from ..base.style import data_uri
from .warp import from_web, to_web

STEPS = (
    *(30.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01),
    *(0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001),
)
_FEWEST, _POLE = 3, 85.0
# Rows and columns of the raster of land that become one cell of the picture.
_COARSER = 4
_SHADES = 4


def step_of(span: float) -> float:
    """Return the degrees from line to line, such that at least three lie within a span."""
    return next((step for step in STEPS if span / step >= _FEWEST), STEPS[-1])


def ticks(low: float, high: float, step: float) -> list[float]:
    """Return the multiples of a step within an interval."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def degrees_text(value: float, step: float, sides: str) -> str:
    """Return the degrees with as many digits as the step needs, and N, S, E or W."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    side = "" if value == 0 else sides[value < 0]
    return f"{abs(value):.{digits}f}° {side}".strip()


def lines(south: float, west: float, north: float, east: float) -> dict[str, Any]:
    """Return the graticule within bounds, as a GeoJSON FeatureCollection of lines.

    The property "label" is the degrees, "at" the (latitude, longitude) where they stand: at the upper edge for
    meridians, at the right for parallels.
    """
    south, north = max(south, -_POLE), min(north, _POLE)
    # Fewer meridians, whose degrees stand side by side.
    step, down = step_of((east - west) * 0.7), step_of(north - south)
    features = []
    # Beyond the edges, too: the map may grow before it reports its new bounds.
    wide, high = (east - west) / 2, (north - south) / 2
    low, top = max(south - high, -_POLE), min(north + high, _POLE)
    for lon in ticks(west, east, step):
        # At the left the map's own buttons stand.
        hidden = lon < west + 0.09 * (east - west)
        text = "" if hidden else degrees_text((lon + 180) % 360 - 180, step, "EW")
        place = [north - 0.03 * (north - south), lon]
        features.append(_line([[lon, low], [lon, top]], text, place))
    for lat in ticks(south, north, down):
        place = [lat, east - 0.09 * (east - west)]
        features.append(
            _line([[west - wide, lat], [east + wide, lat]], degrees_text(lat, down, "NS"), place)
        )
    return {"type": "FeatureCollection", "features": features}


def _line(points: list[list[float]], label: str, at: list[float]) -> dict[str, Any]:
    return {
        "type": "Feature",
        "properties": {"label": label, "at": at},
        "geometry": {"type": "LineString", "coordinates": points},
    }


@cache
def land_picture() -> tuple[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Return the world's land in translucent grey, as a data URI in Web Mercator, and its bounds in degrees."""
    from timo.datasets.millionst.world import LAND_CELL, NORTH, SOUTH, load_world

    land = load_world().land
    rows, columns = (size // _COARSER for size in land.shape)
    cells = land[: rows * _COARSER, : columns * _COARSER]
    share = cells.reshape(rows, _COARSER, columns, _COARSER).mean(axis=(1, 3))
    _, (top, bottom) = to_web(0, np.array([NORTH, SOUTH]))
    # Rows at equal steps of the projection, looked up at their latitude.
    _, latitudes = from_web(0, top - (np.arange(columns) + 0.5) * (top - bottom) / columns)
    found = np.floor((NORTH - latitudes) / (LAND_CELL * _COARSER)).astype(int).clip(0, rows - 1)
    shades = (share[found] * (_SHADES - 1)).round().astype("uint8")
    return data_uri(_grey(shades)), ((SOUTH, -180.0), (NORTH, 180.0))


def _grey(shades: np.ndarray) -> bytes:
    """Return a PNG of one byte a pixel: grey, the more opaque the higher the number."""
    from PIL import Image

    image = Image.fromarray(shades).convert("P")
    image.putpalette([128] * 3 * 256)
    buffer = io.BytesIO()
    opacity = bytes(round(90 * i / (_SHADES - 1)) for i in range(_SHADES))
    image.save(buffer, "PNG", transparency=opacity, optimize=True)
    return buffer.getvalue()
