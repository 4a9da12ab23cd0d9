"""Geometries: kept in longitude and latitude, distances and areas on the ellipsoid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyproj
import shapely
from shapely.affinity import translate
from shapely.errors import GEOSException
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box, mapping
from shapely.geometry.base import BaseGeometry

from ..errors import EngineError
from ..grid import WGS84, Projection, moved
from ..registry import register
from ..values import Feature, Geometry
from .filters import intersecting
from .promotion import to_geometry

_GEOD = pyproj.Geod(ellps="WGS84")
# Parts into which a side is cut before it is projected.
_PARTS = 16


def within_the_earth(shape: BaseGeometry) -> BaseGeometry:
    """Cut a shape whose longitudes go beyond 180 degrees there, and put the parts where they are."""
    west, _, east, _ = shape.bounds if not shape.is_empty else (0, 0, 0, 0)
    if west >= -180 and east <= 180:
        return shape
    turns = range(math.floor((west + 180) / 360), math.floor((east + 180) / 360) + 1)
    parts = [
        shapely.intersection(translate(shape, -360 * turn), box(-180, -90, 180, 90))
        for turn in turns
    ]
    return shapely.unary_union(parts)


def _flat(coordinates: Any) -> list[Any]:
    """Return the pairs of a list that may be one of numbers."""
    if coordinates and isinstance(coordinates[0], int | float):
        return [list(pair) for pair in zip(coordinates[::2], coordinates[1::2], strict=True)]
    return list(coordinates)


def _polygon(rings: Any) -> BaseGeometry:
    return shapely.make_valid(Polygon(_flat(rings[0]), [_flat(ring) for ring in rings[1:]]))


def _rectangle(coordinates: Any) -> BaseGeometry:
    x, y = zip(*_flat(coordinates), strict=True)
    return box(min(x), min(y), max(x), max(y))


def _register_constructor(name: str, make: Callable[[Any], BaseGeometry]) -> None:
    def construct(coordinates: Any, crs: Projection | None = None) -> Geometry:
        try:
            shape = make(coordinates)
        except (ValueError, TypeError, IndexError, GEOSException) as error:
            raise EngineError(
                f"GeometryConstructors.{name}: Invalid coordinates: {error}."
            ) from error
        if crs is not None and crs.crs != WGS84.crs:
            step = max(shape.length / _PARTS, 1e-9)
            shape = moved(shapely.segmentize(shape, step), crs.crs, WGS84.crs)
        return Geometry(within_the_earth(shape))

    register(f"GeometryConstructors.{name}")(construct)


_register_constructor("Point", Point)
_register_constructor("MultiPoint", lambda c: MultiPoint(_flat(c)))
_register_constructor("LineString", lambda c: LineString(_flat(c)))
_register_constructor("Polygon", _polygon)
_register_constructor("MultiPolygon", lambda c: shapely.unary_union([_polygon(r) for r in c]))
_register_constructor("Rectangle", _rectangle)


@register("GeometryConstructors.BBox")
def bbox(west: float, south: float, east: float, north: float) -> Geometry:
    """Make a box between meridians and parallels; where west is more than east, across the antimeridian."""
    if south > north:
        raise EngineError("GeometryConstructors.BBox: south must not be greater than north.")
    if east - west >= 360:
        return Geometry(box(-180, south, 180, north), geodesic=False)
    if west > east:
        parts = [box(west, south, 180, north), box(-180, south, east, north)]
        return Geometry(MultiPolygon(parts), geodesic=False)
    return Geometry(box(west, south, east, north), geodesic=False)


def bounded(geometry: Geometry, asked_by: str) -> BaseGeometry:
    """Return the shape of a geometry that has bounds."""
    if geometry.shape is None:
        raise EngineError(
            f"{asked_by}: Unable to perform this geometry operation. Geometry is unbounded."
        )
    return geometry.shape


@register("Geometry.bounds")
def bounds(geometry: Geometry) -> Geometry:
    """Return the box around it."""
    return Geometry(box(*bounded(geometry, "Geometry.bounds").bounds), geodesic=False)


@register("Geometry.centroid")
def centroid(geometry: Geometry) -> Geometry:
    """Return its centre of mass."""
    return Geometry(bounded(geometry, "Geometry.centroid").centroid)


@register("Geometry.buffer")
def buffer(geometry: Geometry, distance: float) -> Geometry:
    """Return what is within a distance of it in metres, in a projection around its centre."""
    shape = bounded(geometry, "Geometry.buffer")
    lon, lat = shape.centroid.x, shape.centroid.y
    local = f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m"
    around = moved(shape, WGS84.crs, local).buffer(distance)
    return Geometry(within_the_earth(moved(around, local, WGS84.crs)))


@register("Geometry.area")
def area(geometry: Geometry) -> float:
    """Return its square metres on the ellipsoid."""
    return abs(_GEOD.geometry_area_perimeter(bounded(geometry, "Geometry.area"))[0])


@register("Geometry.length", "Geometry.perimeter")
def length(geometry: Geometry) -> float:
    """Return its length, or that of its edge, in metres on the ellipsoid."""
    return float(_GEOD.geometry_length(bounded(geometry, "Geometry.length")))


def _register_of_feature(name: str, of_geometry: Callable[..., Any]) -> None:
    def apply(feature: Feature, distance: float | None = None) -> Any:
        geometry = to_geometry(feature, f"Feature.{name}")
        found = of_geometry(geometry) if distance is None else of_geometry(geometry, distance)
        return Feature(found, feature.properties) if isinstance(found, Geometry) else found

    register(f"Feature.{name}")(apply)


for _function in (bounds, centroid, buffer, area, length):
    _register_of_feature(_function.__name__, _function)


@register("Geometry.intersects")
def intersects(left: Geometry, right: Geometry) -> bool:
    """Return whether two of them meet."""
    return intersecting(left, right)


def _register_pair(name: str, combine: Callable[[Any, Any], Any]) -> None:
    def apply(left: Geometry, right: Geometry) -> Any:
        found = combine(bounded(left, name), bounded(right, name))
        return Geometry(found) if isinstance(found, BaseGeometry) else bool(found)

    register(name)(apply)


_register_pair("Geometry.intersection", shapely.intersection)
_register_pair("Geometry.union", shapely.union)
_register_pair("Geometry.difference", shapely.difference)
_register_pair("Geometry.contains", shapely.contains)


@register("Geometry.transform")
def transform(geometry: Geometry, proj: Projection | None = None) -> Geometry:
    """Return a geometry as it is: all are in longitude and latitude."""
    if proj is not None and proj.crs != WGS84.crs:
        raise EngineError("Geometry.transform: the emulator knows geometries in EPSG:4326 only.")
    return geometry


@register("Geometry.coordinates")
def coordinates(geometry: Geometry) -> Any:
    """Return its coordinates, as in GeoJSON."""
    return geojson(geometry)["coordinates"]


@register("Geometry.type")
def type_(geometry: Geometry) -> str:
    """Return its kind, as in GeoJSON."""
    return str(geojson(geometry)["type"])


def geojson(geometry: Geometry) -> dict[str, Any]:
    """Return a geometry as `getInfo` shows it."""
    if geometry.shape is None:
        return {"type": "Polygon", "coordinates": [], "geodesic": False}
    return _as_lists(mapping(geometry.shape)) | ({} if geometry.geodesic else {"geodesic": False})


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
