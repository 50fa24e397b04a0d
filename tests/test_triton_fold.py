"""The Triton kernel that folds partials: its PTX, and its Python in Triton's interpreter."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
import triton_host
from hardware import sass
from partials import MISFITS, Layer, arguments, fold, open_clock
from samples import make
from test_triton_machine_code import AMD
from tolerances import ROUNDING, assert_equal_states
from triton_host import ARCHS, PtxBackend, host_backend, target_of

from fmstats.backends import choose_backend
from fmstats.backends.base import Backend
from fmstats.backends.pytorch import TorchBackend
from fmstats.backends.triton import engine
from fmstats.errors import FmstatsError
from fmstats.statistic.fields import COUNTS, MODES, MOMENTS
from fmstats.statistic.state import State

interpreted = pytest.mark.skipif(not engine.interpreting(), reason="needs TRITON_INTERPRET=1")
compiled = triton_host.needs_triton
TORCH = TorchBackend()
SHAPES = ((5, 6, 20), (64, 70, 3), (3, 300, 2), (200, 1, 3), (17, 16, 3), (300, 5, 1))


def check(backend: Backend, *layers: Layer) -> None:
    """Fold by the kernel and by PyTorch's operations: the same states, within rounding."""
    others = [State.in_memory(layer.state.memory.clone()) for layer in layers]  # type: ignore[union-attr]
    clock, other_clock = open_clock(), open_clock()
    args: Any = arguments(layers, clock)
    backend.fold(*args)
    TORCH.fold(args[0], [s.memory for s in others], other_clock.words, *args[3:])  # type: ignore[misc]
    assert torch.equal(clock.words, other_clock.words)
    for layer, other in zip(layers, others, strict=True):
        assert_equal_states(layer.state, other, ROUNDING)
        assert layer.state.memory[-1] == other.memory[-1]  # type: ignore[index]
    if isinstance(backend, PtxBackend):
        assert [report.findings for report in backend.ptx.folds] == [[]] * len(backend.ptx.folds)


def some_layers(mode: str, shapes: Any = SHAPES) -> list[Layer]:
    layers = []
    for shape in shapes:
        x = make("nan and inf", shape, torch.float32)
        for planes in (True, False):
            layers.append(Layer(x, mode, planes))
    return layers


@compiled
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arch", ARCHS)
def test_all_shapes(arch: str, mode: str) -> None:
    backend = host_backend(arch, block_order="random")
    layers = some_layers(mode, SHAPES if arch == "90" else SHAPES[:2])
    check(backend, *layers)
    check(backend, *layers)  # into states that have data
    assert len(backend.ptx.folds) == 2 * len(layers)


@interpreted
@pytest.mark.parametrize("mode", MODES)
def test_all_shapes_interpreted(mode: str) -> None:
    backend = choose_backend("triton", torch.device("cpu"))
    layers = some_layers(mode)
    for _ in range(2):
        check(backend, *layers)


@compiled
@pytest.mark.parametrize(
    "kind",
    ["constant", "negative zero", "subnormal", "huge", "all nan", "all inf", "large mean"],
)
def test_every_kind_of_data(kind: str) -> None:
    layers = [
        Layer(make(kind, (20, 6, 5), torch.float32), mode, planes)
        for mode in MODES
        for planes in (True, False)
    ]
    fold(host_backend(), layers)
    for layer in layers:
        assert_equal_states(layer.state, layer.want, (1e-12, 1e-9))


@compiled
@pytest.mark.parametrize("words", [{"enabled": 0}, {"phase": 1}, {"phase": -1}])
def test_a_closed_gate_reads_nothing(words: dict[str, int]) -> None:
    layer, clock, backend = Layer(torch.full((3, 4, 30), math.nan)), open_clock(), host_backend()
    for name, value in words.items():
        clock.set(name, value)
    before, shown = layer.state.memory.clone(), clock.words.clone()  # type: ignore[union-attr]
    backend.fold(*arguments([layer], clock))  # type: ignore[arg-type]
    assert torch.equal(layer.state.memory, before)  # type: ignore[arg-type]
    assert torch.equal(clock.words, shown)
    (report,) = backend.ptx.folds
    assert set(report.loads) == {"clock"}
    assert not report.stores


@compiled
def test_one_state_of_several_layers() -> None:
    first = Layer(torch.randn(4, 70, 20))
    layers = [first, Layer(torch.randn(4, 8, 20)), Layer(torch.randn(2, 70, 9), state=first.state)]
    backend, args = host_backend(), None
    args = arguments(layers, open_clock())
    backend.fold(*args)  # type: ignore[arg-type]
    assert first.state["count"].tolist() == [80 + 18] * 70
    assert int(first.state.memory[-1]) == 2  # type: ignore[index]


@compiled
def test_every_byte_is_read_once() -> None:
    layer = Layer(torch.randn(64, 64, 3), "all")
    backend, args = host_backend(count_bytes=True), arguments([layer], open_clock())
    backend.fold(*args)  # type: ignore[arg-type]
    (report,) = backend.ptx.folds
    counts = report.load_counts("x")
    assert (counts == 1).all()
    assert report.loads["x"].bytes == counts.size
    assert report.loads["x"].sectors == counts.size // 32
    assert set(report.stores) == {"state"}
    assert report.stores["state"].bytes == 8 * (len((*COUNTS, *MOMENTS)) * 64 + 1)


@compiled
@pytest.mark.parametrize(("change", "text"), MISFITS)
def test_arguments_that_do_not_fit(change: Any, text: str) -> None:
    args: Any = [*arguments([Layer(torch.randn(3, 4, 30))], open_clock())]
    change(args)
    with pytest.raises(FmstatsError, match=text):
        host_backend().fold(*args)


@compiled
def test_what_is_prepared() -> None:
    """The kernel of all modes: nothing more is compiled."""
    backend = host_backend()
    backend.prepare_fold(torch.device("cpu"))
    made = dict(backend.ptx.kernels)
    for mode in MODES:
        check(backend, Layer(torch.randn(5, 6, 20), mode))
    assert backend.ptx.kernels == made


def kernel(target: str) -> Any:
    from fmstats.backends.triton import compiler

    return compiler.compile_graph_fold(target_of(target))


@compiled
@pytest.mark.skipif(sass.why_not() is not None, reason=str(sass.why_not()))
@pytest.mark.parametrize("arch", ARCHS)
def test_nvidia(arch: str) -> None:
    made = kernel(arch)
    code = sass.disassemble(made.asm["cubin"])[made.metadata.name]
    print(f"sm_{arch}{code.resources.registers:4} registers")
    assert code.resources.stack_bytes == 0
    assert not code.local_accesses


@compiled
@pytest.mark.parametrize("arch", AMD)
def test_amd(arch: str) -> None:
    text = kernel(arch).asm["amdgcn"]
    counts = {
        name: int(re.findall(rf"\.{name}: +(\d+)", text)[-1])
        for name in ("vgpr_count", "vgpr_spill_count", "private_segment_fixed_size")
    }
    print(arch, counts)
    assert counts["vgpr_spill_count"] == counts["private_segment_fixed_size"] == 0
