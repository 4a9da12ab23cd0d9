"""Where cubes come from: one door, `open_cube`, in front of one module per source."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import lazy_loader

from timo.errors import TimoError

if TYPE_CHECKING:
    import xarray as xr

# name -> "module:function"; a module is imported when its source is asked for, and not before.
SOURCES: dict[str, str] = {
    "sample": "timo.sources.sample:open_sample",
}

# Loaded on first use: rasterio and xarray take a second.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clearings": ["sample_clearings"],
        "sample": ["open_sample", "sample_labels", "sample_tree_cover"],
    },
)
__all__ = [
    "SOURCES",
    "open_cube",
    "open_sample",
    "sample_clearings",
    "sample_labels",
    "sample_tree_cover",
]


def open_cube(source: str = "sample", **options: Any) -> xr.DataArray:
    """Open a satellite image time series as a cube.

    Parameters
    ----------
    source : str
        Where it comes from. "sample": a small Sentinel-2 series of a forest in Romania, offline.
    **options
        What that source takes; see `timo.sources.sample.open_sample`.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`: (time, band, y, x) float32, NaN where there was no
        valid observation.

    Raises
    ------
    TimoError
        If the source or one of its options is unknown, or if the selection holds nothing.
    """
    if source not in SOURCES:
        raise TimoError(f"Unknown source {source!r}. Known: {', '.join(sorted(SOURCES))}.")
    module, function = SOURCES[source].split(":")
    opener = getattr(import_module(module), function)
    _refuse_unknown(source, opener, options)
    return opener(**options)


def _refuse_unknown(source: str, opener: Any, options: dict[str, Any]) -> None:
    """Refuse an option that the source does not take, naming those that it does."""
    import inspect

    known = list(inspect.signature(opener).parameters)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TimoError(
            f'open_cube("{source}") takes no option {unknown[0]!r}. It takes: {", ".join(known)}.'
        )
