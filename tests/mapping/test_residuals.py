import warnings

import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401 - `.rio`
import xarray as xr
from scipy.ndimage import gaussian_filter

import timo
from timo.cube import blocks, split_blocks
from timo.mapping import held_out_errors
from timo.mapping.residuals import residuals

SIDE, CELL = 120, 10.0


def grid(values, dims=("y", "x")):
    coords = {
        "y": 5_000_000 - CELL * (np.arange(SIDE) + 0.5),
        "x": 500_000 + CELL * (np.arange(SIDE) + 0.5),
    }
    return xr.DataArray(values, dims=dims, coords=coords).rio.write_crs("EPSG:32634")


def a_map(error):
    """Two classes, all labelled 0; the map gives them 0.5 plus an error."""
    probability = np.clip(0.5 + 0.1 * error, 0, 1)
    both = grid(np.stack([probability, 1 - probability]), ("class", "y", "x"))
    result = xr.Dataset({"probability": both.assign_coords({"class": ["a", "b"]})})
    return result, grid(np.zeros((SIDE, SIDE), "int8"))


@pytest.fixture(scope="module")
def patchy():
    noise = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    smooth = gaussian_filter(noise, 8, mode="wrap")  # patches of some 200 m
    return smooth / smooth.std()


def split_of(size_m):
    like = grid(np.zeros((SIDE, SIDE)))
    return split_blocks(blocks(like, size_m), "random", (0.5, 0.5, 0.0), seed=0)


def test_blocks_smaller_than_the_patches_are_refused(patchy):
    result, labels = a_map(patchy)
    errors = held_out_errors(result, labels, split_of(50))
    assert errors.correlated
    assert not errors.honest
    assert errors.block_m == 50
    assert 120 < errors.range_m <= 200
    assert errors.near_share > 0.95
    assert "blocks are too small" in errors.summary
    assert "timo.cube.blocks(cube, size_m=" in errors.summary


def test_wide_blocks_are_honest(patchy):
    result, labels = a_map(patchy)
    errors = held_out_errors(result, labels, split_of(400))
    assert errors.correlated
    assert errors.honest
    assert "blocks are wide enough" in errors.summary
    assert errors.near_share < 1


def test_errors_without_neighbours_are_honest_whatever_the_blocks():
    result, labels = a_map(np.random.default_rng(1).normal(size=(SIDE, SIDE)))
    errors = held_out_errors(result, labels, split_of(50))
    assert errors.p_value > 0.05
    assert errors.honest
    assert "not alike nearby" in errors.summary


def test_the_side_of_foreign_blocks_is_measured(patchy):
    result, labels = a_map(patchy)
    split = grid(np.zeros((SIDE, SIDE), "int8"))
    split[20:50, 20:50] = 1
    assert held_out_errors(result, labels, split).block_m == pytest.approx(300, abs=2 * CELL)


def test_only_the_part_counts(patchy):
    result, labels = a_map(patchy)
    split = split_of(50)
    elsewhere = labels.where(split == 1, -1).astype("int8")
    one, other = (held_out_errors(result, given, split) for given in (labels, elsewhere))
    assert one.range_m == other.range_m
    assert one.pixels == int((split == 1).sum())


def test_residuals_are_means_over_the_dates_that_have_both(patchy):
    result, labels = a_map(patchy)
    times = pd.to_datetime(["2019-05-01", "2019-06-01", "2019-07-01"])
    dated = result.expand_dims(time=times, axis=1).copy(deep=True)
    dated.probability[:, 0] = np.nan
    dated.probability[:, :, 0, 0] = np.nan
    found = residuals(dated, labels)
    expected = 1 - result.probability[0]
    np.testing.assert_allclose(found[0].values[1:], expected.values[1:])
    assert np.isnan(found[:, 0, 0]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        residuals(dated, labels)


def test_a_map_without_errors_and_what_is_no_map_are_refused():
    result, labels = a_map(np.zeros((SIDE, SIDE)))
    with pytest.raises(timo.TimoError, match="The errors are the same on all held-out pixels"):
        held_out_errors(result, labels, split_of(50))
    with pytest.raises(timo.TimoError, match=r"result must be an xarray.Dataset.*timo\.predict"):
        held_out_errors(result.probability, labels, split_of(50))
    with pytest.raises(timo.TimoError, match=r"result is the map of timo\.predict"):
        residuals(result.isel({"class": 0}), labels)
    with pytest.raises(timo.TimoError, match=r"split must be numbers.*Use timo.cube.split_blocks"):
        held_out_errors(result, labels, split_of(50).astype(str))


def test_too_few_pixels_are_refused(patchy):
    result, labels = a_map(patchy)
    split = grid(np.zeros((SIDE, SIDE), "int8"))
    split[0, :5] = 1
    with pytest.raises(timo.TimoError, match="has 5 pixels"):
        held_out_errors(result, labels, split)
    with pytest.raises(timo.TimoError, match="grid"):
        held_out_errors(result, labels, split[:-1])


def test_of_a_regression_the_residual_is_the_label_minus_the_value(patchy):
    value = grid(patchy.astype("float32"))
    labels = grid(np.full((SIDE, SIDE), 2.0, "float32"))
    labels[0, 0] = np.nan
    result = xr.Dataset({"value": value})
    found = residuals(result, labels)
    assert found.dims == ("class", "y", "x")
    assert np.isnan(found[0, 0, 0])
    np.testing.assert_allclose(found[0, 1:], 2 - patchy[1:], atol=1e-6)
    errors = held_out_errors(result, labels, split_of(50))
    assert not errors.honest
    assert 120 < errors.range_m <= 200
    with pytest.raises(timo.TimoError, match="must be floats, NaN = unlabelled"):
        residuals(result, labels.fillna(0).astype("int16"))
