"""Masked image modelling: an encoder learns from series without labels, by reconstructing hidden units.

Hidden pixels are treated exactly like clouds: invalid, never attended to, read by no convolution. The encoder that is
pretrained is therefore the one that is fine-tuned, gates and all, on any shape, number of dates and gaps. (TiMo,
section 3.3, attends globally over the visible tokens instead, and its gates start at random afterwards.)
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional as F

from timo.checks import Positive, Range, checked
from timo.errors import TimoError
from timo.models.config import Blocks, Channels, EncoderConfig, check_reads_bands
from timo.models.embedding import Position
from timo.models.encoder import Block, PhysicalModel, TiMoEncoder, check_series, misfit
from timo.models.masking import units_with_any

Target = Literal["values", "frame", "unit", "batch"]
# Variance below which a frame's contrast is noise (normalised values): under haze or snow it is not blown up to 1.
FRAME_NOISE = 1e-2
UNIT_NOISE = 1e-6


@checked
@dataclass(frozen=True)
class MaskedConfig:
    """All that a masked autoencoder is made of.

    Parameters
    ----------
    encoder, bands, mean, std, sensor
        Of the encoder that is pretrained, as in `timo.models.ModelConfig`.
    unit : int
        Side of a mask unit in pixels, a power of two, no less than a token of the first stage (published: 32).
    decoder_dim, decoder_depth, decoder_heads : int
        Width, blocks and attention heads of the decoder (published: 512, 8, 16).
    target : {"values", "frame", "unit", "batch"}
        What is predicted: the normalised values; the same, normalised once more over each date and band of the
        series, so that what sets a place apart is learnt and not the date's light or haze; or within each unit (MAE's
        ``norm_pix_loss``, which trades brightness for texture); or over all hidden pixels of the batch (as published).
    """

    encoder: EncoderConfig
    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    sensor: str = "sentinel-2"
    unit: Annotated[int, Range(least=1, most=4096)] = 32
    decoder_dim: Channels = 128
    decoder_depth: Blocks = 2
    decoder_heads: Channels = 4
    target: Target = "values"

    def __post_init__(self) -> None:
        check_reads_bands(self, self.encoder.in_channels)
        if self.encoder.groups:
            raise TimoError(
                "an encoder is pretrained on one group of bands: pretrain on each sensor alone; a model of several "
                "starts from the encoder of one"
            )
        if self.unit & (self.unit - 1) or self.unit < self.encoder.token:
            raise TimoError(
                f"unit must be a power of two of at least {self.encoder.token}, got {self.unit}"
            )
        # Built once here, so that its own checks say what is wrong with the decoder's width and heads.
        _ = self.decoder

    @property
    def decoder(self) -> EncoderConfig:
        """Describe the decoder's blocks in the encoder's terms."""
        return EncoderConfig(
            in_channels=self.encoder.in_channels,
            dims=(self.decoder_dim,) * 4,
            depths=(self.decoder_depth,) * 4,
            heads=(self.decoder_heads,) * 4,
            attention=("global",) * 4,
            position=self.encoder.position,
        )


@dataclass(frozen=True)
class Reconstruction:
    """What a masked autoencoder made of a batch.

    Attributes
    ----------
    loss : Tensor, shape ()
        Mean squared error over the valid pixels of the hidden units.
    unit_loss : Tensor, shape (b, t, i, j)
        The same of each unit, over its valid pixels; 0 where it has none.
    scored : Tensor of bool, shape (b, t, i, j)
        Units that the loss is the mean of: hidden, with a valid pixel.
    prediction : Tensor, shape (b, t, c, h, w)
        Predicted values of all units, normalised as the target is.
    """

    loss: Float[Tensor, ""]
    unit_loss: Float[Tensor, "b t i j"]
    scored: Bool[Tensor, "b t i j"]
    prediction: Float[Tensor, "b t c h w"]


class Fusion(nn.Module):
    """The encoder's four maps on the grid of the mask units, summed (after Hiera, Ryali et al. 2023).

    The last map alone would leave the norms and some blocks of the earlier stages with little to learn, and be coarser
    than a small unit.
    """

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.unit, self.strides = config.unit, config.encoder.strides
        self.layers = nn.ModuleList(
            nn.Linear(dim * max(config.unit // stride, 1) ** 2, config.decoder_dim)
            for dim, stride in zip(config.encoder.dims, self.strides, strict=True)
        )

    def forward(
        self, maps: list[Float[Tensor, "b t _dim _i _j"]], seen: Bool[Tensor, "b t h w"]
    ) -> Float[Tensor, "b t i j d"]:
        fused = []
        for layer, stride, tokens in zip(self.layers, self.strides, maps, strict=True):
            # A token without an observation adds nothing, whichever values it has.
            inside = tokens * units_with_any(seen, stride)[:, :, None]
            finer = max(self.unit // stride, 1)
            coarser = max(stride // self.unit, 1)
            inside = layer(
                rearrange(inside, "b t c (i p) (j q) -> b t i j (p q c)", p=finer, q=finer)
            )
            fused.append(repeat(inside, "b t i j d -> b t (i p) (j q) d", p=coarser, q=coarser))
        return torch.stack(fused).sum(dim=0)


class MaskedAutoencoder(PhysicalModel):
    """Encoder, and a decoder that predicts the hidden units from what the encoder saw of the others."""

    @checked
    def __init__(self, config: MaskedConfig) -> None:
        super().__init__(config.mean, config.std)
        self.config = config
        dim, blocks = config.decoder_dim, config.decoder
        self.encoder = TiMoEncoder(config.encoder)
        self.fusion = Fusion(config)
        self.mask_token = nn.Parameter(torch.empty(dim))
        self.place = nn.Linear(dim, dim)
        self.position = Position(blocks)
        self.blocks = nn.ModuleList(
            Block(dim, config.decoder_heads, "global", blocks, drop_path=0.0)
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.predict = nn.Linear(dim, config.unit**2 * len(config.bands))
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        hidden: Bool[Tensor, "b t i j"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t h w"] | None = None,
    ) -> Reconstruction:
        """Predict the hidden units (b, t, i, j), i = ceil(h / unit) and j = ceil(w / unit); see `masking.draw_mask`.

        The rest is as for `timo.models.TiMo`.
        """
        check_series(x, dates, valid, len(self.config.bands))
        height, width = x.shape[-2:]
        self._check_hidden(hidden, x)
        values, valid, hidden = self._pad(*self.normalise(x, valid), hidden)
        predicted = self._predict(values, valid, hidden, dates)
        target = normalise(values, valid, hidden, self.config)
        error = (predicted - target).square().mean(dim=2) * valid
        count = self._per_unit(valid.to(error.dtype))
        unit_loss = self._per_unit(error) / count.clamp(min=1)
        scored = hidden & (count > 0)
        # Pixel by pixel: a unit of which a cloud leaves one pixel counts for one pixel.
        weight = count * scored
        loss = (unit_loss * weight).sum() / weight.sum().clamp(min=1)
        i, j = -(-height // self.config.unit), -(-width // self.config.unit)
        return Reconstruction(
            loss, unit_loss[..., :i, :j], scored[..., :i, :j], predicted[..., :height, :width]
        )

    def _predict(
        self,
        values: Float[Tensor, "b t c h w"],
        valid: Bool[Tensor, "b t h w"],
        hidden: Bool[Tensor, "b t i j"],
        dates: Real[Tensor, "b t"] | None,
    ) -> Float[Tensor, "b t c h w"]:
        unit = self.config.unit
        seen = valid & ~repeat(hidden, "b t i j -> b t (i p) (j q)", p=unit, q=unit)
        maps = self.encoder(values, dates, seen, packed=True)
        tokens = self.fusion(maps, seen)
        visible = units_with_any(seen, unit)[..., None]
        tokens = torch.where(visible, tokens, self.mask_token + self._place(tokens, visible))
        tokens = self.position(tokens, dates, seen.flatten(2).any(dim=-1))
        rows = tokens.shape[2]
        tokens = rearrange(tokens, "b t i j d -> b t (i j) d")
        # Units without an observation are neither predicted nor attended to.
        present = units_with_any(valid, unit).flatten(2)
        for block in self.blocks:
            tokens = block(tokens, present)
        pixels = self.predict(self.norm(tokens))
        return rearrange(pixels, "b t (i j) (p q c) -> b t c (i p) (j q)", i=rows, p=unit, q=unit)

    def _place(
        self, tokens: Float[Tensor, "b t i j d"], visible: Bool[Tensor, "b t i j 1"]
    ) -> Float[Tensor, "b 1 i j d"]:
        """Return what the other dates say of a place, for a hidden unit to begin with.

        Without it the decoder has to find the same place among all tokens before the encoder learns anything but the
        date's mean: for hundreds of steps the loss does not move.
        """
        count = visible.sum(dim=1, keepdim=True).clamp(min=1)
        return self.place((tokens * visible).sum(dim=1, keepdim=True) / count)

    def _pad(
        self,
        values: Float[Tensor, "b t c h w"],
        valid: Bool[Tensor, "b t h w"],
        hidden: Bool[Tensor, "b t i j"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pad to whole units and whole tokens of the last stage; what is added is not valid."""
        side = math.lcm(self.config.unit, self.config.encoder.strides[-1])
        height, width = values.shape[-2:]
        around = (0, -width % side, 0, -height % side)
        values, valid = F.pad(values, around), F.pad(valid, around)
        rows, columns = (size // self.config.unit for size in valid.shape[-2:])
        hidden = F.pad(hidden, (0, columns - hidden.shape[-1], 0, rows - hidden.shape[-2]))
        return values, valid, hidden

    def _per_unit(self, pixels: Float[Tensor, "b t h w"]) -> Float[Tensor, "b t i j"]:
        unit = self.config.unit
        return rearrange(pixels, "b t (i p) (j q) -> b t i j (p q)", p=unit, q=unit).sum(dim=-1)

    def _check_hidden(self, hidden: Tensor, x: Tensor) -> None:
        unit = self.config.unit
        expected = (*x.shape[:2], *(-(-size // unit) for size in x.shape[-2:]))
        if hidden.shape != expected or hidden.dtype != torch.bool:
            of = f" in torch.bool, for units of {unit} pixels"
            raise misfit("hidden", hidden, x, expected, of)


def normalise(
    values: Float[Tensor, "b t c h w"],
    valid: Bool[Tensor, "b t h w"],
    hidden: Bool[Tensor, "b t i j"],
    config: MaskedConfig,
) -> Float[Tensor, "b t c h w"]:
    """Return the target of the reconstruction: the values, or what is left of them without their mean and scale.

    Over the valid pixels of each date and band ("frame"), or of each unit with all its bands ("unit"), or of all hidden
    units of the batch ("batch").
    """
    unit = config.unit
    if config.target == "values":
        return values
    if config.target == "frame":
        inside = valid[:, :, None].expand_as(values)
        return _standardise(values, inside, (-2, -1), FRAME_NOISE)
    if config.target == "batch":
        covered = repeat(hidden, "b t i j -> b t (i p) (j q)", p=unit, q=unit) & valid
        return _standardise(values, covered[:, :, None].expand_as(values), (0, 1, 2, 3, 4))
    cells = rearrange(values, "b t c (i p) (j q) -> b t i j (p q c)", p=unit, q=unit)
    count = values.shape[2]
    inside = repeat(valid, "b t (i p) (j q) -> b t i j (p q c)", p=unit, q=unit, c=count)
    cells = _standardise(cells, inside, (-1,))
    return rearrange(cells, "b t i j (p q c) -> b t c (i p) (j q)", p=unit, q=unit, c=count)


def _standardise(
    values: Float[Tensor, "*s"],
    of: Bool[Tensor, "*s"],
    axes: tuple[int, ...],
    noise: float = UNIT_NOISE,
) -> Float[Tensor, "*s"]:
    """Take away mean and scale, over `axes`, of the values that `of` marks; `noise` is added to the variance."""
    count = of.sum(dim=axes, keepdim=True).clamp(min=1)
    mean = (values * of).sum(dim=axes, keepdim=True) / count
    spread = ((values - mean).square() * of).sum(dim=axes, keepdim=True)
    variance = spread / (count - 1).clamp(min=1)
    return (values - mean) / (variance + noise).sqrt()
