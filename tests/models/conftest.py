"""Small models whose every part matters, in float64, so that what should be equal is equal to many digits."""

import pytest
import torch
from torch import nn

from timo.models.answering import ModelConfig
from timo.models.config import EncoderConfig
from timo.models.encoder import TiMoEncoder
from timo.models.tasks import TiMo

BANDS = ("B2", "B3", "B4")


def config(**options):
    small = {"dims": (16, 32, 32, 32), "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4)}
    return EncoderConfig(in_channels=len(BANDS), **(small | options))


def disturbed(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights far from their first values, so that no branch, gate or bias is lost in rounding."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel()
            parameter.copy_(noise / fan_in**0.5 if parameter.ndim > 1 else parameter + 0.1 * noise)
    return model.double().eval()


@pytest.fixture(scope="session")
def disturb():
    return disturbed


@pytest.fixture(scope="session")
def small_encoder():
    return lambda **options: disturbed(TiMoEncoder(config(**options)))


@pytest.fixture(scope="session")
def small_model():
    def build(task="segmentation", per_date=True, detail=4, classes=("a", "b", "c"), **options):
        count = len(BANDS)
        settings = {"task": task, "per_date": per_date, "head_width": 8, "detail": detail}
        normalisation = {"mean": (0.1,) * count, "std": (0.2,) * count}
        encoder = config(**options)
        return disturbed(
            TiMo(ModelConfig(encoder, BANDS, tuple(classes), **normalisation, **settings))
        )

    return build


@pytest.fixture(scope="session")
def series():
    """Random input of a model: x, dates and valid, one in five pixels missing."""

    def draw(b=1, t=3, h=32, w=32, missing=0.2):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(b, t, len(BANDS), h, w, generator=generator, dtype=torch.float64)
        gaps = torch.rand(b, t, generator=generator, dtype=torch.float64) * 25 + 5
        dates = 18_000 + gaps.cumsum(dim=1).round()
        valid = torch.rand(b, t, h, w, generator=generator) >= missing
        return x, dates, valid

    return draw
