import datetime as dt
import importlib.util
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from timo.cube import check, check_labels, valid_mask
from timo.cube.grid import dilate
from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.sources import open_cube
from timo.sources import sample as module
from timo.sources.sample import sample_labels, sample_tree_cover

MASKED = get_sensor("sentinel-2").masked
CLOUDS = get_sensor("sentinel-2").fringed


@pytest.fixture(scope="module")
def cube():
    return open_cube("sample")


@pytest.fixture(scope="module")
def bare():
    return open_cube("sample", start="2018", end="2018", masked_classes=())


def test_the_cube_is_a_cube(cube):
    assert check(cube) is cube
    assert cube.sizes == {"time": 140, "band": 6, "y": 100, "x": 100}
    assert list(cube.band.values) == ["B2", "B3", "B4", "B8", "B8A", "B11"]
    assert cube.rio.crs.to_epsg() == 3035
    assert cube.rio.resolution() == (10, -10)
    assert cube.attrs["sensor"] == "sentinel-2"
    assert cube.attrs["attribution"] == "Contains modified Copernicus Sentinel data 2015-2021"
    assert cube.scl.dims == ("time", "y", "x")
    assert cube.scl.dtype == np.uint8


def test_a_pixel_is_masked_by_its_class_and_near_clouds_in_all_bands(cube):
    near = dilate(np.isin(cube.scl, CLOUDS), 5, 5)
    expected = ~(np.isin(cube.scl, MASKED) | near)
    np.testing.assert_array_equal(valid_mask(cube), expected)
    np.testing.assert_array_equal(np.isfinite(cube).any("band"), expected)


def test_without_buffer_the_class_alone_decides():
    cube = open_cube("sample", end="2016", masked_classes=[9], buffer_m=0)
    np.testing.assert_array_equal(valid_mask(cube), cube.scl != 9)


def test_reflectances_are_those_of_a_summer_forest(cube):
    forest = (sample_tree_cover() > 80).values
    july = cube.sel(time="2018-07-01").values[:, forest]
    median = dict(zip(cube.band.values, np.nanmedian(july, axis=1), strict=True))
    assert median["B4"] < 0.04
    assert 0.25 < median["B8"] < 0.5
    assert 0.25 < median["B8A"] < 0.5
    assert 0.1 < median["B11"] < 0.25


def test_no_mask_no_gap(bare):
    assert np.isfinite(bare).all()


def test_20_m_bands_are_repeated_at_10_m(bare):
    swir = bare.sel(band="B11").values
    fine = swir.reshape(swir.shape[0], 50, 2, 50, 2)
    assert (np.ptp(fine, axis=(2, 4)) == 0).all()
    twenty = open_cube(
        "sample", start="2018", end="2018", bands=["B11"], masked_classes=(), resolution=20
    )
    np.testing.assert_array_equal(fine[:, :, 0, :, 0], twenty.values[:, 0])


def test_10_m_bands_are_averaged_at_20_m(bare):
    twenty = open_cube("sample", start="2018", end="2018", masked_classes=(), resolution=20)
    assert twenty.sizes["y"] == twenty.sizes["x"] == 50
    assert twenty.rio.resolution() == (20, -20)
    mean = bare.coarsen(y=2, x=2).mean()
    np.testing.assert_allclose(twenty.sel(band="B8"), mean.sel(band="B8"), rtol=1e-5)
    np.testing.assert_allclose(twenty.x, mean.x)


def test_at_20_m_a_pixel_is_valid_in_all_bands_or_none():
    cube = open_cube("sample", start="2018-08", end="2018-09", resolution=20)
    np.testing.assert_array_equal(np.isfinite(cube).any("band"), valid_mask(cube))
    assert not valid_mask(cube).values[np.isin(cube.scl, MASKED)].any()


def test_masked_10_m_pixels_do_not_enter_the_average():
    options = {"start": "2018-08", "end": "2018-09", "bands": ["B8"]}
    fine, coarse = (open_cube("sample", resolution=side, **options) for side in (10, 20))
    cells, seen = fine.coarsen(y=2, x=2), np.isfinite(coarse.values)
    np.testing.assert_allclose(cells.mean().values[seen], coarse.values[seen], rtol=1e-6)
    assert (cells.count().values[seen] < 4).any()


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2018", "2018", "2018-01-07", "2018-11-13"),
        ("2018-07", "2018-07-21", "2018-07-01", "2018-07-21"),
        (dt.date(2018, 7, 1), pd.Timestamp("2018-07-06"), "2018-07-01", "2018-07-06"),
        (np.datetime64("2020-12-02"), None, "2020-12-02", "2021-01-01"),
        (None, "2015", "2015-08-01", "2015-08-31"),
        (2018, np.int64(2018), "2018-01-07", "2018-11-13"),
    ],
)
def test_dates_are_inclusive_and_a_part_means_all_of_it(start, end, first, last):
    index = open_cube("sample", start=start, end=end, bands=["B4"]).indexes["time"]
    assert (index[0], index[-1]) == (pd.Timestamp(first), pd.Timestamp(last))


def test_bands_come_in_the_order_asked_for(cube):
    picked = open_cube("sample", start="2019-07", end="2019-07", bands=("B11", "B4"))
    assert list(picked.band.values) == ["B11", "B4"]
    np.testing.assert_array_equal(picked, cube.sel(time="2019-07").sel(band=["B11", "B4"]))
    common = open_cube("sample", start="2019-07", end="2019-07", bands=("swir16", "red"))
    assert common.identical(picked)


BAD_OPTIONS = {
    "band": ({"bands": ["B4", "B12"]}, "has no band 'B12'. It has: B2, B3, B4, B8, B8A, B11"),
    "no band": ({"bands": []}, "at least one band and each once"),
    "twice": ({"bands": ["B4", "B4"]}, "at least one band and each once"),
    "resolution": ({"resolution": 30}, "at 10 and at 20 m; got resolution=30"),
    "class": ({"masked_classes": [12]}, "no quality class 12. It has: 0 no data, 1"),
    "buffer": ({"buffer_m": -10}, "buffer_m must be a number from 0 to 10000; got -10"),
    "no classes": ({"masked_classes": 5}, "masked_classes must be a list of whole numbers; got 5"),
    "no list": ({"bands": 4}, "bands must be text or a list of text"),
    "words": ({"buffer_m": "a"}, "buffer_m must be a number or None; got 'a'"),
    "no date": ({"start": "monday next"}, "cannot be read as a date"),
    "object": ({"end": {}}, "cannot be read as a date"),
    "day or month": (
        {"start": "01/05/2018"},
        'may be 1 May 2018 or 5 January 2018; write "2018-05-01" or "2018-01-05"',
    ),
    "a number": ({"start": 2018.0}, "start=2018.0 cannot be read as a date"),
    "empty": (
        {"start": "2022"},
        "No date between start='2022' and end=None. .* from 2015-08-01 to 2021-01-01",
    ),
    "backwards": ({"start": "2019", "end": "2018"}, "end='2018' is before start='2019'"),
    "option": (
        {"aoi": {}},
        "takes no option 'aoi'. The sample is one place .*It takes: start, end, bands, resolution",
    ),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_open_cube_says_what_is_wrong(case):
    options, message = BAD_OPTIONS[case]
    with pytest.raises(TimoError, match=message):
        open_cube("sample", **options)


def test_an_unknown_source_is_refused_with_the_known_ones():
    with pytest.raises(TimoError, match=r"Unknown source 'samples'. Known: .*sample"):
        open_cube("samples")


@pytest.mark.parametrize("missing", ["nrt", "netCDF4"])
def test_without_the_extra_the_message_says_what_to_install(monkeypatch, missing):
    found = importlib.util.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == missing else found(name))
    with pytest.raises(TimoError, match=r'pip install "timo\[sample\]"'):
        open_cube("sample")


def test_a_release_of_nrt_without_the_data_is_told_apart(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location(
        "nrt", tmp_path / "__init__.py", submodule_search_locations=[str(tmp_path)]
    )
    found = importlib.util.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: spec if name == "nrt" else found(name))
    with pytest.raises(TimoError, match=r"only release 0.2.1 ships the sample data"):
        open_cube("sample")


def test_all_masked_is_refused():
    with pytest.raises(TimoError, match=r"all NaN: no date has a valid observation"):
        open_cube("sample", start="2019-02-01", end="2019-02-01")


def test_tree_cover_lies_on_the_cubes_grid(cube):
    cover = sample_tree_cover()
    assert cover.dims == ("y", "x")
    assert cover.rio.crs == cube.rio.crs
    assert float(cover.min()) == 0
    assert float(cover.max()) == 100
    twenty = sample_tree_cover(resolution=20)
    np.testing.assert_array_equal(cover.values[1::2, ::2], twenty)
    assert float((twenty > 50).mean()) == pytest.approx(0.8168)
    # It is the right way up: where the crowns are closed, the summer is greener.
    july = cube.sel(time="2018-07-01")
    ndvi = (july.sel(band="B8") - july.sel(band="B4")) / july.sel(band=["B8", "B4"]).sum("band")
    assert np.corrcoef(ndvi.values.ravel(), cover.values.ravel())[0, 1] > 0.5


def test_labels_are_labels_of_the_cube(cube):
    labels = check_labels(sample_labels(), cube)
    assert labels.dtype == np.int8
    assert labels.attrs["classes"] == ["not forest", "forest"]
    assert "Tree Cover Density 2018" in labels.attrs["attribution"]
    assert set(np.unique(labels)) == {0, 1}
    assert (sample_labels(threshold=80) == 1).sum() < (labels == 1).sum()
    check_labels(sample_labels(resolution=20), open_cube("sample", end="2016", resolution=20))


@pytest.mark.parametrize("threshold", [-1, 100, float("nan")])
def test_a_threshold_is_a_percentage(threshold):
    with pytest.raises(TimoError, match=r"threshold must be a number of 0 or more and below 100"):
        sample_labels(threshold)


def test_tree_cover_of_an_unknown_resolution_is_refused():
    with pytest.raises(TimoError, match=r"got resolution=5"):
        sample_tree_cover(resolution=5)


def test_a_changed_layer_is_noticed(monkeypatch):
    series = module.read_series(20)
    monkeypatch.setattr(module, "read_series", lambda _: series.assign_coords(x=series.x + 1))
    with pytest.raises(TimoError, match="not on one grid"):
        sample_tree_cover()


def test_asking_for_a_source_loads_nothing_else():
    code = (
        "import sys; import timo.sources; "
        "assert not {'xarray', 'netCDF4', 'rioxarray'} & set(sys.modules), 'import is heavy'; "
        "timo.sources.open_cube('sample', end='2015'); "
        "heavy = {'numba', 'torch', 'lightning', 'leafmap', 'ee', 'nrt.monitor'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
