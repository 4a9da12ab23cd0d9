"""Projections, and coordinates of the pixels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import EngineError
from ..grid import WGS84, Grid, Projection, crs_of, lon_lat
from ..image import Band, Image, Pixels, Workspace
from ..pixeltype import DOUBLE
from ..registry import register, register_all

register_all(
    {
        "Projection.crs": lambda projection: projection.crs,
        "Projection.nominalScale": lambda proj: proj.nominal_scale,
    }
)


@register("ErrorMargin")
def error_margin(value: float | None = None, unit: str = "meters") -> float | None:
    """Return a margin, within which nothing is simplified here."""
    del unit
    return value


@register("Projection")
def projection(crs: Any, transform: list[Any] | None = None) -> Projection:
    """Make a projection of a reference system and a transform."""
    base = crs if isinstance(crs, Projection) else Projection(str(crs))
    crs_of(base.crs)
    return base if transform is None else replace(base, transform=_six(transform))


def _six(transform: list[Any]) -> Any:
    if len(transform) != 6:
        raise EngineError(f"Projection: A transform has 6 numbers; got {len(transform)}.")
    return tuple(float(number) for number in transform)


@register("Image.projection")
def image_projection(image: Image) -> Projection:
    """Return the default projection, which must be that of all bands."""
    if any(band.projection != image.projection for band in image.bands):
        raise EngineError(
            "Image.projection: The bands of the specified image contains different projections. Use "
            "Image.select(band).projection() instead."
        )
    return image.projection


def asked(
    image: Image, crs: Projection | None, crs_transform: list[Any] | None, scale: float | None
) -> Projection:
    """Return the projection that three arguments mean."""
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
    """Return the same pixels with another default projection."""
    at = asked(image, crs, crs_transform, scale)
    return image.with_bands(replace(band, projection=at) for band in image.bands)


def _coordinate_band(name: str, axis: int) -> Band:
    def source(grid: Grid, _: Workspace) -> Pixels:
        values = lon_lat(grid)[axis]
        good = np.isfinite(values)
        return Pixels(np.where(good, values, 0), None if good.all() else good)

    return Band(name, DOUBLE, source, WGS84)


@register("Image.pixelLonLat")
def pixel_lon_lat() -> Image:
    """Make an image of longitude and latitude of each pixel's centre."""
    return Image((_coordinate_band("longitude", 0), _coordinate_band("latitude", 1)))


@register("Image.pixelArea")
def pixel_area() -> Image:
    """Make an image of the square metres of each pixel, on the ellipsoid."""

    def source(grid: Grid, _: Workspace) -> Pixels:
        # The corners of the pixels are the centres of pixels half a step back.
        a, b, c, d, e, f = grid.projection.transform
        back = (a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)
        corners = Grid(replace(grid.projection, transform=back), grid.width + 1, grid.height + 1)
        return Pixels(_quadrilaterals(*lon_lat(corners)), None)

    return Image((Band("area", DOUBLE, source, WGS84),))


def _quadrilaterals(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Return the areas of the cells between corners, in the authalic cylindrical projection of the ellipsoid."""
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
