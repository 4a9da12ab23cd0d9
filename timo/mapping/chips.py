"""Answers for chips, as a table: one row a chip, or a chip and date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import shapely
import xarray as xr
from jaxtyping import Float, Int

from timo.crs import LONLAT
from timo.errors import TimoError
from timo.mapping.checking import groups_of, seen
from timo.mapping.geotiff import grid_transform
from timo.mapping.scoring import (
    Part,
    Scored,
    Tiling,
    answer,
    mean_over_windows,
    outputs_of,
    parts_of,
    scored,
)
from timo.models.tasks import Segmenter, config_of
from timo.places import Places

if TYPE_CHECKING:
    import geopandas as gpd


def predict_chips(
    model: Segmenter, data: xr.DataArray | Places, tiling: Tiling
) -> gpd.GeoDataFrame:
    """Return one row a chip, or a chip and date; see `timo.mapping.predict.predict`."""
    if not isinstance(data, Places):
        return _chip_table(list(_chips(model, iter([data]), tiling)), config_of(model))
    opened = (data.open(number)[0] for number in range(len(data)))
    chips = list(_chips(model, opened, tiling))
    table = _chip_table(chips, config_of(model))
    table.insert(0, "place", np.repeat(list(data.names), [len(chip.answers) for chip in chips]))
    return table


@dataclass(frozen=True, eq=False)
class _Chip:
    """Answers for a chip, or its dates, with how many pixels were observed, and where it lies."""

    answers: Float[np.ndarray, "n k"]
    pixels: Int[np.ndarray, " n"]
    times: np.ndarray
    outline: shapely.Geometry
    crs: Any


def _chips(model: Segmenter, opened: Iterator[xr.DataArray], tiling: Tiling) -> Iterator[_Chip]:
    """Yield the answers for each cube."""

    def parts() -> Iterator[Part]:
        for number, cube in enumerate(opened):
            # Its coordinates alone: the values are not held on to.
            where = cube.time.values, _footprint(cube), cube.rio.crs
            yield from parts_of(model, cube, tiling, key=where, like_others=number > 0)

    config = config_of(model)
    for part, held in scored(model, parts()):
        found = chip_answer(model, part, held, config.per_date)
        valid = seen(part.x, groups_of(config))
        count = valid.sum(axis=(1, 2)) if config.per_date else valid.any(axis=0).sum()
        times, outline, crs = part.key[0]
        answers = found.reshape(len(found), -1).T
        yield _Chip(answers, np.atleast_1d(count), times, outline, crs)


def _chip_table(chips: list[_Chip], config: Any) -> gpd.GeoDataFrame:
    """Return the rows of all chips, in longitude and latitude where they are in different systems."""
    import geopandas as gpd

    table = answer_table(np.concatenate([chip.answers for chip in chips]), config)
    table["pixels"] = np.concatenate([chip.pixels for chip in chips])
    if config.per_date:
        table.insert(0, "time", np.concatenate([chip.times for chip in chips]))
    rows = np.repeat(np.arange(len(chips)), [len(chip.answers) for chip in chips])
    # Its text, as its short name is looked up in the whole register, for each chip.
    names = np.array([chip.crs.wkt for chip in chips])
    systems = dict(zip(names, (chip.crs for chip in chips), strict=True))
    outlines = np.array([chip.outline for chip in chips], dtype=object)
    if len(systems) > 1:
        for name, crs in systems.items():
            some = gpd.GeoSeries(outlines[names == name], crs=crs)
            outlines[names == name] = some.to_crs(LONLAT).to_numpy()
    crs = LONLAT if len(systems) > 1 else chips[0].crs
    return gpd.GeoDataFrame(table, geometry=outlines[rows], crs=crs)


def chip_answer(
    model: Segmenter, part: Part, held: Scored, per_date: bool
) -> Float[np.ndarray, "k *t"]:
    """Return the answer for a chip, or for each of its dates; NaN where nothing was observed."""
    answered = ((run, answer(model, found)) for run, found in filter(None, held))
    found = mean_over_windows(answered, per_date, len(part.x))
    if not found.size:
        shape = (len(part.x),) if per_date else ()
        return np.full((len(outputs_of(config_of(model))), *shape), np.nan, "float32")
    if per_date:
        valid = seen(part.x, groups_of(config_of(model))).any(axis=(1, 2))
        found = np.where(valid, found, np.float32("nan"))
    return found


def _footprint(cube: xr.DataArray) -> shapely.Geometry:
    """Return the outline of a cube; of a single cell whose size is not known, its centre."""
    try:
        affine = grid_transform(cube)
    except TimoError:
        return shapely.Point(float(cube.x[0]), float(cube.y[0]))
    corners = [affine @ corner for corner in ((0, 0), (cube.sizes["x"], cube.sizes["y"]))]
    (west, north), (east, south) = corners
    return shapely.box(min(west, east), min(north, south), max(west, east), max(north, south))


def answer_table(answers: Float[np.ndarray, "n k"], config: Any) -> pd.DataFrame:
    """Return a row for each answer: class, probabilities and entropy, or value, low and high."""
    names = outputs_of(config)
    if config.task == "regression":
        return pd.DataFrame(answers, columns=list(names))
    known = np.isfinite(answers).all(axis=1)
    best = np.nan_to_num(answers).argmax(axis=1)
    table = pd.DataFrame(
        {"class": [names[i] if ok else None for i, ok in zip(best, known, strict=True)]}
    )
    table[[f"probability_{name}" for name in names]] = answers
    p = np.clip(answers, np.finfo("float32").tiny, None)
    table["entropy"] = np.clip(-(p * np.log2(p)).sum(axis=1), 0, np.log2(len(names)))
    return table
