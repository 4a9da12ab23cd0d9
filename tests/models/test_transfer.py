"""Moving weights between encoders: what fits is copied, the stem is adapted, the rest is reported."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.models.encoder import create_encoder
from timo.models.transfer import LoadReport, Reshaped, adapt_kernel, band_sources, transfer_encoder

SMALL = {"dims": (16, 32, 32, 32), "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4)}


def encoder(bands=3, **options):
    return create_encoder("tiny", bands, **(SMALL | options))


def test_the_same_shape_copies_everything(small_encoder):
    source, target = small_encoder(), encoder().double()
    report = transfer_encoder(source.state_dict(), target)
    assert report.complete
    assert set(report.loaded) == set(source.state_dict())
    x = torch.randn(1, 2, 3, 32, 32, dtype=torch.float64)
    for a, b in zip(source(x), target.eval()(x), strict=True):
        assert torch.equal(a, b)


def test_the_stem_is_adapted_where_only_the_bands_differ():
    source, target = encoder(3), encoder(10)
    report = transfer_encoder(source.state_dict(), target)
    assert report.adapted == (Reshaped("stem.conv1.weight", (16, 3, 7, 7), (16, 10, 7, 7)),)
    assert report.complete
    grey = torch.rand(1, 2, 1, 32, 32)
    maps = (e.eval()(grey.expand(-1, -1, n, -1, -1)) for e, n in ((source, 3), (target, 10)))
    for a, b in zip(*maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bands_may_be_named():
    source, target = encoder(3), encoder(2)
    transfer_encoder(source.state_dict(), target, bands=(2, None))
    kernel = source.stem.conv1.weight
    torch.testing.assert_close(target.stem.conv1.weight[:, 0], kernel[:, 2] * 1.5)
    torch.testing.assert_close(target.stem.conv1.weight[:, 1], kernel.mean(dim=1) * 1.5)


def test_bands_reorder_a_stem_of_the_same_width():
    source, target = encoder(3), encoder(3)
    report = transfer_encoder(source.state_dict(), target, bands={"B4": 2, "B3": 1, "B2": 0})
    assert len(report.adapted) == 1
    assert torch.equal(target.stem.conv1.weight, source.stem.conv1.weight.flip(1))


def test_bands_must_name_each_band_of_the_target():
    with pytest.raises(TimoError, match="names 2 bands, the encoder has 3"):
        transfer_encoder(encoder(3).state_dict(), encoder(3), bands=(0, 1))


def test_the_encoder_of_a_model_is_found(small_model):
    model, target = small_model(), encoder().double()
    report = transfer_encoder(model.state_dict(), target)
    assert report.complete
    assert all(name.startswith("head.") for name in report.unused)
    assert len(report.unused) == sum(name.startswith("head.") for name in model.state_dict())
    assert torch.equal(target.stem.conv1.weight, model.encoder.stem.conv1.weight)


def test_what_does_not_fit_keeps_its_values_and_is_named():
    source, target = encoder(mlp_ratio=2, attention=("global",) * 4), encoder()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.warns(UserWarning, match=r"weights of the encoder .* keep their initial"):
        report = transfer_encoder(source.state_dict(), target)
    misshapen = {entry.name for entry in report.misshapen}
    assert "stages.0.blocks.0.mlp.0.weight" in misshapen
    assert any(".gate." in name for name in report.missing)
    after = target.state_dict()
    for name in (*misshapen, *report.missing):
        assert torch.equal(after[name], before[name])
    for name in report.loaded:
        assert torch.equal(after[name], source.state_dict()[name])
    # Every weight of the model stands in the report once.
    assert sorted([*report.loaded, *report.missing, *misshapen]) == sorted(after)


def test_another_stem_is_reported_not_adapted():
    by_wavelength = encoder(2, stem="wavelength", wavelengths=(0.49, 0.665))
    with pytest.warns(UserWarning, match="not loaded"):
        report = transfer_encoder(encoder(3).state_dict(), by_wavelength)
    assert report.unexpected == ("stem.conv1.weight",)
    assert report.adapted == ()
    assert report.missing
    assert all(name.startswith("stem.") for name in report.missing)


def test_a_stem_by_wavelength_takes_any_bands():
    source = encoder(2, stem="wavelength", wavelengths=(0.49, 0.665))
    target = encoder(3, stem="wavelength", wavelengths=(0.56, 0.842, 0.0))
    assert transfer_encoder(source.state_dict(), target).complete


def test_weights_of_something_else_are_refused():
    with pytest.raises(TimoError, match="none of the 1 weights fits"):
        transfer_encoder({"fc.weight": torch.zeros(2, 2)}, encoder())


def test_the_report_names_every_key():
    report = LoadReport(
        loaded=("a",), missing=("b",), misshapen=(Reshaped("c", (1,), (2,)),), unexpected=("d", "e")
    )
    text = str(report)
    for line in (
        "1 weights taken as they are",
        "  b",
        "  c: (1,) -> (2,)",
        "2 unexpected: ignored",
    ):
        assert line in text.splitlines()
    assert "adapted" not in text


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 6),
    sources=st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=1, max_size=12),
)
def test_like_bands_excite_an_adapted_kernel_as_much(count, sources):
    # Of kernels that are alike in every channel the sum over the bands is kept, whichever are picked.
    picked = tuple(None if s is None else s % count for s in sources)
    kernel = torch.randn(4, 1, 3, 3, dtype=torch.float64).expand(-1, count, -1, -1)
    adapted = adapt_kernel(kernel, picked)
    assert adapted.shape == (4, len(picked), 3, 3)
    torch.testing.assert_close(adapted.sum(dim=1), kernel.sum(dim=1))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 6), new=st.integers(1, 12))
def test_mean_kernels_keep_the_sum(count, new):
    kernel = torch.randn(4, count, 3, 3, dtype=torch.float64)
    adapted = adapt_kernel(kernel, band_sources(new, count))
    torch.testing.assert_close(adapted.sum(dim=1), kernel.sum(dim=1))
