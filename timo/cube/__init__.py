"""The cube, the one data convention: checks, composites, spatial blocks, hectares."""

from timo.cube.blocks import blocks, split_blocks
from timo.cube.check import check, check_grid, check_labels
from timo.cube.composite import (
    composite,
    days_since_epoch,
    period_offset,
    period_starts,
    valid_mask,
)
from timo.cube.grid import cell_area_m2, cell_size_m, dilate, hectares
from timo.cube.indices import ndvi, true_colour

__all__ = [
    "blocks",
    "cell_area_m2",
    "cell_size_m",
    "check",
    "check_grid",
    "check_labels",
    "composite",
    "days_since_epoch",
    "dilate",
    "hectares",
    "ndvi",
    "period_offset",
    "period_starts",
    "split_blocks",
    "true_colour",
    "valid_mask",
]
