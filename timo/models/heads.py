"""From the encoder's maps to answers: a head for pixels and parcels, a head for chips."""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from timo.models.embedding import ChannelNorm, convolve_cell
from timo.models.frames import Frames
from timo.models.tokens import FULL

POOL_SIZES = (1, 2, 3, 6)
# Ways in which a series is summed up over its dates.
DATE_GROUPS = 8


class Layer(nn.Sequential):
    """Convolution, norm and ReLU; `cell` says that a frame is one cell, around which there is nothing."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        # Normalised over the channels of each place, not over the batch: a prediction stays that of its own sample.
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            ChannelNorm(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Float[Tensor, "f c h w"], cell: bool = False) -> Float[Tensor, "f d h w"]:
        conv, norm, relu = self
        assert isinstance(conv, nn.Conv2d)
        return relu(norm(convolve_cell(conv, x) if cell else conv(x)))


def _is_cell(x: Float[Tensor, "*s h w"]) -> bool:
    return x.shape[-2:] == (1, 1)


def _resize(x: Float[Tensor, "f c h w"], size: Sequence[int]) -> Float[Tensor, "f c h2 w2"]:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def enlarge(
    frames: Float[Tensor, "f d i j"], size: Sequence[int], token: int = FULL
) -> Float[Tensor, "f d h w"]:
    """Enlarge features of tokens of 4, 2 or 1 pixels to full resolution."""
    height, width = size
    if _is_cell(frames):
        return frames.expand(-1, -1, height, width)
    # Exactly so many pixels to a token, then cropped: a size that is no multiple of it does not shift the map.
    return _resize(frames, [token * s for s in frames.shape[-2:]])[..., :height, :width]


class PyramidPooling(nn.Module):
    """Context of the whole frame at several grains, beside the map itself (Zhao et al. 2017)."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.pools = nn.ModuleList(Layer(dim, width, 1) for _ in POOL_SIZES)
        self.merge = Layer(dim + len(POOL_SIZES) * width, width, 3)

    def forward(self, x: Float[Tensor, "f c h w"], cell: bool) -> Float[Tensor, "f d h w"]:
        if cell:
            # One cell is the same at every grain.
            pooled = [layer(x, cell) for layer in self.pools]
        else:
            pooled = [
                _resize(layer(F.adaptive_avg_pool2d(x, size)), x.shape[-2:])
                for layer, size in zip(self.pools, POOL_SIZES, strict=True)
            ]
        return self.merge(torch.cat([x, *pooled], dim=1), cell)


class UPerNet(nn.Module):
    """Unified perceptual parsing head (Xiao et al. 2018): pyramid pooling on the coarsest map, a feature pyramid below.

    Works on single frames; gives features at the finest map's resolution.
    """

    def __init__(self, dims: Sequence[int], width: int) -> None:
        super().__init__()
        self.context = PyramidPooling(dims[-1], width)
        self.laterals = nn.ModuleList(Layer(dim, width, 1) for dim in dims[:-1])
        self.smooth = nn.ModuleList(Layer(width, width, 3) for _ in dims[:-1])
        self.fuse = Layer(len(dims) * width, width, 3)

    def forward(self, maps: list[Float[Tensor, "f _dim _i _j"]]) -> Float[Tensor, "f d i j"]:
        cell = _is_cell(maps[0])
        finer = [lateral(x, cell) for lateral, x in zip(self.laterals, maps, strict=False)]
        levels = [*finer, self.context(maps[-1], cell)]
        for i in range(len(levels) - 1, 0, -1):
            levels[i - 1] = levels[i - 1] + _resize(levels[i], levels[i - 1].shape[-2:])
        smoothed = [layer(x, cell) for layer, x in zip(self.smooth, levels, strict=False)]
        levels = [_resize(x, maps[0].shape[-2:]) for x in (*smoothed, levels[-1])]
        return self.fuse(torch.cat(levels, dim=1), cell)


class Detail(nn.Module):
    """Full-resolution features of the pixel and its neighbours.

    The encoder's finest map has, by default, a stride of 4 pixels: 40 m on Sentinel-2, as wide as a small clearing.
    This path gives the head the outline back; the encoder says what it is.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Layer(in_channels + 1, width, 3), Layer(width, width, 3))

    def forward(self, x: Float[Tensor, "f c h w"]) -> Float[Tensor, "f d h w"]:
        for layer in self.layers:
            x = layer(x, _is_cell(x))
        return x


class DatePooling(nn.Module):
    """Features of a series at each pixel: their mean over the dates, with learned weights, beside their maximum.

    Each group of channels weighs the dates in its own way (after L-TAE, Garnot & Landrieu 2020, section 3). A maximum
    alone, as published, is drawn by the one date that is off, the more so the more dates there are.
    """

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.score = nn.Conv2d(width, groups, 1)
        self.merge = Layer(2 * width, width, 1)

    def forward(
        self, series: Float[Tensor, "b t d h w"], valid: Bool[Tensor, "b t h w"]
    ) -> Float[Tensor, "b d h w"]:
        """Pool over the dates on which the pixel was seen, or where it never was, on which anything was."""
        seen = valid.flatten(2).any(dim=-1)[:, :, None, None].expand_as(valid)
        counts = torch.where(valid.any(dim=1, keepdim=True), valid, seen)
        scores = self.score(rearrange(series, "b t d h w -> (b t) d h w"))
        scores = rearrange(scores, "(b t) g h w -> b t g 1 h w", b=len(series))
        # Not minus infinity: a series without any observation would have no weights at all.
        scores = scores.masked_fill(~counts[:, :, None, None], torch.finfo(scores.dtype).min)
        parts = rearrange(series, "b t (g d) h w -> b t g d h w", g=self.groups)
        mean = (parts * scores.softmax(dim=1)).sum(dim=1).flatten(1, 2)
        # Features end in a ReLU: zero is what a date without data adds to the maximum.
        highest = (series * counts[:, :, None]).amax(dim=1)
        return self.merge(torch.cat([mean, highest], dim=1))


class SegmentationHead(nn.Module):
    """Scores of every pixel, for each date or for the series: of classes, or of the numbers that a regression gives.

    `dims` are the channels of the encoder's four maps, `in_channels` the bands, or those of each of several groups,
    `width` the channels inside the head, `detail` those of the full-resolution path; 0 leaves it out, as published;
    `token` the pixels to a side of a token of the finest map.
    """

    def __init__(
        self,
        dims: Sequence[int],
        *,
        in_channels: int | Sequence[int],
        classes: int,
        width: int,
        detail: int,
        dropout: float,
        per_date: bool = True,
        token: int = FULL,
    ) -> None:
        super().__init__()
        self.token = token
        sizes = [in_channels] if isinstance(in_channels, int) else list(in_channels)
        self.groups = tuple(sizes) if len(sizes) > 1 else ()
        self.pyramid = UPerNet(dims, width)
        last = 2 * detail or width
        # Narrowed before it is enlarged: what happens at full resolution is what costs.
        self.narrow = Layer(width, last, 1) if detail else nn.Identity()
        self.detail = Detail(sizes[0], detail) if detail else None
        self.merge = Layer(last + detail, last, 1) if detail else None
        self.over_dates = None if per_date else DatePooling(last, math.gcd(last, DATE_GROUPS))
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(last, classes, 1))
        if self.groups and detail:
            # Drawn apart: all else begins as in a head of the first group.
            with torch.random.fork_rng(devices=[]):
                self.details = nn.ModuleList(Detail(size, detail) for size in sizes[1:])

    def forward(
        self,
        maps: list[Float[Tensor, "b _f _dim _i _j"]],
        image: Float[Tensor, "b t c h w"],
        valid: Bool[Tensor, "b t *g h w"],
    ) -> Float[Tensor, "b ..."]:
        """Compute scores (b, t, k, h, w) per date, or (b, k, h, w) of the series.

        The image must be zero where it is not valid.
        """
        return self.finish(self.coarse(maps), image, valid)

    def coarse(self, maps: list[Float[Tensor, "b _f _dim _i _j"]]) -> Float[Tensor, "f d i j"]:
        """Do all that is done at the resolution of the encoder's finest map, every frame by itself."""
        frames = self.pyramid([rearrange(m, "b t c i j -> (b t) c i j") for m in maps])
        if isinstance(self.narrow, Layer):
            return self.narrow(frames, _is_cell(frames))
        return frames

    def finish(
        self,
        frames: Float[Tensor, "f d i j"],
        image: Float[Tensor, "b t c h w"],
        valid: Bool[Tensor, "b t *g h w"],
    ) -> Float[Tensor, "b ..."]:
        """Compute scores from what `coarse` gave: all that is done at full resolution."""
        b = len(image)
        of = Frames.of(valid) if self.groups else None
        full = enlarge(frames, image.shape[-2:], self.token)
        if self.merge is not None:
            fine = self._fine(image, valid, of)
            full = self.merge(torch.cat([full, fine], dim=1), _is_cell(image))
        if self.over_dates is not None:
            series = rearrange(full, "(b t) d h w -> b t d h w", b=b)
            return self.classifier(self.over_dates(series, valid if of is None else of.valid))
        scores = rearrange(self.classifier(full), "(b t) k h w -> b t k h w", b=b)
        # The classifier is linear: this is the score of the mean of the features.
        return scores if of is None else of.mean_by_date(scores)

    def _fine(
        self,
        image: Float[Tensor, "b t c h w"],
        valid: Bool[Tensor, "b t *g h w"],
        of: Frames | None,
    ) -> Float[Tensor, "f d h w"]:
        """Return the features of the full-resolution path, frame by frame."""
        assert self.detail is not None
        if of is None:
            pixels = torch.cat([image, valid[:, :, None].to(image.dtype)], dim=2)
            return self.detail(rearrange(pixels, "b t c h w -> (b t) c h w"))
        flags = valid.to(image.dtype).split(1, dim=2)
        parts = image.split(self.groups, dim=2)
        with_flags = [torch.cat(pair, dim=2) for pair in zip(parts, flags, strict=True)]
        return of.each(with_flags, [self.detail, *self.details]).flatten(0, 1)


class ChipHead(nn.Module):
    """Scores of a chip from the coarsest map: mean over its places, per date or over the dates too."""

    def __init__(self, dim: int, outputs: int, token: int = FULL) -> None:
        super().__init__()
        self.stride = 8 * token
        self.classifier = nn.Linear(dim, outputs)

    def forward(
        self,
        maps: list[Float[Tensor, "b _f _dim _i _j"]],
        valid: Bool[Tensor, "b t *g h w"],
        per_date: bool = False,
    ) -> Float[Tensor, "b ..."]:
        """Compute scores (b, t, k) per date, or (b, k) of the series; places and dates without data do not count."""
        coarse = maps[-1]
        of = Frames.of(valid) if valid.ndim == 5 else None
        rows, columns = coarse.shape[-2:]
        stride = self.stride
        height, width = valid.shape[-2:]
        padded = F.pad(
            (valid if of is None else of.valid).to(coarse.dtype),
            (0, columns * stride - width, 0, rows * stride - height),
        )
        weight = F.max_pool2d(padded, stride)[:, :, None]
        over = (-2, -1) if per_date else (1, -2, -1)
        total, count = (coarse * weight).sum(dim=over), weight.sum(dim=over)
        if per_date and of is not None:
            total, count = of.add_by_date(total), of.add_by_date(count)
        return self.classifier(total / count.clamp(min=1))


def pool_parcels(
    scores: Float[Tensor, "b k h w"],
    parcels: Int[Tensor, "b h w"],
    observed: Bool[Tensor, "b h w"],
) -> tuple[Float[Tensor, "n k"], Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return the mean score over the observed pixels of each parcel.

    The classifier is linear: this is the score of the features pooled over the parcel.

    Parameters
    ----------
    scores : Tensor, shape (b, k, h, w)
        Scores of pixels.
    parcels : Tensor of int, shape (b, h, w)
        Number of the parcel of each pixel, -1 for none; a number means another parcel in each sample.
    observed : Tensor of bool, shape (b, h, w)
        Pixels with an observation on any date.

    Returns
    -------
    pooled : Tensor, shape (n, k)
        One row a parcel with an observed pixel, ordered by sample and number.
    sample, parcel : Tensor of int, shape (n,)
        Position in the batch, and number of the parcel.
    """
    here = observed & (parcels >= 0)
    sample, span = here.nonzero()[:, 0], parcels.amax().long() + 1
    keys = sample * span + parcels[here].long()
    found, row, count = keys.unique(return_inverse=True, return_counts=True)
    total = scores.new_zeros(len(found), scores.shape[1])
    total = total.index_add(0, row, scores.movedim(1, -1)[here])
    return (
        total / count[:, None].to(total.dtype),
        found // span.clamp(min=1),
        found % span.clamp(min=1),
    )
