"""How a job looks: its loss as a curve, its lines, the list of jobs, in the theme's colours."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from timo.compute import time_text

from ..base.chart import SeriesChart
from ..base.style import OKABE_ITO, figure_png
from .jobs import Job

# More points than pixels are not seen.
POINTS = 300
SHOWN_LINES = 200
WORDS = {
    "queued": "waiting",
    "running": "running",
    "done": "done",
    "cancelled": "cancelled",
    "failed": "failed",
}


def status_text(job: Job | None) -> str:
    """Say in a line how far a job is."""
    if job is None:
        return "Nothing is running."
    parts = [f"{job.title}: {'stopping' if job.cancelling else WORDS[job.state]}"]
    if job.steps:
        parts.append(f"step {job.step} of {job.steps}")
    if job.losses:
        parts.append(f"loss {job.losses[-1][1]:.3f}")
    if eta := time_text(job.eta):
        parts.append(f"{eta} to go")
    elif job.ended and job.seconds:
        parts.append(f"took {time_text(job.seconds)}")
    return " · ".join(parts)


def thinned(losses: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Return at most as many points as are seen: means of neighbours."""
    if len(losses) <= POINTS:
        return [(float(step), loss) for step, loss in losses]
    groups = np.array_split(np.asarray(losses, dtype=float), POINTS)
    return [(float(g[:, 0].mean()), float(g[:, 1].mean())) for g in groups]


def loss_chart() -> SeriesChart:
    """Make the chart of the loss over the steps."""
    chart = SeriesChart(
        numeric=True, height=150, y_label="loss", empty="the loss of a training appears here"
    )
    chart.layout.max_width = "460px"
    return chart


def show_losses(chart: SeriesChart, losses: Sequence[tuple[int, float]]) -> None:
    """Show the loss over the steps so far."""
    points = thinned(losses)
    series = {"name": "loss", "values": [loss for _, loss in points], "colour": OKABE_ITO[4]}
    chart.show([series] if points else [], dates=[round(step) for step, _ in points])


def log_html(lines: Sequence[str]) -> str:
    """Show the last lines, the newest in sight: the box is filled from below, and so stays there while it grows."""
    shown = html.escape("\n".join(list(lines)[-SHOWN_LINES:]))
    return (
        '<div class="timo-log" role="log" tabindex="0" aria-label="Log of the job"><pre>'
        f"{shown}</pre></div>"
    )


def jobs_html(jobs: Sequence[Job]) -> str:
    """List the jobs."""
    if not jobs:
        return ""
    rows = "".join(
        f'<li class="timo-job-{job.state}">{html.escape(job.title)} <i>{WORDS[job.state]}'
        f"{f', {time_text(job.seconds)}' if job.seconds else ''}</i></li>"
        for job in jobs
    )
    return f'<ol class="timo-jobs" aria-label="Jobs">{rows}</ol>'


CSS = """<style>
.timo-log { box-sizing: border-box; height: 132px; overflow: auto; display: flex;
  flex-direction: column-reverse; padding: 2px 8px;
  border: 1px solid var(--jp-border-color1, #bdbdbd); background: var(--jp-layout-color1, #ffffff); }
.timo-log pre { flex: 0 0 auto; margin: 0; padding: 0; white-space: pre;
  font: 12px/1.4 var(--jp-code-font-family, monospace);
  color: var(--jp-ui-font-color1, #212121); background: transparent; }
.timo-log:focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); }
.timo-status { color: var(--jp-ui-font-color1, #212121); }
.timo-jobs { margin: 0; padding-left: 20px; line-height: 1.5; color: var(--jp-ui-font-color1, #212121); }
.timo-jobs i { color: var(--jp-ui-font-color2, #616161); }
</style>"""


def picture(job: Job | None, chart: SeriesChart) -> bytes:
    """Return a PNG of a job, for where there is no browser."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.2))
    axes: Any = figure.subplots()
    if chart.series:
        chart.plot(axes)
    else:
        axes.set_axis_off()
    axes.set_title(status_text(job), fontsize=9)
    return figure_png(figure)
