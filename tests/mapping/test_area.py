import math
import warnings

import numpy as np
import pandas as pd
import pyproj
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
        "few_units",
    ]
    assert not table["few_units"].any()
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
    values[20, 21] = 2019
    with pytest.raises(TimoError, match=r"Too few sample units in \{2019: 1\}.*merge"):
        loss_areas(grid(values), sample.assign(reference=sample["stratum"]))
    values[20, 21] = 0
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
        (
            lambda: stratified_sample(grid(np.ones((3, 3), int)).drop_vars("spatial_ref"), 5, 0),
            "The map's CRS=None is no coordinate reference system",
        ),
        (
            lambda: sample_size(0.01, {"a": 1, "b": 2}, {"a": 1, "b": 0}),
            "0 or 1 in every stratum, .* such as 0.9",
        ),
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
    columns = ["id", "longitude", "latitude", "y", "x", "row", "col", "stratum"]
    assert list(sample.columns) == columns
    assert list(sample["id"]) == list(range(1, 301))
    to_degrees = pyproj.Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
    degrees = to_degrees.transform(sample["x"], sample["y"])
    np.testing.assert_allclose([sample["longitude"], sample["latitude"]], degrees)
    pixels = {k: int((mapped == k).sum()) for k in (0, 1)}
    assert sample.attrs["crs"] == "EPSG:3035"
    assert sample.attrs["pixels"] == pixels
    assert sample.attrs["hectares"] == pytest.approx({k: n * 0.01 for k, n in pixels.items()})
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


# --- keys: what a class means, and which units belong together

TWO = [0] * 60 + [2018] * 60
AREAS = {0: 24.0, 2018: 12.0}


def hectares_of(*arguments, **options):
    return estimate_area(*arguments, **options).table.set_index("class")["estimated_ha"].to_dict()


@pytest.mark.parametrize(
    "spell",
    [
        str,
        lambda k: f" {k} ",
        lambda k: f"{k}.0",
        lambda k: f"{k},00",
        float,
        np.int16,
        np.float32,
        lambda k: k if k else "0",
    ],
    ids=["text", "blanks", "2018.0", "2018,00", "float", "int16", "float32", "mixed"],
)
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_number_is_the_same_class_however_it_is_written(spell, where):
    seen = [0] * 55 + [2018] * 65
    arguments = [TWO, seen, AREAS]
    expected = hectares_of(*arguments)
    assert expected == {0: pytest.approx(22), 2018: pytest.approx(14)}
    if where == 2:
        arguments[2] = {spell(key): area for key, area in AREAS.items()}
    else:
        arguments[where] = [spell(key) for key in arguments[where]]
    assert hectares_of(*arguments) == expected
    as_series = [pd.Series(a, dtype=object) if where < 2 else a for a in arguments]
    assert hectares_of(*as_series) == expected


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        ("2018?", r"reference_class holds \['2018\?'\] among numbers: write the number"),
        ("cut", r"reference_class holds \['cut'\] among numbers"),
        ("2018-07-01", "among numbers"),
        (pd.Timestamp("2018-07-01"), "among numbers"),
        (-1, "reference_class holds -1, and classes are whole numbers from 0 on"),
        ("-1", "reference_class holds -1, and classes are whole numbers from 0 on"),
        (2018.5, "reference_class holds 2018.5, and classes are whole"),
        (np.inf, "reference_class holds inf, and classes"),
        ("", "reference_class lacks a value for 1 sample units"),
        ("  ", "reference_class lacks a value for 1 sample units"),
        (None, "reference_class lacks a value for 1 sample units"),
        (pd.NA, "reference_class lacks a value for 1 sample units"),
        (pd.NaT, "reference_class lacks a value for 1 sample units"),
        (np.zeros(2), "reference_class must hold numbers or names of classes; got ndarray"),
    ],
)
def test_a_reference_that_is_no_class_is_refused(seen, message):
    reference = pd.Series([*TWO[:-1], None], dtype=object)
    reference.iloc[-1] = seen
    with pytest.raises(TimoError, match=message):
        estimate_area(TWO, reference, AREAS)


def test_names_that_differ_in_capitals_alone_are_refused_and_blanks_are_nothing():
    mapped, areas = ["forest"] * 60 + ["cut"] * 60, {"forest": 90.0, "cut": 10.0}
    assert hectares_of(mapped, [f" {k} " for k in mapped], areas) == areas
    with pytest.raises(TimoError, match=r"'Cut', which is 'cut' but .*.replace\({'Cut': 'cut'}\)"):
        estimate_area(mapped, [*mapped[:-1], "Cut"], areas)
    seen = pd.Series([*mapped[:-1], "Cut"]).replace({"Cut": "cut"})
    assert hectares_of(mapped, seen, areas) == areas


def test_areas_that_name_a_stratum_twice_are_refused():
    with pytest.raises(TimoError, match=r"map_areas names a stratum twice: \[0, '0', 2018\]"):
        estimate_area(TWO, TWO, {0: 1.0, "0": 2.0, 2018: 3.0})


def test_two_series_are_joined_by_their_index():
    stratum = pd.Series(TWO, index=range(7, 127))
    reference = pd.Series([0] * 50 + [2018] * 70, index=range(7, 127))
    expected = hectares_of(stratum, reference, AREAS)
    shuffled = reference.sample(frac=1, random_state=0)
    assert hectares_of(stratum, shuffled, AREAS) == expected
    assert expected[2018] == pytest.approx(16)
    for other in (shuffled.reset_index(drop=True), reference.rename(lambda i: i + 1)):
        with pytest.raises(TimoError, match=r"different indexes.*give .to_numpy\(\) of both"):
            estimate_area(stratum, other, AREAS)
    with pytest.raises(TimoError, match="different indexes"):
        estimate_area(stratum.rename(lambda i: i // 2), reference, AREAS)
    assert hectares_of(stratum, reference.reset_index(drop=True).to_numpy(), AREAS) == expected


def test_two_maps_are_joined_by_their_coordinates():
    mapped = grid(np.array(TWO).reshape(10, 12).astype("int16"))
    assert hectares_of(mapped, mapped.transpose("x", "y"), AREAS) == AREAS
    with pytest.raises(TimoError, match="not on the same coordinates"):
        estimate_area(mapped, mapped[::-1], AREAS)


def test_a_reference_without_any_stratum_is_said():
    with pytest.warns(UserWarning, match=r"No class of the reference \['a', 'b'\] is a stratum"):
        estimate = estimate_area(TWO, ["a", "b"] * 60, AREAS)
    areas = estimate.table.set_index("class")["estimated_ha"]
    assert areas.to_dict() == {0: 0, 2018: 0, "a": 18, "b": 18}


# --- few units, and all of them


def test_a_stratum_that_was_wholly_looked_at_is_a_census():
    mapped, reference = units([[30, 10], [0, 20]], ["a", "b"])
    areas = {"a": 4.0, "b": 200.0}
    many = estimate_area(mapped, reference, areas).table.set_index("class")
    none = estimate_area(mapped, reference, areas, population={"a": 40, "b": 20_000}).table
    assert (none["standard_error_ha"] == 0).all()
    assert many.loc["a", "standard_error_ha"] == pytest.approx(4 * math.sqrt(0.75 * 0.25 / 39))
    half = estimate_area(mapped, reference, areas, population={"a": 80, "b": 20_000}).table
    # Of 80 pixels half are unseen: the variance is half.
    np.testing.assert_allclose(half["standard_error_ha"], many["standard_error_ha"] * 0.5**0.5)
    assert list(half["estimated_ha"]) == list(many["estimated_ha"])


def test_a_census_of_a_single_pixel_is_enough():
    table = estimate_area(
        [1, *[0] * 60], [1, *[0] * 60], {0: 60, 1: 0.01}, population={0: 9999, 1: 1}
    )
    row = table.table.set_index("class").loc[1]
    assert (row["estimated_ha"], row["standard_error_ha"], row["few_units"]) == (0.01, 0, False)


@pytest.mark.parametrize(
    "population", [{0: 59, 2018: 99}, {0: 999}, pd.Series({0: np.nan, 2018: 99})]
)
def test_a_population_that_cannot_be_is_refused(population):
    with pytest.raises(TimoError, match=r"no fewer than its sample units \{0: 60, 2018: 60\}"):
        estimate_area(TWO, TWO, AREAS, population=population)


def test_the_census_of_a_map_is_its_area_and_its_interval_has_no_width():
    values = np.zeros((20, 20), "int16")
    values[:2], values[2, :5] = 2018, 2019
    truth = np.where(values == 2019, 2018, values)
    sample = stratified_sample(grid(values), {0: 355, 2018: 40, 2019: 5}, seed=0)
    sample["reference"] = truth[sample["row"], sample["col"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = loss_areas(grid(values), sample).set_index("year")
        by_sample = estimate_area(sample, pixel_areas(grid(values))).table.set_index("class")
    assert table["estimated_ha"].to_dict() == pytest.approx({2018: 0.45, 2019: 0, "all": 0.45})
    assert (table["standard_error_ha"] == 0).all()
    assert (by_sample["ci_low_ha"] == by_sample["ci_high_ha"]).all()


def test_intervals_that_rest_on_few_units_say_so():
    counts = np.array([[45, 4, 0, 0], [0, 49, 0, 0], [0, 0, 98, 2], [0, 0, 0, 200]])
    with pytest.warns(UserWarning, match=r"fewer than 50 sample units: {'a': 49, 'b': 49}") as said:
        table = estimate_area(*units(counts, list("abcd")), dict.fromkeys("abcd", 10)).table
    assert len(said) == 1
    assert table["few_units"].tolist() == [True, True, False, False]
    assert table["n"].tolist() == [49, 49, 100, 200]
    assert table["n_reference"].tolist() == [45, 53, 98, 202]
    counts[0, 0] += 1
    counts[1, 1] += 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = estimate_area(*units(counts, list("abcd")), dict.fromkeys("abcd", 10)).table
    assert not table["few_units"].any()


def test_the_few_units_of_a_year_are_said_once_and_marked():
    values = np.zeros((60, 60), dtype="int16")
    values[:10, :20], values[30:33] = 2018, 2019
    sample = stratified_sample(grid(values), {0: 100, 2018: 60, 2019: 20}, seed=0)
    sample["reference"] = sample["stratum"]
    with pytest.warns(UserWarning, match=r"{2019: 20}") as said:
        table = loss_areas(grid(values), sample).set_index("year")
    assert len(said) == 1
    assert table["few_units"].to_dict() == {2018: False, 2019: True, "all": True}


# --- years and extents


@pytest.fixture(scope="module")
def losses():
    """A map of loss, its pooled strata, and a sample of them whose truth is the map."""
    values = np.zeros((40, 40), "int16")
    values[:10], values[10:15] = 2018, 2019
    loss_year = grid(values)
    strata = (loss_year > 0).astype("int16")
    sample = stratified_sample(strata, {0: 100, 1: 100}, seed=0)
    return loss_year, strata, sample.assign(reference=values[sample["row"], sample["col"]])


def test_years_are_read_however_a_spreadsheet_has_them(losses):
    loss_year, strata, sample = losses
    expected = loss_areas(loss_year, sample, strata=strata)
    assert expected["estimated_ha"].iloc[-1] == pytest.approx(6)
    for spelt in (
        sample["reference"].astype(str),
        sample["reference"].astype(float),
        sample["reference"].astype(str) + " ",
        sample["reference"].astype(str) + ".0",
    ):
        table = loss_areas(loss_year, sample.assign(reference=spelt), strata=strata)
        pd.testing.assert_frame_equal(table, expected)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda r: r + 0.5,
            r"The reference holds \[0.5, 2018.5, 2019.5\]: a year of loss is a whole",
        ),
        (lambda r: r % 100, r"The reference holds \[18, 19\]: a year of loss .* four digits"),
        (lambda r: r * 10, r"The reference holds \[20180, 20190\]: a year of loss"),
        (lambda r: r > 0, "says True or False, and not the year"),
        (lambda r: (r > 0).astype(object), "says True or False, and not the year"),
        (lambda _: pd.Timestamp("2018-07-01"), r"holds dates: .*pandas.to_datetime\(sample"),
        (lambda _: pd.Timestamp("2018-07-01").date(), "holds dates: "),
        (lambda r: r.where(r > 0, -1), "sample units have no reference: note 0 or the year"),
        (lambda r: r.where(r > 0).astype(object), "sample units have no reference"),
        (lambda r: r.astype(str).where(r > 0, ""), "sample units have no reference"),
        (lambda r: r.astype(str) + "-07-01", "200 sample units have no reference"),
    ],
)
def test_years_that_are_none_are_refused(losses, spoil, message):
    loss_year, strata, sample = losses
    with pytest.raises(TimoError, match=message):
        loss_areas(loss_year, sample.assign(reference=spoil(sample["reference"])), strata=strata)


def test_what_the_messages_about_years_say_works(losses):
    loss_year, strata, sample = losses
    expected = loss_areas(loss_year, sample, strata=strata)
    dates = pd.to_datetime(
        sample["reference"].where(sample["reference"] > 0).astype("Int64").astype(str) + "-07-01",
        errors="coerce",
    )
    dated = sample.assign(reference=dates)
    with pytest.raises(TimoError, match="holds dates"):
        loss_areas(loss_year, dated, strata=strata)
    years = pd.to_datetime(dated["reference"]).dt.year.fillna(0)
    pd.testing.assert_frame_equal(
        loss_areas(loss_year, sample.assign(reference=years), strata=strata), expected
    )
    lost = sample.assign(reference=sample["reference"] > 0)
    table = estimate_area(lost, pixel_areas(strata)).table.set_index("class")
    assert table.loc[1, "estimated_ha"] == pytest.approx(6)


def test_a_map_of_years_since_2000_or_of_true_and_false_is_refused(losses):
    loss_year, strata, sample = losses
    since = loss_year.where(loss_year <= 0, loss_year - 2000)
    with pytest.raises(TimoError, match=r"The map of loss holds \[18, 19\]") as error:
        loss_areas(since, sample, strata=strata)
    code = str(error.value).split("Use ")[1].split(" of years")[0]
    mended = eval(code, {"loss_year": since})  # noqa: S307
    assert len(loss_areas(mended, sample, strata=strata)) == 3
    with pytest.raises(TimoError, match=r"The map of loss holds \[1\]"):
        loss_areas(loss_year > 0, sample, strata=strata)


def test_strata_of_another_extent_are_refused(losses):
    loss_year, strata, sample = losses
    half = strata[:, :20]
    with pytest.raises(TimoError, match="of another extent than the map of loss: x has 20 cells"):
        loss_areas(loss_year, sample, strata=half)
    moved = strata.assign_coords(x=strata.x + 10)
    with pytest.raises(TimoError, match="another extent than the map of loss: x is up to 1 cells"):
        loss_areas(loss_year, sample, strata=moved)
    part = strata.where(strata.x < strata.x[20], -1)
    drawn = stratified_sample(part, {0: 100, 1: 100}, seed=0)
    drawn["reference"] = loss_year.values[drawn["row"], drawn["col"]]
    with pytest.raises(TimoError, match="where the map of loss has 300 pixels of loss") as error:
        loss_areas(loss_year, drawn, strata=part)
    code = str(error.value).split("Use ")[1].removesuffix(".")
    masked = eval(code, {"loss_year": loss_year, "strata": part})  # noqa: S307
    table = loss_areas(masked, drawn, strata=part)
    assert table["mapped_ha_biased"].iloc[-1] == pytest.approx(3)
    inside = loss_year.sel(y=half.y, x=half.x)
    drawn = stratified_sample(half, {0: 100, 1: 100}, seed=0)
    drawn["reference"] = inside.values[drawn["row"], drawn["col"]]
    assert loss_areas(inside, drawn, strata=half)["estimated_ha"].iloc[-1] == pytest.approx(3)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s.assign(stratum=1 - s["stratum"]),
        lambda s: s.assign(row=s["row"].iloc[::-1].to_numpy()),
        lambda s: s.assign(col=s["col"] + 40),
        lambda s: s.assign(x=s["x"] + 10),
        lambda s: s.assign(row="here"),
    ],
    ids=["stratum", "another row", "beyond", "moved", "text"],
)
def test_a_sample_of_another_map_is_refused(losses, spoil):
    loss_year, strata, sample = losses
    with pytest.raises(TimoError, match=r"of 200 sample units do not lie on this map in the stra"):
        loss_areas(loss_year, spoil(sample), strata=strata)


def test_a_unit_that_is_there_twice_is_refused_and_the_remedy_works(losses):
    loss_year, strata, sample = losses
    twice = pd.concat([sample, sample[:3]])
    for call in (
        lambda s: loss_areas(loss_year, s, strata=strata),
        lambda s: estimate_area(s, pixel_areas(strata)),
    ):
        with pytest.raises(TimoError, match=r"holds a unit twice, \{'id': 1\}: use ") as error:
            call(twice)
        code = str(error.value).split("use ")[1].removesuffix(".")
        call(eval(code, {"sample": twice}))  # noqa: S307
        with pytest.raises(TimoError, match=r"a unit twice, \{'row'"):
            call(twice.drop(columns="id"))


def test_a_sample_says_both_columns_and_its_pixels(losses):
    _, strata, sample = losses
    lost = sample.assign(reference=(sample["reference"] > 0).astype(int))
    areas = pixel_areas(strata)
    expected = estimate_area(
        lost["stratum"], lost["reference"], areas, population={0: 1000, 1: 600}
    )
    for found in (
        estimate_area(lost),
        estimate_area(lost, areas),
        estimate_area(lost, map_areas=areas),
        estimate_area(lost, {"0": 10.001, "1": 6.0}),
    ):
        pd.testing.assert_frame_equal(found.table, expected.table, rtol=1e-3)
    half = pixel_areas(strata[:, :20])
    with pytest.raises(TimoError, match=r"are not those of the map that the sample was drawn from"):
        estimate_area(lost, half)
    with pytest.raises(TimoError, match=r"are not those of the map .* leave map_areas out"):
        estimate_area(lost, {0: 10.0})
    part = lost[lost["col"] < 20]
    found = estimate_area(part.stratum, part.reference, half).table
    assert found["estimated_ha"].tolist() == pytest.approx([5, 3])
    bare = lost.copy()
    bare.attrs = {}
    with pytest.raises(TimoError, match=r"lacks the columns \['reference'\]"):
        estimate_area(lost.drop(columns="reference"), areas)
    for call in (
        lambda: estimate_area(lost["stratum"], lost["reference"]),
        lambda: estimate_area(bare),
    ):
        with pytest.raises(TimoError, match="map_areas must give the mapped area of each stratum"):
            call()
    with pytest.raises(TimoError, match="reference_class must give what is there in truth"):
        estimate_area(lost["stratum"], map_areas=areas)


# --- maps that were compared or cast


def test_a_cast_of_labels_keeps_what_is_no_data():
    labels = grid(np.array([[0, 1, -1], [1, 0, -1]], "int8")).assign_attrs(nodata=-1)
    for dtype in ("uint8", "uint16", "uint32", "int32", "float32"):
        np.testing.assert_allclose(pixel_areas(labels.astype(dtype)), [0.02, 0.02])
        assert stratified_sample(labels.astype(dtype), 4, seed=0)["col"].max() == 1
    back = grid(np.array([[0, 1, 255]], "uint8")).assign_attrs(nodata=255).astype("int8")
    assert pixel_areas(back).to_dict() == {0: pytest.approx(0.01), 1: pytest.approx(0.01)}


def test_a_comparison_of_labels_says_that_gaps_are_false_and_how_to_keep_them():
    label = grid(np.array([[0, 1, -1], [1, 0, -1]], "int8"))
    label.attrs = {"nodata": -1, "classes": ["other", "forest"]}
    for call in (pixel_areas, lambda m: stratified_sample(m, 4, seed=0)):
        with pytest.warns(UserWarning, match="is a comparison of labels: pixels without data"):
            call(label == 1)
    with pytest.warns(UserWarning, match="is a comparison") as said:
        pixel_areas(label == 1)
    code = str(said[0].message).split("use ")[1].removesuffix(".")
    kept = eval(code, {"label": label})  # noqa: S307
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixel_areas(kept).to_dict() == {0: pytest.approx(0.02), 1: pytest.approx(0.02)}
