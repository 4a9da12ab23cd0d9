"""Simulated farmland: the truth beside it is the truth, and it is neither trivial nor hopeless."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import timo
from timo.errors import TimoError
from timo.sources.simulated import CLASSES, simulate


def test_the_parcels_are_the_truth_of_the_labels():
    place = simulate(pixels=48, dates=12, seed=3)
    assert place.cube.dims == ("time", "band", "y", "x")
    assert place.cube.shape == (12, 10, 48, 48)
    assert place.labels.attrs["classes"] == list(CLASSES)
    assert place.parcels.crs == place.cube.rio.crs
    for row in place.parcels.itertuples():
        inside = place.labels.values[place.labels.feature.values == row.parcel]
        assert set(inside) <= {list(CLASSES).index(row.crop)}
    tracks = place.labels.feature.values < 0
    assert (place.labels.values[tracks] == -1).all()
    assert 0.05 < tracks.mean() < 0.4
    # A parcel lies where its pixels do.
    largest = place.parcels.iloc[place.parcels.area.argmax()]
    rows, columns = np.nonzero(place.labels.feature.values == largest.parcel)
    assert abs(largest.geometry.centroid.x - place.cube.x.values[columns].mean()) < 10
    assert abs(largest.geometry.centroid.y - place.cube.y.values[rows].mean()) < 10


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 50), clouds=st.sampled_from([0.0, 0.3, 0.7]))
def test_the_same_seed_gives_the_same_place_and_clouds_are_as_asked(seed, clouds):
    one, two = (simulate(pixels=24, dates=36, clouds=clouds, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(one.cube.values, two.cube.values)
    assert abs(float(one.cube.isnull().mean()) - clouds) < 0.35
    assert (one.cube.isnull().any("band") == one.cube.isnull().all("band")).all()


def test_crops_have_their_seasons():
    place = simulate(pixels=96, clouds=0, difficulty=0, seed=1)
    ndvi = timo.cube.ndvi(place.cube)

    def on(date: str, crop: str) -> float:
        here = place.labels == place.labels.attrs["classes"].index(crop)
        return float(ndvi.sel(time=date, method="nearest").where(here).median())

    assert on("2020-05-05", "winter wheat") > 0.7
    assert on("2020-05-05", "maize") < 0.4
    assert on("2020-08-05", "maize") > 0.7
    assert on("2020-08-05", "winter wheat") < 0.5
    assert min(on("2020-05-05", "grassland"), on("2020-08-05", "grassland")) > 0.55


def test_a_regression_gets_most_of_it_and_not_all():
    right = []
    for seed in (1, 2, 3):
        place = simulate(seed=seed)
        monthly = place.cube.resample(time="1MS").median()
        monthly = monthly.interpolate_na("time", method="nearest", fill_value="extrapolate")
        x = monthly.values.reshape(-1, 96 * 96).T
        y, parcel = place.labels.values.ravel(), place.labels.feature.values.ravel()
        known = np.flatnonzero((y >= 0) & np.isfinite(x).all(axis=1))[::10]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        folds = {"groups": parcel[known], "cv": GroupKFold(3)}
        right.append((cross_val_predict(model, x[known], y[known], **folds) == y[known]).mean())
    assert 0.65 < np.mean(right) < 0.87


def test_unknown_classes_are_refused():
    with pytest.raises(TimoError, match="'barley' is unknown"):
        simulate(classes=["maize", "barley"])
    with pytest.raises(TimoError, match="at least two"):
        simulate(classes=["maize"])
