"""Fine-tuning: a model and labelled places in, a model that knows the labels out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch.utils.data import DataLoader

from timo.atomic import replacing
from timo.cancel import CancelledError, Stop
from timo.checks import Count, PathLike, Range, Seed, checked
from timo.compute import OnStep
from timo.errors import TimoError
from timo.mapping.residuals import HeldOutErrors
from timo.models.pixel import PixelModel
from timo.models.tasks import Segmenter, TiMo, unit_of
from timo.models.weights import save
from timo.places import Places
from timo.places.split import By, Split
from timo.training import run as harness
from timo.training.batches import Batches, Numbered, make_loader
from timo.training.inputs import (
    TRAIN,
    VALIDATION,
    Given,
    check_observed,
    gather,
    learning,
    load_places,
)
from timo.training.judging import judge
from timo.training.module import FinetuneModule, History, Optimisation
from timo.training.regression import fit_pixels
from timo.training.resume import ResumeCheckpoint
from timo.training.run import HISTORY, MODEL, RESUME, Decay, Run
from timo.training.targets import ClassWeights, make_class_weights, target_of
from timo.training.tiles import Tiles
from timo.training.windows import ChipOptions, Windows

# Dates of a chip for a model of the series: classes differ in their whole season.
SERIES_DATES = (24, 48)
# Chips of a batch and of an epoch, and those of single pixels, of which a chip says little.
BATCH, CHIPS = 8, 320
SINGLE_BATCH, SINGLE_CHIPS = 32, 640
# Most of a place's side that a model of whole places sees at once.
CHIP_SIZE = 128


@checked
@dataclass(frozen=True)
class Finetuned:
    """Result of a fine-tuning.

    Attributes
    ----------
    history : DataFrame
        One row an epoch: loss, validation_loss, seconds, and of classes validation_accuracy and validation_f1 (mean
        over the classes that have validation labels), of values validation_rmse, validation_mae and validation_r2.
    epoch : int
        Epoch whose weights the model holds: the one of the lowest validation loss, the last without validation. -1:
        stopped before the first step.
    seconds : float
        Wall time of this call.
    stopped : bool
        Whether `stop` ended it before its end.
    errors : HeldOutErrors or None
        How far the errors on the validation pixels are alike (`timo.mapping.held_out_errors`); print
        ``errors.summary``. For classes of pixels and a split inside places, of which the one with the most validation
        pixels is looked at. None: anything else, stopped, or too few pixels.
    split : Split, DataArray or None
        The split, for `timo.evaluate`.
    """

    history: pd.DataFrame
    epoch: int
    seconds: float
    stopped: bool = False
    errors: HeldOutErrors | None = None
    split: Split | xr.DataArray | None = None


@checked(cube="data")
def finetune(
    model: Segmenter,
    data: xr.DataArray | Places,
    labels: xr.DataArray | None = None,
    *,
    split: xr.DataArray | Split | By | None = None,
    epochs: Count = 20,
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
    epochs, chips_per_epoch, batch_size : int
        Length of the training. By default an epoch has 320 chips in batches of 8, or 640 in batches of 32 where all
        places are single pixels. Chips of different sizes are put into batches of similar ones.
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
        whole run. All but `workers` must be given as before.
    progress : bool
        Show a progress bar.
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
        wide: the validation is too good.

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
    began = time.monotonic()
    harness.need_folder(folder, resume=resume)
    given = gather(model, data, labels, split)
    kept = split if isinstance(split, xr.DataArray) else given.split
    home = harness.open_folder(folder, MODEL)
    try:
        given = replace(given, places=load_places(given.places, stop))
    except CancelledError:
        # Before the first step: the model is what it was.
        seconds = time.monotonic() - began
        return _keep(model, home, Finetuned(pd.DataFrame(), -1, seconds, True, split=kept))
    config, places = model.config, given.places
    usual = (SINGLE_BATCH, SINGLE_CHIPS) if places.single else (BATCH, CHIPS)
    batch_size, chips_per_epoch = batch_size or usual[0], chips_per_epoch or usual[1]
    chips, optimisation = chips or default_chips(config), optimisation or Optimisation()
    part = None if given.split is None else TRAIN
    train = Windows(
        places, chips_per_epoch, chips, seed, part=part, split=given.split, unit=unit_of(config)
    )
    validation = _validation(given, config, chips, chips_per_epoch, seed)
    if patience is not None and validation is None:
        raise TimoError(
            "patience needs validation pixels: give a split with 1 where to validate, see timo.cube.split_blocks"
        )
    check_observed(train)
    weights = make_class_weights(class_weights, given, train.classes.tolist(), config)
    checkpoint = None
    if home is not None:
        choices = {"model": config, "epochs": epochs, "chips_per_epoch": chips_per_epoch}
        choices |= {"batch_size": batch_size, "seed": seed, "averaging": averaging}
        choices |= {"patience": patience, "chips": chips, "optimisation": optimisation}
        plan = {n: repr(value) for n, value in (choices | {"class_weights": class_weights}).items()}
        checkpoint = ResumeCheckpoint(home / RESUME, "finetune", plan | given.plan())
    if config.task == "regression" and (config.target_mean, config.target_std) == (0, 1):
        model.set_target(*target_of(given))
    history = History(seed)
    model.has_learnt = True
    module = FinetuneModule(model, optimisation, weights, fused=len(places) > 1)
    loaders = _loaders(module, train, validation, batch_size, workers)
    own = model.pixel if isinstance(model, TiMo) else model
    pixels = own if isinstance(own, PixelModel) else None
    regression = None if pixels is None else pixels.regression
    if pixels is not None and regression is not None:
        fit_pixels(pixels, train, seed)
    if pixels is model and model.network is None:
        history.started = began
        history.add(_judge_once(module, *loaders))
        return _keep(model, home, _finished(model, given, validation, history, began, kept))
    # An encoder whose rate is 0 is frozen, which saves time; a regression is fitted already.
    still: list[torch.nn.Module] = []
    still += [model.encoder] if optimisation.encoder_rate == 0 and isinstance(model, TiMo) else []
    still += [] if regression is None else [regression]
    frozen = [parameter for part in still for parameter in part.parameters()]
    with learning(frozen, False):
        stopped = harness.fit(
            Run(epochs, averaging, resume, progress, callbacks, stop, on_step),
            module,
            history,
            [] if patience is None else [EarlyStopping("validation_loss", patience=patience)],
            checkpoint=checkpoint,
            loaders=loaders,
            accelerator="auto",
            devices=1,
            logger=False,
            gradient_clip_val=1.0,
            deterministic="warn",
        )
    if history.best is not None:
        model.load_state_dict(history.best)
    done = _finished(model, given, None if stopped else validation, history, began, kept)
    return _keep(model, home, replace(done, stopped=stopped))


@torch.no_grad()
def _judge_once(
    module: FinetuneModule, train: DataLoader, validation: DataLoader | None
) -> dict[str, float]:
    """Return the row of the history of a model that has no epochs."""
    row = {"epoch": 0, "loss": float(np.mean([module.loss_of(batch) for batch in train]))}
    if validation is None:
        return row
    module.on_validation_epoch_start()
    for number, batch in enumerate(validation):
        module.validation_step(batch, number)
    return row | module.validated()


def _finished(  # noqa: PLR0917 - of one run
    model: Segmenter,
    given: Given,
    validation: Tiles | None,
    history: History,
    began: float,
    split: Split | xr.DataArray | None,
) -> Finetuned:
    """Judge a model by its validation, if there is one, and return the result of its training."""
    errors = None
    if validation is not None:
        with harness.isolated():
            errors = judge(model, given)
    seconds = time.monotonic() - began
    return Finetuned(history.table(), history.epoch, seconds, errors=errors, split=split)


def default_chips(config: Any) -> ChipOptions:
    """Return how chips are drawn for a model where nothing is said."""
    if unit_of(config) == "chip":
        # The label is that of the whole place.
        chips = ChipOptions(size=CHIP_SIZE, splice=0.0)
    else:
        chips = ChipOptions(splice=0.5 if config.per_date and config.task == "segmentation" else 0)
    return chips if config.per_date else replace(chips, dates=SERIES_DATES, splice=0.0)


def _keep(model: TiMo, home: Path | None, result: Finetuned) -> Finetuned:
    """Write what a run ends with; the checkpoint of one that was stopped stays, to resume from."""
    if home is not None:
        with replacing(home / HISTORY) as partial:
            result.history.to_csv(partial, index=False)
        save(model, home / MODEL)
        if not result.stopped:
            (home / RESUME).unlink(missing_ok=True)
    return result


def _loaders(
    module: FinetuneModule, train: Windows, validation: Tiles | None, size: int, workers: int
) -> tuple[DataLoader, DataLoader | None]:
    """Return the batches to train on and those to validate on."""
    several = len(train.places) > 1
    batches = Batches(
        lambda: module.current_epoch * len(batches),
        len(train),
        size,
        sizes=Numbered(train).size if several else None,
        seed=train.seed,
    )
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
