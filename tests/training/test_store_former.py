"""Stores that timo 0.1 wrote, with Zarr metadata and tables of its own making, are read, verified and enlarged."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from timo.places import ChipStore, Packed, pack, verify

STORES = Path(__file__).parents[1] / "data" / "chips_0_1.zip"


@pytest.fixture(params=["int16", "float32"])
def former(request, tmp_path):
    """Two places of 4 x 4 with 3 dates and 2 bands, in a shard that has room for three."""
    zipfile.ZipFile(STORES).extractall(tmp_path)
    return tmp_path / f"{request.param}.zarr"


@pytest.fixture
def cube(grid):
    """What was packed."""
    t, b, y, x = np.ogrid[:3, :2, :4, :8]
    values = ((1700 * t + 500 * b + 30 * y + x).astype("float32") + 1) * np.float32(1e-4)
    values[1, :, 2, 5] = np.nan
    attrs = {"sensor": "sentinel-2", "attribution": "the test", "source": "a formula"}
    return grid(values, ("time", "band", "y", "x"), **attrs)


def is_whole(store, cube):
    """Whether the first two places are those of the cube, bit by bit."""
    for place in range(2):
        window = cube.values[..., 4 * place : 4 * place + 4]
        valid = np.isfinite(window).all(axis=1)
        chip = store.read(place)
        assert np.array_equal(chip.valid, valid)
        assert np.array_equal(chip.x, np.where(valid[:, None], window, np.float32(0)))
        assert store.bounds(place) == (499_995 + 40 * place, 965, 500_035 + 40 * place, 1005)
    return True


def test_it_is_read_and_verified(former, cube):
    store = ChipStore(former)
    assert is_whole(store, cube)
    assert store.crs(1) == "EPSG:32634"
    assert store.dates(0).astype("datetime64[D]").astype(str)[0] == "2018-05-01"
    assert (store.state.attribution, store.state.source) == (("the test",), ("a formula",))
    assert verify(former) == []


def test_it_is_enlarged(former, cube):
    options = {"size": 4, "dtype": former.stem}
    assert pack(cube, former, **options) == Packed(already=2)
    east = cube.assign_coords(x=cube.x + 80)
    assert pack([cube, east], former, **options) == Packed(written=2, already=2)
    store = ChipStore(former)
    assert len(store) == 4
    assert is_whole(store, cube)
    assert np.array_equal(store.read(3).x, store.read(1).x)
    assert verify(former) == []


def test_the_same_is_written_today(former, cube, tmp_path):
    """All but what Zarr says of the bytes of booleans, and the rows to come: older versions read it, too."""
    pack(cube, tmp_path / "new", size=4, dtype=former.stem, shard_bytes=_shard(former))
    for file in former.rglob("c.*.0.0"):
        assert file.read_bytes() == (tmp_path / "new" / file.relative_to(former)).read_bytes()
    new = ChipStore(tmp_path / "new")
    assert (new.layout, new.state) == (ChipStore(former).layout, ChipStore(former).state)


def _shard(former):
    return 3 * 3 * 2 * 16 * np.dtype(former.stem).itemsize
