"""How fast the explorer answers: from slider to picture, and from click to plot, in the kernel.

The sample, and a synthetic cube of 140 dates x 4 bands x 1000 x 1000 pixels in memory (2.2 GB; fewer dates with
--dates). Medians over distinct dates and pixels; what the browser then needs to draw is not in them.

    python benchmarks/explorer.py
    python benchmarks/explorer.py --dates 40
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr
from timo_widgets.explore.explorer import CubeExplorer

import timo

MOST_MS = {"sample": 150, "synthetic": 500}


def synthetic(dates: int, size: int = 1000) -> xr.DataArray:
    """Smooth ground with noise, and clouds: as hard to pack as a real image."""
    rng = np.random.default_rng(0)
    small = rng.random((4, size // 20, size // 20), "float32")
    ground = np.kron(small, np.ones((1, 20, 20), "float32")) * 0.2
    cube = np.empty((dates, 4, size, size), "float32")
    for i in range(dates):
        cube[i] = ground + 0.02 * rng.standard_normal(ground.shape, "float32")
        clouds = np.kron(rng.random((size // 50, size // 50)), np.ones((50, 50))) > 0.7
        cube[i, :, clouds] = np.nan
    return xr.DataArray(
        cube,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2015-01-01", periods=dates, freq="16D"),
            "band": ["B2", "B3", "B4", "B8"],
            "y": 5_006_000 - 10.0 * np.arange(size),
            "x": 590_000 + 10.0 * np.arange(size),
        },
        attrs={"sensor": "sentinel-2"},
    ).rio.write_crs(32634)


def median_ms(action: Callable[[int], object], times: int) -> float:
    """Median over the calls, the first one left out."""
    taken = []
    for i in range(times + 1):
        start = time.perf_counter()
        action(i)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken[1:])


def measure(name: str, cube: xr.DataArray, times: int) -> None:
    start = time.perf_counter()
    explorer = CubeExplorer(cube)
    opened = 1000 * (time.perf_counter() - start)
    last, rows = cube.sizes["time"], cube.sizes["y"]

    def slide(i: int) -> None:
        explorer.controls.slider.value = (7 * i + 1) % last

    def click(i: int) -> None:
        place = explorer.map.latlon_of((37 * i + 5) % rows, (91 * i + 3) % rows)
        explorer.map.map._handle_leaflet_event(
            explorer.map.map,
            {"event": "interaction", "type": "click", "coordinates": list(place)},
            [],
        )

    rows_of_table = [("open", opened), ("click to plot", median_ms(click, times))]
    for view in explorer.controls.view.options:
        explorer.controls.view.value = view
        rows_of_table.append((f"slider to picture, {view}", median_ms(slide, times)))
    explorer.controls.compare.value = True
    rows_of_table.append(("slider to picture, compared", median_ms(slide, times)))
    shape = " x ".join(str(cube.sizes[d]) for d in ("time", "band", "y", "x"))
    print(f"\n{name}, {shape}; at most {MOST_MS[name]} ms")
    for what, ms in rows_of_table:
        print(f"  {what:42s} {ms:8.1f} ms")
    explorer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dates", type=int, default=140)
    parser.add_argument("--times", type=int, default=20)
    arguments = parser.parse_args()
    measure("sample", timo.open_cube("sample"), arguments.times)
    measure("synthetic", synthetic(arguments.dates), arguments.times)


if __name__ == "__main__":
    main()
