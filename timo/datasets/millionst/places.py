"""The places of a data set for pretraining: the rule, in one function, `sample_places`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from typing import Annotated

import numpy as np
import pandas as pd

from timo.checks import Range, Seed, Share, checked
from timo.datasets.millionst.world import (
    CLIMATE_CELL,
    CLIMATES,
    ICE_CAP,
    LAND_CELL,
    NORTH,
    World,
    load_world,
    surveyed,
)

MOST = 2_000_000
# Chips of 264 pixels of 10 m do not overlap, however they lie to each other (diagonal: 3,734 m).
DISTANCE_M = 4000.0
CITY_KM = 25.0
Metres = Annotated[float, Range(100, 100_000)]
Kilometres = Annotated[float, Range(1e-3, 500)]

# Candidates that are drawn at once: part of the rule, because it decides which random number is whose.
_BLOCK = 4096
# Least metres of a degree of latitude (at the equator), and of one of longitude, where it is multiplied by the cosine;
# less a hair, so that no rounding brings two places nearer than they may be.
_METRES_LAT, _METRES_LON = 110_574 * 0.9999, 111_319 * 0.9999


@checked
@dataclass(frozen=True)
class Place:
    """A place on land: degrees, its climate (Koeppen-Geiger, "Dfb"), and why it was drawn ("city" or "climate")."""

    lon: float
    lat: float
    climate: str
    kind: str


@checked
@dataclass(frozen=True)
class PlaceRule:
    """The options that the sequence of places depends on; see `sample_places`."""

    seed: Seed = 0
    around_cities: Share = 0.5
    distance_m: Metres = DISTANCE_M
    city_km: Kilometres = CITY_KM


@checked
def sample_places(
    n: Annotated[int, Range(1, MOST)],
    seed: Seed = 0,
    *,
    around_cities: Share = 0.5,
    distance_m: Metres = DISTANCE_M,
    city_km: Kilometres = CITY_KM,
) -> pd.DataFrame:
    """Draw places on land, around cities and over all climates.

    The places are a sequence that the seed alone decides: the first 1,000 of 100,000 are the 1,000 that are drawn
    alone. The share `around_cities` of them, evenly in the sequence, is of the kind "city": a city of 100,000
    inhabitants or more is drawn with a chance in proportion to the square root of its inhabitants, and a place around
    its centre by a normal distribution of `city_km`. The others are of the kind "climate": one of the 29 Koeppen-Geiger
    climates other than ice caps is drawn with a chance in proportion to the square root of its area, so that rare
    climates are not lost among deserts and taiga, and a place in it, each square kilometre as likely as another.

    A candidate is moved to the nearest point of a lattice whose points are `distance_m` apart or more, and is left out
    where that is taken, is not on land, or is beyond the survey of Sentinel-2 (56 degrees south to 82.8 north); the
    next candidate of the same kind takes its turn. Antarctica and ice caps, which are masked as snow, have none.

    Returns
    -------
    pandas.DataFrame
        lon, lat (degrees), climate (Koeppen-Geiger), kind ("city" or "climate"); a row for each of the `n` places.
    """
    rule = PlaceRule(seed, around_cities, distance_m, city_km)
    return pd.DataFrame(list(islice(iter_places(rule), n)))


def iter_places(rule: PlaceRule) -> Iterator[Place]:
    """Yield the sequence of places that `sample_places` begins with, without end."""
    world = load_world()
    streams = {"city": _cities(rule, world), "climate": _climates(rule, world)}
    taken: set[tuple[int, int]] = set()
    for i in count():
        turn = int((i + 1) * rule.around_cities) > int(i * rule.around_cities)
        kind = "city" if turn else "climate"
        point, lon, lat, climate = next(c for c in streams[kind] if c[0] not in taken)
        taken.add(point)
        yield Place(lon, lat, CLIMATES[climate], kind)


Candidate = tuple[tuple[int, int], float, float, int]


def _cities(rule: PlaceRule, world: World) -> Iterator[Candidate]:
    """Yield candidates around cities."""
    lons, lats, people = world.cities.T
    chances = np.cumsum(np.sqrt(people))
    sigma = rule.city_km * 1000

    def draw(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        which = np.searchsorted(chances, u[:, 0] * chances[-1], side="right")
        # Box and Muller's normal numbers.
        reach, angle = sigma * np.sqrt(-2 * np.log1p(-u[:, 1])), 2 * np.pi * u[:, 2]
        lat = lats[which] + reach * np.sin(angle) / _METRES_LAT
        narrow = np.cos(np.radians(lats[which]))
        return lons[which] + reach * np.cos(angle) / (_METRES_LON * narrow), lat

    return _candidates(rule, world, 0, draw)


def _climates(rule: PlaceRule, world: World) -> Iterator[Candidate]:
    """Yield candidates over all climates."""
    chances = _climate_chances()
    factor = round(CLIMATE_CELL / LAND_CELL)
    columns = world.climates.shape[1]

    def draw(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        which = np.searchsorted(chances, u[:, 0] * chances[-1], side="right")
        row, column = which // columns * factor, which % columns * factor
        inner = np.arange(factor)
        parts = world.land[
            row[:, None, None] + inner[:, None], column[:, None, None] + inner
        ].reshape(len(u), -1)
        # One of the land cells within the climate's: the first at which this number has been passed.
        passed = parts.cumsum(axis=1)
        part = (passed > (u[:, 1] * passed[:, -1])[:, None]).argmax(axis=1)
        lat = NORTH - (row + part // factor + u[:, 2]) * LAND_CELL
        return (column + part % factor + u[:, 3]) * LAND_CELL - 180, lat

    return _candidates(rule, world, 1, draw)


@cache
def _climate_chances() -> np.ndarray:
    """Return the running sum of the chances of the cells of the raster of climates."""
    world = load_world()
    rows, columns = world.climates.shape
    factor = round(CLIMATE_CELL / LAND_CELL)
    land = world.land.reshape(rows, factor, columns, factor).sum(axis=(1, 3))
    lat = NORTH - (np.arange(rows) + 0.5) * CLIMATE_CELL
    areas = land * (np.cos(np.radians(lat)) * surveyed(lat))[:, None]
    areas[np.isin(world.climates, [0, ICE_CAP])] = 0
    total = np.bincount(world.climates.ravel(), areas.ravel(), len(CLIMATES))
    weights = np.divide(1, np.sqrt(total), out=np.zeros_like(total), where=total > 0)
    return np.cumsum(areas.ravel() * weights[world.climates.ravel()])


def _candidates(
    rule: PlaceRule,
    world: World,
    stream: int,
    draw: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
) -> Iterator[Candidate]:
    """Yield what is drawn from uniform numbers (n, 4), moved to the lattice, as far as it is land."""
    for block in count():
        # Of numpy's streams, only the raw ones are promised to stay as they are from version to version (NEP 19).
        raw = np.random.PCG64(np.random.SeedSequence([rule.seed, stream, block]))
        u = (raw.random_raw(4 * _BLOCK) >> np.uint64(11)).reshape(_BLOCK, 4) * 2.0**-53
        row, column, lon, lat = _snap(*draw(u), rule.distance_m)
        for i in np.flatnonzero(world.is_land(lon, lat)):
            climate = int(world.climate(lon[i], lat[i]))
            yield (int(row[i]), int(column[i])), float(lon[i]), float(lat[i]), climate


def _snap(lon: np.ndarray, lat: np.ndarray, distance_m: float) -> tuple[np.ndarray, ...]:
    """Return row, column, longitude and latitude of the lattice's points that are nearest.

    Rows are parallels at equal distances; in a row, points are at equal distances all around the earth.
    """
    height = distance_m / _METRES_LAT
    row = np.floor((lat + 90) / height)
    lat = -90 + (row + 0.5) * height
    columns = np.floor(360 * _METRES_LON * np.cos(np.radians(lat)) / distance_m)
    column = np.floor((lon + 180) / 360 % 1 * columns)
    lon = (column + 0.5) / columns * 360 - 180
    return row.astype("int64"), column.astype("int64"), np.round(lon, 6), np.round(lat, 6)
