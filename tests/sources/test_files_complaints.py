"""What is wrong with files is said: which file, why, and what to do."""

import re

import numpy as np
import pandas as pd
import pytest
import rasterio
import written_files as written
import xarray as xr
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from written_files import PLACE, UTM, scene, write_tif

from timo.errors import TimoError
from timo.sources import open_cube
from timo.sources.files import open_files

NAMES = ("B2", "B3", "B8A")


@pytest.fixture
def series(tmp_path):
    """Two dates of three bands."""
    for i, day in enumerate(("20190701", "20190711")):
        write_tif(tmp_path / f"{day}.tif", scene(seed=i), descriptions=NAMES)
    return tmp_path


def complaint(path, **options):
    """The message of the error that opening raises, on one line."""
    with pytest.raises(TimoError) as caught:
        open_cube("files", path=path, **options)
    return re.sub(r"\s+", " ", str(caught.value))


def test_no_file_matches(tmp_path):
    assert "No file matches" in complaint(f"{tmp_path}/*.tif")
    assert "There is no file" in complaint(tmp_path / "absent.tif")
    assert "holds nothing that can be opened, nothing at all" in complaint(tmp_path)
    assert "names no file" in complaint([])
    for wrong in (7, None, b"x", {"a.tif"}, {"a.tif": 1}, iter(["a.tif"]), ["a.tif", 3]):
        assert "Give a file, a folder, a glob, or a list of them" in complaint(wrong)


def test_other_kinds_of_files(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt is no GeoTIFF" in complaint(tmp_path / "notes.txt")
    assert "only .txt" in complaint(tmp_path)


def test_a_mixture(series):
    xr.Dataset({"B4": ("x", [1])}).to_netcdf(series / "a.nc")
    message = complaint(series)
    assert "holds a mixture: 2 raster (such as 20190701.tif), 1 netcdf (such as a.nc)" in message
    assert "*.tif" in message


@pytest.mark.parametrize("keep", [0, 100, 6000])
def test_damaged_and_truncated_files(series, keep):
    path = series / "20190711.tif"
    path.write_bytes(path.read_bytes()[:keep])
    message = complaint(series)
    assert "20190711.tif" in message
    assert "is cut short" in message or "cannot be read" in message


def test_a_file_that_is_damaged_after_opening(series):
    cube = open_files(series)
    path = series / "20190701.tif"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(TimoError, match=r"20190701\.tif cannot be read: "):
        cube.compute()


def test_damaged_netcdf_and_zarr(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"CDF nonsense")
    assert "a.nc cannot be read as netcdf" in complaint(tmp_path / "a.nc")
    store = tmp_path / "a.zarr"
    store.mkdir()
    (store / "zarr.json").write_text("{")
    assert "a.zarr cannot be read as zarr" in complaint(store)


def test_no_date(tmp_path):
    path = write_tif(tmp_path / "forest.tif", scene(), descriptions=NAMES)
    message = complaint(path)
    assert "forest.tif has no date" in message
    assert "dates=[...]" in message


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["2019-07-01"], "dates gives 1 dates for 2 files"),
        ("2019-07-01", "dates gives 1 dates for 2 files"),
        (["2019-07-01", "soon"], "dates gives 'soon' for '20190711.tif'"),
        ({"20190701.tif": "2019-07-01"}, "dates has no entry for '20190711.tif'"),
        ({"20190701.tif": None}.get, "dates gives None for '20190701.tif'"),
    ],
)
def test_dates_that_do_not_fit(series, dates, expected):
    assert expected in complaint(series, dates=dates)


def test_patterns_that_do_not_fit(series):
    assert "is no regular expression" in complaint(series, pattern="(")
    assert "neither a group (?P<date>...)" in complaint(series, pattern=r"\d+")
    assert "does not find a date in '20190701.tif'" in complaint(series, pattern=r"x(?P<date>\d+)")


def test_a_date_twice(series):
    write_tif(series / "20190701_again.tif", scene(), descriptions=NAMES)
    message = complaint(series)
    assert "more than once" in message
    assert "20190701.tif" in message
    assert "20190701_again.tif" in message


def test_a_band_twice_in_one_file(tmp_path):
    path = write_tif(tmp_path / "20190701.tif", scene(), descriptions=("B2", "blue", "B8A"))
    assert "B2 of one date is there more than once: twice in" in complaint(path)


def test_a_band_missing_on_some_dates(tmp_path):
    for day, bands in (("20190701", ("B2", "B8A")), ("20190711", ("B2",))):
        for band in bands:
            write_tif(tmp_path / f"{day}_{band}.tif", scene(bands=1))
    message = complaint(tmp_path)
    assert "B8A is missing on 2019-07-11 (20190711_B2.tif); 1 of 2 scenes have it" in message
    assert "bands=['B2']" in message
    assert open_files(tmp_path, bands=["B2"]).sizes["time"] == 2


def test_a_band_that_no_file_has(series):
    assert "No file holds B4 of sentinel-2; seen: B2, B3, B8A" in complaint(series, bands=["B4"])
    assert "sentinel-2 has no band 'purple'" in complaint(series, bands=["purple"])


def test_a_quality_layer_missing_on_some_dates(series):
    write_tif(series / "20190701_SCL.tif", np.full((1, *written.SHAPE), 4, "uint8"))
    assert "quality layer SCL is missing on 2019-07-11" in complaint(series)


def test_masks_without_a_quality_layer(series):
    message = complaint(series, masked_classes=[9])
    assert "the files hold no quality layer (SCL of sentinel-2)" in message


def test_bands_without_names(tmp_path):
    path = write_tif(tmp_path / "20190701.tif", scene())
    assert "Which sensor?" in complaint(path)
    message = complaint(path, sensor="sentinel-2")
    assert "none called 'band 1', 'band 2', 'band 3'" in message
    assert "band_names=[...]" in message
    assert "has 3 bands, but band_names names 2" in complaint(path, band_names=["B2", "B3"])
    # What GDAL calls the first band of a file need not be B1.
    path = write_tif(tmp_path / "20190702.tif", scene(), descriptions=("Band 1", "Band_2", "Band3"))
    assert "none called 'Band 1', 'Band_2', 'Band3'" in complaint(path, sensor="sentinel-2")


def test_different_numbers_of_bands(series):
    write_tif(series / "20190721.tif", scene(bands=2), descriptions=NAMES[:2])
    assert "B8A is missing on 2019-07-21" in complaint(series)
    assert "20190721.tif has 2 bands, but band_names names 3" in complaint(series, band_names=NAMES)


# Rasterio warns of what the message is about, at writing and at reading.
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_no_crs_no_place_or_only_control_points(tmp_path):
    path = write_tif(tmp_path / "20190701.tif", scene(), crs=None, descriptions=NAMES)
    assert "has no coordinate reference system" in complaint(path)
    path = write_tif(tmp_path / "20190702.tif", scene(), transform=None, descriptions=NAMES)
    assert "does not state where it lies" in complaint(path)
    path = tmp_path / "s1a-iw-grd-vv-20180701t043012.tif"
    points = [GroundControlPoint(r, c, 22 + c, 45 - r) for r, c in ((0, 0), (0, 9), (9, 0), (9, 9))]
    shape = {"width": 10, "height": 10, "count": 1, "dtype": "uint16"}
    with rasterio.open(path, "w", driver="GTiff", **shape, gcps=points, crs="EPSG:4326") as file:
        file.write(scene(bands=1, shape=(10, 10)).astype("uint16"))
    assert "ground control points and no grid" in complaint(path)


def test_complex_numbers(tmp_path):
    path = write_tif(tmp_path / "20190701_VV.tif", np.ones((1, 9, 9), "complex64"))
    assert "20190701_VV.tif holds complex numbers" in complaint(path)


def test_a_mask_alone(tmp_path):
    path = write_tif(tmp_path / "20190701.tif", scene(bands=1).astype("uint8"))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.alpha]
    assert "has a mask (alpha) and no band" in complaint(path)


def test_two_grids(series):
    moved = Affine(10, 0, PLACE.c + 5, 0, -10, PLACE.f)
    write_tif(series / "20190721.tif", scene(), descriptions=NAMES, transform=moved)
    message = complaint(series)
    assert "different grids" in message
    assert "20190701.tif" in message
    assert "20190721.tif" in message
    assert 'open_cube("files", path=..., resolution=10, crs="EPSG:32634")' in message
    assert open_files(series, resolution=10, crs="EPSG:32634").sizes["time"] == 3


@pytest.mark.parametrize(
    ("transform", "odd"),
    [
        (Affine(10, 0, 5e5, 0, 10, 5e6), "from south to north"),
        (Affine(10, 1, 5e5, 1, -10, 5e6), "which are turned"),
        (Affine(10, 0, 5e5, 0, -20, 5e6), "cells of 10 x 20"),
    ],
)
def test_grids_that_no_cube_can_have(tmp_path, transform, odd):
    path = write_tif(tmp_path / "20190701.tif", scene(), descriptions=NAMES, transform=transform)
    message = complaint(path)
    assert odd in message
    assert "resolution=" in message
    assert open_files(path, resolution=10, crs=UTM).sizes["time"] == 1


def test_an_area_that_no_file_covers(series):
    message = complaint(series, aoi=(10, 45, 10.01, 45.01), resolution=10)
    assert "None of the 2 scenes overlaps the area 10..10.01 E, 45..45.01 N" in message
    assert "20190701.tif" in message


def test_files_beside_the_area_are_left_out(series):
    far = Affine(10, 0, 7e5, 0, -10, 5e6)
    write_tif(series / "20190721.tif", scene(), descriptions=NAMES, transform=far)
    near = open_files(series / "20190701.tif")
    assert open_files(series, like=near).sizes["time"] == 2


def test_dates_without_files(series):
    message = complaint(series, start="2020", end="2020")
    assert (
        "No file is of start='2020' to end='2020': they are of 2019-07-01 to 2019-07-11" in message
    )


def test_a_cube_that_would_be_huge(series):
    assert "megapixels; the limit is 1e-05" in complaint(series, resolution=10, max_megapixels=1e-5)
    assert "resolution is missing" in complaint(series, crs="EPSG:3035")
    assert "resolution must be a number above 0 or None; got -10" in complaint(
        series, resolution=-10
    )


def test_digital_numbers_that_are_floats(tmp_path):
    path = write_tif(tmp_path / "20190701.tif", scene().astype("float32"), descriptions=NAMES)
    message = complaint(path)
    assert "digital numbers; divide by 10,000" in message
    assert "scale=0.0001" in message
    assert float(open_files(path, scale=1e-4).max()) < 1
    assert "digital numbers" in complaint(path, scale=1)


def test_cells_without_data_that_the_file_does_not_mark(tmp_path):
    values = (scene() * 1e-4).astype("float32")
    values[:, :20] = -9999
    path = write_tif(tmp_path / "20190701.tif", values, descriptions=NAMES)
    assert "Give nodata=-9999" in complaint(path)
    assert np.isnan(open_files(path, nodata=-9999)[0, :, :20]).all()


def test_radar_that_is_not_in_decibels(tmp_path):
    power = np.full((1, 9, 9), 0.1, "float32")
    path = write_tif(tmp_path / "20190701_VV.tif", power)
    message = complaint(path)
    assert "linear power" in message
    assert "linear=True" in message
    np.testing.assert_allclose(open_files(path, linear=True), -10, rtol=1e-4)


def test_options_that_files_do_not_have(series):
    assert "do not say how cloudy" in complaint(series, max_cloud=20)
    assert "takes no option 'cloud'" in complaint(series, cloud=20)
    assert "buffer_m must be a number from 0 to 10000" in complaint(series, buffer_m=-1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"chunks": 8}, "chunks must be a whole number of 16 or more; got 8"),
        ({"chunks": "64"}, "Write chunks=64, without quotes"),
        ({"chunks": np.nan}, "got nan"),
        ({"scale": np.inf}, "scale must be a number or None; got inf"),
        ({"scale": True}, "scale must be a number or None; got True"),
        ({"scale": 0}, "scale=0 would make all values the same"),
        ({"nodata": "nan"}, "nodata must be a number or None; got 'nan'"),
        ({"linear": 1}, "linear must be True or False; got 1"),
        ({"clip": None}, "clip must be True or False; got None"),
        ({"max_megapixels": np.inf}, "max_megapixels must be a number above 0; got inf"),
        ({"bands": {"B2"}}, "bands must be text or a list of text or None"),
        ({"bands": ["B2", 3]}, "number 1 is 3"),
        ({"band_names": {"B2": 1}}, "band_names must be text or a list of text or None"),
        ({"band_names": [None] * 3, "sensor": "sentinel-2"}, "band_names leaves every band out"),
        ({"sensor": 2}, "sensor must be text or a timo.Sensor or None; got 2"),
        ({"pattern": 5}, "pattern must be text or None; got 5"),
        ({"pattern": "("}, "is no regular expression"),
        ({"dates": 2019}, "dates must be a list, a dict or a function"),
        ({"dates": {"2019-07-01"}}, "dates must be a list, a dict or a function"),
        ({"dates": iter(["2019-07-01"])}, "dates must be a list, a dict or a function"),
        ({"dates": [[1], 2]}, "dates gives"),
        ({"dates": np.array(3)}, "dates must be a list, a dict or a function"),
        ({"dates": lambda name: name[99]}, "dates= raised IndexError for"),
        ({"band_names": []}, "band_names is empty"),
        ({"masked_classes": "9"}, "masked_classes must be"),
        ({"resolution": "10"}, "Write resolution=10, without quotes"),
    ],
    # An address in an id would differ between processes.
    ids=lambda part: re.sub(r" at 0x\w+", "", str(part)),
)
def test_options_of_another_kind_are_refused_by_name(series, options, expected):
    with pytest.raises(TimoError) as caught:
        open_files(series, **options)
    assert expected in str(caught.value)


def test_numbers_of_numpy_are_taken(series):
    options = {"scale": np.float32(1e-4), "chunks": np.int64(64), "linear": np.bool_(False)}
    cube = open_files(series, bands=np.array(["B2"]), band_names=np.array(NAMES), **options)
    np.testing.assert_array_equal(cube, open_files(series, bands="B2", scale=1e-4))


def test_netcdf_that_is_no_series_of_images(tmp_path):
    xr.Dataset({"a": ("station", [1.0])}).to_netcdf(tmp_path / "points.nc")
    assert "has no variable on a grid" in complaint(tmp_path / "points.nc")
    dataset = written.as_dataset()[["B4", "SCL"]]
    dataset.drop_vars("spatial_ref").to_netcdf(tmp_path / "bare.nc")
    assert "bare.nc has no coordinate reference system" in complaint(tmp_path / "bare.nc")
    dataset.assign_coords(time=np.arange(written.DATES)).to_netcdf(tmp_path / "numbered.nc")
    assert "must be dates as the CF conventions write them" in complaint(tmp_path / "numbered.nc")
    uneven = dataset.assign_coords(x=np.cumsum(np.arange(100.0)))
    uneven.to_netcdf(tmp_path / "uneven.nc")
    assert "must be evenly spaced" in complaint(tmp_path / "uneven.nc")
    dataset.to_netcdf(tmp_path / "dated.nc")
    assert "has dates of its own" in complaint(tmp_path / "dated.nc", dates=["2019-07-01"])


def test_bands_of_a_dim_need_names(tmp_path):
    array = written.as_dataset()[["B4", "B8A"]].to_dataarray("band").drop_vars("band")
    array.to_dataset(name="r").to_netcdf(tmp_path / "r.nc")
    assert "The 2 bands of r" in complaint(tmp_path / "r.nc")
    cube = open_files(tmp_path / "r.nc", band_names=["B4", "B8A"])
    assert list(cube.band.values) == ["B4", "B8A"]
    assert "has 2 bands, but band_names names 1" in complaint(tmp_path / "r.nc", band_names=["B4"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda c: c.assign_attrs(sensor="landsat-8-9").assign_coords(band=["SR_B2"] * 1),
            "is a cube of",
        ),
        (lambda c: c.isel(x=slice(1, None)), "on another grid"),
        (lambda c: c, "has 2015-08-01, which is in"),
        (lambda c: c.assign_coords(band=["B5"]), "has the bands ['B5']"),
    ],
)
def test_cubes_that_do_not_follow_one_another(tmp_path, change, expected):
    cube = open_cube("sample", end="2015-08", bands=["B2"])
    cube.to_dataset(name="cube").to_netcdf(tmp_path / "a.nc")
    change(cube).to_dataset(name="cube").to_netcdf(tmp_path / "b.nc")
    assert expected in complaint(tmp_path)


def test_parts_of_a_cube_that_are_not_there(tmp_path):
    cube = open_cube("sample", end="2015-08", bands=["B2"])
    cube.to_dataset(name="cube").to_netcdf(tmp_path / "a.nc")
    assert "The cube has no band 'B4'" in complaint(tmp_path, bands=["red"])
    assert "No date between start='2019'" in complaint(tmp_path, start="2019", end="2019")
    assert "is a cube of sentinel-2, and not of" in complaint(tmp_path, sensor="modis")


def test_no_message_names_a_date_without_its_file(series):
    # A scene without a time of day is shown as a day.
    (series / "20190711.tif").unlink()
    write_tif(series / "20190711T092031.tif", scene(), descriptions=("B2", "B3", "B12"))
    assert "2019-07-11 09:20:31 (20190711T092031.tif)" in complaint(series, bands=["B8A"])
    assert pd.Timestamp("2019-07-01") in open_files(series, bands=["B2"]).indexes["time"]
