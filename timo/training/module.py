"""What Lightning calls in a fine-tuning: a step, and the end of an epoch."""

import math
import time
from dataclasses import dataclass
from typing import Annotated, Any

import lightning
import numpy as np
import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from timo.checks import NotNegative, Positive, Range, checked
from timo.models.tasks import TiMo
from timo.training import run as harness
from timo.training.chips import ChipDataset
from timo.training.chips.chip import UNLABELLED


@checked
@dataclass(frozen=True)
class Optimisation:
    """Options of how the weights are moved.

    Parameters
    ----------
    learning_rate : float
        Peak of the one-cycle schedule.
    encoder_rate : float
        Learning rate of the encoder, relative to that of the head. Under 1, a pretrained encoder keeps more of what it
        knows, which may help where labels are few (`notebooks/pretrain_mim.ipynb`); 0 freezes it.
    weight_decay : float
        Of AdamW, for matrices and kernels; biases and norms are not decayed.
    gap_weight : float
        Weight of the loss where a date has no valid observation: the model is judged first by what it sees.
    label_smoothing : float
        Share of each label given to the other classes: labels are never all true.
    """

    learning_rate: Positive = 1e-3
    encoder_rate: NotNegative = 1.0
    weight_decay: NotNegative = 0.05
    gap_weight: NotNegative = 0.2
    label_smoothing: Annotated[float, Range(least=0, below=1)] = 0.0


def segmentation_loss(
    scores: Float[Tensor, "b ..."],
    labels: Int[Tensor, "b t h w"],
    valid: Tensor,
    optimisation: Optimisation,
    class_weights: Tensor | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross entropy over the labelled pixels, per date or of the series.

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
    """Return the latest label of each pixel, -1 where it has none."""
    latest = labels[:, 0]
    for t in range(1, labels.shape[1]):
        latest = torch.where(labels[:, t] != UNLABELLED, labels[:, t], latest)
    return latest


class FinetuneModule(lightning.LightningModule):
    """Supervised segmentation of chips; the model is trained in place."""

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
        """Return the loss of a batch."""
        loss, _scores = self._loss(batch)
        size = len(batch["x"])
        self.log("loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size)
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        """Log loss and metrics of a batch."""
        loss, scores = self._loss(batch)
        labels = batch["labels"]
        labels = last_label(labels) if scores.ndim == 4 else labels
        self.metrics.update(scores.argmax(dim=-3), labels)
        self.log("validation_loss", loss, prog_bar=True, batch_size=len(batch["x"]))
        self.log_dict(self.metrics, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW with one cycle of the learning rate."""
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
        """Return the parameters by learning rate and weight decay."""
        options = self.optimisation
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                continue
            part = options.encoder_rate if name.startswith("encoder.") else 1.0
            decay = options.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((part, decay), []).append(parameter)
        return [
            {"params": parameters, "lr": options.learning_rate * part, "weight_decay": decay}
            for (part, decay), parameters in groups.items()
        ]


class History(harness.History):
    """One row an epoch, the best weights so far, and the random numbers of each epoch of a dataset."""

    remedy = "Load a new model and give a lower learning rate: optimisation=Optimisation(learning_rate=...)."

    def __init__(self, dataset: ChipDataset) -> None:
        super().__init__()
        self.dataset = dataset
        self.best: dict[str, Tensor] | None = None
        self.best_epoch, self.best_loss, self.last_epoch = -1, math.inf, -1

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, _: lightning.LightningModule
    ) -> None:
        """Seed chips, dropout and stochastic depth by the epoch's number: a resumed run is as the whole run."""
        epoch = self.dataset.epoch = self.last_epoch = trainer.current_epoch
        state = np.random.SeedSequence([self.dataset.seed, epoch]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))
        self.started = time.monotonic()

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Keep the weights if they are the best: here the averaged ones are in place."""
        loss = float(trainer.callback_metrics["validation_loss"])
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, trainer.current_epoch
            weights = module.get_submodule("model").state_dict()
            self.best = {name: w.detach().to("cpu", copy=True) for name, w in weights.items()}

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Add the epoch's row."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.add({"epoch": trainer.current_epoch, **metrics})

    @property
    def epoch(self) -> int:
        """Epoch of the weights that the model ends with: the best, the last without validation."""
        if self.best is not None:
            return self.best_epoch
        # A run that was resumed after its last epoch has begun none.
        return max(self.last_epoch, int(self.rows[-1]["epoch"]) if self.rows else -1)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        keys = ("rows", "best", "best_epoch", "best_loss")
        return {key: getattr(self, key) for key in keys}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over an earlier run's rows and best weights."""
        for key, value in state.items():
            setattr(self, key, value)
