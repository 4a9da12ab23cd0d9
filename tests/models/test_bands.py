"""Laws of the stem that makes its kernels from wavelengths: one set of weights for any bands, in any number and order.

In float64. "The same" is every bit, unless bands of one wavelength change places in a sum: then 1e-12.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from timo.errors import TimoError
from timo.models.bands import WavelengthConv, to_picometres, wavelength_code
from timo.models.config import EncoderConfig
from timo.models.embedding import Stem
from timo.models.encoder import TiMoEncoder, create_encoder
from timo.sensors import POLARISATIONS, SENSORS

few = settings(max_examples=12, deadline=None)
RGB = (0.492, 0.560, 0.665)


def codes(sensor, *names):
    return tuple(b.wavelength_um for b in SENSORS[sensor].bands if not names or b.name in names)


SERVED = {
    "Sentinel-2, 12 bands": codes("sentinel-2"),
    "Sentinel-2, 10 bands": codes("sentinel-2")[1:9] + codes("sentinel-2")[10:],
    "Sentinel-2, 6 bands": codes("sentinel-2", "B2", "B3", "B4", "B8", "B8A", "B11"),
    "Sentinel-2, near infrared": codes("sentinel-2", "B8"),
    "Landsat": codes("landsat-8-9"),
    "MODIS": codes("modis"),
    "Sentinel-1": codes("sentinel-1"),
    "Sentinel-1 and Sentinel-2": (*codes("sentinel-1", "VV", "VH"), *codes("sentinel-2")),
    "thermal": (10.9, 12.0),
}


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return small_encoder(stem="wavelength", wavelengths=RGB)


def draw(bands, t=2, size=24):
    """A series with gaps: x, dates, valid."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, t, bands, size, size, generator=generator, dtype=torch.float64)
    dates = 18_000 + 30 * torch.arange(t, dtype=torch.float64)[None]
    return x, dates, torch.rand(1, t, size, size, generator=generator) > 0.2


def run(encoder, x, dates, valid, wavelengths=None):
    with torch.no_grad():
        return encoder(x, dates, valid, wavelengths)


def same(found, expected):
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("served", SERVED)
def test_one_set_of_weights_serves_any_sensor(encoder, served):
    wavelengths = SERVED[served]
    x, dates, valid = draw(len(wavelengths))
    maps = run(encoder, x, dates, valid, wavelengths)
    assert [m.shape[2] for m in maps] == list(encoder.config.dims)
    assert all(m.isfinite().all() for m in maps)
    # What the bands are counts, not only what they hold.
    moved = tuple(w * 1.1 if w > 0 else -3 - w for w in wavelengths)
    assert (run(encoder, x, dates, valid, moved)[-1] - maps[-1]).abs().max() > 1e-3


@few
@given(order=st.permutations(range(7)))
def test_bands_may_come_in_any_order(encoder, order):
    wavelengths = (0.0, 0.443, 2.202, 0.865, -1.0, 0.833, 0.665)
    x, dates, valid = draw(7)
    shuffled = [wavelengths[i] for i in order]
    found = run(encoder, x[:, :, order], dates, valid, shuffled)
    assert same(found, run(encoder, x, dates, valid, wavelengths))


def test_the_configs_wavelengths_are_those_of_a_call_without(small_encoder, encoder):
    x, dates, valid = draw(3)
    expected = run(encoder, x, dates, valid)
    for given_ in (RGB, list(RGB), torch.tensor(RGB), torch.tensor(RGB, dtype=torch.float64)):
        assert same(run(encoder, x, dates, valid, given_), expected)
    order = [2, 0, 1]
    config = {"stem": "wavelength", "wavelengths": tuple(RGB[i] for i in order)}
    shuffled = small_encoder(**config)
    shuffled.load_state_dict(encoder.state_dict())
    assert same(run(shuffled, x[:, :, order], dates, valid), expected)


def test_whole_numbers_may_say_polarisations(encoder):
    x, dates, valid = draw(2)
    expected = run(encoder, x, dates, valid, (0.0, -1.0))
    assert same(run(encoder, x, dates, valid, [0, -1]), expected)
    assert same(run(encoder, x, dates, valid, torch.tensor([0, -1])), expected)


def test_bands_of_one_wavelength_may_change_places(encoder):
    x, dates, valid = draw(3)
    twice = (0.665, 0.665, 0.865)
    maps = run(encoder, x, dates, valid, twice)
    swapped = run(encoder, x[:, :, [1, 0, 2]], dates, valid, twice)
    for one, other in zip(maps, swapped, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_the_convolution_is_the_sum_of_each_bands_own_over_the_root_of_their_number():
    torch.manual_seed(0)
    conv = WavelengthConv(8, ()).double()
    wavelengths = (2.2, 0.0, 0.49, 0.49)
    x = torch.randn(2, 4, 13, 10, dtype=torch.float64)
    alone = [conv(x[:, i : i + 1], wavelengths[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(conv(x, wavelengths), sum(alone) / 2)
    kernel = conv.kernels(to_picometres(torch.tensor([0.49])))
    assert kernel.shape == (8, 1, 7, 7)
    torch.testing.assert_close(alone[2], F.conv2d(x[:, 2:3], kernel, stride=2, padding=3))


def test_close_bands_are_told_apart_and_wavelengths_between_interpolate():
    torch.manual_seed(0)
    conv = WavelengthConv(16, ()).double()

    def kernels(*wavelengths):
        with torch.no_grad():
            return conv.kernels(to_picometres(torch.tensor(wavelengths, dtype=torch.float64)))

    def apart(one, other):
        pair = kernels(one, other)
        return float((pair[:, 0] - pair[:, 1]).norm() / pair[:, 0].norm())

    # B8 and B8A of Sentinel-2 are near, not the same; red and the short-wave infrared have little in common.
    assert 0.2 < apart(0.833, 0.865) < 0.8 < apart(0.665, 2.202)
    # The red of Sentinel-2 is almost that of Landsat, and a band between two lies between them.
    assert apart(0.665, 0.655) < apart(0.833, 0.865)
    assert max(apart(0.833, 0.849), apart(0.849, 0.865)) < apart(0.833, 0.865)
    steps = [apart(0.70, 0.70 + step) for step in (1e-2, 1e-3, 1e-4, 1e-5)]
    assert steps == pytest.approx([steps[0] * 10**-i for i in range(4)], rel=0.2)


def test_the_code_of_wavelengths_is_of_their_ratios():
    bands = to_picometres(torch.tensor([0.4, 0.8, 1.1, 2.2], dtype=torch.float64))
    code = wavelength_code(bands, 32)
    products = code @ code.T
    assert code.shape == (4, 32)
    torch.testing.assert_close(products.diagonal(), torch.full((4,), 16.0, dtype=code.dtype))
    torch.testing.assert_close(products[0, 1], products[2, 3])


def test_activations_begin_at_one_size_whatever_the_number_of_bands():
    torch.manual_seed(0)
    conv = WavelengthConv(64, ())
    wavelengths = codes("sentinel-2")
    with torch.no_grad():
        for count in (1, 3, 12):
            out = conv(torch.randn(2, count, 48, 48), wavelengths[:count])
            # He et al.: twice the variance of the input, of which a ReLU leaves half the power.
            assert out.square().mean().sqrt() == pytest.approx(2**0.5, rel=0.08)


def test_a_new_encoder_keeps_the_stems_own_first_weights():
    torch.manual_seed(0)
    stem = create_encoder("tiny", 3, stem="wavelength", wavelengths=RGB).stem
    with torch.no_grad():
        kernels = stem.kernels.kernels(stem.kernels.bands)
    assert kernels.std() == pytest.approx((2 / 49 / 3) ** 0.5, rel=0.05)


@pytest.mark.parametrize("fill", [float("nan"), float("inf"), 1e30])
def test_what_stands_in_a_gap_changes_no_bit(encoder, fill):
    x, dates, valid = draw(2)
    valid[0, 1] = False
    wavelengths = (0.0, 0.865)
    found = run(
        encoder, torch.where(valid[:, :, None], x, fill), dates, valid, torch.tensor(wavelengths)
    )
    assert same(found, run(encoder, x, dates, valid, wavelengths))


def test_gradients_reach_the_generator_and_the_tokens_that_were_used(encoder):
    x, dates, valid = draw(3, size=64)
    encoder.zero_grad()
    maps = encoder(x.requires_grad_(), dates, valid, (0.0, -3.0, 0.665))
    sum(m.square().sum() for m in maps).backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    assert [name for name, g in gradients.items() if not g.isfinite().all()] == []
    assert [name for name, g in gradients.items() if g.abs().max() == 0] == []
    used = gradients["stem.kernels.tokens"].abs().amax(dim=1) > 0
    assert used.tolist() == [True, False, False, True]
    assert x.grad.isfinite().all()
    assert (x.grad.movedim(2, -1)[~valid] == 0).all()
    encoder.zero_grad()


def test_the_published_norm_goes_with_it(small_encoder):
    encoder = small_encoder(stem="wavelength", wavelengths=RGB, norm="batch")
    x, dates, valid = draw(4)
    maps = encoder.train()(x, dates, valid, (0.45, 0.55, 0.65, 0.85))
    assert all(m.isfinite().all() for m in maps)
    assert (encoder.stem.norm1.running_mean != 0).all()


def test_samples_of_a_batch_do_not_meet(encoder):
    x, dates, valid = draw(3)
    other = torch.cat([x, x.flip(-1)]), dates.repeat(2, 1), torch.cat([valid, valid.flip(-1)])
    maps = run(encoder.train(), *other)
    alone = run(encoder, x, dates, valid)
    encoder.eval()
    for one, both in zip(alone, maps, strict=True):
        torch.testing.assert_close(both[:1], one, rtol=0, atol=1e-9)


def test_a_model_in_half_precision_still_tells_bands_apart():
    wavelengths = codes("sentinel-2", "B8", "B8A")
    encoder = create_encoder("tiny", 2, stem="wavelength", wavelengths=wavelengths).bfloat16()
    assert encoder.stem.kernels.bands.tolist() == [833_000, 865_000]
    with torch.no_grad():
        one, other = encoder.stem.kernels.kernels(encoder.stem.kernels.bands).unbind(dim=1)
    assert (one - other).abs().max() > 0.01


def test_what_the_bands_are_is_part_of_the_config_and_not_of_the_weights(encoder, small_encoder):
    assert [name for name in encoder.state_dict() if name.endswith("bands")] == []
    landsat = EncoderConfig(
        **{
            **vars(encoder.config),
            "in_channels": 7,
            "wavelengths": codes("landsat-8-9"),
        }
    )
    other = TiMoEncoder(landsat).double().eval()
    other.load_state_dict(encoder.state_dict())
    x, dates, valid = draw(7)
    expected = run(encoder, x, dates, valid, codes("landsat-8-9"))
    assert same(run(other, x, dates, valid), expected)


def test_the_forward_pass_asks_no_value_of_the_device():
    with torch.device("meta"):
        encoder = create_encoder("tiny", 3, stem="wavelength", wavelengths=RGB)
    x, dates, valid = (z.to("meta") for z in draw(2, size=33))
    given_ = torch.tensor([0.5, -1.0], device="meta")
    assert [m.device.type for m in encoder(x.float(), dates, valid, given_)] == ["meta"] * 4


def test_the_stem_compiles_without_a_break(unchecked):
    torch.manual_seed(0)
    stem = Stem(EncoderConfig(in_channels=3, stem="wavelength", wavelengths=RGB))
    compiled = torch.compile(stem, backend="eager", fullgraph=True)
    x = torch.randn(1, 3, 16, 16)
    expected = stem(x)
    for given_ in (None, RGB, torch.tensor(RGB)):
        assert torch.equal(compiled(x, given_), expected)


def test_a_large_encoder_is_made_for_ten_bands():
    with torch.device("meta"):
        encoder = create_encoder(
            "base", bands=10, stem="wavelength", wavelengths=SERVED["Sentinel-2, 10 bands"]
        )
    stem = sum(p.numel() for p in encoder.stem.kernels.parameters())
    assert sum(p.numel() for p in encoder.parameters()) - stem == pytest.approx(90.1e6, rel=1e-3)
    assert stem < 1e6


@pytest.mark.parametrize(
    ("wavelengths", "message"),
    [
        (
            (0.5, 0.6),
            r"wavelengths of shape \(2,\) do not fit x of shape \(1, 2, 3, 24, 24\): exp",
        ),
        (torch.rand(4), r"wavelengths of shape \(4,\) do not fit"),
        (torch.rand(3, 1), r"wavelengths of shape \(3, 1\) do not fit"),
        ((0.5, 0.6, -4), "-4 is the wavelength of no band: .* 0 for VV, -1 for VH, -2 for HH, -3"),
        ((0.5, 0.6, -0.5), "-0.5 is the wavelength of no band"),
        (torch.tensor([443.0, 560.0, 665.0]), "443 is the wavelength of no band: expected micro"),
        ((0.5, 0.6, float("nan")), "list of numbers; got .*number 2 is nan"),
    ],
)
def test_wavelengths_that_do_not_fit_are_refused(unchecked, encoder, wavelengths, message):
    with pytest.raises(TimoError, match=message):
        run(encoder, *draw(3), wavelengths)


def test_a_code_that_is_none_is_nan_where_it_cannot_be_refused():
    conv = WavelengthConv(4, ())
    with torch.no_grad():
        kernels = conv.kernels(to_picometres(torch.tensor([-4.0, -3.0, -0.5, 0.0, 0.5, 443.0])))
    unknown = [True, False, True, False, False, True]
    assert kernels.isnan().any(dim=(0, 2, 3)).tolist() == unknown
    assert kernels.isnan().all(dim=(0, 2, 3)).tolist() == unknown


def test_the_plain_stem_refuses_wavelengths(small_encoder):
    with pytest.raises(TimoError, match=r'knows a band by its position .* stem="wavelength"'):
        run(small_encoder(), *draw(3), RGB)


def test_without_wavelengths_the_bands_are_the_configs(unchecked, encoder):
    with pytest.raises(TimoError, match=r"expected x of shape \(b, t, 3, h, w\)"):
        run(encoder, *draw(4))


def test_polarisations_have_codes_that_no_wavelength_has():
    assert POLARISATIONS == {"VV": 0, "VH": -1, "HH": -2, "HV": -3}
