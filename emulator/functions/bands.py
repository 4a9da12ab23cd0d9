"""Making images and choosing, naming and adding their bands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..backing import current
from ..errors import EngineError
from ..image import Band, Image, check_distinct, constant, masked_band
from ..registry import register
from ..values import Collection, Date, millis_of
from .promotion import to_image


@register("Image.constant")
def image_constant(value: Any) -> Image:
    """Return an image of constants."""
    return constant(value)


@register("Image.load")
def load(id_: str) -> Image:
    """Return an image of the store."""
    image = current().image(id_)
    if image is None:
        raise EngineError(
            f"Image.load: Image asset '{id_}' not found (does not exist or caller does not have access)."
        )
    return image


def chosen(image: Image, selectors: Iterable[Any], asked_by: str = "Image.select") -> list[Band]:
    """Return the bands that names, regular expressions or positions mean, in that order.

    What is named twice comes twice, the second time with _1 behind its name; a regular expression adds what is not
    there yet.
    """
    found: dict[str, Band] = {}
    for selector in selectors:
        bands, exact = _matching(image, selector, asked_by)
        for band in bands:
            if exact or band.name not in found:
                name = free_name(band.name, found)
                found[name] = replace(band, name=name)
    return list(found.values())


def _matching(image: Image, selector: Any, asked_by: str) -> tuple[Sequence[Band], bool]:
    """Return the bands that a selector means, and whether it names one and is no expression."""
    if isinstance(selector, int | float):
        index = int(selector)
        if not -len(image.bands) <= index < len(image.bands):
            raise EngineError(
                f"{asked_by}: Band index {index} is out of range. Available bands: [{', '.join(image.names)}]"
            )
        return [image.bands[index]], True
    named = [band for band in image.bands if band.name == selector]
    if named:
        return named, True
    try:
        bands = [band for band in image.bands if re.fullmatch(selector, band.name)]
    except re.error as error:
        raise EngineError(f"{asked_by}: Invalid regular expression '{selector}'.") from error
    return bands or [image.the_band(selector, asked_by)], False


@register("Image.select")
def select(input_: Image, band_selectors: list[Any], new_names: list[str] | None = None) -> Image:
    """Select some of the bands, under other names if any are given."""
    bands = chosen(input_, band_selectors)
    if new_names is not None:
        if len(new_names) != len(bands):
            raise EngineError(
                f"Image.select: The number of new names ({len(new_names)}) must match the number of selected bands "
                f"({len(bands)})."
            )
        check_distinct(new_names, "Image.select")
        bands = [replace(band, name=name) for band, name in zip(bands, new_names, strict=True)]
    return input_.with_bands(bands)


@register("Image.rename")
def rename(input_: Image, names: list[str]) -> Image:
    """Rename all bands."""
    return input_.renamed(names)


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return a name that no band has: with _1, _2, ... behind it where it is taken."""
    taken = set(taken)
    if name not in taken:
        return name
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


@register("Image.addBands")
def add_bands(
    dst_img: Image, src_img: Image, names: list[Any] | None = None, overwrite: bool = False
) -> Image:
    """Add the bands of a second image; the metadata and the footprint are the first one's."""
    new = list(src_img.bands) if names is None else chosen(src_img, names, "Image.addBands")
    bands = {band.name: band for band in dst_img.bands}
    for band in new:
        name = band.name if overwrite else free_name(band.name, bands)
        bands[name] = replace(band, name=name)
    return dst_img.with_bands(bands.values())


@register("Image.cat")
def cat(images: list[Any]) -> Image:
    """Join all bands of several images; the metadata are the first one's."""
    found = [to_image(image, "Image.cat") for image in images]
    if not found:
        return Image(())
    bands: dict[str, Band] = {}
    for band in (band for image in found for band in image.bands):
        name = free_name(band.name, bands)
        bands[name] = replace(band, name=name)
    return found[0].with_bands(bands.values())


@register("Image.bandNames")
def band_names(image: Image) -> list[str]:
    """Return the names of the bands."""
    return image.names


@register("Image.date")
def image_date(image: Image) -> Date:
    """Return when an image was taken."""
    start = image.properties.get("system:time_start")
    if start is None:
        raise EngineError("Image.date: Image has no 'system:time_start' property.")
    return Date(millis_of(start))


@register("Image.linkCollection")
def link_collection(
    input_: Image,
    image_collection: Collection,
    linked_bands: Any = None,
    linked_properties: Any = None,
    match_property_name: str = "system:index",
) -> Image:
    """Add bands and properties of the image of a collection that agrees in one; without one, masked and null."""
    key = input_.properties.get(match_property_name)
    match = next(
        (i for i in image_collection.elements if i.properties.get(match_property_name) == key), None
    )
    bands, names = _as_list(linked_bands), _as_list(linked_properties)
    linked = input_.set({name: match.properties.get(name) if match else None for name in names})
    if not bands:
        return linked
    if match is not None:
        return add_bands(linked, match, bands, overwrite=True)
    model = image_collection.elements[0] if len(image_collection.elements) else None
    missing = [
        masked_band(n, model.the_band(n, "Image.linkCollection") if model else input_.bands[0])
        for n in bands
    ]
    return add_bands(linked, Image(tuple(missing)), overwrite=True)


def _as_list(names: Any) -> list[str]:
    if names is None:
        return []
    return [names] if isinstance(names, str) else list(names)
