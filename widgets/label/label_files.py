"""Labels as GeoJSON: written for any GIS, read back with the same pixels, and read from others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import shapely

from timo.atomic import replacing
from timo.checks import PathLike, checked, is_number
from timo.errors import TimoError
from timo.sources import Area, parse_aoi

from .cells import cells_in, outline
from .sheet import Label, check_dates
from .store import LabelStore


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
        A FeatureCollection, or its text: polygons with a property "class" (in any case: Class, CLASS), a name or the
        number of a class; "start" and "end" are optional. If one cannot be read, nothing is changed.
    keep : bool
        Keep the labels that are there, under the new ones.

    Returns
    -------
    int
        How many features were left out because no pixel's centre of the cube lies in them.
    """
    data = _parsed(data)
    classes = list(store.classes)
    named = data.get("classes")
    for name in named if isinstance(named, list) else []:
        _code(name, classes)
    labels = list(store.sheet.labels) if keep else []
    number, outside = store.next_number(), 0
    for position, feature in enumerate(data["features"], 1):
        try:
            label = _label(feature, data, store, classes, number + position - 1)
        except TimoError as error:
            raise TimoError(f"Feature {position}: {error}") from error
        if label is None:
            outside += 1
        else:
            labels.append(label)
    if outside and outside == len(data["features"]):
        raise TimoError("None of the features lies on the cube. Is the file of another place?")
    store.replace_all(classes, labels)
    return outside


@checked
def save(store: LabelStore, path: PathLike) -> None:
    """Write the labels to a GeoJSON file, which appears when it is complete."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(to_geojson(store), ensure_ascii=False), encoding="utf-8")


@checked
def load(store: LabelStore, path: PathLike, *, keep: bool = False) -> int:
    """Read labels from a GeoJSON file; see `from_geojson`."""
    file = Path(path).expanduser()
    try:
        text = file.read_bytes()
    except OSError as error:
        raise TimoError(
            f"'{file}' cannot be read: {error.strerror}. Give a .geojson file"
        ) from error
    return from_geojson(store, text, keep=keep)


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


def _label(
    feature: Any, data: Mapping[str, Any], store: LabelStore, classes: list[str], number: int
) -> Label | None:
    """Return the label of a feature; None if it covers no pixel."""
    if not isinstance(feature, Mapping) or not isinstance(feature.get("geometry"), Mapping):
        raise TimoError("it has no geometry. Give it a polygon, or leave it out")
    given = feature.get("properties") or {}
    properties = {str(name).lower(): value for name, value in given.items()}
    if properties.get("class") is None:
        has = ", ".join(map(str, given)) or "none"
        raise TimoError(f'it has no property "class"; it has: {has}. Rename the one that names it')
    start, end = check_dates(properties.get("start"), properties.get("end"))
    area = parse_aoi({**feature, **({"crs": data["crs"]} if data.get("crs") else {})})
    code = _code(properties["class"], classes)
    try:
        geometry, cells = cells_in(area, store.cube)
    except TimoError:
        # A file often covers more than the cube; how many were left out is said.
        return None
    painted = properties.get("painted") is True
    return Label(number, code, cells, start, end, None if painted else shapely.normalize(geometry))


def _code(value: Any, classes: list[str]) -> int:
    """Return the code of a class by name, or by number; an unknown one is added."""
    if is_number(value) and value == int(value):
        value = int(value)
        if 0 <= value < len(classes):
            return value
    elif not (isinstance(value, str) or is_number(value)):
        raise TimoError(f"its class {value!r} is no name and no number")
    name = str(value).strip()
    if not name:
        raise TimoError("its class is empty")
    if name not in classes:
        classes.append(name)
    return classes.index(name)
