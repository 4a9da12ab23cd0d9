"""Heads, and the model that joins them to the encoder."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from timo.models.heads import ChipHead, DatePooling, SegmentationHead

few = settings(max_examples=10, deadline=None)
DIMS = (8, 8, 8, 8)


def random_maps(t, height, width, dims=DIMS):
    strides = (4, 8, 16, 32)
    return [
        torch.randn(1, t, dim, -(-height // stride), -(-width // stride))
        for dim, stride in zip(dims, strides, strict=True)
    ]


@few
@example(size=(1, 1), t=1, detail=4)
@given(
    size=st.tuples(st.integers(1, 45), st.integers(1, 45)),
    t=st.integers(1, 3),
    detail=st.sampled_from([0, 4]),
)
def test_every_pixel_of_any_size_gets_a_score_for_each_class(small_model, series, size, t, detail):
    height, width = size
    x, dates, valid = series(b=2, t=t, h=height, w=width)
    with torch.no_grad():
        per_date = small_model(detail=detail)(x, dates, valid)
        of_series = small_model(detail=detail, per_date=False)(x, dates, valid)
    assert per_date.shape == (2, t, 3, height, width)
    assert of_series.shape == (2, 3, height, width)
    assert per_date.isfinite().all()
    assert of_series.isfinite().all()


@pytest.mark.parametrize(("per_date", "shape"), [(True, (2, 4, 3)), (False, (2, 3))])
def test_a_chip_gets_a_score_for_each_class(small_model, series, per_date, shape):
    x, dates, valid = series(b=2, t=4, h=33, w=50)
    with torch.no_grad():
        scores = small_model("classification", per_date)(x, dates, valid)
    assert scores.shape == shape
    assert scores.isfinite().all()


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("when", [0, 2])
def test_the_answer_for_the_series_ignores_a_date_without_observation(
    small_model, series, task, when
):
    x, dates, valid = series(t=3, h=37, w=40)
    valid[:, when] = False
    rest = [t for t in range(3) if t != when]
    model = small_model(task, per_date=False)
    with torch.no_grad():
        with_it = model(x, dates, valid)
        without_it = model(x[:, rest], dates[:, rest], valid[:, rest])
    # Sums run over another number of (zero) terms, and so round differently.
    torch.testing.assert_close(with_it, without_it, rtol=0, atol=1e-9)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("per_date", [True, False])
@pytest.mark.parametrize("fill", [float("nan"), float("-inf"), 1e30, -7.0])
def test_what_stands_in_a_gap_changes_no_bit(small_model, series, task, per_date, fill):
    x, dates, valid = series(h=21, w=34)
    valid[0, 1] = False
    model = small_model(task, per_date)
    with torch.no_grad():
        expected = model(torch.where(valid[:, :, None], x, 0.0), dates, valid)
        found = model(torch.where(valid[:, :, None], x, fill), dates, valid)
    assert torch.equal(found, expected)
    assert found.isfinite().all()


def test_a_pixel_is_valid_by_default_where_every_band_is_finite(small_model, series):
    x, dates, _ = series()
    x[0, 1, 2, 5, 6], x[0, 0, 0, 7, 7] = float("nan"), float("inf")
    valid = torch.ones(1, 3, 32, 32, dtype=torch.bool)
    finite = valid.clone()
    finite[0, 1, 5, 6] = finite[0, 0, 7, 7] = False
    model = small_model()
    with torch.no_grad():
        expected = model(x, dates, finite)
        assert torch.equal(model(x, dates), expected)
        assert torch.equal(model(x, dates, valid), expected)
        assert not torch.equal(model(x.nan_to_num(0, 0, 0), dates, valid), expected)


def test_samples_of_a_batch_do_not_meet_in_training(small_model, series):
    x, dates, valid = series(b=2)
    for task in ("segmentation", "classification"):
        model = small_model(task).train()
        dropout = [m for m in model.modules() if isinstance(m, torch.nn.Dropout2d)]
        for layer in dropout:
            layer.p = 0.0
        with torch.no_grad():
            together, alone = model(x, dates, valid)[:1], model(x[:1], dates[:1], valid[:1])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)


def test_normalisation_is_that_of_the_config_and_not_among_the_weights(small_model, series):
    x, dates, valid = series()
    model = small_model()
    assert not {"mean", "std"} & set(model.state_dict())
    seen = {}
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    with torch.no_grad():
        model(x, dates, valid)
    expected = torch.where(valid[:, :, None], (x - 0.1) / 0.2, 0.0)
    # The means are float32.
    torch.testing.assert_close(seen["x"], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("detail", [0, 4])
def test_the_series_head_takes_the_dates_that_have_data_in_any_order(detail):
    torch.manual_seed(0)
    head = SegmentationHead(
        DIMS, in_channels=2, classes=3, width=8, detail=detail, dropout=0.0, per_date=False
    ).eval()
    maps, image = random_maps(3, 20, 33), torch.randn(1, 3, 2, 20, 33)
    valid = torch.ones(1, 3, 20, 33, dtype=torch.bool)
    valid[:, 1] = False
    other = [m.clone() for m in maps]
    for m in other:
        m[:, 1] += 100
    with torch.no_grad():
        scores = head(maps, image, valid)
        assert torch.equal(head(other, image, valid), scores)
        order = [2, 0, 1]
        turned = head([m[:, order] for m in maps], image[:, order], valid[:, order])
    torch.testing.assert_close(turned, scores)


def test_a_series_is_summed_up_over_the_dates_on_which_the_pixel_was_seen():
    torch.manual_seed(0)
    pool = DatePooling(8, 4).eval()
    series, valid = torch.rand(2, 5, 8, 3, 4), torch.rand(2, 5, 3, 4) < 0.5
    valid[:, :, 0, 0] = False
    valid[0] = False
    valid[0, 1, 2, 2] = True
    with torch.no_grad():
        found = pool(series, valid)
        scores = pool.score(series.flatten(0, 1)).unflatten(0, (2, 5))
        for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4)):
            dates = valid[b, :, i, j]
            if not dates.any():
                dates = valid[b].flatten(1).any(dim=1)
            weights = scores[b, dates, :, i, j].softmax(dim=0).repeat_interleave(2, dim=1)
            features = series[b, dates, :, i, j]
            summed = torch.cat([(weights * features).sum(dim=0), features.amax(dim=0)])
            expected = pool.merge(summed[None, :, None, None])[0, :, 0, 0]
            torch.testing.assert_close(found[b, :, i, j], expected)


def test_a_series_without_any_observation_has_finite_scores():
    pool = DatePooling(8, 4)
    series = torch.rand(1, 3, 8, 2, 2, requires_grad=True)
    pool(series, torch.zeros(1, 3, 2, 2, dtype=torch.bool)).sum().backward()
    assert series.grad is not None
    assert series.grad.isfinite().all()


def test_the_classification_head_takes_the_mean_over_the_cells_that_have_data():
    torch.manual_seed(0)
    head = ChipHead(5, 3)
    coarse = torch.randn(1, 3, 5, 2, 2)
    valid = torch.zeros(1, 3, 40, 33, dtype=torch.bool)
    # Date 0: one pixel in the first cell, one in the last; date 1: the last pixel of the second; date 2: none.
    valid[0, 0, 3, 31] = valid[0, 0, 39, 32] = valid[0, 1, 31, 32] = True
    cells = [[coarse[0, 0, :, 0, 0], coarse[0, 0, :, 1, 1]], [coarse[0, 1, :, 0, 1]]]
    with torch.no_grad():
        per_date = head([coarse], valid, per_date=True)[0]
        of_series = head([coarse], valid, per_date=False)[0]
        torch.testing.assert_close(per_date[0], head.classifier(torch.stack(cells[0]).mean(dim=0)))
        torch.testing.assert_close(per_date[1], head.classifier(cells[1][0]))
        torch.testing.assert_close(per_date[2], head.classifier.bias)
        every = torch.stack([*cells[0], *cells[1]])
        torch.testing.assert_close(of_series, head.classifier(every.mean(dim=0)))


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_the_model_runs_in_half_precision(small_model, series, task):
    x, dates, valid = series(h=20)
    model = small_model(task).float()
    with torch.no_grad():
        expected = model(x.float(), dates, valid)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(x.float(), dates, valid)
        pure = model.bfloat16()(x.bfloat16(), dates, valid)
    assert pure.dtype == torch.bfloat16
    for scores in (mixed, pure):
        error = (scores.float() - expected).square().mean().sqrt()
        assert error < 0.05 * expected.square().mean().sqrt()


def test_a_model_tells_what_it_is(small_model):
    assert "segmentation, 0.1 M parameters, classes=('a', 'b', 'c')" in repr(small_model())


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 2)])
@pytest.mark.parametrize(
    "kind", [("segmentation", True), ("segmentation", False), ("classification", False)]
)
def test_a_chip_of_one_token_is_worked_on_as_any_other(
    small_model, series, monkeypatch, kind, size
):
    """Leaving out what lies around one token, all of it padding, changes nothing but rounding."""
    model = small_model(*kind)
    x, dates, valid = series(b=2, h=size[0], w=size[1])

    def step():
        model.zero_grad()
        scores = model(x, dates, valid)
        scores.square().sum().backward()
        return scores.detach(), [p.grad.clone() for p in model.parameters()]

    found, gradients = step()
    monkeypatch.setattr("timo.models.heads._is_cell", lambda _: False)
    monkeypatch.setattr("timo.models.embedding.convolve_cell", lambda conv, x: conv(x))
    expected, wanted = step()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
