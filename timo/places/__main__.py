"""Chip stores from the command line: ``python -m timo.places pack|info|verify``."""

import argparse
import json
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from timo.commands import add_fields, run_command
from timo.compute import StepReport
from timo.crs import short_name
from timo.cube.blocks import PARTS
from timo.cube.netcdf import netcdf_engine
from timo.errors import TimoError
from timo.places.packed.packing import PackOptions, pack
from timo.places.packed.store import ChipStore
from timo.places.packed.verifying import verify

# Field of `PackOptions` -> help.
_HELP = {
    "size": "height and width of a place in pixels",
    "stride": "pixels from one place to the next (default: size)",
    "start": "first date",
    "end": "last date, included; 2019 means all of it",
    "dates": "most dates of a place (default: all)",
    "min_clear": "least share of valid pixels of a date",
    "min_dates": "least number of such dates",
    "dtype": "int16 or float32",
    "scale": "step of int16 (default: the sensor's)",
    "offset": "physical value of number 0 (default: the sensor's)",
}
# More reference systems than these are counted, not listed.
_MOST_EXTENTS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 = done, 1 = the store is damaged, 2 = bad input, 130 = interrupted."""
    parsed = _parser().parse_args(arguments)
    return run_command(lambda: int(parsed.run(parsed)))


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
    cube = _only(path, ("time", "band", "y", "x"), "cube.to_dataset(name='cube').to_netcdf(...)")
    # Packed numbers are decoded to float64 by some libraries; a cube is float32.
    return cube.astype("float32") if np.issubdtype(cube.dtype, np.floating) else cube


def _only(path: str, dims: tuple[str, ...], remedy: str) -> xr.DataArray:
    """Open the one variable of a file that has the dims, lazily."""
    if not Path(path).exists():
        raise TimoError(
            f"there is no '{path}': give \"sample\", or the path of a .zarr or .nc cube"
        )
    engine = "zarr" if Path(path).suffix == ".zarr" else netcdf_engine()
    try:
        dataset = xr.open_dataset(path, engine=engine, chunks={}, decode_coords="all")
    except (ValueError, OSError, KeyError) as error:
        raise TimoError(
            f"'{path}' cannot be read as a .zarr or .nc cube: {str(error).splitlines()[0]}"
        ) from error
    found = [variable for variable in dataset.data_vars.values() if set(variable.dims) == set(dims)]
    if len(found) != 1:
        raise TimoError(
            f"'{path}' must hold one variable with the dims {', '.join(dims)}; it holds {len(found)} of them among "
            f"{list(dataset.data_vars)}. Save it with {remedy}"
        )
    return found[0].transpose(*dims)


def _pack(parsed: argparse.Namespace) -> int:
    options = {name: getattr(parsed, name) for name in _HELP}
    exclude = None
    if parsed.exclude_split:
        split = _only(
            parsed.exclude_split, ("y", "x"), "timo.cube.split_blocks(...).to_netcdf(...)"
        )
        exclude = split.isin([PARTS.index(part) for part in parsed.exclude_parts]).compute()
    cubes = [open_path(path) for path in parsed.cube]
    sizes = {f"{n}_bytes": int(getattr(parsed, f"{n}_mb") * 1e6) for n in ("shard", "memory")}
    done = pack(cubes, parsed.store, exclude=exclude, **sizes, progress=True, **options)
    sys.stdout.write(
        f"{done.written} places written, {done.already} were there, {done.unclear} not clear enough, "
        f"{done.excluded} excluded\n{describe(ChipStore(parsed.store).info())}\n"
    )
    return 0


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
    images, values = "0", figures["dtype"]
    if figures["images"]:
        fewest, median, most = figures["dates"]
        images = (
            f"{figures['images']}: {fewest} to {most} dates a place (median {median:g}), "
            f"{100 * figures['clear']:.0f} % of the pixels valid"
        )
    if values == "int16":
        error = figures["largest_error"]
        exact = f"largest rounding error {error:.2g}" if error else "exact"
        values = f"int16 in steps of {figures['scale']:g} ({exact})"
    extents = {short_name(crs): edges for crs, edges in figures["extent"].items()}
    places = [f"{', '.join(f'{e:.10g}' for e in edges)} in {crs}" for crs, edges in extents.items()]
    if len(extents) > _MOST_EXTENTS:
        # Places all over the world: their zones say more than the metres within each.
        places = [
            f"in {len(extents)} coordinate reference systems, {min(extents)} to {max(extents)}"
        ]
    lines = {
        "places": f"{figures['places']} of {figures['size']} x {figures['size']} pixels",
        "images": images,
        "dates": f"{figures['first']} to {figures['last']}" if figures["first"] else "none",
        "sensor": figures["sensor"] or "not said",
        "bands": ", ".join(figures["bands"]),
        "values": ", ".join(filter(None, (values, figures["units"]))),
        "on disk": f"{figures['bytes'] / 1e6:.1f} MB in {figures['files']} files",
    }
    rows = [f"{name:<12}{value}" for name, value in lines.items()]
    for name in ("extent", "source", "attribution"):
        held = places if name == "extent" else figures[name]
        rows += [f"{name:<12}{value}" for value in held]
    return "\n".join(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m timo.places", description=__doc__)
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
    parser.description = (
        "What is packed is not packed twice: after an interruption, give the same command again."
    )
    parser.add_argument("cube", nargs="+", metavar="CUBE", help='"sample", or a .zarr or .nc cube')
    parser.add_argument("store", metavar="STORE", help="the store; created if it is not there")
    add_fields(parser, PackOptions(), _HELP)
    parser.add_argument("--shard-mb", type=float, default=268, help="size of a shard, unpacked")
    parser.add_argument("--memory-mb", type=float, default=537, help="memory budget")
    text = "a .nc or .zarr of (y, x) parts, as timo.cube.split_blocks makes them, to keep out of the store"
    parser.add_argument("--exclude-split", metavar="FILE", help=text)
    parts = {"nargs": "+", "choices": PARTS, "default": ["test"]}
    parser.add_argument("--exclude-parts", **parts, help="which parts (default test)")  # type: ignore[arg-type]
    parser.set_defaults(run=_pack)


if __name__ == "__main__":
    sys.exit(main())
