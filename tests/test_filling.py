"""Filled cubes: observations as they were, fillings told, the sample's hidden clouds guessed better than by others."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from timo.cube import check, composite
from timo.errors import TimoError
from timo.filling import METHODS, fill


def make_cube(dates=24, side=16, seed=0):
    """Three bands of a season, a pattern and a shift of each date; two corners hidden on every other date."""
    rng = np.random.default_rng(seed)
    time = pd.date_range("2018-01-05", periods=dates, freq="23D")
    season = np.sin(time.day_of_year.values / 365 * 2 * np.pi)[:, None, None, None]
    place = rng.random((1, 3, side, side))
    values = 0.3 + 0.1 * season * place + 0.05 * rng.normal(size=(dates, 1, 1, 1)) + 0.05 * place
    values = values + 0.002 * rng.normal(size=values.shape)
    truth = xr.DataArray(
        values.astype("float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": time,
            "band": ["B3", "B4", "B8"],
            "y": np.arange(side)[::-1] * 10.0,
            "x": np.arange(side) * 10.0,
        },
        attrs={"sensor": "sentinel-2"},
        name="reflectance",
    ).rio.write_crs("EPSG:3035")
    gappy = truth.copy(deep=True)
    gappy[1::4, :, :7, :9] = np.nan
    gappy[3::4, :, 8:, 4:] = np.nan
    return truth, gappy


@pytest.mark.parametrize("method", METHODS)
def test_observations_stay_bit_for_bit_and_gaps_are_told(method):
    _, gappy = make_cube()
    before = gappy.copy(deep=True)
    done = fill(gappy, method)
    xr.testing.assert_identical(gappy, before)
    check(done)
    assert done.dtype == np.float32
    seen = np.isfinite(gappy).values
    assert (done.values[seen].view("uint32") == gappy.values[seen].view("uint32")).all()
    assert np.isfinite(done.values).all()
    assert (done.filled.values == ~seen.all(axis=1)).all()
    assert done.attrs["filled"].startswith(method)
    xr.testing.assert_identical(
        done.where(~done.filled).drop_vars("filled").drop_attrs(deep=False),
        gappy.drop_attrs(deep=False),
    )


@pytest.mark.parametrize("method", METHODS)
def test_fillings_stay_within_what_was_observed(method):
    _, gappy = make_cube(seed=3)
    done, over = fill(gappy, method), ("time", "y", "x")
    assert (done.min(over) >= gappy.min(over)).all()
    assert (done.max(over) <= gappy.max(over)).all()


def test_components_know_what_a_date_is_like():
    truth, gappy = make_cube()
    gaps = np.isnan(gappy)
    error = {m: float(abs(fill(gappy, m) - truth).where(gaps).mean()) for m in METHODS}
    assert error["eof"] < 0.3 * min(error["linear"], error["climatology"])


def test_a_lazy_cube_is_filled_and_other_coordinates_are_kept():
    _, gappy = make_cube()
    gappy = gappy.assign_coords(scl=(("time", "y", "x"), np.zeros((24, 16, 16), "uint8")))
    done = fill(gappy.chunk(time=5), "linear")
    np.testing.assert_array_equal(done, fill(gappy, "linear"))
    assert {"scl", "spatial_ref", "filled"} <= set(done.coords)
    assert done.name == gappy.name
    check(composite(done))


def test_it_goes_through_a_file(tmp_path):
    _, gappy = make_cube()
    done = fill(gappy)
    done.to_netcdf(tmp_path / "filled.nc", engine="netcdf4")
    with xr.open_dataset(tmp_path / "filled.nc", engine="netcdf4", decode_coords="all") as read:
        assert read.coords["filled"].dtype == bool
        np.testing.assert_array_equal(read.coords["filled"], done.coords["filled"])


def test_a_cube_without_gaps_is_as_it_was():
    truth, _ = make_cube()
    done = fill(truth)
    assert not done.filled.any()
    np.testing.assert_array_equal(done, truth)
    np.testing.assert_array_equal(fill(done), truth)


def test_a_band_of_its_own_gap():
    _, gappy = make_cube()
    gappy[2, 1, 3, 4] = np.nan
    done = fill(gappy)
    assert done.filled[2].sum() == 1
    assert done.filled[2, 3, 4]


@pytest.mark.parametrize("method", METHODS)
def test_a_pixel_never_seen_stays_missing_with_a_warning(method):
    _, gappy = make_cube()
    gappy[:, :, 5, 6] = np.nan
    with pytest.warns(UserWarning, match=r"1 pixel\(s\) were never observed"):
        done = fill(gappy, method)
    assert np.isnan(done[:, :, 5, 6]).all()
    assert not done.filled[:, 5, 6].any()
    assert int(np.isnan(done).sum()) == 3 * 24


@pytest.mark.parametrize("method", METHODS)
def test_a_date_without_any_observation_is_filled(method):
    truth, gappy = make_cube()
    gappy[[0, 10]] = np.nan
    done = fill(gappy, method)
    assert done.filled[[0, 10]].all()
    assert float(abs(done - truth).mean()) < 0.05


def test_one_date_has_nothing_to_be_filled_from():
    _, gappy = make_cube()
    with pytest.warns(UserWarning, match="too few"), pytest.warns(UserWarning, match="stay NaN"):
        done = fill(gappy.isel(time=[1]))
    np.testing.assert_array_equal(done, gappy.isel(time=[1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be one of 'eof', 'linear', 'climatology'"),
        (
            {"method": "linear", "n_components": 3},
            "n_components are options of method=\"eof\", not of 'linear'",
        ),
        ({"components": 3}, "Did you mean 'n_components'"),
        ({"n_components": 24}, "24 components cannot be determined from 24 dates"),
        ({"memory_limit": 1000}, "over the limit"),
        ({"candidates": 5}, "candidates must be a list"),
    ],
)
def test_bad_options_are_met_at_the_door(options, message):
    with pytest.raises(TimoError, match=message):
        fill(make_cube()[1], **options)


def test_what_is_no_cube_is_refused():
    _, gappy = make_cube()
    with pytest.raises(TimoError, match="all NaN"):
        fill(gappy * np.float32(np.nan))
    with pytest.raises(TimoError, match="all NaN"):
        fill((gappy * np.float32(np.nan)).chunk(time=4))
    with pytest.raises(TimoError, match="order"):
        fill(gappy.transpose("band", ...))
    with pytest.raises(TimoError, match="DataArray"):
        fill(gappy.values)


def test_hidden_clouds_of_the_sample_are_told_better_than_by_line_or_month():
    pytest.importorskip("nrt.data")
    import timo

    cube = timo.open_cube("sample", start="2017", end="2018").compute()
    seen = np.isfinite(cube).all("band")
    share = seen.mean(("y", "x")).values
    clear, cloudy = np.flatnonzero(share > 0.97), np.flatnonzero((share > 0.2) & (share < 0.8))
    hidden = xr.zeros_like(seen)
    for date, cloud in zip(clear[::3], np.resize(cloudy, clear[::3].size), strict=True):
        hidden[date] = seen[date] & ~seen[cloud]
    gappy = cube.where(~hidden)
    error = {m: float(abs(fill(gappy, m) - cube).where(hidden).mean()) for m in METHODS}
    assert error["eof"] < 0.8 * min(error["linear"], error["climatology"])
