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
from timo.sensors import SENSORS, Band, Sensor, get_sensor, register_sensor

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


# --- places, several sensors, and each kind of answer


def make_radar(t=3):
    values = np.random.default_rng(1).normal(-15, 1, (t, 2, 6, 5)).astype("float32")
    optical = make_cube()
    coords = {
        "time": pd.date_range("2019-05-04", periods=t, freq="12D"),
        "band": ["VV", "VH"],
        **{name: optical[name] for name in ("y", "x", "spatial_ref")},
    }
    dims = ("time", "band", "y", "x")
    return xr.DataArray(values, coords, dims, attrs={"sensor": "sentinel-1"})


def labels_on(cube, values, **attrs):
    coords = {name: cube[name] for name in ("y", "x", "spatial_ref")}
    return xr.DataArray(values, coords, ("y", "x"), attrs=attrs)


@pytest.fixture
def terrain():
    """A sensor of the user's own, whose band has no wavelength; its cube."""
    band = Band("height", "", float("nan"), 30.0, mean=500.0, std=200.0)
    register_sensor(Sensor("terrain", "a terrain model", (band,), scale=1.0, kind="other"))
    values = np.linspace(100, 900, 30, dtype="float32").reshape(1, 1, 6, 5)
    cube = make_cube().isel(time=[0], band=[0]).copy(data=values)
    yield cube.assign_coords(band=["height"]).assign_attrs(sensor="terrain")
    del SENSORS["terrain"]


@pytest.mark.parametrize(
    ("options", "unit", "per_date"),
    [
        ({}, "pixel", True),
        ({"task": "segmentation", "per_date": False}, "pixel", False),
        ({"task": "classification"}, "chip", False),
        ({"task": "classification", "per_date": True}, "chip", True),
        ({"task": "classification", "unit": "parcel"}, "parcel", False),
        ({"task": "regression", "target": "height"}, "pixel", False),
        ({"task": "regression", "unit": "chip", "interval": 0.5}, "chip", False),
    ],
)
def test_each_kind_of_answer_has_its_defaults(tmp_path, cube, options, unit, per_date):
    classes = None if options.get("task") == "regression" else CLASSES
    model = timo.load_model("timo-tiny", cube, classes, **options)
    assert (model.config.unit, model.config.per_date) == (unit, per_date)
    assert model.config.classes == (() if classes is None else ("forest", "other"))
    assert model.config.target == options.get("target", "")
    assert model.config.interval == options.get("interval", 0.9)
    folder = timo.save(model, tmp_path / "model")
    assert timo.load_model(folder, cube, classes, **options).config == model.config
    others = {"task": "classification", "unit": "parcel", "per_date": not per_date}
    for option in ("unit", "per_date"):
        if getattr(model.config, option) != others[option]:
            with pytest.raises(TimoError, match=f"has the {option} .*: leave {option} out, or"):
                timo.load_model(folder, **{option: others[option]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "regression", "classes": CLASSES}, "a regression has no classes, got"),
        ({"classes": CLASSES, "target": "height"}, 'target .* regression: give task="regression"'),
        ({"classes": CLASSES, "interval": 0.9}, 'regression: give task="regression"'),
        ({"classes": CLASSES, "unit": "parcel"}, 'give task="classification"'),
        ({"task": "regression", "unit": "parcel", "per_date": True}, "give per_date=False"),
        ({"classes": CLASSES, "groups": (2, 1)}, "groups are the sensors of the cube's bands"),
    ],
)
def test_what_belongs_to_another_task_is_refused(cube, options, message):
    with pytest.raises(TimoError, match=message):
        timo.load_model("timo-tiny", cube, **options)


def test_places_name_the_classes_or_the_target(cube):
    values = np.arange(30).reshape(6, 5) % 3 - 1
    classes = labels_on(cube, values.astype("int16"), classes=CLASSES)
    heights = labels_on(cube, values.astype("float32"), long_name="height", units="m")
    places, measured = timo.Places([(cube, classes)]), timo.Places([(cube, heights)])
    model = timo.load_model("timo-tiny", places)
    assert model.config == timo.load_model("timo-tiny", cube, CLASSES).config
    model = timo.load_model("timo-tiny", measured, task="regression")
    assert (model.config.target, model.config.target_units) == ("height", "m")
    assert (model.config.target_mean, model.config.target_std) == (0.0, 1.0)
    with pytest.raises(TimoError, match=r'labels of the places are values, .*: give task="regres'):
        timo.load_model("timo-tiny", measured)
    with pytest.raises(TimoError, match=r'labels of the places are classes, .*: give task="segm'):
        timo.load_model("timo-tiny", places, task="regression")
    with pytest.raises(TimoError, match="needs a cube to read and classes to predict"):
        timo.load_model("timo-tiny", timo.Places([cube]))
    with pytest.raises(TimoError, match=r"cubes with labels are places: timo\.Places\("):
        timo.load_model("timo-tiny", [(cube, classes)])


def test_a_saved_model_is_checked_against_places(tmp_path, cube):
    folder = timo.save(timo.load_model("timo-tiny", cube, CLASSES), tmp_path / "model")
    assert timo.load_model(folder, timo.Places([cube])).config.bands == ("B2", "B4", "B8")
    with pytest.raises(TimoError, match=r"reads the bands .*: \['B4'\] missing"):
        timo.load_model(folder, timo.Places([make_cube(("B2", "B8"))]))


def test_single_pixels_start_from_random_weights_unless_asked(cube):
    pixel = cube.isel(y=[3], x=[4])
    for given in (pixel, timo.Places([pixel] * 2)):
        assert (
            timo.load_model("timo-tiny", given, CLASSES).config.initial_weights == "random (seed 0)"
        )
    asked = timo.load_model("timo-tiny", pixel, CLASSES, pretrained=True).config
    assert "pretrained" in asked.initial_weights
    mixed = timo.load_model("timo-tiny", timo.Places([pixel, cube]), CLASSES).config
    assert "pretrained" in mixed.initial_weights


def test_several_sensors_are_read_as_groups_of_bands(cube):
    message = "pretrained weights of timo-tiny never saw radar"
    with pytest.warns(UserWarning, match=message):
        model = timo.load_model("timo-tiny", [cube, make_radar()], CLASSES, per_date=False, seed=3)
    config = model.config
    assert config.sensor == "sentinel-2+sentinel-1"
    assert config.bands == ("B2", "B4", "B8", "VV", "VH")
    assert config.encoder.groups == (3, 2)
    assert config.encoder.wavelengths == (0.492, 0.665, 0.833, 0.0, -1.0)
    assert config.mean[3:] == (-11.0, -18.0)
    assert "pretrained" in config.initial_weights
    joint = timo.cube.join(cube, make_radar())
    with pytest.warns(UserWarning, match=message):
        again = timo.load_model("timo-tiny", joint, CLASSES, per_date=False, seed=3)
    states = model.state_dict(), again.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    # All that a model of the first sensor has, this one has as well: with radar missing it answers the same.
    alone = timo.load_model("timo-tiny", cube, CLASSES, per_date=False, seed=3)
    empty = timo.cube.join(cube, missing={"sentinel-1": ["VV", "VH"]})
    dates = torch.tensor([[18_017.0, 18_048.0]])
    with torch.no_grad():
        found = model(torch.from_numpy(empty.values)[None], dates)
        assert torch.equal(found, alone(torch.from_numpy(cube.values)[None], dates))


def test_a_joint_model_is_saved_and_its_encoder_reads_the_same_sensors(tmp_path, cube):
    data = [cube, make_radar()]
    model = timo.load_model("timo-tiny", data, CLASSES, pretrained=False, stem="wavelength")
    folder = timo.save(model, tmp_path / "model")
    assert timo.load_model(folder, data).config == model.config
    with pytest.raises(TimoError, match=r"reads sentinel-1 too, .* timo\.cube\.join\("):
        timo.load_model(folder, cube)
    names = ("bands", "mean", "std", "sensor")
    save_encoder(
        model.encoder, tmp_path / "encoder", **{name: getattr(model.config, name) for name in names}
    )
    other = timo.load_model(tmp_path / "encoder", data, ["a", "b", "c"])
    expected, found = model.encoder.state_dict(), other.encoder.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    with pytest.raises(TimoError, match=r"together, the data have .*join the same \(timo\.cube"):
        timo.load_model(tmp_path / "encoder", cube, CLASSES)


def test_a_sensor_without_wavelengths_has_kernels_of_its_own(cube, terrain):
    model = timo.load_model("timo-tiny", [cube, terrain], CLASSES)
    encoder = model.config.encoder
    assert encoder.groups == (3, 1)
    assert encoder.wavelengths == (0.492, 0.665, 0.833, None)
    assert "pretrained" in model.config.initial_weights
    assert model.encoder.stems["1"].conv1.weight.shape == (32, 1, 7, 7)
    joint = timo.cube.join(cube, terrain)
    days = (joint.time.values - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    with torch.no_grad():
        scores = model(torch.from_numpy(joint.values)[None], torch.from_numpy(days)[None])
        flat = joint.copy()
        flat.loc[{"band": "height"}] = flat.sel(band="height") * 0 + 500
        other = model(torch.from_numpy(flat.values)[None], torch.from_numpy(days)[None])
    assert scores.isfinite().all()
    assert (scores - other).abs().max() > 1e-4
    alone = timo.load_model("timo-tiny", terrain, CLASSES)
    assert alone.config.initial_weights == "random (seed 0)"


def test_the_normalisation_is_that_of_the_sensor_or_of_the_data(tmp_path, caplog):
    cube = make_cube()
    cube[0, :, :2] = np.nan
    expected = [(float(cube[:, i].mean()), float(cube[:, i].std())) for i in range(3)]
    model = timo.load_model("timo-tiny", cube, CLASSES, normalisation="data")
    np.testing.assert_allclose(model.config.mean, [m for m, _ in expected], rtol=1e-6)
    np.testing.assert_allclose(model.config.std, [s for _, s in expected], rtol=1e-6)
    assert timo.load_model(timo.save(model, tmp_path / "model")).config == model.config
    # Over many places as over all their values at once, lazy ones too.
    parts = [cube.isel(y=slice(0, 2)), cube.isel(y=slice(2, 3)), cube.isel(y=slice(3, 6)).chunk()]
    found = timo.load_model("timo-tiny", timo.Places(parts), CLASSES, normalisation="data").config
    np.testing.assert_allclose(found.mean, model.config.mean, rtol=1e-6)
    np.testing.assert_allclose(found.std, model.config.std, rtol=1e-6)
    with pytest.raises(TimoError, match=r"\['normalisation'\] are options of a new model"):
        timo.load_model(tmp_path / "model", normalisation="data")
    with pytest.raises(TimoError, match="normalisation must be one of 'sensor', 'data' or None"):
        timo.load_model("timo-tiny", cube, CLASSES, normalisation="batch")


def test_a_band_without_values_has_no_normalisation_of_the_data(cube):
    dark = cube.where(cube.band != "B4")
    with pytest.raises(
        TimoError, match=r"B4 holds no value: nothing was observed\. Leave the band"
    ):
        timo.load_model("timo-tiny", dark, CLASSES, normalisation="data")
    flat = cube.copy()
    flat.loc[{"band": "B4"}] = 0.25
    model = timo.load_model("timo-tiny", flat.isel(time=[0]), CLASSES, normalisation="data")
    assert (model.config.mean[1], model.config.std[1]) == (0.25, 1.0)


def test_many_places_are_read_in_part(cube, monkeypatch):
    opened = []
    places = timo.Places([cube] * 7)
    monkeypatch.setattr("timo.places.bands.MOST_PLACES", 3)
    monkeypatch.setattr(type(places), "open", lambda _, i: opened.append(i) or (cube, None))
    timo.load_model("timo-tiny", places, CLASSES, normalisation="data")
    assert opened == [0, 3, 6]


def test_the_former_name_of_the_data_works(cube):
    with pytest.warns(DeprecationWarning, match="cube= is called data= now"):
        model = timo.load_model("timo-tiny", cube=cube, classes=CLASSES)
    assert model.config.bands == ("B2", "B4", "B8")


def test_the_size_of_a_token_is_a_choice_for_every_model(tmp_path, cube):
    """New, pretrained and saved: the weights are the same for each (`timo.models.tokens`)."""
    fine = timo.load_model("timo-tiny", cube, CLASSES, token=np.int64(2))
    model = timo.load_model("timo-tiny", cube, CLASSES)
    assert fine.config.encoder.token == 2
    assert "pretrained" in fine.config.initial_weights
    states = model.state_dict(), fine.state_dict()
    assert all(torch.equal(states[0][name], weight) for name, weight in states[1].items())
    folder = timo.save(model, tmp_path / "model")
    again = timo.load_model(folder, cube, CLASSES, token=2)
    dates, x = torch.tensor([[18_017.0, 18_048.0]]), torch.from_numpy(cube.values)[None]
    with torch.no_grad():
        assert torch.equal(again(x, dates), fine(x, dates))
    assert timo.load_model(folder).config.encoder.token == 4
    with pytest.raises(TimoError, match=r"\['drop_path'\] are options of a new model"):
        timo.load_model(folder, token=2, drop_path=0.1)
    with pytest.raises(TimoError, match="token must be one of 4, 2, 1; got 8"):
        timo.load_model(folder, token=8)
    pixel = timo.save(timo.load_model("pixel", cube, CLASSES), tmp_path / "pixel")
    with pytest.raises(TimoError, match="has no tokens: leave token out"):
        timo.load_model(pixel, token=2)


def test_a_model_of_before_there_were_sizes_has_tokens_of_4(tmp_path, cube):
    folder = timo.save(timo.load_model("timo-tiny", cube, CLASSES), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    assert config["model"]["encoder"].pop("token") == 4
    (folder / "config.json").write_text(json.dumps(config))
    assert timo.load_model(folder).config.encoder.token == 4
