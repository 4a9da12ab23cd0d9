"""A map as GeoJSON polygons: exact outlines of its pixels, for GIS programs and web maps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import rasterio.features
import rioxarray  # noqa: F401 - registers .rio
import shapely
import xarray as xr
from shapely.geometry.polygon import orient

from timo.atomic import replacing
from timo.checks import AnyNumber, NotNegative, checked
from timo.cube import cell_area_m2, cell_size_m
from timo.errors import TimoError
from timo.mapping.geotiff import check_dims, grid_transform, resolve_nodata
from timo.mapping.provenance import clean

# What a straight edge of the grid may deviate from a straight one in degrees, in cells.
_DEVIATION = 0.01
_EARTH_RADIUS_M = 6.4e6


@checked
def to_polygons(
    data: xr.DataArray | xr.Dataset,
    *,
    smallest_ha: NotNegative = 0.0,
    nodata: AnyNumber | None = None,
) -> dict[str, Any]:
    """Turn a map of classes into polygons, as a GeoJSON FeatureCollection.

    Each polygon is a group of pixels of one class that share edges (not only corners), with its holes. Its outline is
    that of the pixels, neither smoothed nor simplified: burning the polygons onto the grid of the map gives the map
    back. Coordinates are longitude and latitude on WGS 84, outer rings counterclockwise, cut at the antimeridian (RFC
    7946). Long edges get extra corners, because a straight edge of a grid in metres is bent in degrees.

    Parameters
    ----------
    data : xarray.DataArray or xarray.Dataset
        (y, x) integers, negative or ``.rio.nodata`` = no data, with the names of the classes in ``attrs["classes"]`` if
        they have any; or booleans, of which True counts. Of a Dataset ``label`` is taken, or the only variable that
        holds integers; if it has ``probability`` (class, y, x), the polygons bear it. It is read into memory as a
        whole.
    smallest_ha : float
        Polygons smaller than this, in hectares, are left out.
    nodata : float, optional
        A value to leave out besides the negative ones; by default the one that `data` bears.

    Returns
    -------
    dict
        A FeatureCollection. Properties of a polygon: ``class`` (the name, or the value where there are no names),
        ``value``, ``hectares`` (of its pixels), and ``mean_probability``, the mean over its pixels of the probability
        of its class (absent where none is known).

    Raises
    ------
    TimoError
        If the map has more dimensions than y and x, holds no integers, has no CRS or one that distorts areas.
    """
    labels, probability = _label_and_probability(data)
    values = _values(labels, nodata)
    outlines, codes = _outlines(values)
    table = _measure(values, outlines, codes, labels, probability)
    kept = (table["hectares"] >= smallest_ha).to_numpy()
    shapes = _to_degrees(
        [outline for outline, keep in zip(outlines, kept, strict=True) if keep], labels
    )
    rows = table[kept].to_dict("records")
    return {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": _properties(row), "geometry": shape}
            for row, shape in zip(rows, shapes, strict=True)
        ],
    }


def write_geojson(
    data: xr.DataArray | xr.Dataset,
    path: Path,
    nodata: float | None,
    record: Mapping[str, Any] | None,
    smallest_ha: float,
) -> None:
    """Write the polygons of a map, one a line; see `timo.mapping.export.export`."""
    collection = to_polygons(data, smallest_ha=smallest_ha, nodata=nodata)
    head = {"type": "FeatureCollection", "name": path.stem}
    if data.attrs.get("attribution"):
        head["attribution"] = clean(data.attrs["attribution"])
    if record is not None:
        head["provenance"] = clean(record)
    lines = ",\n".join(json.dumps(feature) for feature in collection["features"])
    with replacing(path) as partial:
        text = f'{json.dumps(head)[:-1]}, "features": [\n{lines}\n]}}\n'
        partial.write_text(text, encoding="utf-8")


def _label_and_probability(
    data: xr.DataArray | xr.Dataset,
) -> tuple[xr.DataArray, xr.DataArray | None]:
    probability = None
    if isinstance(data, xr.DataArray):
        labels = data
    else:
        labels = _class_variable(data)
        probability = data.get("probability")
        if (
            "classes" not in labels.attrs
            and probability is not None
            and "class" in probability.coords
        ):
            labels = labels.assign_attrs(
                classes=[str(name) for name in probability["class"].values]
            )
    check_dims(labels)
    if set(labels.dims) != {"y", "x"}:
        extra = [str(dim) for dim in labels.dims if dim not in ("y", "x")]
        raise TimoError(
            f"Polygons are made of one map, and the data have {extra} besides y and x: choose, "
            f"as in data.isel({extra[0]}=0)"
        )
    if labels.rio.crs is None:
        raise TimoError(
            'The map has no coordinate reference system: use data.rio.write_crs("EPSG:...")'
        )
    if labels.dtype.kind not in "iub":
        raise TimoError(
            f"Polygons are made of classes (integers or booleans), not of {labels.dtype}: use data > 0.5"
        )
    return labels.transpose("y", "x"), probability


def _class_variable(data: xr.Dataset) -> xr.DataArray:
    names = [str(name) for name, array in data.data_vars.items() if array.dtype.kind in "iub"]
    if "label" not in names and len(names) != 1:
        raise TimoError(
            f"Polygons are made of one map of classes, and the Dataset has {names or 'none'}: choose one"
        )
    return data["label" if "label" in names else names[0]]


def _values(labels: xr.DataArray, nodata: float | None) -> np.ndarray:
    """Return (y, x) int32, -1 = in no polygon."""
    values = np.asarray(labels.values)
    if values.dtype == bool:
        return np.where(values, 1, -1).astype("int32")
    largest = np.iinfo("int32").max
    if values.max() > largest:
        raise TimoError(
            f"Values over {largest} cannot be made polygons of; the largest is {values.max()}"
        )
    missing = resolve_nodata(labels, nodata)
    left_out = values < 0
    if missing is not None:
        left_out |= values == missing
    # -1 is no unsigned number.
    return np.where(left_out, np.int32(-1), values.astype("int32"))


def _outlines(values: np.ndarray) -> tuple[list[shapely.Polygon], np.ndarray]:
    """Return the outlines with corners at (column, row), and their values."""
    found = list(rasterio.features.shapes(values, mask=values >= 0, connectivity=4))
    return [shapely.geometry.shape(shape) for shape, _ in found], np.array(
        [int(value) for _, value in found], int
    )


def _measure(
    values: np.ndarray,
    outlines: list[shapely.Polygon],
    codes: np.ndarray,
    labels: xr.DataArray,
    probability: xr.DataArray | None,
) -> pd.DataFrame:
    """Return class, value, hectares and mean probability of each outline, from the pixels in it."""
    # A comparison keeps the attributes of the labels: 1 is "true", and not their second class.
    names = None if labels.dtype == bool else labels.attrs.get("classes")
    classes = [
        names[code] if names is not None and code < len(names) else int(code) for code in codes
    ]
    table = pd.DataFrame(
        {"class": pd.Series(classes, dtype=object), "value": codes, "hectares": 0.0}
    )
    if not outlines:
        return table
    number = rasterio.features.rasterize(
        zip(outlines, range(len(outlines)), strict=True), values.shape, fill=-1, dtype="int32"
    )
    inside = number >= 0
    area = np.broadcast_to(cell_area_m2(labels)[:, None] / 1e4, values.shape)
    table["hectares"] = np.bincount(number[inside], area[inside], minlength=len(codes))
    if probability is not None:
        own = _own_probability(values, labels, probability)
        known = inside & np.isfinite(own)
        count = np.bincount(number[known], minlength=len(codes))
        total = np.bincount(number[known], own[known], minlength=len(codes))
        table["mean_probability"] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return table


def _own_probability(
    values: np.ndarray, labels: xr.DataArray, probability: xr.DataArray
) -> np.ndarray:
    """Return, (y, x), the probability of the class that the map has."""
    if set(probability.dims) != {"class", "y", "x"} or probability.sizes["class"] <= values.max():
        raise TimoError(
            f"The probability must be (class, y, x) with a layer for each class of the map; got "
            f"{dict(probability.sizes)}, and the largest class is {values.max()}"
        )
    layers = probability.transpose("class", "y", "x").values
    if layers.shape[1:] != values.shape:
        raise TimoError(
            f"The probability has {layers.shape[1:]} cells, the map {values.shape} ({labels.name})"
        )
    return np.take_along_axis(layers, np.maximum(values, 0)[None], axis=0)[0]


def _properties(row: Mapping[Any, Any]) -> dict[str, Any]:
    properties = {
        "class": row["class"],
        "value": int(row["value"]),
        "hectares": round(row["hectares"], 4),
    }
    mean = row.get("mean_probability", math.nan)
    return properties if math.isnan(mean) else properties | {"mean_probability": round(mean, 4)}


def _to_degrees(outlines: list[shapely.Polygon], labels: xr.DataArray) -> Iterator[dict[str, Any]]:
    """Yield GeoJSON geometries of outlines with corners at (column, row)."""
    crs = pyproj.CRS.from_wkt(labels.rio.crs.to_wkt())
    cell = max(cell_size_m(labels))
    shapes = np.array(outlines, dtype=object)
    if not crs.is_geographic:
        # The sagitta of an arc of the length s is s^2 / 8R.
        longest = math.sqrt(8 * _EARTH_RADIUS_M * _DEVIATION * cell) / cell
        shapes = shapely.segmentize(shapes, max(longest, 1.0))
    affine = grid_transform(labels)
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    # A thousandth of a cell, in degrees of which one is 111 km.
    decimals = max(6, math.ceil(-math.log10(cell / 111e3 / 1000)))

    def project(corners: np.ndarray) -> np.ndarray:
        x, y = affine.a * corners[:, 0] + affine.c, affine.e * corners[:, 1] + affine.f
        lon, lat = to_degrees.transform(x, y)
        return np.round(np.column_stack([lon, lat]), decimals)

    for shape in shapely.transform(shapes, project):
        yield shapely.geometry.mapping(_cut(shape))


def _cut(shape: shapely.Polygon) -> shapely.Geometry:
    """Turn the outer ring counterclockwise, and cut the polygon where it crosses the antimeridian."""
    steps = np.diff(shapely.get_coordinates(shape.exterior)[:, 0])
    if np.abs(steps).max() > 180:
        if abs(((steps + 180) % 360 - 180).sum()) > 180:
            raise TimoError(
                "A polygon of this map encloses a pole, which GeoJSON cannot say: cut the map in two, or write a .tif"
            )
        shape = shapely.transform(shape, lambda c: np.column_stack([c[:, 0] % 360, c[:, 1]]))
    west, _, east, _ = shape.bounds
    if west >= -180 and east <= 180:
        return orient(shape)
    parts = []
    for turn in (-360, 0, 360):
        piece = shapely.intersection(shape, shapely.box(turn - 180, -90, turn + 180, 90))
        piece = shapely.transform(piece, lambda c, turn=turn: c - [turn, 0])
        parts += [part for part in shapely.get_parts(piece) if part.geom_type == "Polygon"]
    return shapely.MultiPolygon([orient(part) for part in parts])
