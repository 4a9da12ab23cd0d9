"""A state of the workbench as a notebook that papermill runs: the same map, without hands."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from pprint import pformat
from typing import Any

import numpy as np
import pandas as pd

from timo.atomic import check_writable, replacing
from timo.errors import TimoError

from ..base.state import State
from .recipe import Recipe, read_recipe

EPOCHS, SEED = 5, 0
# Options of `timo.open_cube` with a parameter of their own; the others share the parameter `options`.
_NAMED = ("aoi", "start", "end", "bands")
# A cube that nobody can open again from its options is saved with the notebook, unless it is larger than this.
_LARGEST_BYTES = 2e9


def export_notebook(state: State, path: str | Path) -> Path:
    """Write a notebook that does what was done by hand, from the cube to the exported map.

    Beside it the labels are saved as GeoJSON, and what cannot be made again from the parameters: the cube, if nothing
    says how it was opened, and the model, if nothing says how it was trained. The notebook has a cell tagged
    `parameters`, needs no widgets on a screen, and with the same parameters gives the same map.

    Parameters
    ----------
    state : State
        With a cube and labels.
    path : path
        The notebook, ``.ipynb``. The files beside it begin with its name.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    TimoError
        If there is no cube or nothing is labelled yet, the suffix is another, the cube would have to be saved and is
        too large for that, or the folder cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix != ".ipynb":
        raise TimoError(f"A notebook's name ends with .ipynb: '{path.name}' does not")
    if state.cube is None:
        raise TimoError("There is no cube to put into a notebook: open one in the tab Area")
    if state.labels is None or int(state.labels.max()) < 0:
        raise TimoError(
            "Nothing is labelled yet: the notebook would have nothing to train on. Label in the tab Label"
        )
    check_writable(path.parent)
    plan = _Plan(path.stem, read_recipe(state.code))
    _keep_cube(state, path, plan)
    _keep_labels(state, path, plan)
    _keep_model(state, path, plan)
    _write(_cells(plan), path)
    return path


@dataclass
class _Plan:
    """What goes into the notebook."""

    name: str
    recipe: Recipe
    parameters: dict[str, Any] = field(default_factory=dict)
    saved_model: str | None = None


def _keep_cube(state: State, path: Path, plan: _Plan) -> None:
    """Parameters that open the cube: those it was opened with, or else where it is saved."""
    # The line that opened it is surer than the state, whose area may have been drawn anew since.
    options = plan.recipe.opened or _options_of(state)
    if not options or not options.get("source"):
        options = _save_cube(state.cube, path)
    options = dict(options)
    plan.parameters["source"] = options.pop("source")
    plan.parameters |= {name: options.pop(name, None) for name in _NAMED}
    plan.parameters["options"] = options


def _options_of(state: State) -> dict[str, Any] | None:
    options = {name: value for name, value in state.options.items() if value is not None}
    if state.aoi is not None and options.get("source", "sample") != "sample":
        options.setdefault("aoi", state.aoi)
    return _as_written(options)


def _save_cube(cube: Any, path: Path) -> dict[str, Any]:
    import timo

    if cube.nbytes > _LARGEST_BYTES:
        raise TimoError(
            f"How this cube was opened is not known, and with {cube.nbytes / 1e9:.1f} GB it is too large to be saved "
            "with the notebook. Say how: Workbench(cube, source=..., start=..., ...)"
        )
    target = path.with_name(f"{path.stem}_cube.zarr")
    timo.export(cube, target)
    return {"source": "files", "path": target.name}


def _keep_labels(state: State, path: Path, plan: _Plan) -> None:
    from ..label.label_files import load, save
    from ..label.store import LabelStore

    target = path.with_name(f"{path.stem}_labels.geojson")
    store = LabelStore(state.cube, list(state.classes))
    store.adopt(state.labels)
    save(store, target)
    again = LabelStore(state.cube, store.classes)
    load(again, target)
    if not np.array_equal(again.labels().values, store.labels().values):
        raise TimoError(
            f"The labels did not come back from '{target.name}' as they are: the notebook is not written"
        )
    plan.parameters["labels_file"] = target.name
    plan.parameters["classes"] = list(store.classes)


def _keep_model(state: State, path: Path, plan: _Plan) -> None:
    """A model whose training cannot be repeated from what was noted can only be kept as it is."""
    import timo

    if state.model is not None and not plan.recipe.training:
        target = path.with_name(f"{path.stem}_model")
        timo.save(state.model, target)
        plan.saved_model = target.name
    plan.parameters["epochs"] = plan.recipe.values.get("epochs", EPOCHS)
    plan.parameters["seed"] = plan.recipe.values.get("seed", SEED)
    plan.parameters["output_folder"] = f"{plan.name}_output"


# ---- values that can be written down ----------------------------------------------------------


def _as_written(options: dict[str, Any]) -> dict[str, Any] | None:
    """Options as Python literals; None if one of them has no such form."""
    try:
        return {str(name): _literal(value) for name, value in options.items()}
    except TimoError:
        return None


def _literal(value: Any) -> Any:
    """The same value in Python's own types, as it can stand in a parameters cell."""
    # First, since numpy's float64 is a float, too.
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(name): _literal(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [_literal(item) for item in value]
    if hasattr(value, "__geo_interface__"):
        return _literal(value.__geo_interface__)
    raise TimoError(f"a {type(value).__name__} cannot be written into a notebook")


_CONVERSIONS: tuple[tuple[Any, Any], ...] = (
    ((np.datetime64, dt.date), lambda date: pd.Timestamp(date).isoformat()),
    (np.generic, lambda number: number.item()),
    (Path, str),
)


# ---- the cells --------------------------------------------------------------------------------

_TITLE = """\
# {name}

Made by the workbench of timo: a cube, labels drawn by hand, a model, a map. It runs without hands, in the folder where
it lies:

```bash
papermill {name}.ipynb {name}_run.ipynb -p seed 1
```

The same parameters give the same map on the same machine."""

_IMPORTS = """\
from pathlib import Path

import matplotlib.pyplot as plt
import timo
from timo_widgets import LabelStore, class_colours, label_files

output = Path(output_folder)
output.mkdir(parents=True, exist_ok=True)"""

_CUBE = """\
given = {"aoi": aoi, "start": start, "end": end, "bands": bands, **options}
cube = timo.open_cube(source, **{name: value for name, value in given.items() if value is not None})
cube = timo.fetch(cube, progress=False)
cube"""

_LABELS = """\
store = LabelStore(cube, classes)
label_files.load(store, labels_file)
labels = store.labels()
store.counts()"""

_PICTURE = """\
shown = result.label if "time" not in result.label.dims else result.label.isel(time=-1)
colours = class_colours(len(model.config.classes))
figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
extent = [float(v) for v in (shown.x[0], shown.x[-1], shown.y[-1], shown.y[0])]
axis.imshow(plt.matplotlib.colors.ListedColormap(colours)(shown.values), alpha=(shown.values >= 0) * 1.0, extent=extent)
for name, colour in zip(model.config.classes, colours, strict=True):
    axis.scatter([], [], color=colour, marker="s", label=name)
axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
axis.set(xlabel="x, m", ylabel="y, m", title="most probable class")
plt.show()"""

_EXPORT = """\
timo.export(result, output / "map.tif")
timo.export(result, output / "map.zarr")
timo.save(model, output / "model")
sorted(path.name for path in output.iterdir())"""


def _cells(plan: _Plan) -> list[Any]:
    from nbformat.v4 import new_code_cell, new_markdown_cell

    parameters = new_code_cell(_assignments(plan.parameters), metadata={"tags": ["parameters"]})
    text = [
        ("The cube", _CUBE),
        ("The labels", _LABELS),
        ("The model", _training(plan)),
        ("The map", _prediction(plan)),
        (None, _PICTURE),
        ("To keep", _EXPORT),
    ]
    cells = [new_markdown_cell(_TITLE.format(name=plan.name)), parameters, new_code_cell(_IMPORTS)]
    for title, code in text:
        cells += [new_markdown_cell(f"## {title}")] if title else []
        cells.append(new_code_cell(code))
    for number, cell in enumerate(cells):
        # Ids that say nothing but the place: the same state gives the same file.
        cell["id"] = f"cell-{number:02}"
    return cells


def _assignments(parameters: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {pformat(v, width=100)}" for name, v in parameters.items())


def _training(plan: _Plan) -> str:
    if plan.saved_model:
        return f'model = timo.load_model("{plan.saved_model}", cube=cube)\nmodel'
    if plan.recipe.training:
        return "\n".join(plan.recipe.training)
    return (
        'model = timo.load_model("timo-tiny", cube=cube, classes=classes, per_date=False, seed=seed)\n'
        "timo.finetune(model, cube, labels, epochs=epochs, seed=seed, progress=False).history"
    )


def _prediction(plan: _Plan) -> str:
    return f"{plan.recipe.prediction or 'result = timo.predict(model, cube)'}\nresult = result.compute()\nresult"


def _write(cells: list[Any], path: Path) -> None:
    import nbformat

    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    with replacing(path) as partial:
        nbformat.write(notebook, partial)
