"""The sample as Earth Engine would serve it: Sentinel-2 and the Cloud Score+ that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from timo.testing import sample
from timo.testing.earthengine.backing import BackedBand, BackedImage, Backing
from timo.testing.earthengine.grid import Transform

SENTINEL_2 = "COPERNICUS/S2_SR_HARMONIZED"
CLOUD_SCORE_PLUS = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
# A cell of the periodic store: as long as 10 m of the equator.
_PERIODIC_CRS = "EPSG:4326"
_PERIODIC_SIDE = 10 / 111_319.49079327358
# How much of the ground is seen through each class of the scene classification, 0..1, in the order of the codes 0..11:
# made up, as there is no Cloud Score+ in the sample.
_SEEN = (0.0, 0.5, 0.7, 0.35, 0.95, 0.95, 0.9, 0.6, 0.3, 0.05, 0.45, 0.6)


def sample_backing(*, everywhere: bool = False) -> Backing:
    """The sample as collections of Earth Engine.

    "COPERNICUS/S2_SR_HARMONIZED" holds the 140 dates of the sample as images with the bands B2 B3 B4 B8 (10 m), B8A B11
    (20 m) and SCL (10 m), digital numbers as uint16, EPSG:3035, ids and properties in the form of the true ones.
    What the sample does not tell is set in `timo.testing.sample`: the time of day (09:30 UTC on each), the satellite,
    the tile, the processing baseline. CLOUDY_PIXEL_PERCENTAGE is that of the sample's SCL, and not of a whole tile.
    "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED" has the bands `cs` and `cs_cdf` under the same indices, made up from the
    SCL: one number for each class.

    Parameters
    ----------
    everywhere : bool
        Spread the sample over the whole Earth, mirrored at each of its edges, on a grid of 10 m of the equator in
        longitude and latitude: any place has pixels.

    Returns
    -------
    Backing
        To be given to `Emulator`.

    Raises
    ------
    TimoError
        If the sample data are not installed.
    """
    scenes = _scenes()
    at = _Place.of_the_sample() if not everywhere else _Place.everywhere()
    collections = {
        SENTINEL_2: [_image(scene, at) for scene in scenes],
        CLOUD_SCORE_PLUS: [_score(scene, at) for scene in scenes],
    }
    titles = {
        SENTINEL_2: {"title": "Harmonized Sentinel-2 MSI, Level-2A (the sample of timo)"},
        CLOUD_SCORE_PLUS: {"title": "Cloud Score+ (made up from the sample's SCL)"},
    }
    return Backing(collections, titles)


@dataclass(frozen=True)
class _Place:
    """Where the sample's pixels are."""

    crs: str
    transform: Transform
    periodic: bool

    @classmethod
    def of_the_sample(cls) -> _Place:
        """Where they were taken."""
        grid = sample.sample_grid(10)
        return cls(grid.crs, (10.0, 0.0, grid.left, 0.0, -10.0, grid.top), False)

    @classmethod
    def everywhere(cls) -> _Place:
        """All over the Earth."""
        side = _PERIODIC_SIDE
        return cls(_PERIODIC_CRS, (side, 0.0, -180.0, 0.0, -side, 90.0), True)


@dataclass(frozen=True)
class _Scene:
    """One date of the sample."""

    number: int
    index: str
    time: pd.Timestamp
    platform: str
    cloud: float

    @property
    def millis(self) -> int:
        """When it was taken."""
        return int(self.time.value // 10**6)

    def band(self, name: str, at: _Place) -> BackedBand:
        """Its digital numbers of a band; 0 is no data."""
        side = at.transform[0] * sample.resolution_m(name) / 10
        numbers = sample.numbers(name)[self.number]
        if name == sample.QUALITY:
            return BackedBand(numbers, side, policy="mode")
        return BackedBand(numbers, side, nodata=0)

    def backed(
        self, bands: dict[str, BackedBand], properties: dict[str, Any], at: _Place
    ) -> BackedImage:
        """An image of its time and place."""
        return BackedImage(
            self.index,
            self.millis,
            self.millis,
            at.crs,
            at.transform,
            bands,
            {"MGRS_TILE": sample.TILE, **properties},
            periodic=at.periodic,
        )


def _scenes() -> list[_Scene]:
    columns = zip(
        sample.scene_ids(),
        sample.scene_times(),
        sample.platforms(),
        sample.cloud_percent(),
        strict=True,
    )
    return [_Scene(number, *facts) for number, facts in enumerate(columns)]


def _image(scene: _Scene, at: _Place) -> BackedImage:
    bands = {name: scene.band(name, at) for name in (*sample.BANDS, sample.QUALITY)}
    return scene.backed(bands, _properties(scene), at)


def _properties(scene: _Scene) -> dict[str, Any]:
    scl = sample.numbers(sample.QUALITY)[scene.number]
    short = f"S2{scene.platform[-1].upper()}"
    baseline = sample.BASELINE.replace(".", "")
    return {
        "CLOUDY_PIXEL_PERCENTAGE": float(scene.cloud),
        "CLOUD_SHADOW_PERCENTAGE": float(100 * (scl == 3).mean()),
        "SNOW_ICE_PERCENTAGE": float(100 * (scl == 11).mean()),
        "SPACECRAFT_NAME": f"Sentinel-2{scene.platform[-1].upper()}",
        "PROCESSING_BASELINE": sample.BASELINE,
        "GENERATION_TIME": scene.millis + 3 * 3_600_000,
        "PRODUCT_ID": f"{short}_MSIL2A_{scene.time:%Y%m%dT%H%M%S}_N{baseline}_R093_T{sample.TILE}",
    }


def _score(scene: _Scene, at: _Place) -> BackedImage:
    seen = np.array(_SEEN, dtype="float32")[sample.numbers(sample.QUALITY)[scene.number]]
    band = BackedBand(seen, at.transform[0])
    return scene.backed({"cs": band, "cs_cdf": band}, {}, at)
