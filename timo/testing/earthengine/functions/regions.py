"""Statistics of regions, and pictures as images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.functions.bands import chosen
from timo.testing.earthengine.functions.geometries import bounded
from timo.testing.earthengine.functions.masks import inside
from timo.testing.earthengine.functions.projecting import asked
from timo.testing.earthengine.grid import WGS84, Grid, Projection, transformer
from timo.testing.earthengine.image import Band, Image, Pixels, Workspace
from timo.testing.earthengine.pixeltype import integer
from timo.testing.earthengine.reducers import Output, Reducer, tidy
from timo.testing.earthengine.registry import register
from timo.testing.earthengine.tiles import painted
from timo.testing.earthengine.values import Collection, Feature, Geometry, made


@register("Image.reduceRegion")
def reduce_region(
    image: Image,
    reducer: Reducer,
    geometry: Geometry | None = None,
    *,
    scale: float | None = None,
    crs: Projection | None = None,
    crs_transform: list[Any] | None = None,
    best_effort: bool = False,
    max_pixels: float = 1e7,
    tile_scale: float = 1,
) -> dict[str, Any]:
    """A reducer of the pixels of each band whose centres are in a shape; all count the same."""
    del tile_scale
    place = geometry or Geometry(image.footprint)
    shape = bounded(place, "Image.reduceRegion")
    at = asked(image, crs, crs_transform, scale)
    grid = _covering(shape, at)
    while best_effort and math.prod(grid.shape) > max_pixels:
        at = at.at_scale(at.nominal_scale * 2)
        grid = _covering(shape, at)
    if math.prod(grid.shape) > max_pixels:
        raise EngineError(
            f"Image.reduceRegion: Too many pixels in the region. Found {math.prod(grid.shape)}, but maxPixels allows "
            f"only {int(max_pixels)}. Ensure that you are not aggregating at a higher resolution than you intended; "
            "that is the most frequent cause of this error. If not, then you may set the 'maxPixels' argument to a "
            "limit suitable for your computation; set 'bestEffort' to true to aggregate at whatever scale results in "
            "'maxPixels' total pixels; or both."
        )
    within, work = inside(place.shape, grid), Workspace()
    if shape.geom_type in {"Point", "MultiPoint"}:
        # A point is in the pixel that holds it, wherever its centre is.
        within = None
    return {
        name: value
        for band in image.bands
        for name, value in _statistics(band, reducer, grid, within, work)
    }


def _covering(shape: Any, at: Projection) -> Grid:
    """The pixels of a projection that a shape touches."""
    west, south, east, north = shape.bounds
    if at.crs != WGS84.crs:
        box = transformer(WGS84.crs, at.crs).transform_bounds(west, south, east, north)
        west, south, east, north = box
    a, _, c, _, e, f = at.transform
    columns = sorted(((west - c) / a, (east - c) / a))
    rows = sorted(((south - f) / e, (north - f) / e))
    left, top = math.floor(columns[0]), math.floor(rows[0])
    width, height = math.floor(columns[1]) + 1 - left, math.floor(rows[1]) + 1 - top
    return Grid(at, 1, 1).window(left, top, width, height)


def _statistics(
    band: Band, reducer: Reducer, grid: Grid, within: np.ndarray | None, work: Workspace
) -> list[tuple[str, Any]]:
    pixels = band.at(grid, work)
    valid = pixels.mask() if within is None else pixels.mask() & within
    values = pixels.values[valid]
    only = len(reducer.outputs) == 1
    return [
        (band.name if only else f"{band.name}_{output.name}", _reduced(output, values))
        for output in reducer.outputs
    ]


def _reduced(output: Output, values: np.ndarray) -> Any:
    if output.stacked is None:
        assert output.listed is not None
        return output.listed(values.tolist())
    if not len(values):
        return 0 if output.name in {"count", "sum"} else None
    result, valid = output.stacked(values, np.ones(values.shape, dtype=bool))
    return tidy(float(result)) if valid else None


@register("Image.reduceRegions")
def reduce_regions(
    image: Image,
    collection: Collection,
    reducer: Reducer,
    *,
    scale: float | None = None,
    crs: Projection | None = None,
    crs_transform: list[Any] | None = None,
    tile_scale: float = 1,
) -> Collection:
    """A reducer of the pixels in each feature, as properties of it; of one band, named after the result."""

    def reduced(feature: Any) -> Any:
        shape = feature.geometry or Geometry(None)
        found = reduce_region(
            image,
            reducer,
            shape,
            scale=scale,
            crs=crs,
            crs_transform=crs_transform,
            tile_scale=tile_scale,
        )
        if len(image.bands) == 1 and len(reducer.outputs) == 1:
            found = {reducer.outputs[0].name: next(iter(found.values()))}
        return feature.set(found) if isinstance(feature, Feature) else Feature(shape, found)

    return replace(collection, elements=made(reduced(f) for f in collection.elements))


def _per_band(value: Any, size: int) -> list[Any]:
    """A number for each band, of one for all or of a list or a string of them."""
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
    """An image of colours, 0..255: "vis-red", "vis-green" and "vis-blue", or "vis-gray" of a single band."""
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
    drawn = tuple(Band(name, kind, painter.channel(i), at) for i, name in enumerate(names))
    return replace(picture, bands=drawn, properties=dict(image.properties))


def _options(size: int, ends: Mapping[str, Any], gamma: Any) -> dict[str, Any]:
    """The parameters as a request for a map has them; gain and bias as the ends that they mean."""
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
        """Red, green, blue and opacity of all pixels, as values (height, width, 4)."""
        return Pixels(painted(self._picture, grid, self._options, work), None)

    def channel(self, number: int) -> Any:
        """One of its colours, as the source of a band."""

        def source(grid: Grid, work: Workspace) -> Pixels:
            colours = work.pixels(self, grid).values
            return Pixels(np.ascontiguousarray(colours[..., number]), colours[..., 3] > 0)

        return source
