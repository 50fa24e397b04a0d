"""Triton's kernels measure the positions of each group: right, in any memory, and no other is read.

Their PTX is run by the interpreter of tests/ptx, but where Triton's own interpreter is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import triton_host
from samples import make
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor
from triton_host import PtxBackend, host_backend

from fmstats.backends import DTYPES, Backend, choose_backend
from fmstats.backends.reference import ReferenceBackend
from fmstats.backends.triton import engine
from fmstats.backends.triton.plan import Launch, grouped_pieces_of, plan_groups
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import grouped_view_of

compiled = triton_host.needs_triton
interpreted = pytest.mark.skipif(not engine.interpreting(), reason="needs TRITON_INTERPRET=1")

REFERENCE = ReferenceBackend()
ALL = Thresholds(zero_tol=0.1, low=-0.5, high=1.0)
GROUPS = 3
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))

# Data whose layout the kernel is chosen for, and the dim of the channels.
TENSORS: dict[str, Callable[[str, torch.dtype], tuple[Tensor, int]]] = {
    "rows": lambda kind, t: (make(kind, (3, 2, 20, 48), t), 1),
    "columns": lambda kind, t: (make(kind, (3, 50, 48), t), 2),
    "strided": lambda kind, t: (make(kind, (5, 3, 7, 14), t)[..., ::2], 1),
}
every_kernel = pytest.mark.parametrize("kernel", TENSORS)
every_way = pytest.mark.parametrize("over", ["all", "samples", "places"])


def numbers_of(x: Tensor, channel_dim: int, over: str) -> Tensor:
    """The group of each position, of some 0: random, by all dims, the outermost or all others."""
    sizes = [1 if dim == channel_dim else size for dim, size in enumerate(x.shape)]
    if over == "samples":
        sizes = [size if dim == 0 else 1 for dim, size in enumerate(sizes)]
    if over == "places":
        sizes[0] = 1
    return torch.randint(0, GROUPS + 1, sizes, dtype=torch.uint8)


def laid_out(numbers: Tensor) -> list[Tensor]:
    """The same numbers in other memory: apart, and turned."""
    wide = torch.zeros(*numbers.shape, 3, dtype=torch.uint8)
    wide[..., 1] = numbers
    back = tuple(reversed(range(numbers.dim())))
    return [wide[..., 1], numbers.permute(back).contiguous().permute(back)]


def measure(
    backend: Backend,
    x: Tensor,
    channel_dim: int,
    numbers: Tensor,
    groups: int = GROUPS,
    state: State | None = None,
) -> State:
    state = state or State.identity(groups * x.shape[channel_dim])
    view, positions = grouped_view_of(x, channel_dim, numbers, groups)
    backend.accumulate(state, x, view, ALL, None, positions)
    return state


def check(backend: Backend, x: Tensor, channel_dim: int, numbers: Tensor) -> State:
    """The state of a tensor, once it is known to be right and nothing was found on the way."""
    got = measure(backend, x, channel_dim, numbers)
    want = measure(REFERENCE, x, channel_dim, numbers)
    assert_equal_states(got, want, ACCURACY[x.dtype])
    if isinstance(backend, PtxBackend):
        for run in backend.ptx.runs:
            assert (run.measure.findings, run.fold.findings) == ([], [])
    return got


def launch_of(x: Tensor, channel_dim: int, numbers: Tensor) -> Launch:
    view, positions = grouped_view_of(x, channel_dim, numbers, GROUPS)
    ((_, piece, _, strides),) = grouped_pieces_of(view, positions.strides)
    return plan_groups(piece, strides, GROUPS, x.data_ptr(), x.itemsize, x.shape[channel_dim])


def counted_bytes(x: Tensor, numbers: Tensor) -> Tensor:
    """How often each byte of a dense tensor is to be read: once, where its position counts."""
    each = torch.zeros(x.numel(), dtype=torch.int64)
    each.as_strided(x.shape, x.stride()).copy_((numbers != 0).expand(x.shape))
    return each.repeat_interleave(x.itemsize)


@interpreted
@pytest.mark.parametrize(
    ("kernel", "over"),
    [("rows", "all"), ("rows", "samples"), ("columns", "all"), ("strided", "places")],
)
def test_interpreted_groups(kernel: str, over: str) -> None:
    x, dim = TENSORS[kernel]("nan and inf", torch.bfloat16)
    backend = choose_backend("triton", x.device)
    numbers = numbers_of(x, dim, over)
    state = check(backend, x, dim, numbers)
    for same in laid_out(numbers):
        assert torch.equal(measure(backend, x, dim, same).words, state.words)


@compiled
@every_kernel
@every_dtype
def test_each_group_has_its_statistics(dtype: torch.dtype, kernel: str) -> None:
    for turn, over in enumerate(("all", "samples", "places")):
        x, dim = TENSORS[kernel](("nan and inf", "large mean", "huge")[turn], dtype)
        numbers = numbers_of(x, dim, over)
        assert launch_of(x, dim, numbers).layout.kernel == kernel
        check(host_backend(), x, dim, numbers)


@compiled
@every_kernel
@every_way
def test_how_the_numbers_lie_does_not_show(over: str, kernel: str) -> None:
    x, dim = TENSORS[kernel]("normal", torch.float32)
    backend, numbers = host_backend(), numbers_of(x, dim, over)
    state = check(backend, x, dim, numbers)
    for same in laid_out(numbers):
        assert torch.equal(measure(backend, x, dim, same).words, state.words)


@compiled
@every_kernel
def test_a_group_is_as_alone_and_all_together_are_the_whole(kernel: str) -> None:
    x, dim = TENSORS[kernel]("normal", torch.float32)
    backend, numbers = host_backend(), numbers_of(x, dim, "all")
    words = measure(backend, x, dim, numbers).words.split(x.shape[dim], 1)
    merged = State.identity(x.shape[dim])
    for k, group in enumerate(words, start=1):
        alone = measure(backend, x, dim, numbers == k, 1)
        assert torch.equal(alone.words, group)
        merged.merge_(State(group))
    whole = measure(backend, x, dim, numbers > 0, 1)
    assert_equal_states(merged, whole, ACCURACY[x.dtype])


@compiled
@every_kernel
def test_nothing_left_changes_nothing(kernel: str) -> None:
    x, dim = TENSORS[kernel]("all nan", torch.float32)
    backend, numbers = host_backend(), numbers_of(x, dim, "all") * 0
    state = measure(backend, x, dim, numbers)
    assert torch.equal(state.words, State.identity(state.channels).words)
    (run,) = backend.ptx.runs
    assert "x" not in run.measure.loads
    assert "x" not in run.fold.loads


@compiled
@every_kernel
def test_a_layer_goes_on_where_it_was(kernel: str) -> None:
    """Running means of groups are the pivots of the next tensor; its NaN at 0 are not seen."""
    backend, state, want = host_backend(), None, None
    for turn in range(3):
        x, dim = TENSORS[kernel]("large mean", torch.float32)
        numbers = numbers_of(x, dim, ("all", "samples")[turn % 2])
        x = torch.where(numbers == 0, math.nan, x)
        state = measure(backend, x, dim, numbers, state=state)
        want = measure(REFERENCE, x, dim, numbers, state=want)
    assert state is not None
    assert want is not None
    assert_equal_states(state, want, ACCURACY[x.dtype])
    assert not state["nan"].any()


@compiled
@every_kernel
def test_samples_of_the_group_make_its_pivot(kernel: str) -> None:
    """The first tensor of a layer, far from zero and from what is masked, is not read again."""
    backend = host_backend()
    x, dim = TENSORS[kernel]("normal", torch.float32)
    numbers = numbers_of(x, dim, "all")
    check(backend, torch.where(numbers == 0, -1e6, x + 1000 * numbers), dim, numbers)
    assert "x" not in backend.ptx.runs[0].fold.loads


# Tensors, the dim of their channels and the shape of a mask of which half is open.
MASKED = {
    "tokens": ((16, 64, 64), 2, (16, 64, 1)),
    "samples of tokens": ((16, 64, 64), 2, (16, 1, 1)),
    "samples of images": ((16, 3, 16, 16), 1, (16, 1, 1, 1)),
    "pixels one by one": ((16, 3, 7, 7), 1, (16, 1, 7, 7)),
}


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("case", MASKED)
def test_what_is_masked_is_not_loaded(case: str, dtype: torch.dtype) -> None:
    """Of a second tensor into a state: the first one's pivots come from samples."""
    shape, dim, covered = MASKED[case]
    x = torch.randn(shape).to(dtype)
    order = torch.randperm(math.prod(covered)).view(covered)
    numbers = order < math.prod(covered) // 2
    backend = host_backend(count_bytes=True)
    state = State.identity(shape[dim])
    for _ in range(2):
        measure(backend, x, dim, numbers, 1, state)
    run = backend.ptx.runs[-1]
    counts = torch.from_numpy(run.measure.load_counts("x"))
    assert torch.equal(counts, counted_bytes(x, numbers))
    assert "x" not in run.fold.loads


@compiled
def test_a_slot_is_loaded_for_each_group_in_it() -> None:
    x = torch.randn(4, 3, 32, 64)
    numbers = numbers_of(x, 1, "all")
    backend, state = host_backend(count_bytes=True), State.identity(3 * GROUPS)
    for _ in range(2):
        measure(backend, x, 1, numbers, GROUPS, state)
    counts = backend.ptx.runs[-1].measure.load_counts("x")
    slots = numbers.expand(x.shape).reshape(-1, 4)
    groups = torch.stack([(slots == k).any(1) for k in range(1, GROUPS + 1)]).sum(0)
    assert torch.equal(torch.from_numpy(counts), groups.repeat_interleave(16))


@compiled
def test_numbers_that_change_within_a_slot() -> None:
    """Of a line or of a place in it: a slot may begin in one and end in the next."""
    for width in (6, 12):
        x = make("nan and inf", (2, 5, 4, width), torch.float32)
        for dim in (2, 3):
            sizes = [size if d == dim else 1 for d, size in enumerate(x.shape)]
            numbers = torch.randint(0, GROUPS + 1, sizes, dtype=torch.uint8)
            check(host_backend(), x, 1, numbers)


@compiled
def test_more_dims_than_a_launch_walks_over() -> None:
    x = make("normal", (2, 3, 2, 3, 2, 3, 2), torch.float32).transpose(3, 6)[..., ::2]
    numbers = numbers_of(x, 1, "all")
    backend = host_backend()
    check(backend, x, 1, laid_out(numbers)[1])
    assert len(backend.ptx.runs) > 1


@compiled
def test_no_numbers_where_every_position_counts() -> None:
    """Kernels for masks are kernels of their own: the others are not even given a mask."""
    from fmstats.backends.triton import compiler

    x, dim = TENSORS["rows"]("normal", torch.float32)
    grouped = launch_of(x, dim, numbers_of(x, dim, "all")).layout
    assert grouped.grouped
    for constants in (
        compiler.measure_constants("float32", "all", type(grouped)("rows", 4, 4, 2, True)),
        compiler.fold_constants("float32"),
    ):
        assert [constants[name] for name in compiler.OF_GROUPS] == [None] * len(compiler.OF_GROUPS)


def test_the_numbers_do_not_decide_the_cut() -> None:
    x = torch.empty(8, 32, 14, 16)
    numbers = torch.ones(8, 1, 14, 16, dtype=torch.uint8)
    launches = [launch_of(x, 1, same) for same in (numbers, *laid_out(numbers), numbers[:1])]
    cuts = {(launch.measure, launch.programs, launch.parts) for launch in launches}
    assert len(cuts) == 1
