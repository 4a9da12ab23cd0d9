"""Tables of observations, one row an observation or one row a series, as arrays."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from timo.checks import PathLike, did_you_mean
from timo.errors import TimoError, warn
from timo.places.names import name_of
from timo.places.tables import read_csv
from timo.sensors import Sensor
from timo.sources.dates import as_moment, find_dates, strip_dates
from timo.sources.files.naming import match_band, read_bands, simplify

Bands = Sequence[str] | Mapping[str, str] | None


@dataclass(frozen=True)
class Observations:
    """Observations of series, sorted by series and date.

    `values` are (row, band), `times` (row,) datetime64; those of series i are the rows from ``offsets[i]`` to
    ``offsets[i + 1]``. `of` has the number of the series that each row of the table is of, -1 of one left out.
    """

    ids: list[str]
    bands: tuple[str, ...]
    offsets: np.ndarray
    times: np.ndarray
    values: np.ndarray
    of: np.ndarray

    def observed(self) -> Observations:
        """Return the observations without rows that are NaN in all bands, and without series that have no other."""
        seen = np.isfinite(self.values).any(axis=1)
        if seen.all():
            return self
        lengths = np.diff(self.offsets)
        series = np.repeat(np.arange(len(lengths)), lengths)
        kept = np.bincount(series[seen], minlength=len(lengths))
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(kept)]),
            times=self.times[seen],
            values=self.values[seen],
        ).without_empty()

    def without_empty(self) -> Observations:
        """Leave out series without an observation, and say so."""
        there = np.diff(self.offsets) > 0
        if not there.any():
            raise TimoError(
                "No series has an observation: all values are missing or masked. Check the columns of the bands."
            )
        if there.all():
            return self
        lost = [name for name, has in zip(self.ids, there, strict=True) if not has]
        warn(
            f"{len(lost)} of {len(there)} series have no observation and are left out: {', '.join(lost[:5])}"
            f"{' ...' if len(lost) > 5 else ''}"
        )
        new = np.where(there, np.cumsum(there) - 1, -1)
        return replace(
            self,
            ids=[name for name, has in zip(self.ids, there, strict=True) if has],
            offsets=np.concatenate([[0], self.offsets[1:][there]]),
            of=np.where(self.of >= 0, new[self.of], -1),
        )


def read_table(table: PathLike | pd.DataFrame, ids: str | None) -> pd.DataFrame:
    """Return a table, of a CSV or Parquet file if need be; ids keep their zeros: "007" is no number."""
    if isinstance(table, pd.DataFrame):
        frame = table
    else:
        path = Path(table).expanduser()
        if not path.is_file():
            raise TimoError(f"There is no table {str(path)!r}. Give a CSV or Parquet file.")
        frame = _read_parquet(path) if path.suffix == ".parquet" else read_csv(path, ids)
    if not len(frame):
        raise TimoError("The table has no rows. Give one with observations.")
    if twice := sorted(map(str, frame.columns[frame.columns.duplicated()])):
        raise TimoError(
            f"The table has the column {twice[0]!r} more than once. Rename one of them."
        )
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise TimoError(
            "Reading .parquet needs a package: pip install pyarrow, or give a .csv."
        ) from error
    except (OSError, ValueError) as error:
        raise TimoError(f"{str(path)!r} cannot be read as Parquet: {error}.") from error


def find_column(frame: pd.DataFrame, name: str, option: str) -> Hashable:
    """Return the column that an option names."""
    names = {str(column): column for column in frame.columns}
    if name not in names:
        raise TimoError(
            f"{option}={name!r} is no column of the table.{did_you_mean(name, names)} It has: {_listed(list(names))}."
        )
    return names[name]


def read_long(
    frame: pd.DataFrame,
    ids: str,
    time: str,
    *,
    bands: Bands,
    sensor: Sensor,
    taken: Sequence[str],
) -> Observations:
    """Read a table with a row for each observation."""
    key, dated = find_column(frame, ids, "id"), find_column(frame, time, "time")
    columns = _columns_of_bands(frame, bands, sensor, {ids, time, *taken})
    of, names = _numbered(frame[key], ids)
    times = _read_times(frame[dated], time)
    order = np.lexsort((times, of))
    of_sorted, times = of[order], times[order]
    again = np.flatnonzero((np.diff(of_sorted) == 0) & (times[1:] == times[:-1]))
    if again.size:
        raise TimoError(
            f"The series {names[of_sorted[again[0]]]!r} has two rows of {str(times[again[0]])[:10]}. Keep one of each: "
            f'table.drop_duplicates(["{ids}", "{time}"]).'
        )
    values = np.empty((len(frame), len(columns)), "float32")
    for i, column in enumerate(columns.values()):
        values[:, i] = _numbers(frame[column], str(column))[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=len(names)))])
    return Observations(names, tuple(columns), offsets, times, values, of)


def read_wide(
    frame: pd.DataFrame, ids: str | None, *, bands: Bands, sensor: Sensor, taken: Sequence[str]
) -> Observations:
    """Read a table with a row for each series, and a column for each band and date: "B4_2020-05-01"."""
    if ids is None:
        of, names = np.arange(len(frame)), [str(i) for i in range(len(frame))]
    else:
        of, names = _numbered(frame[find_column(frame, ids, "id")], ids)
    if len(names) < len(frame):
        again = names[int(np.flatnonzero(np.bincount(of) > 1)[0])]
        raise TimoError(
            f"The series {again!r} has more than one row. Name the column of the dates if each row is an observation, "
            f'time="date"; else keep one row of each: table.drop_duplicates("{ids}").'
        )
    places = _dated_columns(frame, bands, sensor, {*([ids] if ids else []), *taken})
    found = tuple(dict.fromkeys(band for band, _ in places))
    order = tuple(sorted(found, key=_order_of(bands, sensor)))
    dates = np.unique([date for _, date in places])
    values = np.full((len(frame), len(dates), len(order)), np.nan, "float32")
    for (band, date), column in places.items():
        where = (slice(None), np.searchsorted(dates, date), order.index(band))
        values[where] = _numbers(frame[column], str(column))
    offsets = np.arange(len(frame) + 1) * len(dates)
    times = np.tile(dates, len(frame))
    return Observations(names, order, offsets, times, values.reshape(-1, len(order)), of)


def constant(frame: pd.DataFrame, name: str, option: str, held: Observations) -> np.ndarray:
    """Return what a column says of each series, (series,) objects, None where nothing.

    Raises
    ------
    TimoError
        If it says different things of one series.
    """
    column = frame[find_column(frame, name, option)]
    codes, kinds = pd.factorize(column)
    inside = (codes >= 0) & (held.of >= 0)
    series, kind = np.divmod(
        np.unique(held.of[inside] * len(kinds) + codes[inside]), len(kinds) or 1
    )
    again = np.flatnonzero(np.diff(series) == 0)
    if again.size:
        one, other = (kinds[kind[again[0] + i]] for i in (0, 1))
        raise TimoError(
            f"The series {held.ids[series[again[0]]]!r} has {name} {one!r} and {other!r}. A series has one: give each "
            "an id of its own, such as the id and the year together, or correct the table."
        )
    values = np.full(len(held.ids), None, dtype=object)
    values[series] = np.asarray(kinds, dtype=object)[kind]
    return values


def as_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Return what a column says of each series as floats, NaN where nothing."""
    return _numbers(pd.Series(values, dtype=object), name)


def _numbered(column: pd.Series, name: str) -> tuple[np.ndarray, list[str]]:
    """Number the ids of a column in the order in which they come: the number of each row, and the names."""
    codes, kinds = pd.factorize(column)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise TimoError(
            f"Column {name!r} has no id in row {row}. Leave such rows out: table.dropna(subset=[{name!r}])."
        )
    return codes, [name_of(kind) or "" for kind in kinds]


def _read_times(column: pd.Series, name: str) -> np.ndarray:
    """Return dates as datetime64[s], in UTC without a time zone."""
    codes, kinds = pd.factorize(column)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise TimoError(
            f"Column {name!r} has no date in row {row}. Leave such rows out: table.dropna(subset=[{name!r}])."
        )
    try:
        moments = [as_moment(kind).time for kind in kinds]
    except TimoError as error:
        raise TimoError(f"Column {name!r} holds no date: {error}.") from error
    return np.array(moments, "datetime64[s]")[codes]


def _columns_of_bands(
    frame: pd.DataFrame, bands: Bands, sensor: Sensor, taken: set[str]
) -> dict[str, Hashable]:
    """Return the column of each band; those that the user names, or all whose name is that of a band."""
    if isinstance(bands, Mapping):
        named = {read_bands(band, sensor)[0]: column for band, column in bands.items()}
        return {band: find_column(frame, column, "bands") for band, column in named.items()}
    if bands is not None:
        columns = [find_column(frame, name, "bands") for name in bands]
        return dict(zip(read_bands([str(c) for c in columns], sensor), columns, strict=True))
    found: dict[str, list[Hashable]] = {}
    for column in frame.columns:
        if str(column) not in taken and (band := match_band(str(column), sensor)):
            found.setdefault(band, []).append(column)
    for band, columns in found.items():
        if len(columns) > 1:
            raise TimoError(
                f"{columns[0]!r} and {columns[1]!r} are both {band} of {sensor.name} by their names. Say which: "
                f'bands={{"{band}": "{columns[0]}", ...}}.'
            )
    if not set(found) - {sensor.mask_name}:
        raise TimoError(
            f"No column of the table is called as a band of {sensor.name} ({', '.join(sensor.band_names)}); it has "
            f'{_listed(frame.columns)}. Say which is which: bands={{"{sensor.band_names[0]}": "column", ...}}, or give '
            "another sensor=."
        )
    order = _order_of(bands, sensor)
    return {band: found[band][0] for band in sorted(found, key=order)}


def _dated_columns(
    frame: pd.DataFrame, bands: Bands, sensor: Sensor, taken: set[str]
) -> dict[tuple[str, np.datetime64], Hashable]:
    """Return the column of each band and date."""
    called = _called(bands, sensor)
    found: dict[tuple[str, np.datetime64], Hashable] = {}
    for column in frame.columns:
        text = str(column)
        dates = [] if text in taken else find_dates(text)
        if len(dates) != 1:
            continue
        rest = simplify(strip_dates(text))
        # Of a single band the columns may be called by their dates alone.
        band = called.get(rest) if called else match_band(rest, sensor)
        band = next(iter(called.values())) if not rest and len(called) == 1 else band
        if band is None:
            continue
        key = (band, np.datetime64(dates[0].time, "s"))
        if key in found:
            raise TimoError(
                f"{found[key]!r} and {column!r} are both {band} of {dates[0]}. Rename one, or leave it out."
            )
        found[key] = column
    if not any(band != sensor.mask_name for band, _ in found):
        raise TimoError(
            f"No column is called by a band of {sensor.name} and a date, as B4_2020-05-01; the table has "
            f'{_listed(frame.columns)}. Name the column of the dates if each row is an observation, time="date"; say '
            'what bands are called in other names, bands={"B4": "red"}; or give another sensor=.'
        )
    return found


def _called(bands: Bands, sensor: Sensor) -> dict[str, str]:
    """Return the band of each name that the user gives, in the form in which names are compared."""
    if bands is None:
        return {}
    pairs = bands.items() if isinstance(bands, Mapping) else ((name, name) for name in bands)
    return {simplify(column): read_bands(band, sensor)[0] for band, column in pairs}


def _order_of(bands: Bands, sensor: Sensor) -> Any:
    """Return the place of a band in the cube: as the user names them, else as the sensor has them; masks last."""
    named = list(_called(bands, sensor).values())
    listed = named or [*sensor.band_names]
    return lambda band: listed.index(band) if band in listed else len(listed)


def _numbers(column: pd.Series, name: str) -> np.ndarray:
    """Return a column as floats, NaN where it is missing; text that is no number is refused."""
    values = pd.to_numeric(column, errors="coerce")
    wrong = values.isna() & column.notna()
    if wrong.any():
        wrong &= column.astype(str).str.strip() != ""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise TimoError(
            f"Column {name!r} holds {str(column.iloc[row])!r} in row {row}, which is no number. Correct it, or leave "
            "it empty where nothing was observed."
        )
    return values.to_numpy("float64", na_value=np.nan)


def _listed(columns: Any) -> str:
    names = [repr(str(column)) for column in columns]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
