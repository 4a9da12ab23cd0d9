"""The regression of single pixels: what it learns, and as a model from training to a map."""

import numpy as np
import pytest
import torch
from training_world import make_world

import timo
from timo.errors import TimoError
from timo.models.answering import PixelConfig
from timo.models.tasks import build_pixel
from timo.places import Places
from timo.training import ChipOptions, Windows, regression
from timo.training.regression import fit_rows

NAMES = {"bands": ("a", "b"), "mean": (0.0, 0.0), "std": (1.0, 1.0)}
SMALL = {"chips": ChipOptions(size=16, dates=(2, 4)), "progress": False, "chips_per_epoch": 16}


@pytest.fixture(scope="module")
def world():
    return make_world()


def rows(model, count=600, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, len(model.feature_names))).astype("float32"), rng


def scores_of(model, features):
    with torch.no_grad():
        return model.regression(torch.from_numpy(features)[..., None, None])[..., 0, 0].numpy()


@pytest.mark.parametrize("classes", [("x", "y"), ("x", "y", "z")])
def test_classes_are_separated_and_each_counts_the_same(classes):
    model = build_pixel(PixelConfig(classes=classes, **NAMES))
    features, rng = rows(model)
    truth = np.digitize(features[:, 0] - features[:, 1], np.linspace(-1, 1, len(classes) - 1))
    fit_rows(model, features, truth, rng.integers(0, 9, len(truth)))
    said = scores_of(model, features).argmax(axis=1)
    recall = [(said[truth == k] == k).mean() for k in range(len(classes))]
    assert min(recall) > 0.9
    assert model.has_learnt


def test_scores_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    from timo.training.regression import balanced, best_strength, fit

    model = build_pixel(PixelConfig(classes=("x", "y", "z"), **NAMES))
    features, rng = rows(model)
    truth, groups = rng.integers(0, 3, len(features)), rng.integers(0, 9, len(features))
    fit_rows(model, features, truth, groups, seed=1)
    fitted = fit(balanced(best_strength(balanced, features, truth, groups, 1)), features, truth)
    assert isinstance(fitted[-1], LogisticRegression)
    expected = fitted.predict_log_proba(features)
    found = torch.from_numpy(scores_of(model, features)).log_softmax(-1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_class_without_labels_is_unlikely_and_one_class_teaches_nothing():
    model = build_pixel(PixelConfig(classes=("x", "y", "z"), **NAMES))
    features, rng = rows(model)
    groups = rng.integers(0, 9, len(features))
    fit_rows(model, features, np.zeros(len(features), "int64"), groups)
    assert not model.has_learnt
    assert not np.any(scores_of(model, features))
    fit_rows(model, features, 2 * (features[:, 0] > 0).astype("int64"), groups)
    assert set(scores_of(model, features).argmax(axis=1)) == {0, 2}


def test_values_and_their_interval_are_those_of_the_labels():
    model = build_pixel(PixelConfig(classes=(), task="regression", interval=0.8, **NAMES))
    features, rng = rows(model, 2000)
    truth = 5 + 2 * features[:, 1] + rng.normal(size=len(features), scale=0.5)
    model.set_target(float(truth.mean()), float(truth.std()))
    fit_rows(model, features, truth, rng.integers(0, 9, len(truth)))
    value, low, high = model.answer(torch.from_numpy(scores_of(model, features))).T.numpy()
    assert np.abs(value - truth).mean() < 0.5
    assert 0.75 < ((truth >= low) & (truth <= high)).mean() < 0.85


@pytest.mark.parametrize(
    ("name", "per_date"), [("pixel", True), ("pixel", False), ("pixel-series", False)]
)
def test_a_model_of_single_pixels_goes_from_training_to_a_map(world, tmp_path, name, per_date):
    cube, labels, split = world
    model = timo.load_model(name, cube, labels.attrs["classes"], per_date=per_date)
    done = timo.finetune(model, cube, labels, split=split, epochs=1, folder=tmp_path, **SMALL)
    assert {"loss", "validation_loss", "validation_accuracy"} <= set(done.history)
    assert done.epoch == 0
    result = timo.predict(model, cube).compute()
    assert result.label.dims == (("time", "y", "x") if per_date else ("y", "x"))
    again = timo.predict(timo.load_model(tmp_path / "model", cube), cube).compute()
    np.testing.assert_array_equal(result.label, again.label)
    figures = timo.evaluate(model, cube, labels, split=split, baselines=False)
    assert figures.table.overall_accuracy.iloc[0] > 0.5


@pytest.mark.parametrize("per_date", [True, False])
def test_the_path_of_a_model_is_the_regression_alone(world, per_date):
    cube, labels, split = world
    answer = {"classes": labels.attrs["classes"], "per_date": per_date}
    alone = timo.load_model("pixel", cube, **answer)
    timo.finetune(alone, cube, labels, split=split, **SMALL)
    both = timo.load_model("timo-tiny", cube, pretrained=False, **answer)
    timo.finetune(both, cube, labels, split=split, epochs=1, **SMALL)
    for name, weight in alone.state_dict().items():
        assert torch.equal(weight, both.pixel.state_dict()[name]), name


def test_the_penalty_is_chosen_by_ground_that_was_held_out(world, monkeypatch):
    """Chips overlap: a pixel is in the same group in each of them, and its group lies together."""
    cube, labels, _ = world
    seen = {}
    monkeypatch.setattr(
        regression, "best_strength", lambda *given: seen.update(groups=given[3]) or 1.0
    )
    model = timo.load_model("pixel", cube, labels.attrs["classes"])
    options = ChipOptions(size=8, dates=(1, 1))
    windows = Windows(Places([(cube, labels)]), 40, options, 0)
    regression.fit_pixels(model, windows, 0)
    squares = [-(-cube.sizes[d] // 8) for d in "yx"]
    assert 4 < len(np.unique(seen["groups"])) <= squares[0] * squares[1]
    known = np.zeros((3, 8, 8), bool)
    known[1, 2, 7] = known[2, 0, 0] = True
    assert regression._grounds(known, (5, 14, 3), 8).tolist() == [[5, 2, 1], [5, 1, 0]]
    place, row, column = windows.corner(7)
    assert place == 0
    assert 0 <= row <= cube.sizes["y"] - 8
    assert 0 <= column <= cube.sizes["x"] - 8


def test_a_series_model_of_pixels_answers_for_the_series(world):
    cube, labels, _ = world
    model = timo.load_model("pixel-series", cube, labels.attrs["classes"])
    assert not model.config.per_date
    with pytest.raises(TimoError, match="sums up a series: give per_date=False"):
        timo.load_model("pixel-series", cube, labels.attrs["classes"], per_date=True)


def test_options_of_an_encoder_are_refused(world):
    cube, labels, _ = world
    with pytest.raises(TimoError, match='options of an encoder, and "pixel" has none'):
        timo.load_model("pixel", cube, labels.attrs["classes"], drop_path=0.1)
