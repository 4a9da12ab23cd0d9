import contextlib
import gc
import json
import subprocess
import sys
import threading
import time
import warnings
import weakref
from pathlib import Path

import cftime
import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine

from timo.errors import TimoError
from timo.mapping.export import export

CRS = "EPSG:3035"
RECORD = {"packages": {"timo": "1"}, "parameters": {"epochs": 3, "api_token": "hidden"}}


def raster(values, **coords) -> xr.DataArray:
    """A map of 10 m cells whose upper left corner is at (5_000_000, 3_000_000)."""
    values = values if isinstance(values, da.Array) else np.asarray(values)
    rows, columns = values.shape[-2:]
    coords |= {
        "y": 3_000_000 - 5 - 10.0 * np.arange(rows),
        "x": 5_000_000 + 5 + 10.0 * np.arange(columns),
    }
    dims = [*(name for name in coords if name not in ("y", "x")), "y", "x"]
    return xr.DataArray(values, dims=dims, coords=coords).rio.write_crs(CRS)


def labels(rows=60, columns=80) -> xr.DataArray:
    values = np.random.default_rng(0).integers(-1, 3, (rows, columns)).astype("int16")
    array = raster(values).rename("label")
    array.attrs["classes"] = ["forest", "meadow", "road"]
    array.attrs["attribution"] = "contains modified Copernicus Sentinel data 2015-2021"
    return array


def prediction() -> xr.Dataset:
    label = labels()
    values = np.random.default_rng(1).random((3, 60, 80)).astype("float32")
    values[:, 0, 0] = np.nan
    probability = raster(values, **{"class": ["forest", "meadow", "road"]})
    return xr.Dataset({"label": label, "probability": probability, "entropy": probability[0]})


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- GeoTIFF


def test_int16_with_nodata_makes_the_round_trip_as_a_cog(tmp_path):
    path = export(labels(700, 1100), tmp_path / "loss_year.tif", nodata=-1)
    assert path == tmp_path / "loss_year.tif"
    assert names(tmp_path) == ["loss_year.tif"]
    with rasterio.open(path) as file:
        structure = file.tags(ns="IMAGE_STRUCTURE")
        assert structure["LAYOUT"] == "COG"
        assert structure["COMPRESSION"] == "DEFLATE"
        assert structure["PREDICTOR"] == "2"
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2, 4]
        assert file.dtypes == ("int16",)
        assert file.nodata == -1
        assert file.crs == CRS
        assert file.transform == Affine(10, 0, 5_000_000, 0, -10, 3_000_000)
        assert file.descriptions == ("label",)
        np.testing.assert_array_equal(file.read(1), labels(700, 1100))
        # Nearest: an average of classes would be no class.
        assert set(np.unique(file.read(1, out_shape=(350, 550)))) <= {-1, 0, 1, 2}


def test_labels_are_minus_one_where_there_is_no_data_by_default(tmp_path):
    with rasterio.open(export(labels(), tmp_path / "a.tif")) as file:
        assert file.nodata == -1
        assert json.loads(file.tags()["CLASSES"]) == {"0": "forest", "1": "meadow", "2": "road"}
        assert file.tags()["TIFFTAG_COPYRIGHT"].startswith("contains modified Copernicus")
        assert file.tags()["TIFFTAG_SOFTWARE"].startswith("timo ")


def test_provenance_travels_in_a_tag_without_credentials(tmp_path):
    path = export(labels(), tmp_path / "a.tif", provenance=RECORD)
    with rasterio.open(path) as file:
        written = json.loads(file.tags()["TIMO_PROVENANCE"])
    assert written == {"packages": {"timo": "1"}, "parameters": {"epochs": 3}}


@pytest.mark.parametrize(
    ("dtype", "nodata", "predictor"),
    [("uint8", 255, "2"), ("int64", -1, "2"), ("float32", -9999, "3"), ("float64", None, "3")],
)
def test_every_type_makes_the_round_trip(tmp_path, dtype, nodata, predictor):
    values = np.arange(2 * 6 * 7).reshape(2, 6, 7).astype(dtype)
    if dtype[0] == "f":
        values[0, 2, 3] = np.nan
    times = np.array(["2018-06-01", "2018-06-03T09:30"], "datetime64[ns]")
    data = raster(values, time=times)
    with rasterio.open(export(data, tmp_path / "a.TIFF", nodata=nodata)) as file:
        assert file.descriptions == ("2018-06-01", "2018-06-03T09:30:00")
        assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == predictor
        assert file.dtypes == (dtype, dtype)
        read = file.read(masked=True)
        if dtype[0] == "f":
            assert read.mask.sum() == 1
            assert read.mask[0, 2, 3]
        if nodata is not None:
            assert file.nodata == nodata
            assert not np.isnan(read.data).any()
        np.testing.assert_array_equal(read.compressed(), values[~np.isnan(values)])


def test_booleans_and_half_floats_become_types_that_geotiff_knows(tmp_path):
    for dtype, written in ((bool, "uint8"), ("float16", "float32")):
        with rasterio.open(export(raster(np.eye(5).astype(dtype)), tmp_path / "a.tif")) as file:
            assert file.dtypes == (written,)
            np.testing.assert_array_equal(file.read(1), np.eye(5))


def test_the_band_axis_may_be_anywhere_and_the_grid_upside_down(tmp_path):
    data = prediction()["probability"]
    turned = data.transpose("x", "y", "class").isel(y=slice(None, None, -1))
    first, second = (
        rasterio.open(export(array, tmp_path / f"{i}.tif"))
        for i, array in enumerate((data, turned))
    )
    with first, second:
        assert first.transform == second.transform
        assert second.descriptions == ("forest", "meadow", "road")
        np.testing.assert_array_equal(first.read(), second.read())


def test_a_subset_is_placed_by_its_coordinates_and_not_by_the_noted_transform(tmp_path):
    whole = labels()
    whole = whole.rio.write_transform(whole.rio.transform())
    with rasterio.open(export(whole[10:30, 20:50], tmp_path / "a.tif")) as file:
        assert file.transform == Affine(10, 0, 5_000_200, 0, -10, 2_999_900)
    with rasterio.open(export(whole[10:11, 20:50], tmp_path / "row.tif")) as file:
        assert file.transform == Affine(10, 0, 5_000_200, 0, -10, 2_999_900)


def test_of_a_prediction_map_the_label_goes_into_a_geotiff(tmp_path):
    with rasterio.open(export(prediction(), tmp_path / "map.tif")) as file:
        assert file.descriptions == ("label",)
    path = export(prediction()[["entropy"]], tmp_path / "entropy.tif")
    with rasterio.open(path) as file:
        assert file.descriptions == ("entropy",)
        assert np.isnan(file.nodata)


def test_a_prediction_bears_its_own_provenance(tmp_path):
    data = prediction()
    data["label"].attrs.pop("attribution")
    data.attrs = {"provenance": json.dumps(RECORD), "attribution": "of the map"}
    data["label"].encoding["_FillValue"] = -1
    with rasterio.open(export(data, tmp_path / "a.tif")) as file:
        assert json.loads(file.tags()["TIMO_PROVENANCE"])["packages"] == {"timo": "1"}
        assert file.tags()["TIFFTAG_COPYRIGHT"] == "of the map"
        assert file.nodata == -1
    data.attrs["provenance"] = "drawn by hand"
    read = xr.open_zarr(export(data, tmp_path / "a.zarr"))
    assert json.loads(read.attrs["provenance"]) == {"note": "drawn by hand"}
    assert read["label"].dtype == "int16"


def test_several_variables_do_not_fit_a_geotiff(tmp_path):
    with pytest.raises(TimoError, match=r"one variable .*\['probability', 'entropy'\]: choose one"):
        export(prediction().drop_vars("label"), tmp_path / "map.tif")
    assert names(tmp_path) == []


# --- in pieces


class Live:
    """Counts the blocks that are alive at the same time."""

    def __init__(self) -> None:
        self.now = self.most = self.made = 0
        self.lock = threading.Lock()

    def block(self, block_info=None) -> np.ndarray:
        location = block_info[None]["array-location"]
        values = np.full([stop - start for start, stop in location], location[0][0], "int16")
        with self.lock:
            self.now, self.made = self.now + 1, self.made + 1
            self.most = max(self.most, self.now)
        weakref.finalize(values, self.gone)
        time.sleep(0.001)
        return values

    def gone(self) -> None:
        with self.lock:
            self.now -= 1


@pytest.mark.parametrize("name", ["map.tif", "map.zarr"])
def test_a_dask_array_is_computed_in_pieces(tmp_path, name):
    live = Live()
    chunks = ((100,) * 8, (90,) * 8)  # no multiple of a tile of the file
    data = raster(
        da.map_blocks(live.block, chunks=chunks, dtype="int16", meta=np.empty((0, 0), "i2"))
    )
    gc.collect()
    with dask.config.set(scheduler="threads", num_workers=4):
        path = export(data.rename("label"), tmp_path / name)
    assert live.made == 64
    assert live.most <= 8
    expected = np.repeat(np.arange(8) * 100, 100)[:, None] * np.ones(720)
    read = rasterio.open(path).read(1) if name == "map.tif" else xr.open_zarr(path)["label"]
    np.testing.assert_array_equal(read, expected)


def test_many_bands_in_chunks(tmp_path):
    values = np.random.default_rng(2).random((5, 70, 90)).astype("float32")
    data = raster(da.from_array(values, chunks=(2, 30, 50)), time=pd.date_range("2020", periods=5))
    with rasterio.open(export(data, tmp_path / "a.tif")) as file:
        np.testing.assert_array_equal(file.read(), values)


# --- Zarr and NetCDF


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_a_prediction_map_makes_the_round_trip(tmp_path, suffix):
    data = prediction().assign_attrs(settings={"depth": 2, "quick": True}, none=None, quick=True)
    data["when"] = ("time", pd.date_range("2020-01-01", periods=2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = export(data, tmp_path / f"map{suffix}", provenance=RECORD)
        read = xr.open_zarr(path) if suffix == ".zarr" else xr.open_dataset(path)
    assert names(tmp_path) == [path.name]
    assert set(read.data_vars) == {"label", "probability", "entropy", "when"}
    for name in data.data_vars:
        np.testing.assert_array_equal(read[name], data[name])
        assert read[name].dtype.kind == data[name].dtype.kind
    assert read["label"].dtype == "int16"
    assert read["label"].rio.nodata == -1
    assert read["label"].attrs["classes"] == ["forest", "meadow", "road"]
    for array in (read, read["label"], read["probability"]):
        assert array.rio.crs == CRS
    assert read.rio.transform() == Affine(10, 0, 5_000_000, 0, -10, 3_000_000)
    assert read["probability"].sel({"class": "road"}).shape == (60, 80)
    assert json.loads(read.attrs["provenance"])["parameters"] == {"epochs": 3}
    read.close()


def test_zarr_is_of_format_3_in_the_chunks_of_dask(tmp_path):
    data = prediction().chunk({"y": 25, "x": 40})
    path = export(data, tmp_path / "map.zarr")
    described = json.loads((path / "zarr.json").read_text())
    assert described["zarr_format"] == 3
    assert "label" in described["consolidated_metadata"]["metadata"]
    assert xr.open_zarr(path)["label"].encoding["chunks"] == (25, 40)


def test_uneven_chunks_are_evened_out(tmp_path):
    data = labels().chunk({"y": (7, 30, 23), "x": (50, 30)})
    path = export(data, tmp_path / "map.zarr")
    assert xr.open_zarr(path)["label"].encoding["chunks"] == (30, 50)
    np.testing.assert_array_equal(xr.open_zarr(path)["label"], labels())


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_what_was_read_is_written_again_with_its_provenance(tmp_path, suffix):
    first = export(labels(), tmp_path / f"a{suffix}", provenance=RECORD)
    with xr.open_dataset(first, engine="zarr" if suffix == ".zarr" else None) as read:
        for again in (".zarr", ".tif", ".nc"):
            export(read, tmp_path / f"b{again}")
    with rasterio.open(tmp_path / "b.tif") as file:
        assert file.nodata == -1
        assert json.loads(file.tags()["TIMO_PROVENANCE"])["packages"] == {"timo": "1"}
        np.testing.assert_array_equal(file.read(1), labels())
    with xr.open_zarr(tmp_path / "b.zarr") as read:
        assert read["label"].dtype == "int16"
        assert json.loads(read.attrs["provenance"])["packages"] == {"timo": "1"}


def test_a_float_nodata_in_zarr_is_read_back_as_nan(tmp_path):
    data = prediction()["entropy"]
    path = export(data, tmp_path / "a.zarr", nodata=-9999)
    np.testing.assert_array_equal(xr.open_zarr(path)["entropy"], data)
    assert (xr.open_zarr(path, mask_and_scale=False)["entropy"] == -9999).sum() == 1


def test_a_raw_float_nodata_is_kept(tmp_path):
    data = prediction()["entropy"].fillna(-9999).assign_attrs(nodata=-9999)
    with rasterio.open(export(data, tmp_path / "a.tif")) as file:
        assert file.nodata == -9999
    read = xr.open_zarr(export(data, tmp_path / "a.zarr"))["entropy"]
    assert np.isnan(read).sum() == 1


def test_an_array_without_a_name_and_another_dimension(tmp_path):
    data = raster(np.zeros((2, 3, 4, 5), "float32"), time=[0, 1], band=["B2", "B3", "B4"])
    assert xr.open_zarr(export(data, tmp_path / "a.zarr"))["data"].shape == (2, 3, 4, 5)


def test_the_exported_data_are_not_changed(tmp_path):
    data = prediction()
    before = data.copy(deep=True)
    for suffix in (".tif", ".zarr", ".nc"):
        export(data, tmp_path / f"a{suffix}", nodata=-1 if suffix == ".tif" else None)
    xr.testing.assert_identical(data, before)
    assert data["label"].encoding == before["label"].encoding


# --- what cannot be written


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (labels(), "map.png", r"Unknown output format '.png' of 'map.png': use .tif, .tiff, .zarr"),
        (labels(), "map", r"Unknown output format '' of 'map': use"),
        (
            np.zeros((3, 3)),
            "a.tif",
            "data must be an xarray.DataArray or an xarray.Dataset or a pandas.DataFrame; got ndarray",
        ),
        (labels().drop_vars("spatial_ref"), "a.tif", r"no coordinate reference .*rio.write_crs"),
        (labels().drop_vars("spatial_ref"), "a.zarr", r"no coordinate reference .*rio.write_crs"),
        (
            labels().rename(y="row"),
            "a.tif",
            r"y and x, and the data have \['row', 'x'\]",
        ),
        (labels()[:0], "a.tif", r"nothing to export: the data have the shape \{'y': 0"),
        (labels()[:1], "a.tif", "a single cell along y, so its size is not known"),
        (labels().isel(x=[0, 1, 5]), "a.tif", "data's x must be evenly spaced cell centres"),
        (labels().drop_vars("y"), "a.zarr", "data has no coordinate 'y'"),
        (labels().astype("complex64"), "a.tif", "A GeoTIFF cannot hold complex64 values: convert"),
        (
            labels().expand_dims(a=2, b=3),
            "a.tif",
            r"and the data have \['a', 'b'\]: choose, as in data.isel\(a=0\), make them one",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, data, name, message):
    with pytest.raises(TimoError, match=message):
        export(data, tmp_path / name)
    assert names(tmp_path) == []


@pytest.mark.parametrize("nodata", [-1, 256, 0.5, float("nan")])
@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_a_nodata_value_that_the_type_does_not_hold(tmp_path, nodata, name):
    with pytest.raises(TimoError, match=r"nodata=.* does not fit uint8 values: pass one from 0 to"):
        export(labels().astype("uint8"), tmp_path / name, nodata=nodata)


def test_netcdf_without_a_package_that_writes_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(TimoError, match=r"pip install netCDF4, or write to a \.zarr"):
        export(labels(), tmp_path / "a.nc")


def test_what_stands_there_is_replaced_only_if_it_is_the_same_kind(tmp_path):
    export(labels(), tmp_path / "a.tif")
    with pytest.raises(TimoError, match=r"a.tif' exists: choose another name, or pass overwrite"):
        export(labels(), tmp_path / "a.tif", overwrite=False)
    export(labels() * 0, tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert not file.read(1).any()

    (tmp_path / "papers.zarr").mkdir()
    (tmp_path / "papers.zarr" / "thesis.tex").touch()
    with pytest.raises(TimoError, match="exists and is not a Zarr store: choose another name"):
        export(labels(), tmp_path / "papers.zarr")
    export(prediction(), tmp_path / "map.zarr")
    export(labels(), tmp_path / "map.zarr")
    assert list(xr.open_zarr(tmp_path / "map.zarr").data_vars) == ["label"]
    (tmp_path / "map.zarr").rename(tmp_path / "map.tif")
    with pytest.raises(TimoError, match="exists and is not a file: choose another name"):
        export(labels(), tmp_path / "map.tif")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for name in ("map.tif", "map.zarr"):
        with pytest.raises(TimoError, match=r"cannot write to the folder .*choose another output"):
            export(labels(), tmp_path / "file" / name)


@pytest.mark.parametrize("name", ["map.tif", "map.zarr"])
def test_a_failure_while_computing_leaves_the_old_file(tmp_path, name):
    path = export(labels(), tmp_path / name)

    def fail(block: np.ndarray) -> np.ndarray:
        raise RuntimeError("the satellite fell down")

    lazy = labels().chunk({"y": 20})
    lazy = lazy.copy(data=da.map_blocks(fail, lazy.data, meta=lazy.data._meta))
    with pytest.raises(RuntimeError, match="the satellite fell down"):
        export(lazy, path)
    assert names(tmp_path) == [name]
    read = rasterio.open(path).read(1) if name == "map.tif" else xr.open_zarr(path)["label"]
    np.testing.assert_array_equal(read, labels())


FULL_DISK = """
import resource, sys
import numpy as np, xarray as xr, rioxarray
from timo.mapping.export import export
data = xr.DataArray(np.random.default_rng(0).random((1024, 1024)), dims=("y", "x"),
                    coords={"y": -np.arange(1024.0), "x": np.arange(1024.0)}).rio.write_crs(3035)
path = export(-data, sys.argv[1])
size = path.stat().st_size
export(data, path)
for limit in (500_000, 8_600_000, size - 1_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
    try:
        export(-data, path)
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("passed for complete")
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """Whether it is full while the pixels are written, while they are compressed, or at the end."""
    path = tmp_path / "map.tif"
    arguments = [sys.executable, "-c", FULL_DISK, str(path)]
    process = subprocess.run(arguments, capture_output=True, text=True, check=True)
    lines = process.stdout.splitlines()
    message = (
        f"TimoError cannot write '{path}': the disk of '{tmp_path}' is full, or a quota or a limit"
    )
    assert [line.startswith(message) for line in lines] == [True] * 3
    assert names(tmp_path) == ["map.tif"]
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), np.random.default_rng(0).random((1024, 1024)))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 200 kB; a mount needs the rights of root, as containers have them."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or subprocess.run(command, check=False, capture_output=True).returncode
    ):
        pytest.skip("no right to mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr", ".geojson"])
@pytest.mark.parametrize("chunks", [None, 100])
def test_a_full_disk_is_one_error_in_every_format(tmp_path, small_disk, suffix, chunks):
    cells = np.random.default_rng(0).integers(0, 2**30, (300, 400)).astype("int32")
    values = np.kron(cells[:30, :40], np.ones((5, 5), "int32")) if suffix == ".geojson" else cells
    data = raster(values if chunks is None else da.from_array(values, chunks=chunks))
    path = small_disk / f"map{suffix}"
    if suffix == ".zarr":
        export(labels(5, 5), path)
    else:
        path.write_text("an older file")
    before = {entry: entry.read_bytes() for entry in small_disk.rglob("*") if entry.is_file()}
    with pytest.raises(
        TimoError, match=r"cannot write .* full, .*Make room there, or choose another folder"
    ):
        export(data, path)
    assert {e: e.read_bytes() for e in small_disk.rglob("*") if e.is_file()} == before
    assert names(small_disk) == [path.name]
    assert export(data, tmp_path / path.name).exists()  # another folder
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)  # room
    assert export(data, path).stat().st_size != 13


def test_a_disk_that_is_read_only(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for suffix in (".tif", ".nc", ".zarr", ".geojson"):
        with pytest.raises(TimoError, match=r"cannot write to the folder .*Read-only file system"):
            export(labels(), small_disk / f"map{suffix}")


@pytest.mark.parametrize("name", ["a" * 300 + ".tif", "b" * 230 + ".nc", "nul\0byte.zarr"])
def test_a_name_that_no_file_can_have(tmp_path, name):
    with pytest.raises(TimoError, match=r"cannot write .*; choose another name"):
        export(labels(), tmp_path / name)
    assert names(tmp_path) == []
    longest = "c" * 190 + Path(name).suffix
    assert names(export(labels(), tmp_path / longest).parent) == [longest]


def test_a_small_map_takes_little_room_beside_it(tmp_path):
    """Of 140 dates, the tiles of 512 x 512 cells took 147 MB."""
    data = raster(
        np.random.default_rng(0).random((140, 20, 20)).astype("float32"), time=np.arange(140)
    )
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            sizes = []
            for entry in tmp_path.iterdir():
                with contextlib.suppress(OSError):
                    sizes.append(entry.stat().st_size)
            most[0] = max(most[0], sum(sizes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with rasterio.open(export(data, tmp_path / "a.tif")) as file:
        np.testing.assert_array_equal(file.read(), data)
        assert file.block_shapes[0] == (128, 128)
    done.set()
    watcher.join()
    assert 0 < most[0] < 10 * data.nbytes


# --- no data


def read_nodata(path: Path) -> float | None:
    if path.suffix == ".tif":
        with rasterio.open(path) as file:
            return file.nodata
    with xr.open_dataset(path, engine="zarr" if path.suffix == ".zarr" else None) as read:
        array = read[next(iter(read.data_vars))]
        encoded = array.rio.encoded_nodata  # of 8 bits in NetCDF, which xarray makes floats of
        return array.rio.nodata if encoded is None else encoded


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_a_cast_of_labels_keeps_its_nodata_value(tmp_path, suffix, dtype):
    label, largest = labels().assign_attrs(nodata=-1), np.iinfo(dtype).max
    path = tmp_path / f"a{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # -1 has become the largest number of the type.
        assert read_nodata(export(label.astype(dtype), path)) == largest
        filled = label.where(label >= 0, largest).astype(dtype)
        assert read_nodata(export(filled, path)) == largest
        assert read_nodata(export(label.astype(dtype), path, nodata=7)) == 7
        assert read_nodata(export(label.astype("int32"), path)) == -1
        back = filled.assign_attrs(nodata=largest).astype("int8")
        assert read_nodata(export(back, path)) == -1


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
def test_a_comparison_of_labels_has_no_nodata_and_says_how_to_keep_it(tmp_path, suffix):
    label = labels().assign_attrs(nodata=-1)
    path = tmp_path / f"a{suffix}"
    assert (label == 1).attrs["nodata"] == -1  # xarray keeps attributes
    with pytest.warns(UserWarning, match="is a comparison of labels: pixels without data") as said:
        assert read_nodata(export(label == 1, path)) is None
    code = str(said[0].message).split("use ")[1].removesuffix(".")
    kept = eval(code, {"label": label})  # noqa: S307
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_nodata(export(kept, path)) == -1
    assert (kept == -1).equals((label < 0).rename(kept.name))
    assert int((kept == 1).sum()) == int((label == 1).sum())


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
def test_a_nodata_value_that_a_cast_outdated_is_none(tmp_path, suffix):
    label = labels().assign_attrs(nodata=-9999)
    path = tmp_path / f"a{suffix}"
    with pytest.warns(
        UserWarning, match=r"nodata value of the data, -9999, does not fit uint8.*nodata="
    ):
        assert read_nodata(export(label.astype("uint8"), path)) is None
    filled = label.where(label >= 0, 255).astype("uint8")
    with rasterio.open(
        export(filled, tmp_path / "b.tif", nodata=255)
    ) as file:  # what the warning says
        assert (file.nodata, file.dtypes[0]) == (255, "uint8")
    for stale in (
        {"_FillValue": np.nan},
        {"missing_value": "none"},
        {"nodata": 70_000},
        {"nodatavals": (0.5,)},
    ):
        data = labels().drop_attrs(deep=False).assign_attrs(stale)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert read_nodata(export(data, path)) is None


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
def test_nodata_is_found_wherever_xarray_and_rioxarray_keep_it(tmp_path, suffix):
    data = labels().drop_attrs(deep=False)
    encoded = data.copy()
    encoded.encoding["missing_value"] = 2
    for given in (
        data.assign_attrs(nodata=2),
        data.assign_attrs(_FillValue=np.array([2], "int16")),
        data.rio.set_nodata(2),
        data.rio.write_nodata(2),
        data.rio.write_nodata(2, encoded=True),
        encoded,
    ):
        assert read_nodata(export(given, tmp_path / f"a{suffix}")) == 2


def test_eight_bits_with_nodata_in_netcdf_are_read_by_gdal(tmp_path):
    data = raster(np.array([[1, 255], [3, 4]], "uint8")).rename("v")
    with rasterio.open(export(data, tmp_path / "a.nc", nodata=255)) as file:
        assert file.nodata == 255
    with xr.open_dataset(tmp_path / "a.nc") as read:
        assert read["v"].isnull().sum() == 1  # noqa: PD003


def test_a_true_and_false_map_bears_no_names_of_classes(tmp_path):
    mask = labels() == 2
    with rasterio.open(export(mask, tmp_path / "a.tif")) as file:
        assert "CLASSES" not in file.tags()
    assert "classes" not in xr.open_zarr(export(mask, tmp_path / "a.zarr"))["label"].attrs


def test_packed_integers_bear_their_scale_and_floats_made_of_them_do_not(tmp_path):
    packed = (
        labels()
        .drop_attrs(deep=False)
        .assign_attrs(scale_factor=1e-4, add_offset=-0.1, valid_range=[1, 10_000])
    )
    with rasterio.open(export(packed, tmp_path / "a.tif")) as file:
        assert (file.scales, file.offsets) == ((1e-4,), (-0.1,))
    unpacked = packed * 1e-4 - 0.1
    for suffix in (".nc", ".zarr"):
        export(unpacked, tmp_path / f"a{suffix}")
        with xr.open_dataset(
            tmp_path / f"a{suffix}", engine="zarr" if suffix == ".zarr" else None
        ) as read:
            np.testing.assert_allclose(read["label"], unpacked)
            assert "valid_range" not in read["label"].attrs


# --- dates and names


def tags(data: xr.DataArray, tmp_path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    with rasterio.open(export(data, tmp_path / "a.tif")) as file:
        return file.tags(), file.descriptions


def test_the_date_of_the_image_is_a_tag_of_its_own(tmp_path):
    cube = raster(
        np.ones((1, 2, 4, 5)), time=[np.datetime64("2018-07-01T10:30")], band=["B2", "B3"]
    )
    cube = cube.rename("reflectance").assign_attrs(sensor="sentinel-2")
    found, described = tags(cube, tmp_path)
    assert described == ("B2", "B3")
    assert found["ACQUISITION_DATE"] == "2018-07-01T10:30:00"
    assert found["TIMO_SENSOR"] == "sentinel-2"
    assert "TIFFTAG_DATETIME" not in found  # the date of writing is that of no image
    assert tags(cube.isel(band=1), tmp_path)[1] == ("2018-07-01T10:30:00",)
    found, described = tags(cube.isel(time=0, band=1), tmp_path)
    assert (described, found["TIMO_BAND"]) == (("B3",), "B3")
    assert tags(cube[:, :1], tmp_path)[1] == ("B2",)
    assert tags(cube.isel(time=0).drop_vars("time"), tmp_path)[0].get("ACQUISITION_DATE") is None
    for value, written in (
        (np.datetime64("1985-03-01", "D"), "1985-03-01"),
        (np.datetime64("3000-03-01T00:00:01", "s"), "3000-03-01T00:00:01"),
        (cftime.DatetimeNoLeap(2018, 2, 28), "2018-02-28"),
    ):
        assert tags(labels().assign_coords(time=value), tmp_path)[0]["ACQUISITION_DATE"] == written


def test_dates_that_a_geotiff_cannot_name(tmp_path):
    dates = [cftime.Datetime360Day(2018, 2, day) for day in (28, 29, 30)]
    data = raster(np.ones((3, 4, 5)), time=dates).rename("v")
    with pytest.raises(
        TimoError, match=r"of the calendar 360_day .*write a .nc, which keeps calendars"
    ):
        export(data, tmp_path / "a.tif")
    with xr.open_dataset(export(data, tmp_path / "a.nc")) as read:
        assert read["time"].values.tolist() == dates
    times = np.array(["2018-01-01", "NaT", "2018-03-01"], "M8[ns]")
    data = data.assign_coords(time=times)
    with pytest.raises(TimoError, match=r"\(NaT\).*data.sel\(time=data.time.notnull\(\)\)"):
        export(data, tmp_path / "a.tif")
    assert tags(data.sel(time=data.time.notnull()), tmp_path)[1] == ("2018-01-01", "2018-03-01")  # noqa: PD004


def test_a_cube_goes_into_a_geotiff_as_the_message_says(tmp_path):
    cube = raster(
        np.arange(80.0).reshape(2, 2, 4, 5),
        time=pd.date_range("2018", periods=2),
        band=["B2", "B3"],
    )
    with pytest.raises(
        TimoError,
        match=r"isel\(time=0\).*stack\(layer=\['time', 'band'\]\), or write all to a .zarr",
    ):
        export(cube, tmp_path / "a.tif")
    assert tags(cube.isel(time=0), tmp_path)[1] == ("B2", "B3")
    stacked = cube.stack(layer=["time", "band"])  # noqa: PD013
    assert tags(stacked, tmp_path)[1] == (
        "2018-01-01_B2",
        "2018-01-01_B3",
        "2018-01-02_B2",
        "2018-01-02_B3",
    )
    with pytest.raises(TimoError, match=r'which a .zarr cannot hold: use data.unstack\("layer"\)'):
        export(stacked, tmp_path / "a.zarr")
    read = xr.open_zarr(export(stacked.unstack("layer"), tmp_path / "a.zarr"))["data"]  # noqa: PD010
    np.testing.assert_array_equal(read.transpose(*cube.dims), cube)


def test_names_that_a_format_cannot_hold(tmp_path):
    data = raster(np.ones((2, 4, 5)), band=["a\x07", " b"])
    with pytest.raises(
        TimoError, match=r"band called 'a\\x07' .*rename it, as in data.assign_coords\(band="
    ):
        export(data, tmp_path / "a.tif")
    assert tags(data.assign_coords(band=['Ü <b>&"', "B 2, (x)"]), tmp_path)[1] == (
        'Ü <b>&"',
        "B 2, (x)",
    )
    for suffix in (".nc", ".zarr"):
        with pytest.raises(TimoError, match=r'called "a/b": rename it'):
            export(labels().rename("a/b"), tmp_path / f"a{suffix}")
    with pytest.raises(TimoError, match=r"illegal characters.* Rename it"):
        export(labels().rename("(a)"), tmp_path / "a.nc")
    mixed = raster(np.ones((2, 4, 5)), band=np.array(["a", 2], object))
    with pytest.raises(TimoError, match=r"leave it out, as in data.drop_vars"):
        export(mixed, tmp_path / "a.nc")
    assert export(mixed.drop_vars("band"), tmp_path / "a.nc").exists()


def test_dates_with_a_time_zone_are_written_in_utc(tmp_path):
    zoned = labels().expand_dims(time=pd.date_range("2018", periods=1, tz="Europe/Paris"))
    assert tags(zoned, tmp_path)[1] == ("2017-12-31T23:00:00",)
    with xr.open_dataset(export(zoned, tmp_path / "a.nc")) as read:
        assert read["time"].values == [np.datetime64("2017-12-31T23:00:00")]


def test_the_names_of_a_file_that_rioxarray_read_are_kept(tmp_path):
    path = export(raster(np.ones((2, 4, 5)), band=["B2", "B3"]), tmp_path / "b.tif")
    with rioxarray.open_rasterio(path) as read:
        assert tags(read.load(), tmp_path)[1] == ("B2", "B3")


# --- remedies


def test_the_remedies_for_nodata_work(tmp_path):
    data = labels().drop_attrs(deep=False)
    for dtype, nodata in (
        ("uint8", -1),
        ("uint8", 70_000),
        ("uint8", 0.5),
        ("int16", 1e30),
        ("float32", 1e300),
        ("uint64", -1),
    ):
        with pytest.raises(TimoError, match=r"does not fit .*data.astype") as error:
            export(data.astype(dtype), tmp_path / "a.tif", nodata=nodata)
        wider = str(error.value).split('astype("')[1].split('"')[0]
        assert read_nodata(
            export(data.astype(dtype).astype(wider), tmp_path / "a.tif", nodata=nodata)
        ) == pytest.approx(nodata)
    wide = data.astype("int64").assign_attrs(nodata=-(2**63))
    with pytest.raises(TimoError, match=r"at most 2\*\*53.* nodata=-1\), or write a .zarr"):
        export(wide, tmp_path / "a.tif")
    assert (
        read_nodata(export(wide.where(wide != -(2**63), -1), tmp_path / "a.tif", nodata=-1)) == -1
    )
    assert read_nodata(export(wide, tmp_path / "a.zarr")) == -(2**63)
    for nodata in ("255", True):
        with pytest.raises(TimoError, match="nodata must be a number"):
            export(data, tmp_path / "a.tif", nodata=nodata)
    with pytest.raises(TimoError, match=r'bool values in a .zarr.*astype\("int16"\)'):
        export(data > 0, tmp_path / "a.zarr", nodata=255)
    assert read_nodata(export((data > 0).astype("int16"), tmp_path / "a.zarr", nodata=255)) == 255


def test_the_remedies_for_grids_and_variables_work(tmp_path):
    uneven = labels().isel(x=[0, 1, 5])
    with pytest.raises(TimoError, match=r"Use data.sortby") as error:
        export(uneven, tmp_path / "a.tif")
    code = str(error.value).split("Use ")[1].removesuffix(".")
    even = eval(code, {"data": uneven, "numpy": np})  # noqa: S307
    with rasterio.open(export(even, tmp_path / "a.tif")) as file:
        assert file.transform == Affine(10, 0, 5_000_000, 0, -10, 3_000_000)
        np.testing.assert_array_equal(file.read(1)[:, [0, 1, 5]], uneven)
    placed = labels().drop_vars("y").assign_coords(y=2_999_995 - 10 * np.arange(60))
    assert export(placed, tmp_path / "a.tif").exists()
    row = labels()[:1]
    with pytest.raises(TimoError, match=r"data.rio.write_transform"):
        export(row, tmp_path / "a.tif")
    row = row.rio.write_transform(Affine(10, 0, 5_000_000, 0, -10, 3_000_000))
    with rasterio.open(export(row, tmp_path / "a.tif")) as file:
        assert file.transform == Affine(10, 0, 5_000_000, 0, -10, 3_000_000)
    several = prediction()[["entropy"]].assign(other=prediction()["entropy"])
    with pytest.raises(TimoError, match=r'data.to_array\("band"\)'):
        export(several, tmp_path / "a.tif")
    assert tags(several.to_array("band"), tmp_path)[1] == ("entropy", "other")
