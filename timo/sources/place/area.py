"""The area of interest: one geometry on the globe, whatever it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyproj
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from timo.errors import TimoError
from timo.sources.place.antimeridian import cut, join, unwrap
from timo.sources.place.projection import LONLAT, crs_name, project, read_crs

FORMS = (
    "(west, south, east, north) in degrees, GeoJSON (a dict, or the path of a file), WKT, a shapely geometry in "
    "degrees, a GeoDataFrame, or a map on which it was drawn"
)
# About a metre: no pixel shifts, and an area keeps few vertices.
TOLERANCE_DEGREES = 1e-5
# One turn more than any map gives; metres on a map are in the thousands.
_FURTHEST_LONGITUDE = 720
_GEOD = pyproj.Geod(ellps="WGS84")


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
        return cut(self.geometry)

    @property
    def geojson(self) -> dict[str, Any]:
        """`wrapped` as a GeoJSON geometry, its outer rings counterclockwise (RFC 7946, section 3.1.6)."""
        return shapely.geometry.mapping(_oriented(self.wrapped))

    @property
    def hectares(self) -> float:
        """Its area on the ellipsoid (WGS 84)."""
        # Short edges, because a long one would be taken for a geodesic, which leaves the parallel; in quarters of the
        # globe, because what lies inside of a line around half of it is anybody's guess.
        fine = shapely.segmentize(self.geometry, 0.1)
        west, _, east, _ = fine.bounds
        starts = np.arange(west, east, 90)
        quarters = [fine.intersection(shapely.box(w, -91, w + 90, 91)) for w in starts]
        return float(sum(_square_metres(quarter) for quarter in quarters)) / 1e4

    def __repr__(self) -> str:
        lon, lat = self.centre
        place = f"{abs(lat):.4f} {'NS'[lat < 0]}, {abs(lon):.4f} {'EW'[lon < 0]}"
        return f"Area({self.hectares:,.4g} ha around {place})"


def make_area(geometries: Sequence[BaseGeometry], crs: Any = LONLAT) -> Area:
    """Area of geometries in a CRS (longitude or easting first); see `parse_aoi`.

    Raises
    ------
    TimoError
        As `parse_aoi`.
    """
    polygons = [polygon for geometry in geometries for polygon in _polygons(geometry)]
    if not polygons:
        raise TimoError(f"The area is empty: it holds no polygon. Give {FORMS}")
    check_finite(shapely.get_coordinates(polygons))
    system = read_crs(crs, what="the area's crs")
    name = crs_name(system)
    if name == LONLAT:
        return Area(_on_globe(polygons))
    if system.is_geographic:
        lonlat = pyproj.CRS(LONLAT)
        return Area(_on_globe([project(p, system, lonlat, 0) for p in polygons]))
    for polygon in polygons:
        check_valid(polygon)
    whole = shapely.union_all(polygons)
    moved = project(whole, system, pyproj.CRS(LONLAT), TOLERANCE_DEGREES)
    return Area(_on_globe(list(_polygons(moved))), (name, whole))


def _on_globe(polygons: Sequence[Polygon]) -> BaseGeometry:
    """One geometry with continuous longitudes, from polygons in degrees."""
    check_degrees(shapely.get_coordinates(polygons))
    whole = [unwrap(polygon) for polygon in polygons]
    for polygon in whole:
        check_valid(polygon)
    return join(whole)


def _polygons(geometry: BaseGeometry) -> Iterator[Polygon]:
    """The polygons of a geometry, flat; anything else in it is refused."""
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


def check_finite(points: np.ndarray) -> None:
    """Refuse (n, 2) coordinates that are no numbers."""
    if not np.isfinite(points).all():
        raise TimoError("The area's coordinates hold NaN or infinity. Give finite numbers")


def check_degrees(points: np.ndarray) -> None:
    """Refuse (n, 2) coordinates that are no longitudes and latitudes."""
    lon, lat = np.abs(points).T
    if lat.max() <= 90 and lon.max() <= _FURTHEST_LONGITUDE:
        return
    if max(lon.max(), lat.max()) > _FURTHEST_LONGITUDE:
        x, y = points[np.maximum(lon, lat).argmax()]
        raise TimoError(
            f"The area's coordinates, such as ({x:g}, {y:g}), are no degrees but seem to be metres. Give it with its "
            'CRS, as geopandas.GeoSeries([geometry], crs="EPSG:..."), or reproject it to EPSG:4326'
        )
    swapped = lat.min() > 90 and lat.max() <= 180 and lon.max() <= 90
    raise TimoError(
        f"The area's latitudes must be within -90..90; got {points[lat.argmax(), 1]:g}. "
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


def _square_metres(geometry: BaseGeometry) -> float:
    """On the ellipsoid, of the polygons of a geometry with short edges."""
    parts = [orient(part) for part in shapely.get_parts(geometry) if isinstance(part, Polygon)]
    return float(sum(_GEOD.geometry_area_perimeter(part)[0] for part in parts))


def _oriented(geometry: BaseGeometry) -> BaseGeometry:
    """Outer rings counterclockwise, holes clockwise."""
    parts = [orient(part) for part in shapely.get_parts(geometry)]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
