"""The map view as a still picture, for where there is no live kernel."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from ..base.style import figure_png
from .data import MapData
from .layers import LayerPanel
from .legend import ColourBar, Legend


def picture(data: MapData | None, layers: LayerPanel, said: str) -> bytes:
    """PNG of the map with its legend; of what is said instead, while there is no map."""
    figure = Figure(figsize=(7, 4.6) if data is not None else (7, 1))
    axes = figure.subplots()
    axes.set_axis_off()
    if data is None or layers.map is None:
        axes.text(0, 0.5, said, wrap=True)
        return figure_png(figure)
    axes.imshow(np.asarray(Image.open(io.BytesIO(layers.map.picture()))))
    axes.set_title(_title(data, layers), fontsize=10)
    _draw_legend(figure, axes, layers.legend)
    return figure_png(figure)


def _title(data: MapData, layers: LayerPanel) -> str:
    if layers.layer.value == "year" or data.times is None:
        return ""
    return f"{data.times[layers.shown_date]:%Y-%m-%d}"


def _draw_legend(figure: Figure, axes: Any, legend: Any) -> None:
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
