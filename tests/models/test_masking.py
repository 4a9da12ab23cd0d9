"""What masks may and may not hide."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.models.masking import MaskOptions, draw_mask, units_with_any

RATIOS = st.floats(0.01, 0.99)
SIZES = st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 6))
SEEDS = st.integers(0, 2**32)
CHANCES = {"random": (1.0, 0.0, 0.0), "tube": (0.0, 1.0, 0.0), "date": (0.0, 0.0, 1.0)}


def units(shape, seed, share=0.7):
    """Units with an observation: some, all or none."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def draw(present, seed, ratio=0.75, scheme="random"):
    options = MaskOptions(ratio, *CHANCES[scheme])
    return draw_mask(present, options, torch.Generator().manual_seed(seed))


def expected(count, ratio):
    return min(max(round(ratio * count), 1), count - 1)


@given(SIZES, SEEDS, RATIOS, st.sampled_from(sorted(CHANCES)), st.sampled_from([0.0, 0.3, 1.0]))
@settings(deadline=None)
def test_only_what_is_there_is_hidden_and_something_is_left(shape, seed, ratio, scheme, share):
    present = units(shape, seed, share)
    hidden = draw(present, seed, ratio, scheme)
    assert hidden.shape == present.shape
    assert hidden.dtype == torch.bool
    assert not (hidden & ~present).any()
    if present.sum() >= 2:
        assert hidden.any()
        assert (present & ~hidden).any()
    else:
        assert not hidden.any()


@given(SIZES, SEEDS, RATIOS)
@settings(deadline=None)
def test_the_share_hidden_at_random_is_the_ratio(shape, seed, ratio):
    present = units(shape, seed)
    count = int(present.sum())
    if count >= 2:
        assert int(draw(present, seed, ratio).sum()) == expected(count, ratio)


@given(SIZES, SEEDS, RATIOS)
@settings(deadline=None)
def test_a_tube_is_the_same_places_at_all_dates(shape, seed, ratio):
    present = units(shape, seed)
    places = present.any(dim=0)
    if places.sum() < 2:
        return
    hidden = draw(present, seed, ratio, "tube")
    tube = hidden.any(dim=0)
    assert torch.equal(hidden, tube & present)
    assert int(tube.sum()) == expected(int(places.sum()), ratio)


@given(SIZES, SEEDS, RATIOS)
@settings(deadline=None)
def test_dates_are_hidden_whole(shape, seed, ratio):
    present = units(shape, seed)
    dates = present.flatten(1).any(dim=1)
    if dates.sum() < 2:
        return
    hidden = draw(present, seed, ratio, "date")
    gone = hidden.flatten(1).any(dim=1)
    assert torch.equal(hidden, gone[:, None, None] & present)
    assert int(gone.sum()) == expected(int(dates.sum()), ratio)


@pytest.mark.parametrize(("scheme", "shape"), [("tube", (5, 1, 1)), ("date", (1, 4, 4))])
def test_where_a_scheme_would_hide_all_single_units_are_hidden(scheme, shape):
    hidden = draw(torch.ones(shape, dtype=torch.bool), 0, 0.5, scheme)
    assert int(hidden.sum()) == expected(hidden.numel(), 0.5)


@given(SIZES, SEEDS)
@settings(deadline=None, max_examples=30)
def test_a_mask_depends_on_its_generator_alone(shape, seed):
    present, options = units(shape, seed), MaskOptions(0.5, 1.0, 1.0, 1.0)
    torch.manual_seed(seed % 1000)
    one = draw_mask(present, options, torch.Generator().manual_seed(seed))
    before = torch.get_rng_state()
    two = draw_mask(present, options, torch.Generator().manual_seed(seed))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_unit_is_hidden_as_often_and_every_scheme_is_drawn():
    present = torch.ones(4, 4, 4, dtype=torch.bool)
    generator, options = torch.Generator().manual_seed(0), MaskOptions(0.5, 1.0, 1.0, 1.0)
    masks = torch.stack([draw_mask(present, options, generator) for _ in range(600)])
    often = masks.float().mean(dim=0)
    # Four standard deviations of the mean of 600 draws.
    assert (often - 0.5).abs().max() < 4 * 0.5 / 600**0.5
    tubes = (masks == masks[:, :1]).flatten(1).all(dim=1).float().mean()
    dates = (masks == masks[..., :1, :1]).flatten(1).all(dim=1).float().mean()
    assert abs(tubes - 1 / 3) < 0.08
    assert abs(dates - 1 / 3) < 0.08


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 2, 8]), SEEDS)
@settings(deadline=None)
def test_a_unit_with_any_pixel_is_one(t, i, j, unit, seed):
    pixels = units((t, i * unit, j * unit), seed, 0.1)
    found = units_with_any(pixels, unit)
    for index in torch.cartesian_prod(torch.arange(t), torch.arange(i), torch.arange(j)).reshape(
        -1, 3
    ):
        d, row, column = index.tolist()
        cell = pixels[d, row * unit : (row + 1) * unit, column * unit : (column + 1) * unit]
        assert found[d, row, column] == cell.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "above 0 and below 1; got 0"),
        ({"ratio": 1.0}, "above 0 and below 1; got 1"),
        ({"random": 0.0}, "random, tube and date are all 0"),
        ({"tube": -1.0}, "tube must be a number of 0 or more; got -1"),
    ],
)
def test_options_that_make_no_sense_are_told(options, message):
    with pytest.raises(TimoError, match=message):
        MaskOptions(**options)
