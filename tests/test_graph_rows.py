"""Rows that compiled graphs measure themselves: natively, into memory that the graph owns."""

from __future__ import annotations

import gc
from typing import Any

import cuda_host
import numpy as np
import pytest
import torch
from cuda_host import HostCudaBackend, StubDriver
from torch import Tensor, nn

import fmstats
import fmstats.backends
from fmstats.graph_ops import library, lowering, targets
from fmstats.statistic.clock import Clock
from fmstats.statistic.state import State

dynamo = pytest.importorskip("torch._dynamo")
pytestmark = pytest.mark.usefixtures("fresh_graphs")

needs_kernel = pytest.mark.skipif(
    targets.why_no_kernel("cpu") is not None, reason=str(targets.why_no_kernel("cpu"))
)
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LAYERS = ("0", "1", "2", "4")


def make_model() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    return nn.Sequential(*layers).eval()


class Around(nn.Module):
    """A model within another one, so that the hooks of its passes are in the graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def run(network: Any, times: int = 1, x: Tensor = X) -> None:
    with torch.no_grad():
        for _ in range(times):
            network(x)


@pytest.fixture
def in_python(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of targets that graphs called Python for."""
    called: list[int] = []
    find = library.find_target

    def found(number: int) -> Any:
        called.append(number)
        return find(number)

    monkeypatch.setattr(library, "find_target", found)
    return called


def compile_model(model: nn.Module, compiler: str = "inductor") -> Any:
    return torch.compile(model, backend=compiler, fullgraph=True)


@needs_kernel
@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
def test_no_python_where_the_graph_runs(in_python: list[int], compiler: str) -> None:
    """Python is called for the first tensor of each layer, and for those of another shape."""
    model = make_model()
    tracker = fmstats.track(model, include=list(LAYERS))
    network = compile_model(model, compiler)
    run(network)
    assert len(in_python) == len(LAYERS)
    run(network, 3)
    assert len(in_python) == len(LAYERS)
    stats = tracker.stats()
    assert [stats.info[name].calls for name in LAYERS] == [4] * 4
    assert {row.calls for row in tracker.coverage()} == {4}
    with fmstats.track(model := make_model(), include=list(LAYERS)) as eager:
        run(model, 4)
    for name, want in eager.stats().items():
        assert (stats[name].count == want.count).all()
        np.testing.assert_allclose(stats[name].mean, want.mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(stats[name].var, want.var, rtol=1e-4)


def generated_code(model: nn.Module) -> str:
    from torch._inductor.utils import run_and_get_code

    with torch.no_grad():
        _, (code, *_) = run_and_get_code(compile_model(model), X)
    return str(code)


@needs_kernel
def test_on_a_cpu_a_graph_is_handed_no_memory(in_python: list[int]) -> None:
    """Each argument of a graph costs time in each pass; there is no CUDA graph to hold it."""
    tracker = fmstats.track(model := make_model(), include="2")
    code = generated_code(model)
    row = next(iter(tracker.layers)).rows[0]
    assert code.count("extern_kernels.fmstats.observe_on_host(") == 1
    assert f"({row.states[0].memory.numel()}, )" not in code
    assert "hand_over" not in code


@cuda_host.needs_nvrtc
@needs_kernel
def test_a_graph_changes_its_own_memory(cuda: HostCudaBackend, in_python: list[int]) -> None:
    """It is what the row has, handed over as an argument: nothing is copied for Inductor."""
    model = make_model()
    tracker = fmstats.track(model, include="2")
    code = generated_code(model)
    row = next(iter(tracker.layers)).rows[0]
    memory = row.states[0].memory
    assert memory is not None
    size = f"({memory.numel()}, )"
    assert code.count("extern_kernels.fmstats.observe(") == 1
    line = next(line for line in code.splitlines() if "fmstats.observe(" in line)
    state = line.split("(")[1].split(",")[1].strip()
    assert f"assert_size_stride({state}, {size}" in code
    assert "hand_over" not in code


@cuda_host.needs_nvrtc
def test_what_is_changed_has_a_fixed_address(cuda: HostCudaBackend) -> None:
    """Else CUDA graphs of Inductor's would be given up, or copy it."""
    from torch._inductor import compile_fx

    seen = []
    inner = compile_fx.compile_fx_inner

    def watch(module: Any, inputs: Any, **kwargs: Any) -> Any:
        made = inner(module, inputs, **kwargs)
        seen.append((set(made.mutated_input_idxs), set(kwargs["static_input_idxs"])))
        return made

    model = Around(make_model())
    tracker = fmstats.track(model.model, include=list(LAYERS))
    from functools import partial

    from torch._inductor.compile_fx import compile_fx as whole

    run(torch.compile(model, backend=partial(whole, inner_compile=watch), fullgraph=True))
    ((mutated, static),) = seen
    assert len(mutated) == len(LAYERS) + 1  # and the clock
    assert mutated <= static
    assert len(tracker.stats()) == len(LAYERS)


def arguments_of(name: str, number: int) -> tuple[Any, ...]:
    if "on_host" in name:
        return torch.randn(2, 3, 4), torch.zeros(1, dtype=torch.int64), number
    given = (torch.randn(2, 3, 4), State.identity(3).memory, Clock().words, number)
    return (*given, 1, 0.0, None, 6.0) if name == "observe" else given


OPERATIONS = ("observe", "observe_in_python", "observe_on_host", "observe_on_host_in_python")


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_operation_is_what_it_declares(name: str) -> None:
    args = arguments_of(name, -1)
    torch.library.opcheck(getattr(torch.ops.fmstats, name).default, args)


@needs_kernel
@pytest.mark.parametrize("shut", ["pause", "close"])
def test_the_gate(in_python: list[int], shut: str) -> None:
    model = make_model()
    tracker = fmstats.track(model, include="2")
    network = compile_model(model)
    run(network, 2)
    getattr(tracker, shut)()
    torch._dynamo.config.error_on_recompile = shut == "pause"
    try:
        run(network, 2)
        assert tracker.stats().info["2"].calls == 2
        if shut == "pause":
            tracker.resume()
            run(network)
            assert tracker.stats().info["2"].calls == 3
    finally:
        torch._dynamo.config.error_on_recompile = False
    assert len(in_python) == 1


@needs_kernel
def test_a_forgotten_tracker_is_collected(in_python: list[int]) -> None:
    model = make_model()
    tracker = fmstats.track(model, include="2")
    network = compile_model(model)
    run(network, 2)
    number = next(iter(tracker.layers[0].rows[0].in_graphs.values())).number
    del tracker
    gc.collect()
    assert targets.find_target(number) is None
    called = len(in_python)
    for name in ("observe", "observe_on_host"):
        getattr(torch.ops.fmstats, name)(*arguments_of(name, number))
    assert len(in_python) == called


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"per_call": True}, "for the rows of each call"),
        ({"on_error": "raise"}, "for on_error='raise'"),
        ({"on_nonfinite": "warn"}, "for on_nonfinite="),
        ({"budget": 0.5}, "to be timed for the budget"),
    ],
)
def test_what_is_handed_to_python(options: dict[str, Any], why: str) -> None:
    model = make_model()
    tracker = fmstats.track(model, include="2", **options)
    run(compile_model(model), 2)
    (row,) = tracker.coverage()
    assert row.status == "tracked"
    assert row.reason == f"in compiled graphs measured by Python {why}"


def test_a_layer_that_fails_is_left_alone() -> None:
    model = make_model()
    tracker = fmstats.track(model, include="2")
    network = compile_model(model)
    run(network, 2)
    layer = tracker.layers[0]
    with pytest.warns(RuntimeWarning, match="no longer measures"):
        layer.fail(RuntimeError("it did not work"))
    run(network, 2)
    assert tracker.stats().info["2"].calls == 2


@needs_kernel
@pytest.mark.parametrize("name", ["observe", "observe_on_host"])
def test_nothing_leaks(name: str) -> None:
    """Each call of the kernel releases the tensors that it is handed."""
    args = arguments_of(name, -1)
    tensors = [arg for arg in args if isinstance(arg, Tensor)]

    def users() -> list[int]:
        return [tensor._use_count() for tensor in tensors]  # type: ignore[union-attr]

    before = users()
    for _ in range(5):
        getattr(torch.ops.fmstats, name)(*args)
    assert users() == before


@cuda_host.needs_nvrtc
@needs_kernel
def test_launches_from_a_graph(
    stub: StubDriver, cuda: HostCudaBackend, in_python: list[int]
) -> None:
    """After the first pass a layer is one launch, without Python."""
    model = make_model()
    tracker = fmstats.track(model, include=list(LAYERS))
    network = compile_model(model)
    run(network)
    before, launched = len(stub.calls()), len(stub.launches)
    run(network)
    context = ["cuCtxGetCurrent", "cuCtxPushCurrent"]
    each = [*context, "cuStreamIsCapturing", "cuLaunchKernel", "cuCtxPopCurrent"]
    assert stub.calls()[before:] == each * len(LAYERS)
    assert len(stub.launches) == launched + len(LAYERS)
    assert len(in_python) == len(LAYERS)
    stats = tracker.stats()
    assert {stats.info[name].calls for name in LAYERS} == {2}


@cuda_host.needs_nvrtc
@pytest.mark.parametrize("every", [1, 3])
def test_a_captured_graph(stub: StubDriver, cuda: HostCudaBackend, every: int) -> None:
    """Replays of a compiled model: passes, calls and the gate, all on the device."""
    model = Around(make_model())
    tracker = fmstats.track(model.model, include=list(LAYERS), every=every)
    network = compile_model(model)
    run(network)
    with stub.capturing(cuda.runtime) as graph:
        run(network)
    assert len(graph.recorded) == 1 + len(LAYERS)
    calls = []
    for _ in range(4):
        graph.replay()
        calls.append(tracker.stats().info["2"].calls)
    # The pass before the capture was the first of three.
    assert calls == ([2, 3, 4, 5] if every == 1 else [1, 1, 2, 2])
    assert tracker.stats().metadata["passes"] == 5
    tracker.pause()
    graph.replay()
    assert tracker.stats().metadata["passes"] == 5
    tracker.resume()
    graph.replay()
    assert tracker.stats().metadata["passes"] == 6


def test_layers_that_are_measured_for_more_keep_an_operation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What Inductor makes within kernels has no histograms; coverage() tells the reason."""
    model = make_model()
    monkeypatch.setattr(lowering, "why_not", lambda *_: None)  # as of a tensor on a fitting GPU
    with fmstats.track(model) as plain, fmstats.track(model, measure="histogram") as more:
        run(torch.compile(model, backend="aot_eager"))
    for tracker, may in ((plain, True), (more, False)):
        rows = [row for layer in tracker.layers for row in layer.rows]
        numbers = [there.number for row in rows for there in row.in_graphs.values()]
        assert numbers
        assert all(lowering.may_be_split(None, 1, number) is may for number in numbers)
    assert {row.reason for row in more.coverage() if row.name in LAYERS} == {
        "in compiled graphs measured by an operation of its own: it is also measured for histogram"
    }
    assert {row.reason for row in plain.coverage() if row.name in LAYERS} == {None}
