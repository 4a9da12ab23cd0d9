# ruff: noqa: ARG005 - entries of a table take the world alike, whether they need it or not
"""Every public function, class and method of timo and timo_widgets, each with a call of it that works.

`CALLS` maps a name to a function of the `World`, which returns what is called and its arguments. The fuzz of
test_public_inputs.py replaces one argument at a time. By hand, for one room or function:

    python tests/public_table.py timo.geostat
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import importlib
import inspect
import io
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import pandas as pd
import rioxarray  # noqa: F401
import shapely
import torch
import xarray as xr
from jaxtyping import TypeCheckError

import timo
from timo.errors import TimoError

mpl.use("agg")
MODULES = (
    "timo",
    "timo.cube",
    "timo.datasets.millionst",
    "timo.geostat",
    "timo.inspection",
    "timo.mapping",
    "timo.models",
    "timo.places",
    "timo.sensors",
    "timo.sources",
    "timo.sources.cache",
    "timo.sources.earthengine",
    "timo.sources.files",
    "timo.sources.stac",
    "timo.training",
    "timo.training.pretraining",
    "timo_widgets",
)
# Records that a loader makes by the thousand, and the error itself.
PLAIN = {"Chip", "TimoError"}
# In the hot path of torch or of a loader; `timo.predict`, `create_encoder` and `ChipStore.read` stand before them.
HOT = {"forward", "encode", "decode", "normalise", "extra_repr", "tensors"}
HOT |= {
    "context",
    "opinions",
    "attend",
    "with_pixels",
    "features",
    "clear_dates",
    "read_dates",
    "read_array",
    "decoded",
    "seconds",
    "shape",
    "valid",
}
Call = tuple[Callable[..., Any], dict[str, Any]]


def public_names() -> Iterator[tuple[str, Any]]:
    """Names and objects: functions, classes, and the methods that timo gives the classes; each once."""
    seen: set[int] = set()
    for module in MODULES:
        held = importlib.import_module(module)
        for name in held.__all__:
            found = getattr(held, name)
            if inspect.ismodule(found) or not callable(found) or id(found) in seen or name in PLAIN:
                continue
            seen.add(id(found))
            yield f"{module}.{name}", found
            if inspect.isclass(found):
                yield from ((f"{module}.{name}.{key}", value) for key, value in methods_of(found))


def methods_of(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods that a class of ours defines itself or inherits; those that all panels share are their own."""
    bases = [base for base in kind.__mro__ if base.__module__.startswith("timo")]
    for key, value in inspect.getmembers(kind, callable):
        ours = any(key in vars(base) for base in bases if base.__name__ != "Part")
        if not ours or key.startswith("_") or key in HOT or inspect.isclass(value):
            continue
        if set(inspect.signature(value).parameters) - {"self", "args", "kwargs"}:
            yield key, value


class World:
    """Small valid arguments, each made once."""

    bands = ("B2", "B3", "B4", "B8", "B11", "B12")

    @functools.cached_property
    def folder(self) -> Path:
        """A folder for whatever is written."""
        return Path(tempfile.mkdtemp(prefix="timo-public-"))

    def grid(self, values: Any, dims: tuple[str, ...], **attrs: Any) -> xr.DataArray:
        """An array on the grid of the cube."""
        values = np.asarray(values)
        coords: dict[str, Any] = {
            "y": 5_000_000.0 - 10 * np.arange(values.shape[-2]),
            "x": 500_000.0 + 10 * np.arange(values.shape[-1]),
        }
        if "time" in dims:
            times = pd.date_range("2018-05-01", periods=values.shape[0], freq="MS")
            coords["time"] = times.astype("datetime64[ns]")
        if "band" in dims:
            coords["band"] = list(self.bands)
        return xr.DataArray(values, dims=dims, coords=coords, attrs=attrs).rio.write_crs(32634)

    @functools.cached_property
    def cube(self) -> xr.DataArray:
        """Four months, six bands, 16 x 16 cells, with a gap."""
        rng = np.random.default_rng(0)
        other = self.labels.to_numpy()
        values = np.where(other, 0.1, 0.3) + rng.normal(0, 0.01, (4, 6, 16, 16))
        values[1, :, :4, :4] = np.nan
        dims = ("time", "band", "y", "x")
        return self.grid(values.astype("float32"), dims, sensor="sentinel-2")

    @functools.cached_property
    def labels(self) -> xr.DataArray:
        """Two classes, left and right."""
        values = np.broadcast_to(np.arange(16) >= 8, (16, 16)).astype("int8")
        return self.grid(values, ("y", "x"), classes=["forest", "other"])

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """Two fields as GeoJSON, with a date."""
        west, south, east, north = self.cube.rio.transform_bounds("EPSG:4326")
        middle = (west + east) / 2
        boxes = [shapely.box(west, south, middle, north), shapely.box(middle, south, east, north)]
        features = [
            {
                "type": "Feature",
                "properties": {"class": name, "seen": "2018-06-02", "height": i + 0.5},
                "geometry": shapely.geometry.mapping(box),
            }
            for i, (name, box) in enumerate(zip(("forest", "other"), boxes, strict=True))
        ]
        return {"type": "FeatureCollection", "features": features}

    @functools.cached_property
    def split(self) -> xr.DataArray:
        """Three parts of the rows."""
        parts = np.broadcast_to(np.arange(16)[:, None] * 3 // 16, (16, 16)).astype("int8")
        return self.grid(parts, ("y", "x"))

    @functools.cached_property
    def field(self) -> xr.DataArray:
        """One value a cell."""
        values = np.random.default_rng(1).normal(size=(16, 16)).cumsum(0).cumsum(1)
        return self.grid(values, ("y", "x"))

    @functools.cached_property
    def model(self) -> Any:
        """A model of the smallest kind for the cube."""
        from timo.models.answering import ModelConfig
        from timo.models.config import EncoderConfig
        from timo.models.tasks import TiMo

        encoder = EncoderConfig(
            in_channels=6, dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), heads=(1, 1, 1, 1)
        )
        config = ModelConfig(
            encoder=encoder,
            bands=self.bands,
            classes=("forest", "other"),
            mean=(0.2,) * 6,
            std=(0.1,) * 6,
            head_width=8,
            detail=4,
        )
        torch.manual_seed(0)
        return TiMo(config).eval()

    @functools.cached_property
    def result(self) -> xr.Dataset:
        """A map of two dates and two classes."""
        share = np.random.default_rng(2).uniform(0.01, 0.99, (4, 16, 16))
        share[2:, :4, :4] = 0.05
        share[:2, :4, :4] = 0.95
        both = self.grid(share, ("time", "y", "x")).astype("float32")
        probability = xr.concat([both, 1 - both], pd.Index(["forest", "other"], name="class"))
        label = probability.argmax("class").astype("int16")
        entropy = -(probability * np.log(probability)).sum("class")
        return xr.Dataset({"label": label, "probability": probability, "entropy": entropy})

    @functools.cached_property
    def loss(self) -> xr.Dataset:
        """A year of loss for each cell."""
        return timo.loss_year(self.result.probability.sel({"class": "forest"}))

    @functools.cached_property
    def points(self) -> xr.DataArray:
        """Twenty stations."""
        from timo.geostat import points

        rng = np.random.default_rng(3)
        x, y = 500_000 + rng.uniform(0, 160, 20), 5_000_000 - rng.uniform(0, 160, 20)
        return points(x, y, rng.normal(size=20), 32634)

    @functools.cached_property
    def variogram(self) -> xr.Dataset:
        """Of the field."""
        return timo.geostat.variogram(self.field)

    @functools.cached_property
    def variogram_model(self) -> Any:
        """A model of a variogram."""
        return timo.geostat.VariogramModel("exponential", 1.0, 50.0, 0.1)

    @functools.cached_property
    def eofs(self) -> Any:
        """Modes of a small table."""
        return timo.geostat.decompose(np.random.default_rng(4).normal(size=(8, 12)), 2)

    @functools.cached_property
    def encoder_folder(self) -> Path:
        """A saved encoder."""
        from timo.models import save_encoder

        path = self.folder / "encoder"
        mean, std = (0.2,) * 6, (0.1,) * 6
        save_encoder(
            self.model.encoder, path, bands=self.bands, mean=mean, std=std, sensor="sentinel-2"
        )
        return path

    @functools.cached_property
    def model_folder(self) -> Path:
        """A saved model."""
        timo.save(self.model, self.folder / "model")
        return self.folder / "model"

    @functools.cached_property
    def tables(self) -> Path:
        """A folder with a cube and the table of it."""
        home = self.folder / "places"
        home.mkdir()
        self.cube.to_dataset(name="cube").to_netcdf(home / "a.nc")
        (home / "places.csv").write_text("name,kind\na,forest\n", encoding="utf-8")
        return home

    @functools.cached_property
    def store(self) -> Path:
        """A packed store of chips."""
        from timo.places import pack

        path = self.folder / "chips.zarr"
        pack([self.cube], path, size=8)
        return path

    @functools.cached_property
    def series(self) -> np.ndarray:
        """Regular series of one value."""
        return np.random.default_rng(5).normal(size=(30,)).cumsum()

    @functools.cached_property
    def state(self) -> Any:
        """What the panels share."""
        from timo_widgets import State

        return State(cube=self.cube)


WORLD = World()
STOPPED = {"stop": lambda: True}
# A training that ends in a second even where it is not stopped.
SHORT = {"epochs": 1, "chips_per_epoch": 1, "batch_size": 1, "progress": False, **STOPPED}
SET = threading.Event()
SET.set()
STOPPED_AT_ONCE = {"stop": SET}
BANDS = World.bands


def stored(name: str) -> str:
    """A free name in the folder."""
    return str(WORLD.folder / name)


# What each name is called with; a name that ends with a method is called on an instance made here.
CALLS: dict[str, Callable[[World], Call]] = {}


def calls(name: str) -> Callable[[Callable[[World], Call]], Callable[[World], Call]]:
    """Enter a call in the table."""

    def enter(function: Callable[[World], Call]) -> Callable[[World], Call]:
        CALLS[name] = function
        return function

    return enter


def simple(prefix: str, table: dict[str, Callable[[World], dict[str, Any]]]) -> None:
    """Enter functions and classes of one module by the arguments alone."""

    def entry(name: str, arguments: Callable[[World], dict[str, Any]]) -> Callable[[World], Call]:
        module, _, held = name.rpartition(".")
        once = functools.cache(arguments)
        return lambda w: (getattr(importlib.import_module(module), held), once(w))

    for name, arguments in table.items():
        CALLS[f"{prefix}.{name}"] = entry(f"{prefix}.{name}", arguments)


def methods(
    prefix: str,
    instance: Callable[[World], Any],
    table: dict[str, Callable[[World], dict[str, Any]]],
) -> None:
    """Enter methods of one class; the instance is made for each call."""

    def entry(name: str, arguments: Callable[[World], dict[str, Any]]) -> Callable[[World], Call]:
        return lambda w: (getattr(instance(w), name), arguments(w))

    for name, arguments in table.items():
        CALLS[f"{prefix}.{name}"] = entry(name, arguments)


def interpreted(w: World) -> pd.DataFrame:
    """A sample of the years of loss, with the truth noted in it."""
    sample = timo.mapping.stratified_sample(w.loss.loss_year, 10, seed=0)
    return sample.assign(reference=sample["stratum"])


def noted(w: World) -> Path:
    """The file of a sample that was interpreted."""
    return timo.mapping.write_sample(interpreted(w), w.folder / "noted.csv")


def units(w: World) -> dict[str, Any]:
    """An error matrix's worth of interpreted units."""
    mapped = ["forest"] * 20 + ["loss"] * 20
    seen = ["forest"] * 19 + ["loss"] * 19 + ["forest", "loss"]
    return {
        "map_class": mapped,
        "reference_class": seen,
        "map_areas": {"forest": 90.0, "loss": 10.0},
    }


def evaluated(w: World) -> timo.Evaluation:
    """Figures of a model on its cube."""
    return timo.evaluate(w.model, w.cube, w.labels, baselines=False)


simple(
    "timo",
    {
        "create_encoder": lambda w: {"size": "tiny", "bands": 6},
        "cross_validate": lambda w: {
            "model": w.model,
            "places": timo.Places([(w.cube, w.labels)] * 3),
            "by": "place",
            "k": 3,
            "baselines": False,
            **SHORT,
            "chips": chips(),
        },
        "estimate_area": units,
        "evaluate": lambda w: {
            "model": w.model,
            "data": w.cube,
            "labels": w.labels,
            "baselines": False,
        },
        "Evaluation": lambda w: vars(evaluated(w)),
        "export": lambda w: {"data": w.labels, "path": stored("map.tif"), "overwrite": True},
        "fetch": lambda w: {"cube": w.cube.chunk(time=1), "progress": False},
        "fill": lambda w: {"cube": w.cube},
        "finetune": lambda w: {
            "model": w.model,
            "data": w.cube,
            "labels": w.labels,
            **SHORT,
            "chips": chips(),
        },
        "fit_head": lambda w: {"model": w.model, "data": w.cube, "labels": w.labels, "steps": 1},
        "load_model": lambda w: {"name": w.model_folder, "data": w.cube},
        "loss_areas": lambda w: {
            "loss_year": w.loss.loss_year,
            "sample": interpreted(w),
        },
        "loss_year": lambda w: {"probability": w.result.probability.sel({"class": "forest"})},
        "open_places": lambda w: {"kind": "store", "source": w.store},
        "Place": lambda w: {"cube": w.cube, "labels": w.labels, "name": "here"},
        "Places": lambda w: {"items": [(w.cube, w.labels)] * 2, "groups": ["a", "b"]},
        "open_cube": lambda w: {"source": "sample", "start": "2018-07", "end": "2018-07"},
        "predict": lambda w: {"model": w.model, "data": w.cube},
        "pretrain": lambda w: {
            "data": w.cube,
            "model": "tiny",
            **SHORT,
            "chips": window_options(),
        },
        "read_labels": lambda w: {"source": w.fields, "like": w.cube},
        "sample_clearings": lambda w: {},
        "sample_labels": lambda w: {},
        "simulate": lambda w: {"pixels": 16, "dates": 4},
        "save": lambda w: {"model": w.model, "path": stored("saved")},
        "Features": lambda w: {"model": w.model, "cube": w.cube},
    },
)
methods(
    "timo.Evaluation",
    evaluated,
    {"plot": lambda w: {}, "to_csv": lambda w: {"path": stored("figures.csv")}},
)
methods(
    "timo.Features",
    lambda w: timo.Features(w.model, w.cube),
    {
        "check": lambda w: {"model": w.model},
        "days": lambda w: {"window": first(w)[2]},
        "inputs": lambda w: dict(
            zip(("model", "tile", "window"), (w.model, *first(w)[1:]), strict=True)
        ),
        "predict": lambda w: {"model": w.model},
        "values": lambda w: {"place": first(w)[0]},
    },
)
# Its cubes are given by position.
CALLS["timo.cube.join"] = lambda w: (
    functools.partial(timo.cube.join, w.cube),
    {"missing": {"sentinel-1": ["VV"]}, "resampling": "nearest"},
)
simple(
    "timo.cube",
    {
        "band_groups": lambda w: {"bands": list(BANDS), "sensor": "sentinel-2"},
        "blocks": lambda w: {"array": w.cube, "size_m": 40},
        "cell_area_m2": lambda w: {"array": w.cube},
        "cell_size_m": lambda w: {"array": w.cube},
        "check": lambda w: {"cube": w.cube},
        "check_grid": lambda w: {"array": w.cube},
        "check_labels": lambda w: {"labels": w.labels, "cube": w.cube},
        "check_values": lambda w: {
            "values": w.cube.to_numpy(),
            "sensor": timo.sensors.get_sensor("sentinel-2"),
            "bands": list(BANDS),
        },
        "composite": lambda w: {"cube": w.cube, "freq": "2MS"},
        "days_since_epoch": lambda w: {"time": w.cube.time},
        "dilate": lambda w: {"mask": w.labels.to_numpy() == 1, "height": 3, "width": 3},
        "grid_mismatch": lambda w: {"array": w.labels, "like": w.cube},
        "hectares": lambda w: {"array": w.labels},
        "ndvi": lambda w: {"cube": w.cube},
        "observed": lambda w: {"values": w.cube.to_numpy(), "groups": (4, 2)},
        "period_offset": lambda w: {"freq": "1MS"},
        "period_starts": lambda w: {
            "times": w.cube.indexes["time"],
            "freq": "1MS",
            "origin": w.cube.indexes["time"][0],
        },
        "select_bands": lambda w: {"cube": w.cube, "bands": ["B4"], "sensor": "sentinel-2"},
        "sensor_of": lambda w: {"cube": w.cube},
        "separate": lambda w: {"cube": w.cube},
        "spacing": lambda w: {"array": w.cube, "dim": "x"},
        "split_blocks": lambda w: {"blocks": timo.cube.blocks(w.cube, 40)},
        "true_colour": lambda w: {"cube": w.cube},
        "valid_mask": lambda w: {"cube": w.cube},
    },
)
simple(
    "timo.datasets.millionst",
    {
        "ChipPlan": lambda w: {"places": 2, "dates": 2},
        "Cost": lambda w: {
            "places": 1,
            "listings": 1,
            "pixels": 1,
            "bytes": 1,
            "per_second": 1.0,
            "concurrent": 1,
        },
        "Fetched": lambda w: {
            "written": 1,
            "already": 0,
            "replaced": 0,
            "refused": 0,
            "complete": True,
        },
        "Place": lambda w: {"lon": 1.0, "lat": 2.0, "climate": "C", "kind": "random"},
        "PlaceRule": lambda w: {},
        "estimate": lambda w: {"plan": plan(2)},
        "fetch_chips": lambda w: {
            "plan": plan(2),
            "store": stored("million.zarr"),
            "source": EmptySource(),
            **STOPPED_AT_ONCE,
        },
        "sample_places": lambda w: {"n": 3},
    },
)


class EmptySource:
    """A source that is never asked, because the fetch is stopped."""

    def list_images(self, *_: Any) -> Any:
        """Refuse."""
        raise TimoError("There is nothing to list here. Give another source.")

    def read(self, *_: Any) -> Any:
        """Refuse."""
        raise TimoError("There is nothing to fetch here. Give another source.")


def plan(places: int) -> Any:
    """A small plan of chips."""
    from timo.datasets.millionst import ChipPlan

    return ChipPlan(places=places, dates=2)


def first_target() -> Any:
    """The first place of a plan."""
    return next(iter(plan(2).targets()))


methods(
    "timo.datasets.millionst.ChipPlan",
    lambda w: plan(2),
    {
        "choose": lambda w: {"images": [], "request": plan(2).request(first_target())},
        "request": lambda w: {"target": first_target()},
        "target": lambda w: {"place": first_target().place},
    },
)
methods(
    "timo.datasets.millionst.Cost",
    lambda w: importlib.import_module("timo.datasets.millionst").estimate(plan(2)),
    {"hours_at": lambda w: {"seconds": 1.0}},
)
simple(
    "timo.geostat",
    {
        "EOFInterpolator": lambda w: {"method": "krige", "n_components": 2},
        "EOFs": lambda w: {
            "mean": w.eofs.mean,
            "coefficients": w.eofs.coefficients,
            "singular_values": w.eofs.singular_values,
            "patterns": w.eofs.patterns,
            "total_variance": w.eofs.total_variance,
            "above_noise": w.eofs.above_noise,
            "noise_variance": w.eofs.noise_variance,
        },
        "Places": lambda w: {"x": np.arange(3.0), "y": np.arange(3.0), "crs": 32634},
        "VariogramModel": lambda w: {"kind": "exponential", "sill": 1.0, "range_m": 50.0},
        "acf": lambda w: {"da": series_of(w), "lags": 3},
        "cross_validate": lambda w: {"points": w.points, "model": w.variogram_model},
        "decompose": lambda w: {"values": np.random.default_rng(0).normal(size=(6, 9))},
        "dineof": lambda w: {"values": with_gaps(w), "candidates": [1, 2]},
        "distances": lambda w: {"a": w.points, "b": w.points},
        "find_regions": lambda w: {"features": series_of(w)[:3].T, "feature": "time", "k": 8},
        "fit_best": lambda w: {"variogram": w.variogram},
        "fit_model": lambda w: {"variogram": w.variogram},
        "gaussian_w2": lambda w: {
            "means": np.zeros((3, 2)),
            "covariances": np.stack([np.eye(2)] * 3),
        },
        "generalized_variogram": lambda w: {
            "distance": np.random.default_rng(0).uniform(1, 9, 50),
            "dissimilarity": np.random.default_rng(1).uniform(0, 1, 50),
        },
        "interval": lambda w: {"kriged": timo.geostat.krige(w.points, w.field, w.variogram_model)},
        "krige": lambda w: {"points": w.points, "grid": w.field, "model": w.variogram_model},
        "lag_curves": lambda w: {"da": series_of(w)},
        "local_gaussians": lambda w: {"features": series_of(w)[:3].T, "feature": "time", "k": 8},
        "pacf": lambda w: {"da": series_of(w), "lags": 3},
        "points": lambda w: {
            "x": np.arange(4.0),
            "y": np.arange(4.0),
            "values": np.arange(4.0),
            "crs": 32634,
        },
        "random_field": lambda w: {"template": w.field, "model": w.variogram_model, "seed": 0},
        "variogram": lambda w: {"values": w.field},
        "wasserstein1": lambda w: {"a": np.arange(5.0), "b": np.arange(6.0)},
    },
)


def series_of(w: World) -> xr.DataArray:
    """Series at twenty stations."""
    values = np.random.default_rng(6).normal(size=(12, 20)).cumsum(0)
    points = w.points
    return timo.geostat.points(
        points.x.to_numpy(),
        points.y.to_numpy(),
        values,
        32634,
        time=pd.date_range("2018-01-01", periods=12, freq="MS"),
    )


def with_gaps(w: World) -> xr.DataArray:
    """Series with a few gaps."""
    hidden = np.random.default_rng(7).uniform(size=(12, 20)) < 0.1
    return series_of(w).where(~hidden)


methods(
    "timo.geostat.EOFInterpolator",
    lambda w: timo.geostat.EOFInterpolator("krige", n_components=2).fit(series_of(w)),
    {"fit": lambda w: {"stations": series_of(w)}, "predict": lambda w: {"grid": w.field}},
)
methods(
    "timo.geostat.EOFs",
    lambda w: w.eofs,
    {
        "count": lambda w: {"wanted": 1},
        "reconstruct": lambda w: {"coefficients": w.eofs.coefficients},
        "truncate": lambda w: {"n_components": 1},
    },
)
methods(
    "timo.geostat.Places",
    lambda w: timo.geostat.Places(np.arange(3.0), np.arange(3.0), 32634),
    {
        "chord_of_distance": lambda w: {"distance": 5.0},
        "distance_of_chord": lambda w: {"chord": 5.0},
    },
)
methods(
    "timo.geostat.VariogramModel",
    lambda w: w.variogram_model,
    {
        "correlation": lambda w: {"h": np.arange(3.0)},
        "covariance": lambda w: {"h": np.arange(3.0)},
        "to_gstools": lambda w: {"dim": 2},
        "from_gstools": lambda w: {"model": w.variogram_model.to_gstools()},
    },
)
PIXEL = {"row": 5, "col": 6}
simple(
    "timo.inspection",
    {
        "attention_at": lambda w: {"model": w.model, "cube": w.cube, "time": "2018-07-01", **PIXEL},
        "embed": lambda w: {"model": w.model, "cube": w.cube},
        "neighbourhood": lambda w: {"cube": w.cube, "time": "2018-07-01", **PIXEL},
        "pca_picture": lambda w: {"embedding": timo.inspection.embed(w.model, w.cube)},
        "rollout_at": lambda w: {"model": w.model, "cube": w.cube, "time": "2018-07-01", **PIXEL},
        "similar": lambda w: {"embedding": timo.inspection.embed(w.model, w.cube), **PIXEL},
    },
)
simple(
    "timo.mapping",
    {
        "AreaEstimate": lambda w: {**vars(timo.estimate_area(**units(w)))},
        "HeldOutErrors": lambda w: {
            **vars(timo.mapping.held_out_errors(w.result.isel(time=0), w.labels, w.split))
        },
        "allocate": lambda w: {"map_areas": {"a": 90.0, "b": 10.0}, "n": 100},
        "compute": lambda w: {"result": timo.predict(w.model, w.cube)},
        "held_out_errors": lambda w: {
            "result": w.result.isel(time=0),
            "labels": w.labels,
            "split": w.split,
        },
        "loss_agreement": lambda w: {
            "loss_year": w.loss.loss_year,
            "reference": w.loss.loss_year,
        },
        "mean_probability": lambda w: {"probability": w.result.probability},
        "pixel_areas": lambda w: {"labels": w.labels},
        "provenance": lambda w: {"model": w.model, "cube": w.cube},
        "read_sample": lambda w: {"path": noted(w), "sample": interpreted(w)},
        "residuals": lambda w: {"result": w.result.isel(time=0), "labels": w.labels},
        "sample_size": lambda w: {
            "target_se": 0.02,
            "map_areas": {"a": 90.0, "b": 10.0},
            "expected_users_accuracy": 0.8,
        },
        "stratified_sample": lambda w: {"labels": w.labels, "n": 10, "seed": 0},
        "to_polygons": lambda w: {"data": w.labels},
        "write_sample": lambda w: {"sample": interpreted(w), "path": stored("sample.csv")},
    },
)
methods(
    "timo.mapping.AreaEstimate",
    lambda w: timo.estimate_area(**units(w)),
    {"to_csv": lambda w: {"path": stored("areas.csv")}},
)
SMALL = {"in_channels": 6, "dims": (8, 8, 8, 8), "depths": (1,) * 4, "heads": (1,) * 4}
simple(
    "timo.models",
    {
        "AutoencoderConfig": lambda w: {"encoder": published()},
        "EncoderConfig": lambda w: SMALL,
        "LoadReport": lambda w: {"loaded": ("a",)},
        "ModelConfig": lambda w: {
            "encoder": w.model.config.encoder,
            "bands": BANDS,
            "classes": ("forest", "other"),
            "mean": (0.2,) * 6,
            "std": (0.1,) * 6,
        },
        "PixelConfig": lambda w: {
            "bands": BANDS,
            "classes": ("forest", "other"),
            "mean": (0.2,) * 6,
            "std": (0.1,) * 6,
        },
        "PixelModel": lambda w: {"config": timo.load_model("pixel", w.cube, ["a", "b"]).config},
        "PublishedAutoencoder": lambda w: {"config": small_autoencoder()},
        "SavedEncoder": lambda w: {**vars(timo.models.load_encoder(w.encoder_folder))},
        "TiMo": lambda w: {"config": w.model.config},
        "TiMoEncoder": lambda w: {"config": w.model.config.encoder},
        "encoder_config": lambda w: {"size": "tiny", "in_channels": 6},
        "load": lambda w: {"path": w.model_folder},
        "load_encoder": lambda w: {"path": w.encoder_folder},
        "load_reference": lambda w: {"state_dict": {}, "config": SMALL, "bands": BANDS},
        "read_reference": lambda w: {"state_dict": {}, "config": SMALL, "bands": BANDS},
        "save_encoder": lambda w: {
            "encoder": w.model.encoder,
            "path": stored("encoder_again"),
            "bands": BANDS,
            "mean": (0.2,) * 6,
            "std": (0.1,) * 6,
            "sensor": "sentinel-2",
        },
        "transfer_encoder": lambda w: {
            "state_dict": w.model.encoder.state_dict(),
            "encoder": w.model.encoder,
        },
    },
)
methods(
    "timo.models.PixelModel",
    lambda w: timo.load_model("pixel", w.cube, task="regression"),
    {
        "answer": lambda w: {"scores": torch.zeros(1, 3, 4, 4)},
        "set_target": lambda w: {"mean": 20.0, "std": 4.0},
    },
)
methods(
    "timo.models.TiMo",
    lambda w: timo.load_model("timo-tiny", w.cube, task="regression", pretrained=False),
    {
        "answer": lambda w: {"scores": torch.zeros(1, 3, 4, 4)},
        "set_target": lambda w: {"mean": 20.0, "std": 4.0},
        "with_token": lambda w: {"token": 2},
    },
)


def published() -> Any:
    """A small encoder as the published one."""
    return timo.models.EncoderConfig(**SMALL, attention=("global",) * 4, position="index")


def small_autoencoder() -> Any:
    """A configuration of an autoencoder that is made at once."""
    from timo.models import AutoencoderConfig

    return AutoencoderConfig(encoder=published(), decoder_dim=8, decoder_depth=1, decoder_heads=1)


def sensor(w: World) -> Any:
    """A sensor of three bands."""
    held = timo.sensors.get_sensor("sentinel-2")
    return {
        field.name: getattr(held, field.name) for field in dataclasses.fields(held) if field.init
    }


simple(
    "timo.sensors",
    {
        "Band": lambda w: {
            "name": "B4",
            "common_name": "red",
            "wavelength_um": 0.66,
            "gsd_m": 10.0,
            "mean": 0.1,
            "std": 0.1,
        },
        "CloudScore": lambda w: {"id": "A/B", "band": "cs", "threshold": 0.5},
        "Collection": lambda w: {"provider": "earthengine", "ids": ("A/B",), "names": {"B4": "B4"}},
        "Identity": lambda w: {**vars(timo.sensors.identify("S2A_MSIL2A_20180101"))},
        "QualityClass": lambda w: {"name": "cloud", "value": 3},
        "Sensor": sensor,
        "get_sensor": lambda w: {"name": "sentinel-2"},
        "identify": lambda w: {"text": "S2A_MSIL2A_20180101"},
        "read_sensor": lambda w: {"path": toml()},
        "register_sensor": lambda w: {"sensor": timo.sensors.read_sensor(toml())},
    },
)


def toml() -> Path:
    """An own sensor in a file."""
    text = """
    name = "drone"
    scale = 0.0001
    [[bands]]
    name = "red"
    wavelength = 0.66
    gsd = 1.0
    """
    path = WORLD.folder / "drone.toml"
    path.write_text(text)
    return path


methods(
    "timo.sensors.Collection",
    lambda w: timo.sensors.get_sensor("sentinel-2").collections[0],
    {"name": lambda w: {"band": "B4"}},
)
methods(
    "timo.sensors.Identity",
    lambda w: timo.sensors.identify("S2A_MSIL2A_20180101"),
    {"fits": lambda w: {"sensor": timo.sensors.get_sensor("sentinel-2")}},
)
methods(
    "timo.sensors.QualityClass",
    lambda w: timo.sensors.get_sensor("sentinel-2").quality[0],
    {"of": lambda w: {"quality": np.arange(4)}},
)
methods(
    "timo.sensors.Sensor",
    lambda w: timo.sensors.get_sensor("sentinel-2"),
    {
        "band": lambda w: {"name": "B4"},
        "band_origin": lambda w: {"name": "B4"},
        "collection": lambda w: {"provider": "earthengine"},
        "credit": lambda w: {"years": "2018"},
        "flagged": lambda w: {"quality": np.arange(4), "classes": (3,)},
        "kind_of": lambda w: {"band": "B4"},
        "nodata_of": lambda w: {"band": "B4"},
        "physical": lambda w: {"numbers": np.arange(4)},
        "select": lambda w: {"names": ["B4"]},
        "wavelengths": lambda w: {"names": ["B4"]},
    },
)


def series() -> pd.DataFrame:
    """Two series of three dates, with all that a table of series may say."""
    columns = {"id": ["a"] * 3 + ["b"] * 3, "crop": ["soy"] * 3 + ["maize"] * 3, "farm": "one"}
    columns |= {"date": [*pd.date_range("2020-06-01", periods=3, freq="10D")] * 2, "fold": 1}
    return pd.DataFrame(columns | {"B4": 0.06, "B8": [0.3, 0.31, 0.32] * 2, "e": 15.0, "n": 45.0})


methods(
    "timo.Places",
    lambda w: timo.Places,
    {
        "from_series": lambda w: (
            {"table": series(), "id": "id", "time": "date", "bands": ["B4", "B8"], "label": "crop"}
            | {"group": "farm", "fold": "fold", "x": "e", "y": "n", "crs": 4326}
        )
    },
)
BOX = (22.14, 45.2, 22.141, 45.201)


def request() -> Any:
    """A request of a hectare."""
    from timo.sources.request import make_request

    return make_request(BOX, "2018", "2018", bands=["B4"])


def tiff(w: World) -> Path:
    """A GeoTIFF of one date."""
    path = w.folder / "S2_20180501.tif"
    if not path.exists():
        data = w.cube.isel(time=0, drop=True).rename(band="band")
        data.to_dataset("band").rio.to_raster(path)
    return path


CLOSED = "http://127.0.0.1:9"
simple(
    "timo.sources",
    {
        "Area": lambda w: {"geometry": shapely.box(*BOX)},
        "CubeRequest": lambda w: {**vars(request())},
        "PixelGrid": lambda w: {
            "crs": "EPSG:32634",
            "left": 0.0,
            "top": 100.0,
            "resolution": 10.0,
            "height": 10,
            "width": 10,
        },
        "from_ee_image_collection": lambda w: {"images": None},
        "open_sample": lambda w: {"start": "2018-07", "end": "2018-07"},
        "parse_aoi": lambda w: {"aoi": BOX},
        "sample_tree_cover": lambda w: {},
    },
)
methods(
    "timo.sources.CubeRequest",
    lambda w: request(),
    {
        "solar_day": lambda w: {"times": pd.DatetimeIndex(["2018-01-01"])},
        "utc": lambda w: {"instant": pd.Timestamp("2018-01-01")},
    },
)
methods(
    "timo.sources.PixelGrid",
    lambda w: request().grid,
    {
        "mask_of": lambda w: {"area": timo.sources.parse_aoi(BOX)},
        "pad": lambda w: {"cells": 2},
        "window": lambda w: {"rows": slice(0, 2), "columns": slice(0, 2)},
    },
)


def cache() -> Any:
    """A cache of its own."""
    from timo.sources.cache import ChunkCache

    return ChunkCache(WORLD.folder / "cache", limit_bytes=10**6)


KEY = "0123456789abcdef"
LAYOUT = {"key": KEY, "shape": (4, 4), "chunks": (2, 2)}
simple(
    "timo.sources.cache",
    {
        "ArrayInfo": lambda w: {
            "key": KEY,
            "path": w.folder,
            "bytes": 1,
            "chunks": 1,
            "last_use": 1.0,
            "request": {},
        },
        "CacheInfo": lambda w: {"folder": w.folder, "limit_bytes": 1, "arrays": ()},
        "CachedArray": lambda w: {"cache": cache(), **LAYOUT, "dtype": "<f4", "metadata": {}},
        "ChunkCache": lambda w: {"folder": w.folder / "cache"},
        "default_folder": lambda w: {},
    },
)
methods(
    "timo.sources.cache.CachedArray",
    lambda w: cache().array(**LAYOUT),
    {
        "extent": lambda w: {"index": (0, 0)},
        "read": lambda w: {"index": (0, 0)},
        "write": lambda w: {"index": (0, 0), "values": np.zeros((2, 2), "float32")},
    },
)
methods(
    "timo.sources.cache.ChunkCache",
    lambda w: cache(),
    {
        "array": lambda w: LAYOUT,
        "clear": lambda w: {"older_than": dt.timedelta(days=1)},
        "count": lambda w: {"written": 1},
        "remove": lambda w: {"path": cache().array(**LAYOUT).path},
        "warn": lambda w: {"error": OSError(28, "No space left on device")},
    },
)
simple(
    "timo.sources.earthengine",
    {
        "Estimate": lambda w: {
            "images": 1,
            "dates": 1,
            "first": pd.Timestamp("2018-01-01"),
            "last": pd.Timestamp("2018-01-01"),
            "height": 1,
            "width": 1,
            "bands": 1,
            "requests": 1,
            "bytes": 1,
            "seconds": 1.0,
            "workers": 1,
        },
        "connect": lambda w: {"url": CLOSED},
        "estimate": lambda w: {"aoi": BOX, "start": "2018", "end": "2018", "url": CLOSED},
        "open_earthengine": lambda w: {"request": request(), "url": CLOSED},
    },
)
simple("timo.sources.files", {"open_files": lambda w: {"path": tiff(w), "sensor": "sentinel-2"}})
simple(
    "timo.sources.stac",
    {"open_stac": lambda w: {"request": request(), "catalog": f"{CLOSED}/stac", "timeout": 1}},
)
simple(
    "timo.training",
    {
        "ChipDataset": lambda w: {
            "cube": w.cube,
            "labels": w.labels,
            "length": 2,
            "options": chips(),
        },
        "ChipOptions": lambda w: {},
        "Finetuned": lambda w: {"history": pd.DataFrame(), "epoch": 0, "seconds": 1.0},
        "FittedHead": lambda w: {
            "features": timo.Features(w.model, w.cube),
            "history": pd.DataFrame(),
            "pixels": 1,
            "seconds": 1.0,
            "feature_seconds": 1.0,
        },
        "Optimisation": lambda w: {},
        "PretrainOptions": lambda w: {},
        "Pretrained": lambda w: {"model": w.model, "history": pd.DataFrame(), "seconds": 1.0},
        "WindowOptions": lambda w: {},
        "Windows": lambda w: {"places": places(w), "length": 2, "options": chips()},
        "labels_in_time": lambda w: {"labels": w.labels, "cube": w.cube, "year": 2018},
    },
)


def chips() -> Any:
    """Options of small chips."""
    from timo.training import ChipOptions

    return ChipOptions(size=8, dates=(1, 2))


methods(
    "timo.training.ChipDataset",
    lambda w: timo.training.ChipDataset(w.cube, w.labels, 2, chips()),
    {
        "corner": lambda w: {"index": 0},
        "lengths": lambda w: {"index": 0},
        "place": lambda w: {"index": 0},
        "within": lambda w: {"area": w.split == 0, "length": 2, "options": chips()},
    },
)
methods(
    "timo.training.PretrainOptions",
    lambda w: timo.training.PretrainOptions(),
    {"rate": lambda w: {"step": 1, "steps": 10, "default": 0.001}},
)


def chip(w: World) -> Any:
    """One chip."""
    return timo.training.ChipDataset(w.cube, w.labels, 2, chips())[0]


simple(
    "timo.places",
    {
        "ChipStore": lambda w: {"path": w.store},
        "Damage": lambda w: {"place": 0, "what": "a chunk is lost"},
        "LabelReport": lambda w: {"text": "2 features of fields.gpkg"},
        "PackOptions": lambda w: {},
        "Packed": lambda w: {"written": 1, "already": 0, "unclear": 0, "excluded": 0},
        "Split": lambda w: {"parts": [0, 1, w.split], "block_m": 80.0},
        "pack": lambda w: {"cubes": [w.cube], "path": stored("packed.zarr"), "size": 8},
        "verify": lambda w: {"path": w.store},
    },
)
methods(
    "timo.places.ChipStore",
    lambda w: importlib.import_module("timo.places").ChipStore(w.store),
    {
        "bounds": lambda w: {"place": 0},
        "clear": lambda w: {"place": 0},
        "crs": lambda w: {"place": 0},
        "cube": lambda w: {"place": 0},
        "dates": lambda w: {"place": 0},
        "read": lambda w: {"place": 0},
    },
)
methods(
    "timo.places.Split",
    lambda w: importlib.import_module("timo.places").Split([0, 2]),
    {"part": lambda w: {"index": 0}},
)


def places(w: World) -> Any:
    """Three places, of which two are of one group."""
    pairs = [(w.cube, w.labels)] * 3
    return timo.Places(pairs, groups=["a", "a", "b"], folds=[1, 1, 2])


methods(
    "timo.Places",
    places,
    {
        "counts_of": lambda w: {"index": 0},
        "digest": lambda w: {"numbers": 0},
        "folds": lambda w: {"by": "fold"},
        "from_folder": lambda w: {"folder": w.tables, "cube": "{name}.nc", "label": "kind"},
        "from_store": lambda w: {"path": w.store},
        "group_names": lambda w: {"index": 0},
        "load": lambda w: {},
        "open": lambda w: {"index": 0},
        "pack": lambda w: {"path": stored("places.zarr")},
        "split": lambda w: {"by": "fold", "fold": 2},
        "view": lambda w: {"index": 0},
    },
)
methods(
    "timo.training.Windows",
    lambda w: timo.training.Windows(places(w), 2, chips()),
    {name: lambda w: {"index": 0} for name in ("corner", "lengths", "place")},
)
simple(
    "timo.training.pretraining",
    {
        "MaskedChips": lambda w: masked_arguments(w),  # noqa: PLW0108 - defined below
        "WindowDataset": lambda w: {
            "series": [w.cube],
            "areas": [np.ones((16, 16), bool)],
            "length": 2,
        },
        "autoencoder_config": lambda w: {"size": "tiny", "bands": BANDS, "sensor": "sentinel-2"},
        "new_autoencoder": lambda w: {"config": masked_config(w)},
        "picture": lambda w: {"model": masked(w), "chip": masked_chips(w)[0, 0]},
    },
)


def masks() -> Any:
    """How much is hidden."""
    from timo.models.masking import MaskOptions

    return MaskOptions()


def window_options() -> Any:
    """Options of small chips without labels."""
    from timo.training import WindowOptions

    return WindowOptions(size=8, dates=(1, 2))


def windows(w: World) -> Any:
    """Windows of the cube."""
    from timo.training import WindowOptions, Windows

    options = WindowOptions(size=16, dates=(2, 2))
    return Windows(timo.Places([w.cube]), 2, options, labelled=False)


def masked_arguments(w: World) -> dict[str, Any]:
    """Windows, and how much of them is hidden."""
    return {"chips": windows(w), "masks": masks(), "unit": 8, "seed": 0}


def masked_chips(w: World) -> Any:
    """Windows with masks."""
    return importlib.import_module("timo.training.pretraining").MaskedChips(**masked_arguments(w))


def masked_config(w: World) -> Any:
    """A small autoencoder's configuration."""
    from timo.models.mim import MaskedConfig

    held = importlib.import_module("timo.training.pretraining").autoencoder_config(
        "tiny", BANDS, "sentinel-2"
    )
    assert isinstance(held, MaskedConfig)
    return held


def masked(w: World) -> Any:
    """A small autoencoder."""
    return importlib.import_module("timo.training.pretraining").new_autoencoder(masked_config(w))


def first(w: World) -> Any:
    """A place, a tile of it and a window, as features of a cube have them."""
    features = timo.Features(w.model, w.cube)
    tile = features.tiles[0]
    return tile.place, tile, tile.windows[0]


def shapes(w: World) -> Any:
    """Labels of two classes, one shape drawn."""
    from timo_widgets import LabelStore

    store = LabelStore(w.cube, ["forest", "other"])
    store.paint(2, 2, "forest")
    return store


def polygon(w: World) -> dict[str, Any]:
    """A square in degrees."""
    left, bottom, right, top = w.cube.rio.transform_bounds(4326)
    x, y = (left + right) / 2, (bottom + top) / 2
    return shapely.geometry.mapping(shapely.box(x - 3e-4, y - 3e-4, x + 3e-4, y + 3e-4))


def widget(name: str) -> Callable[[World], Any]:
    """One panel for all calls of its methods."""

    @functools.cache
    def make() -> Any:
        kind = getattr(importlib.import_module("timo_widgets"), name)
        return kind(**WIDGETS[name](WORLD))

    return lambda _: make()


WIDGETS: dict[str, Callable[[World], dict[str, Any]]] = {
    "AOIPicker": lambda w: {},
    "AttentionInspector": lambda w: {"model": w.model, "cube": w.cube},
    "CubeExplorer": lambda w: {"cube": w.cube},
    "LabelStore": lambda w: {"cube": w.cube, "classes": ["forest", "other"]},
    "Labeler": lambda w: {"cube": w.cube, "classes": ["forest", "other"]},
    "MapView": lambda w: {"result": w.result, "cube": w.cube, "loss": w.loss},
    "MapWithPicture": lambda w: {
        "layers": {"labels": timo_colour(w)},
        "picture": mpl.figure.Figure(),
    },
    "RasterMap": lambda w: {"like": w.cube},
    "Runner": lambda w: {"cube": w.cube, "labels": w.labels},
    "SeriesChart": lambda w: {"title": "NDVI"},
    "State": lambda w: {"cube": w.cube},
    "Workbench": lambda w: {"cube": w.cube},
}


def timo_colour(w: World) -> Any:
    """Labels in colours."""
    from timo_widgets import colour

    return colour(w.labels, {0: "green", 1: "orange"})


simple(
    "timo_widgets",
    {
        **WIDGETS,
        "class_colours": lambda w: {"n": 3},
        "colour": lambda w: {"values": w.labels, "palette": {0: "green", 1: "orange"}},
        "export_notebook": lambda w: {"state": w.state, "path": stored("exported.ipynb")},
        "image_overlay": lambda w: {"image": timo_colour(w), "name": "labels"},
        "photograph": lambda w: {"rgb": timo.cube.true_colour(w.cube).isel(time=0)},
        "pixel_series": lambda w: {"cube": w.cube, "pixels": [(1, 2)]},
    },
)
methods(
    "timo_widgets.AOIPicker",
    widget("AOIPicker"),
    {"set_area": lambda w: {"aoi": BOX}, "wait": lambda w: {"seconds": 1}},
)
methods(
    "timo_widgets.AttentionInspector",
    widget("AttentionInspector"),
    {"wait": lambda w: {"timeout": 1}},
)
methods(
    "timo_widgets.CubeExplorer",
    widget("CubeExplorer"),
    {"save_series": lambda w: {"path": stored("series.csv")}, "wait": lambda w: {"seconds": 1}},
)
STROKE = {"path": [(1, 1), (2, 2)]}
methods(
    "timo_widgets.LabelStore",
    shapes,
    {
        "add": lambda w: {"shape": polygon(w), "name": "forest"},
        "add_class": lambda w: {"name": "water"},
        "adopt": lambda w: {"labels": w.labels},
        "change": lambda w: {"number": 1, "name": "other"},
        "code_of": lambda w: {"name": "forest"},
        "delete": lambda w: {"number": 1},
        "erase": lambda w: {"row": 2, "column": 2},
        "erase_along": lambda w: STROKE,
        "label": lambda w: {"number": 1},
        "paint": lambda w: {"row": 3, "column": 3, "name": "other"},
        "paint_along": lambda w: {**STROKE, "name": "other"},
        "plane": lambda w: {"date": 0},
        "rename_class": lambda w: {"old": "other", "new": "open land"},
        "replace_all": lambda w: {"classes": ["forest", "other"], "labels": [shapes(w).label(1)]},
        "take_sheet": lambda w: {"sheet": shapes(w).sheet},
    },
)
methods("timo_widgets.MapView", widget("MapView"), {"wait": lambda w: {"timeout": 1}})
methods(
    "timo_widgets.RasterMap",
    widget("RasterMap"),
    {
        "enable_drawing": lambda w: {"kinds": ["polygon"], "callback": print},
        "hide": lambda w: {"name": "picture"},
        "latlon_of": lambda w: {"row": 1.0, "column": 2.0},
        "lattice": lambda w: {},
        "mark": lambda w: {"marks": [(1, 1, "#E69F00", "a")]},
        "on_click": lambda w: {"callback": print},
        "picture": lambda w: {},
        "pixel_of": lambda w: {"latitude": 45.0, "longitude": 22.0},
        "set_opacity": lambda w: {"name": "picture", "value": 0.5},
        "show": lambda w: {"name": "picture", "rgba": np.zeros((16, 16, 4), "uint8")},
        "turned": lambda w: {"geometry": shapely.Point(22, 45)},
    },
)
methods("timo_widgets.Runner", widget("Runner"), {"wait": lambda w: {"seconds": 1}})
methods(
    "timo_widgets.SeriesChart",
    widget("SeriesChart"),
    {
        "plot": lambda w: {"axes": mpl.figure.Figure().subplots()},
        "show": lambda w: {
            "series": [{"name": "NDVI", "values": [0.1, 0.2]}],
            "dates": ["2018-01-01", "2018-02-01"],
        },
    },
)
methods(
    "timo_widgets.State",
    lambda w: w.state,
    {
        "echo": lambda w: {"line": "x = 1"},
        "echo_setting": lambda w: {"widget": "w", "setting": "a = 1", "control": "c"},
        "look_at": lambda w: {"row": 1, "column": 1},
    },
)
methods("timo_widgets.Workbench", widget("Workbench"), {"show": lambda w: {"title": "Label"}})


# Arguments that fit no function, or some: one at a time takes the place of a valid one.
ODD: dict[str, Callable[[World], Any]] = {
    "None": lambda w: None,
    "True": lambda w: True,
    "np.False_": lambda w: np.bool_(False),
    "0": lambda w: 0,
    "-1": lambda w: -1,
    "3": lambda w: 3,
    "np.int64(3)": lambda w: np.int64(3),
    "10**25": lambda w: 10**25,
    "0.5": lambda w: 0.5,
    "-2.5": lambda w: -2.5,
    "np.float32(0.5)": lambda w: np.float32(0.5),
    "nan": lambda w: float("nan"),
    "inf": lambda w: float("inf"),
    "1j": lambda w: 1j,
    "''": lambda w: "",
    "'3'": lambda w: "3",
    "'some words'": lambda w: "some words",
    "b'bytes'": lambda w: b"bytes",
    "[]": lambda w: [],
    "[None]": lambda w: [None],
    "[nan, 1]": lambda w: [float("nan"), 1],
    "['B4', 'B4']": lambda w: ["B4", "B4"],
    "(1, 2)": lambda w: (1, 2),
    "{}": lambda w: {},
    "{'a': 1}": lambda w: {"a": 1},
    "{1, 'a'}": lambda w: {1, "a"},
    "generator": lambda w: (one for one in (1, "a")),
    "object()": lambda w: object(),
    "int": lambda w: int,
    "lambda": lambda w: lambda: 1 / 0,
    "datetime": lambda w: dt.datetime(2018, 5, 1, tzinfo=dt.UTC),
    "Timestamp": lambda w: pd.Timestamp("2018-05-01"),
    "NaT": lambda w: pd.NaT,
    "np.datetime64": lambda w: np.datetime64("2018-05-01"),
    "Path": lambda w: Path("/nowhere/at/all.tif"),
    "array(3)": lambda w: np.array(3),
    "array, empty": lambda w: np.array([]),
    "array, nan": lambda w: np.full((3, 3), np.nan),
    "array, objects": lambda w: np.array([[None, "a"]], dtype=object),
    "array, strings": lambda w: np.array(["a", "b"]),
    "array, five dims": lambda w: np.zeros((1, 1, 2, 2, 2)),
    "array, complex": lambda w: np.zeros((2, 2), complex),
    "Series": lambda w: pd.Series([1.0, np.nan], index=["a", "b"]),
    "DataFrame, empty": lambda w: pd.DataFrame(),
    "DataFrame": lambda w: pd.DataFrame({"a": [1, None], "b": ["x", None]}),
    "DatetimeIndex, empty": lambda w: pd.DatetimeIndex([]),
    "tensor": lambda w: torch.zeros(2, 3),
    "Linear": lambda w: torch.nn.Linear(2, 2),
    "Point": lambda w: shapely.Point(1, np.inf),
    "Dataset, empty": lambda w: xr.Dataset(),
    "Dataset": lambda w: w.result,
    "cube": lambda w: w.cube,
    "cube, lazy": lambda w: w.cube.chunk(time=1, x=4),
    "cube, transposed": lambda w: w.cube.transpose("y", "x", "band", "time"),
    "cube, no dates": lambda w: w.cube.isel(time=slice(0)),
    "cube, no rows": lambda w: w.cube.isel(y=slice(0)),
    "cube, one cell": lambda w: w.cube.isel(y=[0], x=[0]),
    "cube, all gaps": lambda w: w.cube.where(False),
    "cube, infinite": lambda w: w.cube.fillna(np.inf),
    "cube, whole numbers": lambda w: (w.cube.fillna(0) * 10_000).astype("int16"),
    "cube, strings": lambda w: w.cube.astype(str),
    "cube, objects": lambda w: w.cube.astype(object),
    "cube, complex": lambda w: w.cube.astype(complex),
    "cube, no coordinates": lambda w: xr.DataArray(w.cube.to_numpy(), dims=w.cube.dims),
    "cube, no CRS": lambda w: w.cube.drop_vars("spatial_ref"),
    "cube, no sensor": lambda w: w.cube.assign_attrs(sensor=None),
    "cube, text dates": lambda w: w.cube.assign_coords(time=["a", "b", "c", "d"]),
    "cube, dates twice": lambda w: w.cube.isel(time=[0, 0, 1]),
    "cube, bands twice": lambda w: w.cube.isel(band=[0, 0, 1]),
    "cube, uneven": lambda w: w.cube.isel(x=[0, 1, 5]),
    "cube, NaN coordinates": lambda w: w.cube.assign_coords(x=np.full(16, np.nan)),
    "cube, one date": lambda w: w.cube.isel(time=0),
    "labels": lambda w: w.labels,
    "labels, floats": lambda w: w.labels.astype(float),
    "labels, NaN": lambda w: w.labels.where(w.labels > 0),
    "labels, huge": lambda w: w.labels.astype("int64") + 2**40,
    "labels, negative": lambda w: -5 - w.labels,
    "labels, booleans": lambda w: w.labels > 0,
    "labels, unlabelled": lambda w: w.labels * 0 - 1,
    "labels, strings": lambda w: w.labels.astype(str),
    "labels, elsewhere": lambda w: w.labels.assign_coords(x=w.labels.x + 5000),
    "field, no CRS": lambda w: w.field.drop_vars("spatial_ref"),
    "field, infinite": lambda w: w.field.where(w.field < 0, np.inf),
    "field, constant": lambda w: w.field * 0,
    "probability": lambda w: w.result.probability,
    "DataArray, scalar": lambda w: xr.DataArray(3.0),
    "DataArray, line": lambda w: xr.DataArray(np.arange(3.0), dims="x"),
    "points": lambda w: w.points,
    "points, empty": lambda w: w.points.isel(point=slice(0)),
    "points, all gaps": lambda w: w.points.where(False),
    "model": lambda w: w.model,
    "options": lambda w: chips(),
    "sensor": lambda w: timo.sensors.get_sensor("landsat-8-9"),
}
# Valid numbers of these start processes, each of which would go through the table again.
PROCESSES = {("timo.pretrain", option) for option in ("workers", "num_nodes", "devices")}
# Waits for a service; the refusals before that are what is looked at.
SLOW = {"timo.sources.stac.open_stac"}
# Of the processor, for one call: as long as an option of any size that is not refused may take on this small world.
LONG_S = 10


def probe(name: str, changes: dict[str, Any]) -> str | None:
    """Call a function with other arguments; return where it ended in anything but a result or a `TimoError`."""
    with limited(LONG_S):
        return _probe(name, changes)
    return f"more than {LONG_S} s of computing"


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """End the block quietly after seconds of the processor."""

    def end(*_: Any) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with contextlib.suppress(TooLongError):
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class TooLongError(BaseException):
    """A call that does not end; not an `Exception`, which a function might catch."""


def _probe(name: str, changes: dict[str, Any]) -> str | None:
    function, arguments = CALLS[name](WORLD)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            function(**{**arguments, **changes})
        except TimoError as error:
            text = str(error)
            if len(text.split()) < 4 or " object at 0x" in text:
                return f"a message that does not help: {text!r}"
        except Exception as error:  # noqa: BLE001 - what is looked for
            deepest = traceback.extract_tb(error.__traceback__)[-3:]
            if isinstance(error, TypeCheckError) or any("jaxtyping" in f.filename for f in deepest):
                # The tests of the models install a checker of shapes, which stands before the checks of timo.
                return None
            ours = [
                f for f in traceback.extract_tb(error.__traceback__) if "/tests/" not in f.filename
            ]
            frames = [
                f for f in ours if f"{os.sep}timo" in f.filename or f"{os.sep}widgets" in f.filename
            ]
            last = (frames or ours or traceback.extract_tb(error.__traceback__))[-1]
            place = f"{Path(last.filename).name}:{last.lineno}"
            return f"{type(error).__name__} at {place}: {str(error)[:100]}"
    return None


def options_of(name: str) -> list[str]:
    """Parameters of a function of the table, those that it takes by position alone left out."""
    function, _ = CALLS[name](WORLD)
    kinds = inspect.Parameter
    found = [
        option
        for option, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    ]
    return [*found, "no_such_option"] if name not in SLOW else found


def is_tried(name: str, option: str, odd: str) -> bool:
    """Return whether an odd argument tells anything, and is safe to give."""
    if option == "no_such_option":
        return odd == "3"
    numbers = ("3", "np.int64(3)", "10**25", "array(3)", "DataArray, scalar")
    return (name, option) not in PROCESSES or odd not in numbers


def offline() -> None:
    """Let Earth Engine refuse at once, as without credentials, and work in a folder of its own: names are odd, too."""
    import ee

    os.chdir(WORLD.folder)

    def refuse(*_: Any, **__: Any) -> None:
        raise ee.EEException("Please authorize access to your Earth Engine account")

    ee.Initialize = refuse


def main(parts: list[str]) -> int:
    """Print the raw tracebacks of the functions whose names begin with one of the parts."""
    offline()
    calls_made = total = kinds = 0
    for name in CALLS:
        if parts and not any(name.startswith(part) for part in parts):
            continue
        began, found = time.process_time(), dict[str, list[str]]()
        if complaint := probe(name, {}):
            found[f"as it should be called: {complaint}"] = [""]
        for option in options_of(name):
            for odd, make in ODD.items():
                if not is_tried(name, option, odd):
                    continue
                calls_made += 1
                if complaint := probe(name, {option: make(WORLD)}):
                    kind, _, message = complaint.partition(": ")
                    found.setdefault(f"{option}=: {kind}", []).append(f"{odd} ({message[:50]})")
        for text, odds in found.items():
            sys.stdout.write(f"{name} {text}\n    {', '.join(odds)[:300]}\n")
        sys.stdout.write(f"{name}: {time.process_time() - began:.1f} s\n")
        sys.stdout.flush()
        kinds, total = kinds + len(found), total + sum(map(len, found.values()))
    sys.stdout.write(f"{calls_made} calls, {total} raw tracebacks, {kinds} kinds\n")
    return bool(total)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
