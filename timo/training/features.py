"""Features of a frozen encoder, computed once and kept: each map of what its head learns takes a moment."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from timo import cube as cubes
from timo.cancel import CancelledError, Stop, interruptible
from timo.checks import Count, Range, checked
from timo.compute import OnStep, Steps
from timo.errors import TimoError
from timo.mapping.predict import as_map
from timo.mapping.scoring import (
    Extent,
    Tiling,
    groups_of,
    readable,
    seen,
    seen_windows,
    tile_answers,
    tiles,
    window_of,
)
from timo.models.heads import SegmentationHead
from timo.models.tasks import TiMo
from timo.places.source import digest
from timo.sources.fetching import load
from timo.training.inputs import evaluating

# Parts of a segmentation head at full resolution: what learns on kept features. All before it is frozen.
FREE = ("detail", "details", "merge", "over_dates", "classifier")
# Features that take more are kept in half precision.
LARGE_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Window:
    """Features of a run of dates of a tile."""

    dates: np.ndarray  # positions in the cube
    frames: Tensor  # (f, d, i, j), of SegmentationHead.coarse: a frame is a date, or a date of one of several sensors


@dataclass(frozen=True, eq=False)
class Tile:
    """Features of a part of the cube."""

    place: Extent
    windows: list[Window]


class Features:
    """Features of a cube, from the encoder and the coarse part of the head, for `timo.fit_head` and for its maps.

    They are taken before the head goes over from tokens of 4 x 4 pixels to full resolution, so that they are small (the
    sample: 80 kB a date in each window that holds it; four times that with tokens of half the side), and serve every
    model, with any classes, whose encoder and coarse head have the same weights, and tokens of the same size: new
    labels need no new features.

    Parameters
    ----------
    model : TiMo
        A model that answers for pixels.
    cube : xarray.DataArray
        The cube, of one sensor or of several; it is loaded into memory.
    tile, halo, window, fill_gaps
        As `timo.predict` takes them.
    half : bool, optional
        Keep the features in half precision; by default where they take more than 1 GiB.
    stop : threading.Event or callable, optional
        Asked while the cube is loaded and before each layer.
    on_step : callable, optional
        Is given a `timo.compute.StepReport` after each window of dates.

    Attributes
    ----------
    cube : xarray.DataArray
        The cube with the bands of the model, in memory.
    groups : tuple of int
        How many of the bands belong to each sensor.

    Raises
    ------
    TimoError
        If cube and model do not fit each other, a band has no observation at all, or an option makes no sense.
    CancelledError
        If `stop` said so.
    """

    @checked
    def __init__(
        self,
        model: TiMo,
        cube: xr.DataArray,
        *,
        tile: Count = 128,
        halo: Annotated[int, Range(least=0)] = 32,
        window: Count | None = None,
        fill_gaps: bool = False,
        half: bool | None = None,
        stop: Stop | None = None,
        on_step: OnStep | None = None,
    ) -> None:
        head_of(model)
        self.tiling = Tiling(tile, halo, window_of(model.config, window), fill_gaps)
        self.groups = groups_of(model.config)
        self._graph = _graph(readable(model, cube))
        # Once more: the values of a lazy cube are looked at in memory.
        self.cube = readable(model, load(readable(model, cube), stop))
        self._digest, self._values = frozen_digest(model), digest(self.cube)
        places = list(
            chain.from_iterable(tiles(self.cube.sizes["y"], self.cube.sizes["x"], self.tiling))
        )
        plan = [(p, seen_windows(self.values(p), self.tiling, self.groups)) for p in places]
        if half is None:
            half = sum(_size(model, p, runs) for p, runs in plan) > LARGE_BYTES
        steps = Steps(on_step)
        steps.begin(sum(len(runs) for _, runs in plan))
        self.tiles: list[Tile] = []
        with _answering(model, stop):
            for place, runs in plan:
                self.tiles.append(Tile(place, []))
                for run in runs:
                    self.tiles[-1].windows.append(self._window(model, place, run, half))
                    steps.step()

    @property
    def nbytes(self) -> int:
        """Memory that the features take, without the cube."""
        every = chain.from_iterable(tile.windows for tile in self.tiles)
        return sum(window.frames.nbytes for window in every)

    @property
    def observed(self) -> np.ndarray:
        """Where each date has an observation, of any sensor: (t h w)."""
        return seen(self.cube.values, self.groups)

    @checked
    def values(self, place: Extent) -> np.ndarray:
        """Return the values of the cube (t, c, h, w) that a tile sees."""
        return self.cube.values[:, :, place.rows, place.columns]

    @checked
    def check(self, model: TiMo, cube: xr.DataArray | None = None) -> None:
        """Raise a `TimoError` if these are not the features of a model, or not those of a cube.

        A model fits whose encoder, and coarse part of the head, have the same weights, and tokens of the same size; a
        cube, whose values are the same at the same dates and places. One that is lazy is read for that, unless it is
        the same graph of Dask.
        """
        if frozen_digest(model) != self._digest:
            raise TimoError(
                "These features are of another model: its encoder, or its head below the full resolution, has other "
                "weights, or tokens of another size. Recompute them: timo.Features(model, cube)."
            )
        if cube is None:
            return
        cube = readable(model, cube)
        differ = [str(d) for d in cube.dims if not np.array_equal(self.cube[d], cube[d])]
        if not differ and (self._graph is None or self._graph != _graph(cube)):
            differ = [] if digest(load(cube, None)) == self._values else ["values"]
        if differ:
            raise TimoError(
                f"These features are of another cube, its {' and '.join(differ)} differ. Leave features out, or "
                "recompute them: timo.Features(model, cube)."
            )

    @checked
    def inputs(self, model: TiMo, tile: Tile, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the full-resolution part of the head reads.

        Frames, image (1 t c h w), validity (1 t h w), or (1 t g h w) of several sensors.
        """
        x = np.ascontiguousarray(self.values(tile.place)[window.dates])
        return window.frames.float(), *model.normalise(torch.from_numpy(x)[None])

    @checked
    def predict(self, model: TiMo, *, stop: Stop | None = None) -> xr.Dataset:
        """Return the map of a model, in memory, without running its encoder.

        Probabilities are those of ``timo.predict`` with the same options up to rounding: 1e-5, or 1e-3 where the
        features are kept in half precision.

        Parameters
        ----------
        model : TiMo
            A model on the CPU, of which nothing has learnt since but the full-resolution part of its head, and its path
            of single pixels.
        stop : threading.Event or callable, optional
            Asked before each layer.

        Raises
        ------
        TimoError
            If the features are of another model.
        CancelledError
            If `stop` said so.
        """
        self.check(model)
        dates = (self.cube.sizes["time"],) if model.config.per_date else ()
        shape = (model.config.outputs, *dates, *self.cube.shape[-2:])
        data = np.empty(shape, "float32")
        with _answering(model, stop):
            for tile in self.tiles:
                scored = ((w.dates, self._scores(model, tile, w)) for w in tile.windows)
                values, place = self.values(tile.place), tile.place
                data[(..., *place.inner)] = tile_answers(
                    scored, model, values, place.crop, self.tiling
                )
        return as_map(data, model, self.cube, self.tiling)

    @checked
    def days(self, window: Window) -> Tensor:
        """Return the dates of a window in days since 1970-01-01, (1 t)."""
        return torch.from_numpy(cubes.days_since_epoch(self.cube.time)[window.dates])[None]

    def _scores(self, model: TiMo, tile: Tile, window: Window) -> Tensor:
        scores = head_of(model).finish(*self.inputs(model, tile, window))
        x = torch.from_numpy(np.ascontiguousarray(self.values(tile.place)[window.dates]))[None]
        return model.with_pixels(scores, x, self.days(window))[0]

    def _window(self, model: TiMo, place: Extent, run: np.ndarray, half: bool) -> Window:
        x = torch.from_numpy(np.ascontiguousarray(self.values(place)[run]))[None]
        dates = torch.from_numpy(cubes.days_since_epoch(self.cube.time)[run])[None]
        image, valid = model.normalise(x)
        frames = head_of(model).coarse(model.encoder(image, dates.to(x), valid))
        return Window(run, frames.half() if half else frames)


def head_of(model: TiMo) -> SegmentationHead:
    """Return the head of a model that answers for pixels."""
    if not isinstance(model.head, SegmentationHead) or model.config.unit != "pixel":
        raise TimoError(
            f"Features are of a model that answers for pixels; this one is for {model.config.task} of "
            f'{model.config.unit}s. Use timo.load_model(..., task="segmentation"), or timo.finetune.'
        )
    return model.head


def _graph(cube: xr.DataArray) -> str | None:
    """Return the name of the graph of a lazy cube, which is that of its values; None in memory."""
    return str(cube.data.name) if cube.chunks is not None else None


def frozen_digest(model: TiMo) -> str:
    """Return a short name for all on which the features depend: weights, normalisation, and the size of a token."""
    config = model.config
    hashed = hashlib.sha256(
        repr((config.bands, config.mean, config.std, config.encoder.token)).encode()
    )
    free = ("pixel.", *(f"head.{part}." for part in FREE))
    for name, weight in model.state_dict().items():
        if not name.startswith(free):
            hashed.update(name.encode())
            hashed.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def _size(model: TiMo, place: Extent, runs: list[np.ndarray]) -> int:
    """Return the bytes of the features of a tile in single precision."""
    config = model.config
    channels = 2 * config.detail or config.head_width
    token = config.encoder.token
    rows = -(-(place.rows.stop - place.rows.start) // token)
    columns = -(-(place.columns.stop - place.columns.start) // token)
    return 4 * channels * rows * columns * sum(len(run) for run in runs)


@contextmanager
def _answering(model: TiMo, stop: Stop | None) -> Iterator[None]:
    try:
        with evaluating(model), torch.no_grad(), interruptible(model, stop):
            yield
    except CancelledError:
        raise CancelledError("Stopped by the user; no features or map were kept.") from None
