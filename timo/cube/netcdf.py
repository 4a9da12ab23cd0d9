"""Which library reads NetCDF here."""

from importlib.util import find_spec
from typing import Literal

from timo.errors import TimoError


def netcdf_engine() -> Literal["netcdf4", "h5netcdf", "scipy"]:
    """Name of an installed library that reads NetCDF, as `engine` of xarray.

    Left to itself xarray asks every library that has registered with it whether a file is its own. That of Earth Engine
    asks Earth Engine, through the network: a file on the disk opens late, or not at all.

    Raises
    ------
    TimoError
        If none is installed.
    """
    if find_spec("netCDF4"):
        return "netcdf4"
    if find_spec("h5netcdf"):
        return "h5netcdf"
    if find_spec("scipy"):
        return "scipy"
    raise TimoError("reading .nc needs a package: pip install netCDF4, or use a .zarr")
