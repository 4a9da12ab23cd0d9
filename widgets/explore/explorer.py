"""Look at a cube: any date, any bands, two dates side by side, and the series of the pixels that are clicked."""

from __future__ import annotations

import io
from typing import Any

import ipywidgets
import pandas as pd
import xarray as xr

from timo.checks import NotNegative, PathLike, checked
from timo.cube import check
from timo.errors import TimoError

from ..base.background import Background
from ..base.chart import SeriesChart
from ..base.part import Part, replace_earlier
from ..base.state import State, clear_date
from ..base.style import PictureFallback, figure_png, style_sheet
from ..maps.rastermap import RasterMap
from . import bandviews
from .controls import ExplorerControls
from .picturepane import PicturePane
from .reading import CubeReader
from .seriespane import SeriesPane


class CubeExplorer(PictureFallback, Part):
    """A map of the cube with a slider over its dates, and the series of up to five pixels.

    Click a pixel, and its series appears; move the slider, the strip under it, or the cursor of the chart, and the map
    shows that date. Of a lazy cube only what is looked at is read, beside the notebook, and kept.

    Parameters
    ----------
    cube : xarray.DataArray, optional
        A cube; it becomes that of the state.
    state : State, optional
        What is shared with other widgets. By default a new one.
    height : str
        Height of the map, in CSS.

    Attributes
    ----------
    state : State
        Reads and sets `cube`, `date` and `pixels`.
    controls : ExplorerControls
        The controls by name; each can be set from Python.
    map : RasterMap or None
        The map; None without a cube.
    chart : SeriesChart
        The series of the pixels.
    message : Message
        What is waited for, or went wrong.

    Raises
    ------
    TimoError
        If the cube is not one (see `timo.cube.check`).
    """

    @checked
    def __init__(
        self, cube: xr.DataArray | None = None, state: State | None = None, height: str = "420px"
    ) -> None:
        super().__init__(state, None if cube is None else check(cube))
        replace_earlier(self)
        self.map: RasterMap | None = None
        self._height = height
        self._reader: CubeReader | None = None
        self._background = Background(self._failed)
        self.controls = c = ExplorerControls(self.message)
        self.chart = c.chart
        shared = (self.state, c, self._background, self._settled)
        self.pictures, self.pane = PicturePane(*shared), SeriesPane(*shared)
        self._map_place = ipywidgets.VBox()
        self.children = [style_sheet(), *c.arrange(self._map_place)]
        self.add_class("timo-explorer")
        self.follow(self.state, self._take_cube, "cube")
        self.follow(self.state, self._take_date, "date")
        self.follow(self.state, self._take_pixels, "pixels")
        self.follow(c.view, self.pictures.change_view, "value")
        self.follow(c.stretch, self.pictures.change_stretch, "value")
        self.follow(c.opacity, self.pictures.change_opacity, "value")
        self.follow(c.compare, self.pictures.change_compare, "value")
        self.follow(c.before, self.pictures.change_compare, "value")
        self.follow(c.quantity, self._change_quantity, "value")
        self.follow(c.slider, self._move, "value")
        self.follow(c.strip, self._move, "selected")
        self.follow(c.chart, self._move, "selected")
        c.forget.on_click(self._forget_pixels)
        self._take_cube()

    # The cube

    def _take_cube(self, _: Any = None) -> None:
        self._background.drop("series")
        cube = self.state.cube
        if self.map is not None:
            self.map.close()
        self._forget_cube()
        if cube is None:
            self._map_place.children = ()
            self.controls.clear()
            self.message.info(
                "There is no cube yet. Open one in the tab Area, or with timo.open_cube."
            )
            return
        self.message.clear()
        self._reader = CubeReader(cube)
        views, quantities = bandviews.map_views(cube), bandviews.series_views(cube)
        self.map = RasterMap(cube.isel(time=0, band=0, drop=True), height=self._height)
        self.map.on_click(self._clicked)
        self._map_place.children = (self.map.widget,)
        with self.silent():
            self.controls.take(cube, list(views), list(quantities), self._reader.clear_shares())
        self.pictures.take(self._reader, self.map, views)
        self.pane.take(self._reader, self.map, quantities)
        self.state.date = clear_date(cube, self.state.date)
        self._take_date()
        self._take_pixels()

    def _forget_cube(self) -> None:
        """Let go of the cube: what still refers to the widget must not keep it alive."""
        self.map = self._reader = None
        self.pictures.take(None, None, {})
        self.pane.take(None, None, {})

    # The date

    def _move(self, change: dict[str, Any]) -> None:
        if self._reader is None or change["new"] < 0 or change["new"] == self.state.date:
            return
        self.state.date = change["new"]
        self.pictures.echo()

    def _take_date(self, _: Any = None) -> None:
        if self._reader is None:
            return
        c = self.controls
        c.slider.value = c.strip.selected = c.chart.selected = self.state.date
        self.pictures.show_date()

    def _settled(self) -> None:
        """Take the note away once all has come."""
        late = self.pictures.is_late() or self.pane.missing()
        if self.message.kind == "busy" and not late:
            self.message.clear()

    # Pixels

    def _clicked(self, row: int, column: int) -> None:
        self.state.look_at(row, column)
        self.pane.echo()

    def _take_pixels(self, _: Any = None) -> None:
        self.pane.mark()
        self.pane.show()

    def _change_quantity(self, _: Any = None) -> None:
        self.pane.echo()
        self.pane.show()

    def _forget_pixels(self, _: Any) -> None:
        self.state.pixels = []

    def series(self) -> pd.DataFrame:
        """Return the series that are shown as a table, see `pixel_series`.

        Raises
        ------
        TimoError
            If there is no cube, or no pixel was chosen.
        """
        return self.pane.table()

    @checked
    def save_series(self, path: PathLike) -> None:
        """Write the series that are shown to a CSV file, whole or not at all.

        Raises
        ------
        TimoError
            If there is no cube, no pixel was chosen, or the file cannot be written.
        """
        self.pane.save(path)

    # The rest

    def _failed(self, error: Exception) -> None:
        remedy = "Move the slider or click again to retry."
        self.message.error(error, "" if isinstance(error, TimoError) else remedy)

    @checked
    def wait(self, seconds: NotNegative | None = 60) -> None:
        """Wait until what is being fetched has come; for scripts and tests."""
        self._background.wait(seconds)

    def picture(self) -> bytes:
        """Return a PNG of the map and, if pixels were chosen, their series."""
        if self.map is None:
            return snapshot(None, self.message.text, self.chart)
        c = self.controls
        dates = [*self.pictures.before.values(), self.state.date]
        days = " | ".join(c.strip.dates[date] for date in dates)
        cut = c.split.position if c.split.active else None
        return snapshot(self.map.picture(cut=cut), f"{c.view.value}, {days}", self.chart)

    def _stop(self) -> None:
        self._background.close()
        if self.map is not None:
            self.map.close()
        self._forget_cube()
        self.controls.link.unlink()
        self.controls.forget.on_click(self._forget_pixels, remove=True)


def snapshot(map_png: bytes | None, title: str, chart: SeriesChart) -> bytes:
    """Return a PNG of a map and, under it, the chart's series if it has any; of the title alone without a map."""
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
