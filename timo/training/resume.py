"""Checkpoints of a training: one that was killed or stopped resumes, and ends as the whole run would have."""

import pickle
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from timo.atomic import replacing
from timo.cancel import CancelledError
from timo.errors import TimoError

Kind = Literal["finetune", "pretrain"]
# By which a checkpoint says what wrote it.
_KEYS = {"finetune": "ResumeCheckpoint", "pretrain": "PretrainCheckpoint"}


class ResumeCheckpoint(Checkpoint):
    """After each epoch, write all that the run needs to resume, in one file that is always whole.

    A checkpoint of another kind of `run`, or with another `plan`, is refused. Each `every` batches it also saves
    within an epoch, for a module that can resume there: it counts its `steps`, and has as many `batches` in an epoch.
    Such a run also saves where it is stopped, and after Ctrl-C at the end of the step; a second one ends it at once.
    """

    def __init__(
        self,
        path: Path,
        run: Kind,
        plan: dict[str, str],
        every: int | None = None,
    ) -> None:
        self.path, self.run, self.plan, self.every = path, run, plan, every
        # Early stopping had ended the run; Ctrl-C was pressed; what answered to it before.
        self.stopped, self.interrupted = False, False
        self.answer: Any = None

    @property
    def state_key(self) -> str:
        """Name of this callback's part of the file."""
        return _KEYS[self.run]

    def find(self, resume: bool) -> Path | None:
        """Return the checkpoint to resume from, if there is one; without `resume`, remove what an earlier run left."""
        if not resume and is_first():
            self.path.unlink(missing_ok=True)
        if not resume or not self.path.exists():
            return None
        saved = read_plan(self.path, self.run)
        if differing := sorted(n for n, value in self.plan.items() if saved.get(n) != value):
            raise TimoError(
                f"The resume checkpoint is of another run, {', '.join(differing)} differ: give the same, or "
                f"{_remedy(self.path)}."
            )
        return self.path

    def save(self, trainer: lightning.Trainer) -> None:
        """Write the file. All processes take part, and one writes."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.path)
            return
        with replacing(self.path) as partial:
            trainer.save_checkpoint(partial)

    def on_fit_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Begin; a run that had stopped early before it was killed does not train on."""
        trainer.should_stop = self.stopped
        # Several processes would not stop at the same step, and signals belong to the main thread.
        main = threading.current_thread() is threading.main_thread()
        if self.every and trainer.world_size == 1 and main:
            self.answer = signal.signal(signal.SIGINT, self._note)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        _module: lightning.LightningModule,
        _outputs: Any,
        _batch: Any,
        batch_idx: int,
    ) -> None:
        """Save within an epoch; its last batch is left to its end, which comes after the validation."""
        done = batch_idx + 1
        if not self.every or done >= trainer.num_training_batches:
            return
        if self.interrupted or done % self.every == 0:
            self.save(trainer)
        if self.interrupted:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Save: Lightning calls this after all that is no checkpoint, history and early stopping included."""
        self.stopped = trainer.should_stop
        self.save(trainer)
        if self.interrupted:
            raise KeyboardInterrupt

    def on_exception(self, trainer: lightning.Trainer, module: Any, error: BaseException) -> None:
        """Keep the steps since the last checkpoint, of a run that was stopped within an epoch."""
        self.teardown()
        within = self.every and trainer.training and module.steps % module.batches
        if isinstance(error, CancelledError) and within:
            self.save(trainer)

    def teardown(self, *_: Any, **__: Any) -> None:
        """Leave the answer to Ctrl-C as it was, however the run ended."""
        if self.answer is not None:
            signal.signal(signal.SIGINT, self.answer)
            self.answer = None

    def _note(self, *_: Any) -> None:
        self.interrupted = True
        self.teardown()

    def state_dict(self) -> dict[str, Any]:
        """Return what `find` and a resumed run need."""
        return {"plan": self.plan, "stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of an earlier run."""
        self.stopped = state["stopped"]


def read_plan(path: Path, run: Kind) -> dict[str, str]:
    """Return the plan of the run that left a checkpoint, each choice as its `repr`.

    Raises
    ------
    TimoError
        If it is damaged or one of another kind of run.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return dict(checkpoint["callbacks"][_KEYS[run]]["plan"])
    except (
        OSError,
        RuntimeError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        pickle.PickleError,
    ) as error:
        raise TimoError(
            f"The resume checkpoint is damaged or not one of timo.{run}: {_remedy(path)}."
        ) from error


def _remedy(path: Path) -> str:
    return f"remove it, or give resume=False to train again from the start ({path})"


def is_first() -> bool:
    """Return whether this is the first of the processes that torchrun, Slurm or Lightning started, if it is known."""
    return getattr(rank_zero_only, "rank", 0) == 0


class Averaging(WeightAveraging):
    """Exponential moving average of the weights, kept at the end; `decay` is the share that a step keeps."""

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
        """Leave the averaged weights in the model of a run that was stopped, as a whole run does."""
        if self._average_model is not None and not self.swapped:
            self._copy_average_to_current(module)
        self.swapped = True

    def on_fit_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Keep the average; a run killed after its last epoch trains no more, and leaves `on_train_end` out."""
        self.on_train_end(trainer, module)


def _average(decay: float, average: Tensor, current: Tensor, _: int | Tensor) -> Tensor:
    # In this form what does not move is not rounded either.
    return average + (1 - decay) * (current - average)
