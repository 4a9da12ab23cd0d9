"""Asking Earth Engine: a small answer, or the pixels of a chunk through xee; patiently, and with errors sorted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.sources.earthengine.chunking import REQUEST_BYTES, Chunks
from timo.sources.earthengine.connecting import base_url
from timo.sources.earthengine.layers import BAND, Dated, Layers
from timo.sources.place.grid import PixelGrid
from timo.sources.retry import Retry, sort_earthengine_error, without_client_retries

# What a masked pixel comes as. Whole, small and no reflectance, backscatter or index: a float image stays one of 32
# bits, whereas xee's own default makes it 64 and each request twice as large.
_MASKED = -9999


def ask(question: Any, retry: Retry) -> Any:
    """The value of an Earth Engine object, as ``getInfo()`` gives it.

    Raises
    ------
    TimoError
        If Earth Engine refuses, or does not answer in time.
    """
    with without_client_retries():
        return retry.call(question.getInfo, classify=sort_earthengine_error)


@dataclass(frozen=True)
class PixelReader:
    """Reads chunks (time, band, y, x) of `Layers`; safe to call from many threads.

    Parameters
    ----------
    series : xarray.DataArray
        (layer, y, x), lazy, as xee opened it.
    bands : int
        Layers of a date.
    url : str
        The Earth Engine that it was opened on.
    retry : Retry
        How patient to be.
    """

    series: xr.DataArray
    bands: int
    url: str
    retry: Retry = field(default_factory=Retry)

    def __call__(self, _number: tuple[int, ...], slices: tuple[slice, ...]) -> np.ndarray:
        """The pixels of a chunk, by its slices of the cube: float32, NaN where masked."""
        if base_url() != self.url:
            raise TimoError(
                f"this cube was opened on the Earth Engine at {self.url}, and another is connected now: open it again"
            )
        time, _, rows, columns = slices
        layers = slice(time.start * self.bands, time.stop * self.bands)
        part = self.series[layers, rows, columns]
        with without_client_retries():
            values = self.retry.call(
                lambda: np.asarray(part.values), classify=sort_earthengine_error
            )
        return values.reshape(-1, self.bands, *values.shape[1:]).astype("float32", copy=False)


def open_series(images: Dated, grid: PixelGrid, chunks: Chunks, retry: Retry) -> xr.DataArray:
    """Open the bands of all dates with xee: (layer, y, x), lazy.

    Parameters
    ----------
    images : Dated
        One for each date.
    grid : PixelGrid
        The cells.
    chunks : Chunks
        A chunk is fetched with one request.
    retry : Retry
        How patient to be with the request that opens it.

    Raises
    ------
    TimoError
        If Earth Engine refuses, or does not answer in time.
    """
    dates, bands, rows, columns = chunks.largest
    transform = grid.transform
    opening: Callable[[], xr.Dataset] = lambda: xr.open_dataset(  # noqa: E731
        Layers(images),  # type: ignore[arg-type]  # its backend takes them
        engine="ee",
        crs=grid.crs,
        crs_transform=(
            transform.a,
            transform.b,
            transform.c,
            transform.d,
            transform.e,
            transform.f,
        ),
        shape_2d=(grid.width, grid.height),
        io_chunks={"index": dates * bands, "height": rows, "width": columns},
        ee_mask_value=_MASKED,
        request_byte_limit=REQUEST_BYTES,
        mask_and_scale=False,
        decode_times=False,
        cache=False,
        executor_kwargs={"max_workers": 1},
        # Retried by timo: xee would try what cannot succeed again and again, too.
        getitem_kwargs={"max_retries": 0},
    )
    with without_client_retries():
        dataset = retry.call(opening, classify=sort_earthengine_error)
    return dataset[BAND]
