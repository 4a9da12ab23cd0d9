import json
from importlib.resources import files

import numpy as np
import pytest
from rasterio.features import rasterize

import timo
from timo.cube import check_grid
from timo.errors import TimoError
from timo.sources import open_cube, sample_clearings, sample_labels

HECTARES = 0.01  # of a pixel


@pytest.fixture(scope="module")
def collection():
    text = (files("timo.sources") / "sample_clearings.geojson").read_text(encoding="utf-8")
    return json.loads(text)


@pytest.fixture(scope="module")
def properties(collection):
    return [feature["properties"] for feature in collection["features"]]


def hectares_by_year(properties, dated_by, causes=("felling",)):
    total = {}
    for one in properties:
        if one["cause"] in causes:
            total[one[dated_by]] = total.get(one[dated_by], 0) + one["area_ha"]
    return total


@pytest.mark.parametrize("dated_by", ["year", "first_summer"])
@pytest.mark.parametrize("road_works", [False, True])
def test_hectares_of_each_year_are_those_of_the_outlines(properties, dated_by, road_works):
    clearings = sample_clearings(dated_by, road_works=road_works)
    causes = ("felling", "road works") if road_works else ("felling",)
    expected = hectares_by_year(properties, dated_by, causes)
    years, pixels = np.unique(clearings.values[clearings.values > 0], return_counts=True)
    assert set(years.tolist()) == set(expected)
    for year, count in zip(years.tolist(), pixels, strict=True):
        assert count * HECTARES == pytest.approx(expected[year], abs=0.005)


def test_it_is_on_the_grid_of_the_sample():
    clearings, labels = sample_clearings(), sample_labels()
    cube = open_cube("sample", start="2018-07", end="2018-07", bands=["B4"])
    assert clearings.dims == ("y", "x")
    assert clearings.shape == (100, 100)
    assert clearings.dtype == np.int16
    check_grid(clearings)
    assert clearings.rio.crs == cube.rio.crs
    for dim in ("y", "x"):
        assert (clearings[dim] == cube[dim]).all()
        assert (clearings[dim] == labels[dim]).all()
    assert clearings.attrs == {
        "long_name": "clearing, first_summer",
        "flags": "0 = no clearing",
        "attribution": "Contains modified Copernicus Sentinel data 2015-2021",
    }


def test_years_are_those_of_the_series():
    for dated_by in ("year", "first_summer"):
        years = np.unique(sample_clearings(dated_by))
        assert years.tolist() == [0, 2016, 2017, 2018, 2019, 2020]


def test_both_datings_differ_in_nine_clearings_of_autumn_2019(collection, properties):
    fellings = [one for one in properties if one["cause"] == "felling"]
    later = [one for one in fellings if one["year"] != one["first_summer"]]
    assert len(later) == 9
    assert sum(one["area_ha"] for one in later) == pytest.approx(2.7, abs=0.05)
    assert {(one["year"], one["first_summer"]) for one in later} == {(2019, 2020)}
    assert all("2019-08-31" < one["first_seen"] <= "2019-12-31" for one in later)
    year, summer = sample_clearings("year"), sample_clearings("first_summer")
    different = (year != summer).values
    outlines = [
        feature["geometry"] for feature in collection["features"] if feature["properties"] in later
    ]
    burnt = rasterize(outlines, different.shape, transform=year.rio.transform(recalc=True))
    assert (different == (burnt > 0)).all()
    assert ((year > 0) == (summer > 0)).all()


def test_each_date_follows_the_last_forest(properties):
    for one in properties:
        assert one["last_forest"] < one["first_seen"]
        assert one["first_seen"].startswith(str(one["year"]))
        autumn = one["first_seen"][5:] > "08-31"
        assert one["first_summer"] == one["year"] + autumn


def test_road_works_are_left_out_unless_asked_for():
    without, with_them = sample_clearings(), sample_clearings(road_works=True)
    extra = (with_them > 0) & (without == 0)
    assert int(extra.sum()) > 0
    assert set(np.unique(with_them.where(extra, 0))) <= {0, 2016, 2017}
    assert (with_them == without).where(~extra, True).all()


def test_the_ground_lost_its_green_where_and_when_it_says():
    """Summer NDVI of the clearings falls from one year to the next, and nowhere else as much."""
    clearings = sample_clearings()
    cube = open_cube("sample", start="2017-06", end="2019-08", bands=["B4", "B8"])
    ndvi = timo.cube.ndvi(cube)
    ndvi = ndvi.where(ndvi.time.dt.month.isin([6, 7, 8]))
    summer = {y: ndvi.where(ndvi.time.dt.year == y).median("time") for y in (2017, 2018, 2019)}
    for year in (2018, 2019):
        drop = summer[year - 1] - summer[year]
        assert float(drop.where(clearings == year).median()) > 0.1
        assert abs(float(drop.where(clearings == 0).median())) < 0.05


def test_an_unknown_dating():
    with pytest.raises(
        TimoError, match="dated_by must be one of 'year', 'first_summer'; got 'cut'"
    ):
        sample_clearings("cut")
