"""Pretraining: unlabelled series in, an encoder that has learnt to predict what it does not see out."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import Strategy

from timo.cancel import Stop
from timo.checks import Count, PathLike, Range, Seed, checked
from timo.compute import OnStep
from timo.errors import TimoError
from timo.models.masking import MaskOptions
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.models.weights import load as load_weights
from timo.training import run as harness
from timo.training.pretraining.journal import ENCODER, Journal, Keep
from timo.training.pretraining.masked import MaskedChips
from timo.training.pretraining.module import PretrainModule, PretrainOptions
from timo.training.pretraining.pictures import Pictures
from timo.training.pretraining.source import Data, Exclude, make_autoencoder, open_source
from timo.training.resume import ResumeCheckpoint
from timo.training.run import HISTORY, MODEL, RESUME, Decay, Run
from timo.training.windows import WindowOptions


@checked
@dataclass(frozen=True)
class Pretrained:
    """Result of a pretraining.

    Attributes
    ----------
    model : MaskedAutoencoder
        The autoencoder with its last weights (the averaged ones, with averaging), in evaluation mode, on the CPU.
        ``model.encoder`` is what fine-tuning starts from.
    history : DataFrame
        One row an epoch: epoch, step (done so far), loss, validation_loss, learning_rate (of the last step), seconds.
    seconds : float
        Wall time of this call.
    stopped : bool
        Whether `stop` ended it before its end.
    """

    model: MaskedAutoencoder
    history: pd.DataFrame
    seconds: float
    stopped: bool = False


@checked
def pretrain(
    data: Data,
    model: str | MaskedConfig | MaskedAutoencoder = "tiny",
    *,
    exclude: Exclude | None = None,
    epochs: Count = 100,
    chips_per_epoch: Count | None = None,
    batch_size: Count = 16,
    chips: WindowOptions | None = None,
    masks: MaskOptions | None = None,
    unit: Count | None = None,
    optimisation: PretrainOptions | None = None,
    averaging: Decay | None = None,
    accumulate: Count = 1,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    accelerator: str = "auto",
    devices: int | str | list[int] = 1,
    num_nodes: Count = 1,
    strategy: str | Strategy = "auto",
    workers: Annotated[int, Range(least=0, most=256)] = 0,
    seed: Seed = 0,
    folder: PathLike | None = None,
    resume: bool = False,
    checkpoint_every: Count = 100,
    log: Literal["csv", "tensorboard"] | None = "csv",
    picture_every: Count | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    stop: Stop | None = None,
    on_step: OnStep | None = None,
) -> Pretrained:
    """Pretrain an encoder on series without labels, by masked image modelling (TiMo, section 3.3).

    Which chips a step sees, and what is hidden in them, depends on the seed and the step's number alone: not on the
    number of processes, workers or parts of a batch, nor on whether the run was interrupted.

    Parameters
    ----------
    data : Places, xarray.DataArray, sequence of them, or path
        Places of one sensor, cubes with the same bands, or the path of a packed store. What lies on disk is loaded into
        memory if it takes no more than a quarter of it; otherwise, and from a store, chips are read as they are drawn.
    model : str, MaskedConfig or MaskedAutoencoder
        A size of `timo.training.pretraining.autoencoder_config` or a config, for random weights; or an autoencoder,
        which is trained on, in place.
    exclude : xarray.DataArray, sequence of them, or Split, optional
        One for each place, (y, x): bool, true where nothing may be seen, such as test blocks; or a split, see
        `timo.cube.split_blocks`: 0 is trained on, 1 validated on, all else is never seen, not even by the encoder. Or
        what ``places.split(...)`` gives.
    epochs, chips_per_epoch : int
        Length of the training. By default an epoch has 320 chips of what is in memory, or as many as there are places
        on disk; it is rounded up to whole batches.
    batch_size : int
        Chips of a step, over all processes.
    chips : WindowOptions, optional
    masks : MaskOptions, optional
        How chips and masks are drawn.
    unit : int, optional
        Side of a mask unit in pixels, where `model` is the name of a size.
    optimisation : PretrainOptions, optional
        Learning rate and its schedule, weight decay.
    averaging, progress, callbacks, on_step
        As `timo.finetune` takes them.
    accumulate : int
        Parts in which each process computes its share of a batch: more parts, less memory, the same step.
    precision : {"32-true", "bf16-mixed", "16-mixed"}
        Of the arithmetic; the weights are always kept in float32.
    accelerator, devices, num_nodes, strategy
        As `lightning.Trainer` takes them, e.g. ``devices=8, num_nodes=4, strategy="ddp"``, or "fsdp" for a model that
        does not fit one device. Under torchrun or Slurm give the numbers that the job was started with. More than one
        process needs a folder.
    workers : int
        Processes that read chips ahead, of each training process.
    seed : int
        Seed of new weights, chips, masks and stochastic depth. The random state of the process is left as it was.
    folder : path, optional
        Where to write, during the run, ``resume.ckpt``, ``history.csv`` and ``pictures/``, and at the end ``model/``
        (`timo.models.load(..., kind="autoencoder")`) and ``encoder/`` (`timo.models.load_encoder`).
    resume : bool
        Resume from the checkpoint that an interrupted run left in `folder`, if there is one, and end with the weights
        of the whole run (bit by bit on the same CPU). All but devices, strategy, workers, accumulate, log and pictures
        must be given as before.
    checkpoint_every : int
        Steps between two checkpoints within an epoch.
    log : {"csv", "tensorboard"} or None
        "csv": ``history.csv`` in the folder, after each epoch; "tensorboard": event files as well.
    picture_every : int, optional
        Epochs between two pictures of a reconstruction.
    stop : threading.Event or callable, optional
        Asked before each layer and after each batch, for one process. When it says so, the call returns with
        ``.stopped`` true and a model that can be used: as it was after the last whole step. `resume` goes on from there
        (from an earlier step, if the stop fell into a validation).

    Returns
    -------
    Pretrained
        The autoencoder and the history.

    Raises
    ------
    TimoError
        If data, exclude and model do not fit each other, an option makes no sense, the folder cannot be written, the
        checkpoint is damaged or of another run, or the training diverges.
    CancelledError
        If `stop` said so while the cubes were loaded: there is no model yet.
    """
    started = time.monotonic()
    sharded = "fsdp" in str(strategy if isinstance(strategy, str) else type(strategy)).lower()
    tensorboard, draw = log == "tensorboard", picture_every is not None
    wanted = {"resume": resume, "picture_every": draw, 'log="tensorboard"': tensorboard}
    harness.need_folder(folder, **wanted, sharding=sharded)
    if sharded and averaging is not None:
        raise TimoError(
            "averaging is not for sharded weights: give averaging=None, or strategy='ddp'"
        )
    chips, masks = chips or WindowOptions(), masks or MaskOptions()
    optimisation = optimisation or PretrainOptions()
    source = open_source(
        data, exclude, chips, length=chips_per_epoch, batch_size=batch_size, seed=seed, stop=stop
    )
    autoencoder = make_autoencoder(model, source, unit, seed)
    config = autoencoder.config
    home = harness.open_folder(folder, MODEL, ENCODER)
    train, validation = (
        None if part is None else MaskedChips(part, masks, config.unit, seed)
        for part in (source.train, source.validation)
    )
    assert train is not None
    module = PretrainModule(
        # What is sharded does not come together again in place.
        copy.deepcopy(autoencoder) if sharded else autoencoder,
        train,
        validation,
        options=optimisation,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        workers=workers,
        seed=seed,
    )
    keep = Keep(home)
    others: list[Callback] = [keep]
    checkpoint = None
    if home is not None:
        if picture_every is not None:
            others.append(Pictures(home / "pictures", validation or train, picture_every))
        choices = {"model": config, "chips": chips, "masks": masks, "seed": seed, "epochs": epochs}
        choices |= {"chips_per_epoch": len(source.train), "batch_size": batch_size}
        choices |= {"optimisation": optimisation, "averaging": averaging, "precision": precision}
        plan = {name: repr(value) for name, value in choices.items()} | source.plan
        checkpoint = ResumeCheckpoint(home / RESUME, "pretrain", plan, checkpoint_every)
    journal = Journal(home / HISTORY if home is not None and log is not None else None)
    stopped = harness.fit(
        Run(epochs, averaging, resume, progress, callbacks, stop, on_step),
        module,
        journal,
        others,
        checkpoint=checkpoint,
        ready=lambda trainer: _check_processes(trainer, module, home, stop),
        precision=precision,
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        logger=_tensorboard(home) if tensorboard else False,
        default_root_dir=home,
        # Under Slurm, without Lightning's own checkpoint and requeueing: a requeued job resumes with resume=True.
        plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else [],
        limit_val_batches=0 if validation is None else 1.0,
        # The batches share themselves out.
        use_distributed_sampler=False,
        # On a CPU it costs nothing; on a GPU it would cost the fastest kernels.
        deterministic=False if torch.cuda.is_available() else "warn",
    )
    history = journal.table()
    if history.empty and journal.path is not None and not stopped:
        # The training ran in other processes, which left it here.
        history = pd.read_csv(journal.path)
    if stopped:
        keep.write(autoencoder)
    elif sharded and home is not None:
        autoencoder.load_state_dict(load_weights(home / MODEL, kind="autoencoder").state_dict())
    return Pretrained(autoencoder.eval(), history, time.monotonic() - started, stopped)


def _tensorboard(home: Path | None) -> TensorBoardLogger:
    assert home is not None
    try:
        return TensorBoardLogger(home, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise TimoError(
            'log="tensorboard" needs TensorBoard: pip install tensorboard, or give log="csv"'
        ) from error


def _check_processes(
    trainer: lightning.Trainer, module: PretrainModule, home: Path | None, stop: Stop | None
) -> None:
    processes, parts = trainer.world_size, module.accumulate
    if processes > 1 and stop is not None:
        raise TimoError(
            "stop is for one process: several would not stop at the same step. Leave it out, or use devices=1"
        )
    if module.batch_size % (processes * parts):
        raise TimoError(
            f"a batch of {module.batch_size} chips cannot be shared out evenly to {processes} processes in {parts} "
            f"parts each: use a multiple of {processes * parts}"
        )
    if processes > 1 and home is None:
        raise TimoError("more than one process needs the folder of the run: give folder=...")


if __name__ == "__main__":
    # By name: the command stands above this module and imports it.
    import runpy

    runpy.run_module("timo.training.pretraining.command", run_name="__main__")
