import numpy as np
import pytest
import torch

from timo.models.config import EncoderConfig
from timo.models.embedding import (
    ChannelNorm,
    FourierDates,
    Position,
    Stem,
    date_code,
    index_code,
    place_code,
)
from timo.models.encoder import TiMoEncoder

CPU = torch.device("cpu")
PRESENT = torch.ones(1, 3, dtype=torch.bool)


def mae_code(position, channels):
    """`get_1d_sincos_pos_embed_from_grid` of MAE: float64, sines before cosines."""
    omega = 1.0 / 10000 ** (np.arange(channels // 2) / (channels / 2.0))
    angle = np.outer(position, omega)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def test_places_are_coded_as_in_mae_column_first():
    code = place_code(5, 7, 16, CPU).numpy()
    assert code.shape == (5, 7, 16)
    for row, column in ((0, 0), (4, 6), (2, 5)):
        expected = [mae_code([column], 8)[0], mae_code([row], 8)[0]]
        np.testing.assert_array_equal(code[row, column], np.concatenate(expected, dtype="float32"))


def test_frames_are_counted_from_zero():
    np.testing.assert_allclose(index_code(6, 8, CPU), mae_code(np.arange(6), 8), atol=1e-6)


def test_the_first_half_of_the_code_is_the_frame_and_the_second_the_place():
    position = Position(EncoderConfig(in_channels=1, dims=(16, 16, 16, 16), heads=(1, 1, 1, 1)))
    dates = torch.tensor([[18_000.0, 18_016.0, 18_200.0]])
    code = position(torch.zeros(1, 3, 4, 5, 16), dates, PRESENT)
    frame, place = code.split(8, dim=-1)
    assert torch.equal(frame, frame[:, :, :1, :1].expand_as(frame))
    assert torch.equal(place, place[:, :1].expand_as(place))
    assert torch.equal(place[0, 0], place_code(4, 5, 8, CPU))
    torch.testing.assert_close(frame[:, :, 0, 0], date_code(dates, PRESENT, 8).float())


def test_dates_are_coded_by_season_and_by_days_since_the_first():
    dates = torch.tensor([[18_000.0, 18_016.0, 18_200.0]])
    code = date_code(dates, PRESENT, 32)[0].numpy()
    year = 2 * np.pi * dates[0].numpy()[:, None].astype("float64") / 365.2425 * np.arange(1, 9)
    periods = np.geomspace(16, 16384, 8)
    elapsed = 2 * np.pi * np.array([0.0, 16.0, 200.0])[:, None] / periods
    parts = [np.sin(year), np.cos(year), np.sin(elapsed), np.cos(elapsed)]
    np.testing.assert_allclose(code, np.concatenate(parts, axis=1), atol=1e-9)


@pytest.mark.parametrize("channels", [4, 8, 12, 32, 64, 256])
def test_the_date_code_fills_its_channels(channels):
    dates = torch.tensor([[18_000.0, 18_016.0, 18_200.0]])
    code = date_code(dates, PRESENT, channels)
    assert code.shape == (1, 3, channels)
    assert code.isfinite().all()


def test_elapsed_time_counts_from_the_first_date_with_an_observation():
    dates = torch.tensor([[100.0, 18_000.0, 18_016.0]])
    present = torch.tensor([[False, True, True]])
    torch.testing.assert_close(
        date_code(dates, present, 32)[:, 1:],
        date_code(dates[:, 1:], present[:, 1:], 32),
    )
    nothing = date_code(dates, torch.zeros_like(present), 32)
    torch.testing.assert_close(nothing, date_code(dates, PRESENT, 32))


@pytest.fixture
def learned():
    """Fourier dates far from their first weights."""
    torch.manual_seed(0)
    dates = FourierDates(32).double()
    for parameter in dates.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    return dates


@pytest.mark.parametrize("channels", [4, 8, 12, 32, 64])
def test_learned_dates_begin_as_the_fixed_ones(channels):
    dates = torch.tensor([[18_000.0, 18_016.0, 21_500.0]])
    with torch.no_grad():
        code = FourierDates(channels).double()(dates, PRESENT)
    assert torch.equal(code, date_code(dates, PRESENT, channels))


def test_learned_dates_are_sines_of_learned_frequencies_in_a_learned_mix(learned):
    dates = torch.tensor([[18_000.0, 18_016.0, 18_200.0]])
    year = 2 * np.pi * dates[0].numpy()[:, None].astype("float64") / 365.2425 * np.arange(1, 9)
    frequencies = np.exp(learned.log_frequency.detach().numpy()) / np.geomspace(16, 16384, 8)
    elapsed = 2 * np.pi * np.array([0.0, 16.0, 200.0])[:, None] * frequencies
    features = [np.sin(year), np.cos(year), np.sin(elapsed), np.cos(elapsed)]
    weight, bias = (p.detach().numpy() for p in (learned.mix.weight, learned.mix.bias))
    expected = np.concatenate(features, axis=1) @ weight.T + bias
    with torch.no_grad():
        np.testing.assert_allclose(learned(dates, PRESENT)[0], expected, atol=1e-9)


def test_learned_dates_may_come_in_any_order_and_come_round_with_the_calendar(learned):
    dates = torch.tensor([[18_000.0, 18_016.0, 18_200.0]], dtype=torch.float64)
    order = [2, 0, 1]
    with torch.no_grad():
        code = learned(dates, PRESENT)
        torch.testing.assert_close(learned(dates[:, order], PRESENT), code[:, order])
        # 400 Gregorian years are a whole number of days: the same season, the same days between.
        torch.testing.assert_close(learned(dates + 146_097, PRESENT), code, rtol=0, atol=1e-9)
        assert torch.equal(learned(dates.long(), PRESENT), code)
        assert torch.equal(learned(dates.float(), PRESENT), code)
        assert (learned(dates + 182, PRESENT) - code).abs().max() > 0.1


def test_learned_elapsed_time_counts_from_the_first_date_with_an_observation(learned):
    dates = torch.tensor([[100.0, 18_000.0, 18_016.0]])
    present = torch.tensor([[False, True, True]])
    with torch.no_grad():
        torch.testing.assert_close(
            learned(dates, present)[:, 1:], learned(dates[:, 1:], present[:, 1:])
        )
        nothing = learned(dates, torch.zeros_like(present))
        torch.testing.assert_close(nothing, learned(dates, PRESENT))


def test_learned_dates_in_single_precision_lose_no_day():
    """Twenty years of days times a frequency are many turns: only the mix is in the model's precision."""
    dates = FourierDates(32)
    days = torch.tensor([[14_000.0, 21_500.0, 21_501.0]])
    with torch.no_grad():
        code = dates(days, PRESENT)
        assert code.dtype == torch.float32
        torch.testing.assert_close(code.double(), dates.double()(days, PRESENT), rtol=0, atol=1e-6)
        assert dates.bfloat16()(days, PRESENT).dtype == torch.bfloat16


SHUFFLED = [2, 0, 3, 1]


def test_an_encoder_with_learned_dates_keeps_the_laws_of_dates(small_encoder, series):
    encoder = small_encoder(position="fourier")
    x, dates, valid = series(t=4, h=20, w=36)
    valid[:, 2] = False
    rest = [0, 1, 3]
    with torch.no_grad():
        maps = encoder(x, dates, valid)
        shuffled = encoder(x[:, SHUFFLED], dates[:, SHUFFLED], valid[:, SHUFFLED])
        without = encoder(x[:, rest], dates[:, rest], valid[:, rest])
        later = encoder(x, dates + 182, valid)
        counted = encoder(x, None, valid)
    for one, other, less, moved, by_index in zip(
        maps, shuffled, without, later, counted, strict=True
    ):
        torch.testing.assert_close(other, one[:, SHUFFLED], rtol=0, atol=1e-9)
        torch.testing.assert_close(less, one[:, rest], rtol=0, atol=1e-9)
        assert (moved - one).abs().max() > 1e-4
        assert (by_index - one).abs().max() > 1e-4


def test_frequencies_and_mix_of_the_dates_learn(small_encoder, series):
    encoder = small_encoder(position="fourier")
    sum(m.square().sum() for m in encoder(*series())).backward()
    gradients = {name: p.grad for name, p in encoder.position.named_parameters()}
    assert set(gradients) == {"dates.log_frequency", "dates.mix.weight", "dates.mix.bias"}
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients.values())


def test_a_new_encoder_with_learned_dates_is_one_with_fixed_dates(series):
    x, dates, valid = series()
    learned, fixed = (
        TiMoEncoder(EncoderConfig(3, position=position)).double().eval()
        for position in ("fourier", "date")
    )
    report = fixed.load_state_dict(learned.state_dict(), strict=False)
    assert all(name.startswith("position.dates.") for name in report.unexpected_keys)
    assert not report.missing_keys
    with torch.no_grad():
        pairs = zip(learned(x, dates, valid), fixed(x, dates, valid), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_channel_norm_is_a_layer_norm_of_each_place():
    torch.manual_seed(0)
    norm = ChannelNorm(6).double()
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    mean, variance = x.mean(dim=1, keepdim=True), x.var(dim=1, correction=0, keepdim=True)
    scaled = (x - mean) / (variance + 1e-5).sqrt()
    expected = scaled * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)


def test_the_stem_takes_the_mean_of_the_batch_only_when_asked():
    for norm, kind in (("layer", ChannelNorm), ("batch", torch.nn.BatchNorm2d)):
        assert type(Stem(EncoderConfig(in_channels=1, norm=norm)).norm1) is kind
