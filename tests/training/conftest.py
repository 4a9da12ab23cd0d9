"""The fixtures of the training tests: see training_world."""

import pytest
from training_world import make_model, make_world, to_grid


@pytest.fixture(scope="session")
def grid():
    return to_grid


@pytest.fixture(scope="session")
def world():
    return make_world()


@pytest.fixture(scope="session")
def new_world():
    """Make a world of another size."""
    return make_world


@pytest.fixture(scope="session")
def new_model():
    """Make a model; twice with the same seed gives the same weights."""
    return make_model
