"""Labelling by hand in JupyterLab: keys, the brush, undo, as people who label every day use them."""

import json
import re

import nbformat
import pytest
from workbench_page import until

CUBE = """
import numpy as np
import pandas as pd
import rioxarray
import xarray as xr
import timo_widgets

rows, columns = 40, 50
down, across = np.mgrid[:rows, :columns]
waves = [np.sin(down / a) + np.cos(across / b) for a, b in ((5, 7), (9, 4), (6, 11))]
values = np.stack([waves, waves]).astype("float32")
cube = xr.DataArray(
    values,
    dims=("time", "band", "y", "x"),
    coords={
        "time": pd.to_datetime(["2019-01-01", "2019-02-01"]),
        "band": ["B2", "B3", "B4"],
        "y": 5_000_000 - 10 * (np.arange(rows) + 0.5),
        "x": 600_000 + 10 * (np.arange(columns) + 0.5),
    },
    attrs={"sensor": "sentinel-2"},
).rio.write_crs("EPSG:32634")
labeler = timo_widgets.Labeler(cube, ["forest", "water"])
"""
# Where the middle of a pixel is in the page, as the kernel and the map's own picture have it.
PLACES = """
import json
from pyproj import Transformer
web = Transformer.from_crs(4326, 3857, always_xy=True)
(south, west), (north, east) = labeler.map._warp.bounds
(left, right), (bottom, top) = web.transform([west, east], [south, north])
def place(row, column):
    latitude, longitude = labeler.map.latlon_of(row, column)
    x, y = web.transform(longitude, latitude)
    return (x - left) / (right - left), (top - y) / (top - bottom)
"""
BUSY = """() => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    kernel.requestExecute({ code: 'import time; time.sleep(2)' });
}"""


class LabelerPage:
    """A labeler in a notebook, and the kernel behind it."""

    def __init__(self, book, page):
        self.book, self.page = book, page
        self.box = page.locator(".timo-labeler").first
        self.box.locator("img.leaflet-image-layer").nth(1).wait_for()
        # Until the map has its last size.
        page.wait_for_timeout(1500)
        self.book.ask(PLACES)

    def kernel(self, expression):
        return json.loads(self.book.ask(f"print(json.dumps({expression}))"))

    def wait_for(self, expression, value=True):
        until(lambda: self.kernel(expression) == value, 20, f"{expression} == {value}")

    def labelled(self):
        """Row, column and code of all labelled pixels of the store."""
        found = self.kernel(
            "[[int(r), int(c), int(v)] for (r, c), v in np.ndenumerate(labeler.store.plane(0)) if v >= 0]"
        )
        return {(row, column): code for row, column, code in found}

    def at(self, row, column):
        across, down = self.kernel(f"place({row}, {column})")
        box = self.box.locator("img.leaflet-image-layer").first.bounding_box()
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    def press(self, text):
        exactly = re.compile(rf"^\s*{re.escape(text)}\s*$")
        self.box.locator("button").filter(has_text=exactly).first.click()

    def drag(self, *pixels):
        """Press at the first pixel, go to the others in one jump each, let go."""
        places = [self.at(*pixel) for pixel in pixels]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place)
        self.page.mouse.up()

    def shown(self):
        """How many screen pixels of the brush's canvas are opaque."""
        return self.page.evaluate(
            """() => {
                const canvas = document.querySelector('canvas.timo-stroke');
                if (!canvas) return 0;
                const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
                return data.filter((value, i) => i % 4 === 3 && value === 255).length;
            }"""
        )


@pytest.fixture(params=["JupyterLab Light", "JupyterLab Dark"])
def theme(request):
    return request.param


@pytest.fixture
def bench(lab, desk, page, theme):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CUBE), nbformat.v4.new_code_cell("labeler")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(notebook, desk / "notebooks" / "labelling.ipynb")
    page.set_viewport_size({"width": 1360, "height": 1300})
    return LabelerPage(lab("labelling.ipynb", theme), page)


def test_keys_and_brush(bench, page, shot, theme):
    name = theme.rpartition(" ")[2].lower()
    bench.press("Paint pixels")
    bench.wait_for("labeler.controls.mode.value", "Paint pixels")
    centre = bench.kernel("list(labeler.map.map.center)")

    # The key works where the pointer is, whatever cell has the focus, and the notebook does not take it for a heading.
    page.mouse.move(*bench.at(20, 20))
    page.evaluate("() => document.activeElement.blur()")
    kinds = "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells.map(c => c.cell_type)"
    bench.book.command("notebook:enter-command-mode")
    page.keyboard.press("2")
    bench.wait_for("labeler.controls.name.value", "water")
    page.keyboard.press("7")
    assert page.evaluate(kinds) == ["code", "code"]

    # Three jumps of the mouse make one connected stroke, seen before the button is let go.
    bench.press("3 x 3")
    corners = [(10, 10), (10, 30), (25, 33), (30, 12)]
    places = [bench.at(*corner) for corner in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.wait_for_timeout(100)
    assert bench.shown() > 10_000
    assert bench.labelled() == {}
    shot(f"labeler-{name}-stroke")
    page.mouse.up()
    bench.wait_for("len(labeler.store._past)", 1)
    expected = bench.kernel(
        f"sorted(int(i) for i in __import__('timo_widgets.label.cells').label.cells.along({corners}, 3, (40, 50)))"
    )
    stroke = bench.labelled()
    assert stroke == {divmod(cell, 50): 1 for cell in expected}
    assert (
        bench.kernel("labeler.state.code[-2]") == f"store.paint_along({corners}, 'water', size=3)"
    )

    # The map stands still, and what was shown meanwhile gives way to the map's own picture.
    assert bench.kernel("list(labeler.map.map.center)") == centre
    page.mouse.move(5, 5)
    until(lambda: bench.shown() == 0, 10)
    shot(f"labeler-{name}-painted")

    # Erase takes out just what it passes; undo and redo, by key, go stroke by stroke.
    bench.press("Erase")
    bench.press("1 x 1")
    bench.drag((10, 8), (10, 20))
    bench.wait_for("len(labeler.store._past)", 2)
    assert bench.labelled() == {k: v for k, v in stroke.items() if not (k[0] == 10 and k[1] <= 20)}
    page.keyboard.press("Control+z")
    bench.wait_for("len(labeler.store._past)", 1)
    assert bench.labelled() == stroke
    page.keyboard.press("Control+z")
    bench.wait_for("len(labeler.store._past)", 0)
    assert bench.labelled() == {}
    page.keyboard.press("Control+Shift+Z")
    page.keyboard.press("Control+y")
    bench.wait_for("len(labeler.store._past)", 2)
    page.keyboard.press("Control+z")
    bench.wait_for("len(labeler.store._past)", 1)

    # A click is a stroke of one pixel, in the class of the key before it, and comes once.
    bench.press("Paint pixels")
    page.keyboard.press("1")
    page.mouse.click(*bench.at(35, 40))
    bench.wait_for("len(labeler.store._past)", 2)
    assert bench.labelled() == stroke | {(35, 40): 0}
    assert bench.kernel("labeler.state.code[-2]") == "store.paint(35, 40, 'forest', size=1)"

    # Key and stroke go together while the kernel is busy; Escape lets go of a stroke; the map's edge is no end.
    page.evaluate(BUSY)
    page.keyboard.press("2")
    bench.drag((33, 5), (33, 9))
    page.keyboard.press("1")
    bench.drag((37, 5), (37, 9))
    page.mouse.move(*bench.at(38, 5))
    bench.wait_for("len(labeler.store._past)", 4)
    page.mouse.down()
    page.mouse.move(*bench.at(38, 30))
    page.keyboard.press("Escape")
    page.mouse.up()
    bench.drag((39, 47), (39, 58))
    bench.wait_for("len(labeler.store._past)", 5)
    new = {(33, c): 1 for c in range(5, 10)} | {(37, c): 0 for c in range(5, 10)}
    new |= {(35, 40): 0, (39, 47): 0, (39, 48): 0, (39, 49): 0}
    assert bench.labelled() == stroke | new

    # Letters do nothing to the cell while the focus is here.
    page.keyboard.press("x")
    page.keyboard.press("m")
    assert page.evaluate(kinds) == ["code", "code"]

    # In a text field a digit is a digit, and the class stays.
    field = bench.box.get_by_label("Name", exact=True)
    field.click()
    page.keyboard.type("class 2")
    bench.wait_for("labeler.controls.title.value", "class 2")
    assert bench.kernel("labeler.controls.name.value") == "forest"

    # With the space bar held, and where shapes are drawn, dragging moves the map.
    page.mouse.move(*bench.at(20, 20))
    page.evaluate("() => document.activeElement.blur()")
    steps = bench.kernel("len(labeler.store._past)")
    page.keyboard.down(" ")
    bench.drag((20, 20), (25, 25))
    page.keyboard.up(" ")
    until(lambda: bench.kernel("list(labeler.map.map.center)") != centre, 10)
    page.wait_for_timeout(500)
    moved = bench.kernel("list(labeler.map.map.center)")
    bench.press("Draw shapes")
    page.wait_for_timeout(300)
    bench.drag((25, 25), (20, 20))
    until(lambda: bench.kernel("list(labeler.map.map.center)") != moved, 10)
    assert bench.kernel("len(labeler.store._past)") == steps
    assert page.errors == []
