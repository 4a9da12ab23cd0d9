"""`open_cube("files")`: from what lies on a disk to a cube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
import xarray as xr

from timo.checks import AnyNumber, PathLike, Positive, checked
from timo.errors import TimoError
from timo.sensors import Sensor
from timo.sources import request as asked
from timo.sources.dates import make_open_span
from timo.sources.files.arrays import find_arrays
from timo.sources.files.cells import in_words, make_cells
from timo.sources.files.datasets import join_cubes, own_cubes
from timo.sources.files.find import find_files
from timo.sources.files.inventory import Found, find_rasters
from timo.sources.files.naming import make_naming, read_bands
from timo.sources.files.numbers import Meaning, complete_meaning, look_at, plan_of, plan_of_quality
from timo.sources.files.scenes import FileScene, grid_of_layer, make_scenes, name_positions
from timo.sources.files.whose import sensor_of
from timo.sources.reading import Reader, Side, is_under
from timo.sources.request import CubeRequest, Metres
from timo.sources.scenes import cube_from_scenes, fringe_cells

_DAY = pd.Timedelta(days=1)


@checked
def open_files(
    path: Annotated[
        PathLike | Sequence[PathLike],
        'Give a file, a folder, a glob, or a list of them, as sorted(Path("folder").glob("*.tif")).',
    ],
    *,
    aoi: Any = None,
    start: Any = None,
    end: Any = None,
    sensor: str | Sensor | None = None,
    bands: str | Sequence[str] | None = None,
    resolution: Positive | None = None,
    composite: Any = None,
    crs: Any = None,
    like: Any = None,
    max_cloud: Any = None,
    masked_classes: Any = None,
    buffer_m: Metres | None = None,
    clip: bool = False,
    max_megapixels: Positive = 1000,
    dates: Any = None,
    pattern: str | None = None,
    band_names: str | Sequence[str | None] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: AnyNumber | None = None,
    linear: bool = False,
    chunks: Side = 512,
) -> xr.DataArray:
    r"""Open GeoTIFFs, NetCDF files or Zarr stores as a cube.

    One GeoTIFF per date with all bands, one per date and band, or one with bands of many dates (Earth Engine's toBands,
    FORCE, `timo.export`), the quality layer (SCL, QA_PIXEL, state) among them; NetCDF or Zarr with a variable per band,
    or with one variable that has a dim of bands. Opening reads headers and, for two seconds at most, a few cells of
    each scene; the rest is read, and checked, chunk by chunk when it is computed. A cube that timo wrote
    (``cube.to_dataset(name="cube").to_netcdf(...)`` or ``.to_zarr(...)``) comes back as it was.

    Parameters
    ----------
    path : path, glob, folder, or list of them
        Folders are searched with those in them. All files must be of one kind.
    aoi, resolution, crs, like, composite, buffer_m, clip, max_megapixels : optional
        As in `timo.open_cube`. Without a place the cube keeps the files' grid, which must be one; of several
        resolutions over the same ground the finest, and dates that lack one are left out with a warning. With
        `resolution` or `crs` alone it covers all files, on the finest file's cells where possible. Other cells get the
        nearest of the files'; those twice as wide or more the average (quality: the commonest class).
    start, end : str or date, optional
        First and last day; by default all.
    sensor : str or Sensor, optional
        By default what the files say: names and tags of products (S2A_MSIL2A_..., LC08_L2SP_..., HLS.S30...,
        MOD09A1...), an attribute `sensor`, or bands that only one sensor has. All files must be of one product. Level 1
        is opened only if it is given.
    bands : sequence of str, optional
        By the sensor's names or by common ones ("red", "nir08"). By default all that the files hold, in its order.
    masked_classes : iterable of int, optional
        As in `timo.open_cube`. Without a quality layer, or with (), only cells without data are masked.
    max_cloud : None
        Files do not say how cloudy they are.
    dates : list, mapping or callable, optional
        A date per file, in their order; from a file's name to its date; or, of one file with several images, a date for
        each. By default they are read from coordinates and tags, else from the names (`timo.sources.dates` has the
        grammar), never from when a file was written; a span of time is dated with its start. A time of day is in UTC
        and becomes the solar day; a date alone is taken as it is.
    pattern : str, optional
        A regular expression for the names, with a group ``(?P<date>...)``, ``(?P<band>...)``, or both.
    band_names : sequence of str, optional
        Bands of a file by their positions; None for one to leave out. Of a file with several images, the bands of one.
        By default they are read from descriptions, names of variables, and names of files.
    scale, offset : float, optional
        Physical value = number x scale + offset. By default what the files say (GDAL's scale and offset, CF's
        scale_factor and add_offset); else, of integers, what the sensor's product has; floats are values. A file that
        states the product's scale alone gets its offset, too: of Sentinel-2 from processing baseline 04.00 on, by the
        product's name or a single image's date (25 January 2022). A warning says where numbers seem to hold that offset
        and no name does.
    nodata : float, optional
        The number of a cell without data, beside what the files say or, of integers, the sensor's product has.
    linear : bool
        Radar: the numbers are linear power.
    chunks : int
        Cells a side of a chunk, 16 or more.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`, lazy. Scenes of one solar day are mosaicked, the later on top. What
        `timo.export` wrote, and no sensor has, is a cube without a sensor.

    Raises
    ------
    TimoError
        If the files cannot be made a cube; the message names the file, says why, and what to do.
    """
    asked.make_composite(composite)
    if sensor is not None:
        asked.make_sensor(sensor)
    if max_cloud is not None:
        raise TimoError(
            "max_cloud: files do not say how cloudy they are. Leave it out; the quality layer masks clouds, and "
            "timo.cube.valid_mask(cube).mean() is the share that is left."
        )
    meaning = Meaning(scale, offset, nodata, linear)
    naming = make_naming(dates, pattern, band_names)
    kind, files = find_files(path)
    given = (composite, masked_classes, buffer_m, dates, pattern, band_names)
    where = (aoi, resolution, crs, like)
    plain = meaning == Meaning() and all(option is None for option in (*given, *where))
    if kind != "raster" and plain and (cubes := own_cubes(files, kind, chunks)):
        return join_cubes(cubes, files, start=start, end=end, sensor=sensor, bands=bands)
    held = find_rasters(files, naming) if kind == "raster" else find_arrays(files, kind, naming)
    if not held.found:
        raise TimoError("band_names leaves every band out. Name one at least.")
    instrument = sensor_of(held, sensor, bands)
    meaning = complete_meaning(held, instrument, meaning)
    found = name_positions(_within(held.found, start, end), instrument, held.identities)
    names = None if bands is None else read_bands(bands, instrument)
    masked = asked.make_masked(instrument, masked_classes)
    scenes = make_scenes(found, instrument, names, masked=masked_classes is None or bool(masked))
    if not all(instrument.mask_name in scene.layers for scene in scenes):
        if masked and masked_classes is not None:
            raise TimoError(
                f"masked_classes={list(masked)}, but the files hold no quality layer ({instrument.mask_name or 'none'} "
                f"of {instrument.name}). Add it beside the bands, or leave masked_classes out."
            )
        masked = ()
    names = names or tuple(b for b in instrument.band_names if b in scenes[0].layers)
    finest = min(instrument.band(name).gsd_m for name in names)
    layers = [scene.layers[name] for scene in scenes for name in names]
    if aoi is None and like is None:
        area, grid = make_cells(layers, resolution, crs, max_megapixels)
    else:
        area, grid = asked.make_place(*where, finest_m=finest, max_megapixels=max_megapixels)
    request = CubeRequest(
        area=area,
        grid=grid,
        start=pd.Timestamp.min,
        end=pd.Timestamp.max,
        sensor=instrument,
        bands=names,
        masked=masked,
        buffer_m=asked.make_buffer(instrument.fringe_m if buffer_m is None else buffer_m, grid),
        composite=composite,
        clip=clip,
    )
    days = request.solar_day(_times(scenes, request))
    first, after = make_open_span(start, end, days.min(), days.max())
    request = replace(request, start=first, end=after)
    # Without folders, which are private.
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    source = f"files ({files[0].name}{more})"
    cube = _cube(request, _overlapping(scenes, request), meaning, source, chunks)
    return cube if instrument.name else cube.rename(names[0] if len(names) == 1 else "values")


def _cube(
    request: CubeRequest, scenes: Sequence[FileScene], meaning: Meaning, source: str, chunks: int
) -> xr.DataArray:
    """Return the cube of scenes that are known to be complete."""
    sensor = request.sensor
    plans = [[plan_of(scene, band, sensor, meaning) for band in request.bands] for scene in scenes]
    reader, quality = Reader(plans, request.grid), None
    if request.masked:
        layers = [[plan_of_quality(scene, sensor)] for scene in scenes]
        quality = Reader(layers, request.grid.pad(fringe_cells(request)), quality=sensor)
    look_at(reader, quality, request, scenes, meaning)
    return cube_from_scenes(
        request,
        reader.array(chunks),
        None if quality is None else quality.array(chunks),
        _times(scenes, request),
        [scene.name for scene in scenes],
        source=source,
        linear=meaning.linear,
    )


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


def _overlapping(scenes: Sequence[FileScene], request: CubeRequest) -> list[FileScene]:
    """Return scenes that reach the grid."""
    inside = [
        scene
        for scene in scenes
        if any(is_under(grid_of_layer(scene.layers[b]), request.grid) for b in request.bands)
    ]
    if not inside:
        layer = scenes[0].layers[request.bands[0]]
        west, south, east, north = request.area.bounds
        raise TimoError(
            f"None of the {len(scenes)} scenes overlaps the area {west:.7g}..{east:.7g} E, {south:.7g}..{north:.7g} N. "
            f"{layer.path} has {in_words(grid_of_layer(layer))}. Is the aoi (west, south, east, north), in degrees?"
        )
    return inside
