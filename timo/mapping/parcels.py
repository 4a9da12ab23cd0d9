"""Answers for parcels, points and lines, as a table with their geometries.

The score of a parcel is the mean of the scores of its observed pixels, as in training
(`timo.models.heads.pool_parcels`). Parcels may overlap, and several points may lie in one pixel: each is answered for
by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import rasterio.features
import shapely
import torch
import xarray as xr
from jaxtyping import Float, Int

from timo.crs import LONLAT
from timo.errors import TimoError, warn
from timo.mapping.checking import groups_of, seen
from timo.mapping.chips import answer_table
from timo.mapping.geotiff import grid_transform
from timo.mapping.scoring import (
    Extent,
    Part,
    Scored,
    Tiling,
    answer,
    outputs_of,
    parts_of,
    scored,
    windows,
)
from timo.models.tasks import Segmenter, config_of
from timo.places import Places
from timo.places.vectors import read_vectors, repaired

if TYPE_CHECKING:
    import geopandas as gpd

_HOW = "Give parcels=: a GeoDataFrame, the path of a file of polygons or points, or labels of timo.read_labels"


@dataclass(frozen=True, eq=False)
class Members:
    """Pixels of parcels 0..count-1, in order of their rows: a pixel may be of several."""

    parcel: Int[np.ndarray, " m"]
    row: Int[np.ndarray, " m"]
    column: Int[np.ndarray, " m"]
    count: int

    @classmethod
    def of_raster(cls, numbers: Int[np.ndarray, "y x"], count: int) -> Members:
        """Return the pixels of parcels from their numbers, -1 = none."""
        row, column = np.nonzero(numbers >= 0)
        return cls(numbers[row, column].astype("int64"), row, column, count)

    def within(self, place: Extent) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return parcel, row and column of the pixels in the inner part of a tile, counted from where it begins."""
        rows, columns = place.inner
        some = slice(*np.searchsorted(self.row, (rows.start, rows.stop)))
        row, column, parcel = self.row[some], self.column[some], self.parcel[some]
        here = (column >= columns.start) & (column < columns.stop)
        return parcel[here], row[here] - rows.start, column[here] - columns.start


class ParcelSums:
    """Sums of the scores of the observed pixels of parcels, by window of dates, over all tiles."""

    def __init__(self, members: Members, model: Segmenter, dates: int, tiling: Tiling) -> None:
        self.members, self.model = members, model
        count = len(list(windows(np.arange(dates), tiling.window)))
        outputs = len(outputs_of(config_of(model)))
        self.total = np.zeros((count, members.count, outputs))
        self.pixels = np.zeros((count, members.count), "int64")
        self.observed = np.zeros(members.count, "int64")

    def add(self, part: Part, held: Scored) -> None:
        """Add a tile."""
        place: Extent = part.key[1]
        parcel, row, column = self.members.within(place)
        valid = seen(part.x, groups_of(config_of(self.model)))[place.within][:, row, column]
        self.observed += np.bincount(parcel[valid.any(axis=0)], minlength=self.members.count)
        for number, window in enumerate(held):
            if window is None:
                continue
            run, found = window
            here = valid[run].any(axis=0)
            values = found[place.within][:, row[here], column[here]].numpy()
            np.add.at(self.total[number], parcel[here], values.T)
            self.pixels[number] += np.bincount(parcel[here], minlength=self.members.count)

    def answers(self) -> Float[np.ndarray, "n k"]:
        """Return the answer for each parcel, the mean over the windows that hold an observation; NaN without any."""
        held = self.pixels > 0
        mean = self.total / np.maximum(self.pixels, 1)[..., None]
        answered = np.stack(
            [answer(self.model, torch.from_numpy(each).float()).double().numpy() for each in mean]
        )
        number = held.sum(axis=0)[:, None]
        total = np.where(held[..., None], answered, 0).sum(axis=0)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def predict_parcels(
    model: Segmenter, data: xr.DataArray | Places, parcels: Any, tiling: Tiling
) -> gpd.GeoDataFrame:
    """Return one row a parcel; see `timo.mapping.predict.predict`."""
    if not isinstance(data, Places):
        if parcels is None:
            raise TimoError(f"This model answers for parcels. {_HOW}.")
        return _said(_parcels_of_cube(model, data, *read_parcels(parcels, data), tiling))
    frames = []
    for number, name in enumerate(data.names):
        cube, labels = data.open(number)
        if labels is None:
            raise TimoError(
                f"This model answers for parcels, and place {name} has no labels that say where they are. Give labels "
                "of timo.read_labels, or predict its cube with parcels=."
            )
        frame = _parcels_of_cube(model, cube, *parcels_of_labels(labels), tiling)
        frame.insert(0, "place", name)
        frames.append(frame)
    return _said(_joined(frames))


def read_parcels(parcels: Any, cube: xr.DataArray) -> tuple[Members, gpd.GeoDataFrame]:
    """Return the pixels of parcels of any kind on the grid of a cube, and one row for each with its geometry."""
    if isinstance(parcels, xr.DataArray):
        from timo.cube import grid_mismatch

        if why := grid_mismatch(parcels, cube):
            raise TimoError(f"The parcels are on another grid: their {why}. {_HOW} of this cube.")
        return parcels_of_labels(parcels)
    frame = _read_frame(parcels)
    return members_of(frame, cube), frame


def parcels_of_labels(labels: xr.DataArray) -> tuple[Members, gpd.GeoDataFrame]:
    """Return the pixels of the parcels of labels, and one row for each, with the outline of its pixels."""
    import geopandas as gpd

    numbers = feature_numbers(labels)
    found, flat = np.unique(numbers, return_inverse=True)
    names = found[found >= 0]
    if not len(names):
        raise TimoError(f"No pixel is of a parcel: all numbers are -1. {_HOW}.")
    rank = (flat.reshape(numbers.shape) - (len(found) - len(names))).astype("int32")
    outlines: list[list[Any]] = [[] for _ in names]
    transform = grid_transform(labels)
    for shape, number in rasterio.features.shapes(rank, mask=rank >= 0, transform=transform):
        outlines[int(number)].append(shapely.geometry.shape(shape))
    geometry = [some[0] if len(some) == 1 else shapely.MultiPolygon(some) for some in outlines]
    frame = gpd.GeoDataFrame({"feature": names}, geometry=geometry, crs=labels.rio.crs)
    return Members.of_raster(rank, len(names)), frame


def feature_numbers(labels: xr.DataArray) -> Int[np.ndarray, "y x"]:
    """Return the number of the parcel of each pixel, -1 = none, from labels, or whole numbers without classes."""
    numbers = labels.coords.get("feature", labels)
    numbered = numbers.dtype.kind in "iu" and "classes" not in numbers.attrs
    if set(numbers.dims) != {"y", "x"} or not numbered:
        raise TimoError(
            "The labels do not say which parcel a pixel is of: they have no coordinate `feature`. Read them with "
            "timo.read_labels from polygons, points or a table, or give whole numbers (y, x), -1 = none."
        )
    return numbers.transpose("y", "x").values.astype("int64")


def members_of(frame: gpd.GeoDataFrame, cube: xr.DataArray) -> Members:
    """Return the pixels whose centres lie in each polygon, that a line touches, and that a point lies in."""
    shapes = frame.geometry.to_crs(cube.rio.crs).to_numpy()
    affine = grid_transform(cube)
    # In columns and rows, in which the centre of a pixel is at a half.
    inverse = ~affine
    shapes = shapely.transform(shapes, lambda c: np.column_stack(inverse @ (c[:, 0], c[:, 1])))
    size = cube.sizes["y"], cube.sizes["x"]
    found = [_pixels_in(shape, *size) for shape in shapes]
    parcel = np.repeat(np.arange(len(found)), [len(rows) for rows, _ in found])
    row, column = (
        np.concatenate([one[k] for one in found]) if found else np.zeros(0, int) for k in (0, 1)
    )
    order = np.argsort(row, kind="stable")
    return Members(parcel[order], row[order], column[order], len(found))


def _pixels_in(shape: Any, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels of a shape, whose x are columns and y rows."""
    nothing = np.zeros(0, int), np.zeros(0, int)
    if shape is None or shape.is_empty:
        return nothing
    if shape.geom_type.endswith("Point"):
        columns, rows = np.floor(shapely.get_coordinates(shape)).astype(int).T
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return rows[inside], columns[inside]
    west, north, east, south = shape.bounds
    rows = np.arange(max(int(np.floor(north)), 0), min(int(np.ceil(south)), height))
    columns = np.arange(max(int(np.floor(west)), 0), min(int(np.ceil(east)), width))
    if not (rows.size and columns.size):
        return nothing
    shapely.prepare(shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    if shape.geom_type.endswith("LineString"):
        inside = shapely.intersects(shape, shapely.box(x, y, x + 1, y + 1))
    else:
        inside = shapely.contains_xy(shape, x + 0.5, y + 0.5)
    return y[inside], x[inside]


def _read_frame(parcels: Any) -> gpd.GeoDataFrame:
    import geopandas as gpd

    try:
        found = read_vectors(parcels)
    except TimoError as error:
        raise TimoError(f"parcels= cannot be read: {error}") from error
    return gpd.GeoDataFrame(found.table, geometry=repaired(found.geometries)[0], crs=found.crs)


def _parcels_of_cube(
    model: Segmenter, cube: xr.DataArray, members: Members, frame: gpd.GeoDataFrame, tiling: Tiling
) -> gpd.GeoDataFrame:
    sums = ParcelSums(members, model, cube.sizes["time"], tiling)
    parts = parts_of(model, cube, tiling, lambda place: bool(members.within(place)[0].size))
    for part, held in scored(model, parts):
        sums.add(part, held)
    answers = answer_table(sums.answers(), config_of(model)).assign(pixels=sums.observed)
    answers.index = frame.index
    taken = {name: f"{name}_source" for name in frame.columns if name in answers.columns}
    return frame.rename(columns=taken).join(answers)


def _joined(frames: list[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """Return the rows of all places, in longitude and latitude where they are in different systems."""
    import geopandas as gpd

    if len({frame.crs for frame in frames}) > 1:
        frames = [frame.to_crs(LONLAT) for frame in frames]
    return gpd.GeoDataFrame(pd.concat(frames, ignore_index=True))


def _said(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Return a table of parcels, and warn of those that nothing is known of."""
    if count := int((frame["pixels"] == 0).sum()):
        warn(
            f"{count:,} of {len(frame):,} parcels have no observed pixel: they are smaller than a pixel, outside the "
            "cube or under a gap at all dates. Their answers are NaN."
        )
    return frame
