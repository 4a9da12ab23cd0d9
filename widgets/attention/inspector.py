"""What did the model look at? Click a pixel, and see the attention it pays, in space and over dates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets
import traitlets
import xarray as xr

from timo.checks import NotNegative, checked
from timo.models.pixel import PixelModel
from timo.models.tasks import TiMo

from ..base.part import Part
from ..base.state import Held, State
from ..base.style import PictureFallback, control, figure_png, style_sheet
from .view import AttentionView
from .work import LAYERS, ROLLOUT, Asker, Likeness, Question, iso

ATTENTION, ALIKE = "What it looks at", "Places like this one"
SINGLE = (
    "The present model answers for each pixel by itself, without its surroundings: it has no attention to show, and no "
    "features to compare. Train one with an encoder in tab 4, e.g. timo-tiny."
)
KINDS = {
    "d-stga": "own frame and own place",
    "stga": "own frame and own place",
    "global": "all places of all dates",
}


class AttentionInspector(PictureFallback, Part):
    """Attention of one pixel on one date, over a map and over the dates; and places that are like it to the model.

    A click on the map chooses the pixel, the slider the date of the query; a click on a bar, or the arrow keys in the
    chart, the date whose frame is shown.

    Parameters
    ----------
    model : TiMo, optional
        The model; put into the state.
    cube : xarray.DataArray, optional
        The cube; put into the state.
    state : State, optional
        What the parts of a workbench share. None: one of its own.

    Attributes
    ----------
    state : State
        `cube`, `model`, `pixels` (the latest is the query), `date` (of the query) and `code`.
    mode : str
        "What it looks at" or "Places like this one".
    stage : int
        1 to 4.
    block, head : int or str
        A number or "mean"; for the block also "rollout".
    window : int
        How many dates the model sees.
    shown : int
        Position in the cube of the date whose frame is on the map.
    active : bool
        Whether clicks are answered; a workbench sets False while the inspector is hidden.
    answer : xarray.Dataset or None
        The latest answer, of `timo.inspection.attention_at`, `rollout_at` or `similar`.
    """

    mode = traitlets.Unicode(ATTENTION)
    stage = traitlets.Int(3)
    block = traitlets.Any(-1)
    head = traitlets.Any("mean")
    window = traitlets.Int(12)
    shown = traitlets.Int(0)
    active = traitlets.Bool(True)
    answer = Held(None, allow_none=True)

    @checked
    def __init__(
        self,
        model: TiMo | None = None,
        cube: xr.DataArray | None = None,
        state: State | None = None,
    ) -> None:
        super().__init__(state, cube)
        if model is not None:
            self.state.model = model
        self.view = AttentionView(self.state.look_at)
        begun = partial(self.message.busy, "The model is being asked ...")
        self._asker = Asker(self._answered, self._failed, begun)
        self._offering = self._answering = False
        self._build()
        self.follow(self.state, self._new_cube, "cube")
        self.follow(self.state, self._new_model, "model")
        self.follow(self.state, self._moved, "pixels", "date")
        self.observe(self._asked, names=["mode", "stage", "block", "head", "window", "active"])
        self.observe(self._draw, names=["shown", "answer"])
        self._new_cube()

    # What it is made of

    def _build(self) -> None:
        def dropdown(text: str, options: Any = ()) -> ipywidgets.Dropdown:
            made = control(ipywidgets.Dropdown, text, "460px", "80px", options=options)
            made.layout.max_width = "98%"
            return made

        tips = ["Attention of a pixel", "Search by similarity"]
        self.modes = ipywidgets.ToggleButtons(options=[ATTENTION, ALIKE], tooltips=tips)
        self.modes.style.button_width = "auto"
        self.stages, self.blocks, self.heads = map(dropdown, ("Stage", "Block", "Head"))
        lengths = [("12 dates, as for a map", 12), ("24 dates", 24), ("48 dates", 48)]
        self.windows, self.layers = dropdown("Model sees", lengths), dropdown("Layer", LAYERS)
        self.dates = control(ipywidgets.SelectionSlider, "Query date", "98%", "80px", options=["-"])
        self.dates.continuous_update = False
        self._links = [
            traitlets.link((self, "mode"), (self.modes, "value")),
            traitlets.link((self, "window"), (self.windows, "value")),
        ]
        for name in ("stage", "block", "head"):
            getattr(self, f"{name}s").observe(self._chosen(name), names="value")
        self.dates.observe(self._date_chosen, names="index")
        self.chart.observe(self._bar_chosen, names="selected")
        self.layers.observe(self._layer_chosen, names="value")
        self._choices = ipywidgets.VBox([self.stages, self.blocks, self.heads, self.windows])
        side = ipywidgets.VBox(
            [self._choices, self.view.note, self.chart],
            layout={"flex": "1 1 380px", "min_width": "300px"},
        )
        flow = {"flex_flow": "row wrap", "grid_gap": "12px", "align_items": "flex-start"}
        body = ipywidgets.HBox([self.view.place, side], layout=flow)
        self.children = [style_sheet(), self.modes, self.dates, self.message, body]

    @property
    def chart(self) -> Any:
        """The chart of the series and the weights."""
        return self.view.chart

    def _chosen(self, name: str) -> Callable[[Any], None]:
        def take(change: Any) -> None:
            if change["new"] is not None and not self._offering:
                setattr(self, name, change["new"])

        return take

    # What the state says

    def _new_cube(self, _: Any = None) -> None:
        self._asker.forget()
        self.answer = None
        cube = self.state.cube
        self.view.start(cube)
        if cube is not None:
            # New options put a slider on the first of them: that is no choice of a date.
            self.dates.unobserve(self._date_chosen, names="index")
            self.dates.options = [iso(cube, i) for i in range(cube.sizes["time"])]
            self.dates.index = self.state.date
            self.dates.observe(self._date_chosen, names="index")
            self.shown = self.state.date
            self._draw()
        self._asked()

    def _new_model(self, _: Any = None) -> None:
        self._asker.forget()
        self.answer = None
        self._asked()

    def _moved(self, change: Any) -> None:
        if change["name"] == "date" and self.state.cube is not None:
            self.dates.index = self.state.date
            self.shown = self.state.date
        self._draw()
        self._asked()

    def _date_chosen(self, change: Any) -> None:
        if change["new"] is not None and self.state.cube is not None:
            self.state.date = change["new"]

    def _bar_chosen(self, change: Any) -> None:
        date = self.view.date_of_bar(change["new"])
        if date is not None and date != self.shown:
            self.shown = date
            if not self._answering and self.answer is not None and "weight" in self.answer:
                code = f"frame = weights.weight.isel(time={change['new']})"
                self.state.echo(code, "inspector.frame")

    def _layer_chosen(self, change: Any) -> None:
        self._draw()
        asked = self._question() if self.answer is not None else None
        if isinstance(asked, Likeness):
            code = asked.layer_code(change["new"], self.state.cube)
            self.state.echo(code, "inspector.layer")

    # Asking

    def _asked(self, _: Any = None) -> None:
        """Ask the question again: something of it has changed."""
        if self._closed or self._offering:
            return
        self._offer()
        question = self._question()
        if question is not None:
            self._asker.ask(question, self.state.model, self.state.cube)

    def _question(self) -> Question | Likeness | None:
        state = self.state
        if state.cube is None or state.model is None:
            missing = "cube: set state.cube" if state.cube is None else "model: train or load one"
            self.message.info(f"There is no {missing}.")
            return None
        if isinstance(state.model, PixelModel):
            self.message.info(SINGLE)
            return None
        if not self.active:
            return None
        pixel = self._pixel()
        if pixel is None:
            self.message.info("Click a pixel on the map.")
            return None
        if self.mode == ALIKE:
            return Likeness(*pixel, state.date, self.window)
        return Question(*pixel, state.date, self.stage, self.block, self.head, self.window)

    def _pixel(self) -> tuple[int, int] | None:
        if not self.state.pixels:
            return None
        row, col = self.state.pixels[-1]
        return int(row), int(col)

    def _offer(self) -> None:
        """Show the choices that there are."""
        asks = [self.stages, self.blocks, self.heads] if self.mode == ATTENTION else [self.layers]
        self._choices.children = [*asks, self.windows]
        self.chart.layout.display = None if self.mode == ATTENTION else "none"
        single = isinstance(self.state.model, PixelModel)
        self._choices.layout.display = "none" if single else None
        if self.state.model is None or single:
            return
        config = self.state.model.config.encoder
        stages = [
            (f"{i + 1}: {KINDS[kind]}, tokens of {stride} px", i + 1)
            for i, (kind, stride) in enumerate(zip(config.attention, config.strides, strict=True))
        ]
        self._offering = True
        try:
            self.stage = _choose(self.stages, stages, self.stage, 1)
            depth, heads = config.depths[self.stage - 1], config.heads[self.stage - 1]
            block = depth - 1 if self.block == -1 else self.block
            self.block = _choose(self.blocks, _blocks(depth), block, depth - 1)
            several = [("mean of all", "mean"), *((str(i), i) for i in range(heads))]
            self.head = _choose(self.heads, several, self.head, "mean")
        finally:
            self._offering = False
        self.heads.disabled = self.block == ROLLOUT

    @checked
    def wait(self, timeout: NotNegative | None = 60) -> None:
        """Wait for the answer, in a script or a test; in a notebook it comes by itself, once the cell has ended."""
        self._asker.wait(timeout)

    def _answered(self, question: Question | Likeness, answer: xr.Dataset) -> None:
        self.message.clear()
        self.state.echo(question.code(self.state.cube), "inspector.question")
        # The chart moves the date that is shown: it was not chosen, and nothing is drawn before the answer is there.
        self._answering = True
        try:
            with self.hold_trait_notifications():
                if isinstance(question, Question):
                    self.view.show_series(question, answer)
                    self.shown = question.date
                self.answer = answer
        finally:
            self._answering = False

    def _failed(self, error: Exception) -> None:
        self.message.error(error)
        self.answer = None

    def _draw(self, _: Any = None) -> None:
        if not self._closed:
            self.view.draw(self.answer, self.shown, self._pixel(), self.layers.value)

    # What is left

    def picture(self) -> bytes:
        """Return a PNG of the map, beside the weights over dates where there are any."""
        import io

        from matplotlib.figure import Figure
        from matplotlib.image import imread

        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
        for axes in (left, right):
            axes.set_axis_off()
        if self.view.map is not None:
            left.imshow(imread(io.BytesIO(self.view.map.picture())))
        if self.mode == ATTENTION and self.answer is not None:
            right.set_axis_on()
            self.chart.plot(right)
            right.tick_params(axis="x", labelrotation=30)
        return figure_png(figure)

    def _stop(self) -> None:
        for link in self._links:
            link.unlink()
        self._asker.close()
        self.view.close()


def _blocks(depth: int) -> list[tuple[str, Any]]:
    numbered = [(f"{i}" + (" (the last)" if i == depth - 1 else ""), i) for i in range(depth)]
    return [*numbered, ("mean of all", "mean"), ("rollout from here to stage 1", ROLLOUT)]


def _choose(
    choice: ipywidgets.Dropdown, options: list[tuple[str, Any]], wanted: Any, otherwise: Any
) -> Any:
    """Offer options and choose what is wanted, if it is among them; return what was chosen."""
    value = wanted if wanted in [value for _, value in options] else otherwise
    if list(choice.options) != options:
        choice.options = options
    choice.value = value
    return value
