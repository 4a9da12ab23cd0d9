"""The store behind the emulator: collections of images held in memory; and which one a request reads."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from shapely import segmentize
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from . import pixeltype
from .errors import EmulatorError
from .grid import Grid, Projection, Transform, moved
from .image import Band, Image
from .pyramid import Raster
from .values import Collection, made

WORLD = box(-180, -90, 180, 90)


@dataclass(frozen=True)
class BackedBand:
    """Numbers of one band.

    Parameters
    ----------
    values : numpy.ndarray
        (height, width), of the type that the band shall have.
    scale : float
        Side of a pixel in the unit of the image's reference system; None: that of the image.
    nodata : number, optional
        Pixels of this value are masked.
    policy : {"mean", "mode", "sample"}
        How its pyramid is made.
    """

    values: np.ndarray
    scale: float | None = None
    nodata: float | None = None
    policy: str = "mean"


@dataclass(frozen=True)
class BackedImage:
    """An image of the store.

    Parameters
    ----------
    index : str
        Its "system:index", unique in the collection.
    time_start, time_end : int
        Milliseconds since 1970-01-01 in UTC.
    crs : str
        Code of the reference system.
    transform : tuple of float
        Scale x, shear x, left, shear y, scale y, top of its pixels. Bands of another scale share the corner.
    bands : mapping
        Name -> BackedBand, in order.
    properties : mapping
        Metadata, besides what follows from the others.
    footprint : shapely geometry, optional
        In longitude and latitude; None: the outline of its first band.
    periodic : bool
        The pixels go on over the whole Earth, mirrored at each edge.
    version : int, optional
        Of the asset; None: one that follows from its time.
    """

    index: str
    time_start: int
    time_end: int
    crs: str
    transform: Transform
    bands: Mapping[str, BackedBand]
    properties: Mapping[str, Any] = field(default_factory=dict)
    footprint: BaseGeometry | None = None
    periodic: bool = False
    version: int | None = None

    def image(self, collection: str) -> Image:
        """Return the image as expressions see it."""
        bands = tuple(self._band(name, band) for name, band in self.bands.items())
        footprint = self.footprint if self.footprint is not None else self._outline()
        version = self.time_start * 1000 if self.version is None else self.version
        identity = {
            "system:index": self.index,
            "system:id": f"{collection}/{self.index}",
            "system:version": version,
        }
        times = {"system:time_start": self.time_start, "system:time_end": self.time_end}
        size = sum(band.values.nbytes for band in self.bands.values())
        properties = {"system:asset_size": size, **self.properties, **identity, **times}
        return Image(bands, properties, footprint, str(identity["system:id"]), version)

    def _band(self, name: str, band: BackedBand) -> Band:
        a, _, left, _, e, top = self.transform
        side = band.scale or a
        at = Projection(self.crs, (side, 0.0, left, 0.0, side if e > 0 else -side, top))
        raster = Raster(
            band.values, at, nodata=band.nodata, policy=band.policy, periodic=self.periodic
        )
        size = None if self.periodic else raster.size
        return Band(name, pixeltype.of_dtype(band.values.dtype), raster.nearest, at, size)

    def _outline(self) -> BaseGeometry:
        if self.periodic:
            return WORLD
        height, width = next(iter(self.bands.values())).values.shape
        return _outline_of(Grid(Projection(self.crs, self.transform), width, height))


@functools.cache
def _outline_of(grid: Grid) -> BaseGeometry:
    """The edge of a grid in longitude and latitude, its sides in eight parts; one object for equal grids."""
    west, south, east, north = grid.bounds()
    side = max(east - west, north - south)
    return moved(
        segmentize(box(west, south, east, north), side / 8), grid.projection.crs, "EPSG:4326"
    )


class Backing:
    """Collections by their ids.

    Parameters
    ----------
    collections : mapping
        Id, e.g. "COPERNICUS/S2_SR_HARMONIZED" -> images. They are sorted by time and index.
    titles : mapping, optional
        Properties of the collections.

    Raises
    ------
    EmulatorError
        If two images of a collection have one index.
    """

    def __init__(
        self,
        collections: Mapping[str, Iterable[BackedImage]],
        titles: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._titles = titles or {}
        self.collections = {
            name: self._sorted(name, images) for name, images in collections.items()
        }
        self._images = {
            name: [image.image(name) for image in images]
            for name, images in self.collections.items()
        }
        self._by_id = {image.id: image for images in self._images.values() for image in images}

    @staticmethod
    def _sorted(name: str, images: Iterable[BackedImage]) -> Sequence[BackedImage]:
        found = sorted(images, key=lambda image: (image.time_start, image.index))
        if len({image.index for image in found}) < len(found):
            raise EmulatorError(f"Two images of {name} have the same index; each needs its own.")
        return found

    def collection(self, name: str) -> Collection | None:
        """Return a collection as expressions see it, or None."""
        if name not in self._images:
            return None
        properties = {"system:id": name, **self._titles.get(name, {})}
        return Collection(made(self._images[name]), properties, name, 1)

    def image(self, name: str) -> Image | None:
        """Return an image by collection and index, or None."""
        return self._by_id.get(name)


_STORE: ContextVar[Backing] = ContextVar("store")


def current() -> Backing:
    """Return the store of the request that is evaluated."""
    return _STORE.get()


@contextmanager
def reading(store: Backing) -> Iterator[None]:
    """Let expressions read this store."""
    token = _STORE.set(store)
    try:
        yield
    finally:
        _STORE.reset(token)
