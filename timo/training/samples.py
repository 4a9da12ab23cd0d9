"""Labelled pixels as the full-resolution part of a head reads them, and its scores of them, without any others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from timo.cube.labels import UNLABELLED
from timo.errors import TimoError
from timo.models.frames import Frames
from timo.models.heads import Detail, SegmentationHead, enlarge
from timo.models.pixel import PixelModel
from timo.models.tasks import TiMo
from timo.training.answers import last_label
from timo.training.features import Features, Tile

# Two convolutions of 3 x 3: what the full-resolution path sees of a pixel's surroundings, to each side.
REACH = 2


@dataclass(frozen=True)
class Samples:
    """Labelled pixels of a window of dates, as the full-resolution part of a head reads them.

    A frame (f) is a date; of several sensors, a date of one of them, and `of` says which.
    """

    coarse: Float[Tensor, "f p d"]
    patches: list[
        Float[Tensor, "t p _c 5 5"]
    ]  # the image of each sensor and its validity around each pixel
    values: Float[Tensor, "1 t c 1 p"]
    dates: Float[Tensor, "1 t"]
    labels: Int[Tensor, "t p"]
    valid: Bool[Tensor, "t *g p"]
    of: Frames | None
    pixels: Int[Tensor, " p"]  # their numbers among the pixels of all places, row by row

    def some(self, which: Bool[Tensor, " p"]) -> "Samples":
        """Return those of some of the pixels."""
        of = self.of
        if of is not None:
            of = replace(of, valid=of.valid[..., which, :], observed=of.observed[..., which, :])
        return Samples(
            self.coarse[:, which],
            [patches[:, which] for patches in self.patches],
            self.values[..., which],
            self.dates,
            self.labels[:, which],
            self.valid[..., which],
            of,
            self.pixels[which],
        )


def draw_labels(
    labels: Sequence[Int[np.ndarray, "*t y x"]],
    features: Sequence[Features],
    classes: tuple[str, ...],
    most: int,
    seed: int,
) -> tuple[list[Int[np.ndarray, "t y x"]], dict[str, int]]:
    """Return labels of each date, -1 where unlabelled, unobserved or not drawn, and the pixels of each class."""
    given = [
        np.where(one.observed, noted, np.int16(UNLABELLED))
        for one, noted in zip(features, labels, strict=True)
    ]
    latest = [last_label(torch.from_numpy(one)[None])[0].numpy() for one in given]
    every = np.concatenate([one.ravel() for one in latest])
    kept, pixels, rng = np.zeros(every.shape, bool), {}, np.random.default_rng(seed)
    for number, name in enumerate(classes):
        places = np.flatnonzero(every == number)
        if len(places) > most:
            places = rng.choice(places, most, replace=False)
        kept[places] = True
        pixels[name] = len(places)
    if sum(count > 0 for count in pixels.values()) < 2:
        got = ", ".join(f"{name}: {count}" for name, count in pixels.items())
        raise TimoError(
            f"At least two classes need labelled pixels that were observed on some date; got {got}. Label more."
        )
    ends = np.cumsum([one.size for one in latest])
    chosen = zip(given, latest, np.split(kept, ends[:-1]), strict=True)
    return [np.where(k.reshape(at.shape), g, UNLABELLED) for g, at, k in chosen], pixels


def samples_of(
    model: TiMo, features: Sequence[Features], given: Sequence[Int[np.ndarray, "t y x"]]
) -> list[Samples]:
    """Return the labelled pixels of places, tile by tile and window by window."""
    found: list[Samples] = []
    first = 0
    for one, labels in zip(features, given, strict=True):
        for tile in one.tiles:
            found += _samples_of_tile(model, one, tile, labels, first)
        first += labels[0].size
    return found


def _samples_of_tile(
    model: TiMo, features: Features, tile: Tile, given: Int[np.ndarray, "t y x"], first: int
) -> Iterator[Samples]:
    """Yield the labelled pixels of a tile, window by window; those of its border are another tile's."""
    top, left = tile.place.crop[:2]
    labels = given[(slice(None), *tile.place.inner)]
    rows, columns = np.nonzero((labels != UNLABELLED).any(axis=0))
    if not len(rows):
        return
    labels = labels[:, rows, columns]
    at = (rows + top, columns + left)
    corner = [one.start for one in tile.place.inner]
    numbers = torch.from_numpy(first + (rows + corner[0]) * given.shape[-1] + columns + corner[1])
    for window in tile.windows:
        some = torch.from_numpy(labels[window.dates].astype("int64"))
        if not (some != UNLABELLED).any():
            continue
        frames, image, valid = features.inputs(model, tile, window)
        coarse = enlarge(frames, valid.shape[-2:], model.config.encoder.token)
        coarse = coarse[..., *at].permute(0, 2, 1)
        flags = valid[0] if valid.ndim == 5 else valid[0][:, None]
        parts = zip(image[0].split(features.groups, 1), flags.split(1, 1), strict=True)
        patches = [_patches(torch.cat([x, seen.to(x.dtype)], dim=1), at) for x, seen in parts]
        of = Frames.of(valid) if valid.ndim == 5 else None
        if of is not None:
            pixels = {
                name: getattr(of, name)[..., *at].unsqueeze(-1) for name in ("valid", "observed")
            }
            of = replace(of, **pixels)
        x = torch.from_numpy(features.values(tile.place)[window.dates][..., *at])[
            None, ..., None, :
        ]
        days = features.days(window)
        yield Samples(coarse.contiguous(), patches, x, days, some, valid[0][..., *at], of, numbers)


def _patches(pixels: Float[Tensor, "t c h w"], at: tuple[Any, ...]) -> Tensor:
    """Return what lies around some pixels, (t p c 5 5); beyond the edge of the tile zero, as for the convolutions."""
    size = 2 * REACH + 1
    around = F.pad(pixels, (REACH,) * 4).unfold(2, size, 1).unfold(3, size, 1)
    return around[:, :, *at].permute(0, 2, 1, 3, 4).contiguous()


def scores_of(
    head: SegmentationHead, samples: Samples, kept: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return scores (n, k) and labels (n) of all labelled pixels, by date or of the series: the head on pixels."""
    frames, of = len(samples.coarse), samples.of
    coarse = samples.coarse if kept is None else samples.coarse * kept
    full = coarse.flatten(0, 1)[..., None, None]
    if head.merge is not None:
        full = head.merge(torch.cat([full, _fine(head, samples)], dim=1))
    if head.over_dates is None:
        scores = head.classifier(full)
        if of is not None:
            by_frame = rearrange(scores, "(f p) k 1 1 -> 1 f k p 1", f=frames)
            scores = rearrange(of.mean_by_date(by_frame), "1 t k p 1 -> (t p) k 1 1")
        return scores[..., 0, 0], samples.labels.flatten()
    series = rearrange(full, "(f p) d 1 1 -> 1 f d p 1", f=frames)
    valid = samples.valid[None, ..., None] if of is None else of.valid
    pooled = head.over_dates(series, valid)
    return head.classifier(pooled)[0, ..., 0].T, last_label(samples.labels[None, ..., None])[
        0, :, 0
    ]


def pixel_scores_of(pixel: PixelModel, samples: Samples) -> Float[Tensor, "n k"]:
    """Return the scores (n, k) of the same pixels by themselves, by date or of the series."""
    scores = pixel(samples.values, samples.dates)
    if pixel.config.per_date:
        return rearrange(scores, "1 t k 1 p -> (t p) k")
    return rearrange(scores, "1 k 1 p -> p k")


def _fine(head: SegmentationHead, samples: Samples) -> Float[Tensor, "n d 1 1"]:
    """Return the features of the full-resolution path, pixel by pixel of each frame."""
    assert head.detail is not None
    details = [head.detail, *getattr(head, "details", ())]
    if samples.of is None:
        return _unpadded(head.detail, samples.patches[0].flatten(0, 1))
    # As images: the patches of all pixels one below the other.
    images = [rearrange(x, "t p c i j -> 1 t c (p i) j") for x in samples.patches]
    fine = samples.of.each(images, [_on_patches(detail) for detail in details])
    return rearrange(fine, "1 f d p 1 -> (f p) d 1 1")


def _on_patches(detail: Detail) -> Callable[[Tensor], Tensor]:
    def run(images: Float[Tensor, "m c pi j"]) -> Float[Tensor, "m d p 1"]:
        patches = rearrange(images, "m c (p i) j -> (m p) c i j", i=2 * REACH + 1)
        return rearrange(_unpadded(detail, patches), "(m p) d 1 1 -> m d p 1", m=len(images))

    return run


def _unpadded(detail: Detail, fine: Float[Tensor, "n c 5 5"]) -> Float[Tensor, "n d 1 1"]:
    """Run the convolutions without a border: of each patch, the middle is left."""
    for layer in detail.layers:
        weight = layer.get_submodule("0").get_parameter("weight")
        fine = F.conv2d(fine, weight)
        for further in list(layer.children())[1:]:
            fine = further(fine)
    return fine
