"""Pixels that several features claim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from timo.errors import TimoError
from timo.places.burning import Cells

Conflicts = Literal["drop", "first", "last", "majority", "mean", "error"]


@dataclass(frozen=True)
class Settled:
    """Labelled cells (n,): the feature that each label came from, and its answer; `conflicting` cells, and whose."""

    cell: np.ndarray
    feature: np.ndarray
    answer: np.ndarray
    conflicting: np.ndarray
    involved: np.ndarray


def settle(cells: Cells, answers: np.ndarray, rule: Conflicts, size: int) -> Settled:
    """Give each cell one answer.

    Parameters
    ----------
    cells : Cells
        Pairs of features and cells.
    answers : numpy.ndarray
        (features,) class or value of each feature.
    rule : str
        What becomes of a cell with different answers; where all agree, it has that answer, from the first feature.
    size : int
        Number of cells of the grid.
    """
    several = np.bincount(cells.cell, minlength=size)[cells.cell] > 1
    alone = ~several
    cell, feature = cells.cell[alone], cells.feature[alone]
    if not several.any():
        none = np.zeros(0, "int64")
        return Settled(cell, feature, answers[feature], none, none)
    shared = _Shared.of(cells.cell[several], cells.feature[several], answers)
    agree = shared.agree
    if rule == "error" and not agree.all():
        _refuse(shared)
    chosen, found = shared.choose(rule)
    kept = agree | np.isin(rule, ("first", "last", "mean")) | (rule == "majority") & ~shared.tied
    fought = np.repeat(~agree, shared.count)
    return Settled(
        np.concatenate([cell, shared.cell[shared.start][kept]]),
        np.concatenate([feature, chosen[kept]]),
        np.concatenate([answers[feature], found[kept]]),
        shared.cell[shared.start][~agree],
        np.unique(shared.feature[fought]),
    )


@dataclass(frozen=True)
class _Shared:
    """Claims of several features, in the order of the cells, of one cell in the order of the features."""

    cell: np.ndarray
    feature: np.ndarray
    answer: np.ndarray
    start: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, cell: np.ndarray, feature: np.ndarray, answers: np.ndarray) -> _Shared:
        order = np.argsort(cell, kind="stable")
        cell, feature = cell[order], feature[order]
        start = np.flatnonzero(np.diff(cell, prepend=-1))
        return cls(cell, feature, answers[feature], start, np.diff(start, append=len(cell)))

    @property
    def agree(self) -> np.ndarray:
        """Return (groups,) whether all answers of a cell are the same."""
        low, high = (f.reduceat(self.answer, self.start) for f in (np.minimum, np.maximum))
        return low == high

    @property
    def _votes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the order by cell and answer, where runs of one answer begin, and their lengths."""
        order = np.lexsort((self.answer, self.cell))
        cell, answer = self.cell[order], self.answer[order]
        new = np.append(True, (cell[1:] != cell[:-1]) | (answer[1:] != answer[:-1]))
        begin = np.flatnonzero(new)
        return order, begin, np.diff(begin, append=len(cell))

    @property
    def tied(self) -> np.ndarray:
        """Return (groups,) whether two answers have the most claims."""
        _, begin, votes = self._votes
        group = np.searchsorted(self.start, begin, side="right") - 1
        most = np.maximum.reduceat(votes, np.flatnonzero(np.diff(group, prepend=-1)))
        return np.bincount(group, weights=votes == most[group]) > 1

    def choose(self, rule: Conflicts) -> tuple[np.ndarray, np.ndarray]:
        """Return (groups,) the feature that a cell's label comes from, and the answer."""
        if rule == "last":
            end = self.start + self.count - 1
            return self.feature[end], self.answer[end]
        if rule == "mean":
            mean = np.add.reduceat(self.answer, self.start) / self.count
            return self.feature[self.start], mean
        if rule == "majority":
            order, begin, votes = self._votes
            group = np.searchsorted(self.start, begin, side="right") - 1
            # The last run of each cell, in the order of the votes, has the most.
            by_votes = np.lexsort((votes, group))
            winner = begin[by_votes[np.flatnonzero(np.diff(group[by_votes], append=-1))]]
            return self.feature[order[winner]], self.answer[order[winner]]
        return self.feature[self.start], self.answer[self.start]


def _refuse(shared: _Shared) -> None:
    group = int(np.flatnonzero(~shared.agree)[0])
    first = shared.start[group]
    rows = shared.feature[first : first + shared.count[group]]
    raise TimoError(
        f"{int((~shared.agree).sum()):,} pixels lie in features that disagree, such as rows {rows.tolist()[:4]}. "
        'Correct them, or choose conflicts="drop", "first", "last" or, of classes, "majority".'
    )
