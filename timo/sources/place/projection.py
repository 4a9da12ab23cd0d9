"""Reference systems are read, named and chosen in `timo.crs`."""

from timo.crs import (
    LONLAT,
    crs_name,
    meant_unit,
    metres_per_unit,
    project,
    read_crs,
    short_name,
    usual_crs,
)

__all__ = [
    "LONLAT",
    "crs_name",
    "meant_unit",
    "metres_per_unit",
    "project",
    "read_crs",
    "short_name",
    "usual_crs",
]
