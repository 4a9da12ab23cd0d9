"""Places of a data set for pretraining: on land, apart, in all climates, around cities, and always the same."""

import numpy as np
import pyproj
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.datasets.millionst import sample_places
from timo.datasets.millionst.world import CLIMATES, ICE_CAP, LAND_CELL, NORTH, load_world
from timo.errors import TimoError

few = settings(max_examples=20, deadline=None)
rules = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "around_cities": st.floats(0, 1),
        "distance_m": st.floats(1000, 20_000),
        "city_km": st.floats(1, 100),
    }
)
GEOD = pyproj.Geod(ellps="WGS84")


@pytest.fixture(scope="module")
def many():
    return sample_places(20_000)


def chord_m(lon, lat):
    """Coordinates whose straight distances are a hair less than those on the ground."""
    to_space = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    return np.column_stack(to_space.transform(lon, lat, np.zeros(len(lon))))


def nearest_m(places):
    from scipy.spatial import cKDTree

    points = chord_m(places.lon.to_numpy(), places.lat.to_numpy())
    return cKDTree(points).query(points, k=2)[0][:, 1]


@few
@given(rule=rules, n=st.integers(1, 1500), more=st.integers(0, 1500))
def test_more_places_begin_with_the_same(rule, n, more):
    fewer, longer = sample_places(n, **rule), sample_places(n + more, **rule)
    assert len(fewer) == n
    assert longer.head(n).equals(fewer)


@few
@given(rule=rules)
def test_places_are_apart(rule):
    # Chord and arc differ by a millionth at this distance.
    assert nearest_m(sample_places(2000, **rule)).min() >= rule["distance_m"] * (1 - 1e-6)


@few
@given(rule=rules)
def test_places_are_on_surveyed_land_without_ice(rule):
    places = sample_places(500, **rule)
    lon, lat = places.lon.to_numpy(), places.lat.to_numpy()
    land = load_world().land
    row = np.floor((NORTH - lat) / LAND_CELL).astype(int)
    column = np.floor((lon + 180) / LAND_CELL).astype(int)
    assert land[row, column].all()
    assert lat.min() >= -56
    assert lat.max() <= 82.8
    assert ((lon >= -180) & (lon < 180)).all()
    assert set(places.climate) <= set(CLIMATES[1:]) - {CLIMATES[ICE_CAP]}


@few
@given(rule=rules, n=st.integers(1, 1000))
def test_the_share_around_cities_is_kept_at_every_length(rule, n):
    around = (sample_places(n, **rule).kind == "city").cumsum().to_numpy()
    expected = np.arange(1, n + 1) * rule["around_cities"]
    assert (np.abs(around - expected) <= 1).all()


def test_places_of_the_kind_city_are_near_one(many):
    from scipy.spatial import cKDTree

    world = load_world()
    cities = cKDTree(chord_m(world.cities[:, 0], world.cities[:, 1]))
    km = {
        kind: cities.query(chord_m(part.lon.to_numpy(), part.lat.to_numpy()))[0] / 1000
        for kind, part in many.groupby("kind")
    }
    # Of a normal distribution in the plane, 39 % are within one standard deviation, and all but 1 in 3,000 within four.
    assert np.mean(km["city"] < 25 + 3) > 0.39
    assert np.mean(km["city"] < 100 + 3) > 0.999
    assert np.median(km["climate"]) > 3 * np.median(km["city"])


def test_all_climates_are_there_and_rare_ones_more_than_their_area(many):
    shares = many[many.kind == "climate"].climate.value_counts(normalize=True)
    assert set(shares.index) == set(CLIMATES[1:]) - {CLIMATES[ICE_CAP]}
    world = load_world()
    rows = NORTH - (np.arange(len(world.climates)) + 0.5) * 0.25
    areas = np.bincount(
        world.climates.ravel(), np.repeat(np.cos(np.radians(rows)), world.climates.shape[1]), 32
    )
    areas[[0, ICE_CAP]] = 0
    expected = np.sqrt(areas) / np.sqrt(areas).sum()
    found = np.array([shares.get(name, 0) for name in CLIMATES])
    # Cells on the coast are not all land, and are taken for what most of their land is.
    assert np.abs(found - expected).max() < 0.01
    rare = CLIMATES.index("Csb")
    assert found[rare] > 2 * areas[rare] / areas.sum()


def test_places_are_on_all_continents(many):
    boxes = {
        "Europe": (-10, 30, 37, 70),
        "Africa": (-15, 40, -34, 30),
        "Asia": (60, 140, 10, 70),
        "North America": (-125, -70, 26, 70),
        "South America": (-80, -35, -50, 5),
        "Australia": (114, 153, -38, -12),
    }
    for name, (west, east, south, north) in boxes.items():
        inside = many.lon.between(west, east) & many.lat.between(south, north)
        assert inside.mean() > 0.015, name


@pytest.mark.parametrize(
    ("name", "lon", "lat", "land"),
    [
        ("Paris", 2.35, 48.85, True),
        ("Nairobi", 36.82, -1.29, True),
        ("Tierra del Fuego", -68.5, -54.0, True),
        ("Fiji, beyond the antimeridian", 178.0, -17.8, True),
        ("Atlantic", -30.0, 30.0, False),
        ("Lake Victoria", 33.0, -1.0, False),
        ("Lake Superior", -88.0, 47.7, False),
        ("Caspian Sea", 51.0, 41.0, False),
        ("Lake Baikal", 108.0, 53.5, False),
        ("Black Sea", 35.0, 43.5, False),
        ("ice of Greenland", -40.0, 72.0, False),
        ("Antarctica", 0.0, -80.0, False),
        ("north of what is surveyed", -35.0, 83.4, False),
    ],
)
def test_the_world_knows_land_from_water_and_ice(name, lon, lat, land):
    assert load_world().is_land(np.array([lon]), np.array([lat])).tolist() == [land], name


@pytest.mark.parametrize(
    ("lon", "lat", "climate"),
    [(-60.0, -3.0, "Af"), (10.0, 24.0, "BWh"), (2.35, 48.85, "Cfb"), (37.6, 55.75, "Dfb"), (-122.4, 37.6, "Csb")],
)  # fmt: skip
def test_the_world_knows_climates(lon, lat, climate):
    assert CLIMATES[int(load_world().climate(np.array([lon]), np.array([lat]))[0])] == climate


def test_seeds_differ_and_the_default_is_pinned():
    # A store that was begun with one version of timo is enlarged with another: the sequence must not change.
    first = sample_places(3)
    assert first.kind.tolist() == ["climate", "city", "climate"]
    np.testing.assert_allclose(first.lon, PINNED[0], atol=2e-6)
    np.testing.assert_allclose(first.lat, PINNED[1], atol=2e-6)
    assert not sample_places(3, seed=1).equals(first)


PINNED = ([29.440322, 100.919748, 26.04487], [-19.650932, 4.878083, 66.670939])


@pytest.mark.parametrize(
    "wrong",
    [{"n": 0}, {"n": 3_000_000}, {"seed": -1}, {"around_cities": 1.5}, {"distance_m": 0}, {"city_km": 0}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(TimoError, match=r"got"):
        sample_places(**{"n": 5} | wrong)


def test_the_notice_names_those_whose_data_are_shipped():
    from importlib.resources import files

    folder = files("timo.datasets.millionst")
    notice = (folder / "NOTICE.txt").read_text(encoding="utf-8")
    for name in (
        "GeoNames",
        "creativecommons.org/licenses/by/4.0",
        "Natural Earth",
        "BSD 3-Clause",
    ):
        assert name in notice
    assert len((folder / "places.npz").read_bytes()) < 250_000
