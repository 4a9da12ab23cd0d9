import pytest
import torch

from timo.errors import TimoError
from timo.models import SIZES, EncoderConfig, ModelConfig, create_encoder, encoder_config
from timo.models.encoder import TiMoEncoder

FOUR = (16, 16, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": (16, 32)}, r"dims must name four stages; got \(16, 32\)"),
        ({"depths": 2}, "depths must be a list of whole numbers from 1 to 256; got 2. Leave"),
        ({"heads": "1248"}, "heads must be a list of .*got '1248'"),
        ({"attention": ["stga"]}, r"attention must name four stages; got \('stga',\)"),
        (
            {"attention": ("stga", "local", "stga", "flash")},
            r"attention must be a list of one of 'd-stga', 'stga', 'global'; got .*number 1 is 'local'",
        ),
        ({"norm": "group"}, "norm must be one of 'layer', 'batch'; got 'group'"),
        ({"position": "none"}, "position must be one of 'date', 'fourier', 'index'; got 'none'"),
        ({"stem": "conv"}, "stem must be one of 'plain', 'wavelength'; got 'conv'"),
        ({"stem": "wavelength"}, r"3 bands need 3 wavelengths, got 0: \(\)"),
        ({"wavelengths": (0.5, 0.6)}, r"3 bands need 3 wavelengths, got 2: \(0.5, 0.6\)"),
        (
            {"wavelengths": (443, 560, 665)},
            "443 is the wavelength of no band: expected micrometres",
        ),
        ({"wavelengths": (0, -1, -4)}, "-4 is the wavelength of no band: .* -2 for HH, -3 for HV"),
        (
            {"wavelengths": (0.5, 0.6, float("nan"))},
            "list of numbers or None; got .*number 2 is nan",
        ),
        ({"wavelengths": ("B2", "B3", "B4")}, "wavelengths must be a list of numbers"),
        ({"wavelengths": 0.5}, "wavelengths must be a list of numbers or None; got 0.5"),
        ({"in_channels": 0}, "in_channels must be a whole number from 1 to 8192; got 0"),
        ({"dims": (16, 16, 0, 16)}, "dims must be a list of whole numbers .*number 2 is 0"),
        ({"depths": (1, 1, 1.5, 1)}, "depths must be a list of whole numbers .*number 2 is 1.5"),
        ({"heads": (1, 1, 0, 1)}, "heads must be a list of whole numbers .*number 2 is 0"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a whole number from 1 to 256; got 0"),
        ({"drop_path": 1.0}, "drop_path must be a number of 0 or more and below 1; got 1.0"),
        ({"drop_path": -0.1}, "drop_path must be .*; got -0.1"),
        ({"dims": FOUR, "heads": (1, 2, 3, 4)}, "16 channels cannot be shared by 3 heads"),
        (
            {"dims": (12, 16, 16, 16), "heads": (1, 1, 1, 1)},
            "the first stage needs a multiple of 8 channels; got 12",
        ),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(unchecked, options, message):
    with pytest.raises(TimoError, match=message):
        EncoderConfig(**({"in_channels": 3} | options))


def test_lists_become_tuples_so_that_a_config_can_be_a_key(unchecked):
    options = {"dims": FOUR, "attention": ("stga",) * 4, "heads": (1, 1, 1, 1)}
    listed = EncoderConfig(3, **{name: list(value) for name, value in options.items()})
    assert listed == EncoderConfig(3, **options)
    assert len({listed, EncoderConfig(3, **options)}) == 1


def test_an_unknown_size_or_option_is_refused():
    message = (
        r"unknown model 'timo-giant': known sizes are tiny, small, base, large, huge; a folder"
    )
    with pytest.raises(TimoError, match=message):
        encoder_config("timo-giant", 3)
    with pytest.raises(
        TimoError,
        match=r"unknown encoder option 'dropath': known are in_channels.*Did you mean 'drop_path'",
    ):
        create_encoder("tiny", dropath=0.1)


def test_options_override_a_size():
    config = encoder_config("timo-tiny", 4, depths=(1, 1, 1, 1), norm="batch")
    assert (config.dims, config.depths) == (SIZES["tiny"]["dims"], (1, 1, 1, 1))
    assert (config.in_channels, config.norm) == (4, "batch")


# Millions of encoder parameters with ten bands; base, large and huge are in the paper.
@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 1.7), ("base", 90.2), ("large", 297.0), ("huge", 672.7)]
)
def test_sizes_have_the_published_number_of_parameters(size, millions):
    with torch.device("meta"):
        encoder = TiMoEncoder(encoder_config(size, 10))
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert round(count / 1e6, 1) == millions


GOOD = {
    "encoder": EncoderConfig(in_channels=2),
    "bands": ("B4", "B8"),
    "classes": ("forest", "other"),
    "mean": (0.1, 0.2),
    "std": (0.1, 0.1),
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"bands": ("B4",)},
            "2 channels need 2 bands, means and standard deviations, got 1, 2 and 2",
        ),
        ({"std": (0.1, 0.1, 0.1)}, "got 2, 2 and 3"),
        ({"mean": (0.1, float("nan"))}, "mean must be a list of numbers; got .*number 1 is nan"),
        ({"std": (0.1, 0.0)}, "std must be a list of numbers above 0; got .*number 1 is 0.0"),
        (
            {"task": "detection"},
            "task must be one of 'segmentation', 'classification', 'regression'; got 'detection'",
        ),
        ({"classes": ("forest",)}, r"at least two different classes are needed, got \('forest',\)"),
        ({"classes": ("a", "b", "a")}, "at least two different classes are needed"),
        ({"head_width": 0}, "head_width must be a whole number from 1 .*; got 0"),
        ({"detail": -1}, "detail must be a whole number from 0 .*; got -1"),
        ({"dropout": 1.0}, "dropout must be a number .*; got 1.0"),
    ],
)
def test_a_model_that_cannot_be_is_refused(unchecked, options, message):
    with pytest.raises(TimoError, match=message):
        ModelConfig(**(GOOD | options))
