"""Tables with coordinates: CSV files and DataFrames as points, or with their geometries as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from timo.checks import did_you_mean
from timo.crs import LONLAT
from timo.errors import TimoError

_LONGITUDES = ("longitude", "lon", "long", "lng", "decimallongitude", "londd", "xlon", "lonwgs84")
_LATITUDES = ("latitude", "lat", "decimallatitude", "latdd", "ylat", "latwgs84")
_EASTINGS = ("x", "easting", "eastings", "east", "xcoord", "coordx", "pointx", "xutm", "utmx")
_NORTHINGS = ("y", "northing", "northings", "north", "ycoord", "coordy", "pointy", "yutm", "utmy")
# Text of geometries: WKT as databases write it, GeoJSON as Earth Engine does.
_GEOMETRIES = ("geometry", "wkt", "geom", "thegeom", "geo", "wktgeom")
_SEPARATORS = ",;\t|"

Located = tuple[pd.DataFrame, np.ndarray, str | None, tuple[str, ...]]


def read_csv(path: Path, as_text: str | None) -> pd.DataFrame:
    """Read a CSV file: the separator is the most frequent one of its first line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first, second = file.readline(), file.readline()
        separator = max(_SEPARATORS, key=first.count)
        comma = (
            separator != "," and re.search(r"\d,\d", second) and not re.search(r"\d\.\d", second)
        )
        names = pd.read_csv(path, sep=separator, encoding="utf-8-sig", nrows=0).columns
        kept = {name: str for name in names if as_text and name.lower() == as_text.lower()}
        return pd.read_csv(
            path, sep=separator, encoding="utf-8-sig", decimal="," if comma else ".", dtype=kept
        )
    except UnicodeDecodeError as error:
        raise TimoError(
            f"{str(path)!r} is no UTF-8 text. Read it with pandas.read_csv(path, encoding=...) and give that."
        ) from error
    except (OSError, ValueError) as error:  # pandas' errors of parsing are ValueErrors
        raise TimoError(
            f"{str(path)!r} cannot be read as a table: {error}. Read it with pandas.read_csv and give that."
        ) from error


def locate(frame: pd.DataFrame, x: str | None, y: str | None, has_crs: bool, name: str) -> Located:
    """Return the columns, a geometry each, the CRS if the names of the columns show it, and notes for the report."""
    frame = frame.reset_index(drop=True)
    if (x is None) != (y is None):
        raise TimoError("x= and y= are given together: the columns of both coordinates.")
    if x is None:
        text = _named(frame, _GEOMETRIES)
        pair = _pair(frame, _LONGITUDES, _LATITUDES) or _pair(frame, _EASTINGS, _NORTHINGS)
        if pair is None and text is not None:
            table = frame.drop(columns=text)
            return table, _of_text(frame[text], text), None if has_crs else LONLAT, ()
        if pair is None:
            raise TimoError(
                f"{name} has the columns {[str(c) for c in frame.columns]}, and none that are coordinates by their "
                'names. Name them: x="...", y="...", and crs="EPSG:..." if they are not degrees.'
            )
        x, y = pair
    else:
        x, y = find_column(frame, x, "x"), find_column(frame, str(y), "y")
    points = np.stack([_numbers(frame[x], x), _numbers(frame[y], y)], axis=1)
    geometries = np.full(len(frame), None, dtype=object)
    there = np.isfinite(points).all(axis=1)
    geometries[there] = shapely.points(points[there])
    crs, notes = (None, ()) if has_crs else _degrees(points[there], (x, y), name)
    return frame.drop(columns=[x, y]), geometries, crs, notes


def find_column(table: pd.DataFrame, wanted: str, option: str) -> str:
    """Return the column of a name, in any case of its letters."""
    names = [str(name) for name in table.columns]
    alike = [n for n in names if n == wanted] or [n for n in names if n.lower() == wanted.lower()]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise TimoError(
            f"{option}={wanted!r} is the name of {len(alike)} columns. Rename one of them."
        )
    raise TimoError(
        f"{option}={wanted!r} is no column; there are {names or 'none'}."
        + (did_you_mean(wanted, names) or f" Give {option}= one of these.")
    )


def _degrees(
    points: np.ndarray, pair: tuple[str, str], name: str
) -> tuple[str | None, tuple[str, ...]]:
    """Return the CRS of coordinates that are longitude and latitude by their names, or by their range."""
    if _plain(pair[0]) in _LONGITUDES and _plain(pair[1]) in _LATITUDES:
        return LONLAT, ()
    reach = np.abs(points).max(axis=0, initial=0)
    if len(points) and reach[0] <= 180 and reach[1] <= 90:
        return LONLAT, (f"{pair[0]} and {pair[1]} were taken for longitude and latitude.",)
    raise TimoError(
        f"{pair[0]} and {pair[1]} of {name} go up to {reach[0]:,.6g} and {reach[1]:,.6g}, which are no degrees. Give "
        'their reference system: crs="EPSG:...", or crs=cube.rio.crs for that of the cube.'
    )


def _pair(
    frame: pd.DataFrame, ones: Sequence[str], others: Sequence[str]
) -> tuple[str, str] | None:
    one, other = _named(frame, ones), _named(frame, others)
    return None if one is None or other is None else (one, other)


def _named(frame: pd.DataFrame, names: Sequence[str]) -> str | None:
    """Return the column that has the first of some names."""
    plain = {_plain(str(column)): column for column in frame.columns}
    return next((plain[name] for name in names if name in plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _numbers(column: pd.Series, name: str) -> np.ndarray:
    """Return coordinates as floats, NaN where they are missing; text that is no number is refused."""
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    wrong = values.isna() & column.notna() & (column.astype(str).str.strip() != "")
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        said = str(column.iloc[row])
        remedy = "pandas.read_csv(path, decimal=',')" if "," in said else "pandas.to_numeric"
        raise TimoError(
            f"Column {name!r} holds {said!r} in row {row}, which is no number. Read the table as "
            f"numbers, with {remedy}, and give that."
        )
    return values.to_numpy()


def _of_text(column: pd.Series, name: str) -> np.ndarray:
    """Read geometries from WKT or GeoJSON."""
    texts = np.array(
        [t if isinstance(t, str) and t.strip() else None for t in column], dtype=object
    )
    first = next((t for t in texts if t), "")
    read = shapely.from_geojson if first.lstrip().startswith("{") else shapely.from_wkt
    try:
        return np.asarray(read(texts), dtype=object)
    except (shapely.GEOSException, TypeError) as error:
        raise TimoError(
            f"Column {name!r} holds no WKT or GeoJSON that can be read: {error}. Drop it, or name the columns of the "
            "coordinates with x= and y=."
        ) from error
