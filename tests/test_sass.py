"""The reader of machine code finds what is known to be in small kernels. Nothing is run."""

from __future__ import annotations

import importlib
import re

import pytest

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="needs the package cuda-bindings")

sass = importlib.import_module("hardware.sass")
gpus = importlib.import_module("hardware.gpus")

HOPPER = (9, 0)


def _why_not() -> str:
    try:
        sass.find_tool("cuobjdump")
    except sass.SassError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "not skipped")


def compile_source(source: str, target: str = "sm_90", *options: str) -> dict[str, object]:
    """The kernels of CUDA C++ source, read."""
    status, program = nvrtc.nvrtcCreateProgram(source.encode(), b"test.cu", 0, [], [])
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS
    flags = [option.encode() for option in (f"--gpu-architecture={target}", *options)]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = b" " * nvrtc.nvrtcGetProgramLogSize(program)[1]
        nvrtc.nvrtcGetProgramLog(program, log)
        pytest.fail(log.decode())
    cubin = b" " * nvrtc.nvrtcGetCUBINSize(program)[1]
    nvrtc.nvrtcGetCUBIN(program, cubin)
    nvrtc.nvrtcDestroyProgram(program)
    return sass.disassemble(cubin)


COPY = """
extern "C" __global__ void copy(const int4* from, int4* to, int n) {
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += blockDim.x) to[i] = from[i];
}
extern "C" __global__ void nothing(int* p) { *p = 1; }
"""

# Four loads, then what is made of them; `step` is not known when it is compiled.
SUM = """
extern "C" __global__ void sum(const float4* x, float* out, int n, int step) {
  float s = 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 4 * step) {
    float4 a = x[i], b = x[i + step], c = x[i + 2 * step], d = x[i + 3 * step];
    s += a.x * a.y * a.z * a.w + b.x * b.y * b.z * b.w + c.x * c.y * c.z * c.w + d.x * d.y * d.w;
  }
  out[threadIdx.x] = s;
}
"""

# As the kernels of this project are made: a hot loop within chunks, a reread in float64 of those
# that are not finite, and at the end a loop over the words of a state, which loads the most bytes.
CHUNKS = """
extern "C" __global__ void chunks(const float4* x, double* state, int n, int rows) {
  double total = 0;
  for (int c = 0; c < rows; ++c) {
    float s = 0;
#pragma unroll 1
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
      float4 v = x[c * n + i];
      s += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    if (s < 1e30f) {
      total += s;
    } else {
      const float* p = reinterpret_cast<const float*>(x + c * n);
#pragma unroll 1
      for (int i = 0; i < 4 * n; i += 8)
        for (int k = 0; k < 8; ++k) total += double(p[i + k]) * p[i + k];
    }
  }
#pragma unroll 1
  for (int c = threadIdx.x; c < rows; c += blockDim.x) {
    double* s = state + c * 8;
    for (int k = 0; k < 8; ++k) s[k] = s[k] * total + k;
  }
}
"""

LOCAL_ARRAY = """
extern "C" __global__ void histogram(const int* x, int* out, int n) {
  int bins[16] = {};
  for (int i = threadIdx.x; i < n; i += blockDim.x) ++bins[x[i] & 15];
  for (int b = 0; b < 16; ++b) atomicAdd(out + b, bins[b]);
}
"""


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "sm_120"])
def test_a_copy_loop_loads_16_bytes(target: str) -> None:
    code = compile_source(COPY, target)["copy"]
    loop = sass.hot_loop(code)
    assert loop.global_bytes == 16
    assert loop.loads == {16: 1}
    assert any(i.opcode.startswith("LDG.E") and "128" in i.modifiers for i in loop.instructions)
    assert loop.instructions[-1].name == "BRA"
    assert loop.instructions[-1].target <= loop.instructions[0].address + 16
    assert loop.writes
    assert not code.local_accesses
    assert sum(loop.by_pipe().values()) == len(loop.instructions)
    assert "other" not in loop.by_pipe()


def test_a_kernel_without_a_loop_says_so() -> None:
    # It ends in a jump to itself, which is none.
    code = compile_source(COPY)["nothing"]
    assert any(i.target == i.address for i in code.instructions)
    with pytest.raises(sass.SassError, match="'nothing' has no loop"):
        sass.hot_loop(code)


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_four_loads_are_in_flight(target: str) -> None:
    code = compile_source(SUM, target)["sum"]
    loop = sass.hot_loop(code)
    assert loop.loads == {16: 4}
    assert sass.loads_in_flight(loop) == 64
    blocks = sass.blocks_per_multiprocessor(code.resources, 256, HOPPER)
    assert sass.bytes_in_flight(code, 256, HOPPER) == blocks * 256 * 64


def test_a_load_that_is_used_at_once_is_alone_in_flight() -> None:
    chained = """
    extern "C" __global__ void follow(const int* next, int* out, int n) {
      int at = threadIdx.x;
    #pragma unroll 1
      for (int i = 0; i < n; ++i) { at = next[at]; at = next[at + 1]; }
      out[threadIdx.x] = at;
    }
    """
    loop = sass.hot_loop(compile_source(chained)["follow"])
    assert loop.loads == {4: 2}
    assert sass.loads_in_flight(loop) == 4


def test_loads_for_the_next_round_count() -> None:
    ahead = """
    extern "C" __global__ void ahead(const float4* x, float* out, int n) {
      float s = 0;
      float4 now = x[threadIdx.x];
    #pragma unroll 1
      for (int i = 1; i < n; ++i) {
        float4 next = x[i * 256 + threadIdx.x];
        s += now.x * now.y * now.z * now.w;
        now = next;
      }
      out[threadIdx.x] = s + now.x;
    }
    """
    assert sass.loads_in_flight(sass.hot_loop(compile_source(ahead)["ahead"])) == 16


def test_the_hot_loop_is_told_from_rereads_and_states() -> None:
    code = compile_source(CHUNKS)["chunks"]
    assert max(loop.global_bytes for loop in code.loops) > 16
    assert any(loop.exact for loop in code.loops)
    loop = sass.hot_loop(code)
    assert loop.loads == {16: 1}
    assert not loop.writes
    assert not loop.exact
    assert loop.by_pipe()["FMA"] >= 4


def test_both_sides_of_a_branch_are_counted_and_one_is_loaded() -> None:
    either = """
    extern "C" __global__ void either(const float4* x, const float4* y, float* out, int n, int* w) {
      float s = 0;
    #pragma unroll 1
      for (int i = 0; i < n; ++i) {
        float4 v;
        if (w[0] + i & 1) { v = x[i]; __nanosleep(1); } else { v = y[i]; __nanosleep(2); }
        s += v.x * v.y * v.z * v.w;
      }
      out[0] = s;
    }
    """
    loop = sass.hot_loop(compile_source(either)["either"])
    everywhere = [i for i in loop.instructions if "128" in i.modifiers and i.name == "LDG"]
    assert len(everywhere) == 2
    assert loop.global_bytes in (16, 20)  # the word w[0] may be loaded each time
    assert len(loop.path) < len(loop.instructions)


def test_a_local_array_is_caught() -> None:
    code = compile_source(LOCAL_ARRAY)["histogram"]
    assert code.local_accesses
    assert code.resources.stack_bytes >= 64 or code.resources.local_bytes >= 64


def test_spilled_registers_are_caught() -> None:
    many = """
    extern "C" __global__ void many(const float* x, float* out, int n) {
      float s[96];
      for (int k = 0; k < 96; ++k) s[k] = x[k];
      for (int i = 0; i < n; ++i)
        for (int k = 0; k < 96; ++k) s[k] = s[k] * x[i] + s[(k + 1) % 96];
      for (int k = 0; k < 96; ++k) out[k] = s[k];
    }
    """
    free = compile_source(many)["many"]
    assert not free.local_accesses
    assert free.resources.stack_bytes == 0
    spilled = compile_source(many, "sm_90", "--maxrregcount=40")["many"]
    assert spilled.local_accesses
    assert spilled.resources.stack_bytes > 0
    assert spilled.resources.registers <= 40


def test_shared_memory_is_the_kernels_own() -> None:
    source = """
    extern "C" __global__ void reverse(int* x) {
      __shared__ int s[256];
      s[threadIdx.x] = x[threadIdx.x];
      __syncthreads();
      x[threadIdx.x] = s[255 - threadIdx.x];
    }
    """
    for target in ("sm_80", "sm_90", "sm_100"):
        assert compile_source(source, target)["reverse"].resources.shared_bytes == 1024


@pytest.mark.parametrize(
    ("opcode", "pipe"),
    [
        ("FMNMX", "ALU"),
        ("IMAD.MOV.U32", "FMA heavy"),
        ("FFMA", "FMA"),
        ("HADD2.F32", "FMA heavy"),
        ("HFMA2.BF16_V2", "packed"),
        ("HMNMX2", "ALU"),
        ("F2F.F32.F64", "XU"),
        ("F2FP.BF16.F32.PACK_AB", "ALU"),
        ("UIADD3", "uniform"),
        ("DSETP.GEU.AND", "FP64"),
        ("NEWOP", "other"),
    ],
)
def test_opcodes_have_their_pipes(opcode: str, pipe: str) -> None:
    assert gpus.pipe_of(opcode) == pipe


def test_what_is_no_cubin_is_refused() -> None:
    with pytest.raises(sass.SassError, match="cuobjdump"):
        sass.disassemble(b"no cubin")


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(sass.SassError, match="holds no nosuchtool"):
        sass.find_tool("nosuchtool")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(sass.SassError, match=re.escape("package triton, which is not installed")):
        sass.find_tool("cuobjdump")
