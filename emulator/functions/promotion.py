"""What an argument of one type accepts besides values of it, as the service promotes them."""

from __future__ import annotations

from typing import Any

from shapely import unary_union

from ..errors import EngineError
from ..grid import Projection, crs_of
from ..image import Image, constant
from ..registry import promotes
from ..values import Collection, Date, DateRange, Element, Feature, Geometry, Lazy, made, millis_of
from .dates import parse

# What the service calls them, where Python has another name.
_NAMES = {
    bool: "Boolean",
    int: "Integer",
    str: "String",
    float: "Float",
    list: "List<Object>",
    dict: "Dictionary<Object>",
    type(None): "Null",
}


def kind_of(value: Any) -> str:
    """Return what the service calls the type of a value."""
    if isinstance(value, Collection):
        return value.kind
    return _NAMES.get(type(value), type(value).__name__)


def wrong(name: str, value: Any, expected: str) -> EngineError:
    """Make the error about an argument of the wrong type."""
    return EngineError(f"{name}: Cannot convert an object of type {kind_of(value)} to {expected}.")


@promotes("Image")
def to_image(value: Any, name: str) -> Image:
    """Return an image; a number or a list of them is a constant image."""
    if isinstance(value, Image):
        return value
    numbers = value if isinstance(value, list) else [value]
    if all(isinstance(number, int | float) for number in numbers):
        return constant(value)
    raise wrong(name, value, "Image")


@promotes("ImageCollection", "FeatureCollection")
def to_collection(value: Any, name: str) -> Collection:
    """Return a collection; an element or a list of them becomes one."""
    if isinstance(value, Collection):
        return value
    if isinstance(value, Image):
        return Collection(made([value]))
    if isinstance(value, list | Lazy):
        elements = value if isinstance(value, Lazy) else made(value)
        images = not len(elements) or isinstance(elements[0], Image)
        return Collection(elements, kind="ImageCollection" if images else "FeatureCollection")
    if isinstance(value, Feature | Geometry):
        return Collection(made([to_feature(value, name)]), kind="FeatureCollection")
    raise wrong(name, value, "FeatureCollection")


@promotes("Feature")
def to_feature(value: Any, name: str) -> Any:
    """Return a feature or an image; a geometry becomes a feature."""
    if isinstance(value, Feature | Image):
        return value
    if isinstance(value, Geometry):
        return Feature(value)
    raise wrong(name, value, "Feature")


@promotes("Geometry")
def to_geometry(value: Any, name: str) -> Geometry:
    """Return a geometry: that of an element, too."""
    if isinstance(value, Geometry):
        return value
    if isinstance(value, Feature):
        return value.geometry or Geometry(None)
    if isinstance(value, Image):
        return Geometry(value.footprint)
    if isinstance(value, Collection):
        return union_of(value, name)
    raise wrong(name, value, "Geometry")


def union_of(collection: Collection, name: str) -> Geometry:
    """Return the shape of all elements together."""
    shapes = [to_geometry(element, name).shape for element in collection.elements]
    return Geometry(None if any(shape is None for shape in shapes) else unary_union(shapes))


@promotes("Date")
def to_date(value: Any, name: str) -> Date:
    """Return a date; a number is milliseconds, a string is read."""
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, Date | int | float):
        return Date(millis_of(value))
    raise wrong(name, value, "Date")


@promotes("Projection")
def to_projection(value: Any, name: str) -> Projection:
    """Return a projection; a string is the code of a reference system."""
    if isinstance(value, str):
        crs_of(value)
        return Projection(value)
    if isinstance(value, Projection):
        return value
    raise wrong(name, value, "Projection")


@promotes("Number", "Integer", "Float", "Long")
def to_number(value: Any, name: str) -> Any:
    """Return a number; a boolean counts as one."""
    if isinstance(value, int | float):
        return int(value) if isinstance(value, bool) else value
    raise wrong(name, value, "Number")


@promotes("List")
def to_list(value: Any, name: str) -> Any:
    """Return a list; one value becomes a list of it."""
    if isinstance(value, list | Lazy):
        return value
    if isinstance(value, str | int | float):
        return [value]
    raise wrong(name, value, "List<Object>")


@promotes("Dictionary")
def to_dictionary(value: Any, name: str) -> Any:
    """Return a dictionary: the properties of an element, too."""
    if isinstance(value, Element):
        return dict(value.properties)
    if isinstance(value, dict):
        return value
    raise wrong(name, value, "Dictionary<Object>")


@promotes("String")
def to_string(value: Any, name: str) -> str:
    """Return a string."""
    if isinstance(value, str):
        return value
    raise wrong(name, value, "String")


@promotes("DateRange")
def to_date_range(value: Any, name: str) -> DateRange:
    """Return a range of dates."""
    if isinstance(value, DateRange):
        return value
    raise wrong(name, value, "DateRange")
