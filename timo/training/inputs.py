"""What a training is given: a cube in memory, labels and a split on its grid, a model that can learn them."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from timo import cube as cubes
from timo.cancel import Stop
from timo.checks import described
from timo.errors import TimoError
from timo.models.tasks import Segmenter, config_of
from timo.sources.fetching import fetch


def load(cube: xr.DataArray, stop: Stop | None) -> xr.DataArray:
    """Bring a cube into memory; raise `CancelledError` once `stop` says so."""
    at_once = stop is None or cube.chunks is None
    return cube.compute() if at_once else fetch(cube, progress=False, stop=stop)


def check_model(model: Segmenter, cube: xr.DataArray, labels: xr.DataArray) -> None:
    """Refuse a model that cannot learn these labels on this cube."""
    config = config_of(model)
    bands = tuple(str(band) for band in cube.band.values)
    if bands != config.bands:
        raise TimoError(
            f"The model reads the bands {config.bands}, the cube has {bands}. Use "
            f"cube.sel(band={list(config.bands)}), or load a model with cube=cube."
        )
    names = labels.attrs.get("classes")
    if names is not None and tuple(names) != config.classes:
        raise TimoError(
            f"The labels' classes are {tuple(names)}, the model's {config.classes}. Load the model with "
            "classes=labels.attrs['classes']."
        )
    highest = int(labels.max())
    if highest >= len(config.classes):
        raise TimoError(
            f"The labels go up to class {highest}, the model has {len(config.classes)} classes: "
            f"{config.classes}. Load a model with all classes of the labels."
        )


def check_split(split: Any, cube: xr.DataArray, what: str = "split") -> np.ndarray:
    """Return the numbers of a split, 0 = training and 1 = validation, or the truth values of a mask."""
    fits = isinstance(split, xr.DataArray) and split.dims == ("y", "x")
    if not fits or split.dtype.kind not in "biu":
        got = f"{split.dtype} with the dims {split.dims}" if hasattr(split, "dims") else ""
        raise TimoError(
            f"The {what} must be an xarray.DataArray with the dims (y, x), in integers (0 = training, 1 = validation, "
            f"all else is not touched) or truth values; got {got or described(split)}. See timo.cube.split_blocks."
        )
    try:
        # Zeros: what must fit is the grid alone, and a split may hold numbers that no label has.
        cubes.check_labels(xr.zeros_like(split, dtype="int8"), cube)
    except TimoError as error:
        raise TimoError(f"The {what} must be on the cube's grid, like labels. {error}") from error
    return np.asarray(split.values)


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


def digest(*arrays: xr.DataArray) -> str:
    """Return a short name for what the arrays hold."""
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(f"{array.dims}{array.shape}{array.dtype}".encode())
        # Band names are of any string type; all else is numbers, hashed where they lie.
        values = np.ascontiguousarray(array.values).reshape(-1)
        numbers = values.dtype.kind in "biufM"
        hashed.update(values.view("uint8").data if numbers else repr(values.tolist()).encode())
    return hashed.hexdigest()[:16]
