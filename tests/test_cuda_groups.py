"""The CUDA kernels of positions in groups are right and deterministic, and read what counts alone.

`test_masks.py` runs them on every layout and dtype, too, as backend "cuda-interpreted".
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import cuda_host
import pytest
import torch
from cuda_host import ALL, ARCHS, PLAIN, CudaArgs, HostCudaBackend, StubDriver, host_backend
from hardware import sass
from samples import make
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor

from fmstats.backends import DTYPES, Backend
from fmstats.backends.cuda import nvrtc
from fmstats.backends.native import load_native
from fmstats.backends.reference import ReferenceBackend
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import grouped_view_of

pytestmark = cuda_host.needs_nvrtc

REFERENCE = ReferenceBackend()
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
every_kernel = pytest.mark.parametrize("kernel", nvrtc.GROUPED)

# Data whose layout the kernel is chosen for, and the dim of the channels.
TENSORS: dict[str, Callable[[torch.dtype], tuple[Tensor, int]]] = {
    "grouped_rows": lambda t: (make("nan and inf", (3, 2, 20, 320), t), 1),
    "grouped_rows_warp": lambda t: (make("nan and inf", (3, 10, 4, 16), t), 1),
    "grouped_strided": lambda t: (make("nan and inf", (9, 2, 1151), t), 1),
    "grouped_strided_warp": lambda t: (make("nan and inf", (5, 9, 7, 7), t), 1),
    "grouped_columns": lambda t: (make("nan and inf", (3, 50, 48), t), 2),
    "grouped_columns_one": lambda t: (make("nan and inf", (7, 10, 45), t), 2),
}
VECTORS = ("grouped_rows", "grouped_rows_warp", "grouped_columns")
MOST_STACK = 88  # bytes a thread, for what is needed again after the loop
# Loads and stores of the stack in the loop, by bytes of an element; else there are none.
SPILLS = {("grouped_columns", "90", 1): 4, ("grouped_columns", "100", 1): 8}
GROUPS = 3


def numbers_of(x: Tensor, channel_dim: int, over: str) -> Tensor:
    """The group of each position, of some 0: random, by all dims or by the outermost alone."""
    sizes = [1 if dim == channel_dim else size for dim, size in enumerate(x.shape)]
    if over == "samples":
        sizes = [size if dim == 0 else 1 for dim, size in enumerate(sizes)]
    if over == "places":  # of every sample alike
        sizes[0] = 1
    return torch.randint(0, GROUPS + 1, sizes, dtype=torch.uint8)


def laid_out(numbers: Tensor) -> list[Tensor]:
    """The same numbers in other memory: apart, turned, and where no vector begins."""
    wide = torch.zeros(*numbers.shape, 3, dtype=torch.uint8)
    wide[..., 1] = numbers
    turned = numbers.permute(*reversed(range(numbers.dim()))).contiguous()
    odd = torch.zeros(numbers.numel() + 1, dtype=torch.uint8)[1:].view(numbers.shape)
    odd.copy_(numbers)
    return [wide[..., 1], turned.permute(*reversed(range(numbers.dim()))), odd]


def measure(
    backend: Backend,
    x: Tensor,
    channel_dim: int,
    numbers: Tensor,
    thresholds: Thresholds = ALL,
    groups: int = GROUPS,
    state: State | None = None,
) -> State:
    state = state or State.identity(groups * x.shape[channel_dim])
    view, positions = grouped_view_of(x, channel_dim, numbers, groups)
    try:
        backend.accumulate(state, x, view, thresholds, cuda_host.some_clock(), positions)
    except RuntimeError as error:
        if backend.name == "cuda" and cuda_host.the_stub().errors:
            raise cuda_host.the_stub().errors[-1] from error
        raise
    return state


def check(
    stub: StubDriver,
    backend: Backend,
    x: Tensor,
    channel_dim: int,
    numbers: Tensor,
    thresholds: Thresholds = ALL,
) -> State:
    """The state of a tensor, once it is known to be right and nothing was found on the way."""
    got = measure(backend, x, channel_dim, numbers, thresholds)
    want = measure(REFERENCE, x, channel_dim, numbers, thresholds)
    assert_equal_states(got, want, ACCURACY[x.dtype])
    assert stub.errors == []
    assert [launch.report.findings for launch in stub.launches] == [[]] * len(stub.launches)
    return got


def kernel_of(backend: HostCudaBackend, x: Tensor, channel_dim: int, numbers: Tensor) -> str:
    assert backend.native is not None
    view, positions = grouped_view_of(x, channel_dim, numbers, GROUPS)
    launch = backend.native.GroupedLaunch(
        dtype=backend.native.DTYPES.index(str(x.dtype).removeprefix("torch.")),
        data=x.data_ptr(),
        channels=view.channels,
        channel_stride=view.channel_stride,
        dims=view.dims,
        numbers=numbers.data_ptr(),
        number_strides=positions.strides,
        groups=GROUPS,
        multiprocessors=4,
    )
    return str(launch.kernel)


@every_kernel
@every_dtype
@pytest.mark.parametrize("arch", ARCHS)
def test_every_kernel_for_every_gpu(
    stub: StubDriver, arch: str, dtype: torch.dtype, kernel: str
) -> None:
    backend = host_backend(arch)
    stub.order = "random"
    for turn, over in enumerate(("all", "samples", "places") if arch == "90" else ("all",)):
        x, dim = TENSORS[kernel](dtype)
        numbers = numbers_of(x, dim, over)
        assert kernel_of(backend, x, dim, numbers) == kernel
        check(stub, backend, x, dim, numbers, (ALL, PLAIN, Thresholds(high=1.0))[turn])


@every_kernel
@pytest.mark.parametrize("over", ["all", "samples", "places"])
def test_how_the_numbers_lie_does_not_show(stub: StubDriver, over: str, kernel: str) -> None:
    x, dim = TENSORS[kernel](torch.float32)
    numbers = numbers_of(x, dim, over)
    state = check(stub, host_backend(), x, dim, numbers)
    for same in laid_out(numbers):
        again = measure(host_backend(), x, dim, same)
        assert torch.equal(again.words, state.words)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e5m2])
def test_numbers_of_a_vector_of_every_length(stub: StubDriver, dtype: torch.dtype) -> None:
    x, dim = TENSORS["grouped_rows_warp"](dtype)
    numbers = numbers_of(x, dim, "all")
    state = check(stub, host_backend(), x, dim, numbers)
    for same in laid_out(numbers):
        assert torch.equal(measure(host_backend(), x, dim, same).words, state.words)


@pytest.mark.parametrize("width", [6, 12, 36])
@pytest.mark.parametrize("dim", [2, 3])
def test_numbers_that_change_within_a_vector(stub: StubDriver, dim: int, width: int) -> None:
    """Of a row or of a place in it: a vector may begin in one and end in the next."""
    x = make("nan and inf", (2, 5, 4, width), torch.float32)
    sizes = [1, 1, 1, 1]
    sizes[dim] = x.shape[dim]
    numbers = torch.randint(0, GROUPS + 1, sizes, dtype=torch.uint8)
    assert kernel_of(host_backend(), x, 1, numbers) == "grouped_rows_warp"
    check(stub, host_backend(), x, 1, numbers)


@pytest.mark.parametrize("kernel", ["grouped_rows", "grouped_strided", "grouped_columns"])
def test_splits_in_any_order_give_the_same_bits(stub: StubDriver, kernel: str) -> None:
    backend = host_backend(multiprocessors=400)
    shape, dim = {
        "grouped_rows": ((2, 2, 40000), 1),
        "grouped_strided": ((2, 1, 80001), 1),
        "grouped_columns": ((4, 5000, 8), 2),
    }[kernel]
    x = make("normal", shape, torch.float32)
    numbers = numbers_of(x, dim, "all")
    assert kernel_of(backend, x, dim, numbers) == kernel
    states = [check(stub, backend, x, dim, numbers)]
    assert stub.launches[0].args.splits > 2
    assert (stub.launches[0].args.groups > 1) == (kernel == "grouped_columns")
    for stub.order, stub.blocks_at_once, stub.seed in (
        *[("forward", 1, 0), ("reverse", None, 0), ("random", 7, 2), ("random", None, 3)],
    ):
        states.append(check(stub, backend, x, dim, numbers))
    assert all(torch.equal(state.words, states[0].words) for state in states)


@every_kernel
def test_what_is_of_no_group_is_not_read(stub: StubDriver, kernel: str) -> None:
    """Neither for sums nor for pivots; the state stays as it was, and nobody is alarmed."""
    x, dim = TENSORS[kernel](torch.float32)
    x.fill_(math.nan)
    numbers = torch.zeros([1] * x.dim(), dtype=torch.uint8)
    state = measure(host_backend(), x, dim, numbers)
    assert torch.equal(state.words, State.identity(state.channels).words)
    (launch,) = stub.launches
    assert "x" not in launch.report.loads
    assert "clock" not in launch.report.loads


@every_kernel
def test_a_jump_in_scale_is_measured_again(stub: StubDriver, kernel: str) -> None:
    """The sums about a running mean cancel: what is read once more is of the group alone."""
    x, dim = TENSORS[kernel](torch.float32)
    x = torch.nan_to_num(x, 1.0, 2.0, 3.0)
    numbers = numbers_of(x, dim, "all")
    backend, channels = host_backend(), GROUPS * x.shape[dim]
    state, want = State.identity(channels), State.identity(channels)
    for batch in (x, x + 1e6):
        measure(backend, batch, dim, numbers, PLAIN, state=state)
        want.merge_(measure(REFERENCE, batch, dim, numbers, PLAIN))
    assert_equal_states(state, want, ACCURACY[torch.float32])
    again = stub.launches[-1].report.loads["x"].bytes
    assert again > 1.5 * stub.launches[0].report.loads["x"].bytes / 2


@every_kernel
def test_positions_beyond_2_31(stub: StubDriver, kernel: str) -> None:
    """The 64-bit way of the kernels, on a tensor that is none too large to run."""

    def far(args: CudaArgs) -> None:
        args.narrow = args.quick = 0
        for d in range(cuda_host.MAX_DIMS):
            args.by[d].multiplier = args.number_by[d].multiplier = 0  # of no use then

    stub.change = far
    x, dim = TENSORS[kernel](torch.bfloat16)
    check(stub, host_backend(), x, dim, numbers_of(x, dim, "samples"))


@every_kernel
def test_tickets_are_left_as_they_were(stub: StubDriver, kernel: str) -> None:
    backend = host_backend(multiprocessors=400)
    x, dim = TENSORS[kernel](torch.float32)
    numbers = numbers_of(x, dim, "all")
    state = State.identity(GROUPS * x.shape[dim])
    meter = backend.meter(state, ALL, cuda_host.some_clock())
    view, positions = grouped_view_of(x, dim, numbers, GROUPS)
    want = State.identity(state.channels)
    for _ in range(3):
        meter.update_groups(x, view, positions)
        want.merge_(measure(REFERENCE, x, dim, numbers))
        _, tickets = meter._device.workspaces.room_for(0, None, 0, 0)
        assert tickets.eq(0).all()
    assert_equal_states(state, want, ACCURACY[x.dtype])


def test_a_graph_sees_the_numbers_of_its_replay(stub: StubDriver, cuda: HostCudaBackend) -> None:
    x, dim = TENSORS["grouped_columns"](torch.float32)
    numbers = numbers_of(x, dim, "all")
    state, clock = State.identity(GROUPS * x.shape[dim]), cuda_host.some_clock()
    meter = cuda.meter(state, ALL, clock)
    view, positions = grouped_view_of(x, dim, numbers, GROUPS)
    meter.update_groups(x, view, positions)
    want = measure(REFERENCE, x, dim, numbers)
    with stub.capturing(cuda.runtime) as graph:
        meter.update_groups(x, view, positions)
    graph.replay()  # the gate is closed
    assert_equal_states(state, want, ACCURACY[x.dtype])
    clock.set("phase", 0)
    numbers.copy_(numbers_of(x, dim, "all"))
    graph.replay()
    want.merge_(measure(REFERENCE, x, dim, numbers))
    assert_equal_states(state, want, ACCURACY[x.dtype])


def test_what_an_update_asks_of_the_driver(stub: StubDriver, cuda: HostCudaBackend) -> None:
    """A launch and the context it needs: nothing that waits, copies or allocates."""
    x, dim = TENSORS["grouped_columns"](torch.float32)
    numbers = numbers_of(x, dim, "all")
    meter = cuda.meter(State.identity(GROUPS * x.shape[dim]), PLAIN)
    view, positions = grouped_view_of(x, dim, numbers, GROUPS)
    meter.update_groups(x, view, positions)
    before = len(stub.calls())
    meter.update_groups(x, view, positions)
    context = ["cuCtxGetCurrent", "cuCtxPushCurrent"]
    assert stub.calls()[before:] == [*context, "cuLaunchKernel", "cuCtxPopCurrent"]


def bytes_read(
    stub: StubDriver, x: Tensor, channel_dim: int, numbers: Tensor, groups: int = 1
) -> cuda_host.Launch:
    """The second launch of two, which has a running mean of each group to start from."""
    stub.count_bytes = True
    backend = host_backend(multiprocessors=2)
    state = State.identity(groups * x.shape[channel_dim])
    for _ in range(2):
        measure(backend, x, channel_dim, numbers, ALL, groups, state)
    return stub.launches[-1]


def counted_bytes(x: Tensor, numbers: Tensor) -> Tensor:
    """How often each byte of a tensor's memory is to be read: once, where its position counts."""
    each = torch.zeros(x.numel(), dtype=torch.int64)
    each.as_strided(x.shape, x.stride()).copy_((numbers != 0).expand(x.shape))
    return each.repeat_interleave(x.itemsize)


TOKENS = {"grouped_columns": (16, 64, 64), "grouped_columns_one": (16, 64, 45)}


@pytest.mark.parametrize("kernel", TOKENS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_masked_rows_are_not_loaded(stub: StubDriver, dtype: torch.dtype, kernel: str) -> None:
    x = torch.randn(TOKENS[kernel]).to(dtype)
    numbers = torch.zeros(16 * 64, dtype=torch.bool)
    numbers[torch.randperm(16 * 64)[: 16 * 32]] = True
    numbers = numbers.view(16, 64, 1)
    assert kernel_of(host_backend(), x, 2, numbers) == kernel
    report = bytes_read(stub, x, 2, numbers).report
    assert torch.equal(torch.from_numpy(report.load_counts("x")), counted_bytes(x, numbers))
    assert report.loads["x"].bytes * 2 == x.numel() * x.itemsize


@pytest.mark.parametrize("shape", [(16, 3, 32, 64), (16, 40, 8, 8), (16, 3, 37, 41), (16, 9, 7, 7)])
def test_masked_samples_are_not_loaded(stub: StubDriver, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    numbers = (torch.arange(16) % 4 == 1).view(16, 1, 1, 1)
    report = bytes_read(stub, x, 1, numbers).report
    assert torch.equal(torch.from_numpy(report.load_counts("x")), counted_bytes(x, numbers))


@pytest.mark.parametrize("shape", [(12, 3, 32, 64), (12, 40, 8, 8), (12, 9, 7, 7), (12, 64, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_groups_of_samples_read_every_byte_once(
    stub: StubDriver, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    x = torch.randn(shape).to(dtype)
    dim = 2 if len(shape) == 3 else 1
    numbers = (torch.arange(12, dtype=torch.uint8) % 5).view(12, *[1] * (len(shape) - 1))
    launch = bytes_read(stub, x, dim, numbers, groups=4)
    counts = torch.from_numpy(launch.report.load_counts("x"))
    assert torch.equal(counts, counted_bytes(x, numbers))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fn])
def test_a_vector_of_several_groups_is_read_by_each(stub: StubDriver, dtype: torch.dtype) -> None:
    """Whole vectors are loaded wherever one of their positions counts, and no other."""
    x = torch.randn(4, 3, 32, 64).to(dtype)
    numbers = numbers_of(x, 1, "all")
    counts = bytes_read(stub, x, 1, numbers, GROUPS).report.load_counts("x")
    vectors = numbers.expand(x.shape).reshape(-1, 16 // dtype.itemsize)
    groups = sum((vectors == k).any(1).long() for k in range(1, GROUPS + 1))
    assert isinstance(groups, Tensor)
    assert torch.equal(torch.from_numpy(counts), groups.repeat_interleave(16))


@pytest.mark.parametrize("kernel", nvrtc.GROUPED)
def test_numbers_are_read_beside_the_tensor(stub: StubDriver, kernel: str) -> None:
    """Loads of a row or vector share one of numbers: fewer bytes of numbers than of the tensor."""
    x, dim = TENSORS[kernel](torch.float32)
    report = bytes_read(stub, x, dim, numbers_of(x, dim, "all"), GROUPS).report
    numbers = report.loads["numbers"]
    assert numbers.bytes <= GROUPS * x.numel() + report.loads["x"].bytes


def test_the_numbers_do_not_decide_the_plan() -> None:
    native = load_native()
    assert native is not None
    x = torch.empty(8, 32, 14, 16)
    plans = set()
    for numbers in laid_out(torch.ones(8, 1, 14, 16, dtype=torch.uint8)):
        view, positions = grouped_view_of(x, 1, numbers)
        launch = native.GroupedLaunch(
            dtype=0,
            data=0,
            channels=view.channels,
            channel_stride=view.channel_stride,
            dims=view.dims,
            numbers=numbers.data_ptr(),
            number_strides=positions.strides,
            groups=2,
            multiprocessors=132,
        )
        plans.add((launch.kernel, launch.grid, launch.block, launch.parts_words, launch.tickets))
        assert launch.args_bytes == ctypes.sizeof(cuda_host.GroupedArgs) <= 4096
    assert len(plans) == 1


@pytest.mark.skipif(sass.why_not() is not None, reason=str(sass.why_not()))
@pytest.mark.parametrize("arch", ARCHS)
@every_kernel
def test_machine_code(kernel: str, arch: str) -> None:
    """What is spilled on the way over the data is known; `pytest -rP` prints the table."""
    for code_of, dtype in enumerate(DTYPES):
        cubin = nvrtc.compile_kernel(kernel, code_of, nvrtc.ALL, f"sm_{arch}")
        code = sass.disassemble(cubin)[nvrtc.ENTRY]
        loop = sass.hot_loop(code)
        print(
            f"{kernel:21}sm_{arch:4}{str(dtype).removeprefix('torch.'):14}"
            f"{code.resources.registers:4} registers{code.resources.stack_bytes:4} B stack"
            f"{len(loop.instructions):5} instructions a gulp, loads {dict(loop.loads)}"
        )
        assert code.resources.stack_bytes <= MOST_STACK
        assert code.resources.local_bytes == 0
        if kernel in VECTORS:
            assert loop.loads[16] >= 4
        spilled = [i for i in loop.instructions if i.name in ("LDL", "STL")]
        assert len(spilled) <= SPILLS.get((kernel, arch, dtype.itemsize), 0)
