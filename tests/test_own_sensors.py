"""Sensors of the user's own, as docs/sensors.md shows them, from the file to the map."""

import re

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

import timo
from timo.errors import TimoError
from timo.sensors import (
    POLARISATIONS,
    SENSORS,
    Band,
    Sensor,
    get_sensor,
    read_sensor,
    register_sensor,
)
from timo.sensors.__main__ import page
from timo.sensors.product import normalisation

PYTHON, TOML = (re.search(rf"```{kind}\n(.*?)```", page(), re.S)[1] for kind in ("python", "toml"))
DAYS = ("20180701", "20180715", "20180801", "20180815")


@pytest.fixture(autouse=True)
def registry():
    before = dict(SENSORS)
    yield
    SENSORS.clear()
    SENSORS.update(before)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images of Formosat-2 as a user has them: four bands of 8 m by their names, in digital numbers, and a mask."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "formosat").mkdir()
    for day in DAYS:
        values = rng.integers(200, 3000, (4, 20, 20)).astype("uint16")
        write(tmp_path / f"formosat/FS2_{day}.tif", values, ("blue", "green", "red", "nir"))
    return tmp_path


def write(path, values, names):
    profile = {"crs": "EPSG:32634", "transform": Affine(8, 0, 500_000, 0, -8, 5_000_000)}
    profile |= {"count": len(values), "height": 20, "width": 20, "dtype": values.dtype}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(values)
        for i, name in enumerate(names, start=1):
            file.set_band_description(i, name)


def test_the_example_of_the_page_goes_from_files_to_a_map(folder):
    names = {"timo": timo}
    exec(PYTHON, names)  # noqa: S102
    cube = timo.cube.check(names["cube"].compute())
    assert cube.attrs["sensor"] == "formosat-2"
    assert cube.band.values.tolist() == ["blue", "green", "red", "nir"]
    with rasterio.open(folder / "formosat/FS2_20180715.tif") as file:
        np.testing.assert_allclose(cube[1], file.read() * 1e-4, rtol=1e-6)
    for stem in ("wavelength", "plain"):
        model = timo.load_model("timo-tiny", cube, ["a", "b"], pretrained=False, stem=stem)
        assert model.config.mean == (0.05, 0.07, 0.07, 0.27)
    model = timo.load_model("timo-tiny", cube, ["a", "b"])
    assert model.config.encoder.wavelengths == (0.485, 0.56, 0.66, 0.83)
    assert "pretrained" in model.config.initial_weights
    assert timo.predict(model, cube).label.compute().max() >= 0
    assert np.isfinite(timo.cube.ndvi(cube)).all()
    # Its values are checked as those of any sensor.
    with pytest.raises(TimoError, match="divide by 10,000"):
        timo.load_model("timo-tiny", (cube * 1e4).assign_attrs(cube.attrs), ["a", "b"])


def test_the_file_of_the_page_is_the_same_sensor_and_masks(folder):
    exec(PYTHON, {"timo": timo})  # noqa: S102
    written = get_sensor("formosat-2")
    (folder / "formosat-2.toml").write_text(TOML, encoding="utf-8")
    read = read_sensor("formosat-2.toml")
    assert get_sensor("formosat-2") is read
    assert (read.bands, read.scale, read.nodata) == (written.bands, written.scale, written.nodata)
    for day in DAYS:
        mask = np.zeros((1, 20, 20), "uint8")
        mask[:, :5], mask[:, 5:7] = 1, 2
        write(folder / f"formosat/FS2_{day}_mask.tif", mask, ("mask",))
    cube = timo.open_cube("files", path="formosat", sensor="formosat-2").compute()
    assert np.isnan(cube[:, :, :7]).all()
    assert np.isfinite(cube[:, :, 7:]).all()


def test_a_saved_model_of_ones_own_sensor_says_how_to_be_used_in_another_session(folder):
    names = {"timo": timo}
    exec(PYTHON, names)  # noqa: S102
    cube = names["cube"].compute()
    timo.save(timo.load_model("timo-tiny", cube, ["a", "b"]), folder / "model")
    (folder / "sensor.toml").write_text(TOML, encoding="utf-8")
    del SENSORS["formosat-2"]
    model = timo.load_model(folder / "model")
    for attempt in (
        lambda: timo.load_model(folder / "model", data=cube),
        lambda: timo.predict(model, cube),
    ):
        with pytest.raises(TimoError, match=r"Unknown sensor 'formosat-2'.*read_sensor"):
            attempt()
    read_sensor("sensor.toml")
    assert timo.predict(model, cube).label.compute().max() >= 0


def test_means_lie_between_those_of_the_neighbouring_wavelengths():
    assert normalisation(0.665, "red") == (0.07, 0.04)
    assert normalisation(0.80) == pytest.approx((0.25 + 0.02 * 17 / 50, 0.09 + 0.01 * 17 / 50))
    assert normalisation(0.35) == normalisation(0.443)
    assert normalisation(2.4) == normalisation(2.202)
    band = Band("VH", "", POLARISATIONS["VH"], 10)
    assert (band.mean, band.std) == (-18, 5)
    assert Band("a", "", 0.8, 10, 0.3).mean == 0.3


RADAR = """
name = "alos-2"
kind = "backscatter"
scale = 1
gsd = 25
[[bands]]
name = "HH"
polarisation = "HH"
[[bands]]
name = "HV"
polarisation = "HV"
"""


def test_radar_indices_and_bit_masks_are_read(tmp_path):
    (tmp_path / "alos.toml").write_text(RADAR)
    radar = read_sensor(tmp_path / "alos.toml")
    assert radar.wavelengths(["HH", "HV"]) == (-2, -3)
    assert (radar.units, radar.product) == ("backscatter, dB", "alos-2")
    text = TOML.replace('name = "cloud", value = 1', 'name = "cloud", value = 8, bits = 8')
    text += '\n[[bands]]\nname = "ndvi"\nkind = "index"\nmean = 0.5\nstd = 0.2\n'
    # Tables after [quality] would be its own: the bands come first.
    head, quality = text.split("[quality]")
    quality, index = quality.split("[[bands]]")
    (tmp_path / "own.toml").write_text(f"{head}[[bands]]{index}[quality]{quality}")
    sensor = read_sensor(tmp_path / "own.toml")
    assert sensor.kind_of("ndvi") == "index"
    assert sensor.flagged(np.array([0, 8, 9, 2])).tolist() == [False, True, True, True]


BAD = {
    "nanometres": ("wavelength = 0.83", "wavelength = 830", "looks like nanometres: write 0.83"),
    "no wavelength": ("wavelength = 0.83", "", "'nir' lacks its wavelength in micrometres"),
    "negative": ("wavelength = 0.83", "wavelength = -1", r"0.2 to 20; got -1"),
    "unknown key": ("wavelength = 0.83", "wavelenght = 0.83", "Did you mean 'wavelength'"),
    "unknown key at the top": (
        "nodata = 0",
        "no_data = 0",
        "unknown key 'no_data'. Did you mean 'noda",
    ),
    "band twice": (
        'name = "nir"\ncommon_name = "nir"',
        'name = "red"',
        "band 'red' more than once",
    ),
    "common name twice": ('common_name = "nir"', 'common_name = "red"', "common name 'red' more"),
    "no name": ('name = "formosat-2"\n', "", "lacks 'name'"),
    "a name of ours": ('"formosat-2"', '"sentinel-2"', 'e.g. "my-sentinel-2"'),
    "bad name": ('"formosat-2"', '"formosat 2!"', "a word of letters"),
    "no scale": ("scale = 0.0001", "", "lacks 'scale'"),
    "scale as text": ("scale = 0.0001", 'scale = "1e-4"', "scale must be a number; got '1e-4'"),
    "scale 0": ("scale = 0.0001", "scale = 0", "scale is a number other than 0"),
    "nodata as text": ("nodata = 0", 'nodata = "none"', "nodata must be a number or None"),
    "no cell": ("gsd = 8 ", "#", "'blue' lacks the side of its cells"),
    "cell as text": (
        "gsd = 8 ",
        'gsd = "8 m" #',
        "'blue': gsd must be a number above 0; got '8 m'",
    ),
    "bounds": ("[-0.1, 1.5]", "[1.5, -0.1]", "bounds are the least and the greatest"),
    "unknown kind": (
        "gsd = 8 ",
        'gsd = 8\nkind = "reflection" #',
        "kind must be one of 'reflectance'",
    ),
    "masked": ('masked = ["cloud"', 'masked = ["clouds"', "Did you mean 'cloud'"),
    "no layer": ('layer = "mask"', "", 'needs layer = "..."'),
    "value": ("value = 2", "value = -2", "value must be a whole number from 0 to .*got -2"),
    "value as text": ("value = 2", 'value = "2"', "'shadow': value must be a whole number"),
    "bits": ("value = 2", "value = 2, bits = 1", "has bits that bits = 1 leaves out"),
    "class twice": ('"clear", value', '"cloud", value', "quality class 'cloud' more than once"),
    "layer a band": ('layer = "mask"', 'layer = "nir"', "'nir' is a band and the quality layer"),
    "no TOML": ("[quality]", "[quality", "is no TOML file"),
    "credit": ("nodata = 0", 'nodata = 0\nattribution = "{year}"', "may hold {years} alone"),
    "no number": ("wavelength = 0.83", "wavelength = true", "'nir': wavelength must be a number"),
    "fringe": ("[quality]", "[quality]\nfringe = -1", "fringe must be a number of 0 or more"),
    "masked as text": ('masked = ["cloud", "shadow"]', 'masked = "cloud"', "masked is a list"),
    "bounds of three": ("[-0.1, 1.5]", "[-0.1, 0, 1.5]", r"bounds must be \(a number"),
    "usual": ("nodata = 0", 'nodata = 0\nusual = ["nirr"]', "Did you mean 'nir'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_is_refused_with_the_remedy(case, tmp_path):
    old, new, message = BAD[case]
    assert old in TOML
    (tmp_path / "sensor.toml").write_text(TOML.replace(old, new), encoding="utf-8")
    with pytest.raises(TimoError, match=message):
        read_sensor(tmp_path / "sensor.toml")
    assert "formosat-2" not in SENSORS


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TimoError, match=r"Cannot read .*none.toml"):
        read_sensor(tmp_path / "none.toml")


BAD_SENSORS = {
    "nanometres": ({"bands": (Band("red", "red", 665, 8),)}, "nanometres: write 0.665"),
    "no bands": ({"bands": ()}, "has no bands"),
    "an index without figures": (
        {"bands": (Band("ndvi", "", float("nan"), 8, kind="index"),)},
        "needs both, e.g. of your data",
    ),
    "mask without classes": ({"mask_name": "mask"}, "give both, or neither"),
    "masked": ({"masked": (3,)}, "masked are positions in quality"),
    "unknown scale": ({"scale": float("nan")}, "scale is a number other than 0"),
}


@pytest.mark.parametrize("case", BAD_SENSORS)
def test_a_sensor_that_cannot_be_is_refused(case):
    change, message = BAD_SENSORS[case]
    plain = {"name": "own", "product": "own", "bands": (Band("red", "red", 0.66, 8),), "scale": 1}
    with pytest.raises(TimoError, match=message):
        register_sensor(Sensor(**(plain | change)))
    register_sensor(Sensor(**plain))
    # The same name again is a change of mind.
    assert register_sensor(Sensor(**(plain | {"scale": 2}))) is get_sensor("own")


def test_only_sensors_are_registered():
    with pytest.raises(
        TimoError, match=r"sensor must be a timo.Sensor; got 'formosat-2.toml'.*read_sensor"
    ):
        register_sensor("formosat-2.toml")


def test_bounds_of_a_user_that_keeps_digital_numbers_count_alone():
    bands = (Band("red", "red", 0.66, 8, 800, 300), Band("nir", "nir", 0.83, 8, 2700, 900))
    register_sensor(Sensor("raw", "digital numbers", bands, scale=1, bounds=(0, 16_000)))
    values = np.random.default_rng(0).uniform(100, 5000, (3, 2, 9, 9)).astype("float32")
    coords = {"time": np.array(["2018-07-01", "2018-07-09", "2018-07-17"], "datetime64[ns]")}
    coords |= {"band": ["red", "nir"], "y": 9e5 - 8 * np.arange(9), "x": 5e5 + 8 * np.arange(9)}
    cube = xr.DataArray(values, coords, ("time", "band", "y", "x"), attrs={"sensor": "raw"})
    cube = cube.rio.write_crs("EPSG:32634")
    timo.cube.check(cube)
    with pytest.raises(TimoError, match=r"are outside 0..16000 \(median"):
        timo.cube.check((cube * 10).assign_attrs(cube.attrs))
