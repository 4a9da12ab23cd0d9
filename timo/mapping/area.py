"""Areas with confidence intervals, from a map and a reference sample.

Counting the pixels of a map gives the area of the map, errors included. A sample of places that were looked at
closely gives the area on the ground, and how sure one can be of it. The estimators are those of Olofsson et al. 2014,
Good practices for estimating area and assessing accuracy of land change, Remote Sensing of Environment 148, 42-57,
https://doi.org/10.1016/j.rse.2014.02.015; "eq." below is an equation of that paper.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
import pandas as pd
import xarray as xr

from timo.atomic import replacing
from timo.checks import PathLike, Range, checked
from timo.errors import TimoError
from timo.mapping.sampling import (
    allocate,
    check_areas,
    pixel_areas,
    sample_size,
    stratified_sample,
)

__all__ = [
    "AreaEstimate",
    "allocate",
    "estimate_area",
    "loss_areas",
    "pixel_areas",
    "sample_size",
    "stratified_sample",
]

_AREA_COLUMNS = [
    "mapped_ha_biased",
    "estimated_ha",
    "standard_error_ha",
    "ci_low_ha",
    "ci_high_ha",
]
Classes = Sequence[Hashable] | np.ndarray | pd.Series | xr.DataArray
Confidence = Annotated[float, Range(above=0, below=1)]


@checked
@dataclass(frozen=True, eq=False)
class AreaEstimate:
    """Areas and accuracies of a map, with their uncertainty.

    Attributes
    ----------
    table : pandas.DataFrame
        A row for each class: ``class``; ``mapped_ha_biased``, the area by pixel counting, which is biased by the errors
        of the map and shown for comparison only; ``estimated_ha`` with ``standard_error_ha``, ``ci_low_ha``,
        ``ci_high_ha``; ``users_accuracy`` and ``producers_accuracy`` with ``..._se``; ``n``, the sample units in the
        stratum of that name.
    error_matrix : pandas.DataFrame
        Estimated proportions of area, strata of the map x classes of the reference (eq. 4).
    counts : pandas.DataFrame
        The same in sample units.
    overall_accuracy, overall_accuracy_se : float
        The proportion of area that is mapped right, and its standard error.
    total_ha : float
        The area of the map, hectares.
    confidence : float
        The confidence of the intervals, such as 0.95.
    """

    table: pd.DataFrame
    error_matrix: pd.DataFrame
    counts: pd.DataFrame
    overall_accuracy: float
    overall_accuracy_se: float
    total_ha: float
    confidence: float

    @checked
    def to_csv(self, path: PathLike) -> Path:
        """Write `table` to a CSV file, whole or not at all; return its path.

        Raises
        ------
        TimoError
            If the folder cannot be written.
        """
        with replacing(path) as partial:
            self.table.to_csv(partial, index=False)
        return Path(path).expanduser()


@checked
def estimate_area(
    map_class: Classes,
    reference_class: Classes,
    map_areas: Mapping[Any, float] | pd.Series,
    *,
    confidence: Confidence = 0.95,
) -> AreaEstimate:
    """Estimate the area of each class from a stratified random sample.

    Parameters
    ----------
    map_class : sequence (n,)
        The stratum that each sample unit was drawn from: its class in the map.
    reference_class : sequence (n,)
        What is there in truth. Classes that are no stratum are welcome; the area of each is estimated as well.
    map_areas : mapping of class to float, or pandas.Series
        The mapped area of each stratum, hectares.
    confidence : float
        Of the intervals.

    Returns
    -------
    AreaEstimate
        Areas (eqs. 8-12), user's, producer's and overall accuracy with standard errors (eqs. 5-7), intervals of the
        normal distribution, as in the paper. They are cut off at 0 hectares and at the whole area: an area cannot lie
        beyond, the standard error is not changed.

    Raises
    ------
    TimoError
        If the two sequences differ in length or lack a value, if a unit is of a stratum whose area is not given, or if
        a stratum has fewer than two units.

    Notes
    -----
    As in the paper there is no finite population correction: where much of a small stratum was sampled, intervals are
    too wide rather than too narrow. A stratum whose units all agree adds no variance, so an interval of width 0 means
    that the sample found no error, not that there is none. Strata need not be the classes of the map (years pooled into
    "loss", a buffer around changes): areas and their intervals hold all the same. The accuracies compare a stratum with
    the reference class of the same name, and are NaN for a class that is no stratum.
    """
    areas = check_areas(map_areas)
    counts = _count(map_class, reference_class, areas)
    total = float(areas.sum())
    errors = _Errors(
        counts.to_numpy(dtype=float),
        (areas[counts.index] / total).to_numpy(),
        counts.columns.get_indexer(counts.index),
    )
    overall, overall_se = errors.overall()
    return AreaEstimate(
        table=_table(errors, areas, counts, confidence),
        error_matrix=pd.DataFrame(errors.p, index=counts.index, columns=counts.columns),
        counts=counts,
        overall_accuracy=overall,
        overall_accuracy_se=overall_se,
        total_ha=total,
        confidence=confidence,
    )


@checked
def loss_areas(
    loss_year: xr.DataArray,
    sample: pd.DataFrame,
    *,
    strata: xr.DataArray | None = None,
    confidence: Confidence = 0.95,
) -> pd.DataFrame:
    """Estimate the area lost in each year, and in all years together.

    Parameters
    ----------
    loss_year : xarray.DataArray
        (y, x) integers: 0 = no loss, else the year of loss, negative = no data.
    sample : pandas.DataFrame
        What `timo.mapping.sampling.stratified_sample` drew, ``stratum``, and what is there in truth, ``reference``:
        0 or the year of loss.
    strata : xarray.DataArray, optional
        (y, x) integers: what the sample was drawn from, if not from `loss_year` itself. With few pixels in some years,
        ``(loss_year > 0).where(loss_year >= 0, -1).astype("int16")`` pools them.
    confidence : float
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        ``year`` (the last row is ``"all"``), ``mapped_ha_biased`` (pixel counting), ``estimated_ha``,
        ``standard_error_ha``, ``ci_low_ha``, ``ci_high_ha``. The interval of all years is estimated as such: years are
        not independent, so their errors do not add up.

    Raises
    ------
    TimoError
        If a column is missing, and as `estimate_area`.
    """
    reference = _check_loss_sample(sample)
    mapped = pixel_areas(loss_year)
    areas = mapped if strata is None else pixel_areas(strata)
    by_year = estimate_area(sample["stratum"], reference, areas, confidence=confidence)
    # The same sample asked another question: lost at all?
    lost = np.where(reference > 0, "all", "none")
    in_all = estimate_area(sample["stratum"], lost, areas, confidence=confidence)
    all_years = in_all.table[in_all.table["class"] == "all"]
    rows = pd.concat([by_year.table, all_years]).set_index("class")[_AREA_COLUMNS]
    years = sorted({int(year) for year in (*mapped.index, *reference) if year > 0})
    # A year that is neither mapped as a stratum nor found by anyone is estimated at 0.
    table = rows.reindex([*years, "all"], fill_value=0.0)
    table["mapped_ha_biased"] = [
        *mapped.reindex(years, fill_value=0.0),
        mapped[mapped.index > 0].sum(),
    ]
    return table.rename_axis("year").reset_index()


def _check_loss_sample(sample: pd.DataFrame) -> pd.Series:
    missing = [name for name in ("stratum", "reference") if name not in sample]
    if missing:
        raise TimoError(
            f"The sample lacks the columns {missing}. Draw it with stratified_sample(...) and note "
            'in "reference" what is there in truth, 0 or the year of loss.'
        )
    reference = pd.to_numeric(sample["reference"], errors="coerce")
    known = np.isfinite(reference) & (reference >= 0)
    if not known.all():
        raise TimoError(
            f"{int((~known).sum())} sample units have no reference: note 0 or the year "
            "of loss for each; leaving out the difficult ones would bias the areas."
        )
    return reference


def _table(
    errors: _Errors, areas: pd.Series, counts: pd.DataFrame, confidence: float
) -> pd.DataFrame:
    classes, total = counts.columns, float(areas.sum())
    share, share_se = errors.areas()
    estimated, error = share * total, share_se * total  # eqs. 11, 12
    margin = NormalDist().inv_cdf((1 + confidence) / 2) * error
    users, users_se = errors.users()
    producers, producers_se = errors.producers()
    return pd.DataFrame(
        {
            "class": classes,
            "mapped_ha_biased": areas.reindex(classes, fill_value=0.0).to_numpy(),
            "estimated_ha": estimated,
            "standard_error_ha": error,
            "ci_low_ha": np.clip(estimated - margin, 0, total),
            "ci_high_ha": np.clip(estimated + margin, 0, total),
            "users_accuracy": users,
            "users_accuracy_se": users_se,
            "producers_accuracy": producers,
            "producers_accuracy_se": producers_se,
            "n": counts.sum(axis=1).reindex(classes, fill_value=0).to_numpy(),
        }
    )


def _count(map_class: Classes, reference_class: Classes, areas: pd.Series) -> pd.DataFrame:
    """Return the sample units of each stratum (rows, area > 0) and reference class (columns)."""
    stratum = _values(map_class, "map_class")
    reference = _values(reference_class, "reference_class")
    if len(stratum) != len(reference):
        raise TimoError(
            f"map_class has {len(stratum)} sample units and reference_class {len(reference)}: "
            "give both for each unit."
        )
    strata = areas.index[areas > 0]
    unknown = sorted(set(stratum) - set(strata), key=str)
    if unknown:
        raise TimoError(
            f"Sample units come from the strata {unknown}, whose area map_areas does not give (it "
            f"has {list(strata)}): give the areas of the map that the sample was drawn from."
        )
    others = sorted(set(reference) - set(areas.index), key=lambda c: (str(type(c)), c))
    counts = (
        pd.crosstab(pd.Series(stratum, dtype=object), pd.Series(reference, dtype=object))
        .reindex(index=strata, fill_value=0)
        .reindex(columns=[*areas.index, *others], fill_value=0)
    )
    counts.index.name, counts.columns.name = "map", "reference"
    _check_strata(counts.sum(axis=1))
    return counts


def _check_strata(units: pd.Series) -> None:
    small = units[units < 2]
    if len(small):
        raise TimoError(
            f"Too few sample units in {small.to_dict()} (stratum: units); the variance of a "
            "stratum takes at least 2, 50 and more are good practice: sample more there, or merge "
            "it with another stratum."
        )


def _values(classes: Classes, name: str) -> list[Hashable]:
    values = pd.Series(np.asarray(classes).ravel()).astype(object)
    if values.isna().any():
        raise TimoError(
            f"{name} lacks a value for {int(values.isna().sum())} sample units: complete it; "
            "leaving out the difficult ones would bias the areas."
        )
    # A column that held a gap once is of floats, and 2018.0 is a poor name for a year.
    return [int(v) if isinstance(v, float) and v.is_integer() else v for v in values.tolist()]


class _Errors:
    """The estimators; (s,) are strata, (k,) are classes, NaN where a quantity is not defined.

    Parameters
    ----------
    counts : ndarray (s, k)
        Sample units.
    weights : ndarray (s,)
        Shares of the area.
    place : ndarray (s,)
        Which class each stratum is called.
    """

    def __init__(self, counts: np.ndarray, weights: np.ndarray, place: np.ndarray) -> None:
        units = counts.sum(axis=1, keepdims=True)
        share = counts / units
        self.weights, self.place = weights, place
        self.p = weights[:, None] * share  # eq. 4
        # Variance of each cell of the matrix. Those of the estimators below are sums over it.
        self.v = weights[:, None] ** 2 * share * (1 - share) / (units - 1)
        # Of the cells where map and reference agree, by class.
        self.p_right, self.v_right = self._agreement(self.p), self._agreement(self.v)

    def _agreement(self, matrix: np.ndarray) -> np.ndarray:
        right = np.zeros(matrix.shape[1])
        right[self.place] = matrix[np.arange(len(self.place)), self.place]
        return right

    def overall(self) -> tuple[float, float]:
        """Return overall accuracy (eq. 1) and its standard error (eq. 5)."""
        return float(self.p_right.sum()), float(np.sqrt(self.v_right.sum()))

    def users(self) -> tuple[np.ndarray, np.ndarray]:
        """Return user's accuracy (k,) (eq. 2) and its standard error (eq. 6)."""
        weights = np.full(self.p.shape[1], np.nan)
        weights[self.place] = self.weights
        return self.p_right / weights, np.sqrt(self.v_right) / weights

    def producers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return producer's accuracy (k,) (eq. 3) and its standard error (eq. 7)."""
        area = np.full(self.p.shape[1], np.nan)
        area[self.place] = self.p.sum(axis=0)[self.place]
        area[area == 0] = np.nan
        accuracy = self.p_right / area
        elsewhere = self.v.sum(axis=0) - self.v_right
        variance = (1 - accuracy) ** 2 * self.v_right + accuracy**2 * elsewhere
        return accuracy, np.sqrt(variance) / area

    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Return shares of the area (k,) (eqs. 8, 9) and its standard error (eq. 10)."""
        return self.p.sum(axis=0), np.sqrt(self.v.sum(axis=0))
