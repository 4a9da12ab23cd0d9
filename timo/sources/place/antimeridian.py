"""Longitudes are a circle: polygons that cross the antimeridian, made continuous, and cut again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import shapely
from shapely import LinearRing, MultiPolygon, Polygon
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from timo.errors import TimoError

_POLE = (
    "The area goes once around the globe, so that a pole is inside it, and longitude and latitude cannot say which. "
    "Give a box, as (-180, 84, 180, 90), or several polygons that leave the pole out"
)


def unwrap(polygon: Polygon) -> Polygon:
    """Polygon with continuous longitudes: an edge that jumps by more than 180 degrees goes the short way round.

    An edge of exactly 360 degrees (the world's outline, or one that runs along a pole) stays as it is.

    Raises
    ------
    TimoError
        If the outline goes around a pole.
    """
    shell = _unwrap_ring(polygon.exterior)
    west = shell.bounds[0]
    holes = [_unwrap_ring(ring) for ring in polygon.interiors]
    return Polygon(shell, [translate(h, -360 * _turns(h.bounds[0], west)) for h in holes])


def join(polygons: Sequence[Polygon]) -> BaseGeometry:
    """Union of polygons on the circle of longitudes, begun after the widest gap between them.

    Parameters
    ----------
    polygons : sequence of Polygon
        Each with continuous longitudes, in any turn of the circle.

    Returns
    -------
    Polygon or MultiPolygon
        Its west is within -180..180; its east may lie beyond.
    """
    parts = [translate(p, -360 * _turns(p.bounds[0], -180)) for p in polygons]
    parts.sort(key=lambda part: part.bounds[0])
    first = _after_widest_gap([part.bounds[0] for part in parts], [p.bounds[2] for p in parts])
    turned = [translate(part, 360) if i < first else part for i, part in enumerate(parts)]
    return turned[0] if len(turned) == 1 else shapely.union_all(turned)


def cut(geometry: BaseGeometry) -> BaseGeometry:
    """Geometry with continuous longitudes from -180 on, cut at the antimeridian (RFC 7946, section 3.1.9)."""
    west, south, east, north = geometry.bounds
    if east <= 180:
        return geometry
    sides = (
        geometry.intersection(shapely.box(west, south - 1, 180, north + 1)),
        translate(geometry.intersection(shapely.box(180, south - 1, east, north + 1)), -360),
    )
    # What only touches the antimeridian leaves a line there.
    parts = [p for side in sides for p in shapely.get_parts(side) if isinstance(p, Polygon)]
    merged = shapely.union_all(parts) if east > 360 + west else MultiPolygon(parts)
    return merged if len(parts) > 1 else parts[0]


def winding(longitudes: np.ndarray) -> int:
    """How often a closed ring goes around the globe, eastwards."""
    return round(float(_steps(longitudes).sum()) / 360)


def _unwrap_ring(ring: LinearRing) -> LinearRing:
    points = shapely.get_coordinates(ring)
    if winding(points[:, 0]):
        raise TimoError(_POLE)
    points[1:, 0] = points[0, 0] + np.cumsum(_steps(points[:, 0]))
    points[-1] = points[0]
    return LinearRing(points)


def _steps(longitudes: np.ndarray) -> np.ndarray:
    steps = np.diff(longitudes)
    jumps = (np.abs(steps) > 180) & (np.abs(np.abs(steps) - 360) > 1e-9)
    return np.where(jumps, steps - 360 * np.round(steps / 360), steps)


def _turns(longitude: float, start: float) -> int:
    """Whole turns from start up to a longitude; a hair below a turn counts as on it."""
    return math.floor((longitude - start) / 360 + 1e-12)


def _after_widest_gap(wests: list[float], easts: list[float]) -> int:
    """Which interval comes after the widest gap; they are in order of their west."""
    reach = np.maximum.accumulate(easts)
    gaps = [wests[0] + 360 - reach[-1], *(np.asarray(wests[1:]) - reach[:-1])]
    return int(np.argmax(np.round(gaps, 9)))
