"""Seconds and memory of a step of masked image modelling: valid tokens only beside all tokens.

In turns, in one run: a training step of `MaskedAutoencoder` (forward and backward, and of it what the encoder takes) as
it is (``packed``), and with an encoder whose blocks compute the hidden tokens too (``dense``). The table gives medians
over the rounds; what is valid is the share of tokens of each stage. From the root of the repository::

    python benchmarks/masked.py --json masked.json
"""

import argparse
import dataclasses
import json
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import measures
import torch

from timo.models import packed
from timo.models.config import encoder_config
from timo.models.masking import MaskOptions, draw_mask, units_with_any
from timo.models.mim import MaskedAutoencoder, MaskedConfig

BANDS = 10
FORMS = ("dense", "packed")


@dataclass(frozen=True)
class Case:
    """One row: which encoder is pretrained on which series, hidden how."""

    size: str
    pixels: int
    dates: int
    batch: int
    unit: int
    scheme: str = "random"
    ratio: float = 0.75

    def model(self) -> MaskedAutoencoder:
        names = tuple(f"band {i}" for i in range(BANDS))
        return MaskedAutoencoder(
            MaskedConfig(
                encoder_config(self.size, BANDS),
                names,
                mean=(0.0,) * BANDS,
                std=(1.0,) * BANDS,
                unit=self.unit,
            )
        ).train()

    def hidden(self) -> torch.Tensor:
        """A mask for each sample, the same in every run."""
        generator = torch.Generator().manual_seed(0)
        side = -(-self.pixels // self.unit)
        options = MaskOptions(self.ratio, **({"random": 0.0} | {self.scheme: 1.0}))
        present = torch.ones(self.dates, side, side, dtype=torch.bool)
        return torch.stack([draw_mask(present, options, generator) for _ in range(self.batch)])

    def shares(self) -> list[float]:
        """Share of valid tokens of each stage, in percent."""
        hidden = self.hidden()
        pixels = hidden.repeat_interleave(self.unit, -2).repeat_interleave(self.unit, -1)
        seen = ~pixels[..., : self.pixels, : self.pixels]
        around = (0, -self.pixels % 32, 0, -self.pixels % 32)
        seen = torch.nn.functional.pad(seen, around)
        return [100 * float(units_with_any(seen, s).float().mean()) for s in (4, 8, 16, 32)]


CASES = (
    Case("base", 224, 3, 1, 32),
    Case("base", 224, 3, 1, 32, "tube"),
    Case("base", 224, 6, 1, 32),
    Case("tiny", 32, 6, 8, 8),
    Case("tiny", 32, 6, 8, 4),
    Case("tiny", 128, 6, 2, 32),
)
QUICK = (Case("tiny", 32, 2, 1, 8),)


@contextmanager
def form(name: str) -> Iterator[None]:
    """Whether the encoder packs what it is allowed to."""
    with patch.object(packed, "MOST", -1.0 if name == "dense" else packed.MOST):
        yield


def runs(case: Case, device: torch.device) -> dict[str, Callable[[], Any]]:
    """The training step, and the forward and backward pass of its encoder alone."""
    torch.manual_seed(0)
    model = case.model().to(device)
    x = torch.randn(case.batch, case.dates, BANDS, case.pixels, case.pixels, device=device)
    hidden = case.hidden().to(device)
    pixels = hidden.repeat_interleave(case.unit, -2).repeat_interleave(case.unit, -1)
    seen = ~pixels[..., : case.pixels, : case.pixels]

    def step() -> None:
        model(x, hidden).loss.backward()
        model.zero_grad(set_to_none=True)

    def encoder() -> None:
        maps = model.encoder(x, None, seen, packed=True)
        sum(m.float().square().mean() for m in maps).backward()
        model.zero_grad(set_to_none=True)

    return {"step": step, "encoder": encoder}


def row_of(case: Case, repeats: int, device: torch.device) -> dict[str, Any]:
    """Medians of the case, of both forms in turns."""
    todo = runs(case, device)
    times: dict[str, list[float]] = {f"{what} {name}": [] for what in todo for name in FORMS}
    memory = {}
    for name in FORMS:
        with form(name):
            todo["step"]()
            memory[name] = measures.peak(todo["step"], device)
    for _ in range(repeats):
        for what, run in todo.items():
            for name in FORMS:
                with form(name):
                    times[f"{what} {name}"].append(measures.seconds(run, device))
    row = dataclasses.asdict(case) | {"valid": case.shares()}
    row |= {key: statistics.median(taken) for key, taken in times.items()}
    row |= {f"MiB {name}": bytes_ and bytes_ / measures.MIB for name, bytes_ in memory.items()}
    return row


def show(row: dict[str, Any]) -> str:
    """A row as text."""
    case = "{size:6} {pixels:4} px T={dates:<2} b={batch:<2} unit {unit:<2} {scheme:6}".format(
        **row
    )
    valid = "/".join(f"{share:.0f}" for share in row["valid"])
    parts = [f"{case} valid {valid:15} %"]
    for what in ("step", "encoder"):
        dense, ours = (row[f"{what} {name}"] for name in FORMS)
        parts.append(f"{what} {dense:7.3f} -> {ours:7.3f} s ({dense / ours:4.2f} x)")
    if row["MiB dense"] is not None:
        parts.append(f"{row['MiB dense']:6.0f} -> {row['MiB packed']:6.0f} MiB")
    return "  ".join(parts)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="seconds: does it run?")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for case in QUICK if args.quick else CASES:
        rows.append(row_of(case, 1 if args.quick else args.repeats, device))
        print(show(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
