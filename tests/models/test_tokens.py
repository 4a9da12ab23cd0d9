"""Laws of the size of a token: one set of weights for tokens of 4, 2 and 1 pixels (`timo.models.tokens`)."""

import math
from dataclasses import replace

import plain_attention as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from timo.errors import TimoError
from timo.models import attention, load, save
from timo.models.attention import SpatiotemporalAttention
from timo.models.config import EncoderConfig
from timo.models.embedding import place_code, sincos
from timo.models.heads import ChipHead
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.models.published import AutoencoderConfig
from timo.models.tokens import halved, places

few = settings(max_examples=8, deadline=None)
SIZES = (4, 2, 1)
FINER = (2, 1)
STEMS = [{}, {"stem": "wavelength", "wavelengths": (0.49, 0.56, 0.665)}]
by_stem = pytest.mark.parametrize("stem", STEMS, ids=["plain", "wavelength"])


def close(one, other, atol=1e-9):
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


def magnified(x, times=2):
    """Each pixel as several equal ones."""
    return x.repeat_interleave(times, -1).repeat_interleave(times, -2)


def shrunk(maps):
    """Means of 2 x 2 cells."""
    return F.avg_pool2d(maps.flatten(0, -4), 2).view(
        *maps.shape[:-2], *(n // 2 for n in maps.shape[-2:])
    )


@pytest.fixture(scope="module")
def encoders(small_encoder):
    """The same weights at each size of a token."""
    return {token: small_encoder(token=token) for token in SIZES}


# --- the stem


@pytest.mark.parametrize("side", [2, 7])
def test_kernels_are_resized_by_the_pseudo_inverse(side):
    """w' = (B^T)^+ w of FlexiViT, B the means of 2 x 2 pixels; 7 weights are 8 of which the first is 0."""
    torch.manual_seed(0)
    kernel = torch.randn(5, 3, side, side, dtype=torch.float64)
    full = F.pad(kernel, (side % 2, 0, side % 2, 0))
    pixels = torch.eye(full[0, 0].numel(), dtype=torch.float64).view(-1, 1, *full.shape[-2:])
    means = F.interpolate(pixels, scale_factor=0.5, mode="area").flatten(1).T
    expected = full.flatten(2) @ torch.linalg.pinv(means.T).T
    close(halved(kernel).flatten(2), expected)


@by_stem
def test_tokens_of_2_pixels_are_those_of_4_of_the_series_magnified_twice(
    small_encoder, series, stem
):
    x = series(h=18, w=22)[0].flatten(0, 1)
    full, half = (small_encoder(token=token, **stem).stem for token in (4, 2))
    with torch.no_grad():
        found = half(x)
        assert found.shape[1:3] == (9, 11)
        close(found, full(magnified(x)))


@by_stem
def test_tokens_of_1_pixel_magnify_what_lies_between_the_convolutions(small_encoder, series, stem):
    x = series(h=5, w=7)[0].flatten(0, 1)
    half, one = (small_encoder(token=token, **stem).stem for token in FINER)
    with torch.no_grad():
        between = F.relu(half.norm1(half._first(x, None)))
        expected = half.norm2(half.conv2(magnified(between)).movedim(1, -1))
        found = one(x)
    assert found.shape[1:3] == (5, 7)
    close(found, expected)


@by_stem
@pytest.mark.parametrize("token", FINER)
def test_a_token_of_a_uniform_surface_is_the_same(small_encoder, stem, token):
    surface = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)[:, None, None].expand(
        1, 3, 32, 32
    )
    full, finer = (small_encoder(token=size, **stem).stem for size in (4, token))
    with torch.no_grad():
        expected = full(surface)[0, 4, 4]
        inside = finer(surface)[0, 8:-8, 8:-8]
    close(inside, expected.expand_as(inside))


@by_stem
@pytest.mark.parametrize("token", FINER)
def test_a_token_of_a_smooth_surface_is_nearly_the_same(small_encoder, stem, token):
    """Within a few hundredths of its size; of noise, whose surroundings say another thing, it is not."""
    rows, columns = torch.meshgrid(*[torch.arange(96, dtype=torch.float64)] * 2, indexing="ij")
    waves = [1 + (rows / 64).sin(), 1 - (columns / 80).cos(), ((rows + columns) / 90).sin() - 2]
    noise = torch.randn(3, 96, 96, generator=torch.Generator().manual_seed(0)).double()
    full, finer = (small_encoder(token=size, **stem).stem for size in (4, token))

    def off(image):
        with torch.no_grad():
            expected, found = (layer(image[None]).movedim(-1, 1) for layer in (full, finer))
        found = F.avg_pool2d(found, 4 // token)
        off = (found - expected)[..., 2:-2, 2:-2].square().mean() / expected.square().mean()
        return float(off.sqrt())

    assert off(torch.stack(waves)) < 0.05
    assert off(noise) > 0.5


# --- the position code


def test_a_place_has_the_same_code_at_each_size():
    """Counted in units of 4 pixels from the centre of the first token of 4."""
    cpu = torch.device("cpu")
    assert torch.equal(places(50, 4, torch.float64, cpu), torch.arange(50, dtype=torch.float64))
    for token in SIZES:
        count = 24 // token
        code = place_code(count, count, 16, cpu, token)
        pixels = (torch.arange(count, dtype=torch.float64) + 0.5) * token - 0.5
        at = sincos((pixels - 1.5) / 4, 8).float()
        close(code[0, :, :8], at, atol=1e-7)
        close(code[:, 0, 8:], at, atol=1e-7)
    assert torch.equal(place_code(6, 5, 16, cpu, 4), place_code(6, 5, 16, cpu))
    close(places(4, 2, torch.float64, cpu), torch.tensor([-0.25, 0.25, 0.75, 1.25]).double())


# --- attention


@pytest.mark.parametrize("kind", ["d-stga", "stga", "global"])
@pytest.mark.parametrize("parts", [4, 16])
def test_tokens_that_are_each_divided_attend_as_before(disturb, kind, parts):
    """A token counts in the softmax by its area: what is divided into equal ones says the same."""
    whole = disturb(SpatiotemporalAttention(16, 2, kind, "layer"))
    fine = SpatiotemporalAttention(16, 2, kind, "layer", log_share=-math.log(parts)).double().eval()
    fine.load_state_dict(whole.state_dict())
    x = torch.randn(2, 3, 5, 16, generator=torch.Generator().manual_seed(0)).double()
    valid = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    with torch.no_grad():
        expected = whole(x, valid).repeat_interleave(parts, dim=2)
        divided = x.repeat_interleave(parts, dim=2), valid.repeat_interleave(parts, dim=2)
        found = fine(*divided)
        close(found, expected)
        undivided = whole(*divided)
    if kind != "global":
        assert (undivided - expected).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["d-stga", "stga"])
def test_the_fused_form_is_that_of_the_formula(small_encoder, series, kind, monkeypatch):
    encoder = small_encoder(token=2, attention=(kind,) * 4)
    x, dates, valid = series(h=12, w=10)
    with torch.no_grad():
        found = encoder(x, dates, valid)
        monkeypatch.setattr(attention, "stga", plain.stga)
        monkeypatch.setattr(attention, "dstga", plain.dstga)
        for one, other in zip(found, encoder(x, dates, valid), strict=True):
            close(one, other)


# --- the encoder


def test_the_weights_are_the_same(encoders):
    states = [encoder.state_dict() for encoder in encoders.values()]
    for state in states[1:]:
        assert list(state) == list(states[0])
        assert all(torch.equal(state[name], states[0][name]) for name in state)


@few
@given(height=st.integers(1, 24), width=st.integers(1, 24), token=st.sampled_from(FINER))
def test_maps_of_any_size_are_those_of_the_same_series_with_invalid_pixels_around(
    encoders, series, height, width, token
):
    encoder, strides = encoders[token], [token * n for n in (1, 2, 4, 8)]
    assert encoder.config.strides == tuple(strides)
    x, dates, valid = series(t=2, h=height, w=width)
    padding = (0, -width % 16 + 16, 0, -height % 16)
    with torch.no_grad():
        maps = encoder(x, dates, valid)
        padded = encoder(F.pad(x, padding, value=9.0), dates, F.pad(valid, padding))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in strides]
    assert [tuple(m.shape[-2:]) for m in maps] == sizes
    for one, other, (i, j) in zip(maps, padded, sizes, strict=True):
        close(one, other[..., :i, :j])


@pytest.mark.parametrize("token", FINER)
@pytest.mark.parametrize("fill", [float("nan"), 1e30])
def test_what_stands_in_a_gap_changes_no_bit(encoders, series, token, fill):
    x, dates, valid = series(b=2, h=19, w=14)
    valid[0, 1] = False
    with torch.no_grad():
        expected = encoders[token](torch.where(valid[:, :, None], x, 0.0), dates, valid)
        found = encoders[token](torch.where(valid[:, :, None], x, fill), dates, valid)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("token", FINER)
def test_a_date_without_observation_is_as_if_it_were_not_there(encoders, series, token):
    x, dates, valid = series(t=3, h=10, w=11)
    valid[:, 1] = False
    with torch.no_grad():
        maps = encoders[token](x, dates, valid)
        without = encoders[token](x[:, ::2], dates[:, ::2], valid[:, ::2])
    for one, other in zip(maps, without, strict=True):
        close(one[:, ::2], other)


@pytest.mark.parametrize("token", FINER)
def test_tokens_without_an_observation_can_be_left_out(encoders, series, token):
    x, dates, valid = series(h=16, w=16, missing=0)
    valid[:, :, :8] = False
    valid[:, 0, 8:, :8] = False
    with torch.no_grad():
        dense = encoders[token](x, dates, valid)
        packed = encoders[token](x, dates, valid, packed=True)
    for one, other, stride in zip(dense, packed, encoders[token].config.strides, strict=True):
        seen = F.max_pool2d(valid.double(), stride)[:, :, None] > 0
        close(one * seen, other * seen)
        assert not (other * ~seen).any()


# --- models


@pytest.mark.parametrize("token", FINER)
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_model_at_another_size_has_the_same_weights_and_comes_back(
    small_model, series, tmp_path, task, token
):
    model = small_model(task).float().train()
    model.has_learnt = True
    x, dates, valid = series(h=13, w=10)
    x = x.float()
    fine = model.with_token(token)
    assert (fine.config.encoder.token, model.config.encoder.token) == (token, 4)
    assert replace(fine.config, encoder=model.config.encoder) == model.config
    assert fine.training
    assert fine.has_learnt
    states = model.state_dict(), fine.state_dict()
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert states[0].keys() == states[1].keys()
    again = load(save(fine, tmp_path / "fine"))
    with torch.no_grad():
        expected, found = model.eval()(x, dates, valid), fine.eval()(x, dates, valid)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() > 1e-3
        assert torch.equal(again(x, dates, valid), found)
        assert torch.equal(again.with_token(4)(x, dates, valid), expected)
        for weight in fine.parameters():
            weight.zero_()
        assert torch.equal(model(x, dates, valid), expected)


@few
@given(height=st.integers(1, 20), width=st.integers(1, 20), token=st.sampled_from(FINER))
def test_scores_of_any_size_ignore_what_is_not_valid(small_model, series, height, width, token):
    x, dates, valid = series(t=2, h=height, w=width)
    model = small_model(per_date=False, token=token)
    with torch.no_grad():
        found = model(x, dates, valid)
        other = model(torch.where(valid[:, :, None], x, torch.nan), dates)
    assert found.shape == (1, 3, height, width)
    assert found.isfinite().all()
    assert torch.equal(found, other)


@pytest.mark.parametrize("token", SIZES)
def test_a_chip_is_scored_by_its_coarsest_tokens_with_an_observation(token):
    head = ChipHead(5, 3, token).double()
    coarse = torch.randn(1, 2, 5, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    valid = torch.zeros(1, 2, 16 * token, 12 * token, dtype=torch.bool)
    valid[0, 1, 8 * token, 8 * token - 1] = True
    with torch.no_grad():
        close(head([coarse], valid)[0], head.classifier(coarse[0, 1, :, 1, 0]))


def test_gradients_reach_every_weight_at_each_size(small_model, series):
    x, dates, valid = series(h=8, w=8)
    for token in FINER:
        model = small_model(token=token)
        model(x, dates, valid).square().sum().backward()
        still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert still == []


def test_other_sizes_are_refused(small_model):
    for token in (3, 8, 0, True, "2"):
        with pytest.raises(TimoError, match=r"token must be one of 4, 2, 1; got"):
            small_model().with_token(token)


# --- pretraining


@pytest.mark.parametrize("token", FINER)
def test_an_encoder_is_pretrained_at_any_size(series, token):
    encoder = EncoderConfig(3, (8, 8, 16, 16), (1, 1, 1, 1), (1, 1, 2, 2), token=token)
    config = MaskedConfig(
        encoder, ("B2", "B3", "B4"), (0.1,) * 3, (0.2,) * 3, unit=token, decoder_dim=16
    )
    x, dates, valid = series(h=11, w=9)
    hidden = (
        torch.rand(
            1, 3, -(-11 // token), -(-9 // token), generator=torch.Generator().manual_seed(0)
        )
        < 0.5
    )
    torch.manual_seed(0)
    model = MaskedAutoencoder(config).eval().double()
    with torch.no_grad():
        found = model(x, hidden, dates, valid)
        covered = magnified(hidden, token)[..., :11, :9] | ~valid
        # What is hidden is the target alone: the prediction does not depend on it.
        other = model(torch.where(covered[:, :, None], 0.7, x), hidden, dates, valid)
    close(found.prediction, other.prediction, atol=0)
    assert found.loss > 0


def test_a_mask_unit_is_no_smaller_than_a_token():
    encoder = EncoderConfig(3, token=2)
    with pytest.raises(TimoError, match="power of two of at least 2, got 1"):
        MaskedConfig(encoder, ("B2", "B3", "B4"), (0.1,) * 3, (0.2,) * 3, unit=1)


def test_the_published_autoencoder_has_tokens_of_4():
    encoder = EncoderConfig(
        3, (8,) * 4, (1,) * 4, (1,) * 4, ("global",) * 4, position="index", token=2
    )
    with pytest.raises(TimoError, match="tokens of 4 pixels, the encoder of 2: give token=4"):
        AutoencoderConfig(encoder, decoder_dim=16, decoder_heads=2)
