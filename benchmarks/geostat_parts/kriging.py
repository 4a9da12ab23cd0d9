"""Ordinary kriging: as good from the nearest 32 as from all, honest intervals, faster than PyKrige and gstools."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geostat_parts import Row, timed
from timo.geostat.fitting import fit_model
from timo.geostat.kriging import interval, krige
from timo.geostat.models import VariogramModel, random_field
from timo.geostat.places import points
from timo.geostat.variograms import variogram

SECTION = "0 kriging"
MODEL = VariogramModel("exponential", sill=1.0, range_m=1500.0, nugget=0.1)
MANY, FEW = 10_000, 1_000
SIDE = 10_000.0  # metres


def measure() -> Iterator[Row]:
    yield accuracy()
    yield coverage()
    yield equality()
    ours = alone(kriged, MANY)
    text = f"{ours[0]:.2f} s, {ours[1]:.2f} GB"
    yield Row(SECTION, "10k -> 10k, 32 neighbours: < 1 GB, some 2 s", text, ours[1] < 1)
    for backend in ("loop", "C"):
        theirs = alone(pykriged, MANY, backend)
        yield beside(f"PyKrige, 32 neighbours, {backend}, 10k -> 10k", {"": ours}, theirs)
    few = {"32 neighbours ": alone(kriged, FEW), "all ": alone(kriged, FEW, None)}
    yield beside("PyKrige, all neighbours, 1k -> 1k", few, alone(pykriged, FEW, "vectorized", None))
    yield beside("gstools, all neighbours, 1k -> 1k", few, alone(gstoolsed, FEW))
    yield series()


def accuracy() -> Row:
    """Root mean squared errors over three truths, from the nearest and from all, of 3,000 points."""
    squares = {32: 0.0, None: 0.0}
    for seed in range(3):
        field = random_field(somewhere(5_000, seed), MODEL, seed)
        for neighbours in squares:
            told = krige(field[:3_000], field[3_000:], MODEL, neighbours=neighbours)["mean"]
            squares[neighbours] += float(((told - field[3_000:]) ** 2).mean()) / 3
    local, dense = (math.sqrt(squares[k]) for k in (32, None))
    text = (
        f"{local / dense:.4f} x ({local:.4f} against {dense:.4f}; 3k points, 2k held out, 3 seeds)"
    )
    return Row(SECTION, "RMSE of 32 neighbours <= 1.01 x that of all", text, local <= 1.01 * dense)


def coverage() -> Row:
    """Share of held-out observations inside 90 % intervals, with the model fitted to the others."""
    shares = []
    for seed in range(10):
        field = random_field(somewhere(3_000, seed), MODEL, seed)
        known, held_out = field[:2_000], field[2_000:]
        bounds = interval(krige(known, held_out, fit_model(variogram(known))), 0.9)
        inside = (held_out >= bounds["lower"]) & (held_out <= bounds["upper"])
        shares.append(float(inside.mean()))
    mean = float(np.mean(shares))
    text = f"{mean:.3f} ({min(shares):.3f} to {max(shares):.3f}; fitted model, 10 seeds)"
    return Row(SECTION, "90 % intervals cover 0.87 to 0.93", text, 0.87 <= mean <= 0.93)


def equality() -> Row:
    """Largest difference from PyKrige's dense kriging, of mean and variance."""
    known, cells = somewhere(500, 0), somewhere(500, 1)
    known = random_field(known, MODEL, 0)
    told = krige(known, cells, MODEL, neighbours=None)
    mean, variance = ordinary(known).execute("points", cells.x.values, cells.y.values)
    most = max(abs(told["mean"].values - mean).max(), abs(told["variance"].values - variance).max())
    return Row(SECTION, "equal to PyKrige's dense kriging to 1e-6", f"{most:.0e}", most <= 1e-6)


def series() -> Row:
    """What fifty dates cost beside one."""
    known, cells = somewhere(2_000, 0), somewhere(5_000, 1)
    values = np.random.default_rng(0).normal(size=(50, 2_000))
    dates = points(known.x, known.y, values, time=np.arange(50))
    _, one = timed(lambda: krige(dates[0], cells, MODEL))
    _, all_dates = timed(lambda: krige(dates, cells, MODEL))
    text = f"{all_dates / one:.1f} x ({all_dates:.2f} s against {one:.2f} s)"
    return Row(SECTION, "(reported) 50 dates without gaps beside one, 2k -> 5k", text, None)


Cost = tuple[float, float]


def beside(name: str, ours: dict[str, Cost], theirs: Cost) -> Row:
    text = ", ".join(
        f"{how}{seconds:.2f} s, {size:.2f} GB" for how, (seconds, size) in ours.items()
    )
    text += f" against {theirs[0]:.1f} s, {theirs[1]:.2f} GB"
    return Row(
        SECTION, f"faster than {name}", text, max(cost[0] for cost in ours.values()) < theirs[0]
    )


def alone(work: Callable[..., float], *arguments: object) -> Cost:
    """Seconds, and gigabytes at the peak above those before, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        before = pool.submit(peak).result()
        seconds = pool.submit(work, *arguments).result()
        return seconds, pool.submit(peak).result() - before


def peak() -> float:
    """Gigabytes that this process ever took; getrusage would count those of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**20


def somewhere(n: int, seed: int) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    return points(*rng.uniform(0, SIDE, (2, n)), rng.normal(size=n))


def kriged(n: int, neighbours: int | None = 32) -> float:
    known, cells = somewhere(n, 0), somewhere(n, 1)
    return timed(lambda: krige(known, cells, MODEL, neighbours=neighbours))[1]


def pykriged(n: int, backend: str, neighbours: int | None = 32) -> float:
    """Seconds of the kriging alone: what PyKrige does before, its own variogram, is not counted."""
    model, cells = ordinary(somewhere(n, 0)), somewhere(n, 1)
    where = cells.x.values, cells.y.values
    return timed(
        lambda: model.execute("points", *where, backend=backend, n_closest_points=neighbours)
    )[1]


def gstoolsed(n: int) -> float:
    import gstools

    known, cells = somewhere(n, 0), somewhere(n, 1)
    at, to = ((p.x.values, p.y.values) for p in (known, cells))

    def work() -> None:
        # exact: the nugget is microscale variation, as in the others.
        gstools.krige.Ordinary(MODEL.to_gstools(), at, known.values, exact=True)(to)

    return timed(work)[1]


def ordinary(known: xr.DataArray) -> Any:
    """Make PyKrige's ordinary kriging with the same model: its range is three e-foldings, not ln 20."""
    from pykrige.ok import OrdinaryKriging

    parameters = {
        "psill": MODEL.partial_sill,
        "range": MODEL.range_m * 3 / math.log(20),
        "nugget": MODEL.nugget,
    }
    at = known.x.values, known.y.values, known.values
    return OrdinaryKriging(*at, variogram_model="exponential", variogram_parameters=parameters)
