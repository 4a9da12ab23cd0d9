"""What every model is tested under: the same dates, and the same clouds over them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

# Share of all observations by which the clouds drawn may miss what was asked for.
TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Condition:
    """Some dates of the cube, and what is hidden on them.

    Attributes
    ----------
    dates, cloud : int
        Number of dates, and percent of their observations that are hidden.
    draw : int
        Which of several draws of the same numbers.
    when : array of int
        Positions of the dates in the cube, in order.
    hidden : array of bool
        (date, y, x): observations taken away.
    """

    dates: int
    cloud: int
    draw: int
    when: Int[np.ndarray, " t"]
    hidden: Bool[np.ndarray, "t h w"]


def conditions(
    valid: Bool[np.ndarray, "t h w"],
    masks: list[Bool[np.ndarray, "h w"]],
    *,
    counts: tuple[int, ...] = (2, 4, 8, 16),
    clouds: tuple[int, ...] = (25, 50, 75),
    cloud_dates: int = 8,
    draws: int = 3,
    min_clear: float = 0.3,
    seed: int = 0,
) -> list[Condition]:
    """Draw dates for each count, and for `cloud_dates` dates the clouds.

    The dates of a draw are nested: those of a smaller number are among those of a larger one, so that a curve over the
    numbers shows what more dates add. A count above the number of clear-enough dates is left out; where all are taken,
    one draw is enough.

    Parameters
    ----------
    valid : array of bool, shape (t, h, w)
        Where the cube has an observation.
    masks : list of array of bool, shape (h, w)
        Gaps that real clouds left (`cloud_masks`); without any, there are no conditions with clouds.
    counts, clouds, cloud_dates, draws
        Numbers of dates, percents hidden, dates that clouds are drawn over, draws of each.
    min_clear : float
        Least share of valid pixels of a date that is drawn.
    seed : int
        The same seed gives the same conditions.
    """
    usable = np.flatnonzero(valid.mean(axis=(1, 2)) >= min_clear)
    cloud_dates = min(cloud_dates, usable.size)
    drawn = []
    for draw in range(draws):
        order = np.random.default_rng([seed, draw]).permutation(usable)
        for count in counts:
            if count <= usable.size and not (draw and count == usable.size):
                when = np.sort(order[:count])
                drawn.append(Condition(count, 0, draw, when, np.zeros_like(valid[when])))
        when = np.sort(order[:cloud_dates])
        for cloud in clouds if masks else ():
            rng = np.random.default_rng([seed, draw, cloud])
            hidden = hide(valid[when], masks, cloud / 100, rng)
            drawn.append(Condition(len(when), cloud, draw, when, hidden))
    return drawn


def cloud_masks(valid: Bool[np.ndarray, "t h w"]) -> list[Bool[np.ndarray, "h w"]]:
    """Gaps of the dates that are neither clear nor overcast."""
    share = valid.mean(axis=(1, 2))
    return [~date for date in valid[(share > 0.1) & (share < 0.95)]]


def hide(
    valid: Bool[np.ndarray, "t h w"],
    masks: list[Bool[np.ndarray, "h w"]],
    share: float,
    rng: np.random.Generator,
) -> Bool[np.ndarray, "t h w"]:
    """Paste masks, turned and mirrored, on dates at random until a share of the observations is hidden.

    A mask that would hide too much, or nothing more, is moved partly out of the picture.
    """
    hidden, count = np.zeros_like(valid), 0
    wanted, tolerance = share * valid.sum(), TOLERANCE * valid.sum()
    for _ in range(1000):
        if count >= wanted - tolerance:
            break
        date, mask = rng.integers(len(valid)), _turned(masks[rng.integers(len(masks))], rng)
        for pasted in (mask, _moved(mask, rng)):
            more = hidden.copy()
            more[date] |= pasted & valid[date]
            if count < more.sum() <= wanted + tolerance:
                hidden, count = more, int(more.sum())
                break
    return hidden


def _moved(mask: Bool[np.ndarray, "h w"], rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """The mask moved by any number of rows and columns; no cloud where it came from."""
    moved = np.zeros_like(mask)
    (to_row, from_row), (to_column, from_column) = (_shift(length, rng) for length in mask.shape)
    moved[to_row, to_column] = mask[from_row, from_column]
    return moved


def _shift(length: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Where to and where from along one axis."""
    by = int(rng.integers(1 - length, length))
    to, source = slice(max(by, 0), length + min(by, 0)), slice(max(-by, 0), length - max(by, 0))
    return to, source


def _turned(mask: Bool[np.ndarray, "h w"], rng: np.random.Generator) -> Bool[np.ndarray, "h w"]:
    """One of the symmetries that keep the shape."""
    turns = int(rng.integers(4)) if mask.shape[0] == mask.shape[1] else 2 * int(rng.integers(2))
    turned = np.rot90(mask, turns)
    return turned[:, ::-1] if rng.random() < 0.5 else turned
