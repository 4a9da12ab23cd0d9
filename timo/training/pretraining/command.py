"""`python -m timo.training.pretrain`: pretraining from a shell, from torchrun and from Slurm."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timo.errors import TimoError

if TYPE_CHECKING:
    import xarray as xr

    from timo.models.mim import MaskedConfig
    from timo.places import Places

DESCRIPTION = """\
Pretrain an encoder on satellite image time series without labels, by masked image modelling.

The folder gets resume.ckpt, history.csv and pictures/ during the run, and model/ and encoder/ at its end. A run that
was interrupted, by Ctrl-C or in any other way, resumes with the same command and --resume."""

EPILOG = """\
examples:
  python -m timo.training.pretrain sample --folder runs/tiny --epochs 50 --exclude-test-blocks 320
  python -m timo.training.pretrain places.zarr --size base --folder runs/base --batch-size 512 --precision bf16-mixed \\
      --devices 8 --strategy ddp --workers 8
  torchrun --nnodes 4 --nproc-per-node 8 ... -m timo.training.pretrain places.zarr --size huge --folder runs/huge \\
      --batch-size 2048 --precision bf16-mixed --devices 8 --nodes 4 --strategy fsdp --workers 8 --resume"""

# Options that `pretrain` takes as they are.
_SAME = (
    *("epochs", "chips_per_epoch", "batch_size", "averaging", "accumulate", "precision"),
    *("accelerator", "num_nodes", "strategy", "workers", "seed", "folder", "resume"),
    *("checkpoint_every", "log", "picture_every"),
)


def parser() -> argparse.ArgumentParser:
    """Return the parser; options are named as those of `timo.pretrain`."""
    made = argparse.ArgumentParser(
        prog="python -m timo.training.pretrain",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = made.add_argument_group("data")
    group.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help='"sample", a cube (.nc, .zarr, or a folder of GeoTIFFs; several of the same bands may be given), or a '
        "chip store",
    )
    excluded = (
        "see nothing of every other block of this size (the test blocks of the checkerboard of "
        "timo.cube.split_blocks), and validate on some of the others"
    )
    _add(group, "exclude-test-blocks", float, excluded, metavar="SIZE_M")
    _add(group, "chip-size", int, "pixels, 0 = all", 64)
    pair = {"nargs": 2, "metavar": ("FEWEST", "MOST")}
    _add(group, "dates", int, "dates of a chip (3 8)", (3, 8), **pair)
    _add(group, "min-clear", float, "least share of clear pixels", 0.3)

    group = made.add_argument_group("model and masks")
    _add(group, "size", str, "tiny, small, base, large or huge", "tiny")
    _add(group, "unit", int, "side of a mask unit in pixels")
    predicted = (
        "what is predicted: values, or values less what is common to a frame, a unit or a batch"
    )
    _add(group, "target", str, predicted, "frame", choices=("frame", "values", "unit", "batch"))
    stem = "reads bands by their wavelengths, any of them, or these bands alone"
    _add(group, "stem", str, stem, "wavelength", choices=("wavelength", "plain"))
    _add(group, "ratio", float, "share hidden", 0.75)
    for scheme, chance in (("random", 1.0), ("tube", 0.0), ("date", 0.0)):
        text = f"how often {scheme} masks are drawn, relative to the others"
        _add(group, scheme, float, text, chance, metavar="CHANCE")

    group = made.add_argument_group("training")
    _add(group, "epochs", int, default=100)
    _add(group, "chips-per-epoch", int, "default: 320, or the places of a store")
    _add(group, "batch-size", int, "chips of a step, over all processes", 16)
    rate = "default: 1.5e-4 x batch size / 256, at least 2e-3 for tiny and 5e-4 for base"
    _add(group, "learning-rate", float, rate)
    _add(group, "weight-decay", float, default=0.05)
    _add(group, "warm-up", float, "share of the steps", 0.1)
    _add(group, "averaging", float, "decay of a moving average of the weights")
    _add(group, "seed", int, default=0)

    group = made.add_argument_group("machine")
    _add(group, "accelerator", str, "auto, cpu, cuda, mps", "auto")
    _add(group, "devices", str, 'a number, or "auto"', "1")
    _add(group, "nodes", int, default=1, dest="num_nodes")
    _add(group, "strategy", str, "auto, ddp, fsdp", "auto")
    precisions = ("32-true", "bf16-mixed", "16-mixed")
    _add(group, "precision", str, default="32-true", choices=precisions)
    _add(group, "accumulate", int, "parts of a process's share of a batch", 1)
    _add(group, "workers", int, "readers of each process", 0)

    group = made.add_argument_group("run")
    _add(group, "folder", Path, "where all is written", required=True)
    group.add_argument("--resume", action="store_true", help="resume an interrupted run")
    _add(group, "checkpoint-every", int, "steps", 100)
    _add(group, "log", str, default="csv", choices=("csv", "tensorboard"))
    _add(group, "picture-every", int, "draw reconstructions", metavar="EPOCHS")
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    return made


def _add(
    group: Any, name: str, kind: Any, text: str = "", default: Any = None, **more: Any
) -> None:
    """Add an option with its default in its help."""
    shown = "" if default is None or "nargs" in more else " (%(default)s)"
    group.add_argument(
        f"--{name}", type=kind, default=default, help=f"{text}{shown}".strip(), **more
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 2 where something given was wrong, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    try:
        _run(options)
    except TimoError as error:
        print(f"timo.training.pretrain: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print(f"interrupted: --resume goes on with {options.folder}", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    from timo.models.masking import MaskOptions
    from timo.training.pretrain import pretrain
    from timo.training.pretraining.module import PretrainOptions
    from timo.training.windows import WindowOptions

    data, exclude = open_data(options.data, options.exclude_test_blocks, options.seed)
    size, (fewest, most), devices = options.chip_size or None, options.dates, options.devices
    rates = options.learning_rate, options.weight_decay
    pretrain(
        data,
        _config(options, data),
        exclude=exclude,
        chips=WindowOptions(size=size, dates=(fewest, most), min_clear=options.min_clear),
        masks=MaskOptions(options.ratio, options.random, options.tube, options.date),
        optimisation=PretrainOptions(*rates, warm_up=options.warm_up),
        devices=int(devices) if devices.lstrip("-").isdigit() else devices,
        progress=not options.quiet,
        **{name: getattr(options, name) for name in _SAME},
    )


def _config(options: argparse.Namespace, data: "Places") -> "MaskedConfig":
    """Return the config of the autoencoder, for the bands of the data."""
    from timo.training.pretraining.recipe import autoencoder_config

    chosen = {"unit": options.unit, "target": options.target, "stem": options.stem}
    return autoencoder_config(options.size, data.bands, data.sensor or "sentinel-2", **chosen)


def open_data(
    names: Sequence[str], block_m: float | None, seed: int
) -> "tuple[Places, list[xr.DataArray] | None]":
    """Open the data by their names; return places and the split of each."""
    from timo import cube as cubes
    from timo.places import Places

    if len(names) == 1 and _is_store(Path(names[0])):
        if block_m is not None:
            raise TimoError(
                "--exclude-test-blocks is for cubes: pack a store without the test blocks"
            )
        return Places.from_store(names[0]), None
    series = [_open_cube(name) for name in names]
    if block_m is None:
        return Places(series), None
    # What is no test block is shared out nine to one between training and validation.
    fractions = (0.9, 0.1, 0.0)
    return Places(series), [
        cubes.split_blocks(cubes.blocks(cube, block_m), fractions=fractions, seed=seed)
        for cube in series
    ]


def _is_store(path: Path) -> bool:
    """Return whether it is a Zarr group that says that it holds chips."""
    from timo.places.packed.layout import FORMAT, METADATA

    file = path / METADATA
    return file.is_file() and f'"{FORMAT}"' in file.read_text(encoding="utf-8", errors="replace")


def _open_cube(name: str) -> "xr.DataArray":
    from timo.sources import SOURCES, open_cube

    path = Path(name).expanduser()
    if name in SOURCES and not path.exists():
        return open_cube(name)
    if not path.exists():
        raise TimoError(
            f"no data at '{name}': expected \"sample\", a .nc or .zarr of a cube, GeoTIFFs, or a chip store"
        )
    return open_cube("files", path=path)


if __name__ == "__main__":
    sys.exit(main())
