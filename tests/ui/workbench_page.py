"""The workbench as a person uses it: tabs, maps, buttons, by what they are called."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Fraction = tuple[float, float]
# Parameters of the notebook, for set_parameters. A few dates: what is tested is the way, not the map.
FEW_DATES = {
    "start": "2019-06-01",
    "end": "2019-07-31",
    "bands": ["B2", "B3", "B4", "B8", "B8A", "B11"],
    "classes": ["forest", "open"],
}


class WorkbenchPage:
    """The workbench in a page, of JupyterLab or of Voila."""

    def __init__(self, page: Any, seconds: float = 60) -> None:
        self.page = page
        self.box = page.locator(".widget-tab").first
        self.box.wait_for(timeout=seconds * 1000)

    def tab(self, title: str) -> None:
        """Open a tab."""
        self.box.locator(".lm-TabBar-tab", has_text=title).first.click()

    def button(self, text: str) -> Any:
        """The button that says just this."""
        exactly = re.compile(rf"^\s*{re.escape(text)}\s*$")
        return self.box.locator("button:visible").filter(has_text=exactly).first

    def press(self, text: str) -> None:
        """Press the button that says this, once it can be pressed."""
        self.page.wait_for_function(
            "button => !button.disabled", arg=self.button(text).element_handle()
        )
        self.button(text).click()

    def says(self, pattern: str, seconds: float = 30) -> str:
        """Wait until the workbench says something that matches; returns the match."""
        expression = re.compile(pattern)
        return until(lambda: expression.search(self.box.inner_text()), seconds, pattern).group(0)

    def type(self, label: str, text: str) -> None:
        """Put text into the field of this name, and leave it."""
        field = self.box.get_by_label(label, exact=True).locator("visible=true").first
        field.fill(text)
        field.press("Tab")

    @property
    def map(self) -> Any:
        """The map of the open tab."""
        return self.box.locator(".leaflet-container:visible").first

    def wait_for_image(self) -> None:
        """Wait for the picture on the map."""
        self.box.locator(".leaflet-container:visible img.leaflet-image-layer").first.wait_for()

    def at(self, place: Fraction) -> Fraction:
        """Pixel of the page at a place of the map, given in shares of its width and height."""
        self.map.scroll_into_view_if_needed()
        box = self.map.bounding_box()
        return box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"]

    def click_map(self, place: Fraction) -> None:
        """Click on the map."""
        self.page.mouse.click(*self.at(place))

    def draw_rectangle(self, start: Fraction, end: Fraction) -> None:
        """Draw a rectangle by dragging."""
        self.box.locator("a.leaflet-draw-draw-rectangle:visible").first.click()
        self.page.mouse.move(*self.at(start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(end), steps=6)
        self.page.mouse.up()

    def draw_polygon(self, corners: list[Fraction]) -> None:
        """Draw a polygon corner by corner."""
        self.box.locator("a.leaflet-draw-draw-polygon:visible").first.click()
        for corner in [*corners, corners[0]]:
            self.page.mouse.move(*self.at(corner), steps=3)
            self.page.mouse.click(*self.at(corner))
            # Two clicks at once would be a double click, which ends the polygon.
            self.page.wait_for_timeout(350)


# Text nodes that are seen, with the contrast of their colour to what lies behind (WCAG 2.2, 1.4.3). Disabled controls
# need none; on a picture there is no one colour behind.
CONTRAST = """box => {
    const numbers = colour => (colour.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const over = (front, back) => {
        const share = front[3] ?? 1;
        return [0, 1, 2].map(i => front[i] * share + back[i] * (1 - share));
    };
    const behind = element => {
        const layers = [];
        for (let e = element; e; e = e.parentElement) layers.push(numbers(getComputedStyle(e).backgroundColor));
        return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
    };
    const found = [];
    const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement, text = node.textContent.trim();
        if (!text || !element.checkVisibility({opacityProperty: true}) || element.closest(
            'style, script, option, :disabled, [disabled], .disabled, .leaflet-container')) continue;
        const style = getComputedStyle(element), back = behind(element);
        let front = numbers(element.namespaceURI.endsWith('svg') ? style.fill : style.color);
        front = over(front, back);
        const [one, two] = [light(front), light(back)].sort((a, b) => b - a);
        const contrast = (one + 0.05) / (two + 0.05);
        if (contrast < 4.5) found.push(`${contrast.toFixed(1)}: ${text.slice(0, 40)}`);
    }
    return found;
}"""


def low_contrast(bench: "WorkbenchPage") -> list[str]:
    """Texts of the open tab that are hard to read on what lies behind them."""
    return bench.box.evaluate(CONTRAST)


def until(condition: Callable[[], Any], seconds: float, what: str = "") -> Any:
    """Wait until something is true; returns it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        time.sleep(0.2)
    return value


def set_parameters(path: Path, **values: Any) -> None:
    """Change the parameters of a notebook, as papermill would."""
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    path.write_text(json.dumps(notebook))
