"""One row of the softmax of an attention: the weights of what one query looks at.

Letters: t and s dates, n places (tokens of a frame), h heads, d channels of a head. Only the query's own logits are
formed, n + t or t n of them a head, and only the keys that they need; what `timo.models.attention` does with all of
them at once is the same, and a test holds the two together.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from timo.models.attention import SpatiotemporalAttention
from timo.models.median import median_over_time
from timo.models.spatial import working_type

Heads = slice


def weights_of(
    attention: SpatiotemporalAttention,
    x: Float[Tensor, "1 t n c"],
    valid: Bool[Tensor, "1 t n"],
    *,
    date: int,
    place: int,
    heads: Heads,
) -> Float[Tensor, "h t n"]:
    """Weights over all tokens of all dates for the query at (date, place), for some heads; zero where it cannot look.

    Parameters
    ----------
    attention : SpatiotemporalAttention
        The attention.
    x, valid : Tensor
        Its input.
    date, place : int
        The query's token, which must be valid.
    heads : slice
        Which heads.
    """
    k = _project(attention, x, heads, key=True)
    if attention.kind == "global":
        q = _project(attention, x[:, date : date + 1, place : place + 1], heads)
        return _global(q[0, 0, 0], k[0], valid[0])
    own = _project(attention, x[:, :, place : place + 1], heads)
    offset: Tensor | None = None
    q = q_space = own[0, date, 0]
    k_space = k[0, date]
    if attention.gate is not None:
        q_space = median_over_time(own, valid[:, :, place : place + 1])[0, 0]
        k_space = median_over_time(k, valid)[0]
        offset = attention.gate((q - q_space)[None, None, None])[0, 0, 0]
    spatial = _logits(q_space, k_space)
    temporal = _logits(q, k[0, :, place])
    if offset is not None:
        spatial = spatial + offset[:, None].to(spatial.dtype)
    return _gyroscope(spatial, temporal, valid[0], date, place)


def _project(
    attention: SpatiotemporalAttention, x: Tensor, heads: Heads, key: bool = False
) -> Float[Tensor, "1 t n h d"]:
    """Queries or keys of some heads; the other heads, and the values, are not computed."""
    layer = attention.kv if key else attention.q
    d = x.shape[-1] // attention.heads
    # The keys are the first half of what that layer gives.
    some = slice(heads.start * d, heads.stop * d)
    bias = None if layer.bias is None else layer.bias[some]
    return F.linear(x, layer.weight[some], bias).unflatten(-1, (-1, d))


def _logits(q: Float[Tensor, "h d"], k: Float[Tensor, "n h d"]) -> Float[Tensor, "h n"]:
    dtype = working_type(k)
    return torch.einsum("hd,nhd->hn", q.to(dtype), k.to(dtype))


def _gyroscope(
    spatial: Float[Tensor, "h n"],
    temporal: Float[Tensor, "h t"],
    valid: Bool[Tensor, "t n"],
    date: int,
    place: int,
) -> Float[Tensor, "h t n"]:
    """One softmax over the own frame and the other dates of the own place."""
    t, n = valid.shape
    others = valid[:, place].clone()
    others[date] = False
    keep = torch.cat([valid[date], others])
    logits = torch.cat([spatial, temporal], dim=1).masked_fill(~keep, -math.inf)
    over_places, over_dates = logits.softmax(dim=1).split([n, t], dim=1)
    out = logits.new_zeros(len(logits), t, n)
    out[:, :, place] = over_dates
    out[:, date] = over_places
    return out


def _global(
    q: Float[Tensor, "h d"], k: Float[Tensor, "t n h d"], valid: Bool[Tensor, "t n"]
) -> Float[Tensor, "h t n"]:
    logits = _logits(q, k.flatten(0, 1)) / math.sqrt(q.shape[-1])
    return logits.masked_fill(~valid.flatten(), -math.inf).softmax(dim=1).unflatten(1, valid.shape)
