"""The sample as scenes, and as a catalog on disk."""

import json
import shutil
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from ee_emulator import sample
from sample_catalog import sample_grid, scene_ids, write_catalog

from timo.sources import open_cube


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    return write_catalog(
        tmp_path_factory.mktemp("catalog") / "sample", start="2018-07-01", end="2018-07-20"
    )


@pytest.fixture(scope="module")
def items(catalog):
    return list(pystac.Catalog.from_file(str(catalog)).get_items(recursive=True))


# --- what is said of the scenes


def test_scenes_are_the_samples_dates():
    cube = open_cube("sample", bands=["B4"])
    np.testing.assert_array_equal(sample.scene_times().normalize(), cube.time)
    assert len(set(sample.scene_ids())) == len(set(scene_ids())) == 140
    assert sample.scene_ids()[0] == "20150801T093000_20150801T093000_T34TER"
    assert scene_ids()[0] == "S2A_34TER_20150801_0_L2A"


def test_each_satellite_comes_every_ten_days():
    times = sample.scene_times()
    for platform in ("sentinel-2a", "sentinel-2b"):
        mine = times[np.array(sample.platforms()) == platform]
        assert set((mine - mine[0]).days % 10) == {0}
    # The second was launched in March 2017.
    assert times[np.array(sample.platforms()) == "sentinel-2b"].min().year == 2017


def test_numbers_are_the_samples():
    cube = open_cube("sample", masked_classes=(), buffer_m=0)
    for band in sample.BANDS:
        repeats = sample.resolution_m(band) // 10
        numbers = sample.numbers(band).repeat(repeats, 1).repeat(repeats, 2)
        np.testing.assert_allclose(numbers * 1e-4, cube.sel(band=band), rtol=1e-6)
    np.testing.assert_array_equal(sample.numbers("SCL"), cube.scl)
    np.testing.assert_array_equal(sample_grid().x, cube.x)
    np.testing.assert_array_equal(sample_grid().y, cube.y)
    coarse = open_cube("sample", bands=["B11"], resolution=20)
    np.testing.assert_array_equal(sample_grid(20).x, coarse.x)


def test_numbers_cannot_be_changed_for_the_others():
    with pytest.raises(ValueError, match="read-only"):
        sample.numbers("B4")[0] = 0


def test_cloud_percent_counts_clouds_and_cirrus():
    scl = sample.numbers("SCL")
    percent = sample.cloud_percent()
    assert percent.shape == (140,)
    for scene in (0, 40, 99):
        assert percent[scene] == pytest.approx(100 * np.isin(scl[scene], (8, 9, 10)).mean())


# --- the catalog


def test_items_are_described_as_earth_search_does(items):
    assert [item.id for item in items] == ["S2B_34TER_20180701_0_L2A", "S2A_34TER_20180706_0_L2A"]
    scene = scene_ids().index(items[0].id)
    said = items[0].properties
    assert said["eo:cloud_cover"] == sample.cloud_percent()[scene]
    assert said["earthsearch:boa_offset_applied"] is False
    assert float(said["s2:processing_baseline"]) < 4
    assert set(items[0].assets) == {"blue", "green", "red", "nir", "nir08", "swir16", "scl"}
    assert items[0].collection_id == "sentinel-2-l2a"
    assert items[0].datetime.strftime("%H:%M %Z") == "09:30 UTC"


def test_cogs_hold_the_numbers_and_the_items_say_how_they_lie(items):
    for item in items:
        scene = scene_ids().index(item.id)
        for name, band in (("red", "B4"), ("swir16", "B11"), ("scl", "SCL")):
            asset = item.assets[name]
            with rasterio.open(asset.get_absolute_href()) as file:
                np.testing.assert_array_equal(file.read(1), sample.numbers(band)[scene])
                assert file.nodata == 0
                assert file.dtypes[0] == ("uint8" if band == "SCL" else "uint16")
                assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                assert file.crs.to_epsg() == 3035
                assert list(file.transform)[:6] == asset.extra_fields["proj:transform"]
                assert list(file.shape) == asset.extra_fields["proj:shape"]


def test_the_catalog_can_be_moved(catalog, items, tmp_path):
    shutil.copytree(catalog.parent, tmp_path / "moved")
    for path in (tmp_path / "moved").rglob("*.json"):
        text = path.read_text()
        assert str(catalog.parent) not in text
        for asset in json.loads(text).get("assets", {}).values():
            assert (path.parent / asset["href"]).is_file()
            assert not Path(asset["href"]).is_absolute()
    moved = pystac.Catalog.from_file(str(tmp_path / "moved" / "catalog.json"))
    assert len(list(moved.get_items(recursive=True))) == len(items)


def test_only_the_bands_that_are_asked_for(tmp_path):
    path = write_catalog(tmp_path, start="2018-07-01", end="2018-07-05", bands=["B8A"])
    (item,) = pystac.Catalog.from_file(str(path)).get_items(recursive=True)
    assert set(item.assets) == {"nir08", "scl"}
