"""What became of the features of a file: pixels of each class, and what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from timo.checks import checked
from timo.crs import crs_name, read_crs, short_name
from timo.cube.check import Gridded
from timo.places.names import Naming
from timo.places.rasters import IGNORED, MISSING, OUTSIDE, Carried
from timo.places.settling import Conflicts
from timo.places.survey import Survey

_CONFLICTS = {
    "drop": "conflicting, left unlabelled",
    "first": "conflicting, given to the first feature",
    "last": "conflicting, given to the last feature",
    "majority": "conflicting, given to most of the features",
    "mean": "with several values, given their mean",
    "error": "conflicting",
}
_COVERED = "with the same answer as others, which its pixels are labelled from"
_STATES = {OUTSIDE: "outside of the raster", MISSING: "no data", IGNORED: "ignored"}
_MOST_NAMES = 20
_LEFT_OUT = ["reason", "features", "pixels"]


class LabelReport(str):
    """Report how labels were made, as text that prints, and as tables.

    Attributes
    ----------
    classes : pandas.DataFrame
        One row a class, in the order of their numbers: `features` that label a pixel, `pixels` (places that bear the
        class on any date). Of numbers to predict: one row, with `lowest`, `mean` and `highest`.
    left_out : pandas.DataFrame
        One row a reason: `features` and `pixels` that are left out. A feature is counted once, for the first reason.
    """

    classes: pd.DataFrame
    left_out: pd.DataFrame

    @checked
    def __new__(
        cls, text: str, classes: pd.DataFrame | None = None, left_out: pd.DataFrame | None = None
    ) -> LabelReport:
        made = super().__new__(cls, text)
        made.classes = pd.DataFrame() if classes is None else classes
        made.left_out = pd.DataFrame(columns=_LEFT_OUT) if left_out is None else left_out
        return made

    def __repr__(self) -> str:
        return str(self)


def feature_report(
    survey: Survey,
    like: Gridded,
    table: pd.DataFrame,
    *,
    naming: Naming | None,
    conflicts: Conflicts,
    involved: np.ndarray,
    fought: np.ndarray,
    labels: np.ndarray,
) -> LabelReport:
    """Report on features.

    `involved` are those (n,) that conflict, `fought` the pixels (cells,) they conflict in, and `labels` those (n,) that
    a pixel has its label from.
    """
    vectors = survey.vectors
    head = (
        f"{len(vectors.table):,} features of {vectors.name} ({vectors.crs_name}) on {_grid(like)}"
    )
    lost = _row(_CONFLICTS[conflicts], int(involved.sum()), int(fought.sum()))
    covered = _row(_COVERED, int(((survey.gone == 0) & ~labels & ~involved).sum()), 0)
    return _written(head, table, [*survey.rows(), covered, lost], [*_order(naming), *vectors.notes])


def raster_report(carried: Carried, like: Gridded, table: pd.DataFrame) -> LabelReport:
    """Report on a raster."""
    how = "carried to" if carried.moved else "on"
    head = f"{carried.name} ({_system(carried.source)}), {how} {_grid(like)}"
    lost = [_row(_STATES[state], 0, carried.left_out[state]) for state in _STATES]
    return _written(head, table, lost, _order(carried.naming))


def class_table(
    planes: Iterable[np.ndarray], classes: Sequence[str], features: np.ndarray | None = None
) -> pd.DataFrame:
    """Count the features and the pixels of each class, a pixel once however many dates it bears the class on."""
    seen = [plane.reshape(-1) for plane in planes]
    if len(seen) == 1:
        pixels = np.bincount(seen[0][seen[0] >= 0], minlength=len(classes))
    else:
        there = np.zeros((len(classes), seen[0].size), bool)
        for plane in seen:
            cells = np.flatnonzero(plane >= 0)
            there[plane[cells], cells] = True
        pixels = there.sum(axis=1)
    columns = {"number": np.arange(len(classes)), "features": features, "pixels": pixels}
    kept = {name: column for name, column in columns.items() if column is not None}
    return pd.DataFrame(kept, index=pd.Index(list(classes), name="class"))


def value_table(planes: Iterable[np.ndarray], features: int | None = None) -> pd.DataFrame:
    """Count features and pixels, and sum up the values."""
    stacked = np.stack([plane.reshape(-1) for plane in planes])
    held = stacked[~np.isnan(stacked)].astype("float64")
    row = {"features": features, "pixels": int((~np.isnan(stacked)).any(axis=0).sum())}
    row = {name: count for name, count in row.items() if count is not None}
    summary = {"lowest": held.min(), "mean": held.mean(), "highest": held.max()}
    return pd.DataFrame([row | summary], index=pd.Index(["values"]))


def _row(reason: str, features: int, pixels: int) -> dict[str, Any]:
    return {"reason": reason, "features": features, "pixels": pixels, "remedy": ""}


def _written(
    head: str, classes: pd.DataFrame, left_out: Sequence[dict[str, Any]], notes: Sequence[str]
) -> LabelReport:
    """Write the report; reasons without features and pixels are not written."""
    table = pd.DataFrame(left_out, columns=[*_LEFT_OUT, "remedy"])
    table = table[(table["features"] > 0) | (table["pixels"] > 0)].reset_index(drop=True)
    lines = [head, "", _as_text(classes)]
    if len(table):
        lines += ["", "Left out or in conflict:"]
        lines += [_line(row) for row in table.to_dict("records")]
    lines += ["", *notes] if notes else []
    return LabelReport("\n".join(lines), classes, table[_LEFT_OUT])


def _as_text(table: pd.DataFrame) -> str:
    formats: dict[Any, Any] = {
        name: ("{:,}" if table[name].dtype.kind in "iu" else "{:.4g}").format for name in table
    }
    return table.to_string(formatters=formats)


def _line(row: dict[Any, Any]) -> str:
    counted = [
        f"{row[unit]:,} {unit if row[unit] > 1 else unit[:-1]}"
        for unit in ("pixels", "features")
        if row[unit]
    ]
    remedy = f" ({row['remedy']})" if row["remedy"] else ""
    return f"  {' of '.join(counted)}: {row['reason']}{remedy}"


def _order(naming: Naming | None) -> list[str]:
    if naming is None:
        return []
    more = ", ..." if len(naming.classes) > _MOST_NAMES else ""
    return [
        f"Order of the classes ({naming.order}): {', '.join(naming.classes[:_MOST_NAMES])}{more}."
    ]


def _grid(like: Gridded) -> str:
    return f"{like.sizes['y']:,} x {like.sizes['x']:,} cells ({_system(like)})"


def _system(array: Gridded) -> str:
    return short_name(crs_name(read_crs(array.rio.crs.to_wkt())))
