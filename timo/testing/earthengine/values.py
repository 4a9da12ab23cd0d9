"""What an expression can evaluate to, besides numbers, strings, lists, dictionaries and images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from shapely.geometry.base import BaseGeometry

from timo.testing.earthengine.errors import EngineError


class Algorithm(Protocol):
    """A function that an expression defines or names, called with its arguments in order."""

    def __call__(self, *arguments: Any) -> Any: ...


@dataclass(frozen=True)
class Date:
    """An instant: milliseconds since 1970-01-01 in UTC."""

    millis: int

    def info(self) -> dict[str, Any]:
        """What `getInfo` shows."""
        return {"type": "Date", "value": self.millis}


@dataclass(frozen=True)
class DateRange:
    """From an instant to another one, which it does not hold; None: open."""

    start: int | None
    end: int | None

    def contains(self, millis: float) -> bool:
        """Whether an instant is in it."""
        after = self.start is None or self.start <= millis
        return after and (self.end is None or millis < self.end)

    def info(self) -> dict[str, Any]:
        """What `getInfo` shows."""
        dates = [value for value in (self.start, self.end) if value is not None]
        return {"type": "DateRange", "dates": dates}


@dataclass(frozen=True)
class Geometry:
    """A shape in longitude and latitude; None: the whole Earth without bounds."""

    shape: BaseGeometry | None
    geodesic: bool = True


@dataclass(frozen=True)
class Feature:
    """A shape with properties."""

    geometry: Geometry | None
    properties: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None

    def set(self, properties: Mapping[str, Any]) -> Feature:
        """More properties; None removes one."""
        merged = {**self.properties, **properties}
        return replace(self, properties={k: v for k, v in merged.items() if v is not None})


class Lazy(Sequence[Any]):
    """Elements of a collection, each made when it is first asked for."""

    def __init__(self, makers: Iterable[Callable[[], Any]]) -> None:
        self._makers: list[Callable[[], Any] | None] = list(makers)
        self._made: list[Any] = [None] * len(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Lazy(self.maker(i) for i in range(*index.indices(len(self))))
        maker = self._makers[index]
        if maker is not None:
            self._made[index], self._makers[index] = maker(), None
        return self._made[index]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def maker(self, index: int) -> Callable[[], Any]:
        """What makes one element."""
        return lambda: self[index]

    def map(self, function: Callable[[Any], Any]) -> Lazy:
        """The elements of a function, made when they are asked for."""

        def maker(index: int) -> Callable[[], Any]:
            return lambda: function(self[index])

        return Lazy(maker(i) for i in range(len(self)))

    def followed_by(self, other: Lazy) -> Lazy:
        """These, then those."""
        return Lazy([s.maker(i) for s in (self, other) for i in range(len(s))])


def made(elements: Iterable[Any]) -> Lazy:
    """A sequence whose elements are there already."""
    found = list(elements)

    def maker(element: Any) -> Callable[[], Any]:
        return lambda: element

    return Lazy(maker(element) for element in found)


@dataclass(frozen=True)
class Collection:
    """Images or features in order, with properties of their own."""

    elements: Lazy
    properties: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    version: int | None = None
    kind: str = "ImageCollection"

    def of(self, elements: Iterable[Any]) -> Collection:
        """The same collection with other elements."""
        lazy = elements if isinstance(elements, Lazy) else made(elements)
        return replace(self, elements=lazy)

    def set(self, properties: Mapping[str, Any]) -> Collection:
        """More properties; None removes one."""
        merged = {**self.properties, **properties}
        return replace(self, properties={k: v for k, v in merged.items() if v is not None})


@dataclass(frozen=True)
class Filter:
    """A test of one element, or of a left and a right one (a join's)."""

    test: Callable[[Any, Any], bool]
    text: str = "Filter"


@dataclass(frozen=True)
class Kernel:
    """A neighbourhood: its half sizes and shape, in pixels or metres.

    Parameters
    ----------
    shape : {"circle", "square", "fixed"}
        What it looks like.
    radius : float
        Half its size.
    units : {"pixels", "meters"}
        Of the radius.
    rows : tuple of (int, int)
        Of a fixed one: rows from the middle, and how many columns it goes to either side there.
    """

    shape: str
    radius: float
    units: str = "pixels"
    rows: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Join:
    """How two collections are joined."""

    name: str
    options: Mapping[str, Any]


def millis_of(value: Any) -> int:
    """Milliseconds of a date or of what stands for one."""
    if isinstance(value, Date):
        return value.millis
    if isinstance(value, int | float):
        return round(value)
    raise EngineError(f"Date: Cannot convert {value!r} to a date.")


def properties_of(element: Any) -> Mapping[str, Any]:
    """Metadata of an image, a feature or a collection."""
    if hasattr(element, "properties"):
        return dict(element.properties)
    raise EngineError(
        f"Element.get: Parameter 'object' is of type {type(element).__name__}, not an element."
    )
