"""Laws of reading a layer onto cells: as the file's own cells say, whatever the window, the mask and the grid."""

import errno
import pickle
import warnings

import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
from affine import Affine
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.sources import reading
from timo.sources.place.grid import PixelGrid
from timo.sources.reading import (
    NO_QUALITY,
    ArrayLayer,
    Numbers,
    Plan,
    RasterLayer,
    Reader,
    is_plain,
    is_under,
    read_header,
    read_on,
    same_cells,
)

UTM = "EPSG:32634"
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
HEIGHT, WIDTH = 40, 50
VALUES = np.random.default_rng(5).integers(1, 9000, (HEIGHT, WIDTH)).astype("int16")
VALUES[10:14, 20:30] = -9999
VALID = VALUES != -9999
BOX = GeoBox((HEIGHT, WIDTH), PLACE, UTM)
SMALL = settings(max_examples=40, deadline=None)


def write(path, values=VALUES, *, crs=UTM, transform=PLACE, mask=None, sidecar=False, **options):
    """A raster of (y, x) or (band, y, x)."""
    values = values if values.ndim == 3 else values[None]
    shape = dict(zip(("count", "height", "width"), values.shape, strict=True))
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not sidecar),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype=values.dtype,
            crs=crs,
            transform=transform,
            **shape,
            **options,
        ) as file,
    ):
        file.write(values)
        if mask is not None:
            file.write_mask(mask)
    return path


def layer_of(path, index=1, **options):
    header = read_header(path)
    return RasterLayer(str(path), index, header.numbers[index - 1], header.grid, **options)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """One layer, as a raster and as an array."""
    path = write(tmp_path_factory.mktemp("pair") / "a.tif", nodata=-9999)
    variable = xr.DataArray(VALUES, dims=("y", "x"), name="a")
    return layer_of(path), ArrayLayer(str(path), Numbers("int16", (-9999.0,)), BOX, variable)


# --- cells


@given(
    row=st.integers(-60, 60),
    column=st.integers(-60, 60),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
)
@SMALL
def test_windows_of_the_files_own_cells(pair, row, column, height, width):
    whole = np.pad(np.where(VALID, VALUES, np.nan), 150, constant_values=np.nan)
    expected = whole[150 + row : 150 + row + height, 150 + column : 150 + column + width]
    target = PixelGrid(UTM, PLACE.c + 10 * column, PLACE.f - 10 * row, 10, height, width)
    for values in read_on(pair, target):
        np.testing.assert_array_equal(values, expected)


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
    at = rows.clip(0, HEIGHT - 1), columns.clip(0, WIDTH - 1)
    expected = np.where(inside & VALID[at], VALUES[at], np.nan)
    for values in read_on(pair, target):
        np.testing.assert_array_equal(values[sure], expected[sure])


@pytest.mark.parametrize("resolution", [20, 25, 130])
def test_averages_are_of_all_valid_cells_below_and_alike_for_both(pair, resolution):
    target = PixelGrid(UTM, PLACE.c, PLACE.f, resolution, 400 // resolution, 500 // resolution)
    raster, array = read_on(pair, target)
    np.testing.assert_allclose(raster, array, rtol=1e-6)
    if resolution == 20:
        blocks = np.where(VALID, VALUES, np.nan).reshape(20, 2, 25, 2)
        with warnings.catch_warnings():  # the mean of no valid cell
            warnings.simplefilter("ignore", RuntimeWarning)
            np.testing.assert_allclose(array, np.nanmean(blocks, axis=(1, 3)), rtol=1e-6)


def test_large_windows_are_read_in_parts(pair, monkeypatch):
    target = PixelGrid(UTM, PLACE.c - 100, PLACE.f + 100, 50, 14, 15)
    whole = read_on(pair, target)
    sizes = []
    plain = reading.layers.ArrayLayer.read

    def note(self, rows, columns):
        sizes.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return plain(self, rows, columns)

    monkeypatch.setattr(reading.onto, "_MOST", 300)
    monkeypatch.setattr(reading.layers.ArrayLayer, "read", note)
    np.testing.assert_array_equal(read_on(pair, target), whole)
    assert len(sizes) > 4
    assert max(sizes) <= 300


def test_overviews_serve_coarse_grids(tmp_path):
    fine = np.arange(256 * 256, dtype="float32").reshape(256, 256) / 1e5
    path = write(tmp_path / "a.tif", fine, tiled=True, blockxsize=64, blockysize=64)
    coarse = PixelGrid(UTM, PLACE.c, PLACE.f, 160, 16, 16)
    expected = fine.reshape(16, 16, 16, 16).mean(axis=(1, 3))
    np.testing.assert_allclose(read_on([layer_of(path)], coarse)[0], expected, rtol=1e-5)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4, 8, 16], rasterio.enums.Resampling.average)
    np.testing.assert_allclose(read_on([layer_of(path)], coarse)[0], expected, rtol=1e-5)
    with rasterio.open(path) as file:
        # Cells at most half as wide as those of the grid.
        assert reading.layers._overview(file, 1, 16) == 2


def test_a_window_that_is_nowhere_and_grids_that_are_not_plain():
    assert not is_under(BOX, PixelGrid(UTM, PLACE.c + 10_000, PLACE.f, 10, 5, 5))
    assert is_under(BOX, PixelGrid(UTM, PLACE.c + 100, PLACE.f - 100, 10, 5, 5))
    assert is_plain(BOX)
    # Six digits of a rotation are rounding; a tenth of a degree is not.
    for angle, plain in ((1e-6, True), (0.1, False)):
        turned = GeoBox((HEIGHT, WIDTH), PLACE @ Affine.rotation(angle), UTM)
        assert is_plain(turned) is plain
        assert same_cells(BOX, turned) is plain
    assert not is_plain(GeoBox((HEIGHT, WIDTH), Affine(10, 0, 0, 0, 10, 0), UTM))


def test_files_across_the_antimeridian_are_read_on_both_sides(tmp_path):
    values = np.arange(1, 1601, dtype="int16").reshape(40, 40)
    for left in (179.8, -180.2):
        path = write(
            tmp_path / f"{left}.tif",
            values,
            crs="EPSG:4326",
            transform=Affine(0.01, 0, left, 0, -0.01, -16),
        )
        layer = layer_of(path)
        for west in (179.9, -180.1):
            own = PixelGrid("EPSG:4326", west, -16.1, 0.01, 20, 20)
            np.testing.assert_array_equal(read_on([layer], own)[0], values[10:30, 10:30])
        x, y = pyproj.Transformer.from_crs(4326, 32701, always_xy=True).transform(-180, -16.2)
        utm = PixelGrid("EPSG:32701", x - 10_000, y + 10_000, 500, 40, 40)
        assert np.isfinite(read_on([layer], utm)[0]).all()


# --- validity


@pytest.mark.parametrize("target", [BOX.affine, BOX.affine @ Affine.translation(0.3, 0.3)])
@pytest.mark.parametrize("how", ["nodata", "internal", "sidecar", "alpha", "range", "several"])
def test_what_is_not_valid_is_nan_on_the_files_grid_and_warped(tmp_path, how, target):
    mask = np.where(VALID, 255, 0).astype("uint8")
    plain = np.where(VALID, VALUES, 8).astype("int16")
    path, numbers = tmp_path / "a.tif", Numbers("int16")
    if how == "nodata":
        write(path, nodata=-9999)
    elif how == "alpha":
        small = np.where(VALID, VALUES % 200 + 1, 8).astype("uint8")
        write(path, np.stack([small, small, small, mask]), photometric="RGB", alpha="YES")
        assert read_header(path).indexes == (1, 2, 3)
    elif how in ("internal", "sidecar"):
        write(path, plain, mask=mask, sidecar=how == "sidecar")
    else:
        write(path)
        numbers = (
            Numbers("int16", valid=(0, 10_000)) if how == "range" else Numbers("int16", (-1, -9999))
        )
    grid = PixelGrid(UTM, target.c, target.f, 10, HEIGHT - 1, WIDTH - 1)
    layers = [RasterLayer(str(path), 1, numbers, BOX)]
    if how in ("nodata", "range", "several"):
        variable = xr.DataArray(VALUES, dims=("y", "x"), name="a")
        of_file = Numbers("int16", (-9999,)) if how == "nodata" else numbers
        layers.append(ArrayLayer(str(path), of_file, BOX, variable))
    for values in read_on(layers, grid):
        np.testing.assert_array_equal(np.isfinite(values), VALID[:-1, :-1])


@pytest.mark.parametrize(("dtype", "opaque"), [("int16", 1), ("float32", 1), ("uint16", 65535)])
def test_alpha_of_any_type_counts(tmp_path, dtype, opaque):
    alpha = np.where(VALID, opaque, 0)
    path = write(tmp_path / "a.tif", np.stack([np.where(VALID, VALUES, 8), alpha]).astype(dtype))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [rasterio.enums.ColorInterp.gray, rasterio.enums.ColorInterp.alpha]
    grid = PixelGrid(UTM, PLACE.c, PLACE.f, 10, HEIGHT, WIDTH)
    np.testing.assert_array_equal(np.isfinite(read_on([layer_of(path)], grid)[0]), VALID)


def test_infinite_numbers_are_not_valid_and_spread_over_no_average(tmp_path):
    values = np.full((4, 4), 0.2, "float32")
    values[0, 0] = -np.inf
    path = write(tmp_path / "a.tif", values)
    coarse = PixelGrid(UTM, PLACE.c, PLACE.f, 20, 2, 2)
    np.testing.assert_allclose(read_on([layer_of(path)], coarse)[0], 0.2)


def test_signed_integers_that_stand_for_unsigned_ones():
    stored = np.array([[40_000, 0], [65_535, 1]], "uint16").view("int16")
    numbers = Numbers("int16", (65_535,), unsigned=True)
    np.testing.assert_array_equal(numbers.floats(stored), [[40_000, 0], [np.nan, 1]])


# --- scenes


def test_plans_give_physical_values_as_the_producer_counts_them():
    numbers = np.array([[2000.0, 1000.0]], "float32")
    np.testing.assert_allclose(Plan(None, 1e-4, shift=-1000).values(numbers), [[0.1, 0]], atol=1e-9)
    np.testing.assert_allclose(Plan(None, 2.75e-5, -0.2).values(numbers), [[-0.145, -0.1725]])


def test_arrays_have_the_same_name_in_every_process_and_another_one_when_a_file_changes(
    pair, tmp_path
):
    grid = PixelGrid(UTM, PLACE.c, PLACE.f, 10, HEIGHT, WIDTH)
    name = Reader([[Plan(pair[0])]], grid).array(32).name
    again = pickle.loads(pickle.dumps(Reader([[Plan(pair[0])]], grid)))  # noqa: S301
    assert again.array(32).name == name
    path = write(tmp_path / "a.tif")
    layer = layer_of(path)
    before = tokenize(layer)
    write(path, VALUES + 1)
    assert tokenize(layer) != before


def test_footprints_spare_reads_also_across_the_antimeridian():
    here = RasterLayer("nowhere.tif", 1, Numbers(""), None)
    grid = PixelGrid(
        "EPSG:32701", 180_000, 8_200_000, 10, 8, 8
    )  # 177 W to the east of the antimeridian
    west, *_ = grid.lonlat_bounds
    far = Reader([[Plan(here)]], grid, footprints=[(10, -90, 20, 90)])
    assert np.isnan(far.read(0, grid)).all()
    near = Reader([[Plan(here)]], grid, footprints=[(west + 359, -90, west + 361, 90)])
    with pytest.raises(TimoError, match=r"nowhere.tif cannot be read"):
        near.read(0, grid)


def test_classes_are_whole_numbers_that_the_sensor_knows(tmp_path):
    grid = PixelGrid(UTM, PLACE.c, PLACE.f, 10, 4, 4)
    s2, landsat = get_sensor("sentinel-2"), get_sensor("landsat-8-9")

    def classes(value, dtype, sensor):
        path = write(tmp_path / f"{value}.tif", np.full((4, 4), value, dtype), nodata=0)
        return Reader(
            [[Plan(layer_of(path, label="SCL of 2018-07-01"))]], grid, quality=sensor
        ).read(0, grid)

    assert (classes(4, "uint8", s2) == 4).all()
    assert (classes(0, "uint8", s2) == NO_QUALITY).all()
    # Clear, cloud, shadow, snow, cirrus, dilated cloud, medium confidence; and flags alone.
    for value in (21824, 22280, 23888, 30048, 54596, 21826, 22080, 8):
        assert (classes(value, "uint16", landsat) == value).all()
    # Means of two of these: bits that no scene has together.
    for value in (22052, 21976, 38438):
        with pytest.raises(TimoError, match="interpolated"):
            classes(value, "uint16", landsat)
    for value, dtype, sensor in (
        (4.5, "float32", s2),
        (37, "uint8", s2),
        (64.2, "float32", landsat),
    ):
        with pytest.raises(TimoError, match=rf"SCL of 2018-07-01 holds {value}.*interpolated"):
            classes(value, dtype, sensor)


def test_a_read_that_fails_for_a_moment_is_tried_again(pair, monkeypatch):
    failures = [OSError(errno.EIO, "Input/output error")]
    plain = rasterio.open

    def fragile(*arguments, **options):
        if failures:
            raise failures.pop()
        return plain(*arguments, **options)

    monkeypatch.setattr(reading.layers.rasterio, "open", fragile)
    grid = PixelGrid(UTM, PLACE.c, PLACE.f, 10, HEIGHT, WIDTH)
    assert np.isfinite(read_on(pair[:1], grid)[0]).any()
    assert failures == []


def test_a_cell_on_the_antimeridian_is_as_wide_as_its_neighbours():
    to_zone = pyproj.Transformer.from_crs(4326, 32701, always_xy=True)
    x, y = to_zone.transform(180, -17.9)
    file = PixelGrid("EPSG:4326", -180.0, -17.0, 1e-3, 1000, 1000).geobox
    for away in (0, 50, 99, 1000):
        grid = PixelGrid("EPSG:32701", x - away - 3000, y + 3000, 100.0, 60, 60)
        assert reading.onto._ratio(file, grid) == pytest.approx(0.9226, rel=1e-3)
