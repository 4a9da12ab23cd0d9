"""The attention inspector, driven through its traits."""

import gc
import io
import threading

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401  registers .rio
import torch
import xarray as xr
from PIL import Image
from timo_widgets.attention.inspector import ALIKE, AttentionInspector
from timo_widgets.attention.view import FOUND
from timo_widgets.base.state import State

from timo import inspection
from timo.models.answering import ModelConfig
from timo.models.config import EncoderConfig
from timo.models.tasks import build

BANDS = ("B2", "B3", "B4", "B8")


@pytest.fixture
def model():
    config = EncoderConfig(4, (16, 32, 32, 32), (2, 1, 2, 1), (2, 2, 4, 4))
    names = {"bands": BANDS, "classes": ("a", "b"), "mean": (0.1,) * 4, "std": (0.2,) * 4}
    return build(ModelConfig(config, head_width=8, detail=0, **names))


@pytest.fixture
def cube():
    rng = np.random.default_rng(0)
    values = rng.random((16, 4, 48, 40), dtype="float32") * 0.4
    values[5, :, :16, :16] = np.nan
    coords = {
        "time": pd.date_range("2019-05-03", periods=16, freq="9D"),
        "band": list(BANDS),
        "y": 5_000_000 - 10.0 * np.arange(48),
        "x": 300_000 + 10.0 * np.arange(40),
    }
    made = xr.DataArray(values, dims=("time", "band", "y", "x"), coords=coords)
    return made.rio.write_crs("EPSG:32634")


@pytest.fixture
def inspector(model, cube):
    made = AttentionInspector(model, cube)
    yield made
    made.close()


def click(inspector, row, col):
    latitude, longitude = inspector.view.map.latlon_of(row, col)
    inspector.view.map._interacted(type="click", coordinates=(latitude, longitude))
    inspector.wait()


def test_says_what_is_missing(model, cube):
    inspector = AttentionInspector()
    assert "no cube" in inspector.message.text
    inspector.state.cube = cube
    assert "no model" in inspector.message.text
    inspector.state.model = model
    assert "Click a pixel" in inspector.message.text
    inspector.close()


def test_a_click_is_answered_exactly(inspector, model, cube):
    inspector.state.date = 8
    click(inspector, 30, 20)
    assert inspector.message.text == ""
    part = inspection.neighbourhood(cube, row=30, col=20, time=cube.time[8])
    expected = inspection.attention_at(model, part, row=30, col=20, time=cube.time[8], stage=3)
    xr.testing.assert_allclose(inspector.answer.weight, expected.weight)
    np.testing.assert_allclose(inspector.chart.bars, expected.dates, rtol=1e-5)
    assert len(inspector.chart.dates) == 12
    assert inspector.chart.dates[inspector.chart.selected] == str(cube.time.values[8])[:10]
    assert inspector.chart.series[0]["name"] == "NDVI of the pixel"
    assert "% of all weight" in inspector.view.note.value


def test_the_line_of_python_gives_the_same(inspector, model, cube):
    inspector.stage, inspector.head = 1, 1
    click(inspector, 12, 33)
    scope = {"timo": __import__("timo"), "model": model, "cube": cube}
    __import__("timo.inspection")
    exec(inspector.state.code[-1], scope)  # noqa: S102 - this is what the line is for
    xr.testing.assert_allclose(scope["weights"].weight, inspector.answer.weight)
    inspector.block = "rollout"
    inspector.wait()
    exec(inspector.state.code[-1], scope)  # noqa: S102
    assert "rollout_at" in inspector.state.code[-1]
    xr.testing.assert_allclose(scope["weights"].weight, inspector.answer.weight)


def test_the_choices_follow_the_stage(inspector):
    click(inspector, 30, 20)
    inspector.stages.value = 1
    inspector.heads.value = 1
    inspector.blocks.value = 0
    inspector.wait()
    assert inspector.answer.attrs.items() >= {"stage": 1, "block": 0, "head": 1}.items()
    inspector.stages.value = 4
    inspector.wait()
    assert [value for _, value in inspector.blocks.options] == [0, "mean", "rollout"]
    assert [value for _, value in inspector.heads.options] == ["mean", 0, 1, 2, 3]
    assert inspector.answer.attrs.items() >= {"stage": 4, "block": 0, "head": 1}.items()
    inspector.heads.value = 3
    inspector.stages.value = 2
    inspector.wait()
    assert inspector.answer.attrs.items() >= {"stage": 2, "head": "mean"}.items()
    assert "own frame and own place" in inspector.stages.label


def test_a_bar_shows_its_frame(inspector, cube):
    click(inspector, 30, 20)
    before = inspector.view.map._layers["answer"].url
    inspector.chart.selected = 4
    assert inspector.shown == 4
    assert str(cube.time.values[4])[:10] in inspector.view.note.value
    assert inspector.view.map._layers["answer"].url != before
    inspector.shown = 15
    assert "not among the dates" in inspector.view.note.value
    assert "answer" not in inspector.view.map._layers


def test_a_cloud_is_explained_and_the_next_click_heals(inspector):
    inspector.dates.index = 5
    inspector.stage = 1
    click(inspector, 3, 3)
    assert inspector.message.kind == "error"
    assert "Choose another date" in inspector.message.text
    assert inspector.answer is None
    click(inspector, 30, 30)
    assert inspector.message.text == ""
    assert inspector.answer.attrs["row"] == 30


def test_answers_are_remembered_until_the_model_learns(inspector, model, monkeypatch):
    calls = []
    real = inspection.attention_at
    monkeypatch.setattr(
        inspection, "attention_at", lambda *a, **k: calls.append(1) or real(*a, **k)
    )
    click(inspector, 30, 20)
    click(inspector, 10, 20)
    click(inspector, 30, 20)
    assert len(calls) == 2
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    inspector._asked()
    inspector.wait()
    assert len(calls) == 3


def test_places_like_this_one(inspector):
    click(inspector, 30, 20)
    inspector.modes.value = ALIKE
    inspector.wait()
    assert inspector.answer.similarity.shape == (48, 40)
    marks = inspector.view.map._marks
    assert [mark[3] for mark in marks] == [
        "?",
        *map(str, range(1, inspector.answer.sizes["place"] + 1)),
    ]
    assert marks[1][2] == FOUND
    assert inspector.chart.layout.display == "none"
    first = inspector.view.map._layers["answer"].url
    inspector.layers.value = "features (PCA)"
    assert inspector.view.map._layers["answer"].url != first
    inspector.layers.value = "photograph"
    assert "answer" not in inspector.view.map._layers
    assert "timo.inspection.similar(" in inspector.state.code[-2]
    # Looked through, the layers leave the line of the last.
    assert inspector.state.code[-1] == "layer = cube.isel(time=[0])"
    inspector.layers.value = "features (PCA)"
    scope = run_all(inspector)
    np.testing.assert_array_equal(scope["layer"], inspector.answer.picture)
    np.testing.assert_array_equal(scope["alike"].place_row, inspector.answer.place_row)


def run_all(inspector) -> dict[str, object]:
    """What the noted lines make, one after the other."""
    import timo

    scope = {"timo": timo, "model": inspector.state.model, "cube": inspector.state.cube}
    exec("\n".join(inspector.state.code), scope)  # noqa: S102 - this is what the lines are for
    return scope


def test_dates_and_frames_that_are_looked_through_leave_one_line_each(inspector):
    click(inspector, 30, 20)
    for date in (3, 4, 5):
        inspector.dates.index = date
        inspector.wait()
    for bar in (2, 7):
        inspector.chart.selected = bar
    weights, frame = inspector.state.code
    assert weights.startswith("weights = ")
    assert frame == "frame = weights.weight.isel(time=7)"
    scope = run_all(inspector)
    assert scope["weights"].attrs["date"] == str(inspector.state.cube.time.values[5])[:10]
    np.testing.assert_allclose(scope["frame"], inspector.answer.weight[7])
    assert str(scope["frame"].time.values)[:10] == inspector.chart.dates[7]


def test_asks_nothing_while_it_is_not_active(inspector):
    inspector.active = False
    click(inspector, 30, 20)
    assert inspector.answer is None
    inspector.active = True
    inspector.wait()
    assert inspector.answer is not None


def test_the_saved_output_has_a_picture(inspector):
    click(inspector, 30, 20)
    data, _ = inspector._repr_mimebundle_()
    assert Image.open(io.BytesIO(data["image/png"])).size[0] > 300
    assert "application/vnd.jupyter.widget-view+json" in data


def test_every_control_is_labelled(inspector):
    controls = [inspector.stages, inspector.blocks, inspector.heads, inspector.windows]
    assert all(c.description for c in [*controls, inspector.dates, inspector.layers])


def test_nothing_is_left_behind(model, cube):
    state = State()
    warm = AttentionInspector(model, cube, state)
    warm.close()
    gc.collect()
    before, threads = len(ipywidgets.widgets.widget._instances), threading.active_count()
    for _ in range(3):
        inspector = AttentionInspector(model, cube, state)
        click(inspector, 30, 20)
        inspector.mode = ALIKE
        inspector.wait()
        inspector.close()
    assert len(ipywidgets.widgets.widget._instances) == before
    assert threading.active_count() == threads
    assert not any(
        state._trait_notifiers.get(name, {}).get("change") for name in ("cube_", "model", "pixels")
    )


def test_a_new_cube_starts_anew(inspector, cube):
    click(inspector, 30, 20)
    inspector.state.cube = cube.isel(x=slice(0, 32), time=slice(0, 6))
    assert inspector.answer is None
    assert "Click a pixel" in inspector.message.text
    assert len(inspector.dates.options) == 6
    click(inspector, 30, 20)
    assert inspector.answer.sizes["time"] == 6


def test_it_begins_at_the_date_that_is_looked_at(model, cube):
    state = State(cube=cube, model=model)
    state.date = 7
    made = AttentionInspector(state=state)
    assert state.date == made.dates.index == made.shown == 7
    state.cube = cube.copy()
    assert state.date == made.dates.index == 7
    made.dates.index = 3
    assert state.date == 3
    made.close()
