"""The numbers of one pixel: a chart of its class probabilities through time, and a table for the date shown."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets
import numpy as np
import xarray as xr

from ..base.chart import SeriesChart
from ..base.style import button, control
from .data import MapData

ENTROPY_COLOUR = "#8C8C8C"
# The value, and the ends of its interval in one lighter blue.
_VALUE_COLOURS = ("#0072B2", "#56B4E9", "#56B4E9")
_CELL = 'style="padding:1px 10px 1px 0;white-space:nowrap;line-height:1.4;text-align:{}"'


class PixelPanel(ipywidgets.VBox):
    """Row and column, chart and table; `look` gets the row and column that are typed, `moved` the date of the chart."""

    def __init__(self, look: Callable[[int, int], Any], moved: Callable[[int], Any]) -> None:
        self._look, self._moved = look, moved
        self.data: MapData | None = None
        self._pixel: tuple[int, int] | None = None
        self._date = 0
        self.row = control(ipywidgets.BoundedIntText, "Row", "130px", "auto")
        self.column = control(ipywidgets.BoundedIntText, "Column", "130px", "auto")
        self.look_button = button(
            "Look at pixel", "crosshairs", "Show the numbers of this row and column", self._typed
        )
        self.with_entropy = ipywidgets.Checkbox(
            False,
            description="With entropy",
            indent=False,
            layout={"width": "auto", "margin": "2px 2px 2px 12px"},
        )
        self.chart = SeriesChart(
            empty="Click a pixel of the map to see its probabilities", height=220
        )
        self.chart.layout.flex, self.chart.layout.min_width = "1 1 420px", "0"
        self.table = ipywidgets.HTML(layout={"flex": "0 1 250px", "padding": "0 0 0 12px"})
        self.with_entropy.observe(self._draw, names="value")
        self.chart.observe(self._cursor, names="selected")
        place = [self.row, self.column, self.look_button, self.with_entropy]
        super().__init__(
            [
                ipywidgets.HBox(place, layout={"flex_flow": "row wrap", "align_items": "center"}),
                ipywidgets.HBox([self.chart, self.table], layout={"flex_flow": "row wrap"}),
            ]
        )

    def show(self, data: MapData) -> None:
        """Take another result."""
        self.data = data
        self.row.max, self.column.max = data.result.sizes["y"] - 1, data.result.sizes["x"] - 1
        self.chart.layout.display = None if data.times is not None else "none"
        with_entropy = data.classes and data.times is not None
        self.with_entropy.layout.display = None if with_entropy else "none"
        if self._pixel is not None and (
            self._pixel[0] > self.row.max or self._pixel[1] > self.column.max
        ):
            self._pixel = None
        self._draw()

    def look_at(self, pixel: tuple[int, int] | None) -> None:
        """Show another pixel, or none."""
        self._pixel = pixel
        if pixel is not None:
            self.row.value, self.column.value = pixel
        self._draw()

    def move(self, date: int) -> None:
        """Show another date of the result."""
        self._date = date
        if self.data is not None and self.data.times is not None and self.chart.series:
            self.chart.selected = date
        self._write()

    def _typed(self) -> None:
        self._look(self.row.value, self.column.value)

    def _cursor(self, change: dict[str, Any]) -> None:
        if change["new"] >= 0:
            self._moved(change["new"])

    def _draw(self, *_: Any) -> None:
        data = self.data
        if data is None or self._pixel is None:
            self.chart.show([], dates=[], selected=-1, title="")
        elif data.times is not None:
            row, column = self._pixel
            self.chart.show(
                self._series(data, data.pixel(row, column)),
                dates=data.times,
                title=f"{data.title} at row {row}, column {column}",
                y_label="probability" if data.classes else data.quantity,
                y_range=[0.0, 1.0] if data.classes else [],
                selected=self._date,
            )
        self._write()

    def _series(self, data: MapData, pixel: xr.Dataset) -> list[dict[str, Any]]:
        if data.values:
            shades = zip(data.values, _VALUE_COLOURS, strict=False)
            return [{"name": n, "colour": c, "values": pixel[n].values} for n, c in shades]
        values = pixel.probability.transpose("class", "time").values
        series = [
            {"name": name, "colour": data.colours[i], "values": values[i]}
            for i, name in enumerate(data.classes)
        ]
        if self.with_entropy.value:
            share = pixel.entropy.values / max(data.most_bits, 1e-12)
            series.append({"name": "entropy / largest", "colour": ENTROPY_COLOUR, "values": share})
        return series

    def _write(self) -> None:
        if self.data is None or self._pixel is None:
            undated = self.data is not None and self.data.times is None
            hint = '<p class="timo-note">Click a pixel of the map.</p>'
            self.table.value = hint if undated else ""
            return
        self.table.value = _table(self.data, self._pixel, self._date)


def _table(data: MapData, place: tuple[int, int], date: int) -> str:
    """Return the numbers of a pixel as HTML."""
    pixel = data.pixel(*place)
    now = pixel if data.times is None else pixel.isel(time=date)
    when = "" if data.times is None else f", {data.times[date]:%Y-%m-%d}"
    title = f"<b>Row {place[0]}, column {place[1]}{when}</b>"
    if data.values:
        rows = [[html.escape(name), _number(now[name].item())] for name in data.values]
        return title + _rows(["", html.escape(data.quantity)], rows)
    header = ["Class", "Probability"] + ([] if data.times is None else ["All dates"])
    rows = []
    for i, name in enumerate(data.classes):
        cells = [html.escape(name), _number(now.probability.values[i])]
        if data.times is not None:
            cells.append(_number(float(pixel.probability.isel({"class": i}).mean())))
        rows.append(cells)
    label = int(now.label)
    says = data.classes[label] if label >= 0 else "no observation"
    entropy = _number(float(now.entropy))
    body = f"<div>Map: <b>{html.escape(says)}</b>, entropy {entropy} bit</div>"
    return title + _rows(header, rows) + body


def _rows(header: list[str], rows: list[list[str]]) -> str:
    body = _row(header, "th") + "".join(map(_row, rows))
    return (
        f'<table style="font-variant-numeric:tabular-nums;border-collapse:collapse">{body}</table>'
    )


def _row(cells: list[str], tag: str = "td") -> str:
    sides = ["left", *["right"] * (len(cells) - 1)]
    inner = "".join(
        f"<{tag} {_CELL.format(side)}>{cell}</{tag}>"
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{inner}</tr>"


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"
