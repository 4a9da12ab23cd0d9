"""A public function answers any argument with a result or one clear `TimoError`, never with a raw traceback."""

import contextlib
import zlib

import numpy as np
import public_table as table
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("ignore")
NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.integers(),
    st.floats(),
    st.integers(-3, 40).map(np.int32),
    st.floats(width=32).map(np.float32),
    st.booleans().map(np.bool_),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.binary(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
    ),
    max_leaves=4,
)


@pytest.fixture(autouse=True, scope="module")
def _offline():
    patch = pytest.MonkeyPatch()
    with contextlib.suppress(ImportError):
        import ee

        patch.setattr(ee, "Initialize", ee.Initialize)
    patch.chdir(table.WORLD.folder)
    table.offline()
    yield
    patch.undo()


def test_the_table_holds_every_public_function():
    assert set(table.CALLS) == {name for name, _ in table.public_names()}


@pytest.mark.parametrize("name", table.CALLS)
def test_no_argument_leads_to_a_raw_traceback(name):
    assert table.probe(name, {}) is None
    options = table.options_of(name)
    found = {}
    every = list(table.ODD.items())
    for turn, option in enumerate(options, zlib.crc32(name.encode())):
        # A quarter of them for each option, and another quarter for the next: `python tests/public_table.py` takes all.
        for odd, make in every if option == "no_such_option" else every[turn % 4 :: 4]:
            if not table.is_tried(name, option, odd):
                continue
            if complaint := table.probe(name, {option: make(table.WORLD)}):
                found.setdefault(f"{option}: {complaint}", []).append(odd)

    @settings(
        max_examples=4 * len(options),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(options or [""]), VALUES)
    def any_value(option, value):
        safe = (name, option) not in table.PROCESSES
        if option and safe and (complaint := table.probe(name, {option: value})):
            found.setdefault(f"{option}: {complaint}", []).append(repr(value))

    any_value()
    assert found == {}
