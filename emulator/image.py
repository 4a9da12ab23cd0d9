"""Lazy images: each band a function from a grid to pixels, so that only what is asked for is computed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from shapely.geometry.base import BaseGeometry

from . import pixeltype
from .errors import EngineError
from .grid import WGS84, Grid, Projection
from .pixeltype import PixelType
from .values import Element


class Pixels(NamedTuple):
    """Values (height, width), and where they are valid: bool (height, width), or None for everywhere."""

    values: np.ndarray
    valid: np.ndarray | None

    def filled(self, number: Any = 0) -> np.ndarray:
        """Return the values with a number where they are masked."""
        return self.values if self.valid is None else np.where(self.valid, self.values, number)

    def mask(self) -> np.ndarray:
        """Return where they are valid, (height, width)."""
        return np.ones(self.values.shape, dtype=bool) if self.valid is None else self.valid

    @property
    def nbytes(self) -> int:
        """Memory that they take; a constant is spread over its pixels at no cost."""
        own = 0 if 0 in self.values.strides else self.values.nbytes
        return own + (0 if self.valid is None else self.valid.nbytes)


def both(*masks: np.ndarray | None) -> np.ndarray | None:
    """Return where all of them are valid."""
    found: np.ndarray | None = None
    for mask in masks:
        if mask is not None:
            found = mask if found is None else found & mask
    return found


class Workspace:
    """Pixels already computed for one request, the last ones used, up to a number of bytes."""

    def __init__(self, limit: int = 96 * 2**20) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[tuple[int, Grid], tuple[Source, Pixels]] = OrderedDict()

    def pixels(self, source: Source, grid: Grid) -> Pixels:
        """Return the pixels of a source on a grid, computed once."""
        key = (id(source), grid)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][1]
        pixels = source(grid, self)
        # The source is kept with its pixels, so that nothing else gets its id.
        self._kept[key] = (source, pixels)
        self._bytes += pixels.nbytes
        while self._bytes > self._limit and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1][1].nbytes
        return pixels


Source = Callable[[Grid, Workspace], Pixels]


@dataclass(frozen=True)
class Band:
    """A band of an image.

    Parameters
    ----------
    name : str
        Its name.
    type : PixelType
        What its pixels are.
    source : callable
        (Grid, Workspace) -> Pixels.
    projection : Projection
        Its default projection.
    size : tuple of int, optional
        Columns and rows; None: unbounded.
    """

    name: str
    type: PixelType
    source: Source
    projection: Projection = WGS84
    size: tuple[int, int] | None = None

    def at(self, grid: Grid, work: Workspace) -> Pixels:
        """Return its pixels on a grid."""
        return work.pixels(self.source, grid)

    def info(self) -> dict[str, Any]:
        """Return what `getInfo` shows."""
        found: dict[str, Any] = {"id": self.name, "data_type": self.type.info()}
        if self.size is not None:
            found["dimensions"] = list(self.size)
        return found | {
            "crs": self.projection.crs,
            "crs_transform": list(self.projection.transform),
        }


def derived(band: Band, *others: Band, compute: Callable[..., Pixels], **changes: Any) -> Band:
    """Return a band with the pixels that `compute` makes of its own and those of others; a name or type may change."""

    def source(grid: Grid, work: Workspace) -> Pixels:
        return compute(*(each.at(grid, work) for each in (band, *others)))

    return replace(band, source=source, **changes)


@dataclass(frozen=True)
class Image(Element):
    """An image: bands, properties, a footprint.

    Parameters
    ----------
    bands : tuple of Band
        In order.
    properties : mapping
        Its metadata; "system:index" and "system:id" among them.
    footprint : shapely geometry, optional
        In longitude and latitude; None: unbounded.
    id : str, optional
        Of an asset.
    version : int, optional
        Of an asset.
    """

    bands: tuple[Band, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)
    footprint: BaseGeometry | None = None
    id: str | None = None
    version: int | None = None

    @property
    def names(self) -> list[str]:
        """Names of the bands."""
        return [band.name for band in self.bands]

    @property
    def projection(self) -> Projection:
        """Default projection of the first band."""
        return self.bands[0].projection if self.bands else WGS84

    def with_bands(self, bands: Iterable[Band]) -> Image:
        """Return the same metadata and footprint with other bands."""
        return replace(self, bands=tuple(bands))

    def renamed(self, names: Sequence[str]) -> Image:
        """Return the bands under other names."""
        if len(names) != len(self.bands):
            raise EngineError(
                f"Image.rename: The number of names ({len(names)}) must match the number of bands ({len(self.bands)})."
            )
        check_distinct(names, "Image.rename")
        bands = (replace(b, name=str(n)) for b, n in zip(self.bands, names, strict=True))
        return self.with_bands(bands)

    def the_band(self, name: str, asked_by: str) -> Band:
        """Return the band called so."""
        for band in self.bands:
            if band.name == name:
                return band
        raise EngineError(
            f"{asked_by}: Band pattern '{name}' did not match any bands. Available bands: [{', '.join(self.names)}]"
        )


def check_distinct(names: Sequence[str], asked_by: str) -> None:
    """Refuse a name that comes twice."""
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise EngineError(
            f"{asked_by}: Can't add a band named '{twice}' to image because a band with this name already exists. "
            f"Existing bands: [{', '.join(dict.fromkeys(map(str, names)))}]."
        )


def constant_band(name: str, value: Any) -> Band:
    """Return a band that has one value everywhere."""
    kind = pixeltype.of_number(value)
    number = np.asarray(value, dtype=kind.dtype)

    def source(grid: Grid, _: Workspace) -> Pixels:
        return Pixels(np.broadcast_to(number, grid.shape), None)

    return Band(name, kind, source)


def constant(value: Any) -> Image:
    """Return an image of constants: of a number one band, of a list several, of a dictionary one for each key."""
    if isinstance(value, Image):
        return value
    if isinstance(value, Mapping):
        return Image(tuple(constant_band(str(k), v) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return Image(
            tuple(
                constant_band(f"constant_{i}" if i else "constant", v) for i, v in enumerate(value)
            )
        )
    return Image((constant_band("constant", value),))


def masked_band(name: str, like: Band) -> Band:
    """Return a band of a type and projection that is masked everywhere."""

    def source(grid: Grid, _: Workspace) -> Pixels:
        nothing = np.broadcast_to(np.zeros((), dtype=like.type.dtype), grid.shape)
        return Pixels(nothing, np.zeros(grid.shape, dtype=bool))

    return replace(like, name=name, source=source)
