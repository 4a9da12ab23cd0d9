import sys
import warnings

import numpy as np
import pytest

from timo.mapping import held_out_errors
from timo.training import ChipOptions, finetune
from timo.training.judging import _dates, judge_split

SMALL = {
    "epochs": 1,
    "chips_per_epoch": 8,
    "batch_size": 4,
    "chips": ChipOptions(size=16, dates=(3, 5)),
    "progress": False,
}


def test_a_training_tells_how_far_the_held_out_errors_are_alike(world, new_model):
    cube, labels, split = world
    model = new_model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        errors = finetune(model, cube, labels, split=split, **SMALL).errors
        again = judge_split(model, cube, labels, split)
    labelled = (labels.values >= 0).reshape(-1, *split.shape).any(axis=0)
    assert 0 < errors.pixels <= (labelled & (split.values == 1)).sum()
    assert f"{errors.pixels:,} held-out pixels" in errors.summary
    assert again.range_m == errors.range_m


def test_without_validation_nothing_is_told(world, new_model):
    cube, labels, split = world
    nowhere = split.where(split != 1, -1).astype("int8")
    assert finetune(new_model(), cube, labels, split=nowhere, **SMALL).errors is None
    assert finetune(new_model(), cube, labels, **SMALL).errors is None
    few = labels.copy(data=np.where(split.values == 1, -1, labels.values).astype("int8"))
    few.values[..., *np.argwhere(split.values == 1)[0]] = 0
    assert judge_split(new_model().eval(), cube, few, split) is None


def test_blocks_that_are_too_small_are_warned_of(world, new_model, monkeypatch):
    cube, labels, split = world
    told = judge_split(new_model().eval(), cube, labels, split)

    class Dishonest:
        honest = False
        summary = "too small"

    monkeypatch.setattr(
        sys.modules[judge_split.__module__], "held_out_errors", lambda *_: Dishonest
    )
    with pytest.warns(UserWarning, match="too small"):
        judge_split(new_model().eval(), cube, labels, split)
    assert isinstance(told.summary, str)


def test_the_window_around_the_held_out_pixels_changes_nothing(world, new_model):
    cube, labels, split = world
    import timo

    model = new_model().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        told = judge_split(model, cube, labels, split)
    dates = _dates(cube, labels)
    given = labels if "time" not in labels.dims else labels.isel(time=dates)
    whole = held_out_errors(timo.predict(model, cube.isel(time=dates)).compute(), given, split)
    assert told.pixels == whole.pixels
    assert told.range_m == pytest.approx(whole.range_m, rel=1e-3)
