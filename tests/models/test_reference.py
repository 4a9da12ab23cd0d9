"""Checkpoints of the published code: what is made of them, what the report says, what is refused.

That the numbers are the published ones is tested in test_parity.py; here the weights are random or of its cases.
"""

import argparse
import json
import logging
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from timo.errors import TimoError
from timo.models import load_reference, read_reference, transfer_encoder
from timo.models.encoder import TiMoEncoder, create_encoder
from timo.models.published import PublishedAutoencoder
from timo.models.reference import RENAMED, encoder_name
from timo.models.tasks import TiMo

CASE = Path(__file__).parents[1] / "data" / "parity" / "dstga.safetensors"
CONFIG = {
    "embed_dims": [16, 32, 32, 32],
    "sa_num_heads": [1, 2, 2, 4],
    "depths": [1, 1, 1, 1],
    "mlp_ratios": [4, 4, 4, 4],
    "qkv_bias": True,
    "head_conv": 7,
    "use_pos": "ts",
    "num_classes": 7,
    "local": [2, 2, 0, 0],
}
DECODER = {"decoder_embed_dim": 16, "decoder_depth": 2, "decoder_heads": 2, "norm_pix_loss": True}
# Back from our names: enough to write a checkpoint as the published code would.
THEIRS = {
    r"^stem\.conv1": "patch_embed1.conv.0",
    r"^stem\.norm1": "patch_embed1.conv.1",
    r"^stem\.conv2": "patch_embed1.conv.3",
    r"^stem\.norm2": "patch_embed1.norm",
    r"^downsamples\.(\d)\.conv": lambda m: f"patch_embed{int(m[1]) + 2}.proj",
    r"^downsamples\.(\d)\.norm": lambda m: f"patch_embed{int(m[1]) + 2}.norm",
    r"^stages\.(\d)\.blocks": lambda m: f"block{int(m[1]) + 1}",
    r"^stages\.(\d)\.norm": lambda m: f"norm{int(m[1]) + 1}",
    r"\.attention\.gate\.linear": ".attn.cheap_operation.0",
    r"\.attention\.gate\.norm": ".attn.cheap_operation.1",
    r"\.attention\.": ".attn.",
    r"mlp\.0": "mlp.fc1",
    r"mlp\.2": "mlp.fc2",
}


def their_name(name):
    for pattern, theirs in THEIRS.items():
        name = re.sub(pattern, theirs, name)
    return name


def random_like(state, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(t.shape, generator=generator) * 0.2 if t.is_floating_point() else t
        for name, t in state.items()
    }


def their_encoder(channels=3, attention=("d-stga", "d-stga", "global", "global")):
    ours = create_encoder(
        "tiny",
        channels,
        dims=(16, 32, 32, 32),
        depths=(1, 1, 1, 1),
        heads=(1, 2, 2, 4),
        attention=attention,
        norm="batch",
        position="index",
    )
    return random_like({their_name(name): t for name, t in ours.state_dict().items()})


@pytest.fixture
def segmentation():
    head = {"head.weight": torch.rand(1000, 32), "head.bias": torch.rand(1000)}
    return {**their_encoder(), **head}


@pytest.fixture
def classification():
    head = {"head.weight": torch.rand(7, 32), "head.bias": torch.rand(7)}
    return {**their_encoder(attention=("d-stga",) * 4), **head}


@pytest.fixture
def autoencoder():
    state = {
        **their_encoder(attention=("global",) * 4),
        "mask_token": torch.empty(1, 1, 16),
        "decoder_embed.weight": torch.empty(16, 32),
        "decoder_embed.bias": torch.empty(16),
        "decoder_norm.weight": torch.empty(16),
        "decoder_norm.bias": torch.empty(16),
        "decoder_pred.weight": torch.empty(3072, 16),
        "decoder_pred.bias": torch.empty(3072),
        "head.weight": torch.empty(1000, 32),
        "head.bias": torch.empty(1000),
    }
    shapes = {"attn.q": 16, "attn.kv": 32, "attn.proj": 16, "mlp.fc1": 64}
    for i in range(2):
        block = f"decoder_blocks.{i}"
        for name, width in shapes.items():
            state |= {f"{block}.{name}.weight": torch.empty(width, 16)}
            state |= {f"{block}.{name}.bias": torch.empty(width)}
        state |= {f"{block}.mlp.fc2.weight": torch.empty(16, 64)}
        state |= {f"{block}.mlp.fc2.bias": torch.empty(16)}
        for norm in ("norm1", "norm2"):
            state |= {f"{block}.{norm}.{part}": torch.empty(16) for part in ("weight", "bias")}
    return random_like(state)


def test_names_go_there_and_back():
    ours = create_encoder("tiny", 3, norm="batch").state_dict()
    assert {encoder_name(their_name(name)) for name in ours} == set(ours)
    assert len(RENAMED) > len(THEIRS)


# --- what the keys say


def test_a_segmentation_checkpoint_is_an_encoder_whose_head_is_unused(segmentation):
    encoder, report = read_reference(segmentation, CONFIG)
    assert isinstance(encoder, TiMoEncoder)
    assert not encoder.training
    assert set(report.unused) == {"head.weight", "head.bias"}
    assert len(report.loaded) == len(segmentation) - 2
    assert (report.missing, report.unexpected, report.adapted, report.misshapen) == ((), (), (), ())
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, segmentation[their_name(name)])


def test_a_classification_checkpoint_is_a_classifier_with_idle_gates(classification):
    model, report = read_reference(classification, CONFIG)
    assert isinstance(model, TiMo)
    assert len(report.unused) == 12
    assert all(re.match(r"block[34]\.0\.attn\.cheap_operation", key) for key in report.unused)
    assert report.complete
    assert report.unexpected == ()
    x = torch.randn(2, 3, 3, 32, 32)
    assert model(x).shape == (2, 7)
    assert load_reference(classification, CONFIG, per_date=True)(x).shape == (2, 3, 7)


def test_a_classifier_scores_the_published_map():
    case = load_file(CASE)
    state = {k.removeprefix("state_dict."): v for k, v in case.items() if "state_dict." in k}
    gates = {k: v for k, v in state.items() if k.startswith("block2.0.attn.cheap_operation")}
    state |= {k.replace("block2", "block4"): v for k, v in gates.items()}
    head = {"head.weight": torch.randn(7, 128), "head.bias": torch.randn(7)}
    with safe_open(CASE, "pt") as file:
        model = load_reference({**state, **head}, file.metadata()["config"])
    torch.manual_seed(5)
    with torch.no_grad():
        scores = model(torch.randn(2, 3, 4, 64, 64))
    features = case["T3.stage4"].unflatten(0, (2, 3)).mean(dim=(1, 3, 4))
    expected = features @ head["head.weight"].T + head["head.bias"]
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)


def test_a_checkpoint_with_a_decoder_is_an_autoencoder(autoencoder):
    model, report = read_reference(autoencoder, CONFIG | DECODER)
    assert isinstance(model, PublishedAutoencoder)
    assert set(report.unused) == {"head.weight", "head.bias"}
    assert report.complete
    assert report.unexpected == ()
    assert model.config.target == "batch"
    assert torch.equal(model.predict.bias, autoencoder["decoder_pred.bias"])
    q = autoencoder["block2.0.attn.q.weight"]
    assert torch.equal(model.encoder.stages[1].blocks[0].attention.q.weight, q)


def test_the_kind_can_be_said_where_keys_leave_it_open(classification):
    all_gated = CONFIG | {"local": [2, 2, 2, 2]}
    assert isinstance(load_reference(classification, all_gated), TiMoEncoder)
    model, report = read_reference(classification, all_gated, kind="classifier")
    assert isinstance(model, TiMo)
    assert report.unused == ()


def test_the_autoencoders_encoder_starts_a_fine_tuning(autoencoder):
    pretrained = load_reference(autoencoder, CONFIG | DECODER)
    encoder = load_reference(their_encoder(), CONFIG)
    with pytest.warns(UserWarning, match="12 weights"):
        report = transfer_encoder(pretrained.state_dict(), encoder)
    assert len(report.missing) == 12
    assert all(".gate." in name for name in report.missing)
    assert {"mask_token", "predict.weight"} <= set(report.unused)
    kernel = autoencoder["block3.0.mlp.fc1.weight"]
    assert torch.equal(encoder.stages[2].blocks[0].mlp[0].weight, kernel)


def test_weights_in_float64_stay_so(segmentation):
    double = {k: v.double() if v.is_floating_point() else v for k, v in segmentation.items()}
    encoder = load_reference(double, CONFIG)
    assert {p.dtype for p in encoder.parameters()} == {torch.float64}


def test_loading_draws_nothing_from_the_generator(segmentation):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_reference(segmentation, CONFIG)
    assert torch.equal(torch.rand(1), expected)


# --- bands


def test_a_number_of_bands_takes_the_mean_kernel_and_keeps_the_size(segmentation):
    encoder, report = read_reference(segmentation, CONFIG, bands=10)
    (adapted,) = report.adapted
    assert adapted == ("stem.conv1.weight", (16, 3, 7, 7), (16, 10, 7, 7))
    assert "stem.conv1.weight" not in report.loaded
    grey = torch.rand(1, 2, 1, 32, 32)
    of_three = load_reference(segmentation, CONFIG)(grey.expand(-1, -1, 3, -1, -1))
    of_ten = encoder(grey.expand(-1, -1, 10, -1, -1))
    for a, b in zip(of_three, of_ten, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_bands_say_which_channel_each_new_one_takes(segmentation):
    encoder = load_reference(segmentation, CONFIG, bands=(2, 1, 0, None))
    old, new = segmentation["patch_embed1.conv.0.weight"], encoder.stem.conv1.weight
    torch.testing.assert_close(new[:, :3], old[:, [2, 1, 0]] * 3 / 4)
    torch.testing.assert_close(new[:, 3], old.mean(dim=1) * 3 / 4)


def test_reordered_bands_give_the_same_maps(segmentation):
    x = torch.randn(1, 2, 3, 32, 32)
    there = load_reference(segmentation, CONFIG)(x)
    encoder, report = read_reference(segmentation, CONFIG, bands=(2, 0, 1))
    back = encoder(x[:, :, [2, 0, 1]])
    assert len(report.adapted) == 1
    for a, b in zip(there, back, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_config_may_name_other_bands_than_the_weights_have(segmentation):
    encoder, report = read_reference(segmentation, CONFIG | {"in_chans": 5})
    assert encoder.config.in_channels == 5
    assert len(report.adapted) == 1


def test_bands_by_name_name_those_of_a_classifier(classification):
    model = load_reference(classification, CONFIG, bands={"B4": 0, "B3": 1, "B2": 2, "B8": None})
    assert model.config.bands == ("B4", "B3", "B2", "B8")


def test_an_autoencoder_predicts_the_new_bands(autoencoder):
    model, report = read_reference(autoencoder, CONFIG | DECODER, bands=(2, None))
    names = [entry.name for entry in report.adapted]
    assert names == ["encoder.stem.conv1.weight", "predict.weight", "predict.bias"]
    assert report.complete
    by_band = autoencoder["decoder_pred.bias"].view(3, 1024)
    torch.testing.assert_close(model.predict.bias, torch.cat([by_band[2], by_band.mean(dim=0)]))
    keep = torch.tensor([[True, False]])
    assert model(torch.randn(1, 2, 2, 32, 32), keep).prediction.shape == (1, 2, 1, 1, 2048)


@pytest.mark.parametrize("bands", [0, (0, 3), (), (-1,)])
def test_bands_that_do_not_exist_are_refused(segmentation, bands):
    with pytest.raises(TimoError, match=r"bands=.* channel 0\.\.2|bands must be .*; got 0"):
        load_reference(segmentation, CONFIG, bands=bands)


# --- the report


def test_missing_weights_warn_and_are_named(segmentation):
    del segmentation["block1.0.attn.q.weight"], segmentation["norm2.bias"]
    _, report = read_reference(segmentation, CONFIG)
    assert set(report.missing) == {"stages.0.blocks.0.attention.q.weight", "stages.1.norm.bias"}
    assert not report.complete
    with pytest.warns(UserWarning, match=r"2 weights .*random"):
        load_reference(segmentation, CONFIG)


def test_weights_of_another_shape_warn_and_are_named(segmentation):
    segmentation["norm1.bias"] = torch.zeros(5)
    _, report = read_reference(segmentation, CONFIG)
    assert report.misshapen == (("stages.0.norm.bias", (5,), (16,)),)
    with pytest.warns(UserWarning, match="1 weights"):
        load_reference(segmentation, CONFIG)


def test_unexpected_keys_keep_the_name_they_came_with(segmentation):
    stray = {
        "block9.0.attn.q.weight": torch.zeros(2),
        "block3.0.attn.cheap_operation.0.weight": torch.zeros(1, 16),
        "block7.0.attn.cheap_operation.0.weight": torch.zeros(1, 16),
        "epoch": 3,
    }
    del segmentation["head.weight"]
    _, report = read_reference({**segmentation, **stray}, CONFIG)
    assert set(report.unexpected) == set(stray) - {"block3.0.attn.cheap_operation.0.weight"}
    assert set(report.unused) == {"head.bias", "block3.0.attn.cheap_operation.0.weight"}


def test_the_report_is_readable_and_logged(segmentation, caplog):
    with caplog.at_level(logging.INFO, logger="timo.models.transfer"):
        load_reference(segmentation | {"stray": torch.zeros(1)}, CONFIG, bands=10)
    for line in (
        "1 adapted to the bands",
        "stem.conv1.weight: (16, 3, 7, 7) -> (16, 10, 7, 7)",
        "1 unexpected: ignored",
        "  stray",
        "  head.bias",
    ):
        assert line in caplog.text


def test_missing_weights_are_the_same_each_time(segmentation):
    del segmentation["norm2.bias"], segmentation["patch_embed2.proj.weight"]
    first, second = (read_reference(segmentation, CONFIG).model for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


# --- files and wrappers


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": state, "optimizer": {"lr": 1.0}},
        lambda state: {f"module.{name}": t for name, t in state.items()},
        lambda state: {"model": {f"module._orig_mod.{name}": t for name, t in state.items()}},
        lambda state: {**{f"state_dict.{name}": t for name, t in state.items()}, "input": None},
    ],
)
def test_wrappers_are_taken_off(segmentation, wrap):
    _, report = read_reference(wrap(segmentation), CONFIG)
    assert report.complete
    assert report.unexpected == ()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("as_text", [True, False])
def test_files_are_read(segmentation, tmp_path, suffix, as_text):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(segmentation, path)
    else:
        torch.save({"model": segmentation, "epoch": 1}, path)
    encoder, report = read_reference(str(path) if as_text else path, CONFIG)
    assert report.complete
    path.unlink()
    assert torch.equal(encoder.stem.conv2.bias, segmentation["patch_embed1.conv.3.bias"])


def test_files_in_torchs_old_format_are_read(segmentation, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(segmentation, path, _use_new_zipfile_serialization=False)
    assert read_reference(path, CONFIG).report.complete


class Opens:
    """A pickle that does something when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_would_run_code_is_refused(segmentation, tmp_path):
    path, witness = tmp_path / "weights.pt", tmp_path / "it ran"
    torch.save({"model": segmentation, "more": Opens(witness)}, path)
    with pytest.raises(TimoError, match="holds more than weights"):
        load_reference(path, CONFIG)
    assert not witness.exists()


def test_a_pickle_with_arguments_is_refused_by_name(segmentation, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"model": segmentation, "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(TimoError, match=r"argparse\.Namespace.*safetensors"):
        load_reference(path, CONFIG)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x80\x02garbage"])
def test_damaged_files_are_refused(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(TimoError, match="damaged"):
        load_reference(path, CONFIG)


def test_a_cut_off_file_is_refused(segmentation, tmp_path):
    for path in (tmp_path / "weights.pt", tmp_path / "weights.safetensors"):
        (save_file if path.suffix == ".safetensors" else torch.save)(segmentation, path)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(TimoError, match="damaged"):
            load_reference(path, CONFIG)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TimoError, match=r"no checkpoint at .*nothing\.pt"):
        load_reference(tmp_path / "nothing.pt", CONFIG)


@pytest.mark.parametrize("found", [{}, {"epoch": 1}, {"model": {}}])
def test_what_is_no_state_dict_is_refused(found):
    with pytest.raises(TimoError, match="expected a state dict"):
        load_reference(found, CONFIG)


def test_weights_of_another_model_are_refused():
    with pytest.raises(TimoError, match="none of the 1 weights fits"):
        load_reference({"layer1.0.conv1.weight": torch.zeros(3, 3)}, CONFIG)


# --- config


@pytest.mark.parametrize(
    "form", [json.dumps, dict, lambda c: {"cfg": json.dumps(c)}, lambda c: {"cfg": c, "B": 2}]
)
def test_the_config_comes_as_json_or_mapping(segmentation, form):
    assert load_reference(segmentation, form(CONFIG)).config.dims == (16, 32, 32, 32)


def without(name):
    return {key: value for key, value in CONFIG.items() if key != name}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a mapping"),
        (without("depths"), "lacks depths"),
        (without("local"), "'local'"),
        (CONFIG | {"local": [3, 0, 0, 0]}, "(number 0 is 3)"),
        (CONFIG | {"use_pos": "t"}, "use_pos must be one of 'ts'; got 't'"),
        (CONFIG | {"head_conv": 3}, "head_conv must be one of 7; got 3"),
        (CONFIG | {"mlp_ratios": [8, 8, 4, 4]}, "in all stages"),
        (CONFIG | {"mlp_ratios": 4.5}, "mlp_ratios"),
        (CONFIG | {"window": 7}, "unknown in the config: window"),
        (CONFIG | {"depths": [1, 1]}, "four stages"),
    ],
)
def test_a_config_that_cannot_be_is_refused(segmentation, config, message, unchecked):
    with pytest.raises(TimoError, match=re.escape(message)):
        load_reference(segmentation, config)


def test_an_autoencoder_needs_its_decoders_heads(autoencoder):
    with pytest.raises(TimoError, match="decoder_heads"):
        load_reference(autoencoder, CONFIG)
    model = load_reference(autoencoder, CONFIG | {"decoder_heads": 2})
    assert (model.config.decoder_dim, model.config.decoder_depth) == (16, 2)


def test_an_unknown_kind_is_refused(segmentation, unchecked):
    with pytest.raises(
        TimoError, match="kind must be one of 'encoder', 'classifier', 'autoencoder'"
    ):
        load_reference(segmentation, CONFIG, kind="segmentation")
