"""Strokes of the brush, collected and shown in the browser: the kernel hears of each once, when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from ..base.style import class_colours, text_colour
from ..maps.rastermap import RasterMap

# As many classes have a key.
KEYS = 9
# Of as many classes the buttons show the colour.
_MOST_COLOURS = 24


@dataclass(frozen=True)
class Stroke:
    """A stroke that is done."""

    # (row, column) of pixels that the middle of the brush went through, joined by straight lines.
    path: list[tuple[int, int]]
    # Side of the brush in pixels.
    size: int
    erases: bool
    # Position of the class that it gives; None: there is no class.
    code: int | None


class Strokes(anywidget.AnyWidget):
    """Brush and keys of a labeler: a child of the box of class ``timo-labeler``, itself without size.

    While pixels are painted or erased, it takes the pointer from the map, shows what the brush covers as it moves, and
    sends the stroke when the pointer is let go. It also hears the keys: digits choose the class in the browser itself,
    Ctrl or Cmd with Z and Y is sent. `on_stroke` gets a `Stroke`, `on_key` "undo" or "redo".
    """

    # As text: of a path anywidget would keep every widget ever made, to notify it when the file changes.
    _esm = (Path(__file__).parent / "strokes.js").read_text(encoding="utf-8")

    # Of the labeler's panel: the browser looks there, so that a key and the stroke after it go together however busy
    # the kernel is. Drawing is the first mode, painting the second, erasing the third.
    mode = traitlets.Any().tag(sync=True, **ipywidgets.widget_serialization)
    brush = traitlets.Any().tag(sync=True, **ipywidgets.widget_serialization)
    classes = traitlets.Any().tag(sync=True, **ipywidgets.widget_serialization)
    opacity = traitlets.Any().tag(sync=True, **ipywidgets.widget_serialization)
    # Sides of the brush, as `brush` offers them.
    sizes = traitlets.List(traitlets.Int()).tag(sync=True)
    # Of the classes.
    colours = traitlets.List(traitlets.Unicode()).tag(sync=True)
    # Of the grid; 0: there is none. The others are those of `RasterMap.lattice`.
    rows = traitlets.Int(0).tag(sync=True)
    columns = traitlets.Int(0).tag(sync=True)
    to_grid = traitlets.Bytes(b"").tag(sync=True)
    to_picture = traitlets.Bytes(b"").tag(sync=True)

    def __init__(
        self,
        *,
        on_stroke: Callable[[Stroke], Any],
        on_key: Callable[[str], Any],
        **traits: Any,
    ) -> None:
        super().__init__(layout={"display": "none"}, **traits)
        self._on_stroke, self._on_key = on_stroke, on_key
        self.on_msg(self._hear)

    def fit(self, shown: RasterMap) -> None:
        """Go to the grid of a map."""
        to_grid, to_picture = shown.lattice()
        with self.hold_sync():
            self.rows, self.columns = shown.shape
            self.to_grid, self.to_picture = to_grid.tobytes(), to_picture.tobytes()

    def _hear(self, _: Any, content: dict[str, Any], __: Any) -> None:
        kind = content.get("kind")
        if kind in ("undo", "redo"):
            self._on_key(kind)
        elif kind == "stroke":
            try:
                path = [(row, column) for row, column in content["path"]]
                self._on_stroke(Stroke(path, content["size"], content["erases"], content["code"]))
            finally:
                # What was shown of it meanwhile goes, also where it failed.
                self.send({"done": content["id"]})

    def close(self) -> None:
        """Hear no more, and close the widget."""
        self.on_msg(self._hear, remove=True)
        super().close()


_STYLE = """
.timo-classes { counter-reset: timo-class; }
.timo-classes button { counter-increment: timo-class; }
.timo-classes button::before { content: ""; display: inline-block; min-width: 16px; margin-right: 6px;
  border-radius: 2px; font-size: 11px; line-height: 16px; min-height: 16px; vertical-align: middle;
  color: var(--timo-ink); background: var(--timo-colour); }
.timo-classes button.mod-active { outline: 2px solid var(--jp-ui-font-color1, #212121); outline-offset: -2px; }
.timo-keys .timo-note { display: block; font-size: 12px; line-height: 1.4; }
canvas.timo-strokes { position: absolute; inset: 0; width: 100%; height: 100%; z-index: 450; pointer-events: none; }
"""


def key_style() -> ipywidgets.HTML:
    """Make a style sheet, without size, that puts its key and its colour onto each class's button."""
    rules = [_STYLE]
    for i, colour in enumerate(class_colours(_MOST_COLOURS), 1):
        rules.append(
            f".timo-classes button:nth-of-type({i}) "
            f"{{ --timo-colour: {colour}; --timo-ink: {text_colour(colour)}; }}\n"
        )
    # Not in the button's own text: that stays the name of the class.
    key = f".timo-classes button:nth-of-type(-n+{KEYS})::before {{ content: counter(timo-class); }}"
    return ipywidgets.HTML(f"<style>{''.join(rules)}{key}</style>", layout={"display": "none"})
