"""The regression of single pixels: what it learns, and as a model from training to a map."""

import numpy as np
import pytest
import torch
from training_world import make_world

import timo
from timo.errors import TimoError
from timo.models.answering import PixelConfig
from timo.models.tasks import build_pixel
from timo.training import ChipOptions
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
        return model.classifier(torch.from_numpy(features)[..., None, None])[..., 0, 0].numpy()


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


@pytest.mark.parametrize("per_date", [True, False])
def test_a_model_of_single_pixels_goes_from_training_to_a_map(world, tmp_path, per_date):
    cube, labels, split = world
    model = timo.load_model("pixel", cube, labels.attrs["classes"], per_date=per_date)
    done = timo.finetune(model, cube, labels, split=split, epochs=1, folder=tmp_path, **SMALL)
    assert {"loss", "validation_loss", "validation_accuracy"} <= set(done.history)
    assert done.epoch == 0
    result = timo.predict(model, cube).compute()
    assert result.label.dims == (("time", "y", "x") if per_date else ("y", "x"))
    again = timo.predict(timo.load_model(tmp_path / "model", cube), cube).compute()
    np.testing.assert_array_equal(result.label, again.label)
    figures = timo.evaluate(model, cube, labels, split=split, baselines=False)
    assert figures.table.overall_accuracy.iloc[0] > 0.5


def test_the_path_of_a_model_is_the_regression_alone(world):
    cube, labels, split = world
    alone = timo.load_model("pixel", cube, labels.attrs["classes"])
    timo.finetune(alone, cube, labels, split=split, **SMALL)
    both = timo.load_model("timo-tiny", cube, labels.attrs["classes"], pretrained=False)
    timo.finetune(both, cube, labels, split=split, epochs=1, **SMALL)
    for name, weight in alone.state_dict().items():
        assert torch.equal(weight, both.pixel.state_dict()[name]), name


def test_options_of_an_encoder_are_refused(world):
    cube, labels, _ = world
    with pytest.raises(TimoError, match='options of an encoder, and "pixel" has none'):
        timo.load_model("pixel", cube, labels.attrs["classes"], drop_path=0.1)
