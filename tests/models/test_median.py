"""The median over time: a sorting network against sorting."""

import itertools

import plain_attention as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.models import median
from timo.models.median import comparators, median_over_time


@pytest.mark.parametrize("count", range(1, 13))
def test_the_network_orders_everything_up_to_the_lower_median(count):
    """A network that sorts all sequences of zeros and ones sorts everything (Knuth 5.3.4, theorem Z)."""
    for sequence in itertools.product((0, 1), repeat=count):
        values = list(sequence)
        for i, j in comparators(count):
            assert i < j
            values[i], values[j] = min(values[i], values[j]), max(values[i], values[j])
        half = (count + 1) // 2
        assert values[:half] == sorted(sequence)[:half]


@pytest.fixture(params=["all at once", "pair by pair"], autouse=True, scope="module")
def way(request):
    """The two ways in which it is computed: of few numbers, and of many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(median, "_FEW", 10**9 if request.param == "all at once" else 0)
        yield


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, most) for most in (2, 40, 5, 2, 3))),
    missing=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    cache=st.sampled_from([1, 50, 10**6]),
    seed=st.integers(0, 1000),
)
def test_it_is_what_sorting_gives(shape, missing, dtype, cache, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    valid = torch.rand(shape[:3], generator=generator) >= missing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(median, "_IN_CACHE", cache)
        found = median_over_time(x, valid)
        read = median_over_time(x.masked_fill(~valid[..., None, None], float("nan")), valid)
    assert torch.equal(found, plain.median_over_time(x, valid))
    assert torch.equal(found, read)


@pytest.mark.parametrize("t", [1, 2, 3, 8, 11])
def test_its_gradient_is_that_of_sorting(t):
    x = torch.randn(2, t, 6, 2, 3, dtype=torch.float64, requires_grad=True)
    valid = torch.rand(2, t, 6) > 0.3
    weights = torch.randn(2, 6, 2, 3, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((form(x, valid) * weights).sum(), x)[0]
        for form in (median_over_time, plain.median_over_time)
    )
    assert torch.equal(found, expected)


def test_of_equal_dates_one_gets_the_gradient():
    x = torch.ones(1, 4, 1, 1, 1, requires_grad=True)
    valid = torch.tensor([False, True, True, True])[None, :, None]
    median_over_time(x, valid).backward()
    assert x.grad.flatten().tolist() == [0, 1, 0, 0]


def test_the_operator_keeps_what_torch_expects_of_one():
    x, valid = torch.randn(1, 3, 2, 1, 2, requires_grad=True), torch.rand(1, 3, 2) > 0.2
    results = torch.library.opcheck(torch.ops.timo.lower_median.default, (x, valid))
    assert set(results.values()) == {"SUCCESS"}
