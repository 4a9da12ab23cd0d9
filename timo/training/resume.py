"""A run that was killed goes on where its last epoch ended, and ends as the whole run would have."""

import hashlib
import pickle
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import xarray as xr
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from torch import Tensor

from timo.atomic import replacing
from timo.errors import TimoError


class ResumeCheckpoint(Checkpoint):
    """After each epoch, and every so many steps, all that the run needs to go on, in one file that is always whole.

    Parameters
    ----------
    path : Path
        The file.
    plan : dict of str to str
        What the run is made of: a run with another plan is another run.
    every : int, optional
        Batches between two checkpoints within an epoch, for a module that can go on there.
    """

    run = "finetune"

    def __init__(self, path: Path, plan: dict[str, str], every: int | None = None) -> None:
        self.path, self.plan, self.every, self.stopped = path, plan, every, False

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        _module: lightning.LightningModule,
        _outputs: Any,
        _batch: Any,
        batch_idx: int,
    ) -> None:
        """The last batch of an epoch is left to the epoch's end, which comes after the validation."""
        done = batch_idx + 1
        if self.every and done % self.every == 0 and done < trainer.num_training_batches:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Lightning calls this after all that is no checkpoint: history and early stopping have had their say."""
        self.stopped = trainer.should_stop
        self.save(trainer)

    def save(self, trainer: lightning.Trainer) -> None:
        """Write the file. All processes take part, and one writes."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path)
            return
        with replacing(self.path) as partial:
            trainer.save_checkpoint(partial)

    def on_fit_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """A run that had stopped early before it was killed does not train on."""
        trainer.should_stop = self.stopped

    def state_dict(self) -> dict[str, Any]:
        """What `find_checkpoint` and a resumed run need."""
        return {"plan": self.plan, "stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with an earlier run."""
        self.stopped = state["stopped"]


def find_checkpoint(
    path: Path, plan: dict[str, str], kind: type[ResumeCheckpoint] = ResumeCheckpoint
) -> Path | None:
    """Return the checkpoint at `path` if there is one, after a look at what it is.

    `kind` is the class of the callback that wrote it: a pretraining is not gone on with by a fine-tuning.

    Raises
    ------
    TimoError
        If the file is damaged, or of a run with another plan.
    """
    if not path.exists():
        return None
    mend = f"remove it, or give resume=False to train anew ({path})"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        saved = checkpoint["callbacks"][kind.__qualname__]["plan"]
    except (OSError, RuntimeError, EOFError, LookupError, TypeError, pickle.PickleError) as error:
        raise TimoError(
            f"the resume checkpoint is damaged or not one of timo.{kind.run}: {mend}"
        ) from error
    if differing := sorted(name for name in plan if saved.get(name) != plan[name]):
        raise TimoError(
            f"the resume checkpoint is of another run, {', '.join(differing)} differ: give the same, or {mend}"
        )
    return path


def make_plan(
    cube: xr.DataArray, labels: xr.DataArray, split: xr.DataArray | None, choices: dict[str, Any]
) -> dict[str, str]:
    """What a run is made of, by name, in words that can be compared."""
    plan = {name: repr(value) for name, value in choices.items()}
    plan["cube"] = digest(cube, *(cube[dim] for dim in cube.dims))
    plan["labels"] = digest(labels)
    plan["split"] = "" if split is None else digest(split)
    return plan


def digest(*arrays: xr.DataArray) -> str:
    """A short name for what the arrays hold."""
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(f"{array.dims}{array.shape}{array.dtype}".encode())
        # Band names are of any string type; all else is numbers, hashed where they lie.
        values = np.ascontiguousarray(array.values).reshape(-1)
        numbers = values.dtype.kind in "biufM"
        hashed.update(values.view("uint8").data if numbers else repr(values.tolist()).encode())
    return hashed.hexdigest()[:16]


class Averaging(WeightAveraging):
    """Exponential moving average of the weights, kept at the end.

    Parameters
    ----------
    decay : float
        Share of the average that is kept at each step.
    """

    def __init__(self, decay: float) -> None:
        # Not Lightning's own moving average: its function cannot be sent to another process.
        super().__init__(avg_fn=partial(_average, decay))
        # Whether the averaged weights are in the model, as they are during a validation.
        self.swapped = False

    def on_validation_epoch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Validate the averaged weights."""
        super().on_validation_epoch_start(trainer, module)
        self.swapped = True

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Go on with the others."""
        super().on_validation_epoch_end(trainer, module)
        self.swapped = False

    def settle(self, module: lightning.LightningModule) -> None:
        """Leave the averaged weights in the model of a run that was stopped."""
        if self._average_model is not None and not self.swapped:
            self._copy_average_to_current(module)
        self.swapped = True

    def on_fit_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """A run that was killed after its last epoch trains no more when it is resumed: `on_train_end` is left out."""
        self.on_train_end(trainer, module)


def settle(module: lightning.LightningModule, callbacks: Iterable[Callback]) -> None:
    """Leave in the model of a run that was stopped what a run ends with: the averaged weights, if there are any."""
    for callback in callbacks:
        if isinstance(callback, Averaging):
            callback.settle(module)


def _average(decay: float, average: Tensor, current: Tensor, _: int | Tensor) -> Tensor:
    # In this form what does not move is not rounded either.
    return average + (1 - decay) * (current - average)
