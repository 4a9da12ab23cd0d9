"""Sheets of labels one after the other: each step can be taken back and made again, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .sheet import Sheet, check_names

_MOST_STEPS = 200


class History:
    """A sheet of labels with those before it, and those that were taken back.

    Parameters
    ----------
    classes : sequence of str
        Names of the classes, in order of their codes.

    Attributes
    ----------
    sheet : Sheet
        The labels as they are now.

    Raises
    ------
    TimoError
        If a name is empty or there twice.
    """

    def __init__(self, classes: Sequence[str] = ()) -> None:
        self.sheet = Sheet(check_names(classes))
        self._past: list[Sheet] = []
        self._future: list[Sheet] = []

    def undo(self) -> bool:
        """Take the last step back; False if there is none."""
        return self._travel(self._past, self._future)

    def redo(self) -> bool:
        """Make the step that was taken back again; False if there is none."""
        return self._travel(self._future, self._past)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to make again."""
        return bool(self._future)

    def take_sheet(self, sheet: Sheet) -> None:
        """Begin with these labels: there is nothing to undo then."""
        self.sheet, self._past, self._future = sheet, [], []

    def next_number(self) -> int:
        """A number that no label has or had."""
        # Past and future count too: a number that comes back by undo must not mean another label by then.
        sheets = (self.sheet, *self._past, *self._future)
        return 1 + max((label.number for s in sheets for label in s.labels), default=0)

    def _put(self, **values: Any) -> None:
        self._past = [*self._past, self.sheet][-_MOST_STEPS:]
        self._future = []
        self.sheet = replace(self.sheet, **values)

    def _travel(self, source: list[Sheet], target: list[Sheet]) -> bool:
        if not source:
            return False
        target.append(self.sheet)
        self.sheet = source.pop()
        return True
