"""All sensors as a page of Markdown: ``python -m timo.sensors > docs/sensors.md``."""

import math
import sys
from collections.abc import Iterable, Sequence

from timo.sensors import POLARISATIONS, SENSORS, Collection, Sensor

_INTRODUCTION = """# Sensors

What timo knows of each product; this page is written by `python -m timo.sensors`. A cube's `attrs["sensor"]` names
one of them, `timo.open_cube(..., sensor="...")` opens it. Values of a cube are physical: number × scale + offset, and
NaN where there was no valid observation. Level-1 products are opened only when they are named.
"""

_OWN = """## Your own sensor

A sensor needs a name, bands with their wavelengths in micrometres, and the scale of its numbers; everything from
`open_cube` to the models then works with it. Registered in Python, for a session:

```python
from timo.sensors import Band, Sensor, register_sensor

register_sensor(
    Sensor(
        name="formosat-2",
        product="Formosat-2 RSI surface reflectance",
        bands=(
            Band("blue", "blue", 0.485, 8),  # name, common name, wavelength in µm, cell in m
            Band("green", "green", 0.56, 8),
            Band("red", "red", 0.66, 8),
            Band("nir", "nir", 0.83, 8),
        ),
        scale=0.0001,
        nodata=0,
    )
)
cube = timo.open_cube("files", path="formosat", sensor="formosat-2")
```

Or from a small file, `formosat-2.toml`, with `timo.sensors.read_sensor("formosat-2.toml")`:

```toml
name = "formosat-2"
product = "Formosat-2 RSI surface reflectance"
scale = 0.0001            # physical value = number x scale + offset
nodata = 0
gsd = 8                   # side of a cell, in metres
bounds = [-0.1, 1.5]      # plausible values; left out: those of reflectance

[[bands]]
name = "blue"
common_name = "blue"
wavelength = 0.485        # micrometres

[[bands]]
name = "green"
common_name = "green"
wavelength = 0.56

[[bands]]
name = "red"
common_name = "red"
wavelength = 0.66

[[bands]]
name = "nir"
common_name = "nir"
wavelength = 0.83

[quality]                 # left out where there is no quality layer
layer = "mask"
classes = [{name = "clear", value = 0}, {name = "cloud", value = 1}, {name = "shadow", value = 2}]
masked = ["cloud", "shadow"]
```

Left out, `mean` and `std` (by which models normalise) are those of Sentinel-2 at the same wavelength. In a bit mask a
class has `bits` as well: `{name = "cloud", value = 8, bits = 8}`. Radar bands have `polarisation = "VV"` in place of a
wavelength, and `kind = "backscatter"` at the top; an index has `kind = "index"`, anything else `kind = "other"` with
`mean` and `std`. A model keeps the name of its sensor: register the sensor before you open it.
"""

_SEVERAL = """## Several sensors in one cube

`timo.cube.join(s2, s1)` makes one cube of cubes of several sensors on one grid, each with its own dates; the name of
its sensor is `"sentinel-2+sentinel-1"`. A band whose name an earlier sensor has as well has its own sensor before it:
`"hls-l30:B4"` in `"sentinel-2+hls-l30"`. At the dates on which a sensor has no observation its bands are NaN, and where
one sensor is hidden by a cloud the others still count. A model of such a cube keeps them apart.

```python
s2 = timo.open_cube("stac", aoi=field, start="2020", end="2020")
s1 = timo.open_cube("stac", aoi=field, start="2020", end="2020", sensor="sentinel-1", like=s2)
both = timo.cube.join(s2, s1)
optical, radar = timo.cube.separate(both)
without_radar = timo.cube.join(s2, missing="sentinel-1")  # for a model that reads both
```

A terrain model or the weather joins in the same way, as a cube of a sensor of your own: of one date, or with the dates
that it has.
"""


def page() -> str:
    """Return the page, as Markdown."""
    return "\n".join(
        [_INTRODUCTION, *(_section(sensor) for sensor in SENSORS.values()), _OWN, _SEVERAL]
    )


def _section(sensor: Sensor) -> str:
    """Return the section of one sensor."""
    parts = [f"## {sensor.name}", sensor.product + ".", _bands(sensor), _facts(sensor)]
    served = _collections(sensor) if sensor.collections else "Opened from files."
    return "\n\n".join([*parts, served]) + "\n"


def _bands(sensor: Sensor) -> str:
    rows = [
        (
            f"`{band.name}`",
            band.common_name or "–",
            _wavelength(band.wavelength_um),
            f"{band.gsd_m:g}",
            "yes" if band.name in sensor.default_bands else "no",
        )
        for band in sensor.bands
    ]
    head = ("band", "common name", "wavelength, µm", "cell, m", "opened unless others are named")
    return _table(head, rows)


def _wavelength(code: float) -> str:
    polarisations = {value: name for name, value in POLARISATIONS.items()}
    return "none" if math.isnan(code) else polarisations.get(code, f"{code:g}")


def _facts(sensor: Sensor) -> str:
    """Return values, dates, mask, credit and terms of use as a list."""
    dates = (
        f"one for {sensor.period_days} days, named by the first, in UTC"
        if sensor.period_days
        else "one for each solar day with an overpass"
    )
    lines = [
        f"Values: {sensor.units}; {_factors(sensor)}.",
        f"Dates: {dates}.",
        *_mask(sensor),
        f"Show with it: {sensor.credit('*years*')}.",
        f"Terms of use: <{sensor.licence}>",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _factors(sensor: Sensor) -> str:
    if math.isnan(sensor.scale):
        return "scale and offset differ from scene to scene: `scale=`, `offset=`"
    added = f"; {sensor.baseline_offset} is taken off the numbers first where ESA added it (baseline 04.00 on)"
    return (
        f"scale {sensor.scale:g}, offset {sensor.offset:g}{added if sensor.baseline_offset else ''}"
    )


def _mask(sensor: Sensor) -> Iterable[str]:
    if not sensor.quality:
        yield "Masked: what holds no data; there is no quality layer."
        return
    classes = [f"{i} {name}" for i, name in enumerate(sensor.mask_classes)]
    masked = "; ".join(classes[i] for i in sensor.masked)
    kept = "; ".join(text for i, text in enumerate(classes) if i not in sensor.masked)
    yield f"Masked by `{sensor.mask_name}`: {masked}."
    yield f"Not masked unless `masked_classes` names it: {kept}."
    if sensor.fringe_m:
        which = _join(str(i) for i in sensor.fringed)
        yield f"Masked with them: {sensor.fringe_m:g} m around {which} (`buffer_m`)."
    elif sensor.fringed:
        which = _join(str(i) for i in sensor.fringed)
        yield f"Masked with them if `buffer_m` is given: that distance around {which}."


def _collections(sensor: Sensor) -> str:
    rows = [
        (
            served.provider,
            _join(f"`{name}`" for name in served.ids),
            _assets(sensor, served),
            _filters(served),
            _remarks(sensor, served),
        )
        for served in sensor.collections
    ]
    return _table(("provider", "collections", "called otherwise there", "only", "remarks"), rows)


def _assets(sensor: Sensor, served: Collection) -> str:
    layers = [*sensor.band_names, *filter(None, [sensor.mask_name])]
    return _join(f"{a} `{served.name(a)}`" for a in layers if served.name(a) != a) or "–"


def _filters(served: Collection) -> str:
    wanted = {
        key: [value] if isinstance(value, str) else value for key, value in served.where.items()
    }
    return _join(f"`{key}` {' or '.join(values)}" for key, values in wanted.items()) or "–"


def _remarks(sensor: Sensor, served: Collection) -> str:
    remarks = [
        f"cloud cover: `{served.cloud_cover}`" if served.cloud_cover else "no cloud cover",
        f"orbit: `{served.orbit}`" if served.orbit else "",
        "linear power, made decibels" if served.linear else "",
        "offset of 2022 taken off where it is" if served.shift else "",
        f"second opinion on clouds: `{served.cloud_score.id}`" if served.cloud_score else "",
        f"show with it: {sensor.credit('*years*', served)}" if served.attribution else "",
        f"terms of use: <{served.licence}>" if served.licence else "",
    ]
    return "; ".join(filter(None, remarks))


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    sys.stdout.write(page())
