"""The course of the year at a pixel."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.models.profile import yearly_profile

YEAR = 365.2425


def by_hand(values, seen, dates, parts):
    """Mean of each part of the year, gaps by numpy's periodic interpolation: (parts, f) of one pixel."""
    part = ((dates % YEAR) * (parts / YEAR)).astype(int).clip(max=parts - 1)
    means = np.full((parts, values.shape[1]), np.nan)
    for k in range(parts):
        if (inside := seen & (part == k)).any():
            means[k] = values[inside].mean(axis=0)
    known = np.flatnonzero(np.isfinite(means[:, 0]))
    if not len(known):
        return np.zeros_like(means)
    columns = [
        np.interp(np.arange(parts), known, column[known], period=parts) for column in means.T
    ]
    return np.stack(columns, axis=1)


@given(st.integers(1, 30), st.integers(1, 26), st.floats(0, 1), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_profile_is_the_mean_of_each_part_with_straight_lines_between(t, parts, share, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, t, 3, 2, 2, generator=generator)
    seen = torch.rand(2, t, 2, 2, generator=generator) < share
    dates = torch.randint(15000, 19000, (2, t), generator=generator)
    found = yearly_profile(values, seen, dates, parts)
    assert found.shape == (2, parts, 3, 2, 2)
    for b in range(2):
        expected = by_hand(
            values[b, :, :, 0, 1].numpy(), seen[b, :, 0, 1].numpy(), dates[b].numpy(), parts
        )
        np.testing.assert_allclose(found[b, :, :, 0, 1].numpy(), expected, atol=1e-5)


def test_what_is_not_seen_and_the_order_of_dates_change_nothing():
    generator = torch.Generator().manual_seed(0)
    values, seen = torch.randn(1, 9, 2, 3, 3, generator=generator), torch.rand(1, 9, 3, 3) < 0.6
    dates = torch.arange(17000, 17450, 50)[None]
    before = yearly_profile(values, seen, dates)
    other = torch.where(seen[:, :, None], values, 1e6)
    torch.testing.assert_close(before, yearly_profile(other, seen, dates), atol=0, rtol=0)
    order = torch.randperm(9, generator=generator)
    torch.testing.assert_close(
        before, yearly_profile(values[:, order], seen[:, order], dates[:, order])
    )


def test_december_comes_before_january():
    """A gap over the new year is bridged, and not filled with the value of the summer."""
    values = torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1, 1)
    seen, first = torch.ones(1, 2, 1, 1, dtype=torch.bool), 17532  # 2018-01-01
    dates = torch.tensor([[first + 45, first + 320]])  # of 12 parts the second and the eleventh
    found = yearly_profile(values, seen, dates, 12)[0, :, 0, 0, 0]
    assert float(found[1]) == 1
    assert float(found[10]) == 3
    assert float(found[11]) == torch.tensor(3 - 2 / 3)
    assert float(found[0]) == torch.tensor(3 - 4 / 3)
