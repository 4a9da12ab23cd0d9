"""Fine-tuning: a model, a cube and labels in, a model that knows the labels out."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import pandas as pd
import torch
import xarray as xr
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader

from timo import cube as cubes
from timo.atomic import check_writable, replacing
from timo.cancel import CancelledError, Stop, interruptible
from timo.compute import OnStep
from timo.errors import TimoError
from timo.mapping.residuals import HeldOutErrors
from timo.models.tasks import TiMo
from timo.models.weights import CONFIG, save
from timo.training.chips import ChipDataset, ChipOptions, collate
from timo.training.chips.chip import UNLABELLED
from timo.training.history import History, Progress
from timo.training.isolation import isolated
from timo.training.judging import judge_split
from timo.training.module import ENCODER, FinetuneModule, Optimisation
from timo.training.resume import Averaging, ResumeCheckpoint, find_checkpoint, make_plan, settle
from timo.training.stopping import Steps, load, step_loss

TRAIN, VALIDATION = 0, 1
RESUME, MODEL = "resume.ckpt", "model"


@dataclass(frozen=True)
class Finetuned:
    """What a fine-tuning did.

    Attributes
    ----------
    history : DataFrame
        One row an epoch: loss, validation_loss, validation_accuracy, validation_f1 (mean over the classes), seconds.
    epoch : int
        Epoch whose weights the model holds: the one of the lowest validation loss, the last without validation. -1:
        stopped before the first step.
    seconds : float
        Wall time of this call.
    stopped : bool
        Whether `stop` ended it before its end.
    errors : HeldOutErrors or None
        How far the errors on the validation pixels are alike, and whether the blocks of the split are larger than that
        (`timo.mapping.held_out_errors`); print ``errors.summary``. None: no validation, stopped, or too few pixels.
    """

    history: pd.DataFrame
    epoch: int
    seconds: float
    stopped: bool = False
    errors: HeldOutErrors | None = None


def finetune(
    model: TiMo,
    cube: xr.DataArray,
    labels: xr.DataArray,
    *,
    split: xr.DataArray | None = None,
    epochs: int = 20,
    chips_per_epoch: int = 320,
    batch_size: int = 8,
    chips: ChipOptions | None = None,
    optimisation: Optimisation | None = None,
    class_weights: Literal["balanced"] | Sequence[float] | None = None,
    averaging: float | None = 0.98,
    patience: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    stop: Stop | None = None,
    on_step: OnStep | None = None,
) -> Finetuned:
    """Train a model on the labelled pixels of a cube, in place.

    The labels outside the training part are never seen. The observations there are, as surroundings of training pixels
    up to a chip's size away.

    Parameters
    ----------
    model : TiMo
        A segmentation model, from `timo.load_model`. It ends with the best weights, in evaluation mode, on the CPU.
    cube : xarray.DataArray
        The cube, with the bands of the model. A lazy one is loaded into memory.
    labels : xarray.DataArray
        (y, x), true at all dates of the cube, or (time, y, x); -1 = unlabelled.
    split : xarray.DataArray, optional
        (y, x): 0 = training, 1 = validation, all else is not touched; see `timo.cube.split_blocks`. By default every
        labelled pixel trains and there is no validation.
    epochs, chips_per_epoch, batch_size : int
        Length of the training.
    chips : ChipOptions, optional
        How chips are drawn.
    optimisation : Optimisation, optional
        Learning rate and loss.
    class_weights : "balanced" or sequence of float, optional
        Weight of each class in the loss; "balanced": inverse to the class's share of the training labels, 0 for a class
        without any. Chips are drawn with every class equally often already.
    averaging : float, optional
        Decay, per step, of the moving average of the weights that is validated and kept; None: the weights themselves.
    patience : int, optional
        Stop after so many epochs without a lower validation loss.
    seed : int
        Seed of the draw of the chips, the dropout and the stochastic depth. The same seed on the same machine gives the
        same weights. The random state of the process is left as it was.
    folder : path, optional
        Where to write the resume checkpoint after each epoch and, at the end, ``history.csv`` and ``model/``.
    resume : bool
        Go on from the resume checkpoint that a run that was killed left in `folder`, if there is one, and end with the
        weights that the whole run would have had. All else must be given as before.
    progress : bool
        Show a progress bar.
    callbacks : sequence of lightning.Callback
        Further callbacks.
    stop : threading.Event or callable, optional
        Asked before each layer and after each batch, also while the cube is loaded. When it says so, the call returns
        with ``.stopped`` true and a model that can be used: its best weights so far, or without validation those of the
        last whole step, averaged as at the end. In `folder`, ``model/`` holds them, and the resume checkpoint is that
        of the last whole epoch: `resume` ends with the weights of the whole run all the same.
    on_step : callable, optional
        Is given a `timo.compute.StepReport` after each step, in the thread of this call.

    Returns
    -------
    Finetuned
        The history, and how far the errors on the validation pixels are alike.

    Warns
    -----
    UserWarning
        If those errors are alike farther than the blocks of the split are wide: the validation is too good.

    Raises
    ------
    TimoError
        If cube, labels, split or model do not fit each other, no pixel is left to train on, an option makes no sense,
        the folder cannot be written, the resume checkpoint is damaged or of another run, or the training diverges.
    """
    numbers = {"epochs": epochs, "chips_per_epoch": chips_per_epoch, "batch_size": batch_size}
    _check_numbers(numbers | ({} if patience is None else {"patience": patience}), seed, averaging)
    if resume and folder is None:
        raise TimoError("resume needs the folder of the run that is to go on: give folder=...")
    cubes.check_labels(labels, cubes.check(cube, sensor=model.config.sensor))
    check_model(model, cube, labels)
    home = _check_home(folder) if folder is not None else None
    began = time.monotonic()
    try:
        cube = load(cube, stop)
    except CancelledError:
        # Before the first step: the model is what it was.
        return _keep(model, home, Finetuned(pd.DataFrame(), -1, time.monotonic() - began, True))
    cubes.check(cube, sensor=model.config.sensor)
    chips, optimisation = chips or ChipOptions(), optimisation or Optimisation()
    everything = ChipDataset(cube, labels, chips_per_epoch, chips, seed)
    train, validation = _divide(everything, None if split is None else _check_split(split, cube))
    if patience is not None and validation is None:
        raise TimoError(
            "patience needs validation pixels: give a split with 1 where to validate, see timo.cube.split_blocks"
        )
    weights = _class_weights(class_weights, train.labels, len(model.config.classes))
    history = History(train)
    ours: list[Callback] = [history]
    if averaging is not None:
        ours.append(Averaging(decay=averaging))
    # After the average has taken in the step.
    ours.append(Steps(stop, on_step, step_loss))
    if patience is not None:
        ours.append(EarlyStopping("validation_loss", patience=patience))
    if progress:
        ours.append(Progress(epochs))
    checkpoint = None
    if home is not None:
        choices: dict[str, Any] = {"seed": seed, "averaging": averaging, "patience": patience}
        choices |= {"chips": chips, "optimisation": optimisation, "class_weights": class_weights}
        plan = make_plan(cube, labels, split, {"model": model.config, **numbers, **choices})
        if not resume:
            # What an earlier run left is not to be gone on with.
            (home / RESUME).unlink(missing_ok=True)
        checkpoint = find_checkpoint(home / RESUME, plan)
        ours.append(ResumeCheckpoint(home / RESUME, plan))
    stopped = _fit(
        FinetuneModule(model, optimisation, weights),
        _loader(train, batch_size),
        None if validation is None else _loader(validation, batch_size),
        callbacks=[*ours, *callbacks],
        epochs=epochs,
        checkpoint=checkpoint,
        stop=stop,
    )
    if history.best is not None:
        model.load_state_dict(history.best)
    errors = None
    if validation is not None and split is not None and not stopped:
        with isolated():
            errors = judge_split(model, cube, labels, split)
    seconds = time.monotonic() - began
    return _keep(model, home, Finetuned(history.table(), history.epoch, seconds, stopped, errors))


def _keep(model: TiMo, home: Path | None, result: Finetuned) -> Finetuned:
    """Write what a run ends with; the checkpoint of one that was stopped stays, to go on with."""
    if home is not None:
        with replacing(home / "history.csv") as partial:
            result.history.to_csv(partial, index=False)
        save(model, home / MODEL)
        if not result.stopped:
            (home / RESUME).unlink(missing_ok=True)
    return result


def _check_numbers(numbers: dict[str, int], seed: int, averaging: float | None) -> None:
    if min(numbers.values()) < 1:
        got = ", ".join(f"{name}={value}" for name, value in numbers.items())
        raise TimoError(f"{', '.join(numbers)} must be at least 1, got {got}")
    if seed < 0 or not (averaging is None or 0 < averaging < 1):
        raise TimoError(
            f"seed must be 0 or more and averaging between 0 and 1 or None, got {seed} and {averaging}"
        )


def _check_home(folder: str | Path) -> Path:
    """Return the folder, after a proof that all can be written there at the end of the training."""
    home = check_writable(folder)
    model = home / MODEL
    if model.is_file() or (
        model.exists() and any(model.iterdir()) and not (model / CONFIG).exists()
    ):
        raise TimoError(f"{model} is something other than a model: choose another folder")
    return home


def _fit(
    module: FinetuneModule,
    train: DataLoader,
    validation: DataLoader | None,
    *,
    callbacks: list[Callback],
    epochs: int,
    checkpoint: Path | None,
    stop: Stop | None,
) -> bool:
    """Train; return whether `stop` ended it."""
    module.model.train()
    try:
        with isolated(), _frozen(module), interruptible(module.model, stop):
            trainer = lightning.Trainer(
                accelerator="auto",
                devices=1,
                max_epochs=epochs,
                logger=False,
                callbacks=callbacks,
                # Without one of ours or the user's, Lightning would write its own where the process stands.
                enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
                enable_progress_bar=False,
                enable_model_summary=False,
                gradient_clip_val=1.0,
                num_sanity_val_steps=0,
                deterministic="warn",
            )
            trainer.fit(module, train, validation, ckpt_path=checkpoint, weights_only=True)
    except CancelledError:
        settle(module, callbacks)
        return True
    else:
        return False
    finally:
        for callback in callbacks:
            if isinstance(callback, Progress):
                callback.close()
        module.model.to("cpu").eval()


@contextmanager
def _frozen(module: FinetuneModule) -> Iterator[None]:
    """With an encoder_rate of 0 the encoder takes no gradient, which saves time; afterwards, what it took before."""
    frozen = module.optimisation.encoder_rate == 0
    before = {n: p.requires_grad for n, p in module.model.named_parameters()}
    for name, parameter in module.model.named_parameters():
        parameter.requires_grad_(before[name] and not (frozen and name.startswith(ENCODER)))
    try:
        yield
    finally:
        for name, parameter in module.model.named_parameters():
            parameter.requires_grad_(before[name])


def check_model(model: TiMo, cube: xr.DataArray, labels: xr.DataArray) -> None:
    """Meet a model that cannot learn these labels on this cube.

    Raises
    ------
    TimoError
        If task, bands or classes do not fit.
    """
    config = model.config
    if config.task != "segmentation":
        raise TimoError(
            f"only segmentation models are trained on labelled pixels, this one is for {config.task}"
        )
    bands = tuple(str(band) for band in cube.band.values)
    if bands != config.bands:
        raise TimoError(
            f"the model reads the bands {config.bands}, the cube has {bands}: use "
            f"cube.sel(band={list(config.bands)}) or load a model with cube=cube"
        )
    names = labels.attrs.get("classes")
    if names is not None and tuple(names) != config.classes:
        raise TimoError(
            f"the labels' classes are {tuple(names)}, the model's {config.classes}: load the model with "
            "classes=labels.attrs['classes']"
        )
    highest = int(labels.max())
    if highest >= len(config.classes):
        raise TimoError(
            f"the labels go up to class {highest}, the model has {len(config.classes)} classes: {config.classes}"
        )


def _divide(
    everything: ChipDataset, split: np.ndarray | None
) -> tuple[ChipDataset, ChipDataset | None]:
    """Chips to train on, and unaltered ones to validate on."""
    if split is None:
        return everything, None
    labelled = (everything.given != UNLABELLED).reshape(-1, *split.shape).any(axis=0)
    if not (labelled & (split == TRAIN)).any():
        raise TimoError(
            "no labelled pixel is left to train on: the split has no 0 where there are labels"
        )
    length, options = everything.length, everything.options
    train = everything.within(split == TRAIN, length, options)
    if not (labelled & (split == VALIDATION)).any():
        return train, None
    plain = replace(options, rotate=False, hide=0.0, splice=0.0)
    return train, everything.within(split == VALIDATION, max(length // 5, 8), plain)


def _check_split(split: xr.DataArray, cube: xr.DataArray) -> np.ndarray:
    if getattr(split, "dims", None) != ("y", "x"):
        raise TimoError(
            "the split must be an xarray.DataArray with the dims (y, x): see timo.cube.split_blocks"
        )
    try:
        cubes.check_labels(split.astype("int8"), cube)
    except TimoError as error:
        raise TimoError(f"the split must be on the cube's grid, like labels. {error}") from error
    return split.values


def _class_weights(
    weights: Literal["balanced"] | Sequence[float] | None, labels: np.ndarray, classes: int
) -> Tensor | None:
    if weights is None:
        return None
    if isinstance(weights, str):
        if weights != "balanced":
            raise TimoError(
                f'class_weights is "balanced", a number for each class or None, got {weights!r}'
            )
        counts = np.bincount(labels[labels >= 0], minlength=classes)
        # A class without labels is no target; under label smoothing an enormous weight would make it one.
        weights = list(np.where(counts, counts.sum() / np.maximum(counts, 1) / classes, 0.0))
    if len(weights) != classes or min(weights) < 0:
        raise TimoError(f"{classes} classes need {classes} weights of 0 or more, got {weights}")
    return torch.tensor(weights, dtype=torch.float32)


def _loader(dataset: ChipDataset, batch_size: int) -> DataLoader:
    # In the main process: a chip takes a millisecond, and the epoch number reaches the dataset. With a generator of its
    # own: a loader draws a number even when it does not shuffle, and would shift the dropout's of a resumed run.
    return DataLoader(
        dataset, batch_size=batch_size, collate_fn=collate, generator=torch.Generator()
    )
