"""The task that all models are set: a cube, labels of its places, and which of them train."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from jaxtyping import Bool

import timo
from peers.conditions import cloud_masks
from timo import cube as cubes
from timo.errors import TimoError
from timo.sources import sample_tree_cover

TRAIN, VALIDATION, TEST = 0, 1, 2
SAMPLE_YEAR = 2018


@dataclass(frozen=True, eq=False)
class Task:
    """What is given to every model.

    Attributes
    ----------
    cube : xarray.DataArray
        The dates that models train on and are tested with.
    labels : xarray.DataArray
        (y, x) classes of the training squares and nothing else, -1 elsewhere.
    truth : array of int
        (y, x) classes of the squares that are tested, -1 elsewhere.
    masks : list of array of bool
        Gaps of real clouds, of all dates of the series.
    """

    cube: xr.DataArray
    labels: xr.DataArray
    truth: np.ndarray
    masks: list[Bool[np.ndarray, "h w"]]

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.labels.attrs["classes"])

    @property
    def focus(self) -> int:
        """The class whose F1 is told: the rarest of the training squares."""
        values = self.labels.values
        counts = np.bincount(values[values >= 0], minlength=len(self.classes))
        return int(np.where(counts, counts, values.size + 1).argmin())

    def digest(self) -> str:
        """A short name for what the task holds."""
        hashed = hashlib.sha256(repr((self.cube.band.values.tolist(), self.classes)).encode())
        for values in (self.cube.values, self.cube.time.values, self.labels.values, self.truth):
            hashed.update(np.ascontiguousarray(values).view("uint8").data)
        hashed.update(np.array(self.masks).tobytes())
        return hashed.hexdigest()[:16]


def make_task(
    series: xr.DataArray,
    labels: xr.DataArray,
    sure: xr.DataArray,
    *,
    year: int | None,
    months: tuple[int, int],
    block_m: float,
    validation: bool,
) -> Task:
    """Divide labels into squares that train and squares that are tested.

    Parameters
    ----------
    series : xarray.DataArray
        The cube.
    labels, sure : xarray.DataArray
        (y, x) classes to be tested against, and those of them that may train.
    year : int, optional
        Year whose dates count; None: all.
    months : (int, int)
        First and last month of the growing season.
    block_m : float
        Side of a square of the checkerboard in metres. The odd squares are the test.
    validation : bool
        Leave the test squares alone, and test on three tenths of the training squares: for choices.

    Raises
    ------
    TimoError
        If cube and labels do not fit each other, or the season has no date.
    """
    cubes.check_labels(labels, cubes.check(series))
    if labels.dims != ("y", "x"):
        raise TimoError(
            f"the models answer for the series: labels must have the dims (y, x), got {labels.dims}"
        )
    series = series.compute()
    month = series.time.dt.month
    inside = (month >= months[0]) & (month <= months[1])
    if year is not None:
        inside &= series.time.dt.year == year
    if not inside.any():
        raise TimoError(
            f"the cube has no date in the months {months[0]}-{months[1]} of {year or 'any year'}: give other months or "
            "another year"
        )
    fractions = (0.7, 0.3, 0.0) if validation else (1.0, 0.0, 0.0)
    squares = cubes.blocks(series, size_m=block_m)
    split = cubes.split_blocks(squares, "checkerboard", fractions, labels=labels).values
    tested = VALIDATION if validation else TEST
    return Task(
        cube=series.isel(time=inside.values),
        labels=sure.where(split == TRAIN, -1).astype("int16").assign_attrs(sure.attrs),
        truth=np.where(split == tested, labels.values, -1),
        masks=cloud_masks(cubes.valid_mask(series).values),
    )


def sample() -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """The sample's series and labels, and the labels where tree cover is not near the threshold."""
    labels = timo.sample_labels()
    far = abs(sample_tree_cover() - 50) > 15
    sure = labels.where(far, -1).astype("int8").assign_attrs(labels.attrs)
    return timo.open_cube("sample"), labels, sure


def read(path: Path) -> xr.DataArray:
    """The one array of a .zarr or .nc, numbers as they are stored.

    Raises
    ------
    TimoError
        If there is no such file, or it holds several arrays.
    """
    if not path.exists():
        raise TimoError(f"there is no {path}: give a .zarr or .nc")
    engine = "zarr" if path.is_dir() else "netcdf4"
    # Not scaled: labels with a fill value would become floating point.
    dataset = xr.open_dataset(path, engine=engine, decode_coords="all", mask_and_scale=False)
    if len(dataset.data_vars) != 1:
        raise TimoError(f"{path} must hold one array, it holds {list(dataset.data_vars)}")
    return dataset[next(iter(dataset.data_vars))]


def from_paths(cube: Path, labels: Path) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """A cube and labels of the user's own; all labels may train."""
    given = read(labels).load()
    names = given.attrs.get("classes", [f"class {k}" for k in range(int(given.max()) + 1)])
    given = given.assign_attrs(classes=list(names))
    return read(cube), given, given
