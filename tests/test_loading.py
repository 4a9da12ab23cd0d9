import json

import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import torch
import xarray as xr

import timo
from timo.errors import TimoError
from timo.models.encoder import create_encoder
from timo.models.weights import save_encoder
from timo.sensors import get_sensor

CLASSES = ["forest", "other"]


def make_cube(bands=("B2", "B4", "B8")):
    cube = xr.DataArray(
        np.random.default_rng(0).uniform(0, 0.5, (2, len(bands), 6, 5)).astype("float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.DatetimeIndex(["2019-05-01", "2019-06-01"]),
            "band": list(bands),
            "y": 1000.0 - 10 * np.arange(6),
            "x": 500_000.0 + 10 * np.arange(5),
        },
        attrs={"sensor": "sentinel-2"},
    )
    return cube.rio.write_crs("EPSG:32634")


@pytest.fixture
def cube():
    return make_cube()


def test_a_new_model_knows_what_it_reads_and_tells_apart(cube):
    model = timo.load_model("timo-tiny", cube, CLASSES, per_date=False, drop_path=0.2)
    config = model.config
    assert (config.bands, config.classes) == (("B2", "B4", "B8"), ("forest", "other"))
    assert (config.task, config.per_date, config.sensor) == ("segmentation", False, "sentinel-2")
    known = {band.name: band for band in get_sensor("sentinel-2").bands}
    assert config.mean == tuple(known[name].mean for name in config.bands)
    assert config.std == tuple(known[name].std for name in config.bands)
    assert config.encoder.drop_path == 0.2
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 3e6
    assert not model.training
    with torch.no_grad():
        scores = model(torch.from_numpy(cube.values)[None], torch.tensor([[18_017.0, 18_048.0]]))
    assert scores.shape == (1, 2, 6, 5)


def test_the_seed_decides_and_the_generator_of_torch_is_left_alone(cube):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    models = [timo.load_model("tiny", cube, CLASSES, seed=seed) for seed in (7, 7, 8)]
    assert torch.equal(torch.get_rng_state(), before)
    one, same, other = (torch.cat([p.flatten() for p in m.parameters()]) for m in models)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_options_take_the_numbers_of_numpy(unchecked, cube):
    options = {"pretrained": False, "per_date": True, "checkpoint": True, "depths": (1, 1, 1, 1)}
    arrays = {"seed": np.uint8(3), "depths": np.ones(4, int)} | {
        name: np.bool_(options[name]) for name in ("pretrained", "per_date", "checkpoint")
    }
    model = timo.load_model("timo-tiny", cube, np.array(CLASSES), **arrays)
    expected = timo.load_model("timo-tiny", cube, CLASSES, seed=3, **options)
    assert model.config == expected.config
    assert model.config.initial_weights == "random (seed 3)"
    with pytest.raises(TimoError, match="pretrained must be True or False or None; got 'no'"):
        timo.load_model("timo-tiny", cube, CLASSES, pretrained="no")


def test_a_saved_model_is_loaded_and_checked(tmp_path, cube):
    model = timo.load_model("timo-tiny", cube, CLASSES, task="classification")
    folder = timo.save(model, tmp_path / "model")
    for options in ({}, {"data": cube}, {"classes": CLASSES}, {"data": cube, "classes": CLASSES}):
        found = timo.load_model(folder, **options)
        assert found.config == model.config
    # A cube may hold more than the model reads.
    assert timo.load_model(str(folder), make_cube(("B2", "B3", "B4", "B8"))).config == model.config
    expected, found_state = model.state_dict(), found.state_dict()
    assert all(torch.equal(expected[name], found_state[name]) for name in expected)


def test_the_wavelengths_are_those_of_the_sensor(tmp_path, cube):
    model = timo.load_model("timo-tiny", cube, CLASSES, stem="wavelength")
    assert model.config.encoder.wavelengths == (0.492, 0.665, 0.833)
    series, dates = torch.from_numpy(cube.values)[None], torch.tensor([[18_017.0, 18_048.0]])
    folder = timo.save(model, tmp_path / "model")
    # It reads its own bands of a cube that holds more.
    found = timo.load_model(folder, make_cube(("B2", "B3", "B4", "B8")))
    assert found.config == model.config
    with torch.no_grad():
        assert torch.equal(found(series, dates), model(series, dates))
    given = {"stem": "wavelength", "wavelengths": (0.5, 0.6, 0.7)}
    model = timo.load_model("timo-tiny", cube, CLASSES, **given)
    assert model.config.encoder.wavelengths == (0.5, 0.6, 0.7)


def test_the_weights_of_one_sensor_read_another(cube):
    """Stem and stages are the same tensors; only the full-resolution path of the head is of its bands."""
    sentinel = timo.load_model("timo-tiny", cube, CLASSES, stem="wavelength")
    landsat = make_cube(("SR_B4", "SR_B2")).assign_attrs(sensor="landsat-8-9")
    radar = (-15 + make_cube(("VV", "VH"))).assign_attrs(sensor="sentinel-1")
    for other, wavelengths in ((landsat, (0.655, 0.482)), (radar, (0.0, -1.0))):
        model = timo.load_model("timo-tiny", other, CLASSES, stem="wavelength", seed=1)
        assert model.config.encoder.wavelengths == wavelengths
        model.encoder.load_state_dict(sentinel.encoder.state_dict())
        with torch.no_grad():
            scores = model(torch.from_numpy(other.values)[None], torch.tensor([[1.0, 20.0]]))
        assert scores.isfinite().all()


@pytest.mark.parametrize(
    "options", [{}, {"pretrained": False}, {"position": "fourier"}, {"norm": "batch"}]
)
def test_a_saved_model_answers_as_before(tmp_path, cube, options):
    model = timo.load_model("timo-tiny", cube, CLASSES, per_date=False, **options)
    found = timo.load_model(timo.save(model, tmp_path / "model"))
    series, dates = torch.from_numpy(cube.values)[None], torch.tensor([[18_017.0, 18_048.0]])
    with torch.no_grad():
        assert torch.equal(found(series, dates), model(series, dates))


def test_a_model_saved_before_there_were_stems_is_read(tmp_path, cube):
    model = timo.load_model("timo-tiny", cube, CLASSES, pretrained=False)
    config = timo.save(model, tmp_path / "model") / "config.json"
    fields = json.loads(config.read_text())
    for field in ("stem", "wavelengths"):
        del fields["model"]["encoder"][field]
    config.write_text(json.dumps(fields))
    assert timo.load_model(tmp_path / "model").config == model.config


def test_a_saved_model_that_does_not_fit_is_refused(tmp_path, cube):
    folder = timo.save(timo.load_model("timo-tiny", cube, CLASSES), tmp_path / "model")
    message = r"reads the bands \['B2', 'B4', 'B8'\], the cube has \['B2', 'B8'\]: \['B4'\] missing"
    with pytest.raises(TimoError, match=message):
        timo.load_model(folder, make_cube(("B2", "B8")))
    with pytest.raises(TimoError, match=r"has the classes \('forest', 'other'\), not \('a', 'b'\)"):
        timo.load_model(folder, cube, ["a", "b"])
    with pytest.raises(TimoError, match=r"must have the dims \('time', 'band', 'y', 'x'\)"):
        timo.load_model(folder, cube.isel(time=0))
    with pytest.raises(
        TimoError, match=r"\['drop_path'\] are options of a new model, .* saved one"
    ):
        timo.load_model(folder, cube, drop_path=0.1)


@pytest.mark.parametrize("name", ["timo-giant", "no/such/folder"])
def test_an_unknown_model_is_refused(cube, name):
    message = rf"unknown model '{name}': neither a size \(timo-tiny, timo-small, .*\) nor a folder"
    with pytest.raises(TimoError, match=message):
        timo.load_model(name, cube, CLASSES)


def test_a_new_model_needs_a_cube_and_classes(cube):
    for options in ({}, {"data": cube}, {"classes": CLASSES}):
        with pytest.raises(TimoError, match="a new timo-tiny needs a cube to read and classes"):
            timo.load_model("timo-tiny", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "forest"}, "classes must be a list of text or None; got 'forest'"),
        ({"classes": ["forest"]}, "at least two different classes are needed"),
        ({"classes": ["a", "a"]}, "at least two different classes are needed"),
        (
            {"classes": CLASSES, "task": "detection"},
            "task must be one of 'segmentation', 'classification', 'regression'",
        ),
        ({"classes": CLASSES, "heds": 2}, "unknown encoder option 'heds'.* Did you mean 'heads'"),
        ({"classes": CLASSES, "norm": "group"}, "norm must be one of 'layer', 'batch'"),
    ],
)
def test_a_new_model_that_cannot_be_is_refused(unchecked, cube, options, message):
    with pytest.raises(TimoError, match=message):
        timo.load_model("timo-tiny", cube, **options)


def test_a_band_that_the_sensor_does_not_have_is_refused():
    with pytest.raises(TimoError, match=r"B99"):
        timo.load_model("timo-tiny", make_cube(("B2", "B99")), CLASSES)


def test_what_is_no_cube_is_refused(cube):
    with pytest.raises(
        TimoError,
        match=r"data must be an xarray\.DataArray or a timo\.Places or a list .*or None; got ndarray of shape",
    ):
        timo.load_model("timo-tiny", cube.values, CLASSES)


def save_pretrained(folder, bands=("B2", "B4", "B8"), **options):
    """An encoder with random weights, written as a pretraining writes it."""
    known = get_sensor("sentinel-2").select(bands)
    numbers = {f: tuple(getattr(band, f) for band in known) for f in ("mean", "std")}
    torch.manual_seed(3)
    encoder = create_encoder("tiny", len(bands), **options)
    save_encoder(encoder, folder, bands=bands, sensor="sentinel-2", **numbers)
    return encoder


def test_a_new_model_starts_from_a_pretrained_encoder(cube, tmp_path):
    encoder = save_pretrained(tmp_path / "encoder")
    model = timo.load_model(tmp_path / "encoder", cube, CLASSES, drop_path=0.3)
    assert model.config.classes == ("forest", "other")
    assert model.encoder.config.drop_path == 0.3
    found, expected = model.encoder.state_dict(), encoder.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    heads = [
        timo.load_model(tmp_path / "encoder", cube, CLASSES, seed=seed).head.state_dict()
        for seed in (0, 0, 1)
    ]
    name = "classifier.1.weight"
    assert torch.equal(heads[0][name], heads[1][name])
    assert not torch.equal(heads[0][name], heads[2][name])


def test_a_pretrained_encoder_reads_its_own_bands_of_a_cube_with_more(tmp_path):
    save_pretrained(tmp_path / "encoder", ("B4", "B8"))
    model = timo.load_model(tmp_path / "encoder", make_cube(("B2", "B4", "B8")), CLASSES)
    assert model.config.bands == ("B4", "B8")


def test_an_encoder_of_wavelengths_reads_any_bands(tmp_path):
    bands = get_sensor("sentinel-2").select(("B2", "B4", "B8"))
    wavelengths = tuple(band.wavelength_um for band in bands)
    save_pretrained(tmp_path / "encoder", stem="wavelength", wavelengths=wavelengths)
    cube = make_cube(("B8", "B11"))
    model = timo.load_model(tmp_path / "encoder", cube, CLASSES)
    assert model.config.bands == ("B8", "B11")
    assert model.encoder.config.wavelengths == (0.833, 1.614)
    with torch.no_grad():
        scores = model(torch.from_numpy(cube.values)[None])
    assert scores.shape == (1, 2, 2, 6, 5)


def test_a_pretrained_encoder_that_does_not_fit_is_refused(cube, tmp_path):
    save_pretrained(tmp_path / "encoder", ("B4", "B12"))
    with pytest.raises(TimoError, match=r"reads the bands \['B4', 'B12'\] of sentinel-2, the cube"):
        timo.load_model(tmp_path / "encoder", cube, CLASSES)
    with pytest.raises(TimoError, match=r"\['dims'\] are settled by the encoder at"):
        timo.load_model(tmp_path / "encoder", cube, CLASSES, dims=(8, 8, 8, 8))
    with pytest.raises(TimoError, match="needs a cube to read and classes to predict"):
        timo.load_model(tmp_path / "encoder")
