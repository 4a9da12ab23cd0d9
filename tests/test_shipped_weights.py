"""The pretrained encoder that comes with timo: found offline, for any optical sensor; why it was not taken is told."""

import json
import logging
import os
import re
import shutil
import socket
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import torch
import xarray as xr

import timo
from timo import loading
from timo.errors import TimoError
from timo.loading import SHIPPED, load_shipped, shipped_folder
from timo.models.encoder import TiMoEncoder
from timo.models.weights import CONFIG, WEIGHTS, load_encoder, save_encoder
from timo.sensors import get_sensor

CLASSES = ["forest", "other"]
ROOT = Path(timo.__file__).parent
SIX = ("B2", "B3", "B4", "B8", "B8A", "B11")
TEN = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
MODIS = ("sur_refl_b03", "sur_refl_b01", "sur_refl_b02", "sur_refl_b05", "sur_refl_b07")


def make_cube(bands=SIX, sensor="sentinel-2", size=32):
    """A cube of noise around what each band usually is."""
    known = get_sensor(sensor).select(bands)
    noise = np.random.default_rng(0).normal(size=(3, len(bands), size, size))
    mean, std = (np.array([getattr(b, f) for b in known])[:, None, None] for f in ("mean", "std"))
    cube = xr.DataArray(
        (mean + std * noise).astype("float32"),
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.DatetimeIndex(["2019-05-01", "2019-06-01", "2019-08-20"]),
            "band": list(bands),
            "y": 1000.0 - 10 * np.arange(size),
            "x": 500_000.0 + 10 * np.arange(size),
        },
        attrs={"sensor": sensor},
    )
    return cube.rio.write_crs("EPSG:32634")


def answer(model, cube):
    dates = torch.tensor([[18_017.0, 18_048.0, 18_128.0]])
    with torch.no_grad():
        return model(torch.from_numpy(cube.values)[None], dates)


def is_pretrained(model):
    """Whether the encoder holds the shipped weights."""
    state, expected = model.encoder.state_dict(), load_shipped("timo-tiny").state
    return state.keys() == expected.keys() and all(
        torch.equal(state[name], expected[name]) for name in expected
    )


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="timo.loading")
    return caplog


# --- the files


@pytest.mark.parametrize("name", SHIPPED)
def test_the_files_are_whole_and_small(name):
    folder = ROOT / "weights" / name
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG, "README.md"}
    assert (folder / WEIGHTS).stat().st_size < 5e6
    saved = load_shipped(name)
    assert saved.sha256 == json.loads((folder / CONFIG).read_text())["weights_sha256"]
    assert saved.config.stem == "wavelength"
    assert saved.config.drop_path == 0
    assert not saved.config.checkpoint
    assert saved.card["name"] == name
    assert str(saved.card["version"])
    assert all(value.dtype == torch.float32 for value in saved.state.values())
    assert all(value.isfinite().all() for value in saved.state.values())


def test_every_folder_of_weights_is_known():
    assert {path.name for path in (ROOT / "weights").iterdir()} == set(SHIPPED)


def test_the_card_says_what_the_file_holds():
    card = (ROOT / "weights" / "timo-tiny" / "README.md").read_text(encoding="utf-8")
    saved = load_shipped("timo-tiny")
    assert f"# timo-tiny, version {saved.card['version']}\n" in card
    encoder = TiMoEncoder(saved.config)
    encoder.load_state_dict(saved.state)
    parameters = sum(p.numel() for p in encoder.parameters())
    stem = sum(p.numel() for p in encoder.stem.kernels.parameters())
    (row,) = re.findall(r"^\| Parameters \| ([\d,]+), .* ([\d,]+) in the network", card, re.M)
    assert row == (f"{parameters:,}", f"{stem:,}")
    (size,) = re.findall(r"float16, ([\d.]+) MB", card)
    assert float(size) == pytest.approx(
        (ROOT / "weights" / "timo-tiny" / WEIGHTS).stat().st_size / 1e6, abs=0.05
    )
    (named,) = re.findall(r"^- Six bands: (.*?) at 10 m; (.*?), of 20 m", card, re.M)
    assert tuple(re.findall(r"B\d+A?", " ".join(named))) == saved.bands


def test_half_precision_loses_nothing_that_matters(tmp_path):
    """Stored weights are whole in float16: to write them again changes no bit."""
    saved = load_shipped("timo-tiny")
    encoder = TiMoEncoder(saved.config)
    encoder.load_state_dict(saved.state)
    about = {name: getattr(saved, name) for name in ("bands", "mean", "std", "sensor", "card")}
    again = load_encoder(save_encoder(encoder, tmp_path / "e", **about, dtype=torch.float16))
    assert all(torch.equal(again.state[name], value) for name, value in saved.state.items())
    assert again.card == saved.card


def test_half_precision_moves_the_features_by_less_than_a_hundredth(tmp_path):
    """Of their standard deviation, for weights that are not rounded yet."""
    saved = load_shipped("timo-tiny")
    encoder = TiMoEncoder(saved.config).eval()
    generator = torch.Generator().manual_seed(0)
    # Anything up to half a step of float16 from the stored weights could have been what was rounded to them.
    encoder.load_state_dict(
        {
            name: value * (1 + (torch.rand(value.shape, generator=generator) - 0.5) * 2**-10)
            for name, value in saved.state.items()
        }
    )
    about = {name: getattr(saved, name) for name in ("bands", "mean", "std", "sensor")}
    folder = save_encoder(encoder, tmp_path / "half", **about, dtype=torch.float16)
    rounded = TiMoEncoder(saved.config).eval()
    rounded.load_state_dict(load_encoder(folder).state)
    x = torch.randn(1, 3, len(saved.bands), 64, 64, generator=generator)
    dates = torch.tensor([[18_017.0, 18_048.0, 18_128.0]])
    with torch.no_grad():
        for whole, half in zip(encoder(x, dates), rounded(x, dates), strict=True):
            assert (whole - half).pow(2).mean().sqrt() < 0.01 * whole.std()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_saved_weights_are_for_all_whom_the_folder_is_for(tmp_path):
    saved = load_shipped("timo-tiny")
    about = {name: getattr(saved, name) for name in ("bands", "mean", "std", "sensor")}
    folder = save_encoder(TiMoEncoder(saved.config), tmp_path / "encoder", **about)
    assert (folder / WEIGHTS).stat().st_mode == (folder / CONFIG).stat().st_mode


# --- who starts from them


def test_a_new_tiny_model_starts_from_them_without_the_network(log, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    for name in ("socket", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    model = timo.load_model("timo-tiny", make_cube(), CLASSES, drop_path=0.1, seed=4)
    assert is_pretrained(model)
    assert model.encoder.config.drop_path == 0.1
    saved = load_shipped("timo-tiny")
    title = f"timo-tiny {saved.card['version']} (pretrained, sha256 {saved.sha256[:12]})"
    assert model.config.initial_weights == title
    assert f"initial_weights='{title}'" in repr(model)
    assert log.messages == [f"timo-tiny: starts from {title}; head random, seed 4"]
    assert (model.config.mean, model.config.std) == (saved.mean, saved.std)


def test_the_seed_decides_the_head_alone():
    cube = make_cube()
    one, same, other = (timo.load_model("tiny", cube, CLASSES, seed=s) for s in (0, 0, 1))
    states = [model.state_dict() for model in (one, same, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    differ = {name for name in states[0] if not torch.equal(states[0][name], states[2][name])}
    assert differ
    assert all(name.startswith("head.") for name in differ)


def test_random_weights_where_they_are_wanted(log):
    cube = make_cube()
    model, other = (
        timo.load_model("timo-tiny", cube, CLASSES, pretrained=False, seed=seed) for seed in (3, 4)
    )
    assert model.encoder.config.stem == "plain"
    assert model.config.initial_weights == "random (seed 3)"
    assert "initial_weights='random (seed 3)'" in repr(model)
    assert log.messages[0] == "timo-tiny: random weights, seed 3 (pretrained=False)"
    first = "stem.conv1.weight"
    assert not torch.equal(model.encoder.state_dict()[first], other.encoder.state_dict()[first])
    options = {"pretrained": False, "stem": "wavelength"}
    assert not is_pretrained(timo.load_model("timo-tiny", cube, CLASSES, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"drop_path": 0.2, "checkpoint": True},
        {"stem": "wavelength", "norm": "layer", "dims": [32, 64, 128, 256]},
        {"wavelengths": (0.5, 0.56, 0.66, 0.8, 0.86, 1.6)},
    ],
)
@pytest.mark.parametrize("pretrained", [None, True])
def test_options_that_leave_the_encoder_what_it_is(unchecked, options, pretrained):
    model = timo.load_model("timo-tiny", make_cube(), CLASSES, pretrained=pretrained, **options)
    assert is_pretrained(model)
    for name, value in options.items():
        assert getattr(model.encoder.config, name) == (
            tuple(value) if isinstance(value, list) else value
        )


@pytest.mark.parametrize(
    ("size", "options", "why"),
    [
        ("timo-tiny", {"stem": "plain"}, "with another stem it is not the encoder that was pre"),
        ("tiny", {"position": "fourier", "norm": "batch"}, "with another norm and position it is"),
        ("timo-small", {}, "timo comes with those of timo-tiny alone"),
    ],
)
def test_an_encoder_that_is_another_has_random_weights_and_says_why(log, size, options, why):
    cube = make_cube(size=8)
    model = timo.load_model(size, cube, CLASSES, **options)
    assert model.config.initial_weights == "random (seed 0)"
    assert why in log.text
    message = f"cannot start from pretrained weights: {why}.*pretrained=False takes random ones"
    with pytest.raises(TimoError, match=message):
        timo.load_model(size, cube, CLASSES, pretrained=True, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heds": 2}, "unknown encoder option 'heds'"),
        ({"in_channels": 6}, "in_channels is the number of the cube's bands: leave it out"),
        ({"wavelengths": (0.5, 0.6)}, "6 bands need 6 wavelengths, got 2"),
        ({"drop_path": 1.5}, "drop_path must be a number of 0 or more and below 1"),
    ],
)
@pytest.mark.parametrize("pretrained", [None, True, False])
def test_options_that_are_none_are_told(unchecked, options, message, pretrained):
    with pytest.raises(TimoError, match=message):
        timo.load_model("timo-tiny", make_cube(), CLASSES, pretrained=pretrained, **options)


# --- what they read


@pytest.mark.parametrize(
    ("bands", "sensor"),
    [
        (("B4",), "sentinel-2"),
        (TEN, "sentinel-2"),
        (get_sensor("sentinel-2").band_names, "sentinel-2"),
        (get_sensor("landsat-8-9").band_names, "landsat-8-9"),
        (MODIS, "modis"),
    ],
)
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_the_bands_of_any_optical_sensor(bands, sensor, task):
    cube = make_cube(bands, sensor)
    model = timo.load_model("timo-tiny", cube, CLASSES, task=task)
    assert is_pretrained(model)
    assert model.config.bands == tuple(bands)
    known = get_sensor(sensor).select(bands)
    assert model.config.encoder.wavelengths == tuple(band.wavelength_um for band in known)
    scores = answer(model, cube)
    assert scores.isfinite().all()
    assert scores.std() > 0


def test_the_order_of_the_bands_changes_nothing():
    cube = make_cube()
    turned = cube.sel(band=["B8", "B2", "B11", "B3", "B8A", "B4"])
    maps = []
    for given in (cube, turned):
        model = timo.load_model("timo-tiny", given, CLASSES)
        x = (torch.from_numpy(given.values)[None] - model.mean) / model.std
        with torch.no_grad():
            maps.append(model.encoder(x, torch.tensor([[18_017.0, 18_048.0, 18_128.0]])))
    assert all(torch.equal(one, other) for one, other in zip(*maps, strict=True))


def test_radar_starts_from_random_weights_unless_the_user_insists(log):
    cube = make_cube(("VV", "VH"), "sentinel-1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = timo.load_model("timo-tiny", cube, CLASSES)
    assert model.config.initial_weights == "random (seed 0)"
    assert "never saw radar; pretrained=True takes them all the same" in log.text
    with pytest.warns(UserWarning, match="pretrained weights of timo-tiny never saw radar") as told:
        insisted = timo.load_model("timo-tiny", cube, CLASSES, pretrained=True)
    assert told[0].filename == __file__
    assert is_pretrained(insisted)
    assert answer(insisted, cube).isfinite().all()


# --- what is remembered


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_saved_model_remembers_what_it_started_from(tmp_path, pretrained):
    cube = make_cube()
    model = timo.load_model("timo-tiny", cube, CLASSES, pretrained=pretrained)
    folder = timo.save(model, tmp_path / "model")
    found = timo.load_model(folder, cube)
    assert found.config == model.config
    assert found.config.initial_weights in repr(found)
    assert torch.equal(answer(found, cube), answer(model, cube))
    with pytest.raises(TimoError, match=r"\['pretrained'\] are options of a new model, .* saved"):
        timo.load_model(folder, cube, pretrained=pretrained)


def test_a_model_saved_before_this_was_written_down_is_read(tmp_path):
    model = timo.load_model("timo-tiny", make_cube(), CLASSES)
    file = timo.save(model, tmp_path / "model") / CONFIG
    entries = json.loads(file.read_text())
    del entries["model"]["initial_weights"]
    file.write_text(json.dumps(entries))
    found = timo.load_model(tmp_path / "model")
    assert found.config.initial_weights == ""
    assert "initial_weights" not in repr(found)
    assert is_pretrained(found)


def test_an_encoder_in_a_folder_is_remembered_too(tmp_path, log):
    saved = load_shipped("timo-tiny")
    encoder = TiMoEncoder(saved.config)
    about = {name: getattr(saved, name) for name in ("bands", "mean", "std", "sensor")}
    folder = save_encoder(encoder, tmp_path / "mine", **about)
    cube = make_cube(("SR_B4", "SR_B5"), "landsat-8-9")
    for pretrained in (None, True):
        model = timo.load_model(folder, cube, CLASSES, pretrained=pretrained)
        checksum = load_encoder(folder).sha256[:12]
        assert model.config.initial_weights == f"mine (pretrained, sha256 {checksum})"
        assert f"starts from mine (pretrained, sha256 {checksum})" in log.text
    with pytest.raises(TimoError, match="holds a pretrained encoder: for random weights give"):
        timo.load_model(folder, cube, CLASSES, pretrained=False)


# --- what can be wrong with an installation


@pytest.fixture
def installation(tmp_path, monkeypatch):
    """A copy of the package's data, to be damaged."""
    shutil.copytree(ROOT / "weights", tmp_path / "weights")
    monkeypatch.setattr(loading, "files", lambda _: tmp_path)
    return tmp_path / "weights" / "timo-tiny"


def test_a_damaged_or_incomplete_installation_is_told(installation):
    cube = make_cube()
    message = "timo-tiny in this installation of timo cannot be used: install timo again, or take"
    weights = bytearray((installation / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (installation / WEIGHTS).write_bytes(weights)
    with pytest.raises(TimoError, match=f"{message}.*damaged"):
        timo.load_model("timo-tiny", cube, CLASSES)
    (installation / WEIGHTS).unlink()
    with pytest.raises(TimoError, match=f"{message}.*{WEIGHTS} is missing"):
        timo.load_model("timo-tiny", cube, CLASSES)
    shutil.rmtree(installation)
    with pytest.raises(TimoError, match=message):
        timo.load_model("timo-tiny", cube, CLASSES, pretrained=True)
    model = timo.load_model("timo-tiny", cube, CLASSES, pretrained=False)
    assert model.config.initial_weights == "random (seed 0)"


def test_a_package_in_an_archive_is_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "timo.zip", "w") as archive:
        for path in (ROOT / "weights").rglob("*"):
            archive.write(path, path.relative_to(ROOT))
    expected = load_shipped("timo-tiny")
    with zipfile.ZipFile(tmp_path / "timo.zip") as archive:
        monkeypatch.setattr(loading, "files", lambda _: zipfile.Path(archive))
        found = load_shipped("timo-tiny")
        with shipped_folder("timo-tiny") as folder:
            assert not folder.is_relative_to(ROOT)
        assert not folder.exists()
    assert found.sha256 == expected.sha256
    assert all(torch.equal(found.state[name], value) for name, value in expected.state.items())


def test_weights_that_do_not_come_with_timo_are_told():
    with pytest.raises(TimoError, match=r"no weights of 'timo-huge' come with timo: .* timo-tiny"):
        load_shipped("timo-huge")
