"""Features of every pixel, their picture, and places that are alike."""

import numpy as np
import pytest
import torch
import xarray as xr
from naive_attention import make_cube, make_model

from timo.cancel import CancelledError
from timo.errors import TimoError
from timo.inspection import embed, pca_picture, similar


def fake_embedding(values):
    count, height, width = values.shape
    coords = {"feature": range(count), "y": -10.0 * np.arange(height), "x": 10.0 * np.arange(width)}
    return xr.DataArray(values, dims=("feature", "y", "x"), coords=coords).rio.write_crs(
        "EPSG:32634"
    )


def test_holds_the_features_of_the_encoder():
    model, cube = make_model(), make_cube(t=3, h=32, w=32, missing=0.0)
    cube = cube.isel(time=[0, 2])
    found = embed(model, cube, stage=2)
    with torch.no_grad():
        x = (torch.from_numpy(cube.values)[None] - model.mean) / model.std
        days = (cube.time.values - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
        maps = model.encoder(x, torch.from_numpy(days)[None])[1][0].mean(dim=0)
    # In the middle of four pixels of a token interpolation gives nearly the token itself.
    middle = found.values.reshape(32, 4, 8, 4, 8)[..., 3:5, :, 3:5]
    by_hand = torch.nn.functional.interpolate(maps[None], scale_factor=8, mode="bilinear")[0]
    np.testing.assert_allclose(found, by_hand, atol=1e-4)
    assert middle.shape == (32, 4, 2, 4, 2)
    assert found.dims == ("feature", "y", "x")
    assert set(found.stage.values) == {2}
    assert found.rio.crs == cube.rio.crs


def test_finer_tokens_give_finer_features():
    model, cube = make_model(token=2), make_cube(t=2, h=32, w=32, missing=0.0).isel(time=[0])
    found = embed(model, cube, stage=2, tile=16, halo=16)
    with torch.no_grad():
        x = (torch.from_numpy(cube.values)[None] - model.mean) / model.std
        days = (cube.time.values - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
        maps = model.encoder(x, torch.from_numpy(days)[None])[1][0]
    assert maps.shape[-2:] == (8, 8)
    by_hand = torch.nn.functional.interpolate(maps, scale_factor=4, mode="bilinear")[0]
    np.testing.assert_allclose(found, by_hand, atol=1e-4)
    with pytest.raises(TimoError, match="must be multiples of 16; got 24 and 16"):
        embed(model, cube, tile=24, halo=16)


def test_the_mean_is_over_the_dates_that_are_observed():
    model, cube = make_model(("stga",) * 4), make_cube(t=3, h=32, w=32, missing=0.0)
    one = embed(model, cube, date="2019-05-20", stage=1)
    # The cloud of that date covers whole tokens, and half of the last column's.
    assert bool(one[:, 8:24, 8:32].isnull().all())
    assert bool(one[:, :8].notnull().all())
    assert bool(embed(model, cube, stage=1).notnull().all())
    assert one.attrs["date"] == "2019-05-20"


def test_tiles_fit_together():
    model, cube = make_model(("d-stga", "d-stga", "stga", "stga")), make_cube(t=3, h=128, w=64)
    tiled, whole = embed(model, cube, tile=32, halo=96, stage=1), embed(model, cube, stage=1)
    np.testing.assert_allclose(tiled[:, :32], whole[:, :32], atol=1e-4)
    assert tiled.shape == whole.shape
    np.testing.assert_array_equal(tiled.isnull(), whole.isnull())


def test_nothing_observed_is_nan():
    cube = make_cube(h=160, w=32)
    cube[1, :, :, :] = np.nan
    found = embed(make_model(), cube, date=cube.time[1], stage=range(1, 5))
    assert bool(found.isnull().all())
    assert found.shape == (16 + 32 * 3, 160, 32)


def test_lazy_cubes_and_several_stages():
    model, cube = make_model(), make_cube()
    lazy = cube.chunk({"time": 1})
    np.testing.assert_allclose(embed(model, lazy), embed(model, cube))
    several = embed(model, cube, stage=(1, 3))
    assert list(several.stage.values) == [1] * 16 + [3] * 32
    np.testing.assert_allclose(several[:16], embed(model, cube))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 100}, "multiples of 32"),
        ({"stage": 6}, "stage must be .* from 1 to 4.*; got 6"),
        ({"stage": ()}, "names no stage"),
        ({"date": "1999-01-01"}, "no date near"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(TimoError, match=message):
        embed(make_model(), make_cube(), **options)


def test_it_stops_between_layers():
    model, cube = make_model(), make_cube(h=32, w=32)
    asked = []
    with pytest.raises(CancelledError):
        embed(model, cube, stop=lambda: asked.append(1) or len(asked) > 5)
    assert len(asked) == 6
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_picture_shows_what_differs():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 12, 10)) * 0.01
    values[2, :, 5:] += 3.0
    values[:, 0, 0] = np.nan
    picture = pca_picture(fake_embedding(values))
    assert picture.dims == ("y", "x", "rgb")
    assert bool(picture[0, 0].isnull().all())
    assert float(picture[1:, :5, 0].max()) < 0.1
    assert float(picture[1:, 5:, 0].min()) > 0.9
    assert picture.attrs["explained"][0] > 0.99
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


def test_a_picture_of_one_colour():
    picture = pca_picture(fake_embedding(np.ones((4, 6, 6))))
    assert bool((picture == 0.5).all())


def test_places_like_this_one():
    values = np.zeros((3, 40, 40))
    values[0] = 1.0
    for row, col in ((5, 5), (30, 8), (20, 35)):
        values[:, row - 1 : row + 2, col - 1 : col + 2] = np.array([1.0, 5.0, 0.0])[:, None, None]
    values[:, 35, 35] = np.nan
    found = similar(fake_embedding(values), row=5, col=5, k=2, apart=6)
    places = {(int(r), int(c)) for r, c in zip(found.place_row, found.place_col, strict=True)}
    near = {min(((30, 8), (20, 35)), key=lambda p: np.hypot(p[0] - r, p[1] - c)) for r, c in places}
    assert near == {(30, 8), (20, 35)}
    for row, col in places:
        assert min(np.hypot(row - r, col - c) for r, c in ((30, 8), (20, 35))) < 2
    assert float(found.place_similarity.min()) > 0.99
    assert float(found.similarity[5, 5]) == pytest.approx(1)
    assert float(found.similarity[12, 12]) < 0
    assert bool(found.similarity[35, 35].isnull())


def test_places_keep_their_distance():
    rng = np.random.default_rng(1)
    found = similar(fake_embedding(rng.normal(size=(4, 30, 30))), 100.0, -50.0, k=50, apart=9)
    places = np.stack([found.place_row, found.place_col], axis=1)
    places = np.concatenate([places, [[5, 10]]])
    apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    assert apart[~np.eye(len(places), dtype=bool)].min() >= 9
    assert 3 < found.sizes["place"] < 50
    assert bool((found.place_similarity.diff("place") <= 0).all())


def test_similar_says_what_is_wrong():
    values = np.random.default_rng(0).normal(size=(3, 9, 9))
    values[:, 2, 2] = np.nan
    with pytest.raises(TimoError, match="has no features"):
        similar(fake_embedding(values), row=2, col=2)
    with pytest.raises(TimoError, match="outside"):
        similar(fake_embedding(values), 1e6, 0.0)
    with pytest.raises(TimoError, match="k must be a whole number of 1 or more; got 0"):
        similar(fake_embedding(values), row=1, col=1, k=0)
    with pytest.raises(TimoError, match="dims"):
        similar(make_cube(), row=1, col=1)
    flat = fake_embedding(values)
    with pytest.raises(TimoError, match=r"holds numbers: .*; got .* of <U1"):
        pca_picture(xr.full_like(flat, "a", dtype="<U1"))
    with pytest.raises(TimoError, match="no coordinate 'y'"):
        pca_picture(flat.drop_vars("y"))
    with pytest.raises(TimoError, match="no coordinate reference system"):
        similar(flat.drop_vars("spatial_ref"), row=1, col=1)
    with pytest.raises(TimoError, match="nearly everywhere"):
        pca_picture(fake_embedding(np.full((3, 4, 4), np.nan)))
