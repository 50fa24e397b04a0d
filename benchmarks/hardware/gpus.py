"""Model GPUs, and predict the time of a hook.

Everything here is predicted: figures of data sheets and of NVIDIA's guides, and what others have
measured and published; nothing was measured for this table. `docs/performance.md` says what it
leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Capability = tuple[int, int]

WARP = 32
PARTITIONS = 4  # of a multiprocessor; each issues one instruction of a warp per clock
ISSUE_LANES = WARP * PARTITIONS
REGISTERS = 65536  # 32-bit, of a multiprocessor
REGISTER_UNIT = 256  # registers are given to warps in these steps
SHARED_UNIT = 128
SHARED_RESERVED = 1024  # bytes that the system takes for each block, from 8.0 on

# Assumptions.
ATTAINABLE = 0.9  # of the bandwidth and the clocks of data sheets; others measured 91 % on a B300
LATENCY = 800e-9  # seconds from a load to its data while memory is busy
# Seconds of a stream that an empty kernel takes; "2.5 to 3 us" on PCIe 5 systems in 2025, says
# NVIDIA's developer forum; about 5 us on earlier ones.
LAUNCH = 3e-6


# Opcodes by pipe. Nsight Compute's guide names the pipes; NVIDIA staff on the developer forum
# (topics 302018, 315200) say that IMAD runs in the heavy half of FMA and that packed half
# arithmetic takes both halves. Assumed for every architecture from what others measured on 10.3
# and 12.0: HMNMX2, HSET2 and HSETP2 run in ALU, HADD2.F32 (float16 to float32) in the heavy half,
# FFMA2 and its like as packed half arithmetic does.
PIPES: Mapping[str, str] = {
    "FMA": "FADD FMUL FFMA FSWZADD FADD32I FMUL32I FFMA32I",
    "FMA heavy": "IMAD IDP IMUL",
    "packed": "HADD2 HMUL2 HFMA2 FADD2 FMUL2 FFMA2",
    "ALU": "FMNMX FMNMX3 FSETP FSET FSEL HMNMX2 HSET2 HSETP2 VHMNMX IADD IADD3 IABS ISETP IMNMX "
    "VIADD VIMNMX VIMNMX3 VIADDMNMX LOP LOP3 PLOP3 LEA SHF SHL SHR PRMT SEL MOV MOV32I CS2R BMSK "
    "SGXT P2R R2P F2FP I2FP F2IP I2IP I2I VOTE FCHK VABSDIFF VABSDIFF4",
    "FP64": "DADD DMUL DFMA DSETP DMNMX",
    "XU": "MUFU F2F F2I I2F FRND POPC FLO BREV",
    "LSU": "LDG STG LD ST LDS STS LDL STL LDC LDSM LDGSTS SHFL ATOM ATOMG ATOMS RED REDG "
    "MEMBAR CCTL S2R DEPBAR LDGDEPBAR MATCH ERRBAR CGAERRBAR",
    "uniform": "LDCU S2UR R2UR CS2UR VOTEU REDUX",
    "branch": "BRA BRX JMP JMX BSSY BSYNC BREAK CALL RET EXIT WARPSYNC ENDCOLLECTIVE YIELD BAR NOP "
    "BMOV KILL BPT WARPGROUP NANOSLEEP",
}
_PIPE_OF = {opcode: pipe for pipe, opcodes in PIPES.items() for opcode in opcodes.split()}


def pipe_of(opcode: str) -> str:
    """Return the execution pipe of an opcode with its modifiers; "other" where it is unknown."""
    if opcode.startswith("HADD2.F32"):
        return "FMA heavy"
    name = opcode.split(".")[0]
    return _PIPE_OF.get(name) or ("uniform" if name.startswith("U") else "other")


@dataclass(frozen=True)
class Resources:
    """Holds a kernel's needs: registers per thread, shared memory per block, and threads.

    ptxas puts both local arrays and spilled registers on the stack; the two look alike here.
    """

    registers: int
    shared_bytes: int
    stack_bytes: int
    local_bytes: int


@dataclass(frozen=True)
class Multiprocessor:
    """Holds the resources of a multiprocessor of some compute capability.

    Attributes:
        shared_bytes: shared memory, at the largest split from the first-level cache.
        threads, blocks: resident at most.
        lanes: threads per clock by execution pipe, the names of `PIPES`.
        fma_lanes: those of FMA as a whole, which its heavy half and packed arithmetic share.
    """

    shared_bytes: int
    threads: int
    blocks: int
    lanes: Mapping[str, int]
    fma_lanes: int


# FMA heavy: 32-bit integer multiply-add. ALU: integer add, logic, compare, min, max; on 10.0 the
# guide of CUDA 13.4 gives float32 min and max 128, on 12.0 integer add, and measurements on 10.3
# give 64: the lower is taken. XU: conversions and popc. Packed: HFMA2 and its like; on 9.0 the
# white paper's 134 TFLOPS mean 128, the description by NVIDIA staff (both halves of FMA for one
# instruction) means 64: the lower is taken. Uniform and branch are guesses that decide nothing.
_COMMON = {"FMA heavy": 64, "ALU": 64, "XU": 16, "LSU": 32, "uniform": 64, "branch": 64}

MULTIPROCESSORS: Mapping[Capability, Multiprocessor] = {
    (8, 0): Multiprocessor(164 << 10, 2048, 32, {**_COMMON, "packed": 128, "FP64": 32}, 64),
    (9, 0): Multiprocessor(228 << 10, 2048, 32, {**_COMMON, "packed": 64, "FP64": 64}, 128),
    (10, 0): Multiprocessor(228 << 10, 2048, 32, {**_COMMON, "packed": 64, "FP64": 64}, 128),
    (12, 0): Multiprocessor(100 << 10, 1536, 24, {**_COMMON, "packed": 64, "FP64": 2}, 128),
}


@dataclass(frozen=True)
class Gpu:
    """Describes a GPU by its data sheet.

    Attributes:
        target: what kernels are compiled for.
        clock: boost clock, 1/s.
        bandwidth: of its memory, bytes/s.
        bf16_flops, tf32_flops: dense matrix products, 1/s.
    """

    name: str
    capability: Capability
    target: str
    multiprocessors: int
    clock: float
    bandwidth: float
    bf16_flops: float
    tf32_flops: float


# The drivers of B200 report a memory bus of 7680 bits: 7.67 TB/s, not the 8 of its data sheet
# (github.com/pytorch/ao, pull request 4002).
GPUS: Mapping[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100", (8, 0), "sm_80", 108, 1.410e9, 2.039e12, 312e12, 156e12),
        Gpu("H100", (9, 0), "sm_90", 132, 1.980e9, 3.35e12, 989e12, 495e12),
        Gpu("H200", (9, 0), "sm_90", 132, 1.980e9, 4.8e12, 989e12, 495e12),
        Gpu("B200", (10, 0), "sm_100", 148, 1.965e9, 7.67e12, 2250e12, 1125e12),
    )
}


def blocks_per_multiprocessor(resources: Resources, threads: int, capability: Capability) -> int:
    """Return how many blocks of `threads` fit, as CUDA's calculator says.

    Raises:
        KeyError: the capability is not in `MULTIPROCESSORS`.
    """
    processor = MULTIPROCESSORS[capability]
    warps = -(-threads // WARP)
    limits = [processor.blocks, processor.threads // (warps * WARP)]
    if resources.registers:
        of_warp = _round_up(resources.registers * WARP, REGISTER_UNIT)
        limits.append(REGISTERS // PARTITIONS // of_warp * PARTITIONS // warps)
    of_block = _round_up(resources.shared_bytes + SHARED_RESERVED, SHARED_UNIT)
    limits.append(processor.shared_bytes // of_block)
    return min(limits)


def seconds_by_limit(
    gpu: Gpu,
    bytes_read: float,
    elements: float,
    instructions_per_element: float,
    pipes: Mapping[str, float],
    in_flight: int | None = None,
) -> dict[str, float]:
    """Return the least seconds that a pass over a tensor takes, by each resource.

    Args:
        gpu: where it runs.
        bytes_read: of the tensor.
        elements: of the tensor.
        instructions_per_element: that a thread issues.
        pipes: how many of these each execution pipe runs.
        in_flight: bytes that a multiprocessor's threads have asked for at a time (Little's law:
            what arrives per second is at most that over the latency); None: enough.
    """
    processor = MULTIPROCESSORS[gpu.capability]
    clocks = gpu.multiprocessors * gpu.clock * ATTAINABLE
    found = {
        "memory": bytes_read / (gpu.bandwidth * ATTAINABLE),
        "issue": elements * instructions_per_element / (clocks * ISSUE_LANES),
    }
    if in_flight is not None:
        found["latency"] = bytes_read * LATENCY / (in_flight * gpu.multiprocessors)
    for pipe, lanes in processor.lanes.items():
        found[pipe] = elements * pipes.get(pipe, 0.0) / (clocks * lanes)
    shared = pipes.get("FMA", 0.0) + pipes.get("FMA heavy", 0.0)
    if processor.lanes["packed"] * 2 == processor.fma_lanes:  # it takes both halves of FMA
        shared += 2 * pipes.get("packed", 0.0)
    found["FMA"] = elements * shared / (clocks * processor.fma_lanes)
    return found


def limit(seconds: Mapping[str, float]) -> str:
    """Return the resource that takes longest in `seconds_by_limit`."""
    return max(seconds, key=lambda name: seconds[name])


def hook_seconds(
    gpu: Gpu,
    bytes_read: float,
    elements: float,
    instructions_per_element: float,
    pipes: Mapping[str, float],
    in_flight: int | None = None,
) -> float:
    """Return the GPU's seconds for a hook: the longest of `seconds_by_limit`, and a launch."""
    found = seconds_by_limit(gpu, bytes_read, elements, instructions_per_element, pipes, in_flight)
    return max(found.values()) + LAUNCH


def share_of_bandwidth(gpu: Gpu, bytes_read: float, seconds: float) -> float:
    """Return the share of the data sheet's bandwidth that this read uses."""
    return bytes_read / (seconds * gpu.bandwidth)


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
