"""Each implementation against the service's own description of the algorithm."""

import inspect
from pathlib import Path

import ee_emulator
import pytest
from ee_emulator import registry
from ee_emulator.errors import EngineError

KNOWN = registry.known()


@pytest.mark.parametrize("name", KNOWN)
def test_an_implementation_takes_the_arguments_of_its_algorithm(name):
    listed = registry.signatures().get(name)
    assert listed is not None, f"the service has no algorithm {name}"
    arguments = {registry.python_name(a["argumentName"]): a for a in listed.get("arguments", [])}
    parameters = inspect.signature(registry._KNOWN[name]).parameters
    required = {key for key, p in parameters.items() if p.default is inspect.Parameter.empty}
    assert required <= set(arguments)
    # A required argument that the implementation does not know would refuse every call.
    assert {key for key, a in arguments.items() if not a.get("optional")} <= set(parameters)
    # What may be left out of a call has a default.
    assert not [key for key in required if arguments[key].get("optional")]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Image.gradient", {}, "the emulator does not know this algorithm"),
        ("Image.nonsense", {}, "no such algorithm"),
        ("Number.add", {"left": 1}, "Parameter 'right' is required and may not be null"),
        (
            "Number.add",
            {"left": 1, "right": None},
            "Parameter 'right' is required and may not be null",
        ),
        ("Number.add", {"left": 1, "right": 2, "middle": 3}, "Unrecognized argument: middle"),
        (
            "Number.add",
            {"left": 1, "right": "x"},
            "Cannot convert an object of type String to Number",
        ),
        ("Reducer.toList", {"tupleSize": 3}, "single values only"),
    ],
)
def test_a_wrong_call_is_refused(name, arguments, message):
    with pytest.raises(EngineError, match=message):
        registry.call(name, arguments)


@pytest.mark.parametrize(
    ("argument", "parameter"),
    [("sameFootprint", "same_footprint"), ("from", "from_"), ("min", "min_"), ("image1", "image1")],
)
def test_names_of_parameters(argument, parameter):
    assert registry.python_name(argument) == parameter


def test_the_readme_counts_what_is_known():
    text = (Path(ee_emulator.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert f"- {len(KNOWN)} of the service's algorithms" in text
