"""The masked autoencoder as published (TiMo, section 3.3, after MAE and Hiera), for checkpoints and comparisons.

A mask unit is a square of 32 x 32 pixels of one date: one token of the last stage. The encoder sees the visible units
only; each is convolved alone, and attention runs over the tokens of all visible units of all dates.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from timo.checks import checked
from timo.errors import TimoError
from timo.models.config import Blocks, Channels, EncoderConfig
from timo.models.encoder import Block, TiMoEncoder, check_series, misfit
from timo.models.tokens import FULL

UNIT = 32
Target = Literal["values", "unit", "batch"]


@checked
@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape and behaviour of a `PublishedAutoencoder`.

    Parameters
    ----------
    encoder : EncoderConfig
        The encoder, with global attention in every stage and position "index".
    decoder_dim, decoder_depth, decoder_heads : int
        Channels, blocks and attention heads of the decoder.
    target : {"values", "unit", "batch"}
        What is predicted: the values; the same, normalised over the pixels of each unit, as in MAE; or normalised over
        all masked pixels of the batch, as the published code does it.
    """

    encoder: EncoderConfig
    decoder_dim: Channels = 512
    decoder_depth: Blocks = 8
    decoder_heads: Channels = 16
    target: Target = "values"

    def __post_init__(self) -> None:
        if set(self.encoder.attention) != {"global"} or self.encoder.position != "index":
            raise TimoError(
                "the published autoencoder attends globally in all stages and knows no dates: expected an encoder "
                f"with attention 'global' and position 'index', got {self.encoder.attention} and "
                f"{self.encoder.position!r}"
            )
        if self.encoder.token != FULL:
            raise TimoError(
                f"the published autoencoder has tokens of {FULL} pixels, the encoder of {self.encoder.token}: give "
                f"token={FULL}, or pretrain with timo.pretrain, at any size"
            )
        if self.decoder_dim % 8 or self.decoder_dim % self.decoder_heads:
            raise TimoError(
                "decoder_dim must be a multiple of 8 and of decoder_heads; got decoder_dim="
                f"{self.decoder_dim}, decoder_heads={self.decoder_heads}"
            )


class Reconstruction(NamedTuple):
    """Result of a `PublishedAutoencoder`.

    Attributes
    ----------
    loss : Tensor, scalar
        Mean squared error over the pixels of the masked units.
    prediction : Tensor, shape (b, t, h / 32, w / 32, c * 32 * 32)
        Pixels of every unit, band by band and row by row; normalised where the target is.
    latent : Tensor, shape (b, k, d)
        Last tokens of the k visible units, in the order of date, row and column.
    """

    loss: Tensor
    prediction: Tensor
    latent: Tensor


class PublishedAutoencoder(nn.Module):
    """Masked autoencoder with an encoder that sees the visible units only.

    Its `encoder` is a whole `TiMoEncoder`, without gates: `timo.models.transfer_encoder` moves its weights to another.

    Parameters
    ----------
    config : AutoencoderConfig
    """

    @checked
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        width, pixels = config.decoder_dim, config.encoder.in_channels * UNIT**2
        self.encoder = TiMoEncoder(config.encoder)
        self.embed = nn.Linear(config.encoder.dims[-1], width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.ModuleList(
            Block(width, config.decoder_heads, "global", config.encoder, drop_path=0.0)
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, pixels)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, x: Float[Tensor, "b t c h w"], keep: Bool[Tensor, "b u"]) -> Reconstruction:
        """Reconstruct a series from its visible units.

        Parameters
        ----------
        x : Tensor, shape (b, t, c, h, w)
            Normalised bands; height and width are multiples of 32.
        keep : Tensor of bool, shape (b, t * h / 32 * w / 32)
            True where a unit is visible, in the order of date, row and column; as many in each sample.

        Raises
        ------
        TimoError
            If the shapes do not fit each other, or no unit is visible, or none is masked.
        """
        latent = self.encode(x, keep)
        if keep.all():
            raise TimoError(
                "every unit is visible, nothing is left to reconstruct: mask some, or call encode"
            )
        prediction = self.decode(
            latent, keep, rows=x.shape[-2] // UNIT, columns=x.shape[-1] // UNIT
        )
        target = _normalised(to_units(x)[~keep], self.config.target)
        loss = F.mse_loss(prediction.flatten(1, 3)[~keep], target)
        return Reconstruction(loss, prediction, latent)

    def encode(
        self, x: Float[Tensor, "b t c h w"], keep: Bool[Tensor, "b u"]
    ) -> Float[Tensor, "b k d"]:
        """Return the last tokens of the visible units; what stands in the masked ones is never read."""
        check_series(x, None, None, self.config.encoder.in_channels)
        rows, columns = _check_units(x, keep)
        encoder, (b, t) = self.encoder, x.shape[:2]
        seen = rearrange(keep, "b (t i j) -> b t 1 i j", i=rows, j=columns)
        seen = repeat(seen, "b t 1 i j -> b t 1 (i p) (j q)", p=UNIT, q=UNIT)
        # The stem's windows overlap, so at the edge of a visible unit its masked neighbours count as zeros.
        frames = encoder.stem(rearrange(torch.where(seen, x, 0.0), "b t c h w -> (b t) c h w"))
        tokens = rearrange(frames, "(b t) i j c -> b t i j c", b=b)
        tokens = encoder.position(tokens, None, keep.new_ones(b, t))
        units = rearrange(tokens, "b t (i p) (j q) c -> b (t i j) p q c", i=rows, j=columns)[keep]
        for index, stage in enumerate(encoder.stages):
            # Each unit is an image of its own to the later convolutions: zeros lie around it.
            units = encoder.downsamples[index - 1](units) if index else units
            side = units.shape[1]
            series = rearrange(units, "(b k) p q c -> b 1 (k p) q c", b=b)
            series = stage(series, keep.new_ones(series.shape[:-1]))
            units = rearrange(series, "b 1 (k p) q c -> (b k) p q c", p=side)
        return rearrange(units, "(b k) 1 1 c -> b k c", b=b)

    def decode(
        self, latent: Float[Tensor, "b k d"], keep: Bool[Tensor, "b u"], rows: int, columns: int
    ) -> Float[Tensor, "b t {rows} {columns} p"]:
        """Predict the pixels of every unit, visible or not, from the latent of the visible ones."""
        visible = self.embed(latent)
        tokens = self.mask_token.to(visible.dtype).expand(*keep.shape, -1)
        tokens = tokens.masked_scatter(keep[..., None], visible)
        grid = rearrange(tokens, "b (t i j) d -> b t i j d", i=rows, j=columns)
        # The encoder's own code of frame and place, on the grid of units.
        grid = self.encoder.position(grid, None, keep.new_ones(grid.shape[:2]))
        series = rearrange(grid, "b t i j d -> b t (i j) d")
        for block in self.blocks:
            series = block(series, keep.new_ones(series.shape[:-1]))
        pixels = self.predict(self.norm(series))
        return rearrange(pixels, "b t (i j) p -> b t i j p", i=rows)


def to_units(x: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b u p"]:
    """Return the pixels of each mask unit (c * 32 * 32, band by band), units in the order of date, row and column."""
    return rearrange(x, "b t c (i p) (j q) -> b (t i j) (c p q)", p=UNIT, q=UNIT)


def _normalised(target: Float[Tensor, "m p"], over: Target) -> Float[Tensor, "m p"]:
    """Return the target with mean 0 and variance 1 over each unit, over all of them, or as it is."""
    if over == "values":
        return target
    axes = -1 if over == "unit" else (0, 1)
    variance, mean = torch.var_mean(target, dim=axes, keepdim=True)
    return (target - mean) / (variance + 1e-6).sqrt()


def _check_units(x: Tensor, keep: Tensor) -> tuple[int, int]:
    """Return the rows and columns of units of a frame."""
    height, width = x.shape[-2:]
    if height % UNIT or width % UNIT:
        raise TimoError(
            f"the published autoencoder takes heights and widths that are multiples of {UNIT}, got {height} x {width}: "
            "crop or pad the series"
        )
    rows, columns = height // UNIT, width // UNIT
    expected = (x.shape[0], x.shape[1] * rows * columns)
    if keep.shape != expected or keep.dtype != torch.bool:
        wanted = " (samples, dates x rows x columns of units) in torch.bool"
        raise misfit("keep", keep, x, expected, wanted)
    visible = keep.sum(dim=1)
    if int(visible.min()) < 1 or int(visible.min()) != int(visible.max()):
        raise TimoError(
            "each sample needs the same number of visible units, at least one, got "
            f"{sorted(set(visible.tolist()))}"
        )
    return rows, columns
