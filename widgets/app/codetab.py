"""The workbench's last tab: what was done, as code and as a notebook."""

from __future__ import annotations

from typing import Any

import anywidget
import ipywidgets
import traitlets

from ..base.part import Part
from ..base.state import State
from ..base.style import Message, button
from .notebook import export_notebook
from .recipe import Recipe, read_recipe

_IMPORT, _WIDGETS = "import timo", "import timo_widgets"
_NOTHING = "# Nothing was done yet: what you do in the other tabs appears here."
_LABELS = (
    "The labels were changed after the last training: the model and the map on the screen are of the labels before. "
    "Train again in tab 4 to bring them together."
)
_AGAIN = " The exported notebook trains on the labels as they are now: its map is another."
_KEPT = " Until then the exported notebook uses the model as it is."
_MAP = (
    "The model was trained after the last map was made: the map on the screen is of the model before. Press Predict in "
    "tab 4 for a new one."
)

_ESM = """
function render({ model, el }) {
  const area = document.createElement("textarea");
  area.readOnly = true;
  area.spellcheck = false;
  area.rows = 14;
  area.setAttribute("aria-label", "Python code that does what was done by hand");
  const bar = document.createElement("div");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "jupyter-button widget-button";
  button.textContent = "Copy as code";
  button.title = "Put the code on the clipboard";
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  const say = (text) => {
    said.textContent = text;
    model.set("copied", text === "copied");
    model.save_changes();
  };
  const copy = async () => {
    area.select();
    try {
      await navigator.clipboard.writeText(area.value);
      say("copied");
    } catch {
      // Pages without https may not use the clipboard; the older way works from a click.
      say(document.execCommand("copy") ? "copied" : "Not allowed here: press Ctrl+C, the code is selected.");
    }
  };
  const show = () => {
    area.value = model.get("code");
    said.textContent = "";
  };
  button.addEventListener("click", copy);
  model.on("change:code", show);
  show();
  bar.append(button, said);
  el.classList.add("timo-codebox");
  el.append(area, bar);
  return () => model.off("change:code", show);
}
export default { render };
"""
_CSS = """
.timo-codebox textarea { box-sizing: border-box; width: 100%; resize: vertical; padding: 8px;
  font: var(--jp-code-font-size, 13px)/1.5 var(--jp-code-font-family, monospace);
  color: var(--jp-content-font-color1, #212121); background: var(--jp-layout-color2, #f5f5f5);
  border: 1px solid var(--jp-border-color1, #bdbdbd); white-space: pre; overflow: auto; }
.timo-codebox button { width: auto; }
.timo-codebox textarea:focus-visible, .timo-codebox button:focus-visible {
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px; }
.timo-codebox span { margin-left: 8px; color: var(--jp-ui-font-color1, #212121); }
"""


class CodeBox(anywidget.AnyWidget):
    """A box of code with a button that copies it; `copied` says whether the last press reached the clipboard."""

    _esm = _ESM
    _css = _CSS
    code = traitlets.Unicode("").tag(sync=True)
    copied = traitlets.Bool(default_value=False).tag(sync=True)


class CodeTab(Part):
    """The Python of what was done by hand, to be copied, and its export as a notebook under a name.

    `message` says what came of the export, `notice` what is out of date and what to do about it.
    """

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.box = CodeBox()
        self.name = ipywidgets.Text(
            "workbench_export.ipynb",
            description="Notebook",
            tooltip="Name of the notebook, from the folder of this one",
            continuous_update=False,
            layout={"width": "360px"},
        )
        self.export = button(
            "Export as notebook",
            "file-code-o",
            "Write a notebook that does the same without hands",
            self.write,
            style="primary",
        )
        note = ipywidgets.HTML(
            '<span class="timo-note">The notebook has a cell of parameters, runs with papermill, and gives the same '
            "map. The labels are saved beside it.</span>"
        )
        row = ipywidgets.HBox([self.name, self.export], layout={"flex_flow": "row wrap"})
        self.notice = Message()
        self.children = [self.notice, self.box, row, note, self.message]
        self.follow(self.state, self._show, "code")
        self._show()

    def write(self) -> None:
        """Write the notebook, and say so."""
        self.message.busy("Writing the notebook ...")
        self.export.disabled = True
        self.attempt(self._write)
        self.export.disabled = False

    def _write(self) -> None:
        path = export_notebook(self.state, self.name.value.strip())
        self.message.info(
            f"Written: {path}. Run it with: papermill --cwd {path.parent} {path} {path.with_suffix('')}_run.ipynb"
        )

    def _show(self, _: Any = None) -> None:
        lines = [line for line in self.state.code if line not in (_IMPORT, _WIDGETS)]
        first = [_IMPORT]
        if any("timo_widgets." in line for line in lines):
            first.append(_WIDGETS)
        self.box.code = "\n".join([*first, *lines] if lines else [_NOTHING])
        self._warn(read_recipe(lines))

    def _warn(self, recipe: Recipe) -> None:
        """Say what of the screen is older than what it was made from."""
        warnings = [
            text for late, text in ((recipe.outdated, _LABELS), (recipe.unmapped, _MAP)) if late
        ]
        if recipe.outdated:
            warnings[0] += _AGAIN if recipe.training else _KEPT
        text = "\n".join(warnings)
        if text == self.notice.text:
            return
        if text:
            self.notice.info(text)
        else:
            self.notice.clear()
