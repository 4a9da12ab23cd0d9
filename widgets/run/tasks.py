"""What the buttons of the runner do, without a widget: work for `jobs.Queue`, and the Python that says the same."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import xarray as xr

from timo.errors import TimoError
from timo.models.config import PIXEL

from ..base.state import State
from ..base.steps import CUBE, LABELS, MODEL, Step
from .jobs import Job

NEW, PRESENT = "new", "present"
SINGLE = (
    "A model of single pixels sees each pixel without its surroundings. Press Fine-tune to fit it, then Predict. It "
    "has no encoder, and so no few-click map, no pretrained weights and no attention to inspect."
)
NO_HEAD = (
    "The few-click map trains the head of an encoder, and a model of single pixels has none: press Fine-tune, which "
    "fits it to the same labels."
)
_TRAINED = (MODEL, CUBE, LABELS)
_PREDICT = Step("timo.predict", MODEL, CUBE, target="result")


@dataclass(frozen=True)
class Choices:
    """What a job is to be made with.

    Parameters
    ----------
    start : {"new", "present"}
        Train a new model, or the one of the state further.
    size : str
        What a new model is made from: the name of a size, "pixel" for a model of single pixels, or the folder of a
        pretrained encoder.
    pretrained : bool
        Whether a new model of a named size starts from pretrained weights where there are some.
    per_date : bool
        For a new model: a class for each date, or for the series.
    epochs, seed : int
        As `timo.finetune` takes them.
    folder : str
        Folder of the runs, for checkpoints; empty for none.
    resume : bool
        Go on with the run that was stopped there.
    """

    start: str = NEW
    size: str = "timo-tiny"
    pretrained: bool = True
    per_date: bool = True
    epochs: int = 20
    seed: int = 0
    folder: str = "runs"
    resume: bool = False

    def folder_of(self, action: str) -> str | None:
        """Return where an action leaves its checkpoints; with slashes on every system."""
        return (PurePath(self.folder) / action).as_posix() if self.folder.strip() else None


@dataclass(frozen=True)
class Outcome:
    """What a job gave: parts of the state, the Python for it, a line to show, and whether it was stopped early."""

    model: Any = None
    result: xr.Dataset | None = None
    encoder: str = ""
    code: list[str] = field(default_factory=list)
    note: str = ""
    stopped: bool = False


@dataclass(frozen=True)
class Inputs:
    """The state as it was when the button was pressed: what is changed later is for later jobs."""

    cube: xr.DataArray
    labels: xr.DataArray | None
    classes: tuple[str, ...]
    model: Any

    @classmethod
    def of(cls, state: State) -> Inputs:
        """Take over a state; a `TimoError` if it has no cube."""
        if state.cube is None:
            raise TimoError(
                "There is no cube yet: open one in the tab Area, or with timo.open_cube."
            )
        labels = state.labels
        named = () if labels is None else labels.attrs.get("classes", ())
        classes = tuple(map(str, state.classes or named))
        # The cube is never written to; labels are, while more are drawn.
        return cls(state.cube, None if labels is None else labels.copy(), classes, state.model)

    def check_labels(self) -> xr.DataArray:
        """Return the labels; a `TimoError` if there are none, or fewer than two classes have one."""
        if self.labels is None or not bool((self.labels >= 0).any()):
            raise TimoError("There are no labels yet: draw some for each class first.")
        return self.labels.assign_attrs(classes=list(self.classes))


def new_model(inputs: Inputs, choices: Choices) -> tuple[Any, list[str]]:
    """Return the model to train, and the Python that makes it; a copy, so that the notebook may use the present one."""
    import timo

    if choices.start == PRESENT:
        if inputs.model is None:
            raise TimoError("There is no present model yet: choose 'a new model' under Train.")
        return copy.deepcopy(inputs.model), []
    classes = _checked(inputs.classes)
    options: dict[str, Any] = {}
    if not choices.per_date:
        options["per_date"] = False
    if choices.seed:
        options["seed"] = choices.seed
    if not choices.pretrained and choices.size.startswith("timo-"):
        options["pretrained"] = False
    model = timo.load_model(choices.size, data=inputs.cube, classes=classes, **options)
    given = {"data": CUBE, "classes": classes, **options}
    return model, [Step("timo.load_model", choices.size, target="model", **given)]


def _checked(classes: Sequence[str]) -> list[str]:
    if len(classes) < 2:
        raise TimoError(
            f"At least two classes are needed; there are {list(classes)}. Name them first."
        )
    return list(classes)


def finetune(job: Job, inputs: Inputs, choices: Choices) -> Outcome:
    """Fine-tune; where it is cancelled, the model as far as it was trained."""
    import timo

    labels = inputs.check_labels()
    model, code = new_model(inputs, choices)
    job.begin_part("training")
    options: dict[str, Any] = {"epochs": choices.epochs, "seed": choices.seed}
    if is_regression(model):
        del options["epochs"]
    if (folder := choices.folder_of("finetune")) is not None:
        options |= {"folder": folder} | ({"resume": True} if choices.resume else {})
    done = timo.finetune(
        model, inputs.cube, labels, **options, progress=False, stop=job.stop, on_step=job.report
    )
    if not done.stopped:
        return Outcome(model, code=[*code, Step("timo.finetune", *_TRAINED, **options)])
    kept = "it is used as it is"
    if folder is not None:
        kept += f"; also timo.load_model('{folder}/model'), and 'go on' trains to the end"
    job.say(f"stopped after step {job.step}: {kept}")
    line = Step("timo.finetune", *_TRAINED, stopped=_stopped(job), **options)
    return Outcome(model, code=[*code, line], stopped=True)


def is_of_single_pixels(model: Any, choices: Choices) -> bool:
    """Return whether what is to be trained is a model of single pixels; `model` is the present one."""
    if choices.start == NEW:
        return choices.size == PIXEL
    from timo.models.pixel import PixelModel

    return isinstance(model, PixelModel)


def is_regression(model: Any) -> bool:
    """Return whether a model is a regression of single pixels, which is fitted at once, without epochs."""
    from timo.models.pixel import PixelModel

    return isinstance(model, PixelModel) and model.network is None


def _stopped(job: Job) -> str:
    return f"stopped after step {job.step} of {job.steps}"


class FewClicks:
    """The loop of few-click mapping: it keeps the features of the last cube and model, and the head they began with."""

    def __init__(self) -> None:
        self._key: Any = None
        self._cube: xr.DataArray | None = None
        self._model: Any = None
        self._code: list[str] = []
        self._features: Any = None

    def __call__(self, job: Job, inputs: Inputs, choices: Choices) -> Outcome:
        """Train the head on the labels and map the cube."""
        import timo

        labels = inputs.check_labels()
        self._prepare(job, inputs, choices)
        # From the same beginning each time: the map depends on the labels, not on how one came to them.
        model = copy.deepcopy(self._model)
        job.begin_part("training the head")
        done = timo.fit_head(
            model, inputs.cube, labels, features=self._features, stop=job.stop, on_step=job.report
        )
        if done.stopped:
            line = Step("timo.fit_head", *_TRAINED, stopped="stopped")
            return Outcome(model, code=[*self._code, line], stopped=True)
        if done.summary:
            job.say(done.summary)
        job.say("mapping")
        result = self._features.predict(model, stop=job.stop)
        code = [*self._code, Step("timo.fit_head", *_TRAINED), _PREDICT]
        return Outcome(model, result, code=code, note=done.summary)

    def forget(self) -> None:
        """Free the memory."""
        self.__init__()  # type: ignore[misc]

    def _prepare(self, job: Job, inputs: Inputs, choices: Choices) -> None:
        """Make model and features; keep them where they still fit."""
        import timo
        from timo.models.pixel import PixelModel

        own = (choices.size, choices.pretrained, choices.per_date, choices.seed, inputs.classes)
        key = own if choices.start == NEW else (PRESENT, id(inputs.model))
        if self._key == key and self._holds(inputs.cube):
            return
        model, code = new_model(inputs, choices)
        if isinstance(model, PixelModel):
            raise TimoError(NO_HEAD)
        if not (self._holds(inputs.cube) and self._fits(model)):
            job.begin_part("computing the features of the encoder, once")
            self._features = timo.Features(model, inputs.cube, stop=job.stop, on_step=job.report)
            self._cube = inputs.cube
        self._key, self._model, self._code = key, model, code

    def _holds(self, cube: xr.DataArray) -> bool:
        return self._features is not None and self._cube is cube

    def _fits(self, model: Any) -> bool:
        try:
            self._features.check(model)
        except TimoError:
            return False
        return True


def predict(job: Job, inputs: Inputs, _: Choices) -> Outcome:
    """Map the cube with the present model."""
    import timo
    from timo.mapping import compute
    from timo.models.tasks import unit_of

    if inputs.model is None:
        raise TimoError("There is no model yet: press Fine-tune first, or give the state a model.")
    unit = unit_of(inputs.model.config)
    if unit != "pixel":
        raise TimoError(
            f"A map needs a model of pixels, and the present one answers for each {unit}, with a table: use "
            "timo.predict in the notebook."
        )
    job.begin_part("mapping")
    lazy = timo.predict(inputs.model, inputs.cube)
    result = compute(lazy, stop=job.stop, on_step=job.report)
    return Outcome(result=result, code=[_PREDICT])


def pretrain(job: Job, inputs: Inputs, choices: Choices) -> Outcome:
    """Pretrain an encoder on the cube; a new model can then start from its folder."""
    import timo

    folder = choices.folder_of("pretrain")
    if folder is None:
        raise TimoError("A pretraining needs a folder for its encoder: write one under Advanced.")
    if not choices.size.startswith("timo-"):
        raise TimoError("A pretraining makes a new encoder: choose a size under New model.")
    options: dict[str, Any] = {"epochs": choices.epochs, "seed": choices.seed, "folder": folder}
    if choices.resume:
        options["resume"] = True
    size = choices.size.removeprefix("timo-")
    job.begin_part("pretraining")
    done = timo.pretrain(
        inputs.cube, size, **options, progress=False, stop=job.stop, on_step=job.report
    )
    if done.stopped:
        job.say(f"stopped after step {job.step}: 'go on' trains to the end")
    note = _stopped(job) if done.stopped else ""
    line = Step("timo.pretrain", CUBE, size, stopped=note, **options)
    return Outcome(encoder=f"{folder}/encoder", code=[line], stopped=done.stopped)
