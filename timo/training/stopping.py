"""To see how far a training is, step by step, and to end it before its end."""

import math
import time
from collections.abc import Callable
from typing import Any

import lightning
import xarray as xr
from lightning.pytorch.callbacks import Callback

from timo.cancel import CancelledError, Stop, is_stopped
from timo.compute import OnStep, StepReport
from timo.sources.fetching import fetch

Loss = Callable[[lightning.LightningModule, Any], float]


class Steps(Callback):
    """After each step: report it, and end the training if that is asked for.

    Parameters
    ----------
    stop : threading.Event or callable, optional
        Asked after each batch of training and validation.
    on_step : callable, optional
        Is given a `timo.compute.StepReport` after each step.
    loss : callable
        Loss of a step, from the module and what the step gave back.
    """

    def __init__(self, stop: Stop | None, on_step: OnStep | None, loss: Loss) -> None:
        self.stop, self.on_step, self.loss = stop, on_step, loss
        self.started, self.before = 0.0, 0

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """A resumed run is not at its first step."""
        self.started, self.before = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        _batch: Any,
        _index: int,
    ) -> None:
        """Report the step."""
        if self.on_step is not None:
            self.on_step(self._report(trainer, self.loss(module, outputs)))
        self._obey()

    def on_validation_batch_end(self, *_: Any) -> None:
        """A validation may be long."""
        self._obey()

    def _report(self, trainer: lightning.Trainer, loss: float) -> StepReport:
        step, steps = trainer.global_step, trainer.max_epochs * int(trainer.num_training_batches)  # type: ignore[operator]
        seconds = time.monotonic() - self.started
        eta = seconds / max(step - self.before, 1) * (steps - step)
        return StepReport(step, steps, trainer.current_epoch, loss, seconds, eta)

    def _obey(self) -> None:
        if is_stopped(self.stop):
            raise CancelledError


def step_loss(_: lightning.LightningModule, outputs: Any) -> float:
    """Loss that a step gave back."""
    return float(outputs["loss"]) if outputs else math.nan


def load(cube: xr.DataArray, stop: Stop | None) -> xr.DataArray:
    """Bring a cube into memory, until `stop` says so.

    Raises
    ------
    CancelledError
        If it did.
    """
    at_once = stop is None or cube.chunks is None
    return cube.compute() if at_once else fetch(cube, progress=False, cancel=stop)
