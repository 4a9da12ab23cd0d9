"""Damage is found, wherever it is, and the command line says so."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import timo
from timo.errors import TimoError
from timo.places import ChipStore, Damage, pack, verify
from timo.places.__main__ import main


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Against a loss of power, which no test brings about, and the slowest thing here by far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def cube(grid):
    rng = np.random.default_rng(0)
    values = rng.integers(1, 9000, (4, 2, 16, 24)).astype("float32") * np.float32(1e-4)
    values[rng.random(values.shape) < 0.05] = np.nan
    attrs = {"sensor": "sentinel-2", "attribution": "the test"}
    return grid(values, ("time", "band", "y", "x"), **attrs)


@pytest.fixture(scope="module")
def whole(cube, tmp_path_factory):
    """Six places of 8 x 8, four to a shard."""
    path = tmp_path_factory.mktemp("whole") / "store"
    pack(cube, path, size=8, shard_bytes=4 * 4 * 2 * 64 * 2)
    return path


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "store")


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def files(path):
    return sorted(f.relative_to(path) for f in path.rglob("*") if f.is_file() and f.name != ".lock")


# --- damage


def test_a_whole_store_has_no_damage(store):
    steps = []
    assert verify(store, on_step=steps.append) == []
    assert len(steps) == 6


def test_a_flipped_byte_is_found_in_every_file(store, whole):
    rng = np.random.default_rng(1)
    for name in files(store):
        size = (store / name).stat().st_size
        for position in {0, size - 2, *rng.integers(size, size=12).tolist()}:
            flip(store / name, position)
            # White space in a JSON file may change and mean the same.
            same = name.name == "zarr.json" and same_json(store / name, whole / name)
            try:
                damage = verify(store)
            except TimoError as error:
                assert name.name == "zarr.json"
                damage = [Damage(None, str(error))]
            assert bool(damage) != same, (name, position)
            flip(store / name, position)
    assert verify(store) == []


def same_json(a, b):
    try:
        return json.loads(a.read_bytes()) == json.loads(b.read_bytes())
    except ValueError:
        return False


def test_a_damaged_pixel_is_told_by_its_place(store):
    flip(store / "x" / "c.1.0.0.0.0", 40)
    assert verify(store) == [Damage(4, "x: its checksum does not match")]
    with pytest.raises(TimoError, match=r"place 4 of the chip store .* is damaged: its checksum"):
        ChipStore(store).read(4)
    assert ChipStore(store).read(3).x.any()
    flip(store / "valid" / "c.0.0.0.0", 5)
    assert [damage.place for damage in verify(store)] == [0, 4]


def test_a_missing_file_is_found(store):
    for name in files(store):
        if len(name.parts) == 1:
            continue  # without the group's metadata it is no store
        kept = (store / name).read_bytes()
        (store / name).unlink()
        assert verify(store), name
        (store / name).write_bytes(kept)
    (store / "x" / "c.0.0.0.0.0").unlink()
    assert {damage.place for damage in verify(store)} == {None, 0, 1, 2, 3}
    with pytest.raises(TimoError, match=r"the file x/c\.0\.0\.0\.0\.0 is missing"):
        ChipStore(store).read(0)


def test_files_of_another_store_are_found(store, cube, tmp_path):
    """Each is whole in itself."""
    other = cube.copy(data=cube.values[:, :, ::-1])
    pack(other, tmp_path / "other", size=8, shard_bytes=4 * 4 * 2 * 64 * 2, min_clear=0)
    for name in files(store):
        if len(name.parts) > 1 and name.parts[0] not in ("dates", "left", "top", "cell", "crs"):
            theirs, ours = (folder / name for folder in (tmp_path / "other", store))
            if theirs.read_bytes() != ours.read_bytes():
                kept = ours.read_bytes()
                shutil.copy(theirs, ours)
                assert verify(store), name
                ours.write_bytes(kept)


def test_a_shard_cut_short_is_found(store):
    path = store / "x" / "c.1.0.0.0.0"
    path.write_bytes(path.read_bytes()[:50])
    assert {damage.place for damage in verify(store)} == {None, 4, 5}
    with pytest.raises(TimoError, match="is cut short"):
        ChipStore(store).read(5)


def test_damaged_metadata_are_said(store):
    root = store / "zarr.json"
    text = root.read_text()
    for broken in (text[:100], text.replace('"scale": 0.0001', '"scale": 0.001'), "[]"):
        assert broken != text
        root.write_text(broken)
        with pytest.raises(TimoError, match=r"the metadata of the chip store, .*, are damaged"):
            ChipStore(store)
        assert verify(store)[0].place is None
    root.write_text(text)
    (store / "dates" / "c.0.0").write_bytes(b"nonsense")
    with pytest.raises(TimoError, match=r"is damaged, its array 'dates': .*checksum"):
        ChipStore(store).dates(0)


def test_a_newer_store_is_refused(store, monkeypatch):
    from timo.places.packed import layout

    monkeypatch.setattr(layout, "VERSIONS", (0,))
    opened = ChipStore.__new__(ChipStore)
    with pytest.raises(TimoError, match="version 1; this timo reads 'timo-chips', version 0"):
        opened.__init__(store)


# --- the command line


def run(*arguments):
    command = [sys.executable, "-m", "timo.places", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_sample_from_packing_to_damage(tmp_path, capsys):
    path = str(tmp_path / "sample.zarr")
    span = ("--start", "2018-01", "--end", "2019", "--dates", "12", "--min-clear", "0.6")
    pack_it = ("pack", "sample", path, "--size", "32", *span)
    done = run(*pack_it)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("16 places written, 0 were there, 0 not clear enough")
    assert main(["info", path]) == 0
    info = capsys.readouterr().out
    assert info == done.stdout.split("\n", 1)[1]
    assert info.startswith("places      16 of 32 x 32 pixels\n")
    assert "192: 12 to 12 dates a place (median 12)" in info
    assert "int16 in steps of 0.0001 (exact), surface reflectance, 0..1" in info
    assert "in EPSG:3035" in info
    assert "Contains modified Copernicus Sentinel data" in info
    assert main(list(pack_it)) == 0
    assert capsys.readouterr().out.startswith("0 places written, 16 were there")
    assert main(["verify", path]) == 0
    assert capsys.readouterr().out == "16 places, all as they were written\n"
    flip(tmp_path / "sample.zarr" / "x" / "c.0.0.0.0.0", 1000)
    damaged = run("verify", path)
    assert damaged.returncode == 1
    assert "place 0: x: its checksum does not match" in damaged.stdout
    assert "damaged: 1 of 16 places" in damaged.stdout


def test_cubes_from_files_without_the_test_blocks(cube, grid, tmp_path, capsys):
    cube.to_dataset(name="cube").to_netcdf(tmp_path / "a.nc")
    east = cube.assign_coords(x=cube.x + 240, band=np.array(cube.band.values, dtype=object))
    east.to_dataset(name="reflectance").to_zarr(tmp_path / "b.zarr", zarr_format=2)
    split = np.zeros((16, 24), "int8")
    split[:8, :8], split[8:, 16:] = 2, 1
    grid(split, ("y", "x")).to_dataset(name="split").to_netcdf(tmp_path / "split.nc")
    paths = [str(tmp_path / name) for name in ("a.nc", "b.zarr", "store")]
    options = ["--size", "8", "--exclude-split", str(tmp_path / "split.nc")]
    assert main(["pack", *paths, *options]) == 0
    assert capsys.readouterr().out.startswith(
        "11 places written, 0 were there, 0 not clear enough, 1 "
    )
    store = ChipStore(paths[-1])
    assert store.state.attribution == ("the test",)
    expected = np.nan_to_num(cube.values[:, :, :8, 8:16])
    invalid = np.isnan(cube.values[:, :, :8, 8:16]).any(axis=1)
    np.testing.assert_array_equal(
        store.read(0).x, np.where(invalid[:, None], np.float32(0), expected)
    )
    other = [*paths[:2], str(tmp_path / "both")]
    assert main(["pack", *other, *options, "--exclude-parts", "validation", "test"]) == 0
    assert capsys.readouterr().out.startswith("10 places written")
    assert main(["info", "--json", other[-1]]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["places"], figures["bands"], figures["dates"]) == (10, ["B4", "B8"], [4, 4, 4])
    assert figures == json.loads(json.dumps(ChipStore(other[-1]).info()))


def test_bad_input_is_said_in_a_line(cube, tmp_path, capsys):
    cube.isel(time=0).to_dataset(name="map").to_netcdf(tmp_path / "map.nc")
    (tmp_path / "text.nc").write_text("no data")
    store = str(tmp_path / "store")
    cases = {
        "there is no 'nowhere.nc'": ["pack", "nowhere.nc", store],
        "must hold one variable with the dims time, band, y, x": [
            "pack",
            str(tmp_path / "map.nc"),
            store,
        ],
        "cannot be read as a .zarr or .nc cube": ["pack", str(tmp_path / "text.nc"), store],
        "is no chip store: it does not exist": ["info", store],
        "is no chip store": ["verify", str(tmp_path)],
        "and a place 640 x 640: take a smaller size": ["pack", "sample", store, "--size", "640"],
        "stride must be a whole number of 1 or more": ["pack", "sample", store, "--stride", "0"],
    }
    for message, arguments in cases.items():
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.splitlines()[-1].startswith("error: ")
        assert message in error
        assert "Traceback" not in error
    with pytest.raises(SystemExit) as caught:
        main(["repair", store])
    assert caught.value.code == 2


def test_files_of_packed_numbers_are_cubes(cube, tmp_path):
    """int16 with a scale factor, as most archives are: decoded by xarray to one float or the other."""
    from timo.places.__main__ import open_path

    encoding = {"cube": {"dtype": "int16", "scale_factor": 1e-4, "_FillValue": -1}}
    encoding["cube"]["grid_mapping"] = "spatial_ref"
    cube.to_dataset(name="cube").to_netcdf(tmp_path / "cube.nc", encoding=encoding)
    opened = open_path(str(tmp_path / "cube.nc"))
    assert opened.chunks is not None
    assert isinstance(timo.cube.check(opened), xr.DataArray)
    pack(opened, tmp_path / "a", size=8)
    pack(cube, tmp_path / "b", size=8)
    for a, b in zip(ChipStore(tmp_path / "a"), ChipStore(tmp_path / "b"), strict=True):
        np.testing.assert_allclose(a.x, b.x, atol=1e-7)
