"""`open_cube("stac")`: from a STAC catalogue to a cube."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import odc.stac
import pandas as pd
import pystac
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox

from timo.cube import period_starts
from timo.errors import TimoError
from timo.sources.place.grid import PixelGrid
from timo.sources.request import LEAST_CHUNK, CubeRequest, make_whole
from timo.sources.scenes import attribution, cube_from_scenes, fringe_cells, no_image
from timo.sources.stac.assets import Layout, calibration, find_layout, pixel_metres
from timo.sources.stac.catalogs import Access, describe, find_items, signer_of
from timo.sources.stac.items import instants, select_items

_NO_QUALITY = -1
# Of the dates of one period in one chunk.
_CHUNK_BYTES = 256e6
_SMALLEST, _LARGEST = 256, 2048
# GDAL's own repeats of a read that failed on the way; nothing is looked for beside a remote file.
_GDAL = {
    "GDAL_HTTP_MAX_RETRY": "6",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
}


def open_stac(
    request: CubeRequest,
    *,
    catalog: str | Path | pystac.Catalog | Sequence[pystac.Item] = "planetary-computer",
    collection: str | Sequence[str] | None = None,
    assets: Mapping[str, str] | None = None,
    orbit: str | None = None,
    modifier: Callable[[Any], Any] | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 60,
    max_items: int = 5000,
    chunks: int | None = None,
) -> xr.DataArray:
    """Open the images of a STAC catalogue as a cube.

    Items are searched at once; pixels are read when the cube is computed, chunk by chunk. A pixel is the nearest of an
    image's; on a grid whose cells are twice as wide as the image's or more it is the average of its bands (from the
    file's overviews, if it has them) and the commonest class of its quality layer.

    Parameters
    ----------
    request : CubeRequest
        What is asked for; `timo.open_cube` makes it of its options.
    catalog : str, path, pystac.Catalog, pystac.ItemCollection or list of pystac.Item
        "planetary-computer", which takes the library planetary-computer for signing; "earth-search", whose Sentinel-2
        is open (its Landsat lies where the reader pays: call ``odc.stac.configure_s3_access(requester_pays=True)``);
        the address of another STAC API; the path of a static catalog.json or of its folder, or of a file of items; or
        what pystac made of one.
    collection : str or sequence of str, optional
        Ids of its collections. By default those that the sensor is known by; in a static catalog, all if there are none
        such.
    assets : mapping, optional
        Band of the cube or quality layer -> asset, e.g. ``{"B4": "B04_10m", "SCL": "SCL_20m"}``. By default the
        names of the presets are tried, and then the common names that the assets state.
    orbit : {"ascending", "descending"}, optional
        Only these passes (Sentinel-1).
    modifier : callable, optional
        Called with each item that is read, to change it in place: how other providers' files are signed. Signed
        addresses expire, mostly within an hour: open the cube anew if reading begins to fail.
    headers : dict, optional
        Sent to the API with each request.
    timeout : float
        Seconds that an answer of the API may take.
    max_items : int
        More items are refused.
    chunks : int, optional
        Cells a side of a chunk, 16 or more. By default such that the dates of one period are 256 MB a chunk, or less.

    Returns
    -------
    xarray.DataArray
        A cube that passed `timo.cube.check`, lazy.

    Raises
    ------
    TimoError
        If the catalogue cannot be read, or holds nothing of what is asked for.

    Notes
    -----
    Items that do not say how cloudy they are pass `max_cloud`. Items without an asset that is needed are left out. Of a
    scene in several processings the newest is taken. Scale and offset are the sensor's; in other catalogues than the
    presets they are those that the items state (`raster:bands`, `raster:scale`), if they do.
    """
    _check_options(
        max_items=max_items,
        chunks=chunks,
        timeout=timeout,
        modifier=modifier,
        headers=headers,
        collection=collection,
    )
    ids = [collection] if isinstance(collection, str) else collection
    sign = modifier or signer_of(catalog)
    found = find_items(catalog, request, ids, Access(timeout, headers), max_items)
    if not found:
        raise no_image(request, f"nothing in {describe(catalog)}")
    preset = catalog if isinstance(catalog, str) else ""
    layout = find_layout(request, preset, found, assets)
    items = select_items(request, layout, found, orbit)
    if sign is not None:
        _sign_all(items, sign)
    side = chunk_side(request, instants(items)) if chunks is None else int(chunks)
    scale, offset, shift = calibration(request, layout, items)
    served = layout.served
    cube = cube_from_scenes(
        request,
        _numbers(request, layout, items, side),
        _quality(request, layout, items, side),
        instants(items),
        [item.id for item in items],
        source=f"stac ({describe(catalog)})",
        scale=scale,
        offset=offset,
        nodata=_nodata(request, layout),
        quality_nodata=_NO_QUALITY,
        linear=served.linear,
        shift=shift,
    )
    days = request.solar_day(instants(items))
    own = served if layout.trusted else None
    return cube.assign_attrs(attribution=attribution(request.sensor, days, own))


def _sign_all(items: Sequence[pystac.Item], sign: Callable[[Any], Any]) -> None:
    try:
        for item in items:
            sign(item)
    except OSError as error:
        raise TimoError(
            f"The addresses of the files could not be signed ({error}). Is there a network, and is the provider up?"
        ) from error


def chunk_side(request: CubeRequest, times: pd.DatetimeIndex) -> int:
    """Cells a side of a chunk, a power of two: what is needed at once for one date of the cube stays small."""
    days = request.solar_day(times).unique()
    most = 1
    if request.composite is not None:
        starts = period_starts(days, request.composite, request.start)
        most = int(pd.Series(1, index=starts).groupby(level=0).sum().max())
    cells = _CHUNK_BYTES / (4 * len(request.bands) * most)
    return min(max(2 ** math.floor(math.log2(math.sqrt(cells))), _SMALLEST), _LARGEST)


def _check_options(
    *, max_items: Any, chunks: Any, timeout: Any, modifier: Any, headers: Any, collection: Any
) -> None:
    if chunks is not None:
        make_whole(chunks, "chunks", "a number of cells", LEAST_CHUNK)
    make_whole(max_items, "max_items")
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0:
        raise TimoError(f"timeout is a number of seconds, more than 0; got {timeout!r}")
    if modifier is not None and not callable(modifier):
        raise TimoError(f"modifier must be a function that takes an item; got {modifier!r}")
    if headers is not None and not isinstance(headers, Mapping):
        # What was given is not repeated: it may be a key.
        raise TimoError('headers must be a dict, as {"Authorization": "..."}')
    if not isinstance(collection, str | Sequence | None) or collection == "":
        raise TimoError(f"collection must be the id of a collection, or a list; got {collection!r}")


def _nodata(request: CubeRequest, layout: Layout) -> list[float | None]:
    """The number of a pixel without data, for each band: its own, the collection's, or the sensor's."""
    general = request.sensor.nodata if layout.served.nodata is None else layout.served.nodata
    bands = request.sensor.select(request.bands)
    return [general if band.nodata is None else band.nodata for band in bands]


def _numbers(
    request: CubeRequest, layout: Layout, items: Sequence[pystac.Item], side: int
) -> da.Array:
    """(scene, band, y, x) float32 digital numbers, NaN outside the images."""
    layers = {band: layout.names[band] for band in request.bands}
    resampling = {
        band: _resampling(request, items, name, band, "average") for band, name in layers.items()
    }
    loaded = _load(
        items, layers, request.grid, side, dtype="float32", nodata=np.nan, resampling=resampling
    )
    return da.stack([loaded[band] for band in request.bands], axis=1)


def _quality(
    request: CubeRequest, layout: Layout, items: Sequence[pystac.Item], side: int
) -> da.Array | None:
    """(scene, y, x) int32 quality layer, on the grid and as far around it as a cloud reaches."""
    name = request.sensor.mask_name
    if name not in layout.names:
        return None
    resampling = {name: _resampling(request, items, layout.names[name], name, "mode")}
    grid = request.grid.pad(fringe_cells(request))
    layers = {name: layout.names[name]}
    return _load(
        items, layers, grid, side, dtype="int32", nodata=_NO_QUALITY, resampling=resampling
    )[name]


def _resampling(
    request: CubeRequest, items: Sequence[pystac.Item], name: str, layer: str, coarse: str
) -> str:
    # A hundredth for degrees that are metres by way of a mean radius.
    pixel = pixel_metres(request, items, name, layer)
    return coarse if request.grid.metres >= 2 * pixel * 0.99 else "nearest"


def _load(
    items: Sequence[pystac.Item],
    layers: Mapping[str, str],
    grid: PixelGrid,
    side: int,
    *,
    dtype: str,
    nodata: float,
    resampling: dict[str, str],
) -> dict[str, da.Array]:
    """Layer -> (scene, y, x), one chunk for each scene and tile, scenes in the order of the items."""
    with rasterio.Env(**_GDAL):
        loaded = odc.stac.load(
            [_plain(item, layers, time) for item, time in zip(items, instants(items), strict=True)],
            bands=list(layers),
            geobox=GeoBox(grid.shape, grid.transform, grid.crs),
            chunks={"x": side, "y": side},
            groupby="id",
            dtype=dtype,
            nodata=nodata,
            resampling=resampling,
        )
    return {layer: loaded[layer].data for layer in layers}


def _plain(item: pystac.Item, layers: Mapping[str, str], time: pd.Timestamp) -> pystac.Item:
    """The item with what is read of it and no more, named as in the cube.

    What else items say of their assets (grids, types, several names for one) differs between catalogues, and is in the
    files anyway.
    """
    plain = pystac.Item(item.id, item.geometry, item.bbox, time.to_pydatetime(), {})
    for layer, name in layers.items():
        href = item.assets[name].get_absolute_href() or item.assets[name].href
        plain.add_asset(layer, pystac.Asset(href, media_type=pystac.MediaType.COG, roles=["data"]))
    return plain
