"""The unit of training: a window of a place in the model's letters."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from timo.errors import TimoError


class NumberError(TimoError, IndexError):
    """Raised for a number beyond the last; ends an iteration over the numbers."""


@dataclass
class Chip:
    """A window of a place in the model's letters.

    What is not valid is zero in `x`. With several groups of bands, each has its own `valid`: (t g h w). Labels are
    classes (-1 = unlabelled) or values (NaN = unlabelled) of each date and pixel, or (t,) of the chip at each date;
    `parcels` are numbers (h w) of what is labelled as one, -1 = none.
    """

    x: Float[np.ndarray, "t c h w"]
    dates: Float[np.ndarray, " t"]
    valid: Bool[np.ndarray, "t *g h w"]
    labels: Int[np.ndarray, "..."] | Float[np.ndarray, "..."]
    parcels: Int[np.ndarray, "h w"] | None = None

    def tensors(self, labels: bool = True) -> dict[str, Tensor]:
        """Return contiguous tensors; labels, if wanted, as int64 or float32, which torch's losses want."""
        arrays = {"x": self.x, "dates": self.dates, "valid": self.valid}
        if labels:
            kind = "int64" if self.labels.dtype.kind in "iu" else "float32"
            arrays["labels"] = self.labels.astype(kind)
            if self.parcels is not None:
                arrays["parcels"] = self.parcels.astype("int64")
        # Copied: a mirrored view has negative strides, which torch refuses, even where the axis is of length 1.
        return {name: torch.from_numpy(np.array(a, order="C")) for name, a in arrays.items()}
