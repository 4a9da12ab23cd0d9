"""What a message about files says to do is done, and works."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from rasterio.enums import ColorInterp
from written_files import PLACE, SHAPE, UTM, scene, write_tif

import timo
from timo.errors import TimoError
from timo.sources.files import open_files

N3 = ("B2", "B3", "B4")
S2 = {"sensor": "sentinel-2"}


def complaint(path, **options):
    """The message of the error that opening or computing raises, on one line."""
    with pytest.raises(TimoError) as caught:
        open_files(path, **options).compute()
    return re.sub(r"\s+", " ", str(caught.value))


def silent(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return open_files(path, **options).compute()


# --- the offset of the new baselines


def test_an_offset_that_no_name_states_is_warned_of(tmp_path):
    numbers = scene().astype("uint16")
    for day in ("20220701", "20220711"):
        write_tif(tmp_path / f"S2_{day}.tif", numbers + np.uint16(1000), descriptions=N3)
    with pytest.warns(
        UserWarning, match=r"S2_20220701.tif \.\.\. is darker than 0.10.* give offset=-0.1;"
    ):
        shifted = open_files(tmp_path, **S2)
    mended = silent(tmp_path, **S2, offset=-0.1)
    np.testing.assert_allclose(mended[0], numbers * 1e-4, atol=1e-6)
    xr.testing.assert_equal(silent(tmp_path, **S2, offset=0), shifted.compute())
    # Red-edge and infrared light from plants is as bright as that.
    write_tif(
        tmp_path / "b/S2_20180701.tif", numbers + np.uint16(1000), descriptions=("B6", "B7", "B8")
    )
    silent(tmp_path / "b", **S2)
    # And blue and green light from the air, at the top of it.
    shifted = scene(bands=2).astype("uint16") + np.uint16(1000)
    path = write_tif(tmp_path / "S2_L1C_20180701.tif", shifted, descriptions=("B2", "B3"))
    silent(path, sensor="sentinel-2-l1c")


def test_of_a_series_across_the_change_only_the_later_part_is_named(tmp_path):
    for day, shift in (("20210701", 0), ("20220701", 1000), ("20220711", 1000)):
        numbers = scene().astype("uint16") + np.uint16(shift)
        write_tif(tmp_path / f"S2_{day}.tif", numbers, descriptions=N3)
    with pytest.warns(
        UserWarning,
        match=r"S2_20220701.tif \.\.\. is darker .*in a call of its own with start=\"2022-01-25\"",
    ):
        open_files(tmp_path, **S2)
    mended = silent(tmp_path, **S2, offset=-0.1, start="2022-01-25")
    np.testing.assert_allclose(mended[1], scene() * 1e-4, atol=1e-6)


# --- numbers


@pytest.mark.parametrize("options", [{}, {"resolution": 20}, {"resolution": 5}], ids=str)
def test_numbers_of_8_bits_are_no_reflectance(tmp_path, options):
    numbers = (scene() % 150 + 20).astype("uint8")
    path = write_tif(tmp_path / "20180701.tif", numbers, descriptions=N3)
    message = complaint(path, **S2, **options)
    assert "8 bits (uint8)" in message
    assert "scale=0.004" in message
    cube = open_files(path, **S2, scale=0.004)
    np.testing.assert_allclose(cube[0], numbers * 0.004, rtol=1e-6)
    bands = tuple(
        timo.sensors.Band(n, "", w, 10) for n, w in zip(N3, (0.49, 0.56, 0.66), strict=True)
    )
    own = timo.sensors.Sensor("test-bytes", "bytes", bands, 0.004)
    np.testing.assert_allclose(open_files(path, sensor=own)[0], numbers * 0.004, rtol=1e-6)


def test_whole_decibels_fit_into_8_bits(tmp_path):
    decibels = (scene(bands=1) % 12 - 18).astype("int8")
    write_array(tmp_path / "a.nc", VV=(decibels[0], {}))
    np.testing.assert_array_equal(open_files(tmp_path / "a.nc", sensor="sentinel-1")[0], decibels)


@pytest.mark.parametrize(
    ("fill", "dtype", "said"),
    [
        (0, "int16", "0"),
        (65535, "uint16", "65535"),
        (-9999, "int16", "-9999"),
        (30000, "int16", "30000"),
        (0, "float32", "0"),
        (-9999, "float32", "-9999"),
        (-3.4028234663852886e38, "float32", "-3.4028234663852886e+38"),
        (1e20, "float32", "1.0000000200408773e+20"),
    ],
)
def test_the_nodata_that_is_named_is_the_right_one(tmp_path, fill, dtype, said):
    factor = 1e-4 if dtype == "float32" else 1
    numbers = (scene() * factor).astype(dtype)
    numbers[:, :12] = fill
    # The sensor's own is stated, and is another.
    path = write_tif(tmp_path / "S2_20180701.tif", numbers, descriptions=N3, nodata=4321)
    # Also where the cells are averages, in which no number of the file stands as it is.
    for where in ({}, {"resolution": 30}, {"crs": "EPSG:3857", "resolution": 15}):
        assert complaint(path, **S2, **where).endswith(f"Give nodata={said}.")
    cube = silent(path, **S2, nodata=float(said))
    assert np.isnan(cube[0, :, :12]).all()
    np.testing.assert_allclose(cube[0, :, 12:], numbers[:, 12:] * (1e-4 / factor), rtol=1e-5)


def test_infinite_numbers_are_no_data_on_every_grid(tmp_path):
    values = (scene() * 1e-4).astype("float32")
    values[:, 5] = np.inf
    path = write_tif(tmp_path / "S2_20180701.tif", values, descriptions=N3)
    assert np.isnan(open_files(path, **S2)).sum() == 3 * 50
    assert np.isfinite(open_files(path, **S2, resolution=20)).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [("nodatavals", -777.0), ("no_data", np.int16(-777)), ("nodatavals", "(-777.0,)")],
)
def test_nodata_as_other_programs_write_it(tmp_path, key, value):
    numbers = scene(bands=1)[0]
    numbers[:, :4] = -777
    write_array(tmp_path / "a.nc", B4=(numbers, {key: value}))
    cube = open_files(tmp_path / "a.nc", **S2)
    assert np.isnan(cube[0, 0, :, :4]).all()
    assert np.isfinite(cube[0, 0, :, 4:]).all()


def test_a_stale_nodata_of_another_type_takes_no_number_away(tmp_path):
    numbers = np.random.default_rng(0).integers(0, 256, SHAPE).astype("uint8")
    write_array(tmp_path / "a.nc", B4=(numbers, {"nodata": -1}))
    cube = open_files(tmp_path / "a.nc", **S2, scale=0.004)
    assert np.isfinite(cube.values[0, 0][numbers == 255]).all()


# --- whose images


def write_array(path, attrs=None, **variables):
    y, x = PLACE.f - 5 - 10 * np.arange(SHAPE[0]), PLACE.c + 5 + 10 * np.arange(SHAPE[1])
    coords = {"time": pd.to_datetime(["2018-07-01"]), "y": y, "x": x}
    held = {n: (("time", "y", "x"), v[None], dict(a)) for n, (v, a) in variables.items()}
    xr.Dataset(held, coords=coords, attrs=attrs).rio.write_crs(UTM).to_netcdf(path)
    return path


def landsat(bands=1):
    return scene(bands=bands).astype("uint16") + np.uint16(8000)


@pytest.mark.parametrize("prefix", ["{}", "{}_"], ids=["toBands", "merged"])
def test_a_stack_of_two_satellites_is_opened_one_by_one(tmp_path, prefix):
    ids = ("LC08_184029_20180701", "LE07_184029_20180717")
    merged = [f"{i}_" if prefix == "{}_" else "" for i in (1, 2)]
    names = tuple(
        f"{m}{i}_{b}" for m, i in zip(merged, ids, strict=True) for b in ("SR_B3", "SR_B4")
    )
    numbers = landsat(4)
    path = write_tif(tmp_path / "stack.tif", numbers, descriptions=names)
    for options in ({"sensor": "landsat-8-9"}, {"sensor": "landsat-4-7"}):
        message = complaint(path, **options)
        assert f"{names[0]} in stack.tif is Landsat 8" in message
        assert f"{names[2]} in stack.tif is Landsat 7" in message
        assert "band_names=[...], with None for each band of the other" in message
    assert "Which sensor?" in complaint(path)
    eight = open_files(path, sensor="landsat-8-9", band_names=["SR_B3", "SR_B4", None, None])
    seven = open_files(path, sensor="landsat-4-7", band_names=[None, None, "SR_B3", "SR_B4"])
    np.testing.assert_allclose(eight[0], numbers[:2] * 2.75e-5 - 0.2, atol=1e-6)
    np.testing.assert_allclose(seven[0], numbers[2:] * 2.75e-5 - 0.2, atol=1e-6)
    assert f"{seven.indexes['time'][0]:%Y-%m-%d}" == "2018-07-17"


def test_tags_and_attributes_name_the_satellite(tmp_path):
    tags = {"system:index": "LE07_184029_20180701"}
    path = write_tif(tmp_path / "x_20180701.tif", landsat(), descriptions=("SR_B3",), tags=tags)
    assert "is Landsat 7" in complaint(path, sensor="landsat-8-9")
    assert open_files(path, sensor="landsat-4-7").sizes["band"] == 1
    path = write_array(tmp_path / "a.nc", SR_B3=(landsat()[0], {"platform": "LANDSAT_7"}))
    assert "SR_B3 in a.nc is Landsat 7" in complaint(path, sensor="landsat-8-9")
    assert open_files(path, sensor="landsat-4-7").sizes["band"] == 1


@pytest.mark.parametrize(
    ("satellite", "names", "expected"),
    [
        ("LC08", ("SR_B2", "SR_B4"), "landsat-8-9"),
        ("LE07", ("SR_B1", "SR_B3"), "landsat-4-7"),
        ("LC08", ("B2", "B4"), None),
    ],
)
def test_names_that_only_one_product_has_say_which(tmp_path, satellite, names, expected):
    path = write_tif(tmp_path / f"{satellite}_184029_20180701.tif", landsat(2), descriptions=names)
    if expected:
        assert open_files(path).attrs["sensor"] == expected
        return
    message = complaint(path)
    known = re.search(r"known: ([^;]*);", message)[1].split(", ")
    assert "landsat-8-9" in known
    assert "sentinel-2" not in known
    said = re.search(r'sensor="([^"]*)"', message)[1]
    assert open_files(path, sensor=said).attrs["sensor"] == said


def test_which_sensor_lists_those_that_have_such_bands(tmp_path):
    path = write_array(
        tmp_path / "a.nc",
        {"title": "x"},
        VV=(-10 + scene(bands=1)[0] * 1e-3, {}),
        ratio=(scene(bands=1)[0] * 1e-3, {}),
    )
    message = complaint(path)
    assert 'Say it, as sensor="sentinel-1"; known: sentinel-1;' in message
    assert list(open_files(path, sensor="sentinel-1", bands=["VV"]).band.values) == ["VV"]


@pytest.mark.parametrize("name", ["ndvi", "EVI"])
def test_an_index_alone_is_of_no_sensor(tmp_path, name):
    numbers = scene(bands=1)
    path = write_tif(tmp_path / f"{name}_20180701.tif", numbers)
    message = complaint(path)
    assert "Which sensor?" in message
    assert 'sensor="modis-vegetation"' in message
    cube = open_files(path, sensor="modis-vegetation")
    np.testing.assert_allclose(cube[0, 0], numbers[0] * 1e-4, rtol=1e-6)
    # Of timo's own making it comes back as it was, and by no factor.
    index = xr.DataArray(scene(bands=1)[0], dims=("y", "x"), name=name)
    index = index.assign_coords(
        y=PLACE.f - 5 - 10 * np.arange(SHAPE[0]),
        x=PLACE.c + 5 + 10 * np.arange(SHAPE[1]),
        time=pd.Timestamp("2018-07-01"),
    ).rio.write_crs(UTM)
    back = open_files(timo.export(index, tmp_path / "map.tif"))
    assert "sensor" not in back.attrs
    np.testing.assert_array_equal(back[0, 0], index)


@pytest.mark.parametrize("name", ["QA60", "cs_cdf", "MSK_CLDPRB", "probability"])
def test_layers_that_lie_beside_are_passed_over(tmp_path, name):
    path = write_tif(tmp_path / "S2_20180701.tif", scene(bands=4), descriptions=(*N3, name))
    assert list(open_files(path, **S2).band.values) == list(N3)


def test_a_whole_product_of_esa_is_opened(tmp_path):
    product = tmp_path / "S2A_MSIL2A_20180701T092031_N0208_R093_T34TFR_20180701T120000.SAFE"
    granule = product / "GRANULE/L2A_T34TFR_A015000_20180701T092029"
    write_tif(granule / "IMG_DATA/R10m/T34TFR_20180701T092031_B04_10m.tif", scene(bands=1))
    write_tif(granule / "QI_DATA/MSK_CLDPRB_20m.tif", scene(bands=1))
    write_tif(granule / "QI_DATA/T34TFR_20180701T092031_PVI.tif", scene(bands=1))
    assert list(open_files(tmp_path).band.values) == ["B4"]


# --- dates


def test_stacks_without_names_say_what_to_give(tmp_path):
    numbers = scene(bands=6)
    path = write_tif(tmp_path / "eo.tif", numbers)
    days = ["2018-07-01", "2018-07-11"]
    message = complaint(path, **S2, dates=days)
    assert "dates gives 2 dates, and eo.tif has 6 bands: say the names of the 3 bands" in message
    cube = open_files(path, **S2, dates=days, band_names=N3)
    np.testing.assert_allclose(cube[1], numbers[3:] * 1e-4, rtol=1e-6)
    names = tuple(f"{b}_{i}" for i in (1, 2) for b in N3)
    path = write_tif(tmp_path / "merged.tif", numbers, descriptions=names)
    assert "one per image of a file (with band_names=[...] of one image)" in complaint(path, **S2)
    np.testing.assert_array_equal(open_files(path, **S2, dates=days, band_names=N3), cube)


@pytest.mark.parametrize(
    "name", ["S2_2018-07-01_2018-07-31", "20180701_20180731_median", "x.2018.07.01_2018.07.31"]
)
def test_the_pattern_that_is_named_finds_the_first_date(tmp_path, name):
    path = write_tif(tmp_path / f"{name}.tif", scene(), descriptions=N3)
    pattern = re.search(r'pattern=r"(.*?)" for the first', complaint(path, **S2))[1]
    cube = open_files(path, **S2, pattern=pattern)
    assert cube.indexes["time"][0] == pd.Timestamp("2018-07-01")


def test_bands_of_one_overpass_some_seconds_apart_are_one_scene(tmp_path):
    for second, band in ((31, "B4"), (41, "B8")):
        write_tif(tmp_path / f"20180701T0920{second}_{band}.tif", scene(bands=1))
    write_tif(tmp_path / "20180711T092031_B4.tif", scene(bands=1))
    assert "B8 is missing on 2018-07-11" in complaint(tmp_path, **S2)
    (tmp_path / "20180711T092031_B4.tif").unlink()
    cube = open_files(tmp_path, **S2)
    assert cube.sizes == {"time": 1, "band": 2, "y": 40, "x": 50}
    assert np.isfinite(cube).all()


def test_the_alpha_of_integers_is_no_band(tmp_path):
    path = write_tif(tmp_path / "S2_20180701.tif", scene(bands=4), descriptions=(*N3, ""))
    import rasterio

    with rasterio.open(path, "r+") as file:
        alpha = np.full(SHAPE, 1, "int16")
        alpha[:5] = 0
        file.write(alpha, 4)
        file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * 2, ColorInterp.alpha]
    cube = open_files(path, **S2)
    assert np.isnan(cube[0, :, :5]).all()
    assert np.isfinite(cube[0, :, 5:]).all()
