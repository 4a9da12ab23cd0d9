"""Losses and figures of every kind of answer, against their definitions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.models.heads import pool_parcels
from timo.training.answers import (
    Answers,
    Figures,
    Parcels,
    answers,
    last_label,
    losses_of,
    only_observed,
    value_losses,
)

few = settings(max_examples=25, deadline=None)
CLASSES = SimpleNamespace(task="segmentation", classes=("a", "b", "c"), per_date=True, unit="pixel")
VALUES = SimpleNamespace(
    task="regression", classes=(), target_mean=5.0, target_std=2.0, interval=0.9, per_date=True
)


def parcel_batch(seed, values=False):
    b, t, h, w = 2, 2, 6, 5
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 3, (b, t, h, w), generator=g)
    if values:
        labels = torch.where(labels < 0, torch.nan, labels + torch.rand(labels.shape, generator=g))
    return torch.randn(b, 3, h, w, generator=g), {
        "labels": labels,
        "valid": torch.rand(b, t, h, w, generator=g) < 0.6,
        "parcels": torch.randint(-1, 4, (b, h, w), generator=g),
    }


@few
@given(seed=st.integers(0, 10_000), values=st.booleans())
def test_a_parcel_has_the_mean_score_and_the_label_of_most_of_its_observed_pixels(seed, values):
    scores, batch = parcel_batch(seed, values)
    judged = Parcels.of(scores, batch).answers()
    seen = batch["valid"].any(dim=1)
    pooled, sample, parcel = pool_parcels(scores, batch["parcels"], seen)
    torch.testing.assert_close(judged.scores, pooled)
    last = last_label(batch["labels"])
    for row, (i, number) in enumerate(zip(sample.tolist(), parcel.tolist(), strict=True)):
        own = last[i][(batch["parcels"][i] == number) & seen[i]]
        if values:
            own = own[own.isfinite()]
            expected = float(own.mean()) if len(own) else np.nan
            assert float(judged.labels[row]) == pytest.approx(expected, nan_ok=True)
        else:
            votes = torch.bincount(own[own >= 0], minlength=3)
            assert int(judged.labels[row]) == (int(votes.argmax()) if votes.any() else -1)


@few
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 4))
def test_parcels_cut_into_tiles_are_put_together_again(seed, cut):
    scores, batch = parcel_batch(seed)
    whole = Parcels.of(scores, batch).answers()
    place = torch.arange(2)
    tiles = [
        Parcels.of(scores[..., of], {n: a[..., of] for n, a in batch.items()} | {"place": place})
        for of in (slice(cut), slice(cut, None))
    ]
    joined = Parcels.joined(tiles).answers()
    torch.testing.assert_close(joined.scores, whole.scores)
    assert torch.equal(joined.labels, whole.labels)


def test_labels_of_chips_are_judged_by_date_or_by_the_last_one():
    labels = torch.tensor([[0, -1, 2], [1, 1, -1]])
    valid = torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    valid[0, 0, 1, 1] = valid[1, :, 0, 0] = True
    batch = {"labels": labels, "valid": valid}
    config = SimpleNamespace(task="classification", unit="chip", per_date=True)
    scores = torch.randn(2, 3, 3)
    judged = answers(scores, batch, config, gap_weight=0.2)
    assert judged.labels.tolist() == [0, -1, 2, 1, 1, -1]
    assert judged.weight.tolist() == pytest.approx([1, 0.2, 0.2, 1, 1, 1])
    assert judged.scores.shape == (6, 3)
    config.per_date = False
    assert answers(torch.randn(2, 3), batch, config).labels.tolist() == [2, 1]
    # What was not observed is not judged: of a date, and of a series that was never seen.
    assert only_observed(batch, True)["labels"].tolist() == [[0, -1, -1], [1, 1, -1]]
    batch["valid"] = valid & torch.tensor([True, False])[:, None, None, None]
    assert only_observed(batch, False)["labels"].tolist() == [[0, -1, 2], [-1, -1, -1]]


def test_an_observation_of_any_sensor_counts():
    valid = torch.zeros(1, 2, 2, 3, 3, dtype=torch.bool)
    valid[0, 0, 1] = True  # radar, under a cloud
    batch = {"labels": torch.zeros(1, 2, 3, 3, dtype=torch.int64), "valid": valid}
    kept = only_observed(batch, True)["labels"]
    assert (kept[0, 0] == 0).all()
    assert (kept[0, 1] == -1).all()


def test_a_loss_of_values_is_that_of_its_definition():
    scores = torch.tensor([[[0.5]], [[-2.0]], [[2.0]]]).movedim(0, 1)
    labels = torch.tensor([[8.0]])  # 1.5 standard deviations above the mean
    loss = value_losses(Answers(scores, labels, torch.ones(1, 1)), 5.0, 2.0, 0.9)
    # Huber's of an error of 1; the low end is 3.5 too low, the high end 0.5 too high.
    assert float(loss) == pytest.approx(0.5 + 0.05 * 3.5 + 0.05 * 0.5)
    unlabelled = Answers(scores, torch.tensor([[torch.nan]]), torch.ones(1, 1))
    assert float(unlabelled.mean(value_losses(unlabelled, 5.0, 2.0, 0.9))) == 0
    alone = Answers(scores[:, :1], labels, torch.ones(1, 1))
    assert float(value_losses(alone, 5.0, 2.0, 0.0)) == pytest.approx(0.5)


def test_the_ends_of_an_interval_are_quantiles():
    """Of constant answers, the loss is least where 5 and 95 % of the labels lie below."""
    labels = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=4000)).float()
    ends = torch.linspace(0, 8, 801)
    losses = []
    for place in (1, 2):
        scores = torch.zeros(801, 3, 4000)
        scores[:, place] = ends[:, None]
        judged = Answers(scores, labels.expand(801, -1), torch.ones(801, 4000))
        losses.append(value_losses(judged, 0.0, 1.0, 0.9).mean(dim=1))
    found = [float(ends[loss.argmin()]) for loss in losses]
    assert found == pytest.approx(np.quantile(labels.numpy(), [0.05, 0.95]), abs=0.02)


def test_one_wrong_pixel_does_not_halve_a_figure():
    """F1 is the mean over the classes that there are labels of."""
    figures = Figures(CLASSES)
    labels = torch.ones(64, 64, dtype=torch.int64)
    predicted = labels.clone()
    predicted[0, 0] = 0
    figures.update(predicted, labels)
    figure = figures.compute()
    assert figure["validation_accuracy"] == pytest.approx(4095 / 4096)
    assert figure["validation_f1"] == pytest.approx(2 * 4095 / (4095 + 4096))


@few
@given(seed=st.integers(0, 10_000), parts=st.integers(1, 4))
def test_figures_are_those_of_scikit_learn_however_they_are_counted(seed, parts):
    from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score

    rng = np.random.default_rng(seed)
    labels, said = rng.integers(-1, 3, 60), rng.integers(0, 3, 60)
    figures = Figures(CLASSES)
    for part in np.array_split(np.arange(60), parts):
        figures.update(torch.from_numpy(said[part]), torch.from_numpy(labels[part]))
    known, found = labels >= 0, figures.compute()
    assert found["validation_accuracy"] == pytest.approx(accuracy_score(labels[known], said[known]))
    f1 = f1_score(labels[known], said[known], average="macro", labels=np.unique(labels[known]))
    assert found["validation_f1"] == pytest.approx(f1)
    values, answer = rng.normal(100, 3, 60).astype("f4"), rng.normal(100, 3, 60).astype("f4")
    values[:5] = np.nan
    figures = Figures(VALUES)
    for part in np.array_split(np.arange(60), parts):
        figures.update(torch.from_numpy(answer[part]), torch.from_numpy(values[part]))
    found = figures.compute()
    assert found["validation_mae"] == pytest.approx(mean_absolute_error(values[5:], answer[5:]))
    assert found["validation_r2"] == pytest.approx(r2_score(values[5:], answer[5:]), abs=1e-4)


def test_the_loss_of_a_validation_is_the_mean_over_all_that_it_judged():
    """Not the mean of the means of its batches, which are of different sizes."""
    figures, parts = Figures(CLASSES), []
    for seed, count in ((0, 40), (1, 3)):
        g = torch.Generator().manual_seed(seed)
        scores, labels = torch.randn(count, 3, generator=g), torch.arange(count) % 4 - 1
        judged = Answers(scores, labels, torch.ones(count))
        losses = losses_of(judged, CLASSES, 0.0, None)
        figures.add(judged, losses)
        parts.append(losses[labels >= 0])
    expected = float(torch.cat(parts).mean())
    assert figures.compute()["validation_loss"] == pytest.approx(expected)
