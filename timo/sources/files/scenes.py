"""From layers to scenes: which band each is, which belong together, and whether one is missing or is there twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from odc.geo.geobox import GeoBox

from timo.errors import TimoError, warn
from timo.sensors import Identity, Sensor
from timo.sources.dates import Moment
from timo.sources.files.inventory import Found
from timo.sources.files.naming import is_beside, is_position, is_thermal, recognise
from timo.sources.reading import ArrayLayer, Layer, cell_of
from timo.sources.reading.onto import apply

_OVERPASS = pd.Timedelta(minutes=15)


@dataclass(frozen=True)
class FileScene:
    """What was seen at once: band or quality layer -> where it is; called by its first file."""

    moment: Moment
    name: str
    layers: dict[str, Layer] = field(default_factory=dict)

    def __str__(self) -> str:
        files = sorted({Path(layer.path).name for layer in self.layers.values()})
        return f"{self.moment} ({files[0]}{' ...' if len(files) > 1 else ''})"


def grid_of_layer(layer: Layer) -> GeoBox:
    """Return the cells of a layer of a file, which are known."""
    assert layer.grid is not None
    return layer.grid


def make_scenes(
    found: Sequence[Found], sensor: Sensor, bands: Sequence[str] | None, *, masked: bool
) -> list[FileScene]:
    """Return the scenes that layers make, in order of time.

    Of bands of several resolutions the finest is taken. Dates that lack a band are refused; only where the bands come
    from different series (NetCDF, or files of another resolution) are those left out that one of them lacks, with a
    warning.
    """
    groups: dict[Moment, list[tuple[str, Layer]]] = {}
    unknown = []
    for item, moment in zip(found, _joined(found), strict=True):
        if band := recognise(item.names, sensor):
            groups.setdefault(moment, []).append((band, item.layer))
        else:
            unknown.append(item)
    seen = {band for group in groups.values() for band, _ in group}
    _check_known(unknown, sensor, seen, bands)
    wanted = list(bands or [name for name in sensor.band_names if name in seen])
    if not set(wanted) & seen:
        listed = ", ".join(sorted(seen)) or "none"
        raise TimoError(
            f"No file holds {' or '.join(wanted) or 'a band'} of {sensor.name}; seen: {listed}."
        )
    scenes: list[FileScene] = []
    for moment, group in sorted(groups.items()):
        for layers in _split(group):
            name = min(Path(layer.path).name for layer in layers.values())
            scene = FileScene(moment, name, layers)
            if mate := _mate(scene, scenes):
                mate.layers.update(layers)
            else:
                scenes.append(scene)
    if masked and sensor.mask_name in seen:
        wanted.append(sensor.mask_name)
    return _complete(scenes, wanted, sensor)


def _mate(scene: FileScene, earlier: Sequence[FileScene]) -> FileScene | None:
    """Return the scene of the same overpass with other bands: their files may state times some seconds apart."""
    ground = grid_of_layer(next(iter(scene.layers.values())))
    for other in reversed(earlier):
        if scene.moment.time - other.moment.time > _OVERPASS:
            break
        theirs = grid_of_layer(next(iter(other.layers.values())))
        if other.layers.keys().isdisjoint(scene.layers) and same_place(theirs, ground):
            return other
    return None


def _joined(found: Sequence[Found]) -> list[Moment]:
    """Return the moments of layers; a day without a time is the only overpass of that day of which a time is known."""
    exact: dict[object, set[Moment]] = {}
    for item in found:
        if item.moment.exact:
            exact.setdefault(item.moment.time.normalize(), set()).add(item.moment)
    sole = {day: next(iter(moments)) for day, moments in exact.items() if len(moments) == 1}
    return [
        f.moment if f.moment.exact else sole.get(f.moment.time.normalize(), f.moment) for f in found
    ]


def _check_known(
    unknown: Sequence[Found], sensor: Sensor, seen: set[str], bands: Sequence[str] | None
) -> None:
    """Refuse layers of unknown bands, unless all that was asked for is there without them."""
    if bands and set(bands) <= seen:
        return
    strange = [
        item
        for item in unknown
        if not any(is_beside(n) or is_thermal(n, sensor) for n in (*item.names, item.path.stem))
    ]
    if not strange:
        return
    names = list(dict.fromkeys(item.names[0] for item in strange))
    listed = ", ".join(repr(name) for name in names[:8]) + (" ..." if len(names) > 8 else "")
    raise TimoError(
        f"Which band is it? {sensor.name} has none called {listed} (in {strange[0].path}). Its bands are "
        f"{', '.join(sensor.band_names)}"
        + (f", its quality layer {sensor.mask_name}" if sensor.mask_name else "")
        + f"; seen of them: {', '.join(sorted(seen)) or 'none'}. Say it: band_names=[...] in the order of the file, "
        r'pattern=r"(?P<band>...)", or bands=[...] to take only those that are needed.'
    )


def _split(group: list[tuple[str, Layer]]) -> Iterable[dict[str, Layer]]:
    """Yield the scenes of what was seen at one time: one for each place, and of several resolutions the finest."""
    places: list[list[tuple[str, Layer]]] = []
    for band, layer in group:
        box = grid_of_layer(layer)
        mine = next((p for p in places if same_place(grid_of_layer(p[0][1]), box)), None)
        if mine is None:
            places.append(mine := [])
        mine.append((band, layer))
    for place in places:
        layers: dict[str, Layer] = {}
        for band, layer in sorted(place, key=lambda pair: cell_of(grid_of_layer(pair[1]))):
            if band not in layers:
                layers[band] = layer
            elif cell_of(grid_of_layer(layers[band])) >= cell_of(grid_of_layer(layer)) * 0.999:
                one, other = layers[band].path, layer.path
                files = f"in {one} and in {other}" if one != other else f"twice in {one}"
                raise TimoError(
                    f"{band} of one date is there more than once: {files}. Leave one out (with a narrower path, or a "
                    "list of files), or give them other dates with pattern= or dates=."
                )
        yield layers


def same_place(mine: GeoBox, theirs: GeoBox, share: float = 0.05) -> bool:
    """Return whether two grids cover the same ground, to a share of their width."""
    if mine.crs != theirs.crs:
        return False
    slack = share * max(mine.shape) * cell_of(mine)
    pairs = zip(_corners(mine), _corners(theirs), strict=True)
    return all(abs(a - b) <= slack for corners in pairs for a, b in zip(*corners, strict=True))


def _corners(grid: GeoBox) -> list[tuple[float, float]]:
    height, width = grid.shape
    return [apply(grid.affine, *end) for end in ((0, 0), (width, 0), (width, height), (0, height))]


def _complete(
    scenes: Sequence[FileScene], wanted: Sequence[str], sensor: Sensor
) -> list[FileScene]:
    """Return the scenes that have all layers; those of several series that lack some are left out with a warning."""
    lacking = [(scene, [b for b in wanted if b not in scene.layers]) for scene in scenes]
    without = [(scene, missing) for scene, missing in lacking if missing]
    kept = [scene for scene, missing in lacking if not missing]
    if not without:
        return kept
    if not kept or not all(_another_series(scene, missing, scenes) for scene, missing in without):
        scene, missing = without[0]
        have = (
            f"{sum(missing[0] in other.layers for other in scenes)} of {len(scenes)} scenes have it"
        )
        if missing[0] == sensor.mask_name:
            what = f"The quality layer {sensor.mask_name}"
            remedy = "leave the layer unused with masked_classes=()"
        else:
            what = ", ".join(missing)
            common = [b for b in wanted if all(b in other.layers for other in scenes)]
            bands = [b for b in common if b != sensor.mask_name]
            remedy = (
                f"open those that all have: bands={bands}" if bands else "give the missing file"
            )
        raise TimoError(
            f"{what} is missing on {scene}; {have}. Add it, leave that date out, or {remedy}."
        )
    listed = [f"{scene.moment} has no {', '.join(missing)}" for scene, missing in without]
    warn(
        f"{len(without)} of {len(scenes)} dates are left out, because not all of the files have them: "
        f"{'; '.join(listed[:5])}{'; ...' if len(listed) > 5 else ''}. To keep them, open the bands that they have "
        "with bands=[...] (and masked_classes=() where they lack the quality layer)."
    )
    return kept


def _another_series(scene: FileScene, missing: Sequence[str], scenes: Sequence[FileScene]) -> bool:
    """Return whether what a scene lacks comes from arrays or in another resolution, and not from files like its own."""
    others = [s.layers[b] for s in scenes for b in missing if b in s.layers]
    mine = {round(cell_of(grid_of_layer(layer)), 9) for layer in scene.layers.values()}
    return all(
        isinstance(layer, ArrayLayer) or round(cell_of(grid_of_layer(layer)), 9) not in mine
        for layer in others
    )


def name_positions(
    found: Sequence[Found], sensor: Sensor, identities: Mapping[Path, Identity]
) -> list[Found]:
    """Name bands of PlanetScope that have only numbers by their order, which the product fixes."""
    named, seen = [], Counter[Path]()
    counts = Counter(item.path for item in found)
    for item in found:
        names, at, one = item.names, seen[item.path], identities.get(item.path)
        seen[item.path] += 1
        if one is not None and one.satellite == "planetscope":
            if "data mask" in one.product:
                names = (sensor.mask_name if at == 0 else f"udm2_{at + 1}",)
            elif counts[item.path] == len(sensor.bands) > 1 and all(
                is_position(n) or n == item.path.stem for n in names
            ):
                names = (sensor.band_names[at],)
        named.append(replace(item, names=names))
    return named
