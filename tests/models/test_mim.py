"""Laws of the masked autoencoder: what is hidden is not seen, what is invalid is nothing, the loss is its formula."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.models.config import EncoderConfig
from timo.models.masking import MaskOptions, draw_mask
from timo.models.mim import MaskedAutoencoder, MaskedConfig

BANDS = ("B2", "B3", "B4")
TARGETS = ("values", "frame", "unit", "batch")


def config(unit=8, target="values", **encoder):
    small = {"dims": (16, 16, 16, 16), "depths": (1, 1, 1, 1), "heads": (1, 1, 1, 1)}
    return MaskedConfig(
        encoder=EncoderConfig(in_channels=len(BANDS), **small | encoder),
        bands=BANDS,
        mean=(0.1, 0.2, 0.3),
        std=(0.2, 0.3, 0.4),
        unit=unit,
        decoder_dim=16,
        decoder_depth=1,
        decoder_heads=1,
        target=target,
    )


def make(unit=8, target="values", **encoder):
    """Weights far from their first values, in float64, so that what should be equal is equal to many digits."""
    model = MaskedAutoencoder(config(unit, target, **encoder))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel()
            parameter.copy_(noise / fan_in**0.5 if parameter.ndim > 1 else parameter + 0.1 * noise)
    return model.double().eval()


def series(b=1, t=3, h=24, w=24, unit=8, *, missing=0.2, seed=0):
    """Random x, hidden, dates and valid."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(b, t, len(BANDS), h, w, generator=generator, dtype=torch.float64)
    dates = (
        18_000 + (torch.rand(b, t, generator=generator, dtype=torch.float64) * 30).cumsum(1).round()
    )
    valid = torch.rand(b, t, h, w, generator=generator) >= missing
    present = torch.ones(t, -(-h // unit), -(-w // unit), dtype=torch.bool)
    hidden = torch.stack([draw_mask(present, MaskOptions(0.5), generator) for _ in range(b)])
    return x, hidden, dates, valid


def cover(hidden, unit, height, width):
    pixels = hidden.repeat_interleave(unit, -2).repeat_interleave(unit, -1)
    return pixels[..., :height, :width]


@pytest.fixture(scope="module")
def model():
    return make()


# --- what is hidden


@pytest.mark.parametrize("target", ["values", "unit"])
def test_what_is_hidden_changes_no_bit_of_the_prediction(target):
    model = make(target=target)
    x, hidden, dates, valid = series()
    other = x.clone()
    other[cover(hidden, 8, 24, 24)[:, :, None].expand_as(x)] = 7.0
    one, two = (model(values, hidden, dates, valid) for values in (x, other))
    assert torch.equal(one.prediction, two.prediction)
    assert torch.equal(one.scored, two.scored)
    assert not torch.equal(one.loss, two.loss)
    # Of the losses, only those of what was changed.
    assert torch.equal(one.unit_loss[~hidden], two.unit_loss[~hidden])


def test_what_is_seen_changes_the_prediction_of_what_is_hidden(model):
    x, hidden, dates, valid = series(missing=0.0)
    date, row, column = torch.nonzero(~hidden[0])[0].tolist()
    other = x.clone()
    other[0, date, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 1.0
    one, two = (model(values, hidden, dates, valid).prediction for values in (x, other))
    covered = cover(hidden, 8, 24, 24)
    assert ((one - two).abs().amax(dim=2)[covered] > 1e-9).all()


def test_dates_change_the_prediction_and_their_order_does_not(model):
    x, hidden, dates, valid = series(t=4)
    one = model(x, hidden, dates, valid)
    order = torch.tensor([2, 0, 3, 1])
    two = model(x[:, order], hidden[:, order], dates[:, order], valid[:, order])
    torch.testing.assert_close(one.prediction[:, order], two.prediction, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one.loss, two.loss, rtol=1e-9, atol=0)
    later = model(x, hidden, dates + torch.tensor([[0, 3, 30, 90]]), valid)
    assert not torch.allclose(one.prediction, later.prediction, rtol=1e-6)


# --- what is not valid


@pytest.mark.parametrize("fill", [math.nan, 1e30, -math.inf, -7.0])
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_invalid_is_never_read_nor_scored(fill, target):
    model = make(target=target)
    x, hidden, dates, valid = series(b=2, h=20, w=28)
    spoilt = torch.where(valid[:, :, None], x, fill)
    one, two = (model(values, hidden, dates, valid) for values in (x, spoilt))
    for name in ("loss", "unit_loss", "scored", "prediction"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert one.loss.isfinite()


def test_without_valid_it_is_what_is_finite(model):
    x, hidden, dates, valid = series()
    spoilt = x.clone()
    # In one band: then the pixel is invalid in all.
    spoilt[:, :, 1][~valid] = math.nan
    one, two = model(x, hidden, dates, valid), model(spoilt, hidden, dates)
    assert torch.equal(one.loss, two.loss)
    assert torch.equal(one.prediction, two.prediction)


def test_a_unit_without_observation_is_not_scored(model):
    x, hidden, dates, valid = series(missing=0.0)
    date, row, column = torch.nonzero(hidden[0])[0].tolist()
    valid[0, date, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = False
    result = model(x, hidden, dates, valid)
    expected = hidden.clone()
    expected[0, date, row, column] = False
    assert torch.equal(result.scored, expected)
    assert result.unit_loss[0, date, row, column] == 0


def test_nothing_valid_and_nothing_hidden_give_a_loss_of_zero(model):
    x, hidden, dates, valid = series()
    for mask, seen in ((hidden, torch.zeros_like(valid)), (torch.zeros_like(hidden), valid)):
        result = model(x, mask, dates, seen)
        assert result.loss == 0
        assert not result.scored.any()
        assert result.prediction.isfinite().all()


# --- any shape, and padding


@given(
    st.sampled_from([4, 8, 16, 32, 64]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 5),
    st.sampled_from(TARGETS),
)
@settings(deadline=None, max_examples=25)
def test_any_shape_any_number_of_dates_any_unit(unit, height, width, t, target):
    model = make(unit, target)
    x, hidden, dates, valid = series(1, t, height, width, unit)
    with torch.no_grad():
        result = model(x, hidden, dates, valid)
    assert result.prediction.shape == x.shape
    assert result.unit_loss.shape == result.scored.shape == hidden.shape
    assert result.loss.isfinite()
    assert result.prediction.isfinite().all()


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(0, 20),
    st.integers(0, 3),
    st.sampled_from(TARGETS),
)
@settings(deadline=None, max_examples=25)
def test_padding_never_changes_the_loss(height, width, around, later, target):
    model = make(8, target)
    x, hidden, dates, valid = series(1, 2, height, width)
    grown = x.new_full((1, 2 + later, 3, height + around, width + around), math.nan)
    grown[:, :2, :, :height, :width] = x
    seen = torch.zeros(1, 2 + later, height + around, width + around, dtype=torch.bool)
    seen[:, :2, :height, :width] = valid
    units = torch.ones(
        1, 2 + later, -(-(height + around) // 8), -(-(width + around) // 8), dtype=torch.bool
    )
    units[:, :2, : hidden.shape[2], : hidden.shape[3]] = hidden
    days = torch.cat([dates, torch.full((1, later), 1.0, dtype=dates.dtype)], dim=1)
    with torch.no_grad():
        one, two = model(x, hidden, dates, valid), model(grown, units, days, seen)
    torch.testing.assert_close(two.loss, one.loss, rtol=1e-9, atol=1e-12)
    inside = two.scored[:, :2, : hidden.shape[2], : hidden.shape[3]]
    assert torch.equal(inside, one.scored)
    assert two.scored.sum() == one.scored.sum()


def test_the_samples_of_a_batch_do_not_see_each_other(model):
    x, hidden, dates, valid = series(b=3)
    together = model(x, hidden, dates, valid)
    for i in range(3):
        alone = model(*(a[i : i + 1] for a in (x, hidden, dates, valid)))
        torch.testing.assert_close(
            alone.prediction[0], together.prediction[i], rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(alone.unit_loss[0], together.unit_loss[i], rtol=1e-9, atol=1e-9)


# --- the loss


def plain_loss(prediction, x, hidden, valid, settings):
    """The mean over scored pixels, pixel by pixel, from the definition of each target."""
    mean, std = (
        torch.tensor(n, dtype=x.dtype)[:, None, None] for n in (settings.mean, settings.std)
    )
    values, unit = (x - mean) / std, settings.unit
    covered = cover(hidden, unit, *x.shape[-2:]) & valid
    everything = values.movedim(2, -1)[covered]
    errors = []
    for b, t, i, j in torch.nonzero(hidden).tolist():
        cell = (b, t, slice(None), slice(i * unit, (i + 1) * unit), slice(j * unit, (j + 1) * unit))
        seen = valid[b, t][cell[3:]]
        truth, told = values[cell][:, seen], prediction[cell][:, seen]
        if settings.target == "frame":
            frame = values[b, t][:, valid[b, t]]
            scale = frame.var(dim=1) if frame.shape[1] > 1 else 0 * frame[:, 0]
            truth = (truth - frame.mean(dim=1)[:, None]) / (scale + 0.01).sqrt()[:, None]
        of = {"unit": truth, "batch": everything}.get(settings.target)
        if of is not None and of.numel():
            scale = of.var() if of.numel() > 1 else of.new_zeros(())
            truth = (truth - of.mean()) / (scale + 1e-6).sqrt()
        errors.append((told - truth).square().mean(dim=0))
    return torch.cat(errors).mean()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("unit", [4, 8, 32])
def test_the_loss_is_its_formula(target, unit):
    model = make(unit, target)
    x, hidden, dates, valid = series(2, 3, 36, 44, unit, missing=0.4)
    result = model(x, hidden, dates, valid)
    expected = plain_loss(result.prediction, x, hidden, valid, model.config)
    # The mean and scale of the bands are kept in single precision.
    torch.testing.assert_close(result.loss, expected, rtol=1e-5, atol=0)


def test_the_loss_is_the_mean_of_the_units_weighted_by_their_pixels(model):
    x, hidden, dates, valid = series(missing=0.5)
    result = model(x, hidden, dates, valid)
    pixels = valid.reshape(1, 3, 3, 8, 3, 8).sum(dim=(3, 5)) * result.scored
    expected = (result.unit_loss * pixels).sum() / pixels.sum()
    torch.testing.assert_close(result.loss, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("position", ["date", "index"])
def test_every_parameter_gets_a_gradient(position):
    """Gates and norms too: no weight of the encoder that is fine-tuned is left as it was drawn."""
    model = make(position=position).train()
    x, hidden, dates, valid = series(b=2, t=6, h=64, w=64, missing=0.1)
    model(x, hidden, dates, valid).loss.backward()
    assert any("gate" in name for name, _ in model.encoder.named_parameters())
    silent = [
        name
        for name, p in model.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or p.grad.abs().max() < 1e-14
    ]
    assert silent == []


def test_a_gradient_step_lowers_the_loss():
    torch.manual_seed(0)
    model = MaskedAutoencoder(config()).double()
    batch = series(b=2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = model(*batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


# --- what is refused


def test_a_mask_that_does_not_fit_is_told(unchecked, model):
    x, hidden, dates, valid = series()
    for wrong in (hidden[:, :, :2], hidden[:, :2], hidden.float()):
        with pytest.raises(TimoError, match=r"expected \(1, 3, 3, 3\) in torch.bool"):
            model(x, wrong, dates, valid)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": 12}, "power of two of at least 4, got 12"),
        ({"unit": 2}, "power of two of at least 4, got 2"),
        ({"target": "colour"}, "target must be one of 'values', 'frame', 'unit', 'batch'"),
        ({"bands": ("B2",)}, "3 channels need 3 bands"),
        ({"decoder_heads": 3}, "16 channels cannot be shared by 3 heads"),
        ({"decoder_dim": 12}, "multiple of 8 channels"),
    ],
)
def test_a_config_that_does_not_fit_together_is_told(unchecked, change, message):
    with pytest.raises(TimoError, match=message):
        dataclasses.replace(config(), **change)
