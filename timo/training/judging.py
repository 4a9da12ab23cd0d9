"""Is a split into blocks honest? The errors of a trained model on the validation pixels say it."""

import numpy as np
import xarray as xr

from timo.cube.labels import UNLABELLED
from timo.errors import TimoError, warn
from timo.mapping.predict import predict
from timo.mapping.residuals import FEWEST_PIXELS, HeldOutErrors, held_out_errors
from timo.models.tasks import TiMo
from timo.training.inputs import VALIDATION, Given

# Errors are averaged over the dates: a dozen of them are enough. To map more values than this would take longer than
# the training.
_DATES, _MOST_VALUES = 12, 25_000_000


def judge(model: TiMo, given: Given) -> HeldOutErrors | None:
    """Judge a split inside places, of classes of pixels, where the most pixels validate."""
    config, split = model.config, given.split
    if config.task != "segmentation" or split is None or split.whole is not None:
        return None
    inside = [int(i) for i in given.some(VALIDATION) if not isinstance(split.part(i), int)]
    if not inside:
        return None
    most = max(inside, key=lambda i: len(given.labels(i, VALIDATION)))
    cube, labels = given.places.open(most)
    part = split.part(most)
    assert isinstance(part, xr.DataArray)
    assert labels is not None
    part = part.assign_coords(y=labels.y, x=labels.x).assign_attrs(block_m=split.block_m)
    return judge_split(model, cube, labels, part)


def judge_split(
    model: TiMo, cube: xr.DataArray, labels: xr.DataArray, split: xr.DataArray
) -> HeldOutErrors | None:
    """Map the validation pixels, and measure how far their errors are alike; None of too few labelled pixels."""
    labelled = labels != UNLABELLED
    held = (split == VALIDATION) & (labelled.any("time") if "time" in labels.dims else labelled)
    if int(held.sum()) < FEWEST_PIXELS:
        return None
    # With surroundings: for the model, and for the training pixels around a block.
    rows, columns = (_span(held.any(other).values, margin=32) for other in ("x", "y"))
    window = {"y": rows, "x": columns}
    dates = _dates(cube.isel(window), labels)
    labels = labels.isel(window)
    labels = labels.isel(time=dates) if "time" in labels.dims else labels
    try:
        result = predict(model, cube.isel(window).isel(time=dates)).compute()
        errors = held_out_errors(result, labels, split.isel(window))
    except TimoError:
        # Few of the pixels were seen on these dates: no answer, and no reason to lose a training.
        return None
    if not errors.honest:
        warn(errors.summary)
    return errors


def _span(used: np.ndarray, margin: int) -> slice:
    """Return the smallest slice that holds all that is used, and a margin around it."""
    places = np.flatnonzero(used)
    return slice(max(int(places[0]) - margin, 0), int(places[-1]) + 1 + margin)


def _dates(cube: xr.DataArray, labels: xr.DataArray) -> list[int]:
    """Return dates with labels and observations, evenly drawn."""
    seen = cube.notnull().any(("band", "y", "x")).values
    if "time" in labels.dims:
        seen &= (labels != UNLABELLED).any(("y", "x")).values
    dates = np.flatnonzero(seen)
    pixels = cube.sizes["y"] * cube.sizes["x"]
    wanted = int(np.clip(_MOST_VALUES // pixels, 1, _DATES))
    chosen = np.linspace(0, len(dates) - 1, min(wanted, len(dates))).round().astype(int)
    return [int(date) for date in dates[chosen]] if len(dates) else [0]
