"""What was done by hand, as records that are lines of Python."""

from __future__ import annotations

from typing import Any


class Name(str):
    """A name in a line of Python: written without quotes."""

    def __repr__(self) -> str:
        return str(self)


CUBE, MODEL, LABELS, STORE = map(Name, ("cube", "model", "labels", "store"))


def call_code(function: str, *given: Any, target: str = "", **options: Any) -> str:
    """Return the Python of a call; a `Name` stands for what bears it, `target` takes what is returned."""
    words = [*map(repr, given), *(f"{name}={value!r}" for name, value in options.items())]
    return f"{f'{target} = ' if target else ''}{function}({', '.join(words)})"


class Step(str):
    """A line of Python that is a call, and what the call is made of.

    Of work that was cancelled (`stopped`) the line is a comment, since code cannot repeat it.
    """

    function: str
    given: tuple[Any, ...]
    options: dict[str, Any]
    target: str
    stopped: bool

    def __new__(
        cls, function: str, *given: Any, target: str = "", stopped: str = "", **options: Any
    ) -> Step:
        code = call_code(function, *given, target=target, **options)
        step = super().__new__(cls, f"# {stopped}: {code}" if stopped else code)
        step.function, step.given, step.options = function, given, options
        step.target, step.stopped = target, bool(stopped)
        return step

    @property
    def name(self) -> str:
        """Name of the function, without its module."""
        return self.function.rpartition(".")[2]
