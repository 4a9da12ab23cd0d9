"""Drawing dates, the same way from a cube in memory and from a store."""

import numpy as np


def draw_dates(
    clear: np.ndarray, number: tuple[int, int], min_clear: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw a run or a random subset of the dates that are clear enough; the clearest one if none is.

    Parameters
    ----------
    clear : array
        (t,) share of valid pixels of each date.
    number : (int, int)
        Fewest and most dates. Fewer where there are fewer.
    min_clear : float
        Least share of valid pixels.
    rng : numpy.random.Generator
        Where the chance comes from.

    Returns
    -------
    array
        Positions among the dates, ascending.
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
