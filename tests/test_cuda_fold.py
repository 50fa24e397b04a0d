"""The CUDA kernel that folds partials: its real PTX, launched through the stub of the driver."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import cuda_fold_host
import cuda_host
import pytest
import torch
from cuda_fold_host import MOST_LAYERS, THREADS
from cuda_host import ARCHS, HostCudaBackend, StubDriver, host_backend
from hardware import sass
from partials import MISFITS, Layer, arguments, fold, open_clock
from samples import make
from tolerances import ROUNDING, assert_equal_states

from fmstats.backends.cuda import nvrtc
from fmstats.backends.pytorch import TorchBackend
from fmstats.errors import FmstatsError
from fmstats.statistic.fields import COUNTS, FIELDS, FIRSTS, MODES, MOMENTS
from fmstats.statistic.state import State

pytestmark = cuda_host.needs_nvrtc
TORCH = TorchBackend()
FAST = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")  # torch from 2.10
if not FAST:
    pytest.skip("torch has no DLPack exchange API", allow_module_level=True)


def prepared(arch: str = "90", **options: Any) -> HostCudaBackend:
    backend: Any = host_backend(arch, **options)
    backend.prepare_fold(torch.device("cpu"))
    return backend  # type: ignore[no-any-return]


def check(stub: StubDriver, backend: HostCudaBackend, *layers: Layer) -> None:
    """Fold by the kernel and by PyTorch's operations: the same states, within rounding."""
    others = {id(layer.state): State.in_memory(layer.state.memory.clone()) for layer in layers}  # type: ignore[union-attr]
    clock, other_clock = open_clock(), open_clock()
    args: Any = arguments(layers, clock)
    try:
        backend.fold(*args)
    except RuntimeError as error:
        raise (stub.errors or [error])[-1] from error
    states = [others[id(layer.state)].memory for layer in layers]
    TORCH.fold(args[0], states, other_clock.words, *args[3:])  # type: ignore[arg-type]
    assert torch.equal(clock.words, other_clock.words)
    for layer, memory in zip(layers, states, strict=True):
        assert_equal_states(layer.state, State.in_memory(memory), ROUNDING)  # type: ignore[arg-type]
        assert layer.state.memory[-1] == memory[-1]  # type: ignore[index]
    assert [launch.report.findings for launch in stub.launches] == [[]] * len(stub.launches)


SHAPES = (
    *((5, 6, 20), (1, 6, 20), (64, 70, 3), (3, 300, 2)),
    *((200, 1, 3), (17, 16, 3), (2, 33, 4), (300, 5, 1)),
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arch", ARCHS)
def test_all_shapes_in_one_launch(stub: StubDriver, arch: str, mode: str) -> None:
    layers = []
    for shape in SHAPES:
        x = make("nan and inf", shape, torch.float32)
        for planes in (True, False):
            layers.append(Layer(x, mode, planes))
    backend = prepared(arch)
    stub.order = "random"
    check(stub, backend, *layers)
    assert len(stub.launches) == 1
    check(stub, backend, *layers)  # into states that have data


KINDS = ("constant", "negative zero", "subnormal", "huge", "all nan", "all inf", "large mean")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data(stub: StubDriver, kind: str) -> None:
    layers = [
        Layer(make(kind, (20, 6, 5), torch.float32), mode, planes)
        for mode in MODES
        for planes in (True, False)
    ]
    fold(prepared(), layers)
    for layer in layers:
        assert_equal_states(layer.state, layer.want, (1e-12, 1e-9))


@pytest.mark.parametrize("words", [{"enabled": 0}, {"phase": 1}, {"phase": -1}])
def test_a_closed_gate_reads_nothing(stub: StubDriver, words: dict[str, int]) -> None:
    layer, clock = Layer(make("nan and inf", (3, 4, 30), torch.float32)), open_clock()
    for name, value in words.items():
        clock.set(name, value)
    before, shown = layer.state.memory.clone(), clock.words.clone()  # type: ignore[union-attr]
    prepared().fold(*arguments([layer], clock))  # type: ignore[arg-type]
    assert torch.equal(layer.state.memory, before)  # type: ignore[arg-type]
    assert torch.equal(clock.words, shown)
    (launch,) = stub.launches
    assert set(launch.report.loads) == {"clock"}
    assert not launch.report.stores


def test_one_state_of_several_layers(stub: StubDriver) -> None:
    """They are merged in their order by the same blocks: none races with another."""
    shared = Layer(torch.randn(4, 70, 20))
    layers = [shared, Layer(torch.randn(40, 8, 20)), Layer(torch.randn(3, 9, 4))]
    layers += [Layer(torch.randn(n, 70, 9) + n, state=shared.state) for n in (1, 40, 2)]
    layers.insert(2, Layer(torch.randn(1, 70, 9), planes=False, state=shared.state))
    wide = Layer(torch.randn(2, 130, 3))  # two rows of several warps, again and again
    layers += [wide, *(Layer(torch.randn(2, 130, 3), state=wide.state) for _ in range(2))]
    for order, at_once in (("forward", None), ("reverse", 1), ("random", 3)):
        stub.order, stub.blocks_at_once = order, at_once
        check(stub, prepared(), *layers)
    assert shared.state.memory[-1] == 3 * 5  # type: ignore[index]
    assert len(stub.launches) == 3


def test_layers_of_one_state_are_merged_in_their_order(stub: StubDriver) -> None:
    """Bit for bit as if they came one by one, among layers of other states."""
    together, alone = State.identity(5), State.identity(5)
    xs = [torch.randn(2, 5, 7) * 10**n + 3**n for n in range(20)]
    layers = []
    for x in xs:
        layers += [Layer(torch.randn(2, 4, 3)), Layer(x, state=together)]
    backend: Any = prepared()
    backend.fold(*arguments(layers, open_clock()))
    for x in xs:
        backend.fold(*arguments([Layer(x, state=alone)], open_clock()))
    assert torch.equal(together.words, alone.words)


def test_more_layers_than_a_launch_takes(stub: StubDriver) -> None:
    """A state whose layers are cut goes on in the next launch."""
    assert ctypes.sizeof(cuda_fold_host.FoldArgs) <= 4096
    assert ctypes.sizeof(cuda_fold_host.FoldArgs) + 120 > 4096
    native: Any = prepared().native
    assert native.CudaFold.args_bytes == ctypes.sizeof(cuda_fold_host.FoldArgs)
    shared = Layer(torch.randn(2, 40, 3))
    layers = [Layer(torch.randn(2, 1 + n, 3)) for n in range(30)]
    layers += [Layer(torch.randn(20, 40, 3), state=shared.state) for _ in range(50)]
    check(stub, prepared(), *layers)
    assert [launch.args.count for launch in stub.launches] == [
        MOST_LAYERS,
        MOST_LAYERS,
        80 - 2 * MOST_LAYERS,
    ]
    for launch in stub.launches:  # no more blocks than the channels of its states take
        tiles = {layer.memory: -(-layer.channels // layer.lanes) for layer in launch.args.used}
        assert launch.grid == (sum(tiles.values()), 1)


def test_any_order_of_blocks_gives_the_same_bits(stub: StubDriver) -> None:
    xs = [make("nan and inf", shape, torch.float32) for shape in SHAPES]
    states = []
    for order, at_once, seed in (("forward", None, 0), ("reverse", 1, 0), ("random", 3, 1)):
        stub.order, stub.blocks_at_once, stub.seed = order, at_once, seed
        layers = [Layer(x, "all") for x in xs]
        check(stub, prepared(), *layers)
        states.append(torch.cat([layer.state.memory for layer in layers]))  # type: ignore[misc]
    assert all(torch.equal(state, states[0]) for state in states)


def test_every_byte_is_read_once(stub: StubDriver) -> None:
    """Of partials whole sectors, where there are channels enough; of states what a merge takes."""
    layers = []
    for shape in ((64, 64, 3), (32, 256, 3), (1, 512, 40)):
        layers.append(Layer(torch.randn(shape), "all"))
    stub.count_bytes = True
    backend = prepared()
    for _ in range(2):
        args: Any = arguments(layers, open_clock())
        backend.fold(*args)
    channels = sum(layer.state.channels for layer in layers)
    read = sum(part.numel() * part.element_size() for part in args[0])
    for launch in stub.launches:
        counts, report = launch.report.load_counts("x"), launch.report
        assert (counts == 1).all()
        assert report.loads["x"].bytes == counts.size == read
        assert report.loads["x"].sectors == read // 32
        words = 8 * len((*COUNTS, *MOMENTS)) * channels
        tensors = 8 * len(layers)  # one more each
        assert report.stores["state"].bytes == words + tensors
        assert report.loads["state"].bytes == words + tensors
        assert set(report.stores) == {"state"}
        assert not report.atomics


def test_the_clock_is_for_what_is_not_finite(stub: StubDriver) -> None:
    x = torch.randn(3, 4, 30)
    x[1, 2, 3] = math.inf
    prepared().fold(*arguments([Layer(x)], open_clock()))  # type: ignore[arg-type]
    (launch,) = stub.launches
    # Its gate by every thread, and the time by one.
    assert launch.report.loads["clock"].bytes == 8 * (2 * THREADS + len(FIRSTS))
    assert launch.report.atomics["clock"].bytes == 8
    stored = 4 * len(FIELDS) - 3 * len(FIRSTS) + 1  # firsts of one channel; tensors
    assert launch.report.stores["state"].bytes == 8 * stored


def test_what_is_asked_of_the_driver(stub: StubDriver) -> None:
    """A launch and the context it needs: nothing that waits, allocates or asks for captures."""
    backend, args = prepared(), arguments([Layer(torch.randn(3, 4, 30))], open_clock())
    for runtime_capture in (None, 5):
        backend.runtime.capturing, backend.runtime.current = runtime_capture, 77
        before = len(stub.calls())
        backend.fold(*args)  # type: ignore[arg-type]
        calls = stub.calls()[before:]
        assert calls == ["cuCtxGetCurrent", "cuCtxPushCurrent", "cuLaunchKernel", "cuCtxPopCurrent"]
    assert stub.contexts() == 0
    assert [launch.stream for launch in stub.launches] == [77, 77]


def test_a_capture_compiles_nothing(stub: StubDriver) -> None:
    backend: Any = host_backend()
    args: Any = arguments([Layer(torch.randn(3, 4, 30))], open_clock())
    backend.why_not(torch.device("cpu"))
    backend.runtime.capturing = 1
    with pytest.raises(FmstatsError, match="partials is compiled and loaded while a graph"):
        backend.fold(*args)
    backend.runtime.capturing = None
    backend.fold(*args)
    assert len(stub.launches) == 1


def test_torch_without_the_exchange_api(stub: StubDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.Tensor, "__dlpack_c_exchange_api__")
    layer = Layer(torch.randn(3, 4, 30))
    fold(prepared(), [layer])
    assert_equal_states(layer.state, layer.want, (1e-12, 1e-9))
    assert not stub.launches


@pytest.mark.parametrize(("change", "text"), MISFITS)
def test_arguments_that_do_not_fit(stub: StubDriver, change: Any, text: str) -> None:
    args: Any = [*arguments([Layer(torch.randn(3, 4, 30))], open_clock())]
    change(args)
    with pytest.raises(FmstatsError, match=text):
        prepared().fold(*args)
    assert not stub.launches


def test_a_failed_launch_is_told(stub: StubDriver) -> None:
    backend, layer = prepared(), Layer(torch.randn(3, 4, 30))
    stub.fail("cuLaunchKernel")
    with pytest.raises(RuntimeError, match="cuLaunchKernel failed: CUDA_ERROR_LAUNCH_FAILED"):
        backend.fold(*arguments([layer], open_clock()))  # type: ignore[arg-type]
    assert layer.state["count"].tolist() == [0] * 4


@pytest.mark.parametrize("arch", ARCHS)
def test_machine_code(arch: str) -> None:
    """Nothing spills, and loads enough are in flight."""
    why = sass.why_not()
    if why is not None:
        pytest.skip(why)
    cubin = nvrtc.compile_kernel(nvrtc.FOLD, 0, nvrtc.PLAIN, f"sm_{arch}")
    code = sass.disassemble(cubin)[nvrtc.ENTRY]
    resources = code.resources
    in_flight = sass.bytes_in_flight(code, THREADS, (int(arch[:-1]), int(arch[-1])))
    print(
        f"fold sm_{arch}: {resources.registers} registers, {resources.shared_bytes} B shared, "
        f"{in_flight // 1024} KB in flight"
    )
    assert in_flight >= 30 * 1024
    assert resources.stack_bytes == resources.local_bytes == 0
    assert not code.local_accesses
    assert resources.registers <= 128  # two blocks on a multiprocessor
