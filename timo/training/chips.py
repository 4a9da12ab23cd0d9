"""From a cube and labels to training chips: windows in space, subsets of dates, each drawn by its number."""

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
from timo.training.chip import UNLABELLED, Chip


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


class ChipDataset(Dataset):
    """Chips around labelled pixels; the i-th chip of an epoch depends on the seed, the epoch and i alone.

    Parameters
    ----------
    cube : xarray.DataArray
        The cube; it is loaded into memory.
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
        cubes.check(cube)
        cubes.check_labels(labels, cube)
        self.options, self.length, self.seed, self.epoch = options or ChipOptions(), length, seed, 0
        self.values = cube.values
        self.valid = np.isfinite(self.values).all(axis=1)
        self.dates = cubes.days_since_epoch(cube.time)
        per_date = labels if "time" in labels.dims else labels.expand_dims(time=cube.time)
        self.labels = np.ascontiguousarray(per_date.values, dtype="int64")
        self.pixels = self._pixels_by_class()

    def _pixels_by_class(self) -> list[np.ndarray]:
        """Row and column of the pixels that bear each class on any date."""
        classes = np.unique(self.labels)
        by_class = [np.argwhere((self.labels == k).any(axis=0)) for k in classes[classes >= 0]]
        if not by_class:
            raise TimoError("no pixel is labelled: give labels of 0 or more, -1 means unlabelled")
        return by_class

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, self.epoch, index])
        options = self.options
        chip = self._draw(rng)
        if rng.random() < options.splice:
            chip = splice(chip, self._draw(rng, dates=chip.dates), rng)
        if rng.random() < options.hide:
            chip = hide(chip, self._gaps(chip, rng), rng)
        if options.rotate:
            chip = rotate(chip, rng)
        return chip.tensors()

    def _draw(self, rng: np.random.Generator, dates: np.ndarray | None = None) -> Chip:
        """A window that holds a labelled pixel; each class is as likely as the next to be that pixel's."""
        candidates = self.pixels[rng.integers(len(self.pixels))]
        rows, columns = self._window(candidates[rng.integers(len(candidates))], rng)
        if dates is None:
            when = self._some_dates(self.valid[:, rows, columns].mean(axis=(1, 2)), rng)
        else:
            when = np.searchsorted(self.dates, dates)
        valid = self.valid[when, rows, columns]
        x = np.where(valid[:, None], self.values[when, :, rows, columns], np.float32(0))
        labels = self.labels[when, rows, columns].copy()
        return Chip(x, self.dates[when], valid, labels)

    def _window(self, centre: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice]:
        slices = []
        for place, length in zip(centre, self.values.shape[-2:], strict=True):
            size = min(self.options.size, length)
            start = int(np.clip(place - rng.integers(size), 0, length - size))
            slices.append(slice(start, start + size))
        return slices[0], slices[1]

    def _some_dates(self, clear: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Run or random subset of the dates that are clear enough in the window."""
        usable = np.flatnonzero(clear >= self.options.min_clear)
        if usable.size == 0:
            usable = np.argsort(clear)[-1:]
        fewest, most = self.options.dates
        count = min(int(rng.integers(fewest, most + 1)), usable.size)
        if rng.random() < 0.5:
            # A run, as prediction sees them; else any dates, for revisits of every kind.
            start = int(rng.integers(usable.size - count + 1))
            return usable[start : start + count]
        return np.sort(rng.choice(usable, count, replace=False))

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
    """Stack chips of different numbers of dates: the missing ones are invalid and unlabelled, so they count for nothing."""
    longest = max(chip["x"].shape[0] for chip in chips)
    fill = {"x": 0.0, "dates": 0.0, "valid": False, "labels": UNLABELLED}
    batch = {}
    for name, value in fill.items():
        padded = []
        for chip in chips:
            short = chip[name]
            extra = short.new_full((longest - short.shape[0], *short.shape[1:]), value)
            padded.append(torch.cat([short, extra]))
        batch[name] = torch.stack(padded)
    return batch
