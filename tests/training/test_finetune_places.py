"""Fine-tuning on many places, with classes and values of pixels, chips and parcels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from training_runs import make_places, same, weights_of

import timo
from timo.errors import TimoError
from timo.models.tasks import build
from timo.places import Places, Split
from timo.training import ChipOptions, Optimisation, finetune, inputs
from timo.training.finetune import SERIES_DATES, default_chips

SMALL = {
    "epochs": 2,
    "chips_per_epoch": 16,
    "batch_size": 4,
    "chips": ChipOptions(size=16, dates=(3, 5)),
    "progress": False,
}
LEARN = SMALL | {
    "epochs": 5,
    "chips_per_epoch": 32,
    "averaging": 0.5,
    "optimisation": Optimisation(learning_rate=0.01),
    "chips": ChipOptions(size=16, dates=(3, 5), splice=0),
}


@pytest.fixture(scope="module")
def places():
    return make_places()


@pytest.fixture
def model_for(new_model):
    """Make a small model of another kind of answer."""

    def make(**options):
        return build(replace(new_model().config, **{"unit": "", **options}))

    return make


# --- one cube is the case of one place


def test_one_place_gives_the_weights_of_its_cube(world, new_model):
    cube, labels, split = world
    models = [new_model(), new_model()]
    one = finetune(models[0], cube, labels, split=split, **SMALL)
    many = finetune(models[1], Places([(cube, labels)]), split=Split([split]), **SMALL)
    assert same(*map(weights_of, models))
    assert one.split is split
    assert isinstance(many.split, Split)
    columns = [name for name in one.history if name != "seconds"]
    assert one.history[columns].equals(many.history[columns])


def test_the_former_name_of_the_data_works(world, new_model):
    cube, labels, _ = world
    models = [new_model(), new_model()]
    finetune(models[0], cube, labels, **SMALL)
    with pytest.warns(DeprecationWarning, match="cube= is called data= now"):
        finetune(models[1], cube=cube, labels=labels, **SMALL)
    assert same(*map(weights_of, models))


# --- where chips come from


def test_places_on_disk_give_the_weights_of_those_in_memory(places, new_model, monkeypatch):
    """Read at once where they are small, else chip by chip, by this process or by others."""
    lazy = Places([(p.cube.chunk(time=3), p.labels) for p in places])
    split, models = Split([0, 0, 0, 1]), [new_model() for _ in range(4)]
    # Without the order by size, which reads no values of what lies on disk.
    options = SMALL | {"batch_size": 16}
    finetune(models[0], places, split=split, **options)
    finetune(models[1], lazy, split=split, **options)
    monkeypatch.setattr(inputs, "MEMORY", 0.0)
    finetune(models[2], lazy, split=split, **options)
    finetune(models[3], lazy, split=split, workers=2, **options)
    for model in models[1:]:
        assert same(weights_of(models[0]), weights_of(model))


def test_a_large_lazy_cube_is_never_read_whole(world, new_model, monkeypatch):
    cube, labels, split = world
    reads = []

    def read(block):
        reads.append(block.shape)
        return block

    monkeypatch.setattr(inputs, "MEMORY", 0.0)
    lazy = cube.copy(
        data=cube.chunk(time=8, y=20, x=24).data.map_blocks(read, meta=cube.values[:0])
    )
    models = [new_model(), new_model()]
    options = SMALL | {"chips": ChipOptions(size=8, dates=(3, 5), hide=0, splice=0)}
    finetune(models[0], cube, labels, split=split, **options)
    finetune(models[1], lazy, labels, split=split, **options)
    assert same(*map(weights_of, models))
    assert {shape[-2:] for shape in reads} <= {(20, 24), (0, 0)}


def test_chips_of_different_sizes_are_padded_and_learnt_from(new_model, world):
    cube, labels, _ = world
    sizes = [(1, 1), (5, 9), (16, 16), (1, 1), (12, 3), (2, 2)]
    corners = [(cube.isel(y=slice(h), x=slice(w)), labels[:h, :w]) for h, w in sizes]
    corners += [(cube.isel(y=slice(20, 36), x=slice(20, 36)), labels[20:36, 20:36])]
    many = Places([(c.isel(time=slice(2 + n)), part) for n, (c, part) in enumerate(corners)])
    result = finetune(new_model(), many, split=Split([0, 0, 0, 0, 0, 1, 0]), **SMALL)
    assert np.isfinite(result.history[["loss", "validation_loss"]]).all().all()


# --- every kind of answer


def test_classes_of_pixels(places, new_model):
    result = finetune(new_model(), places, split=Split([0, 0, 0, 1]), **LEARN)
    assert result.history.validation_accuracy.max() > 0.95
    assert result.errors is None  # the places that validate are others


@pytest.mark.parametrize("per_date", [True, False])
def test_classes_and_values_of_chips(places, model_for, per_date):
    def cut(number, value):
        place = places[number % 4]
        row, column, side = 5 * number % 24, 7 * number % 24, 8 + 4 * (number % 3)
        window = {"y": slice(row, row + side), "x": slice(column, column + side)}
        cube, share = place.cube.isel(window), float(place.labels.isel(window).mean())
        label = np.float32(10 * share) if value else np.int16(share > 0.4)
        dates = np.full(cube.sizes["time"], label)
        attrs = {} if value else {"classes": ["forest", "other"]}
        dims = ("time",) if per_date else ()
        return cube, xr.DataArray(
            dates if per_date else label,
            dims=dims,
            coords={"time": cube.time} if per_date else {},
            attrs=attrs,
        )

    split = Split([int(n % 4 == 0) for n in range(24)])
    # The default window is that of the place.
    options = {name: value for name, value in LEARN.items() if name != "chips"}
    model = model_for(task="classification", per_date=per_date)
    chips = Places([cut(n, value=False) for n in range(24)])
    assert finetune(model, chips, split=split, **options).history.validation_accuracy.max() > 0.8
    model = model_for(task="regression", unit="chip", classes=(), per_date=per_date)
    chips = Places([cut(n, value=True) for n in range(24)])
    history = finetune(model, chips, split=split, **options).history
    assert history.loss.iloc[-1] < 0.7 * history.loss.iloc[0]
    assert {"validation_rmse", "validation_mae", "validation_r2"} < set(history)


@pytest.mark.parametrize("per_date", [True, False])
def test_values_of_pixels(places, model_for, per_date):
    model = model_for(task="regression", classes=(), per_date=per_date, target="height")
    many = Places([(p.cube, (3.0 * p.labels + 5).astype("float32").drop_attrs()) for p in places])
    history = finetune(model, many, split=Split([0, 0, 0, 1]), **LEARN).history
    train = np.concatenate([3.0 * p.labels.values.ravel() + 5 for p in places[:3]])
    config = model.config
    assert (config.target_mean, config.target_std) == pytest.approx((train.mean(), train.std()))
    assert history.validation_rmse.min() < 1.0
    assert history.validation_r2.max() > 0.55
    # A model that was trained before keeps the units of its head.
    again = Places([(p.cube, p.labels.copy(data=p.labels.values * 2)) for p in many])
    finetune(model, again, **SMALL | {"epochs": 1})
    assert model.config == config


def test_a_trained_model_knows_that_it_was(places, model_for):
    model = model_for(per_date=False)
    assert not model.has_learnt
    finetune(model, places, **SMALL | {"epochs": 1})
    assert model.has_learnt


def test_values_in_another_unit_are_not_learnt(places, model_for):
    def values(units):
        return [
            p.labels.astype("float32").drop_attrs().assign_attrs(long_name="height", units=units)
            for p in places[:2]
        ]

    metres, feet, unsaid = (values(units) for units in ("m", "ft", ""))
    cubes = [p.cube for p in places[:2]]
    with pytest.raises(TimoError, match="The labels of 1 are in 'ft', those of the first place in"):
        Places([(cubes[0], metres[0]), (cubes[1], feet[1])])
    mixed = Places([(cubes[0], metres[0]), (cubes[1], unsaid[1])])
    options = {"task": "regression", "classes": (), "target": "height", "target_units": "ft"}
    model = model_for(**options, per_date=False)
    for data in ((mixed,), (cubes[0], metres[0])):
        with pytest.raises(TimoError, match="The labels are in 'm', the model's values in 'ft'"):
            finetune(model, *data, **SMALL)


def test_classes_of_parcels(places, model_for):
    def parcels(labels):
        height, width = labels.shape
        number = np.arange(height)[:, None] // 8 * 100 + np.arange(width) // 8
        major = [labels.values[number == n].mean() > 0.5 for n in number.ravel()]
        classes = np.reshape(major, number.shape).astype("int16")
        return labels.copy(data=classes).assign_coords(feature=(("y", "x"), number.astype("int32")))

    many = Places([(p.cube, parcels(p.labels)) for p in places])
    model = model_for(task="classification", unit="parcel", per_date=False)
    result = finetune(model, many, split="block", **LEARN)
    assert result.history.validation_accuracy.max() > 0.85
    assert result.split.by == "block"


def test_the_default_chips_are_those_of_the_model(model_for, new_model):
    assert default_chips(new_model().config) == ChipOptions()
    series = default_chips(new_model(per_date=False).config)
    assert (series.dates, series.splice, series.size) == (SERIES_DATES, 0, 32)
    chips = default_chips(model_for(task="classification", per_date=True).config)
    assert (chips.dates, chips.splice, chips.size) == (ChipOptions().dates, 0, 128)
    values = default_chips(model_for(task="regression", classes=()).config)
    assert (values.dates, values.splice) == (ChipOptions().dates, 0)


def test_blocks_inside_places_are_judged_where_most_of_them_validate(places, new_model):
    result = finetune(new_model(), places, split=places.split("block", size_m=80), **SMALL)
    pixels = [int((result.split.part(i) == 1).sum()) for i in range(4)]
    assert 0 < result.errors.pixels <= max(pixels)
    assert result.errors.block_m == pytest.approx(80)


# --- what is refused


def test_what_does_not_go_together_is_refused(places, world, new_model, model_for):
    cube, labels, split = world
    model = new_model()
    cases = [
        ((places, labels), {}, "Places have their labels with them: leave labels out"),
        ((cube,), {}, "One cube needs labels"),
        ((Places([cube]),), {}, "These places have no labels"),
        ((places,), {"split": split}, "One array cannot split 4 places"),
        ((places,), {"split": Split([0, 1])}, "The split has 2 parts, and there are 4 places"),
        ((places,), {"split": "fold"}, "The places have no folds"),
    ]
    for given, options, message in cases:
        with pytest.raises(TimoError, match=message):
            finetune(model, *given, **options, **SMALL)
    regression = model_for(task="regression", classes=())
    with pytest.raises(TimoError, match=r"labels are classes, .*regression.* task='segmentation'"):
        finetune(regression, places, **SMALL)
    chips = model_for(task="classification", per_date=False)
    with pytest.raises(TimoError, match=r"labels are those of pixels, .* each chip"):
        finetune(chips, places, **SMALL)
    values = Places([(cube, labels.astype("float32").drop_attrs())])
    with pytest.raises(TimoError, match="class_weights are for classes"):
        finetune(regression, values, class_weights="balanced", **SMALL)
    with pytest.raises(TimoError, match="do not say which pixels are one parcel"):
        finetune(model_for(task="classification", unit="parcel", per_date=False), places, **SMALL)


def test_a_group_in_two_parts_is_refused_and_a_split_by_blocks_mends_it(world, new_model):
    cube, labels, split = world
    fields = (np.arange(40)[:, None] // 5 * 8 + np.arange(48) // 6).astype("int32")
    grouped = labels.assign_coords(feature=(("y", "x"), fields))
    with pytest.raises(TimoError, match=r'lies in two parts of the split.* by="block"'):
        finetune(new_model(), cube, grouped, split=split, **SMALL)
    places = Places([(cube, grouped)])
    result = finetune(new_model(), places, split=places.split("block", size_m=80), **SMALL)
    parts = result.split.part(0).values
    assert all(len(np.unique(parts[fields == field])) == 1 for field in range(64))


@pytest.mark.parametrize("dated", [True, False])
def test_labels_of_one_class_are_refused(world, new_model, dated):
    cube, labels, split = world
    ones = xr.ones_like(labels)
    if dated:
        ones = ones.expand_dims(time=cube.time)
    message = "All training labels are of the class 'other': there is nothing to tell it from"
    with pytest.raises(TimoError, match=message):
        finetune(new_model(), cube, ones, **SMALL)
    # Two classes, of which one trains: the split is of no use.
    half = labels.copy(data=(split.values > 0).astype("int8"))
    with (
        pytest.raises(TimoError, match="All training labels are of the class 'forest'"),
        pytest.warns(UserWarning, match=r"The train(ing)? part has no label of other"),
    ):
        finetune(new_model(), cube, half, split=split, **SMALL)


def test_a_class_that_validation_lacks_is_named(world, new_model):
    cube, labels, split = world
    forest = labels.copy(data=np.where(split == 1, 0, labels).astype("int8"))
    with pytest.warns(UserWarning, match="The validation part has no label of other"):
        result = finetune(new_model(), cube, forest, split=split, **SMALL)
    # The mean over the classes that are there: one.
    accuracy, f1 = result.history[["validation_accuracy", "validation_f1"]].iloc[-1]
    assert f1 == pytest.approx(2 * accuracy / (1 + accuracy), abs=1e-6)


@pytest.mark.parametrize("lazy", [True, False])
def test_a_band_that_is_nan_everywhere_is_named_and_leaving_it_out_helps(
    world, new_model, monkeypatch, lazy
):
    cube, labels, _ = world
    broken = cube.where(cube.band != "B8")
    if lazy:
        monkeypatch.setattr(inputs, "MEMORY", 0.0)
        broken = broken.chunk(time=2)
    with pytest.raises(TimoError, match=r"B8 is NaN everywhere, .*cube.sel\(band=\['B4'\]\)"):
        finetune(new_model(), broken, labels, **SMALL)
    kept = broken.sel(band=["B4"])
    model = timo.load_model("timo-tiny", kept, ["forest", "other"])
    assert len(finetune(model, kept, labels, **SMALL | {"epochs": 1}).history) == 1


def test_a_target_that_is_the_same_everywhere_is_refused(world, model_for):
    cube, labels, _ = world
    flat = xr.zeros_like(labels, dtype="float32").drop_attrs() + np.float32(4)
    with pytest.raises(TimoError, match=r"All training labels have the value 4"):
        finetune(model_for(task="regression", classes=()), cube, flat, **SMALL)


def test_a_target_of_any_unit_gives_the_same_figures(places, model_for):
    """In metres or in millimetres: what is learnt is standardised."""
    figures = []
    for factor in (1.0, 1000.0):
        many = Places(
            [(p.cube, (factor * p.labels).astype("float32").drop_attrs()) for p in places]
        )
        model = model_for(task="regression", classes=())
        history = finetune(model, many, split=Split([0, 0, 0, 1]), **SMALL).history
        figures.append(history.validation_rmse.iloc[-1] / factor)
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)
    assert torch.isfinite(torch.tensor(figures)).all()


def test_an_epoch_of_single_pixels_has_more_chips_and_larger_batches(world, model_for):
    cube, labels, _ = world
    y, x = (int(i) for i in np.argwhere(labels.values >= 0)[0])
    pixel = Places(
        [(cube.isel(y=[y], x=[x]), labels.isel(y=[y], x=[x]).copy(data=[[n]])) for n in (0, 1)]
    )
    steps = []
    for places in (Places([(cube, labels)]), pixel):
        seen: list[int] = []
        finetune(
            model_for(),
            places,
            epochs=1,
            chips=SMALL["chips"],
            progress=False,
            on_step=lambda report, seen=seen: seen.append(report.steps),
            stop=lambda seen=seen: bool(seen),
        )
        steps.append(seen[0])
    assert steps == [320 // 8, 640 // 32]
