"""What a training changes in the process, and puts back: random numbers, determinism, logs, the answer to Ctrl-C."""

import logging
import os
import random
import signal
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def isolated() -> Iterator[None]:
    """Leave the process as it was: a notebook goes on after the training."""
    with ExitStack() as stack:
        for context in (_random_numbers(), _determinism(), _quiet(), _interruptible()):
            stack.enter_context(context)
        yield


@contextmanager
def _random_numbers() -> Iterator[None]:
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's, not ours
    cpu = torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(gpus)


@contextmanager
def _determinism() -> Iterator[None]:
    """What Lightning's `deterministic` sets for the whole process."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(CUBLAS)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        os.environ.pop(CUBLAS, None)
        if workspace is not None:
            os.environ[CUBLAS] = workspace


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice on hardware and workers: the user did not ask, and the chips need none."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # The last of a dataloader that Lightning does not know to be one that goes on where it was.
        unwanted = ("does not have many workers", "LeafSpec", "no `val_dataloader`")
        for advice in (*unwanted, "your dataloader is not resumable"):
            warnings.filterwarnings("ignore", message=f".*{advice}.*")
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stays a KeyboardInterrupt: Lightning would end the process, and be deaf to the next one."""
    answer = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, answer)
        raise KeyboardInterrupt("the training was interrupted") from None
