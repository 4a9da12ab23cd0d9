"""Counts by unit and predictor, and the figures that they make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from timo.evaluate.evaluation import Evaluation, class_table, figure_table
from timo.evaluate.figures import (
    DRAWS,
    ERROR_SUMS,
    class_figures,
    class_summary,
    error_summary,
    error_sums,
    resample,
)
from timo.evaluate.reading import Batch
from timo.evaluate.units import Units
from timo.models.tasks import unit_of

MODEL = "model"
# Fewer units, and an interval says little.
FEW_UNITS = 10
# Pairs of reference and prediction that are kept for the picture.
_MOST_PAIRS = 2_000
_WHAT = {"pixel": "pixels", "chip": "chips", "parcel": "parcels"}


class Counts:
    """Sums of each unit, for each predictor: its confusion matrix, or its errors."""

    def __init__(self, config: Any, seed: int) -> None:
        self.config, self.seed = config, seed
        self.regression = config.task == "regression"
        self.size = len(ERROR_SUMS) if self.regression else len(config.classes) ** 2
        self.sums: dict[str, np.ndarray] = {}
        self.pairs: list[np.ndarray] = []

    @property
    def counted(self) -> int:
        """How many answers of the model were counted."""
        sums = self.sums.get(MODEL)
        if sums is None:
            return 0
        return int(sums[:, 0].sum() if self.regression else sums.sum())

    def add_model(self, batch: Batch) -> None:
        """Count the answers of the model."""
        if not self.regression:
            self.add(batch, {MODEL: batch.answers.argmax(axis=1)})
            return
        self.add(batch, {MODEL: batch.answers})
        self.pairs.append(np.column_stack([batch.truth, batch.answers[:, 0]])[:_MOST_PAIRS])

    def add(self, batch: Batch, predicted: dict[str, np.ndarray]) -> None:
        """Count predictions: classes (n,), or values (n,) or (n, outputs)."""
        for name, values in predicted.items():
            rows = len(self.sums.get(name, ()))
            sums = np.zeros((max(rows, int(batch.unit.max()) + 1), self.size))
            sums[:rows] = self.sums.get(name, 0)
            if self.regression:
                truth = batch.truth.astype("float64")
                each = error_sums(truth, values.reshape(len(truth), -1).astype("float64"))
                np.add.at(sums, batch.unit, each)
            else:
                cell = batch.truth.astype("int64") * len(self.config.classes) + values
                np.add.at(sums, (batch.unit, cell), 1)
            self.sums[name] = sums

    def evaluation(self, what: str, units: Units, notes: list[str]) -> Evaluation:
        """Return the figures of all predictors."""
        # A unit in which nothing was counted is none.
        held = {name: sums[self._weight(sums) > 0] for name, sums in self.sums.items()}
        rows = {
            name: (self._summary(sums.sum(axis=0)), resample(sums, self._summary, self.seed))
            for name, sums in held.items()
        }
        model = held[MODEL]
        about = [_about_units(len(model), units), *self._about_classes(model.sum(axis=0))]
        about += self._about_counts()
        count = f"{self.counted:,} {_WHAT[unit_of(self.config)]}"
        if self.config.per_date:
            count += " and dates"
        return Evaluation(
            table=figure_table(rows),
            classes=self._classes(model),
            confusion=self._confusion(model.sum(axis=0)),
            title=f"{self._target()}{count}: {what}",
            notes=(*about, *notes),
            pairs=self._pairs(),
            units=getattr(self.config, "target_units", ""),
        )

    def _weight(self, sums: np.ndarray) -> np.ndarray:
        return sums[:, 0] if self.regression else sums.sum(axis=1)

    def _matrices(self, sums: np.ndarray) -> np.ndarray:
        k = len(self.config.classes)
        return sums.reshape(*sums.shape[:-1], k, k)

    def _summary(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        return (
            error_summary(sums)
            if self.regression
            else class_summary(self._matrices(sums), self._share)
        )

    @property
    def _share(self) -> float:
        """Share of the classes that have a reference."""
        reference = self._matrices(self.sums[MODEL].sum(axis=0)).sum(axis=1)
        return float((reference > 0).mean())

    def _classes(self, sums: np.ndarray) -> pd.DataFrame:
        if self.regression:
            return pd.DataFrame()

        def figures(some: np.ndarray) -> dict[str, np.ndarray]:
            return class_figures(self._matrices(some))

        names = tuple(self.config.classes)
        return class_table(names, figures(sums.sum(axis=0)), resample(sums, figures, self.seed))

    def _confusion(self, total: np.ndarray) -> pd.DataFrame:
        if self.regression:
            return pd.DataFrame()
        names = list(self.config.classes)
        return pd.DataFrame(self._matrices(total).astype("int64"), index=names, columns=names)

    def _pairs(self) -> pd.DataFrame:
        if not self.pairs:
            return pd.DataFrame(columns=["reference", "predicted"])
        pairs = np.concatenate(self.pairs)
        chosen = np.random.default_rng(self.seed).permutation(len(pairs))[:_MOST_PAIRS]
        return pd.DataFrame(pairs[chosen], columns=["reference", "predicted"])

    def _target(self) -> str:
        target = getattr(self.config, "target", "")
        return f"{target} of " if self.regression and target else ""

    def _about_classes(self, total: np.ndarray) -> list[str]:
        if self.regression:
            return []
        support = self._matrices(total).sum(axis=1)
        absent = [name for name, n in zip(self.config.classes, support, strict=True) if not n]
        if not absent:
            return [
                "All classes are in the reference, so the means over those and over all are the same."
            ]
        text = (
            f"The means are over the {int((support > 0).sum())} classes in the reference; over all {len(support)}, the "
            f"absent ones count 0: {', '.join(absent)}."
        )
        return [text]

    def _about_counts(self) -> list[str]:
        others = [
            int(self._weight(sums).sum()) for name, sums in self.sums.items() if name != MODEL
        ]
        if not others or min(others) == self.counted:
            return []
        return [f"The baselines are counted on {min(others):,} of these, drawn at random."]


def _about_units(count: int, units: Units) -> str:
    if count < 2:
        return f"No intervals: all that is counted is of one unit ({units.words})."
    text = f"Intervals (95 %) resample {count:,} {units.words}, {DRAWS:,} draws"
    if units.inside:
        text += ": they say nothing of other places"
    if count < FEW_UNITS:
        text += "; of so few units they are too narrow as a rule"
    return f"{text}."
