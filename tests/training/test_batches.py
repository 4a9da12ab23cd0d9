"""Batches by number: shared out, resumed, and of chips of similar sizes; the tiles of a validation."""

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.places import Places, Split
from timo.training.batches import RUN, Batches, collate
from timo.training.inputs import Given
from timo.training.tiles import DATES, Tiles

SIZES = ((1, 1), (8, 8), (64, 64))


def mixed(number):
    """Return the size of a chip, by its number: of three shapes and many lengths."""
    epoch, index = number
    rng = np.random.default_rng([epoch, index])
    return (int(rng.integers(5, 60)), *SIZES[rng.integers(3)])


def padding(batches):
    """Return the values that batches take with their padding, in terms of those that their chips have."""
    sizes = [np.array([mixed(number) for number in batch]) for batch in batches]
    taken = sum(len(of) * of.max(axis=0).prod() for of in sizes)
    return taken / sum(of.prod(axis=1).sum() for of in sizes)


@pytest.mark.parametrize("count", [1, 40, 333])
def test_chips_of_similar_sizes_come_together_each_once(count):
    epochs = [list(Batches(lambda e=e: e * -(-count // 8), count, 8, sizes=mixed)) for e in (0, 1)]
    for epoch, batches in enumerate(epochs):
        assert sorted(chain(*batches)) == [(epoch, number) for number in range(count)]
        assert [len(batch) for batch in batches].count(8) == count // 8
    if count == 333:
        assert padding(epochs[0]) < 1.4
        assert padding(Batches(lambda: 0, count, 8)) > 3
        # A run of batches is not one of growing sizes.
        areas = [np.prod(mixed(batch[0])[1:]) for batch in epochs[0][:RUN]]
        assert areas != sorted(areas)


def test_the_order_depends_on_the_seed_and_the_epoch_alone():
    def order(done, seed=0):
        return list(Batches(lambda: done, 320, 8, sizes=mixed, seed=seed))

    assert order(0) == order(0)
    assert order(0) != order(0, seed=1)
    # A run that is resumed within an epoch goes on with the next batch.
    assert order(40 + 17) == order(40)[17:]


def test_chips_of_one_size_keep_their_order():
    alike = Batches(lambda: 0, 20, 8, sizes=lambda _: (3, 16, 16))
    assert list(alike) == list(Batches(lambda: 0, 20, 8))
    assert [len(batch) for batch in alike] == [8, 8, 4]


def test_what_pads_a_batch_is_neither_valid_nor_labelled():
    def chip(t, side, values):
        labels = torch.zeros(t, side, side, dtype=torch.float32 if values else torch.int64)
        ones = torch.ones(t, side, side)
        parcels = torch.zeros(side, side, dtype=torch.int64)
        chip = {"x": ones[:, None], "dates": ones[:, 0, 0], "valid": ones.bool(), "labels": labels}
        return chip | {"parcels": parcels, "place": torch.tensor(side)}

    for values in (False, True):
        batch = collate([chip(3, 4, values), chip(2, 1, values)])
        assert batch["x"].shape == (2, 3, 1, 4, 4)
        assert int(batch["valid"][1].sum()) == 2
        unlabelled = batch["labels"].isnan() if values else batch["labels"] == -1
        assert int((~unlabelled[1]).sum()) == 2
        assert int((batch["parcels"][1] >= 0).sum()) == 1
        assert batch["place"].tolist() == [4, 1]


# --- tiles


def tiles_of(given, *, per_date=True, unit="pixel", **options):
    config = SimpleNamespace(classes=("forest", "other"), per_date=per_date, unit=unit)
    return Tiles(given, 1, config, **{"size": 16, "dates": 48, "most": 1000, "seed": 0, **options})


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 50), size=st.sampled_from([7, 16, None]))
def test_each_labelled_pixel_of_a_part_lies_in_one_tile(height, width, size):
    from training_world import make_world

    cube, labels, _ = make_world(2, height, width)
    rng = np.random.default_rng(height * width)
    split = labels.copy(data=rng.integers(0, 3, labels.shape).astype("int8"))
    given_ = Given(Places([(cube, labels)]), Split([split]))
    seen = np.zeros(labels.shape, int)
    for tile in tiles_of(given_, size=size).tiles:
        seen[tile.rows, tile.columns] += tile.own
    np.testing.assert_array_equal(seen, split.values == 1)


def test_the_labels_of_a_tile_are_those_of_its_own_pixels(world):
    cube, labels, split = world
    tiles = tiles_of(Given(Places([(cube, labels)]), Split([split])))
    counts = sum(int((tiles[i]["labels"][0] >= 0).sum()) for i in range(len(tiles)))
    assert counts == int((split == 1).sum())
    assert torch.equal(tiles[0]["x"], tiles[0]["x"])
    assert {int(tiles[i]["place"]) for i in range(len(tiles))} == {0}


def test_a_tile_has_a_dozen_dates_with_labels_or_all_of_a_series(new_world):
    cube, labels, split = new_world(30, 16, 16)
    dated = labels.expand_dims(time=cube.time).copy()
    dated = dated.where(dated.time.isin(cube.time[::2]), -1).astype("int8")
    given_ = Given(Places([(cube, dated)]), Split([split]))
    chip = tiles_of(given_)[0]
    assert len(chip["dates"]) == DATES
    assert (chip["labels"] >= 0).flatten(1).any(dim=1).all()
    assert len(tiles_of(given_, per_date=False)[0]["dates"]) == 30
    assert len(tiles_of(given_, per_date=False, dates=20)[0]["dates"]) == 20


def test_of_many_places_some_are_drawn_and_only_those_are_opened(world):
    cube, labels, _ = world
    opened = []

    def open_cube(number):
        opened.append(number)
        return cube

    items = [(lambda n=n: open_cube(n), labels) for n in range(60)]
    given_ = Given(Places(items), Split([1] * 50 + [0] * 10))
    opened.clear()
    tiles = tiles_of(given_, most=6)
    assert len(tiles) == 6
    assert len(set(opened) - {0}) <= 6
    assert max(opened) < 50


def test_a_label_of_a_whole_place_is_judged_once(world):
    cube = world[0]
    label = xr.DataArray(np.int16(1), attrs={"classes": ["forest", "other"]})
    tiles = tiles_of(Given(Places([(cube, label)]), Split([1])), unit="chip", size=24)
    assert len(tiles) == 1
    chip = tiles[0]
    assert chip["x"].shape[-2:] == (24, 24)
    assert chip["labels"].unique().tolist() == [1]
