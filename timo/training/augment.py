"""Augmentation of chips. Each function keeps observations and labels of a chip true."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from timo.cube.labels import UNLABELLED
from timo.places.chip import Chip
from timo.places.view import zeroed


def rotate(chip: Chip, rng: np.random.Generator) -> Chip:
    """Apply one of the eight symmetries of the square (quarter turns only where height and width are equal)."""
    square = chip.x.shape[-1] == chip.x.shape[-2]
    turns = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
    mirror = rng.random() < 0.5

    def turn(a: np.ndarray) -> np.ndarray:
        a = np.rot90(a, turns, axes=(-2, -1))
        return a[..., ::-1] if mirror else a

    # Labels of a chip as a whole have no sides.
    labels = turn(chip.labels) if chip.labels.ndim > 1 else chip.labels
    parcels = None if chip.parcels is None else turn(chip.parcels)
    return replace(chip, x=turn(chip.x), valid=turn(chip.valid), labels=labels, parcels=parcels)


def hide(
    chip: Chip,
    gaps: Bool[np.ndarray, "t h w"],
    rng: np.random.Generator,
    groups: tuple[int, ...] = (),
    optical: Sequence[bool] = (),
) -> Chip:
    """Take observations away under `gaps`, on a random half of the dates; the labels stay.

    Of several `groups` of bands (their sizes), those that are not `optical` stay: radar sees through clouds.
    """
    gaps = gaps & (rng.random(len(gaps)) < 0.5)[:, None, None]
    if chip.valid.ndim == 4:
        gaps = gaps[:, None] & np.array(optical)[:, None, None]
    valid = chip.valid & ~gaps
    if not valid.any():
        # A chip without observations teaches nothing.
        return chip
    return replace(chip, x=zeroed(chip.x, valid, groups), valid=valid)


def splice(chip: Chip, other: Chip, rng: np.random.Generator) -> Chip:
    """Put a patch of another place into the chip from a random date on: observations and labels alike.

    Both chips have the same dates, so the patch brings the right season with it. Copy-paste as in Ghiasi et al. 2021,
    along time: what a clear-cut does to a series. The patch takes pixels of `other` that bear one class and no other:
    of the classes there, the one that the chip has least of.
    """
    classes = np.unique(other.labels[other.labels >= 0])
    if classes.size == 0:
        return chip
    # The class that the chip has least of: forest onto forest would be no change to learn from.
    counts = [(chip.labels == k).sum() for k in classes]
    is_class = other.labels == classes[np.argmin(counts)]
    same = is_class.any(axis=0) & (is_class | (other.labels == UNLABELLED)).all(axis=0)
    patch = same & blob(same.shape, rng, share=rng.uniform(0.05, 0.6))
    start = int(rng.integers(len(chip.dates)))
    where = np.zeros(chip.labels.shape, bool)
    where[start:] = patch
    valid = where if chip.valid.ndim == 3 else where[:, None]
    return replace(
        chip,
        x=np.where(where[:, None], other.x, chip.x),
        valid=np.where(valid, other.valid, chip.valid),
        labels=np.where(where, other.labels, chip.labels),
    )


def blob(shape: tuple[int, ...], rng: np.random.Generator, share: float) -> Bool[np.ndarray, "h w"]:
    """Return irregular patches that cover a share of a window: smooth noise above a threshold."""
    height, width = shape
    noise = np.zeros(shape)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    for _ in range(8):
        # Waves between 6 and 32 pixels: clearings of a few tenths of a hectare at 10 m and up.
        frequency = 2 * np.pi / rng.uniform(6, 32)
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * rows + np.sin(angle) * columns
        noise += np.cos(frequency * along + rng.uniform(0, 2 * np.pi))
    return noise >= np.quantile(noise, 1 - share)
