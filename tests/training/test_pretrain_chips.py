"""Unlabelled windows, their masks and their batches: each depends on its number alone."""

import dataclasses
from itertools import chain

import numpy as np
import pytest
import torch
from test_pretrain import CONFIG

from timo.errors import TimoError
from timo.models.masking import MaskOptions
from timo.places import Places, Split
from timo.training import WindowOptions, Windows
from timo.training.batches import Batches, collate
from timo.training.pretraining import MaskedChips, new_autoencoder
from timo.training.pretraining.masked import scored_pixels
from timo.training.pretraining.source import _split


def windows(world, area=None, length=20, seed=0, **options):
    parts = {} if area is None else {"part": 0, "split": Split([np.where(area, 0, -1)])}
    options = WindowOptions(**{"size": 16, **options})
    return Windows(Places([world[0]]), length, options, seed, labelled=False, **parts)


def masked(world, seed=0, **options):
    return MaskedChips(windows(world, seed=seed, **options), MaskOptions(), 8, seed)


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in ("x", "dates", "valid", "hidden"))


def test_a_chip_depends_on_the_seed_the_epoch_and_its_number_alone(world):
    one, two = masked(world), masked(world)
    for number in reversed(range(5)):
        two[1, number]
    for number in range(5):
        assert equal(one[1, number], two[1, number])
    assert not equal(one[1, 0], one[2, 0])
    assert not equal(one[1, 0], one[1, 1])
    assert not equal(one[1, 0], masked(world, seed=1)[1, 0])


def test_a_window_is_a_window_of_the_cube(world):
    """Without turns, each pixel is found where it was; what is invalid is zero."""
    cube = world[0]
    chips = windows(world, dates=(3, 3), rotate=False)
    days = (cube.time.values.astype("datetime64[D]")).astype("float32")
    for number in range(20):
        chip = {name: value.numpy() for name, value in chips[number].items()}
        assert set(chip) == {"x", "dates", "valid"}
        assert chip["x"].shape == (3, 2, 16, 16)
        when = np.searchsorted(days, chip["dates"])
        assert (days[when] == chip["dates"]).all()
        strips = np.lib.stride_tricks.sliding_window_view(cube.values[when], (16, 16), axis=(2, 3))
        there = np.where(chip["valid"][:, None], chip["x"], np.nan)
        found = np.all(
            (strips == there[:, :, None, None])
            | (np.isnan(strips) & np.isnan(there[:, :, None, None])),
            axis=(0, 1, 4, 5),
        )
        assert found.sum() == 1
        assert (chip["x"][:, 0][~chip["valid"]] == 0).all()


def test_what_may_not_be_seen_is_invalid_everywhere(world):
    """A pixel's number as its value tells where it comes from."""
    height, width = world[0].shape[-2:]
    number = np.arange(height * width, dtype="float32").reshape(height, width)
    cube = world[0].copy(data=np.broadcast_to(number, world[0].shape).copy())
    del cube.attrs["sensor"]  # by which such values would be refused
    area = (np.arange(height)[:, None] // 8 + np.arange(width)[None] // 8) % 2 == 0
    seen = np.zeros(height * width, bool)
    for chip in (windows((cube,), area, 60)[i] for i in range(60)):
        assert chip["valid"].any()
        seen[chip["x"][:, 0][chip["valid"]].long().numpy()] = True
    assert not (seen.reshape(area.shape) & ~area).any()
    assert (seen.reshape(area.shape) & area).sum() > 0.95 * area.sum()


def test_dates_are_clear_enough_of_what_may_be_seen(world):
    """Half a window in an excluded block does not make its dates cloudy."""
    cube = world[0].fillna(0.1)
    area = np.zeros(cube.shape[-2:], bool)
    area[:, :5] = True
    chips = windows((cube,), area, min_clear=1.0, dates=(8, 8))
    assert all(chips[i]["x"].shape[0] == 8 for i in range(10))


def test_smaller_cubes_give_smaller_chips_and_none_gives_whole_ones(new_world):
    small = new_world(4, 10, 30)[0]
    assert windows((small,), dates=(2, 2), rotate=False)[0]["x"].shape == (2, 2, 10, 16)
    assert windows((small,), dates=(2, 2), rotate=False, size=None)[0]["x"].shape == (2, 2, 10, 30)


def test_cubes_are_drawn_as_often_as_they_have_pixels(new_world):
    large, small = (new_world(3, 40, width)[0] * 0 + n for n, width in ((1, 45), (2, 15)))
    for cube in (large, small):
        del cube.attrs["sensor"]  # by which such values would be refused
    options = WindowOptions(size=8, dates=(1, 1))
    chips = Windows(Places([large, small]), 400, options, labelled=False)
    share = np.mean([float(chips[i]["x"].max()) == 1 for i in range(400)])
    assert abs(share - 0.75) < 4 * (0.75 * 0.25 / 400) ** 0.5 + 0.02


def test_a_split_is_train_validation_and_never(world, grid):
    cube = world[0]
    split = grid(np.arange(40 * 48).reshape(40, 48) % 4 - 1, ("y", "x")).astype("int8")
    places = Places([cube, cube])
    found = _split(places, [split, split])
    assert all((found.part(i) == split).all() for i in range(2))
    assert _split(places, found) is found
    # What a mask excludes is a test part.
    mask = _split(Places([cube]), split == 0).part(0)
    np.testing.assert_array_equal(mask, np.where(split == 0, 2, 0))


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("done", [0, 1, 7, 8])
def test_processes_share_out_the_batches_from_the_next_one_on(processes, done):
    shares = [
        list(Batches(lambda: done, 32, 8, share=lambda rank=rank: (rank, processes)))
        for rank in range(processes)
    ]
    batches = [list(chain(*parts)) for parts in zip(*shares, strict=True)]
    epoch, first = divmod(done, 4)
    assert batches == [[(epoch, 8 * batch + i) for i in range(8)] for batch in range(first, 4)]


def test_a_batch_of_different_chips_has_the_loss_of_its_chips(world):
    """Padding in time and space counts for nothing; the number of scored pixels is that of the loss's mean."""
    model = new_autoencoder(CONFIG).double()
    chips = []
    for number, (size, dates) in enumerate([(16, 2), (9, 4), (21, 1)]):
        chip = masked(world, size=size, dates=(dates, dates))[0, number]
        chips.append(chip | {"x": chip["x"].double()})
    batch = collate(chips)
    assert batch["x"].shape == (3, 4, 2, 21, 21)
    assert batch["number"] == [(0, 0), (0, 1), (0, 2)]
    with torch.no_grad():
        whole = model(batch["x"], batch["hidden"], batch["dates"], batch["valid"]).loss
        error, count = 0.0, 0
        for chip in chips:
            alone = collate([chip])
            scored = scored_pixels(alone, 8)
            error += (
                scored * model(alone["x"], alone["hidden"], alone["dates"], alone["valid"]).loss
            )
            count += scored
    assert scored_pixels(batch, 8) == count
    torch.testing.assert_close(whole, error / count, rtol=1e-5, atol=0)


def test_windows_that_do_not_fit_are_refused(world):
    chips = windows(world, length=3)
    assert len(list(chips)) == 3  # an IndexError ends the iteration
    for number in (3, -1, "0"):
        with pytest.raises(TimoError, match=r"An epoch has 3 windows|index must be a whole number"):
            chips[number]
    with pytest.raises(TimoError, match="number must be"):
        masked(world)[3]
    with pytest.raises(TimoError, match=r"chips must be a timo\.Windows"):
        MaskedChips([world[0]], MaskOptions(), 8, 0)


def test_the_former_windows_draw_the_same(world):
    from timo.training.pretraining import WindowDataset

    cube = world[0]
    area = np.arange(48)[None] + 0 * np.arange(40)[:, None] < 30
    options = WindowOptions(size=16)
    with pytest.warns(DeprecationWarning, match=r"WindowDataset is timo\.training\.Windows"):
        former = WindowDataset([cube], [area], 4, options, 5)
    assert all(torch.equal(former[i]["x"], windows(world, area, 4, 5)[i]["x"]) for i in range(4))
    with (
        pytest.warns(DeprecationWarning, match="WindowDataset"),
        pytest.raises(TimoError, match="Each cube needs an array of bool"),
    ):
        WindowDataset([cube], [area[:3]], 4)


@pytest.mark.parametrize("options", [{"size": 0}, {"dates": (3, 2)}, {"min_clear": 1.5}])
def test_options_that_make_no_sense_are_told(options):
    with pytest.raises(TimoError, match=r"(size|dates|min_clear)\b.* got"):
        dataclasses.replace(WindowOptions(), **options)
