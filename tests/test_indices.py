import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from timo.cube import ndvi, true_colour
from timo.errors import TimoError
from timo.sources import open_cube

few = settings(max_examples=50, deadline=None)


def to_cube(values, bands):
    values = np.asarray(values, "float32")
    dates, _, height, width = values.shape
    cube = xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2018-05-01", periods=dates),
            "band": list(bands),
            "y": 1000.0 - 10 * np.arange(height),
            "x": 500_000.0 + 10 * np.arange(width),
        },
        attrs={
            "sensor": "sentinel-2",
            "attribution": "made up",
            "units": "surface reflectance, 0..1",
        },
    )
    return cube.rio.write_crs("EPSG:32634")


def pixels(red, nir, bands=("B4", "B8")):
    """One date, one row."""
    return to_cube(np.stack([red, nir])[None, :, None], bands)


# --- ndvi


def test_ndvi_is_the_ratio():
    index = ndvi(pixels([0.05, 0.2, 0.3], [0.45, 0.2, 0.1]))
    assert index.dims == ("time", "y", "x")
    assert index.dtype == np.float32
    assert index.name == "ndvi"
    np.testing.assert_allclose(index.values.ravel(), [0.8, 0.0, -0.5], rtol=1e-6)
    assert index.attrs == {
        "sensor": "sentinel-2",
        "attribution": "made up",
        "long_name": "NDVI",
        "units": "1",
    }
    assert index.rio.crs.to_epsg() == 32634
    assert "band" not in index.coords


@pytest.mark.parametrize(
    ("sensor", "red", "nir"),
    [("landsat-8-9", "SR_B4", "SR_B5"), ("modis", "sur_refl_b01", "sur_refl_b02")],
)
def test_ndvi_is_of_the_sensors_own_bands(sensor, red, nir):
    cube = pixels([0.05], [0.45], (red, nir)).assign_attrs(sensor=sensor)
    assert float(ndvi(cube).squeeze()) == pytest.approx(0.8)
    assert ndvi(cube).attrs["sensor"] == sensor


def test_radar_has_no_ndvi():
    radar = pixels([-11.0], [-18.0], ("VV", "VH")).assign_attrs(sensor="sentinel-1")
    with pytest.raises(TimoError, match="The cube has no red band; it has VV, VH"):
        ndvi(radar)


def test_ndvi_is_nan_where_nothing_was_observed():
    index = ndvi(pixels([np.nan, 0.1, np.nan, 0.1], [0.4, np.nan, np.nan, 0.1]))
    assert np.isnan(index.values.ravel()).tolist() == [True, True, True, False]


def test_ndvi_of_shadows_stays_in_its_range():
    """Reflectances a little under zero, as atmospheric correction leaves them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = ndvi(pixels([-0.01, 0.0, 0.01, -0.02], [0.03, 0.0, -0.01, 0.01]))
    np.testing.assert_array_equal(index.values.ravel(), np.float32([1, np.nan, np.nan, np.nan]))


@few
@given(
    hnp.arrays(
        "float32", (2, 2, 3, 4), elements=st.floats(-0.015625, 1, width=32) | st.just(np.nan)
    )
)
def test_ndvi_is_from_minus_1_to_1(values):
    values[:, :, 0, 0] = 0.25  # what is all dark, or all NaN, is refused
    index = ndvi(to_cube(values, ["B4", "B8"])).values
    finite = index[np.isfinite(index)]
    assert (abs(finite) <= 1).all()
    assert not np.isinf(index).any()
    red, nir = values[:, 0], values[:, 1]
    assert (np.isnan(index) == ~(red + nir > 0)).all()


@few
@given(hnp.arrays("float32", (2, 1, 6), elements=st.floats(0.0625, 1, width=32)))
def test_ndvi_changes_its_sign_with_the_bands(values):
    index = ndvi(pixels(values[0, 0], values[1, 0]))
    turned = ndvi(pixels(values[1, 0], values[0, 0]))
    np.testing.assert_allclose(index.values, -turned.values)
    # Nor does the light matter, as long as it is the same for both.
    dimmed = ndvi(pixels(values[0, 0] / 2, values[1, 0] / 2))
    np.testing.assert_allclose(dimmed.values, index.values, rtol=1e-5, atol=1e-6)


def test_the_10_m_band_comes_first_and_the_20_m_band_serves():
    cube = to_cube(np.full((1, 3, 2, 2), [[[[0.1]], [[0.3]], [[0.4]]]]), ["B4", "B8A", "B8"])
    assert ndvi(cube).values.ravel()[0] == pytest.approx(0.6)
    assert ndvi(cube.sel(band=["B8A", "B4"])).values.ravel()[0] == pytest.approx(0.5)


def test_ndvi_of_a_lazy_cube_is_lazy():
    cube = pixels([0.05, 0.2], [0.45, 0.2])
    lazy = ndvi(cube.chunk(x=1))
    assert lazy.chunks
    xr.testing.assert_identical(lazy.compute(), ndvi(cube))
    values = da.full((2, 2, 3, 3), np.nan, dtype="float32")
    empty = to_cube(np.zeros((2, 2, 3, 3)), ["B4", "B8"]).copy(data=values)
    assert np.isnan(ndvi(empty)).all()


def test_ndvi_of_the_sample_is_that_of_a_forest():
    index = ndvi(open_cube("sample", start="2018-07", end="2018-08", bands=["B4", "B8"]))
    assert float(index.median()) > 0.8


def test_errors():
    cube = pixels([0.1], [0.3])
    with pytest.raises(
        TimoError, match=r"cube has no red band; it has B8\. Open it with that band"
    ):
        ndvi(cube.sel(band=["B8"]))
    with pytest.raises(TimoError, match="cube has no nir band; it has B4"):
        ndvi(cube.sel(band=["B4"]))
    with pytest.raises(TimoError, match="cube must be float32"):
        ndvi(cube.astype("float64"))
    with pytest.raises(TimoError, match="cube has no green band; it has B4, B8"):
        true_colour(cube)


# --- true colour


def test_true_colour_is_red_green_and_blue_for_the_screen():
    rng = np.random.default_rng(0)
    cube = to_cube(rng.uniform(0, 0.3, (2, 4, 20, 20)), ["B8", "B2", "B3", "B4"])
    cube[0, :, 3, 4] = np.nan
    image = true_colour(cube)
    assert image.dims == ("time", "y", "x", "rgb")
    assert list(image.rgb.values) == ["red", "green", "blue"]
    assert image.dtype == np.float32
    assert np.isnan(image.values).sum() == 3
    assert np.isnan(image.values[0, 3, 4]).all()
    assert float(image.min()) == 0
    assert float(image.max()) == 1
    # Each band is stretched by itself, in its own order.
    for name, band in zip(("red", "green", "blue"), ("B4", "B3", "B2"), strict=True):
        shown = image.sel(rgb=name, drop=True).isel(time=1).values.ravel()
        truth = cube.sel(band=band, drop=True).isel(time=1).values.ravel()
        assert (np.diff(shown[np.argsort(truth)]) >= 0).all()
        assert (shown == 1).mean() == pytest.approx(0.02, abs=0.005)


def test_true_colour_of_one_grey_and_of_nothing():
    values = np.full((2, 3, 4, 4), 0.2)
    values[1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = true_colour(to_cube(values, ["B2", "B3", "B4"]))
    assert np.isfinite(image.values[0]).all()
    assert np.isnan(image.values[1]).all()
