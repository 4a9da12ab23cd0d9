import pytest

from timo.sizes import size_text


@pytest.mark.parametrize(
    ("size", "text"), [(12, "12 bytes"), (34_000, "34 kB"), (5_600_000, "5.6 MB")]
)
def test_sizes_for_people(size, text):
    assert size_text(size) == text
