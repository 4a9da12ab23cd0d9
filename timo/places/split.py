"""Splits of places into training, validation and test, in which no group lies in two parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xarray as xr

from timo import cube as cubes
from timo.checks import NotNegative, checked, described
from timo.cube.blocks import PARTS, TEST, TRAIN, UNUSED, VALIDATION, is_odd, share_out
from timo.errors import TimoError, warn
from timo.places.base import BasePlaces, masks_of
from timo.places.chip import NumberError
from timo.places.view import labelled_pixels

By = Literal["place", "group", "fold", "block"]
Part = int | xr.DataArray | np.ndarray
# Side of a block in pixels where nothing is said.
_BLOCK = 32
# How what labels have as one group is kept whole. Places alone have no groups unless they are given.
_KEPT_WHOLE = (
    'Split the places by="block", which keeps it whole, or give the places that share it one group, '
    'timo.Places(..., groups=[...]), and split them by="group".'
)
# Names of folds that are parts themselves.
_NAMED = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}


@dataclass(frozen=True)
class Options:
    """How places, groups or blocks are shared out, see `Places.split`."""

    fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    size_m: float | None = None
    scheme: Literal["random", "checkerboard"] = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if not np.isclose(sum(self.fractions), 1) or not self.fractions[TRAIN]:
            raise TimoError(
                "fractions must be three shares (train, validation, test) with the sum 1, and some to train on; got "
                f"{self.fractions}."
            )


@checked
@dataclass(frozen=True, eq=False)
class Split:
    """The part that each place, or each of its pixels, belongs to.

    Parameters
    ----------
    parts : sequence or array
        Of each place: 0 = training, 1 = validation, 2 = test, -1 = none; or such numbers for its pixels, (y, x).
    by : str
        What was kept whole: "place", "group", "fold", "block", or "hand".
    block_m : float
        Side of the blocks in metres, 0 without blocks.
    """

    parts: np.ndarray | Sequence[Any]
    by: str = "hand"
    block_m: NotNegative = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.parts, np.ndarray):
            if self.parts.ndim == 1 and self.parts.dtype.kind in "iu":
                return
            if not self.parts.ndim:
                raise TimoError(f"parts must be one for each place; got {described(self.parts)}.")
        for number, part in enumerate(self.parts):
            _check_part(part, f"Part {number} of the split")

    def __len__(self) -> int:
        return len(self.parts)

    @cached_property
    def whole(self) -> np.ndarray | None:
        """Return the part of each place, (place,) int8; None where a part has an array."""
        whole = all(np.ndim(part) == 0 for part in self.parts)
        return np.array(self.parts, "int8") if whole else None

    def __repr__(self) -> str:
        whole = [int(part) for part in self.parts if np.ndim(part) == 0]
        held = [f"{whole.count(n)} {PARTS[n]}" for n in range(3)] if whole else []
        if len(whole) < len(self):
            held.append(f"{len(self) - len(whole)} in blocks of {self.block_m:g} m")
        return f"Split by {self.by}: {', '.join(held)}"

    @checked
    def part(self, index: int) -> int | xr.DataArray:
        """Return the part of a place, or (y, x) int8 those of its pixels."""
        if not -len(self) <= index < len(self):
            raise NumberError(f"The split has {len(self)} parts, numbered from 0; got {index}.")
        part = self.parts[index]
        if isinstance(part, xr.DataArray):
            return part
        return int(part) if np.ndim(part) == 0 else xr.DataArray(part, dims=("y", "x"), name="part")


def _check_part(part: Any, what: str) -> None:
    numbers = np.asarray(part) if not isinstance(part, str | type(None)) else np.asarray("")
    if numbers.ndim in (0, 2) and numbers.dtype.kind in "iu":
        return
    raise TimoError(
        f"{what} must be 0 (training), 1 (validation), 2 (test) or -1, or an array (y, x) of them; got "
        f"{described(part)}."
    )


def check_part(part: Any, cube: xr.DataArray, what: str = "split") -> np.ndarray:
    """Return the numbers of a split of pixels, 0 = training and 1 = validation, or the truth values of a mask."""
    fits = isinstance(part, xr.DataArray) and part.dims == ("y", "x")
    if not fits or part.dtype.kind not in "biu":
        got = f"{part.dtype} with the dims {part.dims}" if hasattr(part, "dims") else ""
        raise TimoError(
            f"The {what} must be an xarray.DataArray with the dims (y, x), in integers (0 = training, 1 = validation, "
            f"all else is not touched) or truth values; got {got or described(part)}. See timo.cube.split_blocks."
        )
    if why := cubes.grid_mismatch(part, cube):
        raise TimoError(
            f"The {what} must be on the cube's grid, like labels: its {why}. Use timo.cube.split_blocks("
            "timo.cube.blocks(cube, size_m))."
        )
    return np.asarray(part.values)


def make_split(places: BasePlaces, by: By, fold: int | str | None, options: Options) -> Split:
    """Return the split that `Places.split` describes."""
    if by == "fold":
        split = Split(_parts_of_folds(places, fold, options.fractions[VALIDATION] > 0), by)
    elif by == "block":
        split = _split_blocks(places, np.asarray(options.fractions), options)
    else:
        units = _units(places, by)
        part = share_out(_table(places, units), np.asarray(options.fractions), _rng(options))
        split = Split(part[units].astype("int8"), by)
    wanted = [n for n in (TRAIN, VALIDATION, TEST) if options.fractions[n] or by == "fold"]
    return check_split(places, split, wanted if by != "fold" else [TRAIN])


def make_folds(
    places: BasePlaces, by: By, k: int, validation: bool, options: Options
) -> Iterator[Split]:
    """Yield the splits that `Places.folds` describes."""
    if by == "fold":
        for name in _fold_names(places):
            yield check_split(
                places, Split(_parts_of_folds(places, name, validation), by), [TRAIN, TEST]
            )
        return
    if k < 2:
        raise TimoError(f"Cross-validation needs k of 2 or more; got {k}.")
    shares = np.full(k, 1 / k)
    if by == "block":
        drawn = _split_blocks(places, shares, options)
        numbers: list[Any] = [np.asarray(part) for part in drawn.parts]
    else:
        units = _units(places, by)
        drawn = Split([], by)
        numbers = list(share_out(_table(places, units), shares, _rng(options))[units])
    for test in range(k):
        parts = [
            _as_parts(n, test, (test - 1) % k if validation and k > 2 else -2) for n in numbers
        ]
        if by != "block":
            parts = np.array(parts, "int8")  # type: ignore[assignment]
        yield check_split(places, Split(parts, by, drawn.block_m), [TRAIN, TEST])


def _as_parts(fold: Any, test: int, validation: int) -> np.ndarray:
    """Return parts (...) int8 of numbers of folds."""
    part = np.where(fold == test, TEST, np.where(fold == validation, VALIDATION, TRAIN))
    return np.where(np.asarray(fold) < 0, UNUSED, part).astype("int8")


def _rng(options: Options) -> np.random.Generator:
    return np.random.default_rng(options.seed)


def _fold_names(places: BasePlaces) -> list[int | str]:
    folds = places.fold_numbers
    if folds is None or all(fold is None for fold in folds):
        raise TimoError(
            'The places have no folds: give timo.Places(..., folds=[...]), or split by="place" or by="block".'
        )
    found = {fold for fold in folds if fold is not None}
    return sorted(found, key=lambda fold: (isinstance(fold, str), fold))


def _parts_of_folds(places: BasePlaces, fold: int | str | None, validation: bool) -> np.ndarray:
    names, folds = _fold_names(places), places.fold_numbers or []
    if all(isinstance(name, str) and name.lower() in _NAMED for name in names) and fold is None:
        return np.array([UNUSED if f is None else _NAMED[str(f).lower()] for f in folds], "int8")
    if len(names) < 2:
        raise TimoError(
            f"All places are of the fold {names[0]!r}: a split by fold needs two or more."
        )
    test = names[-1] if fold is None else fold
    if test not in names:
        raise TimoError(
            f"There is no fold {test!r}; the places have {', '.join(map(repr, names))}."
        )
    before = names[names.index(test) - 1] if validation and len(names) > 2 else None
    numbers = {None: UNUSED, test: TEST} | ({} if before is None else {before: VALIDATION})
    return np.array([numbers.get(f, TRAIN) for f in folds], "int8")


def _units(places: BasePlaces, by: By) -> np.ndarray:
    """Number what is kept whole, (place,): each place, or each group."""
    if by == "place":
        return np.arange(len(places))
    if places.groups is None:
        raise TimoError(
            'The places have no groups: give timo.Places(..., groups=[...]), or split by="place".'
        )
    return np.unique(np.asarray(places.groups), return_inverse=True)[1]


def _table(places: BasePlaces, units: np.ndarray) -> np.ndarray:
    """Count, (unit, class), labelled pixels, and last all of them; places where there are no labels."""
    counts = places.counts() if places.labelled else np.zeros((len(places), 0), "int64")
    total = counts.sum(axis=1, keepdims=True) if places.labelled else np.ones((len(places), 1))
    columns = np.concatenate([counts[:, counts.any(axis=0)], total], axis=1).astype("float64")
    # What has no label still goes somewhere.
    columns[:, -1] = np.maximum(columns[:, -1], 1e-6)
    return np.stack([np.bincount(units, weights=column) for column in columns.T], axis=1)


def _split_blocks(places: BasePlaces, shares: np.ndarray, options: Options) -> Split:
    """Share out the blocks of all places together; a group goes with the block that has most of it."""
    drawn = [_blocks(places, number, options.size_m) for number in range(len(places))]
    first = np.cumsum([0, *(int(blocks.max()) + 1 for blocks, _ in drawn)])
    units = [start + blocks for start, (blocks, _) in zip(first, drawn, strict=False)]
    _join_groups(places, units)
    counts = _block_counts(places, units, int(first[-1]))
    total = counts.sum(axis=1, keepdims=True)
    counts = np.concatenate([counts[:, counts.any(axis=0)], total], axis=1)
    # Blocks without labels neither train nor test; they go with the first part.
    part, held = np.zeros(len(counts), "int8"), total[:, 0] > 0
    if options.scheme == "checkerboard":
        odd = np.concatenate([is_odd(blocks) for blocks, _ in drawn])
        part[odd], held = TEST, held & ~odd
        shares = shares * [1, 1, 0] / (shares[TRAIN] + shares[VALIDATION])
    part[held] = share_out(counts[held], shares, _rng(options))
    arrays = [
        _on_grid(places, number, part[unit], side, options)
        for number, (unit, (_, side)) in enumerate(zip(units, drawn, strict=True))
    ]
    return Split(arrays, "block", drawn[0][1])


def _blocks(places: BasePlaces, number: int, size_m: float | None) -> tuple[np.ndarray, float]:
    """Return the number of each pixel's block, and their side in metres; a place of one row or column is one."""
    cube = places.open(number)[0]
    if min(cube.sizes["y"], cube.sizes["x"]) < 2:
        return np.zeros((cube.sizes["y"], cube.sizes["x"]), "int64"), float(size_m or 0)
    side = size_m or _BLOCK * max(cubes.cell_size_m(cube))
    return cubes.blocks(cube, side).values.astype("int64"), float(side)


def _block_counts(places: BasePlaces, units: list[np.ndarray], count: int) -> np.ndarray:
    """Count, (block, class), the labelled pixels; without labels, all pixels."""
    width = max(places.counts().shape[1], 1) if places.labelled else 1
    counts = np.zeros((count, width))
    for number, unit in enumerate(units):
        labels = places.view(number).labels
        if labels is not None and labels.ndim < 2:
            raise TimoError('Labels of whole places cannot be split by="block": use by="place".')
        masks = [np.ones(unit.shape, bool)]
        if places.labelled:
            masks = [] if labels is None else masks_of(labels)
        for k, mask in enumerate(masks):
            np.add.at(counts[:, k], unit[mask], 1)
    return counts


def _join_groups(places: BasePlaces, units: list[np.ndarray]) -> None:
    """Give all pixels of a group the block that has most of its labelled pixels, in place."""
    if not places.has_groups:
        return
    numbers: dict[Any, int] = {}
    ids = [_group_ids(places, number, numbers) for number in range(len(places))]
    if not numbers:
        return
    most = max(int(unit.max()) for unit in units) + 1
    keys, weights = [], []
    for number, (groups, unit) in enumerate(zip(ids, units, strict=True)):
        if groups is not None:
            keys.append((groups * most + unit)[groups >= 0])
            # Pixels without labels decide where a group has no others.
            weights.append(_labelled(places, number)[groups >= 0] + 1e-6)
    found, which = np.unique(np.concatenate(keys), return_inverse=True)
    order = np.argsort(np.bincount(which, np.concatenate(weights)), kind="stable")
    # The last one of each group that is written is the one with most pixels.
    home = np.zeros(len(numbers), "int64")
    home[found[order] // most] = found[order] % most
    for groups, unit in zip(ids, units, strict=True):
        if groups is not None:
            unit[groups >= 0] = home[groups[groups >= 0]]


def _labelled(places: BasePlaces, number: int) -> np.ndarray:
    view = places.view(number)
    return np.zeros(view.shape, bool) if view.labels is None else labelled_pixels(view.labels)


def _group_ids(places: BasePlaces, number: int, numbers: dict[Any, int]) -> np.ndarray | None:
    """Number the groups of a place's labels over all places, (h w), -1 = none; groups of one name are the same."""
    groups = places.view(number).groups
    if groups is None:
        return None
    own, inverse = np.unique(groups, return_inverse=True)
    names = places.group_names(number)
    keys = [(number, int(g)) if names is None else names[g] for g in own]
    new = [
        -1 if g < 0 else numbers.setdefault(k, len(numbers)) for g, k in zip(own, keys, strict=True)
    ]
    return np.array(new, "int64")[inverse].reshape(groups.shape)


def _on_grid(
    places: BasePlaces, number: int, part: np.ndarray, side: float, o: Options
) -> xr.DataArray:
    cube = places.open(number)[0]
    coords = {name: cube.coords[name] for name in ("y", "x", "spatial_ref") if name in cube.coords}
    attrs = {"long_name": "part of the split", "classes": list(PARTS), "block_m": side}
    attrs |= {"scheme": o.scheme, "seed": o.seed}
    return xr.DataArray(part, dims=("y", "x"), coords=coords, name="part", attrs=attrs)


def split_of(places: BasePlaces, given: Any) -> Split | None:
    """Return the split that a function was given: one by name, by hand, or None.

    A group that lies in two parts is refused, and so is a part without labels.
    """
    if given is None:
        return None
    if isinstance(given, str):
        if given not in By.__args__:  # type: ignore[attr-defined]
            names = ", ".join(map(repr, By.__args__))  # type: ignore[attr-defined]
            raise TimoError(f"split must be one of {names}, or a split; got {given!r}.")
        return make_split(places, given, None, Options())  # type: ignore[arg-type]
    if isinstance(given, xr.DataArray):
        if len(places) > 1:
            raise TimoError(
                f'One array cannot split {len(places)} places: give split="place", "group", "fold" or "block", or what '
                "places.split(...) gives."
            )
        numbers = check_part(given, places.open(0)[0])
        part = given.copy(data=numbers.astype("int8"))
        given = Split([part], block_m=float(given.attrs.get("block_m", 0)))
    elif not isinstance(given, Split):
        given = Split(list(given))
    return check_split(places, given, [TRAIN])


def check_split(places: BasePlaces, split: Split, wanted: Sequence[int]) -> Split:
    """Return a split that fits the places; refuse a group in two parts, and a part that is wanted but has no label."""
    if len(split) != len(places):
        raise TimoError(
            f"The split has {len(split)} parts, and there are {len(places)} places: give one for each."
        )
    if split.by != "block":
        _check_pixels(places, split)
        _check_groups(places, split)
    if places.labelled:
        _check_parts(places, split, wanted)
    return split


def _check_pixels(places: BasePlaces, split: Split) -> None:
    if split.whole is not None:
        return
    for number in range(len(places)):
        part = split.part(number)
        if isinstance(part, xr.DataArray):
            cube = places.open(number)[0]
            if "y" in part.coords:
                check_part(part, cube)
            elif part.shape != cube.shape[2:]:
                raise TimoError(
                    f"The split of place {places.names[number]} has {part.shape} pixels, the place {cube.shape[2:]}."
                )


def _check_groups(places: BasePlaces, split: Split) -> None:
    """Refuse a group in two parts: its pixels are alike, and what tests would be what trained."""
    held: dict[Any, tuple[int, str]] = {}
    if places.groups is not None:
        for number, group in enumerate(places.groups):
            part = split.part(number)
            if isinstance(part, int) and part != UNUSED:
                _meet(held, ("place", group), part, str(group), 'Split the places by="group".')
    if not places.has_groups:
        return
    numbers: dict[Any, int] = {}
    for number in range(len(places)):
        groups = _group_ids(places, number, numbers)
        if groups is None:
            continue
        parts = np.broadcast_to(np.asarray(split.part(number)), groups.shape)
        held_here = (groups >= 0) & (parts >= 0) & _labelled(places, number)
        pairs = np.stack([groups, parts])[:, held_here]
        for group, one in np.unique(pairs, axis=1).T.tolist():
            if held.setdefault(group, (one, ""))[0] != one:
                key = next(key for key, value in numbers.items() if value == group)
                name = key if isinstance(key, str) else f"{key[1]} of place {places.names[key[0]]}"
                _refuse_group(name, held[group][0], one, _KEPT_WHOLE)


def _meet(held: dict[Any, tuple[int, str]], key: Any, part: int, name: str, remedy: str) -> None:
    if held.setdefault(key, (part, name))[0] != part:
        _refuse_group(name, held[key][0], part, remedy)


def _refuse_group(name: str, one: int, other: int, remedy: str) -> None:
    one, other = sorted((one, other))
    raise TimoError(
        f"The group {name!r} lies in two parts of the split, {PARTS[one]} and {PARTS[other]}: what is tested would be "
        f"what was learnt. {remedy}"
    )


def _check_parts(places: BasePlaces, split: Split, wanted: Sequence[int]) -> None:
    counts = part_counts(places, split)
    names = places.classes or tuple(str(k) for k in range(counts.shape[1]))
    present = np.flatnonzero(counts.any(axis=0))
    if not present.size:
        raise TimoError("no pixel is labelled: give labels of 0 or more, -1 means unlabelled")
    for part in wanted:
        if not counts[part].any():
            raise TimoError(
                f"The {PARTS[part]} part has no label. Use smaller blocks, other fractions or another seed."
            )
    if places.head.numeric:
        return
    for part in np.flatnonzero(counts.any(axis=1)).tolist():
        if missing := [names[k] for k in present if not counts[part, k]]:
            warn(f"The {PARTS[part]} part has no label of {', '.join(missing)}.")


def part_counts(places: BasePlaces, split: Split) -> np.ndarray:
    """Count, (part, class), labelled pixels, or dates of labels of whole places, in training, validation and test."""
    if split.whole is not None:
        every = places.counts()
        return np.stack([every[split.whole == n].sum(axis=0) for n in range(3)])
    rows: list[tuple[int, np.ndarray]] = []
    for number in range(len(places)):
        part, labels = split.part(number), places.view(number).labels
        masks = [] if labels is None else masks_of(labels)
        inside = np.asarray(part)
        rows += [
            (n, np.array([(m & (inside == n)).sum() for m in masks], "int64")) for n in range(3)
        ]
    counts = np.zeros((3, max(len(row) for _, row in rows) or 1), "int64")
    for n, row in rows:
        counts[n, : len(row)] += row
    return counts
