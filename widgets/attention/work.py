"""What the attention inspector asks of a model: the questions, who answers them, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from timo import inspection
from timo.models.tasks import TiMo

from ..base.background import Background

ROLLOUT = "rollout"
# What the map can show of places like one.
SIMILARITY, FEATURES, PHOTOGRAPH = LAYERS = ("similarity", "features (PCA)", "photograph")
_KEPT = 64


@dataclass(frozen=True)
class Question:
    """One query of a model: a pixel and a date of a cube, by position, and where in the model."""

    row: int
    col: int
    date: int
    # 1 to 4; of the block a number, "mean" or "rollout", of the head a number or "mean".
    stage: int
    block: int | str
    head: int | str
    # How many dates the model sees.
    window: int

    def part(self, cube: xr.DataArray) -> xr.DataArray:
        """Return the part of the cube that the model sees."""
        time = cube.time[self.date]
        return inspection.neighbourhood(
            cube, row=self.row, col=self.col, time=time, window=self.window
        )

    def ask(self, model: TiMo, cube: xr.DataArray) -> xr.Dataset:
        """Return the weights, from `timo.inspection`."""
        part, time = self.part(cube).compute(), cube.time[self.date]
        x, y = (cube[dim].values[i].item() for dim, i in (("x", self.col), ("y", self.row)))
        if self.block == ROLLOUT:
            return inspection.rollout_at(model, part, x, y, time, self.stage)
        return inspection.attention_at(model, part, x, y, time, self.stage, self.block, self.head)

    def code(self, cube: xr.DataArray) -> str:
        """Return the Python that asks the same."""
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
        """Return positions of the dates that the model sees."""
        dates = cube.sizes["time"]
        first = min(max(self.date - self.window // 2, 0), max(dates - self.window, 0))
        return np.arange(first, min(first + self.window, dates))

    def embed(self, model: TiMo, cube: xr.DataArray) -> xr.DataArray:
        """Return features of every pixel."""
        return inspection.embed(model, cube.isel(time=self.dates(cube)), window=self.window)

    def code(self, cube: xr.DataArray) -> str:
        """Return the Python that does the same."""
        place = f"row={self.row}, col={self.col}, k={self.k}"
        return f"alike = timo.inspection.similar({self._embed_code(cube)}, {place})"

    def layer_code(self, layer: str, cube: xr.DataArray) -> str:
        """Return the Python that gives one of the layers of the map."""
        if layer == SIMILARITY:
            return "layer = alike.similarity"
        if layer == FEATURES:
            return f"layer = timo.inspection.pca_picture({self._embed_code(cube)})"
        return f"layer = cube.isel(time=[{self.date}])"

    def _embed_code(self, cube: xr.DataArray) -> str:
        dates = self.dates(cube)
        seen = f"cube.isel(time=slice({dates[0]}, {dates[-1] + 1}))"
        return f"timo.inspection.embed(model, {seen}, window={self.window})"


class Asker:
    """Answers one question at a time in a thread; of those asked meanwhile only the last counts.

    `begun` is called when a question has to be computed, then `answered` with the question and its answer, or `failed`
    with the exception.
    """

    def __init__(
        self,
        answered: Callable[[Any, Any], None],
        failed: Callable[[Exception], None],
        begun: Callable[[], None],
    ) -> None:
        self._answered, self._begun = answered, begun
        self._background = Background(failed)
        self._kept: dict[Hashable, Any] = {}
        self.close, self.wait = self._background.close, self._background.wait

    def ask(self, question: Question | Likeness, model: TiMo, cube: xr.DataArray) -> None:
        """Answer from memory, or in the thread; what is being computed for another question is finished first."""
        kept, age = self._kept, version(model)
        key = (age, question)
        if key in kept:
            self._background.drop()
            self._answered(question, kept[key])
            return
        self._begun()
        self._background.run(
            lambda _: _remember(kept, key, lambda: _compute(kept, age, question, model, cube)),
            partial(self._answered, question),
        )

    def forget(self) -> None:
        """Forget the question and all answers: they were of another cube or model."""
        self._background.drop()
        # Another object: what is still being computed goes into the old one.
        self._kept = {}


def _compute(
    kept: dict[Hashable, Any], age: Any, question: Question | Likeness, model: TiMo, cube: Any
) -> xr.Dataset:
    if isinstance(question, Question):
        return question.ask(model, cube)
    # Features are the same for all pixels.
    key = (age, tuple(question.dates(cube)), question.window)
    embedding = _remember(kept, key, lambda: question.embed(model, cube))
    alike = inspection.similar(embedding, row=question.row, col=question.col, k=question.k)
    return alike.assign(picture=inspection.pca_picture(embedding))


def _remember(kept: dict[Hashable, Any], key: Hashable, compute: Callable[[], Any]) -> Any:
    """Compute an answer, unless it is known; of too many the oldest is forgotten."""
    if key not in kept:
        kept[key] = compute()
        while len(kept) > _KEPT:
            del kept[next(iter(kept))]
    return kept[key]


def version(model: TiMo) -> tuple[int, int]:
    """Return a mark of a model that changes when it is trained: torch counts changes in place."""
    return id(model), sum(parameter._version for parameter in model.parameters())


def iso(cube: xr.DataArray, date: int) -> str:
    """Return a date of a cube as text, which finds the same date again."""
    stamp = pd.Timestamp(cube.time.values[date])
    return f"{stamp:%Y-%m-%d}" if stamp == stamp.normalize() else stamp.isoformat()
