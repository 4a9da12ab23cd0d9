"""What lies in regions: statistics of their pixels, and the pixels themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..errors import EngineError
from ..grid import WGS84, Grid, Projection, lon_lat, moved, to_pixels, transformer
from ..image import Band, Image, Workspace
from ..reducers import Output, Reducer, tidy
from ..registry import register
from ..values import Collection, Feature, Geometry, made, properties_of
from .geometries import bounded
from .masks import inside
from .projecting import asked
from .promotion import to_geometry


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
) -> dict[str, Any]:
    """Reduce the pixels of each band whose centres are in a shape; all count the same."""
    shape = bounded(geometry or Geometry(image.footprint), "Image.reduceRegion")
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
    within, work = _within(shape, grid), Workspace()
    return {
        name: value
        for band in image.bands
        for name, value in _statistics(band, reducer, grid, within, work)
    }


def _covering(shape: BaseGeometry, at: Projection) -> Grid:
    """Return the pixels of a projection that a shape touches."""
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


def _within(shape: BaseGeometry, grid: Grid) -> np.ndarray:
    """Return which pixels belong to a shape: those with their centre in it; of points, those that hold them."""
    if shape.geom_type not in {"Point", "MultiPoint"}:
        found = inside(shape, grid)
        return np.ones(grid.shape, dtype=bool) if found is None else found
    x, y = shapely.get_coordinates(moved(shape, WGS84.crs, grid.projection.crs)).T
    columns, rows = (np.floor(place).astype(int) for place in to_pixels(grid.projection, x, y))
    within = np.zeros(grid.shape, dtype=bool)
    within[rows.clip(0, grid.height - 1), columns.clip(0, grid.width - 1)] = True
    return within


def _statistics(
    band: Band, reducer: Reducer, grid: Grid, within: np.ndarray, work: Workspace
) -> list[tuple[str, Any]]:
    pixels = band.at(grid, work)
    values = pixels.values[pixels.mask() & within]
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
) -> Collection:
    """Reduce the pixels in each feature to properties of it; of one band, named after the result."""
    options: dict[str, Any] = {"scale": scale, "crs": crs, "crs_transform": crs_transform}

    def reduced(feature: Any) -> Any:
        shape = to_geometry(feature, "Image.reduceRegions")
        found = reduce_region(image, reducer, shape, **options)
        if len(image.bands) == 1 and len(reducer.outputs) == 1:
            found = {reducer.outputs[0].name: next(iter(found.values()))}
        return feature.set(found) if isinstance(feature, Feature) else Feature(shape, found)

    return replace(collection, elements=made(reduced(f) for f in collection.elements))


@register("Image.sampleRegions")
def sample_regions(
    image: Image,
    collection: Collection,
    properties: list[str] | None = None,
    *,
    scale: float | None = None,
    projection: Projection | None = None,
    geometries: bool = False,
) -> Collection:
    """Make a feature of each pixel in each region, with the region's properties; masked pixels are left out."""
    at = asked(image, projection, None, scale)

    def sampled(region: Any) -> Iterator[Feature]:
        shape = bounded(to_geometry(region, "Image.sampleRegions"), "Image.sampleRegions")
        grid, work = _covering(shape, at), Workspace()
        layers = {band.name: band.at(grid, work) for band in image.bands}
        valid = np.all([_within(shape, grid), *(p.mask() for p in layers.values())], axis=0)
        given = properties_of(region)
        names = (
            [n for n in given if not n.startswith("system:")] if properties is None else properties
        )
        kept = {name: given[name] for name in names if name in given}
        points = shapely.points(*(degrees[valid] for degrees in lon_lat(grid)))
        columns = {name: pixels.values[valid].tolist() for name, pixels in layers.items()}
        for number, point in enumerate(points):
            values = {name: column[number] for name, column in columns.items()}
            index = {"system:index": f"{given.get('system:index', 0)}_{number}"}
            yield Feature(Geometry(point) if geometries else None, kept | values | index)

    found = (feature for region in collection.elements for feature in sampled(region))
    return Collection(made(found), kind="FeatureCollection")
