"""Laws of the masks: what may be hidden, how much of it, and on what the draw depends."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.models.masking import MaskOptions, draw_mask, units_with_any

few = settings(max_examples=40, deadline=None)
SCHEMES = {
    "random": MaskOptions(0.5, random=1.0),
    "tube": MaskOptions(0.5, random=0.0, tube=1.0),
    "date": MaskOptions(0.5, random=0.0, date=1.0),
}


def draw(present, options, seed=0):
    return draw_mask(present, options, torch.Generator().manual_seed(seed))


@st.composite
def units(draw):
    """Whether the units of a series have an observation (t, i, j)."""
    shape = [draw(st.integers(1, most)) for most in (5, 4, 4)]
    flags = draw(st.lists(st.booleans(), min_size=1, max_size=80))
    count = shape[0] * shape[1] * shape[2]
    return torch.tensor((flags * count)[:count]).reshape(shape)


@few
@given(units(), st.sampled_from(sorted(SCHEMES)), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_something_present_is_hidden_and_something_left(present, scheme, ratio, seed):
    options = MaskOptions(ratio, **{"random": 0.0, scheme: 1.0})
    hidden = draw(present, options, seed)
    assert not (hidden & ~present).any()
    if present.sum() >= 2:
        assert hidden.any()
        assert (present & ~hidden).any()
    else:
        assert not hidden.any()
    assert torch.equal(hidden, draw(present, options, seed))


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.75])
def test_the_share_of_units_hidden_is_the_ratio(ratio):
    hidden = draw(torch.ones(10, 4, 5, dtype=torch.bool), MaskOptions(ratio))
    assert hidden.sum() == 200 * ratio


def test_a_tube_is_the_same_places_at_all_dates():
    hidden = draw(torch.ones(6, 4, 4, dtype=torch.bool), SCHEMES["tube"])
    assert torch.equal(hidden, hidden[:1].expand_as(hidden))
    assert hidden[0].sum() == 8


def test_a_date_is_hidden_whole():
    hidden = draw(torch.ones(6, 4, 4, dtype=torch.bool), SCHEMES["date"])
    assert hidden.flatten(1).all(dim=1).sum() == 3
    assert hidden.flatten(1).any(dim=1).sum() == 3


@pytest.mark.parametrize(("scheme", "shape"), [("tube", (5, 1, 1)), ("date", (1, 3, 3))])
def test_a_single_place_or_date_falls_back_to_single_units(scheme, shape):
    hidden = draw(torch.ones(shape, dtype=torch.bool), SCHEMES[scheme])
    assert 0 < hidden.sum() < hidden.numel()


def test_the_schemes_are_drawn_as_often_as_asked():
    present = torch.ones(4, 4, 4, dtype=torch.bool)
    options = MaskOptions(0.5, random=1.0, tube=1.0, date=2.0)
    drawn = [draw(present, options, seed) for seed in range(200)]
    dates = sum(bool((h.flatten(1).all(1) | ~h.flatten(1).any(1)).all()) for h in drawn)
    tubes = sum(torch.equal(h, h[:1].expand_as(h)) for h in drawn)
    assert 75 <= dates <= 125
    assert 30 <= tubes <= 70


def test_a_unit_counts_when_any_pixel_of_it_does():
    pixels = torch.zeros(2, 4, 6, dtype=torch.bool)
    pixels[1, 3, 2] = True
    expected = torch.zeros(2, 2, 3, dtype=torch.bool)
    expected[1, 1, 1] = True
    assert torch.equal(units_with_any(pixels, 2), expected)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2, 1.5])
def test_a_ratio_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(TimoError, match="ratio of hidden units lies between 0 and 1"):
        MaskOptions(ratio)


@pytest.mark.parametrize("chances", [{"random": 0.0}, {"date": -1.0}])
def test_chances_that_are_none_are_refused(chances):
    with pytest.raises(TimoError, match="at least one above 0"):
        MaskOptions(**chances)
