"""Many places on disk: seconds to open, memory, and chips a second beside the same chips from memory.

Makes synthetic places of 64 x 64 pixels, 12 dates and 10 bands with labels, packs them (20 GB as values for 10,000 of
them), and measures in turns, in one run: the chips of as many places as fit into memory, from the store and from
memory, without and with workers; then memory over several epochs of all places. From the root of the repository::

    python benchmarks/places.py FOLDER --places 10000
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch.utils.data import DataLoader

from timo.places import Places
from timo.training.windows import ChipOptions, Windows, collate

BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
CLASSES = ("wheat", "maize", "grass", "forest", "water")


def make_labels(number: int, size: int) -> xr.DataArray:
    """Fields of one class each, a fifth of them unlabelled."""
    rng = np.random.default_rng([number, 1])
    fields = rng.integers(-1, len(CLASSES), (8, 8))
    values = np.kron(fields, np.ones((size // 8, size // 8), "int16")).astype("int16")
    return xr.DataArray(values, _grid(number, size), ("y", "x"), attrs={"classes": list(CLASSES)})


def make_cube(number: int, size: int, dates: int) -> xr.DataArray:
    """Reflectances of the fields with a season, noise and clouds, as digital numbers."""
    rng = np.random.default_rng([number, 2])
    fields = make_labels(number, size).values.astype("float32")
    season = np.sin(np.arange(dates, dtype="float32"))[:, None, None, None]
    band = np.arange(len(BANDS), dtype="float32")[:, None, None]
    values = 1500 + 300 * band + 200 * fields * season + 100 * fields
    values = values + rng.integers(-40, 40, values.shape, dtype="int16")
    values = np.rint(values).astype("float32") * np.float32(1e-4)
    clouds = rng.random((dates, 1, 4, 4)) < 0.3
    values[np.broadcast_to(clouds.repeat(size // 4, 2).repeat(size // 4, 3), values.shape)] = np.nan
    first = np.datetime64("2020-03-01", "ns") + np.timedelta64(int(rng.integers(10)), "D")
    times = first + np.arange(dates) * np.timedelta64(15, "D")
    coords = {"time": times, "band": list(BANDS), **_grid(number, size)}
    attrs = {"sensor": "sentinel-2"}
    cube = xr.DataArray(values, coords, ("time", "band", "y", "x"), attrs=attrs)
    return cube.rio.write_crs("EPSG:32633")


def _grid(number: int, size: int) -> dict[str, np.ndarray]:
    row, column = divmod(number, 100)
    steps = 10.0 * np.arange(size) + 5
    return {"y": 5_400_000 - 1000 * row - steps, "x": 400_000 + 1000 * column + steps}


def make_places(count: int, size: int, dates: int) -> Places:
    """Places that are made when they are asked for."""
    pairs = [
        (partial(make_cube, n, size, dates), partial(make_labels, n, size)) for n in range(count)
    ]
    return Places(pairs, groups=[f"region {n % 50}" for n in range(count)])


def make_loader(windows: Windows, workers: int, batch: int) -> Callable[[], float]:
    """Chips a second of an epoch; workers stay alive, as they do in training."""
    loader = DataLoader(
        windows,
        batch_size=batch,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
    )

    def epoch() -> float:
        windows.epoch += 1
        start = time.perf_counter()
        chips = sum(len(chip["x"]) for chip in loader)
        return chips / (time.perf_counter() - start)

    return epoch


def compare(store: Places, args: argparse.Namespace) -> pd.DataFrame:
    """Measure the same chips from memory and from the store, a round after another."""
    some = store[: args.compared]
    loaded = some.load()
    options = ChipOptions(size=args.chip)
    length = args.batch * args.batches
    tasks = {}
    for workers in args.workers:
        for name, places in (("memory", loaded), ("store", some)):
            windows = Windows(places, length, options)
            tasks[name, workers] = make_loader(windows, workers, args.batch)
            check = [windows[i]["x"] for i in range(3)]
            same = Windows(loaded, length, options)
            assert all(torch.equal(x, same[i]["x"]) for i, x in enumerate(check)), "other chips"
    seen: dict[tuple[str, int], list[float]] = {key: [] for key in tasks}
    for task in tasks.values():
        task()
    for _ in range(args.rounds):
        for key, task in tasks.items():
            seen[key].append(task())
    rows = [
        {"from": name, "workers": workers, "chips/s": statistics.median(rates), "least": min(rates)}
        for (name, workers), rates in seen.items()
    ]
    table = pd.DataFrame(rows)
    memory = table[table["from"] == "memory"].set_index("workers")["chips/s"]
    table["of memory"] = table["chips/s"] / table["workers"].map(memory)
    # What a training has that keeps its places in memory, where workers are of no use.
    table["of memory alone"] = table["chips/s"] / memory.get(0, np.nan)
    return table


def measure_memory(store: Places, args: argparse.Namespace) -> list[dict[str, float]]:
    """Return the memory of this process and its workers, epoch by epoch of all places."""
    windows = Windows(store, len(store), ChipOptions(size=args.chip))
    epoch = make_loader(windows, max(args.workers), args.batch)
    before = {"epoch": 0, "chips/s": np.nan, **memory()}
    return [before, *({"epoch": n + 1, "chips/s": epoch(), **memory()} for n in range(args.epochs))]


def memory() -> dict[str, float]:
    """Return MB of this process alone, and the most so far of it and of its finished children."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    now = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = [_resident(int(child)) for child in _children()]
    return {"MB": now / 1024, "peak MB": peak / 1024, "workers MB": sum(workers) / 1024}


def _children() -> list[str]:
    tasks = Path(f"/proc/{os.getpid()}/task")
    return [one for task in tasks.iterdir() for one in (task / "children").read_text().split()]


def _resident(process: int) -> int:
    """Return the memory in kB that a process has for itself."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
    lines = [line.split() for line in rollup.splitlines()]
    return sum(int(line[1]) for line in lines if line[0].startswith("Private"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, help="where the store is made (10 GB for 10,000 places)"
    )
    parser.add_argument("--places", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--dates", type=int, default=12)
    parser.add_argument("--chip", type=int, default=32)
    parser.add_argument("--compared", type=int, default=1000, help="places that fit into memory")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batches", type=int, default=30, help="batches of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--epochs", type=int, default=3, help="epochs of all places, for the memory"
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.folder / "places"
    start = time.perf_counter()
    make_places(args.places, args.size, args.dates).pack(path)
    packed, before = time.perf_counter() - start, memory()
    start = time.perf_counter()
    store = Places.from_store(path)
    opened = time.perf_counter() - start
    windows = Windows(store, len(store), ChipOptions(size=args.chip))
    drawn = time.perf_counter() - start
    _ = windows[0]
    first = time.perf_counter() - start
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{len(store)} places in {stored / 1e9:.2f} GB, packed in {packed:.0f} s")
    print(
        f"opened in {opened:.2f} s, windows counted after {drawn:.2f} s, first chip {first:.2f} s"
    )
    over_epochs = pd.DataFrame(measure_memory(store, args))
    print(f"\nbefore opening {before['MB']:.0f} MB; over epochs of all places:")
    print(over_epochs.round(1).to_string(index=False))
    table = compare(store, args)
    print(f"\n{args.compared} places, chips of {args.chip} px, batch {args.batch}:")
    print(table.round(3).to_string(index=False))
    result = {"places": len(store), "bytes": stored, "packed": packed, "opened": opened}
    result |= {"first": first, "memory": over_epochs.to_dict("records")}
    result |= {"chips": table.to_dict("records")}
    (args.folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
