"""Seconds and memory of the encoder: fused attention beside the naive, the floor of its products, and a peer.

In turns, in one run: the encoder with fused attention (``fused``), with the joint softmax as its formula reads
(``plain``), in bfloat16 (``bf16``), and with STGA in stages 3 and 4 instead of attention over all tokens of all dates
(``factorised``, an option for many dates); and Prithvi's encoder, where terratorch's module is at hand. A large matrix
product is timed in the same turns: the floor of a form is its floating-point operations over that rate. The table gives
medians over the rounds; ``--tokens 4 2 1`` measures our forms at each of these token sizes, in pixels. With
``--processor-time`` seconds are those that the process was given, which counts on a machine shared with others. Peak
memory is that of a process of its own for each row. From the root of the repository::

    python benchmarks/encoder.py --sizes base --dates 3 6 12 24 --pixels 128 224 --json encoder.json
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import measures
import pandas as pd
import torch
from peers import prithvi
from torch import nn

from timo.errors import TimoError
from timo.models import attention, create_encoder

# The naive form is what the tests hold the fused one against.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
import plain_attention as plain

BANDS = 10
OURS = ("fused", "plain", "bf16", "factorised")
FORMS = (*OURS, *prithvi.SIZES)
FACTORISED = ("d-stga", "d-stga", "stga", "stga")
# Of the logits of one block of stage 1, how many copies the plain form holds at once: measured, forward and training.
COPIES = {"forward": 4.5, "train": 10.0}


@dataclass(frozen=True)
class Case:
    """One row: which model does what on which input."""

    size: str
    pixels: int
    dates: int
    step: str
    form: str
    peer: str = ""
    token: int = 4

    @property
    def bands(self) -> int:
        return BANDS if self.form in OURS else prithvi.BANDS

    def model(self, device: torch.device) -> nn.Module:
        with torch.device(device):
            if self.form not in OURS:
                module, _ = prithvi.load(Path(self.peer))
                return prithvi.Prithvi(module, self.form, self.dates, self.pixels)
            options = {"attention": FACTORISED} if self.form == "factorised" else {}
            return create_encoder(self.size, BANDS, token=self.token, **options)

    def run(self, model: nn.Module, device: torch.device) -> Callable[[], None]:
        """The step that is measured, on random input."""
        x = torch.randn(1, self.dates, self.bands, self.pixels, self.pixels, device=device)
        model.train(self.step == "train")

        def call() -> None:
            with context(self.form, device), torch.inference_mode(self.step == "forward"):
                maps = model(x)
                if self.step == "train":
                    # Autocast is for the forward pass; a loss that no output escapes.
                    sum(m.float().square().mean() for m in maps).backward()
                    model.zero_grad(set_to_none=True)

        return call

    def too_large(self, device: torch.device) -> str:
        """Why it cannot be run, or nothing."""
        if self.form != "plain":
            return ""
        places, heads = (self.pixels // self.token) ** 2, first_heads(self.size)
        logits = 4 * heads * self.dates * places * (places + self.dates)
        wanted, there = COPIES[self.step] * logits, measures.available(device)
        if wanted < 0.8 * there:
            return ""
        return f"needs about {wanted / 2**30:.0f} GiB, {there / 2**30:.0f} GiB are free"


def first_heads(size: str) -> int:
    with torch.device("meta"):
        return create_encoder(size, BANDS).config.heads[0]


@contextmanager
def context(form: str, device: torch.device) -> Iterator[None]:
    """What makes the form of the fused encoder."""
    if form == "plain":
        with (
            patch.object(attention, "dstga", plain.dstga),
            patch.object(attention, "stga", plain.stga),
        ):
            yield
    else:
        half = form == "bf16"
        with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            yield


def count(case: Case) -> int:
    """Floating-point operations of a case; of the plain form those of the fused one, which needs fewer."""
    fused = dataclasses.replace(case, form="fused" if case.form in {"plain", "bf16"} else case.form)
    meta = torch.device("meta")
    return measures.flops(fused.run(fused.model(meta), meta))


def memory_of(case: Case, threads: int) -> float | None:
    """MiB above the model, measured in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", json.dumps(dataclasses.asdict(case))]
    command += ["--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TimoError(f"{case} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def print_memory(case: Case, device: torch.device) -> None:
    """What the process of `memory_of` does."""
    # Libraries that are loaded at first use are no memory of the case.
    form = case.form if case.form in OURS else "fused"
    small = dataclasses.replace(case, size="tiny", form=form, pixels=32, dates=2, token=4)
    small.run(small.model(device), device)()
    run = case.run(case.model(device), device)
    taken = measures.peak(run, device)
    print(json.dumps(None if taken is None else taken / measures.MIB))


def time_together(
    cases: list[Case], args: argparse.Namespace, device: torch.device
) -> tuple[dict[Case, float], float]:
    """Median seconds of each case and of the rate of products, in turns."""
    clock = time.process_time if args.processor_time else time.perf_counter
    rate = measures.product(device, args.product, clock)
    runs = {case: case.run(case.model(device), device) for case in cases}
    times: dict[Case, list[float]] = {case: [] for case in cases}
    rates = []
    for run in runs.values():
        run()
    for _ in range(args.repeats):
        rates.append(rate())
        for case, run in runs.items():
            times[case].append(measures.seconds(run, device, clock))
    medians = {case: statistics.median(taken) for case, taken in times.items()}
    return medians, statistics.median(rates)


def rows_of(
    cases: list[Case], args: argparse.Namespace, device: torch.device
) -> Iterator[dict[str, Any]]:
    """The rows of one input and step."""
    skipped = {case: reason for case in cases if (reason := case.too_large(device))}
    taken, rate = time_together([case for case in cases if case not in skipped], args, device)
    naives = {case.token: t for case, t in taken.items() if case.form == "plain"}
    for case in cases:
        row = dataclasses.asdict(case)
        row |= {"seconds": None, "GFLOP": None, "GFLOP/s of products": rate / 1e9}
        row |= {"% of the floor": None, "times plain": None, "MiB": None}
        row["skipped"] = skipped.get(case, "")
        if case in taken:
            work = count(case)
            row |= {"seconds": taken[case], "GFLOP": work / 1e9}
            # In bfloat16 the products have another rate.
            row["% of the floor"] = None if case.form == "bf16" else 100 * work / rate / taken[case]
            naive = naives.get(case.token) if case.form in OURS else None
            row["times plain"] = naive and naive / taken[case]
            row["MiB"] = None if args.no_memory else memory_of(case, args.threads)
        yield row


def linearity(rows: list[dict[str, Any]]) -> list[str]:
    """For each kind of row: how far seconds are from being linear in T, once what is quadratic is counted.

    The counted operations are c + a T + b T^2: the logits of D-STGA, which are one for all dates; what is done date by
    date; and the attention over all dates. Seconds are compared with these at one speed, the median.
    """
    table = pd.DataFrame(rows)
    table = table[table["seconds"].notna() & ~table["form"].isin(["plain", "bf16"])]
    lines = []
    for key, group in table.groupby(["size", "pixels", "step", "form", "token"], sort=False):
        if len(group) < 2:
            continue
        dates, time, work = (group[name].to_numpy(float) for name in ("dates", "seconds", "GFLOP"))
        speed = statistics.median(work / time)
        off = 100 * (time * speed / work - 1)
        points = ", ".join(
            f"T={t:.0f} {1e3 * s / t:.0f} ms a date ({o:+.0f} %)"
            for t, s, o in zip(dates, time, off, strict=True)
        )
        c, a, b = polynomial(Case(**group.iloc[0][[f.name for f in dataclasses.fields(Case)]]))
        name = " ".join(map(str, key))
        lines.append(
            f"{name}: {c:.2f} + {a:.2f} T + {b:.4f} T^2 GFLOP at {speed:.0f} GFLOP/s; {points}"
        )
    return lines


def polynomial(case: Case) -> tuple[float, float, float]:
    """The c, a and b of c + a T + b T^2 GFLOP, counted at three T."""
    one, two, three = (count(dataclasses.replace(case, dates=t)) / 1e9 for t in (1, 2, 3))
    b = (three - 2 * two + one) / 2
    a = two - one - 3 * b
    return one - a - b, a, b


def find_peer(args: argparse.Namespace) -> tuple[str, str]:
    """Path of the peer's module and a word on it; no path where it cannot be imported."""
    if not set(args.forms) & set(prithvi.SIZES):
        return "", "not asked for"
    try:
        path = prithvi.find(args.peer)
        _, how = prithvi.load(path)
    except (TimoError, ImportError) as error:
        return "", f"not measured: {error}"
    return str(path), how


def all_cases(args: argparse.Namespace, peer: str) -> Iterator[list[Case]]:
    """The cases of a size, input and step, which are timed in turns."""
    for size in args.sizes:
        forms = [form for form in args.forms if form in OURS or (peer and size == "base")]
        for pixels in args.pixels:
            for step in args.steps:
                for dates in args.dates:
                    # A peer has patches of one size.
                    yield [
                        Case(size, pixels, dates, step, form, peer, token)
                        for form in forms
                        for token in (args.tokens if form in OURS else args.tokens[:1])
                    ]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything, printed row by row as it comes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    peer, word = find_peer(args)
    machine = f"{name or platform.machine()}, {args.threads} threads, torch {torch.__version__}"
    print(f"{machine}\nprithvi: {word}", flush=True)
    rows: list[dict[str, Any]] = []
    for cases in all_cases(args, peer):
        rows += rows_of(cases, args, device)
        print(show(rows[-len(cases) :], header=len(rows) == len(cases)), flush=True)
    lines = linearity(rows)
    print("\nSeconds beside the counted operations at one speed (deviation in brackets):")
    print("\n".join(lines) or "needs two numbers of dates")
    return {"machine": machine, "prithvi": word, "rows": rows, "linearity": lines}


def show(rows: Iterable[dict[str, Any]], *, header: bool) -> str:
    """Rows as text."""
    columns = {
        "size": "{:6}",
        "pixels": "{:>6}",
        "dates": "{:>5}",
        "step": "{:8}",
        "form": "{:13}",
        "token": "{:>5}",
        "seconds": "{:>9.3f}",
        "times plain": "{:>11.2f}",
        "GFLOP": "{:>9.1f}",
        "% of the floor": "{:>14.0f}",
        "MiB": "{:>7.0f}",
    }
    width = {name: len(form.format(0 if ">" in form else "")) for name, form in columns.items()}
    lines = [" ".join(f"{name:>{width[name]}}" for name in columns)] if header else []
    for row in rows:
        cells = (
            "-".rjust(width[name]) if row[name] is None else form.format(row[name])
            for name, form in columns.items()
        )
        lines.append(" ".join(cells) + (f"  skipped: {row['skipped']}" if row["skipped"] else ""))
    return "\n".join(lines)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["base"])
    parser.add_argument("--dates", type=int, nargs="+", default=[3, 6, 12, 24])
    parser.add_argument("--pixels", type=int, nargs="+", default=[128, 224])
    parser.add_argument("--tokens", type=int, nargs="+", default=[4], choices=(4, 2, 1))
    parser.add_argument("--steps", nargs="+", choices=COPIES, default=list(COPIES))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--product", type=int, default=2048, help="side of the matrix product")
    parser.add_argument("--peer", type=Path, help="terratorch's prithvi_mae.py, or a folder of it")
    parser.add_argument("--processor-time", action="store_true", help="and not that of the clock")
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--quick", action="store_true", help="seconds: does it run?")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.quick:
        args.sizes, args.pixels, args.dates, args.repeats = ["tiny"], [32], [1, 2], 1
        args.product = 256
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.memory_of:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        print_memory(Case(**json.loads(args.memory_of)), device)
        return
    results = measure(args)
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
