"""What a training is given: places with labels and their split, and a model that can learn them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from timo import cube as cubes
from timo.cancel import Stop
from timo.errors import TimoError
from timo.models.tasks import Segmenter, config_of, unit_of
from timo.places import Places
from timo.places.place import is_labelled
from timo.places.places import places_of
from timo.places.source import check_units, digest
from timo.places.split import By, Split, split_of
from timo.training.windows import Windows

TRAIN, VALIDATION = 0, 1
# Share of the machine's memory up to which places on disk are read at once: chips are then drawn from memory.
MEMORY = 0.25
# Places, or chips, that are looked at to learn how large all are, or whether anything was observed.
_FEW = 8
# Places whose labels are looked at for shares of classes and for the spread of values; of more, as many are drawn.
_MANY = 2000


@dataclass(frozen=True)
class Given:
    """Places with labels, and which of them, or of their pixels, train; all, without a split."""

    places: Places
    split: Split | None = None

    def numbers(self, part: int) -> np.ndarray:
        """Return the numbers of the places that belong to a part, or some of whose pixels do."""
        if self.split is None:
            return np.arange(len(self.places) if part == TRAIN else 0)
        if self.split.whole is not None:
            return np.flatnonzero(self.split.whole == part)
        found = (np.any(np.asarray(self.part(i)) == part) for i in range(len(self.places)))
        return np.flatnonzero(list(found))

    def part(self, number: int) -> int | xr.DataArray:
        """Return the part of a place, or (y, x) those of its pixels."""
        return TRAIN if self.split is None else self.split.part(number)

    def labels(self, number: int, part: int) -> np.ndarray:
        """Return all labels of a place that belong to a part, in one row."""
        labels = self.places.view(number).labels
        if labels is None:
            return np.zeros(0, "int16")
        belongs = self.part(number)
        if isinstance(belongs, int):
            labels = labels if belongs == part else labels[:0]
        elif labels.ndim >= 2:
            labels = labels[..., belongs.values == part]
        return labels[is_labelled(labels)]

    def plan(self) -> dict[str, str]:
        """Return what identifies the data, for a run that is resumed: of one cube in memory, each by its name."""
        split = "" if self.split is None else _split_digest(self.split)
        if len(self.places) > 1 or not self.places.in_memory:
            return {"places": self.places.digest(), "split": split}
        cube, labels = self.places.open(0)
        own = {} if labels is None else {"labels": digest(labels)}
        return {"cube": digest(cube, *(cube[dim] for dim in cube.dims)), "split": split} | own

    def some(self, part: int, most: int = _MANY) -> np.ndarray:
        """Return such numbers, evenly drawn where there are many."""
        numbers = self.numbers(part)
        return numbers[:: -(-len(numbers) // most) or 1]


def gather(
    model: Segmenter,
    data: xr.DataArray | Places,
    labels: xr.DataArray | None,
    split: xr.DataArray | Split | By | None,
) -> Given:
    """Return places, and their split, of what a training was given; refuse what the model cannot learn."""
    config = config_of(model)
    if not isinstance(data, Places):
        cubes.check(data, sensor=config.sensor)
        if labels is None:
            raise TimoError(
                "One cube needs labels: timo.finetune(model, cube, labels), see timo.read_labels."
            )
        cubes.check_labels(labels, data, numeric=config.task == "regression", unit=unit_of(config))
        check_model(model, data, labels)
    places = places_of(data, labels)
    _check_places(config, places)
    return Given(places, split_of(places, split))


def _split_digest(split: Split) -> str:
    if isinstance(split.parts, np.ndarray):
        return digest(xr.DataArray(split.parts))
    parts = (split.part(number) for number in range(len(split)))
    return digest(*(xr.DataArray(part) for part in parts))


def load_places(places: Places, stop: Stop | None) -> Places:
    """Return places in memory, if they take no more than a quarter of it; else, or from a packed store, as they are.

    Raises
    ------
    CancelledError
        Once `stop` says so.
    """
    if places.in_memory or places.packed:
        return places
    few = range(0, len(places), max(len(places) // _FEW, 1))
    size = np.mean([places.open(number)[0].nbytes for number in few]) * len(places)
    if size > MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        return places
    return places.load(stop=stop)


def check_model(model: Segmenter, cube: xr.DataArray, labels: xr.DataArray) -> None:
    """Refuse a model that cannot learn these labels on this cube."""
    config = config_of(model)
    _check_bands(config, tuple(str(band) for band in cube.band.values))
    if config.task == "regression":
        _check_units(config, str(labels.attrs.get("units", "")))
        return
    names = labels.attrs.get("classes")
    if names is not None and tuple(names) != config.classes:
        raise TimoError(
            f"The labels' classes are {tuple(names)}, the model's {config.classes}. Load the model with "
            "classes=labels.attrs['classes']."
        )
    check_highest(config, int(labels.max()))


def check_highest(config: Any, highest: int) -> None:
    """Refuse labels of more classes than the model has."""
    if highest >= len(config.classes):
        raise TimoError(
            f"The labels go up to class {highest}, the model has {len(config.classes)} classes: "
            f"{config.classes}. Load a model with all classes of the labels."
        )


def _check_bands(config: Any, bands: Sequence[str]) -> None:
    if tuple(bands) != config.bands:
        raise TimoError(
            f"The model reads the bands {config.bands}, the cube has {tuple(bands)}. Use "
            f"cube.sel(band={list(config.bands)}), or load a new model for it."
        )


def _check_units(config: Any, units: str) -> None:
    check_units(units, getattr(config, "target_units", ""), "The labels", "the model's values")


def _check_places(config: Any, places: Places) -> None:
    """Refuse places whose bands, classes or kind of labels are not those of the model."""
    _check_bands(config, places.bands)
    if not places.labelled:
        raise TimoError("These places have no labels: give timo.Places([(cube, labels), ...]).")
    head, regression = places.head, config.task == "regression"
    if head.numeric != regression:
        kind = "values to predict" if head.numeric else "classes"
        task = "regression" if head.numeric else "segmentation"
        raise TimoError(
            f"The labels are {kind}, the model is for {config.task}. Load one with task={task!r}."
        )
    if regression:
        _check_units(config, head.units)
    of_chips = len(head.labels or ()) < 2
    if of_chips != (unit_of(config) == "chip"):
        has, unit = ("whole places", "chip") if of_chips else ("pixels", "pixel")
        raise TimoError(
            f"The labels are those of {has}, the model answers for each {unit_of(config)}. Load one with "
            f"unit={unit!r}, or, of series, read them with "
            f"timo.Places.from_series(..., unit={'pixel' if of_chips else 'chip'!r})."
        )
    if head.classes and not regression and head.classes != config.classes:
        raise TimoError(
            f"The places' classes are {head.classes}, the model's {config.classes}. Load the model with "
            "timo.load_model(name, places)."
        )


def check_observed(train: Windows) -> None:
    """Refuse places of which the first chips show no observation: a band that is all NaN takes all pixels out."""
    if any(train[index]["valid"].any() for index in range(min(len(train), _FEW))):
        return
    cube = train.places.open(train.place(0))[0]
    if not cube.variable._in_memory:
        cube = cube.isel(y=slice(64), x=slice(64))
    observed = np.isfinite(cube.values).any(axis=(0, 2, 3))
    lost = [str(band) for band, seen in zip(cube.band.values, observed, strict=True) if not seen]
    kept = [str(band) for band in cube.band.values if str(band) not in lost]
    if not lost or not kept:
        raise TimoError(
            "There is no observation to learn from: no labelled pixel was ever observed in all bands. Open the cube "
            "with more dates, or label other places."
        )
    raise TimoError(
        f"There is no observation to learn from: {', '.join(lost)} is NaN everywhere, and a pixel counts where all "
        f"bands of its sensor were observed. Use cube.sel(band={kept}), and load a model for that."
    )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run a block with a model in evaluation, and leave it as it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def learning(parameters: Iterable[nn.Parameter], learn: bool) -> Iterator[None]:
    """Run a block in which parameters take gradients, or do not, and leave them as they were, without gradients."""
    before = [(parameter, parameter.requires_grad) for parameter in parameters]
    for parameter, _ in before:
        parameter.requires_grad_(learn)
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
            parameter.grad = None
