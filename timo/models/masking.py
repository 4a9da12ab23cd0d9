"""Masks of masked image modelling: any units, the same places at all dates, or whole dates."""

from dataclasses import dataclass
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from timo.checks import NotNegative, Range, checked
from timo.errors import TimoError


@checked
@dataclass(frozen=True)
class MaskOptions:
    """How masks are drawn.

    Parameters
    ----------
    ratio : float
        Share of the units that is hidden, over all dates and places (TiMo, section 3.3, and MAE: 0.75).
    random, tube, date : float
        How often each scheme is drawn, relative to the others. ``random``: any unit of any date, as published.
        ``tube``: the same places at all dates, so that only the neighbours help (VideoMAE, Tong et al. 2022).
        ``date``: whole dates, so that only the other dates help, as under weeks of cloud.
    """

    ratio: Annotated[float, Range(above=0, below=1)] = 0.75
    random: NotNegative = 1.0
    tube: NotNegative = 0.0
    date: NotNegative = 0.0

    def __post_init__(self) -> None:
        if not any(self.chances):
            raise TimoError("random, tube and date are all 0: give one of the schemes a chance")

    @property
    def chances(self) -> tuple[float, float, float]:
        """Return the weights of the schemes: random, tube, date."""
        return self.random, self.tube, self.date


def draw_mask(
    present: Bool[Tensor, "t i j"], options: MaskOptions, generator: torch.Generator
) -> Bool[Tensor, "t i j"]:
    """Draw the units of one series to hide.

    Units without an observation are never drawn: there is nothing to hide there and nothing to score. Of the units
    present at least one is hidden and one left, if there are two; a series with less is left as it is.

    The mask depends on nothing but the generator, so a seed for each sample gives the same masks on one machine and on
    many.
    """
    t, height, width = present.shape
    places, dates = torch.arange(height * width).reshape(1, height, width), torch.arange(t)
    every = dates[:, None, None] * height * width + places
    schemes = (every, places.expand_as(every), dates[:, None, None].expand_as(every))
    chances = torch.tensor(options.chances, dtype=torch.float32)
    chosen = int(torch.multinomial(chances, 1, generator=generator))
    # One place cannot be hidden at all dates, nor the only date: then single units are.
    for groups in (schemes[chosen], every):
        candidates = groups[present].unique()
        if len(candidates) >= 2:
            count = min(max(round(options.ratio * len(candidates)), 1), len(candidates) - 1)
            drawn = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
            return torch.isin(groups, drawn) & present
    return torch.zeros_like(present)


def units_with_any(pixels: Bool[Tensor, "*s h w"], unit: int) -> Bool[Tensor, "*s i j"]:
    """Return whether any pixel of each square unit is true; height and width are multiples of the unit."""
    cells = rearrange(pixels, "... (i p) (j q) -> ... i j (p q)", p=unit, q=unit)
    return cells.any(dim=-1)
