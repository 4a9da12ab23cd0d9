"""How well TiMo and its peers tell forest from the rest, with few dates and under clouds.

From the root of the repository::

    python benchmarks/accuracy.py                     # the sample: every model, three seeds
    python benchmarks/accuracy.py --cube my.zarr --labels my_labels.zarr --months 1 12
    python benchmarks/accuracy.py --fields FOLDER --place belgium_west --block 160   # crop types
    python benchmarks/accuracy.py --quick             # within a minute, to see that it works
    python benchmarks/accuracy.py --tune              # learning rates, on squares of the training part

FOLDER is that of ``benchmarks/crops.py``.

The task is one class per pixel for the whole series, so that peers that give one answer compete on their own ground.
Training and test places are squares of 200 m in a checkerboard. Labels of test squares never reach a model; their
observations may be seen as surroundings of training pixels, by all models alike. Every neural model goes through
`timo.finetune`: the same chips (1 to 16 dates, at random, half of them with the gaps of real clouds), the same number
of steps, the same optimiser. It is trained once a seed and tested under every condition, in windows of the size of the
chips, half overlapping.

The **random forest** and the **logistic regression** (penalty by cross-validation over squares) are trained for each
condition separately, on monthly medians of the same dates and gaps that they are tested with; each neural model is
trained once for all conditions.

Conditions: a number of clear-enough dates of April to October of the label year, three nested draws of each (fewer
months would not hold 16 dates on the sample); and eight of them with a share of the observations hidden by the gaps
that clouds left on other dates of the series. They are the same for all models and seeds. A figure is the mean over the
draws, then the mean ± half a 95 % interval (Student's t) over the seeds: it holds what training does by chance, not
what another place would bring.

Each result is kept in its own file, so that an interrupted run goes on. What changed in the code is not noticed:
--fresh computes anew.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import crops
import numpy as np
import torch
from peers.conditions import conditions
from peers.inputs import PeerConfig
from peers.report import costs, not_led, summarise, tables
from peers.task import SAMPLE_YEAR, Task, from_paths, make_task, sample
from peers.testing import classify, classify_by_medians, score, share_hidden
from peers.unet3d import UNet3D
from peers.utae import UTAE
from torch import nn

import timo
from timo.atomic import replacing
from timo.cube import valid_mask
from timo.errors import TimoError
from timo.loading import load_shipped
from timo.models.weights import CONFIG, WEIGHTS
from timo.training import ChipOptions, Optimisation

ROOT = Path(__file__).resolve().parents[1]
FACTORISED = ("d-stga", "d-stga", "stga", "stga")
# Peak learning rates tried with --tune, and the one taken for each model.
TRIED = (5e-4, 1e-3, 2e-3)
LEARNING_RATES = {
    "timo": 1e-3,
    "timo-pretrained": 1e-3,
    "timo-factorised": 1e-3,
    "u-tae": 1e-3,
    "unet-3d": 1e-3,
}


@dataclass(frozen=True)
class Settings:
    """All that a result depends on, beside the model, the seed and the task."""

    epochs: int = 8
    chips: int = 320
    batch: int = 8
    size: int = 32
    chip_dates: tuple[int, int] = (1, 16)
    hide: float = 0.5
    averaging: float = 0.99
    counts: tuple[int, ...] = (2, 4, 8, 16)
    clouds: tuple[int, ...] = (25, 50, 75)
    draws: int = 3
    trees: int = 300


def new_timo(task: Task, seed: int, **encoder: Any) -> timo.models.TiMo:
    """TiMo from random weights."""
    options = {"per_date": False, "drop_path": 0.1, "pretrained": False, **encoder}
    return timo.load_model("timo-tiny", task.cube, task.classes, seed=seed, **options)


def lacking(folder: Path | None) -> str | None:
    """Why there is no pretrained model in a folder; None if there is one, and for the one that comes with timo."""
    if folder is None or all((folder / name).is_file() for name in (WEIGHTS, CONFIG)):
        return None
    return f"there are no pretrained weights: {folder} holds no {WEIGHTS} with its {CONFIG}"


def pretrained(task: Task, seed: int, folder: Path | None) -> timo.models.TiMo:
    """TiMo whose encoder starts from a pretrained one, in a folder or as it comes with timo, and a new head."""
    options = {"per_date": False, "drop_path": 0.1, "pretrained": True}
    return timo.load_model(folder or "timo-tiny", task.cube, task.classes, seed=seed, **options)


def new_peer(task: Task, seed: int, kind: Callable[..., nn.Module], **options: Any) -> nn.Module:
    config = PeerConfig.like(new_timo(task, 0).config)
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        return kind(config, **options)


def make_model(name: str, task: Task, seed: int, weights: Path | None) -> nn.Module:
    """A new model; the classical ones have none."""
    if name == "timo-pretrained":
        return pretrained(task, seed, weights)
    makers: dict[str, Callable[[], nn.Module]] = {
        "timo": lambda: new_timo(task, seed),
        "timo-factorised": lambda: new_timo(task, seed, attention=FACTORISED),
        "u-tae": lambda: new_peer(task, seed, UTAE),
        # The published 1.6 M parameters, on one level more at half the width: a third of the cost.
        "unet-3d": lambda: new_peer(task, seed, UNet3D, widths=(16, 32, 64, 128)),
    }
    return makers[name]()


NEURAL = tuple(LEARNING_RATES)
CLASSICAL = ("forest", "regression")
MODELS = (*NEURAL, *CLASSICAL)


def train(
    model: nn.Module, task: Task, seed: int, rate: float, settings: Settings
) -> dict[str, Any]:
    """What the training cost, and its loss in each epoch."""
    chips = ChipOptions(
        size=settings.size, dates=settings.chip_dates, splice=0.0, hide=settings.hide
    )
    done = timo.finetune(
        model,  # a peer has the same config and call
        task.cube,
        task.labels,
        epochs=settings.epochs,
        chips_per_epoch=settings.chips,
        batch_size=settings.batch,
        chips=chips,
        optimisation=Optimisation(learning_rate=rate),
        averaging=settings.averaging,
        seed=seed,
        progress=False,
    )
    return {"seconds": done.seconds, "losses": [round(loss, 4) for loss in done.history.loss]}


def measure(
    name: str, task: Task, settings: Settings, *, seed: int, rate: float, weights: Path | None
) -> dict[str, Any]:
    """Train a model and test it under every condition."""
    drawn = conditions(
        valid_mask(task.cube).values,
        task.masks,
        counts=settings.counts,
        clouds=settings.clouds,
        draws=settings.draws,
    )
    result: dict[str, Any] = {"model": name, "seed": seed, "rate": rate, "parameters": None}
    started = time.monotonic()
    if name in CLASSICAL:
        maps = [classify_by_medians(task, c, name, seed, settings.trees) for c in drawn]
        result["seconds"] = time.monotonic() - started
    else:
        model = make_model(name, task, seed, weights)
        result["parameters"] = sum(p.numel() for p in model.parameters())
        result |= train(model, task, seed, rate, settings)
        maps = [classify(model, task, c, settings.size) for c in drawn]
    result["scores"] = [
        {"dates": c.dates, "cloud": c.cloud, "draw": c.draw, "hidden": share_hidden(task, c)}
        | score(task.truth, said, task.focus)
        for c, said in zip(drawn, maps, strict=True)
    ]
    return result


def cached(path: Path, fresh: bool, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an earlier run left, or the result of this one, which is kept."""
    if fresh or not path.exists():
        result = compute()
        with replacing(path) as new:
            new.write_text(json.dumps(result, indent=1) + "\n")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def key(task: Task, settings: Settings, name: str, rate: float, weights: Path | None) -> str:
    """A short name for all that a result depends on, beside the seed."""
    parts = [task.digest(), json.dumps(asdict(settings)), name, repr(rate)]
    if name == "timo-pretrained":
        parts.append(checksum(weights))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def checksum(folder: Path | None) -> str:
    """SHA-256 of the file of the pretrained weights."""
    if folder is None:
        return load_shipped("timo-tiny").sha256
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Results of all models, seeds and, when tuning, learning rates."""
    task, settings = open_task(arguments), make_settings(arguments)
    digest = task.digest()
    results = []
    for name in arguments.models:
        if name == "timo-pretrained" and (why := lacking(arguments.pretrained)):
            print(f"{name}: left out, {why}", flush=True)
            continue
        tuned = arguments.tune and name not in CLASSICAL
        for rate in TRIED if tuned else (LEARNING_RATES.get(name, 0.0),):
            identity = key(task, settings, name, rate, arguments.pretrained)
            for seed in arguments.seeds:
                path = arguments.folder / "results" / f"{name}-seed{seed}-{identity}.json"
                compute = partial(
                    measure,
                    name,
                    task,
                    settings,
                    seed=seed,
                    rate=rate,
                    weights=arguments.pretrained,
                )
                result = cached(path, arguments.fresh, compute)
                if tuned:
                    result["model"] = f"{name} {rate:g}"
                results.append(result)
                print(progress(result), flush=True)
    assert digest == task.digest(), "a model changed the data that the next one is given"
    rows = summarise(results)
    print("", tables(rows, task.classes[task.focus]), "", sep="\n")
    print(costs(results, settings.epochs), "", sep="\n")
    for sentence in not_led(rows):
        print(f"TiMo does not lead: {sentence}")
    if not task.masks:
        print("No date of the series is partly cloudy: there are no gaps to test with.")
    record = {"settings": asdict(settings), "task": digest, "rows": rows, "results": results}
    name = "tuning.json" if arguments.tune else "table.json"
    with replacing(arguments.folder / name) as new:
        new.write_text(json.dumps(record, indent=1) + "\n")
    return results


def progress(result: dict[str, Any]) -> str:
    """One line of a result."""
    means = {m: float(np.mean([s[m] for s in result["scores"]])) for m in ("accuracy", "f1")}
    return (
        f"{result['model']} seed {result['seed']}: {result['seconds']:.0f} s, mean over the conditions: accuracy "
        f"{means['accuracy']:.3f}, F1 {means['f1']:.3f}"
    )


def open_task(arguments: argparse.Namespace) -> Task:
    """The sample, or what is given by path."""
    if arguments.fields is not None:
        cube, labels = crops.open_fields(arguments.fields / arguments.place)
        return make_task(
            cube,
            labels,
            labels,
            year=None,
            months=(1, 12),
            block_m=arguments.block,
            validation=arguments.tune,
        )
    if (arguments.cube is None) != (arguments.labels is None):
        raise TimoError("a cube of your own needs labels of your own: give --cube and --labels")
    own = arguments.cube is not None
    data = from_paths(arguments.cube, arguments.labels) if own else sample()
    year = arguments.year if own or arguments.year else SAMPLE_YEAR
    return make_task(
        *data,
        year=year,
        months=tuple(arguments.months),
        block_m=arguments.block,
        validation=arguments.tune,
    )


def make_settings(arguments: argparse.Namespace) -> Settings:
    if not arguments.quick:
        return Settings(epochs=arguments.epochs)
    return Settings(epochs=1, chips=32, counts=(2, 8), clouds=(50,), draws=1, trees=50)


def parse(command: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2; --quick, --tune: 0")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--cube", type=Path, help=".zarr or .nc of a cube; default: the sample")
    parser.add_argument("--labels", type=Path, help=".zarr or .nc of (y, x) labels on its grid")
    parser.add_argument("--fields", type=Path, help="folder of places with crop types")
    parser.add_argument("--place", default="belgium_west", help="a place in it")
    parser.add_argument("--year", type=int, help="dates of this year alone; the sample: 2018")
    parser.add_argument("--months", type=int, nargs=2, default=(4, 10), help="growing season")
    parser.add_argument("--block", type=float, default=200, help="side of a square in metres")
    parser.add_argument(
        "--pretrained",
        type=Path,
        help="folder of an encoder; default: the one that comes with timo",
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "accuracy")
    parser.add_argument("--quick", action="store_true", help="1 epoch, 1 seed, 2 models")
    parser.add_argument("--tune", action="store_true", help="try learning rates, on no test square")
    parser.add_argument("--fresh", action="store_true", help="take no result of an earlier run")
    arguments = parser.parse_args(command)
    if arguments.models is None:
        arguments.models = ["timo", "u-tae"] if arguments.quick else list(MODELS)
    if arguments.seeds is None:
        arguments.seeds = [0] if arguments.quick or arguments.tune else [0, 1, 2]
    return arguments


def main(command: list[str] | None = None) -> None:
    run(parse(command))


if __name__ == "__main__":
    main()
