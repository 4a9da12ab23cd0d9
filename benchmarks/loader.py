"""Chips a second: what a chip store gives, beside what a training step of the tiny encoder takes.

Packs the sample into a store, and then measures in turns, in one run: the data loader (with 0, 1, ... workers), as much
of x and valid read through Zarr's own reader, and training steps (forward, backward, AdamW) on chips of the same shape.
The table gives medians over the rounds. From the root of the repository::

    python benchmarks/loader.py --rounds 5 --workers 0 1 2
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import zarr
from torch.utils.data import DataLoader

from timo.models import create_encoder
from timo.places import ChipStore, Places, pack
from timo.sources import open_cube
from timo.training.windows import WindowOptions, Windows, collate

ROOT = Path(__file__).resolve().parents[1]


def make_dataset(path: Path, args: argparse.Namespace, dates: int) -> Windows:
    options = WindowOptions(size=args.size, dates=(dates, dates))
    # The first rounds of a worker start it: long epochs make that count for little.
    return Windows(Places.from_store(path), args.batch * args.batches, options, labelled=False)


def loaded(dataset: Windows, args: argparse.Namespace, workers: int) -> Callable[[], int]:
    """Read an epoch; workers stay alive, as they do in training."""
    loader = DataLoader(
        dataset,
        batch_size=args.batch,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )

    def epoch() -> int:
        dataset.epoch += 1
        return sum(len(batch["x"]) for batch in loader)

    return epoch


def by_zarr(path: Path, dataset: Windows, args: argparse.Namespace) -> Callable[[], int]:
    """The same reads, unscaled and unturned, through Zarr's own reader."""
    store, rng = ChipStore(path), np.random.default_rng(0)
    arrays = zarr.open_group(path, mode="r")
    x, valid, count = arrays["x"], arrays["valid"], min(args.batch, 16)

    def read() -> int:
        for _ in range(count):
            place = int(rng.integers(len(store)))
            dates = dataset.options.dates[0]
            start = int(rng.integers(len(store.dates(place)) - dates + 1))
            for array in (x, valid):
                array[place, start : start + dates]
        return count

    return read


def trained(dataset: Windows, args: argparse.Namespace) -> Callable[[], int]:
    """One training step on a batch that is there already."""
    batch = collate([dataset[i] for i in range(args.batch)])
    batch = {name: tensor.to(args.device) for name, tensor in batch.items()}
    model = create_encoder("tiny", len(dataset.places.bands)).to(args.device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> int:
        optimiser.zero_grad()
        maps = model(batch["x"], batch["dates"], batch["valid"])
        sum(each.square().mean() for each in maps).backward()
        optimiser.step()
        if args.device == "cuda":
            torch.cuda.synchronize()
        return args.batch

    return step


def measure(tasks: dict[str, Callable[[], int]], rounds: int) -> pd.DataFrame:
    """Chips a second of each task, a round after another, so that what disturbs one disturbs all."""
    seen: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            start = time.perf_counter()
            chips = task()
            seen[name].append(chips / (time.perf_counter() - start))
    rows = {
        name: {"chips/s": statistics.median(rates), "least": min(rates), "most": max(rates)}
        for name, rates in seen.items()
    }
    return pd.DataFrame(rows).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="a store to read (default: one of the sample)")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--dates", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=16, help="batches an epoch")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of the training (default: torch's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "benchmark_loader")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = args.store or Path(folder) / "store"
        if not args.store:
            pack(open_cube("sample"), path, size=args.size, stride=max(args.size // 4, 1))
        report(path, args)


def report(path: Path, args: argparse.Namespace) -> None:
    dataset = make_dataset(path, args, args.dates)
    tasks = {f"train step, {args.device}": trained(dataset, args)}
    tasks |= {f"loader, {n} workers": loaded(dataset, args, n) for n in args.workers}
    tasks["zarr's own reader"] = by_zarr(path, dataset, args)
    table = measure(tasks, args.rounds)
    table["times the train step"] = table["chips/s"] / table["chips/s"].iloc[0]
    store = ChipStore(path)
    shape = (
        f"{args.dates} dates x {len(store.layout.bands)} bands x {args.size} px, batch {args.batch}"
    )
    print(
        f"{shape}; {len(store)} places; {torch.get_num_threads()} threads of {platform.machine()}\n"
    )
    print(table.round(2).to_string())
    args.folder.mkdir(parents=True, exist_ok=True)
    result = {"shape": shape, "places": len(store), "threads": torch.get_num_threads()}
    result |= {"torch": torch.__version__, "rows": table.to_dict("index")}
    (args.folder / "table.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
