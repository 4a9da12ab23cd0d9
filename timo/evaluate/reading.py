"""What is counted: the truth of each pixel, chip or parcel beside the model's answer and what a baseline sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from timo import cube as cubes
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError
from timo.evaluate.baselines import thin
from timo.evaluate.features import Periods, group_sums, means_of, series_features
from timo.evaluate.units import Units
from timo.mapping.checking import groups_of, seen
from timo.mapping.chips import chip_answer
from timo.mapping.parcels import Members, ParcelSums
from timo.mapping.scoring import (
    Extent,
    Part,
    Scored,
    Tiling,
    parts_of,
    scored,
    tile_answers,
    tile_parts,
)
from timo.models.tasks import Segmenter, config_of, unit_of
from timo.places import Places
from timo.places.place import is_labelled
from timo.places.view import View

# Places whose dates are looked at for the periods that all share.
_MOST_LOOKED_AT = 50

Wanted = Callable[[int], Bool[np.ndarray, "y x"] | bool]


@dataclass(frozen=True)
class Batch:
    """Answers that are counted.

    `truth` are numbers of classes, or values; `answers` (n, k) those of the model; `features` what a baseline sees;
    `unit` the unit of each.
    """

    truth: np.ndarray
    unit: Int[np.ndarray, " n"]
    features: Float[np.ndarray, "n f"]
    answers: Float[np.ndarray, "n k"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A place with its labels: `truth` with -1 or NaN where nothing is counted, and the units of its pixels."""

    number: int
    truth: np.ndarray
    units: np.ndarray
    times: np.ndarray
    members: Members | None = None
    sums: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class How:
    """How places are read: tiles and windows, the periods of the features (None: no features), what is not counted."""

    tiling: Tiling
    periods: Periods | None
    ignore: frozenset[str] = frozenset()


class Reader:
    """Read the labelled pixels, chips or parcels of places, with or without the model's answers."""

    def __init__(self, model: Segmenter, places: Places, units: Units, how: How) -> None:
        self.model, self.places, self.units = model, places, units
        self.tiling, self.periods, self.config = how.tiling, how.periods, config_of(model)
        self.unit, self.groups = unit_of(self.config), groups_of(self.config)
        self.codes = class_codes(self.config, places, how.ignore)
        # Bands of the places that are valid together.
        self.sizes = cubes.band_groups(places.bands, places.sensor)
        # What is labelled, and was not observed.
        self.unobserved = 0

    def read(
        self, wanted: Wanted, *, answered: bool = True, order: Iterable[int] | None = None
    ) -> Iterator[Batch]:
        """Yield what is wanted, tile by tile or place by place."""
        parts = self._parts(wanted, range(len(self.places)) if order is None else map(int, order))
        pairs = scored(self.model, parts) if answered else ((part, None) for part in parts)
        if self.unit == "parcel":
            yield from self._parcels(pairs)
            return
        for part, held in pairs:
            yield (self._chip if self.unit == "chip" else self._pixels)(part, held)

    def _parts(self, wanted: Wanted, order: Iterable[int]) -> Iterator[Part]:
        for number in order:
            mask = wanted(number)
            if not np.any(mask):
                continue
            view = self.places.view(number)
            if view.labels is None:
                continue
            place = self._labelled(number, view, mask)
            known = is_labelled(place.truth)
            if not known.any():
                continue
            flat = np.asarray(known.any(axis=0)) if known.ndim == 3 else known
            yield from self._parts_of(number, view, place, flat)

    def _parts_of(
        self, number: int, view: View, place: Labelled, known: np.ndarray
    ) -> Iterator[Part]:
        """Yield the parts of a place with known labels: of one on disk, its values are looked at as they are read."""

        def inside(tile: Extent) -> bool:
            return self.unit == "chip" or bool(known[tile.inner].any())

        if not view.in_memory:
            cube = self.places.open(number)[0]
            yield from parts_of(self.model, cube, self.tiling, inside, key=place)
            return
        every = np.arange(len(view.dates))
        bands = [self.places.bands.index(band) for band in self.config.bands]

        def read(rows: slice, columns: slice) -> np.ndarray:
            chip = view.cut(every, rows, columns)
            valid = chip.valid[:, None] if chip.valid.ndim == 3 else chip.valid
            valid = np.repeat(valid, self.sizes, axis=1)
            return np.where(valid, chip.x, np.float32("nan"))[:, bands]

        yield from tile_parts(self.config, read, view.dates, view.shape, self.tiling, inside, place)

    def _labelled(self, number: int, view: View, mask: np.ndarray | bool) -> Labelled:
        labels = view.labels
        assert labels is not None
        chips = self.unit == "chip"
        if view.shape == (1, 1):
            # A single pixel is a chip as well.
            labels = labels.reshape(labels.shape[: labels.ndim % 2] + (() if chips else (1, 1)))
        if chips != (labels.ndim < 2):
            have, wants = ("pixels", "a whole place") if chips else ("a whole place", "pixels")
            raise TimoError(
                f"The labels of place {self.places.names[number]} are of {have}, and a model that answers for a "
                f"{self.unit} is evaluated by labels of {wants}. Load a model for these labels."
            )
        truth, times = self._truth(labels), view.dates.astype("datetime64[D]")
        if chips:
            return Labelled(number, truth, np.full(1, self.units.of_place(number)), times)
        truth = np.where(mask, truth, unlabelled(truth))
        units = self.units.of_pixels(number, view)
        if self.unit == "pixel":
            return Labelled(number, truth, units, times)
        if view.features is None:
            raise TimoError(
                f"The labels of place {self.places.names[number]} do not say which pixels are one parcel: they have no "
                "coordinate `feature`. Read them with timo.read_labels."
            )
        # All pixels of a parcel that is wanted, with a label or without.
        numbers = np.where(
            np.isin(view.features, view.features[is_labelled(truth)]), view.features, -1
        )
        found, rank = np.unique(numbers, return_inverse=True)
        count = int((found >= 0).sum())
        members = Members.of_raster(rank.reshape(numbers.shape) - (len(found) - count), count)
        return Labelled(number, truth, units, times, members)

    def _truth(self, labels: np.ndarray) -> np.ndarray:
        """Return the labels as numbers of the model's classes, of each date or the latest of the series."""
        truth = labels
        if truth.dtype.kind != "f":
            codes = np.append(self.codes, UNLABELLED)
            truth = codes[np.where(truth < 0, len(self.codes), truth)]
        if truth.ndim in (1, 3) and not self.config.per_date:
            known = is_labelled(truth)
            latest = len(truth) - 1 - known[::-1].argmax(axis=0)
            truth = np.take_along_axis(truth, np.asarray(latest)[None], axis=0)[0]
        return truth

    def _pixels(self, part: Part, held: Scored | None) -> Batch:
        place, tile = part.key
        truth, valid = place.truth[..., *tile.inner], seen(part.x, self.groups)[tile.within]
        if not self.config.per_date:
            valid = valid.any(axis=0)
        labelled = np.broadcast_to(is_labelled(truth), valid.shape)
        self.unobserved += int((labelled & ~valid).sum())
        at = np.nonzero(labelled & valid)
        answers = np.zeros((len(at[0]), 0), "float32")
        if held is not None:
            found = tile_answers(filter(None, held), self.model, part.x, tile.crop, self.tiling)
            answers = found.reshape(len(found), -1).T[np.ravel_multi_index(at, valid.shape)]
        row, column = at[-2:]
        x = part.x[tile.within]
        dated = self.config.per_date
        features = x[at[0], :, row, column] if dated else self._series(x[..., row, column], place)
        chosen = np.broadcast_to(truth, valid.shape)[at]
        return Batch(chosen, place.units[tile.inner][row, column], features, answers)

    def _chip(self, part: Part, held: Scored | None) -> Batch:
        place, _ = part.key
        valid = seen(part.x, self.groups)
        observed = np.asarray(valid.any(axis=(1, 2)))
        if not self.config.per_date:
            observed = np.atleast_1d(observed.any())
        truth = np.broadcast_to(place.truth, observed.shape)
        self.unobserved += int((is_labelled(truth) & ~observed).sum())
        at = np.flatnonzero(is_labelled(truth) & observed)
        answers = np.zeros((len(at), 0), "float32")
        if held is not None:
            found = chip_answer(self.model, part, held, self.config.per_date)
            answers = found.reshape(len(found), -1).T[at]
        flat = part.x.reshape(*part.x.shape[:2], -1)
        means = means_of(group_sums(flat, np.zeros(flat.shape[-1], "int64"), 1))
        features = means[at, :, 0] if self.config.per_date else self._series(means, place)[at]
        return Batch(truth[at], np.repeat(place.units, len(at)), features, answers)

    def _parcels(self, pairs: Iterable[tuple[Part, Scored | None]]) -> Iterator[Batch]:
        """Yield the parcels of each place once its last tile was read."""
        last: Labelled | None = None
        for part, held in pairs:
            place = part.key[0]
            if last is not None and place is not last:
                yield self._finished(last)
            last = place
            self._add_parcels(place, part, held)
        if last is not None:
            yield self._finished(last)

    def _add_parcels(self, place: Labelled, part: Part, held: Scored | None) -> None:
        members = place.members
        assert members is not None
        if not place.sums:
            sums = ParcelSums(members, self.model, len(part.x), self.tiling)
            place.sums.extend([sums, np.zeros((2, *part.x.shape[:2], members.count), "float32")])
        sums, values = place.sums
        sums.add(part, held or [])
        parcel, row, column = members.within(part.key[1])
        values += group_sums(part.x[part.key[1].within][..., row, column], parcel, members.count)

    def _finished(self, place: Labelled) -> Batch:
        sums, values = place.sums
        members = sums.members
        features = self._series(means_of(values), place)
        pixels = place.truth[members.row, members.column]
        truth = parcel_truth(pixels, members, len(self.config.classes))
        unit = np.zeros(members.count, "int64")
        unit[members.parcel] = place.units[members.row, members.column]
        observed = sums.observed > 0
        self.unobserved += int((is_labelled(truth) & ~observed).sum())
        at = np.flatnonzero(is_labelled(truth) & observed)
        answers = sums.answers()[at] if sums.pixels.any() else np.zeros((len(at), 0), "float32")
        return Batch(truth[at], unit[at], features[at], answers)

    def _series(self, x: Float[np.ndarray, "t c n"], place: Labelled) -> Float[np.ndarray, "n f"]:
        if self.periods is None:
            return np.zeros((x.shape[-1], 0), "float32")
        return series_features(x, place.times, self.periods)


def parcel_truth(pixels: np.ndarray, members: Members, classes: int) -> np.ndarray:
    """Return the class of most labelled pixels of each parcel, or the mean of its values."""
    known = is_labelled(pixels)
    parcel, pixels = members.parcel[known], pixels[known]
    if pixels.dtype.kind == "f":
        total = np.bincount(parcel, pixels, minlength=members.count)
        with np.errstate(invalid="ignore"):
            return total / np.bincount(parcel, minlength=members.count)
    votes = np.bincount(parcel * classes + pixels, minlength=members.count * classes)
    votes = votes.reshape(members.count, classes)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), UNLABELLED)


def class_codes(config: Any, places: Places, ignore: frozenset[str]) -> Int[np.ndarray, " labels"]:
    """Return the number that the model has for each class of the labels, -1 of those that are ignored.

    Raises
    ------
    TimoError
        If the labels have a class that the model does not know, or a class to be ignored does not exist.
    """
    if config.task == "regression":
        return np.zeros(0, "int64")
    names = places.classes or tuple(config.classes)
    if unknown := ignore - set(names) - set(config.classes):
        raise TimoError(
            f"ignore= has {sorted(unknown)}, the labels have the classes {list(names)}."
        )
    new = [name for name in names if name not in config.classes and name not in ignore]
    if new:
        raise TimoError(
            f"The labels have the classes {list(names)}, the model knows {list(config.classes)}. Leave {new} out with "
            f"ignore={new}, or load a model for these labels."
        )
    numbers = {name: number for number, name in enumerate(config.classes)}
    return np.array([-1 if name in ignore else numbers[name] for name in names], "int64")


def unlabelled(truth: np.ndarray) -> float | int:
    """Return what says that there is no truth."""
    return float("nan") if truth.dtype.kind == "f" else UNLABELLED


def shared_periods(places: Places, more: Places | None, seed: int) -> Periods:
    """Return the periods of all places, from the dates of a random part of many."""
    dates = []
    for some in (places, more):
        if some is not None:
            order = np.random.default_rng(seed).permutation(len(some))[:_MOST_LOOKED_AT]
            dates += [some.view(int(i)).dates.astype("datetime64[D]") for i in order]
    return Periods.of(dates)


def gathered(batches: Iterable[Batch], least: int) -> Iterator[Batch]:
    """Yield the batches that hold anything, small ones joined to at least `least` rows."""
    held: list[Batch] = []
    for batch in batches:
        if len(batch.truth):
            held.append(batch)
        if sum(len(one.truth) for one in held) >= least:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def sample(
    batches: Iterable[Batch], most: int, each: int, rng: np.random.Generator
) -> tuple[Batch | None, int]:
    """Return random rows, at most about `each` of a batch and `most` of all, and how many there were."""
    kept, count = [], 0
    for batch in gathered(batches, 1):
        count += len(batch.truth)
        kept.append(rows_of(batch, thin(batch.truth, each, rng)))
    if not kept:
        return None, 0
    joined = _joined(kept)
    return rows_of(joined, thin(joined.truth, most, rng)), count


def _joined(batches: list[Batch]) -> Batch:
    names = ("truth", "unit", "features", "answers")
    return Batch(*(np.concatenate([getattr(b, name) for b in batches]) for name in names))


def rows_of(batch: Batch, rows: np.ndarray) -> Batch:
    """Return some rows."""
    return Batch(*(a[rows] for a in (batch.truth, batch.unit, batch.features, batch.answers)))
