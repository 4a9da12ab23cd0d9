"""What the demonstration claims: held-out accuracy and loss maps over several seeds, beside its rivals.

Runs ``notebooks/finetune_deforestation.ipynb`` once a seed, unless the folder holds that run; held-out accuracies are
those of the run's own ``metrics.json``. Then the loss maps of each run and of the rivals (`peers.loss`) are scored in
one way: TiMo as the demonstration maps, without the outline, its path of single pixels alone, and TiMo asked with
windows of 1 to all dates, all else equal. From the root of the repository, with ``pip install zeit-cdts`` for CCDC and
BFAST Monitor::

    python benchmarks/deforestation.py --seeds 0 1 2

What takes long is kept in the folder; remove a file there, and it is made again.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import papermill
import xarray as xr
from peers import loss
from scipy import stats

import timo

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "finetune_deforestation.ipynb"
WINDOWS = {1: "1 date", 2: "2 dates", 4: "4 dates", 12: "12 dates", None: "all dates"}


def run(seed: int, folder: Path) -> dict[str, float]:
    """Return what one run of the notebook says of itself; an earlier run counts."""
    output = folder / f"seed{seed}"
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "metrics.json").exists():
        papermill.execute_notebook(
            NOTEBOOK,
            output / "notebook.ipynb",
            parameters={"seed": seed, "output_folder": str(output), "quick": False},
            cwd=ROOT,
            progress_bar=False,
        )
    metrics = json.loads((output / "metrics.json").read_text())
    row = {
        f"{who} {name}": value
        for who in ("held_out", "random_forest")
        for name, value in metrics[who].items()
    }
    return {"seed": seed, **row, "seconds": metrics["seconds"]}


def kept(path: Path, compute: Callable[[], Any]) -> Any:
    """Return what an earlier run left, or the result of this one, which is kept."""
    if not path.exists():
        path.write_text(json.dumps(compute(), indent=1, default=float) + "\n")
    return json.loads(path.read_text())


def loss_scores(folder: Path) -> dict[str, dict[str, float]]:
    """Score the loss maps of one run: of TiMo, of its parts, and of TiMo asked with other windows."""
    model = timo.load_model(folder / "model")
    cube = timo.open_cube("sample", start="2017-01-01", end="2020-12-31").compute()
    pixels, usual = forest(model.pixel, cube), forest(model, cube)
    maps = {
        "TiMo, as the demonstration maps": (usual, pixels),
        "TiMo without the outline": (usual, None),
        "its path of single pixels alone": (pixels, pixels),
        "the same without the outline": (pixels, None),
    }
    for window, name in WINDOWS.items():
        asked = forest(model, cube, window=window or cube.sizes["time"])
        maps[f"TiMo, windows of {name}"] = asked, pixels
        maps[f"TiMo, windows of {name}, without the outline"] = asked, None
    return {name: loss.score(map_loss(*given)) for name, given in maps.items()}


def forest(model: Any, cube: xr.DataArray, **options: Any) -> xr.DataArray:
    """Predict the probability of forest on each date."""
    return timo.predict(model, cube, **options).probability.sel({"class": "forest"}).compute()


def map_loss(probability: xr.DataArray, outline: xr.DataArray | None) -> np.ndarray:
    """Map the year of loss as the demonstration does."""
    return timo.loss_year(probability, outline=outline).loss_year.values.astype(int)


def summary(runs: list[dict[str, dict[str, float]]]) -> pd.DataFrame:
    """Return the mean over runs, and half a 95 % interval (Student's t) where there are several."""
    tables = np.stack([pd.DataFrame(one).T.to_numpy("float64") for one in runs])
    first = pd.DataFrame(runs[0]).T
    means = pd.DataFrame(tables.mean(axis=0), first.index, first.columns)
    if len(runs) == 1:
        return means
    half = stats.t.ppf(0.975, len(runs) - 1) * stats.sem(tables, axis=0)
    return means.join(pd.DataFrame(half, first.index, [f"{name} ±" for name in first.columns]))


def print_table(title: str, table: pd.DataFrame, digits: int = 3) -> None:
    """Print a table, each mean with its interval behind it."""
    shown = pd.DataFrame(index=table.index)
    for name in [name for name in table if not name.endswith(" ±")]:
        text = table[name].map(f"{{:.{digits}f}}".format)
        if f"{name} ±" in table:
            text += " ± " + table[f"{name} ±"].map(f"{{:.{digits}f}}".format)
        shown[name] = text
    print(f"\n{title}\n{shown.to_string()}", flush=True)


def season_tables() -> None:
    """Print how simple models of a pixel's monthly medians tell forest in 2018, on the test squares."""
    kinds = ("logistic", "cross-validated", "forest")
    season = {kind: loss.season_scores(kind) for kind in kinds}
    print_table("Forest in 2018, on the test squares", pd.DataFrame(season).T, 4)
    for pixels in (45, 222, 1113):
        few = [{"logistic": loss.season_scores("logistic", s, pixels)} for s in range(5)]
        print_table(f"The same from {pixels} pixels, five draws", summary(few), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "benchmark_deforestation")
    arguments = parser.parse_args()
    folder, seeds = arguments.folder, arguments.seeds
    own = [{"the demonstration": run(seed, folder)} for seed in seeds]
    table = summary(own).drop(columns=["seed", "seed ±"], errors="ignore")
    print_table(f"The notebook of itself, seeds {seeds}", table.T, 4)
    scored = [
        kept(folder / f"seed{s}" / "scores.json", lambda s=s: loss_scores(folder / f"seed{s}"))
        for s in seeds
    ]
    for seed, scores in zip(seeds, scored, strict=True):
        print_table(f"Loss maps, seed {seed}", pd.DataFrame(scores).T)
    print_table(f"Loss maps, mean of seeds {seeds} ± half a 95 % interval", summary(scored))
    rivals = kept(
        folder / "rivals.json",
        lambda: {name: loss.score(make()) for name, make in loss.rivals().items()},
    )
    print_table("Rivals", pd.DataFrame(rivals).T)
    season_tables()


if __name__ == "__main__":
    main()
