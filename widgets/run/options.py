"""What a job is made with: a few controls, and some more for those who ask for them."""

from __future__ import annotations

from typing import Any

import ipywidgets

from ..base.style import close_tree
from .tasks import NEW, PRESENT, Choices

SIZES = ("timo-tiny", "timo-small", "timo-base", "timo-large", "timo-huge")
_STYLE = {"description_width": "110px"}
_WIDE = {"width": "340px"}
_START = [("a new model", NEW), ("the present model", PRESENT)]


class Options:
    """Controls of the runner.

    Attributes
    ----------
    start, size, epochs, seed : ipywidgets
        Which model is trained, how large a new one is, how long, with which random numbers.
    pretrained, per_date, folder, resume : ipywidgets
        Under Advanced: the weights that a new model starts from, a class for each date or for the series, where
        checkpoints are left, and whether to go on from one.
    panel, advanced : ipywidgets.VBox
        The controls that are always there, and the others.
    """

    def __init__(self) -> None:
        common: dict[str, Any] = {"style": _STYLE, "layout": _WIDE}
        self.start = ipywidgets.Dropdown(options=_START[:1], description="Train", **common)
        self.size = ipywidgets.Dropdown(options=SIZES, description="New model", **common)
        self.epochs = ipywidgets.BoundedIntText(
            value=20, min=1, max=10_000, description="Epochs", **common
        )
        self.seed = ipywidgets.BoundedIntText(
            value=0, min=0, max=2**31 - 1, description="Seed", **common
        )
        self.pretrained = ipywidgets.Checkbox(
            value=True, description="start from pretrained weights", indent=False
        )
        self.per_date = ipywidgets.Checkbox(
            value=True, description="a class for each date, not for the series", indent=False
        )
        self.folder = ipywidgets.Text(
            value="runs",
            description="Checkpoints in",
            placeholder="no folder: nothing is written",
            **common,
        )
        self.resume = ipywidgets.Checkbox(
            value=False, description="go on with the last run, if it was stopped", indent=False
        )
        rows = [ipywidgets.HBox([self.start, self.size]), ipywidgets.HBox([self.epochs, self.seed])]
        for row in rows:
            row.layout.flex_flow = "row wrap"
        self.panel = ipywidgets.VBox(rows)
        self.advanced = ipywidgets.VBox([self.pretrained, self.per_date, self.folder, self.resume])

    @property
    def choices(self) -> Choices:
        """What is chosen."""
        return Choices(
            start=self.start.value,
            size=self.size.value,
            pretrained=self.pretrained.value,
            per_date=self.per_date.value,
            epochs=self.epochs.value,
            seed=self.seed.value,
            folder=self.folder.value.strip(),
            resume=self.resume.value,
        )

    def has_model(self, there: bool) -> None:
        """Offer the present model only where there is one."""
        options = _START if there else _START[:1]
        if len(self.start.options) != len(options):
            chosen = self.start.value if there else NEW
            self.start.options = options
            self.start.value = chosen

    def offer(self, encoder: str) -> None:
        """Offer a pretrained encoder to start new models from, and choose it."""
        if encoder not in self.size.options:
            self.size.options = (*self.size.options, encoder)
        self.size.value = encoder

    def close(self) -> None:
        """Close the controls."""
        close_tree(self.panel)
        close_tree(self.advanced)
