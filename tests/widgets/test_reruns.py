import pytest
from timo_widgets.base import part as reruns


class Widget:
    def __init__(self):
        self.closed = False
        reruns.replace_earlier(self)

    def close(self):
        self.closed = True


@pytest.fixture
def cell(monkeypatch):
    now = {"at": ("", "")}
    monkeypatch.setattr(reruns, "_running_cell", lambda: now["at"])
    monkeypatch.setattr(reruns, "_made", {})
    return now


def test_a_second_run_of_a_cell_replaces_the_first(cell):
    cell["at"] = ("cell", "run 1")
    first, beside = Widget(), Widget()
    assert not first.closed
    cell["at"] = ("another cell", "run 2")
    other = Widget()
    cell["at"] = ("cell", "run 3")
    third = Widget()
    assert (first.closed, beside.closed, other.closed, third.closed) == (True, True, False, False)


def test_outside_a_cell_nothing_is_closed(cell):
    first = Widget()
    Widget()
    assert not first.closed


def test_the_cell_is_what_the_request_says(monkeypatch):
    class Kernel:
        def get_parent(self, channel):
            assert channel == "shell"
            return {
                "header": {"msg_type": "execute_request", "msg_id": "m"},
                "metadata": {"cellId": "c"},
            }

    class Shell:
        kernel = Kernel()

    import IPython

    monkeypatch.setattr(IPython, "get_ipython", Shell)
    assert reruns._running_cell() == ("c", "m")
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    assert reruns._running_cell() == ("", "")
