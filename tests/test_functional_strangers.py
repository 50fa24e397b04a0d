"""Functional operations among strangers: subclasses of tensors, modes and functions of others."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as calls
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function
from torch.utils.checkpoint import checkpoint

import fmstats

X = torch.linspace(-1, 1, 12).reshape(4, 3)
Function = Callable[[nn.Module, Tensor], Any]


class Net(nn.Module):
    """A linear layer, and what a function makes of it."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(3, 3), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.layer(x))


def relu(model: nn.Module, x: Tensor) -> Tensor:
    return F.relu(x)


class Strict(Tensor):
    """A subclass that refuses what it does not know, and keeps the names of what it is asked."""

    asked: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(
        cls,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        cls.asked.append(func.__name__)
        if func.__name__ not in ("linear", "relu"):
            raise NotImplementedError(func.__name__)
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]


def test_a_subclass_is_asked_nothing_of_its_tensors() -> None:
    Strict.asked.clear()
    with fmstats.track(model := Net(relu), on_error="raise") as tracker:
        model(X.as_subclass(Strict))
    assert Strict.asked == ["linear", "relu"]
    assert tracker.stats()["(model)/relu"].count.sum() == X.numel()


class Counting(TorchFunctionMode):
    count = 0

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_following_asks_the_mode_of_a_user_nothing() -> None:
    counts = []
    model = Net(lambda _, x: x.exp().sin().cos().neg().square())
    for functional in (False, "auto"):
        # The dim that is asked for: without functional operations, no pass is followed.
        with fmstats.track(model, functional=functional, channel_dim=1), Counting() as mode:
            model(X)
        counts.append(mode.count)
    assert counts[0] == counts[1]


class Doubling:
    """What can be called, overridden by modes, and put into no table."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __call__(self, x: Tensor) -> Any:
        if has_torch_function((x,)):
            return handle_torch_function(self, (x,), x)
        return x * 2


def test_a_function_without_a_hash_is_called() -> None:
    double = Doubling()
    with fmstats.track(model := Net(lambda _, x: F.relu(double(x)))) as tracker:
        out = model(X)
    assert torch.equal(out, F.relu(model.layer(X) * 2))
    assert "(model)/relu" in tracker.stats()


class Overridable(nn.Module):
    """A module whose method modes can override."""

    def twice(self, x: Tensor) -> Any:
        if has_torch_function((x,)):
            return handle_torch_function(self.twice, (x,), x)
        return x * 2

    def forward(self, x: Tensor) -> Any:
        return F.relu(self.twice(x))


def test_the_method_of_a_model_keeps_it_not_alive() -> None:
    model = Overridable()
    alive = weakref.ref(model)
    with fmstats.track(model, functional=True):
        model(X)
    del model
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_model_that_is_checkpointed_as_a_whole_runs_not_compiled(reentrant: bool) -> None:
    with fmstats.track(model := Net(relu)) as tracker:
        for _ in range(3):
            x = X.clone().requires_grad_()
            checkpoint(model, x, use_reentrant=reentrant).sum().backward()
    assert {row.name: row.calls for row in tracker.coverage()} == {"layer": 3, "(model)/relu": 3}
    assert "from 'layer'" in str(tracker.coverage())


@pytest.mark.parametrize("strict", [False, True])
def test_a_model_that_was_exported_is_followed_afterwards(strict: bool) -> None:
    with fmstats.track(model := Net(relu)) as tracker:
        torch.export.export(model, (X,), strict=strict)
        for _ in range(2):
            model(X)
    assert {row.name: row.calls for row in tracker.coverage()} == {"layer": 2, "(model)/relu": 2}


def test_a_pass_of_code_that_handles_an_error_is_followed_once() -> None:
    with fmstats.track(model := Net(relu)) as tracker:
        try:
            raise ValueError
        except ValueError:
            model(X)
        model.function = lambda _, x: torch.tanh(x)  # no pass is followed: it comes late
        model(X)
    assert "(model)/tanh" not in tracker.stats()


def test_a_pass_that_broke_off_in_another_thread_leaves_no_hooks() -> None:
    def stop(model: nn.Module, x: Tensor) -> Tensor:
        raise SystemExit  # no error that torch tells its hooks of

    def run() -> None:
        with pytest.raises(SystemExit):
            model(X)

    with fmstats.track(model := Net(stop)):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert not calls._global_forward_hooks
    assert not calls._global_forward_pre_hooks


class FallsBack(nn.Module):
    """Attention that fails is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.attention(x, x, x, key_padding_mask=torch.zeros(1, 1))[0]
        except (AssertionError, RuntimeError):
            x = x * 2
        return F.relu(x)


def test_operations_are_seen_behind_a_module_that_raised() -> None:
    model = FallsBack()
    with fmstats.track(model) as tracker:
        model(X[None])
        assert tracker.stats()["(model)/relu"].count.sum() == X.numel()
