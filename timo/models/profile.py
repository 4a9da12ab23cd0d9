"""The course of the year at a pixel: means of its observations in equal parts of the year, gaps filled in between."""

import torch
from einops import einsum
from jaxtyping import Bool, Float, Real
from torch import Tensor

from timo.models.bands import precise
from timo.models.embedding import YEAR

# Parts of the year of some 15 days: what a satellite of a five-day revisit sees under clouds.
PARTS = 24


def yearly_profile(
    values: Float[Tensor, "b t f h w"],
    seen: Bool[Tensor, "b t h w"],
    dates: Real[Tensor, "b t"],
    parts: int = PARTS,
) -> Float[Tensor, "b {parts} f h w"]:
    """Average the observations of each part of the year, and fill parts without any by a straight line in time.

    The year has no end: before January comes December. Series of several years become a mean year.

    Parameters
    ----------
    values : Tensor, shape (b, t, f, h, w)
        Any finite number where not `seen`.
    seen : Tensor of bool, shape (b, t, h, w)
        True where there is an observation.
    dates : Tensor, shape (b, t)
        Days since 1970-01-01, in any order.
    parts : int
        Parts of the year.

    Returns
    -------
    Tensor, shape (b, parts, f, h, w)
        Zero where a pixel was never seen.
    """
    day = dates.to(precise(dates.device)) % YEAR
    part = (day * (parts / YEAR)).long().clamp(max=parts - 1)
    within = torch.nn.functional.one_hot(part, parts).to(values.dtype)
    weight = seen.to(values.dtype)
    count = einsum(within, weight, "b t k, b t h w -> b k h w")
    total = einsum(within, values * weight[:, :, None], "b t k, b t f h w -> b k f h w")
    means = total / count.clamp(min=1)[:, :, None]
    before, after = _neighbours(count > 0)
    number = torch.arange(parts, device=values.device)[:, None, None]
    span = (after - before).clamp(min=1)
    share = ((number - before) / span).to(values.dtype)[:, :, None]
    first, last = (
        means.gather(1, (at % parts)[:, :, None].expand_as(means)) for at in (before, after)
    )
    return (1 - share) * first + share * last


def _neighbours(
    known: Bool[Tensor, "b k h w"],
) -> tuple[Real[Tensor, "b k h w"], Real[Tensor, "b k h w"]]:
    """Return the nearest known parts at or before, and at or after, each part: those of other years beyond 0..k."""
    parts = known.shape[1]
    three = torch.cat([known] * 3, dim=1)
    number = torch.arange(-parts, 2 * parts, device=known.device)[None, :, None, None]
    # Where nothing is known the numbers lie outside, and what they stand for is zero.
    before = torch.where(three, number, -parts).cummax(dim=1).values
    after = torch.where(three, number, 2 * parts).flip(1).cummin(dim=1).values.flip(1)
    middle = slice(parts, 2 * parts)
    return before[:, middle], after[:, middle]
