"""All of it as one app: from an area on the map to a map of it, and to what the model looked at."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import ipywidgets
import xarray as xr

from ..base.reruns import replace_earlier
from ..base.state import State
from ..base.style import Message, PictureFallback, close_tree, style_sheet


@dataclass(frozen=True)
class _Tab:
    """A tab: where its part is, what of the state it cannot do without, and where that comes from."""

    title: str
    part: str  # "room.module:class", imported when the tab is first opened
    needs: tuple[str, ...] = ()
    begins: bool = False  # with the options of the state

    def make(self, state: State) -> ipywidgets.Widget:
        module, name = self.part.split(":")
        begin = {k: v for k, v in state.options.items() if v is not None} if self.begins else {}
        return getattr(import_module(f"..{module}", __package__), name)(state=state, **begin)


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


class Workbench(PictureFallback, ipywidgets.VBox):
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
        If the cube is none.
    """

    def __init__(
        self, cube: xr.DataArray | None = None, state: State | None = None, **options: Any
    ) -> None:
        self.state = State() if state is None else state
        if options:
            self.state.options = {**self.state.options, **options}
        if cube is not None:
            from timo.cube import check

            self.state.cube = check(cube)
            self.state.date = self.state.date or _clear_date(cube)
            if options.get("source") is not None and not self.state.code:
                given = "".join(f", {k}={v!r}" for k, v in options.items() if k != "source")
                self.state.echo(f"cube = timo.open_cube({options['source']!r}{given})")
        self.parts: dict[str, ipywidgets.Widget] = {}
        self._waiting = [Message() for _ in TABS]
        self._rooms = [ipywidgets.VBox([message]) for message in self._waiting]
        self.tabs = ipywidgets.Tab(self._rooms, titles=[tab.title for tab in TABS])
        self._style = style_sheet()
        super().__init__([self._style, self.tabs])
        self.add_class("timo")
        self.tabs.selected_index = 0 if self.state.cube is None else 1
        self.tabs.observe(self._open, names="selected_index")
        self.state.observe(self._open, names=list(_REMEDY))
        self._open()
        replace_earlier(self)

    def show(self, title: str) -> ipywidgets.Widget | None:
        """Open a tab by a word of its title ("Look"); returns its part, or None while something is missing."""
        position = next(i for i, tab in enumerate(TABS) if title.lower() in tab.title.lower())
        self.tabs.selected_index = position
        return self.parts.get(_class_of(TABS[position]))

    def picture(self) -> bytes:
        """PNG of the tab that is open, or of the last one with something to show."""
        open_first = [TABS[self.tabs.selected_index or 0], *reversed(TABS)]
        for part in (self.parts.get(_class_of(tab)) for tab in open_first):
            if part is not None and hasattr(part, "picture"):
                return part.picture()
        return _blank()

    def close(self) -> None:
        """Close all parts: their threads end, and neither the state nor the browser holds anything of them."""
        if self.comm is None:
            return
        self.tabs.unobserve(self._open, names="selected_index")
        self.state.unobserve(self._open, names=list(_REMEDY))
        for part in self.parts.values():
            part.close()
        self.parts.clear()
        for room, message in zip(self._rooms, self._waiting, strict=True):
            room.children = ()
            close_tree(message)
        for child in (self._style, self.tabs):
            close_tree(child)
        self.children = ()
        layout = self.layout
        super().close()
        layout.close()

    def _open(self, _: Any = None) -> None:
        """Make the part of the open tab, if it is not there and nothing that it needs is missing."""
        position = self.tabs.selected_index
        if position is None:
            return
        self._rest(position)
        tab, room, message = TABS[position], self._rooms[position], self._waiting[position]
        missing = [name for name in tab.needs if getattr(self.state, name) is None]
        made = self.parts.get(_class_of(tab))
        if missing:
            message.info(_REMEDY[missing[0]])
            room.children = [message]
        elif made is not None:
            room.children = [made]
        else:
            self._make(tab, room, message)

    def _rest(self, position: int) -> None:
        """What nobody sees need not answer: a part that can rest does so while another tab is open."""
        for i, tab in enumerate(TABS):
            part = self.parts.get(_class_of(tab))
            if part is not None and part.has_trait("active"):
                part.active = i == position

    def _make(self, tab: _Tab, room: ipywidgets.VBox, message: Message) -> None:
        message.busy(f"Opening {tab.title[2:]} ...")
        room.children = [message]
        try:
            part = tab.make(self.state)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is shown in the tab, and the others go on
            message.error(f"{tab.title} could not be opened. {type(error).__name__}: {error}")
            return
        self.parts[_class_of(tab)] = part
        message.clear()
        room.children = [part]


def _class_of(tab: _Tab) -> str:
    return tab.part.partition(":")[2]


def _clear_date(cube: xr.DataArray) -> int:
    """The date that shows most, of a cube in memory: the first may be all clouds. Some of the pixels tell enough."""
    if cube.chunks is not None:
        return 0
    steps = {name: slice(None, None, max(cube.sizes[name] // 50, 1)) for name in ("y", "x")}
    return int(cube.isel({"band": 0} | steps).notnull().mean(("y", "x")).argmax("time"))


def _blank() -> bytes:
    from matplotlib.figure import Figure

    from ..base.style import figure_png

    figure = Figure(figsize=(6, 1))
    figure.text(0.5, 0.5, "The workbench: open the notebook to use it.", ha="center", va="center")
    return figure_png(figure)
