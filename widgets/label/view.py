"""What the labeler shows: the image of a date, the labels over it, and how many pixels each class has."""

from __future__ import annotations

import html
import warnings

import numpy as np
import pandas as pd
import xarray as xr

from timo.cube.indices import band_by_common_name
from timo.errors import TimoError

from ..base.style import rgb
from .sheet import Label, starving


def date_image(cube: xr.DataArray, date: int) -> np.ndarray:
    """(y, x, 4) uint8: a date in true colour, or its first band in grey; what was not observed is transparent.

    Parameters
    ----------
    cube : xarray.DataArray
        (time, band, y, x); if it is lazy, only this date of three bands is computed.
    date : int
        Position in its time.
    """
    values = _visible(cube.isel(time=date)).transpose("y", "x", "band").values
    seen = np.isfinite(values).all(axis=-1)
    with warnings.catch_warnings():
        # Of a date under clouds as a whole there is nothing to stretch.
        warnings.filterwarnings("ignore", message="All-NaN slice encountered")
        low, high = np.nanpercentile(values, [1, 98], axis=(0, 1))
    bright = np.nan_to_num((values - low) / np.maximum(high - low, 1e-6)).clip(0, 1)
    image = np.zeros((*seen.shape, 4), "uint8")
    image[..., :3] = bright * 255
    image[..., 3] = seen * 255
    return image


def _visible(scene: xr.DataArray) -> xr.DataArray:
    try:
        bands = [band_by_common_name(scene, (name,)) for name in ("red", "green", "blue")]
    except TimoError:
        # Radar, or a cube of few bands: anything that shows where one is.
        bands = [scene.isel(band=0, drop=True)] * 3
    return xr.concat(bands, dim="band")


def label_image(plane: np.ndarray, colours: list[str]) -> np.ndarray:
    """(y, x, 4) uint8: classes in their colours; -1 is transparent."""
    palette = np.zeros((len(colours) + 1, 4), "uint8")
    for code, colour in enumerate(colours):
        palette[code] = (*rgb(colour), 255)
    # -1 takes the last row.
    return palette[plane]


def label_line(label: Label, classes: list[str]) -> str:
    """One line on a label, for a list."""
    kind = "painted" if label.painted else "shape"
    pixels = f"{label.cells.size:,} px"
    return f"{label.number} · {classes[label.code]} · {kind}, {pixels} · {dates_text(label)}"


def dates_text(label: Label) -> str:
    """When a label holds, in words."""
    if not label.dated:
        return "whole series"
    return f"{label.start or 'start'} to {label.end or 'end'}"


def summary(counts: pd.DataFrame, colours: list[str]) -> str:
    """HTML table: colour, name, pixels, hectares and a warning for each class that has too few."""
    if counts.empty:
        return '<span class="timo-note">There is no class yet: name one and press Add class.</span>'
    said = starving({str(name): int(n) for name, n in counts["pixels"].items()})
    fewest = counts["pixels"].min()
    rows = []
    for (name, row), colour in zip(counts.iterrows(), colours, strict=True):
        text = html.escape(str(name))
        note = said.get(str(name), "")
        if not note and len(counts) > 1 and row.pixels == fewest < counts["pixels"].max():
            note = "fewest"
        mark = f"⚠ {html.escape(note)}" if str(name) in said else note
        area = "" if np.isnan(row.hectares) else f"{row.hectares:,.2f} ha"
        rows.append(
            f'<tr><td><span style="display:inline-block;width:14px;height:14px;background:{colour};'
            f'border:1px solid var(--jp-border-color1,#bdbdbd)"></span></td><td><b>{text}</b></td>'
            f'<td style="text-align:right">{int(row.pixels):,} px</td>'
            f'<td style="text-align:right">{area}</td></tr>'
            + (f'<tr><td></td><td colspan="3" class="timo-note">{mark}</td></tr>' if mark else "")
        )
    return f'<table style="border-spacing:8px 0;line-height:1.5">{"".join(rows)}</table>'
