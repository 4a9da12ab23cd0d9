"""Few-click mapping: a frozen encoder, a few labelled pixels, and a head that learns from them in seconds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import xarray as xr

from timo.cancel import Stop
from timo.checks import Count, NotNegative, Positive, Seed, checked
from timo.compute import OnStep
from timo.errors import TimoError, warn
from timo.models.tasks import TiMo
from timo.places import Places
from timo.training.choosing import Choice, choose, groups_of
from timo.training.features import Features
from timo.training.inputs import gather
from timo.training.samples import draw_labels, samples_of
from timo.training.steps import learn


@checked
@dataclass(frozen=True)
class FittedHead:
    """Result of `fit_head`.

    Attributes
    ----------
    features : Features or list of Features
        Give them to the next call, with other labels; ``features.predict(model)`` is the new map. Of places, one each.
    history : DataFrame
        One row a step: step, loss.
    pixels : dict of str to int
        Labelled pixels of each class that were learnt from.
    seconds : float
        Wall time of this call; `feature_seconds` of it went into features that were not given, `choice_seconds` into
        the cross-validation.
    stopped : bool
        Whether `stop` ended it before its end.
    choice : DataFrame or None
        What the cross-validation found for "both", "encoder" and "pixels": the weight of single pixels that each stands
        for (`pixel`), the share of held-out labels that are right, as the mean over the classes (`accuracy`), the
        standard error of its difference from that of both (`standard_error`), and how many groups of neighbouring
        labels there were (`groups`). None: nothing was chosen.
    summary : str
        One line about that, or why nothing could be chosen; empty where nothing was to be.
    """

    features: Features | list[Features]
    history: pd.DataFrame
    pixels: dict[str, int]
    seconds: float
    feature_seconds: float
    stopped: bool = False
    choice_seconds: float = 0.0
    choice: pd.DataFrame | None = None
    summary: str = ""


@checked(cube="data")
def fit_head(
    model: TiMo,
    data: xr.DataArray | Places,
    labels: xr.DataArray | None = None,
    *,
    features: Features | Sequence[Features] | None = None,
    steps: Count = 60,
    learning_rate: Positive = 1e-2,
    weight_decay: NotNegative = 1e-2,
    most_pixels: Count = 1000,
    cross_validate: bool = True,
    seed: Seed = 0,
    stop: Stop | None = None,
    on_step: OnStep | None = None,
) -> FittedHead:
    """Train the full-resolution part of a model's head on labelled pixels, in place, with all else frozen.

    For few labels, and for answers in seconds. Of a segmentation head (`timo.models.heads.SegmentationHead`), all that
    is at a resolution of 4 pixels is frozen, and kept in `features`; what is at full resolution learns: the detail
    path, its merging with the enlarged features, the pooling over the dates of a model of the series, the classifier,
    and the path of single pixels, whose regression is fitted at once.
    Only labelled pixels are gone through, with every class counting the same. The same call gives the same weights.
    Labels without dates are true on all dates on which the pixel was observed.

    Of a model with a path of single pixels, the labels choose what answers: the encoder's features, the pixel's own
    values, or both. Groups of neighbouring labels are held out in up to three folds, and the head learns in each from
    the rest. Another answer than both is chosen if it has more held-out labels right, every class counting the same, by
    more than a standard error of the difference. ``model.config.pixel``, the weight of single pixels, becomes 0, 1, or
    0.5 for both. Then all labels are learnt from. Print ``.summary``.

    Parameters
    ----------
    model : TiMo
        A segmentation model on the CPU, e.g. ``load_model("timo-tiny", cube, classes)``, whose encoder is pretrained.
    data : xarray.DataArray or Places
        The cube, with the bands of the model; or places with labels, which are loaded into memory.
    labels : xarray.DataArray, optional
        Of a cube: (y, x) or (time, y, x) integers, -1 = unlabelled; two classes at least.
    features : Features, or of places a list with those of each, optional
        Of this model and these data, from an earlier call. None: they are computed.
    steps : int
        Steps of AdamW.
    learning_rate, weight_decay : float
        Peak of a cosine that falls to 0, and the decay.
    most_pixels : int
        Most labelled pixels of each class to learn from; of more, that many are drawn.
    cross_validate : bool
        Choose what answers, as above. False: the weight of single pixels stays as it is, as it does where the labels of
        a class are one group of neighbours.
    seed : int
        Seed of these draws, and of the part of the coarse features that each step sees.
    stop : threading.Event or callable, optional
        Asked before each layer of the encoder and before each step. When it says so during the steps, the call returns
        with ``.stopped`` true and the weights of the last one.
    on_step : callable, optional
        Is given a `timo.compute.StepReport` after each step, and after each window of dates that features are made of.

    Returns
    -------
    FittedHead
        With the features.

    Raises
    ------
    TimoError
        If data, labels, model and features do not fit each other (features of a cube that has changed since are
        refused), a band has no observation at all, fewer than two classes are labelled on observed dates, or an option
        makes no sense.
    CancelledError
        If `stop` said so before the first step on all labels: the model is what it was.

    Warns
    -----
    UserWarning
        If the encoder has learnt nothing: its weights are still random.
    """
    if model.config.task != "segmentation":
        raise TimoError(
            f"fit_head trains segmentation models; this one is for {model.config.task}. Use timo.finetune."
        )
    places = gather(model, data, labels, None).places
    _warn_of_random(model)
    started = time.monotonic()
    if features is None:
        every = [
            Features(model, places.open(i)[0], stop=stop, on_step=on_step)
            for i in range(len(places))
        ]
    else:
        every = _check_features(features, model, places)
    ready = time.monotonic()
    noted = [places.view(i).labels for i in range(len(places))]
    given, pixels = draw_labels(noted, every, model.config.classes, most_pixels, seed)
    samples = samples_of(model, every, given)
    drawn = time.monotonic()
    rates = (learning_rate, weight_decay)
    choice = Choice(None, None, "")
    if cross_validate and model.pixel is not None:
        choice = choose(
            model,
            samples,
            groups_of(noted),
            steps=steps,
            rates=rates,
            seed=seed,
            stop=stop,
            on_step=on_step,
        )
    if choice.weight is not None:
        model.config = replace(model.config, pixel=choice.weight, keep_pixel=True)
    chosen = time.monotonic()
    model.has_learnt = True
    history = learn(model, samples, steps=steps, rates=rates, seed=seed, stop=stop, on_step=on_step)
    return FittedHead(
        every if isinstance(data, Places) else every[0],
        history,
        pixels,
        time.monotonic() - started,
        ready - started,
        len(history) < steps,
        chosen - drawn,
        choice.table,
        choice.summary,
    )


def _warn_of_random(model: TiMo) -> None:
    """Warn of an encoder whose norms are all as they were made: the first step of a training moves them."""
    norms = [m for m in model.encoder.modules() if type(m).__name__.endswith("Norm")]
    scales = [p for norm in norms for p in norm.parameters(recurse=False)]
    if not scales or any(bool((p != p.flatten()[0].round()).any()) for p in scales):
        return
    initial = model.config.initial_weights or "not written down"
    warn(
        f"The encoder is random (initial weights: {initial}), and fit_head freezes it: the head learns from features "
        "that mean little. Train all of it, timo.finetune(model, cube, labels), or start from pretrained weights: "
        "pretrained=True in timo.load_model, where there are some, or the folder of timo.pretrain."
    )


def _check_features(
    features: Features | Sequence[Features], model: TiMo, places: Places
) -> list[Features]:
    every = [features] if isinstance(features, Features) else list(features)
    if len(every) != len(places):
        raise TimoError(
            f"There are {len(places)} places and features of {len(every)}: give those of each, or leave features out."
        )
    for number, one in enumerate(every):
        one.check(model, places.open(number)[0])
    return every
