import json
import logging
import os
import random
import signal
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from training_runs import same, weights_of

import timo
from timo.errors import TimoError
from timo.places import Places, Split
from timo.training import ChipOptions, Optimisation, finetune
from timo.training.answers import answers, losses_of, only_observed
from timo.training.batches import collate
from timo.training.inputs import Given
from timo.training.targets import class_weights_of
from timo.training.tiles import Tiles

SMALL = {
    "epochs": 3,
    "chips_per_epoch": 16,
    "batch_size": 4,
    "chips": ChipOptions(size=16, dates=(3, 5)),
    "progress": False,
}


# --- the same seed, the same weights


def test_the_same_seed_gives_the_same_weights_bit_by_bit(world, new_model):
    cube, labels, split = world
    models, results = [], []
    for seed, before in ((5, 0), (5, 1), (6, 0)):
        torch.manual_seed(before)
        model = new_model()
        results.append(finetune(model, cube, labels, split=split, seed=seed, **SMALL))
        models.append(weights_of(model))
    assert same(models[0], models[1])
    assert not same(models[0], models[2])
    columns = ["epoch", "loss", "validation_loss", "validation_accuracy", "validation_f1"]
    first, again = (result.history[columns] for result in results[:2])
    pd.testing.assert_frame_equal(first, again, check_exact=True)


def test_numpys_numbers_are_pythons(world, new_model):
    cube, labels, _ = world
    models = [new_model(), new_model()]
    numpys = {"epochs": np.int64(3), "batch_size": np.uint8(4), "progress": np.bool_(False)}
    for model, options in zip(models, (SMALL, SMALL | numpys), strict=True):
        finetune(model, cube, labels, **options)
    assert same(*map(weights_of, models))


def test_a_lazy_cube_is_read_once_and_gives_the_same_weights(world, new_model, tmp_path):
    cube, labels, split = world
    reads = []

    def read(block):
        reads.append(block.shape)
        return block

    lazy = cube.copy(data=cube.chunk(time=4).data.map_blocks(read, meta=cube.values[:0]))
    models = [new_model(), new_model()]
    finetune(models[0], cube, labels, split=split, **SMALL)
    finetune(models[1], lazy, labels, split=split, folder=tmp_path, **SMALL)
    assert same(*map(weights_of, models))
    assert len(reads) == 2  # its two chunks, once


# --- what it gives back


def test_history_has_a_row_an_epoch(world, new_model):
    cube, labels, split = world
    result = finetune(new_model(), cube, labels, split=split, **SMALL)
    columns = {
        "epoch",
        "loss",
        "validation_loss",
        "validation_accuracy",
        "validation_f1",
        "seconds",
    }
    assert set(result.history) == columns
    assert list(result.history.epoch) == [0, 1, 2]
    assert np.isfinite(result.history.to_numpy()).all()
    assert result.history.validation_accuracy.between(0, 1).all()
    assert 0 < result.history.seconds.sum() <= result.seconds
    without = finetune(new_model(), cube, labels, **SMALL)
    assert set(without.history) == {"epoch", "loss", "seconds"}
    assert without.epoch == 2


def test_the_model_ends_in_evaluation_on_the_cpu_also_after_an_error(world, new_model):
    cube, labels, _ = world

    class Fail(Callback):
        def on_train_batch_start(self, *_):
            raise RuntimeError("broken")

    model = new_model()
    with pytest.raises(RuntimeError, match="broken"):
        finetune(model, cube, labels, callbacks=[Fail()], **SMALL)
    assert not any(module.training for module in model.modules())
    finetune(model, cube, labels, **SMALL)
    assert not any(module.training for module in model.modules())
    assert {p.device.type for p in model.parameters()} == {"cpu"}


class Snapshots(Callback):
    """The weights after each epoch."""

    def __init__(self):
        self.weights = []

    def on_train_epoch_end(self, _, module):
        self.weights.append(weights_of(module.model))


def test_the_best_epoch_is_kept(world, new_model):
    cube, labels, split = world
    snapshots, model = Snapshots(), new_model()
    # Too fast a rate: the validation loss goes up and down.
    wild = Optimisation(learning_rate=0.03)
    options = SMALL | {"epochs": 6, "averaging": None, "optimisation": wild}
    result = finetune(model, cube, labels, split=split, callbacks=[snapshots], **options)
    assert result.epoch == result.history.validation_loss.argmin()
    assert result.epoch < 5
    assert same(weights_of(model), snapshots.weights[result.epoch])
    assert not same(weights_of(model), snapshots.weights[-1])


def test_what_is_validated_is_what_is_kept(world, new_model):
    """The averaged weights: the kept model's loss on the validation chips is that of the history."""
    cube, labels, split = world
    model = new_model()
    result = finetune(model, cube, labels, split=split, averaging=0.7, **SMALL)
    tiles = Tiles(
        Given(Places([(cube, labels)]), Split([split])),
        1,
        model.config,
        size=16,
        dates=5,
        most=16,
        seed=0,
    )
    batch = only_observed(collate([tiles[i] for i in range(len(tiles))]), per_date=True)
    with torch.no_grad():
        scores = model(batch["x"], batch["dates"], batch["valid"])
    judged = answers(scores, batch, model.config)
    expected = float(judged.mean(losses_of(judged, model.config, 0.0, None)))
    assert result.history.validation_loss.min() == pytest.approx(expected, rel=1e-5)


def test_averaging_keeps_an_average(world, new_model):
    cube, labels, _ = world
    snapshots, model = Snapshots(), new_model()
    finetune(model, cube, labels, averaging=0.9, callbacks=[snapshots], **SMALL)
    assert not same(weights_of(model), snapshots.weights[-1])
    plain = new_model()
    finetune(plain, cube, labels, averaging=None, **SMALL)
    assert same(weights_of(plain), snapshots.weights[-1])


def test_the_encoder_can_be_frozen_or_moved_at_a_rate_of_its_own(world, new_model):
    cube, labels, split = world
    moved = {}
    for rate in (0.0, 0.1, 1.0):
        model = new_model()
        before = weights_of(model)
        optimisation = Optimisation(encoder_rate=rate)
        finetune(
            model, cube, labels, split=split, averaging=0.9, optimisation=optimisation, **SMALL
        )
        assert all(p.requires_grad for p in model.parameters())
        after = weights_of(model)
        for part in ("encoder", "head"):
            names = [name for name in before if name.startswith(part)]
            moved[rate, part] = sum(float((after[n] - before[n]).abs().sum()) for n in names)
    assert moved[0.0, "encoder"] == 0
    assert 0 < moved[0.1, "encoder"] < 0.5 * moved[1.0, "encoder"]
    assert moved[0.0, "head"] > 0.3 * moved[1.0, "head"]


def test_early_stopping_stops(world, new_model):
    cube, labels, split = world
    # No weight moves, so no loss gets lower.
    frozen = Optimisation(learning_rate=1e-30)
    options = SMALL | {"epochs": 20, "optimisation": frozen, "averaging": None}
    result = finetune(new_model(), cube, labels, split=split, patience=2, **options)
    assert list(result.history.epoch) == [0, 1, 2]
    assert result.epoch == 0


def test_only_training_labels_are_learnt(grid, world, new_model):
    """With the labels of validation and test turned around, the same weights come out."""
    cube, labels, split = world
    turned = labels.copy(data=np.where(split == 0, labels, 1 - labels).astype("int8"))
    lost = labels.copy(data=np.where(split == 2, -1, labels).astype("int8"))
    models = []
    for given in (labels, turned, lost):
        model = new_model()
        # Without validation to choose an epoch by.
        part = split.copy(data=np.where(split == 0, 0, 2).astype("int8"))
        finetune(model, cube, given, split=part, **SMALL)
        models.append(weights_of(model))
    assert same(models[0], models[1])
    assert same(models[0], models[2])


def test_it_learns(world, new_model):
    cube, labels, split = world
    model = new_model()
    quick = SMALL | {"epochs": 8, "chips_per_epoch": 32}
    result = finetune(
        model, cube, labels, split=split, optimisation=Optimisation(learning_rate=0.01), **quick
    )
    assert result.history.validation_accuracy.max() > 0.95
    label = timo.predict(model, cube).label.compute()
    seen = (label >= 0) & (split == 2)
    accuracy = float((label == labels).where(seen).mean())
    assert accuracy > 0.95


def test_a_model_of_the_series_learns_too(world, new_model):
    cube, labels, split = world
    model = new_model(per_date=False)
    options = SMALL | {"epochs": 8, "chips_per_epoch": 32}
    options["chips"] = ChipOptions(size=16, dates=(3, 5), splice=0)
    finetune(
        model, cube, labels, split=split, optimisation=Optimisation(learning_rate=0.01), **options
    )
    label = timo.predict(model, cube).label.compute()
    assert float((label == labels).where(split == 2).mean()) > 0.95


def test_balanced_weights_are_the_inverse_of_the_shares():
    counts, names = np.array([3, 1]), ("a", "b")
    assert torch.allclose(class_weights_of("balanced", counts, names), torch.tensor([4 / 6, 2.0]))
    # The third class never occurs.
    assert class_weights_of("balanced", np.array([3, 1, 0]), ("a", "b", "c"))[2] == 0
    assert class_weights_of(None, counts, names) is None
    for weights in ((1, 3), {"b": 3, "a": 1}):
        assert torch.equal(class_weights_of(weights, counts, names), torch.tensor([1.0, 3.0]))


def test_class_weights_matter(world, new_model):
    cube, labels, _ = world
    models = []
    for class_weights in (None, "balanced", [1.0, 1.0]):
        model = new_model()
        finetune(model, cube, labels, class_weights=class_weights, **SMALL)
        models.append(weights_of(model))
    assert not same(models[0], models[1])
    assert same(models[0], models[2])


# --- what it leaves behind


def test_the_folder_holds_the_model_and_the_history(world, new_model, tmp_path):
    cube, labels, split = world
    model = new_model()
    result = finetune(model, cube, labels, split=split, folder=tmp_path / "run", **SMALL)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["history.csv", "model"]
    assert same(weights_of(timo.load_model(tmp_path / "run" / "model")), weights_of(model))
    saved = pd.read_csv(tmp_path / "run" / "history.csv")
    pd.testing.assert_frame_equal(saved, result.history)


def test_nothing_is_written_without_a_folder(world, new_model, tmp_path, monkeypatch):
    cube, labels, split = world
    monkeypatch.chdir(tmp_path)
    finetune(new_model(), cube, labels, split=split, **SMALL)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_the_users_own_works_without_a_folder(world, new_model, tmp_path):
    cube, labels, _ = world
    finetune(new_model(), cube, labels, callbacks=[ModelCheckpoint(tmp_path)], **SMALL)
    assert list(tmp_path.glob("*.ckpt"))


def state_of_the_process():
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state().tolist(),
        "environment": dict(os.environ),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "grad": torch.is_grad_enabled(),
        "interrupt": signal.getsignal(signal.SIGINT),
        "terminate": signal.getsignal(signal.SIGTERM),
        "log levels": [logging.getLogger(f"lightning.{n}").level for n in ("pytorch", "fabric")],
        "warnings": list(warnings.filters),
    }


@pytest.fixture
def users_state():
    """A process that has choices of its own."""
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


class Raise(Callback):
    def __init__(self, error):
        self.error = error

    def on_train_batch_end(self, trainer, *_):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        if trainer.global_step == 2:
            raise self.error


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("own", [True, False])
def test_the_process_is_left_as_it_was(world, new_model, error, own, request):
    if own:
        request.getfixturevalue("users_state")
    cube, labels, split = world
    model, callbacks = new_model(), [Raise(error)] if error else []
    before = state_of_the_process()
    if error is None:
        finetune(model, cube, labels, split=split, **SMALL)
    else:
        with pytest.raises(error):
            finetune(model, cube, labels, split=split, callbacks=callbacks, **SMALL)
    after = state_of_the_process()
    for name, value in before.items():
        assert after[name] == value, name


def test_an_interrupt_stays_an_interrupt(world, new_model):
    """Lightning would end the process, and a notebook its cell with a SystemExit."""
    cube, labels, _ = world

    class PressCtrlC(Callback):
        def on_train_batch_end(self, *_):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    # A shell starts what runs in the background deaf to Ctrl-C; Python's own answer, wherever the tests run.
    answer = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                finetune(new_model(), cube, labels, callbacks=[PressCtrlC()], **SMALL)
    finally:
        signal.signal(signal.SIGINT, answer)


def test_it_runs_beside_the_main_thread(world, new_model):
    """As a background job does; signals belong to the main thread."""
    cube, labels, split = world
    models, results = [new_model(), new_model()], []

    def job():
        results.append(finetune(models[0], cube, labels, split=split, **SMALL))

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert len(results) == 1
    finetune(models[1], cube, labels, split=split, **SMALL)
    assert same(*map(weights_of, models))


def test_the_progress_line_says_what_happens(world, new_model, capfd):
    cube, labels, split = world
    finetune(new_model(), cube, labels, split=split, **SMALL | {"progress": True})
    line = capfd.readouterr().err.split("\r")[-1]
    assert "3/3" in line
    assert "loss=" in line
    assert "validation_loss=" in line


def test_nothing_else_is_said(world, new_model, capfd):
    cube, labels, split = world
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        finetune(new_model(), cube, labels, split=split, **SMALL)
        finetune(new_model(), cube, labels, **SMALL)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""


# --- errors

BAD_OPTIONS = {
    "epochs": ({"epochs": 0}, "epochs must be a whole number of 1 or more or None; got 0"),
    "text": ({"epochs": "3"}, "Write epochs=3, without quotes"),
    "flag": ({"epochs": True}, "epochs must be a whole number of 1 or more or None; got True"),
    "batch": ({"batch_size": -1}, "batch_size must be .* got -1"),
    "patience": ({"patience": 0}, "patience must be a whole number of 1 or more or None; got 0"),
    "no validation": ({"patience": 2}, "patience needs validation pixels: give a split with 1"),
    "seed": ({"seed": -1}, "seed must be a whole number .* got -1"),
    "averaging": ({"averaging": 1.0}, "averaging must be .* above 0 and below 1 or None; got 1.0"),
    "nan": ({"averaging": np.nan}, "averaging must be .* got nan"),
    "weights": (
        {"class_weights": [1.0]},
        r"2 classes need 2 class_weights, one for each; got \[1.0\]",
    ),
    "negative": ({"class_weights": [1.0, -1]}, r"class_weights must be .* \(number 1 is -1\)"),
    "zero": ({"class_weights": [0, 0]}, r"class_weights \[0, 0\] leave nothing to learn"),
    "no number": ({"class_weights": [1, np.nan]}, r"class_weights must be .* \(number 1 is nan\)"),
    "names": (
        {"class_weights": {"forest": 1, "meadow": 2}},
        r"must name the classes \['forest', 'other'\], each once; got \['forest', 'meadow'\]",
    ),
    "word": ({"class_weights": "even"}, "class_weights must be one of 'balanced' or .* got 'even'"),
    "resume": ({"resume": True}, "resume needs the folder of the run: give folder="),
    "unknown": ({"epoch": 3}, "Did you mean 'epochs'"),
    "chips": ({"chips": {"size": 16}}, "chips must be a timo.ChipOptions or None"),
    "callback": ({"callbacks": [print]}, r"callbacks must be .* \(number 0 is print\)"),
    "stop": ({"stop": 3}, "stop must be .* got 3"),
    "folder": ({"folder": 3}, "folder must be text or a path or None; got 3"),
}


@pytest.mark.parametrize(("wrong", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_options_that_make_no_sense_are_met_at_the_door(world, new_model, wrong, message):
    cube, labels, _ = world
    model = new_model()
    before = weights_of(model)
    with pytest.raises(TimoError, match=message):
        finetune(model, cube, labels, **SMALL | wrong)
    assert same(weights_of(model), before)


def test_callbacks_that_do_not_go_together_are_refused(world, new_model):
    cube, labels, split = world
    twice = [EarlyStopping("loss", patience=3), EarlyStopping("loss", patience=3)]
    with pytest.raises(TimoError, match=r"the callbacks not for one trainer: .*EarlyStopping"):
        finetune(new_model(), cube, labels, split=split, callbacks=twice, **SMALL)


def test_a_model_for_other_data(world, new_model):
    cube, labels, _ = world
    with pytest.raises(
        TimoError,
        match=r"reads the bands \('B4', 'B8'\), the cube has \('B8', 'B4'\)\. Use cube.sel\(band=\['B4', 'B8'\]\)",
    ):
        finetune(new_model(), cube.sel(band=["B8", "B4"]), labels, **SMALL)
    with pytest.raises(
        TimoError, match=r"labels' classes are \('forest', 'other'\), the model's \('a', 'b'\)"
    ):
        finetune(new_model(classes=("a", "b")), cube, labels, **SMALL)
    nameless = labels.copy(data=labels.values + 1)
    del nameless.attrs["classes"]
    with pytest.raises(TimoError, match="labels go up to class 2, the model has 2 classes"):
        finetune(new_model(), cube, nameless, **SMALL)


def test_a_model_for_another_task(world):
    cube, labels, _ = world
    model = timo.load_model("timo-tiny", data=cube, classes=["a", "b"], task="classification")
    with pytest.raises(TimoError, match=r"Labels of a chip have no dims .* got \('y', 'x'\)"):
        finetune(model, cube, labels, **SMALL)


def test_labels_and_splits_that_do_not_fit(world, new_model):
    cube, labels, split = world
    model = new_model()
    with pytest.raises(TimoError, match="labels are on another grid: their x is up to 1 cells"):
        finetune(model, cube, labels.assign_coords(x=labels.x + 10), **SMALL)
    with pytest.raises(TimoError, match=r"split must be on the cube's grid.* x is up to 1 cells"):
        finetune(model, cube, labels, split=split.assign_coords(x=split.x + 10), **SMALL)
    with pytest.raises(TimoError, match=r"split must be an xarray.DataArray or .* got ndarray"):
        finetune(model, cube, labels, split=split.values, **SMALL)
    for wrong in (split.T, split.astype("float32"), split.astype(str)):
        with pytest.raises(TimoError, match=r"split must be .* dims \(y, x\), in integers .* got "):
            finetune(model, cube, labels, split=wrong, **SMALL)
    with pytest.raises(TimoError, match=r"The train part has no label"):
        finetune(model, cube, labels, split=split + 1, **SMALL)
    with pytest.raises(TimoError, match="no pixel is labelled"):
        finetune(model, cube, labels * 0 - 1, **SMALL)
    with pytest.raises(TimoError, match="cube must be float32"):
        finetune(model, cube.astype("float64"), labels, **SMALL)


def test_labels_whose_coordinates_differ_by_rounding(world, new_model):
    cube, labels, split = world
    nudge = {"x": cube.x + 1e-6}
    models = [new_model(), new_model()]
    finetune(models[0], cube, labels, split=split, **SMALL)
    nudged = (labels.assign_coords(nudge), split.assign_coords(nudge))
    finetune(models[1], cube, nudged[0], split=nudged[1], **SMALL)
    assert same(*map(weights_of, models))


def test_a_folder_that_cannot_be_written(world, new_model, tmp_path):
    cube, labels, _ = world
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(TimoError, match=r"cannot write to the folder '.*taken': it is a file"):
        finetune(new_model(), cube, labels, folder=tmp_path / "taken", **SMALL)
    theirs = tmp_path / "run" / "model"
    theirs.mkdir(parents=True)
    (theirs / "notes.txt").write_text("mine")
    with pytest.raises(TimoError, match="model is something other than a model: choose another"):
        finetune(new_model(), cube, labels, folder=tmp_path / "run", **SMALL)
    assert (theirs / "notes.txt").read_text() == "mine"


def test_an_older_model_in_the_folder_is_replaced(world, new_model, tmp_path):
    cube, labels, _ = world
    timo.save(new_model(seed=9), tmp_path / "model")
    model = new_model()
    finetune(model, cube, labels, folder=tmp_path, **SMALL)
    assert same(weights_of(timo.load_model(tmp_path / "model")), weights_of(model))
    assert json.loads((tmp_path / "model" / "config.json").read_text())["format"] == 1


def test_a_training_that_diverges_says_so(world, new_model, tmp_path):
    cube, labels, _ = world

    class Diverge(Callback):
        def on_train_batch_start(self, _, module, *__):
            next(module.model.parameters()).data.fill_(float("nan"))

    with pytest.raises(
        TimoError, match=r"diverged: the loss of epoch 0 is nan\. Load a new model and give a lower"
    ):
        finetune(new_model(), cube, labels, folder=tmp_path, callbacks=[Diverge()], **SMALL)
    assert not list(tmp_path.iterdir())
