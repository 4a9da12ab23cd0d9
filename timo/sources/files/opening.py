"""`open_cube("files")`: from what lies on a disk to a cube."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from timo.errors import TimoError
from timo.sensors import Sensor, get_sensor
from timo.sources.files.arrays import find_arrays, sensor_named
from timo.sources.files.bands import guess_sensor, is_beside, is_position, read_bands
from timo.sources.files.dates import strip_dates
from timo.sources.files.find import Kind, find_files
from timo.sources.files.grids import window_on
from timo.sources.files.inventory import Found, find_rasters, make_naming
from timo.sources.files.lazy import (
    NO_QUALITY,
    Meaning,
    Reader,
    check_plausible,
    plan_band,
    plan_quality,
)
from timo.sources.files.own import join_cubes, own_cubes
from timo.sources.files.scenes import FileScene, make_scenes
from timo.sources.files.target import Where, make_target
from timo.sources.place.grid import check_limit
from timo.sources.request import (
    LEAST_CHUNK,
    CubeRequest,
    make_buffer,
    make_clip,
    make_composite,
    make_masked,
    make_sensor,
    make_whole,
)
from timo.sources.files.old_scenes import cube_from_scenes, fringe_cells
from timo.sources.span import make_open_span

_DAY = pd.Timedelta(days=1)
_CHUNK = 512
# ESA's own products carry an offset of 1000 from processing baseline 04.00 on, in use since 25 January 2022 (Sentinel-2
# Products Specification Document, BOA_ADD_OFFSET). The baseline stands in the name of the product's folder.
_BASELINE = re.compile(r"S2[A-D]_MSIL2A_\d{8}T\d{6}_N(\d{4})_", re.IGNORECASE)
_ESA_IMAGE = re.compile(r"^(L2A_)?T\d\d[C-X][A-Z]{2}_\d{8}T\d{6}_", re.IGNORECASE)
_BASELINE_4 = pd.Timestamp("2022-01-25")
_SHIFT = -1000.0
# They lie in ESA's products without a date in their names, some of them named as bands are.
_DETECTOR_MASK = re.compile(r"MSK_\w+\.jp2$", re.IGNORECASE)


def open_files(
    path: str | Path | Sequence[str | Path],
    *,
    aoi: Any = None,
    start: Any = None,
    end: Any = None,
    sensor: str | None = None,
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

    One GeoTIFF per date with all bands, or one per date and band, the quality layer (SCL, QA_PIXEL, state) among them;
    NetCDF or Zarr with a variable per band, or with one variable that has a dim of bands. Opening reads headers and a
    few cells in the middle of one scene; the rest is read chunk by chunk when it is computed. A cube that timo wrote
    (``cube.to_dataset(name="cube").to_netcdf(...)`` or ``.to_zarr(...)``) comes back as it was.

    Parameters
    ----------
    path : path, glob, folder, or list of them
        Folders are searched through and through. All files must be of one kind.
    aoi, resolution, crs, like : optional
        As in `timo.open_cube`. Without any of them the cube keeps the files' grid, and they must all be on one. With
        `resolution` or `crs` alone it covers all files, on cells that are the finest file's where that is possible.
        Files are brought onto the grid by nearest neighbour; where its cells are twice as wide as the file's or more,
        by the average (quality: the commonest class).
    start, end : str or date, optional
        First and last day; by default all.
    sensor : str, optional
        By default what the files say: an attribute `sensor`, names of products (S2A_..., LC08_..., MOD09A1...), or
        bands that only one sensor has.
    bands : sequence of str, optional
        Which, in which order, by the sensor's names or by common ones ("red", "nir08"). By default all that the files
        hold, in the sensor's order.
    composite, masked_classes, buffer_m, clip, max_megapixels : optional
        As in `timo.open_cube`. Without a quality layer among the files only cells without data are masked.
    max_cloud : None
        Files do not say how cloudy they are.
    dates : list, mapping or callable, optional
        A date per file, in their order; or from a file's name to its date. By default they are read from the names,
        else from the tags. A time of day is in UTC and becomes the solar day; a date alone is taken as it is.
    pattern : str, optional
        A regular expression that is searched in the names, with the groups ``(?P<date>...)``, ``(?P<band>...)``, or
        both.
    band_names : sequence of str, optional
        Bands of a file by their positions; None for one to leave out. By default they are read from descriptions, names
        of variables, and names of files.
    scale, offset : float, optional
        Physical value = number x scale + offset. By default what the files say (GDAL's scale and offset, CF's
        scale_factor and add_offset); else, of integers, what the sensor's product has; floats are values. Of Sentinel-2
        images in ESA's own format the offset of the processing baselines from 04.00 on is taken off: by the baseline in
        the name of the product, or, of single images, if taken from 25 January 2022 on.
    nodata : float, optional
        The number of a cell without data; by default what the files say, else, of integers, the sensor's. NaN is one
        anyway.
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
    _check_options(
        composite=composite,
        clip=clip,
        chunks=chunks,
        max_megapixels=max_megapixels,
        bands=bands,
        sensor=sensor,
    )
    meaning = Meaning(*_check_numbers(scale, offset, nodata), linear)
    if max_cloud is not None:
        raise TimoError(
            "max_cloud: files do not say how cloudy they are. Leave it out; the quality layer masks clouds, and "
            "timo.cube.valid_mask(cube).mean() tells how much is left."
        )
    kind, files = find_files(path)
    files = [file for file in files if not _DETECTOR_MASK.match(file.name)] or files
    where = Where(aoi, resolution, crs, like)
    naming = make_naming(dates, pattern, band_names)
    plain = (
        where.said,
        composite,
        masked_classes,
        buffer_m,
        dates,
        pattern,
        band_names,
        meaning != Meaning(),
    )
    if kind != "raster" and not any(item not in (None, False) for item in plain):
        cubes = own_cubes(files, kind, chunks)
        if cubes is not None:
            return join_cubes(cubes, files, start=start, end=end, sensor=sensor, bands=bands)
    found = find_rasters(files, naming) if kind == "raster" else find_arrays(files, kind, naming)
    instrument = _sensor(found, files, kind) if sensor is None else make_sensor(sensor)
    names = None if bands is None else read_bands(bands, instrument)
    scenes = make_scenes(_within(found, start, end), instrument, names)
    names = names or tuple(b for b in instrument.band_names if b in scenes[0].layers)
    finest = min(instrument.band(name).gsd_m for name in names)
    area, grid = make_target(scenes, where, finest, max_megapixels)
    request = CubeRequest(
        area=area,
        grid=grid,
        start=pd.Timestamp.min,
        end=pd.Timestamp.max,
        sensor=instrument,
        bands=names,
        masked=_masked(scenes, instrument, masked_classes),
        buffer_m=make_buffer(instrument.fringe_m if buffer_m is None else buffer_m, grid),
        composite=composite,
        clip=bool(clip),
    )
    days = request.solar_day(_times(scenes, request))
    first, after = _span(start, end, days.min(), days.max())
    request = replace(request, start=first, end=after)
    return _cube(request, _overlapping(scenes, request), meaning, _source(files), chunks)


def _cube(
    request: CubeRequest, scenes: Sequence[FileScene], meaning: Meaning, source: str, chunks: int
) -> xr.DataArray:
    """The cube of scenes that are known to be complete."""
    sensor = request.sensor
    plans = [
        [
            plan_band(scene.layers[band], sensor, meaning, _shift(scene, band, sensor))
            for band in request.bands
        ]
        for scene in scenes
    ]
    reader = Reader(plans, request.grid, quality=False)
    if meaning.scale is None:
        check_plausible(reader, sensor, meaning)
    quality = None
    if request.masked and all(sensor.mask_name in scene.layers for scene in scenes):
        layers = [[plan_quality(scene.layers[sensor.mask_name], sensor)] for scene in scenes]
        padded = request.grid.pad(fringe_cells(request))
        quality = Reader(layers, padded, quality=True).array(chunks)
    return cube_from_scenes(
        request,
        reader.array(chunks),
        quality,
        _times(scenes, request),
        [scene.name for scene in scenes],
        source=source,
        scale=1.0,
        offset=0.0,
        quality_nodata=NO_QUALITY,
        linear=meaning.linear,
    )


def _times(scenes: Sequence[FileScene], request: CubeRequest) -> pd.DatetimeIndex:
    """When each scene was taken, in UTC; one of which the day alone is known, at noon of that solar day."""
    return pd.DatetimeIndex(
        [s.moment.time if s.moment.exact else request.utc(s.moment.time) + _DAY / 2 for s in scenes]
    )


def _within(found: list[Found], start: Any, end: Any) -> list[Found]:
    """Layers of the dates asked for, and a day more on both sides: the solar day is known later."""
    moments = sorted({f.moment for f in found})
    first, after = _span(start, end, moments[0].time, moments[-1].time)
    inside = [f for f in found if first - _DAY <= f.moment.time < after + _DAY]
    if not inside:
        raise TimoError(
            f"No file is of start={start!r} to end={end!r}: they are of {moments[0]} to {moments[-1]}. Widen the dates."
        )
    return inside


def _span(start: Any, end: Any, first: Any, last: Any) -> tuple[pd.Timestamp, pd.Timestamp]:
    return make_open_span(start, end, first, last)


def _sensor(found: Sequence[Found], files: Sequence[Path], kind: Kind) -> Sensor:
    """The sensor that attributes name, else what names of products and bands tell."""
    named = sensor_named(files, kind) if kind != "raster" else set()
    if len(named) == 1:
        return get_sensor(named.pop())
    # A layer that has only a number is called by its file.
    names = (next((n for n in item.names if not is_position(n)), item.names[0]) for item in found)
    labels = {strip_dates(name) for name in names}
    return guess_sensor(
        [str(Path(*file.parts[-3:])) for file in files],
        [label for label in labels if not is_beside(label) and not is_position(label)],
    )


def _masked(
    scenes: Sequence[FileScene], sensor: Sensor, classes: Iterable[int] | None
) -> tuple[int, ...]:
    """Quality classes to mask: none where there is no quality layer, unless some are asked for."""
    positions = make_masked(sensor, classes)
    there = bool(sensor.mask_name) and all(sensor.mask_name in scene.layers for scene in scenes)
    if positions and classes is not None and not there:
        raise TimoError(
            f"masked_classes={list(positions)}, but the files hold no quality layer ({sensor.mask_name or 'none'} of "
            f"{sensor.name}). Add it beside the bands, or leave masked_classes out."
        )
    return positions if there else ()


def _check_options(
    *, composite: Any, clip: Any, chunks: Any, max_megapixels: Any, bands: Any, sensor: Any
) -> None:
    """Refuse what makes no sense before any file is looked for."""
    make_composite(composite)
    make_clip(clip)
    make_whole(chunks, "chunks", "a number of cells", LEAST_CHUNK)
    check_limit(max_megapixels)
    if sensor is not None:
        make_sensor(sensor)
    if bands is not None and not isinstance(bands, Iterable):
        raise TimoError(f'bands must be a list of names, as ["B4", "B8"]; got {bands!r}.')


def _check_numbers(
    scale: Any, offset: Any, nodata: Any
) -> tuple[float | None, float | None, float | None]:
    for name, value in (("scale", scale), ("offset", offset), ("nodata", nodata)):
        number = isinstance(value, Real) and not isinstance(value, bool)
        if value is not None and not (number and (name == "nodata" or math.isfinite(float(value)))):
            raise TimoError(f"{name} must be a number; got {value!r}.")
    if scale == 0:
        raise TimoError("scale=0 would make all values the same. Give another, or leave it out.")
    return scale, offset, nodata


def _overlapping(scenes: Sequence[FileScene], request: CubeRequest) -> list[FileScene]:
    """Scenes that reach the grid."""
    inside = [
        scene
        for scene in scenes
        if any(window_on(scene.layers[band].grid, request.grid) for band in request.bands)
    ]
    if not inside:
        layer = scenes[0].layers[request.bands[0]]
        west, south, east, north = request.grid.lonlat_bounds
        raise TimoError(
            f"None of the {len(scenes)} scenes overlaps the area {west:.4g}..{east:.4g} E, {south:.4g}..{north:.4g} N. "
            f"{layer.path} has {layer.grid}. Is the aoi (west, south, east, north), in degrees?"
        )
    return inside


def _shift(scene: FileScene, band: str, sensor: Sensor) -> float:
    """What makes the numbers of a Sentinel-2 image in ESA's own format those of the baselines before 04.00."""
    if sensor.name != "sentinel-2":
        return 0.0
    path = scene.layers[band].path
    if match := _BASELINE.search(path.as_posix()):
        return _SHIFT if int(match[1]) >= 400 else 0.0
    new = bool(_ESA_IMAGE.match(path.name)) and scene.moment.time >= _BASELINE_4
    return _SHIFT if new else 0.0


def _source(files: Sequence[Path]) -> str:
    """Names without their folders, which are nobody else's business."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"files ({files[0].name}{more})"
