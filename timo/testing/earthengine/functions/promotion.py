"""What an argument of one type accepts besides values of it, as the service promotes them."""

from __future__ import annotations

from typing import Any

from shapely import unary_union

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.functions.dates import parse
from timo.testing.earthengine.grid import Projection, crs_of
from timo.testing.earthengine.image import Image, constant
from timo.testing.earthengine.registry import promotes
from timo.testing.earthengine.values import (
    Collection,
    Date,
    DateRange,
    Feature,
    Filter,
    Geometry,
    Lazy,
    made,
)


def kind_of(value: Any) -> str:
    """What the service calls the type of a value."""
    names: dict[type, str] = {
        bool: "Boolean",
        int: "Integer",
        float: "Float",
        str: "String",
        list: "List<Object>",
        dict: "Dictionary<Object>",
        Image: "Image",
        Date: "Date",
        DateRange: "DateRange",
        Feature: "Feature",
        Geometry: "Geometry",
        Filter: "Filter",
        type(None): "Null",
    }
    if isinstance(value, Collection):
        return value.kind
    return names.get(type(value), type(value).__name__)


def wrong(name: str, value: Any, expected: str) -> EngineError:
    """The complaint about an argument of the wrong type."""
    return EngineError(f"{name}: Cannot convert an object of type {kind_of(value)} to {expected}.")


@promotes("Image")
def to_image(value: Any, name: str) -> Image:
    """An image; a number or a list of them is a constant image."""
    if isinstance(value, Image):
        return value
    if isinstance(value, int | float) or (
        isinstance(value, list) and all(isinstance(v, int | float) for v in value)
    ):
        return constant(value)
    raise wrong(name, value, "Image")


@promotes("ImageCollection", "FeatureCollection")
def to_collection(value: Any, name: str) -> Collection:
    """A collection; an element or a list of them becomes one."""
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
    """A feature or an image; a geometry becomes a feature."""
    if isinstance(value, Geometry):
        return Feature(value)
    if isinstance(value, Feature | Image):
        return value
    raise wrong(name, value, "Feature")


@promotes("Geometry")
def to_geometry(value: Any, name: str) -> Geometry:
    """A geometry: that of an element, too."""
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
    """The shape of all elements together."""
    shapes = [to_geometry(element, name).shape for element in collection.elements]
    if any(shape is None for shape in shapes):
        return Geometry(None)
    return Geometry(unary_union(shapes))


@promotes("Date")
def to_date(value: Any, name: str) -> Date:
    """A date; a number is milliseconds, a string is read."""
    if isinstance(value, Date):
        return value
    if isinstance(value, int | float):
        return Date(round(value))
    if isinstance(value, str):
        return parse(value)
    raise wrong(name, value, "Date")


@promotes("DateRange")
def to_date_range(value: Any, name: str) -> DateRange:
    """A range of dates."""
    if isinstance(value, DateRange):
        return value
    raise wrong(name, value, "DateRange")


@promotes("Projection")
def to_projection(value: Any, name: str) -> Projection:
    """A projection; a string is the code of a reference system."""
    if isinstance(value, Projection):
        return value
    if isinstance(value, str):
        crs_of(value)
        return Projection(value)
    raise wrong(name, value, "Projection")


@promotes("Number", "Integer", "Float", "Long")
def to_number(value: Any, name: str) -> Any:
    """A number; a boolean counts as one."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    raise wrong(name, value, "Number")


@promotes("List")
def to_list(value: Any, name: str) -> Any:
    """A list."""
    if isinstance(value, list | Lazy):
        return value
    if isinstance(value, str | int | float):
        return [value]
    raise wrong(name, value, "List<Object>")


@promotes("Dictionary")
def to_dictionary(value: Any, name: str) -> Any:
    """A dictionary; that of the properties of an element, too."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Image | Feature):
        return dict(value.properties)
    raise wrong(name, value, "Dictionary<Object>")


@promotes("String")
def to_string(value: Any, name: str) -> Any:
    """A string."""
    if isinstance(value, str):
        return value
    raise wrong(name, value, "String")
