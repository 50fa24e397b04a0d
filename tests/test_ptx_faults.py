"""The PTX interpreter finds what is planted, and nothing in the repaired kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ptx import Memory, Module, PtxError, Report, launch
from ptx_snippets import compile_cuda, run_text

# Each kernel is wrong if `broken`, and right if not. `x` and `out` have 64 words.
SOURCE = r"""
#define KERNEL(name) extern "C" __global__ void name(float* x, float* out, int broken)
__device__ unsigned ticket;

KERNEL(out_of_bounds) { out[threadIdx.x] = x[threadIdx.x + (broken ? 1 : 0)]; }
KERNEL(unmapped) { out[threadIdx.x] = *(broken && threadIdx.x == 3 ? (float*)64 : x); }
KERNEL(misaligned) {
  out[threadIdx.x] = *(float*)((char*)x + (broken && threadIdx.x == 9 ? 2 : 0));
}
KERNEL(read_only) { (broken ? x : out)[threadIdx.x] = 1; }
KERNEL(outside_of_shared) {
  __shared__ float room[64];
  room[threadIdx.x + (broken ? 1 : 0)] = 1;
  __syncthreads();
  out[threadIdx.x] = room[63 - threadIdx.x] ;
}
KERNEL(uninitialised) {
  __shared__ float room[64];
  if (!broken || threadIdx.x != 40) room[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = room[63 - threadIdx.x];
}
KERNEL(read_write_race) {
  __shared__ float room[64];
  room[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  const float other = room[63 - threadIdx.x];
  if (!broken) __syncthreads();
  room[threadIdx.x] = other;
  __syncthreads();
  out[threadIdx.x] = room[threadIdx.x];
}
KERNEL(write_write_race) {
  __shared__ float room[64];
  if (threadIdx.x % 32 == 0) room[broken ? 0 : threadIdx.x] = threadIdx.x;
  __syncthreads();
  if (threadIdx.x % 32 == 0) out[threadIdx.x] = room[broken ? 0 : threadIdx.x];
}
KERNEL(no_fence) {
  if (threadIdx.x == 0) {
    x[blockIdx.x] = blockIdx.x;
    if (!broken) __threadfence();
    if (atomicInc(&ticket, gridDim.x - 1) == gridDim.x - 1) {
      float sum = 0;
      for (int b = 0; b < gridDim.x; ++b) sum += ((volatile float*)x)[b];
      *out = sum;
    }
  }
}
KERNEL(fence_by_another_thread) {  // the barrier and the fence together order all stores
  x[blockIdx.x * 32 + threadIdx.x] = 1;
  if (!broken) __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    if (atomicInc(&ticket, gridDim.x - 1) == gridDim.x - 1) {
      float sum = 0;
      for (int i = 0; i < 32 * gridDim.x; ++i) sum += ((volatile float*)x)[i];
      *out = sum;
    }
  }
}
KERNEL(fence_after_ticket) {
  if (threadIdx.x == 0) {
    x[blockIdx.x] = blockIdx.x;
    if (!broken) __threadfence();
    const bool last = atomicInc(&ticket, gridDim.x - 1) == gridDim.x - 1;
    __threadfence();
    if (!last) return;
    float sum = 0;
    for (int b = 0; b < gridDim.x; ++b) sum += ((volatile float*)x)[b];
    *out = sum;
  }
}
KERNEL(two_blocks_store) { out[broken ? 0 : blockIdx.x] = blockIdx.x; }
KERNEL(not_coherent) {
  x[threadIdx.x] = threadIdx.x;
  __syncthreads();
  float other = x[threadIdx.x ^ 1];
  if (broken) asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(other) : "l"(x + threadIdx.x));
  out[threadIdx.x] = other;
}
KERNEL(absent_lane) {
  const float mine = x[threadIdx.x];
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_xor_sync(broken ? 0xffffffffu : 0xffffu, mine, broken ? 16 : 8);
}
KERNEL(own_mask) { out[threadIdx.x] = __shfl_xor_sync(broken ? 0xffffu : ~0u, x[threadIdx.x], 1); }
KERNEL(deadlock) {
  if (threadIdx.x < 32) asm volatile("bar.sync 0;");
  else if (broken) asm volatile("bar.sync 1;");
  else asm volatile("bar.sync 0;");
  out[threadIdx.x] = 1;
}
KERNEL(deadlock_in_a_warp) {
  if (threadIdx.x < 16) __syncwarp(broken ? 0xffffffffu : 0xffffu);
  else if (broken) __syncthreads();
  else __syncwarp(0xffff0000u);
  out[threadIdx.x] = 1;
}
KERNEL(trapped) { if (broken && threadIdx.x == 5) __trap(); }
"""

# Kernel, blocks, threads, the mistake, and where it is.
ERRORS = [
    ("out_of_bounds", 1, 64, "global memory out of bounds: 4 bytes at 0x.*, 4 bytes beyond the "
     "end of 'x': ld.global.f32 .* .block 0, thread 63"),
    ("unmapped", 1, 32, "global memory out of bounds: 4 bytes at 0x40: .*thread 3"),
    ("misaligned", 1, 32, "misaligned access of 4 bytes at 0x.*thread 9"),
    ("read_only", 1, 64, "store to the read-only buffer 'x'"),
    ("outside_of_shared", 1, 64, "shared memory out of bounds: 4 bytes at 256 of 256.*thread 63"),
    ("uninitialised", 1, 64, "read of uninitialised shared memory at 160.*thread 23"),
    ("own_mask", 1, 32, "a lane that its own member mask leaves out.*thread 16"),
    ("deadlock", 1, 64, "deadlock, 32 threads wait: bar.sync 0.*"
     "deadlock, 32 threads wait: bar.sync 1"),
    ("deadlock_in_a_warp", 1, 32, "deadlock, 16 threads wait: bar"),
    ("trapped", 1, 32, "trap: trap .block 0, thread 5"),
]  # fmt: skip
FINDINGS = [
    ("read_write_race", 1, 64, "race: store to a shared word that another warp uses"),
    ("write_write_race", 1, 64, "race: store to a shared word that another warp uses"),
    ("no_fence", 3, 32, "read of another block's store without a fence, in 'x'"),
    ("fence_by_another_thread", 2, 32, "read of another block's store without a fence, in 'x'"),
    ("fence_after_ticket", 3, 32, "read of another block's store without a fence, in 'x'"),
    ("two_blocks_store", 3, 1, "two blocks store to the same word of 'out'"),
    ("not_coherent", 1, 64, "non-coherent read of what this launch has stored, in 'x'"),
    ("absent_lane", 1, 32, "shuffle from a lane that does not take part"),
]


@pytest.fixture(scope="module")
def module() -> Module:
    return compile_cuda(SOURCE)


def run(module: Module, kernel: str, blocks: int, threads: int, broken: bool, **opt: Any) -> Report:
    x, out, memory = np.ones(64, "f4"), np.zeros(64, "f4"), Memory()
    x_address = memory.map(x, "x", read_only=kernel == "read_only")
    arguments = [x_address, memory.map(out, "out"), int(broken)]
    return launch(
        module, kernel, grid=blocks, block=threads, arguments=arguments, memory=memory, **opt
    )


@pytest.mark.parametrize(("kernel", "blocks", "threads", "message"), ERRORS)
def test_errors(module: Module, kernel: str, blocks: int, threads: int, message: str) -> None:
    with pytest.raises(PtxError, match=rf"^kernel {kernel}, line \d+: {message}"):
        run(module, kernel, blocks, threads, broken=True)
    assert run(module, kernel, blocks, threads, broken=False).findings == []


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
@pytest.mark.parametrize(("kernel", "blocks", "threads", "message"), FINDINGS)
def test_findings(
    module: Module, kernel: str, blocks: int, threads: int, message: str, order: str
) -> None:
    for at_once in (1, None):
        options = {"order": order, "blocks_at_once": at_once}
        findings = run(module, kernel, blocks, threads, True, **options).findings
        assert any(f.startswith(f"kernel {kernel}, line ") and message in f for f in findings)
        assert run(module, kernel, blocks, threads, False, **options).findings == []


def test_a_finding_says_where_and_how_often(module: Module) -> None:
    (found,) = run(module, "not_coherent", 1, 64, broken=True).findings
    assert found.endswith("(block 0, thread 0), 64 times")
    assert "ld.global.nc.f32" in found


def test_a_thread_that_spins_is_given_up() -> None:
    body = ["again:", "bra again;"]
    with pytest.raises(PtxError, match="kernel f: not finished after 1000 steps"):
        run_text(body, Memory(), [], grid=1, block=32, max_steps=1000)


def test_an_exit_frees_the_lanes_that_wait_for_it() -> None:
    # The upper lanes wait for the lower ones, which leave by a branch behind the wait.
    out, memory = np.zeros(32, "u4"), Memory()
    body = [
        ".reg .pred %p; .reg .b32 %r<3>; .reg .b64 %rd<3>;",
        "mov.u32 %r0, %tid.x; ld.param.u64 %rd0, [p0]; mad.wide.u32 %rd1, %r0, 4, %rd0;",
        "setp.lt.u32 %p, %r0, 16; @%p bra gone;",
        "bar.warp.sync 0xffffffff; st.global.u32 [%rd1], 1; ret;",
        "gone: ret;",
    ]
    report = run_text(body, memory, [memory.map(out)], grid=1, block=32)
    assert out.tolist() == [0] * 16 + [1] * 16
    assert "the member mask names lanes that have exited" in report.findings[0]


def test_what_is_not_known_is_refused_by_its_line() -> None:
    body = ".reg .f32 %f<3>;\nadd.f32 %f1, %f1, %f2;\ntanh.approx.f32 %f1, %f2;"
    text = f".visible .entry f()\n{{\n{body}\n}}"
    refusal = "line 5: unsupported instruction: tanh.approx.f32 %f1, %f2"
    module = Module(text)
    assert module.unsupported() == [refusal]
    with pytest.raises(PtxError, match=refusal):
        launch(module, "f", grid=1, block=1, arguments=[], memory=Memory())
    # A modifier that nobody honours is refused as well.
    assert Module(text.replace("add.f32", "add.xorsign.f32")).unsupported()[0].startswith("line 4:")


def test_a_vector_has_as_many_registers_as_it_says() -> None:
    body = ".reg .f32 %f<5>; .reg .b64 %a;\nld.global.v2.f32 {%f1, %f2, %f3, %f4}, [%a];"
    (refusal,) = Module(f".visible .entry f()\n{{\n{body}\n}}").unsupported()
    assert refusal.startswith("line 4: unsupported instruction (4 registers for 2 elements): ld.")
