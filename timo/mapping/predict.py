"""A model's answers: maps of pixels, tile by tile and computed when asked for; tables of chips, parcels and points."""

import copy
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import dask
import dask.array
import numpy as np
import xarray as xr
from jaxtyping import Float

from timo import cube as cubes
from timo.cancel import CancelledError, Stop, interruptible
from timo.checks import Count, Range, checked
from timo.compute import OnStep, Steps, computing
from timo.errors import TimoError, warn
from timo.mapping.checking import Look, check_weights, groups_of, readable
from timo.mapping.chips import predict_chips
from timo.mapping.parcels import predict_parcels
from timo.mapping.provenance import provenance
from timo.mapping.scoring import (
    Tiling,
    check_cost,
    outputs_of,
    scores,
    seen_windows,
    tile_answers,
    tiles,
    window_of,
)
from timo.models.tasks import Segmenter, config_of, unit_of
from timo.places import Places

NO_LABEL = -1
# One tile at a time goes through the model, under any scheduler: its memory is that of one tile. The threads of dask
# each hold at most one more, of observations only.
_IN_USE = threading.Lock()


@checked(cube="data")
def predict(
    model: Segmenter,
    data: xr.DataArray | Places,
    *,
    parcels: Any = None,
    tile: Count = 128,
    halo: Annotated[int, Range(least=0)] = 32,
    window: Count | None = None,
    fill_gaps: bool = False,
) -> Any:
    """Predict what a model answers: a map of pixels, or a table of chips, parcels or points.

    Maps are lazy: nothing is read or predicted before it is asked for. Ask for all variables at once (``.compute()``,
    `timo.export`): asked for one after the other, each is predicted again. The map is that of the model as it is now:
    training it later does not change the map. Tables are computed at once.

    Parameters
    ----------
    model : TiMo
        A model, from `timo.load_model`.
    data : xarray.DataArray or Places
        The cube, or many places; bands that the model does not read are left out.
    parcels : GeoDataFrame, path, or xarray.DataArray, optional
        For a model of parcels, and a cube: polygons or points, in any reference system; or labels of `timo.read_labels`
        or whole numbers (y, x) that say which parcel a pixel is of (-1 = none). Of places, each has its own in its
        labels.
    tile, halo : int
        Pixels of a tile, and of the border around it that the model sees and the map does not take. Memory grows with
        the square of tile + 2 x halo.
    window : int, optional
        Dates that the model sees at once; by default 12 of a model that answers for each date, and 64 of one that
        answers for the series. Windows overlap by half; where two give an answer, their mean counts.
    fill_gaps : bool
        Of maps: keep what the model says where the date (for a model that answers for the series: no date) has a valid
        observation, inferred from the other dates and the surroundings. By default such pixels are NaN, as in the cube.
        Where a whole window of dates has no observation in the tile, there is nothing to infer from: NaN.

    Returns
    -------
    xarray.Dataset
        Classes of pixels: ``probability`` (class, [time,] y, x) float32, ``label`` ([time,] y, x) int8 with -1 = no
        data (int16 if there are more than 127 classes), ``entropy`` ([time,] y, x) float32 in bits, 0..log2(number of
        classes). A regression: ``value`` ([time,] y, x) float32 in the unit of the target, NaN = no data, and the ends
        ``low`` and ``high`` of its interval, if the model has one.
    geopandas.GeoDataFrame
        Of chips, one row a chip, or a chip and date, with its footprint; of parcels, one row a parcel, in the order
        given, with its geometry: ``class``, ``probability_<class>`` of each, ``entropy``; or ``value``, ``low``,
        ``high``; and ``pixels``, how many were observed. What was not observed has NaN. Of places, ``place`` is the
        name of each.
    iterator of (str, xarray.Dataset)
        Of places and a model of pixels: the name and the lazy map of each place.

    Raises
    ------
    TimoError
        If data and model do not fit each other, the model's weights are not finite, parcels are missing, or an option
        makes no sense; and, when a lazy cube is computed, if its values cannot be what its sensor measures.

    Warns
    -----
    UserWarning
        If the model has tokens finer than 4 pixels, and a tile so many of them that it takes long; if parcels have no
        observed pixel; or when it is computed, if the map of a lazy cube has no data anywhere.
    """
    config = config_of(model)
    check_weights(model)
    tiling = Tiling(tile, halo, window_of(config, window), fill_gaps)
    unit = unit_of(config)
    if parcels is not None and (unit != "parcel" or isinstance(data, Places)):
        raise TimoError(
            'parcels= go with one cube and a model of parcels: timo.load_model(..., task="classification", '
            f'unit="parcel", per_date=False); this model answers for a {unit}. Leave parcels= out.'
        )
    check_cost(config, data, tiling)
    # A copy: the model may be trained further, or be in training, by the time that a map is computed.
    model = copy.deepcopy(model).eval()
    if unit != "pixel":
        return _table(model, data, parcels, tiling)
    if isinstance(data, Places):
        return _maps(model, data, tiling)
    return predict_map(model, data, tiling)


def _table(model: Segmenter, data: xr.DataArray | Places, parcels: Any, tiling: Tiling) -> Any:
    """Return the table of a model of chips or parcels, with what is needed to trace it."""
    chips = unit_of(config_of(model)) == "chip"
    table = (
        predict_chips(model, data, tiling)
        if chips
        else predict_parcels(model, data, parcels, tiling)
    )
    cube = None if isinstance(data, Places) else data
    record = provenance(model=model, cube=cube, parameters=asdict(tiling))
    table.attrs["provenance"] = json.dumps(record)
    return table


def predict_map(model: Segmenter, cube: xr.DataArray, tiling: Tiling) -> xr.Dataset:
    """Return the lazy map of a model of pixels, which is used as it is."""
    cube = readable(model, cube)
    return as_map(_lazy_answers(model, cube, tiling), model, cube, tiling)


def _maps(model: Segmenter, places: Places, tiling: Tiling) -> Iterator[tuple[str, xr.Dataset]]:
    for number, name in enumerate(places.names):
        yield name, predict_map(model, places.open(number)[0], tiling)


def as_map(data: Any, model: Segmenter, cube: xr.DataArray, tiling: Tiling) -> xr.Dataset:
    """Make the map of `predict` from answers, an array (class, [time,] y, x) of NumPy or Dask."""
    config = config_of(model)
    temporal = ("time",) if config.per_date else ()
    coords: dict[str, Any] = {"class": list(outputs_of(config))}
    for name in (*temporal, "y", "x", "spatial_ref"):
        if name in cube.coords:
            coords[name] = cube[name]
    answers = xr.DataArray(data, dims=("class", *temporal, "y", "x"), coords=coords)
    result = _value_map(answers, config) if config.task == "regression" else _class_map(answers)
    record = provenance(model=model, cube=cube, parameters=asdict(tiling))
    result.attrs = {
        "provenance": json.dumps(record),
        "attribution": cube.attrs.get("attribution", ""),
    }
    return result.rio.write_crs(cube.rio.crs)


def _class_map(probability: xr.DataArray) -> xr.Dataset:
    """Return probability, label and entropy."""
    known = probability.notnull().all("class")
    dtype = "int8" if probability.sizes["class"] <= 127 else "int16"
    label = probability.fillna(0).argmax("class").where(known, NO_LABEL).astype(dtype)
    p = probability.clip(min=np.finfo("float32").tiny)
    entropy = -(p * np.log2(p)).sum("class", skipna=False)
    # Probabilities add up to 1 but for rounding, by which the entropy could leave its range.
    entropy = entropy.clip(0, np.log2(probability.sizes["class"]))
    label.attrs = {
        "long_name": "most probable class",
        "classes": [str(name) for name in probability["class"].values],
        "nodata": NO_LABEL,
    }
    entropy.attrs = {"long_name": "entropy of the class probabilities", "units": "bit"}
    probability.attrs = {"long_name": "class probability", "units": "1"}
    return xr.Dataset(
        {"label": label, "probability": probability, "entropy": entropy.astype("float32")}
    )


def _value_map(answers: xr.DataArray, config: Any) -> xr.Dataset:
    """Return value, and low and high if there is an interval."""
    target = config.target or "value"
    titles = {
        "value": target,
        "low": f"lower end of the {config.interval:.0%} interval of {target}",
        "high": f"upper end of the {config.interval:.0%} interval of {target}",
    }
    held = {}
    for name in outputs_of(config):
        array = answers.sel({"class": name}, drop=True)
        array.attrs = {"long_name": titles[name], "units": config.target_units}
        held[name] = array.rio.write_nodata(np.float32("nan"))
    return xr.Dataset(held)


def _lazy_answers(model: Segmenter, cube: xr.DataArray, tiling: Tiling) -> dask.array.Array:
    """Return answers, one chunk a tile; a chunk reads its own part of the cube and nothing else."""
    dates, config = cubes.days_since_epoch(cube.time), config_of(model)
    look = Look.at(cube, config)
    if look is not None and not cube.chunks:
        # In a file, and not in chunks: asking for .data would read it all.
        cube = cube.chunk({"y": tiling.tile, "x": tiling.tile})
    # One node of the graph, not an argument of each: a cluster is sent the weights once.
    shared = dask.delayed(model, traverse=False)
    outputs = len(outputs_of(config))
    rows = []
    for places in tiles(cube.sizes["y"], cube.sizes["x"], tiling):
        row = []
        for place in places:
            part = cube.data[:, :, place.rows, place.columns]
            block = dask.delayed(_predict_tile, pure=False)(
                shared, part, dates, place.crop, tiling, look=look
            )
            shape = (outputs, *((len(dates),) if config.per_date else ()), *place.crop[2:])
            row.append(dask.array.from_delayed(block, shape=shape, dtype="float32"))
        rows.append(row)
    return dask.array.block(rows)


def _predict_tile(
    model: Segmenter,
    x: Float[np.ndarray, "t c h w"],
    dates: Float[np.ndarray, " t"],
    crop: tuple[int, int, int, int],
    tiling: Tiling,
    *,
    look: Look | None = None,
) -> Float[np.ndarray, "..."]:
    if look is not None:
        look.check(x)
    watch: _Watch = getattr(_here, "watch", None) or _Watch()
    with _IN_USE, interruptible(model, watch.stop):
        windows = watch.counted(seen_windows(x, tiling, groups_of(config_of(model))))
        scored = ((some, scores(model, x[some], dates[some])) for some in windows)
        return tile_answers(scored, model, x, crop, tiling)


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
            found = result.compute(**options)
    except CancelledError:
        raise CancelledError("The map was stopped; nothing of it was kept.") from None
    _look_for_data(found)
    return found


def _look_for_data(result: xr.Dataset) -> None:
    """Warn of a map without data: nothing of the cube was observed in all bands of the model."""
    if not result.data_vars:
        return
    first = next(iter(result.data_vars.values()))
    known = first >= 0 if first.dtype.kind == "i" else first.notnull()
    if not bool(known.any()):
        warn(
            "The map has no data anywhere: no pixel of the cube is observed in all bands of the model at any date. "
            'Look at its gaps: cube.isel(time=0).isnull().mean(("y", "x")).'
        )
