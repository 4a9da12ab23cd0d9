"""The encoder's benchmark runs, and counts what it says."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from timo.errors import TimoError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

encoder = importlib.import_module("encoder")
measures = importlib.import_module("measures")
prithvi = importlib.import_module("peers.prithvi")

CPU, META = torch.device("cpu"), torch.device("meta")
TINY = encoder.Case("tiny", 32, 2, "forward", "fused")


def test_quick_prints_a_table_and_writes_every_row(tmp_path, capsys):
    path = tmp_path / "encoder.json"
    encoder.main(["--quick", "--no-memory", "--threads", "1", "--json", str(path)])
    results = json.loads(path.read_text())
    rows = results["rows"]
    keys = [(row["dates"], row["step"], row["form"]) for row in rows if row["form"] in encoder.OURS]
    assert len(set(keys)) == len(keys) == 2 * 2 * len(encoder.OURS)
    assert all(row["seconds"] > 0 and row["GFLOP"] > 0 for row in rows)
    ours = dict(zip(keys, rows, strict=True))
    fused, naive = (ours[2, "train", form] for form in ("fused", "plain"))
    assert fused["times plain"] == pytest.approx(naive["seconds"] / fused["seconds"])
    floor = fused["GFLOP"] / fused["GFLOP/s of products"]
    assert fused["% of the floor"] == pytest.approx(100 * floor / fused["seconds"])
    assert len(results["linearity"]) == 4
    printed = capsys.readouterr().out
    assert printed.count("factorised") == 4 + 2
    assert "prithvi: " in printed


def test_memory_is_that_of_a_process_of_its_own():
    small, large = (
        encoder.memory_of(dataclasses.replace(TINY, pixels=pixels), threads=1)
        for pixels in (32, 256)
    )
    assert 0 <= small < large
    # The input, at least, of 2 dates and 10 bands; far less than the model with its libraries.
    assert 2 * 10 * 256**2 * 4 / 2**20 < large < 500


@pytest.mark.parametrize("kind", ["stga", "d-stga"])
def test_the_operations_of_the_fused_attention_are_counted_as_torch_counts_its_parts(kind):
    from timo.models import fused

    b, t, n, h, d = 2, 3, 20, 2, 4
    q, k, v, gradient = torch.randn(4, b, t, n, h, d).unbind()
    sq, sk = (x.flatten(0, 1) if kind == "stga" else x[:, 0] for x in (q, k))
    valid = torch.ones(b, t, n, dtype=torch.bool)
    out, lse = fused.attend(sq, sk, q, k, v, None, valid)
    arguments = (sq, sk, q, k, v, None, valid)
    for operator, by_hand, given in (
        (torch.ops.timo.gyroscope, fused.attend, arguments),
        (
            torch.ops.timo.gyroscope_backward,
            fused.differentiate,
            (gradient, out, lse, *arguments),
        ),
    ):
        formula = measures.flops(lambda operator=operator, given=given: operator(*given))
        parts = measures.flops(lambda by_hand=by_hand, given=given: by_hand(*given))
        # Beside the formula's: the sums of the weights, one more column for each date, forward and backward.
        spare = 2 * h * n * n * b * t
        assert formula <= parts <= formula + spare


def test_work_is_a_polynomial_of_the_number_of_dates():
    c, a, b = encoder.polynomial(TINY)
    five = encoder.count(dataclasses.replace(TINY, dates=5)) / 1e9
    assert c + 5 * a + 25 * b == pytest.approx(five)


def test_the_plain_form_is_the_plain_one():
    torch.manual_seed(0)
    model, x = TINY.model(CPU).eval(), torch.randn(1, 2, 10, 32, 32)
    calls = []
    original = encoder.plain.dstga

    def counted(*args):
        calls.append(args)
        return original(*args)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(encoder.plain, "dstga", counted)
        fused = model(x)
        assert not calls
        with encoder.context("plain", CPU):
            naive = model(x)
    assert len(calls) == 2
    assert all(
        torch.allclose(one, other, atol=1e-4) for one, other in zip(fused, naive, strict=True)
    )


def test_what_does_not_fit_in_memory_is_skipped_with_a_reason(monkeypatch, tmp_path):
    case = encoder.Case("base", 224, 24, "train", "plain")
    monkeypatch.setattr(measures, "available", lambda _: 2.0**30)
    assert case.too_large(CPU) == "needs about 35 GiB, 1 GiB are free"
    assert dataclasses.replace(case, form="fused").too_large(CPU) == ""
    args = encoder.parse(["--quick", "--no-memory", "--threads", "1"])
    monkeypatch.setattr(measures, "available", lambda _: 1.0)
    rows = [*encoder.rows_of([TINY, dataclasses.replace(TINY, form="plain")], args, CPU)]
    assert rows[0]["seconds"] > 0
    assert rows[0]["times plain"] is None
    assert rows[1]["seconds"] is None
    assert "GiB are free" in encoder.show(rows, header=True)


def test_a_peer_that_is_not_there_is_told(tmp_path):
    args = encoder.parse(["--peer", str(tmp_path), "--forms", "fused", "prithvi-100m"])
    if prithvi.importlib.util.find_spec("terratorch") is None:
        with pytest.raises(TimoError, match="not found"):
            prithvi.find(tmp_path)
        assert encoder.find_peer(args)[0] == ""
    (tmp_path / "prithvi_mae.py").write_text(
        "from timm.layers import to_2tuple\nfrom nowhere import x"
    )
    path, word = encoder.find_peer(args)
    assert path == ""
    assert "nowhere" in word
    assert [case.form for cases in encoder.all_cases(args, path) for case in cases] == [
        "fused"
    ] * 16


def test_a_peer_that_is_there_is_run_beside(tmp_path):
    (tmp_path / "prithvi_mae.py").write_text(
        "from timm.layers import to_2tuple\n"
        "from timm.models.vision_transformer import Block\n"
        "from torch import nn\n"
        "class PrithviViT(nn.Module):\n"
        "    def __init__(self, img_size, patch_size, num_frames, in_chans, embed_dim, depth, num_heads):\n"
        "        super().__init__()\n"
        "        self.pixels = in_chans * to_2tuple(img_size)[0] * num_frames\n"
        "        self.embed = nn.Linear(self.pixels, 8)\n"
        "        self.block = Block(8, 2, 4.0, qkv_bias=True, norm_layer=nn.LayerNorm, drop_path=0.0)\n"
        "    def forward_features(self, x):\n"
        "        return [self.block(self.embed(x.reshape(len(x), -1, self.pixels)))]\n"
    )
    args = encoder.parse(["--peer", str(tmp_path), "--quick"])
    path, word = encoder.find_peer(args)
    assert "timm" in word
    case = dataclasses.replace(TINY, form="prithvi-100m", peer=path)
    case.run(case.model(CPU), CPU)()
    assert encoder.count(case) > 0
