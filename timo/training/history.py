"""What happened in each epoch, and the best weights so far."""

import copy
import time
from dataclasses import dataclass, field

import lightning
import numpy as np
import pandas as pd
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from tqdm import tqdm

from timo.training.chips import ChipDataset


@dataclass
class History(Callback):
    """One row an epoch, the best weights so far, and the epoch's number for the draw of the chips."""

    dataset: ChipDataset
    rows: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_epoch: int = -1
    best_loss: float = np.inf

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, _: lightning.LightningModule
    ) -> None:
        """Chips of an epoch depend on its number, so that a resumed run draws what the whole run would have."""
        self.dataset.epoch = trainer.current_epoch
        self.started = time.monotonic()

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Keep the weights if they are the best: here the averaged ones are in place."""
        loss = float(trainer.callback_metrics["validation_loss"])
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, trainer.current_epoch
            self.best = copy.deepcopy(module.get_submodule("model").state_dict())

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Add the epoch's row."""
        row = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds = time.monotonic() - self.started
        self.rows.append({"epoch": trainer.current_epoch, **row, "seconds": seconds})

    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        if self.best is None and self.rows:
            self.best_epoch = int(self.rows[-1]["epoch"])
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
        # Plain text, not a widget: it reads the same in a terminal, in a log and in a saved notebook.
        self.bar = tqdm(total=epochs, unit="epoch", mininterval=2)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Move on by one."""
        metrics = trainer.callback_metrics
        shown = {
            name: f"{float(metrics[name]):.3f}"
            for name in ("loss", "validation_loss")
            if name in metrics
        }
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(trainer.current_epoch + 1 - self.bar.n)

    def teardown(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        _: lightning.LightningModule,
        stage: str,  # noqa: ARG002
    ) -> None:
        """Leave the line as it is, also when training stops early or fails."""
        self.bar.close()
