"""Attention rollout: what a query looks at through all blocks below it (Abnar & Zuidema 2020, arXiv 2005.00928).

With A the attention of a block, mean over its heads, the share of a token in what comes out of the block is taken as
(A + I) / 2, for the residual connection; through the blocks these multiply. For one query only a row r of the product
is wanted, and r (A_L + I)/2 ... (A_1 + I)/2 is computed from the left, a row at a time. The product r A is the gradient
of <r, A v> with respect to v: the backward pass of the fused attention, which never builds A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import xarray as xr
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from timo import cube as cubes
from timo.checks import checked
from timo.inspection.attention import (
    as_dataset,
    attentions_of,
    check_observed,
    grid_of,
    place_of,
)
from timo.inspection.query import Stage, find_query
from timo.inspection.running import borrowed, look
from timo.models.attention import SpatiotemporalAttention
from timo.models.tasks import TiMo


@dataclass
class _Block:
    """Attention of a block, ready to be applied to any values; and the stage that it is of."""

    stage: int
    attention: SpatiotemporalAttention
    q: Float[Tensor, "1 t n h d"]
    k: Float[Tensor, "1 t n h d"]
    valid: Bool[Tensor, "1 t n"]

    @classmethod
    def of(cls, stage: int, attention: SpatiotemporalAttention, x: Tensor, valid: Tensor) -> _Block:
        q = attention.q(x).unflatten(-1, (attention.heads, -1))
        k = attention.kv(x)[..., : x.shape[-1]].unflatten(-1, (attention.heads, -1))
        return cls(stage, attention, q, k.contiguous(), valid)

    def pulled_back(self, row: Float[Tensor, "t n"]) -> Float[Tensor, "t n"]:
        """Return row r times (A + I) / 2, with A the mean over the heads."""
        above = torch.zeros_like(self.q)
        # Attention does the same to every channel of the values: one carries the row.
        above[..., 0] = row[None, ..., None].to(above.dtype)
        with torch.enable_grad():
            v = torch.zeros_like(self.q, requires_grad=True)
            (gradient,) = torch.autograd.grad(
                self.attention.attend(self.q, self.k, v, self.valid), v, above
            )
        return (gradient[0, ..., 0].mean(dim=-1).to(row.dtype) + row) / 2


@checked
def rollout_at(  # noqa: PLR0917 - as attention_at
    model: TiMo,
    cube: xr.DataArray,
    x: float | None = None,
    y: float | None = None,
    time: Any = None,
    stage: Stage = 4,
    *,
    row: int | None = None,
    col: int | None = None,
) -> xr.Dataset:
    """Compute the shares that the tokens of stage 1 have in one pixel on one date after a stage, by attention rollout.

    Exact within a stage, for this one query, without a matrix of all tokens by all tokens. From a stage to the finer
    one before it a token hands its share on to the four that it was merged from, in equal parts to those that hold an
    observation (the convolution that merges them reaches one token further to the upper left; that is left out).
    Rollout follows attention and residual connections alone; it leaves out what MLPs and values do.

    Parameters
    ----------
    model, cube, x, y, time, row, col
        As for `timo.inspection.attention_at`, whose errors are raised too.
    stage : int
        From the output of which stage, 1 to 4, down to the input of stage 1.

    Returns
    -------
    xarray.Dataset
        As from `timo.inspection.attention_at`, on the tokens of stage 1.
    """
    cube = cubes.select_bands(cube, model.config.bands, model.config.sensor)
    number = stage - 1
    query = find_query(cube, x=x, y=y, time=time, row=row, col=col)
    strides = model.config.encoder.strides
    check_observed(cube, query, strides[number])
    ours = borrowed(model)
    stages = {a: index for index in range(stage) for a in attentions_of(ours, index)}
    blocks: list[_Block] = []

    def see(attention: SpatiotemporalAttention, tokens: Tensor, valid: Tensor) -> None:
        blocks.append(_Block.of(stages[attention], attention, tokens, valid))

    look(ours, cube, list(stages), see)
    shares = torch.zeros_like(blocks[-1].valid[0], dtype=torch.float64)
    shares[query.date, place_of(cube, query, strides[number])] = 1
    previous = number
    for block in reversed(blocks):
        if block.stage != previous:
            shares = _handed_on(shares, block.valid[0], grid_of(cube, strides[block.stage]))
            previous = block.stage
        shares = block.pulled_back(shares)
    asked = {"stage": stage, "block": "rollout", "head": "mean", "attention": "rollout"}
    return as_dataset(shares, blocks[0].valid[0], cube, query, stride=strides[0], asked=asked)


def _handed_on(
    shares: Float[Tensor, "t n"], valid: Bool[Tensor, "t m"], grid: tuple[int, int]
) -> Float[Tensor, "t m"]:
    """Divide the shares of tokens among the valid ones of the 2 x 2 that each was merged from."""
    height, width = grid
    coarse = rearrange(shares, "t (i j) -> t i j", i=-(-height // 2))
    keep = rearrange(valid, "t (i j) -> t i j", i=height).to(shares.dtype)
    # Of an odd number of tokens the last is merged with none.
    count = F.avg_pool2d(F.pad(keep, (0, width % 2, 0, height % 2)), 2) * 4
    each = coarse / count.clamp(min=1)
    fine = each.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return (fine[:, :height, :width] * keep).flatten(1)
