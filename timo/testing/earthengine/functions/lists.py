"""Lists."""

from __future__ import annotations

import math
from typing import Any

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.registry import register
from timo.testing.earthengine.values import Algorithm, Date, Filter, Lazy


def index_of(size: int, index: float, asked_by: str) -> int:
    """A position, counted from the end if it is negative."""
    place = int(index) + (size if index < 0 else 0)
    if not 0 <= place < size:
        raise EngineError(
            f"{asked_by}: List index must be between 0 and {size - 1}, or between {-size} and -1. Found {int(index)}."
        )
    return place


@register("List.get", "List.getNumber", "List.getString", "List.getGeometry")
def get(list_: Any, index: int) -> Any:
    """One element."""
    return list_[index_of(len(list_), index, "List.get")]


@register("List.size", "List.length")
def size(list_: Any) -> int:
    """How many elements there are."""
    return len(list_)


@register("List.slice")
def slice_(list_: Any, start: int, end: int | None = None, step: int | None = None) -> Any:
    """Elements from one position to another, which is left out."""
    stop = None if end is None else int(end)
    return list_[int(start) : stop : None if step is None else int(step)]


@register("List.map")
def map_(list_: Any, base_algorithm: Algorithm, drop_nulls: bool = False) -> Any:
    """What a function makes of each element."""
    lazy = list_ if isinstance(list_, Lazy) else None
    if lazy is not None and not drop_nulls:
        return lazy.map(base_algorithm)
    found = [base_algorithm(element) for element in list_]
    return [e for e in found if e is not None] if drop_nulls else found


@register("List.iterate")
def iterate(list_: Any, function: Algorithm, first: Any = None) -> Any:
    """A function of each element and the result so far."""
    result = first
    for element in list_:
        result = function(element, result)
    return result


@register("List.filter")
def filter_(list_: Any, filter_: Filter) -> list[Any]:
    """The elements that pass; a filter sees an element that has no properties as its property `item`."""

    class _Item:
        def __init__(self, value: Any) -> None:
            self.properties = {"item": value}

    return [e for e in list_ if filter_.test(e if hasattr(e, "properties") else _Item(e), None)]


@register("List.sequence")
def sequence(start: Any, end: Any = None, step: Any = 1, count: int | None = None) -> list[Any]:
    """Numbers from one to another, which is included if it is met; or so many of them."""
    if count is not None and end is not None and count > 1:
        step = (end - start) / (count - 1)
    if count is None:
        if end is None or step == 0:
            raise EngineError(
                "List.sequence: Must specify either end or count, and a step that is not 0."
            )
        count = max(0, math.floor((end - start) / step + 1e-9) + 1)
    return [start + i * step for i in range(int(count))]


@register("List.repeat")
def repeat(value: Any, count: int) -> list[Any]:
    """One value so many times."""
    return [value] * int(count)


@register("List.add")
def add(list_: Any, element: Any = None) -> list[Any]:
    """With one more at the end."""
    return [*list_, element]


@register("List.cat")
def cat(list_: Any, other: Any) -> list[Any]:
    """Both one after the other."""
    return [*list_, *other]


@register("List.insert")
def insert(list_: Any, index: int, element: Any = None) -> list[Any]:
    """With one more before a position."""
    place = int(index) if index >= 0 else len(list_) + int(index)
    return [*list_[:place], element, *list_[place:]]


@register("List.set")
def set_(list_: Any, index: int, element: Any = None) -> list[Any]:
    """With another element at a position."""
    place = index_of(len(list_), index, "List.set")
    return [element if i == place else old for i, old in enumerate(list_)]


@register("List.splice")
def splice(list_: Any, start: int, count: int, other: Any = ()) -> list[Any]:
    """With some elements replaced."""
    place = int(start) if start >= 0 else len(list_) + int(start)
    return [*list_[:place], *other, *list_[place + int(count) :]]


@register("List.contains")
def contains(list_: Any, element: Any = None) -> bool:
    """Whether an element is in it."""
    return element in list(list_)


@register("List.containsAll")
def contains_all(list_: Any, other: Any) -> bool:
    """Whether all of another list are in it."""
    return all(element in list(list_) for element in other)


@register("List.indexOf")
def index_of_element(list_: Any, element: Any = None) -> int:
    """Where an element first is, or -1."""
    found = list(list_)
    return found.index(element) if element in found else -1


@register("List.frequency")
def frequency(list_: Any, element: Any = None) -> int:
    """How often an element is in it."""
    return list(list_).count(element)


@register("List.distinct")
def distinct(list_: Any) -> list[Any]:
    """Each element once, where it first comes."""
    found: list[Any] = []
    for element in list_:
        if element not in found:
            found.append(element)
    return found


@register("List.equals")
def equals(list_: Any, other: Any) -> bool:
    """Whether two lists hold the same."""
    return list(list_) == list(other)


@register("List.remove")
def remove(list_: Any, element: Any = None) -> list[Any]:
    """Without the first of an element."""
    found = list(list_)
    if element in found:
        found.remove(element)
    return found


@register("List.removeAll")
def remove_all(list_: Any, other: Any) -> list[Any]:
    """Without what is in another list."""
    gone = list(other)
    return [element for element in list_ if element not in gone]


@register("List.replaceAll")
def replace_all(list_: Any, oldval: Any = None, newval: Any = None) -> list[Any]:
    """With an element replaced wherever it is."""
    return [newval if element == oldval else element for element in list_]


@register("List.reverse")
def reverse(list_: Any) -> list[Any]:
    """From the end to the beginning."""
    return list(list_)[::-1]


@register("List.rotate")
def rotate(list_: Any, distance: int) -> list[Any]:
    """Moved towards the end, what falls off comes in again."""
    found = list(list_)
    cut = -int(distance) % len(found) if found else 0
    return found[cut:] + found[:cut]


@register("List.swap")
def swap(list_: Any, pos1: int, pos2: int) -> list[Any]:
    """With two elements exchanged."""
    found = list(list_)
    a, b = (index_of(len(found), place, "List.swap") for place in (pos1, pos2))
    found[a], found[b] = found[b], found[a]
    return found


@register("List.flatten")
def flatten(list_: Any) -> list[Any]:
    """The elements of lists in it, however deep."""
    found: list[Any] = []
    for element in list_:
        found.extend(flatten(element) if isinstance(element, list | Lazy) else [element])
    return found


@register("List.zip")
def zip_(list_: Any, other: Any) -> list[Any]:
    """Pairs, as many as the shorter list has."""
    return [[a, b] for a, b in zip(list_, other, strict=False)]


@register("List.unzip")
def unzip(list_: Any) -> list[Any]:
    """The first ones of pairs, then the second ones."""
    return [list(column) for column in zip(*list_, strict=False)]


@register("List.sort")
def sort(list_: Any, keys: Any = None) -> list[Any]:
    """In order, or in the order of parallel keys."""
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
    """Strings and numbers as one string."""
    return separator.join(f"{e:g}" if isinstance(e, float) else str(e) for e in list_)
