"""One emulator for the tests of a file, with a store of a few small images."""

import pytest
from ee_emulator import Emulator
from emulated_store import small_backing


@pytest.fixture(scope="module")
def emulator():
    with Emulator(small_backing()) as running:
        running.initialize()
        yield running
