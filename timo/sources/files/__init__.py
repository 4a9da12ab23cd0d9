"""Cubes from files that are already there: GeoTIFFs, NetCDF, Zarr."""

from timo.sources.files.opening import open_files

__all__ = ["open_files"]
