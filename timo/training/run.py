"""The harness of a training: one run of Lightning that can be watched, stopped and resumed, and leaves no trace."""

import logging
import math
import os
import random
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from tqdm import tqdm

from timo import compute
from timo.atomic import check_writable
from timo.cancel import CancelledError, Stop, interruptible, obey
from timo.checks import PathLike, Range
from timo.errors import TimoError
from timo.models.weights import CONFIG
from timo.training.resume import Averaging, ResumeCheckpoint, is_first

# Share of a moving average that a step keeps.
Decay = Annotated[float, Range(above=0, below=1)]
# Files of a folder, beside those that each kind of run has of its own.
RESUME, HISTORY, MODEL = "resume.ckpt", "history.csv", "model"
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@dataclass(frozen=True)
class Run:
    """Options of any training: its length, and who watches it; see `timo.finetune` for each."""

    epochs: int
    averaging: float | None
    resume: bool
    progress: bool
    callbacks: Sequence[Callback]
    stop: Stop | None
    on_step: compute.OnStep | None


def need_folder(folder: PathLike | None, **wanted: bool) -> None:
    """Raise a `TimoError` for what is wanted without a folder to write it to."""
    if folder is None and any(wanted.values()):
        names = " and ".join(name for name, is_wanted in wanted.items() if is_wanted)
        raise TimoError(f"{names} needs the folder of the run: give folder=...")


def open_folder(folder: PathLike | None, *outputs: str) -> Path | None:
    """Return the folder of a run, after a proof that the `outputs` can be written there at the end of the training."""
    if folder is None:
        return None
    home = check_writable(folder)
    for path in (home / name for name in outputs):
        strange = path.is_dir() and any(path.iterdir()) and not (path / CONFIG).exists()
        if path.is_file() or strange:
            raise TimoError(f"{path} is something other than a model: choose another folder")
    return home


def fit(
    run: Run,
    module: lightning.LightningModule,
    history: Callback,
    others: Sequence[Callback] = (),
    *,
    checkpoint: ResumeCheckpoint | None = None,
    loaders: tuple[Any, Any] = (None, None),
    ready: Callable[[lightning.Trainer], Any] | None = None,
    **options: Any,
) -> bool:
    """Train, and leave the model in evaluation mode on the CPU, the process as it was; return whether it was stopped.

    What learns is the `model` of the module; of a run that was stopped it has the weights of the last whole step,
    averaged as at the end. `others` are further callbacks of this kind of run, `loaders` the batches to train on and to
    validate on where the module has none of its own, `options` those of `lightning.Trainer`; `ready` is called with the
    trainer before it starts any process.
    """
    found = None if checkpoint is None else checkpoint.find(run.resume)
    model = module.get_submodule("model")
    average = [] if run.averaging is None else [Averaging(decay=run.averaging)]
    # After the average has taken in the step.
    watch = Watch(run)
    saving = [] if checkpoint is None else [checkpoint]
    model.train()
    try:
        with isolated(), interruptible(model, run.stop):
            every = [history, *average, watch, *others, *saving, *run.callbacks]
            trainer = _trainer(every, max_epochs=run.epochs, **options)
            if ready is not None:
                ready(trainer)
            trainer.fit(module, *loaders, ckpt_path=found, weights_only=True)
    except CancelledError:
        for one in average:
            one.settle(module)
        return True
    else:
        return False
    finally:
        watch.close()
        model.to("cpu").eval()


def _trainer(callbacks: list[Callback], **options: Any) -> lightning.Trainer:
    try:
        return lightning.Trainer(
            callbacks=callbacks,
            # Without one of ours or the user's, Lightning would write its own where the process stands.
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **options,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        # Of devices and strategies Lightning knows more than we do.
        raise TimoError(
            "accelerator, devices, num_nodes or strategy are not for this machine, or the callbacks not for one "
            f"trainer: {error}"
        ) from error


class History(Callback):
    """One row an epoch, in memory."""

    # What to do when the loss is no number.
    remedy = ""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.started = time.monotonic()

    def add(self, row: dict[str, float]) -> None:
        """Add the row of an epoch, with the seconds since it began; refuse one whose loss is no number."""
        losses = [row[name] for name in ("loss", "validation_loss") if name in row]
        if not all(map(math.isfinite, losses)):
            raise TimoError(
                f"The training diverged: the loss of epoch {row['epoch']:.0f} is {losses[0]}. {self.remedy}"
            )
        self.rows.append(row | {"seconds": time.monotonic() - self.started})

    def table(self) -> pd.DataFrame:
        """Return the rows as a table."""
        return pd.DataFrame(self.rows)


class Watch(Callback):
    """Reports each step, shows a line with the epochs and losses, and ends the training once that is asked for."""

    def __init__(self, run: Run) -> None:
        self.run = run
        # Made when the training begins, for locks cannot be sent to another process.
        self.steps: compute.Steps | None = None
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Begin to count; a resumed run is where it was."""
        epochs = self.run.epochs
        self.steps = compute.Steps(self.run.on_step)
        self.steps.begin(epochs * int(trainer.num_training_batches), trainer.global_step)
        if self.run.progress and is_first():
            # Plain text, not a widget: it reads the same in a terminal, in a log and in a saved notebook.
            self.bar = tqdm(
                total=epochs, initial=trainer.current_epoch, unit="epoch", mininterval=2
            )

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        _module: lightning.LightningModule,
        outputs: Any,
        _batch: Any,
        _index: int,
    ) -> None:
        """Report the step."""
        assert self.steps is not None
        loss = float(outputs["loss"]) if outputs and self.run.on_step else math.nan
        self.steps.step(epoch=trainer.current_epoch, loss=loss)
        obey(self.run.stop)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Look whether to stop: a validation may be long."""
        obey(self.run.stop)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Move the line on by one."""
        if self.bar is None:
            return
        metrics = trainer.callback_metrics
        names = [name for name in ("loss", "validation_loss") if name in metrics]
        self.bar.set_postfix({n: f"{float(metrics[n]):.3f}" for n in names}, refresh=False)
        self.bar.update(trainer.current_epoch + 1 - self.bar.n)

    def close(self) -> None:
        """Leave the line as it is, also when training stopped early, failed, or never began."""
        if self.bar is not None:
            self.bar.close()


@contextmanager
def isolated() -> Iterator[None]:
    """Leave the process as it was, for the notebook after the training."""
    with _random_numbers(), _determinism(), _quiet(), _interruptible():
        yield


@contextmanager
def _random_numbers() -> Iterator[None]:
    # Not Lightning's isolate_rng, which puts nothing back after an error.
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's, not ours
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def _determinism() -> Iterator[None]:
    """Put back what Lightning's `deterministic` sets for the whole process."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(CUBLAS)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        os.environ.pop(CUBLAS, None)
        if workspace is not None:
            os.environ[CUBLAS] = workspace


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide Lightning's advice on hardware and workers: the user did not ask, and the chips need none."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        unwanted = ("does not have many workers", "LeafSpec", "no `val_dataloader`")
        # The last of a dataloader that Lightning does not know to be one that resumes.
        for advice in (*unwanted, "your dataloader is not resumable"):
            warnings.filterwarnings("ignore", message=f".*{advice}.*")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Keep Ctrl-C a KeyboardInterrupt: Lightning would end the process, and be deaf to the next one."""
    answer = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, answer)
        raise KeyboardInterrupt("the training was interrupted") from None
