"""From a drawn sample through a file that a person fills in, and back to hectares."""

import geopandas
import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401 - registers .rio
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from timo.errors import TimoError
from timo.mapping import (
    estimate_area,
    loss_areas,
    pixel_areas,
    read_sample,
    stratified_sample,
    write_sample,
)

SUFFIXES = [".csv", ".gpkg"]


@pytest.fixture(scope="module")
def loss_year():
    values = np.zeros((60, 60), "int16")
    values[:20] = 2018
    coords = {"y": 5_000_005.0 - 10 * np.arange(60), "x": 500_005.0 + 10 * np.arange(60)}
    return xr.DataArray(values, dims=("y", "x"), coords=coords).rio.write_crs("EPSG:32634")


@pytest.fixture(scope="module")
def sample(loss_year):
    return stratified_sample(loss_year, {0: 80, 2018: 60}, seed=0)


@pytest.fixture
def truth(sample):
    """What there is: ten of the map's losses are none, five are of 2019."""
    seen = sample["stratum"].copy()
    lost = np.flatnonzero(seen == 2018)
    seen.iloc[lost[:10]], seen.iloc[lost[10:15]] = 0, 2019
    return seen


def read(path):
    return pd.read_csv(path, dtype=str) if path.suffix == ".csv" else geopandas.read_file(path)


def save(table, path, **options):
    if path.suffix == ".csv":
        table.to_csv(path, index=False, **options)
    else:
        table.to_file(path, driver="GPKG", layer="sample")
    return path


@pytest.fixture(params=SUFFIXES)
def filled(request, sample, truth, tmp_path):
    """A function: the file, what was noted in it, and what else was done to its table."""

    def fill(change=lambda table: table, spell=str, **options):
        path = write_sample(sample, tmp_path / f"sample{request.param}")
        table = read(path)
        by_id = dict(zip(sample["id"], truth, strict=True))
        noted = [spell(by_id[int(i)]) for i in table["id"]]
        return save(change(table.assign(reference=noted)), path, **options)

    return fill


def test_the_chain_from_the_draw_to_hectares(filled, sample, truth, loss_year):
    back = read_sample(filled(), sample)
    assert back["reference"].tolist() == truth.tolist()
    pd.testing.assert_frame_equal(back[list(sample)], sample)
    assert back.attrs == sample.attrs
    table = loss_areas(loss_year, back).set_index("year")
    assert table.loc["all", "estimated_ha"] == pytest.approx(12 * 50 / 60)
    assert table.loc[2019, "estimated_ha"] == pytest.approx(12 * 5 / 60)
    areas = estimate_area(back, pixel_areas(loss_year)).table.set_index("class")["estimated_ha"]
    assert areas.to_dict() == pytest.approx({0: 26, 2018: 9, 2019: 1})


@pytest.mark.parametrize(
    "spell",
    [lambda k: f"{k}.0", lambda k: f" {k} ", lambda k: f"{k}"],
    ids=["2018.0", "blanks", "text"],
)
def test_years_are_numbers_however_they_are_written(filled, sample, truth, spell):
    assert read_sample(filled(spell=spell), sample)["reference"].tolist() == truth.tolist()


def test_the_order_of_the_rows_does_not_matter(filled, sample, truth):
    path = filled(lambda table: table.sort_values("x"))
    assert read_sample(path, sample)["reference"].tolist() == truth.tolist()
    turned = sample.sort_values("y")
    assert read_sample(path, turned)["reference"].tolist() == truth[turned.index].tolist()


def test_what_an_interpreter_adds_or_leaves_out_is_no_fault(filled, sample, truth):
    def change(table):
        table = table.drop(columns=["row", "col", "stratum", "latitude", "y"])
        return table.assign(note=[f"image {i}" for i in table["id"]], ID=table["id"]).drop(
            columns="id"
        )

    back = read_sample(filled(change), sample)
    assert back["note"].tolist() == [f"image {i}" for i in sample["id"]]
    assert back["reference"].tolist() == truth.tolist()
    assert back["stratum"].tolist() == sample["stratum"].tolist()


SPOILT = {
    "a unit is missing": (lambda t: t[1:], "1 are missing: "),
    "a unit is there twice": (lambda t: pd.concat([t, t[:1]]), "1 are there more than once: "),
    "an unknown id": (
        lambda t: t.assign(id=[999, *t["id"][1:]]),
        r"1 are not of this sample: \[999\]",
    ),
    "ids in another order": (
        lambda t: t.assign(id=t["id"].to_numpy()[::-1]),
        r"y of \d+ sample units is not that of the sample|stratum of|longitude of|latitude of",
    ),
    "moved by a cell": (
        lambda t: t.assign(x=t["x"].astype(float) + 10),
        "x of 140 sample units is not",
    ),
    "moved by a metre": (
        lambda t: t.assign(y=t["y"].astype(float) + 1),
        "y of 140 sample units is not",
    ),
    "in degrees": (
        lambda t: t.assign(longitude=t["longitude"].astype(float) + 1e-4),
        "longitude of 140 sample units is not that of the sample",
    ),
    "no coordinate": (lambda t: t.assign(x="here"), "x of 140 sample units is not"),
    "another row": (lambda t: t.assign(row=t["row"].astype(int) + 1), "row of 140 sample units"),
    "another stratum": (
        lambda t: t.assign(stratum=[2019, *t["stratum"][1:]]),
        "stratum of 1 sample units is not that of the sample, first of id",
    ),
    "no reference": (
        lambda t: t.assign(reference=[None, *t["reference"][1:]]),
        r"has no reference for 1 of 140 sample units, id \[\d+\]: complete it",
    ),
    "a blank": (
        lambda t: t.assign(reference=["  ", *t["reference"][1:]]),
        r"has no reference for 1 of 140 sample units, id \[\d+\]: complete it",
    ),
    "text among years": (
        lambda t: t.assign(reference=["cut", *t["reference"][1:]]),
        r"holds \['cut'\] among numbers: write the number",
    ),
    "-1": (lambda t: t.assign(reference=["-1", *t["reference"][1:]]), "holds -1, and classes are"),
    "no column": (lambda t: t.drop(columns="reference"), "has no column reference, but"),
    "no id": (lambda t: t.drop(columns="id"), "must have one column id"),
}


@pytest.mark.parametrize(("change", "message"), SPOILT.values(), ids=SPOILT)
def test_what_is_not_the_sample_is_refused(filled, sample, change, message):
    with pytest.raises(TimoError, match=message):
        read_sample(filled(change), sample)


def test_a_point_that_was_moved_is_refused_though_its_columns_are_what_they_were(
    sample, truth, tmp_path
):
    path = write_sample(sample, tmp_path / "sample.gpkg")
    table = geopandas.read_file(path)
    assert table.crs == "EPSG:32634"
    np.testing.assert_allclose(table.geometry.x, sample["x"])
    moved = table.assign(reference=truth)
    moved.loc[3, "geometry"] = moved.loc[3, "geometry"].buffer(20).exterior.interpolate(0)
    with pytest.raises(TimoError, match="the point's longitude of 1 sample units is not that"):
        read_sample(save(moved, path), sample)
    # In another CRS the same points are the same.
    elsewhere = save(table.assign(reference=truth).to_crs(3035), path)
    assert read_sample(elsewhere, sample)["reference"].tolist() == truth.tolist()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("signs", [",.", ";,", ";.", "\t."])
def test_csv_of_any_spreadsheet(sample, truth, tmp_path, signs, encoding):
    sep, decimal = signs
    path = write_sample(sample, tmp_path / "sample.csv")
    table = pd.read_csv(path).assign(reference=truth.to_numpy(), note="Wälder, gemäht")
    table["longitude"] = table["longitude"].round(5)
    table.to_csv(path, index=False, sep=sep, decimal=decimal, encoding=encoding)
    back = read_sample(path, sample)
    assert back["reference"].tolist() == truth.tolist()
    assert set(back["note"]) == {"Wälder, gemäht"}
    text = path.read_text(encoding=encoding)
    path.write_text(f"sep={sep}\n{text}{sep * 9}\n\n", encoding="utf-8")
    assert read_sample(path, sample)["reference"].tolist() == truth.tolist()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_of_classes_are_names(sample, tmp_path, suffix):
    path = write_sample(sample, tmp_path / f"a{suffix}")
    names = np.where(sample["stratum"] == 0, "forest ", "cut")
    save(read(path).assign(reference=names), path)
    assert read_sample(path, sample)["reference"].value_counts().to_dict() == {
        "forest": 80,
        "cut": 60,
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interpretation_is_never_overwritten(sample, loss_year, truth, tmp_path, suffix):
    path = write_sample(sample, tmp_path / f"a{suffix}")
    save(read(path).assign(reference=truth.to_numpy()), path)
    before = path.read_bytes()
    assert write_sample(sample, path) == path
    assert path.read_bytes() == before
    other = stratified_sample(loss_year, {0: 80, 2018: 60}, seed=1)
    with pytest.raises(TimoError, match="exists and is not of this sample, so it is kept: choose"):
        write_sample(other, path)
    assert path.read_bytes() == before
    with pytest.raises(TimoError, match="is not that of the sample"):
        read_sample(path, other)


def test_a_second_layer_is_refused(sample, tmp_path):
    path = write_sample(sample, tmp_path / "a.gpkg")
    read(path).to_file(path, driver="GPKG", layer="copy")
    with pytest.raises(TimoError, match=r"holds the layers \['sample', 'copy'\]: keep that of"):
        read_sample(path, sample)


def test_a_blind_interpreter_does_not_see_the_strata(sample, truth, tmp_path):
    path = write_sample(sample, tmp_path / "a.csv", blind=True)
    table = pd.read_csv(path)
    assert list(table) == ["id", "longitude", "latitude", "reference", "y", "x", "row", "col"]
    save(table.assign(reference=truth), path)
    assert read_sample(path, sample)["stratum"].tolist() == sample["stratum"].tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, p: write_sample(s, p / "a.xlsx"), "A sample is a .csv or a .gpkg, not 'a.xlsx'"),
        (lambda s, p: read_sample(p / "none.csv", s), "There is no file .*: write_sample"),
        (
            lambda s, p: write_sample(s.drop(columns="id"), p / "a.csv"),
            r"lacks the columns \['id'\]",
        ),
        (lambda s, p: write_sample(s[:0], p / "a.csv"), "The sample has 0 rows"),
        (
            lambda s, p: write_sample(pd.concat([s, s]), p / "a.csv"),
            "ids of the sample are not unique",
        ),
        (
            lambda s, p: write_sample(s[["id", "stratum"]], p / "a.gpkg"),
            r"lacks \['x', 'y'\], so it has no points: write a .csv",
        ),
        (lambda s, p: read_sample(_text(p / "a.csv", ""), s), "'a.csv' is empty"),
        (lambda s, p: read_sample(_text(p / "a.csv", "a,b\n1,2\n"), s), "must have one column id"),
        (
            lambda s, p: read_sample(_text(p / "a.csv", "id,ID\n1,2\n"), s),
            "must have one column id",
        ),
        (lambda s, p: read_sample(_text(p / "a.gpkg", "id,ID\n1,2\n"), s), "cannot be read"),
    ],
)
def test_files_and_tables_that_are_no_sample(sample, tmp_path, call, message):
    with pytest.raises(TimoError, match=message):
        call(sample, tmp_path)


def _text(path, text):
    path.write_text(text)
    return path


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.permutations(list(range(12))), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_any_order_gives_each_unit_its_own_reference(tmp_path, order, seen):
    drawn = pd.DataFrame({"id": range(1, 13), "x": 10.0 * np.arange(12), "stratum": [0, 1] * 6})
    path = tmp_path / "any.csv"
    drawn.assign(reference=seen).iloc[list(order)].to_csv(path, index=False)
    assert read_sample(path, drawn)["reference"].tolist() == seen
