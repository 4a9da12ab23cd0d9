"""Spatiotemporal gyroscope attention: a token looks along two axes, its own frame and its own place.

Letters: b samples, t dates, n places (tokens of a frame), h heads, d channels of a head. What is computed is the joint
softmax of the paper (TiMo, section 3.2), spelt out in `tests/plain_attention.py`; how it is computed in neither the
time nor the memory of its b h t n^2 logits is in `timo.models.fused`.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from timo.models.config import Attention
from timo.models.fused import gyroscope
from timo.models.median import median_over_time
from timo.models.packed import Layout


def stga(
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
    log_share: float = 0.0,
) -> Float[Tensor, "b t n h d"]:
    """Attend along the own frame and the own place: spatiotemporal gyroscope attention (STGA).

    Token (t, n) attends to the n tokens of its frame and the t - 1 other tokens of its place, in one softmax. There is
    no 1/sqrt(d), as published. Tokens that are not `valid` are never attended to; a token that sees no valid token gets
    zero. Logits and softmax are in float32 at least. `log_share` is added to the logits of the own frame.
    """
    offset = q.new_full(q.shape[:-1], log_share) if log_share else None
    return gyroscope(q.flatten(0, 1), k.flatten(0, 1), q, k, v, offset, valid)


def dstga(
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
    gate: nn.Module,
) -> Float[Tensor, "b t n h d"]:
    """Attend by deviation STGA: one spatial pattern for the series, and a gate for how far a date departs from it.

    Spatial logits are those of the medians over time of q and k, plus one scalar per query, gate(q - median q). Medians
    run over the valid dates of each place.
    """
    q_median, k_median = median_over_time(q, valid), median_over_time(k, valid)
    deviation = gate(q - q_median[:, None])
    return gyroscope(q_median, k_median, q, k, v, deviation, valid)


def global_attention(
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
) -> Float[Tensor, "b t n h d"]:
    """Attend to all valid tokens of all dates, by scaled dot products (with 1/sqrt(d)); zero where there is none."""
    t = q.shape[1]
    q, k, v = (rearrange(z, "b t n h d -> b h (t n) d") for z in (q, k, v))
    keep = rearrange(valid, "b t n -> b 1 1 (t n)")
    # A sample without one valid token sees them all, and then nothing of it: attention over nothing is undefined. The
    # mask is given even where it hides nothing, which costs no measurable time: to ask would wait for the device, and
    # a gap in one sample would change how its neighbours are computed.
    some = keep.any(dim=-1, keepdim=True)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=keep | ~some) * some
    return rearrange(out, "b h (t n) d -> b t n h d", t=t)


class Gate(nn.Module):
    """D' of D-STGA: how far a query departs from its median, as one non-negative number per query.

    The Linear is shared by the heads. "batch" normalises over all queries of the batch as published; "layer" has a
    learnt scale and offset instead, so that a sample's output does not depend on its neighbours in the batch. The
    statistics of "batch" count tokens without an observation too. `log_share` is added (`timo.models.tokens`).
    """

    def __init__(self, head_dim: int, norm: str, log_share: float = 0.0) -> None:
        super().__init__()
        self.log_share = log_share
        self.linear = nn.Linear(head_dim, 1, bias=False)
        self.norm = nn.BatchNorm1d(1) if norm == "batch" else Affine(1)

    def forward(self, deviation: Float[Tensor, "b t n h d"]) -> Float[Tensor, "b t n h"]:
        scalar = self.linear(deviation)
        # BatchNorm's statistics run over rows: in the published code over b, h, t and n alike.
        scalar = F.relu(self.norm(scalar.reshape(-1, 1)).reshape(scalar.shape[:-1]))
        return scalar + self.log_share if self.log_share else scalar


class Affine(nn.Module):
    """A learnt scale and offset per channel, last axis."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "... c"]) -> Float[Tensor, "... c"]:
        return x * self.weight + self.bias


class SpatiotemporalAttention(nn.Module):
    """Multi-head attention over the tokens of a series: global, STGA or D-STGA.

    `log_share` is what a place counts beside a date, as a logarithm: less than 0 for tokens finer than 4 pixels.
    """

    def __init__(
        self, dim: int, heads: int, kind: Attention, norm: str, log_share: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.kind, self.log_share = heads, kind, log_share
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        self.gate = Gate(dim // heads, norm, log_share) if kind == "d-stga" else None

    def forward(
        self, x: Float[Tensor, "*r c"], valid: Bool[Tensor, "b t n"], layout: Layout | None = None
    ) -> Float[Tensor, "*r c"]:
        """Attend, for tokens that stand as in `valid`, (b t n c), or are packed, (m c), with a layout that says where.

        The order of dates and places does not matter.
        """
        q, kv = self.q(x), self.kv(x)
        if layout is not None:
            q, kv = layout.unpack(q), layout.unpack(kv)
        q = rearrange(q, "b t n (h d) -> b t n h d", h=self.heads)
        k, v = rearrange(kv, "b t n (two h d) -> two b t n h d", two=2, h=self.heads)
        out = rearrange(self.attend(q, k, v, valid), "b t n h d -> b t n (h d)")
        return self.proj(out if layout is None else layout.pack(out))

    def attend(
        self,
        q: Float[Tensor, "b t n h d"],
        k: Float[Tensor, "b t n h d"],
        v: Float[Tensor, "b t n h d"],
        valid: Bool[Tensor, "b t n"],
    ) -> Float[Tensor, "b t n h d"]:
        """Attend by this kind of attention, for given queries, keys and values."""
        if self.gate is not None:
            return dstga(q, k, v, valid, self.gate)
        if self.kind == "stga":
            return stga(q, k, v, valid, self.log_share)
        return global_attention(q, k, v, valid)
