"""Rasters on any grid as labels: codes, no data, majority, windows of large ones."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray
import xarray as xr
from ground_truth import CELL, LEFT, TOP, make_cube
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

import timo
from timo.cube import check_labels
from timo.errors import TimoError

CUBE = make_cube()


def raster(values, *, step=CELL, left=LEFT, top=TOP, crs=32633, **attrs):
    """An array whose first cell has its corner at left, top."""
    values = np.asarray(values)
    coords = {
        "y": top - step * (np.arange(values.shape[-2]) + 0.5),
        "x": left + step * (np.arange(values.shape[-1]) + 0.5),
    }
    return xr.DataArray(values, dims=("y", "x"), coords=coords, attrs=attrs).rio.write_crs(crs)


def written(path, values, nodata=None, *, left=LEFT, top=TOP, step=CELL, crs=32633):
    """The path of a GeoTIFF."""
    options = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1}
    transform = from_origin(left, top, step, step)
    with rasterio.open(
        path, "w", **options, dtype=values.dtype, crs=crs, nodata=nodata, transform=transform
    ) as f:
        f.write(values, 1)
    return path


def counts(labels):
    """Class -> pixels, "" for those without."""
    names = [*labels.attrs["classes"], ""]
    numbers, found = np.unique(labels, return_counts=True)
    return {names[number]: int(count) for number, count in zip(numbers, found, strict=True)}


CODES = np.where(np.arange(15) < 5, 10, 40)[None].repeat(12, 0)
CODES[:, 12:] = 0


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "int64"])
@pytest.mark.parametrize("masked", [False, True, "path", "text"])
def test_a_land_cover_map_on_the_grid(dtype, masked, tmp_path):
    """Codes are names, the file's nodata is none of them, however it was opened."""
    path = written(tmp_path / "map.tif", CODES.astype(dtype), nodata=0)
    source = {
        "path": path,
        "text": str(path),
    }.get(masked)
    if source is None:
        source = rioxarray.open_rasterio(path, masked=masked)
    labels = check_labels(timo.read_labels(source, CUBE), CUBE)
    assert labels.attrs["classes"] == ["10", "40"]
    assert counts(labels) == {"10": 60, "40": 84, "": 36}
    assert labels.dtype == "int16"
    named = timo.read_labels(source, CUBE, classes={40: "crop", 10: "tree", 60: "bare"})
    assert named.attrs["classes"] == ["crop", "tree", "bare"]
    assert (named.values[0, [0, 6, 14]] == [1, 0, -1]).all()
    assert named.attrs["report"].left_out.values.tolist() == [["no data", 0, 36]]


def test_what_a_raster_holds_and_classes_do_not_is_refused(tmp_path):
    path = written(tmp_path / "map.tif", CODES.astype("uint8"))
    with pytest.raises(
        TimoError, match=r"map\.tif holds '0', and classes= has '10', '40'.*ignore=\['0'"
    ):
        timo.read_labels(path, CUBE, classes={10: "tree", 40: "crop"})
    labels = timo.read_labels(path, CUBE, classes={10: "tree", 40: "crop"}, ignore=["0"])
    assert counts(labels) == {"tree": 60, "crop": 84, "": 36}
    assert labels.attrs["report"].left_out.values.tolist() == [["ignored", 0, 36]]
    with pytest.raises(TimoError, match="a number is never a position"):
        timo.read_labels(path, CUBE, classes=["none", "tree", "crop"])
    below = raster(np.where(CODES == 0, -9999, CODES))
    with pytest.raises(TimoError, match=r"holds -9999, and numbers below 0.*ignore=\[-9999\]"):
        timo.read_labels(below, CUBE)
    assert counts(timo.read_labels(below, CUBE, ignore=[-9999])) == {"10": 60, "40": 84, "": 36}


def test_a_nodata_value_that_classes_names_is_a_class(tmp_path):
    path = written(tmp_path / "map.tif", CODES.astype("uint8"), nodata=0)
    labels = timo.read_labels(path, CUBE, classes={0: "other", 10: "tree", 40: "crop"})
    assert counts(labels) == {"other": 36, "tree": 60, "crop": 84}


def test_booleans_are_two_classes():
    labels = timo.read_labels(raster(CODES == 10), CUBE)
    assert counts(labels) == {"False": 120, "True": 60}


# --- other grids


@pytest.mark.parametrize("shift", [0.0, 2.5])
def test_majority_of_a_finer_raster(shift):
    """Each pixel has the class of most of its 16 cells; what has no class counts as one."""
    rng = np.random.default_rng(0)
    fine = rng.integers(-1, 3, (48, 60)).astype("int8")
    labels = timo.read_labels(raster(fine, step=CELL / 4, left=LEFT + shift), CUBE)
    blocks = fine.reshape(12, 4, 15, 4).swapaxes(1, 2).reshape(12, 15, 16)
    if shift:
        wide = np.pad(fine, ((0, 0), (1, 0)), constant_values=-1)[:, :60]
        blocks = wide.reshape(12, 4, 15, 4).swapaxes(1, 2).reshape(12, 15, 16)
        blocks, labels = blocks[:, 1:], labels[:, 1:]
    votes = np.stack([(blocks == number).sum(-1) for number in range(-1, 3)])
    clear = np.sort(votes, axis=0)[-1] > np.sort(votes, axis=0)[-2]
    np.testing.assert_array_equal(labels.values[clear], votes.argmax(0)[clear] - 1)
    assert clear.sum() > 100


def test_nearest_of_a_finer_raster_and_a_coarser_one():
    fine = np.arange(48 * 60).reshape(48, 60) % 7
    nearest = timo.read_labels(raster(fine, step=CELL / 4), CUBE, resampling="nearest")
    near = fine[2::4, 2::4]
    names = np.array(nearest.attrs["classes"], int)
    # A centre lies on a corner of four cells: any of them is nearest.
    around = np.stack([near, fine[1::4, 1::4], fine[1::4, 2::4], fine[2::4, 1::4]])
    assert (names[nearest] == around).any(axis=0).all()
    coarse = np.array([[1, 2, 3], [4, 5, 6]])
    for how in ("majority", "nearest"):
        labels = timo.read_labels(raster(coarse, step=5 * CELL), CUBE, resampling=how)
        names = np.array([*map(int, labels.attrs["classes"]), -1])
        expected = np.full((12, 15), -1)
        expected[:10] = coarse.repeat(5, 0).repeat(5, 1)
        np.testing.assert_array_equal(names[labels], expected)
        assert labels.attrs["report"].left_out.values.tolist() == [["outside of the raster", 0, 30]]


@settings(max_examples=20)
@given(
    step=st.floats(0.4, 4),
    left=st.floats(-60, 60),
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
)
def test_on_any_grid_labels_are_those_that_lie_there(step, left, dtype):
    """Two halves with an edge: pixels off the edge have the class of their half, those beyond none."""
    columns = int(400 / (CELL * step))
    there = LEFT + left - 100
    x = there + CELL * step * (np.arange(columns) + 0.5)
    values = np.where(x < LEFT + 70, 10, 40).astype(dtype)[None].repeat(int(300 / (CELL * step)), 0)
    source = raster(values, step=CELL * step, left=there, top=TOP + 100).rio.write_nodata(0)
    labels = timo.read_labels(source, CUBE)
    check_labels(labels, CUBE)
    reach = CELL * (step / 2 + 0.5)
    names = np.array([*labels.attrs["classes"], ""])[labels]
    assert (names[:, CUBE.x < LEFT + 70 - reach] == "10").all()
    assert (names[:, CUBE.x > LEFT + 70 + reach] == "40").all()


def test_another_reference_system_and_numbers_to_predict():
    x = np.arange(40)
    heights = raster(
        (x[None] * 2.0 + x[:, None]).astype("float32"), left=LEFT - 100, top=TOP + 100, units="m"
    )
    heights[20, 20] = np.nan
    labels = timo.read_labels(heights, CUBE, numeric=True)
    check_labels(labels, CUBE, numeric=True)
    assert labels.attrs["units"] == "m"
    expected = heights.values[10:22, 10:25]
    np.testing.assert_allclose(labels, expected, atol=1e-4)
    assert labels.attrs["report"].left_out.values.tolist() == [["no data", 0, 1]]
    there = timo.read_labels(heights.rio.reproject("EPSG:3035"), CUBE, numeric=True)
    assert float(abs(there - expected).max()) < 4
    twice = raster(heights.values[10:34, 10:40], step=CELL / 2)
    mean = timo.read_labels(twice, CUBE, numeric=True)
    with np.errstate(invalid="ignore"):
        blocks = twice.values.reshape(12, 2, 15, 2)
        np.testing.assert_allclose(mean, np.nanmean(blocks, axis=(1, 3)), atol=1e-4)
    ignored = timo.read_labels(heights, CUBE, numeric=True, ignore=[float(expected[0, 0])])
    assert np.isnan(ignored.values[0, 0])
    for how, numeric, message in (("majority", True, "no majority"), ("mean", False, "no mean")):
        with pytest.raises(TimoError, match=message):
            timo.read_labels(
                heights > 5 if not numeric else heights, CUBE, numeric=numeric, resampling=how
            )


def test_of_a_large_raster_only_the_part_around_the_cube_is_read(tmp_path, monkeypatch):
    values = np.ones((2000, 2000), "uint8")
    values[1000:1012, 1000:1015] = 2
    path = written(tmp_path / "large.tif", values, left=LEFT - 10_000, top=TOP + 10_000)
    sizes = []
    read = xr.DataArray.to_numpy
    monkeypatch.setattr(
        xr.DataArray, "to_numpy", lambda self: sizes.append(self.size) or read(self)
    )
    labels = timo.read_labels(path, CUBE)
    assert counts(labels) == {"2": 180}
    assert max(sizes) < 500
    with pytest.raises(TimoError, match="lies beside the cube: along x it goes from"):
        timo.read_labels(path, make_cube(left=LEFT + 50_000))


# --- labels of our own


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int64"])
def test_labels_of_another_grid_keep_their_classes(dtype):
    values = np.arange(180).reshape(12, 15) % 3
    own = raster(values.astype(dtype), classes=["a", "b", "c"])
    shifted = timo.read_labels(own, CUBE[:, :, 2:, 3:])
    assert shifted.attrs["classes"] == ["a", "b", "c"]
    np.testing.assert_array_equal(shifted, values[2:, 3:])
    order = timo.read_labels(own, CUBE, classes=["c", "a", "b"])
    assert order.attrs["classes"] == ["c", "a", "b"]
    np.testing.assert_array_equal(order, (values + 1) % 3)


def test_labels_with_dates_are_laid_on_the_same_days():
    values = np.stack([np.full((12, 15), n) for n in (0, 1, -1)])
    dates = pd.DatetimeIndex(["2020-06-20T10:00", "2020-09-05T00:00", "2021-01-01T00:00"])
    own = raster(values[0], classes=["a", "b"]).expand_dims(time=dates).copy(data=values)
    labels = check_labels(timo.read_labels(own, CUBE), CUBE)
    assert labels.values[:, 0, 0].tolist() == [-1, -1, 0, 1]
    with pytest.raises(TimoError, match="no date of the cube"):
        timo.read_labels(own.isel(time=[2]), CUBE)


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
def test_maps_that_timo_exports_are_read_as_labels(suffix, tmp_path):
    own = raster((CODES // 20).astype("int16") - 1, classes=["low", "high"]).rename("label")
    timo.export(own, tmp_path / f"map{suffix}")
    labels = timo.read_labels(tmp_path / f"map{suffix}", CUBE)
    assert labels.attrs["classes"] == ["low", "high"]
    np.testing.assert_array_equal(labels, own)


def test_layers_of_a_raster_are_chosen(tmp_path):
    several = xr.concat([raster(CODES), raster(CODES // 10)], pd.Index([1, 2], name="band"))
    with pytest.raises(TimoError, match=r"has the bands \[1, 2\].*layer=1"):
        timo.read_labels(several, CUBE)
    assert timo.read_labels(several, CUBE, layer=2).attrs["classes"] == ["0", "1", "4"]
    variables = xr.Dataset({"a": raster(CODES), "b": raster(CODES // 10)})
    with pytest.raises(TimoError, match=r"has the variables \['a', 'b'\].*layer='a'"):
        timo.read_labels(variables, CUBE)
    assert timo.read_labels(variables, CUBE, layer="b").attrs["classes"] == ["0", "1", "4"]


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: raster(CODES).drop_vars("spatial_ref"), {}, "no coordinate reference system"),
        (lambda: raster(CODES).rename(x="lon"), {}, "must have the dims"),
        (lambda: raster(CODES).astype(str), {}, "must hold numbers"),
        (lambda: raster(CODES * 0).rio.write_nodata(0), {}, "holds no class"),
        (
            lambda: raster(CODES),
            {"column": "a", "groups": "b"},
            "column, groups: for features.*them out",
        ),
        (lambda: raster(CODES), {"touched": True}, "touched: for features"),
        (lambda: raster(CODES == 10), {"numeric": True}, "booleans, which are classes"),
        (lambda: raster(CODES), {"numeric": True, "ignore": ["x"]}, "must be numbers"),
        (lambda: "none.tif", {}, "There is no file"),
    ],
)
def test_what_is_no_raster_of_labels_is_refused(make, options, message):
    with pytest.raises(TimoError, match=message):
        timo.read_labels(make(), CUBE, **options)


def test_a_file_that_is_no_raster(tmp_path):
    (tmp_path / "a.tif").write_text("no raster")
    with pytest.raises(TimoError, match="cannot be read as a raster"):
        timo.read_labels(tmp_path / "a.tif", CUBE)
