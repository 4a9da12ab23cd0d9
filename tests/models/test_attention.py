"""The attentions against their formulas, written out token by token."""

import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from timo.models.attention import (
    Gate,
    SpatiotemporalAttention,
    dstga,
    global_attention,
    median_over_time,
    stga,
)

few = settings(max_examples=25, deadline=None)


@st.composite
def tokens(draw, most=4):
    """Query, key, value (b, t, n, h, d) in float64 and valid (b, t, n)."""
    b, t, n, h, d = (draw(st.integers(1, m)) for m in (2, most, most, 2, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    q, k, v = torch.randn(3, b, t, n, h, d, generator=generator, dtype=torch.float64)
    flags = draw(st.lists(st.booleans(), min_size=b * t * n, max_size=b * t * n))
    return q, k, v, torch.tensor(flags).reshape(b, t, n)


def joint_softmax(logits, values):
    """Attention of one query, in plain numbers; zero where there is nothing to attend to."""
    if not logits:
        return None
    highest = max(logits)
    weights = [math.exp(logit - highest) for logit in logits]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def attend(q, v, valid, spatial, temporal):
    """One softmax over the places m of the own frame and the other dates s of the own place."""
    out = torch.zeros_like(v)
    sizes = (range(size) for size in q.shape[:4])
    for b, t, n, h in itertools.product(*sizes):
        places = [m for m in range(q.shape[2]) if valid[b, t, m]]
        dates = [s for s in range(q.shape[1]) if s != t and valid[b, s, n]]
        logits = [spatial(b, t, n, m, h) for m in places]
        logits += [temporal(b, t, s, n, h) for s in dates]
        values = [v[b, t, m, h] for m in places] + [v[b, s, n, h] for s in dates]
        mean = joint_softmax(logits, values)
        out[b, t, n, h] = 0.0 if mean is None else mean
    return out


def lower_median(x, valid):
    """Lower median over the valid dates of each place, number by number."""
    out = torch.zeros_like(x[:, 0])
    for b, n, h, d in itertools.product(*(range(size) for size in out.shape)):
        seen = [x[b, t, n, h, d].item() for t in range(x.shape[1]) if valid[b, t, n]]
        out[b, n, h, d] = statistics.median_low(seen) if seen else 0.0
    return out


def gate_by_hand(gate, deviation):
    """ReLU(norm(w . deviation)), the norm over all rows as in BatchNorm1d in training."""
    weight = gate.linear.weight[0].detach()
    rows = [float(row @ weight) for row in deviation.reshape(-1, deviation.shape[-1])]
    mean = statistics.fmean(rows)
    scale = math.sqrt(statistics.pvariance(rows, mean) + 1e-5)
    batch = isinstance(gate.norm, torch.nn.BatchNorm1d)
    gain, offset = gate.norm.weight.item(), gate.norm.bias.item()
    scalars = [((row - mean) / scale if batch else row) * gain + offset for row in rows]
    gated = torch.tensor([max(scalar, 0.0) for scalar in scalars], dtype=torch.float64)
    return gated.reshape(deviation.shape[:-1])


def make_gate(head_dim, norm, seed=0):
    gate = Gate(head_dim, norm).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in gate.parameters():
        parameter.data.normal_(generator=generator)
    return gate


@few
@given(tokens())
def test_stga_is_its_formula(drawn):
    q, k, v, valid = drawn
    expected = attend(
        q,
        v,
        valid,
        spatial=lambda b, t, n, m, h: float(q[b, t, n, h] @ k[b, t, m, h]),
        temporal=lambda b, t, s, n, h: float(q[b, t, n, h] @ k[b, s, n, h]),
    )
    torch.testing.assert_close(stga(q, k, v, valid), expected, rtol=0, atol=1e-10)


@few
@given(tokens(), st.sampled_from(["layer", "batch"]), st.integers(0, 100))
def test_dstga_is_its_formula(drawn, norm, seed):
    q, k, v, valid = drawn
    if norm == "batch" and q[..., 0].numel() == 1:
        return  # one row has no variance, torch refuses it
    gate = make_gate(q.shape[-1], norm, seed)
    q_median, k_median = lower_median(q, valid), lower_median(k, valid)
    deviation = gate_by_hand(gate, q - q_median[:, None])
    expected = attend(
        q,
        v,
        valid,
        spatial=lambda b, t, n, m, h: (
            float(q_median[b, n, h] @ k_median[b, m, h]) + float(deviation[b, t, n, h])
        ),
        temporal=lambda b, t, s, n, h: float(q[b, t, n, h] @ k[b, s, n, h]),
    )
    torch.testing.assert_close(dstga(q, k, v, valid, gate), expected, rtol=0, atol=1e-10)


@few
@given(tokens())
def test_global_attention_is_its_formula(drawn):
    q, k, v, valid = drawn
    expected = torch.zeros_like(v)
    b, t, n, h, d = q.shape
    for i, s, m, head in itertools.product(range(b), range(t), range(n), range(h)):
        seen = [place for place in itertools.product(range(t), range(n)) if valid[i][place]]
        logits = [float(q[i, s, m, head] @ k[i][place][head]) / math.sqrt(d) for place in seen]
        mean = joint_softmax(logits, [v[i][place][head] for place in seen])
        expected[i, s, m, head] = 0.0 if mean is None else mean
    torch.testing.assert_close(global_attention(q, k, v, valid), expected, rtol=0, atol=1e-10)


@few
@given(tokens(most=6))
def test_median_is_the_lower_one_of_the_valid_dates(drawn):
    x, _, _, valid = drawn
    assert torch.equal(median_over_time(x, valid), lower_median(x, valid))
    everything = torch.ones_like(valid)
    assert torch.equal(median_over_time(x, everything), x.median(dim=1).values)


@pytest.mark.parametrize("attention", [stga, global_attention])
def test_nothing_valid_gives_zero_and_finite_gradients(attention):
    q, k, v = torch.randn(3, 2, 3, 4, 2, 5, dtype=torch.float64).requires_grad_().unbind()
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[1] = False
    out = attention(q, k, v, valid)
    assert out[1].abs().max() == 0
    assert out[0].abs().min() > 0
    gradients = torch.autograd.grad(out.square().sum(), (q, k, v))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(gradient[1].abs().max() == 0 for gradient in gradients)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_dstga_gradients_are_those_of_its_values(norm):
    torch.manual_seed(0)
    inputs = torch.randn(3, 1, 3, 2, 1, 2, dtype=torch.float64).requires_grad_().unbind()
    valid = torch.tensor([[[True, True], [True, False], [True, True]]])
    gate = make_gate(2, norm)
    assert gradcheck(lambda q, k, v: dstga(q, k, v, valid, gate), inputs)


def test_values_and_keys_of_invalid_tokens_are_not_read():
    q, k, v = torch.randn(3, 1, 3, 4, 2, 5, dtype=torch.float64)
    valid = torch.rand(1, 3, 4) > 0.4
    gate = make_gate(5, "layer")
    other_k, other_v = (torch.where(valid[..., None, None], z, 1e6) for z in (k, v))
    for attention in (stga, global_attention, lambda *a: dstga(*a, gate)):
        assert torch.equal(attention(q, k, v, valid), attention(q, other_k, other_v, valid))


def test_every_head_and_kind_has_its_own_gate_or_none():
    shapes = {
        kind: {name: tuple(p.shape) for name, p in layer.named_parameters() if "gate" in name}
        for kind in ("d-stga", "stga", "global")
        for layer in [SpatiotemporalAttention(8, 2, kind, "batch")]
    }
    gate = {"gate.linear.weight": (1, 4), "gate.norm.weight": (1,), "gate.norm.bias": (1,)}
    assert shapes == {"d-stga": gate, "stga": {}, "global": {}}


def test_half_precision_stays_close():
    torch.manual_seed(0)
    layer = SpatiotemporalAttention(16, 2, "d-stga", "layer").eval()
    x, valid = torch.randn(2, 3, 9, 16), torch.rand(2, 3, 9) > 0.2
    with torch.no_grad():
        expected = layer(x, valid)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x, valid)
    assert (found.float() - expected).abs().max() < 0.03 * expected.abs().max()
