"""U-TAE: a U-Net whose lowest level looks along time, and whose skip connections follow where it looked.

Garnot and Landrieu 2021, "Panoptic Segmentation of Satellite Image Time Series with Convolutional Temporal Attention
Networks" (ICCV; arXiv 2107.07933), section 3.1. The temporal encoder is L-TAE: Garnot and Landrieu 2020, "Lightweight
Temporal Self-Attention for Classifying Satellite Images Time Series" (arXiv 2007.00586). Written from the papers.
"""

import itertools

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional as F

from peers.inputs import Peer, PeerConfig, pad_to

YEAR = 365.2425
# Longest period of the date code over 2 pi, in days, as published.
PERIOD = 1000.0


def convolution(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    """3 x 3 convolution, normalisation and ReLU.

    Frames are normalised by groups of their own channels ("group"), what is one map a series over the batch ("batch").
    """
    normalise = nn.GroupNorm(4, outputs) if norm == "group" else nn.BatchNorm2d(outputs)
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(layer, normalise, nn.ReLU())


class Down(nn.Module):
    """Half the resolution, then a convolution and a residual one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        strided = nn.Conv2d(inputs, inputs, 4, stride=2, padding=1, padding_mode="reflect")
        self.down = nn.Sequential(strided, nn.GroupNorm(4, inputs), nn.ReLU())
        self.first = convolution(inputs, outputs, "group")
        self.second = convolution(outputs, outputs, "group")

    def forward(self, x: Float[Tensor, "f c h w"]) -> Float[Tensor, "f d h2 w2"]:
        x = self.first(self.down(x))
        return x + self.second(x)


class Up(nn.Module):
    """Twice the resolution, joined by the collapsed skip connection, then a convolution and a residual one."""

    def __init__(self, inputs: int, outputs: int, skip: int) -> None:
        super().__init__()
        up = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        self.up = nn.Sequential(up, nn.BatchNorm2d(outputs), nn.ReLU())
        self.skip = nn.Sequential(nn.Conv2d(skip, skip, 1), nn.BatchNorm2d(skip), nn.ReLU())
        self.first = convolution(outputs + skip, outputs, "batch")
        self.second = convolution(outputs, outputs, "batch")

    def forward(
        self, x: Float[Tensor, "b c h w"], skip: Float[Tensor, "b s h2 w2"]
    ) -> Float[Tensor, "b d h2 w2"]:
        x = self.first(torch.cat([self.up(x), self.skip(skip)], dim=1))
        return x + self.second(x)


def date_code(
    dates: Real[Tensor, "b t"], present: Bool[Tensor, "b t"], channels: int
) -> Float[Tensor, "b t {channels}"]:
    """Sine-cosine code of the days since 1 January of the year of the first date that is present.

    The paper counts from a fixed day of the one year that its data have.
    """
    first = dates.masked_fill(~present, torch.inf).amin(dim=1, keepdim=True)
    new_year = ((first / YEAR).floor() * YEAR).round()
    days = (dates - new_year).masked_fill(~present, 0.0)
    steps = torch.arange(channels // 2, device=dates.device) * (2 / channels)
    angle = days[..., None] / PERIOD**steps
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


def group_norm_over_time(
    x: Float[Tensor, "p t c"], present: Bool[Tensor, "p t"], groups: int
) -> Float[Tensor, "p t c"]:
    """Normalise groups of channels of each place, over all its dates that are present."""
    grouped = rearrange(x, "p t (g c) -> p t g c", g=groups)
    weight = present[:, :, None, None].to(x.dtype)
    count = weight.sum(dim=1, keepdim=True) * grouped.shape[-1]
    mean = (grouped * weight).sum(dim=(1, 3), keepdim=True) / count
    centred = (grouped - mean) * weight
    variance = centred.square().sum(dim=(1, 3), keepdim=True) / count
    return (centred * (variance + 1e-5).rsqrt()).flatten(2)


class LightweightTemporalAttention(nn.Module):
    """L-TAE: each head has one learnt query, and a share of the channels as values.

    Parameters
    ----------
    channels : int
        Channels in and out.
    width : int
        Channels inside.
    heads : int
        Heads; `channels` and `width` are multiples.
    key_width : int
        Channels of a key.
    """

    def __init__(
        self, channels: int, width: int = 256, heads: int = 16, key_width: int = 4
    ) -> None:
        super().__init__()
        self.width, self.heads, self.key_width = width, heads, key_width
        self.scale = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))
        self.inwards = nn.Linear(channels, width)
        self.query = nn.Parameter(torch.randn(heads, key_width) * (2 / key_width) ** 0.5)
        self.key = nn.Linear(width, heads * key_width)
        nn.init.normal_(self.key.weight, std=(2 / key_width) ** 0.5)
        self.dropout = nn.Dropout(0.1)
        self.outwards = nn.Linear(width, channels)
        self.norm = nn.BatchNorm1d(channels)
        self.last = nn.Sequential(nn.Dropout(0.2), nn.GroupNorm(heads, channels))

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"],
        present: Bool[Tensor, "b t"],
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b t n h w"]]:
        """The series in one map, and the attention of each head: how much each date counted at each place."""
        height, width = x.shape[-2:]
        here = present.repeat_interleave(height * width, dim=0)
        series = rearrange(x, "b t c h w -> (b h w) t c")
        series = group_norm_over_time(series, here, self.heads) * self.scale + self.offset
        # The code of a date is the same for every head.
        code = date_code(dates, present, self.width // self.heads).repeat(1, 1, self.heads)
        code = code.repeat_interleave(height * width, dim=0).to(series.dtype)
        series = self.inwards(series) + code
        keys = rearrange(self.key(series), "p t (n d) -> p t n d", n=self.heads)
        logits = torch.einsum("nd,ptnd->ptn", self.query, keys) / self.key_width**0.5
        attention = logits.masked_fill(~here[..., None], -torch.inf).softmax(dim=1)
        attention = self.dropout(attention)
        values = rearrange(series, "p t (n d) -> p t n d", n=self.heads)
        out = torch.einsum("ptn,ptnd->pnd", attention, values).flatten(1)
        out = self.last(F.relu(self.norm(self.outwards(out))))
        return (
            rearrange(out, "(b h w) c -> b c h w", h=height, w=width),
            rearrange(attention, "(b h w) t n -> b t n h w", h=height, w=width),
        )


def collapse(
    frames: Float[Tensor, "b t c h w"], attention: Float[Tensor, "b t n h2 w2"]
) -> Float[Tensor, "b c h w"]:
    """Mean of the frames over time, weighted by the enlarged attention; head by head, group of channels by group."""
    b, heads = attention.shape[0], attention.shape[2]
    flat = rearrange(attention, "b t n h w -> b (t n) h w")
    flat = F.interpolate(flat, size=frames.shape[-2:], mode="bilinear", align_corners=False)
    weight = rearrange(flat, "b (t n) h w -> b t n 1 h w", n=heads)
    grouped = rearrange(frames, "b t (n c) h w -> b t n c h w", n=heads)
    return (weight * grouped).sum(dim=1).reshape(b, -1, *frames.shape[-2:])


class UTAE(Peer):
    """U-Net with a temporal attention encoder.

    Parameters
    ----------
    config : PeerConfig
        Bands, classes and normalisation.
    encoder, decoder : tuple of int
        Channels of the levels, from the full resolution down; the last of both is the same. Multiples of `heads`. As
        published: (64, 64, 64, 128) and (32, 32, 64, 128).
    heads : int
        Heads of the temporal attention.
    """

    def __init__(
        self,
        config: PeerConfig,
        encoder: tuple[int, ...] = (64, 64, 64, 128),
        decoder: tuple[int, ...] = (32, 32, 64, 128),
        heads: int = 16,
    ) -> None:
        super().__init__(config)
        bands = len(config.bands) + 1
        self.stride = 2 ** (len(encoder) - 1)
        self.stem = nn.Sequential(
            convolution(bands, encoder[0], "group"), convolution(encoder[0], encoder[0], "group")
        )
        self.downs = nn.ModuleList(Down(a, b) for a, b in itertools.pairwise(encoder))
        self.temporal = LightweightTemporalAttention(encoder[-1], heads=heads)
        self.ups = nn.ModuleList(
            Up(decoder[i + 1], decoder[i], encoder[i]) for i in reversed(range(len(encoder) - 1))
        )
        self.head = nn.Sequential(
            convolution(decoder[0], 32, "batch"), nn.Conv2d(32, len(config.classes), 1)
        )

    def scores(
        self,
        image: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"],
        present: Bool[Tensor, "b t"],
    ) -> Float[Tensor, "b k h w"]:
        height, width = image.shape[-2:]
        # Reflection at the borders needs two pixels at the lowest level.
        maps = [self.stem(pad_to(image[present], self.stride, 2 * self.stride))]
        for down in self.downs:
            maps.append(down(maps[-1]))
        series = [_with_absent(frames, present) for frames in maps]
        x, attention = self.temporal(series[-1], dates, present)
        for up, skip in zip(self.ups, reversed(series[:-1]), strict=True):
            x = up(x, collapse(skip, attention))
        return self.head(x)[..., :height, :width]


def _with_absent(
    frames: Float[Tensor, "f c h w"], present: Bool[Tensor, "b t"]
) -> Float[Tensor, "b t c h w"]:
    """Frames back in their series; zero where the date is absent."""
    series = frames.new_zeros(*present.shape, *frames.shape[1:])
    series[present] = frames
    return series
