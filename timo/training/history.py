"""What happened in each epoch, and the best weights so far."""

import math
import time
from dataclasses import dataclass, field

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from tqdm import tqdm

from timo.errors import TimoError
from timo.training.chips import ChipDataset


@dataclass(eq=False)
class History(Callback):
    """One row an epoch, the best weights so far, and the epoch's own random numbers."""

    dataset: ChipDataset
    rows: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_epoch: int = -1
    best_loss: float = math.inf
    last_epoch: int = -1

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, _: lightning.LightningModule
    ) -> None:
        """Chips, dropout and stochastic depth depend on the epoch's number: a resumed run is as the whole run."""
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
        row = {name: float(value) for name, value in trainer.callback_metrics.items()}
        losses = [row[name] for name in ("loss", "validation_loss") if name in row]
        if not all(map(math.isfinite, losses)):
            raise TimoError(
                f"the training diverged: the loss of epoch {trainer.current_epoch} is {losses[0]}. Load a new model "
                "and give a lower learning rate: optimisation=Optimisation(learning_rate=...)"
            )
        seconds = time.monotonic() - self.started
        self.rows.append({"epoch": trainer.current_epoch, **row, "seconds": seconds})

    @property
    def epoch(self) -> int:
        """Epoch of the weights that the model ends with: the best, the last without validation."""
        if self.best is not None:
            return self.best_epoch
        # A run that was resumed after its last epoch has begun none.
        return max(self.last_epoch, int(self.rows[-1]["epoch"]) if self.rows else -1)

    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.rows)

    def state_dict(self) -> dict:
        """What a resumed run needs."""
        keys = ("rows", "best", "best_epoch", "best_loss")
        return {key: getattr(self, key) for key in keys}

    def load_state_dict(self, state: dict) -> None:
        """Go on with an earlier run's rows and best weights."""
        for key, value in state.items():
            setattr(self, key, value)


class Progress(Callback):
    """One line: epochs done, time to go, the losses."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Show the line; a resumed run starts where it was."""
        done = trainer.current_epoch
        # Plain text, not a widget: it reads the same in a terminal, in a log and in a saved notebook.
        self.bar = tqdm(total=self.epochs, initial=done, unit="epoch", mininterval=2)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Move on by one."""
        assert self.bar is not None
        metrics = trainer.callback_metrics
        shown = {
            name: f"{float(metrics[name]):.3f}"
            for name in ("loss", "validation_loss")
            if name in metrics
        }
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(trainer.current_epoch + 1 - self.bar.n)

    def close(self) -> None:
        """Leave the line as it is, also when training stopped early, failed, or never began."""
        if self.bar is not None:
            self.bar.close()
