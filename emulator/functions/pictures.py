"""Pictures of images: colours as bands, and thumbnails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import EngineError
from ..grid import WGS84, Grid, Projection, moved
from ..image import Band, Image, Pixels, Workspace
from ..pixeltype import integer
from ..registry import register
from ..tiles import painted
from ..values import Geometry
from .bands import chosen
from .geometries import bounded


def _per_band(value: Any, size: int) -> list[Any]:
    """Return a number for each band, of one for all or of a list or a string of them."""
    if value is None:
        return [None] * size
    if isinstance(value, str):
        value = [float(part) for part in value.split(",")]
    values = list(value) if isinstance(value, list) else [value]
    if len(values) not in {1, size}:
        raise EngineError(f"Image.visualize: Need 1 or {size} values, got {len(values)}.")
    return values * size if len(values) == 1 else values


@register("Image.visualize")
def visualize(
    image: Image,
    bands: Any = None,
    *,
    gain: Any = None,
    bias: Any = None,
    min_: Any = None,
    max_: Any = None,
    gamma: Any = None,
    opacity: float | None = None,
    palette: Any = None,
    force_rgb_output: bool = False,
) -> Image:
    """Draw an image in colours, 0..255: "vis-red", "vis-green" and "vis-blue", or "vis-gray" of a single band."""
    if isinstance(bands, str):
        bands = [name.strip() for name in bands.split(",")]
    shown = chosen(image, bands, "Image.visualize") if bands else list(image.bands[:3])
    if len(shown) == 2:
        shown = shown[:1]
    colours = [palette] if isinstance(palette, str) else palette
    if colours and len(colours) == 1:
        colours = colours[0].split(",")
    ends = {"min": min_, "max": max_, "gain": gain, "bias": bias}
    options = _options(len(shown), ends, gamma) | {"opacity": opacity}
    if colours:
        options["paletteColors"] = [str(colour).strip() for colour in colours]
    single = len(shown) == 1 and not colours and not force_rgb_output
    names = ("vis-gray",) if single else ("vis-red", "vis-green", "vis-blue")
    picture = Image(tuple(shown), {}, image.footprint)
    painter = _Painter(picture, options)
    at = image.projection
    kind = integer("uint8")
    size = shown[0].size if shown else None
    drawn = tuple(Band(name, kind, painter.channel(i), at, size) for i, name in enumerate(names))
    return replace(picture, bands=drawn, properties=dict(image.properties))


def _options(size: int, ends: Mapping[str, Any], gamma: Any) -> dict[str, Any]:
    """Write the parameters as a request for a map has them; gain and bias as the ends that they mean."""
    columns = (_per_band(ends[name], size) for name in ("min", "max", "gain", "bias"))
    ranges = []
    for least, most, slope, shift in zip(*columns, strict=True):
        found = {"min": least, "max": most}
        if slope is not None or shift is not None:
            factor, start = (1.0 if slope is None else slope), (0.0 if shift is None else shift)
            found = {"min": -start / factor, "max": (255 - start) / factor}
        ranges.append({key: value for key, value in found.items() if value is not None})
    if gamma is None:
        return {"ranges": ranges}
    return {"ranges": ranges, "gamma": {"values": _per_band(gamma, size)}}


class _Painter:
    """Paints an image once for all of its colours."""

    def __init__(self, picture: Image, options: Mapping[str, Any]) -> None:
        self._picture, self._options = picture, options

    def __call__(self, grid: Grid, work: Workspace) -> Pixels:
        """Return red, green, blue and opacity of all pixels, as values (height, width, 4)."""
        return Pixels(painted(self._picture, grid, self._options, work), None)

    def channel(self, number: int) -> Any:
        """Return one of its colours, as the source of a band."""

        def source(grid: Grid, work: Workspace) -> Pixels:
            colours = work.pixels(self, grid).values
            return Pixels(np.ascontiguousarray(colours[..., number]), colours[..., 3] > 0)

        return source


@register("Image.clipToBoundsAndScale")
def clip_to_bounds_and_scale(
    input_: Image,
    geometry: Geometry | None = None,
    *,
    width: int | None = None,
    height: int | None = None,
    max_dimension: int | None = None,
    scale: float | None = None,
) -> Image:
    """Give an image the grid of a thumbnail: the box around a shape in the image's projection."""
    at = input_.projection
    place = bounded(geometry or Geometry(input_.footprint), "Image.clipToBoundsAndScale")
    left, bottom, right, top = moved(place, WGS84.crs, at.crs).bounds
    wide, high = right - left, top - bottom
    if width is not None and height is not None:
        columns, rows = int(width), int(height)
    else:
        side = at.at_scale(scale).transform[0] if scale is not None else at.transform[0]
        if max_dimension is not None:
            side = max(wide, high) / max_dimension
        columns, rows = (max(1, round(length / abs(side))) for length in (wide, high))
    if min(columns, rows) < 1 or min(wide, high) <= 0:
        raise EngineError("Image.clipToBoundsAndScale: The size of the result must be positive.")
    grid = Projection(at.crs, (wide / columns, 0.0, left, 0.0, -high / rows, top))
    return input_.with_bands(
        replace(band, projection=grid, size=(columns, rows)) for band in input_.bands
    )
