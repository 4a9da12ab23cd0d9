"""Variograms: the same numbers as all pairs, the truth of random fields, time and memory beside gstools."""

import tracemalloc
from collections.abc import Iterator

import gstools
import numpy as np
import xarray as xr

from geostat_parts import Row, timed
from timo.geostat import VariogramModel, fit_model, points, random_field, variogram

SECTION = "0 variograms"
SEEDS = 12
_GIB = 2**30


def measure() -> Iterator[Row]:
    yield from exactness()
    yield large_raster()
    yield from recovery()
    yield from scattered()


def exactness() -> Iterator[Row]:
    field = gappy(100)
    fast, fast_s = timed(lambda: variogram(field))
    slow, slow_s = timed(lambda: variogram(field, method="pairs"))
    same = bool((fast.pairs.values == slow.pairs.values).all())
    off = float(np.abs(fast.semivariance.values - slow.semivariance.values).max())
    counted = f"{int(fast.pairs.sum()):,} pairs, {'equal' if same else 'NOT equal'} counts"
    yield Row(
        SECTION,
        "FFT equals all pairs to 1e-10 with the same counts (100 x 100, 30 % NaN)",
        f"{counted}, max difference {off:.1e}",
        same and off <= 1e-10,
    )
    yield Row(SECTION, "FFT faster than all pairs", f"{slow_s / fast_s:.0f} x", fast_s < slow_s)


def large_raster() -> Row:
    field = gappy(2000)
    variogram(field, max_lag=100)
    _, seconds = timed(lambda: variogram(field))
    _, near_s = timed(lambda: variogram(field, max_lag=500))
    reached = f"{seconds:.1f} s up to half the diagonal, {near_s:.1f} s up to 500 cells"
    return Row(SECTION, "2000 x 2000, 30 % NaN, by FFT (reported; about 1 s)", reached, None)


def recovery() -> Iterator[Row]:
    for kind, nugget in (("exponential", 0.0), ("spherical", 0.2), ("gaussian", 0.2)):
        truth = VariogramModel(kind, 1 + nugget, 200.0, nugget)
        fields = (random_field((100, 100), truth, seed, cell_m=10) for seed in range(SEEDS))
        fits = [fit_model(variogram(field), kind) for field in fields]
        ranges = np.array([fit.range_m for fit in fits]) / truth.range_m
        sills = np.array([fit.sill for fit in fits]) / truth.sill
        wrong = max(abs(np.median(ranges) - 1), abs(np.median(sills) - 1))
        yield Row(
            SECTION,
            f"{kind}, {SEEDS} gstools seeds: median range and sill within 15 % of the truth",
            f"range x {np.median(ranges):.2f} ({ranges.min():.2f} .. {ranges.max():.2f}), "
            f"sill x {np.median(sills):.2f} ({sills.min():.2f} .. {sills.max():.2f})",
            bool(wrong <= 0.15),
        )


def scattered() -> Iterator[Row]:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1000, (2, 10_000))
    values = np.sin(x / 100) + rng.normal(size=x.size)
    edges = np.linspace(0, 400, 21)
    ours, seconds = timed(lambda: variogram(points(x, y, values), bins=edges))
    theirs, theirs_s = timed(
        lambda: gstools.vario_estimate((x, y), values, edges, return_counts=True)
    )
    off = float(np.abs(ours.semivariance.values / theirs[1] - 1).max())
    yield Row(
        SECTION,
        "10,000 points faster than gstools in the same run",
        f"{int(ours.pairs.sum()) / 1e6:.1f} M pairs in {seconds:.2f} s, gstools {theirs_s:.2f} s, "
        f"relative difference {off:.0e}",
        seconds < theirs_s and off < 1e-4,
    )
    tracemalloc.start()
    variogram(points(x, y, values), bins=edges)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    yield Row(
        SECTION, "memory of the same below 0.5 GiB", f"{used / _GIB:.2f} GiB", used < _GIB / 2
    )


def gappy(size: int) -> xr.DataArray:
    rng = np.random.default_rng(size)
    values = rng.normal(size=(size, size))
    values[rng.random(values.shape) < 0.3] = np.nan
    axis = 10.0 * np.arange(size)
    return xr.DataArray(values, dims=("y", "x"), coords={"y": axis, "x": axis})
