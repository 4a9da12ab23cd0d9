"""How far a map of the year of loss agrees with a reading of the same area."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr

from timo.checks import Range, checked
from timo.cube import dilate, grid_mismatch
from timo.errors import TimoError


@checked
def loss_agreement(
    loss_year: xr.DataArray,
    reference: xr.DataArray,
    *,
    years: Sequence[int] | None = None,
    tolerance: Annotated[int, Range(least=0, most=100)] = 0,
) -> dict[str, float]:
    """Compare a map of the year of loss, pixel by pixel, with a reading of the whole area.

    The figures describe the map where the reading is complete; for hectares of an area of which only a sample was
    looked at, see `timo.loss_areas`.

    Parameters
    ----------
    loss_year : xarray.DataArray
        (y, x) whole numbers: the year of loss, 0 = no loss, -1 = no data. From `timo.loss_year`.
    reference : xarray.DataArray
        (y, x) on the same grid, the same: what somebody read from images, or knows from the field.
    years : sequence of int, optional
        The years that count as a loss; other years do not. By default every year.
    tolerance : int
        Pixels, to each side, within which a loss of the other map counts as found. With 1, an outline may be off by a
        pixel.

    Returns
    -------
    dict
        ``f1_loss``, the harmonic mean of ``precision`` (share of the mapped pixels that are lost in the reference) and
        ``recall`` (share of the lost pixels that are mapped); ``year_right``, the share of the pixels lost in both
        whose year is the same; ``area_ratio``, mapped over lost pixels. 0..1 but for the last; NaN where there is
        nothing to count. Pixels without data in either map do not count.

    Raises
    ------
    TimoError
        If the maps are not (y, x) whole numbers on one grid.
    """
    for name, array in (("loss_year", loss_year), ("reference", reference)):
        if set(array.dims) != {"y", "x"} or array.dtype.kind not in "iu":
            raise TimoError(
                f"{name} must be years of loss, whole numbers (y, x); got {array.dtype}, {array.dims}. Use "
                "timo.loss_year(...).loss_year."
            )
    if why := grid_mismatch(reference, loss_year, "the map of loss"):
        raise TimoError(
            f"Both maps must lie on one grid; of the reference, {why}. Use "
            "reference.rio.reproject_match(loss_year)."
        )
    mapped, read = (array.transpose("y", "x").values for array in (loss_year, reference))
    known = (mapped >= 0) & (read >= 0)
    said, true = (
        known & (array > 0 if years is None else np.isin(array, list(years)))
        for array in (mapped, read)
    )
    both, reach = said & true, tolerance + 0.5
    precision = _share((said & dilate(true, reach, reach)).sum(), said.sum())
    recall = _share((true & dilate(said, reach, reach)).sum(), true.sum())
    # Of one that is empty nothing is found; of two, nothing can be said.
    f1 = 0.0 if said.any() or true.any() else float("nan")
    if precision + recall > 0:
        f1 = 2 * precision * recall / (precision + recall)
    return {
        "f1_loss": f1,
        "precision": precision,
        "recall": recall,
        "year_right": _share((mapped == read)[both].sum(), both.sum()),
        "area_ratio": _share(said.sum(), true.sum()),
    }


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
