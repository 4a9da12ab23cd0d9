"""Few-click mapping on the sample: how long from labels to the new map, and how good it is on the held-out tree cover.

So many pixels of each class are clicked at random, in the tree cover of 2018; the head of a model with a frozen encoder
learns them, and the cube is mapped. The accuracy is that on all other pixels, of the mean probability over the dates.
Beside it, what a logistic regression of the reflectances of the pixel alone makes of the same clicks.

    python benchmarks/few_clicks.py --clicks 20 --draws 5 --years 1
"""

import argparse
import time

import numpy as np
import torch
import xarray as xr
from sklearn.linear_model import LogisticRegression

import timo


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    cube = timo.open_cube("sample", start=str(2019 - options.years), end="2018").compute()
    truth = timo.sample_labels()
    print(
        f"{cube.sizes['time']} dates of {cube.sizes['y']} x {cube.sizes['x']}, {options.clicks} clicks a class"
    )
    print(
        f"{'start':<12} {'draw':>4} {'features s':>10} {'head s':>7} {'map s':>6} {'accuracy':>8} {'balanced':>8}"
    )
    for name, pretrained in (("pretrained", True), ("random", False)):
        _run_encoder(name, cube, truth, options, pretrained=pretrained)
    for draw in range(options.draws):
        started = time.monotonic()
        few = draw_clicks(truth, options.clicks, draw)
        scores = judge(_pixels(cube, few), truth, few)
        _print("pixel alone", draw, (0.0, 0.0, time.monotonic() - started), scores)


def _run_encoder(
    name: str,
    cube: xr.DataArray,
    truth: xr.DataArray,
    options: argparse.Namespace,
    *,
    pretrained: bool,
) -> None:
    model = timo.load_model(
        "timo-tiny", data=cube, classes=truth.attrs["classes"], pretrained=pretrained
    )
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    started = time.monotonic()
    features = timo.Features(model, cube)
    took = time.monotonic() - started
    for draw in range(options.draws):
        model.load_state_dict(fresh)
        few = draw_clicks(truth, options.clicks, draw)
        done = timo.fit_head(model, cube, few, features=features, steps=options.steps)
        started = time.monotonic()
        result = features.predict(model)
        seconds = (took, done.seconds, time.monotonic() - started)
        forest = result.probability.isel({"class": 1}).mean("time").values
        _print(name, draw, seconds, judge(forest, truth, few))


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


def _pixels(cube: xr.DataArray, few: xr.DataArray) -> np.ndarray:
    """Probability of the second class from the reflectances of each pixel and date, mean over the dates."""
    values = np.moveaxis(cube.values, 1, -1)
    seen = np.isfinite(values).all(axis=-1)
    labels = np.broadcast_to(few.values, seen.shape)
    learnt = seen & (labels >= 0)
    mean, std = values[learnt].mean(axis=0), values[learnt].std(axis=0)
    regression = LogisticRegression(class_weight="balanced", C=0.01, max_iter=500)
    regression.fit((values[learnt] - mean) / std, labels[learnt])
    forest = np.full(seen.shape, np.nan)
    forest[seen] = regression.predict_proba((values[seen] - mean) / std)[:, 1]
    return np.nanmean(forest, axis=0)


def _print(
    name: str, draw: int, seconds: tuple[float, float, float], scores: tuple[float, float]
) -> None:
    features, head, mapped = seconds
    print(
        f"{name:<12} {draw:>4} {features:>10.2f} {head:>7.2f} {mapped:>6.2f} {scores[0]:>8.3f} {scores[1]:>8.3f}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clicks", type=int, default=20, help="pixels of each class")
    parser.add_argument("--draws", type=int, default=5, help="how often clicks are drawn")
    parser.add_argument(
        "--years", type=int, default=1, help="years of the cube, the last of them 2018"
    )
    parser.add_argument("--steps", type=int, default=60, help="steps of the head's training")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


if __name__ == "__main__":
    main()
