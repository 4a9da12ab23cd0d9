"""Few-click mapping: a frozen encoder, a few labelled pixels, and a head that learns from them in seconds."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import pandas as pd
import torch
import xarray as xr
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from timo import cube as cubes
from timo.cancel import Stop, is_stopped
from timo.checks import Count, NotNegative, Positive, Seed, checked
from timo.compute import OnStep, Steps
from timo.errors import TimoError
from timo.models.heads import SegmentationHead, enlarge
from timo.models.tasks import TiMo
from timo.training.chips.chip import UNLABELLED
from timo.training.features import FREE, Features, Tile, head_of
from timo.training.inputs import check_model, evaluating, learning
from timo.training.module import last_label

# Two convolutions of 3 x 3: what the full-resolution path sees of a pixel's surroundings, to each side.
REACH = 2
# Share of the coarse features' channels that a step does not see. From few clicks a head learns the place, which they
# show well, rather than what grows there: on the sample, three draws of 20 clicks a class, 94 % of the other pixels
# are right with it and 92 % without.
COARSE_DROPOUT = 0.8
# Labelled pixels and dates of a step: more make it long.
BATCH = 8192


@checked
@dataclass(frozen=True)
class FittedHead:
    """Result of `fit_head`.

    Attributes
    ----------
    features : Features
        Give them to the next call, with other labels; ``features.predict(model)`` is the new map.
    history : DataFrame
        One row a step: step, loss.
    pixels : dict of str to int
        Labelled pixels of each class that were learnt from.
    seconds : float
        Wall time of this call; `feature_seconds` of it went into features that were not given.
    stopped : bool
        Whether `stop` ended it before its end.
    """

    features: Features
    history: pd.DataFrame
    pixels: dict[str, int]
    seconds: float
    feature_seconds: float
    stopped: bool = False


@dataclass(frozen=True)
class Samples:
    """Labelled pixels of a window of dates, as the full-resolution part of a head reads them."""

    coarse: Float[Tensor, "t p d"]
    patches: Float[Tensor, "t p c 5 5"]  # the image and its validity around each pixel
    labels: Int[Tensor, "t p"]
    valid: Bool[Tensor, "t p"]


@checked
def fit_head(
    model: TiMo,
    cube: xr.DataArray,
    labels: xr.DataArray,
    *,
    features: Features | None = None,
    steps: Count = 60,
    learning_rate: Positive = 1e-2,
    weight_decay: NotNegative = 1e-2,
    most_pixels: Count = 1000,
    seed: Seed = 0,
    stop: Stop | None = None,
    on_step: OnStep | None = None,
) -> FittedHead:
    """Train the full-resolution part of a model's head on labelled pixels, in place, with all else frozen.

    For few labels, and for answers in seconds. Of a segmentation head (`timo.models.heads.SegmentationHead`), all that
    is at a resolution of 4 pixels is frozen, and kept in `features`; what is at full resolution learns: the detail
    path, its merging with the enlarged features, the pooling over the dates of a model of the series, the classifier.
    Only labelled pixels are gone through, with every class counting the same. The same call gives the same weights.
    Labels without dates are true on all dates on which the pixel was observed.

    Parameters
    ----------
    model : TiMo
        A segmentation model on the CPU, e.g. ``load_model("timo-tiny", cube, classes)``, whose encoder is pretrained.
    cube : xarray.DataArray
        The cube, with the bands of the model.
    labels : xarray.DataArray
        (y, x) or (time, y, x) integers, -1 = unlabelled; two classes at least.
    features : Features, optional
        Of this model and this cube, from an earlier call. None: they are computed.
    steps : int
        Steps of AdamW.
    learning_rate, weight_decay : float
        Peak of a cosine that falls to 0, and the decay.
    most_pixels : int
        Most labelled pixels of each class to learn from; of more, that many are drawn.
    seed : int
        Seed of these draws, and of the part of the coarse features that each step sees.
    stop : threading.Event or callable, optional
        Asked before each layer of the encoder and before each step. When it says so during the steps, the call returns
        with ``.stopped`` true and the weights of the last one.
    on_step : callable, optional
        Is given a `timo.compute.StepReport` after each step, and after each window of dates that features are made of.

    Returns
    -------
    FittedHead
        With the features.

    Raises
    ------
    TimoError
        If cube, labels, model and features do not fit each other, fewer than two classes are labelled on observed
        dates, or an option makes no sense.
    CancelledError
        If `stop` said so before the first step: the model is what it was.
    """
    cubes.check_labels(labels, cubes.check(cube, sensor=model.config.sensor))
    check_model(model, cube, labels)
    started = time.monotonic()
    if features is None:
        features = Features(model, cube, stop=stop, on_step=on_step)
    else:
        _check_features(features, model, cube)
    ready = time.monotonic()
    given, pixels = _choose(labels, features, model.config.classes, most_pixels, seed)
    samples = [s for tile in features.tiles for s in _samples(model, features, tile, given)]
    rates = (learning_rate, weight_decay)
    history = _learn(
        model, samples, steps=steps, rates=rates, seed=seed, stop=stop, on_step=on_step
    )
    seconds = time.monotonic() - started
    return FittedHead(features, history, pixels, seconds, ready - started, len(history) < steps)


def _check_features(features: Features, model: TiMo, cube: xr.DataArray) -> None:
    features.check(model)
    if not all(np.array_equal(features.cube[dim], cube[dim]) for dim in cube.dims):
        raise TimoError(
            "These features are of another cube, its dates, bands or grid differ. Leave features out, or recompute "
            "them: timo.Features(model, cube)."
        )


def _choose(
    labels: xr.DataArray, features: Features, classes: tuple[str, ...], most: int, seed: int
) -> tuple[Int[np.ndarray, "t y x"], dict[str, int]]:
    """Return labels of each date, -1 where unlabelled, unobserved or not drawn, and the pixels of each class."""
    observed = np.isfinite(features.cube.values).all(axis=1)
    given = np.where(observed, labels.values.astype("int16"), UNLABELLED)
    latest = last_label(torch.from_numpy(given)[None])[0].numpy()
    kept, pixels, rng = np.zeros(latest.shape, bool), {}, np.random.default_rng(seed)
    for number, name in enumerate(classes):
        places = np.flatnonzero(latest == number)
        if len(places) > most:
            places = rng.choice(places, most, replace=False)
        kept.flat[places] = True
        pixels[name] = len(places)
    if sum(count > 0 for count in pixels.values()) < 2:
        got = ", ".join(f"{name}: {count}" for name, count in pixels.items())
        raise TimoError(
            f"At least two classes need labelled pixels that were observed on some date; got {got}. Label more."
        )
    return np.where(kept, given, UNLABELLED), pixels


def _samples(
    model: TiMo, features: Features, tile: Tile, given: Int[np.ndarray, "t y x"]
) -> Iterator[Samples]:
    """Yield the labelled pixels of a tile, window by window; those of its border are another tile's."""
    top, left = tile.place.crop[:2]
    labels = given[(slice(None), *tile.place.inner)]
    rows, columns = np.nonzero((labels != UNLABELLED).any(axis=0))
    if not len(rows):
        return
    labels = labels[:, rows, columns]
    at = (..., rows + top, columns + left)
    for window in tile.windows:
        some = torch.from_numpy(labels[window.dates].astype("int64"))
        if not (some != UNLABELLED).any():
            continue
        frames, image, valid = features.inputs(model, tile, window)
        coarse = enlarge(frames, valid.shape[-2:])[at].permute(0, 2, 1)
        pixels = torch.cat([image[0], valid[0][:, None].to(image.dtype)], dim=1)
        # Beyond the edge of the tile: zero, as for the convolutions.
        size = 2 * REACH + 1
        around = F.pad(pixels, (REACH,) * 4).unfold(2, size, 1).unfold(3, size, 1)
        patches = around[:, :, *at[1:]].permute(0, 2, 1, 3, 4).contiguous()
        yield Samples(coarse.contiguous(), patches, some, valid[0][at])


def _learn(
    model: TiMo,
    samples: list[Samples],
    *,
    steps: int,
    rates: tuple[float, float],
    seed: int,
    stop: Stop | None,
    on_step: OnStep | None,
) -> pd.DataFrame:
    """Move the weights; return the loss of each step."""
    head, (rate, decay) = head_of(model), rates
    # What learns; the model is in evaluation, so that nothing is left to chance.
    parts = [part for name in FREE if (part := getattr(head, name)) is not None]
    parameters = [p for part in parts for p in part.parameters()]
    weights = _class_weights(samples, len(model.config.classes))
    losses: list[float] = []
    counted, generator = Steps(on_step), torch.Generator().manual_seed(seed)
    counted.begin(steps)
    with evaluating(model), torch.enable_grad(), learning(parameters, True):
        optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for batch in islice(cycle(_batches(samples)), steps):
            if is_stopped(stop):
                break
            kept = _kept(head, batch, generator)
            scores, labels = zip(*(_scores(head, samples, kept) for samples in batch), strict=True)
            loss = F.cross_entropy(
                torch.cat(scores), torch.cat(labels), weight=weights, ignore_index=UNLABELLED
            )
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise TimoError(
                    f"The training diverged: the loss is {losses[-1]}. Give a lower learning_rate."
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            counted.step(loss=losses[-1])
    return pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})


def _kept(
    head: SegmentationHead, batch: list[Samples], generator: torch.Generator
) -> Tensor | None:
    """Draw the factor of each coarse channel in a step; None where there is nothing else to learn from."""
    if head.detail is None:
        return None
    channels = batch[0].coarse.shape[-1]
    kept = torch.rand(channels, generator=generator) >= COARSE_DROPOUT
    return kept / (1 - COARSE_DROPOUT)


def _scores(
    head: SegmentationHead, samples: Samples, kept: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return scores (n, k) and labels (n) of all labelled pixels, by date or of the series: the head on pixels."""
    dates = len(samples.labels)
    coarse = samples.coarse if kept is None else samples.coarse * kept
    full = coarse.flatten(0, 1)[..., None, None]
    if head.detail is not None and head.merge is not None:
        fine = samples.patches.flatten(0, 1)
        for layer in head.detail.layers:
            weight = layer.get_submodule("0").get_parameter("weight")
            # Without a border: of the patch, the middle is left.
            fine = F.conv2d(fine, weight)
            for further in list(layer.children())[1:]:
                fine = further(fine)
        full = head.merge(torch.cat([full, fine], dim=1))
    if head.over_dates is None:
        return head.classifier(full)[..., 0, 0], samples.labels.flatten()
    series = rearrange(full, "(t p) d 1 1 -> 1 t d p 1", t=dates)
    pooled = head.over_dates(series, samples.valid[None, ..., None])
    return head.classifier(pooled)[0, ..., 0].T, last_label(samples.labels[None, ..., None])[
        0, :, 0
    ]


def _class_weights(samples: list[Samples], classes: int) -> Tensor:
    """Return weights by which every class counts the same."""
    labels = torch.cat([s.labels[s.labels != UNLABELLED] for s in samples])
    counts = torch.bincount(labels, minlength=classes)
    return torch.where(counts > 0, 1 / counts.clamp(min=1), 0.0)


def _batches(samples: list[Samples]) -> list[list[Samples]]:
    """Share out the windows: all in one batch where the labels are few, otherwise as many as make a step short."""
    batches: list[list[Samples]] = [[]]
    size = 0
    for one in samples:
        if batches[-1] and size + one.labels.numel() > BATCH:
            batches.append([])
            size = 0
        batches[-1].append(one)
        size += one.labels.numel()
    return batches
