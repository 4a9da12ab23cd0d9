"""The cells of a cube that is to be made: a CRS, a corner aligned to multiples of the resolution, and a size."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any

import numpy as np
import pyproj
import rioxarray  # noqa: F401 - registers .rio
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from timo.checks import Count, Positive, Range, checked, whole
from timo.crs import LONLAT, crs_name, metres_per_unit, project, read_crs, short_name, usual_crs
from timo.cube import check_grid, spacing
from timo.errors import TimoError
from timo.sources.place.area import TOLERANCE_DEGREES, Area, join, make_area, winding

# Share of a cell by which an area may reach over the edge of a cell that it does not get: GeoJSON is usually written
# with 6 or 7 decimals, 1 to 10 cm.
_SLACK = 0.01
_FINEST_M, _COARSEST_M = 0.1, 112_000
# Twice the width of a zone; at its ends a kilometre of UTM is 5 m too long.
_WIDEST_DEGREES = 12
_KM_PER_DEGREE = 111.32
_BYTES = 4
Limit = Annotated[float, Range(above=0, infinite=True)]
_NUMBER = re.compile(r"[-+]?[\d.]+(?:e[-+]?\d+)?", re.IGNORECASE)
_read_once = lru_cache(maxsize=64)(read_crs)


@checked
@dataclass(frozen=True)
class PixelGrid:
    """Square cells, rows from north to south: a GeoBox that can be written down, and knows what it covers.

    Parameters
    ----------
    crs : str
        "EPSG:..." where it has a code, else WKT.
    left, top, resolution : float
        Upper-left corner, and side of a cell, in the unit of the CRS.
    height, width : int
        Rows and columns.
    """

    crs: str
    left: float
    top: float
    resolution: Positive
    height: Count
    width: Count

    def __post_init__(self) -> None:
        _read_once(self.crs)

    @cached_property
    def geobox(self) -> GeoBox:
        """The same cells as odc-geo has them."""
        transform = Affine(self.resolution, 0, self.left, 0, -self.resolution, self.top)
        return GeoBox((self.height, self.width), transform, self.crs)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def transform(self) -> Affine:
        """From (column, row) to (x, y)."""
        return self.geobox.affine

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        return self.geobox.boundingbox.bbox

    # Not the GeoBox's, which differ in the last bit: cubes of one place must have equal coordinates.
    @property
    def x(self) -> np.ndarray:
        """Cell centres, (width,)."""
        return self.left + (np.arange(self.width) + 0.5) * self.resolution

    @property
    def y(self) -> np.ndarray:
        """Cell centres, (height,), descending."""
        return self.top - (np.arange(self.height) + 0.5) * self.resolution

    @property
    def coords(self) -> xr.Coordinates:
        """Coordinates y, x and `spatial_ref` (the CRS), for `xarray.DataArray(..., coords=grid.coords)`."""
        return xr.Dataset(coords={"y": self.y, "x": self.x}).rio.write_crs(self.crs).coords

    @property
    def megapixels(self) -> float:
        """Million cells."""
        return self.height * self.width / 1e6

    @property
    def metres(self) -> float:
        """Side of a cell in metres; in a geographic CRS its height, the width being less away from the equator."""
        return self.resolution * metres_per_unit(pyproj.CRS(self.crs))

    @property
    def area(self) -> Area:
        """Footprint; if a pole is inside, all around that down to the lowest latitude of its outline."""
        crs, lonlat = pyproj.CRS(self.crs), pyproj.CRS(LONLAT)
        left, bottom, right, top = self.bounds
        if crs.is_geographic:
            # The outermost cells may reach beyond the pole, and once more around the globe.
            box = shapely.box(left, max(bottom, -90), min(right, left + 360), min(top, 90))
            return Area(join([project(box, crs, lonlat, 0)]))
        box = shapely.box(left, bottom, right, top)
        lon, lat = shapely.get_coordinates(project(box, crs, lonlat, TOLERANCE_DEGREES)).T
        if winding(lon):
            low, high = (lat.min(), 90) if lat.mean() > 0 else (-90, lat.max())
            return Area(shapely.box(-180, low, 180, high), (self.crs, box))
        return make_area([box], crs)

    @property
    def lonlat_bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north of all of it in degrees; the east may lie beyond 180."""
        return self.area.bounds

    @checked
    def window(self, rows: slice, columns: slice) -> PixelGrid:
        """Return a part of it; negative starts lie outside, and do not count from the end."""
        top, bottom = _limits(rows, self.height, "rows")
        left, right = _limits(columns, self.width, "columns")
        side = self.resolution
        corner = self.left + left * side, self.top - top * side
        return PixelGrid(self.crs, *corner, side, bottom - top, right - left)

    @checked
    def pad(self, cells: int) -> PixelGrid:
        """Return it with this number of cells more on each side."""
        return self.window(slice(-cells, self.height + cells), slice(-cells, self.width + cells))

    @checked
    def mask_of(self, area: Area) -> xr.DataArray:
        """Mark the cells whose centre is within an area: (y, x) bool; one on the outline itself may be in or out."""
        outline = _outline(area, self.crs, self.resolution)
        # The grid may count its longitudes from another meridian, as from 0 to 360.
        turns = (-360, 0, 360) if pyproj.CRS(self.crs).is_geographic else (0,)
        shapes = [translate(outline, turn) for turn in turns]
        inside = geometry_mask(shapes, self.shape, self.transform, invert=True)
        return xr.DataArray(inside, dims=("y", "x"), coords=self.coords, name="inside")


def _limits(part: slice, size: int, name: str) -> tuple[int, int]:
    """Return start and stop of a slice; all of the grid where they are left out."""
    start = 0 if part.start is None else whole(part.start, name)
    return start, size if part.stop is None else whole(part.stop, name)


@checked
def make_grid(
    area: Area, resolution: Positive, crs: Any = None, *, max_megapixels: Limit = 1000
) -> PixelGrid:
    """Lay cells over an area, their edges at multiples of the resolution.

    A box in degrees is no rectangle in most systems: the grid covers its bounds there, with corners beyond the box. An
    edge is over a cell from a hundredth of it on, so that rounded coordinates do not add a row. In a geographic CRS
    longitudes go beyond 180 across the antimeridian, as the area's do.

    `resolution` is the side of a cell in the unit of the CRS, which by default is `timo.crs.usual_crs` of the centre.
    """
    system = read_crs(usual_crs(*area.centre) if crs is None else crs)
    name = crs_name(system)
    side = check_resolution(resolution, system, name)
    if crs is None and name not in ("EPSG:32661", "EPSG:32761"):
        _check_width(area, side, name)
    left, bottom, right, top = _outline(area, name, side).bounds
    west, columns = _cells(left, right, side)
    south, rows = _cells(bottom, top, side)
    grid = PixelGrid(name, west * side, (south + rows) * side, side, rows, columns)
    _check_size(grid, max_megapixels)
    return grid


def grid_of(array: xr.DataArray) -> PixelGrid:
    """Read the cells of a cube, map or raster from its evenly spaced cell centres x and y and its CRS.

    Rows go from north to south and columns from west to east, in any order of the array.
    """
    if _is_turned(array):
        raise TimoError(
            "The raster is turned: its rows do not run from west to east. Use raster.rio.reproject(raster.rio.crs)"
        )
    check_grid(array)
    y, x = (np.asarray(array[dim].values, dtype="float64") for dim in ("y", "x"))
    long = [dim for dim in ("x", "y") if array.sizes[dim] > 1]
    if not long:
        raise TimoError("The coordinates of a single cell do not say its size. Use a larger raster")
    # A step such as 10.000000001 is rounding.
    side = float(f"{abs(spacing(array, long[0])):.9g}")
    left, top = _origin(np.sort(x), side), -_origin(np.sort(-y), side)
    return PixelGrid(crs_name(read_crs(array.rio.crs.to_wkt())), left, top, side, y.size, x.size)


def _is_turned(array: xr.DataArray) -> bool:
    """Return whether rows and columns leave the axes, by more than a hundredth of a cell in all."""
    if {"xc", "yc"} <= set(array.coords):
        return True
    attrs = [coord.attrs for coord in array.coords.values()]
    said = [str(a["GeoTransform"]) for a in attrs if "GeoTransform" in a]
    numbers = [abs(float(number)) for number in _NUMBER.findall(said[0])] if said else []
    if len(numbers) != 6:
        return False
    _, width, row, _, column, height = numbers
    rows, columns = (array.sizes.get(dim, 0) for dim in ("y", "x"))
    return row * rows > _SLACK * width or column * columns > _SLACK * height


def _outline(area: Area, crs: str, resolution: float) -> BaseGeometry:
    """Return the area in a CRS: as it was given if that was in the same, else to a hundredth of a cell."""
    if area.planar is not None and area.planar[0] == crs:
        return area.planar[1]
    return project(area.geometry, pyproj.CRS(LONLAT), pyproj.CRS(crs), _SLACK * resolution / 2)


def _cells(low: float, high: float, side: float) -> tuple[int, int]:
    """First cell and number of cells over an interval; cell 0 begins at 0."""
    first = math.floor(low / side + _SLACK)
    return first, max(math.ceil(high / side - _SLACK) - first, 1)


def _origin(centres: np.ndarray, side: float) -> float:
    """Edge before the first of ascending cell centres, such that the centres follow from it to the bit if they can."""
    plain = float(centres[0]) - side / 2
    steps = (np.arange(centres.size) + 0.5) * side
    for origin in (plain, np.nextafter(plain, np.inf), np.nextafter(plain, -np.inf)):
        if np.array_equal(origin + steps, centres):
            return float(origin)
    return plain


def check_resolution(side: float, crs: pyproj.CRS, name: str) -> float:
    """Return the side of a cell in the unit of a CRS, or refuse what makes no sense there."""
    per_unit = metres_per_unit(crs)
    if _FINEST_M <= side * per_unit <= _COARSEST_M:
        return side
    if crs.is_geographic:
        degrees = f"{side:g} metres are {side / per_unit:.4g}"
        remedy = f"Give degrees: {degrees}; or choose a crs in metres"
    else:
        degrees = f": {side:g} degrees would be {side * _KM_PER_DEGREE * 1e3 / per_unit:.4g} here"
        least, most = f"{_FINEST_M / per_unit:.3g}", f"{_COARSEST_M / per_unit:.6g}"
        remedy = f"Give it in that unit{degrees if side < 1 else ''}; cells may be from {least} to {most}"
    raise TimoError(
        f"resolution={side!r} in {short_name(name)}, whose unit is the {crs.axis_info[0].unit_name}, makes "
        f"cells of {side * per_unit:.6g} m. {remedy}"
    )


def _check_width(area: Area, side: float, name: str) -> None:
    """Refuse an area that is too wide for one zone of UTM."""
    west, south, east, north = area.bounds
    nearest = 0.0 if south <= 0 <= north else min(abs(south), abs(north))
    width = (east - west) * math.cos(math.radians(nearest))
    if width <= _WIDEST_DEGREES:
        return
    wide, high = width * _KM_PER_DEGREE, (north - south) * _KM_PER_DEGREE
    raise TimoError(
        f"The area is {wide:,.0f} km wide, too wide for one UTM zone ({name}): its limit is "
        f"{_WIDEST_DEGREES * _KM_PER_DEGREE:,.0f} km. Give a crs for all of it, for example an equal-area one such as "
        '"EPSG:3035" (Europe), "EPSG:6933" (world) or "+proj=laea +lat_0=... +lon_0=...", or take it in parts; is it '
        "west, south, east, north? "
        f"At this resolution it has about {wide * high / side**2:,.0f} megapixels a date"
    )


def _check_size(grid: PixelGrid, limit: float) -> None:
    """Refuse a grid of more megapixels, with what it would take and what would fit."""
    if grid.megapixels <= limit:
        return
    unit = metres_per_unit(pyproj.CRS(grid.crs)) / 1e3
    wide, high = (cells * grid.resolution * unit for cells in (grid.width, grid.height))
    # Two digits, rounded up; a row and a column are spared.
    fits = grid.resolution * math.sqrt(grid.megapixels / limit) * (1 + 2 / math.sqrt(limit * 1e6))
    step = 10.0 ** (math.floor(math.log10(fits)) - 1)
    raise TimoError(
        f"The area is too large: {wide:,.4g} km x {high:,.4g} km are {grid.width:,} x {grid.height:,} cells at "
        f"resolution={grid.resolution:g}, {grid.megapixels:,.0f} megapixels and {grid.megapixels * _BYTES / 1e3:,.2g} "
        f"GB a date and band; the limit is {limit:,g} megapixels. It would fit at "
        f"resolution={math.ceil(fits / step) * step:g}; or take a smaller area (is it west, south, east, north?), or "
        f"allow it with max_megapixels={math.ceil(grid.megapixels)}"
    )
