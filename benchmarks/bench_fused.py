"""What does it cost to measure every leaf within the kernels that Inductor generates?

    python benchmarks/bench_fused.py [--quick] [--json FILE]

No GPU is needed: code is generated for an H200 that is not there (bf16, channels last, CUDA
graphs), compiled for sm_90 and read. Kernels, bytes, registers and instructions are counted, CPU
seconds are measured here; microseconds are PREDICTED from data sheets, as docs/performance.md
explains, and leave out what is not Inductor's: convolutions, matrix products, `fold`. A second
table has those of other GPUs, for which the same kernels are compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fused.compiled import Compiled, compiled, machine_code
from fused.nets import NETS
from hardware.gpus import ATTAINABLE, GPUS, ISSUE_LANES, MULTIPROCESSORS, Gpu
from interleave import options_of, print_line, write_json

FIRST = "H200"  # that code is generated for
HEAD = ("model", "kernels", "MB", "of bare", "graphs", "registers", "warps", "instr/el", "compile")
WIDTHS = (22, 10, 8, 8, 7, 10, 6, 9, 8, 8, 8)
PREDICTED_WIDTHS = (22, *(14 for _ in GPUS))
LEAVES = 3  # of the kernels whose instructions are given: convolution, BatchNorm, ReLU


def kernel_seconds(
    made: Compiled, codes: dict[str, dict[str, Any]], gpu: Gpu
) -> tuple[float, float]:
    """Predict the seconds of the kernels of Inductor: (all bare of instructions, with them)."""
    memory = sum(call.bytes for call in made.triton) / (gpu.bandwidth * ATTAINABLE)
    total = 0.0
    lanes = MULTIPROCESSORS[gpu.capability].lanes
    for call in made.triton:
        seconds = call.bytes / (gpu.bandwidth * ATTAINABLE)
        code = codes.get(call.kernel)
        if code and code["instructions"] == code["instructions"]:
            elements = call.numbers[0] * call.numbers[1]
            clocks = [code["instructions"] / ISSUE_LANES]
            clocks += [n / lanes.get(pipe, ISSUE_LANES) for pipe, n in code["pipes"].items()]
            rate = gpu.multiprocessors * gpu.clock * ATTAINABLE
            seconds = max(seconds, elements * max(clocks) / rate)
        total += seconds
    return memory, total


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per model."""
    options = options_of(__doc__ or "").parse_args(argv)
    print_line((*HEAD, "us bare", "us"), WIDTHS)
    rows, predictions = [], []
    for name in list(NETS)[:1] if options.quick else NETS:
        bare, tracked = compiled(name), compiled(name, "--tracked")
        codes = machine_code(tracked.measuring, FIRST)
        of_three = [code for code in codes.values() if code["leaves"] == LEAVES]
        instructions = min((code["instructions"] for code in of_three), default=float("nan"))
        row = {
            "model": name,
            "kernels": f"{len(bare.triton)} -> {len(tracked.triton)}",
            "MB": tracked.bytes / 1e6,
            "bytes_ratio": tracked.bytes / bare.bytes,
            "partitions": max(tracked.partitions),
            "registers": max(code["registers"] for code in codes.values()),
            "warps": min(code["warps"] for code in codes.values()),
            "instructions": instructions,
            "compile_ratio": tracked.cpu_seconds / bare.cpu_seconds,
            "predicted_us_bare": 1e6 * kernel_seconds(bare, {}, GPUS[FIRST])[1],
            "predicted_us": 1e6 * kernel_seconds(tracked, codes, GPUS[FIRST])[1],
        }
        print_line(list(row.values()), WIDTHS)
        rows.append({**row, "reasons": dict(tracked.reasons), "codes": codes})
        predictions.append(predicted(name, bare, tracked, codes))
    print("\nmicroseconds predicted, bare -> measured")
    print_line(("model", *GPUS), PREDICTED_WIDTHS)
    for prediction in predictions:
        print_line([*prediction.values()], PREDICTED_WIDTHS)
    write_json(options.json, [*rows, *predictions])


def predicted(
    name: str, bare: Compiled, tracked: Compiled, codes: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Return a row of the second table, by the name of the GPU; `codes`: for the first table's."""
    row, by_target = {"model": name}, {GPUS[FIRST].target: codes}
    for gpu in GPUS.values():
        if gpu.target not in by_target:
            by_target[gpu.target] = machine_code(tracked.measuring, gpu.name)
        codes = by_target[gpu.target]
        seconds = kernel_seconds(bare, {}, gpu)[1], kernel_seconds(tracked, codes, gpu)[1]
        row[gpu.name] = " -> ".join(f"{1e6 * s:.0f}" for s in seconds)
    return row


if __name__ == "__main__":
    main()
