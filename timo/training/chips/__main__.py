"""Chip stores from the command line: ``python -m timo.training.chips pack|info|verify``."""

import argparse
import json
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from timo.compute import StepReport
from timo.crs import short_name
from timo.cube.blocks import PARTS
from timo.cube.netcdf import netcdf_engine
from timo.errors import TimoError
from timo.training.chips.packing import PackOptions, pack
from timo.training.chips.store import ChipStore
from timo.training.chips.verifying import verify

_DEFAULTS = PackOptions()
# More reference systems than these are counted, not listed.
_MOST_EXTENTS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 = done, 1 = the store is damaged, 2 = bad input."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except TimoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(
            "interrupted: what is complete is kept; give the same command again to go on\n"
        )
        return 130


def open_path(path: str) -> xr.DataArray:
    """Open "sample", a ``.zarr`` or a ``.nc`` as a lazy cube.

    Raises
    ------
    TimoError
        If there is no such file, it cannot be read, or holds no cube or several.
    """
    if path == "sample":
        from timo.sources import open_cube

        return open_cube("sample")
    dataset = _open(path)
    names = [n for n, v in dataset.data_vars.items() if set(v.dims) == {"time", "band", "y", "x"}]
    if len(names) != 1:
        raise TimoError(
            f"'{path}' must hold one variable with the dims time, band, y, x; it holds {len(names)} of them among "
            f"{list(dataset.data_vars)}. Save a cube with cube.to_dataset(name='cube').to_netcdf(...)"
        )
    cube = dataset[names[0]].transpose("time", "band", "y", "x")
    # Packed numbers are decoded to float64 by some libraries; a cube is float32.
    return cube.astype("float32") if np.issubdtype(cube.dtype, np.floating) else cube


def _open(path: str) -> xr.Dataset:
    if not Path(path).exists():
        raise TimoError(
            f"there is no '{path}': give \"sample\", or the path of a .zarr or .nc cube"
        )
    engine = "zarr" if Path(path).suffix == ".zarr" else netcdf_engine()
    try:
        return xr.open_dataset(path, engine=engine, chunks={}, decode_coords="all")
    except (ValueError, OSError, KeyError) as error:
        raise TimoError(
            f"'{path}' cannot be read as a .zarr or .nc cube: {str(error).splitlines()[0]}"
        ) from error


def _pack(parsed: argparse.Namespace) -> int:
    names = PackOptions.__dataclass_fields__
    options = {name: getattr(parsed, name) for name in names}
    exclude = None
    if parsed.exclude_split:
        exclude = _read_split(parsed.exclude_split, parsed.exclude_parts)
    cubes = [open_path(path) for path in parsed.cube]
    sizes = {f"{n}_bytes": int(getattr(parsed, f"{n}_mb") * 1e6) for n in ("shard", "memory")}
    done = pack(cubes, parsed.store, exclude=exclude, **sizes, progress=True, **options)
    sys.stdout.write(
        f"{done.written} places written, {done.already} were there, {done.unclear} not clear enough, "
        f"{done.excluded} excluded\n{describe(ChipStore(parsed.store).info())}\n"
    )
    return 0


def _read_split(path: str, parts: Sequence[str]) -> xr.DataArray:
    """True where one of the parts is, in a split that `timo.cube.split_blocks` made."""
    dataset = _open(path)
    names = [name for name, v in dataset.data_vars.items() if set(v.dims) == {"y", "x"}]
    if len(names) != 1:
        raise TimoError(
            f"'{path}' must hold one split with the dims y, x, as timo.cube.split_blocks makes it; it holds "
            f"{list(dataset.data_vars)}"
        )
    codes = [PARTS.index(part) for part in parts]
    return dataset[names[0]].isin(codes).compute()


def _info(parsed: argparse.Namespace) -> int:
    figures = ChipStore(parsed.store).info()
    text = json.dumps(figures, indent=2) if parsed.json else describe(figures)
    sys.stdout.write(f"{text}\n")
    return 0


def _verify(parsed: argparse.Namespace) -> int:
    last = deque([StepReport(0, 0)], maxlen=1)
    found = verify(parsed.store, on_step=last.append, progress=True)
    if not found:
        sys.stdout.write(f"{last[0].step} places, all as they were written\n")
        return 0
    for damage in found:
        sys.stdout.write(f"{damage}\n")
    places = len({d.place for d in found if d.place is not None})
    sys.stdout.write(
        f"damaged: {places} of {last[0].step} places. Restore the files from a copy, or pack the store again\n"
    )
    return 1


def describe(figures: dict[str, Any]) -> str:
    """Return what `ChipStore.info` found as text, for people."""
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
        # Places all over the world: their zones say more than the metres within each.
        names = sorted(short_name(crs) for crs in extents)
        return [f"in {len(names)} coordinate reference systems, {names[0]} to {names[-1]}"]
    return [
        f"{', '.join(f'{edge:.10g}' for edge in extent)} in {short_name(crs)}"
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m timo.training.chips", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="pack|info|verify")
    _add_pack(commands.add_parser("pack", help="cut places out of cubes and add them to a store"))
    info = commands.add_parser("info", help="say what a store holds")
    info.add_argument("store", metavar="STORE")
    info.add_argument("--json", action="store_true", help="for programs")
    info.set_defaults(run=_info)
    check = commands.add_parser("verify", help="read everything; exit code 1 if damaged")
    check.add_argument("store", metavar="STORE")
    check.set_defaults(run=_verify)
    return parser


def _add_pack(parser: argparse.ArgumentParser) -> None:
    def option(name: str, kind: Any, text: str) -> None:
        default = getattr(_DEFAULTS, name)
        # A % would be taken for a format.
        shown = "" if default is None else f" (default {default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=default, help=text + shown
        )

    parser.description = (
        "What is packed is not packed twice: after an interruption, give the same command again."
    )
    parser.add_argument("cube", nargs="+", metavar="CUBE", help='"sample", or a .zarr or .nc cube')
    parser.add_argument("store", metavar="STORE", help="the store; created if it is not there")
    option("size", int, "height and width of a place in pixels")
    option("stride", int, "pixels from one place to the next (default: size)")
    option("start", str, "first date")
    option("end", str, "last date, included; 2019 means all of it")
    option("dates", int, "most dates of a place (default: all)")
    option("min_clear", float, "least share of valid pixels of a date")
    option("min_dates", int, "least number of such dates")
    option("dtype", str, "int16 or float32")
    option("scale", float, "step of int16 (default: the sensor's)")
    option("offset", float, "physical value of number 0 (default: the sensor's)")
    parser.add_argument("--shard-mb", type=float, default=268, help="size of a shard, unpacked")
    parser.add_argument("--memory-mb", type=float, default=537, help="memory to be content with")
    text = "a .nc or .zarr of (y, x) parts, as timo.cube.split_blocks makes them, to keep out of the store"
    parser.add_argument("--exclude-split", metavar="FILE", help=text)
    parts = {"nargs": "+", "choices": PARTS, "default": ["test"]}
    parser.add_argument("--exclude-parts", **parts, help="which parts (default test)")  # type: ignore[arg-type]
    parser.set_defaults(run=_pack)


if __name__ == "__main__":
    sys.exit(main())
