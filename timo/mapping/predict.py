"""A cube in, a map out: tile by tile, window of dates by window of dates, computed when it is asked for."""

import copy
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import dask
import dask.array
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from timo import cube as cubes
from timo.cancel import CancelledError, Stop, interruptible
from timo.checks import Count, Range, checked
from timo.compute import OnStep, Steps, computing
from timo.mapping.provenance import provenance
from timo.models.tasks import ModelConfig, Segmenter, TiMo, config_of
from timo.sensors import Sensor

NO_LABEL = -1
# One tile at a time goes through the model, under any scheduler: its memory is that of one tile. The threads of dask
# each hold at most one more, of observations only.
_IN_USE = threading.Lock()


@dataclass(frozen=True)
class Tiling:
    """Options of `predict`: pixels of a tile and of the border around it, dates of a window, what gaps become."""

    tile: int
    halo: int
    window: int
    fill_gaps: bool


@checked
def predict(
    model: Segmenter,
    cube: xr.DataArray,
    *,
    tile: Count = 128,
    halo: Annotated[int, Range(least=0)] = 32,
    window: Count = 12,
    fill_gaps: bool = False,
) -> xr.Dataset:
    """Predict the class probabilities of every pixel, lazily.

    Nothing is read or predicted before it is asked for. Ask for all variables at once (``.compute()``, `timo.export`):
    asked for one after the other, each is predicted again. The map is that of the model as it is now: training it later
    does not change the map.

    Parameters
    ----------
    model : TiMo
        A segmentation model.
    cube : xarray.DataArray
        The cube; bands that the model does not read are left out.
    tile, halo : int
        Pixels of a tile, and of the border around it that the model sees and the map does not take. Memory grows with
        the square of tile + 2 x halo.
    window : int
        Dates that the model sees at once. Windows overlap by half; where two give a probability, their mean counts.
    fill_gaps : bool
        Keep what the model says where the date (for a model that answers for the series: no date) has a valid
        observation, inferred from the other dates and the surroundings. By default such pixels are NaN, as in the cube.
        Where a whole window of dates has no observation in the tile, there is nothing to infer from: NaN.

    Returns
    -------
    xarray.Dataset
        ``probability`` (class, [time,] y, x) float32, ``label`` ([time,] y, x) int8 with -1 = no data (int16 if there
        are more than 127 classes), ``entropy`` ([time,] y, x) float32 in bits, 0..log2(number of classes).

    Raises
    ------
    TimoError
        If cube and model do not fit each other, or an option makes no sense; and, when a lazy cube is computed, if its
        values cannot be what its sensor measures.
    """
    tiling = Tiling(tile, halo, window, fill_gaps)
    cube = readable(model, cube)
    # A copy: the model may be trained further, or be in training, by the time that the map is computed.
    data = _lazy_probability(copy.deepcopy(model).eval(), cube, tiling)
    return as_map(data, model, cube, tiling)


def readable(model: Segmenter, cube: xr.DataArray) -> xr.DataArray:
    """Return the cube with the bands of the model.

    Raises
    ------
    TimoError
        If they do not fit each other.
    """
    config = config_of(model)
    return cubes.select_bands(cube, config.bands, config.sensor)


def as_map(data: Any, model: TiMo, cube: xr.DataArray, tiling: Tiling) -> xr.Dataset:
    """Make the map of `predict` from its probabilities, an array (class, [time,] y, x) of NumPy or Dask."""
    temporal = ("time",) if model.config.per_date else ()
    coords: dict[str, Any] = {"class": list(model.config.classes)}
    for name in (*temporal, "y", "x", "spatial_ref"):
        if name in cube.coords:
            coords[name] = cube[name]
    probability = xr.DataArray(data, dims=("class", *temporal, "y", "x"), coords=coords)
    known = probability.notnull().all("class")
    dtype = "int8" if probability.sizes["class"] <= 127 else "int16"
    label = probability.fillna(0).argmax("class").where(known, NO_LABEL).astype(dtype)
    p = probability.clip(min=np.finfo("float32").tiny)
    entropy = -(p * np.log2(p)).sum("class", skipna=False)
    # Probabilities add up to 1 but for rounding, by which the entropy could leave its range.
    entropy = entropy.clip(0, np.log2(probability.sizes["class"]))
    label.attrs = {
        "long_name": "most probable class",
        "classes": list(model.config.classes),
        "nodata": NO_LABEL,
    }
    entropy.attrs = {"long_name": "entropy of the class probabilities", "units": "bit"}
    probability.attrs = {"long_name": "class probability", "units": "1"}
    result = xr.Dataset(
        {"label": label, "probability": probability, "entropy": entropy.astype("float32")}
    )
    record = provenance(model=model, cube=cube, parameters=asdict(tiling))
    result.attrs = {
        "provenance": json.dumps(record),
        "attribution": cube.attrs.get("attribution", ""),
    }
    return result.rio.write_crs(cube.rio.crs)


def _lazy_probability(model: TiMo, cube: xr.DataArray, tiling: Tiling) -> dask.array.Array:
    """Return probabilities, one chunk a tile; a chunk reads its own part of the cube and nothing else."""
    dates = cubes.days_since_epoch(cube.time)
    # What is in memory was looked at as a whole.
    lazy = not cube.variable._in_memory
    look = _Look(cubes.sensor_of(cube, model.config.sensor), model.config.bands, cube.time.values)
    if lazy and not cube.chunks:
        # In a file, and not in chunks: asking for .data would read it all.
        cube = cube.chunk({"y": tiling.tile, "x": tiling.tile})
    # One node of the graph, not an argument of each: a cluster is sent the weights once.
    shared = dask.delayed(model, traverse=False)
    classes = len(model.config.classes)
    rows = []
    for places in tiles(cube.sizes["y"], cube.sizes["x"], tiling):
        row = []
        for place in places:
            part = cube.data[:, :, place.rows, place.columns]
            block = dask.delayed(_predict_tile, pure=False)(
                shared, part, dates, place.crop, tiling, look=look if lazy else None
            )
            shape = (classes, *((len(dates),) if model.config.per_date else ()), *place.crop[2:])
            row.append(dask.array.from_delayed(block, shape=shape, dtype="float32"))
        rows.append(row)
    return dask.array.block(rows)


@dataclass(frozen=True, eq=False)
class _Look:
    """The check of the values of a lazy cube, tile by tile."""

    sensor: Sensor | None
    bands: tuple[str, ...]
    times: np.ndarray

    def check(self, x: np.ndarray) -> None:
        cubes.check_values(x, self.sensor, self.bands, times=self.times, part=True)


@dataclass(frozen=True)
class Place:
    """The place of a tile: what the model sees of the cube, and the part of that which the map takes."""

    rows: slice
    columns: slice
    crop: tuple[int, int, int, int]  # top, left, height, width

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the map."""
        top, left = self.rows.start + self.crop[0], self.columns.start + self.crop[1]
        return slice(top, top + self.crop[2]), slice(left, left + self.crop[3])


def tiles(height: int, width: int, tiling: Tiling) -> Iterator[list[Place]]:
    """Yield the tiles of a map row by row."""
    tile, halo = tiling.tile, tiling.halo
    for top in range(0, height, tile):
        row = []
        for left in range(0, width, tile):
            inner = (min(tile, height - top), min(tile, width - left))
            north, west = max(top - halo, 0), max(left - halo, 0)
            rows = slice(north, min(top + inner[0] + halo, height))
            columns = slice(west, min(left + inner[1] + halo, width))
            row.append(Place(rows, columns, (top - north, left - west, *inner)))
        yield row


def _predict_tile(
    model: TiMo,
    x: Float[np.ndarray, "t c h w"],
    dates: Float[np.ndarray, " t"],
    crop: tuple[int, int, int, int],
    tiling: Tiling,
    *,
    look: _Look | None = None,
) -> Float[np.ndarray, "..."]:
    if look is not None:
        look.check(x)
    watch: _Watch = getattr(_here, "watch", None) or _Watch()
    with _IN_USE, interruptible(model, watch.stop):
        windows = watch.counted(seen_windows(x, tiling))
        scored = ((some, _scores(model, x[some], dates[some])) for some in windows)
        return tile_probability(scored, model.config, x, crop, tiling)


def tile_probability(
    scored: Iterable[tuple[np.ndarray, Tensor]],
    config: ModelConfig,
    x: Float[np.ndarray, "t c h w"],
    crop: tuple[int, int, int, int],
    tiling: Tiling,
) -> Float[np.ndarray, "..."]:
    """Return the probabilities of a tile without its border, from the dates and the scores of each window of dates."""
    top, left, height, width = crop
    inner = (..., slice(top, top + height), slice(left, left + width))
    probability = _mean_over_windows(scored, config, x)[inner]
    if not tiling.fill_gaps:
        valid = np.isfinite(x).all(axis=1)[inner]
        observed = valid if config.per_date else valid.any(axis=0)
        probability = np.where(observed, probability, np.float32("nan"))
    return np.ascontiguousarray(probability)


def seen_windows(x: Float[np.ndarray, "t c h w"], tiling: Tiling) -> list[np.ndarray]:
    """Return the windows of dates of a tile in which anything was observed, as positions."""
    valid = np.isfinite(x).all(axis=1)
    clear = np.arange(len(x)) if tiling.fill_gaps else np.flatnonzero(valid.any(axis=(1, 2)))
    return [some for some in _windows(clear, tiling.window) if valid[some].any()]


def _mean_over_windows(
    scored: Iterable[tuple[np.ndarray, Tensor]], config: ModelConfig, x: np.ndarray
) -> Float[np.ndarray, "..."]:
    """Return the mean of the probabilities of all windows that hold a date (or, without dates, of all windows)."""
    classes, per_date = len(config.classes), config.per_date
    shape = (classes, *((len(x),) if per_date else ()), *x.shape[-2:])
    total, count = np.zeros(shape, "float32"), np.zeros(len(x), "float32")
    windows = 0
    for some, scores in scored:
        if per_date:
            total[:, some] += scores.softmax(dim=1).movedim(1, 0).numpy()
            count[some] += 1
        else:
            total += scores.softmax(dim=0).numpy()
            windows += 1
    with np.errstate(invalid="ignore"):
        # 0 / 0: a date that no window holds, or no date at all, is NaN.
        divisor = count[:, None, None] if per_date else np.float32(windows)
        return total / divisor


def _windows(indices: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Yield runs of at most `length` that overlap by half; the last one ends at the end."""
    step = max(length // 2, 1)
    for start in range(0, max(len(indices) - length, 0) + step, step):
        some = indices[max(min(start, len(indices) - length), 0) :][:length]
        if some.size:
            yield some


def _scores(model: TiMo, x: np.ndarray, dates: np.ndarray) -> Tensor:
    parameter = next(model.parameters())
    with torch.inference_mode():
        batch = torch.from_numpy(np.ascontiguousarray(x))[None].to(parameter)
        return model(batch, torch.from_numpy(dates)[None].to(parameter.device))[0].float().cpu()


# --- Computing a map with reports, to be stopped at any time

_here = threading.local()


@dataclass
class _Watch:
    """The stop and the reports of the tiles of one computation; by default neither."""

    stop: Stop | None = None
    steps: Steps = field(default_factory=Steps)
    tiles: int = 1
    begun: int = 0
    planned: int = 0

    def counted(self, windows: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the windows of a tile and report each once it is done; only one tile at a time does."""
        self.begun, self.planned = self.begun + 1, self.planned + len(windows)
        for window in windows:
            yield window
            total = self.planned / self.begun * max(self.tiles, self.begun)
            self.steps.step(total=round(total))


@checked
def compute(
    result: xr.Dataset,
    *,
    stop: Stop | None = None,
    on_step: OnStep | None = None,
    workers: Count = 2,
) -> xr.Dataset:
    """Compute a lazy map of `timo.predict`, with reports, and to be stopped at any time.

    Parameters
    ----------
    result : xarray.Dataset
        What `timo.predict` returned.
    stop : threading.Event or callable, optional
        Asked before each task of Dask, each window of dates and each layer of the model. When it says so, nothing is
        kept.
    on_step : callable, optional
        Called with a `timo.compute.StepReport` after each window of dates of a tile, in a thread of the computation.
    workers : int
        Threads that read. The model works on one tile at a time, with the threads that torch has.

    Returns
    -------
    xarray.Dataset
        The map, in memory.

    Raises
    ------
    CancelledError
        If `stop` said so.
    """
    keys = [str(key[0] if isinstance(key, tuple) else key) for key in result.__dask_graph__() or ()]
    tiles = sum(key.startswith("_predict_tile-") for key in keys)
    watch = _Watch(stop, Steps(on_step), max(tiles, 1))

    def join() -> None:
        _here.watch = watch

    try:
        with computing(stop=stop, workers=workers, name="timo-map", join=join) as options:
            watch.steps.begin(0)
            return result.compute(**options)
    except CancelledError:
        raise CancelledError("The map was stopped; nothing of it was kept.") from None
