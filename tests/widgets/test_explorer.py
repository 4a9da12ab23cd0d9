import base64
import gc
import io
import threading
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from ipywidgets.widgets.widget import _instances
from PIL import Image
from timo_widgets.base.state import State
from timo_widgets.explore import bandviews
from timo_widgets.explore.explorer import CubeExplorer
from timo_widgets.explore.pixels import pixel_series

import timo
from timo.errors import TimoError


@pytest.fixture(scope="module")
def cube() -> xr.DataArray:
    return timo.open_cube("sample")


@pytest.fixture
def explorer(cube):
    made = CubeExplorer(cube)
    yield made
    made.close()


def made_cube(sensor, bands, times=3, size=8, crs=32634) -> xr.DataArray:
    values = np.random.default_rng(0).random((times, len(bands), size, size), "float32")
    if sensor == "sentinel-1":
        values = 20 * values - 25
    return xr.DataArray(
        values,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.date_range("2020-01-01", periods=times, freq="MS"),
            "band": list(bands),
            "y": 5_006_000 - 10.0 * np.arange(size),
            "x": 590_000 + 10.0 * np.arange(size),
        },
        attrs={"sensor": sensor},
    ).rio.write_crs(crs)


def click(explorer, row, column):
    explorer.map._interacted(type="click", coordinates=explorer.map.latlon_of(row, column))


def layer(explorer, name="picture"):
    return next(one for one in explorer.map.map.layers if one.name == name)


class Slow:
    """A lazy cube that counts what is read and can be held up or made to fail."""

    def __init__(self, cube):
        self.gate = threading.Event()
        self.gate.set()
        self.reads = 0
        self.fail = False

        def read(block):
            # dask calls with empty arrays to learn the type.
            if block.size:
                self.reads += 1
                self.gate.wait(10)
                if self.fail:
                    raise OSError("the archive is on fire")
            return block

        lazy = cube.chunk({"time": 1, "band": 1, "y": -1, "x": -1})
        self.cube = lazy.copy(data=lazy.data.map_blocks(read, dtype="float32", meta=np.empty(0)))


def joint_cube(radar_first=False) -> xr.DataArray:
    """Sentinel-2 in January to March, Sentinel-1 in the middle of the same months; the last image is cloud."""
    optical = made_cube("sentinel-2", ("B2", "B3", "B4", "B8A"))
    optical = optical.where(optical.time != optical.time[2])
    radar = made_cube("sentinel-1", ("VV", "VH"))
    radar = radar.assign_coords(time=radar.time + pd.Timedelta(days=14))
    return timo.cube.join(*((radar, optical) if radar_first else (optical, radar)))


@pytest.mark.parametrize("radar_first", [False, True])
def test_a_joint_cube_has_the_views_of_its_sensors_and_each_date_of_them(radar_first):
    cube = joint_cube(radar_first)
    explorer = CubeExplorer(cube, State(date=1))
    c = explorer.controls
    assert c.view.options == ("True colour", "False colour (NIR)", "VV, VH, VV − VH", "NDVI")
    assert set(c.quantity.options) == {"NDVI", *cube.band.values}
    assert (c.strip.bars[:4], c.strip.bars[4:]) == ([1, 1, 1, 1], [0, 1])
    # True colour is shown first, and so a date that has it.
    assert explorer.state.date == 0
    assert layer(explorer).opacity == 1
    assert "Nothing is seen" not in c.legend.value
    c.slider.value = 1
    assert "a date of another sensor" in c.legend.value
    c.view.value = "VV, VH, VV − VH"
    assert "Nothing is seen" not in c.legend.value
    click(explorer, 2, 3)
    c.quantity.value = "VV"
    series = explorer.series()
    assert series.valid.tolist() == [False, True] * 3
    np.testing.assert_array_equal(series.value, cube.sel(band="VV")[:, 2, 3])
    explorer.close()


def test_a_lazy_joint_date_is_as_clear_as_its_clearest_sensor():
    optical = made_cube("sentinel-2", ("B2", "B3", "B4"))
    cloud = optical.where(optical.time != optical.time[0])
    both = timo.cube.join(cloud, made_cube("sentinel-1", ("VV", "VH")))
    explorer = CubeExplorer(both.chunk(time=1))
    explorer.wait()
    c = explorer.controls
    assert c.strip.bars[0] == 0
    c.view.value = "VV, VH, VV − VH"
    explorer.wait()
    assert c.strip.bars[0] == 1
    c.view.value = "True colour"
    explorer.wait()
    assert c.strip.bars[0] == 1
    explorer.close()


def test_a_map_of_values_can_be_explored_as_a_cube():
    value = made_cube("sentinel-2", ("value", "low"))
    del value.attrs["sensor"]
    explorer = CubeExplorer(value)
    assert explorer.controls.view.options == ("value", "low")
    click(explorer, 1, 1)
    np.testing.assert_array_equal(explorer.series().value, value[:, 0, 1, 1])
    explorer.close()


def test_the_slider_the_strip_and_the_chart_move_one_date(explorer):
    c, state = explorer.controls, explorer.state
    before = layer(explorer).url
    c.slider.value = 30
    assert (state.date, c.strip.selected, c.chart.selected) == (30, 30, 30)
    assert layer(explorer).url != before
    c.strip.selected = 40
    assert (state.date, c.slider.value) == (40, 40)
    c.chart.selected = 50
    assert c.slider.value == 50
    state.date = 7
    assert (c.slider.value, c.strip.selected, c.chart.selected) == (7, 7, 7)
    assert "2015-" in c.date.value or "2016-" in c.date.value


def test_the_picture_is_that_of_the_date(explorer, cube):
    explorer.controls.stretch.value = "series"
    explorer.controls.view.value = "NDVI"
    explorer.controls.slider.value = 31
    rgba = explorer.map._shown["picture"]
    seen = np.isfinite(timo.cube.ndvi(cube).isel(time=31).values)
    np.testing.assert_array_equal(rgba[..., 3] == 255, seen)
    ndvi = timo.cube.ndvi(cube).isel(time=31).values
    # Viridis grows from dark to bright.
    bright = rgba[..., :3].sum(axis=-1)
    assert np.corrcoef(ndvi[seen], bright[seen])[0, 1] > 0.9


def test_a_fixed_stretch_is_the_same_for_all_dates(explorer, cube):
    c = explorer.controls
    first, last = np.flatnonzero(timo.cube.valid_mask(cube).mean(("y", "x")) > 0.5)[[0, -1]]
    c.slider.value = int(first)
    each = c.legend.value
    c.slider.value = int(last)
    assert c.legend.value != each
    c.stretch.value = "series"
    fixed = c.legend.value
    c.slider.value = int(first)
    assert c.legend.value == fixed


def test_a_date_of_clouds_says_so_and_is_hatched(explorer, cube):
    c = explorer.controls
    hidden = np.flatnonzero(~timo.cube.valid_mask(cube).any(("y", "x")))[0]
    c.slider.value = int(hidden)
    assert "Nothing is seen on this date" in c.legend.value
    alpha = bandviews.paint(np.full((3, 9, 9), np.nan, "f4"), np.array([[0, 1]] * 3))[..., 3]
    assert 0 < (alpha > 0).mean() < 0.5


@pytest.mark.parametrize(
    ("sensor", "bands", "views", "quantities"),
    [
        (
            "sentinel-2",
            ("B2", "B3", "B4", "B8A", "B12"),
            ("True colour", "False colour (NIR)", "Shortwave (SWIR)", "NDVI"),
            ("NDVI", "B2", "B3", "B4", "B8A", "B12"),
        ),
        ("sentinel-2", ("B4", "B8"), ("NDVI",), ("NDVI", "B4", "B8")),
        ("sentinel-2", ("B5",), ("B5",), ("B5",)),
        ("sentinel-1", ("VV", "VH"), ("VV, VH, VV − VH",), ("VV", "VH")),
        ("modis-vegetation", ("NDVI", "EVI"), ("NDVI", "EVI"), ("NDVI", "EVI")),
    ],
)
def test_only_what_the_bands_allow_is_offered(sensor, bands, views, quantities):
    shown = CubeExplorer(made_cube(sensor, bands))
    assert shown.controls.view.options == views
    assert shown.controls.quantity.options == quantities
    for view in views:
        shown.controls.view.value = view
        assert shown.map._shown["picture"][..., 3].min() == 255
    shown.close()


def test_clicks_bring_series_of_up_to_five_pixels(explorer, cube):
    for i in range(6):
        click(explorer, 10 * i, 5)
    assert explorer.state.pixels == [(10 * i, 5) for i in range(1, 6)]
    series = explorer.chart.series
    assert len(series) == 5
    assert len({one["colour"] for one in series}) == 5
    expected = timo.cube.ndvi(cube).isel(y=50, x=5).values
    assert series[-1]["valid"] == np.isfinite(expected).tolist()
    values = np.array([np.nan if v is None else v for v in series[-1]["values"]])
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert len(explorer.map._pins.layers) == 5
    explorer.controls.quantity.value = "B8"
    assert explorer.chart.y_label == "B8"
    explorer.controls.forget.click()
    assert explorer.chart.series == []
    assert explorer.map._pins.layers == ()


def test_the_series_as_a_table_and_as_a_file(explorer, cube, tmp_path):
    with pytest.raises(TimoError, match="No pixel"):
        explorer.series()
    assert "href" not in explorer.controls.csv.value
    click(explorer, 12, 34)
    click(explorer, 50, 60)
    table = explorer.series()
    assert list(table.pixel.unique()) == [1, 2]
    assert len(table) == 2 * cube.sizes["time"]
    assert (table.valid == table.value.notna()).all()
    assert table.x[0] == float(cube.x[34])
    explorer.save_series(tmp_path / "series.csv")
    saved = pd.read_csv(tmp_path / "series.csv", parse_dates=["time"])
    np.testing.assert_allclose(saved.value, table.value, atol=1e-6)
    pd.testing.assert_frame_equal(table, pixel_series(cube, [(12, 34), (50, 60)]))
    link = explorer.controls.csv.value
    content = base64.b64decode(link.split("base64,")[1].split('"')[0]).decode()
    assert content == (tmp_path / "series.csv").read_text()
    assert 'download="series_NDVI.csv"' in link


def test_pixels_beside_the_cube_are_refused(cube):
    with pytest.raises(TimoError, match=r"no pixel \(100, 0\)"):
        pixel_series(cube, [(100, 0)])
    with pytest.raises(TimoError, match="no 'EVI'"):
        pixel_series(cube, [(0, 0)], "EVI")


def test_two_dates_side_by_side(explorer):
    c = explorer.controls
    c.slider.value = 60
    c.before.value = 31
    c.compare.value = True
    assert c.split.active
    assert layer(explorer, "before").pane == "timo-front"
    assert (c.split.left_text, c.split.right_text) == ("◂ 2017-08-05", "2018-06-26 ▸") or (
        c.split.left_text[2:] == c.strip.dates[31] and c.split.right_text[:10] == c.strip.dates[60]
    )
    first = layer(explorer, "before").url
    c.before.value = 32
    assert layer(explorer, "before").url != first
    c.opacity.value = 0.4
    assert {layer(explorer, n).opacity for n in ("before", "picture")} == {0.4}
    c.compare.value = False
    assert not c.split.active
    assert "before" not in [one.name for one in explorer.map.map.layers]


def test_every_action_leaves_python_that_runs(explorer, cube, tmp_path, monkeypatch):
    import timo_widgets

    c, state = explorer.controls, explorer.state
    for date in (3, 4, 5):
        c.slider.value = date
    assert state.code == ["picture = cube.isel(time=[5]).sel(band=['B4', 'B3', 'B2'])"]
    c.view.value = "NDVI"
    c.stretch.value = "series"
    click(explorer, 12, 34)
    c.quantity.value = "B8"
    c.compare.value = True
    explorer.save_series(tmp_path / "s.csv")
    for share in (0.7, 0.4):
        c.opacity.value = share
    assert len(state.code) == 8
    assert state.code[-2:] == [
        "explorer = timo_widgets.CubeExplorer(cube)",
        "explorer.controls.opacity.value = 0.40",
    ]
    names = {"cube": cube, "timo": timo, "timo_widgets": timo_widgets}
    exec("\n".join(state.code), names)  # noqa: S102 - that it runs is what is tested
    assert names["explorer"].controls.opacity.value == 0.4
    names["explorer"].close()
    assert names["series"].size == cube.sizes["time"]
    assert names["picture"].shape == (1, 100, 100)
    assert names["limits"].shape == (2,)
    low, high = explorer.pictures._limits["NDVI"][0]
    np.testing.assert_allclose(names["limits"], [low, high], atol=0.02)


def test_a_lazy_cube_is_read_where_it_is_looked_at(cube):
    slow = Slow(cube)
    slow.gate.clear()
    shown = CubeExplorer(slow.cube)
    assert shown.message.kind == "busy"
    assert "2015-08-01" in shown.message.text
    assert "picture" not in shown.map._shown
    # The notebook is free meanwhile; of the dates that are passed over, none but the last is read.
    for date in (10, 20, 30):
        shown.controls.slider.value = date
    slow.gate.set()
    shown.wait()
    assert shown.message.kind == ""
    assert "picture" in shown.map._shown
    assert slow.reads <= 6
    assert shown.controls.strip.bars[30] is not None
    assert shown.controls.strip.bars[50] is None
    reads = slow.reads
    shown.controls.view.value = "False colour (NIR)"
    shown.wait()
    assert slow.reads == reads + 1
    click(shown, 5, 5)
    shown.wait()
    assert slow.reads == reads + 1 + 2 * 140
    click(shown, 5, 5)
    shown.controls.slider.value = 30
    shown.wait()
    assert slow.reads == reads + 1 + 2 * 140
    shown.close()


def test_what_a_source_raises_is_shown(cube):
    slow = Slow(cube)
    slow.fail = True
    shown = CubeExplorer(slow.cube)
    shown.wait()
    assert shown.message.kind == "error"
    assert "the archive is on fire" in shown.message.text
    assert "retry" in shown.message.text
    slow.fail = False
    shown.controls.slider.value = 3
    shown.wait()
    assert shown.message.kind == ""
    shown.close()


def test_a_state_without_a_cube_waits_for_one(cube):
    state = State()
    shown = CubeExplorer(state=state)
    assert "no cube" in shown.message.text
    assert shown.controls.slider.disabled
    assert shown.picture().startswith(b"\x89PNG")
    state.cube = cube
    assert not shown.controls.slider.disabled
    assert "picture" in shown.map._shown
    state.cube = made_cube("sentinel-1", ("VV", "VH"))
    assert shown.controls.view.options == ("VV, VH, VV − VH",)
    assert len(shown.controls.slider.options) == 3
    state.cube = None
    assert shown.map is None
    shown.close()
    with pytest.raises(TimoError):
        CubeExplorer(cube.isel(band=0))


def test_two_explorers_share_a_state(cube):
    state = State()
    first, second = CubeExplorer(cube, state=state), CubeExplorer(state=state)
    first.controls.slider.value = 12
    assert second.controls.slider.value == 12
    click(second, 1, 2)
    assert len(first.chart.series) == 1
    first.close()
    second.close()


def test_every_control_has_a_name(explorer):
    c = explorer.controls
    for control in (c.view, c.stretch, c.opacity, c.compare, c.slider, c.quantity, c.forget):
        assert control.description
    assert c.before.tooltip
    assert c.strip.title


def test_saved_output_has_a_picture(explorer):
    click(explorer, 12, 34)
    explorer.controls.compare.value = True
    data, _ = explorer._repr_mimebundle_()
    picture = np.asarray(Image.open(io.BytesIO(data["image/png"])))
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 10


def test_ten_runs_leak_nothing(cube):
    state = State(cube=cube)

    def once():
        shown = CubeExplorer(state=state)
        shown.controls.slider.value = 30
        click(shown, 5, 5)
        shown.controls.compare.value = True
        shown.close()
        shown.close()

    def count():
        gc.collect()
        observers = sum(len(v) for one in state._trait_notifiers.values() for v in one.values())
        return len(_instances), observers, threading.active_count()

    once()
    before, memory = count(), _resident()
    for _ in range(10):
        once()
    assert count() == before
    assert _resident() - memory < 30 * 2**20


def test_the_thread_ends(cube):
    def threads():
        return [t for t in threading.enumerate() if t.name == "timo-work"]

    slow = Slow(cube.isel(time=slice(0, 3)))
    shown = CubeExplorer(slow.cube)
    assert threads()
    shown.close()
    until = time.monotonic() + 10
    while threads() and time.monotonic() < until:
        time.sleep(0.05)
    assert threads() == []


def _resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - not a file of ours
        return int(file.read().split()[1]) * 4096
