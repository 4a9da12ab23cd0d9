"""The fused attentions against their formulas, and what they promise beside: memory, precision, independence."""

import plain_attention as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from timo.models import fused, spatial, temporal
from timo.models.attention import Gate, SpatiotemporalAttention, dstga, median_over_time, stga

few = settings(max_examples=40, deadline=None)
SCALES = [0.3, 3.0, 40.0]


def make_gate(head_dim):
    gate = Gate(head_dim, "layer").double()
    generator = torch.Generator().manual_seed(1)
    for parameter in gate.parameters():
        parameter.data.normal_(generator=generator)
    return gate


def both(kind, gate):
    """The fused and the plain form of an attention, as functions of q, k, v and valid."""
    if kind == "stga":
        return stga, plain.stga
    return (lambda *x: dstga(*x, gate)), (lambda *x: plain.dstga(*x, gate))


def draw(*shape, scale=1.0, missing=0.3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, *shape, generator=generator, dtype=dtype) * scale
    return x, torch.rand(shape[:3], generator=generator) >= missing


@pytest.fixture(params=["one pass", "many passes"])
def passes(request, monkeypatch):
    """Small sizes fit in one pass; the same with passes of few rows, few places and one group."""
    if request.param == "many passes":
        few_passes(monkeypatch)


def few_passes(monkeypatch):
    monkeypatch.setitem(spatial._PASS, "cpu", 1)
    monkeypatch.setitem(temporal._PASS, "cpu", 1)


def run(attention, x, valid, weights, parameters=()):
    """Output, and gradients of x and the parameters."""
    x = x.detach().requires_grad_()
    out = attention(*x, valid)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [x, *parameters])]


def assert_equal_in_values_and_gradients(kind, x, valid, scale=1.0):
    gate = make_gate(x.shape[-1])
    parameters = [] if kind == "stga" else list(gate.parameters())
    weights = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(2)).to(x)
    found, expected = (run(form, x, valid, weights, parameters) for form in both(kind, gate))
    for one, other in zip(found, expected, strict=True):
        # Rounding grows with the logits, which are of the order of scale^2.
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11 * (1 + scale**2))


@pytest.mark.parametrize("kind", ["stga", "d-stga"])
@few
@given(
    shape=st.tuples(*(st.integers(1, most) for most in (2, 5, 21, 2, 4))),
    scale=st.sampled_from(SCALES),
    missing=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    small=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_fused_equals_plain(*, kind, shape, scale, missing, small, seed):
    x, valid = draw(*shape, scale=scale, missing=missing, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            few_passes(patch)
        assert_equal_in_values_and_gradients(kind, x, valid, scale)


@pytest.mark.parametrize("kind", ["stga", "d-stga"])
def test_empty_dates_and_places_and_samples(passes, kind):
    x, valid = draw(3, 4, 9, 2, 3)
    valid[0, 1], valid[1, :, 2:5], valid[2] = False, False, False
    assert_equal_in_values_and_gradients(kind, x, valid)


def where_the_maximum_is_hidden(logit):
    """Queries whose logit with place 0 is `logit`, and about one with the others; place 0 is hidden at date 1."""
    x, valid = draw(2, 3, 40, 2, 4, missing=0.0)
    # No date like another: of equal ones it is not said which is the median, and gets its gradient.
    date = 1 + 1e-3 * torch.arange(3.0, dtype=x.dtype)[:, None]
    x[0, ..., 0] = x[1, ..., 0] = date[..., None]
    x[1, :, :, 0, :, 0] = logit * date
    valid[0, 1, 0] = False
    return x, valid


@pytest.mark.parametrize("kind", ["stga", "d-stga"])
@pytest.mark.parametrize("logit", [300.0, 1000.0, -1000.0])
def test_a_date_whose_strongest_keys_are_hidden(passes, kind, logit):
    x, valid = where_the_maximum_is_hidden(logit)
    assert_equal_in_values_and_gradients(kind, x, valid, scale=abs(logit) ** 0.5)


def test_such_rows_and_no_others_are_computed_date_by_date(monkeypatch):
    x, valid = where_the_maximum_is_hidden(1000.0)
    taken = []
    original = spatial._forward_date_by_date
    monkeypatch.setattr(
        spatial,
        "_forward_date_by_date",
        lambda one, *rest: (taken.append(one), original(one, *rest)),
    )
    dstga(*x, valid, make_gate(4))
    assert taken == [slice(0, 1)]
    dstga(*x, torch.ones_like(valid), make_gate(4))
    stga(*x, valid)
    assert taken == [slice(0, 1)]


def test_float32_is_as_close_as_float32_gets(passes):
    x, valid = where_the_maximum_is_hidden(200.0)
    gate = make_gate(4)
    expected = plain.dstga(*x, valid, gate)
    found = dstga(*x.float(), valid, gate.float())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("fill", [float("nan"), float("inf"), 1e30, -5.0])
def test_what_stands_in_invalid_keys_and_values_changes_no_bit(passes, fill):
    x, valid = draw(2, 3, 30, 2, 4, missing=0.4, dtype=torch.float32)
    valid[0, 1] = False
    gate, hidden = make_gate(4).float(), ~valid[..., None, None]
    weights = torch.randn(x.shape[1:])
    for kind in ("stga", "d-stga"):
        attention, _ = both(kind, gate)
        results = []
        for value in (0.0, fill):
            q, k, v = x.clone().requires_grad_().unbind()
            inputs = (q, *(z.detach().masked_fill(hidden, value) for z in (k, v)))
            inputs = [z.detach().requires_grad_() for z in inputs]
            out = attention(*inputs, valid)
            results.append([out, *torch.autograd.grad((out * weights).sum(), inputs)])
        assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("fill", [1e30, -5.0])
def test_what_stands_in_invalid_queries_changes_no_other_token(passes, fill):
    x, valid = draw(2, 3, 30, 2, 4, missing=0.4, dtype=torch.float32)
    gate = make_gate(4).float()
    other = torch.where(valid[..., None, None], x[0], fill)
    for attention in (both("stga", gate)[0], both("d-stga", gate)[0]):
        found, expected = attention(other, *x[1:], valid), attention(*x, valid)
        assert torch.equal(found[valid], expected[valid])


@pytest.mark.parametrize("kind", ["stga", "d-stga"])
def test_a_gap_in_one_sample_changes_no_bit_of_its_neighbours(passes, kind):
    x, valid = where_the_maximum_is_hidden(500.0)
    x, valid = x.repeat(1, 2, 1, 1, 1, 1), valid.repeat(2, 1, 1)
    x[:, 1:] += torch.randn(3, 3, 3, 40, 2, 4, dtype=x.dtype)
    attention, _ = both(kind, make_gate(4))
    weights = torch.randn(x.shape[1:], dtype=x.dtype)
    other = valid.clone()
    other[0] = torch.rand(other[0].shape) > 0.5
    other[1:] = valid[1:] = True
    with_gap, without = (run(attention, x, v, weights) for v in (other, valid))
    assert not torch.equal(with_gap[0][0], without[0][0])
    assert torch.equal(with_gap[0][1:], without[0][1:])
    assert torch.equal(with_gap[1][:, 1:], without[1][:, 1:])


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation gave."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, list | tuple) else [out]:
            if isinstance(x, torch.Tensor):
                self.count = max(self.count, x.untyped_storage().nbytes() // x.element_size())
        return out


@pytest.mark.parametrize("groups", [1, 3])
def test_no_tensor_of_all_logits(monkeypatch, groups):
    b, t, n, h, d = 1, 3, 400, 2, 4
    monkeypatch.setitem(spatial._PASS, "cpu", 20 * n * h * 4)
    x, valid = draw(b, t, n, h, d, dtype=torch.float32)
    q, k, v = (z.clone() for z in x)
    sq, sk = q.flatten(0, 1)[:groups], k.flatten(0, 1)[:groups]
    offset, gradient = torch.rand(b, t, n, h), torch.randn(b, t, n, h, d)
    with Largest() as largest:
        out, lse = fused.attend(sq, sk, q, k, v, offset, valid)
        fused.differentiate(gradient, out, lse, sq, sk, q, k, v, offset, valid)
    assert largest.count < 20 * n * h + 1
    assert largest.count < b * h * n * n / 10


@pytest.mark.parametrize("kind", ["stga", "d-stga"])
def test_logits_of_half_precision_inputs_are_not_in_half_precision(kind):
    """Of inputs that bfloat16 holds exactly, only the output is rounded: logits of 100 would be off by 0.25."""
    x, valid = draw(1, 3, 50, 2, 8, scale=4.0, dtype=torch.bfloat16)
    gate = make_gate(8)
    q_median = median_over_time(x[0], valid)
    offset = gate((x[0] - q_median[:, None]).double()).bfloat16()
    spatial_inputs = (x[0], x[1]) if kind == "stga" else None
    results = []
    for cast in (torch.bfloat16, torch.float64):
        y = x.to(cast).requires_grad_()
        if spatial_inputs:
            groups = (y[0].flatten(0, 1), y[1].flatten(0, 1))
            out = fused.gyroscope(*groups, *y, None, valid)
        else:
            groups = (median_over_time(y[0], valid), median_over_time(y[1], valid))
            out = fused.gyroscope(*groups, *y, offset.to(cast), valid)
        (gradient,) = torch.autograd.grad(out.square().sum(), y)
        assert out.dtype == gradient.dtype == cast
        results.append((out.detach().double(), gradient.double()))
    (out, gradient), (expected, expected_gradient) = results
    assert (out - expected).abs().max() < 0.005 * expected.abs().max()
    assert (gradient - expected_gradient).abs().max() < 0.03 * expected_gradient.abs().max()


@pytest.mark.parametrize("kind", ["stga", "d-stga", "global"])
def test_autocast_stays_close_to_float32(kind):
    torch.manual_seed(0)
    layer = SpatiotemporalAttention(16, 2, kind, "layer").eval()
    x, valid = torch.randn(2, 3, 25, 16, requires_grad=True), torch.rand(2, 3, 25) > 0.2
    results = []
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            out = layer(x, valid)
        loss = out.float().square().mean()
        results.append([out.float(), *torch.autograd.grad(loss, [x, *layer.parameters()])])
    for expected, found in zip(*results, strict=True):
        assert (found - expected).norm() < 0.03 * expected.norm() + 1e-6


def test_stga_gradients_are_those_of_its_values():
    x, valid = draw(1, 3, 4, 2, 2)
    assert gradcheck(lambda q, k, v: stga(q, k, v, valid), x.requires_grad_().unbind())


@pytest.mark.parametrize("with_offset", [True, False])
def test_the_operator_keeps_what_torch_expects_of_one(with_offset):
    """Schema, fake tensors, registration of the gradient and tracing, with and without dynamic shapes."""
    x, valid = draw(1, 2, 3, 1, 2, dtype=torch.float32)
    q, k, v = x.requires_grad_().unbind()
    offset = torch.rand(1, 2, 3, 1, requires_grad=True) if with_offset else None
    arguments = (q[:, 0], k[:, 0], q, k, v, offset, valid)
    results = torch.library.opcheck(torch.ops.timo.gyroscope.default, arguments)
    assert set(results.values()) == {"SUCCESS"}


def test_a_second_derivative_is_refused():
    x, valid = draw(1, 2, 3, 1, 2)
    q, k, v = x.requires_grad_().unbind()
    (gradient,) = torch.autograd.grad(stga(q, k, v, valid).square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        gradient.sum().backward()
