"""A small world: two kinds of ground in smooth patches, clouds, and a model small enough for a second's training."""

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401
import torch
import xarray as xr

from timo.models.answering import ModelConfig
from timo.models.config import EncoderConfig
from timo.models.tasks import TiMo

BANDS = ("B4", "B8")
CLASSES = ("forest", "other")


def to_grid(values, dims, crs="EPSG:32634", **attrs):
    """Any array on the test's grid; (time, ...) starts in May 2018, a date every ten days."""
    values = np.asarray(values)
    height, width = values.shape[-2:]
    coords = {"y": 1000.0 - 10 * np.arange(height), "x": 500_000.0 + 10 * np.arange(width)}
    if "time" in dims:
        coords["time"] = pd.date_range("2018-05-01", periods=values.shape[0], freq="10D")
    if "band" in dims:
        coords["band"] = list(BANDS[: values.shape[1]])
    array = xr.DataArray(values, dims=dims, coords=coords, attrs=attrs)
    return array.rio.write_crs(crs)


def make_world(dates=8, height=40, width=48, seed=0):
    """A cube, its labels, and a split into thirds, left to right."""
    rng = np.random.default_rng(seed)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    other = np.sin(rows / 4) + np.cos(columns / 5) > 0.3
    means = np.where(
        other, np.float32([0.12, 0.18])[:, None, None], np.float32([0.04, 0.30])[:, None, None]
    )
    values = means + rng.normal(0, 0.01, (dates, 2, height, width))
    cloudy = (np.sin(rows / 6 + np.arange(dates)[:, None, None]) + np.cos(columns / 7)) > 1.3
    values = np.where(cloudy[:, None], np.nan, values).astype("float32")
    split = np.broadcast_to(np.arange(width) * 3 // width, (height, width)).astype("int8")
    return (
        to_grid(values, ("time", "band", "y", "x"), sensor="sentinel-2"),
        to_grid(other.astype("int8"), ("y", "x"), classes=list(CLASSES)),
        to_grid(split, ("y", "x")),
    )


def make_model(seed=0, per_date=True, classes=CLASSES, **encoder):
    small = {
        "dims": (8, 8, 16, 16),
        "depths": (1, 1, 1, 1),
        "heads": (1, 1, 2, 2),
        "drop_path": 0.1,
    }
    config = ModelConfig(
        encoder=EncoderConfig(in_channels=len(BANDS), **{**small, **encoder}),
        bands=BANDS,
        classes=classes,
        mean=(0.07, 0.27),
        std=(0.04, 0.1),
        per_date=per_date,
        head_width=8,
        detail=4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TiMo(config).eval()
