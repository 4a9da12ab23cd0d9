"""Places that an encoder finds alike."""

from __future__ import annotations

import numpy as np
import xarray as xr

from timo.errors import TimoError
from timo.inspection.embedding import as_rows
from timo.inspection.query import find_pixel


def similar(
    embedding: xr.DataArray,
    x: float | None = None,
    y: float | None = None,
    *,
    row: int | None = None,
    col: int | None = None,
    k: int = 8,
    apart: int = 8,
) -> xr.Dataset:
    """Find places like this one.

    Parameters
    ----------
    embedding : xarray.DataArray
        (feature, y, x), from `timo.inspection.embed`.
    x, y : float
        The place, in the embedding's CRS.
    row, col : int, optional
        The place by its position in the grid, instead of x and y.
    k : int
        How many places.
    apart : int
        How many pixels they lie apart at least, from the place and from one another: next to a place all is alike.

    Returns
    -------
    xarray.Dataset
        ``similarity`` (y, x) float32: the cosine between the features of each pixel and those of the place, both after
        the area's mean is taken away (what all pixels share would make all cosines nearly 1); -1..1, NaN where unknown.
        ``place_row``, ``place_col``, ``place_x``, ``place_y`` and ``place_similarity`` (place,): the k most similar
        places, the most similar first; fewer where there is no room for k.

    Raises
    ------
    TimoError
        If the place is not there or has no features, or an option makes no sense.
    """
    if k < 1 or apart < 1:
        raise TimoError(f"k and apart must be at least 1, got {k} and {apart}.")
    features, known = as_rows(embedding)
    here = find_pixel(embedding, x, y, row, col)
    if not known[here]:
        raise TimoError(
            f"Row {here[0]}, column {here[1]} has no features, for want of observations: choose another place."
        )
    centred = features - features[known].mean(axis=0)
    length = np.linalg.norm(centred, axis=-1).clip(min=1e-12)
    cosine = np.where(known, centred @ centred[here] / (length * length[here]), np.nan)
    cosine = cosine.clip(-1, 1).astype("float32")
    rows, cols = _best(cosine, here, k, apart)
    coords = {"y": embedding.y, "x": embedding.x}
    result = xr.Dataset(
        {
            "similarity": (("y", "x"), cosine, {"long_name": "cosine similarity", "units": "1"}),
            "place_row": ("place", rows),
            "place_col": ("place", cols),
            "place_x": ("place", embedding.x.values[cols]),
            "place_y": ("place", embedding.y.values[rows]),
            "place_similarity": ("place", cosine[rows, cols]),
        },
        coords=coords,
        attrs={"row": here[0], "col": here[1], "k": k, "apart": apart},
    )
    return result.rio.write_crs(embedding.rio.crs)


def _best(
    cosine: np.ndarray, here: tuple[int, int], k: int, apart: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the highest values that keep their distance."""
    left = np.where(np.isfinite(cosine), cosine, -np.inf)
    row, col = np.ogrid[: left.shape[0], : left.shape[1]]
    left[np.hypot(row - here[0], col - here[1]) < apart] = -np.inf
    found: list[tuple[int, int]] = []
    while len(found) < k and left.max() > -np.inf:
        i, j = (int(n) for n in np.unravel_index(int(left.argmax()), left.shape))
        found.append((i, j))
        left[np.hypot(row - i, col - j) < apart] = -np.inf
    places = np.array(found, dtype="int64").reshape(-1, 2)
    return places[:, 0], places[:, 1]
