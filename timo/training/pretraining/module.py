"""The step of a pretraining: the same for one process and for many, for a batch in one piece and in parts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import lightning
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import DataLoader

from timo.checks import Count, NotNegative, Positive, Range, checked
from timo.errors import TimoError
from timo.models.mim import MaskedAutoencoder
from timo.training.batches import Batches, make_loader
from timo.training.pretraining.masked import MaskedChips, Whole, scored_pixels
from timo.training.pretraining.recipe import default_rate

STATE = "pretraining"
BelowOne = Annotated[float, Range(least=0, below=1)]


@checked
@dataclass(frozen=True)
class PretrainOptions:
    """Options of how the weights are moved (TiMo, section 4.1, and MAE, He et al. 2022, appendix A).

    Parameters
    ----------
    learning_rate : float, optional
        Peak of the schedule; by default `timo.training.pretraining.recipe.default_rate`.
    weight_decay : float
        Of AdamW, for matrices and kernels; biases and norms are not decayed.
    betas : (float, float)
        Of AdamW.
    warm_up : float
        Share of the steps in which the learning rate rises from 0, linearly; then it falls to 0 on a cosine.
    clip : float, optional
        Largest norm of the gradient; None: as it is.
    """

    learning_rate: Positive | None = None
    weight_decay: NotNegative = 0.05
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.95)
    warm_up: BelowOne = 0.1
    clip: Positive | None = 1.0

    @checked
    def rate(self, step: Whole, steps: Count, default: Positive) -> float:
        """Return the learning rate of a step, counted from 0; `default` is its peak where the options name none."""
        if step >= steps:
            raise TimoError(
                f"step must be less than steps, for it is counted from 0; got {step} of {steps}."
            )
        peak = self.learning_rate or default
        rising = round(self.warm_up * steps)
        if step < rising:
            return peak * (step + 1) / rising
        return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


class PretrainModule(lightning.LightningModule):
    """Masked image modelling of chips.

    The loss of a step is the mean squared error over all scored pixels of the batch, however the batch is shared out to
    processes and cut into parts, and however many fall to each. The model is trained in place. Both kinds of chips are
    whole batches of `batch_size`, over all processes; a process computes its share of one in `accumulate` parts, one
    after the other. The `seed` is that of the stochastic depth.
    """

    def __init__(
        self,
        model: MaskedAutoencoder,
        train: MaskedChips,
        validation: MaskedChips | None = None,
        *,
        options: PretrainOptions,
        epochs: int,
        batch_size: int,
        accumulate: int = 1,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # By hand: a batch in parts needs the number of its scored pixels before its first part, and a checkpoint never
        # falls between two parts.
        self.automatic_optimization = False
        self.model, self.train_chips, self.validation_chips = model, train, validation
        self.options, self.batch_size, self.accumulate = options, batch_size, accumulate
        self.workers, self.seed = workers, seed
        self.default_rate = default_rate(model.config, batch_size)
        self.batches = len(train) // batch_size
        self.total_steps = epochs * self.batches
        # Steps done since the beginning; on it alone depend the next chips, their masks and the learning rate.
        self.steps = 0
        # Of the steps of this epoch so far.
        self.summed: Tensor
        self.register_buffer("summed", torch.zeros(()), persistent=False)
        # Squared error and number of pixels of the validation so far.
        self.judged = torch.zeros(2)
        # By name, because a sharded parameter has lost its shape when the optimiser is made.
        self.decayed = {name for name, p in self.named_parameters() if p.ndim > 1}

    def train_dataloader(self) -> DataLoader:
        """Return the batches from the next one on."""
        return self._loader(self.train_chips, lambda: self.steps)

    def val_dataloader(self) -> DataLoader:
        """Return the same chips in every epoch; not called where there are none."""
        assert self.validation_chips is not None
        return self._loader(self.validation_chips, lambda: 0)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        """Move the weights by one batch; return its loss."""
        epoch, index = divmod(self.steps, self.batches)
        rank, processes = self._share()
        first = index * self.batch_size + rank * (self.batch_size // processes)
        if batch["number"][0] != (epoch, first):
            raise RuntimeError(
                f"step {self.steps} was given chip {batch['number'][0]}: the order of the batches was lost"
            )
        # By the step and the process alone, stochastic depth as well: a resumed run is as the whole run.
        sequence = np.random.SeedSequence([self.seed, self.steps, rank])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
        optimizer: Any = self.optimizers()
        rate = self.options.rate(self.steps, self.total_steps, self.default_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        names = ("x", "hidden", "dates", "valid")
        pieces = zip(*(batch[name].chunk(self.accumulate) for name in names), strict=True)
        parts = [dict(zip(names, piece, strict=True)) for piece in pieces]
        counts = [scored_pixels(part, self.model.config.unit) for part in parts]
        total = _summed(torch.stack(counts).sum())
        error = torch.zeros((), device=self.device)
        for part, count in zip(parts, counts, strict=True):
            # Lightning takes the mean of the processes' gradients: each counts as many times as there are processes.
            share = count / total.clamp(min=1)
            with optimizer.toggle_model(sync_grad=part is parts[-1]):
                loss = self._loss(part)
                # Autocast is for the forward pass alone.
                with torch.autocast(self.device.type, enabled=False):
                    self.manual_backward(loss.float() * share * self.trainer.world_size)
            error = error + loss.detach() * count
        self._clip(optimizer)
        optimizer.step()
        optimizer.zero_grad()
        return self._count(error, total)

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        """Add up the error of a batch, on the masks that it always has."""
        count = scored_pixels(batch, self.model.config.unit)
        self.judged = self.judged + torch.stack([self._loss(batch).float() * count, count.float()])

    def on_validation_epoch_start(self) -> None:
        """Begin with zero."""
        self.judged = torch.zeros(2, device=self.device)

    def on_validation_epoch_end(self) -> None:
        """Log the mean over all pixels of all processes."""
        error, count = _summed(self.judged)
        self.log("validation_loss", error / count.clamp(min=1), prog_bar=True, logger=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW; the step sets the learning rate."""
        decayed: list[torch.nn.Parameter] = []
        kept: list[torch.nn.Parameter] = []
        for name, parameter in self.named_parameters():
            own = name.replace("_fsdp_wrapped_module.", "")
            (decayed if own in self.decayed else kept).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": self.options.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=1e-4, betas=self.options.betas)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what a run needs to resume in the middle of an epoch."""
        checkpoint[STATE] = {"steps": self.steps, "summed": self.summed.clone()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Resume where another run was."""
        self.steps = checkpoint[STATE]["steps"]
        self.summed.copy_(checkpoint[STATE]["summed"])

    @property
    def loss(self) -> float:
        """Mean of the losses of the epoch's steps so far."""
        return float(self.summed) / ((self.steps - 1) % self.batches + 1)

    def _share(self) -> tuple[int, int]:
        return self.global_rank, self.trainer.world_size

    def _loader(self, chips: MaskedChips, done: Callable[[], int]) -> DataLoader:
        batches = Batches(done, len(chips), self.batch_size, share=self._share)
        return make_loader(chips, batches, self.workers, pinned=self.device.type == "cuda")

    def _loss(self, part: dict[str, Tensor]) -> Float[Tensor, ""]:
        return self.model(part["x"], part["hidden"], part["dates"], part["valid"]).loss

    def _clip(self, optimizer: Any) -> None:
        if self.options.clip is None:
            return
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            scaler.unscale_(optimizer.optimizer)
        wrapped = self.trainer.strategy.model
        if isinstance(wrapped, FullyShardedDataParallel):
            # Each process holds a part of the gradient: the norm is that of all.
            wrapped.clip_grad_norm_(self.options.clip)
        else:
            torch.nn.utils.clip_grad_norm_(self.parameters(), self.options.clip)

    def _count(self, error: Tensor, total: Tensor) -> Tensor:
        """Add a step to the epoch's loss; return its own."""
        if self.steps % self.batches == 0:
            self.summed.zero_()
        loss = _summed(error) / total.clamp(min=1)
        self.summed += loss
        self.steps += 1
        if self.steps % self.batches == 0:
            # Once an epoch, with the mean: what Lightning logs in between is lost when a run is resumed.
            self.log("loss", self.loss, on_epoch=True, prog_bar=True, logger=False, batch_size=1)
        return loss


def _summed(values: Tensor) -> Tensor:
    """Return the sum over the processes."""
    values = values.detach().clone()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values
