"""Dictionaries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.image import Image, constant
from timo.testing.earthengine.registry import register
from timo.testing.earthengine.values import Algorithm


@register("Dictionary")
def dictionary(input_: Any = None) -> dict[str, Any]:
    """A dictionary of one, or of a list of keys and values by turns."""
    if input_ is None:
        return {}
    if isinstance(input_, Mapping):
        return dict(input_)
    if isinstance(input_, list) and len(input_) % 2 == 0:
        return dict(zip(input_[::2], input_[1::2], strict=True))
    raise EngineError("Dictionary: Cannot convert the input to a dictionary.")


@register("Dictionary.fromLists")
def from_lists(keys: list[str], values: Any) -> dict[str, Any]:
    """A dictionary of parallel lists."""
    if len(keys) != len(values):
        raise EngineError(f"Dictionary.fromLists: Got {len(keys)} keys and {len(values)} values.")
    return dict(zip(keys, values, strict=True))


@register(
    "Dictionary.get", "Dictionary.getNumber", "Dictionary.getString", "Dictionary.getGeometry"
)
def get(dictionary: Mapping[str, Any], key: str, default_value: Any = None) -> Any:
    """The value of a key."""
    if key in dictionary:
        return dictionary[key]
    if default_value is not None:
        return default_value
    raise EngineError(f"Dictionary.get: Dictionary does not contain key: '{key}'.")


@register("Dictionary.set")
def set_(dictionary: Mapping[str, Any], key: str, value: Any = None) -> dict[str, Any]:
    """With one more."""
    return {**dictionary, key: value}


@register("Dictionary.combine")
def combine(
    first: Mapping[str, Any], second: Mapping[str, Any], overwrite: bool = True
) -> dict[str, Any]:
    """Both; of a key in both, the second one's value unless told otherwise."""
    return {**first, **second} if overwrite else {**second, **first}


@register("Dictionary.contains")
def contains(dictionary: Mapping[str, Any], key: str) -> bool:
    """Whether it has a key."""
    return key in dictionary


@register("Dictionary.keys")
def keys(dictionary: Mapping[str, Any]) -> list[str]:
    """Its keys, sorted."""
    return sorted(dictionary)


@register("Dictionary.values")
def values(dictionary: Mapping[str, Any], keys: list[str] | None = None) -> list[Any]:
    """Its values, in the order of the keys."""
    return [get(dictionary, key) for key in (sorted(dictionary) if keys is None else keys)]


@register("Dictionary.size")
def size(dictionary: Mapping[str, Any]) -> int:
    """How many keys it has."""
    return len(dictionary)


@register("Dictionary.map")
def map_(dictionary: Mapping[str, Any], base_algorithm: Algorithm) -> dict[str, Any]:
    """What a function makes of each key and value."""
    return {key: base_algorithm(key, value) for key, value in dictionary.items()}


def _selected(
    dictionary: Mapping[str, Any], selectors: list[str], ignore_missing: bool
) -> list[str]:
    """Keys that names or regular expressions mean."""
    found: list[str] = []
    for selector in selectors:
        matches = [key for key in dictionary if re.fullmatch(selector, key)]
        if not matches and not ignore_missing:
            raise EngineError(f"Dictionary: Key '{selector}' not found.")
        found += [key for key in matches if key not in found]
    return found


@register("Dictionary.select")
def select(
    dictionary: Mapping[str, Any], selectors: list[str], ignore_missing: bool = False
) -> dict[str, Any]:
    """Some of the keys."""
    return {key: dictionary[key] for key in _selected(dictionary, selectors, ignore_missing)}


@register("Dictionary.remove")
def remove(
    dictionary: Mapping[str, Any], selectors: list[str], ignore_missing: bool = False
) -> dict[str, Any]:
    """Without some of the keys."""
    gone = _selected(dictionary, selectors, ignore_missing)
    return {key: value for key, value in dictionary.items() if key not in gone}


@register("Dictionary.rename")
def rename(
    dictionary: Mapping[str, Any], from_: list[str], to: list[str], overwrite: bool = False
) -> dict[str, Any]:
    """With other names of some of the keys."""
    names = dict(zip(from_, to, strict=True))
    found = {names.get(key, key): value for key, value in dictionary.items()}
    if len(found) < len(dictionary) and not overwrite:
        raise EngineError("Dictionary.rename: A new name is there already.")
    return found


@register("Dictionary.toImage")
def to_image(dictionary: Mapping[str, Any], names: list[str] | None = None) -> Image:
    """A constant image, a band for each key."""
    return constant(
        {key: dictionary[key] for key in (sorted(dictionary) if names is None else names)}
    )
