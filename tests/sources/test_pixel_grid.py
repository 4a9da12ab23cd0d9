import math
import re

import numpy as np
import pyproj
import pytest
import rasterio.crs
import rioxarray
import shapely
import xarray as xr
from affine import Affine
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely import Polygon, box

from timo.crs import usual_crs
from timo.errors import TimoError
from timo.sources.place.aoi import Area, parse_aoi
from timo.sources.place.grid import PixelGrid, grid_of, make_grid
from timo.sources.sample import open_sample, sample_tree_cover

PLACE = parse_aoi((22.0, 45.0, 22.1, 45.1))
LOCAL = "+proj=laea +lat_0=45 +lon_0=22 +datum=WGS84 +units=m"


def transformer(crs):
    return pyproj.Transformer.from_crs(4326, crs, always_xy=True)


def refusal(*args, **options):
    with pytest.raises(TimoError) as caught:
        make_grid(*args, **options)
    return str(caught.value)


@pytest.fixture(scope="module")
def cube():
    return open_sample("2018-07", "2018-07")


# --- the grid as such


def test_cells():
    grid = PixelGrid("EPSG:32634", 600_000, 5_000_000, 10, 3, 4)
    assert grid.shape == (3, 4)
    assert grid.bounds == (600_000, 4_999_970, 600_040, 5_000_000)
    assert grid.transform[:6] == (10, 0, 600_000, 0, -10, 5_000_000)
    assert grid.x.tolist() == [600_005, 600_015, 600_025, 600_035]
    assert grid.y.tolist() == [4_999_995, 4_999_985, 4_999_975]
    assert grid.megapixels == 12e-6
    assert grid.metres == 10


def test_windows_and_margins():
    grid = PixelGrid("EPSG:32634", 600_000, 5_000_000, 10, 3, 4)
    part = grid.window(slice(1, 3), slice(-1, 2))
    assert part == PixelGrid("EPSG:32634", 599_990, 4_999_990, 10, 2, 3)
    assert grid.pad(2).shape == (7, 8)
    assert grid.pad(2).window(slice(2, 5), slice(2, 6)) == grid


@given(
    st.floats(-1e7, 1e7),
    st.floats(-1e7, 1e7),
    st.sampled_from([10.0, 33.3, 463.3127165, 1e-4, 100 / 3]),
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)
def test_the_geobox_has_the_same_cells_to_the_bit(left, top, side, shape):
    grid = PixelGrid("EPSG:32634", left, top, side, *shape)
    box = grid.geobox
    assert box.shape == shape
    assert box.crs.to_epsg() == 32634
    assert (
        tuple(box.boundingbox)
        == grid.bounds
        == (
            left,
            top - shape[0] * side,
            left + shape[1] * side,
            top,
        )
    )
    assert box.pad(3).affine == grid.pad(3).transform == grid.pad(3).geobox.affine
    assert grid == PixelGrid("EPSG:32634", left, top, side, *shape)


def test_coordinates_make_a_raster():
    grid = make_grid(PLACE, 1000)
    array = xr.DataArray(np.zeros(grid.shape), dims=("y", "x"), coords=grid.coords)
    assert array.rio.crs.to_epsg() == 32634
    assert array.rio.transform() == grid.transform
    assert array.rio.bounds() == grid.bounds
    assert grid_of(array) == grid


def test_lonlat_bounds_hold_the_whole_grid():
    grid = make_grid(PLACE, 10)
    west, south, east, north = grid.lonlat_bounds
    assert box(west, south, east, north).contains(PLACE.geometry)
    assert east - west < 0.11
    left, _, right, top = grid.bounds
    edge = np.linspace(0, 1, 101)
    back = pyproj.Transformer.from_crs(32634, 4326, always_xy=True)
    lon, lat = back.transform(left + edge * (right - left), np.full(101, top))
    assert lat.max() <= north + 1e-6
    assert west - 1e-6 <= lon.min() < lon.max() <= east + 1e-6


def test_lonlat_bounds_across_the_antimeridian():
    west, _, east, _ = make_grid(parse_aoi((179.5, -17, -179.5, -16)), 100).lonlat_bounds
    assert 179 < west < 179.5
    assert 180.5 < east < 181


def test_a_grid_around_the_pole():
    grid = make_grid(parse_aoi((-180, 85, 180, 90)), 1000)
    assert grid.crs == "EPSG:32661"
    assert grid.height == grid.width == pytest.approx(1111, abs=2)
    west, south, east, north = grid.lonlat_bounds
    assert (west, east, north) == (-180, 180, 90)
    # The corners are sqrt(2) further from the pole than the edges.
    assert 90 - south == pytest.approx(5 * math.sqrt(2), rel=0.01)
    south_pole = make_grid(parse_aoi((-180, -90, 180, -85)), 1000)
    assert south_pole.crs == "EPSG:32761"
    assert south_pole.lonlat_bounds[1] == -90


# --- the default CRS


@pytest.mark.parametrize(
    ("lon", "lat", "code"),
    [
        (22.15, 45.2, 32634),
        (-60.0, -3.1, 32721),
        (-60.01, -3.1, 32720),
        (-180.0, 10, 32601),
        (179.9999, -10, 32760),
        (0.0, 0.0, 32631),
        (-0.001, 0.0, 32630),
        # Norway: Bergen at 5.3 E is in 32V, the sea west of 3 E is not, nor is Denmark's south at 55.9 N.
        (5.3, 60.4, 32632),
        (2.9, 60.4, 32631),
        (5.3, 55.9, 32631),
        (5.3, 64.0, 32631),
        # Svalbard, with its four wide zones; Longyearbyen is at 15.6 E.
        (8.9, 78, 32631),
        (9.0, 78, 32633),
        (15.6, 78.2, 32633),
        (21.0, 78, 32635),
        (33.0, 80, 32637),
        (41.9, 83.9, 32637),
        (42.0, 80, 32638),
        (-0.1, 78, 32630),
        (15.6, 71.9, 32633),
        (10.0, 84.0, 32661),
        (10.0, 83.99, 32633),
        (10.0, -80.0, 32732),
        (10.0, -80.1, 32761),
    ],
)
def test_usual_crs(lon, lat, code):
    assert usual_crs(lon, lat) == f"EPSG:{code}"


@pytest.mark.parametrize(
    "crs",
    [
        3035,
        "EPSG:3035",
        "epsg:3035",
        pyproj.CRS(3035),
        pyproj.CRS(3035).to_wkt(),
        rasterio.crs.CRS.from_epsg(3035),
    ],
)
def test_forms_of_a_crs(crs):
    assert make_grid(PLACE, 10, crs).crs == "EPSG:3035"


def test_a_crs_without_a_code_keeps_its_wkt():
    grid = make_grid(PLACE, 10, LOCAL)
    assert pyproj.CRS(grid.crs).equals(pyproj.CRS(LOCAL))
    assert grid.bounds[0] == 0  # the area begins at the system's own origin
    # This one has no code either, but is EPSG:4326 with its axes swapped.
    assert make_grid(PLACE, 0.001, "OGC:CRS84").crs == "EPSG:4326"


@pytest.mark.parametrize(
    ("crs", "words"),
    [
        ("EPSG:99999999", ("cannot be read", "EPSG code")),
        ("moon", ("crs='moon' cannot be read",)),
        (True, ("crs=True is no coordinate reference system",)),
        ([1], ("cannot be read",)),
        (4978, ("no system for maps",)),  # geocentric
        (5773, ("no system for maps",)),  # heights
        (4807, ("does not count in degrees",)),  # grads, from Paris
        (2048, ("counts towards the west",)),
    ],
)
def test_unusable_systems(crs, words):
    message = refusal(PLACE, 10, crs)
    for word in words:
        assert word in message


def test_a_crs_that_tears_the_area():
    across = parse_aoi((170, -17, -170, -16))
    message = refusal(across, 100, 3857)
    assert "cannot be drawn in 'WGS 84 / Pseudo-Mercator'" in message
    assert "across its edge" in message
    assert "Give another crs" in message
    # So does an area that reaches beyond: there is no pole in Mercator's projection.
    assert "cannot be drawn" in refusal(parse_aoi((-180, -90, 180, -85)), 1000, 3857)
    # It is whole in a system that is made for the place.
    assert make_grid(across, 100, 3832).megapixels == pytest.approx(22260 * 1163 / 1e6, rel=0.01)


# --- what it covers


def test_edges_are_multiples_of_the_resolution():
    grid = make_grid(PLACE, 30)
    assert all(edge % 30 == 0 for edge in grid.bounds)
    assert all(edge % 10 == 0 for edge in make_grid(PLACE, 10).bounds)


def test_grids_of_neighbours_share_their_cells():
    one, other = make_grid(PLACE, 20), make_grid(parse_aoi((22.05, 45.02, 22.2, 45.2)), 20)
    shared = np.intersect1d(one.x, other.x)
    assert shared.size > 100


def test_a_box_in_degrees_is_no_rectangle_in_utm():
    # Its edges bend and lean: the grid is 2 % larger than the box here.
    grid = make_grid(PLACE, 10)
    assert grid.height * grid.width * 100 / 1e4 == pytest.approx(PLACE.hectares, rel=0.05)
    assert grid.height * grid.width * 100 / 1e4 > PLACE.hectares


def test_an_area_on_the_cells_already_gets_just_them():
    square = box(5_000_000, 2_500_000, 5_200_000, 2_600_000)
    area = parse_aoi(f"SRID=3035;{square.wkt}")
    assert make_grid(area, 10, 3035) == PixelGrid("EPSG:3035", 5e6, 2.6e6, 10, 10_000, 20_000)


def test_nor_do_rounded_degrees_add_a_row():
    corners = [(600_000, 5e6), (601_000, 5e6), (601_000, 5.001e6), (600_000, 5.001e6)]
    back = pyproj.Transformer.from_crs(32634, 4326, always_xy=True)
    area = parse_aoi(Polygon([np.round(back.transform(*corner), 7) for corner in corners]))
    assert make_grid(area, 10) == PixelGrid("EPSG:32634", 600_000, 5_001_000, 10, 100, 100)


def test_the_sample_through_its_box_in_degrees(cube):
    grid = grid_of(cube)
    # The box leans in EPSG:3035 by the meridian convergence of 8.6 degrees: its bounds are 30 % longer.
    around = make_grid(parse_aoi(grid.lonlat_bounds), 10, 3035)
    lean = math.radians(8.6)
    assert around.width == pytest.approx(100 * (math.cos(lean) + math.sin(lean)) ** 2, abs=4)
    assert around.bounds[0] < grid.bounds[0] < grid.bounds[2] < around.bounds[2]
    assert around.bounds[1] < grid.bounds[1] < grid.bounds[3] < around.bounds[3]
    # The sample's cells lie between the multiples of 10 m; its own outline takes one more each way.
    assert make_grid(grid.area, 10, 3035).shape == (101, 101)


@pytest.mark.parametrize("inside", [True, False])
def test_an_area_smaller_than_a_cell(inside):
    low = 5_000_002 if inside else 4_999_998
    area = parse_aoi(f"SRID=32634;{box(600_002, low, 600_004, low + 4).wkt}")
    assert make_grid(area, 10).shape == ((1, 1) if inside else (2, 1))
    tiny = parse_aoi(f"SRID=32634;{box(599_999.99, 4_999_999.99, 600_000.01, 5_000_000.01).wkt}")
    assert make_grid(tiny, 10).shape == (1, 1)


# --- degrees and other units


def test_a_geographic_system_takes_degrees():
    grid = make_grid(PLACE, 0.001, 4326)
    assert grid.shape == (100, 100)
    assert grid.bounds == pytest.approx((22, 45, 22.1, 45.1))
    assert grid.metres == pytest.approx(111.32, abs=0.01)
    across = make_grid(parse_aoi((179.5, -17, -179.5, -16)), 0.01, 4326)
    assert across.bounds == pytest.approx((179.5, -17, 180.5, -16))
    assert across.lonlat_bounds == pytest.approx((179.5, -17, 180.5, -16))


def test_a_geographic_grid_of_the_world():
    grid = make_grid(parse_aoi((-180, -90, 180, 90)), 0.7, 4326)
    assert grid.shape == (258, 516)
    assert grid.bounds == pytest.approx((-180.6, -90.3, 180.6, 90.3))
    assert grid.lonlat_bounds[1::2] == (-90, 90)
    west, _, east, _ = grid.lonlat_bounds
    assert east - west == pytest.approx(360)
    # Half of it and more is still the long way round.
    west, _, east, _ = make_grid(parse_aoi((-100, 0, 120, 10)), 0.5, 4326).lonlat_bounds
    assert (west, east) == (-100, 120)


def test_a_system_in_feet_takes_feet():
    area = parse_aoi((-73.9, 40.7, -73.8, 40.8))
    grid = make_grid(area, 100, 2263)  # New York Long Island, US survey feet
    assert grid.metres == pytest.approx(30.48, abs=0.001)
    assert grid.width * grid.metres == pytest.approx(8445, rel=0.02)


@pytest.mark.parametrize(
    ("resolution", "crs", "words"),
    [
        (10, 4326, ("whose unit is the degree", "10 metres are 8.983e-05", "crs in metres")),
        (0.0001, None, ("whose unit is the metre", "0.0001 degrees would be 11.13")),
        (0.0001, LOCAL, ("whose unit is the metre",)),
        (500_000, None, ("cells of 500000 m",)),
        (1e-9, 4326, ("whose unit is the degree",)),
        *((side, None, ("resolution must be a number above 0; got",))
          for side in (0, -10, math.nan, math.inf, True, "10", None, (10, 10))),
    ],
)  # fmt: skip
def test_resolutions_that_make_no_sense(resolution, crs, words):
    message = refusal(PLACE, resolution, crs)
    for word in words:
        assert word in message


# --- too large


def test_twenty_thousand_cells_square_pass():
    square = box(400_000, 5_000_000, 600_000, 5_200_000)
    grid = make_grid(parse_aoi(f"SRID=32634;{square.wkt}"), 10)
    assert grid.shape == (20_000, 20_000)
    degrees = parse_aoi((20, 45, 22.5, 46.8))
    assert 390 < make_grid(degrees, 10).megapixels < 430


def test_a_country_at_10_m_is_refused_with_numbers():
    romania = parse_aoi((20.26, 43.62, 29.7, 48.27))
    message = refusal(romania, 10)
    assert re.search(r"761.7 km x 538.6 km", message)
    assert re.search(r"4,103 megapixels and 16 GB a date and band", message)
    assert "the limit is 1,000 megapixels" in message
    fits = float(re.search(r"would fit at resolution=([\d.]+);", message)[1])
    assert 900 < make_grid(romania, fits).megapixels <= 1000
    allowed = int(re.search(r"max_megapixels=(\d+)", message)[1])
    assert make_grid(romania, 10, max_megapixels=allowed).megapixels <= allowed


@pytest.mark.parametrize("limit", [0.5, 3, 77])
def test_the_resolution_that_fits_does_fit(limit):
    message = refusal(PLACE, 0.7, max_megapixels=limit)
    fits = float(re.search(r"would fit at resolution=([\d.]+);", message)[1])
    assert 0.8 * limit < make_grid(PLACE, fits, max_megapixels=limit).megapixels <= limit


@pytest.mark.parametrize("limit", [0, -1, True, "1000", None, math.nan])
def test_limits_that_make_no_sense(limit):
    assert "max_megapixels" in refusal(PLACE, 10, max_megapixels=limit)


def test_a_limit_may_be_infinite():
    assert make_grid(parse_aoi((20, 43, 30, 48)), 10, max_megapixels=math.inf).megapixels > 4000


def test_an_area_too_wide_for_a_zone():
    brazil = parse_aoi((-74, -34, -34, 5))
    message = refusal(brazil, 250)
    assert "4,453 km wide" in message
    assert "EPSG:32722" in message
    assert "equal-area" in message
    assert re.search(r"309 megapixels", message)
    grid = make_grid(brazil, 250, 6933)
    assert grid.megapixels == pytest.approx(309, rel=0.1)
    # At 70 degrees north as many degrees are a third as wide.
    assert make_grid(parse_aoi((10, 69, 30, 70)), 100).crs == "EPSG:32634"


# --- the grid of a cube


def test_the_grid_of_the_sample_to_the_bit(cube):
    grid = grid_of(cube)
    assert grid.crs == "EPSG:3035"
    assert grid.resolution == 10
    np.testing.assert_array_equal(grid.x, cube.x)
    np.testing.assert_array_equal(grid.y, cube.y)
    assert grid_of(sample_tree_cover(20)).shape == (50, 50)
    assert grid_of(cube.isel(y=slice(None, None, -1))) == grid
    assert grid_of(cube.isel(x=[3])).shape == (100, 1)
    assert grid_of(cube.isel(x=[3])).left == grid.left + 30
    assert grid.area.hectares == pytest.approx(100, rel=1e-3)
    assert grid.mask_of(grid.area).all()


def test_arrays_without_a_grid(cube):
    for array, words in (
        (cube.isel(x=[0], y=[0]), "single cell do not say its size"),
        (cube.drop_vars("spatial_ref"), "no coordinate reference system"),
        (cube.drop_vars("x"), "no coordinate 'x'"),
        (cube.isel(x=[0, 1, 5]), "x"),
        (cube.isel(x=slice(None, None, 2)), "square"),
    ):
        with pytest.raises(TimoError, match=words):
            grid_of(array)


def raster(x, y, crs, **attrs):
    """20 x 30 cells with these first centres and steps."""
    (left, dx), (top, dy) = x, y
    array = xr.DataArray(
        np.zeros((20, 30), "float32"),
        dims=("y", "x"),
        coords={"y": top - dy * np.arange(20), "x": left + dx * np.arange(30)},
    )
    for dim in ("x", "y"):
        array[dim].attrs.update(attrs)
    return array.rio.write_crs(crs)


KM = "+proj=utm +zone=34 +datum=WGS84 +units=km"


def test_coordinates_in_kilometres_are_right_in_a_system_of_kilometres():
    grid = grid_of(raster((600.005, 0.01), (5000.005, 0.01), KM, units="km"))
    assert grid.resolution == 0.01
    assert grid.metres == pytest.approx(10)
    metres = grid_of(raster((600_005, 10), (5_000_005, 10), 32634))
    assert grid.area.bounds == pytest.approx(metres.area.bounds, abs=1e-6)
    assert make_grid(metres.area, 0.01, KM).bounds == pytest.approx(
        [v / 1e3 for v in metres.bounds]
    )


@pytest.mark.parametrize(
    ("x", "y", "crs", "words"),
    [
        ((600.005, 0.01), (5000.005, 0.01), 32634, "in kilometres .* is in metres"),
        ((600.0, 1.0), (5000.0, 1.0), 32634, "in kilometres"),
        ((22.1, 1e-4), (45.2, 1e-4), 32634, "in degrees .* is in metres"),
        ((22.1, 1e-4), (45.2, 1e-4), 3035, "in degrees"),
        ((600_005, 10), (5_000_005, 10), 4326, "in degrees by its reference system"),
        ((500.0, 0.01), (5000.0, 0.01), 4326, "in degrees by its reference system"),
    ],
)
def test_coordinates_in_another_unit_than_their_system_are_refused(x, y, crs, words):
    array = raster(x, y, crs)
    with pytest.raises(TimoError, match=words) as caught:
        grid_of(array)
    if crs != 4326:
        call = re.search(r"Use (array\..*\))\.$", str(caught.value))[1]
        mended = grid_of(eval(call, {"array": array}))  # noqa: S307 - what the message says
        south, _, north = mended.area.bounds[1:]
        assert 44 < south < north < 46


def test_coordinates_that_say_to_be_kilometres_are_refused_and_the_remedy_works():
    array = raster((4321.0, 0.1), (3210.0, 0.1), 3857, units="km")
    with pytest.raises(TimoError, match=r"in kilometres .*3857.* in metres") as caught:
        grid_of(array)
    call = re.search(r"Use (array\.assign_coords\(.*\))", str(caught.value))[1].removesuffix(".")
    mended = eval(call, {"array": array})  # noqa: S307 - what the message says
    assert grid_of(mended) == grid_of(raster((4_321_000, 100), (3_210_000, 100), 3857))


def test_a_turned_raster_is_refused_and_the_remedy_works(tmp_path):
    turned = Affine.translation(6e5, 5e6) @ Affine.rotation(20) @ Affine.scale(10, -10)
    options = {"driver": "GTiff", "height": 20, "width": 30, "count": 1, "dtype": "float32"}
    with rasterio.open(tmp_path / "a.tif", "w", crs=32634, transform=turned, **options) as file:
        file.write(np.ones((1, 20, 30), "float32"))
    raster = rioxarray.open_rasterio(tmp_path / "a.tif")
    with pytest.raises(TimoError, match=r"turned: .* Use raster\.rio\.reproject"):
        grid_of(raster)
    with pytest.warns(UserWarning, match="rotation"):
        mended = raster.rio.reproject(raster.rio.crs)
    assert grid_of(mended).metres == pytest.approx(10, rel=0.01)


def test_a_transform_of_six_digits_is_not_turned_and_rounded_centres_are_even():
    array = raster((22.0000449, 8.98315e-5), (45.1999551, 8.98315e-5), 4326)
    rounded = array.assign_coords(x=array.x.values.round(6), y=array.y.values.round(6))
    rounded.spatial_ref.attrs["GeoTransform"] = "22 8.98315e-05 1e-12 45.2 -1e-12 -8.98315e-05"
    grid = grid_of(rounded)
    assert np.abs(grid.x - array.x.values).max() < 0.02 * 8.98315e-5
    assert np.abs(grid.y - array.y.values).max() < 0.02 * 8.98315e-5
    rounded.spatial_ref.attrs["GeoTransform"] = "22 8.98315e-05 1e-06 45.2 1e-06 -8.98315e-05"
    with pytest.raises(TimoError, match="turned"):
        grid_of(rounded)


# --- masks


def test_the_mask_of_an_outline_given_in_the_grid_s_own_system():
    triangle = Polygon([(600_000, 5e6), (600_100, 5e6), (600_000, 5.0001e6)])
    area = parse_aoi(f"SRID=32634;{triangle.wkt}")
    grid = make_grid(area, 10).pad(3)
    mask = grid.mask_of(area)
    assert mask.dims == ("y", "x")
    assert mask.dtype == bool
    assert mask.rio.crs.to_epsg() == 32634
    # Of the cells on the slope the centre is on the line; all others are clear.
    assert mask.sum() in range(45, 56)
    assert not mask[:3].any()
    assert not mask[:, -3:].any()


def test_the_mask_keeps_holes_and_parts():
    parts = box(22, 45, 22.02, 45.02) - box(22.005, 45.005, 22.015, 45.015)
    area = parse_aoi(parts.union(box(22.05, 45, 22.06, 45.01)))
    grid = make_grid(area, 10)
    hectares = int(grid.mask_of(area).sum()) / 100
    assert hectares == pytest.approx(area.hectares, rel=0.005)


def test_a_mask_outside_the_grid_is_empty():
    grid = make_grid(PLACE, 100)
    assert not grid.mask_of(parse_aoi((22.5, 45.0, 22.6, 45.1))).any()


@pytest.mark.parametrize("left", [199.9, -160.1])
def test_the_mask_on_longitudes_from_0_to_360(left):
    grid = PixelGrid("EPSG:4326", left, -17.9, 0.01, 20, 20)
    for turn in (0, 360):
        area = parse_aoi((-160.05 + turn, -18.05, -159.95 + turn, -17.95))
        assert int(grid.mask_of(area).sum()) == 100
        assert grid.area.wrapped.contains(area.wrapped)


def test_the_mask_of_a_polar_cap():
    area = parse_aoi((-180, 86, 180, 90))
    grid = make_grid(area, 5000)
    hectares = int(grid.mask_of(area).sum()) * 5000**2 / 1e4
    assert hectares == pytest.approx(area.hectares, rel=0.02)


# --- laws

places = st.tuples(st.floats(-179, 179), st.floats(-75, 75))


@st.composite
def areas(draw):
    """A star-shaped polygon of 2 to 30 km."""
    lon, lat = draw(places)
    count = draw(st.integers(3, 8))
    radii = np.array(draw(st.lists(st.floats(0.4, 1), min_size=count, max_size=count)))
    angles = 2 * np.pi * np.arange(count) / count
    size = draw(st.floats(0.01, 0.15))
    points = np.column_stack([np.cos(angles) / math.cos(math.radians(lat)), np.sin(angles)])
    return parse_aoi(Polygon(points * radii[:, None] * size + (lon, lat)))


@settings(deadline=None)
@given(areas(), st.sampled_from([10.0, 20.0, 60.0, 250.0, 33.3]), st.sampled_from([None, 6933]))
def test_the_grid_covers_the_area_and_no_more(area, resolution, crs):
    west, _, east, _ = area.bounds
    assume(crs is None or (west > -180 and east < 180))
    grid = make_grid(area, resolution, crs)
    fine = shapely.segmentize(area.geometry, 0.001)
    x, y = transformer(grid.crs).transform(*shapely.get_coordinates(fine).T)
    left, bottom, right, top = grid.bounds
    slack = 0.02 * resolution
    assert left - slack <= x.min() < left + resolution + slack
    assert right + slack >= x.max() > right - resolution - slack
    assert bottom - slack <= y.min() < bottom + resolution + slack
    assert top + slack >= y.max() > top - resolution - slack
    for edge in grid.bounds:
        assert edge / resolution == pytest.approx(round(edge / resolution), abs=1e-6)


@settings(deadline=None)
@given(areas(), st.sampled_from([-360.0, 360.0]))
def test_the_grid_is_the_same_a_turn_of_the_globe_away(area, turn):
    moved = parse_aoi(shapely.affinity.translate(area.geometry, turn))
    one, other = make_grid(area, 20), make_grid(moved, 20)
    # A rounding of 1e-13 degrees may decide over a cell whose hundredth part is covered.
    assert one.crs == other.crs
    assert np.abs(np.subtract(one.bounds, other.bounds)).max() <= 20
    assert np.abs(np.subtract(one.shape, other.shape)).max() <= 1


@settings(deadline=None, max_examples=50)
@given(areas(), st.sampled_from([100.0, 300.0]))
def test_the_mask_says_what_shapely_says(area, resolution):
    grid = make_grid(area, resolution).pad(1)
    mask = grid.mask_of(area).values
    back = pyproj.Transformer.from_crs(grid.crs, 4326, always_xy=True)
    lon, lat = back.transform(*np.meshgrid(grid.x, grid.y))
    lon = np.where(lon < area.bounds[0] - 180, lon + 360, lon)
    inside = shapely.contains_xy(area.geometry, lon, lat)
    # Only within a few centimetres of the outline may they differ.
    near = (
        shapely.distance(shapely.points(lon, lat), area.geometry.boundary)
        < 2e-2 * resolution / 111e3
    )
    np.testing.assert_array_equal(mask[~near], inside[~near])
    # A side that runs along a row of centres is near all of them.
    assert near.sum() <= 0.05 * near.size + 20


@settings(deadline=None)
@given(areas(), st.sampled_from([None, 4326]))
def test_the_bounds_in_degrees_hold_the_area(area, crs):
    grid = make_grid(area, 10 if crs is None else 0.001, crs)
    west, south, east, north = grid.lonlat_bounds
    turn = 360 * round((grid.area.bounds[0] - area.bounds[0]) / 360)
    slack = 2e-6 if crs is None else 2e-5
    assert west - slack <= area.bounds[0] + turn
    assert south - slack <= area.bounds[1]
    assert east + slack >= area.bounds[2] + turn
    assert north + slack >= area.bounds[3]


def test_an_area_can_be_made_by_hand():
    assert make_grid(Area(box(22.0, 45.0, 22.1, 45.1)), 10) == make_grid(PLACE, 10)
