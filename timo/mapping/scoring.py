"""A model on parts of cubes: tiles with a border, windows of dates, parts of one size in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from timo import cube as cubes
from timo.errors import warn
from timo.mapping.checking import Look, groups_of, readable, seen
from timo.models.tasks import Segmenter, config_of, unit_of
from timo.models.tokens import FULL

# Dates that a model sees at once, by default: one that answers for each date, and one that answers for the series.
DATES_EACH, DATES_SERIES = 12, 64
# Pixels times dates of a batch, and its parts: a single tile is more, pixel series are many.
_BATCH_SIZE, _BATCH_PARTS = 200_000, 256
# Tokens of a date in the first stage, those of 512 x 512 pixels at 4 pixels to a side: with more a tile takes minutes.
_MOST_TOKENS = 128**2


@dataclass(frozen=True)
class Tiling:
    """Options of `predict`: pixels of a tile and of the border around it, dates of a window, what gaps become."""

    tile: int
    halo: int
    window: int
    fill_gaps: bool = False


@dataclass(frozen=True)
class Extent:
    """The extent of a tile: what the model sees of the cube, and the part of that which the map takes."""

    rows: slice
    columns: slice
    crop: tuple[int, int, int, int]  # top, left, height, width

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the map."""
        top, left = self.rows.start + self.crop[0], self.columns.start + self.crop[1]
        return slice(top, top + self.crop[2]), slice(left, left + self.crop[3])

    @property
    def within(self) -> tuple[Any, slice, slice]:
        """The part of an array (..., h, w) of what the model sees that the map takes."""
        top, left, height, width = self.crop
        return ..., slice(top, top + height), slice(left, left + width)


@dataclass(frozen=True, eq=False)
class Part:
    """What of a cube goes through a model: values (t c h w) with NaN, days (t), the dates of each window; its key."""

    x: Float[np.ndarray, "t c h w"]
    dates: Float[np.ndarray, " t"]
    runs: list[np.ndarray]
    key: Any = field(default=None)


# The dates and the scores of each window, None of one in which nothing was observed.
Scored = list[tuple[np.ndarray, Tensor] | None]


def check_cost(config: Any, data: Any, tiling: Tiling) -> None:
    """Warn where tokens finer than 4 pixels make attention within a tile slow."""
    token = getattr(getattr(config, "encoder", None), "token", FULL)
    if token == FULL or unit_of(config) == "chip":
        return
    side = tiling.tile + 2 * tiling.halo
    sizes = getattr(data, "sizes", {})
    height, width = (-(-min(side, sizes.get(dim, side)) // token) for dim in ("y", "x"))
    if height * width <= _MOST_TOKENS:
        return
    tile, halo = 96 * token, 16 * token
    warn(
        f"A tile of {side} x {side} pixels, border included, has {height * width:,} tokens of {token} pixel"
        f"{'s' if token > 1 else ''} a date, and attention among them takes the square of that. Quicker are smaller "
        f"tiles, tile={tile}, halo={halo}, or larger tokens, model.with_token({2 * token})."
    )


def tiles(height: int, width: int, tiling: Tiling) -> Iterator[list[Extent]]:
    """Yield the tiles of a map row by row."""
    tile, halo = tiling.tile, tiling.halo
    for top in range(0, height, tile):
        row = []
        for left in range(0, width, tile):
            inner = (min(tile, height - top), min(tile, width - left))
            north, west = max(top - halo, 0), max(left - halo, 0)
            rows = slice(north, min(top + inner[0] + halo, height))
            columns = slice(west, min(left + inner[1] + halo, width))
            row.append(Extent(rows, columns, (top - north, left - west, *inner)))
        yield row


def parts_of(
    model: Segmenter,
    cube: xr.DataArray,
    tiling: Tiling,
    wanted: Callable[[Extent], bool] = lambda _: True,
    key: Any = None,
    *,
    like_others: bool = False,
) -> Iterator[Part]:
    """Yield the parts of a cube that a model is to see, read one by one; see `tile_parts`.

    A cube of places that is `like_others` was checked when it was opened, and its bands are theirs.
    """
    config = config_of(model)
    cube = cube.sel(band=list(config.bands)) if like_others else readable(model, cube)
    look = Look.at(cube, config)

    def read(rows: slice, columns: slice) -> np.ndarray:
        x = cube.isel(y=rows, x=columns).values
        if look is not None:
            look.check(x)
        return x

    dates, shape = cubes.days_since_epoch(cube.time), (cube.sizes["y"], cube.sizes["x"])
    yield from tile_parts(config, read, dates, shape, tiling, wanted, key)


def tile_parts(  # noqa: PLR0917 - of a place, and how it is cut
    config: Any,
    read: Callable[[slice, slice], np.ndarray],
    dates: np.ndarray,
    shape: tuple[int, int],
    tiling: Tiling,
    wanted: Callable[[Extent], bool],
    key: Any,
) -> Iterator[Part]:
    """Yield the parts of a place that a model is to see; their keys are pairs of `key` and `Extent`.

    `read` returns the values (t c h w) of rows and columns. A chip is one part. Of pixels and parcels the tiles that
    are `wanted` are yielded. The windows of a parcel are those of the whole place, so that its tiles can be summed up.
    """
    unit, groups = unit_of(config), groups_of(config)
    if unit == "chip":
        tiling = replace(tiling, tile=max(shape), halo=0)
    for place in chain.from_iterable(tiles(*shape, tiling)):
        if not wanted(place):
            continue
        x = read(place.rows, place.columns)
        if unit == "parcel":
            clear = np.asarray(seen(x, groups).any(axis=(1, 2)))
            runs = [some[clear[some]] for some in windows(np.arange(len(x)), tiling.window)]
        else:
            runs = seen_windows(x, tiling, groups)
        yield Part(x, dates, runs, (key, place))


def window_of(config: Any, window: int | None) -> int:
    """Return the dates of a window: those asked for, or the default of the model."""
    return window or (DATES_EACH if config.per_date else DATES_SERIES)


def seen_windows(
    x: Float[np.ndarray, "t c h w"], tiling: Tiling, groups: Sequence[int] = ()
) -> list[np.ndarray]:
    """Return the windows of dates of a tile in which anything was observed, as positions."""
    valid = seen(x, groups or x.shape[1:2])
    clear = np.arange(len(x)) if tiling.fill_gaps else np.flatnonzero(valid.any(axis=(1, 2)))
    return [some for some in windows(clear, tiling.window) if valid[some].any()]


def windows(indices: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Yield runs of at most `length` that overlap by half; the last one ends at the end."""
    step = max(length // 2, 1)
    for start in range(0, max(len(indices) - length, 0) + step, step):
        some = indices[max(min(start, len(indices) - length), 0) :][:length]
        if some.size:
            yield some


def scores(model: Segmenter, x: np.ndarray, dates: np.ndarray) -> Tensor:
    """Return the scores of one series (t, c, h, w), without the axis of the batch."""
    return _forward(model, x[None], dates[None])[0]


def scored(model: Segmenter, parts: Iterable[Part]) -> Iterator[tuple[Part, Scored]]:
    """Yield each part with the dates and the scores of its windows, in order; small parts of one size in one batch."""
    for some in _batched(parts):
        held: list[Scored] = [[None] * len(part.runs) for part in some]
        jobs = [(part, i, j) for i, part in enumerate(some) for j in range(len(part.runs))]
        jobs = [job for job in jobs if len(job[0].runs[job[2]])]
        for batch in _batched(jobs, lambda job: (*job[0].x.shape[1:], len(job[0].runs[job[2]]))):
            runs = [part.runs[j] for part, _, j in batch]
            found = _score_runs(model, [part for part, _, _ in batch], runs)
            for (_, i, j), run, one in zip(batch, runs, found, strict=True):
                held[i][j] = (run, one)
        yield from zip(some, held, strict=True)


def _score_runs(
    model: Segmenter, parts: Sequence[Part], runs: Sequence[np.ndarray]
) -> list[Tensor]:
    """Return the scores of a window of each part, in one batch: dates that hold nothing fill the shorter ones up."""
    longest = max(map(len, runs))
    pairs = list(zip(parts, runs, strict=True))
    x = np.stack([_padded(part.x[run], longest, np.nan) for part, run in pairs])
    days = np.stack([_padded(part.dates[run], longest, 0) for part, run in pairs])
    found = _forward(model, x, days)
    per_date = config_of(model).per_date
    return [one[: len(run)] if per_date else one for one, run in zip(found, runs, strict=True)]


def answer(model: Segmenter, scores: Tensor) -> Tensor:
    """Return probabilities, or value, low and high in the unit of the target: (..., k, h, w), or (..., k)."""
    config = config_of(model)
    if config.task == "regression":
        return model.answer(scores)
    return scores.softmax(dim=-1 if unit_of(config) != "pixel" else -3)


def outputs_of(config: Any) -> tuple[str, ...]:
    """Return what a model's answer holds, in order: the classes, or value, low and high."""
    if config.task != "regression":
        return tuple(config.classes)
    return ("value", "low", "high") if config.interval else ("value",)


def mean_over_windows(
    answered: Iterable[tuple[np.ndarray, Tensor]], per_date: bool, dates: int
) -> Float[np.ndarray, "..."]:
    """Return the mean answer, (k, [t,] ...), over the windows that hold a date; NaN where none does.

    Answers are (t, k, ...) of a window's dates, or (k, ...) of the series.
    """
    total: np.ndarray | None = None
    count = np.zeros(dates if per_date else 1, "float32")
    for some, given in answered:
        values = (given.movedim(1, 0) if per_date else given).numpy()
        if total is None:
            shape = (values.shape[0], dates, *values.shape[2:]) if per_date else values.shape
            total = np.zeros(shape, "float32")
        if per_date:
            total[:, some] += values
        else:
            total += values
        count[some if per_date else 0] += 1
    if total is None:
        return np.empty(0, "float32")
    with np.errstate(invalid="ignore"):
        # 0 / 0: a date that no window holds is NaN.
        return total / count.reshape(-1, *[1] * (total.ndim - 2)) if per_date else total / count[0]


def tile_answers(
    scored: Iterable[tuple[np.ndarray, Tensor]],
    model: Segmenter,
    x: Float[np.ndarray, "t c h w"],
    crop: tuple[int, int, int, int],
    tiling: Tiling,
) -> Float[np.ndarray, "..."]:
    """Return the answers of a tile without its border, from the dates and the scores of each window of dates."""
    config = config_of(model)
    top, left, height, width = crop
    inner = (..., slice(top, top + height), slice(left, left + width))
    answered = ((some, answer(model, given)) for some, given in scored)
    found = mean_over_windows(answered, config.per_date, len(x))
    if not found.size:
        shape = (len(outputs_of(config)), *((len(x),) if config.per_date else ()))
        found = np.full((*shape, *x.shape[-2:]), np.nan, "float32")
    found = found[inner]
    if not tiling.fill_gaps:
        valid = seen(x, groups_of(config))[inner]
        found = np.where(valid if config.per_date else valid.any(axis=0), found, np.float32("nan"))
    return np.ascontiguousarray(found)


def _forward(model: Segmenter, x: np.ndarray, dates: np.ndarray) -> Tensor:
    parameter = next(model.parameters())
    with torch.inference_mode():
        batch = torch.from_numpy(np.ascontiguousarray(x)).to(parameter)
        return model(batch, torch.from_numpy(dates).to(parameter.device)).float().cpu()


def _padded(array: np.ndarray, length: int, value: float) -> np.ndarray:
    """Return an array with dates that hold nothing at its end."""
    if len(array) == length:
        return array
    rest = np.full((length - len(array), *array.shape[1:]), value, array.dtype)
    return np.concatenate([array, rest])


def _batched(
    items: Iterable[Any],
    shape: Callable[[Any], tuple[int, ...]] = lambda part: (*part.x.shape[1:], len(part.x)),
) -> Iterator[list[Any]]:
    """Yield consecutive items of one height and width, as many as a batch takes; `shape` gives (c, h, w, t)."""
    held: list[Any] = []
    longest, last = 0, list[int]()
    for item in items:
        *size, dates = shape(item)
        longest = max(longest, dates)
        full = (len(held) + 1) * size[1] * size[2] * longest > _BATCH_SIZE
        if held and (size != last or full or len(held) == _BATCH_PARTS):
            yield held
            held, longest = [], dates
        held.append(item)
        last = size
    if held:
        yield held
