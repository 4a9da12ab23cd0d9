"""Points, lines and polygons of any common file or table, with their columns and reference system."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyproj
import shapely

from timo.checks import described
from timo.crs import LONLAT, crs_name, meant_unit, read_crs, short_name
from timo.errors import TimoError
from timo.places.tables import locate, read_csv

if TYPE_CHECKING:
    import geopandas

_CSV = (".csv", ".tsv", ".txt")
_PARQUET = (".parquet", ".geoparquet", ".pq")
_SOURCES = (
    "a GeoJSON, GeoPackage, Shapefile, FlatGeobuf, KML, Parquet or CSV file, a GeoDataFrame or DataFrame, or a "
    "raster"
)
# What says a file's own order of the classes: LabelStore's, before its features.
_ORDER = re.compile(r'"classes"\s*:\s*(\[[^\]]*\])')
_HEAD = 65_536
_FURTHEST_LONGITUDE = 540


@dataclass(frozen=True)
class Vectors:
    """Features of a source: their columns, a geometry each (None: missing), and in which system they lie.

    `classes` is the order of the classes that the source states itself; `notes` are sentences for the report.
    """

    table: pd.DataFrame
    geometries: np.ndarray
    crs: pyproj.CRS
    name: str
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def crs_name(self) -> str:
        """Code or name of the reference system."""
        return short_name(crs_name(self.crs))


def read_vectors(
    source: Any,
    *,
    layer: str | int | None = None,
    crs: Any = None,
    x: str | None = None,
    y: str | None = None,
    as_text: str | None = None,
) -> Vectors:
    """Read a source; `as_text` is a column of a CSV that is not to be read as numbers."""
    name = type(source).__name__
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if isinstance(source, str) and source.lstrip().startswith("{"):
        source, name = _parsed(source), "GeoJSON"
    if isinstance(source, str | Path):
        path = _existing(source)
        name, classes = path.name, _stated_classes(path)
        source = _read_file(path, layer, as_text)
    elif isinstance(source, Mapping):
        name, classes = "GeoJSON", _names(source.get("classes"))
        source = _of_geojson(source)
    if not isinstance(source, pd.DataFrame | pd.Series):
        raise TimoError(f"source={described(source)} holds no labels. Give {_SOURCES}.")
    if hasattr(source, "geometry") and hasattr(source, "crs"):
        if x or y:
            raise TimoError(f"{name} has geometries: leave x= and y= out.")
        table, geometries, own = _of_frame(source, name)
    else:
        frame = source.to_frame() if isinstance(source, pd.Series) else source
        table, geometries, own, notes = locate(frame, x, y, crs is not None, name)
    if not len(table):
        raise TimoError(f"{name} has no features. Give {_SOURCES} that has some.")
    system, said = _system(own, crs, name)
    found = Vectors(table, geometries, system, name, classes, (*notes, *said))
    _check_coordinates(found, given=crs is not None)
    return found


def repaired(geometries: np.ndarray) -> tuple[np.ndarray, int]:
    """Return geometries that are valid, None for those that are empty or not finite, and how many were repaired."""
    geometries = np.array(geometries, dtype=object)
    empty = shapely.is_missing(geometries) | shapely.is_empty(geometries)
    geometries[empty | ~np.isfinite(shapely.bounds(geometries)).all(axis=1)] = None
    wrong = np.flatnonzero(~shapely.is_valid(geometries) & ~shapely.is_missing(geometries))
    if not wrong.size:
        return geometries, 0
    # Of polygons, polygons: lines that are left over are not labelled.
    mended = shapely.make_valid(geometries[wrong], method="structure", keep_collapsed=False)
    mended[shapely.is_empty(mended)] = None
    geometries[wrong] = mended
    return geometries, len(wrong)


def _existing(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if not str(source).strip():
        raise TimoError(f"source is an empty text. Give {_SOURCES}.")
    # GDAL reads archives and addresses by paths of its own.
    if not str(source).startswith("/vsi") and "://" not in str(source) and not path.exists():
        raise TimoError(
            f"There is no file {str(path)!r} (seen from {Path.cwd()}). Give the path of {_SOURCES}."
        )
    return path


def _read_file(path: Path, layer: str | int | None, as_text: str | None) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix in _CSV:
        return read_csv(path, as_text)
    if suffix in _PARQUET:
        return _read_parquet(path)
    import geopandas
    import pyogrio

    try:
        if layer is None:
            _check_layers(pyogrio.list_layers(path), path)
        read = geopandas.read_file(
            path, engine="pyogrio", **({} if layer is None else {"layer": layer})
        )
    except TimoError:
        raise
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        said = str(error).split(";")[0].rstrip(". ")
        raise TimoError(
            f"{str(path)!r} cannot be read as vectors: {said}. Give {_SOURCES}."
        ) from error
    return read


def _check_layers(layers: np.ndarray, path: Path) -> None:
    """Refuse to guess which of several layers is meant; tables without geometry are no layers of labels."""
    names = [str(name) for name, kind in layers if kind is not None]
    if len(names) > 1:
        raise TimoError(
            f"{str(path)!r} has the layers {names}. Choose one with layer={names[0]!r}."
        )


def _read_parquet(path: Path) -> pd.DataFrame:
    import geopandas

    try:
        import pyarrow as pa  # noqa: F401
    except ImportError as error:
        raise TimoError(
            f"{str(path)!r} needs a package: pip install pyarrow, or save the table as GeoPackage or CSV."
        ) from error
    try:
        try:
            return geopandas.read_parquet(path)
        except ValueError:  # a table without geometries
            return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise TimoError(f"{str(path)!r} cannot be read as Parquet: {error}.") from error


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise TimoError(f"The text is no GeoJSON: {error}. Give a FeatureCollection.") from error
    return found


def _of_geojson(data: Mapping[str, Any]) -> geopandas.GeoDataFrame:
    """Read a GeoJSON object, with the CRS that one from before RFC 7946 may name."""
    import geopandas

    features = [data] if data.get("type") == "Feature" else data.get("features")
    if not isinstance(features, list):
        raise TimoError(
            f"source={described(data)} is no GeoJSON FeatureCollection with a list of features. Give {_SOURCES}."
        )
    if not features:
        raise TimoError(f"The FeatureCollection has no features. Give {_SOURCES} that has some.")
    try:
        crs = data["crs"]["properties"]["name"] if data.get("crs") else LONLAT
        frame = geopandas.GeoDataFrame.from_features(features)
    except (LookupError, TypeError, ValueError, AttributeError, shapely.GEOSException) as error:
        raise TimoError(
            f"The features of the GeoJSON cannot be read: {described(error)}. Each needs a geometry and properties."
        ) from error
    return frame.set_crs(read_crs(crs, what="The GeoJSON's crs"))


def _stated_classes(path: Path) -> tuple[str, ...]:
    """Return the order of the classes that a GeoJSON file of `timo_widgets` states before its features."""
    if path.suffix.lower() not in (".geojson", ".json") or not path.is_file():
        return ()
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(_HEAD).partition('"features"')[0]
    found = _ORDER.search(head)
    try:
        return _names(json.loads(found[1])) if found else ()
    except ValueError:
        return ()


def _names(given: Any) -> tuple[str, ...]:
    texts = isinstance(given, list) and all(isinstance(name, str) for name in given)
    return tuple(given) if texts else ()


def _of_frame(frame: Any, name: str) -> tuple[pd.DataFrame, np.ndarray, Any]:
    """Return columns, geometries and CRS of a GeoDataFrame or GeoSeries."""
    try:
        shapes = frame.geometry
    except AttributeError as error:
        raise TimoError(
            f"{name} has no active geometry column. Use frame.set_geometry(...), or give a DataFrame and x=, y=."
        ) from error
    if hasattr(frame, "columns"):
        table = pd.DataFrame(frame.drop(columns=shapes.name))
    else:
        table = pd.DataFrame(index=frame.index)
    return table.reset_index(drop=True), np.asarray(shapes, dtype=object), shapes.crs


def _system(own: Any, given: Any, name: str) -> tuple[pyproj.CRS, tuple[str, ...]]:
    """Return the reference system: the one that is given wins, and the report says so."""
    if given is None:
        if own is None:
            raise TimoError(
                f'{name} names no coordinate reference system. Say which it is, with crs="EPSG:4326" for degrees, or '
                "crs=cube.rio.crs for that of the cube."
            )
        return read_crs(own, what="The CRS of the source"), ()
    system = read_crs(given)
    if own is None or read_crs(own).equals(system, ignore_axis_order=True):
        return system, ()
    named = short_name(crs_name(read_crs(own)))
    return system, (f"crs= was taken in place of {named}, which {name} names.",)


def _check_coordinates(found: Vectors, *, given: bool) -> None:
    """Refuse coordinates in another unit than that of their reference system."""
    box = shapely.bounds(found.geometries).reshape(-1, 4)
    box = box[np.isfinite(box).all(axis=1)]
    if not len(box):
        raise TimoError(f"None of the features of {found.name} has a geometry. Give {_SOURCES}.")
    named = f"{found.crs_name}{' (crs=)' if given else ''}"
    if found.crs.is_geographic:
        reach = np.abs(box[:, [0, 2]]).max(), np.abs(box[:, [1, 3]]).max()
        if reach[1] > 90 and reach[0] <= 90:
            raise TimoError(
                f"{found.name} has latitudes up to {reach[1]:.6g} in {named}: longitude and latitude are swapped. "
                "Name the columns of a table with x= and y=, or use frame.set_geometry(shapely.transform("
                "frame.geometry.values, lambda xy: xy[:, ::-1]))."
            )
        if reach[1] > 90 or reach[0] > _FURTHEST_LONGITUDE:
            raise TimoError(
                f"{found.name} has coordinates up to x = {reach[0]:,.6g}, y = {reach[1]:,.6g}, which are no degrees, "
                f'as in {named}. Give their reference system: crs="EPSG:...", or crs=cube.rio.crs for that of the cube.'
            )
        return
    middle = np.median((box[:, :2] + box[:, 2:]) / 2, axis=0)
    if meant := meant_unit(float(middle[0]), float(middle[1]), found.crs):
        raise TimoError(
            f"{found.name} has coordinates in {meant} (x around {middle[0]:,.6g}, y around {middle[1]:,.6g}), and "
            f'{named} is not. Give the reference system that they are in, as crs="EPSG:4326" for degrees.'
        )
