"""Fine-tuning: a model and labelled places in, a model that knows the labels out."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import xarray as xr
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch.utils.data import DataLoader

from timo.cancel import CancelledError, Stop
from timo.checks import Count, PathLike, Range, Seed, checked
from timo.compute import OnStep
from timo.errors import TimoError
from timo.models.pixel import PixelModel
from timo.models.tasks import Segmenter, TiMo, unit_of
from timo.places import Places
from timo.places.split import By, Split
from timo.training import run as harness
from timo.training.batches import Batches, Numbered, batches_of, make_loader
from timo.training.finetuned import Finetuned, finished, keep
from timo.training.inputs import (
    TRAIN,
    VALIDATION,
    Given,
    check_observed,
    gather,
    learning,
    load_places,
)
from timo.training.length import GRACE, Budget, budget_seconds
from timo.training.module import FinetuneModule, History, Optimisation
from timo.training.regression import fit_regression
from timo.training.resume import ResumeCheckpoint
from timo.training.run import MODEL, RESUME, Decay, Run
from timo.training.targets import ClassWeights, make_class_weights, scale_target
from timo.training.tiles import Tiles
from timo.training.timing import Deadline, announce, asked_length, length_left, plan
from timo.training.windows import ChipOptions, Windows

# Dates of a chip for a model of the series: classes differ in their whole season.
SERIES_DATES = (24, 48)
# Most of a place's side that a model of whole places sees at once.
CHIP_SIZE = 128
# Of `lightning.Trainer`.
_TRAINER: dict[str, Any] = {
    "accelerator": "auto",
    "devices": 1,
    "logger": False,
    "gradient_clip_val": 1.0,
    "deterministic": "warn",
}


@checked(cube="data")
def finetune(
    model: Segmenter,
    data: xr.DataArray | Places,
    labels: xr.DataArray | None = None,
    *,
    split: xr.DataArray | Split | By | None = None,
    epochs: Count | None = None,
    budget: Budget | None = None,
    chips_per_epoch: Count | None = None,
    batch_size: Count | None = None,
    chips: ChipOptions | None = None,
    optimisation: Optimisation | None = None,
    class_weights: ClassWeights | None = None,
    averaging: Decay | None = 0.98,
    patience: Count | None = None,
    workers: Annotated[int, Range(least=0, most=256)] = 0,
    seed: Seed = 0,
    folder: PathLike | None = None,
    resume: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    stop: Stop | None = None,
    on_step: OnStep | None = None,
) -> Finetuned:
    """Train a model on labelled places, in place.

    Classes of pixels, chips and parcels are learnt by their cross entropy. Values are learnt in units of the standard
    deviation of the training labels, by a smooth absolute error, and the ends of their interval by the pinball losses
    of its quantiles. The labels outside the training part are never seen. The observations there are, as surroundings
    of training pixels up to a chip's size away.

    Parameters
    ----------
    model : TiMo or PixelModel
        A model from `timo.load_model`. It ends with the best weights, in evaluation mode, on the CPU. A regression of
        single pixels, alone or as a path of another model, is fitted before the first step, on chips without artificial
        changes and gaps.
    data : Places or xarray.DataArray
        Places with labels, or one cube, with the bands of the model. What lies on disk is loaded into memory if it
        takes no more than a quarter of it. Otherwise, and from a packed store, each chip is read when it is drawn,
        which costs no memory; `workers` then read ahead. Both give the same chips.
    labels : xarray.DataArray, optional
        Of one cube: (y, x), true at all its dates, or (time, y, x); -1 = unlabelled, of values NaN.
    split : "place", "group", "fold", "block", Split or xarray.DataArray, optional
        What trains and what validates. A word stands for ``places.split(word)``. Of one cube an array (y, x) will do: 0
        = training, 1 = validation, all else is not touched; see `timo.cube.split_blocks`. By default all labels train
        and there is no validation.
    epochs, chips_per_epoch, batch_size : int, optional
        Length of the training. By default 20 epochs of 320 chips in batches of 8, or 640 in batches of 32 where all
        places are single pixels. Where that is too short to draw each tile of a chip's size that has training labels,
        or each labelled single pixel, ten times on average, an epoch has more chips, ten times as many at most. Chips
        of different sizes are put into batches of similar ones.
    budget : str, float or timedelta, optional
        Time for the steps and their validation, in place of `epochs`: "5min", "1h 30min", or a number of seconds. A few
        steps are timed first, which counts, and the training gets as many epochs as fit, of at most `chips_per_epoch`
        chips; where none fits, a shorter one. If the machine gets slower meanwhile, it ends a quarter over the budget.
        Loading data before, fitting a regression and judging the errors afterwards do not count. Another time the
        length may be another; the one of `Finetuned.length`, given as options, gives the same weights.
    chips : ChipOptions, optional
        How chips are drawn. By default as `ChipOptions` says for a model of each date; 24 to 48 dates and no splicing
        for a model of the series; up to 128 x 128 pixels where the label is that of a whole place.
    optimisation : Optimisation, optional
        Learning rate and loss.
    class_weights : "balanced", sequence or mapping of float, optional
        Weight of each class in the loss, in their order or by name; "balanced": inverse to the class's share of the
        training labels, 0 for a class without any. Chips are drawn with every class equally often already.
    averaging : float, optional
        Decay, per step, of the moving average of the weights that is validated and kept; None: the weights themselves.
    patience : int, optional
        Epochs without a lower validation loss after which the training stops.
    workers : int
        Processes that read chips ahead.
    seed : int
        Seed of the draw of the chips, the dropout and the stochastic depth. The same seed on the same machine gives the
        same weights. The random state of the process is left as it was.
    folder : path, optional
        Where to write the resume checkpoint after each epoch and, at the end, ``history.csv`` and ``model/``.
    resume : bool
        Resume from the checkpoint that a killed run left in `folder`, if there is one, and end with the weights of the
        whole run. All but `workers` must be given as before; of a `budget` the length is that of the killed run.
    progress : bool
        Time a few steps, say how long the training will take, and show a progress bar.
    callbacks : sequence of lightning.Callback
        Further callbacks.
    stop : threading.Event or callable, optional
        Asked before each layer and after each batch, also while a cube is loaded. When it says so, the call returns
        with ``.stopped`` true and a model that can be used: its best weights so far, or without validation those of the
        last whole step, averaged as at the end. `resume` goes on after the last whole epoch all the same.
    on_step : callable, optional
        Is given a `timo.compute.StepReport` after each step, in the thread of this call.

    Returns
    -------
    Finetuned
        The history, the split, and how far the errors on the validation pixels are alike.

    Warns
    -----
    UserWarning
        If a part of the split lacks a class, or if those errors are alike farther than the blocks of the split are
        wide: the validation is too good. Or if a training was ended by its `budget` before all its steps.

    Raises
    ------
    TimoError
        If places, labels, split or model do not fit each other, no label or only one class is left to train on, an
        option makes no sense, the folder cannot be written, the resume checkpoint is damaged or of another run, or the
        training diverges.

    Notes
    -----
    Validation is counted as `timo.evaluate` counts: on observed pixels, each once, in fixed tiles of a chip's size, at
    up to 12 dates for a model of each date; parcels whole. Of more tiles than `chips_per_epoch`, that many are drawn.
    """
    began, budget_s = time.monotonic(), budget_seconds(budget, epochs)
    harness.need_folder(folder, resume=resume)
    given = gather(model, data, labels, split)
    kept = split if isinstance(split, xr.DataArray) else given.split
    home = harness.open_folder(folder, MODEL)

    def stopped_early() -> Finetuned:
        # Before the first step.
        seconds = time.monotonic() - began
        return keep(model, home, Finetuned(pd.DataFrame(), -1, seconds, True, split=kept))

    try:
        given = replace(given, places=load_places(given.places, stop))
    except CancelledError:
        return stopped_early()
    config = model.config
    chips, optimisation = chips or default_chips(config), optimisation or Optimisation()
    left = home / RESUME if resume and home is not None and (home / RESUME).exists() else None
    length = asked_length(given, chips.size, epochs, chips_per_epoch, batch_size)
    if left is not None and budget_s is not None:
        length = length_left(left, length)
    train = Windows(
        given.places,
        length.chips,
        chips,
        seed,
        part=None if given.split is None else TRAIN,
        split=given.split,
        unit=unit_of(config),
    )
    validation = _validation(given, config, chips, length.chips, seed)
    if patience is not None:
        _need(validation)
    check_observed(train)
    weights = make_class_weights(class_weights, given, train.classes.tolist(), config)
    scale_target(model, given)
    history = History(seed)
    model.has_learnt = True
    module = FinetuneModule(model, optimisation, weights, fused=len(given.places) > 1)
    regression = fit_regression(model, train, seed)
    if isinstance(model, PixelModel) and model.network is None:
        history.started = began
        history.add(module.judged(*_loaders(module, train, validation, length.batch)))
        return keep(model, home, finished(model, given, validation, history, began, kept))
    run = Run(length.epochs, averaging, resume, progress, callbacks, stop, on_step)
    deadlines = [] if budget_s is None else [Deadline(GRACE * budget_s, length)]
    with learning(_still(model, optimisation, regression), False):
        if left is None and (progress or budget_s is not None):
            timed = plan(
                module,
                (train, validation),
                length,
                run,
                workers=workers,
                budget_s=budget_s,
                **_TRAINER,
            )
            if timed is None:
                return stopped_early()
            length, deadlines = timed
            train.length = length.chips
            if validation is not None and len(validation) > length.chips:
                validation = _validation(given, config, chips, length.chips, seed)
        announce(length, shown=progress)
        early = [] if patience is None else [EarlyStopping("validation_loss", patience=patience)]
        stopped = harness.fit(
            replace(run, epochs=length.epochs),
            module,
            history,
            [*early, *deadlines],
            checkpoint=_checkpoint(
                home,
                given,
                {} if budget_s is None else {"budget": budget_s},
                model=config,
                epochs=length.epochs,
                chips_per_epoch=length.chips,
                batch_size=length.batch,
                seed=seed,
                averaging=averaging,
                patience=patience,
                chips=chips,
                optimisation=optimisation,
                class_weights=class_weights,
            ),
            loaders=_loaders(module, train, validation, length.batch, workers),
            **_TRAINER,
        )
    for deadline in deadlines:
        deadline.warn()
    if history.best is not None:
        model.load_state_dict(history.best)
    done = finished(model, given, None if stopped else validation, history, began, kept)
    return keep(model, home, replace(done, stopped=stopped, length=length))


def _checkpoint(
    home: Path | None, given: Given, others: dict[str, Any], **choices: Any
) -> ResumeCheckpoint | None:
    """Return what writes the resume checkpoint, which knows the choices and the data by their names."""
    if home is None:
        return None
    said = {name: repr(value) for name, value in (choices | others).items()}
    return ResumeCheckpoint(home / RESUME, "finetune", said | given.plan())


def _still(
    model: Segmenter, optimisation: Optimisation, regression: torch.nn.Module | None
) -> list[torch.nn.Parameter]:
    """Return what no step moves: a regression is fitted already; an encoder whose rate is 0 saves time."""
    parts: list[torch.nn.Module] = [] if regression is None else [regression]
    if isinstance(model, TiMo) and optimisation.encoder_rate == 0:
        parts.append(model.encoder)
    return [parameter for part in parts for parameter in part.parameters()]


def _need(validation: Tiles | None) -> None:
    if validation is None:
        raise TimoError(
            "patience needs validation pixels: give a split with 1 where to validate, see timo.cube.split_blocks"
        )


def default_chips(config: Any) -> ChipOptions:
    """Return how chips are drawn for a model where nothing is said."""
    if unit_of(config) == "chip":
        # The label is that of the whole place.
        chips = ChipOptions(size=CHIP_SIZE, splice=0.0)
    else:
        chips = ChipOptions(splice=0.5 if config.per_date and config.task == "segmentation" else 0)
    return chips if config.per_date else replace(chips, dates=SERIES_DATES, splice=0.0)


def _loaders(
    module: FinetuneModule, train: Windows, validation: Tiles | None, size: int, workers: int = 0
) -> tuple[DataLoader, DataLoader | None]:
    """Return the batches to train on and those to validate on."""
    batches = batches_of(train, size, lambda: module.current_epoch * len(batches))
    held = None
    if validation is not None:
        fixed = Batches(lambda: 0, len(validation), size)
        held = make_loader(Numbered(validation), fixed, workers)
    return make_loader(Numbered(train), batches, workers), held


def _validation(
    given: Given, config: Any, chips: ChipOptions, most: int, seed: int
) -> Tiles | None:
    """Return the tiles of the validation part; None where it has no label."""
    tiles = Tiles(
        given,
        VALIDATION,
        config,
        size=chips.size,
        dates=chips.dates[1],
        most=most,
        seed=seed,
    )
    return tiles if len(tiles) else None
