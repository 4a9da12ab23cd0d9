"""The cells of an exported notebook."""

from __future__ import annotations

from pathlib import Path
from pprint import pformat
from typing import Any

from timo.atomic import replacing

from .recipe import Recipe

# The parameter that says where a model lies that was kept as it is.
KEPT_MODEL = "model_folder"

_TITLE = """\
# {name}

Made by the workbench of timo: a cube, labels drawn by hand, a model, a map. It runs without hands, in the folder where
it lies:

```bash
papermill {name}.ipynb {name}_run.ipynb -p {example}
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


def cells(name: str, parameters: dict[str, Any], recipe: Recipe) -> list[Any]:
    """Make the cells of a notebook: its parameters, and then from the cube to the files as the recipe says."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    example = "seed 1" if "seed" in parameters else "output_folder elsewhere"
    made = [
        new_markdown_cell(_TITLE.format(name=name, example=example)),
        new_code_cell(_assignments(parameters), metadata={"tags": ["parameters"]}),
        new_code_cell(_IMPORTS),
    ]
    text = [
        ("The cube", _CUBE),
        ("The labels", _LABELS),
        ("The model", _training(parameters, recipe)),
        ("The map", _prediction(recipe)),
        (None, _PICTURE),
        ("To keep", _EXPORT),
    ]
    for title, code in text:
        made += [new_markdown_cell(f"## {title}")] if title else []
        made.append(new_code_cell(code))
    for number, cell in enumerate(made):
        # Ids that say nothing but the place: the same state gives the same file.
        cell["id"] = f"cell-{number:02}"
    return made


def write(made: list[Any], path: Path) -> None:
    """Write cells as a notebook, whole or not at all."""
    import nbformat

    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook = nbformat.v4.new_notebook(cells=made, metadata=metadata)
    nbformat.validate(notebook)
    with replacing(path) as partial:
        nbformat.write(notebook, partial)


def _assignments(parameters: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {pformat(v, width=100)}" for name, v in parameters.items())


def _training(parameters: dict[str, Any], recipe: Recipe) -> str:
    if KEPT_MODEL in parameters:
        return f"model = timo.load_model({KEPT_MODEL}, data=cube)\nmodel"
    if recipe.training:
        return "\n".join(recipe.training)
    return (
        'model = timo.load_model("timo-tiny", data=cube, classes=classes, per_date=False, seed=seed)\n'
        "timo.finetune(model, cube, labels, epochs=epochs, seed=seed, progress=False).history"
    )


def _prediction(recipe: Recipe) -> str:
    return f"{recipe.prediction or 'result = timo.predict(model, cube)'}\nresult = result.compute()\nresult"
