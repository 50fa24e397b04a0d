"""`on_nonfinite` tells in which layer and pass the first NaN came; diagnoses name it by time."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.statistic.clock import Clock
from fmstats.statistic.fields import FIRSTS, NEVER
from fmstats.tracking.flags import Flag

NAN = math.nan


class Spoil(nn.Module):
    """Sets some channels to a number in some passes, counted from 1."""

    def __init__(self, passes: tuple[int, ...], channels: tuple[int, ...], value: float = NAN):
        super().__init__()
        self.passes, self.channels, self.value, self.ran = passes, channels, value, 0

    def forward(self, x: Tensor) -> Tensor:
        self.ran += 1
        y = x.clone()
        if self.ran in self.passes:
            y[0, list(self.channels)] = self.value
        return y


def net(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), *parts, nn.Tanh())


def run(model: nn.Module, passes: int, **options: Any) -> fmstats.Tracker:
    with torch.no_grad(), fmstats.track(model, **options) as tracker:
        for number in range(passes):
            tracker.step = 100 + number
            model(torch.randn(3, 4))
    return tracker


def test_rows_know_pass_and_step() -> None:
    profile = run(net(Spoil((3, 5), (1,)), Spoil((5,), (0, 1), math.inf)), 6).stats()
    assert profile["0"].first_pass.tolist() == [-1] * 4
    assert profile["1"].first_pass.tolist() == [-1, 3, -1, -1]
    assert profile["2"].first_pass.tolist() == [5, 3, -1, -1]
    assert profile["2"].first_step.tolist() == [104, 102, -1, -1]
    assert profile["3"].first_pass.tolist() == [-1, 3, -1, -1]  # tanh of inf is 1


def test_the_pass_survives_merging_files_and_resuming(tmp_path: Any) -> None:
    first, second = (run(net(Spoil((when,), (2,))), 8).stats() for when in (7, 4))
    for merged in (first | second, second | first):
        assert merged["1"].first_pass.tolist() == [-1, -1, 4, -1]
        assert merged["1"].first_step.tolist() == [-1, -1, 103, -1]
    first.save(tmp_path / "first.fmstats")
    loaded = fmstats.load(tmp_path / "first.fmstats")
    assert loaded["1"].first_pass.tolist() == [-1, -1, 7, -1]
    assert loaded.to_dict()["layers"]["1"]["first_step"] == [-1, -1, 106, -1]
    with torch.no_grad(), fmstats.track(model := net(Spoil((2,), (0, 2)))) as tracker:
        tracker.restore(loaded)
        model(torch.randn(3, 4))
        model(torch.randn(3, 4))
    assert tracker.stats()["1"].first_pass.tolist() == [10, -1, 7, -1]


def test_a_damaged_file_is_refused(tmp_path: Any) -> None:
    profile = run(net(Spoil((2,), (1,))), 3).stats()
    for channel, value, fault in ((1, -4, "is negative"), (0, 2, "all elements are finite")):
        damaged = run(net(Spoil((2,), (1,))), 3).stats()
        damaged["1"].state["first_pass"][channel] = value
        with pytest.raises(fmstats.FmstatsError, match=f"first_pass of channel {channel}.*{fault}"):
            damaged.to_bytes()
    assert fmstats.Profile.from_bytes(profile.to_bytes())["1"].first_pass.max() == 2


def test_reset_and_pause_do_not_stop_the_clock() -> None:
    model = net(Spoil((4,), (0,)))
    with torch.no_grad(), fmstats.track(model) as tracker:
        for number in range(5):
            if number == 2:
                tracker.reset()
            model(torch.randn(3, 4))
    assert tracker.stats()["1"].first_pass.tolist() == [4, -1, -1, -1]
    assert tracker.stats().metadata["passes"] == 3


def train(model: nn.Sequential, passes: int, broken: int) -> fmstats.Profile:
    """Train a model whose layer 2 turns NaN in one pass, with an optimizer that spreads it."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with fmstats.track(model) as tracker:
        for number in range(1, passes + 1):
            if number == broken:
                with torch.no_grad():
                    model[2].weight[1, 1] = NAN
            optimizer.zero_grad()
            model(torch.randn(8, 6)).square().mean().backward()
            optimizer.step()
    return tracker.stats()


def test_the_producer_is_the_first_in_time() -> None:
    """From the pass after it everything is NaN, so that the order of execution blames layer 0."""
    layers = (nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    profile = train(nn.Sequential(*layers), 20, broken=10)
    assert all(stats.nan.any() for stats in profile.values())
    assert profile["0"].first_pass.tolist() == [11] * 6
    assert profile["2"].first_pass.min() == 10
    found = {each.layer: each for each in profile.diagnose(rules=["non-finite"]).findings}
    assert found["2"].evidence["producer"] == "2"
    assert found["2"].severity == "error"
    assert "from pass 10 on" in found["2"].message
    assert {each.evidence["producer"] for each in found.values()} == {"2"}
    assert found["0"].severity == "warning"
    assert "2 had some in an earlier pass" in found["0"].message


def test_without_times_the_order_decides() -> None:
    """As in files of fmstats 0.1: one row whose time is not known makes all others useless."""
    profile = run(net(Spoil((5,), (0,)), nn.Identity(), Spoil((2,), (1,))), 6).stats()
    assert {f.evidence["producer"] for f in profile.diagnose(["non-finite"]).findings} == {"3"}
    for name in ("1", "2", "3", "4"):
        for field in FIRSTS:
            profile[name].state[field].fill_(NEVER)
    [first, *_] = profile.diagnose(rules=["non-finite"]).findings
    assert first.evidence["producer"] == "1"
    assert "from" not in first.message.split("made")[0]


@pytest.mark.parametrize("per_call", [False, True])
def test_an_event_a_pass(per_call: bool) -> None:
    """Of each pass the first layer alone; of later passes those rows that are new."""
    seen: list[tuple[fmstats.NonFiniteEvent, int]] = []
    model = net(Spoil((5,), (3,), -math.inf), Spoil((3, 5), (1, 2)))
    call = "#0" if per_call else ""

    def note(event: fmstats.NonFiniteEvent) -> None:
        seen.append((event, model[2].ran))

    run(model, 6, on_nonfinite=note, per_call=per_call)
    assert [(event.layer, event.forward_pass, ran) for event, ran in seen] == [
        (f"2{call}", 3, 3),
        (f"1{call}", 5, 4),  # at once: the next layer had not run
    ]
    first, second = (event for event, _ in seen)
    assert (first.operation, first.step, first.channels) == ("Spoil", 102, (1, 2))
    assert (first.nan, first.pos_inf, first.neg_inf) == (2, 0, 0)
    assert (second.channels, second.neg_inf) == ((3,), 1)
    assert str(second) == (
        f"layer '1{call}' (Spoil) has its first elements that are not finite: 0 NaN, 0 +inf and "
        "1 -inf in 1 channel (3), in step 104, in forward pass 5"
    )


def test_raise_is_within_the_pass() -> None:
    model, after = net(Spoil((2,), (0,))), []
    model[2].register_forward_hook(lambda *_: after.append(1))
    with pytest.raises(fmstats.NonFiniteError, match="layer '1'") as caught:
        run(model, 5, on_nonfinite="raise")
    assert caught.value.event.forward_pass == 2
    assert len(after) == 1
    assert not model[1]._forward_hooks


def test_warn_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(net(Spoil((2, 3, 4), (0,))), 5, on_nonfinite="warn")
    assert len(caught) == 1
    assert "layer '1' (Spoil)" in str(caught[0].message)


def test_functional_operations_and_gradients() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.linear(x) / x.abs().clamp(max=0))

    seen: list[fmstats.NonFiniteEvent] = []
    run(Net(), 1, on_nonfinite=seen.append)
    assert [(e.layer, e.operation) for e in seen] == [("(model)/relu", "relu")]
    seen.clear()
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with fmstats.track(model, of="grad_output", on_nonfinite=seen.append):
        (model(torch.ones(1, 2)).sum() * math.inf).backward()
    assert [e.layer for e in seen] == ["1"]


def test_a_compiled_model_tells_too() -> None:
    seen: list[fmstats.NonFiniteEvent] = []
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad(), fmstats.track(model, on_nonfinite=seen.append):
        compiled(torch.ones(1, 2))
        model[0].bias[1] = NAN
        compiled(torch.ones(1, 2))
    assert [(e.layer, e.forward_pass, e.channels) for e in seen] == [("0", 2, (1,))]


def test_what_another_tracker_told_is_not_told_again() -> None:
    before = run(net(Spoil((1,), (0,))), 1).stats()
    seen: list[fmstats.NonFiniteEvent] = []
    model = net(Spoil((2,), (0,)), Spoil((2,), (1,)))
    want = run(net(Spoil((1,), (0,)), Spoil((9,), (1,))), 1).stats()
    with torch.no_grad(), fmstats.track(model, on_nonfinite=seen.append) as tracker:
        tracker.restore(want)
        for _ in range(2):
            model(torch.randn(3, 4))
    assert before["1"].first_pass.max() == 1
    assert seen == []  # rows 1, 2 and 3 had some before


@pytest.mark.parametrize("asked", ["stop", None, 3])
def test_other_wishes_are_refused(asked: object) -> None:
    with pytest.raises(fmstats.FmstatsError, match=r"on_nonfinite=.*choose 'ignore', 'warn'"):
        fmstats.track(nn.ReLU(), on_nonfinite=asked)  # type: ignore[arg-type]


class Stream:
    """A stream of a device on which nothing has run yet, until `finish`."""

    def __init__(self) -> None:
        self.capturing, self.done = False, 0
        self.recorded: list[int] = []

    def finish(self) -> None:
        self.done = len(self.recorded)

    def is_available(self) -> bool:
        return False

    def current_stream(self, device: torch.device) -> Stream:
        return self

    def is_current_stream_capturing(self) -> bool:
        return self.capturing

    def Event(self) -> Any:  # noqa: N802  # as torch.cuda has it
        stream = self

        class Event:
            def record(self, on: Stream) -> None:
                stream.recorded.append(1)
                self.number = len(stream.recorded)

            def query(self) -> bool:
                assert not stream.capturing
                return stream.done >= self.number

        return Event()


def test_the_flag_of_a_device_never_waits() -> None:
    clock, stream = Clock(), Stream()
    flag = Flag(clock, stream)
    assert not flag.is_up()
    flag.ask()
    assert not flag.is_up()  # still on its way
    flag.ask()
    assert len(stream.recorded) == 1
    stream.finish()
    assert not flag.is_up()  # came, and was not set
    clock.set("alarm", 1)
    assert not flag.is_up()  # nobody asked
    flag.ask()
    stream.capturing = True
    stream.finish()
    assert not flag.is_up()
    flag.ask()
    stream.capturing = False
    assert flag.is_up()
    assert not flag.is_up()  # once
    flag.take_down()
    assert clock.word("alarm") == 0
