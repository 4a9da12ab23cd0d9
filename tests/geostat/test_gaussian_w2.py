"""The Wasserstein distance of Gaussians and the graphical lasso, against other implementations and their laws."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import sqrtm

from timo.errors import TimoError
from timo.geostat import gaussian_w2
from timo.geostat.clustering import wasserstein
from timo.geostat.clustering.gaussians import graphical_lasso

numbers = st.floats(-10, 10, allow_nan=False, width=32)


def gaussians(n, d, seed=0, samples=30):
    values = np.random.default_rng(seed).standard_normal((n, samples, d))
    values -= values.mean(axis=1, keepdims=True)
    return np.random.default_rng(seed + 1).standard_normal((n, d)), values.transpose(
        0, 2, 1
    ) @ values / samples


def by_sqrtm(mean, spread, other_mean, other):
    root = sqrtm(spread)
    return ((mean - other_mean) ** 2).sum() + np.trace(
        spread + other - 2 * np.real(sqrtm(root @ other @ root))
    )


@pytest.mark.parametrize("d", [1, 2, 5, 10])
def test_equals_sqrtm(d):
    means, covariances = gaussians(8, d)
    expected = [
        [by_sqrtm(means[i], covariances[i], means[j], covariances[j]) for j in range(8)]
        for i in range(8)
    ]
    np.testing.assert_allclose(
        gaussian_w2(means, covariances, squared=True), expected, rtol=1e-6, atol=1e-10
    )


def test_of_two_sets_is_a_block_of_that_of_all(monkeypatch):
    means, covariances = gaussians(20, 3)
    whole = gaussian_w2(means, covariances)
    part = gaussian_w2(means[:8], covariances[:8], means[8:], covariances[8:])
    np.testing.assert_allclose(part, whole[:8, 8:], rtol=1e-9)
    monkeypatch.setattr(wasserstein, "BLOCK", 200)
    np.testing.assert_allclose(gaussian_w2(means, covariances), whole, rtol=1e-9)


def test_known_values():
    # Same covariance: the distance of the means. Same mean, commuting: the distance of the standard deviations.
    assert gaussian_w2([[0, 0], [3, 4]], [np.eye(2)] * 2)[0, 1] == pytest.approx(5)
    assert gaussian_w2([[0], [0]], [[[4]], [[49]]])[0, 1] == pytest.approx(5)
    assert gaussian_w2([[1, 1]], [np.zeros((2, 2))], [[1, 2]], [np.eye(2)], squared=True)[
        0, 0
    ] == pytest.approx(3)


@settings(max_examples=60, deadline=None)
@given(arrays(float, (4, 3), elements=numbers), arrays(float, (4, 3, 3), elements=numbers))
def test_laws_of_a_distance(means, roots):
    """Symmetric, zero on the diagonal, positive, the triangle: also for singular covariances."""
    result = gaussian_w2(means, roots @ roots.transpose(0, 2, 1))
    assert (result == result.T).all()
    assert (np.diag(result) == 0).all()
    assert (result >= 0).all()
    shift = np.linalg.norm(means[:, None] - means, axis=-1)
    assert (result >= shift - 1e-3).all()
    assert (result[:, :, None] <= result[:, None] + result.T[None] + 1e-3).all()


def test_refuses_what_are_no_gaussians():
    with pytest.raises(TimoError, match=r"means \(n, d\)"):
        gaussian_w2(np.zeros((3, 2)), np.zeros((3, 3, 3)))
    with pytest.raises(TimoError, match="finite"):
        gaussian_w2(np.full((1, 1), np.nan), np.ones((1, 1, 1)))
    with pytest.raises(TimoError, match="other_means"):
        gaussian_w2(np.zeros((1, 1)), np.ones((1, 1, 1)), np.zeros((1, 1)))
    with pytest.raises(TimoError, match="dimensions"):
        gaussian_w2(np.zeros((1, 1)), np.ones((1, 1, 1)), np.zeros((1, 2)), np.eye(2)[None])


@pytest.mark.parametrize(("d", "alpha"), [(2, 0.01), (5, 0.01), (5, 0.2), (8, 0.05)])
def test_graphical_lasso_equals_that_of_scikit_learn(d, alpha):
    covariance = pytest.importorskip("sklearn.covariance")
    _, empirical = gaussians(10, d)
    ours, converged = graphical_lasso(empirical, alpha, tol=1e-7)
    assert converged.all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [
            covariance.graphical_lasso(one, alpha, tol=1e-7, enet_tol=1e-7, max_iter=500)[0]
            for one in empirical
        ]
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_graphical_lasso_leaves_the_covariance_without_penalty_and_only_variances_with_much():
    _, empirical = gaussians(5, 4)
    ours, converged = graphical_lasso(empirical, 0.0, tol=1e-8)
    assert converged.all()
    np.testing.assert_allclose(ours, empirical, atol=1e-4)
    ours, _ = graphical_lasso(empirical, 10.0)
    np.testing.assert_allclose(ours, empirical * np.eye(4), atol=1e-9)


def test_graphical_lasso_says_which_fits_failed():
    _, empirical = gaussians(3, 4)
    empirical[1] = np.ones((4, 4))  # four features that are one
    _, converged = graphical_lasso(empirical, 1e-9, max_sweeps=20)
    assert converged.tolist() == [True, False, True]
