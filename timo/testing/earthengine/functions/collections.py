"""Collections: loading, filtering, mapping, sorting, listing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from timo.testing.earthengine import context
from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.functions.promotion import to_image, union_of
from timo.testing.earthengine.image import Image
from timo.testing.earthengine.reducers import Reducer
from timo.testing.earthengine.registry import register
from timo.testing.earthengine.values import (
    Algorithm,
    Collection,
    Feature,
    Filter,
    Geometry,
    Lazy,
    made,
    properties_of,
)


@register("ImageCollection.load")
def load(id_: str, version: int | None = None) -> Collection:
    """A collection of the store."""
    del version
    found = context.backing().collection(id_)
    if found is None:
        raise EngineError(
            f"ImageCollection.load: ImageCollection asset '{id_}' not found (does not exist or caller does not have "
            "access)."
        )
    return found


@register("ImageCollection.fromImages")
def from_images(images: Sequence[Any]) -> Collection:
    """A collection of a list of images, with their positions as indices where they have none."""
    lazy = images if isinstance(images, Lazy) else made(images)

    def maker(place: int) -> Callable[[], Image]:
        def make() -> Image:
            image = to_image(lazy[place], "ImageCollection.fromImages")
            given = "system:index" in image.properties
            return image if given else image.set({"system:index": str(place)})

        return make

    return Collection(Lazy(maker(i) for i in range(len(lazy))))


@register("Collection")
def features(features: Sequence[Any]) -> Collection:
    """A collection of a list of features."""
    lazy = features if isinstance(features, Lazy) else made(features)

    def maker(place: int) -> Callable[[], Any]:
        def make() -> Any:
            element = lazy[place]
            element = Feature(element) if isinstance(element, Geometry) else element
            given = "system:index" in element.properties
            return element if given else element.set({"system:index": str(place)})

        return make

    return Collection(Lazy(maker(i) for i in range(len(lazy))), kind="FeatureCollection")


@register("Collection.filter")
def filter_(collection: Collection, filter_: Filter) -> Collection:
    """The elements that pass."""
    return collection.of(e for e in collection.elements if filter_.test(e, None))


@register("Collection.map")
def map_(collection: Collection, base_algorithm: Algorithm, drop_nulls: bool = False) -> Collection:
    """What a function makes of each element; it keeps the element's index."""

    def apply(element: Any) -> Any:
        result = base_algorithm(element)
        if result is None:
            if drop_nulls:
                return None
            raise EngineError("Collection.map: A mapped algorithm must not return null.")
        if not isinstance(result, Image | Feature):
            raise EngineError(
                "Collection.map: A mapped algorithm must return a Feature or Image. "
                f"It returned {type(result).__name__}."
            )
        return result.set({"system:index": element.properties.get("system:index")})

    lazy = collection.elements.map(apply)
    mapped = [e for e in lazy if e is not None] if drop_nulls else lazy
    return replace(collection.of(mapped), id=None, version=None)


@register("Collection.iterate")
def iterate(collection: Collection, function: Algorithm, first: Any = None) -> Any:
    """A function of each element and the result so far."""
    result = first
    for element in collection.elements:
        result = function(element, result)
    return result


@register("Collection.size")
def size(collection: Collection) -> int:
    """How many elements there are."""
    return len(collection.elements)


@register("Collection.first")
def first(collection: Collection) -> Any:
    """The first element, or null."""
    return collection.elements[0] if len(collection.elements) else None


@register("Collection.toList")
def to_list(collection: Collection, count: int, offset: int = 0) -> Lazy:
    """Some of the elements."""
    if count < 0 or offset < 0:
        raise EngineError("Collection.toList: count and offset must not be negative.")
    return collection.elements[int(offset) : int(offset + count)]


def sort_key(element: Any, key: str) -> tuple[bool, Any]:
    """What an element is sorted by; those without the property come last."""
    value = properties_of(element).get(key)
    number = getattr(value, "millis", value)
    return (number is None, 0 if number is None else number)


@register("Collection.limit")
def limit(
    collection: Collection,
    limit: int | None = None,
    key: str | None = None,
    ascending: bool = True,
) -> Collection:
    """The first elements, sorted by a property if one is named."""
    elements: Any = collection.elements
    if key is not None:
        present = [e for e in elements if not sort_key(e, key)[0]]
        absent = [e for e in elements if sort_key(e, key)[0]]
        try:
            present.sort(key=lambda e: sort_key(e, key), reverse=not ascending)
        except TypeError as error:
            raise EngineError(
                f"Collection.limit: Values of '{key}' cannot be compared with one another."
            ) from error
        elements = made(present + absent)
    return collection.of(elements if limit is None else elements[: int(limit)])


@register("Collection.merge", "ImageCollection.merge")
def merge(collection1: Collection, collection2: Collection) -> Collection:
    """Both one after the other; their indices get the prefixes 1_ and 2_."""

    def prefixed(prefix: str) -> Callable[[Any], Any]:
        return lambda e: e.set({"system:index": f"{prefix}{e.properties.get('system:index')}"})

    left = collection1.elements.map(prefixed("1_"))
    return replace(
        collection1,
        elements=left.followed_by(collection2.elements.map(prefixed("2_"))),
        id=None,
        version=None,
    )


@register("Collection.flatten")
def flatten(collection: Collection) -> Collection:
    """The elements of its elements, which are collections."""
    inner = [e for c in collection.elements for e in c.elements]
    kind = "ImageCollection" if inner and isinstance(inner[0], Image) else "FeatureCollection"
    return Collection(made(inner), kind=kind)


@register("Collection.distinct")
def distinct(collection: Collection, properties: Any) -> Collection:
    """The first of the elements that agree in these properties."""
    names = [properties] if isinstance(properties, str) else list(properties)
    found: dict[str, Any] = {}
    for element in collection.elements:
        found.setdefault(repr([properties_of(element).get(name) for name in names]), element)
    return collection.of(found.values())


@register("Collection.reduceColumns")
def reduce_columns(
    collection: Collection,
    reducer: Reducer,
    selectors: list[str],
    weight_selectors: list[str] | None = None,
) -> dict[str, Any]:
    """A reducer of the elements' properties; null is left out of each."""
    if weight_selectors:
        raise EngineError("Collection.reduceColumns: the emulator knows no weights here.")
    table = [[properties_of(e).get(name) for e in collection.elements] for name in selectors]
    return reducer.of_columns(table)


@register("Collection.geometry", "Collection.bounds")
def geometry(collection: Collection, max_error: Any = None, proj: Any = None) -> Geometry:
    """The shapes of all elements together."""
    del max_error, proj
    return union_of(collection, "Collection.geometry")


def _aggregated(collection: Collection, property_: str) -> list[Any]:
    values = (properties_of(e).get(property_) for e in collection.elements)
    return [value for value in values if value is not None]


@register("AggregateFeatureCollection.array")
def aggregate_array(collection: Collection, property_: str) -> list[Any]:
    """A property of every element that has it."""
    return _aggregated(collection, property_)
