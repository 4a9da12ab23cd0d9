"""What every test needs before anything of the package is imported."""

import hypothesis
import jaxtyping
import pytest

# Every call into the model is checked against its annotated types and shapes. It works on what is imported later only.
jaxtyping.install_import_hook("timo.models", "beartype.beartype")

# The same examples each time, as all seeds are fixed; and no deadline, because a machine may be busy.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")


@pytest.fixture
def unchecked():
    """The model as its users have it, without those checks: for tests of its own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """The models of the tests are small: a second thread costs more than it gives."""
    import torch

    torch.set_num_threads(1)
