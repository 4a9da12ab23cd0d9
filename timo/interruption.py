"""How far long work is, and its end in the middle of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from timo.cancel import Cancel, is_cancelled


class StopRequestedError(Exception):
    """The user asked some work to end. It ends it inside, and never comes out of timo's public functions."""


@dataclass(frozen=True)
class StepReport:
    """How far a training is after a step, or a map after a window of dates of a tile.

    Attributes
    ----------
    step, steps : int
        Steps done since the beginning of the run, also before it was resumed, and steps of the whole run. Of a map they
        are an estimate until its last tile has begun: it depends on the clouds.
    epoch : int
        The epoch of the step, counted from 0; -1 where there are none.
    loss : float
        Of the step; NaN where nothing is learnt.
    seconds : float
        Since the first step of this call began.
    eta : float
        Seconds to go at the speed so far, validation included. A training that stops early ends sooner.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    seconds: float
    eta: float


OnStep = Callable[[StepReport], object]


@contextmanager
def interruptible(model: nn.Module, stop: Cancel | None) -> Iterator[None]:
    """Within the block the model ends with a `StopRequestedError` in the middle of a step once `stop` says so.

    A step of a large model on a CPU is much longer than a user waits: each layer asks before it begins, in the forward
    and in the backward pass. Weights are only ever changed between the two: they are those of the last whole step.
    """
    if stop is None:
        yield
        return

    # Functions, not objects: a copy of the model, as of its averaged weights, shares them.
    def ask(*_: Any) -> None:
        if is_cancelled(stop):
            raise StopRequestedError

    def ask_backwards(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad and torch.is_grad_enabled():
            output.register_hook(ask)

    handles = [module.register_forward_pre_hook(ask) for module in model.modules()]
    handles += [module.register_forward_hook(ask_backwards) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
