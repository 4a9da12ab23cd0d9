"""What kriging tells: equal to PyKrige, exact or smooth at the observations, right on the sphere, series at once."""

import numpy as np
import pytest
import xarray as xr

from timo.geostat.kriging import interval, krige
from timo.geostat.models import VariogramModel
from timo.geostat.places import Places, distances, points

SMOOTH = VariogramModel("exponential", sill=2.0, range_m=300)
NOISY = VariogramModel("spherical", sill=2.0, range_m=400, nugget=0.5)


def scattered(n=120, seed=0, crs="EPSG:32632", dates=None):
    rng = np.random.default_rng(seed)
    shape = n if dates is None else (dates, n)
    x, y = rng.uniform(0, 1000, (2, n))
    return points(5e5 + x, 5e6 + y, rng.normal(10, 1, shape), crs, time=dates and range(dates))


def raster(step=50.0, crs="EPSG:32632"):
    axis = np.arange(0, 1000, step)
    coords = {"y": 5e6 + axis[::-1], "x": 5e5 + axis}
    return xr.DataArray(np.zeros((len(axis), len(axis))), coords, ("y", "x"), attrs={"crs": crs})


def by_pykrige(known, grid, model, **options):
    ok = pytest.importorskip("pykrige.ok")
    kriging = ok.OrdinaryKriging(
        known.x.values,
        known.y.values,
        known.values,
        variogram_model="custom",
        variogram_parameters=[],
        variogram_function=lambda _, h: model(h),
    )
    return kriging.execute("grid", grid.x.values, grid.y.values, **options)


@pytest.mark.parametrize("model", [SMOOTH, NOISY])
def test_all_neighbours_give_what_pykrige_gives(model):
    told = krige(scattered(), raster(), model, neighbours=None)
    mean, variance = by_pykrige(scattered(), raster(), model)
    np.testing.assert_allclose(told["mean"], mean, atol=1e-6)
    np.testing.assert_allclose(told["variance"], variance, atol=1e-6)


@pytest.mark.parametrize("model", [SMOOTH, NOISY])
def test_the_nearest_give_what_pykrige_gives(model):
    told = krige(scattered(), raster(), model, neighbours=12)
    mean, variance = by_pykrige(scattered(), raster(), model, n_closest_points=12, backend="loop")
    np.testing.assert_allclose(told["mean"], mean, atol=1e-6)
    np.testing.assert_allclose(told["variance"], variance, atol=1e-6)


@pytest.mark.parametrize("neighbours", [16, None])
@pytest.mark.parametrize("noise", ["microscale", "measurement"])
@pytest.mark.parametrize("kind", ["spherical", "exponential", "matern", "stable"])
def test_without_a_nugget_it_is_exact_where_observed(neighbours, noise, kind):
    known = scattered()
    told = krige(known, known, VariogramModel(kind, 2.0, 300), neighbours=neighbours, noise=noise)
    np.testing.assert_allclose(told["mean"], known, atol=1e-9)
    np.testing.assert_allclose(told["variance"], 0, atol=1e-9)


@pytest.mark.parametrize("neighbours", [16, None])
def test_microscale_variation_is_kept_where_observed_and_errors_of_measurement_are_smoothed(
    neighbours,
):
    known = scattered()
    exact, smooth = (
        krige(known, known, NOISY, neighbours=neighbours, noise=noise)
        for noise in ("microscale", "measurement")
    )
    np.testing.assert_allclose(exact["mean"], known)
    assert (exact["variance"] == 0).all()
    assert smooth["mean"].std() < 0.9 * known.std()
    assert ((smooth["variance"] > 0) & (smooth["variance"] < NOISY.sill - NOISY.nugget)).all()


def test_away_from_the_points_the_two_noises_differ_by_the_nugget():
    of_observation = krige(scattered(), raster(), NOISY)
    of_field = krige(scattered(), raster(), NOISY, noise="measurement")
    np.testing.assert_allclose(of_observation["mean"], of_field["mean"], atol=1e-12)
    np.testing.assert_allclose(of_observation["variance"], of_field["variance"] + NOISY.nugget)


@pytest.mark.parametrize("neighbours", [8, None])
def test_far_beyond_the_range_it_is_the_mean_of_the_neighbours_and_the_sill(neighbours):
    near = points([0, 1e5, 2e5, 3e5], [0, 0, 0, 0], [1.0, 2, 3, 6])  # none knows of another
    told = krige(near, points([1e7], [1e7], [0]), SMOOTH, neighbours=neighbours)
    assert told["mean"].item() == pytest.approx(3)
    assert told["variance"].item() == pytest.approx(SMOOTH.sill * (1 + 1 / 4))


def test_one_neighbour_is_the_nearest():
    known = scattered()
    told = krige(known, raster(), SMOOTH, neighbours=1)
    nearest = distances(raster(), known).argmin(1).reshape(20, 20)
    np.testing.assert_allclose(told["mean"], known.values[nearest])


def test_a_pure_nugget_tells_the_mean():
    told = krige(scattered(), raster(), VariogramModel("exponential", 1.0, 0, 1.0), neighbours=None)
    np.testing.assert_allclose(told["mean"], scattered().mean())
    np.testing.assert_allclose(told["variance"], 1 + 1 / 120)


def test_blocks_change_nothing():
    whole, blocks = (krige(scattered(), raster(), NOISY, block_size=size) for size in (None, 7))
    xr.testing.assert_allclose(whole, blocks, rtol=1e-12)
    dense, blocks = (
        krige(scattered(), raster(), NOISY, neighbours=None, block_size=n) for n in (None, 7)
    )
    xr.testing.assert_allclose(dense, blocks, rtol=1e-12)


def test_a_series_is_each_date_by_itself():
    series = scattered(dates=5)
    series[2, 3:30] = np.nan
    series[4, 50] = np.nan
    told = krige(series, raster(), NOISY, neighbours=20)
    assert told["mean"].dims == told["variance"].dims == ("time", "y", "x")
    for date in range(5):
        alone = krige(series[date].drop_vars("time"), raster(), NOISY, neighbours=20)
        xr.testing.assert_allclose(told.isel(time=date, drop=True), alone)


def test_a_series_without_gaps_is_solved_once(monkeypatch):
    from timo.geostat.kriging import ordinary

    asked = []
    monkeypatch.setattr(ordinary, "local_blocks", lambda *_: asked.append(1) or iter([]))
    krige(scattered(dates=50), raster(), NOISY)
    assert len(asked) == 1


def test_a_date_without_observations_is_nan_with_a_warning():
    series = scattered(dates=3)
    series[1, 2:] = np.nan
    with pytest.warns(RuntimeWarning, match="1 dates have fewer than 3 observations"):
        told = krige(series, raster(), NOISY)
    assert told["mean"].isnull().all(("y", "x")).values.tolist() == [False, True, False]
    assert told["variance"].isnull().all(("y", "x")).values.tolist() == [False, True, False]


def test_the_map_keeps_grid_units_and_model():
    known = scattered().assign_attrs(units="t/ha", long_name="biomass", crs="EPSG:32632")
    told = krige(known, raster(), NOISY)
    assert told["mean"].shape == (20, 20)
    np.testing.assert_array_equal(told["x"], raster()["x"])
    assert told["mean"].attrs["units"] == "t/ha"
    assert told["variance"].attrs["units"] == "(t/ha)2"
    assert told.attrs["model_kind"] == "spherical"
    assert told.attrs["model_nugget"] == 0.5
    assert told.attrs["crs"] == "EPSG:32632"
    told.to_netcdf()  # nothing that a file cannot hold


@pytest.mark.filterwarnings("ignore:The semivariance:RuntimeWarning")
def test_a_model_is_fitted_where_none_is_given():
    from timo.geostat.fitting import fit_model
    from timo.geostat.variograms import variogram

    truth = np.sin(scattered().x / 100) + np.cos(scattered().y / 130)
    known = scattered().copy(data=truth)
    told = krige(known, raster())
    xr.testing.assert_equal(told, krige(known, raster(), fit_model(variogram(known))))
    error = told["mean"] - (np.sin(told.x / 100) + np.cos(told.y / 130)).transpose("y", "x")
    assert np.sqrt((error**2).mean()) < 0.4


@pytest.mark.filterwarnings("ignore:The semivariance:RuntimeWarning")
def test_a_series_may_run_along_any_dim_and_over_a_dataset():
    series = scattered(dates=4)
    grid = raster().to_dataset(name="elevation").assign_attrs(crs="EPSG:32632")
    told = krige(series.rename(time="component"), grid)
    assert told["mean"].dims == ("component", "y", "x")
    np.testing.assert_allclose(told["mean"], krige(series, grid)["mean"])


def test_degrees_are_kriged_along_great_circles():
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(-180, 180, 80), rng.uniform(60, 89, 80)
    known = points(lon, lat, rng.normal(size=80), "EPSG:4326")
    model = VariogramModel("exponential", 1.0, 1e6, 0.1)
    cell = Places([179.9], [80.0], known.attrs["crs"])
    told = krige(known, points(cell.x, cell.y, [0], "EPSG:4326"), model, neighbours=40)
    apart = distances(known, known), distances(known, cell)[:, 0]
    chosen = np.argsort(apart[1])[:40]
    system = np.block(
        [[model.covariance(apart[0][np.ix_(chosen, chosen)]), np.ones((40, 1))], [np.ones(40), 0]]
    )
    right = np.append(model.covariance(apart[1][chosen]), 1)
    solved = np.linalg.solve(system, right)
    assert told["mean"].item() == pytest.approx(solved[:-1] @ known.values[chosen], abs=1e-9)
    assert told["variance"].item() == pytest.approx(1 - solved @ right, abs=1e-9)


def test_feet_are_not_metres():
    feet = 1200 / 3937
    metres = points([0, 100, 50, 20], [0, 0, 80, 30], [1.0, 2, 3, 5])
    in_feet = points(metres.x / feet, metres.y / feet, metres.values, "EPSG:2263")
    here, there = points([40], [40], [0]), points([40 / feet], [40 / feet], [0], "EPSG:2263")
    told, same = krige(in_feet, there, SMOOTH), krige(metres, here, SMOOTH)
    np.testing.assert_allclose(told["mean"], same["mean"], rtol=1e-9)


def test_intervals_are_as_wide_as_asked():
    told = krige(scattered(), raster(), NOISY)
    ninety, half = interval(told), interval(told, 0.5)
    np.testing.assert_allclose(
        ninety.upper - ninety.lower, 2 * 1.6448536 * np.sqrt(told.variance), rtol=1e-6
    )
    assert ((half.lower > ninety.lower) & (half.upper < ninety.upper)).all()
