"""Places in a store: how they are written, and how training reads them."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.checks import PathLike
from timo.compute import Steps
from timo.errors import TimoError
from timo.places.base import BasePlaces, count_labels
from timo.places.chip import Chip
from timo.places.packed.layout import Layout, place_key
from timo.places.packed.packing import scaling
from timo.places.packed.scene import quantise
from timo.places.packed.store import ChipStore, days
from timo.places.packed.writer import Row, StoreWriter
from timo.places.source import Head, Source
from timo.places.view import cut_labels, labels_of

# Numbers of pixels that labels may have beside them.
_COORDINATES = ("feature", "group")


def pack_places(
    places: BasePlaces,
    path: PathLike,
    *,
    dtype: Literal["int16", "float32"],
    scale: float | None,
    shard_bytes: int,
    steps: Steps,
) -> None:
    """Write places into a store, see `timo.Places.pack`."""
    layout = _layout(places, dtype, scale).with_shards_of(shard_bytes)
    groups: dict[str, int] = {}
    with StoreWriter(path, layout).open() as writer:
        groups.update({name: number for number, name in enumerate(writer.state.groups)})
        steps.begin(len(places))
        for number in range(len(places)):
            # The digest reads what is in memory alone: of files it is their state.
            key = place_key([places.names[number], places.digest(number)])
            if key not in writer.keys:
                writer.keys.add(key)
                writer.add(_row(places, number, key, writer.layout, groups))
                writer.name_groups(tuple(groups))
            steps.step()
        steps.close()


def _layout(places: BasePlaces, dtype: Literal["int16", "float32"], scale: float | None) -> Layout:
    """Find what all places have in common; each is opened for its size, and not read."""
    head, sizes, held = places.head, [], set()
    for number in range(len(places)):
        cube, labels = places.open(number)
        units = str(cube.attrs.get("units", ""))
        highest = 0
        if labels is not None:
            held |= {name for name in _COORDINATES if name in labels.coords}
            highest = 0 if head.numeric or head.classes else int(labels.max())
        sizes.append((max(cube.shape[2:]), cube.sizes["time"], highest))
    size, dates, highest = (max(column) for column in zip(*sizes, strict=True))
    groups, _ = head.band_groups()
    scales = (1.0, 0.0, 0)
    if dtype == "int16":
        scales = scaling(head.sensor, head.bands, scale, None)
    return Layout(
        head.bands,
        size,
        dates,
        head.sensor,
        dtype,
        scale=scales[0],
        offset=scales[1],
        shift=scales[2],
        units=units,
        groups=groups if len(groups) > 1 else (),
        named=True,
        labels=head.labels,
        classes=head.classes,
        counted=len(head.classes) or highest + 1,
        numeric=head.numeric,
        target=head.target,
        target_units=head.units,
        coordinates=tuple(name for name in _COORDINATES if name in held),
        text=max(len(text) for text in _texts(places)),
        codec="lz4",
    )


def _texts(places: BasePlaces) -> Iterable[bytes]:
    """Return names, groups and folds, as they are stored."""
    for number in range(len(places)):
        yield from _text(places, number).values()


def _text(places: BasePlaces, number: int) -> dict[str, bytes]:
    group = "" if places.groups is None else places.groups[number]
    fold = None if places.fold_numbers is None else places.fold_numbers[number]
    given = {"name": str(places.names[number]), "group_of_place": group, "fold": json.dumps(fold)}
    return {name: text.encode() for name, text in given.items()}


def _row(places: BasePlaces, number: int, key: int, layout: Layout, groups: dict[str, int]) -> Row:
    cube, labels = places.open(number)
    stored, valid = _values(cube, layout)
    height, width = cube.shape[2:]
    seconds = cube.time.values.astype("datetime64[s]").astype("int64")
    (left, cell), (top, down) = _axis(cube, "x"), _axis(cube, "y")
    more: dict[str, Any] = {
        "seconds": seconds % 86400,
        "down": down,
        "rows": height,
        "columns": width,
    }
    for name, text in _text(places, number).items():
        more[name] = np.frombuffer(text, "uint8")
    if layout.labels is not None:
        more |= _labels(labels, layout, groups)
    crs = cube.rio.crs
    return Row(
        stored=stored,
        valid=valid,
        days=(seconds // 86400).astype("int32"),
        crs=f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else crs.to_wkt(),
        left=left,
        top=top,
        cell=cell,
        key=key,
        more=more,
    )


def _values(cube: xr.DataArray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return stored values and what is valid, at the size of the store."""
    stored = np.full((cube.sizes["time"], *layout.chunk), layout.nodata, layout.dtype)
    valid = np.zeros(layout.sharded["valid"].shape, bool)
    rows, columns = slice(0, cube.sizes["y"]), slice(0, cube.sizes["x"])
    # One date after another: quantising takes several times the memory of what it is given.
    for date, values in enumerate(cubes.check(cube.compute()).values):
        one, seen, _ = quantise(values[None], layout)
        stored[date, :, rows, columns], valid[date, ..., rows, columns] = one[0], seen[0]
    return stored, valid


def _axis(cube: xr.DataArray, dim: str) -> tuple[float, float]:
    """Return where the first pixel begins, and the step to the next; a single pixel is as wide as the other way."""
    steps = {d: cubes.spacing(cube, d, "cube") for d in ("x", "y") if cube.sizes[d] > 1}
    # The neutral grid of a pixel of which nothing else is known.
    usual = next((abs(step) for step in steps.values()), 10.0)
    step = steps.get(dim, usual if dim == "x" else -usual)
    return float(cube[dim].values[0]) - step / 2, step


def _labels(labels: xr.DataArray | None, layout: Layout, groups: dict[str, int]) -> dict[str, Any]:
    """Return the labels of a place as arrays and columns of the layout; a place may have none."""
    values = None if labels is None else labels_of(labels)
    counts = count_labels(values)
    more: dict[str, Any] = {"counts": counts}
    assert layout.labels is not None
    if "y" not in layout.labels:
        return more | {
            "label": np.array(np.nan if layout.numeric else -1) if values is None else values
        }
    for name, array in layout.sharded.items():
        if name in ("x", "valid"):
            continue
        given = values if name == "labels" else _coordinate(labels, name, groups)
        dates = () if values is None or not array.dated else values.shape[:1]
        more[name] = np.full((*dates, *array.shape), array.fill, array.dtype)
        if given is not None:
            more[name][..., : given.shape[-2], : given.shape[-1]] = given
    return more


def _coordinate(
    labels: xr.DataArray | None, name: str, groups: dict[str, int]
) -> np.ndarray | None:
    if labels is None or name not in labels.coords:
        return None
    values = labels.coords[name].values
    names = labels.attrs.get("groups") if name == "group" else None
    if names is None:
        return values
    # Numbers of a place become those of the store: a name is one group wherever it is.
    known = np.array([groups.setdefault(str(one), len(groups)) for one in names] + [-1], "int32")
    return known[values]


class PackedSource(Source):
    """The places of a store."""

    packed = True

    def __init__(self, store: ChipStore) -> None:
        if not len(store):
            raise TimoError(f"the chip store '{store.path}' is empty: pack cubes into it")
        self.store = store
        self.has_groups = bool(store.layout.coordinates)

    def __len__(self) -> int:
        return len(self.store)

    @cached_property
    def names(self) -> Sequence[str]:  # type: ignore[override]
        """Name of each place; its number in a store of cubes."""
        return self._texts("name") if self.store.layout.named else list(map(str, range(len(self))))

    @cached_property
    def groups(self) -> Sequence[str] | None:  # type: ignore[override]
        """Group of each place."""
        groups = self._texts("group_of_place") if self.store.layout.named else []
        return groups if any(groups) else None

    @cached_property
    def folds(self) -> Sequence[int | str | None] | None:  # type: ignore[override]
        """Fold of each place."""
        folds = [json.loads(t) for t in self._texts("fold")] if self.store.layout.named else []
        return folds if any(fold is not None for fold in folds) else None

    def _texts(self, name: str) -> list[str]:
        rows = self.store.table[name]
        return [text.decode() for text in rows.view(f"S{rows.shape[1]}")[:, 0].tolist()]

    @cached_property
    def counts(self) -> np.ndarray | None:  # type: ignore[override]
        """Labelled pixels, (place, class)."""
        return self.store.table.get("counts")

    @cached_property
    def head(self) -> Head:
        """What all places have in common."""
        own = self.store.layout
        return Head(
            own.bands,
            own.sensor,
            own.classes,
            own.target,
            own.target_units,
            own.numeric,
            own.labels,
        )

    def open(self, number: int) -> tuple[xr.DataArray, xr.DataArray | None]:
        """Return cube and labels of a place, read whole."""
        layout, cube = self.store.layout, self.store.cube(number)
        view = self.view(number)
        if layout.labels is None:
            return cube, None
        grid = {n: cube.coords[n] for n in (*layout.labels, "spatial_ref") if n in cube.coords}
        given = {"feature": view.features, "group": view.own_groups}
        grid |= {n: (("y", "x"), a) for n, a in given.items() if a is not None}
        attrs: dict[str, Any] = {"classes": list(layout.classes)} if layout.classes else {}
        if layout.numeric:
            attrs = {"long_name": layout.target, "units": layout.target_units}
        if self.store.state.groups:
            attrs["groups"] = list(self.store.state.groups)
        return cube, xr.DataArray(view.labels, dims=layout.labels, coords=grid, attrs=attrs)

    def view(self, number: int) -> "StoreView":
        """Return a place as training reads it."""
        return StoreView(self.store, number)

    def group_names(self, number: int) -> Sequence[str] | None:  # noqa: ARG002 - of the interface
        """Return the names of the groups of the labels."""
        return self.store.state.groups or None

    def digest(self, number: int) -> Any:
        """Return what identifies a place; its bytes are not read, but what was summed of them."""
        table = self.store.table
        return [int(table[name][number]) for name in ("key", "crc")]


class StoreView:
    """A place of a store as training reads it (`timo.places.view.View`): chunk by chunk, nothing is kept."""

    in_memory = False

    def __init__(self, store: ChipStore, number: int) -> None:
        self.store, self.number = store, number
        self.shape = store.shape(number)
        self.dates = days(store.seconds(number))
        # Dates that were read last: a spliced chip has two windows of the same dates.
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    @cached_property
    def labels(self) -> np.ndarray | None:
        """Labels of the place."""
        layout = self.store.layout
        if layout.labels is None:
            return None
        if "y" in layout.labels:
            return self._whole("labels")
        label = self.store.table["label"][self.number]
        return label[: len(self.dates)] if label.ndim else label

    @cached_property
    def features(self) -> np.ndarray | None:
        """Number of the feature that each pixel's label came from."""
        return self._whole("feature") if "feature" in self.store.layout.coordinates else None

    @cached_property
    def own_groups(self) -> np.ndarray | None:
        """Number of the group of each pixel, where groups were given."""
        return self._whole("group") if "group" in self.store.layout.coordinates else None

    @property
    def groups(self) -> np.ndarray | None:
        """Number of the group of each pixel, by default of its feature."""
        return self.features if self.own_groups is None else self.own_groups

    def _whole(self, name: str) -> np.ndarray:
        dated = self.store.layout.sharded[name].dated
        which = np.arange(len(self.dates)) if dated else (0,)
        array = self.store.read_array(name, self.number, which)
        array = array[..., : self.shape[0], : self.shape[1]]
        return array if dated else array[0]

    def clear(self) -> np.ndarray:
        """Return the share of valid pixels at each date, in each group of bands if there are several."""
        pixels = self.shape[0] * self.shape[1]
        # The table has single precision; what is counted in it is a whole number of pixels.
        return np.rint(self.store.clear_dates(self.number).astype("float64") * pixels) / pixels

    def valid(self, rows: slice, columns: slice) -> np.ndarray:
        """Return what is valid in a window at all dates."""
        return self._valid[..., rows, columns]

    @cached_property
    def _valid(self) -> np.ndarray:
        return self.store.valid(self.number)

    def cut(self, when: np.ndarray, rows: slice, columns: slice) -> Chip:
        """Return some dates of a window."""
        if self._last is None or not np.array_equal(self._last[0], when):
            self._last = when, self.store.read_array("x", self.number, when)
        chip = self.store.decoded(self._last[1][..., rows, columns], self.dates[when])
        if self.labels is not None:
            chip.labels = cut_labels(self.labels, when, rows, columns)
        if self.features is not None:
            chip.parcels = self.features[rows, columns]
        return chip
