"""Gaps filled by components: what is observed stays, what has low rank is found again, what cannot be is said."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings

from timo.errors import TimoError
from timo.geostat.interpolation.gappy import Iteration, dineof, iterate, set_aside, smoother_of
from timo.geostat.interpolation.in_time import linear_in_time, monthly_climatology


def field(dates=30, side=12, bands=2, rank=3, *, noise=0.0):
    """A field of low rank (time, band, y, x), irregular dates."""
    rng = np.random.default_rng(0)
    left = rng.normal(size=(dates, rank))
    right = rng.normal(size=(rank, bands * side * side))
    values = left @ right + noise * rng.normal(size=(dates, bands * side * side))
    values = (
        values.reshape(dates, bands, side, side) * np.array([1.0, 100.0, 5.0])[:bands, None, None]
    )
    days = np.cumsum(rng.integers(1, 12, dates))
    return xr.DataArray(
        values.astype("float32"),
        dims=("time", "band", "y", "x"),
        coords={"time": pd.Timestamp("2019-01-01") + pd.to_timedelta(days, "D")},
        attrs={"units": "1"},
    )


def clouds(truth, dates, seed=1):
    """A rectangle hidden on some dates, of all bands."""
    rng = np.random.default_rng(seed)
    hidden = np.zeros((truth.sizes["time"], truth.sizes["y"], truth.sizes["x"]), bool)
    for date in rng.choice(len(hidden), dates, replace=False):
        row, col = rng.integers(0, truth.sizes["y"] - 3, 2)
        hidden[date, row : row + 6, col : col + 7] = True
    return xr.DataArray(hidden, dims=("time", "y", "x"))


def test_a_field_of_low_rank_is_found_again():
    truth = field()
    hidden = clouds(truth, 15)
    done = dineof(truth.where(~hidden), 3, shrinkage=0, max_iterations=200, tolerance=1e-5)
    error = (done.filled - truth).where(hidden)
    spread = truth.std(("time", "y", "x"))
    assert (np.sqrt((error**2).mean(("time", "y", "x"))) < 0.05 * spread).all()


def test_components_beat_a_straight_line_where_dates_differ():
    truth = field(noise=0.1)
    hidden = clouds(truth, 15)
    gappy = truth.where(~hidden)
    ours, line = (
        float(abs(done - truth).where(hidden).isel(band=0).mean())
        for done in (dineof(gappy).filled, linear_in_time(gappy))
    )
    assert ours < 0.4 * line


def test_cross_validation_finds_the_rank():
    done = dineof(field(noise=0.3).where(~clouds(field(), 15)), candidates=(1, 2, 3, 6, 12, 20))
    errors = done.error.to_series()
    assert done.attrs["n_components"] in (3, 6)
    assert errors[1] > 2 * errors[3]


def test_observations_are_untouched_and_the_form_is_kept():
    truth = field(noise=0.2).transpose("y", "time", "x", "band")
    gappy = truth.where(~clouds(truth, 10))
    done = dineof(gappy, 3)
    assert done.filled.dims == gappy.dims
    assert done.filled.dtype == gappy.dtype
    assert done.filled.attrs == gappy.attrs
    seen = np.isfinite(gappy).values
    np.testing.assert_array_equal(done.filled.values[seen], gappy.values[seen])
    assert np.isfinite(done.filled.values).all()
    assert done.error.size == 0


def test_a_series_that_was_never_seen_stays_missing():
    truth = field()
    gappy = truth.where(~clouds(truth, 10)).copy()
    gappy[:, 1, 4, 5] = np.nan
    done = dineof(gappy, 3).filled
    assert np.isnan(done).sum() == truth.sizes["time"]
    assert np.isnan(done[:, 1, 4, 5]).all()


def test_a_date_without_observations_lies_between_its_neighbours():
    truth = field(noise=0.1)
    gappy = truth.where(~clouds(truth, 10)).copy()
    gappy[7] = np.nan
    done = dineof(gappy, 3)
    expected = done.reconstruction.drop_isel(time=7).interp(time=truth.time[7])
    np.testing.assert_allclose(done.filled[7], expected, rtol=1e-3, atol=1e-3)


def test_nothing_missing_changes_nothing():
    truth = field()
    xr.testing.assert_identical(dineof(truth, 3).filled.rename(None), truth)


def test_one_kind_of_values_needs_no_band():
    truth = field().isel(band=0)
    done = dineof(truth.where(~clouds(truth, 10)), 3)
    assert np.isfinite(done.filled.values).all()
    constant = xr.ones_like(truth).where(~clouds(truth, 10))
    np.testing.assert_allclose(dineof(constant, 2).filled, 1.0, rtol=1e-5)


def test_no_stage_takes_more_iterations_than_it_may():
    truth = field(noise=0.3)
    done = dineof(truth.where(~clouds(truth, 15)), 4, max_iterations=2, tolerance=1e-9)
    assert done.attrs["iterations"] == 6  # 1, 2 and 4 components
    assert np.isfinite(done.filled.values).all()


def test_nothing_to_choose_by_is_said():
    truth = field(dates=3).isel(x=slice(3), y=0, band=0)
    truth = truth.where(xr.DataArray(np.eye(3, dtype=bool), dims=("time", "x")))
    with pytest.warns(RuntimeWarning, match="1 is taken"):
        done = dineof(truth, candidates=(1, 2))
    assert done.attrs["n_components"] == 1


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f.isel(time=0, drop=True), {}, 'dim "time"'),
        (lambda f: f.values, {}, "got ndarray"),
        (lambda f: f.isel(time=slice(None, None, -1)), {}, "ascend"),
        (lambda f: f.assign_coords(time=np.arange(30)), {}, "datetime64"),
        (lambda f: f * np.nan, {}, "3 dates or more; there are 0"),
        (lambda f: f.isel(time=[0, 1]), {}, "there are 2"),
        (lambda f: f, {"n_components": 30}, "30 components cannot be determined from 30 dates"),
        (lambda f: f, {"n_components": 2.5}, "n_components must be a whole number of 1 or more"),
        (lambda f: f, {"candidates": ()}, "candidates is empty"),
        (lambda f: f, {"candidates": (1, "a")}, "candidates must be a list of whole numbers"),
        (lambda f: f, {"standardize": "time"}, 'run along "time"'),
        (lambda f: f.isel(time=[]), {}, "along the dim"),
        (lambda f: f.isel(x=[]), {}, "there are 0"),
        (lambda f: f, {"candidates": (40, 50)}, "40 components"),
        (lambda f: f, {"tolerance": float("nan")}, "tolerance"),
    ],
)
def test_bad_input_is_met_at_the_door(change, options, message):
    with pytest.raises(TimoError, match=message):
        dineof(change(field()), **options)


@settings(max_examples=30, deadline=None)
@given(
    dates=st.integers(3, 12),
    series=st.integers(1, 40),
    rank=st.integers(1, 11),
    seed=st.integers(0, 99),
)
def test_the_smoother_is_the_truncated_decomposition(dates, series, rank, seed):
    values = np.random.default_rng(seed).normal(size=(dates, series))
    rank = min(rank, dates - 1)
    mean = values.mean(axis=0)
    left, sizes, right = np.linalg.svd(values - mean, full_matrices=False)
    expected = (left[:, :rank] * sizes[:rank]) @ right[:rank] + mean
    told = smoother_of(values, [slice(0, 7), slice(7, None)], rank, 0.0) @ values
    np.testing.assert_allclose(told, expected, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), share=st.floats(0.05, 0.9))
def test_what_is_set_aside_was_observed_and_leaves_something(seed, share):
    rng = np.random.default_rng(seed)
    seen = rng.random((20, 50)) > share
    hidden = set_aside(seen, rng)
    assert not (hidden & ~seen).any()
    assert (seen & ~hidden).sum() > 0.5 * seen.sum()


def test_the_iteration_does_not_diverge_on_noise():
    rng = np.random.default_rng(0)
    known = rng.normal(size=(20, 300)).astype("float32")
    known[rng.random(known.shape) < 0.7] = np.nan
    told, _ = iterate(known, np.zeros_like(known), 15, Iteration(shrinkage=0, max_iterations=200))
    assert np.isfinite(told).all()
    assert np.abs(told).max() < 100


def test_straight_lines_follow_the_dates_and_hold_the_ends():
    time = pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-11", "2020-01-21", "2020-02-01"])
    values = xr.DataArray([[np.nan] * 2, [1, np.nan], [np.nan] * 2, [20, np.nan], [np.nan] * 2],
                          dims=("time", "x"), coords={"time": time})  # fmt: skip
    done = linear_in_time(values)
    np.testing.assert_allclose(done.isel(x=0), [1, 1, 10, 20, 20])
    assert np.isnan(done.isel(x=1)).all()


def test_months_are_meant_over_years_and_lines_fill_the_rest():
    time = pd.to_datetime(["2018-07-01", "2018-08-01", "2019-07-01", "2020-07-01", "2020-09-01"])
    values = xr.DataArray([1.0, 4.0, 3.0, np.nan, np.nan], dims="time", coords={"time": time})
    np.testing.assert_allclose(monthly_climatology(values), [1, 4, 3, 2, 2])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v.where(v != v.max(), np.inf), "infinite"),
        (lambda v: v.astype(str), "real numbers"),
        (lambda v: v.where(v != v.max(), -9999).assign_attrs(_FillValue=-9999), "nodata"),
    ],
)
def test_values_that_are_none_are_refused(spoil, message):
    with pytest.raises(TimoError, match=message):
        dineof(spoil(field()))


@pytest.mark.parametrize("odd", [str, bool, complex])
def test_lines_are_drawn_between_real_numbers(odd):
    with pytest.raises(TimoError, match="real numbers"):
        linear_in_time(field().astype(odd))
