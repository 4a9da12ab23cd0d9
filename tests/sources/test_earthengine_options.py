"""Options of the Earth Engine source: what is wrong is said before anything is asked, and what is right is taken."""

import ee
import numpy as np
import pytest

from timo.errors import TimoError
from timo.sensors import SENSORS, Band, Sensor, get_sensor
from timo.sources import fetch, from_ee_image_collection, open_cube
from timo.sources.earthengine import estimate
from timo.sources.earthengine.collection import _check_product, source_ids
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
    return sum(emulator().requests.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retry": 5}, r"retry must be a timo.Retry or None; got 5"),
        ({"workers": 0}, r"workers must be a whole number of 1 or more; got 0"),
        ({"workers": "8"}, r"workers must be .*got '8'. Write workers=8, without quotes"),
        ({"workers": True}, r"workers must be .*got True"),
        (
            {"aoI": BOX},
            r"estimate takes no option 'aoI'. Did you mean 'aoi'\? It takes: aoi, start",
        ),
        ({"source": "stac"}, r"estimate takes no option 'source'"),
        ({"chunks": 25.6}, r"chunks must be a whole number of 1 or more; got 25.6"),
        ({"cache": 5}, r"cache must be True or False or text or a path or None; got 5"),
        ({"cache": ""}, r"cache is an empty text. Give the path of a folder"),
        ({"bands": 4}, r"bands must be text or a list of text"),
        ({"project": 5}, r"project must be text or None; got 5"),
        ({"project": ""}, r"must not be empty. Give the id of a Google Cloud project"),
        ({"service_account": 5}, r"service_account must be text or a path or None; got 5"),
        ({"url": 5}, r"url must be text or None; got 5"),
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
        ({"bands": 4}, r"bands must be text or a list of text or None; got 4"),
        ({"bands": [4]}, r"bands must be .*number 0 is 4"),
        ({"bands": {"B4"}}, r"bands must be text or a list of text"),
        ({"bands": []}, r"at least one band and each once"),
        ({"bands": ["B4", "B4"]}, r"at least one band and each once"),
        ({"bands": ["B4", "B13"], "sensor": "sentinel-2"}, r"no band 'B13'. Did you mean"),
        ({"sensor": "s2"}, r"Unknown sensor 's2'.*Did you mean 'sentinel-2'"),
        ({"clip": "yes"}, r"clip must be True or False; got 'yes'"),
        ({"scale": "a"}, r"scale must be a number; got 'a'"),
        ({"scale": 0}, r"scale=0 would make all values the same. Give another, as scale=1e-4"),
        ({"scale": True}, r"scale must be a number; got True"),
        (
            {"offset": None},
            r"offset must be a number; got None. Leave offset out for its default, 0",
        ),
        ({"offset": float("nan")}, r"offset must be a number; got nan"),
        (
            {"images": 3},
            r"images must be an ee.ImageCollection; got 3. ee.ImageCollection\(\[image",
        ),
        ({"resolution": "10"}, r"resolution must be .*Write resolution=10, without quotes"),
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
    usual = {"images": ee.ImageCollection(S2), "aoi": BOX, "cache": False, "url": emulator().url}
    with pytest.raises(TimoError, match=message):
        from_ee_image_collection(**{**usual, **options})
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
        chunks=np.int64(64),
        **options,
    )
    assert list(same.band.values) == ["B4"]
    np.testing.assert_array_equal(same.isel(time=0), plain.isel(time=0))
    common = from_ee_image_collection(images, bands=["nir", "red"], sensor="sentinel-2", **options)
    assert list(common.band.values) == ["B8", "B4"]
    cube = opened(sample, chunks=np.int64(40))
    assert cube.chunks == opened(sample, chunks=40).chunks
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
        "chunks": 37,
    }
    opened(sample, **options).load()
    before = emulator().requests["pixels"]
    opened(sample, **options).load()
    assert (emulator().requests["pixels"] == before) is kept
    assert not (tmp_path / "own").exists()


# --- whose bands these are, and on which scale


def images_of(*names):
    first, *others = (ee.ImageCollection(name) for name in names)
    for other in others:
        first = first.merge(other)
    return first


def test_the_collections_of_a_graph_are_those_of_its_images():
    connect_emulator()
    l1c = images_of("COPERNICUS/S2_HARMONIZED")
    masks = images_of("COPERNICUS/S2_CLOUD_PROBABILITY")
    joined = ee.ImageCollection(
        ee.Join.saveFirst("clouds").apply(
            images_of(S2), masks, ee.Filter.equals("system:index", None, "system:index")
        )
    )
    scaled = joined.filterDate("2018", "2019").map(lambda image: image.multiply(1e-4)).limit(5)
    assert source_ids(scaled) == {S2}
    assert source_ids(images_of(S2).merge(l1c).sort("x")) == {S2, "COPERNICUS/S2_HARMONIZED"}
    one = ee.ImageCollection([ee.Image(f"{S2}/20180601T093041_x"), ee.Image(f"{S2}/b")])
    assert source_ids(one) == {S2}


@pytest.mark.parametrize(
    ("names", "sensor", "message"),
    [
        (["COPERNICUS/S2_HARMONIZED"], "sentinel-2", r'Level-1C.*sensor="sentinel-2-l1c"'),
        ([S2, "COPERNICUS/S2_HARMONIZED"], "sentinel-2", r'sensor="sentinel-2-l1c"'),
        (["COPERNICUS/S2_SR"], "sentinel-2", rf"1,000 higher .*take {S2}"),
        ([S2], "landsat-8-9", r'sensor="sentinel-2"'),
        (["LANDSAT/LE07/C02/T1_L2"], "landsat-8-9", r'ETM.*sensor="landsat-4-7"'),
        (["LANDSAT/LC08/C01/T1_SR"], "landsat-8-9", r'Collection 1.*sensor="landsat-8-9-c1"'),
        (["LANDSAT/LC08/C02/T1_TOA"], "landsat-8-9", r'Level-1.*sensor="landsat-8-9-l1"'),
        (["LANDSAT/LC08/C02/T1_L2", "LANDSAT/LE07/C02/T1_L2"], "landsat-8-9", "LE07"),
        (["NASA/HLS/HLSL30/v002"], "landsat-8-9", r'sensor="hls-l30"'),
    ],
)
def test_images_of_another_product_are_refused_by_name(names, sensor, message):
    connect_emulator()
    before = asked()
    with pytest.raises(TimoError, match=message):
        from_ee_image_collection(
            images_of(*names), sensor=sensor, aoi=BOX, cache=False, url=emulator().url
        )
    assert asked() == before


@pytest.mark.parametrize(
    ("name", "sensor"),
    [
        (S2, "sentinel-2"),
        ("COPERNICUS/S2_HARMONIZED", "sentinel-2-l1c"),
        ("COPERNICUS/S1_GRD_FLOAT", "sentinel-1"),
        ("LANDSAT/LT05/C02/T1_L2", "landsat-4-7"),
        ("LANDSAT/LT05/C01/T1_SR", "landsat-4-7-c1"),
        ("LANDSAT/LE07/C02/T1_TOA", "landsat-4-7-l1"),
        ("LANDSAT/LC09/C02/T2_L2", "landsat-8-9"),
        ("NASA/HLS/HLSS30/v002", "hls-s30"),
        ("MODIS/061/MYD13Q1", "modis-vegetation"),
        ("projects/mine/assets/images", "sentinel-2"),
    ],
)
def test_each_collection_is_taken_for_the_product_that_it_holds(name, sensor):
    connect_emulator()
    _check_product(images_of(name), get_sensor(sensor))
    if name.startswith("projects"):
        return
    for other in {"sentinel-2", "landsat-8-9", "hls-l30"} - {sensor}:
        with pytest.raises(TimoError, match=f'sensor="{sensor}"'):
            _check_product(images_of(name), get_sensor(other))


def test_digital_numbers_of_ones_own_collection_are_refused_when_computed(sample):
    connect_emulator()
    images = ee.ImageCollection(S2).filterDate("2018-07-01", "2018-08-01")
    options = {
        "like": sample,
        "cache": False,
        "url": emulator().url,
        "bands": ["B4", "B8"],
        "sensor": "sentinel-2",
    }
    raw = from_ee_image_collection(images, **options)
    with pytest.raises(TimoError, match=r"divide by 10,000.*opened with scale=1.*give other ones"):
        raw.compute()
    with pytest.raises(TimoError, match=r"10,?000"):
        fetch(raw, progress=False)
    # The factor that the message names.
    cube = from_ee_image_collection(images, scale=1e-4, **options).compute()
    assert 0 < float(cube.median()) < 0.6
    # Without a sensor nothing is known of the values.
    free = from_ee_image_collection(images, **{**options, "sensor": None}).compute()
    assert float(free.median()) > 100
    assert "units" not in free.attrs


def test_linear_power_is_refused_as_decibels(sample):
    connect_emulator()
    images = ee.ImageCollection(S2).filterDate("2018-07-01", "2018-07-20")
    power = images.select(["B4"], ["VV"]).map(
        lambda image: ee.Image(image.multiply(1e-5)).copyProperties(image, ["system:time_start"])
    )
    options = {"like": sample, "cache": False, "url": emulator().url, "bands": ["VV"]}
    radar = Sensor("own-radar", "", (Band("VV", "", 0, 10),), 1.0, kind="backscatter")
    try:
        cube = from_ee_image_collection(power, sensor=radar, **options)
        with pytest.raises(TimoError, match="linear"):
            cube.compute()
    finally:
        SENSORS.pop("own-radar", None)


def test_the_emulator_says_whether_earth_engine_has_what_it_lacks():
    where = {"aoi": BOX, "start": 2018, "end": 2018}
    with pytest.raises(TimoError, match=r'no landsat-8-9 here.*"earthengine" has it'):
        open_cube("emulator", sensor="landsat-8-9", **where)
    with pytest.raises(TimoError, match=r"no hls-l30 here.*Earth Engine has it not"):
        open_cube("emulator", sensor="hls-l30", **where)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_times_that_are_no_milliseconds_are_refused(factor):
    connect_emulator()
    images = ee.ImageCollection(S2).filterDate("2018-07-01", "2018-07-10")
    options = {"aoi": BOX, "bands": "B4", "cache": False, "url": emulator().url}

    def with_time(scale):
        return images.map(
            lambda i: i.set("system:time_start", ee.Number(i.date().millis()).multiply(scale))
        )

    with pytest.raises(TimoError, match=r"cannot be milliseconds.*ee.Date\(...\).millis\(\)"):
        from_ee_image_collection(with_time(factor), **options)
    # As the message says.
    cube = from_ee_image_collection(with_time(1), **options)
    assert str(cube.time.values[0])[:7] == "2018-07"
