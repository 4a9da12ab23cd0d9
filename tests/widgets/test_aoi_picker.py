"""The area picker through its traits: what a browser would send, and what comes of it."""

import datetime as dt
import gc
import json
import threading
import time

import ipywidgets
import numpy as np
import platformdirs
import pytest
import shapely
import timo_widgets
import xarray as xr
from ee_emulator import Emulator, Faults, sample_backing
from ipywidgets.widgets import widget as registry
from timo_widgets.area import opening as aoi_work
from timo_widgets.area.panel import FetchBar, about
from timo_widgets.area.recent import MOST, RecentAreas, default_file
from timo_widgets.area.text import hectares_text, read_text, short_form
from timo_widgets.maps.graticule import degrees_text, land_picture, lines, step_of, ticks

from timo.cancel import is_stopped
from timo.compute import StepReport
from timo.errors import TimoError
from timo.sources import parse_aoi
from timo.sources.emulated import connect_emulator

PLACE = (22.1472, 45.2013, 22.1572, 45.2083)
DATES = {"start": "2019-07", "end": "2019-08"}


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("TIMO_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config" / "areas.json"


@pytest.fixture
def make():
    made = []

    def picker(*args, **kwargs):
        made.append(timo_widgets.AOIPicker(*args, **kwargs))
        return made[-1]

    yield picker
    for one in made:
        one.close()


def rectangle(west, south, east, north):
    shape = shapely.geometry.mapping(shapely.box(west, south, east, north))
    return {"type": "Feature", "properties": {}, "geometry": json.loads(json.dumps(shape))}


def draw(picker, feature):
    """As the browser does: the control's data, with the new shape at the end."""
    picker.map.draw.data = [*picker.map.draw.data, feature]


def test_a_drawn_shape_is_the_area_and_a_second_takes_its_place(make):
    picker = make(source="emulator")
    draw(picker, rectangle(*PLACE))
    assert picker.area.bounds == pytest.approx(PLACE)
    assert picker.state.aoi == picker.aoi
    assert f"{parse_aoi(PLACE).hectares:.3g} ha" in picker.controls.size.value
    draw(picker, rectangle(22.0, 45.0, 22.1, 45.1))
    assert picker.area.bounds == pytest.approx((22.0, 45.0, 22.1, 45.1))
    assert len(picker.map.draw.data) == 1
    picker.map.draw.data = []
    assert picker.area is None
    assert picker.state.aoi is None
    assert "No area yet" in picker.controls.size.value


def test_an_area_across_the_antimeridian_is_one_shape_on_the_map(make):
    picker = make(source="emulator", aoi=(179.9, -17, -179.8, -16.9))
    assert picker.aoi["type"] == "MultiPolygon"
    shown = shapely.geometry.shape(picker.map.draw.data[0]["geometry"])
    assert shown.bounds == pytest.approx((179.9, -17, 180.2, -16.9))
    assert picker.map.map.center == pytest.approx([-16.95, 180.05])
    assert picker.map.map.zoom >= 9


def test_an_edited_shape_is_the_area(make):
    picker = make(source="stac", aoi=PLACE)
    (feature,) = picker.map.draw.data
    picker.map.draw.data = [{**feature, "geometry": rectangle(22.0, 45.0, 22.2, 45.2)["geometry"]}]
    assert picker.area.bounds == pytest.approx((22.0, 45.0, 22.2, 45.2))


def test_a_shape_that_crosses_itself_is_refused_and_the_area_stays(make):
    picker = make(source="stac", aoi=PLACE)
    ring = [[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]
    bow = {"type": "Polygon", "coordinates": [ring]}
    draw(picker, {"type": "Feature", "properties": {}, "geometry": bow})
    assert picker.controls.message.kind == "error"
    assert "not valid" in picker.controls.message.text
    assert picker.area.bounds == pytest.approx(PLACE)
    assert len(picker.map.draw.data) == 1


@pytest.mark.parametrize(
    "text",
    [
        "22.1472, 45.2013, 22.1572, 45.2083",
        "(22.1472 45.2013 22.1572 45.2083)",
        shapely.box(*PLACE).wkt,
        json.dumps(rectangle(*PLACE)),
    ],
)
def test_an_area_can_be_written(make, text):
    picker = make(source="stac")
    picker.controls.text.value = text
    assert picker.area.bounds == pytest.approx(PLACE)
    assert picker.map.map.center == pytest.approx((45.2048, 22.1522))


def test_what_is_no_area_is_said_with_the_remedy(make):
    picker = make(source="stac")
    picker.controls.text.value = "45, 22, 44, 23"
    assert picker.controls.message.kind == "error"
    assert "west, south, east, north" in picker.controls.message.text
    picker.controls.text.value = "22, 44, 23, 45"
    assert picker.controls.message.kind == ""


def test_geojson_is_uploaded(make):
    picker = make(source="stac")

    def upload(name, content):
        picker.controls.upload.value = (
            {
                "name": name,
                "type": "",
                "size": len(content),
                "content": memoryview(content),
                "last_modified": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
            },
        )

    upload("a.geojson", b"\xef\xbb\xbf" + json.dumps(rectangle(*PLACE)).encode())
    assert picker.area.bounds == pytest.approx(PLACE)
    upload("a.kml", b"<kml/>")
    assert "'a.kml' is no GeoJSON" in picker.controls.message.text


def test_options_are_those_of_open_cube(make):
    picker = make(
        source="emulator",
        aoi=PLACE,
        **DATES,
        bands=["B4", "B8"],
        composite="1MS",
        max_cloud=40,
        resolution=20,
        chunks=64,
    )
    source, options = picker.request()
    assert source == "emulator"
    assert options == {
        "aoi": PLACE,
        "start": "2019-07-01",
        "end": "2019-08-31",
        "sensor": "sentinel-2",
        "bands": ["B4", "B8"],
        "composite": "1MS",
        "max_cloud": 40,
        "resolution": 20.0,
        "chunks": 64,
    }
    picker.options.source.value = "sample"
    assert "aoi" not in picker.request()[1]
    assert picker.options.sensor.layout.display == "none"
    picker.options.source.value = "stac"
    picker.options.sensor.value = "sentinel-1"
    assert set(picker.options.bands.options) >= {"VV", "VH"}
    picker.options.resolution.value = "ten"
    assert "no number" in picker.controls.message.text


def test_bands_are_taken_as_open_cube_takes_them(make):
    assert make(source="emulator", bands="B4").options.bands.value == ("B4",)
    assert make(source="stac", bands=["red", "nir"]).options.bands.value == ("B4", "B8")
    with pytest.raises(TimoError, match="bands must be"):
        make(source="stac", bands=4)
    with pytest.raises(TimoError, match=r"Sample .* has no band 'B12'. It has: B2, B3"):
        make(source="sample", bands=["B12"])


def test_an_unknown_source_or_base_map_is_refused():
    with pytest.raises(TimoError, match="Unknown source"):
        timo_widgets.AOIPicker(source="moon")
    with pytest.raises(TimoError, match="no base map"):
        timo_widgets.AOIPicker(basemap="moon")


def test_the_sample_is_opened_and_the_lines_do_the_same(make):
    state = timo_widgets.State()
    picker = make(state, start="2019-06", end="2019-07", bands=["B4", "B8"])
    picker.controls.open.click()
    assert picker.controls.open.disabled
    picker.wait()
    assert picker.controls.message.kind == "info", picker.controls.message.text
    assert state.cube.sizes["band"] == 2
    assert state.options["source"] == "sample"
    scope = {}
    exec("\n".join(state.code), scope)  # noqa: S102 - the very lines that users copy
    assert scope["cube"].identical(state.cube)
    assert not picker.controls.open.disabled
    assert picker.controls.cancel.disabled


def test_the_emulator_tells_what_it_takes_and_is_fetched(make, config):
    picker = make(source="emulator", aoi=PLACE, bands=["B4", "B8"], **DATES)
    assert picker.controls.cost.kind == "busy"
    picker.wait()
    assert picker.controls.cost.kind == "info", picker.controls.cost.text
    assert "requests" in picker.controls.cost.text
    picker.open_cube()
    picker.wait()
    cube = picker.state.cube
    assert cube is not None, picker.controls.message.text
    assert cube.chunks is None
    assert picker.state.code[-1] == "cube = timo.fetch(cube)"
    assert len(json.loads(config.read_text())) == 1
    scope = {}
    exec("\n".join(picker.state.code), scope)  # noqa: S102 - the very lines that users copy
    assert scope["cube"].identical(cube)


def test_errors_of_a_source_are_shown(make):
    picker = make(source="files", path="/not/there/*.tif")
    picker.open_cube()
    picker.wait()
    assert picker.controls.message.kind == "error"
    assert picker.state.cube is None
    assert picker.state.code == []
    picker = make(source="stac")
    picker.open_cube()
    assert "There is no area" in picker.controls.message.text


def test_an_error_that_comes_at_once_is_shown(make, monkeypatch):
    picker = make(source="sample")

    def fails_before_run_returns(*_, **__):
        picker._opening._failed(TimoError("The disk is full. Make room"))

    monkeypatch.setattr(picker._opening, "run", fails_before_run_returns)
    picker.open_cube()
    assert picker.controls.message.kind == "error"
    assert "The disk is full" in picker.controls.message.text


def test_who_is_not_signed_in_is_told(make, monkeypatch):
    def refuse(**_):
        raise TimoError("You are not signed in. Sign in once, in Python: ee.Authenticate()")

    monkeypatch.setattr("timo.sources.earthengine.estimate", refuse)
    picker = make(source="earthengine", aoi=PLACE, **DATES)
    picker.wait()
    assert picker.controls.cost.kind == "error"
    assert "ee.Authenticate()" in picker.controls.cost.text


def test_only_the_newest_estimate_is_asked_for(make, monkeypatch):
    asked = []

    def answer(source, options, _):
        asked.append(options["max_cloud"])
        return "some"

    monkeypatch.setattr(aoi_work, "estimate_text", answer)
    picker = make(source="earthengine", aoi=PLACE, **DATES)
    for cloud in (90, 80, 70):
        picker.options.max_cloud.value = cloud
    picker.wait()
    assert asked == [70]
    assert picker.controls.cost.text == "some"


def test_cancel_stops_the_fetch(make, monkeypatch):
    begun, left = threading.Event(), threading.Event()

    lazy = xr.DataArray(np.zeros(1), dims="time").chunk()

    def fetch(cube, *, progress, on_step, stop):
        assert not progress
        for done in range(2):
            on_step(StepReport(done, 3))
        begun.set()
        assert left.wait(10)
        assert is_stopped(stop)
        raise aoi_work.CancelledError("The fetch was stopped after 1 of 3 chunks.")

    monkeypatch.setattr(aoi_work, "open_cube", lambda *_, **__: lazy)
    monkeypatch.setattr(aoi_work, "fetch", fetch)
    picker = make(source="stac", aoi=PLACE, **DATES)
    assert picker.controls.bar.layout.display == "none"
    picker.open_cube()
    assert begun.wait(10)
    picker.wait(0.1)
    assert picker.controls.bar.layout.display is None
    assert "Fetching" in picker.controls.message.text
    picker.open_cube()
    assert "is being opened" in picker.controls.message.text
    picker.controls.cancel.click()
    left.set()
    picker.wait()
    assert picker.controls.message.text == "The fetch was stopped after 1 of 3 chunks."
    assert picker.controls.message.kind == "info"
    assert picker.controls.bar.layout.display == "none"
    assert picker.state.cube is None
    assert not picker.controls.open.disabled


def test_the_share_and_the_time_to_go_are_shown_and_read_out():
    now = [100.0]
    bar = FetchBar()

    def show(share):
        bar.show(StepReport(round(share * 800), 800, seconds=now[0]))

    assert (bar.layout.display, bar.value) == ("none", "")
    show(0.0)
    assert bar.text == "0 %"
    now[0] += 10
    show(0.25)
    assert bar.text == "25 %, about 30 s to go"
    assert '<progress max="100" value="25" aria-label="Fetching the pixels"' in bar.value
    assert 'aria-valuetext="25 %, about 30 s to go"' in bar.value
    # Of the pace only the last twenty seconds count.
    for second in range(60):
        now[0] += 1
        show(0.25 + (second + 1) / 800)
    assert bar.text == "32 %, about 9 min to go"
    bar.hide()
    assert (bar.layout.display, bar.value) == ("none", "")
    show(0.5)
    assert bar.text == "50 %"
    bar.close()


def test_rough_times():
    found = [about(s) for s in (0, 12, 54.9, 70, 3400, 3600, 8000, float("nan"))]
    assert found == [
        "about 5 s", "about 15 s", "about 55 s", "about 1 min", "about 57 min", "about 1 h", "about 2 h 10 min", "",
    ]  # fmt: skip


def test_cancel_ends_a_slow_fetch_between_two_requests(make, monkeypatch):
    with Emulator(sample_backing(), faults=Faults(latency=0.5)) as service:
        monkeypatch.setattr("timo.sources.emulated.emulator", lambda: service)
        options = {"bands": ["B4"], "chunks": 16, "cache": False}
        picker = make(source="emulator", aoi=PLACE, **DATES, **options)
        picker.wait()
        shares = []
        picker.controls.bar.observe(lambda _: shares.append(picker.controls.bar.share), "value")
        picker.open_cube()
        until = time.monotonic() + 60
        while not any(share > 0 for share in shares) and time.monotonic() < until:
            picker.wait(0.05)
        began = time.monotonic()
        picker.controls.cancel.click()
        picker.wait()
        assert time.monotonic() - began < 2
        asked = service.requests["pixels"]
    monkeypatch.undo()
    connect_emulator()
    assert "stopped after" in picker.controls.message.text
    assert 0 < max(share for share in shares if share >= 0) < 1
    assert asked < 40
    assert picker.state.cube is None


def test_what_others_put_into_the_state_is_shown(make):
    state = timo_widgets.State(aoi=PLACE)
    picker = make(state, source="stac")
    assert picker.area.bounds == pytest.approx(PLACE)
    state.aoi = shapely.box(0, 0, 1, 1)
    assert picker.area.bounds == (0, 0, 1, 1)
    state.aoi = None
    assert picker.area is None


def test_recent_areas_are_bounded_and_chosen(make, config):
    recent = RecentAreas()
    for i in range(MOST + 3):
        assert recent.add(parse_aoi((i, 0, i + 0.5, 1))) == ""
    recent.add(parse_aoi((5, 0, 5.5, 1)))
    entries = recent.all()
    assert len(entries) == MOST
    assert parse_aoi(entries[0]["geometry"]).bounds == (5, 0, 5.5, 1)
    assert default_file() == config
    picker = make(source="stac")
    picker.controls.recent.value = 1
    assert picker.area.bounds == (MOST + 2, 0, MOST + 2.5, 1)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', '[{"name": "x", "geometry": {}}]'])
def test_a_spoilt_file_of_recent_areas_counts_as_empty(config, text):
    config.parent.mkdir()
    config.write_text(text)
    assert RecentAreas().all() == []


def test_a_file_that_cannot_be_written_is_no_failure(tmp_path):
    (tmp_path / "file").write_text("")
    recent = RecentAreas(tmp_path / "file" / "areas.json")
    assert "cannot write" in recent.add(parse_aoi(PLACE))
    assert recent.all() == []
    many = shapely.Point(0, 0).buffer(1, 5000)
    assert "too long" in RecentAreas().add(parse_aoi(many))


def test_settings_go_where_the_system_wants_them(monkeypatch):
    monkeypatch.delenv("TIMO_CONFIG")
    folder = platformdirs.user_config_path("timo", appauthor=False, roaming=True)
    assert default_file() == folder / "areas.json"


def test_words_and_areas():
    area = parse_aoi(PLACE)
    assert short_form(area) == PLACE
    assert short_form(parse_aoi("POLYGON ((0 0, 1 0, 0 1, 0 0))"))["type"] == "Polygon"
    assert read_text("[1; 2; 3; 4]") == [1, 2, 3, 4]
    assert hectares_text(parse_aoi((0, 0, 1, 1))).endswith("km²")


def test_the_graticule():
    assert step_of(1.0) == 0.2
    assert ticks(-0.45, 0.41, 0.2) == [-0.4, -0.2, 0.0, 0.2, 0.4]
    assert degrees_text(-22.15, 0.05, "EW") == "22.15° W"
    assert degrees_text(0.0, 10, "NS") == "0°"
    found = lines(45.2, 22.14, 45.21, 22.16)["features"]
    assert {f["properties"]["label"] for f in found} >= {"22.150° E", "45.206° N"}
    for feature in lines(-90, 170, 90, 200)["features"]:
        assert all(abs(lat) <= 85 for _, lat in feature["geometry"]["coordinates"])
    assert "170° W" in {f["properties"]["label"] for f in lines(-90, 170, 90, 200)["features"]}


def test_degrees_are_written_where_the_map_is(make):
    picker = make(source="stac")
    picker.map.map.set_trait("bounds", ((45.0, 22.0), (46.0, 24.0)))
    titles = {marker.title for marker in picker.map.names.layers}
    assert {"22.2° E", "45.4° N"} <= titles
    address, bounds = land_picture()
    assert address.startswith("data:image/png;base64,")
    assert len(address) < 150_000
    assert bounds == ((-56.0, -180.0), (84.0, 180.0))
    # Nothing is fetched: no base map unless asked for.
    assert not any("http" in getattr(layer, "url", "")[:8] for layer in picker.map.map.layers)


def test_it_shows_a_picture_where_there_is_no_kernel(make):
    data, _ = make(source="stac", aoi=PLACE)._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in data


def test_every_control_has_a_label(make):
    picker = make()
    for control in (*picker.controls.all(), *picker.options.all().values()):
        if not isinstance(control, ipywidgets.HTML):
            assert control.description, control


def test_nothing_is_left_when_it_is_closed():
    state = timo_widgets.State()

    def use():
        made = timo_widgets.AOIPicker(state, source="emulator", aoi=PLACE, **DATES)
        made.map.map.set_trait("bounds", ((45.0, 22.0), (46.0, 24.0)))
        made.wait()
        made.close()

    def left():
        gc.collect()
        handlers = (h for kinds in state._trait_notifiers.values() for h in kinds.values())
        threads = [t for t in threading.enumerate() if t.name == "timo-map"]
        return len(registry._instances), sum(map(len, handlers)), len(threads)

    use()
    before = left()
    for _ in range(3):
        use()
    assert left() == before
