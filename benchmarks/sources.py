"""What the sources promise, measured: agreement, throughput, faults, interruption, memory.

Nothing but the sample and this machine is needed: Earth Engine is emulated in a process of its own, STAC is a catalog
written to disk, files are GeoTIFFs beside it. From the root of the repository::

    python benchmarks/sources.py            # everything, a few minutes
    python benchmarks/sources.py throughput --workers 1 2 4 8 16 32 --limit 16 --rounds 3
    python benchmarks/sources.py --against ../before --rounds 5     # another checkout, in turns with this one
"""

import argparse
import inspect
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from ee_emulator import Emulator, Faults

from timo.sensors import get_sensor
from timo.sources import fetch, open_cube
from timo.sources.retry import Retry

SPAWN = multiprocessing.get_context("spawn")
BOX = (22.1472, 45.2013, 22.1572, 45.2083)
BANDS = ["B2", "B3", "B4", "B8", "B8A", "B11"]


def serve(pipe: Connection, faults: Faults) -> None:
    """The emulator in a process of its own; what comes through the pipe are new faults, what goes out are counts."""
    with Emulator(faults=faults) as emulator:
        pipe.send(emulator.url)
        while (order := pipe.recv()) is not None:
            pipe.send((dict(emulator.requests), emulator.gate.peak))
            emulator.requests.clear()
            emulator.faults = order


class Served:
    """A handle on that process."""

    def __init__(self, pipe: Connection, url: str) -> None:
        self.pipe, self.url = pipe, url

    def counts(self, faults: Faults) -> tuple[dict[Any, int], int]:
        """Requests since the last call and the most of them at a time; from now on with these faults."""
        self.pipe.send(faults)
        return self.pipe.recv()


@contextmanager
def emulated(faults: Faults | None = None) -> Iterator[Served]:
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=serve, args=(there, faults or Faults()), daemon=True)
    process.start()
    try:
        yield Served(here, here.recv())
    finally:
        here.send(None)
        process.join()


def cube_of(url: str, **options: Any) -> xr.DataArray:
    from timo.sources.earthengine.opening import open_earthengine

    if "chunks" not in inspect.signature(open_earthengine).parameters and "chunks" in options:
        options["chunk_size"] = options.pop("chunks")  # in an older checkout
    defaults = {"aoi": BOX, "start": "2018-05", "end": "2018-09", "bands": BANDS, "cache": False}
    return open_cube("earthengine", **{**defaults, "url": url, **options})


def throughput(args: argparse.Namespace) -> None:
    """Requests a second by number of workers, interleaved over the rounds."""
    faults = Faults(latency=args.latency, concurrent=args.limit, kinds=("pixels",))
    rates: dict[int, list[float]] = {workers: [] for workers in args.workers}
    refused: dict[int, int] = dict.fromkeys(args.workers, 0)
    largest: dict[int, int] = dict.fromkeys(args.workers, 0)
    with emulated(faults) as served:
        # Small chunks: what is measured is the way, and not the emulator's arithmetic.
        cube = cube_of(served.url, bands=["B8"], chunks=5, masked_classes=(), end="2018-05-10")
        cube[:, :, :5, :5].load()
        for _ in range(args.rounds):
            for workers in args.workers:
                served.counts(faults)
                start = time.perf_counter()
                fetch(cube, workers=workers, progress=False)
                seconds = time.perf_counter() - start
                counts, most = served.counts(faults)
                rates[workers].append(cube.data.npartitions / seconds)
                refused[workers] += counts.get(429, 0)
                largest[workers] = max(largest[workers], most)
    print(
        f"\n{cube.data.npartitions} requests, {1000 * args.latency:g} ms each, limit {args.limit} at a time"
    )
    print(f"{'workers':>8} {'requests/s':>11} {'x one':>6} {'in work':>8} {'refused (429)':>14}")
    one = statistics.median(rates[args.workers[0]])
    for workers, found in rates.items():
        rate = statistics.median(found)
        print(
            f"{workers:8d} {rate:11.1f} {rate / one:6.2f} {largest[workers]:8d} {refused[workers]:14d}"
        )


def faults(args: argparse.Namespace) -> None:
    """1,000 requests of which one in ten fails: complete, and the same as without."""
    broken = Faults(quota=0.03, internal=0.03, unavailable=0.02, truncated=0.02, kinds=("pixels",))
    patient = Retry(initial_s=0.05, quota_initial_s=0.1)
    with emulated() as served:
        options = {"chunks": 2, "bands": ["B4", "B8"], "end": "2018-06-30", "retry": patient}
        cube = cube_of(served.url, **options)
        expected = fetch(cube, workers=8, progress=False)
        counts, _ = served.counts(broken)
        clean = counts["pixels"]
        start = time.perf_counter()
        found = fetch(cube, workers=8, progress=False)
        seconds = time.perf_counter() - start
        counts, _ = served.counts(Faults())
    same = np.array_equal(expected.values, found.values, equal_nan=True)
    failed = {
        k: v for k, v in counts.items() if k in ("quota", "internal", "unavailable", "truncated")
    }
    print(
        f"\n{clean} requests without faults; with them {counts['pixels']}, of which failed {failed}"
    )
    print(f"complete and unchanged: {same} ({seconds:.0f} s)")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, "benchmarks")
from sources import cube_of
from timo.sources import fetch
url, cache = sys.argv[1:]
fetch(cube_of(url, cache=cache, chunks=8), workers=4, progress=False)
"""


def interruption(args: argparse.Namespace) -> None:
    """Kill -9 in the midst of a fetch, again and again: what was finished is not asked for again."""
    slow = Faults(latency=0.05, kinds=("pixels",))
    with emulated(slow) as served, tempfile.TemporaryDirectory() as folder:
        expected = fetch(cube_of(served.url, chunks=8), workers=8, progress=False)
        chunks = cube_of(served.url, chunks=8).data.npartitions
        served.counts(slow)
        answered, kept, kills = 0, [0], 0
        for _ in range(4):
            run = subprocess.Popen([sys.executable, "-c", KILLED, served.url, folder])
            while run.poll() is None and len(chunk_files(folder)) < kept[-1] + chunks // 6:
                time.sleep(0.01)
            if run.poll() is None:
                run.send_signal(signal.SIGKILL)
                kills += 1
            run.wait()
            # What was in work at the service when it was killed is still answered.
            time.sleep(1)
            kept.append(len(chunk_files(folder)))
            answered += served.counts(slow)[0].get("pixels", 0)
        cube = cube_of(served.url, cache=folder, chunks=8)
        found = fetch(cube, workers=4, progress=False)
        last = served.counts(slow)[0].get("pixels", 0)
    same = np.array_equal(expected.values, found.values, equal_nan=True)
    print(f"\n{chunks} chunks; killed {kills} times, in the cache after each: {kept[1:]}")
    print(f"asked for in the end: {last} = {chunks} - {kept[-1]}: {last == chunks - kept[-1]}")
    print(f"asked for in all: {answered + last}, in work when killed: {answered + last - chunks}")
    print(f"complete and unchanged: {same}")


def chunk_files(folder: str) -> list[Path]:
    return [p for p in Path(folder).glob("*/c/**/*") if p.is_file() and p.name.isdigit()]


LARGE = """
import sys
sys.path.insert(0, "benchmarks")
from sources import large_cube, most_mib
base = most_mib()
cube = large_cube(sys.argv[1])
opened = most_mib()
part = cube[:, :, 9700:9700 + 600, 9700:9700 + 600]
from timo.sources import fetch
path = None if sys.argv[3] == "memory" else sys.argv[3]
fetch(part, workers=int(sys.argv[2]), progress=False, path=path)
peak = most_mib()
print(*cube.shape, cube.nbytes, part.nbytes, base, opened, peak)
"""


def most_mib() -> float:
    """The most memory that this process has had, in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def large_cube(url: str) -> xr.DataArray:
    """20,000 x 20,000 cells at 24 dates, with the sample in the middle of it."""
    lon, lat = (BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2
    import pyproj

    x, y = pyproj.Transformer.from_crs(4326, 32634, always_xy=True).transform(lon, lat)
    left, top = round(x / 10) * 10 - 100_000, round(y / 10) * 10 + 100_000
    grid = xr.DataArray(
        da.zeros((20_000, 20_000), chunks=2000, dtype="float32"),
        dims=("y", "x"),
        coords={"y": top - 5 - 10.0 * np.arange(20_000), "x": left + 5 + 10.0 * np.arange(20_000)},
    ).rio.write_crs(32634)
    cube = cube_of(url, aoi=None, like=grid, start="2018", end="2020")
    return cube.isel(time=slice(0, 24))


def memory(args: argparse.Namespace) -> None:
    """Memory of a window of a cube of 20,000 x 20,000 x 24."""
    with emulated() as served, tempfile.TemporaryDirectory() as folder:
        print(
            f"\n{'to':>8} {'workers':>8} {'requests':>9} {'imports':>8} {'opened':>7} {'at most':>8}   MiB resident"
        )
        for where, workers in (("memory", 1), ("memory", 4), ("disk", 1), ("disk", 4)):
            path = "memory" if where == "memory" else f"{folder}/{workers}.zarr"
            done = subprocess.run(
                [sys.executable, "-c", LARGE, served.url, str(workers), path],
                check=True,
                capture_output=True,
                text=True,
            )
            *shape, whole, part, base, opened, peak = done.stdout.split()[-9:]
            requests = served.counts(Faults())[0]["pixels"]
            sizes = " ".join(
                f"{float(n):{width}.0f}" for n, width in ((base, 8), (opened, 7), (peak, 8))
            )
            print(f"{where:>8} {workers:8d} {requests:9d} {sizes}")
        print(
            f"{' x '.join(shape)}: {int(whole) / 1e9:.0f} GB; the window: {int(part) / 2**20:.0f} MiB"
        )


def copy_scenes(catalog: Path, folder: Path) -> Path:
    """The files of the catalog, named as people name theirs."""
    served = get_sensor("sentinel-2").collection("earth-search")
    names = {served.name(band): band for band in (*BANDS, "SCL")}
    folder.mkdir()
    for path in catalog.glob("*/*.tif"):
        date = path.parent.name.split("_")[2]
        shutil.copy(path, folder / f"{date}_{names[path.stem]}.tif")
    return folder


def agreement(args: argparse.Namespace) -> None:
    """The same place and dates through three sources."""
    from sample_catalog import write_catalog

    with emulated() as served, tempfile.TemporaryDirectory() as folder:
        span = {"start": "2018-05", "end": "2018-09"}
        catalog = write_catalog(Path(folder) / "catalog", **span)
        options = {"aoi": BOX, "bands": BANDS, **span}
        scenes = copy_scenes(catalog.parent, Path(folder) / "scenes")
        for composite in (None, "1MS"):
            engine = cube_of(served.url, composite=composite).compute()
            stac = open_cube("stac", catalog=str(catalog), composite=composite, **options).compute()
            files = open_cube(
                "files", path=scenes, sensor="sentinel-2", composite=composite, **options
            ).compute()
            print(
                f"\n{composite or 'dates'}: {dict(engine.sizes)}, {float(np.isnan(engine).mean()):.0%} masked"
            )
            for name, cube in (("stac", stac), ("files", files)):
                same = np.isclose(cube, engine, rtol=0, atol=1e-6, equal_nan=True)
                cells = int((~same.all(axis=(0, 1))).sum())
                print(
                    f"{name:>6} and earthengine: {same.mean():.4%} of the values within 1e-6, "
                    f"{cells} of {cube[0, 0].size:,} cells differ at some date"
                )


SPAN = {"start": "2018-05", "end": "2018-09"}


def write_scenes(folder: Path) -> None:
    """A static STAC catalog, and the same scenes as files."""
    from sample_catalog import write_catalog

    catalog = write_catalog(folder / "catalog", **SPAN)
    copy_scenes(catalog.parent, folder / "scenes")


def cube_of_scenes(source: str, folder: Path) -> xr.DataArray:
    options: dict[str, Any] = {"aoi": BOX, "bands": BANDS, **SPAN}
    if source == "stac":
        catalog = next((folder / "catalog").glob("catalog.json"))
        return open_cube("stac", catalog=str(catalog), **options)
    return open_cube("files", path=folder / "scenes", sensor="sentinel-2", **options)


RESUMED = """
import sys, time
from pathlib import Path
sys.path.insert(0, "benchmarks")
import rasterio
from sources import cube_of_scenes
from timo.sources import fetch
source, folder, pause = sys.argv[1:]
cube = cube_of_scenes(source, Path(folder))
opened = rasterio.open
def noted(path, *arguments, **options):
    with open(f"{folder}/{source}.log", "ab", buffering=0) as log:
        log.write(f"{path}\\n".encode())
    time.sleep(float(pause))
    return opened(path, *arguments, **options)
rasterio.open = noted
fetch(cube, path=f"{folder}/{source}.zarr", workers=4, progress=False)
"""


def resuming(args: argparse.Namespace) -> None:
    """Kill -9 in the midst of a fetch of scenes to a store: nothing that was whole is read again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder)
        for source in ("stac", "files"):
            cube = cube_of_scenes(source, folder)
            days = [f"{day:%Y%m%d}" for day in cube.indexes["time"]]
            log, kills, kept, again = folder / f"{source}.log", 0, [set[str]()], 0
            log.touch()
            for pause in (0.02, 0.02, 0.02, 0.02, 0):
                before = len(log.read_text().split())
                run = subprocess.Popen([sys.executable, "-c", RESUMED, source, name, str(pause)])
                enough = len(kept[-1]) + len(days) // 6
                while run.poll() is None and (not pause or len(whole_days(folder, days)) < enough):
                    time.sleep(0.01)
                if run.poll() is None:
                    run.send_signal(signal.SIGKILL)
                    kills += 1
                assert run.wait() in (0, -signal.SIGKILL)
                read = log.read_text().split()[before:]
                again += sum(any(day in path for day in kept[-1]) for path in read)
                kept.append(whole_days(folder, days))
            files = log.read_text().split()
            path = folder / f"{source}.zarr"
            stored = xr.open_zarr(path, consolidated=False, decode_coords="all")[cube.name]
            same = cube.equals(stored.assign_coords(band=cube.band))
            print(f"\n{source}: {len(days)} chunks; killed {kills} times, whole after each: "
                  f"{[len(k) for k in kept[1:-1]]}")  # fmt: skip
            print(f"files read: {len(files)}, of them again because in work when killed: "
                  f"{len(files) - len(set(files))}, again though whole: {again}")  # fmt: skip
            print(f"complete and unchanged: {same}")


def whole_days(folder: Path, days: list[str]) -> set[str]:
    """The dates of which an unfinished store holds the chunk."""
    chunks = folder.glob(".*.unfinished-*/*/c/*/0/0/0")
    return {days[int(path.parts[-4])] for path in chunks}


def timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def requests_and_cache() -> dict[str, float]:
    """Requests to Earth Engine: from the service, into the cache, from the cache, and to a store."""
    slow = Faults(latency=0.02, kinds=("pixels",))
    with emulated(slow) as served, tempfile.TemporaryDirectory() as folder:
        options = {"bands": ["B8"], "chunks": 8, "masked_classes": (), "end": "2018-06-10"}
        cube = cube_of(served.url, **options)
        fetch(cube[:1], progress=False)
        cached = cube_of(served.url, cache=folder, **options)
        chunks = cube.data.npartitions
        store = Path(folder) / "cube.zarr"
        calls = {
            "requests": lambda: fetch(cube, progress=False),
            "chunks into the cache": lambda: fetch(cached, progress=False),
            "chunks from the cache": lambda: fetch(cached, progress=False),
            "chunks from the cache to a store": lambda: fetch(cached, progress=False, path=store),
        }
        return {f"{name}, 1/s": chunks / timed(call) for name, call in calls.items()}


def scenes() -> dict[str, float]:
    """Cubes of scenes, from a catalog and from files: to open, into memory, and to a store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder)
        found: dict[str, float] = {}
        for source in ("stac", "files"):
            cube_of_scenes(source, folder)
            found[f"{source}, to open, s"] = timed(lambda s=source: cube_of_scenes(s, folder))
            cube, store = cube_of_scenes(source, folder), folder / f"{source}.zarr"
            found[f"{source}, to memory, s"] = timed(lambda c=cube: fetch(c, progress=False))
            found[f"{source}, to a store, s"] = timed(
                lambda c=cube, p=store: fetch(c, progress=False, path=p)
            )
        return found


def memory_at_most() -> dict[str, float]:
    """The most memory of a window of a large cube, that it takes to fetch it to a store."""
    with emulated() as served, tempfile.TemporaryDirectory() as folder:
        part = large_cube(served.url)[:, :, 9700:10300, 9700:10300]
        before = most_mib()
        fetch(part, workers=4, progress=False, path=f"{folder}/cube.zarr")
        return {"to a store, MiB more": most_mib() - before}


MEASURES = {f.__name__: f for f in (requests_and_cache, scenes, memory_at_most)}


def compare(args: argparse.Namespace) -> None:
    """Run the same measures on this checkout and on another one in turns; medians and their ratios."""
    checkouts = {"this": Path(__file__).resolve().parents[1], "other": args.against.resolve()}
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(args.rounds):
        for measure in MEASURES:
            for label in sorted(checkouts, reverse=bool(number % 2)):
                done = subprocess.run(
                    [sys.executable, __file__, "--measure", measure],
                    env=os.environ | {"PYTHONPATH": str(checkouts[label])},
                    check=True,
                    capture_output=True,
                    text=True,
                )
                for name, figure in json.loads(done.stdout.splitlines()[-1]).items():
                    found.setdefault(name, {}).setdefault(label, []).append(figure)
    print(f"{'medians of ' + str(args.rounds):40s} {'this':>9} {'other':>9} {'ratio':>6}")
    for name, figures in found.items():
        this, other = (statistics.median(figures[label]) for label in ("this", "other"))
        print(f"{name:40s} {this:9.2f} {other:9.2f} {this / other:6.2f}")


SECTIONS = {f.__name__: f for f in (agreement, throughput, faults, interruption, resuming, memory)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", nargs="*", choices=[[], *SECTIONS], default=[])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout, to compare with this one")
    parser.add_argument("--measure", choices=MEASURES, help="one measure, as JSON")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(MEASURES[args.measure]()))
        return
    if args.against:
        compare(args)
        return
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    for name in args.section or SECTIONS:
        SECTIONS[name](args)


if __name__ == "__main__":
    main()
