"""Whose bands files hold: by what users say, by names and tags of products, and by names of bands."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from timo.errors import TimoError, warn
from timo.sensors import SENSORS, Band, Identity, Sensor, get_sensor
from timo.sources.dates import Moment, strip_dates
from timo.sources.files.find import is_file_name
from timo.sources.files.inventory import Inventory
from timo.sources.files.naming import bands_in, is_beside, is_position, is_thermal, recognise
from timo.sources.request import make_sensor


def sensor_of(held: Inventory, said: str | Sensor | None, bands: Sequence[str] | None) -> Sensor:
    """Return the sensor of files; of what timo wrote and no sensor has, one that knows no more than names."""
    # A layer that has only a number is called by its file.
    names = (next((n for n in f.names if not is_position(n)), f.names[0]) for f in held.found)
    labels = dict.fromkeys(strip_dates(name) for name in names)
    known = [label for label in labels if not is_beside(label) and not is_position(label)]
    sensor = choose_sensor(said, held.identities, known)
    if sensor is None and bands is not None:
        # Files may hold other bands beside: what is asked for says whose they are.
        wanted = {bands} if isinstance(bands, str) else set(map(str, bands))
        sensor = choose_sensor(said, held.identities, [la for la in known if la in wanted])
    # An index or a map that timo made of its bands.
    made = (
        sensor is not None
        and held.ours
        and said is None
        and not any(recognise(found.names, sensor) for found in held.found)
    )
    if sensor is not None and not made:
        return _nameless(held, sensor)
    if not made and (not held.ours or held.identities):
        raise _which_sensor(held.identities, list(labels))
    listed = dict.fromkeys(found.names[0] for found in held.found)
    return Sensor("", "", tuple(Band(n, "", math.nan, 10) for n in listed), 1.0, kind="other")


def _nameless(held: Inventory, sensor: Sensor) -> Sensor:
    """Return the sensor; of a stack of dates of an unnamed band, one without a name and with that band."""
    dates: dict[Path, set[Moment]] = {}
    for found in held.found:
        dates.setdefault(found.path, set()).add(found.moment)
    stacked = all(len(dates[f.path]) > 1 and f.names == (f.path.stem,) for f in held.found)
    names = sorted({path.stem for path in dates})
    if not stacked or any(recognise([name], sensor) for name in names):
        return sensor
    warn(
        f"Which band of {sensor.name} the dates of {', '.join(names[:3])} hold is not said: the cube has no sensor. "
        f'Say it: band_names=["{sensor.band_names[0]}"].'
    )
    bands = tuple(Band(name, "", math.nan, sensor.bands[0].gsd_m) for name in names)
    return replace(
        sensor, name="", bands=bands, mask_name="", quality=(), masked=(), fringed=(), usual=()
    )


def choose_sensor(
    said: Any, identities: Mapping[Path, Identity], labels: Sequence[str]
) -> Sensor | None:
    """Return the sensor that the user has said, or whose bands the files hold; None if no name says for certain.

    `identities` has what files say by their names and tags, `labels` what their layers are called. Refused are files of
    several products, of one that is not read (unless asked for), or not of that which the user says.
    """
    certain = {path: one for path, one in identities.items() if one.sensor or one.level}
    # Backscatter of both levels has one sensor, and other values on slopes.
    kinds: dict[tuple[str, str], list[Path]] = {}
    for path, one in certain.items():
        level = one.level if one.sensor == "sentinel-1" else ""
        kinds.setdefault((one.sensor or one.product, level), []).append(path)
    if said is not None:
        sensor = _said_sensor(said, identities)
        if len(kinds) > 1 and {name for name, _ in kinds} == {sensor.name}:
            raise _several(list(kinds.values()), identities)
        return sensor
    if not kinds:
        return _by_bands(identities, labels)
    if len(kinds) > 1:
        raise _several(list(kinds.values()), identities)
    paths = next(iter(kinds.values()))
    _refuse_unread(paths[0], certain[paths[0]])
    sensor = get_sensor(str(certain[paths[0]].sensor))
    vague = ((path, one) for path, one in identities.items() if path not in certain)
    of_others = [p for p, i in vague if i.satellite not in sensor.satellites and not i.fits(sensor)]
    if of_others:
        raise _several([paths, of_others], identities)
    return sensor


def _title(path: Path) -> str:
    """Return the name of a file, or of a band and its file."""
    return f"{path.name} in {path.parent.name}" if is_file_name(path.parent) else path.name


def _several(kinds: Sequence[Sequence[Path]], identities: Mapping[Path, Identity]) -> TimoError:
    """Return the error to raise for files of several products, with the path of those of one."""
    mine, others = kinds[:2]
    if is_file_name(mine[0].parent):
        how = "and give band_names=[...], with None for each band of the other"
    else:
        folder = os.path.commonpath([path.parent for path in mine])
        stem = os.path.commonprefix([path.name for path in mine])  # noqa: RUF071 - of letters
        how = f'with a narrower path, as path="{folder}/**/{stem}*"'
    return TimoError(
        f"The files are of several products: {_title(mine[0])} is {identities[mine[0]].product}, {_title(others[0])} "
        f"is {identities[others[0]].product}. Open each in a call of its own, {how}."
    )


def _said_sensor(said: Any, identities: Mapping[Path, Identity]) -> Sensor:
    sensor = make_sensor(said)
    for path, one in identities.items():
        if one.fits(sensor):
            continue
        if any(other.fits(sensor) for other in identities.values()) and is_file_name(path.parent):
            theirs = next(p for p, other in identities.items() if other.fits(sensor))
            raise _several([[theirs], [path]], identities)
        remedy = f'sensor="{one.sensor}"' if one.sensor else "the product that timo reads"
        raise TimoError(
            f"{_title(path)} is {one.product}, and not of sensor={sensor.name!r} ({sensor.product}). Give {remedy}, "
            "or a narrower path; if the name is wrong, rename the file."
        )
    return sensor


def _refuse_unread(path: Path, one: Identity) -> None:
    """Refuse products that are not read, and level 1, which is read only if it is asked for."""
    if one.sensor is None:
        raise TimoError(
            f"{_title(path)} is {one.product}, which timo does not read. Take the surface reflectance (level 2) of "
            "the same scene; or describe the product as a sensor of your own (timo.sensors.register_sensor) and give "
            "it with sensor=."
        )
    if _is_level_1(one.sensor):
        raise TimoError(
            f"{_title(path)} is {one.product}: not what the ground reflects. Take the level-2 product of the same "
            f'scene, or open it as what it is with sensor="{one.sensor}".'
        )


def _is_level_1(name: str) -> bool:
    """Return whether a sensor is read only if it is asked for by name."""
    return re.search(r"-l1c?$", name) is not None


def _is_apart(name: str) -> bool:
    """Return whether names of files always say that they are of a sensor, whose bands are called as those of others."""
    return _is_level_1(name) or name.startswith(("hls-", "force"))


def _by_bands(identities: Mapping[Path, Identity], labels: Sequence[str]) -> Sensor | None:
    """Return the only sensor that has all of these bands; of a known satellite, if its level is certain."""
    satellites = {one.satellite for one in identities.values()}
    fitting = {n: s for n, s in SENSORS.items() if labels and _known(labels, s) == len(labels)}
    usual = {n: s for n, s in fitting.items() if not _is_apart(n)}
    if satellites:
        fitting = {n: s for n, s in fitting.items() if satellites <= set(s.satellites)}
        plain = {label.lower() for label in labels}
        # Files of Landsat's Collection 1 had other names than the sensor's.
        named = {n: s for n, s in fitting.items() if n in usual and not n.endswith("-c1")}
        names = {n: {*s.band_names, s.mask_name} for n, s in named.items()}
        exact = [n for n, own in names.items() if plain <= {name.lower() for name in own}]
        # SR_B4 of Landsat 8 is a name of Collection 2 alone; B4 is that of both levels of Sentinel-2.
        if len(exact) == 1:
            return fitting[exact[0]]
    else:
        fitting = {n: s for n, s in usual.items() if not _only_indices(labels, s)}
        zeros = any(re.search(r"(?<![a-z0-9])b0\d", label.lower()) for label in labels)
        if "sentinel-2" in fitting and zeros:
            return get_sensor("sentinel-2")
    return next(iter(fitting.values())) if len(fitting) == 1 else None


def _known(labels: Iterable[str], sensor: Sensor) -> int:
    """Return how many labels are bands of a sensor, its quality layer, or thermal ones of its satellite."""
    return sum(bool(bands_in(label, sensor)) or is_thermal(label, sensor) for label in labels)


def _only_indices(labels: Iterable[str], sensor: Sensor) -> bool:
    """Return whether labels name no more than indices, which can be computed of any sensor's bands."""
    bands = set[str]().union(*(bands_in(label, sensor) for label in labels))
    return all(b in sensor.band_names and sensor.kind_of(b) == "index" for b in bands)


def _which_sensor(identities: Mapping[Path, Identity], labels: Sequence[str]) -> TimoError:
    """Return the error to raise where the sensor is not certain, with those that have the most of these bands."""
    satellites = {one.satellite: one.product for one in identities.values()}
    likely = [n for n, s in SENSORS.items() if set(satellites) & set(s.satellites)] or list(SENSORS)
    counts = {n: _known(labels, SENSORS[n]) for n in likely}
    likely = sorted((n for n in likely if counts[n] == max(counts.values())), key=_is_apart)
    by_name = f"by name: {' and '.join(satellites.values())}"
    return TimoError(
        f"Which sensor? The files hold {', '.join(sorted(labels)[:12])}; "
        f"{by_name if satellites else 'no name says it for certain'}. Say it, as "
        f'sensor="{likely[0]}"; known: {", ".join(likely)}; or one of your own (timo.sensors.register_sensor).'
    )
