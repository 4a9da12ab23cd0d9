"""Dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import EngineError
from ..registry import register, register_all

register_all(
    {
        "Dictionary.set": lambda dictionary, key, value=None: {**dictionary, key: value},
        "Dictionary.contains": lambda dictionary, key: key in dictionary,
        "Dictionary.keys": lambda dictionary: sorted(dictionary),
        "Dictionary.size": lambda dictionary: len(dictionary),
        "Dictionary.map": lambda dictionary, base_algorithm: {
            key: base_algorithm(key, value) for key, value in dictionary.items()
        },
    }
)


@register("Dictionary")
def dictionary(input_: Any = None) -> dict[str, Any]:
    """Make a dictionary of one, or of a list of keys and values by turns."""
    if input_ is None:
        return {}
    if isinstance(input_, Mapping):
        return dict(input_)
    if isinstance(input_, list) and len(input_) % 2 == 0:
        return dict(zip(input_[::2], input_[1::2], strict=True))
    raise EngineError("Dictionary: Cannot convert the input to a dictionary.")


@register("Dictionary.fromLists")
def from_lists(keys: list[str], values: Any) -> dict[str, Any]:
    """Make a dictionary of parallel lists."""
    if len(keys) != len(values):
        raise EngineError(f"Dictionary.fromLists: Got {len(keys)} keys and {len(values)} values.")
    return dict(zip(keys, values, strict=True))


@register("Dictionary.get", "Dictionary.getNumber", "Dictionary.getString")
def get(dictionary: Mapping[str, Any], key: str, default_value: Any = None) -> Any:
    """Return the value of a key."""
    if key in dictionary:
        return dictionary[key]
    if default_value is not None:
        return default_value
    raise EngineError(f"Dictionary.get: Dictionary does not contain key: '{key}'.")


@register("Dictionary.combine")
def combine(
    first: Mapping[str, Any], second: Mapping[str, Any], overwrite: bool = True
) -> dict[str, Any]:
    """Join two dictionaries; of a key in both, the second one's value unless told otherwise."""
    return {**first, **second} if overwrite else {**second, **first}


@register("Dictionary.values")
def values(dictionary: Mapping[str, Any], keys: list[str] | None = None) -> list[Any]:
    """Return the values, in the order of the keys."""
    return [get(dictionary, key) for key in (sorted(dictionary) if keys is None else keys)]
