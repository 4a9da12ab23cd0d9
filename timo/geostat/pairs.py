"""Sums over all pairs of places: of scattered ones in chunks, of a raster's cells by Fourier transforms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy import fft

from timo.geostat.lags import Bins
from timo.geostat.places import Places

# Pairs at a time: their numbers stay in the processor's cache.
_CHUNK = 1 << 18
# Of vectors (..., 2) in metres, east and north: whether their direction counts.
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
    """Return pairs, sums of their distances in metres and sums of their squared differences in each bin, (3, bins).

    Of finite values (n,); memory does not grow with the pairs. With `root`, roots of the absolute differences (Cressie
    and Hawkins) are summed, not squares. float32 rounds a distance by 1e-7 of the extent, and halves the time; sums are
    float64.
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
    """Yield each pair once: vectors (k, pairs) between the places and differences (pairs,)."""
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


def raster_sums(
    values: np.ndarray,
    step: tuple[float, float],
    bins: Bins,
    *,
    sector: Sector | None = None,
) -> np.ndarray:
    """Return what `pair_sums` does, of the cells of a raster (y, x) with NaN where there is no value.

    `step` is height and width of a cell in metres, signed: northward and eastward.
    Marcotte 1996, Fast variogram computation with FFT, Computers & Geosciences 22, 1175-1186: with the mask m (1 where
    there is a value) and the values z (0 where there is none), and A * B for their cross-correlation at each lag, the
    pairs are m * m, and the squared differences sum to m * z² + z² * m - 2 z * z.
    """
    reach = [
        min(size - 1, math.floor(bins.max_lag * (1 + 1e-9) / abs(d)))
        for size, d in zip(values.shape, step, strict=True)
    ]
    pairs, squares = _correlate(values, reach)
    north = step[0] * np.arange(reach[0] + 1)[:, None]
    east = step[1] * np.arange(-reach[1], reach[1] + 1)
    distance = np.hypot(north, east)
    # Each pair once: of the row of its own, only lags to the right.
    distance[0, : reach[1] + 1] = 0
    index = bins.fine_index(distance)
    if sector is not None:
        east, north = np.broadcast_arrays(east, north)
        index = np.where(sector(np.stack([east, north], axis=-1)), index, 0)
    index = index.ravel()
    sums = [
        np.bincount(index, weights.ravel(), minlength=bins.fine)
        for weights in (pairs, pairs * distance, squares)
    ]
    return bins.coarse(np.stack(sums))


def _correlate(values: np.ndarray, reach: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs and sums of squared differences at each lag, (0..reach[0], -reach[1]..reach[1])."""
    mask = np.isfinite(values)
    # Squares of large numbers with small differences would cancel; the variogram knows no mean.
    z = np.where(mask, values - values[mask].mean(dtype="float64"), 0).astype("float64")
    spread = math.sqrt((z**2).sum() / mask.sum()) or 1.0
    z /= spread
    # As far as the farthest lag, zeros keep the far edge from meeting the near one.
    shape = [
        fft.next_fast_len(size + far, real=True)
        for size, far in zip(values.shape, reach, strict=True)
    ]

    def forward(array: np.ndarray) -> np.ndarray:
        # One axis after the other: rows of nothing but padding need no transform of their own.
        return fft.fft(
            fft.rfft(array, shape[1], workers=-1), shape[0], axis=0, overwrite_x=True, workers=-1
        )

    def backward(power: np.ndarray) -> np.ndarray:
        rows = fft.ifft(power, axis=0, workers=-1)[: reach[0] + 1]
        lags = fft.irfft(rows, shape[1], workers=-1)
        return np.concatenate(
            [lags[:, lags.shape[1] - reach[1] :], lags[:, : reach[1] + 1]], axis=1
        )

    m = forward(mask.astype("float64"))
    pairs = np.rint(backward(m.real**2 + m.imag**2))
    power = forward(z**2)
    power = m.real * power.real + m.imag * power.imag
    m = forward(z)
    power -= m.real**2 + m.imag**2
    squares = np.where(pairs > 0, np.maximum(2 * backward(power), 0), 0)
    return pairs, squares * spread**2
