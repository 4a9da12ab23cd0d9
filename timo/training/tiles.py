"""The windows on which a training is validated: fixed, and each labelled pixel in one of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor, tensor
from torch.utils.data import Dataset

from timo.cube.labels import UNLABELLED
from timo.models.tasks import unit_of
from timo.places.chip import Chip
from timo.places.place import is_labelled
from timo.places.view import View
from timo.training.inputs import Given

# Dates of a tile for a model that answers for each date: errors are averaged over them, and a dozen are enough.
DATES = 12


@dataclass(frozen=True)
class Tile:
    """A window of a place, and the pixels (h, w) of it that are judged there."""

    place: int
    rows: slice
    columns: slice
    own: np.ndarray


class Tiles(Dataset):
    """Tiles of a part of a split: each labelled pixel of it lies in one.

    A model of each date is judged on up to 12 dates of a tile that have labels and observations, one of the series sees
    up to `dates` observed ones; either evenly spread over time.

    Parameters
    ----------
    given : Given
        Places and their split.
    part : int
        The part: 1 = validation.
    config : ModelConfig
        Of the model that is judged.
    size : int, optional
        Side of a tile; None: whole places.
    dates : int
        Most dates of a tile for a model of the series.
    most : int
        Most tiles; where there are more, as many are drawn.
    seed : int
        Seed of that draw.
    """

    def __init__(
        self,
        given: Given,
        part: int,
        config: Any,
        *,
        size: int | None,
        dates: int,
        most: int,
        seed: int,
    ) -> None:
        self.places, self.config, self.size = given.places, config, size
        self.most_dates = DATES if config.per_date else dates
        rng = np.random.default_rng(seed)
        numbers = given.numbers(part)
        if len(numbers) > most:
            # Only as many places as are needed: each that is looked at is opened.
            numbers = np.sort(rng.choice(numbers, most, replace=False))
        self.tiles = [tile for i in numbers for tile in self._tiles(int(i), given.part(i), part)]
        if len(self.tiles) > most:
            kept = np.sort(rng.choice(len(self.tiles), most, replace=False))
            self.tiles = [self.tiles[place] for place in kept]

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        tile = self.tiles[index]
        view = self.places.view(tile.place)
        when = self._dates(tile, view)
        chip = self._own(tile, view.cut(when, tile.rows, tile.columns))
        return chip.tensors() | {"place": tensor(tile.place)}

    def _tiles(self, number: int, belongs: int | xr.DataArray, part: int) -> Iterator[Tile]:
        view = self.places.view(number)
        shape = view.shape
        if view.labels is None:
            return
        known = _labelled(view.labels, shape)
        if not isinstance(belongs, int):
            known &= belongs.values == part
        sides = [min(self.size or length, length) for length in shape]
        if unit_of(self.config) == "chip":
            # The label is that of the whole: one window, in the middle.
            if known.any():
                middle = [
                    slice((n - side) // 2, (n - side) // 2 + side)
                    for n, side in zip(shape, sides, strict=True)
                ]
                yield Tile(number, middle[0], middle[1], np.ones(sides, bool))
            return
        for top in range(0, shape[0], sides[0]):
            for left in range(0, shape[1], sides[1]):
                start = [min(top, shape[0] - sides[0]), min(left, shape[1] - sides[1])]
                rows, columns = (slice(s, s + n) for s, n in zip(start, sides, strict=True))
                own = known[rows, columns].copy()
                # The last tile of a row lies over the one before, whose pixels are counted there.
                own[: top - start[0]] = False
                own[:, : left - start[1]] = False
                if own.any():
                    yield Tile(number, rows, columns, own)

    def _dates(self, tile: Tile, view: View) -> np.ndarray:
        valid = view.valid(tile.rows, tile.columns)
        seen = valid.any(axis=1) if valid.ndim == 4 else valid
        usable = (seen & tile.own).any(axis=(1, 2))
        if self.config.per_date and view.labels is not None and view.labels.ndim in (1, 3):
            labels = view.labels
            if labels.ndim == 3:
                labels = np.where(tile.own, labels[:, tile.rows, tile.columns], UNLABELLED)
            usable &= is_labelled(labels).reshape(len(labels), -1).any(axis=1)
        dates = np.flatnonzero(usable)
        if not len(dates):
            dates = np.arange(1)
        chosen = np.linspace(0, len(dates) - 1, min(self.most_dates, len(dates)))
        return dates[chosen.round().astype(int)]

    def _own(self, tile: Tile, chip: Chip) -> Chip:
        """Return a chip without the labels of pixels that other tiles, or no tile, are judged on."""
        if chip.labels.ndim == 1:
            return chip
        unlabelled = np.nan if chip.labels.dtype.kind == "f" else UNLABELLED
        labels = np.where(tile.own, chip.labels, chip.labels.dtype.type(unlabelled))
        parcels = None if chip.parcels is None else np.where(tile.own, chip.parcels, -1)
        return replace(chip, labels=labels, parcels=parcels)


def count_tiles(given: Given, part: int, size: int | None) -> int:
    """Count the tiles of a part, as `Tiles` lays them: those of `size` pixels that hold a label.

    One for each place with a label as a whole. Of many places some are looked at, and the count is for all.
    """
    numbers = given.some(part)
    if not len(numbers):
        return 0
    counts = [_count_tiles(given, int(number), part, size) for number in numbers]
    return round(float(np.mean(counts)) * len(given.numbers(part)))


def _count_tiles(given: Given, number: int, part: int, size: int | None) -> int:
    view, belongs = given.places.view(number), given.part(number)
    if view.labels is None:
        return 0
    known = _labelled(view.labels, view.shape)
    if not isinstance(belongs, int):
        known &= belongs.values == part
    if size is None or view.labels.ndim < 2:
        return int(known.any())
    for axis in (0, 1):
        known = np.logical_or.reduceat(known, np.arange(0, known.shape[axis], size), axis=axis)
    return int(known.sum())


def _labelled(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return where pixels have a label on any date, (h, w): everywhere, if the label is that of the whole place."""
    found = is_labelled(labels)
    if labels.ndim < 2:
        return np.full(shape, bool(found.any()))
    return np.array(found.any(axis=0) if found.ndim == 3 else found)
