"""The cube, the one data convention: checks, joint cubes, composites, spatial blocks, hectares."""

from timo.cube.blocks import blocks, split_blocks
from timo.cube.check import (
    check,
    check_grid,
    grid_mismatch,
    select_bands,
    sensor_of,
    spacing,
)
from timo.cube.composite import (
    composite,
    days_since_epoch,
    period_offset,
    period_starts,
    valid_mask,
)
from timo.cube.grid import cell_area_m2, cell_size_m, dilate, hectares
from timo.cube.indices import ndvi, true_colour
from timo.cube.join import band_groups, join, observed, separate
from timo.cube.labels import check_labels
from timo.cube.values import check_values

__all__ = [
    "band_groups",
    "blocks",
    "cell_area_m2",
    "cell_size_m",
    "check",
    "check_grid",
    "check_labels",
    "check_values",
    "composite",
    "days_since_epoch",
    "dilate",
    "grid_mismatch",
    "hectares",
    "join",
    "ndvi",
    "observed",
    "period_offset",
    "period_starts",
    "select_bands",
    "sensor_of",
    "separate",
    "spacing",
    "split_blocks",
    "true_colour",
    "valid_mask",
]
