"""Legends: classes that can be switched off one by one, and colour bars; drawn in HTML, without the network."""

from __future__ import annotations

import html
import io
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import ipywidgets
import matplotlib as mpl
import numpy as np
import traitlets
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from ..base.style import figure_png

# From light to dark, for early to late; three years get Okabe and Ito's own colours, more get steps between.
_YEARS = ("#F0E442", "#E69F00", "#D55E00")
_LATE = "#7A1F5C"
_STOPS = 16


def year_colours(years: Sequence[int]) -> dict[int, str]:
    """Return colours of years, in their order: yellow to vermilion; on to purple where there are more than three."""
    ordered = sorted(years)
    if len(ordered) <= len(_YEARS):
        return dict(zip(ordered, _YEARS, strict=False))
    ramp = LinearSegmentedColormap.from_list("years", [*_YEARS, _LATE])
    places = np.linspace(0, 1, len(ordered))
    return {year: to_hex(ramp(place)) for year, place in zip(ordered, places, strict=True)}


class Legend(ipywidgets.VBox):
    """A swatch, a name and an amount for each class, with a box to switch it off.

    The entries are (key, name, colour), the colour any of CSS.
    """

    # Keys of the classes that are switched off; may be set.
    hidden = traitlets.List(traitlets.Any())

    def __init__(self, title: str, entries: Iterable[tuple[Hashable, str, str]]) -> None:
        self._setting = False
        self.title, self.entries = title, list(entries)
        self._boxes: dict[Hashable, ipywidgets.Checkbox] = {}
        self._amounts: dict[Hashable, ipywidgets.HTML] = {}
        rows = [self._row(*entry) for entry in self.entries]
        heading = ipywidgets.HTML(f"<b>{html.escape(title)}</b>")
        super().__init__([heading, *rows])

    def _row(self, key: Hashable, name: str, colour: str) -> ipywidgets.HBox:
        swatch = ipywidgets.HTML(
            f'<span aria-hidden="true" style="display:inline-block;width:14px;height:14px;background:{colour};'
            'border:1px solid var(--jp-border-color1,#bdbdbd);vertical-align:middle"></span>',
            layout={"width": "20px", "flex": "0 0 auto"},
        )
        box = ipywidgets.Checkbox(
            True,
            description=name,
            indent=False,
            tooltip=f"Show {name}",
            layout={"width": "auto", "flex": "1 1 auto", "min_width": "0"},
        )
        box.observe(self._switched, "value")
        amount = ipywidgets.HTML(layout={"flex": "0 0 auto"})
        self._boxes[key], self._amounts[key] = box, amount
        return ipywidgets.HBox([swatch, box, amount], layout={"align_items": "center"})

    def set_amounts(self, amounts: Mapping[Any, str]) -> None:
        """Write a text beside each class; classes that are not named get none."""
        for key, place in self._amounts.items():
            text = html.escape(amounts.get(key, ""))
            place.value = f'<span style="font-variant-numeric:tabular-nums">{text}</span>'

    def _switched(self, _: Any) -> None:
        if self._setting:  # the boxes follow, one by one
            return
        self.hidden = [key for key, box in self._boxes.items() if not box.value]

    @traitlets.observe("hidden")
    def _show(self, change: dict[str, Any]) -> None:
        self._setting = True
        try:
            for key, box in self._boxes.items():
                box.value = key not in change["new"]
        finally:
            self._setting = False


class ColourBar(ipywidgets.HTML):
    """A ramp of matplotlib's ("cividis" and "viridis" are safe for colour-blind readers) with its name and its ends."""

    def __init__(
        self, label: str, low: float, high: float, ramp: str = "cividis", note: str = ""
    ) -> None:
        self.label, self.low, self.high, self.ramp = label, low, high, ramp
        colours = mpl.colormaps[ramp](np.linspace(0, 1, _STOPS))
        stops = ",".join(to_hex(colour) for colour in colours)
        ticks = "".join(f"<span>{value:.3g}</span>" for value in np.linspace(low, high, 3))
        text = html.escape(label)
        super().__init__(
            f'<div role="img" aria-label="{text}, {low:.3g} to {high:.3g}"><b>{text}</b>'
            f'<div style="height:14px;margin:4px 0;background:linear-gradient(to right,{stops})"></div>'
            f'<div style="display:flex;justify-content:space-between">{ticks}</div></div>'
            f"<div>{html.escape(note)}</div>"
        )


def picture(map_png: bytes | None, title: str, legend: Any) -> bytes:
    """Return a PNG of a map with its legend; of the title alone while there is no map."""
    figure = Figure(figsize=(7, 4.6 if map_png else 1))
    axes = figure.subplots()
    axes.set_axis_off()
    if map_png is None:
        axes.text(0, 0.5, title, wrap=True)
        return figure_png(figure)
    axes.imshow(np.asarray(Image.open(io.BytesIO(map_png))))
    axes.set_title(title, fontsize=10)
    if isinstance(legend, Legend):
        patches = [
            Patch(color=colour, label=name)
            for key, name, colour in legend.entries
            if key not in legend.hidden
        ]
        if patches:
            axes.legend(
                handles=patches,
                title=legend.title,
                loc="center left",
                bbox_to_anchor=(1.02, 0.5),
                frameon=False,
            )
    elif isinstance(legend, ColourBar):
        norm = mpl.colors.Normalize(legend.low, legend.high)
        ramp = mpl.cm.ScalarMappable(norm, legend.ramp)
        figure.colorbar(ramp, ax=axes, label=legend.label, shrink=0.7)
    return figure_png(figure)
