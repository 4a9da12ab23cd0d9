import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import timo
from timo.errors import TimoError
from timo.mapping import loss_year, mean_probability
from timo.mapping.change import MAX_EVIDENCE, MAX_TRUST

few = settings(max_examples=60, deadline=None)
NAN = np.nan
YES, NO, PERHAPS = 0.99, 0.01, 0.5  # each of the first two counts for the most a date can: 3
SUMMERS = [f"{year}-{day}" for year in range(2016, 2021) for day in ("06-10", "07-15", "08-20")]


def series(*values, dates=SUMMERS):
    """The probability of one pixel; by default three dates each summer, from 2016 on."""
    values = np.array(values, "float32").reshape(-1, 1, 1)
    return to_probability(values, pd.DatetimeIndex(dates[: len(values)]))


def to_probability(values, dates):
    height, width = values.shape[1:]
    return xr.DataArray(
        values,
        dims=("time", "y", "x"),
        coords={
            "time": dates,
            "y": 1000.0 - 10 * np.arange(height),
            "x": 500_000.0 + 10 * np.arange(width),
        },
    ).rio.write_crs("EPSG:32634")


# Spelled out: the tests are of the rule, not of its defaults.
RULE = {"months": (6, 8), "evidence": 6.0, "consecutive": 2, "before": 9.0}


def loss_of(*values, dates=SUMMERS, **options):
    return loss_year(series(*values, dates=dates), **RULE | options).isel(y=0, x=0)


def year_of(*values, **options):
    return loss_of(*values, **options).loss_year.item()


FOREST = (YES, YES, YES)  # a summer


# --- the rule, series by series


def test_a_pixel_that_stays_is_no_loss():
    result = loss_of(*FOREST * 5)
    assert result.loss_year == 0
    assert np.isnat(result.loss_date.values)
    assert float(result.evidence) == 0


def test_two_clear_dates_in_a_row_are_a_loss():
    assert year_of(*FOREST, YES, NO, NO) == 2017
    result = loss_of(*FOREST, YES, NO, NO)
    assert result.loss_date.values == np.datetime64("2017-07-15")
    assert float(result.evidence) == pytest.approx(6)


def test_one_low_date_is_no_loss():
    assert year_of(*FOREST, YES, NO, YES, *FOREST) == 0
    # Nor are several, one at a time.
    assert year_of(*FOREST, NO, YES, NO, YES, NO, YES) == 0
    # Nor the last, of which nobody knows what follows.
    assert year_of(*FOREST, YES, YES, NO) == 0


def test_the_year_is_that_of_the_first_date_seen_cut_also_when_the_next_summer_confirms():
    assert year_of(*FOREST, YES, YES, NO, NO, NO, NO) == 2017
    result = loss_of(*FOREST, YES, YES, NO, NO, NO, NO)
    assert result.loss_date.values == np.datetime64("2017-08-20")


def test_dates_without_observation_do_not_break_a_run():
    assert year_of(*FOREST, NO, NAN, NAN, NAN, NO, YES) == 2017
    assert year_of(*FOREST, NAN, NO, NAN, NO) == 2017


def test_weak_evidence_adds_up():
    # log(0.7 / 0.3) = 0.85 a date: eight dates make 6.
    weak = [0.3] * 7
    assert year_of(*FOREST, *weak) == 0
    assert year_of(*FOREST, *weak, 0.3) == 2017
    assert year_of(*FOREST, *weak, evidence=5.0) == 2017


def test_evidence_for_the_class_takes_evidence_against_it_back():
    # 3, then 1, then 4, then 7.
    mildly_yes = 1 / (1 + np.exp(-2))
    assert year_of(*FOREST, NO, mildly_yes, NO) == 0
    assert year_of(*FOREST, NO, mildly_yes, NO, NO) == 2017
    # 3, 0, 3, 6: the sum began anew in the next summer.
    assert year_of(*FOREST, YES, YES, NO, YES, NO, NO) == 2018


def test_a_date_that_says_nothing_counts_for_nothing_but_ends_a_run():
    assert year_of(*FOREST, NO, PERHAPS, NO) == 0
    assert year_of(*FOREST, NO, PERHAPS, NO, NO) == 2017


def test_as_many_dates_in_a_row_as_asked_for():
    assert year_of(*FOREST, NO, NO, YES, consecutive=3) == 0
    assert year_of(*FOREST, NO, NO, NO, consecutive=3) == 2017
    assert year_of(*FOREST, NO, YES, YES, evidence=3, consecutive=1) == 2017
    assert year_of(*FOREST, NO, YES, YES, evidence=3, consecutive=2) == 0


def test_regrowth_keeps_the_first_year():
    assert year_of(*FOREST, NO, NO, NO, *FOREST * 2) == 2017
    assert year_of(*FOREST, NO, NO, YES, YES, YES, YES, YES, NO, NO) == 2017


def test_a_pixel_never_of_the_class_is_no_loss():
    result = loss_of(*[NO] * 15)
    assert result.loss_year == 0
    assert float(result.evidence) == 0


def test_what_was_the_class_for_a_while_only_is_no_loss():
    """Before a loss there must be three sure dates' worth of the class, less those against it."""
    assert year_of(NAN, YES, YES, NO, NO, NO) == 0
    assert year_of(NAN, YES, YES, NO, NO, NO, before=6) == 2017
    # A clear-cut that was green for a summer.
    assert year_of(NO, NO, NO, NO, NO, NO, YES, YES, YES, NO, NO, NO) == 0


def test_bare_ground_is_forest_again_after_seven_dates():
    """However long it was bare: the past counts for four dates, to which the three of forest come."""
    dates = [f"{year}-07-{day}" for year in range(2000, 2020) for day in ("01", "15")]
    for bare in (4, 20):
        found = [year_of(*[NO] * bare, *[YES] * n, NO, NO, dates=dates) > 0 for n in (3, 6, 7, 15)]
        assert found == [False, False, True, True]
    assert MAX_TRUST == 4 * MAX_EVIDENCE == 12


def test_no_clear_date_is_no_data():
    result = loss_of(*[NAN] * 6)
    assert result.loss_year == -1
    assert np.isnat(result.loss_date.values)


# --- dates and months


def test_a_cut_after_august_is_of_the_next_year():
    dates = ["2016-06-01", "2016-07-01", "2016-08-01", "2017-06-01", "2017-08-01"]
    dates += ["2017-09-15", "2017-10-20", "2018-06-03", "2018-07-01"]
    cut_in_september = (YES, YES, YES, YES, YES, NO, NO, NO, NO)
    assert year_of(*cut_in_september, dates=dates) == 2018
    assert year_of(*cut_in_september, dates=dates, months=(6, 9)) == 2017
    result = loss_of(*cut_in_september, dates=dates)
    assert result.loss_date.values == np.datetime64("2018-06-03")


def test_dates_outside_the_months_are_not_looked_at():
    dates = pd.date_range("2016-01-15", periods=36, freq="MS") + pd.Timedelta(days=14)
    summer = dates.month.isin([6, 7, 8])
    assert year_of(*np.where(summer, YES, NO), dates=dates) == 0
    assert year_of(*np.where(summer, NAN, YES), dates=dates) == -1
    cut = np.where(dates.year == 2018, NO, YES)
    assert year_of(*np.where(summer, cut, PERHAPS), dates=dates) == 2018
    for first, last in ((6, 6), (8, 8)):
        assert (
            year_of(*np.where(dates.month == first, NO, YES), dates=dates, months=(first, last))
            == 0
        )


def test_by_default_three_clear_dates_of_summer_are_a_loss():
    year = [loss_year(series(*FOREST, *[NO] * n)).loss_year.item() for n in (1, 2, 3)]
    assert year == [0, 0, 2017]
    assert loss_year(series(NAN, YES, YES, NO, NO, NO)).loss_year.item() == 0
    dates = ["2017-05-20", "2017-06-01", "2017-07-01", "2017-08-01", "2017-09-01"]
    months = loss_year(series(PERHAPS, NAN, NAN, NAN, PERHAPS, dates=dates))
    assert months.loss_year.item() == -1


def test_a_southern_summer_runs_over_the_turn_of_the_year_and_is_of_the_year_it_ends_in():
    dates = [f"{year}-{day}" for year in range(2015, 2019) for day in ("01-10", "02-20", "12-05")]
    # The summers of 2015 (its end), 2016, 2017, 2018.
    for cut in range(4, len(dates)):
        seen = [YES] * cut + [NO] * (len(dates) - cut)
        found = loss_of(*seen, dates=dates, months=(12, 2), consecutive=1)
        day = pd.Timestamp(dates[cut])
        if cut <= len(dates) - 2:
            assert found.loss_year == day.year + (day.month == 12)
            assert found.loss_date.values == np.datetime64(dates[cut])
    winter = pd.date_range("2015-01-15", periods=48, freq="MS")
    south, north = winter.month.isin([12, 1, 2]), winter.month.isin([6, 7, 8])
    cut = np.where(winter >= "2017-12-01", NO, YES)
    assert year_of(*np.where(south, cut, PERHAPS), dates=winter, months=(12, 2)) == 2018
    assert year_of(*np.where(north, NO, YES), dates=winter, months=(12, 2)) == 0
    # Nine months, September to May.
    assert year_of(*cut, dates=winter, months=(9, 5)) == 2018


# --- maps


def random_probability(seed, dates=40, height=6, width=7):
    """Series with a loss somewhere, noise and gaps."""
    rng = np.random.default_rng(seed)
    time = pd.date_range("2016-05-20", periods=dates, freq="40D")
    cut = rng.integers(5, 2 * dates, (height, width))
    p = np.where(np.arange(dates)[:, None, None] < cut, 0.97, 0.05)
    p = np.where(rng.random(p.shape) < 0.1, rng.random(p.shape), p)
    return to_probability(np.where(rng.random(p.shape) < 0.3, NAN, p).astype("float32"), time)


def test_what_it_gives():
    probability = random_probability(0).assign_coords({"class": "forest"})
    result = loss_year(probability)
    assert {name: (array.dims, str(array.dtype)) for name, array in result.data_vars.items()} == {
        "loss_year": (("y", "x"), "int16"),
        "loss_date": (("y", "x"), "datetime64[ns]"),
        "evidence": (("y", "x"), "float32"),
    }
    assert result.rio.crs == probability.rio.crs
    assert "class" not in result.coords
    assert result.indexes["x"].equals(probability.indexes["x"])
    dated = result.loss_date.dt.year.fillna(0)
    assert (dated == result.loss_year.where(result.loss_year > 0, 0)).all()
    assert set(np.unique(result.loss_year)) >= {0, 2017}
    assert result.loss_year.attrs["flags"] == "0 = no loss, -1 = no data"


@few
@given(seed=st.integers(0, 10_000))
def test_each_pixel_is_judged_alone(seed):
    probability = random_probability(seed, height=2, width=3)
    whole = loss_year(probability)
    for y in range(2):
        for x in range(3):
            alone = loss_year(probability.isel(y=[y], x=[x]))
            xr.testing.assert_equal(alone, whole.isel(y=[y], x=[x]))


def by_the_book(p, dates, evidence, consecutive, before):
    """The rule for one pixel, in plain words of Python."""
    total = trust = 0.0
    run, start, was_class, confirmed = 0, None, False, False
    for value, date in zip(p, dates, strict=True):
        if np.isnan(value) or not 6 <= date.month <= 8:
            continue
        against = float(np.clip(np.log((1 - value) / value), -3, 3))
        if total == 0 and against > 0:
            start, was_class, confirmed = date, trust >= before, False
        run = run + 1 if against > 0 else 0
        total = max(total + against, 0.0) if was_class else 0.0
        confirmed = (confirmed or run >= consecutive) and total > 0
        trust = min(max(trust - against, -12), 12)
        if total >= evidence and confirmed and was_class:
            return start.year
    return 0


@few
@given(
    p=hnp.arrays(
        "float64",
        st.integers(1, 30),
        elements=st.sampled_from([NAN, 0.02, 0.2, 0.4, 0.7, 0.9, 0.98]),
    ),
    evidence=st.sampled_from([2.5, 6.5]),
    consecutive=st.integers(1, 3),
    before=st.sampled_from([-100.0, 2.5, 8.5]),
)
def test_it_is_the_rule_by_the_book(p, evidence, consecutive, before):
    dates = pd.date_range("2016-06-20", periods=len(p), freq="31D")
    expected = by_the_book(p, dates, evidence, consecutive, before)
    options = {"evidence": evidence, "consecutive": consecutive, "before": before}
    assert max(year_of(*p, dates=dates, **options), 0) == expected


@few
@given(seed=st.integers(0, 10_000), where=st.integers(0, 39))
def test_a_date_without_any_observation_changes_nothing(seed, where):
    probability = random_probability(seed, height=3, width=3)
    empty = probability.isel(time=[where]) * NAN
    empty = empty.assign_coords(time=empty.time + np.timedelta64(1, "D"))
    more = xr.concat([probability, empty], "time").sortby("time")
    xr.testing.assert_equal(loss_year(more), loss_year(probability))


@few
@given(seed=st.integers(0, 10_000))
def test_a_higher_bar_finds_no_more(seed):
    probability = random_probability(seed)
    lost = (loss_year(probability, **RULE).loss_year > 0).values
    for higher in ({"evidence": 9.0}, {"consecutive": 3}, {"before": 12.0}):
        assert not ((loss_year(probability, **RULE | higher).loss_year > 0).values & ~lost).any()


@pytest.mark.parametrize("chunks", [{"time": 7, "y": 2, "x": 3}, {"time": 1}, {"y": 3}])
def test_lazy_equals_eager(chunks):
    probability = random_probability(3)
    eager = loss_year(probability)
    lazy = loss_year(probability.chunk(chunks))
    assert all(array.chunks for array in lazy.data_vars.values())
    xr.testing.assert_identical(lazy.compute(), eager)
    south = loss_year(probability.chunk(chunks), months=(12, 2)).compute()
    xr.testing.assert_identical(south, loss_year(probability, months=(12, 2)))


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        raise AssertionError("computed")

    probability = random_probability(0)
    values = da.from_array(probability.values, chunks=(10, 3, 3)).map_blocks(
        fail, meta=np.empty((0, 0, 0), "float32")
    )
    lazy = loss_year(probability.copy(data=values))
    with pytest.raises(AssertionError, match="computed"):
        lazy.compute()


def test_the_order_of_the_dims_does_not_matter():
    probability = random_probability(1)
    turned = probability.transpose("x", "time", "y")
    xr.testing.assert_identical(loss_year(turned), loss_year(probability))


def test_certain_probabilities_are_finite_evidence():
    assert year_of(1, 1, 1, 0, 0) == 2017
    assert float(loss_of(1, 1, 1, 0, 0).evidence) == pytest.approx(6)


def test_a_map_can_be_exported(tmp_path):
    result = loss_year(random_probability(0))
    timo.export(result.loss_year, tmp_path / "loss.tif")
    timo.export(result, tmp_path / "loss.zarr")
    with xr.open_dataset(tmp_path / "loss.zarr", engine="zarr") as opened:
        assert (opened.loss_year == result.loss_year).all()


# --- the mean of dates


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


def test_a_dimension_that_is_not_there_is_refused():
    with pytest.raises(TimoError, match=r"with the dimension 'date'; got float32 with \['time'"):
        mean_probability(dates(0.1), "date")


# --- errors

BAD = {
    "dims": (
        lambda p: loss_year(p.expand_dims({"class": ["forest"]})),
        r"takes the probability of one class, \(time, y, x\); got .*\('class', 'time', 'y', 'x'\). Use result.probab",
    ),
    "consecutive": (
        lambda p: loss_year(p, consecutive=0),
        "consecutive must be a whole number of 1 or more; got 0",
    ),
    "evidence": (lambda p: loss_year(p, evidence=0), "evidence must be a number above 0; got 0"),
    "classes": (
        lambda p: loss_year(p.assign_attrs(classes=["other", "forest"])),
        "Probabilities are floats from 0 to 1; got float32 with the names of classes: labels",
    ),
    "before": (lambda p: loss_year(p, before=15), "before must be a number of at most 12; got 15"),
    "text": (lambda p: loss_year(p.astype(str)), "got <U.*Use result.probability"),
    "months of a year": (lambda p: loss_year(p, months=(0, 13)), "months must be .*from 1 to 12"),
    "time": (lambda p: loss_year(p.drop_vars("time")), "time must be datetime64"),
    "order": (lambda p: loss_year(p[::-1]), r'dates must ascend. Use probability.sortby\("time"\)'),
    "crs": (
        lambda p: loss_year(p.drop_vars("spatial_ref")),
        "probability has no coordinate reference system. Use probability.rio.write_crs",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_errors(call, message):
    with pytest.raises(TimoError, match=message):
        call(random_probability(0))


# --- what is no probability of single dates


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("function", [loss_year, mean_probability])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p * 100, "these go from .* Use probability / 100, or"),
        (lambda p: p * 255, "these go from .* Use probability / 255, or"),
        (lambda p: p * 10_000, "these go from .* Use probability / 10000, or"),
        (lambda p: p - 0.5, r"these go from -0.4.* Use probability.where\(\(probability >= 0\) & "),
        (
            lambda p: p.fillna(-1),
            r"these go from -1 to 0.97.* Use probability.where\(\(probability",
        ),
        (lambda p: p.fillna(np.inf), r"these go from 0.* to inf. Use probability.where"),
        (lambda p: (p.fillna(0) * 100).astype("uint8"), "got uint8: labels, or scaled numbers"),
        (lambda p: xr.where(p > 0.5, 1, 0).astype("int8"), "got int8: labels, or scaled numbers"),
        (lambda p: xr.where(p > 0.5, 1, -1), "got int64: labels, or scaled"),
        (
            lambda p: (p > 0.5).astype("float32").assign_attrs(classes=["a", "b"]),
            "got float32 with the names of classes: labels",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_probability_is_refused(function, spoil, message, lazy):
    given = spoil(random_probability(2))
    given = given.rio.write_crs("EPSG:32634")
    with pytest.raises(TimoError, match=message) as error:
        function(given.chunk(x=3) if lazy else given).compute()
    if "Use probability" in str(error.value):
        code = str(error.value).split("Use ")[1].split(", or")[0]
        mended = eval(code, {"probability": given})  # noqa: S307
        function(mended.rio.write_crs("EPSG:32634")).compute()


def test_rounding_is_no_fault_of_a_probability():
    nearly = random_probability(2).clip(0, 1) * np.float32(1.00001)
    assert (loss_year(nearly).loss_year == loss_year(random_probability(2)).loss_year).all()


def test_values_of_0_and_1_alone_are_said_to_look_like_labels():
    hard = (random_probability(2) > 0.5).astype("float32")
    with pytest.warns(UserWarning, match="All probabilities are 0 or 1, as those of labels"):
        loss_year(hard)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_year(random_probability(2))


@pytest.mark.parametrize("hours", [0, 3])
def test_a_date_that_is_there_twice_is_refused_and_the_remedy_works(hours):
    once = series(*FOREST, YES, NO, YES, *FOREST)
    again = once.assign_coords(time=once.time + np.timedelta64(hours, "h"))
    twice = xr.concat([once, again], "time").sortby("time")
    for function in (loss_year, mean_probability):
        with pytest.raises(TimoError, match="2016-06-10 is there more than once") as error:
            function(twice)
        code = str(error.value).split("Use ")[1].removesuffix(".")
        xr.testing.assert_allclose(
            function(eval(code, {"probability": twice})),  # noqa: S307
            function(once),
        )


def test_a_missing_date_is_refused_and_the_remedy_works():
    p = series(*FOREST)
    gap = p.assign_coords(time=p.time.where(p.time != p.time[1]))
    with pytest.raises(TimoError, match=r"A date is missing \(NaT\)"):
        loss_year(gap)
    dated = gap.sel(time=gap.time.notnull())  # noqa: PD004 - the message's words
    assert loss_year(dated).loss_year.item() == 0


@pytest.mark.parametrize("lazy", [False, True])
def test_no_date_in_the_season_is_one_error_that_names_the_months(lazy):
    p = series(YES, NO, dates=["2017-01-01", "2018-03-01"])
    with pytest.raises(TimoError, match=r"the months 6 to 8; .* months \[1, 3\] alone. Give other"):
        loss_year(p.chunk() if lazy else p)
    found = loss_year(p.chunk() if lazy else p, months=(1, 3))
    assert found.loss_year.values.item() == 0
    with pytest.raises(TimoError, match=r"the months 11 to 12"):
        loss_year(p, months=(11, 12))


@pytest.mark.parametrize("option", ["evidence", "before", "consecutive", "months"])
def test_options_that_are_nan_are_refused_by_name(option):
    with pytest.raises(TimoError, match=f"{option} must be"):
        loss_year(series(*FOREST), **{option: np.nan})


# --- the outline: how far a pixel's own probability fell


def blurred(width=9, cut=(3, 6), height=5):
    """A clearing of some columns in 2019, cut by half in the one beside it; what surroundings make of it is wider."""
    dates = pd.DatetimeIndex(SUMMERS)
    gone = dates.year >= 2019
    own = np.full((len(dates), height, width), YES, "float32")
    own[np.ix_(gone, range(height), range(*cut))] = NO
    # Half cut: log-odds fall half as far less a little; a tenth cut: a tenth.
    odds = np.log(YES / NO)
    for column, share in ((cut[0] - 1, 0.55), (cut[1], 0.1)):
        own[np.ix_(gone, range(height), [column])] = 1 / (1 + np.exp(-(1 - 2 * share) * odds))
    wide = own.copy()
    wide[np.ix_(gone, range(height), range(cut[0] - 2, cut[1] + 2))] = NO
    return to_probability(wide, dates), to_probability(own, dates)


def test_an_outline_keeps_what_fell_at_least_half_as_far():
    wide, own = blurred()
    plain = loss_year(wide, **RULE).loss_year
    assert (plain.isel(y=2) == [0, 2019, 2019, 2019, 2019, 2019, 2019, 2019, 0]).all()
    sharp = loss_year(wide, outline=own, **RULE)
    assert (sharp.loss_year.isel(y=2) == [0, 0, 2019, 2019, 2019, 2019, 0, 0, 0]).all()
    assert (np.isnat(sharp.loss_date) == (sharp.loss_year == 0)).all()


def test_with_an_outline_each_date_says_the_mean_of_both_log_odds():
    wide, own = blurred()
    evidence = loss_year(wide, outline=own, **RULE).evidence.isel(y=2).values
    odds = np.log(YES / NO)
    # Six dates: the model at its surest (more than a date may say) and a pixel that fell by .55, or by .1, of its way.
    half, tenth = (6 * (odds - (1 - 2 * share) * odds) / 2 for share in (0.55, 0.1))
    assert evidence == pytest.approx([0, 0, half, 18, 18, 18, tenth, 0, 0], abs=1e-4)
    # Neither overrules the other: limited, they cancel out.
    against = series(*FOREST * 3, 1e-6, 1e-6, 1e-6)
    held = loss_year(against, outline=series(*FOREST * 3, 0.998, 0.998, 0.998), **RULE)
    assert held.loss_year.item() == 0
    # Where the pixel says nothing, the model says it alone.
    silent = loss_year(against, outline=series(*FOREST * 3, NAN, NAN, NAN), **RULE)
    assert silent.loss_year.item() == 2019
    assert (loss_year(wide * NAN, outline=own, **RULE).loss_year == -1).all()


def test_the_fall_is_that_of_the_mean_of_a_season_and_the_next():
    wide, own = blurred()
    gone = own.time.dt.year >= 2019
    # Beside the clearing a pixel that fell on every other date only, half of the way; the model is surer than it.
    wide[{"x": 2}] = xr.where(gone, 0.001, wide.isel(x=2)).transpose("time", "y")
    turns = xr.where(gone & (np.arange(own.sizes["time"]) % 2 == 0), 0.003, own.isel(x=2))
    own[{"x": 2}] = turns.transpose("time", "y")
    assert (loss_year(wide, outline=own, **RULE).loss_year.isel(x=2) == 2019).all()
    # What grew again in the third summer fell as far as it did before.
    longer = pd.DatetimeIndex([*SUMMERS, *(f"{y}-07-15" for y in range(2021, 2026))])
    back = [xr.full_like(p.isel(time=[0]), YES).isel(time=[0] * 5) for p in (wide, own)]
    both = [
        xr.concat([p, more], "time").assign_coords(time=longer).rio.write_crs(p.rio.crs)
        for p, more in zip((wide, own), back, strict=True)
    ]
    grown = loss_year(both[0], outline=both[1], **RULE).loss_year
    assert (grown == loss_year(wide, outline=own, **RULE).loss_year).all()


def test_an_outline_compares_with_what_is_within_reach():
    wide, own = blurred()
    gone = own.time.dt.year >= 2019
    own[{"x": 7}] = xr.where(gone, 0.7, own.isel(x=7))
    columns = [2019, 0, 2019], [2019, 0, 0]
    for reach, expected in zip((10.0, 30.0), columns, strict=True):
        sharp = loss_year(wide, outline=own, reach_m=reach, **RULE).loss_year
        assert (sharp.isel(y=2, x=slice(5, 8)) == expected).all()
    alone = series(*FOREST * 3, NO, NO, NO)
    weak = series(*FOREST * 3, 0.6, 0.6, 0.6)
    assert loss_year(alone, outline=weak, **RULE).loss_year.item() == 2019


@pytest.mark.parametrize("chunks", [{"time": -1, "y": 2, "x": 3}, {"time": 4, "y": 3, "x": 2}])
def test_an_outline_of_chunks_is_that_of_the_whole(chunks):
    wide, own = blurred()
    whole = loss_year(wide, outline=own, **RULE)
    lazy = loss_year(wide.chunk(chunks), outline=own.chunk(chunks), **RULE)
    assert lazy.loss_year.chunks
    xr.testing.assert_equal(lazy.compute(), whole)
    xr.testing.assert_equal(loss_year(wide.chunk(chunks), outline=own, **RULE).compute(), whole)
    xr.testing.assert_equal(loss_year(wide, outline=own.chunk(chunks), **RULE).compute(), whole)


def test_an_outline_without_dates_before_or_after_changes_nothing():
    wide, own = blurred()
    never = own.where(own.time.dt.year < 2019)
    xr.testing.assert_equal(loss_year(wide, outline=never, **RULE), loss_year(wide, **RULE))


def test_an_outline_of_something_else_is_refused():
    wide, own = blurred()
    for other in (own.isel(x=slice(4)), own.isel(time=slice(3)), own.isel(time=0)):
        with pytest.raises(TimoError, match="dates and pixels of the probability"):
            loss_year(wide, outline=other, **RULE)
    with pytest.raises(TimoError, match="from 0 to 1"):
        loss_year(wide, outline=own * 100, **RULE)
