"""What `timo.evaluate` returns: figures with intervals, the confusion matrix, and how they print and plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from timo.atomic import check_name, replacing
from timo.checks import PathLike, checked
from timo.errors import TimoError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {
    "overall_accuracy": "overall accuracy",
    "mean_f1": "mean F1",
    "mean_f1_all": "mean F1, all classes",
    "mean_iou": "mean IoU",
    "mean_iou_all": "mean IoU, all classes",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R2",
    "bias": "bias",
    "inside": "inside its interval",
    "precision": "user's accuracy (precision)",
    "recall": "producer's accuracy (recall)",
    "f1": "F1",
    "iou": "IoU",
}
_BOUNDS = ("_low", "_high")
# Classes whose counts are still legible in a cell of the picture.
_MOST_WRITTEN = 20
# Names of classes that are written level below the columns: at most as many, of at most as many letters.
_MOST_LEVEL, _LONGEST_LEVEL = 8, 8


@checked
@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on labelled data, beside simple baselines on the same labels and the same split.

    Print it; in a notebook it shows itself as tables.

    Attributes
    ----------
    table : DataFrame
        One row a predictor (the model first), with `overall_accuracy`, `mean_f1` and `mean_iou` over the classes that
        the reference holds, `mean_f1_all` and `mean_iou_all` over all (an absent class that is not predicted counts 0);
        of a regression `rmse`, `mae`, `r2`, `bias` (predicted minus reference, in the unit of the target) and `inside`,
        the share of the references within the predicted interval. Each has its 95 % interval beside it, as `rmse_low`
        and `rmse_high`.
    classes : DataFrame
        Of the model, one row a class: `precision` (user's accuracy), `recall` (producer's accuracy), `f1`, `iou`, each
        with its interval, `support` (count in the reference) and `predicted`. Empty of a regression.
    confusion : DataFrame
        Counts of the model, rows = reference, columns = predicted. Empty of a regression.
    title : str
        What was counted, in one line.
    notes : tuple of str
        How: the units that the intervals resample, what the baselines were given, what is missing.
    pairs : DataFrame
        Of a regression: `reference` and `predicted` of a random part of what was counted, for the picture.
    units : str
        Unit of the target of a regression.
    """

    table: pd.DataFrame
    classes: pd.DataFrame
    confusion: pd.DataFrame
    title: str
    notes: tuple[str, ...] = ()
    pairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    units: str = ""

    def __str__(self) -> str:
        parts = [self.title, _shown(self.table).to_string()]
        if len(self.classes):
            parts += [_shown(self.classes).to_string(), self._headed().to_string()]
        return "\n\n".join([*parts, "\n".join(self.notes)]).rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{escape(self.title)}</b></p>", _shown(self.table).to_html()]
        if len(self.classes):
            parts += [_shown(self.classes).to_html(), self._headed().to_html()]
        return "\n".join([*parts, *(f"<p>{escape(note)}</p>" for note in self.notes)])

    def _headed(self) -> pd.DataFrame:
        """Return the confusion matrix with its directions in words."""
        return self.confusion.rename_axis(index="reference", columns="predicted")

    @checked
    def plot(self, ax: Any = None) -> Any:
        """Draw the confusion matrix; of a regression, predictions over references.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to; by default in a new figure.

        Returns
        -------
        Axes
            Colours are shares of the reference (of each row); cells give the counts.

        Raises
        ------
        TimoError
            If `ax` is no Axes.
        """
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes

        if ax is not None and not isinstance(ax, Axes):
            raise TimoError(
                f"ax must be Axes of matplotlib; got {type(ax).__name__}. Leave it out, or use plt.subplots()[1]."
            )
        if ax is None:
            side = 4.5 + 0.45 * min(len(self.confusion), 40)
            _, ax = plt.subplots(figsize=(side + 1, side), layout="constrained")
        if len(self.confusion):
            _draw_confusion(ax, self.confusion)
        else:
            _draw_pairs(ax, self.pairs, self.units)
        ax.set_title(fill(self.title, 60), fontsize="medium")
        return ax

    @checked
    def to_csv(self, path: PathLike) -> Path:
        """Write all figures, one a line: predictor, class (empty: over the classes), figure, value, low, high.

        Raises
        ------
        TimoError
            If the file cannot be written.
        """
        path = check_name(path)
        model = self.table.index[0]
        long = [_long(self.table), _long(self.classes).assign(predictor=model)]
        long[0] = long[0].rename(columns={"class": "predictor"}).assign(**{"class": ""})
        columns = ["predictor", "class", "figure", "value", "low", "high"]
        with replacing(path) as partial:
            pd.concat(long).reindex(columns=columns).to_csv(partial, index=False)
        return path


def figure_table(
    rows: dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]],
) -> pd.DataFrame:
    """Return a row for each predictor from its figures and their intervals, (2,) each."""
    return pd.DataFrame(
        {
            row: {
                name + bound: float(value)
                for name in figures
                for bound, value in zip(
                    ("", *_BOUNDS), (figures[name], *intervals[name]), strict=True
                )
            }
            for row, (figures, intervals) in rows.items()
        }
    ).T.dropna(axis="columns", how="all")


def class_table(
    names: tuple[str, ...], figures: dict[str, np.ndarray], intervals: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Return a row for each class from its figures, (k,) each, and their intervals, (2, k)."""
    columns: dict[str, np.ndarray] = {}
    for name in ("precision", "recall", "f1", "iou"):
        columns[name] = figures[name]
        columns |= {name + bound: intervals[name][i] for i, bound in enumerate(_BOUNDS)}
    for name in ("support", "predicted"):
        columns[name] = figures[name].astype("int64")
    return pd.DataFrame(columns, index=pd.Index(names, name="class"))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for people: each figure with its interval behind it, under its title.

    Means over all classes are left out where they are those over the classes in the reference.
    """
    names = [name for name in map(str, table) if not name.endswith(_BOUNDS)]
    means = ["mean_f1", "mean_iou"]
    if set(means) <= set(names) and all(table[n].equals(table[f"{n}_all"]) for n in means):
        names = [name for name in names if not name.endswith("_all")]
    shown = {TITLES.get(n, n): [_cell(row, n) for _, row in table.iterrows()] for n in names}
    return pd.DataFrame(shown, index=pd.Index(table.index, name=None))


def _cell(row: pd.Series, name: str) -> str:
    value, low, high = (row.get(name + bound, np.nan) for bound in ("", *_BOUNDS))
    if name in ("support", "predicted"):
        return f"{int(value):,}"
    if np.isnan(value):
        return "-"
    digits = 3 if abs(value) < 10 else 1
    interval = "" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{interval}"


def _long(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with one line for each figure."""
    lines = [
        {
            "class": row,
            "figure": name,
            "value": values[name],
            "low": values.get(f"{name}_low"),
            "high": values.get(f"{name}_high"),
        }
        for row, values in table.iterrows()
        for name in map(str, table)
        if not name.endswith(_BOUNDS)
    ]
    return pd.DataFrame(lines, columns=["class", "figure", "value", "low", "high"])


def _draw_confusion(ax: Axes, confusion: pd.DataFrame) -> None:
    """Draw shares of the reference as colours, with the counts in the cells and the accuracies at the margins."""
    counts = confusion.to_numpy(dtype="float64")
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    hits = np.diag(counts)
    shares = counts / np.maximum(rows, 1)[:, None]
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="share of the reference class", shrink=0.8)
    places = range(len(counts))
    recall, precision = (
        [f"{hit / n:.2f}" if n else "-" for hit, n in zip(hits, total, strict=True)]
        for total in (rows, columns)
    )
    names = [str(name) for name in confusion.index]
    short = len(names) <= _MOST_LEVEL and max(map(len, names)) <= _LONGEST_LEVEL
    below = [f"{n}{chr(10) if short else '  '}{p}" for n, p in zip(names, precision, strict=True)]
    slanted: dict[str, Any] = (
        {} if short else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    )
    ax.set_xticks(places, below, **slanted)
    ax.set_yticks(places, [f"{n}  {p}" for n, p in zip(names, recall, strict=True)])
    ax.set_xlabel("predicted class, user's accuracy below it")
    ax.set_ylabel("reference class, producer's accuracy beside it")
    if len(counts) > _MOST_WRITTEN:
        return
    size = "medium" if len(counts) <= 8 else "x-small"
    for row in places:
        for column in places:
            if counts[row, column]:
                colour = "white" if shares[row, column] > 0.5 else "black"
                ax.text(
                    column, row, _short(counts[row, column]), ha="center", va="center",
                    color=colour, fontsize=size,
                )  # fmt: skip


def _short(count: float) -> str:
    for limit, letter in ((1e6, "M"), (1e4, "k")):
        if count >= limit:
            return f"{count / (1e6 if letter == 'M' else 1e3):.3g}{letter}"
    return f"{count:,.0f}"


def _draw_pairs(ax: Axes, pairs: pd.DataFrame, units: str) -> None:
    """Draw predictions over references, with the line on which they are equal."""
    unit = f" ({units})" if units else ""
    ax.scatter(pairs["reference"], pairs["predicted"], s=8, alpha=0.4, linewidths=0)
    both = pairs.to_numpy()
    ends = [both.min(), both.max()] if both.size else [0, 1]
    ax.plot(ends, ends, color="black", linewidth=1, label="equal")
    ax.set_aspect("equal")
    ax.set_xlabel(f"reference{unit}")
    ax.set_ylabel(f"predicted{unit}")
    ax.legend(frameon=False)
