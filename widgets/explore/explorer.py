"""Look at a cube: any date, any bands, two dates side by side, and the series of the pixels that are clicked."""

from __future__ import annotations

import os
from typing import Any

import ipywidgets
import pandas as pd
import xarray as xr

from timo.cube import check
from timo.errors import TimoError

from ..base.background import Background
from ..base.reruns import replace_earlier
from ..base.state import State, clear_date
from ..base.style import Message, PictureFallback, close_tree, style_sheet
from ..maps.rastermap import RasterMap
from . import bandviews
from .controls import ExplorerControls
from .picturepane import PicturePane
from .reading import CubeReader
from .seriespane import SeriesPane
from .snapshot import snapshot


class CubeExplorer(PictureFallback, ipywidgets.VBox):
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

    # Of an explorer that was refused there is nothing to close.
    _closed = True

    def __init__(
        self, cube: xr.DataArray | None = None, state: State | None = None, height: str = "420px"
    ) -> None:
        if cube is not None:
            check(cube)
        replace_earlier(self)
        self.state = State() if state is None else state
        self.map: RasterMap | None = None
        self._height = height
        self._reader: CubeReader | None = None
        self._closed = False
        self.message = Message()
        self._background = Background(self._failed)
        self.controls = ExplorerControls(self.message)
        self.chart = self.controls.chart
        shared = (self.state, self.controls, self._background, self._settled)
        self.pictures, self.pane = PicturePane(*shared), SeriesPane(*shared)
        self._map_place = ipywidgets.VBox()
        super().__init__(children=[style_sheet(), *self.controls.arrange(self._map_place)])
        self.add_class("timo")
        self.add_class("timo-explorer")
        self._wires = self._connect()
        if cube is not None and cube is not self.state.cube:
            self.state.cube = cube
        else:
            self._take_cube()

    def _connect(self) -> list[tuple[Any, Any, str]]:
        """Observe state and controls; what was connected, so that close() can undo it."""
        c, state = self.controls, self.state
        wires = [
            (state, self._take_cube, "cube"),
            (state, self._take_date, "date"),
            (state, self._take_pixels, "pixels"),
            (c.view, self.pictures.change_view, "value"),
            (c.stretch, self.pictures.change_stretch, "value"),
            (c.opacity, self.pictures.change_opacity, "value"),
            (c.compare, self.pictures.change_compare, "value"),
            (c.before, self.pictures.change_compare, "value"),
            (c.quantity, self._change_quantity, "value"),
            (c.slider, self._move, "value"),
            (c.strip, self._move, "selected"),
            (c.chart, self._move, "selected"),
        ]
        for source, handler, name in wires:
            source.observe(handler, names=name)
        c.on_forget(self._forget_pixels)
        return wires

    # The cube

    def _take_cube(self, _: Any = None) -> None:
        self._background.forget("series")
        cube = self.state.cube
        if self.map is not None:
            self.map.close()
        self._forget_cube()
        if cube is None:
            self._map_place.children = ()
            self.controls.clear()
            self.message.info("There is no cube yet. Open one, e.g. timo.open_cube('sample').")
            return
        self.message.clear()
        self._reader = CubeReader(cube)
        views, quantities = bandviews.map_views(cube), bandviews.series_views(cube)
        self.map = RasterMap(cube.isel(time=0, band=0, drop=True), height=self._height)
        self.map.on_click(self._clicked)
        self._map_place.children = (self.map.widget,)
        with self._silent():
            self.controls.take(cube, list(views), list(quantities), self._reader.clear_shares())
        self.pictures.take(self._reader, self.map, views)
        self.pane.take(self._reader, self.map, quantities)
        self.state.date = clear_date(cube, self.state.date)
        self._take_date()
        self._take_pixels()

    def _forget_cube(self) -> None:
        """Nothing that still refers to the widget may keep the cube alive."""
        self.map = self._reader = None
        self.pictures.take(None, None, {})
        self.pane.take(None, None, {})

    def _silent(self) -> Any:
        """Controls that are filled must not act."""
        return _Paused(self._wires)

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

    def _forget_pixels(self) -> None:
        self.state.pixels = []

    def series(self) -> pd.DataFrame:
        """The series that are shown as a table, see `pixel_series`.

        Raises
        ------
        TimoError
            If there is no cube, or no pixel was chosen.
        """
        return self.pane.table()

    def save_series(self, path: str | os.PathLike[str]) -> None:
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

    def wait(self, seconds: float = 60) -> None:
        """Wait until what is being fetched has come; for scripts and tests."""
        self._background.wait(seconds)

    def picture(self) -> bytes:
        """PNG of the map and, if pixels were chosen, their series."""
        if self.map is None:
            return snapshot(None, self.message.text, self.chart)
        c = self.controls
        dates = [*self.pictures.before.values(), self.state.date]
        days = " | ".join(c.strip.dates[date] for date in dates)
        cut = c.split.position if c.split.active else None
        return snapshot(self.map.picture(cut=cut), f"{c.view.value}, {days}", self.chart)

    def close(self) -> None:
        """Stop the thread, unobserve all, and close every widget that was made."""
        if self._closed:
            return
        self._closed = True
        self._background.close()
        for source, handler, name in self._wires:
            source.unobserve(handler, names=name)
        if self.map is not None:
            self.map.close()
        self.controls.close()
        self._forget_cube()
        close_tree(self._map_place)
        for child in self.children:
            close_tree(child)
        super().close()
        self.layout.close()


class _Paused:
    """Unobserve for a while."""

    def __init__(self, wires: list[tuple[Any, Any, str]]) -> None:
        self._wires = wires

    def __enter__(self) -> None:
        for source, handler, name in self._wires:
            source.unobserve(handler, names=name)

    def __exit__(self, *_: object) -> None:
        for source, handler, name in self._wires:
            source.observe(handler, names=name)
