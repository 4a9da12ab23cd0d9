"""Valid tokens only: what a token goes through on its own is done for the tokens that will be read.

In masked image modelling most tokens are hidden, and what comes out at a hidden token is multiplied by zero.
LayerNorms, projections and MLPs then run on a matrix of the valid tokens alone (m c). Attention needs tokens in a grid
and gets them closed up: gyroscope attention each sample without the dates and the places where it has no valid token,
attention over all tokens each sample's valid tokens in one row; padded with invalid ones to the largest sample.
Attention depends on no order of dates or places, so all this is exact: only sums inside matrix products may be taken in
another order.

How many tokens are valid must be known to shape the matrix: the host waits for the device twice per stage, and
``torch.compile`` breaks the graph there. The dense form does neither.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# Share of valid tokens above which leaving the others out gains no time (measured on a processor: 0.8 to 0.9).
MOST = 0.8


@dataclass(frozen=True)
class Layout:
    """Where packed tokens, ordered by sample, date and place, stand in a series: where it is `valid`.

    `rows` are their indices in the flattened series.
    """

    valid: Bool[Tensor, "b t n"]
    rows: Int[Tensor, " m"]

    @classmethod
    def of(cls, valid: Bool[Tensor, "b t n"]) -> "Layout":
        """Return the layout of the valid tokens of a series."""
        return cls(valid, valid.flatten().nonzero()[:, 0])

    def pack(self, x: Float[Tensor, "b t n c"]) -> Float[Tensor, "m c"]:
        """Return the valid tokens."""
        return x.flatten(0, 2).index_select(0, self.rows)

    def unpack(self, x: Float[Tensor, "m c"]) -> Float[Tensor, "b t n c"]:
        """Return the series, zero where it is not valid."""
        # No two rows are the same, so that sums in no order differ: deterministic, and faster than index_copy.
        flat = x.new_zeros(self.valid.numel(), x.shape[1]).index_add(0, self.rows, x)
        return flat.view(*self.valid.shape, -1)

    def per_token(self, x: Float[Tensor, " b"]) -> Float[Tensor, "m 1"]:
        """Repeat what belongs to a sample for each of its tokens."""
        _, t, n = self.valid.shape
        return x[self.rows // (t * n)][:, None]

    def closed_up(self) -> "Layout":
        """Put the same tokens in the same order into a smaller series.

        Each sample's dates and places with a valid token come first, in their order. What no sample needs is cut off.
        """
        b, t, n = self.valid.shape
        date, place = self.valid.any(dim=2).cumsum(dim=1), self.valid.any(dim=1).cumsum(dim=1)
        # One date and one place at least, where nothing is valid.
        most = torch.stack([date[:, -1].amax(), place[:, -1].amax()]).clamp(min=1)
        dates, places = most.tolist()
        sample, rest = self.rows // (t * n), self.rows % (t * n)
        date, place = date[sample, rest // n] - 1, place[sample, rest % n] - 1
        rows = (sample * dates + date) * places + place
        valid = self.valid.new_zeros(b * dates * places).index_fill(0, rows, True)
        return Layout(valid.view(b, dates, places), rows)

    def in_one_row(self) -> "Layout":
        """Put the same tokens into a series whose only date holds all places of all dates."""
        return Layout(self.valid.flatten(1)[:, None], self.rows)


def worth_packing(valid: Bool[Tensor, "b t n"]) -> Layout | None:
    """Return the layout of the valid tokens; None where enough are valid that the dense form is as fast."""
    layout = Layout.of(valid)
    return layout if len(layout.rows) <= MOST * valid.numel() else None
