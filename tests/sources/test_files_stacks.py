"""Dates as bands, several resolutions and series in one call, and what `timo.export` writes."""

import numpy as np
import pandas as pd
import pytest
import written_files as written
import xarray as xr
from affine import Affine
from written_files import PLACE, SHAPE, UTM, scene, write_tif

import timo
from timo.errors import TimoError
from timo.sources.files import open_files

BANDS = ("B2", "B3", "B4")
DAYS = ["2018-07-01", "2018-07-11"]
S2 = {"sensor": "sentinel-2"}
STACK = scene(bands=6)
EXPECTED = STACK.reshape(2, 3, *SHAPE).astype("float32") * np.float32(1e-4)
IDS = ("20180701T092031_20180702T092518_T34TFR", "20180711T092031_20180712T092518_T34TFR")


def days(cube):
    return [f"{day:%Y-%m-%d}" for day in cube.indexes["time"]]


def named(prefixes, bands=BANDS):
    return tuple(f"{prefix}_{band}" for prefix in prefixes for band in bands)


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (named(IDS), {}),
        (named(("1_20180701", "2_20180711")), {}),
        (named("01"), {"dates": DAYS}),
        (named(("00000000000000000000", "00000000000000000001")), {"dates": {"stack.tif": DAYS}}),
        ((), {"dates": DAYS, "band_names": BANDS}),
        ((), {"dates": lambda _: DAYS, "band_names": BANDS}),
        (tuple(f"{day}T09:20:31" for day in DAYS for _ in BANDS), {"band_names": BANDS}),
    ],
    ids=["toBands", "merged", "numbered", "padded", "eo-learn", "called", "dated"],
)
def test_dates_as_bands(tmp_path, names, options):
    write_tif(tmp_path / "stack.tif", STACK, descriptions=names)
    cube = open_files(tmp_path, **S2, **options)
    assert days(cube) == DAYS
    assert list(cube.band.values) == list(BANDS)
    np.testing.assert_array_equal(cube, EXPECTED)


def test_stacks_without_dates_say_what_to_give(tmp_path):
    write_tif(tmp_path / "stack.tif", STACK, descriptions=named("01"))
    with pytest.raises(
        TimoError, match=r"6 bands, 2 images of 3 bands each, without dates.*dates="
    ):
        open_files(tmp_path, **S2)
    with pytest.raises(TimoError, match=r"gives 1 dates, and stack.tif has 2 images"):
        open_files(tmp_path, **S2, dates=DAYS[:1])
    write_tif(tmp_path / "stack.tif", STACK)
    with pytest.raises(TimoError, match=r"name all of its bands with band_names="):
        open_files(tmp_path, **S2, band_names=BANDS)
    path = write_tif(tmp_path / "20180701.tif", STACK)
    six = [*BANDS, "B8", "B11", "B12"]
    assert open_files(path, **S2, band_names=six).sizes["band"] == 6


@pytest.mark.parametrize("order", [1, -1])
def test_a_stack_of_force_has_its_band_in_the_name(tmp_path, order):
    for band in ("RED", "NIR"):
        values = scene(seed=len(band), bands=2)
        write_tif(
            tmp_path / f"2018-2018_001-365_HL_TSA_SEN2L_{band}_TSS.tif",
            values,
            descriptions=("20180701_SEN2A", "20180711_SEN2B")[::order],
            nodata=-9999,
        )
    cube = open_files(tmp_path)
    assert cube.attrs["sensor"] == "force"
    assert days(cube) == DAYS
    assert list(cube.band.values) == ["RED", "NIR"]
    np.testing.assert_allclose(cube[:, 0], scene(seed=3, bands=2)[::order] * 1e-4, rtol=1e-6)


def test_a_stack_whose_band_nobody_names_has_no_sensor(tmp_path):
    path = write_tif(tmp_path / "stack.tif", scene(bands=2), descriptions=tuple(DAYS))
    with pytest.warns(UserWarning, match=r'Which band of sentinel-2.*band_names=\["B1"\]'):
        cube = open_files(path, **S2)
    assert "sensor" not in cube.attrs
    assert list(cube.band.values) == ["stack"]
    said = open_files(path, **S2, band_names=["B8"])
    assert (said.attrs["sensor"], *said.band.values) == ("sentinel-2", "B8")
    np.testing.assert_array_equal(said.values, cube.values)
    np.testing.assert_array_equal(said[:, 0], scene(bands=2).astype("float32") * np.float32(1e-4))


def test_descriptions_that_rioxarray_keeps_name_bands(tmp_path):
    array = made(("band", "y", "x"), "uint16", band=[1, 2], time=pd.Timestamp("2018-07-01"))
    array.attrs["long_name"] = ["B4", "B8"]
    array.to_dataset(name="a").to_netcdf(tmp_path / "a.nc")
    assert list(open_files(tmp_path / "a.nc", **S2).band.values) == ["B4", "B8"]


def test_dates_of_bands_stand_over_the_name_of_the_file(tmp_path):
    path = write_tif(tmp_path / "made_20240101.tif", STACK, descriptions=named(IDS))
    assert days(open_files(path, **S2)) == DAYS
    assert days(open_files(path, **S2, dates=["2019-01-01", "2019-02-01"])) == [
        "2019-01-01",
        "2019-02-01",
    ]


# --- several resolutions


def write_two(folder, fine_days=DAYS, coarse_days=DAYS, kind="tif"):
    """Bands of 10 m beside bands and SCL of 20 m, each in files of many bands."""
    fine, coarse = scene(bands=2), scene(seed=1, bands=2, shape=(20, 25))
    quality = np.full((1, 20, 25), 4, "int16")
    quality[0, 3, 4] = 9
    wide = Affine(20, 0, PLACE.c, 0, -20, PLACE.f)
    for i, day in enumerate(fine_days):
        write_tif(folder / f"S2_10m_{day}.tif", fine + np.int16(i), descriptions=("B4", "B8"))
    for i, day in enumerate(coarse_days):
        values = np.concatenate([coarse + np.int16(i), quality])
        names = ("B11", "B12", "SCL")
        write_tif(folder / f"S2_20m_{day}.tif", values, descriptions=names, transform=wide)
    return fine, coarse


def test_two_resolutions_in_one_folder_are_one_cube(tmp_path):
    fine, coarse = write_two(tmp_path)
    cube = open_files(tmp_path, buffer_m=0).compute()
    assert list(cube.band.values) == ["B4", "B8", "B11", "B12"]
    assert cube.shape == (2, 4, *SHAPE)
    assert np.isnan(cube.values).sum() == 2 * 4 * 4
    clear = np.isfinite(cube.values[0, 0])
    twice = coarse[0].repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(cube.values[0, 0][clear], fine[0][clear] * 1e-4, rtol=1e-6)
    np.testing.assert_allclose(cube.values[0, 2][clear], twice[clear] * 1e-4, rtol=1e-6)
    assert np.isfinite(open_files(tmp_path, masked_classes=())).all()


def test_dates_that_one_resolution_lacks_are_left_out_with_a_warning(tmp_path):
    write_two(tmp_path, fine_days=[*DAYS, "2018-07-21"])
    with pytest.warns(UserWarning, match=r"1 of 3 dates are left out.*2018-07-21 has no B11, B12"):
        assert days(open_files(tmp_path)) == DAYS
    # As the warning says.
    every = open_files(tmp_path, bands=["B4", "B8"], masked_classes=())
    assert days(every) == [*DAYS, "2018-07-21"]


def test_series_of_two_netcdf_files_are_one_cube(tmp_path):
    both = written.as_dataset()
    fine, coarse = both[["B2", "B4"]], both[["B8A", "SCL"]].isel(time=slice(1, None))
    coarse = coarse.coarsen(y=2, x=2).max().astype("uint16")
    coarse = coarse.assign_coords(time=coarse.time + pd.Timedelta("10h"))
    for name, part in (("a10", fine), ("b20", coarse)):
        part.rename(time="timestamp").rio.write_crs(3035).to_netcdf(tmp_path / f"{name}.nc")
    with pytest.warns(UserWarning, match=r"1 of 6 dates are left out.* has no B8A, SCL"):
        cube = open_files([tmp_path / "a10.nc", tmp_path / "b20.nc"], **S2)
    assert cube.sizes == {"time": 5, "band": 3, "y": 100, "x": 100}
    valid = np.isfinite(cube.sel(band="B4").values)
    expected = fine["B4"].values[1:] * np.float32(1e-4)
    np.testing.assert_allclose(cube.sel(band="B4").values[valid], expected[valid], rtol=1e-5)
    assert 0.2 < valid.mean() < 1


# --- what timo.export writes


def made(dims, dtype, **coords):
    sizes = {"time": 3, "band": 2, "y": 12, "x": 15}
    shape = [sizes[dim] for dim in dims]
    values = np.random.default_rng(len(dims)).integers(1, 100, shape).astype(dtype)
    where = {"time": pd.to_datetime([*DAYS, "2018-08-02"]), "band": ["dry", "wet"]}
    place = {"y": 5e6 - 5 - 10 * np.arange(12), "x": 5e5 + 5 + 10 * np.arange(15)}
    own = {dim: where[dim] for dim in dims if dim in where}
    array = xr.DataArray(values, dims=dims, coords=own | coords, name="water")
    return array.assign_coords(place).rio.write_crs(UTM)


ARRAYS = {
    "map": made(("y", "x"), "uint8"),
    "dated map": made(("y", "x"), "float64", time=pd.Timestamp("2018-07-01")),
    "bands": made(("band", "y", "x"), "int16", time=pd.Timestamp("2018-07-01")),
    "numbered bands": made(("band", "y", "x"), "uint16", band=[1, 2]),
    "dates": made(("time", "y", "x"), "float32"),
    "dates of a band": made(("time", "y", "x"), "int32", band="dry"),
    "all": made(("time", "band", "y", "x"), "int16"),
    "another order": made(("x", "time", "y", "band"), "float32"),
}


@pytest.mark.parametrize("kind", ["tif", "nc", "zarr"])
@pytest.mark.parametrize("name", ARRAYS)
def test_what_export_writes_comes_back(tmp_path, name, kind):
    array = ARRAYS[name]
    if kind == "tif" and array.ndim == 4:
        pytest.skip("a GeoTIFF has one dimension beside y and x")
    path = timo.export(array, tmp_path / f"a.{kind}")
    given = {} if "time" in array.coords else {"dates": DAYS[:1]}
    if given:
        with pytest.raises(TimoError, match=r"dates=\[...\]"):
            open_files(path)
    cube = open_files(path, **given)
    for dim, value in (("time", pd.Timestamp(DAYS[0])), ("band", "water")):
        if dim not in array.dims:
            array = array.expand_dims(
                {
                    dim: [
                        array.coords[dim].item() if dim == "band" and dim in array.coords else value
                    ]
                }
            )
    expected = array.transpose("time", "band", "y", "x")
    np.testing.assert_array_equal(cube, expected.astype("float32"))
    assert cube.indexes["time"].equals(pd.DatetimeIndex(expected.time.values))
    assert cube.band.values.tolist() == [str(band) for band in expected.band.values]
    assert cube.rio.crs == array.rio.crs
    np.testing.assert_array_equal(cube.x, expected.x)
    np.testing.assert_array_equal(cube.y, expected.y)
    assert "sensor" not in cube.attrs


@pytest.mark.parametrize("kind", ["tif", "nc", "zarr"])
@pytest.mark.parametrize("part", [{"time": 0}, {"band": 2}, {"time": 0, "band": 2}, {}], ids=str)
def test_parts_of_a_cube_that_export_writes_come_back(tmp_path, part, kind):
    cube = timo.open_cube(
        "sample", start="2018-07", end="2018-08", bands=["B2", "B4", "B8A"]
    ).drop_vars("scl")
    data = cube.isel(part)
    if kind == "tif" and not part:
        data = data.isel(time=1)
    back = open_files(timo.export(data, tmp_path / f"a.{kind}"))
    for dim in ("time", "band"):
        data = data if dim in data.dims else data.expand_dims(dim)
    xr.testing.assert_equal(
        back.compute().drop_attrs(), data.transpose(*cube.dims).compute().drop_attrs()
    )
    assert back.attrs["sensor"] == "sentinel-2"


@pytest.mark.parametrize("kind", ["tif", "nc", "zarr"])
def test_nodata_that_export_writes_comes_back_as_gaps(tmp_path, kind):
    array = made(("band", "y", "x"), "int16", time=pd.Timestamp("2018-07-01"))
    array[0, 3, 4] = -1
    back = open_files(timo.export(array, tmp_path / f"a.{kind}", nodata=-1))
    assert np.isnan(back[0, :, 3, 4]).all()
    assert np.isnan(back).sum() == 2
