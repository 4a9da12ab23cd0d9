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
    from timo.training.chips.store import ChipStore

DESCRIPTION = """\
Pretrain an encoder on satellite image time series without labels, by masked image modelling.

The folder gets resume.ckpt, history.csv and pictures/ during the run, and model/ and encoder/ at its end. A run that
was interrupted, by Ctrl-C or in any other way, goes on when the same command is given with --resume."""

EPILOG = """\
examples:
  python -m timo.training.pretrain sample --folder runs/tiny --epochs 50 --exclude-test-blocks 320
  python -m timo.training.pretrain places.zarr --size base --folder runs/base --batch-size 512 --precision bf16-mixed \\
      --devices 8 --strategy ddp --workers 8
  torchrun --nnodes 4 --nproc-per-node 8 ... -m timo.training.pretrain places.zarr --size huge --folder runs/huge \\
      --batch-size 2048 --precision bf16-mixed --devices 8 --nodes 4 --strategy fsdp --workers 8 --resume"""


def parser() -> argparse.ArgumentParser:
    """The options; their names are those of `timo.pretrain`."""
    made = argparse.ArgumentParser(
        prog="python -m timo.training.pretrain",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data(made.add_argument_group("data"))
    _add_training(made.add_argument_group("training"))
    _add_machine(made.add_argument_group("machine"))
    _add_run(made.add_argument_group("run"))
    return made


def _add_data(group: Any) -> None:
    group.add_argument(
        "data",
        nargs="+",
        metavar="DATA",
        help='"sample", a cube (.nc or .zarr; several of the same bands may be given), or a chip store',
    )
    group.add_argument(
        "--exclude-test-blocks",
        type=float,
        metavar="SIZE_M",
        help="see nothing of every other block of so many metres (the test blocks of the checkerboard of "
        "timo.cube.split_blocks), and validate on some of the others",
    )
    group.add_argument("--chip-size", type=int, default=64, help="pixels, 0 = all (%(default)s)")
    group.add_argument(
        "--dates",
        type=int,
        nargs=2,
        default=(3, 8),
        metavar=("FEWEST", "MOST"),
        help="dates of a chip (3 8)",
    )
    group.add_argument(
        "--min-clear", type=float, default=0.3, help="least share of clear pixels (%(default)s)"
    )


def _add_training(group: Any) -> None:
    group.add_argument(
        "--size", default="tiny", help="tiny, small, base, large or huge (%(default)s)"
    )
    group.add_argument("--unit", type=int, help="side of a mask unit in pixels")
    group.add_argument(
        "--target",
        default="frame",
        choices=("frame", "values", "unit", "batch"),
        help="what is told: values, or values less what is common to a frame, a unit or a batch (%(default)s)",
    )
    group.add_argument(
        "--stem",
        default="wavelength",
        choices=("wavelength", "plain"),
        help="reads bands by their wavelengths, any of them, or these bands alone (%(default)s)",
    )
    group.add_argument("--ratio", type=float, default=0.75, help="share hidden (%(default)s)")
    for scheme, chance in (("random", 1.0), ("tube", 0.0), ("date", 0.0)):
        group.add_argument(
            f"--{scheme}",
            type=float,
            default=chance,
            metavar="CHANCE",
            help=f"how often {scheme} masks are drawn, relative to the others (%(default)s)",
        )
    group.add_argument("--epochs", type=int, default=100, help="(%(default)s)")
    group.add_argument("--chips-per-epoch", type=int, help="default: 320, or the places of a store")
    group.add_argument(
        "--batch-size",
        type=int,
        default=16,
        help="chips of a step, over all processes (%(default)s)",
    )
    group.add_argument(
        "--learning-rate",
        type=float,
        help="default: 1.5e-4 x batch size / 256, at least 2e-3 for tiny and 5e-4 for base",
    )
    group.add_argument("--weight-decay", type=float, default=0.05, help="(%(default)s)")
    group.add_argument(
        "--warm-up", type=float, default=0.1, help="share of the steps (%(default)s)"
    )
    group.add_argument("--averaging", type=float, help="decay of a moving average of the weights")
    group.add_argument("--seed", type=int, default=0, help="(%(default)s)")


def _add_machine(group: Any) -> None:
    group.add_argument("--accelerator", default="auto", help="auto, cpu, cuda, mps (%(default)s)")
    group.add_argument("--devices", default="1", help='a number, or "auto" (%(default)s)')
    group.add_argument("--nodes", type=int, default=1, help="(%(default)s)")
    group.add_argument("--strategy", default="auto", help="auto, ddp, fsdp (%(default)s)")
    group.add_argument(
        "--precision",
        default="32-true",
        choices=("32-true", "bf16-mixed", "16-mixed"),
        help="(%(default)s)",
    )
    group.add_argument(
        "--accumulate",
        type=int,
        default=1,
        help="parts of a process's share of a batch (%(default)s)",
    )
    group.add_argument(
        "--workers", type=int, default=0, help="readers of each process (%(default)s)"
    )


def _add_run(group: Any) -> None:
    group.add_argument("--folder", type=Path, required=True, help="where all is written")
    group.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    group.add_argument("--checkpoint-every", type=int, default=100, help="steps (%(default)s)")
    group.add_argument("--log", choices=("csv", "tensorboard"), default="csv", help="(%(default)s)")
    group.add_argument("--picture-every", type=int, metavar="EPOCHS", help="draw reconstructions")
    group.add_argument("--quiet", action="store_true", help="no progress bar")


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
    from timo.training.pretraining.windows import WindowOptions

    data, exclude = open_data(options.data, options.exclude_test_blocks, options.seed)
    devices = options.devices
    pretrain(
        data,
        _config(options, data),
        exclude=exclude,
        epochs=options.epochs,
        chips_per_epoch=options.chips_per_epoch,
        batch_size=options.batch_size,
        chips=WindowOptions(
            size=options.chip_size or None,
            dates=(options.dates[0], options.dates[1]),
            min_clear=options.min_clear,
        ),
        masks=MaskOptions(options.ratio, options.random, options.tube, options.date),
        optimisation=PretrainOptions(
            options.learning_rate, options.weight_decay, warm_up=options.warm_up
        ),
        averaging=options.averaging,
        accumulate=options.accumulate,
        precision=options.precision,
        accelerator=options.accelerator,
        devices=int(devices) if devices.lstrip("-").isdigit() else devices,
        num_nodes=options.nodes,
        strategy=options.strategy,
        workers=options.workers,
        seed=options.seed,
        folder=options.folder,
        resume=options.resume,
        checkpoint_every=options.checkpoint_every,
        log=options.log,
        picture_every=options.picture_every,
        progress=not options.quiet,
    )


def _config(options: argparse.Namespace, data: "list[xr.DataArray] | ChipStore") -> "MaskedConfig":
    """The autoencoder that is asked for, for the bands that there are."""
    from timo.training.chips.store import ChipStore
    from timo.training.pretraining.recipe import autoencoder_config

    if isinstance(data, ChipStore):
        bands, sensor = tuple(data.layout.bands), data.layout.sensor
    else:
        bands, sensor = tuple(map(str, data[0].band.values)), data[0].attrs.get("sensor")
    chosen = {"unit": options.unit, "target": options.target, "stem": options.stem}
    return autoencoder_config(options.size, bands, sensor or "sentinel-2", **chosen)


def open_data(
    names: Sequence[str], block_m: float | None, seed: int
) -> "tuple[list[xr.DataArray] | ChipStore, list[xr.DataArray] | None]":
    """What the names stand for, and the split of each cube.

    Raises
    ------
    TimoError
        If a name is none of a source, a cube or a chip store, or blocks are wanted of a store.
    """
    from timo import cube as cubes
    from timo.training.chips.store import ChipStore

    if len(names) == 1 and _is_store(Path(names[0])):
        if block_m is not None:
            raise TimoError(
                "--exclude-test-blocks is for cubes: pack a store without the test blocks"
            )
        return ChipStore(names[0]), None
    series = [_open_cube(name) for name in names]
    if block_m is None:
        return series, None
    # What is no test block is shared out nine to one between training and validation.
    fractions = (0.9, 0.1, 0.0)
    return series, [
        cubes.split_blocks(cubes.blocks(cube, block_m), fractions=fractions, seed=seed)
        for cube in series
    ]


def _is_store(path: Path) -> bool:
    """Whether it is a Zarr group that says that it holds chips."""
    from timo.training.chips.layout import FORMAT, METADATA

    file = path / METADATA
    return file.is_file() and f'"{FORMAT}"' in file.read_text(encoding="utf-8", errors="replace")


def _open_cube(name: str) -> "xr.DataArray":
    import xarray as xr

    from timo import cube as cubes
    from timo.sources import SOURCES, open_cube

    path = Path(name).expanduser()
    if name in SOURCES and not path.exists():
        return open_cube(name)
    if not path.exists():
        raise TimoError(
            f"no data at '{name}': expected \"sample\", a .nc or .zarr of a cube, or a chip store"
        )
    from timo.cube.netcdf import netcdf_engine

    try:
        opened = xr.open_dataset(
            path, decode_coords="all", engine="zarr" if path.is_dir() else netcdf_engine()
        )
    except (OSError, ValueError, LookupError) as error:
        raise TimoError(f"'{name}' is no cube that xarray can open: {error}") from error
    found = [v for v in opened.data_vars.values() if set(v.dims) == {"time", "band", "y", "x"}]
    if len(found) != 1:
        raise TimoError(
            f"'{name}' holds {len(found)} arrays with the dims (time, band, y, x): expected one, a cube"
        )
    return cubes.check(found[0].astype("float32"))


if __name__ == "__main__":
    sys.exit(main())
