"""What the attention inspector asks of a model: the questions, who answers them, and what is remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from timo import inspection
from timo.models.tasks import TiMo

from ..base.computing import Task

ROLLOUT = "rollout"
# What the map can show of places like one.
SIMILARITY, FEATURES, PHOTOGRAPH = LAYERS = ("similarity", "features (PCA)", "photograph")
_KEPT = 64


@dataclass(frozen=True)
class Question:
    """One query of a model: a pixel and a date of a cube, and where in the model.

    Attributes
    ----------
    row, col, date : int
        Positions in the cube.
    stage : int
        1 to 4.
    block : int or str
        A number, "mean" or "rollout".
    head : int or str
        A number or "mean".
    window : int
        How many dates the model sees.
    """

    row: int
    col: int
    date: int
    stage: int
    block: int | str
    head: int | str
    window: int

    def part(self, cube: xr.DataArray) -> xr.DataArray:
        """What the model sees of the cube."""
        time = cube.time[self.date]
        return inspection.neighbourhood(
            cube, row=self.row, col=self.col, time=time, window=self.window
        )

    def ask(self, model: TiMo, cube: xr.DataArray) -> xr.Dataset:
        """Weights, from `timo.inspection`."""
        part, time = self.part(cube).compute(), cube.time[self.date]
        x, y = (cube[dim].values[i].item() for dim, i in (("x", self.col), ("y", self.row)))
        if self.block == ROLLOUT:
            return inspection.rollout_at(model, part, x, y, time, self.stage)
        return inspection.attention_at(
            model,
            part,
            x,
            y,
            time,
            self.stage,
            self.block,
            self.head,
        )

    def code(self, cube: xr.DataArray) -> str:
        """The Python that asks the same."""
        x, y = cube.x.values[self.col].item(), cube.y.values[self.row].item()
        query = f'{x!r}, {y!r}, "{iso(cube, self.date)}"'
        seen = f"timo.inspection.neighbourhood(cube, {query}, window={self.window})"
        if self.block == ROLLOUT:
            return (
                f"weights = timo.inspection.rollout_at(model, {seen}, {query}, stage={self.stage})"
            )
        where = f"stage={self.stage}, block={self.block!r}, head={self.head!r}"
        return f"weights = timo.inspection.attention_at(model, {seen}, {query}, {where})"


@dataclass(frozen=True)
class Likeness:
    """Places like a pixel, by what the encoder makes of the dates around one."""

    row: int
    col: int
    date: int
    window: int
    k: int = 8

    def dates(self, cube: xr.DataArray) -> np.ndarray:
        """Positions of the dates that the model sees."""
        first = int(
            np.clip(self.date - self.window // 2, 0, max(cube.sizes["time"] - self.window, 0))
        )
        return np.arange(first, min(first + self.window, cube.sizes["time"]))

    def embed(self, model: TiMo, cube: xr.DataArray) -> xr.DataArray:
        """Features of every pixel."""
        return inspection.embed(model, cube.isel(time=self.dates(cube)), window=self.window)

    def code(self, cube: xr.DataArray) -> str:
        """The Python that does the same."""
        place = f"row={self.row}, col={self.col}, k={self.k}"
        return f"alike = timo.inspection.similar({self._embed_code(cube)}, {place})"

    def layer_code(self, layer: str, cube: xr.DataArray) -> str:
        """The Python that gives one of the layers of the map."""
        if layer == SIMILARITY:
            return "layer = alike.similarity"
        if layer == FEATURES:
            return f"layer = timo.inspection.pca_picture({self._embed_code(cube)})"
        return f"layer = cube.isel(time=[{self.date}])"

    def _embed_code(self, cube: xr.DataArray) -> str:
        dates = self.dates(cube)
        seen = f"cube.isel(time=slice({dates[0]}, {dates[-1] + 1}))"
        return f"timo.inspection.embed(model, {seen}, window={self.window})"


class Memory:
    """The latest answers, by question."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable) -> Any:
        """The answer, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: Hashable, answer: Any) -> None:
        """Remember an answer; the oldest is forgotten."""
        self._kept[key] = answer
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


@dataclass(frozen=True)
class _Run:
    """A thread at work on a question, and its answer once it is there."""

    wanted: tuple[Any, ...]
    task: Task
    answers: list[Any]


class Asker:
    """Answers one question at a time in a thread; of those asked meanwhile only the last counts.

    Parameters
    ----------
    answered : callable
        Called with a question and its answer, if it still is the one that is asked.
    failed : callable
        Called with the exception instead.
    begun : callable
        Called when a question takes a thread.
    """

    def __init__(
        self,
        answered: Callable[[Any, Any], None],
        failed: Callable[[Exception], None],
        begun: Callable[[], None],
    ) -> None:
        self._answered, self._failed, self._begun = answered, failed, begun
        self._memory = Memory()
        self._run: _Run | None = None
        self._wanted: tuple[Any, ...] | None = None
        self._closed = False

    def ask(self, question: Question | Likeness, model: TiMo, cube: xr.DataArray) -> None:
        """Answer from memory, or start a thread; what is being computed for another question is finished first."""
        self._wanted = (version(model), question, model, cube)
        self._go_on()

    def forget(self) -> None:
        """Forget the question and all answers: they were of another cube or model."""
        self._wanted = None
        self._memory.clear()

    def close(self) -> None:
        """Answer no more."""
        self._closed = True
        self.forget()
        if self._run is not None:
            self._run.task.cancel()

    def wait(self, timeout: float | None = 60) -> None:
        """Wait until the question that is asked is answered, and take the answer.

        In a notebook it would be delivered between two cells, too late for the output of this one.
        """
        while (run := self._run) is not None:
            run.task.wait(timeout)
            if run.answers:
                self._came(run, run.answers[0])
            if run is self._run:
                return

    def _go_on(self) -> None:
        if self._closed or self._wanted is None:
            return
        known = self._memory.get(self._wanted[:2])
        if known is not None:
            self._answered(self._wanted[1], known)
        elif self._run is None:
            self._begun()
            self._start(self._wanted)

    def _start(self, wanted: Any) -> None:
        answers: list[Any] = []

        def work(_: Task) -> Any:
            answers.append(self._compute(*wanted))
            return answers[0]

        task = Task(
            work, lambda answer: self._came(run, answer), lambda error: self._broke(run, error)
        )
        run = _Run(wanted, task, answers)
        # Known before it begins: without an event loop the answer may come at once.
        self._run = run
        task.start()

    def _compute(
        self, age: Any, question: Question | Likeness, model: TiMo, cube: xr.DataArray
    ) -> xr.Dataset:
        if isinstance(question, Question):
            return question.ask(model, cube)
        # Features are the same for all pixels.
        key = (age, tuple(question.dates(cube)))
        embedding = self._memory.get(key)
        if embedding is None:
            embedding = question.embed(model, cube)
            self._memory.keep(key, embedding)
        alike = inspection.similar(embedding, row=question.row, col=question.col, k=question.k)
        return alike.assign(picture=inspection.pca_picture(embedding))

    def _came(self, run: _Run, answer: Any) -> None:
        if run is not self._run:
            return
        self._run = None
        if self._closed:
            return
        if self._wanted is not None and run.wanted[3] is self._wanted[3]:
            self._memory.keep(run.wanted[:2], answer)
        self._go_on()

    def _broke(self, run: _Run, error: Exception) -> None:
        if run is not self._run:
            return
        self._run = None
        if run.wanted is self._wanted and not self._closed:
            self._failed(error)
        else:
            self._go_on()


def version(model: TiMo) -> tuple[int, int]:
    """What changes when a model is another, or has been trained since: torch counts changes in place."""
    return id(model), sum(parameter._version for parameter in model.parameters())


def iso(cube: xr.DataArray, date: int) -> str:
    """A date of a cube as text, which finds the same date again."""
    stamp = pd.Timestamp(cube.time.values[date])
    return f"{stamp:%Y-%m-%d}" if stamp == stamp.normalize() else stamp.isoformat()
