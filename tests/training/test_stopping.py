"""Trainings and maps that are watched, and ended before their end."""

import copy
import math
import threading
import time

import numpy as np
import pytest
import torch
from training_runs import same, weights_of

import timo
from timo.cancel import CancelledError, interruptible
from timo.errors import TimoError
from timo.mapping import compute
from timo.models import load as load_weights
from timo.models.masking import MaskOptions
from timo.training import ChipOptions, WindowOptions, finetune, pretrain
from timo.training.pretraining import autoencoder_config

SMALL = {
    "epochs": 3,
    "chips_per_epoch": 16,
    "batch_size": 4,
    "chips": ChipOptions(size=16, dates=(3, 5)),
    "progress": False,
}
# Windows and encoder of a pretraining that takes a second.
PRETRAIN = {
    "epochs": 2,
    "chips_per_epoch": 16,
    "batch_size": 4,
    "chips": WindowOptions(size=16, dates=(3, 4)),
    "masks": MaskOptions(),
    "progress": False,
}


class StopAfter:
    """Says stop once so many steps were reported."""

    def __init__(self, steps):
        self.steps, self.reports = steps, []

    def on_step(self, report):
        self.reports.append(report)

    def __call__(self):
        return len(self.reports) >= self.steps


class InTheMiddle(StopAfter):
    """Says stop in the middle of the step after so many: asked by a layer, once the step has begun."""

    def __init__(self, steps, asked):
        super().__init__(steps)
        self.asked, self.count = asked, 0

    def __call__(self):
        if len(self.reports) >= self.steps:
            self.count += 1
        return self.count > self.asked


@pytest.fixture(scope="module")
def autoencoder(world):
    sizes = {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2)}
    return autoencoder_config("tiny", tuple(map(str, world[0].band.values)), **sizes)


# --- reports


def test_every_step_is_reported(world, new_model):
    cube, labels, split = world
    watch = StopAfter(math.inf)
    done = finetune(new_model(), cube, labels, split=split, on_step=watch.on_step, **SMALL)
    assert [r.step for r in watch.reports] == list(range(1, 13))
    assert {r.steps for r in watch.reports} == {12}
    assert [r.epoch for r in watch.reports] == [e for e in range(3) for _ in range(4)]
    assert all(math.isfinite(r.loss) and r.eta >= 0 for r in watch.reports)
    assert watch.reports[-1].eta == 0
    assert not done.stopped
    epochs = np.reshape([r.loss for r in watch.reports], (3, 4)).mean(axis=1)
    np.testing.assert_allclose(epochs, done.history.loss, rtol=1e-5)


def test_watching_changes_no_weight(world, new_model):
    cube, labels, split = world
    plain, watched = new_model(), new_model()
    finetune(plain, cube, labels, split=split, **SMALL)
    never = threading.Event()
    finetune(watched, cube, labels, split=split, stop=never, on_step=StopAfter(9).on_step, **SMALL)
    assert same(weights_of(plain), weights_of(watched))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in watched.modules())


def test_a_pretraining_reports_its_steps(world, autoencoder):
    watch = StopAfter(math.inf)
    done = pretrain(world[0], autoencoder, on_step=watch.on_step, **PRETRAIN)
    assert [r.step for r in watch.reports] == list(range(1, 9))
    epochs = np.reshape([r.loss for r in watch.reports], (2, 4)).mean(axis=1)
    np.testing.assert_allclose(epochs, done.history.loss, rtol=1e-4)


# --- the end of a fine-tuning


@pytest.mark.parametrize("averaging", [None, 0.9])
@pytest.mark.parametrize("kind", ["between", "within"])
def test_a_stopped_finetuning_holds_the_weights_of_its_last_whole_step(
    world, new_model, averaging, kind
):
    cube, labels, _ = world
    watch = StopAfter(2) if kind == "between" else InTheMiddle(2, 60)
    stopped, reference = new_model(), new_model()
    options = SMALL | {"averaging": averaging}
    done = finetune(stopped, cube, labels, stop=watch, on_step=watch.on_step, **options)
    assert done.stopped
    assert done.epoch == 0
    assert len(done.history) == 0
    assert len(watch.reports) == 2
    assert not any(module.training for module in stopped.modules())
    # Stopping in the middle of the third step, and after the second, leaves the same.
    between = StopAfter(2)
    finetune(reference, cube, labels, stop=between, on_step=between.on_step, **options)
    assert same(weights_of(stopped), weights_of(reference))
    assert not same(weights_of(stopped), weights_of(new_model()))


def test_a_stopped_finetuning_leaves_a_model_and_is_gone_on_with(world, new_model, tmp_path):
    cube, labels, split = world
    whole, part = new_model(), new_model()
    finetune(whole, cube, labels, split=split, **SMALL)
    watch = StopAfter(6)  # in the second epoch
    done = finetune(
        part, cube, labels, split=split, folder=tmp_path, stop=watch, on_step=watch.on_step, **SMALL
    )
    assert done.stopped
    assert list(done.history.epoch) == [0]
    left = timo.load_model(tmp_path / "model")
    assert same(weights_of(left), weights_of(part))
    assert timo.predict(left, cube).label.compute().shape == (8, 40, 48)
    again = new_model()
    finished = finetune(again, cube, labels, split=split, folder=tmp_path, resume=True, **SMALL)
    assert not finished.stopped
    assert same(weights_of(again), weights_of(whole))
    assert not (tmp_path / "resume.ckpt").exists()


def test_a_stop_in_the_validation_keeps_the_averaged_weights(world, new_model):
    cube, labels, split = world
    seen = []
    # Asked by the first layer that works in evaluation: only a validation does.
    model = new_model()

    def stop():
        if not model.training:
            seen.append(weights_of(model))
        return bool(seen)

    done = finetune(model, cube, labels, split=split, stop=stop, **SMALL)
    assert done.stopped
    assert same(weights_of(model), seen[0])


def test_a_stop_before_the_cube_is_loaded_changes_nothing(world, new_model, tmp_path):
    cube, labels, _ = world
    model, stop = new_model(), threading.Event()
    stop.set()
    lazy = cube.chunk(time=2)
    done = finetune(model, lazy, labels, folder=tmp_path, stop=stop, **SMALL)
    assert done.stopped
    assert done.epoch == -1
    assert same(weights_of(model), weights_of(new_model()))
    assert same(weights_of(timo.load_model(tmp_path / "model")), weights_of(model))


def test_a_training_in_a_thread_stops_within_two_seconds(world, new_model):
    cube, labels, _ = world
    stop, stepped, results = threading.Event(), threading.Event(), []
    options = SMALL | {"epochs": 10_000}

    def work():
        results.append(
            finetune(
                new_model(), cube, labels, stop=stop, on_step=lambda _: stepped.set(), **options
            )
        )

    thread = threading.Thread(target=work)
    thread.start()
    assert stepped.wait(60)
    stop.set()
    began = time.monotonic()
    thread.join(30)
    assert not thread.is_alive()
    assert time.monotonic() - began < 2
    assert results[0].stopped


# --- the end of a pretraining


@pytest.mark.parametrize("watch", [StopAfter(3), InTheMiddle(3, 20), StopAfter(6)])
@pytest.mark.parametrize("averaging", [None, 0.9])
def test_a_stopped_pretraining_is_gone_on_with_bit_by_bit(
    world, autoencoder, tmp_path, watch, averaging
):
    watch = copy.deepcopy(watch)
    options = PRETRAIN | {"averaging": averaging}
    whole = pretrain(world[0], autoencoder, **options)
    part = pretrain(
        world[0], autoencoder, folder=tmp_path, stop=watch, on_step=watch.on_step, **options
    )
    assert part.stopped
    assert len(watch.reports) == watch.steps
    left = load_weights(tmp_path / "model", kind="autoencoder")
    assert same(weights_of(left), weights_of(part.model))
    assert (tmp_path / "encoder").is_dir()
    reports = StopAfter(math.inf)
    again = pretrain(
        world[0], autoencoder, folder=tmp_path, resume=True, on_step=reports.on_step, **options
    )
    assert reports.reports[0].step == watch.steps + 1
    assert same(weights_of(again.model), weights_of(whole.model))
    assert list(again.history.epoch) == [0, 1]
    assert not (tmp_path / "resume.ckpt").exists()


def test_a_pretraining_stopped_in_its_first_epoch_has_no_history(world, autoencoder, tmp_path):
    """Nor that of an earlier run in the same folder."""
    pretrain(world[0], autoencoder, folder=tmp_path, **PRETRAIN)
    watch = StopAfter(1)
    options = PRETRAIN | {"folder": tmp_path, "stop": watch, "on_step": watch.on_step}
    assert pretrain(world[0], autoencoder, **options).history.empty


def test_a_pretraining_is_not_begun_when_it_is_to_stop(world, autoencoder):
    with pytest.raises(CancelledError):
        pretrain(world[0].chunk(time=2), autoencoder, stop=lambda: True, **PRETRAIN)


def test_several_processes_are_not_stopped(world, autoencoder, tmp_path):
    with pytest.raises(TimoError, match="stop is for one process"):
        pretrain(
            world[0],
            autoencoder,
            folder=tmp_path,
            stop=lambda: False,
            accelerator="cpu",
            devices=2,
            strategy="ddp_fork",
            **PRETRAIN,
        )


# --- a model that ends in the middle


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_model_ends_in_the_middle_of_a_step(world, new_model, direction):
    model, stop = new_model(), threading.Event()
    x = torch.from_numpy(world[0].values[None, :3])
    with interruptible(model, stop):
        loss = model(x).sum()
        stop.set()
        with pytest.raises(CancelledError):
            model(x) if direction == "forward" else loss.backward()
    model(x).sum().backward()


# --- maps


def test_a_map_is_watched(world, new_model):
    lazy = timo.predict(new_model(), world[0], tile=32, halo=8, window=4)
    watch = StopAfter(math.inf)
    result = compute(lazy, on_step=watch.on_step)
    assert result.identical(lazy.compute())
    last = watch.reports[-1]
    assert last.step == last.steps == len(watch.reports)
    assert last.eta == 0
    assert math.isnan(last.loss)


def test_a_map_is_stopped(world, new_model):
    lazy = timo.predict(new_model(), world[0], tile=16, halo=0, window=4)
    watch, threads = StopAfter(2), threading.active_count()
    with pytest.raises(CancelledError):
        compute(lazy, stop=watch, on_step=watch.on_step)
    assert len(watch.reports) == 2
    assert threading.active_count() == threads
