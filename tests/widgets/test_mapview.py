import gc
import json
import threading
import time

import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from ipywidgets.widgets.widget import _instances
from timo_widgets.base.state import State
from timo_widgets.result.data import MapData
from timo_widgets.result.legend import ColourBar, Legend
from timo_widgets.result.mapview import MapView

import timo
from timo import cube as cubes

CLASSES = ["forest", "meadow", "road"]


def a_result(dates=6, dated=True) -> xr.Dataset:
    """Forest that is meadow from July 2019 on in its left half; a corner was never seen."""
    times = pd.date_range("2018-06-01", periods=dates, freq="80D")
    p = np.full((3, dates, 9, 12), 0.05, "float32")
    p[0] = 0.9
    p[:, dates // 2 :, :, :6] = np.array([0.1, 0.8, 0.1], "float32")[:, None, None, None]
    p[:, :, 0, :2] = np.nan
    coords = {
        "class": CLASSES,
        "time": times,
        "y": 5_000_000 - 10.0 * np.arange(9),
        "x": 500_000 + 10.0 * np.arange(12),
    }
    probability = xr.DataArray(p, dims=("class", "time", "y", "x"), coords=coords)
    if not dated:
        probability = probability.isel(time=-1, drop=True)
    known = np.isfinite(probability).all("class")
    label = probability.fillna(0).argmax("class").where(known, -1).astype("int8")
    label.attrs = {"classes": CLASSES, "nodata": -1}
    entropy = -(probability * np.log2(probability)).sum("class", skipna=False)
    result = xr.Dataset({"label": label, "probability": probability, "entropy": entropy})
    result.attrs = {"provenance": json.dumps({"parameters": {"tile": 9}}), "attribution": "us"}
    return result.rio.write_crs("EPSG:32634")


def a_cube(result, dates=6) -> xr.DataArray:
    rng = np.random.default_rng(0)
    cube = xr.DataArray(
        rng.uniform(0, 0.4, (dates, 3, 9, 12)).astype("float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2018-06-01", periods=dates, freq="80D"),
            "band": ["B2", "B3", "B4"],
            "y": result.y,
            "x": result.x,
        },
        attrs={"sensor": "sentinel-2"},
    )
    return cube.rio.write_crs("EPSG:32634")


@pytest.fixture
def view(tmp_path):
    made = []

    def make(*arguments, **options):
        made.append(MapView(*arguments, **options))
        made[-1].export.folder.value = str(tmp_path / "out")
        return made[-1]

    yield make
    for one in made:
        one.close()


def shown(view, name="map"):
    return view.layers.map._shown[name]


def colours_of(picture):
    seen = picture[picture[..., 3] > 0][:, :3]
    return {tuple(int(v) for v in colour) for colour in np.unique(seen, axis=0)}


# --- layers


def test_classes_are_drawn_in_okabe_and_itos_colours_and_switched_off_one_by_one(view):
    v = view(a_result())
    assert v.message.text == ""
    assert colours_of(shown(v)) == {(0, 0x72, 0xB2)}
    assert (shown(v)[0, :2, 3] == 0).all()  # never seen
    v.date.value = 5
    assert colours_of(shown(v)) == {(0, 0x72, 0xB2), (0xE6, 0x9F, 0)}
    v.layers.legend.hidden = [0]
    assert colours_of(shown(v)) == {(0xE6, 0x9F, 0)}
    # It stays off on another date and when one comes back to the layer.
    v.layers.layer.value = "entropy"
    v.layers.layer.value = "class"
    assert v.layers.legend.hidden == [0]
    assert colours_of(shown(v)) == {(0xE6, 0x9F, 0)}


def test_hectares_are_those_of_the_map_and_are_said_to_be_no_estimate(view):
    result = a_result()
    v = view(result)
    v.date.value = 5
    amounts = [row.children[2].value for row in v.layers.legend.children[1:]]
    expected = cubes.hectares(result.label.isel(time=5))
    for name, text in zip(CLASSES, amounts, strict=True):
        assert f">{expected[name]:.2f} ha<" in text
    assert "no estimate" in v.layers._note.value
    assert "timo.loss_areas" in v.layers._note.value


def test_probability_and_entropy_have_colour_bars(view):
    result = a_result()
    v = view(result)
    v.layers.layer.value = "probability"
    assert v.layers.chosen.layout.display is None
    v.layers.chosen.value = "meadow"
    assert isinstance(v.layers.legend, ColourBar)
    assert "Probability of meadow" in v.layers.legend.value
    assert "over 0.5: 0.00 ha" in v.layers.legend.value
    v.date.value = 5
    assert "over 0.5: 0.52 ha" in v.layers.legend.value
    bright, dark = shown(v)[4, 0, :3].astype(int), shown(v)[4, 9, :3].astype(int)
    assert bright.sum() > dark.sum()
    v.layers.layer.value = "entropy"
    assert v.layers.chosen.layout.display == "none"
    assert (v.layers.legend.low, v.layers.legend.high) == (0, pytest.approx(np.log2(3)))


def test_a_date_without_any_observation_says_so(view):
    result = a_result()
    here = result.time != result.time[2]
    blank = result.probability.where(here)
    result = result.assign(probability=blank, label=result.label.where(here, -1).astype("int8"))
    v = view(result)
    assert "Nothing was observed" not in v.layers._note.value
    v.date.value = 2
    assert "Nothing was observed" in v.layers._note.value
    v.layers.layer.value = "entropy"
    assert "Nothing was observed" in v.layers._note.value


def test_the_year_of_loss_is_found_when_it_is_asked_for(view):
    result = a_result(dates=40)
    v = view(result)
    v.layers.layer.value = "year"
    v.wait()
    expected = timo.loss_year(result.probability.sel({"class": "forest"}))
    xr.testing.assert_equal(v.layers.loss, expected)
    years = np.unique(expected.loss_year.values)
    assert [key for key, *_ in v.layers.legend.entries] == [int(y) for y in years if y > 0]
    np.testing.assert_array_equal(shown(v)[..., 3] > 0, expected.loss_year.values > 0)
    assert (expected.loss_year.values > 0).any()
    assert "loss = timo.loss_year(result.probability.sel({'class': 'forest'}))" in v.state.code
    v.layers.chosen.value = "road"
    v.wait()
    assert v.layers.legend.entries == []


def test_a_season_without_a_date_is_said_and_another_one_can_be_chosen(view):
    winter = a_result(dates=40)
    winter = winter.isel(time=winter.time.dt.month.isin([12, 1, 2]).values)
    v = view(winter)
    v.layers.layer.value = "year"
    v.wait()
    assert v.message.kind == "error"
    assert "in the season, June to August: its dates are of January, February" in v.message.text
    assert not shown(v)[..., 3].any()
    assert (v.layers.legend.title, v.layers.legend.entries) == ("Year of loss", [])
    v.layers.year.first.value, v.layers.year.last.value = 12, 2
    v.wait()
    assert v.message.text == ""
    expected = timo.loss_year(winter.probability.sel({"class": "forest"}), months=(12, 2))
    xr.testing.assert_equal(v.layers.loss, expected)
    assert (expected.loss_year.values > 0).any()
    np.testing.assert_array_equal(shown(v)[..., 3] > 0, expected.loss_year.values > 0)
    line = "loss = timo.loss_year(result.probability.sel({'class': 'forest'}), months=(12, 2))"
    assert v.state.code[-1] == line
    rerun(line, winter)


def test_what_is_no_loss_is_neither_exported_nor_left_on_the_map(view):
    result = a_result(dates=8)
    v = view(result.isel(time=result.time.dt.month.isin([11, 1, 2, 4]).values))
    v.layers.layer.value = "year"
    v.wait()
    v.export.button.click()
    assert "no year of loss" in v.export.message.text
    assert not v.export.path.exists()
    v.layers.layer.value = "class"
    assert v.message.text == ""
    assert shown(v)[..., 3].any()
    assert v.picture().startswith(b"\x89PNG")


def test_dates_that_loss_year_refuses_are_said(view):
    result = a_result(dates=8)
    twice = result.isel(time=[0, 0, *range(1, 8)])
    v = view(twice)
    v.layers.layer.value = "year"
    v.wait()
    assert v.message.kind == "error"
    assert "2018-06-01 is there more than once" in v.message.text
    assert not shown(v)[..., 3].any()


def test_a_given_loss_is_shown_as_it_is(view):
    result = a_result(dates=40)
    loss = timo.loss_year(result.probability.sel({"class": "forest"}))
    v = view(result.isel(time=-1, drop=True), loss=loss)
    v.layers.layer.value = "year"
    assert not v.layers.year.worker.busy
    assert v.layers.chosen.layout.display == "none"
    assert v.layers.loss is loss


def test_without_dates_there_is_no_slider_and_no_year(view):
    v = view(a_result(dated=False))
    assert v.date.layout.display == "none"
    assert "year" not in dict(v.layers.layer.options).values()
    v.state.look_at(4, 1)
    assert "meadow" in v.pixel.table.value
    assert v.pixel.chart.layout.display == "none"


def test_opacity_is_that_of_the_layer(view):
    v = view(a_result())
    v.layers.opacity.value = 0.25
    assert v.layers.map._layers["map"].opacity == 0.25
    v.layers.layer.value = "entropy"
    assert v.layers.map._layers["map"].opacity == 0.25


# --- a regression


def a_value_result(dates=6) -> xr.Dataset:
    """A biomass that grows from west to east, with an interval; the first column was never seen."""
    classes = a_result(dates)
    rows = (
        np.ones((dates, 9, 1), "float32") * np.arange(1, dates + 1, dtype="float32")[:, None, None]
    )
    values = rows * np.arange(12, dtype="float32")
    values[..., 0] = np.nan
    value = classes.label.copy(data=values)
    value.attrs = {"long_name": "biomass", "units": "t/ha"}
    return xr.Dataset({"value": value, "low": value - 1, "high": value + 1}).rio.write_crs(
        "EPSG:32634"
    )


def test_a_map_of_values_is_shown_with_its_interval(view):
    result = a_value_result()
    v = view(result, a_cube(result))
    assert v.message.text == ""
    assert list(v.layers.layer.options) == ["Value", "Lower end", "Upper end"]
    bar = v.layers.legend
    assert isinstance(bar, ColourBar)
    assert bar.label == "biomass (t/ha)"
    expected = np.percentile(result.value.values[np.isfinite(result.value.values)], [2, 98])
    np.testing.assert_allclose([bar.low, bar.high], expected)
    assert not shown(v)[:, 0, 3].any()
    assert shown(v)[:, 1:, 3].all()
    assert "mean: 6" in bar.value
    v.layers.layer.value = "high"
    assert "mean: 7" in v.layers.legend.value
    assert v.layers.legend.label == "Upper end: biomass (t/ha)"
    assert (v.layers.legend.low, v.layers.legend.high) == (bar.low, bar.high)
    v.date.value = 1
    assert "mean: 13" in v.layers.legend.value
    assert v.state.code[-1] == 'result[["high"]].isel(time=1).high.plot()'
    assert v.layers.chosen.layout.display == v.layers.year.layout.display == "none"


def test_the_values_of_a_pixel_are_its_series(view):
    result = a_value_result()
    v = view(result)
    v.state.look_at(4, 3)
    assert [one["name"] for one in v.pixel.chart.series] == ["value", "low", "high"]
    np.testing.assert_allclose(v.pixel.chart.series[0]["values"], result.value[:, 4, 3])
    assert v.pixel.chart.title == "biomass (t/ha) at row 4, column 3"
    assert "biomass (t/ha)" in v.pixel.table.value
    assert ">4.000<" in v.pixel.table.value  # high, of the first date
    v.state.look_at(4, 0)
    assert "nan" not in v.pixel.table.value.lower()


def test_values_are_exported_and_polygons_of_them_are_refused(view):
    result = a_value_result()
    v = view(result)
    path = exported(v, "biomass", ".tif")
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), result.value.isel(time=0))
    path = exported(v, "biomass", ".zarr")
    np.testing.assert_array_equal(xr.open_zarr(path).high, result.high)
    v.export.format.value = ".geojson"
    v.export.button.click()
    assert "choose another format" in v.export.message.text


def test_values_without_dates_or_interval_and_then_classes(view):
    v = view(a_value_result()[["value"]].isel(time=2, drop=True))
    assert list(v.layers.layer.options) == ["Value"]
    assert v.date.layout.display == "none"
    v.state.look_at(4, 3)
    assert ">9.000<" in v.pixel.table.value
    v.state.result = a_result()
    assert list(v.layers.layer.options) == ["Classes", "Probability", "Entropy", "Year of loss"]
    assert v.layers.chosen.value == "forest"
    assert colours_of(shown(v)) == {(0, 0x72, 0xB2)}
    v.state.result = a_value_result()
    assert v.layers.layer.value == "value"
    blank = a_value_result()
    v.state.result = blank.where(blank.time != blank.time[0])
    assert "Nothing was observed" in v.layers._note.value


def test_a_value_with_other_dims_is_refused(view):
    v = view(a_value_result().expand_dims(member=2))
    assert "The value must be ([time,] y, x)" in v.message.text


# --- the image below and the date


def test_the_image_of_the_date_lies_below(view):
    result = a_result()
    cube = a_cube(result)
    v = view(result, cube)
    assert list(v.layers.map._layers) == ["image", "map"]
    first = shown(v, "image").copy()
    expected = cubes.true_colour(cube.isel(time=[0])).values[0]
    np.testing.assert_allclose(first[..., :3], expected * 255, atol=1)
    v.date.value = 2
    assert not np.array_equal(shown(v, "image"), first)
    v.layers.image.value = False
    assert v.layers.map._layers["image"].opacity == 0


def test_a_lazy_cube_is_read_only_when_it_is_asked_for(view):
    result = a_result()
    v = view(result, a_cube(result).chunk(time=1))
    assert not v.layers.image.value
    v.layers.image.value = True
    v.wait()
    assert shown(v, "image")[..., 3].all()
    assert v.message.text == ""


def test_a_cube_of_another_place_is_not_drawn_below(view):
    result = a_result()
    cube = a_cube(result)
    v = view(result, cube.assign_coords(x=cube.x + 5))
    assert v.layers.image.disabled


def test_the_date_is_shared(view):
    result = a_result()
    state = State(cube=a_cube(result, dates=12))
    v = view(result.isel(time=slice(0, 6, 2)), state=state)
    assert [label for label, _ in v.date.options] == ["2018-06-01", "2018-11-08", "2019-04-17"]
    v.date.value = 2
    assert state.date == 4
    state.date = 2
    assert v.date.value == 1
    # Dates between those of the result: the nearest, and the other widget keeps its own.
    state.date = 11
    assert (v.date.value, state.date) == (2, 11)
    v.pixel.chart.selected = 0
    assert state.date == 0


# --- the pixel


def test_a_click_gives_the_probabilities_through_time(view):
    result = a_result()
    v = view(result)
    latitude, longitude = v.layers.map.latlon_of(4, 1)
    v.layers.map._interacted(type="click", coordinates=(latitude, longitude))
    assert v.state.pixels == [(4, 1)]
    series = v.pixel.chart.series
    assert [one["name"] for one in series] == CLASSES
    np.testing.assert_allclose(series[1]["values"], result.probability[1, :, 4, 1])
    assert "0.050" in v.pixel.table.value
    v.date.value = 5
    assert v.pixel.chart.selected == 5
    assert "0.800" in v.pixel.table.value
    assert "2019-07-06" in v.pixel.table.value
    v.pixel.with_entropy.value = True
    assert max(v.pixel.chart.series[-1]["values"]) <= 1
    shown = 'result[["label"]].isel(time=5).label.plot()'
    assert v.state.code[-2:] == ["result.isel(y=4, x=1)", shown]


def test_a_pixel_can_be_typed_and_one_without_observation_says_so(view):
    v = view(a_result())
    v.pixel.row.value, v.pixel.column.value = 0, 1
    v.pixel.look_button.click()
    assert v.state.pixels == [(0, 1)]
    assert "no observation" in v.pixel.table.value
    assert "nan" not in v.pixel.table.value.lower()
    v.pixel.row.value = 99
    assert v.pixel.row.value == 8


# --- lazy results


def slowly(result, seconds=0.05, started=None):
    def wait(block):
        if started is not None:
            started.set()
        time.sleep(seconds)
        return block

    lazy = result.chunk({"y": 1, "x": 3})
    return lazy.map(lambda a: a.copy(data=a.data.map_blocks(wait, dtype=a.dtype)))


def test_a_lazy_result_is_computed_once_and_takes_its_place(view):
    result = a_result(dates=2)
    lazy = slowly(result, 0.001)
    v = view(lazy)
    v.wait(30)
    assert v.state.result is not lazy
    xr.testing.assert_identical(v.state.result.load(), result)
    assert v.body.layout.display is None
    assert v.state.code == ["result = result.compute()", "view = timo_widgets.MapView(result)"]


def test_computing_can_be_cancelled_and_begun_again(view):
    started = threading.Event()
    v = view(slowly(a_result(dates=2), 0.02, started))
    assert started.wait(10)
    assert v.body.layout.display == "none"
    assert v.message.kind == "busy"
    begun = time.monotonic()
    v.cancel_button.click()
    v.wait(10)
    assert time.monotonic() - begun < 2
    assert "Cancelled" in v.message.text
    assert v.start_button.layout.display is None
    v.start_button.click()
    v.wait(60)
    assert v.body.layout.display is None


def test_what_fails_while_computing_is_shown(view):
    def fail(block):
        raise OSError("the disk is gone")

    result = a_result(dates=2).chunk(y=3)
    broken = result.assign(
        label=result.label.copy(data=result.label.data.map_blocks(fail, dtype="int8"))
    )
    v = view(broken)
    v.wait(30)
    assert v.message.kind == "error"
    assert "the disk is gone" in v.message.text
    assert v.start_button.layout.display is None


def test_what_is_no_result_is_met_with_a_message(view):
    assert "There is no map yet" in view().message.text
    v = view(a_result().drop_vars("entropy"))
    assert "entropy" in v.message.text
    assert v.message.kind == "error"
    v.state.result = a_result()
    assert v.message.text == ""
    assert v.body.layout.display is None
    v.state.result = None
    assert "There is no map yet" in v.message.text


def test_a_new_result_takes_the_place_of_the_old(view):
    v = view(a_result())
    before, place = v.layers.map, v.layers.map.widget
    other = a_result()
    other["label"] = (
        other.label.where(other.label < 0, 2).astype("int8").assign_attrs(classes=CLASSES)
    )
    v.state.result = other
    assert v.layers.map is before  # neither zoom nor place of the map is lost
    assert colours_of(shown(v)) == {(0, 0x9E, 0x73)}
    v.state.result = a_result().isel(x=slice(0, 7))
    assert v.layers.map.widget is not place
    assert shown(v).shape[:2] == (9, 7)


# --- files


def exported(v, name, suffix):
    v.export.file_name.value = name
    v.export.format.value = suffix
    v.export.button.click()
    v.wait(60)
    assert v.message.kind != "error"
    return v.export.path


def rerun(code, result, loss=None):
    """What the echoed line writes, read again from the same path."""
    exec(code, {"timo": timo, "result": result, "loss": loss})  # noqa: S102 - our own line


@pytest.mark.parametrize("layer", ["class", "probability", "entropy", "year"])
def test_what_is_shown_is_written_as_a_geotiff(view, layer):
    result = a_result(dates=40)
    v = view(result)
    v.date.value = 30
    v.layers.layer.value = layer
    v.wait()
    path = exported(v, "map", ".tif")
    with rasterio.open(path) as file:
        values = file.read(1)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert json.loads(file.tags()["TIMO_PROVENANCE"]) == {"parameters": {"tile": 9}}
    one = result.isel(time=30)
    expected = {
        "class": one.label,
        "probability": one.probability[0],
        "entropy": one.entropy,
        "year": timo.loss_year(result.probability[0]).loss_year,
    }
    np.testing.assert_array_equal(values, expected[layer])
    assert "Written" in v.export.message.text
    assert 'download="map.tif"' in v.export.download.value
    path.unlink()
    rerun(v.state.code[-1], result, v.layers.loss)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), values)


def test_polygons_are_of_the_classes_shown(view):
    result = a_result()
    v = view(result)
    v.date.value = 5
    path = exported(v, "all.geojson", ".geojson")
    assert path.name == "all.geojson"
    classes = [f["properties"]["class"] for f in json.loads(path.read_text())["features"]]
    assert sorted(classes) == ["forest", "meadow"]
    v.layers.legend.hidden = [0]
    features = json.loads(exported(v, "some", ".geojson").read_text())["features"]
    assert [f["properties"]["class"] for f in features] == ["meadow"]
    assert features[0]["properties"]["mean_probability"] == pytest.approx(0.8, abs=1e-4)
    v.export.path.unlink()
    rerun(v.state.code[-1], result)
    assert json.loads(v.export.path.read_text())["features"] == features
    v.export.smallest.value = 5
    assert json.loads(exported(v, "none", ".geojson").read_text())["features"] == []
    assert v.state.code[-1].endswith("smallest_ha=5.0)")


def test_polygons_of_loss_bear_years(view):
    v = view(a_result(dates=40))
    v.layers.layer.value = "year"
    v.wait()
    features = json.loads(exported(v, "loss", ".geojson").read_text())["features"]
    assert {f["properties"]["class"] for f in features} == {k for k, *_ in v.layers.legend.entries}


def test_the_whole_result_goes_into_zarr(view):
    result = a_result()
    v = view(result)
    path = exported(v, "map", ".zarr")
    read = xr.open_zarr(path).load()
    np.testing.assert_array_equal(read.probability, result.probability)
    np.testing.assert_array_equal(read.label, result.label)
    assert 'download="map.zarr.zip"' in v.export.download.value


def test_a_failed_export_is_shown_and_leaves_nothing(view, tmp_path):
    v = view(a_result())
    (tmp_path / "file").write_text("x")
    v.export.folder.value = str(tmp_path / "file")
    v.export.button.click()
    v.wait(30)
    assert v.export.message.kind == "error"
    assert "cannot write" in v.export.message.text
    assert not v.export.button.disabled
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert not any("timo.export" in line for line in v.state.code)


# --- the end


def test_the_saved_output_holds_a_picture(view):
    v = view(a_result())
    for layer in ("class", "entropy"):
        v.layers.layer.value = layer
        assert v.picture().startswith(b"\x89PNG")
    bundle, _ = v._repr_mimebundle_()
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert view().picture().startswith(b"\x89PNG")


def test_ten_views_leave_nothing_behind():
    result = a_result(dates=40)
    state = State(cube=a_cube(result))

    def once():
        v = MapView(result, state=state)
        v.layers.layer.value = "year"
        v.wait()
        v.state.look_at(3, 3)
        v.close()
        v.close()

    once()
    gc.collect()
    widgets, threads = len(_instances), threading.active_count()
    for _ in range(10):
        once()
    gc.collect()
    assert len(_instances) == widgets
    assert threading.active_count() == threads
    assert not any(
        h
        for n, by in state._trait_notifiers.items()
        for h in by.get("change", [])
        if isinstance(getattr(h, "__self__", None), MapView)
    )


def test_every_control_says_what_it_is(view):
    v = view(a_result(), a_cube(a_result()))
    told = (
        "Checkbox",
        "Dropdown",
        "Text",
        "FloatSlider",
        "SelectionSlider",
        "BoundedIntText",
        "BoundedFloatText",
    )
    controls = []

    def walk(widget):
        controls.extend(
            [widget] if type(widget).__name__ in (*told, "Button", "ToggleButtons") else []
        )
        for child in getattr(widget, "children", ()):
            walk(child)

    walk(v)
    assert len(controls) > 15
    assert all(control.description for control in controls)


def test_the_sample(view):
    labels = timo.sample_labels()
    cube = timo.open_cube("sample").isel(time=slice(0, 20))
    p = np.stack([labels.values == 0, labels.values != 0]).astype("float32") * 0.8 + 0.1
    probability = xr.DataArray(
        np.repeat(p[:, None], 20, axis=1),
        dims=("class", "time", "y", "x"),
        coords={"class": ["forest", "other"], "time": cube.time, "y": cube.y, "x": cube.x},
    )
    label = probability.argmax("class").astype("int8").assign_attrs(classes=["forest", "other"])
    result = xr.Dataset({"label": label, "probability": probability, "entropy": probability[0] * 0})
    v = view(result.rio.write_crs(cube.rio.crs), cube)
    assert MapData(v.state.result).most_bits == 1
    assert isinstance(v.layers.legend, Legend)
    begun = time.monotonic()
    v.date.value = 7
    assert time.monotonic() - begun < 2
    assert v.state.date == 7


def test_what_is_moved_leaves_one_line_that_runs(view):
    import timo_widgets

    result = a_result()
    v = view(result)
    for date in (1, 2, 3):
        v.date.value = date
    for share in (0.5, 0.25):
        v.layers.opacity.value = share
    assert v.state.code == [
        "view = timo_widgets.MapView(result)",
        'result[["label"]].isel(time=3).label.plot()',
        "view.layers.opacity.value = 0.25",
    ]
    scope = {"result": result, "timo_widgets": timo_widgets}
    exec("\n".join(v.state.code), scope)  # noqa: S102 - that it runs is what is tested
    assert scope["view"].layers.opacity.value == 0.25
    scope["view"].close()


def test_a_pixel_that_was_chosen_elsewhere_leaves_no_line_of_the_map(view):
    v = view(a_result())
    before = list(v.state.code)
    v.state.look_at(2, 3)
    assert v.state.code == before
