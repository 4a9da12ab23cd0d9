import json

import ee
import numpy as np
import pytest
import xarray as xr

from timo.cube import check, composite
from timo.errors import TimoError
from timo.sources import from_ee_image_collection, open_cube
from timo.sources.earthengine import connect, estimate
from timo.sources.emulated import connect_emulator, emulator
from timo.sources.retry import Retry
from timo.testing.earthengine import Emulator, sample_backing, synthetic_backing

S2 = "COPERNICUS/S2_SR_HARMONIZED"
BANDS = ["B2", "B3", "B4", "B8", "B8A", "B11"]
BOX = (22.1472, 45.2013, 22.1572, 45.2083)
SUMMER = {"start": "2018-06", "end": "2018-08", "bands": BANDS}
PATIENT = Retry(initial_s=0.01, quota_initial_s=0.02, deadline_s=60)


@pytest.fixture(scope="module")
def sample():
    return open_cube("sample", start="2018-06", end="2018-08")


def opened(sample, **options):
    return open_cube("emulator", **{"like": sample, "cache": False, **SUMMER, **options})


def pixels():
    return emulator().requests["pixels"]


def test_on_the_grid_of_the_sample_the_cube_is_the_sample(sample):
    cube = opened(sample)
    assert cube.chunks is not None
    assert check(cube.compute()).dtype == np.float32
    xr.testing.assert_allclose(
        cube.drop_vars("spatial_ref"), sample.drop_vars(["spatial_ref", "scl"]), rtol=2e-7
    )
    assert cube.rio.crs == sample.rio.crs
    assert cube.attrs["sensor"] == "sentinel-2"
    assert cube.attrs["attribution"] == "Contains modified Copernicus Sentinel data 2018"
    assert S2 in cube.attrs["source"]


@pytest.mark.parametrize(
    "options", [{"buffer_m": 0}, {"masked_classes": ()}, {"masked_classes": (9,), "buffer_m": 35}]
)
def test_masks_and_buffers_are_those_of_the_sample(sample, options):
    there = open_cube("sample", start="2018-06", end="2018-08", **options)
    here = opened(sample, **options)
    np.testing.assert_allclose(here.values, there.values, rtol=2e-7)


@pytest.mark.parametrize("period", ["1MS", "16D", "QS-DEC"])
def test_a_composite_of_the_servers_is_that_of_the_cube(sample, period):
    here = opened(sample, composite=period)
    there = composite(sample, period, origin="2018-06-01")
    np.testing.assert_array_equal(here.time.values, there.time.values)
    np.testing.assert_allclose(here.values, there.values, rtol=2e-6)
    np.testing.assert_array_equal(here.n_valid.values, there.n_valid.values)
    assert here.n_valid.dtype == np.int16
    assert here.attrs["composite"] == f"{period} median"


def test_nothing_is_fetched_before_it_is_used_and_then_only_what_is(sample):
    before = pixels()
    cube = opened(sample, chunk_size=40)
    assert pixels() == before
    cube.isel(time=slice(0, 2), y=slice(0, 10), x=slice(0, 10)).load()
    assert pixels() - before == 1


def test_what_was_fetched_is_not_fetched_again(sample, tmp_path):
    first = opened(sample, cache=tmp_path).load()
    before = pixels()
    again = opened(sample, cache=tmp_path).load()
    assert pixels() == before
    np.testing.assert_array_equal(first, again)


def test_another_request_or_another_version_of_an_image_is_another_key(sample, tmp_path):
    opened(sample, cache=tmp_path).load()
    before = pixels()
    opened(sample, cache=tmp_path, buffer_m=0).load()
    assert pixels() > before
    backing = sample_backing()
    with Emulator(backing) as reprocessed:
        connect(url=reprocessed.url)
        try:
            images = ee.ImageCollection(S2)
            assert images.size().getInfo() == 140
        finally:
            connect_emulator()


def test_an_estimate_is_what_is_then_fetched(sample):
    emulated = emulator().url
    figures = estimate(like=sample, url=emulated, chunk_size=50, **SUMMER)
    before = pixels()
    cube = opened(sample, chunk_size=50)
    cube.load()
    assert figures.requests == pixels() - before
    assert figures.bytes == cube.nbytes
    assert (figures.dates, figures.height, figures.width) == (cube.sizes["time"], 100, 100)
    assert f"{figures.requests} requests" in str(figures)


def test_an_estimate_fetches_no_pixel(sample):
    before = pixels()
    estimate(aoi=BOX, url=emulator().url, composite="1MS", **SUMMER)
    assert pixels() == before


def test_cloudy_images_are_left_out(sample):
    clear = opened(sample, max_cloud=10)
    assert 0 < clear.sizes["time"] < sample.sizes["time"]
    np.testing.assert_allclose(clear.values, sample.sel(time=clear.time).values, rtol=2e-7)


def test_a_second_opinion_on_clouds(sample):
    scored = opened(sample, cloud_score=True)
    assert scored.sizes == sample.sizes
    share = float(np.isfinite(scored.isel(band=0)).mean())
    assert 0.2 < share < 1
    stricter = opened(sample, cloud_score=0.95)
    assert float(np.isfinite(stricter.isel(band=0)).mean()) <= share


@pytest.mark.parametrize("name", ["sentinel-1", "landsat-8-9", "modis", "modis-vegetation"])
def test_other_sensors(name, tmp_path):
    with Emulator(synthetic_backing(name)) as other:
        cube = open_cube(
            "earthengine",
            aoi=BOX,
            sensor=name,
            start="2018",
            end="2020",
            url=other.url,
            cache=tmp_path,
        ).load()
    connect_emulator()
    check(cube)
    assert cube.attrs["sensor"] == name
    assert cube.attrs["attribution"]
    assert cube.name == ("backscatter" if name == "sentinel-1" else "reflectance")
    assert np.isfinite(cube).any()


def test_a_cube_of_images_that_the_user_has_prepared(sample):
    connect_emulator()

    def index(image):
        ndvi = image.normalizedDifference(["B8", "B4"]).rename("NDVI")
        return ndvi.copyProperties(image, ["system:time_start"])

    images = ee.ImageCollection(S2).filterDate("2018-06-01", "2018-09-01").map(index)
    cube = from_ee_image_collection(images, like=sample, cache=False, url=emulator().url).load()
    bare = open_cube("sample", start="2018-06", end="2018-08", masked_classes=())
    red, nir = bare.sel(band="B4", drop=True), bare.sel(band="B8", drop=True)
    assert list(cube.band.values) == ["NDVI"]
    assert "sensor" not in cube.attrs
    np.testing.assert_allclose(cube.sel(band="NDVI"), (nir - red) / (nir + red), atol=2e-6)


def test_a_cube_of_raw_images_takes_the_area_as_earth_engine_has_it(sample):
    connect_emulator()
    images = ee.ImageCollection(S2).filterDate("2018-06-01", "2018-09-01").select(["B4", "B8"])
    area = ee.Geometry.Rectangle(list(BOX), None, False)
    cube = from_ee_image_collection(
        images, aoi=area, sensor="sentinel-2", scale=1e-4, cache=False, url=emulator().url
    )
    assert cube.attrs["sensor"] == "sentinel-2"
    assert cube.rio.resolution() == (10, -10)
    assert cube.rio.crs.to_epsg() == 32634
    assert 0.2 < float(cube.sel(band="B8", time="2018-07-01").mean()) < 0.5


BAD = {
    "band": ({"bands": ["B5"]}, r"Band pattern 'B5' did not match any bands"),
    "orbit": ({"orbit": "ascending"}, r"orbit cannot be chosen: the images of sentinel-2"),
    "no image": (
        {"start": "2012", "end": "2013"},
        r"no image of sentinel-2 between 2012-01-01 and 2013-12-31",
    ),
    "clear": ({"max_cloud": 0, "start": "2018-02", "end": "2018-02"}, r"raise max_cloud"),
    "score": ({"cloud_score": 2}, r"threshold from 0 to 1 .*got 2"),
    "chunk": ({"chunk_size": 0}, r"chunk_size is a number of pixels"),
    "cloud of radar": (
        {"sensor": "sentinel-1", "bands": None, "max_cloud": 5},
        r"do not say how cloudy",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said(sample, case):
    options, message = BAD[case]
    with pytest.raises(TimoError, match=message):
        opened(sample, **options).load()


def test_a_cube_of_one_service_does_not_ask_another(sample):
    cube = opened(sample)
    with Emulator(sample_backing()) as other:
        connect(url=other.url)
        try:
            with pytest.raises(TimoError, match=r"another is connected now: open it again"):
                cube.load()
        finally:
            connect_emulator()


def test_without_credentials_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    ee.Reset()
    asked = []
    monkeypatch.setattr(ee, "Authenticate", lambda *a, **_: asked.append(a))
    with pytest.raises(TimoError, match=r"Earth Engine lets nobody in: .*ee.Authenticate\(\)"):
        open_cube("earthengine", aoi=BOX, start="2019", end="2019")
    assert not asked
    connect_emulator()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"there is no service account key"),
        ("no json", r"is no JSON key of a service account"),
        (json.dumps({"private_key": "SECRET"}), r"is no JSON key of a service account"),
        (json.dumps({"client_email": "a@b.c", "private_key": "SECRET"}), r"is no JSON key"),
    ],
)
def test_a_bad_key_is_refused_without_repeating_it(tmp_path, content, message):
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TimoError, match=message) as caught:
        connect("project", service_account=path)
    assert "SECRET" not in str(caught.value)
    connect_emulator()
