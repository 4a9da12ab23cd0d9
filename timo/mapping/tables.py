"""Tables of chips, parcels and points to files: GeoPackage, GeoJSON, GeoParquet, CSV."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import shapely

from timo.atomic import replacing
from timo.crs import LONLAT
from timo.errors import TimoError
from timo.mapping.provenance import clean

SUFFIXES = (".gpkg", ".geojson", ".parquet", ".csv")


def write_table(frame: Any, path: Path, record: Mapping[str, Any] | None) -> Path:
    """Write a table; the suffix of `path` says which file.

    GeoJSON is in longitude and latitude. A CSV has the longitude and latitude of a point in each geometry, and unless
    all are points, the outlines as WKT in the reference system of the table. A GeoPackage bears `record` as metadata of
    its layer, GeoJSON as a member.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise TimoError(
            f"A table is written as {', '.join(SUFFIXES)}; got '{path.name}'. Give one of these suffixes."
        )
    placed = hasattr(frame, "geometry") and hasattr(frame, "crs")
    if suffix in (".gpkg", ".geojson") and not placed:
        raise TimoError(
            f"The table has no geometry, which '{path.name}' needs: write a .csv, or give a GeoDataFrame."
        )
    if placed and frame.crs is None:
        raise TimoError(
            'The table has no coordinate reference system: set it with frame.set_crs("EPSG:...").'
        )
    said = None if record is None else json.dumps(clean(record))
    with replacing(path) as partial:
        if suffix == ".csv":
            _flat(frame, placed).to_csv(partial, index=False)
        elif suffix == ".parquet":
            _write_parquet(frame, partial)
        elif suffix == ".geojson":
            _write_geojson(frame, partial, path.stem, said)
        else:
            more = {} if said is None else {"layer_metadata": {"provenance": said}}
            frame.to_file(partial, driver="GPKG", layer=path.stem, engine="pyogrio", **more)
    return path


def _flat(frame: Any, placed: bool) -> pd.DataFrame:
    """Return a table whose geometry is in columns of numbers and text."""
    if not placed:
        return frame
    inside = frame.geometry.representative_point().to_crs(LONLAT)
    table = pd.DataFrame(frame.drop(columns=frame.geometry.name))
    table = table.assign(longitude=inside.x.round(7), latitude=inside.y.round(7))
    if not (frame.geom_type.dropna() == "Point").all():
        table["wkt"] = shapely.to_wkt(frame.geometry.to_numpy())
    return table


def _write_geojson(frame: Any, path: Path, name: str, said: str | None) -> None:
    head: dict[str, Any] = {"type": "FeatureCollection", "name": name}
    if said is not None:
        head["provenance"] = json.loads(said)
    features = json.loads(frame.to_crs(LONLAT).to_json(drop_id=True))["features"]
    path.write_text(json.dumps(head | {"features": features}), encoding="utf-8")


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    try:
        import pyarrow as _  # noqa: F401, ICN001
    except ImportError as error:
        raise TimoError(
            f"'{path.name}' needs a package: pip install pyarrow, or write a .gpkg or .csv."
        ) from error
    frame.to_parquet(path, index=False)
