import dataclasses
import datetime as dt
import inspect
import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from timo.cube.composite import period_starts
from timo.errors import TimoError
from timo.sensors import SENSORS, Band, Sensor, get_sensor
from timo.sources.dates import make_span
from timo.sources.place.aoi import parse_aoi
from timo.sources.place.grid import grid_of
from timo.sources.request import CubeRequest, make_bands, make_composite, make_request
from timo.sources.sample import open_sample

BOX = (22.0, 45.0, 22.1, 45.1)
PARIS = dt.timezone(dt.timedelta(hours=2))


def make(**options):
    return make_request(**{"aoi": BOX, "start": "2019", "end": "2019", **options})


def refusal(**options):
    with pytest.raises(TimoError) as caught:
        make(**options)
    return str(caught.value)


@pytest.fixture(scope="module")
def cube():
    return open_sample("2018-07", "2018-07")


def test_what_is_taken_if_nothing_is_said():
    request = make()
    sentinel = get_sensor("sentinel-2")
    assert request.sensor is sentinel
    assert request.bands == sentinel.default_bands
    assert request.masked == sentinel.masked
    assert request.buffer_m == sentinel.fringe_m
    assert request.fringed == sentinel.fringed
    assert request.grid.crs == "EPSG:32634"
    assert request.grid.resolution == 10
    assert (request.composite, request.max_cloud, request.clip) == (None, None, False)


def test_what_is_said():
    request = make(
        bands=["B8", "B4"],
        resolution=60,
        crs=3035,
        composite="1MS",
        max_cloud=np.float32(30),
        masked_classes=[np.int64(9), 8, 9],
        buffer_m=0,
        clip=True,
    )
    assert request.bands == ("B8", "B4")
    assert request.grid.resolution == 60
    assert request.grid.crs == "EPSG:3035"
    assert request.composite == "1MS"
    assert request.max_cloud == 30
    assert request.masked == request.fringed == (9, 8)
    assert request.buffer_m == 0
    assert request.clip is True


@pytest.mark.parametrize("name", SENSORS)
def test_every_sensor_can_be_asked_for(name):
    request = make(sensor=name)
    finest = min(request.sensor.band(band).gsd_m for band in request.bands)
    assert request.grid.metres == pytest.approx(finest)
    assert request.sensor.name == name


@pytest.fixture
def formosat():
    """A sensor of one's own, which is forgotten after the test."""
    bands = (Band("B1", "blue", 0.485, 8), Band("B3", "red", 0.66, 8), Band("B4", "nir", 0.83, 8))
    yield Sensor("formosat-2-test", "Formosat-2 RSI", bands, scale=1e-4)
    SENSORS.pop("formosat-2-test", None)


def test_a_sensor_of_ones_own_is_asked_for_by_name_or_as_it_is(formosat):
    assert "register_sensor" in refusal(sensor="formosat-2-test")
    request = make(sensor=formosat, bands=["nir", "red"])
    assert request.sensor is get_sensor("formosat-2-test")
    assert request.bands == ("B4", "B3")
    assert request.grid.resolution == 8
    assert make(sensor="formosat-2-test", bands=["nir", "red"]) == request
    assert make(sensor=get_sensor("sentinel-2")) == make()
    changed = dataclasses.replace(get_sensor("sentinel-2"), scale=1e-3)
    assert "comes with timo" in refusal(sensor=changed)


@pytest.mark.parametrize(
    ("sensor", "bands", "names"),
    [
        ("landsat-4-7", ["red", "nir08", "swir16"], ("SR_B3", "SR_B4", "SR_B5")),
        ("landsat-8-9", ["red", "nir08", "swir16"], ("SR_B4", "SR_B5", "SR_B6")),
        ("hls-l30", ["red", "nir08"], ("B4", "B5")),
        ("hls-s30", ["red", "nir08"], ("B4", "B8A")),
        ("force", ["red", "BNR"], ("RED", "BROADNIR")),
        ("sentinel-2-l1c", ["red", "nir"], ("B4", "B8")),
    ],
)
def test_bands_of_every_product_by_common_names_and_aliases(sensor, bands, names):
    assert make_bands(get_sensor(sensor), bands) == names


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("landsat7", "landsat-4-7"),
        ("LT05", "landsat-4-7"),
        ("S2 L1C", "sentinel-2-l1c"),
        ("PlanetScope", "planetscope-4"),
        ("HLS", "hls-s30"),
    ],
)
def test_names_of_sensors_that_people_write(said, meant):
    assert f"Did you mean '{meant}'?" in refusal(sensor=said)


def test_the_finest_of_the_bands_gives_the_resolution():
    assert make(bands="B11").grid.resolution == 20
    assert make(bands=["B1"]).grid.resolution == 60
    # In degrees, as long as the metres are along the equator.
    assert make(crs=4326, bands="B4").grid.resolution == pytest.approx(10 / 111_319.49)
    assert make(crs=2154).grid.resolution == 10


def test_options_beside_place_and_time_go_by_name():
    kinds = [p.kind for p in inspect.signature(make_request).parameters.values()]
    assert kinds[:3] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 3
    assert set(kinds[3:]) == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"aoi": None}, ("aoi is missing", "(west, south, east, north)", "like=")),
        ({"aoi": (1, 2)}, ("not four finite numbers",)),
        ({"start": None}, ("start is missing", 'start="2019-01-01"')),
        ({"end": None}, ("end is missing",)),
        ({"sensor": "sentinel-5"}, ("Unknown sensor 'sentinel-5'",)),
        ({"sensor": None}, ("sensor must be text or a timo.Sensor; got None",)),
        ({"bands": ["B4", "B99"]}, ("no band 'B99'",)),
        ({"bands": ["B4", "B4"]}, ("each once",)),
        ({"bands": []}, ("at least one band",)),
        ({"resolution": "10"}, ("resolution must be a number above 0", "Write resolution=10")),
        ({"resolution": True}, ("resolution must be a number above 0",)),
        ({"resolution": 0.1, "max_megapixels": 5}, ("too large", "the limit is 5 megapixels")),
        ({"crs": "moon"}, ("crs='moon' cannot be read",)),
        ({"max_cloud": 101}, ("max_cloud must be a number from 0 to 100 or None; got 101",)),
        ({"max_cloud": -1}, ("max_cloud",)),
        ({"max_cloud": "20"}, ("max_cloud", "'20'")),
        ({"max_cloud": True}, ("max_cloud", "True")),
        ({"max_cloud": math.nan}, ("max_cloud", "nan")),
        ({"buffer_m": -1}, ("buffer_m must be a number from 0 to 10000 or None; got -1",)),
        ({"buffer_m": math.inf}, ("buffer_m",)),
        ({"buffer_m": "50"}, ("buffer_m",)),
        ({"masked_classes": [12]}, ("no quality class 12", "11 snow or ice")),
        (
            {"masked_classes": 9},
            (
                "masked_classes must be a list of whole numbers; got 9",
                "8 cloud, medium probability",
            ),
        ),
        (
            {"masked_classes": "cloud"},
            (
                "got 'cloud'",
                "() masks nothing",
            ),
        ),
        ({"masked_classes": [9.5]}, ("number 0 is 9.5",)),
        ({"sensor": "sentinel-1", "masked_classes": [1]}, ("no quality class 1", "none")),
        ({"clip": "yes"}, ("clip must be True or False",)),
        ({"clip": 1}, ("clip must be True or False",)),
        ({"composite": "12h"}, ("composite='12h' is no period", "QS-DEC")),
        ({"composite": "ME"}, ("composite='ME'",)),
        ({"composite": "-1MS"}, ("composite='-1MS'",)),
        ({"composite": "fortnight"}, ("composite='fortnight'",)),
        ({"composite": 30}, ("composite=30 is no period", "None for every date")),
        ({"composite": True}, ("composite=True",)),
    ],
)
def test_refused(options, words):
    message = refusal(**options)
    for word in words:
        assert word in message


# --- like


def test_on_the_cells_of_a_cube(cube):
    request = make_request(like=cube, start="2018", end="2018")
    assert request.grid == grid_of(cube)
    assert request.area == request.grid.area
    np.testing.assert_array_equal(request.grid.x, cube.x)
    assert make_request(like=cube.to_dataset(name="map"), start="2018", end="2018") == request
    inside = (22.15, 45.202, 22.155, 45.207)
    request = make(like=cube, aoi=inside, clip=True)
    assert request.grid == grid_of(cube)
    assert request.area == parse_aoi(inside)
    assert 0.1 < float(request.grid.mask_of(request.area).mean()) < 0.5


def test_like_refused(cube):
    assert "leave out resolution and crs, or like" in refusal(
        aoi=None, like=cube, resolution=10, crs=3035
    )
    assert "leave out crs, or like" in refusal(aoi=None, like=cube, crs=3035)
    assert "does not meet the grid of like=" in refusal(like=cube, aoi=(23, 45, 24, 46))
    for like in (cube.values, xr.Dataset()):
        assert "like= takes a cube or raster" in refusal(aoi=None, like=like)
    bare = cube.drop_vars("spatial_ref")
    assert "no coordinate reference system" in refusal(aoi=None, like=bare)


# --- dates


@pytest.mark.parametrize(
    ("date", "first", "after"),
    [
        ("2019", "2019-01-01", "2020-01-01"),
        (2019, "2019-01-01", "2020-01-01"),
        (np.int64(2019), "2019-01-01", "2020-01-01"),
        ("2019-07", "2019-07-01", "2019-08-01"),
        ("2019Q3", "2019-07-01", "2019-10-01"),
        ("2019-07-31", "2019-07-31", "2019-08-01"),
        ("20190731", "2019-07-31", "2019-08-01"),
        (" 2019-07-31 ", "2019-07-31", "2019-08-01"),
        ("2019-07-31T23:59:59", "2019-07-31", "2019-08-01"),
        ("2019-07-31T10:00Z", "2019-07-31", "2019-08-01"),
        ("2019-07-31T23:00+02:00", "2019-07-31", "2019-08-01"),
        (dt.date(2019, 7, 31), "2019-07-31", "2019-08-01"),
        (dt.datetime(2019, 7, 31, 23), "2019-07-31", "2019-08-01"),
        (dt.datetime(2019, 7, 31, 1, tzinfo=PARIS), "2019-07-31", "2019-08-01"),
        (pd.Timestamp("2019-07-31T23:00", tz="Asia/Tokyo"), "2019-07-31", "2019-08-01"),
        (pd.Period("2019-07"), "2019-07-01", "2019-08-01"),
        (pd.Period("2019-07-31T10:00", freq="h"), "2019-07-31", "2019-08-01"),
        (np.datetime64("2019"), "2019-01-01", "2020-01-01"),
        (np.datetime64("2019-07"), "2019-07-01", "2019-08-01"),
        (np.datetime64("2019-07-31"), "2019-07-31", "2019-08-01"),
        (np.datetime64("2019-07-31T10:00", "ns"), "2019-07-31", "2019-08-01"),
    ],
)
def test_a_part_of_a_date_means_all_of_it(date, first, after):
    assert make_span(date, date) == (pd.Timestamp(first), pd.Timestamp(after))


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "31.07.2019",
        "07/08/2019",
        "2019-13",
        "2019-02-30",
        "NaT",
        pd.NaT,
        np.datetime64("NaT"),
        20190731,
        -2019,
        True,
        2019.5,
        math.nan,
        [2019],
        {},
    ],
)
def test_no_dates(date):
    with pytest.raises(TimoError, match=r'cannot be read as a date: .*write "2019') as caught:
        make_span(date, "2021")
    assert "start=" in str(caught.value)
    with pytest.raises(TimoError, match="end="):
        make_span("2000", date)


@pytest.mark.parametrize(
    ("date", "said"),
    [
        (
            "01/05/2018",
            'it may be 1 May 2018 or 5 January 2018; write "2018-05-01" or "2018-01-05"',
        ),
        ("1-5-2018", 'it may be 1 May 2018 or 5 January 2018; write "2018-05-01" or "2018-01-05"'),
        ("05/05/2018", 'date: write "2018-05-05"'),
        ("31.07.2019", 'date: write "2019-07-31"'),
        (20190731, 'date: write "2019-07-31"'),
        ("45/45/2018", 'date: write "2019", "2019-07" or "2019-07-31"'),
    ],
)
def test_what_was_probably_meant_is_said_as_it_is_to_be_written(date, said):
    with pytest.raises(TimoError) as caught:
        make_span(date, "2021")
    assert str(caught.value).endswith(said)


def test_the_end_is_included_and_not_before_the_start():
    assert make_span("2019-07-31", "2019") == (pd.Timestamp("2019-07-31"), pd.Timestamp("2020"))
    with pytest.raises(TimoError, match="end='2018' is before start='2019'"):
        make_span("2019", "2018")
    for start, end in (("0001", "2019"), ("2019", "9999"), (19, 2019)):
        with pytest.raises(TimoError, match="not within the years 1950 to 2200"):
            make_span(start, end)


@pytest.mark.parametrize(
    ("start", "end"), [("2018", "2018"), ("2018-07", "2018-08-02"), ("2018-07-01", "2018-07-01")]
)
def test_dates_mean_what_they_mean_to_the_sample(start, end):
    first, after = make_span(start, end)
    times = open_sample().indexes["time"]
    expected = open_sample(start, end).indexes["time"]
    assert times[(times >= first) & (times < after)].equals(expected)


@given(st.dates(dt.date(1985, 1, 1), dt.date(2100, 1, 1)), st.integers(0, 1000))
def test_all_ways_to_write_a_day_agree(day, length):
    last = day + dt.timedelta(days=length)
    first, after = make_span(day, last)
    assert (after - first).days == length + 1
    assert make_span(day.isoformat(), last.isoformat()) == (first, after)
    assert make_span(np.datetime64(day), pd.Timestamp(last)) == (first, after)


# --- composites and days


@pytest.mark.parametrize("name", ["1MS", "2MS", "QS-DEC", "YS", "W-MON", "16D", "month", "season"])
def test_composites(name):
    assert make_composite(name) == name
    days = pd.date_range("2019-01-01", "2019-12-31")
    starts = period_starts(days, name, "2019-01-01")
    assert (starts <= days).all()


def test_solar_days():
    request = make(aoi=(178.0, -17, 179.0, -16))
    times = pd.DatetimeIndex(["2019-06-30T22:20:00", "2019-06-30T12:00:00"])
    assert request.area.centre[0] == 178.5
    assert request.solar_day(times).tolist() == [pd.Timestamp("2019-07-01")] * 1 + [
        pd.Timestamp("2019-06-30")
    ]
    start = request.utc(pd.Timestamp("2019-07-01"))
    assert start == pd.Timestamp("2019-06-30T12:06:00")
    assert request.solar_day(pd.DatetimeIndex([start])) == pd.DatetimeIndex(["2019-07-01"])
    before = start - pd.Timedelta("1s")
    assert request.solar_day(pd.DatetimeIndex([before])) == pd.DatetimeIndex(["2019-06-30"])


def test_a_request_can_be_made_by_hand_and_compared():
    request = make()
    same = CubeRequest(
        request.area,
        request.grid,
        request.start,
        request.end,
        request.sensor,
        request.bands,
        masked=request.masked,
        buffer_m=50,
    )
    assert request == same
    assert request == make(start="2019-01-01", end="2019-12-31")
