"""The model of single pixels, alone and as a path beside an encoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.models import EncoderConfig, ModelConfig, PixelConfig, load, save
from timo.models.pixel import FLOOR, PixelModel, pooled
from timo.models.tasks import build, build_pixel
from timo.models.weights import load_encoder

NAMES = {"bands": ("red", "nir", "swir"), "mean": (0.1, 0.3, 0.2), "std": (0.1, 0.1, 0.1)}
INDICES = (("nir", "red"), ("nir", "swir"))
ENCODER = EncoderConfig(3, dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), heads=(1, 1, 1, 1))


def config(**options):
    return PixelConfig(**NAMES | {"classes": ("a", "b"), "indices": INDICES} | options)


def series(t=4, size=(5, 6), channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, t, channels, *size, generator=generator)
    dates = 18000 + 20 * torch.arange(t).repeat(2, 1)
    valid = torch.rand(2, t, *size, generator=generator) > 0.3
    return x, dates, valid


def random_weights(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(3))
    return model


KINDS = [
    {"per_date": True},
    {"per_date": False},
    {"per_date": False, "form": "attention"},
    {"per_date": False, "form": "both"},
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pixel_does_not_know_its_neighbours(kind):
    model = random_weights(build_pixel(config(**kind)))
    x, dates, valid = series()
    valid[:, :, 0, 0] = True
    before = model(x, dates, valid)
    other = torch.rand_like(x)
    other[..., 0, 0] = x[..., 0, 0]
    after = model(other, dates, valid)
    assert torch.allclose(before[..., 0, 0], after[..., 0, 0], atol=1e-6)
    assert not torch.allclose(before, after)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_masked_changes_nothing(kind):
    model = random_weights(build_pixel(config(**kind)))
    x, dates, valid = series()
    filled = torch.where(valid[:, :, None], x, 1e3)
    holes = torch.where(valid[:, :, None], x, torch.nan)
    assert torch.equal(model(x, dates, valid), model(filled, dates, valid))
    assert torch.equal(model(x, dates, valid), model(holes, dates))


def test_features_are_bands_indices_and_season_by_name():
    model = build_pixel(config())
    x, dates, _ = series(t=1, size=(1, 1))
    read, _ = model.features(x, dates)
    found = dict(zip(model.feature_names, read[0, 0, :, 0, 0].tolist(), strict=True))
    red, nir, swir = x[0, 0, :, 0, 0].tolist()
    assert found["red"] == pytest.approx((red - 0.1) / 0.1, rel=1e-5)
    assert found["(nir - red) / (nir + red)"] == pytest.approx((nir - red) / (nir + red), rel=1e-5)
    assert found["(nir - swir) / (nir + swir)"] == pytest.approx(
        (nir - swir) / (nir + swir), rel=1e-5
    )
    angle = 2 * np.pi * (18000 % 365.2425) / 365.2425
    assert found["sine of the year"] == pytest.approx(np.sin(angle), abs=1e-5)
    assert found["cosine of the year"] == pytest.approx(np.cos(angle), abs=1e-5)


def test_a_regression_of_the_series_reads_the_course_of_the_year():
    model = build_pixel(config(per_date=False))
    x, _, _ = series(t=2, size=(1, 1))
    dates = torch.tensor([[17532 + 3, 17532 + 180]] * 2)  # 2018: the first part, and the twelfth
    read, _ = model.features(x, dates)
    found = dict(zip(model.feature_names, read[0, :, 0, 0].tolist(), strict=True))
    assert len(found) == 5 * 24
    red, nir, _ = x[0, 0, :, 0, 0].tolist()
    assert found["red, 1/24 of the year"] == pytest.approx((red - 0.1) / 0.1, rel=1e-5)
    ratio = (nir - red) / (nir + red)
    assert found["(nir - red) / (nir + red), 1/24 of the year"] == pytest.approx(ratio, rel=1e-5)
    assert found["red, 12/24 of the year"] == pytest.approx(
        (float(x[0, 1, 0]) - 0.1) / 0.1, rel=1e-5
    )


def test_groups_of_bands_say_which_were_observed():
    model = random_weights(build_pixel(config(groups=(2, 1), indices=(("nir", "red"),))))
    assert model.feature_names[4:6] == ("observed 1", "observed 2")
    x, dates, _ = series()
    valid = torch.rand(2, 4, 2, 5, 6, generator=torch.Generator().manual_seed(1)) > 0.4
    hidden = x.clone()
    hidden[:, :, :2] = torch.where(valid[:, :, :1], x[:, :, :2], torch.nan)
    hidden[:, :, 2:] = torch.where(valid[:, :, 1:], x[:, :, 2:], torch.nan)
    assert torch.equal(model(x, dates, valid), model(hidden, dates))


@given(st.floats(0.05, 0.95), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_pooling_is_the_mean_of_the_log_probabilities(share, seed):
    generator = torch.Generator().manual_seed(seed)
    context, pixel = torch.randn(2, 1, 3, 2, 2, generator=generator)
    found = pooled(context, pixel, torch.full((1, 1, 2, 2), share), classes=True)
    expected = (1 - share) * context.log_softmax(1) + share * pixel.log_softmax(1)
    assert torch.allclose(found, expected, atol=1e-5)
    # The order of equals: neither opinion counts more because it is given first.
    swapped = pooled(pixel, context, torch.full((1, 1, 2, 2), 1 - share), classes=True)
    assert torch.allclose(found, swapped, atol=1e-5)


def test_no_opinion_overrules_the_other():
    sure = torch.tensor([50.0, -50.0]).reshape(1, 2, 1, 1)
    other = torch.tensor([-3.0, 3.0]).reshape(1, 2, 1, 1)
    found = pooled(sure, other, torch.full((1, 1, 1, 1), 0.5), classes=True)[0, :, 0, 0]
    assert float(found[0] - found[1]) == pytest.approx((-FLOOR - 6) / 2, abs=0.01)
    values = pooled(sure, other, torch.full((1, 1, 1, 1), 0.5), classes=False)
    assert torch.equal(values, (sure + other) / 2)


def test_both_forms_of_a_pixel_are_pooled_in_equal_parts():
    both = random_weights(build_pixel(config(per_date=False, form="both")))
    x, dates, valid = series()
    parts = [build_pixel(config(per_date=False, form=form)) for form in ("regression", "attention")]
    for part in parts:
        part.load_state_dict(both.state_dict(), strict=False)
    told = [part(x, dates, valid).log_softmax(1).clamp(min=FLOOR) for part in parts]
    assert torch.allclose(both(x, dates, valid), (told[0] + told[1]) / 2, atol=1e-5)


@pytest.mark.parametrize("per_date", [True, False])
def test_a_path_of_pixels_counts_where_they_were_observed(per_date):
    whole = ModelConfig(
        ENCODER, classes=("a", "b"), indices=INDICES, pixel=0.5, per_date=per_date, **NAMES
    )
    model, without = build(whole), build(replace(whole, pixel=0.0))
    assert without.pixel is None
    random_weights(model.pixel)
    x, dates, valid = series(size=(8, 8))
    seen = valid if per_date else valid.any(dim=1)
    valid[:, :, :2] = False
    seen = valid if per_date else valid.any(dim=1)
    with torch.no_grad():
        context, both = without(x, dates, valid), model(x, dates, valid)
        own = model.pixel(x, dates, valid)
    gaps = ~seen.unsqueeze(-3).expand_as(both)
    assert torch.equal(both[gaps], context[gaps])
    expected = (context.log_softmax(-3).clamp(FLOOR) + own.log_softmax(-3).clamp(FLOOR)) / 2
    assert torch.allclose(both[~gaps], expected[~gaps], atol=1e-5)
    assert len(model.opinions(x, dates, valid)) == (1 if per_date else 2)


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_pixels_are_saved_and_read(tmp_path, kind):
    model = random_weights(build_pixel(config(**kind)))
    folder = save(model, tmp_path / "pixel")
    read = load(folder)
    assert isinstance(read, PixelModel)
    assert read.config == model.config
    x, dates, valid = series()
    assert torch.equal(read(x, dates, valid), model(x, dates, valid))
    with pytest.raises(TimoError, match="model of single pixels, which has no encoder"):
        load_encoder(folder)
    whole = ModelConfig(ENCODER, classes=("a", "b"), indices=INDICES, pixel=0.3, **NAMES)
    for weight in (0.3, 1.0, 0.0):
        # A weight of 0 leaves the path out, unless it is to be kept.
        model = build(replace(whole, pixel=weight, keep_pixel=weight == 0))
        again = load(save(model, tmp_path / "whole"))
        assert again.config == model.config
        assert again.pixel is not None
        assert torch.equal(again(x, dates, valid), model(x, dates, valid))


def test_bad_configs_are_refused():
    with pytest.raises(TimoError, match="indices are pairs of the bands"):
        config(indices=(("nir", "green"),))
    with pytest.raises(TimoError, match="sums up a series: give per_date=False"):
        config(form="attention")
    with pytest.raises(TimoError, match="groups share out the 3 bands"):
        config(groups=(2, 2))
    with pytest.raises(TimoError, match="does not answer for chips"):
        build_pixel(config(task="classification", per_date=False, indices=()))
    with pytest.raises(TimoError, match="a chip has no single pixels"):
        ModelConfig(
            ENCODER, classes=("a", "b"), pixel=0.5, task="classification", per_date=False, **NAMES
        )


def test_a_target_is_that_of_the_path_as_well():
    regression = ModelConfig(ENCODER, classes=(), task="regression", pixel=0.5, **NAMES)
    model = build(regression)
    model.set_target(10.0, 2.0)
    assert (model.pixel.config.target_mean, model.pixel.config.target_std) == (10.0, 2.0)
    scores = torch.zeros(1, 4, 3, 5, 6)
    assert torch.equal(model.pixel.answer(scores), model.answer(scores))
    with pytest.raises(TimoError, match="predicts no number"):
        build_pixel(config()).set_target(0.0, 1.0)
