"""The history of a pretraining, and the weights that it leaves."""

import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from timo.atomic import replacing
from timo.models.mim import MaskedAutoencoder
from timo.models.weights import save, save_encoder
from timo.training.pretraining.module import PretrainModule
from timo.training.run import MODEL, RESUME, History

ENCODER = "encoder"


class Journal(History):
    """One row an epoch, in memory, in a CSV file that is rewritten each time, and in what else logs."""

    remedy = (
        "Begin again with a lower learning rate: optimisation=PretrainOptions(learning_rate=...)."
    )

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self.path = path
        # Seconds that a killed run had spent on the epoch in which it is resumed.
        self.spent = 0.0

    def on_train_start(self, *_: Any) -> None:
        """Start the clock; a resumed run begins in the middle of an epoch."""
        self.started = time.monotonic() - self.spent

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Add the epoch's row."""
        assert isinstance(module, PretrainModule)
        row = {"epoch": trainer.current_epoch, "step": module.steps, "loss": module.loss}
        if "validation_loss" in trainer.callback_metrics:
            row["validation_loss"] = float(trainer.callback_metrics["validation_loss"])
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.add(row)
        self.started, self.spent = time.monotonic(), 0.0
        shown = {name: value for name, value in self.rows[-1].items() if name != "step"}
        for logger in trainer.loggers:
            logger.log_metrics(shown, step=module.steps)
        if self.path is not None and trainer.is_global_zero:
            with replacing(self.path) as partial:
                self.table().to_csv(partial, index=False)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"rows": self.rows, "spent": time.monotonic() - self.started}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over an earlier run's rows."""
        self.rows, self.spent = state["rows"], state["spent"]


class Keep(Callback):
    """Writes the weights at the end, whole on every strategy, by one process while the others wait.

    The resume checkpoint in the folder is then of no more use.
    """

    def __init__(self, home: Path | None) -> None:
        self.home = home

    def on_fit_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write and remove the checkpoint. All processes come here: sharded weights are gathered from all."""
        if self.home is None:
            return
        weights = trainer.strategy.lightning_module_state_dict()
        if trainer.is_global_zero:
            assert isinstance(module, PretrainModule)
            own = {name.removeprefix("model."): w for name, w in weights.items()}
            self._write(module.model, own)
            (self.home / RESUME).unlink(missing_ok=True)
        trainer.strategy.barrier()

    def write(self, model: MaskedAutoencoder) -> None:
        """Write the weights of a run that was stopped; the checkpoint stays, to resume from."""
        if self.home is not None:
            self._write(model, model.state_dict())

    def _write(self, model: MaskedAutoencoder, weights: dict[str, Tensor]) -> None:
        assert self.home is not None
        whole = MaskedAutoencoder(model.config)
        whole.load_state_dict(weights)
        config = model.config
        save(whole, self.home / MODEL)
        save_encoder(
            whole.encoder,
            self.home / ENCODER,
            bands=config.bands,
            mean=config.mean,
            std=config.std,
            sensor=config.sensor,
        )
