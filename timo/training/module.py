"""What Lightning calls in a fine-tuning: a step, and the end of an epoch."""

import math
import time
from dataclasses import dataclass
from typing import Annotated, Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader

from timo.checks import NotNegative, Positive, Range, checked
from timo.models.pixel import PixelModel
from timo.models.tasks import TiMo, unit_of
from timo.training import run as harness
from timo.training.answers import (
    Answers,
    Batch,
    Figures,
    Parcels,
    answers,
    losses_of,
    only_observed,
)

# Learning rate of a small model of single pixels, relative to that of a head. Simulated farmland was learnt as well
# with 1 as with 20, real crops better the higher it was.
PIXEL_RATE = 10.0


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


class FinetuneModule(lightning.LightningModule):
    """Supervised learning of classes or values, of pixels, chips or parcels; the model is trained in place.

    `fused` moves all weights in one pass, which is faster where chips are small, and rounds differently.
    """

    def __init__(
        self,
        model: TiMo,
        optimisation: Optimisation,
        class_weights: Tensor | None = None,
        *,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.optimisation, self.fused = model, optimisation, fused
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.metrics = Figures(model.config)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of a batch."""
        config, weight = self.model.config, self.optimisation.gap_weight
        given = batch["x"], batch["dates"], batch["valid"]
        each = [answers(scores, batch, config, weight) for scores in self._opinions(*given)]
        losses = torch.stack([judged.mean(self._losses(judged)) for judged in each])
        size = len(batch["x"])
        self.log(
            "loss", losses.mean(), on_step=False, on_epoch=True, prog_bar=True, batch_size=size
        )
        # They share no weights: the sum moves each as if it were alone.
        return losses.sum()

    def _opinions(self, *given: Tensor) -> list[Tensor]:
        """Return the scores of each part of the model that learns by steps."""
        if isinstance(self.model, TiMo):
            return self.model.opinions(*given)
        alone = self.model.attend if isinstance(self.model, PixelModel) else self.model
        return [alone(*given)]

    def on_validation_epoch_start(self) -> None:
        """Begin with zero."""
        self.metrics.reset()
        self.parcels: list[Parcels] = []

    def validation_step(self, batch: Batch, _: int) -> None:
        """Count the observed answers of a batch; parcels, of which other tiles may hold a part, at the end."""
        config = self.model.config
        batch = only_observed(batch, config.per_date)
        if unit_of(config) == "parcel":
            scores = self.model(batch["x"], batch["dates"], batch["valid"])
            self.parcels.append(Parcels.of(scores, batch))
        else:
            self._count(self._judged(batch))

    def validated(self) -> dict[str, float]:
        """Return the loss and the figures of the validation so far."""
        if self.parcels:
            self._count(Parcels.joined(self.parcels).answers())
            self.parcels = []
        return self.metrics.compute()

    def on_validation_epoch_end(self) -> None:
        """Log what the history and early stopping read."""
        self.log_dict(self.validated(), prog_bar=False)

    def loss_of(self, batch: Batch) -> float:
        """Return the loss of a batch that is not learnt from."""
        judged = self._judged(batch, self.optimisation.gap_weight)
        return float(judged.mean(self._losses(judged)))

    @torch.no_grad()
    def judged(self, train: DataLoader, validation: DataLoader | None) -> dict[str, float]:
        """Return the row of the history of a model that has no epochs."""
        row = {"epoch": 0, "loss": float(np.mean([self.loss_of(batch) for batch in train]))}
        if validation is None:
            return row
        self.on_validation_epoch_start()
        for number, batch in enumerate(validation):
            self.validation_step(batch, number)
        return row | self.validated()

    def _judged(self, batch: Batch, gap_weight: float = 1.0) -> Answers:
        scores = self.model(batch["x"], batch["dates"], batch["valid"])
        return answers(scores, batch, self.model.config, gap_weight)

    def _losses(self, judged: Answers) -> Tensor:
        smoothing = self.optimisation.label_smoothing
        return losses_of(judged, self.model.config, smoothing, self.class_weights)

    def _count(self, judged: Answers) -> None:
        self.metrics.add(judged, self._losses(judged))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW with one cycle of the learning rate."""
        groups = self._groups()
        fused = self.fused and self.device.type in ("cpu", "cuda")
        optimiser = torch.optim.AdamW(groups, fused=fused)
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
            if isinstance(self.model, PixelModel) or name.startswith("pixel."):
                part = PIXEL_RATE
            decay = options.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((part, decay), []).append(parameter)
        return [
            {"params": parameters, "lr": options.learning_rate * part, "weight_decay": decay}
            for (part, decay), parameters in groups.items()
        ]


class History(harness.History):
    """One row an epoch, the best weights so far, and the random numbers of each epoch."""

    remedy = "Load a new model and give a lower learning rate: optimisation=Optimisation(learning_rate=...)."

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.best: dict[str, Tensor] | None = None
        self.best_epoch, self.best_loss, self.last_epoch = -1, math.inf, -1

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, _: lightning.LightningModule
    ) -> None:
        """Seed dropout and stochastic depth by the epoch's number: a resumed run is as the whole run."""
        epoch = self.last_epoch = trainer.current_epoch
        state = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))
        self.started = time.monotonic()

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Keep the weights if they are the best: here the averaged ones are in place."""
        assert isinstance(module, FinetuneModule)
        loss = module.validated()["validation_loss"]
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
