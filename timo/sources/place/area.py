"""The area of interest: one geometry on the globe; longitudes are a circle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyproj
import shapely
from shapely import LinearRing, MultiPolygon, Polygon
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from timo.checks import checked
from timo.crs import LONLAT, crs_name, meant_unit, project, read_crs
from timo.errors import TimoError

FORMS = (
    "(west, south, east, north) in degrees, GeoJSON (a dict, or the path of a file), WKT, a shapely geometry in "
    "degrees, a GeoDataFrame, or a map on which it was drawn"
)
# About a metre: no pixel shifts, and an area keeps few vertices.
TOLERANCE_DEGREES = 1e-5
# One turn more than any map gives.
_FURTHEST_LONGITUDE = 720
# Half a meridian: coordinates on a map beyond it are metres, those below may be kilometres.
_FURTHEST_KM = 20_010
_GEOD = pyproj.Geod(ellps="WGS84")
_POLE = (
    "The area goes once around the globe, so that a pole is inside it, and longitude and latitude cannot say which. "
    "Give a box, as (-180, 84, 180, 90), or several polygons that leave the pole out"
)


@checked
@dataclass(frozen=True, repr=False)
class Area:
    """An area of interest.

    Parameters
    ----------
    geometry : shapely Polygon or MultiPolygon
        In degrees (EPSG:4326, longitude first), valid, not empty, edges straight in degrees. Longitudes are continuous:
        its west is within -180..180, and an area that crosses the antimeridian goes beyond 180.
    planar : (str, shapely Polygon or MultiPolygon), optional
        CRS and geometry in which it was given, where that was a projected one: on a grid in that CRS it is exact.
    """

    geometry: BaseGeometry
    planar: tuple[str, BaseGeometry] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.geometry.is_empty or not isinstance(self.geometry, Polygon | MultiPolygon):
            raise TimoError(
                f"An area is a polygon with an inside; got {self.geometry.geom_type}. timo.sources.parse_aoi makes one"
            )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees; the east may lie beyond 180."""
        return self.geometry.bounds

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude (-180..180) and latitude of the middle of its bounds."""
        west, south, east, north = self.bounds
        return ((west + east) / 2 + 180) % 360 - 180, (south + north) / 2

    @property
    def wrapped(self) -> BaseGeometry:
        """The geometry within -180..180: cut in two at the antimeridian, as RFC 7946 (section 3.1.9) wants it."""
        return _cut(self.geometry)

    @property
    def geojson(self) -> dict[str, Any]:
        """`wrapped` as a GeoJSON geometry, its outer rings counterclockwise (RFC 7946, section 3.1.6)."""
        parts = [orient(part) for part in shapely.get_parts(self.wrapped)]
        return shapely.geometry.mapping(parts[0] if len(parts) == 1 else MultiPolygon(parts))

    @property
    def hectares(self) -> float:
        """Its area on the ellipsoid (WGS 84)."""
        # Short edges, because a long one would be taken for a geodesic, which leaves the parallel; in quarters of the
        # globe, because the inside of a line around half of it is ambiguous.
        fine = shapely.segmentize(self.geometry, 0.1)
        west, _, east, _ = fine.bounds
        quarters = [
            fine.intersection(shapely.box(w, -91, w + 90, 91)) for w in np.arange(west, east, 90)
        ]
        parts = [orient(p) for p in shapely.get_parts(quarters) if isinstance(p, Polygon)]
        return float(sum(_GEOD.geometry_area_perimeter(part)[0] for part in parts)) / 1e4

    def __repr__(self) -> str:
        lon, lat = self.centre
        place = f"{abs(lat):.4f} {'NS'[lat < 0]}, {abs(lon):.4f} {'EW'[lon < 0]}"
        return f"Area({self.hectares:,.4g} ha around {place})"


def make_area(geometries: Sequence[BaseGeometry], crs: Any = LONLAT) -> Area:
    """Make an area of geometries in a CRS (longitude or easting first); see `parse_aoi`, errors included."""
    polygons = [polygon for geometry in geometries for polygon in _polygons(geometry)]
    if not polygons:
        raise TimoError(f"The area is empty: it holds no polygon. Give {FORMS}")
    if not np.isfinite(shapely.get_coordinates(polygons)).all():
        raise TimoError("The area's coordinates hold NaN or infinity. Give finite numbers")
    system = read_crs(crs, what="the area's crs")
    name, lonlat = crs_name(system), pyproj.CRS(LONLAT)
    if name == LONLAT:
        return Area(on_globe(polygons))
    if system.is_geographic:
        check_degrees(shapely.get_coordinates(polygons))
        return Area(on_globe([project(p, system, lonlat, 0) for p in polygons]))
    for polygon in polygons:
        check_valid(polygon)
    whole = shapely.union_all(polygons)
    left, bottom, right, top = whole.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    if unit := meant_unit(x, y, system):
        raise TimoError(
            f"The area's coordinates, such as ({x:g}, {y:g}), seem to be {unit}, and the unit of {system.name!r} is "
            f"the {system.axis_info[0].unit_name}: as they stand they lie outside of where it is used. Say the CRS "
            'that they are in, with frame.set_crs("EPSG:...", allow_override=True)'
        )
    moved = project(whole, system, lonlat, TOLERANCE_DEGREES)
    return Area(on_globe(list(_polygons(moved))), (name, whole))


def on_globe(polygons: Sequence[Polygon]) -> BaseGeometry:
    """Join polygons in degrees to one geometry with continuous longitudes."""
    check_degrees(shapely.get_coordinates(polygons))
    whole = [_unwrap(polygon) for polygon in polygons]
    for polygon in whole:
        check_valid(polygon)
    return join(whole)


def _polygons(geometry: BaseGeometry) -> Iterator[Polygon]:
    """Yield the polygons of a geometry, flat; refuse anything else in it."""
    if geometry.is_empty:
        return
    if isinstance(geometry, Polygon):
        yield shapely.force_2d(geometry)
    elif isinstance(geometry, MultiPolygon) or geometry.geom_type == "GeometryCollection":
        for part in geometry.geoms:
            yield from _polygons(part)
    else:
        raise TimoError(
            f"The area holds a {geometry.geom_type}, which covers no ground. Buffer it, in metres, as "
            "frame.to_crs(frame.estimate_utm_crs()).buffer(500) of a GeoDataFrame; or give the box around it, (west, "
            "south, east, north); or leave it out"
        )


def check_degrees(points: np.ndarray) -> None:
    """Refuse (n, 2) coordinates that cannot be longitudes and latitudes."""
    lon, lat = np.abs(points).T
    if lat.max() <= 90 and lon.max() <= _FURTHEST_LONGITUDE:
        return
    largest = max(lon.max(), lat.max())
    if largest > _FURTHEST_LONGITUDE:
        x, y = points[np.maximum(lon, lat).argmax()]
        unit, times = ("metres", "") if largest > _FURTHEST_KM else ("kilometres", " times 1,000")
        raise TimoError(
            f"The area's coordinates, such as ({x:g}, {y:g}), are no degrees but seem to be {unit}. Give them"
            f'{times} with their CRS, as geopandas.GeoSeries([geometry], crs="EPSG:..."), or reproject to EPSG:4326'
        )
    swapped = lat.min() > 90 and lat.max() <= 180 and lon.max() <= 90
    raise TimoError(
        f"The area's latitudes must be within -90..90 degrees; got {points[lat.argmax(), 1]:g}. "
        f"{'Latitude and longitude are swapped: longitude' if swapped else 'Longitude'} (x) comes first"
    )


def check_valid(polygon: Polygon) -> None:
    """Refuse a polygon without an area, or one that crosses itself."""
    if polygon.convex_hull.area == 0 or (polygon.is_valid and polygon.area == 0):
        raise TimoError(
            "The area is a point or a line: it is 0 wide or 0 high. Give the corners of a box or polygon around it"
        )
    if not polygon.is_valid:
        reason = shapely.is_valid_reason(polygon).replace("[", " at (").replace("]", ")")
        raise TimoError(
            f"The area's outline is not valid: {reason}. Draw it without crossings, or mend it with "
            "shapely.make_valid(geometry) and look at what comes out"
        )


# The circle of longitudes


def join(polygons: Sequence[Polygon]) -> BaseGeometry:
    """Unite polygons on the circle of longitudes, begun after the widest gap between them.

    Each comes with continuous longitudes, in any turn of the circle. The west of the union is within -180..180; its
    east may lie beyond.
    """
    if len(polygons) == 1 and -180 <= polygons[0].bounds[0] < 180:
        return polygons[0]
    parts = [translate(p, -360 * _turns(p.bounds[0], -180)) for p in polygons]
    parts.sort(key=lambda part: part.bounds[0])
    wests = [part.bounds[0] for part in parts]
    reach = np.maximum.accumulate([part.bounds[2] for part in parts])
    gaps = [wests[0] + 360 - reach[-1], *(np.asarray(wests[1:]) - reach[:-1])]
    first = int(np.argmax(np.round(gaps, 9)))
    turned = [translate(part, 360) if i < first else part for i, part in enumerate(parts)]
    return turned[0] if len(turned) == 1 else shapely.union_all(turned)


def winding(longitudes: np.ndarray) -> int:
    """Count how often a closed ring goes around the globe, eastwards."""
    return round(float(_steps(longitudes).sum()) / 360)


def continuous(longitudes: np.ndarray) -> np.ndarray:
    """Return longitudes along a line without jumps: each is the nearest to the one before."""
    return np.concatenate([longitudes[:1], longitudes[0] + np.cumsum(_steps(longitudes))])


def _steps(longitudes: np.ndarray) -> np.ndarray:
    """Return steps the short way round; one of exactly 360 (a line along a pole) stays as it is."""
    steps = np.diff(longitudes)
    jumps = (np.abs(steps) > 180) & (np.abs(np.abs(steps) - 360) > 1e-9)
    return np.where(jumps, steps - 360 * np.round(steps / 360), steps)


def _unwrap(polygon: Polygon) -> Polygon:
    """Make longitudes continuous: an edge that jumps by more than 180 degrees goes the short way round."""
    if polygon.bounds[2] - polygon.bounds[0] <= 180:
        return polygon
    shell = _unwrap_ring(polygon.exterior)
    west = shell.bounds[0]
    holes = [_unwrap_ring(ring) for ring in polygon.interiors]
    return Polygon(shell, [translate(h, -360 * _turns(h.bounds[0], west)) for h in holes])


def _unwrap_ring(ring: LinearRing) -> LinearRing:
    points = shapely.get_coordinates(ring)
    if winding(points[:, 0]):
        raise TimoError(_POLE)
    points[:, 0] = continuous(points[:, 0])
    points[-1] = points[0]
    return LinearRing(points)


def _cut(geometry: BaseGeometry) -> BaseGeometry:
    """Cut a geometry with continuous longitudes from -180 on at the antimeridian."""
    west, south, east, north = geometry.bounds
    if east <= 180:
        return geometry
    sides = (
        geometry.intersection(shapely.box(west, south - 1, 180, north + 1)),
        translate(geometry.intersection(shapely.box(180, south - 1, east, north + 1)), -360),
    )
    # What only touches the antimeridian leaves a line there.
    parts = [part for part in shapely.get_parts(sides) if isinstance(part, Polygon)]
    merged = shapely.union_all(parts) if east > 360 + west else MultiPolygon(parts)
    return merged if len(parts) > 1 else parts[0]


def _turns(longitude: float, start: float) -> int:
    """Return whole turns from start up to a longitude; a hair below a turn counts as on it."""
    return math.floor((longitude - start) / 360 + 1e-12)
