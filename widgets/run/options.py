"""What a job is made with: a few controls, and some more for those who ask for them."""

from __future__ import annotations

import ipywidgets

from timo.models.config import PIXEL
from timo.models.config import SIZES as _SIZES

from ..base.style import control
from .tasks import NEW, PRESENT, Choices

SIZES = (*(f"timo-{size}" for size in _SIZES), PIXEL)
_WIDE = "340px", "110px"
_START = [("a new model", NEW), ("the present model", PRESENT)]


class Options:
    """Controls of the runner; `panel` holds those that are always there, `advanced` the others."""

    def __init__(self) -> None:
        self.start = control(ipywidgets.Dropdown, "Train", *_WIDE, options=_START[:1])
        self.size = control(ipywidgets.Dropdown, "New model", *_WIDE, options=SIZES)
        numbers = ipywidgets.BoundedIntText
        self.epochs = control(numbers, "Epochs", *_WIDE, value=20, min=1, max=10_000)
        self.seed = control(numbers, "Seed", *_WIDE, value=0, min=0, max=2**31 - 1)
        self.pretrained = ipywidgets.Checkbox(
            value=True, description="start from pretrained weights", indent=False
        )
        self.per_date = ipywidgets.Checkbox(
            value=True, description="a class for each date, not for the series", indent=False
        )
        hint = "no folder: nothing is written"
        self.folder = control(
            ipywidgets.Text, "Checkpoints in", *_WIDE, value="runs", placeholder=hint
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
        """All that is chosen."""
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

    def trains(self, *, single: bool) -> None:
        """Disable what means nothing for a model of single pixels, where one is to be trained."""
        self.epochs.disabled = single and self.per_date.value
        self.pretrained.disabled = self.size.value == PIXEL

    def offer(self, encoder: str) -> None:
        """Offer a pretrained encoder to start new models from, and choose it."""
        if encoder not in self.size.options:
            self.size.options = (*self.size.options, encoder)
        self.size.value = encoder
