import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from timo.errors import TimoError
from timo.models import (
    ModelConfig,
    create_encoder,
    encoder_config,
    load,
    load_encoder,
    save,
    save_encoder,
)
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.models.tasks import TiMo, build
from timo.models.weights import CONFIG, WEIGHTS


def make_model(seed=0, **options):
    encoder = encoder_config("tiny", 2, dims=(8, 8, 8, 8), heads=(1, 1, 2, 2), depths=(1, 1, 1, 1))
    settings = {"head_width": 8, "detail": 4, "classes": ("a", "b")} | options
    numbers = {"mean": (0.1, 0.2), "std": (0.3, 0.4)}
    return build(ModelConfig(encoder, ("B4", "B8"), **numbers, **settings), seed)


@pytest.fixture
def saved(tmp_path):
    return save(make_model(), tmp_path / "model")


def change_config(folder, change):
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


class Bomb:
    """What a pickle can do: this one writes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def bomb(tmp_path):
    """A pickled checkpoint, and the folder that appears when it is unpickled."""
    path, mark = tmp_path / "theirs.pt", tmp_path / "exploded"
    torch.save({"weight": torch.zeros(2), "bomb": Bomb(mark)}, path)
    torch.load(path, weights_only=False)
    assert mark.exists(), "the bomb must be a live one"
    mark.rmdir()
    return path, mark


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_model_comes_back_bit_by_bit(tmp_path, task):
    model = make_model(task=task, per_date=False)
    folder = save(model, tmp_path / "new" / "model")
    assert folder == tmp_path / "new" / "model"
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    again = load(folder)
    assert again.config == model.config
    assert not again.training
    expected, found = model.state_dict(), again.state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    x, dates = torch.rand(1, 2, 2, 9, 9), torch.tensor([[18_000.0, 18_010.0]])
    with torch.no_grad():
        assert torch.equal(again(x, dates), model(x, dates))


@pytest.mark.parametrize(
    "options",
    [
        {"task": "regression", "classes": (), "target": "height", "target_units": "m"},
        {"task": "regression", "classes": (), "unit": "parcel", "per_date": False, "interval": 0.0},
        {"task": "classification", "unit": "parcel", "per_date": False},
    ],
)
def test_a_model_of_each_kind_of_answer_comes_back(tmp_path, options):
    model = make_model(**options)
    if model.config.task == "regression":
        model.set_target(12.0, 3.5)
    again = load(save(model, tmp_path / "model"))
    assert again.config == model.config
    assert again.config.outputs == model.config.outputs


@pytest.mark.parametrize(
    "options", [{}, {"stem": "wavelength", "wavelengths": (0.6, 0.8, 0.0, None)}]
)
def test_a_model_of_several_groups_of_bands_comes_back(tmp_path, options):
    groups = (2, 1, 1) if options else (2, 2)
    encoder = encoder_config("tiny", 4, **SMALL, groups=groups, **options)
    config = ModelConfig(encoder, tuple("abcd"), ("a", "b"), (0.0,) * 4, (1.0,) * 4, head_width=8)
    model = build(config, 1)
    again = load(save(model, tmp_path / "model"))
    assert again.config == config
    x, dates = torch.rand(1, 3, 4, 5, 6), torch.tensor([[0.0, 20.0, 40.0]])
    x[:, 1, :2] = torch.nan
    with torch.no_grad():
        assert torch.equal(again(x, dates), model(x, dates))
    assert load_encoder(tmp_path / "model").config.groups == groups


def test_a_model_saved_before_there_were_kinds_of_answer_is_read(saved):
    new = ("unit", "target", "target_units", "target_mean", "target_std", "interval")

    def change(config):
        for field in new:
            del config["model"][field]
        del config["model"]["encoder"]["groups"]

    change_config(saved, change)
    assert load(saved).config == make_model().config


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved_and_not_loaded_in_silence(tmp_path, value):
    model = make_model()
    folder = save(model, tmp_path / "model")
    with torch.no_grad():
        model.head.classifier[1].bias[0] = value
    with pytest.raises(
        TimoError, match=r"not finite in torch.float32: head\.classifier\.1\.bias\."
    ):
        save(model, folder)
    assert load(folder).head.classifier[1].bias.isfinite().all()
    # As an older timo would have written it.
    save_file(model.state_dict(), folder / WEIGHTS)
    change_config(folder, lambda config: config.pop("weights_sha256"))
    with pytest.warns(
        UserWarning, match="not finite: head.classifier.1.bias. All that they predict"
    ):
        load(folder)


def test_buffers_are_saved_too(tmp_path):
    encoder = encoder_config("tiny", 2, norm="batch")
    model = build(ModelConfig(encoder, ("B4", "B8"), ("a", "b"), (0.1, 0.2), (0.3, 0.4)))
    model.encoder.stem.norm1.running_mean.fill_(0.7)
    found = load(save(model, tmp_path / "model"))
    assert torch.equal(found.encoder.stem.norm1.running_mean, torch.full((32,), 0.7))


def test_a_config_of_numpy_numbers_can_be_saved(unchecked, tmp_path):
    mean, std = np.float32([0.1, 0.2]), np.float32([0.3, 0.4])
    bands = ("B4", "B8")
    config = ModelConfig(encoder_config("tiny", 2), bands, ("a", "b"), tuple(mean), tuple(std))
    assert load(save(build(config), tmp_path / "model")).config == config


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert save(make_model(), "~/model") == tmp_path / "model"
    assert load("~/model").config.bands == ("B4", "B8")


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_of_torch_alone(saved):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = make_model(3), make_model(3), make_model(4)
    load(saved)
    assert torch.equal(torch.get_rng_state(), before)
    name = "encoder.stem.conv1.weight"
    assert torch.equal(one.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])


def test_an_older_model_is_replaced(saved):
    newer = make_model(seed=1, task="classification")
    save(newer, saved)
    found = load(saved)
    assert found.config.task == "classification"
    assert torch.equal(found.head.classifier.weight, newer.head.classifier.weight)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_anything_else_is_not_replaced(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("notes", "file"):
        with pytest.raises(TimoError, match="holds something other than a model: choose another"):
            save(make_model(), tmp_path / name)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TimoError, match=r"cannot write to the folder .*file"):
        save(make_model(), tmp_path / "file" / "model")


def test_a_failed_save_leaves_the_older_model(saved, monkeypatch):
    before = (saved / WEIGHTS).read_bytes()

    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("timo.models.weights.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save(make_model(seed=1), saved)
    assert (saved / WEIGHTS).read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_truncated_weights_file_is_told(saved, share):
    whole = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(TimoError, match=r"weights\.safetensors is damaged or not a safetensors"):
        load(saved)


@pytest.mark.parametrize(
    "content", [np.random.default_rng(0).bytes(5000), bytes(5000), b"not weights"]
)
def test_a_file_of_other_bytes_is_told(saved, content):
    (saved / WEIGHTS).write_bytes(content)
    with pytest.raises(TimoError, match="save the model again, or fetch the file again"):
        load(saved)


def test_a_single_changed_byte_is_told(saved):
    content = bytearray((saved / WEIGHTS).read_bytes())
    content[-100] ^= 1
    (saved / WEIGHTS).write_bytes(content)
    with pytest.raises(
        TimoError, match="damaged, or of another model: its checksum is not the one"
    ):
        load(saved)


def test_a_config_without_checksum_is_read(saved):
    change_config(saved, lambda config: config.pop("weights_sha256"))
    assert load(saved).config.bands == ("B4", "B8")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_file_is_told(saved, name):
    (saved / name).unlink()
    message = rf"no model at .*: {name} is missing; write one with timo\.save\(model, folder\)"
    with pytest.raises(TimoError, match=message):
        load(saved)


@pytest.mark.parametrize("content", [b"", b'{"format": 1', b"\xff\xfe\x00", b"bands: [B4]"])
def test_a_config_that_is_not_json_is_told(saved, content):
    (saved / CONFIG).write_bytes(content)
    with pytest.raises(TimoError, match=r"config\.json is damaged: not JSON"):
        load(saved)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 2, "model": {}}', '{"format": 1}'])
def test_a_config_of_another_format_is_told(saved, content):
    (saved / CONFIG).write_text(content)
    with pytest.raises(TimoError, match="is not the config of a timo model of format 1"):
        load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(model=5), "is not the config of a timo model: 'int'"),
        (
            lambda config: config["model"].pop("encoder"),
            "missing a required argument: 'in_channels'",
        ),
        (lambda config: config["model"].pop("bands"), "missing a required argument: 'bands'"),
        (lambda config: config["model"].update(colour="red"), "unexpected keyword .* 'colour'"),
        (
            lambda config: config["model"].update(mean=["a", "b"]),
            "mean must be a list of numbers; .*number 0 is 'a'",
        ),
        (lambda config: config["model"].update(bands=["B4"]), "2 channels need 2 bands"),
        (lambda config: config["model"]["encoder"].update(in_channels="2"), "whole number from 1"),
    ],
)
def test_a_config_that_is_no_model_is_told(unchecked, saved, change, message):
    change_config(saved, change)
    with pytest.raises(TimoError, match=message):
        load(saved)


def test_weights_that_do_not_fit_the_config_are_told(saved):
    change_config(saved, lambda config: config["model"].update(classes=["a", "b", "c"]))
    message = r"head\.classifier\.1\.weight is \(2, 8, 1, 1\) instead of \(3, 8, 1, 1\)"
    with pytest.raises(TimoError, match=f"do not fit each other: {message}"):
        load(saved)


def test_missing_and_unexpected_weights_are_named(saved):
    tensors = load_file(saved / WEIGHTS)
    tensors["extra"] = tensors.pop("head.classifier.1.bias")
    save_file(tensors, saved / WEIGHTS)
    change_config(saved, lambda config: config.pop("weights_sha256"))
    message = r"do not fit each other: missing head\.classifier\.1\.bias; unexpected extra$"
    with pytest.raises(TimoError, match=message):
        load(saved)
    save_file({"extra": tensors["extra"]}, saved / WEIGHTS)
    with pytest.raises(TimoError, match=r"missing .*; missing .*; missing .* and \d+ more$"):
        load(saved)


def test_a_pickle_is_not_a_model(bomb):
    path, mark = bomb
    message = r"theirs\.pt is a file, a model is a folder .* Pickled weights .* can run code"
    with pytest.raises(TimoError, match=message):
        load(path)
    assert not mark.exists()


@pytest.mark.parametrize("plain", [False, True])
def test_a_pickle_in_place_of_the_weights_is_never_unpickled(saved, bomb, plain):
    path, mark = bomb
    content = pickle.dumps(Bomb(mark)) if plain else path.read_bytes()
    (saved / WEIGHTS).write_bytes(content)
    message = r"not a safetensors file .* Pickled weights can run code and are not read"
    with pytest.raises(TimoError, match=message):
        load(saved)
    assert not mark.exists()


# --- autoencoders and encoders

ABOUT = {"bands": ("B4", "B8"), "mean": (0.1, 0.2), "std": (0.3, 0.4), "sensor": "sentinel-2"}
SMALL = {"dims": (8, 8, 8, 8), "heads": (1, 1, 2, 2), "depths": (1, 1, 1, 1)}


def make_autoencoder(**options):
    encoder = encoder_config("tiny", 2, **SMALL)
    decoder = {"unit": 8, "decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 1}
    return MaskedAutoencoder(MaskedConfig(encoder, **ABOUT, **decoder | options)).eval()


def equal(a, b):
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a
    )


def test_an_autoencoder_comes_back_bit_by_bit(tmp_path):
    model = make_autoencoder(target="unit")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = load(save(model, tmp_path / "model"), kind="autoencoder")
    assert torch.equal(torch.get_rng_state(), before)
    assert again.config == model.config
    assert not again.training
    assert equal(again.state_dict(), model.state_dict())


def test_a_folder_says_what_it_holds(tmp_path):
    kinds = {"model": make_model(), "autoencoder": make_autoencoder()}
    for kind, model in kinds.items():
        folder = save(model, tmp_path / kind)
        assert json.loads((folder / CONFIG).read_text())["kind"] == kind
    encoder = save_encoder(create_encoder("tiny", 2, **SMALL), tmp_path / "encoder", **ABOUT)
    assert json.loads((encoder / CONFIG).read_text())["kind"] == "encoder"
    message = "expected 'model', got 'autoencoder', which is read with timo.models.load"
    with pytest.raises(TimoError, match=message):
        load(tmp_path / "autoencoder")
    with pytest.raises(
        TimoError, match=r"got 'encoder', which is read with timo\.models\.load_enc"
    ):
        load(encoder)
    with pytest.raises(
        TimoError, match=r"expected 'autoencoder', got 'model', .* timo\.load_model"
    ):
        load(tmp_path / "model", kind="autoencoder")


def test_a_folder_of_before_there_were_kinds_is_a_model(saved):
    change_config(saved, lambda config: config.pop("kind"))
    assert load(saved).config.bands == ("B4", "B8")
    assert load_encoder(saved).bands == ("B4", "B8")


def test_an_unknown_kind_is_told(saved):
    change_config(saved, lambda config: config.update(kind="decoder"))
    for read in (load, load_encoder):
        with pytest.raises(TimoError, match="is not the config of a timo model of format 1"):
            read(saved)


@pytest.mark.parametrize("make", [make_model, make_autoencoder])
def test_the_encoder_is_read_out_of_whatever_holds_one(tmp_path, make):
    model = make()
    found = load_encoder(save(model, tmp_path / "model"))
    assert found.config == model.config.encoder
    assert (found.bands, found.mean, found.std) == (("B4", "B8"), (0.1, 0.2), (0.3, 0.4))
    assert found.sensor == "sentinel-2"
    assert found.card == {}
    assert equal(found.state, model.encoder.state_dict())


def test_an_encoder_comes_back_with_its_card(tmp_path):
    encoder = create_encoder("tiny", 2, norm="batch", **SMALL)
    card = {"data": ["a", "b"], "figures": {"loss": 0.1, "epochs": [1, 2]}}
    found = load_encoder(save_encoder(encoder, tmp_path / "encoder", **ABOUT, card=card))
    assert found.card == card
    assert found.config == encoder.config
    assert {name: getattr(found, name) for name in ABOUT} == ABOUT
    # Whole numbers, of a batch norm, stay so.
    assert equal(found.state, encoder.state_dict())


def test_half_the_digits_are_half_the_file(tmp_path):
    encoder = create_encoder("tiny", 2)
    whole = save_encoder(encoder, tmp_path / "whole", **ABOUT)
    half = save_encoder(encoder, tmp_path / "half", **ABOUT, dtype=torch.float16)
    sizes = [(folder / WEIGHTS).stat().st_size for folder in (whole, half)]
    assert 0.5 <= sizes[1] / sizes[0] < 0.52
    state = load_encoder(half).state
    assert {value.dtype for value in state.values()} == {torch.float32}
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-6)


def test_what_makes_no_encoder_is_told(unchecked, tmp_path):
    encoder = create_encoder("tiny", 2, **SMALL)
    with pytest.raises(TimoError, match="2 channels need 2 bands"):
        save_encoder(encoder, tmp_path / "e", **ABOUT | {"bands": ("B4",)})
    with pytest.raises(TimoError, match=r"float32 or torch\.float16, got torch\.int8"):
        save_encoder(encoder, tmp_path / "e", **ABOUT, dtype=torch.int8)
    with pytest.raises(TimoError, match="card of this encoder cannot be written as JSON"):
        save_encoder(encoder, tmp_path / "e", **ABOUT, card={"model": encoder})
    with torch.no_grad():
        encoder.stem.conv1.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(TimoError, match=r"not finite in torch\.float16: stem\.conv1\.weight"):
        save_encoder(encoder, tmp_path / "e", **ABOUT, dtype=torch.float16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["encoder"].pop("bands"), "not the config of a timo encoder: .* 'bands'"),
        (lambda c: c["encoder"].pop("encoder"), "not the config of a timo encoder: .*in_channels"),
        (
            lambda c: c["encoder"].update(mean=["x"]),
            "not the config of a timo encoder: mean must be a list",
        ),
        (lambda c: c["encoder"].update(bands=["B4"]), "2 channels need 2 bands"),
        (lambda c: c["encoder"].update(colour="red"), "unexpected keyword argument 'colour'"),
        (lambda c: c["encoder"]["encoder"].update(dims=[16, 8, 8, 8]), "do not fit each other: "),
        (lambda c: c.update(weights_sha256="0"), "its checksum is not the one"),
    ],
)
def test_a_damaged_encoder_is_told(unchecked, tmp_path, change, message):
    folder = save_encoder(create_encoder("tiny", 2, **SMALL), tmp_path / "encoder", **ABOUT)
    change_config(folder, change)
    with pytest.raises(TimoError, match=message):
        load_encoder(folder)


# --- what could not be loaded again is refused before anything is written


def with_another_head(model):
    model.head.classifier[1] = torch.nn.Conv2d(8, 5, 1)
    return model


def without_a_layer(model):
    del model.head.merge
    return model


def with_another_config(model, config):
    model.config = config
    return model


def with_changed_classes(model):
    object.__setattr__(model.config, "classes", ["a", "b"])
    return model


def with_two_weights_that_are_one(model):
    blocks = [stage.blocks[0] for stage in model.encoder.stages]
    blocks[1].norm1.weight = blocks[0].norm1.weight
    return model


class Other(TiMo):
    """It would be read back as what it inherits from."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.nn.Linear(2, 2), "got a Linear.* safetensors.torch.save_model"),
        (lambda: torch.nn.Sequential(make_model()), r"got a Sequential.*model\.module"),
        (lambda: make_model().encoder, "got a TiMoEncoder.*timo.models.save_encoder"),
        (lambda: Other(make_model().config), "got a Other"),
        (lambda: {"weight": 1}, r"model must be a torch\.Module; got .*timo\.load_model"),
        (lambda: with_another_head(make_model()), r"layers are not .*is \(5, 8, 1, 1\) instead of"),
        (lambda: without_a_layer(make_model()), r"layers are not .*missing head\.merge"),
        (lambda: with_another_config(make_model(), None), "cannot be written as JSON"),
        (lambda: with_another_config(make_model(), {"a": 1}), "cannot be written as JSON"),
        (lambda: with_another_config(make_model(), make_autoencoder().config), "not the config of"),
        (lambda: with_changed_classes(make_model()), "would not be read as it is"),
        (lambda: with_two_weights_that_are_one(make_model()), "weights .* cannot be written"),
        (lambda: make_model().to("meta"), "weights .* cannot be written"),
    ],
)
def test_a_model_that_could_not_be_loaded_again_is_refused(tmp_path, unchecked, make, message):
    before = make()
    state = torch.get_rng_state()
    with pytest.raises(TimoError, match=message):
        save(before, tmp_path / "model")
    assert not list(tmp_path.iterdir())
    assert torch.equal(torch.get_rng_state(), state)


def deep():
    card = {}
    for _ in range(10_000):
        card = {"more": card}
    return card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"card": {"a": {1, 2}}}, "cannot be written as JSON: Object of type set"),
        ({"card": {("a", "b"): 1}}, "card must be a mapping of text to anything"),
        ({"card": deep()}, "cannot be written as JSON"),
        ({"card": [1]}, r"card must be a mapping .*; got \[1\]"),
        ({"bands": ("B4", 8)}, "bands must be a list of text; .*number 1 is 8"),
        ({"mean": (0.1, np.nan)}, "mean must be a list of numbers; .*number 1 is nan"),
        ({"std": (0.1, 0.0)}, "std must be a list of numbers above 0; .*number 1 is 0"),
        ({"sensor": None}, "sensor must be text; got None"),
        ({"dtype": "float16"}, r"dtype must be a torch\.dtype; got 'float16'"),
    ],
)
def test_an_encoder_that_could_not_be_loaded_again_is_refused(tmp_path, unchecked, change, message):
    with pytest.raises(TimoError, match=message):
        save_encoder(create_encoder("tiny", 2, **SMALL), tmp_path / "encoder", **ABOUT | change)
    assert not list(tmp_path.iterdir())


def test_an_encoder_without_data_is_refused(tmp_path):
    with pytest.raises(TimoError, match="weights of this encoder cannot be written"):
        save_encoder(create_encoder("tiny", 2, **SMALL).to("meta"), tmp_path / "encoder", **ABOUT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["~nobody-of-that-name/model", "a\0b", "n" * 300])
def test_a_path_that_no_folder_can_have_is_refused(path):
    with pytest.raises(TimoError, match="cannot write"):
        save(make_model(), path)
    with pytest.raises(TimoError, match="cannot read"):
        load(path)
    with pytest.raises(TimoError, match="path must be text or a path; got 3"):
        load(3)


def test_numbers_of_numpy_are_saved(tmp_path, unchecked):
    encoder = create_encoder("tiny", np.int64(2), **SMALL)
    mean, std = np.float32([0.1, 0.2]), np.array([1, 2])
    about = {"bands": np.array(["B4", "B8"]), "mean": mean, "std": std, "sensor": "sentinel-2"}
    found = load_encoder(save_encoder(encoder, tmp_path / "encoder", **about))
    assert (found.bands, found.std) == (("B4", "B8"), (1.0, 2.0))
    assert {type(value) for value in (*found.mean, *found.std)} == {float}
