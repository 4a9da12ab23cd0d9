"""What kriging does with what it cannot work with: a clear error, or a fallback and a warning."""

import tracemalloc
import warnings

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr

from timo.errors import TimoError
from timo.geostat.kriging import interval, krige, ordinary
from timo.geostat.models import VariogramModel
from timo.geostat.places import points
from timo.geostat.variograms import variogram

MODEL = VariogramModel("exponential", sill=1.0, range_m=300)
RNG = np.random.default_rng(0)
X, Y, Z = *RNG.uniform(0, 1000, (2, 60)), RNG.normal(size=60)
CELLS = points(*RNG.uniform(0, 1000, (2, 20)), np.zeros(20))


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (points(X[:2], Y[:2], Z[:2]), "at 3 places or more.*have them at 2"),
        (points(X, Y, np.full(60, np.nan)), "have them at 0"),
        (points(X, Y, np.where(np.arange(60) == 5, np.inf, Z)), "infinite"),
        (points(X[[0, 0, 0, 1]], Y[[0, 0, 0, 1]], Z[:4]), "have them at 2"),
        (points(X, Y, Z, "EPSG:32632"), "two reference systems"),
        (xr.DataArray(Z, dims="station"), 'dim "point"'),
        (Z, r"got ndarray of shape.*geostat.points"),
        (points(X, Y, Z).astype(str), "real numbers"),
        (points(X, Y, np.append(Z[1:], -9999)).assign_attrs(_FillValue=-9999), "nodata"),
        (xr.DataArray(np.zeros((2, 2, 3)), dims=("time", "band", "point")), "at most one other"),
    ],
)
@pytest.mark.filterwarnings("ignore:2 points lie where:UserWarning")
def test_points_that_cannot_be_kriged_are_refused(known, message):
    with pytest.raises(TimoError, match=message):
        krige(known, CELLS, MODEL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, "neighbours must be a whole number of 1 or more"),
        ({"block_size": -1}, "block_size must be"),
        ({"noise": "white"}, "one of 'microscale', 'measurement'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(TimoError, match=message):
        krige(points(X, Y, Z), CELLS, MODEL, **options)


def test_a_grid_without_cells_is_refused():
    grid = xr.DataArray(np.zeros((0, 4)), {"y": np.zeros(0), "x": np.arange(4.0)}, ("y", "x"))
    for empty in (grid, CELLS[:0]):
        with pytest.raises(TimoError, match="no cells"):
            krige(points(X, Y, Z), empty, MODEL)


def test_too_many_for_one_system_are_refused_at_once():
    many = points(*RNG.uniform(0, 1, (2, 10_001)), np.zeros(10_001))
    with pytest.raises(TimoError, match="Pass neighbours=32"):
        krige(many, CELLS, MODEL, neighbours=None)


def test_fewer_points_than_neighbours_are_all_taken():
    told = krige(points(X, Y, Z), CELLS, MODEL, neighbours=500)
    xr.testing.assert_identical(told, krige(points(X, Y, Z), CELLS, MODEL, neighbours=None))
    assert told.attrs["neighbours"] == 60


def test_points_at_one_place_are_averaged_with_a_warning():
    twice = points(np.append(X, X[:3]), np.append(Y, Y[:3]), np.append(Z, Z[:3] + 1))
    with pytest.warns(UserWarning, match="3 points lie where another one does"):
        told = krige(twice, CELLS, MODEL)
    xr.testing.assert_allclose(
        told, krige(points(X, Y, Z + 0.5 * (np.arange(60) < 3)), CELLS, MODEL)
    )


def test_at_one_place_gaps_are_filled_by_the_other_point():
    both = np.stack([Z, Z])
    both[0, 0] = np.nan
    twice = points(np.append(X, X[0]), np.append(Y, Y[0]), np.c_[both, [5.0, np.nan]], time=[0, 1])
    with pytest.warns(UserWarning, match="1 points lie"):
        told = krige(twice, points(X[:1], Y[:1], [0]), MODEL)
    np.testing.assert_allclose(told["mean"], [[5.0], [Z[0]]])


@pytest.mark.parametrize("neighbours", [10, None])
def test_a_constant_field_is_told_as_it_is(neighbours):
    with pytest.warns(UserWarning, match="all values are the same"):
        told = krige(points(X, Y, np.full(60, 7.0)), CELLS, neighbours=neighbours)
    np.testing.assert_allclose(told["mean"], 7)
    assert (told["variance"] == 0).all()
    given = krige(points(X, Y, np.full(60, 7.0)), CELLS, MODEL, neighbours=neighbours)
    np.testing.assert_allclose(given["mean"], 7)
    assert (given["variance"] > 0).all()


@pytest.mark.parametrize("neighbours", [16, None])
def test_a_near_singular_system_is_repaired_and_said_so(neighbours):
    smooth = VariogramModel("gaussian", sill=1.0, range_m=5000)
    truth = lambda x, y: np.sin(x / 900) + y / 1000  # noqa: E731
    known = points(X, Y, truth(X, Y))
    with pytest.warns(RuntimeWarning, match="near-singular"):
        told = krige(known, CELLS, smooth, neighbours=neighbours)
    np.testing.assert_allclose(told["mean"], truth(CELLS.x, CELLS.y), atol=2e-3)
    assert (told["variance"] >= 0).all()


def test_points_a_hair_apart_are_at_one_place():
    near = points(np.append(X, X[0] + 1e-9), np.append(Y, Y[0]), np.append(Z, Z[0] + 2))
    with pytest.warns(UserWarning, match="1 points lie"):
        told = krige(near, CELLS, MODEL)
    xr.testing.assert_allclose(told, krige(points(X, Y, Z + (np.arange(60) == 0)), CELLS, MODEL))
    both = points([180, -180, 170, 160], [10, 10, 12, 14], [1.0, 3, 0, 0], "EPSG:4326")
    with pytest.warns(UserWarning, match="1 points lie"):
        told = krige(both, both[:2], MODEL)
    np.testing.assert_allclose(told["mean"], 2)


@pytest.mark.parametrize("neighbours", [16, None])
def test_points_close_together_are_no_catastrophe(neighbours):
    """The slope between them is real to the model; what must not come out is rounding."""
    model = VariogramModel("stable", 1.0, 300, shape=1.9)
    near = points(np.append(X, X[0] + 1e-4), np.append(Y, Y[0]), np.append(Z, Z[0]))
    cells = points(X[:5] + 20, Y[:5], np.zeros(5))
    with pytest.warns(RuntimeWarning, match="near-singular"):
        told = krige(near, cells, model, neighbours=neighbours)
    plain = krige(points(X, Y, Z), cells, model, neighbours=neighbours)
    np.testing.assert_allclose(told["mean"], plain["mean"], atol=0.2)
    np.testing.assert_allclose(told["variance"], plain["variance"], rtol=0.01)


def test_a_model_invalid_on_the_sphere_is_said_so():
    lon, lat = RNG.uniform(-180, 180, 320), np.degrees(np.arcsin(RNG.uniform(-1, 1, 320)))
    globe = points(lon, lat, RNG.normal(size=320), "EPSG:4326")
    smooth = VariogramModel("gaussian", sill=1.0, range_m=2e7)
    with pytest.warns(RuntimeWarning) as warned:
        told = krige(globe[20:], globe[:20], smooth, neighbours=None)
    assert any("no valid covariance at these distances" in str(w.message) for w in warned)
    assert (told["variance"] >= 0).all()


def test_too_few_for_a_model_say_that_one_can_be_given():
    with pytest.raises(TimoError, match="pass one, model=VariogramModel"):
        krige(points(X[:5], Y[:5], Z[:5]), CELLS)


def test_a_large_grid_takes_little_memory():
    axis = np.linspace(0, 1000, 150)
    grid = xr.DataArray(np.zeros((150, 150)), {"y": axis, "x": axis}, ("y", "x"))
    tracemalloc.start()
    krige(points(X, Y, Z), grid, MODEL)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # all systems at once would take 184 MB


def test_nothing_is_warned_of_where_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        krige(points(X, Y, Z), CELLS, MODEL)
        krige(points(X, Y, Z), CELLS, MODEL, neighbours=None)


def test_intervals_say_what_they_need():
    told = krige(points(X, Y, Z), CELLS, MODEL)
    with pytest.raises(TimoError, match="level must be a number above 0 and below 1; got 90"):
        interval(told, 90)
    for odd in (told[["mean"]], told.astype(str)):
        with pytest.raises(TimoError, match="needs mean and variance, both numbers"):
            interval(odd)
    with pytest.raises(TimoError, match=r"got DataArray.*the whole dataset of krige"):
        interval(told["mean"])
    with pytest.warns(DeprecationWarning, match="told= is called kriged= now"):
        xr.testing.assert_identical(interval(told=told), interval(told))


@pytest.mark.parametrize(
    "model", ["spherical", 3.0, xr.Dataset({"semivariance": ("lag", [1.0])}), VariogramModel]
)
def test_a_model_that_is_none_says_what_one_is(model):
    with pytest.raises(
        TimoError, match=r"model must be a timo.VariogramModel or None; got .*fit_model"
    ):
        krige(points(X, Y, Z), CELLS, model)


def test_a_whole_float_counts_neighbours():
    both = (krige(points(X, Y, Z), CELLS, MODEL, neighbours=n) for n in (8, 8.0))
    xr.testing.assert_identical(*both)


def raster(**attrs):
    axis = np.linspace(0, 1, 4)
    return xr.DataArray(np.zeros((4, 4)), {"y": axis, "x": axis}, ("y", "x"), attrs=attrs)


@pytest.mark.parametrize("written", ["attrs", "spatial_ref"])
def test_a_map_keeps_the_reference_system_of_its_grid(written):
    known = points(X / 1000, Y / 1000, Z, "EPSG:4326")
    grid = raster(crs="EPSG:4326") if written == "attrs" else raster().rio.write_crs("EPSG:4326")
    told = krige(known, grid, MODEL)
    for kept in (told, told["mean"], told["variance"] * 2, interval(told)["lower"]):
        assert kept.rio.crs.to_epsg() == 4326


def test_points_keep_their_reference_system():
    known = points(X / 1000, Y / 1000, Z, "EPSG:4326")
    told = krige(known, known, VariogramModel("exponential", 1.0, 30_000, 0.1))
    for kept in (*told.values(), *interval(told).values()):
        assert kept.attrs["crs"] == "EPSG:4326"
    assert variogram(told["mean"])["lag"].max() > 10_000


def test_the_variance_of_a_series_can_be_written_to():
    told = krige(points(X, Y, np.stack([Z, Z]), time=[0, 1]), CELLS, MODEL)
    told["variance"][0] = -1
    assert (told["variance"][1] >= 0).all()


def test_dates_of_too_few_are_told_of_once():
    series = np.tile(Z, (4, 1))
    for date in (1, 2):
        series[date, np.arange(60) != date] = np.nan
    with pytest.warns(RuntimeWarning, match="2 dates have fewer than 3") as warned:
        krige(points(X, Y, series, time=range(4)), CELLS, MODEL)
    assert len(warned) == 1


def test_a_range_that_is_a_guess_says_what_helps_in_kriging():
    with pytest.warns(RuntimeWarning, match="is a guess. Fit a model yourself and pass model="):
        krige(points(X, Y, X), CELLS)


def test_of_many_points_few_dates_are_fitted_to_and_not_empty_ones(monkeypatch):
    monkeypatch.setattr(ordinary, "MOST_PAIRS", 2 * 60**2)
    series = points(X, Y, np.tile(Z, (30, 1)), time=range(30))
    series[[0, 29], 5:] = np.nan
    some = ordinary._some_dates(series)
    assert some.sizes["time"] == 2
    assert some.notnull().all()
