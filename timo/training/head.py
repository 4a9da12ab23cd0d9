"""Few-click mapping: a frozen encoder, a few labelled pixels, and a head that learns from them in seconds."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from timo.cancel import Stop, is_stopped
from timo.checks import Count, NotNegative, Positive, Seed, checked
from timo.compute import OnStep, Steps
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError, warn
from timo.models.frames import Frames
from timo.models.heads import Detail, SegmentationHead, enlarge
from timo.models.pixel import PixelModel
from timo.models.tasks import TiMo
from timo.places import Places
from timo.training.answers import last_label
from timo.training.features import FREE, Features, Tile, head_of
from timo.training.inputs import evaluating, gather, learning
from timo.training.regression import fit_rows, rows_of

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
    features : Features or list of Features
        Give them to the next call, with other labels; ``features.predict(model)`` is the new map. Of places, one each.
    history : DataFrame
        One row a step: step, loss.
    pixels : dict of str to int
        Labelled pixels of each class that were learnt from.
    seconds : float
        Wall time of this call; `feature_seconds` of it went into features that were not given.
    stopped : bool
        Whether `stop` ended it before its end.
    """

    features: Features | list[Features]
    history: pd.DataFrame
    pixels: dict[str, int]
    seconds: float
    feature_seconds: float
    stopped: bool = False


@dataclass(frozen=True)
class Samples:
    """Labelled pixels of a window of dates, as the full-resolution part of a head reads them.

    A frame (f) is a date; of several sensors, a date of one of them, and `of` says which.
    """

    coarse: Float[Tensor, "f p d"]
    patches: list[
        Float[Tensor, "t p _c 5 5"]
    ]  # the image of each sensor and its validity around each pixel
    values: Float[Tensor, "1 t c 1 p"]
    dates: Float[Tensor, "1 t"]
    labels: Int[Tensor, "t p"]
    valid: Bool[Tensor, "t *g p"]
    of: Frames | None


@checked(cube="data")
def fit_head(
    model: TiMo,
    data: xr.DataArray | Places,
    labels: xr.DataArray | None = None,
    *,
    features: Features | Sequence[Features] | None = None,
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
    path, its merging with the enlarged features, the pooling over the dates of a model of the series, the classifier,
    and the path of single pixels, which for an answer at each date is fitted as a regression.
    Only labelled pixels are gone through, with every class counting the same. The same call gives the same weights.
    Labels without dates are true on all dates on which the pixel was observed.

    Parameters
    ----------
    model : TiMo
        A segmentation model on the CPU, e.g. ``load_model("timo-tiny", cube, classes)``, whose encoder is pretrained.
    data : xarray.DataArray or Places
        The cube, with the bands of the model; or places with labels, which are loaded into memory.
    labels : xarray.DataArray, optional
        Of a cube: (y, x) or (time, y, x) integers, -1 = unlabelled; two classes at least.
    features : Features, or of places a list with those of each, optional
        Of this model and these data, from an earlier call. None: they are computed.
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
        If data, labels, model and features do not fit each other (features of a cube that has changed since are
        refused), a band has no observation at all, fewer than two classes are labelled on observed dates, or an option
        makes no sense.
    CancelledError
        If `stop` said so before the first step: the model is what it was.

    Warns
    -----
    UserWarning
        If the encoder has learnt nothing: its weights are still random.
    """
    if model.config.task != "segmentation":
        raise TimoError(
            f"fit_head trains segmentation models; this one is for {model.config.task}. Use timo.finetune."
        )
    places = gather(model, data, labels, None).places
    _warn_of_random(model)
    started = time.monotonic()
    if features is None:
        every = [
            Features(model, places.open(i)[0], stop=stop, on_step=on_step)
            for i in range(len(places))
        ]
    else:
        every = _check_features(features, model, places)
    ready = time.monotonic()
    noted = [places.view(i).labels for i in range(len(places))]
    given, pixels = _choose(noted, every, model.config.classes, most_pixels, seed)
    samples = [
        some
        for one, which in zip(every, given, strict=True)
        for tile in one.tiles
        for some in _samples(model, one, tile, which)
    ]
    if model.pixel is not None and model.pixel.is_regression:
        _fit_pixels(model.pixel, samples, seed)
    rates = (learning_rate, weight_decay)
    model.has_learnt = True
    history = _learn(
        model, samples, steps=steps, rates=rates, seed=seed, stop=stop, on_step=on_step
    )
    return FittedHead(
        every if isinstance(data, Places) else every[0],
        history,
        pixels,
        time.monotonic() - started,
        ready - started,
        len(history) < steps,
    )


def _fit_pixels(pixels: PixelModel, samples: list[Samples], seed: int) -> None:
    """Fit the regression of single pixels; all dates of a pixel are one group."""
    rows, groups, count = [], [], 0
    for one in samples:
        observed = one.valid.any(dim=1) if one.valid.ndim == 3 else one.valid
        labels = one.labels.masked_fill(~observed, UNLABELLED)
        rows.append(rows_of(pixels, one.values[0], one.dates[0], None, labels[:, None]))
        number = torch.arange(labels.shape[1]).expand(labels.shape) + count
        groups.append(number[labels != UNLABELLED].numpy())
        count += labels.shape[1]
    features, truth = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    fit_rows(pixels, features, truth, np.concatenate(groups), seed)


def _warn_of_random(model: TiMo) -> None:
    """Warn of an encoder whose norms are all as they were made: the first step of a training moves them."""
    norms = [m for m in model.encoder.modules() if type(m).__name__.endswith("Norm")]
    scales = [p for norm in norms for p in norm.parameters(recurse=False)]
    if not scales or any(bool((p != p.flatten()[0].round()).any()) for p in scales):
        return
    initial = model.config.initial_weights or "not written down"
    warn(
        f"The encoder is random (initial weights: {initial}), and fit_head freezes it: the head learns from features "
        "that mean little. Train all of it, timo.finetune(model, cube, labels), or start from pretrained weights: "
        "pretrained=True in timo.load_model, where there are some, or the folder of timo.pretrain."
    )


def _check_features(
    features: Features | Sequence[Features], model: TiMo, places: Places
) -> list[Features]:
    every = [features] if isinstance(features, Features) else list(features)
    if len(every) != len(places):
        raise TimoError(
            f"There are {len(places)} places and features of {len(every)}: give those of each, or leave features out."
        )
    for number, one in enumerate(every):
        one.check(model, places.open(number)[0])
    return every


def _choose(
    labels: Sequence[Int[np.ndarray, "*t y x"]],
    features: Sequence[Features],
    classes: tuple[str, ...],
    most: int,
    seed: int,
) -> tuple[list[Int[np.ndarray, "t y x"]], dict[str, int]]:
    """Return labels of each date, -1 where unlabelled, unobserved or not drawn, and the pixels of each class."""
    given = [
        np.where(one.observed, noted, np.int16(UNLABELLED))
        for one, noted in zip(features, labels, strict=True)
    ]
    latest = [last_label(torch.from_numpy(one)[None])[0].numpy() for one in given]
    every = np.concatenate([one.ravel() for one in latest])
    kept, pixels, rng = np.zeros(every.shape, bool), {}, np.random.default_rng(seed)
    for number, name in enumerate(classes):
        places = np.flatnonzero(every == number)
        if len(places) > most:
            places = rng.choice(places, most, replace=False)
        kept[places] = True
        pixels[name] = len(places)
    if sum(count > 0 for count in pixels.values()) < 2:
        got = ", ".join(f"{name}: {count}" for name, count in pixels.items())
        raise TimoError(
            f"At least two classes need labelled pixels that were observed on some date; got {got}. Label more."
        )
    ends = np.cumsum([one.size for one in latest])
    chosen = zip(given, latest, np.split(kept, ends[:-1]), strict=True)
    return [np.where(k.reshape(at.shape), g, UNLABELLED) for g, at, k in chosen], pixels


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
    at = (rows + top, columns + left)
    for window in tile.windows:
        some = torch.from_numpy(labels[window.dates].astype("int64"))
        if not (some != UNLABELLED).any():
            continue
        frames, image, valid = features.inputs(model, tile, window)
        coarse = enlarge(frames, valid.shape[-2:], model.config.encoder.token)[..., *at].permute(
            0, 2, 1
        )
        flags = valid[0] if valid.ndim == 5 else valid[0][:, None]
        parts = zip(image[0].split(features.groups, 1), flags.split(1, 1), strict=True)
        patches = [_patches(torch.cat([x, seen.to(x.dtype)], dim=1), at) for x, seen in parts]
        of = Frames.of(valid) if valid.ndim == 5 else None
        if of is not None:
            pixels = {
                name: getattr(of, name)[..., *at].unsqueeze(-1) for name in ("valid", "observed")
            }
            of = replace(of, **pixels)
        x = torch.from_numpy(features.values(tile.place)[window.dates][..., *at])[
            None, ..., None, :
        ]
        days = features.days(window)
        yield Samples(coarse.contiguous(), patches, x, days, some, valid[0][..., *at], of)


def _patches(pixels: Float[Tensor, "t c h w"], at: tuple[Any, ...]) -> Tensor:
    """Return what lies around some pixels, (t p c 5 5); beyond the edge of the tile zero, as for the convolutions."""
    size = 2 * REACH + 1
    around = F.pad(pixels, (REACH,) * 4).unfold(2, size, 1).unfold(3, size, 1)
    return around[:, :, *at].permute(0, 2, 1, 3, 4).contiguous()


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
    parts = [part for name in FREE if (part := getattr(head, name, None)) is not None]
    if model.pixel is not None and not model.pixel.is_regression:
        parts.append(model.pixel)
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
            every = [torch.cat(scores)]
            if model.pixel in parts:
                every.append(torch.cat([_pixel_scores(model, samples) for samples in batch]))
            each = [
                F.cross_entropy(one, torch.cat(labels), weight=weights, ignore_index=UNLABELLED)
                for one in every
            ]
            loss = torch.stack(each).sum()
            losses.append(float(loss.detach()) / len(each))
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
    frames, of = len(samples.coarse), samples.of
    coarse = samples.coarse if kept is None else samples.coarse * kept
    full = coarse.flatten(0, 1)[..., None, None]
    if head.merge is not None:
        full = head.merge(torch.cat([full, _fine(head, samples)], dim=1))
    if head.over_dates is None:
        scores = head.classifier(full)
        if of is not None:
            by_frame = rearrange(scores, "(f p) k 1 1 -> 1 f k p 1", f=frames)
            scores = rearrange(of.mean_by_date(by_frame), "1 t k p 1 -> (t p) k 1 1")
        return scores[..., 0, 0], samples.labels.flatten()
    series = rearrange(full, "(f p) d 1 1 -> 1 f d p 1", f=frames)
    valid = samples.valid[None, ..., None] if of is None else of.valid
    pooled = head.over_dates(series, valid)
    return head.classifier(pooled)[0, ..., 0].T, last_label(samples.labels[None, ..., None])[
        0, :, 0
    ]


def _pixel_scores(model: TiMo, samples: Samples) -> Float[Tensor, "n k"]:
    """Return the scores (n, k) of all labelled pixels of the series by themselves."""
    assert model.pixel is not None
    scores = model.pixel(samples.values, samples.dates)
    return rearrange(scores, "1 k 1 p -> p k")


def _fine(head: SegmentationHead, samples: Samples) -> Float[Tensor, "n d 1 1"]:
    """Return the features of the full-resolution path, pixel by pixel of each frame."""
    assert head.detail is not None
    details = [head.detail, *getattr(head, "details", ())]
    if samples.of is None:
        return _unpadded(head.detail, samples.patches[0].flatten(0, 1))
    # As images: the patches of all pixels one below the other.
    images = [rearrange(x, "t p c i j -> 1 t c (p i) j") for x in samples.patches]
    fine = samples.of.each(images, [_on_patches(detail) for detail in details])
    return rearrange(fine, "1 f d p 1 -> (f p) d 1 1")


def _on_patches(detail: Detail) -> Callable[[Tensor], Tensor]:
    def run(images: Float[Tensor, "m c pi j"]) -> Float[Tensor, "m d p 1"]:
        patches = rearrange(images, "m c (p i) j -> (m p) c i j", i=2 * REACH + 1)
        return rearrange(_unpadded(detail, patches), "(m p) d 1 1 -> m d p 1", m=len(images))

    return run


def _unpadded(detail: Detail, fine: Float[Tensor, "n c 5 5"]) -> Float[Tensor, "n d 1 1"]:
    """Run the convolutions without a border: of each patch, the middle is left."""
    for layer in detail.layers:
        weight = layer.get_submodule("0").get_parameter("weight")
        fine = F.conv2d(fine, weight)
        for further in list(layer.children())[1:]:
            fine = further(fine)
    return fine


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
