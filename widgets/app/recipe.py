"""How the model and the map came about, from the steps that the workbench noted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..base.steps import Name, Step, call_code

_TRAINS = ("finetune", "fit_head")
# The parameter of a notebook that says where the weights lie that a new model begins with.
START = "start_folder"
# Arguments that are parameters of a notebook rather than values in its cells.
_PARAMETERS = ("epochs", "seed", "classes")
# A notebook trains again and in one go; the weights are the same with and without a checkpoint on the way.
_LEFT_OUT = ("folder", "resume")


@dataclass
class Recipe:
    """Lines of a notebook.

    Attributes
    ----------
    training : list of str
        From the model's beginning to its last training, with epochs, seed and classes as names; empty if code cannot
        make the model: none was noted, a training was cancelled, or the labels were changed between two of them.
    start : str
        Folder of the weights that the model began with; in `training` it is the name `START`. Empty if it began with
        a size.
    prediction : str
        The line that made the map; empty if none was noted.
    values : dict
        What the parameters were for the last training.
    outdated : bool
        Whether the labels were changed after the last training.
    unmapped : bool
        Whether the model was trained after the last map was made.
    opened : dict or None
        Options of the last `timo.open_cube`, its source among them; None if it was not noted.
    """

    training: list[str] = field(default_factory=list)
    start: str = ""
    prediction: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    outdated: bool = False
    unmapped: bool = False
    opened: dict[str, Any] | None = None


def read_recipe(lines: Iterable[str]) -> Recipe:
    """Read the recipe from what was noted, in the order in which it was done; lines that are no `Step` are left out."""
    steps: list[Step] = []
    recipe, repeatable, changed, trained, mapped = Recipe(), True, False, False, False
    for step in (line for line in lines if isinstance(line, Step)):
        if step.name == "open_cube":
            recipe.opened = {"source": step.given[0], **step.options}
        elif step.name == "load_model":
            # A new model: what was done to the one before is of no account, nor is its map.
            steps, recipe.prediction, repeatable, changed = [step], "", True, False
            trained = False
        elif step.name in _TRAINS and step.stopped:
            repeatable, recipe.unmapped = False, mapped
        elif step.name in _TRAINS:
            repeatable &= not (changed and len(steps) > 1)
            steps.append(step)
            changed, trained, recipe.unmapped = False, True, mapped
        elif step.name == "predict":
            recipe.prediction, mapped, recipe.unmapped = str(step), True, False
        elif step.function.startswith(("store.", "label_files.")):
            changed = changed or step.name != "save"
    recipe.outdated = changed and trained
    if repeatable and len(steps) > 1 and steps[0].name == "load_model":
        recipe.values, recipe.start = _values(steps), _start(steps[0])
        recipe.training = [_with_names(step, recipe.values, recipe.start) for step in steps]
    return recipe


def _values(steps: list[Step]) -> dict[str, Any]:
    """Return the parameters of the last step that has them."""
    # The seed is left out of a line where it is the default.
    values: dict[str, Any] = {"seed": 0}
    for step in steps:
        values |= {name: step.options[name] for name in _PARAMETERS if name in step.options}
    return values


def _start(step: Step) -> str:
    """Return the folder that a model begins with; empty for a size, and for a model of single pixels."""
    from timo.models.config import PIXEL, SIZES

    first = str(step.given[0])
    return "" if first.removeprefix("timo-") in (*SIZES, PIXEL) else first


def _with_names(step: Step, values: dict[str, Any], start: str) -> str:
    """Return the line of a step with the names of parameters where it has their values."""
    given, options = step.given, {k: v for k, v in step.options.items() if k not in _LEFT_OUT}
    if step.name == "load_model":
        given = (Name(START), *given[1:]) if start else given
        if values["seed"] == 0:
            options.setdefault("seed", 0)
    named = {k: Name(k) if k in values and values[k] == v else v for k, v in options.items()}
    return call_code(step.function, *given, target=step.target, **named)
