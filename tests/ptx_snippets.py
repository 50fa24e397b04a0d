"""Small kernels and awkward numbers for the tests of the PTX interpreter."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from ptx import Memory, Module, Report, launch

HEAD = ".version 8.5\n.target sm_90\n.address_size 64\n"


def evaluate(instruction: str, result: str, *inputs: np.ndarray, declare: str = "") -> np.ndarray:
    """Run an instruction on every element: `%d` is its result, `%a`, `%b`, ... its inputs."""
    count = len(inputs[0])
    names = "abcefg"[: len(inputs)]
    body = [f".reg .pred %p<9>; .reg .b64 %at<9>; .reg .b32 %n<4>; {declare}"]
    body.append("mov.u32 %n0, %ctaid.x; mov.u32 %n1, %tid.x; mad.lo.u32 %n2, %n0, 128, %n1;")
    body.append(f"setp.ge.u32 %p8, %n2, {count}; @%p8 exit;")
    out = np.zeros(count, result)
    memory, arguments = Memory(), []
    for k, (name, array) in enumerate(zip([*names, "d"], [*inputs, out], strict=True)):
        bits = 8 * array.itemsize
        body.append(f".reg .b{max(bits, 16)} %{name}; ld.param.u64 %at{k}, [p{k}];")
        body.append(f"mad.wide.u32 %at{k}, %n2, {array.itemsize}, %at{k};")
        if name != "d":
            body.append(f"ld.global.b{bits} %{name}, [%at{k}];")
        arguments.append(memory.map(array, name))
    body += [instruction, f"st.global.b{8 * out.itemsize} [%at{len(inputs)}], %d;", "ret;"]
    run_text(body, memory, arguments, grid=-(-count // 128), block=128)
    return out


def run_text(body: list[str], memory: Memory, arguments: list[Any], **options: Any) -> Report:
    """Run a kernel `f` given by its statements; its parameters are 64 bits each."""
    params = ", ".join(f".param .u64 p{k}" for k in range(len(arguments)))
    text = HEAD + f".visible .entry f({params})\n{{\n" + "\n".join(body) + "\n}\n"
    return launch(Module(text), "f", arguments=arguments, memory=memory, **options)


def compile_cuda(source: str, arch: str = "compute_80") -> Module:
    """Compile CUDA C++ with NVRTC, which needs no GPU."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")

    def check(answer: tuple[Any, ...]) -> Any:
        if answer[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise AssertionError(answer[0])
        return answer[1] if len(answer) == 2 else None

    program = check(nvrtc.nvrtcCreateProgram(source.encode(), b"test.cu", 0, [], []))
    options = [f"--gpu-architecture={arch}".encode(), b"-std=c++17", b"-default-device"]
    answer = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if answer[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = b" " * check(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise AssertionError(log.decode())
    text = b" " * check(nvrtc.nvrtcGetPTXSize(program))
    check(nvrtc.nvrtcGetPTX(program, text))
    nvrtc.nvrtcDestroyProgram(program)
    return Module(text)


RNG = np.random.default_rng(7)
COUNT = 600


def bits(dtype: str) -> np.ndarray:
    """Random bits, small numbers, and the limits."""
    size = 8 * np.dtype(dtype).itemsize
    raw = RNG.integers(0, 1 << 64, COUNT, dtype=np.uint64) >> np.uint64(64 - size)
    raw[::3] >>= np.uint64(size - 5)
    edges = [0, 1, 2, 31, 32, 33, (1 << size - 1) - 1, 1 << size - 1, (1 << size - 1) + 1, -1, -2]
    raw[1 : 1 + 2 * len(edges) : 2] = np.array([e & (1 << size) - 1 for e in edges], np.uint64)
    return RNG.permutation(raw).astype(f"u{size // 8}").view(dtype)


def floats(dtype: str) -> np.ndarray:
    """Random bits, plain numbers, subnormals, infinities, NaN and zeros of both signs."""
    number = np.dtype(dtype)
    values = RNG.integers(0, 1 << 8 * number.itemsize, COUNT, dtype=f"u{number.itemsize}")
    with np.errstate(all="ignore"):
        values = values.view(dtype)
        values[::2] = (RNG.standard_normal(COUNT // 2) * 4.0).astype(dtype)
        tiny = np.finfo(dtype).smallest_subnormal
        edges = [
            0.0,
            -0.0,
            np.inf,
            -np.inf,
            np.nan,
            1.0,
            -1.0,
            3 * tiny,
            -tiny,
            np.finfo(dtype).max,
        ]
        values[1 : 1 + 4 * len(edges) : 4] = np.array(edges).astype(dtype)
    return RNG.permutation(values)


def wrap(value: int, size: int) -> int:
    return value & ((1 << size) - 1)


def rounded(exact: Fraction, dtype: str) -> float:
    """The nearest number of a type, ties to even."""
    info = np.finfo(dtype)
    if exact == 0:
        return 0.0
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent -= size < Fraction(2) ** exponent
    step = Fraction(2) ** (max(exponent, int(info.minexp)) - int(info.nmant))
    nearest = round(size / step) * step  # of a Fraction: ties to even
    value = float(nearest) if nearest <= Fraction(float(info.max)) else np.inf
    return value if exact > 0 else -value


def bf16(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.uint32) << 16).view(np.float32)


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Round float32 that hold the exact result."""
    raw = values.view(np.uint32)
    return ((raw + 0x7FFF + (raw >> 16 & 1)) >> 16).astype(np.uint16)
