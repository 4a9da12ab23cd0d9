"""Rollout of one query against the product of whole matrices."""

import numpy as np
import pytest
import torch
from naive_attention import full_softmax, inputs_of_attentions, make_cube, make_model

from timo.errors import TimoError
from timo.inspection import rollout_at


def rollout_by_matrices(model, cube, stage, query):
    """(t, i, j) of stage 1: every matrix is built and multiplied."""
    date, row, col = query
    strides = model.config.encoder.strides
    sizes = [tuple(-(-cube.sizes[d] // stride) for d in ("y", "x")) for stride in strides]
    dates = cube.sizes["time"]
    depths, seen = model.config.encoder.depths, inputs_of_attentions(model, cube)
    stages = [number for number in range(4) for _ in range(depths[number])]
    height, width = sizes[stage - 1]
    place = np.ravel_multi_index(
        (date, row // strides[stage - 1], col // strides[stage - 1]), (dates, height, width)
    )
    share = torch.zeros(dates * height * width, dtype=torch.float64)
    share[place] = 1
    at = stage - 1
    for number, (attention, x, valid) in reversed(list(zip(stages, seen, strict=True))):
        if number >= stage:
            continue
        if number != at:
            share, at = spread(share, valid, sizes[number]), number
        matrix = full_softmax(attention, x, valid).mean(dim=0).nan_to_num()
        share = (share @ matrix + share) / 2
    return share.reshape(dates, *sizes[0]).numpy()


def spread(share, valid, size):
    coarse = share.reshape(valid.shape[1], *(-(-length // 2) for length in size))
    keep = valid[0].reshape(-1, *size)
    fine = torch.zeros(keep.shape, dtype=share.dtype)
    for t, i, j in coarse.nonzero().tolist():
        cell = keep[t, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        fine[t, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = cell * coarse[t, i, j] / cell.sum()
    return fine.flatten()


@pytest.mark.parametrize(
    ("stage", "token", "size"),
    [*((n, 4, 1) for n in (1, 2, 3, 4)), (2, 2, 2), (4, 2, 2), (3, 1, 4)],
)
def test_equals_the_product_of_the_matrices(stage, token, size):
    model, cube = make_model(token=token), make_cube(t=3, h=36 // size, w=32 // size)
    with torch.no_grad():
        expected = rollout_by_matrices(model, cube, stage, (2, 14 // size, 21 // size))
    found = rollout_at(model, cube, time=cube.time[2], row=14 // size, col=21 // size, stage=stage)
    np.testing.assert_allclose(found.weight, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.weight.sum(), 1, atol=1e-5)
    assert found.attrs["stride"] == token
    assert float(found.weight.where(~found.observed, 0).max()) == 0
    # An even spread would pass with anything.
    assert float(found.weight.max()) > 2 * float(found.weight.mean())


def test_every_kind_of_attention():
    cube = make_cube(t=3, h=32, w=32)
    for kind in ("d-stga", "stga", "global"):
        found = rollout_at(make_model((kind,) * 4), cube, time=cube.time[0], row=3, col=3)
        np.testing.assert_allclose(found.weight.sum(), 1, atol=1e-5)


def test_says_what_is_wrong():
    cube = make_cube()
    with pytest.raises(TimoError, match="stage must be a whole number from 1 to 4; got 7"):
        rollout_at(make_model(), cube, time=cube.time[0], row=3, col=3, stage=7)
    with pytest.raises(TimoError, match="Choose another date"):
        rollout_at(make_model(), cube, time=cube.time[1], row=12, col=12, stage=1)
