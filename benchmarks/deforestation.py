"""What the demonstration claims: held-out accuracy and loss maps over several seeds, beside its rivals.

Runs ``notebooks/finetune_deforestation.ipynb`` once a seed; the figures of the first table come from the run's own
``metrics.json``. The second table scores each run's map and those of the rivals (`peers.loss`) in one way. From the
root of the repository, with ``pip install zeit-cdts`` for CCDC::

    python benchmarks/deforestation.py --seeds 0 1 2
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import rioxarray
from peers import loss

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "finetune_deforestation.ipynb"


def run(seed: int, folder: Path) -> dict[str, float]:
    output = folder / f"seed{seed}"
    output.mkdir(parents=True, exist_ok=True)
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
        for who in ("held_out", "random_forest", "loss", "monitor")
        for name, value in (metrics[who] or {}).items()
    }
    return {"seed": seed, **row, "seconds": metrics["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "benchmark_deforestation")
    arguments = parser.parse_args()
    table = (
        pd.DataFrame([run(seed, arguments.folder) for seed in arguments.seeds]).set_index("seed").T
    )
    table["mean"] = table.mean(axis=1)
    print(table.round(4).to_string())
    table.to_json(arguments.folder / "table.json", indent=2)
    kinds = ("logistic", "cross-validated", "forest")
    season = {kind: loss.season_scores(kind) for kind in kinds}
    print(pd.DataFrame(season).T.round(4).to_string())
    for pixels in (45, 222, 1113):
        few = pd.DataFrame([loss.season_scores("logistic", seed, pixels) for seed in range(5)])
        print(f"logistic, {pixels} pixels, mean and standard deviation of five draws")
        print(few.agg(["mean", "std"]).round(4).to_string())
    maps = {f"TiMo, seed {s}": read_map(arguments.folder / f"seed{s}") for s in arguments.seeds}
    maps |= {name: make() for name, make in loss.rivals().items()}
    scores = pd.DataFrame({name: loss.score(years) for name, years in maps.items()}).T
    print(scores.round(3).to_string())
    scores.to_json(arguments.folder / "loss.json", indent=2)


def read_map(folder: Path) -> np.ndarray:
    """Read the year of loss that a run mapped."""
    with rioxarray.open_rasterio(folder / "loss_year.tif") as raster:
        return raster.squeeze().to_numpy().astype(int)


if __name__ == "__main__":
    main()
