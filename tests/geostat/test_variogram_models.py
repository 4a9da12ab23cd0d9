import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.geostat import (
    VariogramModel,
    fit_best,
    fit_model,
    generalized_variogram,
    points,
    random_field,
    variogram,
)
from timo.geostat.models import KINDS

SHAPED = [
    ("spherical", None),
    ("exponential", None),
    ("gaussian", None),
    ("stable", 0.7),
    ("matern", 2.5),
]
models = st.builds(
    lambda kind, nugget, partial, range_m: VariogramModel(
        kind[0], nugget + partial, range_m, nugget, kind[1]
    ),
    st.sampled_from(SHAPED),
    st.floats(0, 1),
    st.floats(0.5, 4),
    st.floats(1, 1e5),
)


@given(models)
@settings(deadline=None, max_examples=60)
def test_a_model_rises_from_the_nugget_to_the_sill_and_agrees_with_gstools(model):
    pytest.importorskip("gstools")
    h = model.range_m * np.array([0, 1e-7, 0.1, 0.5, 1, 2, 30])
    gamma = model(h)
    assert gamma[0] == 0
    assert (np.diff(gamma) >= -1e-12).all()
    assert gamma[1] == pytest.approx(model.nugget, abs=1e-3 * model.sill)
    share = 1.0 if model.kind == "spherical" else 0.95
    assert gamma[4] == pytest.approx(model.nugget + share * model.partial_sill)
    np.testing.assert_allclose(gamma[1:] + model.covariance(h)[1:], model.sill)
    assert model.covariance(0) == model.sill
    other = model.to_gstools()
    np.testing.assert_allclose(other.variogram(h)[1:], gamma[1:], atol=1e-8)
    back = VariogramModel.from_gstools(other)
    assert back.kind == model.kind
    assert back.range_m == pytest.approx(model.range_m)
    assert back.sill == pytest.approx(model.sill)


def test_models_coincide_where_they_should():
    h = np.linspace(0, 50, 20)
    exponential = VariogramModel("exponential", 2, 30, 0.5)(h)
    np.testing.assert_allclose(VariogramModel("matern", 2, 30, 0.5, 0.5)(h), exponential, atol=1e-8)
    np.testing.assert_allclose(VariogramModel("stable", 2, 30, 0.5, 1)(h), exponential)
    gaussian = VariogramModel("gaussian", 2, 30)(h)
    np.testing.assert_allclose(VariogramModel("stable", 2, 30, shape=2)(h), gaussian)


def test_models_keep_the_type_that_they_are_given():
    model = VariogramModel("matern", 2, 30, 0.5)
    assert model(np.float32([0, 1])).dtype == np.float32
    lag = xr.DataArray([0.0, 10.0], dims="lag")
    assert model(lag).dims == ("lag",)
    assert model.covariance(lag)[0] == 2
    assert np.ndim(model(3.0)) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("cubic", 1, 1), "kind must be one of"),
        (("spherical", 1, 1, 2), "nugget <= sill"),
        (("spherical", 1, 0), "range"),
        (("spherical", np.nan, 1), "sill must be a number"),
        (("spherical", 1, 1, 0, 2), "no shape"),
        (("matern", 1, 1, 0, 99), "shape of the matern"),
    ],
)
def test_impossible_models_are_refused(arguments, says):
    with pytest.raises(TimoError, match=says):
        VariogramModel(*arguments)


def exact(model, lags):
    lag = np.asarray(lags, dtype="float64")
    data = {"semivariance": ("lag", model(lag)), "pairs": ("lag", np.full(lag.size, 100))}
    return xr.Dataset(data, coords={"lag": lag})


@given(models)
@settings(deadline=None, max_examples=25)
def test_a_fit_finds_the_model_that_made_the_curve(model):
    curve = exact(model, model.range_m * np.linspace(0.05, 1.6, 20))
    found = fit_model(curve, model.kind, shape=model.shape)
    assert found.range_m == pytest.approx(model.range_m, rel=0.01)
    assert found.sill == pytest.approx(model.sill, rel=0.01)
    assert found.nugget == pytest.approx(model.nugget, abs=0.02 * model.sill)


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_kind_and_its_shape_are_found(kind):
    shape = {"stable": 1.6, "matern": 1.2}.get(kind)
    truth = VariogramModel(kind, 2.0, 40.0, 0.3, shape)
    curve = exact(truth, np.linspace(2, 80, 25))
    found = fit_best(curve, kinds=(kind, *{"spherical", "exponential", "gaussian"} - {kind}))
    assert found.kind == kind
    assert found.range_m == pytest.approx(40, rel=0.02)
    if shape:
        assert found.shape == pytest.approx(shape, rel=0.05)


def test_the_nugget_can_be_held():
    curve = exact(VariogramModel("exponential", 2, 40, 0.5), np.linspace(2, 80, 20))
    assert fit_model(curve, nugget=False).nugget == 0
    assert fit_model(curve, nugget=0.5).range_m == pytest.approx(40, rel=1e-3)
    for weights in ("pairs", None):
        assert fit_model(curve, weights=weights).sill == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(("kind", "nugget"), [("exponential", 0.0), ("gaussian", 0.2)])
def test_range_and_sill_of_random_fields_are_found_in_the_median(kind, nugget):
    pytest.importorskip("gstools")
    truth = VariogramModel(kind, 2.0 + nugget, 200.0, nugget)
    fits = []
    for seed in range(10):
        field = random_field((80, 80), truth, seed, cell_m=10)
        fits.append(fit_model(variogram(field), kind))
    assert np.median([fit.range_m for fit in fits]) == pytest.approx(200, rel=0.15)
    assert np.median([fit.sill for fit in fits]) == pytest.approx(truth.sill, rel=0.15)


def test_random_fields_lie_where_the_template_does():
    pytest.importorskip("gstools")
    model = VariogramModel("gaussian", 1, 2e5)
    template = points([10, 11, 12], [50, 50, 51], [0, 0, 0], "EPSG:4326")
    field = random_field(template, model, 1)
    assert field.dims == ("point",)
    assert field.attrs["crs"] == "EPSG:4326"
    assert field.equals(random_field(template, model, 1))


def test_noise_falls_back_to_a_pure_nugget_with_a_warning():
    curve = exact(VariogramModel("exponential", 1, 0, 1), np.linspace(1, 30, 12))
    with pytest.warns(RuntimeWarning, match="does not rise"):
        found = fit_model(curve)
    assert (found.range_m, found.partial_sill) == (0, 0)
    assert found.sill == pytest.approx(1)
    np.testing.assert_allclose(found(np.array([0, 1.0, 9])), [0, 1, 1])


def test_a_curve_without_end_is_warned_of():
    curve = exact(VariogramModel("exponential", 1, 500), np.linspace(1, 30, 12))
    with pytest.warns(RuntimeWarning, match="still rises"):
        fit_model(curve)


def test_what_cannot_be_fitted_is_refused():
    model = VariogramModel("exponential", 1, 20)
    curve = exact(model, np.linspace(1, 30, 12))
    with pytest.raises(TimoError, match="constant"):
        fit_model(curve.assign(semivariance=curve.semivariance * 0))
    with pytest.raises(TimoError, match="three bins"):
        fit_model(curve.isel(lag=slice(2)))
    with pytest.raises(TimoError, match="kind must be one of"):
        fit_model(curve, "cubic")
    with pytest.raises(TimoError, match="no shape"):
        fit_model(curve, shape=1.0)
    with pytest.raises(TimoError, match="empty"):
        fit_best(curve, ())
    for part in ("semivariance", "pairs"):
        with pytest.raises(TimoError, match='"semivariance" and "pairs" over "lag"'):
            fit_model(curve.drop_vars(part))
    with pytest.raises(TimoError, match="pairs must be real numbers"):
        fit_model(curve.assign(pairs=("lag", ["many"] * 12)))


def test_any_dissimilarity_has_a_variogram():
    rng = np.random.default_rng(0)
    x, z = rng.uniform(0, 100, 80), rng.normal(size=80)
    distance = np.abs(x[:, None] - x)
    found = generalized_variogram(distance, (z[:, None] - z) ** 2, bins=5, max_lag=50)
    plain = variogram(points(x, 0 * x, z), bins=5, max_lag=50)
    np.testing.assert_array_equal(found.pairs, plain.pairs)
    np.testing.assert_allclose(found.dissimilarity, 2 * plain.semivariance, rtol=1e-5)
    upper = np.triu_indices(80, 1)
    flat = generalized_variogram(
        distance[upper], ((z[:, None] - z) ** 2)[upper], bins=5, max_lag=50
    )
    xr.testing.assert_allclose(found, flat)


def test_a_generalized_variogram_can_be_fitted():
    h = np.linspace(0.5, 100, 4000)
    truth = VariogramModel("stable", 3, 40, 0.5, 1.4)
    found = fit_model(generalized_variogram(h, truth(h), bins=40, max_lag=90), "stable")
    assert found.range_m == pytest.approx(40, rel=0.02)


@pytest.mark.parametrize(
    ("distance", "dissimilarity"),
    [
        (np.ones((3, 3)), np.ones(3)),
        (np.ones((3, 2)), np.ones((3, 2))),
        (-np.ones(3), np.ones(3)),
        (np.zeros(3), np.ones(3)),
        (np.ones(3), np.full(3, np.nan)),
    ],
)
def test_bad_dissimilarities_are_refused(distance, dissimilarity):
    with pytest.raises(TimoError):
        generalized_variogram(distance, dissimilarity)


CURVE_MODEL = VariogramModel("exponential", 2, 10, 0.5)
CURVE = exact(CURVE_MODEL, np.linspace(1, 30, 12))


def test_numpys_truth_values_are_truth_values():
    assert fit_model(CURVE, nugget=np.True_) == fit_model(CURVE)
    assert fit_model(CURVE, nugget=np.False_) == fit_model(CURVE, nugget=False)
    assert fit_best(CURVE, "spherical").kind == "spherical"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nugget": 99.0}, "above all semivariances"),
        ({"nugget": -1.0}, "nugget must be True or False or a number of 0 or more"),
        ({"weights": np.ones(12)}, "weights"),
        ({"variogram": None}, r"geostat.variogram\(...\) makes it"),
    ],
)
def test_bad_options_of_a_fit_are_refused(options, says):
    with pytest.raises(TimoError, match=says):
        fit_model(**{"variogram": CURVE, **options})


@pytest.mark.parametrize("odd", ["300 m", None, [1j], np.array(["a"]), xr.DataArray(["a"])])
def test_a_model_is_asked_at_distances(odd):
    for ask in (CURVE_MODEL, CURVE_MODEL.covariance, CURVE_MODEL.correlation):
        with pytest.raises(TimoError, match="h must be a number, or an array of numbers"):
            ask(odd)
    with pytest.raises(TimoError, match="isotropic gstools model"):
        VariogramModel.from_gstools(odd)


def test_a_nugget_asked_for_is_kept_where_nothing_rises_above_it():
    flat = exact(VariogramModel("exponential", 1, 0, 1), np.linspace(1, 30, 12))
    flat["semivariance"][3] = 1.2
    with pytest.warns(RuntimeWarning, match="does not rise"):
        assert fit_model(flat, nugget=1.1).nugget == 1.1


@pytest.mark.parametrize(
    ("template", "options"),
    [
        ((0, 5), {}),
        ((50.5, 50), {}),
        ((5, 5, 5), {}),
        ((5, 5), {"cell_m": -1}),
        ((5, 5), {"cell_m": "1"}),
        ((5, 5), {"model": "exponential"}),
        (np.zeros((5, 5)), {}),
    ],
)
def test_a_field_of_nowhere_is_refused(template, options):
    with pytest.raises(TimoError):
        random_field(
            template, **{"model": VariogramModel("exponential", 1, 5), "seed": 0, **options}
        )


def test_a_shape_may_be_a_list():
    pytest.importorskip("gstools")
    assert random_field([4, 5], VariogramModel("exponential", 1, 5), 0).shape == (4, 5)


def test_masked_dissimilarities_are_unknown():
    distance, d = np.linspace(1, 10, 90), np.ones(90)
    d[::3] = -9999
    found = generalized_variogram(distance, np.ma.masked_equal(d, -9999), bins=2)
    np.testing.assert_array_equal(found.dissimilarity, 1)
