"""Training chips, from a labelled cube in memory or from a store without labels: each is drawn by its number."""

import copy
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import Dataset

from timo import cube as cubes
from timo.checks import Count, PathLike, Range, Seed, Share, checked, whole
from timo.errors import TimoError
from timo.training.augment import hide, rotate, splice
from timo.training.chips.chip import UNLABELLED, Chip, NumberError, draw_dates, draw_window
from timo.training.chips.store import ChipStore

# Keeps the order of the places apart from the chips' own random numbers.
_ORDER = 0x0DE2


@checked
@dataclass(frozen=True)
class StoreOptions:
    """How chips are drawn from a store.

    Parameters
    ----------
    size : int, optional
        Height and width in pixels, cut at random out of a place; the whole place if not given.
    dates : (int, int)
        Fewest and most dates of a chip; fewer where there are fewer.
    min_clear : float
        Least share of valid pixels that a date must have in the place to be drawn.
    rotate : bool
        Random quarter turns and flips.
    """

    size: Count | None = None
    dates: tuple[Count, Count] = (6, 12)
    min_clear: Share = 0.3
    rotate: bool = True

    def __post_init__(self) -> None:
        if self.dates[0] > self.dates[1]:
            raise TimoError(
                f"dates must be (fewest, most) in this order; got {self.dates}. Write dates={self.dates[::-1]}."
            )


@checked
@dataclass(frozen=True)
class ChipOptions(StoreOptions):
    """How chips are drawn from a labelled cube: as by `StoreOptions`; a smaller cube gives smaller chips.

    Parameters
    ----------
    hide : float
        Chance that a chip gets the real cloud gaps of other dates over its own.
    splice : float
        Chance that a chip gets a patch of another class from some date on: an artificial change. It teaches a model
        that is to answer for each date what a change looks like, from labels that never change.
    """

    size: Count = 32
    hide: Share = 0.5
    splice: Share = 0.5


class ChipDataset(Dataset):
    """Chips around labelled pixels; the i-th chip of an epoch depends on the seed, the epoch and i alone.

    Parameters
    ----------
    cube : xarray.DataArray
        A lazy one is loaded into memory.
    labels : xarray.DataArray
        (y, x) or (time, y, x) classes, -1 = unlabelled.
    length : int
        Chips per epoch.
    options : ChipOptions, optional
    seed : int

    Raises
    ------
    TimoError
        If all pixels are unlabelled, or the labels are on another grid.
    """

    @checked
    def __init__(
        self,
        cube: xr.DataArray,
        labels: xr.DataArray,
        length: Count,
        options: ChipOptions | None = None,
        seed: Seed = 0,
    ) -> None:
        cube = cubes.check(cubes.check(cube).compute())
        cubes.check_labels(labels, cube)
        self.options, self.length, self.seed, self.epoch = options or ChipOptions(), length, seed, 0
        self.values = cube.values
        self.valid = np.stack([np.isfinite(date).all(axis=0) for date in self.values])
        self.dates = cubes.days_since_epoch(cube.time)
        self._take(labels.values.astype("int16"))

    def _take(self, labels: np.ndarray) -> None:
        self.given = labels
        # Labels without dates are the same at each: a view, not a copy for every date.
        self.labels = np.broadcast_to(labels, self.valid.shape)
        self.classes = np.setdiff1d(labels, [UNLABELLED])
        if not self.classes.size:
            raise TimoError("no pixel is labelled: give labels of 0 or more, -1 means unlabelled")
        # Flat indices, into (y, x), of the pixels that bear each class on any date.
        flat = labels.reshape(-1, labels.shape[-2] * labels.shape[-1])
        self.pixels = [np.flatnonzero((flat == k).any(axis=0)) for k in self.classes]

    @checked
    def within(
        self, area: np.ndarray | xr.DataArray, length: Count, options: ChipOptions
    ) -> "ChipDataset":
        """Return chips of the same cube, which is not copied, with the labels of an area alone.

        Parameters
        ----------
        area : array
            (y, x) bool.
        length, options
            As of the class.

        Raises
        ------
        TimoError
            If the area is on another grid, or all pixels in it are unlabelled.
        """
        area = np.asarray(area)
        if area.dtype != bool or area.shape != self.valid.shape[1:]:
            raise TimoError(
                f"area must be booleans of the cube's {self.valid.shape[1:]} pixels; got {area.dtype} of shape "
                f"{area.shape}. Use for instance split == 0."
            )
        other = copy.copy(self)
        other.length, other.options = length, options
        other._take(np.where(area, self.given, np.int16(UNLABELLED)))
        return other

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, self.epoch, _within_epoch(index, self.length)])
        options = self.options
        of = int(rng.integers(len(self.classes)))
        row, column = pixel = self._pixel(rng, of)
        shape = self.values.shape[-2:]
        rows, columns = draw_window(pixel, shape, options.size, rng)
        bears = self.labels[:, row, column] == self.classes[of]
        when = self._some_dates(self.valid[:, rows, columns].mean(axis=(1, 2)), bears, rng)
        chip = self._cut(when, rows, columns)
        if rng.random() < options.splice:
            rarest = int(np.argmin([(chip.labels == k).sum() for k in self.classes]))
            elsewhere = draw_window(self._pixel(rng, rarest), shape, options.size, rng)
            chip = splice(chip, self._cut(when, *elsewhere), rng)
        if rng.random() < options.hide:
            chip = hide(chip, self._gaps(chip, rng), rng)
        if options.rotate:
            chip = rotate(chip, rng)
        return chip.tensors()

    def _cut(self, when: np.ndarray, rows: slice, columns: slice) -> Chip:
        valid = self.valid[when, rows, columns]
        x = np.where(valid[:, None], self.values[when, :, rows, columns], np.float32(0))
        return Chip(x, self.dates[when], valid, self.labels[when, rows, columns])

    def _pixel(self, rng: np.random.Generator, of: int) -> tuple[int, int]:
        """Draw row and column of a pixel of a class, given by its position in `classes`."""
        candidates = self.pixels[of]
        return divmod(int(candidates[rng.integers(len(candidates))]), self.values.shape[-1])

    def _some_dates(
        self, clear: np.ndarray, bears: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draw dates that are clear enough in the window, one at least with the label."""
        when = draw_dates(clear, self.options.dates, self.options.min_clear, rng)
        if not bears[when].any():
            # Labels of few dates: most subsets would miss them.
            labelled = np.flatnonzero(bears)
            best = labelled[clear[labelled] >= min(self.options.min_clear, clear[labelled].max())]
            when[rng.integers(len(when))] = rng.choice(best)
        return np.sort(when)

    def _gaps(self, chip: Chip, rng: np.random.Generator) -> Bool[np.ndarray, "t h w"]:
        """Draw gaps of real clouds: the masks of other dates, at another window."""
        partly = self.valid.mean(axis=(1, 2))
        cloudy = np.flatnonzero((partly > 0.1) & (partly < 0.95))
        t, height, width = chip.valid.shape
        if cloudy.size == 0:
            return np.zeros_like(chip.valid)
        row = int(rng.integers(self.valid.shape[1] - height + 1))
        column = int(rng.integers(self.valid.shape[2] - width + 1))
        source = rng.choice(cloudy, t)
        return ~self.valid[source, row : row + height, column : column + width]


class StoreDataset(Dataset):
    """Chips of a store; the i-th chip of an epoch depends on the seed, the epoch and i alone.

    An epoch goes through the places in random order, each once before any comes again. So it needs no shuffling, and
    gives the same chips with any number of workers or processes: with a `DistributedSampler(shuffle=False)`, the
    processes share out the batch that a single one would have had.

    Parameters
    ----------
    store : ChipStore or path
    length : int, optional
        Chips per epoch; the number of places if not given.
    options : StoreOptions, optional
    seed : int

    Raises
    ------
    TimoError
        If the store is empty, or its places are smaller than the chips.
    """

    @checked
    def __init__(
        self,
        store: ChipStore | PathLike,
        length: Count | None = None,
        options: StoreOptions | None = None,
        seed: Seed = 0,
    ) -> None:
        self.store = store if isinstance(store, ChipStore) else ChipStore(store)
        self.options, self.seed = options or StoreOptions(), seed
        self.length = len(self.store) if length is None else length
        if not len(self.store):
            raise TimoError(f"the chip store '{self.store.path}' is empty: pack cubes into it")
        if (self.options.size or 1) > self.store.layout.size:
            raise TimoError(
                f"the store's places have {self.store.layout.size} x {self.store.layout.size} pixels: chips of "
                f"{self.options.size} cannot be cut out of them"
            )
        # Shared memory: workers that live for several epochs must see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._order: tuple[tuple[int, int, int], np.ndarray] | None = None

    @property
    def epoch(self) -> int:
        """Return the number of the epoch; set it before iterating over a loader."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, number: int) -> None:
        self._epoch.fill_(whole(number, "epoch", least=0))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, self.epoch, _within_epoch(index, self.length)])
        place = self._place(index)
        number, least = self.options.dates, self.options.min_clear
        when = draw_dates(self.store.clear_dates(place), number, least, rng)
        chip = self._crop(self.store.read_dates(place, when), rng)
        if self.options.rotate:
            chip = rotate(chip, rng)
        # There are no labels to carry from the workers.
        return chip.tensors(labels=False)

    @checked
    def place(self, index: Annotated[int, Range(least=0)]) -> int:
        """Return the place that the chip of this number shows in this epoch."""
        return self._place(index)

    def _place(self, index: int) -> int:
        turn, position = divmod(index, len(self.store))
        key = (self.seed, self.epoch, turn)
        if self._order is None or self._order[0] != key:
            order = np.random.default_rng([*key, _ORDER]).permutation(len(self.store))
            self._order = (key, order)
        return int(self._order[1][position])

    def _crop(self, chip: Chip, rng: np.random.Generator) -> Chip:
        size, whole = self.options.size or self.store.layout.size, self.store.layout.size
        row, column = (int(n) for n in rng.integers(whole - size + 1, size=2))
        window = (..., slice(row, row + size), slice(column, column + size))
        return replace(chip, x=chip.x[window], valid=chip.valid[window], labels=chip.labels[window])


def _within_epoch(index: int, length: int) -> int:
    number = whole(index, "index")
    if not 0 <= number < length:
        raise NumberError(f"an epoch has {length} chips, got number {number}")
    return number
