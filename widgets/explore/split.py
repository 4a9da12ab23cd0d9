"""A divider over a map, between two pictures of one place."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

CSS = """
.timo-split { position: absolute; top: 0; bottom: 0; width: 4px; margin-left: -2px; z-index: 900; cursor: ew-resize;
  background: #ffffff; box-shadow: 0 0 3px #000000; touch-action: none; }
.timo-split[hidden] { display: none; }
.timo-split:focus-visible { outline: 3px solid var(--jp-brand-color1, #1976d2); }
.timo-split i { position: absolute; top: 50%; left: 50%; transform: translate(-50%, -50%); padding: 4px 6px;
  border-radius: 12px; font: 12px sans-serif; white-space: nowrap; color: #212121; background: #ffffff;
  box-shadow: 0 0 3px #000000; }
.timo-split span { position: absolute; top: 8px; padding: 1px 6px; border-radius: 2px; white-space: nowrap;
  font: 12px var(--jp-ui-font-family, sans-serif); color: #ffffff; background: rgba(0, 0, 0, 0.65); }
.timo-split-left { right: 8px; }
.timo-split-right { left: 8px; }
"""


class Split(anywidget.AnyWidget):
    """Show the pictures of a map's front pane left of a divider only.

    It moves in the browser alone, without the kernel, and follows the map. Put it, and the map, somewhere into one box
    of class ``timo-explorer``. The arrow keys move it as the mouse does.

    Attributes
    ----------
    active : bool
        Whether the divider is there; without it the front pictures are shown whole.
    position : float
        0..1 of the map's width.
    left_text, right_text : str
        What is shown on either side.
    """

    # As text: of a path anywidget would keep every widget ever made, to notify it when the file changes.
    _esm = (Path(__file__).parent / "split.js").read_text(encoding="utf-8")
    _css = CSS

    active = traitlets.Bool(False).tag(sync=True)
    position = traitlets.Float(0.5).tag(sync=True)
    left_text = traitlets.Unicode("").tag(sync=True)
    right_text = traitlets.Unicode("").tag(sync=True)
