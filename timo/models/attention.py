"""Spatiotemporal gyroscope attention: a token looks along two axes, its own frame and its own place.

Letters: b samples, t dates, n places (tokens of a frame), h heads, d channels of a head. The functions here are the
plain joint softmax, written as in the paper (TiMo, section 3.2): the oracle that any faster form has to equal.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from timo.models.config import Attention


def _masked(logits: Tensor, keep: Tensor) -> Tensor:
    # The most negative finite number rather than -inf: a row without any key stays finite (its values are zeroed).
    return logits.masked_fill(~keep, torch.finfo(logits.dtype).min)


def _joint_attention(
    spatial: Float[Tensor, "b h t n n"],
    temporal: Float[Tensor, "b h n t t"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
) -> Float[Tensor, "b t n h d"]:
    """One softmax over the places of the own frame and the other dates of the own place."""
    n, t = spatial.shape[-1], temporal.shape[-1]
    others = ~torch.eye(t, dtype=torch.bool, device=v.device)
    spatial = _masked(spatial, rearrange(valid, "b t m -> b 1 t 1 m"))
    temporal = _masked(temporal, rearrange(valid, "b s n -> b 1 n 1 s") & others)
    logits = torch.cat([spatial, rearrange(temporal, "b h n t s -> b h t n s")], dim=-1)
    over_places, over_dates = logits.softmax(dim=-1).split([n, t], dim=-1)
    v = v * valid[..., None, None]
    from_frame = torch.einsum("bhtnm,btmhd->btnhd", over_places, v)
    from_place = torch.einsum("bhtns,bsnhd->btnhd", over_dates, v)
    return from_frame + from_place


def stga(
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
) -> Float[Tensor, "b t n h d"]:
    """Spatiotemporal gyroscope attention (STGA).

    Token (t, n) attends to the n tokens of its frame and the t - 1 other tokens of its place, in one softmax. There is
    no 1/sqrt(d), as published. Tokens that are not `valid` are attended by none; a token that sees no valid token gets
    zero.
    """
    spatial = torch.einsum("btnhd,btmhd->bhtnm", q, k)
    temporal = torch.einsum("btnhd,bsnhd->bhnts", q, k)
    return _joint_attention(spatial, temporal, v, valid)


def dstga(
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
    gate: nn.Module,
) -> Float[Tensor, "b t n h d"]:
    """Deviation STGA: the spatial pattern is the series' own, the gate says how far a date departs from it.

    Spatial logits are those of the medians over time of q and k, plus one scalar per query, gate(q - median q). Medians
    run over the valid dates of each place.
    """
    q_median, k_median = median_over_time(q, valid), median_over_time(k, valid)
    deviation = gate(q - q_median[:, None])
    spatial = torch.einsum("bnhd,bmhd->bhnm", q_median, k_median)[:, :, None]
    spatial = spatial + rearrange(deviation, "b t n h -> b h t n 1")
    temporal = torch.einsum("btnhd,bsnhd->bhnts", q, k)
    return _joint_attention(spatial, temporal, v, valid)


def median_over_time(
    x: Float[Tensor, "b t n h d"], valid: Bool[Tensor, "b t n"]
) -> Float[Tensor, "b n h d"]:
    """Lower median over the valid dates of each place; zero where a place has none."""
    count = valid.sum(dim=1)
    last = torch.finfo(x.dtype).max
    ordered = x.masked_fill(~valid[..., None, None], last).sort(dim=1).values
    middle = ((count - 1).clamp(min=0) // 2)[:, None, :, None, None]
    median = ordered.gather(1, middle.expand(-1, 1, -1, *x.shape[3:]))[:, 0]
    return median.masked_fill((count == 0)[..., None, None], 0.0)


def global_attention(
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
) -> Float[Tensor, "b t n h d"]:
    """Scaled dot-product attention over all valid tokens of all dates (with 1/sqrt(d)); zero where there is none."""
    t = q.shape[1]
    v = v * valid[..., None, None]
    q, k, v = (rearrange(z, "b t n h d -> b h (t n) d") for z in (q, k, v))
    keep = rearrange(valid, "b t n -> b 1 1 (t n)")
    # A sample without one valid token sees its (zeroed) tokens: attention over nothing is undefined. The mask is
    # given even where it hides nothing: to ask would wait for the device, and a gap in one sample would change how
    # its neighbours are computed.
    keep = keep | ~keep.any(dim=-1, keepdim=True)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
    return rearrange(out, "b h (t n) d -> b t n h d", t=t)


class Gate(nn.Module):
    """D' of D-STGA: how far a query departs from its median, as one non-negative number per query.

    The Linear is shared by the heads. "batch" normalises over all queries of the batch as published; "layer" has a
    learnt scale and offset instead, so that a sample's output does not depend on its neighbours in the batch. The
    statistics of "batch" count tokens without an observation too.
    """

    def __init__(self, head_dim: int, norm: str) -> None:
        super().__init__()
        self.linear = nn.Linear(head_dim, 1, bias=False)
        self.norm = nn.BatchNorm1d(1) if norm == "batch" else Affine(1)

    def forward(self, deviation: Float[Tensor, "b t n h d"]) -> Float[Tensor, "b t n h"]:
        scalar = self.linear(deviation)
        # BatchNorm's statistics run over rows: in the published code over b, h, t and n alike.
        return F.relu(self.norm(scalar.reshape(-1, 1)).reshape(scalar.shape[:-1]))


class Affine(nn.Module):
    """A learnt scale and offset per channel, last axis."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "... c"]) -> Float[Tensor, "... c"]:
        return x * self.weight + self.bias


class SpatiotemporalAttention(nn.Module):
    """Multi-head attention over the tokens of a series: global, STGA or D-STGA."""

    def __init__(self, dim: int, heads: int, kind: Attention, norm: str) -> None:
        super().__init__()
        self.heads, self.kind = heads, kind
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.gate = Gate(dim // heads, norm) if kind == "d-stga" else None

    def forward(
        self, x: Float[Tensor, "b t n c"], valid: Bool[Tensor, "b t n"]
    ) -> Float[Tensor, "b t n c"]:
        q = rearrange(self.q(x), "b t n (h d) -> b t n h d", h=self.heads)
        k, v = rearrange(self.kv(x), "b t n (two h d) -> two b t n h d", two=2, h=self.heads)
        if self.gate is not None:
            out = dstga(q, k, v, valid, self.gate)
        else:
            out = (stga if self.kind == "stga" else global_attention)(q, k, v, valid)
        return self.proj(rearrange(out, "b t n h d -> b t n (h d)"))
