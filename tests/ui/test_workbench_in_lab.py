"""The whole way in JupyterLab: draw, look, label, train, cancel, map, ask, export."""

import time

import nbformat
import pytest
import rioxarray
from workbench_page import FEW_DATES, WorkbenchPage, low_contrast, set_parameters, until


@pytest.fixture
def book(lab, desk):
    set_parameters(desk / "notebooks" / "workbench.ipynb", **FEW_DATES)
    return lab("workbench.ipynb")


@pytest.fixture
def bench(book, page) -> WorkbenchPage:
    page.set_viewport_size({"width": 1360, "height": 1400})
    return WorkbenchPage(page)


def test_the_whole_way(book, bench, page, shot, desk):
    def kernel(expression: str) -> str:
        return book.ask(f"print({expression})")

    def wait_for(expression: str, seconds: float = 30) -> None:
        until(lambda: kernel(expression) == "True", seconds, expression)

    # 1 Area
    bench.tab("Area")
    bench.map.wait_for()
    bench.draw_rectangle((0.40, 0.40), (0.60, 0.60))
    wait_for("bench.state.aoi is not None")
    bench.box.get_by_label("Source").select_option("Emulated Earth Engine (offline)")
    bench.says(r"\d ha")
    bench.says(r"To fetch: .*requests")
    shot("1-area")

    # 2 Look: the slider by keyboard, there and back; a pixel by click
    bench.tab("Look")
    bench.wait_for_image()
    before = int(kernel("bench.state.date"))
    slider = bench.box.locator(".widget-slider:visible", has_text="Date").locator("[role=slider]")
    slider.focus()
    slider.press("ArrowRight")
    wait_for(f"bench.state.date == {before + 1}")
    page.wait_for_timeout(500)
    shot("2-look-cloud")
    slider.press("ArrowLeft")
    wait_for(f"bench.state.date == {before}")
    bench.click_map((0.5, 0.5))
    wait_for("len(bench.state.pixels) == 1")
    wait_for("len(bench.parts['CubeExplorer'].controls.chart.series) == 1")
    page.wait_for_timeout(500)
    shot("2-look")

    # 3 Label: a rectangle and a polygon
    bench.tab("Label")
    bench.wait_for_image()
    bench.press("forest")
    bench.draw_rectangle((0.48, 0.60), (0.58, 0.75))
    wait_for("bench.state.labels is not None and int((bench.state.labels == 0).sum()) > 20")
    bench.press("open")
    bench.draw_polygon([(0.60, 0.14), (0.70, 0.17), (0.69, 0.28), (0.62, 0.22)])
    wait_for("int((bench.state.labels == 1).sum()) > 20")
    shot("3-label")

    # 4 Train: few clicks, then a fine-tuning that is cancelled, then a short one
    bench.tab("Train")
    bench.press("Few-click map")
    wait_for("bench.state.result is not None", 120)
    few = kernel("bench.state.result.label.values.tobytes().__hash__()")
    shot("4-train-few-clicks")
    bench.type("Epochs", "50")
    bench.press("Fine-tune")
    wait_for("len(bench.parts['Runner'].job.losses) > 5", 120)
    page.wait_for_timeout(1000)
    shot("4-train-running")
    bench.press("Cancel")
    clock = time.monotonic()
    wait_for("bench.parts['Runner'].job.ended", 20)
    # Two seconds of its own, and what the kernel needs to say so on a busy machine.
    assert time.monotonic() - clock < 8
    assert kernel("bench.parts['Runner'].job.state") == "cancelled"
    shot("4-train-cancelled")
    bench.type("Epochs", "1")
    bench.press("Fine-tune")
    wait_for("bench.parts['Runner'].job.state == 'done'", 240)
    bench.press("Predict")
    wait_for(f"str(bench.state.result.label.values.tobytes().__hash__()) != '{few}'", 120)
    shot("4-train-done")

    # 5 Map
    bench.tab("Map")
    bench.wait_for_image()
    bench.click_map((0.5, 0.5))
    shot("5-map")

    # 6 Inspect
    bench.tab("Inspect")
    bench.wait_for_image()
    bench.click_map((0.5, 0.55))
    wait_for("bench.parts['AttentionInspector'].answer is not None", 60)
    page.wait_for_timeout(1500)
    shot("6-inspect")

    # What was made can be read by others.
    bench.tab("Map")
    bench.press("Export to a file")
    bench.press("Export")
    bench.says("Written: ")
    path = book.path("bench.parts['MapView'].export.path")
    with rioxarray.open_rasterio(desk / "notebooks" / path) as raster:
        assert raster.shape[-2:] == (100, 100)
    shot("5-map-exported")
    bench.tab("Code")
    bench.press("Export as notebook")
    bench.says("Written: ")
    exported = nbformat.read(desk / "notebooks" / "workbench_export.ipynb", 4)
    assert any("parameters" in cell.metadata.get("tags", []) for cell in exported.cells)
    assert "timo.finetune(" in "".join(cell.source for cell in exported.cells)
    shot("7-code")
    assert page.errors == []


def test_the_dark_theme(lab, desk, page, shot):
    set_parameters(desk / "notebooks" / "workbench.ipynb", **FEW_DATES)
    page.set_viewport_size({"width": 1360, "height": 1400})
    lab("workbench.ipynb", theme="JupyterLab Dark")
    bench = WorkbenchPage(page)
    hard = {}
    for title in ("Area", "Look", "Label", "Train", "Code"):
        bench.tab(title)
        page.wait_for_timeout(1200)
        shot(f"dark-{title.lower()}")
        hard[title] = low_contrast(bench)
    assert not any(hard.values()), hard
    assert page.errors == []
