"""After the training: whether its split was honest."""

import warnings

import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.mapping.predict import predict
from timo.mapping.residuals import FEWEST_PIXELS, VALIDATION, HeldOutErrors, held_out_errors
from timo.models.tasks import TiMo
from timo.training.chips.chip import UNLABELLED

# Errors are averaged over the dates: a dozen of them tell the place's. More values than this would make the question
# dearer than the training.
_DATES, _MOST_VALUES = 12, 25_000_000


def judge_split(
    model: TiMo, cube: xr.DataArray, labels: xr.DataArray, split: xr.DataArray
) -> HeldOutErrors | None:
    """Map the validation pixels, and tell how far their errors are alike.

    Parameters
    ----------
    model : TiMo
        The model as it was trained.
    cube, labels, split : xarray.DataArray
        What it was trained on.

    Returns
    -------
    HeldOutErrors or None
        None: too few labelled pixels to tell.

    Warns
    -----
    UserWarning
        If the blocks are too small.
    """
    held = (split == VALIDATION) & (
        (labels != UNLABELLED).any("time") if "time" in labels.dims else labels != UNLABELLED
    )
    if int(held.sum()) < FEWEST_PIXELS:
        return None
    # With surroundings: for the model, and for the training pixels around a block.
    rows, columns = (_span(held.any(other).values, margin=32) for other in ("x", "y"))
    window = {"y": rows, "x": columns}
    dates = _dates(cube.isel(window), labels)
    labels = labels.isel(window) if "time" not in labels.dims else labels.isel(window, time=dates)
    try:
        result = predict(model, cube.isel(window).isel(time=dates)).compute()
        errors = held_out_errors(result, labels, split.isel(window))
    except TimoError:
        # Few of the pixels were seen on these dates: no answer, and no reason to lose a training.
        return None
    if not errors.honest:
        warnings.warn(errors.summary, UserWarning, stacklevel=3)
    return errors


def _span(used: np.ndarray, margin: int) -> slice:
    """The smallest slice that holds all that is used, and so many cells around it."""
    places = np.flatnonzero(used)
    return slice(max(int(places[0]) - margin, 0), int(places[-1]) + 1 + margin)


def _dates(cube: xr.DataArray, labels: xr.DataArray) -> list[int]:
    """Dates with labels and observations, evenly drawn."""
    seen = cube.isel(band=0).notnull().any(("y", "x")).values
    if "time" in labels.dims:
        seen &= (labels != UNLABELLED).any(("y", "x")).values
    dates = np.flatnonzero(seen)
    pixels = cube.sizes["y"] * cube.sizes["x"]
    wanted = int(np.clip(_MOST_VALUES // pixels, 1, _DATES))
    chosen = np.linspace(0, len(dates) - 1, min(wanted, len(dates))).round().astype(int)
    return [int(date) for date in dates[chosen]] if len(dates) else [0]
