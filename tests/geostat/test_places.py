import numpy as np
import pyproj
import pytest
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.geostat.places import Places, check_same_crs, distances, places_of, points

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
        (lambda: Places([1], [1], "EPSG:nothing"), "not understood"),
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
