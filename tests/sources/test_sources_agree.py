"""The same place and dates through Earth Engine (emulated), STAC and files are the same cube."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ee_emulator import sample
from sample_catalog import sample_grid, write_catalog
from written_files import write_tif

from timo.sources import open_cube

BOX = (22.1472, 45.2013, 22.1572, 45.2083)
OUTLINE = (
    "POLYGON ((22.1475 45.2015, 22.157 45.202, 22.156 45.208, 22.151 45.2045, 22.1475 45.2015))"
)
DATES = {"start": "2018-05", "end": "2018-08"}
SOURCES = ("emulator", "stac", "files")


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, dict]:
    """What each source needs to be told."""
    folder = tmp_path_factory.mktemp("stores")
    return {
        "emulator": {"cache": False},
        "stac": {"catalog": str(write_catalog(folder / "catalog", **DATES))},
        "files": {"path": write_scenes(folder / "scenes"), "sensor": "sentinel-2"},
    }


def write_scenes(folder: Path) -> Path:
    """One GeoTIFF for each band and image, at the resolution that it has."""
    times = sample.scene_times()
    inside = (times >= pd.Timestamp("2018-05-01")) & (times < pd.Timestamp("2018-09-01"))
    for i in np.flatnonzero(inside):
        for band in (*sample.BANDS, sample.QUALITY):
            grid = sample_grid(sample.resolution_m(band))
            name = f"T{sample.TILE}_{times[i]:%Y%m%dT%H%M%S}_{band}.tif"
            values = sample.numbers(band)[i]
            write_tif(folder / name, values, crs=grid.crs, transform=grid.transform, nodata=0)
    return folder


CASES = {
    "UTM, all defaults": {"aoi": BOX},
    "a polygon, clipped": {"aoi": OUTLINE, "clip": True},
    "months": {"aoi": BOX, "composite": "1MS"},
    "unmasked": {"aoi": BOX, "masked_classes": ()},
    "by class alone, two bands": {"aoi": BOX, "bands": ["B11", "B4"], "buffer_m": 0},
    "an equal-area grid": {"aoi": BOX, "crs": "EPSG:3035"},
    "degrees": {"aoi": BOX, "crs": 4326, "resolution": 0.0001},
}


@pytest.mark.parametrize("case", CASES)
def test_three_sources_one_cube(stores, case):
    options = {"bands": list(sample.BANDS), **DATES, **CASES[case]}
    emulated, stac, files = (
        open_cube(source, **options, **stores[source]).compute() for source in SOURCES
    )
    assert emulated.sizes["time"] >= 4
    assert 0.1 < float(np.isfinite(emulated).mean()) < 1 or case == "unmasked"
    for other in (stac, files):
        for name in ("time", "band", "y", "x"):
            np.testing.assert_array_equal(other[name].values, emulated[name].values)
        assert other.rio.crs == emulated.rio.crs
        assert other.attrs["sensor"] == emulated.attrs["sensor"]
        assert other.attrs["units"] == emulated.attrs["units"]
        assert other.attrs["attribution"] == emulated.attrs["attribution"]
        np.testing.assert_allclose(other.values, emulated.values, rtol=0, atol=1e-6)
        if "composite" in options:
            np.testing.assert_array_equal(other.n_valid.values, emulated.n_valid.values)


def test_without_a_grid_of_ones_own_it_is_the_sample(stores):
    truth = open_cube("sample", **DATES)
    for source in SOURCES:
        cube = open_cube(source, like=truth, bands=list(sample.BANDS), **DATES, **stores[source])
        np.testing.assert_allclose(cube.values, truth.values, rtol=0, atol=1e-6)


def test_clear_images_alone(stores):
    """Files do not say how cloudy they are."""
    options = {"aoi": BOX, "bands": ["B8"], "max_cloud": 20, **DATES}
    emulated, stac = (open_cube(s, **options, **stores[s]).compute() for s in ("emulator", "stac"))
    np.testing.assert_array_equal(stac.time.values, emulated.time.values)
    assert np.isclose(stac, emulated, rtol=0, atol=1e-6, equal_nan=True).mean() > 0.999
