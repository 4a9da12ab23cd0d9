"""All of it as one app: from an area on the map to a map of it, and to what the model looked at."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import ipywidgets
import xarray as xr

from timo.checks import checked
from timo.cube import check
from timo.errors import TimoError

from ..base.part import Part, replace_earlier
from ..base.state import State, clear_date
from ..base.steps import Step
from ..base.style import Message, PictureFallback, close_tree, figure_png, style_sheet


@dataclass(frozen=True)
class _Tab:
    """A tab: where its part is, and what of the state it cannot do without."""

    title: str
    part: str  # "room.module:class", imported when the tab is first opened
    needs: tuple[str, ...] = ()
    begins: bool = False  # with the options of the state

    @property
    def name(self) -> str:
        """Name of the class of its part."""
        return self.part.partition(":")[2]

    def make(self, state: State) -> ipywidgets.Widget:
        """Make its part."""
        module = import_module(f"..{self.part.partition(':')[0]}", __package__)
        begin = {k: v for k, v in state.options.items() if v is not None} if self.begins else {}
        return getattr(module, self.name)(state=state, **begin)


TABS = (
    _Tab("1 Area", "area.picker:AOIPicker", begins=True),
    _Tab("2 Look", "explore.explorer:CubeExplorer", ("cube",)),
    _Tab("3 Label", "label.labeler:Labeler", ("cube",)),
    _Tab("4 Train", "run.runner:Runner", ("cube",)),
    _Tab("5 Map", "result.mapview:MapView", ("result",)),
    _Tab("6 Inspect", "attention.inspector:AttentionInspector", ("cube", "model")),
    _Tab("7 Code", "app.codetab:CodeTab"),
)
_REMEDY = {
    "cube": "There is no cube yet. Open one in tab 1 (Area), or start with Workbench(cube).",
    "model": "There is no model yet. Train one in tab 4 (Train).",
    "result": "There is no map yet. Train a model in tab 4 (Train) and let it map the cube.",
}


class Workbench(PictureFallback, Part):
    """Draw, fetch, look, label, train, map, and see what the model looked at, in one place.

    The parts are the tabs; each is made when it is first opened, and says what it still needs. All share one `State`:
    what is done in one is seen in the others, and every step is noted as Python in the last.

    Running the cell again closes the workbench that it showed before.

    Parameters
    ----------
    cube : xarray.DataArray, optional
        The cube (time, band, y, x). Without one, the first tab opens one.
    state : State, optional
        To go on from; a new one by default.
    **options
        Options of `timo.open_cube`, with `source` among them: those that `cube` was opened with, so that the exported
        notebook opens it in the same way (else it saves the cube beside it), or those that the first tab begins with.

    Attributes
    ----------
    state : State
        Where the work stands: `state.labels`, `state.model`, `state.result`, `state.code`, ...
    tabs : ipywidgets.Tab
        The tabs; `tabs.selected_index` opens one.
    parts : dict of str to ipywidgets.Widget
        The parts that were made, by the name of their class.

    Raises
    ------
    TimoError
        If the cube is no cube (see `timo.cube.check`).
    """

    @checked
    def __init__(
        self, cube: xr.DataArray | None = None, state: State | None = None, **options: Any
    ) -> None:
        super().__init__(state, None if cube is None else check(cube))
        if options:
            self.state.options = {**self.state.options, **options}
        if cube is not None:
            self.state.date = clear_date(cube, self.state.date)
            if options.get("source") is not None and not self.state.code:
                given = {name: value for name, value in options.items() if name != "source"}
                self.state.echo(Step("timo.open_cube", options["source"], target="cube", **given))
        self.parts: dict[str, ipywidgets.Widget] = {}
        self._waiting = [Message() for _ in TABS]
        self._rooms = [ipywidgets.VBox([message]) for message in self._waiting]
        self.tabs = ipywidgets.Tab(self._rooms, titles=[tab.title for tab in TABS])
        self.children = [style_sheet(), self.tabs]
        self.tabs.selected_index = 0 if self.state.cube is None else 1
        self.follow(self.tabs, self._open, "selected_index")
        self.follow(self.state, self._open, *_REMEDY)
        self._open()
        replace_earlier(self)

    @checked
    def show(self, title: str) -> ipywidgets.Widget | None:
        """Open a tab by a word of its title ("Look"); return its part, or None while something is missing.

        Raises
        ------
        TimoError
            If no tab has such a title.
        """
        found = [i for i, tab in enumerate(TABS) if title.lower() in tab.title.lower()]
        if not found:
            titles = ", ".join(tab.title for tab in TABS)
            raise TimoError(f"There is no tab {title!r}. The tabs are: {titles}.")
        self.tabs.selected_index = found[0]
        return self.parts.get(TABS[found[0]].name)

    def picture(self) -> bytes:
        """Return a PNG of the tab that is open, or of the last one with something to show."""
        open_first = [TABS[self.tabs.selected_index or 0], *reversed(TABS)]
        for part in (self.parts.get(tab.name) for tab in open_first):
            if part is not None and hasattr(part, "picture"):
                return part.picture()
        return _blank()

    def _stop(self) -> None:
        for part in self.parts.values():
            part.close()
        self.parts.clear()
        for room, message in zip(self._rooms, self._waiting, strict=True):
            room.children = ()
            close_tree(message)

    def _open(self, _: Any = None) -> None:
        """Make the part of the open tab, if it is not there and nothing that it needs is missing."""
        position = self.tabs.selected_index
        if position is None:
            return
        self._rest(position)
        tab, room, message = TABS[position], self._rooms[position], self._waiting[position]
        missing = [name for name in tab.needs if getattr(self.state, name) is None]
        made = self.parts.get(tab.name)
        if missing:
            message.info(_REMEDY[missing[0]])
            room.children = [message]
        elif made is not None:
            room.children = [made]
        else:
            self._make(tab, room, message)

    def _rest(self, position: int) -> None:
        """Let parts that can rest do so while another tab is open."""
        for i, tab in enumerate(TABS):
            part = self.parts.get(tab.name)
            if part is not None and part.has_trait("active"):
                part.active = i == position

    def _make(self, tab: _Tab, room: ipywidgets.VBox, message: Message) -> None:
        message.busy(f"Opening {tab.title[2:]} ...")
        room.children = [message]
        try:
            part = tab.make(self.state)
        except Exception as error:  # noqa: BLE001 - any error is shown in the tab, and the others go on
            message.error(f"{tab.title} could not be opened. {type(error).__name__}: {error}")
            return
        self.parts[tab.name] = part
        message.clear()
        room.children = [part]


def _blank() -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 1))
    figure.text(0.5, 0.5, "The workbench: open the notebook to use it.", ha="center", va="center")
    return figure_png(figure)
