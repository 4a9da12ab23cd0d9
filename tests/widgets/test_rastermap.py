import base64
import io

import numpy as np
import pytest
import xarray as xr
from ipywidgets.widgets.widget import _instances
from PIL import Image
from pyproj import Transformer
from timo_widgets.maps.rastermap import FRONT, RasterMap
from timo_widgets.maps.warp import LARGEST, Warp

from timo.errors import TimoError


def grid(rows=40, columns=60, crs=32634, size=10.0, ascending=False) -> xr.DataArray:
    y = 5_006_000 - size * np.arange(rows)
    return xr.DataArray(
        np.zeros((rows, columns)),
        dims=("y", "x"),
        coords={"y": y[::-1] if ascending else y, "x": 590_000 + size * np.arange(columns)},
    ).rio.write_crs(crs)


def painted(shape=(40, 60)) -> np.ndarray:
    rgba = np.zeros((*shape, 4), "uint8")
    rgba[..., 3] = 255
    return rgba


@pytest.fixture
def shown():
    made = RasterMap(grid())
    yield made
    made.close()


def pixels_of(layer) -> np.ndarray:
    data = base64.b64decode(layer.url.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


@pytest.mark.parametrize("ascending", [False, True])
def test_pixel_and_place_are_inverse(ascending):
    warp_map = RasterMap(grid(ascending=ascending))
    for pixel in ((0, 0), (39, 59), (7, 31)):
        assert warp_map.pixel_of(*warp_map.latlon_of(*pixel)) == pixel
    assert warp_map.pixel_of(0, 0) is None
    warp_map.close()


def across(kind):
    """A grid of 40 x 60 cells of about 100 m over the antimeridian, counted in several ways."""
    if kind == "utm 60":
        return moved_to(814_600, 8_000_000, 100.0, 32760)
    if kind == "utm 1":
        return moved_to(179_400, 8_000_000, 100.0, 32701)
    return moved_to({"beyond 180": 179.97, "before -180": -180.03}[kind], -18.0, 1e-3, 4326)


def moved_to(left, top, size, crs):
    y, x = top - size * np.arange(40), left + size * np.arange(60)
    return xr.DataArray(np.zeros((40, 60)), dims=("y", "x"), coords={"y": y, "x": x}).rio.write_crs(
        crs
    )


@pytest.mark.parametrize("kind", ["utm 60", "utm 1", "beyond 180", "before -180"])
def test_a_map_across_the_antimeridian_is_one_narrow_place(kind):
    made = RasterMap(across(kind))
    (south, west), (north, east) = made._warp.bounds
    assert 0 < east - west < 0.07
    assert west < -180 < east or west < 180 < east
    assert made.map.zoom > 10
    latitude, longitude = made.map.center
    assert south < latitude < north
    assert west < longitude < east
    for pixel in ((0, 0), (39, 59), (20, 30)):
        latitude, longitude = made.latlon_of(*pixel)
        assert west < longitude < east
        # A click may come from any turn of the globe.
        for turn in (-360, 0, 360):
            assert made.pixel_of(latitude, longitude + turn) == pixel
    made.mark([(0, 0, "#0072B2", "a"), (39, 59, "#0072B2", "b")])
    assert all(west < pin.location[1] < east for pin in made._pins.layers)
    to_grid, to_picture = made.lattice(17)
    assert np.abs(to_grid[8, 8] - (30, 20)).max() < 0.5
    assert np.abs(to_picture - 0.5).max() < 0.6
    rgba = painted()
    rgba[..., 0], rgba[..., 1] = np.arange(40)[:, None], np.arange(60)
    out = made._warp(rgba)
    assert (out[..., 3] == 255).mean() > 0.9
    middle = out[out.shape[0] // 2, out.shape[1] // 2]
    assert np.abs(middle[:2].astype(int) - (20, 30)).max() <= 1
    made.close()


def test_longitudes_from_0_to_360_and_a_pole_are_whole_maps():
    (_, west), (_, east) = Warp(moved_to(200.0, -18.0, 1e-3, 4326)).bounds
    assert (west, east) == pytest.approx((200 - 360.0005, 200.0595 - 360), abs=1e-6)
    polar = moved_to(-29.5e5, 19.5e5, 1e5, 3413)
    (south, west), (north, east) = Warp(polar).bounds
    assert (west, east) == (-180, 180)
    assert 55 < south < 60
    assert 89 < north < 90


@pytest.mark.parametrize("crs", [32634, 3035, 4326])
def test_warp_puts_every_pixel_where_it_belongs(crs):
    like = grid(crs=32634)
    if crs == 3035:
        like = grid().assign_coords(
            y=2.533e6 - 10.0 * np.arange(40), x=5.272e6 + 10 * np.arange(60)
        )
        like = like.rio.write_crs(3035)
    if crs == 4326:
        like = grid().assign_coords(y=45 - 1e-4 * np.arange(40), x=22 + 1e-4 * np.arange(60))
        like = like.rio.write_crs(4326)
    rgba = painted()
    rgba[..., 0], rgba[..., 1] = np.arange(40)[:, None], np.arange(60)
    warp = Warp(like)
    out = warp(rgba)
    (south, west), (north, east) = warp.bounds
    web = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    (left, right), (bottom, top) = web.transform([west, east], [south, north])
    back = Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)
    rng = np.random.default_rng(0)
    for row, column in rng.integers(0, out.shape[:2], (200, 2)):
        x = left + (column + 0.5) * (right - left) / out.shape[1]
        y = top - (row + 0.5) * (top - bottom) / out.shape[0]
        longitude, latitude = back.transform(x, y)
        expected = warp.pixel_of(latitude, longitude)
        red, green, _, opacity = out[row, column]
        assert (expected is not None) == (opacity == 255)
        if expected is not None:
            assert (red, green) == expected


def test_the_lattice_leads_to_the_same_pixels(shown):
    to_grid, to_picture = shown.lattice(17)
    (south, west), (north, east) = shown._warp.bounds
    web = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)
    (left, right), (bottom, top) = web.transform([west, east], [south, north])
    for down, across in ((3, 5), (8, 8), (15, 2)):
        x, y = left + across / 16 * (right - left), top - down / 16 * (top - bottom)
        longitude, latitude = web.transform(x, y, direction="INVERSE")
        column, row = np.floor(to_grid[down, across])
        assert shown.pixel_of(latitude, longitude) == (row, column)
        latitude, longitude = shown.latlon_of(down / 16 * 40 - 0.5, across / 16 * 60 - 0.5)
        x, y = web.transform(longitude, latitude)
        share = (x - left) / (right - left), (top - y) / (top - bottom)
        assert to_picture[down, across] == pytest.approx(share, abs=1e-5)


def test_large_grids_are_thinned():
    warp = Warp(grid(20, 5000))
    assert max(warp(painted((20, 5000))).shape) <= LARGEST


def test_showing_again_replaces_in_place(shown):
    rgba = painted()
    shown.show("a", rgba)
    layer = shown.map.layers[-1]
    red = rgba.copy()
    red[..., 0] = 200
    shown.show("a", red, opacity=0.5)
    assert shown.map.layers[-1] is layer
    assert layer.opacity == 0.5
    assert pixels_of(layer)[..., 0].max() == 200
    shown.set_opacity("a", 0.25)
    assert layer.opacity == 0.25
    shown.hide("a")
    assert layer not in shown.map.layers
    shown.hide("a")


def test_a_picture_off_the_grid_is_refused(shown):
    with pytest.raises(TimoError, match="takes uint8"):
        shown.show("a", painted((3, 3)))
    with pytest.raises(TimoError, match="no CRS"):
        RasterMap(xr.DataArray(np.zeros((2, 2)), dims=("y", "x")))


def test_clicks_come_as_pixels_and_only_within(shown):
    seen = []

    def note(row, column):
        seen.append((row, column))

    shown.on_click(note)
    shown.map._handle_leaflet_event(
        shown.map,
        {"event": "interaction", "type": "click", "coordinates": shown.latlon_of(3, 4)},
        [],
    )
    shown._interacted(type="click", coordinates=(0, 0))
    shown._interacted(type="mousemove", coordinates=shown.latlon_of(3, 4))
    assert seen == [(3, 4)]
    shown.on_click(note, remove=True)
    shown._interacted(type="click", coordinates=shown.latlon_of(3, 4))
    assert len(seen) == 1


def test_marks_replace_each_other(shown):
    shown.mark([(3, 4, "#0072B2", "1"), (5, 6, "#E69F00", "<")])
    assert len(shown._pins.layers) == 2
    assert "&lt;" in shown._pins.layers[1].icon.html
    assert tuple(shown._pins.layers[0].location) == pytest.approx(shown.latlon_of(3, 4))
    shown.mark([])
    assert shown._pins.layers == ()


def test_drawing_gives_geometries(shown):
    drawn = []
    shown.enable_drawing(["polygon"], drawn.append)
    assert shown.draw in shown.map.controls
    assert shown.draw.polygon
    assert not shown.draw.rectangle
    geometry = {"type": "Point", "coordinates": [1, 2]}
    shown._drawn(None, "created", {"geometry": geometry})
    shown._drawn(None, "deleted", {"geometry": geometry})
    assert drawn == [geometry]
    shown.disable_drawing()
    assert shown.draw not in shown.map.controls


def test_the_picture_composes_what_is_shown(shown):
    below, above = painted(), painted()
    below[..., 0] = 255
    above[..., 2] = 255
    shown.show("below", below)
    shown.show("above", above, front=True)
    assert shown.map.layers[-1].pane == FRONT
    whole = np.asarray(Image.open(io.BytesIO(shown.picture())))
    assert whole.shape == (320, 480, 4)
    assert (whole[..., :3] == (0, 0, 255)).all()
    half = np.asarray(Image.open(io.BytesIO(shown.picture(cut=0.5))))
    assert (half[:, :240, :3] == (0, 0, 255)).all()
    assert (half[:, 240:, :3] == (255, 0, 0)).all()


def test_nothing_is_fetched_and_nothing_stays():
    before = set(_instances)
    made = RasterMap(grid())
    assert not any("http" in getattr(layer, "url", "")[:8] for layer in made.map.layers)
    made.show("a", painted())
    made.mark([(3, 4, "#0072B2", "1")])
    made.enable_drawing(["polygon", "rectangle"], print)
    made.close()
    assert set(_instances) - before == set()
