"""The triton backend: when it is there, what it compiles and launches, what a hook does."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn as nn
import triton_host
from samples import LAYOUTS
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor
from triton_host import PtxBackend, PtxEngine, host_backend

import fmstats
from fmstats.backends import BACKENDS, choose_backend
from fmstats.backends.reference import ReferenceBackend
from fmstats.backends.triton import backend as module
from fmstats.backends.triton import engine
from fmstats.backends.triton.backend import TritonBackend
from fmstats.backends.triton.plan import Layout
from fmstats.errors import FmstatsError
from fmstats.statistic.fields import COUNTS, MOMENTS
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.state import State, merge
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of

interpreted = pytest.mark.skipif(not engine.interpreting(), reason="needs TRITON_INTERPRET=1")
compiled = triton_host.needs_triton
not_interpreted = pytest.mark.skipif(engine.interpreting(), reason="of a machine without a GPU")


def state_of(backend: Any, *tensors: Tensor) -> State:
    state = State.identity(view_of(tensors[0], 1).channels)
    meter = backend.meter(state, Thresholds())
    for x in tensors:
        if not meter.try_update(x):
            meter.update(x, view_of(x, 1))
    return state


def state_pairs() -> list[tuple[State, State]]:
    reference = ReferenceBackend()
    kinds = [
        torch.randn(4, 6),
        torch.randn(1, 6),
        torch.full((4, 6), torch.nan),
        torch.zeros(4, 6),
        None,
    ]
    states = [State.identity(6) if x is None else state_of(reference, x) for x in kinds]
    return [(a, b) for a in states for b in states]


@interpreted
def test_interpreted_as_a_user_would() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(5 * 36, 7))
    batches = [torch.randn(2, 3, 8, 8) for _ in range(3)]
    profiles = []
    for backend in ("triton", "reference"):
        with torch.inference_mode(), fmstats.track(model, backend=backend) as tracker:
            for batch in batches:
                model(batch)
        profiles.append(tracker.stats())
    for name, want in profiles[1].items():
        assert_equal_states(profiles[0][name].state, want.state, ACCURACY[torch.float32])


@interpreted
def test_interpreted_merge_obeys_the_laws() -> None:
    """Triton's merge is `statistic.merge`: for states of all kinds, empty ones and none finite."""
    from merge_kernel import merge_states

    for a, b in state_pairs():
        got = State.identity(a.channels)
        merge_states[(a.channels,)](a.words, b.words, got.words, a.channels)
        assert_equal_states(got, merge(a, b), (1e-15, 1e-14))


@interpreted
def test_interpreted_is_described() -> None:
    backend = choose_backend("triton", torch.device("cpu"))
    assert "interpreter" in backend.describe()
    assert choose_backend("auto", torch.device("cpu")).name != "triton"


@compiled
def test_merge_has_the_fields_in_their_order() -> None:
    from fmstats.backends.triton.kernels import formulas

    names = list(inspect.signature(formulas.merge.fn).parameters)
    assert names == [f"{side}_{field}" for side in "ab" for field in (*COUNTS, *MOMENTS)]


@not_interpreted
def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = TritonBackend()
    if torch.cuda.is_available() or torch.xpu.is_available():
        pytest.skip("there is one")
    assert "no GPU was found; TRITON_INTERPRET=1" in str(backend.why_not())
    monkeypatch.setattr(TritonBackend, "why_not", lambda self, device=None: None)
    with pytest.raises(FmstatsError, match="'triton' cannot be used: it serves cuda, xpu"):
        choose_backend("triton", torch.device("cpu"))


@not_interpreted
def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    assert TritonBackend().why_not() == "the package triton is not installed: pip install triton"
    monkeypatch.undo()
    monkeypatch.setattr(engine.importlib.metadata, "version", lambda name: "3.1.0")
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: object())
    assert TritonBackend().why_not() == "triton 3.1.0 is older than 3.2"


def test_what_fails_to_compile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: torch.device) -> None:
        raise RuntimeError("no ptxas")

    monkeypatch.setattr(module, "_is_there", lambda device: True)
    monkeypatch.setattr(module, "why_no_triton", lambda: None)
    monkeypatch.setattr(module, "GpuEngine", fail)
    backend = TritonBackend()
    why = "Triton cannot compile or load a kernel here: no ptxas"
    assert backend.why_not(torch.device("xpu", 1)) == why
    with pytest.raises(FmstatsError, match=f"backend 'triton' cannot be used on xpu:1: {why}"):
        backend.engine(torch.device("xpu", 1))


def test_it_comes_after_cuda_and_before_torch() -> None:
    names = [backend.name for backend in BACKENDS]
    assert names.index("cuda") < names.index("triton") < names.index("torch")


class Watched(PtxEngine):
    """An engine that notes what it is asked for, and launches nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: list[tuple[Any, Any]] = []
        self.asked: set[Any] = set()
        self.is_capturing = False
        self.followed: list[Any] = []
        self.stream = 1

    def measure_kernel(
        self, dtype: str, mode: str, layout: Layout, measures: Measures = ALWAYS
    ) -> Any:
        self.asked.add((dtype, mode, layout, measures))
        return dtype, mode, layout, measures

    def fold_kernel(self, dtype: str, grouped: bool = False, measures: Measures = ALWAYS) -> Any:
        self.asked.add(dtype)
        return dtype

    def launch(self, measure: Any, fold: Any, *rest: Any, **beside: Any) -> None:
        self.launched.append((measure, fold))

    def capturing(self) -> bool:
        return self.is_capturing

    def order(self, last: Any, memory: Tensor) -> Any:
        self.followed += [last] * (last not in (None, self.stream))
        return self.stream


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_one_compile_for_dtype_thresholds_and_layout(watched: Watched) -> None:
    """Shapes and strides of one kind of layout share a kernel; so do all layers."""
    backend = PtxBackend(watched)
    for batch in (1, 2, 16, 17, 33):
        for side in (16, 32, 48):
            x = torch.randn(batch, 8, side, side)
            state_of(backend, x, x.contiguous(memory_format=torch.channels_last))
    measures = [what for what in watched.asked if not isinstance(what, str)]
    # Rows of one run (a batch of 1) and of several, columns: the fold is one for all.
    assert len(measures) == 3
    assert watched.asked - set(measures) == {"float32"}


def test_two_launches_a_tensor_and_a_fast_way(watched: Watched) -> None:
    backend = PtxBackend(watched)
    meter = backend.meter(State.identity(4), Thresholds())
    x = torch.randn(3, 4, 8, 8)
    assert not meter.try_update(x)
    meter.update(x, view_of(x, 1))
    assert meter.try_update(torch.randn(3, 4, 8, 8))
    assert len(watched.launched) == 2
    assert len(watched.launched[0]) == 2
    for other in (
        *(x[:2], x.double(), x.transpose(2, 3), x._neg_view(), x.to_sparse(), nn.Parameter(x)),
        *(
            torch._efficientzerotensor(x.shape),
            (x,),
            None,
            torch.zeros(x.numel() + 1)[1:].view(x.shape),
        ),
    ):
        assert not meter.try_update(other)
    assert len(watched.launched) == 2


def test_nothing_new_while_a_graph_is_captured(watched: Watched) -> None:
    backend = PtxBackend(watched)
    meter = backend.meter(State.identity(4), Thresholds())
    x = torch.randn(3, 4, 8, 8)
    meter.update(x, view_of(x, 1))
    watched.is_capturing = True
    assert meter.try_update(x)
    meter.update(x, view_of(x, 1))
    with pytest.raises(FmstatsError, match="another kind than before is measured while a graph"):
        meter.update(x[:2], view_of(x[:2], 1))
    with pytest.raises(FmstatsError, match="measured for the first time while a graph"):
        backend.meter(State.identity(4), Thresholds())
    watched.is_capturing = False
    assert meter.try_update(x)  # what was refused has changed nothing


def test_another_stream_waits_for_the_last(watched: Watched) -> None:
    meter = PtxBackend(watched).meter(State.identity(4), Thresholds())
    x = torch.randn(3, 4, 8, 8)
    for stream in (1, 1, 2, 2, 1):
        watched.stream = stream
        meter.update(x, view_of(x, 1))
    assert watched.followed == [1, 2]


def test_warm_up_compiles_what_dense_tensors_need(watched: Watched) -> None:
    backend = PtxBackend(watched)
    backend.warm_up(torch.device("cpu"), torch.float16, Thresholds())
    warm = set(watched.asked)
    assert warm
    x = torch.randn(8, 64, 16, 16, dtype=torch.float16)
    state_of(backend, x)
    state_of(backend, x.contiguous(memory_format=torch.channels_last))
    state_of(backend, x[:1])
    assert watched.asked == warm
    assert not [launch for launch in watched.launched if launch is None]


def test_track_warms_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    best = choose_backend("auto", torch.device("cpu"))
    monkeypatch.setattr(type(best), "warm_up", lambda self, *what: asked.append(what))
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU6(), nn.Linear(4, 4))
    fmstats.track(model).close()
    assert asked == []
    fmstats.track(model, warmup=True, measure="abs").close()
    assert {(d.type, t) for d, t, *_ in asked} == {("cpu", torch.float32)}
    assert {t for *_, t, _ in asked} == {Thresholds(), Thresholds(high=6.0)}
    assert {measures for *_, measures in asked} == {Measures.of("abs")}


@compiled
@pytest.mark.parametrize("layout", LAYOUTS)
def test_more_dims_than_a_launch_walks_over(layout: str) -> None:
    x = torch.randn(2, 3, 2, 2, 2, 2, 2)[..., ::2].transpose(2, 5)
    x, dim = LAYOUTS[layout](x)
    backend, want = host_backend(), State.identity(x.shape[dim])
    got = State.identity(x.shape[dim])
    view = view_of(x, dim)
    backend.accumulate(got, x, view, Thresholds())
    ReferenceBackend().accumulate(want, x, view, Thresholds())
    assert_equal_states(got, want, ACCURACY[torch.float32])
