"""The steps by which the full-resolution part of a head learns from labelled pixels, and the regression beside it."""

import math
from itertools import cycle, islice

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from timo.cancel import Stop, is_stopped
from timo.compute import OnStep, Steps
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError
from timo.models.heads import SegmentationHead
from timo.models.pixel import PixelModel
from timo.models.tasks import TiMo
from timo.training.features import FREE, head_of
from timo.training.inputs import evaluating, learning
from timo.training.regression import fit_rows, rows_of
from timo.training.samples import Samples, scores_of

# Share of the coarse features' channels that a step does not see. From few clicks a head learns the place, which they
# show well, rather than what grows there: on the sample, three draws of 20 clicks a class, 94 % of the other pixels
# are right with it and 92 % without.
COARSE_DROPOUT = 0.8
# Labelled pixels and dates of a step: more make it long.
BATCH = 8192


def learn(
    model: TiMo,
    samples: list[Samples],
    *,
    steps: int,
    rates: tuple[float, float],
    seed: int,
    stop: Stop | None,
    on_step: OnStep | None,
) -> pd.DataFrame:
    """Fit the regression of single pixels, if there is one, and move the weights; return the loss of each step."""
    pixel = model.pixel
    if pixel is not None and pixel.regression is not None:
        _fit_regression(pixel, samples, seed)
    head, (rate, decay) = head_of(model), rates
    # What learns; the model is in evaluation, so that nothing is left to chance.
    parts = [part for name in FREE if (part := getattr(head, name, None)) is not None]
    if pixel is not None and pixel.network is not None:
        parts.append(pixel.network)
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
            scores, labels = zip(
                *(scores_of(head, samples, kept) for samples in batch), strict=True
            )
            every = [torch.cat(scores)]
            if pixel is not None and pixel.network is not None:
                told = [pixel.attend(samples.values, samples.dates) for samples in batch]
                every.append(torch.cat([rearrange(one, "1 k 1 p -> p k") for one in told]))
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


def _fit_regression(pixel: PixelModel, samples: list[Samples], seed: int) -> None:
    """Fit the regression of single pixels; all dates of a pixel are one group."""
    rows, groups = [], []
    for one in samples:
        read, truth, known = rows_of(pixel, one.values[0], one.dates[0], None, one.labels[:, None])
        rows.append((read, truth))
        groups.append(np.broadcast_to(one.pixels.numpy(), known.shape)[known])
    features, truth = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    fit_rows(pixel, features, truth, np.concatenate(groups), seed)


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
