"""Windows of places, drawn by their number: what fine-tuning and pretraining learn from, of one place or a million."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from timo.checks import Count, Range, Seed, Share, checked, whole
from timo.cube.blocks import PARTS
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError
from timo.places import Places, Split
from timo.places.base import masks_of
from timo.places.chip import Chip, NumberError
from timo.places.view import View
from timo.training.augment import hide, rotate, splice

Unit = Literal["pixel", "chip", "parcel"]
# Keeps the order of the places apart from the windows' own random numbers.
_ORDER = 0x0DE2
# What stands where a chip has fewer dates than others of its batch: invalid, unlabelled, and of no weight.
_PADDING = {"x": 0.0, "dates": 0.0, "valid": False, "labels": UNLABELLED, "parcels": UNLABELLED}


@checked
@dataclass(frozen=True)
class WindowOptions:
    """How windows without labels are drawn.

    Parameters
    ----------
    size : int, optional
        Height and width in pixels; a smaller place gives smaller windows. None: all of a place.
    dates : (int, int)
        Fewest and most dates of a window. Fewer where a place has fewer.
    min_clear : float
        Least share of valid pixels that a date must have to be drawn.
    rotate : bool
        Random quarter turns and flips.
    """

    size: Count | None = 64
    dates: tuple[Count, Count] = (3, 8)
    min_clear: Share = 0.3
    rotate: bool = True

    def __post_init__(self) -> None:
        if self.dates[0] > self.dates[1]:
            raise TimoError(
                f"dates must be (fewest, most) in this order; got {self.dates}. Write dates={self.dates[::-1]}."
            )


@checked
@dataclass(frozen=True)
class ChipOptions(WindowOptions):
    """How labelled windows are drawn: as by `WindowOptions`, around labelled pixels.

    Parameters
    ----------
    hide : float
        Chance that a chip gets the real cloud gaps of other dates over its own (of optical sensors).
    splice : float
        Chance that a chip gets a patch of another class from some date on: an artificial change. It teaches a model
        that is to answer for each date what a change looks like, from labels that never change. Only of classes of
        pixels.
    """

    size: Count | None = 32
    dates: tuple[Count, Count] = (6, 12)
    hide: Share = 0.5
    splice: Share = 0.5


@dataclass(frozen=True)
class Draw:
    """What a window shows: dates and pixels of a place; `rng` goes on after the draw."""

    place: int
    view: View
    when: np.ndarray
    rows: slice
    columns: slice
    rng: np.random.Generator


class Windows(Dataset):
    """Windows of places; the i-th of an epoch depends on the seed, the epoch and i alone.

    With labels, each class is drawn equally often, and then one of its pixels in all places; of values to predict, any
    labelled pixel. Without labels, any pixel that was ever observed, if the places are in memory; else an epoch goes
    through the places in random order, each once before any comes again. So a loader need not shuffle, and gives the
    same windows with any number of workers or processes.

    Parameters
    ----------
    places : Places
        What is on disk is read window by window.
    length : int, optional
        Windows in an epoch; by default as many as there are places.
    options : ChipOptions or WindowOptions, optional
        By default `ChipOptions` with labels and `WindowOptions` without.
    seed : int
    part : int, optional
        0 = training, 1 = validation, 2 = test: the pixels, or places, of this part of the `split` alone. Windows with
        labels show what lies around them, with other pixels unlabelled; those without show nothing else.
    split : Split, optional
    unit : {"pixel", "chip", "parcel"}, optional
        What a label is for; by default a pixel, or a chip where the places have labels as a whole.
    labelled : bool, optional
        Whether windows have labels; by default if the places have.

    Raises
    ------
    TimoError
        If nothing is labelled, or nothing was observed, or the labels are not of this unit.
    """

    @checked
    def __init__(
        self,
        places: Places,
        length: Count | None = None,
        options: WindowOptions | None = None,
        seed: Seed = 0,
        *,
        part: Annotated[int, Range(least=0, most=2)] | None = None,
        split: Split | None = None,
        unit: Unit | None = None,
        labelled: bool | None = None,
    ) -> None:
        if (part is None) != (split is None):
            raise TimoError("part= is a part of split=: give both, or neither.")
        if split is not None and len(split) != len(places):
            raise TimoError(
                f"The split has {len(split)} parts, and there are {len(places)} places: give one for each."
            )
        self.places, self.seed, self.part, self.split = places, seed, part, split
        self.length = len(places) if length is None else length
        self.unit = None if labelled is False else _unit(places, unit, labelled)
        self.options = options or (WindowOptions() if self.unit is None else ChipOptions())
        # Shared memory: workers that live for several epochs must see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        # Positions of the pixels of a class, of places in memory.
        self._pixels: dict[tuple[int, int], np.ndarray] = {}
        self._order: tuple[tuple[int, ...], np.ndarray] | None = None
        self._groups, self._optical = places.head.band_groups()
        self._count()

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
        draw = self._draw(index)
        chip = self._augmented(self._cut(draw), draw)
        if self.unit != "parcel":
            chip.parcels = None
        elif chip.parcels is None:
            raise TimoError(
                f"The labels of place {self.places.names[draw.place]} do not say which pixels are one parcel: read "
                "them with timo.read_labels, or number the parcels in a coordinate feature (y, x) of the labels. For "
                'series of single pixels load a model with unit="pixel".'
            )
        return chip.tensors(labels=self.unit is not None)

    @checked
    def lengths(self, index: int) -> tuple[int, int, int]:
        """Return how many dates, rows and columns a window has, without reading its values.

        Of a place on disk the dates that are clear are not known: at most as many as can be drawn.
        """
        if self.places.in_memory:
            draw = self._draw(index)
            rows, columns = (side.stop - side.start for side in (draw.rows, draw.columns))
            return len(draw.when), rows, columns
        view = self.places.view(self.place(index))
        rows, columns = (min(self.options.size or side, side) for side in view.shape)
        return min(self.options.dates[1], len(view.dates)), rows, columns

    @checked
    def place(self, index: int) -> int:
        """Return the number of the place that a window of this epoch shows."""
        number, rng = self._begin(index)
        return self._next_place(number) if self.ordered else self._draw_label(rng)[0]

    # What may be drawn.

    def _count(self) -> None:
        """Count what each place has of each class; without labels, of what was observed."""
        self.ordered = self.unit is None and not self.places.in_memory
        table = self._counted = self._table()
        self.classes = np.flatnonzero(table.any(axis=0))
        if not self.classes.size:
            self._refuse()
        # Of each class: the places that have it, and where their pixels end in the list of all.
        self._held = [np.flatnonzero(table[:, k]) for k in self.classes]
        self._ends = [np.cumsum(table[h, k]) for h, k in zip(self._held, self.classes, strict=True)]

    def _refuse(self) -> None:
        where = "" if self.part is None else f" in the {PARTS[self.part]} part of the split"
        if self.unit is None:
            raise TimoError(
                f"No observation is left to learn from{where}: exclude leaves no pixel with one. Exclude less."
            )
        raise TimoError(
            f"no pixel is labelled{where}: give labels of 0 or more, -1 means unlabelled"
        )

    def _table(self) -> np.ndarray:
        """Count, (place, class), the pixels that may be drawn, or places where these are drawn in order."""
        known = self.places.known_counts() if self.unit else None
        if self.ordered:
            known = np.ones((len(self.places), 1), "int64")
        if known is not None and (self.split is None or self.split.whole is not None):
            # A place has one label as a whole, however many dates bear it.
            known = known > 0 if self.unit == "chip" else known
            inside = True if self.split is None else self.split.whole == self.part
            return np.where(np.broadcast_to(inside, len(known))[:, None], known, 0)
        rows = [self._counts(number) for number in range(len(self.places))]
        width = max(map(len, rows))
        return np.array([np.pad(row, (0, width - len(row))) for row in rows], "int64")

    def _counts(self, number: int) -> np.ndarray:
        area = self._area(number)
        if area is False:
            return np.zeros(1, "int64")
        view = self.places.view(number)
        if isinstance(area, np.ndarray) and area.shape != view.shape:
            raise TimoError(
                f"The split of place {self.places.names[number]} has {area.shape} pixels, the place {view.shape}."
            )
        if self.ordered:
            return np.array([int(np.any(area))])
        if self.unit and view.labels is None:
            # A place without labels among others that have some.
            return np.zeros(1, "int64")
        return np.array([mask.sum() for mask in self._masks(number, view)])

    def _area(self, number: int) -> np.ndarray | bool:
        """Return the pixels of a place that belong to the part, (h w) bool; True of all and False of none."""
        if self.split is None:
            return True
        part = self.split.part(number)
        return part == self.part if isinstance(part, int) else np.asarray(part.values == self.part)

    def _candidates(self, number: int, view: View, k: int) -> np.ndarray:
        """Return the flat positions of the pixels of a class that may be drawn in a place."""
        if (number, k) in self._pixels:
            return self._pixels[number, k]
        found = np.flatnonzero(self._masks(number, view, k)[0])
        if view.in_memory:
            self._pixels[number, k] = found
        return found

    def _masks(self, number: int, view: View, k: int | None = None) -> list[np.ndarray]:
        """Return where each class, or one, may be drawn in a place; without labels where anything was observed."""
        area = self._area(number)
        if self.unit is None:
            seen = view.valid(*_all(view)).reshape(-1, *view.shape).any(axis=0)
            return [np.asarray(seen & area)]
        assert view.labels is not None
        return [mask & area for mask in masks_of(view.labels, k)]

    # The draw of a window.

    @checked
    def corner(self, index: int) -> tuple[int, int, int]:
        """Return the place of a window, and the row and column that it begins at there, before it is turned."""
        draw = self._draw(index)
        return draw.place, draw.rows.start, draw.columns.start

    def _begin(self, index: int) -> tuple[int, np.random.Generator]:
        """Return the number of a window, checked, and its random numbers."""
        number = whole(index, "index")
        if not 0 <= number < self.length:
            raise NumberError(f"An epoch has {self.length} windows; got number {index}.")
        return number, np.random.default_rng([self.seed, self.epoch, number])

    def _draw_label(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """Draw a class, and of it a pixel: return its place, its number there, and the class."""
        of = int(rng.integers(len(self.classes))) if self.unit else 0
        nth = int(rng.integers(self._ends[of][-1]))
        held = int(np.searchsorted(self._ends[of], nth, side="right"))
        nth -= int(self._ends[of][held - 1]) if held else 0
        return int(self._held[of][held]), nth, int(self.classes[of])

    def _draw(self, index: int) -> Draw:
        number, rng = self._begin(index)
        if self.ordered:
            return self._draw_in_order(number, rng)
        place, nth, k = self._draw_label(rng)
        view = self.places.view(place)
        if self.unit == "chip":
            pixel = int(rng.integers(view.shape[0])), int(rng.integers(view.shape[1]))
        else:
            pixel = divmod(int(self._candidates(place, view, k)[nth]), view.shape[1])
        rows, columns = draw_window(pixel, view.shape, self.options.size, rng)
        clear = self._clear(place, view, rows, columns)
        when = draw_dates(clear, self.options.dates, self.options.min_clear, rng)
        if self.unit is not None:
            when = self._with_label(when, clear, _bears(view.labels, pixel, k), rng)
        return Draw(place, view, when, rows, columns, rng)

    def _next_place(self, number: int) -> int:
        """Return the place whose turn it is."""
        turn, position = divmod(number, len(self._held[0]))
        key = (self.seed, self.epoch, turn)
        if self._order is None or self._order[0] != key:
            order = np.random.default_rng([*key, _ORDER]).permutation(len(self._held[0]))
            self._order = (key, order)
        return int(self._held[0][self._order[1][position]])

    def _draw_in_order(self, number: int, rng: np.random.Generator) -> Draw:
        place = self._next_place(number)
        view = self.places.view(place)
        when = draw_dates(_any(view.clear(), 1), self.options.dates, self.options.min_clear, rng)
        sides = [min(self.options.size or side, side) for side in view.shape]
        starts = [
            int(rng.integers(n - side + 1)) for n, side in zip(view.shape, sides, strict=True)
        ]
        rows, columns = (slice(a, a + side) for a, side in zip(starts, sides, strict=True))
        return Draw(place, view, when, rows, columns, rng)

    def _clear(self, place: int, view: View, rows: slice, columns: slice) -> np.ndarray:
        """Return the share of a window that is clear at each date, in the clearest group of bands."""
        valid = view.valid(rows, columns)
        area = self._area(place)
        if self.unit is not None or isinstance(area, bool):
            return _any(valid.mean(axis=(-2, -1)), 1)
        # The share of what may be seen: half a window in an excluded block is not half a cloud.
        inside = area[rows, columns]
        return _any((valid & inside).sum(axis=(-2, -1)) / max(int(inside.sum()), 1), 1)

    def _with_label(
        self, when: np.ndarray, clear: np.ndarray, bears: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return dates of which one at least bears the label."""
        if not np.broadcast_to(bears, clear.shape)[when].any():
            # Labels of few dates: most subsets would miss them.
            labelled = np.flatnonzero(bears)
            best = labelled[clear[labelled] >= min(self.options.min_clear, clear[labelled].max())]
            when[rng.integers(len(when))] = rng.choice(best)
        return np.sort(when)

    # Its values.

    def _cut(self, draw: Draw) -> Chip:
        chip = draw.view.cut(draw.when, draw.rows, draw.columns)
        area = self._area(draw.place)
        if isinstance(area, bool):
            return chip
        inside = area[draw.rows, draw.columns]
        if self.unit is None:
            x = np.where(inside, chip.x, np.float32(0))
            return replace(chip, x=x, valid=chip.valid & inside)
        nothing = np.float32(np.nan) if chip.labels.dtype.kind == "f" else np.int16(UNLABELLED)
        return replace(chip, labels=np.where(inside, chip.labels, nothing))

    def _augmented(self, chip: Chip, draw: Draw) -> Chip:
        options, rng = self.options, draw.rng
        if self.unit is not None and isinstance(options, ChipOptions):
            if (
                self.unit == "pixel"
                and chip.labels.dtype.kind != "f"
                and rng.random() < options.splice
            ):
                chip = self._spliced(chip, draw)
            if rng.random() < options.hide:
                chip = hide(chip, self._gaps(chip, draw), rng, self._groups, self._optical)
        return rotate(chip, rng) if options.rotate else chip

    def _spliced(self, chip: Chip, draw: Draw) -> Chip:
        view, rng = draw.view, draw.rng
        own = np.flatnonzero(self._counted[draw.place]).tolist()
        rarest = min(own, key=lambda k: (chip.labels == k).sum())
        pixels = self._candidates(draw.place, view, rarest)
        pixel = divmod(int(pixels[rng.integers(len(pixels))]), view.shape[1])
        rows, columns = draw_window(pixel, view.shape, self.options.size, rng)
        return splice(chip, self._cut(replace(draw, rows=rows, columns=columns)), rng)

    def _gaps(self, chip: Chip, draw: Draw) -> np.ndarray:
        """Draw gaps of real clouds, (t h w): the masks of other dates of the place, at another window."""
        view, rng, optical = draw.view, draw.rng, list(self._optical)
        share = view.clear()
        partly = share if share.ndim == 1 else share[:, optical].max(axis=1, initial=0)
        cloudy = np.flatnonzero((partly > 0.1) & (partly < 0.95))
        t, (height, width) = len(draw.when), chip.valid.shape[-2:]
        if cloudy.size == 0:
            return np.zeros((t, height, width), bool)
        row = int(rng.integers(view.shape[0] - height + 1))
        column = int(rng.integers(view.shape[1] - width + 1))
        source = rng.choice(cloudy, t)
        valid = view.valid(slice(row, row + height), slice(column, column + width))[source]
        return ~(valid if valid.ndim == 3 else valid[:, optical].any(axis=1))


def _unit(places: Places, unit: Unit | None, labelled: bool | None) -> Unit | None:
    """Return what a label is for, None of windows without labels."""
    dims = places.head.labels
    own: Unit | None = None if dims is None else "pixel" if "y" in dims else "chip"
    if unit is None and (own is not None or not labelled):
        return own
    if own is None:
        raise TimoError("The places have no labels: give timo.Places([(cube, labels), ...]).")
    if (unit == "chip") != (own == "chip"):
        raise TimoError(
            f"The labels are of {own}s, and the model answers for each {unit}. Load a model with "
            f"unit={own!r}, or give labels of {'whole places' if unit == 'chip' else 'pixels'} (of series: "
            f"timo.Places.from_series(..., unit={'chip' if unit == 'chip' else 'pixel'!r}))."
        )
    return unit


def _all(view: View) -> tuple[slice, slice]:
    return slice(0, view.shape[0]), slice(0, view.shape[1])


def _any(clear: np.ndarray, axis: int) -> np.ndarray:
    """Return the share of the clearest group of bands at each date."""
    return clear if clear.ndim == 1 else clear.max(axis=axis)


def _bears(labels: np.ndarray | None, pixel: tuple[int, int], k: int) -> np.ndarray:
    """Return at which dates a pixel, or a place, bears a class or a value: (t,) or ()."""
    assert labels is not None
    own = labels[..., pixel[0], pixel[1]] if labels.ndim >= 2 else labels
    return np.isfinite(own) if labels.dtype.kind == "f" else own == k


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
    pixel: Sequence[int], shape: Sequence[int], size: int | None, rng: np.random.Generator
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

    Chips without labels give a batch without. All must have the same bands; smaller ones are padded.
    """
    kinds = {tuple((name, a.ndim, *a.shape[1:-2]) for name, a in chip.items()) for chip in chips}
    if len(kinds) != 1 or not {"x"} <= chips[0].keys() <= _PADDING.keys():
        raise TimoError(
            f"The chips of a batch must have the same arrays (of {', '.join(_PADDING)}) and bands; got "
            f"{sorted(kinds)}. Take chips of one timo.training.Windows."
        )
    return {
        name: stack([chip[name] for chip in chips], _padding(name, chips[0][name]))
        for name in chips[0]
    }


def _padding(name: str, array: Tensor) -> float:
    return float("nan") if name == "labels" and array.is_floating_point() else _PADDING[name]


def stack(arrays: Sequence[Tensor], padding: float) -> Tensor:
    """Stack arrays of different sizes, with padding after the end of each axis."""
    largest = [max(lengths) for lengths in zip(*(a.shape for a in arrays), strict=True)]
    stacked = arrays[0].new_full((len(arrays), *largest), padding)
    for place, array in zip(stacked, arrays, strict=True):
        place[tuple(slice(length) for length in array.shape)] = array
    return stacked
