"""Spectral indices of a cube, by the common names of the bands."""

import xarray as xr

from timo.cube.check import check
from timo.errors import TimoError
from timo.sensors import get_sensor


def ndvi(cube: xr.DataArray) -> xr.DataArray:
    """Normalised difference vegetation index (Rouse et al. 1974): (NIR - red) / (NIR + red).

    Parameters
    ----------
    cube : xarray.DataArray
        A cube with a red and a near infrared band.

    Returns
    -------
    xarray.DataArray
        (time, y, x) float32, -1..1, NaN where there was no valid observation.

    Raises
    ------
    TimoError
        If the cube lacks one of the two bands.
    """
    check(cube)
    red, nir = (band_by_common_name(cube, names) for names in (("red",), ("nir", "nir08")))
    index = (nir - red) / (nir + red)
    return index.drop_vars("band", errors="ignore").rename("ndvi").assign_attrs(long_name="NDVI")


def band_by_common_name(cube: xr.DataArray, names: tuple[str, ...]) -> xr.DataArray:
    """First band of the cube that bears one of these common names, without its name.

    Raises
    ------
    TimoError
        If there is none.
    """
    sensor = get_sensor(cube.attrs.get("sensor", "sentinel-2"))
    for name in names:
        for band in sensor.bands:
            if band.common_name == name and band.name in cube.band.values:
                return cube.sel(band=band.name, drop=True)
    has = ", ".join(str(name) for name in cube.band.values)
    raise TimoError(f"The cube has no {names[0]} band; it has {has}. Open it with that band too.")
