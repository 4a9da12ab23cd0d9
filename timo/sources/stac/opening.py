"""`open_cube("stac")`: from a STAC catalogue to a cube."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pandas as pd
import pystac
import shapely
import xarray as xr

from timo.checks import Count, Positive, checked
from timo.cube import period_starts
from timo.errors import TimoError
from timo.sources.reading import Numbers, Plan, RasterLayer, Reader, Side
from timo.sources.request import CubeRequest
from timo.sources.retry import redact
from timo.sources.scenes import attribution, cube_from_scenes, fringe_cells, no_image
from timo.sources.stac.assets import Layout, calibration, find_layout, nodata_of
from timo.sources.stac.catalogs import describe, find_items, is_preset, readable, signer_of
from timo.sources.stac.items import instants, select_items

# Of the dates of one period in one chunk.
_CHUNK_BYTES = 256e6
_SMALLEST, _LARGEST = 256, 2048
# Signed addresses are good for an hour with most providers, and for a quarter of one with some.
_SIGNED_FOR_S = 300.0


@checked
def open_stac(
    request: CubeRequest,
    *,
    catalog: Any = "planetary-computer",
    collection: str | Sequence[str] | None = None,
    assets: Mapping[str, str] | None = None,
    orbit: Literal["ascending", "descending"] | None = None,
    modifier: Callable[[Any], Any] | None = None,
    headers: Any = None,
    timeout: Positive = 60,
    max_items: Count = 5000,
    chunks: Side | None = None,
) -> xr.DataArray:
    """Open the images of a STAC catalogue as a cube.

    Items are searched at once; pixels are read when the cube is computed, chunk by chunk, and their values checked. A
    pixel is the nearest of an image's; on a grid whose cells are twice as wide as the image's or more it is the average
    of its bands (from the file's overviews, if it has fitting ones) and the commonest class of its quality layer.

    Parameters
    ----------
    request : CubeRequest
        The cube to make; `timo.open_cube` makes it of its options.
    catalog : str, path, pystac.Catalog, pystac.ItemCollection or list of pystac.Item
        "planetary-computer", which takes the library planetary-computer for signing; "earth-search", whose Sentinel-2
        is open (for its Landsat the reader pays: set the environment variable AWS_REQUEST_PAYER=requester);
        the address of another STAC API; the path of a static catalog.json or of its folder, or of a file of items; or
        what pystac made of one.
    collection : str or sequence of str, optional
        Ids of its collections. By default those that the sensor is known by; in a static catalog, all if it has none of
        these.
    assets : mapping, optional
        Band of the cube or quality layer -> asset, e.g. ``{"B4": "B04_10m", "SCL": "SCL_20m"}``. By default the
        names of the presets are tried, and then the common names that the assets state.
    orbit : {"ascending", "descending"}, optional
        Only these passes (Sentinel-1).
    modifier : callable, optional
        Signs the files of other providers: called with a copy of an item when it is read, and again after five minutes,
        to change its addresses in place.
    headers : dict of str to str, optional
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
        If the catalogue cannot be read, or holds nothing that fits. When computed: if an asset cannot be read, or its
        values cannot be what the sensor measures.

    Notes
    -----
    Items that do not state their cloud cover pass `max_cloud`. Items without an asset that is needed are left out. Of a
    scene in several processings the newest is taken. Scale and offset are the sensor's; in other catalogues than the
    presets they are those that the items state (`raster:bands`, `raster:scale`), if they do. Cells without data are
    those of the file (nodata, mask, alpha), and those of the nodata that the item or else the sensor's product states.
    """
    if headers is not None and not (
        isinstance(headers, Mapping)
        and all(isinstance(text, str) for pair in headers.items() for text in pair)
    ):
        # The value is not repeated: it may be a key.
        raise TimoError('headers must be a dict of text, as {"Authorization": "..."}.')
    ids = [collection] if isinstance(collection, str) else collection
    if ids is not None and not (ids and all(ids)):
        raise TimoError("collection is empty. Give the id of a collection, or leave it out.")
    sign = modifier or signer_of(catalog)
    found = find_items(catalog, request, ids, limit=max_items, timeout=timeout, headers=headers)
    if not found:
        raise no_image(request, f"nothing in {describe(catalog)}")
    with readable(describe(catalog)):  # what items state may be of any type
        layout = find_layout(request, catalog if is_preset(catalog) else "", found, assets)
        items = select_items(request, layout, found, orbit)
        times = instants(items)
        days = [f"{when:%Y-%m-%d}" for when in times]
        sources = [_Source(*each, layout, sign) for each in zip(items, days, strict=True)]
        bands = [[source.plan(request, band) for band in request.bands] for source in sources]
        footprints = [_footprint(item) for item in items]
    if sign is not None:
        # The first one now: a signature that cannot be had is better known before hours of reading.
        sources[0].href(next(iter(layout.names.values())))
    side = chunk_side(request, times) if chunks is None else chunks
    quality = None
    if request.sensor.mask_name in layout.names:
        layers = [[Plan(source.layer(request.sensor.mask_name, ()))] for source in sources]
        around = request.grid.pad(fringe_cells(request))
        quality = Reader(layers, around, quality=request.sensor, footprints=footprints).array(side)
    cube = cube_from_scenes(
        request,
        Reader(bands, request.grid, footprints=footprints).array(side),
        quality,
        times,
        [item.id for item in items],
        source=f"stac ({describe(catalog)})",
        linear=layout.served.linear,
    )
    own = layout.served if layout.trusted else None
    return cube.assign_attrs(attribution=attribution(request.sensor, request.solar_day(times), own))


class _Source:
    """An item as it is read: its layers, and addresses that are signed when they are needed."""

    def __init__(
        self, item: pystac.Item, day: str, layout: Layout, sign: Callable[[Any], Any] | None
    ) -> None:
        # Links to its catalogue, and other assets, need not travel with the graph.
        self.item = pystac.Item(
            item.id,
            item.geometry,
            item.bbox,
            item.datetime,
            item.properties,
            href=item.get_self_href(),
        )
        self.item.collection_id = item.collection_id
        for name in set(layout.names.values()):
            asset = item.assets[name]
            kept = pystac.Asset(asset.href, roles=asset.roles, extra_fields=asset.extra_fields)
            self.item.add_asset(name, kept)
        self.layout, self.day, self.sign = layout, day, sign
        self._signed: pystac.Item | None = None
        self._at = 0.0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # No signature in a graph that is stored.
        return _Source, (self.item, self.day, self.layout, self.sign)

    def href(self, name: str, renew: bool = False) -> str:
        """Return the address of an asset, signed again if it is old, or failed."""
        assert self.sign is not None
        with self._lock:
            now = time.monotonic()
            # Of the many threads whose address failed one signs for all.
            until = self._at + (1 if renew else _SIGNED_FOR_S)
            if self._signed is None or now > until:
                copy = self.item.clone()
                try:
                    changed = self.sign(copy)
                except Exception as error:
                    raise TimoError(
                        f"The addresses of item {self.item.id} ({self.day}) could not be signed "
                        f"({type(error).__name__}: {redact(str(error))}). Is there a network, and is the provider up? "
                        "Or does modifier= take an item and change its addresses in place?"
                    ) from error
                self._signed = changed if isinstance(changed, pystac.Item) else copy
                self._at = now
            return _address(self._signed.assets[name])

    def layer(self, band: str, nodata: tuple[float, ...]) -> RasterLayer:
        """Describe the asset of a band or of the quality layer."""
        name = self.layout.names[band]
        return RasterLayer(
            _address(self.item.assets[name]),
            1,
            Numbers("", nodata),
            label=f"{band} of {self.day} (item {self.item.id}, asset {name})",
            address=None if self.sign is None else partial(self.href, name),
        )

    def plan(self, request: CubeRequest, band: str) -> Plan:
        """Describe how a band is read."""
        facts = (request, self.layout, self.item, band)
        return Plan(self.layer(band, nodata_of(*facts)), *calibration(*facts))


def _address(asset: pystac.Asset) -> str:
    return (asset.get_absolute_href() or asset.href).removeprefix("file://")


def _footprint(item: pystac.Item) -> tuple[float, float, float, float]:
    """Return west, south, east, north of an item; the east beyond 180 if it crosses the antimeridian."""
    if item.bbox is not None and len(item.bbox) in (4, 6):
        west, south, east, north = *item.bbox[:2], *item.bbox[len(item.bbox) // 2 :][:2]
        return west, south, east + 360 * (east < west), north
    return shapely.geometry.shape(item.geometry).bounds


def chunk_side(request: CubeRequest, times: pd.DatetimeIndex) -> int:
    """Choose cells a side of a chunk, a power of two: the dates that meet in one date of the cube stay small."""
    days = request.solar_day(times).unique()
    most = 1
    if request.composite is not None:
        starts = period_starts(days, request.composite, request.start)
        most = int(starts.value_counts().max())
    cells = _CHUNK_BYTES / (4 * len(request.bands) * most)
    return min(max(2 ** math.floor(math.log2(math.sqrt(cells))), _SMALLEST), _LARGEST)
