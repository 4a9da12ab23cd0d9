"""Checkpoints of a pretraining, also when it is stopped; after Ctrl-C the step under way is finished and saved."""

import signal
import threading
from typing import Any

import lightning

from timo.cancel import CancelledError
from timo.training.pretraining.module import PretrainModule
from timo.training.resume import ResumeCheckpoint


class PretrainCheckpoint(ResumeCheckpoint):
    """As `ResumeCheckpoint`, and after Ctrl-C at the end of the step; a second Ctrl-C ends it at once."""

    run = "pretrain"
    interrupted = False
    answer: Any = None

    def on_fit_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Listen, where that is this process's to do: several processes would not stop at the same step."""
        super().on_fit_start(trainer, module)
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self.answer = signal.signal(signal.SIGINT, self._note)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, *args: Any
    ) -> None:
        """Stop here, unless the epoch is about to end."""
        super().on_train_batch_end(trainer, module, *args)
        if self.interrupted and args[2] + 1 < trainer.num_training_batches:
            self.save(trainer)
            raise KeyboardInterrupt

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Stop here."""
        super().on_train_epoch_end(trainer, module)
        if self.interrupted:
            raise KeyboardInterrupt

    def teardown(self, *_: Any, **__: Any) -> None:
        """Leave the answer to Ctrl-C as it was, however the run ended."""
        self._restore()

    def on_exception(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, error: BaseException
    ) -> None:
        """As at the end; of a run that was stopped, within an epoch, the steps since the last checkpoint are kept."""
        self._restore()
        assert isinstance(module, PretrainModule)
        within = trainer.training and module.steps % module.batches
        if isinstance(error, CancelledError) and within:
            self.save(trainer)

    def _note(self, *_: Any) -> None:
        self.interrupted = True
        self._restore()

    def _restore(self) -> None:
        if self.answer is not None:
            signal.signal(signal.SIGINT, self.answer)
            self.answer = None
