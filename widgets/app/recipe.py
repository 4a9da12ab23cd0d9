"""What was done, read back from the lines that the workbench noted: how the model came about, and the map."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# Where a model begins, what changes it, and what makes the map.
_BEGINS = "load_model"
_OPENS = "open_cube"
_TRAINS = ("finetune", "fit_head")
_MAPS = "predict"
# The parameter of a notebook that says where the weights lie that a new model begins with.
START = "start_folder"
# How a training that was cancelled is noted: what it left cannot be had again by code.
_STOPPED = "# stopped"
# Arguments that are parameters of a notebook rather than values in its cells.
_PARAMETERS = ("epochs", "seed", "classes")
# Names that a notebook has when it trains.
_THERE = {"timo", "model", "cube", "labels", "classes"}
# A notebook trains anew and in one go; the weights are the same with and without a checkpoint on the way.
_LEFT_OUT = ("folder", "resume")


@dataclass
class Recipe:
    """Lines of a notebook.

    Attributes
    ----------
    training : list of str
        From the model's beginning to its last training, with epochs, seed and classes as names; empty if code cannot
        make the model: none was noted, a training was cancelled, the labels were changed between two of them, or an
        argument is a name that only the notebook knows in which it was done.
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
        Options of the last `timo.open_cube`, its source among them; None if it was not noted, or not in literals.
    """

    training: list[str] = field(default_factory=list)
    start: str = ""
    prediction: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    outdated: bool = False
    unmapped: bool = False
    opened: dict[str, Any] | None = None


def read_recipe(lines: Iterable[str]) -> Recipe:
    """Read the recipe from lines of code.

    Parameters
    ----------
    lines : iterable of str
        In the order in which things were done; what is no Python is passed over.
    """
    steps: list[ast.stmt] = []
    recipe, repeatable, changed, trained, mapped = Recipe(), True, False, False, False
    for line in lines:
        if line.startswith(_STOPPED) and "pretrain(" not in line:
            repeatable, recipe.unmapped = False, mapped
        for statement in _parsed(line):
            name = _called(statement)
            if name == _OPENS:
                recipe.opened = _options(statement)
            elif name == _BEGINS:
                # A new model: what was done to the one before is of no account, nor is its map.
                steps, recipe.prediction, repeatable, changed = [statement], "", True, False
                trained = False
            elif name in _TRAINS:
                repeatable &= not (changed and len(steps) > 1)
                steps.append(statement)
                changed, trained, recipe.unmapped = False, True, mapped
            elif name == _MAPS:
                recipe.prediction = ast.unparse(statement)
                mapped, recipe.unmapped = True, False
            elif name != "save" and _is_about_labels(statement):
                changed = True
    recipe.outdated = changed and trained
    if repeatable and len(steps) > 1 and all(map(_is_complete, steps)):
        recipe.values, recipe.start = _values(steps), _start(steps[0])
        recipe.training = [_with_names(statement, recipe.values) for statement in steps]
    return recipe


def _parsed(line: str) -> list[ast.stmt]:
    try:
        return ast.parse(line).body
    except SyntaxError:
        # A note in words.
        return []


def _call(statement: ast.stmt) -> ast.Call | None:
    value = getattr(statement, "value", None)
    return value if isinstance(value, ast.Call) else None


def _called(statement: ast.stmt) -> str:
    """Name of the function that a statement calls, without the modules before it."""
    call = _call(statement)
    if call is None:
        return ""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _options(statement: ast.stmt) -> dict[str, Any] | None:
    call = _call(statement)
    assert call is not None
    try:
        options = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        return dict(zip(["source"], map(ast.literal_eval, call.args), strict=False)) | options
    except ValueError:
        return None


def _is_about_labels(statement: ast.stmt) -> bool:
    """Whether it changes labels: something is called on them, or put in their place."""
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return bool(names & {"labels", "labeler", "store"})


def _is_complete(statement: ast.stmt) -> bool:
    """Whether all names in it are there in a notebook."""
    names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return names <= _THERE


def _literal(node: ast.expr) -> Any:
    """The value of a literal; None of anything else."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _values(steps: list[ast.stmt]) -> dict[str, Any]:
    """Parameters of the last step that has them."""
    values: dict[str, Any] = {}
    for statement in steps:
        call = _call(statement)
        assert call is not None
        if _called(statement) == _BEGINS:
            # It is left out of the line where it is the default.
            values["seed"] = 0
        for keyword in call.keywords:
            if keyword.arg in _PARAMETERS and (value := _literal(keyword.value)) is not None:
                values[keyword.arg] = value
    return values


def _start(statement: ast.stmt) -> str:
    """The folder that `timo.load_model` is given, if it is one; its place in the statement takes a parameter."""
    from timo.models.config import SIZES

    call = _call(statement)
    if _called(statement) != _BEGINS or call is None or not call.args:
        return ""
    first = call.args[0]
    if not isinstance(first, ast.Constant):
        return ""
    start = str(first.value)
    if start.removeprefix("timo-") in SIZES:
        return ""
    call.args[0] = ast.Name(START)
    return start


def _with_names(statement: ast.stmt, values: dict[str, Any]) -> str:
    """The statement with the names of parameters where it has their values."""
    call = _call(statement)
    assert call is not None
    call.keywords = [keyword for keyword in call.keywords if keyword.arg not in _LEFT_OUT]
    given = {keyword.arg for keyword in call.keywords}
    if _called(statement) == _BEGINS and "seed" not in given and values["seed"] == 0:
        call.keywords.append(ast.keyword("seed", ast.Constant(0)))
    for keyword in call.keywords:
        if keyword.arg in values and _literal(keyword.value) == values[keyword.arg]:
            keyword.value = ast.Name(keyword.arg)
    return ast.unparse(statement)
