import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from timo.errors import TimoError
from timo.training import labels_in_time

FOREST, CUT = (0.04, 0.36), (0.12, 0.18)  # red and near infrared: NDVI 0.8 and 0.2
DAYS = {
    2017: ("01-10", "06-10", "07-10", "08-10", "12-10"),
    2018: ("02-10", "06-10", "07-10", "08-10", "11-10"),
    2019: ("06-10", "07-10"),
}
DATES = pd.DatetimeIndex([f"{year}-{day}" for year, days in DAYS.items() for day in days])


@pytest.fixture
def cube(grid):
    """Pixels of forest; in the first row, one is cut after 2017, one after 2018, the third is always bare."""
    values = np.empty((len(DATES), 2, 2, 3), "float32")
    values[:] = np.reshape(FOREST, (2, 1, 1))
    bare = np.reshape(CUT, (1, 2))
    values[DATES.year >= 2018, :, 0, 0] = bare
    values[DATES.year >= 2019, :, 0, 1] = bare
    values[:, :, 0, 2] = bare
    # Winter is bare everywhere, and says nothing.
    values[DATES.month.isin([1, 2, 11, 12])] = np.reshape(CUT, (2, 1, 1))
    cube = grid(values, ("time", "band", "y", "x"), sensor="sentinel-2")
    return cube.assign_coords(time=DATES)


@pytest.fixture
def labels(grid):
    values = np.array([[1, 0, 1], [0, 0, -1]], "int8")
    return grid(values, ("y", "x"), classes=["forest", "bare"]).rename("cover")


def test_changed_pixels_are_unlabelled_in_the_other_years_only(cube, labels):
    laid = labels_in_time(labels, cube, 2018)
    assert laid.dims == ("time", "y", "x")
    assert laid.indexes["time"].equals(cube.indexes["time"])
    expected = np.broadcast_to(labels.values, laid.shape).copy()
    expected[DATES.year == 2017, 0, 0] = -1
    expected[DATES.year == 2019, 0, 1] = -1
    assert (laid.values == expected).all()
    assert laid.attrs["classes"] == ["forest", "bare"]
    assert laid.name == "cover"
    assert laid.rio.crs == cube.rio.crs


def test_max_change_is_the_largest_difference_of_an_unchanged_pixel(cube, labels):
    laid = labels_in_time(labels, cube, 2018, max_change=0.61)
    assert (laid == labels).all()


def test_the_months_are_a_choice(cube, labels):
    """Winter is bare in all years: compared by winter, nothing has changed where both years have one."""
    laid = labels_in_time(labels, cube, 2018, months=(1, 2))
    assert (laid.isel(time=DATES.year < 2019) == labels).all()
    assert (laid.isel(time=DATES.year == 2019) == -1).all()


def test_a_season_over_the_turn_of_the_year_has_the_year_of_its_end(cube, labels):
    """The winter of 2018 goes from December 2017 to February 2018, and years go from December on."""
    # By winter nothing grew but in the first pixel, before December 2018.
    winter = DATES.month.isin([12, 1, 2])
    cube.values[winter & (DATES < "2018-12"), :, 0, 0] = FOREST
    later = cube.isel(time=[1]).assign_coords(time=pd.DatetimeIndex(["2018-12-20"]))
    later.values[0] = np.reshape(CUT, (2, 1, 1))
    cube = xr.concat([cube, later], "time").sortby("time")
    laid = labels_in_time(labels, cube, 2018, months=(12, 2))
    days = pd.DatetimeIndex(cube.time.values)
    year = days.year + (days.month == 12)
    # 2017 has a winter of January alone; in 2019 that of 20 December 2018.
    expected = np.broadcast_to(labels.values, laid.shape).copy()
    expected[year == 2019, 0, 0] = -1
    np.testing.assert_array_equal(laid.values, expected)
    with pytest.raises(TimoError, match=r"months 12-2 of 2021.*\(that of the end of the season\)"):
        labels_in_time(labels, cube, 2021, months=(12, 2))


def test_values_to_predict_are_laid_in_the_same_way(cube, labels):
    values = labels.where(labels >= 0).astype("float32").drop_attrs()
    laid = labels_in_time(values, cube, 2018)
    classes = labels_in_time(labels, cube, 2018)
    np.testing.assert_array_equal(laid, classes.where(classes >= 0))
    assert laid.dtype == "float32"


def test_a_declared_nodata_is_refused(cube, labels):
    with pytest.raises(TimoError, match="declare 0 as no data"):
        labels_in_time(labels.astype("uint8").rio.write_nodata(0, encoded=True), cube, 2018)


def test_where_a_summer_was_not_observed_nothing_is_known_of_it(cube, labels):
    summer_2017 = (DATES.year == 2017) & DATES.month.isin([6, 7, 8])
    cube.values[summer_2017, :, 1, 1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        laid = labels_in_time(labels, cube, 2018)
    assert (laid.values[DATES.year == 2017, 1, 1] == -1).all()
    assert (laid.values[DATES.year != 2017, 1, 1] == 0).all()
    assert (laid.values[:, 1, 0] == 0).all()


def test_the_same_from_a_lazy_cube_and_for_coordinates_that_differ_by_rounding(cube, labels):
    eager = labels_in_time(labels, cube, 2018)
    lazy = labels_in_time(labels, cube.chunk(time=3, x=2), 2018)
    assert lazy.equals(eager)
    nudged = labels.assign_coords(x=labels.x + 1e-6)
    assert (labels_in_time(nudged, cube, 2018).values == eager.values).all()


def test_unsigned_labels_can_become_unlabelled(cube, labels):
    unsigned = labels.where(labels >= 0, 0).astype("uint8")
    assert labels_in_time(unsigned, cube, 2018).values.min() == -1


def test_errors(cube, labels):
    with pytest.raises(TimoError, match="months must be"):
        labels_in_time(labels, cube, 2018, months=(6, 13))
    with pytest.raises(TimoError, match="The cube must have the dims"):
        labels_in_time(labels, cube.isel(time=0), 2018)
    with pytest.raises(
        TimoError,
        match=r"no observation in the months 6-8 of 2021, the labels' year\. Open it with",
    ):
        labels_in_time(labels, cube, 2021)
    with pytest.raises(TimoError, match="no observation in the months 4-5 of 2018"):
        labels_in_time(labels, cube, 2018, months=(4, 5))
    laid = labels_in_time(labels, cube, 2018)
    with pytest.raises(TimoError, match=r"takes labels without dates, \(y, x\)"):
        labels_in_time(laid, cube, 2018)
    with pytest.raises(TimoError, match="labels are on another grid"):
        labels_in_time(labels.isel(x=[0, 1]), cube, 2018)
    with pytest.raises(TimoError, match="cube has no red band; it has B8"):
        labels_in_time(labels, cube.sel(band=["B8"]), 2018)
