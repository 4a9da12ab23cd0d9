"""The sensors that timo knows, and those that users add."""

from typing import Annotated

from timo.checks import PathLike, checked, did_you_mean
from timo.errors import TimoError
from timo.sensors.joint import AND, joint_sensor
from timo.sensors.landsat import LANDSAT
from timo.sensors.modis import MODIS, MODIS_VEGETATION
from timo.sensors.own import check_sensor, parse_sensor
from timo.sensors.product import Sensor
from timo.sensors.ready import READY
from timo.sensors.sentinel1 import SENTINEL_1
from timo.sensors.sentinel2 import SENTINEL_2, SENTINEL_2_L1C

SENSORS: dict[str, Sensor] = {
    sensor.name: sensor
    for sensor in (
        SENTINEL_2,
        SENTINEL_2_L1C,
        *LANDSAT,
        *READY,
        MODIS,
        MODIS_VEGETATION,
        SENTINEL_1,
    )
}
# What else people write.
_ALSO = {
    "sentinel-2": "s2 s2l2a s2sr sentinel2l2a copernicuss2srharmonized",
    "sentinel-2-l1c": "s2l1c copernicuss2harmonized copernicuss2",
    "sentinel-1": "s1 s1grd sentinel1grd sentinel1rtc",
    "landsat-8-9": "landsat landsat8 landsat9 landsatc2l2 l8 l9 lc08 lc09 oli",
    "landsat-4-7": "landsat4 landsat5 landsat7 l5 l7 lt05 le07 tm etm",
    "planetscope-4": "planet planetscope psscene",
    "planetscope-8": "superdove",
    "hls-s30": "hls",
    "modis": "mod09 mod09a1 myd09a1",
    "modis-vegetation": "mod13 mod13q1 myd13q1",
}
_FILE = 'timo.sensors.read_sensor("sensor.toml") reads a file.'
# Those that come with timo: their names always mean them.
_BUILT_IN = frozenset(SENSORS)


# Joint sensors that were asked for before, by name: putting one together takes a millisecond.
_JOINT: dict[str, tuple[tuple[Sensor, ...], Sensor]] = {}


@checked
def get_sensor(name: str) -> Sensor:
    """Return the sensor called `name`.

    Parameters
    ----------
    name : str
        Name of a sensor, or of several in one cube (`timo.cube.join`): "sentinel-2+sentinel-1".

    Returns
    -------
    Sensor
        Its `parts` are the sensors of the name. Of several, a band whose name an earlier sensor has as well is called
        "hls-l30:B4".

    Raises
    ------
    TimoError
        If timo does not know it, or it is named twice.
    """
    if AND not in name:
        return _get_part(name, name)
    parts = tuple(_get_part(part.strip(), name) for part in name.split(AND))
    known, sensor = _JOINT.get(name, ((), parts[0]))
    if len(known) != len(parts) or any(a is not b for a, b in zip(known, parts, strict=True)):
        sensor = joint_sensor(parts)
        _JOINT[name] = parts, sensor
    return sensor


def _get_part(part: str, name: str) -> Sensor:
    if part in SENSORS:
        return SENSORS[part]
    several = (
        f" The sensors of a joint cube are written with {AND!r} between their whole names, as "
        '"sentinel-2+sentinel-1"; timo.cube.join(s2, s1) makes such a cube.'
        if AND in name
        else ""
    )
    raise TimoError(
        f"Unknown sensor {name!r}. Known: {', '.join(sorted(SENSORS))}.{did_you_mean(part, SENSORS, _ALSO)}{several} "
        'One of your own is registered in each session: timo.sensors.read_sensor("sensor.toml") or '
        "timo.sensors.register_sensor(...)."
    )


def find_sensor(name: object) -> Sensor | None:
    """Return the sensor called `name`, several ("a+b") included; None where timo does not know it."""
    try:
        return get_sensor(name) if isinstance(name, str) else None
    except TimoError:
        return None


@checked
def register_sensor(sensor: Annotated[Sensor, _FILE]) -> Sensor:
    """Add a sensor of your own, for this session.

    Parameters
    ----------
    sensor : Sensor
        Needs a name, bands with their wavelengths, and a scale; see `docs/sensors.md`. One of the same name that was
        registered before is replaced.

    Returns
    -------
    Sensor
        `sensor` itself.

    Raises
    ------
    TimoError
        If something in it cannot be, or its name is that of a sensor that comes with timo.

    Examples
    --------
    >>> from timo.sensors import Band, Sensor, register_sensor
    >>> bands = (Band("red", "red", 0.66, 8), Band("nir", "nir", 0.83, 8))
    >>> sensor = register_sensor(Sensor("formosat-2", "Formosat-2 RSI", bands, scale=1e-4))
    >>> sensor.band("nir").mean
    0.27
    """
    if sensor.name in _BUILT_IN:
        raise TimoError(
            f"{sensor.name!r} comes with timo and cannot be replaced. Choose another name, e.g. "
            f'"my-{sensor.name}".'
        )
    SENSORS[sensor.name] = check_sensor(sensor)
    return sensor


@checked
def read_sensor(path: PathLike) -> Sensor:
    """Read a sensor of your own from a TOML file, and register it for this session.

    Parameters
    ----------
    path : str or path
        The file; `docs/sensors.md` shows one.

    Returns
    -------
    Sensor
        The sensor, registered.

    Raises
    ------
    TimoError
        If the file cannot be read, or something in it is missing, unknown or impossible.
    """
    return register_sensor(parse_sensor(path))
