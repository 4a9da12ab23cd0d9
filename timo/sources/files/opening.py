"""`open_cube("files")`: from what lies on a disk to a cube."""

from __future__ import annotations

import math
import re
import time as clock
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.warp import transform_bounds

from timo.crs import crs_name, read_crs, short_name
from timo.cube.values import check_values
from timo.errors import TimoError
from timo.sensors import Band, Sensor
from timo.sources import request as asked
from timo.sources.dates import Moment, make_open_span, strip_dates
from timo.sources.files import naming as called
from timo.sources.files.arrays import find_arrays, join_cubes, own_cubes
from timo.sources.files.find import find_files
from timo.sources.files.inventory import Found, Inventory, find_rasters
from timo.sources.files.scenes import (
    FileScene,
    grid_of_layer,
    make_scenes,
    name_positions,
    same_place,
)
from timo.sources.place.area import Area
from timo.sources.place.grid import PixelGrid, check_limit, check_resolution
from timo.sources.reading import (
    Layer,
    Plan,
    RasterLayer,
    Reader,
    cell_of,
    is_plain,
    is_under,
    same_cells,
)
from timo.sources.request import CubeRequest
from timo.sources.scenes import cube_from_scenes, fringe_cells

_DAY = pd.Timedelta(days=1)
_CHUNK = 512
# ESA's own products carry an offset from processing baseline 04.00 on, in use since 25 January 2022 (Sentinel-2
# Products Specification Document, BOA_ADD_OFFSET). The baseline stands in the name of the product's folder.
_BASELINE = re.compile(r"S2[A-D]_MSIL\d\w_\d{8}T\d{6}_N(\d{4})_", re.IGNORECASE)
_ESA_IMAGE = re.compile(r"^(L\d\w_)?T\d\d[C-X][A-Z]{2}_\d{8}T\d{6}_", re.IGNORECASE)
_BASELINE_4 = pd.Timestamp("2022-01-25")
# They lie in ESA's products without a date in their names, some of them named as bands are.
_DETECTOR_MASK = re.compile(r"MSK_\w+\.jp2$", re.IGNORECASE)
# What producers write where there are no data; the last two are -9999 and -999 of files made unsigned.
_FILLS = (-9999.0, -999.0, -32768.0, -32767.0, -3.4028234663852886e38, 65535.0, 55537.0, 64537.0)
# Cells a side that are looked at in each scene when it is opened, and for how long.
_LOOK = 64
_PATIENCE_S = 5.0


def open_files(
    path: str | Path | Sequence[str | Path],
    *,
    aoi: Any = None,
    start: Any = None,
    end: Any = None,
    sensor: str | Sensor | None = None,
    bands: Sequence[str] | None = None,
    resolution: float | None = None,
    composite: str | None = None,
    crs: Any = None,
    like: xr.DataArray | None = None,
    max_cloud: float | None = None,
    masked_classes: Iterable[int] | None = None,
    buffer_m: float | None = None,
    clip: bool = False,
    max_megapixels: float = 1000,
    dates: Sequence[Any] | Mapping[str, Any] | Callable[[str], Any] | None = None,
    pattern: str | None = None,
    band_names: Sequence[str | None] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    linear: bool = False,
    chunks: int = _CHUNK,
) -> xr.DataArray:
    r"""Open GeoTIFFs, NetCDF files or Zarr stores as a cube.

    One GeoTIFF per date with all bands, one per date and band, or one with bands of many dates (Earth Engine's toBands,
    FORCE, `timo.export`); the quality layer (SCL, QA_PIXEL, state) among them; NetCDF or Zarr with a variable per band,
    or with one variable that has a dim of bands. Opening reads headers and a few cells of each scene (for at most five
    seconds); the rest is read, and checked, chunk by chunk when it is computed. A cube that timo wrote
    (``cube.to_dataset(name="cube").to_netcdf(...)`` or ``.to_zarr(...)``) comes back as it was; what `timo.export`
    wrote, and no sensor has, as a cube without one.

    Parameters
    ----------
    path : path, glob, folder, or list of them
        Folders are searched through and through. All files must be of one kind.
    aoi, resolution, crs, like : optional
        As in `timo.open_cube`. Without any of them the cube keeps the files' grid, and they must all be on one; of
        bands of several resolutions over the same ground it is the finest, and dates that one of them lacks are left
        out with a warning. With `resolution` or `crs` alone it covers all files, on the finest file's cells where
        possible. Files are brought onto the grid by nearest neighbour; where its cells are twice as wide as the file's
        or more, by the average (quality: the commonest class).
    start, end : str or date, optional
        First and last day; by default all.
    sensor : str or Sensor, optional
        By default what the files say: names and tags of products (S2A_MSIL2A_..., LC08_L2SP_..., HLS.S30...,
        MOD09A1...), an attribute `sensor`, or bands that only one sensor has. All files must be of one product. Level 1
        is opened only if its sensor is asked for here.
    bands : sequence of str, optional
        Which, in which order, by the sensor's names or by common ones ("red", "nir08"). By default all that the files
        hold, in the sensor's order.
    composite, masked_classes, buffer_m, clip, max_megapixels : optional
        As in `timo.open_cube`. Without a quality layer among the files, or with masked_classes=(), only cells without
        data are masked.
    max_cloud : None
        Files do not say how cloudy they are.
    dates : list, mapping or callable, optional
        A date per file, in their order; or from a file's name to its date; of one file with several images, a date for
        each. By default they are read from coordinates and tags, else from the names (`timo.sources.dates` has the
        grammar); a span of time is dated with its start. When a file was written is no date. A time of day is in UTC
        and becomes the solar day; a date alone is taken as it is.
    pattern : str, optional
        A regular expression that is searched in the names, with the groups ``(?P<date>...)``, ``(?P<band>...)``, or
        both.
    band_names : sequence of str, optional
        Bands of a file by their positions; None for one to leave out. Of a file with several images, the bands of one.
        By default they are read from descriptions, names of variables, and names of files.
    scale, offset : float, optional
        Physical value = number x scale + offset. By default what the files say (GDAL's scale and offset, CF's
        scale_factor and add_offset); else, of integers, what the sensor's product has; floats are values. A scale that
        is the product's own does not take its offset away: that of Landsat, and that of Sentinel-2 in ESA's format from
        processing baseline 04.00 on (by the name of the product, or, of single images, if taken from 25 January 2022
        on).
    nodata : float, optional
        The number of a cell without data, beside what the files say or, of integers, the sensor's product has. NaN is
        one anyway.
    linear : bool
        Radar: the numbers are linear power.
    chunks : int
        Cells a side of a chunk, 16 or more.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`, lazy. Scenes of one solar day are mosaicked, the later on top.

    Raises
    ------
    TimoError
        If the files cannot be made a cube; the message names the file, says why, and what to do.
    """
    asked.make_composite(composite)
    asked.make_clip(clip)
    asked.make_whole(chunks, "chunks", "a number of cells", asked.LEAST_CHUNK)
    check_limit(max_megapixels)
    if sensor is not None:
        asked.make_sensor(sensor)
    if bands is not None and not isinstance(bands, Iterable):
        raise TimoError(f'bands must be a list of names, as ["B4", "B8"]; got {bands!r}.')
    if max_cloud is not None:
        raise TimoError(
            "max_cloud: files do not say how cloudy they are. Leave it out; the quality layer masks clouds, and "
            "timo.cube.valid_mask(cube).mean() tells how much is left."
        )
    _check_numbers(scale=scale, offset=offset, nodata=nodata)
    meaning = Meaning(scale, offset, nodata, linear)
    kind, files = find_files(path)
    files = [file for file in files if not _DETECTOR_MASK.match(file.name)] or files
    where = {"aoi": aoi, "resolution": resolution, "crs": crs, "like": like}
    naming = called.make_naming(dates, pattern, band_names)
    given = (composite, masked_classes, buffer_m, dates, pattern, band_names, *where.values())
    plain = meaning == Meaning() and all(option is None for option in given)
    if kind != "raster" and plain and (cubes := own_cubes(files, kind, chunks)):
        return join_cubes(cubes, files, start=start, end=end, sensor=sensor, bands=bands)
    held = find_rasters(files, naming) if kind == "raster" else find_arrays(files, kind, naming)
    instrument = _nameless(held, _sensor(held, files, sensor, bands))
    meaning = _meaning_of(held, instrument, meaning)
    planet = {p: one for p, one in held.identities.items() if one.satellite == "planetscope"}
    fixed = {path: "data mask" in one.product for path, one in planet.items()}
    found = name_positions(_within(held.found, start, end), instrument, fixed)
    names = None if bands is None else called.read_bands(bands, instrument)
    quality = masked_classes is None or bool(asked.make_masked(instrument, masked_classes))
    scenes = make_scenes(found, instrument, names, masked=quality)
    names = names or tuple(b for b in instrument.band_names if b in scenes[0].layers)
    finest = min(instrument.band(name).gsd_m for name in names)
    layers = [scene.layers[name] for scene in scenes for name in names]
    area, grid = _target(layers, where, finest, max_megapixels)
    request = CubeRequest(
        area=area,
        grid=grid,
        start=pd.Timestamp.min,
        end=pd.Timestamp.max,
        sensor=instrument,
        bands=names,
        masked=_masked(scenes, instrument, masked_classes),
        buffer_m=asked.make_buffer(instrument.fringe_m if buffer_m is None else buffer_m, grid),
        composite=composite,
        clip=bool(clip),
    )
    days = request.solar_day(_times(scenes, request))
    first, after = make_open_span(start, end, days.min(), days.max())
    request = replace(request, start=first, end=after)
    cube = _cube(request, _overlapping(scenes, request), meaning, _source(files), chunks)
    return cube if instrument.name else cube.rename(names[0] if len(names) == 1 else "values")


@dataclass(frozen=True)
class Meaning:
    """What the user says of the numbers in the files (see `open_files`); None: the files say it, or the sensor."""

    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    linear: bool = False


# --- whose bands


def _sensor(
    held: Inventory, files: Sequence[Path], said: str | Sensor | None, bands: Sequence[str] | None
) -> Sensor:
    """Return the sensor of the files; of bands that timo wrote and no sensor has, one that knows no more than names."""
    # A layer that has only a number is called by its file.
    names = (
        next((n for n in f.names if not called.is_position(n)), f.names[0]) for f in held.found
    )
    labels = dict.fromkeys(strip_dates(name) for name in names)
    known = [
        label for label in labels if not called.is_beside(label) and not called.is_position(label)
    ]
    sensor = called.choose_sensor(said, held.identities, known)
    if sensor is None and bands is not None:
        # Files may hold other bands beside: what is asked for says whose they are.
        wanted = {bands} if isinstance(bands, str) else set(map(str, bands))
        sensor = called.choose_sensor(said, held.identities, [la for la in known if la in wanted])
    alien = False
    if held.ours and said is None and sensor is not None:
        # An index or a map that was made of its bands.
        alien = not any(called.recognise(found.names, sensor) for found in held.found)
        sensor = None if alien else sensor
    if sensor is not None:
        return sensor
    if not held.ours or (held.identities and not alien):
        raise called.which_sensor(held.identities, files, labels)
    listed = dict.fromkeys(found.names[0] for found in held.found)
    return Sensor("", "", tuple(Band(n, "", math.nan, 10) for n in listed), 1.0, kind="other")


def _nameless(held: Inventory, sensor: Sensor) -> Sensor:
    """Return the sensor; of a stack of dates whose band nobody names, one without a name and with that band."""
    dates: dict[Path, set[Moment]] = {}
    for found in held.found:
        dates.setdefault(found.path, set()).add(found.moment)
    stacked = all(len(dates[f.path]) > 1 and f.names == (f.path.stem,) for f in held.found)
    names = sorted({path.stem for path in dates})
    if not sensor.name or not stacked or any(called.recognise([name], sensor) for name in names):
        return sensor
    warnings.warn(
        f"Which band of {sensor.name} the dates of {', '.join(names[:3])} hold is not said: the cube has no sensor. "
        f'Say it: band_names=["{sensor.band_names[0]}"].',
        stacklevel=2,
    )
    bands = tuple(Band(name, "", math.nan, sensor.bands[0].gsd_m) for name in names)
    return replace(
        sensor, name="", bands=bands, mask_name="", quality=(), masked=(), fringed=(), usual=()
    )


def _meaning_of(held: Inventory, sensor: Sensor, meaning: Meaning) -> Meaning:
    """Return the meaning with what products say of radar, and refuse numbers whose factors only the user knows."""
    said = {one.linear for one in held.identities.values()}
    if said == {True}:
        meaning = replace(meaning, linear=True)
    whole = [f.layer.numbers for f in held.found if f.layer.numbers.whole]
    if math.isnan(sensor.scale) and meaning.scale is None and any(n.scale is None for n in whole):
        raise TimoError(
            f"The factors of {sensor.product} differ from scene to scene, and stand in its metadata, which is not "
            "read. Give scale= and offset=."
        )
    return meaning


def _plan(scene: FileScene, band: str, sensor: Sensor, meaning: Meaning) -> Plan:
    """Return how a band is read: as the user says, else as the file does, else (integers) as the sensor's product."""
    layer = scene.layers[band]
    numbers = layer.numbers
    shift = _shift(scene, layer, sensor)
    product = (sensor.scale, sensor.offset)
    if numbers.scale is not None:
        # A file that states the product's scale alone states nothing of its offset.
        bare = not numbers.offset and math.isclose(numbers.scale, sensor.scale, rel_tol=1e-6)
        own = product if bare else (numbers.scale, numbers.offset or 0.0)
        shift = shift if bare else 0.0
    elif numbers.whole or meaning.scale is not None:
        own = product
    else:
        own, shift = (1.0, 0.0), 0.0
    scale, offset = own
    if meaning.scale is not None and not math.isclose(meaning.scale, scale, rel_tol=1e-6):
        scale = meaning.scale
        if scale == 1:
            offset, shift = 0.0, 0.0
        elif offset and meaning.offset is None:
            warnings.warn(
                f"scale={scale:g} is not that of {Path(layer.path).name} ({own[0]:g}), so its offset of {offset:g} is "
                f"not applied either: give offset={offset:g} if it is to be.",
                stacklevel=2,
            )
            offset = 0.0
    if meaning.offset is not None:
        offset, shift = meaning.offset, 0.0
    nodata = numbers.nodata
    if not nodata and numbers.whole and numbers.scale is None:
        fill = sensor.nodata_of(band)
        nodata = () if fill is None else (float(fill),)
    if meaning.nodata is not None:
        nodata = (*nodata, meaning.nodata)
    return Plan(replace(layer, numbers=replace(numbers, nodata=nodata)), scale, offset, shift)


def _plan_quality(layer: Layer, sensor: Sensor) -> Plan:
    """Return how the quality layer is read: a number that the file calls "no data" may be one of its classes."""
    classes = {c.value for c in sensor.quality if c.bits is None}
    nodata = tuple(n for n in layer.numbers.nodata if n not in classes)
    stated = nodata == layer.numbers.nodata
    layer = replace(layer, numbers=replace(layer.numbers, nodata=nodata))
    return Plan(replace(layer, own_nodata=stated) if isinstance(layer, RasterLayer) else layer)


def _shift(scene: FileScene, layer: Layer, sensor: Sensor) -> float:
    """Return what makes the numbers of a Sentinel-2 image in ESA's own format those of the baselines before 04.00."""
    path = Path(layer.path)
    if not sensor.baseline_offset:
        return 0.0
    if match := _BASELINE.search(path.as_posix()):
        return -float(sensor.baseline_offset) if int(match[1]) >= 400 else 0.0
    new = bool(_ESA_IMAGE.match(path.name)) and scene.moment.time >= _BASELINE_4
    return -float(sensor.baseline_offset) if new else 0.0


# --- the cube


def _cube(
    request: CubeRequest, scenes: Sequence[FileScene], meaning: Meaning, source: str, chunks: int
) -> xr.DataArray:
    """Return the cube of scenes that are known to be complete."""
    sensor = request.sensor
    plans = [[_plan(scene, band, sensor, meaning) for band in request.bands] for scene in scenes]
    reader, quality = Reader(plans, request.grid), None
    if request.masked:
        layers = [[_plan_quality(scene.layers[sensor.mask_name], sensor)] for scene in scenes]
        quality = Reader(layers, request.grid.pad(fringe_cells(request)), quality=sensor)
    _look_at(reader, quality, request, scenes, meaning)
    return cube_from_scenes(
        request,
        reader.array(chunks),
        None if quality is None else quality.array(chunks),
        _times(scenes, request),
        [scene.name for scene in scenes],
        source=source,
        linear=meaning.linear,
    )


def _look_at(
    reader: Reader,
    quality: Reader | None,
    request: CubeRequest,
    scenes: Sequence[FileScene],
    meaning: Meaning,
) -> None:
    """Read a few cells of each scene, as far as time allows, and refuse values and classes that cannot be."""
    until = clock.monotonic() + _PATIENCE_S
    count = len(scenes)
    # The first, the last, the middle, and so on: with little time the whole series is looked at all the same.
    order = sorted(range(count), key=lambda i: (f"{i:b}"[::-1].zfill(count.bit_length() + 1), i))
    for scene in order:
        for window in _windows(request.grid):
            values = reader.read(scene, window)
            if quality is not None:
                unclear = request.sensor.flagged(quality.read(scene, window), request.masked)
                values = np.where(unclear, np.nan, values)
            if not np.isfinite(values).any():
                continue
            _check_unit(values, reader.plans[scene], request, str(scenes[scene]), meaning)
            break
        if clock.monotonic() > until:
            return


def _check_unit(
    values: np.ndarray, plans: Sequence[Plan], request: CubeRequest, what: str, meaning: Meaning
) -> None:
    """Refuse values that the sensor cannot measure, with the options that mend them."""
    sensor = request.sensor
    if meaning.linear:
        values = 10 * np.log10(np.where(values > 0, values, np.nan))
    try:
        check_values(values, sensor, request.bands, what=what, call=False)
    except TimoError as error:
        pairs = list(zip(values, plans, strict=True))
        here = [f for f in _FILLS if any((v == p.values(np.array(f))).any() for v, p in pairs)]
        if here:
            raise TimoError(f"{error} Give nodata={here[0]:g}.") from error
        own = f"scale={sensor.scale:g}" + (f", offset={sensor.offset:g}" if sensor.offset else "")
        radar = "linear=True if they are linear power; " if sensor.kind == "backscatter" else ""
        raise TimoError(
            f"{error} Give {radar}the factors that their producer states ({sensor.name}'s own: {own}); or the sensor= "
            "that they are of."
        ) from error


def _windows(grid: PixelGrid) -> list[PixelGrid]:
    """Return windows of a few cells: in the middle, then in the middles of the quarters."""
    shares = [(2, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
    windows = []
    for share in shares:
        sides = []
        for size, quarter in zip(grid.shape, share, strict=True):
            first = min(max(0, size * quarter // 4 - _LOOK // 2), max(0, size - _LOOK))
            sides.append(slice(first, min(size, first + _LOOK)))
        windows.append(grid.window(*sides))
    return list(dict.fromkeys(windows))


def _times(scenes: Sequence[FileScene], request: CubeRequest) -> pd.DatetimeIndex:
    """Return when each scene was taken, in UTC; one of which the day alone is known, at noon of that solar day."""
    return pd.DatetimeIndex(
        [s.moment.time if s.moment.exact else request.utc(s.moment.time) + _DAY / 2 for s in scenes]
    )


def _within(found: list[Found], start: Any, end: Any) -> list[Found]:
    """Return layers of the dates asked for, and a day more on both sides: the solar day is known later."""
    moments = sorted({f.moment for f in found})
    first, after = make_open_span(start, end, moments[0].time, moments[-1].time)
    inside = [f for f in found if first - _DAY <= f.moment.time < after + _DAY]
    if not inside:
        raise TimoError(
            f"No file is of start={start!r} to end={end!r}: they are of {moments[0]} to {moments[-1]}. Widen the dates."
        )
    return inside


def _masked(
    scenes: Sequence[FileScene], sensor: Sensor, classes: Iterable[int] | None
) -> tuple[int, ...]:
    """Return quality classes to mask: none where there is no quality layer, unless some are asked for."""
    positions = asked.make_masked(sensor, classes)
    there = bool(sensor.mask_name) and all(sensor.mask_name in scene.layers for scene in scenes)
    if positions and classes is not None and not there:
        raise TimoError(
            f"masked_classes={list(positions)}, but the files hold no quality layer ({sensor.mask_name or 'none'} of "
            f"{sensor.name}). Add it beside the bands, or leave masked_classes out."
        )
    return positions if there else ()


def _overlapping(scenes: Sequence[FileScene], request: CubeRequest) -> list[FileScene]:
    """Return scenes that reach the grid."""
    inside = [
        scene
        for scene in scenes
        if any(is_under(grid_of_layer(scene.layers[b]), request.grid) for b in request.bands)
    ]
    if not inside:
        layer = scenes[0].layers[request.bands[0]]
        west, south, east, north = request.grid.lonlat_bounds
        raise TimoError(
            f"None of the {len(scenes)} scenes overlaps the area {west:.4g}..{east:.4g} E, {south:.4g}..{north:.4g} N. "
            f"{layer.path} has {_in_words(layer)}. Is the aoi (west, south, east, north), in degrees?"
        )
    return inside


def _source(files: Sequence[Path]) -> str:
    """Return names without their folders, which are nobody else's business."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"files ({files[0].name}{more})"


def _check_numbers(**options: Any) -> None:
    for name, value in options.items():
        number = isinstance(value, Real) and not isinstance(value, bool)
        if value is not None and not (number and (name == "nodata" or math.isfinite(float(value)))):
            raise TimoError(f"{name} must be a number; got {value!r}.")
    if options["scale"] == 0:
        raise TimoError("scale=0 would make all values the same. Give another, or leave it out.")


# --- the cells


def _target(
    layers: Sequence[Layer], where: Mapping[str, Any], finest_m: float, max_megapixels: float
) -> tuple[Area, PixelGrid]:
    """Return the area and its cells: those that are asked for, else the files' own."""
    if where["aoi"] is None and where["like"] is None:
        said = where["resolution"] is not None or where["crs"] is not None
        grid = _grid_over(layers, where, max_megapixels) if said else _common_grid(layers)
        return grid.area, grid
    return asked.make_place(**where, finest_m=finest_m, max_megapixels=max_megapixels)


def _common_grid(layers: Sequence[Layer]) -> PixelGrid:
    """Return the grid that all files are on; of several resolutions over the same ground, the finest."""
    first = min(layers, key=lambda layer: cell_of(grid_of_layer(layer)))
    box = grid_of_layer(first)
    finest = min(cell_of(grid_of_layer(la)) for la in layers if _crs(la) == _commonest(layers))
    mend = f'open_cube("files", path=..., resolution={finest:g}, crs="{_commonest(layers)}")'
    for layer in layers:
        other = grid_of_layer(layer)
        coarser = cell_of(other) > 1.5 * cell_of(box) and is_plain(other)
        slack = 1.001 * cell_of(other) / (max(box.shape) * cell_of(box))
        if not (same_cells(box, other) or (coarser and same_place(first, layer, slack))):
            raise TimoError(
                f"The files are on different grids: {first.path} has {_in_words(first)}, {layer.path} has "
                f"{_in_words(layer)}. Bring them onto one: {mend}, with aoi=... for a part of it."
            )
    if not is_plain(box):
        raise TimoError(
            f"The grid of {first.path} is turned, south-up, or its cells are not square: {_in_words(first)}. Bring it "
            f"onto another: {mend}."
        )
    return PixelGrid(_crs(first), box.affine.c, box.affine.f, box.affine.a, *box.shape)


def _grid_over(
    layers: Sequence[Layer], where: Mapping[str, Any], max_megapixels: float
) -> PixelGrid:
    """Return cells over all files, in a CRS and of a size; those of the finest file, where that is possible."""
    crs = crs_name(read_crs(where["crs"])) if where["crs"] is not None else _commonest(layers)
    finest = min(layers, key=lambda la: (_crs(la) != crs, cell_of(grid_of_layer(la))))
    own, box = _crs(finest) == crs, grid_of_layer(finest)
    if where["resolution"] is None and not own:
        raise TimoError(f"resolution is missing: how large are the cells, in the unit of {crs}?")
    side = cell_of(box)
    if where["resolution"] is not None:
        side = check_resolution(where["resolution"], read_crs(crs), crs)
    x, y = (box.affine.c, box.affine.f) if own else (0.0, 0.0)
    boxes = [_bounds(box, crs) for box in dict.fromkeys([box, *map(grid_of_layer, layers)])]
    if read_crs(crs).is_geographic:  # on one side of the antimeridian
        turns = [360 * round((boxes[0][0] - box[0]) / 360) for box in boxes]
        boxes = [(w + t, s, e + t, n) for (w, s, e, n), t in zip(boxes, turns, strict=True)]
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    west, south = (_whole(v, side, math.floor) for v in (min(lefts) - x, min(bottoms) - y))
    east, north = (_whole(v, side, math.ceil) for v in (max(rights) - x, max(tops) - y))
    grid = PixelGrid(crs, x + west * side, y + north * side, side, north - south, east - west)
    if grid.megapixels > max_megapixels:
        raise TimoError(
            f"The files cover {grid.height:,} x {grid.width:,} cells of {side:g}, {grid.megapixels:,.0f} megapixels; "
            f"the limit is {max_megapixels:g}. Give an aoi, a larger resolution, or max_megapixels=."
        )
    return grid


def _whole(length: float, side: float, rounded: Callable[[float], int]) -> int:
    """Return cells in a length, rounded up or down; a thousandth of one is rounding."""
    near = round(length / side)
    return near if abs(length / side - near) <= 1e-3 else rounded(length / side)


def _bounds(box: GeoBox, crs: str) -> tuple[float, float, float, float]:
    own = box.extent.boundingbox.bbox
    if str(box.crs) == crs or crs_name(read_crs(box.crs.to_wkt())) == crs:  # type: ignore[union-attr]
        return own
    left, bottom, right, top = transform_bounds(str(box.crs), crs, *own, densify_pts=21)
    return left, bottom, right + (360 if left > right else 0), top


def _crs(layer: Layer) -> str:
    crs = grid_of_layer(layer).crs
    return str(crs) if str(crs).startswith("EPSG:") else crs_name(read_crs(crs.to_wkt()))  # type: ignore[union-attr]


def _commonest(layers: Sequence[Layer]) -> str:
    return Counter(_crs(layer) for layer in layers).most_common(1)[0][0]


def _in_words(layer: Layer) -> str:
    box = grid_of_layer(layer)
    turned = "" if is_plain(box) else ", turned or with cells that are not square"
    corner = f"({box.affine.c:.10g}, {box.affine.f:.10g})"
    height, width = box.shape
    return f"{height} x {width} cells of {cell_of(box):g} from {corner} in {short_name(_crs(layer))}{turned}"
