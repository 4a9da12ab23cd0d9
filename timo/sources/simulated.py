"""Farmland with a known truth: parcels of crops whose reflectance follows a simple model of canopy and soil.

Simulated, and said to be so wherever it goes: a place to learn, to test and to compare on, where each pixel's class is
known. Reflectance is the sum over green canopy, brown canopy and bare soil, weighted by the shares of the ground that a
nadir view sees of each (Beer's law, e.g. Campbell & Norman 1998, chapter 15).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401  registers .rio
import shapely.ops
import xarray as xr
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter
from shapely import affinity

from timo.checks import NotNegative, Positive, Range, Seed, Share, checked
from timo.cube import check
from timo.errors import TimoError
from timo.sensors import get_sensor

if TYPE_CHECKING:
    import geopandas

ATTRIBUTION = "Simulated by timo, not observed"
_CELL, _CRS, _SENSOR = 10.0, "EPSG:32631", "sentinel-2"
_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
# Reflectance of each band: bare dry soil, closed green canopy, closed dry canopy (field spectra, rounded).
_SOIL = np.array([0.09, 0.12, 0.17, 0.19, 0.21, 0.23, 0.25, 0.27, 0.36, 0.31])
_GREEN = np.array([0.025, 0.055, 0.025, 0.085, 0.29, 0.38, 0.41, 0.43, 0.20, 0.085])
_BROWN = np.array([0.065, 0.105, 0.15, 0.18, 0.22, 0.25, 0.28, 0.30, 0.33, 0.24])
_EXTINCTION = 0.5
_COURSE = ("up", "down", "peak", "rest")
# Metres between a parcel and its neighbour's: a track, whose pixels have no label.
_MARGIN = 5.0


@dataclass(frozen=True)
class Growth:
    """Course of the leaf area of a class: days of the year of half green-up and half senescence, peak and rest."""

    up: float
    down: float
    peak: float
    rest: float = 0.1
    weight: float = 1.0  # how often a parcel bears it


CLASSES: dict[str, Growth] = {
    "winter wheat": Growth(85, 185, 5.0, 0.4, weight=1.5),
    "winter barley": Growth(78, 168, 4.6, 0.4, weight=0.8),
    "maize": Growth(165, 265, 4.5, weight=1.5),
    "potato": Growth(155, 235, 4.2, weight=0.6),
    "sugar beet": Growth(150, 300, 4.4, weight=0.8),
    "grassland": Growth(70, 320, 3.0, 1.4, weight=1.6),
}


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated place with its truth.

    Attributes
    ----------
    cube : xarray.DataArray
        (time, band, y, x) reflectance of Sentinel-2, NaN under clouds.
    labels : xarray.DataArray
        (y, x) int16, the class of each pixel, -1 on the tracks between parcels; coordinate `feature`: the parcel.
    parcels : geopandas.GeoDataFrame
        One row a parcel: `parcel` (number), `crop` (class), geometry.
    """

    cube: xr.DataArray
    labels: xr.DataArray
    parcels: geopandas.GeoDataFrame


@checked
def simulate(
    *,
    pixels: Annotated[int, Range(least=8, most=4096)] = 96,
    classes: Sequence[str] = tuple(CLASSES),
    year: Annotated[int, Range(least=2016, most=2100)] = 2020,
    dates: Annotated[int, Range(least=1, most=183)] = 36,
    parcel_ha: Positive = 1.5,
    difficulty: NotNegative = 1.0,
    clouds: Share = 0.4,
    corner: tuple[float, float] = (500_000.0, 5_600_000.0),
    crs: str = _CRS,
    seed: Seed = 0,
) -> Simulated:
    """Simulate a year of Sentinel-2 over farmland whose crops are known.

    Parameters
    ----------
    pixels : int
        Height and width, in pixels of 10 m.
    classes : sequence of str
        Names out of `timo.sources.simulated.CLASSES`, in the order of the labels.
    year : int
        Year of the series; the weather differs from year to year.
    dates : int
        Number of dates, evenly spaced from January to December.
    parcel_ha : float
        Mean area of a parcel, hectares.
    difficulty : float
        How much parcels of one class differ from each other in dates, leaf area and soil; 0: not at all.
    clouds : float
        Mean share of the observations that clouds hide.
    corner : (float, float)
        Upper left corner (x, y), in the unit of the CRS.
    crs : str
        A projected CRS in metres.
    seed : int
        The same seed gives the same place.

    Returns
    -------
    Simulated
        ``cube``, ``labels``, ``parcels``.

    Raises
    ------
    TimoError
        If a class is unknown, or an option makes no sense.
    """
    if len(set(classes)) < 2 or (unknown := [name for name in classes if name not in CLASSES]):
        raise TimoError(
            f"classes must be at least two of {', '.join(CLASSES)}; got {', '.join(classes) or 'none'}"
            f"{f' ({unknown[0]!r} is unknown)' if len(set(classes)) >= 2 else ''}."
        )
    rng = np.random.default_rng(seed)
    shapes = _parcels(pixels * _CELL, parcel_ha * 1e4, rng)
    weights = np.array([CLASSES[name].weight for name in classes])
    of = rng.choice(len(classes), len(shapes), p=weights / weights.sum())
    number = rasterize(
        ((shape, i) for i, shape in enumerate(shapes)),
        out_shape=(pixels, pixels),
        transform=(_CELL, 0, 0, 0, -_CELL, 0),
        fill=-1,
        dtype="int32",
    )
    times = pd.date_range(f"{year}-01-05", periods=dates, freq=f"{360 // dates}D")
    cover = _cover([CLASSES[classes[k]] for k in of], times, difficulty, rng, year)
    values = _reflectance(cover, number, difficulty, rng)
    values[np.broadcast_to(_clouds(dates, pixels, clouds, rng)[:, None], values.shape)] = np.nan
    coords = {
        "y": corner[1] - _CELL * (np.arange(pixels) + 0.5),
        "x": corner[0] + _CELL * (np.arange(pixels) + 0.5),
    }
    sensor = get_sensor(_SENSOR)
    attrs = {"sensor": _SENSOR, "units": sensor.units, "source": f"simulated (seed {seed})"}
    cube = xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={"time": times, "band": list(_BANDS), **coords},
        name="reflectance",
        attrs=attrs | {"attribution": ATTRIBUTION},
    ).rio.write_crs(crs)
    labels = xr.DataArray(
        np.where(number < 0, -1, of[number]).astype("int16"),
        dims=("y", "x"),
        coords={**coords, "feature": (("y", "x"), number)},
        name="label",
        attrs={"long_name": "crop", "classes": list(classes), "attribution": ATTRIBUTION},
    ).rio.write_crs(crs)
    return Simulated(check(cube), labels, _table(shapes, [classes[k] for k in of], corner, crs))


def _parcels(side: float, area: float, rng: np.random.Generator) -> list[shapely.Polygon]:
    """Divide a square, its upper left corner at (0, 0), into parcels: halved across the longer side until small."""
    square = shapely.box(0, -side, side, 0)
    # The main direction of the fields, and land beyond the square, so that parcels are cut by its edge.
    field = affinity.rotate(affinity.scale(square, 1.6, 1.6), rng.uniform(-30, 30))
    margins = (part.buffer(-_MARGIN) & square for part in _halved(field, area, rng))
    return [part for part in margins if part.geom_type == "Polygon" and part.area > 4 * _CELL**2]


def _halved(
    part: shapely.Polygon, area: float, rng: np.random.Generator
) -> Iterator[shapely.Polygon]:
    if part.area < area * rng.uniform(0.8, 2.2):
        yield part
        return
    corners = np.array(shapely.minimum_rotated_rectangle(part).exterior.coords)[:3]
    along, across = corners[1] - corners[0], corners[2] - corners[1]
    if np.hypot(*along) < np.hypot(*across):
        along, across = across, along
    at = np.array(part.centroid.coords[0]) + along * rng.uniform(-0.15, 0.15)
    line = shapely.LineString([at - 4 * across, at + 4 * across])
    line = affinity.rotate(line, rng.normal(0, 4), origin=tuple(at))
    for half in shapely.ops.split(part, line).geoms:
        yield from _halved(half, area, rng)


def _cover(
    growth: Sequence[Growth],
    times: pd.DatetimeIndex,
    difficulty: float,
    rng: np.random.Generator,
    year: int,
) -> np.ndarray:
    """Return shares of green canopy, brown canopy and soil of each parcel and date, (3, parcel, time)."""
    n, day = len(growth), times.day_of_year.to_numpy()[None].astype("float64")
    up, down, peak, rest = (np.array([[getattr(g, f)] for g in growth]) for f in _COURSE)
    # A warm spring brings all forward; parcels differ by sowing date, variety and soil.
    weather = np.random.default_rng([year]).normal(0, 5)
    up = up + weather + difficulty * rng.normal(0, 12, (n, 1))
    down = down + weather + difficulty * rng.normal(0, 12, (n, 1))
    peak = peak * np.exp(difficulty * rng.normal(0, 0.3, (n, 1)))
    rising, falling = (1 / (1 + np.exp(-(day - d) / s)) for d, s in ((up, 9.0), (down, 7.0)))
    green = rest + (peak - rest).clip(0) * rising * (1 - falling)
    # Straw and stubble stay for some weeks after maturity.
    brown = 0.5 * peak * falling * np.exp(-(day - down).clip(0) / 25.0) * (down < 250)
    seen = 1 - np.exp(-_EXTINCTION * (green + brown))
    share = green / (green + brown)
    return np.stack([seen * share, seen * (1 - share), 1 - seen])


def _reflectance(
    cover: np.ndarray, number: np.ndarray, difficulty: float, rng: np.random.Generator
) -> np.ndarray:
    """Return reflectance (t, c, h, w) float32: parcels by their cover, tracks as sparse grass, texture and noise."""
    parcels, dates = cover.shape[1:]
    track = np.broadcast_to(np.array([0.35, 0.15, 0.5])[:, None, None], (3, 1, dates))
    cover = np.concatenate([cover, track], axis=1)
    bright = np.exp(difficulty * rng.normal(0, 0.25, parcels + 1))
    wet = rng.uniform(0.75, 1.0, dates)
    soil = _SOIL[:, None, None] * bright[:, None] * wet
    spectra = _GREEN[:, None, None] * cover[0] + _BROWN[:, None, None] * cover[1] + soil * cover[2]
    # The last row is that of the tracks: number -1.
    values = spectra[:, number].transpose(3, 0, 1, 2)
    texture = 1 + 0.08 * _smooth(number.shape, 2.0, rng)
    haze = rng.normal(0, 0.01, (dates, 1, 1, 1))
    noise = rng.normal(0, 0.008, values.shape)
    return (values * texture + haze + noise).clip(1e-4, 1).astype("float32")


def _clouds(dates: int, pixels: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return where clouds hide the ground, (t, h, w) bool: from none to all of a date, `share` on average."""
    if share in {0.0, 1.0}:
        return np.full((dates, pixels, pixels), bool(share))
    covered = rng.beta(0.6 * share, 0.6 * (1 - share), dates)
    fields = [_smooth((pixels, pixels), pixels / 10, rng) for _ in range(dates)]
    return np.stack([f < np.quantile(f, c) for f, c in zip(fields, covered, strict=True)])


def _smooth(shape: tuple[int, ...], cells: float, rng: np.random.Generator) -> np.ndarray:
    """Return a random field of unit variance that is smooth over some cells."""
    field = gaussian_filter(rng.normal(size=shape), cells, mode="wrap")
    return (field - field.mean()) / field.std()


def _table(
    shapes: Sequence[shapely.Polygon], names: Sequence[str], corner: tuple[float, float], crs: str
) -> geopandas.GeoDataFrame:
    import geopandas

    moved = [affinity.translate(shape, *corner) for shape in shapes]
    columns = {"parcel": np.arange(len(shapes)), "crop": list(names)}
    return geopandas.GeoDataFrame(columns, geometry=moved, crs=crs)
