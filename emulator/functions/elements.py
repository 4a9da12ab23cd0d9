"""Properties of images, features and collections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import EngineError
from ..image import Image
from ..registry import register, register_all
from ..values import Element, Feature, Geometry, properties_of
from .promotion import to_geometry

_SYSTEM = "system:"

register_all(
    {
        "Element.propertyNames": lambda element: list(properties_of(element)),
        "Feature.id": lambda element: properties_of(element).get("system:index"),
        "Image.id": lambda element: properties_of(element).get("system:index"),
    }
)


@register("Feature")
def feature(geometry: Geometry | None = None, metadata: Mapping[str, Any] | None = None) -> Feature:
    """Make a feature."""
    return Feature(geometry, dict(metadata or {}))


@register("Element.get", "Element.getNumber", "Element.getString")
def get(object_: Any, property_: str) -> Any:
    """Return a property, or null."""
    if property_ == "system:footprint":
        return to_geometry(object_, "Element.get")
    return properties_of(object_).get(property_)


@register("Element.set")
def set_(object_: Any, key: str, value: Any = None) -> Any:
    """Set one property; null removes it."""
    if key == "system:footprint" and isinstance(object_, Image):
        return replace(object_, footprint=to_geometry(value, "Element.set").shape)
    return set_multi(object_, {key: value})


@register("Element.setMulti")
def set_multi(object_: Any, properties: Mapping[str, Any]) -> Any:
    """Set some properties."""
    if isinstance(object_, Element):
        return object_.set(properties)
    raise EngineError(
        f"Element.set: Cannot set a property of an object of type {type(object_).__name__}."
    )


@register("Element.toDictionary")
def to_dictionary(element: Any, properties: list[str] | None = None) -> dict[str, Any]:
    """Return the properties named, or those that are not the system's."""
    found = properties_of(element)
    if properties is not None:
        return {name: found[name] for name in properties if name in found}
    return {key: value for key, value in found.items() if not key.startswith(_SYSTEM)}


@register("Element.copyProperties", "Image.copyProperties")
def copy_properties(
    destination: Any = None,
    source: Any = None,
    properties: list[str] | None = None,
    exclude: list[str] | None = None,
) -> Any:
    """Give the first element properties of the second: those named, or all that are not the system's."""
    if destination is None or source is None:
        raise EngineError(
            "Element.copyProperties: Parameter 'source' is required and may not be null."
        )
    found = to_dictionary(source, properties)
    return set_multi(destination, {k: v for k, v in found.items() if k not in (exclude or ())})


@register("Element.geometry", "Feature.geometry", "Image.geometry")
def geometry(feature: Any) -> Geometry:
    """Return where it is."""
    return to_geometry(feature, "Element.geometry")
