"""The area of interest as a picture, for saved notebooks."""

from __future__ import annotations

import shapely

from timo.sources import Area

from ..base.style import figure_png
from .text import area_name


def area_picture(area: Area | None, place: tuple[float, float, float, float]) -> bytes:
    """PNG of an area's outline on axes in degrees; of where the sample lies if there is none.

    Parameters
    ----------
    area : timo.sources.Area, optional
        The area.
    place : (west, south, east, north)
        What is shown instead, dashed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    geometry = shapely.box(*place) if area is None else area.geometry
    for part in shapely.get_parts(geometry):
        x, y = part.exterior.xy
        axes.plot(x, y, color="#0072B2", linestyle="--" if area is None else "-")
        axes.fill(x, y, color="#0072B2", alpha=0.0 if area is None else 0.2)
    axes.set_title("The sample's place; no area yet" if area is None else area_name(area))
    axes.set_xlabel("longitude (degrees)")
    axes.set_ylabel("latitude (degrees)")
    axes.margins(0.5)
    axes.ticklabel_format(useOffset=False)
    axes.grid(visible=True, color="#8C8C8C", alpha=0.4)
    return figure_png(figure)
