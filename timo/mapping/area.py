"""Areas with confidence intervals, from a map and a reference sample.

Counting the pixels of a map gives the area of the map, errors included. A sample of places that were looked at
closely gives the area on the ground, and how sure one can be of it. The estimators are those of Olofsson et al. 2014,
Good practices for estimating area and assessing accuracy of land change, Remote Sensing of Environment 148, 42-57,
https://doi.org/10.1016/j.rse.2014.02.015; "eq." below is an equation of that paper.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
import pandas as pd
import xarray as xr

from timo.atomic import replacing
from timo.checks import PathLike, Range, checked, described
from timo.cube import grid_mismatch
from timo.errors import TimoError, warn
from timo.mapping.estimators import Errors
from timo.mapping.keys import (
    Areas,
    Classes,
    check_reference,
    is_blank,
    is_number,
    paired,
    plain_key,
    read_floats,
    read_keys,
    sort_classes,
)
from timo.mapping.sampling import (
    allocate,
    check_areas,
    check_drawn,
    count_pixels,
    pixel_areas,
    read_strata,
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
# Section 5.1.2 of the paper advises 50 to 100; under it, the interval of the normal distribution is often too narrow.
FEW_UNITS = 50
# Share by which areas may differ that are the same: those of cells can be measured on the ellipsoid or on the map.
_SAME_AREA = 0.01
# Years of loss: aerial photographs are that old.
_YEARS = range(1900, 2101)
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
        stratum of that name; ``n_reference``, those that are of the class in truth; ``few_units``, whether the interval
        rests on a stratum of fewer than 50 units.
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
    map_class: pd.DataFrame | Classes,
    reference_class: Areas | Classes | None = None,
    map_areas: Areas | None = None,
    *,
    population: Areas | None = None,
    confidence: Confidence = 0.95,
) -> AreaEstimate:
    """Estimate the area of each class from a stratified random sample: ``estimate_area(sample)``.

    A class is what it means: 2018, 2018.0 and the text "2018 " of a spreadsheet are one.

    Parameters
    ----------
    map_class : pandas.DataFrame or sequence (n,)
        The interpreted sample with the columns ``stratum`` and ``reference`` (`timo.mapping.read_sample`); the areas
        may follow. Or the stratum that each sample unit was drawn from: its class in the map.
    reference_class : sequence (n,)
        What is there in truth. Classes that are no stratum are welcome; the area of each is estimated as well. Of two
        Series the index says which units belong together.
    map_areas : mapping of class to float, or pandas.Series
        The mapped area of each stratum, hectares: `timo.mapping.pixel_areas`. By default that which a sample of
        `timo.mapping.stratified_sample` bears; other areas than those are refused.
    population : mapping of class to int, or pandas.Series, optional
        The pixels of each stratum, for the finite population correction; by default those that the sample of
        `timo.mapping.stratified_sample` bears. A stratum that was wholly looked at is a census, without uncertainty,
        even of a single unit. Without them, intervals are too wide where much of a small stratum was sampled.
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
        If the two columns differ in length or in their units, lack a value or hold no class (-1 is no data), if a unit
        is of a stratum whose area is not given, if the areas are not those of the map that a sample was drawn from, or
        if a stratum that is no census has fewer than two units.

    Warns
    -----
    UserWarning
        If a stratum that is no census has fewer than 50 units, with their number; if no class of the reference is a
        stratum, so that nothing says how accurate the map is.

    Notes
    -----
    A stratum whose units all agree adds no variance, so an interval of width 0 means that the sample found no error,
    not that there is none. Strata need not be the classes of the map (years pooled into "loss", a buffer around
    changes): areas and their intervals hold all the same. The accuracies compare a stratum with the reference class of
    the same name, and are NaN for a class that is no stratum.
    """
    if isinstance(map_class, pd.DataFrame):
        sample, given = map_class, reference_class if map_areas is None else map_areas
        _check_columns(sample, "the class that is there in truth")
        _check_once(sample)
        map_areas = _areas_of(sample, given)
        map_class, reference_class = sample["stratum"], sample["reference"]
        population = sample.attrs.get("pixels") if population is None else population
    if reference_class is None or isinstance(reference_class, Mapping):
        raise TimoError(
            "reference_class must give what is there in truth for each sample unit, in a list or a Series; got "
            f"{described(reference_class)}."
        )
    if not isinstance(map_areas, Mapping | pd.Series):
        raise TimoError(
            "map_areas must give the mapped area of each stratum, as timo.mapping.pixel_areas(map) does; got "
            f"{described(map_areas)}."
        )
    first, second = paired(map_class, reference_class)
    areas = check_areas(map_areas)
    strata, reference = read_keys(first, "map_class"), read_keys(second, "reference_class")
    check_reference(reference, areas.index, "reference_class")
    found = _estimate(strata, reference, areas, population, confidence)
    _warn_of_few(found)
    if not set(reference) & set(areas.index):
        warn(
            f"No class of the reference {sort_classes(set(reference))[:5]} is a stratum {list(areas.index)[:5]}: the "
            "areas hold, the accuracies say nothing."
        )
    return found.estimate


def _areas_of(sample: pd.DataFrame, given: Any) -> Areas | None:
    """Return the areas of the strata of a sample: those given, if they are those of its map, or those that it bears."""
    own = sample.attrs.get("hectares")
    if given is None or not isinstance(own, Mapping):
        return given if isinstance(given, Mapping | pd.Series) else own
    own, areas = read_floats(own, "hectares"), check_areas(given)
    if not np.allclose(areas.reindex(own.index), own, rtol=_SAME_AREA):
        raise TimoError(
            f"The areas {areas.to_dict()} are not those of the map that the sample was drawn from, {own.to_dict()} "
            "hectares: leave map_areas out. For a part of the sample give its columns and the areas of that part, "
            "estimate_area(part.stratum, part.reference, areas)."
        )
    return areas


@dataclass(frozen=True, eq=False)
class _Found:
    """An estimate, and the strata with few units."""

    estimate: AreaEstimate
    few: pd.Series


def _estimate(
    strata: list[Hashable],
    reference: list[Hashable],
    areas: pd.Series,
    population: Areas | None,
    confidence: float,
) -> _Found:
    counts = _count(strata, reference, areas)
    units = counts.sum(axis=1)
    pixels = _pixels(units, population)
    _check_strata(units, pixels)
    total = float(areas.sum())
    errors = Errors(
        counts.to_numpy(dtype=float),
        (areas[counts.index] / total).to_numpy(),
        counts.columns.get_indexer(counts.index),
        (1 - units / pixels).to_numpy(),
    )
    few = units[(units < FEW_UNITS) & (units < pixels)]
    overall, overall_se = errors.overall()
    table = _table(errors, areas, counts, confidence)
    decides = counts.loc[few.index] > 0
    table["few_units"] = [c in few.index or bool(decides[c].any()) for c in counts.columns]
    estimate = AreaEstimate(
        table=table,
        error_matrix=pd.DataFrame(errors.p, index=counts.index, columns=counts.columns),
        counts=counts,
        overall_accuracy=overall,
        overall_accuracy_se=overall_se,
        total_ha=total,
        confidence=confidence,
    )
    return _Found(estimate, few)


def _warn_of_few(found: _Found) -> None:
    if len(found.few):
        warn(
            f"Strata with fewer than {FEW_UNITS} sample units: {found.few.to_dict()} (stratum: units). Intervals that "
            "rest on them, marked in the column few_units, are often too narrow: sample more there, or merge strata."
        )


def _pixels(units: pd.Series, population: Areas | None) -> pd.Series:
    """Return the pixels of each stratum, infinitely many where they are not known."""
    if population is None:
        return pd.Series(np.inf, index=units.index)
    pixels = read_floats(population, "population").reindex(units.index)
    if not (pixels >= units).all():
        raise TimoError(
            f"population must give the pixels of each stratum, no fewer than its sample units {units.to_dict()}; it "
            f"gives {pixels.to_dict()}. Use the map that the sample was drawn from, and each unit once."
        )
    return pixels


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
        What `timo.mapping.stratified_sample` drew, ``stratum``, and what is there in truth, ``reference``: 0 or the
        year of loss; see `timo.mapping.read_sample`.
    strata : xarray.DataArray, optional
        (y, x) integers on the grid of `loss_year`: what the sample was drawn from, if not from `loss_year` itself. With
        few pixels in some years, ``(loss_year > 0).where(loss_year >= 0, -1).astype("int16")`` pools them.
    confidence : float
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        ``year`` (the last row is ``"all"``), ``mapped_ha_biased`` (pixel counting), ``estimated_ha``,
        ``standard_error_ha``, ``ci_low_ha``, ``ci_high_ha``, ``few_units``, as `estimate_area` gives them. The interval
        of all years is estimated as such: years are not independent, so their errors do not add up.

    Raises
    ------
    TimoError
        If a column is missing, map or reference hold what is no year, the strata do not cover the map, the sample was
        not drawn from them, and as `estimate_area`.

    Warns
    -----
    UserWarning
        As `estimate_area`.
    """
    reference = _read_years(sample)
    years = read_strata(loss_year)
    mapped = pixel_areas(years)
    _check_map(loss_year, mapped)
    drawn_from = years if strata is None else _check_cover(read_strata(strata), years)
    units = read_keys(sample["stratum"], 'sample["stratum"]')
    areas = pixel_areas(drawn_from)
    check_drawn(sample, units, drawn_from)
    _check_once(sample)
    pixels = count_pixels(drawn_from)
    by_year = _estimate(units, list(reference), areas, pixels, confidence)
    _warn_of_few(by_year)
    # The same sample asked another question: lost at all?
    lost = ["all" if year else "none" for year in reference]
    in_all = _estimate(units, list(lost), areas, pixels, confidence).estimate.table
    rows = pd.concat([by_year.estimate.table, in_all[in_all["class"] == "all"]])
    named = sorted({int(year) for year in (*mapped.index, *reference) if year > 0})
    # A year that is neither mapped as a stratum nor found by anyone is estimated at 0.
    rows, every = rows.set_index("class"), [*named, "all"]
    table = rows[_AREA_COLUMNS].reindex(every, fill_value=0.0)
    table["few_units"] = rows["few_units"].reindex(every, fill_value=False)
    table["mapped_ha_biased"] = [
        *mapped.reindex(named, fill_value=0.0),
        mapped[mapped.index > 0].sum(),
    ]
    return table.rename_axis("year").reset_index()


def _check_columns(sample: pd.DataFrame, truth: str) -> None:
    missing = [name for name in ("stratum", "reference") if name not in sample]
    if missing:
        raise TimoError(
            f"The sample lacks the columns {missing}. Draw it with stratified_sample(...) and note "
            f'in "reference" {truth}.'
        )


def _check_once(sample: pd.DataFrame) -> None:
    """Refuse a sample that holds a unit twice."""
    for names in (["id"], ["row", "col"]):
        if set(names) <= set(sample) and sample.duplicated(names).any():
            twice = sample.loc[sample.duplicated(names), names].iloc[0].to_dict()
            raise TimoError(
                f"The sample holds a unit twice, {twice}: use sample.drop_duplicates({names})."
            )


def _read_years(sample: pd.DataFrame) -> list[int]:
    """Return the year of loss of each unit, 0 = none."""
    _check_columns(sample, "what is there in truth, 0 or the year of loss")
    keys = [plain_key(value) for value in sample["reference"].astype(object)]
    if any(isinstance(key, bool) for key in keys):
        raise TimoError(
            "The reference says True or False, and not the year of loss: note the year, or 0; or ask for what was lost "
            "at all with timo.estimate_area(sample, timo.mapping.pixel_areas(strata))."
        )
    if any(isinstance(key, date | np.datetime64) and not is_blank(key) for key in keys):
        raise TimoError(
            "The reference holds dates: note the year of loss, or 0, as "
            'pandas.to_datetime(sample["reference"]).dt.year makes it of dates (and fillna(0)).'
        )
    known = [is_number(key) and 0 <= key < math.inf for key in keys]
    if not all(known):
        raise TimoError(
            f"{known.count(False)} sample units have no reference: note 0 or the year "
            "of loss for each; leaving out the difficult ones would bias the areas."
        )
    if odd := sort_classes({key for key in keys if key and key not in _YEARS}):
        raise TimoError(
            f"The reference holds {odd[:3]}: a year of loss is a whole number with four digits, such as 2018, and 0 "
            "is no loss. Complete the years."
        )
    return [int(key) for key in keys]


def _check_map(loss_year: xr.DataArray, mapped: pd.Series) -> None:
    odd = [int(year) for year in mapped.index if year and year not in _YEARS]
    if odd or loss_year.dtype == bool:
        raise TimoError(
            f"The map of loss holds {odd[:3] or [True]}: a year of loss has four digits, such as 2018, and 0 is no "
            "loss. Use loss_year.where(loss_year <= 0, loss_year + 2000) of years since 2000; of a map of lost or not, "
            "timo.estimate_area(sample, timo.mapping.pixel_areas(strata))."
        )


def _check_cover(strata: xr.DataArray, years: xr.DataArray) -> xr.DataArray:
    """Refuse strata on another grid, or without a part of the map: its hectares would be of another extent."""
    if why := grid_mismatch(strata, years, "the map of loss"):
        raise TimoError(
            f"The strata are of another extent than the map of loss: {why}. Use the strata of the whole map, or the "
            "part of the map that they cover, as in loss_year.sel(y=strata.y, x=strata.x)."
        )
    beyond = int(((years.values > 0) & (strata.values < 0)).sum())
    if beyond:
        raise TimoError(
            f"The strata are no data where the map of loss has {beyond} pixels of loss, so that the sample says "
            "nothing of them. Use loss_year.where(strata >= 0, -1)."
        )
    return strata


def _table(
    errors: Errors, areas: pd.Series, counts: pd.DataFrame, confidence: float
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
            "n_reference": counts.sum(axis=0).to_numpy(),
        }
    )


def _count(stratum: list[Hashable], reference: list[Hashable], areas: pd.Series) -> pd.DataFrame:
    """Return the sample units of each stratum (rows, area > 0) and reference class (columns)."""
    if len(stratum) != len(reference):
        raise TimoError(
            f"map_class has {len(stratum)} sample units and reference_class {len(reference)}: "
            "give both for each unit."
        )
    strata = areas.index[areas > 0]
    unknown = sort_classes(set(stratum) - set(strata))
    if unknown:
        raise TimoError(
            f"Sample units come from the strata {unknown}, whose area map_areas does not give (it "
            f"has {list(strata)}): give the areas of the map that the sample was drawn from."
        )
    classes = [*areas.index, *sort_classes(set(reference) - set(areas.index))]
    rows, columns = ({key: i for i, key in enumerate(keys)} for keys in (strata, classes))
    counts = np.zeros((len(rows), len(columns)), "int64")
    np.add.at(counts, ([rows[k] for k in stratum], [columns[k] for k in reference]), 1)
    named = pd.Index(list(columns), name="reference")
    return pd.DataFrame(counts, index=strata.rename("map"), columns=named)


def _check_strata(units: pd.Series, pixels: pd.Series) -> None:
    small = units[(units < 2) & (units < pixels)]
    if len(small):
        raise TimoError(
            f"Too few sample units in {small.to_dict()} (stratum: units); the variance of a "
            "stratum takes at least 2, 50 and more are good practice: sample more there, or merge "
            "it with another stratum."
        )
