"""Answers of a model beside the labels: losses and figures for classes and values of pixels, chips and parcels."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from timo.cube.labels import UNLABELLED
from timo.models.tasks import unit_of

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Answers:
    """Scores with the axis of the classes second, the label of each and the weight that it has in the loss.

    Values have 1 or 3 scores, in standardised units: the value, and the ends of its interval.
    """

    scores: Float[Tensor, "n k *s"]
    labels: Tensor
    weight: Float[Tensor, "n *s"]

    def mean(self, losses: Float[Tensor, "n *s"]) -> Float[Tensor, ""]:
        """Return the weighted mean of the losses of what is labelled; zero where nothing is, not NaN."""
        weight = self.weight * is_labelled(self.labels)
        return (losses * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def is_labelled(labels: Tensor) -> Bool[Tensor, "*s"]:
    """Return where there is a label: classes are whole numbers, values are not NaN."""
    return labels.isfinite() if labels.is_floating_point() else labels != UNLABELLED


def last_label(labels: Tensor) -> Tensor:
    """Return the latest label of each series, (b, t, ...) -> (b, ...); unlabelled where it has none."""
    latest = labels[:, 0]
    for t in range(1, labels.shape[1]):
        latest = torch.where(is_labelled(labels[:, t]), labels[:, t], latest)
    return latest


def seen(valid: Tensor) -> Bool[Tensor, "b t h w"]:
    """Return where any group of bands was observed, from (b, t, h, w) or (b, t, g, h, w)."""
    return valid.any(dim=2) if valid.ndim == 5 else valid


def only_observed(batch: Batch, per_date: bool) -> Batch:
    """Return a batch without the labels of what was not observed: of a date, or of all dates of a series."""
    observed = seen(batch["valid"])
    labels = batch["labels"]
    if labels.ndim == 2:
        observed = observed.flatten(2).any(dim=-1)
    if not per_date:
        observed = observed.any(dim=1, keepdim=True)
    unlabelled = torch.nan if labels.is_floating_point() else UNLABELLED
    return batch | {"labels": labels.masked_fill(~observed, unlabelled)}


def answers(scores: Tensor, batch: Batch, config: Any, gap_weight: float = 1.0) -> Answers:
    """Return the answers of a model to a batch.

    Scores of each date are judged date by date, and count `gap_weight` where there is no observation. Scores of the
    series are judged by the last label of each pixel, chip or parcel.
    """
    if unit_of(config) == "parcel":
        return Parcels.of(scores, batch).answers()
    labels, observed = batch["labels"], seen(batch["valid"])
    if labels.ndim == 2:
        observed = observed.flatten(2).any(dim=-1)
    if not config.per_date:
        last = last_label(labels)
        return Answers(scores, last, torch.ones_like(last, dtype=scores.dtype))
    weight = torch.where(observed, 1.0, gap_weight)
    return Answers(scores.flatten(0, 1), labels.flatten(0, 1), weight.flatten(0, 1))


@dataclass(frozen=True)
class Parcels:
    """Sums over the pixels of parcels, of which tiles of a place may each hold a part; `key` is the same for all parts.

    `votes` are the labelled pixels of each class; of values, the sum of the labels and their number.
    """

    key: Int[Tensor, " n"]
    scores: Float[Tensor, "n k"]
    pixels: Tensor
    votes: Tensor
    values: bool

    @classmethod
    def of(cls, scores: Float[Tensor, "b k h w"], batch: Batch) -> "Parcels":
        """Sum up the observed pixels of the parcels of a batch; "place" numbers the places of its chips."""
        parcels = batch["parcels"].long()
        number = batch.get("place", torch.arange(len(parcels), device=parcels.device))
        key = (number[:, None, None] << 32) + parcels
        inside = (parcels >= 0) & seen(batch["valid"]).any(dim=1)
        labels = last_label(batch["labels"])[inside]
        votes = _votes(labels, scores.shape[1])
        rows = scores.movedim(1, -1)[inside]
        ones = torch.ones_like(rows[:, :1])
        each = cls(key[inside], rows, ones, votes.to(rows.dtype), labels.is_floating_point())
        return each.merged()

    @classmethod
    def joined(cls, parts: "list[Parcels]") -> "Parcels":
        """Return the parcels of several batches, each once."""
        key, scores, pixels, votes = (
            torch.cat([getattr(part, field) for part in parts])
            for field in ("key", "scores", "pixels", "votes")
        )
        return cls(key, scores, pixels, votes, parts[0].values).merged()

    def merged(self) -> "Parcels":
        """Return each parcel once: the sums of its parts."""
        key, place = self.key.unique(return_inverse=True)

        def add(part: Tensor) -> Tensor:
            return part.new_zeros(len(key), part.shape[1]).index_add(0, place, part)

        return Parcels(key, add(self.scores), add(self.pixels), add(self.votes), self.values)

    def answers(self) -> Answers:
        """Return mean scores beside the label of each parcel: the class of most of its pixels, or their mean value."""
        if self.values:
            # No labelled pixel: 0 / 0, which is NaN, and that is unlabelled.
            labels = self.votes[:, 0] / self.votes[:, 1]
        else:
            labels = self.votes.argmax(dim=1)
            labels = labels.masked_fill(self.votes.sum(dim=1) == 0, UNLABELLED)
        return Answers(self.scores / self.pixels, labels, torch.ones_like(self.pixels[:, 0]))


def _votes(labels: Tensor, classes: int) -> Tensor:
    labelled = is_labelled(labels)
    if labels.is_floating_point():
        return torch.stack([torch.where(labelled, labels, 0), labelled.to(labels.dtype)], dim=1)
    return F.one_hot(labels.clamp(min=0), classes) * labelled[:, None]


# --- losses


def class_losses(
    judged: Answers, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Float[Tensor, "n *s"]:
    """Return the cross entropy of each answer; class weights multiply it and are no part of what a mean divides by."""
    return F.cross_entropy(
        judged.scores,
        judged.labels,
        weight=class_weights,
        ignore_index=UNLABELLED,
        reduction="none",
        label_smoothing=smoothing,
    )


def value_losses(
    judged: Answers, mean: float, std: float, interval: float
) -> Float[Tensor, "n *s"]:
    """Return the loss of each value: Huber's, and of the ends of its interval the pinball losses of their quantiles.

    All in standardised units. With an interval of 0.9 the ends are the quantiles 0.05 and 0.95 (Koenker & Bassett 1978,
    Econometrica 46, 33-50).
    """
    labelled = is_labelled(judged.labels)
    target = torch.where(labelled, (judged.labels - mean) / std, 0.0).to(judged.scores.dtype)
    losses = F.smooth_l1_loss(judged.scores[:, 0], target, reduction="none")
    if judged.scores.shape[1] > 1:
        low = (1 - interval) / 2
        for place, quantile in ((1, low), (2, 1 - low)):
            error = target - judged.scores[:, place]
            losses = losses + torch.maximum(quantile * error, (quantile - 1) * error)
    return losses


def losses_of(
    judged: Answers, config: Any, smoothing: float, class_weights: Tensor | None
) -> Float[Tensor, "n *s"]:
    """Return the loss of each answer of a model."""
    if config.task == "regression":
        return value_losses(judged, config.target_mean, config.target_std, config.interval)
    return class_losses(judged, smoothing, class_weights)


# --- figures


class Figures:
    """Loss and figures of a validation: each labelled answer that was observed counts once, whatever its batch."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Begin with zero."""
        config = self.config
        self.values = config.task == "regression"
        count = len(config.classes)
        self.confusion = torch.zeros(count, count, dtype=torch.int64)
        # Of the values: number, squared and absolute errors, labels, squared labels.
        self.sums = torch.zeros(5, dtype=torch.float64)
        self.total, self.weight = 0.0, 0.0

    def add(self, judged: Answers, losses: Tensor) -> None:
        """Count answers of any shape."""
        weight = judged.weight * is_labelled(judged.labels)
        self.total += float((losses * weight).double().sum())
        self.weight += float(weight.double().sum())
        best = judged.scores[:, 0] if self.values else judged.scores.argmax(dim=1)
        if self.values:
            best = best * self.config.target_std + self.config.target_mean
        self.update(best, judged.labels)

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count predicted classes or values beside the labels, of the same shape."""
        known = is_labelled(labels)
        predicted, labels = predicted[known].cpu(), labels[known].cpu()
        if self.values:
            labels = labels.double()
            error = predicted.double() - labels
            parts = (torch.ones_like(error), error**2, error.abs(), labels, labels**2)
            self.sums += torch.stack([part.sum() for part in parts])
            return
        count = len(self.confusion)
        pairs = torch.bincount(labels * count + predicted, minlength=count**2)
        self.confusion += pairs.reshape(count, count)

    def compute(self) -> dict[str, float]:
        """Return the loss, and accuracy and F1 (mean over the classes that occur in the labels), or RMSE, MAE, R2."""
        loss = {"validation_loss": self.total / self.weight if self.weight else math.nan}
        return loss | (self._of_values() if self.values else self._of_classes())

    def _of_classes(self) -> dict[str, float]:
        true, said = self.confusion.sum(dim=1), self.confusion.sum(dim=0)
        right = self.confusion.diagonal()
        f1 = 2 * right / (true + said).clamp(min=1)
        present = true > 0
        return {
            "validation_accuracy": float(right.sum() / true.sum().clamp(min=1)),
            "validation_f1": float(f1[present].mean()) if present.any() else 0.0,
        }

    def _of_values(self) -> dict[str, float]:
        count, squared, absolute, labels, squares = self.sums.tolist()
        count = max(count, 1.0)
        variance = squares - labels**2 / count
        return {
            "validation_rmse": (squared / count) ** 0.5,
            "validation_mae": absolute / count,
            "validation_r2": 1 - squared / variance if variance > 0 else float("nan"),
        }
