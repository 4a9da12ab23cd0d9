"""The notebook as an app: no code is shown, and the tabs work."""

from workbench_page import WorkbenchPage


def test_the_app(page, voila_address, shot):
    page.set_viewport_size({"width": 1360, "height": 1200})
    page.goto(voila_address, timeout=120_000)
    bench = WorkbenchPage(page, seconds=120)
    bench.wait_for_image()
    assert page.locator(".jp-InputArea-editor:visible").count() == 0
    shot("voila-2-look")
    bench.tab("Area")
    bench.draw_rectangle((0.40, 0.40), (0.60, 0.60))
    bench.tab("Label")
    bench.wait_for_image()
    bench.press("forest")
    bench.draw_rectangle((0.48, 0.60), (0.58, 0.75))
    bench.says(r"forest\W+[1-9]")
    shot("voila-3-label")
    bench.tab("Map")
    bench.says("There is no map yet. Train a model in tab 4")
    bench.tab("Code")
    assert "timo.open_cube('sample'" in bench.box.locator("textarea:visible").first.input_value()
    shot("voila-7-code")
    assert page.errors == []
