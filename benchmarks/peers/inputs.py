"""What the neural peers share: a config that `timo.finetune` accepts, and how gaps and dates reach them."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional as F

from timo.models.answering import ModelConfig


@dataclass(frozen=True)
class PeerConfig:
    """What a peer reads and tells apart: the part of `timo.models.ModelConfig` that is not TiMo's own.

    Parameters
    ----------
    bands, classes : tuple of str
        Names, in the order of the channels and of the scores.
    mean, std : tuple of float
        Normalisation of each band.
    sensor : str
        Whose bands these are.
    """

    bands: tuple[str, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sensor: str = "sentinel-2"
    task: str = "segmentation"
    per_date: bool = False

    @classmethod
    def like(cls, config: ModelConfig) -> "PeerConfig":
        """Bands, classes and normalisation of a TiMo model."""
        return cls(config.bands, config.classes, config.mean, config.std, config.sensor)


class Peer(nn.Module):
    """A model of a whole series: one class per pixel. Subclasses answer in `scores`.

    Pixels without a valid observation are zero after normalisation, and a further channel says which they are. Dates
    without any are absent: padding, or wholly cloudy.
    """

    def __init__(self, config: PeerConfig) -> None:
        super().__init__()
        self.config = config
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(config.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(config.std)[:, None, None], persistent=False)

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"],
        valid: Bool[Tensor, "b t h w"] | None = None,
    ) -> Float[Tensor, "b k h w"]:
        """Class scores (logits) of every pixel of the series, from physical values, days since 1970-01-01 and gaps."""
        finite = x.isfinite().all(dim=2)
        valid = finite if valid is None else valid & finite
        image = torch.where(valid[:, :, None], (x - self.mean) / self.std, 0.0)
        image = torch.cat([image, valid[:, :, None].to(image.dtype)], dim=2)
        present = valid.flatten(2).any(dim=-1)
        # Of nothing at all, no mean can be taken: such a series counts as one that was seen as zeros.
        present = present | ~present.any(dim=1, keepdim=True)
        return self.scores(image, dates, present)

    def scores(
        self,
        image: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"],
        present: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b k h w"]:
        """Class scores from normalised bands with the channel of valid pixels, and the dates that are present."""
        raise NotImplementedError


def pad_to(x: Float[Tensor, "*b h w"], multiple: int, least: int = 1) -> Float[Tensor, "*b h2 w2"]:
    """Zeros to the right and below, up to a multiple and a least size."""
    height, width = (max(math.ceil(n / multiple) * multiple, least) for n in x.shape[-2:])
    return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))
