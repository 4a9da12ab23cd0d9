"""From a cube and labels to training chips: windows in space, subsets of dates, each drawn by its number."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import Dataset

from timo import cube as cubes
from timo.errors import TimoError
from timo.training.augment import hide, rotate, splice
from timo.training.chips.chip import UNLABELLED, Chip
from timo.training.chips.draw import draw_dates


@dataclass(frozen=True)
class ChipOptions:
    """How chips are drawn.

    Parameters
    ----------
    size : int
        Height and width in pixels; a smaller cube gives smaller chips.
    dates : tuple of int
        Fewest and most dates of a chip. Fewer where the cube has fewer.
    min_clear : float
        Least share of valid pixels that a date must have in the window to be drawn.
    rotate : bool
        Random quarter turns and flips.
    hide : float
        Chance that a chip gets the real cloud gaps of other dates over its own.
    splice : float
        Chance that a chip gets a patch of another class from some date on: an artificial change. It teaches a model
        that is to answer for each date what a change looks like, from labels that never change.
    """

    size: int = 32
    dates: tuple[int, int] = (6, 12)
    min_clear: float = 0.3
    rotate: bool = True
    hide: float = 0.5
    splice: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1 or not 1 <= self.dates[0] <= self.dates[1]:
            raise TimoError(
                f"chips need a size of at least 1 and dates (fewest, most) in this order, got size={self.size}, "
                f"dates={self.dates}"
            )
        shares = {name: getattr(self, name) for name in ("min_clear", "hide", "splice")}
        if not all(0 <= share <= 1 for share in shares.values()):
            raise TimoError(f"min_clear, hide and splice are shares from 0 to 1, got {shares}")


class ChipDataset(Dataset):
    """Chips around labelled pixels; the i-th chip of an epoch depends on the seed, the epoch and i alone.

    Parameters
    ----------
    cube : xarray.DataArray
        The cube; a lazy one is loaded into memory.
    labels : xarray.DataArray
        (y, x) or (time, y, x) classes, -1 = unlabelled.
    length : int
        Chips per epoch.
    options : ChipOptions
        How chips are drawn.
    seed : int
        Seed.

    Raises
    ------
    TimoError
        If no pixel is labelled, or the labels are on another grid.
    """

    def __init__(
        self,
        cube: xr.DataArray,
        labels: xr.DataArray,
        length: int,
        options: ChipOptions | None = None,
        seed: int = 0,
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

    def within(
        self, area: Bool[np.ndarray, "h w"], length: int, options: ChipOptions
    ) -> "ChipDataset":
        """Chips of the same cube, which is not copied, with the labels of an area alone.

        Raises
        ------
        TimoError
            If no pixel in it is labelled.
        """
        other = copy.copy(self)
        other.length, other.options = length, options
        other._take(np.where(area, self.given, np.int16(UNLABELLED)))
        return other

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        options = self.options
        of = int(rng.integers(len(self.classes)))
        row, column = pixel = self._pixel(rng, of)
        rows, columns = self._window(rng, pixel)
        bears = self.labels[:, row, column] == self.classes[of]
        when = self._some_dates(self.valid[:, rows, columns].mean(axis=(1, 2)), bears, rng)
        chip = self._cut(when, rows, columns)
        if rng.random() < options.splice:
            rarest = int(np.argmin([(chip.labels == k).sum() for k in self.classes]))
            elsewhere = self._window(rng, self._pixel(rng, rarest))
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
        """Row and column of a pixel of the class at this place among the classes."""
        candidates = self.pixels[of]
        return divmod(int(candidates[rng.integers(len(candidates))]), self.values.shape[-1])

    def _window(self, rng: np.random.Generator, pixel: tuple[int, int]) -> tuple[slice, slice]:
        """A window that holds the pixel, anywhere in it."""
        slices = []
        for place, length in zip(pixel, self.values.shape[-2:], strict=True):
            size = min(self.options.size, length)
            start = int(np.clip(place - rng.integers(size), 0, length - size))
            slices.append(slice(start, start + size))
        return slices[0], slices[1]

    def _some_dates(
        self, clear: np.ndarray, bears: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Run or random subset of the dates that are clear enough in the window, one at least with the label."""
        when = draw_dates(clear, self.options.dates, self.options.min_clear, rng)
        if not bears[when].any():
            # Labels of few dates: most subsets would miss them.
            labelled = np.flatnonzero(bears)
            best = labelled[clear[labelled] >= min(self.options.min_clear, clear[labelled].max())]
            when[rng.integers(len(when))] = rng.choice(best)
        return np.sort(when)

    def _gaps(self, chip: Chip, rng: np.random.Generator) -> Bool[np.ndarray, "t h w"]:
        """Gaps of real clouds: the masks of other dates, at another window."""
        partly = self.valid.mean(axis=(1, 2))
        cloudy = np.flatnonzero((partly > 0.1) & (partly < 0.95))
        t, height, width = chip.valid.shape
        if cloudy.size == 0:
            return np.zeros_like(chip.valid)
        row = int(rng.integers(self.valid.shape[1] - height + 1))
        column = int(rng.integers(self.valid.shape[2] - width + 1))
        source = rng.choice(cloudy, t)
        return ~self.valid[source, row : row + height, column : column + width]


def collate(chips: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack chips of different numbers of dates: the missing ones are invalid and unlabelled, and count for nothing.

    Chips without labels, those of a `StoreDataset`, give a batch without labels.
    """
    longest = max(chip["x"].shape[0] for chip in chips)
    fill = {"x": 0.0, "dates": 0.0, "valid": False, "labels": UNLABELLED}
    batch = {}
    for name, value in ((name, fill[name]) for name in chips[0]):
        padded = []
        for chip in chips:
            short = chip[name]
            extra = short.new_full((longest - short.shape[0], *short.shape[1:]), value)
            padded.append(torch.cat([short, extra]))
        batch[name] = torch.stack(padded)
    return batch
