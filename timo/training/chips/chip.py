"""The unit of training: a window of a cube in the model's letters."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

UNLABELLED = -1


@dataclass
class Chip:
    """A window of a cube in the model's letters, with a label for each date and pixel (-1 = none).

    What is not valid is zero in `x`.
    """

    x: Float[np.ndarray, "t c h w"]
    dates: Float[np.ndarray, " t"]
    valid: Bool[np.ndarray, "t h w"]
    labels: Int[np.ndarray, "t h w"]

    def tensors(self, labels: bool = True) -> dict[str, Tensor]:
        """The chip as contiguous tensors; labels, if wanted, as int64, which torch's losses want."""
        arrays = {"x": self.x, "dates": self.dates, "valid": self.valid}
        if labels:
            arrays["labels"] = self.labels.astype("int64")
        # Copied: a mirrored view has negative strides, which torch refuses, even where the axis is of length 1.
        return {name: torch.from_numpy(np.array(a, order="C")) for name, a in arrays.items()}
