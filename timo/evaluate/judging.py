"""`timo.evaluate` and `timo.cross_validate`: a model beside simple baselines, on the same labels and the same split."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.checks import Count, Positive, Seed, checked
from timo.errors import TimoError, warn
from timo.evaluate import baselines as simple
from timo.evaluate.counting import Counts
from timo.evaluate.evaluation import Evaluation
from timo.evaluate.reading import (
    Batch,
    How,
    Reader,
    Wanted,
    gathered,
    rows_of,
    sample,
    shared_periods,
)
from timo.evaluate.units import Units
from timo.mapping.checking import check_weights
from timo.mapping.scoring import Tiling, window_of
from timo.models.tasks import Segmenter, config_of, unit_of
from timo.places import Places, Split
from timo.places.places import places_of
from timo.places.source import check_units
from timo.places.split import By, split_of

PARTS = {"train": 0, "validation": 1, "test": 2}
_TILE, _HALO = 128, 32
# Folds of the baselines where nothing says what they may learn from.
_FOLDS = 5
# Rows of a tile that baselines are counted on, and places that they learn from.
_MOST_OF_TILE, _MOST_PLACES = 20_000, 2_000
# Rows that are counted at once: a forest takes as long for one as for some hundreds.
_LEAST_AT_ONCE = 5_000


@checked
def evaluate(
    model: Segmenter,
    data: xr.DataArray | Places | Sequence[Any],
    labels: xr.DataArray | None = None,
    *,
    split: Split | xr.DataArray | Literal["place", "group", "fold", "block"] | None = None,
    part: Literal["train", "validation", "test"] = "test",
    train: Places | None = None,
    ignore: Sequence[str] = (),
    baselines: bool = True,
    window: Count | None = None,
    seed: Seed = 0,
) -> Evaluation:
    """Count what a model answers on labelled data, beside simple baselines on the same labels and the same split.

    Counted are labelled pixels that were observed (of a model of dates: at each date at which they were), chips, or
    parcels as wholes. The baselines are the most frequent class (of a regression the mean), a logistic (ridge)
    regression whose penalty is chosen by cross-validation with whole groups, and a random forest. They see the medians
    of the bands in about monthly periods, means over the pixels of a chip or parcel; of a model of dates, the pixel
    and date alone. What they do not see is interpolated in time, or has the mean of their training part.

    Parameters
    ----------
    model : TiMo
        The model.
    data : xarray.DataArray or Places
        A cube, with `labels`; or places with their labels.
    labels : xarray.DataArray, optional
        Of the cube. Their classes are matched by name with those of the model.
    split : Split, xarray.DataArray or str, optional
        The split that the model was trained with (`Finetuned.split`, `timo.cube.split_blocks`, `Places.split`), or how
        to make it again. Without a split, all labels are counted.
    part : {"test", "validation", "train"}
        The part of the split that is counted.
    train : Places, optional
        What the baselines learn from, if that is not the training part of `split`: the places that the model was
        trained on. Without either, they are cross-validated by whole groups inside what is evaluated.
    ignore : sequence of str
        Classes whose labels are not counted.
    baselines : bool
        False leaves them out.
    window : int, optional
        As of `timo.predict`.
    seed : int
        Of the draws of the intervals and the baselines.

    Returns
    -------
    Evaluation
        Print it.

    Raises
    ------
    TimoError
        If model, data and labels do not fit each other, or no label is left to count.
    """
    places = places_of(data, labels)
    given = split_of(places, split)
    options = _Options(frozenset(ignore), baselines, window, seed)
    run = _Run(model, places, options, train, 0.0 if given is None else given.block_m)
    wanted = _in_part(given, PARTS[part])
    learn = _in_part(given, PARTS["train"]) if given is not None else None
    run.count(model, wanted, learn)
    title = "all labels" if given is None else f"the {part} part of {_named(given)}"
    return run.evaluation(title)


@checked
def cross_validate(
    model: Segmenter,
    places: Places,
    by: By = "fold",
    k: Count = 5,
    *,
    size_m: Positive | None = None,
    ignore: Sequence[str] = (),
    baselines: bool = True,
    window: Count | None = None,
    seed: Seed = 0,
    **options: Any,
) -> Evaluation:
    """Train a model on each fold's rest and count what it answers on the fold: all folds together, as one.

    Parameters
    ----------
    model : TiMo
        The model to begin each fold with, as `timo.load_model` gives it; it is left as it is.
    places : Places
        Places with labels.
    by : {"fold", "place", "group", "block"}
        What is held out as a whole, see `Places.folds`.
    k : int
        Number of folds; of "fold", those that the places bear.
    size_m : float, optional
        Side of the blocks in metres, see `Places.folds`.
    ignore, baselines, window, seed
        As of `evaluate`; `seed` is also that of the folds and the training.
    **options
        Options of `timo.finetune`, such as ``epochs=10``, or ``budget="5min"`` for each fold. All other folds train;
        with ``patience`` the fold before the tested one validates instead.

    Returns
    -------
    Evaluation
        Pooled over the folds: each label is counted once. Baselines learn from the training part of each fold.

    Raises
    ------
    TimoError
        If there are no folds, the training fails, or model and places do not fit each other.

    Warns
    -----
    UserWarning
        If the model was trained before.
    """
    from timo.training.finetune import finetune

    run = _Run(model, places, _Options(frozenset(ignore), baselines, window, seed))
    if getattr(model, "has_learnt", False):
        warn(
            "This model was trained before. If that was on these places, each fold begins with a model that has seen "
            "what is held out, and the figures are too good: give a new one of timo.load_model."
        )
    folds = 0
    # Nothing to validate for, unless the training is to stop early: the fold before trains as well.
    validation = options.get("patience") is not None
    for split in places.folds(by=by, k=k, validation=validation, size_m=size_m, seed=seed):
        fresh = copy.deepcopy(model)
        finetune(fresh, places, split=split, seed=seed, **options)
        run.units.block_m = split.block_m or run.units.block_m
        run.count(fresh, _in_part(split, PARTS["test"]), _in_part(split, PARTS["train"]))
        folds += 1
    return run.evaluation(f"{folds} folds by {by}, pooled")


@dataclass(frozen=True)
class _Learnt:
    """Baselines, and how many labels they learnt from, of how many.

    There is one for each fold, and `fold` says which fold a unit is held out in; or one alone, where it is known what
    the baselines may learn from.
    """

    fitted: list[simple.Baselines]
    rows: int
    of: int
    fold: np.ndarray | None = None

    def predict(self, batch: Batch) -> dict[str, np.ndarray]:
        """Return the predictions of each baseline, of the fold that holds each row out."""
        if self.fold is None:
            return self.fitted[0].predict(batch.features)
        # A unit that the random part of the labels missed was in no fold.
        known = np.minimum(batch.unit, len(self.fold) - 1)
        within = batch.unit < len(self.fold)
        fold = np.where(within, self.fold[known], batch.unit % len(self.fitted))
        found: dict[str, np.ndarray] = {}
        for number in np.unique(fold):
            rows = fold == number
            for name, values in self.fitted[number].predict(batch.features[rows]).items():
                found.setdefault(name, np.zeros(len(fold), values.dtype))[rows] = values
        return found


@dataclass(frozen=True)
class _Options:
    """Options that `evaluate` and `cross_validate` have in common."""

    ignore: frozenset[str]
    baselines: bool
    window: int | None
    seed: int


class _Run:
    """One evaluation, of one model or of the models of several folds."""

    def __init__(
        self,
        model: Segmenter,
        places: Places,
        options: _Options,
        train: Places | None = None,
        block_m: float = 0.0,
    ) -> None:
        self.config = config_of(model)
        check_weights(model)
        _check_fits(self.config, places)
        self.places, self.train, self.options = places, train, options
        self.tiling = Tiling(_TILE, _HALO, window_of(self.config, options.window))
        self.units = Units(places, unit_of(self.config), block_m)
        self.counts = Counts(self.config, options.seed)
        self.periods = shared_periods(places, train, options.seed) if options.baselines else None
        self.learnt: list[_Learnt] = []
        self.unobserved = 0

    def count(self, model: Segmenter, wanted: Wanted, learn: Wanted | None) -> None:
        """Add what a model answers on what is `wanted`, and baselines that learn from what is to be learnt from."""
        model = copy.deepcopy(model).eval()
        learnt = self._learn(model, wanted, learn) if self.options.baselines else None
        reader = self._reader(model, self.places)
        rng = np.random.default_rng(self.options.seed)
        for batch in gathered(reader.read(wanted), _LEAST_AT_ONCE):
            self.counts.add_model(batch)
            if learnt is not None:
                rows = simple.thin(batch.truth, _MOST_OF_TILE, rng, least=0)
                some = rows_of(batch, rows)
                self.counts.add(some, learnt.predict(some))
        self.unobserved += reader.unobserved
        if learnt is not None:
            self.learnt.append(learnt)

    def evaluation(self, what: str) -> Evaluation:
        """Return the figures of all that was counted."""
        if not self.counts.counted:
            raise TimoError(
                "No label is left to count: none of this part is labelled, of a class that is not ignored, and "
                "observed in all bands of the model. Give another part=, or a split whose parts have labels."
            )
        return self.counts.evaluation(what, self.units, self._notes())

    def _reader(self, model: Segmenter, places: Places, units: Units | None = None) -> Reader:
        how = How(self.tiling, self.periods, self.options.ignore)
        return Reader(model, places, units or self.units, how)

    def _learn(self, model: Segmenter, wanted: Wanted, learn: Wanted | None) -> _Learnt | None:
        """Fit the baselines, or return None where nothing can be held out."""
        places, units = self.places, self.units
        if self.train is not None:
            places, learn = self.train, lambda _: True
            _check_fits(self.config, places)
            units = Units(places, unit_of(self.config))
        rng = np.random.default_rng(self.options.seed)
        order = rng.permutation(len(places))[:_MOST_PLACES]
        each = max(4 * simple.MOST_ROWS // len(order), 10)
        batches = self._reader(model, places, units).read(
            learn or wanted, answered=False, order=order
        )
        most = simple.MOST_ROWS // (1 if learn is not None else 2)
        found, count = sample(batches, most, each, rng)
        if found is None:
            raise TimoError(
                "The baselines have no label to learn from: the training part has none that was observed. Give a split "
                "with a training part, train=, or baselines=False."
            )
        seed = self.options.seed
        if learn is not None:
            fitted = simple.Baselines(found.features, found.truth, found.unit, seed)
            return _Learnt([fitted], len(found.truth), count)
        folds, fold = _shared_out(found.unit)
        if folds < 2:
            return None
        crossed = []
        for number in range(folds):
            rest = rows_of(found, np.flatnonzero(fold[found.unit] != number))
            crossed.append(simple.Baselines(rest.features, rest.truth, rest.unit, seed))
        return _Learnt(crossed, len(found.truth), count, fold)

    def _notes(self) -> list[str]:
        notes = []
        if self.unobserved:
            notes.append(f"{self.unobserved:,} labels without an observation are not counted.")
        if self.options.ignore:
            notes.append(f"Not counted: labels of {', '.join(sorted(self.options.ignore))}.")
        if self.options.baselines:
            notes += _about(self.learnt, self.periods, self.config)
        return notes


def _shared_out(units: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the number of folds, and the fold of each number of a unit: units are dealt out one by one."""
    own = np.unique(units)
    folds = min(_FOLDS, len(own))
    fold = np.arange(own.max() + 1) % folds
    fold[own] = np.arange(len(own)) % folds
    return folds, fold


def _about(learnt: list[_Learnt], periods: Any, config: Any) -> list[str]:
    """Return what the baselines learnt from, in sentences."""
    if not learnt:
        return [
            "No baselines: all labels are of one group, so none can be held out. Give a split, or train=."
        ]
    rows, of = (sum(getattr(one, name) for one in learnt) for name in ("rows", "of"))
    sees = "the bands of the pixel and date alone"
    if not config.per_date:
        sees = f"the medians of the bands in {periods}"
    some = f"{rows:,} of {of:,} labels" if rows < of else f"{rows:,} labels"
    if len(learnt) > 1:
        some += f" in {len(learnt)} folds together"
    how = "of the training part"
    if learnt[0].fold is not None:
        how = (
            f"cross-validated by whole groups in {len(learnt[0].fitted)} folds inside what is evaluated, as there is "
            "no split and no train="
        )
    strengths = {f.strength for one in learnt for f in one.fitted if math.isfinite(f.strength)}
    name = "alpha" if config.task == "regression" else "C"
    shown = ", ".join(f"{1 / s if name == 'alpha' else s:g}" for s in sorted(strengths))
    chosen = f" {name} = {shown}, by cross-validation." if shown else ""
    return [f"Baselines learn from {some} ({how}); they see {sees}.{chosen}"]


def _named(split: Split) -> str:
    return "the split that was given" if split.by == "hand" else f"the split by {split.by}"


def _in_part(split: Split | None, number: int) -> Wanted:
    """Return a function that gives the pixels of a place that lie in a part, or whether the place does."""
    if split is None:
        return lambda _: True

    def within(index: int) -> Any:
        part = split.part(index)
        return part == number if isinstance(part, int) else np.asarray(part) == number

    return within


def _check_fits(config: Any, places: Places) -> None:
    """Refuse places whose labels are not of the model's kind."""
    if not places.labelled:
        raise TimoError(
            "The data have no labels to evaluate a model by: give evaluate(model, cube, labels), or Places of (cube, "
            "labels)."
        )
    # Their bands and sensor are those of all.
    cubes.select_bands(places.open(0)[0], config.bands, config.sensor)
    numeric = config.task == "regression"
    if places.head.numeric != numeric:
        have, wants = ("values", "classes") if places.head.numeric else ("classes", "values")
        raise TimoError(
            f"The labels are {have}, the model predicts {wants}. Load a model for them: timo.load_model(..., places, "
            f'task="{"segmentation" if numeric else "regression"}").'
        )
    if numeric:
        units = getattr(config, "target_units", "")
        check_units(places.head.units, units, "The labels", "the model's values")
