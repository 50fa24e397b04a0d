"""The PTX interpreter runs whole kernels: warps, blocks, calls, divergence, and counts traffic."""

from __future__ import annotations

import ctypes
from itertools import pairwise

import numpy as np
import pytest
from ptx import Memory, Module, PtxError, Report, launch
from ptx_snippets import compile_cuda

SOURCE = r"""
struct Row { double scale; int first; float weights[5]; };
__constant__ int table[4] = {3, 1, 4, 1};
__device__ unsigned tickets[2];

__device__ __noinline__ double horner(const Row& row, double x) {
  double sum = 0;
  for (int i = row.first; i < 5; ++i) {
    if (row.weights[i] < 0) return -sum;
    sum = sum * x + row.weights[i];
  }
  return sum * row.scale;
}
__device__ __noinline__ Row scaled(Row row, int by) {
  for (int i = 0; i < 5; ++i) row.weights[i] *= by;
  row.first = by & 1;
  return row;
}
extern "C" __global__ void calls(Row row, double* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const Row mine = scaled(row, table[i & 3]);
  out[i] = i % 3 == 0 ? horner(mine, i * 0.5) : horner(row, i * 0.25) + 1;
}

extern "C" __global__ void collatz(const int* start, int* steps) {
  int x = start[threadIdx.x], n = 0;
  while (x != 1) {
    if (x & 1) x = 3 * x + 1; else x /= 2;
    ++n;
  }
  steps[threadIdx.x] = n;
}

extern "C" __global__ void warps(const int* x, int* out) {
  const int t = threadIdx.x, v = x[t];
  const unsigned odd = __ballot_sync(~0u, v & 1);
  int sum = v;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  int part = 0;
  if (t % 32 < 8) {  // some lanes among themselves
    part = __reduce_max_sync(0xffu, v);
    part = 1000 * part + __shfl_down_sync(0xffu, v, 1, 4);
  } else {
    part = __any_sync(0xffffff00u, v == 7) + 2 * __all_sync(0xffffff00u, v < 90);
  }
  out[4 * t] = odd;
  out[4 * t + 1] = sum;
  out[4 * t + 2] = part;
  out[4 * t + 3] = __syncthreads_count(v > 50);
}

extern "C" __global__ void total(const float* x, float* parts, float* result, int n) {
  __shared__ float sums[8];
  __shared__ bool is_last;
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    sum += x[i];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < blockDim.x / 32; ++w) sum += sums[w];
    parts[blockIdx.x] = sum;
    __threadfence();
    is_last = atomicInc(&tickets[0], gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last || threadIdx.x != 0) return;
  sum = 0;
  for (int b = 0; b < gridDim.x; ++b) sum += ((volatile float*)parts)[b];
  *result = sum;
}

extern "C" __global__ void copy(const float4* x, float4* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = __ldg(x + i);
}
extern "C" __global__ void shift(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x + 1];
}
extern "C" __global__ void shuffled(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x * 9 % 32] + x[threadIdx.x / 16];
}

extern "C" __global__ void atomics(int* out, float* sum, unsigned long long* swapped) {
  __shared__ int bins[4];
  if (threadIdx.x < 4) bins[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&bins[threadIdx.x & 3], threadIdx.x);
  atomicMax(out + 4, threadIdx.x * 2);
  atomicMin(out + 5, -(int)threadIdx.x);
  atomicAdd(sum, 0.5f);
  unsigned long long seen = *swapped, wanted;
  do {
    wanted = seen;
    seen = atomicCAS(swapped, wanted, wanted + 3);
  } while (seen != wanted);
  __syncthreads();
  if (threadIdx.x < 4) atomicExch(out + threadIdx.x, bins[threadIdx.x]);
}
"""


class Row(ctypes.Structure):
    _fields_ = (
        ("scale", ctypes.c_double),
        ("first", ctypes.c_int),
        ("weights", ctypes.c_float * 5),
    )


@pytest.fixture(scope="module")
def module() -> Module:
    return compile_cuda(SOURCE)


def horner(weights: list[float], first: int, scale: float, x: float) -> float:
    total = 0.0
    for weight in weights[first:]:
        if weight < 0:
            return -total
        total = total * x + weight
    return total * scale


def test_calls_of_device_functions(module: Module) -> None:
    weights = [1.5, 2.0, 0.25, 3.0, 1.0]
    row, out, memory = Row(3.0, 1, (ctypes.c_float * 5)(*weights)), np.zeros(300), Memory()
    assert "call" in " ".join(i.name for i in module.functions["calls"].instructions)
    arguments = [bytes(row), memory.map(out, "out"), len(out)]
    report = launch(module, "calls", grid=3, block=128, arguments=arguments, memory=memory)
    by = [3, 1, 4, 1]
    for i, found in enumerate(out):
        if i % 3 == 0:
            many = [w * by[i & 3] for w in weights]
            assert found == horner(many, by[i & 3] & 1, 3.0, i * 0.5)
        else:
            assert found == horner(weights, 1, 3.0, i * 0.25) + 1
    assert report.findings == []
    # The lanes of a warp, parted by their calls, have met again where they store.
    assert report.instructions["st.global.f64"] == 4 + 4 + 2
    with pytest.raises(PtxError, match="calls_param_0 of kernel calls has 32 bytes, not 31"):
        launch(
            module, "calls", grid=1, block=1, arguments=[bytes(31), 0, 0], memory=memory
        )  # fmt: skip


def test_loops_that_diverge(module: Module) -> None:
    start, steps, memory = np.arange(1, 101, dtype="i4"), np.zeros(100, "i4"), Memory()
    arguments = [memory.map(start), memory.map(steps)]
    launch(module, "collatz", grid=1, block=100, arguments=arguments, memory=memory)
    for n, found in zip(start.tolist(), steps, strict=True):
        count = 0
        while n != 1:
            n, count = (3 * n + 1 if n % 2 else n // 2), count + 1
        assert found == count


def test_lanes_of_a_warp_work_together(module: Module) -> None:
    x = np.random.default_rng(1).integers(0, 100, 64).astype("i4")
    out, memory = np.zeros((64, 4), "i4"), Memory()
    arguments = [memory.map(x), memory.map(out)]
    report = launch(module, "warps", grid=1, block=64, arguments=arguments, memory=memory)
    for warp, found in zip(x.reshape(2, 32), out.reshape(2, 32, 4), strict=True):
        ballot = sum(1 << lane for lane in range(32) if warp[lane] & 1)
        assert (found[:, 0].astype("u4") == ballot).all()
        assert (found[:, 1] == warp.sum()).all()
        down = [warp[lane + (lane % 4 < 3)] for lane in range(8)]
        assert found[:8, 2].tolist() == [1000 * warp[:8].max() + d for d in down]
        rest = int((warp[8:] == 7).any()) + 2 * int((warp[8:] < 90).all())
        assert (found[8:, 2] == rest).all()
    assert (out[:, 3] == (x > 50).sum()).all()
    assert report.findings == []


def run_total(module: Module, x: np.ndarray, **options: object) -> tuple[float, Report]:
    parts, result, memory = np.zeros(7, "f4"), np.zeros(1, "f4"), Memory()
    arguments = [memory.map(x, "x", read_only=True), memory.map(parts), memory.map(result), len(x)]
    for _ in range(2):  # the last block has reset the ticket
        result[0] = 0
        report = launch(
            module, "total", grid=7, block=128, arguments=arguments, memory=memory,
            count_bytes_of=["x"], **options,
        )  # fmt: skip
    return float(result[0]), report


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
@pytest.mark.parametrize("blocks_at_once", [1, 3, None])
def test_the_last_block_sees_all_parts(
    module: Module, order: str, blocks_at_once: int | None
) -> None:
    x = np.random.default_rng(2).random(5000).astype("f4")
    found, report = run_total(module, x, order=order, blocks_at_once=blocks_at_once)
    assert found == run_total(module, x)[0] == pytest.approx(x.sum(), rel=1e-4)
    assert report.findings == []
    assert (report.load_counts("x") == 1).all()
    assert report.loads["x"].bytes == x.nbytes


def aligned(count: int, offset: int = 0) -> np.ndarray:
    """float32 that begin `offset` bytes behind a multiple of 128."""
    room = np.zeros(4 * count + 256, np.uint8)
    first = -room.ctypes.data % 128 + offset
    return room[first : first + 4 * count].view("f4")


def test_traffic_of_a_copy(module: Module) -> None:
    x, y, memory = aligned(2048), aligned(2048), Memory()
    x[:] = np.arange(2048)
    report = launch(
        module, "copy", grid=4, block=128, memory=memory, count_bytes_of=("x",),
        arguments=[memory.map(x, "x", read_only=True), memory.map(y, "y")],
    )  # fmt: skip
    assert (x == y).all()
    for traffic in (report.loads["x"], report.stores["y"]):
        assert (traffic.requests, traffic.bytes) == (16, x.nbytes)
        assert traffic.sectors == x.nbytes // 32
    assert (report.load_counts("x") == 1).all()
    assert report.instructions["ld.global.nc.v4.f32"] == 16
    with pytest.raises(PtxError, match="loads of 'y' were not counted by byte; counted: x"):
        report.load_counts("y")


@pytest.mark.parametrize(("offset", "sectors"), [(0, 5), (28, 4), (8, 5)])
def test_traffic_of_a_warp_that_is_not_aligned(module: Module, offset: int, sectors: int) -> None:
    x, y, memory = aligned(40, offset), aligned(32), Memory()
    arguments = [memory.map(x, "x"), memory.map(y, "y")]
    report = launch(module, "shift", grid=1, block=32, arguments=arguments, memory=memory)
    assert report.loads["x"].sectors == sectors
    assert report.loads["x"].bytes == 128


def test_the_order_of_lanes_changes_no_traffic(module: Module) -> None:
    x, y, memory = aligned(32), aligned(32), Memory()
    arguments = [memory.map(x, "x"), memory.map(y, "y")]
    report = launch(
        module, "shuffled", grid=1, block=32, arguments=arguments, memory=memory,
        count_bytes_of=["x"],
    )  # fmt: skip
    assert (report.loads["x"].requests, report.loads["x"].sectors) == (2, 4 + 1)
    assert report.load_counts("x")[::4].tolist() == [17, 17] + [1] * 30


def test_atomics_take_turns(module: Module) -> None:
    out, total, swapped = np.zeros(6, "i4"), np.zeros(1, "f4"), np.ones(1, "u8")
    memory = Memory()
    arguments = [memory.map(out), memory.map(total), memory.map(swapped)]
    launch(module, "atomics", grid=1, block=64, arguments=arguments, memory=memory)
    t = np.arange(64)
    assert out.tolist() == [int(t[t % 4 == k].sum()) for k in range(4)] + [126, -63]
    assert (total[0], swapped[0]) == (32.0, 1 + 3 * 64)


def test_sizes_of_a_launch_are_checked(module: Module) -> None:
    wrong = [
        ({"grid": 1, "block": 1025}, "a block of 1025 threads; at most 1024"),
        ({"grid": (0, 1), "block": 32}, "a grid or block of shape"),
        ({"grid": 1, "block": 32, "order": "sideways"}, "order 'sideways'; possible: forward"),
        ({"grid": 1, "block": 32, "arguments": [1]}, "kernel copy takes 2 arguments, not 1"),
    ]
    for options, message in wrong:
        with pytest.raises(PtxError, match=message):
            launch(module, "copy", memory=Memory(), **{"arguments": [0, 0], **options})
    with pytest.raises(PtxError, match=r"no kernel 'sum'; kernels here: .*copy"):
        launch(module, "sum", grid=1, block=1, arguments=[], memory=Memory())


def test_buffers_do_not_overlap() -> None:
    array, memory = np.zeros(64, "f4"), Memory()
    memory.map(array[:32], "first")
    memory.map(array[32:], "second")
    with pytest.raises(PtxError, match="buffer 'third' cannot be mapped: it overlaps 'first'"):
        memory.map(array[8:16], "third")
    with pytest.raises(PtxError, match="it is not C-contiguous"):
        memory.map(array.reshape(8, 8).T, "turned")
    starts = [region.address for region in memory.regions]
    assert all(a < b for a, b in pairwise(starts))
