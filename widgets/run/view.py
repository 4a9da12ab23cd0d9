"""How a job looks: its loss as a curve, its lines, the list of jobs. Plain HTML and SVG, in the theme's colours."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.style import OKABE_ITO, figure_png
from .jobs import Job

WIDTH, HEIGHT = 460, 150
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 24
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


def time_text(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 5 s, 1 h 2 min."""
    if not math.isfinite(seconds):
        return ""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def status_text(job: Job | None) -> str:
    """One line about a job."""
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
    """At most so many points as are seen: means of neighbours."""
    if len(losses) <= POINTS:
        return [(float(step), loss) for step, loss in losses]
    groups = np.array_split(np.asarray(losses, dtype=float), POINTS)
    return [(float(g[:, 0].mean()), float(g[:, 1].mean())) for g in groups]


def loss_svg(losses: Sequence[tuple[int, float]]) -> str:
    """The loss over the steps so far, as SVG."""
    inside = f'width="100%" viewBox="0 0 {WIDTH} {HEIGHT}" style="max-width:{WIDTH}px"'
    axes = (
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="currentColor" '
        'stroke-opacity="0.5"/>'
    )
    if not losses:
        text = _text(WIDTH / 2, HEIGHT / 2, "the loss of a training appears here", "middle")
        return f'<svg role="img" aria-label="No loss yet" {inside}>{axes}{text}</svg>'
    points = thinned(losses)
    low, high = min(y for _, y in points), max(y for _, y in points)
    span, first, last = (high - low) or 1.0, losses[0][0], losses[-1][0]
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    path = " ".join(
        f"{LEFT + wide * (x - first) / max(last - first, 1):.1f},{TOP + tall * (high - y) / span:.1f}"
        for x, y in points
    )
    curve = (
        f'<polyline points="{path}" fill="none" stroke="{OKABE_ITO[4]}" stroke-width="2" '
        'stroke-linejoin="round"/>'
    )
    if len(points) == 1:
        # A line of one point is not seen.
        curve = f'<circle cx="{LEFT}" cy="{TOP + tall / 2:.1f}" r="3" fill="{OKABE_ITO[4]}"/>'
    marks = [
        _text(LEFT - 6, TOP + 8, f"{high:.3g}", "end"),
        _text(LEFT - 6, HEIGHT - BOTTOM, f"{low:.3g}", "end"),
        _text(LEFT, HEIGHT - 8, f"{first}", "start"),
        _text(WIDTH - RIGHT, HEIGHT - 8, f"step {last}", "end"),
        _text(WIDTH / 2, HEIGHT - 8, "loss", "middle"),
    ]
    label = f"Loss over the steps: {points[0][1]:.3f} at first, {points[-1][1]:.3f} now"
    return f'<svg role="img" aria-label="{label}" {inside}>{axes}{curve}{"".join(marks)}</svg>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="11" fill="currentColor">'
        f"{html.escape(text)}</text>"
    )


def log_html(lines: Sequence[str]) -> str:
    """The last lines, the newest in sight: the box is filled from below, and so stays there while it grows."""
    shown = html.escape("\n".join(list(lines)[-SHOWN_LINES:]))
    return (
        '<div class="timo-log" role="log" tabindex="0" aria-label="Log of the job"><pre>'
        f"{shown}</pre></div>"
    )


def jobs_html(jobs: Sequence[Job]) -> str:
    """The jobs as a list."""
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
.timo-loss { color: var(--jp-ui-font-color1, #212121); }
.timo-jobs { margin: 0; padding-left: 20px; line-height: 1.5; color: var(--jp-ui-font-color1, #212121); }
.timo-jobs i { color: var(--jp-ui-font-color2, #616161); }
</style>"""


def picture(job: Job | None) -> bytes:
    """PNG of a job, for where there is no browser."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.2))
    axes: Any = figure.subplots()
    if job is not None and job.losses:
        axes.plot(*zip(*thinned(job.losses), strict=True), color=OKABE_ITO[0])
        axes.set(xlabel="step", ylabel="loss")
    else:
        axes.set_axis_off()
    axes.set_title(status_text(job), fontsize=9)
    return figure_png(figure)
