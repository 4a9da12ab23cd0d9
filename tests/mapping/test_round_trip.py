"""Whatever `timo.export` writes, rioxarray, xarray and `timo.open_cube` read back."""

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import rioxarray
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import timo
from timo.mapping.export import export

# A projection of no authority, as institutes have them.
LAMBERT = pyproj.CRS.from_proj4(
    "+proj=laea +lat_0=47 +lon_0=11.5 +x_0=0 +y_0=0 +ellps=bessel +units=m"
).to_wkt()
GRIDS = {
    "EPSG:32634": (500_000, 5_000_000, 10),
    "EPSG:3035": (4_321_000, 3_210_000, 30),
    "EPSG:4326": (11.5, 47.25, 0.125),
    LAMBERT: (-2_000, 4_000, 20),
}
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
TYPES = [*INTEGERS, "bool", "float16", "float32", "float64"]
NAMES = st.text(
    st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="/"),
    min_size=1,
    max_size=9,
).filter(lambda name: name == name.strip())


@dataclass
class Case:
    """Data, the nodata value given, and where the data are valid."""

    data: xr.DataArray
    nodata: float | None

    @property
    def valid(self) -> xr.DataArray:
        valid = self.data.notnull()  # noqa: PD004
        return valid if self.nodata is None else valid & (self.data != self.nodata)


@st.composite
def cases(draw, *, most_dims=4, names=NAMES, infinite=True) -> Case:
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    kinds = ["", "time", "band", "class", "time band", "band time"][: None if most_dims == 4 else 4]
    kinds = draw(st.sampled_from(kinds))
    sizes = {name: draw(st.integers(1, 3)) for name in kinds.split()}
    if len(sizes) == 2:  # of a cube, one date or one band
        sizes[draw(st.sampled_from(sorted(sizes)))] = 1
    sizes |= {"y": draw(st.integers(2, 5)), "x": draw(st.integers(2, 5))}
    random = np.random.default_rng(draw(st.integers(0, 99)))
    given_nodata = draw(st.none() | st.sampled_from(_possible(dtype)))
    data = xr.DataArray(
        _values(random, dtype, tuple(sizes.values()), given_nodata, infinite), dims=list(sizes)
    )
    data = _coordinates(draw, data, names)
    west, north, cell = GRIDS[crs := draw(st.sampled_from(list(GRIDS)))]
    x, y = (cell * (np.arange(sizes[dim]) + 0.5) for dim in ("x", "y"))
    data = data.assign_coords(x=west + x, y=north - y).rio.write_crs(crs)
    flips = {dim: slice(None, None, -1) for dim in ("y", "x") if draw(st.booleans())}
    data = data.isel(flips).transpose(*draw(st.permutations(list(sizes))))
    if draw(st.booleans()):
        data = data.chunk(2)
    return Case(data.rename(draw(st.sampled_from(["depth", "data"]))), given_nodata)


def _possible(dtype: np.dtype) -> list[float]:
    if dtype.kind == "b":
        return [255]
    if dtype.kind == "f":
        return [-9999.0, float("nan"), float(np.finfo(dtype).min)]
    info = np.iinfo(dtype)
    return [max(info.min, -(2**53)), min(info.max, 2**53), 0]


def _values(
    random, dtype: np.dtype, shape: tuple[int, ...], nodata: float | None, infinite: bool
) -> np.ndarray:
    values = random.integers(0, 100, shape).astype(dtype)
    gaps = random.random(shape) < 0.2
    if dtype.kind == "f":
        values[gaps] = np.nan if nodata is None else random.choice([np.nan, nodata])
        values[(random.random(shape) < 0.1) & infinite] = np.inf
    elif nodata is not None and dtype.kind != "b":
        values[gaps] = nodata
    return values


def _coordinates(draw, data: xr.DataArray, names) -> xr.DataArray:
    if "time" in data.dims or draw(st.booleans()):
        unit = draw(st.sampled_from(["D", "s", "ns"]))
        first = np.datetime64(
            draw(st.dates(pd.Timestamp("1985-01-01").date(), pd.Timestamp("2060-01-01").date()))
        )
        times = first.astype(f"M8[{unit}]") + np.arange(data.sizes.get("time", 1)) * np.timedelta64(
            40, "h" if unit != "D" else "D"
        )
        data = data.assign_coords(time=times if "time" in data.dims else times[0])
    for dim in ("band", "class"):
        if dim in data.dims:
            data = data.assign_coords(
                {
                    dim: draw(
                        st.lists(
                            names, min_size=data.sizes[dim], max_size=data.sizes[dim], unique=True
                        )
                    )
                }
            )
    if not {"band", "class"} & set(data.dims) and draw(st.booleans()):
        data = data.assign_coords(band=draw(names))
    return data


def north_up(data: xr.DataArray) -> xr.DataArray:
    """(..., y, x) without dimensions of size 1 besides."""
    data = data.squeeze(
        [dim for dim in data.dims if dim not in ("y", "x") and data.sizes[dim] == 1]
    )
    return data.sortby("x").sortby("y", ascending=False).transpose(..., "y", "x")


def assert_same(read: xr.DataArray, case: Case, *, masked: bool) -> None:
    """Compare values, where they are valid, and the place; `read` has NaN, or else the nodata value, elsewhere."""
    expected, valid, read = north_up(case.data), north_up(case.valid).values, north_up(read)
    assert read.shape == expected.shape
    np.testing.assert_array_equal(read.values[valid], expected.values[valid])
    if masked:
        np.testing.assert_array_equal(np.isnan(read.values), ~valid)
    for dim in ("y", "x"):
        np.testing.assert_allclose(read[dim], expected[dim], rtol=1e-9)
    assert pyproj.CRS(read.rio.crs.to_wkt()) == pyproj.CRS(expected.rio.crs.to_wkt())


def write(case: Case, suffix: str, folder: str) -> Path:
    before = case.data.copy(deep=True)
    path = export(case.data, Path(folder) / f"map{suffix}", nodata=case.nodata)
    xr.testing.assert_identical(case.data, before)
    return path


def iso(time: np.datetime64) -> str:
    moment = pd.Timestamp(time)
    return moment.date().isoformat() if moment == moment.normalize() else moment.isoformat()


@given(cases())
@settings(max_examples=25)
def test_rioxarray_reads_geotiffs_back(case):
    with tempfile.TemporaryDirectory() as folder:
        path = write(case, ".tif", folder)
        with (
            rioxarray.open_rasterio(path) as read,
            rioxarray.open_rasterio(path, masked=True) as masked,
        ):
            assert_same(masked, case, masked=True)
            assert_same(read, case, masked=False)
            nodata = read.rio.nodata
    expected = np.nan if case.nodata is None and case.data.dtype.kind == "f" else case.nodata
    np.testing.assert_equal(nodata, expected if expected is None else read.dtype.type(expected))
    kept = {"bool": "uint8", "float16": "float32"}
    assert read.dtype == kept.get(case.data.dtype.name, case.data.dtype)
    _assert_named(read, case.data)


def _assert_named(read: xr.DataArray, data: xr.DataArray) -> None:
    dims = [dim for dim in data.dims if dim not in ("y", "x")]
    dim = next((d for d in dims if data.sizes[d] > 1 or len(dims) == 1), None)
    if dim is None:
        band = data.coords.get("band")
        names = [data.name if band is None else band.values.item()]
    else:
        names = [iso(v) if dim == "time" else v for v in data[dim].values]
    said = read.attrs["long_name"]
    assert [said] == names if isinstance(said, str) else list(said) == names
    one_date = "time" in data.coords and data["time"].size == 1
    assert read.attrs.get("ACQUISITION_DATE") == (
        iso(data["time"].values.ravel()[0]) if one_date else None
    )


@given(cases(), st.sampled_from([".nc", ".zarr"]))
@settings(max_examples=25)
def test_xarray_reads_stores_back(case, suffix):
    if case.data.dtype == bool:
        case.nodata = None
    with tempfile.TemporaryDirectory() as folder:
        path = write(case, suffix, folder)
        engine = "zarr" if suffix == ".zarr" else "netcdf4"
        with xr.open_dataset(path, engine=engine, decode_coords="all") as opened:
            read = opened[case.data.name].load()
    masked = read.dtype.kind == "f"
    assert_same(read, case, masked=masked)
    data = case.data
    if data.dtype.kind in "iub" and (
        data.dtype.itemsize > 1 or suffix == ".zarr" or case.nodata is None
    ):
        assert read.dtype == data.dtype
        assert read.rio.nodata == case.nodata
    for name in {"time", "band", "class"} & set(data.coords):
        np.testing.assert_array_equal(read[name], data[name])


# rioxarray takes a comma in a name for the end of it, and fails where there are four dimensions.
@given(
    cases(most_dims=3, names=st.from_regex(r"[A-Za-z][A-Za-z0-9 _.-]{0,8}[a-z0-9]", fullmatch=True))
)
@settings(max_examples=12)
def test_rioxarray_reads_netcdf_back(case):
    if case.data.dtype == bool:
        case.nodata = None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write(case, ".nc", folder)
        with rioxarray.open_rasterio(path, masked=True) as opened:
            read = opened.load()
    read = read[case.data.name] if isinstance(read, xr.Dataset) else read
    assert_same(read, case, masked=case.nodata is not None or case.data.dtype.kind == "f")


WORDS = st.from_regex(r"[a-z]{3,7} ?[0-9]?", fullmatch=True).map(str.strip)


# A cube holds no infinite values: they are refused.
@given(cases(names=WORDS, infinite=False), st.sampled_from([".tif", ".nc", ".zarr"]))
@settings(max_examples=20)
def test_open_cube_reads_everything_back(case, suffix):
    if case.data.dtype == bool and suffix != ".tif":
        case.nodata = None
    data, valid = ((north_up(array)) for array in (case.data, case.valid))
    dated = "time" in data.coords
    with tempfile.TemporaryDirectory() as folder:
        path = write(case, suffix, folder)
        options = {} if dated else {"dates": ["2018-07-01"]}
        cube = timo.open_cube("files", path=path, **options).load()
    days = np.atleast_1d(data["time"].values if dated else np.datetime64("2018-07-01"))
    np.testing.assert_array_equal(cube["time"], days.astype("M8[D]"))
    dim = next((dim for dim in ("band", "class") if dim in data.dims), None)
    one = data.coords.get("band", data.coords.get("class", data.name))
    assert cube["band"].values.tolist() == np.atleast_1d(data[dim] if dim else one).tolist()
    assert cube.dtype == "float32"
    valid = valid.all(dim) if dim in valid.dims else valid  # of a cube, in all bands or in none
    expected = data.where(valid).transpose(*data.dims).astype("float32").values.reshape(cube.shape)
    np.testing.assert_array_equal(cube.values, expected)
    for dim in ("y", "x"):
        np.testing.assert_allclose(cube[dim], data[dim], rtol=1e-9)
    assert pyproj.CRS(cube.rio.crs.to_wkt()) == pyproj.CRS(data.rio.crs.to_wkt())
