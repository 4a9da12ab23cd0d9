"""Which library reads and writes NetCDF here."""

import importlib.util
from typing import Any, Literal

from timo.errors import TimoError


def netcdf_engine(*, writing: bool = False) -> Literal["netcdf4", "h5netcdf", "scipy"]:
    """Return the name of an installed library for NetCDF-4, as `engine` of xarray; to read, scipy for NetCDF-3 as well.

    Left to itself xarray asks every library that has registered with it whether a file is its own. That of Earth Engine
    asks Earth Engine, through the network: a file on the disk opens late, or not at all.

    Raises
    ------
    TimoError
        If none is installed.
    """
    engines: dict[str, Any] = {"netCDF4": "netcdf4", "h5netcdf": "h5netcdf"}
    for package, engine in (engines if writing else engines | {"scipy": "scipy"}).items():
        if importlib.util.find_spec(package):
            return engine
    work, instead = ("Writing", "write to") if writing else ("Reading", "use")
    raise TimoError(f"{work} .nc needs a package: pip install netCDF4, or {instead} a .zarr.")
