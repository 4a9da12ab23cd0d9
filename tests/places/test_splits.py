"""Splits of places: nothing alike lies in two parts, and what cannot be split so is refused by name."""

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from timo.cube import blocks, split_blocks
from timo.errors import TimoError
from timo.places import Places, Split
from timo.places.split import part_counts, split_of

few = settings(max_examples=8, deadline=None)
CLASSES = ["oak", "pine"]


def make_pair(seed=0, size=24, group=None, names=None):
    """A cube, and labels of two classes in strips; `group` is the side of square groups in pixels."""
    rng = np.random.default_rng(seed)
    coords = {"time": np.array(["2020-05-01", "2020-06-01"], "datetime64[ns]"), "band": ["B4"]}
    coords |= {"y": 5e6 - 10 * np.arange(size), "x": 4e5 + 9000 * seed + 10.0 * np.arange(size)}
    values = rng.uniform(0.02, 0.4, (2, 1, size, size)).astype("float32")
    attrs = {"sensor": "sentinel-2"}
    cube = xr.DataArray(values, coords, ("time", "band", "y", "x"), attrs=attrs).rio.write_crs(
        32634
    )
    labels = cube.isel(time=0, band=0, drop=True)
    strips = (np.arange(size)[:, None] // 3 + 0 * np.arange(size)) % 3 - 1
    labels = labels.copy(data=strips.astype("int16")).assign_attrs(classes=CLASSES)
    if group:
        side = np.arange(size) // group
        number = (side[:, None] * 100 + side).astype("int32")
        number = np.unique(number, return_inverse=True)[1].reshape(size, size).astype("int32")
        labels = labels.assign_coords(group=(("y", "x"), number))
        if names:
            labels.attrs["groups"] = [names.format(n) for n in range(number.max() + 1)]
    return cube, labels


@pytest.fixture(scope="module")
def many():
    pairs = [make_pair(seed, size=6) for seed in range(20)]
    return Places(
        pairs, groups=[f"region {n // 4}" for n in range(20)], folds=[n % 4 for n in range(20)]
    )


def test_each_place_goes_to_one_part():
    places = Places([make_pair(seed, size=6) for seed in range(20)])
    split = places.split("place", seed=3)
    assert [list(split.whole).count(part) for part in range(3)] == [12, 4, 4]
    assert places.split("place", seed=3).whole.tolist() == split.whole.tolist()
    assert places.split("place", seed=4).whole.tolist() != split.whole.tolist()
    half = places.split("place", fractions=(0.5, 0, 0.5))
    assert [list(half.whole).count(part) for part in range(3)] == [10, 0, 10]
    assert repr(half) == "Split by place: 10 train, 0 validation, 10 test"


def test_groups_of_places_stay_whole(many):
    split = many.split("group")
    for region in range(5):
        assert len(set(split.whole[4 * region : 4 * region + 4])) == 1
    assert set(split.whole) == {0, 1, 2}
    with pytest.raises(TimoError, match=r"The group 'region \d' lies in two parts of the split"):
        many.split("place")
    with pytest.raises(TimoError, match="lies in two parts of the split, train and test"):
        split_of(many, Split([0, 2] * 10))


def test_folds_that_were_given(many):
    # Each region has places of each fold.
    with pytest.raises(TimoError, match="lies in two parts"):
        many.split("fold")
    apart = Places(list(many), groups=[str(n) for n in range(20)])
    split = apart.split("fold", fold=1)
    assert split.whole.tolist() == [1, 2, 0, 0] * 5
    assert apart.split("fold").whole.tolist() == [0, 0, 1, 2] * 5
    assert apart.split("fold", fractions=(0.8, 0, 0.2)).whole.tolist() == [0, 0, 0, 2] * 5
    tested = [fold.whole == 2 for fold in apart.folds("fold")]
    assert len(tested) == 4
    assert np.sum(tested, axis=0).tolist() == [1] * 20
    with pytest.raises(TimoError, match="There is no fold 7; the places have 0, 1, 2, 3"):
        apart.split("fold", fold=7)
    words = Places([make_pair(n, size=6) for n in range(3)], folds=["test", "train", "val"])
    assert words.split("fold").whole.tolist() == [2, 0, 1]
    with pytest.raises(TimoError, match="The places have no folds"):
        Places([make_pair()]).split("fold")


@few
@given(
    seed=st.integers(0, 99), k=st.integers(2, 5), by=st.sampled_from(["place", "group", "block"])
)
def test_each_label_is_tested_in_one_fold(many, seed, k, by):
    places = many if by == "group" else Places([make_pair(n, size=12) for n in range(6)])
    options = {"size_m": 30} if by == "block" else {}
    tested = 0
    for split in places.folds(by, k, seed=seed, **options):
        counts = part_counts(places, split)
        assert counts.sum() == places.counts().sum()
        assert counts[0].any()
        tested = tested + counts[2]
    np.testing.assert_array_equal(tested, places.counts().sum(axis=0))


@few
@given(seed=st.integers(0, 99), group=st.integers(2, 9), side=st.sampled_from([40, 60, 90]))
def test_blocks_never_cut_a_group(seed, group, side):
    places = Places([make_pair(0, group=group), make_pair(1, group=group, names="farm {}")])
    for split in (
        places.split("block", size_m=side, seed=seed),
        *places.folds("block", 3, size_m=side),
    ):
        for number in range(2):
            labels, part = places.open(number)[1], split.part(number)
            for one in np.unique(labels.group):
                assert len(np.unique(part.values[labels.group.values == one])) == 1


def test_blocks_are_shared_out_in_proportion_and_by_class():
    places = Places([make_pair(seed, size=48) for seed in range(3)])
    counts = part_counts(places, places.split("block", size_m=60))
    np.testing.assert_allclose(
        counts / counts.sum(axis=0), [[0.6] * 2, [0.2] * 2, [0.2] * 2], atol=0.05
    )
    split = places.split("block", size_m=60, scheme="checkerboard")
    first = split.part(0).values[::6, ::6]
    assert ((first == 2) == (np.add.outer(np.arange(8), np.arange(8)) % 2 == 1)).all()
    assert split.block_m == split.part(0).attrs["block_m"] == 60
    assert places.split("block").block_m == 320


def test_a_named_group_is_one_in_all_places():
    """A farm in two places: its fields in the one would give those in the other away."""
    places = Places(
        [make_pair(0, group=24, names="farm {}"), make_pair(1, group=24, names="farm {}")]
    )
    with pytest.raises(
        TimoError, match="The group 'farm 0' lies in two parts of the split, train and"
    ):
        places.split("place", fractions=(0.5, 0, 0.5))
    apart = Places([make_pair(0, group=24), make_pair(1, group=24)])
    assert sorted(apart.split("place", fractions=(0.5, 0, 0.5)).whole) == [0, 2]


def test_a_split_by_hand_that_cuts_a_group_is_refused_and_the_remedy_works():
    cube, labels = make_pair(group=8)
    places = Places([(cube, labels)], names=["here"])
    by_hand = split_blocks(blocks(cube, 60), seed=0)
    with pytest.raises(
        TimoError, match=r"The group '\d+ of place here' lies in two parts.*by=\"block\""
    ):
        split_of(places, by_hand)
    assert places.split("block", size_m=60).by == "block"
    bare = Places([(cube, labels.drop_vars("group"))])
    np.testing.assert_array_equal(split_of(bare, by_hand).part(0), by_hand)


def test_parts_without_labels_or_classes_are_said():
    pairs = [make_pair(seed, size=9) for seed in range(2)]
    pairs[1] = (pairs[1][0], pairs[1][1] * 0)
    places = Places([(cube, labels.assign_attrs(classes=CLASSES)) for cube, labels in pairs])
    with pytest.warns(UserWarning, match="The test part has no label of pine"):
        split_of(places, Split([0, 2]))
    with pytest.raises(TimoError, match="The train part has no label"):
        split_of(places, Split([1, 2]))
    unlabelled = Places([(cube, labels * 0 - 1) for cube, labels in pairs])
    with pytest.raises(TimoError, match="no pixel is labelled"):
        unlabelled.split("block", size_m=30)


def test_splits_that_do_not_fit():
    cube, labels = make_pair()
    places = Places([(cube, labels)] * 2)
    with pytest.raises(TimoError, match="The split has 1 parts, and there are 2 places"):
        split_of(places, Split([0]))
    with pytest.raises(TimoError, match=r"The split of place 0 has \(3, 3\) pixels"):
        split_of(places, Split([np.zeros((3, 3), "int8"), 0]))
    with pytest.raises(TimoError, match="must be on the cube's grid"):
        split_of(places, Split([make_pair(1)[1] * 0, 0]))
    with pytest.raises(TimoError, match="Part 1 of the split must be 0"):
        Split([0, "test"])
    with pytest.raises(TimoError, match="Part 0 of the split must be 0"):
        Split(np.zeros((2, 2, 2)))
    with pytest.raises(TimoError, match="split must be one of 'place', 'group', 'fold', 'block'"):
        split_of(places, "folds")
    with pytest.raises(TimoError, match=r"three shares .* with the sum 1"):
        places.split("place", fractions=(0.5, 0.1, 0.1))
    with pytest.raises(TimoError, match="k of 2 or more"):
        list(places.folds("place", 1))


def test_blocks_and_parts_of_a_place_without_labels_among_others():
    (cube, labels), (bare, _) = make_pair(0), make_pair(1, size=12)
    split = Places([(cube, labels), bare]).split("block", size_m=60)
    alone = Places([(cube, labels)]).split("block", size_m=60)
    np.testing.assert_array_equal(split.part(0), alone.part(0))
    np.testing.assert_array_equal(
        part_counts(Places([(cube, labels), bare]), split),
        part_counts(Places([(cube, labels)]), alone),
    )


def test_what_is_said_of_a_group_in_two_places_keeps_it_whole():
    pairs = [make_pair(n, group=24, names="farm {}") for n in range(2)]
    pairs.append(make_pair(2, group=24, names="forest {}"))
    half = {"fractions": (0.5, 0, 0.5)}
    with pytest.raises(
        TimoError, match=r'by="block".*groups=\[\.\.\.\]\), and split them by="group"'
    ):
        Places(pairs).split("place", fractions=(0.6, 0.2, 0.2))
    grouped = Places(pairs, groups=["farms", "farms", "forest"]).split("group", **half)
    assert grouped.part(0) == grouped.part(1) != grouped.part(2)
    blocks_of = Places(pairs).split("block", **half)
    assert (np.asarray(blocks_of.part(0)) == blocks_of.part(1).values[0, 0]).all()
