"""The store that comes with the emulator, pyramids, the sample everywhere."""

import ee
import numpy as np
import pytest
from ee_emulator import (
    BackedBand,
    BackedImage,
    Backing,
    Emulator,
    EmulatorError,
    sample,
    sample_backing,
)
from ee_emulator.grid import Grid, Projection
from ee_emulator.pyramid import Raster
from emulated_store import GRID, pixels

import timo

S2 = "COPERNICUS/S2_SR_HARMONIZED"
SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"


@pytest.fixture(scope="module")
def emulator():
    pytest.importorskip("nrt")
    with Emulator() as running:
        running.initialize()
        yield running


def sample_pixels(image, **grid):
    at = sample.sample_grid(10).projection
    whole = {
        "crs": at.crs,
        "left": at.transform[2],
        "top": at.transform[5],
        "width": 100,
        "height": 100,
    }
    return pixels(image, **{**whole, **grid})


def test_the_sample_is_served_number_by_number(emulator):
    image = ee.Image(ee.ImageCollection(S2).toList(1, 70).get(0))
    found = sample_pixels(image)
    assert found.dtype.names == ("B2", "B3", "B4", "B8", "B8A", "B11", "SCL")
    for name in ("B2", "B8", "SCL"):
        np.testing.assert_array_equal(found[name], sample.numbers(name)[70])
    np.testing.assert_array_equal(found["B11"][::2, ::2], sample.numbers("B11")[70])
    assert found.dtype["B2"] == "uint16"
    assert found.dtype["SCL"] == "uint8"


def test_the_sample_masked_on_the_server_is_the_sample(emulator):
    truth = timo.open_cube(
        "sample",
        start="2018-06",
        end="2018-08",
        bands=["B8"],
        masked_classes=(3, 8, 9, 10),
        buffer_m=30,
    )

    def prepared(image):
        cloud = image.select("SCL").remap([3, 8, 9, 10], [1, 1, 1, 1], 0)
        return image.select("B8").updateMask(cloud.focalMax(30, "circle", "meters").Not())

    images = ee.ImageCollection(S2).filterDate("2018-06-01", "2018-09-01").map(prepared)
    assert images.size().getInfo() == truth.sizes["time"]
    bands = sample_pixels(images.toBands().unmask(-1, False))
    found = np.stack([bands[name] for name in bands.dtype.names]).astype("float32")
    found = np.where(found == -1, np.nan, found * np.float32(1e-4))
    np.testing.assert_allclose(found, truth.sel(band="B8").values, rtol=1e-6)


def test_properties_have_their_true_form(emulator):
    info = ee.ImageCollection(S2).first().getInfo()
    index = info["properties"]["system:index"]
    assert index == sample.scene_ids()[0]
    assert info["id"] == f"{S2}/{index}"
    assert info["properties"]["system:time_start"] == sample.scene_times()[0].value // 10**6
    assert info["properties"]["CLOUDY_PIXEL_PERCENTAGE"] == pytest.approx(sample.cloud_percent()[0])
    assert {"MGRS_TILE", "SPACECRAFT_NAME", "PROCESSING_BASELINE", "GENERATION_TIME"} <= set(
        info["properties"]
    )
    assert (info["bands"][0]["dimensions"], info["bands"][5]["dimensions"]) == (
        [100, 100],
        [50, 50],
    )
    assert info["bands"][0]["crs"] == "EPSG:3035"


def test_the_footprint_is_the_place(emulator):
    images = ee.ImageCollection(S2)
    assert images.filterBounds(ee.Geometry.Point(22.152, 45.205)).size().getInfo() == 140
    assert images.filterBounds(ee.Geometry.Point(22.30, 45.205)).size().getInfo() == 0


def test_the_score_belongs_to_the_images(emulator):
    linked = (
        ee.ImageCollection(S2).linkCollection(ee.ImageCollection(SCORE), ["cs", "cs_cdf"]).first()
    )
    found = sample_pixels(linked.select(["SCL", "cs"]))
    assert 0 <= found["cs"].min() <= found["cs"].max() <= 1
    for code in np.unique(found["SCL"]):
        assert len(np.unique(found["cs"][found["SCL"] == code])) == 1


@pytest.fixture(scope="module")
def everywhere():
    pytest.importorskip("nrt")
    with Emulator(sample_backing(everywhere=True)) as running:
        yield running


@pytest.mark.parametrize(
    ("crs", "left", "top"),
    [
        ("EPSG:32720", 500_000, 9_000_000),
        ("EPSG:32633", 400_000, 7_800_000),
        ("EPSG:32660", 740_000, 100_000),
    ],
)
def test_the_sample_is_everywhere(everywhere, crs, left, top):
    everywhere.initialize()
    image = ee.Image(f"{S2}/{sample.scene_ids()[60]}")
    found = pixels(image.unmask(0, False), crs=crs, left=left, top=top, width=264, height=264)
    for name in ("B2", "B11", "SCL"):
        assert found[name].min() > 0
        assert np.isin(found[name], sample.numbers(name)[60]).all()
    assert len(np.unique(found["B2"])) > 300


def test_two_places_are_not_alike(everywhere):
    everywhere.initialize()
    image = ee.Image(f"{S2}/{sample.scene_ids()[60]}").select("B8")
    one, two = (
        pixels(image, left=left, top=5_000_000, width=50, height=50)["B8"]
        for left in (400_000, 400_370)
    )
    assert (one != two).mean() > 0.5


def test_the_sample_everywhere_is_mirrored_at_its_edges():
    values = np.arange(6, dtype="int16").reshape(2, 3)
    raster = Raster(values, Projection("EPSG:4326"), periodic=True)
    found = raster.nearest(Grid(Projection("EPSG:4326"), 7, 5)).values
    np.testing.assert_array_equal(found[0], [0, 1, 2, 2, 1, 0, 0])
    np.testing.assert_array_equal(found[:, 0], [0, 3, 3, 0, 0])
    before = raster.nearest(Grid(Projection("EPSG:4326"), 1, 1).window(-1, -1, 2, 2)).values
    np.testing.assert_array_equal(before, [[0, 0], [0, 0]])


def coarse(raster: Raster, factor: int) -> np.ma.MaskedArray:
    a, b, c, d, e, f = GRID.projection.transform
    width, height = raster.size
    scaled = Projection("EPSG:32634", (a * factor, b, c, d, e * factor, f))
    pixels = raster.nearest(Grid(scaled, -(-width // factor), -(-height // factor)))
    return np.ma.masked_array(pixels.values, ~pixels.mask())


def test_pyramids_of_means_ignore_what_is_masked():
    values = np.array([[2, 4, 0], [6, 0, 0], [7, 0, 3]], dtype="float32")
    raster = Raster(values, GRID.projection, nodata=0)
    np.testing.assert_array_equal(coarse(raster, 2).filled(-1), [[4, -1], [7, 3]])
    assert coarse(raster, 4)[0, 0] == pytest.approx((4 + 7 + 3) / 3)


def test_pyramids_of_modes_and_samples():
    values = np.array([[1, 2, 9, 9], [2, 3, 9, 8]], dtype="uint8")
    mode = Raster(values, GRID.projection, policy="mode")
    np.testing.assert_array_equal(coarse(mode, 2), [[2, 9]])
    sampled = Raster(values, GRID.projection, policy="sample")
    np.testing.assert_array_equal(coarse(sampled, 2), [[1, 9]])


def test_whole_numbers_stay_so_in_a_pyramid():
    raster = Raster(np.array([[1, 2], [2, 2]], dtype="uint16"), GRID.projection)
    found = coarse(raster, 2)
    assert found.dtype == "uint16"
    assert found[0, 0] == 2


def test_two_images_of_one_index_are_refused():
    image = BackedImage(
        "same", 0, 0, "EPSG:32634", (10, 0, 0, 0, -10, 0), {"A": BackedBand(np.ones((2, 2)))}
    )
    with pytest.raises(EmulatorError, match="same index"):
        Backing({"TEST/TWICE": [image, image]})
