"""A map and a chart as one picture, for saved notebooks."""

from __future__ import annotations

import io

from ..base.chart import SeriesChart
from ..base.style import figure_png


def snapshot(map_png: bytes | None, title: str, chart: SeriesChart) -> bytes:
    """PNG of a map and, under it, the chart's series if it has any.

    Parameters
    ----------
    map_png : bytes or None
        The map; None: only the title is shown.
    title : str
        What stands over the map.
    chart : SeriesChart
        The chart.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    series = bool(chart.series)
    figure = Figure(figsize=(8, 8 if series else 5), layout="constrained")
    axes = figure.subplots(1 + series, 1, squeeze=False, height_ratios=[2, 1][: 1 + series])
    top = axes[0, 0]
    top.axis("off")
    top.set_title(title, fontsize=10)
    if map_png is not None:
        top.imshow(Image.open(io.BytesIO(map_png)))
    if series:
        chart.plot(axes[1, 0])
    return figure_png(figure)
