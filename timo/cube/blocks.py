"""Spatial blocks, and their split into parts that are not each other's neighbours by chance.

Pixels next to each other are alike. If some train a model and others test it, the test measures memory; whole blocks on
either side measure what the model knows of a place it has not seen (Roberts et al. 2017, Ecography 40, 913-929).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from timo.checks import AnyNumber, NotNegative, Seed, Share, checked
from timo.cube.check import Gridded
from timo.cube.grid import cell_size_m, dilate
from timo.cube.labels import check_labels
from timo.errors import TimoError

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST, UNUSED = 0, 1, 2, -1


@checked
def blocks(array: Gridded, size_m: AnyNumber) -> xr.DataArray:
    """Divide a grid into square blocks.

    Parameters
    ----------
    array : xarray.DataArray or xarray.Dataset
        A cube or labels: anything with y, x and a CRS.
    size_m : float
        Side of a block in metres, rounded to whole cells. Take it larger than the distance over which the landscape is
        alike (the range of the variogram). Blocks at the lower and right edge may be cut.

    Returns
    -------
    xarray.DataArray
        (y, x) int32, the number of the block, row by row from 0.

    Raises
    ------
    TimoError
        If the size is less than a cell, or the grid is not even or has no CRS.
    """
    height, width = cell_size_m(array)
    if not max(height, width) <= size_m < np.inf:
        raise TimoError(
            f"size_m must be at least the size of a cell, {max(height, width):g} m; got {size_m!r}."
        )
    rows, columns = (
        np.arange(cells) // min(round(size_m / side), cells)
        for cells, side in ((array.sizes["y"], height), (array.sizes["x"], width))
    )
    number = rows[:, None] * (columns[-1] + 1) + columns
    coords = {name: c for name, c in array.coords.items() if name in ("y", "x", "spatial_ref")}
    return xr.DataArray(
        number.astype("int32"),
        dims=("y", "x"),
        coords=coords,
        name="block",
        attrs={"long_name": "spatial block", "size_m": float(size_m)},
    )


@checked
def split_blocks(
    blocks: xr.DataArray,
    scheme: Literal["checkerboard", "random"] = "checkerboard",
    fractions: tuple[Share, Share, Share] = (0.6, 0.2, 0.2),
    *,
    seed: Seed = 0,
    labels: xr.DataArray | None = None,
    buffer_m: NotNegative = 0,
) -> xr.DataArray:
    """Split blocks into training, validation and test.

    Parameters
    ----------
    blocks : xarray.DataArray
        (y, x) block numbers, as `blocks` makes them; "random" takes any numbers, such as those of farms or catchments.
    scheme : {"checkerboard", "random"}
        "checkerboard": every other block is test, with any seed, and of the rest a random share is validation.
        "random": blocks are drawn for all three parts.
    fractions : (float, float, float)
        Shares of training, validation and test; their sum is 1. With "checkerboard" only the first two count, as the
        proportion between training and validation. A share of 0 leaves the part out.
    seed : int
        The same seed gives the same split.
    labels : xarray.DataArray, optional
        (y, x) or (time, y, x) classes. Blocks are then drawn so that each class is shared out in these proportions,
        rarest first, as in Sechidis et al. 2011 (ECML PKDD, iterative stratification), and each part must hold each
        class.
    buffer_m : float
        Training and validation pixels up to this distance in metres from a test pixel (between cell centres) belong to
        no part.

    Returns
    -------
    xarray.DataArray
        (y, x) int8: 0 = training, 1 = validation, 2 = test, -1 = no part.

    Raises
    ------
    TimoError
        If an option is none of those above, or if a part gets no pixel (of some class).
    """
    shares = np.asarray(fractions, dtype="float64")
    if not np.isclose(shares.sum(), 1):
        raise TimoError(
            "fractions must be three shares (train, validation, test) with the sum 1; "
            f"got {fractions}."
        )
    if shares[TRAIN] == 0:
        raise TimoError(f"fractions leave nothing to train on; got {fractions}.")
    _check_blocks(blocks)
    if labels is not None:
        check_labels(labels, blocks)
    rng = np.random.default_rng(seed)
    numbers, place = np.unique(blocks.values, return_inverse=True)
    place = place.reshape(blocks.shape)
    pixels = _pixels_per_block(place, len(numbers), labels)
    if scheme == "random":
        part = share_out(pixels, shares, rng)
    else:
        part = np.where(is_odd(place), TEST, _draw_rest(pixels, ~is_odd(place), shares, rng))
        shares = np.where(np.arange(3) == TEST, 0.5, shares)
    split = xr.DataArray(
        part[place].astype("int8"), dims=("y", "x"), coords=blocks.coords, name="part"
    )
    split.attrs = {
        "long_name": "part of the split",
        "classes": list(PARTS),
        "scheme": scheme,
        "seed": seed,
        # What the range of the errors is compared with; 0: blocks made elsewhere.
        "block_m": float(blocks.attrs.get("size_m", 0)),
    }
    split = _buffered(split, buffer_m)
    _check_parts(split, shares, labels)
    return split


def _check_blocks(blocks: xr.DataArray) -> None:
    integers = np.issubdtype(blocks.dtype, np.integer)
    if blocks.dims != ("y", "x") or not integers or not blocks.size:
        raise TimoError(
            f'blocks must be integers with the dims ("y", "x"); got {blocks.dtype}, {dict(blocks.sizes)}. '
            "Use timo.cube.blocks(cube, size_m)."
        )


def _pixels_per_block(place: np.ndarray, n: int, labels: xr.DataArray | None) -> np.ndarray:
    """Count, (block, class), the pixels of each class in each block, and last all its pixels."""
    columns = [np.bincount(place.ravel(), minlength=n)]
    if labels is not None:
        values = labels.values.reshape(-1, *place.shape)
        for code in np.unique(values[values >= 0]):
            weight = (values == code).sum(axis=0).ravel()
            columns.insert(-1, np.bincount(place.ravel(), weights=weight, minlength=n))
    return np.stack(columns, axis=1).astype("float64")


def share_out(pixels: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a part, (block,), for each block, so that each column is shared out in proportion.

    The class with the fewest pixels left goes first, its blocks in random order, each to the part that still lacks most
    of it (Sechidis et al. 2011, algorithm 1).
    """
    part = np.full(len(pixels), UNUSED)
    lacking = shares[:, None] * pixels.sum(axis=0)
    while (part == UNUSED).any():
        left = np.flatnonzero(part == UNUSED)
        remaining = pixels[left].sum(axis=0)
        rarest = np.where(remaining > 0, remaining, np.inf).argmin()
        for block in rng.permutation(left[pixels[left, rarest] > 0]):
            part[block] = np.where(shares > 0, lacking[:, rarest], -np.inf).argmax()
            lacking[part[block]] -= pixels[block]
    return part


def _draw_rest(
    pixels: np.ndarray, rest: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw training or validation, (block,), for the blocks that are not test."""
    part = np.full(len(pixels), UNUSED)
    proportion = shares * [1, 1, 0] / (shares[TRAIN] + shares[VALIDATION])
    part[rest] = share_out(pixels[rest], proportion, rng)
    return part


def is_odd(place: np.ndarray) -> np.ndarray:
    """Return, (block,), whether each block is of the second colour of the checkerboard."""
    _, first = np.unique(place, return_index=True)
    row, column = np.divmod(first, place.shape[1])
    # Ranks, and not the numbers themselves: those of a part that was cut out of a larger grid do not start at 0.
    return (
        np.unique(row, return_inverse=True)[1] + np.unique(column, return_inverse=True)[1]
    ) % 2 == 1


def _buffered(split: xr.DataArray, buffer_m: float) -> xr.DataArray:
    """Take training and validation pixels near a test block out."""
    if buffer_m == 0:
        return split
    test = split.values == TEST
    height, width = cell_size_m(split)
    near = dilate(test, buffer_m / height, buffer_m / width) & ~test
    return split.where(~near, UNUSED).astype("int8")


def _check_parts(split: xr.DataArray, shares: np.ndarray, labels: xr.DataArray | None) -> None:
    """Refuse a split in which a part that was asked for is empty, or lacks a class."""
    wanted = [number for number in range(3) if shares[number] > 0]
    for number in wanted:
        if not (split == number).any():
            raise TimoError(
                f"The {PARTS[number]} part has no pixel. Use smaller blocks or less of a buffer."
            )
    if labels is None:
        return
    names = labels.attrs.get("classes")
    for code in np.unique(labels.values[labels.values >= 0]):
        for number in wanted:
            if not ((labels == code) & (split == number)).any():
                name = int(code) if names is None else names[code]
                raise TimoError(
                    f"The {PARTS[number]} part has no pixel of class {name!r}. "
                    "Use smaller blocks or another seed."
                )
