"""Coordinate reference systems: reading, naming and choosing one, and carrying a geometry to another whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import pyproj.exceptions
import shapely
from shapely.geometry.base import BaseGeometry

from timo.checks import described, plain
from timo.errors import TimoError

LONLAT = "EPSG:4326"
# Beyond these latitudes there is no UTM (NGA.STND.0037 2.0.0, section 7-2).
_UTM_NORTH, _UTM_SOUTH = 84.0, -80.0
_SPHERE_M = 6378137.0
# Into how many pieces the longest side is cut at most, to follow the bend of an edge.
_PIECES = tuple(4**k for k in range(8))
_REMEDY = 'Give an EPSG code, as 32635 or "EPSG:3035", WKT, or a pyproj or rasterio CRS'


def parse_crs(crs: Any, *, what: str = "crs") -> pyproj.CRS:
    """Read a reference system of any kind: of three axes, in grads, of a building site; messages call it `what`."""
    crs = plain(crs)
    if crs is None or isinstance(crs, bool):
        raise TimoError(f"{what}={crs!r} is no coordinate reference system. {_REMEDY}")
    try:
        return pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        reason = f": {error}" if isinstance(crs, str | int | dict) else ""
        raise TimoError(f"{what}={described(crs)} cannot be read{reason}. {_REMEDY}") from error
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:  # an array, a tensor
        raise TimoError(f"{what}={described(crs)} cannot be read. {_REMEDY}") from error


def read_crs(crs: Any, *, what: str = "crs") -> pyproj.CRS:
    """Read the reference system of a map: two axes in degrees or a length; a vertical one is dropped."""
    if isinstance(crs, str | int) and not isinstance(crs, bool):
        return _read_named(crs, what)
    return _read_map(crs, what)


@lru_cache(maxsize=256)
def _read_named(crs: str | int, what: str) -> pyproj.CRS:
    """Read a code or text once: of each of many features it would take half a millisecond."""
    return _read_map(crs, what)


def _read_map(crs: Any, what: str) -> pyproj.CRS:
    system = parse_crs(crs, what=what).to_2d()
    axes = [axis.direction for axis in system.axis_info]
    if not (system.is_geographic or system.is_projected) or len(axes) != 2:
        raise TimoError(
            f"{what}={crs!r} ({system.name}) is no system for maps in a plane. {_REMEDY}"
        )
    if system.is_geographic and system.axis_info[0].unit_name != "degree":
        raise TimoError(f"{what}={crs!r} ({system.name}) does not count in degrees. {_REMEDY}")
    if "west" in axes:
        raise TimoError(
            f"{what}={crs!r} ({system.name}) counts towards the west; the rows and columns of a cube go east and "
            "south. Give a system whose axes point east and north"
        )
    return system


def crs_of_mapping(
    attrs: Mapping[Any, Any], what: str, read: Callable[..., pyproj.CRS] = read_crs
) -> pyproj.CRS:
    """Read the system of a grid mapping of the CF conventions, by its attributes: WKT, else their parameters.

    `read` says which systems are taken: `read_crs` or `parse_crs`.
    """
    text = attrs.get("crs_wkt") or attrs.get("spatial_ref")
    if text is None:
        try:
            text = pyproj.CRS.from_cf(dict(attrs))
        except (pyproj.exceptions.CRSError, KeyError, ValueError) as error:
            raise TimoError(
                f"{what} is not understood: {error}. Write the CRS again: "
                'dataset.rio.write_crs("EPSG:...").to_netcdf(...).'
            ) from error
    return read(text, what=what)


def crs_name(crs: pyproj.CRS) -> str:
    """Return the code ("EPSG:...") of a system where it has one, else its WKT."""
    code = crs.to_epsg()
    if code is None and crs.equals(pyproj.CRS(LONLAT), ignore_axis_order=True):
        code = 4326
    return f"EPSG:{code}" if code else crs.to_wkt()


def short_name(crs: str) -> str:
    """Return the code, or the name that stands in the WKT, for messages."""
    return crs if crs.startswith("EPSG:") else pyproj.CRS(crs).name


def metres_per_unit(crs: pyproj.CRS) -> float:
    """Return the length of the unit of its axes; of a degree, along the equator."""
    factor = float(crs.axis_info[0].unit_conversion_factor)
    if not crs.is_geographic:
        return factor
    ellipsoid = crs.ellipsoid
    return factor * (ellipsoid.semi_major_metre if ellipsoid else _SPHERE_M)


def usual_crs(lon: float, lat: float) -> str:
    """Choose the UTM zone of a place (WGS 84), or UPS near the poles.

    With the wider zones of south-west Norway (32V) and Svalbard (31X, 33X, 35X, 37X), because the tiles of Sentinel-2
    follow them: their pixels need no resampling there. Degrees, -180..180; the equator and 84 N count to the north.
    """
    if lat >= _UTM_NORTH:
        return "EPSG:32661"
    if lat < _UTM_SOUTH:
        return "EPSG:32761"
    zone = int((lon + 180) // 6) % 60 + 1
    if 56 <= lat < 64 and 3 <= lon < 12:
        zone = 32
    elif lat >= 72 and 0 <= lon < 42:
        zone = 31 + 2 * int((lon + 3) // 12)
    return f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"


def meant_unit(x: float, y: float, crs: pyproj.CRS) -> str:
    """Guess the unit of a place in a projected system: "kilometres", "metres" or "degrees"; empty: that of its axes.

    It is another one if the place lies outside of where the system is used, and inside once its numbers are read so.
    """
    use, to_lonlat = _use_of(crs.to_wkt())
    if use is None or crs.is_geographic:
        return ""
    west, south, east, north = use
    width = (east - west) % 360 or 360

    def within(lon: float, lat: float) -> bool:
        return south <= lat <= north and (lon - west) % 360 <= width

    if within(*to_lonlat.transform(x, y)):
        return ""
    if abs(x) <= 360 and abs(y) <= 90 and within(x, y):
        return "degrees"
    for name, metres in (("kilometres", 1e3), ("metres", 1.0)):
        factor = metres / metres_per_unit(crs)
        if factor != 1 and within(*to_lonlat.transform(x * factor, y * factor)):
            return name
    return ""


@lru_cache(maxsize=64)
def _use_of(wkt: str) -> tuple[tuple[float, float, float, float] | None, pyproj.Transformer]:
    """West, south, east, north of where a system is used, if that is known, and the way from it to degrees."""
    crs = pyproj.CRS.from_wkt(wkt)
    use = pyproj.CRS(crs_name(crs)).area_of_use
    bounds = None if use is None else (use.west, use.south, use.east, use.north)
    return bounds, pyproj.Transformer.from_crs(crs, LONLAT, always_xy=True)


@lru_cache(maxsize=64)
def transformer(source: pyproj.CRS, target: pyproj.CRS) -> pyproj.Transformer:
    """Return the way between two systems, longitude first; made once, because that takes 50 ms."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def project(
    geometry: BaseGeometry, source: pyproj.CRS, target: pyproj.CRS, tolerance: float
) -> BaseGeometry:
    """Carry a geometry (x, y; longitude first) to another system, its edges bent as they run there.

    An edge may be off by `tolerance`, in the unit of the target (in a geographic one, of latitude). Longitudes jump
    where a geographic target's geometry crosses the antimeridian.
    """
    way = transformer(source, target)

    def transform(points: np.ndarray) -> np.ndarray:
        return np.column_stack(way.transform(points[:, 0], points[:, 1]))

    if source.is_geographic and target.is_geographic:
        return shapely.transform(geometry, transform)
    west, south, east, north = geometry.bounds
    side = max(east - west, north - south)
    for pieces in _PIECES:
        fine = shapely.segmentize(geometry, side / pieces)
        off, extent = _bend(fine, side / pieces, transform, lonlat=target.is_geographic)
        if off <= max(tolerance, 1e-7 * extent):
            return shapely.transform(fine, transform)
    raise TimoError(
        f"The area cannot be drawn in {target.name!r}: it reaches beyond what that covers, or across its edge (often "
        "the antimeridian or a pole). Give another crs, or a smaller area; without crs, timo takes the UTM zone"
    )


def _bend(
    geometry: BaseGeometry,
    longest: float,
    transform: Callable[[np.ndarray], np.ndarray],
    *,
    lonlat: bool,
) -> tuple[float, float]:
    """Return how far the middles of edges lie from those of straight ones, and the extent."""
    points = shapely.get_coordinates(geometry)
    moved = transform(points)
    if not np.isfinite(moved).all():
        return math.inf, 0.0
    step = np.diff(moved, axis=0)
    between = transform((points[1:] + points[:-1]) / 2) - moved[:-1]
    if lonlat:
        step[:, 0], between[:, 0] = _shortest(step[:, 0]), _shortest(between[:, 0])
    off = between - step / 2
    if lonlat:
        off[:, 0] *= np.cos(np.radians(moved[:-1, 1]))
    # A longer step leads from one ring to the next and is no edge.
    edges = np.hypot(*np.diff(points, axis=0).T) <= longest * (1 + 1e-6)
    distance = np.hypot(*off[edges].T)
    return float(distance.max(initial=0)), 0.0 if lonlat else float(np.ptp(moved, axis=0).max())


def _shortest(degrees: np.ndarray) -> np.ndarray:
    """Return the same turn by at most half a circle."""
    return (degrees + 180) % 360 - 180
