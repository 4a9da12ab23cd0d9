"""Are the errors on held-out places still alike nearby? Then the split into blocks was finer than the landscape.

A map's errors come in patches. If the patches are larger than the blocks that were held out, a held-out pixel shares
its patch with training pixels next door, and the accuracy that it gives is too good (Roberts et al. 2017, Ecography
40, 913-929; Ploton et al. 2020, Nature Communications 11, 4540).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import xarray as xr

from timo.checks import Range, checked
from timo.cube import cell_size_m, check_labels
from timo.errors import TimoError
from timo.geostat import VariogramModel

VALIDATION = 1
# Fewer pairs of bins say nothing of a range.
FEWEST_PIXELS = 30
_SHUFFLES, _MOST_PAIRS = 99, 50_000
_BLOCKS, _CELLS = 4, 10
_KINDS = ("spherical", "exponential", "gaussian")


@checked
@dataclass(frozen=True)
class HeldOutErrors:
    """Errors on held-out pixels, and whether their split into blocks was honest.

    Attributes
    ----------
    variogram : xarray.Dataset
        (lag): `semivariance` of the residuals, summed over the classes, and `pairs`; lags in metres.
    model : VariogramModel
        What was fitted to it.
    range_m : float
        Distance in metres up to which errors are alike; 0 where they are not alike at all, and four blocks at most.
    nugget_share : float
        Share of their variance that neighbours do not share, 0..1.
    p_value : float
        How often errors that were shuffled among the held-out pixels are as alike between neighbours.
    block_m : float
        Side in metres of the blocks that were held out.
    near_share : float
        Share of the held-out pixels that lie within the range of a training pixel; NaN without training pixels.
    pixels : int
        Held-out pixels with a label and a prediction.
    """

    variogram: xr.Dataset
    model: VariogramModel
    range_m: float
    nugget_share: float
    p_value: float
    block_m: float
    near_share: float
    pixels: int

    @property
    def correlated(self) -> bool:
        """Whether neighbouring errors are more alike than chance makes them, at the level of 5 %."""
        return self.p_value < 0.05 and self.range_m > 0

    @property
    def honest(self) -> bool:
        """Whether the blocks are at least as large as the patches of the errors."""
        return not self.correlated or self.range_m <= self.block_m

    @property
    def summary(self) -> str:
        """One or two sentences for a person."""
        if not self.correlated:
            return f"The errors on {self.pixels:,} held-out pixels are not alike nearby: the split was honest."
        least = "at least " if self.range_m >= float(self.variogram.lag[-1]) else ""
        text = (
            f"The errors on {self.pixels:,} held-out pixels are alike up to {least}{self.range_m:,.0f} m, the blocks "
            f"are {self.block_m:,.0f} m wide"
        )
        if not math.isnan(self.near_share):
            text += f", {self.near_share:.0%} of those pixels lie nearer than that to training"
        if self.honest:
            return f"{text}: the blocks are wide enough."
        return (
            f"{text}: the blocks are too small, held-out pixels share their patch with training pixels and the "
            f"accuracy is too good. Split again with timo.cube.blocks(cube, size_m={self._wider():.0f}) or more."
        )

    def _wider(self) -> float:
        return math.ceil(self.range_m / 50) * 50


@checked
def held_out_errors(
    result: xr.Dataset,
    labels: xr.DataArray,
    split: xr.DataArray,
    part: Annotated[int, Range(least=0, most=2)] = VALIDATION,
) -> HeldOutErrors:
    """Measure how far a map's errors on the held-out pixels are alike, and judge the split by it.

    A residual is, for each class, 1 or 0 for what the label says minus the probability of the map, or the label minus
    the predicted value, averaged over the dates that have both (`residuals`).

    Parameters
    ----------
    result : xarray.Dataset
        A map, from `timo.predict`.
    labels : xarray.DataArray
        (y, x) or (time, y, x) classes, -1 = unlabelled; of a regression values, NaN = unlabelled.
    split : xarray.DataArray
        (y, x), from `timo.cube.split_blocks`: 0 = training.
    part : int
        The part that was held out: 1 = validation, 2 = test.

    Returns
    -------
    HeldOutErrors
        The variogram, its range, and whether the blocks are large enough.

    Raises
    ------
    TimoError
        If the grids differ, or the part has too few labelled pixels.
    """
    residual = residuals(result, labels)
    if set(split.dims) != {"y", "x"} or split.dtype.kind not in "biuf":
        raise TimoError(
            f"split must be numbers (y, x); got {split.dtype}, {split.dims}. Use timo.cube.split_blocks."
        )
    check_labels(split.fillna(-1).astype("int8"), residual.isel({"class": 0}, drop=True))
    held = residual.where(split == part).transpose("class", "y", "x")
    known = held.notnull().all("class").values
    if int(known.sum()) < FEWEST_PIXELS:
        raise TimoError(
            f"Part {part} of the split has {int(known.sum())} pixels with a label and a prediction; at least "
            f"{FEWEST_PIXELS} are needed to measure how far errors are alike."
        )
    if _alike(held, known):
        raise TimoError(
            "The errors are the same on all held-out pixels (a perfect map has none): how far they are alike cannot "
            "be measured."
        )
    block_m = _block_side(split, part)
    empirical, model = _fit(held, block_m)
    range_m = 0.0 if model.sill <= model.nugget else min(model.range_m, float(empirical.lag[-1]))
    return HeldOutErrors(
        variogram=empirical,
        model=model,
        range_m=range_m,
        nugget_share=model.nugget / model.sill if model.sill > 0 else 1.0,
        p_value=_chance(held.values, known),
        block_m=block_m,
        near_share=_near_share(split, known, range_m),
        pixels=int(known.sum()),
    )


@checked
def residuals(result: xr.Dataset, labels: xr.DataArray) -> xr.DataArray:
    """Return labels minus the map, (class, y, x): the mean of the dates that have both.

    Of a map of classes, the labels are 1 or 0 for each class, and the map its probability. Of a regression there is one
    "class", `value`: the label minus the predicted value.

    Raises
    ------
    TimoError
        If `result` is no map of `timo.predict`, or the labels are on another grid.
    """
    values = "value" in result
    residual = (
        _value_residual(result["value"], labels) if values else _class_residual(result, labels)
    )
    if "time" in residual.dims:
        # A pixel that no date has seen has no mean: NaN, and no warning.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            residual = residual.mean("time")
    if "spatial_ref" in result.coords:
        residual = residual.assign_coords(spatial_ref=result.spatial_ref)
    return residual.rename("residual")


def _class_residual(result: xr.Dataset, labels: xr.DataArray) -> xr.DataArray:
    if "probability" not in result or not {"class", "y", "x"} <= set(result.probability.dims):
        raise TimoError(
            "result is the map of timo.predict(...): a Dataset with probability (class, y, x), or value (y, x)."
        )
    probability = result.probability
    check_labels(labels, probability.isel({"class": 0}, drop=True))
    truth = xr.concat([labels == i for i in range(probability.sizes["class"])], dim="class")
    truth = truth.assign_coords({"class": probability["class"]}).astype("float32")
    return (truth - probability).where(labels >= 0)


def _value_residual(value: xr.DataArray, labels: xr.DataArray) -> xr.DataArray:
    check_labels(labels, value, numeric=True)
    return (labels - value).expand_dims({"class": ["value"]})


def _fit(held: xr.DataArray, block_m: float) -> tuple[xr.Dataset, VariogramModel]:
    from timo.geostat import fit_best
    from timo.geostat.variograms import variogram

    # The classes are pooled as dates are: half the mean squared difference of the vectors. Patches are sought that
    # are up to some blocks wide: what rises beyond is a trend across the whole area, which no block takes out.
    pooled = held.drop_vars("class").rename({"class": "time"})
    reach = max(_BLOCKS * block_m, _CELLS * max(cell_size_m(held)))
    height, width = (n * size for n, size in zip(held.shape[1:], cell_size_m(held), strict=True))
    empirical = variogram(pooled, max_lag=min(reach, math.hypot(height, width) / 2))
    empirical["semivariance"] = empirical.semivariance * held.sizes["class"]
    with warnings.catch_warnings():
        # Of a curve that still rises at its end: the range is given as its end, and the summary says it.
        warnings.simplefilter("ignore", RuntimeWarning)
        return empirical, fit_best(empirical, kinds=_KINDS)


def _alike(held: xr.DataArray, known: np.ndarray) -> bool:
    vectors = held.values[:, known]
    return bool(np.ptp(vectors, axis=1).max() < 1e-9)


def _chance(values: np.ndarray, known: np.ndarray) -> float:
    """Return the share of shuffles in which neighbours are as alike as they are, (class, y, x) values."""
    pairs = _neighbours(known)
    if not len(pairs):
        return 1.0
    rng = np.random.default_rng(0)
    if len(pairs) > _MOST_PAIRS:
        pairs = pairs[rng.choice(len(pairs), _MOST_PAIRS, replace=False)]
    vectors = values[:, known].T
    seen = _difference(vectors, pairs)
    shuffled = [_difference(rng.permutation(vectors), pairs) for _ in range(_SHUFFLES)]
    return float((1 + sum(d <= seen for d in shuffled)) / (1 + _SHUFFLES))


def _neighbours(known: np.ndarray) -> np.ndarray:
    """Return the numbers, (pair, 2), of known pixels that touch along an edge."""
    number = np.full(known.shape, -1)
    number[known] = np.arange(known.sum())
    across = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], axis=1)
    down = np.stack([number[:-1].ravel(), number[1:].ravel()], axis=1)
    pairs = np.concatenate([across, down])
    return pairs[(pairs >= 0).all(axis=1)]


def _difference(vectors: np.ndarray, pairs: np.ndarray) -> float:
    return float(((vectors[pairs[:, 0]] - vectors[pairs[:, 1]]) ** 2).sum(axis=1).mean())


def _block_side(split: xr.DataArray, part: int) -> float:
    """Return the side of the blocks: as the split says, or twice the way from the middle of the widest to its edge."""
    if split.attrs.get("block_m"):
        return float(split.attrs["block_m"])
    return 2 * float(_distance(np.pad(split.values != part, 1, constant_values=True), split).max())


def _near_share(split: xr.DataArray, known: np.ndarray, range_m: float) -> float:
    if not (split.values == 0).any():
        return math.nan
    return float((_distance(split.values == 0, split)[known] < range_m).mean())


def _distance(target: np.ndarray, like: xr.DataArray) -> np.ndarray:
    """Return the metres from each pixel, (y, x), to the nearest pixel of the target, between centres."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(~target, sampling=cell_size_m(like))
