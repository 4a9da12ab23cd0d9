"""Several sensors as one: that of a cube which `timo.cube.join` made, "sentinel-2+sentinel-1"."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from timo.errors import TimoError
from timo.sensors.product import Kind, Sensor

# Between the names of the parts; no sensor has it in its own name.
AND = "+"


def joint_sensor(parts: Sequence[Sensor]) -> Sensor:
    """Return the sensor of cubes of these sensors in one; of a single one, itself.

    Its bands are those of the parts, one part after the other. A name that an earlier part has as well gets the name of
    its own sensor before it: "hls-l30:B4".

    Raises
    ------
    TimoError
        If a sensor is named twice.
    """
    names = [part.name for part in parts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TimoError(
            f"{AND.join(names)} names {twice[0]} twice. Name each sensor once; cubes of one sensor are put together in "
            'time: xarray.concat([a, b], "time").sortby("time").'
        )
    if len(parts) == 1:
        return parts[0]
    own: list[Sensor] = []
    for part in parts:
        own.append(_with_own_names(part, {name for one in own for name in one.band_names}))
    kinds: set[Kind] = {part.kind for part in own}
    return Sensor(
        name=AND.join(names),
        product=" and ".join(part.product for part in own),
        bands=tuple(
            replace(band, kind=part.kind_of(band.name), nodata=part.nodata_of(band.name))
            for part in own
            for band in part.bands
        ),
        # Each part has its own.
        scale=math.nan,
        units=_listed(part.units for part in own),
        usual=tuple(name for part in own for name in part.default_bands),
        attribution=_listed(part.attribution for part in own),
        licence=_listed(part.licence for part in own),
        kind=kinds.pop() if len(kinds) == 1 else "other",
        joined=tuple(own),
    )


def _with_own_names(part: Sensor, taken: Collection[str]) -> Sensor:
    """Return a sensor whose bands have no name that is taken."""
    names = {name: f"{part.name}:{name}" for name in part.band_names if name in taken}
    if not names:
        return part
    bands = tuple(replace(band, name=names.get(band.name, band.name)) for band in part.bands)
    return replace(part, bands=bands, usual=tuple(names.get(n, n) for n in part.usual))


def _listed(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(filter(None, texts)))
