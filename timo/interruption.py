"""The former home of `StepReport` and `interruptible`, which live in `timo.compute` and `timo.cancel`."""

from timo.cancel import CancelledError as StopRequestedError
from timo.cancel import interruptible
from timo.compute import OnStep, StepReport
from timo.errors import warn

__all__ = ["OnStep", "StepReport", "StopRequestedError", "interruptible"]
warn("timo.interruption is timo.compute and timo.cancel now.", DeprecationWarning)
