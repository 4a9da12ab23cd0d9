"""The labeler through its traits: what a browser would send, and what comes out."""

import datetime as dt
import gc
import json

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import shapely
import timo_widgets
import xarray as xr
from timo_widgets.label.cells import outline
from timo_widgets.label.panel import DRAW, ERASE, PAINT

from timo.cube import check_labels


def make_cube(height=20, width=25, dates=4, left=600_000.0):
    rng = np.random.default_rng(0)
    cube = xr.DataArray(
        rng.random((dates, 3, height, width), dtype="float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2019-01-01", periods=dates, freq="MS"),
            "band": ["B2", "B3", "B4"],
            "y": 5_000_000 - 10 * (np.arange(height) + 0.5),
            "x": left + 10 * (np.arange(width) + 0.5),
        },
        attrs={"sensor": "sentinel-2"},
    )
    return cube.rio.write_crs("EPSG:32634")


@pytest.fixture
def cube():
    return make_cube()


@pytest.fixture
def labeler(cube):
    made = timo_widgets.Labeler(cube, ["forest", "water"])
    yield made
    made.close()


def square(cube, rows, columns):
    mask = np.zeros((cube.sizes["y"], cube.sizes["x"]), bool)
    mask[slice(*rows), slice(*columns)] = True
    shape = outline(np.flatnonzero(mask), cube)
    return {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}


def run(code, cube):
    scope = {"cube": cube}
    exec("\n".join(code), scope)  # noqa: S102 - the very lines that users copy
    return scope


def draw(labeler, feature):
    """As the browser does: the control's data, with the new shape at the end."""
    control = labeler.map.draw
    control.data = [*control.data, json.loads(json.dumps(feature))]


def click(labeler, row, column):
    place = labeler.map.latlon_of(row, column)
    labeler.map.map._handle_leaflet_event(
        None, {"event": "interaction", "type": "click", "coordinates": list(place)}, []
    )


def test_a_drawn_shape_gets_the_chosen_class(labeler, cube):
    labeler.controls.name.value = "water"
    draw(labeler, square(cube, (2, 6), (3, 8)))
    labels = check_labels(labeler.state.labels, cube)
    assert labels.dims == ("y", "x")
    assert labels.attrs["classes"] == ["forest", "water"]
    assert (labels.values == 1).sum() == 20
    assert (labels.values[2:6, 3:8] == 1).all()
    assert labeler.controls.message.kind == ""
    # It is a label now, and no longer a drawing.
    assert labeler.map.draw.data == []
    assert labeler.state.classes == ["forest", "water"]
    assert "20 px" in labeler.controls.summary.value
    assert "forest has no pixel yet" in labeler.controls.summary.value


def test_clicks_paint_and_erase(labeler):
    click(labeler, 5, 5)
    assert labeler.labels is None
    labeler.controls.mode.value = PAINT
    labeler.controls.size.value = 3
    click(labeler, 5, 5)
    assert (labeler.labels.values == 0).sum() == 9
    labeler.controls.mode.value = ERASE
    labeler.controls.size.value = 1
    click(labeler, 5, 5)
    assert labeler.labels.values[5, 5] == -1
    assert (labeler.labels.values == 0).sum() == 8
    # Shapes are not drawn meanwhile, or each click would begin one.
    assert labeler.map.draw not in labeler.map.map.controls
    labeler.controls.mode.value = DRAW
    assert labeler.map.draw in labeler.map.map.controls


def send(labeler, path, size=1, code=0, erases=False):
    """A stroke as the browser sends it; returns what is answered."""
    answers = []
    labeler.strokes.send = answers.append
    message = {"kind": "stroke", "id": "s", "path": path, "size": size, "code": code}
    labeler.strokes._handle_custom_msg({**message, "erases": erases}, [])
    return answers


def test_a_stroke_is_one_step_without_holes(labeler, cube, monkeypatch):
    counted = []
    counts = type(labeler.store).counts
    monkeypatch.setattr(
        type(labeler.store), "counts", lambda store: counted.append(1) or counts(store)
    )
    assert send(labeler, [[2, 2], [2, 12], [12, 17]], size=3, code=1) == [{"done": "s"}]
    assert len(counted) == 1
    painted = labeler.labels.copy()
    assert (painted.values[1:4, 1:12] == 1).all()
    rows = np.flatnonzero((painted.values == 1).any(axis=1))
    assert rows.tolist() == list(range(1, 14))
    send(labeler, [[0, 8], [19, 8]], erases=True)
    erased = labeler.labels.copy()
    assert (erased.values[:, 8] == -1).all()
    assert (erased.values[:, :8] == painted.values[:, :8]).all()
    for kind, expected in (("undo", painted), ("redo", erased), ("undo", painted)):
        labeler.strokes._handle_custom_msg({"kind": kind}, [])
        assert labeler.state.labels.identical(expected)
    labeler.strokes._handle_custom_msg({"kind": "undo"}, [])
    assert labeler.labels is None
    assert not labeler.store.can_undo


def test_a_stroke_is_one_line(labeler, cube):
    # As a slow hand sends it: each pixel on the way.
    send(labeler, [[3, column] for column in range(2, 11)], size=3)
    assert labeler.state.code[-2] == "store.paint_along([(3, 2), (3, 10)], 'forest', size=3)"
    send(labeler, [[-4, 5], [6, 5]], size=5, erases=True)
    assert labeler.state.code[-2] == "store.erase_along([(-4, 5), (6, 5)], size=5)"
    labeler.controls.whole.value = False
    labeler.controls.start.value = dt.date(2019, 2, 1)
    send(labeler, [[15, 15], [18, 20]], code=1)
    assert run(labeler.state.code, cube)["labels"].identical(labeler.labels)
    # One pixel beside the grid, but for the brush's edge.
    send(labeler, [[-1, 5]], size=3)
    assert labeler.controls.message.kind == ""
    assert run(labeler.state.code, cube)["labels"].identical(labeler.labels)


def test_a_stroke_that_cannot_be_is_said_and_taken_off_the_screen(cube):
    labeler = timo_widgets.Labeler(cube)
    assert send(labeler, [[1, 1], [2, 2]], code=None) == [{"done": "s"}]
    assert "Add class" in labeler.controls.message.text
    assert labeler.labels is None
    labeler.close()


def test_the_browser_knows_the_grid_and_the_colours(labeler):
    strokes, height, width = labeler.strokes, 20, 25
    assert (strokes.rows, strokes.columns) == (height, width)
    corners = np.frombuffer(strokes.to_picture, "float32").reshape(33, 33, 2)
    assert corners.min() > -1e-4
    assert corners.max() < 1 + 1e-4
    assert strokes.colours == timo_widgets.class_colours(2)
    labeler.controls.title.value = "road"
    labeler.controls.add.click()
    assert strokes.colours == timo_widgets.class_colours(3)
    assert list(labeler.controls.name.tooltips) == ["Key 1", "Key 2", "Key 3"]
    labeler.state.cube = make_cube(height=30)
    assert strokes.rows == 30
    assert labeler.controls.message.kind == ""


def test_a_pixel_can_be_labelled_without_a_mouse(labeler):
    labeler.controls.mode.value = PAINT
    labeler.controls.row.value, labeler.controls.column.value = 7, 9
    labeler.controls.place.click()
    assert np.argwhere(labeler.labels.values == 0).tolist() == [[7, 9]]


def test_dates_make_labels_through_time(labeler, cube):
    labeler.controls.whole.value = False
    labeler.controls.start.value = dt.date(2019, 2, 1)
    labeler.controls.end.value = dt.date(2019, 3, 1)
    draw(labeler, square(cube, (0, 2), (0, 2)))
    labels = check_labels(labeler.state.labels, cube)
    assert labels.dims == ("time", "y", "x")
    assert labels[:, 0, 0].values.tolist() == [-1, 0, 0, -1]


def test_a_chosen_label_is_changed_and_deleted(labeler, cube):
    draw(labeler, square(cube, (0, 2), (0, 2)))
    c = labeler.controls
    c.shapes.value = 1
    c.name.value = "water"
    c.change.click()
    assert (labeler.labels.values == 1).sum() == 4
    assert "water" in c.shapes.options[0][0]
    c.delete.click()
    assert labeler.labels is None
    c.undo.click()
    c.undo.click()
    assert (labeler.labels.values == 0).sum() == 4
    c.redo.click()
    assert (labeler.labels.values == 1).sum() == 4


def test_the_outline_of_a_chosen_label_is_edited_on_the_map(labeler, cube):
    draw(labeler, square(cube, (0, 2), (0, 2)))
    draw(labeler, square(cube, (8, 9), (0, 2)))
    labeler.controls.shapes.value = 1
    (placed,) = labeler.map.draw.data
    # The browser rounds: that is no edit.
    steps = len(labeler.store._past)
    rounded = json.loads(json.dumps(placed), parse_float=lambda text: round(float(text), 6))
    labeler.map.draw.data = [rounded]
    assert len(labeler.store._past) == steps
    edited = {**placed, "geometry": square(cube, (0, 5), (0, 2))["geometry"]}
    labeler.map.draw.data = [json.loads(json.dumps(edited))]
    assert (labeler.labels.values == 0).sum() == 10 + 2
    assert [label.number for label in labeler.store.sheet.labels] == [1, 2]
    labeler.map.draw.data = []
    assert (labeler.labels.values == 0).sum() == 2


def test_shapes_are_where_the_picture_is_on_either_side_of_the_antimeridian():
    # Its middle is west of 180 degrees, so that the picture goes on beyond; some shapes are east of it.
    cube = make_cube(left=817_560.0)
    cube = cube.assign_coords(y=8_007_000 - 10 * (np.arange(20) + 0.5)).rio.write_crs(32760)
    made = timo_widgets.Labeler(cube, ["forest", "water"])
    (south, west), (north, east) = made.map._warp.bounds
    for number, columns in enumerate(((0, 2), (22, 24), (0, 24)), 1):
        draw(made, square(cube, (2, 5), columns))
        made.controls.shapes.value = number
        shape = shapely.geometry.shape(made.map.draw.data[0]["geometry"])
        assert west < shape.bounds[0] < shape.bounds[2] < east
        assert south < shape.bounds[1] < shape.bounds[3] < north
    made.close()


def test_classes_are_added_and_renamed(labeler):
    c = labeler.controls
    c.title.value = "road"
    c.add.click()
    assert labeler.state.classes == ["forest", "water", "road"]
    assert c.name.value == "road"
    c.title.value = "track"
    c.rename.click()
    assert labeler.state.classes == ["forest", "water", "track"]
    c.title.value = "water"
    c.add.click()
    assert c.message.kind == "error"
    assert "two classes 'water'" in c.message.text


def test_without_a_class_one_is_told_what_to_do(cube):
    labeler = timo_widgets.Labeler(cube)
    draw(labeler, square(cube, (0, 2), (0, 2)))
    assert "Add class" in labeler.controls.message.text
    assert labeler.labels is None
    labeler.close()


def test_a_shape_beside_the_cube_is_refused_in_words(labeler):
    shape = shapely.geometry.mapping(shapely.box(0, 0, 1, 1))
    draw(labeler, {"type": "Feature", "properties": {}, "geometry": shape})
    assert "no pixel's centre" in labeler.controls.message.text
    assert labeler.map.draw.data == []


def test_files_are_saved_loaded_and_uploaded(labeler, cube, tmp_path):
    c = labeler.controls
    draw(labeler, square(cube, (0, 2), (0, 2)))
    c.path.value = str(tmp_path / "mine.geojson")
    c.save.click()
    assert c.download.path == tmp_path / "mine.geojson"
    before = labeler.labels
    c.clear.click()
    assert labeler.labels is None
    c.open.click()
    assert labeler.labels.identical(before)
    c.clear.click()
    content = (tmp_path / "mine.geojson").read_bytes()
    c.upload.value = (
        {
            "name": "mine.geojson",
            "type": "application/geo+json",
            "size": len(content),
            "content": memoryview(content),
            "last_modified": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        },
    )
    assert labeler.labels.identical(before)
    assert c.upload.value == ()
    c.path.value = str(tmp_path / "none.geojson")
    c.open.click()
    assert c.message.kind == "error"


def test_the_echoed_lines_do_the_same(labeler, cube, tmp_path):
    c = labeler.controls
    draw(labeler, square(cube, (0, 6), (0, 6)))
    c.mode.value = PAINT
    c.name.value = "water"
    c.size.value = 3
    click(labeler, 3, 3)
    c.title.value = "road"
    c.add.click()
    c.whole.value = False
    c.start.value = dt.date(2019, 2, 1)
    click(labeler, 9, 9)
    c.mode.value = ERASE
    click(labeler, 0, 0)
    c.undo.click()
    c.shapes.value = 2
    c.change.click()
    c.path.value = str(tmp_path / "x.geojson")
    c.save.click()
    scope = run(labeler.state.code, cube)
    assert scope["labels"].identical(labeler.labels)
    assert labeler.state.code[-1] == "labels = store.labels()"
    assert labeler.state.code.count("labels = store.labels()") == 1


def test_labels_of_others_are_taken_over_with_their_line(cube):
    state = timo_widgets.State(cube=cube)
    labeler = timo_widgets.Labeler(state=state)
    values = np.full((20, 25), -1, "int16")
    values[:4] = 1
    state.labels = xr.DataArray(
        values, dims=("y", "x"), coords={"y": cube.y, "x": cube.x}, attrs={"classes": ["a", "b"]}
    )
    assert state.classes == ["a", "b"]
    labeler.controls.mode.value = PAINT
    click(labeler, 10, 10)
    assert (state.labels.values == 1).sum() == 100
    assert (state.labels.values == 0).sum() == 1
    scope = run(state.code, cube)
    assert scope["labels"].identical(state.labels)
    labeler.close()


def test_another_grid_starts_anew_and_more_dates_keep_the_labels(labeler, cube):
    draw(labeler, square(cube, (0, 2), (0, 2)))
    labeler.state.cube = make_cube(dates=6)
    assert labeler.controls.message.kind == ""
    assert (labeler.labels.values == 0).sum() == 4
    assert len(labeler.controls.date.options) == 6
    labeler.state.cube = make_cube(left=700_000.0)
    assert labeler.labels is None
    assert labeler.state.labels is None
    assert labeler.controls.message.kind == ""
    labeler.state.cube = None
    assert "no cube" in labeler.controls.message.text


def test_dates_are_linked_and_an_empty_one_is_said(cube):
    cube[2] = np.nan
    labeler = timo_widgets.Labeler(cube, ["a"])
    labeler.controls.date.value = 1
    assert labeler.state.date == 1
    labeler.state.date = 2
    assert labeler.controls.date.value == 2
    assert "no clear pixel" in labeler.controls.message.text
    labeler.state.date = 0
    assert labeler.controls.message.kind == ""
    labeler.close()


def test_it_shows_a_picture_where_there_is_no_kernel(labeler):
    data, _ = labeler._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in data


def test_every_control_has_a_label(labeler):
    for name, control in vars(labeler.controls).items():
        if isinstance(control, ipywidgets.ValueWidget) and not isinstance(control, ipywidgets.HTML):
            assert control.description or name == "mode", name


def test_nothing_is_left_when_it_is_closed(cube):
    state = timo_widgets.State(cube=cube)

    def use():
        made = timo_widgets.Labeler(state=state, classes=["a"])
        made.controls.mode.value = PAINT
        click(made, 3, 3)
        made.controls.shapes.value = made.store.sheet.labels[0].number
        made.close()

    use()
    gc.collect()
    widgets = len(ipywidgets.widget._instances)
    observers = sum(len(h) for kinds in state._trait_notifiers.values() for h in kinds.values())
    for _ in range(3):
        use()
    gc.collect()
    after = sum(len(h) for kinds in state._trait_notifiers.values() for h in kinds.values())
    assert after == observers
    assert len(ipywidgets.widget._instances) == widgets
