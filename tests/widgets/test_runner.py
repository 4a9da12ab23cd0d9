"""The runner, from the kernel's side: what its buttons do to the state, and what it shows."""

import copy
import gc
import html
import threading
import time
import types
from dataclasses import replace

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import torch
import xarray as xr
from timo_widgets.app.recipe import read_recipe
from timo_widgets.attention.inspector import AttentionInspector
from timo_widgets.base.state import State
from timo_widgets.run import view
from timo_widgets.run.runner import Runner

import timo
from timo.models.answering import ModelConfig
from timo.models.config import PIXEL, EncoderConfig
from timo.models.tasks import build

CLASSES = ["forest", "other"]


@pytest.fixture(scope="module")
def cube():
    rng = np.random.default_rng(0)
    other = np.zeros((32, 40), bool)
    other[:, 20:] = True
    means = np.where(
        other, np.float32([0.12, 0.18])[:, None, None], np.float32([0.04, 0.3])[:, None, None]
    )
    values = (means + rng.normal(0, 0.01, (6, 2, 32, 40))).astype("float32")
    coords = {
        "time": pd.date_range("2018-05-01", periods=6, freq="10D"),
        "band": ["B4", "B8"],
        "y": 1000.0 - 10 * np.arange(32),
        "x": 500_000.0 + 10 * np.arange(40),
    }
    made = xr.DataArray(values, coords, ("time", "band", "y", "x"), attrs={"sensor": "sentinel-2"})
    return made.rio.write_crs("EPSG:32634")


@pytest.fixture
def labels(cube):
    values = np.full(cube.shape[-2:], -1, "int16")
    values[4:8, 4:8], values[4:8, 30:34] = 0, 1
    coords = {name: cube[name] for name in ("y", "x", "spatial_ref")}
    return xr.DataArray(values, coords, ("y", "x"), attrs={"classes": CLASSES})


@pytest.fixture
def small():
    """A model of the state that trains a step in some milliseconds."""
    encoder = EncoderConfig(
        in_channels=2, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2)
    )
    config = ModelConfig(
        encoder=encoder,
        bands=("B4", "B8"),
        classes=tuple(CLASSES),
        mean=(0.07, 0.27),
        std=(0.04, 0.1),
        head_width=8,
        detail=4,
    )
    return build(config)


@pytest.fixture
def state(cube, labels, small):
    # One after the other: a new cube takes away what belonged to another.
    state = State(cube=cube)
    state.labels, state.classes, state.model = labels, CLASSES, small
    return state


@pytest.fixture
def runner(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = Runner(state=state)
    runner.options.start.value = "present"
    yield runner
    runner.close()


def steps_of(job):
    while not job.step and not job.ended:
        time.sleep(0.01)
    return job.step


def test_few_clicks_give_a_model_and_a_map(runner, state, small):
    before = {name: w.clone() for name, w in small.state_dict().items()}
    runner.few_button.click()
    assert runner.wait(60)
    assert runner.job.state == "done"
    assert runner.message.text == ""
    assert state.model is not small
    assert all(torch.equal(w, before[name]) for name, w in small.state_dict().items())
    label = state.result.label.isel(time=0).values
    assert (label[:, 22:] == 1).mean() > 0.9
    assert (label[:, :18] == 0).mean() > 0.9
    assert state.code == [
        "timo.fit_head(model, cube, labels)",
        "result = timo.predict(model, cube)",
    ]
    expected = timo.predict(state.model, state.cube).compute()
    np.testing.assert_allclose(state.result.probability, expected.probability, atol=1e-5)


def test_the_features_are_computed_once(runner, state, labels):
    lines = []
    for number in range(3):
        state.labels = labels.where(labels != number, -1).astype("int16") if number > 1 else labels
        job = runner.few_clicks()
        assert runner.wait(60)
        assert job.state == "done", job.error
        lines.append([line for line in job.log if "features" in line])
    assert [len(some) for some in lines] == [1, 0, 0]


def test_a_new_model_is_made_as_the_code_says(runner, state, cube, labels):
    runner.options.start.value = "new"
    runner.options.pretrained.value = False
    runner.options.seed.value = 3
    runner.few_clicks()
    assert runner.wait(120)
    assert "one group of neighbours" in runner.message.text
    names = {"timo": timo, "cube": cube, "labels": labels}
    for line in state.code:
        exec(line, names)  # noqa: S102 - the promise is that it runs
    got, expected = state.result, names["result"].compute()
    np.testing.assert_allclose(got.probability, expected.probability, atol=1e-5)


def test_fine_tuning_shows_its_steps_and_its_loss(runner, state, small):
    runner.options.epochs.value = 1
    runner.finetune_button.click()
    job = runner.job
    assert runner.wait(120)
    assert job.state == "done", job.error
    assert job.step == job.steps == 40
    assert len(job.losses) == 40
    assert len(runner.loss.series[0]["values"]) == 40
    assert runner.loss.dates[-1] == "40"
    assert "step 40 of 40" in runner.lines.value
    assert runner.bar.value == 1
    assert state.code == [
        "timo.finetune(model, cube, labels, epochs=1, seed=0, folder='runs/finetune')"
    ]
    assert state.model is not small
    assert timo.load_model("runs/finetune/model").config == state.model.config


def test_cancel_stops_within_two_seconds_and_leaves_a_model(runner, state):
    runner.options.epochs.value = 500
    job = runner.finetune()
    assert steps_of(job)
    began = time.monotonic()
    runner.cancel_button.click()
    assert job.join(10)
    assert time.monotonic() - began < 2
    assert runner.wait(10)
    assert job.state == "cancelled"
    assert runner.cancel_button.disabled
    left = timo.load_model("runs/finetune/model")
    theirs, ours = left.state_dict(), state.model.state_dict()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert state.code[-1].startswith(f"# stopped after step {job.step} of 20000: timo.finetune(")
    assert "timo.load_model('runs/finetune/model')" in html.unescape(runner.lines.value)
    # And the next one runs.
    runner.options.epochs.value = 1
    assert runner.finetune() is not None
    assert runner.wait(120)
    assert runner.job.state == "done"


def test_a_stopped_run_is_gone_on_with(runner, state):
    runner.options.epochs.value = 2
    job = runner.finetune()
    while job.step < 41 and not job.ended:
        time.sleep(0.005)
    runner.cancel()
    assert job.join(30)
    # The results of jobs come with `wait`, in a kernel by themselves: the model is as before the run.
    runner.options.resume.value = True
    again = runner.finetune()
    assert runner.wait(120)
    assert again.state == "done", again.error
    assert again.step == 80
    assert again.losses[0][0] == 41


def test_two_jobs_are_queued_and_the_second_uses_what_the_first_left(runner, state, small):
    runner.options.epochs.value = 1
    first, second = runner.finetune(), runner.predict()
    assert second.state == "queued"
    assert runner.listed.value.count("<li") == 2
    assert "waiting" in runner.listed.value
    assert runner.wait(120)
    assert (first.state, second.state) == ("done", "done")
    expected = timo.predict(state.model, state.cube).compute()
    assert state.result.probability.identical(expected.probability)
    assert runner.job is second


def test_a_failure_is_shown_with_its_remedy(runner, state, cube):
    state.model = None
    runner.predict()
    assert runner.wait(60)
    assert runner.job.state == "failed"
    assert runner.message.kind == "error"
    assert "There is no model yet: press Fine-tune first" in runner.message.text
    assert runner.bar.bar_style == "danger"
    state.labels = None
    assert runner.finetune() is None
    assert "There are no labels yet: draw some" in runner.message.text


def test_an_error_that_is_not_ours_is_shown_too(runner, state, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("timo.predict", fail)
    state.model = types.SimpleNamespace(config=types.SimpleNamespace(task="segmentation"))
    runner.predict()
    assert runner.wait(60)
    assert "RuntimeError: out of memory" in runner.message.text
    assert runner.message.kind == "error"


def test_pretraining_gives_an_encoder_to_start_from(runner, state):
    runner.options.start.value = "new"
    runner.options.epochs.value = 50
    job = runner.pretrain()
    assert steps_of(job), job.error
    runner.cancel()
    assert job.join(20)
    runner.wait(10)
    assert job.state == "cancelled"
    assert runner.options.size.value == "timo-tiny"
    runner.options.folder.value = ""
    runner.pretrain()
    assert runner.wait(20)
    assert "needs a folder" in runner.message.text
    runner.options.offer("runs/pretrain/encoder")
    assert runner.options.size.value == "runs/pretrain/encoder"
    assert timo.load_model(
        "runs/pretrain/encoder", data=state.cube, classes=CLASSES
    ).config.initial_weights


def test_the_notebook_goes_on_meanwhile(runner, state):
    threads = torch.get_num_threads()
    runner.options.epochs.value = 500
    job = runner.finetune()
    assert steps_of(job)
    label = timo.predict(state.model, state.cube).label.compute()
    assert label.shape == (6, 32, 40)
    assert not job.ended
    assert torch.get_num_threads() == threads
    runner.cancel()
    assert job.join(10)


def test_without_a_cube_nothing_can_be_done():
    runner = Runner()
    buttons = (runner.few_button, runner.finetune_button, runner.predict_button)
    assert all(one.disabled for one in (*buttons, runner.pretrain_button, runner.cancel_button))
    assert runner.finetune() is None
    assert "There is no cube yet" in runner.message.text
    assert runner.picture().startswith(b"\x89PNG")
    runner.close()


def test_ten_runners_leave_nothing(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def kept():
        gc.collect()
        observers = [len(some) for by in state._trait_notifiers.values() for some in by.values()]
        widgets = [type(w).__name__ for w in ipywidgets.widgets.widget._instances.values()]
        return set(threading.enumerate()), sum(observers), sorted(widgets)

    Runner(state=state).close()
    before = kept()
    for _ in range(10):
        runner = Runner(state=state)
        runner.options.start.value = "present"
        runner.few_clicks()
        runner.finetune()
        runner.close()
        runner.close()
    del runner
    assert kept() == before


def test_it_has_a_picture_and_every_control_a_name(runner):
    bundle = runner._repr_mimebundle_()[0]
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in bundle
    controls = [w for w in vars(runner.options).values() if isinstance(w, ipywidgets.ValueWidget)]
    assert len(controls) == 8
    assert all(control.description for control in controls)


def test_the_views_say_it_in_words():
    assert [view.time_text(s) for s in (float("nan"), 5.2, 65, 3700)] == [
        "",
        "5 s",
        "1 min 5 s",
        "1 h 1 min",
    ]
    chart = view.loss_chart()
    view.show_losses(chart, [(n, 1 / n) for n in range(1, 2000)])
    assert len(chart.series[0]["values"]) == len(chart.dates) == view.POINTS
    assert "&lt;b&gt;" in view.log_html(["<b>"])
    view.show_losses(chart, [(1, 0.5)])
    assert (chart.dates, chart.series[0]["values"]) == (["1"], [0.5])
    view.show_losses(chart, [])
    assert (chart.dates, chart.series) == ([], [])


# --- what answers: pixels, encoder, or both


@pytest.fixture
def scattered(cube):
    """Labels in several places of each class: some can be held out."""
    values = np.full(cube.shape[-2:], -1, "int16")
    for row in (3, 13, 23):
        values[row : row + 3, 3:6], values[row : row + 3, 30:33] = 0, 1
    coords = {name: cube[name] for name in ("y", "x", "spatial_ref")}
    return xr.DataArray(values, coords, ("y", "x"), attrs={"classes": CLASSES})


@pytest.mark.filterwarnings("ignore:The encoder is random")
def test_a_few_click_map_says_what_the_labels_chose(runner, state, scattered, cube, small):
    model = build(replace(small.config, pixel=0.5))
    state.labels, state.model = scattered, copy.deepcopy(model)
    runner.few_clicks()
    assert runner.wait(120)
    assert runner.message.kind == "info"
    assert runner.message.text.startswith("Chosen by cross-validation: ")
    assert "6 groups of neighbouring labels in 3 folds" in runner.message.text
    assert "Chosen by cross-validation" in runner.lines.value
    names = {"timo": timo, "model": model, "cube": cube, "labels": scattered}
    for line in state.code:
        exec(line, names)  # noqa: S102 - the promise is that it runs
    assert names["model"].config == state.model.config
    expected = names["result"].compute()
    np.testing.assert_allclose(state.result.probability, expected.probability, atol=1e-5)
    # With a clump of each class nothing can be held out.
    state.labels = scattered.where(scattered.y > 930, -1).astype("int16")
    runner.few_clicks()
    assert runner.wait(120)
    assert "Not chosen by cross-validation" in runner.message.text


def test_a_model_of_single_pixels_is_trained_mapped_and_saved(runner, state, cube, labels, small):
    assert PIXEL in runner.options.size.options
    runner.options.start.value = "new"
    runner.options.size.value = PIXEL
    assert "without its surroundings" in runner.note.text
    for one in (runner.few_button, runner.pretrain_button, runner.options.epochs):
        assert one.disabled
    assert not runner.finetune_button.disabled
    runner.finetune()
    runner.predict()
    assert runner.wait(60)
    assert runner.message.text == ""
    assert isinstance(state.model, timo.models.PixelModel)
    assert state.code == [
        "model = timo.load_model('pixel', data=cube, classes=['forest', 'other'])",
        "timo.finetune(model, cube, labels, seed=0, folder='runs/finetune')",
        "result = timo.predict(model, cube)",
    ]
    names = {"timo": timo, "cube": cube, "labels": labels}
    for line in state.code:
        exec(line, names)  # noqa: S102 - the promise is that it runs
    assert state.result.probability.identical(names["result"].compute().probability)
    assert (state.result.label[0, :, 22:] == 1).mean() > 0.9
    assert read_recipe(state.code).start == ""
    assert timo.export(state.result, "map.tif").exists()
    # The present model is one, too; of another both go again.
    runner.options.start.value = "present"
    assert runner.few_button.disabled
    runner.few_clicks()
    assert runner.wait(60)
    assert "model of single pixels has none: press Fine-tune" in runner.message.text
    state.model = small
    assert not runner.few_button.disabled
    assert runner.note.text == ""


def test_the_inspector_says_that_single_pixels_have_no_attention(cube, state):
    inspector = AttentionInspector(state=state)
    state.look_at(5, 5)
    state.model = timo.load_model(PIXEL, cube, CLASSES)
    assert "answers for each pixel by itself" in inspector.message.text
    inspector.close()
