"""Fine-tuning: a model, a cube and labels in, a model that knows the labels out."""

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import lightning
import numpy as np
import pandas as pd
import torch
import xarray as xr
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from torch import Tensor
from torch.utils.data import DataLoader

from timo import cube as cubes
from timo.atomic import check_writable
from timo.errors import TimoError
from timo.models.tasks import TiMo
from timo.models.weights import save
from timo.training.chip import UNLABELLED
from timo.training.chips import ChipDataset, ChipOptions, collate
from timo.training.history import History, Progress
from timo.training.module import FinetuneModule, Optimisation

TRAIN, VALIDATION = 0, 1
RESUME = "resume.ckpt"


@dataclass(frozen=True)
class Finetuned:
    """What a fine-tuning did.

    Attributes
    ----------
    history : DataFrame
        One row an epoch: loss, validation_loss, validation_accuracy, validation_f1 (mean over the classes), seconds.
    epoch : int
        Epoch whose weights the model holds: the one of the lowest validation loss, the last without validation.
    seconds : float
        Wall time.
    """

    history: pd.DataFrame
    epoch: int
    seconds: float


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
) -> Finetuned:
    """Train a model on the labelled pixels of a cube, in place.

    Parameters
    ----------
    model : TiMo
        A segmentation model, from `timo.load_model`. It ends with the best weights, in evaluation mode.
    cube : xarray.DataArray
        The cube, with the bands of the model.
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
        Weight of each class in the loss; "balanced": inverse to the class's share of the training labels. Chips are
        drawn with every class equally often already.
    averaging : float, optional
        Decay, per step, of the moving average of the weights that is validated and kept; None: the weights themselves.
    patience : int, optional
        Stop after so many epochs without a lower validation loss.
    seed : int
        Seed of the draw of the chips, the dropout and the stochastic depth. The same seed on the same machine gives the
        same weights.
    folder : path, optional
        Where to write ``history.csv``, the resume checkpoint and, at the end, ``model/``.
    resume : bool
        Go on from the resume checkpoint in `folder` if there is one.
    progress : bool
        Show a progress bar.
    callbacks : sequence of lightning.Callback
        Further callbacks.

    Returns
    -------
    Finetuned
        The history.

    Raises
    ------
    TimoError
        If cube, labels, split or model do not fit each other, no pixel is left to train on, or the folder cannot be
        written.
    """
    if resume and folder is None:
        raise TimoError("resume needs the folder of the run that is to go on: give folder=...")
    if epochs < 1 or chips_per_epoch < 1 or batch_size < 1:
        raise TimoError(
            f"epochs, chips_per_epoch and batch_size must be at least 1, got {epochs}, {chips_per_epoch} and "
            f"{batch_size}"
        )
    cubes.check(cube)
    cubes.check_labels(labels, cube)
    _check_model(model, cube, labels)
    home = check_writable(folder) if folder is not None else None
    options = chips or ChipOptions()
    train, validation = _datasets(
        cube, labels, split, length=chips_per_epoch, options=options, seed=seed
    )
    started = time.monotonic()
    lightning.seed_everything(seed, verbose=False)
    weights = _class_weights(class_weights, train.labels, len(model.config.classes))
    module = FinetuneModule(model, optimisation or Optimisation(), weights)
    history = History(train)
    loader = _loader(train, batch_size)
    validation_loader = _loader(validation, batch_size) if validation else None
    checkpoint = home / RESUME if home and resume and (home / RESUME).exists() else None
    model.train()
    with _quiet():
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=epochs,
            logger=False,
            callbacks=[
                history,
                *([EMAWeightAveraging(decay=averaging)] if averaging else []),
                *_stopping(patience, validation),
                *([_resume_checkpoint(home)] if home else []),
                *([Progress(epochs)] if progress else []),
                *callbacks,
            ],
            enable_checkpointing=home is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=1.0,
            num_sanity_val_steps=0,
            deterministic="warn",
        )
        trainer.fit(module, loader, validation_loader, ckpt_path=checkpoint, weights_only=True)
    if history.best is not None:
        model.load_state_dict(history.best)
    model.to("cpu").eval()
    result = Finetuned(history.table(), history.best_epoch, time.monotonic() - started)
    if home:
        result.history.to_csv(home / "history.csv", index=False)
        save(model, home / "model")
        (home / RESUME).unlink(missing_ok=True)
    return result


def _check_model(model: TiMo, cube: xr.DataArray, labels: xr.DataArray) -> None:
    config = model.config
    if config.task != "segmentation":
        raise TimoError(f"finetune trains segmentation models, this one is for {config.task}")
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


def _datasets(
    cube: xr.DataArray,
    labels: xr.DataArray,
    split: xr.DataArray | None,
    *,
    length: int,
    options: ChipOptions,
    seed: int,
) -> tuple[ChipDataset, ChipDataset | None]:
    """Chips to train on, and unaltered ones to validate on."""
    if split is None:
        return ChipDataset(cube, labels, length, options, seed), None
    cubes.check_labels(split.astype("int8"), cube)
    parts = {part: labels.where(split == part, UNLABELLED).astype("int64") for part in (0, 1)}
    if not (parts[TRAIN] >= 0).any():
        raise TimoError(
            "no labelled pixel is left to train on: the split has no 0 where there are labels"
        )
    train = ChipDataset(cube, parts[TRAIN], length, options, seed)
    if not (parts[VALIDATION] >= 0).any():
        return train, None
    plain = replace(options, rotate=False, hide=0.0, splice=0.0)
    return train, ChipDataset(cube, parts[VALIDATION], max(length // 5, 8), plain, seed)


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
        weights = list(counts.sum() / np.maximum(counts, 1) / classes)
    if len(weights) != classes or min(weights) < 0:
        raise TimoError(f"{classes} classes need {classes} weights of 0 or more, got {weights}")
    return torch.tensor(weights, dtype=torch.float32)


def _loader(dataset: ChipDataset, batch_size: int) -> DataLoader:
    # In the main process: a chip takes a millisecond, and the epoch number reaches the dataset.
    return DataLoader(dataset, batch_size=batch_size, collate_fn=collate)


def _stopping(patience: int | None, validation: ChipDataset | None) -> list[Callback]:
    if patience is None:
        return []
    if validation is None:
        raise TimoError(
            "patience needs validation pixels: give a split with 1 where to validate, see timo.cube.split_blocks"
        )
    return [EarlyStopping("validation_loss", patience=patience)]


def _resume_checkpoint(home: Path) -> Callback:
    return ModelCheckpoint(
        dirpath=home,
        filename=Path(RESUME).stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice on hardware and workers: the user did not ask, and the chips need none."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for advice in ("does not have many workers", "Checkpoint directory .* exists", "LeafSpec"):
            warnings.filterwarnings("ignore", message=f".*{advice}.*")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
