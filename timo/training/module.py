"""What one training step is: the Lightning module of fine-tuning."""

from dataclasses import dataclass
from typing import Any

import lightning
import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from timo.errors import TimoError
from timo.models.tasks import TiMo
from timo.training.chips.chip import UNLABELLED

# What the names of the encoder's weights begin with.
ENCODER = "encoder."


@dataclass(frozen=True)
class Optimisation:
    """How the weights are moved.

    Parameters
    ----------
    learning_rate : float
        Peak of the one-cycle schedule.
    encoder_rate : float
        Learning rate of the encoder, relative to that of the head. Under 1, a pretrained encoder keeps more of what it
        knows while the head, which is new, learns to read it; 0 freezes it. Worth trying where labels are few
        (`notebooks/pretrain_mim.ipynb`).
    weight_decay : float
        Of AdamW, for matrices and kernels; biases and norms are not decayed.
    gap_weight : float
        Weight of the loss where a date has no valid observation: the model must fill from the rest, but is judged first
        by what it sees.
    label_smoothing : float
        Share of each label given to the other classes: labels are never all true.

    Raises
    ------
    TimoError
        If a number is out of its range.
    """

    learning_rate: float = 1e-3
    encoder_rate: float = 1.0
    weight_decay: float = 0.05
    gap_weight: float = 0.2
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not (
            self.learning_rate > 0
            and min(self.encoder_rate, self.weight_decay, self.gap_weight) >= 0
        ):
            raise TimoError(
                "the learning rate must be positive, encoder_rate, weight_decay and gap_weight 0 or more, got "
                f"{self}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise TimoError(
                f"label_smoothing is at least 0 and under 1, got {self.label_smoothing}"
            )


def segmentation_loss(
    scores: Float[Tensor, "b ..."],
    labels: Int[Tensor, "b t h w"],
    valid: Tensor,
    optimisation: Optimisation,
    class_weights: Tensor | None = None,
) -> Float[Tensor, ""]:
    """Mean cross entropy over the labelled pixels, per date or of the series.

    Scores (b, t, k, h, w) are judged date by date, and count `gap_weight` where there is no valid observation. Scores
    without a time axis, (b, k, h, w), are judged by the last label of each pixel that is one. Zero without any label.
    Class weights multiply the losses and are no part of what the mean divides by.
    """
    weight = torch.where(valid, 1.0, optimisation.gap_weight)
    if scores.ndim == 4:
        labels, weight = last_label(labels), torch.ones_like(labels[:, 0], dtype=scores.dtype)
    else:
        scores, labels, weight = scores.flatten(0, 1), labels.flatten(0, 1), weight.flatten(0, 1)
    losses = F.cross_entropy(
        scores,
        labels,
        weight=class_weights,
        ignore_index=UNLABELLED,
        reduction="none",
        label_smoothing=optimisation.label_smoothing,
    )
    weight = weight * (labels != UNLABELLED)
    # A batch without labels gives a loss of zero, not a NaN.
    return (losses * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def last_label(labels: Int[Tensor, "b t h w"]) -> Int[Tensor, "b h w"]:
    """Latest label of each pixel, -1 where it has none."""
    latest = labels[:, 0]
    for t in range(1, labels.shape[1]):
        latest = torch.where(labels[:, t] != UNLABELLED, labels[:, t], latest)
    return latest


class FinetuneModule(lightning.LightningModule):
    """Supervised segmentation of chips.

    Parameters
    ----------
    model : TiMo
        The model; it is trained in place.
    optimisation : Optimisation
        How the weights are moved.
    class_weights : Tensor, optional
        Weight of each class in the loss.
    """

    def __init__(
        self, model: TiMo, optimisation: Optimisation, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model, self.optimisation = model, optimisation
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        classes = len(model.config.classes)
        self.metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro", ignore_index=UNLABELLED),
                "f1": MulticlassF1Score(classes, average="macro", ignore_index=UNLABELLED),
            },
            prefix="validation_",
        )

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        scores = self.model(batch["x"], batch["dates"], batch["valid"])
        loss = segmentation_loss(
            scores, batch["labels"], batch["valid"], self.optimisation, self.class_weights
        )
        return loss, scores

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Loss of a batch."""
        loss, _scores = self._loss(batch)
        size = len(batch["x"])
        self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size)
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Loss and metrics of a batch."""
        loss, scores = self._loss(batch)
        labels = batch["labels"]
        labels = last_label(labels) if scores.ndim == 4 else labels
        self.metrics.update(scores.argmax(dim=-3), labels)
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch["x"]))
        self.log_dict(self.metrics, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, one cycle."""
        groups = self._groups()
        optimiser = torch.optim.AdamW(groups)
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        # A tenth of ten steps would be a warm-up of length zero, by which torch divides.
        warm_up = 0.1 if steps > 10 else 0.3
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [group["lr"] for group in groups], total_steps=steps, pct_start=warm_up
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by what is done to them."""
        options = self.optimisation
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                continue
            part = options.encoder_rate if name.startswith(ENCODER) else 1.0
            decay = options.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((part, decay), []).append(parameter)
        return [
            {"params": parameters, "lr": options.learning_rate * part, "weight_decay": decay}
            for (part, decay), parameters in groups.items()
        ]
