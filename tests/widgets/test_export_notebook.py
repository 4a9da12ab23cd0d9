import ast
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import nbformat
import numpy as np
import pytest
import xarray as xr
from timo_widgets import Runner, State, export_notebook
from timo_widgets.app.recipe import read_recipe
from timo_widgets.base.steps import CUBE, LABELS, MODEL, Step

import timo
from timo.errors import TimoError

DATES = {"start": "2019-06-01", "end": "2019-07-31"}
CLASSES = ["forest", "other"]


@pytest.fixture(autouse=True)
def one_thread_in_the_notebook(monkeypatch):
    """As in the tests themselves: sums over two threads are rounded in another order."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def cube() -> xr.DataArray:
    return timo.open_cube("sample", **DATES).isel(time=slice(None, None, 2))


@pytest.fixture
def state(cube) -> State:
    state = State(cube=cube, classes=CLASSES)
    values = np.full((cube.sizes["y"], cube.sizes["x"]), -1, "int16")
    values[10:20, 10:20], values[50:58, 60:75] = 0, 1
    labels = xr.DataArray(values, dims=("y", "x"), coords={"y": cube.y, "x": cube.x})
    state.labels = labels.assign_attrs(classes=CLASSES).rio.write_crs(cube.rio.crs)
    return state


def cells_of(path: Path) -> dict[str, str]:
    """Sources of the code cells, by the heading above; the parameters apart."""
    found, heading = {}, "start"
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            heading = cell.source.partition("\n")[0].lstrip("# ")
        elif "parameters" in cell.metadata.get("tags", []):
            found["parameters"] = cell.source
        else:
            found[heading] = cell.source
    return found


def parameters_of(path: Path) -> dict[str, object]:
    body = ast.parse(cells_of(path)["parameters"]).body
    return {statement.targets[0].id: ast.literal_eval(statement.value) for statement in body}


def run(path: Path, *parameters: str) -> xr.Dataset:
    """Run a notebook in its folder; the map that it wrote."""
    command = [sys.executable, "-m", "papermill", path.name, "run.ipynb", "--kernel", "python3"]
    done = subprocess.run(
        [*command, *parameters], cwd=path.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [output] = path.parent.glob("*_output")
    return xr.open_zarr(output / "map.zarr").load()


def begin(start="m", **options) -> Step:
    given = {"data": CUBE, "classes": ["a", "b"]} | options
    return Step("timo.load_model", start, target="model", **given)


def train(name="finetune", stopped="", **options) -> Step:
    return Step(f"timo.{name}", MODEL, CUBE, LABELS, stopped=stopped, **options)


def predict(**options) -> Step:
    return Step("timo.predict", MODEL, CUBE, target="result", **options)


BEGIN, FEW, FINE = begin(), train("fit_head"), train(epochs=3, seed=0, folder="r", resume=True)
STOPPED = train(stopped="stopped after step 3 of 9", epochs=3, seed=0)
STOPPED_FEW = train("fit_head", stopped="stopped")
DRAWN = Step("store.add", {"type": "Polygon"}, "a")
MAPPED = predict()


def test_a_joint_cube_is_saved_beside_the_notebook_as_it_is(cube, tmp_path):
    clear = timo.cube.valid_mask(cube)[:, :8, :8].mean(("y", "x")).values
    optical = cube.isel(time=np.sort(clear.argsort()[-2:]), y=slice(0, 8), x=slice(0, 8))
    radar = optical[:, :2].copy(
        data=np.linspace(-20, -10, 256, dtype="float32").reshape(2, 2, 8, 8)
    )
    radar = radar.assign_coords(band=["VV", "VH"], time=optical.time + np.timedelta64(1, "D"))
    joint = timo.cube.join(optical, radar.assign_attrs(sensor="sentinel-1"))
    labels = joint[0, 0].drop_vars(["time", "band"]).copy(data=np.eye(8, dtype="int8"))
    state = State(cube=joint, classes=CLASSES, labels=labels.assign_attrs(classes=CLASSES))
    given = parameters_of(export_notebook(state, tmp_path / "m.ipynb"))
    back = timo.open_cube(given["source"], path=tmp_path / given["options"]["path"]).compute()
    np.testing.assert_array_equal(back, joint)
    assert back.attrs["sensor"] == joint.attrs["sensor"]


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_model_that_maps_no_classes_is_refused(cube, state, tmp_path, task):
    classes = CLASSES if task == "classification" else None
    state.model = timo.load_model("timo-tiny", cube, classes, task=task, per_date=False)
    with pytest.raises(TimoError, match="a map of classes, and the present model does not make"):
        export_notebook(state, tmp_path / "m.ipynb")
    assert list(tmp_path.iterdir()) == []


def test_steps_are_lines_of_python():
    assert STOPPED == (
        "# stopped after step 3 of 9: timo.finetune(model, cube, labels, epochs=3, seed=0)"
    )
    assert BEGIN == "model = timo.load_model('m', data=cube, classes=['a', 'b'])"


def test_recipe_keeps_the_last_model_with_parameters_for_values():
    recipe = read_recipe(
        [
            begin("timo-tiny", classes=["a"], seed=1),
            train(epochs=9, seed=1),
            "not python, a note",
            begin("timo-tiny", seed=4),
            train(epochs=3, batch_size=4, seed=4),
            predict(halo=16),
        ]
    )
    assert recipe.training == [
        "model = timo.load_model('timo-tiny', data=cube, classes=classes, seed=seed)",
        "timo.finetune(model, cube, labels, epochs=epochs, batch_size=4, seed=seed)",
    ]
    assert recipe.prediction == "result = timo.predict(model, cube, halo=16)"
    assert recipe.values == {"classes": ["a", "b"], "seed": 4, "epochs": 3}
    assert not recipe.outdated


def test_recipe_trains_in_one_go_and_names_only_equal_values():
    recipe = read_recipe([BEGIN, FINE, train(epochs=4, seed=2, folder="r")])
    assert recipe.training == [
        "model = timo.load_model(start_folder, data=cube, classes=classes)",
        "timo.finetune(model, cube, labels, epochs=3, seed=0)",
        "timo.finetune(model, cube, labels, epochs=epochs, seed=seed)",
    ]
    assert read_recipe([BEGIN, FEW]).training == [
        "model = timo.load_model(start_folder, data=cube, classes=classes, seed=seed)",
        FEW,
    ]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [BEGIN],
        [BEGIN, STOPPED],
        [BEGIN, FEW, STOPPED_FEW],
        [BEGIN, FEW, DRAWN, FINE],
        # The model that they went on with is nowhere in the code.
        [FEW, FINE],
    ],
)
def test_a_training_that_cannot_be_repeated_is_none(lines):
    assert read_recipe(lines).training == []


def test_a_new_model_forgets_what_went_before():
    recipe = read_recipe(
        [
            *(BEGIN, STOPPED_FEW, DRAWN, BEGIN, FEW),
            Step("timo.pretrain", CUBE, stopped="stopped"),
        ]
    )
    assert len(recipe.training) == 2
    assert not recipe.outdated
    assert read_recipe([BEGIN, FEW, DRAWN]).outdated


@pytest.mark.parametrize(
    ("lines", "outdated", "unmapped"),
    [
        ([BEGIN, FEW, MAPPED], False, False),
        ([DRAWN, BEGIN, FEW, MAPPED], False, False),
        ([BEGIN, DRAWN], False, False),
        ([BEGIN, FEW, MAPPED, DRAWN], True, False),
        ([FINE, MAPPED, DRAWN], True, False),
        ([BEGIN, FEW, MAPPED, BEGIN, FINE], False, True),
        ([BEGIN, FEW, MAPPED, STOPPED], False, True),
        ([BEGIN, FEW, MAPPED, FINE, MAPPED], False, False),
        ([BEGIN, FEW, MAPPED, FINE, DRAWN], True, True),
    ],
)
def test_what_is_older_than_what_it_was_made_from(lines, outdated, unmapped):
    recipe = read_recipe(lines)
    assert (recipe.outdated, recipe.unmapped) == (outdated, unmapped)


def test_parameters_are_those_of_the_state(state, tmp_path):
    state.aoi = {"type": "Polygon", "coordinates": [[[22, 45], [22.1, 45], [22.1, 45.1], [22, 45]]]}
    state.options = {
        "source": "stac",
        "start": date(2019, 6, 1),
        "end": np.datetime64("2019-07-31"),
        "bands": ("B2", "B4"),
        "max_cloud": np.float64(40),
        "path": Path("scenes"),
        "crs": None,
    }
    path = export_notebook(state, tmp_path / "mine.ipynb")
    assert parameters_of(path) == {
        "source": "stac",
        "aoi": state.aoi,
        "start": "2019-06-01T00:00:00",
        "end": "2019-07-31T00:00:00",
        "bands": ["B2", "B4"],
        "options": {"max_cloud": 40.0, "path": "scenes"},
        "labels_file": "mine_labels.geojson",
        "classes": CLASSES,
        "epochs": 5,
        "seed": 0,
        "output_folder": "mine_output",
    }
    features = json.loads((tmp_path / "mine_labels.geojson").read_text())["features"]
    assert {feature["properties"]["class"] for feature in features} == set(CLASSES)
    # The same state gives the same file.
    before = path.read_bytes()
    assert export_notebook(state, path).read_bytes() == before


def test_a_cube_of_unknown_origin_is_saved_beside(state, tmp_path):
    parameters = parameters_of(export_notebook(state, tmp_path / "mine.ipynb"))
    assert parameters["source"] == "files"
    assert parameters["options"] == {"path": "mine_cube.zarr"}
    xr.testing.assert_equal(timo.open_cube("files", path=tmp_path / "mine_cube.zarr"), state.cube)


def test_too_large_a_cube_is_not_saved(state, tmp_path, monkeypatch):
    monkeypatch.setattr("timo_widgets.app.notebook._LARGEST_BYTES", 1e6)
    with pytest.raises(TimoError, match=r"too large .* Workbench\(cube, source="):
        export_notebook(state, tmp_path / "mine.ipynb")
    assert list(tmp_path.iterdir()) == []


def test_bad_states_are_refused_with_their_remedy(state, tmp_path):
    with pytest.raises(TimoError, match=r"\.ipynb"):
        export_notebook(state, tmp_path / "mine.py")
    with pytest.raises(TimoError, match="open one in the tab Area"):
        export_notebook(State(), tmp_path / "mine.ipynb")
    state.labels = state.labels * 0 - 1
    with pytest.raises(TimoError, match="Label in the tab Label"):
        export_notebook(state, tmp_path / "mine.ipynb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_finetuned_map_is_the_same_bit_by_bit(state, tmp_path):
    cube, labels = state.cube, state.labels
    lines = [
        begin("timo-tiny", classes=CLASSES, per_date=False, seed=3),
        train(epochs=1, chips_per_epoch=16, seed=3, progress=False),
        predict(halo=16),
    ]
    names = {"timo": timo, "cube": cube, "labels": labels}
    for line in lines:
        state.echo(line)
        exec(line, names)  # noqa: S102 - the lines are above
    result = run(export_notebook(state, tmp_path / "mine.ipynb"))
    expected = names["result"].compute()
    np.testing.assert_array_equal(result.label.values, expected.label.values)
    np.testing.assert_array_equal(result.probability.values, expected.probability.values)


@pytest.mark.slow
def test_few_click_map_is_the_same_bit_by_bit(state, tmp_path):
    runner = Runner(state=state)
    runner.few_clicks()
    assert runner.wait(120)
    runner.close()
    assert "timo.fit_head" in state.code[-2]
    result = run(export_notebook(state, tmp_path / "mine.ipynb"))
    np.testing.assert_array_equal(result.label.values, state.result.label.values)
    np.testing.assert_array_equal(result.probability.values, state.result.probability.values)


@pytest.mark.slow
def test_a_model_of_unknown_origin_is_saved_beside(state, tmp_path):
    state.model = timo.load_model("timo-tiny", state.cube, classes=CLASSES, per_date=False, seed=7)
    expected = timo.predict(state.model, state.cube).compute()
    path = export_notebook(state, tmp_path / "mine.ipynb")
    assert "timo.load_model(model_folder, data=cube)" in cells_of(path)["The model"]
    parameters = parameters_of(path)
    assert parameters["model_folder"] == "mine_model"
    # Nothing is trained: there is nothing to set.
    assert not parameters.keys() & {"epochs", "seed"}
    np.testing.assert_array_equal(run(path).label.values, expected.label.values)


@pytest.fixture
def encoder(cube, tmp_path, monkeypatch) -> Path:
    """A pretrained encoder in a folder beside the kernel, which is another than that of the notebook."""
    kernel = tmp_path / "kernel"
    kernel.mkdir()
    monkeypatch.chdir(kernel)
    timo.pretrain(cube, "tiny", epochs=1, seed=1, folder="runs/pretrain", progress=False)
    return kernel / "runs" / "pretrain" / "encoder"


def fine_tuned_from(folder: str, state: State) -> xr.Dataset:
    names = {"timo": timo, "cube": state.cube, "labels": state.labels}
    for line in [
        begin(folder, classes=CLASSES, per_date=False, seed=3),
        train(epochs=1, chips_per_epoch=16, seed=3, progress=False),
        predict(),
    ]:
        state.echo(line)
        exec(line, names)  # noqa: S102 - the lines are above
    state.model = names["model"]
    return names["result"].compute()


@pytest.mark.slow
def test_weights_that_a_training_began_with_lie_beside_the_notebook(state, tmp_path, encoder):
    expected = fine_tuned_from("runs/pretrain/encoder", state)
    path = export_notebook(state, tmp_path / "elsewhere" / "mine.ipynb")
    assert parameters_of(path)["start_folder"] == "mine_start"
    assert "timo.load_model(start_folder, data=cube" in cells_of(path)["The model"]
    again = export_notebook(state, path)
    # The notebook needs nothing of what lies beside the kernel.
    encoder.rename(encoder.with_name("moved"))
    result = run(again)
    np.testing.assert_array_equal(result.label.values, expected.label.values)
    np.testing.assert_array_equal(result.probability.values, expected.probability.values)


@pytest.mark.slow
def test_weights_that_are_gone_leave_the_model_as_it_is(state, tmp_path, encoder):
    expected = fine_tuned_from("runs/pretrain/encoder", state)
    encoder.rename(encoder.with_name("moved"))
    path = export_notebook(state, tmp_path / "elsewhere" / "mine.ipynb")
    assert parameters_of(path)["model_folder"] == "mine_model"
    np.testing.assert_array_equal(run(path).label.values, expected.label.values)
    state.model = None
    with pytest.raises(TimoError, match=r"runs/pretrain/encoder', .* put it back"):
        export_notebook(state, tmp_path / "elsewhere" / "mine.ipynb")
