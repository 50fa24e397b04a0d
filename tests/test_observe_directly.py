"""Code that Inductor generates calls our kernel and not the dispatcher: the same comes of it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.backends.native import load_native
from fmstats.graph_ops import targets
from fmstats.graph_ops.directly import functions

NATIVE: Any = load_native()
OPERATION: Any = torch.ops.fmstats.observe_on_host
pytestmark = [
    pytest.mark.skipif(
        targets.why_no_kernel("cpu") is not None, reason=str(targets.why_no_kernel("cpu"))
    ),
    pytest.mark.skipif(not hasattr(Tensor, "__dlpack_c_exchange_api__"), reason="needs torch 2.10"),
]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tracked model that ran once, and what its graph hands over besides the tensor."""
    torch.compiler.reset()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    tracker, calls = fmstats.track(model, include="1"), []
    own = functions.observe_on_host
    monkeypatch.setattr(
        functions, "observe_on_host", lambda *args: (calls.append(args), own(*args))
    )
    with torch.no_grad():
        torch.compile(model, dynamic=False)(torch.randn(2, 3, 8, 8))
        ((_, *rest),) = calls
        yield tracker, tuple(rest)
    tracker.close()
    torch.compiler.reset()


def made_with(operation: Any) -> Any:
    api = getattr(Tensor, "__dlpack_c_exchange_api__", None)
    return NATIVE.make_observe_on_host_directly(operation=operation, exchange_api=api)


def never(*args: object) -> None:
    raise AssertionError(args)


def test_a_tensor_as_the_last_one_goes_to_no_operation(compiled: Any) -> None:
    tracker, rest = compiled
    y = torch.randn(2, 4, 6, 6)
    OPERATION.default(y, *rest)
    before = tracker.stats()["1"].count
    made_with(never)(y * 2, *rest)
    assert (tracker.stats()["1"].count == before + 72).all()
    assert float(tracker.stats()["1"].max.max()) >= float(2 * y.max())


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y[:1],
        lambda y: y.transpose(2, 3),
        lambda y: y.double(),
        lambda y: y.to("meta"),
        lambda y: nn.Parameter(y),
        lambda y: torch._neg_view(y),
        lambda y: y.to_sparse(),
        lambda y: None,
    ],
    ids=["batch", "strides", "dtype", "device", "subclass", "negative", "sparse", "none"],
)
def test_any_other_goes_to_the_operation(compiled: Any, change: Any) -> None:
    _, rest = compiled
    y = torch.randn(2, 4, 6, 6)
    OPERATION.default(y, *rest)
    handed: list[Any] = []
    x = change(y)
    made_with(lambda *args: handed.append(args))(x, *rest)
    assert [args[0] is x for args in handed] == [True]
    assert handed[0][1:] == rest


def test_what_is_closed_or_paused_measures_nothing(compiled: Any) -> None:
    tracker, rest = compiled
    y = torch.randn(2, 4, 6, 6)
    OPERATION.default(y, *rest)
    before = tracker.stats()["1"].count
    tracker.pause()
    made_with(never)(y, *rest)
    tracker.resume()
    assert (tracker.stats()["1"].count == before).all()
    tracker.close()
    made_with(never)(y, *rest)
    assert (tracker.stats()["1"].count == before).all()


def test_a_recomputed_activation_is_not_measured_again(compiled: Any) -> None:
    tracker, rest = compiled
    y = torch.randn(2, 4, 6, 6)
    OPERATION.default(y, *rest)
    before = tracker.stats()["1"].count
    leaf, met = torch.ones(1, requires_grad=True), []
    with torch.enable_grad():
        leaf.register_hook(lambda gradient: met.append(made_with(never)(y, *rest)))
        leaf.sum().backward()
    assert met == [None]
    assert (tracker.stats()["1"].count == before).all()


def test_a_nan_has_the_time_of_its_pass(compiled: Any) -> None:
    tracker, rest = compiled
    y = torch.randn(2, 4, 6, 6)
    OPERATION.default(y, *rest)
    tracker.step = 7
    y[0, 1, 2, 3] = torch.nan
    made_with(never)(y, *rest)
    stats = tracker.stats()["1"]
    assert stats.first_step.tolist()[1] == 7
    assert stats.nan.tolist() == [0, 1, 0, 0]


def test_what_is_closed_while_it_looks_at_a_tensor_stays_until_then(
    compiled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another thread, which torch lets run when it is asked whether a tensor is negative."""
    model = nn.Sequential(nn.ReLU())
    trackers, y = [fmstats.track(model)], torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        torch.compile(model, dynamic=False)(y)
    meter = trackers[0]._set.layers["0"].rows[0].meter_on(y.device)  # type: ignore[union-attr]
    number = trackers[0]._set.layers["0"].rows[0].in_graphs[y.device].number  # type: ignore[union-attr]
    held = [weakref.ref(meter.plan), weakref.ref(meter.state.memory)]
    alive, is_neg = [], Tensor.is_neg
    del meter

    def close(x: Tensor) -> bool:
        trackers.pop().close()
        gc.collect()
        alive.append([there() is not None for there in held])
        return is_neg(x)

    monkeypatch.setattr(Tensor, "is_neg", close)
    made_with(never)(y, None, number)
    assert alive == [[True, True]]
    assert [there() for there in held] == [None, None]


@pytest.mark.parametrize("arguments", [(), (1, 2), (1, 2, "x"), (1, 2, 2**70)])
def test_what_is_no_call_of_the_operation_is_its_to_refuse(arguments: tuple[Any, ...]) -> None:
    def refuse(*args: object) -> None:
        raise TypeError(f"{len(args)} arguments")

    with pytest.raises(TypeError, match=f"^{len(arguments)} arguments$"):
        made_with(refuse)(*arguments)


def test_without_the_exchange_api_it_is_the_operation() -> None:
    assert NATIVE.make_observe_on_host_directly(operation=never, exchange_api=None) is never


def test_generated_code_has_it() -> None:
    assert type(functions.observe_on_host).__name__ == "builtin_function_or_method"
