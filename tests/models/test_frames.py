"""Several groups of bands: each observation is a frame, and what one group lacks changes nothing of the others."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.inspection.running import borrowed
from timo.models.answering import ModelConfig
from timo.models.config import EncoderConfig
from timo.models.frames import Frames
from timo.models.mim import MaskedConfig
from timo.models.tasks import TiMo, build

few = settings(max_examples=10, deadline=None)
GROUPS = (3, 2)
OPTICAL, RADAR = slice(0, 3), slice(3, 5)
STEMS = {
    "plain": {},
    "wavelength": {"stem": "wavelength", "wavelengths": (0.49, 0.66, 0.83, 0.0, -1.0)},
    "without": {"stem": "wavelength", "wavelengths": (0.49, 0.66, 0.83, None, None)},
}
ANSWERS = {
    "pixel and date": {"task": "segmentation"},
    "pixel": {"task": "segmentation", "per_date": False},
    "chip and date": {"task": "classification"},
    "chip": {"task": "classification", "per_date": False},
    "parcel": {"task": "classification", "unit": "parcel", "per_date": False},
    "value of a pixel": {"task": "regression", "per_date": False},
    "value of a chip and date": {"task": "regression", "unit": "chip"},
}
by_name = {"ids": lambda name: name}


def configured(groups, stem, answer, **options):
    """Config of a small model of the first of these groups of bands."""
    count = sum(groups)
    kinds = dict(STEMS[stem])
    if "wavelengths" in kinds:
        kinds["wavelengths"] = kinds["wavelengths"][:count]
    encoder = EncoderConfig(
        count, (16, 32, 32, 32), (1, 1, 1, 1), (1, 2, 2, 4), groups=groups, **kinds, **options
    )
    settings = ANSWERS[answer]
    classes = () if settings["task"] == "regression" else ("a", "b", "c")
    names = tuple(f"band {i}" for i in range(count))
    return ModelConfig(
        encoder, names, classes, (0.1,) * count, (0.2,) * count, head_width=8, detail=4, **settings
    )


@pytest.fixture(scope="module")
def made(disturb):
    """Models with disturbed weights, made once."""
    models = {}

    def make(stem="plain", answer="pixel", groups=GROUPS, **options):
        key = (stem, answer, groups, *options.items())
        if key not in models:
            models[key] = disturb(TiMo(configured(groups, stem, answer, **options)))
        return models[key].eval()

    return make


def alone_of(joint, stem, answer, **options):
    """The model of the first group with the weights that it shares with the joint one."""
    alone = TiMo(configured(GROUPS[:1], stem, answer, **options)).double().eval()
    held = joint.state_dict()
    alone.load_state_dict({name: held[name] for name in alone.state_dict()})
    return alone


@pytest.fixture(scope="module")
def joint_series():
    """Random series of both groups, each with gaps of its own and dates of its own."""

    def draw(b=2, t=5, h=13, w=9, missing=0.2):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(b, t, sum(GROUPS), h, w, generator=generator, dtype=torch.float64)
        dates = 18_000 + (torch.rand(b, t, generator=generator) * 25 + 5).cumsum(dim=1).round()
        valid = torch.rand(b, t, 2, h, w, generator=generator) >= missing
        # Date 1 is of the first alone, date 2 of the second, and in one sample date 0 of neither.
        valid[:, 1, 1] = valid[:, 2, 0] = valid[0, 0] = False
        return x, dates, valid

    return draw


@pytest.mark.parametrize("stem", STEMS, **by_name)
@pytest.mark.parametrize("answer", ANSWERS, **by_name)
def test_without_the_second_group_all_is_as_without_its_bands_to_the_bit(
    made, joint_series, stem, answer
):
    joint = made(stem, answer, drop_path=0.3)
    alone = alone_of(joint, stem, answer, drop_path=0.3)
    x, dates, valid = joint_series()
    valid[:, :, 1] = False
    x[:, :, RADAR] = torch.nan

    def step(model, *inputs):
        model.train().zero_grad()
        torch.manual_seed(5)
        scores = model(*inputs)
        scores.square().sum().backward()
        return scores, {name: p.grad for name, p in model.named_parameters()}

    with torch.no_grad():
        expected = alone(x[:, :, OPTICAL], dates, valid[:, :, 0])
        assert torch.equal(joint(x, dates, valid), expected)
        assert expected.std() > 0
    found, gradients = step(joint, x, dates, valid)
    expected, wanted = step(alone, x[:, :, OPTICAL], dates, valid[:, :, 0])
    assert torch.equal(found, expected)
    assert [name for name, g in wanted.items() if not torch.equal(gradients[name], g)] == []
    others = [g for name, g in gradients.items() if name not in wanted]
    assert all(g is None or g.abs().max() == 0 for g in others)


@pytest.mark.parametrize("stem", STEMS, **by_name)
def test_a_joint_model_begins_as_that_of_its_first_group(stem):
    joint, alone = (
        build(configured(groups, stem, "pixel"), seed=4).state_dict() for groups in (GROUPS, (3,))
    )
    assert [name for name in alone if not torch.equal(alone[name], joint[name])] == []
    assert {name.split(".")[1] for name in joint if name not in alone} == (
        {"group_code", "details"} | (set() if stem == "wavelength" else {"stems"})
    )


@pytest.mark.parametrize("stem", STEMS, **by_name)
@pytest.mark.parametrize("answer", ["pixel and date", "pixel", "chip and date", "chip"])
def test_radar_counts_under_a_cloud(made, joint_series, stem, answer):
    model = made(stem, answer)
    x, dates, valid = joint_series()
    other = x.clone()
    other[:, 2, RADAR] += 1.0  # the first group saw nothing on this date
    hidden = valid.clone()
    hidden[:, 2, 1] = False
    with torch.no_grad():
        scores = model(x, dates, valid)
        assert (model(other, dates, valid) - scores).abs().max() > 1e-3
        # Where nothing is observed, nothing is read.
        assert torch.equal(model(other, dates, hidden), model(x, dates, hidden))


@pytest.mark.parametrize("fill", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("answer", ["pixel and date", "pixel", "chip"])
def test_what_stands_in_a_gap_of_a_group_changes_no_bit(made, joint_series, answer, fill):
    model = made("wavelength", answer)
    x, dates, valid = joint_series()
    mask = valid.repeat_interleave(torch.tensor(GROUPS), dim=2)
    with torch.no_grad():
        expected = model(torch.where(mask, x, 0.0), dates, valid)
        filled = torch.where(mask, x, fill)
        assert torch.equal(model(filled, dates, valid), expected)
        if not torch.isfinite(torch.tensor(fill)):
            # By default valid where all bands of the group are finite.
            assert torch.equal(model(filled, dates), expected)
    assert expected.isfinite().all()


@settings(max_examples=3, deadline=None)
@example(order=[4, 3, 2, 1, 0])
@given(order=st.permutations(range(5)))
def test_dates_may_come_in_any_order(made, joint_series, order):
    x, dates, valid = joint_series()
    for answer in ("pixel and date", "pixel", "chip"):
        model = made("wavelength", answer)
        with torch.no_grad():
            expected = model(x, dates, valid)
            found = model(x[:, order], dates[:, order], valid[:, order])
        expected = expected[:, order] if answer == "pixel and date" else expected
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("answer", ["pixel", "chip", "parcel"])
def test_sensors_on_one_date_are_as_on_two_entries_of_that_date(made, joint_series, answer):
    model = made("plain", answer)
    x, dates, valid = joint_series(missing=0.1)
    apart = valid[:, :, None].repeat(1, 1, 2, 1, 1, 1) & torch.eye(2).bool()[:, :, None, None]
    with torch.no_grad():
        expected = model(x, dates, valid)
        found = model(
            x.repeat_interleave(2, dim=1), dates.repeat_interleave(2, dim=1), apart.flatten(1, 2)
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("answer", ANSWERS, **by_name)
def test_samples_of_a_batch_do_not_meet(made, joint_series, answer):
    model = made("wavelength", answer)
    x, dates, valid = joint_series(b=3)
    valid[1, :, 1] = False  # fewer frames than the others
    valid[2, 3:] = False
    with torch.no_grad():
        together = model(x, dates, valid)
        each = [model(x[i : i + 1], dates[i : i + 1], valid[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(each), rtol=0, atol=1e-9)


def test_a_series_without_any_observation_is_finite(made, joint_series):
    x, dates, valid = joint_series()
    valid[1] = False
    for answer in ANSWERS:
        with torch.no_grad():
            assert made("without", answer)(x, dates, valid).isfinite().all()


def test_every_parameter_learns_and_gaps_give_no_gradient(made, joint_series):
    x, dates, valid = joint_series(h=40, w=36)
    mask = valid.repeat_interleave(torch.tensor(GROUPS), dim=2)
    for stem in STEMS:
        model = made(stem, "pixel and date")
        given = torch.where(mask, x, torch.nan).requires_grad_()
        model.zero_grad()
        model(given, dates, valid).square().sum().backward()
        assert (given.grad[~mask] == 0).all()
        idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        # Codes of radar bands, which here have kernels of their own.
        unused = {"plain": [], "wavelength": [], "without": ["encoder.stem.kernels.tokens"]}
        assert idle == unused[stem]


@few
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 3)),
    share=st.sampled_from([0.0, 0.3, 0.8]),
    seed=st.integers(0, 10**6),
)
def test_frames_are_the_dates_and_groups_that_were_observed(shape, share, seed):
    b, t, g = shape
    generator = torch.Generator().manual_seed(seed)
    observed = torch.rand(b, t, g, 2, 3, generator=generator) < share
    observed &= torch.rand(b, t, g, 1, 1, generator=generator) < 0.7
    frames = Frames.of(observed)
    x = torch.rand(*frames.dates.shape, 2, 2, 3, generator=generator, dtype=torch.float64)
    mean = frames.mean_by_date(x)
    for i in range(b):
        held = frames.present[i].nonzero()[:, 0].tolist()
        pairs = {(int(frames.dates[i, f]), int(frames.groups[i, f])): f for f in held}
        assert len(pairs) == len(held)
        for date in range(t):
            seen = [k for k in range(g) if observed[i, date, k].any()]
            assert [k for k in range(g) if (date, k) in pairs] == (seen or [0])
            for row, column in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
                here = [k for k in range(g) if observed[i, date, k, row, column]] or seen or [0]
                expected = sum(x[i, pairs[date, k], :, row, column] for k in here) / len(here)
                torch.testing.assert_close(mean[i, date, :, row, column], expected)
        for f in range(frames.dates.shape[1]):
            there = observed[i, frames.dates[i, f], frames.groups[i, f]]
            assert torch.equal(frames.valid[i, f], there)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": (3, 3)}, r"groups \(3, 3\) have 6 bands, expected the 5 of in_channels"),
        ({"groups": (4,)}, r"groups \(4,\) have 4 bands"),
        ({"groups": (3, 2), "position": "index"}, 'give position="date" and norm="layer"'),
        ({"groups": (3, 2), "norm": "batch"}, 'give position="date" and norm="layer"'),
        (
            {"groups": (3, 2), "stem": "wavelength", "wavelengths": (0.5, None, 0.6, None, 0.7)},
            'needs all those of one group of bands, .*: give them, or stem="plain"',
        ),
        (
            {"stem": "wavelength", "wavelengths": (0.5, None, 0.6, 0.7, 0.8)},
            "needs all those of one group",
        ),
    ],
)
def test_groups_that_cannot_be_are_refused(options, message):
    with pytest.raises(TimoError, match=message):
        EncoderConfig(5, **options)


def test_one_group_is_none():
    assert EncoderConfig(5, groups=(5,)) == EncoderConfig(5)
    assert EncoderConfig(5).parts == (EncoderConfig(5),)
    config = configured(GROUPS, "without", "pixel").encoder
    assert [(p.in_channels, p.stem, p.groups) for p in config.parts] == [
        (3, "wavelength", ()),
        (2, "plain", ()),
    ]


def test_a_joint_series_that_does_not_fit_is_refused(unchecked, made, joint_series):
    model = made()
    x, dates, valid = joint_series()
    with pytest.raises(TimoError, match="needs the dates of its observations"):
        model(x, None, valid)
    with pytest.raises(TimoError, match=r"valid of shape .*: expected \(2, 5, 2, 13, 9\)"):
        model(x, dates, valid[:, :, 0])
    assert model(x, dates).shape == (2, 3, 13, 9)


def test_masked_pretraining_of_several_groups_is_refused():
    encoder = configured(GROUPS, "plain", "pixel").encoder
    with pytest.raises(TimoError, match="pretrain on each sensor alone"):
        MaskedConfig(encoder, tuple("abcde"), (0.0,) * 5, (1.0,) * 5)


def test_attention_is_shown_for_one_group_alone(made):
    with pytest.raises(TimoError, match=r"those of a model of one sensor; .*timo\.cube\.separate"):
        borrowed(made())
    assert borrowed(made(groups=(3,))).config.encoder.in_channels == 3
