"""Values as the JSON that the client gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .errors import EngineError
from .functions.geometries import geojson
from .grid import Projection
from .image import Image
from .pixeltype import PixelType
from .values import Collection, Date, DateRange, Feature, Geometry, Lazy

_MOST_ELEMENTS = 5000


def as_json(value: Any) -> Any:
    """Write a value of an expression as JSON.

    Raises
    ------
    EngineError
        If it is a function, a filter or a reducer, or a collection of more than 5000 elements.
    """
    if value is None or isinstance(value, str | bool):
        return value
    for kind, convert in _CONVERSIONS:
        if isinstance(value, kind):
            return convert(value)
    raise EngineError(f"Object of type {type(value).__name__} cannot be sent to the client.")


def _number(value: Any) -> Any:
    number = value.item() if isinstance(value, np.number) else value
    if isinstance(number, float):
        if math.isnan(number) or math.isinf(number):
            return str(number)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return number


def _element(value: Image | Feature | Collection) -> dict[str, Any]:
    match value:
        case Image():
            return _image(value)
        case Feature():
            shape = None if value.geometry is None else geojson(value.geometry)
            found = {
                "type": "Feature",
                "geometry": shape,
                "properties": _properties(value.properties),
            }
            index = value.properties.get("system:index")
            return found if index is None else found | {"id": index}
        case _:
            return _collection(value)


def _image(image: Image) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "Image", "bands": [band.info() for band in image.bands]}
    if image.id is not None:
        found |= {"id": image.id, "version": image.version}
    properties = _properties(image.properties)
    if image.footprint is not None and image.id is not None:
        properties["system:footprint"] = geojson(Geometry(image.footprint))
    return found | ({"properties": properties} if properties else {})


def _properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: as_json(value) for key, value in properties.items() if key != "system:id"}


def _collection(collection: Collection) -> dict[str, Any]:
    if len(collection.elements) > _MOST_ELEMENTS:
        raise EngineError("Collection query aborted after accumulating over 5000 elements.")
    found: dict[str, Any] = {"type": collection.kind}
    if collection.kind == "ImageCollection":
        found["bands"] = []
    else:
        found["columns"] = {}
    if collection.id is not None:
        found |= {"id": collection.id, "version": collection.version}
    properties = _properties(collection.properties)
    found |= {"properties": properties} if properties else {}
    return found | {"features": [as_json(element) for element in collection.elements]}


_CONVERSIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (int | float | np.number, _number),
    (Mapping, lambda value: {str(key): as_json(item) for key, item in value.items()}),
    (list | tuple | Lazy, lambda value: [as_json(item) for item in value]),
    (Date | DateRange | PixelType | Projection, lambda value: value.info()),
    (Geometry, geojson),
    (Image | Feature | Collection, _element),
)
