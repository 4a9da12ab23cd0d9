"""The sample: 100 ha of mountain forest in Romania, Sentinel-2, 2015-2021, offline.

The files come with `nrt==0.2.1` (European Union, Joint Research Centre; EUPL-1.2). Only its data are read: importing
`nrt.monitor` would load numba.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import xarray as xr
from rasterio.features import rasterize

from timo.checks import Range, checked
from timo.cube import check, dilate, grid_mismatch
from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.sources.dates import make_open_span
from timo.sources.request import Metres, make_bands, make_masked

TREE_COVER_ATTRIBUTION = (
    "Copernicus Land Monitoring Service, High Resolution Layer Tree Cover Density 2018, "
    "European Environment Agency"
)
_CRS = "EPSG:3035"
_SENSOR = get_sensor("sentinel-2")
# In order of wavelength. B3 and B4 are in both files: the 10 m one is the original.
BANDS_10M = ("B2", "B3", "B4", "B8")
BANDS_20M = ("B8A", "B11")
BANDS = (*BANDS_10M, *BANDS_20M)


@checked
def open_sample(
    start: Any = None,
    end: Any = None,
    bands: str | Sequence[str] | None = None,
    resolution: float = 10,
    masked_classes: Any = None,
    *,
    buffer_m: Metres = 50,
) -> xr.DataArray:
    """Open the sample cube: up to 140 dates of B2 B3 B4 B8 B8A B11, 1 km x 1 km.

    Parameters
    ----------
    start, end, bands, masked_classes
        As in `timo.open_cube`; by default all dates and all six bands.
    resolution : {10, 20}
        Metres. At 10, each value of B8A and B11 is repeated over the four cells that it holds: it was observed, whereas
        interpolation would draw on neighbours under a cloud or across the edge of a clearing. At 20, the 10 m bands are
        averaged over the valid ones of four cells.
    buffer_m : float
        Metres around a masked cloud or cloud shadow (SCL 3, 8, 9, 10) in which pixels are masked, too. The scene
        classification stops short of the edge of clouds: of the May to September pixels that it calls clear within 50 m
        of one, five in six are brighter, darker or less green than the same place on the clear dates around, against
        one in seven further away.

    Returns
    -------
    xarray.DataArray
        A cube (time, band, y, x), float32 surface reflectance, EPSG:3035, with the SCL as `scl` (time, y, x). A pixel
        is valid in all bands or in none.

    Raises
    ------
    TimoError
        If no date is left, or the data are not installed.
    """
    names = list(BANDS) if bands is None else list(make_bands(_SENSOR, bands))
    if unknown := [name for name in names if name not in BANDS]:
        raise TimoError(f"The sample has no band {unknown[0]!r}. It has: {', '.join(BANDS)}.")
    masked = list(make_masked(_SENSOR, masked_classes))
    _check_resolution(resolution)
    fine, coarse = (_select_dates(read_series(side), start, end) for side in (10, 20))
    if resolution == 10:
        layers = {name: fine[name].values for name in BANDS_10M}
        layers |= {name: _repeat(coarse[name].values) for name in BANDS_20M}
    else:
        clear = fine[[*BANDS_10M]].where(~_unclear(fine, masked, buffer_m / 10))
        layers = {name: clear[name].coarsen(y=2, x=2).mean().values for name in BANDS_10M}
        layers |= {name: coarse[name].values for name in BANDS_20M}
    grid = fine if resolution == 10 else coarse
    numbers = np.stack([layers[name] for name in names], axis=1).astype("float32")
    # Values of 1e-4 are kept (Sen2Cor's floor in deep shade), and those above 1 (snow, edges of clouds): observed.
    valid = np.isfinite(numbers).all(axis=1) & ~_unclear(grid, masked, buffer_m / resolution)
    scl = grid.SCL.values.astype("uint8")
    cube = xr.DataArray(
        np.where(valid[:, None], numbers * np.float32(_SENSOR.scale), np.float32(np.nan)),
        dims=("time", "band", "y", "x"),
        coords={
            **{dim: grid[dim].values for dim in ("time", "y", "x")},
            "band": names,
            "scl": (("time", "y", "x"), scl, {"long_name": "SCL"}),
        },
        name="reflectance",
        attrs={
            "sensor": _SENSOR.name,
            "units": _SENSOR.units,
            "source": "sample (nrt 0.2.1, Romania, 45.21 N 22.15 E)",
            "attribution": "Contains modified Copernicus Sentinel data 2015-2021",
        },
    )
    return check(cube.rio.write_crs(_CRS))


@checked
def sample_tree_cover(resolution: float = 10) -> xr.DataArray:
    """Return the tree cover density of 2018 on the sample cube's grid.

    Parameters
    ----------
    resolution : {10, 20}
        Metres. The layer is made at 20 m; at 10 each cell is repeated.

    Returns
    -------
    xarray.DataArray
        (y, x) float32, percent of the cell under tree crowns, 0..100, NaN where unknown.
    """
    _check_resolution(resolution)
    path = _path("tree_cover_density_2018_romania.tif")
    with xr.open_dataarray(path, engine="rasterio", mask_and_scale=True) as tif:
        cover = tif.squeeze("band", drop=True).load()
    coarse = read_series(20)
    # The tif's coordinates are rounded to 0.1 mm; the cube's are taken where the cells are the same.
    if grid_mismatch(cover, coarse):
        raise TimoError(
            "The tree cover layer and the series in nrt are not on one grid. Install them again: "
            'pip install --force-reinstall "nrt==0.2.1".'
        )
    grid = coarse if resolution == 20 else read_series(10)
    values = cover.values if resolution == 20 else _repeat(cover.values)
    facts = {"long_name": "tree cover density 2018", "units": "%"}
    layer = xr.DataArray(
        values.astype("float32"),
        dims=("y", "x"),
        coords={"y": grid.y, "x": grid.x},
        attrs=facts | {"attribution": TREE_COVER_ATTRIBUTION},
    )
    return layer.drop_vars("spatial_ref", errors="ignore").rio.write_crs(_CRS)


@checked
def sample_labels(
    threshold: Annotated[float, Range(least=0, below=100)] = 50, resolution: float = 10
) -> xr.DataArray:
    """Return forest / not forest of 2018 on the sample cube's grid, from tree cover density.

    Parameters
    ----------
    threshold, resolution : float, {10, 20}
        Percent of tree cover above which a cell is forest; metres.

    Returns
    -------
    xarray.DataArray
        (y, x) int8: 0 = not forest, 1 = forest, -1 = unlabelled; the names are in `attrs["classes"]`.
    """
    cover = sample_tree_cover(resolution)
    labels = (cover > threshold).astype("int8").where(np.isfinite(cover), -1).astype("int8")
    labels.attrs = {
        "long_name": f"tree cover density 2018 > {threshold:g} %",
        "classes": ["not forest", "forest"],
        "attribution": TREE_COVER_ATTRIBUTION,
    }
    return labels


@checked
def sample_clearings(
    dated_by: Literal["year", "first_summer"] = "first_summer", *, road_works: bool = False
) -> xr.DataArray:
    """Return photo-interpreted forest clearings of the sample, 2016-2020, on the 10 m grid.

    The whole area was interpreted, so that every pixel has its reference. Outlines are within about half a pixel, the
    smallest patch has 0.03 ha; ``timo/sources/sample_clearings.geojson`` has the method and its limits.

    Parameters
    ----------
    dated_by : {"first_summer", "year"}
        The first June-August in which a clearing is visible, which is what a map made from summer images can know, or
        the calendar year. They differ for nine clearings (2.7 ha) cut in the autumn of 2019.
    road_works : bool
        Also the trees taken away along the road in 2016-2017, whose outlines are weak.

    Returns
    -------
    xarray.DataArray
        (y, x) int16: 0 = no clearing, else the year.
    """
    grid = sample_tree_cover()
    collection = json.loads((files("timo.sources") / "sample_clearings.geojson").read_bytes())
    shapes = [
        (feature["geometry"], feature["properties"][dated_by])
        for feature in collection["features"]
        if road_works or feature["properties"]["cause"] == "felling"
    ]
    transform = grid.rio.transform(recalc=True)
    years = rasterize(shapes, out_shape=grid.shape, transform=transform, dtype="int16")
    clearings = grid.copy(data=years).rename("clearing")
    # Not those of the tree cover, whose grid it is.
    clearings.attrs = {
        "long_name": f"clearing, {dated_by}",
        "flags": "0 = no clearing",
        "attribution": collection["metadata"]["attribution"],
    }
    return clearings


def _check_resolution(resolution: float) -> None:
    if resolution not in (10, 20):
        raise TimoError(f"The sample is there at 10 and at 20 m; got resolution={resolution!r}.")


def _path(name: str) -> Path:
    spec = find_spec("nrt") if find_spec("netCDF4") else None
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / "data" / name).is_file():
            return path
    lacks = f"The installed nrt has no {name}: only release 0.2.1 ships the sample data."
    missing = lacks if spec else "The sample data are not installed."
    raise TimoError(f'{missing} Install them: pip install "timo[sample]".')


def read_series(resolution: int) -> xr.Dataset:
    """Read nrt's series of digital numbers at 10 or 20 m whole (28 MB), in order of time."""
    path = _path(f"sentinel2_cube_subset_romania_{resolution}m.nc")
    with xr.open_dataset(path, engine="netcdf4", decode_coords="all") as dataset:
        return dataset.load().sortby("time")


def _select_dates(dataset: xr.Dataset, start: Any, end: Any) -> xr.Dataset:
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


def _unclear(grid: xr.Dataset, masked: list[int], cells: float) -> np.ndarray:
    """Return where the SCL is a masked class, or within `cells` of a masked cloud or shadow."""
    clouds = [code for code in masked if code in _SENSOR.fringed]
    return np.isin(grid.SCL, masked) | dilate(np.isin(grid.SCL, clouds), cells, cells)
