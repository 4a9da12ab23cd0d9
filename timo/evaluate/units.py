"""The independent units of an evaluation: what is drawn together for intervals, and held out together."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from timo import cube as cubes
from timo.places import Places
from timo.places.view import View

Kind = Literal["group", "label group", "place", "block"]
# Places, and groups of places, from which on they are the units; of fewer, what lies inside them is.
_MANY_PLACES, _MANY_GROUPS = 30, 5
# Blocks along the longer side of a place, where the split has none.
_BLOCKS = 10
_WORDS = {
    "group": "groups of places",
    "label group": "groups of the labels (parcels or sites)",
    "place": "places",
    "block": "blocks",
}


class Units:
    """Numbers of the units, the same in all folds.

    They are groups of places where there are several; else the groups of the labels, by default their features; else
    the places, if they are many, or blocks inside them, of `block_m` or a tenth of a place.
    """

    def __init__(self, places: Places, unit: str, block_m: float = 0.0) -> None:
        self.places, self.block_m = places, block_m
        self.numbers: dict[Any, int] = {}
        self.kind: Kind = self._kind(unit)

    def _kind(self, unit: str) -> Kind:
        groups = set(self.places.groups or ()) - {""}
        if len(groups) >= (2 if unit == "chip" else _MANY_GROUPS):
            return "group"
        if unit == "chip":
            return "place"
        if self.places.has_groups:
            return "label group"
        return "place" if len(self.places) >= _MANY_PLACES else "block"

    @property
    def words(self) -> str:
        """What the units are."""
        size = f" of {self.block_m:g} m" if self.kind == "block" and self.block_m else ""
        return _WORDS[self.kind] + size

    @property
    def inside(self) -> bool:
        """Whether the units lie inside the places."""
        return self.kind in ("label group", "block")

    def of_place(self, number: int) -> int:
        """Return the unit of a place as a whole."""
        group = (
            (self.places.groups or [""] * len(self.places))[number] if self.kind == "group" else ""
        )
        return self._number(group or ("place", number))

    def of_pixels(self, number: int, view: View) -> np.ndarray:
        """Return the unit of each pixel of a place, (y, x)."""
        if self.kind in ("group", "place"):
            return np.full(view.shape, self.of_place(number))
        inside = self._inside(number, view)
        own, inverse = np.unique(inside, return_inverse=True)
        names = self.places.group_names(number) if self.kind == "label group" else None
        keys = [
            (number, int(key)) if names is None or key < 0 else ("name", names[key]) for key in own
        ]
        return np.array([self._number(key) for key in keys])[inverse].reshape(inside.shape)

    def _inside(self, number: int, view: View) -> np.ndarray:
        """Return the number of the group or block of each pixel, within the place."""
        if self.kind == "label group":
            return np.full(view.shape, -1) if view.groups is None else view.groups
        if min(view.shape) < 2:
            return np.zeros(view.shape, "int64")
        cube = self.places.open(number)[0]
        cell = max(cubes.cell_size_m(cube))
        return cubes.blocks(
            cube, self.block_m or max(cell * max(view.shape) / _BLOCKS, cell)
        ).values

    def _number(self, key: Any) -> int:
        return self.numbers.setdefault(key, len(self.numbers))
