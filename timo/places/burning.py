"""Which cells of a grid points, lines and polygons cover: each feature for itself, all of them at once.

A polygon has the cells whose centre lies in it (or all that it touches), a line those that it runs through, a point its
own, or those whose centre lies in a circle around it. A centre on an edge that two polygons share is in one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyproj
import rioxarray  # noqa: F401  registers .rio
import shapely
import xarray as xr
from affine import Affine

from timo.crs import LONLAT, metres_per_unit, read_crs, transformer
from timo.cube import spacing
from timo.errors import TimoError

# Share of a cell by which an edge may be off where it bends between two reference systems.
_SLACK = 0.05
# How often edges are cut into four at most, to follow a bend.
_CUTS = 7
# Scales of a projection that are taken for true; UTM stays within.
_TRUE_SCALE = 5e-3
# So that a centre at exactly the radius counts, whatever the rounding.
_ROUNDING = 1e-6
_POINT, _LINES, _POLYGON = 0, (1, 2), 3
_NONE = np.zeros(0, "int64")


@dataclass(frozen=True)
class Grid:
    """An even grid: centre of its first cell, steps (signed), rows and columns, reference system."""

    x: float
    y: float
    dx: float
    dy: float
    shape: tuple[int, int]
    crs: pyproj.CRS

    @classmethod
    def of(cls, like: xr.DataArray | xr.Dataset) -> Grid:
        """Read the grid of an array that `timo.cube.check_grid` has passed."""
        steps = {dim: spacing(like, dim) for dim in ("y", "x") if like.sizes[dim] > 1}
        if not steps:
            steps = _stated_steps(like)
        dx = steps.get("x", abs(steps.get("y", 0.0)))
        dy = steps.get("y", -abs(steps.get("x", 0.0)))
        shape = like.sizes["y"], like.sizes["x"]
        first = float(like.x.values[0]), float(like.y.values[0])
        return cls(*first, dx, dy, shape, read_crs(like.rio.crs.to_wkt()))

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return (n, 2) x, y of the reference system as columns and rows: the first cell goes from 0 to 1."""
        return (points - [self.x, self.y]) / [self.dx, self.dy] + 0.5

    @property
    def transform(self) -> Affine:
        """Affine transform of columns and rows to x, y of the reference system, as of rasterio."""
        return Affine(self.dx, 0, self.x - self.dx / 2, 0, self.dy, self.y - self.dy / 2)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north, in the unit of the reference system."""
        (rows, columns), dx, dy = self.shape, self.dx, self.dy
        x = sorted((self.x - dx / 2, self.x + (columns - 0.5) * dx))
        y = sorted((self.y - dy / 2, self.y + (rows - 0.5) * dy))
        return x[0], y[0], x[1], y[1]

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.shape[0] * self.shape[1]


def _stated_steps(like: xr.DataArray | xr.Dataset) -> dict[str, float]:
    """Return the size of a single cell, which only the CRS coordinate can state."""
    stated = like.rio.transform(recalc=False)
    if not stated.a or stated.is_identity:
        raise TimoError(
            "The size of a single cell cannot be read from its coordinates. Use a larger grid, or state it with "
            "like.rio.write_transform(...)."
        )
    return {"x": stated.a, "y": stated.e}


@dataclass(frozen=True)
class Cells:
    """Pairs (n,) of a feature and a cell (row x columns + column) that it covers, by feature; each pair once."""

    feature: np.ndarray
    cell: np.ndarray

    def of_each(self, features: int) -> list[np.ndarray]:
        """Return the cells of each of a number of features, ascending."""
        return np.split(self.cell, np.searchsorted(self.feature, np.arange(1, features)))


def burn(
    geometries: np.ndarray,
    crs: pyproj.CRS,
    grid: Grid,
    *,
    touched: bool = False,
    radius_m: float | None = None,
) -> Cells:
    """Find the cells of each of the geometries (n,), which may be None or empty.

    Parameters
    ----------
    geometries : numpy.ndarray
        (n,) shapely geometries, valid, longitude (or x) first.
    crs : pyproj.CRS
        Their reference system.
    grid : Grid
        The grid.
    touched : bool
        Polygons have all cells that they touch, not only those whose centre they hold.
    radius_m : float, optional
        Points have the cells whose centre is within this distance on the ground, and always their own.
    """
    parts, owner = _parts(geometries)
    parts, owner = to_cells(parts, owner, crs, grid)
    kinds = shapely.get_type_id(parts)
    pairs = []
    for chosen, find in (
        (kinds == _POLYGON, partial(_of_polygons, touched=touched)),
        (np.isin(kinds, _LINES), _of_lines),
        (kinds == _POINT, partial(_of_points, radius_m=radius_m)),
    ):
        if chosen.any():
            part, cell = find(parts[chosen], grid)
            pairs.append((owner[chosen][part], cell))
    if not pairs:
        return Cells(_NONE, _NONE)
    feature, cell = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    # One polygon has each of its cells once; parts of one feature, and edges beside the inside, may share some.
    several = np.ones(len(feature), bool) if touched else np.bincount(owner)[feature] > 1
    if not several.any() and len(pairs) == 1:
        return Cells(feature, cell)
    pair = np.sort(feature[several] * np.int64(grid.size) + cell[several])
    pair = pair[np.diff(pair, prepend=-1) > 0]  # quicker than np.unique
    twice = np.divmod(pair, np.int64(grid.size))
    feature = np.concatenate([feature[~several], twice[0]])
    order = np.argsort(feature, kind="stable")
    return Cells(feature[order], np.concatenate([cell[~several], twice[1]])[order])


def _parts(geometries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points, lines and polygons of geometries, and which geometry each is of."""
    geometries = np.asarray(geometries, dtype=object)
    owner = np.flatnonzero(~(shapely.is_missing(geometries) | shapely.is_empty(geometries)))
    parts = geometries[owner]
    while (shapely.get_type_id(parts) > _POLYGON).any():
        parts, of = shapely.get_parts(parts, return_index=True)
        owner = owner[of]
    return parts, owner


def to_cells(
    parts: np.ndarray, owner: np.ndarray, crs: pyproj.CRS, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Carry parts to columns and rows of a grid, and leave out those that lie beside it or beyond the projection."""
    alike = crs.equals(grid.crs, ignore_axis_order=True)
    if not alike:
        parts, owner = _near(parts, owner, crs, grid)
        parts = _follow(parts, transformer(crs, grid.crs), _SLACK * abs(grid.dx))
    if grid.crs.is_geographic:
        parts = _turn(parts, grid)
    flat = shapely.transform(parts, grid.place)
    west, north, east, south = shapely.bounds(flat).reshape(-1, 4).T
    rows, columns = grid.shape
    # Comparisons with NaN are False: what cannot be projected is left out.
    there = (west <= columns) & (east >= 0) & (north <= rows) & (south >= 0)
    return flat[there], owner[there]


def _near(
    parts: np.ndarray, owner: np.ndarray, crs: pyproj.CRS, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Leave out what lies far from the grid, which is not worth a projection."""
    if not crs.is_geographic or grid.crs.is_geographic:
        return parts, owner
    west, south, east, north = transformer(grid.crs, crs).transform_bounds(*grid.bounds)
    if not np.isfinite([west, south, east, north]).all() or east < west:
        return parts, owner  # across the antimeridian, or around a pole
    wide, high = (east - west) + 0.01, (north - south) + 0.01
    box = shapely.bounds(parts).reshape(-1, 4)
    turns = 360 * np.round(((west + east) / 2 - (box[:, 0] + box[:, 2]) / 2) / 360)
    near = (box[:, 0] + turns <= east + wide) & (box[:, 2] + turns >= west - wide)
    near &= (box[:, 1] <= north + high) & (box[:, 3] >= south - high)
    return parts[near], owner[near]


def _turn(parts: np.ndarray, grid: Grid) -> np.ndarray:
    """Turn longitudes by whole circles to those of the grid."""
    west, _, east, _ = grid.bounds
    box = shapely.bounds(parts).reshape(-1, 4)
    turns = 360 * np.round(((west + east) / 2 - (box[:, 0] + box[:, 2]) / 2) / 360)
    if not turns.any():
        return parts
    points, of = shapely.get_coordinates(parts, return_index=True)
    points[:, 0] += turns[of]
    return shapely.set_coordinates(shapely.force_2d(parts), points)


def _follow(parts: np.ndarray, way: pyproj.Transformer, slack: float) -> np.ndarray:
    """Carry parts to another system; edges that bend by more than `slack` get corners between."""

    def carry(points: np.ndarray) -> np.ndarray:
        return np.column_stack(way.transform(points[:, 0], points[:, 1]))

    fine = shapely.force_2d(parts)
    longest = np.full(len(fine), np.inf)
    for _ in range(_CUTS):
        bent = _bent(fine, longest, carry, slack)
        if not bent.size:
            break
        box = shapely.bounds(fine[bent])
        extent = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
        longest[bent] = np.minimum(longest[bent], extent) / 4
        fine[bent] = shapely.segmentize(fine[bent], longest[bent])
    return shapely.transform(fine, carry)


def _bent(
    parts: np.ndarray,
    longest: np.ndarray,
    carry: Callable[[np.ndarray], np.ndarray],
    slack: float,
) -> np.ndarray:
    """Return which parts have an edge whose middle is off by more than `slack` once its ends are carried."""
    points, of = shapely.get_coordinates(parts, return_index=True)
    step = np.hypot(*(points[1:] - points[:-1]).T)
    # A longer step leads from one ring to the next and is no edge.
    edge = np.flatnonzero((of[1:] == of[:-1]) & (step <= longest[of[1:]] * (1 + 1e-6)) & (step > 0))
    moved = carry(points)
    middle = carry((points[edge] + points[edge + 1]) / 2)
    off = np.abs(middle - (moved[edge] + moved[edge + 1]) / 2).max(axis=1, initial=0)
    return np.unique(of[edge][off > slack])


# --- The cells of each kind ---


def _of_polygons(parts: np.ndarray, grid: Grid, *, touched: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of a polygon and a cell whose centre it holds, and with `touched` those that its edges cross."""
    rings, of = shapely.get_rings(parts, return_index=True)
    start, end, ring = _edges(rings)
    inside = _filled(start, end, of[ring], grid)
    if not touched:
        return inside
    crossed = _crossed(start, end, of[ring], grid, on_edges=False)
    part, cell = (np.concatenate(both) for both in zip(inside, crossed, strict=True))
    return part, cell


def _of_lines(parts: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    start, end, of = _edges(parts)
    return _crossed(start, end, of, grid, on_edges=True)


def _of_points(
    parts: np.ndarray, grid: Grid, *, radius_m: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of a point and its cell, and with a radius those around it."""
    middles = shapely.get_coordinates(parts)
    column, row = np.floor(middles).astype("int64").T
    point = np.arange(len(parts))
    runs = [(point, row, column, column + 1)]
    if radius_m is not None:
        runs.append(_discs(middles, *_half_axes(middles, grid, radius_m)))
    of, rows, first, after = (np.concatenate(each) for each in zip(*runs, strict=True))
    return _expand(of, rows, first, after, grid)


def _edges(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return start and end (n, 2) of the edges of lines or rings, and which line each is of."""
    points, of = shapely.get_coordinates(lines, return_index=True)
    same = of[1:] == of[:-1]
    return points[:-1][same], points[1:][same], of[1:][same]


def _filled(
    start: np.ndarray, end: np.ndarray, of: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Fill polygons between their edges: along the middle of each row, from every other crossing to the next."""
    low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
    # Half open, so that a corner on the middle of a row counts once.
    first, after = (
        np.clip(np.ceil(v - 0.5), 0, grid.shape[0]).astype("int64") for v in (low, high)
    )
    edge, row = _rows(first, after)
    way = end[edge] - start[edge]
    x = start[edge, 0] + (row + 0.5 - start[edge, 1]) / way[:, 1] * way[:, 0]
    part = of[edge]
    order = np.lexsort((x, part * np.int64(grid.shape[0]) + row))
    x, part, row = x[order], part[order][::2], row[order][::2]
    column, end_column = (np.ceil(v - 0.5).astype("int64") for v in (x[::2], x[1::2]))
    return _expand(part, row, column, end_column, grid)


def _crossed(
    start: np.ndarray, end: np.ndarray, of: np.ndarray, grid: Grid, *, on_edges: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells that edges run through; `on_edges`: also those along the border between two cells."""
    if not on_edges:
        along = ((start == end) & (start == np.round(start))).any(axis=1)
        start, end, of = start[~along], end[~along], of[~along]
    low, high = np.minimum(start, end), np.maximum(start, end)
    first = np.floor(low[:, 1])
    after = np.maximum(np.ceil(high[:, 1]), first + 1)
    first, after = (np.clip(v, 0, grid.shape[0]).astype("int64") for v in (first, after))
    edge, row = _rows(first, after)
    way = end[edge] - start[edge]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (np.stack([row, row + 1]) - start[edge, 1]) / way[:, 1]
    shares = np.where(way[:, 1] == 0, [[0.0], [1.0]], np.clip(shares, 0, 1))
    x = np.sort(start[edge, 0] + shares * way[:, 0], axis=0)
    column = np.floor(x[0]).astype("int64")
    end_column = np.maximum(np.ceil(x[1]).astype("int64"), column + 1)
    return _expand(of[edge], row, column, end_column, grid)


def _half_axes(middles: np.ndarray, grid: Grid, radius_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Return how many columns and rows (n,) a distance on the ground has at each point."""
    x = grid.x + (middles[:, 0] - 0.5) * grid.dx
    y = grid.y + (middles[:, 1] - 0.5) * grid.dy
    if grid.crs.is_geographic:
        ellipsoid = grid.crs.ellipsoid
        assert ellipsoid is not None
        a, e2 = (
            ellipsoid.semi_major_metre,
            1 - (ellipsoid.semi_minor_metre / ellipsoid.semi_major_metre) ** 2,
        )
        w = 1 - e2 * np.sin(np.radians(y)) ** 2
        # Metres of a degree along the parallel and the meridian (radii of curvature N and M).
        east = np.radians(1) * a / np.sqrt(w) * np.cos(np.radians(y))
        north = np.radians(1) * a * (1 - e2) / w**1.5
        return radius_m / east / abs(grid.dx), radius_m / north / abs(grid.dy)
    lon, lat = transformer(grid.crs, pyproj.CRS(LONLAT)).transform(x, y)
    scale = np.sqrt(pyproj.Proj(grid.crs).get_factors(lon, lat).areal_scale)
    scale = np.where(np.abs(scale - 1) < _TRUE_SCALE, 1.0, scale)
    reach = radius_m / metres_per_unit(grid.crs) * scale
    return reach / abs(grid.dx), reach / abs(grid.dy)


def _discs(
    middles: np.ndarray, across: np.ndarray, down: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return runs of the cells whose centre lies in an ellipse around each point."""
    across, down = across * (1 + _ROUNDING), down * (1 + _ROUNDING)
    first = np.ceil(middles[:, 1] - down - 0.5).astype("int64")
    after = np.floor(middles[:, 1] + down - 0.5).astype("int64") + 1
    point, row = _rows(first, after)
    high = (row + 0.5 - middles[point, 1]) / down[point]
    half = across[point] * np.sqrt(np.clip(1 - high**2, 0, None))
    x = middles[point, 0]
    column = np.ceil(x - half - 0.5).astype("int64")
    return point, row, column, np.floor(x + half - 0.5).astype("int64") + 1


def _rows(first: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for ranges of whole numbers, which range each number is of, and the numbers."""
    count = np.maximum(after - first, 0)
    of = np.repeat(np.arange(len(count)), count)
    return of, np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count) + first[of]


def _expand(
    of: np.ndarray, row: np.ndarray, first: np.ndarray, after: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells of runs within rows, cut at the grid's edges, and what each is of."""
    rows, columns = grid.shape
    inside = (row >= 0) & (row < rows)
    first, after = np.clip(first, 0, columns), np.clip(after, 0, columns)
    run, column = _rows(first, np.where(inside, after, first))
    return of[run], row[run] * columns + column
