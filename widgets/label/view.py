"""What the labeler says: its labels in words, and how many pixels each class has."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd

from .sheet import Label, starving


def label_line(label: Label, classes: list[str]) -> str:
    """Describe a label in a line, for a list."""
    kind = "painted" if label.painted else "shape"
    pixels = f"{label.cells.size:,} px"
    return f"{label.number} · {classes[label.code]} · {kind}, {pixels} · {dates_text(label)}"


def dates_text(label: Label) -> str:
    """Say when a label holds."""
    if not label.dated:
        return "whole series"
    return f"{label.start or 'start'} to {label.end or 'end'}"


def summary(counts: pd.DataFrame, colours: list[str]) -> str:
    """Make an HTML table: colour, name, pixels, hectares and a warning for each class that has too few."""
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
