"""Valid tokens only: what is read is what the dense form gives, gradients too; nothing else is read."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.models import encoder as encoder_module
from timo.models import packed
from timo.models.attention import SpatiotemporalAttention
from timo.models.config import EncoderConfig
from timo.models.encoder import DropPath, TiMoEncoder
from timo.models.masking import MaskOptions, draw_mask, units_with_any
from timo.models.mim import MaskedAutoencoder, MaskedConfig
from timo.models.packed import Layout, worth_packing

KINDS = ("d-stga", "stga", "global")
STRIDES = (4, 8, 16, 32)
MASKS = st.tuples(
    st.integers(1, 3),  # samples
    st.integers(1, 5),  # dates
    st.integers(1, 12),  # places
    st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.95, 1.0]),  # share valid
    st.sampled_from(["token", "tube", "date", "sample"]),
    st.integers(0, 10**6),
)


def draw(mask):
    """A mask whose tokens, places, dates or samples are valid at random."""
    b, t, n, share, scheme, seed = mask
    generator = torch.Generator().manual_seed(seed)
    shape = {"token": (b, t, n), "tube": (b, 1, n), "date": (b, t, 1), "sample": (b, 1, 1)}[scheme]
    valid = (torch.rand(shape, generator=generator) < share).expand(b, t, n)
    # A hole of their own in what is regular otherwise.
    return valid & (torch.rand(b, t, n, generator=generator) < 0.9)


@pytest.fixture
def always(monkeypatch):
    """Packed wherever it is allowed, even where nothing is gained."""
    monkeypatch.setattr(packed, "MOST", 1.0)


def pixels_of(valid, height, width):
    """Share of the tokens of stride 4 that are valid, as pixels; h and w of any size."""
    return valid.repeat_interleave(4, -2).repeat_interleave(4, -1)[..., :height, :width]


def check_close(ones, others, tolerance=1e-12):
    """The same sums in float64, some taken in another order: relative to the largest number of all."""
    scale = max(float(other.detach().abs().max()) for other in others) or 1.0
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)


def seen_by(valid, stride):
    down, right = (-valid.shape[-2] % 32), (-valid.shape[-1] % 32)
    seen = units_with_any(torch.nn.functional.pad(valid, (0, right, 0, down)), stride)
    return seen[..., : -(-valid.shape[-2] // stride), : -(-valid.shape[-1] // stride)]


# --- layouts


@given(MASKS)
@settings(deadline=None, max_examples=60)
def test_a_closed_up_series_holds_the_same_tokens_in_the_same_order(mask):
    valid = draw(mask)
    layout = Layout.of(valid)
    x = torch.rand(*valid.shape, 2)
    tokens = layout.pack(x)
    assert torch.equal(tokens, x[valid])
    assert torch.equal(layout.unpack(tokens), x * valid[..., None])
    for wide in (layout, layout.in_one_row()):
        close = wide.closed_up()
        there = close.unpack(tokens)
        assert torch.equal(there[close.valid], tokens)
        assert torch.equal(close.pack(there), tokens)
        assert torch.equal(Layout.of(close.valid).rows, close.rows)
        # No date and no place that no sample needs, but one of each where nothing is valid.
        for axes in ((2,), (1,)):
            most = wide.valid.any(dim=axes).sum(dim=1).amax().clamp(min=1)
            assert close.valid.any(dim=axes).shape[1] == most
    # Whose token it is, and at which date and place relative to the others, is kept.
    owner = torch.arange(len(valid), dtype=torch.float64)
    expected = owner[:, None, None].expand(valid.shape)[valid]
    for wide in (layout, layout.closed_up(), layout.in_one_row().closed_up()):
        assert torch.equal(wide.per_token(owner)[:, 0], expected)


@given(MASKS)
@settings(deadline=None, max_examples=60)
def test_dates_and_places_of_a_closed_up_series_are_those_of_the_series(mask):
    valid = draw(mask)
    _, t, n = valid.shape
    layout = Layout.of(valid)
    close = layout.closed_up()
    places = torch.arange(n, dtype=torch.float64).expand(valid.shape)[..., None]
    dates = torch.arange(t, dtype=torch.float64)[:, None].expand(valid.shape)[..., None]
    for number, axis in ((places, 1), (dates, 2)):
        there = close.unpack(layout.pack(number))[..., 0]
        # All tokens of a place (or date) of the closed up series come from one of the series.
        highest = there.masked_fill(~close.valid, -1).amax(dim=axis, keepdim=True)
        lowest = there.masked_fill(~close.valid, math.inf).amin(dim=axis, keepdim=True)
        assert ((highest == lowest) | (highest < 0)).all()
        # Different ones come from different ones, in order.
        order = highest.flatten(1)
        for row in order:
            kept = row[row >= 0]
            assert (kept.diff() > 0).all()


def test_few_invalid_tokens_are_not_worth_packing():
    valid = torch.ones(1, 2, 50, dtype=torch.bool)
    assert worth_packing(valid) is None
    valid[0, 0, :5] = False
    assert worth_packing(valid) is None
    valid[0, 1] = False
    layout = worth_packing(valid)
    assert layout is not None
    assert layout.rows.tolist() == [*range(5, 50)]


# --- attention


@given(st.sampled_from(KINDS), st.sampled_from(["layer", "batch"]), MASKS)
@settings(deadline=None, max_examples=60)
def test_packed_attention_is_the_dense_at_valid_tokens(kind, norm, mask):
    valid = draw(mask)
    torch.manual_seed(0)
    attention = SpatiotemporalAttention(8, 2, kind, norm).double().eval()
    if attention.gate is not None:
        torch.nn.init.normal_(attention.gate.norm.weight)
    x = torch.randn(*valid.shape, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(x) * valid[..., None]
    layout = Layout.of(valid)
    close = (layout.in_one_row() if kind == "global" else layout).closed_up()

    def results(out):
        gradients = torch.autograd.grad((out * weight).sum(), [x, *attention.parameters()])
        return [out * valid[..., None], *gradients]

    dense = results(attention(x, valid))
    found = results(layout.unpack(attention(layout.pack(x), close.valid, close)))
    check_close(found, dense)


# --- the encoder


@given(
    st.sampled_from([("d-stga",) * 2 + ("global",) * 2, ("stga",) * 4, ("global",) * 4]),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([0.0, 0.05, 0.4, 0.8]),
    st.sampled_from(["token", "tube", "date", "sample"]),
)
@settings(deadline=None, max_examples=30)
def test_maps_and_gradients_are_those_of_the_dense_form(small_encoder, kinds, shape, share, scheme):
    encoder = small_encoder(attention=kinds)
    b, t, height, width = shape
    rows, columns = -(-height // 4), -(-width // 4)
    valid = draw((b, t, rows * columns, share, scheme, height * width))
    valid = pixels_of(valid.view(b, t, rows, columns), height, width)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(b, t, 3, height, width, generator=generator, dtype=torch.float64)
    dates = 18_000 + torch.rand(b, t, generator=generator, dtype=torch.float64) * 300
    results = []
    for on in (False, True):
        maps = encoder(x, dates, valid, packed=on)
        read = [m * seen_by(valid, s)[:, :, None] for m, s in zip(maps, STRIDES, strict=True)]
        loss = sum((m - 0.1).square().sum() for m in read)
        gradients = torch.autograd.grad(loss, list(encoder.parameters()), materialize_grads=True)
        results.append([*read, *gradients])
    check_close(*results)


def halves(series, **options):
    """A series that is valid in some 8 x 8 units."""
    x, dates, _ = series(missing=0.0, **options)
    generator = torch.Generator().manual_seed(5)
    b, t, _, height, width = x.shape
    units = torch.rand(b, t, -(-height // 8), -(-width // 8), generator=generator) < 0.2
    valid = units.repeat_interleave(8, -2).repeat_interleave(8, -1)[..., :height, :width]
    return x, dates, valid


def count_rows(encoder):
    """Rows that the first MLP layer of each stage gets, as they come."""
    counts = []
    for stage in encoder.stages:
        stage.blocks[0].mlp[0].register_forward_hook(
            lambda _, inputs, __: counts.append(inputs[0].shape[:-1].numel())
        )
    return counts


def test_blocks_get_the_valid_tokens_alone(small_encoder, series):
    encoder = small_encoder()
    counts = count_rows(encoder)
    x, dates, valid = halves(series, b=2, h=64, w=64)
    expected = [int(seen_by(valid, stride).sum()) for stride in STRIDES]
    maps = encoder(x, dates, valid, packed=True)
    assert counts[:2] == expected[:2]
    every = [2 * 3 * (64 // stride) ** 2 for stride in STRIDES]
    # What is nearly all valid is done as a whole.
    assert counts[3] == every[3]
    assert (maps[0] * ~seen_by(valid, 4)[:, :, None] == 0).all()
    counts.clear()
    encoder(x, dates, valid)
    assert counts == every


@pytest.mark.parametrize("seen", [None, True, False])
def test_nothing_is_packed_where_all_is_valid_and_nothing_breaks_where_nothing_is(
    small_encoder, series, seen
):
    encoder = small_encoder()
    x, dates, valid = series(b=2)
    valid = None if seen is None else torch.full_like(valid, seen)
    dense, found = (encoder(x, dates, valid, packed=on) for on in (False, True))
    for one, two in zip(found, dense, strict=True):
        assert torch.equal(one, torch.zeros_like(two) if seen is False else two)
    if seen is False:
        gradients = torch.autograd.grad(sum(m.sum() for m in found), encoder.stages.parameters())
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("fill", [math.nan, 1e30, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_invalid_changes_no_bit(small_encoder, series, always, kind, fill):
    encoder = small_encoder(attention=(kind,) * 4)
    x, dates, valid = halves(series, b=2, h=40, w=36)
    spoilt = torch.where(valid[:, :, None], x, fill)
    results = []
    for values in (x, spoilt):
        maps = encoder(values, dates, valid, packed=True)
        loss = sum(m.square().sum() for m in maps)
        results.append([*maps, *torch.autograd.grad(loss, list(encoder.parameters()))])
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_training_with_dropped_paths_is_the_same(small_encoder, series, always, checkpoint):
    options = {"drop_path": 0.5, "depths": (2, 1, 3, 1), "checkpoint": checkpoint}
    encoder = small_encoder(**options).train()
    x, dates, valid = halves(series, b=4)
    results = []
    for on in (False, True):
        torch.manual_seed(3)
        maps = encoder(x, dates, valid, packed=on)
        read = [m * seen_by(valid, s)[:, :, None] for m, s in zip(maps, STRIDES, strict=True)]
        loss = sum(m.square().sum() for m in read)
        results.append([*read, *torch.autograd.grad(loss, list(encoder.parameters()))])
    check_close(*results)


def test_a_path_is_dropped_for_whole_samples():
    valid = torch.rand(40, 2, 5) < 0.5
    layout, drop = Layout.of(valid), DropPath(0.25).train()
    out = layout.unpack(drop(torch.ones(len(layout.rows), 3), layout))
    kept = out.amax(dim=(1, 2, 3))
    assert kept.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(out, kept[:, None, None, None] * valid[..., None].expand_as(out))


@pytest.mark.parametrize("training", [False, True])
def test_batch_statistics_still_count_all_tokens(small_encoder, series, training):
    encoders = [small_encoder(norm="batch").train(training) for _ in range(2)]
    x, dates, valid = halves(series, b=2)
    counts = count_rows(encoders[1])
    maps = [e(x, dates, valid, packed=on) for e, on in zip(encoders, (False, True), strict=True)]
    for dense, found, stride in zip(*maps, STRIDES, strict=True):
        seen = seen_by(valid, stride)[:, :, None]
        check_close([found * seen], [dense * seen])
    for one, two in zip(*(e.buffers() for e in encoders), strict=True):
        assert torch.equal(one, two)
    assert (counts[0] == 2 * 3 * 64) == training


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_as_near_as_the_dense_form(small_encoder, series, always, kind):
    encoder = small_encoder(attention=(kind,) * 4).float()
    x, dates, valid = halves(series, b=2)
    exact = TiMoEncoder(encoder.config).double().eval()
    exact.load_state_dict(encoder.state_dict())
    expected = exact(x, dates, valid)
    x, errors = x.float(), []
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            maps = encoder(x, dates, valid, packed=on)
        away = [
            ((m - e) * seen_by(valid, s)[:, :, None]).square().mean()
            for m, e, s in zip(maps, expected, STRIDES, strict=True)
        ]
        errors.append(float(torch.stack(away).mean().sqrt().detach()))
        gradients = torch.autograd.grad(
            sum(m.float().square().mean() for m in maps), list(encoder.parameters())
        )
        assert all(gradient.isfinite().all() for gradient in gradients)
    assert errors[1] < 1.5 * errors[0] < 0.3


def test_the_same_step_twice_is_the_same_to_the_bit(small_encoder, series, always):
    encoder = small_encoder(drop_path=0.3).float().train()
    x, dates, valid = halves(series, b=3, h=64, w=48)
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        loss = sum(m.square().sum() for m in encoder(x.float(), dates, valid, packed=True))
        results.append(torch.autograd.grad(loss, list(encoder.parameters())))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


# --- masked image modelling


def autoencoder(unit, **options):
    small = {"dims": (16, 16, 16, 16), "depths": (1, 1, 2, 1), "heads": (1, 2, 2, 2)}
    encoder = EncoderConfig(in_channels=2, **(small | options))
    torch.manual_seed(0)
    config = MaskedConfig(encoder, ("B2", "B3"), (0.1, 0.2), (0.2, 0.3), unit=unit)
    model = MaskedAutoencoder(
        dataclasses.replace(config, decoder_dim=16, decoder_depth=1, decoder_heads=1)
    )
    return model.double().train()


@given(
    st.sampled_from([4, 8, 32]),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(8, 70)),
    st.sampled_from(["random", "tube", "date"]),
    st.sampled_from([0.0, 0.3]),
)
@settings(deadline=None, max_examples=25)
def test_the_loss_and_its_gradients_are_those_of_the_dense_form(unit, shape, scheme, missing):
    b, t, width = shape
    model = autoencoder(unit)
    generator = torch.Generator().manual_seed(width)
    x = torch.rand(b, t, 2, 40, width, generator=generator, dtype=torch.float64)
    x[(torch.rand(b, t, 1, 40, width, generator=generator) < missing).expand_as(x)] = math.nan
    present = torch.ones(t, -(-40 // unit), -(-width // unit), dtype=torch.bool)
    options = MaskOptions(0.75, **({"random": 0.0} | {scheme: 1.0}))
    hidden = torch.stack([draw_mask(present, options, generator) for _ in range(b)])
    results = []
    for most in (-1.0, packed.MOST):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(packed, "MOST", most)
            out = model(x, hidden)
        gradients = torch.autograd.grad(
            out.loss, list(model.parameters()), allow_unused=True, materialize_grads=True
        )
        results.append([out.loss, out.unit_loss, out.prediction, *gradients])
    check_close(*results)


def test_the_masked_autoencoder_packs(monkeypatch):
    model = autoencoder(8)
    asked = []
    monkeypatch.setattr(
        encoder_module, "worth_packing", lambda valid: asked.append(valid) or worth_packing(valid)
    )
    counts = count_rows(model.encoder)
    hidden = torch.ones(2, 3, 4, 4, dtype=torch.bool)
    hidden[:, :, 1, 2] = False
    out = model(torch.rand(2, 3, 2, 32, 32, dtype=torch.float64), hidden)
    assert len(asked) == 4
    assert counts == [2 * 3 * 4, 2 * 3, 2 * 3, 2 * 3]
    out.loss.backward()
    # Every process of a distributed training waits for the gradient of every parameter.
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_every_parameter_takes_part_where_nothing_is_seen():
    model = autoencoder(8)
    hidden = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    model(torch.rand(1, 2, 2, 32, 32, dtype=torch.float64), hidden).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# --- the benchmark


def test_the_benchmark_times_both_forms(tmp_path):
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "masked.py"
    command = [sys.executable, str(script), "--quick", "--threads", "1"]
    command += ["--json", str(tmp_path / "masked.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "masked.json").read_text())
    assert row["valid"][0] == 25.0
    assert all(
        row[f"{what} {form}"] > 0 for what in ("step", "encoder") for form in ("dense", "packed")
    )
    assert done.stdout.count("tiny") == 1
