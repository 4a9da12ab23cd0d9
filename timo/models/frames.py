"""Series of several groups of bands: each group observed at a date is a frame of its own.

Letters: b samples, t dates, g groups of bands (one a sensor), f frames. Sensors pass on dates of their own, and a cloud
hides one of them only: frames that were not observed are left out, and attention, which takes frames in any order and
number, runs over the rest. With one group observed the frames are the dates, and nothing differs from a series of that
group alone, to the bit.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def spread(valid: Bool[Tensor, "b t *g h w"], groups: Sequence[int]) -> Bool[Tensor, "b t c h w"]:
    """Return the validity of each band, or (b t 1 h w) where all bands are one group."""
    if not groups:
        return valid[:, :, None]
    return valid.repeat_interleave(torch.tensor(groups, device=valid.device), dim=2)


def finite(x: Float[Tensor, "b t c h w"], groups: Sequence[int]) -> Bool[Tensor, "b t *g h w"]:
    """Return where every band is finite, or every band of each of several groups."""
    if not groups:
        return x.isfinite().all(dim=2)
    return torch.stack([part.isfinite().all(dim=2) for part in x.split(tuple(groups), 2)], dim=2)


@dataclass(frozen=True)
class Frames:
    """Frames of a series, group by group; those that only a longer sample of the batch needs are not `present`.

    Attributes
    ----------
    dates, groups : Tensor of int, shape (b, f)
        Position of the date and number of the group of each frame.
    present : Tensor of bool, shape (b, f)
        Frames that the sample has.
    valid : Tensor of bool, shape (b, f, h, w)
        Where there is an observation; nowhere in a frame that is not present.
    observed : Tensor of bool, shape (b, t, g, h, w)
        What the frames were made of.
    """

    dates: Int[Tensor, "b f"]
    groups: Int[Tensor, "b f"]
    present: Bool[Tensor, "b f"]
    valid: Bool[Tensor, "b f h w"]
    observed: Bool[Tensor, "b t g h w"]

    @classmethod
    def of(cls, observed: Bool[Tensor, "b t g h w"]) -> "Frames":
        """Return the frames of a series: what was observed, and the first group where a date has nothing else."""
        seen = _seen(observed).transpose(1, 2).flatten(1)
        count = int(seen.sum(dim=1).amax())
        order = seen.byte().argsort(dim=1, descending=True, stable=True)[:, :count]
        dates, groups = order % observed.shape[1], order // observed.shape[1]
        sample = torch.arange(len(order), device=order.device)[:, None]
        return cls(dates, groups, seen.gather(1, order), observed[sample, dates, groups], observed)

    def each(
        self,
        parts: Iterable[Float[Tensor, "b t _c h w"]],
        functions: Iterable[Callable[[Tensor], Tensor]],
    ) -> Float[Tensor, "b f ..."]:
        """Apply to the frames of each group (m c h w) the function of the group; zero where not present."""
        out: Tensor | None = None
        for number, (part, function) in enumerate(zip(parts, functions, strict=True)):
            here = ((self.groups == number) & self.present).nonzero(as_tuple=True)
            if not len(here[0]):
                continue
            made = function(part[here[0], self.dates[here]])
            if len(made) == self.groups.numel():
                return made.unflatten(0, self.groups.shape)
            if out is None:
                out = made.new_zeros(*self.groups.shape, *made.shape[1:])
            out = out.index_put(here, made.to(out.dtype))
        assert out is not None  # every sample has a frame for each date
        return out

    def add_by_date(self, x: Float[Tensor, "b f *s"]) -> Float[Tensor, "b t *s"]:
        """Return the sum over the frames of each date."""
        b, t = self.observed.shape[:2]
        dates = torch.arange(t, device=x.device)
        if torch.equal(self.dates, dates.expand(b, t)):
            return x
        rows = (torch.arange(b, device=x.device)[:, None] * t + self.dates).flatten()
        total = x.new_zeros(b * t, *x.shape[2:]).index_add(0, rows, x.flatten(0, 1))
        return total.unflatten(0, (b, t))

    def mean_by_date(self, x: Float[Tensor, "b f d h w"]) -> Float[Tensor, "b t d h w"]:
        """Return the mean over the groups that observed a pixel on a date.

        Where none did: over those that observed anything on the date, or else what the first says.
        """
        any_group = self.observed.any(dim=2, keepdim=True)
        counts = torch.where(any_group, self.observed, _seen(self.observed)[..., None, None])
        share = counts.to(x.dtype) / counts.sum(dim=2, keepdim=True)
        sample = torch.arange(len(x), device=x.device)[:, None]
        # A frame that is not present has no share: nothing of its group was seen on the date.
        return self.add_by_date(x * share[sample, self.dates, self.groups][:, :, None])


def _seen(observed: Bool[Tensor, "b t g h w"]) -> Bool[Tensor, "b t g"]:
    """Return the groups that observed anything on a date; the first where none did."""
    seen = observed.flatten(3).any(dim=-1)
    first = torch.zeros_like(seen)
    first[:, :, 0] = ~seen.any(dim=2)
    return seen | first
