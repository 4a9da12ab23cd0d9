"""Sensors of the user's own: registered in Python, or read from a small TOML file."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from timo.checks import PathLike, did_you_mean, is_number
from timo.errors import TimoError
from timo.sensors.product import POLARISATIONS, Band, QualityClass, Sensor

# Micrometres. From the ultraviolet to the thermal infrared: 665 is a wavelength in nanometres.
_WAVELENGTHS = (0.2, 20.0)

# What a file may say: fields by their names, but for those of `_FIELDS`.
_TOP = (
    *("name", "product", "kind", "scale", "offset", "nodata", "units", "bounds", "usual"),
    *("attribution", "licence", "period_days"),
)
_BAND = (
    *("name", "common_name", "wavelength", "polarisation", "gsd", "mean", "std", "nodata", "kind"),
    "aliases",
)
_QUALITY = ("layer", "classes", "masked", "fringed", "fringe")
_CLASS = ("name", "value", "bits")
_FIELDS = {
    "wavelength": "wavelength_um",
    "gsd": "gsd_m",
    "layer": "mask_name",
    "fringe": "fringe_m",
}
Part = TypeVar("Part", Band, QualityClass, Sensor)


def check_sensor(sensor: Sensor) -> Sensor:
    """Check a sensor that a user has described, and return it unchanged.

    Raises
    ------
    TimoError
        If something cannot be; the message says what, and what to write.
    """
    who = f"Sensor {sensor.name!r}"
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", sensor.name):
        raise TimoError(
            f"A sensor's name is a word of letters, digits, '-', '_' and '.', e.g. \"formosat-2\"; got {sensor.name!r}."
        )
    if not sensor.bands:
        raise TimoError(f'{who} has no bands. Give at least one, as Band("red", "red", 0.66, 8).')
    _check_names(who, "band", sensor.band_names)
    _check_names(who, "common name", [b.common_name for b in sensor.bands if b.common_name])
    _check_names(who, "quality class", sensor.mask_classes)
    for band in sensor.bands:
        _check_band(f"{who}, band {band.name!r}", band, band.kind or sensor.kind)
    _check_factors(who, sensor)
    _check_quality(who, sensor)
    if unknown := [name for name in sensor.usual if name not in sensor.band_names]:
        raise TimoError(
            f"{who}: usual names the band {unknown[0]!r}.{_known(unknown[0], sensor.band_names)}"
        )
    return sensor


def _check_names(who: str, what: str, names: Iterable[str]) -> None:
    names = list(names)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TimoError(f"{who} has the {what} {twice[0]!r} more than once. Name each once.")
    if not all(name.strip() for name in names):
        raise TimoError(f"{who}: each {what} is a text that is not empty.")


def _check_band(who: str, band: Band, kind: str) -> None:
    _check_wavelength(who, band.wavelength_um, kind)
    if not (is_number(band.mean) and is_number(band.std) and band.std > 0):
        raise TimoError(
            f"{who}: mean and std are what models subtract and divide by (std > 0); got {band.mean!r}, {band.std!r}. "
            f"A band of the kind {kind!r} without a wavelength needs both, e.g. of your data."
        )


def _check_wavelength(who: str, value: float, kind: str) -> None:
    least, most = _WAVELENGTHS
    if kind == "backscatter":
        if value not in POLARISATIONS.values():
            raise TimoError(
                f"{who}: a radar band has a polarisation in place of a wavelength: one of {', '.join(POLARISATIONS)} "
                f'(timo.sensors.POLARISATIONS["VV"]); got {value!r}.'
            )
    elif not math.isnan(value) and not least <= value <= most:
        metres = next(
            (m for f, m in ((1e-3, "nanometres"), (1e6, "metres")) if least <= value * f <= most),
            "",
        )
        factor = {"nanometres": 1e-3, "metres": 1e6}.get(metres, 1.0)
        hint = f" {value:g} looks like {metres}: write {value * factor:g}." if metres else ""
        raise TimoError(
            f"{who}: the wavelength is in micrometres, {least} to {most:g}; got {value:g}.{hint}"
        )


def _check_factors(who: str, sensor: Sensor) -> None:
    if not is_number(sensor.scale) or sensor.scale == 0:
        raise TimoError(
            f"{who}: physical value = digital number x scale + offset; scale is a number other than 0; got "
            f"{sensor.scale!r}."
        )
    try:
        sensor.credit("2019")
    except (AttributeError, LookupError, ValueError) as error:
        raise TimoError(
            f"{who}: of what stands in braces the attribution may hold {{years}} alone; got {sensor.attribution!r}."
        ) from error
    bounds = sensor.bounds
    if bounds is not None and not (all(map(is_number, bounds)) and bounds[0] < bounds[1]):
        raise TimoError(
            f"{who}: bounds are the least and the greatest plausible physical value, e.g. (0, 1.5); got {bounds!r}."
        )


def _check_quality(who: str, sensor: Sensor) -> None:
    if bool(sensor.quality) != bool(sensor.mask_name):
        raise TimoError(
            f"{who}: a quality layer has a name (mask_name) and classes (quality): give both, or neither."
        )
    if sensor.mask_name in sensor.band_names:
        raise TimoError(
            f"{who}: {sensor.mask_name!r} is a band and the quality layer. Name one otherwise."
        )
    for name, positions in (("masked", sensor.masked), ("fringed", sensor.fringed)):
        if wrong := [i for i in positions if i not in range(len(sensor.quality))]:
            raise TimoError(
                f"{who}: {name} are positions in quality, 0 to {len(sensor.quality) - 1}; got {wrong[0]!r}."
            )
    if not set(sensor.fringed) <= set(sensor.masked):
        raise TimoError(f"{who}: what is fringed must be masked as well.")


def _known(name: Any, known: Iterable[str]) -> str:
    return f"{did_you_mean(name, known)} Known: {', '.join(known)}."


def parse_sensor(path: PathLike) -> Sensor:
    """Read a sensor from a TOML file (see `timo.sensors.read_sensor`)."""
    path = Path(path).expanduser()
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TimoError(
            f"Cannot read the sensor's file {path}: {error.strerror or error}."
        ) from error
    except ValueError as error:  # no TOML, no text, no path
        raise TimoError(f"{path} is no TOML file: {error}.") from error
    where = path.name
    _check_keys(where, said, (*_TOP, "gsd", "bands", "quality"))
    for needed in ("name", "bands", "scale"):
        if needed not in said:
            raise TimoError(f"{where} lacks {needed!r}. A sensor needs name, scale and [[bands]].")
    bands, kind = said["bands"], said.get("kind", "reflectance")
    if not isinstance(bands, list) or not all(isinstance(band, dict) for band in bands):
        raise TimoError(f"{where}: bands are written as tables, each beginning with [[bands]].")
    options = {"product": said["name"]} | {key: said[key] for key in _TOP if key in said}
    options |= _quality_of(where, said.get("quality", {}))
    options["bands"] = tuple(_band_of(where, band, said.get("gsd"), kind) for band in bands)
    return check_sensor(_made(Sensor, where, options))


def _made(kind: type[Part], where: str, options: Mapping[str, Any]) -> Part:
    """Make a part of a sensor; complaints name the file and its keys."""
    keys = {field: key for key, field in _FIELDS.items()}
    try:
        return kind(**{_FIELDS.get(key, key): _frozen(value) for key, value in options.items()})
    except TimoError as error:
        text = re.sub("|".join(keys), lambda field: keys[field[0]], str(error))
        raise TimoError(f"{where}: {text}") from None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_keys(where: str, said: Mapping[str, Any], known: Iterable[str]) -> None:
    if unknown := [key for key in said if key not in tuple(known)]:
        raise TimoError(f"{where}: unknown key {unknown[0]!r}.{_known(unknown[0], tuple(known))}")


def _band_of(where: str, said: Mapping[str, Any], gsd: Any, kind: str) -> Band:
    if not isinstance(said.get("name"), str):
        raise TimoError(f'{where}: a band lacks its name: name = "red".')
    where = f"{where}, band {said['name']!r}"
    _check_keys(where, said, _BAND)
    options = {"common_name": "", "gsd": gsd} | dict(said)
    if "polarisation" in options:
        name = options.pop("polarisation")
        if not isinstance(name, str) or name not in POLARISATIONS:
            raise TimoError(f"{where}: unknown polarisation {name!r}.{_known(name, POLARISATIONS)}")
        options["wavelength"] = POLARISATIONS[name]
    if "wavelength" not in options:
        if options.get("kind", kind) in ("reflectance", "backscatter"):
            raise TimoError(f"{where} lacks its wavelength in micrometres: wavelength = 0.66.")
        options["wavelength"] = math.nan
    if options["gsd"] is None:
        raise TimoError(
            f"{where} lacks the side of its cells in metres: gsd = 8, here or at the top."
        )
    return _made(Band, where, options)


def _quality_of(where: str, said: Any) -> dict[str, Any]:
    """Read the table [quality]: the layer, its classes, and which of them are masked, by name."""
    if not said:
        return {}
    where = f"{where}, [quality]"
    if not isinstance(said, dict):
        raise TimoError(f"{where}: quality is written as a table that begins with [quality].")
    _check_keys(where, said, _QUALITY)
    classes = said.get("classes", [])
    if "layer" not in said or not isinstance(classes, list) or not classes:
        raise TimoError(
            f'{where} needs layer = "..." and classes = [{{name = "cloud", value = 1}}, ...].'
        )
    quality = tuple(_class_of(where, one) for one in classes)
    names = [one.name for one in quality]
    positions = {}
    for key in ("masked", "fringed"):
        chosen = said.get(key, [])
        if not isinstance(chosen, list):
            raise TimoError(
                f'{where}: {key} is a list of classes, {key} = ["cloud"]; got {chosen!r}.'
            )
        if unknown := [name for name in chosen if name not in names]:
            raise TimoError(f"{where}: {key} names {unknown[0]!r}.{_known(unknown[0], names)}")
        positions[key] = tuple(names.index(name) for name in chosen)
    return {
        "layer": said["layer"],
        "quality": quality,
        "fringe": said.get("fringe", 0.0),
        **positions,
    }


def _class_of(where: str, said: Any) -> QualityClass:
    if not isinstance(said, dict) or not {"name", "value"} <= set(said):
        raise TimoError(
            f'{where}: a class is {{name = "cloud", value = 1}}, with bits = 1 in a bit mask; got {said!r}.'
        )
    _check_keys(where, said, _CLASS)
    return _made(QualityClass, f"{where}, class {said['name']!r}", said)
