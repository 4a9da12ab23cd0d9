"""The TiMo encoder: four stages, attention across dates and places in each (arXiv 2505.08723, section 3)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Real
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from timo.checks import checked
from timo.errors import TimoError
from timo.models.attention import SpatiotemporalAttention
from timo.models.bands import WavelengthConv, Wavelengths, check_fit
from timo.models.config import Attention, Channels, EncoderConfig, encoder_config
from timo.models.embedding import Downsample, FourierDates, Position, Stem
from timo.models.frames import Frames, finite, spread
from timo.models.masking import units_with_any
from timo.models.packed import Layout, worth_packing
from timo.models.tokens import log_share


class DropPath(nn.Module):
    """Stochastic depth: a residual branch is left out for whole samples (Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, x: Float[Tensor, "r ..."], layout: Layout | None = None
    ) -> Float[Tensor, "r ..."]:
        if not self.training or self.rate == 0:
            return x
        samples = len(x) if layout is None else len(layout.valid)
        keep = x.new_empty(samples).bernoulli_(1 - self.rate)
        of_rows = keep.view(-1, *[1] * (x.ndim - 1)) if layout is None else layout.per_token(keep)
        return x * of_rows / (1 - self.rate)


class Block(nn.Module):
    """Pre-norm transformer block over the tokens of a series: all of them (b t n c), or the packed ones of a layout."""

    def __init__(
        self, dim: int, heads: int, kind: Attention, config: EncoderConfig, drop_path: float
    ) -> None:
        super().__init__()
        hidden = dim * config.mlp_ratio
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = SpatiotemporalAttention(
            dim, heads, kind, config.norm, log_share(config.token)
        )
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "*r c"], valid: Bool[Tensor, "b t n"], layout: Layout | None = None
    ) -> Float[Tensor, "*r c"]:
        x = x + self.drop_path(self.attention(self.norm1(x), valid, layout), layout)
        return x + self.drop_path(self.mlp(self.norm2(x)), layout)


def recomputed(block: nn.Module) -> Callable[..., Tensor]:
    """Return the block, whose inside training computes a second time for its gradients instead of keeping it."""
    if not (block.training and torch.is_grad_enabled()):
        return block
    return partial(
        checkpoint, block, use_reentrant=False, context_fn=lambda: (nullcontext(), _counted(block))
    )


@contextmanager
def _counted(block: nn.Module) -> Iterator[None]:
    """Count no batch statistics of the block: they have been counted."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm1d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


class Stage(nn.Module):
    """Blocks of one resolution, closed by a LayerNorm."""

    def __init__(self, index: int, config: EncoderConfig) -> None:
        super().__init__()
        first, last = sum(config.depths[:index]), max(sum(config.depths) - 1, 1)
        dim, heads, kind = (getattr(config, f)[index] for f in ("dims", "heads", "attention"))
        self.kind: Attention = kind
        self.blocks = nn.ModuleList(
            Block(dim, heads, kind, config, config.drop_path * (first + i) / last)
            for i in range(config.depths[index])
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.checkpoint = config.checkpoint

    def forward(
        self, x: Float[Tensor, "b t i j c"], valid: Bool[Tensor, "b t i j"], packed: bool = False
    ) -> Float[Tensor, "b t i j c"]:
        rows = x.shape[2]
        tokens, keep = rearrange(x, "b t i j c -> b t (i j) c"), valid.flatten(2)
        layout = worth_packing(keep) if packed else None
        if layout is None:
            tokens = self._run(tokens, keep)
        else:
            joint = self.kind == "global"
            close = (layout.in_one_row() if joint else layout).closed_up()
            tokens = layout.unpack(self._run(layout.pack(tokens), close.valid, close))
        return rearrange(tokens, "b t (i j) c -> b t i j c", i=rows)

    def _run(
        self,
        tokens: Float[Tensor, "*r c"],
        valid: Bool[Tensor, "b t n"],
        layout: Layout | None = None,
    ) -> Float[Tensor, "*r c"]:
        for block in self.blocks:
            tokens = (recomputed(block) if self.checkpoint else block)(tokens, valid, layout)
        return self.norm(tokens)


class TiMoEncoder(nn.Module):
    """Hierarchical spatiotemporal vision transformer.

    Every frame goes through the same convolutions; attention mixes the frames. Takes any height, width and number of
    dates: the input is padded to whole tokens with invalid pixels inside, and no valid token attends to invalid ones.
    How fine its tokens are is a choice (`EncoderConfig.token`), with the same weights for each.
    Of several groups of bands each has a stem (`EncoderConfig.parts`), and attention mixes the frames of all.

    Parameters
    ----------
    config : EncoderConfig
    """

    @checked
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(next(part for part in config.parts if part.stem == config.stem))
        self.position = Position(config)
        self.downsamples = nn.ModuleList(
            Downsample(a, b) for a, b in zip(config.dims[:-1], config.dims[1:], strict=True)
        )
        self.stages = nn.ModuleList(Stage(i, config) for i in range(4))
        self.apply(_initialise)
        if config.groups:
            # Drawn apart: all else begins as in an encoder of the first group.
            with torch.random.fork_rng(devices=[]):
                self._add_groups(config)

    def _add_groups(self, config: EncoderConfig) -> None:
        """Add what further groups of bands need: stems, and a code that sets their tokens apart from the first's.

        Groups known by their wavelengths share the stem that makes kernels of those.
        """
        parts = list(enumerate(config.parts))
        first = next(n for n, part in parts if part.stem == config.stem)
        shared = [n for n, part in parts if part.stem == config.stem == "wavelength"] or [first]
        self.stems = nn.ModuleDict({str(n): Stem(p) for n, p in parts if n not in shared})
        self.stems.apply(_initialise)
        self.group_code = nn.Parameter(torch.empty(len(config.groups) - 1, config.dims[0]))
        nn.init.normal_(self.group_code, std=0.02)

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None = None,
        valid: Bool[Tensor, "b t *g h w"] | None = None,
        wavelengths: Wavelengths | None = None,
        packed: bool = False,
    ) -> list[Float[Tensor, "b _f _dim _i _j"]]:
        """Compute four feature maps per date, at the strides of the config (4, 8, 16 and 32; sizes rounded up).

        Of several groups of bands, the maps are of the frames (`timo.models.frames.Frames.of(valid)`).

        Parameters
        ----------
        x : Tensor, shape (b, t, c, h, w)
            Normalised bands. What stands where `valid` is false is never read.
        dates : Tensor, shape (b, t), optional
            Days since 1970-01-01, in any order. None: frames count as 0..t-1; several groups of bands need dates.
        valid : Tensor of bool, shape (b, t, h, w), or (b, t, g, h, w) for several groups of bands, optional
            True where there is an observation. None: everywhere.
        wavelengths : Tensor of shape (c,) or sequence of float, optional
            What the bands of `x` are, for an encoder with ``stem="wavelength"``: micrometres, or the codes of
            `timo.sensors.POLARISATIONS`. In any number and order; permuted with the bands they change nothing. None:
            the config's.
        packed : bool
            Whether to skip tokens without a valid pixel: they are left out of all blocks, and their features are
            zero. The other tokens, and all gradients, are the same up to the rounding of the matrix products. Not for
            the segmentation head, which predicts what is under a cloud from what the cloud's token gathered. Without
            effect where few tokens are invalid, and in training with ``norm="batch"``, whose statistics count all
            tokens. Stem and downsampling convolutions are dense in any case.

        Raises
        ------
        TimoError
            If the shapes do not fit each other or the config, or no band has one of the wavelengths.
        """
        if wavelengths is not None:
            check_fit(x, wavelengths)
        groups, channels = self.config.groups, self.config.in_channels
        check_series(x, dates, valid, channels if wavelengths is None else x.shape[2], groups)
        if valid is None:
            valid = torch.ones_like(finite(x, groups))
        packed = packed and not (self.training and self.config.norm == "batch")
        x, valid = _pad(torch.where(spread(valid, groups), x, 0.0), valid, self.config.token)
        if groups:
            tokens, keep = self._embed_groups(x, dates, valid)
        else:
            frames = self.stem(rearrange(x, "b t c h w -> (b t) c h w"), wavelengths)
            tokens = rearrange(frames, "(b t) i j c -> b t i j c", b=len(x))
            keep = units_with_any(valid, self.config.token)
            tokens = self.position(tokens, dates, keep.flatten(2).any(dim=-1))
        maps = []
        for index, stage in enumerate(self.stages):
            if index:
                # A token without observation is to the next convolution what lies outside the image: zero.
                frames = rearrange(tokens * keep[..., None], "b t i j c -> (b t) i j c")
                frames = self.downsamples[index - 1](frames)
                tokens = rearrange(frames, "(b t) i j c -> b t i j c", b=len(x))
                keep = _merged(keep)
            tokens = stage(tokens, keep, packed)
            maps.append(rearrange(tokens, "b t i j c -> b t c i j"))
        return maps

    def _embed_groups(
        self,
        x: Float[Tensor, "b t c h w"],
        dates: Real[Tensor, "b t"] | None,
        valid: Bool[Tensor, "b t g h w"],
    ) -> tuple[Float[Tensor, "b f i j d"], Bool[Tensor, "b f i j"]]:
        """Return the tokens of the frames of several groups of bands, and which have an observation."""
        if dates is None:
            raise TimoError(
                "a series of several groups of bands needs the dates of its observations: give dates (b, t)"
            )
        frames = Frames.of(valid)
        tokens = frames.each(x.split(self.config.groups, dim=2), self._stems())
        keep = units_with_any(frames.valid, self.config.token)
        tokens = self.position(tokens, dates.gather(1, frames.dates), keep.flatten(2).any(dim=-1))
        code = torch.cat([torch.zeros_like(self.group_code[:1]), self.group_code])
        return tokens + code[frames.groups][:, :, None, None], keep

    def _stems(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Yield the stem of each group of bands."""
        for number, part in enumerate(self.config.parts):
            known = part.wavelengths if part.stem == "wavelength" else None
            own = str(number) in self.stems
            yield partial(self.stems[str(number)] if own else self.stem, wavelengths=known)


class PhysicalModel(nn.Module):
    """A model that takes physical values and normalises them itself, by the mean and std of each band."""

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], groups: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.groups = groups
        # Part of the config, not of the weights.
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def normalise(
        self, x: Float[Tensor, "b t c h w"], valid: Bool[Tensor, "b t *g h w"] | None = None
    ) -> tuple[Float[Tensor, "b t c h w"], Bool[Tensor, "b t *g h w"]]:
        """Return values as the encoder reads them, zero where there is no observation; and where there is one."""
        complete = finite(x, self.groups)
        valid = complete if valid is None else valid & complete
        return torch.where(spread(valid, self.groups), (x - self.mean) / self.std, 0.0), valid


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make weights on the CPU from a seed; torch's own generator goes on as if nothing had been drawn."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed every accelerator, and those are not put back.
        torch.random.default_generator.manual_seed(seed)
        yield


def check_series(
    x: Tensor,
    dates: Tensor | None,
    valid: Tensor | None,
    channels: int,
    groups: tuple[int, ...] = (),
) -> None:
    """Refuse a series that does not fit a model, or itself, before it is broadcast into something else.

    `x` is to be (b, t, channels, h, w) in floating point, `dates` (b, t), `valid` boolean of shape (b, t, h, w), or
    (b, t, g, h, w) for several groups of bands.
    """
    for name, given in (("x", x), ("dates", dates), ("valid", valid)):
        if given is not None and not isinstance(given, Tensor):
            raise TimoError(
                f"{name} must be a torch.Tensor; got {type(given).__name__}. torch.from_numpy makes one of an array"
            )
    if x.ndim != 5 or x.shape[2] != channels or 0 in x.shape or not x.is_floating_point():
        raise TimoError(
            f"expected x of shape (b, t, {channels}, h, w), none of them 0, in floating point, got "
            f"{tuple(x.shape)} in {x.dtype}"
        )
    if dates is not None and dates.shape != x.shape[:2]:
        raise misfit("dates", dates, x, tuple(x.shape[:2]))
    expected = (*x.shape[:2], *([len(groups)] if groups else []), *x.shape[3:])
    if valid is not None and (valid.shape != expected or valid.dtype != torch.bool):
        raise misfit("valid", valid, x, expected, " in torch.bool")


def misfit(
    name: str, found: Tensor, x: Tensor, expected: tuple[int, ...], of: str = ""
) -> TimoError:
    """Return the error of a tensor that does not fit the series it comes with."""
    return TimoError(
        f"{name} of shape {tuple(found.shape)} in {found.dtype} does not fit x of shape {tuple(x.shape)}: "
        f"expected {expected}{of}"
    )


def _pad(
    x: Float[Tensor, "b t c h w"], valid: Bool[Tensor, "b t *g h w"], token: int
) -> tuple[Float[Tensor, "b t c h2 w2"], Bool[Tensor, "b t *g h2 w2"]]:
    """Add zeros, marked invalid, to the right and below, up to whole tokens of the first stage."""
    down, right = (-x.shape[-2] % token), (-x.shape[-1] % token)
    if not (down or right):
        return x, valid
    return F.pad(x, (0, right, 0, down)), F.pad(valid, (0, right, 0, down))


def _merged(keep: Bool[Tensor, "b t i j"]) -> Bool[Tensor, "b t i2 j2"]:
    """Return whether tokens twice as large hold an observation; the last of an odd number is one of a single token."""
    rows, columns = keep.shape[-2:]
    return units_with_any(F.pad(keep, (0, columns % 2, 0, rows % 2)), 2)


def _initialise(module: nn.Module) -> None:
    # A module comes after those that it is made of.
    if isinstance(module, WavelengthConv | FourierDates):
        module.reset_parameters()
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@checked
def create_encoder(size: str = "tiny", bands: Channels = 10, **overrides: Any) -> TiMoEncoder:
    """Make an encoder of a named size with random weights.

    Parameters
    ----------
    size : {"tiny", "small", "base", "large", "huge"}
    bands : int
        Number of bands of the input.
    **overrides
        Fields of `EncoderConfig`, e.g. ``attention=("stga",) * 4``.

    Raises
    ------
    TimoError
        If the size or an option is unknown.
    """
    return TiMoEncoder(encoder_config(size, bands, **overrides))
