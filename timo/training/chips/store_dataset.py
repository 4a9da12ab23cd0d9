"""Unlabelled chips out of a store, for pretraining: each drawn by its number."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from timo.errors import TimoError
from timo.training.augment import rotate
from timo.training.chips.chip import Chip
from timo.training.chips.draw import draw_dates
from timo.training.chips.store import ChipStore

# Keeps the order of the places apart from the chips' own random numbers.
_ORDER = 0x0DE2


@dataclass(frozen=True)
class StoreOptions:
    """How chips are drawn from a store.

    Parameters
    ----------
    size : int, optional
        Height and width in pixels, cut at random out of a place; the whole place if not given.
    dates : tuple of int
        Fewest and most dates of a chip. Fewer where a place has fewer.
    min_clear : float
        Least share of valid pixels that a date must have in the place to be drawn.
    rotate : bool
        Random quarter turns and flips.
    """

    size: int | None = None
    dates: tuple[int, int] = (6, 12)
    min_clear: float = 0.3
    rotate: bool = True

    def __post_init__(self) -> None:
        if (self.size or 1) < 1 or not 1 <= self.dates[0] <= self.dates[1]:
            raise TimoError(
                f"chips need a size of at least 1 and dates (fewest, most) in this order, got size={self.size}, "
                f"dates={self.dates}"
            )
        if not 0 <= self.min_clear <= 1:
            raise TimoError(f"min_clear is a share from 0 to 1, got {self.min_clear}")


class StoreDataset(Dataset):
    """Chips of a store; the i-th chip of an epoch depends on the seed, the epoch and i alone.

    An epoch goes through the places in random order, each once before any comes again. So it needs no shuffling, and
    gives the same chips whatever the number of workers or processes: with a `DistributedSampler(shuffle=False)`, the
    processes share out the batch that a single one would have had.

    Parameters
    ----------
    store : ChipStore or path
        The store.
    length : int, optional
        Chips per epoch; the number of places if not given.
    options : StoreOptions, optional
        How chips are drawn.
    seed : int
        Seed.

    Raises
    ------
    TimoError
        If the store holds no place, or places smaller than the chips.
    """

    def __init__(
        self,
        store: ChipStore | str | Path,
        length: int | None = None,
        options: StoreOptions | None = None,
        seed: int = 0,
    ) -> None:
        self.store = store if isinstance(store, ChipStore) else ChipStore(store)
        self.options, self.seed = options or StoreOptions(), seed
        self.length = len(self.store) if length is None else length
        if not len(self.store) or self.length < 1:
            raise TimoError(
                f"an epoch needs at least one chip, got length={length} and a store of {len(self.store)} places"
            )
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
        """Number of the epoch; set it before iterating over a loader."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, number: int) -> None:
        self._epoch.fill_(number)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(f"an epoch has {self.length} chips, got number {index}")
        rng = np.random.default_rng([self.seed, self.epoch, index])
        place = self.place(index)
        number, least = self.options.dates, self.options.min_clear
        when = draw_dates(self.store.clear(place), number, least, rng)
        chip = self._crop(self.store.read(place, when), rng)
        if self.options.rotate:
            chip = rotate(chip, rng)
        # There are no labels to carry from the workers.
        return chip.tensors(labels=False)

    def place(self, index: int) -> int:
        """Place that the chip of this number shows in this epoch."""
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
