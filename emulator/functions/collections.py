"""Collections: loading, filtering, mapping, sorting, listing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from shapely.geometry import box

from ..backing import current
from ..errors import EngineError
from ..image import Image
from ..reducers import Reducer
from ..registry import register, register_all
from ..values import Algorithm, Collection, Element, Feature, Geometry, Lazy, made, properties_of
from .containers import iterate
from .geometries import bounded
from .promotion import to_feature, to_image, union_of

register_all(
    {
        "Collection.size": lambda collection: len(collection.elements),
        "Collection.first": lambda collection: next(iter(collection.elements), None),
        "Collection.filter": lambda collection, filter_: collection.of(
            element for element in collection.elements if filter_.test(element)
        ),
        "Collection.iterate": lambda collection, function, first=None: iterate(
            collection.elements, function, first
        ),
        "Collection.geometry": lambda collection: union_of(collection, "Collection.geometry"),
    }
)


@register("ImageCollection.load")
def load(id_: str) -> Collection:
    """Return a collection of the store."""
    found = current().collection(id_)
    if found is None:
        raise EngineError(
            f"ImageCollection.load: ImageCollection asset '{id_}' not found (does not exist or caller does not have "
            "access)."
        )
    return found


def _indexed(element: Element, place: int) -> Element:
    """Give an element its position as index, where it has none."""
    given = "system:index" in element.properties
    return element if given else element.set({"system:index": str(place)})


@register("ImageCollection.fromImages")
def from_images(images: Sequence[Any]) -> Collection:
    """Make a collection of a list of images."""
    name = "ImageCollection.fromImages"
    return Collection(Lazy(len(images), lambda i: _indexed(to_image(images[i], name), i)))


@register("Collection")
def features(features: Sequence[Any]) -> Collection:
    """Make a collection of a list of features."""
    elements = Lazy(len(features), lambda i: _indexed(to_feature(features[i], "Collection"), i))
    return Collection(elements, kind="FeatureCollection")


@register("Collection.map")
def map_(collection: Collection, base_algorithm: Algorithm, drop_nulls: bool = False) -> Collection:
    """Apply a function to each element; the results keep the elements' indices."""

    def apply(element: Any) -> Any:
        result = base_algorithm(element)
        if result is None and drop_nulls:
            return None
        if not isinstance(result, Image | Feature):
            raise EngineError(
                "Collection.map: A mapped algorithm must return a Feature or Image. "
                f"It returned {'null' if result is None else type(result).__name__}."
            )
        return result.set({"system:index": element.properties.get("system:index")})

    lazy = collection.elements.map(apply)
    mapped = [e for e in lazy if e is not None] if drop_nulls else lazy
    return replace(collection.of(mapped), id=None, version=None)


@register("Collection.toList")
def to_list(collection: Collection, count: int, offset: int = 0) -> Lazy:
    """Return some of the elements as a list."""
    if count < 0 or offset < 0:
        raise EngineError("Collection.toList: count and offset must not be negative.")
    return collection.elements[int(offset) : int(offset + count)]


@register("Collection.limit")
def limit(
    collection: Collection,
    limit: int | None = None,
    key: str | None = None,
    ascending: bool = True,
) -> Collection:
    """Return the first elements, sorted by a property if one is named; those without it come last."""
    elements: Any = collection.elements
    if key is not None:
        found = [properties_of(e).get(key) for e in elements]
        values: list[Any] = [getattr(value, "millis", value) for value in found]
        present = [place for place, value in enumerate(values) if value is not None]
        absent = [place for place, value in enumerate(values) if value is None]
        try:
            present.sort(key=lambda place: values[place], reverse=not ascending)
        except TypeError as error:
            raise EngineError(
                f"Collection.limit: Values of '{key}' cannot be compared with one another."
            ) from error
        elements = [elements[place] for place in present + absent]
    return collection.of(elements if limit is None else elements[: int(limit)])


@register("Collection.merge", "ImageCollection.merge")
def merge(collection1: Collection, collection2: Collection) -> Collection:
    """Join two collections; their indices get the prefixes 1_ and 2_."""
    pairs = [(1, e) for e in collection1.elements] + [(2, e) for e in collection2.elements]
    merged = (
        e.set({"system:index": f"{number}_{e.properties.get('system:index')}"})
        for number, e in pairs
    )
    return replace(collection1.of(merged), id=None, version=None)


@register("Collection.flatten")
def flatten(collection: Collection) -> Collection:
    """Return the elements of its elements, which are collections."""
    inner = [e for c in collection.elements for e in c.elements]
    kind = "ImageCollection" if inner and isinstance(inner[0], Image) else "FeatureCollection"
    return Collection(made(inner), kind=kind)


@register("Collection.distinct")
def distinct(collection: Collection, properties: Any) -> Collection:
    """Keep the first of the elements that agree in these properties."""
    names = [properties] if isinstance(properties, str) else list(properties)
    found: dict[str, Any] = {}
    for element in collection.elements:
        found.setdefault(repr([properties_of(element).get(name) for name in names]), element)
    return collection.of(found.values())


@register("Collection.reduceColumns")
def reduce_columns(
    collection: Collection, reducer: Reducer, selectors: list[str]
) -> dict[str, Any]:
    """Reduce the elements' properties; null is left out of each."""
    table = [[properties_of(e).get(name) for e in collection.elements] for name in selectors]
    return reducer.of_columns(table)


@register("Collection.bounds")
def bounds(collection: Collection) -> Geometry:
    """Return the box around all elements."""
    shape = bounded(union_of(collection, "Collection.bounds"), "Collection.bounds")
    return Geometry(box(*shape.bounds), geodesic=False)


@register("AggregateFeatureCollection.array")
def aggregate_array(collection: Collection, property_: str) -> list[Any]:
    """Return a property of every element that has it."""
    values = (properties_of(e).get(property_) for e in collection.elements)
    return [value for value in values if value is not None]
