"""The cells of a cube of files: those that are asked for, else the files' own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from odc.geo.geobox import GeoBox

from timo.crs import crs_name, read_crs, short_name
from timo.errors import TimoError
from timo.sources.files.scenes import grid_of_layer, same_place
from timo.sources.place.area import Area
from timo.sources.place.grid import PixelGrid, check_resolution
from timo.sources.reading import Layer, cell_of, is_plain, same_cells
from timo.sources.reading.onto import bounds_in

# Share of a cell by which files may reach over the edge of one that they do not get.
_SLACK = 1e-3


def make_cells(
    layers: Sequence[Layer], resolution: float | None, crs: Any, max_megapixels: float
) -> tuple[Area, PixelGrid]:
    """Return the cells of all files and the area that they cover."""
    grids: dict[GeoBox, Layer] = {}
    for layer in layers:
        grids.setdefault(grid_of_layer(layer), layer)
    usual = Counter(str(grid_of_layer(layer).crs) for layer in layers).most_common(1)[0][0]
    if resolution is None and crs is None:
        grid = _own(grids, min(cell_of(box) for box in grids if str(box.crs) == usual), usual)
    else:
        name = usual if crs is None else crs_name(read_crs(crs))
        grid = _over(list(grids), name, resolution, max_megapixels)
    return grid.area, grid


def _own(grids: Mapping[GeoBox, Layer], finest: float, crs: str) -> PixelGrid:
    """Return the grid that all files are on; of several resolutions over the same ground, the finest."""
    box = min(grids, key=cell_of)
    mend = f'open_cube("files", path=..., resolution={finest:g}, crs="{crs}")'
    for other, layer in grids.items():
        coarser = cell_of(other) > 1.5 * cell_of(box) and is_plain(other)
        slack = 1.001 * cell_of(other) / (max(box.shape) * cell_of(box))
        if not (same_cells(box, other) or (coarser and same_place(box, other, slack))):
            raise TimoError(
                f"The files are on different grids: {grids[box].path} has {in_words(box)}, {layer.path} has "
                f"{in_words(other)}. Bring them onto one: {mend}, with aoi=... for a part of it."
            )
    if not is_plain(box):
        raise TimoError(
            f"The grid of {grids[box].path} has {in_words(box)}. Bring it onto another: {mend}."
        )
    return PixelGrid(str(box.crs), box.affine.c, box.affine.f, box.affine.a, *box.shape)


def _over(
    grids: Sequence[GeoBox], crs: str, resolution: float | None, max_megapixels: float
) -> PixelGrid:
    """Return cells over all files; those of the finest file, where that is possible."""
    finest = min(grids, key=lambda box: (str(box.crs) != crs, cell_of(box)))
    own, system = str(finest.crs) == crs, read_crs(crs)
    if resolution is None and not own:
        raise TimoError(f"resolution is missing: how large are the cells, in the unit of {crs}?")
    side = cell_of(finest) if resolution is None else check_resolution(resolution, system, crs)
    x, y = (finest.affine.c, finest.affine.f) if own else (0.0, 0.0)
    boxes = [bounds_in(crs, str(box.crs), box.extent.boundingbox.bbox) for box in [finest, *grids]]
    if system.is_geographic:  # on one side of the antimeridian
        turns = [360 * round((boxes[0][0] - box[0]) / 360) for box in boxes]
        boxes = [(w + t, s, e + t, n) for (w, s, e, n), t in zip(boxes, turns, strict=True)]
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    west, south = (math.floor(v / side + _SLACK) for v in (min(lefts) - x, min(bottoms) - y))
    east, north = (math.ceil(v / side - _SLACK) for v in (max(rights) - x, max(tops) - y))
    grid = PixelGrid(crs, x + west * side, y + north * side, side, north - south, east - west)
    if grid.megapixels > max_megapixels:
        raise TimoError(
            f"The files cover {grid.height:,} x {grid.width:,} cells of {side:g}, {grid.megapixels:,.0f} megapixels; "
            f"the limit is {max_megapixels:g}. Give an aoi, a larger resolution, or max_megapixels=."
        )
    return grid


def in_words(box: GeoBox) -> str:
    """Describe cells in messages."""
    t, (height, width) = box.affine, box.shape
    across, down = math.hypot(t.a, t.d), math.hypot(t.b, t.e)
    side = f"{across:g}" if math.isclose(across, down, rel_tol=1e-6) else f"{across:g} x {down:g}"
    odd = ""
    if not is_plain(box):
        up = t.e > 0 and not (t.b or t.d)
        odd = ", from south to north" if up else ", which are turned or not square"
    return f"{height} x {width} cells of {side} from ({t.c:.10g}, {t.f:.10g}) in {short_name(str(box.crs))}{odd}"
