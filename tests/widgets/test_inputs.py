"""What the public functions and widgets refuse at the door."""

import matplotlib as mpl
import numpy as np
import pytest
import timo_widgets
import xarray as xr

import timo
from timo.errors import TimoError


@pytest.fixture(scope="module")
def cube():
    return timo.open_cube("sample", start="2019-06-01", end="2019-06-30").isel(
        time=slice(0, 2), y=slice(0, 8), x=slice(0, 8)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cube: cube.isel(time=0), "has the dims"),
        (lambda cube: cube.astype(str), "numbers"),
        (lambda cube: cube.isel(y=slice(0, 0)), "sizes"),
        (lambda cube: cube.drop_vars("time"), "dates along time"),
        (lambda cube: cube.drop_vars("band"), "names along band"),
        (lambda cube: cube.drop_vars("x"), "x"),
        (lambda cube: cube.values, "xarray.DataArray"),
    ],
)
@pytest.mark.parametrize("kind", ["State", "Runner", "Labeler", "MapView", "AttentionInspector"])
def test_what_is_no_cube_is_refused(cube, change, message, kind):
    with pytest.raises(TimoError, match=message):
        getattr(timo_widgets, kind)(cube=change(cube))


def test_numbers_of_numpy_are_taken(cube):
    state = timo_widgets.State(cube=cube, date=np.int64(1), pixels=np.array([[1, 2]]).tolist())
    state.look_at(np.int32(3), np.int32(4))
    assert state.pixels == [(1, 2), (3, 4)]
    assert timo_widgets.class_colours(np.int64(2)) == timo_widgets.class_colours(2)


CALLS = {
    "a chart of numbers as dates": (lambda w, _: w.SeriesChart(dates=[1, 2]), "cannot be read"),
    "a series without values": (lambda w, _: w.SeriesChart(series=[{"name": "a"}]), "values of"),
    "a trait of no chart": (lambda w, _: w.SeriesChart(titel="a"), "Did you mean 'title'"),
    "a height in words": (lambda w, _: w.SeriesChart(height="tall"), "height="),
    "colours of -1 classes": (lambda w, _: w.class_colours(-1), "from 0"),
    "a colour of no palette": (
        lambda w, c: w.colour(c[0, 0], {1: "greenish"}),
        "no colour of matplotlib",
    ),
    "an overlay of floats": (lambda w, c: w.image_overlay(c[0], "a"), "uint8"),
    "a map of no grid": (lambda w, c: w.RasterMap(c.drop_vars("y")), "coordinate 'y'"),
    "no layer": (lambda w, _: w.MapWithPicture({}, mpl.figure.Figure()), "no layer"),
    "no such tab": (lambda w, _: w.Workbench().show("Nowhere"), "The tabs are"),
    "a loss without years": (lambda w, _: w.MapView(loss=xr.Dataset()), "timo.loss_year"),
    "no source": (lambda w, _: w.AOIPicker(source="stack"), "Did you mean 'stac'"),
    "a pixel beside the cube": (lambda w, c: w.pixel_series(c, [(9, 0)]), "no pixel"),
    "a date beside the cube": (lambda w, c: w.LabelStore(c, ["a"]).plane(2), "2 dates"),
    "labels on another grid": (
        lambda w, c: w.Runner(c, c[0, 0, :4].astype("int16").drop_attrs()),
        "grid|cells",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_makes_no_sense_is_refused(cube, name):
    call, message = CALLS[name]
    with pytest.raises(TimoError, match=message):
        call(timo_widgets, cube)
