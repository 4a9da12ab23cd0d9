"""The sample: 100 ha of mountain forest in Romania, Sentinel-2, 2015-2021, offline.

The files come with `nrt==0.2.1` (European Union, Joint Research Centre; EUPL-1.2). Only its data are read: importing
`nrt.monitor` would load numba.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from rasterio.features import rasterize

from timo.cube import check
from timo.cube.grid import dilate
from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.sources.dates import make_open_span
from timo.sources.request import make_bands, make_masked

ATTRIBUTION = "Contains modified Copernicus Sentinel data 2015-2021"
TREE_COVER_ATTRIBUTION = (
    "Copernicus Land Monitoring Service, High Resolution Layer Tree Cover Density 2018, "
    "European Environment Agency"
)
_SOURCE = "sample (nrt 0.2.1, Romania, 45.21 N 22.15 E)"
_CRS = "EPSG:3035"
_SENSOR = get_sensor("sentinel-2")
# In order of wavelength. B3 and B4 are in both files: the 10 m one is the original.
_BANDS_10M = ("B2", "B3", "B4", "B8")
_BANDS_20M = ("B8A", "B11")
BANDS = (*_BANDS_10M, *_BANDS_20M)
_RESOLUTIONS = (10, 20)


def open_sample(
    start: Any = None,
    end: Any = None,
    bands: Sequence[str] | None = None,
    resolution: int = 10,
    masked_classes: Iterable[int] | None = None,
    *,
    buffer_m: float = 50,
) -> xr.DataArray:
    """Open the sample cube: up to 140 dates of B2 B3 B4 B8 B8A B11, 1 km x 1 km.

    Parameters
    ----------
    start, end : str, date or int, optional
        First and last date, both included. A part of a date means all of it: `end="2019"` takes the whole of 2019.
    bands : sequence of str, optional
        Which bands, in which order, by their names or by common ones ("red"). All six by default.
    resolution : {10, 20}
        Metres. At 10, B8A and B11 are repeated: each 20 m cell holds exactly four 10 m ones, and a repeated value was
        observed, whereas interpolation would draw on neighbours that may be under a cloud or across the edge of a
        clearing. At 20, the 10 m bands are averaged over the valid ones of their four cells.
    masked_classes : iterable of int, optional
        Codes of the scene classification (SCL) without a valid observation, see `timo.sensors`; by default the sensor's
        `masked`. All bands of such a pixel and date are NaN. `()` masks nothing.
    buffer_m : float
        Metres around a masked cloud or cloud shadow (SCL 3, 8, 9, 10) in which pixels are masked, too. The
        classification stops short of the edge of clouds: of the May to September pixels that it calls clear within 50 m
        of one, five in six are brighter, darker or less green than the same place on the clear dates around, against
        one in seven further away. 0 masks by class alone.

    Returns
    -------
    xarray.DataArray
        A cube (time, band, y, x), float32 surface reflectance, EPSG:3035, with the SCL as the coordinate `scl` (time,
        y, x). A pixel is valid in all bands or in none.

    Raises
    ------
    TimoError
        If an option is not one of those above, if no date is left, or if the data are not installed.
    """
    names = list(BANDS) if bands is None else list(make_bands(_SENSOR, bands))
    if unknown := [name for name in names if name not in BANDS]:
        raise TimoError(f"The sample has no band {unknown[0]!r}. It has: {', '.join(BANDS)}.")
    masked = list(make_masked(_SENSOR, masked_classes))
    _check_resolution(resolution)
    number = isinstance(buffer_m, Real) and not isinstance(buffer_m, bool)
    if not number or not 0 <= buffer_m < np.inf:
        raise TimoError(f"buffer_m is a distance in metres, 0 or more; got {buffer_m!r}.")
    fine = _select_dates(_read("sentinel2_cube_subset_romania_10m.nc"), start, end)
    coarse = _select_dates(_read("sentinel2_cube_subset_romania_20m.nc"), start, end)
    if resolution == 10:
        grid, layers = fine, _at_10m(fine, coarse)
    else:
        grid, layers = coarse, _at_20m(fine, coarse, _unclear(fine, masked, buffer_m / 10))
    unclear = _unclear(grid, masked, buffer_m / resolution)
    return check(_assemble({name: layers[name] for name in names}, grid, unclear))


def sample_tree_cover(resolution: int = 10) -> xr.DataArray:
    """Tree cover density of 2018 on the sample cube's grid.

    Parameters
    ----------
    resolution : {10, 20}
        Metres. The layer is made at 20 m; at 10 each cell is repeated.

    Returns
    -------
    xarray.DataArray
        (y, x) float32, percent of the cell under tree crowns, 0..100, NaN where unknown.

    Raises
    ------
    TimoError
        If the resolution is neither, or if the data are not installed.
    """
    _check_resolution(resolution)
    path = _path("tree_cover_density_2018_romania.tif")
    with xr.open_dataarray(path, engine="rasterio", mask_and_scale=True) as tif:
        cover = tif.squeeze("band", drop=True).load()
    coarse = _read("sentinel2_cube_subset_romania_20m.nc")
    # The tif's coordinates are rounded to 0.1 mm; the cube's are taken where the cells are the same, to a millimetre.
    for dim in ("y", "x"):
        same_size = cover.sizes[dim] == coarse.sizes[dim]
        if not same_size or not np.allclose(cover[dim], coarse[dim], rtol=0, atol=1e-3):
            raise TimoError(
                "The tree cover layer and the series in nrt are not on one grid. Install them again: "
                'pip install --force-reinstall "nrt==0.2.1".'
            )
    grid = coarse if resolution == 20 else _read("sentinel2_cube_subset_romania_10m.nc")
    values = cover.values if resolution == 20 else _repeat(cover.values)
    facts = {"long_name": "tree cover density 2018", "units": "%"}
    attrs = facts | {"attribution": TREE_COVER_ATTRIBUTION}
    layer = xr.DataArray(
        values.astype("float32"), dims=("y", "x"), coords={"y": grid.y, "x": grid.x}, attrs=attrs
    )
    return layer.drop_vars("spatial_ref", errors="ignore").rio.write_crs(_CRS)


def sample_labels(threshold: float = 50, resolution: int = 10) -> xr.DataArray:
    """Forest / not forest of 2018 on the sample cube's grid, from tree cover density.

    Parameters
    ----------
    threshold : float
        Percent of tree cover above which a cell is forest.
    resolution : {10, 20}
        Metres.

    Returns
    -------
    xarray.DataArray
        (y, x) int8: 0 = not forest, 1 = forest, -1 = unlabelled; the names are in `attrs["classes"]`.

    Raises
    ------
    TimoError
        If an option is out of range, or if the data are not installed.
    """
    if not 0 <= threshold < 100:
        raise TimoError(
            f"threshold is a tree cover in percent, 0 <= threshold < 100; got {threshold!r}."
        )
    cover = sample_tree_cover(resolution)
    labels = (cover > threshold).astype("int8").where(np.isfinite(cover), -1).astype("int8")
    labels.attrs = {
        "long_name": f"tree cover density 2018 > {threshold:g} %",
        "classes": ["not forest", "forest"],
        "attribution": TREE_COVER_ATTRIBUTION,
    }
    return labels


def sample_clearings(
    dated_by: Literal["year", "first_summer"] = "first_summer", *, road_works: bool = False
) -> xr.DataArray:
    """Photo-interpreted forest clearings of the sample, 2016-2020, on the 10 m grid.

    Outlines are within about half a pixel, the smallest patch has 0.03 ha; method and limits stand in
    ``timo/sources/sample_clearings.geojson``. The whole area was interpreted, so that every pixel has its reference.

    Parameters
    ----------
    dated_by : {"first_summer", "year"}
        "first_summer": the first June-August in which a clearing is visible, which is what a map made from summer
        images can know; "year": the calendar year in which it is first visible. They differ for nine clearings (2.7 ha)
        cut in the autumn of 2019.
    road_works : bool
        Also the trees taken away along the road in 2016-2017, whose outlines are weak.

    Returns
    -------
    xarray.DataArray
        (y, x) int16: 0 = no clearing, else the year.

    Raises
    ------
    TimoError
        If `dated_by` is unknown.
    """
    if dated_by not in ("year", "first_summer"):
        raise TimoError(f"dated_by is one of year, first_summer, got {dated_by!r}")
    grid = sample_tree_cover()
    source = files("timo.sources") / "sample_clearings.geojson"
    collection = json.loads(source.read_text(encoding="utf-8"))
    shapes = [
        (feature["geometry"], feature["properties"][dated_by])
        for feature in collection["features"]
        if road_works or feature["properties"]["cause"] == "felling"
    ]
    years = rasterize(
        shapes, out_shape=grid.shape, transform=grid.rio.transform(recalc=True), dtype="int32"
    )
    clearings = grid.copy(data=years.astype(np.int16)).rename("clearing")
    # Not those of the tree cover, whose grid it is.
    clearings.attrs = {
        "long_name": f"clearing, {dated_by}",
        "flags": "0 = no clearing",
        "attribution": collection["metadata"]["attribution"],
    }
    return clearings


def _check_resolution(resolution: int) -> None:
    """Refuse a resolution that the sample does not have."""
    if isinstance(resolution, bool) or resolution not in _RESOLUTIONS:
        raise TimoError(f"The sample is there at 10 and at 20 m; got resolution={resolution!r}.")


def _path(name: str) -> Path:
    """Return the path of one of nrt's data files."""
    spec = find_spec("nrt")
    if spec is None or find_spec("netCDF4") is None:
        raise TimoError(
            'The sample data are not installed. Install them: pip install "timo[sample]".'
        )
    for folder in spec.submodule_search_locations or ():
        if (path := Path(folder) / "data" / name).is_file():
            return path
    raise TimoError(
        f"The installed nrt has no {name}: only release 0.2.1 ships the sample data. "
        'Install it: pip install "timo[sample]".'
    )


def _read(name: str) -> xr.Dataset:
    """Read one of nrt's series whole (28 MB), in order of time."""
    with xr.open_dataset(_path(name), engine="netcdf4", decode_coords="all") as dataset:
        return dataset.load().sortby("time")


def _select_dates(dataset: xr.Dataset, start: Any, end: Any) -> xr.Dataset:
    """Keep the dates from start to end, both included; a part of a date means all of it."""
    index = dataset.indexes["time"]
    first, after = make_open_span(start, end, index[0], index[-1])
    selected = dataset.isel(time=np.flatnonzero((index >= first) & (index < after)))
    if selected.sizes["time"] == 0:
        raise TimoError(
            f"No date between start={start!r} and end={end!r}. "
            f"The sample goes from {index[0]:%Y-%m-%d} to {index[-1]:%Y-%m-%d}."
        )
    return selected


def _repeat(values: np.ndarray) -> np.ndarray:
    """Repeat each 20 m cell (last two axes) over its four 10 m cells."""
    return values.repeat(2, axis=-2).repeat(2, axis=-1)


def _mean_of_four(values: np.ndarray) -> np.ndarray:
    """Average the 10 m cells (last two axes) of each 20 m cell, over those that are not NaN."""
    *rest, height, width = values.shape
    cells = values.reshape(*rest, height // 2, 2, width // 2, 2)
    count = np.isfinite(cells).sum(axis=(-3, -1))
    total = np.nansum(cells, axis=(-3, -1))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype("float32")


def _at_10m(fine: xr.Dataset, coarse: xr.Dataset) -> dict[str, np.ndarray]:
    """Return digital numbers of all six bands, (time, y, x) on the 10 m grid."""
    layers = {name: fine[name].values for name in _BANDS_10M}
    return layers | {name: _repeat(coarse[name].values) for name in _BANDS_20M}


def _at_20m(fine: xr.Dataset, coarse: xr.Dataset, unclear: np.ndarray) -> dict[str, np.ndarray]:
    """Return digital numbers of all six bands, (time, y, x) on the 20 m grid; `unclear` is at 10 m."""
    layers = {n: _mean_of_four(np.where(unclear, np.nan, fine[n].values)) for n in _BANDS_10M}
    return layers | {name: coarse[name].values for name in _BANDS_20M}


def _unclear(grid: xr.Dataset, masked: list[int], cells: float) -> np.ndarray:
    """Return where the SCL is a masked class, or within `cells` of a masked cloud or shadow."""
    clouds = [code for code in masked if code in _SENSOR.fringed]
    return np.isin(grid.SCL, masked) | dilate(np.isin(grid.SCL, clouds), cells, cells)


def _assemble(layers: dict[str, np.ndarray], grid: xr.Dataset, unclear: np.ndarray) -> xr.DataArray:
    """Scale, mask and name: the layers (time, y, x) become a cube on the grid."""
    values = np.stack(list(layers.values()), axis=1).astype("float32") * np.float32(_SENSOR.scale)
    # Values of 1e-4 are kept (Sen2Cor's floor in deep shade), and those above 1 (snow, cloud
    # edges): they were observed.
    valid = ~unclear & np.isfinite(values).all(axis=1)
    cube = xr.DataArray(
        np.where(valid[:, None], values, np.float32(np.nan)),
        dims=("time", "band", "y", "x"),
        coords={
            "time": grid.time.values,
            "band": list(layers),
            "y": grid.y.values,
            "x": grid.x.values,
            "scl": (("time", "y", "x"), grid.SCL.values.astype("uint8"), {"long_name": "SCL"}),
        },
        name="reflectance",
        attrs={
            "sensor": _SENSOR.name,
            "units": _SENSOR.units,
            "source": _SOURCE,
            "attribution": ATTRIBUTION,
        },
    )
    return cube.rio.write_crs(_CRS)
