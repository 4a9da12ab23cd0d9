"""What a chip store holds, in figures."""

from typing import Any

import numpy as np

from timo.training.chips.layout import NO_DATE, State
from timo.training.chips.table import Table

_MOST_EXTENTS = 8


def summarise(table: Table, state: State) -> dict[str, Any]:
    """Figures of a store, of which only the table is read.

    Returns
    -------
    dict
        places, images (dates over all places), dates ((fewest, median, most) a place), first and last date, bands,
        sensor, size (pixels), cell (least and largest), extent (CRS -> left, lower, right, upper edge), clear (mean
        share), dtype, scale, offset, shift, largest_error, bytes and files on disk, attribution, source.
    """
    layout = table.layout
    given = table["dates"] != NO_DATE
    days = table["dates"][given].astype("datetime64[D]")
    counts = given.sum(axis=1)
    files = [file.stat().st_size for file in table.path.rglob("*") if file.is_file()]
    return {
        "places": len(table),
        "images": int(counts.sum()),
        "dates": (int(counts.min()), float(np.median(counts)), int(counts.max()))
        if len(table)
        else (),
        "first": str(days.min()) if days.size else None,
        "last": str(days.max()) if days.size else None,
        "sensor": layout.sensor,
        "bands": layout.bands,
        "units": layout.units,
        "size": layout.size,
        "cell": (float(table["cell"].min()), float(table["cell"].max())) if len(table) else (),
        "extent": {name: _extent(table, code) for code, name in enumerate(state.crs)},
        "clear": float(table["clear"][given].mean()) if days.size else None,
        "dtype": layout.dtype,
        "scale": layout.scale,
        "offset": layout.offset,
        "shift": layout.shift,
        "largest_error": state.largest_error,
        "bytes": sum(files),
        "files": len(files),
        "attribution": state.attribution,
        "source": state.source,
    }


def describe(figures: dict[str, Any]) -> str:
    """The figures as text, for people."""
    lines = {
        "places": f"{figures['places']} of {figures['size']} x {figures['size']} pixels",
        "images": _images(figures),
        "dates": f"{figures['first']} to {figures['last']}" if figures["first"] else "none",
        "sensor": figures["sensor"] or "not said",
        "bands": ", ".join(figures["bands"]),
        "values": _values(figures),
        "on disk": f"{figures['bytes'] / 1e6:.1f} MB in {figures['files']} files",
    }
    rows = [f"{name:<12}{value}" for name, value in lines.items()]
    rows += [f"{'extent':<12}{line}" for line in _extents(figures["extent"])]
    for name in ("source", "attribution"):
        rows += [f"{name:<12}{value}" for value in figures[name]]
    return "\n".join(rows)


def _extents(extents: dict[str, Any]) -> list[str]:
    if len(extents) > _MOST_EXTENTS:
        # Places all over the world: their zones tell more than the metres within each.
        names = sorted(_short(crs) for crs in extents)
        return [f"in {len(names)} coordinate reference systems, {names[0]} to {names[-1]}"]
    return [
        f"{', '.join(f'{edge:.10g}' for edge in extent)} in {_short(crs)}"
        for crs, extent in extents.items()
    ]


def _images(figures: dict[str, Any]) -> str:
    if not figures["images"]:
        return "0"
    fewest, median, most = figures["dates"]
    return (
        f"{figures['images']}: {fewest} to {most} dates a place (median {median:g}), "
        f"{100 * figures['clear']:.0f} % of the pixels valid"
    )


def _values(figures: dict[str, Any]) -> str:
    unit = f", {figures['units']}" if figures["units"] else ""
    if figures["dtype"] == "float32":
        return f"float32{unit}"
    error = figures["largest_error"]
    exact = "exact" if error == 0 else f"largest rounding error {error:.2g}"
    return f"int16 in steps of {figures['scale']:g} ({exact}){unit}"


def _extent(table: Table, code: int) -> tuple[float, float, float, float]:
    here = table["crs"] == code
    left, top, cell = (table[name][here] for name in ("left", "top", "cell"))
    side = cell * table.layout.size
    edges = (left.min(), (top - side).min(), (left + side).max(), top.max())
    return tuple(float(edge) for edge in edges)  # type: ignore[return-value]


def _short(crs: str) -> str:
    return crs if len(crs) <= 40 else f"{crs[:40]}..."
