"""Geometries: kept in longitude and latitude, distances and areas on the ellipsoid."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyproj
import shapely
from shapely.affinity import translate
from shapely.errors import GEOSException
from shapely.geometry import (
    GeometryCollection,
    LinearRing,
    LineString,
    MultiLineString,
    MultiPoint,
    MultiPolygon,
    Point,
    Polygon,
    box,
    mapping,
)
from shapely.geometry.base import BaseGeometry

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.functions.filters import intersecting
from timo.testing.earthengine.functions.promotion import to_geometry
from timo.testing.earthengine.grid import WGS84, Projection, moved
from timo.testing.earthengine.registry import register
from timo.testing.earthengine.values import Feature, Geometry

_GEOD = pyproj.Geod(ellps="WGS84")
# Sides are cut in so many parts before they are projected.
_PARTS = 16


def _made(
    name: str, make: Callable[[Any], BaseGeometry], coordinates: Any, crs: Projection | None
) -> Geometry:
    """A geometry of coordinates in some reference system."""
    try:
        shape = make(coordinates)
    except (ValueError, TypeError, IndexError, GEOSException) as error:
        raise EngineError(f"GeometryConstructors.{name}: Invalid coordinates: {error}.") from error
    if crs is not None and crs.crs != WGS84.crs:
        step = max(shape.length / _PARTS, 1e-9)
        shape = moved(shapely.segmentize(shape, step), crs.crs, WGS84.crs)
    return Geometry(within_the_earth(shape))


def within_the_earth(shape: BaseGeometry) -> BaseGeometry:
    """A shape whose longitudes go beyond 180 degrees, cut there and put where it is."""
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
    """Pairs of a list that may be one of numbers."""
    if coordinates and isinstance(coordinates[0], int | float):
        return [list(pair) for pair in zip(coordinates[::2], coordinates[1::2], strict=True)]
    return list(coordinates)


def _polygon(rings: Any) -> BaseGeometry:
    return shapely.make_valid(Polygon(_flat(rings[0]), [_flat(ring) for ring in rings[1:]]))


def _multipolygon(polygons: Any) -> BaseGeometry:
    return shapely.unary_union([_polygon(rings) for rings in polygons])


def _rectangle(coordinates: Any) -> BaseGeometry:
    points = _flat(coordinates)
    x, y = [p[0] for p in points], [p[1] for p in points]
    return box(min(x), min(y), max(x), max(y))


_CONSTRUCTORS: dict[str, Callable[[Any], BaseGeometry]] = {
    "Point": Point,
    "MultiPoint": lambda c: MultiPoint(_flat(c)),
    "LineString": lambda c: LineString(_flat(c)),
    "LinearRing": lambda c: LinearRing(_flat(c)),
    "MultiLineString": lambda c: MultiLineString([_flat(line) for line in c]),
    "Polygon": _polygon,
    "MultiPolygon": _multipolygon,
    "Rectangle": _rectangle,
}


def _register_constructor(name: str, make: Callable[[Any], BaseGeometry]) -> None:
    def construct(
        coordinates: Any,
        crs: Projection | None = None,
        geodesic: bool | None = None,
        max_error: Any = None,
        even_odd: bool = True,
    ) -> Geometry:
        del geodesic, max_error, even_odd
        return _made(name, make, coordinates, crs)

    register(f"GeometryConstructors.{name}")(construct)


for _name, _make in _CONSTRUCTORS.items():
    _register_constructor(_name, _make)


@register("GeometryConstructors.BBox")
def bbox(west: float, south: float, east: float, north: float) -> Geometry:
    """A box between meridians and parallels; where west is more than east, across the antimeridian."""
    if south > north:
        raise EngineError("GeometryConstructors.BBox: south must not be greater than north.")
    if east - west >= 360:
        return Geometry(box(-180, south, 180, north), geodesic=False)
    if west > east:
        parts = [box(west, south, 180, north), box(-180, south, east, north)]
        return Geometry(MultiPolygon(parts), geodesic=False)
    return Geometry(box(west, south, east, north), geodesic=False)


@register("GeometryConstructors.MultiGeometry")
def multi_geometry(
    geometries: list[Any],
    crs: Projection | None = None,
    geodesic: bool | None = None,
    max_error: Any = None,
) -> Geometry:
    """Several geometries as one."""
    del crs, geodesic, max_error
    shapes = [to_geometry(geometry, "MultiGeometry").shape for geometry in geometries]
    return Geometry(GeometryCollection([shape for shape in shapes if shape is not None]))


def bounded(geometry: Geometry, asked_by: str) -> BaseGeometry:
    """The shape of a geometry that has bounds."""
    if geometry.shape is None:
        raise EngineError(
            f"{asked_by}: Unable to perform this geometry operation. Geometry is unbounded."
        )
    return geometry.shape


@register("Geometry.bounds")
def bounds(geometry: Geometry, max_error: Any = None, proj: Projection | None = None) -> Geometry:
    """The box around it."""
    del max_error, proj
    return Geometry(box(*bounded(geometry, "Geometry.bounds").bounds), geodesic=False)


@register("Geometry.centroid")
def centroid(geometry: Geometry, max_error: Any = None, proj: Projection | None = None) -> Geometry:
    """Its centre of mass."""
    del max_error, proj
    return Geometry(bounded(geometry, "Geometry.centroid").centroid)


@register("Geometry.buffer")
def buffer(
    geometry: Geometry, distance: float, max_error: Any = None, proj: Projection | None = None
) -> Geometry:
    """What is within so many metres of it, in a projection around its centre."""
    del max_error, proj
    shape = bounded(geometry, "Geometry.buffer")
    lon, lat = shape.centroid.x, shape.centroid.y
    local = f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m"
    around = moved(shape, WGS84.crs, local).buffer(distance)
    return Geometry(within_the_earth(moved(around, local, WGS84.crs)))


@register("Geometry.area")
def area(geometry: Geometry, max_error: Any = None, proj: Projection | None = None) -> float:
    """Square metres on the ellipsoid."""
    del max_error, proj
    return abs(_GEOD.geometry_area_perimeter(bounded(geometry, "Geometry.area"))[0])


@register("Geometry.length", "Geometry.perimeter")
def length(geometry: Geometry, max_error: Any = None, proj: Projection | None = None) -> float:
    """Metres on the ellipsoid."""
    del max_error, proj
    return float(_GEOD.geometry_length(bounded(geometry, "Geometry.length")))


@register("Geometry.intersects")
def intersects(
    left: Geometry, right: Geometry, max_error: Any = None, proj: Projection | None = None
) -> bool:
    """Whether two of them meet."""
    del max_error, proj
    return intersecting(left, right)


def _register_pair(name: str, combine: Callable[[Any, Any], Any]) -> None:
    def apply(
        left: Geometry, right: Geometry, max_error: Any = None, proj: Projection | None = None
    ) -> Any:
        del max_error, proj
        found = combine(bounded(left, name), bounded(right, name))
        return Geometry(found) if isinstance(found, BaseGeometry) else bool(found)

    register(name)(apply)


for _name, _combine in {
    "Geometry.intersection": shapely.intersection,
    "Geometry.union": shapely.union,
    "Geometry.difference": shapely.difference,
    "Geometry.contains": shapely.contains,
    "Geometry.containedIn": shapely.within,
    "Geometry.disjoint": shapely.disjoint,
}.items():
    _register_pair(_name, _combine)


@register("Geometry.coordinates")
def coordinates(geometry: Geometry) -> Any:
    """Its coordinates, as in GeoJSON."""
    return geojson(geometry)["coordinates"]


@register("Geometry.type")
def type_(geometry: Geometry) -> str:
    """Its kind, as in GeoJSON."""
    return str(geojson(geometry)["type"])


@register("Geometry.isUnbounded")
def is_unbounded(geometry: Geometry) -> bool:
    """Whether it is the whole Earth without bounds."""
    return geometry.shape is None


def geojson(geometry: Geometry) -> dict[str, Any]:
    """A geometry as `getInfo` shows it."""
    if geometry.shape is None:
        return {"type": "Polygon", "coordinates": [], "geodesic": False}
    return _as_lists(mapping(geometry.shape)) | ({} if geometry.geodesic else {"geodesic": False})


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _register_of_feature(name: str, of_geometry: Callable[..., Any]) -> None:
    def apply(
        feature: Feature,
        distance: float | None = None,
        max_error: Any = None,
        proj: Projection | None = None,
    ) -> Any:
        del max_error, proj
        geometry = to_geometry(feature, f"Feature.{name}")
        found = of_geometry(geometry) if distance is None else of_geometry(geometry, distance)
        if not isinstance(found, Geometry):
            return found
        return Feature(found, feature.properties)

    register(f"Feature.{name}")(apply)


for _name, _function in {
    "bounds": bounds,
    "centroid": centroid,
    "buffer": buffer,
    "area": area,
    "length": length,
    "perimeter": length,
}.items():
    _register_of_feature(_name, _function)
