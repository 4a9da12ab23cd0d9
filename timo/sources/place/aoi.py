"""The area of interest, in the form that people have it."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from timo.checks import checked, is_number
from timo.crs import LONLAT
from timo.errors import TimoError
from timo.sources.place.area import FORMS, Area, check_degrees, check_valid, join, make_area

__all__ = ["Area", "parse_aoi"]

_WKT = re.compile(r"\s*(?:SRID=(\d+)\s*;)?\s*([A-Z]+\s*Z?M?\s*(?:\(.*|EMPTY\s*))$", re.I | re.S)
_GEOMETRIES = {"Polygon", "MultiPolygon", "Point", "MultiPoint", "LineString", "MultiLineString"}
_NUMBERS = re.compile(r"[\s()\[\]]*[-+.\d]+(\s*[,;\s]\s*[-+.\d]+){3}[\s()\[\]]*")


@checked
def parse_aoi(aoi: Any) -> Area:
    """Read an area of interest in any of its forms.

    Parameters
    ----------
    aoi : Area, sequence of 4 numbers, mapping, str, Path, shapely geometry, GeoDataFrame, GeoSeries, map
        (west, south, east, north) in degrees; a west that is greater than the east is on the other side of the
        antimeridian. GeoJSON: a geometry, Feature or FeatureCollection (the union of its polygons), as a dict, as text
        or as the path of a file. The path of another vector file, if geopandas is installed. WKT, also "SRID=...;".
        A shapely geometry in degrees, longitude first. A GeoDataFrame or GeoSeries with a CRS. A map of leafmap,
        geemap or ipyleaflet: the shape that was drawn last. A literal `ee.Geometry` or `ee.Feature`.

    Returns
    -------
    Area
        Its heights (z) are dropped, its holes kept. Longitudes may also count from 0 to 360. An edge of more than 180
        degrees of longitude goes the short way, across the antimeridian; to mean the long way, give a box as four
        numbers.

    Raises
    ------
    TimoError
        If it holds no polygon, crosses itself or has no area; if its coordinates are no degrees, or not in the unit of
        their CRS; if a pole is inside its outline.
    """
    if isinstance(aoi, Area):
        return aoi
    if isinstance(aoi, str | Path):
        return _of_text(aoi)
    if isinstance(aoi, Mapping):
        return _of_geojson(aoi)
    if isinstance(aoi, BaseGeometry):
        return make_area([aoi])
    if isinstance(aoi, Sequence | np.ndarray):
        return _of_box(aoi)
    return _of_object(aoi)


def _of_text(text: str | Path) -> Area:
    """Read WKT, GeoJSON as text, or a file."""
    if isinstance(text, Path):
        return _of_file(text.expanduser())
    if found := _WKT.match(text):
        try:
            geometry = shapely.from_wkt(found[2])
        except shapely.errors.GEOSException as error:
            raise TimoError(
                f"The area is no WKT that can be read: {error}. Expected, for example: POLYGON ((22.1 45.2, 22.2 45.2, "
                "22.2 45.3, 22.1 45.2))"
            ) from error
        return make_area([geometry], int(found[1]) if found[1] else LONLAT)
    if text.lstrip().startswith("{"):
        return _of_geojson(_read_json(text, "The text given as aoi"))
    if not text.strip():
        raise TimoError(f"aoi is an empty text. Give {FORMS}")
    if re.match(r"\s*\w+://", text):
        raise TimoError(
            f"aoi={text!r} is an address, and timo reads files on this machine. Download it, or open it with "
            "geopandas.read_file(address) and give that"
        )
    if _NUMBERS.fullmatch(text):
        numbers = ", ".join(re.findall(r"[-+.\d]+", text))
        raise TimoError(f"aoi={text!r} is text. Give four numbers, without quotes: ({numbers})")
    return _of_file(Path(text).expanduser())


def _of_file(path: Path) -> Area:
    """Read a vector file."""
    if not path.exists():
        raise TimoError(
            f"The area's file is not there: {str(path)!r} (seen from {Path.cwd()}). Give {FORMS}"
        )
    if path.is_dir() and path.suffix.lower() != ".gdb":
        raise TimoError(f"{str(path)!r} is a folder. Give the path of a file in it, as .geojson")
    if path.suffix.lower() in (".json", ".geojson"):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise TimoError(f"{str(path)!r} cannot be read as GeoJSON: {error}") from error
        return _of_geojson(_read_json(text, repr(str(path))))
    try:
        import geopandas
    except ImportError as error:
        raise TimoError(
            f"{str(path)!r} is no .geojson, and other vector files need geopandas. "
            "Install it (pip install geopandas), or save the area as GeoJSON"
        ) from error
    try:
        return _of_frame(geopandas.read_file(path))
    except (RuntimeError, OSError) as error:
        said = str(error).split(";")[0].rstrip(". ")
        raise TimoError(
            f"{str(path)!r} cannot be read as a vector file: {said}. Save the area as GeoJSON, or give {FORMS}"
        ) from error


def _read_json(text: str, what: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise TimoError(
            f"{what} is no GeoJSON: {error}. Give a GeoJSON geometry, Feature or collection"
        ) from error
    if isinstance(found, dict):
        return found
    raise TimoError(
        f"{what} is no GeoJSON: it holds a {type(found).__name__}, not an object with a type"
    )


def _of_geojson(data: Mapping[str, Any]) -> Area:
    """Read a GeoJSON object, with the CRS that one from before RFC 7946 may name."""
    member = data.get("crs")
    try:
        crs = LONLAT if member is None else member["properties"]["name"]
    except (KeyError, TypeError) as error:
        raise TimoError(
            f"The GeoJSON's crs {member!r} cannot be read. Leave it out and give degrees, or give a GeoDataFrame"
        ) from error
    return make_area(list(_geometries(data)), crs)


def _geometries(data: Mapping[str, Any]) -> Iterator[BaseGeometry]:
    """Yield the geometries of a GeoJSON object, without those of features that have none."""
    kind = data.get("type") if isinstance(data, Mapping) else None
    if kind == "Feature":
        if data.get("geometry") is not None:
            yield from _geometries(data["geometry"])
    elif kind in ("FeatureCollection", "GeometryCollection"):
        for part in data.get("features" if kind == "FeatureCollection" else "geometries") or ():
            yield from _geometries(part)
    elif kind not in _GEOMETRIES:
        raise TimoError(
            f'The area is no GeoJSON: its type is {kind!r}, and not "Polygon", "MultiPolygon", "Feature" or '
            f'"FeatureCollection". Give {FORMS}'
        )
    else:
        try:
            yield shapely.geometry.shape(data)
        except (LookupError, AttributeError, TypeError, ValueError, shapely.GEOSException) as error:
            raise TimoError(
                f"The coordinates of the area's {kind} cannot be read: {error}. A Polygon's are lists of rings, each "
                "at least four [longitude, latitude], of which the last is the first"
            ) from error


def _of_box(box: Any) -> Area:
    """Read (west, south, east, north)."""
    numbers = np.atleast_1d(box).tolist() if isinstance(box, np.ndarray) else list(box)
    if len(numbers) != 4 or not all(map(is_number, numbers)):
        raise TimoError(f"aoi={reprlib.repr(box)} is not four finite numbers. Give {FORMS}")
    west, south, east, north = (float(n) for n in numbers)
    check_degrees(np.array([[west, south], [east, north]]))
    if south > north:
        raise TimoError(
            f"The box's south {south:.7g} lies north of its north {north:.7g}. The order is (west, south, east, north)"
        )
    if west > east:
        east += 360 * math.ceil((west - east) / 360)
        if east - west > 180:
            raise TimoError(
                f"The box's west {west:g} lies east of its east {numbers[2]:g}: read across the antimeridian it would "
                f"be {east - west:.5g} degrees wide. The order is (west, south, east, north)"
            )
    if east - west > 360:
        raise TimoError(f"The box is {east - west:g} degrees wide; the whole globe is 360")
    polygon = shapely.box(west, south, east, north)
    check_valid(polygon)
    return Area(join([polygon]))


def _of_object(aoi: Any) -> Area:
    """Read an object of another library, by its abilities, so that no library is needed."""
    library = type(aoi).__module__.partition(".")[0]
    if library == "ee":
        return _of_earthengine(aoi)
    if library == "geopandas":
        return _of_frame(aoi)
    if hasattr(aoi, "__geo_interface__"):
        data, crs = aoi.__geo_interface__, getattr(aoi, "crs", None)
        return _of_geojson(data) if crs is None else make_area(list(_geometries(data)), crs)
    if hasattr(aoi, "user_roi") or hasattr(aoi, "draw_control") or hasattr(aoi, "controls"):
        return _of_map(aoi)
    hint = " To take the cells of a cube or raster, give like=." if hasattr(aoi, "dims") else ""
    raise TimoError(
        f"aoi of type {type(aoi).__name__} is no area that timo can read.{hint} Give {FORMS}"
    )


def _of_frame(frame: Any) -> Area:
    """Read a GeoDataFrame or GeoSeries."""
    if frame.crs is None:
        raise TimoError(
            'The area\'s GeoDataFrame has no CRS. Say which it is, with frame.set_crs("EPSG:4326") for degrees'
        )
    return make_area([g for g in frame.geometry if isinstance(g, BaseGeometry)], frame.crs)


def _of_earthengine(thing: Any) -> Area:
    """Read a literal ee.Geometry or ee.Feature; a computed one is known to the server only."""
    arguments = getattr(thing, "args", None) or {}
    geometry = arguments["geometry"] if set(arguments) == {"geometry", "metadata"} else thing
    if getattr(geometry, "func", None) is not None or not hasattr(geometry, "toGeoJSON"):
        raise TimoError(
            f"This ee.{type(thing).__name__} is known to Earth Engine's servers only. Fetch its outline first: "
            "aoi=geometry.getInfo(), where geometry is an ee.Geometry, such as image.geometry()"
        )
    return _of_geojson(geometry.toGeoJSON())


def _of_map(drawn: Any) -> Area:
    """Read the shape drawn last on a map."""
    shape = _last_drawn(drawn)
    empty = isinstance(shape, Mapping) and shape.get("type") == "Feature"
    if shape is None or (empty and not shape.get("geometry")):
        raise TimoError(
            "Nothing is drawn on the map yet. Draw a rectangle or a polygon with its toolbar, then run this again"
        )
    return parse_aoi(shape)


def _last_drawn(drawn: Any) -> Any:
    controls = [getattr(drawn, "draw_control", None), *(getattr(drawn, "controls", None) or ())]
    for control in controls:
        if getattr(control, "last_action", None) == "deleted":
            return (getattr(control, "data", None) or [None])[-1]
    if (shape := getattr(drawn, "user_roi", None)) is not None:
        return shape
    shapes = (c.last_draw for c in controls if getattr(c, "last_draw", None) is not None)
    return next(shapes, None)
