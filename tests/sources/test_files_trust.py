"""No wrong cube without a word: whose images, which numbers, which dates and places. Each remedy named is tried."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from affine import Affine
from written_files import PLACE, SHAPE, UTM, scene, write_tif

import timo
from timo.errors import TimoError
from timo.sources.files import open_files

# Zarr's format 3 has no final form yet for text, nor for what is consolidated.
pytestmark = pytest.mark.filterwarnings(
    "ignore::zarr.errors.ZarrUserWarning", "ignore:The data type"
)

N3 = ("B2", "B3", "B4")
S2 = {"sensor": "sentinel-2"}
L8 = "LC08_L2SP_184029_20180701_20200831_02_T1_"
L7 = "LE07_L2SP_184029_20180709_20200831_02_T1_"


def complaint(path, **options):
    """The message of the error that opening or computing raises, on one line."""
    with pytest.raises(TimoError) as caught:
        open_files(path, **options).compute()
    return re.sub(r"\s+", " ", str(caught.value))


def reflectance(low=0.02, high=0.4, bands=3, seed=0):
    values = np.random.default_rng(seed).uniform(low, high, (bands, *SHAPE))
    return values.astype("float32")


# --- whose images


def landsat(folder, name, bands, seed=0):
    numbers = scene(seed, bands=len(bands)).astype("uint16") + np.uint16(8000)
    for band, values in zip(bands, numbers, strict=True):
        write_tif(folder / f"{name}{band}.TIF", values, nodata=0)
    return numbers * 2.75e-5 - 0.2


def test_the_bands_of_landsat_7_are_not_those_of_landsat_8(tmp_path):
    eight = landsat(tmp_path, L8, ("SR_B3", "SR_B4"))
    seven = landsat(tmp_path, L7, ("SR_B3", "SR_B4"), seed=1)
    message = complaint(tmp_path, bands=["red"])
    assert "Landsat 8 OLI Collection 2 Level-2" in message
    assert "Landsat 7 ETM+ Collection 2 Level-2" in message
    assert "several products" in message
    narrow = re.search(r'path="(.*)"', message)[1]
    assert open_files(narrow).attrs["sensor"] == "landsat-8-9"
    for name, values, sensor in ((L8, eight[1], "landsat-8-9"), (L7, seven[0], "landsat-4-7")):
        cube = open_files(f"{tmp_path}/{name}*", bands=["red"])
        assert cube.attrs["sensor"] == sensor
        np.testing.assert_allclose(cube[0, 0], values, atol=1e-6)


def test_backscatter_of_two_levels_is_not_mixed(tmp_path):
    names = (
        "S1A_IW_GRDH_1SDV_20180701T043000_20180701T043025_022600_0272D5_ABCD_vv",
        "S1A_IW_20180713T043000_DVP_RTC10_G_gdned_1234_VV",
    )
    for name in names:
        write_tif(tmp_path / f"{name}.tif", -20 * reflectance(bands=1) - 5)
    for options in ({}, {"sensor": "sentinel-1"}):
        message = complaint(tmp_path, **options)
        assert "Sentinel-1 RTC backscatter (gamma nought" in message
        assert "Sentinel-1 GRD backscatter (sigma nought)" in message
        narrow = re.search(r'path="(.*)"', message)[1]
        assert open_files(narrow, **options).sizes["time"] == 1


@pytest.mark.parametrize(
    ("name", "sensor", "product"),
    [
        ("LC08_L1TP_184029_20180701_20200831_02_T1_B4", "landsat-8-9-l1", "Level-1"),
        (
            "S2A_MSIL1C_20180701T092031_N0206_R093_T34TFR_20180701T1120/x_B04",
            "sentinel-2-l1c",
            "1C",
        ),
    ],
)
def test_level_1_is_opened_only_when_asked_for(tmp_path, name, sensor, product):
    path = write_tif(
        tmp_path / f"{name}.tif",
        scene(bands=1).astype("uint16") + np.uint16(5000 * ("landsat" in sensor)),
    )
    message = complaint(path)
    assert product in message
    assert f'sensor="{sensor}"' in message
    factors = {"scale": 2e-5, "offset": -0.1} if "landsat" in sensor else {}
    assert open_files(path, sensor=sensor, **factors).attrs["sensor"] == sensor
    level_2 = {"landsat-8-9-l1": "landsat-8-9"}.get(sensor, "sentinel-2")
    message = complaint(path, sensor=level_2)
    assert f"and not of sensor='{level_2}'" in message
    assert f'sensor="{sensor}"' in message


def test_the_level_that_no_name_says_is_asked_for(tmp_path):
    path = write_tif(tmp_path / "T34TFR_20180701T092031_B04.tif", scene(bands=1))
    message = complaint(path)
    assert "level not said" in message
    assert 'sensor="sentinel-2"; known: sentinel-2, sentinel-2-l1c' in message
    assert open_files(path, **S2).attrs["sensor"] == "sentinel-2"
    write_tif(tmp_path / "T34TFR_20180701T092031_SCL.tif", np.full((1, *SHAPE), 4, "uint8"))
    assert open_files(tmp_path).attrs["sensor"] == "sentinel-2"


@pytest.mark.parametrize(
    ("names", "sensor"),
    [
        (("HLS.L30.T34TFR.2018182T092031.v2.0.B05.tif",), "hls-l30"),
        (("HLS.S30.T34TFR.2018182T092031.v2.0.B8A.tif",), "hls-s30"),
        (("LT05_L2SP_184029_20050701_20200831_02_T1_SR_B4.TIF",), "landsat-4-7"),
        (("LC08_L1TP_184029_20180701_20180716_01_T1_sr_band5.tif",), "landsat-8-9-c1"),
        (("20180701_092031_1005_3B_AnalyticMS_SR.tif",), "planetscope-4"),
        (("20180701_LEVEL2_SEN2A_BOA_NIR.tif",), "force"),
    ],
)
def test_products_are_known_by_their_names(tmp_path, names, sensor):
    count = 4 if sensor.startswith("planet") else 1
    for name in names:
        numbers = scene(bands=count).astype("uint16") + np.uint16(9000 * (sensor == "landsat-4-7"))
        write_tif(tmp_path / name, numbers)
    cube = open_files(tmp_path)
    assert cube.attrs["sensor"] == sensor
    factors = (2.75e-5, -0.2) if sensor == "landsat-4-7" else (1e-4, 0)
    np.testing.assert_allclose(cube[0], numbers * factors[0] + factors[1], atol=1e-6)


def test_names_that_say_nothing_leave_the_sensor_to_the_user(tmp_path):
    path = write_tif(tmp_path / "20180701.tif", scene(), descriptions=("blue", "green", "red"))
    assert "Which sensor?" in complaint(path)
    for sensor in ("sentinel-2", "landsat-8-9-c1", "planetscope-4"):
        assert open_files(path, sensor=sensor).attrs["sensor"] == sensor


# --- which numbers


@pytest.mark.parametrize("odd", [0, 5, 7, 11])
def test_one_date_on_another_scale_is_refused_by_name(tmp_path, odd):
    for i in range(12):
        values = reflectance(seed=i) * (1e4 if i == odd else 1)
        write_tif(tmp_path / f"S2_201807{i + 1:02d}.tif", values, descriptions=N3)
    message = complaint(tmp_path, **S2)
    assert f"S2_201807{odd + 1:02d}.tif" in message
    assert "divide by 10,000" in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (scene().astype("uint8"), "8 bits"),
        (reflectance() * 1e4, "divide by 10,000"),
        (reflectance() - np.float32(0.5), "negative"),
    ],
    ids=["picture", "numbers", "negative"],
)
def test_values_that_cannot_be_are_refused(tmp_path, values, said):
    path = write_tif(tmp_path / "20180701.tif", values, descriptions=N3)
    assert said in complaint(path, **S2)


def test_the_wrong_collection_is_refused_and_the_right_one_opens(tmp_path):
    numbers = scene().astype("int16")
    path = write_tif(tmp_path / "x_20180701.tif", numbers, descriptions=("SR_B2", "SR_B3", "SR_B4"))
    message = complaint(path, sensor="landsat-8-9")
    assert "scale=2.75e-05, offset=-0.2" in message
    right = open_files(path, sensor="landsat-8-9-c1")
    np.testing.assert_allclose(right[0], numbers * 1e-4, rtol=1e-5)


def test_cells_that_no_tag_marks_are_refused_and_the_remedy_works(tmp_path):
    numbers = scene()
    numbers[:, :5] = -9999
    path = write_tif(tmp_path / "S2_20180701.tif", numbers, descriptions=N3)
    assert "Give nodata=-9999." in complaint(path, **S2)
    cube = open_files(path, **S2, nodata=-9999)
    assert np.isnan(cube[0, :, :5]).all()
    assert np.isfinite(cube[0, :, 5:]).all()
    # Beside the product's own, which stays one.
    numbers[:, :, 9] = 0
    path = write_tif(tmp_path / "S2_20180701.tif", numbers, descriptions=N3, nodata=0)
    assert np.isnan(open_files(path, **S2, nodata=-9999)[0, 0]).sum() == 5 * 50 + 35


BASELINE = "S2A_MSIL2A_20220301T092031_N0400_R093_T34TFR_20220301T120000.tif"


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_scale_does_not_take_the_offset_of_the_baseline_away(tmp_path, dtype):
    numbers = scene().astype(dtype) + np.array(1000, dtype)
    path = write_tif(tmp_path / BASELINE, numbers, descriptions=N3)
    expected = (numbers - 1000.0) * 1e-4
    np.testing.assert_allclose(open_files(path, scale=1e-4)[0], expected, atol=1e-6)
    np.testing.assert_allclose(open_files(path, scale=2e-4)[0], 2 * expected, atol=1e-6)
    own = open_files(path, scale=1e-4, offset=-0.05)
    np.testing.assert_allclose(own[0], numbers * 1e-4 - 0.05, atol=1e-6)
    if dtype == "uint16":
        tagged = write_tif(tmp_path / "b" / BASELINE, numbers, descriptions=N3, scale=1e-4)
        for file in (path, tagged):
            np.testing.assert_allclose(open_files(file)[0], expected, atol=1e-6)


def test_a_scale_does_not_take_the_offset_of_landsat_away(tmp_path):
    expected = landsat(tmp_path, L8, ("SR_B4",))
    np.testing.assert_allclose(open_files(tmp_path, scale=2.75e-5)[0], expected, atol=1e-6)
    with pytest.warns(UserWarning, match=r"offset of -0.2 is not applied either: give offset=-0.2"):
        other = open_files(tmp_path, scale=2e-5)
    np.testing.assert_allclose(other[0], (expected + 0.2) / 2.75e-5 * 2e-5, atol=1e-6)
    both = open_files(tmp_path, scale=2e-5, offset=-0.2)
    np.testing.assert_allclose(both[0], other[0] - 0.2, atol=1e-6)


@pytest.mark.parametrize("change", [0.5, 12], ids=["between classes", "beyond them"])
def test_a_quality_layer_that_was_interpolated_is_refused(tmp_path, change):
    write_tif(tmp_path / "20180701_B04.tif", scene(bands=1))
    quality = np.full((1, *SHAPE), 4, "float32")
    quality[0, 20, 20] = change
    write_tif(tmp_path / "20180701_SCL.tif", quality)
    message = complaint(tmp_path)
    assert "it was interpolated" in message
    assert "nearest neighbour" in message
    cube = open_files(tmp_path, masked_classes=())
    np.testing.assert_allclose(cube[0, 0], scene(bands=1)[0] * 1e-4, rtol=1e-6)


def test_values_under_clouds_are_not_judged(tmp_path):
    for seed, band in enumerate(("B04", "B08")):
        values = reflectance(bands=1, seed=seed)
        values[:, :, 10:] -= 0.5
        write_tif(tmp_path / f"20180701_{band}.tif", values)
    assert "negative" in complaint(tmp_path, **S2)
    quality = np.full((1, *SHAPE), 4, "uint8")
    quality[:, :, 10:] = 9
    write_tif(tmp_path / "20180701_SCL.tif", quality)
    cube = open_files(tmp_path, **S2, buffer_m=0).compute()
    assert np.isfinite(cube).sum() == 2 * 40 * 10


def array(**variables):
    """A dataset on the grid of the rasters, dated 2018-07-01."""
    y, x = PLACE.f - 5 - 10 * np.arange(SHAPE[0]), PLACE.c + 5 + 10 * np.arange(SHAPE[1])
    coords = {"time": pd.to_datetime(["2018-07-01"]), "y": y, "x": x}
    held = {n: (("time", "y", "x"), v[None], dict(a)) for n, (v, a) in variables.items()}
    return xr.Dataset(held, coords=coords).rio.write_crs(UTM)


def store(dataset, folder, kind="nc", **options):
    path = folder / f"a.{kind}"
    (dataset.to_netcdf if kind == "nc" else dataset.to_zarr)(path, **options)
    return path


@pytest.mark.parametrize("kind", ["nc", "zarr"])
@pytest.mark.parametrize(
    "attrs",
    [
        {"missing_value": np.int16(-99)},
        {"missing_value": np.array([-98, -99], "int16")},
        {"valid_range": np.array([0, 10000], "int16")},
        {"valid_min": np.int16(0)},
        {"nodata": -99},
        {"_Nodata": np.int16(-99)},
        {"nodata": "-99"},
        {"_FillValue": np.int16(-99), "missing_value": np.int16(-98)},
        {"missing_value": 40000.0, "nodata": -99, "valid_range": np.array([-50, 9000], "int16")},
        {"scale_factor": 1e-4, "valid_range": np.array([0.0, 1.0]), "add_offset": 0.0},
    ],
    ids="+".join,
)
def test_attributes_that_say_what_is_not_valid(tmp_path, attrs, kind):
    numbers = scene(bands=1)[0]
    numbers[:, :4] = -99
    path = store(array(B4=(numbers, attrs)), tmp_path, kind)
    cube = open_files(path, **S2)
    assert np.isnan(cube[0, 0, :, :4]).all()
    np.testing.assert_allclose(cube[0, 0, :, 4:], numbers[:, 4:] * 1e-4, rtol=1e-6)
    warped = open_files(path, **S2, resolution=5)
    assert np.isnan(warped[0, 0, :, :8]).all()
    assert np.isfinite(warped[0, 0, :, 8:]).all()


@pytest.mark.parametrize("fill", [-9999, np.nan, 1e30, "none"])
def test_a_nodata_that_the_numbers_cannot_hold_is_ignored(tmp_path, fill):
    numbers = scene(bands=1)[0].astype("uint16")
    path = store(array(B4=(numbers, {"nodata": fill, "missing_value": -1.5})), tmp_path)
    np.testing.assert_allclose(open_files(path, **S2)[0, 0], numbers * 1e-4, rtol=1e-6)


def test_signed_numbers_that_stand_for_unsigned_ones(tmp_path):
    numbers = np.random.default_rng(0).integers(9000, 43000, SHAPE).astype("uint16")
    numbers[3, 4] = 65535
    attrs = {"_Unsigned": "true", "missing_value": np.int16(-1)}
    path = store(array(SR_B4=(numbers.view("int16"), attrs)), tmp_path, format="NETCDF3_CLASSIC")
    cube = open_files(path, sensor="landsat-8-9")
    assert np.isnan(cube[0, 0, 3, 4])
    expected = np.where(numbers == 65535, np.nan, numbers * 2.75e-5 - 0.2)
    np.testing.assert_allclose(cube[0, 0], expected, atol=1e-6)


# --- which dates


def test_a_scalar_time_stands_over_the_name(tmp_path):
    dataset = array(B4=(scene(bands=1)[0], {})).isel(time=0)
    path = tmp_path / "scene_20240101.nc"
    dataset.to_netcdf(path)
    with pytest.warns(
        UserWarning, match="has 2024-01-01 in its name, and states 2018-07-01 itself"
    ):
        cube = open_files(path, **S2)
    assert cube.indexes["time"][0] == pd.Timestamp("2018-07-01")
    assert open_files(path, **S2, dates=["2024-01-01"]).indexes["time"][0].year == 2024


def test_a_tag_stands_over_the_name_and_the_date_of_writing_is_none(tmp_path):
    tags = {"ACQUISITION_DATE": "2018-07-01", "TIFFTAG_DATETIME": "2024:01:01 00:00:00"}
    path = write_tif(tmp_path / "copy_20240101_B04.tif", scene(bands=1), tags=tags)
    with pytest.warns(UserWarning, match="is taken"):
        assert open_files(path, **S2).indexes["time"][0] == pd.Timestamp("2018-07-01")
    path = write_tif(
        tmp_path / "b/B04.tif", scene(bands=1), tags={"TIFFTAG_DATETIME": "2018:07:01 09:00:00"}
    )
    assert "has no date in its name or its tags" in complaint(path, **S2)


def test_time_in_other_calendars_and_with_bounds(tmp_path):
    dataset = array(B4=(scene(bands=1)[0], {}))
    for calendar, day in (("noleap", 181), ("360_day", 180)):
        attrs = {"units": "days since 2018-01-01", "calendar": calendar}
        told = dataset.assign_coords(time=("time", [day], attrs))
        path = store(told, tmp_path)
        assert open_files(path, **S2).indexes["time"][0] == pd.Timestamp("2018-07-01")
        path.unlink()
    attrs = {"units": "days since 2018-01-01", "calendar": "360_day"}
    path = store(dataset.assign_coords(time=("time", [59], attrs)), tmp_path)
    assert "2018-02-30 of the calendar '360_day' is no day of ours" in complaint(path, **S2)
    path.unlink()
    attrs = {"units": "days since 2018-01-01", "bounds": "time_bnds"}
    bounded = dataset.assign_coords(time=("time", [196.0], attrs))
    bounded["time_bnds"] = (("time", "bnds"), [[181.0, 212.0]])
    assert open_files(store(bounded, tmp_path), **S2).indexes["time"][0] == pd.Timestamp(
        "2018-07-01"
    )


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("201807", r"_(?P<date>\d{6})", "2018-07-01"),
        ("2018", r"_(?P<date>\d{4})", "2018-01-01"),
        ("2018182", r"_(?P<date>\d{7})", "2018-07-01"),
        ("180701", r"_(?P<date>\d{6})", None),
        ("01072018", r"_(?P<date>\d{8})", None),
    ],
)
def test_dates_that_a_pattern_finds(tmp_path, text, pattern, expected):
    path = write_tif(tmp_path / f"S2_{text}.tif", scene(), descriptions=N3)
    if expected is None:
        assert f"pattern gives '{text}'" in complaint(path, **S2, pattern=pattern)
    else:
        cube = open_files(path, **S2, pattern=pattern)
        assert cube.indexes["time"][0] == pd.Timestamp(expected)


# --- which place


def test_coordinates_in_kilometres(tmp_path):
    numbers = scene(bands=1)[0]
    dataset = array(B4=(numbers, {}))
    kilometres = dataset.assign_coords(x=dataset.x / 1000, y=dataset.y / 1000)
    path = store(kilometres, tmp_path)
    message = complaint(path, **S2)
    assert "seem to be kilometres" in message
    assert "metre" in message
    path.unlink()
    for dim in ("x", "y"):
        kilometres[dim].attrs["units"] = "km"
    cube = open_files(store(kilometres, tmp_path), **S2)
    np.testing.assert_allclose(cube.x, dataset.x, atol=1e-6)
    np.testing.assert_allclose(cube.y, dataset.y, atol=1e-6)
    assert cube.rio.crs.to_epsg() == 32634
    for dim in ("x", "y"):
        dataset[dim].attrs["units"] = "km"
    (tmp_path / "b").mkdir()
    assert "seem to be another unit" in complaint(store(dataset, tmp_path / "b"), **S2)


@pytest.mark.parametrize("units", [None, "degrees_east", "m", "radian"])
def test_units_that_are_not_those_of_the_crs_are_refused(tmp_path, units):
    dataset = array(B4=(scene(bands=1)[0], {})).drop_vars("spatial_ref")
    dataset["B4"].attrs.pop("grid_mapping", None)
    dataset["B4"].encoding.clear()
    dataset = dataset.rename(x="lon", y="lat")
    for dim in ("lon", "lat"):
        dataset[dim].attrs = {"units": units} if units else {}
    message = complaint(store(dataset, tmp_path), **S2)
    assert "degree" in message
    assert {"m": "'m'", "radian": "'radian'"}.get(units, "seem to be metres") in message


@pytest.mark.parametrize(
    ("dims", "flip"), list(itertools.product([("y", "x"), ("x", "y")], [1, -1]))
)
def test_the_order_of_axes_and_single_precision_change_nothing(tmp_path, dims, flip):
    numbers = scene(bands=1)[0]
    dataset = array(B4=(numbers, {}))
    rounded = dataset.assign_coords(x=dataset.x.astype("float32"), y=dataset.y.astype("float32"))
    rounded = rounded.isel(y=slice(None, None, flip), x=slice(None, None, flip))
    cube = open_files(store(rounded.transpose("time", *dims), tmp_path), **S2)
    np.testing.assert_allclose(cube[0, 0], numbers * 1e-4, rtol=1e-6)
    np.testing.assert_array_equal(cube.x, dataset.x)
    np.testing.assert_array_equal(cube.y, dataset.y)


@pytest.mark.parametrize("left", [179.8, -180.2])
@pytest.mark.parametrize("where", [{"resolution": 1000}, {"crs": 4326, "resolution": 0.01}])
def test_files_across_180_degrees(tmp_path, left, where):
    numbers = np.arange(1000, 2600).reshape(1, 40, 40).astype("int16")
    turned = Affine(0.01, 0, left, 0, -0.01, -16)
    path = write_tif(tmp_path / "20180701_B04.tif", numbers, crs="EPSG:4326", transform=turned)
    cube = open_files(path, aoi=(179.9, -16.3, -179.9, -16.1), offset=0, **S2, **where)
    assert np.isfinite(cube).all()
    if "crs" in where:
        np.testing.assert_allclose(cube[0, 0], numbers[0, 10:30, 10:30] * 1e-4, rtol=1e-6)
    whole = open_files(path, offset=0, **S2)
    assert np.isfinite(whole).all()
    assert whole.shape == (1, 1, 40, 40)


def test_longitudes_from_0_to_360_are_brought_home(tmp_path):
    values = np.random.default_rng(0).uniform(0.05, 0.4, (1, 10, 12)).astype("float32")
    coords = {
        "time": pd.to_datetime(["2018-07-01"]),
        "lat": 45 - np.arange(10) * 0.01,
        "lon": 200 + np.arange(12) * 0.01,
    }
    dataset = xr.Dataset({"B4": (("time", "lat", "lon"), values)}, coords=coords)
    cube = open_files(store(dataset, tmp_path), **S2)
    np.testing.assert_allclose(cube.x, coords["lon"] - 360, atol=1e-9)
    np.testing.assert_array_equal(cube[0, 0], values[0])
    part = open_files(
        tmp_path / "a.nc", **S2, aoi=(-159.96, 44.94, -159.94, 44.96), crs=4326, resolution=0.01
    )
    assert np.isfinite(part).all()


@pytest.mark.parametrize("turn", [1e-7, 0.3])
def test_turned_grids_are_right_or_refused(tmp_path, turn):
    # Six digits of a rotation that is not there, as some programs write it, and one that is.
    transform = Affine(10, turn, PLACE.c, -turn, -10, PLACE.f)
    path = write_tif(tmp_path / "20180701_B04.tif", scene(bands=1), transform=transform)
    if turn < 1e-6:
        np.testing.assert_allclose(
            open_files(path, **S2)[0, 0], scene(bands=1)[0] * 1e-4, rtol=1e-6
        )
    else:
        message = complaint(path, **S2)
        assert "which are turned" in message
        assert open_files(path, **S2, resolution=10, crs="EPSG:32634").sizes["time"] == 1


def test_a_sensor_of_ones_own_opens_from_files(tmp_path):
    own = timo.sensors.Sensor(
        "test-formosat",
        "Formosat-2 surface reflectance",
        tuple(
            timo.sensors.Band(n, c, w, 8) for n, c, w in (("F1", "blue", 0.48), ("F3", "red", 0.66))
        ),
        1e-3,
    )
    timo.sensors.register_sensor(own)
    numbers = (scene(bands=2) // 10).astype("uint16")
    path = write_tif(tmp_path / "FS2_20180701.tif", numbers, descriptions=("blue", "red"))
    cube = open_files(path, sensor="test-formosat")
    np.testing.assert_allclose(cube[0], numbers * 1e-3, rtol=1e-5)
    assert list(cube.band.values) == ["F1", "F3"]


def test_maps_of_classes_are_named_as_what_they_are(tmp_path):
    codes = np.random.default_rng(0).choice([0, 11, 13, 99], SHAPE).astype("uint16")
    path = store(array(LC=(codes, {})).isel(time=0, drop=True), tmp_path)
    message = complaint(path)
    assert "LC in" in message
    assert "4 different whole numbers (0, 11, 13, 99): a map of classes" in message


def test_rasters_in_another_unit_than_their_crs_are_refused(tmp_path):
    kilometres = Affine(0.01, 0, 500, 0, -0.01, 5000)
    path = write_tif(tmp_path / "20180701_B04.tif", scene(bands=1), transform=kilometres)
    assert "seem to be kilometres" in complaint(path, **S2)
    path = write_tif(tmp_path / "20180711_B04.tif", scene(bands=1), crs="EPSG:4326")
    assert "seem to be metres, and the unit of its CRS 'WGS 84' is the degree" in complaint(
        path, **S2
    )


def test_planetscope_with_its_usable_data_mask(tmp_path):
    name = "20180701_092031_1005_3B_"
    numbers = scene(bands=4).astype("uint16")
    write_tif(tmp_path / f"{name}AnalyticMS_SR.tif", numbers)
    usable = np.zeros((8, *SHAPE), "uint8")
    usable[0] = 1
    usable[0, 3, 4], usable[5, 3, 4] = 0, 1
    write_tif(tmp_path / f"{name}udm2.tif", usable)
    cube = open_files(tmp_path, buffer_m=0).compute()
    assert cube.attrs["sensor"] == "planetscope-4"
    assert list(cube.band.values) == ["blue", "green", "red", "nir"]
    assert np.isnan(cube[0, :, 3, 4]).all()
    assert np.isnan(cube).sum() == 4
    np.testing.assert_allclose(cube[0, :, 9:], numbers[:, 9:] * 1e-4, rtol=1e-6)


@pytest.mark.parametrize("kind", ["tif", "nc", "zarr"])
def test_an_index_of_a_sensors_bands_comes_back_without_the_sensor(tmp_path, kind):
    cube = timo.open_cube("sample", start="2018-07", end="2018-07")
    ndvi = timo.cube.ndvi(cube).isel(time=0).compute()
    ndvi = ndvi.drop_vars("scl", errors="ignore").assign_attrs(sensor="sentinel-2")
    back = open_files(timo.export(ndvi.rename("greenness"), tmp_path / f"a.{kind}"))
    assert "sensor" not in back.attrs
    assert list(back.band.values) == ["greenness"]
    np.testing.assert_array_equal(back[0, 0], ndvi)
