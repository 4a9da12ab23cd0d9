"""The former home of the windows without labels, which are those of `timo.training.windows` now."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Bool

from timo.checks import Count, Seed, checked
from timo.errors import TimoError, warn
from timo.places import Places
from timo.places.split import Split
from timo.training.windows import WindowOptions, Windows

__all__ = ["WindowDataset", "WindowOptions"]


@checked
def WindowDataset(  # noqa: N802 - a class once
    series: Sequence[xr.DataArray],
    areas: Sequence[Bool[np.ndarray, "_h _w"]],
    length: Count,
    options: WindowOptions | None = None,
    seed: Seed = 0,
) -> Windows:
    """Return windows of cubes: the former form of `timo.training.Windows`.

    Parameters
    ----------
    series : sequence of xarray.DataArray
        The cubes.
    areas : sequence of array of bool, shape (h, w)
        Of each cube, the pixels that may be seen.
    length, options, seed
        As of `timo.training.Windows`.

    Raises
    ------
    TimoError
        If no pixel is left, or the cubes have different bands.
    """
    call = "timo.training.Windows(timo.Places([cube]), length, options, labelled=False)"
    warn(f"WindowDataset is {call} now, with part= and split= for areas.", DeprecationWarning)
    if not series or [area.shape for area in areas] != [cube.shape[2:] for cube in series]:
        raise TimoError(
            f"Each cube needs an array of bool (y, x) of its size; got {len(series)} cubes and areas of the shapes "
            f"{[area.shape for area in areas]}."
        )
    split = Split([np.where(area, 0, -1).astype("int8") for area in areas])
    return Windows(Places(series), length, options, seed, part=0, split=split, labelled=False)
