"""Where to look: how many places, how many in each stratum, and which.

The design is the stratified random sample of Olofsson et al. 2014, Remote Sensing of Environment 148, 42-57, section
5.1: the classes of the map are the strata, so that rare changes are sampled.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyproj
import xarray as xr

from timo.checks import Count, Range, Seed, check, checked
from timo.crs import LONLAT, crs_name, read_crs
from timo.cube import hectares, spacing
from timo.errors import TimoError
from timo.mapping.geotiff import own_nodata, warn_of_comparison
from timo.mapping.keys import Areas, read_floats

_Units = Annotated[int, Range(least=0, most=10**9)]
_Accuracy = Mapping[Any, float] | pd.Series | float


@checked
def pixel_areas(labels: xr.DataArray) -> pd.Series:
    """Return the area of each class by counting its pixels, hectares.

    These are the areas of the strata for `timo.mapping.area.estimate_area`. As an answer to "how much is there" they
    are biased by the errors of the map.

    Parameters
    ----------
    labels : xarray.DataArray
        (y, x) classes on a grid with a CRS; negative, NaN, or ``.rio.nodata`` = no data.

    Returns
    -------
    pandas.Series
        Hectares by class number, ascending; classes that do not occur are left out.

    Raises
    ------
    TimoError
        If `labels` is no such map, or no data all over.
    """
    return pd.Series(hectares(read_strata(labels)))


@checked
def sample_size(
    target_se: Annotated[float, Range(least=1e-6, most=1)],
    map_areas: Areas,
    expected_users_accuracy: _Accuracy,
    *,
    pixels: Count | None = None,
) -> int:
    """Find how many sample units give the overall accuracy with a standard error (eq. 13).

    Parameters
    ----------
    target_se : float
        The standard error wanted of the overall accuracy, such as 0.01.
    map_areas : mapping of class to float, or pandas.Series
        The mapped area of each stratum, in any unit.
    expected_users_accuracy : mapping of class to float, or float
        A guess at the user's accuracy of each stratum, or one for all.
    pixels : int, optional
        The pixels of the whole map, for the finite population correction of maps so small that it matters.

    Returns
    -------
    int
        Sample units in all; `allocate` shares them out.

    Raises
    ------
    TimoError
        If `target_se` is not from 1e-6 to 1, an area is no area, an accuracy is missing or not between 0 and 1, or all
        are 0 or 1, which leaves nothing to estimate.
    """
    areas = check_areas(map_areas)
    weights = areas / areas.sum()
    deviation = _deviation(areas, expected_users_accuracy)
    if not (weights * deviation).any():
        raise TimoError(
            "expected_users_accuracy is 0 or 1 in every stratum, so that a sample would have nothing to find: give a "
            "guess between them, such as 0.9."
        )
    correction = 0.0 if pixels is None else float((weights * deviation**2).sum()) / pixels
    size = float((weights * deviation).sum()) ** 2 / (target_se**2 + correction)
    return math.ceil(size)


@checked
def allocate(
    map_areas: Areas,
    n: _Units,
    *,
    minimum: _Units = 50,
    expected_users_accuracy: _Accuracy | None = None,
    available: Mapping[Any, _Units] | pd.Series | None = None,
) -> pd.Series:
    """Share sample units out among the strata (section 5.1.2).

    In proportion to area, but no stratum gets less than `minimum`: rare classes are what a map of change is about, and
    their proportional share would be a handful.

    Parameters
    ----------
    map_areas : mapping of class to float, or pandas.Series
        The mapped area of each stratum, in any unit.
    n : int
        Sample units in all.
    minimum : int
        Of units for each stratum; the paper advises 50 to 100 for rare classes.
    expected_users_accuracy : mapping of class to float, or float, optional
        With it, in proportion to area times the standard deviation that follows from it (Neyman's allocation): more
        units where the map errs more.
    available : mapping of class to int, or pandas.Series, optional
        The pixels of each stratum. One that has fewer than its share, or than `minimum`, is taken whole.

    Returns
    -------
    pandas.Series
        Units by class; their sum is `n`.

    Raises
    ------
    TimoError
        If `n` is too small for the minimum, or more than there are pixels, or an accuracy is missing or not between 0
        and 1.
    """
    areas = check_areas(map_areas)
    shares = areas.to_numpy(copy=True)
    if expected_users_accuracy is not None:
        shares *= _deviation(areas, expected_users_accuracy).to_numpy()
    most = np.where(areas > 0, n, 0)
    if available is not None:
        pixels = read_floats(available, "available").reindex(areas.index)
        if not (pixels >= 0).all():
            raise TimoError(
                f"available must give the pixels of each stratum; it gives {pixels.to_dict()}."
            )
        most = np.minimum(pixels.to_numpy().astype(int), most)
    least = np.minimum(minimum, most)
    if least.sum() > n:
        raise TimoError(
            f"{n} sample units are too few for {len(areas)} strata with at least {minimum} each: "
            f"take {least.sum()} or more, or pass a smaller minimum."
        )
    if most.sum() < n:
        raise TimoError(
            f"{n} sample units are more than the {most.sum()} pixels of the strata: take fewer."
        )
    return pd.Series(_share_out(shares, n, least, most), index=areas.index, name="n")


@checked
def stratified_sample(
    labels: xr.DataArray, n: Count | Mapping[Any, _Units] | pd.Series, seed: Seed
) -> pd.DataFrame:
    """Draw a random sample without replacement in each stratum of a map.

    `timo.mapping.write_sample` writes it for an interpreter, `timo.mapping.read_sample` brings back what was seen.

    Parameters
    ----------
    labels : xarray.DataArray
        (y, x) strata on a grid with a CRS; negative, NaN, or ``.rio.nodata`` = no data, where nothing is drawn.
    n : int, or mapping of class to int
        Sample units in all, which `allocate` shares out (at least 50 each as far as `n` suffices), or the units of each
        stratum.
    seed : int
        The same seed draws the same places.

    Returns
    -------
    pandas.DataFrame
        A row for each unit: ``id`` (1, 2, ...), ``longitude``, ``latitude`` (WGS 84, degrees), ``y``, ``x``
        (coordinates of the cell centre in the CRS of the map), ``row``, ``col``, ``stratum``. The strata are mixed, so
        that the order tells an interpreter nothing. ``attrs["crs"]`` is the CRS, ``attrs["pixels"]`` and
        ``attrs["hectares"]`` are the size of each stratum.

    Raises
    ------
    TimoError
        If `labels` is no such map, or a stratum has fewer pixels than units.
    """
    strata = read_strata(labels)
    values, counts = strata.values, count_pixels(strata)
    crs, to_degrees = _in_degrees(None if labels.rio.crs is None else labels.rio.crs.to_wkt())
    if isinstance(n, int):
        n = allocate(counts, n, minimum=min(50, n // len(counts)), available=counts)
    random = np.random.default_rng(seed)
    wanted = check(dict(n), Mapping[Any, _Units], "n")
    drawn = [
        _draw(values == stratum, stratum, int(units), int(counts.get(stratum, 0)), random)
        for stratum, units in read_floats(wanted, "n").items()
        if units
    ]
    sample = pd.concat(drawn, ignore_index=True) if drawn else None
    if sample is None:
        raise TimoError("There is no sample unit to draw: ask for at least one.")
    sample = sample.iloc[random.permutation(len(sample))].reset_index(drop=True)
    y, x = strata["y"].values[sample["row"]], strata["x"].values[sample["col"]]
    longitude, latitude = to_degrees.transform(x, y)
    places = {"id": sample.index + 1, "longitude": longitude, "latitude": latitude, "y": y, "x": x}
    for position, (name, column) in enumerate(places.items()):
        sample.insert(position, name, column)
    sample.attrs = {
        "crs": crs,
        "pixels": {int(k): int(v) for k, v in zip(counts.index, counts, strict=True)},
    }
    # A reference system that distorts areas has none; the pixels can be drawn all the same.
    with suppress(TimoError):
        areas = pixel_areas(strata)
        held = zip(areas.index, areas, strict=True)
        sample.attrs["hectares"] = {int(k): float(v) for k, v in held}
    return sample


@lru_cache(maxsize=8)
def _in_degrees(wkt: str | None) -> tuple[str, pyproj.Transformer]:
    """Return the name of a CRS, and what carries its x and y to longitude and latitude."""
    crs = read_crs(wkt, what="The map's CRS")
    return crs_name(crs), pyproj.Transformer.from_crs(crs, LONLAT, always_xy=True)


def check_areas(map_areas: Areas) -> pd.Series:
    """Return the areas of the strata as a Series; raise a `TimoError` where they are none."""
    areas = read_floats(map_areas, "map_areas")
    if areas.empty or not (np.isfinite(areas) & (areas >= 0)).all() or not areas.sum():
        raise TimoError(
            "map_areas must give the mapped area of each stratum, finite, not negative, not all 0; "
            f"it is {areas.to_dict()}."
        )
    return areas


def check_drawn(sample: pd.DataFrame, units: list[Any], strata: xr.DataArray) -> None:
    """Refuse a sample that was drawn from another map, where it says which pixels it holds; `units` are its strata."""
    if not {"row", "col"} <= set(sample):
        return
    cells = sample[["row", "col"]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    inside = ((cells >= 0) & (cells < strata.shape) & (cells == np.round(cells))).all(axis=1)
    rows, columns = np.where(inside[:, None], cells, 0).astype(int).T
    right = inside & (strata.values[rows, columns] == np.array(units, dtype=object)).astype(bool)
    for dim, at in (("y", rows), ("x", columns)):
        if dim in sample and strata.sizes[dim] > 1:
            given = pd.to_numeric(sample[dim], errors="coerce").to_numpy()
            right &= np.abs(strata[dim].values[at] - given) < abs(spacing(strata, dim)) / 2
    if not right.all():
        first = sample.iloc[int(np.argmin(right))][["row", "col", "stratum"]].to_dict()
        raise TimoError(
            f"{int((~right).sum())} of {len(sample)} sample units do not lie on this map in the stratum that they say "
            f"they are of, the first with {first}: give the map that the sample was drawn from, as strata=."
        )


def count_pixels(strata: xr.DataArray) -> pd.Series:
    """Return the pixels of each stratum of what `read_strata` returned."""
    classes, counts = np.unique(strata.values[strata.values >= 0], return_counts=True)
    return pd.Series(counts, index=classes)


def read_strata(labels: xr.DataArray) -> xr.DataArray:
    """Return (y, x) integers by number, -1 = no data, in memory."""
    if set(labels.dims) != {"y", "x"} or labels.dtype.kind not in "biuf":
        raise TimoError(
            f"Strata are numbers with the dimensions y and x; these have {labels.dims}, {labels.dtype}. "
            "Use labels.isel(...) or timo.predict(...).label."
        )
    warn_of_comparison(labels)
    labels = labels.transpose("y", "x")
    values = labels.values
    if values.dtype == bool:
        values = values.astype("uint8")
    missing = values < 0
    if values.dtype.kind == "f":
        missing |= np.isnan(values)
    nodata = own_nodata(labels)
    if nodata is not None:
        missing |= values == nodata
    # A signed type is kept, for the sake of large maps: -1 fits any.
    numbers = np.where(missing, values.dtype.type(0), values)
    with np.errstate(invalid="ignore"):  # infinity is met below
        numbers = numbers if numbers.dtype.kind == "i" else numbers.astype("int64")
    numbers[missing] = -1
    if (numbers[~missing] != values[~missing]).any():
        raise TimoError(
            "Strata are whole numbers, and these have fractions: classify the map first."
        )
    if missing.all():
        raise TimoError("The map is no data all over: there is nothing to sample or to measure.")
    strata = labels.copy(data=numbers)
    # Without the names of the classes: from here on a class is its number.
    strata.attrs = {k: v for k, v in labels.attrs.items() if k == "grid_mapping"}
    return strata


def _draw(
    where: np.ndarray, stratum: Hashable, units: int, pixels: int, random: np.random.Generator
) -> pd.DataFrame:
    """Draw units among the True cells (y, x) of a mask."""
    if units > pixels:
        raise TimoError(
            f"Stratum {stratum} has {pixels} pixels, fewer than the {units} sample units asked "
            "for: ask for fewer, or merge it with another stratum."
        )
    ordinal = np.sort(random.choice(pixels, units, replace=False))
    # Row by row, so that the places of all pixels of a large map are never listed.
    until = np.cumsum(where.sum(axis=1))
    rows = np.searchsorted(until, ordinal, side="right")
    before = np.concatenate([[0], until])[rows]
    columns = [np.flatnonzero(where[row])[k] for row, k in zip(rows, ordinal - before, strict=True)]
    return pd.DataFrame({"row": rows, "col": columns, "stratum": [stratum] * units})


def _deviation(areas: pd.Series, expected_users_accuracy: _Accuracy) -> pd.Series:
    """Return the standard deviation sqrt(U (1 - U)) of each stratum."""
    if isinstance(expected_users_accuracy, Mapping | pd.Series):
        given = read_floats(expected_users_accuracy, "expected_users_accuracy")
        accuracy = given.reindex(areas.index)
    else:
        accuracy = pd.Series(expected_users_accuracy, index=areas.index, dtype="float64")
    if not accuracy.between(0, 1).all():
        raise TimoError(
            "expected_users_accuracy must give a number from 0 to 1 for each stratum; it gives "
            f"{accuracy.to_dict()}."
        )
    return (accuracy * (1 - accuracy)) ** 0.5


def _share_out(shares: np.ndarray, n: int, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Return whole numbers in proportion to `shares`, within bounds, that sum to `n`."""
    # One factor serves all strata that meet no bound; the sum grows with it.
    shares = np.maximum(shares / shares.max(), 1e-12) if shares.any() else np.ones_like(shares)
    low, high = 0.0, n / shares.min()
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(middle * shares, least, most).sum() < n:
            low = middle
        else:
            high = middle
    exact = np.clip(high * shares, least, most)
    units = np.floor(exact + 1e-9).astype(int)
    # What rounding down left goes to the largest fractions.
    for index in np.argsort(units - exact, kind="stable"):
        if units.sum() == n:
            break
        if units[index] < most[index]:
            units[index] += 1
    return units
