"""Leaving observations out: what is told of each from the others, and whether intervals cover what they say."""

import numpy as np
import pytest
import xarray as xr

from timo.errors import TimoError
from timo.geostat.kriging import cross_validate, interval, krige
from timo.geostat.models import VariogramModel, random_field
from timo.geostat.places import points

MODEL = VariogramModel("exponential", sill=1.0, range_m=300, nugget=0.2)


def scattered(n=80, seed=0, dates=None):
    rng = np.random.default_rng(seed)
    return points(
        *rng.uniform(0, 1000, (2, n)),
        rng.normal(size=n if dates is None else (dates, n)),
        time=dates and range(dates),
    )


@pytest.mark.parametrize("neighbours", [10, 79, None])
def test_each_is_told_from_the_others(neighbours):
    known = scattered()
    told = cross_validate(known, MODEL, neighbours=neighbours)
    for out in (0, 17, 79):
        rest = known.isel(point=np.arange(80) != out)
        alone = krige(rest, known.isel(point=[out]), MODEL, neighbours=neighbours)
        assert told["mean"].values[out] == pytest.approx(alone["mean"].item(), abs=1e-9)
        assert told["variance"].values[out] == pytest.approx(alone["variance"].item(), abs=1e-9)
    xr.testing.assert_allclose(told["error"], told["mean"] - known)


def test_a_series_with_gaps():
    series = scattered(dates=4)
    series[1, :20] = np.nan
    told = cross_validate(series, MODEL, neighbours=10)
    np.testing.assert_array_equal(told["mean"].isnull(), series.isnull())
    alone = cross_validate(series[1, 20:].drop_vars("time"), MODEL, neighbours=10)
    np.testing.assert_allclose(told["variance"][1, 20:], alone["variance"])
    np.testing.assert_allclose(told["mean"][1, 20:], alone["mean"])


def test_folds_are_left_out_together():
    known = scattered()
    labels = (known.x > 500).values.astype(int)
    told = cross_validate(known, MODEL, folds=labels)
    west = krige(known[labels == 0], known[labels == 1], MODEL)
    np.testing.assert_allclose(told["mean"].values[labels == 1], west["mean"])
    assert told.attrs["rmse"] > 0
    random = cross_validate(known, MODEL, folds=5)
    xr.testing.assert_identical(random, cross_validate(known, MODEL, folds=5))
    assert random["mean"].notnull().all()


@pytest.mark.filterwarnings("ignore:The semivariance:RuntimeWarning")
def test_a_held_out_value_changes_nothing_of_what_is_told_of_it():
    known = scattered()
    labels = (known.x > 500).values.astype(int)
    other = known + 100 * labels
    plain, changed = (cross_validate(p, folds=labels) for p in (known, other))
    east = labels == 1
    np.testing.assert_array_equal(plain["mean"].values[east], changed["mean"].values[east])
    np.testing.assert_array_equal(plain["variance"].values[east], changed["variance"].values[east])


@pytest.mark.filterwarnings("ignore:1 points lie where")
def test_points_at_one_place_do_not_tell_of_each_other():
    known = scattered()
    twice = xr.concat([known, known[:1] + 50], "point")
    told = cross_validate(twice, MODEL, neighbours=10)
    alone = cross_validate(known, MODEL, neighbours=10)
    assert told.sizes["point"] == 81
    assert (
        told["mean"].values[0] == told["mean"].values[80] == pytest.approx(alone["mean"].values[0])
    )


def test_the_fitted_model_covers_what_it_says():
    coverages = []
    for seed in range(6):
        field = random_field(scattered(400, seed), MODEL, seed)
        told = cross_validate(field)
        assert told.attrs["standardised"] == pytest.approx(1, abs=0.35)
        coverages.append(told.attrs["coverage_90"])
    assert 0.87 <= np.mean(coverages) <= 0.93


@pytest.mark.parametrize("noise", ["microscale", "measurement"])
def test_intervals_cover_what_the_noise_says(noise):
    inside = []
    clean = VariogramModel("exponential", sill=0.8, range_m=300)
    for seed in range(6):
        field = random_field(scattered(700, seed), clean, seed)
        error = np.sqrt(0.2) * np.random.default_rng(seed).normal(size=700)
        known = field[:400] + error[:400]
        bounds = interval(krige(known, field[400:], MODEL, noise=noise))
        truth = field[400:] + (error[400:] if noise == "microscale" else 0)
        inside.append(((truth >= bounds.lower) & (truth <= bounds.upper)).mean().item())
    assert 0.87 <= np.mean(inside) <= 0.93


def test_the_nearest_are_as_good_as_all():
    local, dense = [], []
    for seed in range(3):
        field = random_field(scattered(900, seed), MODEL, seed)
        known, cells = field[:600], field[600:]
        for kept, neighbours in ((local, 32), (dense, None)):
            told = krige(known, cells, MODEL, neighbours=neighbours)["mean"]
            kept.append(float(((told - cells) ** 2).mean()))
    assert np.sqrt(np.mean(local)) <= 1.01 * np.sqrt(np.mean(dense))


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (1, "folds must be a whole number from 2 to 80"),
        (81, "folds must be a whole number from 2 to 80"),
        (np.zeros(80), "one label to all"),
        (np.arange(7), "one label for each"),
        (np.arange(80) > 1, "3 are needed"),
        ("abc", "folds must be a whole number"),
        (True, "folds must be a whole number"),
        (np.where(np.arange(80) > 40, np.nan, 1), "missing"),
        (np.array([None, *range(79)], object), "missing"),
        (np.array(["a", *range(79)], object), "all numbers or all text"),
        ([[1], [1, 2]], "one label for each"),
    ],
)
def test_folds_that_cannot_be_are_refused(folds, message):
    with pytest.raises(TimoError, match=message):
        cross_validate(scattered(), MODEL, folds=folds)


def test_dates_of_too_few_are_said_so():
    series = scattered(dates=2)
    series[:, 1:] = np.nan
    series[0, 1:2] = 0
    series[1, 2:3] = 0
    with pytest.warns(RuntimeWarning, match="no date has enough"):
        told = cross_validate(series, MODEL)
    assert told["mean"].isnull().all()


def test_what_every_fold_warns_of_is_said_once():
    known = scattered()
    known = known.copy(data=known.x.values)  # a trend
    with pytest.warns(RuntimeWarning, match="is a guess.*in 4 other folds") as warned:
        cross_validate(known, folds=5)
    assert [warning.filename for warning in warned] == [__file__]
