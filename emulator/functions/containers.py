"""Lists and dictionaries."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import EngineError
from ..registry import register, register_all
from ..values import Algorithm, Date, Lazy

register_all(
    {
        "List.size": lambda list_: len(list_),
        "List.length": lambda list_: len(list_),
        "List.repeat": lambda value, count: [value] * int(count),
        "List.add": lambda list_, element=None: [*list_, element],
        "List.cat": lambda list_, other: [*list_, *other],
        "List.contains": lambda list_, element=None: element in list(list_),
        "List.removeAll": lambda list_, other: [e for e in list_ if e not in list(other)],
        "List.reverse": lambda list_: list(list_)[::-1],
        "List.zip": lambda list_, other: [list(pair) for pair in zip(list_, other, strict=False)],
    }
)


@register("List.get", "List.getNumber", "List.getString")
def get(list_: Any, index: int) -> Any:
    """Return one element; a negative position counts from the end."""
    size = len(list_)
    place = int(index) + (size if index < 0 else 0)
    if not 0 <= place < size:
        raise EngineError(
            f"List.get: List index must be between 0 and {size - 1}, or between {-size} and -1. Found {int(index)}."
        )
    return list_[place]


@register("List.slice")
def slice_(list_: Any, start: int, end: int | None = None, step: int | None = None) -> Any:
    """Return the elements from one position to another, which is left out."""
    stop = None if end is None else int(end)
    return list_[int(start) : stop : None if step is None else int(step)]


@register("List.map")
def map_(list_: Any, base_algorithm: Algorithm, drop_nulls: bool = False) -> Any:
    """Apply a function to each element."""
    if isinstance(list_, Lazy) and not drop_nulls:
        return list_.map(base_algorithm)
    found = [base_algorithm(element) for element in list_]
    return [e for e in found if e is not None] if drop_nulls else found


@register("List.iterate")
def iterate(list_: Any, function: Algorithm, first: Any = None) -> Any:
    """Apply a function to each element and the result so far."""
    result = first
    for element in list_:
        result = function(element, result)
    return result


@register("List.sequence")
def sequence(start: Any, end: Any = None, step: Any = 1, count: int | None = None) -> list[Any]:
    """Count from one number to another, which is included if it is met; or return `count` of them."""
    if count is not None and end is not None and count > 1:
        step = (end - start) / (count - 1)
    if count is None:
        if end is None or step == 0:
            raise EngineError(
                "List.sequence: Must specify either end or count, and a step that is not 0."
            )
        count = max(0, math.floor((end - start) / step + 1e-9) + 1)
    return [start + i * step for i in range(int(count))]


@register("List.remove")
def remove(list_: Any, element: Any = None) -> list[Any]:
    """Remove the first of an element."""
    found = list(list_)
    if element in found:
        found.remove(element)
    return found


@register("List.distinct")
def distinct(list_: Any) -> list[Any]:
    """Keep each element once, where it first comes."""
    found: list[Any] = []
    for element in list_:
        if element not in found:
            found.append(element)
    return found


@register("List.flatten")
def flatten(list_: Any) -> list[Any]:
    """Return the elements of lists in it, however deep."""
    found: list[Any] = []
    for element in list_:
        found.extend(flatten(element) if isinstance(element, list | Lazy) else [element])
    return found


@register("List.sort")
def sort(list_: Any, keys: Any = None) -> list[Any]:
    """Sort the elements, or sort them by parallel keys."""
    try:
        if keys is None:
            return sorted(list_, key=_key)
        places = sorted(range(len(keys)), key=lambda i: _key(keys[i]))
    except TypeError as error:
        raise EngineError("List.sort: Elements cannot be compared with one another.") from error
    return [list_[i] for i in places]


def _key(element: Any) -> tuple[bool, Any]:
    value = element.millis if isinstance(element, Date) else element
    return (value is None, 0 if value is None else value)


@register("List.join")
def join(list_: Any, separator: str = "") -> str:
    """Join strings and numbers to one string."""
    return separator.join(f"{e:g}" if isinstance(e, float) else str(e) for e in list_)


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
def get_value(dictionary: Mapping[str, Any], key: str, default_value: Any = None) -> Any:
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
    return [get_value(dictionary, key) for key in (sorted(dictionary) if keys is None else keys)]
