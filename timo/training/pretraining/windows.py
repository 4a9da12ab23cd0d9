"""Unlabelled windows of cubes in memory: each drawn by its number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import xarray as xr
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import Dataset

from timo import cube as cubes
from timo.checks import Count, Range, Seed, checked
from timo.errors import TimoError
from timo.training.augment import rotate
from timo.training.chips.chip import UNLABELLED, Chip, NumberError, draw_dates, draw_window
from timo.training.chips.dataset import StoreOptions
from timo.training.inputs import check_split

Whole = Annotated[int, Range(least=0)]


@checked
@dataclass(frozen=True)
class WindowOptions(StoreOptions):
    """Options of drawing chips for pretraining, from a cube or a store.

    Parameters
    ----------
    size : int, optional
        Height and width in pixels; a smaller cube gives smaller chips. None: all of a cube, or of a store's place.
    dates : tuple of int
        Fewest and most dates of a chip. Fewer where the data have fewer.
    min_clear, rotate
        As `timo.training.chips.StoreOptions` takes them.
    """

    size: Count | None = 64
    dates: tuple[Count, Count] = (3, 8)


class WindowDataset(Dataset):
    """Windows of cubes; the i-th of an epoch depends on the seed, the epoch and i alone.

    Parameters
    ----------
    series : sequence of xarray.DataArray
        The cubes, with the same bands. Lazy ones are loaded into memory; they are not copied.
    areas : sequence of array of bool, shape (h, w)
        Of each cube, the pixels that may be seen; the others are invalid at all dates.
    length : int
        Chips per epoch.
    options : WindowOptions, optional
        How chips are drawn.
    seed : int
        Seed.

    Raises
    ------
    TimoError
        If no pixel is left, or the cubes have different bands.
    """

    @checked
    def __init__(
        self,
        series: Sequence[xr.DataArray],
        areas: Sequence[Bool[np.ndarray, "_h _w"]],
        length: Count,
        options: WindowOptions | None = None,
        seed: Seed = 0,
    ) -> None:
        self.options = options or WindowOptions()
        self.length, self.seed, self.epoch = length, seed, 0
        series = [cubes.check(cubes.check(cube).compute()) for cube in series]
        if not series or [area.shape for area in areas] != [cube.shape[2:] for cube in series]:
            raise TimoError(
                f"Each cube needs an array of bool (y, x) of its size; got {len(series)} cubes and areas of the shapes "
                f"{[area.shape for area in areas]}."
            )
        self.bands = tuple(str(band) for band in series[0].band.values)
        for cube in series:
            if (bands := tuple(map(str, cube.band.values))) != self.bands:
                raise TimoError(
                    f"All cubes must have the same bands in the same order; got {self.bands} and {bands}. "
                    f"Use cube.sel(band={list(self.bands)})."
                )
        self.values = [cube.values for cube in series]
        self.dates = [cubes.days_since_epoch(cube.time) for cube in series]
        self.areas = list(areas)
        self.valid = [
            # Date by date: a mask of the whole cube with its bands would be as large as the cube.
            np.stack([np.isfinite(date).all(axis=0) & area for date in values])
            for values, area in zip(self.values, self.areas, strict=True)
        ]
        self.pixels = [np.flatnonzero(valid.any(axis=0)) for valid in self.valid]
        self.ends = np.cumsum([len(pixels) for pixels in self.pixels])
        if not self.ends[-1]:
            raise TimoError(
                "No observation is left to learn from: exclude leaves no pixel with one. Exclude less."
            )

    def __len__(self) -> int:
        return self.length

    @checked
    def __getitem__(self, index: Whole) -> dict[str, Tensor]:
        if index >= self.length:
            raise NumberError(f"An epoch has {self.length} chips; got number {index}.")
        rng = np.random.default_rng([self.seed, self.epoch, index])
        # A cube as often as it has pixels, and each pixel of it as often as any other.
        number = int(rng.integers(self.ends[-1]))
        which = int(np.searchsorted(self.ends, number, side="right"))
        pixel = self.pixels[which][number - self.ends[which]]
        shape = self.areas[which].shape
        window = draw_window(divmod(int(pixel), shape[1]), shape, self.options.size, rng)
        chip = self._cut(which, window, rng)
        if self.options.rotate:
            chip = rotate(chip, rng)
        return chip.tensors(labels=False)

    def _cut(self, which: int, window: tuple[slice, slice], rng: np.random.Generator) -> Chip:
        inside = self.valid[which][:, *window]
        # The share of what may be seen: half a window in an excluded block is not half a cloud.
        clear = inside.sum(axis=(1, 2)) / max(int(self.areas[which][window].sum()), 1)
        when = draw_dates(clear, self.options.dates, self.options.min_clear, rng)
        valid = inside[when]
        x = np.where(valid[:, None], self.values[which][when, :, *window], np.float32(0))
        labels = np.broadcast_to(np.int16(UNLABELLED), valid.shape)
        return Chip(x, self.dates[which][when], valid, labels)


def seen_areas(
    series: Sequence[xr.DataArray], exclude: xr.DataArray | Sequence[xr.DataArray] | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return, of each cube, the pixels to train on and those to validate on, each (h, w) bool.

    `exclude` is what `timo.pretrain` takes: masks or splits.
    """
    given: list[xr.DataArray | None]
    if exclude is None:
        given = [None] * len(series)
    else:
        given = [exclude] if isinstance(exclude, xr.DataArray) else list(exclude)
    if len(given) != len(series):
        raise TimoError(
            f"{len(series)} cubes need as many arrays in exclude, one for each; got {len(given)}."
        )
    train, validation = [], []
    for array, cube in zip(given, series, strict=True):
        part = np.zeros(cube.shape[2:], "int8")
        if array is not None:
            numbers = check_split(array, cube, "exclude")
            # What a mask excludes is a split's test part.
            part = numbers * 2 if numbers.dtype == bool else numbers
        train.append(part == 0)
        validation.append(part == 1)
    return train, validation
