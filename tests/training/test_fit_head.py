"""Few labels, a frozen encoder, and a head that learns them."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from training_runs import same, weights_of

import timo
from timo.cancel import CancelledError
from timo.errors import TimoError
from timo.models.answering import ModelConfig
from timo.models.config import EncoderConfig
from timo.models.tasks import build
from timo.training import choosing
from timo.training.features import FREE
from timo.training.samples import _samples_of_tile, scores_of

# The small models of these tests are random; the tests of that warning stand at the end.
pytestmark = pytest.mark.filterwarnings("ignore:The encoder is random")


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


def test_features_are_of_a_model_with_tokens_of_one_size(world, new_model):
    cube, labels, _ = world
    model = new_model()
    fine = model.with_token(2)
    features, coarse = timo.Features(fine, cube), timo.Features(model, cube)
    assert features.nbytes > 3 * coarse.nbytes
    with pytest.raises(TimoError, match="or tokens of another size"):
        coarse.check(fine)
    timo.fit_head(fine, cube, clicks(labels), features=features, steps=20)
    got, expected = features.predict(fine), timo.predict(fine, cube).compute()
    np.testing.assert_allclose(got.probability, expected.probability, atol=1e-5)


@pytest.mark.parametrize("per_date", [True, False])
def test_the_path_of_single_pixels_learns_from_clicks_and_is_in_the_map(world, new_model, per_date):
    cube, labels, _ = world
    bands = tuple(cube.band.values)
    config = replace(new_model(per_date=per_date).config, pixel=0.5, indices=(bands[:2],))
    model = build(config)
    features = timo.Features(model, cube)
    before = {name: weight.clone() for name, weight in model.pixel.state_dict().items()}
    timo.fit_head(model, cube, clicks(labels), features=features, steps=20)
    assert any(not torch.equal(w, before[name]) for name, w in model.pixel.state_dict().items())
    got, expected = features.predict(model), timo.predict(model, cube).compute()
    np.testing.assert_allclose(got.probability, expected.probability, atol=1e-5)
    own = accuracy(timo.predict(model.pixel, cube).compute(), labels, clicks(labels))
    assert own > 0.85


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
    scored = [scores_of(model.head, s) for s in _samples_of_tile(model, features, tile, given, 0)]
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


# --- features know what they are of


@pytest.mark.parametrize("lazy", [False, True])
def test_features_of_a_cube_that_was_mended_since_are_refused(world, new_model, lazy):
    cube, labels, _ = world
    model, few = new_model(), clicks(labels)
    features = timo.Features(model, cube.chunk(time=2) if lazy else cube)
    given = cube.chunk(time=2, x=8) if lazy else cube.copy()
    t, y, x = np.argwhere(features.observed)[-1]
    timo.fit_head(model, given, few, features=features, steps=1)
    changes = {
        "masked": lambda c: c.where(c.x < c.x[14]),
        "rescaled": lambda c: (c * np.float32(0.999)).assign_attrs(c.attrs),
        "one value": lambda c: c.where(
            ~((c.time == c.time[t]) & (c.y == c.y[y]) & (c.x == c.x[x]))
        ),
    }
    for change in changes.values():
        with pytest.raises(TimoError, match="of another cube, its values differ"):
            timo.fit_head(model, change(given), few, features=features, steps=1)
    for other, differ in (
        (given.assign_coords(time=given.time + np.timedelta64(1, "D")), "time"),
        (given.isel(x=slice(20)), "x"),
    ):
        with pytest.raises(TimoError, match=f"of another cube, its {differ} differ"):
            features.check(model, other)
    # What the message says.
    mended = changes["masked"](given)
    done = timo.fit_head(model, mended, few, features=timo.Features(model, mended), steps=1)
    assert np.isnan(done.features.predict(model).probability.values).mean() > 0.5


def test_a_cube_that_was_changed_in_place_is_another(world, new_model):
    cube, labels, _ = world
    model, mine = new_model(), cube.copy(deep=True)
    features = timo.Features(model, mine)
    mine.values[0, :, :5, :5] = np.nan
    with pytest.raises(TimoError, match="of another cube, its values differ"):
        timo.fit_head(model, mine, clicks(labels), features=features, steps=1)


def test_the_same_graph_is_not_read_again(world, new_model):
    cube, _, _ = world
    model, reads = new_model(), []
    lazy = cube.chunk(time=8)
    lazy = lazy.copy(data=lazy.data.map_blocks(lambda b: (reads.append(1), b)[1], dtype="float32"))
    features = timo.Features(model, lazy)
    before = len(reads)
    features.check(model, lazy)
    assert len(reads) == before
    features.check(model, cube)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_band_without_any_observation_is_named(world, new_model, lazy):
    cube, labels, _ = world
    empty = cube.where(cube.band != "B8")
    empty = empty.chunk(time=1) if lazy else empty
    for call in (
        lambda: timo.fit_head(new_model(), empty, clicks(labels)),
        lambda: timo.Features(new_model(), empty),
    ):
        with pytest.raises(TimoError, match="band B8 has no value at all"):
            call()


# --- an encoder that learnt nothing


def test_a_random_encoder_is_said_with_its_initial_weights(world, new_model):
    cube, labels, _ = world
    random = timo.load_model("timo-tiny", cube, ["forest", "other"], pretrained=False)
    with pytest.warns(
        UserWarning, match=r"encoder is random \(initial weights: random \(seed 0\)\)"
    ):
        timo.fit_head(random, cube, clicks(labels), steps=1)
    with pytest.warns(UserWarning, match="initial weights: not written down"):
        timo.fit_head(new_model(), cube, clicks(labels), steps=1)
    pretrained = timo.load_model("timo-tiny", cube, ["forest", "other"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timo.fit_head(pretrained, cube, clicks(labels), steps=1)


def test_an_encoder_that_was_trained_is_not_random(world, new_model):
    """What the message says: finetune trains the encoder too."""
    cube, labels, _ = world
    model = new_model()
    timo.finetune(model, cube, labels, epochs=1, chips_per_epoch=4, batch_size=4, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timo.fit_head(model, cube, clicks(labels), steps=1)


# --- several sensors


@pytest.fixture(scope="module")
def joint(grid):
    """Reflectance of a cloudy sensor, radar of another with dates of its own; and labels that both show."""
    rng, (height, width) = np.random.default_rng(0), (24, 28)
    other = np.sin(np.arange(height)[:, None] / 4) + np.cos(np.arange(width)[None] / 5) > 0.3
    optical = np.where(other, 0.12, 0.04)[None, None] + rng.normal(0, 0.01, (4, 2, height, width))
    optical[:, :, :, 14:][rng.random((4, 1, height, 14)).repeat(2, 1) < 0.7] = np.nan
    optical[2] = np.nan
    radar = np.where(other, -8.0, -14.0)[None, None] + rng.normal(0, 1, (3, 2, height, width))
    dims = ("time", "band", "y", "x")
    first = grid(optical.astype("float32"), dims, sensor="sentinel-2")
    second = grid(radar.astype("float32"), dims, sensor="sentinel-1")
    days = pd.to_datetime(["2018-05-01", "2018-05-06", "2018-06-05"])
    second = second.assign_coords(band=["VV", "VH"], time=days)
    labels = grid(other.astype("int8"), ("y", "x"), classes=["forest", "other"])
    return timo.cube.join(first, second), labels


def joint_model(per_date=True, detail=4, pixel=0.0):
    small = {"dims": (8, 8, 16, 16), "depths": (1,) * 4, "heads": (1, 1, 2, 2)}
    return build(
        ModelConfig(
            encoder=EncoderConfig(in_channels=4, groups=(2, 2), **small),
            bands=("B4", "B8", "VV", "VH"),
            classes=("forest", "other"),
            mean=(0.07, 0.07, -11.0, -11.0),
            std=(0.04, 0.04, 3.0, 3.0),
            per_date=per_date,
            sensor="sentinel-2+sentinel-1",
            head_width=8,
            detail=detail,
            pixel=pixel,
            indices=(("B8", "B4"),),
        )
    )


@pytest.mark.parametrize("pixel", [0.0, 0.5])
@pytest.mark.parametrize("per_date", [True, False])
def test_several_sensors_have_features_that_predict_as_the_model_does(joint, per_date, pixel):
    cube, labels = joint
    model = joint_model(per_date, pixel=pixel)
    done = timo.fit_head(model, cube, clicks(labels), steps=30)
    assert done.history.loss.iloc[-1] < 0.6 * done.history.loss.iloc[0]
    got, expected = done.features.predict(model), timo.predict(model, cube).compute()
    np.testing.assert_allclose(got.probability, expected.probability, atol=1e-5)
    assert (got.label == expected.label).mean() > 0.999
    # Under the clouds radar has seen it.
    radar = cube.time.isin(pd.to_datetime(["2018-05-01", "2018-05-06", "2018-06-05"]))
    assert not per_date or not np.isnan(got.probability.sel(time=radar)).any()
    assert sum(done.pixels.values()) == 40


@pytest.mark.parametrize("per_date", [True, False])
@pytest.mark.parametrize("detail", [0, 4])
def test_pixels_of_several_sensors_are_learnt_as_the_whole_head_sees_them(joint, per_date, detail):
    cube, labels = joint
    model = joint_model(per_date, detail)
    features = timo.Features(model, cube, tile=16, halo=8, window=4)
    few = clicks(labels.isel(y=slice(2, -2), x=slice(2, -2))).reindex_like(labels, fill_value=-1)
    given = np.where(features.observed, few.values, -1).astype("int16")
    for tile in features.tiles[:2]:
        scored = [
            scores_of(model.head, s) for s in _samples_of_tile(model, features, tile, given, 0)
        ]
        inputs = features.inputs(model, tile, tile.windows[0])
        with torch.no_grad():
            whole = model.head.finish(*inputs)[0]
        rows, columns = np.nonzero((given[(slice(None), *tile.place.inner)] >= 0).any(axis=0))
        top, left = tile.place.crop[:2]
        expected = whole[..., rows + top, columns + left]
        if per_date:
            # Where nothing was seen there is no label, and no score to compare.
            known = scored[0][1] >= 0
            expected = expected.permute(0, 2, 1).flatten(0, 1)
        else:
            known, expected = scored[0][1] >= 0, expected.T
        assert known.any()
        torch.testing.assert_close(
            scored[0][0].detach()[known], expected[known], atol=1e-5, rtol=1e-4
        )


# --- places


def test_a_head_learns_from_several_places_at_once(world, new_world, new_model):
    cube, labels, _ = world
    other, more, _ = new_world(height=24, width=32, seed=3)
    few = [clicks(labels, each=10), clicks(more, each=10, seed=1)]
    places = timo.Places([(cube, few[0]), (other, few[1])])
    model = new_model()
    done = timo.fit_head(model, places)
    assert done.pixels == {"forest": 20, "other": 20}
    assert len(done.features) == 2
    for features, truth, mine in zip(done.features, (labels, more), few, strict=True):
        assert accuracy(features.predict(model), truth, mine) > 0.9
    again = timo.fit_head(model, places, features=done.features, steps=2)
    assert again.feature_seconds < done.feature_seconds
    with pytest.raises(TimoError, match="2 places and features of 1: give those of each"):
        timo.fit_head(model, places, features=done.features[0])
    with pytest.raises(TimoError, match="of another cube"):
        timo.fit_head(model, places, features=done.features[::-1])


def test_one_place_is_learnt_as_its_cube_is(world, new_model):
    cube, labels, _ = world
    models = new_model(), new_model()
    timo.fit_head(models[0], cube, clicks(labels), steps=5, most_pixels=15)
    timo.fit_head(models[1], timo.Places([(cube, clicks(labels))]), steps=5, most_pixels=15)
    assert same(*map(weights_of, models))


def test_models_that_do_not_answer_for_pixels_are_refused(world):
    cube, labels, _ = world
    chip = timo.load_model("timo-tiny", cube, ["forest", "other"], task="classification")
    with pytest.raises(TimoError, match="fit_head trains segmentation models; this one is for cla"):
        timo.fit_head(chip, cube, clicks(labels))
    with pytest.raises(TimoError, match="a model that answers for pixels; this one is for classif"):
        timo.Features(chip, cube)


# --- what answers is chosen


def with_pixels(new_model, **options):
    """A model with a path of single pixels."""
    config = replace(new_model(**options).config, pixel=0.5, indices=(("B8", "B4"),))
    return build(config)


def be_right(monkeypatch, names):
    """Let the candidates of these names be right about all that is held out, and the others about nothing."""

    def answer(_, samples, groups):
        known = samples.labels[samples.labels >= 0].numpy()
        group = groups[samples.pixels.expand(samples.labels.shape)[samples.labels >= 0]]
        return pd.DataFrame(
            {"group": group, "label": known} | {name: name in names for name in choosing.WEIGHTS}
        )

    monkeypatch.setattr(choosing, "_right", answer)


@pytest.mark.parametrize(
    "right", [["encoder"], ["pixels"], ["both"], ["pixels", "encoder", "both"]]
)
def test_what_is_best_at_held_out_labels_answers(world, new_model, monkeypatch, tmp_path, right):
    cube, labels, _ = world
    model = with_pixels(new_model)
    be_right(monkeypatch, right)
    done = timo.fit_head(model, cube, clicks(labels), steps=3)
    assert model.config.pixel == choosing.WEIGHTS[right[-1]]
    assert done.choice.accuracy.to_dict() == {n: float(n in right) for n in choosing.WEIGHTS}
    assert done.seconds > done.choice_seconds > 0
    # All that a model does, it does with each weight; and another choice can follow.
    expected = timo.predict(model, cube).compute().probability
    np.testing.assert_allclose(done.features.predict(model).probability, expected, atol=1e-5)
    again = timo.load_model(timo.save(model, tmp_path / "m"), cube)
    assert again.config == model.config
    assert same(weights_of(again), weights_of(model))
    assert timo.predict(again, cube).compute().probability.identical(expected)
    asked = timo.inspection.attention_at(model, cube, row=20, col=20, time=cube.time[0], stage=1)
    assert float(asked.weight.sum()) == pytest.approx(1, abs=1e-5)
    be_right(monkeypatch, ["both"])
    timo.fit_head(again, cube, clicks(labels), features=done.features, steps=3)
    assert again.config.pixel == 0.5


def test_alone_each_path_answers_as_it_is(world, new_model):
    cube, labels, _ = world
    model = with_pixels(new_model)
    timo.fit_head(model, cube, clicks(labels), steps=3)
    x = torch.from_numpy(cube.values[None, :3])
    dates = torch.arange(3.0)[None] + 18_000
    model.config = replace(model.config, pixel=0.0)
    assert torch.equal(model(x, dates), model.context(x, dates))
    model.config = replace(model.config, pixel=1.0)
    seen = model.normalise(x)[1][0].unsqueeze(1).expand(-1, 2, -1, -1)
    assert torch.equal(model(x, dates)[0][seen], model.pixel(x, dates)[0][seen])
    # Where nothing was observed single pixels have nothing to say.
    assert torch.equal(model(x, dates)[0][~seen], model.context(x, dates)[0][~seen])


@pytest.mark.parametrize("per_date", [True, False])
def test_the_choice_is_told_and_the_same_each_time(world, new_model, per_date):
    cube, labels, _ = world
    models = [with_pixels(new_model, per_date=per_date) for _ in range(2)]
    before = weights_of(models[0])
    features, reports = timo.Features(models[0], cube), []
    with pytest.raises(CancelledError, match="the model is what it was"):
        timo.fit_head(
            models[0],
            cube,
            clicks(labels),
            features=features,
            stop=lambda: len(reports) == 4,
            on_step=reports.append,
        )
    assert same(weights_of(models[0]), before)
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert np.isnan([report.loss for report in reports]).all()
    done = [timo.fit_head(m, cube, clicks(labels), features=features, steps=5) for m in models]
    assert same(*map(weights_of, models))
    assert done[0].choice.equals(done[1].choice)
    assert done[0].summary == done[1].summary
    assert done[0].choice.accuracy.between(0.5, 1).all()
    assert "of held-out labels right" in done[0].summary
    assert f"{done[0].choice.groups.iloc[0]} groups of neighbouring labels in 3 folds" in (
        done[0].summary
    )


def test_without_groups_to_hold_out_the_weight_stays(world, new_model):
    cube, labels, _ = world
    model, few = with_pixels(new_model), labels.copy(data=np.full(labels.shape, -1, "int8"))
    few.data[:, ::7] = np.where(labels.values == 1, 1, -1)[:, ::7]
    row, column = np.argwhere(labels.values == 0)[30]
    few.data[row, column] = 0
    done = timo.fit_head(model, cube, few, steps=2)
    assert done.choice is None
    assert "the labels of 'forest' are one group of neighbours" in done.summary
    assert model.config.pixel == 0.5
    done = timo.fit_head(
        model, cube, clicks(labels), features=done.features, steps=2, cross_validate=False
    )
    assert (done.choice, done.summary, model.config.pixel) == (None, "", 0.5)
    done = timo.fit_head(new_model(), cube, clicks(labels), steps=2)
    assert (done.choice, done.summary) == (None, "")


def test_neighbours_are_one_group_and_what_is_wide_is_cut():
    labels = np.full((2, 80, 80), -1, "int8")
    labels[0, 3, 3], labels[1, 3, 7] = 0, 1  # four pixels apart
    labels[0, 3, 20] = 1
    labels[0, 40:76] = 0  # 36 x 80 pixels
    groups = choosing.groups_of([labels, labels[0, :10]])
    first, second = groups[:6400].reshape(80, 80), groups[6400:].reshape(10, 80)
    assert (first > 0).sum() == (labels >= 0).any(axis=0).sum()
    assert first[3, 3] == first[3, 7] != first[3, 20] > 0
    assert len(np.unique(first[40:76])) == 6
    assert set(np.unique(first)) & set(np.unique(second)) == {0}


def test_every_class_is_in_the_rest_of_each_fold():
    rng = np.random.default_rng(0)
    label = np.r_[rng.integers(0, 3, 40), 3, 3]
    pairs = pd.DataFrame({"group": 1 + np.arange(42), "label": label})
    folds = choosing._folds(pairs, seed=1)
    assert sorted(folds.unique()) == [0, 1]
    table = pd.crosstab(folds.loc[pairs.group].to_numpy(), pairs.label.to_numpy())
    assert (table.sum() - table > 0).all(axis=None)
    assert table.sum(axis=1).max() - table.sum(axis=1).min() <= 1
    assert choosing._folds(pairs[:-1], seed=1) == 3


def test_what_is_no_clear_gain_is_left_to_both():
    table = pd.DataFrame(
        {"accuracy": [0.90, 0.93, 0.95], "standard_error": [0, 0.02, 0.06]},
        index=["both", "encoder", "pixels"],
    )
    assert choosing._best(table) == "encoder"
    assert choosing._best(table.assign(standard_error=0.06)) == "both"
