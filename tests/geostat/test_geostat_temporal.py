import numpy as np
import pandas as pd
import pytest
import xarray as xr

from timo.errors import TimoError
from timo.geostat import acf, fit_model, lag_curves, pacf, wasserstein1


def series(n=300, phi=0.7, seed=0, freq="5D"):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    for t in range(1, n):
        z[t] += phi * z[t - 1]
    return xr.DataArray(
        z, dims="time", coords={"time": pd.date_range("2018-01-01", periods=n, freq=freq)}
    )


def test_autocorrelation_equals_statsmodels():
    tools = pytest.importorskip("statsmodels.tsa.stattools")
    da = series()
    np.testing.assert_allclose(acf(da, 20), tools.acf(da.values, nlags=20), atol=1e-12)
    np.testing.assert_allclose(
        pacf(da, 20), tools.pacf(da.values, nlags=20, method="ldb"), atol=1e-12
    )


def test_gaps_leave_the_autocorrelation_about_where_it_was():
    da = series(2000)
    gappy = da.where(np.random.default_rng(1).random(da.size) > 0.4)
    np.testing.assert_allclose(acf(gappy, 5), acf(da, 5), atol=0.08)
    assert float(pacf(gappy, 5)[1]) == pytest.approx(0.7, abs=0.08)
    assert abs(pacf(gappy, 5)[2:]).max() < 0.15


def test_each_pixel_has_its_own_and_months_are_regular():
    da = xr.concat([series(freq="MS"), series(seed=1, freq="MS")], "x").assign_coords(x=[1.0, 2.0])
    both = acf(da.transpose("time", "x"), 4)
    assert both.dims == ("lag", "x")
    np.testing.assert_allclose(both.sel(x=2.0), acf(da[1], 4))
    assert float(both.days[1]) == pytest.approx(30.4, abs=0.1)


def test_a_constant_series_has_none():
    with pytest.warns(RuntimeWarning, match="constant"):
        assert np.isnan(acf(series() * 0 + 0.1, 3)).all()


def test_irregular_dates_are_refused_with_the_way_out():
    da = series().isel(time=[0, 1, 2, 5, 6, 9])
    with pytest.raises(TimoError, match="resample"):
        acf(da, 2)
    regular = da.resample(time="5D").mean()
    assert acf(regular, 2).sizes["lag"] == 3
    with pytest.raises(TimoError, match="lags must be less than"):
        acf(regular, 99)
    with pytest.raises(TimoError, match="time"):
        acf(da.rename(time="t"), 2)


def test_lag_curves_equal_a_loop_over_pairs_of_dates():
    rng = np.random.default_rng(2)
    time = pd.Timestamp("2019-01-01") + pd.to_timedelta(
        np.sort(rng.choice(400, 25, replace=False)), "D"
    )
    values = rng.normal(50, 1, (25, 2, 3, 4))
    values[rng.random(values.shape) < 0.3] = np.nan
    cube = xr.DataArray(
        values, dims=("time", "band", "y", "x"), coords={"time": time, "band": ["a", "b"]}
    )
    found = lag_curves(cube, bins=4, max_lag=200)
    assert found.semivariance.dims == ("lag", "band")
    days = np.asarray((time - time[0]).days)
    for b in range(2):
        sums = np.zeros((2, 4))
        for i in range(25):
            for j in range(i):
                k = int(np.ceil(abs(days[i] - days[j]) / 50)) - 1
                difference = values[i, b] - values[j, b]
                if k < 4:
                    sums[:, k] += np.isfinite(difference).sum(), np.nansum(difference**2) / 2
        np.testing.assert_array_equal(found.pairs[:, b], sums[0])
        np.testing.assert_allclose(found.semivariance[:, b], sums[1] / sums[0], rtol=1e-9)


def test_the_range_in_time_is_days():
    pixels = xr.concat([series(400, 0.9, seed) for seed in range(30)], "point").transpose(
        "time", "point"
    )
    model = fit_model(lag_curves(pixels, max_lag=200), "exponential")
    # 0.9^k = 0.05 after 28.4 steps of 5 days.
    assert model.range_m == pytest.approx(142, rel=0.15)
    with pytest.raises(TimoError, match="three dates"):
        lag_curves(pixels[:2])
    with pytest.raises(TimoError, match="two dates"):
        lag_curves(pixels * np.nan)


def test_the_earth_movers_distance():
    a = np.random.default_rng(0).normal(size=(50, 40))
    assert wasserstein1(a, a.T) == 0
    assert wasserstein1(xr.DataArray(a), np.where(a > 9, np.nan, a + 3)) == pytest.approx(3)
    with pytest.raises(TimoError, match="finite"):
        wasserstein1(a, [np.nan])


def test_a_pandas_series_by_dates_is_taken():
    da = series(60)
    xr.testing.assert_allclose(acf(da.to_series(), 5), acf(da, 5))
    xr.testing.assert_allclose(lag_curves(da.to_series()), lag_curves(da))
    zoned = da.to_series().tz_localize("UTC")
    xr.testing.assert_allclose(pacf(zoned, 5.0), pacf(da, 5))


DATES = pd.date_range("2020-01-01", periods=30, freq="5D")


def strange(time):
    return series(30).assign_coords(time=np.asarray(time, dtype=object))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: np.zeros(30), "pandas.Series"),
        (lambda: pd.Series(np.zeros(30)), "pandas.Series"),
        (lambda: series(30).assign_coords(time=DATES.strftime("%Y-%m-%d").values), "to_datetime"),
        (lambda: strange(list(DATES.date)), "to_datetime"),
        (
            lambda: series(30).assign_coords(time=DATES[:29].append(pd.DatetimeIndex(["NaT"]))),
            "NaT",
        ),
        (lambda: series(30) / 0, "infinite"),
        (lambda: series(30).assign_attrs(nodata=series(30).values[3]), "nodata"),
        (lambda: series(30).astype(str), "to_numeric"),
        (lambda: series(30)[:0], "holds no values"),
    ],
)
@pytest.mark.parametrize("measure", [acf, pacf, lag_curves])
def test_what_is_no_series_is_refused(make, says, measure):
    array = make()
    options = {} if measure is lag_curves else {"lags": 3}
    with pytest.raises(TimoError, match=says):
        measure(array, **options)


def test_dates_of_cftime_are_refused_with_the_remedy():
    pytest.importorskip("cftime")
    da = series(30).convert_calendar("noleap", use_cftime=True)
    for measure in (lambda: acf(da, 3), lambda: lag_curves(da)):
        with pytest.raises(TimoError, match="convert_calendar"):
            measure()


def test_whole_floats_are_lags():
    assert acf(series(30), lags=10.0).sizes["lag"] == 11
    with pytest.raises(TimoError, match="lags must be a whole number"):
        acf(series(30), 2.5)


def test_masked_values_are_not_moved():
    a = np.ma.masked_equal([1.0, 2.0, -9999.0], -9999)
    assert wasserstein1(a, [1.0, 2.0]) == 0
