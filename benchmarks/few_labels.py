"""What a pretrained encoder is worth where labels are few, beside a regression and random weights.

From the root of the repository::

    python benchmarks/few_labels.py runs/few.jsonl                     # forest of the sample, 45, 222 and 1,113 labels
    python benchmarks/few_labels.py runs/few.jsonl --folder FOLDER --place belgium_west     # crops, 10, 40, 150 a class
    python benchmarks/few_labels.py runs/few.jsonl --encoder ENCODER   # another pretrained encoder than timo's own

FOLDER is that of ``benchmarks/crops.py``. One class for each pixel and season; labels are drawn at random in half of
the squares (of 200 m, of 160 m on fields), the other half is the test. Beside each other: a logistic regression and a
random forest on monthly medians (strength by cross-validation, as `timo.evaluate` has them), a logistic regression on
the features of the frozen encoder (mean over the dates, stages 1 and 2, `timo.inspection.embed`), and the whole model
as `timo.finetune` trains it, each from random and from pretrained weights. Results are lines of the file, and are not
computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crops
import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy import stats

import timo
from timo import cube as cubes
from timo.training import ChipOptions, Optimisation
from timo.training.regression import best_strength, fit, logistic

STARTS = ("random", "pretrained")
COUNTS = {"sample": (45, 222, 1113), "fields": (10, 40, 150)}


def forest() -> tuple[xr.DataArray, xr.DataArray, xr.DataArray, int]:
    """Return the growing season of the sample, its labels, those sure enough to learn from, and its chips' size."""
    cube = timo.open_cube("sample", start="2018-05-01", end="2018-10-31").compute()
    labels, density = timo.sample_labels(), timo.sources.sample_tree_cover()
    sure = labels.where(abs(density - 50) > 15, -1).astype("int8").assign_attrs(labels.attrs)
    return cube, labels, sure, 32


def fields(folder: Path) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray, int]:
    """Return the season of a place and its crop types, as ``benchmarks/crops.py`` opens them."""
    cube, labels = crops.open_fields(folder)
    return cube, labels, labels, 16


def draw(labels: np.ndarray, count: int, seed: int, of_each: bool) -> np.ndarray:
    """Return where labels are kept: `count` of each class, or a share of every class that makes `count` in all."""
    rng, kept, total = (
        np.random.default_rng(seed),
        np.zeros(labels.shape, bool),
        (labels >= 0).sum(),
    )
    for k in np.unique(labels[labels >= 0]):
        pixels = np.flatnonzero(labels == k)
        wanted = count if of_each else max(1, round(count * len(pixels) / total))
        kept.flat[rng.choice(pixels, min(wanted, len(pixels)), replace=False)] = True
    return kept


def new_model(start: str, cube: xr.DataArray, classes: Any, seed: int, encoder: Path | None) -> Any:
    options: dict[str, Any] = {"per_date": False, "drop_path": 0.1, "seed": seed}
    if start == "pretrained":
        return timo.load_model(encoder or "timo-tiny", cube, classes, pretrained=True, **options)
    options |= {"stem": "wavelength", "pretrained": False}
    return timo.load_model("timo-tiny", cube, classes, **options)


def probe(model: Any, cube: xr.DataArray, few: np.ndarray, seed: int) -> np.ndarray:
    """Return the classes that a regression on the frozen features says."""
    features = timo.inspection.embed(model, cube, stage=(1, 2)).values
    x = np.nan_to_num(features).reshape(len(features), -1).T
    known, y = few.ravel() >= 0, few.ravel()
    strength = best_strength(logistic, x[known], y[known], np.arange(known.sum()), seed)
    said: np.ndarray = fit(logistic(strength), x[known], y[known]).predict(x)
    return said.reshape(few.shape)


def rows(given: argparse.Namespace, done: set[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Yield accuracies on the test squares, one a predictor, number of labels and seed."""
    on_sample = given.place == "sample"
    cube, labels, sure, size = forest() if on_sample else fields(given.folder / given.place)
    split = cubes.split_blocks(
        cubes.blocks(cube, size_m=200 if on_sample else crops.BLOCK_M),
        "checkerboard",
        (1.0, 0.0, 0.0),
        labels=labels,
    )
    candidates = np.where(split.values == 0, sure.values, -1)
    classes = labels.attrs["classes"]
    test = (split.values == 2) & (labels.values >= 0)
    for count in COUNTS["sample" if on_sample else "fields"]:
        for seed in range(given.seeds):
            if (given.place, count, seed) in done:
                continue
            few = np.where(draw(candidates, count, seed, not on_sample), candidates, -1)
            learnt = labels.copy(data=np.where(test, labels.values, few).astype(labels.dtype))
            row: dict[str, Any] = {"place": given.place, "labels": count, "seed": seed}
            began = time.monotonic()
            for start in STARTS:
                model = new_model(start, cube, classes, seed, given.encoder)
                said = probe(model, cube, few, seed)
                row[f"frozen, {start}"] = float((said == labels.values)[test].mean())
                timo.finetune(
                    model,
                    cube,
                    learnt,
                    split=split,
                    epochs=given.epochs,
                    chips_per_epoch=160,
                    chips=ChipOptions(size=size, dates=(8, 24), splice=0.0),
                    averaging=0.97,
                    optimisation=Optimisation(encoder_rate=0.2 if start == "pretrained" else 1.0),
                    seed=seed,
                    progress=False,
                )
                first = start == STARTS[0]
                found = timo.evaluate(
                    model, cube, learnt, split=split, baselines=first, seed=seed
                ).table.overall_accuracy
                row[f"TiMo, {start}"] = float(found["model"])
                if first:
                    row |= {name: float(found[name]) for name in found.index if name != "model"}
                    own = timo.evaluate(model.pixel, cube, learnt, split=split, baselines=False)
                    row["its pixels"] = float(own.table.overall_accuracy["model"])
            yield row | {"seconds": round(time.monotonic() - began)}


def report(lines: list[dict[str, Any]]) -> str:
    """Return a table in Markdown: the mean over the draws ± half a 95 % interval (Student's t)."""
    table = pd.DataFrame(lines).drop(columns=["seed", "seconds"])
    names = [name for name in table.columns if name not in {"place", "labels"}]
    out = ["| place | labels | " + " | ".join(names) + " |", "| --- " * (len(names) + 2) + "|"]
    for (place, count), group in table.groupby(["place", "labels"], sort=False):
        half = stats.t.ppf(0.975, max(len(group) - 1, 1)) / np.sqrt(len(group))
        cells = [f"{group[n].mean():.3f} ± {half * group[n].std():.3f}" for n in names]
        out.append(f"| {place} | {count} | {' | '.join(cells)} |")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--folder", type=Path, help="holds a folder for each place with fields")
    parser.add_argument("--place", default="sample")
    parser.add_argument("--encoder", type=Path, help="folder of another pretrained encoder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    lines = crops.read_lines(given.results)
    done = {(line["place"], line["labels"], line["seed"]) for line in lines}
    for row in rows(given, done):
        with given.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    print(report(crops.read_lines(given.results)))


if __name__ == "__main__":
    main()
