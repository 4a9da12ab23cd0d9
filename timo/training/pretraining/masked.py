"""Chips with their masks, in batches that every process and every resumed run agrees on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from timo.checks import Count, Seed, checked
from timo.models.masking import MaskOptions, draw_mask, units_with_any
from timo.training.chips.dataset import StoreDataset
from timo.training.pretraining.windows import Whole, WindowDataset

# Keeps the masks' random numbers apart from those of the chips.
_MASKS = 0x3A5C

# Chips by their number in an epoch: x (t c h w), dates (t), valid (t h w).
Chips = WindowDataset | StoreDataset


class MaskedChips(Dataset):
    """Chips and the units of each to hide; the i-th of an epoch depends on the seed, the epoch and i alone.

    Parameters
    ----------
    chips : WindowDataset or StoreDataset
    masks : MaskOptions
        How masks are drawn.
    unit : int
        Side of a mask unit in pixels.
    seed : int
        Seed of the masks.
    """

    @checked
    def __init__(self, chips: Chips, masks: MaskOptions, unit: Count, seed: Seed) -> None:
        self.chips, self.masks, self.unit, self.seed = chips, masks, unit, seed

    def __len__(self) -> int:
        return len(self.chips)

    @checked
    def __getitem__(self, number: tuple[Whole, Whole]) -> dict[str, Any]:
        """Return a chip by (epoch, number in the epoch)."""
        self.chips.epoch, index = number
        chip: dict[str, Any] = dict(self.chips[index])
        sequence = np.random.SeedSequence([self.seed, *number, _MASKS])
        seed = int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
        height, width = chip["valid"].shape[-2:]
        valid = F.pad(chip["valid"], (0, -width % self.unit, 0, -height % self.unit))
        present = units_with_any(valid, self.unit)
        chip["hidden"] = draw_mask(present, self.masks, torch.Generator().manual_seed(seed))
        return chip | {"number": number}


class Batches(Sampler[list[tuple[int, int]]]):
    """Numbers of the chips of each batch that is still to come, as (epoch, number), for one of the processes.

    Where to start it reads from `done` when iteration begins, so that a resumed run begins with the next batch.

    Parameters
    ----------
    done : callable
        Batches that were done since the first epoch began.
    length : int
        Batches in an epoch.
    size : int
        Chips in a batch, over all processes.
    share : callable
        (rank, processes) of this process.
    """

    def __init__(self, done: Any, length: int, size: int, share: Any) -> None:
        self.done, self.length, self.size, self.share = done, length, size, share

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, first = divmod(self.done(), self.length)
        rank, processes = self.share()
        each = self.size // processes
        for batch in range(first, self.length):
            start = batch * self.size + rank * each
            yield [(epoch, number) for number in range(start, start + each)]


def collate(chips: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack chips of different sizes and numbers of dates: the padding is not valid, and counts for nothing."""
    batch: dict[str, Any] = {"number": [chip["number"] for chip in chips]}
    for name in ("x", "dates", "valid", "hidden"):
        shapes = torch.tensor([chip[name].shape for chip in chips])
        largest = shapes.amax(dim=0)
        batch[name] = torch.stack([_pad(chip[name], largest) for chip in chips])
    return batch


def _pad(values: Tensor, shape: Tensor) -> Tensor:
    """Add zeros after the end of each axis."""
    missing = (shape - torch.tensor(values.shape)).tolist()
    if not any(missing):
        return values
    # torch counts axes from the last.
    return F.pad(values, [n for more in reversed(missing) for n in (0, more)])


def scored_pixels(batch: dict[str, Tensor], unit: int) -> Tensor:
    """Count the pixels that a batch is scored on: valid, in a hidden unit."""
    height, width = batch["valid"].shape[-2:]
    hidden = batch["hidden"].repeat_interleave(unit, dim=-2).repeat_interleave(unit, dim=-1)
    return (hidden[..., :height, :width] & batch["valid"]).sum()
