"""The cpu backend for arm64 on another machine: its kernels cross-compiled, and run by QEMU.

Debian has both: g++-aarch64-linux-gnu and qemu-user. Everything in front of the native module is
the real code; tensors and states go to a process and states come back.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fmstats.backends.base import Backend, Meter
from fmstats.backends.cpu import CpuBackend
from fmstats.statistic.clock import WORDS, Clock
from fmstats.statistic.fields import FIELDS
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
# Those of setup.py, with all warnings as errors.
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fopenmp", "-Wall", "-Wextra", "-Werror")
CSRC = Path(__file__).parent.parent / "csrc"
SOURCES = (
    Path(__file__).parent / "arm64" / "server.cpp",
    *(CSRC / "cpu" / name for name in ("isa_baseline.cpp", "driver.cpp", "selection.cpp")),
)


def why_not() -> str | None:
    """Why it cannot run here; None if it can."""
    missing = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
    if missing:
        return f"needs {' and '.join(missing)} (Debian: g++-aarch64-linux-gnu, qemu-user)"
    return CpuBackend().why_not()


@cache
def _built() -> Path:
    """The kernels for arm64 as a program."""
    program = Path(tempfile.mkdtemp()) / "server"
    command = [COMPILER, *FLAGS, "-static", f"-I{CSRC}", *map(str, SOURCES), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program


@cache
def _started() -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([EMULATOR, str(_built())], stdin=pipe, stdout=pipe)


class Server:
    """The program while it runs, in place of the native module of `CpuBackend`."""

    def cpu_accumulate(
        self,
        *,
        isa: int,
        dtype: int,
        data: int,
        channels: int,
        channel_stride: int,
        dims: Sequence[tuple[int, int]],
        numbers: int,
        number_strides: Sequence[int],
        groups: int,
        state: int,
        row: int,
        clock: int,
        requested: Sequence[int],
        thresholds: Sequence[float],
        mode: int,
        threads: int,
    ) -> None:
        """Do what the native module's function of this name does."""
        sizes, strides = zip(*dims, strict=True)
        if channels == 0 or 0 in sizes:
            return
        itemsize = (4, 8, 2, 2, 1, 1)[dtype]
        reach = _last(sizes, strides) + (channels - 1) * channel_stride + 1
        counted = groups if numbers else 0
        sum_abs, m3, bins, per_channel, resolution = requested
        fields = len(FIELDS) + (sum_abs != 0) + 2 * (m3 != 0)
        all_channels = channels * groups
        histogram = 2 * ((40 << resolution) + 2)
        histograms = (all_channels if per_channel else groups) if bins else 0
        parts = [
            (data, reach * itemsize),
            (numbers, _last(sizes, number_strides) + 1 if numbers else 0),
            (state, 8 * ((fields - 1) * row + all_channels)),
            (bins, 8 * histogram * histograms),
            (clock, 8 * len(WORDS)),
        ]
        words = [dtype, channels, channel_stride, len(dims), *sizes, *strides, counted]
        words += number_strides if counted else ()
        words += [struct.unpack("<q", struct.pack("<d", t))[0] for t in thresholds]
        places = [(at - state) // 8 if at else -1 for at in (sum_abs, m3)]
        words += [mode, threads, row, *places, int(bins != 0), per_channel, resolution]
        words += [parts[0][1], data % 64, *(size for _, size in parts[1:])]
        message = [struct.pack(f"<{len(words) + 1}q", len(words), *words)]
        message += [ctypes.string_at(at, size) for at, size in parts if size]
        process = _started()
        sent, answered = process.stdin, process.stdout
        assert sent is not None
        assert answered is not None
        sent.write(b"".join(message))
        sent.flush()
        for at, size in parts[2:]:
            if size:
                got = answered.read(size)
                assert len(got) == size, f"the emulated kernels ended: {process.poll()}"
                ctypes.memmove(at, got, size)


def _last(sizes: Sequence[int], strides: Sequence[int]) -> int:
    """The place of the last position, from the first one."""
    return sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))


class Arm64Backend(CpuBackend):
    """The cpu backend with these kernels."""

    def __init__(self) -> None:
        super().__init__("baseline")
        self._native: Any
        self._native = Server()

    def describe(self) -> str:
        return "arm64, emulated"

    def meter(self, state: State, thresholds: Thresholds, clock: Clock | None = None) -> Meter:
        return Backend.meter(self, state, thresholds, clock)

    def why_not(self, device: torch.device | None = None) -> str | None:
        return why_not()


@cache
def the_backend() -> Arm64Backend:
    """The one of all tests."""
    return Arm64Backend()
