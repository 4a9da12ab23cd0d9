"""What a model answers for: pixels, chips and parcels, with classes or with values."""

import dataclasses

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.models import EncoderConfig, ModelConfig
from timo.models.heads import ChipHead, SegmentationHead, pool_parcels
from timo.models.tasks import TiMo, build, config_of, unit_of

few = settings(max_examples=25, deadline=None)
ENCODER = EncoderConfig(2, (8, 8, 8, 8), (1, 1, 1, 1), (1, 1, 2, 2))
GIVEN = {"bands": ("B4", "B8"), "mean": (0.1, 0.2), "std": (0.1, 0.1), "head_width": 8, "detail": 4}


def configured(task, **options):
    classes = () if task == "regression" else ("a", "b", "c")
    options = {"classes": classes} | options
    return ModelConfig(encoder=ENCODER, task=task, **(GIVEN | options))


@pytest.mark.parametrize(
    ("task", "unit", "per_date", "head", "shape"),
    [
        ("segmentation", "", True, SegmentationHead, (2, 4, 3, 9, 6)),
        ("segmentation", "pixel", False, SegmentationHead, (2, 3, 9, 6)),
        ("classification", "", True, ChipHead, (2, 4, 3)),
        ("classification", "chip", False, ChipHead, (2, 3)),
        ("classification", "parcel", False, SegmentationHead, (2, 3, 9, 6)),
        ("regression", "", True, SegmentationHead, (2, 4, 3, 9, 6)),
        ("regression", "pixel", False, SegmentationHead, (2, 3, 9, 6)),
        ("regression", "chip", True, ChipHead, (2, 4, 3)),
        ("regression", "chip", False, ChipHead, (2, 3)),
        ("regression", "parcel", False, SegmentationHead, (2, 3, 9, 6)),
    ],
)
def test_each_kind_of_answer_has_its_head_and_shape(task, unit, per_date, head, shape):
    model = build(configured(task, unit=unit, per_date=per_date))
    usual = {"segmentation": "pixel", "classification": "chip", "regression": "pixel"}
    assert model.config.unit == unit_of(model.config) == (unit or usual[task])
    assert type(model.head) is head
    x, dates = torch.rand(2, 4, 2, 9, 6), torch.arange(8.0).reshape(2, 4) * 20
    with torch.no_grad():
        scores = model(x, dates)
    assert scores.shape == shape
    answer = model.answer(scores)
    assert answer.shape == shape
    axis = -1 if head is ChipHead else -3
    if task != "regression":
        torch.testing.assert_close(answer.sum(dim=axis), torch.ones(answer.sum(dim=axis).shape))


def test_a_regression_without_an_interval_has_one_score():
    model = build(configured("regression", interval=0.0, per_date=False))
    assert model.config.outputs == 1
    model.set_target(50.0, 10.0)
    scores = model(torch.rand(1, 2, 2, 5, 5))
    assert scores.shape == (1, 1, 5, 5)
    torch.testing.assert_close(model.answer(scores), 50 + 10 * scores)


@few
@example(shape=(3,), unit="chip")
@given(
    shape=st.sampled_from([(3,), (4, 3), (2, 4, 3), (3, 2, 2), (2, 3, 2, 2), (2, 4, 3, 1, 2)]),
    unit=st.sampled_from(["pixel", "chip", "parcel"]),
)
def test_answers_of_a_regression_are_in_the_unit_of_the_target_and_in_order(shape, unit):
    axis = -1 if unit == "chip" or len(shape) < 3 else -3
    if shape[axis] != 3:
        return
    model = build(configured("regression", unit=unit, per_date=False))
    model.set_target(20.0, 4.0)
    generator = torch.Generator().manual_seed(len(shape))
    scores = torch.randn(shape, generator=generator)
    value, low, high = model.answer(scores).unbind(axis)
    torch.testing.assert_close(value, 20 + 4 * scores.select(axis, 0))
    assert (low <= value).all()
    assert (value <= high).all()
    # What is in order already stays as it is.
    ordered = scores.sort(dim=axis).values.index_select(axis, torch.tensor([1, 0, 2]))
    torch.testing.assert_close(model.answer(ordered), 20 + 4 * ordered)


def test_the_target_is_set_once_training_knows_it(unchecked):
    model = build(configured("regression", target="height", target_units="m"))
    before = model.config
    model.set_target(12.5, 3.0)
    assert (model.config.target_mean, model.config.target_std) == (12.5, 3.0)
    expected = dataclasses.replace(before, target_mean=12.5, target_std=3.0)
    assert model.config == expected
    assert "regression, " in repr(model)
    assert "target='height'" in repr(model)
    for wrong in ((float("nan"), 1.0), (0.0, 0.0), (0.0, float("inf")), ("a", 1.0)):
        with pytest.raises(TimoError, match=r"(mean|std) must be a number"):
            model.set_target(*wrong)
    with pytest.raises(TimoError, match="a model for segmentation predicts no number"):
        build(configured("segmentation")).set_target(0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "segmentation", "unit": "chip"}, 'give task="classification"'),
        ({"task": "segmentation", "unit": "parcel"}, 'answers for a pixel: give task="classif'),
        ({"task": "classification", "unit": "pixel"}, 'a chip or parcel: give task="segmentation"'),
        ({"task": "classification", "unit": "parcel"}, "for the series: give per_date=False"),
        ({"task": "regression", "unit": "parcel"}, "for the series: give per_date=False"),
        ({"task": "regression", "classes": ("a", "b")}, r"no classes, got \('a', 'b'\): leave"),
        ({"task": "regression", "interval": 1.0}, "interval must be a number of 0 or more and"),
        ({"task": "regression", "target_std": 0.0}, "target_std must be a number above 0"),
        ({"task": "classification", "classes": ()}, "at least two different classes are needed"),
        ({"task": "classification", "unit": "field"}, "unit must be one of 'pixel', 'chip', 'par"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(unchecked, options, message):
    with pytest.raises(TimoError, match=message):
        configured(**options)


@few
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)),
    seed=st.integers(0, 10**6),
)
def test_a_parcel_is_the_mean_over_its_observed_pixels(shape, seed):
    b, k, h, w = shape
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(shape, generator=generator, dtype=torch.float64)
    parcels = torch.randint(-1, 4, (b, h, w), generator=generator) * 1000
    parcels[parcels < 0] = -1
    observed = torch.rand(b, h, w, generator=generator) < 0.6
    pooled, sample, parcel = pool_parcels(scores, parcels, observed)
    expected = {}
    for i in range(b):
        for number in sorted(set(parcels[i][observed[i]].tolist()) - {-1}):
            here = (parcels[i] == number) & observed[i]
            expected[i, number] = scores[i, :, here].mean(dim=1)
    assert list(zip(sample.tolist(), parcel.tolist(), strict=True)) == list(expected)
    if expected:
        torch.testing.assert_close(pooled, torch.stack(list(expected.values())))
    assert pooled.shape == (len(expected), k)


def test_the_pooled_score_is_that_of_the_pooled_features():
    model = build(configured("classification", unit="parcel", per_date=False)).double()
    x, dates = torch.rand(1, 3, 2, 8, 8).double(), torch.tensor([[0.0, 20.0, 40.0]])
    features = {}
    model.head.classifier.register_forward_pre_hook(lambda _, given: features.update(at=given[0]))
    parcels = torch.arange(8)[:, None].expand(8, 8)[None] // 3
    with torch.no_grad():
        pooled, _, _ = pool_parcels(model(x, dates), parcels, torch.ones(1, 8, 8).bool())
        means = [features["at"][0][:, parcels[0] == n].mean(dim=1) for n in range(3)]
        expected = model.head.classifier(torch.stack(means)[..., None, None])[..., 0, 0]
    torch.testing.assert_close(pooled, expected)
    # Each score of a pixel takes its share of the gradient.
    scores = torch.zeros(1, 3, 8, 8, requires_grad=True)
    pool_parcels(scores, parcels, torch.ones(1, 8, 8).bool())[0][0, 1].backward()
    assert scores.grad[0, 1, :3].eq(1 / 24).all()
    assert scores.grad.sum() == pytest.approx(1)


def test_the_config_of_any_model_is_given_and_of_none_refused():
    for task in ("segmentation", "classification", "regression"):
        model = build(configured(task))
        assert config_of(model) is model.config
    with pytest.raises(TimoError, match=r"must be one of timo\.load_model, or have a config"):
        config_of(torch.nn.Linear(1, 1))
    model = TiMo(configured("segmentation"))
    model.config = type("Config", (), {"task": "classification"})()
    with pytest.raises(TimoError, match="says its bands, classes, per_date, sensor"):
        config_of(model)
    assert unit_of(model.config) == "chip"
