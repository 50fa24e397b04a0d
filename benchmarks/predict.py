"""How fast will the CUDA kernels be, by their machine code?

    python benchmarks/predict.py [--quick] [--write]      (--write: into docs/performance.md)

Prints tables in Markdown. They are predicted: instructions are counted in what the compiler made
of the kernels, time follows from data sheets (`gpus.py`). No GPU is needed. Times that
`make gpu-check` measured, docs/gpu-check*.json, stand beside them. docs/performance.md explains.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hardware.gpus import GPUS, Gpu, hook_seconds, limit, seconds_by_limit, share_of_bandwidth
from hardware.sass import KernelCode, SassError, bytes_in_flight, disassemble, hot_loop
from hardware.steps import MODELS, Layer, layers_of, step_seconds

from fmstats.backends.base import DTYPES
from fmstats.backends.cuda import nvrtc
from fmstats.backends.cuda.asked import NOTHING, Asked
from fmstats.backends.native import load_native
from fmstats.errors import FmstatsError
from fmstats.statistic.view import View, view_of

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))
import page_tables  # noqa: E402  # found there

# Threads of a block, by kernel.
KERNELS: Mapping[str, int] = {
    "rows": 256,
    "rows_warp": 256,
    "ragged": 256,
    "ragged_warp": 256,
    "strided": 256,
    "strided_warp": 256,
    "columns": 128,
    "columns_one": 128,
}
SHAPES = (
    ((64, 256, 56, 56), "contiguous"),
    ((64, 256, 56, 56), "channels_last"),
    ((64, 2048, 7, 7), "contiguous"),
    ((64, 2048, 7, 7), "channels_last"),
    ((32, 197, 768), "last"),
    ((8, 1024, 1, 1), "contiguous"),
)
TRACKED = (torch.bfloat16, torch.float32)
# What may be asked for, and how many lanes meet in a bank of shared memory at worst, by kernel: 32
# by the copies of a word (csrc/cuda/bins.cuh), or those that read one of channels side by side.
ASKED: Mapping[str, tuple[Asked, Mapping[str, int]]] = {
    "power sums": (Asked(True), {}),
    "histogram of the layer": (Asked(False, 1, 4), {"rows": 4, "columns": 8}),
    "histograms of channels": (Asked(False, 2, 4), {"rows": 4, "columns": 16}),
    "both, of the layer": (Asked(True, 1, 4), {"rows": 4, "columns": 16}),
}
PART = "predicted"  # of docs/performance.md


@dataclass(frozen=True)
class Cost:
    """Holds what an element costs in the hot loop of a kernel.

    Attributes:
        instructions: of the whole loop, rare paths too, over the elements that a round reads.
        pipes: how many of these each execution pipe runs.
        in_flight: bytes that a multiprocessor's threads have asked for at a time.
    """

    instructions: float
    pipes: Mapping[str, float]
    in_flight: int


Costs = Callable[[str, torch.dtype, int, Gpu], Cost]


def cubin_of(
    kernel: str, dtype: torch.dtype, mode: int, target: str, asked: Asked = NOTHING
) -> bytes:
    """Compile a kernel of one dtype and mode for a target such as "sm_90"."""
    return nvrtc.compile_kernel(kernel, DTYPES.index(dtype), mode, target, asked)


@functools.cache
def code_of(
    kernel: str, dtype: torch.dtype, mode: int, target: str, asked: Asked = NOTHING
) -> KernelCode:
    """Read the machine code of such a kernel."""
    print(f"reading {kernel} of {_name(dtype)} for {target}", file=sys.stderr)
    (code,) = disassemble(cubin_of(kernel, dtype, mode, target, asked)).values()
    return code


def cost(kernel: str, dtype: torch.dtype, mode: int, gpu: Gpu, asked: Asked = NOTHING) -> Cost:
    """Return what an element costs."""
    code = code_of(kernel, dtype, mode, gpu.target, asked)
    loop = hot_loop(code)
    elements = loop.global_bytes / dtype.itemsize
    return Cost(
        len(loop.instructions) / elements,
        {pipe: count / elements for pipe, count in loop.by_pipe().items()},
        bytes_in_flight(code, KERNELS[kernel], gpu.capability),
    )


def kernel_for(view: View, dtype: torch.dtype, gpu: Gpu) -> str:
    """Return the kernel that the planner takes for a tensor that torch has allocated.

    Raises:
        FmstatsError: the native module, which plans, is not built.
    """
    native = load_native()
    if native is None:
        raise FmstatsError("predictions need the native module, which plans launches: build it")
    launch = native.CudaLaunch(
        DTYPES.index(dtype), 0, view.channels, view.channel_stride, view.dims, gpu.multiprocessors
    )
    return str(launch.kernel)


def tensor(shape: Sequence[int], layout: str, dtype: torch.dtype) -> View:
    """Return a tensor that takes no memory, as channels x positions."""
    x = torch.empty(shape, dtype=dtype, device="meta")
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    return view_of(x, -1 if layout == "last" else 1)


def time_of(view: View, dtype: torch.dtype, mode: int, gpu: Gpu, costs: Costs = cost) -> float:
    """Predict the seconds of a hook."""
    elements = view.channels * view.positions
    each = costs(kernel_for(view, dtype, gpu), dtype, mode, gpu)
    return hook_seconds(
        gpu, elements * dtype.itemsize, elements, each.instructions, each.pipes, each.in_flight
    )


def kernel_rows(dtypes: Iterable[torch.dtype], costs: Costs = cost) -> list[list[str]]:
    """Return instructions per element, loads in flight, share of bandwidth and the limit."""
    rows = [["kernel", "dtype", "instructions an element", "KB in flight", *GPUS]]
    gpus = list(GPUS.values())
    targets = list({gpu.target: gpu for gpu in gpus}.values())
    for kernel in KERNELS:
        for dtype in dtypes:
            found = [costs(kernel, dtype, nvrtc.ALL, gpu) for gpu in targets]
            shares = []
            for gpu in gpus:
                each = costs(kernel, dtype, nvrtc.ALL, gpu)
                seconds = seconds_by_limit(
                    gpu, dtype.itemsize, 1, each.instructions, each.pipes, each.in_flight
                )
                share = share_of_bandwidth(gpu, dtype.itemsize, max(seconds.values()))
                shares.append(f"{share:.0%} {limit(seconds)}")
            counts = " / ".join(f"{each.instructions:.1f}" for each in found)
            flights = " / ".join(f"{each.in_flight / 1024:.0f}" for each in found)
            rows.append([kernel, _name(dtype), counts, flights, *shares])
    return rows


def requested_rows(
    dtypes: Iterable[torch.dtype], costs: Callable[..., Cost] = cost
) -> list[list[str]]:
    """Return the same of kernels that measure on request, lanes meeting in banks at worst."""
    rows = [["kernel", "asked for", "dtype", "instructions an element on an H200", *GPUS]]
    cases = itertools.product(("rows", "columns"), ASKED.items(), dtypes)
    for kernel, (name, (asked, meeting)), dtype in cases:
        shares = []
        for gpu in GPUS.values():
            each = costs(kernel, dtype, nvrtc.ALL, gpu, asked)
            lsu = each.pipes.get("LSU", 0.0) + meeting.get(kernel, 1) - 1
            pipes = {**each.pipes, "LSU": lsu}
            seconds = seconds_by_limit(
                gpu, dtype.itemsize, 1, each.instructions, pipes, each.in_flight
            )
            share = share_of_bandwidth(gpu, dtype.itemsize, max(seconds.values()))
            shares.append(f"{share:.0%} {limit(seconds)}")
        count = f"{costs(kernel, dtype, nvrtc.ALL, GPUS['H200'], asked).instructions:.1f}"
        rows.append([kernel, name, _name(dtype), count, *shares])
    return rows


def hook_rows(
    measured: Iterable[Mapping[str, Any]], dtypes: Iterable[torch.dtype], costs: Costs = cost
) -> list[list[str]]:
    """Return the microseconds of a hook by shape, with those measured."""
    checks = list(measured)
    rows = [["tensor", "layout", "dtype", *GPUS, "measured"]]
    for shape, layout in SHAPES:
        for dtype in dtypes:
            view = tensor(shape, layout, dtype)
            times = [time_of(view, dtype, nvrtc.ALL, gpu, costs) for gpu in GPUS.values()]
            seen = [
                f"{hook['seconds'] * 1e6:.1f} ({check['gpu']})"
                for check in checks
                for hook in check["hooks"]
                if (tuple(hook["shape"]), hook["layout"], hook["dtype"])
                == (shape, layout, _name(dtype))
            ]
            figures = [f"{seconds * 1e6:.1f}" for seconds in times]
            told = ", ".join(seen or ["not measured"])
            rows.append([str(shape), layout, _name(dtype), *figures, told])
    return rows


def model_rows(
    measured: Iterable[Mapping[str, Any]],
    layers: Callable[[str], Sequence[Layer]] = layers_of,
    costs: Costs = cost,
) -> list[list[str]]:
    """Return the milliseconds of a step, and how much tracking every leaf module adds."""
    checks = list(measured)
    rows = [["model", "dtype", "step", *GPUS, "measured"]]
    for model in MODELS:
        for dtype in TRACKED:
            for step in ("inference", "training"):
                cells = []
                for gpu in GPUS.values():
                    alone = step_seconds(layers(model), dtype, step, gpu)
                    hooks = sum(
                        time_of(layer.view, dtype, nvrtc.PLAIN, gpu, costs)
                        for layer in layers(model)
                    )
                    cells.append(f"{alone * 1e3:.1f} + {hooks * 1e3:.1f} ms: {hooks / alone:.0%}")
                seen = [
                    f"{entry['overhead']:.0%} ({check['gpu']})"
                    for check in checks
                    for entry in check["models"]
                    if (entry["model"], entry["dtype"], entry["step"])
                    == (model, _name(dtype), step)
                    and entry.get("layout", "contiguous") == "contiguous"  # as predicted
                ]
                told = ", ".join(seen or ["not measured"])
                rows.append([model, _name(dtype), step, *cells, told])
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in Markdown, the first as its head."""
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def report(dtypes: Sequence[torch.dtype], checks: Sequence[Mapping[str, Any]]) -> str:
    """Return all tables."""
    targets = " / ".join(dict.fromkeys(gpu.target for gpu in GPUS.values()))
    parts = [
        f"Predicted: the hot loops, every threshold on; {targets} where three figures stand. Then "
        "the share of the data sheet's memory bandwidth on an endless tensor, and what limits it.",
        table(kernel_rows(dtypes)),
        "Predicted: the same of what is measured on request, histograms with 16 bins an octave. "
        "An atomic is taken to go through shared memory as often as lanes meet in a bank at worst.",
        table(requested_rows([d for d in dtypes if d in TRACKED])),
        "Predicted: microseconds of the GPU that a hook takes, every threshold on, launch "
        "included. The last column is measured, where it says so.",
        table(hook_rows(checks, [d for d in dtypes if d in TRACKED])),
        "Predicted: milliseconds of a step at batch 64, of the hooks of all leaf modules, and "
        "their ratio. float32 is TF32. The last column is measured, where it says so.",
        table(model_rows(checks)),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or write them into the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="float32 and bfloat16 alone")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    options = parser.parse_args(arguments)
    checks = [json.loads(path.read_text()) for path in sorted(DOCS.glob("gpu-check*.json"))]
    try:
        text = report(TRACKED if options.quick else DTYPES, checks)
    except (SassError, FmstatsError) as error:
        parser.error(str(error))
    if options.write:
        path = DOCS / "performance.md"
        page = page_tables.renew(path.read_text(encoding="utf-8"), PART, f"\n{text}\n")
        path.write_text(page, encoding="utf-8")
        print(f"wrote {path}")
    else:
        print(text)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main()
