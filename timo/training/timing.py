"""How fast a training is on this machine: measured before it begins, and held to a budget while it runs."""

from __future__ import annotations

import copy
import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from timo.errors import warn
from timo.training import run as harness
from timo.training.batches import Batches, Numbered, batches_of, make_loader
from timo.training.inputs import TRAIN, Given
from timo.training.length import BATCH, EPOCHS, GRACE, SINGLE_BATCH, Length, Speed, usual_chips
from timo.training.resume import is_first, read_plan
from timo.training.run import Run
from timo.training.tiles import Tiles, count_tiles
from timo.training.windows import Windows

logger = logging.getLogger(__name__)
# Steps that are timed, after a first one that takes longer than the others, and batches of validation; no more steps
# once these seconds have passed.
_STEPS, _BATCHES, _LONG_S = 8, 2, 3.0


def asked_length(
    given: Given,
    size: int | None,
    epochs: int | None,
    chips_per_epoch: int | None,
    batch_size: int | None,
) -> Length:
    """Return the length of a training as it was asked for; what was not follows from the data."""
    single = given.places.single
    if chips_per_epoch is None:
        chips_per_epoch = usual_chips(count_tiles(given, TRAIN, size), single=single)
    batch = batch_size or (SINGLE_BATCH if single else BATCH)
    return Length(epochs or EPOCHS, chips_per_epoch, batch)


def length_left(path: Path, length: Length) -> Length:
    """Return the length of the run that left a checkpoint: a budget measured again would give another one."""
    said = read_plan(path, "finetune")
    return replace(length, epochs=int(said["epochs"]), chips=int(said["chips_per_epoch"]))


def plan(
    module: lightning.LightningModule,
    parts: tuple[Windows, Tiles | None],
    length: Length,
    run: Run,
    *,
    workers: int,
    budget_s: float | None = None,
    **options: Any,
) -> tuple[Length, list[Deadline]] | None:
    """Time a training, and fit its length into a budget; None if the run was stopped meanwhile.

    Parameters
    ----------
    module : LightningModule
        What is trained. It, its model and the random state stay as they are.
    parts : (Windows, Tiles or None)
        What it is trained and validated on.
    length : Length
        As it was asked for.
    run : Run
    workers : int
        Processes that will read ahead.
    budget_s : float, optional
        Seconds for the training, and for this.
    **options
        Of `lightning.Trainer`.

    Returns
    -------
    length : Length
        With the seconds it is expected to take.
    deadlines : list of Deadline
        Of a budget one, which lets the training overrun it by a quarter.
    """
    began, tiles = time.monotonic(), 0 if parts[1] is None else len(parts[1])
    long_s = _LONG_S if budget_s is None else min(_LONG_S, budget_s / 20)
    speed = measure(module, parts, length.batch, run, Clock(long_s, workers), **options)
    if speed is None:
        return None
    if budget_s is None:
        return speed.timed(length, tiles), []
    spent = time.monotonic() - began
    # Of a budget that is used up already, the shortest training.
    left = max(budget_s - spent, 0.0)
    length = speed.within(left, length, tiles)
    expected = speed.seconds(length, tiles)
    if expected > GRACE * left:
        warn(
            f"budget={budget_s:g} s is too short for one step, its validation and the timing of both, which take about "
            f"{spent + expected:.1f} s: the training is that one step. Give a larger budget."
        )
    validation = min(tiles, length.chips) * speed.tile
    return length, [Deadline(GRACE * budget_s - spent - validation, length)]


def measure(
    module: lightning.LightningModule,
    parts: tuple[Windows, Tiles | None],
    size: int,
    run: Run,
    clock: Clock,
    **options: Any,
) -> Speed | None:
    """Time a few steps, and validated batches of some size, of a copy of a module; None if the run was stopped.

    They are those of the training itself, by the same harness with the same `options`.
    """
    train, validation = parts
    held = None
    if validation is not None:
        every = list(Batches(lambda: 0, len(validation), size))
        some = np.linspace(0, len(every) - 1, min(len(every), _BATCHES)).astype(int)
        held = make_loader(Numbered(validation), [every[number] for number in some])
    stopped = harness.fit(
        Run(1, run.averaging, False, False, (), run.stop, None),
        copy.deepcopy(module),
        clock,
        # In this process: readers ahead would have the first batches ready, and say nothing of those to come.
        loaders=(make_loader(Numbered(train), batches_of(train, size, lambda: 0)), held),
        limit_train_batches=_STEPS + 1,
        **options,
    )
    return None if stopped else clock.speed()


class Clock(Callback):
    """Times the steps of a run, and the tiles it validates; ends it after `long_s` seconds, and two steps.

    The speed is that of a training for which so many `workers` read ahead.
    """

    def __init__(self, long_s: float, workers: int = 0) -> None:
        self.long_s, self.workers = long_s, workers
        # Seconds that each batch was waited for and worked at, and its chips.
        self.steps: list[tuple[float, float, int]] = []
        self.tiles: list[tuple[float, float, int]] = []
        self.began = self.mark = self.wait = 0.0

    def speed(self) -> Speed:
        """Return the speed; the first step counts where it is the only one."""
        step, _ = _mean(self.steps[1:] or self.steps, self.workers)
        seconds, chips = _mean(self.tiles, self.workers) if self.tiles else (0.0, 1.0)
        return Speed(step, seconds / chips)

    def on_train_start(self, *_: Any) -> None:
        """Begin."""
        self.began = self.mark = _now()

    def on_train_batch_start(self, *_: Any) -> None:
        """Note how long the batch was waited for."""
        self._waited()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        _module: lightning.LightningModule,
        _outputs: Any,
        batch: Any,
        _index: int,
    ) -> None:
        """Note how long the step took."""
        self.steps.append(self._noted(batch))
        if len(self.steps) > 1 and self.mark - self.began > self.long_s:
            trainer.should_stop = True

    def on_validation_start(self, *_: Any) -> None:
        """Begin with the first batch."""
        self.mark = _now()

    def on_validation_batch_start(self, *_: Any) -> None:
        """Note how long the batch was waited for."""
        self._waited()

    def on_validation_batch_end(
        self,
        _trainer: lightning.Trainer,
        _module: lightning.LightningModule,
        _outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Note how long its validation took."""
        self.tiles.append(self._noted(batch))

    def _waited(self) -> None:
        now = _now()
        self.wait, self.mark = now - self.mark, now

    def _noted(self, batch: Any) -> tuple[float, float, int]:
        now = _now()
        work, self.mark = now - self.mark, now
        return self.wait, work, len(batch["x"])


class Deadline(Callback):
    """Ends a training once its time is up, as early stopping does: with a validation, and its best weights.

    Of a resumed run the time is that of the epochs to come.
    """

    def __init__(self, seconds: float, length: Length) -> None:
        self.seconds, self.length, self.until = seconds, length, math.inf
        # The step after which the training ended too early.
        self.last: int | None = None

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Begin."""
        left = 1 - trainer.current_epoch / self.length.epochs
        self.until = time.monotonic() + left * self.seconds

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Look whether the time is up, unless this was the last step."""
        if time.monotonic() > self.until and trainer.global_step < self.length.steps:
            trainer.should_stop, self.last = True, trainer.global_step

    def warn(self) -> None:
        """Warn if the training ended before it was as long as planned."""
        if self.last is not None:
            warn(
                f"The budget was used up after {self.last} of {self.length.steps} steps: this machine, or reading the "
                "chips, got slower. The model can be used, but its learning rate had not come down yet. Train again "
                "with a larger budget, or with fewer other programs running."
            )


def announce(length: Length, *, shown: bool) -> None:
    """Say how long a training is: to the log, and where it is to be `shown` in the terminal or notebook."""
    logger.info("%s", length)
    if shown and is_first():
        # Beside the bar, which stands in the same place.
        tqdm.write(str(length), file=sys.stderr)


def _now() -> float:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.monotonic()


def _mean(noted: Sequence[tuple[float, float, int]], workers: int) -> tuple[float, float]:
    """Return the seconds and the chips of a batch; readers ahead share out the waiting and work beside the rest."""
    wait, work, chips = np.mean(noted, axis=0).tolist()
    return max(work, wait / workers) if workers else wait + work, chips
