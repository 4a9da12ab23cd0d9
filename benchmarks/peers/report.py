"""From the results of single runs to tables, and to where TiMo does not lead."""

import math
from typing import Any

import numpy as np
from scipy.stats import t as student

METRICS = {"accuracy": "Overall accuracy", "f1": "F1"}


def half_interval(values: list[float]) -> float | None:
    """Half a 95 % interval of the mean, by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(student.ppf(0.975, len(values) - 1)) * spread


def summarise(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each model and condition: mean over the draws, then mean and interval over the seeds."""
    groups: dict[tuple, dict[int, list[dict[str, float]]]] = {}
    for result in results:
        for one in result["scores"]:
            group = (result["model"], one["dates"], one["cloud"])
            groups.setdefault(group, {}).setdefault(result["seed"], []).append(one)
    rows = []
    for (model, dates, cloud), seeds in groups.items():
        row = {"model": model, "dates": dates, "cloud": cloud, "seeds": len(seeds)}
        for metric in METRICS:
            means = [float(np.mean([one[metric] for one in draws])) for draws in seeds.values()]
            row[metric], row[f"{metric}_half"] = float(np.mean(means)), half_interval(means)
        rows.append(row)
    return rows


def tables(rows: list[dict[str, Any]], focus: str) -> str:
    """Markdown: a table for each metric, a row for each model, a column for each condition."""
    parts = []
    columns = sorted({(row["cloud"], row["dates"]) for row in rows})
    models = list(dict.fromkeys(row["model"] for row in rows))
    for metric, title in METRICS.items():
        name = f"{title} of {focus}" if metric == "f1" else title
        heads = [
            f"{dates} dates" + (f", {cloud} % hidden" if cloud else "") for cloud, dates in columns
        ]
        parts += [
            "",
            f"**{name}**",
            "",
            f"| | {' | '.join(heads)} |",
            "|---" * (len(heads) + 1) + "|",
        ]
        for model in models:
            cells = [_cell(rows, model, column, metric) for column in columns]
            parts.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(parts[1:])


def _cell(rows: list[dict[str, Any]], model: str, column: tuple[int, int], metric: str) -> str:
    for row in rows:
        if row["model"] == model and (row["cloud"], row["dates"]) == column:
            half = row[f"{metric}_half"]
            return f"{row[metric]:.3f}" + ("" if half is None else f" ± {half:.3f}")
    return ""


def not_led(rows: list[dict[str, Any]]) -> list[str]:
    """Sentences: under which conditions a peer is above the best TiMo, and by how much."""
    sentences = []
    for cloud, dates in sorted({(row["cloud"], row["dates"]) for row in rows}):
        here = [row for row in rows if (row["cloud"], row["dates"]) == (cloud, dates)]
        for metric, title in METRICS.items():
            ours = [row for row in here if row["model"].startswith("timo")]
            peers = [row for row in here if not row["model"].startswith("timo")]
            if not ours or not peers:
                continue
            best, rival = (max(group, key=lambda row: row[metric]) for group in (ours, peers))
            if rival[metric] > best[metric]:
                sentences.append(
                    f"{title}, {dates} dates, {cloud} % hidden: {rival['model']} {rival[metric]:.3f}, best TiMo "
                    f"({best['model']}) {best[metric]:.3f}"
                )
    return sentences


def costs(results: list[dict[str, Any]], epochs: int) -> str:
    """Markdown: parameters, and seconds an epoch (for the forest: seconds for all conditions together)."""
    lines = ["| | parameters | seconds an epoch | learning rate |", "|---|---|---|---|"]
    for model in dict.fromkeys(result["model"] for result in results):
        own = [result for result in results if result["model"] == model]
        seconds = float(np.median([result["seconds"] for result in own]))
        if own[0]["parameters"] is None:
            lines.append(f"| {model} | - | {seconds:.0f} s for all conditions | - |")
        else:
            millions = own[0]["parameters"] / 1e6
            lines.append(
                f"| {model} | {millions:.2f} M | {seconds / epochs:.1f} | {own[0]['rate']:g} |"
            )
    return "\n".join(lines)
