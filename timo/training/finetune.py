"""Fine-tuning: a model and labelled places in, a model that knows the labels out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.utils.data import DataLoader

from timo.atomic import replacing
from timo.cancel import CancelledError, Stop
from timo.checks import Count, NotNegative, PathLike, Range, Seed, checked
from timo.compute import OnStep
from timo.errors import TimoError, warn
from timo.mapping.predict import predict
from timo.mapping.residuals import FEWEST_PIXELS, HeldOutErrors, held_out_errors
from timo.models.tasks import Segmenter, TiMo
from timo.models.weights import save
from timo.places import Places
from timo.places.chip import UNLABELLED
from timo.places.split import By, Split
from timo.training import run as harness
from timo.training.answers import unit_of
from timo.training.batches import Batches, Numbered, collate
from timo.training.inputs import (
    TRAIN,
    VALIDATION,
    Given,
    check_highest,
    check_observed,
    class_counts,
    gather,
    learning,
    load_places,
    target_of,
)
from timo.training.module import FinetuneModule, History, Optimisation
from timo.training.resume import ResumeCheckpoint
from timo.training.run import HISTORY, MODEL, RESUME, Decay, Run
from timo.training.tiles import Tiles
from timo.training.windows import ChipOptions, Windows

# Errors are averaged over the dates: a dozen of them are enough. To map more values than this would take longer than
# the training.
_DATES, _MOST_VALUES = 12, 25_000_000
# Dates of a chip for a model of the series: a season is told from another one by all that there is of it.
SERIES_DATES = (24, 48)
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
    chips_per_epoch: Count = 320,
    batch_size: Count = 8,
    chips: ChipOptions | None = None,
    optimisation: Optimisation | None = None,
    class_weights: Literal["balanced"]
    | Sequence[NotNegative]
    | Mapping[str, NotNegative]
    | None = None,
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
    model : TiMo
        A model from `timo.load_model`. It ends with the best weights, in evaluation mode, on the CPU.
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
        Length of the training. Chips of different sizes are put into batches of similar ones.
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
    weights = None
    if config.task == "regression":
        if class_weights is not None:
            raise TimoError(
                "class_weights are for classes, this model predicts values: leave them out."
            )
    else:
        _check_classes(train.classes.tolist(), config)
        weights = class_weights_of(
            class_weights, class_counts(given, len(config.classes)), config.classes
        )
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
    module = FinetuneModule(model, optimisation, weights, fused=len(places) > 1)
    batches = Batches(
        lambda: module.current_epoch * len(batches),
        len(train),
        batch_size,
        # What lies on disk would be read once more.
        sizes=Numbered(train).size if len(places) > 1 and places.in_memory else None,
        seed=seed,
    )
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
                _loader(train, batches, workers),
                None
                if validation is None
                else _loader(validation, Batches(lambda: 0, len(validation), batch_size), workers),
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
    if validation is not None and not stopped:
        with harness.isolated():
            errors = _judge(model, given)
    seconds = time.monotonic() - began
    result = Finetuned(history.table(), history.epoch, seconds, stopped, errors, kept)
    return _keep(model, home, result)


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


def _check_classes(found: Sequence[int], config: Any) -> None:
    """Refuse training labels that the model does not know, and labels of one class, from which nothing is learnt."""
    check_highest(config, max(found))
    if len(found) < 2:
        raise TimoError(
            f"All training labels are of the class {config.classes[found[0]]!r}: there is nothing to tell it from. "
            "Label two classes at least, or split in another way."
        )


def class_weights_of(
    weights: Literal["balanced"] | Sequence[float] | Mapping[str, float] | None,
    counts: np.ndarray,
    classes: Sequence[str],
) -> Tensor | None:
    """Return one weight for each class; `counts` are the training labels of each."""
    if weights is None:
        return None
    if isinstance(weights, str):
        # A class without labels is no target; under label smoothing an enormous weight would make it one.
        weights = list(np.where(counts, counts.sum() / np.maximum(counts, 1) / len(classes), 0.0))
    if isinstance(weights, Mapping):
        if set(weights) != set(classes):
            raise TimoError(
                f"class_weights must name the classes {list(classes)}, each once; got {list(weights)}."
            )
        weights = [weights[name] for name in classes]
    if len(weights) != len(classes):
        raise TimoError(
            f"{len(classes)} classes need {len(classes)} class_weights, one for each; got {list(weights)}."
        )
    if not any(weight > 0 and count for weight, count in zip(weights, counts, strict=True)):
        raise TimoError(
            f"class_weights {list(weights)} leave nothing to learn: a class that has labels needs a weight above 0."
        )
    return torch.tensor(weights, dtype=torch.float32)


def _loader(chips: Any, batches: Batches, workers: int = 0) -> DataLoader:
    # With a generator of its own: a loader draws a number even when it does not shuffle, and would shift those of the
    # dropout in a resumed run.
    return DataLoader(
        Numbered(chips),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),
    )


def _judge(model: TiMo, given: Given) -> HeldOutErrors | None:
    """Judge a split inside places, of classes of pixels, where the most pixels validate."""
    config, split = model.config, given.split
    if config.task != "segmentation" or split is None or split.whole is not None:
        return None
    inside = [int(i) for i in given.some(VALIDATION) if not isinstance(split.part(i), int)]
    if not inside:
        return None
    most = max(inside, key=lambda i: len(given.labels(i, VALIDATION)))
    cube, labels = given.places.open(most)
    part = split.part(most)
    assert isinstance(part, xr.DataArray)
    assert labels is not None
    part = part.assign_coords(y=labels.y, x=labels.x).assign_attrs(block_m=split.block_m)
    return judge_split(model, cube, labels, part)


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
    labels = labels.isel(window)
    labels = labels.isel(time=dates) if "time" in labels.dims else labels
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
    seen = cube.notnull().any(("band", "y", "x")).values  # noqa: PD004 - of xarray
    if "time" in labels.dims:
        seen &= (labels != UNLABELLED).any(("y", "x")).values
    dates = np.flatnonzero(seen)
    pixels = cube.sizes["y"] * cube.sizes["x"]
    wanted = int(np.clip(_MOST_VALUES // pixels, 1, _DATES))
    chosen = np.linspace(0, len(dates) - 1, min(wanted, len(dates))).round().astype(int)
    return [int(date) for date in dates[chosen]] if len(dates) else [0]
