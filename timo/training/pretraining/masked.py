"""Chips with their masks: the same for every process and every resumed run."""

from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from timo.checks import Count, Range, Seed, checked
from timo.models.masking import MaskOptions, draw_mask, units_with_any
from timo.training.batches import Numbered
from timo.training.windows import Windows

# Keeps the masks' random numbers apart from those of the chips.
_MASKS = 0x3A5C
Whole = Annotated[int, Range(least=0)]


class MaskedChips(Dataset):
    """Chips and the units of each to hide; the i-th of an epoch depends on the seed, the epoch and i alone.

    Parameters
    ----------
    chips : Windows
    masks : MaskOptions
        How masks are drawn.
    unit : int
        Side of a mask unit in pixels.
    seed : int
        Seed of the masks.
    """

    @checked
    def __init__(self, chips: Windows, masks: MaskOptions, unit: Count, seed: Seed) -> None:
        self.chips, self.masks, self.unit, self.seed = chips, masks, unit, seed

    def __len__(self) -> int:
        return len(self.chips)

    @checked
    def __getitem__(self, number: tuple[Whole, Whole]) -> dict[str, Any]:
        """Return a chip by (epoch, number in the epoch)."""
        chip: dict[str, Any] = Numbered(self.chips)[number]
        sequence = np.random.SeedSequence([self.seed, *number, _MASKS])
        seed = int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
        height, width = chip["valid"].shape[-2:]
        valid = F.pad(chip["valid"], (0, -width % self.unit, 0, -height % self.unit))
        present = units_with_any(valid, self.unit)
        chip["hidden"] = draw_mask(present, self.masks, torch.Generator().manual_seed(seed))
        return chip | {"number": number}


def scored_pixels(batch: dict[str, Tensor], unit: int) -> Tensor:
    """Count the pixels that a batch is scored on: valid, in a hidden unit."""
    return (cover(batch["hidden"], unit, batch["valid"]) & batch["valid"]).sum()


def cover(
    hidden: Bool[Tensor, "*s i j"], unit: int, like: Bool[Tensor, "*s h w"]
) -> Bool[Tensor, "*s h w"]:
    """Return the pixels of the hidden units."""
    pixels = hidden.repeat_interleave(unit, dim=-2).repeat_interleave(unit, dim=-1)
    return pixels[..., : like.shape[-2], : like.shape[-1]]
