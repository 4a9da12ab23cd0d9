"""The median over the valid dates of each place, by a sorting network.

``torch.sort`` along an axis of a few dates takes longer than the attention it feeds. A sorting network needs only
elementwise minima and maxima of whole frames, which run at the speed of memory.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Numbers that a pass works on: its frames stay in the processor's cache between the comparisons.
_IN_CACHE = 512 * 1024
# Of so few numbers (series of single pixels) it is the number of calls that costs: all dates are sorted in one.
_FEW = 16 * 1024


@cache
def comparators(count: int) -> tuple[tuple[int, int], ...]:
    """List pairs (i, j), i < j, to be put in order one after the other: Batcher's merge exchange (Knuth 5.2.2, M).

    Comparisons that only order what lies above the lower median of all `count` are left out.
    """
    pairs = []
    p = top = 1 << max((count - 1).bit_length() - 1, 0)
    while p:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    needed, kept = set(range((count + 1) // 2)), []
    for pair in reversed(pairs):
        if needed & set(pair):
            needed |= set(pair)
            kept.append(pair)
    return tuple(reversed(kept))


def _frames_in_order(x: Tensor, valid: Tensor) -> list[Tensor]:
    """Sort the frames of x (b t n h d) place by place up to the lower median; what is not valid counts as last."""
    frames = [*x.masked_fill(~valid[..., None, None], torch.finfo(x.dtype).max).unbind(1)]
    spare = torch.empty_like(frames[0])
    for i, j in comparators(len(frames)):
        low, high = frames[i], frames[j]
        torch.minimum(low, high, out=spare)
        torch.maximum(low, high, out=high)
        frames[i], spare = spare, low
    return frames


def _median(x: Tensor, valid: Tensor) -> Tensor:
    count = valid.sum(dim=1)[..., None, None]
    if x.numel() <= _FEW:
        hidden = x.masked_fill(~valid[..., None, None], torch.finfo(x.dtype).max)
        middle = (count.clamp(min=1) - 1) // 2
        ordered = hidden.sort(dim=1).values
        median = ordered.gather(1, middle[:, None].expand(-1, 1, -1, *x.shape[3:]))[:, 0]
        return median.masked_fill(count == 0, 0.0)
    frames = _frames_in_order(x, valid)
    median = frames[0]
    for rank in range(1, (len(frames) + 1) // 2):
        # Rank r is the lower median of 2r + 1 or 2r + 2 dates.
        median = torch.where(count > 2 * rank, frames[rank], median)
    return median.masked_fill(count == 0, 0.0)


def _passes(x: Tensor) -> list[slice]:
    n = x.shape[2]
    step = max(_IN_CACHE * n // max(x.numel(), 1), 1)
    # On an accelerator one pass: it has no such cache, and every pass costs a launch.
    step = step if x.device.type == "cpu" else n
    return [slice(i, i + step) for i in range(0, n, step)]


@torch.library.custom_op(
    "timo::lower_median", mutates_args=(), schema="(Tensor x, Tensor valid) -> Tensor"
)
def _lower_median(x: Tensor, valid: Tensor) -> Tensor:
    out = x.new_empty(x.shape[:1] + x.shape[2:])
    for places in _passes(x):
        out[:, places] = _median(x[:, :, places], valid[:, :, places])
    return out


@torch.library.custom_op(
    "timo::lower_median_backward",
    mutates_args=(),
    schema="(Tensor gradient, Tensor median, Tensor x, Tensor valid) -> Tensor",
)
def _lower_median_backward(gradient: Tensor, median: Tensor, x: Tensor, valid: Tensor) -> Tensor:
    """Give the gradient to the date that gave the median, the first of those if it was measured twice."""
    if x.numel() <= _FEW:
        hit = (x == median[:, None]) & valid[..., None, None]
        first = hit.byte().argmax(dim=1, keepdim=True)
        given = torch.where(hit.any(dim=1, keepdim=True), gradient[:, None], 0.0)
        return torch.zeros_like(x).scatter_(1, first, given)
    out = x.new_empty(x.shape)
    for places in _passes(x):
        here, middle = gradient[:, places], median[:, places]
        given = torch.zeros_like(middle, dtype=torch.bool)
        for t in range(x.shape[1]):
            hit = (x[:, t, places] == middle) & valid[:, t, places, None, None] & ~given
            out[:, t, places] = torch.where(hit, here, 0.0)
            given |= hit
    return out


@_lower_median.register_fake
def _(x: Tensor, valid: Tensor) -> Tensor:
    return x.new_empty(x.shape[:1] + x.shape[2:])


@_lower_median_backward.register_fake
def _(gradient: Tensor, median: Tensor, x: Tensor, valid: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    return torch.ops.timo.lower_median_backward(gradient, *ctx.saved_tensors), None


_lower_median.register_autograd(_differentiate, setup_context=_save)


def median_over_time(
    x: Float[Tensor, "b t n h d"], valid: Bool[Tensor, "b t n"]
) -> Float[Tensor, "b n h d"]:
    """Return the lower median over the valid dates of each place; zero where a place has none.

    What stands at dates that are not valid, NaN included, is not read.
    """
    return torch.ops.timo.lower_median(x, valid)
