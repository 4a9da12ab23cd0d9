"""Features of a source: what each says, when it holds, which cells it covers, and why some are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import shapely

from timo.checks import described, plain
from timo.crs import crs_name, short_name
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError
from timo.places.burning import Cells, Grid, burn
from timo.places.dated import Held, hold
from timo.places.names import Naming, make_naming, name_of
from timo.places.tables import find_column
from timo.places.vectors import Vectors, repaired

# Columns that name the class, where none is named.
_USUAL = ("class", "label", "classname", "landcover", "crop")
_POINTS = (0, 4)
_STATED = "as the source states it"


@dataclass
class Survey:
    """Features of a source, the column of their answers, and why some are left out: a reason's number, 0 = kept."""

    vectors: Vectors
    column: str
    gone: np.ndarray
    reasons: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, vectors: Vectors, column: str | None) -> Survey:
        """Begin with all features."""
        return cls(vectors, _column(vectors, column), np.zeros(len(vectors.table), "int8"))

    def leave_out(self, which: np.ndarray, reason: str, remedy: str = "") -> None:
        """Leave features out, for this reason where there was none yet."""
        self.reasons.append((reason, remedy))
        self.gone[which & (self.gone == 0)] = len(self.reasons)

    def note(self, text: str) -> None:
        """Add a sentence to the report."""
        self.vectors = replace(self.vectors, notes=(*self.vectors.notes, text))

    def rows(self) -> list[dict[str, Any]]:
        """Return a row of the report for each reason."""
        counts = np.bincount(self.gone, minlength=len(self.reasons) + 1)[1:]
        return [
            {"reason": reason, "features": int(count), "pixels": 0, "remedy": remedy}
            for (reason, remedy), count in zip(self.reasons, counts, strict=True)
        ]

    def classes(
        self, classes: Sequence[Any] | Mapping[Any, Any] | None, ignore: Sequence[Any]
    ) -> tuple[np.ndarray, Naming]:
        """Return the class (n,) of each feature and the naming; leave out those without."""
        codes, found = pd.factorize(self.vectors.table[self.column], use_na_sentinel=True)
        names = [name_of(value) for value in found]
        stated = self.vectors.classes
        if classes is None and set(names) - {None} <= set(stated):
            naming = make_naming(list(found), stated or None, ignore, self._what, _STATED)
        else:
            naming = make_naming(list(found), classes, ignore, self._what)
        # The code of what is missing is -1, the last.
        numbers = np.array([*map(naming.number, names), UNLABELLED])[codes]
        missing = np.array([*(name is None for name in names), True])[codes]
        self.leave_out(missing, f"no class in {self.column!r}")
        self.leave_out(np.asarray(numbers == UNLABELLED), "ignored")
        return numbers, naming

    def values(self, ignore: Sequence[Any]) -> np.ndarray:
        """Return the value (n,) of each feature; leave out those without."""
        column, what = self.vectors.table[self.column], self._what
        if column.dtype.kind in "bMm" or any(isinstance(v, bool) for v in column):
            raise TimoError(f"The {what} holds {column.dtype}, and no numbers. Leave numeric= out.")
        numbers = pd.to_numeric(column, errors="coerce").astype("float64").to_numpy()
        wrong = np.flatnonzero(np.isnan(numbers) & column.notna().to_numpy())
        if wrong.size:
            raise TimoError(
                f"The {what} holds {described(column.iloc[int(wrong[0])])} in row {wrong[0]}, which is no number. "
                "Correct it, or leave numeric= out for classes."
            )
        if np.isinf(numbers).any():
            raise TimoError(f"The {what} holds infinite values. Leave them empty.")
        self.leave_out(np.isnan(numbers), f"no value in {self.column!r}")
        self.leave_out(np.isin(numbers, [_number(value) for value in ignore]), "ignored")
        return numbers

    def hold(
        self, dates: str | tuple[str, str], times: pd.DatetimeIndex, within_days: float
    ) -> Held:
        """Return on which dates features hold; leave out those that hold on none."""
        held = hold(self.vectors.table, dates, times, within_days)
        self.leave_out(~held.dated, "no date")
        remedy = "within_days= reaches further" if isinstance(dates, str) else ""
        nowhere = np.asarray(~held.holds.any(axis=1))
        self.leave_out(nowhere, "on no date of the cube", remedy)
        for note in held.notes:
            self.note(note)
        return held

    def cells(self, grid: Grid, *, touched: bool, radius_m: float | None, least: int) -> Cells:
        """Return the cells of the features that are kept; leave out those that have fewer than `least`."""
        geometries, mended = repaired(self.vectors.geometries)
        if mended:
            self.note(f"{mended:,} invalid geometries were repaired.")
        self.leave_out(shapely.is_missing(geometries), "no geometry")
        if radius_m is not None and not np.isin(shapely.get_type_id(geometries), _POINTS).any():
            raise TimoError(
                "radius_m= is for points, and there are none. Use frame.buffer(...) for others."
            )
        geometries[self.gone > 0] = None
        crs = self.vectors.crs
        cells = burn(geometries, crs, grid, touched=touched, radius_m=radius_m)
        count = np.bincount(cells.feature, minlength=len(geometries))
        near = np.zeros(len(geometries), bool)
        beside = geometries.copy()
        beside[count > 0] = None
        near[burn(beside, crs, grid, touched=True).feature] = True
        self.leave_out((count == 0) & ~near, "outside of the grid")
        self.leave_out(
            count == 0, "too small, no pixel's centre inside", "touched=True labels these"
        )
        self.leave_out(count < least, f"fewer than {least} pixels")
        kept = self.gone[cells.feature] == 0
        if not kept.any():
            raise TimoError(self._nothing(grid))
        return Cells(cells.feature[kept], cells.cell[kept])

    def group_names(self, column: str) -> np.ndarray:
        """Return the name (n,) of the group of each feature; one without belongs to no other."""
        codes, found = pd.factorize(
            self.vectors.table[find_column(self.vectors.table, column, "groups")]
        )
        names = np.array([*map(name_of, found), None], dtype=object)[codes]
        alone = np.flatnonzero([name is None for name in names])
        names[alone] = [f"feature {row}" for row in alone]
        return names

    @property
    def _what(self) -> str:
        return f"column {self.column!r} of {self.vectors.name}"

    def _nothing(self, grid: Grid) -> str:
        """Say why no feature labels a pixel."""
        vectors = self.vectors
        reasons = ", ".join(
            f"{r['features']:,} {r['reason']}" for r in self.rows() if r["features"]
        )
        west, south, east, north = shapely.total_bounds(vectors.geometries)
        hint = "Is it of another place?"
        first = shapely.transform(vectors.geometries[:1000], lambda points: points[:, ::-1])
        if len(burn(first, vectors.crs, grid, touched=True).cell):
            hint = "With x and y swapped it would lie there: swap the columns."
        bounds = ", ".join(f"{edge:.7g}" for edge in grid.bounds)
        return (
            f"No feature of {vectors.name} labels a pixel: {reasons}. It reaches over {west:.7g}, {south:.7g}, "
            f"{east:.7g}, {north:.7g} in {vectors.crs_name}, the grid over {bounds} in "
            f"{short_name(crs_name(grid.crs))}. {hint}"
        )


def _column(vectors: Vectors, column: str | None) -> str:
    """Return the column of the classes or values."""
    if column is not None:
        return find_column(vectors.table, column, "column")
    names = [str(name) for name in vectors.table.columns]
    usual = [n for n in names if n.lower().replace("_", "") in _USUAL]
    chosen = usual if len(usual) == 1 else [n for n in usual if n.lower() == "class"]
    if len(chosen) == 1 or len(names) == 1:
        return (chosen or names)[0]
    if not names:
        raise TimoError(
            f"{vectors.name} has no column but its geometries. Add one with the class: frame.assign(kind='forest')."
        )
    raise TimoError(
        f"Which column of {vectors.name} has the labels? It has {names}. Name it with column={names[0]!r}."
    )


def _number(value: Any) -> float:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TimoError(f"ignore= holds {described(value)}: with numeric=True it must be numbers.")
    return float(value)
