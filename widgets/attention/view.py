"""The map, the chart and the line of text in which the attention inspector shows an answer."""

from __future__ import annotations

import html
from collections.abc import Callable

import ipywidgets
import matplotlib as mpl
import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.errors import TimoError

from ..base.chart import SeriesChart
from ..base.style import OKABE_ITO
from ..maps.colours import opaque, photograph, ramp_picture
from ..maps.rastermap import RasterMap
from .work import FEATURES, PHOTOGRAPH, Question, iso

QUERY, FOUND = OKABE_ITO[5], OKABE_ITO[0]
ANSWER, RAMP = "answer", "viridis"


class AttentionView:
    """Shows answers; asks nothing.

    `place` holds the map, once there is a cube; `chart` shows the pixel's series, and below it the weights over the
    dates that the model saw; `note` is the answer in a sentence. `on_click` gets row and column of a clicked pixel.
    """

    def __init__(self, on_click: Callable[[int, int], None]) -> None:
        self._on_click = on_click
        self.map: RasterMap | None = None
        self._cube: xr.DataArray | None = None
        self._part: xr.DataArray | None = None
        self.place = ipywidgets.VBox(layout={"flex": "1 1 420px", "min_width": "300px"})
        self.chart = SeriesChart(height=260, empty="Click a pixel on the map")
        self.note = ipywidgets.HTML()

    def start(self, cube: xr.DataArray | None) -> None:
        """Begin with another cube, or none."""
        if self.map is not None:
            self.map.close()
        self.map, self._cube, self._part = None, cube, None
        self.chart.show([], dates=[], bars=[], selected=-1)
        if cube is not None:
            self.map = RasterMap(cube)
            self.map.on_click(self._on_click)
        self.place.children = [] if self.map is None else [self.map.widget]

    def date_of_bar(self, bar: int) -> int | None:
        """Return the position in the cube of the date of a bar."""
        if self._cube is None or self._part is None or not 0 <= bar < self._part.sizes["time"]:
            return None
        return int(np.flatnonzero(self._cube.time.values == self._part.time.values[bar])[0])

    def show_series(self, question: Question, answer: xr.Dataset) -> None:
        """Draw the pixel's series and the weights over the dates that the model saw."""
        assert self._cube is not None
        cube, part = self._cube, question.part(self._cube)
        self._part = part
        name, values = index_series(
            part.sel(y=[cube.y.values[question.row]], x=[cube.x.values[question.col]])
        )
        own = np.flatnonzero(part.time.values == cube.time.values[question.date])
        self.chart.show(
            [{"name": f"{name} of the pixel", "values": values, "colour": QUERY}],
            dates=part.time,
            bars=answer.dates.values,
            bars_label="weight",
            bars_colour=FOUND,
            y_label=name,
            title=f"Weights of the query of {answer.attrs['date']} over dates",
            selected=int(own[0]),
        )

    def draw(
        self, answer: xr.Dataset | None, shown: int, pixel: tuple[int, int] | None, layer: str
    ) -> None:
        """Draw the map: the photograph of a date, on it the answer, and the marks."""
        if self.map is None or self._cube is None:
            return
        self.map.show("photograph", photograph(self._cube.isel(time=[shown])))
        marks = [] if pixel is None else [(*pixel, QUERY, "?")]
        if answer is None:
            self.map.hide(ANSWER)
            self.note.value = ""
        elif "weight" in answer:
            self._draw_weights(self.map, answer, shown)
        else:
            self._draw_likeness(self.map, answer, layer)
            places = zip(answer.place_row.values, answer.place_col.values, strict=True)
            marks += [(int(r), int(c), FOUND, str(i + 1)) for i, (r, c) in enumerate(places)]
        self.map.mark(marks)

    def _draw_weights(self, view: RasterMap, answer: xr.Dataset, shown: int) -> None:
        assert self._cube is not None
        assert self._part is not None
        at = np.flatnonzero(self._part.time.values == self._cube.time.values[shown])
        date = html.escape(iso(self._cube, shown))
        if not at.size:
            view.hide(ANSWER)
            self._say(f"{date} is not among the dates that the model saw.")
            return
        frame = answer.weight.values[int(at[0])]
        view.show(ANSWER, heat(frame, answer.attrs["stride"], self._part, self._cube))
        self._say(
            f"Frame of <b>{date}</b>: {float(frame.sum()):.1%} of all weight. 0 {ramp_html()} {float(frame.max()):.2%} "
            f"in one token of {answer.attrs['stride']} px. For another frame click its bar, or use the arrow keys in "
            "the chart."
        )

    def _draw_likeness(self, view: RasterMap, answer: xr.Dataset, layer: str) -> None:
        best = ", ".join(f"{s:.2f}" for s in answer.place_similarity.values)
        found = f"Places 1 to {answer.sizes['place']}, with similarities {best}."
        if layer == PHOTOGRAPH:
            view.hide(ANSWER)
            self._say(found)
        elif layer == FEATURES:
            view.show(ANSWER, opaque(answer.picture.values))
            self._say(f"Places of one colour are alike to the encoder. {found}")
        else:
            view.show(ANSWER, ramp_picture(answer.similarity.values, -1, 1, RAMP))
            self._say(f"Cosine similarity of the features of stage 1: -1 {ramp_html()} 1. {found}")

    def _say(self, text: str) -> None:
        self.note.value = f'<div class="timo-note" role="status" aria-live="polite">{text}</div>'

    def close(self) -> None:
        """Close the map; what was put into a box closes with that."""
        if self.map is not None:
            self.map.close()
        self.map, self._cube, self._part = None, None, None


def heat(weight: np.ndarray, stride: int, part: xr.DataArray, cube: xr.DataArray) -> np.ndarray:
    """Paint the weights of a frame's tokens as a picture on the cube's grid, clear where there is little weight."""
    height, width = part.sizes["y"], part.sizes["x"]
    fine = weight.repeat(stride, 0).repeat(stride, 1)[:height, :width]
    share = fine / max(float(weight.max()), 1e-12)
    picture = mpl.colormaps[RAMP](share, bytes=True)
    # The photograph stays to be seen where the model hardly looks.
    picture[..., 3] = np.round(255 * np.clip(np.sqrt(share), 0, 0.85)).astype("uint8")
    whole = np.zeros((cube.sizes["y"], cube.sizes["x"], 4), "uint8")
    top, left = (int(np.flatnonzero(cube[d].values == part[d].values[0])[0]) for d in ("y", "x"))
    whole[top : top + height, left : left + width] = picture
    return whole


def index_series(pixel: xr.DataArray) -> tuple[str, np.ndarray]:
    """Return name and values of the series of one pixel: NDVI where there are the bands, the first band otherwise."""
    try:
        return "NDVI", cubes.ndvi(pixel).values[:, 0, 0]
    except TimoError:
        return str(pixel.band.values[0]), pixel.values[:, 0, 0, 0]


def ramp_html() -> str:
    """Return the ramp of the weights as a bar in a line of text."""
    stops = ", ".join(mpl.colors.to_hex(mpl.colormaps[RAMP](s)) for s in np.linspace(0, 1, 6))
    style = f"background:linear-gradient(90deg, {stops})"
    return (
        f'<span class="timo-ramp" style="{style}" role="img" aria-label="from low to high"></span>'
    )
