import numpy as np
import pytest
import torch

from timo.models.config import EncoderConfig
from timo.models.embedding import ChannelNorm, Position, Stem, date_code, index_code, place_code

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
