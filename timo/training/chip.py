"""The unit of training: a window of a cube in the model's letters."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

UNLABELLED = -1


@dataclass
class Chip:
    """A window of a cube in the model's letters, with a label for each date and pixel (-1 = none)."""

    x: Float[np.ndarray, "t c h w"]
    dates: Float[np.ndarray, " t"]
    valid: Bool[np.ndarray, "t h w"]
    labels: Int[np.ndarray, "t h w"]

    def tensors(self) -> dict[str, Tensor]:
        """The chip as contiguous tensors."""
        arrays = {"x": self.x, "dates": self.dates, "valid": self.valid, "labels": self.labels}
        return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
