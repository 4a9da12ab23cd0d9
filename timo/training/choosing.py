"""What answers: the encoder's features, the pixel's own values, or both; chosen by cross-validation on the labels.

Neighbours are alike, so whole groups of labelled pixels are held out (Roberts et al. 2017, Ecography 40, 913-929):
clumps of those whose surroundings touch, as the head sees them.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int

from timo.cancel import Stop, obey
from timo.compute import OnStep, Steps
from timo.cube.labels import UNLABELLED
from timo.errors import TimoError
from timo.models.pixel import pooled
from timo.models.tasks import TiMo
from timo.training.features import head_of
from timo.training.inputs import evaluating
from timo.training.samples import REACH, Samples, pixel_scores_of, scores_of
from timo.training.steps import learn

# Weight of single pixels in the answer of each candidate; of equals the first is chosen.
WEIGHTS = {"both": 0.5, "encoder": 0.0, "pixels": 1.0}
FOLDS = 3
# Most steps of the head in each fold.
STEPS = 30
# Labelled pixels of each class that are learnt from and held out: more make it long.
MOST_PIXELS = 100
# Side in pixels of the blocks that wider clumps are cut into, as where all of a place is labelled.
BLOCK = 32
_UNUSED = -1


@dataclass(frozen=True)
class Choice:
    """What was chosen: the weight of single pixels in the answer, the figures of the candidates, and a line about them.

    Weight and table are None where there was nothing to choose by; the line then says why.
    """

    weight: float | None
    table: pd.DataFrame | None
    summary: str


def choose(
    model: TiMo,
    samples: Sequence[Samples],
    groups: Int[np.ndarray, " n"],
    *,
    steps: int,
    rates: tuple[float, float],
    seed: int,
    stop: Stop | None,
    on_step: OnStep | None,
) -> Choice:
    """Choose the candidate that is best at held-out labels, every class counting the same.

    Of each fold a copy of the head learns; the model, which has a path of single pixels, stays as it is. `groups` are
    those of all pixels of all places (`groups_of`).

    Raises
    ------
    CancelledError
        If `stop` said so.
    """
    drawn = _draw(samples, seed).assign(group=lambda of: groups[of.pixel])
    folds = _folds(drawn[["group", "label"]].drop_duplicates(), seed)
    if isinstance(folds, int):
        name = model.config.classes[folds]
        return Choice(None, None, _too_few(name, model.config.pixel))
    fold = np.full(groups.shape, _UNUSED)
    fold[drawn.pixel] = folds.loc[drawn.group]
    count, judged = int(folds.max()) + 1, []
    steps, counted = min(steps, STEPS), Steps(on_step)
    counted.begin(count * steps)
    for number in range(count):
        # Around the same encoder, which does not learn.
        trial = copy.deepcopy(model, {id(model.encoder): model.encoder})
        learnt, held = _parts(samples, fold, number)
        learn(
            trial,
            learnt,
            steps=steps,
            rates=rates,
            seed=seed,
            stop=stop,
            on_step=lambda _: counted.step(),
        )
        obey(stop, "Stopped by the user; the model is what it was.")
        judged += [_right(trial, one, groups) for one in held]
    table = _table(pd.concat(judged))
    best = _best(table)
    return Choice(WEIGHTS[best], table, _summary(table, best, count))


def groups_of(labels: Sequence[Int[np.ndarray, "*t y x"]]) -> Int[np.ndarray, " n"]:
    """Return the group of each pixel of all places, row by row; 0 where unlabelled.

    Pixels whose surroundings touch are a group, of any class. Wider ones are cut into blocks.
    """
    every, count = [], 0
    for one in labels:
        groups = _groups(one != UNLABELLED if one.ndim == 2 else (one != UNLABELLED).any(axis=0))
        every.append(np.where(groups > 0, groups + count, 0).ravel())
        count += int(groups.max())
    return np.concatenate(every)


def _groups(known: Bool[np.ndarray, "y x"]) -> Int[np.ndarray, "y x"]:
    try:
        from scipy import ndimage
    except ImportError as error:
        raise TimoError(
            "The cross-validation of fit_head needs SciPy: install it with pip install 'timo[train]', or pass "
            "cross_validate=False."
        ) from error
    around, touching = np.ones((2 * REACH + 1,) * 2), np.ones((3, 3))
    clumps, _ = ndimage.label(ndimage.binary_dilation(known, around), touching)
    rows, columns = np.nonzero(known)
    table = pd.DataFrame({"clump": clumps[known], "row": rows, "column": columns})
    by = table.groupby("clump")
    wide = (by.transform("max") - by.transform("min")).max(axis=1) >= BLOCK
    blocks = (table[["row", "column"]] // BLOCK).where(wide, 0)
    groups = np.zeros(known.shape, "int64")
    groups[known] = 1 + blocks.assign(clump=table.clump).groupby(list(table)).ngroup()
    return groups


def _draw(samples: Sequence[Samples], seed: int) -> pd.DataFrame:
    """Return labelled pixels and their labels, a row each, of many only so many of each class."""
    rows = [
        pd.DataFrame(
            {"pixel": one.pixels.expand(one.labels.shape).flatten(), "label": one.labels.flatten()}
        )
        for one in samples
    ]
    every = pd.concat(rows).query("label != @UNLABELLED").drop_duplicates()
    return every.sample(frac=1, random_state=seed).groupby("label").head(MOST_PIXELS)


def _folds(pairs: pd.DataFrame, seed: int) -> "pd.Series[int] | int":
    """Return the fold of each group, or the class that is in one alone.

    Groups are dealt out class by class, so that the rest of each fold has every class to learn from.
    """
    held = pairs.groupby("label").group.size()
    if held.min() < 2:
        return int(held.index[int(held.argmin())])
    # A group of several classes counts for the rarest.
    order = pairs.assign(held=held.loc[pairs.label].to_numpy()).sort_values(["held", "label"])
    order = order.drop_duplicates("group").sample(frac=1, random_state=seed)
    order = order.sort_values(["held", "label"], kind="stable")
    fold = np.arange(len(order)) % min(FOLDS, int(held.min()))
    return pd.Series(fold, order.group.to_numpy())


def _parts(
    samples: Sequence[Samples], fold: Int[np.ndarray, " n"], number: int
) -> tuple[list[Samples], list[Samples]]:
    """Return what is learnt from, and what is held out in a fold."""
    parts: tuple[list[Samples], list[Samples]] = [], []
    for one in samples:
        own = torch.from_numpy(fold[one.pixels])
        for part, which in zip(
            parts, ((own != number) & (own != _UNUSED), own == number), strict=True
        ):
            some = one.some(which)
            if bool((some.labels != UNLABELLED).any()):
                part.append(some)
    return parts


@torch.no_grad()
def _right(model: TiMo, samples: Samples, groups: Int[np.ndarray, " n"]) -> pd.DataFrame:
    """Return a row a label: its group and class, and of each candidate whether it is right."""
    assert model.pixel is not None
    with evaluating(model):
        context, labels = scores_of(head_of(model), samples)
        own = pixel_scores_of(model.pixel, samples)
    known = labels != UNLABELLED
    # By date each pixel once a date.
    group = torch.from_numpy(groups[samples.pixels]).repeat(len(labels) // len(samples.pixels))
    context, own = (scores[known][..., None, None] for scores in (context, own))
    found = pd.DataFrame({"group": group[known], "label": labels[known]})
    for name, weight in WEIGHTS.items():
        scores = pooled(context, own, context.new_full((len(own), 1, 1, 1), weight), classes=True)
        found[name] = scores.argmax(dim=1)[:, 0, 0].numpy() == found.label
    return found


def _table(right: pd.DataFrame) -> pd.DataFrame:
    """Return the figures of each candidate, every class counting the same."""
    names = list(WEIGHTS)
    share = 1 / right.groupby("label").label.transform("size") / right.label.nunique()
    by_group = right[names].mul(share, axis=0).groupby(right.group).sum()
    # Labels of a group are right or wrong together: the groups are what is counted.
    ahead = by_group.sub(by_group.both, axis=0)
    return pd.DataFrame(
        {
            "pixel": pd.Series(WEIGHTS),
            "accuracy": by_group.sum().round(6),
            "standard_error": ahead.std() * math.sqrt(len(ahead)),
            "groups": len(ahead),
        }
    ).rename_axis("answer")


def _best(table: pd.DataFrame) -> str:
    """Return the best candidate of those that are clearly better than both together, or else both.

    Clearly is by more than a standard error of the difference (the rule of Breiman et al. 1984, Classification and
    Regression Trees, which prefers the safer of what cannot be told apart).
    """
    clear = table[table.accuracy > table.accuracy["both"] + table.standard_error]
    return "both" if clear.empty else str(clear.accuracy.idxmax())


def _summary(table: pd.DataFrame, best: str, folds: int) -> str:
    """Say what was chosen, by how much, and on what."""
    names = {"both": "encoder and pixels together", "encoder": "the encoder", "pixels": "pixels"}
    others = ", ".join(
        f"{names[name]} {accuracy:.3f}"
        for name, accuracy in zip(WEIGHTS, table.accuracy, strict=True)
        if name != best
    )
    close = " What is better by less than a standard error is not chosen."
    return (
        f"Chosen by cross-validation: {names[best]}, {table.accuracy[best]:.3f} of held-out labels right ({others}; "
        f"every class counts the same, {table.groups.iloc[0]} groups of neighbouring labels in {folds} folds)."
        f"{close if table.accuracy.max() > table.accuracy[best] else ''}"
    )


def _too_few(name: str, weight: float) -> str:
    return (
        f"Not chosen by cross-validation: the labels of {name!r} are one group of neighbours, and two are needed to "
        f"hold one out. The pixel's own values keep the weight {weight:g} in the answer."
    )
