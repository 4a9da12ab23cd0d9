"""The workbench's last tab: what was done, as code and as a notebook."""

from __future__ import annotations

from typing import Any

import ipywidgets

from timo.errors import TimoError

from ..base.state import State
from ..base.style import Message, button, close_tree
from .codebox import CodeBox
from .notebook import export_notebook

_IMPORT = "import timo"
_NOTHING = "# Nothing was done yet: what you do in the other tabs appears here."


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
        super().__init__([self.box, self.row, self.note, self.message])
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
        lines = [line for line in self.state.code if line != _IMPORT]
        self.box.code = "\n".join([_IMPORT, *lines] if lines else [_NOTHING])

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
