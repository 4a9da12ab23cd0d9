"""Pieces of a cube, read when they are looked at, and kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import xarray as xr

from timo.cube.join import sensor_slices

from ..base.background import is_lazy
from .bandviews import thin, thin_step

# What may be kept of a lazy cube; a band of 1000 x 1000 pixels is 4 MB.
KEPT_BYTES = 512 * 2**20
# As many dates stand for the whole series where its range of values is asked for.
SAMPLED_DATES = 12

Key = tuple[Any, ...]


class CubeReader:
    """Read single dates and single pixels of a cube, lazy or in memory."""

    def __init__(self, cube: xr.DataArray) -> None:
        self.cube = cube
        # A file that was opened without dask is lazy too, and `.data` would read all of it.
        self.lazy = is_lazy(cube)
        self._order = {str(name): i for i, name in enumerate(cube.band.values)}
        self._kept: OrderedDict[Key, np.ndarray] = OrderedDict()
        self._firsts = [bands.start for bands in sensor_slices(cube)]
        self._shares: dict[int, float] = {}
        # Read by the notebook's thread and by the one that fetches.
        self._lock = threading.Lock()

    # A date

    def has_date(self, date: int, bands: tuple[str, ...]) -> bool:
        """Return whether these bands of the date are at hand."""
        return not self.lazy or all(("date", date, band) in self._kept for band in bands)

    def date(self, date: int, bands: tuple[str, ...]) -> np.ndarray:
        """Return (band, y, x) float32 of a date."""
        if not self.lazy:
            return self.cube.data[date, self._places(bands)]
        kept = {band: self._take(("date", date, band)) for band in bands}
        found = {band: value for band, value in kept.items() if value is not None}
        missing = tuple(band for band in bands if band not in found)
        if missing:
            values = self.cube.isel(time=date, band=self._places(missing)).to_numpy()
            for band, value in zip(missing, values.astype("float32"), strict=True):
                found[band] = self._keep(("date", date, band), value)
        return np.stack([found[band] for band in bands])

    def _places(self, bands: tuple[str, ...]) -> list[int]:
        return [self._order[band] for band in bands]

    # A pixel

    def has_pixel(self, row: int, column: int, bands: tuple[str, ...]) -> bool:
        """Return whether these bands of the pixel's series are at hand."""
        return not self.lazy or all(("pixel", row, column, band) in self._kept for band in bands)

    def pixel(self, row: int, column: int, bands: tuple[str, ...]) -> np.ndarray:
        """Return (band, time) float32 of a pixel."""
        if not self.lazy:
            return self.cube.data[:, self._places(bands), row, column].T
        return np.stack([self._pixel_band(row, column, band) for band in bands])

    def _pixel_band(self, row: int, column: int, band: str) -> np.ndarray:
        key = ("pixel", row, column, band)
        kept = self._take(key)
        if kept is None:
            series = self.cube.isel(band=self._order[band], y=row, x=column).to_numpy()
            kept = self._keep(key, series.astype("float32"))
        return kept

    # Overviews

    def sample(self, bands: tuple[str, ...]) -> np.ndarray:
        """Return (band, pixels) of some dates over the whole series; of a lazy cube, of those that were looked at."""
        dates = [i for i in range(self.cube.sizes["time"]) if self.has_date(i, bands)]
        chosen = dates[:: max(1, len(dates) // SAMPLED_DATES)]
        parts = [thin(self.date(date, bands)).reshape(len(bands), -1) for date in chosen]
        return np.concatenate(parts, axis=1) if parts else np.empty((len(bands), 0), "float32")

    def sample_code(self) -> str:
        """Return the Python that takes such a sample of ``cube``."""
        sizes = self.cube.sizes
        step = thin_step(sizes["y"], sizes["x"])
        dates = max(1, sizes["time"] // SAMPLED_DATES)
        near = f"slice(None, None, {step})"
        return f"cube.isel(time=slice(None, None, {dates}), y={near}, x={near})"

    def clear_shares(self) -> list[float | None]:
        """Return the share of pixels with a valid observation for each date; None where a lazy cube was not read."""
        return [self._clear_share(date) for date in range(self.cube.sizes["time"])]

    def _clear_share(self, date: int) -> float | None:
        # An observation counts in all bands of a sensor or in none: one of each is enough.
        if not self.lazy:
            seen = np.isfinite(thin(self.cube.data[date, self._firsts]))
            return float(seen.any(axis=0).mean())
        return self._shares.get(date)

    # What is kept

    def _take(self, key: Key) -> np.ndarray | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: Key, value: np.ndarray) -> np.ndarray:
        with self._lock:
            self._kept[key] = value
            if key[0] == "date":
                # Of the bands read so far: another sensor of the cube may have seen more.
                share = float(np.isfinite(thin(value)).mean())
                self._shares[int(key[1])] = max(share, self._shares.get(int(key[1]), 0.0))
            # A few stay even where each is larger than the budget: what is on the screen.
            while sum(v.nbytes for v in self._kept.values()) > KEPT_BYTES and len(self._kept) > 8:
                self._kept.popitem(last=False)
        return value
