"""Crop types and land cover of two places in one training, Sentinel-2 with and without Sentinel-1, beside baselines.

Needs a folder with two places side by side, each a folder of files as ESA WorldCereal's tests have them
(``S2_L2A_20m.nc``, ``S1_GRD-ASCENDING_20m.nc``, ``OUTPUT_POLY-110_10m.nc``). From the root of the repository::

    python benchmarks/crops.py FOLDER runs/crops.jsonl --processes 2
    python benchmarks/crops.py FOLDER runs/quick.jsonl --quick --only "crop.*blocks"

Four settings: every other block of 160 m held out ("blocks": parcels reach over into the training blocks, for every
model alike); the same with all of Sentinel-2 hidden on three of four dates ("clouds"); half of the blocks with whole
parcels, and then the other half ("whole parcels"); trained on one place and tested on the other
("france -> belgium_west"). U-TAE is trained beside TiMo, on the same chips, where there is one sensor, which is what it
reads. Every result is a line of the file as soon as it is there, and is not run again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from peers.inputs import PeerConfig
from peers.utae import UTAE
from scipy import ndimage

import timo
from timo.training import ChipOptions

# A year that ends with the harvest of the summer crops, of which the labels are.
SEASON = ("11-01", "10-31")
# Codes of the legends; all other crops are one class, as neither place has enough of any of them.
CROPS = {1200: "maize", 9120: "grassland"} | dict.fromkeys(
    (1110, 1500, 1510, 1910, 2130, 5100, 7900, 8100), "other crops"
)
COVERS = {11: "annual crops", 13: "grass", 60: "water or other", 99: "not cropland"}
TASKS = {"crop types": ("CT", CROPS), "land cover": ("LC", COVERS)}
# Dates of Sentinel-2 that show less than this share of the place say little, and cost as much as any.
CLEAREST = 0.2
HIDDEN = 0.75
BLOCK_M = 160.0


@dataclass(frozen=True)
class Run:
    """One line of the results: what is learnt, from which sensors, and how it is tested."""

    task: str
    sensors: str
    setting: str
    seed: int
    model: str = "TiMo"

    @property
    def name(self) -> str:
        return ", ".join((self.model, self.task, self.sensors, self.setting, f"seed {self.seed}"))


@dataclass(frozen=True)
class Effort:
    """How long is trained."""

    epochs: int = 8
    chips: int = 240
    size: int = 16
    batch: int = 8
    dates: tuple[int, int] = (24, 48)


def runs(places: list[str], seeds: range) -> Iterator[Run]:
    """Yield all runs, those of one seed together: a table can be read early."""
    one, other = places
    for seed in seeds:
        for task in TASKS:
            for sensors in ("S2", "S2 + S1"):
                settings = ["blocks", "whole parcels", f"{one} -> {other}", f"{other} -> {one}"]
                settings += ["clouds"] if task == "crop types" else []
                models = ["TiMo", "U-TAE"] if sensors == "S2" else ["TiMo"]
                yield from (
                    Run(task, sensors, setting, seed, model)
                    for setting in settings
                    for model in models
                )


def open_season(path: Path, sensor: str, year: int) -> xr.DataArray:
    """Open the observations of the year up to the harvest of `year`."""
    cube = timo.open_cube("files", path=path, sensor=sensor)
    span = slice(f"{year - 1}-{SEASON[0]}", f"{year}-{SEASON[1]}")
    return cube.sel(time=span).compute()


def harvest_of(folder: Path) -> int:
    """Return the year of the harvest that the labels are of: the last year of the series."""
    with xr.open_dataset(folder / "OUTPUT_POLY-110_10m.nc") as dataset:
        return pd.Timestamp(dataset.attrs["end_date"]).year


def open_cube(folder: Path, run: Run) -> xr.DataArray:
    """Open a place as a run sees it."""
    year = harvest_of(folder)
    s2 = open_season(folder / "S2_L2A_20m.nc", "sentinel-2", year)
    s2 = s2.isel(time=(timo.cube.valid_mask(s2).mean(("y", "x")) >= CLEAREST).values)
    if run.setting == "clouds":
        rng, dates = np.random.default_rng([run.seed, year]), s2.sizes["time"]
        s2 = s2.isel(time=np.sort(rng.permutation(dates)[: round((1 - HIDDEN) * dates)]))
    if run.sensors == "S2":
        return s2
    s1 = open_season(folder / "S1_GRD-ASCENDING_20m.nc", "sentinel-1", year)
    # Some ten days each: less speckle, and as many dates as Sentinel-2 has.
    return timo.cube.join(s2, timo.cube.composite(s1, "10D"))


def open_labels(folder: Path, cube: xr.DataArray, run: Run) -> xr.DataArray:
    """Read labels onto the cube's grid; pixels of one class that touch are a parcel, which no split divides."""
    layer, legend = TASKS[run.task]
    path = folder / "OUTPUT_POLY-110_10m.nc"
    labels = timo.read_labels(path, cube, layer=layer, classes=legend, ignore=[0])
    if run.setting in {"blocks", "clouds"}:
        return labels.drop_vars(["feature", "group"], errors="ignore")
    parcels = np.full(labels.shape, -1, "int32")
    for number in range(len(labels.attrs["classes"])):
        found, _ = ndimage.label(labels.values == number)
        parcels = np.where(found > 0, found + parcels.max(), parcels)
    return labels.assign_coords(group=(("y", "x"), parcels.astype("int32")))


def open_fields(folder: Path) -> tuple[xr.DataArray, xr.DataArray]:
    """Open the season of one place, Sentinel-2, and its crop types."""
    run = Run("crop types", "S2", "blocks", 0)
    cube = open_cube(folder, run)
    return cube, open_labels(folder, cube, run)


def open_places(folder: Path, names: list[str], run: Run) -> timo.Places:
    cubes = [open_cube(folder / name, run) for name in names]
    labels = [open_labels(folder / n, c, run) for n, c in zip(names, cubes, strict=True)]
    return timo.Places(list(zip(cubes, labels, strict=True)), names=names)


def new_model(places: timo.Places, run: Run) -> torch.nn.Module:
    model = timo.load_model(
        "timo-tiny", places, task="segmentation", per_date=False, pretrained=False, seed=run.seed
    )
    if run.model == "TiMo":
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return UTAE(PeerConfig.like(model.config))


def execute(folder: Path, names: list[str], run: Run, effort: Effort) -> dict[str, Any]:
    """Train and count one run."""
    torch.set_num_threads(1)
    began = time.monotonic()
    places = open_places(folder, names, run)
    model, baselines = new_model(places, run), run.model == "TiMo"
    options: dict[str, Any] = {
        "epochs": effort.epochs,
        "chips_per_epoch": effort.chips,
        "batch_size": effort.batch,
        "chips": ChipOptions(size=effort.size, dates=effort.dates, splice=0.0),
        "progress": False,
    }
    if "->" in run.setting:
        first = names.index(run.setting.split(" -> ")[0])
        learnt, tested = places[[first]], places[[1 - first]]
        timo.finetune(model, learnt, seed=run.seed, **options)
        result = timo.evaluate(model, tested, train=learnt, baselines=baselines, seed=run.seed)
    elif run.setting in {"blocks", "clouds"}:
        split = places.split(
            "block", size_m=BLOCK_M, scheme="checkerboard", fractions=(1, 0, 0), seed=run.seed
        )
        timo.finetune(model, places, split=split, seed=run.seed, **options)
        result = timo.evaluate(model, places, split=split, baselines=baselines, seed=run.seed)
    else:
        result = timo.cross_validate(
            model,
            places,
            by="block",
            k=2,
            size_m=BLOCK_M,
            baselines=baselines,
            seed=run.seed,
            **options,
        )
    return {
        **asdict(run),
        "effort": asdict(effort),
        "dates": [places.open(i)[0].sizes["time"] for i in range(len(places))],
        "pixels": int(result.confusion.to_numpy().sum()),
        "figures": json.loads(result.table.to_json(orient="index")),
        "classes": json.loads(result.classes.to_json(orient="index")),
        "notes": list(result.notes),
        "seconds": round(time.monotonic() - began),
    }


def report(lines: list[dict[str, Any]]) -> str:
    """Return a table in Markdown: means over the seeds, of each predictor."""
    rows = [
        {
            "task": line["task"],
            "setting": line["setting"],
            "sensors": line["sensors"],
            "predictor": line["model"] if who == "model" else who,
        }
        | {"seed": line["seed"], "accuracy": own["overall_accuracy"], "f1": own["mean_f1"]}
        for line in lines
        for who, own in line["figures"].items()
    ]
    keys = ["task", "setting", "sensors", "predictor"]
    table = pd.DataFrame(rows).groupby(keys, sort=False)[["accuracy", "f1"]]
    means, spreads, counts = table.mean(), table.std(), table.size()
    out = [
        "| task | setting | sensors | predictor | overall accuracy | mean F1 | seeds |",
        "| --- " * 7 + "|",
    ]
    for key in means.index:
        cells = [
            f"{means.loc[key, name]:.3f}"
            + (f" ± {spreads.loc[key, name]:.3f}" if counts[key] > 1 else "")
            for name in ("accuracy", "f1")
        ]
        out.append(f"| {' | '.join(key)} | {' | '.join(cells)} | {counts[key]} |")
    return "\n".join(out)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds a folder for each of the two places")
    parser.add_argument(
        "results", type=Path, help="lines of JSON; runs that are there are not run again"
    )
    parser.add_argument("--places", nargs=2, default=["france", "belgium_west"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=Effort.epochs)
    parser.add_argument("--quick", action="store_true", help="one seed and hardly any training")
    parser.add_argument("--only", default="", help="regular expression that a run's name must hold")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1)
    given = parser.parse_args()
    effort = Effort(1, 32) if given.quick else Effort(given.epochs)
    done = {Run(**{k: line[k] for k in Run.__annotations__}) for line in read_lines(given.results)}
    wanted = [
        run
        for run in runs(given.places, range(1 if given.quick else given.seeds))
        if run not in done and re.search(given.only, run.name)
    ]
    given.results.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.processes, mp_context=context) as pool:
        waiting = {
            pool.submit(execute, given.folder, given.places, run, effort): run for run in wanted
        }
        for future in as_completed(waiting):
            with given.results.open("a") as file:
                file.write(json.dumps(future.result()) + "\n")
            print(f"{waiting[future].name}: {future.result()['seconds']} s", flush=True)
    if lines := read_lines(given.results):
        print(report(lines))


if __name__ == "__main__":
    main()
