"""The workbench's last tab: what was done, as code and as a notebook."""

from __future__ import annotations

from typing import Any

import ipywidgets

from timo.errors import TimoError

from ..base.state import State
from ..base.style import Message, button, close_tree
from .codebox import CodeBox
from .notebook import export_notebook
from .recipe import Recipe, read_recipe

_IMPORT, _WIDGETS = "import timo", "import timo_widgets"
_NOTHING = "# Nothing was done yet: what you do in the other tabs appears here."
_LABELS = (
    "The labels were changed after the last training: the model and the map on the screen are of the labels before. "
    "Train again in tab 4 to bring them together."
)
_ANEW = " The exported notebook trains on the labels as they are now: its map is another."
_KEPT = " Until then the exported notebook uses the model as it is."
_MAP = (
    "The model was trained after the last map was made: the map on the screen is of the model before. Press Predict in "
    "tab 4 for a new one."
)


class CodeTab(ipywidgets.VBox):
    """The Python of what was done by hand, to be copied, and its export as a notebook.

    Parameters
    ----------
    state : State
        Whose code it shows.

    Attributes
    ----------
    box : CodeBox
        The code.
    name : ipywidgets.Text
        Name of the notebook, from the kernel's folder.
    export : ipywidgets.Button
        Writes the notebook.
    message : Message
        What came of it.
    notice : Message
        What is out of date, and what to do about it.
    """

    def __init__(self, state: State) -> None:
        self.state = state
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
        self.message = Message()
        self.note = ipywidgets.HTML(
            '<span class="timo-note">The notebook has a cell of parameters, runs with papermill, and gives the same '
            "map. The labels are saved beside it.</span>"
        )
        self.row = ipywidgets.HBox([self.name, self.export], layout={"flex_flow": "row wrap"})
        self.notice = Message()
        super().__init__([self.notice, self.box, self.row, self.note, self.message])
        self.state.observe(self._show, names="code")
        self._show()

    def write(self) -> None:
        """Write the notebook, and say so."""
        self.message.busy("Writing the notebook ...")
        self.export.disabled = True
        try:
            path = export_notebook(self.state, self.name.value.strip())
        except TimoError as error:
            self.message.error(error)
        else:
            self.message.info(
                f"Written: {path}. Run it with: papermill --cwd {path.parent} {path} {path.with_suffix('')}_run.ipynb"
            )
        finally:
            self.export.disabled = False

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
            warnings[0] += _ANEW if recipe.training else _KEPT
        text = "\n".join(warnings)
        if text == self.notice.text:
            return
        if text:
            self.notice.info(text)
        else:
            self.notice.clear()

    def close(self) -> None:
        """Stop following the state, and free what the browser holds."""
        if self.comm is None:
            return
        self.state.unobserve(self._show, names="code")
        for child in self.children:
            close_tree(child)
        layout = self.layout
        super().close()
        layout.close()
