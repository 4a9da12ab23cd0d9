"""A sample on its way to an interpreter and back: written as CSV or GeoPackage, read and joined by id."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from timo.atomic import check_name, replacing
from timo.checks import PathLike, checked
from timo.crs import LONLAT
from timo.errors import TimoError
from timo.mapping.keys import check_reference, is_blank, plain_key

# Share of a cell by which a coordinate may come back changed: degrees of five decimals are within it in cells of 10 m.
_TOLERANCE = 0.06
# Coordinates, and the whole numbers that count the cells along them.
_COUNTED = {"y": "row", "latitude": "row", "x": "col", "longitude": "col"}
_EXACT = ("row", "col", "stratum")
_SEPARATORS = ",;\t"


@checked
def write_sample(sample: pd.DataFrame, path: PathLike, *, blind: bool = False) -> Path:
    """Write a sample for an interpreter, who notes in the column ``reference`` what is there in truth.

    A file of the same sample that is there already is kept as it is, with what was noted in it.

    Parameters
    ----------
    sample : pandas.DataFrame
        What `timo.mapping.stratified_sample` drew.
    path : path
        A ``.csv``, or a ``.gpkg`` with points for QGIS.
    blind : bool
        Leave the strata out, so that the map cannot influence what is seen.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    TimoError
        If it is no such sample, the suffix is another, the folder cannot be written, or `path` holds another sample.
    """
    path = _check_path(path, "write")
    _check_sample(sample)
    if path.exists():
        try:
            _join(_read(path), sample, path.name)
        except TimoError as error:
            raise TimoError(
                f"'{path}' exists and is not of this sample, so it is kept: choose another name. ({error})"
            ) from error
        return path
    table = sample.drop(columns="stratum" if blind else [])
    if "reference" not in table:
        table = table.assign(reference=np.nan)
    first = [c for c in ("id", "longitude", "latitude", "reference") if c in table]
    table = table[first + [c for c in table if c not in first]]
    with replacing(path) as partial:
        if path.suffix.lower() == ".csv":
            table.to_csv(partial, index=False)
        else:
            _write_points(table, partial)
    return path


@checked
def read_sample(path: PathLike, sample: pd.DataFrame) -> pd.DataFrame:
    """Read what an interpreter noted, and join it to the sample by ``id``, in whatever order the rows are.

    Parameters
    ----------
    path : path
        The file of `write_sample`, filled in: CSV (separated by commas, semicolons or tabs, with points or commas in
        the numbers) or GeoPackage. It must have the columns ``id`` and ``reference``.
    sample : pandas.DataFrame
        The sample as it was drawn; `timo.mapping.stratified_sample` draws the same with the same map and seed.

    Returns
    -------
    pandas.DataFrame
        The sample, in its own order, with ``reference``, and the columns that the interpreter has added. Numeric text
        is a number: "2018", "2018 " and "2018.0" are 2018.

    Raises
    ------
    TimoError
        If an id is missing, unknown or there twice; a coordinate, row, column or stratum is not that of the sample; a
        reference is missing, negative, or text among numbers.
    """
    path = _check_path(path, "read")
    if not path.exists():
        raise TimoError(f"There is no file '{path}': write_sample(sample, path) makes one.")
    _check_sample(sample)
    found = _join(_read(path), sample, path.name)
    if "reference" not in found:
        raise TimoError(
            f"'{path.name}' has no column reference, but {list(found)}: name what was noted so."
        )
    noted = [plain_key(value) for value in found["reference"].astype(object)]
    if blank := [i for i, key in zip(found.index, noted, strict=True) if is_blank(key)]:
        raise TimoError(
            f"'{path.name}' has no reference for {len(blank)} of {len(sample)} sample units, id {blank[:5]}: complete "
            "it; leaving out the difficult ones would bias the areas."
        )
    strata = [plain_key(value) for value in sample["stratum"]]
    check_reference(noted, strata, f"The reference in '{path.name}'")
    more = [name for name in found if name not in sample and name != "reference"]
    joined = sample.assign(reference=pd.Series(noted, sample.index).infer_objects())
    for name in more:
        joined[name] = found[name].to_numpy()
    return joined


def _check_path(path: PathLike, to: str) -> Path:
    path = check_name(path, to)
    if path.suffix.lower() not in (".csv", ".gpkg"):
        raise TimoError(f"A sample is a .csv or a .gpkg, not '{path.name}': give such a name.")
    return path


def _check_sample(sample: pd.DataFrame) -> None:
    missing = [name for name in ("id", "stratum") if name not in sample]
    if missing or not len(sample):
        raise TimoError(
            f"The sample has {len(sample)} rows and lacks the columns {missing}: draw it with "
            "timo.mapping.stratified_sample(...)."
        )
    ids = [plain_key(one) for one in sample["id"].astype(object)]
    if any(map(is_blank, ids)) or len(set(ids)) < len(ids):
        raise TimoError("The ids of the sample are not unique: use sample.drop_duplicates('id').")


def _read(path: Path) -> pd.DataFrame:
    """Read a table; of points, where they are in degrees too."""
    try:
        table = _read_text(path) if path.suffix.lower() == ".csv" else _read_points(path)
    except TimoError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise TimoError(f"'{path}' cannot be read: {error}. Save it again as a table.") from error
    known = {"id", "reference", *_COUNTED, *_EXACT}
    names = {name: str(name).strip().lower() for name in table}
    table = table.rename(columns={name: plain for name, plain in names.items() if plain in known})
    if "id" not in table or not table.columns.is_unique:
        raise TimoError(
            f"'{path.name}' must have one column id, by which its rows are joined; it has {list(table)}."
        )
    return table


def _read_text(path: Path) -> pd.DataFrame:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:  # of a spreadsheet on Windows
        text = data.decode("cp1252", errors="replace")
    if text.lower().startswith("sep="):
        text = text.partition("\n")[2]
    if not text.strip():
        raise TimoError(f"'{path.name}' is empty.")
    separator = max(_SEPARATORS, key=text.lstrip().partition("\n")[0].count)
    table = pd.read_csv(StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    return table[(table != "").any(axis=1)]


def _read_points(path: Path) -> pd.DataFrame:
    import geopandas

    layers = geopandas.list_layers(path)["name"].tolist()
    if len(layers) != 1:
        raise TimoError(f"'{path.name}' holds the layers {layers}: keep that of the sample alone.")
    table = geopandas.read_file(path)
    if not isinstance(table, geopandas.GeoDataFrame) or table.crs is None:
        return pd.DataFrame(table)
    points = table.geometry.to_crs(LONLAT)
    return pd.DataFrame(table.drop(columns=table.geometry.name)).assign(
        **{"the point's longitude": points.x, "the point's latitude": points.y}
    )


def _write_points(table: pd.DataFrame, path: Path) -> None:
    import geopandas

    crs = table.attrs.get("crs")
    names = ("x", "y") if crs is not None else ("longitude", "latitude")
    if lacking := [name for name in names if name not in table]:
        raise TimoError(
            f"The sample lacks {lacking}, so it has no points: write a .csv, or draw it with stratified_sample."
        )
    points = geopandas.points_from_xy(*(table[name] for name in names))
    frame = geopandas.GeoDataFrame(table, geometry=points, crs=crs or LONLAT)
    frame.to_file(path, driver="GPKG", layer="sample")


def _join(table: pd.DataFrame, sample: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of the sample, by id, after a look whether they are what was drawn."""
    ids = [plain_key(one) for one in table["id"].astype(object)]
    wanted = [plain_key(one) for one in sample["id"].astype(object)]
    twice = [i for i, again in zip(ids, pd.Index(ids).duplicated(), strict=True) if again]
    faults = {
        "there more than once": list(dict.fromkeys(twice)),
        "not of this sample": sorted(set(ids) - set(wanted), key=str),
        "missing": [i for i in wanted if i not in set(ids)],
    }
    for fault, which in faults.items():
        if which:
            raise TimoError(
                f"Of the ids in '{name}', {len(which)} are {fault}: {which[:5]}. Each id of the sample must be there "
                "once; give the sample that was written."
            )
    found = table.set_index(pd.Index(ids, name="id")).drop(columns="id").loc[wanted]
    for column in sample:
        if column in _EXACT and column in found:
            kept = [plain_key(v) for v in found[column].astype(object)]
            same = [a == plain_key(b) for a, b in zip(kept, sample[column], strict=True)]
            _check_same(np.array(same), found[column], sample[column], name)
        for given in (column, f"the point's {column}"):
            if column in _COUNTED and given in found:
                values, tolerance = _numbers(found[given]), _tolerance(sample, column)
                same = np.abs(values - sample[column].to_numpy(dtype=float)) <= tolerance
                _check_same(same, found[given], sample[column], name)
    return found.drop(columns=[c for c in found if str(c).startswith("the point's ")])


def _check_same(same: np.ndarray, found: pd.Series, drawn: pd.Series, name: str) -> None:
    if not same.all():
        first = int(np.argmin(same))
        raise TimoError(
            f"In '{name}', {found.name} of {int((~same).sum())} sample units is not that of the sample, first of id "
            f"{found.index[first]}: {found.iloc[first]}, and not {drawn.iloc[first]}. A unit must be looked at where "
            "it was drawn: give the sample that was written, or undo the change."
        )


def _numbers(column: pd.Series) -> np.ndarray:
    if column.dtype.kind not in "iuf":
        text = column.astype(str).str.strip().str.replace(",", ".", regex=False)
        column = pd.to_numeric(text, errors="coerce")
    return column.to_numpy(dtype=float)


def _tolerance(sample: pd.DataFrame, column: str) -> float:
    """Return by how much a coordinate may differ, from how it goes with the number of the cell."""
    counted = _COUNTED[column]
    values = sample[column].to_numpy(dtype=float)
    cells = np.ptp(sample[counted].to_numpy(dtype=float)) if counted in sample else 0
    exact = 1e-9 * float(np.abs(values).max())
    return max(_TOLERANCE * float(np.ptp(values)) / cells if cells else 0.0, exact)
