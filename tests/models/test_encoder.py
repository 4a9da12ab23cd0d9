"""Laws of the encoder: gaps, dates, shapes and neighbours.

In float64. "The same" is 1e-9 where sums run over another number of (zero) terms and so round differently, and every
bit where nothing but unread numbers differ.
"""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from timo.errors import TimoError
from timo.models.encoder import DropPath, TiMoEncoder, create_encoder

few = settings(max_examples=12, deadline=None)
ATTENTIONS = [("d-stga", "d-stga", "global", "global"), ("stga",) * 4, ("d-stga",) * 4]
STRIDES = (4, 8, 16, 32)


def assert_same(found, expected, atol=1e-9):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=atol)


def differ(found, expected):
    """Whether the maps of every stage differ by more than rounding."""
    return all((one - other).abs().max() > 1e-4 for one, other in zip(found, expected, strict=True))


@pytest.fixture(scope="module", params=ATTENTIONS, ids=lambda kinds: kinds[0] + "+" + kinds[-1])
def encoder(request, small_encoder):
    return small_encoder(attention=request.param)


@few
@example(height=1, width=1, t=1)
@example(height=32, width=33, t=2)
@given(height=st.integers(1, 70), width=st.integers(1, 70), t=st.integers(1, 4))
def test_maps_of_any_size_are_those_of_the_same_series_with_invalid_pixels_around(
    encoder, series, height, width, t
):
    x, dates, valid = series(t=t, h=height, w=width)
    right, down = -width % 32 + 32, -height % 32
    padding = (0, right, 0, down)
    with torch.no_grad():
        maps = encoder(x, dates, valid)
        padded = encoder(F.pad(x, padding, value=9.0), dates, F.pad(valid, padding))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    assert [tuple(m.shape[-2:]) for m in maps] == sizes
    assert_same(maps, [m[..., :i, :j] for m, (i, j) in zip(padded, sizes, strict=True)])


@pytest.mark.parametrize(("height", "width"), [(4, 20), (36, 52), (68, 33)])
def test_what_lies_outside_the_image_is_zero_to_the_convolutions(encoder, series, height, width):
    """The stages run on tokens that nothing was added to but what makes the last pixels a token."""
    x, dates, valid = series(h=height, w=width, missing=0)
    with torch.no_grad():
        frames = encoder.stem(F.pad(x, (0, -width % 4, 0, -height % 4)).flatten(0, 1))
        tokens = encoder.position(frames[None], dates, valid.flatten(2).any(dim=-1))
        expected = []
        for i, stage in enumerate(encoder.stages):
            if i:
                tokens = encoder.downsamples[i - 1](tokens[0])[None]
            tokens = stage(tokens, torch.ones(tokens.shape[:4], dtype=torch.bool))
            expected.append(tokens.movedim(-1, 2))
        assert_same(encoder(x, dates, valid), expected)


@pytest.mark.parametrize("fill", [float("nan"), float("inf"), 1e30, -7.0])
def test_what_stands_in_a_gap_changes_no_bit(encoder, series, fill):
    x, dates, valid = series(b=2, h=37, w=30)
    valid[0, 1] = False
    with torch.no_grad():
        expected = encoder(torch.where(valid[:, :, None], x, 0.0), dates, valid)
        found = encoder(torch.where(valid[:, :, None], x, fill), dates, valid)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("when", [0, 1, 3])
def test_a_date_without_observation_is_as_if_it_were_not_there(encoder, series, when):
    x, dates, valid = series(t=4, h=40, w=20)
    valid[:, when] = False
    rest = [t for t in range(4) if t != when]
    with torch.no_grad():
        with_it = encoder(x, dates, valid)
        without_it = encoder(x[:, rest], dates[:, rest], valid[:, rest])
    assert_same([m[:, rest] for m in with_it], without_it)


def test_a_series_without_any_observation_is_finite_and_leaves_its_neighbour_alone(encoder, series):
    x, dates, valid = series(b=2)
    valid[1] = False
    with torch.no_grad():
        maps = encoder(x, dates, valid)
        alone = encoder(x[:1], dates[:1], valid[:1])
    assert all(m.isfinite().all() for m in maps)
    assert_same([m[:1] for m in maps], alone)


@few
@given(order=st.permutations(range(4)))
def test_dates_may_come_in_any_order(encoder, series, order):
    x, dates, valid = series(t=4)
    with torch.no_grad():
        maps = encoder(x, dates, valid)
        shuffled = encoder(x[:, order], dates[:, order], valid[:, order])
    assert_same(shuffled, [m[:, order] for m in maps])


def test_season_and_revisit_count(encoder, series):
    x, dates, valid = series(t=3)
    first = dates[:, :1]
    with torch.no_grad():
        maps = encoder(x, dates, valid)
        # 400 Gregorian years are a whole number of days and of years: the same season and revisit.
        assert_same(encoder(x, dates + 146_097, valid), maps)
        assert differ(encoder(x, dates + 182, valid), maps)
        assert differ(encoder(x, first + 2 * (dates - first), valid), maps)


def test_without_dates_the_frames_are_counted(small_encoder, series):
    x, dates, valid = series(t=3)
    by_index, by_date = small_encoder(position="index"), small_encoder()
    by_date.load_state_dict(by_index.state_dict())
    with torch.no_grad():
        expected = by_index(x, dates, valid)
        assert_same(by_date(x, None, valid), expected, atol=0)
        assert_same(by_index(x, None, valid), expected, atol=0)
        assert differ(by_date(x, dates, valid), expected)


def test_dates_may_be_whole_numbers(encoder, series):
    x, dates, valid = series()
    with torch.no_grad():
        assert_same(encoder(x, dates.long(), valid), encoder(x, dates, valid), atol=0)


def test_without_gaps_valid_may_be_left_out(encoder, series):
    x, dates, valid = series(h=20, missing=0)
    with torch.no_grad():
        assert_same(encoder(x, dates), encoder(x, dates, valid), atol=0)


def test_samples_of_a_batch_do_not_meet_in_training(encoder, series):
    x, dates, valid = series(b=3)
    encoder.train()
    x.requires_grad_()
    maps = encoder(x, dates, valid)
    alone = encoder(x[1:2], dates[1:2], valid[1:2])
    assert_same([m[1:2] for m in maps], alone)
    (gradient,) = torch.autograd.grad(sum(m[1].square().sum() for m in maps), x)
    assert gradient[[0, 2]].abs().max() == 0
    assert gradient[1].abs().max() > 0
    encoder.eval()


def test_the_published_norm_couples_them_in_training_only(small_encoder, series):
    x, dates, valid = series(b=2)
    encoder = small_encoder(norm="batch")
    with torch.no_grad():
        assert_same([m[:1] for m in encoder(x, dates, valid)], encoder(x[:1], dates[:1], valid[:1]))
        encoder.train()
        together = [m[:1] for m in encoder(x, dates, valid)]
        assert differ(together, encoder(x[:1], dates[:1], valid[:1]))


@pytest.mark.parametrize("t", [1, 2, 37, 100])
def test_any_number_of_dates(encoder, series, t):
    x, dates, valid = series(t=t, h=8, w=12)
    with torch.no_grad():
        maps = encoder(x, dates, valid)
    assert [tuple(m.shape[:3]) for m in maps] == [(1, t, dim) for dim in encoder.config.dims]
    assert all(m.isfinite().all() for m in maps)


def test_every_parameter_learns_and_gaps_give_no_gradient(encoder, series):
    x, dates, valid = series(h=64, w=64)
    x = torch.where(valid[:, :, None], x, float("nan")).requires_grad_()
    sum(m.square().sum() for m in encoder(x, dates, valid)).backward()
    assert (x.grad.movedim(2, -1)[~valid] == 0).all()
    assert x.grad.isfinite().all()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    assert all(g.isfinite().all() for g in gradients.values())
    assert [name for name, g in gradients.items() if g.abs().max() == 0] == []
    encoder.zero_grad()


def test_the_forward_pass_asks_no_value_of_the_device(series):
    """On the meta device a branch on a value raises: no waiting for an accelerator, no break of a compiled graph."""
    with torch.device("meta"):
        encoder = create_encoder("tiny", 3)
    x, dates, valid = (z.to("meta") for z in series(h=33, w=20))
    assert [m.device.type for m in encoder(x.float(), dates, valid)] == ["meta"] * 4


def test_drop_path_rises_from_the_first_block_to_the_last():
    encoder = create_encoder("tiny", 3, drop_path=0.4)
    rates = [block.drop_path.rate for stage in encoder.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath(0.25)
    out = layer(torch.ones(4000, 2, 3))
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert sorted(out.unique().tolist()) == pytest.approx([0.0, 1 / 0.75])
    assert out.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(5, 2)), torch.ones(5, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": torch.rand(1, 2, 4, 8, 8)},
            r"expected x of shape \(b, t, 3, h, w\).* \(1, 2, 4, 8, 8\)",
        ),
        ({"x": torch.rand(2, 3, 8, 8)}, r"expected x of shape \(b, t, 3, h, w\).* \(2, 3, 8, 8\)"),
        ({"x": torch.rand(1, 0, 3, 8, 8)}, "none of them 0"),
        (
            {"x": torch.ones(1, 2, 3, 8, 8, dtype=torch.int16)},
            "in floating point, got .* torch.int16",
        ),
        ({"dates": torch.rand(2)}, r"dates of shape \(2,\) .*does not fit .*: expected \(1, 2\)"),
        ({"valid": torch.ones(1, 2, 1, 8).bool()}, r"valid of shape .*: expected \(1, 2, 8, 8\)"),
        ({"valid": torch.ones(1, 2, 8, 8)}, "in torch.float32 does not fit .* in torch.bool"),
    ],
)
def test_a_series_that_does_not_fit_is_refused(
    unchecked, small_encoder, small_model, change, message
):
    given = {
        "x": torch.rand(1, 2, 3, 8, 8),
        "dates": torch.tensor([[1.0, 2.0]]),
        "valid": torch.ones(1, 2, 8, 8, dtype=torch.bool),
    }
    for model in (small_encoder().float(), small_model().float()):
        model(**given)
        with pytest.raises(TimoError, match=message):
            model(**(given | change))


def test_a_shape_that_its_annotation_denies_is_seen(small_encoder, series):
    """The tests check the annotations of the model at run time; this test notices if they no longer do."""
    x, dates, valid = series()
    with pytest.raises(Exception, match="typechecking parameter 'dates'"):
        TiMoEncoder.forward(small_encoder(), x, dates[0], valid)
