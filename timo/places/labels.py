"""Ground truth of any common kind as labels on the grid of a cube."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import rioxarray  # noqa: F401  registers .rio
import xarray as xr

from timo.checks import Count, NotNegative, Positive, checked
from timo.cube import check_grid
from timo.cube.check import Gridded
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError
from timo.places.burning import Cells, Grid
from timo.places.names import Naming, ordered_names
from timo.places.rasters import Resampling, carry, is_raster, open_raster
from timo.places.report import class_table, feature_report, raster_report, value_table
from timo.places.settling import Conflicts, settle
from timo.places.survey import Survey
from timo.places.vectors import read_vectors


@checked
def read_labels(
    source: Any,
    like: Gridded,
    *,
    column: str | None = None,
    classes: Sequence[Any] | Mapping[Any, Any] | None = None,
    numeric: bool = False,
    ignore: Sequence[Any] = (),
    dates: str | tuple[str, str] | None = None,
    within_days: NotNegative = 15,
    groups: str | None = None,
    radius_m: Positive | None = None,
    touched: bool = False,
    conflicts: Conflicts = "drop",
    min_pixels: Count = 1,
    layer: str | int | None = None,
    crs: Any = None,
    x: str | None = None,
    y: str | None = None,
    resampling: Resampling | None = None,
    units: str | None = None,
) -> xr.DataArray:
    """Read ground truth of any common kind as labels on the grid of a cube.

    Parameters
    ----------
    source : path, GeoDataFrame, GeoSeries, DataFrame, mapping or DataArray
        Points, lines or polygons: a GeoJSON (also as a mapping or text), GeoPackage, Shapefile, FlatGeobuf, KML or
        (Geo)Parquet file, a GeoDataFrame, a CSV file or DataFrame with coordinates, WKT or GeoJSON. Or a raster on any
        grid: a GeoTIFF, NetCDF or Zarr, or an array with y, x and a CRS, such as other labels.
    like : xarray.DataArray or xarray.Dataset
        The cube, or anything else on its grid.
    column : str, optional
        Column with the class or the value; by default the only one, or one that is named "class" or the like.
    classes : sequence of names, or mapping of values to names, optional
        The classes in the order of their numbers: names as they stand in the file, or what each text, number or
        boolean of the file means; several values may have one name. By default each value is a class, numbers ascending
        and text in alphabetical order: give `classes` where several files must have the same. A number is never a
        position in a list. 1, 1.0 and "1" are the same, True and 1 are not.
    numeric : bool
        Read values to predict (regression), not classes.
    ignore : sequence
        Values of the file that stay unlabelled.
    dates : str or (str, str), optional
        Column of the dates on which features hold. Of one column, a day means the nearest date of the cube, a month or
        a year all of it. Two columns are the first and the last day; one of them may be missing. Features without a
        date are left out. Without `dates` labels hold on all dates.
    within_days : float
        How far the nearest date may be away.
    groups : str, optional
        Column that names what belongs together (a cluster of parcels, a site, a campaign), which splits keep whole. By
        default each feature is its own group.
    radius_m : float, optional
        Points label the pixels whose centre is within this distance on the ground. By default the pixel they are in.
    touched : bool
        Polygons label all pixels that they touch. By default those whose centre is inside. Lines label the pixels that
        they run through.
    conflicts : {"drop", "first", "last", "majority", "mean", "error"}
        What becomes of a pixel that features with different answers claim (on the same date): it stays unlabelled, or
        is the first or last feature's, or has the answer of most of them (unlabelled if two have as many) or their mean
        (numeric), or is refused.
    min_pixels : int
        Features with fewer pixels are left out.
    layer : str or int, optional
        Layer of a file that has several; of a raster its band or variable.
    crs : anything that names a reference system, optional
        Of the source, in place of the one that it names.
    x, y : str, optional
        Columns of the coordinates of a table; by default those named longitude and latitude, or x and y, or the like.
    resampling : {"majority", "nearest", "mean"}, optional
        How a raster on another grid is carried to the cube's: the class that covers most of a pixel (the default; what
        has no class counts as one), that at its centre, or the mean (the default with `numeric`).
    units : str, optional
        Unit of the values, with `numeric`.

    Returns
    -------
    xarray.DataArray
        (y, x), or (time, y, x) with `dates`: int16 classes, -1 = unlabelled, whose names are ``attrs["classes"]``; or
        float32 values, NaN = unlabelled. Of features, the coordinates `feature` (y, x), the row of the source that a
        pixel's label came from (on the first date that it has one), and `group` (y, x), the number of its group, whose
        names are ``attrs["groups"]``; -1 = none. ``attrs["report"]`` is a `LabelReport`: print it.

    Raises
    ------
    TimoError
        If the source cannot be read, no pixel is labelled, a value has no class, or an option does not fit the source.

    Examples
    --------
    >>> labels = timo.read_labels("fields.gpkg", cube, column="crop", dates=("from", "to"))  # doctest: +SKIP
    >>> print(labels.attrs["report"])  # doctest: +SKIP
    """
    check_grid(like, what="grid")
    if numeric and classes is not None:
        raise TimoError("numeric=True reads values, which have no classes. Leave classes= out.")
    if units is not None and not numeric:
        raise TimoError("units= is of values to predict. Add numeric=True, or leave it out.")
    if is_raster(source):
        of_features = {
            "column": column, "dates": dates, "groups": groups, "radius_m": radius_m, "x": x, "y": y,
            "touched": touched or None, "conflicts": None if conflicts == "drop" else conflicts,
            "min_pixels": None if min_pixels == 1 else min_pixels,
        }  # fmt: skip
        _refuse_options(of_features, "a raster", "features (points, lines and polygons)")
        options = {"classes": classes, "ignore": ignore, "numeric": numeric}
        return _of_raster(source, like, layer, crs, units, resampling=resampling, **options)
    _refuse_options({"resampling": resampling}, "features", "a raster")
    if conflicts == ("majority" if numeric else "mean"):
        better = "mean" if numeric else "majority"
        raise TimoError(
            f"conflicts={conflicts!r} is not for {'values' if numeric else 'classes'}. Use {better!r}."
        )
    survey = Survey.of(read_vectors(source, layer=layer, crs=crs, x=x, y=y, as_text=groups), column)
    answers, naming = (survey.values(ignore), None) if numeric else survey.classes(classes, ignore)
    held = None
    if dates is not None:
        held = survey.hold(dates, _times(like, "grid"), within_days)
    grid = Grid.of(like)
    cells = survey.cells(grid, touched=touched, radius_m=radius_m, least=min_pixels)
    laid = _Laid(grid.size, answers, naming)
    which = None
    if held is None:
        laid.add(cells, conflicts)
    else:
        # Dates on which the same features hold have the same labels.
        sets, which = np.unique(held.holds, axis=1, return_inverse=True)
        for active in sets.T:
            there = active[cells.feature]
            laid.add(Cells(cells.feature[there], cells.cell[there]), conflicts)
    attrs: dict[str, Any] = {"long_name": survey.column}
    attrs |= {"units": units or ""} if naming is None else {"classes": list(naming.classes)}
    group = laid.feature
    if groups is not None:
        group, attrs["groups"] = _numbered(survey.group_names(groups), laid.feature)
    attrs["report"] = feature_report(
        survey,
        like,
        laid.table(),
        naming=naming,
        conflicts=conflicts,
        involved=laid.involved,
        fought=laid.fought,
        labels=laid.labels,
    )
    labels = _labels(laid.values(grid.shape, which), like, attrs)
    places = {"feature": laid.feature, "group": group}
    return labels.assign_coords({n: (("y", "x"), v.reshape(grid.shape)) for n, v in places.items()})


class _Laid:
    """Labels laid on the cells of a grid, plane by plane, with what the report says of them."""

    def __init__(self, size: int, answers: np.ndarray, naming: Naming | None) -> None:
        self.answers, self.naming = answers, naming
        self.planes: list[np.ndarray] = []
        self.feature = np.full(size, -1, "int32")
        self.fought = np.zeros(size, bool)
        self.involved = np.zeros(len(answers), bool)
        self.labels = np.zeros(len(answers), bool)

    def add(self, cells: Cells, conflicts: Conflicts) -> None:
        """Lay the features of one set of dates."""
        settled = settle(cells, self.answers, conflicts, self.feature.size)
        empty, kind = (np.nan, "float32") if self.naming is None else (UNLABELLED, "int16")
        plane = np.full(self.feature.size, empty, kind)
        plane[settled.cell] = settled.answer
        self.planes.append(plane)
        new = self.feature[settled.cell] < 0
        self.feature[settled.cell[new]] = settled.feature[new]
        self.fought[settled.conflicting] = True
        self.involved[settled.involved] = True
        self.labels[settled.feature] = True

    def values(self, shape: tuple[int, int], which: np.ndarray | None) -> np.ndarray:
        """Return (y, x), or (time, y, x) with the plane of each date."""
        planes = np.stack(self.planes).reshape(-1, *shape)
        if which is None:
            return planes[0]
        return (
            planes
            if len(planes) == len(which) and (np.diff(which) == 1).all()
            else planes[which.reshape(-1)]
        )

    def table(self) -> pd.DataFrame:
        """Count the features and the pixels of each class, or sum up the values."""
        if self.naming is None:
            return value_table(self.planes, features=int(self.labels.sum()))
        features = np.bincount(self.answers[self.labels], minlength=len(self.naming.classes))
        return class_table(self.planes, self.naming.classes, features=features)


def _refuse_options(options: Mapping[str, Any], source: str, others: str) -> None:
    if named := [name for name, value in options.items() if value is not None]:
        raise TimoError(
            f"{', '.join(named)}: for {others}, and the source is {source}. Leave {'them' if named[1:] else 'it'} out."
        )


def _times(array: Gridded, what: str) -> pd.DatetimeIndex:
    index = array.indexes.get("time")
    if not isinstance(index, pd.DatetimeIndex) or not len(index) or index.hasnans:
        raise TimoError(
            f"Labels hold on dates, and the {what} has none. Give the cube with its time."
        )
    return index


def _numbered(names: np.ndarray, feature: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the number of the group of each cell, and the names of the groups that label some."""
    rows = np.unique(feature[feature >= 0])
    ordered = ordered_names(set(names[rows]))
    number = {name: i for i, name in enumerate(ordered)}
    lookup = np.full(len(names) + 1, -1, "int32")
    lookup[rows] = [number[name] for name in names[rows]]
    return lookup[feature], ordered


def _of_raster(
    source: Any,
    like: Gridded,
    layer: str | int | None,
    crs: Any,
    units: str | None,
    **options: Any,
) -> xr.DataArray:
    raster, name = open_raster(source, layer, crs)
    carried = carry(raster, name, like, **options)
    values = carried.values
    if "time" in raster.dims:
        values = _on_dates(values, raster, like)
    labelled = values >= 0 if carried.naming else ~np.isnan(values)
    if not labelled.any():
        raise TimoError(
            f"{name} labels no pixel of the grid: it has no data there, or all of them are ignored. Give another area."
        )
    attrs: dict[str, Any] = {"long_name": str(raster.attrs.get("long_name") or raster.name or name)}
    if carried.naming is None:
        attrs["units"] = str(raster.attrs.get("units", "")) if units is None else units
        table = value_table([values])
    else:
        attrs["classes"] = list(carried.naming.classes)
        table = class_table(values.reshape(-1, *values.shape[-2:]), carried.naming.classes)
    attrs["report"] = raster_report(carried, like, table)
    labels = _labels(values, like, attrs)
    own = {n: (("y", "x"), raster[n].values) for n in ("feature", "group") if n in raster.coords}
    return labels if carried.moved else labels.assign_coords(own)


def _on_dates(values: np.ndarray, raster: xr.DataArray, like: Gridded) -> np.ndarray:
    """Lay (time, y, x) labels of some days on the dates of a cube that are of the same days."""
    days, wanted = (_times(a, what).floor("D") for a, what in ((raster, "raster"), (like, "grid")))
    if not days.is_unique:
        raise TimoError("The raster has a day more than once. Use raster.drop_duplicates('time').")
    position = days.get_indexer(wanted)
    if not (position >= 0).any():
        raise TimoError("The raster has no date of the cube. Choose one: raster.sel(time=...).")
    fill = np.nan if values.dtype.kind == "f" else UNLABELLED
    laid = np.full((len(wanted), *values.shape[1:]), fill, values.dtype)
    laid[position >= 0] = values[position[position >= 0]]
    return laid


def _labels(values: np.ndarray, like: Gridded, attrs: Mapping[str, Any]) -> xr.DataArray:
    dims = ("time", "y", "x")[-values.ndim :]
    coords = {dim: like.indexes[dim] for dim in dims}
    made = xr.DataArray(values, dims=dims, coords=coords, name="labels", attrs=dict(attrs))
    return made.rio.write_crs(like.rio.crs)
