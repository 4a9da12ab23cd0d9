"""The notebook as an app: no code is shown, and the whole way can be gone, told by what the page says."""

import re

import pytest
from workbench_page import FEW_DATES, WorkbenchPage, set_parameters


@pytest.fixture
def app(desk, page, voila_address) -> WorkbenchPage:
    set_parameters(desk / "notebooks" / "workbench.ipynb", **FEW_DATES)
    page.set_viewport_size({"width": 1360, "height": 1200})
    page.goto(voila_address, timeout=120_000)
    return WorkbenchPage(page, seconds=120)


def test_the_app(app, page, shot, desk):
    app.wait_for_image()
    assert page.locator(".jp-InputArea-editor:visible").count() == 0
    slider = app.box.locator(".widget-slider:visible", has_text="Date").locator("[role=slider]")
    before = app.says(r"\d+% clear, \d+ / 9")
    slider.focus()
    slider.press("ArrowRight")
    app.says(rf"(?!{re.escape(before)})\d+% clear, \d+ / 9")
    slider.press("ArrowLeft")
    app.says(re.escape(before))
    pixel = re.compile(r"row \d+, column \d+|\b\d\d, \d\d\b")
    assert not pixel.search(app.box.inner_text())
    app.click_map((0.5, 0.5))
    app.says(pixel.pattern)
    shot("voila-2-look")
    app.tab("Area")
    app.draw_rectangle((0.40, 0.40), (0.60, 0.60))
    app.tab("Label")
    app.wait_for_image()
    app.press("forest")
    app.draw_rectangle((0.48, 0.60), (0.58, 0.75))
    app.says(r"forest\W+[1-9]")
    app.press("open")
    app.draw_polygon([(0.60, 0.14), (0.70, 0.17), (0.69, 0.28), (0.62, 0.22)])
    app.says(r"open\W+[1-9]")
    shot("voila-3-label")
    app.tab("Map")
    app.says("There is no map yet. Train a model in tab 4")

    app.tab("Train")
    app.type("Epochs", "50")
    app.press("Fine-tune")
    app.says(r"Fine-tune: running · step \d+ of \d+ · loss", 120)
    app.press("Cancel")
    app.says("Fine-tune: cancelled")
    app.press("Few-click map")
    app.says("Few-click map: done", 120)
    # A patch of each class: nothing can be held out, and that is said.
    app.says("Not chosen by cross-validation: the labels of")
    shot("voila-4-train")
    app.tab("Map")
    app.wait_for_image()
    app.click_map((0.5, 0.5))
    app.says("Class probabilities at row")
    shot("voila-5-map")
    app.tab("Inspect")
    app.wait_for_image()
    app.click_map((0.5, 0.55))
    app.says("of all weight", 60)
    shot("voila-6-inspect")

    # A model of single pixels, from training to inspection.
    app.tab("Train")
    size = app.box.get_by_label("New model", exact=True).locator("visible=true").first
    size.select_option("pixel")
    app.says("no few-click map, no pretrained weights and no attention")
    assert app.button("Few-click map").is_disabled()
    app.press("Fine-tune")
    app.says("Fine-tune: done", 60)
    app.press("Predict")
    app.says("Predict: done", 60)
    shot("voila-4-pixel")
    app.tab("Inspect")
    app.says("it has no attention to show")
    app.tab("Train")
    size.select_option("timo-tiny")
    few = app.button("Few-click map").element_handle()
    page.wait_for_function("button => !button.disabled", arg=few)
    app.tab("Code")
    code = app.box.locator("textarea:visible").first.input_value()
    assert "timo.open_cube('sample'" in code
    assert "timo.fit_head(model, cube, labels)" in code
    assert "timo.load_model('pixel', data=cube, classes=['forest', 'open'])" in code
    app.press("Export as notebook")
    app.says("Written: workbench_export.ipynb")
    assert (desk / "notebooks" / "workbench_export.ipynb").exists()
    shot("voila-7-code")
    assert page.errors == []
