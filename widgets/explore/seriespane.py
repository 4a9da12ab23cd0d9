"""The explorer's lower half: the series of the pixels that were clicked."""

from __future__ import annotations

import io
import os
from typing import Any

import pandas as pd

from timo.atomic import replacing
from timo.errors import TimoError

from ..base.state import State
from ..base.style import class_colours, data_uri
from . import pixels
from .bandviews import View
from .controls import link_html, pixel_name
from .picturepane import Pane


class SeriesPane(Pane):
    """Pins on the map, series in the chart, and a table of them."""

    @property
    def _quantity(self) -> View:
        return self._views[self._controls.quantity.value]

    def _chosen(self) -> list[tuple[int, int]]:
        chosen: list[Any] = list(self._state.pixels)
        return [(int(row), int(column)) for row, column in chosen]

    def missing(self) -> list[tuple[int, int]]:
        """Return the pixels whose series are not at hand yet."""
        if self._reader is None:
            return []
        bands = self._quantity.bands
        return [pixel for pixel in self._chosen() if not self._reader.has_pixel(*pixel, bands)]

    def mark(self) -> None:
        """Pin the pixels on the map."""
        if self._map is not None:
            colours = class_colours(State.MOST_PIXELS)
            chosen = enumerate(self._chosen())
            self._map.mark([(*pixel, colours[i], str(i + 1)) for i, pixel in chosen])

    def show(self) -> None:
        """Draw what is at hand, and fetch the rest."""
        reader = self._reader
        if reader is None:
            return
        missing, bands = self.missing(), self._quantity.bands
        self._plot()
        if missing:
            self._controls.message.busy("Fetching the pixel's series …")
            self._background.run(
                lambda _: [reader.pixel(*pixel, bands) for pixel in missing],
                lambda _: self._plot(),
                "series",
            )

    def _plot(self) -> None:
        if self._reader is None:
            return
        view, colours = self._quantity, class_colours(State.MOST_PIXELS)
        missing, series = self.missing(), []
        for i, pixel in enumerate(self._chosen()):
            if pixel not in missing:
                values = pixels.values_of(self._reader, *pixel, view)
                name = pixel_name(i, *pixel)
                series.append({"name": name, "colour": colours[i], "values": values})
        self._controls.chart.show(series, y_label=view.name, selected=self._state.date)
        self._offer_csv(ready=bool(series) and not missing)
        self._on_shown()

    def _offer_csv(self, ready: bool) -> None:
        address = data_uri(_csv(self.table()), "text/csv") if ready else ""
        self._controls.csv.value = link_html(address, f"series_{self._quantity.name}.csv")

    def echo(self) -> None:
        """Note the Python that gives the latest pixel's series."""
        if self._chosen():
            row, column = self._chosen()[-1]
            place = f"cube.isel(y=[{row}], x=[{column}])"
            self._state.echo(f"series = {self._quantity.code.format(cube=place)}.to_series()")

    def table(self) -> pd.DataFrame:
        """Return the series as a table, see `pixel_series`."""
        if self._reader is None:
            raise TimoError("There is no cube yet: open one in the tab Area, or set state.cube.")
        return pixels.table(self._reader, self._chosen(), self._quantity)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a CSV file, whole or not at all."""
        content = _csv(self.table())
        with replacing(path) as partial:
            partial.write_bytes(content)
        arguments = f"{self._chosen()}, {self._quantity.name!r}"
        self._state.echo(
            f"timo_widgets.pixel_series(cube, {arguments}).to_csv({str(path)!r}, index=False)"
        )


def _csv(table: pd.DataFrame) -> bytes:
    text = io.StringIO()
    table.to_csv(text, index=False, date_format="%Y-%m-%dT%H:%M:%S")
    return text.getvalue().encode()
