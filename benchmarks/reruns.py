"""What is left in the kernel when the workbench's cell is run again and again: widgets, threads, memory.

Each run makes a workbench on the sample, opens all its tabs, moves the date, clicks pixels, and is then closed as the
next run of the cell would close it. The first runs fill caches (fonts, projections, compiled operators); what counts is
whether the later ones still grow.

    python benchmarks/reruns.py --runs 10
"""

import argparse
import gc
import threading

import ipywidgets
import psutil
from timo_widgets import State, Workbench
from timo_widgets.app.workbench import TABS

import timo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="how often the cell is run")
    runs = parser.parse_args().runs
    cube = timo.open_cube("sample", start="2019", end="2019").compute()
    model = timo.load_model("timo-tiny", data=cube, classes=["forest", "open"])
    result = timo.predict(model, cube).compute()
    print(f"{cube.sizes['time']} dates of {cube.sizes['y']} x {cube.sizes['x']}")
    print(f"{'run':>4} {'widgets':>8} {'threads':>8} {'MiB':>8}")
    for run in range(runs + 1):
        if run:
            use(cube, model, result)
        gc.collect()
        memory = psutil.Process().memory_info().rss / 2**20
        widgets = len(ipywidgets.widgets.widget._instances)
        print(f"{run:>4} {widgets:>8} {threading.active_count():>8} {memory:>8.0f}")


def use(cube, model, result) -> None:
    """One run of the cell, and what a person does with what it shows."""
    state = State(cube=cube, classes=["forest", "open"], model=model, result=result)
    bench = Workbench(cube, state)
    for i in range(len(TABS)):
        bench.tabs.selected_index = i
    for date in range(0, cube.sizes["time"], 5):
        state.date = date
    state.pixels = [(10, 10), (50, 50)]
    bench.parts["CubeExplorer"].wait()
    bench.parts["AttentionInspector"].wait()
    bench.close()


if __name__ == "__main__":
    main()
