"""How long a training is: from its data, or from a budget of time, and how long it is said to take."""

import datetime as dt
import logging
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from training_runs import StopAt, StopError, make_places, same, weights_of

import timo
from timo.errors import TimoError
from timo.places import Places, Split
from timo.training import ChipOptions, finetune, timing
from timo.training.inputs import TRAIN, VALIDATION, Given
from timo.training.length import Length, Speed, budget_seconds, usual_chips
from timo.training.tiles import Tiles, count_tiles
from timo.training.timing import Clock, asked_length

SMALL = {
    "chips_per_epoch": 16,
    "batch_size": 4,
    "chips": ChipOptions(size=16, dates=(3, 5)),
}
SECONDS = st.floats(1e-4, 1e3)
COUNTS = st.integers(1, 10_000)


# --- from the data


def test_few_labels_give_the_shortest_training_and_many_the_longest():
    assert usual_chips(1, single=False) == usual_chips(640, single=False) == 320
    assert usual_chips(1, single=True) == usual_chips(1280, single=True) == 640
    # Ten draws of each, in 20 epochs.
    assert 20 * usual_chips(2000, single=False) == 10 * 2000
    assert 20 * usual_chips(3001, single=True) >= 10 * 3001
    assert usual_chips(10**6, single=False) == 3200
    assert usual_chips(10**6, single=True) == 6400


@drawn(st.integers(0, 10**9), st.integers(0, 10**9), st.booleans())
def test_more_labels_never_give_fewer_chips(one, other, single):
    few, many = (usual_chips(n, single=single) for n in sorted((one, other)))
    assert (640 if single else 320) <= few <= many <= (6400 if single else 3200)


@pytest.mark.parametrize("size", [7, 16, 32, 64, None])
def test_tiles_are_counted_as_they_are_laid(world, new_model, size):
    cube, labels, split = world
    few = labels.where(labels.x % 90 < 30, -1).astype("int8").assign_attrs(labels.attrs)
    places = Places([(cube, few)])
    for part in (TRAIN, VALIDATION):
        given = Given(places, Split([split]))
        laid = Tiles(given, part, new_model().config, size=size, dates=5, most=10_000, seed=0)
        assert count_tiles(given, part, size) == len(laid) > 0
    nothing = Given(places, Split([split.where(split < 0, 2)]))
    assert count_tiles(nothing, TRAIN, size) == 0


def test_tiles_of_many_places_are_counted_from_some(monkeypatch):
    given, asked = Given(make_places()), []
    whole = count_tiles(given, TRAIN, 16)
    monkeypatch.setattr(Given, "some", lambda self, part: self.numbers(part)[::2])
    view = Places.view
    monkeypatch.setattr(Places, "view", lambda self, n: asked.append(n) or view(self, n))
    assert count_tiles(given, TRAIN, 16) == pytest.approx(whole, rel=0.1)
    assert asked == [0, 2]


def test_what_is_asked_for_is_kept_and_the_rest_follows_from_the_data(new_world):
    cube, labels, _ = new_world(2, 330, 320)
    given = Given(Places([(cube, labels)]))
    assert asked_length(given, 32, None, None, None) == Length(20, 320, 8)
    # 1,650 tiles of 8 pixels.
    assert asked_length(given, 8, None, None, None) == Length(20, 840, 8)
    assert asked_length(given, 8, 3, 50, 7) == Length(3, 50, 7)
    pixel = Given(Places([(cube[..., :1, :1], labels[:1, :1])]))
    assert asked_length(pixel, 32, None, None, None) == Length(20, 640, 32)


def test_the_sample_is_trained_as_long_as_ever():
    cube, labels = timo.open_cube("sample", start="2018-06", end="2018-07"), timo.sample_labels()
    length = asked_length(Given(Places([(cube, labels)])), 32, None, None, None)
    assert (length.epochs, length.chips, length.batch, length.steps) == (20, 320, 8, 800)


# --- a budget


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [
        (None, None),
        ("5min", 300),
        ("90s", 90),
        ("1h 30min", 5400),
        ("00:02:00", 120),
        (45, 45),
        (0.5, 0.5),
        (np.float32(2.5), 2.5),
        (dt.timedelta(minutes=2), 120),
        (pd.Timedelta("1h"), 3600),
    ],
)
def test_a_budget_is_read(budget, seconds):
    assert budget_seconds(budget) == seconds


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (0, 'budget must be a time above 0 .* got 0.*Give budget="5min"'),
        (-3, "above 0 .* got -3"),
        ("-5min", "above 0 .* got '-5min'"),
        ("soon", "above 0 .* got 'soon'"),
        ("NaT", "above 0 .* got 'NaT'"),
        ("", "above 0 .* got ''"),
        ("nan", "above 0 .* got 'nan'"),
        (pd.NaT, "budget must be"),
        (1e300, "at most a year; got 1e"),
        ("3000 weeks", "at most a year"),
        ("90", "budget='90' has no unit: write budget=90 for seconds, or budget=\"90min\""),
        (float("nan"), "budget must be .* got nan"),
        (float("inf"), "budget must be .* got inf"),
        (True, "budget must be .* got True"),
        ([5], "budget must be .* got"),
    ],
)
def test_a_budget_that_is_no_time_is_refused(world, new_model, wrong, message):
    cube, labels, _ = world
    model = new_model()
    with pytest.raises(TimoError, match=message):
        finetune(model, cube, labels, budget=wrong, progress=False, **SMALL)
    assert same(weights_of(model), weights_of(new_model()))


def test_a_budget_and_epochs_are_refused(world, new_model):
    cube, labels, _ = world
    with pytest.raises(TimoError, match="Give budget='5min' or epochs=3, not both"):
        finetune(new_model(), cube, labels, budget="5min", epochs=3, **SMALL)


def test_a_budget_is_filled_with_whole_epochs():
    speed, length = Speed(step=1.0, tile=0.1), Length(20, 80, 8)
    # An epoch takes 10 s, and 2 s to validate 20 tiles.
    assert speed.seconds(length, 20) == 240
    assert speed.within(120, length, 20) == Length(10, 80, 8, 120.0)
    assert speed.within(18, length, 20) == Length(2, 56, 8, 18.0)
    # Two epochs of a step would be longer.
    assert speed.within(15, Length(20, 8, 8), 99) == Length(8, 8, 8, 14.4)
    # None fits: five steps, and the validation of 20 tiles. Of a small one: of as many as it has chips.
    assert speed.within(7, length, 20) == Length(1, 40, 8, 7.0)
    assert speed.within(1.8, length, 20) == Length(1, 8, 8, 1.8)
    assert speed.within(0, length, 20) == Length(1, 8, 8, 1.8)


@drawn(st.builds(Speed, SECONDS, SECONDS), COUNTS, COUNTS, COUNTS, st.floats(0, 1e5))
def test_a_length_of_a_budget_keeps_to_it(speed, chips, batch, tiles, budget):
    length = Length(20, chips, batch)
    found = speed.within(budget, length, tiles)
    assert found.batch == batch
    assert 1 <= found.chips <= chips
    assert found.seconds == speed.seconds(found, tiles)
    shortest = (found.epochs, found.epoch_steps) == (1, 1)
    assert found.seconds <= budget * (1 + 1e-9) or shortest
    # Another step in each epoch would be too long.
    longer = speed.seconds(Length(found.epochs, found.chips + batch, batch), tiles)
    assert longer >= budget * (1 - 1e-9) or found.chips == chips


# --- the estimate


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (
            Length(20, 320, 8, 131.2),
            "800 steps of 8 chips, 20 epochs: about 2 min 10 s on this machine.",
        ),
        (Length(1, 3, 8, 0.2), "1 step of 3 chips, 1 epoch: about 1 s on this machine."),
        (
            Length(100, 320, 8, 4000.0),
            "4,000 steps of 8 chips, 100 epochs: about 1 h 6 min on this machine.",
        ),
        (Length(20, 321, 8), "820 steps of 8 chips, 20 epochs."),
    ],
)
def test_a_length_says_itself(length, text):
    assert str(length) == text


def test_the_length_is_said_before_the_first_step(world, new_model, capfd, caplog):
    cube, labels, split = world
    said = []

    class Look(Callback):
        def on_train_batch_start(self, *_):
            said.append(list(caplog.messages))

    with caplog.at_level(logging.INFO, "timo"):
        done = finetune(
            new_model(), cube, labels, split=split, epochs=3, callbacks=[Look()], **SMALL
        )
    line = (
        f"12 steps of 4 chips, 3 epochs: about {max(round(done.expected_s), 1)} s on this machine."
    )
    # The steps that are timed are not watched.
    assert said == [[line]] * 12
    assert line in capfd.readouterr().err
    assert 0 < done.expected_s == done.length.seconds < 20 * done.history.seconds.sum()
    caplog.clear()
    with caplog.at_level(logging.INFO, "timo"):
        done = finetune(new_model(), cube, labels, epochs=1, progress=False, **SMALL)
    assert caplog.messages == ["4 steps of 4 chips, 1 epoch."]
    assert done.expected_s is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("parts", [True, False])
def test_timing_changes_no_weight_and_no_random_state(world, new_model, parts):
    cube, labels, split = world
    plain, timed = new_model(), new_model()
    options = SMALL | {"epochs": 2, "split": split if parts else None}
    finetune(plain, cube, labels, progress=False, **options)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    finetune(timed, cube, labels, progress=True, **options)
    assert torch.equal(before, torch.get_rng_state())
    assert same(weights_of(plain), weights_of(timed))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in timed.modules())


class Work(Callback):
    """Make each step of a training longer."""

    def __init__(self, seconds):
        self.seconds = seconds

    def on_train_batch_start(self, *_):
        time.sleep(self.seconds)


def test_a_clock_counts_waiting_and_work():
    clock = Clock(1.0)
    clock.steps = [(9.0, 9.0, 4), (0.2, 1.0, 4), (0.4, 2.0, 4)]
    clock.tiles = [(0.0, 2.0, 4)]
    speed = clock.speed()
    assert (speed.step, speed.tile) == pytest.approx((1.8, 0.5))
    # Two processes read ahead: what the steps wait for is ready, or takes half as long.
    clock.workers = 2
    assert clock.speed().step == pytest.approx(1.5)
    clock.steps = [(9.0, 9.0, 4), (8.0, 1.0, 4)]
    assert clock.speed().step == pytest.approx(4.0)


# --- a training with a budget


def test_a_training_keeps_to_its_budget(world, new_model):
    cube, labels, split = world
    model = new_model()
    with warnings.catch_warnings():
        # A machine that is busy with something else is no fault of the plan.
        warnings.simplefilter("ignore")
        done = finetune(model, cube, labels, split=split, budget="4s", progress=False, **SMALL)
    assert not done.stopped
    assert 0 < done.expected_s <= 4 or done.length.steps == 1
    assert 1 <= len(done.history) <= done.length.epochs
    assert not same(weights_of(model), weights_of(new_model()))


@pytest.fixture
def fixed_speed(monkeypatch):
    """A machine on which a step takes a twentieth of a second, whatever runs beside it."""
    monkeypatch.setattr(timing, "measure", lambda *_, **__: Speed(0.05))


@pytest.mark.usefixtures("fixed_speed")
def test_a_budget_too_small_for_an_epoch_gives_one_that_is_shorter(world, new_model):
    cube, labels, split = world
    options = SMALL | {"split": split, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = finetune(new_model(), cube, labels, budget=0.14, **options)
    assert (done.length.epochs, done.length.chips, done.length.steps) == (1, 8, 2)
    assert list(done.history.epoch) == [0]
    with pytest.warns(UserWarning, match=r"budget=0\.001 s is too short for one step"):
        done = finetune(new_model(), cube, labels, budget=0.001, **options)
    assert (done.length.epochs, done.length.chips, done.length.steps) == (1, 4, 1)
    assert np.isfinite(done.history.validation_loss).all()


@pytest.mark.usefixtures("fixed_speed")
def test_a_training_that_gets_slower_ends_a_quarter_over_its_budget(world, new_model, tmp_path):
    cube, labels, split = world
    for name, part in (("held out", split), ("all", None)):
        model, folder = new_model(), tmp_path / name
        options = SMALL | {"budget": 0.79, "callbacks": [Work(0.6)], "progress": False}
        with pytest.warns(UserWarning, match=r"budget was used up after [1-6] of 12 steps"):
            done = finetune(model, cube, labels, split=part, folder=folder, **options)
        assert not done.stopped
        assert 1 <= len(done.history) < done.length.epochs
        assert sorted(path.name for path in folder.iterdir()) == ["history.csv", "model"]
        assert same(weights_of(timo.load_model(folder / "model")), weights_of(model))
        assert not same(weights_of(model), weights_of(new_model()))
        if part is not None:
            assert done.epoch == done.history.validation_loss.argmin()


def test_a_killed_training_with_a_budget_ends_as_one_of_its_length(
    world, new_model, tmp_path, monkeypatch
):
    cube, labels, split = world
    # Three epochs of three steps, of which the time will not run out.
    monkeypatch.setattr(timing, "measure", lambda *_, **__: Speed(50.0))
    whole, resumed = new_model(), new_model()
    plain = SMALL | {"split": split, "progress": False}
    options = plain | {"budget": "9min", "folder": tmp_path}
    with pytest.raises(StopError):
        finetune(new_model(), cube, labels, callbacks=[StopAt(6)], **options)
    # Measured now, it would be another length.
    monkeypatch.setattr(timing, "measure", lambda *_, **__: Speed(1.0))
    with pytest.raises(TimoError, match="another run, budget differ: give the same"):
        finetune(new_model(), cube, labels, resume=True, **options | {"budget": "11min"})
    done = finetune(resumed, cube, labels, resume=True, **options)
    assert (done.length.epochs, done.length.chips, done.expected_s) == (3, 12, None)
    assert list(done.history.epoch) == [0, 1, 2]
    finetune(whole, cube, labels, epochs=3, **plain | {"chips_per_epoch": 12})
    assert same(weights_of(whole), weights_of(resumed))


def test_a_stop_while_steps_are_timed_leaves_the_model_as_it_was(world, new_model):
    cube, labels, _ = world
    model, asked = new_model(), []
    done = finetune(
        model,
        cube,
        labels,
        budget="1min",
        stop=lambda: asked.append(0) or len(asked) == 40,
        progress=False,
        **SMALL,
    )
    assert done.stopped
    assert done.epoch == -1
    assert done.length is None
    assert same(weights_of(model), weights_of(new_model()))


# --- small inputs


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (12, 40)])
def test_a_place_smaller_than_a_chip_is_not_padded_to_one(new_world, new_model, height, width):
    cube, labels, _ = new_world(6, height, width)
    labels[0, 0] = 1 - int(labels[-1, -1]) if labels.size > 1 else labels[0, 0]
    shapes, seen = set(), set()

    class Look(Callback):
        def on_train_batch_start(self, _trainer, module, batch, _):
            shapes.add(tuple(batch["x"].shape[-2:]))
            stem = module.model.encoder.stem
            stem.register_forward_pre_hook(lambda _, args: seen.add(tuple(args[0].shape[-2:])))

    twice = Places([(cube, labels), (cube, 1 - labels)])
    finetune(
        new_model(),
        twice,
        epochs=1,
        chips_per_epoch=4,
        batch_size=4,
        callbacks=[Look()],
        progress=False,
    )
    assert shapes == {(height, min(width, 32))}
    # Whole tokens of four pixels.
    assert seen == {(-(-height // 4) * 4, -(-min(width, 32) // 4) * 4)}
