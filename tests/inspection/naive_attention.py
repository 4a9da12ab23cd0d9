"""Models and cubes to inspect, and attention in its naive form, every weight in memory."""

import math

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401  registers .rio
import torch
import xarray as xr
from einops import rearrange
from plain_attention import median_over_time

from timo.models.answering import ModelConfig
from timo.models.attention import SpatiotemporalAttention
from timo.models.config import EncoderConfig
from timo.models.tasks import build

BANDS = ("B2", "B3", "B4")
KINDS = ("d-stga", "stga", "global", "global")
HEADS = (2, 2, 4, 4)


def make_model(attention=KINDS, norm="layer", seed=0, token=4):
    """Weights large enough that the softmax is far from even."""
    config = EncoderConfig(
        3, (16, 32, 32, 32), (2, 1, 2, 1), HEADS, attention, norm=norm, token=token
    )
    names = {"bands": BANDS, "classes": ("a", "b"), "mean": (0.1,) * 3, "std": (0.2,) * 3}
    model = build(ModelConfig(config, head_width=8, detail=0, **names), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan = parameter[0].numel()
            parameter.copy_(
                1.5 * noise / fan**0.5 if parameter.ndim > 1 else parameter + 0.1 * noise
            )
    return model.eval()


def make_cube(t=4, h=72, w=56, missing=0.2, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.random((t, 3, h, w), dtype="float32") * 0.4
    gaps = rng.random((t, h, w)) < missing
    gaps[1, 8:24, 8:40] = True  # a cloud over whole tokens
    values = np.where(gaps[:, None], np.float32("nan"), values)
    coords = {
        "time": pd.date_range("2019-05-03", periods=t, freq="17D"),
        "band": list(BANDS),
        "y": 5_000_000 - 10.0 * np.arange(h),
        "x": 300_000 + 10.0 * np.arange(w),
    }
    cube = xr.DataArray(values, dims=("time", "band", "y", "x"), coords=coords)
    return cube.rio.write_crs("EPSG:32634")


def full_softmax(attention: SpatiotemporalAttention, x, valid):
    """All weights of an attention, (h, t n, t n), by the formulas of the paper."""
    t, n = valid.shape[1:]
    q = rearrange(attention.q(x), "1 t n (h d) -> t n h d", h=attention.heads).double()
    k = rearrange(attention.kv(x), "1 t n (two h d) -> two t n h d", two=2, h=attention.heads)[
        0
    ].double()
    flat = valid.flatten()
    if attention.kind == "global":
        logits = torch.einsum("tnhd,smhd->htnsm", q, k).flatten(3).flatten(1, 2) / math.sqrt(
            q.shape[-1]
        )
        return logits.masked_fill(~flat, -math.inf).softmax(dim=-1)
    logits = torch.full((attention.heads, t, n, t, n), -math.inf, dtype=torch.float64)
    q_space, k_space = q, k
    gate = torch.zeros(t, n, attention.heads)
    if attention.kind == "d-stga":
        q_space, k_space = (
            median_over_time(z[None], valid)[0].expand(t, -1, -1, -1) for z in (q, k)
        )
        gate = attention.gate((q - q_space).float()[None])[0]
    for date in range(t):
        space = torch.einsum("nhd,mhd->hnm", q_space[date], k_space[date]) + gate[date].T[..., None]
        if attention.kind == "stga":
            space = space + attention.log_share
        logits[:, date, :, date] = space
        for other in set(range(t)) - {date}:
            raw = torch.einsum("nhd,nhd->hn", q[date], k[other])
            for place in range(n):
                logits[:, date, place, other, place] = raw[:, place]
    logits = logits.flatten(3).flatten(1, 2)
    return logits.masked_fill(~flat, -math.inf).softmax(dim=-1)


def inputs_of_attentions(model, cube):
    """What each attention of a model gets when the model is simply run, in order."""
    seen = []
    handles = [
        module.register_forward_pre_hook(lambda m, i: seen.append((m, i[0], i[1])))
        for module in model.modules()
        if isinstance(module, SpatiotemporalAttention)
    ]
    days = (cube.time.values - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    with torch.inference_mode():
        model(torch.from_numpy(cube.values)[None], torch.from_numpy(days)[None])
    for handle in handles:
        handle.remove()
    return seen


def expected_row(model, cube, stage, block, query):
    """Weights (h, t, i, j) of the query, cut out of the full softmax."""
    date, row, col = query
    before = sum(model.config.encoder.depths[: stage - 1])
    with torch.no_grad():
        attention, x, valid = inputs_of_attentions(model, cube)[before + block]
        stride = model.config.encoder.strides[stage - 1]
        height, width = (-(-cube.sizes[d] // stride) for d in ("y", "x"))
        place = date * height * width + row // stride * width + col // stride
        weights = full_softmax(attention, x, valid)[:, place]
    return weights.reshape(-1, cube.sizes["time"], height, width).numpy()
