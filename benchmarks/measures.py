"""What the encoder's benchmark measures with: floating-point operations, the rate of products, seconds and bytes."""

import ctypes
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

MIB = 2**20


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(
    run: Callable[[], Any], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one call, the accelerator's work included."""
    synchronize(device)
    start = clock()
    run()
    synchronize(device)
    return clock() - start


def _gyroscope(sq: list[int], sk: list[int], q: list[int], *_: Any, **__: Any) -> int:
    g, n, h, d = sq
    b, t = q[:2]
    # Logits and means of the values: over the frame, for all dates of a group, and over the dates.
    return 2 * h * d * (g * n * n + b * t * n * n + 2 * b * n * t * t)


def _gyroscope_backward(
    gradient: Any, out: Any, lse: Any, sq: list[int], sk: Any, q: list[int], *_: Any, **__: Any
) -> int:
    g, n, h, d = sq
    b, t = q[:2]
    # Logits, dq and dk once for all dates; dP and dv for each.
    return 2 * h * d * (3 * g * n * n + 2 * b * t * n * n + 5 * b * n * t * t)


def _added_product(_: Any, a: list[int], b: list[int], **__: Any) -> int:
    return 2 * a[0] * a[1] * a[2] * b[2]


def flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of all matrix products and convolutions, those of the fused attention by formula.

    What `run` computes with should be on the meta device, where it takes no time.
    """
    operators = {
        torch.ops.timo.gyroscope: _gyroscope,
        torch.ops.timo.gyroscope_backward: _gyroscope_backward,
        torch.ops.aten.baddbmm_: _added_product,
    }
    with FlopCounterMode(display=False, custom_mapping=operators) as counter:
        run()
    return counter.get_total_flops()


def product(
    device: torch.device, size: int, clock: Callable[[], float] = time.perf_counter
) -> Callable[[], float]:
    """A large matrix product; each call gives its rate in floating-point operations a second."""
    a, b = torch.randn(2, size, size, device=device).unbind()
    # On an accelerator one product is over before the clock is read.
    count = 1 if device.type == "cpu" else 20

    def rate() -> float:
        def run() -> None:
            for _ in range(count):
                torch.mm(a, b)

        return 2 * count * size**3 / seconds(run, device, clock)

    rate()
    return rate


def available(device: torch.device) -> float:
    """Bytes of memory that can be had."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
        if found:
            return float(found[1]) * 1024
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _status(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError(f"/proc/self/status has no {field}")
    return float(found[1]) * 1024


def peak(run: Callable[[], Any], device: torch.device) -> float | None:
    """Bytes that this process takes at most during a call above what it took before; None where it cannot be told."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        synchronize(device)
        return float(torch.cuda.max_memory_allocated(device) - before)
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    # What was freed, but not given back, would hide as much of what the call takes.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    # Linux: 5 resets the peak of the resident set to what it is now.
    reset.write_text("5")
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before
