import base64
import io

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import pytest
import timo_widgets
import xarray as xr
from PIL import Image

import timo

mpl.use("Agg")


@pytest.fixture
def classes() -> xr.DataArray:
    grid = timo.sample_labels()
    values = np.zeros(grid.shape, "int16")
    values[10:20, 30:50] = 2019
    return grid.copy(data=values)


def test_colours_and_transparency(classes):
    image = timo_widgets.colour(classes, {2019: "#ff8000"})
    assert image.dims == ("band", "y", "x")
    assert image.dtype == np.uint8
    assert image[:, 15, 40].values.tolist() == [255, 128, 0, 255]
    assert image[:, 0, 0].values.tolist() == [0, 0, 0, 0]
    assert image.rio.crs == classes.rio.crs


def test_photograph_is_transparent_where_nothing_was_seen():
    rgb = xr.DataArray(
        np.full((2, 2, 3), 0.5, "float32"),
        dims=("y", "x", "rgb"),
        coords={"y": [10.0, 0.0], "x": [0.0, 10.0]},
    ).rio.write_crs("EPSG:3035")
    rgb[0, 1, 2] = np.nan
    image = timo_widgets.photograph(rgb)
    assert image[3].values.tolist() == [[255, 0], [255, 255]]
    assert image[:3, 0, 0].values.tolist() == [127, 127, 127]


def test_overlay_lies_where_the_raster_lies(classes):
    layer = timo_widgets.image_overlay(timo_widgets.colour(classes, {2019: "red"}), "loss")
    (south, west), (north, east) = layer.bounds
    # The sample is near 45.21 N 22.15 E, one kilometre wide.
    assert 45.19 < south < 45.205 < north < 45.22
    assert 22.13 < west < 22.15 < east < 22.17
    header, data = layer.url.split(",")
    assert header == "data:image/png;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert picture.shape[-1] == 4
    hectares = (north - south) * (east - west) * 111_320**2 * np.cos(np.radians(45.2)) / 1e4
    assert (picture[..., 3] > 0).mean() * hectares == pytest.approx(2, rel=0.05)


def test_map_carries_its_picture(classes):
    figure = mpl.figure.Figure(figsize=(1, 1))
    figure.subplots().imshow(classes)
    layers = {"loss": timo_widgets.colour(classes, {2019: "red"})}
    shown = timo_widgets.MapWithPicture(layers, figure, legend={"2019": "#ff0000"})
    data, _ = shown._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert "application/vnd.jupyter.widget-view+json" in data
    names = [layer.name for layer in shown.map.layers]
    assert "loss" in names
    # Nothing is fetched: no base map unless asked for.
    assert not any("http" in getattr(layer, "url", "")[:8] for layer in shown.map.layers)


def test_an_overlay_across_the_antimeridian_is_narrow(classes):
    across = classes.assign_coords(
        x=817_100 + 10.0 * np.arange(100), y=8e6 - 10.0 * np.arange(100)
    ).rio.write_crs(32760)
    across.spatial_ref.attrs.pop("GeoTransform", None)
    image = timo_widgets.colour(across, {2019: "red"})
    layer = timo_widgets.image_overlay(image, "loss")
    (south, west), (north, east) = layer.bounds
    assert 0 < east - west < 0.02
    assert west < -180 < east or west < 180 < east
    figure = mpl.figure.Figure(figsize=(1, 1))
    centre = timo_widgets.MapWithPicture({"loss": image}, figure).map.center
    assert south < centre[0] < north
    assert west < centre[1] < east
