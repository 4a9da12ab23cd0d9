"""Labels as GeoJSON: written for any GIS, read back with the same pixels, and read from others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from timo.atomic import replacing
from timo.checks import PathLike, checked
from timo.crs import LONLAT
from timo.errors import TimoError
from timo.places.names import are_numbers, name_of, ordered_names
from timo.places.vectors import read_vectors
from timo.sources import Area, parse_aoi

from .cells import cells_in_each, outline
from .sheet import Label, check_dates
from .store import LabelStore

T = TypeVar("T")


@checked
def to_geojson(store: LabelStore) -> dict[str, Any]:
    """Return the labels as a GeoJSON FeatureCollection in degrees, the later feature on top.

    Each has the properties "class" (its name), "start" and "end" ("2019-07-31", or null). Painted pixels become
    polygons along the edges of the cells. The member "classes" keeps the order of the classes.
    """
    return {
        "type": "FeatureCollection",
        "classes": store.classes,
        "features": [_feature(label, store) for label in store.sheet.labels],
    }


@checked
def from_geojson(store: LabelStore, data: Any, *, keep: bool = False) -> int:
    """Replace the labels of a store by those of a GeoJSON object, in one step to undo.

    Parameters
    ----------
    store : LabelStore
        Where they go. Classes that it does not know are added after those that it has.
    data : mapping, str or bytes
        A FeatureCollection, or its text: polygons with a property "class" (in any case: Class, CLASS); "start" and
        "end" are optional. A number is the name of its class, and never a position: 1, 1.0 and "1" are the same. If one
        feature cannot be read, nothing is changed.
    keep : bool
        Keep the labels that are there, under the new ones.

    Returns
    -------
    int
        How many features were left out because no pixel's centre of the cube lies in them.
    """
    data = _parsed(data)
    features, member = data["features"], {"crs": data["crs"]} if data.get("crs") else {}
    properties = [_numbered(_properties, i, feature) for i, feature in enumerate(features, 1)]
    spans = [
        _numbered(check_dates, i, given.get("start"), given.get("end"))
        for i, given in enumerate(properties, 1)
    ]
    areas = [
        _numbered(parse_aoi, i, {**feature, **member}) for i, feature in enumerate(features, 1)
    ]
    names = [_numbered(_name, i, given["class"]) for i, given in enumerate(properties, 1)]
    outlines, cells = cells_in_each(areas, store.cube)
    if areas and not any(each.size for each in cells):
        raise TimoError("None of the features lies on the cube. Is the file of another place?")
    classes = _extended(store.classes, data.get("classes"), names)
    number = store.next_number()
    labels = [
        Label(
            number + i,
            classes.index(names[i]),
            cells[i],
            *spans[i],
            None if given.get("painted") is True else outlines[i],
        )
        for i, given in enumerate(properties)
        # A file often covers more than the cube; how many were left out is said.
        if cells[i].size
    ]
    store.replace_all(classes, [*(store.sheet.labels if keep else ()), *labels])
    return len(areas) - len(labels)


@checked
def save(store: LabelStore, path: PathLike) -> None:
    """Write the labels to a GeoJSON file, which appears when it is complete."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(to_geojson(store), ensure_ascii=False), encoding="utf-8")


@checked
def load(store: LabelStore, path: PathLike, *, keep: bool = False) -> int:
    """Read labels from a GeoJSON file, or any other features that `timo.read_labels` reads; see `from_geojson`."""
    file = Path(path).expanduser()
    if file.suffix.lower() not in (".geojson", ".json"):
        return from_geojson(store, _as_geojson(file), keep=keep)
    try:
        text = file.read_bytes()
    except OSError as error:
        raise TimoError(
            f"'{file}' cannot be read: {error.strerror}. Give a .geojson file"
        ) from error
    return from_geojson(store, text, keep=keep)


def _as_geojson(file: Path) -> dict[str, Any]:
    """Return the features of a vector file or table in degrees."""
    import geopandas

    found = read_vectors(file)
    frame = geopandas.GeoDataFrame(found.table, geometry=found.geometries, crs=found.crs)
    return json.loads(frame.to_crs(LONLAT).to_json(default=str, drop_id=True))


def _feature(label: Label, store: LabelStore) -> dict[str, Any]:
    geometry = outline(label.cells, store.cube) if label.geometry is None else label.geometry
    return {
        "type": "Feature",
        "properties": {
            "class": store.classes[label.code],
            "start": label.start,
            "end": label.end,
            "painted": label.painted,
        },
        # Cut at the antimeridian and wound as RFC 7946 wants it; with lists for tuples, as it comes back from a file.
        "geometry": json.loads(json.dumps(Area(geometry).geojson)),
    }


def _parsed(data: Any) -> Mapping[str, Any]:
    if isinstance(data, bytes | bytearray | memoryview | str):
        try:
            text = data if isinstance(data, str) else bytes(data).decode("utf-8-sig")
            data = json.loads(text)
        except ValueError as error:
            raise TimoError(f"This is no GeoJSON: {error}. Give a FeatureCollection") from error
    kind = data.get("type") if isinstance(data, Mapping) else type(data).__name__
    if kind == "Feature":
        data = {**data, "type": "FeatureCollection", "features": [data]}
    elif kind != "FeatureCollection":
        raise TimoError(
            f'Labels must be a GeoJSON FeatureCollection whose features have a property "class"; got {kind!r}'
        )
    if not isinstance(data.get("features"), list):
        raise TimoError("The FeatureCollection has no list of features")
    return data


def _numbered(read: Callable[..., T], position: int, *given: Any) -> T:
    """Read a part of a feature; an error says of which."""
    try:
        return read(*given)
    except TimoError as error:
        raise TimoError(f"Feature {position}: {error}") from error


def _properties(feature: Any) -> Mapping[str, Any]:
    """Return the properties of a feature by names in small letters; it must have a class and a geometry."""
    if not isinstance(feature, Mapping) or not isinstance(feature.get("geometry"), Mapping):
        raise TimoError("it has no geometry. Give it a polygon, or leave it out")
    given = feature.get("properties") or {}
    properties = {str(name).lower(): value for name, value in given.items()}
    if properties.get("class") is None:
        has = ", ".join(map(str, given)) or "none"
        raise TimoError(f'it has no property "class"; it has: {has}. Rename the one that names it')
    return properties


def _name(value: Any) -> str:
    """Return the name of a class: a number is its own name, and never a position."""
    name = name_of(value)
    if name is None:
        raise TimoError("its class is empty")
    return name


def _extended(classes: list[str], stated: Any, names: Sequence[str]) -> list[str]:
    """Return the classes with those of a file after them: in its order, else numbers ascending, text as it comes."""
    stated = [_name(name) for name in stated] if isinstance(stated, list) else []
    known = list(dict.fromkeys([*classes, *stated]))
    new = [name for name in dict.fromkeys(names) if name not in known]
    return [*known, *(ordered_names(new) if are_numbers(new) else new)]
