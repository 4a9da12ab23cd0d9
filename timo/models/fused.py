"""STGA and D-STGA without their logits in memory: forward and backward by hand, as operators of torch.

Both are one softmax over the places of the own frame and the other dates of the own place (TiMo, section 3.2). The
spatial half (`timo.models.spatial`) gives means and log-sum-exps, the temporal half (`timo.models.temporal`) joins
them. Backward needs the output and the joint log-sum-exp L only: every weight is P = exp(S - L), every gradient of a
logit dS = P (dO . V - dO . O), as in flash attention (Dao et al. 2022, section 3 and appendix B).

Logits, softmax and sums are in float32 at least, for inputs of any type; on a CUDA device their products run on the
tensor cores after ``torch.set_float32_matmul_precision("high")``. As operators they are opaque to ``torch.compile``
(no graph breaks) and exist on the meta device. They can be differentiated once.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from timo.models import spatial, temporal
from timo.models.spatial import LOG2E, working_type


def attend(
    sq: Tensor, sk: Tensor, q: Tensor, k: Tensor, v: Tensor, offset: Tensor | None, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Run the forward pass of `gyroscope`; also return the joint log-sum-exp (b t n h) to the base 2."""
    # Autocast would put the products into half precision: the operator sees to its types itself.
    with torch.autocast(v.device.type, enabled=False):
        groups = (len(sq), -1)
        by_group = (x.flatten(0, 1).unflatten(0, groups) for x in (v, valid))
        out, lse = (
            x.flatten(0, 1).view(v.shape[:2] + x.shape[2:])
            for x in spatial.forward(sq, sk, *by_group)
        )
        if offset is not None:
            lse.add_(offset, alpha=LOG2E)
        temporal.forward(q, k, v, valid, out, lse)
        return out.to(v.dtype), lse


def differentiate(
    gradient: Tensor,
    out: Tensor,
    lse: Tensor,
    sq: Tensor,
    sk: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    offset: Tensor | None,
    valid: Tensor,
) -> tuple[Tensor, ...]:
    """Run the backward pass of `gyroscope`: gradients of sq, sk, q, k, v and offset (b t n h)."""
    with torch.autocast(v.device.type, enabled=False):
        dtype = working_type(v)
        delta = (gradient.to(dtype) * out).sum(dim=-1)
        bias = -lse if offset is None else lse.neg().add_(offset, alpha=LOG2E)
        groups = (len(sq), -1)
        grad, inner, bias, values, seen = (
            x.flatten(0, 1).unflatten(0, groups) for x in (gradient, delta, bias, v, valid)
        )
        dsq, dsk, dv = spatial.backward(grad, inner, bias, sq, sk, values, seen)
        dv = dv.view(v.shape)
        dq, dk, doffset = temporal.backward(gradient, delta, lse, q, k, v, valid, dv)
        grads = (dsq, dsk, dq, dk, dv)
        given = (sq, sk, q, k, v)
        typed = [g.to(x.dtype) for g, x in zip(grads, given, strict=True)]
        return *typed, doffset if offset is None else doffset.to(offset.dtype)


_INPUTS = "Tensor sq, Tensor sk, Tensor q, Tensor k, Tensor v, Tensor? offset, Tensor valid"

_gyroscope = torch.library.custom_op(
    "timo::gyroscope", attend, mutates_args=(), schema=f"({_INPUTS}) -> (Tensor, Tensor)"
)
_gyroscope_backward = torch.library.custom_op(
    "timo::gyroscope_backward",
    differentiate,
    mutates_args=(),
    schema=f"(Tensor gradient, Tensor out, Tensor lse, {_INPUTS}) -> ({', '.join(['Tensor'] * 6)})",
)


@_gyroscope.register_fake
def _(sq: Tensor, sk: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), v.new_empty(v.shape[:4], dtype=working_type(v))


@_gyroscope_backward.register_fake
def _(gradient: Tensor, out: Tensor, lse: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    *given, offset, _ = inputs
    like_inputs = [x.new_empty(x.shape) for x in given]
    return *like_inputs, lse.new_empty(lse.shape) if offset is None else offset.new_empty(lse.shape)


def _save(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*output, *inputs)


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    # Read once: checkpointing gives what was saved away at the first reading.
    saved = ctx.saved_tensors
    *grads, doffset = torch.ops.timo.gyroscope_backward(gradient, *saved)
    return *grads, doffset if ctx.needs_input_grad[5] else None, None


_gyroscope.register_autograd(_backward, setup_context=_save)


def gyroscope(
    sq: Float[Tensor, "g n h d"],
    sk: Float[Tensor, "g n h d"],
    q: Float[Tensor, "b t n h d"],
    k: Float[Tensor, "b t n h d"],
    v: Float[Tensor, "b t n h d"],
    offset: Float[Tensor, "b t n h"] | None,
    valid: Bool[Tensor, "b t n"],
) -> Float[Tensor, "b t n h d"]:
    """Take one softmax over the places of the own frame and the other dates of the own place.

    `sq` and `sk` are queries and keys of the spatial logits, for each sample (g = b) or for each frame (g = b t); `q`
    and `k` those of the temporal ones; `offset` is added to all spatial logits of a query. Only `valid` tokens may be
    attended: what stands in the keys and values of the others, NaN included, is not read. A query that has none gets
    zero.
    """
    out, _ = torch.ops.timo.gyroscope(sq, sk, q, k, v, offset, valid)
    return out
