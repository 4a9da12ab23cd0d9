"""Sums over all pairs of scattered places, in chunks: memory does not grow with the pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from timo.geostat.lags import Bins
from timo.geostat.places import Places

# Pairs at a time: what is computed of them stays in the processor's cache.
_CHUNK = 1 << 18
Sector = Callable[[np.ndarray], np.ndarray]


def pair_sums(
    places: Places,
    values: np.ndarray,
    bins: Bins,
    *,
    root: bool = False,
    sector: Sector | None = None,
    dtype: str = "float32",
) -> np.ndarray:
    """Count pairs, and sum their distances and differences, in each bin.

    Parameters
    ----------
    places : Places
        (n,)
    values : numpy.ndarray
        (n,) finite values.
    bins : Bins
        Of the distance.
    root : bool
        Sum the roots of the absolute differences (Cressie and Hawkins) instead of their squares.
    sector : callable, optional
        Says of (..., 2) vectors in metres whether their direction counts.
    dtype : {"float32", "float64"}
        float32 rounds a distance by 1e-7 of the extent, and halves the time. Sums are float64.

    Returns
    -------
    numpy.ndarray
        (3, bins) float64: pairs, sum of distances in metres, sum of differences.
    """
    # The mean is taken off first, lest float32 be spent on the distance to the equator.
    place = places.embed()
    place = (place - place.mean(axis=0)).astype(dtype)
    value = (values - values.mean()).astype(dtype)
    sums = np.zeros((3, bins.fine))
    for vector, difference in _chunks(place, value):
        chord = np.sqrt(np.einsum("k...,k...->...", vector, vector))
        distance = np.asarray(places.distance_of_chord(chord), dtype=dtype)
        index = bins.fine_index(distance)
        if sector is not None:
            index = np.where(sector(np.moveaxis(vector, 0, -1)), index, 0)
        amount = np.sqrt(np.abs(difference)) if root else difference * difference
        sums[0] += np.bincount(index, minlength=bins.fine)
        sums[1] += np.bincount(index, distance, minlength=bins.fine)
        sums[2] += np.bincount(index, amount, minlength=bins.fine)
    return bins.coarse(sums)


def _chunks(place: np.ndarray, value: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each pair once: vectors (k, pairs) between the places and differences (pairs,)."""
    n, k = place.shape
    columns = np.ascontiguousarray(place.T)
    rows = max(1, int(np.sqrt(_CHUNK)))
    for top in range(0, n, rows):
        a = slice(top, min(top + rows, n))
        i, j = np.triu_indices(a.stop - a.start, 1)
        yield columns[:, a][:, j] - columns[:, a][:, i], value[a][j] - value[a][i]
        for left in range(a.stop, n, rows):
            b = slice(left, min(left + rows, n))
            vector = columns[:, None, b] - columns[:, a, None]
            yield vector.reshape(k, -1), (value[None, b] - value[a, None]).ravel()
