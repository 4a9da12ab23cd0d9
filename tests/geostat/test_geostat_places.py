import numpy as np
import pandas as pd
import pyproj
import pytest
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.geostat.places import Places, check_same_crs, crs_of, distances, places_of, points
from timo.geostat.values import without_nodata

SPHERE = pyproj.Geod(a=6_371_008.8, b=6_371_008.8)
lon, lat = st.floats(-180, 180), st.floats(-90, 90)


@given(st.lists(st.tuples(lon, lat), min_size=2, max_size=6))
@settings(deadline=None, max_examples=50)
def test_distances_of_degrees_are_great_circles_and_chords_lead_back_to_them(found):
    x, y = np.array(found).T
    places = Places(x, y, "EPSG:4326")
    i, j = np.triu_indices(len(x), 1)
    expected = SPHERE.inv(x[i], y[i], x[j], y[j])[2]
    measured = distances(places)[i, j]
    np.testing.assert_allclose(measured, expected, rtol=1e-7, atol=1e-2)
    embedded = places.embed()
    chord = np.linalg.norm(embedded[i] - embedded[j], axis=1)
    # Near the antipode a chord hardly tells the distance.
    np.testing.assert_allclose(places.distance_of_chord(chord), expected, rtol=1e-6, atol=1)
    near = expected < 1.9e7
    np.testing.assert_allclose(
        places.chord_of_distance(expected)[near], chord[near], rtol=1e-6, atol=1e-2
    )


def test_small_distances_keep_their_digits():
    places = Places([11.0, 11.0 + 1e-6], [48.0, 48.0], 4326)
    expected = SPHERE.inv(11.0, 48.0, 11.0 + 1e-6, 48.0)[2]
    assert distances(places)[0, 1] == pytest.approx(expected, rel=1e-6)


def test_a_projected_crs_is_measured_in_metres_whatever_its_unit():
    feet = Places([0, 300], [0, 400], "EPSG:2263")
    assert distances(feet)[0, 1] == pytest.approx(500 * 0.3048006096)
    assert feet.embed().shape == (2, 2)
    assert feet.extent_m() == pytest.approx(500 * 0.3048006096)
    assert distances(Places([0, 3], [0, 4]))[1, 0] == 5


def test_a_raster_gives_its_cells_row_by_row():
    raster = xr.DataArray(
        np.arange(6.0).reshape(2, 3),
        dims=("y", "x"),
        coords={"y": [20.0, 10.0], "x": [1.0, 2.0, 3.0]},
    )
    places = places_of(raster.rio.write_crs("EPSG:32633"))
    np.testing.assert_array_equal(places.y, [20, 20, 20, 10, 10, 10])
    np.testing.assert_array_equal(places.x, [1, 2, 3, 1, 2, 3])
    assert places.crs.to_epsg() == 32633


def test_points_carry_their_crs_and_time():
    made = points([1, 2], [3, 4], [[1, 2], [3, 4], [5, 6]], "EPSG:3035", time=range(3))
    assert made.dims == ("time", "point")
    assert made.attrs["crs"] == "EPSG:3035"
    assert places_of(made).crs.to_epsg() == 3035
    assert "crs" not in points([1], [2], [3]).attrs


def twice_named():
    return points([1], [1], [1]).rio.write_crs(32634).assign_attrs(crs="EPSG:32633")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Places([1, 2], [1]), "As many x as y"),
        (lambda: Places([np.nan], [1]), "not finite"),
        (lambda: Places([48.0], [111.0], 4326), "swapped"),
        (lambda: Places([1], [1], "EPSG:nothing"), "cannot be read"),
        (lambda: Places([1], [1], "EPSG:4978"), "not along the ground"),
        (lambda: points([1, 2], [1, 2], [1]), "shape"),
        (lambda: places_of(xr.DataArray(np.zeros(3), dims="point")), "geostat.points"),
        (lambda: places_of(xr.DataArray(np.zeros(3), dims="time")), "raster"),
        (lambda: places_of(twice_named()), "Two reference systems"),
        (lambda: distances(Places([1], [1], 4326), Places([1], [1], 32633)), "reference systems"),
        (lambda: check_same_crs(Places([1], [1]), Places([1], [1], 32633)), "reference systems"),
    ],
)
def test_bad_places_are_refused(make, says):
    with pytest.raises(TimoError, match=says):
        make()


def test_what_is_masked_becomes_nan_and_the_callers_array_stays():
    values = np.ma.masked_equal([1, -9999, 3], -9999)
    np.testing.assert_array_equal(points([1, 2, 3], [1, 2, 3], values), [1, np.nan, 3])
    with pytest.raises(TimoError, match="not finite"):
        points(values, [1, 2, 3], [1, 2, 3])
    for plain in (np.zeros(3), np.ma.array(np.zeros(3))):
        made = points([1, 2, 3], [1, 2, 3], plain)
        made[0] = 7
        assert plain[0] == 0


@pytest.mark.parametrize("which", [0, 1, 2])
def test_texts_for_numbers_are_refused_with_the_remedy(which):
    columns = [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    columns[which] = ["1", "none"]
    with pytest.raises(TimoError, match="to_numeric"):
        points(*columns)


def test_the_crs_survives_arithmetic_and_is_found_by_its_grid_mapping():
    made = points([11.1, 11.2], [48.1, 48.2], [1, 2], 4326)
    assert crs_of(made.drop_attrs(deep=False)).to_epsg() == 4326
    assert crs_of(made * 2 + 1).to_epsg() == 4326
    raster = xr.DataArray(
        np.zeros((2, 2)), dims=("y", "x"), coords={"y": [48.1, 48.2], "x": [11.1, 11.2]}
    )
    for name in ("crs", "lambert"):
        named = raster.rio.write_crs(3035, grid_mapping_name=name)
        assert crs_of(named).to_epsg() == 3035
        assert crs_of(named.to_dataset(name="z")).to_epsg() == 3035
    cf = {"grid_mapping_name": "latitude_longitude"}
    assert crs_of(raster.assign_coords(crs=((), 0, cf))).is_geographic


def test_degrees_without_a_crs_are_warned_of():
    x, y = [11.13, 12.97, 12.1], [48.01, 48.73, 48.9]
    with pytest.warns(UserWarning, match="look like degrees"):
        made = points(x, y, [1, 2, 3])
    with pytest.warns(UserWarning, match="look like degrees"):
        places_of(made)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([0.5, 1.5, 9.5], [0.5, 7.5, 8.5]),
        ([11, 12, 13], [48, 49, 50]),
        ([0.03, 0.41, 0.97], [0.11, 0.21, 0.99]),
        ([500.3, 510.7], [48.1, 49.3]),
        ([1.3, 99.7], [48.1, 49.3]),
        ([1.3], [48.1]),
    ],
)
def test_a_plane_in_metres_is_not_warned_of(x, y, recwarn):
    points(x, y, np.zeros(len(x)))
    assert not recwarn.list


def test_a_geographic_crs_in_grads_is_measured_as_such():
    grads = Places([10.0, 10.0], [40.0, 50.0], "EPSG:4807")
    degrees = Places([9.0, 9.0], [36.0, 45.0], "EPSG:4326")
    assert distances(grads)[0, 1] == pytest.approx(distances(degrees)[0, 1])
    np.testing.assert_allclose(grads.embed(), degrees.embed())
    assert Places([0], [100.0], "EPSG:4807").radians()[1] == pytest.approx(np.pi / 2)


@pytest.mark.parametrize("obj", [np.zeros((2, 2)), ([1, 2], [3, 4]), None])
def test_what_has_no_coordinates_is_refused(obj):
    with pytest.raises(TimoError, match=r"DataArray.*geostat.points"):
        distances(obj)


def test_dates_may_be_texts():
    made = points([1], [2], [[1], [2]], time=["2020-01-01", "2020-01-06"])
    assert made.time.dtype.kind == "M"
    zoned = points([1], [2], [[1], [2]], time=pd.to_datetime(made.time.values).tz_localize("UTC"))
    np.testing.assert_array_equal(zoned.time, made.time)
    with pytest.raises(TimoError, match="dates are not understood"):
        points([1], [2], [[1], [2]], time=["then", "now"])


@pytest.mark.parametrize("key", ["_FillValue", "missing_value", "nodata"])
def test_values_of_nodata_are_refused(key):
    array = xr.DataArray([1.0, -9999.0], dims="x", attrs={key: np.float32(-9999)})
    with pytest.raises(TimoError, match="masked=True"):
        without_nodata(array)
    without_nodata(array.where(array > 0))
    without_nodata(array.assign_attrs({key: np.nan}))
    without_nodata(array.assign_attrs({key: "none"}))
