"""What masked image modelling hides: any units, the same places at all dates, or whole dates."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from timo.errors import TimoError


@dataclass(frozen=True)
class MaskOptions:
    """How masks are drawn.

    Parameters
    ----------
    ratio : float
        Share of the units that is hidden, over all dates and places (TiMo, section 3.3, and MAE: 0.75).
    random, tube, date : float
        How often each scheme is drawn, relative to the others. ``random``: any unit of any date, as published.
        ``tube``: the same places at all dates, so that only the neighbours can tell (VideoMAE, Tong et al. 2022).
        ``date``: whole dates, so that only the other dates can tell, as under weeks of cloud.

    Raises
    ------
    TimoError
        If the ratio is not between 0 and 1, or no scheme can be drawn.
    """

    ratio: float = 0.75
    random: float = 1.0
    tube: float = 0.0
    date: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise TimoError(f"the ratio of hidden units lies between 0 and 1, got {self.ratio}")
        if min(self.chances) < 0 or sum(self.chances) <= 0:
            raise TimoError(
                f"random, tube and date are chances of 0 or more, at least one above 0, got {self.chances}"
            )

    @property
    def chances(self) -> tuple[float, float, float]:
        """Weights of the schemes: random, tube, date."""
        return self.random, self.tube, self.date


def draw_mask(
    present: Bool[Tensor, "t i j"], options: MaskOptions, generator: torch.Generator
) -> Bool[Tensor, "t i j"]:
    """Units of one series to hide.

    Units without an observation are never drawn: there is nothing to hide there and nothing to score. Of the units
    present at least one is hidden and one left, if there are two; a series with less is left as it is.

    Parameters
    ----------
    present : Tensor of bool, shape (t, i, j)
        Whether a unit has any observation, on the CPU.
    options : MaskOptions
        How masks are drawn.
    generator : torch.Generator
        Random numbers; the mask depends on nothing else, so a seed for each sample gives the same masks on one machine
        and on many.
    """
    t, height, width = present.shape
    places, dates = torch.arange(height * width).reshape(1, height, width), torch.arange(t)
    every = dates[:, None, None] * height * width + places
    schemes = (every, places.expand_as(every), dates[:, None, None].expand_as(every))
    chosen = int(torch.multinomial(torch.tensor(options.chances), 1, generator=generator))
    # One place cannot be hidden at all dates, nor the only date: then single units are.
    for groups in (schemes[chosen], every):
        candidates = groups[present].unique()
        if len(candidates) >= 2:
            count = min(max(round(options.ratio * len(candidates)), 1), len(candidates) - 1)
            drawn = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
            return torch.isin(groups, drawn) & present
    return torch.zeros_like(present)


def units_with_any(pixels: Bool[Tensor, "*s h w"], unit: int) -> Bool[Tensor, "*s i j"]:
    """Whether any pixel of each square unit is true; height and width are multiples of the unit."""
    cells = rearrange(pixels, "... (i p) (j q) -> ... i j (p q)", p=unit, q=unit)
    return cells.any(dim=-1)
