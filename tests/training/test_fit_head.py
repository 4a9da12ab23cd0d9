"""Few labels, a frozen encoder, and a head that learns them."""

import copy

import numpy as np
import pytest
import torch
from training_runs import same, weights_of

import timo
from timo.cancel import CancelledError
from timo.errors import TimoError
from timo.training.features import FREE
from timo.training.head import _samples, _scores


def clicks(labels, each=20, seed=0):
    """A few pixels of each class; -1 elsewhere."""
    rng, few = np.random.default_rng(seed), np.full(labels.shape, -1, "int8")
    for number in np.unique(labels):
        places = np.flatnonzero(labels.values == number)
        few.flat[rng.choice(places, each, replace=False)] = number
    return labels.copy(data=few)


def accuracy(result, labels, few):
    probability = result.probability.sel({"class": "other"})
    if "time" in probability.dims:
        probability = probability.mean("time")
    held = (few.values < 0) & np.isfinite(probability.values)
    return ((probability.values > 0.5) == labels.values)[held].mean()


@pytest.mark.parametrize("per_date", [True, False])
def test_a_few_clicks_give_a_map(world, new_model, per_date):
    cube, labels, _ = world
    few, model = clicks(labels), new_model(per_date=per_date)
    before = accuracy(timo.predict(model, cube).compute(), labels, few)
    done = timo.fit_head(model, cube, few)
    result = done.features.predict(model)
    assert accuracy(result, labels, few) > 0.93 > before
    assert done.pixels == {"forest": 20, "other": 20}
    assert done.history.loss.iloc[-1] < 0.3 * done.history.loss.iloc[0]
    assert done.seconds >= done.feature_seconds > 0


@pytest.mark.parametrize("per_date", [True, False])
@pytest.mark.parametrize("options", [{}, {"tile": 16, "halo": 8, "window": 4}, {"fill_gaps": True}])
def test_the_map_of_the_features_is_that_of_predict(world, new_model, per_date, options):
    cube, labels, _ = world
    model = new_model(per_date=per_date)
    features = timo.Features(model, cube, **options)
    timo.fit_head(model, cube, clicks(labels), features=features, steps=20)
    got, expected = features.predict(model), timo.predict(model, cube, **options).compute()
    assert got.attrs["attribution"] == expected.attrs["attribution"]
    assert list(got.coords) == list(expected.coords)
    for name in ("probability", "entropy"):
        np.testing.assert_allclose(got[name], expected[name], atol=1e-5)
    assert (got.label == expected.label).mean() > 0.999


def test_half_precision_takes_half_and_gives_nearly_the_same(world, new_model):
    cube, labels, _ = world
    model = new_model()
    whole, half = (timo.Features(model, cube, half=h) for h in (False, True))
    assert half.nbytes * 2 == whole.nbytes
    timo.fit_head(model, cube, clicks(labels), features=half)
    got, expected = half.predict(model), whole.predict(model)
    np.testing.assert_allclose(got.probability, expected.probability, atol=5e-3)


def test_only_the_full_resolution_part_learns_and_the_same_each_time(world, new_model):
    cube, labels, _ = world
    models = [new_model(), new_model()]
    models[0].encoder.requires_grad_(False)
    for model in models:
        timo.fit_head(model, cube, clicks(labels))
    first, again = map(weights_of, models)
    assert same(first, again)
    before = weights_of(new_model())
    free = tuple(f"head.{part}." for part in FREE)
    changed = {name for name in before if not torch.equal(first[name], before[name])}
    assert changed
    assert all(name.startswith(free) for name in changed)
    assert (
        not models[0].encoder.stem.weight.requires_grad
        if hasattr(models[0].encoder.stem, "weight")
        else not any(p.requires_grad for p in models[0].encoder.parameters())
    )
    assert all(p.grad is None for p in models[0].parameters())


def test_new_labels_and_new_classes_need_no_new_features(world, new_model):
    cube, labels, _ = world
    model = new_model()
    first = timo.fit_head(model, cube, clicks(labels))
    second = timo.fit_head(model, cube, clicks(labels, seed=1), features=first.features)
    assert second.features is first.features
    assert second.feature_seconds < first.feature_seconds
    three = new_model(classes=("forest", "other", "water"))
    more = clicks(labels).copy(deep=True)
    more.attrs["classes"] = list(three.config.classes)
    more[:4, :4] = 2
    done = timo.fit_head(three, cube, more, features=first.features)
    assert done.pixels["water"] == 16
    assert set(first.features.predict(three)["class"].values) == set(three.config.classes)


@pytest.mark.parametrize("per_date", [True, False])
def test_pixels_are_learnt_as_the_whole_head_sees_them(world, new_model, per_date):
    cube, labels, _ = world
    model = new_model(per_date=per_date)
    few = clicks(labels)
    few[:2], few[-2:], few[:, :2], few[:, -2:] = -1, -1, -1, -1  # at the edge the border differs
    features = timo.Features(model, cube, tile=24, halo=8, window=8)
    observed = np.isfinite(cube.values).all(axis=1)
    given = np.where(observed, few.values, -1)
    # Of inner tiles as well: the border of a tile is not the edge of a map.
    tile = features.tiles[0]
    scored = [_scores(model.head, s) for s in _samples(model, features, tile, given)]
    inputs = features.inputs(model, tile, tile.windows[0])
    with torch.no_grad():
        whole = model.head.finish(*inputs)[0]
    inner = few.values[tile.place.inner]
    rows, columns = np.nonzero((given[(slice(None), *tile.place.inner)] >= 0).any(axis=0))
    expected = whole[..., rows, columns]
    expected = expected.permute(0, 2, 1).flatten(0, 1) if per_date else expected.T
    torch.testing.assert_close(scored[0][0].detach(), expected, atol=1e-5, rtol=1e-4)
    assert set(scored[0][1].unique().tolist()) <= {-1, *np.unique(inner).tolist()}


def test_labels_of_single_dates(world, new_model, grid):
    cube, labels, _ = world
    few = clicks(labels, each=40)
    dated = np.full((cube.sizes["time"], *few.shape), -1, "int8")
    dated[3] = few.values
    dated = grid(dated, ("time", "y", "x"), classes=list(labels.attrs["classes"])).assign_coords(
        time=cube.time
    )
    model = new_model()
    done = timo.fit_head(model, cube, dated)
    assert accuracy(done.features.predict(model), labels, few) > 0.85
    # What is not observed on its date is not learnt from.
    unseen = np.isnan(cube.values[3, 0]) & (few.values >= 0)
    assert sum(done.pixels.values()) == 80 - unseen.sum()


def test_of_many_labels_a_part_is_drawn(world, new_model):
    cube, labels, _ = world
    done = timo.fit_head(new_model(), cube, labels, most_pixels=50, steps=3)
    assert done.pixels == {"forest": 50, "other": 50}


def test_what_does_not_fit_is_met_at_the_door(world, new_model, new_world):
    cube, labels, _ = world
    model, few = new_model(), clicks(labels)
    features = timo.Features(model, cube)
    one = few.where(few != 1, -1).astype("int8")
    with pytest.raises(TimoError, match="two classes need labelled pixels"):
        timo.fit_head(model, cube, one, features=features)
    with pytest.raises(TimoError, match="features are of another model"):
        timo.fit_head(new_model(seed=1), cube, few, features=features)
    with pytest.raises(TimoError, match="features are of another cube"):
        timo.fit_head(model, cube[:4], few, features=features)
    with pytest.raises(TimoError, match="steps must be a whole number of 1 or more; got 0"):
        timo.fit_head(model, cube, few, steps=0)
    with pytest.raises(TimoError, match="features are of another model"):
        features.predict(new_model(seed=1))
    with pytest.raises(TimoError, match="tile must be a whole number of 1 or more; got 0"):
        timo.Features(model, cube, tile=0)


def test_it_is_stopped(world, new_model):
    cube, labels, _ = world
    model = new_model()
    before = weights_of(model)
    with pytest.raises(CancelledError):
        timo.fit_head(model, cube, clicks(labels), stop=lambda: True)
    assert same(weights_of(model), before)
    reports = []
    features = timo.Features(model, cube, on_step=reports.append)
    assert [r.step for r in reports] == list(range(1, reports[0].steps + 1))
    reports.clear()
    done = timo.fit_head(
        model,
        cube,
        clicks(labels),
        features=features,
        stop=lambda: len(reports) == 5,
        on_step=reports.append,
    )
    assert done.stopped
    assert len(done.history) == 5
    with pytest.raises(CancelledError):
        features.predict(model, stop=lambda: True)


def test_the_model_may_be_fitted_while_a_copy_is_used(world, new_model):
    cube, labels, _ = world
    model = new_model()
    features = timo.Features(model, cube)
    other = copy.deepcopy(model)
    timo.fit_head(other, cube, clicks(labels), features=features, steps=5)
    assert same(weights_of(model), weights_of(new_model()))
    features.check(other)
