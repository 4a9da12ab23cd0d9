"""Seconds and memory of one query's attention, beside the encoder that it needs and the softmax that it does without.

For a model of a named size with random weights and one chip: time and peak memory of `attention_at` for a query in
each stage and of `rollout_at`, the time of the whole encoder, and what the matrix of all tokens by all tokens of that
attention would take. Medians over the rounds; memory is that of one call, above what the process took before it.
From the root of the repository::

    python benchmarks/inspection.py --size base --pixels 224 --dates 3
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measures
import numpy as np
import pandas as pd
import rioxarray  # noqa: F401  registers .rio
import torch
import xarray as xr

from timo.inspection import attention_at, rollout_at
from timo.models.answering import ModelConfig
from timo.models.config import encoder_config
from timo.models.tasks import TiMo, build

BANDS = ("B2", "B3", "B4", "B8", "B8A", "B11")
CPU = torch.device("cpu")


def model_of(size: str) -> TiMo:
    count = len(BANDS)
    encoder = encoder_config(size, count)
    return build(ModelConfig(encoder, BANDS, ("a", "b"), (0.1,) * count, (0.2,) * count))


def chip(pixels: int, dates: int) -> xr.DataArray:
    values = np.random.default_rng(0).random((dates, len(BANDS), pixels, pixels), dtype="float32")
    coords = {
        "time": pd.date_range("2019-05-03", periods=dates, freq="10D"),
        "band": list(BANDS),
        "y": 5e6 - 10.0 * np.arange(pixels),
        "x": 3e5 + 10.0 * np.arange(pixels),
    }
    cube = xr.DataArray(values * 0.4, dims=("time", "band", "y", "x"), coords=coords)
    return cube.rio.write_crs("EPSG:32634")


def logits_mib(model: TiMo, cube: xr.DataArray, stage: int) -> float:
    """MiB of all logits of one block of a stage in float32, all heads."""
    config = model.config.encoder
    stride = config.strides[stage - 1]
    dates = cube.sizes["time"]
    places = (-(-cube.sizes["y"] // stride)) * (-(-cube.sizes["x"] // stride))
    row = dates * places if config.attention[stage - 1] == "global" else places + dates
    return 4 * config.heads[stage - 1] * dates * places * row / measures.MIB


def calls(model: TiMo, cube: xr.DataArray) -> dict[str, Callable[[], Any]]:
    query = {"time": cube.time[-1], "row": cube.sizes["y"] // 2, "col": cube.sizes["x"] // 3}

    def encode() -> None:
        with torch.inference_mode():
            model.encoder(torch.from_numpy(cube.values)[None])

    stages = {
        f"attention_at, stage {stage}": lambda stage=stage: attention_at(
            model, cube, stage=stage, **query
        )
        for stage in (1, 2, 3, 4)
    }
    return {
        "encoder alone": encode,
        **stages,
        "rollout_at": lambda: rollout_at(model, cube, **query),
    }


def measure(model: TiMo, cube: xr.DataArray, rounds: int) -> list[dict[str, Any]]:
    runs = calls(model, cube)
    for run in runs.values():
        run()  # what is loaded or compiled at first use
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(measures.seconds(run, CPU))
    rows = []
    for name, run in runs.items():
        memory = measures.peak(run, CPU)
        stage = int(name[-1]) if name[-1].isdigit() else None
        rows.append(
            {
                "what": name,
                "seconds": statistics.median(taken[name]),
                "peak_mib": None if memory is None else memory / measures.MIB,
                "all_logits_mib": None if stage is None else logits_mib(model, cube, stage),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="base")
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--dates", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = measure(model_of(options.size), chip(options.pixels, options.dates), options.rounds)
    print(
        f"timo-{options.size}, {options.dates} dates of {options.pixels} px, {options.threads} threads"
    )
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.2f}".format, na_rep="-"))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
