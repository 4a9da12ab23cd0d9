"""What an expression can evaluate to, besides numbers, strings, lists, dictionaries and images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from shapely.geometry.base import BaseGeometry

from .errors import EngineError


class Algorithm(Protocol):
    """A function that an expression defines or names, called with its arguments in order."""

    def __call__(self, *arguments: Any) -> Any: ...


@dataclass(frozen=True)
class Date:
    """An instant: milliseconds since 1970-01-01 in UTC."""

    millis: int

    def info(self) -> dict[str, Any]:
        """Return what `getInfo` shows."""
        return {"type": "Date", "value": self.millis}


@dataclass(frozen=True)
class DateRange:
    """From an instant to another one, which it does not hold."""

    start: int
    end: int

    def contains(self, millis: float) -> bool:
        """Return whether an instant is in it."""
        return self.start <= millis < self.end

    def info(self) -> dict[str, Any]:
        """Return what `getInfo` shows."""
        return {"type": "DateRange", "dates": [self.start, self.end]}


@dataclass(frozen=True)
class Geometry:
    """A shape in longitude and latitude; None: the whole Earth without bounds."""

    shape: BaseGeometry | None
    geodesic: bool = True


class Element:
    """What has properties: an image, a feature, a collection."""

    properties: Mapping[str, Any]

    def set(self, properties: Mapping[str, Any]) -> Self:
        """Return it with more properties; None removes one."""
        merged = {**self.properties, **properties}
        kept = {key: value for key, value in merged.items() if value is not None}
        return replace(self, properties=kept)  # type: ignore[type-var]


@dataclass(frozen=True)
class Feature(Element):
    """A shape with properties."""

    geometry: Geometry | None
    properties: Mapping[str, Any] = field(default_factory=dict)


class Lazy(Sequence[Any]):
    """Elements of a collection, each made from its position when it is first asked for."""

    def __init__(self, size: int, make: Callable[[int], Any]) -> None:
        self._size, self._make = size, make
        self._made: dict[int, Any] = {}

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        places = range(self._size)[index]
        if isinstance(places, range):
            return Lazy(len(places), lambda place: self[places[place]])
        if places not in self._made:
            self._made[places] = self._make(places)
        return self._made[places]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def map(self, function: Callable[[Any], Any]) -> Lazy:
        """Return what a function makes of the elements, made when it is asked for."""
        return Lazy(len(self), lambda place: function(self[place]))


def made(elements: Iterable[Any]) -> Lazy:
    """Return a sequence whose elements are there already."""
    found = list(elements)
    return Lazy(len(found), found.__getitem__)


@dataclass(frozen=True)
class Collection(Element):
    """Images or features in order, with properties of their own."""

    elements: Lazy
    properties: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    version: int | None = None
    kind: str = "ImageCollection"

    def of(self, elements: Iterable[Any]) -> Collection:
        """Return the same collection with other elements."""
        lazy = elements if isinstance(elements, Lazy) else made(elements)
        return replace(self, elements=lazy)


@dataclass(frozen=True)
class Filter:
    """A test of one element."""

    test: Callable[[Any], bool]


def millis_of(value: Any) -> int:
    """Return the milliseconds of a date or of what stands for one."""
    if isinstance(value, Date):
        return value.millis
    if isinstance(value, int | float):
        return round(value)
    raise EngineError(f"Date: Cannot convert {value!r} to a date.")


def properties_of(element: Any, asked_by: str = "Element.get") -> Mapping[str, Any]:
    """Return the properties of an image, a feature or a collection."""
    if isinstance(element, Element):
        return element.properties
    raise EngineError(
        f"{asked_by}: Parameter 'object' is of type {type(element).__name__}, not an element."
    )
