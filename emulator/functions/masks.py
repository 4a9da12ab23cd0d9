"""Masks: where an image has values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..errors import EngineError
from ..grid import Grid, lon_lat
from ..image import Band, Image, Pixels, Workspace, both, constant, derived
from ..pixeltype import BOOLEAN, cast, of_number, union
from ..registry import register
from .bands import chosen
from .maths import matched, shared
from .promotion import to_geometry


def _masked_with(band: Band, mask: Band) -> Band:
    """Mask a band where another is zero or masked."""

    def compute(pixels: Pixels, other: Pixels) -> Pixels:
        return Pixels(pixels.values, both(pixels.valid, other.valid, other.values != 0))

    return derived(band, mask, compute=compute)


@register("Image.updateMask")
def update_mask(image: Image, mask: Image) -> Image:
    """Mask an image in addition where another is zero or masked; the metadata and footprint stay."""
    return image.with_bands(_masked_with(b, m) for _, b, m in _against(image, mask, "updateMask"))


def _against(image: Image, other: Image, name: str) -> list[tuple[str, Band, Band]]:
    """Pair the bands of an image with those of another that belong to them."""
    pairs = matched(image, other, f"Image.{name}")
    return pairs[:1] if len(image.bands) == 1 else pairs


@register("Image.selfMask")
def self_mask(image: Image) -> Image:
    """Mask an image where it is zero."""
    return image.with_bands(_masked_with(band, band) for band in image.bands)


@register("Image.mask")
def image_mask(image: Image, mask: Image | None = None) -> Image:
    """Return the mask of an image as 0 and 1, or the image with a mask in place of its own."""
    if mask is None:
        return image.with_bands(
            derived(b, compute=lambda p: Pixels(p.mask().astype("uint8"), None), type=BOOLEAN)
            for b in image.bands
        )

    def compute(pixels: Pixels, other: Pixels) -> Pixels:
        # What becomes valid by it is zero.
        return Pixels(pixels.filled(), both(other.valid, other.values != 0))

    pairs = _against(image, mask, "mask")
    return image.with_bands(derived(b, m, compute=compute) for _, b, m in pairs)


@register("Image.unmask")
def unmask(input_: Image, value: Image | None = None, same_footprint: bool = True) -> Image:
    """Give masked pixels the value (and mask) of another image; within the footprint only, unless told otherwise."""
    within = input_.footprint if same_footprint else None
    pairs = _against(input_, value or constant(0), "unmask")
    bands = (_unmasked(band, filler, within) for _, band, filler in pairs)
    return replace(input_.with_bands(bands), footprint=within)


def _unmasked(band: Band, filler: Band, footprint: BaseGeometry | None) -> Band:
    kind = union([band.type, filler.type])

    def source(grid: Grid, work: Workspace) -> Pixels:
        pixels = band.at(grid, work)
        if pixels.valid is None:
            return Pixels(cast(pixels.values, kind), None)
        other = filler.at(grid, work)
        values = np.where(pixels.valid, cast(pixels.values, kind), cast(other.values, kind))
        within = both(other.valid, inside(footprint, grid))
        return Pixels(values, None if within is None else pixels.valid | within)

    return replace(band, type=kind, source=source)


def inside(shape: BaseGeometry | None, grid: Grid) -> np.ndarray | None:
    """Return where the centres of a grid are in a shape, (height, width); None: all are."""
    if shape is None:
        return None
    lon, lat = lon_lat(grid)
    around = (lon.min(), lat.min(), lon.max(), lat.max())
    # Most grids lie in the footprint as a whole, which is quickly seen.
    if np.isfinite(around).all() and shape.contains(shapely.box(*around)):
        return None
    return np.asarray(shapely.contains_xy(shape, lon, lat))


@register("Image.clip")
def clip(input_: Image, geometry: Any) -> Image:
    """Mask an image outside a shape."""
    shape = to_geometry(geometry, "Image.clip").shape
    if shape is None:
        return input_
    bands = (_clipped(band, shape) for band in input_.bands)
    whole = input_.footprint
    footprint = shape if whole is None else whole.intersection(shape)
    return replace(input_.with_bands(bands), footprint=footprint)


def _clipped(band: Band, shape: BaseGeometry) -> Band:
    def source(grid: Grid, work: Workspace) -> Pixels:
        pixels = band.at(grid, work)
        return Pixels(pixels.values, both(pixels.valid, inside(shape, grid)))

    return replace(band, source=source)


@register("Image.where")
def where(input_: Image, test: Image, value: Image) -> Image:
    """Give another value where a test is not zero; neither a masked test nor a masked value changes anything."""
    tests = (t for _, _, t in _against(input_, test, "where"))
    values = (v for _, _, v in _against(input_, value, "where"))
    bands = (_where(b, t, v) for b, t, v in zip(input_.bands, tests, values, strict=False))
    return input_.with_bands(bands)


def _where(band: Band, test: Band, value: Band) -> Band:
    kind = union([band.type, value.type])

    def compute(old: Pixels, condition: Pixels, new: Pixels) -> Pixels:
        changed = np.asarray(both(condition.values != 0, condition.valid, new.valid))
        return Pixels(np.where(changed, cast(new.values, kind), cast(old.values, kind)), old.valid)

    return derived(band, test, value, compute=compute, type=kind)


@register("Image.remap")
def remap(
    image: Image,
    from_: list[Any],
    to: list[Any],
    default_value: Any = None,
    band_name: str | None = None,
) -> Image:
    """Replace values by a table; those that are not in it get the default, or are masked."""
    if len(from_) != len(to):
        raise EngineError(
            f"Image.remap: 'from' and 'to' lists must be the same length. Got {len(from_)} and {len(to)}."
        )
    band = chosen(image, [band_name if band_name is not None else 0], "Image.remap")[0]
    others = [] if default_value is None else [default_value]
    kind = union([of_number(value) for value in [*to, *others]])
    table = dict(zip(from_, to, strict=True))

    def compute(pixels: Pixels) -> Pixels:
        keys, place = np.unique(pixels.values, return_inverse=True)
        found = [table.get(key, default_value) for key in keys.tolist()]
        new = np.array([0 if value is None else value for value in found], dtype=kind.dtype)
        known = np.array([value is not None for value in found])
        place = place.reshape(pixels.values.shape)
        return Pixels(new[place], both(pixels.valid, known[place]))

    return image.with_bands([derived(band, compute=compute, name="remapped", type=kind)])


@register("Image.blend")
def blend(bottom: Image, top: Image) -> Image:
    """Put one image over another, by its mask."""
    pairs = matched(bottom, top, "Image.blend")
    bands = [_unmasked(over, under, None) for _, under, over in pairs]
    named = [replace(band, name=name) for band, (name, _, _) in zip(bands, pairs, strict=True)]
    return replace(bottom.with_bands(named), footprint=shared(bottom, top))
