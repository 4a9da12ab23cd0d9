"""Empirical orthogonal functions, and fields interpolated by them."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401  registers .rio
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.geostat import points
from timo.geostat.interpolation import EOFInterpolator, EOFs, decompose

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
UTM = "EPSG:32633"


def make_field(x, y, times=30, components=3):
    """A smooth field: waves in space, each with a series; shape (place, time)."""
    waves = np.arange(1, components + 1)
    space = np.sin(np.outer(x, waves) / 3000) * np.cos(np.outer(y, waves) / 4000)
    series = (
        np.sin(np.outer(waves, np.arange(times)) / 3 + waves[:, None])
        * (components + 1 - waves)[:, None]
    )
    return 10 + space @ series


def make_stations(count=150, seed=0, noise=0.0, crs=UTM, **options):
    random = np.random.default_rng(seed)
    x, y = random.uniform(0, 10_000, (2, count))
    values = make_field(x, y, **options)
    values = values + noise * random.normal(size=values.shape)
    days = np.datetime64("2020-01-01", "ns") + np.arange(values.shape[1]) * np.timedelta64(10, "D")
    return points(x, y, values.T, crs, time=days).rename("ndvi").assign_attrs(units="1", crs=crs)


def make_grid(size=8, crs=UTM):
    at = np.linspace(1000, 9000, size)
    return xr.DataArray(
        np.zeros((size, size + 1)),
        {"y": at[::-1], "x": np.linspace(500, 9500, size + 1)},
        ("y", "x"),
        attrs={"crs": crs},
    )


def quick(**options):
    return EOFInterpolator("mlp", **{"epochs": 3, **options})


@pytest.mark.parametrize("shape", [(40, 15), (15, 40), (300, 10), (2, 1), (3, 7)])
def test_all_components_give_the_field_back(shape):
    values = 5 + np.random.default_rng(0).normal(size=shape)

    eofs = decompose(values)

    np.testing.assert_allclose(eofs.reconstruct(), values, atol=1e-12)
    assert eofs.n_components == min(shape[0] - 1, shape[1])
    np.testing.assert_allclose(eofs.explained.sum(), 1)
    np.testing.assert_allclose(
        eofs.patterns @ eofs.patterns.T, np.eye(eofs.n_components), atol=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(
    st.integers(3, 30),
    st.integers(1, 30),
    st.floats(-1e4, 1e4),
    st.floats(1e-3, 1e3),
    st.integers(0, 99),
)
def test_components_are_ordered_standardised_and_carry_the_variance(
    places, times, level, size, seed
):
    values = level + size * np.random.default_rng(seed).normal(size=(places, times))

    eofs = decompose(values)

    assert (np.diff(eofs.singular_values) <= 0).all()
    np.testing.assert_allclose(eofs.coefficients.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(eofs.coefficients.var(axis=0, ddof=1), 1, rtol=1e-6)
    np.testing.assert_allclose(eofs.total_variance, values.var(axis=0, ddof=1).sum(), rtol=1e-6)
    np.testing.assert_allclose(eofs.reconstruct(), values, atol=1e-8 * (size + abs(level)))


def test_a_share_of_the_variance_keeps_the_fewest_components_that_explain_it():
    values = np.random.default_rng(0).normal(size=(50, 20)) * np.geomspace(10, 0.1, 20)
    explained = np.cumsum(decompose(values).explained)

    for share in (0.3, 0.9, 0.99):
        kept = decompose(values, share)
        assert kept.explained.sum() >= share
        assert kept.n_components == 1 or explained[kept.n_components - 2] < share
    assert decompose(values, 1.0).n_components == decompose(values).n_components == 20


def test_a_truncated_field_errs_by_the_variance_that_was_cut_off():
    values = np.random.default_rng(0).normal(size=(50, 20))

    kept = decompose(values, 7)

    lost = ((values - kept.reconstruct()) ** 2).sum() / 49
    np.testing.assert_allclose(lost, kept.total_variance * (1 - kept.explained.sum()))


def test_signs_do_not_depend_on_the_order_of_the_places():
    values = np.random.default_rng(0).normal(size=(30, 12))
    np.testing.assert_allclose(
        decompose(values).patterns, decompose(values[::-1]).patterns, atol=1e-10
    )


def test_components_that_stand_out_from_noise_and_its_variance():
    clean = make_stations(400, times=60, components=4)
    noisy = clean + 0.3 * np.random.default_rng(1).normal(size=clean.shape)

    eofs = decompose(noisy.values.T)

    assert eofs.above_noise == 4
    assert eofs.noise_variance == pytest.approx(0.09, rel=0.03)
    # Without noise the singular values beyond the fourth are 0, and none of the four is mistaken for noise.
    assert decompose(clean.values.T).above_noise == 4
    assert decompose(clean.values.T).noise_variance == pytest.approx(0, abs=1e-12)


def test_float32_stays_float32_and_accurate():
    values = (300 + np.random.default_rng(0).normal(size=(500, 20))).astype("float32")
    eofs = decompose(values)
    assert eofs.coefficients.dtype == eofs.reconstruct().dtype == "float32"
    np.testing.assert_allclose(eofs.reconstruct(), values, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[1.0, np.nan], [2, 3]]), "25.0% of the values are missing"),
        (np.ones((1, 3)), "two places"),
        (np.ones(3), "two places"),
    ],
)
def test_what_cannot_be_decomposed_is_refused(values, message):
    with pytest.raises(TimoError, match=message):
        decompose(values)


@pytest.mark.parametrize("wanted", [0, 99, -1, 0.0, 1.5, True, "all", np.nan])
def test_impossible_numbers_of_components_are_refused(wanted):
    with pytest.raises(TimoError, match="components"):
        decompose(np.random.default_rng(0).normal(size=(10, 5)), wanted)


def test_kriging_of_components_beats_the_nearest_station():
    seen, hidden = make_stations(200, noise=0.1), make_stations(100, seed=1)

    told = EOFInterpolator("krige").fit(seen).predict(hidden)

    assert told.dims == ("time", "point")
    apart = np.hypot(*(seen[c].values[:, None] - hidden[c].values for c in "xy"))
    nearest = abs(seen.values[:, apart.argmin(axis=0)] - hidden.values).mean()
    assert abs(told - hidden).mean() < 0.3 * nearest


def test_the_network_learns_the_field():
    seen, hidden = make_stations(400), make_stations(100, seed=1)

    interpolator = quick(epochs=60, n_components=3).fit(seen)

    error = abs(interpolator.predict(hidden) - hidden).mean()
    assert error < 0.25 * abs(hidden - seen.mean("point")).mean()
    fitted, _ = np.transpose(interpolator.coefficients_.errors)
    assert len(fitted) == 60
    assert fitted[-1] < 0.3 * fitted[0]


def test_the_weights_of_the_best_epoch_are_kept():
    seen = make_stations(60, noise=0.5)
    held_out = xr.DataArray(np.arange(60) >= 40, dims="point")

    interpolator = quick(epochs=40, batch_size=16).fit(seen, validation=held_out)

    told = interpolator.predict(seen)
    error = abs(told - seen).isel(point=held_out.values).mean()
    assert error == pytest.approx(
        min(held for _, held in interpolator.coefficients_.errors), rel=1e-4
    )


def test_validation_places_train_nothing_but_the_basis():
    seen = make_stations(60)
    held_out = xr.DataArray(np.arange(60) >= 40, dims="point")
    alone = quick(validation_share=0).fit(seen)
    with_some = quick().fit(seen, validation=held_out)

    assert np.isnan(alone.coefficients_.errors[-1][1])
    with pytest.raises(TimoError, match="none is left"):
        quick().fit(seen, validation=xr.ones_like(held_out))
    with pytest.raises(TimoError, match="holds nothing out"):
        EOFInterpolator("krige").fit(seen, validation=held_out)
    with pytest.raises(TimoError, match="bool"):
        quick().fit(seen, validation=held_out[:5])
    assert not alone.predict(seen).equals(with_some.predict(seen))


def test_a_fit_is_deterministic_and_leaves_the_process_as_it_was():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the state that must not be touched
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
    seen, grid = make_stations(50), make_grid()

    first, again, other = (quick(seed=seed).fit(seen).predict(grid) for seed in (0, 0, 1))

    xr.testing.assert_identical(first, again)
    assert not first.equals(other)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == torch.get_num_threads()


def test_torch_is_imported_only_when_a_network_is_trained():
    code = "import sys; from timo.geostat.interpolation import EOFInterpolator; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_kriging_of_simulated_data_comes_near_the_noise_in_it(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from geostat_parts.simulated import simulate

    data = simulate((500, 1, 200), times=80, components=5, length_scale=30_000)

    fit = EOFInterpolator("krige").fit(data.train)

    assert fit.eofs_.above_noise == 5
    assert data.noise_floor == pytest.approx(1.236, rel=0.02)
    assert fit.eofs_.noise_variance**0.5 == pytest.approx(1.549, rel=0.02)
    assert abs(fit.predict(data.test) - data.test).mean() < 1.03 * data.noise_floor
    assert abs(fit.predict(data.test) - data.truth).mean() < 0.25 * data.noise_floor


def test_the_network_has_no_batch_normalisation():
    layers = quick().fit(make_stations(30)).coefficients_.layers
    assert {type(layer).__name__ for layer in layers} == {"Linear", "ELU"}
    assert [layer.out_features for layer in layers[:-1:2]] == [300, 100, 100, 100, 100]


def test_components_that_are_noise_in_space_are_told_and_do_no_harm():
    seen = make_stations(100, components=1)
    noisy = seen + np.random.default_rng(1).normal(size=seen.shape)

    with pytest.warns(RuntimeWarning, match="of 29 components do not vary smoothly"):
        told = EOFInterpolator("krige", n_components=29).fit(noisy).predict(make_grid())

    assert abs(told).max() < 20


@pytest.mark.parametrize("method", ["mlp", "krige"])
def test_the_result_lies_on_the_grid_with_the_times_and_the_unit_of_the_stations(method):
    seen, grid = make_stations(40), make_grid()

    told = EOFInterpolator(method, epochs=2).fit(seen).predict(grid)

    assert told.dims == ("time", "y", "x")
    assert told.name == "ndvi"
    assert told.attrs["units"] == "1"
    for name in ("y", "x"):
        np.testing.assert_array_equal(told[name], grid[name])
    assert (told["time"].values == seen["time"].values).all()
    assert np.isfinite(told).all()


@pytest.mark.parametrize("method", ["mlp", "krige"])
def test_a_cube_is_fitted_as_its_cells_are(method):
    grid = make_grid()
    x, y = np.meshgrid(grid.x, grid.y)
    values = make_field(x.ravel(), y.ravel())
    cube = xr.DataArray(
        values.T.reshape(-1, *grid.shape),
        {"y": grid.y, "x": grid.x},
        ("time", "y", "x"),
        attrs={"crs": UTM},
    )
    hole = cube.where((cube.x > 2000) | (cube.y > 2000))
    cells = points(x.ravel(), y.ravel(), values.T, UTM, time=np.arange(len(values.T)))
    cells = cells.isel(point=np.isfinite(hole[0]).values.ravel()).drop_vars("time")
    fits = [EOFInterpolator(method, epochs=2).fit(seen) for seen in (hole, cells)]

    told = [fit.predict(grid) for fit in fits]

    np.testing.assert_allclose(told[0], told[1], rtol=1e-6)
    if method == "krige":  # the corner that was never seen
        assert abs(told[0] - cube).mean() < 0.1 * cube.std()


def test_stations_are_the_same_in_metres_and_in_degrees():
    import pyproj

    seen, grid = make_stations(80), make_stations(20, seed=3)
    move = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)

    def in_degrees(stations):
        x, y = move.transform(stations.x + 500_000, stations.y + 5_000_000)
        return points(x, y, stations.values, "EPSG:4326", time=stations.time)

    plane = EOFInterpolator("krige").fit(seen).predict(grid)
    sphere = EOFInterpolator("krige").fit(in_degrees(seen)).predict(in_degrees(grid))

    assert abs(plane - sphere).mean() < 0.02 * plane.std()


@pytest.mark.parametrize("method", ["mlp", "krige"])
def test_covariates_tell_what_coordinates_cannot(method):
    random = np.random.default_rng(0)
    seen, hidden = make_stations(300), make_stations(100, seed=1)

    def with_relief(stations):
        height = random.uniform(0, 2000, stations.sizes["point"])
        series = 1 + np.linspace(0, 1, stations.sizes["time"])
        relief = xr.Dataset({"height": ("point", height)})
        return stations + 0.005 * series[:, None] * height, relief

    (seen, known), (hidden, relief) = with_relief(seen), with_relief(hidden)

    def error(*with_covariates):
        fit = EOFInterpolator(method, epochs=40).fit(seen, *with_covariates[:1])
        return abs(fit.predict(hidden, *with_covariates[1:]) - hidden).mean()

    assert error(known, relief) < 0.5 * error()


def test_where_a_covariate_is_missing_so_is_the_prediction():
    seen, grid = make_stations(40), make_grid()
    relief = xr.Dataset({"height": ("point", np.arange(40.0))})
    dem = xr.Dataset({"height": xr.zeros_like(grid)})
    dem["height"][2, 3] = np.nan

    told = EOFInterpolator("krige").fit(seen, relief).predict(grid, dem)

    assert np.isnan(told[:, 2, 3]).all()
    assert np.isnan(told).sum() == told.sizes["time"]


def test_covariates_that_do_not_fit_are_refused():
    seen, grid = make_stations(40), make_grid()
    relief = xr.Dataset({"height": ("point", np.arange(40.0))})
    fitted = quick(epochs=1).fit(seen, relief)
    cases = [
        (lambda: fitted.predict(grid), "height is missing"),
        (
            lambda: fitted.predict(grid, xr.Dataset({"slope": xr.zeros_like(grid)})),
            "height is missing",
        ),
        (lambda: fitted.predict(grid, relief), "dims"),
        (
            lambda: fitted.predict(grid, xr.Dataset({"height": xr.zeros_like(grid)[1:]})),
            "other places",
        ),
        (
            lambda: fitted.predict(
                grid, xr.Dataset({"height": make_grid().assign_coords(x=grid.x + 5)})
            ),
            "other places",
        ),
        (lambda: quick().fit(seen, relief.isel(point=slice(5))), "other places"),
        (lambda: quick().fit(seen, relief.where(relief.height > 3)), "missing .NaN."),
        (lambda: quick().fit(seen, relief["height"]), "Dataset"),
    ]
    for call, message in cases:
        with pytest.raises(TimoError, match=message):
            call()


@pytest.mark.parametrize("method", ["mlp", "krige"])
def test_one_date_one_station_series_constant_in_time_and_a_constant_field(method):
    grid = make_grid()
    seen = make_stations(60)
    steady = seen.copy(data=np.repeat(seen.values[:1], seen.sizes["time"], axis=0))
    one = EOFInterpolator(method, epochs=5).fit(seen[:1]).predict(grid)
    still = EOFInterpolator(method, epochs=5).fit(steady).predict(grid)

    assert one.sizes["time"] == 1
    np.testing.assert_allclose(
        still, xr.concat([still[0]] * still.sizes["time"], "time"), rtol=1e-5
    )
    with pytest.warns(UserWarning, match="does not vary in space"):
        flat = EOFInterpolator(method).fit(xr.full_like(seen, 0.3)).predict(grid)
    np.testing.assert_allclose(flat, 0.3)


def test_gaps_are_refused_with_the_remedy_or_filled():
    seen = make_stations(80)
    gappy = seen.where(np.random.default_rng(0).random(seen.shape) > 0.2)
    never = (
        seen.where(seen.point != 3) if "point" in seen.coords else seen.where(np.arange(80) != 3)
    )

    with pytest.raises(TimoError, match=r"gaps=.dineof."):
        EOFInterpolator("krige").fit(gappy)
    filled = EOFInterpolator("krige", n_components=3, gaps="dineof").fit(gappy).predict(make_grid())
    whole = EOFInterpolator("krige", n_components=3).fit(seen).predict(make_grid())

    assert abs(filled - whole).mean() < 0.2 * whole.std()
    # A station that was never seen is no gap, and is left out.
    assert len(EOFInterpolator("krige").fit(never).coefficients_.places) == 79


@pytest.mark.parametrize(
    ("stations", "message"),
    [
        (make_stations(2), "three or more"),
        (make_stations(5).where(False), "three or more"),
        (make_stations(5)[0], "dims"),
        (make_stations(5).rename(point="station"), "Takes points"),
        (make_stations(5).drop_vars("x"), "coordinates x and y"),
        (make_stations(5).expand_dims(band=2), "One band"),
        (np.ones((3, 4)), "geostat.points"),
        (make_stations(5) * np.inf, "three or more|infinite"),
        (make_stations(5).astype(str), "real numbers"),
    ],
)
def test_what_cannot_be_fitted_is_refused(stations, message):
    with pytest.raises(TimoError, match=message):
        quick().fit(stations)


def test_more_components_than_stations_allow_are_refused():
    with pytest.raises(TimoError, match="this field has 4"):
        quick(n_components=10).fit(make_stations(5, noise=0.1))


@pytest.mark.parametrize(
    "options",
    [
        {"method": "idw"},
        {"gaps": "mean"},
        {"neighbours": 0},
        {"neighbours": True},
        {"epochs": 0},
        {"batch_size": 1.5},
        {"validation_share": 1.0},
    ],
)
def test_impossible_options_are_refused_at_once(options):
    with pytest.raises(TimoError, match=f"{next(iter(options))} must be"):
        EOFInterpolator(**options)


def test_components_that_do_not_fit_together_are_refused():
    eofs = decompose(np.random.default_rng(0).normal(size=(9, 5)), 2)
    with pytest.raises(TimoError, match=r"patterns .K, time.; got .*decompose makes them"):
        EOFs(**{**vars(eofs), "patterns": eofs.patterns.T})
    for odd in (np.zeros((3, 4)), np.zeros((3, 2), "U3")):
        with pytest.raises(TimoError, match="one for each component"):
            eofs.reconstruct(odd)


def test_a_grid_elsewhere_or_before_the_fit_is_refused():
    fitted = quick(epochs=1).fit(make_stations(10))
    with pytest.raises(TimoError, match="Nothing was fitted"):
        quick().predict(make_grid())
    with pytest.raises(TimoError, match="two reference systems"):
        fitted.predict(make_grid(crs="EPSG:32632"))
    with pytest.raises(TimoError, match="two reference systems"):
        fitted.predict(make_grid(crs=None))
    with pytest.raises(TimoError, match=r"geostat.points"):
        fitted.predict(np.zeros((3, 3)))


def test_duplicate_stations_are_averaged_with_a_warning_by_kriging():
    seen = make_stations(30)
    twice = xr.concat([seen, seen[:, :3] + 0.01], "point")
    with pytest.warns(UserWarning, match="averaged"):
        told = EOFInterpolator("krige").fit(twice).predict(make_grid())
    assert np.isfinite(told).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick().fit(twice)


def test_covariates_are_numbers():
    seen = make_stations(20)
    kinds = xr.Dataset({"species": ("point", ["oak"] * 20)})
    with pytest.raises(TimoError, match=r"species \(<U3\) is not"):
        quick().fit(seen, kinds)


def test_validation_may_be_a_plain_array():
    seen = make_stations(30)
    held_out = np.arange(30) % 5 == 0
    plain = quick().fit(seen, validation=held_out).predict(make_grid())
    named = quick().fit(seen, validation=xr.DataArray(held_out, dims="point")).predict(make_grid())
    xr.testing.assert_identical(plain, named)
    for odd in (held_out[:5], held_out.astype(int), True, "yes"):
        with pytest.raises(TimoError, match="validation must be"):
            quick().fit(seen, validation=odd)


def test_values_that_are_nodata_are_refused():
    field = xr.DataArray(
        np.full((4, 5, 5), -9999, "int16"),
        {"time": range(4), "y": np.arange(5.0), "x": np.arange(5.0)},
        ("time", "y", "x"),
        attrs={"_FillValue": -9999},
    )
    with pytest.raises(TimoError, match="nodata"):
        quick().fit(field)


def test_too_few_stations_for_a_variogram_say_what_helps():
    with pytest.raises(TimoError, match="take more stations, or EOFInterpolator"):
        EOFInterpolator("krige", n_components=1).fit(make_stations(3))


def test_what_every_component_warns_of_is_said_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        EOFInterpolator("krige", n_components=3).fit(make_stations(9))
    told = [str(warning.message) for warning in caught]
    assert len([text for text in told if "few pairs" in text]) <= 1


def test_a_predicted_map_keeps_the_reference_system():
    fitted = EOFInterpolator("krige", n_components=1).fit(make_stations())
    assert fitted.predict(make_grid()).rio.crs.to_epsg() == 32633
    at = make_stations(9, seed=1)[0].drop_vars("time")
    assert fitted.predict(at).attrs["crs"] == UTM
