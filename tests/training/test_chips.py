import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.places import Places, Split
from timo.training.windows import ChipOptions, Windows, collate

few = settings(max_examples=30, deadline=None)
PLAIN = {"rotate": False, "hide": 0.0, "splice": 0.0}


def chips_of(cube, labels, length, options=None, *, seed=0, part=None):
    """Chips of one cube; `part` (y, x) bool is the area whose labels count."""
    where = {} if part is None else {"split": Split([np.where(part, 0, 2)]), "part": 0}
    return Windows(Places([(cube, labels)]), length, options, seed, **where)


def tagged(grid, *, dates=7, height=13, width=17, per_date=True, gaps=False):
    """A cube whose every value says which date and pixel it is, and labels that follow from those."""
    t, y, x = np.ogrid[:dates, :height, :width]
    place = (t * height + y) * width + x
    values = np.stack([place + 1, -place - 1], axis=1).astype("float32")
    if gaps:
        cloudy = (y + 2 * x + 5 * t) % 4 == 0
        values = np.where(cloudy[:, None], np.float32("nan"), values)
    labels = (3 * y + x + (t if per_date else 0 * t)) % 4 - 1
    dims = ("time", "y", "x") if per_date else ("y", "x")
    cube = grid(values, ("time", "band", "y", "x"))
    return cube, grid((labels if per_date else labels[0]).astype("int8"), dims)


def origins(chip, shape):
    """Date, row and column that each valid pixel of a chip comes from."""
    assert torch.equal(chip["x"][:, 0], -chip["x"][:, 1])
    place = chip["x"][:, 0].numpy().astype(int) - 1
    return np.unravel_index(place[chip["valid"].numpy()], shape)


def same_chip(a, b):
    return all(torch.equal(a[name], b[name]) for name in ("x", "dates", "valid", "labels"))


# --- what a chip depends on


def test_a_chip_depends_on_seed_epoch_and_number_alone(world):
    cube, labels, _ = world
    dataset = chips_of(cube, labels, 10, seed=3)
    fourth = dataset[4]
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    torch.manual_seed(1)
    for i in (0, 9, 2):
        _ = dataset[i]
    assert same_chip(dataset[4], fourth)
    assert same_chip(chips_of(cube, labels, 500, seed=3)[4], fourth)
    assert not same_chip(dataset[5], fourth)
    assert not same_chip(chips_of(cube, labels, 10, seed=4)[4], fourth)
    dataset.epoch = 1
    assert not same_chip(dataset[4], fourth)
    dataset.epoch = 0
    assert same_chip(dataset[4], fourth)
    assert len(dataset) == 10


# --- what is in a chip


@few
@given(
    size=st.integers(1, 20),
    fewest=st.integers(1, 4),
    more=st.integers(0, 6),
    seed=st.integers(0, 99),
    per_date=st.booleans(),
    gaps=st.booleans(),
    hide=st.sampled_from([0.0, 1.0]),
    splice=st.sampled_from([0.0, 1.0]),
)
def test_every_pixel_keeps_its_own_date_and_label(
    *, grid, size, fewest, more, seed, per_date, gaps, hide, splice
):
    cube, labels = tagged(grid, per_date=per_date, gaps=gaps)
    options = ChipOptions(size=size, dates=(fewest, fewest + more), hide=hide, splice=splice)
    dataset = chips_of(cube, labels, 5, options, seed=seed)
    truth = np.broadcast_to(labels.values, (7, 13, 17))
    for i in range(5):
        chip = dataset[i]
        valid = chip["valid"].numpy()
        assert (chip["x"].numpy().transpose(0, 2, 3, 1)[~valid] == 0).all()
        date, row, column = origins(chip, truth.shape)
        assert (chip["labels"].numpy()[valid] == truth[date, row, column]).all()
        assert (
            chip["dates"].numpy()[np.nonzero(valid)[0]] == dataset.places.view(0).dates[date]
        ).all()


@few
@given(size=st.integers(1, 20), seed=st.integers(0, 99))
def test_a_plain_chip_is_a_window_of_the_cube(grid, size, seed):
    cube, labels = tagged(grid)
    options = ChipOptions(size=size, dates=(2, 5), **PLAIN)
    dataset = chips_of(cube, labels, 5, options, seed=seed)
    for i in range(5):
        chip = dataset[i]
        t, height, width = chip["valid"].shape
        assert (height, width) == (min(size, 13), min(size, 17))
        assert 2 <= t <= 5
        date, row, column = (a.reshape(t, height, width) for a in origins(chip, (7, 13, 17)))
        assert (row == row[0, 0, 0] + np.arange(height)[:, None]).all()
        assert (column == column[0, 0, 0] + np.arange(width)).all()
        assert (np.diff(date[:, 0, 0]) > 0).all()
        assert (chip["labels"] >= 0).any()


def test_types_are_those_of_the_model_and_the_loss(world):
    cube, labels, _ = world
    chip = chips_of(cube, labels, 1)[0]
    types = {name: tensor.dtype for name, tensor in chip.items()}
    assert types == {
        "x": torch.float32,
        "dates": torch.float32,
        "valid": torch.bool,
        "labels": torch.int64,
    }
    assert all(tensor.is_contiguous() for tensor in chip.values())


def test_dates_ascend_and_are_clear_enough_where_there_are_such(world):
    cube, labels, _ = world
    dataset = chips_of(cube, labels, 40, ChipOptions(size=8, min_clear=0.6, **PLAIN))
    for i in range(40):
        chip = dataset[i]
        assert (chip["dates"].diff() > 0).all()
        clear = chip["valid"].float().mean(dim=(1, 2))
        assert len(clear) == 1 or (clear >= 0.6).all()


def test_a_window_without_a_clear_date_gets_its_clearest(grid):
    values = np.full((3, 1, 8, 8), np.nan, "float32")
    values[1, 0, 0, 0] = 0.5
    labels = grid(np.zeros((8, 8), "int16"), ("y", "x"))
    cube = grid(values, ("time", "band", "y", "x"))
    chip = chips_of(cube, labels, 1, ChipOptions(size=8, **PLAIN))[0]
    assert chip["valid"].sum() == 1
    assert len(chip["dates"]) == 1


def test_runs_of_dates_and_scattered_dates_both_occur(grid):
    cube, labels = tagged(grid, dates=20)
    dataset = chips_of(cube, labels, 60, ChipOptions(size=4, dates=(6, 6), **PLAIN))
    steps = [dataset[i]["dates"].diff() for i in range(60)]
    runs = sum(bool((step == 10).all()) for step in steps)
    assert 20 <= runs <= 40


def test_each_class_is_as_likely_as_the_next(grid):
    labels = np.zeros((30, 30), "int8")
    labels[7, 20] = 1
    cube = grid(np.full((2, 1, 30, 30), 0.3, "float32"), ("time", "band", "y", "x"))
    dataset = chips_of(cube, grid(labels, ("y", "x")), 100, ChipOptions(size=4, **PLAIN))
    with_the_rare = sum(bool((dataset[i]["labels"] == 1).any()) for i in range(100))
    # Half of the chips are around the rare pixel, and hardly any of the others meet it.
    assert 35 <= with_the_rare <= 65


def test_a_rare_pixel_is_anywhere_in_its_chips(grid):
    labels = np.full((30, 30), -1, "int8")
    labels[15, 15] = 0
    cube = grid(np.full((2, 1, 30, 30), 0.3, "float32"), ("time", "band", "y", "x"))
    dataset = chips_of(cube, grid(labels, ("y", "x")), 100, ChipOptions(size=4, **PLAIN))
    places = {tuple(np.argwhere(dataset[i]["labels"][0].numpy() == 0)[0]) for i in range(100)}
    assert len(places) == 16


def test_labels_of_one_date_are_in_every_chip(grid):
    """A label tool gives labels of single dates: chips of other dates would teach nothing."""
    cube, _ = tagged(grid, dates=40)
    labels = np.full((40, 13, 17), -1, "int8")
    labels[31, 4, 5], labels[7, 9, 9] = 0, 1
    options = ChipOptions(size=6, dates=(2, 4), **PLAIN)
    dataset = chips_of(cube, grid(labels, ("time", "y", "x")), 60, options)
    for i in range(60):
        chip = dataset[i]
        assert (chip["labels"] >= 0).sum() == 1
        assert (chip["dates"].diff() > 0).all()
        assert 2 <= len(chip["dates"]) <= 4


def test_an_artificial_change_brings_the_class_that_is_rare_in_the_chip(world):
    cube, labels, _ = world
    options = ChipOptions(size=16, rotate=False, hide=0.0, splice=1.0)
    dataset = chips_of(cube, labels, 60, options)
    changed = [(dataset[i]["labels"].diff(dim=0) != 0).any() for i in range(60)]
    assert np.mean(changed) > 0.3


# --- which labels


def test_labels_of_an_area_never_leave_it(grid, world):
    """Each part has a class of its own; a chip of one part must never show another's."""
    cube, _, split = world
    options = ChipOptions(size=24, splice=1.0)
    for part in (0, 1):
        own = chips_of(cube, split, 80, options, part=split.values == part)
        for i in range(80):
            seen = set(own[i]["labels"].unique().tolist())
            assert part in seen
            assert seen <= {-1, part}


def test_the_cube_is_not_copied(world):
    cube, labels, split = world
    places = Places([(cube, labels)])
    view = places.view(0)
    some = Windows(places, 2, ChipOptions(size=8), split=Split([split]), part=0)
    assert np.shares_memory(view.cube.values, cube.values)
    assert some.places.view(0) is view
    assert len(some) == 2
    assert some[0]["x"].shape[-1] == 8


def test_a_lazy_cube_is_read_once_when_it_is_loaded(world):
    cube, labels, _ = world
    reads = []

    def read(block):
        reads.append(block.shape)
        return block

    lazy = cube.copy(
        data=da.from_array(cube.values, chunks=-1).map_blocks(read, meta=cube.values[:0])
    )
    reads.clear()
    dataset = Windows(Places([(lazy, labels)]).load(), 4)
    assert same_chip(dataset[1], chips_of(cube, labels, 4)[1])
    assert len(reads) == 1


@pytest.mark.parametrize("hidden", [0.0, 1.0])
def test_a_lazy_cube_gives_the_same_chips_window_by_window(world, hidden):
    cube, labels, _ = world
    options = ChipOptions(size=8, hide=hidden)
    lazy, loaded = chips_of(cube.chunk(), labels, 6, options), chips_of(cube, labels, 6, options)
    assert not lazy.places.in_memory
    assert all(same_chip(lazy[i], loaded[i]) for i in range(6))
    assert lazy.lengths(3) == (len(loaded[3]["dates"]), 8, 8)


def test_dates_seconds_apart_are_told_apart(grid):
    """Neighbouring scenes of one overpass: float32 days cannot tell them apart, their number can."""
    cube, labels = tagged(grid, dates=4)
    times = np.datetime64("2018-06-01T10:00:00", "ns") + np.arange(4) * np.timedelta64(5, "s")
    cube, labels = cube.assign_coords(time=times), labels.assign_coords(time=times)
    options = ChipOptions(size=6, dates=(4, 4), rotate=False, hide=0.0, splice=1.0)
    dataset = chips_of(cube, labels, 20, options)
    assert len(set(dataset.places.view(0).dates)) == 1
    for i in range(20):
        date = origins(dataset[i], (4, 13, 17))[0].reshape(4, -1)
        assert (date == np.arange(4)[:, None]).all()


# --- batches


def test_collate_pads_with_what_counts_for_nothing(world):
    cube, labels, _ = world
    dataset = chips_of(cube, labels, 8, ChipOptions(size=8, dates=(1, 7)))
    chips = [dataset[i] for i in range(8)]
    lengths = [len(chip["dates"]) for chip in chips]
    assert min(lengths) < max(lengths)
    batch = collate(chips)
    for i, (chip, length) in enumerate(zip(chips, lengths, strict=True)):
        for name, tensor in chip.items():
            assert batch[name].dtype == tensor.dtype
            assert torch.equal(batch[name][i, :length], tensor)
        assert not batch["valid"][i, length:].any()
        assert (batch["labels"][i, length:] == -1).all()
        assert (batch["x"][i, length:] == 0).all()


def test_chips_that_do_not_fit_each_other_are_no_batch(world):
    cube, labels, _ = world
    small = chips_of(cube, labels, 1, ChipOptions(size=4))[0]
    unlabelled = {name: small[name] for name in ("x", "dates", "valid")}
    fewer = small | {"x": small["x"][:, :1]}
    for chips in ([], [small, fewer], [small, unlabelled], [{"dates": small["dates"]}]):
        with pytest.raises(TimoError, match=r"must have the same arrays .* Take chips of one"):
            collate(chips)


# --- errors


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "size must be a whole number of 1 or more or None; got 0"),
        ({"dates": (5, 3)}, r"\(fewest, most\) in this order; got \(5, 3\)\. Write dates=\(3, 5\)"),
        ({"dates": (0, 3)}, r"dates must be .*; got \(0, 3\)"),
        ({"dates": 3}, "dates must be .*; got 3"),
        ({"hide": 1.5}, "hide must be a number from 0 to 1; got 1.5"),
        ({"splice": -0.1}, "splice must be a number from 0 to 1; got -0.1"),
    ],
)
def test_options_that_make_no_sense(wrong, message):
    with pytest.raises(TimoError, match=message):
        ChipOptions(**wrong)


def test_no_labelled_pixel(world):
    cube, labels, split = world
    with pytest.raises(TimoError, match="no pixel is labelled: give labels of 0 or more"):
        chips_of(cube, labels * 0 - 1, 4)
    with pytest.raises(TimoError, match="no pixel is labelled in the train part of the split"):
        chips_of(cube, labels, 4, part=split.values == 7)


@pytest.mark.parametrize("index", [-1, 4, "first", 1.5])
def test_chips_beyond_the_epoch(world, index):
    """Iterating over a data set ends, because it is an IndexError too."""
    dataset = chips_of(*world[:2], 4)
    with pytest.raises(TimoError, match=r"An epoch has 4 windows|index must be a whole number"):
        dataset[index]
    assert len(list(dataset)) == 4


def test_labels_on_another_grid(world):
    cube, labels, _ = world
    with pytest.raises(TimoError, match="labels are on another grid: their y has 39 cells"):
        chips_of(cube, labels.isel(y=slice(1, None)), 4)


def test_a_lazy_cube_without_any_observation(grid):
    values = da.full((2, 1, 4, 4), np.nan, dtype="float32")
    cube = grid(np.zeros((2, 1, 4, 4), "float32"), ("time", "band", "y", "x")).copy(data=values)
    labels = grid(np.zeros((4, 4), "int8"), ("y", "x"))
    with pytest.raises(TimoError, match="cube is all NaN"):
        Places([(cube, labels)]).load()
