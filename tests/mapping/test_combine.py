import numpy as np
import pytest
import xarray as xr

from timo.mapping import mean_probability


def dates(*values: float) -> xr.DataArray:
    return xr.DataArray(np.array(values, "float32")[:, None, None], dims=("time", "y", "x"))


def test_mean_of_log_odds():
    p = np.array([0.2, 0.6])
    odds = np.exp(np.log(p / (1 - p)).mean())
    combined = mean_probability(dates(*p)).item()
    assert combined == pytest.approx(odds / (1 + odds), rel=1e-5)


def test_opposite_dates_cancel_and_missing_ones_do_not_count():
    assert mean_probability(dates(0.1, 0.9)).item() == pytest.approx(0.5, abs=1e-6)
    assert mean_probability(dates(0.8, np.nan)).item() == pytest.approx(0.8, rel=1e-5)


def test_one_sure_date_does_not_outvote_the_rest():
    assert mean_probability(dates(0.0, 0.8, 0.8, 0.8)).item() > 0.5


def test_nothing_observed_stays_unknown():
    assert np.isnan(mean_probability(dates(np.nan, np.nan)).item())
