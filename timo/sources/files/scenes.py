"""From layers to scenes: which band each is, which belong together, and whether something is missing or twice there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources.files.bands import find_band, is_beside, is_position, match_band
from timo.sources.files.dates import Moment
from timo.sources.files.inventory import Found
from timo.sources.files.layers import Layer


@dataclass(frozen=True)
class FileScene:
    """What was seen at once: bands, and perhaps the quality layer.

    Attributes
    ----------
    moment : Moment
        When.
    name : str
        Name of its first file.
    layers : dict
        Band or quality layer -> where it is.
    """

    moment: Moment
    name: str
    layers: dict[str, Layer] = field(default_factory=dict)

    def __str__(self) -> str:
        files = sorted({layer.path.name for layer in self.layers.values()})
        return f"{self.moment} ({files[0]}{' ...' if len(files) > 1 else ''})"


def make_scenes(
    found: Sequence[Found], sensor: Sensor, bands: Sequence[str] | None
) -> list[FileScene]:
    """Scenes of layers, in order of time.

    Parameters
    ----------
    found : sequence of Found
        The layers.
    sensor : Sensor
        Whose bands they are.
    bands : sequence of str, optional
        Those that are needed; by default all that are found.

    Raises
    ------
    TimoError
        If a layer is not recognised and might be needed, is there twice, or is missing on some date.
    """
    groups: dict[Moment, list[tuple[str, Layer]]] = {}
    unknown = []
    for item in found:
        if band := recognise(item, sensor):
            groups.setdefault(item.moment, []).append((band, item.layer))
        else:
            unknown.append(item)
    seen = {band for group in groups.values() for band, _ in group}
    _check_known(unknown, sensor, seen, bands)
    wanted = bands or [name for name in sensor.band_names if name in seen]
    if not set(wanted) & seen:
        listed = ", ".join(sorted(seen)) or "none"
        raise TimoError(
            f"No file holds {' or '.join(wanted) or 'a band'} of {sensor.name}; seen: {listed}."
        )
    scenes = [
        FileScene(moment, min(layer.path.name for layer in layers.values()), layers)
        for moment, group in sorted(groups.items())
        for layers in _split(group)
    ]
    _check_complete(scenes, wanted)
    _check_quality(scenes, sensor)
    return scenes


def recognise(item: Found, sensor: Sensor) -> str | None:
    """The band or quality layer that a layer is; None if its names are none that the sensor has."""
    for name in item.names:
        if is_position(name):
            continue
        if band := match_band(name, sensor) or find_band(name, sensor):
            return band
    return None


def _check_known(
    unknown: Sequence[Found], sensor: Sensor, seen: set[str], bands: Sequence[str] | None
) -> None:
    """Refuse layers that nobody can name, unless all that was asked for is there without them."""
    if bands and set(bands) <= seen:
        return
    strange = [
        item
        for item in unknown
        if not is_beside(item.layer.path.stem) and not all(is_beside(name) for name in item.names)
    ]
    if not strange:
        return
    names = list(dict.fromkeys(item.names[0] for item in strange))
    listed = ", ".join(repr(name) for name in names[:8]) + (" ..." if len(names) > 8 else "")
    raise TimoError(
        f"Which band is it? {sensor.name} has none called {listed} (in {strange[0].layer.path}). Its bands are "
        f"{', '.join(sensor.band_names)}"
        + (f", its quality layer {sensor.mask_name}" if sensor.mask_name else "")
        + f"; seen of them: {', '.join(sorted(seen)) or 'none'}. Say it: band_names=[...] in the order of the file, "
        r'pattern=r"(?P<band>...)", or bands=[...] to take only those that are needed.'
    )


def _split(group: list[tuple[str, Layer]]) -> Iterable[dict[str, Layer]]:
    """Scenes of what was seen at one time: one for each place, and of several resolutions the finest."""
    places: list[list[tuple[str, Layer]]] = []
    for band, layer in group:
        mine = next((p for p in places if _same_place(p[0][1], layer)), None)
        if mine is None:
            places.append(mine := [])
        mine.append((band, layer))
    for place in places:
        layers: dict[str, Layer] = {}
        for band, layer in sorted(place, key=lambda pair: pair[1].grid.cell):
            if band not in layers:
                layers[band] = layer
            elif layers[band].grid.cell >= layer.grid.cell * 0.999:
                _refuse_twice(band, layers[band].path, layer.path)
        yield layers


def _same_place(one: Layer, other: Layer) -> bool:
    """Whether two layers cover the same ground, to a twentieth of their width."""
    if one.grid.crs != other.grid.crs:
        return False
    slack = 0.05 * max(one.grid.cell * one.grid.width, one.grid.cell * one.grid.height)
    pairs = zip(one.grid.corners, other.grid.corners, strict=True)
    return all(
        abs(a - b) <= slack for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True)
    )


def _refuse_twice(band: str, one: Path, other: Path) -> None:
    files = f"in {one} and in {other}" if one != other else f"twice in {one}"
    raise TimoError(
        f"{band} of one date is there more than once: {files}. Leave one out (with a narrower path, or a list of "
        "files), or tell them apart with pattern= or dates=."
    )


def _check_complete(scenes: Sequence[FileScene], wanted: Sequence[str]) -> None:
    """Refuse scenes that lack a band."""
    for scene in scenes:
        missing = [band for band in wanted if band not in scene.layers]
        if not missing:
            continue
        others = sum(missing[0] in other.layers for other in scenes)
        common = [band for band in wanted if all(band in other.layers for other in scenes)]
        remedy = f"open those that all have: bands={common}" if common else "give the missing file"
        raise TimoError(
            f"{', '.join(missing)} is missing on {scene}; {others} of {len(scenes)} scenes have it. Add it, leave that "
            f"date out, or {remedy}."
        )


def _check_quality(scenes: Sequence[FileScene], sensor: Sensor) -> None:
    """Refuse a quality layer that is there for some scenes only."""
    without = [scene for scene in scenes if sensor.mask_name not in scene.layers]
    if sensor.mask_name and 0 < len(without) < len(scenes):
        raise TimoError(
            f"The quality layer {sensor.mask_name} is missing on {without[0]}; {len(scenes) - len(without)} of "
            f"{len(scenes)} scenes have it. Add it, leave that date out, or leave all {sensor.mask_name} files out."
        )
