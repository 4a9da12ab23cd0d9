"""A trained model's map under a condition, and how right it is on the squares that are tested."""

import numpy as np
import torch
from jaxtyping import Int
from torch import nn

from peers import medians
from peers.conditions import Condition
from peers.task import Task
from timo.cube import days_since_epoch, valid_mask

BATCH = 8


def starts(length: int, size: int) -> list[int]:
    """First rows of windows that overlap by half and end at the end."""
    last = max(length - size, 0)
    return sorted({*range(0, last, max(size // 2, 1)), last})


@torch.inference_mode()
def classify(
    model: nn.Module, task: Task, condition: Condition, size: int
) -> Int[np.ndarray, "h w"]:
    """Class of each pixel: of the mean probability over the windows that hold it.

    Windows of the size of the training chips, so that no model has to generalise to another extent.
    """
    values = task.cube.values[condition.when]
    valid = np.isfinite(values).all(axis=1) & ~condition.hidden
    x = torch.from_numpy(np.where(valid[:, None], values, np.float32(0)))
    seen = torch.from_numpy(valid)
    dates = torch.from_numpy(days_since_epoch(task.cube.time)[condition.when])
    height, width = x.shape[-2:]
    total = torch.zeros(len(task.classes), height, width)
    places = [(i, j) for i in starts(height, size) for j in starts(width, size)]
    for first in range(0, len(places), BATCH):
        some = places[first : first + BATCH]
        cuts = [(..., slice(i, i + size), slice(j, j + size)) for i, j in some]
        images, gaps = (torch.stack([a[cut] for cut in cuts]) for a in (x, seen))
        scores = model(images, dates.expand(len(some), -1), gaps)
        for cut, one in zip(cuts, scores.softmax(dim=1), strict=True):
            total[cut] += one
    best: np.ndarray = total.argmax(dim=0).numpy()
    return best


def classify_by_medians(
    task: Task, condition: Condition, kind: str, seed: int, trees: int
) -> Int[np.ndarray, "h w"]:
    """Class of each pixel by a classical model trained on the same dates and gaps, in the training squares."""
    some = task.cube.isel(time=condition.when)
    visible = some.where(~condition.hidden[:, None])
    jobs = torch.get_num_threads()
    features = medians.monthly_medians(visible)
    return medians.classify(
        features, task.labels.values, kind=kind, trees=trees, seed=seed, jobs=jobs
    )


def score(truth: np.ndarray, said: np.ndarray, focus: int) -> dict[str, float]:
    """Overall accuracy, and the F1 of one class, of the pixels that are tested."""
    truth, said = truth[truth >= 0], said[truth >= 0]
    both = ((truth == focus) & (said == focus)).sum()
    either = (truth == focus).sum() + (said == focus).sum()
    return {"accuracy": float((truth == said).mean()), "f1": float(2 * both / max(either, 1))}


def share_hidden(task: Task, condition: Condition) -> float:
    """Share of the observations that the condition takes away."""
    seen = valid_mask(task.cube).values[condition.when]
    return float((condition.hidden & seen).sum() / max(seen.sum(), 1))
