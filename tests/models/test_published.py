"""The masked autoencoder as published: what it sees, what it scores, what it refuses."""

import pytest
import torch

from timo.errors import TimoError
from timo.models.config import EncoderConfig
from timo.models.published import AutoencoderConfig, PublishedAutoencoder, to_units

CHANNELS = 2


def config(**options):
    encoder = EncoderConfig(
        in_channels=CHANNELS,
        dims=(16, 16, 32, 32),
        depths=(1, 1, 1, 1),
        heads=(1, 2, 2, 4),
        attention=("global",) * 4,
        norm="batch",
        position="index",
    )
    return AutoencoderConfig(encoder, **{"decoder_dim": 16, "decoder_heads": 2, **options})


@pytest.fixture(scope="module")
def build():
    def make(**options):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = PublishedAutoencoder(config(decoder_depth=1, **options))
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
        return model.double().eval()

    return make


@pytest.fixture(scope="module")
def case():
    """Two samples of two dates, 2 x 3 units each: four of twelve visible."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, CHANNELS, 64, 96, generator=generator, dtype=torch.float64)
    keep = torch.zeros(2, 12, dtype=torch.bool)
    keep[0, [0, 4, 7, 11]] = True
    keep[1, [1, 2, 6, 9]] = True
    return x, keep


def test_shapes_and_order(build, case):
    x, keep = case
    found = build()(x, keep)
    assert found.latent.shape == (2, 4, 32)
    assert found.prediction.shape == (2, 2, 2, 3, CHANNELS * 32 * 32)
    assert found.loss.shape == ()
    # Sample 0, date 1, row 0, column 1 is unit 7; its second band comes after all pixels of the first.
    assert torch.equal(to_units(x)[0, 7, 1024:], x[0, 1, 1, :32, 32:64].flatten())


def test_what_is_masked_is_never_seen(build, case):
    x, keep = case
    hidden = ~keep.view(2, 2, 1, 2, 3).repeat_interleave(32, 3).repeat_interleave(32, 4)
    model = build()
    latent = model.encode(x, keep)
    for filling in (0.0, 1e30, torch.nan):
        assert torch.equal(model.encode(x.masked_fill(hidden, filling), keep), latent)


def test_visible_units_see_each_other_across_dates_but_not_across_samples(build, case):
    x, keep = case
    model = build()
    changed = x.clone()
    changed[0, 1, :, :32, 32:64] += 1  # unit 7 of sample 0
    difference = (model.encode(changed, keep) - model.encode(x, keep)).abs().amax(dim=-1)
    assert (difference[0] > 1e-6).all()
    assert (difference[1] == 0).all()


def test_all_units_visible_is_not_the_plain_encoder(build, case):
    # Each later convolution stays inside its unit: the published encoder sees other borders in pretraining.
    x, _ = case
    model = build()
    everything = torch.ones(2, 12, dtype=torch.bool)
    latent = model.encode(x, everything)
    plain = model.encoder(x)[-1].permute(0, 1, 3, 4, 2).flatten(1, 3)
    assert latent.shape == plain.shape
    assert (latent - plain).abs().max() > 1e-3


def test_one_unit_alone_is_the_plain_encoder(build):
    # With one unit there is no border inside the image, and the two are the same.
    x = torch.randn(2, 1, CHANNELS, 32, 32, dtype=torch.float64)
    model = build()
    latent = model.encode(x, torch.ones(2, 1, dtype=torch.bool))
    plain = model.encoder(x)[-1].permute(0, 1, 3, 4, 2).flatten(1, 3)
    torch.testing.assert_close(latent, plain)


@pytest.mark.parametrize("kind", ["values", "unit", "batch"])
def test_the_loss_is_the_mean_squared_error_of_the_masked_units(build, case, kind):
    x, keep = case
    found = build(target=kind)(x, keep)
    target = to_units(x)[~keep]
    if kind == "unit":
        mean, variance = target.mean(dim=1, keepdim=True), target.var(dim=1, keepdim=True)
    else:
        mean, variance = target.mean(), target.var()
    if kind != "values":
        target = (target - mean) / (variance + 1e-6).sqrt()
    expected = (found.prediction.flatten(1, 3)[~keep] - target).square().mean()
    torch.testing.assert_close(found.loss, expected)


def test_every_parameter_learns(build, case):
    model = build()
    model(*case).loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_autocast_runs(build, case):
    x, keep = case
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert build().float()(x.float(), keep).loss.isfinite()


@pytest.mark.parametrize(
    ("shape", "visible", "message"),
    [
        ((1, 1, 2, 40, 32), [[True, False]], "multiples of 32"),
        ((1, 1, 3, 32, 64), [[True, False]], "shape"),
        ((1, 2, 2, 32, 64), [[True, False]], "keep of shape"),
        ((2, 1, 2, 32, 64), [[True, False], [True, True]], "same number"),
        ((1, 1, 2, 32, 64), [[False, False]], "at least one"),
        ((1, 1, 2, 32, 64), [[True, True]], "nothing is left"),
    ],
)
def test_input_that_does_not_fit_is_refused(build, shape, visible, message):
    with pytest.raises(TimoError, match=message):
        build()(torch.zeros(shape, dtype=torch.float64), torch.tensor(visible))


@pytest.mark.parametrize(
    "options",
    [{"decoder_dim": 20}, {"decoder_heads": 3}, {"decoder_depth": 0}, {"target": "band"}],
)
def test_a_decoder_that_cannot_be_is_refused(options, unchecked):
    with pytest.raises(TimoError, match=next(iter(options))):
        config(**options)


def test_an_encoder_that_attends_locally_is_refused():
    with pytest.raises(TimoError, match="global"):
        AutoencoderConfig(EncoderConfig(in_channels=3, position="index"))
