"""Which GPU is this, with which driver and versions, and does it take every kernel?"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

import torch

from fmstats.backends import DTYPES, list_backends
from fmstats.backends.cuda import nvrtc
from fmstats.backends.cuda.backend import CudaBackend
from fmstats.output.tables import format_table
from fmstats.statistic.fields import MODES
from gpu_checks.bandwidth import device_gpu
from gpu_checks.parity import dtypes_of
from gpu_checks.report import Report, Setup, Skipped

QUERY = "driver_version,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode.current,mig.mode.current"
Kernel = tuple[str, int, int]


def short_name(device: torch.device) -> str:
    """Return the name that predictions have for it, else the driver's."""
    known = device_gpu(device)
    return known.name if known else str(torch.cuda.get_device_name(device))


def driver_says(index: int = 0) -> dict[str, str]:
    """Return what nvidia-smi says of a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        raise Skipped("nvidia-smi is not on PATH")
    command = [tool, f"--id={index}", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise Skipped(f"nvidia-smi: {(done.stderr or done.stdout).strip()}")
    values = [value.strip() for value in done.stdout.splitlines()[0].split(",")]
    return dict(zip(QUERY.split(","), values, strict=False))


def describe(setup: Setup) -> dict[str, Any]:
    """Return what torch and NVRTC say."""
    found = torch.cuda.get_device_properties(setup.device)
    return {
        "name": found.name,
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "memory_bytes": found.total_memory,
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nvrtc": ".".join(map(str, nvrtc.version())),
        "exchange_api": hasattr(torch.Tensor, "__dlpack_c_exchange_api__"),
    }


def run(setup: Setup, report: Report) -> None:
    """Print all of it."""

    def gpu() -> str:
        report.figures["gpu"] = described = describe(setup)
        return ", ".join(f"{name} {value}" for name, value in described.items())

    def driver() -> str:
        report.figures["driver"] = said = driver_says(setup.device.index or 0)
        return ", ".join(f"{name} {value}" for name, value in said.items())

    def backends() -> str:
        rows = list_backends()
        report.figures["backends"] = {row.name: row.detail for row in rows}
        cells = [(b.name, "yes" if b.usable else "no", b.devices, b.detail) for b in rows]
        print(format_table(("name", "usable", "devices", "detail"), cells, left=4))
        return setup.backend.describe()

    report.check("the GPU", gpu)
    report.check("its driver", driver)
    report.check("fmstats backends", backends)


def compile_one(kernel: Kernel, target: str) -> tuple[float, int]:
    """Return a kernel's bytes, and the seconds to compile it or read it from the cache."""
    started = time.perf_counter()
    code = nvrtc.compile_kernel(*kernel, target)
    return time.perf_counter() - started, len(code)


def compile_all(kernels: Iterable[Kernel], target: str, workers: int) -> list[tuple[float, int]]:
    """Compile all kernels, in several processes, into the cache that they share."""
    kernels = list(kernels)
    if workers == 1:
        return [compile_one(kernel, target) for kernel in kernels]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(compile_one, kernels, itertools.repeat(target)))


def load_kernels(setup: Setup, report: Report, kernels: Iterable[Kernel] | None = None) -> None:
    """Compile every kernel of every dtype and mode, and load it into the context."""
    assert isinstance(setup.backend, CudaBackend)
    device = setup.backend.device(setup.device)
    codes = [DTYPES.index(dtype) for dtype in dtypes_of(setup)]
    everything = itertools.product(nvrtc.KERNELS, codes, range(len(MODES)))
    these = list(everything if kernels is None else kernels)
    workers = min(len(these), 8, os.cpu_count() or 1)

    def compiled() -> str:
        started = time.perf_counter()
        found = compile_all(these, device.target, workers)
        report.figures["compiled"] = figures = {
            "kernels": len(found),
            "target": device.target,
            "seconds": time.perf_counter() - started,
            "processes": workers,
            "median_seconds": median(seconds for seconds, _ in found),
            "largest_bytes": max(size for _, size in found),
        }
        return ", ".join(f"{name} {value}" for name, value in figures.items())

    def loaded() -> str:
        started = time.perf_counter()
        for kernel in these:
            device.kernel(*kernel)
        return f"{len(these)} in {time.perf_counter() - started:.2f} s"

    if report.check(f"compiled for {device.target}", compiled):
        report.check("loaded", loaded)
