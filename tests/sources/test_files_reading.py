"""Laws of reading a layer onto cells: as the file's own cells say, whatever the window."""

import numpy as np
import pyproj
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from written_files import PLACE, UTM, scene, write_tif

from timo.sources.files import layers as reading
from timo.sources.files.grids import FileGrid, overlap, place, window_on
from timo.sources.files.layers import ArrayLayer, Numbers, RasterLayer, read_layers
from timo.sources.place.grid import PixelGrid

HEIGHT, WIDTH = 40, 50
VALUES = scene(bands=1)[0]
GRID = FileGrid(UTM, PLACE, HEIGHT, WIDTH)
SMALL = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """One layer, as a raster and as an array."""
    path = write_tif(tmp_path_factory.mktemp("pair") / "a.tif", VALUES)
    numbers = Numbers("int16", nodata=int(VALUES[3, 4]))
    variable = xr.DataArray(VALUES, dims=("y", "x"))
    return RasterLayer(path, GRID, numbers, 1), ArrayLayer(path, GRID, numbers, variable)


@given(
    row=st.integers(-60, 60),
    column=st.integers(-60, 60),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
)
@SMALL
def test_windows_of_the_files_own_cells(pair, row, column, height, width):
    whole = np.pad(
        np.where(VALUES[3, 4] == VALUES, np.nan, VALUES.astype("float32")),
        150,
        constant_values=np.nan,
    )
    expected = whole[150 + row : 150 + row + height, 150 + column : 150 + column + width]
    target = PixelGrid(UTM, PLACE.c + 10 * column, PLACE.f - 10 * row, 10, height, width)
    for layer in pair:
        np.testing.assert_array_equal(read_layers([layer], target)[0], expected)


@given(
    left=st.floats(-400, 400),
    top=st.floats(-400, 400),
    resolution=st.floats(4, 19),
    crs=st.sampled_from([UTM, "EPSG:32635", "EPSG:3035"]),
)
@SMALL
def test_nearest_neighbour_in_any_crs(pair, left, top, resolution, crs):
    x, y = pyproj.Transformer.from_crs(UTM, crs, always_xy=True).transform(PLACE.c, PLACE.f)
    target = PixelGrid(crs, x + left, y + top, resolution, 30, 30)
    back = pyproj.Transformer.from_crs(crs, UTM, always_xy=True)
    xs, ys = back.transform(*np.meshgrid(target.x, target.y))
    columns, rows = (xs - PLACE.c) / 10, (PLACE.f - ys) / 10
    # On the edge of two cells rounding may choose either.
    sure = (np.abs(columns - np.round(columns)) > 1e-3) & (np.abs(rows - np.round(rows)) > 1e-3)
    rows, columns = np.floor(rows).astype(int), np.floor(columns).astype(int)
    inside = (rows >= 0) & (rows < HEIGHT) & (columns >= 0) & (columns < WIDTH)
    numbers = VALUES[rows.clip(0, HEIGHT - 1), columns.clip(0, WIDTH - 1)].astype("float32")
    expected = np.where(inside & (numbers != VALUES[3, 4]), numbers, np.nan)
    for layer in pair:
        np.testing.assert_array_equal(read_layers([layer], target)[0][sure], expected[sure])


@pytest.mark.parametrize("resolution", [20, 25, 130])
def test_averages_are_of_all_cells_below_and_alike_for_both(pair, resolution):
    target = PixelGrid(UTM, PLACE.c, PLACE.f, resolution, 400 // resolution, 500 // resolution)
    raster, array = (read_layers([layer], target)[0] for layer in pair)
    np.testing.assert_allclose(raster, array, rtol=1e-6)
    if resolution % 20 == 0:
        blocks = np.where(VALUES[3, 4] == VALUES, np.nan, VALUES.astype(float)).reshape(
            20, 2, 25, 2
        )
        np.testing.assert_allclose(array, np.nanmean(blocks, axis=(1, 3)), rtol=1e-6)


def test_large_windows_are_read_in_parts(pair, monkeypatch):
    target = PixelGrid(UTM, PLACE.c - 100, PLACE.f + 100, 50, 14, 15)
    whole = read_layers([pair[1]], target)
    sizes = []
    original = reading._slice

    def note(layer, rows, columns):
        sizes.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return original(layer, rows, columns)

    monkeypatch.setattr(reading, "_MOST", 300)
    monkeypatch.setattr(reading, "_slice", note)
    np.testing.assert_array_equal(read_layers([pair[1]], target), whole)
    assert len(sizes) > 4
    assert max(sizes) <= 300


@given(start=st.integers(-50, 50), length=st.integers(0, 60), size=st.integers(1, 40))
def test_overlap_is_what_both_have(start, length, size):
    part, there = overlap(start, length, size)
    assert list(range(size))[part] == [i for i in range(start, start + length) if 0 <= i < size]
    assert part.stop - part.start == there.stop - there.start
    assert part.stop == part.start or there.start + start == part.start


def test_a_window_that_is_nowhere():
    far = PixelGrid(UTM, PLACE.c + 10_000, PLACE.f, 10, 5, 5)
    assert window_on(GRID, far) is None
    assert window_on(GRID, PixelGrid(UTM, PLACE.c + 100, PLACE.f - 100, 10, 5, 5)) == (
        slice(8, 17),
        slice(8, 17),
    )
    assert place(GRID, PixelGrid(UTM, PLACE.c + 5, PLACE.f, 10, 5, 5)) is None
    assert (
        place(FileGrid(UTM, Affine(10, 0, 0, 0, 10, 0), 5, 5), PixelGrid(UTM, 0, 0, 10, 5, 5))
        is None
    )
