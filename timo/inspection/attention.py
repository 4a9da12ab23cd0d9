"""Attention of one pixel on one date, in one stage, block and head of a model.

Only one row of the softmax is formed. Letters: t and s dates, n places (tokens of a frame), h heads, d channels of a
head. The query's own logits are n + t or t n a head, and only the keys that they need are computed; what
`timo.models.attention` does with all of them at once is the same, and a test holds the two together.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from timo import cube as cubes
from timo.checks import checked, whole
from timo.errors import TimoError
from timo.inspection.query import Query, Stage, find_query, token_coords
from timo.inspection.running import borrowed, look
from timo.models.attention import SpatiotemporalAttention
from timo.models.median import median_over_time
from timo.models.spatial import working_type
from timo.models.tasks import TiMo


@checked
def attention_at(  # noqa: PLR0917 - a query is a place, a date, a stage, a block and a head, in this order
    model: TiMo,
    cube: xr.DataArray,
    x: float | None = None,
    y: float | None = None,
    time: Any = None,
    stage: Stage = 4,
    block: int | Literal["mean"] = -1,
    head: int | Literal["mean"] = "mean",
    *,
    row: int | None = None,
    col: int | None = None,
) -> xr.Dataset:
    """Compute the weights that a model gives to all that one pixel on one date attends to.

    Only the row of the softmax that belongs to this query is computed, exactly as the model computes it, and the
    encoder is run no further than to the block that is asked for: no matrix of all tokens by all tokens is ever built.
    The model sees the cube as a whole; `timo.inspection.neighbourhood` cuts out what it sees in a map.

    Parameters
    ----------
    model : TiMo
        The model; neither its weights nor its mode are touched, and others may work with it meanwhile.
    cube : xarray.DataArray
        The cube; bands that the model does not read are left out.
    x, y : float
        The place, in the cube's CRS. The query is the token of the stage that the pixel lies in.
    time : date
        The nearest date of the cube counts.
    stage : int
        1 to 4, as in the paper; tokens of 4, 8, 16 and 32 pixels, or finer (`timo.models.EncoderConfig.token`).
    block : int or "mean"
        Block of the stage, counted from 0, or from the end: -1 is the last. "mean": mean over all blocks of the stage.
    head : int or "mean"
        Attention head, counted from 0, or from the end; or the mean over all.
    row, col : int, optional
        The place by its position in the grid, instead of x and y.

    Returns
    -------
    xarray.Dataset
        On the grid of tokens (y and x are their centres; those of the last row and column may reach beyond the cube):

        - ``weight`` (time, y, x) float32: the whole of it, with the sum 1. In stages of "d-stga" and "stga" attention
          zero but for the own frame and the own place on other dates; in those of "global" attention anywhere.
        - ``space`` (y, x): the weights of the own frame.
        - ``dates`` (time,): the sum over each frame; for the own date, that of `space`.
        - ``observed`` (time, y, x) bool: tokens with a valid pixel. The others have weight 0.

        The attributes repeat the query and say the kind of attention, the stride in pixels, and the token's row and
        column.

    Raises
    ------
    TimoError
        If model and cube do not fit, the place or the date is not in the cube, stage, block or head are out of range,
        or the token has no valid pixel on that date.
    """
    cube = cubes.select_bands(cube, model.config.bands, model.config.sensor)
    number = stage - 1
    query = find_query(cube, x=x, y=y, time=time, row=row, col=col)
    ours = borrowed(model)
    of_stage = attentions_of(ours, number)
    blocks = chosen(block, len(of_stage), "block", stage)
    heads = chosen(head, model.config.encoder.heads[number], "head", stage)
    stride = model.config.encoder.strides[number]
    check_observed(cube, query, stride)
    weights, seen = _mean_weights(
        ours, cube, query, stride=stride, attentions=of_stage[blocks], heads=heads
    )
    asked = {"stage": stage, "block": block, "head": head, "attention": of_stage[0].kind}
    return as_dataset(weights, seen, cube, query, stride=stride, asked=asked)


def attentions_of(model: TiMo, stage: int) -> list[SpatiotemporalAttention]:
    """Return the attentions of the blocks of a stage (counted from 0)."""
    return [
        m for m in model.encoder.stages[stage].modules() if isinstance(m, SpatiotemporalAttention)
    ]


def chosen(which: int | Literal["mean"], count: int, name: str, stage: int) -> slice:
    """Return the blocks or heads that are meant, as a slice."""
    if which == "mean":
        return slice(0, count)
    first = whole(which, f"{name} of stage {stage}", least=-count, most=count - 1) % count
    return slice(first, first + 1)


def check_observed(cube: xr.DataArray, query: Query, stride: int) -> None:
    """Refuse a query whose token, of so many pixels, has no valid one on its date."""
    top, left = (position // stride * stride for position in (query.row, query.col))
    cell = cube.isel(y=slice(top, top + stride), x=slice(left, left + stride))
    if bool(cubes.valid_mask(cell.isel(time=[query.date])).any()):
        return
    clear = np.flatnonzero(cubes.valid_mask(cell).any(("y", "x")).values)
    date = f"{cube.indexes['time'][query.date]:%Y-%m-%d}"
    if not clear.size:
        raise TimoError(
            f"No pixel of the token at row {query.row}, column {query.col} is ever observed. Choose another place."
        )
    nearest = cube.indexes["time"][clear[np.abs(clear - query.date).argmin()]]
    raise TimoError(
        f"On {date} no pixel of the token at row {query.row}, column {query.col} was observed (cloud?): what the model "
        f"sees there it has from elsewhere. Choose another date: the nearest with an observation is {nearest:%Y-%m-%d}."
    )


def _mean_weights(
    model: TiMo,
    cube: xr.DataArray,
    query: Query,
    *,
    stride: int,
    attentions: list[SpatiotemporalAttention],
    heads: slice,
) -> tuple[Float[Tensor, "t n"], Bool[Tensor, "t n"]]:
    """Return the query's weights, mean over attentions of one stage and over heads; and which tokens are valid."""
    rows: list[Tensor] = []
    masks: list[Tensor] = []
    place = place_of(cube, query, stride)

    def see(attention: SpatiotemporalAttention, x: Tensor, valid: Tensor) -> None:
        found = weights_of(attention, x, valid, date=query.date, place=place, heads=heads)
        rows.append(found.mean(dim=0))
        masks.append(valid[0])

    look(model, cube, attentions, see)
    return torch.stack(rows).mean(dim=0), masks[0]


def weights_of(
    attention: SpatiotemporalAttention,
    x: Float[Tensor, "1 t n c"],
    valid: Bool[Tensor, "1 t n"],
    *,
    date: int,
    place: int,
    heads: slice,
) -> Float[Tensor, "h t n"]:
    """Compute the weights of the query at (date, place) over all tokens of all dates, for some heads.

    They are zero where the query cannot look; its own token must be valid.
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
    # The gate, or where there is none, what a place counts beside a date.
    spatial = spatial + (
        attention.log_share if offset is None else offset[:, None].to(spatial.dtype)
    )
    return _gyroscope(spatial, temporal, valid[0], date, place)


def _project(
    attention: SpatiotemporalAttention, x: Tensor, heads: slice, key: bool = False
) -> Float[Tensor, "1 t n h d"]:
    """Compute queries or keys of some heads; the other heads, and the values, are not computed."""
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
    """Take one softmax over the own frame and the other dates of the own place."""
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


def grid_of(cube: xr.DataArray, stride: int) -> tuple[int, int]:
    """Return the rows and columns of tokens of so many pixels; the last ones may reach beyond the cube."""
    height, width = (-(-cube.sizes[dim] // stride) for dim in ("y", "x"))
    return height, width


def place_of(cube: xr.DataArray, query: Query, stride: int) -> int:
    """Return the number of the query's token, of so many pixels, within its frame."""
    return query.row // stride * grid_of(cube, stride)[1] + query.col // stride


def as_dataset(
    weights: Float[Tensor, "t n"],
    valid: Bool[Tensor, "t n"],
    cube: xr.DataArray,
    query: Query,
    *,
    stride: int,
    asked: dict[str, Any],
) -> xr.Dataset:
    """Return weights on the grid of tokens of so many pixels, with the query in the attributes."""
    coords = {"time": cube.time, **token_coords(cube, stride)}
    grid = grid_of(cube, stride)
    values = weights.unflatten(1, grid).cpu().float().numpy()
    observed = valid.unflatten(1, grid).cpu().numpy()
    weight = xr.DataArray(values, dims=("time", "y", "x"), coords=coords)
    weight.attrs = {"long_name": "attention weight", "units": "1"}
    result = xr.Dataset(
        {
            "weight": weight,
            "space": weight.isel(time=query.date).drop_vars("time"),
            "dates": weight.sum(("y", "x")).assign_attrs(weight.attrs),
            "observed": (weight.dims, observed, {"long_name": "token with a valid pixel"}),
        }
    )
    result.attrs = {
        **asked,
        "date": f"{cube.indexes['time'][query.date]:%Y-%m-%d}",
        "x": float(cube.x[query.col]),
        "y": float(cube.y[query.row]),
        "row": query.row,
        "col": query.col,
        "token_row": query.row // stride,
        "token_col": query.col // stride,
        "stride": stride,
        "note": "the weights sum to 1 over time, y and x",
    }
    return result.rio.write_crs(cube.rio.crs)
