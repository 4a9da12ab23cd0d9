"""The sample, and small made-up scenes, written as the files that people have."""

from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import xarray as xr
from affine import Affine
from ee_emulator import sample
from sample_catalog import sample_grid

DATES = 6
GRID = sample_grid(10)
TIMES = sample.scene_times()[:DATES]
BANDS = sample.BANDS
SHAPE = (40, 50)
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
UTM = "EPSG:32634"


def numbers(band: str, date: int) -> np.ndarray:
    """Digital numbers of the sample at 10 m, (100, 100)."""
    values = sample.numbers(band)[date]
    return values if values.shape == GRID.shape else values.repeat(2, 0).repeat(2, 1)


def write_tif(
    path: Path,
    values: np.ndarray,
    *,
    descriptions: tuple[str, ...] = (),
    crs: str | None = UTM,
    transform: Affine | None = PLACE,
    nodata: float | None = None,
    scale: float | None = None,
    tags: dict[str, str] | None = None,
    **profile: object,
) -> Path:
    """Write (band, y, x) or (y, x) as a GeoTIFF."""
    values = values if values.ndim == 3 else values[None]
    count, height, width = values.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    place = {"crs": crs, "transform": transform, "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **profile) as file:
        file.write(values)
        for index, text in enumerate(descriptions, 1):
            file.set_band_description(index, text)
        if scale is not None:
            file.scales = (scale,) * count
        file.update_tags(**(tags or {}))
    return path


def scene(seed: int = 0, bands: int = 3, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Digital numbers of a made-up scene, (band, y, x) int16, 1..4000."""
    return np.random.default_rng(seed).integers(1, 4000, (bands, *shape)).astype("int16")


def write_dates(folder: Path, dates: int = DATES) -> Path:
    """The sample as one GeoTIFF per date: six bands and the SCL."""
    for i in range(dates):
        layers = np.stack([numbers(band, i) for band in (*BANDS, "SCL")])
        write_tif(
            folder / f"{TIMES[i]:%Y-%m-%d}.tif",
            layers.astype("uint16"),
            descriptions=(*BANDS, "SCL"),
            crs=GRID.crs,
            transform=GRID.transform,
        )
    return folder


def write_bands(folder: Path, dates: int = DATES) -> Path:
    """The sample as one GeoTIFF per date and band, named as ESA does."""
    for i in range(dates):
        for band in (*BANDS, "SCL"):
            name = f"B0{band[1]}" if len(band) == 2 else band
            write_tif(
                folder / f"T34TER_{TIMES[i]:%Y%m%dT%H%M%S}_{name}_10m.tif",
                numbers(band, i),
                crs=GRID.crs,
                transform=GRID.transform,
            )
    return folder


def as_dataset(dates: int = DATES) -> xr.Dataset:
    """The sample as a CF dataset: a variable per band, digital numbers with their scale."""
    days = pd.DatetimeIndex(TIMES[:dates]).normalize()
    coords = {"time": days, "y": GRID.y, "x": GRID.x}
    dataset = xr.Dataset(coords=coords)
    for band in (*BANDS, "SCL"):
        values = np.stack([numbers(band, i) for i in range(dates)]).astype("uint16")
        said = (
            {}
            if band == "SCL"
            else {"scale_factor": 1e-4, "add_offset": 0.0, "_FillValue": np.uint16(0)}
        )
        dataset[band] = (("time", "y", "x"), values, said)
    return dataset.rio.write_crs(GRID.crs)
