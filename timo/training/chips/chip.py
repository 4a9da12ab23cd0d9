"""The unit of training: a window of a cube in the model's letters; the drawing of its dates, and batches of chips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from timo.checks import checked
from timo.errors import TimoError

UNLABELLED = -1
# What stands where a chip has fewer dates than others of its batch: invalid, unlabelled, and of no weight.
_PADDING = {"x": 0.0, "dates": 0.0, "valid": False, "labels": UNLABELLED}


class NumberError(TimoError, IndexError):
    """Raised for a number beyond the last; ends an iteration over the numbers."""


@dataclass
class Chip:
    """A window of a cube in the model's letters, with a label for each date and pixel (-1 = unlabelled).

    What is not valid is zero in `x`.
    """

    x: Float[np.ndarray, "t c h w"]
    dates: Float[np.ndarray, " t"]
    valid: Bool[np.ndarray, "t h w"]
    labels: Int[np.ndarray, "t h w"]

    def tensors(self, labels: bool = True) -> dict[str, Tensor]:
        """Return contiguous tensors; labels, if wanted, as int64, which torch's losses want."""
        arrays = {"x": self.x, "dates": self.dates, "valid": self.valid}
        if labels:
            arrays["labels"] = self.labels.astype("int64")
        # Copied: a mirrored view has negative strides, which torch refuses, even where the axis is of length 1.
        return {name: torch.from_numpy(np.array(a, order="C")) for name, a in arrays.items()}


def draw_dates(
    clear: np.ndarray, number: tuple[int, int], min_clear: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a run or a random subset of the dates that are clear enough; the clearest one if all are too cloudy.

    `clear` is the share of valid pixels of each date, `number` the fewest and most dates; positions are ascending.
    """
    usable = np.flatnonzero(clear >= min_clear)
    if usable.size == 0:
        usable = np.argsort(clear)[-1:]
    fewest, most = number
    count = min(int(rng.integers(fewest, most + 1)), usable.size)
    if rng.random() < 0.5:
        # A run, as prediction sees them; else any dates, for revisits of every kind.
        start = int(rng.integers(usable.size - count + 1))
        return usable[start : start + count].copy()
    return np.sort(rng.choice(usable, count, replace=False))


def draw_window(
    pixel: tuple[int, int], shape: Sequence[int], size: int | None, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Draw a window that holds the pixel, anywhere in it; of all that there is where that is smaller than `size`."""
    slices = []
    for place, length in zip(pixel, shape, strict=True):
        side = min(size or length, length)
        start = int(np.clip(place - rng.integers(side), 0, length - side))
        slices.append(slice(start, start + side))
    return slices[0], slices[1]


@checked
def collate(chips: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack chips of different numbers of dates: the missing ones are invalid and unlabelled, and have no weight.

    Chips without labels, those of a `StoreDataset`, give a batch without. All must have the same bands and size.
    """
    kinds = {tuple((name, *a.shape[1:]) for name, a in chip.items()) for chip in chips}
    if len(kinds) != 1 or not {"x"} <= chips[0].keys() <= _PADDING.keys():
        raise TimoError(
            f"The chips of a batch must have the same arrays (of {', '.join(_PADDING)}), bands and size; got "
            f"{sorted(kinds)}. Take chips of one ChipDataset or StoreDataset."
        )
    return {name: stack([chip[name] for chip in chips], _PADDING[name]) for name in chips[0]}


def stack(arrays: Sequence[Tensor], padding: float) -> Tensor:
    """Stack arrays of different sizes, with padding after the end of each axis."""
    largest = [max(lengths) for lengths in zip(*(a.shape for a in arrays), strict=True)]
    stacked = arrays[0].new_full((len(arrays), *largest), padding)
    for place, array in zip(stacked, arrays, strict=True):
        place[tuple(slice(length) for length in array.shape)] = array
    return stacked
