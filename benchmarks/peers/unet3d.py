"""3-D U-Net: convolutions over place and time alike.

Rustowicz et al. 2019, "Semantic Segmentation of Crop Type in Africa: A Novel Dataset and Analysis of Deep Learning
Methods" (CVPR Workshops), after Çiçek et al. 2016 (MICCAI). Written from the papers.
"""

import itertools

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional as F

from peers.inputs import Peer, PeerConfig, pad_to


class PresentNorm(nn.Module):
    """Batch normalisation over the frames that are present; the others stay zero and count for nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(
        self, x: Float[Tensor, "b c t h w"], present: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b c t h w"]:
        series = rearrange(x, "b c t h w -> b t c h w")
        out = torch.zeros_like(series)
        out[present] = self.norm(series[present])
        return rearrange(out, "b t c h w -> b c t h w")


class Convolution(nn.Module):
    """3 x 3 x 3 convolution, or one that doubles every axis, then normalisation and leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, *, up: bool = False) -> None:
        super().__init__()
        self.layer = (
            nn.ConvTranspose3d(
                inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False
            )
            if up
            else nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        )
        self.norm = PresentNorm(outputs)

    def forward(
        self, x: Float[Tensor, "b c t h w"], present: Bool[Tensor, "b t2"]
    ) -> Float[Tensor, "b d t2 h2 w2"]:
        x = self.layer(x)[:, :, : present.shape[1]]
        return F.leaky_relu(self.norm(x, present))


class Double(nn.Module):
    """Two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = Convolution(inputs, outputs)
        self.second = Convolution(outputs, outputs)

    def forward(
        self, x: Float[Tensor, "b c t h w"], present: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b d t h w"]:
        return self.second(self.first(x, present), present)


def pool(
    x: Float[Tensor, "b c t h w"], present: Bool[Tensor, "b t"]
) -> tuple[Float[Tensor, "b c t2 h2 w2"], Bool[Tensor, "b t2"]]:
    """Maximum over 2 x 2 x 2, of what is present; an odd date out is a pair of its own."""
    odd = x.shape[2] % 2
    x = x.masked_fill(~present[:, None, :, None, None], -torch.inf)
    x = F.pad(x, (0, 0, 0, 0, 0, odd), value=-torch.inf)
    coarse = F.pad(present, (0, odd)).unflatten(1, (-1, 2)).any(dim=-1)
    pooled = F.max_pool3d(x, 2)
    return pooled.masked_fill(~coarse[:, None, :, None, None], 0.0), coarse


def in_order(
    image: Float[Tensor, "b t c h w"], dates: Real[Tensor, "b t"], present: Bool[Tensor, "b t"]
) -> tuple[Float[Tensor, "b c t h w"], Bool[Tensor, "b t"]]:
    """Frames by date, the absent ones last: to a convolution they are what lies beyond the end."""
    order = dates.masked_fill(~present, torch.inf).argsort(dim=1, stable=True)
    present = present.gather(1, order)
    image = image.gather(1, order[..., None, None, None].expand_as(image))
    image = image * present[..., None, None, None]
    return rearrange(image, "b t c h w -> b c t h w"), present


class UNet3D(Peer):
    """U-Net of three-dimensional convolutions; the mean of the scores over the dates is the answer for the series.

    As published it knows the order of the dates and not their distance.

    Parameters
    ----------
    config : PeerConfig
        Bands, classes and normalisation.
    widths : tuple of int
        Channels of the levels, from the full resolution down. The published network has (32, 64, 128).
    """

    def __init__(self, config: PeerConfig, widths: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__(config)
        self.stride = 2 ** (len(widths) - 1)
        inputs = (len(config.bands) + 1, *widths[:-1])
        self.downs = nn.ModuleList(Double(a, b) for a, b in zip(inputs, widths, strict=True))
        pairs = list(itertools.pairwise(widths))[::-1]
        self.ups = nn.ModuleList(Convolution(coarse, fine, up=True) for fine, coarse in pairs)
        self.joins = nn.ModuleList(Double(2 * fine, fine) for fine, _coarse in pairs)
        self.head = nn.Conv3d(widths[0], len(config.classes), 3, padding=1)

    def scores(
        self,
        image: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"],
        present: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b k h w"]:
        height, width = image.shape[-2:]
        x, present = in_order(pad_to(image, self.stride), dates, present)
        skips: list[tuple[Tensor, Tensor]] = []
        for level, down in enumerate(self.downs):
            if level:
                x, present = pool(x, present)
            x = down(x, present)
            skips.append((x, present))
        for up, join, (skip, here) in zip(self.ups, self.joins, skips[-2::-1], strict=True):
            x = join(torch.cat([up(x, here), skip], dim=1), here)
            present = here
        weight = present[:, None, :, None, None].to(x.dtype)
        scores = (self.head(x) * weight).sum(dim=2) / weight.sum(dim=2)
        return scores[..., :height, :width]
