"""Batches of chips: by number, so that every process, worker and resumed run agrees on them, and of similar sizes."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dask
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from timo.training import windows

# Batches whose chips are sorted by size together: of more, a batch would show chips of one kind of place alone.
RUN = 32
# Keeps the order of the batches apart from the random numbers of the chips.
_ORDER = 0xBA7C

Number = tuple[int, int]


class Numbered(Dataset):
    """Chips of `Windows` or `Tiles` by (epoch, number): a worker that reads ahead needs no word of the epoch."""

    def __init__(self, chips: Any) -> None:
        self.chips = chips

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, number: Number) -> dict[str, Any]:
        self.chips.epoch, index = number
        return dict(self.chips[index])

    def size(self, number: Number) -> tuple[int, int, int]:
        """Return dates, height and width of a chip."""
        self.chips.epoch, index = number
        return self.chips.lengths(index)


class Batches(Sampler[list[Number]]):
    """Numbers of the chips of each batch that is still to come, as (epoch, number), for one of the processes.

    An epoch has `count` chips, in batches of `size` over all processes. How many batches are `done` since the first
    epoch began is asked when iteration begins, so that a resumed run begins with the next one, and so is the `share` of
    this process: its rank, and how many there are. `sizes` gives (dates, height, width) of the chip of a number: chips
    of similar sizes then come together, in an order that depends on the seed and the epoch alone.
    """

    def __init__(
        self,
        done: Callable[[], int],
        count: int,
        size: int,
        *,
        share: Callable[[], tuple[int, int]] = lambda: (0, 1),
        sizes: Callable[[Number], tuple[int, ...]] | None = None,
        seed: int = 0,
    ) -> None:
        self.done, self.count, self.size, self.share = done, count, size, share
        self.sizes, self.seed = sizes, seed

    def __len__(self) -> int:
        return math.ceil(self.count / self.size)

    def __iter__(self) -> Iterator[list[Number]]:
        epoch, first = divmod(self.done(), len(self))
        rank, processes = self.share()
        each = self.size // processes
        for start in range(0, len(self), RUN):
            if start + RUN <= first:
                continue
            batches = self._run(epoch, start)
            for batch in batches[max(first - start, 0) :]:
                yield [(epoch, number) for number in batch[rank * each : (rank + 1) * each]]

    def _run(self, epoch: int, start: int) -> list[list[int]]:
        """Return the batches of a run, in order of the numbers where all chips are of one size."""
        last = min((start + RUN) * self.size, self.count)
        numbers = list(range(start * self.size, last))
        if self.sizes is not None:
            sizes = {number: self.sizes((epoch, number)) for number in numbers}
            if len(set(sizes.values())) > 1:
                return self._alike(sizes, np.random.default_rng([self.seed, epoch, start, _ORDER]))
        return _cut(numbers, self.size)

    def _alike(
        self, sizes: dict[int, tuple[int, ...]], rng: np.random.Generator
    ) -> list[list[int]]:
        # Pixels first, then dates: the padding of space costs the most.
        ordered = sorted(sizes, key=lambda n: (math.prod(sizes[n][1:]), *sizes[n][1:], sizes[n][0]))
        batches = _cut(ordered, self.size)
        return [sorted(batches[place]) for place in rng.permutation(len(batches))]


def batches_of(chips: windows.Windows, size: int, done: Callable[[], int]) -> Batches:
    """Return the batches of labelled windows: of places of different sizes, similar ones come together."""
    sizes = Numbered(chips).size if len(chips.places) > 1 else None
    return Batches(done, len(chips), size, sizes=sizes, seed=chips.seed)


def _cut(numbers: Sequence[int], size: int) -> list[list[int]]:
    return [list(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def make_loader(
    chips: Dataset,
    batches: Sampler[list[Number]] | Sequence[list[Number]],
    workers: int = 0,
    *,
    pinned: bool = False,
) -> DataLoader:
    """Return a loader of batches, which `workers` processes read ahead."""
    return DataLoader(
        chips,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pinned,
        worker_init_fn=_read_alone,
        # Its own: a loader draws a number even when it does not shuffle, and would shift those of the dropout in a
        # resumed run.
        generator=torch.Generator(),
    )


def _read_alone(_: int) -> None:
    """Compute lazy arrays in the worker's own thread: the threads of the process that it was forked from are gone."""
    dask.config.set(scheduler="synchronous")


def collate(chips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack chips as `timo.training.windows.collate` does, with what stands beside them."""
    beside = {"number", "place", "hidden"} & chips[0].keys()
    batch: dict[str, Any] = windows.collate(
        [{name: a for name, a in chip.items() if name not in beside} for chip in chips]
    )
    for name in beside:
        values = [chip[name] for chip in chips]
        batch[name] = values if name == "number" else windows.stack(values, 0)
    return batch
