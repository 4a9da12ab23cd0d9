import math

import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.mapping.area import estimate_area, loss_areas
from timo.mapping.sampling import allocate, pixel_areas, sample_size, stratified_sample

# The worked example of the paper: section 5, table 8. Pixels are of 30 m.
CLASSES = ["deforestation", "forest gain", "stable forest", "stable non-forest"]
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = pd.Series([200_000, 150_000, 3_200_000, 6_450_000], index=CLASSES)
HECTARES = PIXELS * 0.09


def units(counts, classes=CLASSES):
    """The sample units of a table of counts."""
    rows, columns = np.indices(np.shape(counts))
    return [
        np.repeat(np.array(classes, dtype=object)[index.ravel()], np.ravel(counts))
        for index in (rows, columns)
    ]


@pytest.fixture(scope="module")
def example():
    estimate = estimate_area(*units(COUNTS), HECTARES)
    return estimate, estimate.table.set_index("class")


def test_areas_of_the_worked_example(example):
    estimate, table = example
    assert list(table.index) == CLASSES
    np.testing.assert_allclose(table["mapped_ha_biased"], [18_000, 13_500, 288_000, 580_500])
    np.testing.assert_allclose(
        table["estimated_ha"], [21_158, 11_686, 285_770, 581_386], rtol=0, atol=0.5
    )
    margin = (table["ci_high_ha"] - table["ci_low_ha"]) / 2
    rounded = 1.96 * table["standard_error_ha"]  # the paper's quantile
    np.testing.assert_allclose(rounded, [6_158, 3_756, 15_510, 16_282], rtol=0, atol=0.5)
    np.testing.assert_allclose(margin, rounded, rtol=1e-4)
    # In pixels, as the paper has it.
    assert table.loc["deforestation", "estimated_ha"] / 0.09 == pytest.approx(235_086, abs=0.5)
    assert rounded["deforestation"] / 0.09 == pytest.approx(68_418, abs=0.5)
    assert estimate.total_ha == 900_000
    assert list(table["n"]) == [75, 75, 165, 325]


def test_accuracies_of_the_worked_example(example):
    estimate, table = example
    assert estimate.overall_accuracy == pytest.approx(0.947, abs=5e-4)
    assert 1.96 * estimate.overall_accuracy_se == pytest.approx(0.02, abs=5e-3)
    assert list(table["users_accuracy"].round(2)) == [0.88, 0.73, 0.93, 0.96]
    assert list((1.96 * table["users_accuracy_se"]).round(2)) == [0.07, 0.10, 0.04, 0.02]
    assert list(table["producers_accuracy"].round(2)) == [0.75, 0.85, 0.93, 0.96]
    assert list((1.96 * table["producers_accuracy_se"]).round(2)) == [0.21, 0.25, 0.03, 0.02]


def test_error_matrix_of_the_worked_example(example):
    estimate, _ = example
    matrix = estimate.error_matrix
    assert matrix.to_numpy().sum() == pytest.approx(1)
    assert matrix.loc["deforestation", "deforestation"] == pytest.approx(0.02 * 66 / 75)
    np.testing.assert_allclose(matrix.sum(axis=1), [0.02, 0.015, 0.32, 0.645])
    np.testing.assert_array_equal(estimate.counts, COUNTS)
    assert (matrix.index.name, matrix.columns.name) == ("map", "reference")


def test_the_table_goes_to_a_csv_that_says_which_area_is_biased(example, tmp_path):
    estimate, _ = example
    path = estimate.to_csv(tmp_path / "out" / "areas.csv")
    read = pd.read_csv(path)
    pd.testing.assert_frame_equal(read, estimate.table)
    assert "mapped_ha_biased" in read
    assert [entry.name for entry in path.parent.iterdir()] == ["areas.csv"]


def test_a_reference_class_that_the_map_does_not_have():
    counts = [[40, 5, 5], [2, 97, 1]]
    mapped, reference = units(np.pad(counts, [(0, 1), (0, 0)]), ["cut", "forest", "burnt"])
    table = estimate_area(mapped, reference, {"cut": 50, "forest": 1000}).table
    burnt = table.set_index("class").loc["burnt"]
    assert burnt["mapped_ha_biased"] == 0
    assert burnt["estimated_ha"] == pytest.approx(50 * 0.1 + 1000 * 0.01)
    assert burnt["standard_error_ha"] == pytest.approx(
        math.sqrt((50**2 * 0.1 * 0.9) / 49 + (1000**2 * 0.01 * 0.99) / 99)
    )
    assert burnt["ci_low_ha"] == 0  # the normal interval would reach below
    assert np.isnan(burnt["users_accuracy"])
    assert np.isnan(burnt["producers_accuracy"])
    assert burnt["n"] == 0
    assert table["estimated_ha"].sum() == pytest.approx(1050)


def test_a_stratum_of_no_area_takes_no_sample():
    estimate = estimate_area([1, 1, 2, 2], [1, 1, 2, 1], {1: 10, 2: 5, 3: 0})
    assert list(estimate.table["class"]) == [1, 2, 3]
    np.testing.assert_allclose(estimate.table["estimated_ha"], [12.5, 2.5, 0])


def test_a_wider_confidence_gives_a_wider_interval():
    narrow, wide = (
        estimate_area(*units(COUNTS), HECTARES, confidence=c).table for c in (0.9, 0.99)
    )
    assert (wide["ci_high_ha"] > narrow["ci_high_ha"]).all()
    assert (wide["standard_error_ha"] == narrow["standard_error_ha"]).all()


def test_years_may_be_floats_where_a_column_once_had_gaps():
    estimate = estimate_area([0.0, 0.0, 2018, 2018], [0.0, 2019.0, 2018, 2018], {0: 9, 2018: 1})
    assert [str(c) for c in estimate.table["class"]] == ["0", "2018", "2019"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"] * 4, ["a"] * 3, {"a": 1}), "map_class has 4 sample units and reference_class 3"),
        ((["a", "a", "b"], list("aab"), {"a": 1}), r"strata \['b'\], whose area .* not give"),
        ((list("aab"), list("aab"), {"a": 1, "b": 1}), r"Too few .* \{'b': 1\} .*: sample more"),
        ((list("aa"), list("aa"), {"a": 1, "b": 1}), r"Too few .* \{'b': 0\} .*at least 2"),
        ((list("aa"), ["a", None], {"a": 1}), "reference_class lacks a value for 1 sample units"),
        (([1, np.nan], [1, 1], {1: 1}), "map_class lacks a value for 1 sample units: complete"),
        ((list("aa"), list("aa"), {}), "map_areas must give the mapped area of each stratum"),
        ((list("aa"), list("aa"), {"a": -1}), r"not negative, not all 0; it is \{'a': -1.0\}"),
        ((list("aa"), list("aa"), {"a": 0}), "finite, not negative, not all 0"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(arguments, message):
    with pytest.raises(TimoError, match=message):
        estimate_area(*arguments)


def test_a_confidence_in_percent_is_refused():
    with pytest.raises(TimoError, match=r"confidence must be a number above 0 and below 1; got 95"):
        estimate_area(*units(COUNTS), HECTARES, confidence=95)


# --- properties

tables = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        st.lists(
            st.lists(st.integers(0, 30), min_size=k, max_size=k).filter(lambda row: sum(row) > 1),
            min_size=k,
            max_size=k,
        ),
        st.lists(st.floats(0.01, 1e7), min_size=k, max_size=k),
    )
)


@settings(max_examples=60, deadline=None)
@given(tables)
def test_estimates_sum_to_the_whole_and_lie_in_their_intervals(table):
    counts, areas = table
    classes = list(range(len(areas)))
    estimate = estimate_area(*units(counts, classes), dict(zip(classes, areas, strict=True)))
    rows = estimate.table
    assert rows["estimated_ha"].sum() == pytest.approx(sum(areas))
    slack = 1e-9 * sum(areas)
    assert (rows["ci_low_ha"] <= rows["estimated_ha"] + slack).all()
    assert (rows["ci_high_ha"] >= rows["estimated_ha"] - slack).all()
    assert (rows["ci_low_ha"] >= 0).all()
    assert (rows["ci_high_ha"] <= sum(areas) + slack).all()
    for name in ("users_accuracy", "producers_accuracy"):
        assert rows[name].dropna().between(0, 1 + 1e-12).all()
        assert (rows[f"{name}_se"].dropna() >= 0).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 40), st.floats(0.01, 1e7)), min_size=1, max_size=5))
def test_a_perfect_map_is_its_own_estimate(strata):
    counts = np.diag([n for n, _ in strata])
    areas = dict(enumerate(area for _, area in strata))
    estimate = estimate_area(*units(counts, list(areas)), areas)
    np.testing.assert_allclose(estimate.table["estimated_ha"], list(areas.values()))
    np.testing.assert_allclose(estimate.table["standard_error_ha"], 0)
    assert estimate.overall_accuracy == pytest.approx(1)
    assert estimate.overall_accuracy_se == 0


# --- by simulation: a known truth, and a map of it that errs


def grid(values) -> xr.DataArray:
    """A map of 10 m cells in an equal-area CRS: 0.01 ha each."""
    values = np.asarray(values)
    coords = {
        "y": 3_000_000 - 5 - 10.0 * np.arange(values.shape[0]),
        "x": 5_000_000 + 5 + 10.0 * np.arange(values.shape[1]),
    }
    return xr.DataArray(values, dims=("y", "x"), coords=coords).rio.write_crs("EPSG:3035")


@pytest.fixture(scope="module")
def world():
    """Truth and map, (300, 300): 1 = loss, 6 %, of which the map misses some and invents more."""
    random = np.random.default_rng(0)
    truth = (random.random((300, 300)) < 0.06).astype("int16")
    wrong = random.random(truth.shape) < np.where(truth == 1, 0.25, 0.04)
    return truth, grid(np.where(wrong, 1 - truth, truth).astype("int16"))


@pytest.fixture(scope="module")
def draws(world):
    truth, mapped = world
    areas = pixel_areas(mapped)
    tables = []
    for seed in range(400):
        sample = stratified_sample(mapped, {0: 400, 1: 200}, seed)
        reference = truth[sample["row"], sample["col"]]
        tables.append(estimate_area(sample["stratum"], reference, areas).table.iloc[1])
    return pd.DataFrame(tables)


def test_the_interval_covers_the_truth_as_often_as_it_says(world, draws):
    truth = world[0].sum() * 0.01
    covered = (draws["ci_low_ha"] <= truth) & (truth <= draws["ci_high_ha"])
    assert 0.92 <= covered.mean() <= 0.98
    # The standard error is what the estimate really varies by.
    assert draws["estimated_ha"].std() == pytest.approx(draws["standard_error_ha"].mean(), rel=0.1)


def test_the_estimate_is_unbiased_and_pixel_counting_is_not(world, draws):
    truth = world[0].sum() * 0.01
    estimates = draws["estimated_ha"]
    assert abs(estimates.mean() - truth) < 3 * estimates.std() / math.sqrt(len(draws))
    counted = draws["mapped_ha_biased"]
    assert (counted > 1.3 * truth).all()
    assert (counted > draws["ci_high_ha"]).mean() > 0.9


# --- years of loss


def test_hectares_of_each_year_of_loss():
    random = np.random.default_rng(1)
    years = np.array([0, 2018, 2019, 2020])
    truth = random.choice(years, p=[0.85, 0.05, 0.05, 0.05], size=(120, 150)).astype("int16")
    confused = np.where(random.random(truth.shape) < 0.03, random.choice(years, truth.shape), truth)
    confused[:5] = -1
    loss_year = grid(confused.astype("int16"))
    sample = stratified_sample(loss_year, 600, seed=0)
    sample["reference"] = truth[sample["row"], sample["col"]]
    table = loss_areas(loss_year, sample)
    assert list(table["year"]) == [2018, 2019, 2020, "all"]
    assert list(table.columns) == [
        "year",
        "mapped_ha_biased",
        "estimated_ha",
        "standard_error_ha",
        "ci_low_ha",
        "ci_high_ha",
    ]
    true = [*((truth[5:] == year).sum() * 0.01 for year in years[1:]), (truth[5:] > 0).sum() * 0.01]
    assert (abs(table["estimated_ha"] - true) < 3.5 * table["standard_error_ha"]).all()
    parts, whole = table.iloc[:3], table.iloc[3]
    assert whole["estimated_ha"] == pytest.approx(parts["estimated_ha"].sum())
    assert whole["mapped_ha_biased"] == pytest.approx(parts["mapped_ha_biased"].sum())
    # Which year a cut is of matters less for the sum than for its parts.
    assert whole["standard_error_ha"] < parts["standard_error_ha"].sum()


def test_years_with_few_pixels_are_pooled_into_one_stratum():
    values = np.zeros((60, 60), dtype="int16")
    values[:10, :20], values[20, 20], values[-1] = 2018, 2019, -1
    loss_year = grid(values)
    sample = stratified_sample(loss_year, 400, seed=0)
    with pytest.raises(TimoError, match=r"Too few sample units in \{2019: 1\}.*merge"):
        loss_areas(loss_year, sample.assign(reference=sample["stratum"]))
    strata = (loss_year > 0).where(loss_year >= 0, -1).astype("int16")
    sample = stratified_sample(strata, 400, seed=0)
    sample["reference"] = values[sample["row"], sample["col"]]
    sample.loc[sample["reference"] == 2019, "reference"] = 2018
    table = loss_areas(loss_year, sample, strata=strata).set_index("year")
    assert list(table.index) == [2018, 2019, "all"]
    np.testing.assert_allclose(table["mapped_ha_biased"], [2.0, 0.01, 2.01])
    np.testing.assert_allclose(table["estimated_ha"], [2.01, 0, 2.01])


def test_a_year_that_only_the_reference_has():
    loss_year = grid(np.repeat([[0], [2018]], 50, axis=1).repeat(20, axis=0))
    sample = stratified_sample(loss_year, {0: 50, 2018: 50}, seed=0)
    sample["reference"] = sample["stratum"]
    sample.loc[sample.index[sample["stratum"] == 2018][:10], "reference"] = 2020
    table = loss_areas(loss_year, sample).set_index("year")
    assert table.loc[2020, "mapped_ha_biased"] == 0
    assert table.loc[2020, "estimated_ha"] == pytest.approx(2.0)
    assert table.loc["all", "standard_error_ha"] == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, r"The sample lacks the columns \['reference'\]. Draw it with stratified_sample"),
        ({"reference": np.nan}, "4 sample units have no reference: note 0 or the year"),
        ({"reference": "cut"}, "4 sample units have no reference: note 0 or the year"),
        ({"reference": np.inf}, "4 sample units have no reference: note 0 or the year"),
        ({"reference": -1}, "4 sample units have no reference: note 0 or the year"),
    ],
)
def test_a_loss_sample_that_is_not_finished_is_refused(columns, message):
    loss_year = grid(np.array([[0, 0], [2018, 2018]]))
    sample = stratified_sample(loss_year, {0: 2, 2018: 2}, seed=0)
    with pytest.raises(TimoError, match=message):
        loss_areas(loss_year, sample.assign(**columns))


# --- how many, and where


def test_sample_size_and_allocation_of_the_worked_example():
    accuracy = dict(zip(CLASSES, [0.7, 0.6, 0.9, 0.95], strict=True))
    assert sample_size(0.01, PIXELS, accuracy) == 641
    assert sample_size(0.01, PIXELS, accuracy, pixels=1000) == 384
    proportional = allocate(PIXELS, 641, minimum=0)
    assert list(proportional) == [13, 10, 205, 413]
    # The paper rounds the two large strata to 165 and 325.
    assert list(allocate(PIXELS, 640, minimum=75)) == [75, 75, 162, 328]


def test_a_stratum_of_no_area_gets_no_unit():
    assert list(allocate({"a": 1, "b": 0, "c": 9}, 200)) == [50, 0, 150]


def test_neyman_allocation_looks_more_where_the_map_errs_more():
    even = allocate({"a": 1, "b": 1}, 100, minimum=0, expected_users_accuracy=0.8)
    assert list(even) == [50, 50]
    accuracy = {"a": 0.5, "b": 0.9}
    uneven = allocate({"a": 1, "b": 1}, 80, minimum=10, expected_users_accuracy=accuracy)
    assert list(uneven) == [50, 30]
    certain = allocate(
        {"a": 1, "b": 1}, 100, minimum=10, expected_users_accuracy={"a": 0.5, "b": 1}
    )
    assert list(certain) == [90, 10]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-3, 1e9), st.integers(1, 5000)), min_size=1, max_size=8),
    st.integers(0, 60),
    st.floats(0, 1),
)
def test_an_allocation_keeps_its_sum_and_its_bounds(strata, minimum, where):
    areas = dict(enumerate(area for area, _ in strata))
    available = dict(enumerate(pixels for _, pixels in strata))
    least = [min(minimum, pixels) for pixels in available.values()]
    n = round(sum(least) + where * (sum(available.values()) - sum(least)))
    units = allocate(areas, n, minimum=minimum, available=available)
    assert units.sum() == n
    assert (units >= np.minimum(least, n)).all()
    assert (units <= pd.Series(available)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: allocate({"a": 1, "b": 1}, 60),
            "60 sample units are too few for 2 strata.*100 or",
        ),
        (lambda: allocate({"a": 1}, 60, available={"a": 9}), "60 .* more than the 9 pixels"),
        (
            lambda: sample_size(0, {"a": 1}, 0.9),
            "target_se must be a number from 1e-06 to 1; got 0",
        ),
        (
            lambda: sample_size(0.01, {"a": 1}, 90),
            "a number from 0 to 1 for each stratum; it gives",
        ),
        (
            lambda: allocate({"a": 1, "b": 1}, 60, available={"a": 99}),
            r"available must give the pixels of each stratum; it gives \{'a': 99.0, 'b': nan",
        ),
        (
            lambda: allocate(pd.Series({"a": "much"}), 60),
            "map_areas must give a number for each stratum",
        ),
        (
            lambda: stratified_sample(grid(np.ones((3, 3), int)), pd.Series({1: 0.5}), 0),
            "n must be a mapping of anything to whole numbers",
        ),
        (lambda: pixel_areas(grid(np.ones((3, 3), int)).astype(str)), "Strata are numbers"),
        (lambda: sample_size(0.01, {"a": 1}, {"b": 0.9}), r"it gives \{'a': nan\}"),
        (lambda: stratified_sample(grid(np.ones((3, 3), int)), {1: 10}, 0), "has 9 pixels, fewer"),
        (lambda: stratified_sample(grid(np.ones((3, 3), int)), {7: 1}, 0), "7 has 0 pixels, fewer"),
        (
            lambda: stratified_sample(grid(np.ones((3, 3), int)), {1: 0}, 0),
            "There is no sample unit to draw",
        ),
        (lambda: stratified_sample(grid(-np.ones((3, 3))), 5, 0), "The map is no data all over"),
        (lambda: stratified_sample(grid(np.full((3, 3), 0.5)), 5, 0), "Strata are whole numbers"),
        (
            lambda: pixel_areas(grid(np.eye(3)).expand_dims("time")),
            "dimensions y and x; these have",
        ),
    ],
)
def test_a_design_that_makes_no_sense_is_refused(call, message):
    with pytest.raises(TimoError, match=message):
        call()


def test_a_sample_is_random_reproducible_and_where_the_strata_are(world):
    mapped = world[1]
    sample = stratified_sample(mapped, 300, seed=3)
    assert list(sample.columns) == ["y", "x", "row", "col", "stratum"]
    assert len(sample) == 300
    assert not sample.duplicated(["row", "col"]).any()
    np.testing.assert_array_equal(mapped.values[sample["row"], sample["col"]], sample["stratum"])
    np.testing.assert_array_equal(mapped["y"].values[sample["row"]], sample["y"])
    np.testing.assert_array_equal(mapped["x"].values[sample["col"]], sample["x"])
    assert sample["stratum"].value_counts().min() >= 50
    assert not sample["stratum"].is_monotonic_increasing
    pd.testing.assert_frame_equal(sample, stratified_sample(mapped, 300, seed=3))
    assert not sample.equals(stratified_sample(mapped, 300, seed=4))


def test_every_pixel_of_a_stratum_is_as_likely():
    labels = grid(np.array([[1, 0, 1], [-1, 1, 0]]))
    hits = np.zeros((2, 3))
    for seed in range(600):
        sample = stratified_sample(labels, {1: 1}, seed)
        hits[sample["row"], sample["col"]] += 1
    assert (hits > 0).tolist() == [[True, False, True], [False, True, False]]
    assert (abs(hits[hits > 0] - 200) < 50).all()


def test_all_pixels_can_be_drawn_and_no_data_never():
    values = np.array([[0, 1, 255], [1, 0, 255]], dtype="uint8")
    labels = grid(values).assign_attrs(_FillValue=255)
    encoded = grid(values)
    encoded.encoding["_FillValue"] = 255
    masked = labels.where(labels < 255)
    for array in (labels, labels.transpose("x", "y"), masked, labels.chunk(2), encoded):
        sample = stratified_sample(array, 4, seed=0)
        assert sorted(sample["stratum"]) == [0, 0, 1, 1]
        assert sample["col"].max() == 1
        np.testing.assert_allclose(pixel_areas(array), [0.02, 0.02])


def test_pixel_areas_go_by_number_and_leave_out_what_does_not_occur():
    labels = grid(np.array([[0, 2, 2], [-1, 0, 2]], dtype="int8"))
    labels.attrs["classes"] = ["forest", "water", "road"]
    assert pixel_areas(labels).to_dict() == {0: pytest.approx(0.02), 2: pytest.approx(0.03)}
    assert pixel_areas(labels == 2).to_dict() == {0: pytest.approx(0.03), 1: pytest.approx(0.03)}
