"""What holds of kriging whatever the points are."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.geostat.kriging import krige
from timo.geostat.kriging.ordinary import Search, weigh
from timo.geostat.kriging.weights import Correlations
from timo.geostat.models import VariogramModel
from timo.geostat.places import Places, points

few = settings(max_examples=25, deadline=None)
models = st.builds(
    lambda kind, sill, span, share: VariogramModel(kind, sill, span, share * sill),
    st.sampled_from(["exponential", "spherical"]),
    st.floats(1e-3, 1e3),
    st.floats(1, 1e4),
    st.floats(0, 1),
)
searches = st.sampled_from([Search(5), Search(12), Search(None)])


def drawn(seed, n=25):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1000, (2, n)), rng.normal(size=n), rng.uniform(-200, 1200, (2, 6))


def told(where, values, cells, model, search):
    grid = points(*cells, np.zeros(cells.shape[1]))
    return krige(points(*where, values), grid, model, neighbours=search.neighbours)


def assert_same(a, b, scale=1.0):
    np.testing.assert_allclose(a["mean"], b["mean"], atol=1e-8 * scale)
    np.testing.assert_allclose(a["variance"], b["variance"], rtol=1e-6, atol=1e-9)


@few
@given(st.integers(0, 999), models, searches, st.sampled_from(["microscale", "measurement"]))
def test_weights_sum_to_one(seed, model, search, noise):
    where, _, cells = drawn(seed)
    for block in weigh(Places(*where), Places(*cells), Correlations(model, noise), search):
        np.testing.assert_allclose(block.weights.sum(axis=1), 1, atol=1e-9)
        assert (block.variance >= -1e-9 * model.sill).all()


@few
@given(st.integers(0, 999), models, searches, st.floats(-1e6, 1e6))
def test_a_constant_added_to_the_values_is_added_to_the_mean(seed, model, search, constant):
    where, values, cells = drawn(seed)
    plain = told(where, values, cells, model, search)
    raised = told(where, values + constant, cells, model, search)
    raised["mean"] = raised["mean"] - constant
    assert_same(plain, raised)


@few
@given(st.integers(0, 999), models, searches)
def test_the_order_of_the_points_does_not_matter(seed, model, search):
    where, values, cells = drawn(seed)
    order = np.random.default_rng(seed).permutation(len(values))
    plain = told(where, values, cells, model, search)
    assert_same(plain, told(where[:, order], values[order], cells, model, search))


@few
@given(st.integers(0, 999), models, searches, st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_moving_everything_changes_nothing(seed, model, search, east, north):
    where, values, cells = drawn(seed)
    by = np.array([[east], [north]])
    plain = told(where, values, cells, model, search)
    assert_same(plain, told(where + by, values, cells + by, model, search), 100)


@few
@given(st.integers(0, 999), models, searches, st.floats(0.01, 100))
def test_another_unit_of_the_values_changes_the_unit_of_the_map(seed, model, search, factor):
    where, values, cells = drawn(seed)
    scaled = VariogramModel(
        model.kind, model.sill * factor**2, model.range_m, model.nugget * factor**2
    )
    plain = told(where, values, cells, model, search)
    other = told(where, values * factor, cells, scaled, search)
    np.testing.assert_allclose(other["mean"], plain["mean"] * factor, atol=1e-7 * factor)
    np.testing.assert_allclose(
        other["variance"], plain["variance"] * factor**2, rtol=1e-6, atol=1e-12
    )
