"""Rivals on the loss map of the demonstration: what a pixel's own series says, and how any map is scored.

Classifiers learn from what the notebook has: its labels, its training squares, its dates. CCDC and BFAST Monitor have
the defaults of zeit-cdts (``pip install zeit-cdts``), the IQR monitor those of nrt and, in a row of its own, settings
that were chosen with a look at the reading. U-TAE (`peers.utae`) answers once for a series, and change needs an answer
for each date: it is not among them.
"""

import importlib.util
from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GroupKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import timo
from timo.training import labels_in_time

YEARS = (2018, 2019, 2020)
# The road works and the meadows in the north, which the reading leaves out.
FIRST_ROW = 27
_NEIGHBOURS = np.ones((3, 3))
# Of the IQR monitor, chosen with a look at the reading; by default a trend, three harmonics, three outliers.
TUNED_IQR = {"trend": False, "harmonic_order": 2, "sensitivity": 1.5, "boundary": 5}
# Pixels of a clearing of 0.1 ha, the smallest that counts as one; and of a patch that counts as false.
_CLEARING, _FALSE = 10, 3


def score(loss: np.ndarray) -> dict[str, float]:
    """Compare a map of the year of loss with the reading.

    Parameters
    ----------
    loss : ndarray (y, x)
        Year of loss, 0 or negative without one.

    Returns
    -------
    dict
        F1 by pixel, and with a tolerance of one pixel; precision; recall; share of years that agree; mapped area over
        read area; patches; clearings of 0.1 ha or more of which half is found, their number, how many of them share
        their patch with another one found before; and patches that touch none.
    """
    reading = timo.sample_clearings()
    inside = np.broadcast_to(np.arange(len(reading))[:, None] >= FIRST_ROW, reading.shape)
    maps = [reading.copy(data=np.where(inside, years, -1).astype(int)) for years in (loss, reading)]
    exact, near_by = (timo.mapping.loss_agreement(*maps, years=YEARS, tolerance=t) for t in (0, 1))
    mapped, true = (np.isin(years, YEARS) for years in maps)
    clearings, count = ndimage.label(true)
    large = [i for i in range(1, count + 1) if (clearings == i).sum() >= _CLEARING]
    patches, number = ndimage.label(mapped)
    found = [i for i in large if mapped[clearings == i].mean() >= 0.5]
    # The patch that holds most of a clearing.
    homes = [np.bincount(patches[mapped & (clearings == i)]).argmax() for i in found]
    near = ndimage.binary_dilation(true, _NEIGHBOURS)
    false = [
        i
        for i in range(1, number + 1)
        if (patches == i).sum() >= _FALSE and not (near & (patches == i)).any()
    ]
    return {
        "F1": exact["f1_loss"],
        "F1, 1 px": near_by["f1_loss"],
        "precision": exact["precision"],
        "recall": exact["recall"],
        "year right": exact["year_right"],
        "area": exact["area_ratio"],
        "patches": number,
        "found": len(found),
        "of": len(large),
        "merged": len(homes) - len(set(homes)),
        "false": len(false),
    }


def pixel_classifier(kind: str, seed: int = 0, *, outlined: bool = False) -> np.ndarray:
    """Map loss by a classifier of single pixels on single dates, carried through `timo.loss_year`.

    Parameters
    ----------
    kind : str
        "logistic" or "mlp" (64 and 32 units).
    seed : int
        Of the MLP.
    outlined : bool
        Whether the loss is outlined by the pixels' own fall, as the demonstration's is.
    """
    cube = timo.open_cube("sample", start="2016-01-01", end="2020-12-31").compute()
    labels, density = timo.sample_labels(), timo.sources.sample_tree_cover()
    sure = labels.where(abs(density - 50) > 15, -1).astype("int8").assign_attrs(labels.attrs)
    squares = timo.cube.blocks(cube, size_m=200)
    split = timo.cube.split_blocks(squares, "checkerboard", (1.0, 0.0, 0.0), labels=labels)
    features = _features(cube)
    seen = np.isfinite(cube.values).all(axis=1)
    dated = np.full(seen.shape, -1)
    learnt = cube.time.dt.year.isin([2017, 2018]).values
    dated[learnt] = labels_in_time(sure, cube.isel(time=learnt), 2018).values
    train = seen & (dated >= 0) & (split == 0).values
    model = {
        "logistic": LogisticRegression(max_iter=500),
        "mlp": MLPClassifier((64, 32), max_iter=12, batch_size=1024, random_state=seed),
    }[kind]
    fitted = make_pipeline(StandardScaler(), model).fit(features[train], dated[train])
    p = np.full(seen.shape, np.nan, "float32")
    p[seen] = fitted.predict_proba(features[seen])[:, 1]
    probability = cube.isel(band=0, drop=True).copy(data=p).sel(time=slice("2017", "2020"))
    loss = timo.loss_year(probability, outline=probability if outlined else None)
    return loss.loss_year.values.astype(int)


def season_scores(kind: str, seed: int = 0, pixels: int | None = None) -> dict[str, float]:
    """Score forest or not in the season of 2018 by a classifier of a pixel's monthly medians, on the test squares.

    Parameters
    ----------
    kind : str
        "logistic", of the default strength; "cross-validated", its strength chosen by folds of training squares;
        "forest", 300 trees.
    seed : int
        Of the trees and of the pixels drawn.
    pixels : int, optional
        Labelled pixels to learn from, drawn at random from the training squares; all if None.
    """
    cube = timo.open_cube("sample", start="2017-01-01", end="2018-12-31").compute()
    labels = timo.sample_labels()
    squares = timo.cube.blocks(cube, size_m=200)
    split = timo.cube.split_blocks(squares, "checkerboard", (1.0, 0.0, 0.0), labels=labels)
    months = cube.groupby("time.month").median("time").transpose("y", "x", "month", "band")
    features, truth = months.values.reshape(labels.size, -1), labels.values.ravel()
    train, test = np.flatnonzero(split == 0), np.flatnonzero(split == 2)
    if pixels is not None:
        train = np.random.default_rng(seed).choice(train, pixels, replace=False)
    fill = np.nanmedian(features[train], axis=0)
    features = np.where(np.isfinite(features), features, np.where(np.isfinite(fill), fill, 0))
    if kind == "forest":
        model = RandomForestClassifier(300, n_jobs=-1, random_state=seed)
    elif kind == "logistic":
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    else:
        # Folds of whole squares: neighbouring pixels know one another.
        folds = GroupKFold(5).split(features[train], groups=squares.values.ravel()[train])
        strengths = np.logspace(-2, 1, 4)
        search = LogisticRegressionCV(Cs=strengths, cv=list(folds), max_iter=2000)
        model = make_pipeline(StandardScaler(), search)
    predicted = model.fit(features[train], truth[train]).predict(features[test])
    return {
        "overall accuracy": accuracy_score(truth[test], predicted),
        "F1 of not forest": f1_score(truth[test] == 0, predicted == 0),
    }


def _features(cube: xr.DataArray) -> np.ndarray:
    """Reflectance, NDVI, NDMI and the season of each pixel and date, (time, y, x, feature)."""
    x = cube.values
    angle = 2 * np.pi * cube.time.dt.dayofyear.values / 365.25
    ndvi = (x[:, 3] - x[:, 2]) / (x[:, 3] + x[:, 2] + 1e-6)
    ndmi = (x[:, 3] - x[:, 5]) / (x[:, 3] + x[:, 5] + 1e-6)
    season = [np.broadcast_to(v[:, None, None], ndvi.shape) for v in (np.sin(angle), np.cos(angle))]
    return np.stack([*(x[:, i] for i in range(6)), ndvi, ndmi, *season], axis=-1)


def ccdc(band: str | None = None) -> np.ndarray:
    """Map loss by CCDC with its defaults: the year of the largest break, whenever it was.

    Parameters
    ----------
    band : str, optional
        Measure the break in this band, and take an increase for a loss; without it, the length of the change vector.
    """
    import zeit

    cube = timo.open_cube("sample", start="2015-01-01", end="2020-12-31").compute()
    digital = (cube * 10_000).clip(1, 10_000).assign_attrs(cube.attrs)
    segments = zeit.ccdc(digital.drop_vars("scl", errors="ignore"))
    kind = "any" if band is None else "gain"
    events = zeit.extract_events(segments, event_type=kind, band=band)
    return _years(events["date"])


def bfast(kind: str) -> np.ndarray:
    """Map loss by BFAST Monitor with its defaults, on the NDVI, from 2018 on.

    Parameters
    ----------
    kind : {"any", "loss"}
        Which breaks count: all, or those after which the NDVI is lower than the model of the years before says.
    """
    import zeit

    index = timo.cube.ndvi(timo.open_cube("sample", end="2020-12-31"))
    breaks = zeit.bfast_monitor(index.drop_vars("scl", errors="ignore"), "2018-01-01")
    return _years(zeit.extract_events(breaks, event_type=kind)["date"])


def iqr(**options: float) -> np.ndarray:
    """Map loss by nrt's IQR monitor on the NDVI, fitted up to 2017."""
    from nrt.monitor.iqr import IQR

    ndvi = timo.cube.ndvi(timo.open_cube("sample", end="2020-12-31")).drop_vars(
        "scl", errors="ignore"
    )
    history, later = ndvi.sel(time=slice(None, "2017")), ndvi.sel(time=slice("2018", None))
    monitor = IQR(mask=np.ones(ndvi.shape[1:], "uint8"), **options)
    monitor.fit(dataarray=history)
    for image, date in zip(later.values, later.time.dt.date.values, strict=True):
        monitor.monitor(array=image, date=pd.Timestamp(date).to_pydatetime())
    alarm = monitor.detection_date.astype("datetime64[D]").astype("datetime64[Y]").astype(int)
    return np.where(monitor.mask == 3, alarm + 1970, 0)


def _years(dates: xr.DataArray) -> np.ndarray:
    """Return the year of each date, 0 of none."""
    years = pd.DatetimeIndex(dates.values.ravel()).year.fillna(0)
    return years.to_numpy(int).reshape(dates.shape)


def rivals() -> dict[str, Callable[[], np.ndarray]]:
    """Return what maps the loss without TiMo, by name; CCDC and BFAST Monitor only where they are installed."""
    found: dict[str, Callable[[], np.ndarray]] = {
        "logistic regression, pixel and date": lambda: pixel_classifier("logistic"),
        "the same, outlined": lambda: pixel_classifier("logistic", outlined=True),
        **{f"MLP, pixel and date, seed {s}": _mlp(s) for s in range(3)},
    }
    found["IQR monitor, defaults"] = iqr
    found["IQR monitor, tuned on the reading"] = lambda: iqr(**TUNED_IQR)
    if importlib.util.find_spec("zeit"):
        found |= {"CCDC, change vector": ccdc, "CCDC, SWIR": lambda: ccdc("B11")}
        found |= {"BFAST Monitor, any break": lambda: bfast("any")}
        found |= {"BFAST Monitor, NDVI fell": lambda: bfast("loss")}
    return found


def _mlp(seed: int) -> Callable[[], np.ndarray]:
    return lambda: pixel_classifier("mlp", seed)
