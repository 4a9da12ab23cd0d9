"""How long a training is: from its data, or from a budget of time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta

import pandas as pd

from timo.checks import described, is_number
from timo.compute import time_text
from timo.errors import TimoError

Budget = str | float | timedelta
EPOCHS = 20
# Chips of a batch, and fewest of an epoch; those of single pixels, of which a chip says little.
BATCH, CHIPS = 8, 320
SINGLE_BATCH, SINGLE_CHIPS = 32, 640
# How often a training draws each labelled tile, on average, and how many times the fewest chips it has at most.
DRAWS, LONGEST = 10, 10
# By how much a training may overrun its budget on a machine that got slower.
GRACE = 1.25
_YEAR_S = 366 * 86400.0


@dataclass(frozen=True)
class Length:
    """Length of a training: epochs, chips of an epoch and of a batch, and the seconds it takes; None: not measured."""

    epochs: int
    chips: int
    batch: int
    seconds: float | None = None

    @property
    def epoch_steps(self) -> int:
        """Steps of an epoch; its last batch may be smaller."""
        return -(-self.chips // self.batch)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.epoch_steps

    def __str__(self) -> str:
        epochs = f"{self.epochs:,} epoch{'s' if self.epochs > 1 else ''}"
        steps = f"{self.steps:,} step{'s' if self.steps > 1 else ''}"
        text = f"{steps} of {min(self.batch, self.chips)} chips, {epochs}"
        if self.seconds is None:
            return f"{text}."
        # Rounded, as the estimate is.
        whole = round(self.seconds) if self.seconds < 60 else 5 * round(self.seconds / 5)
        return f"{text}: about {time_text(max(whole, 1))} on this machine."


@dataclass(frozen=True)
class Speed:
    """Seconds that a step takes, and the validation of one tile."""

    step: float
    tile: float = 0.0

    def seconds(self, length: Length, tiles: int) -> float:
        """Return the seconds of a training that validates `tiles`, at most as many as an epoch has chips."""
        validation = min(tiles, length.chips) * self.tile
        return length.epochs * (length.epoch_steps * self.step + validation)

    def timed(self, length: Length, tiles: int) -> Length:
        """Return a length with its seconds."""
        return replace(length, seconds=self.seconds(length, tiles))

    def within(self, budget_s: float, length: Length, tiles: int) -> Length:
        """Return the length whose training and validation fill a budget.

        Of epochs as long as those of `length` as many as fit. The last one would rarely end with the budget, so that
        all are made a little shorter instead; where none fits, one shorter epoch, of a step at least.
        """
        epoch = replace(length, epochs=1)
        shortest = replace(epoch, chips=min(length.batch, length.chips))
        epochs = min(
            math.ceil(budget_s / self.seconds(epoch, tiles)),
            math.floor(budget_s / self.seconds(shortest, tiles)),
        )
        epochs = max(epochs, 1)
        share = budget_s / epochs
        # All tiles are validated, or one for each chip: the cheaper way counts.
        fitting = max(
            (share - tiles * self.tile) / self.step,
            share / (self.step + length.batch * self.tile),
        )
        chips = min(max(math.floor(fitting), 1) * length.batch, length.chips)
        return self.timed(Length(epochs, chips, length.batch), tiles)


def usual_chips(labelled: int, *, single: bool) -> int:
    """Return the chips of one of the 20 epochs of a training, from what is labelled.

    320, or 640 where places are single pixels: enough to learn from few labels. Of more, as many as draw each labelled
    tile of a chip's size (each labelled place, where these are no larger) ten times on average in 20 epochs; at most
    ten times the fewest, which show most of what there is to learn.

    Parameters
    ----------
    labelled : int
        Tiles, see `timo.training.tiles.count_tiles`.
    single : bool
        Whether places are single pixels.
    """
    fewest = SINGLE_CHIPS if single else CHIPS
    return min(max(-(-DRAWS * labelled // EPOCHS), fewest), LONGEST * fewest)


def budget_seconds(budget: Budget | None, epochs: int | None = None) -> float | None:
    """Return a budget in seconds: of text such as "1h 30min" as pandas reads it, of a number the number.

    Raises
    ------
    TimoError
        If it is no time, or not above 0 and at most a year, or epochs are given as well.
    """
    if budget is None:
        return None
    if epochs is not None:
        raise TimoError(
            f"Give budget={budget!r} or epochs={epochs}, not both: how many epochs fit is measured."
        )
    if isinstance(budget, str) and _is_bare(budget):
        # pandas would read nanoseconds.
        raise TimoError(
            f"budget={budget!r} has no unit: write budget={budget.strip()} for seconds, or budget="
            f'"{budget.strip()}min".'
        )
    try:
        seconds = float(budget) if is_number(budget) else pd.Timedelta(budget).total_seconds()  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        seconds = math.nan
    if not 0 < seconds <= _YEAR_S:
        raise TimoError(
            "budget must be a time above 0 and of at most a year; got "
            f'{described(budget)}. Give budget="5min", "90s" or "1h 30min", or a number of seconds.'
        )
    return seconds


def _is_bare(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
