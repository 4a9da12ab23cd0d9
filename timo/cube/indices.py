"""Spectral indices of a cube, by the common names of the bands."""

import warnings
from typing import Annotated

import xarray as xr

from timo.checks import Range, checked
from timo.cube.check import check, sensor_of
from timo.errors import TimoError
from timo.sensors import SENSORS


@checked
def ndvi(cube: xr.DataArray) -> xr.DataArray:
    """Compute the normalised difference vegetation index (Rouse et al. 1974): (NIR - red) / (NIR + red).

    Atmospheric correction leaves reflectances a little under zero in deep shadow: the index is clipped to its range,
    and NaN where the sum of the two bands is not positive.

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
    total = nir + red
    index = ((nir - red) / total.where(total > 0)).clip(-1, 1).rename("ndvi")
    # Where it comes from stays true; the bands' units do not.
    index.attrs = {k: v for k, v in cube.attrs.items() if k in ("sensor", "source", "attribution")}
    return index.assign_attrs(long_name="NDVI", units="1")


def band_by_common_name(cube: xr.DataArray, names: tuple[str, ...]) -> xr.DataArray:
    """Return the first band of the cube that bears one of these common names, without its name.

    Raises
    ------
    TimoError
        If there is none.
    """
    sensor = sensor_of(cube) or SENSORS["sentinel-2"]
    for name in names:
        for band in sensor.bands:
            if band.common_name == name and band.name in cube.band.values:
                return cube.sel(band=band.name, drop=True)
    has = ", ".join(str(name) for name in cube.band.values)
    raise TimoError(f"The cube has no {names[0]} band; it has {has}. Open it with that band too.")


@checked
def true_colour(
    cube: xr.DataArray, *, brightest: Annotated[float, Range(above=1, most=100)] = 98
) -> xr.DataArray:
    """Return red, green and blue as the eye would have them, stretched for the screen.

    Parameters
    ----------
    cube : xarray.DataArray
        A cube with a red, a green and a blue band.
    brightest : float
        Percentile of the valid values of each date and band that is shown as full brightness; the darkest 1 % is black.

    Returns
    -------
    xarray.DataArray
        (time, y, x, rgb) float32 in 0..1, NaN where there was no valid observation: ``.plot.imshow(rgb="rgb")``.

    Raises
    ------
    TimoError
        If the cube lacks one of the bands.
    """
    check(cube)
    bands = [band_by_common_name(cube, (name,)) for name in ("red", "green", "blue")]
    stack = xr.concat(bands, dim="rgb").assign_coords(rgb=["red", "green", "blue"])
    with warnings.catch_warnings():
        # A date without any observation has no quantiles, and is NaN.
        warnings.filterwarnings("ignore", message="All-NaN slice encountered")
        quantiles = stack.quantile([0.01, brightest / 100], dim=("y", "x"), skipna=True)
    low, high = (quantiles.isel(quantile=i, drop=True) for i in (0, 1))
    image = ((stack - low) / (high - low).clip(min=1e-6)).clip(0, 1)
    return image.transpose("time", "y", "x", "rgb").astype("float32").rename("true_colour")
