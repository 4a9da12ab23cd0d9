"""One reader for all rasters and arrays: which cells are valid, and how they come onto the grid of a cube.

Every source that reads files (GeoTIFF, JPEG 2000, NetCDF, Zarr, the assets of STAC items) describes its bands as
layers. A layer gives numbers as floats with NaN where the file has no data; everything above sees one kind of array,
whether the cells are the file's own or warped.
"""

from timo.sources.reading.blocks import NO_QUALITY, Plan, Reader, Side
from timo.sources.reading.headers import Header, read_header
from timo.sources.reading.layers import ArrayLayer, Layer, Numbers, RasterLayer
from timo.sources.reading.onto import cell_of, is_plain, is_under, read_on, same_cells

__all__ = [
    "NO_QUALITY",
    "ArrayLayer",
    "Header",
    "Layer",
    "Numbers",
    "Plan",
    "RasterLayer",
    "Reader",
    "Side",
    "cell_of",
    "is_plain",
    "is_under",
    "read_header",
    "read_on",
    "same_cells",
]
