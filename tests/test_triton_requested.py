"""Triton's kernels measure what is requested as the reference does, beside what always is.

Their PTX is run by the interpreter of tests/ptx, but where Triton's own interpreter is asked for.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
import triton_host
from hardware import sass
from partials import open_clock
from samples import make
from test_triton_groups import GROUPS, numbers_of
from test_triton_groups import TENSORS as GROUPED
from test_triton_kernels import TENSORS
from test_triton_machine_code import AMD
from tolerances import ACCURACY, assert_equal_requested, assert_equal_states
from torch import Tensor
from triton_host import PtxBackend, host_backend, target_of

from fmstats.backends import DTYPES, Backend, choose_backend
from fmstats.backends.reference import ReferenceBackend
from fmstats.backends.triton import engine
from fmstats.backends.triton.plan import plan
from fmstats.statistic.bins import Bins
from fmstats.statistic.fields import FIELDS
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import grouped_view_of, view_of

compiled = triton_host.needs_triton
interpreted = pytest.mark.skipif(not engine.interpreting(), reason="needs TRITON_INTERPRET=1")

REFERENCE = ReferenceBackend()
ALL = Thresholds(zero_tol=0.1, low=-0.5, high=1.0)
EVERYTHING = ("abs", "kurtosis", "histogram")
BINS = [Bins(scope, resolution) for scope in ("layer", "channel") for resolution in (0, 4, 6)]
# Of kurtosis, relative; of skewness, absolute.
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
every_kernel = pytest.mark.parametrize("kernel", TENSORS)
every_bins = pytest.mark.parametrize("bins", BINS, ids=lambda b: f"{b.scope}-{b.resolution}")


def measure(
    backend: Backend,
    x: Tensor,
    measures: Measures,
    state: State | None = None,
    channel_dim: int = 1,
    numbers: Tensor | None = None,
) -> State:
    groups = 1 if numbers is None else GROUPS
    if state is None:
        state = State.identity(groups * x.shape[channel_dim], "cpu", measures, groups)
    if numbers is None:
        backend.accumulate(state, x, view_of(x, channel_dim), ALL)
    else:
        view, positions = grouped_view_of(x, channel_dim, numbers, groups)
        backend.accumulate(state, x, view, ALL, None, positions)
    return state


def assert_same(got: State, want: State, dtype: torch.dtype) -> None:
    """What is always measured, and what is requested, as promised."""
    assert_equal_states(got, want, ACCURACY[dtype])
    assert_equal_requested(got, want, ACCURACY[dtype])


def check(backend: Backend, measures: Measures, *tensors: Tensor, **how: Any) -> State:
    """The state of some tensors, once it is known to be right and nothing was found on the way."""
    got = want = None
    for x in tensors:
        got = measure(backend, x, measures, got, **how)
        want = measure(REFERENCE, x, measures, want, **how)
    assert got is not None
    assert want is not None
    assert_same(got, want, tensors[0].dtype)
    if isinstance(backend, PtxBackend):
        for run in backend.ptx.runs:
            assert (run.measure.findings, run.fold.findings) == ([], [])
    return got


def at_edges(dtype: torch.dtype) -> Tensor:
    """Both neighbours of many edges of bins, and of what is in no bin, of either sign."""
    edges = torch.from_numpy(Bins("layer", 6).edges()).to(dtype).double()
    others = [0.0, math.nan, math.inf, 65504.0, 65520.0, 2.0**-24, 2.0**-25, torch.finfo(dtype).max]
    x = torch.cat([edges, torch.tensor([*others, torch.finfo(dtype).smallest_normal / 2])])
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    around = [(x.to(dtype).view(bits) + step).view(dtype).double() for step in (-1, 0, 1)]
    x = torch.cat([*around, *(-y for y in around), torch.tensor([0.0] * (-6 * len(x) % 48))])
    return x.to(dtype)


@interpreted
@every_bins
def test_interpreted_everything(bins: Bins) -> None:
    turn = BINS.index(bins)
    kernel, dtype = list(TENSORS)[turn % 3], DTYPES[turn]
    backend, measures = choose_backend("triton", torch.device("cpu")), Measures.of(EVERYTHING, bins)
    check(backend, measures, *(TENSORS[kernel](kind, 5, dtype) for kind in ("nan and inf", "relu")))
    x, dim = GROUPED[kernel]("nan and inf", dtype)
    check(backend, measures, x, channel_dim=dim, numbers=numbers_of(x, dim, "all"))


@compiled
@every_kernel
@every_dtype
def test_every_kernel(dtype: torch.dtype, kernel: str) -> None:
    """Of float32 what is always measured has the bits that it has where nothing is requested."""
    tensors = [TENSORS[kernel](k, 25, dtype) for k in ("nan and inf", "any bits", "large mean")]
    bins = BINS[(DTYPES.index(dtype) + len(kernel)) % len(BINS)]
    everything = check(host_backend(), Measures.of(EVERYTHING, bins), *tensors)
    if dtype == torch.float32:
        always = check(host_backend(), ALWAYS, *tensors)
        assert torch.equal(everything.words[: len(FIELDS)], always.words)


@compiled
@every_dtype
def test_edges_of_bins(dtype: torch.dtype) -> None:
    x = at_edges(dtype).view(-1, 48)
    for bins in (Bins("layer", 0), Bins("layer", 4), Bins("channel", 6)):
        state = check(host_backend(), Measures((), bins), x)
        assert state.bins is not None
        assert int(state.bins.sum()) == int((x.double().abs() < math.inf).sum() - (x == 0).sum())


@compiled
@pytest.mark.parametrize(
    ("kernel", "over", "dtype"),
    [
        ("rows", "all", torch.float32),
        ("rows", "samples", torch.float8_e4m3fn),
        ("columns", "all", torch.bfloat16),
        ("strided", "places", torch.float32),
    ],
)
def test_each_group_has_its_own(kernel: str, over: str, dtype: torch.dtype) -> None:
    x, dim = GROUPED[kernel]("nan and inf", dtype)
    how = {"channel_dim": dim, "numbers": numbers_of(x, dim, over)}
    for bins in (Bins("layer", 4), Bins("channel", 4)):
        check(host_backend(), Measures.of(EVERYTHING, bins), x, **how)


@compiled
@pytest.mark.parametrize("asked", EVERYTHING)
def test_each_measure_alone(asked: str) -> None:
    x = TENSORS["columns"]("nan and inf", 25, torch.float32)
    check(host_backend(), Measures.of(asked), x, 3 * x[:50] + 1, x)


@compiled
@every_kernel
def test_programs_in_any_order_give_the_same_bits(kernel: str) -> None:
    x, measures = TENSORS[kernel]("normal", 60, torch.float32), Measures.of(EVERYTHING)
    states = [
        check(host_backend(block_order=order, at_once=at_once), measures, x)
        for order, at_once in (("forward", None), ("reverse", 1), ("random", 7))
    ]
    assert all(torch.equal(state.memory, states[0].memory) for state in states)  # type: ignore[arg-type]


@compiled
@every_kernel
def test_a_jump_in_scale_is_measured_again(kernel: str) -> None:
    """A running mean that is no use as pivot: the powers cancel, and are made again."""
    backend = host_backend()
    x = TENSORS[kernel]("normal", 25, torch.float32)
    check(backend, Measures.of(EVERYTHING), x, x + 1e6, x)
    assert ["x" in run.fold.loads for run in backend.ptx.runs][:2] == [False, True]


@compiled
def test_what_samples_do_not_show_is_measured_again() -> None:
    """No sample is finite, so the pivot is 0: fourth powers about it would have no digit left."""
    x = torch.full((1, 3, 40_000), math.nan)
    x[..., -30:] = 1e5 + torch.randn(1, 3, 30)
    backend = host_backend()
    check(backend, Measures.of("kurtosis"), x)
    assert "x" in backend.ptx.runs[0].fold.loads


@compiled
def test_a_constant_deviates_by_nothing() -> None:
    """No sample is finite, so the pivot is 0, and sums about it are rounded."""
    x = torch.full((1, 3, 40_000), math.nan)
    x[..., -30:] = torch.rand(1, 3, 1)
    state = check(host_backend(), Measures.of("kurtosis"), x)
    assert not state["m3"].any()
    assert not state["m4"].any()


@compiled
@pytest.mark.parametrize("kind", ["constant", "huge", "tiny", "subnormal", "masked", "all nan"])
def test_every_kind_of_data(kind: str) -> None:
    for dtype in (torch.float32, torch.float64):
        x = make(kind, (6, 5, 40), dtype)
        check(host_backend(), Measures.of(("abs", "kurtosis")), x, x)


@compiled
@every_kernel
def test_every_byte_is_read_once_and_nothing_else_is_written(kernel: str) -> None:
    """Of a second tensor into a state: the first one's pivots come from samples."""
    x = TENSORS[kernel]("relu", 40, torch.float32)
    backend = host_backend(count_bytes=True)
    state = measure(backend, x, Measures.of(EVERYTHING))
    measure(backend, x, Measures.of(EVERYTHING), state)
    run = backend.ptx.runs[-1]
    assert (run.measure.load_counts("x") <= 1).all()
    assert int(run.measure.load_counts("x").sum()) == x.numel() * x.itemsize
    assert set(run.measure.stores) == {"parts", "powers"}
    assert set(run.measure.atomics) == {"bins"}
    assert run.measure.atomics["bins"].bytes == 8 * int((x != 0).sum())
    assert set(run.fold.stores) == {"state"}
    assert "x" not in run.fold.loads


@compiled
@pytest.mark.parametrize("groups", [False, True])
def test_a_closed_gate_counts_nothing(groups: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a graph replays it: open, what was measured and how often; closed, nothing is touched."""
    monkeypatch.setattr("fmstats.backends.triton.meter.hold", lambda meter: None)
    backend, clock = host_backend(), open_clock()
    measures = Measures.of(EVERYTHING, Bins("channel", 4))
    x, dim = GROUPED["rows"]("nan and inf", torch.float32)
    count = GROUPS if groups else 1
    state = State.identity(count * x.shape[dim], "cpu", measures, count)
    view, positions = grouped_view_of(x, dim, numbers_of(x, dim, "all"), GROUPS)
    meter = backend.meter(state, ALL, clock)

    def update() -> None:
        if groups:
            meter.update_groups(x, view, positions)
        else:
            meter.update(x, view_of(x, dim))

    update()
    clock.set("enabled", 0)
    once = state.memory.clone()  # type: ignore[union-attr]
    monkeypatch.setattr(backend.ptx, "capturing", lambda: True)
    update()
    assert torch.equal(state.memory, once)  # type: ignore[arg-type]
    assert set(backend.ptx.runs[-1].measure.loads) == {"clock"}
    clock.set("enabled", 1)
    update()
    assert state.replayed == 1
    assert torch.equal(state.bins.sum(), 2 * once[-1 - state.bins.numel() : -1].sum())  # type: ignore[union-attr]


def compiled_for(kernel: str, dtype: torch.dtype, target: str) -> Any:
    from fmstats.backends.triton import compiler

    x = TENSORS[kernel]("zero", 160, dtype)
    layout = plan(view_of(x, 1), 0, dtype.itemsize, x.shape[1], sums=True).layout
    name, measures = str(dtype).removeprefix("torch."), Measures.of(EVERYTHING)
    return compiler.compile_measure(name, "all", layout, target_of(target), measures)


@compiled
@pytest.mark.skipif(sass.why_not() is not None, reason=str(sass.why_not()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("kernel", ["rows", "columns"])
def test_nvidia(kernel: str, dtype: torch.dtype) -> None:
    """Registers are printed with `pytest -rP`; next to nothing spills."""
    made = compiled_for(kernel, dtype, "90")
    code = sass.disassemble(made.asm["cubin"])[made.metadata.name]
    stack = code.resources.stack_bytes
    print(f"{kernel:9}{dtype} {code.resources.registers} registers, {stack} bytes of stack")
    assert stack <= (16 if (kernel, dtype.itemsize) == ("columns", 1) else 0)


@compiled
@pytest.mark.parametrize("arch", AMD)
def test_amd(arch: str) -> None:
    text = compiled_for("rows", torch.float32, arch).asm["amdgcn"]
    assert re.search(r"(global|flat|buffer)_atomic_add", text), "one instruction an element"
    spilled = int(re.findall(r"\.vgpr_spill_count: +(\d+)", text)[-1])
    print(f"{arch} spills {spilled} registers")
    assert spilled <= 8
