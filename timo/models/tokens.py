"""Tokens of 4, 2 or 1 pixels from one set of weights, those of 4: PI-resize (FlexiViT, Beyer et al. 2023, 2212.08013).

A convolution is given kernels of half the side and half the stride, w' = (B^T)^+ w, where B takes the means of squares
of 2 x 2 pixels and ^+ is the pseudo-inverse. Of a mean that is the sum of the weights over each square, so the product
with a series is, to the rounding, that of w with the same series whose pixels are each divided into 2 x 2 equal ones:

- tokens of 2 pixels: the 7 x 7 convolution of stride 2 becomes one of 4 x 4 and stride 1, the 2 x 2 one stays. The
  tokens are those of 4 pixels of the series magnified twice.
- tokens of 1 pixel: the 2 x 2 convolution of stride 2 becomes one of 1 x 1 as well. The tokens are those that it makes
  of what comes out of the first convolution at 2 pixels, magnified twice.

So a token of a uniform surface is the same at each size, that of a smooth one nearly; its surroundings shrink from
9 to 5 and 4 pixels. The position code of a place counts in units of 4 pixels, and a token counts in the softmax by its
area. What follows the stem is the same at each size.
"""

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

# Pixels to a side of the tokens that the weights are of.
FULL: Final = 4


def halved(kernel: Float[Tensor, "d c k k"]) -> Float[Tensor, "d c k2 k2"]:
    """Return the kernel for a pixel that is four; of an odd size, a row and a column of zeros come first."""
    odd = kernel.shape[-1] % 2
    # Middle weight and middle pixel of an odd kernel of stride 2: the second of a pair, of which the first lies before.
    return F.avg_pool2d(F.pad(kernel, (odd, 0, odd, 0)), 2, divisor_override=1)


def convolve(
    x: Float[Tensor, "f c h w"], kernel: Float[Tensor, "d c 7 7"], token: int
) -> Float[Tensor, "f d i j"]:
    """Take the first convolution: of stride 2 for tokens of 4 pixels, 1 for finer ones."""
    if token == FULL:
        return F.conv2d(x, kernel, stride=2, padding=3)
    # Pixels before and after the middle one: 2 and 1.
    return F.conv2d(F.pad(x, (2, 1, 2, 1)), halved(kernel))


def merge(x: Float[Tensor, "f d h w"], conv: nn.Conv2d, token: int) -> Float[Tensor, "f e i j"]:
    """Take the second convolution, 2 x 2 of stride 2, or for tokens of one pixel 1 x 1."""
    return F.conv2d(x, halved(conv.weight), conv.bias) if token == 1 else conv(x)


def places(
    count: int, token: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, " {count}"]:
    """Return the centres of tokens along an axis, in units of 4 pixels from that of the first such token.

    Of tokens of 4 pixels 0, 1, 2, ...; of tokens of 2 pixels -0.25, 0.25, 0.75, ...
    """
    centres = torch.arange(count, dtype=dtype, device=device) + 0.5
    return centres * (token / FULL) - 0.5


def log_share(token: int) -> float:
    """Return the logarithm of the part that a token is of one of 4 pixels: what it counts among the places of a frame.

    Places of a frame and dates of a place are in one softmax. Without this, of places four times as many would outweigh
    the dates by four times as much.
    """
    return 2 * math.log(token / FULL)
