import pickle

import dask
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import written_files as written
import xarray as xr
from affine import Affine
from written_files import BANDS, DATES, GRID, PLACE, UTM, scene, write_tif

from timo.cube import check
from timo.sources import open_cube, reading
from timo.sources.files import open_files
from timo.sources.place.grid import PixelGrid

# Zarr's format 3 has no final form yet for text, nor for what is consolidated.
pytestmark = pytest.mark.filterwarnings(
    "ignore::zarr.errors.ZarrUserWarning", "ignore:The data type"
)

AOI = (22.152, 45.206, 22.158, 45.210)


@pytest.fixture(scope="module")
def truth():
    return open_cube("sample").isel(time=slice(DATES))


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    return written.write_dates(tmp_path_factory.mktemp("dated"))


@pytest.fixture(scope="module")
def banded(tmp_path_factory):
    return written.write_bands(tmp_path_factory.mktemp("banded"))


@pytest.fixture(scope="module")
def netcdf(tmp_path_factory):
    path = tmp_path_factory.mktemp("cf") / "sample.nc"
    written.as_dataset().to_netcdf(path)
    return path


@pytest.fixture(scope="module")
def zarr(tmp_path_factory):
    path = tmp_path_factory.mktemp("zarr") / "sample.zarr"
    written.as_dataset().to_zarr(path, consolidated=False)
    return path


@pytest.fixture(params=["dated", "banded", "netcdf", "zarr"])
def any_files(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def reads(monkeypatch):
    """Windows that are read from now on."""
    seen = []
    original = reading.blocks.read_on

    def count(layers, target, **options):
        seen.append((len(layers), target))
        return original(layers, target, **options)

    monkeypatch.setattr(reading.blocks, "read_on", count)
    return seen


def test_all_kinds_of_files_equal_the_sample(any_files, truth):
    cube = open_cube("files", path=any_files)
    assert check(cube) is cube
    assert dask.is_dask_collection(cube)
    xr.testing.assert_equal(cube.compute(), truth.drop_vars("scl"))
    assert cube.name == "reflectance"
    assert cube.attrs["sensor"] == "sentinel-2"
    assert cube.attrs["attribution"] == "Contains modified Copernicus Sentinel data 2015-2016"
    assert cube.rio.crs.to_epsg() == 3035


@pytest.mark.parametrize(
    "options", [{"masked_classes": ()}, {"masked_classes": [9], "buffer_m": 0}, {"buffer_m": 100}]
)
def test_masks_are_those_of_the_sample(any_files, options):
    cube = open_cube("files", path=any_files, **options)
    truth = open_cube("sample", **{"buffer_m": 50, **options}).isel(time=slice(DATES))
    xr.testing.assert_equal(cube.compute(), truth.drop_vars("scl"))


def test_dates_and_bands_are_picked(any_files, truth):
    cube = open_cube(
        "files", path=any_files, start="2015-08-10", end="2015-09", bands=["swir16", "B04"]
    )
    expected = truth.sel(time=slice("2015-08-10", "2015-09"), band=["B11", "B4"]).drop_vars("scl")
    xr.testing.assert_equal(cube.compute(), expected)


def test_small_chunks_change_nothing(dated, truth):
    cube = open_files(dated, chunks=32)
    assert max(cube.chunks[2]) <= 34
    xr.testing.assert_equal(cube.compute(), truth.drop_vars("scl"))


def test_lists_and_globs(banded, truth):
    names = sorted(str(path) for path in banded.glob("*.tif"))
    for path in (names, str(banded / "*.tif"), f"{banded.parent}/{banded.name}/**/*_10m.tif"):
        xr.testing.assert_equal(open_files(path).compute(), truth.drop_vars("scl"))


def nearest(grid, band, date):
    """Nearest neighbour of the sample, by transforming each cell centre; NaN outside."""
    to_files = pyproj.Transformer.from_crs(grid.crs, GRID.crs, always_xy=True)
    x, y = to_files.transform(*np.meshgrid(grid.x, grid.y))
    columns = np.floor((x - GRID.left) / 10).astype(int)
    rows = np.floor((GRID.top - y) / 10).astype(int)
    inside = (rows >= 0) & (rows < 100) & (columns >= 0) & (columns < 100)
    values = written.numbers(band, date).astype("float32")
    return np.where(inside, values[rows.clip(0, 99), columns.clip(0, 99)], np.nan)


def test_onto_a_utm_grid_by_nearest_neighbour(any_files):
    cube = open_files(any_files, aoi=AOI, resolution=10, masked_classes=())
    assert cube.rio.crs.to_epsg() == 32634
    transform = cube.rio.transform()
    grid = PixelGrid("EPSG:32634", transform.c, transform.f, 10, *cube.shape[2:])
    assert transform.c % 10 == transform.f % 10 == 0
    for date in (0, DATES - 1):
        for band in ("B4", "B11"):
            expected = nearest(grid, band, date) * np.float32(1e-4)
            np.testing.assert_array_equal(cube.isel(time=date).sel(band=band), expected)
            assert np.isfinite(expected).mean() > 0.5


def test_the_quality_layer_is_warped_as_the_bands_are(dated):
    cube = open_files(dated, aoi=AOI, resolution=10, masked_classes=[9], buffer_m=0).compute()
    transform = cube.rio.transform()
    grid = PixelGrid("EPSG:32634", transform.c, transform.f, 10, *cube.shape[2:])
    for date in range(DATES):
        quality = nearest(grid, "SCL", date)
        expected = np.isfinite(quality) & (quality != 9)
        np.testing.assert_array_equal(np.isfinite(cube.values[date]).all(axis=0), expected)


def test_like_takes_the_grid_of_a_cube(dated, truth):
    part = truth.isel(y=slice(10, 40), x=slice(20, 70))
    cube = open_files(dated, like=part)
    xr.testing.assert_equal(cube.compute(), part.drop_vars("scl"))


def test_coarser_cells_are_averages_and_the_commonest_class(dated):
    cube = open_files(dated, resolution=20, masked_classes=())
    assert cube.shape == (DATES, 6, 50, 50)
    blue = written.numbers("B2", 0).reshape(50, 2, 50, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(cube[0, 0], blue * 1e-4, rtol=1e-5)
    masked = open_files(dated, resolution=50, masked_classes=[9], buffer_m=0).isel(time=0)
    classes = written.numbers("SCL", 0).reshape(20, 5, 20, 5)
    share = (classes == 9).mean(axis=(1, 3))
    cloudy = np.isnan(masked[0].values)
    assert cloudy[share > 0.5].all()
    assert not cloudy[share < 0.2].any()


def test_composites_and_clipping_are_those_of_every_source(dated, truth):
    cube = open_files(dated, composite="1MS")
    months = truth.drop_vars("scl").resample(time="1MS").median().dropna("time", how="all")
    np.testing.assert_allclose(cube.dropna("time", how="all"), months, rtol=1e-6)
    assert cube.n_valid.dims == ("time", "y", "x")
    triangle = {"type": "Polygon", "coordinates": [[AOI[:2], (AOI[2], AOI[1]), AOI[2:], AOI[:2]]]}
    whole, clipped = (open_files(dated, aoi=triangle, clip=clip) for clip in (False, True))
    assert 0.3 < float(np.isfinite(clipped).sum() / np.isfinite(whole).sum()) < 0.7


@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_a_cube_of_timo_comes_back_as_it_was(tmp_path, truth, kind):
    path = tmp_path / f"cube.{kind}"
    dataset = truth.to_dataset(name="cube")
    (dataset.to_netcdf if kind == "nc" else dataset.to_zarr)(path)
    cube = open_cube("files", path=path)
    assert dask.is_dask_collection(cube)
    xr.testing.assert_identical(cube.compute(), truth)
    part = open_cube("files", path=path, start="2015-09", bands=["nir"])
    xr.testing.assert_identical(part.compute(), truth.sel(time=slice("2015-09", None), band=["B8"]))


def test_a_cube_of_timo_can_be_warped_and_composited(tmp_path, dated):
    # Without a buffer, whose circle is of other cells on another grid.
    own = open_files(dated, buffer_m=0)
    own.to_dataset(name="cube").to_netcdf(tmp_path / "cube.nc")
    options = {"aoi": AOI, "resolution": 10, "composite": "1MS", "buffer_m": 0}
    again = open_files(tmp_path / "cube.nc", **options)
    np.testing.assert_array_equal(again, open_files(dated, **options))


def test_several_cubes_follow_one_another_in_time(tmp_path, truth):
    for name, part in (("b", slice(0, 2)), ("a", slice(2, None))):
        truth.isel(time=part).to_dataset(name="cube").to_zarr(tmp_path / f"{name}.zarr")
    cube = open_files(tmp_path)
    xr.testing.assert_equal(cube.compute(), truth)


def test_several_netcdf_files_with_a_date_each(tmp_path, truth):
    for i in range(DATES):
        part = written.as_dataset().isel(time=i, drop=True)
        part.to_netcdf(tmp_path / f"S2_{written.TIMES[i]:%Y%j}.nc")
    xr.testing.assert_equal(open_files(tmp_path).compute(), truth.drop_vars("scl"))


def test_one_variable_with_a_dim_of_bands_south_up_in_degrees(tmp_path):
    values = np.random.default_rng(0).uniform(0, 0.5, (2, 3, 10, 12)).astype("float32")
    array = xr.DataArray(
        values,
        dims=("time", "wavelength", "lat", "lon"),
        coords={
            "time": pd.to_datetime(["2019-07-01", "2019-07-11"]),
            "wavelength": ["blue", "red", "nir08"],
            "lat": 45 + np.arange(10) * 1e-3,
            "lon": 22 + np.arange(12) * 1e-3,
        },
        name="r",
    )
    array.to_netcdf(tmp_path / "r.nc")
    cube = open_files(tmp_path / "r.nc", sensor="landsat-8-9")
    assert cube.rio.crs.to_epsg() == 4326
    assert list(cube.band.values) == ["SR_B2", "SR_B4", "SR_B5"]
    np.testing.assert_array_equal(cube, values[:, :, ::-1])
    np.testing.assert_allclose(cube.y, array.lat[::-1])


def test_scale_tags_of_the_file_come_before_the_sensors(tmp_path):
    numbers = scene()
    write_tif(
        tmp_path / "20190701.tif",
        numbers,
        descriptions=("B2", "B3", "B8A"),
        scale=2e-4,
        nodata=numbers[0, 0, 0],
    )
    cube = open_files(tmp_path)
    expected = numbers.astype("float32") * np.float32(2e-4)
    expected[:, (numbers == numbers[0, 0, 0]).any(axis=0)] = np.nan
    np.testing.assert_array_equal(cube[0], expected)


def test_scale_offset_and_nodata_can_be_given(tmp_path):
    numbers = scene()
    write_tif(tmp_path / "20190701.tif", numbers, descriptions=("B2", "B3", "B8A"), scale=2e-4)
    cube = open_files(tmp_path, scale=1e-4, offset=-0.1, nodata=int(numbers[1, 2, 3]))
    assert np.isnan(cube[0, :, 2, 3]).all()
    np.testing.assert_allclose(cube[0, 0, 0, 0], numbers[0, 0, 0] * 1e-4 - 0.1, rtol=1e-5)


def test_landsat_numbers_have_landsats_scale_and_offset(tmp_path):
    numbers = scene(bands=1) + np.int16(8000)
    for band in ("SR_B4", "SR_B5"):
        write_tif(
            tmp_path / f"LC08_L2SP_184029_20190714_20200827_02_T1_{band}.TIF",
            numbers.astype("uint16"),
            nodata=0,
        )
    clear = np.full((1, *numbers.shape[1:]), 1 << 6, "uint16")
    clear[0, 5, 5] |= 1 << 3
    write_tif(tmp_path / "LC08_L2SP_184029_20190714_20200827_02_T1_QA_PIXEL.TIF", clear, nodata=1)
    write_tif(tmp_path / "LC08_L2SP_184029_20190714_20200827_02_T1_ST_TRAD.TIF", numbers)
    cube = open_files(tmp_path, buffer_m=0)
    assert cube.attrs["sensor"] == "landsat-8-9"
    expected = numbers[0] * np.float32(2.75e-5) - np.float32(0.2)
    expected[5, 5] = np.nan
    np.testing.assert_allclose(cube[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "shift"),
    [
        ("T34TFR_20210701T092031_B04_10m", 0),
        ("T34TFR_20220701T092031_B04_10m", 1000),
        (
            "S2A_MSIL2A_20180701T092031_N0500_R093_T34TFR_20230101T000000.SAFE/T34TFR_20180701T092031_B04_10m",
            1000,
        ),
        (
            "S2A_MSIL2A_20180701T092031_N0208_R093_T34TFR_20180701T112345.SAFE/T34TFR_20180701T092031_B04_10m",
            0,
        ),
        ("20230701_B04", 0),
    ],
)
def test_the_offset_of_new_sentinel_2_baselines(tmp_path, name, shift):
    numbers = scene(bands=1)
    path = write_tif(tmp_path / f"{name}.tif", numbers)
    cube = open_files(path, sensor="sentinel-2")
    np.testing.assert_allclose(cube[0, 0], (numbers[0] - float(shift)) * 1e-4, atol=1e-6)


def test_linear_power_becomes_decibels(tmp_path):
    power = np.random.default_rng(0).uniform(0.01, 0.5, (2, 20, 20)).astype("float32")
    path = write_tif(tmp_path / "20190701.tif", power, descriptions=("VV", "VH"))
    cube = open_files(path, linear=True)
    assert cube.name == "backscatter"
    np.testing.assert_allclose(cube[0], 10 * np.log10(power), rtol=1e-4)


def test_floats_with_a_nodata_tag_lose_it(tmp_path):
    values = (scene() * 1e-4).astype("float32")
    values[:, 3, 4] = -9999
    write_tif(tmp_path / "20190701.tif", values, descriptions=("B2", "B3", "B8A"), nodata=-9999)
    cube = open_files(tmp_path)
    values[:, 3, 4] = np.nan
    np.testing.assert_array_equal(cube[0], values)


def test_bands_of_several_resolutions_take_the_finest(tmp_path):
    fine, coarse = scene(bands=1), scene(seed=1, bands=1, shape=(20, 25))
    stem = "T34TFR_20190701T092031"
    wide = Affine(20, 0, PLACE.c, 0, -20, PLACE.f)
    write_tif(tmp_path / f"R10m/{stem}_B04_10m.tif", fine)
    write_tif(tmp_path / f"R20m/{stem}_B04_20m.tif", coarse, transform=wide)
    write_tif(tmp_path / f"R20m/{stem}_B11_20m.tif", coarse, transform=wide)
    write_tif(tmp_path / f"R20m/{stem}_TCI_20m.tif", scene(bands=3, shape=(20, 25)), transform=wide)
    cube = open_files(tmp_path, resolution=10)
    assert cube.shape == (1, 2, *fine.shape[1:])
    np.testing.assert_allclose(cube[0, 0], fine[0] * 1e-4, rtol=1e-6)
    np.testing.assert_allclose(cube[0, 1], coarse[0].repeat(2, 0).repeat(2, 1) * 1e-4, rtol=1e-6)


def test_tiles_in_two_zones_are_mosaicked_per_day(tmp_path):
    numbers = np.full((1, 40, 50), 1000, "int16")
    write_tif(
        tmp_path / "T34TGR_20190701T092031_B04.tif",
        numbers,
        transform=Affine(100, 0, 734_000, 0, -100, 5_000_000),
    )
    east = Affine(100, 0, 265_000, 0, -100, 5_000_000)
    write_tif(
        tmp_path / "T35TLK_20190701T092031_B04.tif", numbers * 2, crs="EPSG:32635", transform=east
    )
    where = {"sensor": "sentinel-2", "resolution": 100, "crs": "EPSG:32634"}
    cube = open_files(tmp_path, **where).compute()
    values = {np.float32(number) * np.float32(1e-4) for number in (1000, 2000)}
    assert cube.sizes["time"] == 1
    assert set(np.unique(cube.values[np.isfinite(cube.values)])) == values
    # The later name lies on top where both are.
    path = tmp_path / "T35TLK_20190701T092031_B04.tif"
    alone = open_files(path, sensor="sentinel-2", like=cube, offset=0)
    assert np.isfinite(alone).any()
    assert (cube.values[np.isfinite(alone.values)] == max(values)).all()


def test_rotated_and_south_up_files_are_warped(tmp_path):
    numbers = scene(bands=1)
    upright = open_files(
        write_tif(tmp_path / "20190701_B04.tif", numbers), sensor="sentinel-2"
    ).compute()
    flipped = Affine(10, 0, PLACE.c, 0, 10, PLACE.f - 400)
    path = write_tif(tmp_path / "up/20190701_B04.tif", numbers[:, ::-1], transform=flipped)
    np.testing.assert_array_equal(open_files(path, sensor="sentinel-2", like=upright), upright)
    turned = Affine(0, 10, PLACE.c, -10, 0, PLACE.f)
    path = write_tif(
        tmp_path / "turned/20190701_B04.tif", numbers.transpose(0, 2, 1), transform=turned
    )
    np.testing.assert_array_equal(open_files(path, sensor="sentinel-2", like=upright), upright)


def test_the_solar_day_of_a_time_and_the_day_that_is_said(tmp_path):
    # At 178 W the sun is twelve hours behind UTC: 22:00 of the 2nd is 10:08 of the 2nd, 09:00 of the 3rd still the 2nd.
    numbers, zone = scene(bands=1), "EPSG:32601"
    for name in ("20190703T090000_B04", "20190705_B04"):
        write_tif(tmp_path / f"{name}.tif", numbers, crs=zone)
    days = open_files(tmp_path, sensor="sentinel-2").indexes["time"]
    assert [f"{day:%Y-%m-%d}" for day in days] == ["2019-07-02", "2019-07-05"]


def test_names_and_dates_can_be_given(tmp_path):
    paths = [
        write_tif(tmp_path / f"{name}.tif", scene(seed=i)) for i, name in enumerate(("one", "two"))
    ]
    options = {"sensor": "sentinel-2", "band_names": ["B2", None, "B4"]}
    by_list = open_files(paths, dates=["2019-08-01", "2019-07-01"], **options)
    assert list(by_list.band.values) == ["B2", "B4"]
    np.testing.assert_allclose(by_list[1, 1], scene(seed=0)[2] * 1e-4, rtol=1e-6)
    by_call = open_files(
        paths, dates={"one.tif": "2019-08-01", "two.tif": "2019-07-01"}.get, **options
    )
    by_map = open_files(paths, dates={"one.tif": "2019-08-01", "two.tif": "2019-07-01"}, **options)
    for other in (by_call, by_map):
        xr.testing.assert_equal(other.compute(), by_list.compute())


def test_a_pattern_finds_date_and_band(tmp_path):
    for i, code in enumerate(("red1", "ir2")):
        write_tif(tmp_path / f"x20190102-{code}-at20190701.tif", scene(seed=i, bands=1))
    pattern = r"-(?P<band>red|ir).*at(?P<date>\d{8})"
    with pytest.raises(ValueError, match="none called 'ir'"):
        open_files(tmp_path, pattern=pattern, sensor="sentinel-2")
    cube = open_files(tmp_path, pattern=pattern, sensor="sentinel-2", bands=["red"])
    assert [f"{cube.indexes['time'][0]:%Y%m%d}", *cube.band.values] == ["20190701", "B4"]


def test_dates_are_read_from_tags(tmp_path):
    write_tif(tmp_path / "scene_B04.tif", scene(bands=1), tags={"ACQUISITION_DATE": "2019-07-01"})
    cube = open_files(tmp_path, sensor="sentinel-2")
    assert cube.indexes["time"][0] == pd.Timestamp("2019-07-01")


def test_opening_many_files_reads_a_few_cells_of_each(tmp_path, reads, monkeypatch):
    monkeypatch.setattr("timo.sources.files.numbers._PATIENCE_S", 600)
    for day in pd.date_range("2015-01-01", periods=40):
        write_tif(
            tmp_path / f"{day:%Y%m%d}.tif", scene(shape=(8, 8)), descriptions=("B2", "B3", "B8A")
        )
    cube = open_files(tmp_path)
    assert cube.sizes["time"] == 40
    assert len(reads) == 40
    assert all(grid.width <= 64 and grid.height <= 64 for _, grid in reads)
    reads.clear()
    cube[20, :, :4, :4].compute()
    assert len(reads) == 1
    # Without patience one scene is looked at, and the rest is checked when it is computed.
    monkeypatch.setattr("timo.sources.files.numbers._PATIENCE_S", 0)
    reads.clear()
    open_files(tmp_path)
    assert len(reads) == 1


def test_only_the_chunks_that_are_asked_for_are_read(tmp_path, reads):
    path = write_tif(
        tmp_path / "20190701_B04.tif",
        scene(bands=1, shape=(300, 300)),
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    cube = open_files(path, sensor="sentinel-2", chunks=64)
    reads.clear()
    cube[0, :, 70:80, 70:80].compute()
    assert [target.shape for _, target in reads] == [(64, 64)]


def test_a_warp_reads_only_what_lies_under_the_chunk(tmp_path, monkeypatch):
    dataset = xr.Dataset(
        {"B4": (("time", "y", "x"), scene(bands=1, shape=(400, 400)))},
        coords={
            "time": [pd.Timestamp("2019-07-01")],
            "y": 5e6 - 5 - np.arange(400) * 10,
            "x": 5e5 + 5 + np.arange(400) * 10,
        },
    ).rio.write_crs(UTM)
    dataset.to_netcdf(tmp_path / "a.nc")
    seen = []
    original = reading.layers.ArrayLayer.read
    monkeypatch.setattr(
        reading.layers.ArrayLayer,
        "read",
        lambda layer, rows, columns: seen.append((rows, columns)) or original(layer, rows, columns),
    )
    cube = open_files(
        tmp_path / "a.nc", sensor="sentinel-2", resolution=10, crs="EPSG:3035", chunks=50
    )
    seen.clear()
    cube[0, :, 100:110, 100:110].compute()
    assert len(seen) == 1
    assert all(part.stop - part.start < 80 for part in seen[0])


def test_a_lazy_cube_can_be_pickled(any_files, truth):
    cube = pickle.loads(pickle.dumps(open_files(any_files)))  # noqa: S301 - our own
    xr.testing.assert_equal(cube.compute(), truth.drop_vars("scl"))


def test_a_changed_file_is_another_array(tmp_path):
    path = write_tif(tmp_path / "20190701_B04.tif", scene(bands=1))
    first = open_files(path, sensor="sentinel-2")
    again = open_files(path, sensor="sentinel-2")
    assert first.data.name == again.data.name
    write_tif(path, scene(seed=1, bands=1, shape=(40, 50)), tags={"more": "x" * 100})
    assert open_files(path, sensor="sentinel-2").data.name != first.data.name


def write_jp2(path, source):
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(source) as file:
        shape = {"width": file.width, "height": file.height, "count": 1, "dtype": "uint16"}
        lossless = {"quality": 100, "reversible": True}
        place = {"crs": file.crs, "transform": file.transform}
        with rasterio.open(path, "w", driver="JP2OpenJPEG", **shape, **place, **lossless) as copy:
            copy.write(file.read())
    return path


def test_a_product_as_esa_packs_it(tmp_path):
    source = write_tif(tmp_path / "a.tif", scene(bands=1).astype("uint16"))
    product = tmp_path / "S2B_MSIL2A_20190701T092031_N0212_R093_T34TFR_20190701T120000.SAFE"
    granule = product / "GRANULE/L2A_T34TFR_A012096_20190701T092031"
    write_jp2(granule / "IMG_DATA/R10m/T34TFR_20190701T092031_B04_10m.jp2", source)
    write_jp2(granule / "QI_DATA/MSK_DETFOO_B04.jp2", source)
    (product / "manifest.safe").write_text("<xml/>")
    cube = open_files(product)
    assert list(cube.band.values) == ["B4"]
    np.testing.assert_allclose(cube[0, 0], scene(bands=1)[0] * 1e-4, rtol=1e-6)


def test_bands_are_in_the_order_of_the_sensor(banded):
    assert list(open_files(banded).band.values) == list(BANDS)


def test_a_file_on_disk_asks_no_service(tmp_path, monkeypatch):
    """xarray would ask Earth Engine, through xee, whether a NetCDF file is one of its collections."""
    xee = pytest.importorskip("xee")
    asked = []
    backend = xee.EarthEngineBackendEntrypoint
    monkeypatch.setattr(backend, "guess_can_open", lambda *a: asked.append(a) or False)
    cube = open_cube("sample", start="2018-07", end="2018-07")
    cube.drop_vars("scl").to_dataset(name="cube").to_netcdf(tmp_path / "cube.nc")
    assert open_files(tmp_path / "cube.nc").sizes == cube.sizes
    assert not asked
