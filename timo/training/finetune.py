"""Fine-tuning: a model, a cube and labels in, a model that knows the labels out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader

from timo import cube as cubes
from timo.atomic import replacing
from timo.cancel import CancelledError, Stop
from timo.checks import Count, NotNegative, PathLike, Seed, checked
from timo.compute import OnStep
from timo.errors import TimoError, warn
from timo.mapping.predict import predict
from timo.mapping.residuals import FEWEST_PIXELS, VALIDATION, HeldOutErrors, held_out_errors
from timo.models.tasks import Segmenter, TiMo, config_of
from timo.models.weights import save
from timo.training import run as harness
from timo.training.chips import ChipDataset, ChipOptions, collate
from timo.training.chips.chip import UNLABELLED
from timo.training.inputs import check_model, check_split, digest, learning, load
from timo.training.module import FinetuneModule, History, Optimisation
from timo.training.resume import ResumeCheckpoint
from timo.training.run import HISTORY, MODEL, RESUME, Decay, Run

TRAIN = 0
# Errors are averaged over the dates: a dozen of them are enough. To map more values than this would take longer than
# the training.
_DATES, _MOST_VALUES = 12, 25_000_000


@checked
@dataclass(frozen=True)
class Finetuned:
    """Result of a fine-tuning.

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
        How far the errors on the validation pixels are alike (`timo.mapping.held_out_errors`); print
        ``errors.summary``. None: no validation, stopped, or too few pixels.
    """

    history: pd.DataFrame
    epoch: int
    seconds: float
    stopped: bool = False
    errors: HeldOutErrors | None = None


@checked
def finetune(
    model: Segmenter,
    cube: xr.DataArray,
    labels: xr.DataArray,
    *,
    split: xr.DataArray | None = None,
    epochs: Count = 20,
    chips_per_epoch: Count = 320,
    batch_size: Count = 8,
    chips: ChipOptions | None = None,
    optimisation: Optimisation | None = None,
    class_weights: Literal["balanced"] | Sequence[NotNegative] | None = None,
    averaging: Decay | None = 0.98,
    patience: Count | None = None,
    seed: Seed = 0,
    folder: PathLike | None = None,
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
        Epochs without a lower validation loss after which the training stops.
    seed : int
        Seed of the draw of the chips, the dropout and the stochastic depth. The same seed on the same machine gives the
        same weights. The random state of the process is left as it was.
    folder : path, optional
        Where to write the resume checkpoint after each epoch and, at the end, ``history.csv`` and ``model/``.
    resume : bool
        Resume from the checkpoint that a killed run left in `folder`, if there is one, and end with the weights of the
        whole run. All else must be given as before.
    progress : bool
        Show a progress bar.
    callbacks : sequence of lightning.Callback
        Further callbacks.
    stop : threading.Event or callable, optional
        Asked before each layer and after each batch, also while the cube is loaded. When it says so, the call returns
        with ``.stopped`` true and a model that can be used: its best weights so far, or without validation those of the
        last whole step, averaged as at the end. `resume` goes on after the last whole epoch all the same.
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
    began = time.monotonic()
    harness.need_folder(folder, resume=resume)
    cubes.check_labels(labels, cubes.check(cube, sensor=config_of(model).sensor))
    check_model(model, cube, labels)
    part = None if split is None else check_split(split, cube)
    home = harness.open_folder(folder, MODEL)
    try:
        cube = load(cube, stop)
    except CancelledError:
        # Before the first step: the model is what it was.
        return _keep(model, home, Finetuned(pd.DataFrame(), -1, time.monotonic() - began, True))
    cubes.check(cube, sensor=model.config.sensor)
    chips, optimisation = chips or ChipOptions(), optimisation or Optimisation()
    train, validation = _divide(ChipDataset(cube, labels, chips_per_epoch, chips, seed), part)
    if patience is not None and validation is None:
        raise TimoError(
            "patience needs validation pixels: give a split with 1 where to validate, see timo.cube.split_blocks"
        )
    weights = _class_weights(class_weights, train.labels, len(model.config.classes))
    checkpoint = None
    if home is not None:
        choices = {"model": model.config, "epochs": epochs, "chips_per_epoch": chips_per_epoch}
        choices |= {"batch_size": batch_size, "seed": seed, "averaging": averaging}
        choices |= {"patience": patience, "chips": chips, "optimisation": optimisation}
        plan = {n: repr(value) for n, value in (choices | {"class_weights": class_weights}).items()}
        plan["cube"] = digest(cube, *(cube[dim] for dim in cube.dims))
        plan |= {"labels": digest(labels), "split": "" if split is None else digest(split)}
        checkpoint = ResumeCheckpoint(home / RESUME, "finetune", plan)
    history = History(train)
    module = FinetuneModule(model, optimisation, weights)
    # An encoder whose rate is 0 is frozen, which saves time.
    frozen = model.encoder.parameters() if optimisation.encoder_rate == 0 else ()
    with learning(frozen, False):
        stopped = harness.fit(
            Run(epochs, averaging, resume, progress, callbacks, stop, on_step),
            module,
            history,
            [] if patience is None else [EarlyStopping("validation_loss", patience=patience)],
            checkpoint=checkpoint,
            loaders=(
                _loader(train, batch_size),
                None if validation is None else _loader(validation, batch_size),
            ),
            accelerator="auto",
            devices=1,
            logger=False,
            gradient_clip_val=1.0,
            deterministic="warn",
        )
    if history.best is not None:
        model.load_state_dict(history.best)
    errors = None
    if validation is not None and split is not None and not stopped:
        with harness.isolated():
            errors = judge_split(model, cube, labels, split)
    seconds = time.monotonic() - began
    return _keep(model, home, Finetuned(history.table(), history.epoch, seconds, stopped, errors))


def _keep(model: TiMo, home: Path | None, result: Finetuned) -> Finetuned:
    """Write what a run ends with; the checkpoint of one that was stopped stays, to resume from."""
    if home is not None:
        with replacing(home / HISTORY) as partial:
            result.history.to_csv(partial, index=False)
        save(model, home / MODEL)
        if not result.stopped:
            (home / RESUME).unlink(missing_ok=True)
    return result


def _divide(
    everything: ChipDataset, split: np.ndarray | None
) -> tuple[ChipDataset, ChipDataset | None]:
    """Return chips to train on, and unaltered ones to validate on."""
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


def _class_weights(
    weights: Literal["balanced"] | Sequence[float] | None, labels: np.ndarray, classes: int
) -> Tensor | None:
    if weights is None:
        return None
    if isinstance(weights, str):
        counts = np.bincount(labels[labels >= 0], minlength=classes)
        # A class without labels is no target; under label smoothing an enormous weight would make it one.
        weights = list(np.where(counts, counts.sum() / np.maximum(counts, 1) / classes, 0.0))
    if len(weights) != classes:
        raise TimoError(
            f"{classes} classes need {classes} class_weights, one for each; got {list(weights)}."
        )
    return torch.tensor(weights, dtype=torch.float32)


def _loader(dataset: ChipDataset, batch_size: int) -> DataLoader:
    # In the main process: a chip takes a millisecond, and the epoch number reaches the dataset. With a generator of its
    # own: a loader draws a number even when it does not shuffle, and would shift the dropout's of a resumed run.
    return DataLoader(
        dataset, batch_size=batch_size, collate_fn=collate, generator=torch.Generator()
    )


def judge_split(
    model: TiMo, cube: xr.DataArray, labels: xr.DataArray, split: xr.DataArray
) -> HeldOutErrors | None:
    """Map the validation pixels, and measure how far their errors are alike; None of too few labelled pixels."""
    labelled = labels != UNLABELLED
    held = (split == VALIDATION) & (labelled.any("time") if "time" in labels.dims else labelled)
    if int(held.sum()) < FEWEST_PIXELS:
        return None
    # With surroundings: for the model, and for the training pixels around a block.
    rows, columns = (_span(held.any(other).values, margin=32) for other in ("x", "y"))
    window = {"y": rows, "x": columns}
    dates = _dates(cube.isel(window), labels)
    labels = labels.isel(window) if "time" not in labels.dims else labels.isel(window, time=dates)
    try:
        result = predict(model, cube.isel(window).isel(time=dates)).compute()
        errors = held_out_errors(result, labels, split.isel(window))
    except TimoError:
        # Few of the pixels were seen on these dates: no answer, and no reason to lose a training.
        return None
    if not errors.honest:
        warn(errors.summary)
    return errors


def _span(used: np.ndarray, margin: int) -> slice:
    """Return the smallest slice that holds all that is used, and a margin around it."""
    places = np.flatnonzero(used)
    return slice(max(int(places[0]) - margin, 0), int(places[-1]) + 1 + margin)


def _dates(cube: xr.DataArray, labels: xr.DataArray) -> list[int]:
    """Return dates with labels and observations, evenly drawn."""
    seen = cube.isel(band=0).notnull().any(("y", "x")).values  # noqa: PD004 - of xarray
    if "time" in labels.dims:
        seen &= (labels != UNLABELLED).any(("y", "x")).values
    dates = np.flatnonzero(seen)
    pixels = cube.sizes["y"] * cube.sizes["x"]
    wanted = int(np.clip(_MOST_VALUES // pixels, 1, _DATES))
    chosen = np.linspace(0, len(dates) - 1, min(wanted, len(dates))).round().astype(int)
    return [int(date) for date in dates[chosen]] if len(dates) else [0]
