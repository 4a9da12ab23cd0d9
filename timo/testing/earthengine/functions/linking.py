"""Elements of two collections that belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.functions.bands import add_bands
from timo.testing.earthengine.functions.collections import sort_key
from timo.testing.earthengine.image import Image, masked_band
from timo.testing.earthengine.registry import register
from timo.testing.earthengine.values import Collection, Feature, Filter, Join, made


@register("Image.linkCollection")
def link_collection(
    input_: Image,
    image_collection: Collection,
    linked_bands: Any = None,
    linked_properties: Any = None,
    match_property_name: str = "system:index",
) -> Image:
    """With bands and properties of the image of a collection that agrees in one; without one, masked and null."""
    key = input_.properties.get(match_property_name)
    match = next(
        (i for i in image_collection.elements if i.properties.get(match_property_name) == key), None
    )
    bands, names = _as_list(linked_bands), _as_list(linked_properties)
    linked = input_.set({name: match.properties.get(name) if match else None for name in names})
    if not bands:
        return linked
    if match is not None:
        return add_bands(linked, match, bands, overwrite=True)
    model = image_collection.elements[0] if len(image_collection.elements) else None
    missing = [
        masked_band(n, model.the_band(n, "Image.linkCollection") if model else input_.bands[0])
        for n in bands
    ]
    return add_bands(linked, Image(tuple(missing)), overwrite=True)


def _as_list(names: Any) -> list[str]:
    if names is None:
        return []
    return [names] if isinstance(names, str) else list(names)


def _joins(name: str) -> Callable[..., Join]:
    def make(
        *,
        match_key: str | None = None,
        matches_key: str | None = None,
        primary_key: str = "primary",
        secondary_key: str = "secondary",
        ordering: str | None = None,
        ascending: bool = True,
        outer: bool = False,
    ) -> Join:
        options = {
            "key": match_key or matches_key,
            "primary": primary_key,
            "secondary": secondary_key,
            "ordering": ordering,
            "ascending": ascending,
            "outer": outer,
        }
        return Join(name, options)

    return make


for _name in ("simple", "inverted", "saveFirst", "saveAll", "inner"):
    register(f"Join.{_name}")(_joins(_name))


@register("Join.apply")
def apply(join: Join, primary: Collection, secondary: Collection, condition: Filter) -> Collection:
    """The elements of a collection with those of another that belong to them."""
    others = list(secondary.elements)
    if (ordering := join.options["ordering"]) is not None:
        others.sort(key=lambda e: sort_key(e, ordering), reverse=not join.options["ascending"])

    def matches(element: Any) -> list[Any]:
        return [other for other in others if condition.test(element, other)]

    found = [joined for e in primary.elements for joined in _joined(join, e, matches(e))]
    kind = "FeatureCollection" if join.name == "inner" else primary.kind
    return replace(primary, elements=made(found), kind=kind, id=None, version=None)


def _joined(join: Join, element: Any, matches: list[Any]) -> Iterator[Any]:
    """What becomes of one element and those that belong to it."""
    key, outer = join.options["key"], join.options["outer"]
    match join.name:
        case "simple" if matches:
            yield element
        case "inverted" if not matches:
            yield element
        case "saveFirst" if matches or outer:
            yield element.set({key: matches[0]}) if matches else element
        case "saveAll" if matches or outer:
            yield element.set({key: matches})
        case "inner":
            names = join.options["primary"], join.options["secondary"]
            yield from (Feature(None, {names[0]: element, names[1]: other}) for other in matches)
        case "simple" | "inverted" | "saveFirst" | "saveAll":
            return
        case _:
            raise EngineError(f"Join.{join.name}: the emulator does not know this algorithm.")
