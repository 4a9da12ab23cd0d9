from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.places.chip import Chip
from timo.training.augment import blob, hide, rotate, splice

few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10_000)


def make_chip(t=4, h=12, w=12, seed=0, *, first=0, classes=2):
    """Values that all differ, labels and gaps at random."""
    rng = np.random.default_rng(seed)
    valid = rng.random((t, h, w)) < 0.8
    x = first + np.arange(1, t * 2 * h * w + 1, dtype="float32").reshape(t, 2, h, w)
    labels = rng.integers(-1, classes, (t, h, w)).astype("int16")
    return Chip(np.where(valid[:, None], x, np.float32(0)), np.arange(t) * 5.0, valid, labels)


def static(chip, labels):
    """The chip with labels that are the same at all dates."""
    return replace(chip, labels=np.broadcast_to(labels, chip.valid.shape))


# --- rotate


@few
@given(seed=seeds, h=st.integers(1, 6), w=st.integers(1, 6))
def test_rotate_moves_values_gaps_and_labels_alike(seed, h, w):
    rng = np.random.default_rng(seed)
    chip = make_chip(2, h, w, seed)
    chip = replace(chip, x=np.arange(4.0 * h * w).reshape(2, 2, h, w))
    turned = rotate(chip, rng)
    assert turned.x.shape == chip.x.shape
    assert (turned.dates == chip.dates).all()
    # All values differ: their order tells where each pixel went, on each date.
    for t in range(2):
        before, after = chip.x[t, 0].ravel(), turned.x[t, 0].ravel()
        assert sorted(before) == sorted(after)
        moved = np.searchsorted(before, after)
        for name in ("valid", "labels"):
            old, new = getattr(chip, name)[t].ravel(), getattr(turned, name)[t].ravel()
            assert (old[moved] == new).all()
        assert (chip.x[t, 1].ravel()[moved] == turned.x[t, 1].ravel()).all()


def test_rotate_gives_all_eight_symmetries_of_a_square_and_four_of_an_oblong():
    rng = np.random.default_rng(0)
    for shape, expected in (((3, 3), 8), ((3, 4), 4)):
        chip = make_chip(1, *shape)
        chip = replace(chip, labels=np.arange(np.prod(shape)).reshape(1, *shape))
        turned = {rotate(chip, rng).labels.tobytes() for _ in range(200)}
        assert len(turned) == expected


# --- hide


@few
@given(seed=seeds, share=st.sampled_from([0.1, 0.9, 1.0]))
def test_hide_only_takes_away_and_never_all(seed, share):
    rng = np.random.default_rng(seed)
    chip = make_chip(3, 4, 4, seed)
    less = hide(chip, rng.random(chip.valid.shape) < share, rng)
    assert not (less.valid & ~chip.valid).any()
    assert less.valid.any()
    assert (less.labels == chip.labels).all()
    kept = np.broadcast_to(less.valid[:, None], less.x.shape)
    assert (less.x[kept] == chip.x[kept]).all()
    assert (less.x[~kept] == 0).all()


def test_hide_takes_about_half_of_the_dates():
    chip = make_chip(1000, 2, 2)
    less = hide(chip, np.ones(chip.valid.shape, bool), np.random.default_rng(0))
    touched = (less.valid != chip.valid).any(axis=(1, 2))
    assert 400 < touched.sum() < 600


def test_a_chip_that_would_lose_its_last_observation_keeps_it():
    chip = make_chip(1, 3, 3)
    rng = np.random.default_rng(0)
    everything = np.ones(chip.valid.shape, bool)
    for _ in range(20):
        assert (hide(chip, everything, rng).valid == chip.valid).all()


# --- splice


@few
@given(seed=seeds, t=st.integers(1, 6))
def test_splice_brings_values_gaps_and_labels_of_one_class_from_one_date_on(seed, t):
    rng = np.random.default_rng(seed)
    chip = static(make_chip(t, 9, 9, seed, first=0), np.zeros((9, 9), "int16"))
    place = rng.integers(-1, 3, (9, 9)).astype("int16")
    other = static(make_chip(t, 9, 9, seed + 1, first=10_000), place)
    spliced = splice(chip, other, rng)
    assert (spliced.dates == chip.dates).all()
    # What was visible tells whose pixel it is; where neither is, the label tells only for another class.
    foreign = (spliced.x[:, 0] > 10_000) | (spliced.labels > 0)
    own = (spliced.x[:, 0] > 0) & (spliced.x[:, 0] < 10_000)
    assert not (foreign & own).any()
    if not foreign.any():
        return
    start = np.flatnonzero(foreign.any(axis=(1, 2)))[0]
    patch = foreign.any(axis=0)
    for name in ("valid", "labels"):
        new, old, theirs = (getattr(c, name) for c in (spliced, chip, other))
        assert (new[:start] == old[:start]).all()
        assert (new[start:, patch] == theirs[start:, patch]).all()
        assert (new[:, ~patch] == old[:, ~patch]).all()
    x = spliced.x.transpose(0, 2, 3, 1)
    assert (x[start:, patch] == other.x.transpose(0, 2, 3, 1)[start:, patch]).all()
    assert len(np.unique(place[patch])) == 1
    assert place[patch][0] >= 0


def test_splice_takes_the_class_that_the_chip_has_least_of():
    rng = np.random.default_rng(0)
    labels = np.zeros((9, 9), "int16")
    labels[:3] = 1
    chip = static(make_chip(4, 9, 9), labels)
    other = static(make_chip(4, 9, 9, first=10_000), labels.T)
    seen = np.zeros((9, 9), bool)
    for _ in range(40):
        seen |= (splice(chip, other, rng).x[:, 0] > 10_000).any(axis=0)
    assert seen.any()
    assert (labels.T[seen] == 1).all()


def test_splice_leaves_pixels_that_change_on_their_own():
    """A pixel that bears two classes in time is not a patch of one class."""
    rng = np.random.default_rng(0)
    chip = static(make_chip(4, 9, 9), np.zeros((9, 9), "int16"))
    labels = np.zeros((4, 9, 9), "int16")
    labels[2:] = 1
    other = replace(make_chip(4, 9, 9, first=10_000), labels=labels)
    for _ in range(20):
        assert (splice(chip, other, rng).x == chip.x).all()


def test_nothing_is_spliced_from_a_place_without_labels():
    chip = make_chip()
    other = static(make_chip(), np.full((12, 12), -1, "int16"))
    assert splice(chip, other, np.random.default_rng(0)) is chip


# --- blob


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_a_blob_covers_its_share_in_few_pieces(share):
    for seed in range(5):
        mask = blob((32, 40), np.random.default_rng(seed), share)
        assert mask.shape == (32, 40)
        assert mask.mean() == pytest.approx(share, abs=0.01)
        # Noise pixel by pixel would change sides at 2 x share x (1 - share) of the borders.
        assert (mask[1:] != mask[:-1]).mean() < share * (1 - share)
