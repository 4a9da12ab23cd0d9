"""Figures of a model on labelled data: counted by hand, with intervals, beside simple baselines."""

import importlib
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

import timo
from timo.errors import TimoError
from timo.evaluate import Evaluation, baselines, cross_validate, evaluate
from timo.evaluate.baselines import Baselines, thin
from timo.evaluate.features import (
    Periods,
    group_sums,
    means_of,
    median,
    series_features,
)
from timo.evaluate.figures import (
    class_figures,
    class_summary,
    error_summary,
    error_sums,
    resample,
)
from timo.mapping import export
from timo.models.answering import ModelConfig
from timo.models.config import EncoderConfig
from timo.models.tasks import build
from timo.places import Places, Split
from timo.training.regression import fold_of, group_folds

mpl.use("agg")
few = settings(max_examples=30, deadline=None)
BANDS, CLASSES = ("B4", "B8"), ("barley", "maize", "wheat")


@pytest.fixture(autouse=True, scope="module")
def small_forest():
    """Twenty trees are enough for these rules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_TREES", 20)
        yield


def make_place(seed=0, *, dates=6, size=24, classes=3, gaps=0.2):
    """A cube whose second band is 0.1 + 0.1 times the class, in square fields of 6 pixels, and its labels."""
    rng = np.random.default_rng(seed)
    fields = size // 6
    field = np.kron(np.arange(fields**2).reshape(fields, fields), np.ones((6, 6), int))
    truth = rng.permutation(np.arange(fields**2) % classes)[field].astype("int16")
    values = rng.normal(0.2, 0.02, (dates, 2, size, size))
    values[:, 1] = 0.1 + 0.1 * truth + rng.normal(0, 0.01, (dates, size, size))
    values[np.broadcast_to(rng.random((dates, 1, size, size)) < gaps, values.shape)] = np.nan
    coords = {
        "time": pd.date_range("2019-03-01", periods=dates, freq="MS"),
        "band": list(BANDS),
        "y": 5_000_000 - 10 * (np.arange(size) + 0.5),
        "x": 500_000 + 10 * (np.arange(size) + 0.5),
    }
    dims = ("time", "band", "y", "x")
    cube = xr.DataArray(values.astype("float32"), coords, dims, attrs={"sensor": "sentinel-2"})
    labels = xr.DataArray(
        truth,
        {"y": cube.y, "x": cube.x, "feature": (("y", "x"), field.astype("int32"))},
        ("y", "x"),
        attrs={"classes": list(CLASSES)},
    )
    return cube.rio.write_crs(32634), labels.rio.write_crs(32634)


def make_model(**options):
    """A model that knows the rule of `make_place` from the mean of the second band; it makes no mistake."""
    encoder = EncoderConfig(
        in_channels=2, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2)
    )
    options = {"per_date": False} | options
    regression = options.get("task") == "regression"
    classes = () if regression else options.pop("classes", CLASSES)
    config = ModelConfig(
        encoder=encoder, bands=BANDS, classes=classes, mean=(0.2, 0.2), std=(0.1, 0.1), **options
    )
    model = build(config)

    def forward(x, dates, valid=None):
        seen = x[:, :, 1].isfinite()
        band = torch.where(seen, x[:, :, 1], 0)
        if config.unit == "chip":
            band, seen = band.mean(dim=(-2, -1)), seen.float().mean(dim=(-2, -1))
        if not config.per_date:
            band, seen = band.sum(dim=1), seen.sum(dim=1)
        value = (band / seen.clamp(min=1e-6) - 0.1) / 0.1
        axis = -1 if config.unit == "chip" else -3
        if regression:
            return torch.stack([value, value - 1, value + 1], dim=axis)
        return torch.stack([-50 * (value - k).abs() for k in range(len(classes))], dim=axis)

    model.forward = forward
    model.__class__ = type("Rule", (type(model),), {"__deepcopy__": lambda self, _: self})
    return model


def wrong_on(labels, pixels, by=1):
    """Labels of which some flat pixels are of the next class: mistakes of a model that makes none."""
    values = labels.values.copy()
    values.flat[pixels] = (values.flat[pixels] + by) % 3
    return labels.copy(data=values)


# --- figures


@few
@given(seed=st.integers(0, 1000), classes=st.integers(2, 5))
def test_figures_of_classes_are_those_of_scikit_learn(seed, classes):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, classes, (2, 60))
    matrix = metrics.confusion_matrix(truth, predicted, labels=range(classes))
    found = class_figures(matrix)
    parts = metrics.precision_recall_fscore_support(
        truth, predicted, labels=range(classes), zero_division=np.nan
    )
    for name, expected in zip(("precision", "recall", "f1", "support"), parts, strict=True):
        np.testing.assert_allclose(found[name], expected)
    expected = metrics.jaccard_score(truth, predicted, average=None, labels=range(classes))
    np.testing.assert_allclose(np.nan_to_num(found["iou"]), expected)
    summary = class_summary(matrix)
    present = np.unique(truth)
    options = {"average": "macro", "zero_division": 0}
    assert summary["overall_accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert summary["mean_f1"] == pytest.approx(
        metrics.f1_score(truth, predicted, labels=present, **options)
    )
    assert summary["mean_f1_all"] == pytest.approx(
        metrics.f1_score(truth, predicted, labels=range(classes), **options)
    )
    assert summary["mean_iou"] == pytest.approx(
        metrics.jaccard_score(truth, predicted, labels=present, **options)
    )


def test_one_wrong_pixel_does_not_halve_a_mean():
    """Labels of one class only, 4,095 of 4,096 right: the class that is absent has no F1 of its own."""
    found = class_summary(np.array([[0, 0], [1, 4095]]))
    assert found["mean_f1"] == pytest.approx(0.99988, abs=1e-5)
    assert found["mean_f1_all"] == pytest.approx(0.49994, abs=1e-5)


@few
@given(seed=st.integers(0, 1000))
def test_figures_of_values_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(30, 5, 50)
    predicted = truth + rng.normal(1, 2, 50)
    low_high = np.column_stack([predicted, predicted - 2, predicted + 2])
    found = error_summary(error_sums(truth, low_high).sum(axis=0))
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert found["r2"] == pytest.approx(metrics.r2_score(truth, predicted))
    assert found["bias"] == pytest.approx((predicted - truth).mean())
    assert found["inside"] == pytest.approx((abs(truth - predicted) <= 2).mean())
    alone = error_summary(error_sums(truth, predicted[:, None]).sum(axis=0))
    assert np.isnan(alone["inside"])
    assert alone["rmse"] == found["rmse"]


def test_intervals_are_as_wide_as_theory_says():
    """400 units of one answer each, 80 % right: the standard error of a share is sqrt(p (1 - p) / n)."""
    sums = np.zeros((400, 4))
    sums[:320, 0] = 1
    sums[320:, 1] = 1
    low, high = resample(sums, lambda m: class_summary(m.reshape(*m.shape[:-1], 2, 2)))[
        "overall_accuracy"
    ]
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert low == pytest.approx(0.8 - half, abs=0.005)
    assert high == pytest.approx(0.8 + half, abs=0.005)


def test_intervals_know_that_pixels_of_a_unit_are_alike():
    """The same answers in 20 units of 20 alike: the interval is as wide as that of 20 answers."""
    alike = np.zeros((20, 4))
    alike[:16, 0], alike[16:, 1] = 20, 20

    def accuracy(m):
        return {"share": m[..., 0] / m.sum(axis=-1)}

    low, high = resample(alike, accuracy)["share"]
    assert 0.3 < high - low < 0.4
    assert np.isnan(resample(alike[:1], accuracy)["share"]).all()
    many = resample(np.tile(alike, (2000, 1)), accuracy)["share"]
    assert many[1] - many[0] < 0.01


# --- features


def test_a_median_leaves_nan_out():
    values = np.array([[3.0, np.nan, 1.0], [1.0, np.nan, np.nan], [2.0, np.nan, 2.0]])
    np.testing.assert_array_equal(median(values), [2.0, np.nan, 1.5])


def test_gaps_in_time_are_interpolated_and_ends_kept():
    series = np.float32([np.nan, 1.0, np.nan, np.nan, 4.0, np.nan])[:, None, None]
    dates = np.arange("2020-01", "2020-07", dtype="datetime64[M]").astype("datetime64[D]")
    periods = Periods.of([dates])
    found = series_features(series, dates, periods)
    np.testing.assert_allclose(found[0], [1, 1, 2, 3, 4, 4], rtol=1e-6)
    assert np.isnan(series_features(series * np.nan, dates, periods)).all()


def test_periods_are_months_from_the_first_or_of_the_calendar():
    year = pd.date_range("2018-10-05", "2019-09-20", freq="15D").values
    periods = Periods.of([year, year])
    assert str(periods) == "12 periods of 1 month"
    assert periods.numbers(np.array(["2018-10-31", "2019-09-01"], "datetime64[D]")).tolist() == [
        0,
        11,
    ]
    later = year + np.timedelta64(366, "D")
    calendar = Periods.of([year, later])
    assert str(calendar) == "the 12 months of the year"
    assert calendar.numbers(np.array(["2018-10-31", "2020-10-01"], "datetime64[D]")).tolist() == [
        9,
        9,
    ]
    long = Periods.of([pd.date_range("2015-01-01", "2019-12-31", freq="MS").values])
    assert str(long) == "20 periods of 3 months"


def test_features_are_the_medians_of_each_month():
    dates = np.array(["2019-03-01", "2019-03-20", "2019-05-02"], "datetime64[D]")
    values = np.array([[1.0, 10.0], [3.0, np.nan], [5.0, 30.0]], "float32")[:, :, None]
    found = series_features(values, dates, Periods.of([dates]))
    np.testing.assert_allclose(found, [[2, 10, 3.5, 20, 5, 30]])


def test_means_of_groups_leave_gaps_out():
    values = np.array([[[1.0, 3.0, np.nan, 7.0]]], "float32")
    found = means_of(group_sums(values, np.array([0, 0, 1, 2]), 3))
    np.testing.assert_array_equal(found[0, 0], [2, np.nan, 7])


# --- baselines


def test_baselines_learn_a_rule_and_fill_gaps_from_the_training_part_alone():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 300)
    x = (truth[:, None] + rng.normal(0, 0.2, (300, 4))).astype("float32")
    x[:, 3] = np.nan
    groups = np.arange(300) % 10
    fitted = Baselines(x, truth, groups)
    found = fitted.predict(x)
    assert list(found) == ["majority class", "logistic regression", "random forest"]
    assert (found["majority class"] == np.bincount(truth).argmax()).all()
    assert (found["logistic regression"] == truth).mean() > 0.95
    np.testing.assert_allclose(fitted.means[:3], x[:, :3].mean(axis=0), rtol=1e-5)
    # A row without any value is that of the means, whatever else is predicted with it.
    lonely = np.full((1, 4), np.nan, "float32")
    alone = fitted.predict(lonely)["random forest"]
    beside = fitted.predict(np.concatenate([lonely, x]))["random forest"]
    assert alone[0] == beside[0]


def test_baselines_of_values():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (300, 3)).astype("float32")
    truth = (2 * x[:, 0] + 5).astype("float64")
    fitted = Baselines(x, truth, np.arange(300) % 10)
    found = fitted.predict(x)
    assert list(found) == ["mean", "ridge regression", "random forest"]
    np.testing.assert_allclose(found["mean"], truth.mean())
    np.testing.assert_allclose(found["ridge regression"], truth, atol=0.05)


def test_baselines_of_one_class_know_it():
    fitted = Baselines(np.zeros((5, 2), "float32"), np.ones(5, int), np.arange(5))
    assert {name: v.tolist() for name, v in fitted.predict(np.ones((2, 2), "float32")).items()} == {
        "majority class": [1, 1],
        "logistic regression": [1, 1],
        "random forest": [1, 1],
    }


@few
@given(seed=st.integers(0, 100), folds=st.integers(2, 5))
def test_folds_keep_groups_whole(seed, folds):
    groups = np.random.default_rng(seed).integers(0, 9, 50)
    fold = fold_of(groups, folds, seed)
    assert all(len(set(fold[groups == g])) == 1 for g in np.unique(groups))
    held = []
    for train, test in group_folds(groups, folds, seed):
        assert not set(groups[train]) & set(groups[test])
        held += test.tolist()
    assert sorted(held) == list(range(50))


def test_thinning_keeps_rare_classes():
    truth = np.r_[np.zeros(10_000, int), np.ones(20, int)]
    kept = thin(truth, 500, np.random.default_rng(0))
    assert 500 <= len(kept) <= 520
    assert (truth[kept] == 1).sum() == 20
    assert (np.diff(kept) > 0).all()


# --- evaluate


def test_pixels_are_counted_once_and_observed_ones_alone():
    cube, labels = make_place(gaps=0)
    cube.values[:, :, :6, :6] = np.nan
    found = evaluate(make_model(), cube, wrong_on(labels, [200, 300]), baselines=False)
    assert found.confusion.to_numpy().sum() == 24 * 24 - 36
    assert np.trace(found.confusion.to_numpy()) == 24 * 24 - 36 - 2
    row = found.table.loc["model"]
    assert row.overall_accuracy == pytest.approx(1 - 2 / 540)
    assert row.overall_accuracy_low < row.overall_accuracy < row.overall_accuracy_high
    assert any("36 labels without an observation" in note for note in found.notes)
    assert found.title == "540 pixels: all labels"
    assert any("resample 15 groups of the labels" in note for note in found.notes)


def test_a_model_of_dates_is_counted_at_each_date():
    cube, labels = make_place()
    found = evaluate(make_model(per_date=True), cube, labels, baselines=False)
    assert found.confusion.to_numpy().sum() == np.isfinite(cube.values).all(axis=1).sum()
    assert "pixels and dates" in found.title
    dated = labels.expand_dims(time=cube.time).copy()
    dated[1:] = -1
    found = evaluate(make_model(per_date=True), cube, dated, baselines=False)
    assert found.confusion.to_numpy().sum() == np.isfinite(cube.values[0]).all(axis=0).sum()


def test_a_series_with_labels_of_dates_is_judged_by_the_last():
    cube, labels = make_place(gaps=0)
    dated = wrong_on(labels, np.arange(576)).expand_dims(time=cube.time).copy()
    dated[3] = labels
    dated[4:] = -1
    found = evaluate(make_model(), cube, dated, baselines=False)
    assert found.table.overall_accuracy["model"] == 1


def test_the_part_of_the_split_is_counted_and_the_baselines_learn_from_the_training_part():
    cube, labels = make_place()
    split = xr.zeros_like(labels).copy(
        data=np.where(np.arange(24) >= 12, 2, 0)[:, None] + np.zeros((24, 24), int)
    )
    split.attrs = {}
    found = evaluate(make_model(), cube, labels, split=split)
    assert found.confusion.to_numpy().sum() == 288
    assert list(found.table.index) == [
        "model",
        "majority class",
        "logistic regression",
        "random forest",
    ]
    assert found.table.overall_accuracy["logistic regression"] > 0.99
    assert any("Baselines learn from 288 labels (of the training part)" in n for n in found.notes)
    assert any("6 periods of 1 month" in n and "C = " in n for n in found.notes)
    # What the labels of the test part are does not change the baselines.
    other = wrong_on(labels, np.arange(288, 576))
    swapped = evaluate(make_model(), cube, other, split=split)
    assert swapped.table.overall_accuracy["logistic regression"] < 0.01
    with pytest.raises(TimoError, match="No label is left to count"):
        evaluate(make_model(), cube, labels, split=split, part="validation")


def test_without_a_split_the_baselines_are_cross_validated_by_groups():
    cube, labels = make_place()
    found = evaluate(make_model(), cube, labels)
    assert any("cross-validated by whole groups in 5 folds" in note for note in found.notes)
    assert found.table.overall_accuracy["random forest"] > 0.95
    one = labels.assign_coords(feature=labels.feature * 0)
    alone = evaluate(make_model(), cube, one)
    assert list(alone.table.index) == ["model"]
    assert any(note.startswith("No baselines") for note in alone.notes)
    assert any(note.startswith("No intervals") for note in alone.notes)


def test_train_says_what_the_baselines_learn_from():
    places = Places([make_place(1)]), Places([make_place(2)])
    found = evaluate(make_model(), places[0], train=places[1])
    assert any("576 labels (of the training part)" in n for n in found.notes)
    assert found.table.overall_accuracy["logistic regression"] > 0.99
    constant = make_place(3)[1] * 0
    odd = Places([(make_place(3)[0], constant.astype("int16").assign_attrs(classes=list(CLASSES)))])
    odd = evaluate(make_model(), places[0], train=odd)
    assert odd.table.overall_accuracy["random forest"] == pytest.approx(
        float((make_place(1)[1] == 0).mean()), abs=0.01
    )


def test_classes_are_matched_by_name_and_ignored_by_name():
    cube, labels = make_place(gaps=0)
    turned = labels.copy(data=2 - labels.values).assign_attrs(classes=list(CLASSES[::-1]))
    assert (
        evaluate(make_model(), cube, turned, baselines=False).table.overall_accuracy["model"] == 1
    )
    found = evaluate(make_model(), cube, labels, ignore=["maize"], baselines=False)
    assert found.classes.support["maize"] == 0
    assert found.confusion.to_numpy().sum() == int((labels != 1).sum())
    assert found.table.mean_f1["model"] == 1
    assert found.table.mean_f1_all["model"] == pytest.approx(2 / 3)
    assert any("Not counted: labels of maize" in note for note in found.notes)
    assert any("absent ones count 0: maize" in note for note in found.notes)
    more = labels.assign_attrs(classes=["barley", "maize", "rye"])
    with pytest.raises(TimoError, match=r"Leave \['rye'\] out with ignore=\['rye'\]"):
        evaluate(make_model(), cube, more)
    assert (
        evaluate(make_model(), cube, more, ignore=["rye"], baselines=False).table.mean_f1["model"]
        == 1
    )
    with pytest.raises(TimoError, match=r"ignore= has \['corn'\]"):
        evaluate(make_model(), cube, labels, ignore=["corn"])


def test_parcels_are_counted_as_wholes():
    cube, labels = make_place(gaps=0)
    model = make_model(task="classification", unit="parcel")
    # Ten of the 36 pixels of parcel 0 say otherwise: the majority counts.
    votes = wrong_on(labels, [0, 1, 2, 3, 4, 24, 25, 26, 27, 28])
    found = evaluate(model, cube, votes)
    assert found.confusion.to_numpy().sum() == 16
    assert found.table.overall_accuracy["model"] == 1
    assert found.table.overall_accuracy["logistic regression"] > 0.9
    assert found.title.startswith("16 parcels")


def test_chips_are_counted_place_by_place():
    made = [make_place(i, size=6, classes=1, dates=4 + i % 3) for i in range(12)]
    cubes = [cube + 0.1 * (i % 3) * (cube.band == "B8") for i, (cube, _) in enumerate(made)]
    labels = [xr.DataArray(np.int16(i % 3), attrs={"classes": list(CLASSES)}) for i in range(12)]
    cubes = [
        cube.astype("float32").transpose(*made[0][0].dims).assign_attrs(made[0][0].attrs)
        for cube in cubes
    ]
    places = Places(list(zip(cubes, labels, strict=True)))
    found = evaluate(make_model(task="classification"), places)
    assert found.confusion.to_numpy().tolist() == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    assert any("resample 12 places" in note for note in found.notes)
    assert found.table.overall_accuracy["logistic regression"] > 0.7


def test_values_have_their_own_figures():
    cube, labels = make_place()
    heights = (labels.astype("float32") * 1.0).assign_attrs(long_name="height", units="m")
    del heights.attrs["classes"]
    model = make_model(task="regression", target="height", target_units="m")
    found = evaluate(model, cube, heights)
    assert list(found.table.index) == ["model", "mean", "ridge regression", "random forest"]
    assert found.table.rmse["model"] < 0.2
    assert found.table.r2["model"] > 0.95
    assert found.table.inside["model"] == 1
    assert found.table.rmse["mean"] == pytest.approx(float(labels.std()), rel=0.1)
    assert found.table.r2["mean"] == pytest.approx(0, abs=0.3)
    assert found.title.startswith("height of ")
    assert not len(found.classes)
    assert found.plot().get_xlabel() == "reference (m)"
    with pytest.raises(TimoError, match="The labels are classes, the model predicts values"):
        evaluate(model, cube, labels)
    with pytest.raises(TimoError, match="The labels are values, the model predicts classes"):
        evaluate(make_model(), cube, heights)


@pytest.mark.parametrize(("units", "refused"), [("cm", True), ("m", False), ("", False)])
def test_values_in_another_unit_are_refused(units, refused):
    cube, labels = make_place()
    heights = (labels.astype("float32") * 100).assign_attrs(long_name="height", units=units)
    del heights.attrs["classes"]
    model = make_model(task="regression", target="height", target_units="m")
    if not refused:
        assert len(evaluate(model, cube, heights, baselines=False).table) == 1
        return
    with pytest.raises(
        TimoError, match=r"The labels are in 'cm', the model's values in 'm'\. Conv"
    ):
        evaluate(model, cube, heights, baselines=False)
    metres = (heights / 100).assign_attrs(heights.attrs, units="m")
    assert evaluate(model, cube, metres, baselines=False).table.rmse["model"] < 0.2


def test_a_cube_on_disk_is_counted_alike(tmp_path):
    cube, labels = make_place()
    export(cube.rename("cube"), tmp_path / "cube.zarr")
    lazy = xr.open_zarr(tmp_path / "cube.zarr", decode_coords="all").cube.chunk(y=7, x=9)
    one, other = (evaluate(make_model(), c, labels, baselines=False) for c in (cube, lazy))
    pd.testing.assert_frame_equal(one.table, other.table)


# --- cross-validation


def test_folds_are_pooled_and_each_label_is_counted_once(monkeypatch):
    seen = []

    def learn(model, places, *, split, seed, epochs):
        assert (seed, epochs) == (0, 3)
        seen.append([split.part(i) for i in range(len(places))])

    monkeypatch.setattr(importlib.import_module("timo.training.finetune"), "finetune", learn)
    places = Places([make_place(i) for i in range(4)], folds=[1, 2, 1, 2])
    found = cross_validate(make_model(), places, epochs=3)
    assert [[part == 2 for part in parts] for parts in seen] == [
        [True, False, True, False],
        [False, True, False, True],
    ]
    whole = evaluate(make_model(), places, baselines=False)
    assert found.confusion.equals(whole.confusion)
    assert found.title.endswith("2 folds by fold, pooled")
    assert found.table.overall_accuracy["random forest"] > 0.95


def test_a_model_that_was_trained_before_is_said_to_know_the_folds(monkeypatch):
    learn = lambda *_, **__: None  # noqa: E731
    monkeypatch.setattr(importlib.import_module("timo.training.finetune"), "finetune", learn)
    places, model = Places([make_place(i) for i in range(2)], folds=[1, 2]), make_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        cross_validate(model, places, baselines=False)
    model.has_learnt = True
    with pytest.warns(UserWarning, match="trained before.*too good.*timo.load_model"):
        cross_validate(model, places, baselines=False)


@pytest.mark.slow
def test_a_model_is_trained_for_each_fold_and_left_as_it_was():
    places = Places([make_place(i) for i in range(3)], groups=list("abc"))
    encoder = EncoderConfig(
        in_channels=2, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2)
    )
    config = ModelConfig(
        encoder=encoder,
        bands=BANDS,
        classes=CLASSES,
        mean=(0.2, 0.2),
        std=(0.1, 0.1),
        per_date=False,
    )
    model = build(config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = cross_validate(
        model,
        places,
        by="group",
        k=3,
        baselines=False,
        epochs=2,
        chips_per_epoch=16,
        progress=False,
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found.confusion.to_numpy().sum() > 1700


# --- what is shown


@pytest.fixture(scope="module")
def evaluation():
    cube, labels = make_place()
    return evaluate(make_model(), cube, wrong_on(labels, np.arange(50)))


def test_it_prints_and_shows_itself(evaluation):
    text = str(evaluation)
    assert "overall accuracy" in text
    assert "user's accuracy (precision)" in text
    assert "random forest" in text
    assert "all classes" not in text  # as no class is absent
    html = evaluation._repr_html_()
    assert html.count("<table") == 3
    assert "producer&#x27;s accuracy (recall)" in html or "producer's accuracy (recall)" in html


def test_the_picture_has_the_counts(evaluation):
    axes = evaluation.plot()
    texts = {text.get_text() for text in axes.texts}
    assert {f"{n:,}" for n in evaluation.confusion.to_numpy().ravel() if n} == texts
    assert axes.get_ylabel().startswith("reference class")
    with pytest.raises(TimoError, match="ax must be Axes"):
        evaluation.plot(ax=3)


def test_the_csv_holds_every_figure(evaluation, tmp_path):
    table = pd.read_csv(evaluation.to_csv(tmp_path / "figures.csv"), keep_default_na=False)
    row = table[(table.predictor == "random forest") & (table.figure == "mean_iou")]
    assert float(row.value.iloc[0]) == pytest.approx(evaluation.table.mean_iou["random forest"])
    row = table[(table["class"] == "maize") & (table.figure == "recall")]
    assert float(row.low.iloc[0]) == pytest.approx(evaluation.classes.recall_low["maize"])


def test_what_cannot_be_evaluated_is_said():
    cube, labels = make_place()
    with pytest.raises(TimoError, match="no labels to evaluate a model by"):
        evaluate(make_model(), Places([cube]))
    with pytest.raises(TimoError, match="band"):
        evaluate(make_model(), cube.sel(band=["B4"]), labels)
    with pytest.raises(TimoError, match="labels of a whole place"):
        evaluate(make_model(task="classification"), cube, labels)
    nowhere = labels.drop_vars("feature")
    with pytest.raises(TimoError, match="no coordinate `feature`"):
        evaluate(make_model(task="classification", unit="parcel"), cube, nowhere)
    with pytest.raises(TimoError, match="3 parts, and there are 1 places"):
        evaluate(make_model(), cube, labels, split=Split([0, 1, 2]))


def test_they_are_names_of_timo():
    assert timo.evaluate is evaluate
    assert timo.cross_validate is cross_validate
    assert timo.Evaluation is Evaluation
