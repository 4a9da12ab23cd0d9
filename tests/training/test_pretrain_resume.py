"""A pretraining that is killed in the middle of an epoch ends, resumed, as the whole run would have."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_pretrain import CONFIG, SMALL, same, weights_of
from training_runs import StopAt, StopError

import timo
from timo.errors import TimoError
from timo.training import ChipOptions, PretrainOptions, WindowOptions, finetune

STEPS = 5  # of an epoch
RUN = SMALL | {"epochs": 2, "chips_per_epoch": 20, "checkpoint_every": 2}
# Plain; with an average and parts; with stochastic depth and readers ahead.
KINDS = {
    "plain": {},
    "averaged, in parts": {"averaging": 0.8, "accumulate": 2},
    "random depth, workers": {"workers": 2},
}

KILLED_AT = {"plain": 3, "averaged, in parts": STEPS + 4, "random depth, workers": STEPS + 3}

# The same world and the same options as here, in another process.
KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
import test_pretrain_resume as here
from training_world import make_world

torch.set_num_threads(1)
here.run(make_world(), {kind!r}, folder={folder!r}, callbacks=[here.Signal({step}, signal.SIGKILL)])
"""


class Signal(Callback):
    """End the process, or ask it to end, before a step."""

    def __init__(self, step, number):
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def config_of(kind):
    if not kind.startswith("random"):
        return CONFIG
    from dataclasses import replace

    return replace(CONFIG, encoder=replace(CONFIG.encoder, drop_path=0.5))


def run(world, kind="plain", **options):
    cube, _, split = world
    return timo.pretrain(cube, config_of(kind), exclude=split, **RUN | KINDS[kind] | options)


@pytest.fixture(scope="module")
def whole(world):
    """Results of runs that nothing interrupts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results = {kind: run(world, kind) for kind in KINDS}
    torch.set_num_threads(threads)
    return results


def assert_as_whole(result, whole):
    assert same(weights_of(result.model), weights_of(whole.model))
    columns = [name for name in whole.history if name != "seconds"]
    pd.testing.assert_frame_equal(result.history[columns], whole.history[columns], check_exact=True)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folders of runs that were killed, all at once: most of the time goes into starting them."""
    folders = {kind: tmp_path_factory.mktemp("killed") for kind in KINDS}
    running = {}
    for kind, folder in folders.items():
        script = KILLED.format(
            tests=str(Path(__file__).parent), step=KILLED_AT[kind], folder=str(folder), kind=kind
        )
        running[kind] = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    for process in running.values():
        _, errors = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, errors.decode()
    return folders


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_run_killed_in_the_middle_of_an_epoch(*, world, whole, killed, kind):
    tmp_path = killed[kind]
    left = {path.name for path in tmp_path.iterdir()}
    assert "resume.ckpt" in left
    assert "model" not in left
    state = torch.load(tmp_path / "resume.ckpt", weights_only=True)["pretraining"]
    # The last multiple of two steps within its epoch, or the epoch's end.
    done = KILLED_AT[kind] - KILLED_AT[kind] % STEPS % 2
    assert done % STEPS > 0
    assert state["steps"] == done
    result = run(world, kind, folder=tmp_path, resume=True)
    assert_as_whole(result, whole[kind])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["encoder", "history.csv", "model"]


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("plain", 1),
        ("plain", 2),
        ("averaged, in parts", 4),
        ("averaged, in parts", STEPS),
        ("plain", STEPS + 1),
        ("averaged, in parts", 2 * STEPS - 1),
    ],
)
def test_a_run_stopped_anywhere(*, world, whole, tmp_path, kind, step):
    with pytest.raises(StopError):
        run(world, kind, folder=tmp_path, callbacks=[StopAt(step)])
    torch.manual_seed(step)
    assert_as_whole(run(world, kind, folder=tmp_path, resume=True), whole[kind])


def test_a_run_stopped_again_and_again(world, whole, tmp_path):
    for step in (3, STEPS + 1, STEPS + 3):
        with pytest.raises(StopError):
            run(world, folder=tmp_path, resume=True, callbacks=[StopAt(step)])
    assert_as_whole(run(world, folder=tmp_path, resume=True), whole["plain"])


def test_a_run_stopped_after_its_last_epoch(world, whole, tmp_path, monkeypatch):
    """All is trained, nothing is written yet."""

    def fail(*_, **__):
        raise StopError

    kind = "averaged, in parts"
    with monkeypatch.context() as patch:
        patch.setattr("timo.training.pretraining.journal.save", fail)
        with pytest.raises(StopError):
            run(world, kind, folder=tmp_path)
    assert not (tmp_path / "model").exists()
    assert_as_whole(run(world, kind, folder=tmp_path, resume=True), whole[kind])
    assert (tmp_path / "model").exists()


def test_a_resumed_run_may_use_other_parts_and_workers(world, whole, tmp_path):
    with pytest.raises(StopError):
        run(world, folder=tmp_path, callbacks=[StopAt(3)])
    result = run(world, folder=tmp_path, resume=True, accumulate=2, workers=1)
    pd.testing.assert_series_equal(result.history.loss, whole["plain"].history.loss, rtol=1e-4)


@pytest.mark.parametrize("step", [1, STEPS - 1, STEPS])
def test_ctrl_c_saves_the_step_it_was_in(world, whole, tmp_path, step):
    """In the middle of an epoch, and in its last step; after it the answer to Ctrl-C is the process's own."""
    answer = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(world, folder=tmp_path, callbacks=[Signal(step, signal.SIGINT)])
    assert signal.getsignal(signal.SIGINT) is answer
    state = torch.load(tmp_path / "resume.ckpt", weights_only=True)["pretraining"]
    assert state["steps"] == step + 1
    assert_as_whole(run(world, folder=tmp_path, resume=True), whole["plain"])


def test_resume_without_a_checkpoint_begins(world, whole, tmp_path):
    assert_as_whole(run(world, folder=tmp_path, resume=True), whole["plain"])


def test_a_checkpoint_of_another_run_is_refused(world, tmp_path):
    cube, _, split = world
    with pytest.raises(StopError):
        run(world, folder=tmp_path, callbacks=[StopAt(3)])
    resume = RUN | {"folder": tmp_path, "resume": True}
    with pytest.raises(TimoError, match=r"another run, epochs, seed differ: .*resume.ckpt"):
        timo.pretrain(cube, CONFIG, exclude=split, **resume | {"epochs": 9, "seed": 2})
    with pytest.raises(TimoError, match="another run, split differ"):
        timo.pretrain(cube, CONFIG, **resume)
    with pytest.raises(TimoError, match="another run, cube differ"):
        timo.pretrain(cube + 1, CONFIG, exclude=split, **resume)
    with pytest.raises(TimoError, match="another run, model differ"):
        timo.pretrain(cube, config_of("random"), exclude=split, **resume)
    other = {"chips": WindowOptions(size=24), "optimisation": PretrainOptions(1e-3)}
    with pytest.raises(TimoError, match="another run, chips, optimisation differ"):
        timo.pretrain(cube, CONFIG, exclude=split, **resume | other)
    assert (tmp_path / "resume.ckpt").exists()


def test_a_damaged_checkpoint_and_one_of_a_finetuning_are_refused(world, new_model, tmp_path):
    (tmp_path / "resume.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(TimoError, match=r"damaged or not one of timo\.pretrain"):
        run(world, folder=tmp_path, resume=True)
    cube, labels, _ = world
    with pytest.raises(StopError):
        finetune(
            new_model(),
            cube,
            labels,
            epochs=2,
            chips_per_epoch=4,
            batch_size=4,
            chips=ChipOptions(size=16, dates=(2, 3)),
            folder=tmp_path,
            callbacks=[StopAt(1)],
            progress=False,
        )
    with pytest.raises(TimoError, match=r"damaged or not one of timo\.pretrain"):
        run(world, folder=tmp_path, resume=True)


def test_what_an_earlier_run_left_is_not_gone_on_with(world, whole, tmp_path):
    with pytest.raises(StopError):
        run(world, folder=tmp_path, callbacks=[StopAt(3)], seed=1)
    with pytest.raises(StopError):
        run(world, folder=tmp_path, callbacks=[StopAt(1)])
    assert not (tmp_path / "resume.ckpt").exists()
    assert_as_whole(run(world, folder=tmp_path, resume=True), whole["plain"])
