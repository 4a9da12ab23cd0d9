"""Laws of the masked autoencoder: what is hidden or missing is not read, what is hidden and seen is scored."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from timo.errors import TimoError
from timo.models.masking import MaskOptions, draw_mask, units_with_any
from timo.models.mim import MaskedAutoencoder, MaskedConfig

few = settings(max_examples=12, deadline=None)
BANDS = ("B2", "B3", "B4")


@pytest.fixture(scope="module")
def autoencoder(small_encoder):
    def build(unit=8, target="values", **options):
        config = MaskedConfig(
            small_encoder(**options).config,
            BANDS,
            mean=(0.1, 0.2, 0.3),
            std=(0.5, 0.6, 0.7),
            unit=unit,
            decoder_dim=16,
            decoder_depth=1,
            decoder_heads=2,
            target=target,
        )
        torch.manual_seed(0)
        model = MaskedAutoencoder(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    return build


def masked(series, unit=8, ratio=0.5, **shape):
    """A batch: x, hidden, dates, valid."""
    x, dates, valid = series(**shape)
    around = (0, -x.shape[-1] % unit, 0, -x.shape[-2] % unit)
    present = units_with_any(F.pad(valid, around), unit)
    generator = torch.Generator().manual_seed(0)
    hidden = [draw_mask(sample, MaskOptions(ratio), generator) for sample in present]
    return x, torch.stack(hidden), dates, valid


def cover(hidden, unit, x):
    """Pixels under the hidden units, (b t h w)."""
    pixels = hidden.repeat_interleave(unit, -2).repeat_interleave(unit, -1)
    return pixels[..., : x.shape[-2], : x.shape[-1]]


@pytest.mark.parametrize("fill", [0.0, 1e30, float("nan"), -5.0])
@pytest.mark.parametrize("unit", [4, 8, 32])
def test_what_stands_in_a_gap_changes_no_bit(autoencoder, series, unit, fill):
    model = autoencoder(unit)
    x, hidden, dates, valid = masked(series, unit, b=2, h=40, w=33)
    with torch.no_grad():
        expected = model(x, hidden, dates, valid)
        found = model(torch.where(valid[:, :, None], x, fill), hidden, dates, valid)
    assert torch.equal(found.prediction, expected.prediction)
    assert torch.equal(found.loss, expected.loss)


@pytest.mark.parametrize("unit", [4, 16, 64])
def test_what_is_hidden_changes_the_loss_and_no_bit_of_what_is_told(autoencoder, series, unit):
    model = autoencoder(unit)
    x, hidden, dates, valid = masked(series, unit, b=2, h=64, w=96)
    other = torch.where(cover(hidden, unit, x)[:, :, None], x + 1, x)
    with torch.no_grad():
        expected, found = model(x, hidden, dates, valid), model(other, hidden, dates, valid)
    assert hidden.any()
    assert torch.equal(found.prediction, expected.prediction)
    assert found.loss != expected.loss


@pytest.mark.parametrize("unit", [4, 8, 32, 64])
def test_the_loss_is_the_mean_over_the_valid_hidden_pixels(autoencoder, series, unit):
    model = autoencoder(unit)
    x, hidden, dates, valid = masked(series, unit, b=2, h=50, w=70)
    with torch.no_grad():
        result = model(x, hidden, dates, valid)
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.config.mean, model.config.std))
    scored = (cover(hidden, unit, x) & valid)[:, :, None].expand_as(x)
    error = (result.prediction - (x - mean) / std).square()
    torch.testing.assert_close(result.loss, error[scored].mean(), rtol=1e-6, atol=0)
    assert not (result.scored & ~hidden).any()
    inside = F.pad(valid, (0, -70 % unit, 0, -50 % unit))
    assert torch.equal(result.scored, hidden & units_with_any(inside, unit))


@few
@given(height=st.integers(1, 70), width=st.integers(1, 70), t=st.integers(1, 4))
def test_padding_with_invalid_pixels_changes_nothing(autoencoder, series, height, width, t):
    model = autoencoder(8)
    x, hidden, dates, valid = masked(series, 8, t=t, h=height, w=width)
    i, j = hidden.shape[-2:]
    padding = (0, -width % 32 + 32, 0, -height % 32)
    wider = F.pad(hidden, (0, (padding[1] + width) // 8 - j, 0, (padding[3] + height) // 8 - i))
    with torch.no_grad():
        one = model(x, hidden, dates, valid)
        padded = model(F.pad(x, padding, value=7.0), wider, dates, F.pad(valid, padding))
    torch.testing.assert_close(padded.loss, one.loss, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        padded.prediction[..., :height, :width], one.prediction, rtol=0, atol=1e-8
    )


def test_every_weight_of_the_encoder_learns_its_gates_too(autoencoder, series):
    model = autoencoder(8).train()
    x, hidden, dates, valid = masked(series, 8, b=2, t=5, h=64, w=64)
    model(x, hidden, dates, valid).loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert any("gate" in name for name in gradients)
    assert [n for n, g in gradients.items() if g is None or g.abs().max() == 0] == []


def test_samples_of_a_batch_do_not_meet(autoencoder, series):
    model = autoencoder(8).train()
    x, hidden, dates, valid = masked(series, 8, b=3)
    with torch.no_grad():
        together = model(x, hidden, dates, valid)
        alone = model(x[1:2], hidden[1:2], dates[1:2], valid[1:2])
    torch.testing.assert_close(together.prediction[1:2], alone.prediction, rtol=0, atol=1e-9)
    torch.testing.assert_close(together.unit_loss[1:2], alone.unit_loss, rtol=0, atol=1e-9)


def test_a_batch_with_nothing_to_score_has_loss_zero_and_finite_gradients(autoencoder, series):
    model = autoencoder(8)
    x, hidden, dates, valid = masked(series, 8, b=1)
    result = model(x, hidden, dates, torch.zeros_like(valid))
    result.loss.backward()
    assert result.loss == 0
    assert not result.scored.any()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def unit_target(values, inside):
    """Values of a unit without the mean and scale of its valid pixels and bands."""
    of = values[:, inside]
    return (values - of.mean()) / (of.var() + 1e-6).sqrt()


def test_the_unit_target_is_normalised_within_each_unit(autoencoder, series):
    model = autoencoder(8, target="unit")
    x, hidden, dates, valid = masked(series, 8, b=1, t=2, h=16, w=16)
    with torch.no_grad():
        result = model(x, hidden, dates, valid)
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.config.mean, model.config.std))
    values = (x - mean) / std
    for _, t, i, j in result.scored.nonzero().tolist():
        window = (slice(8 * i, 8 * i + 8), slice(8 * j, 8 * j + 8))
        inside = valid[0, t, *window]
        target = unit_target(values[0, t, :, *window], inside)
        error = (result.prediction[0, t, :, *window] - target).square().mean(dim=0)[inside]
        assert result.unit_loss[0, t, i, j] == pytest.approx(error.mean().item(), rel=1e-6)


def test_the_batch_target_is_normalised_over_all_hidden_pixels(autoencoder, series):
    model = autoencoder(8, target="batch")
    x, hidden, dates, valid = masked(series, 8, b=2, h=16, w=16)
    with torch.no_grad():
        result = model(x, hidden, dates, valid)
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.config.mean, model.config.std))
    values = (x - mean) / std
    scored = (cover(hidden, 8, x) & valid)[:, :, None].expand_as(x)
    of = values[scored]
    target = (values - of.mean()) / (of.var() + 1e-6).sqrt()
    error = (result.prediction - target).square()[scored].mean()
    torch.testing.assert_close(result.loss, error, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": 2}, "power of two of at least 4, got 2"),
        ({"unit": 12}, "power of two of at least 4, got 12"),
        ({"target": "texture"}, "target is one of values, unit, batch"),
        ({"bands": ("B2",)}, "3 channels need 3 bands"),
        ({"decoder_dim": 18}, "18 channels cannot be shared|multiple of 8 channels, got 18"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(unchecked, autoencoder, change, message):
    with pytest.raises(TimoError, match=message):
        dataclasses.replace(autoencoder().config, **change)


def test_a_mask_that_does_not_fit_is_refused(unchecked, autoencoder, series):
    x, hidden, dates, valid = masked(series, 8)
    with pytest.raises(TimoError, match=r"hidden of shape .* in units of 16 pixels: expected"):
        autoencoder(16)(x, hidden[:, :1], dates, valid)
    with pytest.raises(TimoError, match=r"torch.float32 does not fit .* in torch.bool"):
        autoencoder(8)(x, hidden.float(), dates, valid)
