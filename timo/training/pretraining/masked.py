"""Chips with their masks, in batches that every process and every resumed run agrees on."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset, Sampler

from timo.checks import Count, Seed, checked
from timo.models.masking import MaskOptions, draw_mask, units_with_any
from timo.training.chips.chip import stack
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

    An epoch has `length` batches of `size` chips, over all processes. How many batches are `done` since the first epoch
    began is asked when iteration begins, so that a resumed run begins with the next one, and so is the `share` of this
    process: its rank, and how many there are.
    """

    def __init__(
        self, done: Callable[[], int], length: int, size: int, share: Callable[[], tuple[int, int]]
    ) -> None:
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
        batch[name] = stack([chip[name] for chip in chips], 0)
    return batch


def scored_pixels(batch: dict[str, Tensor], unit: int) -> Tensor:
    """Count the pixels that a batch is scored on: valid, in a hidden unit."""
    return (cover(batch["hidden"], unit, batch["valid"]) & batch["valid"]).sum()


def cover(
    hidden: Bool[Tensor, "*s i j"], unit: int, like: Bool[Tensor, "*s h w"]
) -> Bool[Tensor, "*s h w"]:
    """Return the pixels of the hidden units."""
    pixels = hidden.repeat_interleave(unit, dim=-2).repeat_interleave(unit, dim=-1)
    return pixels[..., : like.shape[-2], : like.shape[-1]]
