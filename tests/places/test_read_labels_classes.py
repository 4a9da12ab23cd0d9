"""What text, numbers and booleans mean: names of classes, their order, and what has no class."""

import numpy as np
import pandas as pd
import pytest
from ground_truth import cells, frame, make_cube
from hypothesis import given
from hypothesis import strategies as st

import timo
from timo.errors import TimoError
from timo.places.names import make_naming, name_of

CUBE = make_cube()


def column(values, **options):
    """Read one pixel a value, in the first row; return names by position ("" = unlabelled), and the labels."""
    squares = [cells((0, 1), (i, i + 1)) for i in range(len(values))]
    labels = timo.read_labels(frame(squares, kind=values), CUBE, column="kind", **options)
    names = [*labels.attrs["classes"], ""]
    return [names[number] for number in labels.values[0, : len(values)]], labels


@pytest.mark.parametrize(
    ("values", "names", "classes"),
    [
        (["b", "a", " b "], ["b", "a", "b"], ["a", "b"]),
        ([2, 1, 10], ["2", "1", "10"], ["1", "2", "10"]),
        ([2.0, 1.0, None], ["2", "1", ""], ["1", "2"]),
        (["2", "10", "1"], ["2", "10", "1"], ["1", "2", "10"]),
        ([1, "1", 1.0], ["1", "1", "1"], ["1"]),
        ([True, False, True], ["True", "False", "True"], ["False", "True"]),
        ([True, None, False], ["True", "", "False"], ["False", "True"]),
        ([0.5, 1.5], ["0.5", "1.5"], ["0.5", "1.5"]),
        (["", "  ", "a"], ["", "", "a"], ["a"]),
        (pd.Categorical(["b", "a"], ["b", "a"]), ["b", "a"], ["a", "b"]),
        (pd.array([3, None], dtype="Int64"), ["3", ""], ["3"]),
        (np.array([3, 1], "uint8"), ["3", "1"], ["1", "3"]),
        (["Été", "Äcker"], ["Été", "Äcker"], ["Äcker", "Été"]),
    ],
)
def test_each_kind_of_value_is_the_name_of_its_class(values, names, classes):
    found, labels = column(values)
    assert found == names
    assert labels.attrs["classes"] == classes


@pytest.mark.parametrize(
    ("values", "classes", "names", "order"),
    [
        (["b", "a"], ["b", "a", "c"], ["b", "a"], ["b", "a", "c"]),
        ([2, 1], [2, 1], ["2", "1"], ["2", "1"]),
        ([2, 1], ["2", "1", "0"], ["2", "1"], ["2", "1", "0"]),
        ([1.0, 2.0], {1: "wheat", 2: "maize"}, ["wheat", "maize"], ["wheat", "maize"]),
        (["1", "2"], {2: "maize", 1: "wheat"}, ["wheat", "maize"], ["maize", "wheat"]),
        ([1, 2, 3], {1: "field", 3: "field", 2: "wood"}, ["field", "wood", "field"], ["field", "wood"]),
        ([True, False], {True: "cut", False: "kept"}, ["cut", "kept"], ["cut", "kept"]),
        (["TR", "WH"], {"WH": "wheat", "TR": "wheat"}, ["wheat", "wheat"], ["wheat"]),
        ([7, 8], {7: 1, 8: 2}, ["1", "2"], ["1", "2"]),
    ],
)  # fmt: skip
def test_classes_name_them_in_their_order(values, classes, names, order):
    found, labels = column(values, classes=classes)
    assert found == names
    assert labels.attrs["classes"] == order
    assert "as in classes=" in labels.attrs["report"]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1, 2], {"classes": ["wheat", "maize"]}, r"a number is never a position.*classes=\{1: 'name', 2: 'name'"),
        ([True, False], {"classes": {1: "a", 0: "b"}}, r"holds 'False', 'True'.*Add them"),
        (["a", "b"], {"classes": ["a"]}, r"holds 'b', and classes= has 'a'.*classes=\[..., 'b'\].*ignore=\['b'"),
        ([1, 2], {"classes": {1: "a"}}, r"classes=\{..., '2': 'name'\}.*ignore=\['2'"),
        (["a", "b"], {"classes": ["a", "a"]}, "must be different names"),
        (["a", "b"], {"classes": {"a": "x", "b": None}}, "empty value or name"),
        ([1, 2], {"classes": {1: "x", "1": "y", 2: "z"}}, "names the value '1' twice: 'x' and 'y'"),
        (["a"], {"classes": ["a"], "ignore": ["a"]}, "names no class that is not ignored"),
        ([None, None], {}, "holds no class"),
        (pd.to_datetime(["2020", "2021"]), {}, "is a date or a duration"),
        ([0.1 * i for i in range(15)], {}, "that is a measurement. Use numeric=True"),
    ],
)  # fmt: skip
def test_what_has_no_class_is_refused_by_name_with_the_remedy(values, options, message):
    with pytest.raises(TimoError, match=message):
        column(values, **options)


def test_the_remedies_work():
    """Each of the calls that the messages name is taken literally."""
    assert column([1, 2], classes={1: "name", 2: "other"})[0] == ["name", "other"]
    assert column(["a", "b"], classes=["a"], ignore=["b"])[0] == ["a", ""]
    assert column([1, 2], classes={1: "a", "2": "name"})[0] == ["a", "name"]
    assert column([1, 2], classes={1: "a"}, ignore=["2"])[0] == ["a", ""]
    assert column([True, False], classes={1: "a", 0: "b", "True": "c", "False": "d"})[0] == [
        "c",
        "d",
    ]
    squares = [cells((0, 1), (i, i + 1)) for i in range(15)]
    values = frame(squares, kind=[0.1 * i for i in range(15)])
    assert timo.read_labels(values, CUBE, numeric=True).values[0, 3] == pytest.approx(0.3)


def test_many_different_values_are_no_classes():
    with pytest.raises(TimoError, match="holds 1,001 different values"):
        make_naming([f"parcel {i}" for i in range(1001)], None, (), "column 'id'")


@pytest.mark.parametrize("ignore", [[2], ["2"], [2.0], [np.int64(2)]])
def test_ignored_values_are_left_out_and_reported(ignore):
    found, labels = column([1, 2, 3], ignore=ignore)
    assert found == ["1", "", "3"]
    assert labels.attrs["classes"] == ["1", "3"]
    assert labels.attrs["report"].left_out.values.tolist() == [["ignored", 1, 0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1,5", "2"], "holds '1,5' in row 0"),
        ([True, False], "no numbers"),
        ([1.0, np.inf], "infinite"),
        (["low", "high"], "holds 'low' in row 0, which is no number"),
    ],
)
def test_text_for_numbers_is_refused(values, message):
    with pytest.raises(TimoError, match=message):
        column(values, numeric=True)


def test_values_that_are_missing_or_ignored_stay_unlabelled():
    squares = [cells((0, 1), (i, i + 1)) for i in range(4)]
    values = frame(squares, biomass=[10.5, None, -9999, 3])
    labels = timo.read_labels(values, CUBE, numeric=True, ignore=[-9999])
    np.testing.assert_array_equal(
        labels.values[0, :5], np.float32([10.5, np.nan, np.nan, 3, np.nan])
    )
    with pytest.raises(TimoError, match=r"ignore= holds 'x'.*must be numbers"):
        timo.read_labels(values, CUBE, numeric=True, ignore=["x"])


@given(
    st.one_of(st.integers(-(2**60), 2**60), st.text(), st.booleans(), st.floats(allow_nan=False))
)
def test_a_name_is_its_own_name(value):
    """Reading a name again gives the same: files that hold names and files that hold codes agree."""
    name = name_of(value)
    if name is not None:
        assert name_of(name) == name
        naming = make_naming([value], None, (), "column")
        assert naming.classes == (name,)
        assert naming.number(name) == 0
