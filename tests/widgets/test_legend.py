import zipfile
from io import BytesIO

from timo_widgets.base.downloads import Download, zipped
from timo_widgets.result.legend import ColourBar, Legend, year_colours

ENTRIES = [(0, "forest", "#0072B2"), (1, "<meadow>", "#E69F00"), (2, "road", "#009E73")]


def boxes(legend):
    return [row.children[1] for row in legend.children[1:]]


def test_a_class_is_switched_off_by_its_box_and_by_the_trait():
    legend = Legend("Class", ENTRIES)
    heard = []
    legend.observe(lambda change: heard.append(change["new"]), names="hidden")
    assert [box.description for box in boxes(legend)] == ["forest", "<meadow>", "road"]
    boxes(legend)[1].value = False
    assert legend.hidden == [1]
    legend.hidden = [0, 2]
    assert [box.value for box in boxes(legend)] == [False, True, False]
    # Two boxes moved, and nobody heard of the state in between.
    assert heard == [[1], [0, 2]]


def test_amounts_stand_beside_their_classes():
    legend = Legend("Class", ENTRIES)
    legend.set_amounts({0: "1.50 ha", 2: "<b>"})
    texts = [row.children[2].value for row in legend.children[1:]]
    assert "1.50 ha" in texts[0]
    assert "ha" not in texts[1]
    assert "&lt;b&gt;" in texts[2]


def test_colour_bar_tells_its_ends_and_needs_no_network():
    bar = ColourBar("Entropy (bit)", 0, 1.585, "viridis", "mean: 0.3 bit")
    assert "Entropy (bit), 0 to 1.58" in bar.value
    assert "#440154" in bar.value  # the dark end of viridis
    assert "#fde725" in bar.value
    assert "mean: 0.3 bit" in bar.value
    assert "http" not in bar.value
    assert "url(" not in bar.value


def test_years_have_one_ramp_from_early_to_late():
    assert year_colours([2019, 2018, 2020]) == {2018: "#F0E442", 2019: "#E69F00", 2020: "#D55E00"}
    many = year_colours(range(2010, 2022))
    assert list(many) == list(range(2010, 2022))
    assert len(set(many.values())) == 12
    assert year_colours([]) == {}


def test_a_small_file_comes_as_a_link_and_a_large_one_does_not(tmp_path):
    link = Download()
    assert link.layout.display == "none"
    path = tmp_path / "a map.geojson"
    path.write_bytes(b"{}")
    assert link.offer(path)
    assert 'download="a map.geojson"' in link.value
    assert "data:application/geo+json;base64,e30=" in link.value
    assert link.layout.display is None
    assert not link.offer(path, largest=1)
    assert (link.value, link.path) == ("", None)


def test_a_folder_comes_as_an_archive_of_itself(tmp_path):
    store = tmp_path / "map.zarr"
    (store / "label").mkdir(parents=True)
    (store / "zarr.json").write_text("{}")
    (store / "label" / "c").write_text("x")
    names = zipfile.ZipFile(BytesIO(zipped(store))).namelist()
    assert names == ["map.zarr/label/c", "map.zarr/zarr.json"]
    link = Download()
    assert link.offer(store)
    assert 'download="map.zarr.zip"' in link.value
