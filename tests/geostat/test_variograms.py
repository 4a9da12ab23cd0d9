import itertools
import tracemalloc
import warnings

import numpy as np
import pyproj
import pytest
import rioxarray  # noqa: F401  registers .rio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.geostat import fit_model, points, variogram
from timo.geostat.lags import joined
from timo.geostat.places import distances, places_of


def raster(values, step=10.0, crs="EPSG:32633", origin=(500_000.0, 5_000_000.0)):
    height, width = np.shape(values)[-2:]
    coords = {
        "y": origin[1] - step * np.arange(height),
        "x": origin[0] + step * np.arange(width),
    }
    dims = ("y", "x") if np.ndim(values) == 2 else ("time", "y", "x")
    made = xr.DataArray(np.asarray(values, dtype="float64"), dims=dims, coords=coords)
    return made if crs is None else made.rio.write_crs(crs)


def noise(*shape, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 2, shape)
    values[rng.random(shape) < missing] = np.nan
    return values


def naive(array, edges):
    """Semivariance and pairs, pair after pair, in float64."""
    places, z = places_of(array), array.values.ravel()
    sums = np.zeros((2, len(edges) - 1))
    for i, j in itertools.combinations(np.flatnonzero(np.isfinite(z)), 2):
        h = distances(places[[i]], places[[j]])[0, 0]
        k = np.searchsorted(np.asarray(edges) * (1 + 1e-9), h) - 1
        if h > 0 and 0 <= k < sums.shape[1]:
            sums[:, k] += 1, (z[i] - z[j]) ** 2 / 2
    return sums[1] / np.maximum(sums[0], 1), sums[0]


def test_fourier_transforms_equal_all_pairs_on_a_gappy_raster():
    field = raster(noise(100, 100, missing=0.3))
    fast, slow = variogram(field), variogram(field, method="pairs")
    assert (fast.method, slow.method) == ("fft", "pairs")
    np.testing.assert_array_equal(fast.pairs, slow.pairs)
    np.testing.assert_allclose(fast.semivariance, slow.semivariance, rtol=0, atol=1e-10)
    np.testing.assert_allclose(fast.lag, slow.lag, rtol=1e-12)


@given(
    st.tuples(st.integers(1, 7), st.integers(3, 7)),
    st.sampled_from([0.0, 0.3]),
    st.integers(1, 9),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=25)
def test_both_methods_equal_a_loop_over_pairs(shape, missing, bins, seed):
    field = raster(noise(*shape, missing=missing, seed=seed))
    if np.isfinite(field).sum() < 3:
        return
    edges = np.linspace(0, 60, bins + 1)
    gamma, pairs = naive(field, edges)
    for method in ("fft", "pairs"):
        found = variogram(field, bins=edges, method=method)
        np.testing.assert_array_equal(found.pairs, pairs)
        np.testing.assert_allclose(found.semivariance.fillna(0), gamma, atol=1e-10)


def test_scattered_points_equal_a_loop_over_pairs():
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 1000, (2, 60))
    data = points(x + 4e6, y + 3e6, rng.normal(size=60), "EPSG:3035")
    edges = np.linspace(0, 700, 12)
    gamma, pairs = naive(data, edges)
    found = variogram(data, bins=edges)
    np.testing.assert_array_equal(found.pairs, pairs)
    np.testing.assert_allclose(found.semivariance, gamma, rtol=1e-5)


def test_chunks_do_not_show_and_memory_is_bounded():
    rng = np.random.default_rng(4)
    x, y, z = rng.uniform(0, 1000, (3, 3000))
    data = points(x, y, z)
    tracemalloc.start()
    found = variogram(data, bins=10, max_lag=2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.pairs.sum() == 3000 * 2999 / 2
    mean = float((found.semivariance * found.pairs).sum() / found.pairs.sum())
    assert mean == pytest.approx(z.var(ddof=1), rel=1e-5)
    assert peak < 60e6


def test_the_robust_estimator_moves_less_with_outliers():
    values = noise(60, 60)
    spoilt = values.copy()
    spoilt[::12, ::12] += 100
    clean = variogram(raster(values), max_lag=200, estimator="cressie")
    robust = variogram(raster(spoilt), max_lag=200, estimator="cressie")
    plain = variogram(raster(spoilt), max_lag=200)
    np.testing.assert_allclose(clean.semivariance, 4, rtol=0.1)
    assert robust.semivariance.mean() < 6
    assert plain.semivariance.mean() > 60


def test_cressie_agrees_with_gstools():
    gstools = pytest.importorskip("gstools")
    rng = np.random.default_rng(5)
    x, y, z = rng.uniform(0, 100, (3, 300))
    edges = np.linspace(0, 60, 9)
    for estimator in ("matheron", "cressie"):
        found = variogram(points(x, y, z), bins=edges, estimator=estimator)
        _, gamma, pairs = gstools.vario_estimate(
            (x, y), z, edges, estimator=estimator, return_counts=True
        )
        np.testing.assert_array_equal(found.pairs, pairs)
        np.testing.assert_allclose(found.semivariance, gamma, rtol=1e-5)


def test_dates_are_pooled_and_never_paired_with_each_other():
    first, second = noise(20, 20, missing=0.2), noise(20, 20, missing=0.2, seed=1)
    levels = raster(np.stack([first, second + 1000, np.full((20, 20), np.nan)]))
    edges = np.linspace(0, 100, 6)
    a, b = (variogram(raster(v), bins=edges) for v in (first, second))
    for method in ("fft", "pairs"):
        both = variogram(levels, bins=edges, method=method)
        np.testing.assert_array_equal(both.pairs, a.pairs.values + b.pairs.values)
        sums = [(v.semivariance * v.pairs).values for v in (a, b)]
        pooled = (sums[0] + sums[1]) / both.pairs
        np.testing.assert_allclose(both.semivariance, pooled, rtol=1e-9)
        assert both.variance == pytest.approx(4, rel=0.2)


def test_a_raster_of_degrees_takes_one_length_of_a_degree_or_pairs():
    small = raster(noise(40, 50), 0.001, "EPSG:4326", (25.0, 47.0))
    edges = np.linspace(0, 2000, 8)
    fast, slow = variogram(small, bins=edges), variogram(small, bins=edges, method="pairs")
    assert fast.attrs["distance"] == "great circle"
    # A pair whose length differs by a thousandth may fall on the other side of an edge.
    np.testing.assert_allclose(fast.pairs, slow.pairs, rtol=0.02)
    np.testing.assert_allclose(fast.semivariance, slow.semivariance, rtol=0.01)
    tall = raster(noise(30, 20), 0.5, "EPSG:4326", (25.0, 60.0))
    assert variogram(tall).method == "pairs"
    with pytest.raises(TimoError, match="even raster"):
        variogram(tall, method="fft")


def test_degrees_and_metres_tell_the_same_of_the_same_points():
    rng = np.random.default_rng(6)
    x, y = np.array([[500_000], [5_000_000]]) + rng.uniform(0, 20_000, (2, 400))
    z = np.sin(x / 3000) + np.cos(y / 4000)
    lon, lat = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    edges = np.linspace(0, 10_000, 8)
    plane = variogram(points(x, y, z, 32633), bins=edges)
    sphere = variogram(points(lon, lat, z, 4326), bins=edges)
    np.testing.assert_allclose(sphere.semivariance, plane.semivariance, rtol=0.03)


def test_directions_are_told_apart():
    rows = np.repeat(np.random.default_rng(7).normal(size=(50, 1)), 50, axis=1)
    for method in ("fft", "pairs"):
        options = {"max_lag": 100, "bins": 5, "tolerance": 10, "method": method}
        along = variogram(raster(rows), direction=90, **options)
        across = variogram(raster(rows), direction=0, **options)
        assert along.semivariance[0] < 0.05
        assert across.semivariance[0] > 0.7
    slanted = raster(np.subtract.outer(np.arange(30.0), -np.arange(30.0)))
    # y falls with the row: z is constant to the north-east.
    assert float(variogram(slanted, direction=45, tolerance=0.5).semivariance.max()) < 1e-9
    assert float(variogram(slanted, direction=135, tolerance=0.5).semivariance.max()) > 10


def test_joined_bins_lose_no_pair_and_hold_enough():
    sums = np.array([[5.0, 10, 20, 100, 3], [1, 2, 3, 4, 5]])
    sums[0] *= 9
    edges, pooled = joined(np.arange(6.0), sums)
    np.testing.assert_array_equal(edges, [0, 1, 2, 3, 5])
    np.testing.assert_array_equal(pooled, [[45, 90, 180, 927], [1, 2, 3, 9]])
    few = np.array([[5.0, 10, 20, 100, 3], [1, 2, 3, 4, 5]])
    with pytest.warns(RuntimeWarning, match="few pairs"):
        edges, pooled = joined(np.arange(6.0), few)
    np.testing.assert_array_equal(edges, [0, 3, 5])
    np.testing.assert_array_equal(pooled, [[35, 103], [6, 9]])
    with pytest.warns(RuntimeWarning, match="2 in all"):
        np.testing.assert_array_equal(joined(np.arange(3.0), np.array([[1.0, 1]]))[1], [[2]])


def test_duplicates_are_left_out_and_many_points_are_drawn_with_a_warning():
    data = points([0, 0, 1, 2], [0, 0, 0, 0], [1.0, 5, 1, 1])
    assert variogram(data, max_lag=3, bins=3).pairs.sum() == 5
    rng = np.random.default_rng(8)
    many = points(*rng.uniform(size=(3, 500)))
    with pytest.warns(UserWarning, match="drawn at random"):
        drawn = variogram(many, max_points=100, max_lag=2, bins=1)
    assert drawn.pairs.sum() == 100 * 99 / 2


def test_a_projection_that_stretches_is_warned_of():
    with pytest.warns(UserWarning, match="times the true ones"):
        variogram(raster(noise(9, 9), crs="EPSG:3857", origin=(0.0, 8e6)))


def test_a_constant_field_has_a_semivariance_of_zero():
    assert float(variogram(raster(np.full((9, 9), 0.1))).semivariance.max()) == 0


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        (np.zeros((3, 3)), {}, "xarray.DataArray"),
        (raster(np.full((5, 5), np.nan)), {}, "three places"),
        (points([1, 2], [1, 2], [1, 2]), {}, "three places"),
        (points([1, 1, 1], [2, 2, 2], [1, 2, 3]), {}, "same one"),
        (raster(noise(5, 5)).expand_dims(band=2), {}, "Select a band"),
        (raster(np.full((5, 5), np.inf)), {}, "infinite"),
        (raster(noise(5, 5)), {"max_lag": 1.0}, "No two values"),
        (raster(noise(5, 5)), {"max_lag": -1.0}, "max_lag"),
        (raster(noise(5, 5)), {"bins": "many"}, "bins must be one of 'auto' or a whole number"),
        (raster(noise(5, 5)), {"bins": [3, 2, 1]}, "ascend"),
        (raster(noise(5, 5)), {"bins": [3]}, "at least two"),
        (raster(noise(5, 5)).astype(str), {}, "values must be real numbers"),
        (raster(noise(5, 5)), {"method": "fft", "estimator": "cressie"}, "Matheron"),
        (raster(noise(5, 5)), {"direction": 0, "tolerance": 0}, "tolerance"),
        (points([1, 2, 3], [1, 2, 4], [1, 2, 3], 4326), {"direction": 0}, "projected"),
        (points([1, 2, 3], [1, 2, 4], [1, 2, 3]), {"method": "fft"}, "even raster"),
        (raster(noise(5, 5)), {"bins": [0, 100, np.inf]}, "number 2 is inf"),
        (raster(noise(5, 5)), {"bins": 2.5}, "whole"),
        (raster(noise(5, 5)), {"max_points": 2}, "max_points"),
    ],
)
def test_bad_input_is_refused(values, options, says):
    with pytest.raises(TimoError, match=says):
        variogram(values, **options)


@pytest.mark.parametrize("seed", range(8))
def test_ten_stations_are_enough_for_a_model_or_a_warned_nugget(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, 1e5, (2, 10))
    stations = points(5e5 + x, 5e6 + y, rng.normal(size=10), "EPSG:32632")
    with pytest.warns(RuntimeWarning, match="few pairs"):
        curve = variogram(stations)
    assert curve.pairs.min() >= 5
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = fit_model(curve)
    assert model.partial_sill > 0 or any("does not rise" in str(w.message) for w in told)


def test_the_rasters_nodata_is_refused():
    field = raster(noise(9, 9)).assign_attrs(_FillValue=-1.0)
    variogram(field, bins=3)
    field[2, 3] = -1
    with pytest.raises(TimoError, match="nodata"):
        variogram(field)


def test_a_raster_in_grads_is_that_in_degrees():
    grads = raster(noise(12, 12), 0.01, "EPSG:4807", (8.0, 50.0))
    degrees = raster(noise(12, 12), 0.009, "EPSG:4326", (7.2, 45.0))
    found, expected = variogram(grads), variogram(degrees)
    assert found.method == "fft"
    np.testing.assert_allclose(found.lag, expected.lag)
