"""A state of the workbench as a notebook that papermill runs: the same map, without hands."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from timo.atomic import check_writable, replacing
from timo.checks import PathLike, checked, plain
from timo.cube import check_labels
from timo.errors import TimoError

from ..base.state import State
from .cells import KEPT_MODEL, cells, write
from .recipe import START, Recipe, read_recipe

EPOCHS, SEED = 5, 0
# Options of `timo.open_cube` with a parameter of their own; the others share the parameter `options`.
_NAMED = ("aoi", "start", "end", "bands")
# A cube that cannot be opened again from its options is saved with the notebook, unless it is larger than this.
_LARGEST_BYTES = 2e9


@checked
def export_notebook(state: State, path: PathLike) -> Path:
    """Write a notebook that does what was done by hand, from the cube to the exported map.

    Beside it the labels are saved as GeoJSON, and what cannot be made again from the parameters: the cube, if nothing
    says how it was opened, the folder of weights that a training began with, and the model, if nothing says how it was
    trained. Where each of them lies is a parameter. The notebook has a cell tagged
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
        If there is no cube or nothing is labelled yet, the model does not map classes, the suffix is another, the cube
        would have to be saved and is too large for that, or the folder cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix != ".ipynb":
        raise TimoError(f"A notebook's name ends with .ipynb: '{path.name}' does not")
    if state.cube is None:
        raise TimoError("There is no cube to put into a notebook: open one in the tab Area")
    if state.model is not None and state.model.config.task != "segmentation":
        raise TimoError(
            "The notebook is of a map of classes, and the present model does not make one. Train another in the tab "
            "Train, or save this one with timo.save"
        )
    if state.labels is None or int(check_labels(state.labels, state.cube).max()) < 0:
        raise TimoError(
            "Nothing is labelled yet: the notebook would have nothing to train on. Label in the tab Label"
        )
    check_writable(path.parent)
    plan = _Plan(path.stem, read_recipe(state.code))
    _keep_cube(state, path, plan)
    _keep_labels(state, path, plan)
    _keep_model(state, path, plan)
    write(cells(plan.name, plan.parameters, plan.recipe), path)
    return path


@dataclass
class _Plan:
    """What goes into the notebook."""

    name: str
    recipe: Recipe
    parameters: dict[str, Any] = field(default_factory=dict)


def _keep_cube(state: State, path: Path, plan: _Plan) -> None:
    """Set the parameters that open the cube: those it was opened with, or else where it is saved."""
    # The line that opened it is surer than the state, whose area may have been drawn again since.
    options = _as_written(plan.recipe.opened or {}) or _options_of(state)
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
    """Keep the start of the training, or the model itself where its training cannot be repeated."""
    import timo

    recipe, start = plan.recipe, plan.recipe.start
    if recipe.training and start:
        try:
            _keep_start(start, path, plan)
        except TimoError:
            if state.model is None:
                raise
            # What it began with is gone: the model that came of it is here.
            recipe.training = []
    if state.model is not None and not recipe.training:
        target = path.with_name(f"{path.stem}_model")
        timo.save(state.model, target)
        plan.parameters[KEPT_MODEL] = target.name
    else:
        plan.parameters["epochs"] = recipe.values.get("epochs", EPOCHS)
        plan.parameters["seed"] = recipe.values.get("seed", SEED)
    plan.parameters["output_folder"] = f"{plan.name}_output"


def _keep_start(start: str, path: Path, plan: _Plan) -> None:
    """Copy the folder that a new model begins with: the notebook needs it beside itself."""
    folder = Path(start).expanduser()
    if not folder.is_dir():
        raise TimoError(
            f"The model began with the folder '{start}', which is not there any more: put it back, or train again in "
            "the tab Train"
        )
    target = path.with_name(f"{path.stem}_start")
    # Exported again where it was copied to, it would be copied onto itself.
    if folder.resolve() != target.resolve():
        with replacing(target) as partial:
            partial.mkdir()
            # Checkpoints of a run, in folders of their own, are of no use to a new model.
            for file in filter(Path.is_file, folder.iterdir()):
                shutil.copyfile(file, partial / file.name)
    plan.parameters[START] = target.name


# ---- values that can be written down ----------------------------------------------------------


def _as_written(options: dict[str, Any]) -> dict[str, Any] | None:
    """Return the options as Python literals; None if one of them has no such form."""
    try:
        return {str(name): _literal(value) for name, value in options.items()}
    except TimoError:
        return None


def _literal(value: Any) -> Any:
    """Return the same value in Python's own types, as it can stand in a parameters cell."""
    if isinstance(value, np.datetime64 | dt.date):
        return pd.Timestamp(value).isoformat()
    value = str(value) if isinstance(value, Path) else plain(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(name): _literal(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [_literal(item) for item in value]
    if hasattr(value, "__geo_interface__"):
        return _literal(value.__geo_interface__)
    raise TimoError(f"A {type(value).__name__} cannot be written into a notebook")
