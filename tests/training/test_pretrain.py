"""What a pretraining learns, leaves and refuses."""

import dataclasses
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from training_runs import same, weights_of

import timo
from timo.errors import TimoError
from timo.models import load, load_encoder
from timo.models.masking import MaskOptions
from timo.training import PretrainOptions, WindowOptions
from timo.training.pretraining import autoencoder_config, new_autoencoder, picture
from timo.training.pretraining.recipe import default_rate

CONFIG = dataclasses.replace(
    autoencoder_config(
        "tiny", ("B4", "B8"), unit=8, dims=(16, 16, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 1, 1)
    ),
    target="values",
    decoder_dim=16,
    decoder_depth=1,
    decoder_heads=1,
)
SMALL = {
    "epochs": 2,
    "chips_per_epoch": 8,
    "batch_size": 4,
    "chips": WindowOptions(size=16, dates=(2, 4)),
    "optimisation": PretrainOptions(5e-3),
    "progress": False,
}


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """A run with all that is written, on the first two thirds of the world."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    cube, _, split = world
    options = SMALL | {"epochs": 3, "averaging": 0.9, "picture_every": 2}
    return timo.pretrain(cube, CONFIG, exclude=split, folder=folder, **options), folder


def test_the_loss_falls_and_all_is_written(whole):
    result, folder = whole
    history = result.history
    columns = ["epoch", "step", "loss", "validation_loss", "learning_rate", "seconds"]
    assert list(history.columns) == columns
    assert list(history.step) == [2, 4, 6]
    assert history.loss.iloc[-1] < history.loss.iloc[0]
    assert history.validation_loss.iloc[-1] < history.validation_loss.iloc[0]
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["encoder", "history.csv", "model", "pictures"]
    pd.testing.assert_frame_equal(pd.read_csv(folder / "history.csv"), history)
    assert not result.model.training


def test_what_is_written_is_what_is_returned(whole):
    result, folder = whole
    again = load(folder / "model", kind="autoencoder")
    assert again.config == CONFIG
    assert same(again.state_dict(), result.model.state_dict())
    encoder = load_encoder(folder / "encoder")
    assert (encoder.bands, encoder.sensor) == (CONFIG.bands, "sentinel-2")
    assert same(encoder.state, result.model.encoder.state_dict())


def test_pictures_are_small_and_of_the_epochs_asked_for(whole):
    folder = whole[1] / "pictures"
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-0002.png", "epoch-0003.png"]
    for path in folder.iterdir():
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 200_000


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generators_alone(world):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two = (timo.pretrain(world[0], CONFIG, **SMALL | {"epochs": 1}) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(weights_of(one.model), weights_of(two.model))
    other = timo.pretrain(world[0], CONFIG, **SMALL | {"epochs": 1, "seed": 1})
    assert not same(weights_of(one.model), weights_of(other.model))


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_the_same_step(world, parts):
    """The parts have different numbers of scored pixels: a mean of their means would be another loss."""
    whole = timo.pretrain(world[0], CONFIG, **SMALL)
    cut = timo.pretrain(world[0], CONFIG, accumulate=parts, **SMALL)
    np.testing.assert_allclose(cut.history.loss, whole.history.loss, rtol=1e-5)
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(cut.model.state_dict()[name], tensor, rtol=1e-3, atol=5e-4)


def test_workers_change_nothing(world):
    alone = timo.pretrain(world[0], CONFIG, **SMALL)
    helped = timo.pretrain(world[0], CONFIG, workers=2, **SMALL)
    assert same(weights_of(alone.model), weights_of(helped.model))


def test_bf16(world):
    result = timo.pretrain(world[0], CONFIG, precision="bf16-mixed", **SMALL)
    exact = timo.pretrain(world[0], CONFIG, **SMALL)
    assert np.isfinite(result.history.loss).all()
    np.testing.assert_allclose(result.history.loss, exact.history.loss, rtol=0.05)
    assert not same(weights_of(result.model), weights_of(exact.model))
    assert {p.dtype for p in result.model.parameters()} == {torch.float32}


def test_what_is_excluded_is_never_read(world, grid):
    cube, _, split = world
    test = split.values == 2
    spoilt = cube.copy(data=np.where(test, 1 - cube.values, cube.values))
    mask = grid(test, ("y", "x"))
    plain, other = (timo.pretrain(c, CONFIG, exclude=mask, **SMALL) for c in (cube, spoilt))
    assert same(weights_of(plain.model), weights_of(other.model))
    unmasked = timo.pretrain(spoilt, CONFIG, **SMALL)
    assert not same(weights_of(unmasked.model), weights_of(plain.model))


def test_a_split_validates_on_its_part_and_trains_on_its_own(world):
    cube, _, split = world
    spoilt = cube.copy(data=np.where(split.values == 1, cube.values + np.float32(0.5), cube.values))
    plain, other = (timo.pretrain(c, CONFIG, exclude=split, **SMALL) for c in (cube, spoilt))
    assert same(weights_of(plain.model), weights_of(other.model))
    assert (plain.history.loss == other.history.loss).all()
    assert (plain.history.validation_loss < other.history.validation_loss).all()


def test_a_model_is_trained_on_in_place(world):
    model = new_autoencoder(CONFIG)
    before = weights_of(model)
    result = timo.pretrain(world[0], model, **SMALL)
    assert result.model is model
    changed = [
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    ]
    assert set(changed) >= {name for name, _ in model.named_parameters()}


def test_a_name_takes_the_bands_and_the_sensor_of_the_cube(world):
    result = timo.pretrain(world[0], unit=16, **SMALL | {"epochs": 1, "chips_per_epoch": 4})
    config = result.model.config
    assert (config.bands, config.sensor, config.unit) == (("B4", "B8"), "sentinel-2", 16)
    assert config.encoder.dims == (32, 64, 128, 256)


def test_several_cubes_of_different_sizes(world, new_world):
    cubes = [world[0], new_world(5, 12, 30, seed=1)[0], world[0].isel(time=slice(1))]
    result = timo.pretrain(cubes, CONFIG, masks=MaskOptions(tube=1.0, date=1.0), **SMALL)
    assert np.isfinite(result.history.loss).all()


def test_places_and_their_split_are_pretrained_on(new_world):
    from timo.places import Places

    places = Places([new_world(5, 24, 24 + n, seed=n)[0] for n in range(5)])
    split = places.split("place")
    first, again = (timo.pretrain(places, CONFIG, exclude=split, **SMALL) for _ in range(2))
    assert same(weights_of(first.model), weights_of(again.model))
    assert np.isfinite(first.history.validation_loss).all()
    listed = timo.pretrain(
        [place.cube for place in places],
        CONFIG,
        exclude=[xr.full_like(p.cube[0, 0], split.part(i), "int8") for i, p in enumerate(places)],
        **SMALL,
    )
    assert same(weights_of(first.model), weights_of(listed.model))


def test_several_sensors_are_refused_and_one_of_them_is_taken(world):
    radar = world[0].assign_coords(band=["VV", "VH"]).assign_attrs(sensor="sentinel-1")
    radar = radar.copy(data=-10 - 10 * radar.values)
    joint = timo.cube.join(world[0], radar)
    with pytest.raises(TimoError, match=r"reads one sensor, .*sentinel-2\+sentinel-1.*separate"):
        timo.pretrain(joint, **SMALL)
    optical = timo.cube.separate(joint)[0]
    assert len(timo.pretrain(optical, CONFIG, **SMALL | {"epochs": 1}).history) == 1


def test_a_store_is_gone_through_place_by_place(world, tmp_path):
    from timo.places import pack

    pack(world[0], tmp_path / "store", size=16)
    options = SMALL | {"chips": WindowOptions(size=None, dates=(2, 4)), "chips_per_epoch": None}
    result = timo.pretrain(tmp_path / "store", CONFIG, **options)
    # 3 x 3 places, in batches of 4: two and a quarter, made whole.
    assert list(result.history.step) == [3, 6]
    assert np.isfinite(result.history.loss).all()


# --- the learning rate


def test_the_learning_rate_rises_then_falls_and_is_scaled_as_published():
    options = PretrainOptions(warm_up=0.1)
    base = autoencoder_config("base", ["B2"])
    assert default_rate(base, 4096) == pytest.approx(1.5e-4 * 4096 / 256)
    assert default_rate(base, 16) == pytest.approx(5e-4)
    rates = [options.rate(step, 100, 3e-4) for step in range(100)]
    assert max(rates) == pytest.approx(3e-4)
    assert rates[9] == max(rates)
    assert rates[0] == pytest.approx(3e-5)
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert 0 < rates[-1] < 1e-6
    assert PretrainOptions(1e-3, warm_up=0).rate(0, 1, 4.0) == 1e-3
    with pytest.raises(TimoError, match="step must be less than steps"):
        PretrainOptions(warm_up=0.9).rate(1, 1, 4.0)


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of 1 or more; got 0"),
        (
            {"accumulate": 3},
            "a batch of 4 chips cannot be shared out evenly to 1 processes in 3 parts",
        ),
        ({"averaging": 1.0}, "averaging must be .* above 0 and below 1 or None; got 1.0"),
        (
            {"precision": "64"},
            "precision must be one of '32-true', 'bf16-mixed', '16-mixed'; got '64'",
        ),
        ({"log": "wandb"}, "log must be one of 'csv', 'tensorboard' or None; got 'wandb'"),
        ({"resume": True}, "resume needs the folder"),
        ({"picture_every": 1, "log": "tensorboard"}, r'picture_every and log="tensorboard" needs'),
        ({"strategy": "fsdp", "folder": "f", "averaging": 0.9}, "not for sharded weights"),
        ({"unit": 16}, "the config says unit=8, the call unit=16"),
        ({"workers": -1}, "workers must be a whole number from 0 to 256; got -1"),
        ({"strategy": "nonsense"}, "strategy are not for this machine, .*nonsense"),
        ({"devices": -3}, "strategy are not for this machine, .*should be an int > 0"),
        ({"devices": 0}, "strategy are not for this machine, .*devices=0"),
    ],
)
def test_options_that_make_no_sense_are_told(*, world, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TimoError, match=message):
        timo.pretrain(world[0], CONFIG, **SMALL | options)


@pytest.mark.parametrize(
    "options", [{"learning_rate": 0}, {"clip": -1.0}, {"warm_up": 1.0}, {"betas": (0.9, 1.0)}]
)
def test_an_optimisation_that_makes_no_sense_is_told(options):
    with pytest.raises(TimoError, match=r"(learning_rate|clip|warm_up|betas) must be .* got"):
        PretrainOptions(**options)


def test_data_that_do_not_fit_are_told(world):
    cube, _, split = world
    with pytest.raises(TimoError, match=r"reads the bands \('B4', 'B8'\), the data have \('B4',\)"):
        timo.pretrain(cube.isel(band=[0]), CONFIG, **SMALL)
    with pytest.raises(TimoError, match="All places must have the same bands"):
        timo.pretrain([cube, cube.isel(band=[0])], CONFIG, **SMALL)
    with pytest.raises(TimoError, match="no data: give a cube"):
        timo.pretrain([], CONFIG, **SMALL)
    with pytest.raises(TimoError, match="exclude must be on the cube's grid"):
        timo.pretrain(cube, CONFIG, exclude=split.isel(x=slice(4)), **SMALL)
    with pytest.raises(TimoError, match=r"exclude must be an xarray\.DataArray with the dims"):
        timo.pretrain(cube, CONFIG, exclude=split.astype("float32"), **SMALL)
    with pytest.raises(
        TimoError, match="2 cubes need as many arrays in exclude, one for each; got 1"
    ):
        timo.pretrain([cube, cube], CONFIG, exclude=split, **SMALL)
    with pytest.raises(TimoError, match="exclude leaves no pixel"):
        timo.pretrain(cube, CONFIG, exclude=xr.ones_like(split).astype(bool), **SMALL)


def test_a_folder_with_something_else_is_told(world, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(TimoError, match="is something other than a model: choose another folder"):
        timo.pretrain(world[0], CONFIG, folder=tmp_path, **SMALL)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine.txt"]


def test_a_run_that_diverges_is_told(world):
    tiny = dataclasses.replace(CONFIG, std=(1e-25, 1e-25))
    with pytest.raises(TimoError, match=r"diverged: the loss of epoch 0 is (inf|nan)"):
        timo.pretrain(world[0], tiny, **SMALL)


def test_tensorboard_gets_what_the_history_has(world, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cube, _, split = world
    done = timo.pretrain(
        cube, CONFIG, exclude=split, log="tensorboard", folder=tmp_path, **SMALL
    ).history
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("loss", "validation_loss", "learning_rate"):
        points = events.Scalars(name)
        assert [point.step for point in points] == list(done.step)
        np.testing.assert_allclose([point.value for point in points], done[name], rtol=1e-6)


def test_tensorboard_is_asked_for_where_it_is_not_installed(world, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "lightning.pytorch.loggers.tensorboard._TENSORBOARD_AVAILABLE", False, raising=False
    )
    for name in ("tensorboard", "tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("lightning.fabric.loggers.tensorboard._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr("lightning.fabric.loggers.tensorboard._TENSORBOARDX_AVAILABLE", False)
    with pytest.raises(TimoError, match="needs TensorBoard: pip install tensorboard"):
        timo.pretrain(world[0], CONFIG, log="tensorboard", folder=tmp_path, **SMALL)


# --- pictures


@pytest.mark.parametrize("target", ["values", "frame", "unit", "batch"])
def test_a_picture_touches_neither_the_model_nor_the_users_figures(world, target):
    import matplotlib as mpl

    from timo.places import Places
    from timo.training import Windows
    from timo.training.pretraining import MaskedChips

    backend = mpl.get_backend()
    options = WindowOptions(size=20, dates=(3, 3))
    windows = Windows(Places([world[0]]), 4, options, labelled=False)
    chip = MaskedChips(windows, MaskOptions(), 8, seed=0)[0, 1]
    model = new_autoencoder(dataclasses.replace(CONFIG, target=target)).train()
    before = weights_of(model)
    figure = picture(model, chip, dates=2)
    assert len(figure.axes) == 6
    assert model.training
    assert same(weights_of(model), before)
    assert mpl.get_backend() == backend
    seen, told, truth = (np.asarray(axis.images[0].get_array()) for axis in figure.axes[:3])
    hidden = chip["hidden"][0].repeat_interleave(8, 0).repeat_interleave(8, 1)[:20, :20].numpy()
    valid = chip["valid"][0].numpy()
    assert (seen[hidden & valid] == 0.5).all()
    assert (seen[~valid] == 1).all()
    np.testing.assert_array_equal(seen[~hidden], truth[~hidden])
    np.testing.assert_array_equal(told[~hidden], truth[~hidden])
    assert not np.array_equal(told[hidden & valid], truth[hidden & valid])


def test_a_chip_that_is_none_of_the_models_is_refused():
    model = new_autoencoder(CONFIG)
    for chip in ({}, {"x": 3}, {"x": torch.zeros(2, 3, 16, 16), "dates": torch.zeros(2)}):
        with pytest.raises(
            TimoError, match=r"A chip has tensors x \(t, c, h, w\).*MaskedChips gives"
        ):
            picture(model, chip)


def test_what_is_told_without_its_frame_gets_it_back(world):
    from timo.models.mim import normalise
    from timo.places import Places
    from timo.training import Windows
    from timo.training.pretraining import MaskedChips
    from timo.training.pretraining.pictures import physical

    settings = dataclasses.replace(CONFIG, target="frame")
    options = WindowOptions(size=16, dates=(2, 2))
    windows = Windows(Places([world[0]]), 1, options, labelled=False)
    chip = MaskedChips(windows, MaskOptions(), 8, seed=0)[0, 0]
    mean, std = (torch.tensor(n)[:, None, None] for n in (CONFIG.mean, CONFIG.std))
    values, valid, hidden = ((chip["x"] - mean) / std, chip["valid"], chip["hidden"])
    target = normalise(values[None], valid[None], hidden[None], settings)[0]
    told = physical(target, chip, settings)
    inside = valid[:, None].expand_as(told)
    torch.testing.assert_close(told[inside], chip["x"][inside], rtol=1e-4, atol=1e-5)


def test_what_is_told_without_its_unit_gets_it_back(world):
    """Told the exact target, the picture shows the exact truth."""
    from timo.places import Places
    from timo.training import Windows
    from timo.training.pretraining import MaskedChips
    from timo.training.pretraining.pictures import cover, physical

    options = WindowOptions(size=16, dates=(2, 2))
    windows = Windows(Places([world[0]]), 1, options, labelled=False)
    chip = MaskedChips(windows, MaskOptions(), 8, seed=0)[0, 0]
    mean, std = (torch.tensor(n)[:, None, None] for n in (CONFIG.mean, CONFIG.std))
    values = (chip["x"] - mean) / std
    valid = chip["valid"][:, None].expand_as(values)
    hidden = valid & cover(chip["hidden"], 8, chip["valid"])[:, None]
    inside = values[hidden]
    target = (values - inside.mean()) / (inside.var() + 1e-6).sqrt()
    told = physical(target, chip, dataclasses.replace(CONFIG, target="batch"))
    torch.testing.assert_close(told[valid], chip["x"][valid], rtol=1e-4, atol=1e-5)
