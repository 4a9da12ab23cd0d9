"""What the demonstration claims: held-out accuracy and loss maps over several seeds, beside its peers.

Runs ``notebooks/finetune_deforestation.ipynb`` once a seed and prints a table; every figure comes from the run's own
``metrics.json``. From the root of the repository::

    python benchmarks/deforestation.py --seeds 0 1 2
"""

import argparse
import json
from pathlib import Path

import pandas as pd
import papermill

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


if __name__ == "__main__":
    main()
