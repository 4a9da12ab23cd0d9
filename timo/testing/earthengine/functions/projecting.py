"""Projections: the image's own, forced ones, resampling, coordinates of the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from timo.testing.earthengine.backing import RasterSource
from timo.testing.earthengine.errors import EngineError
from timo.testing.earthengine.grid import (
    WGS84,
    Grid,
    PixelPositions,
    Projection,
    crs_of,
    nearest,
    positions,
)
from timo.testing.earthengine.image import Band, Image, Pixels, Workspace
from timo.testing.earthengine.pixeltype import DOUBLE, FLOAT, cast
from timo.testing.earthengine.registry import register

_MOST_PIXELS = 2**26


@register("Projection")
def projection(
    crs: Any, transform: list[Any] | None = None, transform_wkt: str | None = None
) -> Projection:
    """A projection of a reference system and a transform."""
    if transform_wkt is not None:
        raise EngineError("Projection: the emulator knows no transformWkt; use transform.")
    base = crs if isinstance(crs, Projection) else Projection(str(crs))
    crs_of(base.crs)
    return base if transform is None else replace(base, transform=_six(transform))


def _six(transform: list[Any]) -> Any:
    if len(transform) != 6:
        raise EngineError(f"Projection: A transform has 6 numbers; got {len(transform)}.")
    return tuple(float(number) for number in transform)


@register("Projection.crs")
def crs(projection: Projection) -> str:
    """The code of its reference system."""
    return projection.crs


@register("Projection.nominalScale")
def nominal_scale(proj: Projection) -> float:
    """Side of a pixel in metres."""
    return proj.nominal_scale


@register("Projection.atScale")
def at_scale(projection: Projection, meters: float) -> Projection:
    """The same with pixels of another size."""
    return projection.at_scale(meters)


@register("Projection.scale")
def scale(projection: Projection, x: float, y: float) -> Projection:
    """The same with pixels so many times as long."""
    a, b, c, d, e, f = projection.transform
    return replace(projection, transform=(a * x, b * y, c, d * x, e * y, f))


@register("Projection.transform")
def transform(projection: Projection) -> str:
    """Its transform as text."""
    a, b, c, d, e, f = projection.transform
    return (
        f'PARAM_MT["Affine", PARAMETER["num_row", 3], PARAMETER["num_col", 3], PARAMETER["elt_0_0", {a}], '
        f'PARAMETER["elt_0_1", {b}], PARAMETER["elt_0_2", {c}], PARAMETER["elt_1_0", {d}], '
        f'PARAMETER["elt_1_1", {e}], PARAMETER["elt_1_2", {f}]]'
    )


@register("Projection.wkt")
def wkt(projection: Projection) -> str:
    """Its reference system as WKT."""
    return str(crs_of(projection.crs).to_wkt("WKT1_GDAL"))


@register("Image.projection")
def image_projection(image: Image) -> Projection:
    """The default projection, which must be that of all bands."""
    if any(band.projection != image.projection for band in image.bands):
        raise EngineError(
            "Image.projection: The bands of the specified image contains different projections. Use "
            "Image.select(band).projection() instead."
        )
    return image.projection


def asked(
    image: Image, crs: Projection | None, crs_transform: list[Any] | None, scale: float | None
) -> Projection:
    """The projection that three arguments mean."""
    if crs_transform is not None and scale is not None:
        raise EngineError("Image.reproject: crsTransform and scale are mutually exclusive.")
    base = crs or image.projection
    if crs_transform is not None:
        return replace(base, transform=_six(crs_transform))
    return base if scale is None else base.at_scale(scale)


@register("Image.setDefaultProjection")
def set_default_projection(
    image: Image,
    crs: Projection,
    crs_transform: list[Any] | None = None,
    scale: float | None = None,
) -> Image:
    """The same pixels with another default projection."""
    at = asked(image, crs, crs_transform, scale)
    return image.with_bands(replace(band, projection=at) for band in image.bands)


@register("Image.reproject")
def reproject(
    image: Image,
    crs: Projection,
    crs_transform: list[Any] | None = None,
    scale: float | None = None,
) -> Image:
    """Computed in a projection, and taken from there by nearest neighbours."""
    at = asked(image, crs, crs_transform, scale)
    return image.with_bands(_forced(band, at) for band in image.bands)


def _covering(place: PixelPositions, at: Projection, margin: int) -> tuple[Grid, int, int]:
    """The pixels of a projection that positions lie in, and which column and row they begin with."""
    seen = [array[np.isfinite(array)] for array in place]
    if any(array.size == 0 for array in seen):
        return Grid(at, 1, 1), 0, 0
    left, top = (math.floor(array.min()) - margin for array in seen)
    right, bottom = (math.floor(array.max()) + 1 + margin for array in seen)
    if (right - left) * (bottom - top) > _MOST_PIXELS:
        raise EngineError(f"Reprojection output too large ({right - left}x{bottom - top} pixels).")
    return Grid(at, 1, 1).window(left, top, right - left, bottom - top), left, top


def _forced(band: Band, at: Projection) -> Band:
    def source(grid: Grid, work: Workspace) -> Pixels:
        cover, left, top = _covering(positions(grid, at), at, 1)
        pixels = band.at(cover, work)
        columns, rows = nearest(grid, at)
        columns = (columns - left).clip(0, cover.width - 1)
        rows = (rows - top).clip(0, cover.height - 1)
        rows = rows[:, None] if rows.ndim == 1 else rows
        valid = None if pixels.valid is None else pixels.valid[rows, columns]
        return Pixels(pixels.values[rows, columns], valid)

    return replace(band, source=source, projection=at, size=None)


@register("Image.resample")
def resample(image: Image, mode: str = "bilinear") -> Image:
    """Interpolated between pixels where it comes in another projection than its own."""
    if mode not in {"bilinear", "bicubic"}:
        raise EngineError(f"Image.resample: Unknown resampling mode '{mode}'.")
    if mode == "bicubic":
        raise EngineError("Image.resample: the emulator knows bilinear resampling only.")
    return image.with_bands(_resampled(band) for band in image.bands)


def _resampled(band: Band) -> Band:
    kind = FLOAT if band.type.is_int else band.type
    native = (
        replace(band.source, resampling="bilinear")
        if isinstance(band.source, RasterSource)
        else None
    )

    def source(grid: Grid, work: Workspace) -> Pixels:
        if _is_native(grid, band.projection):
            pixels = band.at(grid, work)
        elif native is not None:
            pixels = native(grid, work)
        else:
            pixels = _interpolated(band, grid, work)
        return Pixels(cast(pixels.values, kind), pixels.valid)

    return replace(band, type=kind, source=source)


def _is_native(grid: Grid, native: Projection) -> bool:
    """Whether a grid is made of whole pixels of a projection."""
    a, b, c, d, e, f = grid.projection.transform
    u, v, w, x, y, z = native.transform
    if grid.projection.crs != native.crs or (a, b, d, e) != (u, v, x, y) or not grid.is_straight:
        return False
    shift = ((c - w) / a, (f - z) / e)
    return all(abs(part - round(part)) < 1e-6 for part in shift)


def _interpolated(band: Band, grid: Grid, work: Workspace) -> Pixels:
    """Bilinear between the pixels that a band has in its own projection."""
    place = positions(grid, band.projection)
    cover, left, top = _covering(place, band.projection, 2)
    pixels = band.at(cover, work)
    values, mask = pixels.filled().astype("float64"), pixels.mask()
    columns, rows = (np.nan_to_num(array) for array in place)
    if columns.ndim == 1:
        columns, rows = np.meshgrid(columns, rows)
    x, y = columns - 0.5 - left, rows - 0.5 - top
    i, j = np.floor(x).astype("int64"), np.floor(y).astype("int64")
    total, valid = np.zeros(grid.shape), np.ones(grid.shape, dtype=bool)
    for down, across in np.ndindex(2, 2):
        weight = abs(1 - down - (y - j)) * abs(1 - across - (x - i))
        window = (j + down).clip(0, cover.height - 1), (i + across).clip(0, cover.width - 1)
        total += weight * values[window]
        valid &= (weight < 1e-9) | mask[window]
    return Pixels(total, valid)


def _coordinate_band(name: str, at: Projection, axis: int) -> Band:
    def source(grid: Grid, _: Workspace) -> Pixels:
        place = positions(grid, at)
        if place.columns.ndim == 1:
            place = PixelPositions(*np.meshgrid(place.columns, place.rows))
        values = place[axis]
        good = np.isfinite(values)
        return Pixels(np.where(good, values, 0), None if good.all() else good)

    return Band(name, DOUBLE, source, at)


@register("Image.pixelLonLat")
def pixel_lon_lat() -> Image:
    """Longitude and latitude of each pixel's centre."""
    return Image((_coordinate_band("longitude", WGS84, 0), _coordinate_band("latitude", WGS84, 1)))


@register("Image.pixelCoordinates")
def pixel_coordinates(projection: Projection) -> Image:
    """Coordinates x and y of each pixel's centre in a projection."""
    return Image((_coordinate_band("x", projection, 0), _coordinate_band("y", projection, 1)))


@register("Image.pixelArea")
def pixel_area() -> Image:
    """Square metres of each pixel, on the ellipsoid."""
    return Image((Band("area", DOUBLE, _area_source(), WGS84),))


def _area_source() -> Callable[[Grid, Workspace], Pixels]:
    def source(grid: Grid, work: Workspace) -> Pixels:
        del work
        corners = grid.window(0, 0, grid.width + 1, grid.height + 1)
        shifted = replace(corners.projection, transform=_half_back(corners.projection.transform))
        lon, lat = positions(Grid(shifted, corners.width, corners.height), WGS84)
        if lon.ndim == 1:
            lon, lat = np.meshgrid(lon, lat)
        return Pixels(_quadrilaterals(lon, lat), None)

    return source


def _half_back(transform: Any) -> Any:
    """The transform whose pixel centres are the corners of another one's."""
    a, b, c, d, e, f = transform
    return a, b, c - (a + b) / 2, d, e, f - (d + e) / 2


def _quadrilaterals(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Areas of the cells between corners, in the authalic cylindrical projection of the ellipsoid."""
    squared = 0.0066943799901413165
    axis, sine = 6378137.0, np.sin(np.radians(lat))
    eccentricity = math.sqrt(squared)
    height = (1 - squared) * (
        sine / (1 - squared * sine**2) + np.arctanh(eccentricity * sine) / eccentricity
    )
    x, y = np.radians(lon) * axis, height / 2 * axis
    dx1, dy1 = x[1:, 1:] - x[:-1, :-1], y[1:, 1:] - y[:-1, :-1]
    dx2, dy2 = x[1:, :-1] - x[:-1, 1:], y[1:, :-1] - y[:-1, 1:]
    return np.abs(dx1 * dy2 - dx2 * dy1) / 2
