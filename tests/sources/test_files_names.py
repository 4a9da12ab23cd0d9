import datetime as dt
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.sensors import SENSORS, get_sensor
from timo.sources.files.inventory import identities_of
from timo.sources.files.naming import choose_sensor, find_band, is_beside, match_band, read_bands
from timo.sources.dates import as_moment, date_of_name, date_of_tags, find_dates, strip_dates

S2 = get_sensor("sentinel-2")
LANDSAT = get_sensor("landsat-8-9")
DAY_FORMATS = ("%Y%m%d", "%Y-%m-%d", "%Y_%m_%d", "%Y.%m.%d", "%Y%j", "doy%Y%j", "A%Y%j")
CLOCK_FORMATS = (
    "%Y%m%dT%H%M%S",
    "%Y-%m-%dT%H%M%S",
    "%Y%m%dt%H%M%S",
    "%Y%m%d%H%M%S",
    "%Y-%m-%dT%H-%M-%S",
)

days = st.dates(dt.date(1972, 1, 1), dt.date(2099, 12, 31))
instants = st.datetimes(dt.datetime(1972, 1, 1), dt.datetime(2099, 12, 31)).map(
    lambda time: time.replace(microsecond=0)
)
# Neither letters that would make a number part of a code, nor digits.
prefixes = st.sampled_from(["", "tile_", "T34TFR_", "scene-", "LC08_L2SP_184029_", "x.y_"])
suffixes = st.sampled_from(["", "_B04", "_B04_10m", ".B8A", "-red", "_SCL_20m", "_v2"])


@given(days, st.sampled_from(DAY_FORMATS), prefixes, suffixes)
def test_a_day_in_a_name_is_read_back(day, form, before, after):
    moment = date_of_name(Path(f"{before}{day.strftime(form)}{after}.tif"))
    assert moment is not None
    assert moment.time == pd.Timestamp(day)
    assert not moment.exact


@given(instants, st.sampled_from(CLOCK_FORMATS), prefixes, suffixes)
def test_a_time_in_a_name_is_read_back(instant, form, before, after):
    moment = date_of_name(Path(f"{before}{instant.strftime(form)}{after}.tif"))
    assert moment is not None
    assert moment.time == pd.Timestamp(instant)
    assert moment.exact


@given(days, st.sampled_from(DAY_FORMATS), prefixes, suffixes)
def test_stripping_leaves_no_date_and_all_the_rest(day, form, before, after):
    rest = strip_dates(f"{before}{day.strftime(form)}{after}")
    assert find_dates(rest) == []
    assert before in rest
    assert after in rest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "S2A_MSIL2A_20180701T092031_N0208_R093_T34TFR_20180702T112345.SAFE",
            "2018-07-01T09:20:31",
        ),
        ("LC08_L2SP_184029_20190714_20200827_02_T1_SR_B4.TIF", "2019-07-14"),
        (
            "S1A_IW_GRDH_1SDV_20180701T235950_20180702T000015_022600_0272D5_ABCD_vv.tif",
            "2018-07-01T23:59:50",
        ),
        (
            "s1a-iw-grd-vv-20180701t235950-20180702t000015-022600-0272d5-001.tiff",
            "2018-07-01T23:59:50",
        ),
        ("MOD09A1.A2018185.h19v04.061.2021194031450_sur_refl_b01.tif", "2018-07-04"),
        ("MOD13Q1.061__250m_16_days_NDVI_doy2018177_aid0001.tif", "2018-06-26"),
        ("20180701/B04.tif", "2018-07-01"),
        ("S2A_34TFR_20180701_0_L2A/B04.tif", "2018-07-01"),
        ("20180701_20180701T092031_B04.tif", "2018-07-01T09:20:31"),
    ],
)
def test_the_sensing_date_of_products(name, expected):
    moment = date_of_name(Path(name))
    assert moment is not None
    assert moment.time == pd.Timestamp(expected)


@pytest.mark.parametrize(
    "name",
    [
        "forest.tif",
        "20181345.tif",
        "2018400.tif",
        "19180701.tif",
        "120180701.tif",
        "LC08_184029.tif",
    ],
)
def test_what_is_no_date_is_none(name):
    assert date_of_name(Path(name)) is None


def test_two_dates_in_a_name_are_not_guessed_between():
    with pytest.raises(
        TimoError, match=r"20180701_20190701\.tif has more than one date.*2018-07-01 and 2019-07-01"
    ):
        date_of_name(Path("change_20180701_20190701.tif"))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"TIFFTAG_DATETIME": "2018:07:01 09:20:31"}, "2018-07-01T09:20:31"),
        (
            {"ACQUISITION_DATE": "2018-07-01", "TIFFTAG_DATETIME": "2020:01:01 00:00:00"},
            "2018-07-01",
        ),
        (
            {"ACQUISITION_DATE": "2018-07-01", "ACQUISITION_TIME": "09:20:31Z"},
            "2018-07-01T09:20:31",
        ),
        ({"acquisition_datetime": "2018-07-01T11:20:31+02:00"}, "2018-07-01T09:20:31"),
        ({"SENSING_TIME": "2018-07-01T09:20:31.024Z"}, "2018-07-01T09:20:31.024"),
        ({"ACQUISITION_DATE": "summer", "DATETIME": "2018-07-01 09:20:31"}, "2018-07-01T09:20:31"),
    ],
)
def test_dates_of_tags(tags, expected):
    moment = date_of_tags(tags)
    assert moment is not None
    assert moment.time == pd.Timestamp(expected)


def test_tags_without_a_date_say_nothing():
    assert date_of_tags({"AREA_OR_POINT": "Area", "DATETIME": "12:30:00"}) is None


@pytest.mark.parametrize(
    "value",
    [
        "2018-07-01",
        "20180701",
        20180701,
        "2018182",
        dt.date(2018, 7, 1),
        pd.Timestamp("2018-07-01"),
        dt.datetime(2018, 7, 1),
    ],
)
def test_a_given_date_has_many_forms(value):
    assert as_moment(value).time == pd.Timestamp("2018-07-01")
    assert not as_moment(value).exact


@pytest.mark.parametrize("value", ["", "soon", None, pd.NaT, "12:30:00"])
def test_what_is_no_date_is_refused(value):
    with pytest.raises((ValueError, TypeError)):
        as_moment(value)


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
def test_every_band_is_known_by_all_its_names(sensor):
    for band in sensor.bands:
        names = {band.name, band.name.lower(), band.name.upper(), band.common_name or band.name}
        names |= {collection.name(band.name) for collection in sensor.collections}
        for name in names:
            assert match_band(name, sensor) == band.name, name
            assert find_band(f"tile_20180701_{name}", sensor) == band.name, name
    if sensor.mask_name:
        for collection in sensor.collections:
            assert match_band(collection.name(sensor.mask_name), sensor) == sensor.mask_name


@pytest.mark.parametrize(
    ("name", "sensor", "expected"),
    [
        ("B04", S2, "B4"),
        ("b8a", S2, "B8A"),
        ("band_4", S2, "B4"),
        ("Band4", S2, "B4"),
        ("nir", S2, "B8"),
        ("swir1", S2, "B11"),
        ("scl", S2, "SCL"),
        ("red_edge_1", S2, "B5"),
        ("red edge", S2, None),
        ("sr_b4", LANDSAT, "SR_B4"),
        ("B4", LANDSAT, "SR_B4"),
        ("nir", LANDSAT, "SR_B5"),
        ("qa_pixel", LANDSAT, "QA_PIXEL"),
        ("b01", get_sensor("modis"), "sur_refl_b01"),
        ("StateQA", get_sensor("modis"), "state"),
        ("sur_refl_state_500m", get_sensor("modis"), "state"),
        ("ndvi", get_sensor("modis-vegetation"), "NDVI"),
        ("vv", get_sensor("sentinel-1"), "VV"),
        ("thermal", S2, None),
    ],
)
def test_spellings_of_bands(name, sensor, expected):
    assert match_band(name, sensor) == expected
    assert find_band(f"20180701_{name}", sensor) == expected


@pytest.mark.parametrize(
    ("name", "sensor", "expected"),
    [
        ("T34TFR_20180701T092031_B04_10m", S2, "B4"),
        ("LC08_L2SP_184029_20190714_20200827_02_T1_SR_B4", LANDSAT, "SR_B4"),
        ("LC08_L2SP_184029_20190714_20200827_02_T1_QA_PIXEL", LANDSAT, "QA_PIXEL"),
        (
            "MOD13Q1.061__250m_16_days_NDVI_doy2018177_aid0001",
            get_sensor("modis-vegetation"),
            "NDVI",
        ),
        (
            "MOD13Q1.061__250m_16_days_pixel_reliability_doy2018177_aid0001",
            get_sensor("modis-vegetation"),
            "reliability",
        ),
        ("MOD09A1.061_sur_refl_b01_doy2018185_aid0001", get_sensor("modis"), "sur_refl_b01"),
        ("20180701_red_B04", S2, "B4"),
        ("forest_20180701", S2, None),
    ],
)
def test_bands_in_names_of_files(name, sensor, expected):
    assert find_band(name, sensor) == expected


def test_a_name_with_two_bands_is_not_guessed():
    with pytest.raises(TimoError, match=r"'B04_B08' could be the band B4 or B8"):
        find_band("B04_B08", S2)


def test_bands_asked_for_are_spelt_as_the_sensor_does():
    assert read_bands(["red", "b8a", "B11"], S2) == ("B4", "B8A", "B11")
    with pytest.raises(TimoError, match=r"sentinel-2 has no band 'purple'"):
        read_bands(["purple"], S2)
    with pytest.raises(TimoError, match="each once"):
        read_bands(["red", "B04"], S2)


@pytest.mark.parametrize(
    "name",
    ["T34TFR_20180701T092031_TCI_10m", "LC08_L2SP_184029_20190714_02_T1_ST_TRAD", "MSK_CLDPRB_20m"],
)
def test_layers_that_no_cube_holds(name):
    assert is_beside(name)
    assert not is_beside("20180701_B04")


def guess(paths, layers):
    identities = identities_of({Path(path): {} for path in paths})
    return choose_sensor(None, identities, layers)


@pytest.mark.parametrize(
    ("paths", "layers", "expected"),
    [
        (["S2B_34TFR_20180701_0_L2A/B04.tif"], ["B04"], "sentinel-2"),
        (["T34TFR_20180701T092031_B04_10m.jp2"], ["x"], "sentinel-2"),
        (["LC09_L2SP_184029_20220714_20220827_02_T1_SR_B4.TIF"], ["x"], "landsat-8-9"),
        (["MOD13Q1.A2018177.tif"], ["x"], "modis-vegetation"),
        (["MOD09A1.A2018177.tif"], ["x"], "modis"),
        (["s1a-iw-grd-vv-20180701t043012.tiff"], ["x"], "sentinel-1"),
        (["a.tif"], ["B2", "B8A", "SCL"], "sentinel-2"),
        (["a.tif"], ["B02", "B03", "B04"], "sentinel-2"),
        (["a.tif"], ["SR_B4", "QA_PIXEL"], "landsat-8-9"),
        (["a.tif"], ["VV", "VH"], "sentinel-1"),
        (["a.tif"], ["EVI"], "modis-vegetation"),
    ],
)
def test_the_sensor_where_it_is_certain(paths, layers, expected):
    assert guess(paths, layers).name == expected


@pytest.mark.parametrize(
    ("paths", "layers"),
    [
        (["a.tif"], ["red", "nir"]),
        (["a.tif"], ["B2", "B3", "B4"]),
        (["a.tif"], ["band 1"]),
        (["HLS.L30.T34TFR.2018182_B04.tif"], ["B04"]),
        (["S2A_x.tif", "LC08_L2SP_x.tif"], ["B4"]),
        (["a.tif"], []),
    ],
)
def test_a_sensor_is_not_guessed(paths, layers):
    assert guess(paths, layers) is None
