"""Properties of images, features and collections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.functions.promotion import to_geometry
from timo.testing.earthengine.image import Image
from timo.testing.earthengine.registry import register
from timo.testing.earthengine.values import Collection, Feature, Geometry, properties_of

_SYSTEM = "system:"


@register("Feature")
def feature(
    geometry: Geometry | None = None,
    metadata: Mapping[str, Any] | None = None,
    geometry_key: str | None = None,
) -> Feature:
    """A feature."""
    del geometry_key
    return Feature(geometry, dict(metadata or {}))


@register("Element.get")
def get(object_: Any, property_: str) -> Any:
    """A property, or null."""
    if property_ == "system:footprint" and isinstance(object_, Image):
        return Geometry(object_.footprint)
    return properties_of(object_).get(property_)


@register("Element.getNumber", "Element.getString")
def get_typed(object_: Any, property_: str) -> Any:
    """A property."""
    return get(object_, property_)


@register("Element.set")
def set_(object_: Any, key: str, value: Any = None) -> Any:
    """One property more; null removes it."""
    if key == "system:footprint" and isinstance(object_, Image):
        return replace(object_, footprint=to_geometry(value, "Element.set").shape)
    return _settable(object_).set({key: value})


@register("Element.setMulti")
def set_multi(object_: Any, properties: Mapping[str, Any]) -> Any:
    """Some properties more."""
    return _settable(object_).set(properties)


def _settable(element: Any) -> Any:
    if isinstance(element, Image | Feature | Collection):
        return element
    raise EngineError(
        f"Element.set: Cannot set a property of an object of type {type(element).__name__}."
    )


@register("Element.propertyNames")
def property_names(element: Any) -> list[str]:
    """Names of the properties."""
    return list(properties_of(element))


@register("Element.toDictionary")
def to_dictionary(element: Any, properties: list[str] | None = None) -> dict[str, Any]:
    """The properties named, or those that are not the system's."""
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
    """The first element with properties of the second: those named, or all that are not the system's."""
    if destination is None or source is None:
        raise EngineError(
            "Element.copyProperties: Parameter 'source' is required and may not be null."
        )
    found = properties_of(source)
    if properties is not None:
        return _settable(destination).set({k: found[k] for k in properties if k in found})
    left = {
        k: v for k, v in found.items() if not k.startswith(_SYSTEM) and k not in (exclude or ())
    }
    return _settable(destination).set(left)


@register("Element.geometry", "Feature.geometry", "Image.geometry")
def geometry(
    feature: Any, max_error: Any = None, proj: Any = None, geodesics: bool | None = None
) -> Geometry:
    """Where it is."""
    del max_error, proj, geodesics
    return to_geometry(feature, "Element.geometry")


@register("Feature.setGeometry")
def set_geometry(feature: Feature, geometry: Geometry | None = None) -> Feature:
    """The feature at another place."""
    return replace(feature, geometry=geometry)


@register("Feature.id")
def feature_id(element: Any) -> str | None:
    """Its index."""
    return properties_of(element).get("system:index")


@register("Feature.select")
def select(
    input_: Feature,
    property_selectors: list[str],
    new_properties: list[str] | None = None,
    retain_geometry: bool = True,
) -> Feature:
    """Some of its properties, under other names if any are given."""
    names = new_properties or property_selectors
    kept = {
        new: input_.properties[old]
        for old, new in zip(property_selectors, names, strict=False)
        if old in input_.properties
    }
    return replace(input_, properties=kept, geometry=input_.geometry if retain_geometry else None)
