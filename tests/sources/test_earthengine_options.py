"""Options of the Earth Engine source: what is wrong is said before anything is asked, and what is right is taken."""

import ee
import numpy as np
import pytest

from timo.errors import TimoError
from timo.sources import from_ee_image_collection, open_cube
from timo.sources.earthengine import estimate
from timo.sources.emulated import connect_emulator, emulator

S2 = "COPERNICUS/S2_SR_HARMONIZED"
BOX = (22.1472, 45.2013, 22.1572, 45.2083)
SUMMER = {"start": "2018-06", "end": "2018-08", "bands": ["B4", "B8"]}


@pytest.fixture(scope="module")
def sample():
    return open_cube("sample", start="2018-06", end="2018-08")


def opened(sample, **options):
    return open_cube("emulator", **{"like": sample, "cache": False, **SUMMER, **options})


def asked():
    return sum(emulator().requests.as_dict().values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retry": 5}, r"retry takes a Retry, and not 5: .*retry=Retry\(attempts=5\)"),
        ({"retry": "often"}, r"retry=Retry\(attempts=5\)"),
        ({"workers": 0}, r"workers is a number of requests at a time, 1 or more; got 0"),
        ({"workers": "8"}, r"workers is .*got '8'"),
        ({"workers": True}, r"workers is .*got True"),
        (
            {"aoI": BOX},
            r"estimate takes no option 'aoI'. Did you mean 'aoi'\? It takes: aoi, start",
        ),
        ({"source": "stac"}, r"estimate takes no option 'source'"),
        ({"chunk_size": 25.6}, r"chunk_size is a number of pixels, 1 or more; got 25.6"),
        ({"cache": 5}, r"the cache is a folder: give its path, or True or False .*got cache=5"),
        ({"bands": 4}, r"bands must be a list of names"),
        ({"project": 5}, r"project is the id of a Google Cloud project"),
        ({"service_account": 5}, r"service_account is the path of a JSON key"),
        ({"url": 5}, r"url is the address of an Earth Engine"),
    ],
)
def test_an_estimate_says_what_is_wrong_before_anything_is_asked(options, message):
    before = asked()
    with pytest.raises(TimoError, match=message):
        estimate(**{"aoi": BOX, "url": emulator().url, **SUMMER, **options})
    assert asked() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": 4}, r'bands must be a list of names, as \["B4", "B8"\]; got 4'),
        ({"bands": [4]}, r"bands must be a list of names"),
        ({"bands": {"B4"}}, r"bands must be a list of names"),
        ({"bands": []}, r"at least one band and each once"),
        ({"bands": ["B4", "B4"]}, r"at least one band and each once"),
        ({"bands": ["B4", "B13"], "sensor": "sentinel-2"}, r"no band 'B13'. Did you mean"),
        ({"sensor": "s2"}, r"Unknown sensor 's2'.*Did you mean 'sentinel-2'"),
        ({"clip": "yes"}, r"clip is True or False; got 'yes'"),
        ({"scale": "a"}, r"scale is a number, as scale=1e-4; got 'a'"),
        ({"scale": 0}, r"scale is a number, as scale=1e-4; got 0"),
        ({"scale": True}, r"scale is a number"),
        ({"offset": None}, r"offset is a number, as offset=0; got None"),
        ({"offset": float("nan")}, r"offset is a number"),
        ({"retry": 5}, r"retry takes a Retry, and not 5"),
        ({"cache": 1.5}, r"the cache is a folder: give its path, or True or False .*got cache=1.5"),
        ({"chunk_size": "256"}, r"chunk_size is a number of pixels"),
        ({"composite": "monthly"}, r"Did you mean '1MS'"),
        ({"start": "01/05/2018"}, r'write "2018-05-01" or "2018-01-05"'),
        ({"start": "2019", "end": "2018"}, r"end='2018' is before start='2019'"),
    ],
)
def test_a_collection_of_ones_own_with_bad_options_is_refused_before_anything_is_asked(
    options, message
):
    connect_emulator()
    before = asked()
    with pytest.raises(TimoError, match=message):
        from_ee_image_collection(
            ee.ImageCollection(S2), **{"aoi": BOX, "cache": False, "url": emulator().url, **options}
        )
    assert asked() == before


def test_a_band_alone_and_numbers_of_numpy_are_taken(sample):
    connect_emulator()
    images = ee.ImageCollection(S2).filterDate("2018-06-01", "2018-09-01")
    options = {"like": sample, "cache": False, "url": emulator().url}
    plain = from_ee_image_collection(images, bands=["B4"], scale=1e-4, offset=2, **options)
    same = from_ee_image_collection(
        images,
        bands="B4",
        scale=np.float64(1e-4),
        offset=np.int64(2),
        chunk_size=np.int64(64),
        **options,
    )
    assert list(same.band.values) == ["B4"]
    np.testing.assert_array_equal(same.isel(time=0), plain.isel(time=0))
    common = from_ee_image_collection(images, bands=["nir", "red"], sensor="sentinel-2", **options)
    assert list(common.band.values) == ["B8", "B4"]
    cube = opened(sample, chunk_size=np.int64(40))
    assert cube.chunks == opened(sample, chunk_size=40).chunks
    assert (
        estimate(
            like=sample, url=emulator().url, workers=np.int64(4), cache=False, **SUMMER
        ).workers
        == 4
    )


@pytest.mark.parametrize(
    "options", [{"start": 2030}, {"end": "2001"}, {"start": 2030, "end": 2031}]
)
def test_of_dates_beyond_the_collection_those_that_there_are_is_said(options):
    connect_emulator()
    images = ee.ImageCollection(S2).filterDate("2018-06-01", "2018-09-01")
    with pytest.raises(TimoError, match=r"those of the collection are of 2018-06-06 to 2018-08-30"):
        from_ee_image_collection(
            images, aoi=BOX, bands="B4", cache=False, url=emulator().url, **options
        )
    with pytest.raises(TimoError, match=r"seen: in the whole collection images of 2018-06-06"):
        from_ee_image_collection(
            images, aoi=(10, 10, 10.01, 10.01), bands="B4", cache=False, url=emulator().url
        )


@pytest.mark.parametrize(("cache", "kept"), [(None, False), (np.bool_(False), False), (True, True)])
def test_the_emulator_never_writes_among_what_was_fetched_from_earth_engine(
    sample, tmp_path, monkeypatch, cache, kept
):
    monkeypatch.setenv("TIMO_CACHE", str(tmp_path / "own"))
    options = {
        "cache": cache,
        "bands": ["B4"],
        "start": "2018-07",
        "end": "2018-07",
        "chunk_size": 37,
    }
    opened(sample, **options).load()
    before = emulator().requests["pixels"]
    opened(sample, **options).load()
    assert (emulator().requests["pixels"] == before) is kept
    assert not (tmp_path / "own").exists()
