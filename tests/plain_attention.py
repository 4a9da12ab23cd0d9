"""STGA and D-STGA as their formulas read: one joint softmax, every logit in memory (TiMo, section 3.2).

The oracle that the fused forms of `timo.models.attention` have to equal, and the naive form that the benchmark times.
Letters: b samples, t and s dates, n and m places (tokens of a frame), h heads, d channels of a head.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


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
    log_share: float = 0.0,
) -> Float[Tensor, "b t n h d"]:
    """`timo.models.attention.stga`, by its formula."""
    spatial = torch.einsum("btnhd,btmhd->bhtnm", q, k) + log_share
    temporal = torch.einsum("btnhd,bsnhd->bhnts", q, k)
    return _joint_attention(spatial, temporal, v, valid)


def dstga(
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
    gate: nn.Module,
) -> Float[Tensor, "b t n h d"]:
    """`timo.models.attention.dstga`, by its formula."""
    q_median, k_median = median_over_time(q, valid), median_over_time(k, valid)
    deviation = gate(q - q_median[:, None])
    spatial = torch.einsum("bnhd,bmhd->bhnm", q_median, k_median)[:, :, None]
    spatial = spatial + rearrange(deviation, "b t n h -> b h t n 1")
    temporal = torch.einsum("btnhd,bsnhd->bhnts", q, k)
    return _joint_attention(spatial, temporal, v, valid)


def median_over_time(
    x: Float[Tensor, "b t n h d"], valid: Bool[Tensor, "b t n"]
) -> Float[Tensor, "b n h d"]:
    """`timo.models.median.median_over_time`, by sorting."""
    count = valid.sum(dim=1)
    last = torch.finfo(x.dtype).max
    ordered = x.masked_fill(~valid[..., None, None], last).sort(dim=1).values
    middle = ((count - 1).clamp(min=0) // 2)[:, None, :, None, None]
    median = ordered.gather(1, middle.expand(-1, 1, -1, *x.shape[3:]))[:, 0]
    return median.masked_fill((count == 0)[..., None, None], 0.0)
