"""What the training labels are, as a whole: the weights of their classes, the mean and the spread of their values."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from timo.checks import NotNegative
from timo.errors import TimoError
from timo.models.tasks import Segmenter
from timo.training.inputs import TRAIN, Given, check_highest

ClassWeights = Literal["balanced"] | Sequence[NotNegative] | Mapping[str, NotNegative]


def make_class_weights(
    weights: ClassWeights | None, given: Given, found: Sequence[int], config: Any
) -> Tensor | None:
    """Return the weights of the classes in the loss; refuse labels of one class, from which nothing is learnt.

    `found` are the classes of the training labels.
    """
    if config.task == "regression":
        if weights is None:
            return None
        raise TimoError(
            "class_weights are for classes, this model predicts values: leave them out."
        )
    _check_classes(found, config)
    return class_weights_of(weights, class_counts(given, len(config.classes)), config.classes)


def _check_classes(found: Sequence[int], config: Any) -> None:
    """Refuse training labels that the model does not know, and labels of one class, from which nothing is learnt."""
    check_highest(config, max(found))
    if len(found) < 2:
        raise TimoError(
            f"All training labels are of the class {config.classes[found[0]]!r}: there is nothing to tell it from. "
            "Label two classes at least, or split in another way."
        )


def class_weights_of(
    weights: ClassWeights | None,
    counts: np.ndarray,
    classes: Sequence[str],
) -> Tensor | None:
    """Return one weight for each class; `counts` are the training labels of each."""
    if weights is None:
        return None
    if isinstance(weights, str):
        # A class without labels is no target; under label smoothing an enormous weight would make it one.
        weights = list(np.where(counts, counts.sum() / np.maximum(counts, 1) / len(classes), 0.0))
    if isinstance(weights, Mapping):
        if set(weights) != set(classes):
            raise TimoError(
                f"class_weights must name the classes {list(classes)}, each once; got {list(weights)}."
            )
        weights = [weights[name] for name in classes]
    if len(weights) != len(classes):
        raise TimoError(
            f"{len(classes)} classes need {len(classes)} class_weights, one for each; got {list(weights)}."
        )
    if not any(weight > 0 and count for weight, count in zip(weights, counts, strict=True)):
        raise TimoError(
            f"class_weights {list(weights)} leave nothing to learn: a class that has labels needs a weight above 0."
        )
    return torch.tensor(weights, dtype=torch.float32)


def class_counts(given: Given, classes: int) -> np.ndarray:
    """Count the training labels of each class (of 2,000 places, evenly drawn, where there are more)."""
    counts = np.zeros(classes, "int64")
    for number in given.some(TRAIN):
        counts += np.bincount(given.labels(number, TRAIN), minlength=classes)
    return counts


def scale_target(model: Segmenter, given: Given) -> None:
    """Give a new regression the scale of the training labels; a trained one keeps its own."""
    config = model.config
    if config.task == "regression" and (config.target_mean, config.target_std) == (0, 1):
        model.set_target(*target_of(given))


def target_of(given: Given) -> tuple[float, float]:
    """Return mean and standard deviation of the training labels (of 2,000 places where there are more)."""
    rows = [given.labels(number, TRAIN).astype("float64") for number in given.some(TRAIN)]
    sums = np.sum([[len(r), r.sum(), (r**2).sum()] for r in rows], axis=0)
    mean = sums[1] / sums[0]
    std = np.sqrt(np.sum([((r - mean) ** 2).sum() for r in rows]) / sums[0])
    if not std > 1e-9 * abs(mean):
        raise TimoError(
            f"All training labels have the value {mean:g}: there is nothing to learn. Label other places, too."
        )
    return float(mean), float(std)
