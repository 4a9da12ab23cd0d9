import gc
import sys
import threading
import weakref

import ipywidgets
import numpy as np
import pytest
import traitlets
from timo_widgets import State, Workbench
from timo_widgets.app.workbench import TABS
from timo_widgets.base import part as reruns
from timo_widgets.base.steps import CUBE, LABELS, MODEL, Step
from timo_widgets.run.tasks import Choices, Inputs, new_model

import timo
from timo.errors import TimoError


@pytest.fixture(scope="module")
def cube():
    return timo.open_cube("sample", start="2019-06-01", end="2019-07-31")


@pytest.fixture
def bench(cube):
    made = Workbench(cube)
    yield made
    made.close()


def waiting_text(bench: Workbench, title: str) -> str:
    bench.show(title)
    return bench._waiting[bench.tabs.selected_index].text


def test_tabs_are_in_the_order_of_the_work(bench):
    assert list(bench.tabs.titles) == [
        "1 Area",
        "2 Look",
        "3 Label",
        "4 Train",
        "5 Map",
        "6 Inspect",
        "7 Code",
    ]
    assert bench.tabs.selected_index == 1


def test_only_the_open_part_is_made(bench):
    assert list(bench.parts) == ["CubeExplorer"]
    bench.show("code")
    assert list(bench.parts) == ["CubeExplorer", "CodeTab"]
    bench.show("look")
    assert len(bench.parts) == 2


def test_without_a_cube_it_begins_with_the_area():
    bench = Workbench()
    assert bench.tabs.selected_index == 0
    assert list(bench.parts) == ["AOIPicker"]
    assert "tab 1 (Area), or start with Workbench(cube)" in waiting_text(bench, "look")
    bench.close()


def test_each_tab_says_what_is_missing_and_where_to_get_it(bench):
    assert "Train a model in tab 4" in waiting_text(bench, "map")
    assert "Train one in tab 4" in waiting_text(bench, "inspect")
    assert bench.show("map") is None


def test_an_open_tab_gets_its_part_when_what_it_needs_is_there(bench, cube):
    bench.show("inspect")
    assert "AttentionInspector" not in bench.parts
    bench.state.model = timo.load_model("timo-tiny", cube, classes=["a", "b"], per_date=False)
    assert "AttentionInspector" in bench.parts
    assert bench._rooms[5].children == (bench.parts["AttentionInspector"],)


def test_all_parts_share_the_state(bench, cube):
    bench.state.model = timo.load_model("timo-tiny", cube, classes=["a", "b"], per_date=False)
    bench.state.result = timo.predict(bench.state.model, cube).compute()
    for tab in TABS:
        part = bench.show(tab.title)
        assert part is not None, tab.title
        assert part.state is bench.state
    assert len(bench.parts) == len(TABS)


def every_part_without_an_error(bench: Workbench) -> bool:
    """Open all tabs; say what one of them has for an error."""
    for tab in TABS:
        part = bench.show(tab.title)
        assert part is not None, bench._waiting[TABS.index(tab)].text
        if hasattr(part, "wait"):
            part.wait(30)
        message = getattr(part, "message", None)
        assert message is None or message.kind != "error", (tab.title, message.text)
    return True


@pytest.fixture(scope="module")
def joint(cube):
    """Three dates of Sentinel-2, of a corner of the sample, and two of a radar made up for it."""
    optical = cube.isel(time=slice(0, 3), y=slice(0, 16), x=slice(0, 16))
    days = optical.time[:2] + np.timedelta64(1, "D")
    noise = np.random.default_rng(0).normal(-12, 1, (2, 2, 16, 16)).astype("float32")
    radar = optical[:2, :2].copy(data=noise).assign_coords(band=["VV", "VH"], time=days)
    radar.attrs = {"sensor": "sentinel-1"}
    return timo.cube.join(optical, radar)


def test_a_joint_cube_goes_through_all_tabs(joint):
    bench = Workbench(joint)
    bench.state.classes = ["other", "forest"]
    made, _ = new_model(Inputs.of(bench.state), Choices(pretrained=False))
    assert made.config.encoder.groups == (joint.sizes["band"] - 2, 2)
    bench.state.model = made
    runner = bench.show("train")
    job = runner.predict()
    runner.wait(60)
    assert job.state == "done", job.error
    assert dict(bench.state.result.sizes)["time"] == joint.sizes["time"]
    assert every_part_without_an_error(bench)
    bench.show("inspect")
    bench.state.look_at(3, 4)
    bench.parts["AttentionInspector"].wait(60)
    assert "those of a model of one sensor" in bench.parts["AttentionInspector"].message.text
    bench.close()


def test_a_regression_goes_through_all_tabs(cube):
    small = cube.isel(time=slice(0, 4), y=slice(0, 16), x=slice(0, 16))
    model = timo.load_model("timo-tiny", small, task="regression", per_date=False)
    bench = Workbench(small)
    bench.state.model = model
    runner = bench.show("train")
    job = runner.predict()
    runner.wait(60)
    assert job.state == "done", job.error
    assert list(bench.state.result.data_vars) == ["value", "low", "high"]
    assert every_part_without_an_error(bench)
    assert bench.parts["MapView"].layers.layer.value == "value"
    assert bench.picture().startswith(b"\x89PNG")
    bench.close()


def test_a_model_of_chips_gives_no_map_and_is_said_to(cube):
    bench = Workbench(cube)
    bench.state.model = timo.load_model(
        "timo-tiny", cube, classes=["a", "b"], task="classification"
    )
    runner = bench.show("train")
    job = runner.predict()
    runner.wait(60)
    assert job.state == "failed"
    assert "answers for each chip, with a table: use timo.predict" in runner.message.text
    bench.close()


def test_options_are_kept_and_a_state_is_gone_on_with(cube):
    state = State()
    state.echo("cube = ...")
    bench = Workbench(cube, state, source="sample", start="2019-06-01")
    assert bench.state is state
    assert state.options == {"source": "sample", "start": "2019-06-01"}
    assert state.cube is cube
    bench.close()


def test_what_is_no_cube_is_refused(cube):
    with pytest.raises(TimoError, match="cube"):
        Workbench(cube.isel(time=0, drop=True))


def test_a_part_that_fails_says_so_in_its_tab(bench, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such projection")

    monkeypatch.setattr("timo_widgets.label.labeler.Labeler.__init__", fail)
    bench.show("label")
    assert "Label could not be opened. RuntimeError: no such projection" in bench._waiting[2].text
    assert bench.show("code") is not None


def test_code_follows_the_state_and_is_exported(bench, tmp_path):
    code = bench.show("code")
    bench.state.echo("x = 1")
    assert code.box.code == "import timo\nx = 1"
    code.name.value = str(tmp_path / "mine.ipynb")
    code.export.click()
    assert code.message.kind == "error"
    assert "Label in the tab Label" in code.message.text
    values = timo.sample_labels()
    bench.state.classes = ["other", "forest"]
    bench.state.labels = values
    code.export.click()
    assert (code.message.kind, code.export.disabled) == ("info", False)
    assert (tmp_path / "mine.ipynb").exists()


def test_saved_output_has_the_widget_and_a_picture(bench):
    data, _ = bench._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in data
    empty = Workbench()
    assert empty._repr_mimebundle_()[0]["image/png"].startswith(b"\x89PNG")
    empty.close()


def all_open(cube) -> Workbench:
    bench = Workbench(cube)
    bench.state.model = timo.load_model("timo-tiny", cube, classes=["a", "b"], per_date=False)
    for tab in TABS:
        bench.show(tab.title)
    return bench


def observers(state: traitlets.HasTraits) -> int:
    return sum(len(calls) for kinds in state._trait_notifiers.values() for calls in kinds.values())


def test_closing_leaves_nothing_behind(cube):
    own = observers(State())
    all_open(cube).close()  # what the libraries keep for good is there after the first
    threads, widgets = threading.active_count(), len(ipywidgets.widgets.widget._instances)
    for _ in range(3):
        bench = all_open(cube)
        state, gone = bench.state, [weakref.ref(made) for made in (bench, *bench.parts.values())]
        bench.close()
        bench.close()
        assert observers(state) == own
        del bench, state
    gc.collect()
    assert [made() for made in gone if made() is not None] == []
    assert threading.active_count() <= threads
    assert len(ipywidgets.widgets.widget._instances) <= widgets


def test_running_the_cell_again_closes_the_one_before(cube, monkeypatch):
    run = ("cell", "first run")
    monkeypatch.setattr(reruns, "_running_cell", lambda: run)
    first, beside = Workbench(cube), Workbench(cube)
    assert first.comm is not None
    run = ("another cell", "first run")
    elsewhere = Workbench(cube)
    run = ("cell", "second run")
    again = Workbench(cube)
    assert (first.comm, beside.comm) == (None, None)
    assert elsewhere.comm is not None
    again.close()
    elsewhere.close()


def test_import_is_light():
    import subprocess

    code = (
        "import sys, timo_widgets; timo_widgets.Workbench; "
        "print([m for m in ('torch', 'leafmap', 'lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_code_can_be_run_with_what_it_imports(bench):
    code = bench.show("code")
    bench.state.echo("view = timo_widgets.MapView(result)")
    assert code.box.code.splitlines()[:2] == ["import timo", "import timo_widgets"]


def test_what_is_out_of_date_is_said_beside_the_code(bench):
    code = bench.show("code")
    options = {"target": "model", "data": CUBE, "classes": ["a", "b"]}
    mapped = Step("timo.predict", MODEL, CUBE, target="result")
    bench.state.echo(Step("timo.load_model", "timo-tiny", **options))
    bench.state.echo(Step("timo.fit_head", MODEL, CUBE, LABELS))
    bench.state.echo(mapped)
    assert code.notice.kind == ""
    bench.state.echo(Step("store.undo"))
    assert "labels were changed after the last training" in code.notice.text
    assert "Train again in tab 4" in code.notice.text
    assert "The exported notebook trains on the labels as they are now" in code.notice.text
    bench.state.echo(Step("timo.finetune", MODEL, CUBE, LABELS, epochs=1))
    assert "Press Predict in tab 4" in code.notice.text
    assert "labels were changed" not in code.notice.text
    bench.state.echo(mapped)
    assert code.notice.kind == ""


def test_the_inspector_rests_while_nobody_sees_it(bench, cube):
    bench.state.model = timo.load_model("timo-tiny", cube, classes=["a", "b"], per_date=False)
    inspector = bench.show("inspect")
    assert inspector.active
    bench.show("look")
    assert not inspector.active
    bench.state.look_at(3, 4)
    inspector.wait()
    assert inspector.answer is None
    bench.show("inspect")
    inspector.wait()
    assert inspector.answer is not None
