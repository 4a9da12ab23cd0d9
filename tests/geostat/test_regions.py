"""Regions of maps, points and series with a planted truth; odd input."""

import warnings

import numpy as np
import pytest
import xarray as xr

from timo.errors import TimoError
from timo.geostat import find_regions, local_gaussians
from timo.geostat.clustering import density
from timo.geostat.clustering.layout import rows_of
from timo.geostat.clustering.regions import mcgta_loss, range_of
from timo.geostat.models import VariogramModel

sklearn = pytest.importorskip("sklearn")
from sklearn.cluster import DBSCAN, KMeans  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402

SIDE = 24


def planted_map(seed=0, step=10.0):
    """West and east of a map: the two features go together, or against each other."""
    first, second = np.random.default_rng(seed).standard_normal((2, SIDE, SIDE))
    truth = np.broadcast_to(np.arange(SIDE) >= SIDE // 2, (SIDE, SIDE)).astype(int)
    values = np.stack([first, np.where(truth, -0.9, 0.9) * first + np.sqrt(1 - 0.81) * second])
    coords = {"y": step * np.arange(SIDE)[::-1], "x": step * np.arange(SIDE)}
    return xr.DataArray(
        values, dims=("feature", "y", "x"), coords=coords, attrs={"crs": "EPSG:32633"}
    ), truth


def series(seed=0):
    random = np.random.default_rng(seed)
    signs = np.repeat([1, -1], (150, 110))
    first, second = random.standard_normal((2, signs.size))
    values = np.column_stack([first, 0.9 * signs * first + 0.4 * second])
    time = np.datetime64("2018-01-01") + 5 * np.arange(signs.size)
    return xr.DataArray(values, dims=("time", "feature"), coords={"time": time})


def test_regions_can_be_written_whatever_the_features_file_was_like(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 12, 12))
    coords = {"y": 10.0 * np.arange(12)[::-1], "x": 10.0 * np.arange(12)}
    features = xr.DataArray(values, dims=("feature", "y", "x"), coords=coords)
    features.encoding = {"_FillValue": np.nan, "scale_factor": 1e-4, "dtype": "int16"}
    regions = find_regions(features, k=12, n_regions=2)
    regions.to_netcdf(tmp_path / "r.nc")
    with xr.open_dataarray(tmp_path / "r.nc") as again:
        np.testing.assert_array_equal(again, regions)
        assert again.dtype == regions.dtype
    features.attrs["_FillValue"] = float(values[0, 0, 0])
    with pytest.raises(TimoError, match="nodata"):
        find_regions(features, k=12)


def test_finds_regions_that_differ_only_in_covariance():
    features, truth = planted_map()
    regions = find_regions(features, noise="join")
    assert regions.dims == ("y", "x")
    assert regions.attrs["n_regions"] == 2
    xr.testing.assert_equal(regions.x, features.x)
    ours = adjusted_rand_score(truth.ravel(), regions.values.ravel())
    flat = features.values.reshape(2, -1).T
    theirs = adjusted_rand_score(
        truth.ravel(), KMeans(2, n_init=3, random_state=0).fit_predict(flat)
    )
    assert ours > 0.7
    assert theirs < 0.05


def test_a_map_is_its_points_and_the_order_of_dims_is_free():
    features, _ = planted_map()
    regions = find_regions(features)
    points = features.stack(point=("y", "x")).reset_index("point").transpose("point", "feature")
    np.testing.assert_array_equal(find_regions(points), regions.values.ravel())
    np.testing.assert_array_equal(find_regions(features.transpose("x", "feature", "y")), regions)
    np.testing.assert_array_equal(find_regions(features.rename(feature="time")), regions)
    odd = features.rename(feature="pc")
    np.testing.assert_array_equal(find_regions(odd, feature="pc"), regions)


def test_degrees_are_metres_on_the_sphere():
    features, truth = planted_map(step=0.001)
    features.attrs["crs"] = "EPSG:4326"
    regions = find_regions(features, n_regions=2, noise="join")
    assert adjusted_rand_score(truth.ravel(), regions.values.ravel()) > 0.7
    assert 100 < regions.attrs["range"] < 3600  # of 0.023 degrees, some 2.6 km


def test_missing_cells_take_no_part():
    features, truth = planted_map()
    features[1, :3, :5] = np.nan
    regions = find_regions(features, n_regions=2, noise="join")
    assert (regions[:3, :5] == -1).all()
    inside = (regions >= 0).values
    assert inside.sum() == SIDE * SIDE - 15
    assert adjusted_rand_score(truth[inside], regions.values[inside]) > 0.7


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_segments_a_series(seed):
    regions = find_regions(series(seed), n_regions=2, noise="join")
    changes = np.flatnonzero(np.diff(regions)) + 1
    assert regions.dims == ("time",)
    assert len(changes) == 1
    assert abs(changes[0] - 150) <= 12


def test_number_of_regions_and_radius():
    features, _ = planted_map()
    two = find_regions(features, n_regions=2)
    assert set(np.unique(two)) <= {-1, 0, 1}
    assert (two == 1).sum() > 100
    assert (two == 0).sum() >= (two == 1).sum()
    assert (find_regions(features, eps=1e6) == 0).all()
    assert (find_regions(features, eps=1e-9) == -1).all()
    with pytest.warns(RuntimeWarning, match="No radius gives 40 regions"):
        find_regions(features, n_regions=40)


def test_nothing_is_changed_and_the_same_is_found_again():
    features, _ = planted_map()
    before = features.copy(deep=True)
    xr.testing.assert_identical(find_regions(features), find_regions(features))
    xr.testing.assert_identical(features, before)


def test_unit_of_a_feature_does_not_matter():
    features, _ = planted_map()
    scaled = features * xr.DataArray([1000.0, 0.01], dims="feature") + 5
    np.testing.assert_array_equal(find_regions(features), find_regions(scaled))


def test_local_gaussians_are_those_of_the_neighbours():
    features, _ = planted_map()
    local = local_gaussians(features, k=9, alpha=0.0, standardise=False)
    assert local["mean"].shape == (SIDE * SIDE, 2)
    assert not local.fallback.any()
    cell = 5 * SIDE + 7
    around = features.values[:, 4:7, 6:9].reshape(2, -1)
    np.testing.assert_allclose(local["mean"][cell], around.mean(axis=1))
    np.testing.assert_allclose(local.covariance[cell], np.cov(around, bias=True), atol=1e-4)


def test_degenerate_fits_fall_back_with_one_warning():
    features, _ = planted_map()
    features[1, :12] = 3.0  # constant in the northern half
    with pytest.warns(RuntimeWarning, match="shrunk covariances") as caught:
        local = local_gaussians(features)
    assert len(caught) == 1
    assert 0 < local.fallback.sum() < SIDE * SIDE
    assert (np.linalg.eigvalsh(local.covariance.values) > 0).all()
    with pytest.warns(RuntimeWarning, match="shrunk covariances"):
        assert find_regions(features).attrs["n_regions"] >= 2


def test_a_constant_map_is_refused():
    features, _ = planted_map()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TimoError, match="same local Gaussian"):
            find_regions(features * 0 + 1.1)


def test_loss_is_symmetric_and_never_below_the_distance():
    features, _ = planted_map()
    rows = rows_of(features)
    w2 = np.subtract.outer(rows.values[:, 0], rows.values[:, 0]) ** 2
    distance = rows.distances()
    plain, loss = (mcgta_loss(w2, distance, beta=beta, delta=0.1) for beta in (0, 2))
    np.testing.assert_array_equal(plain.values, w2)
    np.testing.assert_array_equal(loss.values, loss.values.T)
    assert (np.diag(loss.values) == 0).all()
    assert (loss.values >= w2).all()
    far = distance >= loss.rho
    np.testing.assert_array_equal(loss.values[far], w2[far])


def test_range_is_the_first_lag_at_95_percent_of_the_sill():
    model = VariogramModel("exponential", 2.0, 100.0)
    assert range_of(model, 500) == pytest.approx(100, abs=1)
    assert range_of(model, 50) == 50
    assert range_of(VariogramModel("exponential", 2.0, 100.0, nugget=1.99), 500) <= 1


@pytest.mark.parametrize("samples", [3, 10])
def test_dbscan_equals_that_of_scikit_learn(samples):
    places = np.random.default_rng(0).standard_normal((300, 2))
    loss = np.linalg.norm(places[:, None] - places, axis=-1)
    cores = density.reach_of(loss, samples).cores
    for eps in np.quantile(cores, [0.1, 0.4, 0.8]):
        ours = density.dbscan(loss, eps, samples)
        theirs = DBSCAN(eps=eps, min_samples=samples, metric="precomputed").fit(loss)
        core = theirs.core_sample_indices_
        assert adjusted_rand_score(theirs.labels_[core], ours[core]) == pytest.approx(1)
        np.testing.assert_array_equal(ours == -1, theirs.labels_ == -1)


def test_silhouette_equals_that_of_scikit_learn_but_for_the_point_itself():
    places = np.concatenate([np.zeros((4, 1)), np.full((4, 1), 3.0), np.full((2, 1), 9.0)])
    loss = abs(places - places.T)
    labels = np.array([0] * 4 + [1] * 4 + [-1] * 2)
    assert density.silhouette(loss, labels) == pytest.approx(0.8)
    assert density.silhouette(loss, np.zeros(10, int)) == -1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_points": 100}, "Coarsen or sample"),
        ({"k": 1}, "k must be a whole number of 2 or more"),
        ({"k": 10_000}, "too few for k = 10000"),
        ({"min_samples": 10_000}, "min_samples must be at most"),
        ({"eps": "knee"}, "eps must be a number above 0 or one of 'auto'"),
        ({"eps": 1.0, "n_regions": 2}, "either eps or n_regions"),
        ({"metric": "time"}, "Features are a map"),
        ({"feature": "band"}, "band"),
    ],
)
def test_bad_options_are_met_at_the_door(options, message):
    features, _ = planted_map()
    with pytest.raises(TimoError, match=message):
        find_regions(features, **options)


def test_bad_features_are_met_at_the_door():
    features, _ = planted_map()
    with pytest.raises(TimoError, match="Stack them first"):
        find_regions(features.expand_dims(time=3))
    with pytest.raises(TimoError, match="Fill the gaps"):
        find_regions(features * np.nan)
    for empty in (features[:0], features[:, :0]):
        with pytest.raises(TimoError, match="No point has a value"):
            find_regions(empty)
    with pytest.raises(TimoError, match="features must be real numbers"):
        find_regions(features.astype(str))
    with pytest.raises(TimoError, match="Features are a map"):
        find_regions(features.isel(y=0, x=0, drop=True))


def test_noise_joins_the_nearest_region():
    places = np.array([[0.0], [1], [2], [10], [11], [12], [4]])
    loss = abs(places - places.T)
    labels = density.dbscan(loss, 1.5, 3)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert density.join_noise(loss, labels).tolist() == [0, 0, 0, 1, 1, 1, 0]
    assert (density.join_noise(loss, np.full(7, -1)) == -1).all()
