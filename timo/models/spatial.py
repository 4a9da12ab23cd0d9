"""The spatial half of gyroscope attention: softmax over the places of a frame, many dates for one pattern.

Letters: g groups (what shares one pattern of logits: a sample in D-STGA, a frame in STGA), p dates of a group, n and m
places, r some of the n rows, h heads, d channels of a head. The logits S = Q K^T of a group are the same for all its
dates, which differ in what they have to give (V) and in which places are valid. So one exponential per pair of places
serves all dates: with E = exp(S - max), the products E [V_1 | ... | V_p] and E [valid_1 | ... | valid_p] hold the
numerators and the denominators of the p softmaxes. Rows come in passes that stay in the processor's cache; the
backward pass computes E again, so that no N x N matrix is ever held.

Exponentials and logarithms are to the base 2, which torch computes several times faster than those to the base e.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOG2E = 1 / math.log(2)

# Bytes of logits in one pass: what stays in a processor's cache, and what keeps an accelerator busy.
_PASS = {"cpu": 12 * 2**20, "accelerator": 256 * 2**20}


def working_type(x: Tensor) -> torch.dtype:
    """Return the type of logits, softmax and sums: without 1/sqrt(d), logits in half precision would be off by far."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def slices(count: int, most: int) -> list[slice]:
    """Divide 0..count into equal parts of no more than `most`, which may be less than one."""
    parts = -(-count // max(most, 1))
    step = -(-count // parts)
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]


def _passes(v: Tensor) -> tuple[list[slice], list[slice]]:
    """Return the groups that are worked on together, and the rows that are, of v (g p n h d)."""
    g, _, n, h, _ = v.shape
    size = _PASS["cpu" if v.device.type == "cpu" else "accelerator"]
    most = size // working_type(v).itemsize
    return slices(g, most // (h * n * n)), slices(n, max(most // (h * n), 16))


def _by_head(x: Float[Tensor, "g n h d"]) -> Float[Tensor, "gh n d"]:
    """Make a contiguous copy in the working type, one matrix for each head of each group."""
    g, n, h, d = x.shape
    out = x.new_empty(g, h, n, d, dtype=working_type(x))
    return out.copy_(x.transpose(1, 2)).view(g * h, n, d)


def _readable(
    k: Float[Tensor, "g n h d"], valid: Bool[Tensor, "g p n"]
) -> Float[Tensor, "g n h d"]:
    """Return keys where those that are valid at no date give way to a copy of one that is.

    They get no weight anyhow (their rows of values and of `valid` are zero), but must neither be read nor raise the
    maximum of the logits. A group without any valid key gets zeros.
    """
    seen = valid.any(dim=1)
    one = k[torch.arange(len(k), device=k.device), seen.to(torch.uint8).argmax(dim=1)]
    one = torch.where(seen.any(dim=1)[:, None, None], one, 0.0)
    return torch.where(seen[..., None, None], k, one[:, None])


@dataclass
class _Group:
    """What the passes over the rows of some groups share."""

    heads: int
    q: Float[Tensor, "gh n d"]  # times log2(e)
    k: Float[Tensor, "gh n d"]
    values: Float[
        Tensor, "gh n w"
    ]  # [V_1 | ... | V_p | valid_1 | ... | valid_p], zero where not valid
    valid: Float[Tensor, "g p n"]
    present: Bool[Tensor, "g p"]  # whether a date has a valid place

    @classmethod
    def of(cls, groups: slice, q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> "_Group":
        """Copy q, k (g n h d), v (g p n h d) and valid (g p n), in the order that the products want."""
        q, k, v, valid = (x[groups] for x in (q, k, v, valid))
        g, p, n, h, d = v.shape
        values = v.new_empty(g, h, n, p * (d + 1), dtype=working_type(v))
        flags = valid.to(values.dtype)
        values[..., p * d :] = flags.mT[:, None]
        kept = values[..., : p * d].unflatten(-1, (p, d))
        kept.copy_(v.permute(0, 3, 2, 1, 4)).masked_fill_(~valid.mT[:, None, :, :, None], 0.0)
        keys = _by_head(_readable(k, valid))
        queries = _by_head(q).mul_(LOG2E)
        return cls(h, queries, keys, values.flatten(0, 1), flags, valid.any(dim=2))

    @property
    def width(self) -> int:
        """Return the number of columns of the values of all dates, p times d."""
        return self.values.shape[-1] - self.valid.shape[1]

    def logits(self, rows: slice, room: Tensor) -> Float[Tensor, "gh r n"]:
        """Compute S log2(e) of some rows, written into `room`."""
        q = self.q[:, rows]
        out = room[: q.shape[0] * q.shape[1] * self.k.shape[1]].view(*q.shape[:2], -1)
        return torch.bmm(q, self.k.mT, out=out)

    def pattern(
        self, rows: slice, room: Tensor
    ) -> tuple[Float[Tensor, "gh r n"], Float[Tensor, "g 1 r h"]]:
        """Compute E = 2^(S - max) of some rows, and the maxima."""
        e = self.logits(rows, room)
        top = e.amax(dim=-1, keepdim=True)
        torch.exp2(e.sub_(top), out=e)
        return e, top.view(-1, 1, self.heads, e.shape[1]).transpose(2, 3)

    def by_date(self, x: Float[Tensor, "gh r w"]) -> Float[Tensor, "g p r h d"]:
        """Return the columns of all dates, date by date; a view."""
        split = x.unflatten(0, (-1, self.heads)).unflatten(-1, (self.valid.shape[1], -1))
        return split.permute(0, 3, 2, 1, 4)


def _rooms(v: Tensor, count: int) -> Iterator[Tensor]:
    """Give memory for the logits of a pass, `count` times; taken once per call."""
    groups, rows = _passes(v)
    _, _, n, h, _ = v.shape
    size = (groups[0].stop - groups[0].start) * h * (rows[0].stop - rows[0].start) * n
    return (v.new_empty(size, dtype=working_type(v)) for _ in range(count))


def _least(dtype: torch.dtype) -> float:
    # Far below 1, so that few rows ask for the exact way; far above the smallest number, so that what the smallest
    # terms of a sum lose stays below rounding, and the inverse times a gradient stays finite.
    return torch.finfo(dtype).tiny ** 0.65


class _Hidden:
    """Rows where the common maximum hides a date: its keys all lie so far below that their sum is lost.

    That happens where a gap covers the very keys that a place looks at. The flags are read once, at the end: on an
    accelerator this is the one moment at which the host waits for it.
    """

    def __init__(self) -> None:
        self.passes: list[tuple[slice, slice]] = []
        self.flags: list[Tensor] = []

    def add(self, groups: slice, rows: slice, flags: Bool[Tensor, " g"]) -> None:
        self.passes.append((groups, rows))
        self.flags.append(flags)

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Yield one group and some of its rows at a time, so that other groups are computed as ever."""
        flags = torch.cat(self.flags).tolist()
        where = [
            (slice(group, group + 1), rows)
            for groups, rows in self.passes
            for group in range(groups.start, groups.stop)
        ]
        return (place for place, flag in zip(where, flags, strict=True) if flag)


def forward(
    q: Float[Tensor, "g n h d"],
    k: Float[Tensor, "g n h d"],
    v: Float[Tensor, "g p n h d"],
    valid: Bool[Tensor, "g p n"],
) -> tuple[Float[Tensor, "g p n h d"], Float[Tensor, "g p n h"]]:
    """Take the softmax over the valid places, for each date, in the working type.

    `out` are the means of the values, zero at a date without a valid place; `lse` the logarithm to the base 2 of the
    sum of the exponentials, -inf at such a date.
    """
    out = v.new_empty(v.shape, dtype=working_type(v))
    lse = v.new_empty(v.shape[:4], dtype=out.dtype)
    (room,), hidden = _rooms(v, 1), _Hidden()
    all_groups, all_rows = _passes(v)
    for groups in all_groups:
        group = _Group.of(groups, q, k, v, valid)
        for rows in all_rows:
            e, top = group.pattern(rows, room)
            above = group.by_date(torch.bmm(e, group.values[..., : group.width]))
            # The heads' rows as the columns of one product: it is several times faster this way round.
            below = torch.bmm(group.valid, e.view(len(group.valid), -1, e.shape[-1]).mT)
            below = below.unflatten(-1, (group.heads, -1)).transpose(2, 3)
            torch.add(below.log2(), top, out=lse[groups, :, rows])
            # Where nothing is valid, zero divided by anything but zero.
            divisor = below.clamp(min=torch.finfo(below.dtype).tiny)[..., None]
            torch.div(above, divisor, out=out[groups, :, rows])
            lost = (below < _least(e.dtype)) & group.present[..., None, None]
            hidden.add(groups, rows, lost.flatten(1).any(dim=1))
    for one, rows in hidden:
        _forward_date_by_date(one, rows, q, k, v, valid, out, lse)
    return out, lse


def _forward_date_by_date(
    one: slice,
    rows: slice,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor,
    out: Tensor,
    lse: Tensor,
) -> None:
    """Compute some rows of one group with a maximum for each date, written into out and lse."""
    group = _Group.of(one, q, k, v, valid)
    s = group.logits(rows, *_rooms(v, 1))
    values = group.by_date(group.values[..., : group.width])[0]
    for date in range(v.shape[1]):
        seen = s.masked_fill(~valid[one.start, date], -math.inf)
        top = seen.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(s.dtype).min)
        e = torch.exp2(seen - top)
        below = e.sum(dim=-1, keepdim=True)
        mean = torch.bmm(e, values[date].transpose(0, 1)) / below.clamp(min=1e-30)
        out[one.start, date, rows] = mean.transpose(0, 1)
        lse[one.start, date, rows] = (top + below.log2())[..., 0].T


def backward(
    gradient: Float[Tensor, "g p n h d"],
    delta: Float[Tensor, "g p n h"],
    bias: Float[Tensor, "g p n h"],
    q: Float[Tensor, "g n h d"],
    k: Float[Tensor, "g n h d"],
    v: Float[Tensor, "g p n h d"],
    valid: Bool[Tensor, "g p n"],
) -> tuple[Float[Tensor, "g n h d"], Float[Tensor, "g n h d"], Float[Tensor, "g p n h d"]]:
    """Compute gradients of q, k and v where the weights are P = 2^(S log2(e) + bias), in the working type.

    `delta` is the inner product of gradient and output: dS = P (gradient V^T - delta). `bias` is minus the joint
    log-sum-exp of a query, to the base 2, and what is added to all its logits. The rest is as given to `forward`.
    """
    dtype = working_type(v)
    dq, dk = (x.new_empty(x.shape, dtype=dtype) for x in (q, k))
    dv = v.new_empty(v.shape, dtype=dtype)
    rooms, hidden = [*_rooms(v, 2)], _Hidden()
    all_groups, all_rows = _passes(v)
    for groups in all_groups:
        group = _Group.of(groups, q, k, v, valid)
        dk_here = torch.zeros_like(group.k)
        dv_here = torch.zeros_like(group.values[..., : group.width])
        for rows in all_rows:
            e, top = group.pattern(rows, rooms[0])
            scale = torch.exp2(top + bias[groups, :, rows])
            present = group.present[..., None, None]
            lost = ((scale > 1 / _least(dtype)) & present).flatten(1).any(dim=1)
            hidden.add(groups, rows, lost)
            scale = torch.where(present & ~lost[:, None, None, None], scale, 0.0)
            weights = _weights(group, gradient[groups, :, rows], delta[groups, :, rows], scale)
            ds = rooms[1][: e.numel()].view(e.shape)
            torch.bmm(weights, group.values.mT, out=ds).mul_(e)
            dq[groups, rows] = (
                torch.bmm(ds, group.k).unflatten(0, (-1, group.heads)).transpose(1, 2)
            )
            dk_here.baddbmm_(ds.mT, group.q[:, rows])
            dv_here.baddbmm_(e.mT, weights[..., : group.width])
        dk[groups] = dk_here.unflatten(0, (-1, group.heads)).transpose(1, 2) / LOG2E
        dv[groups] = group.by_date(dv_here).masked_fill_(~valid[groups, ..., None, None], 0.0)
    for one, rows in hidden:
        here = _backward_date_by_date(one, rows, gradient, delta, bias, q, k, v, valid)
        dq[one, rows] += here[0]
        dk[one] += here[1]
        dv[one] += here[2]
    return dq, dk, dv


def _weights(
    group: _Group, gradient: Tensor, delta: Tensor, scale: Tensor
) -> Float[Tensor, "gh r w"]:
    """Return [scale gradient | -scale delta] of all dates: times [V | valid]^T times E, the gradient of the logits."""
    g, p, r, h, d = gradient.shape
    out = scale.new_empty(g, h, r, p * (d + 1))
    by_date = out[..., : p * d].unflatten(-1, (p, d)).permute(0, 3, 2, 1, 4)
    torch.mul(gradient.to(out.dtype), scale[..., None], out=by_date)
    torch.mul(delta, scale, out=out[..., p * d :].permute(0, 3, 2, 1)).neg_()
    return out.flatten(0, 1)


def _backward_date_by_date(
    one: slice,
    rows: slice,
    gradient: Tensor,
    delta: Tensor,
    bias: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    valid: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute what some rows of one group add to its gradients: dq of the rows, dk and dv."""
    group = _Group.of(one, q, k, v, valid)
    s = group.logits(rows, *_rooms(v, 1))
    values = group.by_date(group.values[..., : group.width])[0]
    ds, dv = torch.zeros_like(s), torch.zeros_like(values)
    for date in range(v.shape[1]):
        bias_here, delta_here = (x[one.start, date, rows].T[..., None] for x in (bias, delta))
        above = gradient[one.start, date, rows].transpose(0, 1).to(s.dtype)
        seen = (s + bias_here).masked_fill(~valid[one.start, date], -math.inf)
        weight = torch.exp2(seen)
        ds += weight * (torch.bmm(above, values[date].permute(1, 2, 0)) - delta_here)
        dv[date] = torch.bmm(weight.mT, above).transpose(0, 1)
    dq = torch.bmm(ds, group.k).transpose(0, 1)
    dk = torch.bmm(ds.mT, group.q[:, rows]).transpose(0, 1) / LOG2E
    return dq[None], dk[None], dv[None]
