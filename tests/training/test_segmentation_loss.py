import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.training import Optimisation
from timo.training.answers import answers, last_label, losses_of
from timo.training.module import FinetuneModule

few = settings(max_examples=30, deadline=None)


def batch(seed, *, b=2, t=3, k=3, h=2, w=2, per_date=True):
    generator = torch.Generator().manual_seed(seed)
    shape = (b, t, k, h, w) if per_date else (b, k, h, w)
    scores = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(-1, k, (b, t, h, w), generator=generator)
    valid = torch.rand((b, t, h, w), generator=generator) < 0.6
    return scores, labels, valid


def segmentation_loss(scores, labels, valid, options, class_weights=None):
    """Loss of a batch of pixels, by date or of the series."""
    config = SimpleNamespace(task="segmentation", per_date=scores.ndim == 5)
    judged = answers(scores, {"labels": labels, "valid": valid}, config, options.gap_weight)
    return judged.mean(losses_of(judged, config, options.label_smoothing, class_weights))


def by_hand(scores, labels, weight, class_weights, smoothing):
    """Pixel by pixel, from the definition."""
    total, divisor = 0.0, 0.0
    scores = scores.detach()
    classes = scores.shape[-1]
    rows = zip(scores.reshape(-1, classes), labels.flatten(), weight.flatten(), strict=True)
    for row, label, w in rows:
        if label < 0:
            continue
        log_p = row - row.exp().sum().log()
        for k in range(classes):
            target = (1 - smoothing) * (k == label) + smoothing / classes
            total += float(-w * target * class_weights[k] * log_p[k])
        divisor += float(w)
    return total / divisor if divisor else 0.0


@few
@given(
    seed=st.integers(0, 10_000),
    gap_weight=st.sampled_from([0.0, 0.2, 1.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
    weighted=st.booleans(),
)
def test_it_is_the_mean_cross_entropy_of_the_labelled_pixels(seed, gap_weight, smoothing, weighted):
    scores, labels, valid = batch(seed)
    class_weights = torch.tensor([0.5, 2.0, 0.0] if weighted else [1.0, 1, 1]).double()
    options = Optimisation(gap_weight=gap_weight, label_smoothing=smoothing)
    loss = segmentation_loss(scores, labels, valid, options, class_weights if weighted else None)
    weight = torch.where(valid, 1.0, gap_weight)
    expected = by_hand(scores.movedim(2, -1), labels, weight, class_weights, smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_one_pixel_in_a_gap_alone_is_a_mean_too():
    """The weights are relative: with a sum under 1 it is still a mean."""
    scores, labels, valid = batch(0)
    labels = torch.full_like(labels, -1)
    labels[0, 0, 0, 0] = 1
    options = Optimisation(gap_weight=0.2)
    loss = segmentation_loss(scores, labels, torch.zeros_like(valid), options)
    expected = -scores[0, 0, :, 0, 0].log_softmax(0)[1].item()
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("per_date", [True, False])
def test_a_batch_without_labels_has_a_loss_and_gradients_of_zero(per_date):
    scores, labels, valid = batch(1, per_date=per_date)
    loss = segmentation_loss(scores, torch.full_like(labels, -1), valid, Optimisation())
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


def test_unlabelled_pixels_have_no_say():
    scores, labels, valid = batch(2)
    loss = segmentation_loss(scores, labels, valid, Optimisation())
    loss.backward()
    unlabelled = (labels < 0)[:, :, None].expand_as(scores)
    assert (scores.grad[unlabelled] == 0).all()
    assert (scores.grad[~unlabelled] != 0).all()
    other = scores.detach() + 100 * unlabelled * torch.randn(scores.shape)
    assert segmentation_loss(other, labels, valid, Optimisation()) == loss


@few
@given(seed=st.integers(0, 10_000))
def test_scores_of_the_series_are_judged_by_the_last_label(seed):
    scores, labels, valid = batch(seed, per_date=False)
    options = Optimisation(gap_weight=0.0)
    loss = segmentation_loss(scores, labels, valid, options)
    last = last_label(labels)
    for b in range(2):
        for y in range(2):
            for x in range(2):
                known = [int(label) for label in labels[b, :, y, x] if label >= 0]
                assert int(last[b, y, x]) == (known[-1] if known else -1)
    expected = by_hand(scores.movedim(1, -1), last, torch.ones(last.shape), [1, 1, 1], 0)
    assert loss.item() == pytest.approx(expected)


def configured(module, steps):
    """Optimiser and schedule of a training of so many steps."""
    module._trainer = SimpleNamespace(estimated_stepping_batches=steps)
    configured = module.configure_optimizers()
    return configured["optimizer"], configured["lr_scheduler"]["scheduler"]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 11, 40])
def test_a_training_of_any_length_has_a_schedule(new_model, steps):
    optimiser, schedule = configured(FinetuneModule(new_model(), Optimisation()), steps)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        schedule.step()
    assert all(0 < rate <= 1e-3 for rate in rates)
    assert steps < 40 or (max(rates) == pytest.approx(1e-3) and rates[-1] < 1e-5)


def test_decay_is_for_matrices_and_kernels(new_model):
    model = new_model()
    groups = configured(FinetuneModule(model, Optimisation(weight_decay=0.3)), 20)[0].param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert all(p.ndim > 1 for p in groups[0]["params"])
    assert all(p.ndim <= 1 for p in groups[1]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": 0}, "learning_rate must be a number above 0; got 0"),
        ({"weight_decay": -1}, "weight_decay must be a number of 0 or more; got -1"),
        ({"gap_weight": -0.1}, "gap_weight must be .* got -0.1"),
        (
            {"label_smoothing": 1.0},
            "label_smoothing must be a number of 0 or more and below 1; got 1.0",
        ),
        ({"learning_rate": math.nan}, "learning_rate must be .* got nan"),
    ],
)
def test_options_that_make_no_sense(wrong, message):
    with pytest.raises(TimoError, match=message):
        Optimisation(**wrong)
