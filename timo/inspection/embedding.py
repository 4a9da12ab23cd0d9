"""Features that an encoder gives every pixel: their picture, and places that are alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timo import cube as cubes
from timo.cancel import Stop, interruptible, obey
from timo.checks import Count, Range, checked
from timo.errors import TimoError
from timo.inspection.query import Stage, find_pixel, nearest_date
from timo.inspection.running import borrowed, feature_maps
from timo.models.tasks import TiMo

# Below this variance, relative to the largest, a component is rounding.
_LEAST = 1e-10


@checked
def embed(
    model: TiMo,
    cube: xr.DataArray,
    *,
    date: Any = None,
    stage: Stage | Sequence[Stage] = 1,
    tile: Count = 128,
    halo: Annotated[int, Range(least=0)] = 32,
    window: Count = 12,
    stop: Stop | None = None,
) -> xr.DataArray:
    """Compute the features of the encoder for every pixel.

    Parameters
    ----------
    model, cube
        As for `timo.inspection.attention_at`.
    date : date, optional
        The features of this date (the nearest of the cube), seen among the dates around it. None: the mean over all
        dates on which the pixel's token has an observation.
    stage : int or sequence of int
        Features of which stages, 1 to 4, one after the other. Stage 1, the default, knows the place itself, at the
        resolution of its tokens (a quarter by default), and finds small things again best; stage 4 knows the
        surroundings. Each is interpolated between the centres of its tokens.
    tile, halo : int
        Pixels of a tile, and of the border around it that the model sees in addition; multiples of a token of stage 4,
        by default 32 pixels, so that tokens lie the same in each tile.
    window : int
        Dates that the model sees at once.
    stop : threading.Event or callable, optional
        Asked before each layer of the model.

    Returns
    -------
    xarray.DataArray
        (feature, y, x) float32 on the cube's grid, NaN where a token has no observation on the date (or any date).
        The coordinate ``stage`` says which stage a feature is of.

    Raises
    ------
    TimoError
        If model and cube do not fit, or an option makes no sense.
    CancelledError
        If `stop` said so.
    """
    cube = cubes.select_bands(cube, model.config.bands, model.config.sensor)
    stages = [number - 1 for number in ([stage] if isinstance(stage, int) else stage)]
    if not stages:
        raise TimoError("stage names no stage: give one or several of 1 to 4.")
    coarsest = model.config.encoder.strides[-1]
    if tile % coarsest or halo % coarsest:
        raise TimoError(f"tile and halo must be multiples of {coarsest}; got {tile} and {halo}.")
    at = None if date is None else nearest_date(cube, date)
    dims = [model.config.encoder.dims[number] for number in stages]
    height, width = cube.sizes["y"], cube.sizes["x"]
    out = np.full((sum(dims), height, width), np.nan, "float32")
    ours = borrowed(model)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            north, west = max(top - halo, 0), max(left - halo, 0)
            part = cube.isel(y=slice(north, top + tile + halo), x=slice(west, left + tile + halo))
            inner = (
                ...,
                slice(top - north, top - north + tile),
                slice(left - west, left - west + tile),
            )
            obey(stop)
            with interruptible(ours, stop):
                values = _features(ours, part.compute(), stages, at, window)[inner]
            out[:, top : top + tile, left : left + tile] = values
    coords: dict[str, Any] = {
        "feature": np.arange(sum(dims)),
        "stage": ("feature", np.repeat([number + 1 for number in stages], dims)),
        "y": cube.y,
        "x": cube.x,
    }
    result = xr.DataArray(out, dims=("feature", "y", "x"), coords=coords, name="embedding")
    result.attrs = {"long_name": "features of the encoder"}
    if at is not None:
        result.attrs["date"] = f"{cube.indexes['time'][at]:%Y-%m-%d}"
    return result.rio.write_crs(cube.rio.crs)


def _features(
    model: TiMo, part: xr.DataArray, stages: list[int], at: int | None, window: int
) -> Float[np.ndarray, "f h w"]:
    """Return the features of a tile: of one date, or the mean over the valid dates of each token."""
    valid = torch.from_numpy(cubes.valid_mask(part).values)
    size = tuple(valid.shape[1:])
    totals: list[Any] = [0.0] * len(stages)
    counts: list[Any] = [0.0] * len(stages)
    strides = [model.config.encoder.strides[number] for number in stages]
    for some in _windows(valid.flatten(1).any(dim=1).numpy(), at, window):
        maps = feature_maps(model, part.isel(time=some))
        for i, number in enumerate(stages):
            of_tokens = maps[number][0].float().cpu()
            keep = _observed(valid[some], strides[i], size)
            if at is not None:
                here = [int(np.flatnonzero(some == at)[0])]
                of_tokens, keep = of_tokens[here], keep[here]
            totals[i] = totals[i] + (of_tokens * keep[:, None]).sum(dim=0)
            counts[i] = counts[i] + keep.float().sum(dim=0)
    if isinstance(counts[0], float):
        return np.full(
            (sum(model.config.encoder.dims[n] for n in stages), *size), np.nan, "float32"
        )
    layers = [
        _to_pixels(total, count, stride, size)
        for total, count, stride in zip(totals, counts, strides, strict=True)
    ]
    return torch.cat(layers).numpy()


def _windows(clear: np.ndarray, at: int | None, window: int) -> Iterator[np.ndarray]:
    """Yield dates with an observation, a window at a time; for one date, the window around it, if it has any itself."""
    dates = np.flatnonzero(clear)
    if at is not None:
        if not clear[at]:
            return
        first = int(np.searchsorted(dates, at)) - window // 2
        yield dates[max(min(first, len(dates) - window), 0) :][:window]
        return
    # Windows of about the same length: a last one of a single date would know nothing of the series.
    if len(dates):
        yield from np.array_split(dates, -(-len(dates) // window))


def _observed(valid: Tensor, stride: int, size: tuple[int, ...]) -> Tensor:
    """Return whether tokens hold a valid pixel, (t i j)."""
    down, right = (-length % stride for length in size)
    padded = F.pad(valid.float(), (0, right, 0, down))
    return F.max_pool2d(padded, stride) > 0


def _to_pixels(total: Tensor, count: Tensor, stride: int, size: tuple[int, ...]) -> Tensor:
    """Return the mean over dates of tokens, interpolated between those that are known; NaN in tokens that are not."""
    seen = (count > 0).float()
    mean = total / count.clamp(min=1)
    stack = torch.cat([mean * seen, seen[None]])[None]
    fine = F.interpolate(stack, scale_factor=stride, mode="bilinear", align_corners=False)[0]
    values = fine[:-1] / fine[-1:].clamp(min=1e-6)
    known = seen.repeat_interleave(stride, 0).repeat_interleave(stride, 1) > 0
    return values.masked_fill(~known, torch.nan)[:, : size[0], : size[1]]


@checked
def pca_picture(embedding: xr.DataArray) -> xr.DataArray:
    """Show three principal components of an embedding as red, green and blue.

    Places of the same colour are alike to the encoder; the colours themselves mean nothing, and change with the area.

    Parameters
    ----------
    embedding : xarray.DataArray
        (feature, y, x), from `embed`.

    Returns
    -------
    xarray.DataArray
        (y, x, rgb) float32 in 0..1, each component stretched from its 2nd to its 98th percentile, NaN where the
        embedding is; ``attrs["explained"]`` are the shares of the variance that the three have.

    Raises
    ------
    TimoError
        If fewer than two pixels are known.
    """
    features, known = _as_rows(embedding)
    rows = features[known] - features[known].mean(axis=0)
    variances, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    variances, axes = variances[::-1][:3], axes[:, ::-1][:, :3]
    # A component has no sign of its own: the largest entry is made positive, so that a picture can be made again.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    picture = np.full((*embedding.shape[1:], 3), np.nan, "float32")
    for i, variance in enumerate(variances):
        scores = rows @ axes[:, i]
        low, high = np.percentile(scores, [2, 98])
        flat = variance <= _LEAST * max(variances[0], _LEAST)
        picture[known, i] = 0.5 if flat else np.clip((scores - low) / (high - low), 0, 1)
    total = max(float((rows**2).sum() / len(rows)), _LEAST)
    result = xr.DataArray(
        picture,
        dims=("y", "x", "rgb"),
        coords={"y": embedding["y"], "x": embedding["x"], "rgb": ["red", "green", "blue"]},
        attrs={"explained": [float(v) / total for v in variances]},
    )
    return result.rio.write_crs(embedding.rio.crs)


@checked
def similar(
    embedding: xr.DataArray,
    x: float | None = None,
    y: float | None = None,
    *,
    row: int | None = None,
    col: int | None = None,
    k: Count = 8,
    apart: Count = 8,
) -> xr.Dataset:
    """Find places like this one.

    Parameters
    ----------
    embedding : xarray.DataArray
        (feature, y, x), from `timo.inspection.embed`.
    x, y, row, col
        The place, as for `timo.inspection.attention_at`.
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
    features, known = _as_rows(embedding)
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
    coords = {"y": embedding["y"], "x": embedding["x"]}
    result = xr.Dataset(
        {
            "similarity": (("y", "x"), cosine, {"long_name": "cosine similarity", "units": "1"}),
            "place_row": ("place", rows),
            "place_col": ("place", cols),
            "place_x": ("place", embedding["x"].values[cols]),
            "place_y": ("place", embedding["y"].values[rows]),
            "place_similarity": ("place", cosine[rows, cols]),
        },
        coords=coords,
        attrs={"row": here[0], "col": here[1], "k": k, "apart": apart},
    )
    return result.rio.write_crs(embedding.rio.crs)


def _best(
    cosine: np.ndarray, here: tuple[int, int], k: int, apart: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the highest values that keep their distance."""
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


def _as_rows(
    embedding: xr.DataArray,
) -> tuple[Float[np.ndarray, "h w f"], Float[np.ndarray, "h w"]]:
    """Return the features of each pixel, and where they are known."""
    if set(embedding.dims) != {"feature", "y", "x"} or embedding.dtype.kind not in "fiu":
        raise TimoError(
            "An embedding has the dims (feature, y, x) and holds numbers: make one with "
            f"timo.inspection.embed(model, cube); got {embedding.dims} of {embedding.dtype}."
        )
    cubes.check_grid(embedding, what="embedding")
    features = embedding.transpose("y", "x", "feature").values.astype("float64")
    known = np.isfinite(features).all(axis=-1)
    if known.sum() < 2:
        raise TimoError(
            "The embedding is NaN nearly everywhere: choose a date or an area with more observations."
        )
    return features, known
