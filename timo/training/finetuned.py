"""What a fine-tuning ends with: its result, and the files it leaves."""

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr

from timo.atomic import replacing
from timo.checks import checked
from timo.mapping.residuals import HeldOutErrors
from timo.models.tasks import Segmenter
from timo.models.weights import save
from timo.places.split import Split
from timo.training import run as harness
from timo.training.inputs import Given
from timo.training.judging import judge
from timo.training.length import Length
from timo.training.module import History
from timo.training.run import HISTORY, MODEL, RESUME
from timo.training.tiles import Tiles


@checked
@dataclass(frozen=True)
class Finetuned:
    """Result of a fine-tuning.

    Attributes
    ----------
    history : DataFrame
        One row an epoch: loss, validation_loss, seconds, and of classes validation_accuracy and validation_f1 (mean
        over the classes that have validation labels), of values validation_rmse, validation_mae and validation_r2.
    epoch : int
        Epoch whose weights the model holds: the one of the lowest validation loss, the last without validation. -1:
        stopped before the first step.
    seconds : float
        Wall time of this call.
    stopped : bool
        Whether `stop` ended it before its end.
    errors : HeldOutErrors or None
        How far the errors on the validation pixels are alike (`timo.mapping.held_out_errors`); print
        ``errors.summary``. For classes of pixels and a split inside places, of which the one with the most validation
        pixels is looked at. None: anything else, stopped, or too few pixels.
    split : Split, DataArray or None
        The split, for `timo.evaluate`.
    length : Length or None
        Its ``epochs``, ``chips`` of an epoch, and ``steps``, as they were planned. The same ones given as options
        repeat a training that had a `budget`. None: a regression, which has no steps, or stopped before.
    """

    history: pd.DataFrame
    epoch: int
    seconds: float
    stopped: bool = False
    errors: HeldOutErrors | None = None
    split: Split | xr.DataArray | None = None
    length: Length | None = None

    @property
    def expected_s(self) -> float | None:
        """Seconds that the steps and validations were expected to take; None where that was not measured."""
        return None if self.length is None else self.length.seconds


def finished(  # noqa: PLR0917 - of one run
    model: Segmenter,
    given: Given,
    validation: Tiles | None,
    history: History,
    began: float,
    split: Split | xr.DataArray | None,
) -> Finetuned:
    """Judge a model by its validation, if there is one, and return the result of its training."""
    errors = None
    if validation is not None:
        with harness.isolated():
            errors = judge(model, given)
    seconds = time.monotonic() - began
    return Finetuned(history.table(), history.epoch, seconds, errors=errors, split=split)


def keep(model: Segmenter, home: Path | None, result: Finetuned) -> Finetuned:
    """Write what a run ends with; the checkpoint of one that was stopped stays, to resume from."""
    if home is not None:
        with replacing(home / HISTORY) as partial:
            result.history.to_csv(partial, index=False)
        save(model, home / MODEL)
        if not result.stopped:
            (home / RESUME).unlink(missing_ok=True)
    return result
