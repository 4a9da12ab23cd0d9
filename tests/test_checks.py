"""Arguments of public functions: converted where they are NumPy's, refused by name where they do not fit."""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from timo.checks import (
    AnyNumber,
    Count,
    PathLike,
    Positive,
    Range,
    Share,
    checked,
    choice,
    did_you_mean,
    is_number,
    number,
    phrase,
    whole,
)
from timo.errors import TimoError

CUBE = xr.DataArray(np.zeros((2, 2)))


@checked(cancel="stop")
def work(
    cube: xr.DataArray,
    steps: Count = 3,
    *,
    rate: Positive | None = None,
    kind: Literal["median", "mean"] = "median",
    names: Sequence[str] = (),
    box: tuple[float, float] = (0, 1),
    path: PathLike | None = None,
    on: bool = False,
    codes: Mapping[str, int] | None = None,
    nodata: AnyNumber = 0.0,
    grid: Annotated[xr.DataArray, "make_grid makes one."] | None = None,
    weights: NDArray[np.floating] | None = None,
    stop: Callable[[], bool] | None = None,
) -> dict[str, object]:
    """Return its options."""
    return {k: v for k, v in locals().items() if k != "cube"}


@pytest.mark.parametrize(
    ("option", "given", "taken"),
    [
        ("steps", np.int64(4), 4),
        ("steps", np.uint8(4), 4),
        ("steps", 4.0, 4),
        ("steps", np.array(4), 4),
        ("steps", xr.DataArray(4), 4),
        ("steps", torch.tensor(4), 4),
        ("rate", np.float32(0.5), 0.5),
        ("rate", 2, 2),
        ("kind", np.str_("mean"), "mean"),
        ("on", np.bool_(True), True),
        ("box", [np.int8(1), np.float64(2.5)], (1, 2.5)),
        ("box", np.array([1, 2]), (1, 2)),
        ("names", np.array(["B4", "B8"]), ["B4", "B8"]),
        ("nodata", np.nan, np.nan),
        ("box", xr.DataArray([1, 2]), (1, 2)),
    ],
)
def test_numbers_of_numpy_become_those_of_python(option, given, taken):
    found = work(CUBE, **{option: given})[option]
    np.testing.assert_equal(found, taken)
    assert "numpy" not in str(type(found))


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        ("steps", "3", "steps must be a whole number of 1 or more; got '3'. Write steps=3"),
        ("steps", True, "steps must be a whole number of 1 or more; got True. .* default, 3"),
        ("steps", 10**25, "steps must be a whole number of 1 or more; got 10"),
        ("steps", 0, "got 0"),
        ("steps", 2.5, "got 2.5"),
        ("steps", np.inf, "got inf"),
        ("steps", None, "got None"),
        ("rate", np.nan, "rate must be a number above 0 or None; got nan"),
        ("rate", 0.0, "got 0.0"),
        ("kind", "means", "kind must be one of 'median', 'mean'; got 'means'"),
        ("names", "B4", "names must be a list of text; got 'B4'"),
        ("names", ["B4", 8], "number 1 is 8"),
        ("names", {"B4"}, "list of text"),
        ("box", (1,), "(a number, a number)"),
        ("path", 3, "path must be text or a path or None; got 3"),
        ("on", 1, "on must be True or False; got 1"),
        ("codes", {"a": "b"}, "codes must be a mapping of text to whole numbers or None"),
        ("stop", 3, "stop must be a function or None; got 3"),
        ("nodata", "nan", "nodata must be a number; got 'nan'"),
        ("grid", 3, "grid must be an xarray.DataArray or None; got 3. make_grid makes one."),
        ("weights", [1.0], "weights must be a numpy.ndarray or None; got [1.0] (list)"),
        ("step", 3, "unexpected keyword argument 'step'. Did you mean 'steps'?"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(option, given, message):
    with pytest.raises(TimoError, match=re.sub(r"([()\[\]])", r"\\\1", message)):
        work(CUBE, **{option: given})


def test_a_cube_that_is_none_says_where_cubes_come_from():
    with pytest.raises(TimoError, match=r"an xarray.DataArray; got .*timo.open_cube opens a cube"):
        work([[1, 2]])
    with pytest.raises(
        TimoError, match=r"missing a required argument: 'cube'\. It takes: cube, steps"
    ):
        work()


@given(st.one_of(st.none(), st.booleans(), st.text(), st.floats(), st.integers(), st.binary()))
def test_any_value_of_an_option_is_taken_or_refused(value):
    for option in ("steps", "rate", "kind", "names", "box", "on", "codes", "nodata", "stop"):
        with contextlib.suppress(TimoError):
            assert option in work(CUBE, **{option: value})


def test_the_former_name_of_an_option_works_with_a_warning_at_the_callers_line():
    with pytest.warns(DeprecationWarning, match="cancel= is called stop= now") as caught:
        assert callable(work(CUBE, cancel=bool)["stop"])
    assert caught[0].filename == __file__
    with pytest.raises(TimoError, match="former name of stop"):
        work(CUBE, cancel=bool, stop=bool)


@checked
@dataclass(frozen=True)
class Options:
    share: Share = 0.5
    steps: Count = 1
    blocks: tuple[int, ...] = (1, 2)


def test_fields_of_options_are_checked_and_converted():
    options = Options(np.float64(0.25), np.int32(2), [np.int64(3)])
    assert options == Options(0.25, 2, (3,))
    assert type(options.steps) is int
    with pytest.raises(
        TimoError, match=r"share must be a number from 0 to 1; got 1.5.*default, 0.5"
    ):
        Options(1.5)


@checked
@dataclass(frozen=True)
class Place:
    name: str
    codes: tuple[int, ...] = ()


def test_a_dataclass_is_checked_where_it_is_made():
    assert Place("here", [np.int64(3)]) == Place(name="here", codes=(3,))
    assert isinstance(Place("here"), Place)
    for arguments, message in (
        ({}, "missing a required argument: 'name'"),
        ({"nam": "here", "name": "here"}, "Did you mean 'name'"),
        ({"name": 3}, r"^name must be text; got 3"),
    ):
        with pytest.raises(TimoError, match=message):
            Place(**arguments)
    with pytest.raises(TimoError, match="codes must be"):
        replace(Place("here"), codes=["a"])


def test_single_values():
    assert phrase(Mapping[str, Any]) == "a mapping of text to anything"
    assert whole(np.int16(3), "n") == 3
    assert number(3, "n") == 3.0
    assert choice("a", "kind", ["a", 1]) == "a"
    assert is_number(np.float32(1))
    assert is_number(10**400)
    assert not is_number(True)
    assert not is_number(np.nan)
    with pytest.raises(TimoError, match=r"n must be a whole number of 2 or more; got 1"):
        whole(1, "n", least=2)
    with pytest.raises(TimoError, match=r"n must be a number above 0 and below 1; got 1"):
        number(1, "n", above=0, below=1)
    with pytest.raises(TimoError, match="Did you mean 'median'"):
        choice("medan", "kind", ["median", "mean"])
    with pytest.raises(TimoError, match="one of 1, 2; got True"):
        choice(True, "kind", [1, 2])
    assert str(Range(0, 1)) == "from 0 to 1"
    assert str(Range(0, 2**32 - 1)) == "from 0 to 4294967295"
    limit = Range(above=0, infinite=True)
    assert [x in limit for x in (1, np.inf, -np.inf, np.nan)] == [True, True, False, False]
    assert [n in Range(1, 2**31) for n in (0, 1, 2**31, 2**32)] == [False, True, True, False]


def test_the_name_that_was_meant():
    known, others = (
        ["aoi", "max_cloud"],
        {"aoi": "region bbox", "max_cloud": "cloudcover", "end": "to"},
    )
    assert did_you_mean("maxcloud", known) == " Did you mean 'max_cloud'?"
    assert did_you_mean("BBox", known, others) == " Did you mean 'aoi'?"
    assert did_you_mean("cloud_cover", known, others) == " Did you mean 'max_cloud'?"
    assert did_you_mean("bbox", known) == did_you_mean("to", known, others) == ""
    assert did_you_mean(3, known) == ""
