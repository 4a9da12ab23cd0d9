"""Stopping work: one exception and one kind of `stop=` argument for all of timo."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from timo.errors import TimoError

if TYPE_CHECKING:
    from torch import nn

# How often a pause looks whether it was cancelled.
_NAP_S = 0.05
Stop = threading.Event | Callable[[], Any]


class CancelledError(TimoError):
    """Raised when work is stopped by the user; says how much is done."""


def is_stopped(stop: Stop | None) -> bool:
    """Return whether work is to stop.

    Raises
    ------
    TimoError
        If the function that says so fails.
    """
    if stop is None:
        return False
    if not callable(stop):
        return stop.is_set()
    try:
        return bool(stop())
    except TimoError:
        raise
    except Exception as error:
        raise TimoError(
            f"The function given as stop= raised {type(error).__name__}: {error}. It takes no argument, and returns "
            "whether to stop; a threading.Event does, too."
        ) from error


def obey(stop: Stop | None, message: str = "stopped by the user") -> None:
    """Raise `CancelledError` once work is to stop."""
    if is_stopped(stop):
        raise CancelledError(message)


_here = threading.local()


def current_stop() -> Stop | None:
    """Return what stops the work of this thread; None where nothing was set."""
    return getattr(_here, "stop", None)


def set_current_stop(stop: Stop | None) -> None:
    """Set what stops the work of this thread, where no other `stop` is given."""
    _here.stop = stop


def nap(seconds: float, stop: Stop | None) -> None:
    """Sleep; raise `CancelledError` within a twentieth of a second of being stopped."""
    until = time.monotonic() + seconds
    while True:
        obey(stop)
        if (left := until - time.monotonic()) <= 0:
            return
        time.sleep(left if stop is None else min(left, _NAP_S))


@contextmanager
def interruptible(model: nn.Module, stop: Stop | None) -> Iterator[None]:
    """Stop a model in the middle of a step, by a `CancelledError` within the block.

    A step of a large model on a CPU takes longer than a user waits: `stop` is asked before each layer, in the forward
    and in the backward pass. Weights only change between the two: they stay those of the last whole step.
    """
    if stop is None:
        yield
        return
    import torch

    # Functions, not objects: a copy of the model, as of its averaged weights, shares them.
    def ask(*_: Any) -> None:
        obey(stop)

    def ask_backwards(_module: nn.Module, _inputs: Any, output: Any) -> None:
        differentiable = isinstance(output, torch.Tensor) and output.requires_grad
        if differentiable and torch.is_grad_enabled():
            output.register_hook(ask)

    handles = [module.register_forward_pre_hook(ask) for module in model.modules()]
    handles += [module.register_forward_hook(ask_backwards) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
