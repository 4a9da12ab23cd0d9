"""The sample as a static STAC catalog on disk: items of Sentinel-2 as Earth Search has them, and their COGs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pystac
import rasterio
import shapely
from ee_emulator import sample

from timo.sensors import get_sensor
from timo.sources.dates import make_span
from timo.sources.place.grid import PixelGrid

_SERVED = get_sensor("sentinel-2").collection("earth-search")
_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"


def sample_grid(resolution: int = 10) -> PixelGrid:
    """Return the cells of the sample's files."""
    grid = sample.sample_grid(resolution)
    _, _, left, _, _, top = grid.projection.transform
    return PixelGrid(sample.CRS, left, top, resolution, grid.height, grid.width)


def scene_ids() -> list[str]:
    """Return the name of each scene as an item of Earth Search, e.g. "S2A_34TER_20150801_0_L2A"."""
    scenes = zip(sample.platforms(), sample.scene_times(), strict=True)
    return [f"S2{of[-1].upper()}_{sample.TILE}_{time:%Y%m%d}_0_L2A" for of, time in scenes]


def write_catalog(
    folder: str | Path,
    *,
    start: Any = None,
    end: Any = None,
    bands: Sequence[str] = sample.BANDS,
) -> Path:
    """Write the sample as a catalog that ``open_cube("stac", catalog=...)`` reads, and return its catalog.json.

    By default all 140 scenes with all bands (29 MB), else those of some days, both included, and some bands; "SCL" is
    always there. Links and addresses in it are relative: the folder can be moved.
    """
    folder = Path(folder)
    days = sample.scene_times().normalize()
    # What is left open reaches beyond the first and the last scene.
    first, after = make_span("1950" if start is None else start, "2200" if end is None else end)
    wanted = (days >= first) & (days < after)
    catalog = pystac.Catalog("sample", "Sentinel-2 over 100 ha of forest in Romania, 2015-2021")
    items = [write_item(folder, scene, bands) for scene in np.flatnonzero(wanted).tolist()]
    extent = pystac.Extent(
        pystac.SpatialExtent([list(_footprint(sample_grid()).bounds)]),
        pystac.TemporalExtent([[items[0].datetime, items[-1].datetime]]),
    )
    served = pystac.Collection(_SERVED.ids[0], "Sentinel-2 Level-2A", extent)
    catalog.add_child(served)
    served.add_items(items)
    catalog.normalize_hrefs(str(folder))
    for item in items:
        _make_relative(item, folder)
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


def write_item(folder: Path, scene: int, bands: Sequence[str]) -> pystac.Item:
    """Write the COGs of a scene into `folder`, and return its item."""
    name = scene_ids()[scene]
    footprint = _footprint(sample_grid())
    item = pystac.Item(
        name,
        shapely.geometry.mapping(footprint),
        list(footprint.bounds),
        sample.scene_times()[scene].to_pydatetime(),
        {
            "platform": sample.platforms()[scene],
            "constellation": "sentinel-2",
            "grid:code": f"MGRS-{sample.TILE}",
            "eo:cloud_cover": float(sample.cloud_percent()[scene]),
            "s2:processing_baseline": sample.BASELINE,
            # Nothing had to be added: this baseline has no offset.
            "earthsearch:boa_offset_applied": False,
            "proj:code": sample.CRS,
        },
        stac_extensions=[_PROJECTION],
    )
    for band in (*bands, sample.QUALITY):
        path = folder / name / f"{_SERVED.name(band)}.tif"
        grid = sample_grid(sample.resolution_m(band))
        item.add_asset(
            _SERVED.name(band), write_cog(path, sample.numbers(band)[scene], grid, band=band)
        )
    return item


def write_cog(
    path: Path, values: np.ndarray, grid: PixelGrid, *, band: str, nodata: int = 0
) -> pystac.Asset:
    """Write (y, x) integers as a cloud-optimised GeoTIFF, and return it as an asset that says how it lies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="COG",
        width=grid.width,
        height=grid.height,
        count=1,
        dtype=values.dtype,
        crs=grid.crs,
        transform=grid.transform,
        nodata=nodata,
        compress="DEFLATE",
        overview_resampling="MODE" if band == sample.QUALITY else "AVERAGE",
    ) as file:
        file.write(values, 1)
    return pystac.Asset(
        str(path),
        media_type=pystac.MediaType.COG,
        roles=["data"],
        extra_fields=_lies(values, grid, nodata),
    )


def _lies(values: np.ndarray, grid: PixelGrid, nodata: int) -> dict[str, Any]:
    return {
        "gsd": grid.resolution,
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.transform)[:6],
        "raster:bands": [{"data_type": str(values.dtype), "nodata": nodata}],
    }


def _make_relative(item: pystac.Item, folder: Path) -> None:
    """Addresses of the assets as seen from the item."""
    home = Path(item.get_self_href() or "").parent
    for asset in item.assets.values():
        file = (folder / item.id / Path(asset.href).name).resolve()
        asset.href = Path(pystac.utils.make_relative_href(str(file), str(home / "x"))).as_posix()


def _footprint(grid: PixelGrid) -> shapely.Polygon:
    """The outline of a grid, in degrees."""
    to_degrees = pyproj.Transformer.from_crs(grid.crs, 4326, always_xy=True).transform
    return shapely.transform(shapely.box(*grid.bounds), to_degrees, interleaved=False)
