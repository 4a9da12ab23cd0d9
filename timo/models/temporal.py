"""The temporal half of gyroscope attention: the other dates of the own place join the softmax over the own frame.

Letters: b samples, t and s dates, n places, h heads, d channels of a head; a row is one head of one place of one
sample. The T x T logits of a place are small: they are computed once more in the backward pass, some places at a time.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from timo.models.spatial import LOG2E, slices, working_type

# Numbers that a pass works on, on a processor and on an accelerator.
_PASS = {"cpu": 2**20, "accelerator": 2**26}


def _passes(v: Tensor) -> list[slice]:
    b, t, n, h, d = v.shape
    most = _PASS["cpu" if v.device.type == "cpu" else "accelerator"]
    return slices(n, most // (b * h * t * (t + 3 * d)))


def _rows(x: Float[Tensor, "b t n h d"]) -> Float[Tensor, "row t d"]:
    """Make a contiguous copy in the working type, one matrix for each head of each place."""
    x = x.permute(0, 2, 3, 1, 4)
    copy = torch.empty(x.shape, dtype=working_type(x), device=x.device)
    return copy.copy_(x).flatten(0, 2)


def _readable(
    x: Float[Tensor, "b t n h d"], valid: Bool[Tensor, "b t n"]
) -> Float[Tensor, "row t d"]:
    """Make the same copy, zero where not valid."""
    hidden = ~valid.mT[:, :, None, :, None]
    rows = _rows(x)
    rows.unflatten(0, (len(x), -1, x.shape[3])).masked_fill_(hidden, 0.0)
    return rows


def _unrows(rows: Float[Tensor, "row t d"], shape: torch.Size) -> Float[Tensor, "b t n h d"]:
    """Return rows as (b t n h d), a view."""
    return rows.unflatten(0, (shape[0], -1, shape[3])).permute(0, 3, 1, 2, 4)


def _logits(
    q: Float[Tensor, "row t d"], k: Float[Tensor, "row t d"], valid: Bool[Tensor, "b t n"]
) -> Float[Tensor, "row t t"]:
    """Compute logits to the base 2; -inf at the own date and where not valid."""
    b, t, n = valid.shape
    own = torch.eye(t, dtype=torch.bool, device=q.device)
    s = torch.bmm(q, k.mT).mul_(LOG2E)
    s.view(b, n, -1, t, t).masked_fill_(~valid.mT[:, :, None, None] | own, -math.inf)
    return s


def forward(
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
    out: Float[Tensor, "b t n h d"],
    lse: Float[Tensor, "b t n h"],
) -> None:
    """Take the other dates of each place into an attention over its frame, in place.

    `out` and `lse` come as the attention over the frame and the logarithm to the base 2 of its sum of exponentials, and
    are afterwards those of both. `lse` is inf where a query has nothing to attend to, so that anything divided by its
    sum is zero.
    """
    for places in _passes(v):
        here = (slice(None), slice(None), places)
        seen = valid[here]
        s = _logits(_rows(q[here]), _rows(k[here]), seen)
        top = s.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(s.dtype).min)
        e = torch.exp2(s.sub_(top), out=s)
        spatial = _rows(lse[here][..., None])
        joint = torch.logaddexp2(spatial, top + e.sum(dim=-1, keepdim=True).log2())
        joint = joint.masked_fill(joint == -math.inf, math.inf)
        mean = torch.bmm(e.mul_(torch.exp2(top - joint)), _readable(v[here], seen))
        mean.addcmul_(_rows(out[here]), torch.exp2(spatial - joint))
        out[here] = _unrows(mean, out.shape)
        lse[here] = _unrows(joint, out.shape)[..., 0]


def backward(
    gradient: Float[Tensor, "b t n h d"],
    delta: Float[Tensor, "b t n h"],
    lse: Float[Tensor, "b t n h"],
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    valid: Bool[Tensor, "b t n"],
    dv: Float[Tensor, "b t n h d"],
) -> tuple[Float[Tensor, "b t n h d"], Float[Tensor, "b t n h d"], Float[Tensor, "b t n h"]]:
    """Compute gradients of q, of k, and of what is added to all spatial logits of a query; that of v is added to `dv`.

    The gradients of all logits of a softmax sum to zero: what the spatial ones have together is minus what the
    temporal ones have.
    """
    dq, dk, doffset = (torch.empty_like(x) for x in (dv, dv, delta))
    for places in _passes(v):
        here = (slice(None), slice(None), places)
        seen = valid[here]
        queries, above = _rows(q[here]), _rows(gradient[here])
        keys, values = _readable(k[here], seen), _readable(v[here], seen)
        weight = torch.exp2(_logits(queries, keys, seen).sub_(_rows(lse[here][..., None])))
        ds = torch.bmm(above, values.mT).sub_(_rows(delta[here][..., None])).mul_(weight)
        dq[here] = _unrows(torch.bmm(ds, keys), v.shape)
        dk[here] = _unrows(torch.bmm(ds.mT, queries), v.shape)
        dv[here] += _unrows(torch.bmm(weight.mT, above), v.shape)
        doffset[here] = _unrows(ds.sum(dim=-1, keepdim=True).neg_(), v.shape)[..., 0]
    return dq, dk, doffset
