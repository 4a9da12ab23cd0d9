"""Few-click mapping on the sample: how long from labels to the new map, and how good it is on the held-out tree cover.

So many pixels of each class are clicked at random, in the tree cover of 2018; the head of a model with a frozen encoder
learns them, and the cube is mapped. The accuracy is that on all other pixels, of the mean probability over the dates:
of the encoder's features alone, of the regression of single pixels alone, of both, and of the one that the clicks chose
by cross-validation.

    python benchmarks/few_clicks.py --clicks 20 --draws 10 --years 1
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

import timo

ANSWERS = {"encoder": 0.0, "both": 0.5, "pixels": 1.0}


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    cube = timo.open_cube("sample", start=str(2019 - options.years), end="2018").compute()
    truth = timo.sample_labels()
    print(
        f"{cube.sizes['time']} dates of {cube.sizes['y']} x {cube.sizes['x']}, {options.clicks} clicks a class"
    )
    for start in options.start:
        rows = pd.DataFrame(_rows(cube, truth, options, pretrained=start == "pretrained"))
        print(f"\n{start} encoder, balanced accuracy of each answer on the other pixels")
        print(rows.round(3).to_string(index=False))
        print(rows.drop(columns=["draw", "chosen"]).mean().round(4).to_string())
        if options.save:
            rows.to_csv(f"{options.save}_{start}.csv", index=False)


def _rows(
    cube: xr.DataArray, truth: xr.DataArray, options: argparse.Namespace, *, pretrained: bool
) -> Iterator[dict[str, float | str]]:
    """Yield a row a draw."""
    model = timo.load_model(
        "timo-tiny", data=cube, classes=truth.attrs["classes"], pretrained=pretrained
    )
    fresh, config = {key: value.clone() for key, value in model.state_dict().items()}, model.config
    started = time.monotonic()
    features = timo.Features(model, cube)
    took = time.monotonic() - started
    for draw in range(options.draws):
        model.load_state_dict(fresh)
        model.config = config
        few = draw_clicks(truth, options.clicks, draw)
        done = timo.fit_head(model, cube, few, features=features, steps=options.steps)
        print(done.summary, flush=True)
        assert done.choice is not None
        chosen = model.config.pixel
        started = time.monotonic()
        features.predict(model)
        row: dict[str, Any] = {
            "draw": draw,
            "features_s": took,
            "choice_s": done.choice_seconds,
            "head_s": done.seconds - done.choice_seconds - done.feature_seconds,
            "map_s": time.monotonic() - started,
            "chosen": next(name for name, pixel in ANSWERS.items() if pixel == chosen),
        }
        for name, pixel in ANSWERS.items():
            model.config = replace(model.config, pixel=pixel)
            forest = features.predict(model).probability.isel({"class": 1}).mean("time").values
            row[f"{name}_all"], row[name] = judge(forest, truth, few)
            row[f"{name}_cv"] = done.choice.accuracy[name]
            row[f"{name}_se"] = done.choice.standard_error[name]
        yield row | {
            "chosen_all": row[f"{row['chosen']}_all"],
            "chosen_balanced": row[row["chosen"]],
        }


def draw_clicks(truth: xr.DataArray, each: int, draw: int) -> xr.DataArray:
    """So many labelled pixels of each class; -1 elsewhere."""
    rng, few = np.random.default_rng(draw), np.full(truth.shape, -1, "int8")
    for number in (0, 1):
        few.flat[rng.choice(np.flatnonzero(truth.values == number), each, replace=False)] = number
    return truth.copy(data=few)


def judge(forest: np.ndarray, truth: xr.DataArray, few: xr.DataArray) -> tuple[float, float]:
    """Share of the pixels without a click that are right, and its mean over the classes."""
    held = (few.values < 0) & (truth.values >= 0) & np.isfinite(forest)
    right = (forest > 0.5) == (truth.values == 1)
    each = [right[held & (truth.values == number)].mean() for number in (0, 1)]
    return float(right[held].mean()), float(np.mean(each))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=20, help="pixels of each class")
    parser.add_argument("--draws", type=int, default=10, help="how often clicks are drawn")
    parser.add_argument(
        "--years", type=int, default=1, help="years of the cube, the last of them 2018"
    )
    parser.add_argument("--steps", type=int, default=60, help="steps of the head's training")
    parser.add_argument(
        "--start", nargs="*", default=["pretrained", "random"], help="weights of the encoder"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--save", help="begin of the names of CSV files with all figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
