"""Python that did what was done by hand, to be copied."""

from __future__ import annotations

import anywidget
import traitlets

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
    """A box of code with a button that copies it.

    Attributes
    ----------
    code : str
        The code.
    copied : bool
        Whether it went to the clipboard when the button was last pressed.
    """

    _esm = _ESM
    _css = _CSS
    code = traitlets.Unicode("").tag(sync=True)
    copied = traitlets.Bool(default_value=False).tag(sync=True)
