import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from training_runs import StopAt, StopError, make_places, same, weights_of

import timo
from timo.errors import TimoError
from timo.places import Places
from timo.training import ChipOptions, Optimisation, finetune

SMALL = {
    "epochs": 3,
    "chips_per_epoch": 16,
    "batch_size": 4,
    "chips": ChipOptions(size=16, dates=(3, 5)),
    "progress": False,
}
STEPS = 4  # of an epoch

# The same world and the same options as here, in another process.
KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
from lightning.pytorch.callbacks import Callback
from training_world import make_model, make_world
from test_resume import SMALL
from timo.training import finetune

class Kill(Callback):
    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == {step}:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
cube, labels, split = make_world()
finetune(make_model(), cube, labels, split=split, folder={folder!r}, callbacks=[Kill()], **SMALL)
"""


def train(new_model, world, parts=True, **options):
    cube, labels, split = world
    model = new_model()
    result = finetune(model, cube, labels, split=split if parts else None, **SMALL | options)
    return weights_of(model), result


@pytest.fixture(scope="module")
def whole(new_model, world):
    """Weights and result of runs that nothing interrupts, with and without validation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    runs = {parts: train(new_model, world, parts) for parts in (True, False)}
    torch.set_num_threads(threads)
    return runs


def assert_as_whole(weights, result, whole):
    assert same(weights, whole[0])
    columns = [name for name in whole[1].history if name != "seconds"]
    pd.testing.assert_frame_equal(
        result.history[columns], whole[1].history[columns], check_exact=True
    )
    assert result.epoch == whole[1].epoch


def test_a_killed_run_looks_unfinished_and_goes_on(new_model, world, whole, tmp_path):
    script = KILLED.format(
        tests=str(Path(__file__).parent), step=STEPS + 2, folder=str(tmp_path / "run")
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    left = [path.name for path in (tmp_path / "run").iterdir()]
    assert left == ["resume.ckpt"]
    with pytest.raises(TimoError, match="no model at"):
        timo.load_model(tmp_path / "run")
    weights, result = train(new_model, world, folder=tmp_path / "run", resume=True)
    assert_as_whole(weights, result, whole[True])
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert left == ["history.csv", "model"]
    assert same(weights_of(timo.load_model(tmp_path / "run" / "model")), weights)
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 3


KILLED_ON_PLACES = KILLED.replace(
    "finetune(make_model(), cube, labels, split=split,",
    "from training_runs import make_places\nfinetune(make_model(), make_places(), split='block', workers=1,",
)


def test_a_killed_run_on_places_ends_as_the_whole_run(new_model, tmp_path):
    """Places of different sizes, whose chips come in an order of their own."""
    assert "make_places(), split" in KILLED_ON_PLACES
    folder = tmp_path / "run"
    script = KILLED_ON_PLACES.format(
        tests=str(Path(__file__).parent), step=STEPS + 2, folder=str(folder)
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    assert [path.name for path in folder.iterdir()] == ["resume.ckpt"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole, resumed = new_model(), new_model()
    first = finetune(whole, make_places(), split="block", **SMALL)
    other = Places([(p.cube, 1 - p.labels) for p in make_places()])
    with pytest.raises(TimoError, match="another run, places differ"):
        finetune(new_model(), other, split="block", folder=folder, resume=True, **SMALL)
    second = finetune(resumed, make_places(), split="block", folder=folder, resume=True, **SMALL)
    torch.set_num_threads(threads)
    assert_as_whole(weights_of(resumed), second, (weights_of(whole), first))


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("step", [1, STEPS + 1, 3 * STEPS - 1])
def test_a_run_stopped_anywhere_ends_as_the_whole_run(
    *, new_model, world, whole, tmp_path, step, parts
):
    with pytest.raises(StopError):
        train(new_model, world, parts, folder=tmp_path, callbacks=[StopAt(step)])
    assert not (tmp_path / "model").exists()
    torch.manual_seed(step)
    weights, result = train(new_model, world, parts, folder=tmp_path, resume=True)
    assert_as_whole(weights, result, whole[parts])


def test_a_run_stopped_twice(new_model, world, whole, tmp_path):
    for step in (STEPS + 1, 2 * STEPS + 1):
        with pytest.raises(StopError):
            train(new_model, world, folder=tmp_path, resume=True, callbacks=[StopAt(step)])
    assert_as_whole(*train(new_model, world, folder=tmp_path, resume=True), whole[True])


def fail(*args):
    raise StopError


@pytest.mark.parametrize("parts", [True, False])
def test_a_run_stopped_after_its_last_epoch(
    *, new_model, world, whole, tmp_path, monkeypatch, parts
):
    """All is trained, nothing is written yet."""
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["timo.training.finetuned"], "save", fail)
        with pytest.raises(StopError):
            train(new_model, world, parts, folder=tmp_path)
    assert not (tmp_path / "model").exists()
    # The weights come from the checkpoint, not from the model that is given.
    model = new_model(seed=7)
    cube, labels, split = world
    result = finetune(
        model, cube, labels, split=split if parts else None, folder=tmp_path, resume=True, **SMALL
    )
    assert_as_whole(weights_of(model), result, whole[parts])
    assert (tmp_path / "model").exists()


def test_a_run_that_had_stopped_early_does_not_go_on(new_model, world, tmp_path, monkeypatch):
    frozen = {
        "optimisation": Optimisation(learning_rate=1e-30),
        "patience": 1,
        "epochs": 9,
        "averaging": None,
    }
    whole = train(new_model, world, **frozen)
    assert list(whole[1].history.epoch) == [0, 1]
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["timo.training.finetuned"], "save", fail)
        with pytest.raises(StopError):
            train(new_model, world, folder=tmp_path, **frozen)
    assert_as_whole(*train(new_model, world, folder=tmp_path, resume=True, **frozen), whole)


def test_resume_without_a_checkpoint_begins(new_model, world, whole, tmp_path):
    assert_as_whole(*train(new_model, world, folder=tmp_path, resume=True), whole[True])


def test_progress_goes_on_where_it_was(new_model, world, tmp_path, capfd):
    with pytest.raises(StopError):
        train(new_model, world, folder=tmp_path, callbacks=[StopAt(2 * STEPS + 1)])
    capfd.readouterr()
    train(new_model, world, folder=tmp_path, resume=True, progress=True)
    lines = capfd.readouterr().err.split("\r")
    assert "2/3" in lines[1]
    assert "3/3" in lines[-1]


def test_what_an_earlier_run_left_is_not_gone_on_with(new_model, world, whole, tmp_path):
    with pytest.raises(StopError):
        train(new_model, world, folder=tmp_path, callbacks=[StopAt(STEPS + 1)], seed=1)
    assert (tmp_path / "resume.ckpt").exists()
    # The next run begins anew, and is itself stopped before its first epoch ends.
    with pytest.raises(StopError):
        train(new_model, world, folder=tmp_path, callbacks=[StopAt(2)])
    assert not list(tmp_path.iterdir())
    assert_as_whole(*train(new_model, world, folder=tmp_path, resume=True), whole[True])


def test_the_checkpoint_holds_nothing_that_can_run_code(new_model, world, tmp_path):
    with pytest.raises(StopError):
        train(new_model, world, folder=tmp_path, callbacks=[StopAt(STEPS + 1)])
    checkpoint = torch.load(tmp_path / "resume.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 0


def test_a_checkpoint_of_another_run_is_refused(new_model, world, tmp_path):
    cube, labels, split = world
    with pytest.raises(StopError):
        train(new_model, world, folder=tmp_path, callbacks=[StopAt(STEPS + 1)])
    resume = {"folder": tmp_path, "resume": True}
    with pytest.raises(
        TimoError,
        match=r"checkpoint is of another run, epochs, seed differ: give the same, or remove it, or "
        r"give resume=False to train again from the start \(.*resume.ckpt\)",
    ):
        train(new_model, world, epochs=5, seed=2, **resume)
    with pytest.raises(TimoError, match="another run, model differ"):
        finetune(new_model(drop_path=0.0), cube, labels, split=split, **resume, **SMALL)
    other = labels.copy(data=1 - labels.values)
    with pytest.raises(TimoError, match="another run, labels differ"):
        finetune(new_model(), cube, other, split=split, **resume, **SMALL)
    with pytest.raises(TimoError, match="another run, split differ"):
        finetune(new_model(), cube, labels, **resume, **SMALL)
    with pytest.raises(TimoError, match="another run, cube differ"):
        finetune(new_model(), cube.isel(time=slice(7)), labels, split=split, **resume, **SMALL)
    moved = cube.copy(data=cube.values + np.float32(0.01))
    with pytest.raises(TimoError, match="another run, cube differ"):
        finetune(new_model(), moved, labels, split=split, **resume, **SMALL)
    assert (tmp_path / "resume.ckpt").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip"])
def test_a_damaged_checkpoint_is_refused(new_model, world, tmp_path, content):
    (tmp_path / "resume.ckpt").write_bytes(content)
    with pytest.raises(
        TimoError, match=r"resume checkpoint is damaged or not one of timo\.finetune"
    ):
        train(new_model, world, folder=tmp_path, resume=True)


class Evil:
    def __reduce__(self):
        return print, ("ran",)


def test_a_pickle_in_its_place_is_not_run(new_model, world, tmp_path, capsys):
    torch.save({"callbacks": Evil()}, tmp_path / "resume.ckpt")
    with pytest.raises(TimoError, match=r"damaged or not one of timo\.finetune"):
        train(new_model, world, folder=tmp_path, resume=True)
    torch.save({"state_dict": {}}, tmp_path / "resume.ckpt")
    with pytest.raises(TimoError, match=r"damaged or not one of timo\.finetune"):
        train(new_model, world, folder=tmp_path, resume=True)
    assert "ran" not in capsys.readouterr().out
