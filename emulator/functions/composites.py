"""Many images into one: mosaics, medians and other reducers of a collection, its images as bands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import shapely

from ..errors import EngineError
from ..grid import WGS84, Grid
from ..image import Band, Image, Pixels, Workspace
from ..pixeltype import cast, union
from ..reducers import SIMPLE, Output, Reducer, Stacked
from ..registry import register
from ..values import Collection
from .promotion import to_image

# Rows of a stack that are reduced at a time: bytes of their pixels.
_STACK = 64 * 2**20


def _composite(
    collection: Collection, asked_by: str, make: Callable[[str, list[Band]], Iterable[Band]]
) -> Image:
    """Make an image of what becomes of each name and the bands of the images that have it, in their order."""
    images = [to_image(element, asked_by) for element in collection.elements]
    layers: dict[str, list[Band]] = {}
    for band in (band for image in images for band in image.bands):
        layers.setdefault(band.name, []).append(band)
    bands = tuple(band for name, each in layers.items() for band in make(name, each))
    return Image(bands, {}, _footprint_of(images))


def _footprint_of(images: list[Image]) -> Any:
    """Return where any of the images is; None without bounds."""
    shapes = [image.footprint for image in images]
    if any(shape is None for shape in shapes):
        return None
    distinct = list({id(shape): shape for shape in shapes}.values())
    return distinct[0] if len(distinct) == 1 else shapely.unary_union(distinct)


@register("ImageCollection.mosaic")
def mosaic(collection: Collection) -> Image:
    """Put the images on top of one another, the last one uppermost, each through the masks of those above."""
    return _composite(collection, "ImageCollection.mosaic", lambda n, bands: [_mosaicked(n, bands)])


def _mosaicked(name: str, bands: list[Band]) -> Band:
    kind = union(band.type for band in bands)

    def source(grid: Grid, work: Workspace) -> Pixels:
        values = np.zeros(grid.shape, dtype=kind.dtype)
        valid = np.zeros(grid.shape, dtype=bool)
        for band in reversed(bands):
            pixels = band.at(grid, work)
            new = pixels.mask() & ~valid
            np.copyto(values, cast(pixels.values, kind), where=new)
            valid |= new
            if valid.all():
                return Pixels(values, None)
        return Pixels(values, valid)

    return Band(name, kind, source, WGS84)


def reduced_band(name: str, bands: list[Band], output: Output) -> Band:
    """Reduce bands to one, pixel by pixel, over those that are valid there."""
    if output.stacked is None:
        raise EngineError(f"Reducer.{output.name}: The emulator cannot apply it to pixels.")
    stacked, inputs = output.stacked, union(band.type for band in bands)
    kind = output.typing(inputs)

    def source(grid: Grid, work: Workspace) -> Pixels:
        values = np.empty((len(bands), *grid.shape), dtype=inputs.dtype)
        valid = np.empty(values.shape, dtype=bool)
        for place, band in enumerate(bands):
            pixels = band.at(grid, work)
            values[place], valid[place] = pixels.values, pixels.mask()
        return _by_rows(stacked, values, valid, kind)

    return Band(name, kind, source, WGS84)


def _by_rows(
    reduce: Stacked,
    values: np.ndarray,
    valid: np.ndarray,
    kind: Any,
) -> Pixels:
    """Reduce a stack some rows at a time, so that what is made on the way stays small."""
    step = max(1, _STACK // max(1, 8 * len(values) * values.shape[2]))
    found = np.empty(values.shape[1:], dtype=kind.dtype)
    some = np.empty(found.shape, dtype=bool)
    for row in range(0, values.shape[1], step):
        rows = slice(row, row + step)
        result, some[rows] = reduce(values[:, rows], valid[:, rows])
        found[rows] = cast(np.asarray(result), kind)
    found[~some] = 0
    return Pixels(found, some)


@register("ImageCollection.reduce")
def reduce(collection: Collection, reducer: Reducer) -> Image:
    """Reduce each band over the images; a band is named after the input and the result, e.g. "B2_median"."""
    return _composite(
        collection,
        "ImageCollection.reduce",
        lambda name, bands: (reduced_band(f"{name}_{o.name}", bands, o) for o in reducer.outputs),
    )


def _register_shorthand(name: str, output: Output) -> None:
    """Register `reduce.median` and the like, which leave the names of the bands as they are."""

    def apply(collection: Collection) -> Image:
        return _composite(
            collection, f"reduce.{name}", lambda band, bands: [reduced_band(band, bands, output)]
        )

    register(f"reduce.{name}")(apply)


for _name in ("min", "max", "count", "sum", "mean", "median", "mode"):
    _register_shorthand(_name, SIMPLE[_name])


@register("ImageCollection.toBands")
def to_bands(collection: Collection) -> Image:
    """Return all bands of all images, named with the index of their image before."""
    images = [to_image(element, "ImageCollection.toBands") for element in collection.elements]
    bands = [
        replace(band, name=f"{image.properties.get('system:index', place)}_{band.name}")
        for place, image in enumerate(images)
        for band in image.bands
    ]
    return Image(tuple(bands), {}, _footprint_of(images))


@register("Image.reduce")
def reduce_bands(image: Image, reducer: Reducer) -> Image:
    """Reduce the bands of one image; the results are the bands, e.g. "max"."""
    if reducer.repeats:
        raise EngineError("Image.reduce: the emulator knows no repeated reducers here.")
    bands = (reduced_band(out.name, list(image.bands), out) for out in reducer.outputs)
    return image.with_bands(replace(band, projection=image.projection) for band in bands)
