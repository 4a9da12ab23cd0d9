"""Every control of every tab has a name, and the sliders say their dates, in words that a screen reader reads out."""

import re

import nbformat
import pytest
from accessible import controls
from workbench_page import WorkbenchPage, until

FULL = """\
import numpy as np
import timo
from timo_widgets import State, Workbench

options = {"source": "sample", "start": "2019-06-01", "end": "2019-07-31", "bands": ["B2", "B3", "B4", "B8"]}
cube = timo.open_cube(**options)
classes = ["forest", "open"]
values = np.full(cube.shape[2:], -1, "int16")
values[10:30, 10:30], values[60:75, 40:55] = 0, 1
labels = cube.isel(time=0, band=0, drop=True).copy(data=values).assign_attrs(classes=classes)
model = timo.load_model("timo-tiny", data=cube, classes=classes)
result = timo.predict(model, cube).compute()
state = State(classes=classes, labels=labels, model=model, result=result, pixels=[(20, 20)])
bench = Workbench(cube, state, **options)
bench"""
TABS = {
    "Area": "Source",
    "Look": "Date",
    "Label": "forest",
    "Train": "Epochs",
    "Map": "Opacity",
    "Inspect": "Query date",
    "Code": "Notebook",
}


@pytest.fixture
def book(lab, desk):
    cells = [nbformat.v4.new_code_cell(FULL)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path = desk / "notebooks" / "names.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return lab("names.ipynb")


def test_every_control_has_a_name(book, page):
    page.set_viewport_size({"width": 1360, "height": 1700})
    bench = WorkbenchPage(page)
    for tab, one in TABS.items():
        bench.tab(tab)
        until(lambda: any(one in name for name in names(page, bench)), 60, f"{tab}: {one}")  # noqa: B023
        # What came with the tab is named a moment later.
        page.wait_for_timeout(1000)
        assert nameless(page, bench) == [], tab
        # The icons' font puts its letters into an area of Unicode that nothing reads out.
        assert not [n for n in names(page, bench) if re.search("[\ue000-\uf8ff]", n)], tab
    assert page.errors == []


def test_sliders_say_dates_and_buttons_whether_they_are_pressed(book, page):
    bench = WorkbenchPage(page)
    bench.tab("Look")
    bench.wait_for_image()
    bench.box.get_by_role("button", name="Play", exact=True).wait_for()
    slider = bench.box.get_by_role("slider", name="Date", exact=True).locator("visible=true")
    slider.focus()
    slider.press("Home")
    until(lambda: book.ask("print(bench.state.date)") == "0", 30, "the first date")
    dates = book.ask("print(*(str(day)[:10] for day in cube.time.values))").split()
    until(lambda: slider.get_attribute("aria-valuetext") == dates[0], 10, dates[0])
    slider.press("ArrowRight")
    until(lambda: slider.get_attribute("aria-valuetext") == dates[1], 10, dates[1])
    until(lambda: book.ask("print(bench.state.date)") == "1", 30, "the second date")
    bench.tab("Map")
    bench.wait_for_image()
    said = {c.name: c.value for c in controls(page, bench.box) if c.role == "slider"}
    assert (said["Date"], said["Opacity"]) == (dates[1], "80%")
    layers = bench.box.get_by_role("group", name="Layer", exact=True)
    layers.get_by_role("button", name="Entropy").click()
    layers.get_by_role("button", name="Entropy", pressed=True).wait_for()
    assert layers.get_by_role("button", pressed=True).count() == 1
    bench.tab("Train")
    # Nothing is hidden from the keyboard.
    more = bench.box.get_by_role("button", name="Advanced")
    more.press("Enter")
    bench.box.get_by_label("Checkpoints in").wait_for()
    bench.box.get_by_role("button", name="Advanced", pressed=True).wait_for()
    assert page.errors == []


def names(page, bench) -> list[str]:
    return [control.name for control in controls(page, bench.box)]


def nameless(page, bench) -> list[str]:
    return [control.markup for control in controls(page, bench.box) if not control.name]
