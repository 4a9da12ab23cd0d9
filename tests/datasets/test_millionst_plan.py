"""What is fetched of a place, and what it costs, before anything is asked."""

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.datasets.millionst import ChipPlan, Place, PlaceRule, estimate, sample_places
from timo.datasets.millionst.plan import Image
from timo.errors import TimoError
from timo.sensors import get_sensor

few = settings(max_examples=50, deadline=None)
lons, lats = st.floats(-180, 179.999), st.floats(-56, 82.8)


def place(lon, lat):
    return Place(lon, lat, "Cfb", "climate")


def solar(lon=0.0):
    """A request for a place there, whose days are those of the sun."""
    plan = ChipPlan()
    return plan.request(plan.target(place(lon, 0.0)))


# --- where


@few
@given(lon=lons, lat=lats, size=st.integers(1, 264), resolution=st.sampled_from([10, 20, 12.5]))
def test_a_chip_is_around_its_place_and_aligned(lon, lat, size, resolution):
    grid = (
        ChipPlan(size=size, resolution=resolution, rule=PlaceRule(distance_m=8000))
        .target(place(lon, lat))
        .grid
    )
    assert grid.shape == (size, size)
    assert grid.left % resolution == grid.top % resolution == 0
    x, y = pyproj.Transformer.from_crs(4326, grid.crs, always_xy=True).transform(lon, lat)
    left, bottom, right, top = grid.bounds
    assert abs((left + right) / 2 - x) <= resolution
    assert abs((bottom + top) / 2 - y) <= resolution


def test_the_grid_is_that_of_the_utm_zone():
    assert ChipPlan().target(place(23.5, 46.8)).grid.crs == "EPSG:32634"
    assert ChipPlan().target(place(-179.9, -17.0)).grid.crs == "EPSG:32701"


@pytest.mark.parametrize("seed", range(3))
def test_chips_do_not_overlap(seed):
    # All around cities, as near to each other as they get, on both sides of borders of UTM zones.
    plan = ChipPlan(rule=PlaceRule(seed, 1.0, city_km=5))
    places = sample_places(3000, seed, around_cities=1.0, city_km=5)
    shapes = []
    for each in places.itertuples():
        grid = plan.target(place(each.lon, each.lat)).grid
        to_degrees = pyproj.Transformer.from_crs(grid.crs, 4326, always_xy=True)
        square = shapely.segmentize(shapely.box(*grid.bounds), 500)
        shapes.append(
            shapely.transform(square, lambda p, t=to_degrees: np.column_stack(t.transform(*p.T)))
        )
    tree = shapely.STRtree(shapes)
    first, second = tree.query(shapes, predicate="intersects")
    assert (first == second).all()
    near = tree.query(shapes, predicate="dwithin", distance=0.02)
    # Neighbours there are: the test could fail.
    assert (near[0] != near[1]).sum() > 100


def test_chips_that_would_overlap_are_refused():
    with pytest.raises(TimoError, match="at least 7"):
        ChipPlan(size=500)
    assert ChipPlan(size=500, rule=PlaceRule(distance_m=7200)).size == 500


def test_a_key_is_of_grid_and_windows():
    plan, here = ChipPlan(), place(23.5, 46.8)
    key = plan.target(here).key
    assert ChipPlan(places=5, max_cloud=80).target(here).key == key
    others = [
        ChipPlan(size=128).target(here),
        ChipPlan(end="2022").target(here),
        ChipPlan(dates=5).target(here),
        plan.target(place(23.6, 46.8)),
    ]
    assert len({key, *(target.key for target in others)}) == 5


def test_a_request_asks_for_digital_numbers_of_the_chip():
    plan = ChipPlan(size=32)
    target = plan.target(place(23.5, 46.8))
    request = plan.request(target)
    assert (request.sensor.scale, request.sensor.offset) == (1, 0)
    assert request.sensor.name == "sentinel-2"
    assert request.grid == target.grid
    assert request.bands == get_sensor("sentinel-2").default_bands
    assert request.area.geometry.contains(shapely.Point(23.5, 46.8))


# --- when


@few
@given(days=st.integers(1, 2500), dates=st.integers(1, 60))
def test_windows_share_out_the_span_evenly(days, dates):
    end = pd.Timestamp("2019-01-01") + pd.Timedelta(days - 1, "D")
    if days < dates:
        with pytest.raises(TimoError, match="fewer than dates"):
            ChipPlan(dates=dates, end=str(end.date()))
        return
    windows = ChipPlan(dates=dates, end=str(end.date())).windows
    lengths = np.diff(windows).astype("timedelta64[D]").astype(int)
    assert len(lengths) == dates
    assert lengths.sum() == days
    assert np.ptp(lengths) <= 1


def test_ten_windows_of_five_years_are_half_years():
    windows = ChipPlan().windows
    assert windows[0] == pd.Timestamp("2019-01-01")
    assert windows[-1] == pd.Timestamp("2024-01-01")
    assert set(np.diff(windows).astype("timedelta64[D]").astype(int)) <= {182, 183}


@few
@given(
    found=st.lists(
        st.tuples(
            st.datetimes(pd.Timestamp("2018-06-01"), pd.Timestamp("2020-06-01")),
            st.integers(0, 4),
        ),
        max_size=40,
        unique_by=lambda pair: pair[0],
    ),
    lon=lons,
    dates=st.integers(1, 8),
)
def test_the_clearest_image_of_each_window_is_chosen_and_the_first_of_equals(found, lon, dates):
    plan = ChipPlan(dates=dates, end="2019-12-31")
    images = [Image(str(i), pd.Timestamp(time), unseen) for i, (time, unseen) in enumerate(found)]
    chosen = plan.choose(images, solar(lon))
    expected = []
    for begin, end in zip(plan.windows[:-1], plan.windows[1:], strict=True):
        day_of = {i: solar(lon).solar_day(pd.DatetimeIndex([i.time]))[0] for i in images}
        inside = [image for image in images if begin <= day_of[image] < end]
        if inside:
            least = min(image.unseen for image in inside)
            best = min((i for i in inside if i.unseen == least), key=lambda image: image.time)
            expected.append((best, (day_of[best] - pd.Timestamp(0)).days))
    assert chosen == expected
    days = [day for _, day in chosen]
    assert days == sorted(set(days))


# --- how much


@few
@given(
    size=st.integers(1, 1200),
    dates=st.integers(1, 300),
    bands=st.integers(1, 12),
)
def test_no_request_is_more_than_earth_engine_sends(size, dates, bands):
    names = get_sensor("sentinel-2").band_names[:bands]
    options = {"size": size, "dates": dates, "bands": names, "rule": PlaceRule(distance_m=50_000)}
    try:
        plan = ChipPlan(**options)
    except TimoError:
        assert bands * size**2 * 3 > 48 * 2**20
        return
    # So many dates go into the largest of the parts.
    most = -(-dates // plan.parts)
    assert most * bands * size**2 * 3 <= 48 * 2**20
    assert most * bands <= 1024
    assert plan.place_bytes == dates * bands * size**2 * 2


def test_the_whole_data_set():
    cost = estimate(ChipPlan())
    assert cost.places == cost.pixels == 100_000
    assert cost.listings == 5000
    assert cost.bytes == 100_000 * 10 * 10 * 264**2 * 2
    assert cost.hours == pytest.approx(105_000 / 100 / 3600)
    assert cost.hours_at(10) == pytest.approx(105_000 * 10 / 40 / 3600)
    text = cost.describe()
    for figure in ("100,000 to fetch", "105,000", "1.39 TB", "7.29 h", "18 min", "EECU"):
        assert figure in text


def test_what_is_there_costs_nothing():
    assert estimate(ChipPlan(), 100_000).requests == 0
    assert estimate(ChipPlan(), 99_970).requests == 30 + 2
    assert "0 to fetch" in estimate(ChipPlan(), 100_000).describe()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"places": 0}, "places must be a whole number of 1 or more; got 0"),
        ({"dates": 0}, "dates must be a whole number of 1 or more; got 0"),
        ({"size": 0.5}, "size must be a whole number of 1 or more; got 0.5"),
        ({"resolution": 0}, "resolution must be a number from 1 to 1000; got 0"),
        ({"max_cloud": 101}, "max_cloud must be a number from 0 to 100; got 101"),
        ({"min_clear": -0.1}, "min_clear must be a number from 0 to 1; got -0.1"),
        ({"min_dates": 11}, "1 to dates=10"),
        ({"start": "summer"}, "cannot be read as a date"),
        ({"end": "2018"}, "is before"),
        ({"bands": ["B99"]}, "no band 'B99'"),
        ({"size": 1300, "rule": PlaceRule(distance_m=50_000)}, "smaller size"),
    ],
)
def test_what_makes_no_sense_is_refused(options, said):
    with pytest.raises(TimoError, match=said):
        ChipPlan(**options)
