"""`on_nonfinite` tells of what is new, costs little behind a NaN, and no mode of others sees it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import fmstats
from fmstats.statistic.clock import Clock
from fmstats.statistic.host_copies import copy_to_host
from fmstats.statistic.state import State
from fmstats.tracking import nonfinite
from fmstats.tracking.flags import Flag


class Spoil(nn.Module):
    """Sets channel 0 to NaN in some calls, counted from 1."""

    def __init__(self, *calls: int) -> None:
        super().__init__()
        self.calls, self.ran = calls, 0

    def forward(self, x: Tensor) -> Tensor:
        self.ran += 1
        return x * torch.tensor([math.nan if self.ran in self.calls else 1.0, 1.0])


class Clean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.nan_to_num(0)


def watched(model: nn.Module, events: list[fmstats.NonFiniteEvent]) -> fmstats.Tracker:
    return fmstats.track(model, on_nonfinite=events.append)


def test_fake_tensors_and_traces_pass_behind_a_nan() -> None:
    """The alarm is set, so the watch looks at rows: not with operations that the modes see."""
    events: list[fmstats.NonFiniteEvent] = []
    model = nn.Sequential(Spoil(1), Clean())
    with torch.no_grad(), watched(model, events) as tracker:
        model(torch.ones(3, 2))
        with FakeTensorMode(allow_non_fake_inputs=True):
            model(torch.ones(3, 2))
        model(torch.ones(3, 2))
        traced = make_fx(model)(torch.ones(3, 2))
        model(torch.ones(3, 2))
    assert [event.layer for event in events] == ["0"]
    assert tracker.stats()["1"].nan.tolist() == [0, 0]
    assert len(traced.graph.nodes) == len(make_fx(model)(torch.ones(3, 2)).graph.nodes)


def test_a_tracker_made_among_fake_tensors_measures_real_ones() -> None:
    """Its clock is real: a kernel would write the alarm to the memory that a fake one lacks."""
    model = nn.Sequential(Spoil(1))
    with FakeTensorMode():
        tracker = fmstats.track(model)
    assert type(tracker._gate.clocks.host.words) is Tensor
    with torch.no_grad(), tracker:
        model(torch.ones(3, 2))
    assert tracker.stats()["0"].first_pass.tolist() == [1, -1]


class Stream:
    """A stream, with the events of it, on which all work is done at once."""

    def is_available(self) -> bool:
        return False

    def current_stream(self, device: torch.device) -> Stream:
        return self

    def Event(self) -> Stream:  # noqa: N802  # as torch.cuda has it
        return self

    def record(self, on: Stream) -> None: ...

    def query(self) -> bool:
        return True


def test_no_mode_sees_the_flag_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of the CPU stands for one of a GPU, whose alarm each pass copies."""
    clock, events = Clock(), list[fmstats.NonFiniteEvent]()
    model = nn.Sequential(Clean(), Spoil(1))
    with torch.no_grad(), watched(model, events) as tracker:
        watch = tracker._set.watch
        assert watch is not None
        watch._flags[clock.words.device] = Flag(clock, Stream())
        monkeypatch.setattr(tracker._gate.clocks, "on_devices", (clock,))
        clock.set("alarm", 1)
        with FakeTensorMode():
            for _ in range(2):
                watch.begin_pass()
    assert clock.word("alarm") == 0  # the flag came, and was taken down
    assert events == []


class Functions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **kwargs or {})


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("kind", [Functions, Operations])
def test_modes_of_users_see_nothing_of_the_watch(kind: type[Functions] | type[Operations]) -> None:
    seen = {}
    for asked in ("ignore", lambda event: None):
        model = nn.Sequential(Clean(), Spoil(2, 3), Clean())
        with torch.no_grad(), fmstats.track(model, on_nonfinite=asked, functional=False):
            model(torch.ones(3, 2))
            with kind() as mode:
                model(torch.ones(3, 2))
                model(torch.ones(3, 2))
        seen[str(asked)] = mode.seen
    assert len(set(map(tuple, seen.values()))) == 1


def test_finite_layers_cost_no_copy_behind_a_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[int] = []

    def count(states: Sequence[State]) -> list[State]:
        copied.append(len(states))
        return copy_to_host(states)

    monkeypatch.setattr(nonfinite, "copy_to_host", count)
    events: list[fmstats.NonFiniteEvent] = []
    model = nn.Sequential(Clean(), Spoil(2, 3, 4), Clean(), nn.Identity())
    with torch.no_grad(), watched(model, events):
        for _ in range(5):
            model(torch.ones(3, 2))
    assert copied == [1]
    assert len(events) == 1


@pytest.mark.parametrize("steps", [(0, 1, 2, 0, 1, 2), (7, 7, 7, 7, None, None), (None,) * 6])
def test_a_step_that_goes_back_hides_nothing(steps: tuple[int | None, ...]) -> None:
    """The step may be counted anew in each epoch; passes go on."""
    events: list[fmstats.NonFiniteEvent] = []
    model = nn.Sequential(Spoil(5), Clean(), Spoil(2), Clean())
    with torch.no_grad(), watched(model, events) as tracker:
        for step in steps:
            tracker.step = step
            model(torch.ones(3, 2))
    told = [(event.layer, event.forward_pass, event.step) for event in events]
    assert told == [("2", 2, steps[1]), ("0", 5, steps[4])]


def test_a_restored_tracker_goes_on_after_the_last_time_that_is_known() -> None:
    """Of a tracker that was reset, fewer passes are known than there were."""
    model = nn.Sequential(Spoil(4), Clean(), Spoil(5))
    with torch.no_grad(), fmstats.track(model) as tracker:
        for number in range(4):
            if number == 3:
                tracker.reset()
            model(torch.ones(3, 2))
    profile = tracker.stats()
    assert profile.metadata["passes"] == 1
    with torch.no_grad(), fmstats.track(model) as tracker:
        tracker.restore(profile)
        model(torch.ones(3, 2))
    assert tracker.stats()["0"].first_pass.tolist() == [4, -1]
    assert tracker.stats()["2"].first_pass.tolist() == [5, -1]


def test_after_a_reset_it_tells_again() -> None:
    model = nn.Sequential(Spoil(2, 3, 5), Clean())
    with torch.no_grad(), fmstats.track(model, on_nonfinite="raise") as tracker:
        model(torch.ones(3, 2))
        with pytest.raises(fmstats.NonFiniteError, match="in forward pass 2"):
            model(torch.ones(3, 2))
        model(torch.ones(3, 2))  # known
        tracker.reset()
        model(torch.ones(3, 2))
        with pytest.raises(fmstats.NonFiniteError, match="in forward pass 5"):
            model(torch.ones(3, 2))
    assert tracker.stats()["0"].first_pass.tolist() == [5, -1]
