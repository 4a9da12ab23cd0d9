"""Pretraining: unlabelled series in, an encoder that has learnt to tell what it does not see out."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import pandas as pd
import torch
import xarray as xr
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from timo.atomic import check_writable
from timo.cancel import CancelledError, Stop, interruptible
from timo.compute import OnStep
from timo.cube import check
from timo.errors import TimoError
from timo.models.masking import MaskOptions
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.models.weights import CONFIG
from timo.models.weights import load as load_weights
from timo.training.chips.store import ChipStore
from timo.training.history import Progress
from timo.training.isolation import isolated
from timo.training.pretraining.interrupt import PretrainCheckpoint
from timo.training.pretraining.journal import ENCODER, HISTORY, MODEL, Journal, Keep
from timo.training.pretraining.masked import MaskedChips
from timo.training.pretraining.module import PretrainModule, PretrainOptions
from timo.training.pretraining.pictures import Pictures
from timo.training.pretraining.source import Data, make_autoencoder, open_source
from timo.training.pretraining.windows import WindowOptions
from timo.training.resume import Averaging, find_checkpoint, settle
from timo.training.stopping import Steps, load

RESUME, PICTURES = "resume.ckpt", "pictures"
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
LOGS = ("csv", "tensorboard", None)


@dataclass(frozen=True)
class Pretrained:
    """What a pretraining did.

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


def pretrain(
    data: Data,
    model: str | MaskedConfig | MaskedAutoencoder = "tiny",
    *,
    exclude: xr.DataArray | Sequence[xr.DataArray] | None = None,
    epochs: int = 100,
    chips_per_epoch: int | None = None,
    batch_size: int = 16,
    chips: WindowOptions | None = None,
    masks: MaskOptions | None = None,
    unit: int | None = None,
    optimisation: PretrainOptions | None = None,
    averaging: float | None = None,
    accumulate: int = 1,
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    accelerator: str = "auto",
    devices: int | str | list[int] = 1,
    num_nodes: int = 1,
    strategy: Any = "auto",
    workers: int = 0,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 100,
    log: Literal["csv", "tensorboard"] | None = "csv",
    picture_every: int | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    stop: Stop | None = None,
    on_step: OnStep | None = None,
) -> Pretrained:
    """Pretrain an encoder on series without labels, by masked image modelling (TiMo, section 3.3).

    Which chips a step sees, and what is hidden in them, depends on the seed and the step's number alone: not on the
    number of processes, of workers, of parts of a batch, nor on whether the run was interrupted.

    Parameters
    ----------
    data : xarray.DataArray, sequence of them, ChipStore or path
        Cubes with the same bands (lazy ones are loaded into memory), or a chip store.
    model : str, MaskedConfig or MaskedAutoencoder
        "tiny", "small", "base", "large" or "huge" for random weights and the defaults of
        `timo.training.pretraining.autoencoder_config`; a config, for random weights; or an autoencoder, which is
        trained on, in place.
    exclude : xarray.DataArray or sequence of them, optional
        For cubes, one for each, (y, x): bool, true where nothing may be seen, such as test blocks; or a split, see
        `timo.cube.split_blocks`: 0 is trained on, 1 validated on, all else is never seen. What is never seen is
        invalid at all dates, for the encoder as for the loss.
    epochs, chips_per_epoch : int
        Length of the training. By default an epoch has 320 chips of cubes, or as many as a store has places. It is
        rounded up to whole batches.
    batch_size : int
        Chips of a step, over all processes.
    chips : WindowOptions, optional
        How chips are drawn.
    masks : MaskOptions, optional
        How masks are drawn.
    unit : int, optional
        Side of a mask unit in pixels, where `model` is the name of a size.
    optimisation : PretrainOptions, optional
        Learning rate and its schedule, weight decay.
    averaging : float, optional
        Decay, per step, of a moving average of the weights that is validated and kept; None: the weights themselves.
    accumulate : int
        Parts in which each process computes its share of a batch: more parts, less memory, the same step.
    precision : {"32-true", "bf16-mixed", "16-mixed"}
        Of the arithmetic; the weights are always kept in float32.
    accelerator, devices, num_nodes, strategy
        As `lightning.Trainer` takes them: e.g. ``devices=8, num_nodes=4, strategy="ddp"``, or ``strategy="fsdp"`` for a
        model that does not fit one device. Under torchrun or Slurm give the numbers that the job was started with.
        More than one process needs a folder.
    workers : int
        Processes that read chips ahead, of each training process.
    seed : int
        Seed of new weights, chips, masks and stochastic depth. The random state of the process is left as it was.
    folder : path, optional
        Where to write, during the run, ``resume.ckpt``, ``history.csv`` and ``pictures/``, and at the end ``model/``
        (`timo.models.load(..., kind="autoencoder")`) and ``encoder/`` (`timo.models.load_encoder`).
    resume : bool
        Go on from the checkpoint that an interrupted run left in `folder`, if there is one, and end with the weights
        that the whole run would have had (bit by bit on the same CPU). All but devices, strategy, workers, accumulate,
        log and pictures must be given as before.
    checkpoint_every : int
        Steps between two checkpoints within an epoch.
    log : {"csv", "tensorboard"} or None
        "csv": ``history.csv`` in the folder, after each epoch; "tensorboard": event files as well.
    picture_every : int, optional
        Epochs between two pictures of a reconstruction.
    progress : bool
        Show a progress bar.
    callbacks : sequence of lightning.Callback
        Further callbacks.
    stop : threading.Event or callable, optional
        Asked before each layer and after each batch, for one process. When it says so, the call returns with
        ``.stopped`` true and a model that can be used: as it was after the last whole step. In `folder`, ``model/`` and
        ``encoder/`` hold it, and the resume checkpoint is of that step (of an earlier one, if the stop fell into a
        validation).
    on_step : callable, optional
        Is given a `timo.compute.StepReport` after each step, in the thread of this call.

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
    numbers = {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}
    numbers |= {"num_nodes": num_nodes, "checkpoint_every": checkpoint_every}
    optional = {"chips_per_epoch": chips_per_epoch, "picture_every": picture_every}
    _check_numbers(numbers | {n: v for n, v in optional.items() if v is not None})
    _check_choices(workers, seed, averaging, precision, log)
    sharded = "fsdp" in str(strategy if isinstance(strategy, str) else type(strategy)).lower()
    wants = {
        "resume": resume,
        "picture_every": picture_every is not None,
        'log="tensorboard"': log == "tensorboard",
        "sharding": sharded,
    }
    _check_wants(wants, folder, averaging)
    chips, masks = chips or WindowOptions(), masks or MaskOptions()
    optimisation = optimisation or PretrainOptions()
    source = open_source(
        _load(data, stop), exclude, chips, length=chips_per_epoch, batch_size=batch_size, seed=seed
    )
    autoencoder = make_autoencoder(model, source, unit, seed)
    config = autoencoder.config
    home = None if folder is None else _check_home(folder)
    logger = _tensorboard(home) if log == "tensorboard" and home is not None else False
    held = None
    if source.validation is not None:
        held = MaskedChips(source.validation, masks, config.unit, seed)
    module = PretrainModule(
        # What is sharded does not come together again in place.
        copy.deepcopy(autoencoder) if sharded else autoencoder,
        MaskedChips(source.train, masks, config.unit, seed),
        held,
        options=optimisation,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        workers=workers,
        seed=seed,
    )
    journal = Journal(home / HISTORY if home is not None and log is not None else None)
    ours: list[Callback] = [journal]
    if averaging is not None:
        ours.append(Averaging(decay=averaging))
    # After the average has taken in the step.
    ours.append(Steps(stop, on_step, _Loss()))
    if progress and _is_first():
        ours.append(Progress(epochs))
    checkpoint = None
    if home is not None:
        if picture_every is not None:
            ours.append(Pictures(home / PICTURES, held or module.train_chips, picture_every))
        choices: dict[str, Any] = {"model": config, "chips": chips, "masks": masks, "seed": seed}
        choices |= {
            "epochs": epochs,
            "chips_per_epoch": len(source.train),
            "batch_size": batch_size,
        }
        choices |= {"optimisation": optimisation, "averaging": averaging, "precision": precision}
        plan = {name: repr(value) for name, value in choices.items()} | {"data": source.digest}
        checkpoint = _checkpoint(home / RESUME, plan, resume)
        ours.append(PretrainCheckpoint(home / RESUME, plan, checkpoint_every))
    keep = Keep(home, RESUME)
    stopped = _fit(
        module,
        [*ours, keep, *callbacks],
        checkpoint,
        stop,
        max_epochs=epochs,
        precision=precision,
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        logger=logger,
        default_root_dir=home,
    )
    if stopped:
        keep.write(autoencoder)
    elif sharded and home is not None:
        autoencoder.load_state_dict(load_weights(home / MODEL, kind="autoencoder").state_dict())
    return Pretrained(autoencoder.eval(), journal.table(), time.monotonic() - started, stopped)


def _load(data: Data, stop: Stop | None) -> Data:
    """Bring cubes into memory, until `stop` says so; a store is read chip by chip."""
    if stop is None or isinstance(data, ChipStore | str | Path):
        return data
    cubes = [data] if isinstance(data, xr.DataArray) else list(data)
    return [load(check(cube), stop) for cube in cubes]


class _Loss:
    """Loss of a step, from the sum that the module keeps of those of the epoch."""

    def __init__(self) -> None:
        self.steps, self.summed = 0, 0.0

    def __call__(self, module: lightning.LightningModule, _: Any) -> float:
        assert isinstance(module, PretrainModule)
        summed, done = float(module.summed), (module.steps - 1) % module.batches + 1
        # The first step of a resumed run may be in the middle of an epoch: the mean so far is the best there is.
        follows = module.steps == self.steps + 1
        loss = summed / done if not follows else summed - (self.summed if done > 1 else 0.0)
        self.steps, self.summed = module.steps, summed
        return loss


def _check_numbers(numbers: dict[str, int]) -> None:
    if min(numbers.values()) < 1:
        got = ", ".join(f"{name}={value}" for name, value in numbers.items())
        raise TimoError(f"{', '.join(numbers)} must be at least 1, got {got}")


def _check_choices(
    workers: int, seed: int, averaging: float | None, precision: str, log: str | None
) -> None:
    if workers < 0 or seed < 0 or not (averaging is None or 0 < averaging < 1):
        raise TimoError(
            "workers and seed must be 0 or more and averaging between 0 and 1 or None, got "
            f"{workers}, {seed} and {averaging}"
        )
    if precision not in PRECISIONS:
        raise TimoError(f"precision is one of {', '.join(PRECISIONS)}, got {precision!r}")
    if log not in LOGS:
        raise TimoError(f'log is "csv", "tensorboard" or None, got {log!r}')


def _check_wants(
    wants: dict[str, bool], folder: str | Path | None, averaging: float | None
) -> None:
    if folder is None and any(wants.values()):
        named = " and ".join(name for name, wanted in wants.items() if wanted)
        raise TimoError(f"{named} needs the folder of the run: give folder=...")
    if wants["sharding"] and averaging is not None:
        raise TimoError(
            "averaging is not for sharded weights: give averaging=None, or strategy='ddp'"
        )


def _check_home(folder: str | Path) -> Path:
    """Return the folder, after a proof that all can be written there at the end of the training."""
    home = check_writable(folder)
    for path in (home / MODEL, home / ENCODER):
        strange = path.is_dir() and any(path.iterdir()) and not (path / CONFIG).exists()
        if path.is_file() or strange:
            raise TimoError(f"{path} is something other than a model: choose another folder")
    return home


def _checkpoint(path: Path, plan: dict[str, str], resume: bool) -> Path | None:
    if resume:
        return find_checkpoint(path, plan, PretrainCheckpoint)
    if _is_first():
        # What an earlier run left is not to be gone on with.
        path.unlink(missing_ok=True)
    return None


def _is_first() -> bool:
    """Whether this is the first of the processes that torchrun, Slurm or Lightning started, as far as it is known."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _tensorboard(home: Path) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(home, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise TimoError(
            'log="tensorboard" needs TensorBoard: pip install tensorboard, or give log="csv"'
        ) from error


def _fit(
    module: PretrainModule,
    callbacks: list[Callback],
    checkpoint: Path | None,
    stop: Stop | None,
    **options: Any,
) -> bool:
    """Train; return whether `stop` ended it."""
    module.model.train()
    try:
        with isolated(), interruptible(module.model, stop):
            trainer = _trainer(module, callbacks, options)
            _check_processes(trainer, module, stop)
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    except CancelledError:
        settle(module, callbacks)
        return True
    else:
        return False
    finally:
        for callback in callbacks:
            if isinstance(callback, Progress):
                callback.close()
        module.model.to("cpu").eval()


def _trainer(
    module: PretrainModule, callbacks: list[Callback], options: dict[str, Any]
) -> lightning.Trainer:
    try:
        return lightning.Trainer(
            callbacks=callbacks,
            plugins=_plugins(),
            enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if module.validation_chips is not None else 0,
            # The batches share themselves out.
            use_distributed_sampler=False,
            # On a CPU it costs nothing; on a GPU it would cost the fastest kernels.
            deterministic=False if torch.cuda.is_available() else "warn",
            **options,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        # Of devices and strategies Lightning knows more than we do.
        raise TimoError(
            f"accelerator, devices, num_nodes or strategy are not for this machine: {error}"
        ) from error


def _plugins() -> list[Any]:
    """Under Slurm, without Lightning's own checkpoint and requeueing: a requeued job goes on with resume=True."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _check_processes(trainer: lightning.Trainer, module: PretrainModule, stop: Stop | None) -> None:
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
    if processes > 1 and not any(isinstance(c, PretrainCheckpoint) for c in trainer.callbacks):  # type: ignore[attr-defined]
        raise TimoError("more than one process needs the folder of the run: give folder=...")


if __name__ == "__main__":
    # By name: the command stands above this module and imports it.
    import runpy

    runpy.run_module("timo.training.pretraining.command", run_name="__main__")
