"""From images to a cube: against a reading of the rules that goes pixel by pixel, and law by law."""

from itertools import product

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from ee_emulator import sample
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_catalog import sample_grid

from timo.cube import check, composite
from timo.errors import TimoError
from timo.sensors import get_sensor
from timo.sources import open_cube
from timo.sources.place.area import Area
from timo.sources.place.grid import PixelGrid
from timo.sources.request import CubeRequest
from timo.sources.scenes import cube_from_scenes, fringe_cells, half_axes

S2 = get_sensor("sentinel-2")
HEIGHT, WIDTH = 9, 11
# A day is a solar day: at 22 degrees east it begins an hour and a half before UTC's.
AREA = Area(shapely.box(21.9, 45.2, 22.1, 45.3))


@pytest.fixture(autouse=True)
def here():
    with dask.config.set(scheduler="synchronous"):
        yield


def make_request(height=HEIGHT, width=WIDTH, **options) -> CubeRequest:
    grid = PixelGrid("EPSG:32634", 500_000, 5_000_000, 10, height, width)
    given = {
        "area": AREA,
        "grid": grid,
        "start": pd.Timestamp("2019-01-01"),
        "end": pd.Timestamp("2020-01-01"),
        "sensor": S2,
        "bands": ("B4", "B8"),
        "masked": S2.masked,
    }
    return CubeRequest(**(given | options))


def make_scenes(request, days, seed=0, margin=0):
    """Numbers with holes and a quality layer, (scene, ...), for scenes at these times."""
    rng = np.random.default_rng(seed)
    n, (height, width) = len(days), request.grid.shape
    numbers = rng.integers(1, 10_000, (n, len(request.bands), height, width)).astype("float32")
    numbers[rng.random(numbers.shape) < 0.05] = 0
    shape = (n, height + 2 * margin, width + 2 * margin)
    quality = rng.choice([4, 4, 4, 4, 4, 4, 8, 11], shape)
    return numbers, quality


def make_cube(request, numbers, quality, times, *, ids=None, chunks=(1, 2, 4, 4), **options):
    """A cube of digital numbers, 0 = no data."""
    numbers = np.asarray(numbers, "float32")
    values = np.where(numbers == 0, np.float32(np.nan), numbers * np.float32(1e-4))
    return cube_of_values(request, values, quality, times, ids=ids, chunks=chunks, **options)


def cube_of_values(request, values, quality, times, *, ids=None, chunks=(1, 2, 4, 4), **options):
    lazy = da.from_array(np.asarray(values, "float32"), chunks=chunks)
    # Not those of the values.
    side = 5 if lazy.shape[-1] < 50 else 70
    flags = None if quality is None else da.from_array(quality, chunks=(1, side, side))
    ids = ids or [f"s{i}" for i in range(len(times))]
    times = pd.DatetimeIndex(times)
    return cube_from_scenes(request, lazy, flags, times, ids, source="test", **options)


def read_by_the_rules(request, numbers, quality, margin=0):
    """Physical values of scenes, pixel by pixel."""
    values = np.full(numbers.shape, np.nan, "float32")
    reach = request.buffer_m / 10
    clouds = [np.argwhere(np.isin(layer, request.fringed)) - margin for layer in quality]
    for scene, row, column in product(range(len(numbers)), range(HEIGHT), range(WIDTH)):
        spectrum = numbers[scene, :, row, column]
        near = np.hypot(*(clouds[scene] - (row, column)).T) <= reach
        masked = quality[scene, row + margin, column + margin] in request.masked
        if (spectrum != 0).all() and not masked and not (reach and near.any()):
            values[scene, :, row, column] = spectrum.astype("float32") * np.float32(1e-4)
    return values


# --- the sample through it


@pytest.mark.parametrize("period", [None, "1MS", "QS-DEC"])
@pytest.mark.parametrize("buffer_m", [0, 50])
def test_the_samples_scenes_make_the_samples_cube(period, buffer_m):
    grid = sample_grid()
    request = make_request(
        area=grid.area,
        grid=grid,
        start=pd.Timestamp("2018-01-01"),
        bands=("B3", "B4"),
        buffer_m=buffer_m,
        composite=period,
    )
    numbers = np.stack([sample.numbers(band) for band in request.bands], axis=1)
    cube = make_cube(
        request, numbers, sample.numbers("SCL"), sample.scene_times(), chunks=(1, 1, 64, 64)
    )
    expected = open_cube("sample", start="2018", end="2019", bands=request.bands, buffer_m=buffer_m)
    if period:
        expected = composite(expected, freq=period)
        np.testing.assert_array_equal(cube.n_valid, expected.n_valid)
        assert cube.attrs["composite"] == f"{period} median"
    np.testing.assert_array_equal(cube, expected)
    np.testing.assert_array_equal(cube.time, expected.time)
    for key in ("sensor", "units"):
        assert cube.attrs[key] == expected.attrs[key]
    assert cube.attrs["attribution"] == "Contains modified Copernicus Sentinel data 2018-2019"
    assert cube.name == "reflectance"
    assert cube.rio.crs.to_epsg() == 3035


# --- masks


@pytest.mark.parametrize("buffer_m", [0, 10, 14, 15, 25, 30])
@pytest.mark.parametrize("beyond", [False, True])
def test_masks_are_those_of_the_rules(buffer_m, beyond):
    request = make_request(buffer_m=buffer_m)
    margin = fringe_cells(request) if beyond else 0
    times = pd.date_range("2019-05-01T09:00", periods=3)
    numbers, quality = make_scenes(request, times, margin=margin)
    expected = read_by_the_rules(request, numbers, quality, margin)
    assert 0.1 < np.isnan(expected).mean() < 1
    np.testing.assert_array_equal(make_cube(request, numbers, quality, times), expected)


@settings(max_examples=25, deadline=None)
@given(
    chunks=st.tuples(*(st.integers(1, most) for most in (4, 2, HEIGHT, WIDTH))),
    buffer_m=st.sampled_from([0, 10, 25, 40]),
    beyond=st.booleans(),
    seed=st.integers(0, 99),
)
def test_results_do_not_depend_on_the_chunks(chunks, buffer_m, beyond, seed):
    request = make_request(buffer_m=buffer_m)
    times = pd.DatetimeIndex(
        ["2019-05-01T09:00", "2019-05-01T09:01", "2019-05-02T09:00", "2019-05-03"]
    )
    margin = fringe_cells(request) if beyond else 0
    numbers, quality = make_scenes(request, times, seed, margin)
    whole = make_cube(request, numbers, quality, times, chunks=-1)
    parts = make_cube(request, numbers, quality, times, chunks=chunks)
    xr.testing.assert_identical(parts.compute(), whole.compute())


def test_a_part_of_a_cube_is_the_cube_of_the_part():
    request = make_request(buffer_m=20)
    margin = fringe_cells(request)
    times = pd.date_range("2019-05-01T09:00", periods=2)
    numbers, quality = make_scenes(request, times, margin=margin)
    whole = make_cube(request, numbers, quality, times)
    rows, columns = slice(3, 8), slice(2, 9)
    part = make_cube(
        make_request(grid=request.grid.window(rows, columns), buffer_m=20),
        numbers[..., rows, columns],
        quality[:, 3 : 8 + 2 * margin, 2 : 9 + 2 * margin],
        times,
    )
    np.testing.assert_array_equal(part, whole.isel(y=rows, x=columns))
    np.testing.assert_array_equal(part.x, whole.x[columns])


def test_without_a_quality_layer_or_masked_classes_only_nodata_is_masked():
    request = make_request(buffer_m=50)
    times = pd.date_range("2019-05-01T09:00", periods=1)
    numbers, quality = make_scenes(request, times)
    valid = (numbers != 0).all(axis=1)
    open_eyed = make_cube(make_request(masked=(), buffer_m=50), numbers, quality, times)
    for cube in (make_cube(request, numbers, None, times), open_eyed):
        np.testing.assert_array_equal(np.isfinite(cube.values).all(axis=1), valid)


def test_where_the_quality_layer_says_nothing_is_no_observation_and_no_cloud():
    # Of a bit mask, -1 would be everything at once.
    landsat = get_sensor("landsat-8-9")
    request = make_request(
        sensor=landsat, bands=("SR_B4",), masked=landsat.masked, buffer_m=20, height=3, width=3
    )
    quality = np.full((1, 3, 3), 1 << 6)
    quality[0, 1, 1] = -1
    cube = cube_of_values(request, np.full((1, 1, 3, 3), 0.05), quality, ["2019-05-01"])
    expected = np.full((3, 3), 0.05)
    expected[1, 1] = np.nan
    np.testing.assert_allclose(cube[0, 0], expected, rtol=1e-6)


def test_a_buffer_is_a_distance_whatever_the_unit_of_the_grid():
    degrees = PixelGrid("EPSG:4326", 22.0, 60.0, 0.001, 5, 5)
    height, width = half_axes(make_request(grid=degrees, buffer_m=500))
    # A degree is 111 km, and along a parallel at 60 degrees half of that.
    assert height == pytest.approx(500 / 111.4, rel=0.01)
    assert width == pytest.approx(500 / 55.8, rel=0.01)
    assert fringe_cells(make_request(grid=degrees, buffer_m=500)) == 8
    feet = PixelGrid("EPSG:2263", 0, 0, 10, 5, 5)
    assert half_axes(make_request(grid=feet, buffer_m=30.48))[0] == pytest.approx(10, rel=1e-4)
    assert fringe_cells(make_request(buffer_m=500, masked=(0, 11))) == 0


# --- values


def test_linear_power_becomes_decibels_and_none_is_no_observation():
    radar = get_sensor("sentinel-1")
    request = make_request(sensor=radar, bands=("VV", "VH"), masked=(), height=1, width=3)
    numbers = np.array([[[[0.1, 1.0, 0.5]], [[0.01, 0.5, -0.1]]]], "float32")
    cube = cube_of_values(request, numbers, None, ["2019-05-01"], linear=True)
    np.testing.assert_allclose(cube[0, :, 0], [[-10, 0, np.nan], [-20, -3.0103, np.nan]], atol=1e-4)
    assert cube.name == "backscatter"
    assert cube.attrs["units"] == "backscatter, dB"
    decibels = np.full((1, 2, 8, 8), -12.0)
    large = make_request(sensor=radar, bands=("VV", "VH"), masked=(), height=8, width=8)
    with pytest.raises(TimoError, match=r"median of -12: decibels.*Leave linear= out"):
        cube_of_values(large, decibels, None, ["2019-05-01"], linear=True).compute()


@pytest.mark.parametrize("composite", [None, "YS"])
def test_the_values_of_every_scene_are_checked_when_they_are_computed(composite):
    request = make_request(composite=composite)
    times = pd.date_range("2019-05-01T09:00", periods=3)
    numbers, quality = make_scenes(request, times)
    values = numbers * 1e-4
    values[1] = numbers[1]
    cube = cube_of_values(request, values, quality, times)
    with pytest.raises(TimoError, match=r"s1 \(2019-05-02\).*digital numbers"):
        cube.compute()
    if composite is None:
        assert np.isfinite(cube.isel(time=[0, 2])).any()


# --- days


def test_of_one_day_the_last_valid_image_lies_on_top():
    request = make_request(height=1, width=4, bands=("B4",))
    below, middle, top = [1, 1, 1, 0], [2, 2, 0, 0], [3, 0, 0, 0]
    numbers = np.array([top, below, middle], float).reshape(3, 1, 1, 4)
    times = ["2019-05-01T09:02", "2019-05-01T09:00", "2019-05-01T09:01"]
    cube = make_cube(request, numbers, None, times, chunks=(1, 1, 1, 3))
    np.testing.assert_allclose(cube[0, 0, 0] * 1e4, [3, 2, 1, np.nan])
    assert cube.sizes["time"] == 1


def test_of_one_instant_the_later_name_lies_on_top():
    request = make_request(height=1, width=1, bands=("B4",))
    numbers = np.array([1.0, 2.0]).reshape(2, 1, 1, 1)
    times = ["2019-05-01T09:00"] * 2
    for ids, expected in ((["a", "b"], 2), (["b", "a"], 1)):
        cube = make_cube(request, numbers, None, times, ids=ids)
        np.testing.assert_allclose(cube.values * 1e4, [[[[expected]]]])


def test_a_day_is_a_solar_day():
    request = make_request(height=1, width=1, bands=("B4",), start=pd.Timestamp("2019-05-02"))
    # 22 degrees east: half past ten in UTC is midnight less two minutes there.
    times = ["2019-05-01T22:30", "2019-05-01T22:33", "2019-05-02T22:31"]
    cube = make_cube(request, np.ones((3, 1, 1, 1)), None, times)
    assert cube.time.dt.strftime("%Y-%m-%d").values.tolist() == ["2019-05-02"]
    assert cube.time.dtype == "datetime64[ns]"


def test_a_day_of_clouds_stays_and_one_without_image_is_not_there():
    request = make_request()
    times = pd.DatetimeIndex(["2019-05-01T09:00", "2019-05-06T09:00", "2020-01-01T09:00"])
    numbers, quality = make_scenes(request, times)
    quality[1] = 9
    cube = make_cube(request, numbers, quality, times)
    assert cube.time.dt.day.values.tolist() == [1, 6]
    assert np.isnan(cube[1]).all()
    assert np.isfinite(cube[0]).any()
    assert cube.attrs["attribution"].endswith(" 2019")


# --- composites and outline


def test_periods_are_counted_from_the_start_of_the_request():
    request = make_request(
        height=1, width=1, bands=("B4",), start=pd.Timestamp("2019-02-10"), composite="16D"
    )
    times = ["2019-02-25", "2019-02-26", "2019-03-01", "2019-06-01"]
    numbers = np.array([1.0, 2, 4, 9]).reshape(4, 1, 1, 1)
    cube = make_cube(request, numbers, None, times)
    assert cube.time.dt.strftime("%m-%d").values.tolist() == ["02-10", "02-26", "05-17"]
    np.testing.assert_allclose(cube[:, 0, 0, 0] * 1e4, [1, 3, 9], rtol=1e-6)
    assert cube.n_valid.values.ravel().tolist() == [1, 2, 1]
    assert cube.n_valid.dtype == "int16"


def test_clip_leaves_only_pixels_whose_centre_is_inside():
    grid = PixelGrid("EPSG:4326", 22.0, 46.0, 0.001, 20, 30)
    triangle = Area(shapely.Polygon([(22.0, 45.98), (22.03, 45.98), (22.0, 46.0)]))
    request = make_request(grid=grid, area=triangle, clip=True, bands=("B4",))
    numbers = np.full((1, 1, 20, 30), 500)
    cube = make_cube(request, numbers, None, ["2019-05-01"], chunks=(1, 1, 7, 8))
    inside = [[triangle.geometry.contains(shapely.Point(x, y)) for x in grid.x] for y in grid.y]
    np.testing.assert_array_equal(np.isfinite(cube[0, 0]), inside)
    assert 0.4 < np.mean(inside) < 0.6


# --- laziness


def test_only_the_chunks_of_a_window_are_made():
    reads = []

    def read(block_info=None):
        where = block_info[None]["array-location"]
        reads.append(tuple(a for a, _ in where))
        return np.full([b - a for a, b in where], 0.1, "float32")

    side, n = 20_000, 24
    request = make_request(height=side, width=side, bands=("B4", "B8"), buffer_m=50)
    sizes = da.core.normalize_chunks((1, 1, 1000, 1000), (n, 2, side, side))
    numbers = da.map_blocks(read, chunks=sizes, dtype="float32", meta=np.empty((0,) * 4, "f4"))
    margin = fringe_cells(request)
    quality = da.full((n, side + 2 * margin, side + 2 * margin), 4, chunks=(1, 1000, 1000))
    times = pd.date_range("2019-05-01T09:00", periods=n, freq="5D")
    cube = cube_from_scenes(
        request, numbers, quality, times, list("abcdefghijklmnopqrstuvwx"), source="test"
    )
    assert reads == []
    assert cube.shape == (n, 2, side, side)
    window = cube.isel(time=3, y=slice(5100, 5200), x=slice(7900, 8100)).compute()
    assert np.isfinite(window).all()
    # Two chunks side by side, two bands, one date.
    assert sorted(reads) == [(3, b, 5000, x) for b in (0, 1) for x in (7000, 8000)]


def test_a_block_outside_an_image_takes_no_memory():
    from timo.sources.scenes import _observe_block

    numbers = np.full((1, 3, 500, 500), np.nan, "float32")
    block = _observe_block(numbers, request=make_request(), names=["a"], linear=False)
    assert block.shape == numbers.shape
    assert np.isnan(block).all()
    assert not any(block.strides)


# --- refusals


def test_no_scene_within_the_dates():
    request = make_request(height=1, width=1, bands=("B4",), max_cloud=20)
    with pytest.raises(TimoError) as error:
        make_cube(request, np.ones((2, 1, 1, 1)), None, ["2018-05-01", "2020-06-01"])
    for words in (
        "No image of sentinel-2 between 2019-01-01 and 2019-12-31 over 21.9..22.1 E",
        "widen the dates, raise max_cloud",
        "2 images, of 2018-05-01 to 2020-06-01",
    ):
        assert words in str(error.value)


def test_no_scene_at_all():
    request = make_request(height=1, width=1, bands=("B4",))
    with pytest.raises(TimoError, match=r"No image of sentinel-2.*seen: none at all"):
        make_cube(request, np.ones((0, 1, 1, 1)), None, [], chunks=-1)


@pytest.mark.parametrize(
    ("numbers", "quality", "ids", "words"),
    [
        ((1, 2, 3, 3), None, ["a"], r"values must be \(1, 2, 9, 11\)"),
        ((1, 2, 9, 11), (1, 9, 12), ["a"], r"quality must be \(1, 9, 11\) or \(1, 19, 21\)"),
        ((1, 2, 9, 11), None, ["a", "b"], "2 ids"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(numbers, quality, ids, words):
    request = make_request(buffer_m=50)
    layer = None if quality is None else np.full(quality, 4)
    with pytest.raises(TimoError, match=words):
        make_cube(request, np.ones(numbers), layer, ["2019-05-01"], ids=ids)


def test_the_result_is_a_cube():
    request = make_request()
    times = pd.date_range("2019-05-01T09:00", periods=2)
    cube = make_cube(request, *make_scenes(request, times), times)
    assert check(cube) is cube
    assert cube.chunks is not None
    assert cube.dtype == "float32"
    assert list(cube.coords) == ["time", "band", "y", "x", "spatial_ref"]
